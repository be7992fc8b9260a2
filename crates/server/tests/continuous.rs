//! The operational tier of an account that keeps versions and writes a feed of changes: what its looks write down, which instants can be
//! restored, and what a restore does. The account is in memory, the service is real.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "continuous/containers.rs"]
mod containers;
#[path = "continuous/lost.rs"]
mod lost;
#[path = "continuous/restores.rs"]
mod restores;
#[path = "continuous/stage.rs"]
mod stage;

use serde_json::{Value, json};
use stage::{DAY, HOUR, Stage, State, policy};

async fn continuous() -> Stage {
    Stage::protected(|_| {}, policy("P30D", false)).await
}

fn details(job: &Value, name: &str) -> String {
    job["extendedInfo"]["additionalDetails"][name].as_str().unwrap_or_else(|| panic!("no {name}: {job}")).to_owned()
}

/// Some instants of an account's life, each with what it held, the oldest first. Every one has been looked at.
async fn live(stage: &mut Stage) -> Vec<(i64, State)> {
    let mut past = vec![(stage.now(), stage.content())];
    for round in 0..4 {
        stage.pass(10).await;
        stage.blobs().put("photos", "one", format!("round {round}"));
        stage.blobs().put("later", &format!("new {round}"), "made later");
        stage.blobs().touch("photos", "two", |entry| entry.tags = vec![("round".to_owned(), round.to_string())]);
        stage.blobs().change("photos", "three", |entry| entry.metadata = vec![("m".to_owned(), round.to_string())]);
        match round {
            1 => stage.blobs().remove("photos", "four"),
            2 => stage.blobs().put("photos", "four", "back again"),
            _ => stage.blobs().touch("photos", "five", |entry| entry.tier = Some("Cool".to_owned())),
        }
        past.push((stage.now(), stage.content()));
        if round % 2 == 0 {
            stage.pass_and_look(60).await;
        }
    }
    stage.pass_and_look(60).await;
    past
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instant_comes_back_exactly_and_no_content_is_read() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    let ranges = stage.ranges().await;
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(ranges[0].0 <= past[0].0 && past.last().unwrap().0 <= ranges[0].1, "{ranges:?}");
    for number in [2, 0, 4, 1, 3] {
        let (at, wanted) = &past[number];
        let job = stage.restore(*at, &[]).await;
        assert_eq!(
            (&job["status"], &job["sourceDataStoreType"]),
            (&json!("Completed"), &json!("OperationalStore")),
            "{job}"
        );
        assert_eq!(stage.content(), *wanted, "instant {number}");
        assert_eq!(details(&job, "MissingBlobs"), "0");
        let planned = (details(&job, "PlannedCopies"), details(&job, "PlannedRemovals"));
        assert_eq!(planned, (details(&job, "WrittenBlobs"), details(&job, "RemovedBlobs")));
        stage.pass_and_look(60).await;
    }
    assert_eq!(stage.blobs().take_counts().1, 0, "content stays in the account");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_names_comes_back_and_nothing_else_changes() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    let before = stage.content();
    let (at, wanted) = &past[1];
    let job = stage.restore(*at, &[("photos/o", "photos/p"), ("later", "later-0")]).await;
    assert_eq!(job["status"], "Completed", "{job}");
    let after = stage.content();
    for (key, blob) in &before {
        let is_chosen = key.0 == "later" || key.1 == "one";
        let expected = if is_chosen { wanted.get(key) } else { Some(blob) };
        assert_eq!(after.get(key), expected, "{key:?}");
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_that_find_nothing_write_nothing_and_a_restore_is_looked_at_right_after() {
    let mut stage = continuous().await;
    let (at, wanted) = (stage.now(), stage.content());
    stage.blobs().put("photos", "one", "changed");
    stage.pass_and_look(60).await;
    let journal = stage.journal();
    let end = stage.ranges().await[0].1;
    for _ in 0..3 {
        stage.pass_and_look(60).await;
    }
    assert_eq!(stage.journal(), journal);
    assert_eq!(stage.ranges().await[0].1, end + 180_000_000, "until the last completed look");

    assert_eq!(stage.restore(at, &[]).await["status"], "Completed");
    let restored_at = stage.now();
    // No interval has gone by.
    stage.look().await;
    assert!(stage.ranges().await[0].1 >= restored_at);
    stage.blobs().put("photos", "one", "changed once more");
    assert_eq!(stage.restore(restored_at, &[]).await["status"], "Completed");
    assert_eq!(stage.content(), wanted);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_does_not_reach_back_leaves_a_gap_between_two_ranges() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    let known = stage.ranges().await[0];
    stage.pass(10).await;
    stage.blobs().put("photos", "one", "nobody was told");
    let lost = stage.now();
    stage.living.forget_feed().await;
    stage.pass_and_look(60).await;
    stage.pass(10).await;
    let (after, wanted) = (stage.now(), stage.content());
    stage.blobs().put("photos", "one", "told again");
    stage.pass_and_look(60).await;
    let ranges = stage.ranges().await;
    assert_eq!((ranges.len(), ranges[0]), (2, known), "{ranges:?}");
    assert!(ranges[1].0 > lost && ranges[1].0 <= after && after <= ranges[1].1, "{ranges:?}");

    let refused = stage.refuse(lost).await.refused(400, "UserErrorInvalidRecoveryPointInTime");
    assert_eq!(refused.body["error"]["message"].as_str().unwrap().matches("from 20").count(), 2, "{}", refused.text);
    let validation = json!({ "restoreRequestObject": stage.request(lost, &[]) });
    let refused = stage.service.call("POST", &format!("{}/validateRestore", stage.instance), Some(validation)).await;
    refused.refused(400, "UserErrorInvalidRecoveryPointInTime");
    for (at, wanted) in [(past[2].0, &past[2].1), (after, &wanted)] {
        assert_eq!(stage.restore(at, &[]).await["status"], "Completed");
        assert_eq!(stage.content(), *wanted);
        stage.pass_and_look(60).await;
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_moves_between_the_two_forms_at_its_next_look() {
    let mut stage = continuous().await;
    let exact = (stage.now(), stage.content());
    stage.blobs().put("photos", "one", "exact");
    stage.pass_and_look(60).await;
    stage.living.keep_versions(false);
    stage.pass_and_look(60).await;
    assert_eq!(stage.blobs().take_counts().1, 5, "now content is read");
    let settings = stage.service.get(&format!("{}/blobServices/default", stage.account)).await.body;
    assert_eq!(settings["properties"]["blobkeep"], json!({ "keepsVersions": false }));
    let simple = (stage.now(), stage.content());
    stage.pass(10).await;
    stage.blobs().put("photos", "one", "simple");
    stage.pass_and_look(60).await;
    stage.living.keep_versions(true);
    stage.pass_and_look(60).await;
    stage.pass(10).await;
    let again = (stage.now(), stage.content());
    stage.blobs().remove("photos", "two");
    stage.pass_and_look(60).await;
    assert_eq!(stage.ranges().await.len(), 3, "{:?}", stage.ranges().await);
    for (at, wanted) in [exact, simple, again] {
        let job = stage.restore(at, &[]).await;
        assert_eq!(job["status"], "Completed", "{job}");
        assert_eq!(stage.content(), wanted);
        stage.pass_and_look(60).await;
    }
    assert_eq!(stage.state().await, "ProtectionConfigured");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_end_was_cut_off_is_noticed_and_read_again_from_the_feed() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    std::fs::remove_file(stage.journal().pop().unwrap()).unwrap();
    stage.pass_and_look(60).await;
    let instance = stage.service.get(&stage.instance).await.body["properties"].clone();
    assert_eq!(instance["currentProtectionState"], "ProtectionError");
    let error = instance["protectionErrorDetails"].to_string() + &instance["protectionStatus"].to_string();
    assert!(error.contains("the vault has lost the others"), "{instance}");
    assert!(stage.ranges().await[0].1 < past.last().unwrap().0, "what is lost is not promised");
    stage.refuse(past.last().unwrap().0).await.refused(400, "UserErrorInvalidRecoveryPointInTime");

    stage.pass_and_look(60).await;
    assert_eq!(stage.state().await, "ProtectionConfigured");
    for (at, wanted) in past.iter().rev() {
        assert_eq!(stage.restore(*at, &[]).await["status"], "Completed");
        assert_eq!(stage.content(), *wanted);
        stage.pass_and_look(60).await;
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_goes_with_its_journal_when_the_next_one_is_older_than_the_retention() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", false)).await;
    let first = stage.ranges().await[0].0;
    for day in 0..10 {
        stage.blobs().put("photos", "one", format!("day {day}"));
        stage.pass_and_look(DAY).await;
    }
    let ranges = stage.ranges().await;
    let retention = |now: i64| now - 7 * DAY * 1_000_000;
    assert_eq!(ranges, [(retention(stage.now()), stage.now())], "bases follow each other without a gap");
    assert!(ranges[0].0 > first);
    let journals = stage.journal().len();
    assert!(journals <= 9, "the oldest have gone: {:?}", stage.journal());

    // A shorter policy counts for what is there, too.
    stage.service.put(&format!("{}/backupPolicies/policy", stage.vault), policy("P1D", false)).await.expect(200);
    stage.tick().await;
    stage.look().await;
    stage.pass_and_look(120).await;
    assert!(stage.journal().len() <= 3, "{:?}", stage.journal());
    assert_eq!(stage.ranges().await[0].0, stage.now() - DAY * 1_000_000);
    let at = stage.now() - HOUR * 1_000_000;
    assert_eq!(stage.restore(at, &[]).await["status"], "Completed");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_changes_more_than_it_holds_is_listed_anew() {
    let mut stage = Stage::protected(|config| config.operational.base_changes = 8, policy("P7D", false)).await;
    let mut past = Vec::new();
    for round in 0..4 {
        for blob in 0..4 {
            stage.blobs().put("photos", &format!("busy {blob}"), format!("round {round}"));
        }
        past.push((stage.now(), stage.content()));
        stage.pass_and_look(60).await;
    }
    assert_eq!(
        stage.bases(),
        2,
        "eight changes are more than the five blobs at first, and not more than the nine by then"
    );
    for round in 4..7 {
        stage.blobs().put("photos", "one", format!("round {round}"));
        past.push((stage.now(), stage.content()));
        stage.pass_and_look(60).await;
    }
    assert_eq!(stage.bases(), 3);
    assert_eq!(stage.ranges().await.len(), 1);
    for (at, wanted) in past.iter().rev() {
        assert_eq!(stage.restore(*at, &[]).await["status"], "Completed");
        assert_eq!(stage.content(), *wanted);
    }
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_if_a_version_is_not_there_any_more() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    stage.blobs().forget_versions("photos", "one");
    let before = stage.content();
    let job = stage.restore(past[0].0, &[]).await;
    assert_eq!(job["status"], "Failed", "{job}");
    let error = &job["errorDetails"][0];
    assert_eq!(error["code"], "UserErrorInvalidRecoveryPointInTime");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("photos/one") && message.contains("nothing was changed"), "{message}");
    assert_eq!(details(&job, "MissingBlobs"), "1");
    assert_eq!(stage.content(), before);

    let job = stage.restore(past[0].0, &[("photos/t", "photos/u")]).await;
    assert_eq!(job["status"], "Completed", "what is there comes back: {job}");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_container_is_named() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    stage.blobs().remove_container("later");
    let job = stage.restore(past[2].0, &[]).await;
    assert_eq!(job["errorDetails"][0]["code"], "UserErrorContainerNotFoundForPointInTimeRestore", "{job}");
    assert!(job["errorDetails"][0]["message"].as_str().unwrap().ends_with("restored: later."), "{job}");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leased_blobs_are_left_and_named_one_by_one() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    stage.blobs().lease("photos", "one");
    let job = stage.restore(past[0].0, &[]).await;
    assert_eq!(job["status"], "CompletedWithWarnings", "{job}");
    let warnings = job["extendedInfo"]["warningDetails"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{job}");
    assert!(warnings[0]["warning"]["message"].as_str().unwrap().contains("photos/one"), "{job}");
    let (mut after, mut wanted) = (stage.content(), past[0].1.clone());
    let leased = ("photos".to_owned(), "one".to_owned());
    assert_ne!(after.remove(&leased), wanted.remove(&leased));
    assert_eq!(after, wanted);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_and_a_waiting_one_is_cancelled() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    let job = stage.begin(stage.request(past[0].0, &[])).await;
    let second = stage.refuse(past[0].0).await;
    second.refused(409, "UserErrorPitrRestoreInProgress");
    stage.blobs().fail_after_writes(Some(2));
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "InProgress", "the endpoint may be back soon");
    stage.pass(60).await;
    stage.look().await;
    assert_ne!(stage.ranges().await[0].1, stage.now(), "nobody looks meanwhile");
    stage.blobs().fail_after_writes(None);
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "Completed", "{}", stage.job(&job).await);
    assert_eq!(stage.content(), past[0].1);

    stage.pass_and_look(60).await;
    let before = stage.content();
    let job = stage.begin(stage.request(past[3].0, &[])).await;
    stage.service.call("POST", &format!("{job}/providers/Blobkeep.DataProtection/cancel"), None).await.expect(202);
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "Cancelled");
    assert_eq!(stage.content(), before);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tiers_of_one_account_keep_out_of_each_others_way() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", true)).await;
    let before = (stage.now(), stage.content());
    assert_eq!(stage.blobs().take_counts().1, 0);
    let wanted = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
    stage.service.call("POST", &format!("{}/backup", stage.instance), Some(wanted)).await.expect(202);
    stage.blobs().put("photos", "two", "while a backup waits");
    stage.pass(60).await;
    stage.look().await;
    assert_eq!(stage.ranges().await[0].1, stage.now(), "a backup does not keep a look from following the feed");
    stage.tick().await;
    assert_eq!(stage.blobs().take_counts().1, 5, "a vaulted point holds content");
    stage.blobs().put("photos", "one", "changed");
    stage.pass_and_look(60).await;
    let points = stage.service.get(&format!("{}/recoveryPoints", stage.instance)).await.expect(200);
    let point = points.body["value"][0]["name"].clone();
    assert_eq!(points.body["value"].as_array().map(Vec::len), Some(1), "bases are no points to users");
    let request = common::world::restore_as(&json!(stage.account), &point, "copied");
    let job = stage.begin(request).await;
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "Completed", "{}", stage.job(&job).await);
    let copied = stage.content().into_iter().filter(|(key, _)| key.0 == "copied").count();
    assert_eq!(copied, 5);
    stage.pass_and_look(60).await;
    assert_eq!(stage.restore(before.0, &[("photos", "photos-0")]).await["status"], "Completed");
    let photos = |state: State| state.into_iter().filter(|(key, _)| key.0 == "photos").collect::<State>();
    assert_eq!(photos(stage.content()), photos(before.1));
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_that_was_stopped_goes_on_without_a_gap_as_long_as_the_feed_reaches_back() {
    let mut stage = Stage::protected(|config| config.operational.allow_stop = true, policy("P30D", false)).await;
    stage.service.call("POST", &format!("{}/stopProtection", stage.instance), None).await.expect(202);
    stage.tick().await;
    let stopped = stage.ranges().await;
    stage.blobs().put("photos", "one", "while protection was stopped");
    let (at, wanted) = (stage.now(), stage.content());
    stage.pass_and_look(DAY).await;
    assert_eq!(stage.ranges().await, stopped, "nobody looks");
    stage.blobs().remove("photos", "one");
    stage.service.call("POST", &format!("{}/resumeProtection", stage.instance), None).await.expect(202);
    stage.tick().await;
    assert_eq!(stage.ranges().await, [(stopped[0].0, stage.now())]);
    assert_eq!(stage.restore(at, &[]).await["status"], "Completed");
    assert_eq!(stage.content(), wanted);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_ends_with_the_next_look_which_lists_the_account_anew() {
    let mut stage = continuous().await;
    let past = live(&mut stage).await;
    let last = stage.journal().pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&last, bytes).unwrap();
    stage.pass_and_look(60).await;
    assert_eq!(stage.state().await, "ProtectionConfigured");
    assert_eq!(stage.ranges().await.len(), 2);
    let before = stage.content();
    let job = stage.restore(past[4].0, &[]).await;
    assert_eq!(job["status"], "Failed", "{job}");
    assert_eq!(stage.content(), before);
    assert_eq!(stage.restore(past[1].0, &[]).await["status"], "Completed", "what lies before the damage comes back");
    assert_eq!(stage.content(), past[1].1);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_restores_are_only_for_who_may() {
    const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
    const BACKUP_OPERATOR: &str = "00c29273-979b-4161-815c-10b084fb9324";
    let mut stage = continuous().await;
    let at = stage.now();
    stage.pass_and_look(60).await;
    let (reader, reader_token) = stage.service.principal("reader").await;
    let (operator, operator_token) = stage.service.principal("operator").await;
    let group = stage.vault.split("/providers/").next().unwrap();
    stage.service.assign(&reader, READER, group).await;
    stage.service.assign(&operator, BACKUP_OPERATOR, group).await;
    let restore = stage.request(at, &[]);
    for (action, body) in [
        ("findRestorableTimeRanges", json!({ "sourceDataStoreType": "OperationalStore" })),
        ("validateRestore", json!({ "restoreRequestObject": restore })),
        ("restore", restore.clone()),
    ] {
        let path = format!("{}/{action}", stage.instance);
        stage.service.call_as("", "POST", &path, Some(body.clone())).await.refused(401, "AuthenticationFailed");
        stage
            .service
            .call_as(&reader_token, "POST", &path, Some(body.clone()))
            .await
            .refused(403, "AuthorizationFailed");
        let got = stage.service.call_as(&operator_token, "POST", &path, Some(body)).await;
        assert!(got.status < 300, "{action}: {}", got.text);
    }
    stage.service.running.shutdown().await;
}
