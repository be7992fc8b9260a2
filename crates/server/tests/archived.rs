//! Blobs in the archive tier: what is kept of them, where they are listed, and how blobs are restored to that tier and out of it.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_emulator::{SeedBlob, SeedKind};
use common::world::{World, restore_as};
use serde_json::{Value, json};

impl World {
    async fn newest_job(&self) -> Value {
        let jobs = self.service.get(&format!("{}/backupJobs", self.vault)).await.expect(200);
        let id = jobs.body["value"][0]["id"].as_str().unwrap().to_owned();
        self.service.get(&id).await.expect(200).body["properties"].clone()
    }

    /// A backup on demand; the job that it was.
    async fn back_up(&self) -> Value {
        self.clock.advance_seconds(1);
        let body = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
        self.service.call("POST", &format!("{}/backup", self.instance), Some(body)).await.expect(202);
        self.tick().await;
        self.newest_job().await
    }

    /// A restore of a point as new containers of the same account; the job that it was.
    async fn restore(&self, point: &Value, to: &str, own: Value) -> Value {
        self.clock.advance_seconds(1);
        let account = self.service.get(&self.instance).await.body["properties"]["dataSourceInfo"]["resourceID"].clone();
        let mut body = restore_as(&account, &point["name"], to);
        body["blobkeep"] = own;
        let validation = json!({ "restoreRequestObject": body });
        self.service.call("POST", &format!("{}/validateRestore", self.instance), Some(validation)).await.expect(202);
        self.service.call("POST", &format!("{}/restore", self.instance), Some(body)).await.expect(202);
        self.tick().await;
        self.newest_job().await
    }

    fn tier(&self, container: &str, name: &str) -> Option<String> {
        self.emulator.get_blob("source", container, name).unwrap().blob.tier
    }

    async fn browse(&self, point: &Value) -> Value {
        let point = format!("{}/recoveryPoints/{}", self.instance, point["name"].as_str().unwrap());
        let body = json!({ "container": "photos" });
        let path = format!("{point}/providers/Blobkeep.DataProtection/browse");
        self.service.call("POST", &path, Some(body)).await.expect(200).body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_archived_after_its_backup_stays_in_later_points_and_comes_back_archived_or_as_is_asked() {
    let world = World::configured(|_| {}, json!({})).await;
    assert_eq!(world.back_up().await["status"], "Completed");
    assert!(world.emulator.set_tier("source", "photos", "one", "Archive"));
    assert_eq!(world.back_up().await["status"], "Completed", "it need not be read again");
    let point = world.points().await.remove(0);
    assert_eq!(point["properties"]["recoveryPointState"], "Completed");
    let listed = world.browse(&point).await;
    assert!(listed.to_string().contains(r#""tier":"Archive""#), "{listed}");
    assert_eq!(listed["skipped"], json!([]), "{listed}");

    for (container, own, expected) in [
        ("as-it-was", json!(null), "Archive"),
        ("readable", json!({ "accessTier": "Hot" }), "Hot"),
        ("cheap", json!({ "accessTier": "Cold" }), "Cold"),
    ] {
        assert_eq!(world.restore(&point, container, own).await["status"], "Completed", "{container}");
        assert_eq!(world.tier(container, "one").as_deref(), Some(expected), "{container}");
        let restored = world.emulator.get_blob("source", container, "one").unwrap();
        assert_eq!(restored.blob.content, "first", "{container}");
    }
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_restored_to_the_archive_tier_on_request() {
    let world = World::configured(|_| {}, json!({})).await;
    let large: Vec<u8> =
        (0..9 << 20).map(|position: u32| position.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let cool = SeedBlob { tier: Some("Cool".to_owned()), ..SeedBlob::new("cool") };
    world.emulator.put_blob("source", "photos", "cool", cool).unwrap();
    world.emulator.put_blob("source", "photos", "large", SeedBlob::new(large.clone())).unwrap();
    let log = SeedBlob { kind: SeedKind::Append, ..SeedBlob::new("log") };
    world.emulator.put_blob("source", "photos", "log", log).unwrap();
    assert_eq!(world.back_up().await["status"], "Completed");
    let point = world.points().await.remove(0);
    let job = world.restore(&point, "restored", json!({ "accessTier": "Archive" })).await;
    assert_eq!(job["status"], "Completed", "{job}");
    for name in ["one", "cool", "large"] {
        assert_eq!(world.tier("restored", name).as_deref(), Some("Archive"), "{name}");
    }
    assert_eq!(world.tier("restored", "log"), None, "only block blobs have a tier");
    assert_eq!(world.emulator.get_blob("source", "restored", "large").unwrap().blob.content, large);
    assert_eq!(world.tier("photos", "cool").as_deref(), Some("Cool"), "what is there stays as it is");
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_archived_before_its_first_backup_is_listed_as_left_out() {
    let world = World::configured(|_| {}, json!({})).await;
    let archived = SeedBlob { tier: Some("Archive".to_owned()), ..SeedBlob::new("cold") };
    world.emulator.put_blob("source", "photos", "cold", archived).unwrap();
    let job = world.back_up().await;
    assert_eq!(job["status"], "CompletedWithWarnings", "{job}");
    assert!(job.to_string().contains("photos/cold") && job.to_string().contains("archive tier"), "{job}");
    let point = world.points().await.remove(0);
    assert_eq!(point["properties"]["recoveryPointState"], "Partial");
    let listed = world.browse(&point).await;
    assert_eq!((&listed["skipped"][0]["name"], &listed["skippedInAll"]), (&json!("cold"), &json!(1)), "{listed}");
    assert!(listed["skipped"][0].to_string().contains("archive tier"), "{listed}");

    // Once it can be read it is backed up.
    assert!(world.emulator.set_tier("source", "photos", "cold", "Cool"));
    assert_eq!(world.back_up().await["status"], "Completed");
    let point = world.points().await.remove(0);
    assert_eq!(world.restore(&point, "restored", json!({})).await["status"], "Completed");
    assert_eq!(world.tier("restored", "cold").as_deref(), Some("Cool"));
    world.service.running.shutdown().await;
}
