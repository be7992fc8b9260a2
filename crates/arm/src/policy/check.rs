//! What a policy must satisfy to be accepted, each rule with its own sentence.
//!
//! Everything is checked when a policy comes in, so that nothing that is stored can fail later: intervals parse, tags name
//! rules, every store that is used has a default retention.

use super::{
    BackupRule, BackupSchedule, Criterion, LifeCycle, Policy, PolicyRule, RetentionRule, TagInfo, TaggingCriteria,
    Trigger,
};
use crate::interval::RepeatingInterval;
use crate::schedule;
use crate::time::{IsoDuration, SHORTEST_PERIOD_SECONDS, zone};
use crate::word::{ADLS_DATASOURCE, BLOB_DATASOURCE, DataStore, Invalid, blob_datasource_type};

impl Policy {
    /// Checks everything that can be said of a policy by itself; the first thing wrong is reported.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_datasource_types()?;
        if self.policy_rules.is_empty() {
            return Err(Invalid::new(
                "properties.policyRules",
                "The policy has no rules; it needs at least one AzureRetentionRule named 'Default'.",
            ));
        }
        self.validate_names()?;
        for (position, rule) in self.policy_rules.iter().enumerate() {
            let target = format!("properties.policyRules[{position}]");
            match rule {
                PolicyRule::Retention(rule) => rule.validate(&target)?,
                PolicyRule::Backup(rule) => self.validate_backup_rule(rule, &target)?,
            }
        }
        self.validate_default_rules()
    }

    fn validate_datasource_types(&self) -> Result<(), Invalid> {
        let target = "properties.datasourceTypes";
        let [only] = self.datasource_types.as_slice() else {
            return Err(Invalid::new(
                target,
                format!(
                    "The policy names {} datasource types; it must name exactly one, {}.",
                    self.datasource_types.len(),
                    BLOB_DATASOURCE
                ),
            ));
        };
        if blob_datasource_type(only).is_none() {
            return Err(Invalid::new(
                target,
                format!(
                    "Datasource type '{only}' cannot be backed up by this service; use {} or {}.",
                    BLOB_DATASOURCE, ADLS_DATASOURCE
                ),
            ));
        }
        Ok(())
    }

    /// Backup rules have names of their own; retention rules have one per store (two `Default`s are usual).
    fn validate_names(&self) -> Result<(), Invalid> {
        let mut seen: Vec<(String, Option<DataStore>)> = Vec::new();
        for (position, rule) in self.policy_rules.iter().enumerate() {
            let stores = match rule {
                PolicyRule::Backup(_) => vec![None],
                PolicyRule::Retention(rule) => rule.stores().map(Some).collect(),
            };
            let target = format!("properties.policyRules[{position}].name");
            if rule.name().trim().is_empty() {
                return Err(Invalid::new(target, "A rule of the policy has an empty name."));
            }
            for store in stores {
                let key = (rule.name().to_lowercase(), store);
                if seen.contains(&key) {
                    return Err(Invalid::new(
                        target,
                        format!("Two rules of the policy have the name '{}' for the same store.", rule.name()),
                    ));
                }
                seen.push(key);
            }
        }
        Ok(())
    }

    fn validate_default_rules(&self) -> Result<(), Invalid> {
        let defaults = |store| {
            self.retention_rules().filter(|rule| rule.is_default && rule.stores().any(|each| each == store)).count()
        };
        for store in [DataStore::OperationalStore, DataStore::VaultStore] {
            let has_backup = store == DataStore::VaultStore && self.backup_rules().next().is_some();
            let is_used = has_backup || self.retention_rules().any(|rule| rule.stores().any(|each| each == store));
            match defaults(store) {
                0 if is_used => {
                    return Err(Invalid::new(
                        "properties.policyRules",
                        format!(
                            "The policy uses {store} without a default retention rule; add an AzureRetentionRule named \
                             'Default' with isDefault true for it."
                        ),
                    ));
                }
                0 | 1 => {}
                count => {
                    return Err(Invalid::new(
                        "properties.policyRules",
                        format!(
                            "The policy has {count} default retention rules for {store}; only one may be the default."
                        ),
                    ));
                }
            }
        }
        let has_vault_retention = self.retention_rules().any(|rule| rule.stores().any(|s| s == DataStore::VaultStore));
        if has_vault_retention && self.backup_rules().next().is_none() {
            return Err(Invalid::new(
                "properties.policyRules",
                "The policy keeps points in VaultStore but has no AzureBackupRule that makes any; add one, or remove the \
                 VaultStore retention.",
            ));
        }
        Ok(())
    }

    fn validate_backup_rule(&self, rule: &BackupRule, target: &str) -> Result<(), Invalid> {
        if rule.data_store.data_store_type != DataStore::VaultStore {
            return Err(Invalid::new(
                format!("{target}.dataStore"),
                format!(
                    "Backup rule '{}' writes to {}; blobs are backed up to VaultStore (the operational tier is continuous \
                     and has no backup rule).",
                    rule.name, rule.data_store.data_store_type
                ),
            ));
        }
        let backup_type = rule.backup_parameters.as_ref().map(|given| given.backup_type.as_str()).unwrap_or_default();
        if !backup_type.is_empty() && backup_type != "Discrete" {
            return Err(Invalid::new(
                format!("{target}.backupParameters.backupType"),
                format!("Backup rule '{}' has the backup type '{backup_type}'; blobs need 'Discrete'.", rule.name),
            ));
        }
        match &rule.trigger {
            Trigger::Schedule { schedule, tagging_criteria } => {
                schedule.validate(&format!("{target}.trigger.schedule"))?;
                self.validate_tagging(tagging_criteria, schedule, &format!("{target}.trigger.taggingCriteria"))
            }
            Trigger::Adhoc { tagging_criteria } => match &tagging_criteria.tag_info {
                Some(tag) => self.validate_tag(tag, &format!("{target}.trigger.taggingCriteria.tagInfo")),
                None => Ok(()),
            },
        }
    }

    fn validate_tagging(
        &self,
        tagging: &[TaggingCriteria],
        schedule: &BackupSchedule,
        target: &str,
    ) -> Result<(), Invalid> {
        let zone = zone(schedule.time_zone.as_deref().unwrap_or_default());
        let defaults = tagging.iter().filter(|each| each.is_default).count();
        if defaults != 1 {
            return Err(Invalid::new(
                target,
                format!("The tagging criteria hold {defaults} default entries; exactly one must have isDefault true."),
            ));
        }
        for (position, each) in tagging.iter().enumerate() {
            let target = format!("{target}[{position}]");
            self.validate_tag(&each.tag_info, &format!("{target}.tagInfo"))?;
            if tagging.iter().filter(|other| other.tagging_priority == each.tagging_priority).count() > 1 {
                return Err(Invalid::new(
                    format!("{target}.taggingPriority"),
                    format!("Two tagging criteria have the priority {}; each needs its own.", each.tagging_priority),
                ));
            }
            if !each.is_default && each.criteria.is_empty() {
                return Err(Invalid::new(
                    format!("{target}.criteria"),
                    format!("Tag '{}' has no criteria; only the default tag may do without.", each.tag_info.tag_name),
                ));
            }
            for (index, criterion) in each.criteria.iter().enumerate() {
                criterion.validate(&format!("{target}.criteria[{index}]"), zone.as_ref().ok())?;
            }
        }
        Ok(())
    }

    fn validate_tag(&self, tag: &TagInfo, target: &str) -> Result<(), Invalid> {
        if self.retention_rule(DataStore::VaultStore, &tag.tag_name).is_some() {
            return Ok(());
        }
        Err(Invalid::new(
            target,
            format!(
                "Tag '{}' names no retention rule of VaultStore in this policy; add an AzureRetentionRule of that name.",
                tag.tag_name
            ),
        ))
    }
}

impl BackupSchedule {
    fn validate(&self, target: &str) -> Result<(), Invalid> {
        let zone_name = self.time_zone.as_deref().unwrap_or_default();
        let zone = zone(zone_name)
            .map_err(|error| Invalid::new(format!("{target}.timeZone"), format!("Time zone {error}.")))?;
        if self.repeating_time_intervals.is_empty() {
            return Err(Invalid::new(
                format!("{target}.repeatingTimeIntervals"),
                "The schedule has no repeating interval; give at least one, for example R/2024-05-08T14:00:00+00:00/P1D.",
            ));
        }
        for (position, text) in self.repeating_time_intervals.iter().enumerate() {
            let target = format!("{target}.repeatingTimeIntervals[{position}]");
            let interval = RepeatingInterval::parse(text, &zone)
                .map_err(|error| Invalid::new(target.clone(), format!("Repeating interval {error}.")))?;
            if interval.period.least_seconds() < SHORTEST_PERIOD_SECONDS {
                return Err(Invalid::new(
                    target,
                    format!("Repeating interval '{text}' is shorter than PT5M, the shortest that is supported."),
                ));
            }
        }
        Ok(())
    }
}

impl Criterion {
    fn validate(&self, target: &str, zone: Option<&jiff::tz::TimeZone>) -> Result<(), Invalid> {
        if *self == (Self { object_type: self.object_type.clone(), ..Self::default() }) {
            return Err(Invalid::new(target, "A criterion says nothing; give it at least one member."));
        }
        for day in &self.days_of_month {
            let is_good = match (day.date, day.is_last) {
                (_, Some(true)) => true,
                (Some(date), _) => (1..=28).contains(&date),
                (None, _) => false,
            };
            if !is_good {
                return Err(Invalid::new(
                    format!("{target}.daysOfMonth"),
                    "A day of the month must be a date from 1 to 28, or isLast true.",
                ));
            }
        }
        let utc = jiff::tz::TimeZone::UTC;
        for text in &self.schedule_times {
            schedule::time_of_day(text, zone.unwrap_or(&utc))
                .map_err(|error| Invalid::new(format!("{target}.scheduleTimes"), format!("Schedule time {error}.")))?;
        }
        Ok(())
    }
}

impl RetentionRule {
    fn validate(&self, target: &str) -> Result<(), Invalid> {
        if self.lifecycles.is_empty() {
            return Err(Invalid::new(
                format!("{target}.lifecycles"),
                format!(
                    "Retention rule '{}' has no lifecycle; give it one with deleteAfter and sourceDataStore.",
                    self.name
                ),
            ));
        }
        for (position, lifecycle) in self.lifecycles.iter().enumerate() {
            lifecycle.validate(&self.name, &format!("{target}.lifecycles[{position}]"))?;
        }
        Ok(())
    }
}

/// The longest operational retention, in days.
const LONGEST_OPERATIONAL_DAYS: i64 = 360;
/// The longest retention in the vault, in days (ten years, with a little room for other ways of writing them).
const LONGEST_VAULT_DAYS: i64 = 3_660;

impl LifeCycle {
    fn validate(&self, rule: &str, target: &str) -> Result<(), Invalid> {
        let store = self.source_data_store.data_store_type;
        let longest_days = match store {
            DataStore::OperationalStore => LONGEST_OPERATIONAL_DAYS,
            DataStore::VaultStore => LONGEST_VAULT_DAYS,
            other => {
                return Err(Invalid::new(
                    format!("{target}.sourceDataStore"),
                    format!("Retention rule '{rule}' is for {other}; blobs have OperationalStore and VaultStore."),
                ));
            }
        };
        if !self.target_data_store_copy_settings.is_empty() {
            return Err(Invalid::new(
                format!("{target}.targetDataStoreCopySettings"),
                format!("Retention rule '{rule}' copies points to another store, which is not offered for blobs."),
            ));
        }
        let target = format!("{target}.deleteAfter.duration");
        if !self.delete_after.object_type.eq_ignore_ascii_case("AbsoluteDeleteOption") {
            return Err(Invalid::new(target, format!("Retention rule '{rule}' must use AbsoluteDeleteOption.")));
        }
        let duration = IsoDuration::parse(&self.delete_after.duration)
            .map_err(|error| Invalid::new(target.clone(), format!("Retention rule '{rule}': {error}.")))?;
        if duration.least_seconds() < 86_400 {
            return Err(Invalid::new(
                target,
                format!(
                    "Retention rule '{rule}' keeps points for {}; the shortest is P1D.",
                    self.delete_after.duration
                ),
            ));
        }
        if duration.nominal_days() > longest_days {
            return Err(Invalid::new(
                target,
                format!(
                    "Retention rule '{rule}' keeps points in {store} for {}; the longest there is {longest_days} days.",
                    self.delete_after.duration
                ),
            ));
        }
        Ok(())
    }
}
