//! Which instants of an instance's past can be restored.
//!
//! Looks write down until when they know the account (`db::operational_ranges`); how far back that reaches is up to the points that are left and
//! to the retention.

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::time::format_instant;
use blobkeep_arm::word::DataStore;

use super::last_look;
use crate::auth::Granted;
use crate::db::instances::StoredInstance;
use crate::db::operational_ranges::{JournalPlace, StoredRange};
use crate::db::points::Point;
use crate::db::{self, Conn, DbResult};

/// Instants that can be restored; microseconds, both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub start: i64,
    /// The last one.
    pub end: i64,
    /// The account keeps versions: each instant is brought back as it was. Otherwise it is the state of the last look before it.
    pub is_exact: bool,
    /// The first state that was kept of this stretch; not later than `start`.
    since: i64,
}

impl Range {
    /// The state that an instant is restored from where looks made states of their own.
    pub(in crate::jobs) fn state_at<'p>(&self, points: &'p [Point], time: i64) -> Option<&'p Point> {
        points
            .iter()
            .filter(|point| (self.since..=time).contains(&point.created_at))
            .max_by_key(|point| point.created_at)
    }
}

/// What can be restored of an instance at present, the oldest first.
///
/// # Errors
/// [`db::DbError`] when the database fails.
pub async fn restorable_ranges(
    conn: &mut Conn,
    granted: &Granted,
    stored: &StoredInstance,
    now: i64,
) -> DbResult<Vec<Range>> {
    let store = DataStore::OperationalStore;
    let points = db::points::list(conn, granted, &stored.key, store, PointFilter::default()).await?;
    let policy = db::policies::get(conn, granted, &stored.policy_key).await?;
    let Some(retention) = policy.and_then(|policy| policy.policy.operational_retention()) else {
        return Ok(Vec::new());
    };
    let horizon = retention.after(now, -1, &jiff::tz::TimeZone::UTC).unwrap_or(i64::MIN);
    let mut rows = known_ranges(conn, stored, &points).await?;
    rows.reverse();
    // What is stopped loses nothing; what is suspended keeps its newest state.
    let newest = rows.last().map_or(i64::MIN, |row| row.ends_at);
    let first = if stored.state == ProtectionState::ProtectionStopped { i64::MIN } else { horizon.min(newest) };
    Ok(of_rows(&rows, &points, first))
}

/// The ranges as they were written down, newest first. Where nobody wrote them down, or that was lost, what the points tell of themselves.
pub(super) async fn known_ranges(
    conn: &mut Conn,
    stored: &StoredInstance,
    points: &[Point],
) -> DbResult<Vec<StoredRange>> {
    let rows = db::operational_ranges::list(conn, &stored.instance_uuid).await?;
    if !rows.is_empty() {
        return Ok(rows);
    }
    let looked_at = last_look(conn, &stored.instance_uuid).await?;
    Ok(of_points(points, stored.configured_at, looked_at))
}

/// Points between which nothing is missing.
struct Stretch<'p> {
    first: &'p Point,
    last: &'p Point,
}

/// What points alone tell; `points` and ranges newest first. A base point says which one it goes on from, and until when it knows the account
/// for certain. Of states that looks made nobody knows whether there was a break before protection began last, and where the account did not
/// keep versions before and after that, either; they count until the last look.
fn of_points(points: &[Point], configured_at: Option<i64>, looked_at: Option<i64>) -> Vec<StoredRange> {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for point in points.iter().rev() {
        match stretches.last_mut() {
            Some(stretch) if goes_on(stretch.last, point) => stretch.last = point,
            _ => stretches.push(Stretch { first: point, last: point }),
        }
    }
    let newest = stretches.len().saturating_sub(1);
    let ranges = stretches.iter().enumerate().map(|(number, Stretch { first, last })| {
        let is_newest = number == newest;
        let is_open = is_newest && configured_at.is_some();
        match &last.base {
            Some(base) => {
                let place = JournalPlace { base: last.id.clone(), segments: 0, cursor: String::new() };
                StoredRange { starts_at: first.created_at, ends_at: base.complete_until, is_open, journal: Some(place) }
            }
            None => {
                let starts_at = first.created_at.max(configured_at.unwrap_or(i64::MIN));
                let looked_at = looked_at.filter(|_| is_newest).unwrap_or(i64::MIN);
                StoredRange { starts_at, ends_at: last.created_at.max(looked_at), is_open, journal: None }
            }
        }
    });
    let mut ranges: Vec<StoredRange> = ranges.collect();
    ranges.reverse();
    ranges
}

/// Whether nothing is missing between two points that follow each other.
fn goes_on(before: &Point, point: &Point) -> bool {
    match (&before.base, &point.base) {
        (None, None) => true,
        (Some(_), Some(base)) => base.follows.as_ref() == Some(&before.id),
        _ => false,
    }
}

fn of_rows(rows: &[StoredRange], points: &[Point], first: i64) -> Vec<Range> {
    let mut ranges = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        let next = rows.get(position + 1).map_or(i64::MAX, |next| next.starts_at);
        // A range that was made of points may begin within the life of its first one.
        let is_own = |point: &&Point| point.created_at < next && (position == 0 || point.created_at >= row.starts_at);
        let Some(since) = points.iter().filter(is_own).map(|point| point.created_at).min() else { continue };
        let start = row.starts_at.max(since).max(first);
        if start <= row.ends_at {
            ranges.push(Range { start, end: row.ends_at, is_exact: row.journal.is_some(), since });
        }
    }
    ranges
}

/// The range that holds an instant.
///
/// # Errors
/// 400 `UserErrorInvalidRecoveryPointInTime` saying which instants there are.
pub fn range_at(ranges: &[Range], time: i64) -> Result<Range, ApiError> {
    if let Some(range) = ranges.iter().find(|range| (range.start..=range.end).contains(&time)) {
        return Ok(*range);
    }
    let named: Vec<String> = ranges
        .iter()
        .map(|range| format!("from {} to {}", format_instant(range.start), format_instant(range.end)))
        .collect();
    let reason = match named.as_slice() {
        [] => "the operational tier of this backup instance has no restorable range yet".to_owned(),
        [one] => format!("the restorable range is {one}"),
        _ => format!("the restorable ranges are {}", named.join(", ")),
    };
    let values = [("time", format_instant(time)), ("reason", reason)];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    Err(ApiError::of(ErrorCode::UserErrorInvalidRecoveryPointInTime, &values))
}

#[cfg(test)]
mod tests {
    use blobkeep_arm::point::PointState;

    use super::*;
    use crate::db::points::Base;

    fn point(created_at: i64) -> Point {
        Point {
            instance_key: "/i".to_owned(),
            id: format!("point{created_at}"),
            job_id: String::new(),
            created_at,
            expires_at: None,
            tag: "Default".to_owned(),
            rule: String::new(),
            policy_name: String::new(),
            tag_version: None,
            counts: serde_json::Value::Null,
            state: PointState::Completed,
            store: DataStore::OperationalStore,
            base: None,
        }
    }

    /// A base point that knows the account until five before it was completed.
    fn base(created_at: i64, follows: Option<i64>) -> Point {
        let follows = follows.map(|before| format!("point{before}"));
        Point { base: Some(Base { complete_until: created_at - 5, follows }), ..point(created_at) }
    }

    fn row(starts_at: i64, ends_at: i64, base: Option<i64>) -> StoredRange {
        let journal =
            base.map(|base| JournalPlace { base: format!("point{base}"), segments: 1, cursor: String::new() });
        StoredRange { starts_at, ends_at, is_open: true, journal }
    }

    fn shown(rows: &[StoredRange], points: &[i64], first: i64) -> Vec<(i64, i64, bool)> {
        let points: Vec<Point> = points.iter().rev().map(|at| point(*at)).collect();
        of_rows(rows, &points, first).iter().map(|range| (range.start, range.end, range.is_exact)).collect()
    }

    #[test]
    fn a_range_reaches_back_to_its_oldest_state_and_not_beyond_the_retention() {
        let rows = [row(10, 100, Some(60))];
        assert_eq!(shown(&rows, &[10, 60], i64::MIN), [(10, 100, true)]);
        assert_eq!(shown(&rows, &[10, 60], 40), [(40, 100, true)]);
        assert_eq!(shown(&rows, &[60], 40), [(60, 100, true)], "the first base has gone");
        assert_eq!(shown(&rows, &[], 40), []);
    }

    #[test]
    fn where_nobody_knows_what_happened_there_is_a_gap() {
        let rows = [row(10, 30, None), row(50, 80, Some(50)), row(90, 95, Some(90))];
        assert_eq!(shown(&rows, &[10, 20, 50, 90], 0), [(10, 30, false), (50, 80, true), (90, 95, true)]);
        assert_eq!(shown(&rows, &[50, 90], 0), [(50, 80, true), (90, 95, true)]);
        assert_eq!(shown(&rows, &[20, 50, 90], 85), [(90, 95, true)]);
        let points: Vec<Point> = [90, 50, 20, 10].map(point).into();
        let ranges = of_rows(&rows, &points, 0);
        assert_eq!(ranges[0].state_at(&points, 25).unwrap().created_at, 20);
        assert_eq!(ranges[0].state_at(&points, 19).unwrap().created_at, 10);
        assert_eq!(range_at(&ranges, 80).unwrap(), ranges[1]);
        let refused = range_at(&ranges, 31).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UserErrorInvalidRecoveryPointInTime);
        assert_eq!(refused.message.matches("from 1970").count(), 3, "{}", refused.message);
        assert!(range_at(&[], 31).unwrap_err().message.contains("no restorable range yet"));
    }

    #[test]
    fn what_was_not_written_down_is_told_by_the_points_themselves() {
        let points = [
            point(90),
            base(80, Some(70)),
            base(70, None),
            base(60, Some(50)),
            base(50, Some(40)),
            point(30),
            point(10),
        ];
        let made = of_points(&points, Some(20), Some(95));
        let ranges = of_rows(&made.into_iter().rev().collect::<Vec<_>>(), &points, i64::MIN);
        let shown: Vec<_> = ranges.iter().map(|range| (range.start, range.end, range.is_exact)).collect();
        assert_eq!(shown, [(20, 30, false), (50, 55, true), (70, 75, true), (90, 95, false)]);

        let open: Vec<bool> = of_points(&points[1..], Some(20), Some(95)).iter().map(|range| range.is_open).collect();
        assert_eq!(open, [true, false, false]);
        assert_eq!(of_points(&points[6..], None, None)[0].ends_at, 10);
        assert!(of_points(&[], Some(20), None).is_empty());
    }

    #[test]
    fn a_feed_that_has_not_told_of_the_base_yet_has_no_range() {
        assert_eq!(shown(&[row(50, 45, Some(50))], &[50], 0), []);
    }

    #[test]
    fn a_state_of_before_the_retention_serves_what_comes_after_it() {
        let rows = [row(10, 100, None)];
        let points: Vec<Point> = [60, 20, 10].map(point).into();
        let ranges = of_rows(&rows, &points, 40);
        assert_eq!((ranges[0].start, ranges[0].end), (40, 100));
        assert_eq!(ranges[0].state_at(&points, 45).unwrap().created_at, 20);
    }
}
