//! Two services on one PostgreSQL database: what each does, and what belongs together. Only where `BLOBKEEP_TEST_POSTGRES` names a server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use blobkeep_server::db::jobs;
use blobkeep_server::{Parts, ServeError, serve};
use common::database::{OwnDatabase, server};
use common::{Service, config};
use serde_json::{Value, json};

const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";

/// What the data folders of services on one database have in common.
fn copy_keys(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["master.key", "token.key", "client.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// A place with a database, a store and an account's folder.
struct Place {
    database: OwnDatabase,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Option<Self> {
        let place = Self { database: OwnDatabase::new(&server()?).await, dir: tempfile::tempdir().unwrap() };
        let photos = place.dir.path().join("blobs/photos");
        std::fs::create_dir_all(&photos).unwrap();
        std::fs::write(photos.join("one"), "first").unwrap();
        Some(place)
    }

    fn config(&self, name: &str) -> blobkeep_server::Config {
        let mut config = config(&self.dir.path().join(name));
        config.database = self.database.database();
        config.store = Some(self.dir.path().join("vaults").display().to_string());
        config.local_roots = vec![self.dir.path().to_owned()];
        config.operational.interval_seconds = 1;
        config
    }

    async fn start(&self, name: &str) -> Service {
        Service::start_on_own_database(self.config(name), Parts::default()).await
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "a minute went by before {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn policy() -> Value {
    let retention = |store: &str| {
        json!({"objectType": "AzureRetentionRule", "name": "Default", "isDefault": true, "lifecycles": [{
            "deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": "P7D"},
            "sourceDataStore": {"dataStoreType": store, "objectType": "DataStoreInfoBase"}}]})
    };
    json!({"properties": {"objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
        "policyRules": [retention("OperationalStore"), retention("VaultStore"),
            {"objectType": "AzureBackupRule", "name": "BackupDaily",
             "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
             "dataStore": {"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"},
             "trigger": {"objectType": "ScheduleBasedTriggerContext",
                "schedule": {"repeatingTimeIntervals": ["R/2123-06-28T07:30:00+00:00/P1D"], "timeZone": "UTC"},
                "taggingCriteria": [{"isDefault": true, "taggingPriority": 99,
                    "tagInfo": {"id": "Default_", "tagName": "Default"}}]}}]}})
}

/// A protected account; its instance's path.
async fn protect(service: &Service, place: &Place) -> String {
    let group = service.group("shared").await;
    let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/photos");
    let url = format!("file://{}", place.dir.path().join("blobs").display());
    let body = json!({"location": "westus", "properties": {"connection": {"kind": "LocalFolder", "url": url}}});
    let path = format!("{account}?api-version=2023-05-01");
    let got = service.raw(&service.token, "PUT", &path, Some(&body.to_string())).await;
    assert!(got.status < 300, "{}", got.text);
    let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/vault");
    let body = json!({"location": "westus", "identity": {"type": "SystemAssigned"}, "properties": {}});
    let got = service.put(&vault, body).await.expect(201);
    let principal = got.body["identity"]["principalId"].as_str().unwrap().to_owned();
    service.assign(&principal, STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR, &account).await;
    service.put(&format!("{vault}/backupPolicies/daily"), policy()).await.expect(200);
    let instance = format!("{vault}/backupInstances/photos");
    let body = json!({"properties": {
        "objectType": "BackupInstance",
        "dataSourceInfo": {"objectType": "Datasource", "resourceID": account, "resourceLocation": "westus",
            "datasourceType": "Microsoft.Storage/storageAccounts/blobServices"},
        "policyInfo": {"policyId": format!("{vault}/backupPolicies/daily"), "policyParameters": {
            "backupDatasourceParametersList": [
                {"objectType": "BlobBackupDatasourceParameters", "containersList": ["photos"]}]}},
    }});
    service.put(&instance, body).await.expect(201);
    until("the account was protected", async || {
        service.get(&instance).await.body["properties"]["currentProtectionState"] == "ProtectionConfigured"
    })
    .await;
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_share_accounts_tokens_jobs_and_vaults() {
    let Some(place) = Place::new().await else { return };
    let one = place.start("one").await;
    copy_keys(&place.dir.path().join("one"), &place.dir.path().join("two"));
    let two = place.start("two").await;
    assert_eq!((&one.env.tenant_id, &one.env.client_id), (&two.env.tenant_id, &two.env.client_id));
    let instance = protect(&one, &place).await;
    // A token for the one's own address is for nobody else; one for the public manager's is for both.
    let client = &one.env;
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope=https://management.azure.com/.default",
        client.client_id, client.client_secret
    );
    let token = one.ask_token(&form).await.expect(200).body["access_token"].as_str().unwrap().to_owned();
    let seen = two.raw(&token, "GET", &format!("{instance}?api-version=2021-01-01"), None).await.expect(200);
    assert_eq!(seen.body["properties"]["currentProtectionState"], "ProtectionConfigured");

    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    for (number, service) in [&one, &two, &one, &two].into_iter().enumerate() {
        service.call("POST", &format!("{instance}/backup"), Some(body.clone())).await.expect(202);
        until("the backup had ended", async || {
            let points = one.get(&format!("{instance}/recoveryPoints")).await;
            points.body["value"].as_array().map(Vec::len) == Some(number + 1)
        })
        .await;
    }
    let jobs = format!("{}/backupJobs", instance.split("/backupInstances").next().unwrap());
    let got = two.get(&jobs).await.expect(200);
    let all: Vec<&Value> = got.body["value"].as_array().unwrap().iter().collect();
    assert!(all.iter().all(|job| job["properties"]["status"] == "Completed"), "{}", got.text);

    // What the one leaves the other takes up, the looks of the operational tier included.
    one.running.shutdown().await;
    two.call("POST", &format!("{instance}/backup"), Some(body)).await.expect(202);
    until("the other one had backed up", async || {
        let points = two.get(&format!("{instance}/recoveryPoints")).await;
        points.body["value"].as_array().map(Vec::len) == Some(5)
    })
    .await;
    let ends = async || {
        let body = json!({"sourceDataStoreType": "OperationalStore"});
        let ranges = two.call("POST", &format!("{instance}/findRestorableTimeRanges"), Some(body)).await;
        ranges.body["properties"]["restorableTimeRanges"][0]["endTime"].as_str().unwrap_or_default().to_owned()
    };
    let before = ends().await;
    until("the other one had looked", async || ends().await > before).await;
    two.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_service_that_is_gone_goes_on_when_its_lease_has_run_out() {
    let Some(place) = Place::new().await else { return };
    let one = place.start("one").await;
    let instance = protect(&one, &place).await;
    one.running.shutdown().await;
    copy_keys(&place.dir.path().join("one"), &place.dir.path().join("two"));
    // As if the first one had been killed in the middle of a backup: the job is claimed, and nobody is there.
    let by_hand =
        Service::start_on_own_database(place.config("two"), Parts { by_hand: true, ..Parts::default() }).await;
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    by_hand.call("POST", &format!("{instance}/backup"), Some(body)).await.expect(202);
    let (db, now) = (by_hand.running.app().db.clone(), by_hand.running.app().now());
    let mut tx = db.write().await.unwrap();
    let lease_until = now + 4_000_000;
    let claimed = loop {
        let job = jobs::claim_next(&mut tx, "gone", now, lease_until).await.unwrap().unwrap();
        if job.spec.kind() == "backup" {
            break job;
        }
    };
    tx.commit().await.unwrap();
    by_hand.running.shutdown().await;

    let again = place.start("one").await;
    let db = &again.running.app().db;
    let job = async || jobs::by_id(&mut db.read().await.unwrap(), &claimed.id).await.unwrap().unwrap();
    until("the job had ended", async || job().await.ended_at.is_some()).await;
    let ended = job().await;
    assert_eq!((ended.status.as_str(), ended.attempt), ("Completed", 2));
    assert!(ended.ended_at.unwrap() >= lease_until, "a lease of somebody else's is left to run out");
    again.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_without_the_databases_key_is_refused() {
    let Some(place) = Place::new().await else { return };
    let one = place.start("one").await;
    let refusal = async |name: &str| match serve(place.config(name), Parts::default()).await {
        Err(ServeError::Setup(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let said = refusal("two").await;
    assert!(said.contains("master.key is missing but the database exists"), "{said}");
    assert!(!place.dir.path().join("two/master.key").exists(), "no other key is made");
    std::fs::write(place.dir.path().join("two/master.key"), format!("{}\n", "42".repeat(32))).unwrap();
    let said = refusal("two").await;
    assert!(said.contains("is not the master key that the database was made with"), "{said}");
    one.get(&one.subscription()).await.expect(200);
    one.running.shutdown().await;
}
