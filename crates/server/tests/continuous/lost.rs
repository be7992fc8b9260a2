//! What the service had written down is lost, or changes while a look is under way.

use serde_json::json;

use crate::stage::{Call, DAY, Stage, policy};

#[tokio::test(flavor = "multi_thread")]
async fn protection_that_is_stopped_during_a_look_stays_stopped_whatever_the_look_finds() {
    let mut stage = Stage::protected(|config| config.operational.allow_stop = true, policy("P7D", false)).await;
    let (at, wanted) = (stage.now(), stage.content());
    for round in 0..3 {
        stage.blobs().put("photos", "one", format!("round {round}"));
        stage.pass_and_look(60).await;
    }
    std::fs::remove_file(stage.journal().pop().unwrap()).unwrap();
    stage.pass(60).await;
    let gate = stage.living.hold(Call::Feed);
    let stop = async {
        gate.reached().await;
        stage.service.call("POST", &format!("{}/stopProtection", stage.instance), None).await.expect(202);
        stage.living.let_go();
    };
    tokio::join!(stage.look(), stop);
    let instance = stage.service.get(&stage.instance).await.body["properties"].clone();
    assert_eq!(instance["currentProtectionState"], "ProtectionStopped", "{instance}");
    assert_eq!(instance["protectionStatus"]["status"], json!("ProtectionStopped"), "{instance}");
    assert!(!stage.range_row().await.is_open);
    assert!(stage.ranges().await[0].1 < stage.now(), "what is lost is not promised");

    // What is stopped keeps everything for ever.
    stage.pass_and_look(30 * DAY).await;
    stage.pass_and_look(DAY).await;
    assert_eq!(stage.state().await, "ProtectionStopped");
    assert_eq!(stage.restore(at, &[]).await["status"], "Completed");
    assert_eq!(stage.content(), wanted);
    stage.service.running.shutdown().await;
}
