//! Resource guards: which operations on a vault need a second pair of eyes, and guards and their links to vaults as they are requested
//! and answered.
//!
//! The operations, their order and their spelling are the product's own, as recorded: nine of Recovery Services vaults, which a guard
//! lists and nothing here performs, then nine of backup vaults. Who may approve is the service's question.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::envelope;
use crate::error::{ApiError, ErrorCode};
use crate::id::{ResourceId, fold};
use crate::time::format_seven_digits;
use crate::vault::{SoftDeleteState, VaultProperties, check_tags};
use crate::word::{Invalid, read};

/// The resource type of guards.
pub const RESOURCE_GUARD: &str = "Microsoft.DataProtection/resourceGuards";

/// Members that a guard or a link may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "location",
    "tags",
    "properties",
    "vaultCriticalOperationExclusionList",
    "resourceGuardResourceId",
    "description",
    "resourceToBeDeleted",
];
const EXCLUSIONS: &str = "properties.vaultCriticalOperationExclusionList";
const REQUESTS: &str = "resourceGuardOperationRequests";

/// An operation on a backup vault that a guard protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CriticalOperation {
    /// Deleting a backup instance.
    DeleteInstance,
    /// Taking away a vault's link to its guard.
    RemoveGuard,
    /// Taking immutability back.
    ReduceImmutability,
    /// Switching soft delete off, or keeping deleted data for fewer days.
    ReduceSoftDelete,
    /// Changing under which key the vault is encrypted.
    ModifyEncryption,
    /// Stopping protection and keeping the data.
    StopProtection,
    /// Suspending backups.
    SuspendBackups,
    /// Giving an instance another policy or other containers, or changing a policy that is in use.
    ModifyProtection,
    /// Beginning a restore.
    Restore,
}

impl CriticalOperation {
    /// All of them, in the order in which they are listed.
    pub const ALL: &'static [Self] = &[
        Self::DeleteInstance,
        Self::RemoveGuard,
        Self::ReduceImmutability,
        Self::ReduceSoftDelete,
        Self::ModifyEncryption,
        Self::StopProtection,
        Self::SuspendBackups,
        Self::ModifyProtection,
        Self::Restore,
    ];

    /// The name by which guards and exclusions know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeleteInstance => "Microsoft.DataProtection/backupVaults/backupInstances/delete",
            Self::RemoveGuard => "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
            Self::ReduceImmutability => "Microsoft.DataProtection/backupVaults/write#reduceImmutabilityState",
            Self::ReduceSoftDelete => "Microsoft.DataProtection/backupVaults/write#reduceSoftDeleteSecurity",
            Self::ModifyEncryption => "Microsoft.DataProtection/backupVaults/write#modifyEncryptionSettings",
            Self::StopProtection => "Microsoft.DataProtection/backupVaults/backupInstances/stopProtection/action",
            Self::SuspendBackups => "Microsoft.DataProtection/backupVaults/backupInstances/suspendBackups/action",
            Self::ModifyProtection => "Microsoft.DataProtection/backupVaults/backupInstances/write",
            Self::Restore => "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
        }
    }

    /// The type, below the guard, of the request that names it.
    pub const fn request_type(self) -> &'static str {
        match self {
            Self::DeleteInstance => "deleteBackupInstanceRequests",
            Self::RemoveGuard => "deleteResourceGuardProxyRequests",
            Self::ReduceImmutability => "dppReduceImmutabilityStateRequests",
            Self::ReduceSoftDelete => "dppReduceSoftDeleteSecurityRequests",
            Self::ModifyEncryption => "dppModifyEncryptionSettingsRequests",
            Self::StopProtection => "dppDisableStopProtectionRequests",
            Self::SuspendBackups => "dppDisableSuspendBackupsRequests",
            Self::ModifyProtection => "dppModifyPolicy",
            Self::Restore => "dppTriggerRestoreRequests",
        }
    }

    /// No guard can leave it out.
    pub const fn is_mandatory(self) -> bool {
        matches!(self, Self::RemoveGuard | Self::ReduceSoftDelete)
    }

    /// The id that a critical request names: `{guard}/{request type}/default`.
    pub fn request_id(self, guard_id: &str) -> String {
        format!("{guard_id}/{}/default", self.request_type())
    }

    /// The action that whoever approves needs on [`CriticalOperation::request_id`].
    pub fn approval(self) -> String {
        format!("{RESOURCE_GUARD}/{}/action", self.request_type())
    }

    /// What a change of a vault's settings needs an approval for.
    pub fn of_change(before: &VaultProperties, after: &VaultProperties) -> Vec<Self> {
        let state = |settings: &VaultProperties| settings.soft_delete_state().unwrap_or(SoftDeleteState::On);
        let days = |settings: &VaultProperties| match state(settings) {
            SoftDeleteState::Off => 0,
            SoftDeleteState::On | SoftDeleteState::AlwaysOn => settings.soft_delete_days(),
        };
        let mut found = Vec::new();
        if after.immutability() < before.immutability() {
            found.push(Self::ReduceImmutability);
        }
        if state(after) < state(before) || days(after) < days(before) {
            found.push(Self::ReduceSoftDelete);
        }
        if !after.is_encrypted_like(before) {
            found.push(Self::ModifyEncryption);
        }
        found
    }
}

/// An operation as a guard lists it.
struct Listed {
    operation: &'static str,
    /// As answered: of Recovery Services vaults a type, of backup vaults the operation once more (recorded).
    request_type: String,
    is_mandatory: bool,
}

/// Operations of Recovery Services vaults, each with the type of its request below the guard.
const RECOVERY_SERVICES: &[(&str, &str)] = &[
    (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/delete",
        "deleteProtectedItemRequests",
    ),
    (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/write",
        "updateProtectedItemRequests",
    ),
    ("Microsoft.RecoveryServices/vaults/backupPolicies/write", "updateProtectionPolicyRequests"),
    ("Microsoft.RecoveryServices/vaults/backupResourceGuardProxies/delete", "deleteResourceGuardProxyRequests"),
    ("Microsoft.RecoveryServices/vaults/backupSecurityPIN/action", "getBackupSecurityPINRequests"),
    ("Microsoft.RecoveryServices/vaults/backupconfig/write", "disableSoftDeleteRequests"),
    (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/write#stopProtectionWithRetainData",
        "stopProtectionWithRetainDataRequests",
    ),
    ("Microsoft.RecoveryServices/vaults/write#reduceImmutabilityState", "reduceImmutabilityStateRequests"),
    (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/restore/action",
        "triggerRestoreRequests",
    ),
];

/// Operations of Recovery Services vaults that clients exclude (Terraform names them) though no recorded guard lists them.
const ONLY_EXCLUDED: &[&str] = &[
    "Microsoft.RecoveryServices/vaults/backupEncryptionConfigs/backupResourceEncryptionConfig/write",
    "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/delete",
    "Microsoft.RecoveryServices/vaults/backupResourceGuardProxies/write",
    "Microsoft.RecoveryServices/vaults/backupconfig/delete",
    "Microsoft.RecoveryServices/vaults/write#modifyEncryptionSettings",
];

/// Everything that a guard can protect, in the order in which it is listed.
fn listed() -> impl Iterator<Item = Listed> {
    let older = RECOVERY_SERVICES.iter().map(|&(operation, request_type)| Listed {
        operation,
        request_type: format!("{RESOURCE_GUARD}/{request_type}"),
        is_mandatory: matches!(request_type, "deleteResourceGuardProxyRequests" | "disableSoftDeleteRequests"),
    });
    older.chain(CriticalOperation::ALL.iter().map(|operation| Listed {
        operation: operation.name(),
        request_type: operation.name().to_owned(),
        is_mandatory: operation.is_mandatory(),
    }))
}

/// The type of request objects with this spelling, case aside.
pub fn request_type(word: &str) -> Option<&'static str> {
    let older = RECOVERY_SERVICES.iter().map(|&(_, request_type)| request_type);
    let mut all = older.chain(CriticalOperation::ALL.iter().map(|operation| operation.request_type()));
    all.find(|known| known.eq_ignore_ascii_case(word))
}

/// The one object of a type of requests below a guard. `request_type` is one that [`request_type`] knows.
pub fn request_object(guard_id: &str, request_type: &str) -> Value {
    json!({
        "id": format!("{guard_id}/{request_type}/default"),
        "name": "default",
        "type": format!("{RESOURCE_GUARD}/{request_type}"),
    })
}

/// The body of a guard's PUT or PATCH; of a PATCH only the tags count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GuardRequest {
    /// Required in a PUT.
    pub location: Option<String>,
    /// The user's own labels, if sent.
    pub tags: Option<Map<String, Value>>,
    /// Operations that the guard shall not protect, if sent; each once, in the spelling of the table.
    pub exclusions: Option<Vec<String>>,
}

impl GuardRequest {
    /// Reads the body of a PUT or PATCH.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong: an operation that no guard protects, or one that every guard does.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Body {
            location: Option<String>,
            tags: Option<Map<String, Value>>,
            properties: Option<Properties>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Properties {
            vault_critical_operation_exclusion_list: Option<Vec<String>>,
        }
        if !body.is_object() {
            return Err(Invalid::new("", "The request body must be a JSON object that describes a resource guard."));
        }
        let body: Body = read(body, MEMBERS)?;
        let tags = body.tags.map(check_tags).transpose()?;
        let list = body.properties.and_then(|properties| properties.vault_critical_operation_exclusion_list);
        Ok(Self { location: body.location, tags, exclusions: list.map(check_exclusions).transpose()? })
    }
}

fn check_exclusions(names: Vec<String>) -> Result<Vec<String>, Invalid> {
    let mut exclusions: Vec<String> = Vec::new();
    for name in names {
        let mut known = listed().map(|known| (known.operation, known.is_mandatory));
        let found = known.find(|(operation, _)| operation.eq_ignore_ascii_case(name.trim()));
        let found = found.or_else(|| envelope::one_of(name.trim(), ONLY_EXCLUDED).map(|operation| (operation, false)));
        let Some((operation, is_mandatory)) = found else {
            return Err(Invalid::new(
                EXCLUSIONS,
                format!("'{name}' is not an operation that a resource guard protects; a GET of the guard lists them."),
            ));
        };
        if is_mandatory {
            return Err(Invalid::new(EXCLUSIONS, format!("'{operation}' is mandatory and cannot be excluded.")));
        }
        if !exclusions.iter().any(|other| other == operation) {
            exclusions.push(operation.to_owned());
        }
    }
    Ok(exclusions)
}

/// What is answered of a guard.
#[derive(Debug, Clone)]
pub struct GuardView<'a> {
    /// The id as created.
    pub id: &'a str,
    /// The name as created.
    pub name: &'a str,
    /// The location as created.
    pub location: &'a str,
    /// The user's labels.
    pub tags: &'a Map<String, Value>,
    /// What it does not protect.
    pub exclusions: &'a [String],
}

impl GuardView<'_> {
    /// The resource, members in the recorded order. What is excluded is not listed; tags only where there are some.
    pub fn render(&self) -> Value {
        let is_protected = |known: &Listed| !self.exclusions.iter().any(|name| name == known.operation);
        let operations: Vec<Value> = listed()
            .filter(is_protected)
            .map(
                |known| json!({ "vaultCriticalOperation": known.operation, "requestResourceType": known.request_type }),
            )
            .collect();
        let mut body = Map::new();
        body.insert("location".into(), json!(self.location));
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        let properties = json!({
            "provisioningState": "Succeeded",
            "resourceGuardOperations": operations,
            "vaultCriticalOperationExclusionList": self.exclusions,
            "allowAutoApprovals": true,
        });
        body.insert("properties".into(), properties);
        body.insert("id".into(), json!(self.id));
        body.insert("name".into(), json!(self.name));
        body.insert("type".into(), json!(RESOURCE_GUARD));
        Value::Object(body)
    }
}

/// The body of a PUT that links a vault to a guard.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyRequest {
    /// The guard.
    pub guard: ResourceId,
    /// Free text, if sent.
    pub description: Option<String>,
}

impl ProxyRequest {
    /// Reads the body of a PUT.
    ///
    /// # Errors
    /// 400 with the member that is wrong; an id that is no guard's is `UserErrorInvalidResourceUriInRequest`.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            properties: Option<Properties>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Properties {
            resource_guard_resource_id: String,
            description: Option<String>,
        }
        if !body.is_object() {
            return Err(Invalid::new("", "The request body must be a JSON object that names a resource guard.").into());
        }
        let body: Body = read(body, MEMBERS)?;
        let properties = body.properties.unwrap_or_default();
        let id = properties.resource_guard_resource_id;
        let guard = ResourceId::parse(&id).ok().filter(is_guard);
        let guard = guard.ok_or_else(|| bad_guard_id(&id, "it is not the id of a resource guard"))?;
        Ok(Self { guard, description: properties.description })
    }
}

fn is_guard(id: &ResourceId) -> bool {
    id.is_type(RESOURCE_GUARD) && id.subscription().is_some() && id.resource_group().is_some()
}

/// 400: the id that a link names leads nowhere.
pub fn bad_guard_id(id: &str, reason: &str) -> ApiError {
    let parameter = "properties.resourceGuardResourceId";
    ApiError::of(
        ErrorCode::UserErrorInvalidResourceUriInRequest,
        &[("id", id), ("parameter", parameter), ("reason", reason)],
    )
    .with_target(parameter)
}

/// What is answered of a vault's link to a guard.
#[derive(Debug, Clone)]
pub struct ProxyView<'a> {
    /// The id as created.
    pub id: &'a str,
    /// The name as created.
    pub name: &'a str,
    /// Id of the guard, as created.
    pub guard_id: &'a str,
    /// What the guard does not protect.
    pub exclusions: &'a [String],
    /// Free text, if there is any.
    pub description: Option<&'a str>,
    /// µs.
    pub updated_at: i64,
}

impl ProxyView<'_> {
    /// The resource; its type has another spelling than its id (recorded). Only operations on backup vaults are listed.
    pub fn render(&self) -> Value {
        let details: Vec<Value> = CriticalOperation::ALL
            .iter()
            .filter(|operation| !is_excluded(**operation, self.exclusions))
            .map(|operation| {
                json!({
                    "vaultCriticalOperation": operation.name(),
                    "defaultResourceRequest": operation.request_id(self.guard_id),
                })
            })
            .collect();
        let mut properties = Map::new();
        properties.insert("resourceGuardResourceId".into(), json!(self.guard_id));
        properties.insert("resourceGuardOperationDetails".into(), json!(details));
        properties.insert("lastUpdatedTime".into(), json!(format_seven_digits(self.updated_at)));
        if let Some(description) = self.description {
            properties.insert("description".into(), json!(description));
        }
        json!({
            "properties": properties,
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.DataProtection/vaults/backupResourceGuardProxies",
        })
    }
}

/// A guard with these exclusions does not protect the operation. Of the mandatory ones that is never so, whatever a list says.
pub fn is_excluded(operation: CriticalOperation, exclusions: &[String]) -> bool {
    !operation.is_mandatory() && exclusions.iter().any(|name| name == operation.name())
}

/// The body that unlocks a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlockRequest {
    /// The request ids that it names.
    pub requests: Vec<String>,
    /// What shall be deleted; the link itself where nothing is said (recorded).
    pub resource: Option<String>,
}

impl UnlockRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            resource_to_be_deleted: Option<String>,
        }
        if !body.is_object() {
            return Err(Invalid::new("", "The request body must be a JSON object that says what is to be unlocked."));
        }
        let requests = operation_requests(Some(body))?;
        let body: Body = read(body, MEMBERS)?;
        Ok(Self { requests, resource: body.resource_to_be_deleted.filter(|id| !id.trim().is_empty()) })
    }
}

/// `resourceGuardOperationRequests` of the object that carries it, folded; empty where it is absent. Which object that is differs: the
/// `properties` of vaults, instances and policies, and the whole body of everything else.
///
/// # Errors
/// [`Invalid`] for anything but a list of texts.
pub fn operation_requests(holder: Option<&Value>) -> Result<Vec<String>, Invalid> {
    let wrong = || Invalid::new(REQUESTS, format!("'{REQUESTS}' must be a list of ids."));
    let Some(list) = holder.and_then(|holder| envelope::member(holder, REQUESTS)) else { return Ok(Vec::new()) };
    let ids = list.as_array().ok_or_else(wrong)?.iter().filter(|id| !id.is_null());
    ids.map(|id| id.as_str().map(|id| fold(id.trim())).ok_or_else(wrong)).collect()
}

/// The rule for names of links: letters and digits (specification).
///
/// # Errors
/// The rule, in words.
pub fn check_proxy_name(name: &str) -> Result<(), &'static str> {
    if !name.is_empty() && name.len() <= 256 && name.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err("it must have 1 to 256 letters and digits")
}

#[cfg(test)]
mod tests;
