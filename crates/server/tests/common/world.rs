//! A protected account whose clock is set by hand; the service and the blobs are real.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobkeep_emulator::{Account, Emulator, EmulatorOptions, SeedBlob};
use blobkeep_server::clock::{Clock, ManualClock, SystemClock};
use blobkeep_server::{Config, Parts};
use blobkeep_vault::store::local::LocalStore;
use blobkeep_vault::{MasterKey, Vault};
use serde_json::{Value, json};

use super::{Service, config};

const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// An account with a container `photos`, and the vault that protects it.
pub struct World {
    pub service: Service,
    pub clock: Arc<ManualClock>,
    pub emulator: Emulator,
    /// Path of the vault.
    pub vault: String,
    /// Path of the instance.
    pub instance: String,
    dir: tempfile::TempDir,
}

fn instant(micros: i64) -> String {
    blobkeep_arm::time::format_instant(micros)
}

impl World {
    /// An account under a policy: backed up every day an hour from now, kept for a week.
    pub async fn protected() -> Self {
        Self::of(json!({}), vaulted).await
    }

    /// An account in a vault with these properties, under the policy that `policy` makes for a first backup at that instant.
    pub async fn of(properties: Value, policy: impl FnOnce(i64) -> Value) -> Self {
        // The certificate is checked against the machine's clock, so the story begins now.
        let mut world = Self::prepared(SystemClock.now_micros(), false, |_| {}, properties, policy).await;
        world
            .until("the account is protected", |world| {
                Box::pin(async move { world.protection_state().await == "ProtectionConfigured" })
            })
            .await;
        world
    }

    /// An account protected from that instant on, where nothing happens but by [`Self::tick`].
    pub async fn by_hand(now: i64, policy: Value) -> Self {
        let world = Self::prepared(now, true, |_| {}, json!({}), |_| policy).await;
        world.tick().await;
        assert_eq!(world.protection_state().await, "ProtectionConfigured");
        world
    }

    /// An account in a vault with these properties, of a service whose configuration `change` has seen, where nothing happens but by
    /// [`Self::tick`].
    pub async fn configured(change: impl FnOnce(&mut Config), properties: Value) -> Self {
        let world = Self::prepared(SystemClock.now_micros(), true, change, properties, vaulted).await;
        world.tick().await;
        assert_eq!(world.protection_state().await, "ProtectionConfigured");
        world
    }

    /// The same under the policy that `policy` makes for a first backup at that instant.
    pub async fn configured_by(change: impl FnOnce(&mut Config), policy: impl FnOnce(i64) -> Value) -> Self {
        let world = Self::prepared(SystemClock.now_micros(), true, change, json!({}), policy).await;
        world.tick().await;
        assert_eq!(world.protection_state().await, "ProtectionConfigured");
        world
    }

    /// Looks at the accounts whose look is due now.
    pub async fn look(&self) {
        blobkeep_server::jobs::look_around(self.service.running.app()).await.unwrap();
    }

    /// The restorable ranges of the operational tier, microseconds.
    pub async fn ranges(&self) -> Vec<(i64, i64)> {
        let body = json!({ "sourceDataStoreType": "OperationalStore" });
        let path = format!("{}/findRestorableTimeRanges", self.instance);
        let got = self.service.call("POST", &path, Some(body)).await.expect(200);
        let instant = |text: &Value| blobkeep_arm::time::parse_instant(text.as_str().unwrap()).unwrap();
        let ranges = got.body["properties"]["restorableTimeRanges"].as_array().unwrap();
        ranges.iter().map(|range| (instant(&range["startTime"]), instant(&range["endTime"]))).collect()
    }

    /// Path of the protected account.
    pub fn account(&self) -> String {
        let group = self.vault.split("/providers/").next().unwrap();
        format!("{group}/providers/Microsoft.Storage/storageAccounts/source")
    }

    /// The same world with another process of the service, whose configuration `change` has seen, and where nothing happens but by
    /// [`Self::tick`].
    pub async fn restarted(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { service, clock, emulator, vault, instance, dir } = self;
        service.running.shutdown().await;
        let mut config = config(&dir.path().join("data"));
        change(&mut config);
        let parts = Parts { clock: Some(clock.clone()), by_hand: true, ..Parts::default() };
        let service = Service::start_at(config, parts).await;
        Self { service, clock, emulator, vault, instance, dir }
    }

    /// Does everything that is due now.
    pub async fn tick(&self) {
        blobkeep_server::jobs::tick(self.service.running.app()).await.unwrap();
    }

    /// Everything is there, and the account's protection is asked for.
    async fn prepared(
        now: i64,
        by_hand: bool,
        change: impl FnOnce(&mut Config),
        properties: Value,
        policy: impl FnOnce(i64) -> Value,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let mut config = config(&dir.path().join("data"));
        change(&mut config);
        // Clients check the certificate against the machine's clock, whatever the service's says.
        let names = [config.listen.ip().to_string()];
        blobkeep_server::pki::ensure(&config.data_dir, &names, SystemClock.now_micros()).unwrap();
        let parts = Parts { clock: Some(clock.clone()), by_hand, ..Parts::default() };
        let service = Service::start_at(config, parts).await;
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
        let body = json!({ "location": "westus", "identity": { "type": "SystemAssigned" }, "properties": properties });
        let got = service.put(&vault, body).await.expect(201);
        let principal = got.body["identity"]["principalId"].as_str().unwrap().to_owned();
        service.assign(&principal, STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR, &account).await;
        let body = policy(clock.now_micros() + HOUR * 1_000_000);
        let policy = format!("{vault}/backupPolicies/daily");
        service.put(&policy, body).await.expect(200);
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
        Self { service, clock, emulator, vault, instance, dir }
    }

    /// How far the account is protected.
    pub async fn protection_state(&self) -> Value {
        self.service.get(&self.instance).await.body["properties"]["currentProtectionState"].clone()
    }

    /// The vault as the engine alone sees it: opened once more, from its files and the key.
    pub async fn engine(&self) -> Vault {
        self.engine_by(&self.service_key()).await.unwrap()
    }

    /// The same with another key.
    pub async fn engine_by(&self, key: &MasterKey) -> Result<Vault, blobkeep_vault::Error> {
        Vault::open(Arc::new(LocalStore::open(self.folder()).unwrap()), key).await
    }

    /// The service's master key.
    pub fn service_key(&self) -> MasterKey {
        MasterKey::from_file(self.service.running.app().master_key.as_slice()).unwrap()
    }

    /// Where the files of the only vault lie.
    pub fn folder(&self) -> PathBuf {
        let vaults: PathBuf = self.dir.path().join("data/vaults");
        std::fs::read_dir(vaults).unwrap().next().unwrap().unwrap().path()
    }

    /// Lets time pass; tokens of before are no good then.
    pub async fn pass(&mut self, seconds: i64) {
        self.clock.advance_seconds(seconds);
        let env = &self.service.env;
        self.service.token = self.service.token_of(&env.client_id, &env.client_secret).await;
    }

    /// The points, newest first.
    pub async fn points(&self) -> Vec<Value> {
        let got = self.service.get(&format!("{}/recoveryPoints", self.instance)).await.expect(200);
        got.body["value"].as_array().unwrap().clone()
    }

    /// Waits, by the machine's clock, until something holds.
    pub async fn until(
        &mut self,
        what: &str,
        holds: impl for<'a> Fn(&'a World) -> Pin<Box<dyn Future<Output = bool> + 'a>>,
    ) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self).await {
            assert!(Instant::now() < deadline, "a minute went by before {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_points(&mut self, count: usize) {
        self.until(&format!("there were {count} points"), |world| {
            Box::pin(async move { world.points().await.len() == count })
        })
        .await;
    }
}

/// A policy that backs up every day from `first` on and keeps points for a week.
pub fn vaulted(first: i64) -> Value {
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

/// A restore of the container `photos` of a point, as a new container of the account.
pub fn restore_as(account: &Value, point: &Value, container: &str) -> Value {
    json!({
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore",
        "restoreTargetInfo": {
            "objectType": "ItemLevelRestoreTargetInfo",
            "recoveryOption": "FailIfExists",
            "restoreLocation": "westus",
            "datasourceInfo": { "objectType": "Datasource", "resourceId": account },
            "restoreCriteria": [{
                "objectType": "ItemPathBasedRestoreCriteria",
                "itemPath": "photos",
                "isPathRelativeToBackupItem": true,
                "renameTo": container,
            }],
        },
    })
}

/// A policy of the operational tier alone, with that retention.
pub fn operational(retention: &str) -> Value {
    let store = json!({ "dataStoreType": "OperationalStore", "objectType": "DataStoreInfoBase" });
    json!({ "properties": {
        "objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
        "policyRules": [{
            "objectType": "AzureRetentionRule",
            "name": "Default",
            "isDefault": true,
            "lifecycles": [{
                "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": retention },
                "sourceDataStore": store,
            }],
        }],
    }})
}
