//! Restores that do not go through at once.

use serde_json::{Value, json};

use crate::stage::{Stage, policy};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_the_vault_to_other_containers_keeps_no_look_back() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", true)).await;
    let wanted = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
    stage.service.call("POST", &format!("{}/backup", stage.instance), Some(wanted)).await.expect(202);
    stage.tick().await;
    let points = stage.service.get(&format!("{}/recoveryPoints", stage.instance)).await.expect(200);
    let point: Value = points.body["value"][0]["name"].clone();
    let job = stage.begin(crate::common::world::restore_as(&json!(stage.account), &point, "copied")).await;
    stage.pass(60).await;
    stage.look().await;
    assert_eq!(stage.job(&job).await["status"], "InProgress", "it waits");
    assert_eq!(stage.ranges().await[0].1, stage.now());
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "Completed");
    stage.service.running.shutdown().await;
}
