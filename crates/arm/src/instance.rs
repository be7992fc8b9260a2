//! Backup instances: one protected storage account, what of it is protected, and under which policy.
//!
//! Read from a request, kept as [`BackupInstance`], answered by [`InstanceView`]. Whether account, policy and vault
//! exist and fit is the service's question; this file only knows the shapes and what they mean.

mod datasource;
mod view;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use datasource::{Datasource, STORAGE_ACCOUNT};
pub use view::{Deletion, InstanceView};

use crate::vault::check_tags;
use crate::word::{Invalid, read, words};

/// Members that an instance may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "tags",
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

/// The body of an instance's PUT.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceRequest {
    /// The user's own labels, if sent.
    pub tags: Option<Map<String, Value>>,
    /// What is protected, and how.
    pub instance: BackupInstance,
}

impl InstanceRequest {
    /// Reads the body of a PUT: `{"properties": {…}}`, with `tags` beside the properties if there are any.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Body {
            tags: Option<Map<String, Value>>,
            properties: Option<BackupInstance>,
        }
        let body: Body = read(body, MEMBERS)?;
        let tags = body.tags.map(check_tags).transpose()?;
        Ok(Self { tags, instance: BackupInstance::completed(body.properties, "properties")? })
    }
}

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

impl IdentityDetails {
    /// Refuses an identity that is not the vault's own: what is asked for by one identity is never done by another.
    ///
    /// # Errors
    /// [`Invalid`] for a user-assigned one.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        if self.user_assigned_identity_arm_url.as_deref().unwrap_or_default().is_empty() {
            return Ok(());
        }
        Err(Invalid::new(
            "identityDetails.userAssignedIdentityArmUrl",
            "User-assigned identities are not supported; the vault's own identity is used.",
        ))
    }
}

/// What is backed up into the vault, in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Nothing is said: what the rules of the policy cover, in the vault tier every container, also future ones.
    None,
    /// These containers.
    Containers(Vec<String>),
    /// All containers, except those whose names begin with one of these.
    AllExcept(Vec<String>),
}

impl BackupInstance {
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
            return InstanceRequest::parse(inner).map(|request| request.instance);
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
        self.identity_details.as_ref().map_or(Ok(()), IdentityDetails::check)?;
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
            // Automatic protection that is switched off selects no container, which is not the same as saying nothing.
            Some(DatasourceParameters::Automatic { .. } | DatasourceParameters::AdlsAutomatic { .. }) => {
                Selection::Containers(Vec::new())
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

impl ProtectionState {
    /// The word that is answered. For suspended backups the product has another one than its documents (recorded, and in the words of its
    /// operations).
    pub fn answered(self) -> &'static str {
        match self {
            Self::BackupSchedulesSuspended => "BackupsSuspended",
            other => other.as_str(),
        }
    }
}

#[cfg(test)]
mod tests;
