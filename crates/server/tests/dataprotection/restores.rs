//! Restores: what is refused at once, and what is queued for the rest.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{self, Service};

const BACKUP_OPERATOR: &str = "00c29273-979b-4161-815c-10b084fb9324";

/// A prefix of one container of a vault's point, under another name.
pub(crate) fn of_point(point: &str, account: &str) -> Value {
    json!({"objectType": "AzureBackupRecoveryPointBasedRestoreRequest", "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore", "restoreTargetInfo": {"objectType": "ItemLevelRestoreTargetInfo",
            "recoveryOption": "FailIfExists", "restoreLocation": "westus",
            "datasourceInfo": {"objectType": "Datasource", "resourceId": account},
            "restoreCriteria": [{"objectType": "ItemPathBasedRestoreCriteria", "itemPath": "container1",
                "isPathRelativeToBackupItem": true, "subItemPathPrefix": ["a/"], "renameTo": "restored1"}]}})
}

/// Everything as it was at a time.
fn of_time(account: &str, time: &str) -> Value {
    json!({"objectType": "AzureBackupRecoveryTimeBasedRestoreRequest", "recoveryPointTime": time,
        "sourceDataStoreType": "OperationalStore", "restoreTargetInfo": {"objectType": "RestoreTargetInfo",
            "recoveryOption": "FailIfExists", "datasourceInfo": {"resourceID": account}}})
}

/// A protected instance with a state of its operational tier from now; its id and that time.
async fn with_operational_range(service: &mut Service) -> (String, String) {
    let id = service.protect().await;
    service.add_point(9, "OperationalStore").await;
    // Whole seconds, as they are sent back.
    let now = service.running.app().now() / 1_000_000 * 1_000_000;
    service.sql(&format!("UPDATE recovery_points SET created_at = {now} WHERE store = 'OperationalStore'")).await;
    let ranges = service
        .post(&format!("{id}/findRestorableTimeRanges"), json!({"sourceDataStoreType": "OperationalStore"}))
        .await;
    let start = &ranges.json()["properties"]["restorableTimeRanges"][0]["startTime"];
    let start = start.as_str().unwrap_or_else(|| panic!("{ranges:?}")).to_owned();
    (id, start)
}

#[tokio::test]
async fn restores_are_checked_accepted_and_shown_as_jobs() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let point = service.add_point(1, "VaultStore").await;
    let good = of_point(&point, &service.account("restoretarget"));
    let answer = service.post(&format!("{id}/validateRestore"), json!({"restoreRequestObject": good})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(service.get(answer.header("azure-asyncoperation")).await.json()["status"], "Inprogress");
    let answer = service.post(&format!("{id}/restore"), good.clone()).await;
    let result = service.get(answer.header("location")).await.json();
    let job = service.get(result["jobId"].as_str().unwrap()).await.json();
    assert_eq!(job["properties"]["operationCategory"], "Restore");
    assert_eq!(job["properties"]["extendedInfo"]["recoveryDestination"], json!(service.account("restoretarget")));
    assert_eq!(job["properties"]["extendedInfo"]["sourceRecoverPoint"]["recoveryPointID"], json!(point));

    let unknown = service.post(&format!("{id}/restore"), of_point("ffff", &service.account("restoretarget"))).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "UserErrorRestorePointNotFound"));
    let too_early = of_time(&service.account("msblobbackup"), "2020-01-01T00:00:00Z");
    let too_early = service.post(&format!("{id}/restore"), too_early).await;
    assert_eq!(too_early.code(), "UserErrorInvalidRecoveryPointInTime");
}

#[tokio::test]
async fn a_vaults_point_comes_back_as_new_containers_also_in_its_own_account() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let point = service.add_point(1, "VaultStore").await;
    for option in ["FailIfExists", "Overwrite"] {
        let mut request = of_point(&point, &service.account("msblobbackup"));
        request["restoreTargetInfo"]["recoveryOption"] = json!(option);
        assert_eq!(service.post(&format!("{id}/restore"), request).await.status, 202, "{option}");
    }
    for (spec, option) in service.queued("restore").await.iter().zip(["FailIfExists", "Overwrite"]) {
        assert_eq!(spec["in_place"], false, "{spec}");
        assert_eq!(spec["option"], option);
        assert_eq!(spec["selection"]["containers"][0]["rename_to"], "restored1");
    }
}

#[tokio::test]
async fn the_operational_tier_is_restored_in_place_or_not_at_all() {
    let mut service = Service::start().await;
    let (id, time) = with_operational_range(&mut service).await;
    let path = format!("{id}/restore");
    let own = service.account("msblobbackup");
    let refused = |answer: &service::Answer, word: &str| {
        assert_eq!((answer.status, answer.code().as_str()), (400, "UserErrorInvalidParameterInRequest"), "{answer:?}");
        assert!(answer.text.contains(word), "{answer:?}");
    };
    let elsewhere = service.post(&path, of_time(&service.account("restoretarget"), &time)).await;
    refused(&elsewhere, "protected storage account itself");
    let mut renamed = of_time(&own, &time);
    renamed["restoreTargetInfo"]["objectType"] = json!("ItemLevelRestoreTargetInfo");
    renamed["restoreTargetInfo"]["restoreCriteria"] = json!([
        {"objectType": "ItemPathBasedRestoreCriteria", "itemPath": "container1", "renameTo": "restored1"}]);
    refused(&service.post(&path, renamed).await, "renameTo");
    for option in ["Skip", "Overwrite", "OverwriteIfNewer"] {
        let mut request = of_time(&own, &time);
        request["restoreTargetInfo"]["recoveryOption"] = json!(option);
        refused(&service.post(&path, request).await, option);
    }
    let mut archived = of_time(&own, &time);
    archived["blobkeep"] = json!({"accessTier": "Archive"});
    refused(&service.post(&path, archived).await, "accessTier");
    let good = of_time(&own, &time);
    assert_eq!(service.post(&path, good.clone()).await.status, 202);
    assert_eq!(service.queued("restore").await[0]["in_place"], true);
    assert_eq!(service.post(&path, good).await.code(), "UserErrorPitrRestoreInProgress");
}

#[tokio::test]
async fn who_may_begin_restores_needs_no_more_than_to_read_the_target() {
    let mut service = Service::start().await;
    let (id, time) = with_operational_range(&mut service).await;
    let (token, object) = service.stranger("operator").await;
    service.assign(BACKUP_OPERATOR, &object, &service.vault()).await;
    let path = format!("{id}/restore");
    let request = of_time(&service.account("msblobbackup"), &time);
    let blind = service.send(&token, Method::POST, &path, Some(&request)).await;
    assert_eq!((blind.status, blind.code().as_str()), (403, "LinkedAuthorizationFailed"));
    service.assign(BACKUP_OPERATOR, &object, &service.account("msblobbackup")).await;
    let answer = service.send(&token, Method::POST, &path, Some(&request)).await;
    assert_eq!(answer.status, 202, "as in Azure the vault's identity does the writing: {answer:?}");
}

#[tokio::test]
async fn the_target_is_kept_in_the_form_that_jobs_compare() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let point = service.add_point(1, "VaultStore").await;
    let upper = service.account("restoretarget").replace("RG-BlobBackup", "rg-BLOBBACKUP");
    let escaped = service.account("restoretarget").replace("restoretarget", "restore%74arget");
    let cases = [(upper.clone(), upper), (format!(" /{escaped}/ "), service.account("restoretarget"))];
    for (sent, _) in &cases {
        let answer = service.post(&format!("{id}/restore"), of_point(&point, sent)).await;
        assert_eq!(answer.status, 202, "{sent}: {answer:?}");
    }
    for (spec, (_, kept)) in service.queued("restore").await.iter().zip(&cases) {
        assert_eq!(spec["target"], json!(kept));
    }
}
