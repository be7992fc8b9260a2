//! What a user sets on a vault stands in the vault's own records, where the engine keeps it without asking the service or its database.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_emulator::SeedBlob;
use blobkeep_server::clock::Clock;
use blobkeep_vault::Timestamp;
use blobkeep_vault::state::{self, Chain, Immutability, LivePoint};
use common::world::{DAY, HOUR, World, operational};
use serde_json::{Value, json};

/// A minute and a bit: the time between two looks of the operational tier.
const LOOK: i64 = 61;

fn settings(immutability: &str) -> Value {
    json!({ "securitySettings": { "immutabilitySettings": { "state": immutability } } })
}

impl World {
    async fn set_immutability(&self, state: &str) -> common::Got {
        self.service.call("PATCH", &self.vault, Some(json!({ "properties": settings(state) }))).await
    }

    /// What the vault's own records say.
    async fn recorded(&self) -> Immutability {
        let engine = self.engine().await;
        Chain::vault(&engine).load().await.unwrap().immutability
    }

    async fn until_recorded(&mut self, immutability: Immutability) {
        self.until(&format!("the vault's records said {immutability:?}"), |world| {
            Box::pin(async move { world.recorded().await == immutability })
        })
        .await;
    }

    /// The points of the only instance as the vault's own records know them, oldest first.
    async fn recorded_points(&self) -> Vec<LivePoint> {
        let engine = self.engine().await;
        let Some(instance) = Chain::instances(&engine).await.unwrap().pop() else { return Vec::new() };
        let state = Chain::instance(&engine, &instance).unwrap().load().await.unwrap();
        state.points.clone()
    }

    /// What the engine answers to whoever removes a point of the only instance.
    async fn remove(&self, point: &str) -> Result<(), blobkeep_vault::Error> {
        let engine = self.engine().await;
        let instance = Chain::instances(&engine).await.unwrap().pop().unwrap();
        state::remove_point(&engine, &instance, point, Timestamp(self.clock.now_micros())).await
    }

    /// The deleted instances.
    async fn deleted(&self) -> Vec<Value> {
        let got = self.service.get(&format!("{}/deletedBackupInstances", self.vault)).await.expect(200);
        got.body["value"].as_array().unwrap().clone()
    }

    /// A change, and the look that finds it.
    async fn change_and_look(&mut self, content: &str, points: usize) {
        self.emulator.put_blob("source", "photos", "one", SeedBlob::new(content.to_owned())).unwrap();
        self.pass(LOOK).await;
        self.until(&format!("the vault had {points} points"), |world| {
            Box::pin(async move { world.recorded_points().await.len() == points })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_is_locked_in_the_vaults_own_records_and_the_engine_keeps_it() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    assert_eq!(world.recorded().await, Immutability::Disabled);

    world.set_immutability("Unlocked").await.expect(200);
    world.until_recorded(Immutability::Unlocked).await;
    world.set_immutability("Disabled").await.expect(200);
    world.until_recorded(Immutability::Disabled).await;
    let body = json!({ "location": "westus", "properties": settings("Locked") });
    world.service.put(&world.vault, body).await.expect(201);
    world.until_recorded(Immutability::Locked).await;

    let point = world.recorded_points().await.remove(0).job;
    let refused = world.remove(&point).await.unwrap_err().to_string();
    assert!(refused.contains("immutable"), "{refused}");
    world.set_immutability("Disabled").await.refused(400, "UserErrorUnsupportedVaultImmutabilityStateChange");
    assert_eq!(world.recorded().await, Immutability::Locked);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_made_immutable_is_so_before_its_first_point() {
    let world = World::of(settings("Locked"), |_| operational("P1D")).await;
    assert_eq!(world.recorded().await, Immutability::Locked);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operational_tier_goes_on_in_an_immutable_vault() {
    let mut world = World::of(settings("Unlocked"), |_| operational("P1D")).await;
    world.change_and_look("second", 2).await;
    world.change_and_look("third", 3).await;
    world.pass(LOOK).await;
    world
        .until("the states that were replaced stayed for a day from then on", |world| {
            Box::pin(async move {
                let points = world.recorded_points().await;
                points.windows(2).all(|pair| {
                    let replaced_at = pair[1].completed_at.0;
                    pair[0].expires_at == Some(Timestamp(replaced_at + DAY * 1_000_000))
                })
            })
        })
        .await;
    assert_eq!(world.protection_state().await, "ProtectionConfigured");

    // The newest state stays, however long ago it came about.
    let newest = world.recorded_points().await.pop().unwrap().job;
    world.pass(3 * DAY).await;
    world
        .until("the replaced states were gone", |world| {
            Box::pin(async move { world.recorded_points().await.len() == 1 })
        })
        .await;
    let kept = world.recorded_points().await.remove(0);
    assert_eq!(kept.job, newest);
    assert!(kept.expires_at.unwrap().0 > world.clock.now_micros(), "its end is put off");
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_instance_stays_for_as_long_as_the_vault_keeps_its_points() {
    for soft_delete in ["Off", "On"] {
        let mut properties = settings("Unlocked");
        properties["securitySettings"]["softDeleteSettings"] = json!({ "state": soft_delete });
        let mut world = World::of(properties, |_| operational("P20D")).await;
        let expiry = world.recorded_points().await.remove(0).expires_at.unwrap().0;
        world.service.call("DELETE", &world.instance, None).await.expect(202);
        world
            .until("the instance was among the deleted ones", |world| {
                Box::pin(async move { world.deleted().await.len() == 1 })
            })
            .await;
        world.pass(15 * DAY).await;
        world
            .until("its end was that of its point", |world| {
                Box::pin(async move {
                    let deleted = world.deleted().await.remove(0);
                    let end = deleted["properties"]["deletionInfo"]["scheduledPurgeTime"].as_str().unwrap().to_owned();
                    blobkeep_arm::time::parse_instant(&end).unwrap() / 1_000_000 == expiry / 1_000_000
                })
            })
            .await;
        assert_eq!(world.recorded_points().await.len(), 1, "soft delete {soft_delete}");

        world.pass(6 * DAY).await;
        world.until("it was gone", |world| Box::pin(async move { world.deleted().await.is_empty() })).await;
        assert!(world.recorded_points().await.is_empty(), "soft delete {soft_delete}");
        world.service.running.shutdown().await;
    }
}
