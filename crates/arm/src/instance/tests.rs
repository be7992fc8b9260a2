//! How instances are read, what is refused, and the documented answer.

use serde_json::json;

use super::*;

/// The body of the public how-to, as printed there.
fn seed_put() -> Value {
    json!({
      "name": "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d",
      "type": "Microsoft.DataProtection/backupvaults/backupInstances",
      "properties": {
        "objectType": "BackupInstance",
        "datasourceinfo": {
          "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
          "objectType": "Datasource",
          "resourceID": "/subscriptions/s/resourceGroups/RG-BlobBackup/providers/Microsoft.Storage/storageAccounts/msblobbackup",
          "resourceLocation": "westus",
          "resourceName": "msblobbackup",
          "resourceType": "Microsoft.Storage/storageAccounts",
          "resourceUri": ""
        },
        "policyInfo": {
          "policyId": "/subscriptions/s/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults/testBkpVault/backupPolicies/BlobBackup-Policy"
        }
      }
    })
}

fn with_parameters(parameters: Value) -> Result<BackupInstance, Invalid> {
    let mut body = seed_put();
    body["properties"]["policyInfo"]["policyParameters"] =
        json!({"dataStoreParametersList": [], "backupDatasourceParametersList": parameters});
    InstanceRequest::parse(&body).map(|request| request.instance)
}

#[test]
fn the_seeds_instance_is_answered_as_in_the_seed() {
    let InstanceRequest { tags, instance } = InstanceRequest::parse(&seed_put()).unwrap();
    assert_eq!(tags, None);
    let view = InstanceView {
        id: "/the/id",
        name: "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d",
        instance: &instance,
        tags: &Map::new(),
        state: ProtectionState::ConfiguringProtection,
        provisioning_state: "Provisioning",
        error: None,
        deletion: None,
    };
    let expected = r#"{
  "id": "/the/id",
  "name": "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d",
  "type": "Microsoft.DataProtection/backupVaults/backupInstances",
  "properties": {
    "friendlyName": "msblobbackup",
    "dataSourceInfo": {
      "resourceID": "/subscriptions/s/resourceGroups/RG-BlobBackup/providers/Microsoft.Storage/storageAccounts/msblobbackup",
      "resourceUri": "",
      "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
      "resourceName": "msblobbackup",
      "resourceType": "Microsoft.Storage/storageAccounts",
      "resourceLocation": "westus",
      "objectType": "Datasource"
    },
    "policyInfo": {
      "policyId": "/subscriptions/s/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults/testBkpVault/backupPolicies/BlobBackup-Policy"
    },
    "protectionStatus": {
      "status": "ConfiguringProtection"
    },
    "currentProtectionState": "ConfiguringProtection",
    "provisioningState": "Provisioning",
    "objectType": "BackupInstance"
  }
}"#;
    assert_eq!(serde_json::to_string_pretty(&view.render()).unwrap(), expected);
}

#[test]
fn bodies_of_the_command_line_client_are_read() {
    let body = json!({"objectType": "ValidateForBackupRequest", "backupInstance": {
        "dataSourceInfo": {"resourceId": "/subscriptions/s/resourcegroups/g/providers/Microsoft.Storage/storageAccounts/acc"},
        "dataSourceSetInfo": null, "datasourceAuthCredentials": null, "objectType": "BackupInstance",
        "policyInfo": {"policyId": "/p", "name": "p", "policyVersion": "3.2", "policyParameters": null}}});
    let instance = BackupInstance::parse_validation(&body).unwrap();
    assert_eq!(instance.data_source_info.resource_name, "acc");
    assert_eq!(instance.friendly_name, "acc");
    assert_eq!(instance.selection(), Selection::None);
    assert_eq!(instance.data_source_info.account("x").unwrap().name(), "acc");
    let wrapped = json!({"backupInstance": seed_put()});
    assert_eq!(BackupInstance::parse_validation(&wrapped).unwrap().friendly_name, "msblobbackup");
}

#[test]
fn selections_are_lists_or_everything_but_prefixes() {
    let list =
        json!([{"objectType": "blobBackupDatasourceParameters", "containersList": ["container1", "container2"]}]);
    assert_eq!(
        with_parameters(list).unwrap().selection(),
        Selection::Containers(vec!["container1".to_owned(), "container2".to_owned()])
    );
    let automatic = |enabled: bool, rules: Value| {
        json!([{"objectType": "BlobBackupDatasourceParametersForAutoProtection", "autoProtectionSettings": {
            "objectType": "BlobBackupRuleBasedAutoProtectionSettings", "enabled": enabled, "rules": rules}}])
    };
    let rule =
        json!([{"objectType": "BlobBackupAutoProtectionRule", "mode": "exclude", "type": "Prefix", "pattern": "tmp"}]);
    assert_eq!(
        with_parameters(automatic(true, rule)).unwrap().selection(),
        Selection::AllExcept(vec!["tmp".to_owned()])
    );
    assert_eq!(with_parameters(automatic(true, json!([]))).unwrap().selection(), Selection::AllExcept(vec![]));
    assert_eq!(with_parameters(automatic(false, json!([]))).unwrap().selection(), Selection::Containers(vec![]));
}

#[test]
fn selections_that_cannot_be_meant_are_refused() {
    let list = |names: Value| json!([{"objectType": "BlobBackupDatasourceParameters", "containersList": names}]);
    for (parameters, expected) in [
        (list(json!(["Container1"])), "'Container1' is not a container name"),
        (list(json!(["a/b"])), "'a/b' is not a container name"),
        (json!([{"objectType": "KubernetesClusterBackupDatasourceParameters"}]), "unknown variant"),
        (json!([list(json!([]))[0], list(json!([]))[0]]), "has 2 entries"),
    ] {
        let message = with_parameters(parameters).unwrap_err().message;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    assert!(with_parameters(list(json!(["$web", "$root"]))).is_ok());
}

#[test]
fn datasources_must_be_storage_accounts() {
    for id in ["", "x", "/subscriptions/s", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d"] {
        let datasource = Datasource { resource_id: id.to_owned(), ..Datasource::default() };
        assert!(datasource.account("dataSourceInfo.resourceID").is_err(), "{id}");
    }
}

#[test]
fn stored_instances_are_read_back() {
    let list = json!([{"objectType": "BlobBackupDatasourceParameters", "containersList": ["container1"]}]);
    let instance = with_parameters(list).unwrap();
    let text = serde_json::to_string(&instance).unwrap();
    assert_eq!(serde_json::from_str::<BackupInstance>(&text).unwrap(), instance);
}

#[test]
fn an_account_id_in_another_form_becomes_the_canonical_one_and_casing_stays() {
    let account = "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Storage/storageAccounts/msblobbackup";
    let upper = account.to_uppercase();
    for (sent, kept) in [
        (account, account),
        (upper.as_str(), upper.as_str()),
        ("//subscriptions/s/resourcegroups/RG/providers/microsoft.storage/storageaccounts/msblob%62ackup", account),
        (" /subscriptions/s/resourceGroups/RG/providers/Microsoft.Storage/storageAccounts/msblobbackup/ ", account),
        ("/subscriptions/s", "/subscriptions/s"),
    ] {
        let mut body = seed_put();
        body["properties"]["datasourceinfo"]["resourceID"] = json!(sent);
        body["properties"]["datasourceinfo"]["resourceName"] = json!("");
        let source = InstanceRequest::parse(&body).unwrap().instance.data_source_info;
        assert_eq!(source.resource_id, kept);
        assert_eq!(source.resource_name, kept.rsplit('/').next().unwrap());
    }
}
