//! What time does to a protected account: scheduled backups are made, and points go when their time is over. The clock is set by hand, the
//! service and the blobs are real.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use blobkeep_emulator::{Account, Emulator, EmulatorOptions, SeedBlob};
use blobkeep_server::Parts;
use blobkeep_server::clock::{Clock, ManualClock, SystemClock};
use common::{Service, config};
use serde_json::{Value, json};

const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

struct World {
    service: Service,
    clock: Arc<ManualClock>,
    emulator: Emulator,
    vault: String,
    instance: String,
    _dir: tempfile::TempDir,
}

fn instant(micros: i64) -> String {
    blobkeep_arm::time::format_instant(micros)
}

impl World {
    /// An account under a policy: backed up every day an hour from now, kept for a week.
    async fn protected() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The certificate is checked against the machine's clock, so the story begins now.
        let clock = Arc::new(ManualClock::at(SystemClock.now_micros()));
        let parts = Parts { clock: Some(clock.clone()), ..Parts::default() };
        let service = Service::start_at(config(&dir.path().join("data")), parts).await;
        let options =
            EmulatorOptions { accounts: vec![Account::with_derived_key("source")], ..EmulatorOptions::default() };
        let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        emulator.create_container("source", "photos").unwrap();
        emulator.put_blob("source", "photos", "one", SeedBlob::new("first")).unwrap();

        let group = service.group("time").await;
        let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/source");
        let connection = json!({ "kind": "AzureBlob", "connectionString": emulator.connection_string("source") });
        let path = format!("{account}?api-version=2023-05-01");
        let body = json!({ "location": "westus", "properties": { "connection": connection } }).to_string();
        let got = service.raw(&service.token, "PUT", &path, Some(&body)).await;
        assert!(got.status < 300, "{}", got.text);
        let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/vault");
        let body = json!({ "location": "westus", "identity": { "type": "SystemAssigned" }, "properties": {} });
        let got = service.put(&vault, body).await;
        let principal = got.body["identity"]["principalId"].as_str().unwrap().to_owned();
        service.assign(&principal, STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR, &account).await;
        let policy = format!("{vault}/backupPolicies/daily");
        service.put(&policy, policy_body(clock.now_micros() + HOUR * 1_000_000)).await.expect(200);
        let instance = format!("{vault}/backupInstances/source");
        let body = json!({ "properties": {
            "objectType": "BackupInstance",
            "dataSourceInfo": {
                "objectType": "Datasource",
                "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
                "resourceID": account,
                "resourceLocation": "westus",
            },
            "policyInfo": { "policyId": policy },
        }});
        service.put(&instance, body).await.expect(201);
        let mut world = Self { service, clock, emulator, vault, instance, _dir: dir };
        world
            .until("the account is protected", |world| {
                Box::pin(async move {
                    let got = world.service.get(&world.instance).await;
                    got.body["properties"]["currentProtectionState"] == "ProtectionConfigured"
                })
            })
            .await;
        world
    }

    /// Lets time pass; tokens of before are no good then.
    async fn pass(&mut self, seconds: i64) {
        self.clock.advance_seconds(seconds);
        let env = &self.service.env;
        self.service.token = self.service.token_of(&env.client_id, &env.client_secret).await;
    }

    /// The points, newest first.
    async fn points(&self) -> Vec<Value> {
        let got = self.service.get(&format!("{}/recoveryPoints", self.instance)).await.expect(200);
        got.body["value"].as_array().unwrap().clone()
    }

    /// Waits, by the machine's clock, until something holds.
    async fn until(
        &mut self,
        what: &str,
        holds: impl for<'a> Fn(&'a World) -> std::pin::Pin<Box<dyn Future<Output = bool> + 'a>>,
    ) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self).await {
            assert!(Instant::now() < deadline, "a minute went by before {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_points(&mut self, count: usize) {
        self.until(&format!("there were {count} points"), |world| {
            Box::pin(async move { world.points().await.len() == count })
        })
        .await;
    }
}

fn policy_body(first: i64) -> Value {
    let store = json!({ "dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase" });
    json!({ "properties": {
        "objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
        "policyRules": [
            {
                "objectType": "AzureRetentionRule",
                "name": "Default",
                "isDefault": true,
                "lifecycles": [{
                    "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": "P7D" },
                    "sourceDataStore": store,
                }],
            },
            {
                "objectType": "AzureBackupRule",
                "name": "BackupDaily",
                "backupParameters": { "objectType": "AzureBackupParams", "backupType": "Discrete" },
                "dataStore": store,
                "trigger": {
                    "objectType": "ScheduleBasedTriggerContext",
                    "schedule": { "repeatingTimeIntervals": [format!("R/{}/P1D", instant(first))], "timeZone": "UTC" },
                    "taggingCriteria": [
                        { "isDefault": true, "taggingPriority": 99, "tagInfo": { "id": "Default_", "tagName": "Default" } },
                    ],
                },
            },
        ],
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_as_the_schedule_says_and_points_go_when_their_time_is_over() {
    let mut world = World::protected().await;
    assert_eq!(world.points().await.len(), 0, "nothing is due yet");

    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let jobs = world.service.get(&format!("{}/backupJobs", world.vault)).await.expect(200);
    assert_eq!(jobs.body["value"][0]["properties"]["isUserTriggered"], false);
    let first = world.points().await.remove(0);
    let expiry = first["properties"]["recoveryPointDataStoresDetails"][0]["expiryTime"].as_str().unwrap().to_owned();
    let created =
        blobkeep_arm::time::parse_instant(first["properties"]["recoveryPointTime"].as_str().unwrap()).unwrap();
    assert_eq!(blobkeep_arm::time::parse_instant(&expiry).unwrap() / 1_000_000, (created / 1_000_000) + 7 * DAY);

    // A week in which nobody looked is made up for by one backup; then the first point's time is over.
    world.emulator.put_blob("source", "photos", "two", SeedBlob::new("second")).unwrap();
    world.pass(DAY).await;
    world.until_points(2).await;
    world.pass(6 * DAY + HOUR).await;
    let name = first["name"].clone();
    world
        .until("the first point is gone", |world| {
            let name = name.clone();
            Box::pin(async move {
                let points = world.points().await;
                points.len() == 2 && points.iter().all(|point| point["name"] != name)
            })
        })
        .await;
    let got = world.service.get(&format!("{}/recoveryPoints/{}", world.instance, name.as_str().unwrap())).await;
    assert_eq!(got.status, 404);
    world.service.running.shutdown().await;
}
