//! Two years of every kind of schedule, over clock changes and month ends: exactly the points, tags and ends that a table says which was
//! worked out from the calendar.

#![allow(clippy::unwrap_used)]

mod table;

use std::collections::BTreeMap;

use blobkeep_arm::policy::Policy;
use blobkeep_arm::schedule;
use blobkeep_arm::word::DataStore;
use table::{Case, Table, text};

/// So far back the service looks for earlier points, µs: a little more than a year.
const LOOK_BACK: i64 = 370 * 86_400_000_000;

/// What the schedule of a policy makes between two instants: tag and end of each point, by the instant at which it is due.
fn made(policy: &Policy, begin: i64, end: i64) -> BTreeMap<i64, (String, i64)> {
    let mut points = BTreeMap::new();
    // Newest first, as the service has them.
    let mut earlier: Vec<i64> = Vec::new();
    let mut now = begin - 1;
    while let Some((at, rule)) = schedule::next_backup(policy, now).unwrap().filter(|(at, _)| *at < end) {
        let looks = [at - 1, now + (at - now) / 2];
        for look in looks {
            let (next, _) = schedule::next_backup(policy, look).unwrap().unwrap();
            assert_eq!(text(next), text(at), "the next one after {}", text(look));
        }
        while earlier.last().is_some_and(|oldest| *oldest < at - LOOK_BACK) {
            earlier.pop();
        }
        let tag = schedule::tag_of_scheduled(rule, at, &earlier).unwrap();
        let ends = schedule::expiry(policy, DataStore::VaultStore, tag, at).unwrap();
        points.insert(at, (tag.to_owned(), ends));
        earlier.insert(0, at);
        now = at;
    }
    points
}

/// A line for each point that is not as the table says, the first ones of them.
fn differences(case: &Case, made: &BTreeMap<i64, (String, i64)>) -> String {
    let write = |point: Option<&(String, i64)>| match point {
        Some((tag, ends)) => format!("{tag} until {}", text(*ends)),
        None => "no point".to_owned(),
    };
    let mut instants: Vec<&i64> = case.points.keys().chain(made.keys()).collect();
    instants.sort();
    instants.dedup();
    let wrong = instants.into_iter().filter(|at| case.points.get(*at) != made.get(*at));
    let lines = wrong.take(20).map(|at| {
        let (expected, found) = (write(case.points.get(at)), write(made.get(at)));
        format!("{} {}: {expected} in the table, but {found}\n", case.name, text(*at))
    });
    lines.collect()
}

#[track_caller]
fn is_as_the_table_says(name: &str) {
    let table = Table::read();
    let case = table.case(name);
    let policy = Policy::parse(&case.policy()).unwrap();
    let differences = differences(case, &made(&policy, table.begin, table.end));
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn points_of_month_ends_end_where_the_calendar_has_a_day() {
    is_as_the_table_says("month-ends");
}

#[test]
fn a_backup_in_the_hour_that_spring_skips_is_made_late_and_keeps_its_tags() {
    is_as_the_table_says("berlin");
}

#[test]
fn a_backup_in_the_hour_that_autumn_repeats_is_made_once() {
    is_as_the_table_says("new-york");
}

#[test]
fn weekly_backups_keep_weekday_and_hour_of_their_zone() {
    is_as_the_table_says("mondays-and-thursdays");
}

#[test]
fn weekly_backups_meet_every_change_of_clocks_on_its_sunday() {
    is_as_the_table_says("sundays-and-thursdays");
}

#[test]
fn clocks_that_move_by_half_an_hour_are_followed() {
    is_as_the_table_says("lord-howe");
}

#[test]
fn a_backup_that_spring_moves_beyond_midnight_belongs_to_the_day_it_is_named_for() {
    is_as_the_table_says("nuuk");
}

#[test]
fn backups_at_hours_go_on_by_the_stopwatch() {
    is_as_the_table_says("every-four-hours");
}

#[test]
fn monthly_backups_are_made_on_the_last_day_where_a_month_is_short() {
    is_as_the_table_says("last-days");
}

#[test]
fn no_case_of_the_table_is_left_out() {
    let table = Table::read();
    let names: Vec<&str> = table.cases.iter().map(|case| case.name.as_str()).collect();
    let tested = [
        "month-ends",
        "berlin",
        "new-york",
        "mondays-and-thursdays",
        "sundays-and-thursdays",
        "lord-howe",
        "nuuk",
        "every-four-hours",
        "last-days",
    ];
    assert_eq!(names, tested);
}
