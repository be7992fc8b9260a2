//! Operations that answer questions, repeat what failed, or say why blobs have no such thing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service};

const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn the_datasource_types_of_blobs_are_supported_features_and_no_others() {
    let service = Service::start().await;
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.DataProtection/locations/westus/checkFeatureSupport",
        service.subscription
    );
    let body = json!({"objectType": "FeatureValidationRequest", "featureType": "DataSourceType"});
    let answer = service.post(&path, body).await;
    let available = |name: &str| json!({"featureName": name, "supportStatus": "GenerallyAvailable", "exposureControlledFeatures": []});
    let expected = json!({
        "objectType": "FeatureValidationResponse",
        "featureType": "DataSourceType",
        "features": [
            available("Microsoft.Storage/storageAccounts/blobServices"),
            available("Microsoft.Storage/storageAccounts/adlsBlobServices")
        ]
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    let disks = json!({"featureType": "DataSourceType", "featureName": "Microsoft.Compute/disks"});
    let answer = service.post(&path, disks).await.json();
    assert_eq!(answer["features"][0]["supportStatus"], "NotSupported");
    let answer = service.post(&path, json!({"featureType": "Weather"})).await;
    assert_eq!(refusal(&answer), (400, "UserErrorInvalidParameterInRequest".to_owned()));
    assert_eq!(refusal(&service.post_empty(&path).await), (400, "InvalidRequestContent".to_owned()));
}

/// The state of the operation that an answer names.
async fn operation_state(service: &Service, answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{answer:?}");
    assert!(!answer.header("location").is_empty() && !answer.header("retry-after").is_empty(), "{answer:?}");
    service.get(answer.header("azure-asyncoperation")).await.json()["status"].clone()
}

#[tokio::test]
async fn a_sync_repeats_a_configuration_that_failed() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let sync = format!("{id}/sync");
    for state in ["ConfiguringProtectionFailed", "ProtectionError"] {
        service.set_state(state).await;
        let before = service.queued("configure").await.len();
        let answer = service.post(&sync, json!({"syncType": "default"})).await;
        assert_eq!(operation_state(&service, &answer).await, "Inprogress");
        assert_eq!(service.queued("configure").await.len(), before + 1, "{state}");
        assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "ConfiguringProtection");

        let again = service.post_empty(&sync).await;
        let path = |answer: &Answer| answer.header("azure-asyncoperation").to_owned();
        assert_eq!(path(&again), path(&answer), "one that is under way is followed, not begun again");
        assert_eq!(service.queued("configure").await.len(), before + 1);
        service.sql("UPDATE jobs SET status = 'Completed'").await;
    }
}

#[tokio::test]
async fn a_sync_of_what_is_protected_does_nothing_unless_it_is_forced() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let sync = format!("{id}/sync");
    let before = service.queued("configure").await.len();
    for (state, answered) in [
        ("ProtectionConfigured", "ProtectionConfigured"),
        ("ProtectionStopped", "ProtectionStopped"),
        ("BackupSchedulesSuspended", "BackupsSuspended"),
    ] {
        service.set_state(state).await;
        let answer = service.post_empty(&sync).await;
        assert_eq!(operation_state(&service, &answer).await, "Succeeded", "{state}");
        assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], answered);
    }
    let forced = json!({"syncType": "ForceResync"});
    let answer = service.post(&sync, forced.clone()).await;
    assert_eq!(operation_state(&service, &answer).await, "Succeeded", "what was suspended is not begun by a sync");
    assert_eq!(service.queued("configure").await.len(), before);
    service.set_state("ProtectionConfigured").await;
    let answer = service.post(&sync, forced).await;
    assert_eq!(operation_state(&service, &answer).await, "Inprogress");
    assert_eq!(service.queued("configure").await.len(), before + 1);
}

#[tokio::test]
async fn a_sync_that_cannot_be_changes_nothing() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let sync = format!("{id}/sync");
    service.set_state("ProtectionError").await;
    let answer = service.post(&sync, json!({"syncType": "Sometimes"})).await;
    assert_eq!(refusal(&answer), (400, "UserErrorInvalidParameterInRequest".to_owned()));
    assert_eq!(service.get(&id).await.json()["properties"]["currentProtectionState"], "ProtectionError");
    service.set_state("SoftDeleting").await;
    let answer = service.post_empty(&sync).await;
    assert_eq!(refusal(&answer), (409, "UserErrorOperationNotAllowedInState".to_owned()));
    let answer = service.post_empty(&format!("{}/backupInstances/none/sync", service.vault())).await;
    assert_eq!(refusal(&answer), (404, "ResourceNotFound".to_owned()));
    let (reader, object_id) = service.stranger("reader").await;
    service.assign(BACKUP_READER, &object_id, &service.vault()).await;
    let answer = service.send(&reader, Method::POST, &sync, None).await;
    assert_eq!(refusal(&answer), (403, "AuthorizationFailed".to_owned()));
}

#[tokio::test]
async fn nothing_of_blobs_can_be_rehydrated() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let point = service.add_point(1, "VaultStore").await;
    let operational = service.add_point(2, "OperationalStore").await;
    let path = format!("{id}/rehydrate");
    let of = |point: &str| json!({"recoveryPointId": point, "rehydrationRetentionDuration": "P7D", "rehydrationPriority": "High"});
    for (path, body, status, code) in [
        (path.clone(), of(&point), 400, "UserErrorRehydrationNotSupportedForDatasource"),
        (path.clone(), of(&operational), 400, "UserErrorRestorePointNotFound"),
        (path.clone(), of("none"), 400, "UserErrorRestorePointNotFound"),
        (path.clone(), json!({"recoveryPointId": point}), 400, "UserErrorInvalidParameterInRequest"),
        (format!("{}/backupInstances/none/rehydrate", service.vault()), json!({}), 404, "ResourceNotFound"),
    ] {
        let answer = service.post(&path, body).await;
        assert_eq!(refusal(&answer), (status, code.to_owned()), "{}", answer.text);
    }
}

struct CrossRegion {
    service: Service,
    vault: String,
    instance: String,
}

impl CrossRegion {
    async fn start() -> Self {
        let mut service = Service::start().await;
        let instance = service.protect().await;
        Self { vault: service.vault(), service, instance }
    }

    fn path(&self, action: &str) -> String {
        let (group, _) = self.vault.split_once("/backupVaults").unwrap();
        format!("{group}/locations/eastus/{action}")
    }

    fn restore(&self) -> Value {
        json!({
            "restoreRequestObject": {"objectType": "AzureBackupRecoveryPointBasedRestoreRequest", "recoveryPointId": "p"},
            "crossRegionRestoreDetails": {"sourceRegion": "West US", "sourceBackupInstanceId": self.instance}
        })
    }

    fn questions(&self) -> [(&'static str, Value); 3] {
        [
            (
                "fetchSecondaryRecoveryPoints",
                json!({"sourceRegion": "westus", "sourceBackupInstanceId": self.instance}),
            ),
            ("fetchCrossRegionRestoreJobs", json!({"sourceRegion": "westus", "sourceBackupVaultId": self.vault})),
            (
                "fetchCrossRegionRestoreJob",
                json!({"sourceRegion": "westus", "sourceBackupVaultId": self.vault, "jobId": "none"}),
            ),
        ]
    }
}

#[tokio::test]
async fn a_restore_from_another_region_is_refused_for_blobs() {
    let world = CrossRegion::start().await;
    for action in ["crossRegionRestore", "validateCrossRegionRestore"] {
        let answer = world.service.post(&world.path(action), world.restore()).await;
        let code = "UserErrorCrossRegionRestoreNotSupportedForDatasource";
        assert_eq!(refusal(&answer), (400, code.to_owned()), "{action}");
        for (pointer, value, status, code) in [
            ("/restoreRequestObject", Value::Null, 400, "UserErrorInvalidParameterInRequest"),
            ("/crossRegionRestoreDetails/sourceRegion", json!("mars"), 400, "UserErrorInvalidParameterInRequest"),
            (
                "/crossRegionRestoreDetails/sourceBackupInstanceId",
                json!(world.vault),
                400,
                "UserErrorInvalidResourceUriInRequest",
            ),
            (
                "/crossRegionRestoreDetails/sourceBackupInstanceId",
                json!(format!("{}2", world.instance)),
                404,
                "ResourceNotFound",
            ),
        ] {
            let mut body = world.restore();
            *body.pointer_mut(pointer).unwrap() = value;
            let answer = world.service.post(&world.path(action), body).await;
            assert_eq!(refusal(&answer), (status, code.to_owned()), "{action} {pointer}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_secondary_region_of_a_vault_is_empty() {
    let world = CrossRegion::start().await;
    for (action, body) in world.questions() {
        let answer = world.service.post(&world.path(action), body).await;
        assert_eq!(refusal(&answer), (400, "UserErrorCrossRegionRestoreNotEnabled".to_owned()), "{action}");
    }
    let enabled = json!({"properties": {"featureSettings": {"crossRegionRestoreSettings": {"state": "Enabled"}}}});
    assert_eq!(world.service.patch(&world.vault, enabled).await.status, 200);
    for (action, body) in world.questions() {
        let answer = world.service.post(&world.path(action), body).await;
        if action == "fetchCrossRegionRestoreJob" {
            assert_eq!(refusal(&answer), (404, "ResourceNotFound".to_owned()));
        } else {
            assert_eq!((answer.status, answer.json()), (200, json!({"value": []})), "{action}");
        }
    }
    let elsewhere = json!({"sourceRegion": "westus", "sourceBackupVaultId": world.service.vault_named("none")});
    let answer = world.service.post(&world.path("fetchCrossRegionRestoreJobs"), elsewhere).await;
    assert_eq!(refusal(&answer), (404, "ResourceNotFound".to_owned()));
}

#[tokio::test]
async fn who_asks_about_another_region_must_be_able_to_read_the_source() {
    let world = CrossRegion::start().await;
    let (token, object_id) = world.service.stranger("elsewhere").await;
    let mut other = world.path("").replace("TestBkpVaultRG", "RG-BlobBackup");
    let group = other.split_once("/providers").unwrap().0.to_owned();
    world.service.assign(CONTRIBUTOR, &object_id, &group).await;
    other.truncate(other.len() - 1);
    for (action, body) in world.questions().into_iter().chain([("crossRegionRestore", world.restore())]) {
        let answer = world.service.send(&token, Method::POST, &format!("{other}/{action}"), Some(&body)).await;
        assert_eq!(refusal(&answer), (403, "LinkedAuthorizationFailed".to_owned()), "{action}");
        let answer = world.service.send(&token, Method::POST, &world.path(action), Some(&body)).await;
        assert_eq!(refusal(&answer), (403, "AuthorizationFailed".to_owned()), "{action}");
    }
}
