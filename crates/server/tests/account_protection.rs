//! What protecting an account by the operational tier does to the account: its settings, the lock, and how they are taken back.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_server::Config;
use common::world::{DAY, World, operational, vaulted};
use common::{Got, Service};
use serde_json::{Value, json};

const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const STORAGE_ACCOUNT_CONTRIBUTOR: &str = "17d1049b-9a84-46fb-8f53-869881c3d3ab";
const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";

impl World {
    fn blob_service(&self) -> String {
        format!("{}/blobServices/default", self.account())
    }

    async fn settings(&self) -> Value {
        self.service.get(&self.blob_service()).await.expect(200).body["properties"].clone()
    }

    async fn set(&self, properties: Value) -> Got {
        self.service.put(&self.blob_service(), json!({ "properties": properties })).await
    }

    fn lock(&self) -> String {
        format!("{}/providers/Microsoft.Authorization/locks/AzureBackupProtectionLock", self.account())
    }

    fn undo(&self) -> String {
        format!("{}/providers/Blobkeep.DataProtection/undoProtection", self.account())
    }

    async fn take_back(&self) -> Got {
        self.service.call("POST", &self.undo(), None).await
    }

    async fn end_protection(&self) {
        self.service.call("DELETE", &self.instance, None).await.expect(202);
        self.tick().await;
        self.service.get(&self.instance).await.refused(404, "ResourceNotFound");
    }

    /// The policy of the instance becomes another one, and what follows from that is done.
    async fn change_policy(&self, policy: Value) {
        self.service.put(&format!("{}/backupPolicies/daily", self.vault), policy).await.expect(200);
        self.tick().await;
        self.look().await;
    }
}

async fn protected(retention: &str) -> World {
    World::configured_by(|_| {}, |_| operational(retention)).await
}

fn on(days: u32) -> Value {
    json!({ "enabled": true, "days": days })
}

fn off() -> Value {
    json!({ "enabled": false })
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_turns_on_what_it_stands_on_and_locks_the_account() {
    let world = protected("P30D").await;
    let settings = world.settings().await;
    assert_eq!(settings["restorePolicy"], on(30));
    assert_eq!(
        settings["deleteRetentionPolicy"],
        json!({ "allowPermanentDelete": false, "enabled": true, "days": 35 })
    );
    assert_eq!((&settings["isVersioningEnabled"], &settings["changeFeed"]), (&json!(true), &json!({"enabled": true})));
    assert_eq!(settings["containerDeleteRetentionPolicy"], off(), "Azure only recommends it");
    assert_eq!(settings["blobkeep"], json!({ "keepsVersions": false }), "what the look saw");

    let lock = world.service.get(&world.lock()).await.expect(200).body;
    assert_eq!(
        (&lock["name"], &lock["properties"]["level"]),
        (&json!("AzureBackupProtectionLock"), &json!("CanNotDelete"))
    );
    let locks = format!("{}/providers/Microsoft.Authorization/locks", world.account());
    assert_eq!(world.service.get(&locks).await.expect(200).body["value"], json!([lock]));
    world.service.call("DELETE", &world.account(), None).await.refused(409, "ScopeLocked");
    let group = world.vault.split("/providers/").next().unwrap();
    world.service.call("DELETE", group, None).await.refused(409, "ScopeLocked");
    let tags = json!({ "tags": { "a": "b" } });
    world.service.call("PATCH", &world.account(), Some(tags)).await.expect(200);

    // Neither the next look nor another policy is in the way of the lock.
    world.change_policy(operational("P60D")).await;
    assert_eq!(world.settings().await["restorePolicy"], on(60));
    assert_eq!(world.protection_state().await, "ProtectionConfigured");
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_vault_alone_changes_nothing_in_the_account() {
    let world = World::configured(|_| {}, json!({})).await;
    let settings = world.settings().await;
    assert_eq!((&settings["restorePolicy"], &settings["isVersioningEnabled"]), (&off(), &json!(false)));
    assert_eq!(settings.get("blobkeep"), None, "nobody has looked");
    world.service.get(&world.lock()).await.refused(404, "ResourceNotFound");
    assert_eq!(world.take_back().await.expect(200).body["properties"], settings);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_longer_is_not_touched_and_the_undo_leaves_what_was_there_before() {
    let world = World::configured_by(|_| {}, vaulted).await;
    let longer = json!({
        "deleteRetentionPolicy": on(90), "restorePolicy": on(20), "isVersioningEnabled": true,
        "changeFeed": { "enabled": true, "retentionInDays": 400 },
    });
    world.set(longer).await.expect(200);
    let before = world.settings().await;
    world.change_policy(operational("P30D")).await;
    let during = world.settings().await;
    assert_eq!((&during["restorePolicy"], &during["deleteRetentionPolicy"]["days"]), (&on(30), &json!(90)));
    assert_eq!(during["changeFeed"], before["changeFeed"]);

    let refused = world.take_back().await.refused(409, "Conflict");
    assert!(refused.text.contains("backupInstances/source"), "{}", refused.text);
    world.end_protection().await;
    assert_eq!(world.settings().await, during, "ending protection leaves everything, as in Azure");
    world.service.get(&world.lock()).await.expect(200);
    let mut after = world.take_back().await.expect(200).body["properties"].clone();
    after.as_object_mut().unwrap().remove("blobkeep");
    assert_eq!(after, before);
    world.service.get(&world.lock()).await.refused(404, "ResourceNotFound");
    world.take_back().await.expect(200);
    assert_eq!(world.settings().await["restorePolicy"], on(20), "nothing is left to undo");
    world.service.call("DELETE", &world.account(), None).await.expect(200);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_set_since_stays() {
    let world = protected("P7D").await;
    world.set(json!({ "deleteRetentionPolicy": on(50) })).await.expect(200);
    let lock = json!({ "properties": { "level": "ReadOnly", "notes": "mine" } });
    world.service.put(&world.lock(), lock).await.expect(200);
    world.service.call("DELETE", &world.lock(), None).await.expect(200);
    let lock = json!({ "properties": { "level": "CanNotDelete", "notes": "mine" } });
    world.service.put(&world.lock(), lock).await.expect(201);
    world.end_protection().await;
    world.service.call("DELETE", &world.lock(), None).await.expect(200);
    let after = world.take_back().await.expect(200).body["properties"].clone();
    assert_eq!((&after["restorePolicy"], &after["deleteRetentionPolicy"]["days"]), (&off(), &json!(50)));
    assert_eq!((&after["isVersioningEnabled"], &after["changeFeed"]), (&json!(false), &off()));
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_its_owner_removed_is_not_made_again_by_a_look() {
    let mut world = protected("P7D").await;
    world.service.call("DELETE", &world.lock(), None).await.expect(200);
    world.pass(120).await;
    world.look().await;
    world.service.get(&world.lock()).await.refused(404, "ResourceNotFound");
    world.service.running.shutdown().await;
}

#[tokio::test]
async fn settings_are_changed_by_who_may_and_refused_by_name_where_they_do_not_go_together() {
    let service = Service::start().await;
    let group = service.group("settings").await;
    let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/plain");
    service.put(&account, json!({ "location": "westus" })).await.expect(200);
    let path = format!("{account}/blobServices/default");
    let wanted = json!({ "properties": { "isVersioningEnabled": true, "changeFeed": { "enabled": true } } });
    service.call_as("", "PUT", &path, Some(wanted.clone())).await.refused(401, "AuthenticationFailed");
    let (reader, reader_token) = service.principal("reader").await;
    let (manager, manager_token) = service.principal("manager").await;
    service.assign(&reader, READER, &account).await;
    service.assign(&manager, STORAGE_ACCOUNT_CONTRIBUTOR, &account).await;
    let refused = service.call_as(&reader_token, "PUT", &path, Some(wanted.clone())).await;
    refused.refused(403, "AuthorizationFailed");
    assert_eq!(service.get(&path).await.body["properties"]["isVersioningEnabled"], false);
    let set = service.call_as(&manager_token, "PUT", &path, Some(wanted)).await.expect(200);
    assert_eq!(set.body, service.get(&path).await.expect(200).body);
    assert_eq!(set.body["properties"]["isVersioningEnabled"], true);

    let too_long = json!({ "properties": { "restorePolicy": on(30), "deleteRetentionPolicy": on(30) } });
    let refused = service.put(&path, too_long).await.refused(400, "InvalidValuesForRequestParameters");
    assert_eq!(
        refused.body["error"]["message"],
        "Values for properties.restorePolicy.days is invalid: 30. It should be greater than zero and less than \
         properties.deleteRetentionPolicy.days."
    );
    service.put(&path, json!({ "properties": { "restorePolicy": "yes" } })).await.refused(400, "InvalidRequestContent");
    assert_eq!(service.get(&path).await.body, set.body, "nothing has changed");
    let none = path.replace("/plain/", "/missing/");
    service.put(&none, json!({ "properties": {} })).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn undoing_needs_the_right_to_the_settings_and_to_remove_locks() {
    let service = Service::start().await;
    let group = service.group("undo").await;
    let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/plain");
    service.put(&account, json!({ "location": "westus" })).await.expect(200);
    let path = format!("{account}/providers/Blobkeep.DataProtection/undoProtection");
    service.call_as("", "POST", &path, None).await.refused(401, "AuthenticationFailed");
    for role in [READER, STORAGE_ACCOUNT_CONTRIBUTOR, CONTRIBUTOR, USER_ACCESS_ADMINISTRATOR] {
        let (object, token) = service.principal(role).await;
        service.assign(&object, role, &account).await;
        service.call_as(&token, "POST", &path, None).await.refused(403, "AuthorizationFailed");
    }
    service.call("POST", &path, None).await.expect(200);
}

fn allows_stop(config: &mut Config) {
    config.operational.allow_stop = true;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_this_tier_alone_is_stopped_only_where_the_configuration_allows_it() {
    let world = protected("P7D").await;
    for action in ["stopProtection", "suspendBackups"] {
        let refused = world.service.call("POST", &format!("{}/{action}", world.instance), None).await;
        refused.refused(400, "UserErrorStopProtectionNotSupportedForBlobOperationalBackup");
    }
    world.service.running.shutdown().await;

    let mut world = World::configured_by(allows_stop, |_| operational("P7D")).await;
    world.pass(60).await;
    world.look().await;
    let ranges = world.ranges().await;
    assert_eq!(ranges.len(), 1);
    world.service.call("POST", &format!("{}/stopProtection", world.instance), None).await.expect(202);
    world.tick().await;
    assert_eq!(world.protection_state().await, "ProtectionStopped");
    world.pass(40 * DAY).await;
    world.tick().await;
    world.look().await;
    assert_eq!(world.ranges().await, ranges, "nobody looks, and nothing goes");

    world.service.call("POST", &format!("{}/resumeProtection", world.instance), None).await.expect(202);
    world.tick().await;
    assert_eq!(world.protection_state().await, "ProtectionConfigured");
    let resumed = world.ranges().await;
    assert_eq!(resumed.len(), 1, "of the time before, the retention is over: {resumed:?}");
    assert!(resumed[0].0 > ranges[0].1, "{resumed:?}");
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_instance_keeps_its_newest_state_and_what_comes_after_a_break_is_another_range() {
    let mut world = World::configured_by(allows_stop, |_| operational("P7D")).await;
    world.service.call("POST", &format!("{}/suspendBackups", world.instance), None).await.expect(202);
    let before = world.ranges().await;
    world.pass(DAY).await;
    world.service.call("POST", &format!("{}/resumeBackups", world.instance), None).await.expect(202);
    world.look().await;
    let after = world.ranges().await;
    assert_eq!((after.len(), after[0]), (2, before[0]), "{after:?}");
    assert!(after[1].0 > after[0].1, "{after:?}");

    world.service.call("POST", &format!("{}/suspendBackups", world.instance), None).await.expect(202);
    world.pass(30 * DAY).await;
    world.tick().await;
    let kept = world.ranges().await;
    assert_eq!(kept, [(after[1].1, after[1].1)], "the state of the last look");
    world.service.running.shutdown().await;
}
