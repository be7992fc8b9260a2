//! Restore requests: from a point of the vault or to a moment of the operational tier, whole or in part.
//!
//! All documented forms for blobs end up as one [`RestoreRequest`]. Requests of other workloads (files, rehydration)
//! are refused by name. Whether point, target and containers exist is found out later.

mod ranges;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ApiError, ErrorCode};
use crate::id::ResourceId;
use crate::instance::{Datasource, IdentityDetails, check_container_name};
use crate::time::parse_instant;
use crate::word::{DataStore, Invalid, read, words};

/// Members that a restore request may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "restoreRequestObject",
    "objectType",
    "recoveryPointId",
    "recoveryPointTime",
    "sourceDataStoreType",
    "sourceResourceId",
    "restoreTargetInfo",
    "recoveryOption",
    "restoreLocation",
    "datasourceInfo",
    "datasourceSetInfo",
    "resourceID",
    "resourceUri",
    "datasourceType",
    "resourceName",
    "resourceType",
    "resourceLocation",
    "restoreCriteria",
    "itemPath",
    "isPathRelativeToBackupItem",
    "subItemPathPrefix",
    "renameTo",
    "minMatchingValue",
    "maxMatchingValue",
    "identityDetails",
    "useSystemAssignedIdentity",
    "userAssignedIdentityArmUrl",
    "backupRuleOptions",
    "ruleName",
    "triggerOption",
    "retentionTagOverride",
    "blobkeep",
    "accessTier",
];

words! {
    /// What happens where something of the same name exists at the target. The API knows only the first; the others are
    /// Blobkeep's own.
    RecoveryOption {
        /// A container of that name in the target refuses the restore.
        FailIfExists,
        /// Existing blobs stay.
        Skip,
        /// Existing blobs are replaced.
        Overwrite,
        /// Existing blobs are replaced if the restored one is newer.
        OverwriteIfNewer,
    }
}

words! {
    /// Where an account keeps a block blob.
    AccessTier {
        /// Read often.
        Hot,
        /// Read now and then.
        Cool,
        /// Read rarely.
        Cold,
        /// Not to be read before it was brought back.
        Archive,
    }
}

/// What shall be restored, from where, to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The state that is restored.
    pub source: RestoreSource,
    /// The tier it is read from.
    pub store: DataStore,
    /// The account that is written to.
    pub target: Datasource,
    /// The region of the target, as sent.
    pub location: Option<String>,
    /// What of it.
    pub selection: RestoreSelection,
    /// What happens where something exists.
    pub option: RecoveryOption,
    /// The tier of all restored block blobs, instead of the one that each had. Blobkeep's own.
    pub tier: Option<AccessTier>,
}

/// The state that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreSource {
    /// A recovery point of the vault, by its name.
    Point(String),
    /// A moment, µs.
    Time(i64),
}

/// What is restored of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreSelection {
    /// Everything.
    All,
    /// Containers, each whole or by prefixes, each under its name or another one.
    Containers(Vec<ContainerSelection>),
    /// Ranges of `container/blob` names.
    Ranges(Vec<NameRange>),
}

/// A container of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSelection {
    /// Its name in the point.
    pub container: String,
    /// Prefixes of blob names; none means all blobs.
    pub prefixes: Vec<String>,
    /// Its name at the target, if it is to be another one.
    pub rename_to: Option<String>,
}

/// A range of `container/blob` names: by container, then by name, each compared as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRange {
    /// The first name that belongs to it; from the beginning where absent.
    pub min: Option<String>,
    /// The first name that no longer belongs to it; to the end where absent.
    pub max: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    object_type: String,
    source_data_store_type: DataStore,
    restore_target_info: TargetBody,
    recovery_point_id: Option<String>,
    recovery_point_time: Option<String>,
    #[serde(default)]
    identity_details: IdentityDetails,
    #[serde(default)]
    blobkeep: OwnBody,
}

/// What the API does not know. A member that is not known here either is refused: who sends one means something by it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OwnBody {
    access_tier: Option<AccessTier>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetBody {
    object_type: String,
    recovery_option: Option<RecoveryOption>,
    restore_location: Option<String>,
    datasource_info: Option<Datasource>,
    #[serde(default)]
    restore_criteria: Vec<CriterionBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CriterionBody {
    #[serde(default)]
    object_type: String,
    item_path: Option<String>,
    is_path_relative_to_backup_item: Option<bool>,
    #[serde(default)]
    sub_item_path_prefix: Vec<String>,
    rename_to: Option<String>,
    min_matching_value: Option<String>,
    max_matching_value: Option<String>,
}

impl RestoreRequest {
    /// Reads the body of `restore`: the request itself.
    ///
    /// # Errors
    /// The code that fits what is wrong, naming the member.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        let body: Body = read(body, MEMBERS).map_err(ApiError::from)?;
        let (source, store) = source_of(&body)?;
        body.identity_details.check()?;
        let target = body.restore_target_info;
        // Before the account is asked for: what is no restore into an account has none.
        let is_whole = match target.object_type.as_str() {
            "RestoreTargetInfo" => true,
            "ItemLevelRestoreTargetInfo" => false,
            other => {
                return Err(wrong(
                    "restoreTargetInfo.objectType",
                    &format!("'{other}' is not one of RestoreTargetInfo, ItemLevelRestoreTargetInfo"),
                ));
            }
        };
        let mut datasource = target.datasource_info.ok_or_else(|| {
            wrong("restoreTargetInfo.datasourceInfo", "it is missing; name the storage account to restore to")
        })?;
        datasource.complete("Datasource");
        datasource.account("restoreTargetInfo.datasourceInfo.resourceID").map_err(|invalid| {
            ApiError::of(
                ErrorCode::UserErrorInvalidResourceUriInRequest,
                &[
                    ("id", &datasource.resource_id),
                    ("parameter", "restoreTargetInfo.datasourceInfo.resourceID"),
                    ("reason", "it is not the id of a storage account"),
                ],
            )
            .with_detailed_message(invalid.message)
        })?;
        let selection = if is_whole { RestoreSelection::All } else { selection_of(&target.restore_criteria, store)? };
        let option = target.recovery_option.unwrap_or(RecoveryOption::FailIfExists);
        let (location, tier) = (target.restore_location, body.blobkeep.access_tier);
        Ok(Self { source, store, target: datasource, location, selection, option, tier })
    }

    /// Reads the body of `validateRestore`: `{"restoreRequestObject": {…}}`.
    ///
    /// # Errors
    /// As [`RestoreRequest::parse`].
    pub fn parse_validation(body: &Value) -> Result<Self, ApiError> {
        let request = crate::envelope::member(body, "restoreRequestObject")
            .ok_or_else(|| wrong("restoreRequestObject", "it is missing; put the restore request there"))?;
        Self::parse(request)
    }

    /// The account that is written to.
    ///
    /// # Errors
    /// As [`Datasource::account`]; [`RestoreRequest::parse`] has checked it.
    pub fn target_account(&self) -> Result<ResourceId, Invalid> {
        self.target.account("restoreTargetInfo.datasourceInfo.resourceID")
    }
}

fn wrong(parameter: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &[("parameter", parameter), ("reason", reason)])
        .with_target(parameter)
}

fn source_of(body: &Body) -> Result<(RestoreSource, DataStore), ApiError> {
    let store = body.source_data_store_type;
    let (source, needed) = match body.object_type.as_str() {
        "AzureBackupRecoveryPointBasedRestoreRequest" => {
            let id = body.recovery_point_id.as_deref().map(str::trim).unwrap_or_default();
            // Some clients send the whole id; the name is its last part.
            let name = id.rsplit('/').next().unwrap_or_default();
            if name.is_empty() {
                return Err(wrong("recoveryPointId", "it is missing; name the recovery point to restore"));
            }
            (RestoreSource::Point(name.to_owned()), DataStore::VaultStore)
        }
        "AzureBackupRecoveryTimeBasedRestoreRequest" => {
            let text = body.recovery_point_time.as_deref().unwrap_or_default();
            let time = parse_instant(text).map_err(|error| wrong("recoveryPointTime", &error.to_string()))?;
            (RestoreSource::Time(time), DataStore::OperationalStore)
        }
        other => {
            return Err(wrong(
                "objectType",
                &format!(
                    "'{other}' is not supported for blobs; use AzureBackupRecoveryPointBasedRestoreRequest or \
                     AzureBackupRecoveryTimeBasedRestoreRequest"
                ),
            ));
        }
    };
    if store != needed {
        return Err(wrong(
            "sourceDataStoreType",
            &format!("it is {store}, but a restore of this objectType reads from {needed}"),
        ));
    }
    Ok((source, store))
}

fn selection_of(criteria: &[CriterionBody], store: DataStore) -> Result<RestoreSelection, ApiError> {
    let target = "restoreTargetInfo.restoreCriteria";
    if criteria.is_empty() {
        return Err(ApiError::of(ErrorCode::UserErrorNoContainersSelectedForOperation, &[]).with_target(target));
    }
    let kinds = |kind: &str| criteria.iter().filter(|criterion| criterion.object_type == kind).count();
    if kinds("ItemPathBasedRestoreCriteria") == criteria.len() {
        let containers = containers_of(criteria)?;
        if store == DataStore::OperationalStore {
            ranges::check_containers(&containers)?;
        }
        return Ok(RestoreSelection::Containers(containers));
    }
    if kinds("RangeBasedItemLevelRestoreCriteria") == criteria.len() {
        if store == DataStore::VaultStore {
            return Err(wrong(
                target,
                "a restore from VaultStore selects containers with ItemPathBasedRestoreCriteria",
            ));
        }
        let pairs =
            criteria.iter().map(|each| (each.min_matching_value.as_deref(), each.max_matching_value.as_deref()));
        return ranges::of(pairs).map(RestoreSelection::Ranges);
    }
    Err(wrong(target, "all criteria must be ItemPathBasedRestoreCriteria, or all RangeBasedItemLevelRestoreCriteria"))
}

fn containers_of(criteria: &[CriterionBody]) -> Result<Vec<ContainerSelection>, ApiError> {
    let mut found: Vec<ContainerSelection> = Vec::new();
    for (position, criterion) in criteria.iter().enumerate() {
        let target = format!("restoreTargetInfo.restoreCriteria[{position}]");
        if criterion.is_path_relative_to_backup_item == Some(false) {
            return Err(wrong(
                &format!("{target}.isPathRelativeToBackupItem"),
                "paths are container names, which are always relative to the backed up account",
            ));
        }
        let container = criterion.item_path.as_deref().unwrap_or_default().trim_matches('/').to_owned();
        check_container_name(&container, &format!("{target}.itemPath"))?;
        let rename_to = criterion.rename_to.clone().filter(|name| !name.is_empty());
        if let Some(name) = &rename_to {
            check_container_name(name, &format!("{target}.renameTo"))?;
        }
        let selection = ContainerSelection {
            container,
            prefixes: criterion.sub_item_path_prefix.iter().filter(|prefix| !prefix.is_empty()).cloned().collect(),
            rename_to,
        };
        let destination = |each: &ContainerSelection| each.rename_to.as_ref().unwrap_or(&each.container).clone();
        if found.iter().any(|other| destination(other) == destination(&selection)) {
            return Err(wrong(
                &target,
                &format!("two criteria restore into the container '{}'", destination(&selection)),
            ));
        }
        found.push(selection);
    }
    Ok(found)
}

/// The body of an on-demand backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdhocRequest {
    /// A backup rule of the policy.
    pub rule_name: String,
    /// Another tag than the rule's default.
    pub tag_override: Option<String>,
}

impl AdhocRequest {
    /// Reads `{"backupRuleOptions": {"ruleName": …, "triggerOption": {"retentionTagOverride": …}}}`.
    ///
    /// # Errors
    /// [`Invalid`] with the member that is wrong.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            backup_rule_options: Options,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Options {
            rule_name: String,
            #[serde(default)]
            trigger_option: TriggerOption,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct TriggerOption {
            retention_tag_override: Option<String>,
        }
        let Body { backup_rule_options: options } = read(body, MEMBERS)?;
        let tag_override = options.trigger_option.retention_tag_override.filter(|tag| !tag.is_empty());
        Ok(Self { rule_name: options.rule_name, tag_override })
    }
}

#[cfg(test)]
mod tests;
