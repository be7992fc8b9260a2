//! Backup instances: one protected storage account, what of it is protected, and under which policy.
//!
//! Read from a request, kept as [`BackupInstance`], answered by [`InstanceView`]. Whether account, policy and vault
//! exist and fit is the service's question; this file only knows the shapes and what they mean.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::id::ResourceId;
use crate::time::format_instant;
use crate::word::{Invalid, blob_datasource_type, read, words};

/// Members that an instance may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "properties",
    "backupInstance",
    "friendlyName",
    "dataSourceInfo",
    "dataSourceSetInfo",
    "resourceID",
    "resourceUri",
    "datasourceType",
    "resourceName",
    "resourceType",
    "resourceLocation",
    "objectType",
    "policyInfo",
    "policyId",
    "policyParameters",
    "dataStoreParametersList",
    "backupDatasourceParametersList",
    "containersList",
    "autoProtectionSettings",
    "enabled",
    "rules",
    "mode",
    "type",
    "pattern",
    "validationType",
    "identityDetails",
    "useSystemAssignedIdentity",
    "userAssignedIdentityArmUrl",
];

/// The resource type of a datasource.
pub const STORAGE_ACCOUNT: &str = "Microsoft.Storage/storageAccounts";

/// One protected storage account, as it is stored and answered; member order as in the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupInstance {
    /// What people call it; the account's name where nothing is said.
    #[serde(default)]
    pub friendly_name: String,
    /// The account.
    pub data_source_info: Datasource,
    /// The account again; nobody needs it for blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source_set_info: Option<Datasource>,
    /// The policy and what of the account it covers.
    pub policy_info: PolicyInfo,
    /// `ShallowValidation` or `DeepValidation`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_type: Option<String>,
    /// Which identity of the vault is used, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_details: Option<IdentityDetails>,
}

/// A storage account as datasource or as target of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datasource {
    /// The account's id.
    #[serde(rename = "resourceID")]
    pub resource_id: String,
    /// Free text, usually empty or the id again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_uri: Option<String>,
    /// `Microsoft.Storage/storageAccounts/blobServices`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datasource_type: String,
    /// The account's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_name: String,
    /// `Microsoft.Storage/storageAccounts`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_type: String,
    /// The account's region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_location: String,
    /// `Datasource` or `DatasourceSet`.
    #[serde(default)]
    pub object_type: String,
}

impl Datasource {
    /// The account's id.
    ///
    /// # Errors
    /// [`Invalid`] when it is no id of a storage account. `target` names the member in the message.
    pub fn account(&self, target: &str) -> Result<ResourceId, Invalid> {
        let id = ResourceId::parse(&self.resource_id).map_err(|error| {
            Invalid::new(target, format!("The id '{}' in '{target}' cannot be used: {error}.", self.resource_id))
        })?;
        let is_complete = id.subscription().is_some() && id.resource_group().is_some();
        if !is_complete || !id.is_type(STORAGE_ACCOUNT) {
            return Err(Invalid::new(
                target,
                format!("The id '{}' in '{target}' is not the id of a storage account.", self.resource_id),
            ));
        }
        Ok(id)
    }

    /// Fills in what follows from the id, and gives known words their spelling.
    pub fn complete(&mut self, object_type: &str) {
        object_type.clone_into(&mut self.object_type);
        if self.resource_name.is_empty() {
            let id = self.resource_id.trim_end_matches('/');
            self.resource_name = id.rsplit('/').next().unwrap_or_default().to_owned();
        }
        if self.resource_type.is_empty() || self.resource_type.eq_ignore_ascii_case(STORAGE_ACCOUNT) {
            STORAGE_ACCOUNT.clone_into(&mut self.resource_type);
        }
        if let Some(known) = blob_datasource_type(&self.datasource_type) {
            known.clone_into(&mut self.datasource_type);
        }
    }
}

/// The policy and what of the account it covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInfo {
    /// The policy's id, in the same vault.
    pub policy_id: String,
    /// What is covered; absent for the operational tier alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_parameters: Option<PolicyParameters>,
}

/// What of the account is covered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyParameters {
    /// For other workloads; kept as sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_store_parameters_list: Vec<Value>,
    /// One element for vaulted backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backup_datasource_parameters_list: Vec<DatasourceParameters>,
}

/// What is backed up into the vault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "objectType")]
pub enum DatasourceParameters {
    /// These containers.
    #[serde(rename = "BlobBackupDatasourceParameters", rename_all = "camelCase")]
    Containers {
        /// Their names.
        #[serde(default)]
        containers_list: Vec<String>,
    },
    /// All containers, also future ones.
    #[serde(rename = "BlobBackupDatasourceParametersForAutoProtection", rename_all = "camelCase")]
    Automatic {
        /// Which are left out.
        auto_protection_settings: AutoProtectionSettings,
    },
    /// These containers of a hierarchical account.
    #[serde(rename = "AdlsBlobBackupDatasourceParameters", rename_all = "camelCase")]
    AdlsContainers {
        /// Their names.
        #[serde(default)]
        containers_list: Vec<String>,
    },
    /// All containers of a hierarchical account, also future ones.
    #[serde(rename = "AdlsBlobBackupDatasourceParametersForAutoProtection", rename_all = "camelCase")]
    AdlsAutomatic {
        /// Which are left out.
        auto_protection_settings: AutoProtectionSettings,
    },
}

/// Which containers automatic protection leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoProtectionSettings {
    /// Always `BlobBackupRuleBasedAutoProtectionSettings`.
    #[serde(default = "rule_based")]
    pub object_type: String,
    /// Whether it is on.
    #[serde(default)]
    pub enabled: bool,
    /// What is left out; none means that everything is protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AutoProtectionRule>,
}

fn rule_based() -> String {
    "BlobBackupRuleBasedAutoProtectionSettings".to_owned()
}

words! {
    /// What a rule of automatic protection does.
    AutoProtectionMode {
        /// Leaves containers out.
        Exclude,
    }
}

words! {
    /// How a rule of automatic protection compares names.
    AutoProtectionPattern {
        /// The name begins with the pattern.
        Prefix,
    }
}

/// A rule of automatic protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoProtectionRule {
    /// Always `BlobBackupAutoProtectionRule`.
    #[serde(default = "protection_rule")]
    pub object_type: String,
    /// The only mode.
    pub mode: AutoProtectionMode,
    /// The only comparison.
    #[serde(rename = "type")]
    pub kind: AutoProtectionPattern,
    /// A literal prefix of container names.
    pub pattern: String,
}

fn protection_rule() -> String {
    "BlobBackupAutoProtectionRule".to_owned()
}

/// Which identity of the vault is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityDetails {
    /// The vault's own one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_system_assigned_identity: Option<bool>,
    /// Another one; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_assigned_identity_arm_url: Option<String>,
}

/// What is backed up into the vault, in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Nothing: only the operational tier.
    None,
    /// These containers.
    Containers(Vec<String>),
    /// All containers, except those whose names begin with one of these.
    AllExcept(Vec<String>),
}

impl BackupInstance {
    /// Reads the body of a PUT: `{"properties": {…}}`.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse_put(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Body {
            properties: Option<BackupInstance>,
        }
        let body: Body = read(body, MEMBERS)?;
        Self::completed(body.properties, "properties")
    }

    /// Reads the body of a validation: `{"backupInstance": {…}}`. An instance wrapped like the body of a PUT
    /// (`{"backupInstance": {"properties": {…}}}`), as some documents show it, is understood too.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse_validation(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(rename = "backupInstance")]
            instance: Option<BackupInstance>,
        }
        let wrapped = crate::envelope::member(body, "backupInstance");
        if let Some(inner) = wrapped.filter(|inner| crate::envelope::member(inner, "properties").is_some()) {
            return Self::parse_put(inner);
        }
        let body: Body = read(body, MEMBERS)?;
        Self::completed(body.instance, "backupInstance")
    }

    fn completed(instance: Option<Self>, target: &str) -> Result<Self, Invalid> {
        let mut instance =
            instance.ok_or_else(|| Invalid::new(target, format!("The request body has no '{target}'.")))?;
        instance.data_source_info.complete("Datasource");
        if let Some(set) = &mut instance.data_source_set_info {
            set.complete("DatasourceSet");
        }
        if instance.friendly_name.is_empty() {
            instance.friendly_name.clone_from(&instance.data_source_info.resource_name);
        }
        instance.check_parameters()?;
        Ok(instance)
    }

    fn check_parameters(&self) -> Result<(), Invalid> {
        let list = "policyInfo.policyParameters.backupDatasourceParametersList";
        if self.parameters().len() > 1 {
            return Err(Invalid::new(
                list,
                format!("'{list}' has {} entries; blobs take one.", self.parameters().len()),
            ));
        }
        if let Some(url) = self.identity_details.as_ref().and_then(|id| id.user_assigned_identity_arm_url.as_deref()) {
            if !url.is_empty() {
                return Err(Invalid::new(
                    "identityDetails.userAssignedIdentityArmUrl",
                    "User-assigned identities are not supported; the vault's own identity is used.",
                ));
            }
        }
        match self.selection() {
            Selection::Containers(names) => {
                names.iter().try_for_each(|name| check_container_name(name, &format!("{list}.containersList")))
            }
            Selection::AllExcept(prefixes) if prefixes.iter().any(String::is_empty) => Err(Invalid::new(
                format!("{list}.autoProtectionSettings.rules"),
                "A rule of automatic protection has an empty pattern, which would leave out every container.",
            )),
            Selection::AllExcept(_) | Selection::None => Ok(()),
        }
    }

    fn parameters(&self) -> &[DatasourceParameters] {
        let parameters = self.policy_info.policy_parameters.as_ref();
        parameters.map(|parameters| parameters.backup_datasource_parameters_list.as_slice()).unwrap_or_default()
    }

    /// What is backed up into the vault.
    pub fn selection(&self) -> Selection {
        match self.parameters().first() {
            None => Selection::None,
            Some(
                DatasourceParameters::Containers { containers_list }
                | DatasourceParameters::AdlsContainers { containers_list },
            ) => Selection::Containers(containers_list.clone()),
            Some(
                DatasourceParameters::Automatic { auto_protection_settings: settings }
                | DatasourceParameters::AdlsAutomatic { auto_protection_settings: settings },
            ) if settings.enabled => {
                Selection::AllExcept(settings.rules.iter().map(|rule| rule.pattern.clone()).collect())
            }
            Some(DatasourceParameters::Automatic { .. } | DatasourceParameters::AdlsAutomatic { .. }) => {
                Selection::None
            }
        }
    }
}

/// The storage service's rule for container names; `$root`, `$web` and `$logs` are its own.
///
/// # Errors
/// [`Invalid`] that names the container.
pub fn check_container_name(name: &str, target: &str) -> Result<(), Invalid> {
    let is_system = ["$root", "$web", "$logs"].contains(&name);
    let is_good = (3..=63).contains(&name.len())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if is_system || is_good {
        return Ok(());
    }
    Err(Invalid::new(
        target,
        format!(
            "'{name}' is not a container name: 3 to 63 lower-case letters, digits and single hyphens, beginning and ending \
             with a letter or digit."
        ),
    ))
}

/// The rule for names of instances and policies: at most 256 characters, none that a path or a log would mangle.
///
/// # Errors
/// The rule, in words.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_bad = |letter: char| letter.is_control() || "<>%&\\?/#\"".contains(letter);
    if name.is_empty() || name.chars().count() > 256 || name.contains(is_bad) || name.trim() != name {
        return Err("it must have 1 to 256 characters, without control characters, <, >, %, &, \\, ?, /, # and quotes");
    }
    Ok(())
}

words! {
    /// How far an instance is protected; `currentProtectionState` and `protectionStatus.status` alike.
    ProtectionState {
        /// Not known.
        Invalid,
        /// Not at all.
        NotProtected,
        /// Being set up.
        ConfiguringProtection,
        /// Backed up as the policy says.
        ProtectionConfigured,
        /// No backups, points expire, the newest is kept.
        BackupSchedulesSuspended,
        /// No expiry.
        RetentionSchedulesSuspended,
        /// No backups, every point is kept.
        ProtectionStopped,
        /// Was set up and does not work.
        ProtectionError,
        /// Could not be set up.
        ConfiguringProtectionFailed,
        /// Being deleted.
        SoftDeleting,
        /// Deleted and kept for a while.
        SoftDeleted,
        /// Changing to another policy.
        UpdatingProtection,
    }
}

/// When an instance was deleted, and what follows; µs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub deleted_at: i64,
    /// Until when it costs nothing.
    pub billing_end: i64,
    /// When its data goes.
    pub purge_at: i64,
    /// The correlation id of the request that deleted it.
    pub activity_id: String,
}

/// What is answered of an instance.
#[derive(Debug, Clone)]
pub struct InstanceView<'a> {
    /// The id as created.
    pub id: &'a str,
    /// The name as created.
    pub name: &'a str,
    /// The stored part.
    pub instance: &'a BackupInstance,
    /// How far it is protected.
    pub state: ProtectionState,
    /// `Provisioning`, `Updating`, `Succeeded`, `Failed`.
    pub provisioning_state: &'a str,
    /// The `info` shape of the error that keeps it from being protected.
    pub error: Option<&'a Value>,
    /// Set for deleted ones.
    pub deletion: Option<&'a Deletion>,
}

impl InstanceView<'_> {
    /// The resource, members that are absent left out, in the order of the seed. A deleted instance is answered as
    /// `deletedBackupInstances/{name}`.
    pub fn render(&self) -> Value {
        let mut properties = match serde_json::to_value(self.instance) {
            Ok(Value::Object(stored)) => stored,
            _ => Map::new(),
        };
        if let Some(deletion) = self.deletion {
            properties.insert(
                "deletionInfo".into(),
                json!({
                    "deletionTime": format_instant(deletion.deleted_at),
                    "billingEndDate": format_instant(deletion.billing_end),
                    "scheduledPurgeTime": format_instant(deletion.purge_at),
                    "deleteActivityID": deletion.activity_id,
                }),
            );
        }
        let mut status = json!({ "status": self.state });
        if let (Some(error), Some(members)) = (self.error, status.as_object_mut()) {
            members.insert("errorDetails".into(), error.clone());
        }
        properties.insert("protectionStatus".into(), status);
        properties.insert("currentProtectionState".into(), json!(self.state));
        if let Some(error) = self.error {
            properties.insert("protectionErrorDetails".into(), error.clone());
        }
        properties.insert("provisioningState".into(), json!(self.provisioning_state));
        let (object_type, kind) = match self.deletion {
            Some(_) => ("DeletedBackupInstance", "Microsoft.DataProtection/backupVaults/deletedBackupInstances"),
            None => ("BackupInstance", "Microsoft.DataProtection/backupVaults/backupInstances"),
        };
        properties.insert("objectType".into(), json!(object_type));
        json!({ "id": self.id, "name": self.name, "type": kind, "properties": properties })
    }
}

#[cfg(test)]
mod tests {
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
        BackupInstance::parse_put(&body)
    }

    #[test]
    fn the_seeds_instance_is_answered_as_in_the_seed() {
        let instance = BackupInstance::parse_put(&seed_put()).unwrap();
        let view = InstanceView {
            id: "/the/id",
            name: "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d",
            instance: &instance,
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
        let rule = json!([{"objectType": "BlobBackupAutoProtectionRule", "mode": "exclude", "type": "Prefix", "pattern": "tmp"}]);
        assert_eq!(
            with_parameters(automatic(true, rule)).unwrap().selection(),
            Selection::AllExcept(vec!["tmp".to_owned()])
        );
        assert_eq!(with_parameters(automatic(true, json!([]))).unwrap().selection(), Selection::AllExcept(vec![]));
        assert_eq!(with_parameters(automatic(false, json!([]))).unwrap().selection(), Selection::None);
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
        for id in ["", "x", "/subscriptions/s", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d"]
        {
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
}
