//! The settings of an account's blob service: what a PUT may say, which of them need each other, what protecting the account by the operational
//! tier changes in them, and how that is undone.
//!
//! Names and limits are those of `Microsoft.Storage/storageAccounts/blobServices` in the public reference.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{ApiError, ErrorCode};

/// Members that a request may have, in the spelling of the specification.
pub const MEMBERS: &[&str] = &[
    "properties",
    "deleteRetentionPolicy",
    "containerDeleteRetentionPolicy",
    "isVersioningEnabled",
    "changeFeed",
    "restorePolicy",
    "enabled",
    "days",
    "allowPermanentDelete",
    "retentionInDays",
];

/// The longest that deleted things are kept, and the farthest that a point-in-time restore reaches, in days.
const MOST_DAYS: u32 = 365;
/// The longest that a change feed is kept, in days.
const MOST_FEED_DAYS: u32 = 146_000;
/// What was deleted is kept for so many days longer than one can go back: what protecting an account adds, as in Azure.
const DELETED_DAYS_MORE: u32 = 5;

/// Something that is on for a number of days, or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DayPolicy {
    /// It is on.
    pub enabled: bool,
    /// For so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

impl DayPolicy {
    /// On, for this many days.
    pub fn on(days: u32) -> Self {
        Self { enabled: true, days: Some(days) }
    }

    fn at_least(self, days: u32) -> Self {
        let present = self.days.filter(|_| self.enabled).unwrap_or(0);
        Self::on(present.max(days))
    }
}

/// The change feed of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeFeed {
    /// It is written.
    pub enabled: bool,
    /// It is kept for so many days; for ever where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_in_days: Option<u32>,
}

impl ChangeFeed {
    fn at_least(self, days: u32) -> Self {
        let retention_in_days = self.retention_in_days.filter(|_| self.enabled).map(|present| present.max(days));
        Self { enabled: true, retention_in_days }
    }
}

/// The settings of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Soft delete of blobs.
    pub delete_retention_policy: DayPolicy,
    /// What is softly deleted may be removed for good.
    pub allow_permanent_delete: bool,
    /// Soft delete of containers.
    pub container_delete_retention_policy: DayPolicy,
    /// Versions of blobs are kept.
    pub is_versioning_enabled: bool,
    /// The feed of changes.
    pub change_feed: ChangeFeed,
    /// Point-in-time restore.
    pub restore_policy: DayPolicy,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DayPolicyBody {
    enabled: Option<bool>,
    days: Option<u32>,
    allow_permanent_delete: Option<bool>,
}

impl DayPolicyBody {
    fn over(self, present: DayPolicy) -> DayPolicy {
        let enabled = self.enabled.unwrap_or(present.enabled);
        DayPolicy { enabled, days: self.days.or(present.days).filter(|_| enabled) }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ChangeFeedBody {
    enabled: Option<bool>,
    retention_in_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PropertiesBody {
    delete_retention_policy: Option<DayPolicyBody>,
    container_delete_retention_policy: Option<DayPolicyBody>,
    is_versioning_enabled: Option<bool>,
    change_feed: Option<ChangeFeedBody>,
    restore_policy: Option<DayPolicyBody>,
}

/// The body of a PUT: what it does not name stays as it is.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Change {
    properties: PropertiesBody,
}

/// What protecting an account replaced in one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced<T> {
    /// What was there before the first protection.
    pub before: T,
    /// What was set.
    pub set: T,
}

/// What protecting an account changed, so that it can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Protection {
    /// The longest retention that asked for it, in days.
    pub days: u32,
    /// The delete lock of the account was made by it.
    pub made_lock: bool,
    /// Soft delete of blobs.
    pub delete_retention_policy: Option<Replaced<DayPolicy>>,
    /// Versions.
    pub is_versioning_enabled: Option<Replaced<bool>>,
    /// The feed.
    pub change_feed: Option<Replaced<ChangeFeed>>,
    /// Point-in-time restore.
    pub restore_policy: Option<Replaced<DayPolicy>>,
}

fn invalid(parameter: &str, value: &str, rule: &str) -> ApiError {
    let values = [("parameter", parameter), ("value", value), ("rule", rule)];
    ApiError::of(ErrorCode::InvalidValuesForRequestParameters, &values).with_target(parameter)
}

fn check_days(parameter: &str, policy: DayPolicy) -> Result<(), ApiError> {
    if !policy.enabled || policy.days.is_some_and(|days| (1..=MOST_DAYS).contains(&days)) {
        return Ok(());
    }
    let value = policy.days.map_or_else(|| "null".to_owned(), |days| days.to_string());
    Err(invalid(parameter, &value, &format!("It should be a number of days from 1 to {MOST_DAYS}.")))
}

fn replace<T: Copy + PartialEq>(current: &mut T, wanted: T, replaced: &mut Option<Replaced<T>>) {
    if *current != wanted {
        let before = replaced.map_or(*current, |earlier| earlier.before);
        *replaced = Some(Replaced { before, set: wanted });
        *current = wanted;
    }
}

/// Somebody may have set something else since: that stays.
fn put_back<T: Copy + PartialEq>(current: &mut T, replaced: Option<Replaced<T>>) {
    if let Some(replaced) = replaced.filter(|replaced| replaced.set == *current) {
        *current = replaced.before;
    }
}

impl Settings {
    /// Whether the settings go together.
    ///
    /// # Errors
    /// 400 `InvalidValuesForRequestParameters` naming the setting.
    pub fn check(&self) -> Result<(), ApiError> {
        check_days("properties.deleteRetentionPolicy.days", self.delete_retention_policy)?;
        check_days("properties.containerDeleteRetentionPolicy.days", self.container_delete_retention_policy)?;
        let feed_days = self.change_feed.retention_in_days;
        if let Some(days) = feed_days.filter(|days| !(1..=MOST_FEED_DAYS).contains(days)) {
            let rule = format!("It should be a number of days from 1 to {MOST_FEED_DAYS}, or absent.");
            return Err(invalid("properties.changeFeed.retentionInDays", &days.to_string(), &rule));
        }
        if !self.restore_policy.enabled {
            return Ok(());
        }
        check_days("properties.restorePolicy.days", self.restore_policy)?;
        let days = self.restore_policy.days.unwrap_or_default();
        for (is_on, needed) in [
            (self.is_versioning_enabled, "properties.isVersioningEnabled"),
            (self.change_feed.enabled, "properties.changeFeed.enabled"),
            (self.delete_retention_policy.enabled, "properties.deleteRetentionPolicy.enabled"),
        ] {
            if !is_on {
                let rule = "It should be true while properties.restorePolicy is enabled.";
                return Err(invalid(needed, "false", rule));
            }
        }
        let deleted_days = self.delete_retention_policy.days.unwrap_or_default();
        let feed_is_long = feed_days.is_none_or(|feed_days| days < feed_days);
        if days >= deleted_days || !feed_is_long {
            let other = if days >= deleted_days { "deleteRetentionPolicy.days" } else { "changeFeed.retentionInDays" };
            let rule = format!("It should be greater than zero and less than properties.{other}.");
            return Err(invalid("properties.restorePolicy.days", &days.to_string(), &rule));
        }
        Ok(())
    }

    /// Takes over what a request names. Those settings are its sender's from then on, and no longer what a protection changed.
    ///
    /// # Errors
    /// As [`Self::check`]; then nothing has changed.
    pub fn change(&mut self, change: &Change, protection: Option<&mut Protection>) -> Result<(), ApiError> {
        let said = &change.properties;
        let mut next = *self;
        if let Some(policy) = said.delete_retention_policy {
            next.delete_retention_policy = policy.over(self.delete_retention_policy);
            next.allow_permanent_delete = policy.allow_permanent_delete.unwrap_or(self.allow_permanent_delete);
        }
        if let Some(policy) = said.container_delete_retention_policy {
            next.container_delete_retention_policy = policy.over(self.container_delete_retention_policy);
        }
        next.is_versioning_enabled = said.is_versioning_enabled.unwrap_or(self.is_versioning_enabled);
        if let Some(feed) = said.change_feed {
            let enabled = feed.enabled.unwrap_or(self.change_feed.enabled);
            // Without a number it is kept for ever, also if it had one: that is how Azure takes it.
            next.change_feed = ChangeFeed { enabled, retention_in_days: feed.retention_in_days.filter(|_| enabled) };
        }
        if let Some(policy) = said.restore_policy {
            next.restore_policy = policy.over(self.restore_policy);
        }
        next.check()?;
        *self = next;
        if let Some(protection) = protection {
            protection.delete_retention_policy.take_if(|_| said.delete_retention_policy.is_some());
            protection.is_versioning_enabled.take_if(|_| said.is_versioning_enabled.is_some());
            protection.change_feed.take_if(|_| said.change_feed.is_some());
            protection.restore_policy.take_if(|_| said.restore_policy.is_some());
        }
        Ok(())
    }

    /// What protecting the account by the operational tier for `days` turns on, as in Azure: nothing becomes shorter than it was.
    pub fn protect(&mut self, days: u32, protection: &mut Protection) {
        let kept = days.saturating_add(DELETED_DAYS_MORE).min(MOST_DAYS);
        protection.days = protection.days.max(days);
        replace(&mut self.is_versioning_enabled, true, &mut protection.is_versioning_enabled);
        let restorable = self.restore_policy.at_least(days);
        replace(&mut self.restore_policy, restorable, &mut protection.restore_policy);
        // Of what can be gone back to already, what was deleted is needed, too.
        let reach = self.restore_policy.days.unwrap_or(days).saturating_add(1).max(kept).min(MOST_DAYS);
        let deleted = self.delete_retention_policy.at_least(reach);
        replace(&mut self.delete_retention_policy, deleted, &mut protection.delete_retention_policy);
        let told = self.change_feed.at_least(reach);
        replace(&mut self.change_feed, told, &mut protection.change_feed);
    }

    /// Undoes what a protection changed, and nothing that was set since.
    pub fn release(&mut self, protection: &Protection) {
        let mut all = *self;
        put_back(&mut all.restore_policy, protection.restore_policy);
        let mut fewer = all;
        put_back(&mut all.delete_retention_policy, protection.delete_retention_policy);
        put_back(&mut all.is_versioning_enabled, protection.is_versioning_enabled);
        put_back(&mut all.change_feed, protection.change_feed);
        // Whoever has set a point-in-time restore since needs what it stands on.
        if fewer.check().is_err() {
            fewer = *self;
        }
        *self = if all.check().is_ok() { all } else { fewer };
    }

    /// The members of `properties`, in the order of Azure's answers.
    pub fn render(&self) -> Value {
        let policy = |policy: DayPolicy| {
            let mut shown = json!({ "enabled": policy.enabled });
            if let Some(days) = policy.days.filter(|_| policy.enabled) {
                shown["days"] = json!(days);
            }
            shown
        };
        let mut deleted = json!({ "allowPermanentDelete": self.allow_permanent_delete });
        let days = policy(self.delete_retention_policy);
        for name in ["enabled", "days"] {
            if let Some(value) = days.get(name) {
                deleted[name] = value.clone();
            }
        }
        json!({
            "cors": { "corsRules": [] },
            "deleteRetentionPolicy": deleted,
            "containerDeleteRetentionPolicy": policy(self.container_delete_retention_policy),
            "isVersioningEnabled": self.is_versioning_enabled,
            "changeFeed": self.change_feed,
            "restorePolicy": policy(self.restore_policy),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(properties: Value) -> Change {
        serde_json::from_value(json!({ "properties": properties })).unwrap()
    }

    fn all_on(restore: u32, deleted: u32, feed: Option<u32>) -> Settings {
        Settings {
            delete_retention_policy: DayPolicy::on(deleted),
            is_versioning_enabled: true,
            change_feed: ChangeFeed { enabled: true, retention_in_days: feed },
            restore_policy: DayPolicy::on(restore),
            ..Settings::default()
        }
    }

    #[test]
    fn protecting_turns_on_what_azure_turns_on() {
        let (mut settings, mut protection) = (Settings::default(), Protection::default());
        settings.protect(30, &mut protection);
        assert_eq!(settings, all_on(30, 35, None));
        settings.check().unwrap();
        settings.release(&protection);
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn nothing_becomes_shorter_than_it_was_and_what_was_longer_is_not_touched() {
        for (before, expected) in [
            (all_on(60, 90, None), all_on(60, 90, None)),
            (all_on(6, 7, Some(7)), all_on(30, 35, Some(35))),
            (all_on(40, 41, Some(400)), all_on(40, 41, Some(400))),
            (all_on(6, 100, None), all_on(30, 100, None)),
        ] {
            let (mut settings, mut protection) = (before, Protection::default());
            settings.protect(30, &mut protection);
            assert_eq!(settings, expected);
            settings.check().unwrap();
            settings.release(&protection);
            assert_eq!(settings, before);
        }
        let (mut settings, mut protection) = (Settings::default(), Protection::default());
        settings.protect(360, &mut protection);
        assert_eq!((settings.restore_policy.days, settings.delete_retention_policy.days), (Some(360), Some(365)));
    }

    #[test]
    fn a_longer_protection_later_remembers_what_was_there_before_the_first_one() {
        let (mut settings, mut protection) = (Settings::default(), Protection::default());
        settings.protect(7, &mut protection);
        settings.protect(30, &mut protection);
        settings.protect(14, &mut protection);
        assert_eq!((settings, protection.days), (all_on(30, 35, None), 30));
        settings.release(&protection);
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn what_others_set_since_is_theirs() {
        let (mut settings, mut protection) = (Settings::default(), Protection::default());
        settings.protect(30, &mut protection);
        // Also what is as it was: somebody wants it so.
        settings.change(&change(json!({"isVersioningEnabled": true})), Some(&mut protection)).unwrap();
        settings.release(&protection);
        assert_eq!(settings, Settings { is_versioning_enabled: true, ..Settings::default() });

        let (mut settings, mut protection) = (Settings::default(), Protection::default());
        settings.protect(30, &mut protection);
        let shorter = change(json!({"restorePolicy": {"enabled": true, "days": 10}}));
        settings.change(&shorter, Some(&mut protection)).unwrap();
        settings.release(&protection);
        assert_eq!(settings, all_on(10, 35, None), "a point-in-time restore needs the rest");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused_and_change_nothing() {
        for (said, parameter) in [
            (json!({"deleteRetentionPolicy": {"enabled": true, "days": 366}}), "deleteRetentionPolicy.days"),
            (json!({"containerDeleteRetentionPolicy": {"enabled": true, "days": 0}}), "containerDeleteRetentionPolicy"),
            (json!({"changeFeed": {"enabled": true, "retentionInDays": 0}}), "changeFeed.retentionInDays"),
            (json!({"isVersioningEnabled": false}), "isVersioningEnabled"),
            (json!({"changeFeed": {"enabled": false}}), "changeFeed.enabled"),
            (json!({"changeFeed": {"retentionInDays": 6}}), "changeFeed.retentionInDays"),
            (json!({"deleteRetentionPolicy": {"enabled": false}}), "deleteRetentionPolicy.enabled"),
            (json!({"restorePolicy": {"days": 35}}), "restorePolicy.days"),
            (json!({"restorePolicy": {"days": 0}}), "restorePolicy.days"),
        ] {
            let before = all_on(30, 35, None);
            let mut settings = before;
            let error = settings.change(&change(said.clone()), None).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidValuesForRequestParameters, "{said}");
            assert!(error.message.contains(parameter), "{said}: {}", error.message);
            assert_eq!(settings, before);
        }
        let nothing_said = change(json!({"deleteRetentionPolicy": {"enabled": true}}));
        assert!(Settings::default().change(&nothing_said, None).is_err(), "for how long?");
        let mut settings = all_on(30, 35, None);
        let off = json!({"restorePolicy": {"enabled": false}, "isVersioningEnabled": false});
        settings.change(&change(off), None).unwrap();
        assert_eq!(settings.restore_policy, DayPolicy::default());
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut settings = all_on(30, 35, Some(99));
        settings.change(&change(json!({"deleteRetentionPolicy": {"days": 50}})), None).unwrap();
        settings.change(&change(json!({"changeFeed": {"enabled": true}})), None).unwrap();
        assert_eq!(settings, all_on(30, 50, None), "a feed without a number of days is kept for ever");
        let shown = settings.render();
        assert_eq!(shown["deleteRetentionPolicy"], json!({"allowPermanentDelete": false, "enabled": true, "days": 50}));
        assert_eq!(shown["changeFeed"], json!({"enabled": true}));
        assert_eq!(shown["containerDeleteRetentionPolicy"], json!({"enabled": false}));
    }
}
