//! The queue of jobs, as workers use it.

use blobkeep_server::db;
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn the_queue_gives_each_job_to_one_worker_at_a_time() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    service.sql("DELETE FROM jobs").await;
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    service.post(&format!("{id}/backup"), body.clone()).await;
    let database = service.running.app().db.clone();
    // The service's own worker is kept away by leaving `not_before` far in the future; here time runs ahead of it.
    let now = 9_000_000_000_000_000_000;
    let mut tx = database.write().await.unwrap();
    let job = db::jobs::claim_next(&mut tx, "one", now, now + 10).await.unwrap().unwrap();
    assert!(db::jobs::claim_next(&mut tx, "two", now, now + 10).await.unwrap().is_none(), "its lease is alive");
    tx.commit().await.unwrap();

    service.post(&format!("{id}/backup"), body).await;
    let mut tx = database.write().await.unwrap();
    assert!(
        db::jobs::claim_next(&mut tx, "two", now, now + 10).await.unwrap().is_none(),
        "one backup of an instance at a time"
    );
    let taken = db::jobs::claim_next(&mut tx, "two", now + 11, now + 20).await.unwrap().unwrap();
    assert_eq!((taken.id.as_str(), taken.attempt), (job.id.as_str(), 2), "a dead worker's job is taken over");
    assert!(!db::jobs::renew(&mut tx, &job.id, "one", now + 30).await.unwrap(), "the first worker has lost it");
    assert!(!db::jobs::save_state(&mut tx, &job.id, "one", &json!({"lost": true})).await.unwrap());
    let status = blobkeep_arm::job::JobStatus::Completed;
    assert!(db::jobs::finish(&mut tx, &job.id, "two", status, &json!({}), None, now + 12).await.unwrap());
    let next = db::jobs::claim_next(&mut tx, "two", now + 12, now + 20).await.unwrap().unwrap();
    assert_ne!(next.id, job.id, "the successor follows");
}
