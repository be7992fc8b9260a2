//! Containers that go, and containers that are made anew: the feed of changes tells nothing of either.

use blobkeep_vault::{ContainerEntry, Target};

use crate::stage::{Stage, policy};

/// An account with the containers `photos` and `tmp`, both of which the first base point has.
async fn with_tmp() -> Stage {
    let mut stage = Stage::protected(|config| config.operational.base_hours = 1, policy("P7D", false)).await;
    stage.blobs().put("tmp", "a", "for a moment");
    stage.blobs().put("photos", "six", "the first six");
    stage.pass_and_look(3600).await;
    stage.blobs().put("photos", "one", "changed");
    stage.pass_and_look(60).await;
    stage
}

/// Restores everything to a moment after the last look but one.
async fn comes_back(stage: &mut Stage) {
    stage.pass_and_look(300).await;
    stage.blobs().put("photos", "two", "wanted");
    stage.pass(10).await;
    let (at, wanted) = (stage.now(), stage.content());
    stage.pass(10).await;
    stage.blobs().put("photos", "two", "not wanted");
    stage.pass_and_look(300).await;
    let job = stage.restore(at, &[]).await;
    assert_eq!(job["status"], "Completed", "{job}");
    assert_eq!(stage.content(), wanted);
    assert_eq!(stage.ranges().await.len(), 1, "without a gap");
    stage.pass_and_look(300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_end_of_a_container_can_be_restored() {
    let mut stage = with_tmp().await;
    let before = stage.now();
    stage.pass(10).await;
    stage.blobs().remove_container("tmp");
    stage.pass_and_look(300).await;
    comes_back(&mut stage).await;
    let job = stage.restore(before, &[]).await;
    assert_eq!(job["errorDetails"][0]["code"], "UserErrorContainerNotFoundForPointInTimeRestore", "{job}");
    let job = stage.restore(before, &[("photos", "photos-0")]).await;
    assert_eq!(job["status"], "Completed", "what was in the others is not lost: {job}");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_container_was_made_anew_can_be_restored() {
    let mut stage = with_tmp().await;
    stage.pass(10).await;
    stage.blobs().remove_container("tmp");
    stage.pass(40).await;
    stage.blobs().put("tmp", "b", "in another one");
    stage.pass_and_look(300).await;
    comes_back(&mut stage).await;
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_came_and_went_between_two_looks_is_in_nobodys_way() {
    let mut stage = with_tmp().await;
    stage.pass(10).await;
    stage.blobs().put("brief", "a", "soon gone");
    stage.pass(10).await;
    stage.blobs().remove_container("brief");
    stage.pass_and_look(300).await;
    comes_back(&mut stage).await;
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_goes_after_a_look_failed_half_way_is_noticed() {
    let mut stage = with_tmp().await;
    stage.blobs().put("brief", "a", "soon gone");
    stage.living.hide_containers(true);
    stage.pass_and_look(300).await;
    stage.living.hide_containers(false);
    stage.blobs().remove_container("brief");
    let bases = stage.points();
    stage.pass_and_look(300).await;
    assert_eq!(stage.points(), bases + 1, "the journal has its blob");
    comes_back(&mut stage).await;
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_goes_during_a_backup_is_remembered_until_a_base_can_be_made() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", true)).await;
    stage.blobs().put("tmp", "a", "for a moment");
    stage.pass_and_look(300).await;
    let body = serde_json::json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
    stage.service.call("POST", &format!("{}/backup", stage.instance), Some(body)).await.expect(202);
    stage.blobs().put("brief", "a", "soon gone");
    stage.blobs().remove_container("tmp");
    stage.blobs().remove_container("brief");
    stage.pass(300).await;
    stage.look().await;
    assert_eq!(stage.points(), 1, "a backup waits");
    stage.tick().await;
    stage.pass_and_look(300).await;
    comes_back(&mut stage).await;
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_listed_anew_once_for_a_container_that_went_and_never_for_a_new_one() {
    let mut stage = with_tmp().await;
    let bases = stage.points();
    for container in ["new", "newer"] {
        stage.pass(10).await;
        stage.blobs().put(container, "a", "new");
        stage.blobs().add_container(&format!("{container}-empty"));
        stage.pass_and_look(300).await;
        stage.blobs().remove_container(&format!("{container}-empty"));
        stage.pass_and_look(300).await;
    }
    assert_eq!(stage.points(), bases, "nothing was ever in those that went");
    stage.blobs().remove_container("new");
    for _ in 0..3 {
        stage.pass_and_look(300).await;
    }
    assert_eq!(stage.points(), bases + 1);

    // Its properties have changed, or it was made anew: the account does not tell which.
    let entry = ContainerEntry { name: "newer".to_owned(), ..ContainerEntry::default() };
    stage.blobs().create_container(&entry).await.unwrap();
    for _ in 0..3 {
        stage.pass_and_look(300).await;
    }
    assert_eq!(stage.points(), bases + 2);
    comes_back(&mut stage).await;
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_listed_anew_after_the_hours_of_the_configuration() {
    let mut stage = Stage::protected(|config| config.operational.base_hours = 2, policy("P7D", false)).await;
    let mut past = Vec::new();
    let mut bases = Vec::new();
    for round in 0..5 {
        stage.blobs().put("photos", "one", format!("round {round}"));
        past.push((stage.now(), stage.content()));
        stage.pass_and_look(3600).await;
        bases.push(stage.points());
    }
    assert_eq!(bases, [1, 2, 2, 3, 3]);
    for (at, wanted) in past.iter().rev() {
        assert_eq!(stage.restore(*at, &[]).await["status"], "Completed");
        assert_eq!(stage.content(), *wanted);
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_come_and_go_all_the_time_do_not_have_the_account_listed_at_every_look() {
    let mut stage = with_tmp().await;
    let bases = stage.points();
    for round in 0..15 {
        let brief = format!("brief{round}");
        stage.blobs().put(&brief, "a", "soon gone");
        stage.pass_and_look(30).await;
        stage.blobs().remove_container(&brief);
        stage.pass_and_look(30).await;
    }
    assert_eq!(stage.points(), bases + 3, "every five minutes");
    stage.service.running.shutdown().await;
}
