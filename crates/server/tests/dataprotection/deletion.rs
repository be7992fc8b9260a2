//! What a deletion of an instance keeps, and for how long.

use serde_json::json;

use crate::service::Service;

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
        let spec = service.queued("delete_instance").await.remove(0);
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
