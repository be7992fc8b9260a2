//! What a restore request may say, and what is wrong with others.

use super::*;
use serde_json::json;

const ACCOUNT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/target";

fn vaulted(target: Value) -> Value {
    json!({"objectType": "AzureBackupRecoveryPointBasedRestoreRequest", "recoveryPointId": "abc",
        "sourceDataStoreType": "VaultStore", "restoreTargetInfo": target, "identityDetails": null})
}

fn operational(target: Value) -> Value {
    json!({"objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
        "recoveryPointTime": "2025-03-01T00:00:00.0000000Z", "sourceDataStoreType": "OperationalStore",
        "restoreTargetInfo": target})
}

fn all() -> Value {
    json!({"objectType": "RestoreTargetInfo", "recoveryOption": "FailIfExists", "restoreLocation": "westus",
        "datasourceInfo": {"resourceId": ACCOUNT, "datasourceType": "Microsoft.Storage/storageAccounts/blobServices"}})
}

fn part(criteria: Value) -> Value {
    let mut target = all();
    target["objectType"] = json!("itemLevelRestoreTargetInfo");
    target["restoreCriteria"] = criteria;
    target
}

fn paths(items: &[(&str, &[&str], Option<&str>)]) -> Value {
    items
        .iter()
        .map(|(path, prefixes, rename)| {
            json!({"objectType": "ItemPathBasedRestoreCriteria", "itemPath": path, "isPathRelativeToBackupItem": true,
                "subItemPathPrefix": prefixes, "renameTo": rename})
        })
        .collect()
}

fn ranges(items: &[(&str, &str)]) -> Value {
    items
        .iter()
        .map(|(min, max)| {
            json!({"objectType": "RangeBasedItemLevelRestoreCriteria", "minMatchingValue": min, "maxMatchingValue": max})
        })
        .collect()
}

#[test]
fn the_four_documented_forms_are_read() {
    let request = RestoreRequest::parse(&vaulted(all())).unwrap();
    assert_eq!(request.source, RestoreSource::Point("abc".to_owned()));
    assert_eq!((request.selection, request.option), (RestoreSelection::All, RecoveryOption::FailIfExists));
    assert_eq!(request.target.resource_name, "target");

    let request =
        RestoreRequest::parse(&vaulted(part(paths(&[("c-one", &["a/", "b"], None), ("two", &[], Some("new"))]))))
            .unwrap();
    let RestoreSelection::Containers(containers) = request.selection else { panic!("containers") };
    assert_eq!(containers[0].prefixes, ["a/", "b"]);
    assert_eq!(containers[1].rename_to.as_deref(), Some("new"));

    let request = RestoreRequest::parse(&operational(all())).unwrap();
    assert_eq!(request.source, RestoreSource::Time(parse_instant("2025-03-01T00:00:00Z").unwrap()));

    let request = RestoreRequest::parse(&operational(part(ranges(&[("c", "c-0"), ("d/a", "d/b")])))).unwrap();
    let RestoreSelection::Ranges(ranges) = request.selection else { panic!("ranges") };
    assert_eq!(ranges[0], NameRange { min: Some("c".to_owned()), max: Some("c-0".to_owned()) });
}

#[test]
fn validation_wraps_the_same_request() {
    let body = json!({"restoreRequestObject": vaulted(all())});
    assert_eq!(RestoreRequest::parse_validation(&body), RestoreRequest::parse(&vaulted(all())));
    assert!(RestoreRequest::parse_validation(&vaulted(all())).is_err());
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let with = |member: &str, value: Value| {
        let mut body = vaulted(all());
        body[member] = value;
        body
    };
    for (body, expected) in [
        (with("sourceDataStoreType", json!("OperationalStore")), "reads from VaultStore"),
        (with("recoveryPointId", json!(null)), "recoveryPointId"),
        (with("objectType", json!("AzureBackupRestoreWithRehydrationRequest")), "not supported for blobs"),
        (
            with(
                "restoreTargetInfo",
                json!({"objectType": "RestoreFilesTargetInfo", "recoveryOption": "FailIfExists"}),
            ),
            "'RestoreFilesTargetInfo' is not one of",
        ),
        (with("restoreTargetInfo", json!({"objectType": "RestoreTargetInfo"})), "datasourceInfo"),
        (with("identityDetails", json!({"userAssignedIdentityArmUrl": "/i"})), "User-assigned identities"),
        (vaulted(part(json!([]))), "No containers"),
        (vaulted(part(ranges(&[("a", "b")]))), "selects containers"),
        (vaulted(part(paths(&[("one", &[], None), ("one", &[], None)]))), "two criteria restore into"),
        (vaulted(part(paths(&[("one", &[], Some("two")), ("two", &[], None)]))), "two criteria restore into"),
        (vaulted(part(paths(&[("Bad Name", &[], None)]))), "not a container name"),
        (operational(part(ranges(&[("b", "a")]))), "not greater"),
        (operational(part(ranges(&[("$web", "$web-0")]))), "system containers"),
    ] {
        let message = RestoreRequest::parse(&body).unwrap_err().message;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

#[test]
fn targets_must_be_storage_accounts() {
    let mut target = all();
    target["datasourceInfo"]["resourceId"] = json!("/subscriptions/s");
    let error = RestoreRequest::parse(&vaulted(target)).unwrap_err();
    assert_eq!(error.code, ErrorCode::UserErrorInvalidResourceUriInRequest);
}

#[test]
fn the_tier_of_what_is_restored_may_be_asked_for_in_a_member_of_our_own() {
    let tier = |own: Value| {
        let mut body = vaulted(all());
        body["blobkeep"] = own;
        RestoreRequest::parse(&body).map(|request| request.tier)
    };
    assert_eq!(RestoreRequest::parse(&vaulted(all())).unwrap().tier, None);
    assert_eq!(tier(json!(null)), Ok(None));
    assert_eq!(tier(json!({"AccessTier": "archive"})), Ok(Some(AccessTier::Archive)));
    for wrong in [json!({"accessTier": "Frozen"}), json!({"tier": "Archive"}), json!("Archive")] {
        let error = tier(wrong.clone()).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorInvalidParameterInRequest, "{wrong}");
    }
}

#[test]
fn on_demand_backups_name_a_rule() {
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily", "triggerOption": {}}});
    let expected = AdhocRequest { rule_name: "BackupDaily".to_owned(), tag_override: None };
    assert_eq!(AdhocRequest::parse(&body), Ok(expected));
    let body =
        json!({"backupruleoptions": {"rulename": "BackupDaily", "triggerOption": {"retentionTagOverride": "Weekly"}}});
    assert_eq!(AdhocRequest::parse(&body).unwrap().tag_override.as_deref(), Some("Weekly"));
    assert!(AdhocRequest::parse(&json!({})).is_err());
}
