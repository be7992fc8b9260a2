//! What starts a backup, and which tag its point gets.

use serde::{Deserialize, Serialize};

use crate::word::words;

/// What starts a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "objectType")]
pub enum Trigger {
    /// A schedule (and on demand).
    #[serde(rename = "ScheduleBasedTriggerContext", rename_all = "camelCase")]
    Schedule {
        /// When.
        schedule: BackupSchedule,
        /// Which tag a point gets.
        #[serde(default)]
        tagging_criteria: Vec<TaggingCriteria>,
    },
    /// Only on demand.
    #[serde(rename = "AdhocBasedTriggerContext", rename_all = "camelCase")]
    Adhoc {
        /// The tag of every point.
        tagging_criteria: AdhocTagging,
    },
}

/// The tag of points that are only made on demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdhocTagging {
    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_info: Option<TagInfo>,
}

/// Repeating intervals on the clock of a zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSchedule {
    /// `R/start/period` each; the earliest next occurrence of all counts.
    pub repeating_time_intervals: Vec<String>,
    /// IANA or Windows name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Which points get a tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaggingCriteria {
    /// The tag.
    pub tag_info: TagInfo,
    /// The lowest number among the matching ones wins.
    pub tagging_priority: i64,
    /// Whether points that match nothing else get this tag.
    #[serde(default)]
    pub is_default: bool,
    /// Any one must match; none means every point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
}

/// A tag: it names a retention rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagInfo {
    /// The name of a retention rule.
    pub tag_name: String,
    /// `{tagName}_`, read-only in the specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// One criterion. The members that are given must all hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Criterion {
    /// Always `ScheduleBasedBackupCriteria`.
    pub object_type: String,
    /// Relative to the points made before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absolute_criteria: Vec<AbsoluteMarker>,
    /// Days of the month.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<DayOfMonth>,
    /// Days of the week.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days_of_the_week: Vec<Weekday>,
    /// Months.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub months_of_year: Vec<Month>,
    /// Times of day, written as date-times whose date means nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule_times: Vec<String>,
    /// Weeks of the month, counted by weekday: the first Monday is in the first week.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weeks_of_the_month: Vec<WeekOfMonth>,
}

/// A day of the month, or its last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DayOfMonth {
    /// 1 to 28.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<i32>,
    /// The last day of the month, whatever its date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_last: Option<bool>,
}

words! {
    /// Marks relative to the points that exist already.
    AbsoluteMarker {
        /// Every point.
        AllBackup,
        /// The first point of its day.
        FirstOfDay,
        /// The first point of its month.
        FirstOfMonth,
        /// The first point of its week; weeks begin on Sunday.
        FirstOfWeek,
        /// The first point of its year.
        FirstOfYear,
    }
}

words! {
    /// A day of the week.
    Weekday {
        /// Day 0.
        Sunday,
        /// Day 1.
        Monday,
        /// Day 2.
        Tuesday,
        /// Day 3.
        Wednesday,
        /// Day 4.
        Thursday,
        /// Day 5.
        Friday,
        /// Day 6.
        Saturday,
    }
}

words! {
    /// A month.
    Month {
        /// 1.
        January,
        /// 2.
        February,
        /// 3.
        March,
        /// 4.
        April,
        /// 5.
        May,
        /// 6.
        June,
        /// 7.
        July,
        /// 8.
        August,
        /// 9.
        September,
        /// 10.
        October,
        /// 11.
        November,
        /// 12.
        December,
    }
}

words! {
    /// A week of the month.
    WeekOfMonth {
        /// Days 1 to 7.
        First,
        /// Days 8 to 14.
        Second,
        /// Days 15 to 21.
        Third,
        /// Days 22 to 28.
        Fourth,
        /// The last seven days.
        Last,
    }
}
