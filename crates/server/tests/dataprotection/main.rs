//! The Microsoft.DataProtection operations on a running service: who may call them, what they answer, and what they queue.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod actions;
mod answers;
mod approvals;
mod changes;
mod conditions;
mod deleted_vaults;
mod guards;
mod paging;
mod prunes;
mod removal;
mod restores;
mod service;

use blobkeep_arm::{ApiError, ErrorCode};
use blobkeep_server::api::{Access, routes};
use blobkeep_server::db;
use reqwest::Method;
use serde_json::{Value, json};
use service::{Service, policy};

const BACKUP_CONTRIBUTOR: &str = "5e467623-bb1f-42f4-a55d-6e525e11384b";
const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";

/// The routes of this provider with their placeholders filled in.
fn paths(subscription: &str) -> Vec<(&'static str, Method, Access, String)> {
    let ours = routes().into_iter().filter(|route| route.pattern.contains("Microsoft.DataProtection"));
    ours.map(|route| {
        let path = route
            .pattern
            .replace("{*scope}", &format!("subscriptions/{subscription}/resourceGroups/RG-BlobBackup"))
            .replace("{subscription}", subscription)
            .replace("{group}", "TestBkpVaultRG")
            .replace("{vault}", "testBkpVault")
            .replace(['{', '}'], "");
        (route.operation, route.method.clone(), route.access, path)
    })
    .collect()
}

#[tokio::test]
async fn no_operation_answers_without_a_token_or_without_rights() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    let (stranger, _) = service.stranger("stranger").await;
    let paths = paths(&service.subscription);
    assert!(paths.len() >= 38, "the provider has {} routes", paths.len());
    for (operation, method, access, path) in paths {
        let answer = service.send("", method.clone(), &path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "AuthenticationFailed"), "{operation}");
        let answer = service.send(&stranger, method, &path, None).await;
        match access {
            Access::Public | Access::Unversioned => panic!("{operation} is public"),
            Access::Action(_) => {
                assert_eq!((answer.status, answer.code().as_str()), (403, "AuthorizationFailed"), "{operation}")
            }
            Access::SignedIn if answer.status == 200 => {
                let is_catalogue = operation == "DataProtectionOperations_List";
                let shown = answer.json()["value"].as_array().map_or(0, Vec::len);
                assert!(is_catalogue || shown == 0, "{operation} shows {shown} things to a stranger");
            }
            Access::SignedIn => assert_eq!(answer.status, 403, "{operation}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_reader_reads_and_changes_nothing() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let (reader, object_id) = service.stranger("reader").await;
    service.assign(BACKUP_READER, &object_id, &service.vault()).await;
    for path in ["", "/backupInstances", "/backupPolicies", "/backupJobs", "/deletedBackupInstances"] {
        let answer = service.send(&reader, Method::GET, &format!("{}{path}", service.vault()), None).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    for (method, path) in [
        (Method::PUT, service.vault()),
        (Method::DELETE, service.vault()),
        (Method::PUT, id.clone()),
        (Method::DELETE, id.clone()),
        (Method::POST, format!("{id}/backup")),
        (Method::POST, format!("{id}/restore")),
        (Method::POST, format!("{}/validateForBackup", service.vault())),
    ] {
        let answer = service.send(&reader, method.clone(), &path, Some(&body)).await;
        assert_eq!(answer.code(), "AuthorizationFailed", "{method} {path}");
    }
    let list = format!("/subscriptions/{}/providers/Microsoft.DataProtection/backupVaults", service.subscription);
    let answer = service.send(&reader, Method::GET, &list, None).await;
    assert_eq!(answer.json()["value"].as_array().map(Vec::len), Some(1), "{answer:?}");
}

#[tokio::test]
async fn a_vault_is_made_tracked_read_changed_and_removed() {
    let service = Service::start().await;
    let made = service.make_vault("testBkpVault").await;
    assert_eq!(made.json()["properties"]["provisioningState"], "Provisioning");
    let tracking = made.header("azure-asyncoperation");
    assert!(
        tracking.contains("/locations/westus/operationStatus/") && tracking.ends_with("?api-version=2021-01-01"),
        "{tracking}"
    );
    assert_eq!(made.header("location"), "", "a PUT has no Location");
    assert_eq!(service.get(tracking).await.json()["status"], "Succeeded");

    let vault = service.get(&service.vault()).await.json();
    assert_eq!(vault["properties"]["provisioningState"], "Succeeded");
    assert_eq!(
        vault["properties"]["securitySettings"]["softDeleteSettings"],
        json!({"state": "On", "retentionDurationInDays": 14})
    );
    let identity = vault["identity"].clone();
    assert!(uuid::Uuid::parse_str(identity["principalId"].as_str().unwrap()).is_ok());

    let again =
        json!({"location": "West US", "identity": {"type": "SystemAssigned"}, "tags": {"a": "b"}, "properties": {}});
    let answer = service.put(&service.vault().to_lowercase(), again).await;
    assert_eq!((answer.status, &answer.json()["identity"]), (201, &identity), "the principal is kept");
    assert_eq!(answer.json()["id"], vault["id"], "ids keep their spelling");
    let answer = service
        .patch(
            &service.vault(),
            json!({"properties": {"securitySettings": {"softDeleteSettings": {"state": "AlwaysOn"}}}}),
        )
        .await;
    assert_eq!((answer.status, &answer.json()["tags"]["a"]), (200, &json!("b")));
    let answer = service
        .patch(&service.vault(), json!({"properties": {"securitySettings": {"softDeleteSettings": {"state": "On"}}}}))
        .await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "UserErrorDisableSoftDeleteNotAllowed"));
    let silent = service.put(&service.vault(), json!({"location": "westus", "properties": {}})).await;
    let state = &silent.json()["properties"]["securitySettings"]["softDeleteSettings"]["state"];
    assert_eq!((silent.status, state), (201, &json!("AlwaysOn")), "a PUT that is silent about guards leaves them");
    let answer = service.put(&service.vault(), json!({"location": "eastus", "properties": {}})).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "InvalidResourceLocation"));

    service.make_policy("testBkpVault", "p").await;
    assert_eq!(service.delete(&format!("{}/backupPolicies/p", service.vault())).await.status, 200);
    let removed = service.delete(&service.vault()).await;
    assert_eq!((removed.status, removed.text.as_str()), (202, ""));
    assert_eq!(service.get(removed.header("azure-asyncoperation")).await.json()["status"], "Succeeded");
    assert_eq!(service.get(removed.header("location")).await.status, 200);
    assert_eq!(service.get(&service.vault()).await.code(), "ResourceNotFound");
    assert_eq!(service.delete(&service.vault()).await.status, 204);
}

#[tokio::test]
async fn vaults_need_a_good_name_a_location_and_a_group() {
    let service = Service::start().await;
    let vault = |name: &str| service.vault_named(name);
    let body = json!({"location": "westus", "properties": {}});
    for (path, body, status, code) in [
        (vault("a"), body.clone(), 400, "InvalidResourceName"),
        (vault("ends-"), body.clone(), 400, "InvalidResourceName"),
        (vault("good"), json!({"properties": {}}), 400, "LocationRequired"),
        (
            vault("good"),
            json!({"location": "westus", "identity": {"type": "UserAssigned"}}),
            400,
            "UserErrorInvalidParameterInRequest",
        ),
        (vault("good").replace("TestBkpVaultRG", "NoSuchGroup"), body.clone(), 404, "ResourceGroupNotFound"),
    ] {
        let answer = service.put(&path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
    let check = format!(
        "/subscriptions/{}/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/locations/westus/checkNameAvailability",
        service.subscription
    );
    service.make_vault("taken").await;
    for (name, expected) in [("free", Value::Null), ("TAKEN", json!("AlreadyExists")), ("-", json!("Invalid"))] {
        let answer = service.post(&check, json!({"name": name, "type": "Microsoft.DataProtection/BackupVaults"})).await;
        assert_eq!(
            (answer.json()["nameAvailable"] == json!(true), &answer.json()["reason"]),
            (expected.is_null(), &expected)
        );
    }
}

#[tokio::test]
async fn policies_are_kept_versioned_and_guarded() {
    let mut service = Service::start().await;
    let instance = service.protect().await;
    let id = format!("{}/backupPolicies/BlobBackup-Policy", service.vault());
    let stored = service.get(&id).await;
    assert_eq!(stored.json()["id"], json!(id));
    assert_eq!(service.put(&id, stored.json()).await.text, stored.text, "an answer can be sent back unchanged");
    let mut changed = policy();
    changed["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"] = json!("P14D");
    assert_eq!(service.put(&id, changed).await.status, 200);
    let queued: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM jobs WHERE kind = 'expire'")
        .fetch_one(&mut service.database)
        .await
        .unwrap();
    assert_eq!(queued.0, 1, "existing points follow the new retention");
    let refused = service.delete(&id).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "UserErrorPolicyInUse"));
    assert!(refused.text.contains("msblobbackup-1"), "{}", refused.text);
    assert_eq!(service.delete(&format!("{}/backupPolicies/none", service.vault())).await.status, 204);
    let mut wrong = policy();
    wrong["properties"]["policyRules"][2]["trigger"]["taggingCriteria"][0]["tagInfo"]["tagName"] = json!("Weekly");
    let refused = service.put(&id, wrong).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "UserErrorInvalidParameterInRequest"));
    assert!(refused.text.contains("Tag 'Weekly' names no retention rule"), "{}", refused.text);
    assert_eq!(service.get(&instance).await.status, 200);
}

#[tokio::test]
async fn a_validation_is_accepted_tracked_and_fails_as_in_the_how_to() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    let path = format!("{}/validateForBackup", service.vault()).replace("/subscriptions/", "/Subscriptions/");
    let answer = service.post(&path, json!({"backupInstance": service.instance("testBkpVault")})).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{answer:?}");
    assert_eq!((answer.header("content-length"), answer.header("retry-after")), ("0", "1"));
    let (status_url, result_url) = (answer.header("azure-asyncoperation"), answer.header("location"));
    assert!(
        result_url.contains("/providers/Microsoft.DataProtection/locations/westus/operationResults/"),
        "{result_url}"
    );

    let running = service.get(status_url).await;
    let path = status_url.split_once("/subscriptions").unwrap().1.split_once('?').unwrap().0;
    let name = path.rsplit('/').next().unwrap();
    let start = running.json()["startTime"].clone();
    let expected = json!({"id": format!("/subscriptions{path}"), "name": name, "status": "Inprogress", "startTime": start,
        "endTime": "0001-01-01T00:00:00"});
    assert_eq!(running.text, expected.to_string());
    assert_eq!(running.header("retry-after"), "1");
    let waiting = service.get(result_url).await;
    assert_eq!((waiting.status, waiting.header("location")), (202, result_url));
    for form in [
        format!("{}/operationStatus/{name}", service.vault()),
        format!("{}/operationStatus/{name}", service.vault().split_once("/backupVaults").unwrap().0),
        format!("{}/operationStatus/{}", service.vault(), name.replace('=', "%3D")),
    ] {
        assert_eq!(service.get(&form).await.json()["status"], "Inprogress", "{form}");
    }

    let error = ApiError::of(ErrorCode::UserErrorMissingRequiredPermissions, &[])
        .with_detailed_message("Validate for Protection failed.");
    let mut tx = service.running.app().db.write().await.unwrap();
    db::operations::finish(&mut tx, name, Err(error), 1_625_662_162_000_000).await.unwrap();
    tx.commit().await.unwrap();
    let failed = service.get(status_url).await;
    let correlation = answer.header("x-ms-correlation-request-id");
    let expected = format!(
        r#"{{"id":"/subscriptions{path}","name":"{name}","status":"Failed","error":{{"additionalInfo":[{{"type":"UserFacingError","info":{{"message":"Appropriate permissions to perform the operation is missing.","recommendedAction":["Grant appropriate permissions to perform this operation as mentioned at https://aka.ms/UserErrorMissingRequiredPermissions and retry the operation."],"code":"UserErrorMissingRequiredPermissions","target":"","innerError":{{"code":"UserErrorMissingRequiredPermissions","additionalInfo":{{"DetailedNonLocalisedMessage":"Validate for Protection failed."}}}},"isRetryable":false,"isUserError":false,"properties":{{"ActivityId":"{correlation}"}}}}}}],"code":"UserErrorMissingRequiredPermissions","message":"Appropriate permissions to perform the operation is missing."}},"startTime":{start},"endTime":"2021-07-07T12:49:22Z"}}"#
    );
    assert_eq!((failed.status, failed.text), (200, expected));
    assert_eq!(service.get(result_url).await.code(), "UserErrorMissingRequiredPermissions");
}

#[tokio::test]
async fn an_account_is_protected_once_and_the_refusal_is_the_how_tos() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    service.make_vault("otherVault").await;
    service.make_policy("otherVault", "BlobBackup-Policy").await;
    let body = json!({"backupInstance": service.instance("otherVault")});
    let answer = service.post(&format!("{}/validateForBackup", service.vault_named("otherVault")), body).await;
    let vault = service.vault();
    let activity = answer.header("x-ms-correlation-request-id");
    let expected = json!({
      "error": {
        "additionalInfo": [
          {
            "type": "UserFacingError",
            "info": {
              "message": format!("Datasource is already protected under the Backup vault {vault}."),
              "recommendedAction": [
                format!("Delete the backup instance msblobbackup-1 from the Backup vault {vault} to re-protect the datasource in any other vault.")
              ],
              "details": null,
              "code": "UserErrorDppDatasourceAlreadyProtected",
              "target": "",
              "innerError": null,
              "isRetryable": false,
              "isUserError": false,
              "properties": {
                "ActivityId": activity
              }
            }
          }
        ],
        "code": "UserErrorDppDatasourceAlreadyProtected",
        "message": format!("Datasource is already protected under the Backup vault {vault}."),
        "target": null
      }
    });
    assert_eq!((answer.status, answer.text.as_str()), (400, expected.to_string().as_str()));
    let list = format!("{}/providers/Microsoft.DataProtection/backupInstances", service.account("MSBLOBBACKUP"));
    assert_eq!(service.get(&list).await.json()["value"][0]["id"], json!(id));
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_once() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    service.make_vault("otherVault").await;
    service.make_policy("otherVault", "BlobBackup-Policy").await;
    let with = |pointer: &str, value: Value| {
        let mut instance = service.vaulted_instance("testBkpVault");
        *instance.pointer_mut(pointer).unwrap() = value;
        instance
    };
    let containers = "/policyInfo/policyParameters/backupDatasourceParametersList/0/containersList";
    let policy_id = |vault: &str, name: &str| json!(format!("{}/backupPolicies/{name}", service.vault_named(vault)));
    for (instance, code) in [
        (
            with("/dataSourceInfo/datasourceType", json!("Microsoft.Compute/disks")),
            "UserErrorUnsupportedStorageAccountType",
        ),
        (with("/dataSourceInfo/resourceID", json!("/subscriptions/x")), "UserErrorInvalidResourceUriInRequest"),
        (
            with("/policyInfo/policyId", policy_id("otherVault", "BlobBackup-Policy")),
            "UserErrorInvalidParameterInRequest",
        ),
        (with("/policyInfo/policyId", policy_id("testBkpVault", "none")), "UserErrorInvalidParameterInRequest"),
        (with(containers, json!([])), "UserErrorNoContainersSelectedForOperation"),
        (with(containers, json!(["Not A Name"])), "UserErrorInvalidParameterInRequest"),
    ] {
        let answer =
            service.post(&format!("{}/validateForBackup", service.vault()), json!({"backupInstance": instance})).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{}", answer.text);
        let id = format!("{}/backupInstances/x", service.vault());
        let answer = service.put(&id, json!({"properties": instance})).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "PUT: {}", answer.text);
    }
    let east = service.vault_named("eastVault");
    service.put(&east, json!({"location": "eastus", "properties": {}})).await;
    service.put(&format!("{east}/backupPolicies/BlobBackup-Policy"), policy()).await;
    let body = json!({"backupInstance": service.instance("eastVault")});
    let answer = service.post(&format!("{east}/validateForBackup"), body).await;
    assert_eq!(answer.code(), "UserErrorDatasourceAndBackupVaultLocationMismatch");
}

#[tokio::test]
async fn callers_must_be_able_to_read_the_account_and_can_follow_what_they_began() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    let (token, object_id) = service.stranger("operator").await;
    service.assign(BACKUP_CONTRIBUTOR, &object_id, &service.vault()).await;
    let path = format!("{}/validateForBackup", service.vault());
    let body = json!({"backupInstance": service.instance("testBkpVault")});
    let answer = service.send(&token, Method::POST, &path, Some(&body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "LinkedAuthorizationFailed"));
    service.assign(BACKUP_CONTRIBUTOR, &object_id, &service.account("msblobbackup")).await;
    let answer = service.send(&token, Method::POST, &path, Some(&body)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let status = service.send(&token, Method::GET, answer.header("azure-asyncoperation"), None).await;
    assert_eq!(status.json()["status"], "Inprogress", "{status:?}");
    let (stranger, _) = service.stranger("stranger").await;
    let status = service.send(&stranger, Method::GET, answer.header("azure-asyncoperation"), None).await;
    assert_eq!(status.code(), "AuthorizationFailed");
}

#[tokio::test]
async fn configuring_answers_what_the_how_to_shows() {
    let mut service = Service::start().await;
    service.make_vault_and_policy().await;
    let name = "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d";
    let id = format!("{}/backupInstances/{name}", service.vault());
    let mut properties = service.instance("testBkpVault");
    let source = properties.as_object_mut().unwrap().shift_remove("dataSourceInfo").unwrap();
    properties["datasourceinfo"] = source;
    let body = json!({"name": name, "type": "Microsoft.DataProtection/backupvaults/backupInstances", "properties": properties});
    let answer = service.put(&id, body.clone()).await;
    let expected = json!({
      "id": id, "name": name, "type": "Microsoft.DataProtection/backupVaults/backupInstances",
      "properties": {
        "friendlyName": "msblobbackup",
        "dataSourceInfo": {
          "resourceID": service.account("msblobbackup"),
          "resourceUri": "",
          "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
          "resourceName": "msblobbackup",
          "resourceType": "Microsoft.Storage/storageAccounts",
          "resourceLocation": "westUS",
          "objectType": "Datasource"
        },
        "policyInfo": {"policyId": format!("{}/backupPolicies/BlobBackup-Policy", service.vault())},
        "protectionStatus": {"status": "ConfiguringProtection"},
        "currentProtectionState": "ConfiguringProtection",
        "provisioningState": "Provisioning",
        "objectType": "BackupInstance"
      }
    });
    assert_eq!((answer.status, answer.text.as_str()), (201, expected.to_string().as_str()));
    assert_eq!(answer.header("location"), "");
    let again = service.put(&id.to_lowercase(), body).await;
    assert_eq!(
        again.header("azure-asyncoperation"),
        answer.header("azure-asyncoperation"),
        "the same request, the same operation"
    );
    service.sql("UPDATE jobs SET status = 'Completed'").await;
    service.set_state("ProtectionConfigured").await;

    let changed = service.put(&id, json!({"properties": service.vaulted_instance("testBkpVault")})).await;
    assert_eq!(changed.json()["properties"]["currentProtectionState"], "UpdatingProtection");
    assert_eq!(
        changed.json()["properties"]["policyInfo"]["policyParameters"],
        Value::Null,
        "until it is done the old content shows"
    );
    let list = service.get(&format!("{}/backupInstances", service.vault())).await.json();
    assert_eq!(list["value"].as_array().map(Vec::len), Some(1));
    let operation = answer.header("azure-asyncoperation").rsplit_once("operationStatus/").unwrap().1.to_owned();
    assert_eq!(service.get(&format!("{id}/operationResults/{operation}")).await.status, 202);
}

#[tokio::test]
async fn backups_on_demand_queue_one_successor() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let path = format!("{id}/backup");
    let body = json!({"backupRuleOptions": {"ruleName": "backupdaily", "triggerOption": {}}});
    let job_of = async |service: &Service| {
        let answer = service.post(&path, body.clone()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let status = service.get(answer.header("azure-asyncoperation")).await.json();
        assert_eq!(status["status"], "Succeeded", "the operation ends when the job is accepted");
        let result = service.get(answer.header("location")).await.json();
        assert_eq!(result, status["properties"]);
        assert_eq!(result["objectType"], "OperationJobExtendedInfo");
        result["jobId"].as_str().unwrap().to_owned()
    };
    let first = job_of(&service).await;
    service.sql("UPDATE jobs SET status = 'InProgress', started_at = created_at WHERE kind = 'backup'").await;
    let second = job_of(&service).await;
    let third = job_of(&service).await;
    assert_ne!(first, second);
    assert_eq!(second, third);
    let job = service.get(&first).await.json();
    assert_eq!(job["id"], json!(first));
    assert_eq!(
        (&job["properties"]["status"], &job["properties"]["operation"]),
        (&json!("InProgress"), &json!("Backup"))
    );
    assert_eq!(job["properties"]["isUserTriggered"], true);
    assert_eq!(job["properties"]["extendedInfo"]["additionalDetails"]["PolicyRuleName"], "BackupDaily");
    let list = service.get(&format!("{}/backupJobs", service.vault())).await.json();
    assert_eq!(list["value"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["value"][0]["properties"]["extendedInfo"], Value::Null);
    assert!(list.get("nextLink").is_none());

    for (options, code) in [
        (json!({"ruleName": "Hourly"}), "UserErrorBackupRuleNotFound"),
        (
            json!({"ruleName": "BackupDaily", "triggerOption": {"retentionTagOverride": "Eternal"}}),
            "UserErrorRetentionTagNotFound",
        ),
    ] {
        let answer = service.post(&path, json!({"backupRuleOptions": options})).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
    service.set_state("ProtectionStopped").await;
    assert_eq!(service.post(&path, body.clone()).await.code(), "UserErrorOperationNotAllowedInState");
}

#[tokio::test]
async fn a_deleted_instance_waits_among_the_deleted_ones() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    assert_eq!(service.delete(&format!("{}/backupInstances/none", service.vault())).await.status, 204);
    let answer = service.delete(&id).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "SoftDeleting");
    let refused = service.delete(&service.vault()).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "UserErrorVaultNotEmpty"));
    assert!(refused.text.contains("the backup instances msblobbackup-1"), "{}", refused.text);
    let again = service.delete(&id).await;
    assert_eq!(again.header("azure-asyncoperation"), answer.header("azure-asyncoperation"));
    service.sql("UPDATE jobs SET status = 'Completed'").await;
    service.set_state("SoftDeleted").await;
    assert_eq!((service.get(&id).await.status, service.delete(&id).await.status), (404, 204));

    let deleted = format!("{}/deletedBackupInstances/msblobbackup-1", service.vault());
    let resource = service.get(&deleted).await.json();
    let info = &resource["properties"]["deletionInfo"];
    let instant = |member: &str| blobkeep_arm::time::parse_instant(info[member].as_str().unwrap()).unwrap();
    assert_eq!(instant("scheduledPurgeTime") - instant("deletionTime"), 14 * 86_400_000_000);
    assert_eq!(instant("billingEndDate"), instant("deletionTime"), "fourteen days are free");
    assert_eq!(info["deleteActivityID"], json!(answer.header("x-ms-correlation-request-id")));
    assert_eq!(resource["id"], json!(deleted));
    let list = service.get(&format!("{}/deletedBackupInstances", service.vault())).await.json();
    assert_eq!(list["value"][0], resource);
    let refused = service.put(&id, json!({"properties": service.vaulted_instance("testBkpVault")})).await;
    assert_eq!(refused.code(), "UserErrorOperationNotAllowedInState");

    let answer = service.post_empty(&format!("{deleted}/undelete")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "ProtectionStopped");
    let answer = service.post_empty(&format!("{deleted}/undelete")).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "UserErrorGenericResourceNotFound"));
    assert_eq!(service.post_empty(&format!("{id}/resumeProtection")).await.status, 202);
    assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "ConfiguringProtection");
}

#[tokio::test]
async fn the_last_fourteen_days_of_a_soft_delete_are_free() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let days = json!({"softDeleteSettings": {"state": "On", "retentionDurationInDays": 30}});
    let answer = service.patch(&service.vault(), json!({"properties": {"securitySettings": days}})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(service.delete(&id).await.status, 202);
    service.set_state("SoftDeleted").await;
    let deleted = service.get(&format!("{}/deletedBackupInstances/msblobbackup-1", service.vault())).await.json();
    let info = &deleted["properties"]["deletionInfo"];
    let instant = |member: &str| blobkeep_arm::time::parse_instant(info[member].as_str().unwrap()).unwrap();
    assert_eq!(instant("billingEndDate") - instant("deletionTime"), 16 * 86_400_000_000);
    assert_eq!(instant("scheduledPurgeTime") - instant("deletionTime"), 30 * 86_400_000_000);
}

#[tokio::test]
async fn without_soft_delete_older_versions_remove_at_once_and_newer_ones_do_not() {
    for (version, is_kept) in [("2024-04-01", false), ("2025-09-01", true)] {
        let mut service = Service::start().await;
        let id = service.protect().await;
        service
            .patch(
                &service.vault(),
                json!({"properties": {"securitySettings": {"softDeleteSettings": {"state": "Off"}}}}),
            )
            .await;
        assert_eq!(service.delete(&format!("{id}?api-version={version}")).await.status, 202);
        let (spec,): (String,) = sqlx::query_as("SELECT spec FROM jobs WHERE kind = 'delete_instance'")
            .fetch_one(&mut service.database)
            .await
            .unwrap();
        let spec: Value = serde_json::from_str(&spec).unwrap();
        assert_eq!(spec["purge_at"].is_i64(), is_kept, "{version}: {spec}");
    }
}

#[tokio::test]
async fn an_immutable_vault_lets_go_of_the_operational_tier() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let body = json!({"properties": {"securitySettings": {"immutabilitySettings": {"state": "Unlocked"}}}});
    assert_eq!(service.patch(&service.vault(), body).await.status, 200);
    service.add_point(1, "OperationalStore").await;
    service.sql("UPDATE recovery_points SET expires_at = NULL").await;
    assert_eq!(service.delete(&id).await.status, 202);
}

#[tokio::test]
async fn an_immutable_vault_keeps_its_points() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let body = json!({"properties": {"securitySettings": {"immutabilitySettings": {"state": "Unlocked"}}}});
    assert_eq!(service.patch(&service.vault(), body).await.status, 200);
    service.add_point(1, "VaultStore").await;
    service.sql("UPDATE recovery_points SET expires_at = NULL").await;
    assert_eq!(service.delete(&id).await.code(), "UserErrorImmutableVaultOperationNotAllowed");
    assert_eq!(service.post_empty(&format!("{id}/stopProtection")).await.status, 202);
    assert_eq!(service.get(&id).await.json()["properties"]["protectionStatus"]["status"], "ProtectionStopped");
}

#[tokio::test]
async fn suspended_backups_are_resumed_with_their_schedule() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    assert_eq!(service.post_empty(&format!("{id}/suspendBackups")).await.status, 202);
    assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "BackupSchedulesSuspended");
    assert_eq!(service.post_empty(&format!("{id}/resumeBackups")).await.status, 202);
    let (next,): (Option<i64>,) =
        sqlx::query_as("SELECT next_run_at FROM backup_instances").fetch_one(&mut service.database).await.unwrap();
    assert!(next.is_some());
}

#[tokio::test]
async fn points_are_listed_newest_first_and_filtered() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let mut points = Vec::new();
    for number in 1..=3 {
        points.push(service.add_point(number, "VaultStore").await);
    }
    let operational = service.add_point(9, "OperationalStore").await;
    let names = |answer: &service::Answer| -> Vec<String> {
        let body = answer.json();
        let values = body["value"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        values.iter().map(|point| point["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = service.get(&format!("{id}/recoveryPoints?$filter=")).await;
    assert_eq!(names(&all), [points[2].clone(), points[1].clone(), points[0].clone()]);
    let filter =
        "startDate%20eq%20'2025-03-02T00:00:00.0000000Z'%20and%20endDate%20eq%20'2025-03-03T12:00:00.0000000Z'";
    let some = service.get(&format!("{id}/recoveryPoints?$filter={filter}")).await;
    assert_eq!(names(&some), [points[1].clone(), points[0].clone()]);
    let bad = service.get(&format!("{id}/recoveryPoints?$filter=name%20eq%20x")).await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "InvalidFilterInQueryString"));
    let one = service.get(&format!("{id}/recoveryPoints/{}", points[0])).await.json();
    assert_eq!(one["properties"]["recoveryPointTime"], "2025-03-02T00:00:00.0000000Z");
    assert_eq!(one["properties"]["recoveryPointDataStoresDetails"][0]["state"], "COMMITTED");
    assert_eq!(service.get(&format!("{id}/recoveryPoints/none")).await.code(), "ResourceNotFound");
    assert_eq!(service.get(&format!("{id}/recoveryPoints/{operational}")).await.code(), "ResourceNotFound");
    service.sql("UPDATE recovery_points SET created_at = unixepoch() * 1000000 WHERE store = 'OperationalStore'").await;
    let ranges = service
        .post(&format!("{id}/findRestorableTimeRanges"), json!({"sourceDataStoreType": "OperationalStore"}))
        .await;
    assert_eq!(ranges.json()["name"], "msblobbackup-1", "{ranges:?}");
    assert_eq!(ranges.json()["properties"]["restorableTimeRanges"].as_array().map(Vec::len), Some(1), "{ranges:?}");
}

#[tokio::test]
async fn the_queue_gives_each_job_to_one_worker_at_a_time() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    service.sql("DELETE FROM jobs").await;
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    service.post(&format!("{id}/backup"), body.clone()).await;
    let database = service.running.app().db.clone();
    // The service's own worker is kept away by leaving `not_before` far in the future; here time runs ahead of it.
    let now = 9_000_000_000_000_000_000;
    let mut tx = database.write().await.unwrap();
    let job = db::jobs::claim_next(&mut tx, "one", now, now + 10).await.unwrap().unwrap();
    assert!(db::jobs::claim_next(&mut tx, "two", now, now + 10).await.unwrap().is_none(), "its lease is alive");
    tx.commit().await.unwrap();

    service.post(&format!("{id}/backup"), body).await;
    let mut tx = database.write().await.unwrap();
    assert!(
        db::jobs::claim_next(&mut tx, "two", now, now + 10).await.unwrap().is_none(),
        "one backup of an instance at a time"
    );
    let taken = db::jobs::claim_next(&mut tx, "two", now + 11, now + 20).await.unwrap().unwrap();
    assert_eq!((taken.id.as_str(), taken.attempt), (job.id.as_str(), 2), "a dead worker's job is taken over");
    assert!(!db::jobs::renew(&mut tx, &job.id, "one", now + 30).await.unwrap(), "the first worker has lost it");
    assert!(!db::jobs::save_state(&mut tx, &job.id, "one", &json!({"lost": true})).await.unwrap());
    let status = blobkeep_arm::job::JobStatus::Completed;
    assert!(db::jobs::finish(&mut tx, &job.id, "two", status, &json!({}), None, now + 12).await.unwrap());
    let next = db::jobs::claim_next(&mut tx, "two", now + 12, now + 20).await.unwrap().unwrap();
    assert_ne!(next.id, job.id, "the successor follows");
}
