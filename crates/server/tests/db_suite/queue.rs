//! The queue of jobs, and operations.

use std::collections::BTreeSet;

use blobkeep_arm::id::fold;
use blobkeep_arm::job::JobStatus;
use blobkeep_arm::{ApiError, ErrorCode};
use blobkeep_server::config::Waiting;
use blobkeep_server::db::jobs::{self, NewJob};
use blobkeep_server::db::operations::{self, Operation, OperationState};
use blobkeep_server::db::{Conn, Db};
use blobkeep_server::jobs::spec::{BackupSpec, BackupTrigger, ExpireSpec, JobSpec, SyncVaultSpec};
use serde_json::json;

use crate::identity::is_duplicate;
use crate::stage::{NOW, SUBSCRIPTION, Stage, instance_id, vault_id};

pub(crate) fn new_job<'a>(id: &'a str, vault_key: &'a str, spec: &'a JobSpec, now: i64) -> NewJob<'a> {
    NewJob { id, vault_key, spec, operation_id: None, principal_id: "me", correlation_id: "request", now }
}

fn backup(instance: &str, scheduled_for: Option<i64>) -> JobSpec {
    JobSpec::Backup(BackupSpec {
        instance_key: fold(&instance_id(instance)),
        rule_name: "rule".to_owned(),
        tag_override: None,
        trigger: BackupTrigger::Scheduled,
        scheduled_for,
    })
}

async fn enqueue(conn: &mut Conn, id: &str, spec: &JobSpec, now: i64) {
    jobs::enqueue(conn, &new_job(id, &fold(&vault_id("Vault")), spec, now)).await.unwrap();
}

/// Takes jobs until none is left.
async fn take_all(db: &Db, owner: &str) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let mut tx = db.write().await.unwrap();
        let job = jobs::claim_next(&mut tx, owner, NOW + 100, NOW + 200).await.unwrap();
        tx.commit().await.unwrap();
        let Some(job) = job else { return taken };
        assert_eq!(job.lease_owner.as_deref(), Some(owner));
        taken.push(job.id);
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn each_job_goes_to_one_of_two_workers_at_once(stage: &Stage) {
    const JOBS: usize = 20;
    let mut tx = stage.write().await;
    for number in 0..JOBS {
        let spec = JobSpec::SyncVault(SyncVaultSpec { vault_key: fold(&vault_id("Vault")) });
        enqueue(&mut tx, &format!("job-{number:02}"), &spec, NOW).await;
    }
    enqueue(&mut tx, "later", &backup("One", None), NOW + 101).await;
    tx.commit().await.unwrap();
    let other = stage.open_again().await.unwrap();
    let (one, two) = tokio::join!(take_all(&stage.db, "one"), take_all(&other, "two"));
    other.close().await;
    assert_eq!(one.len() + two.len(), JOBS, "{one:?} {two:?}");
    assert_eq!(one.iter().chain(&two).collect::<BTreeSet<_>>().len(), JOBS, "none goes twice: {one:?} {two:?}");
}

pub(crate) async fn who_lost_the_lease_changes_nothing(stage: &Stage) {
    let mut tx = stage.write().await;
    enqueue(&mut tx, "a", &backup("One", None), NOW).await;
    enqueue(&mut tx, "b", &backup("One", None), NOW + 1).await;
    assert!(jobs::has_waiting(&mut tx, NOW + 5).await.unwrap());
    let job = jobs::claim_next(&mut tx, "one", NOW + 5, NOW + 10).await.unwrap().unwrap();
    assert_eq!(
        (job.id.as_str(), job.status, job.attempt, job.started_at),
        ("a", JobStatus::InProgress, 1, Some(NOW + 5))
    );
    assert!(jobs::claim_next(&mut tx, "two", NOW + 9, NOW + 19).await.unwrap().is_none(), "one backup at a time");
    assert!(jobs::renew(&mut tx, "a", "one", NOW + 12).await.unwrap());
    assert!(jobs::claim_next(&mut tx, "two", NOW + 11, NOW + 21).await.unwrap().is_none(), "the lease was prolonged");
    let taken = jobs::claim_next(&mut tx, "two", NOW + 12, NOW + 22).await.unwrap().unwrap();
    assert_eq!((taken.id.as_str(), taken.attempt, taken.started_at), ("a", 2, Some(NOW + 5)), "it ran out");
    let (state, done) = (json!({"done": 1}), JobStatus::Completed);
    assert!(!jobs::renew(&mut tx, "a", "one", NOW + 99).await.unwrap());
    assert!(!jobs::save_state(&mut tx, "a", "one", &state).await.unwrap());
    assert!(!jobs::postpone(&mut tx, "a", "one", &state, NOW).await.unwrap());
    assert!(!jobs::finish(&mut tx, "a", "one", done, &state, None, NOW + 13).await.unwrap());
    assert_eq!(jobs::by_id(&mut tx, "a").await.unwrap().unwrap().state, json!({}));

    assert!(jobs::save_state(&mut tx, "a", "two", &state).await.unwrap());
    assert!(jobs::postpone(&mut tx, "a", "two", &state, NOW + 30).await.unwrap());
    assert!(jobs::claim_next(&mut tx, "two", NOW + 29, NOW + 39).await.unwrap().is_none(), "a stands in the way of b");
    let again = jobs::claim_next(&mut tx, "two", NOW + 30, NOW + 40).await.unwrap().unwrap();
    assert_eq!((again.id.as_str(), again.state), ("a", state.clone()));
    let errors = json!([{"code": "x"}]);
    assert!(jobs::finish(&mut tx, "a", "two", JobStatus::Failed, &state, Some(&errors), NOW + 31).await.unwrap());
    let ended = jobs::by_id(&mut tx, "a").await.unwrap().unwrap();
    assert_eq!((ended.error, ended.ended_at, ended.lease_owner), (Some(errors), Some(NOW + 31), None));
    assert_eq!(jobs::claim_next(&mut tx, "two", NOW + 31, NOW + 41).await.unwrap().unwrap().id, "b");
    assert_eq!(jobs::release_all(&mut tx).await.unwrap(), 1);
    assert_eq!(jobs::claim_next(&mut tx, "three", NOW + 32, NOW + 42).await.unwrap().unwrap().id, "b");
    assert!(!jobs::has_waiting(&mut tx, NOW + 32).await.unwrap());
}

pub(crate) async fn jobs_are_listed_cancelled_and_forgotten(stage: &Stage) {
    let (mut tx, granted) = (stage.write().await, &stage.granted);
    let (key, instance_key) = (fold(&vault_id("Vault")), fold(&instance_id("One")));
    for (id, at) in [("a", NOW), ("b", NOW + 1), ("c", NOW + 1)] {
        enqueue(&mut tx, id, &backup("One", Some(at)), at).await;
    }
    let expire = JobSpec::Expire(ExpireSpec { instance_key: instance_key.clone(), recalculate: false });
    enqueue(&mut tx, "expire", &expire, NOW).await;
    let ids = |jobs: Vec<jobs::Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let page = jobs::list_visible(&mut tx, granted, &key, None, 2).await.unwrap();
    assert_eq!(ids(page), ["c", "b"], "newest first");
    let rest = jobs::list_visible(&mut tx, granted, &key, Some((NOW + 1, "b")), 9).await.unwrap();
    assert_eq!(ids(rest), ["a"]);
    assert!(jobs::get_visible(&mut tx, granted, &key, "A").await.unwrap().is_some());
    assert!(jobs::get_visible(&mut tx, granted, &key, "expire").await.unwrap().is_none());
    assert_eq!(ids(jobs::unfinished(&mut tx, &instance_key, "backup").await.unwrap()), ["a", "b", "c"]);
    assert_eq!(jobs::unfinished_in_vault(&mut tx, &key).await.unwrap().len(), 4);

    let running = jobs::claim_next(&mut tx, "one", NOW + 5, NOW + 9).await.unwrap().unwrap();
    assert_eq!(running.id, "a");
    assert!(jobs::request_cancel(&mut tx, "a", NOW + 6).await.unwrap());
    assert!(jobs::by_id(&mut tx, "a").await.unwrap().unwrap().cancel_requested, "it is asked to stop");
    assert!(jobs::request_cancel(&mut tx, "b", NOW + 6).await.unwrap());
    assert_eq!(jobs::by_id(&mut tx, "b").await.unwrap().unwrap().status, JobStatus::Cancelled, "it waits no more");
    assert!(!jobs::request_cancel(&mut tx, "b", NOW + 6).await.unwrap());
    let done = JobStatus::CompletedWithWarnings;
    assert!(jobs::finish(&mut tx, "a", "one", done, &json!({}), None, NOW + 7).await.unwrap());
    assert_eq!(jobs::scheduled_times(&mut tx, &instance_key, NOW).await.unwrap(), [NOW]);
    assert!(jobs::has_ended_since(&mut tx, &instance_key, "backup", NOW + 7).await.unwrap());
    assert!(!jobs::has_ended_since(&mut tx, &instance_key, "backup", NOW + 8).await.unwrap());
    assert!(jobs::request_cancel(&mut tx, "expire", NOW + 8).await.unwrap());
    assert_eq!(jobs::forget_internal_ended_before(&mut tx, NOW + 9).await.unwrap(), 1, "what users see stays");
    assert!(jobs::by_id(&mut tx, "expire").await.unwrap().is_none());
    tx.commit().await.unwrap();
    let (mut tx, spec) = (stage.write().await, backup("One", None));
    is_duplicate(jobs::enqueue(&mut tx, &new_job("a", &key, &spec, NOW)).await);
}

pub(crate) fn operation(id: &str, resource_key: Option<&str>) -> Operation {
    Operation {
        id: id.to_owned(),
        vault_key: fold(&vault_id("Vault")),
        subscription_id: SUBSCRIPTION.to_owned(),
        location: "westus".to_owned(),
        kind: "BackupInstances_CreateOrUpdate".to_owned(),
        waiting: Waiting::Create,
        state: OperationState::Inprogress,
        started_at: NOW,
        ended_at: None,
        error: None,
        error_status: None,
        job_id: None,
        principal_id: "me".to_owned(),
        correlation_id: "request".to_owned(),
        resource_key: resource_key.map(str::to_owned),
    }
}

pub(crate) async fn operations_end_once(stage: &Stage) {
    let mut tx = stage.write().await;
    for id in ["one", "ONE", "two"] {
        operations::create(&mut tx, &operation(id, None)).await.unwrap();
    }
    operations::finish(&mut tx, "one", Ok(()), NOW + 1).await.unwrap();
    let error = ApiError::of(ErrorCode::UserErrorOperationCancelled, &[]);
    operations::finish(&mut tx, "one", Err(error.clone()), NOW + 2).await.unwrap();
    let ended = operations::get(&mut tx, "one").await.unwrap().unwrap();
    assert_eq!((ended.state, ended.ended_at, ended.error), (OperationState::Succeeded, Some(NOW + 1), None));
    operations::finish(&mut tx, "two", Err(error.clone()), NOW + 2).await.unwrap();
    let failed = operations::get(&mut tx, "two").await.unwrap().unwrap();
    assert_eq!((failed.state, failed.error_status), (OperationState::Failed, Some(error.status())));
    assert_eq!(operations::forget_ended_before(&mut tx, NOW + 2).await.unwrap(), 1);
    assert!(operations::get(&mut tx, "one").await.unwrap().is_none());
    assert!(operations::get(&mut tx, "ONE").await.unwrap().is_some(), "the case of an operation's id counts");
}
