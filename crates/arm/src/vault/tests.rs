//! Defaults, limits and promises of vault settings, and the answer's shape.

use serde_json::json;

use super::*;
use crate::error::ErrorCode;

fn properties(settings: Value) -> Result<VaultProperties, Invalid> {
    VaultRequest::parse(&json!({"location": "westus", "properties": settings})).map(|request| request.properties)
}

fn security(soft_delete: &str, immutability: &str) -> VaultProperties {
    properties(json!({"securitySettings": {
        "softDeleteSettings": {"state": soft_delete, "retentionDurationInDays": 14},
        "immutabilitySettings": {"state": immutability}}}))
    .unwrap()
}

#[test]
fn a_new_vault_keeps_deleted_data_for_fourteen_days() {
    let settings = properties(json!({})).unwrap().with_defaults();
    assert_eq!(
        serde_json::to_value(&settings).unwrap(),
        json!({
            "securitySettings": {"softDeleteSettings": {"state": "On", "retentionDurationInDays": 14}},
            "storageSettings": [{"datastoreType": "VaultStore", "type": "LocallyRedundant"}],
        })
    );
}

#[test]
fn members_and_words_are_read_in_any_case_and_nulls_are_absent() {
    let request = VaultRequest::parse(&json!({
        "LOCATION": "West US", "tags": {"Location": "mine"}, "identity": {"TYPE": "systemassigned", "principalId": "x"},
        "properties": {"StorageSettings": [{"dataStoreType": "vaultstore", "type": "georedundant"}],
            "monitoringSettings": null, "securitySettings": {"softDeleteSettings": {"retentionDurationInDays": 30.0}}}
    }))
    .unwrap();
    assert_eq!(request.identity, Some(IdentityType::SystemAssigned));
    assert_eq!(request.location.as_deref(), Some("West US"));
    assert_eq!(request.tags.unwrap().get("Location"), Some(&json!("mine")));
    assert_eq!(request.properties.storage_settings[0].redundancy, StorageRedundancy::GeoRedundant);
    assert_eq!(request.properties.soft_delete_days(), 30);
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    for (settings, expected) in [
        (json!({"securitySettings": {"softDeleteSettings": {"retentionDurationInDays": 7}}}), "14 to 180"),
        (json!({"securitySettings": {"softDeleteSettings": {"retentionDurationInDays": 14.5}}}), "whole number"),
        (json!({"securitySettings": {"softDeleteSettings": {"state": "Sometimes"}}}), "'Sometimes' is not one of"),
        (
            json!({"storageSettings": [{"datastoreType": "VaultStore", "type": "LocallyRedundant"},
                {"datastoreType": "VaultStore", "type": "GeoRedundant"}]}),
            "two storage settings",
        ),
    ] {
        let message = properties(settings).unwrap_err().message;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    let user_assigned = json!({"identity": {"type": "UserAssigned"}});
    assert!(VaultRequest::parse(&user_assigned).unwrap_err().message.contains("'UserAssigned' is not supported"));
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let vault = security("On", "Unlocked").with_defaults();
    let patch = properties(json!({"featureSettings": {"crossSubscriptionRestoreSettings": {"state": "Disabled"}}}));
    let merged = vault.merged(&patch.unwrap()).unwrap();
    assert_eq!(merged.immutability(), ImmutabilityState::Unlocked);
    assert_eq!(merged.cross_subscription_restore(), CrossSubscriptionRestore::Disabled);
    assert_eq!(merged.storage_settings.len(), 1);
}

#[test]
fn promises_for_good_cannot_be_taken_back() {
    let refused = |from: &VaultProperties, to: &VaultProperties| from.check_change(to, "/vault").unwrap_err().code;
    let code = ErrorCode::UserErrorDisableSoftDeleteNotAllowed;
    assert_eq!(refused(&security("AlwaysOn", "Disabled"), &security("On", "Disabled")), code);
    assert_eq!(refused(&security("AlwaysOn", "Disabled"), &security("Off", "Disabled")), code);
    let code = ErrorCode::UserErrorUnsupportedVaultImmutabilityStateChange;
    assert_eq!(refused(&security("On", "Locked"), &security("On", "Unlocked")), code);
    let free = [("On", "Off"), ("Off", "On"), ("On", "AlwaysOn")];
    for (from, to) in free {
        assert!(security(from, "Unlocked").check_change(&security(to, "Disabled"), "/vault").is_ok());
    }
}

#[test]
fn a_vault_is_answered_in_the_shape_of_the_specification() {
    let view = VaultView {
        id: "/id",
        name: "testBkpVault",
        location: "westus",
        tags: &Map::new(),
        identity: Some(("p", "t")),
        properties: &properties(json!({})).unwrap().with_defaults(),
        provisioning_state: "Succeeded",
        is_guarded: false,
    };
    insta::assert_json_snapshot!(view.render(), @r#"
        {
          "identity": {
            "principalId": "p",
            "tenantId": "t",
            "type": "SystemAssigned"
          },
          "id": "/id",
          "name": "testBkpVault",
          "type": "Microsoft.DataProtection/backupVaults",
          "location": "westus",
          "tags": {},
          "properties": {
            "securitySettings": {
              "softDeleteSettings": {
                "state": "On",
                "retentionDurationInDays": 14
              }
            },
            "storageSettings": [
              {
                "datastoreType": "VaultStore",
                "type": "LocallyRedundant"
              }
            ],
            "replicatedRegions": [],
            "provisioningState": "Succeeded",
            "isVaultProtectedByResourceGuard": false,
            "secureScore": "Minimum",
            "bcdrSecurityLevel": "Fair"
          }
        }
        "#);
}

#[test]
fn the_score_follows_soft_delete_and_immutability() {
    for (soft_delete, immutability, expected) in [
        ("Off", "Disabled", ("None", "Poor")),
        ("Off", "Locked", ("None", "Poor")),
        ("On", "Disabled", ("Minimum", "Fair")),
        ("On", "Unlocked", ("Minimum", "Fair")),
        ("On", "Locked", ("Adequate", "Good")),
        ("AlwaysOn", "Disabled", ("Adequate", "Good")),
        ("AlwaysOn", "Unlocked", ("Adequate", "Good")),
        ("AlwaysOn", "Locked", ("Adequate", "Good")),
    ] {
        assert_eq!(security(soft_delete, immutability).scores(false), expected, "{soft_delete}, {immutability}");
        let best = (soft_delete, immutability) == ("AlwaysOn", "Locked");
        let guarded = if best { ("Maximum", "Excellent") } else { expected };
        assert_eq!(security(soft_delete, immutability).scores(true), guarded, "{soft_delete}, {immutability}, guarded");
    }
}

#[test]
fn names_of_vaults_follow_the_rule() {
    for name in ["ab", "testBkpVault", "a-1", &"a".repeat(50)] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", "a", "1a", "-ab", "ab-", "a_b", "a b", "väult", &"a".repeat(51)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
