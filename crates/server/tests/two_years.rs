//! Two years of a protected account, day by day without waiting: the real scheduler, worker and vault, and a clock that is set by hand.
//! What is listed is what a table says that was worked out from the calendar.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../arm/tests/two_years/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};

use blobkeep_emulator::SeedBlob;
use blobkeep_server::clock::Clock;
use common::world::World;
use serde_json::Value;
use table::{Case, Table, text};

/// A second in instants.
const SECOND: i64 = 1_000_000;

/// Tag and end of each point, by the instant at which it was made.
type Points = BTreeMap<String, (String, String)>;

/// What must be listed at an instant.
fn expected(case: &Case, now: i64) -> Points {
    let made = case.points.range(..=now).filter(|(_, (_, ends))| *ends > now);
    made.map(|(at, (tag, ends))| (text(*at), (tag.clone(), text(*ends)))).collect()
}

fn instant(value: &Value) -> String {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().to_string()
}

/// What is listed.
async fn listed(world: &World) -> Points {
    let mut points = Points::new();
    for point in world.points().await {
        let properties = &point["properties"];
        let tag = properties["retentionTagName"].as_str().unwrap().to_owned();
        let ends = instant(&properties["recoveryPointDataStoresDetails"][0]["expiryTime"]);
        let is_second = points.insert(instant(&properties["recoveryPointTime"]), (tag, ends)).is_some();
        assert!(!is_second, "two points of one instant: {point}");
    }
    points
}

/// Does what is due at an instant, and compares what is listed then.
async fn is_as_the_table_says_at(world: &mut World, case: &Case, instant: i64) {
    world.pass((instant - world.clock.now_micros()) / SECOND).await;
    world.tick().await;
    assert_eq!(listed(world).await, expected(case, instant), "{}: what is listed at {}", case.name, text(instant));
}

/// Goes from one instant of a case to the next, at which a point is made or ends.
async fn two_years(name: &str) {
    let table = Table::read();
    let case = table.case(name);
    let mut world = World::by_hand(table.begin, case.policy()).await;
    let instants: BTreeSet<i64> = case.points.iter().flat_map(|(at, (_, ends))| [*at, *ends]).collect();
    for (number, instant) in instants.range(..table.end).enumerate() {
        if number.is_multiple_of(7) {
            world.emulator.put_blob("source", "photos", "two", SeedBlob::new(format!("content {number}"))).unwrap();
        }
        // Nothing is made, and nothing goes, a second too early.
        is_as_the_table_says_at(&mut world, case, instant - SECOND).await;
        is_as_the_table_says_at(&mut world, case, *instant).await;
    }
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_years_of_backups_make_and_lose_exactly_the_points_of_the_table() {
    two_years("sundays-and-thursdays").await;
    // A backup every day takes minutes: where there is time for long tests.
    if std::env::var_os("BLOBKEEP_TEST_SECONDS").is_some() {
        two_years("berlin").await;
    }
}
