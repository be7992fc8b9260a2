//! Restores in place that do not go through at once: interrupted, overtaken by the retention, cancelled.

use serde_json::{Value, json};

use crate::stage::{Call, DAY, HOUR, Stage, State, policy};

/// A restore to an instant that is about to leave the retention of a week, interrupted when it had done some of its work; and what it brings
/// back. What the instant is restored from expires twenty minutes later.
async fn overtaken(keeps_versions: bool) -> (Stage, String, State) {
    let mut stage = Stage::protected(|_| {}, policy("P7D", false)).await;
    stage.living.keep_versions(keeps_versions);
    stage.pass_and_look(DAY - 300).await;
    stage.blobs().put("photos", "one", "wanted");
    stage.pass_and_look(60).await;
    let (at, wanted) = (stage.now(), stage.content());
    stage.pass(10).await;
    stage.blobs().remove("photos", "two");
    stage.blobs().put("photos", "three", "not wanted");
    stage.blobs().put("photos", "four", "not wanted");
    // The next state, or base point, takes the place of the one before.
    stage.pass_and_look(600).await;
    loop {
        let left = (at - stage.now()) / 1_000_000 + 7 * DAY - 600;
        if left <= 0 {
            break;
        }
        stage.pass_and_look(left.min(DAY)).await;
    }
    let job = stage.begin(stage.request(at, &[])).await;
    stage.blobs().fail_after_writes(Some(1));
    stage.tick().await;
    assert_eq!(stage.job(&job).await["status"], "InProgress", "{}", stage.job(&job).await);
    (stage, job, wanted)
}

async fn goes_on(mut stage: Stage, job: &str, wanted: &State) {
    // Tried again, and what has expired is removed, both after the retention.
    for _ in 0..2 {
        stage.pass(900).await;
        stage.tick().await;
        assert_eq!(stage.job(job).await["status"], "InProgress", "{}", stage.job(job).await);
    }
    stage.blobs().fail_after_writes(None);
    stage.pass(900).await;
    stage.tick().await;
    let ended = stage.job(job).await;
    assert_eq!(ended["status"], "Completed", "{ended}");
    assert_eq!(stage.content(), *wanted);
    let first = stage.ranges().await[0].0;
    assert!(first >= stage.now() - 7 * DAY * 1_000_000, "nobody else is given what has left the retention");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_when_its_instant_has_left_the_retention() {
    let (stage, job, wanted) = overtaken(true).await;
    goes_on(stage, &job, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_of_an_account_without_versions() {
    let (stage, job, wanted) = overtaken(false).await;
    goes_on(stage, &job, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_restore_needs_expires_when_it_has_ended_and_not_before() {
    let (mut stage, job, _) = overtaken(true).await;
    stage.pass(HOUR).await;
    stage.tick().await;
    let bases = stage.bases();
    stage.service.call("POST", &format!("{job}/providers/Blobkeep.DataProtection/cancel"), None).await.expect(202);
    assert_eq!(stage.job(&job).await["status"], "Cancelled");
    stage.pass(120).await;
    stage.tick().await;
    assert!(stage.bases() < bases, "{:?}", stage.journal());
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_when_the_policy_has_lost_its_rule() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", true)).await;
    let (at, wanted) = (stage.now(), stage.content());
    stage.blobs().put("photos", "one", "not wanted");
    stage.blobs().remove("photos", "two");
    stage.pass_and_look(60).await;
    let job = stage.begin(stage.request(at, &[])).await;
    stage.blobs().fail_after_writes(Some(1));
    stage.tick().await;
    let mut vaulted = policy("P7D", true);
    let rules = vaulted["properties"]["policyRules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["lifecycles"][0]["sourceDataStore"]["dataStoreType"] != "OperationalStore");
    stage.service.put(&format!("{}/backupPolicies/policy", stage.vault), vaulted).await.expect(200);
    stage.blobs().fail_after_writes(None);
    stage.pass(60).await;
    stage.tick().await;
    let ended = stage.job(&job).await;
    assert_eq!(ended["status"], "Completed", "{ended}");
    assert_eq!(stage.content(), wanted);
    stage.refuse(at).await.refused(400, "UserErrorInvalidRecoveryPointInTime");
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_at_work_stops_when_it_is_cancelled_and_leaves_what_it_has_done() {
    const CONTAINERS: usize = 600;
    let mut stage = Stage::protected(|_| {}, policy("P7D", false)).await;
    let containers: Vec<String> = (0..CONTAINERS).map(|number| format!("c{number:04}")).collect();
    containers.iter().for_each(|container| stage.blobs().put(container, "blob", "wanted"));
    stage.pass_and_look(60).await;
    let (at, wanted) = (stage.now(), stage.content());
    containers.iter().for_each(|container| stage.blobs().put(container, "blob", "not wanted"));
    stage.pass_and_look(60).await;
    let job = stage.begin(stage.request(at, &[])).await;
    let gate = stage.living.hold(Call::List);
    let cancel = async {
        gate.reached().await;
        gate.open_for(5);
        let path = format!("{job}/providers/Blobkeep.DataProtection/cancel");
        stage.service.call("POST", &path, None).await.expect(202);
        // The job asks about once a second; the account is slow meanwhile.
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
        while stage.job(&job).await["status"] == "InProgress" {
            pace.tick().await;
            gate.open_for(1);
        }
    };
    tokio::join!(stage.tick(), cancel);
    stage.living.let_go();
    let ended = stage.job(&job).await;
    assert_eq!(ended["status"], "Cancelled", "{ended}");
    assert_eq!(ended["errorDetails"][0]["code"], "UserErrorOperationCancelled", "{ended}");
    let content = stage.content();
    let done = wanted.iter().filter(|(key, blob)| key.0 != "photos" && content.get(*key) == Some(*blob)).count();
    assert!((4..CONTAINERS).contains(&done), "{done} containers are as they were");

    stage.look().await;
    assert!(stage.ranges().await[0].1 >= at, "it is looked at right after");
    let job = stage.restore(at, &[]).await;
    assert_eq!(job["status"], "Completed", "{job}");
    assert_eq!(stage.content(), wanted);
    stage.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_ranges_of_names_come_back_and_eleven_are_refused() {
    let mut stage = Stage::protected(|_| {}, policy("P7D", false)).await;
    let names: Vec<String> = (0..24).map(|number| format!("{number:02}")).collect();
    names.iter().for_each(|name| stage.blobs().put("many", name, "wanted"));
    stage.pass_and_look(60).await;
    let (at, wanted) = (stage.now(), stage.content());
    names.iter().for_each(|name| stage.blobs().put("many", name, "not wanted"));
    stage.blobs().put("many", "02+", "made later");
    stage.pass_and_look(60).await;
    let before = stage.content();

    let bounds: Vec<(String, String)> =
        (0..11).map(|number| (format!("many/{:02}", 2 * number), format!("many/{:02}", 2 * number + 1))).collect();
    let ranges: Vec<(&str, &str)> = bounds.iter().map(|(min, max)| (min.as_str(), max.as_str())).collect();
    let body = stage.request(at, &ranges);
    let refused = stage.service.call("POST", &format!("{}/restore", stage.instance), Some(body)).await;
    refused.refused(400, "UserErrorTooManyRestoreCriteriaGivenForBlobRestore");
    assert_eq!(stage.content(), before);

    let job = stage.restore(at, &ranges[..10]).await;
    assert_eq!(job["status"], "Completed", "{job}");
    let after = stage.content();
    for (key, blob) in &before {
        let is_chosen = key.0 == "many" && key.1.as_str() < "19" && key.1[..2].parse::<u8>().unwrap() % 2 == 0;
        let expected = if is_chosen { wanted.get(key) } else { Some(blob) };
        assert_eq!(after.get(key), expected, "{key:?}");
    }
    assert!(!after.contains_key(&("many".to_owned(), "02+".to_owned())));
    stage.service.running.shutdown().await;
}

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
