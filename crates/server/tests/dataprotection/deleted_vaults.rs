//! Deleted vaults: what a deletion keeps and for how long, who sees it, and how a vault comes back.

use blobkeep_arm::time::parse_instant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, policy};

const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const HEADER: &str = "x-ms-deleted-vault-id";
/// Some instant far in the future.
const LATER: i64 = 4_000_000_000_000_000;

impl Service {
    /// Puts every instance among the deleted ones, as the job does, to go at [`LATER`].
    async fn delete_instances(&mut self) {
        self.sql("UPDATE jobs SET status = 'Completed', ended_at = 1").await;
        self.set_state("SoftDeleted").await;
        self.sql(&format!("UPDATE backup_instances SET deleted_at = 1, billing_end = 1, purge_at = {LATER}")).await;
    }

    /// A vault with one deleted instance, itself deleted; gives its name among the deleted ones.
    async fn delete_a_vault(&mut self) -> String {
        self.protect().await;
        self.delete_instances().await;
        let answer = self.delete(&self.vault()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        self.deleted_vaults().await[0]["name"].as_str().unwrap().to_owned()
    }

    fn deleted_vaults_at(&self, location: &str) -> String {
        let subscription = &self.subscription;
        format!("/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/deletedVaults")
    }

    async fn deleted_vaults(&self) -> Vec<Value> {
        let answer = self.get(&self.deleted_vaults_at("westus")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["value"].as_array().unwrap().clone()
    }

    /// Takes a deletion back at the path of the vault.
    async fn undelete(&self, deleted: &str, body: Value) -> Answer {
        self.put_with(&self.owner(), &self.vault(), (HEADER, deleted), body).await
    }
}

fn only_location() -> Value {
    json!({"location": "westus"})
}

#[tokio::test]
async fn a_vault_with_deleted_instances_is_kept_a_little_longer_than_they_are() {
    let mut service = Service::start().await;
    service.protect().await;
    service.delete_instances().await;
    let answer = service.delete(&service.vault()).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{answer:?}");
    let group = format!("/subscriptions/{}/resourceGroups/TestBkpVaultRG", service.subscription);
    let status_url = answer.header("azure-asyncoperation");
    let below = format!("{group}/providers/Microsoft.DataProtection/locations/westus/operationStatus/");
    assert!(status_url.contains(&below), "{status_url}");
    assert_eq!(service.get(status_url).await.json()["status"], "Succeeded");
    let result = service.get(answer.header("location")).await;
    assert_eq!(result.text, r#"{"objectType":"OperationJobExtendedInfo"}"#);
    let operation = status_url.split_once("operationStatus/").unwrap().1;
    let result = service.get(&format!("{}/operationResults/{operation}", service.vault())).await;
    assert_eq!((result.status, result.text.as_str()), (200, ""), "nothing is left to tell of a vault that is gone");

    assert_eq!(service.get(&service.vault()).await.code(), "ResourceNotFound");
    assert_eq!(service.delete(&service.vault()).await.status, 204);
    assert_eq!(service.get(&format!("{}/deletedBackupInstances", service.vault())).await.status, 404);
    for scope in [&group, &format!("/subscriptions/{}", service.subscription)] {
        let list = service.get(&format!("{scope}/providers/Microsoft.DataProtection/backupVaults")).await;
        assert_eq!(list.json()["value"], json!([]), "{scope}");
    }

    let deleted = service.deleted_vaults().await;
    assert_eq!(deleted.len(), 1);
    let name = deleted[0]["name"].as_str().unwrap();
    let own = format!("{}/{name}", service.deleted_vaults_at("westus"));
    assert_eq!(deleted[0]["id"], json!(own));
    assert_eq!(service.get(&own).await.json(), deleted[0]);
    assert_eq!(service.get(&own.replace("westus", "WestUS").to_uppercase()).await.json(), deleted[0]);
    let properties = &deleted[0]["properties"];
    assert_eq!(properties["originalBackupVaultName"], "testBkpVault");
    assert_eq!(properties["originalBackupVaultResourcePath"], json!(service.vault()));
    let info = &properties["resourceDeletionInfo"];
    assert_eq!(info["deleteActivityID"], json!(answer.header("x-ms-correlation-request-id")));
    assert_eq!(info["deleteActivityId"], info["deleteActivityID"]);
    let purge = parse_instant(info["scheduledPurgeTime"].as_str().unwrap()).unwrap();
    assert_eq!(purge, LATER + 10 * 60 * 1_000_000);

    assert_eq!(service.get(&service.deleted_vaults_at("eastus")).await.json()["value"], json!([]));
    for wrong in [own.replace("westus", "eastus"), own.replace(name, "none")] {
        let answer = service.get(&wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "ResourceNotFound"), "{wrong}");
    }
    let refused = service.delete(&group).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "ResourceGroupNotEmpty"));
    assert!(refused.text.contains("testBkpVault (soft-deleted)"), "{}", refused.text);
}

#[tokio::test]
async fn a_vault_comes_back_with_everything_but_its_identity() {
    let mut service = Service::start().await;
    let instance = service.protect().await;
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    assert_eq!(service.post(&format!("{instance}/backup"), body).await.status, 202);
    let point = service.add_point(1, "VaultStore").await;
    service.patch(&service.vault(), json!({"tags": {"a": "b"}})).await;
    let before = service.get(&service.vault()).await.json();
    service.delete_instances().await;
    let jobs = service.get(&format!("{}/backupJobs", service.vault())).await.json()["value"].clone();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1));
    let deletion = service.delete(&service.vault()).await;
    assert_eq!(deletion.status, 202, "{deletion:?}");
    let first = service.deleted_vaults().await[0]["name"].as_str().unwrap().to_owned();

    // Another one of the same name, which is deleted, too.
    service.make_vault_and_policy().await;
    let fresh = service.get(&service.vault()).await.json();
    assert_eq!((&fresh["id"], &fresh["tags"]), (&before["id"], &json!({})));
    for inside in ["backupInstances", "deletedBackupInstances", "backupJobs"] {
        let list = service.get(&format!("{}/{inside}", service.vault())).await;
        assert_eq!(list.json()["value"], json!([]), "{inside}");
    }
    let refused = service.undelete(&first, only_location()).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "Conflict"));
    assert_eq!(service.delete(&service.vault()).await.status, 202);
    assert_eq!(service.deleted_vaults().await.len(), 2, "both are kept");

    let back = service.undelete(&first, only_location()).await;
    assert_eq!(back.status, 201, "{back:?}");
    let operation = back.header("azure-asyncoperation");
    assert_eq!(service.get(operation).await.json()["status"], "Succeeded");
    let of = |url: &str| url.split_once("operationStatus/").unwrap().1[..48].to_owned();
    assert_eq!(of(operation), of(deletion.header("azure-asyncoperation")), "it is the same vault");
    assert_eq!(back.json()["properties"]["provisioningState"], "Provisioning");
    let vault = service.get(&service.vault()).await.json();
    assert_eq!(vault.get("identity"), None);
    for member in ["id", "name", "location", "tags", "properties"] {
        assert_eq!(vault[member], before[member], "{member}");
    }
    let left = service.deleted_vaults().await;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0]["name"], json!(first));
    assert_eq!(service.get(&format!("{}/backupJobs", service.vault())).await.json()["value"], jobs);
    assert_eq!(service.get(&format!("{}/backupPolicies/BlobBackup-Policy", service.vault())).await.status, 200);

    let identified = json!({"location": "westus", "identity": {"type": "SystemAssigned"}, "tags": {"a": "b"}});
    let principal = service.put(&service.vault(), identified).await.json()["identity"]["principalId"].clone();
    assert!(principal.is_string() && principal != before["identity"]["principalId"], "{principal}");
    assert_eq!(service.get(&instance).await.status, 404, "its instance is among the deleted ones");
    let undelete = format!("{}/deletedBackupInstances/msblobbackup-1/undelete", service.vault());
    assert_eq!(service.post_empty(&undelete).await.status, 200);
    assert_eq!(service.get(&instance).await.json()["properties"]["currentProtectionState"], "ProtectionStopped");
    assert_eq!(service.get(&format!("{instance}/recoveryPoints/{point}")).await.status, 200);
    assert_eq!(service.post_empty(&format!("{instance}/resumeProtection")).await.status, 202);
}

#[tokio::test]
async fn what_the_body_says_is_laid_over_a_vault_that_comes_back() {
    let mut service = Service::start().await;
    let name = service.delete_a_vault().await;
    let own = format!("{}/{name}", service.deleted_vaults_at("WestUS"));
    let settings = |state: &str| json!({"securitySettings": {"immutabilitySettings": {"state": state}}});
    let wrong = json!({"location": "westus", "properties": {"storageSettings": [{"datastoreType": "Nonsense"}]}});
    assert_eq!(service.undelete(&own, wrong).await.status, 400);
    assert_eq!(service.deleted_vaults().await.len(), 1, "bad input changes nothing");
    let body = json!({
        "location": "West US",
        "identity": {"type": "SystemAssigned"},
        "tags": {"new": "yes"},
        "properties": settings("Unlocked"),
    });
    let vault = service.undelete(&own, body).await;
    assert_eq!(vault.status, 201, "{vault:?}");
    let vault = vault.json();
    assert!(vault["identity"]["principalId"].is_string());
    assert_eq!(vault["tags"], json!({"new": "yes"}));
    let security = &vault["properties"]["securitySettings"];
    assert_eq!(security["immutabilitySettings"]["state"], "Unlocked");
    assert_eq!(security["softDeleteSettings"], json!({"state": "On", "retentionDurationInDays": 14}));
    let told = service.queued("sync_vault").await.pop().unwrap();
    assert_eq!(told["vault_key"], json!(service.vault().to_lowercase()), "the vault's own records are told");
}

#[tokio::test]
async fn a_header_that_names_no_deleted_vault_of_this_path_is_refused() {
    let mut service = Service::start().await;
    let name = service.delete_a_vault().await;
    let own = format!("{}/{name}", service.deleted_vaults_at("westus"));
    let other_subscription = own.replace(&service.subscription, "00000000-0000-0000-0000-000000000001");
    let uri = "UserErrorInvalidResourceUriInRequest";
    for (value, body, status, code) in [
        (name.as_str(), json!({}), 400, "LocationRequired"),
        ("", only_location(), 400, uri),
        ("/", only_location(), 400, uri),
        (service.vault().as_str(), only_location(), 400, uri),
        (other_subscription.as_str(), only_location(), 400, uri),
        (own.as_str(), json!({"location": "eastus"}), 400, uri),
        (name.as_str(), json!({"location": "eastus"}), 404, "UserErrorGenericResourceNotFound"),
        ("no-such-vault", only_location(), 404, "UserErrorGenericResourceNotFound"),
    ] {
        let answer = service.undelete(value, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{value}");
    }
    let (owner, other) = (service.owner(), service.vault_named("other"));
    let elsewhere = service.put_with(&owner, &other, (HEADER, &name), only_location()).await;
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (400, "InvalidParameter"));
    assert!(elsewhere.text.contains(&service.vault()), "{}", elsewhere.text);

    service.sql("UPDATE backup_vaults SET purge_at = 1").await;
    assert_eq!(service.deleted_vaults().await.len(), 0, "its time is over");
    assert_eq!(service.get(&own).await.status, 404);
    assert_eq!(service.undelete(&name, only_location()).await.status, 404);
    assert_eq!(service.get(&service.vault()).await.status, 404, "nothing was made");
}

#[tokio::test]
async fn deleted_vaults_are_seen_and_taken_back_by_who_may_read_them() {
    let mut service = Service::start().await;
    let name = service.delete_a_vault().await;
    let own = format!("{}/{name}", service.deleted_vaults_at("westus"));
    let group = format!("/subscriptions/{}/resourceGroups/TestBkpVaultRG", service.subscription);
    let (token, object) = service.stranger("somebody").await;
    service.assign(CONTRIBUTOR, &object, &group).await;
    let list = service.send(&token, Method::GET, &service.deleted_vaults_at("westus"), None).await;
    assert_eq!((list.status, &list.json()["value"]), (200, &json!([])), "a group is not enough");
    assert_eq!(service.send(&token, Method::GET, &own, None).await.code(), "AuthorizationFailed");
    for named in [name.as_str(), "no-such-vault"] {
        let refused = service.put_with(&token, &service.vault(), (HEADER, named), only_location()).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "LinkedAuthorizationFailed"), "{named}");
    }

    let (reader, object_of_reader) = service.stranger("reader").await;
    let subscription = format!("/subscriptions/{}", service.subscription);
    service.assign(READER, &object_of_reader, &subscription).await;
    assert_eq!(service.send(&reader, Method::GET, &own, None).await.status, 200);
    let list = service.send(&reader, Method::GET, &service.deleted_vaults_at("westus"), None).await;
    assert_eq!(list.json()["value"].as_array().map(Vec::len), Some(1));
    let refused = service.put_with(&reader, &service.vault(), (HEADER, &name), only_location()).await;
    assert_eq!(refused.code(), "AuthorizationFailed");

    service.assign(READER, &object, &subscription).await;
    let back = service.put_with(&token, &service.vault(), (HEADER, &name), only_location()).await;
    assert_eq!(back.status, 201, "{back:?}");
}

#[tokio::test]
async fn a_vault_without_instances_is_kept_only_where_soft_delete_or_the_version_says_so() {
    let service = Service::start().await;
    let deleted = async |name: &str, state: &str, has_policy: bool, version: &str| {
        let vault = service.vault_named(name);
        let body = json!({"location": "westus", "identity": {"type": "SystemAssigned"}, "properties":
            {"securitySettings": {"softDeleteSettings": {"state": state, "retentionDurationInDays": 30}}}});
        assert_eq!(service.put(&vault, body).await.status, 201);
        if has_policy {
            assert_eq!(service.put(&format!("{vault}/backupPolicies/p"), policy()).await.status, 200);
        }
        assert_eq!(service.delete(&format!("{vault}?api-version={version}")).await.status, 202);
        assert_eq!(service.get(&vault).await.status, 404);
        let all = service.deleted_vaults().await;
        all.into_iter().find(|each| each["properties"]["originalBackupVaultName"] == json!(name))
    };
    let (old, new) = ("2025-07-01", "2025-09-01");
    assert_eq!(deleted("off-old", "Off", true, old).await, None);
    assert_eq!(deleted("empty-old", "On", false, old).await, None);
    assert!(deleted("policy-old", "On", true, old).await.is_some());
    assert!(deleted("always-old", "AlwaysOn", true, old).await.is_some());
    assert!(deleted("off-new", "Off", false, new).await.is_some());
    let kept = deleted("empty-new", "On", false, new).await.unwrap();
    let info = &kept["properties"]["resourceDeletionInfo"];
    let instant = |member: &str| parse_instant(info[member].as_str().unwrap()).unwrap();
    assert_eq!(instant("scheduledPurgeTime") - instant("deletionTime"), 30 * 86_400_000_000);
    let mut service = service;
    let purged = service.queued("purge_vault").await;
    assert_eq!(purged.len(), 2, "the files of those that are not kept go at once: {purged:?}");
}

#[tokio::test]
async fn a_vault_in_which_a_job_is_at_work_stays_and_what_only_waits_moves_with_it() {
    let mut service = Service::start().await;
    service.protect().await;
    service.delete_instances().await;
    let body = json!({"backupInstance": service.instance("testBkpVault")});
    assert_eq!(service.post(&format!("{}/validateForBackup", service.vault()), body).await.status, 202);
    let refused = service.delete(&service.vault()).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "Conflict"));
    assert!(refused.text.contains("validate_backup"), "{}", refused.text);
    service.sql("UPDATE jobs SET status = 'Completed', ended_at = 1").await;

    let mut changed = policy();
    changed["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"] = json!("P14D");
    let path = format!("{}/backupPolicies/BlobBackup-Policy", service.vault());
    assert_eq!(service.put(&path, changed).await.status, 200);
    assert_eq!(service.queued("expire").await.len(), 1);
    assert_eq!(service.delete(&service.vault()).await.status, 202);
    let name = service.deleted_vaults().await[0]["name"].as_str().unwrap().to_owned();
    let key = format!("{}/{name}", service.deleted_vaults_at("westus")).to_lowercase();
    let moved = service.queued("expire").await.pop().unwrap();
    assert_eq!(moved["instance_key"], json!(format!("{key}/backupinstances/msblobbackup-1")));
    assert_eq!(moved["recalculate"], true);
    assert_eq!(service.undelete(&name, only_location()).await.status, 201);
    let moved = service.queued("expire").await.pop().unwrap();
    let instance = format!("{}/backupinstances/msblobbackup-1", service.vault()).to_lowercase();
    assert_eq!((&moved["instance_key"], &moved["recalculate"]), (&json!(instance), &json!(true)));
}
