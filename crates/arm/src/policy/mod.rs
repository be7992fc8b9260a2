//! Backup policies: the rules that say when points are made and how long they live.
//!
//! A policy is read from a request into [`Policy`], checked whole by [`Policy::validate`], and written back in the
//! spelling of the specification. What starts a backup is in `trigger`, the checks are in `check`; schedules and tags are
//! worked out in `schedule`; nothing here knows the time.

mod check;
mod trigger;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use trigger::{
    AbsoluteMarker, AdhocTagging, BackupSchedule, Criterion, DayOfMonth, Month, TagInfo, TaggingCriteria, Trigger,
    WeekOfMonth, Weekday,
};

use crate::time::IsoDuration;
use crate::word::{DataStore, Invalid, blob_datasource_type, read};

/// Members that a policy may have, in the spelling of the specification.
const MEMBERS: &[&str] = &[
    "properties",
    "datasourceTypes",
    "policyRules",
    "objectType",
    "name",
    "isDefault",
    "lifecycles",
    "deleteAfter",
    "duration",
    "sourceDataStore",
    "dataStoreType",
    "targetDataStoreCopySettings",
    "copyAfter",
    "dataStore",
    "backupParameters",
    "backupType",
    "trigger",
    "schedule",
    "repeatingTimeIntervals",
    "timeZone",
    "taggingCriteria",
    "taggingPriority",
    "tagInfo",
    "tagName",
    "id",
    "eTag",
    "criteria",
    "absoluteCriteria",
    "daysOfTheWeek",
    "weeksOfTheMonth",
    "monthsOfYear",
    "daysOfMonth",
    "date",
    "isLast",
    "scheduleTimes",
];

/// The name of the retention rule that every used store must have.
pub const DEFAULT_RULE: &str = "Default";

/// A policy: one kind of datasource and its rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The rules, in the order given.
    #[serde(default)]
    pub policy_rules: Vec<PolicyRule>,
    /// Exactly one type that can be protected.
    #[serde(default)]
    pub datasource_types: Vec<String>,
    /// Always `BackupPolicy`.
    #[serde(default)]
    pub object_type: String,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "objectType")]
pub enum PolicyRule {
    /// When a point is made.
    #[serde(rename = "AzureBackupRule")]
    Backup(BackupRule),
    /// How long points with a tag live.
    #[serde(rename = "AzureRetentionRule")]
    Retention(RetentionRule),
}

/// When a point is made, and which tag it gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRule {
    /// What an on-demand backup names.
    pub name: String,
    /// Always `Discrete` for blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_parameters: Option<BackupParameters>,
    /// Where the point goes: the vault.
    pub data_store: DataStoreInfo,
    /// What starts the backup.
    pub trigger: Trigger,
}

/// How a backup is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupParameters {
    /// Always `AzureBackupParams`.
    #[serde(default = "azure_backup_params")]
    pub object_type: String,
    /// `Discrete` for blobs.
    #[serde(default)]
    pub backup_type: String,
}

fn azure_backup_params() -> String {
    "AzureBackupParams".to_owned()
}

/// A store, as an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreInfo {
    /// Which one.
    pub data_store_type: DataStore,
    /// Always `DataStoreInfoBase`.
    #[serde(default = "data_store_info_base")]
    pub object_type: String,
}

fn data_store_info_base() -> String {
    "DataStoreInfoBase".to_owned()
}

/// How long points with the tag of this name live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionRule {
    /// What a tag names.
    pub name: String,
    /// Whether points without another rule fall under this one.
    #[serde(default)]
    pub is_default: bool,
    /// One per store.
    pub lifecycles: Vec<LifeCycle>,
}

/// The life of a point in one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifeCycle {
    /// When it ends.
    pub delete_after: DeleteOption,
    /// Copies to colder stores: must be empty for blobs.
    #[serde(default)]
    pub target_data_store_copy_settings: Vec<Value>,
    /// The store.
    pub source_data_store: DataStoreInfo,
}

/// When a point ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOption {
    /// Always `AbsoluteDeleteOption`.
    #[serde(default = "absolute_delete_option")]
    pub object_type: String,
    /// ISO 8601.
    pub duration: String,
}

fn absolute_delete_option() -> String {
    "AbsoluteDeleteOption".to_owned()
}

impl Policy {
    /// Reads the body of a PUT and checks it. `{"properties": {…}}` is the only form.
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Resource {
            properties: Option<Policy>,
        }
        let resource: Resource = read(body, MEMBERS)?;
        let mut policy = resource.properties.ok_or_else(|| {
            Invalid::new("properties", "The policy has no 'properties'; send the policy's rules there.")
        })?;
        policy.normalize()?;
        policy.validate()?;
        Ok(policy)
    }

    /// Gives known words their spelling and fills in what is read-only in the specification.
    fn normalize(&mut self) -> Result<(), Invalid> {
        if !self.object_type.is_empty() && !self.object_type.eq_ignore_ascii_case("BackupPolicy") {
            return Err(Invalid::new(
                "properties.objectType",
                format!("The policy's objectType is '{}'; only 'BackupPolicy' exists.", self.object_type),
            ));
        }
        self.object_type = "BackupPolicy".to_owned();
        for datasource_type in &mut self.datasource_types {
            if let Some(known) = blob_datasource_type(datasource_type) {
                known.clone_into(datasource_type);
            }
        }
        for rule in &mut self.policy_rules {
            if let PolicyRule::Backup(rule) = rule {
                rule.normalize();
            }
        }
        Ok(())
    }

    /// The backup rules, in their order.
    pub fn backup_rules(&self) -> impl Iterator<Item = &BackupRule> {
        self.policy_rules.iter().filter_map(|rule| match rule {
            PolicyRule::Backup(rule) => Some(rule),
            PolicyRule::Retention(_) => None,
        })
    }

    /// The backup rule of this name, case aside.
    pub fn backup_rule(&self, name: &str) -> Option<&BackupRule> {
        self.backup_rules().find(|rule| rule.name.eq_ignore_ascii_case(name))
    }

    /// The retention rules, in their order.
    pub fn retention_rules(&self) -> impl Iterator<Item = &RetentionRule> {
        self.policy_rules.iter().filter_map(|rule| match rule {
            PolicyRule::Retention(rule) => Some(rule),
            PolicyRule::Backup(_) => None,
        })
    }

    /// The retention rule of this name for a store, case aside.
    pub fn retention_rule(&self, store: DataStore, name: &str) -> Option<&RetentionRule> {
        self.retention_rules()
            .find(|rule| rule.name.eq_ignore_ascii_case(name) && rule.stores().any(|each| each == store))
    }

    /// The default retention rule of a store.
    pub fn default_retention(&self, store: DataStore) -> Option<&RetentionRule> {
        self.retention_rules().find(|rule| rule.is_default && rule.stores().any(|each| each == store))
    }

    /// How long the operational tier reaches back; nothing when the policy has no such tier.
    pub fn operational_retention(&self) -> Option<IsoDuration> {
        self.default_retention(DataStore::OperationalStore)?.duration(DataStore::OperationalStore)
    }

    /// Whether the policy makes points in the vault.
    pub fn is_vaulted(&self) -> bool {
        self.backup_rules().next().is_some()
    }

    /// The resource as answered: `id` and `name` as created.
    pub fn render(&self, id: &str, name: &str) -> Value {
        json!({
            "properties": self,
            "id": id,
            "name": name,
            "type": "Microsoft.DataProtection/backupVaults/backupPolicies",
        })
    }
}

impl PolicyRule {
    /// The name of the rule.
    pub fn name(&self) -> &str {
        match self {
            Self::Backup(rule) => &rule.name,
            Self::Retention(rule) => &rule.name,
        }
    }
}

impl BackupRule {
    fn normalize(&mut self) {
        if let Some(parameters) = &mut self.backup_parameters
            && parameters.backup_type.eq_ignore_ascii_case("Discrete")
        {
            "Discrete".clone_into(&mut parameters.backup_type);
        }
        let fill = |tag: &mut TagInfo| tag.id = Some(format!("{}_", tag.tag_name));
        match &mut self.trigger {
            Trigger::Schedule { tagging_criteria, .. } => {
                for each in tagging_criteria {
                    fill(&mut each.tag_info);
                    for criterion in &mut each.criteria {
                        "ScheduleBasedBackupCriteria".clone_into(&mut criterion.object_type);
                    }
                }
            }
            Trigger::Adhoc { tagging_criteria } => {
                if let Some(tag) = &mut tagging_criteria.tag_info {
                    fill(tag);
                }
            }
        }
    }

    /// The schedule, if the rule has one.
    pub fn schedule(&self) -> Option<&BackupSchedule> {
        match &self.trigger {
            Trigger::Schedule { schedule, .. } => Some(schedule),
            Trigger::Adhoc { .. } => None,
        }
    }
}

impl RetentionRule {
    /// The stores that the rule speaks of.
    pub fn stores(&self) -> impl Iterator<Item = DataStore> + '_ {
        self.lifecycles.iter().map(|lifecycle| lifecycle.source_data_store.data_store_type)
    }

    /// How long points of a store live under this rule.
    pub fn duration(&self, store: DataStore) -> Option<IsoDuration> {
        let lifecycle = self.lifecycles.iter().find(|each| each.source_data_store.data_store_type == store)?;
        IsoDuration::parse(&lifecycle.delete_after.duration).ok()
    }
}

#[cfg(test)]
mod tests;
