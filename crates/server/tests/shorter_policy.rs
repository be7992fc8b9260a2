//! What a shorter policy drops stays for the days of soft delete, unless the vault has none.

#![allow(clippy::unwrap_used)]

mod common;

use blobkeep_arm::time::parse_instant;
use blobkeep_server::clock::Clock;
use common::world::{DAY, World};
use serde_json::{Value, json};

impl World {
    /// The policy keeps points for so long from now on.
    async fn keep_for(&self, duration: &str) {
        let path = format!("{}/backupPolicies/daily", self.vault);
        let mut policy = self.service.get(&path).await.expect(200).body;
        let lifecycle = policy.pointer_mut("/properties/policyRules/0/lifecycles/0/deleteAfter/duration").unwrap();
        *lifecycle = json!(duration);
        self.service.put(&path, json!({ "properties": policy["properties"] })).await.expect(200);
        self.tick().await;
    }

    async fn back_up(&self) -> Value {
        let body = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
        self.service.call("POST", &format!("{}/backup", self.instance), Some(body)).await.expect(202);
        self.tick().await;
        self.points().await.remove(0)["name"].clone()
    }

    /// In how many whole days the point goes; none if it has gone.
    async fn days_left(&self, point: &Value) -> Option<i64> {
        let found = self.points().await.into_iter().find(|listed| listed["name"] == *point)?;
        let ends = found["properties"]["expiryTime"].as_str().unwrap().to_owned();
        Some((parse_instant(&ends).unwrap() - self.clock.now_micros()) / (DAY * 1_000_000))
    }
}

fn soft_delete(state: &str) -> Value {
    json!({ "securitySettings": { "softDeleteSettings": { "state": state, "retentionDurationInDays": 20 } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_a_shorter_policy_drops_is_kept_for_the_days_of_soft_delete_and_a_longer_one_gives_its_time_back()
{
    let mut world = World::configured(|_| {}, soft_delete("On")).await;
    world.keep_for("P60D").await;
    let point = world.back_up().await;
    assert_eq!(world.days_left(&point).await, Some(60));
    world.keep_for("P7D").await;
    assert_eq!(world.days_left(&point).await, Some(20));

    world.pass(8 * DAY).await;
    world.tick().await;
    assert_eq!(world.days_left(&point).await, Some(12), "the policy alone would have dropped it");
    world.keep_for("P8D").await;
    assert_eq!(world.days_left(&point).await, Some(12), "another change does not put the end off");
    world.keep_for("P60D").await;
    assert_eq!(world.days_left(&point).await, Some(52));

    world.keep_for("P7D").await;
    assert_eq!(world.days_left(&point).await, Some(20));
    world.pass(20 * DAY).await;
    world.tick().await;
    assert_eq!(world.days_left(&point).await, None);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_soft_delete_a_shorter_policy_drops_points_at_once() {
    let mut world = World::configured(|_| {}, soft_delete("Off")).await;
    world.keep_for("P60D").await;
    let point = world.back_up().await;
    world.pass(8 * DAY).await;
    world.keep_for("P7D").await;
    assert_eq!(world.days_left(&point).await, None);
    world.service.running.shutdown().await;
}
