//! The table of critical operations, what a request may say, and the answers' shapes.

use super::*;
use crate::vault::VaultRequest;

const GUARD: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/resourceGuards/guard";

fn guard(exclusions: &[String]) -> Value {
    GuardView { id: GUARD, name: "guard", location: "westus", tags: &Map::new(), exclusions }.render()
}

fn exclusions(names: &[&str]) -> Result<Vec<String>, Invalid> {
    let body = json!({"location": "westus", "properties": {"VaultCriticalOperationExclusionList": names}});
    GuardRequest::parse(&body).map(|request| request.exclusions.unwrap_or_default())
}

#[test]
fn a_guard_lists_eighteen_operations_and_leaves_out_what_is_excluded() {
    let all = guard(&[]);
    assert_eq!(all["properties"]["resourceGuardOperations"].as_array().map(Vec::len), Some(18));
    let some = exclusions(&[
        "microsoft.recoveryservices/vaults/backuppolicies/WRITE",
        CriticalOperation::Restore.name(),
        CriticalOperation::Restore.name(),
    ]);
    let some = some.unwrap();
    assert_eq!(some, ["Microsoft.RecoveryServices/vaults/backupPolicies/write", CriticalOperation::Restore.name()]);
    let fewer = guard(&some);
    let operations = fewer["properties"]["resourceGuardOperations"].as_array().unwrap();
    assert_eq!(operations.len(), 16);
    assert!(!fewer["properties"]["resourceGuardOperations"].to_string().contains("backupInstances/restore/action"));
    assert_eq!(fewer["properties"]["vaultCriticalOperationExclusionList"], json!(some));
}

#[test]
fn operations_that_no_guard_lists_are_excluded_all_the_same_where_clients_do() {
    let excluded = exclusions(&["Microsoft.RecoveryServices/vaults/backupConfig/delete"]).unwrap();
    assert_eq!(excluded, ["Microsoft.RecoveryServices/vaults/backupconfig/delete"]);
    assert_eq!(guard(&excluded)["properties"]["resourceGuardOperations"].as_array().map(Vec::len), Some(18));
}

#[test]
fn what_is_mandatory_or_unknown_cannot_be_excluded() {
    for operation in [
        CriticalOperation::RemoveGuard.name(),
        CriticalOperation::ReduceSoftDelete.name(),
        "Microsoft.RecoveryServices/vaults/backupconfig/write",
        "Microsoft.RecoveryServices/vaults/backupResourceGuardProxies/delete",
    ] {
        let invalid = exclusions(&[operation]).unwrap_err();
        assert_eq!(invalid.target, EXCLUSIONS);
        assert!(invalid.message.contains("mandatory"), "{}", invalid.message);
    }
    let policies = "Microsoft.DataProtection/backupVaults/backupPolicies/write";
    assert!(exclusions(&[policies]).is_err(), "it is as critical as the change of an instance, and goes with that");
    assert!(exclusions(&["backupInstances/delete"]).unwrap_err().message.contains("'backupInstances/delete' is not"));
    let forged = CriticalOperation::ALL.iter().map(|operation| operation.name().to_owned()).collect::<Vec<_>>();
    assert!(!is_excluded(CriticalOperation::RemoveGuard, &forged) && is_excluded(CriticalOperation::Restore, &forged));
}

#[test]
fn a_guard_is_answered_in_the_recorded_shape() {
    let answer = guard(&[]);
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["location", "properties", "id", "name", "type"]);
    let operations = &answer["properties"]["resourceGuardOperations"];
    assert_eq!(
        operations[5],
        json!({"vaultCriticalOperation": "Microsoft.RecoveryServices/vaults/backupconfig/write",
            "requestResourceType": "Microsoft.DataProtection/resourceGuards/disableSoftDeleteRequests"})
    );
    let own = "Microsoft.DataProtection/backupVaults/backupInstances/delete";
    assert_eq!(operations[9], json!({"vaultCriticalOperation": own, "requestResourceType": own}));
    assert_eq!(answer["properties"]["allowAutoApprovals"], true);
}

#[test]
fn a_link_is_answered_in_the_recorded_shape() {
    let excluded: Vec<String> = CriticalOperation::ALL[4..].iter().map(|each| each.name().to_owned()).collect();
    let view = ProxyView {
        id: "/vault/backupResourceGuardProxies/p",
        name: "p",
        guard_id: "/guard",
        exclusions: &excluded,
        description: None,
        updated_at: 1_663_328_677_613_004,
    };
    insta::assert_json_snapshot!(view.render(), @r#"
        {
          "properties": {
            "resourceGuardResourceId": "/guard",
            "resourceGuardOperationDetails": [
              {
                "vaultCriticalOperation": "Microsoft.DataProtection/backupVaults/backupInstances/delete",
                "defaultResourceRequest": "/guard/deleteBackupInstanceRequests/default"
              },
              {
                "vaultCriticalOperation": "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
                "defaultResourceRequest": "/guard/deleteResourceGuardProxyRequests/default"
              },
              {
                "vaultCriticalOperation": "Microsoft.DataProtection/backupVaults/write#reduceImmutabilityState",
                "defaultResourceRequest": "/guard/dppReduceImmutabilityStateRequests/default"
              },
              {
                "vaultCriticalOperation": "Microsoft.DataProtection/backupVaults/write#reduceSoftDeleteSecurity",
                "defaultResourceRequest": "/guard/dppReduceSoftDeleteSecurityRequests/default"
              }
            ],
            "lastUpdatedTime": "2022-09-16T11:44:37.6130040Z"
          },
          "id": "/vault/backupResourceGuardProxies/p",
          "name": "p",
          "type": "Microsoft.DataProtection/vaults/backupResourceGuardProxies"
        }
        "#);
}

#[test]
fn a_link_names_a_guard_and_nothing_else() {
    let of = |id: Value| ProxyRequest::parse(&json!({"Properties": {"resourceGuardResourceID": id}}));
    let read = of(json!(GUARD.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions"))).unwrap();
    assert_eq!(read.guard.folded(), GUARD.to_lowercase());
    for id in [json!(null), json!(""), json!("guard"), json!("/subscriptions/s"), json!(format!("{GUARD}/x/default"))] {
        assert_eq!(of(id.clone()).unwrap_err().code, ErrorCode::UserErrorInvalidResourceUriInRequest, "{id}");
    }
    assert_eq!(of(json!(3)).unwrap_err().code, ErrorCode::UserErrorInvalidParameterInRequest);
}

#[test]
fn request_lists_are_read_folded_wherever_they_stand() {
    let body = json!({"ResourceGuardOperationRequests": ["/A/b/ ", null]});
    assert_eq!(operation_requests(Some(&body)).unwrap(), ["/a/b"]);
    assert_eq!(operation_requests(Some(&json!({}))).unwrap(), Vec::<String>::new());
    assert_eq!(operation_requests(None).unwrap(), Vec::<String>::new());
    for wrong in [json!("x"), json!([1]), json!({})] {
        let body = json!({"resourceGuardOperationRequests": wrong});
        assert_eq!(operation_requests(Some(&body)).unwrap_err().target, REQUESTS, "{body}");
    }
}

#[test]
fn only_what_weakens_a_vault_is_critical() {
    let settings = |soft_delete: &str, days: u32, immutability: &str| {
        let body = json!({"properties": {"securitySettings": {
            "softDeleteSettings": {"state": soft_delete, "retentionDurationInDays": days},
            "immutabilitySettings": {"state": immutability}}}});
        VaultRequest::parse(&body).unwrap().properties
    };
    let before = settings("On", 30, "Unlocked");
    let both = vec![CriticalOperation::ReduceImmutability, CriticalOperation::ReduceSoftDelete];
    for (after, expected) in [
        (settings("On", 30, "Unlocked"), Vec::new()),
        (settings("AlwaysOn", 90, "Locked"), Vec::new()),
        (settings("On", 30, "Disabled"), vec![CriticalOperation::ReduceImmutability]),
        (settings("Off", 30, "Locked"), vec![CriticalOperation::ReduceSoftDelete]),
        (settings("On", 29, "Unlocked"), vec![CriticalOperation::ReduceSoftDelete]),
        (settings("AlwaysOn", 14, "Unlocked"), vec![CriticalOperation::ReduceSoftDelete]),
        (settings("Off", 30, "Disabled"), both),
    ] {
        assert_eq!(CriticalOperation::of_change(&before, &after), expected, "{after:?}");
    }
    let off = settings("Off", 180, "Disabled");
    assert_eq!(CriticalOperation::of_change(&off, &settings("On", 14, "Disabled")), Vec::new(), "more than nothing");
}

#[test]
fn request_types_are_known_in_any_case() {
    assert_eq!(request_type("DPPMODIFYPOLICY"), Some("dppModifyPolicy"));
    assert_eq!(request_type("disablesoftdeleterequests"), Some("disableSoftDeleteRequests"));
    assert_eq!(request_type("providers"), None);
    for operation in CriticalOperation::ALL {
        assert_eq!(request_type(operation.request_type()), Some(operation.request_type()));
    }
}

#[test]
fn names_of_links_are_letters_and_digits() {
    assert!(check_proxy_name("DppResourceGuardProxy").is_ok());
    for name in ["", "a-b", "a b", "ä"] {
        assert!(check_proxy_name(name).is_err(), "{name}");
    }
}
