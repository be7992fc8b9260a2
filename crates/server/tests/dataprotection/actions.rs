//! Actions of our own that change or tell what the database knows: cancelling jobs, previews and versions of policies.

use blobkeep_arm::time::parse_instant;
use blobkeep_server::clock::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::restores::of_point;
use crate::service::{Answer, Service, policy};
use crate::{BACKUP_CONTRIBUTOR, BACKUP_READER};

const BACKUP_OPERATOR: &str = "00c29273-979b-4161-815c-10b084fb9324";
const DAY_MICROS: i64 = 86_400_000_000;

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

/// Begins a backup and gives the id of its job.
async fn backup(service: &Service, instance: &str) -> String {
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    job_of(service, &service.post(&format!("{instance}/backup"), body).await).await
}

async fn job_of(service: &Service, accepted: &Answer) -> String {
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let result = service.get(accepted.header("location")).await.json();
    result["jobId"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
}

fn cancel(job: &str) -> String {
    format!("{job}/providers/Blobkeep.DataProtection/cancel")
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_at_once_and_says_so() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let job = backup(&service, &id).await;
    let answer = service.post_empty(&cancel(&job)).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{answer:?}");
    let status = service.get(answer.header("azure-asyncoperation")).await.json();
    assert_eq!((&status["status"], &status["properties"]["jobId"]), (&json!("Succeeded"), &json!(job)));
    let ended = service.get(&job).await.json();
    assert_eq!(ended["properties"]["status"], "Cancelled");
    assert_eq!(ended["properties"]["errorDetails"][0]["code"], "UserErrorOperationCancelled", "{ended}");

    let again = service.post_empty(&cancel(&job)).await;
    assert_eq!(refusal(&again), (409, "UserErrorOperationNotAllowedInState".to_owned()));
    assert!(again.text.contains("has ended with the status Cancelled"), "{again:?}");
    let none = cancel(&format!("{}/backupJobs/none", service.vault()));
    assert_eq!(refusal(&service.post_empty(&none).await), (404, "ResourceNotFound".to_owned()));
    assert_ne!(backup(&service, &id).await, job, "the next backup is another job");
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_try_is_cancelled_at_once_and_one_at_work_is_asked_to_stop() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    for (lease, status) in [("NULL", "Cancelled"), ("9000000000000000000", "InProgress")] {
        let job = backup(&service, &id).await;
        service
            .sql(&format!("UPDATE jobs SET status = 'InProgress', lease_until = {lease} WHERE status = 'Queued'"))
            .await;
        assert_eq!(service.post_empty(&cancel(&job)).await.status, 202);
        assert_eq!(service.get(&job).await.json()["properties"]["status"], status, "lease until {lease}");
        assert!(status == "Cancelled" || service.post_empty(&cancel(&job)).await.status == 202, "asked once more");
    }
    let asked = service.row("SELECT cancel_requested FROM jobs WHERE kind = 'backup' AND status = 'InProgress'").await;
    assert_eq!(asked.try_get::<i64>("cancel_requested").unwrap(), 1);
}

#[tokio::test]
async fn who_may_see_a_job_may_not_cancel_it_for_that() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let point = service.add_point(1, "VaultStore").await;
    let restore = of_point(&point, &service.account("restoretarget"));
    let restore = job_of(&service, &service.post(&format!("{id}/restore"), restore).await).await;
    let backup = backup(&service, &id).await;
    let (reader, reader_object) = service.stranger("reader").await;
    let (operator, operator_object) = service.stranger("operator").await;
    service.assign(BACKUP_READER, &reader_object, &service.vault()).await;
    service.assign(BACKUP_OPERATOR, &operator_object, &service.vault()).await;
    for (job, action) in [(&backup, "backupInstances/write"), (&restore, "backupInstances/restore/action")] {
        let without = service.send("", Method::POST, &cancel(job), None).await;
        assert_eq!(refusal(&without), (401, "AuthenticationFailed".to_owned()));
        assert_eq!(service.send(&reader, Method::GET, job, None).await.status, 200);
        let refused = service.send(&reader, Method::POST, &cancel(job), None).await;
        assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
        assert!(refused.text.contains(action), "{refused:?}");
        assert_eq!(service.get(job).await.json()["properties"]["status"], "InProgress", "nothing has changed");
        assert_eq!(service.send(&operator, Method::POST, &cancel(job), None).await.status, 202);
    }
}

#[tokio::test]
async fn a_read_only_lock_keeps_jobs_from_being_cancelled() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let job = backup(&service, &id).await;
    let lock = format!("{}/providers/Microsoft.Authorization/locks/keep", service.vault());
    let made = service.put(&lock, json!({"properties": {"level": "ReadOnly"}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(refusal(&service.post_empty(&cancel(&job)).await), (409, "ScopeLocked".to_owned()));
}

/// The policy with this retention in the vault.
fn kept_for(duration: &str) -> Value {
    let mut policy = policy();
    policy["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"] = json!(duration);
    policy
}

/// Three points that live on for years in a vault without soft delete, and the path of the preview of their policy.
async fn with_points(service: &mut Service) -> String {
    service.protect().await;
    assert_eq!(set_soft_delete(service, "Off").await.status, 200);
    for number in 1..=3 {
        service.add_point(number, "VaultStore").await;
    }
    service.add_point(4, "OperationalStore").await;
    service.sql(&format!("UPDATE recovery_points SET expires_at = created_at + {}", 3660 * DAY_MICROS)).await;
    format!("{}/backupPolicies/BlobBackup-Policy/providers/Blobkeep.DataProtection/preview", service.vault())
}

async fn set_soft_delete(service: &Service, state: &str) -> Answer {
    let settings = json!({"softDeleteSettings": {"state": state, "retentionDurationInDays": 30}});
    service.patch(&service.vault(), json!({"properties": {"securitySettings": settings}})).await
}

fn counts(answer: &Answer) -> [Value; 4] {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    ["affectedInstances", "hiddenInstances", "changedPoints", "removedNow"].map(|member| body[member].clone())
}

#[tokio::test]
async fn a_preview_tells_what_a_policy_would_do_to_points_and_does_nothing() {
    let mut service = Service::start().await;
    let path = with_points(&mut service).await;
    let before = service.get(&format!("{}/backupInstances/msblobbackup-1/recoveryPoints", service.vault())).await;
    let answer = service.post(&path, kept_for("P7D")).await;
    assert_eq!(counts(&answer), [1, 0, 3, 3].map(|count| json!(count)));
    let first = &answer.json()["points"][0];
    assert_eq!(first["recoveryPointTime"], "2025-03-04T00:00:00.0000000Z", "newest first");
    assert_eq!(first["newExpiryTime"], "2025-03-11T00:00:00.0000000Z");
    assert_eq!(first["expiryTime"], "2035-03-12T00:00:00.0000000Z");
    assert_eq!(first["wouldBeRemovedNow"], true);
    assert_eq!(first["instanceId"], json!(format!("{}/backupInstances/msblobbackup-1", service.vault())));
    let later = service.post(&path, kept_for("P3650D")).await;
    assert_eq!(counts(&later), [1, 0, 3, 0].map(|count| json!(count)));
    let same = service.post(&path, kept_for("P3660D")).await;
    assert_eq!(counts(&same), [1, 0, 0, 0].map(|count| json!(count)));
    let after = service.get(&format!("{}/backupInstances/msblobbackup-1/recoveryPoints", service.vault())).await;
    assert_eq!(before.text, after.text);
    assert!(service.queued("expire").await.is_empty());

    assert_eq!(refusal(&service.post(&path, json!({"properties": {}})).await).0, 400, "what a PUT refuses");
    let none = path.replace("BlobBackup-Policy", "none");
    assert_eq!(refusal(&service.post(&none, kept_for("P7D")).await), (404, "ResourceNotFound".to_owned()));
}

#[tokio::test]
async fn what_a_shorter_policy_drops_is_kept_for_the_days_of_soft_delete() {
    let mut service = Service::start().await;
    let path = with_points(&mut service).await;
    for state in ["On", "AlwaysOn"] {
        assert_eq!(set_soft_delete(&service, state).await.status, 200);
        let before = SystemClock.now_micros();
        let answer = service.post(&path, kept_for("P7D")).await;
        assert_eq!(counts(&answer), [1, 0, 3, 0].map(|count| json!(count)), "{state}");
        let ends = parse_instant(answer.json()["points"][0]["newExpiryTime"].as_str().unwrap()).unwrap();
        let kept_for = ends - before;
        assert!((30 * DAY_MICROS..30 * DAY_MICROS + 60_000_000).contains(&kept_for), "{state}: {kept_for}");
    }
}

#[tokio::test]
async fn a_preview_knows_what_keeps_points() {
    let mut service = Service::start().await;
    let path = with_points(&mut service).await;
    service.set_state("ProtectionStopped").await;
    assert_eq!(counts(&service.post(&path, kept_for("P7D")).await)[2..], [json!(3), json!(0)]);
    service.set_state("BackupSchedulesSuspended").await;
    assert_eq!(counts(&service.post(&path, kept_for("P7D")).await)[3], 3, "the state of another tier is the newest");
    service.sql("DELETE FROM recovery_points WHERE store = 'OperationalStore'").await;
    assert_eq!(counts(&service.post(&path, kept_for("P7D")).await)[3], 2, "the newest one stays");
    service.set_state("ProtectionConfigured").await;
    let body = json!({"properties": {"securitySettings": {"immutabilitySettings": {"state": "Unlocked"}}}});
    assert_eq!(service.patch(&service.vault(), body).await.status, 200);
    let immutable = service.post(&path, kept_for("P7D")).await;
    assert_eq!(counts(&immutable)[2..], [json!(0), json!(0)], "nothing goes sooner than was promised");
}

#[tokio::test]
async fn a_preview_shows_no_points_to_who_may_not_read_them() {
    let mut service = Service::start().await;
    let path = with_points(&mut service).await;
    let (token, object) = service.stranger("planner").await;
    let refused = service.send(&token, Method::POST, &path, Some(&kept_for("P7D"))).await;
    assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
    let policy = format!("{}/backupPolicies/BlobBackup-Policy", service.vault());
    service.assign(BACKUP_CONTRIBUTOR, &object, &policy).await;
    let answer = service.send(&token, Method::POST, &path, Some(&kept_for("P7D"))).await;
    assert_eq!(counts(&answer), [0, 1, 0, 0].map(|count| json!(count)));
    assert_eq!(answer.json()["points"], json!([]));
}

#[tokio::test]
async fn the_versions_of_a_policy_are_listed_newest_first() {
    let service = Service::start_with(blobkeep_server::Parts::default(), |config| config.api.page_size = 2).await;
    service.make_vault_and_policy().await;
    let policy = format!("{}/backupPolicies/BlobBackup-Policy", service.vault());
    for duration in ["P8D", "P9D", "P9D"] {
        assert_eq!(service.put(&policy, kept_for(duration)).await.status, 200);
    }
    let first = service.get(&format!("{policy}/providers/Blobkeep.DataProtection/versions")).await.json();
    let second = service.get(first["nextLink"].as_str().unwrap_or_else(|| panic!("{first}"))).await.json();
    assert!(second.get("nextLink").is_none(), "{second}");
    let all = [first["value"].as_array().unwrap().clone(), second["value"].as_array().unwrap().clone()].concat();
    let told: Vec<_> = all
        .iter()
        .map(|version| {
            let duration = &version["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"];
            (version["version"].as_i64().unwrap(), duration.as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [(3, "P9D"), (2, "P8D"), (1, "P7D")], "the same PUT again is no version");
    let none = format!("{}/backupPolicies/none/providers/Blobkeep.DataProtection/versions", service.vault());
    assert_eq!(refusal(&service.get(&none).await), (404, "ResourceNotFound".to_owned()));
}

#[tokio::test]
async fn one_verification_of_a_vault_is_under_way_at_a_time() {
    let mut service = Service::start().await;
    service.protect().await;
    let path = format!("{}/providers/Blobkeep.DataProtection/verify", service.vault());
    for body in [json!({"depth": "Deep"}), json!({"percent": 0}), json!({"depth": "structure", "percent": 5})] {
        let refused = service.post(&path, body).await;
        assert_eq!(refusal(&refused), (400, "UserErrorInvalidParameterInRequest".to_owned()));
    }
    assert!(service.queued("verify").await.is_empty());
    let begun = service.post(&path, json!({"depth": "bytes", "percent": 5})).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    assert_eq!(service.get(begun.header("azure-asyncoperation")).await.json()["status"], "Inprogress");
    let queued = service.queued("verify").await;
    assert_eq!((&queued[0]["depth"], &queued[0]["percent"]), (&json!("Bytes"), &json!(5)));
    assert_eq!(refusal(&service.post_empty(&path).await), (409, "Conflict".to_owned()));
    let jobs = service.get(&format!("{}/backupJobs", service.vault())).await.json();
    assert_eq!(jobs["value"], json!([]), "it is no job to users");
}

#[tokio::test]
async fn who_reads_a_vault_sees_its_verification_and_begins_none() {
    let mut service = Service::start().await;
    service.protect().await;
    let (reader, object) = service.stranger("reader").await;
    service.assign(BACKUP_READER, &object, &service.vault()).await;
    let path = format!("{}/providers/Blobkeep.DataProtection", service.vault());
    let refused = service.send(&reader, Method::POST, &format!("{path}/verify"), None).await;
    assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
    let none = service.send(&reader, Method::GET, &format!("{path}/verification"), None).await;
    assert_eq!(refusal(&none), (404, "UserErrorGenericResourceNotFound".to_owned()));
}
