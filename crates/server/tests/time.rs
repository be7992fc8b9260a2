//! What time does to a protected account: scheduled backups are made, and points go when their time is over. The clock is set by hand, the
//! service and the blobs are real.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_emulator::SeedBlob;
use blobkeep_server::clock::{Clock, SystemClock};
use blobkeep_server::db::query;
use common::world::{DAY, HOUR, World, vaulted};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_as_the_schedule_says_and_points_go_when_their_time_is_over() {
    let mut world = World::protected().await;
    assert_eq!(world.points().await.len(), 0, "nothing is due yet");

    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let jobs = world.service.get(&format!("{}/backupJobs", world.vault)).await.expect(200);
    assert_eq!(jobs.body["value"][0]["properties"]["isUserTriggered"], false);
    let first = world.points().await.remove(0);
    let expiry = first["properties"]["recoveryPointDataStoresDetails"][0]["expiryTime"].as_str().unwrap().to_owned();
    let created =
        blobkeep_arm::time::parse_instant(first["properties"]["recoveryPointTime"].as_str().unwrap()).unwrap();
    assert_eq!(blobkeep_arm::time::parse_instant(&expiry).unwrap() / 1_000_000, (created / 1_000_000) + 7 * DAY);

    // A week in which nobody looked is made up for by one backup; then the first point's time is over.
    world.emulator.put_blob("source", "photos", "two", SeedBlob::new("second")).unwrap();
    world.pass(DAY).await;
    world.until_points(2).await;
    world.pass(6 * DAY + HOUR).await;
    let name = first["name"].clone();
    world
        .until("the first point is gone", |world| {
            let name = name.clone();
            Box::pin(async move {
                let points = world.points().await;
                points.len() == 2 && points.iter().all(|point| point["name"] != name)
            })
        })
        .await;
    let got = world.service.get(&format!("{}/recoveryPoints/{}", world.instance, name.as_str().unwrap())).await;
    assert_eq!(got.status, 404);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_held_up_is_kept_as_long_as_its_policy_says_from_its_points_own_time_on() {
    let now = SystemClock.now_micros();
    let policy = vaulted(now + HOUR * 1_000_000);
    let world = World::by_hand(now, policy.clone()).await;
    let wanted = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
    world.service.call("POST", &format!("{}/backup", world.instance), Some(wanted)).await.expect(202);
    let mut tx = world.service.running.app().db.write().await.unwrap();
    // As if a worker had begun, and had died on the way.
    query("UPDATE jobs SET started_at = created_at - 60000000 WHERE kind = 'backup'").execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    world.tick().await;

    let points = world.points().await;
    let [point] = points.as_slice() else { panic!("{points:?}") };
    let instant = |text: &serde_json::Value| blobkeep_arm::time::parse_instant(text.as_str().unwrap()).unwrap();
    let expiry = instant(&point["properties"]["recoveryPointDataStoresDetails"][0]["expiryTime"]);
    assert_eq!(expiry, instant(&point["properties"]["recoveryPointTime"]) + 7 * DAY * 1_000_000);
    let preview = format!("{}/backupPolicies/daily/providers/Blobkeep.DataProtection/preview", world.vault);
    let got = world.service.call("POST", &preview, Some(policy)).await.expect(200);
    assert_eq!(got.body["changedPoints"], 0, "the same policy says the same: {}", got.text);
    world.service.running.shutdown().await;
}
