//! Backup instances: validated, configured, backed up on demand and resumed.

use blobkeep_arm::{ApiError, ErrorCode};
use blobkeep_server::db;
use reqwest::Method;
use serde_json::{Value, json};

use crate::BACKUP_CONTRIBUTOR;
use crate::service::{Service, policy};

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
async fn suspended_backups_are_resumed_with_their_schedule() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    assert_eq!(service.post_empty(&format!("{id}/suspendBackups")).await.status, 202);
    let suspended = service.get(&id).await.json()["properties"].clone();
    assert_eq!(suspended["currentProtectionState"], "BackupsSuspended", "as recorded, not as documented");
    assert_eq!(suspended["protectionStatus"]["status"], "BackupsSuspended");
    assert_eq!(service.post_empty(&format!("{id}/resumeBackups")).await.status, 202);
    let instance = service.row("SELECT next_run_at FROM backup_instances").await;
    assert!(instance.try_get::<Option<i64>>("next_run_at").unwrap().is_some());
}
