//! When the next backup of a policy is due, which tag a point gets, and when it expires.
//!
//! Pure functions of a policy and of instants (µs since 1970). Rules are worked out on the wall clock of the schedule's
//! zone, so a daily backup keeps its hour over a clock change. A backup whose time a clock change skips is made later, and
//! still counts as the one of the time and day that the schedule names. Nothing here knows the present or a database.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::interval::RepeatingInterval;
use crate::policy::{
    AbsoluteMarker, BackupRule, BackupSchedule, Criterion, DayOfMonth, Policy, TaggingCriteria, Trigger, WeekOfMonth,
};
use crate::time::{TimeError, offset_seconds, parse_on_clock, wall_clock, zone};
use crate::word::DataStore;

/// The zone of a schedule.
pub fn zone_of(schedule: &BackupSchedule) -> Result<TimeZone, TimeError> {
    zone(schedule.time_zone.as_deref().unwrap_or_default())
}

/// The first occurrence of a schedule strictly after an instant (µs).
pub fn next_after(schedule: &BackupSchedule, instant: i64) -> Result<Option<i64>, TimeError> {
    let zone = zone_of(schedule)?;
    let mut earliest = None;
    for text in &schedule.repeating_time_intervals {
        let next = RepeatingInterval::parse(text, &zone)?.next_after(instant, &zone)?;
        if earliest.is_none_or(|earliest| next < earliest) {
            earliest = Some(next);
        }
    }
    Ok(earliest)
}

/// The next scheduled backup of a policy after an instant, with the rule that is due; nothing for a policy without
/// schedules.
pub fn next_backup(policy: &Policy, instant: i64) -> Result<Option<(i64, &BackupRule)>, TimeError> {
    let mut earliest: Option<(i64, &BackupRule)> = None;
    for rule in policy.backup_rules() {
        let Some(next) = rule.schedule().map(|schedule| next_after(schedule, instant)).transpose()?.flatten() else {
            continue;
        };
        if earliest.is_none_or(|(earliest, _)| next < earliest) {
            earliest = Some((next, rule));
        }
    }
    Ok(earliest)
}

/// The tag of a scheduled point: among the entries that match, the one with the lowest priority number.
///
/// `scheduled_for` is the instant the schedule named (not the one at which a late worker began), `earlier` the times of
/// the instance's existing points, in any order.
pub fn tag_of_scheduled<'rule>(rule: &'rule BackupRule, scheduled_for: i64, earlier: &[i64]) -> Option<&'rule str> {
    let Trigger::Schedule { schedule, tagging_criteria } = &rule.trigger else { return default_tag(rule) };
    let clock = Clock { schedule, zone: zone_of(schedule).unwrap_or(TimeZone::UTC) };
    let point = Candidate { at: scheduled_for, named: clock.named(scheduled_for), earlier, clock: &clock };
    tagging_criteria
        .iter()
        .filter(|tagging| matches(tagging, &point))
        .min_by_key(|tagging| tagging.tagging_priority)
        .map(|tagging| tagging.tag_info.tag_name.as_str())
}

/// The tag of a point made on demand without an override: the rule's default one.
pub fn default_tag(rule: &BackupRule) -> Option<&str> {
    match &rule.trigger {
        Trigger::Schedule { tagging_criteria, .. } => {
            tagging_criteria.iter().find(|tagging| tagging.is_default).map(|tagging| tagging.tag_info.tag_name.as_str())
        }
        Trigger::Adhoc { tagging_criteria } => tagging_criteria.tag_info.as_ref().map(|tag| tag.tag_name.as_str()),
    }
}

/// When a point of `store` made at `created_at` (µs) ends, by the retention rule that its tag names, or by the default
/// rule when the policy has none of that name (any more). Nothing when the policy does not speak of the store.
pub fn expiry(policy: &Policy, store: DataStore, tag: &str, created_at: i64) -> Option<i64> {
    let rule = policy.retention_rule(store, tag).or_else(|| policy.default_retention(store))?;
    rule.duration(store)?.after(created_at, 1, &TimeZone::UTC).ok()
}

/// The time of day of an entry of `scheduleTimes`, in minutes after midnight on the zone's clock. Its date counts
/// only as far as it decides the zone's offset. Without an offset it is a time on that clock, like the start of an interval.
pub fn time_of_day(text: &str, zone: &TimeZone) -> Result<i32, TimeError> {
    let (wall, _) = parse_on_clock(text, zone)?;
    Ok(i32::from(wall.hour()) * 60 + i32::from(wall.minute()))
}

/// A second in instants.
const SECOND: i64 = 1_000_000;
/// No clock change moves clocks by more.
const LONGEST_CHANGE: i64 = 24 * 3600 * SECOND;

/// The clock that a schedule goes by.
struct Clock<'rule> {
    schedule: &'rule BackupSchedule,
    zone: TimeZone,
}

impl Clock<'_> {
    /// The time that the schedule names for its occurrence at `at`. That is what clocks show then, unless a clock change skipped it.
    fn named(&self, at: i64) -> DateTime {
        let shown = wall_clock(at, &self.zone);
        if !self.is_after_skipped_time(at) {
            return shown;
        }
        let intervals = self.schedule.repeating_time_intervals.iter();
        let mut occurrences = intervals.filter_map(|text| {
            let interval = RepeatingInterval::parse(text, &self.zone).ok()?;
            interval.next_occurrence(at - 1, &self.zone).ok()
        });
        occurrences.find(|occurrence| occurrence.at == at).map_or(shown, |occurrence| occurrence.named)
    }

    /// Whether clocks were put forward so shortly before that a time they skipped is made up for at `at`.
    fn is_after_skipped_time(&self, at: i64) -> bool {
        let offset = |instant| offset_seconds(instant, &self.zone);
        let skipped = (offset(at) - offset(at - LONGEST_CHANGE)) * SECOND;
        skipped > 0 && offset(at - skipped) != offset(at)
    }
}

/// A point that is about to get its tag.
struct Candidate<'rule> {
    /// When it was due.
    at: i64,
    /// The time that the schedule names for it.
    named: DateTime,
    /// When the instance's points were due, also later ones.
    earlier: &'rule [i64],
    clock: &'rule Clock<'rule>,
}

impl Candidate<'_> {
    /// Whether no point before it lies in the same period.
    fn is_first(&self, is_same: fn(DateTime, DateTime) -> bool) -> bool {
        let mut before = self.earlier.iter().filter(|earlier| **earlier < self.at);
        !before.any(|earlier| is_same(self.clock.named(*earlier), self.named))
    }
}

fn matches(tagging: &TaggingCriteria, point: &Candidate) -> bool {
    if tagging.criteria.is_empty() {
        return tagging.is_default;
    }
    tagging.criteria.iter().any(|criterion| holds(criterion, point))
}

/// Whether every member that the criterion has holds for the point.
fn holds(criterion: &Criterion, point: &Candidate) -> bool {
    let (time, zone) = (point.named, &point.clock.zone);
    let date = time.date();
    let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
    let weekday = i32::from(date.weekday().to_sunday_zero_offset());
    any_or_absent(&criterion.days_of_the_week, |day| *day as i32 == weekday)
        && any_or_absent(&criterion.months_of_year, |month| *month as i32 + 1 == i32::from(date.month()))
        && any_or_absent(&criterion.days_of_month, |day| is_day(*day, time))
        && any_or_absent(&criterion.weeks_of_the_month, |week| is_week(*week, time))
        && any_or_absent(&criterion.schedule_times, |text| time_of_day(text, zone) == Ok(minute))
        && any_or_absent(&criterion.absolute_criteria, |marker| is_marked(*marker, point))
}

fn any_or_absent<T>(words: &[T], test: impl Fn(&T) -> bool) -> bool {
    words.is_empty() || words.iter().any(test)
}

fn is_marked(marker: AbsoluteMarker, point: &Candidate) -> bool {
    match marker {
        AbsoluteMarker::AllBackup => true,
        AbsoluteMarker::FirstOfDay => point.is_first(|one, other| one.date() == other.date()),
        AbsoluteMarker::FirstOfWeek => point.is_first(|one, other| week_begin(one) == week_begin(other)),
        AbsoluteMarker::FirstOfMonth => {
            point.is_first(|one, other| (one.year(), one.month()) == (other.year(), other.month()))
        }
        AbsoluteMarker::FirstOfYear => point.is_first(|one, other| one.year() == other.year()),
    }
}

/// The number of the Sunday that begins the week of a day, counted from an arbitrary one.
fn week_begin(point: DateTime) -> i32 {
    let date = point.date();
    let days = date.since(jiff::civil::Date::ZERO).map(|span| span.get_days()).unwrap_or_default();
    days - i32::from(date.weekday().to_sunday_zero_offset())
}

fn is_day(day: DayOfMonth, point: DateTime) -> bool {
    if day.is_last == Some(true) {
        return point.day() == point.date().days_in_month();
    }
    day.date == Some(i32::from(point.day()))
}

fn is_week(week: WeekOfMonth, point: DateTime) -> bool {
    let day = point.day();
    match week {
        WeekOfMonth::Last => day > point.date().days_in_month() - 7,
        numbered => (day - 1) / 7 == numbered as i8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{format_instant, parse_instant};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn at(text: &str) -> i64 {
        parse_instant(text).unwrap()
    }

    /// A policy with the usual four tags, each with the criterion given, in a zone.
    fn policy(intervals: Value, zone: &str, weekly: Value, monthly: Value, yearly: Value) -> Policy {
        let retention = |name: &str, duration: &str| {
            json!({"objectType": "AzureRetentionRule", "name": name, "isDefault": name == "Default", "lifecycles": [{
                "deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": duration},
                "sourceDataStore": {"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"}}]})
        };
        let tag = |name: &str, priority: i64, criterion: Value| json!({"isDefault": false, "taggingPriority": priority, "tagInfo": {"tagName": name}, "criteria": [criterion]});
        Policy::parse(&json!({"properties": {
        "datasourceTypes": [crate::word::BLOB_DATASOURCE],
        "policyRules": [
            retention("Default", "P7D"), retention("Weekly", "P12W"), retention("Monthly", "P6M"),
            retention("Yearly", "P10Y"),
            {"objectType": "AzureBackupRule", "name": "BackupDaily",
             "dataStore": {"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"},
             "trigger": {"objectType": "ScheduleBasedTriggerContext",
                "schedule": {"repeatingTimeIntervals": intervals, "timeZone": zone},
                "taggingCriteria": [
                    {"isDefault": true, "taggingPriority": 99, "tagInfo": {"tagName": "Default"}},
                    tag("Weekly", 20, weekly), tag("Monthly", 15, monthly), tag("Yearly", 10, yearly)]}}
        ]}}))
        .unwrap()
    }

    fn first_of() -> Policy {
        policy(
            json!(["R/2024-01-01T14:00:00+00:00/P1D"]),
            "UTC",
            json!({"absoluteCriteria": ["FirstOfWeek"]}),
            json!({"absoluteCriteria": ["FirstOfMonth"]}),
            json!({"absoluteCriteria": ["FirstOfYear"]}),
        )
    }

    fn tag<'policy>(policy: &'policy Policy, at_text: &str, earlier: &[&str]) -> &'policy str {
        let earlier: Vec<i64> = earlier.iter().map(|text| at(text)).collect();
        tag_of_scheduled(policy.backup_rule("BackupDaily").unwrap(), at(at_text), &earlier).unwrap()
    }

    #[test]
    fn the_first_points_of_periods_get_the_longest_tag_that_fits() {
        let policy = first_of();
        let point = "2024-05-08T14:00:00Z"; // a Wednesday
        assert_eq!(tag(&policy, point, &[]), "Yearly");
        assert_eq!(tag(&policy, point, &["2024-04-30T14:00:00Z"]), "Monthly");
        assert_eq!(tag(&policy, point, &["2024-05-04T14:00:00Z"]), "Weekly", "Saturday belongs to the week before");
        assert_eq!(tag(&policy, point, &["2024-05-05T14:00:00Z"]), "Default", "weeks begin on Sunday");
        assert_eq!(tag(&policy, point, &["2024-05-08T14:00:00Z"]), "Yearly", "a point does not come before itself");
    }

    #[test]
    fn members_of_a_criterion_combine_by_and() {
        let policy = policy(
            json!(["R/2024-01-01T14:00:00+00:00/PT4H"]),
            "UTC",
            json!({"daysOfTheWeek": ["Sunday"], "scheduleTimes": ["2024-01-01T14:00:00Z"]}),
            json!({"weeksOfTheMonth": ["First"], "daysOfTheWeek": ["Monday"], "scheduleTimes": ["2024-01-01T14:00:00Z"]}),
            json!({"monthsOfYear": ["January"], "daysOfMonth": [{"date": 1}], "scheduleTimes": ["2024-01-01T14:00:00Z"]}),
        );
        for (point, expected) in [
            ("2024-05-05T14:00:00Z", "Weekly"),
            ("2024-05-05T18:00:00Z", "Default"),
            ("2024-05-06T14:00:00Z", "Monthly"),
            ("2024-05-13T14:00:00Z", "Default"),
            ("2024-01-01T14:00:00Z", "Yearly"),
            ("2024-02-01T14:00:00Z", "Default"),
        ] {
            assert_eq!(tag(&policy, point, &[]), expected, "{point}");
        }
    }

    #[test]
    fn last_days_and_last_weeks_follow_the_calendar() {
        let policy = policy(
            json!(["R/2024-01-01T14:00:00+00:00/P1D"]),
            "UTC",
            json!({"weeksOfTheMonth": ["Last"], "daysOfTheWeek": ["Friday"]}),
            json!({"daysOfMonth": [{"isLast": true}]}),
            json!({"monthsOfYear": ["December"], "weeksOfTheMonth": ["Fourth"]}),
        );
        for (point, expected) in [
            ("2024-02-23T14:00:00Z", "Weekly"),
            ("2024-02-29T14:00:00Z", "Monthly"),
            ("2023-02-28T14:00:00Z", "Monthly"),
            ("2024-02-28T14:00:00Z", "Default"),
            ("2024-12-22T14:00:00Z", "Yearly"),
            ("2024-12-29T14:00:00Z", "Default"),
        ] {
            assert_eq!(tag(&policy, point, &[]), expected, "{point}");
        }
    }

    #[test]
    fn days_are_those_of_the_schedules_zone() {
        let policy = policy(
            json!(["R/2024-01-01T00:30:00+05:30/P1D"]),
            "India Standard Time",
            json!({"daysOfTheWeek": ["Monday"]}),
            json!({"absoluteCriteria": ["FirstOfMonth"], "daysOfMonth": [{"date": 1}]}),
            json!({"monthsOfYear": ["January"], "daysOfMonth": [{"date": 1}]}),
        );
        assert_eq!(tag(&policy, "2023-12-31T19:00:00Z", &[]), "Yearly", "it is 1 January in India");
        assert_eq!(tag(&policy, "2024-05-05T19:00:00Z", &[]), "Weekly", "it is Monday in India");
    }

    #[test]
    fn a_backup_whose_time_is_skipped_counts_as_the_one_of_that_time_and_day() {
        let policy = policy(
            json!(["R/2024-01-01T23:30:00-02:00/P1D"]),
            "America/Nuuk",
            json!({"daysOfTheWeek": ["Saturday"], "scheduleTimes": ["2024-01-01T23:30:00-02:00"]}),
            json!({"daysOfMonth": [{"isLast": true}], "absoluteCriteria": ["FirstOfDay"]}),
            json!({"monthsOfYear": ["January"], "daysOfMonth": [{"date": 1}]}),
        );
        // On Saturday, 30 March, clocks went from 23:00 to midnight: the backup of 23:30 is made half an hour into Sunday.
        let made_late = "2024-03-31T01:30:00Z";
        assert_eq!(format_instant(next_backup(&policy, at("2024-03-30T02:00:00Z")).unwrap().unwrap().0), made_late);
        assert_eq!(tag(&policy, made_late, &["2024-03-30T01:30:00Z"]), "Weekly", "Saturday's");
        assert_eq!(tag(&policy, "2024-04-01T00:30:00Z", &[made_late]), "Monthly", "the first of 31 March");
    }

    #[test]
    fn times_without_an_offset_are_those_of_the_schedules_clock() {
        let policy = policy(
            json!(["R/2024-01-01T14:00:00/P1D"]),
            "Europe/Berlin",
            json!({"daysOfTheWeek": ["Monday"], "scheduleTimes": ["2024-01-01T14:00:00"]}),
            json!({"absoluteCriteria": ["FirstOfMonth"], "daysOfMonth": [{"date": 1}]}),
            json!({"monthsOfYear": ["January"], "daysOfMonth": [{"date": 1}]}),
        );
        assert_eq!(tag(&policy, "2024-05-06T12:00:00Z", &[]), "Weekly");
    }

    #[test]
    fn the_next_backup_is_the_earliest_of_all_intervals() {
        let policy = policy(
            json!(["R/2024-01-01T14:00:00Z/P1W", "R/2024-01-04T14:00:00Z/P1W"]),
            "UTC",
            json!({"absoluteCriteria": ["AllBackup"]}),
            json!({"absoluteCriteria": ["FirstOfDay"]}),
            json!({"absoluteCriteria": ["FirstOfYear"]}),
        );
        let next = |after| next_backup(&policy, at(after)).unwrap().unwrap();
        assert_eq!(format_instant(next("2024-05-07T00:00:00Z").0), "2024-05-09T14:00:00Z");
        assert_eq!(format_instant(next("2024-05-09T14:00:00Z").0), "2024-05-13T14:00:00Z");
        assert_eq!(next("2024-05-07T00:00:00Z").1.name, "BackupDaily");
    }

    #[test]
    fn points_expire_by_the_rule_of_their_tag() {
        let policy = first_of();
        let expires =
            |tag| format_instant(expiry(&policy, DataStore::VaultStore, tag, at("2024-01-31T14:00:00Z")).unwrap());
        assert_eq!(expires("Default"), "2024-02-07T14:00:00Z");
        assert_eq!(expires("weekly"), "2024-04-24T14:00:00Z");
        assert_eq!(expires("Monthly"), "2024-07-31T14:00:00Z");
        assert_eq!(expires("Yearly"), "2034-01-31T14:00:00Z");
        assert_eq!(expires("Forgotten"), "2024-02-07T14:00:00Z", "a rule that is gone leaves the default");
        assert_eq!(expiry(&policy, DataStore::OperationalStore, "Default", 0), None);
    }

    proptest! {
        #[test]
        fn every_scheduled_point_gets_a_tag_that_has_a_rule(
            point in 0_i64..4_000_000_000_000_000,
            earlier in prop::collection::vec(0_i64..4_000_000_000_000_000, 0..8),
        ) {
            let policy = first_of();
            let rule = policy.backup_rule("BackupDaily").unwrap();
            let tag = tag_of_scheduled(rule, point, &earlier).unwrap();
            prop_assert!(policy.retention_rule(DataStore::VaultStore, tag).is_some());
            prop_assert!(expiry(&policy, DataStore::VaultStore, tag, point).unwrap() > point);
        }
    }
}
