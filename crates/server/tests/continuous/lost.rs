//! What the service had written down is lost, or changes while a look is under way.

use serde_json::json;

use crate::stage::{Call, DAY, Stage, State, policy};

/// Days of an account, each with an instant and what it held then; the feed forgets in the middle of them.
async fn days(stage: &mut Stage) -> Vec<(i64, State)> {
    let mut past = Vec::new();
    for day in 0..6 {
        if day == 3 {
            stage.blobs().put("photos", "one", "nobody was told");
            stage.living.forget_feed().await;
            stage.pass_and_look(60).await;
        }
        stage.pass(60).await;
        stage.blobs().put("photos", "one", format!("day {day}"));
        stage.pass(60).await;
        past.push((stage.now(), stage.content()));
        stage.blobs().put("photos", "one", format!("day {day}, later"));
        stage.pass_and_look(DAY).await;
    }
    past
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_are_lost_are_made_again_from_the_points() {
    let mut stage = Stage::protected(|_| {}, policy("P30D", false)).await;
    let past = days(&mut stage).await;
    let known = stage.ranges().await;
    assert_eq!(known.len(), 2, "{known:?}");
    stage.lose_ranges().await;

    // Until the next look: what the base points know for certain, exactly.
    let told = stage.ranges().await;
    assert_eq!(told.len(), 2, "{told:?}");
    for (told, known) in told.iter().zip(&known) {
        assert!(told.0 == known.0 && told.1 <= known.1, "{told:?} within {known:?}");
    }
    assert!(told[0].1 > past[1].0, "{told:?}");
    let job = stage.restore(past[1].0, &[]).await;
    assert_eq!(job["status"], "Completed", "{job}");
    assert_eq!(stage.content(), past[1].1, "to the second, not to a look");
    stage.look().await;
    let again = stage.ranges().await;
    assert_eq!((again.len(), again[0], again[1].0), (2, told[0], known[1].0), "{again:?}");
    assert!(again[1].1 >= known[1].1);
    stage.pass_and_look(60).await;

    for (at, wanted) in [&past[0], &past[3], &past[4], &past[5]] {
        let job = stage.restore(*at, &[]).await;
        assert_eq!(job["status"], "Completed", "{job}");
        assert_eq!(stage.content(), *wanted);
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_database_goes_on_over_several_base_points() {
    let mut stage = Stage::protected(|_| {}, policy("P30D", false)).await;
    stage.pass_and_look(60).await;
    let (old, first) = (stage.range_row().await, stage.ranges().await[0].0);
    for day in 0..4 {
        stage.blobs().put("photos", "one", format!("day {day}"));
        stage.pass_and_look(DAY).await;
    }
    let end = stage.ranges().await[0].1;
    stage.put_range_row(&old).await;
    stage.pass_and_look(60).await;
    let ranges = stage.ranges().await;
    assert_eq!((ranges.len(), ranges[0].0), (1, first), "{ranges:?}");
    assert!(ranges[0].1 > end, "{ranges:?}");
    stage.service.running.shutdown().await;
}

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
