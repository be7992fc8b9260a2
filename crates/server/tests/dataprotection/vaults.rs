//! Vaults and policies: made, changed, refused and removed.

use serde_json::{Value, json};

use crate::service::{Service, policy};

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
    assert_eq!(service.queued("expire").await.len(), 1, "existing points follow the new retention");
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
