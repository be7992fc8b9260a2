//! What a request may say of encryption, and which change of the key it is.

use serde_json::{Value, json};

use super::*;
use crate::vault::VaultRequest;

const KEY: &str = "https://my.vault.azure.net/keys/Key1/0767b348bb1a4c07baa6c4ec0055d2b3";
const OTHER: &str = "https://my.vault.azure.net/keys/Key2";
const NOT_ALLOWED: ErrorCode = ErrorCode::UserErrorEncryptionSettingsChangeNotAllowed;
const PARAMETER: ErrorCode = ErrorCode::UserErrorInvalidParameterInRequest;

fn parsed(settings: &Value) -> Result<VaultProperties, Invalid> {
    let body = json!({"location": "westus", "properties": {"securitySettings": {"encryptionSettings": settings}}});
    VaultRequest::parse(&body).map(|request| request.properties)
}

fn enabled(uri: &str) -> Value {
    json!({"state": "Enabled", "keyVaultProperties": {"keyUri": uri}})
}

/// What a vault with these settings becomes by a request with those.
fn changed(before: &Value, request: &Value) -> Result<(KeyChange, Value), ApiError> {
    let mut was = parsed(before).unwrap();
    if was.encryption_state() == EncryptionState::Enabled {
        was.settle_encryption(None, "/vault").unwrap();
    }
    let mut next = was.merged(&parsed(request)?)?;
    let change = next.settle_encryption(Some(&was), "/vault")?;
    Ok((change, serde_json::to_value(next.encryption()).unwrap()))
}

fn code(before: &Value, request: &Value) -> ErrorCode {
    changed(before, request).unwrap_err().code
}

#[test]
fn a_key_uri_is_https_and_names_a_key() {
    for good in
        [KEY, OTHER, "HTTPS://H/Keys/a", "https://localhost:8200/keys/a-1/2/", "https://x.managedhsm.azure.net/keys/k"]
    {
        assert!(check_key_uri(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "http://my.vault.azure.net/keys/Key1",
        "https://my.vault.azure.net",
        "https://my.vault.azure.net/keys",
        "https://my.vault.azure.net/keys/",
        "https://my.vault.azure.net/secrets/Key1",
        "https://my.vault.azure.net/keys/Key1/v/more",
        "https://my.vault.azure.net/keys/Key1?x=y",
        "https://my.vault.azure.net/keys/Key 1",
        "https://user@host/keys/k",
        "https:///keys/k",
        "file:///keys/k",
    ] {
        assert!(check_key_uri(bad).is_err(), "{bad}");
        if !bad.is_empty() {
            assert_eq!(parsed(&enabled(bad)).unwrap_err().target, KEY_URI, "{bad}");
        }
    }
    assert_eq!(fold_key_uri("https://My.Vault.Azure.Net/keys/Key2/"), fold_key_uri(OTHER.to_uppercase().as_str()));
}

#[test]
fn a_new_vault_is_made_under_its_key() {
    let mut vault = parsed(&enabled(KEY)).unwrap();
    assert_eq!(vault.settle_encryption(None, "/vault").unwrap(), KeyChange::New(KEY.to_owned()));
    assert_eq!((vault.encryption_state(), vault.key_uri()), (EncryptionState::Enabled, Some(KEY)));
    let mut plain = VaultProperties::default();
    assert_eq!(plain.settle_encryption(None, "/vault").unwrap(), KeyChange::None);
    assert_eq!((plain.encryption_state(), plain.key_uri()), (EncryptionState::Disabled, None));
}

#[test]
fn another_key_leaves_the_state_inconsistent_until_it_guards_the_vault() {
    for before in [json!({}), json!({"state": "Disabled"}), enabled(OTHER)] {
        let (change, settings) = changed(&before, &enabled(KEY)).unwrap();
        assert_eq!(change, KeyChange::Change(KEY.to_owned()), "{before}");
        assert_eq!(settings["state"], "Inconsistent");
        let mut done = parsed(&enabled(KEY)).unwrap();
        done.set_encryption_state(EncryptionState::Inconsistent);
        done.set_guarded();
        assert_eq!(done.encryption_state(), EncryptionState::Enabled);
    }
    let (change, _) = changed(&enabled(OTHER), &json!({"keyVaultProperties": {"keyUri": KEY}})).unwrap();
    assert_eq!(change, KeyChange::Change(KEY.to_owned()), "the state may be left out where it is Enabled");
}

#[test]
fn the_same_settings_again_change_nothing_and_a_change_that_failed_is_tried_again() {
    assert_eq!(changed(&enabled(KEY), &enabled(&format!("{}/", KEY.to_uppercase()))).unwrap().0, KeyChange::None);
    assert_eq!(changed(&enabled(KEY), &json!({})).unwrap().0, KeyChange::None);
    let mut failed = parsed(&enabled(KEY)).unwrap();
    failed.set_encryption_state(EncryptionState::Inconsistent);
    for (request, expected) in [
        (json!({}), KeyChange::None),
        (enabled(KEY), KeyChange::Change(KEY.to_owned())),
        (json!({"keyVaultProperties": {"keyUri": OTHER}}), KeyChange::Change(OTHER.to_owned())),
    ] {
        let mut next = failed.merged(&parsed(&request).unwrap()).unwrap();
        assert_eq!(next.settle_encryption(Some(&failed), "/vault").unwrap(), expected, "{request}");
        assert_eq!(next.encryption_state(), EncryptionState::Inconsistent);
    }
}

#[test]
fn a_key_of_ones_own_is_never_given_up_again() {
    assert_eq!(code(&enabled(KEY), &json!({"state": "Disabled"})), NOT_ALLOWED);
    let mut failed = parsed(&enabled(KEY)).unwrap();
    failed.set_encryption_state(EncryptionState::Inconsistent);
    let mut next = failed.merged(&parsed(&json!({"state": "Disabled"})).unwrap()).unwrap();
    assert_eq!(next.settle_encryption(Some(&failed), "/vault").unwrap_err().code, NOT_ALLOWED);
}

#[test]
fn infrastructure_encryption_is_decided_when_a_vault_is_made() {
    let with = |state: &str| {
        let mut settings = enabled(KEY);
        settings["infrastructureEncryption"] = json!(state);
        settings
    };
    assert_eq!(changed(&with("Enabled"), &with("Enabled")).unwrap().0, KeyChange::None);
    assert_eq!(changed(&enabled(KEY), &with("Disabled")).unwrap().0, KeyChange::None);
    for (before, request) in [
        (enabled(KEY), with("Enabled")),
        (json!({}), with("Enabled")),
        (with("Enabled"), with("Disabled")),
        (json!({}), json!({"infrastructureEncryption": "Enabled"})),
    ] {
        assert_eq!(code(&before, &request), NOT_ALLOWED, "{before} to {request}");
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let refused = |settings: Value| {
        let mut properties = parsed(&settings).unwrap();
        properties.settle_encryption(None, "/vault").unwrap_err().code
    };
    assert_eq!(refused(json!({"state": "Enabled"})), PARAMETER);
    assert_eq!(refused(json!({"keyVaultProperties": {"keyUri": KEY}})), PARAMETER);
    assert_eq!(refused(json!({"state": "Disabled", "keyVaultProperties": {"keyUri": KEY}})), PARAMETER);
    assert_eq!(refused(json!({"infrastructureEncryption": "Enabled"})), PARAMETER);
    assert!(parsed(&json!({"state": "Inconsistent"})).is_err());
    assert!(parsed(&json!({"state": "On"})).is_err());
    for identity in [
        json!({"identityType": "UserAssigned"}),
        json!({"identityType": "SystemAssigned", "identityId": "/x"}),
        json!({"identityId": "/x"}),
        json!({"identityType": "Anybody"}),
    ] {
        assert!(parsed(&json!({"kekIdentity": identity})).is_err(), "{identity}");
    }
}

#[test]
fn an_identity_is_replaced_as_a_whole() {
    let mut before = enabled(KEY);
    before["kekIdentity"] = json!({"identityType": "UserAssigned", "identityId": "/identity"});
    let mut request = enabled(KEY);
    request["kekIdentity"] = json!({"identityType": "systemassigned"});
    let (change, settings) = changed(&before, &request).unwrap();
    assert_eq!(change, KeyChange::None);
    assert_eq!(settings["kekIdentity"], json!({"identityType": "SystemAssigned"}));
}

#[test]
fn what_is_changed_needs_an_approval_and_what_is_tried_again_does_not() {
    use crate::guard::CriticalOperation;
    let of = |settings: &Value| parsed(settings).unwrap();
    let found = |from: &Value, to: &Value| CriticalOperation::of_change(&of(from), &of(to));
    assert_eq!(found(&enabled(KEY), &enabled(OTHER)), [CriticalOperation::ModifyEncryption]);
    assert_eq!(found(&json!({}), &enabled(OTHER)), [CriticalOperation::ModifyEncryption]);
    assert!(found(&enabled(KEY), &enabled(KEY)).is_empty());
    assert!(found(&json!({}), &json!({"state": "Disabled"})).is_empty());
}
