//! A deleted vault with real blobs in it: it comes back with its points, or its files go when its time is over.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_emulator::SeedBlob;
use common::world::{DAY, HOUR, World, restore_as};
use common::{Got, read};
use serde_json::{Value, json};

const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";

impl World {
    /// Deletes the instance and waits until that is done.
    async fn delete_instance(&mut self) {
        self.service.call("DELETE", &self.instance, None).await.expect(202);
        self.until("the instance was deleted", |world| {
            Box::pin(async move { world.service.get(&world.instance).await.status == 404 })
        })
        .await;
    }

    /// Deletes the vault; jobs that are just ending keep it for a moment.
    async fn delete_vault(&mut self) {
        self.until("no job was at work in the vault", |world| {
            Box::pin(async move {
                let got = world.service.call("DELETE", &world.vault, None).await;
                assert!(got.status == 202 || got.code() == "Conflict", "{}", got.text);
                got.status == 202
            })
        })
        .await;
    }

    async fn deleted_vaults(&self) -> Vec<Value> {
        let subscription = self.service.subscription();
        let path = format!("{subscription}/providers/Microsoft.DataProtection/locations/westus/deletedVaults");
        self.service.get(&path).await.expect(200).body["value"].as_array().unwrap().clone()
    }

    async fn undelete_vault(&self, name: &str) -> Got {
        let body = json!({ "location": "westus", "identity": { "type": "SystemAssigned" } }).to_string();
        let url = format!("{}{}?api-version=2025-09-01", self.service.env.endpoint, self.vault);
        let request = self.service.client.put(url).bearer_auth(&self.service.token);
        let request = request.header("x-ms-deleted-vault-id", name).header("content-type", "application/json");
        read(request.body(body).send().await.unwrap()).await
    }

    /// How many vaults there are in the store.
    fn stored_vaults(&self) -> usize {
        let folder = self.service.running.app().config.data_dir.join("vaults");
        std::fs::read_dir(folder).unwrap().count()
    }

    async fn until_no_vault_is_stored(&mut self) {
        self.until("the vault's files were gone", |world| Box::pin(async move { world.stored_vaults() == 0 })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_comes_back_has_its_points_and_is_backed_up_again() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let point = world.points().await.remove(0);
    world.delete_instance().await;
    world.delete_vault().await;
    let deleted = world.deleted_vaults().await.remove(0);

    let got = world.undelete_vault(deleted["name"].as_str().unwrap()).await.expect(201);
    let principal = got.body["identity"]["principalId"].as_str().unwrap().to_owned();
    let account =
        world.vault.replace("Microsoft.DataProtection/backupVaults/vault", "Microsoft.Storage/storageAccounts/source");
    world.service.assign(&principal, STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR, &account).await;
    let undelete = format!("{}/deletedBackupInstances/source/undelete", world.vault);
    world.service.call("POST", &undelete, None).await.expect(200);
    assert_eq!(world.points().await, std::slice::from_ref(&point), "the point is there again");
    world.service.call("POST", &format!("{}/resumeProtection", world.instance), None).await.expect(202);
    world
        .until("the account was protected again", |world| {
            Box::pin(async move { world.protection_state().await == "ProtectionConfigured" })
        })
        .await;
    world.pass(DAY).await;
    world.until_points(2).await;
    assert_eq!(world.stored_vaults(), 1, "it is the same vault");

    world.emulator.put_blob("source", "photos", "one", SeedBlob::new("second")).unwrap();
    let body = restore_as(&json!(account), &point["name"], "restored");
    world.service.call("POST", &format!("{}/restore", world.instance), Some(body)).await.expect(202);
    world
        .until("the blob was restored as it was before the deletion", |world| {
            Box::pin(async move {
                let restored = world.emulator.get_blob("source", "restored", "one");
                restored.is_some_and(|restored| restored.blob.content == "first")
            })
        })
        .await;
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_deleted_vault_go_when_its_time_is_over() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    world.delete_instance().await;
    world.delete_vault().await;
    let id = world.deleted_vaults().await.remove(0)["id"].as_str().unwrap().to_owned();
    world.pass(13 * DAY).await;
    world.service.get(&id).await.expect(200);
    assert_eq!(world.stored_vaults(), 1);

    // The instance first, and ten minutes later the vault.
    world.pass(DAY + 11 * 60).await;
    world.until_no_vault_is_stored().await;
    world.service.get(&id).await.refused(404, "ResourceNotFound");
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_vault_that_is_not_kept_go_at_once() {
    let off = json!({ "securitySettings": { "softDeleteSettings": { "state": "Off" } } });
    let mut world = World::of(off, |_| common::world::operational("P1D")).await;
    assert_eq!(world.stored_vaults(), 1);
    world.delete_instance().await;
    world.delete_vault().await;
    assert!(world.deleted_vaults().await.is_empty());
    world.until_no_vault_is_stored().await;
    world.service.running.shutdown().await;
}
