//! The job that makes a recovery point.

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::instance::{ProtectionState, Selection};
use blobkeep_arm::job::JobStatus;
use blobkeep_arm::point::PointState;
use blobkeep_arm::schedule;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::backup::{self, BackupOptions, BackupReport, BackupSelection, Expiry};
use blobkeep_vault::{Source, Timestamp};
use serde_json::{Value, json};

use super::accounts;
use super::engine::EngineClock;
use super::fault::{Fault, of_engine};
use super::instance::{Subject, check_rights};
use super::spec::{BackupSpec, BackupTrigger, PointStamp};
use super::watch::{NeededRights, Watch};
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, instances::StoredInstance, jobs::Job, policies::StoredPolicy};

/// A little more than a year, in microseconds.
const LOOK_BACK_MICROS: i64 = 370 * 24 * 3600 * 1_000_000;
/// Skipped blobs that a job spells out.
const SPELLED_OUT: usize = 100;

/// What a vault's identity must be allowed on the account that is backed up.
pub(super) const BACKUP_ACTIONS: &[&str] = &[
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/blobServices/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/read",
    "Microsoft.Storage/storageAccounts/objectReplicationPolicies/write",
];

/// The engine's name of a job: its id without hyphens, which is the id of the recovery point as well.
pub(super) fn engine_job(job_id: &str) -> String {
    job_id.replace('-', "").to_lowercase()
}

/// Does the job.
pub(super) async fn run(app: &Arc<App>, job: &Job, spec: &BackupSpec, watch: &Watch) -> Result<Done, Fault> {
    let subject = Subject::load(app, &spec.instance_key).await?;
    if !is_backed_up(subject.instance.state) {
        return Err(Fault::Cancelled);
    }
    let account = &subject.account_id;
    check_rights(app, &subject, BACKUP_ACTIONS, account).await?;
    watch.need(NeededRights {
        principal_id: subject.vault.principal_id.clone().unwrap_or_default(),
        actions: BACKUP_ACTIONS.to_vec(),
        scopes: vec![account.clone()],
    });
    let opened = accounts::open(app, &subject.instance.datasource_key, account).await?;
    check_containers(opened.source.as_ref(), &subject.instance, account).await?;
    let vault = app.vaults.for_job(app, &subject.vault.vault_uuid).await?;
    let tag = tag(app, spec, &subject).await?;
    watch.tell(|told| drop(told.details.insert("RetentionTag".to_owned(), json!(tag))));
    let options = BackupOptions {
        selection: selection(&subject.instance),
        expires_at: expiry(&subject, &tag),
        labels: labels(DataStore::VaultStore, &spec.rule_name, &tag, &subject.policy),
        scratch: app.config.data_dir.join("scratch"),
        progress_every: std::time::Duration::from_secs(20),
        ..BackupOptions::new(&subject.instance.instance_uuid, engine_job(&job.id))
    };
    let report = backup::run(&vault, opened.source, &options, &EngineClock(app), watch)
        .await
        .map_err(|e| of_engine(&e, account))?;
    let skipped = report.point.skipped(&vault, SPELLED_OUT).await.map_err(|e| of_engine(&e, account))?;
    let is_complete = report.point.counts.skipped_blobs == 0;
    watch.tell(|told| {
        told.transferred_bytes = Some(report.point.counts.read_bytes);
        told.target_point = Some(PointStamp { id: report.point.job.clone(), time: Some(report.point.started_at.0) });
        told.details.extend(details(&report));
        let blobs = skipped.iter().map(|blob| (format!("{}/{}", blob.container, blob.name), blob.reason.clone()));
        let others = report.warnings.iter().map(|warning| (account.clone(), warning.clone()));
        told.warnings = blobs.chain(others).map(|(name, reason)| warning(&name, &reason)).collect();
    });
    let expires_at = options.expires_at.of(report.point.started_at).map(|at| at.0);
    remember(app, &subject, &report, DataStore::VaultStore, &tag, &spec.rule_name, expires_at).await?;
    let status = if is_complete { JobStatus::Completed } else { JobStatus::CompletedWithWarnings };
    Ok(Done { status })
}

/// Backups are made in these states.
fn is_backed_up(state: ProtectionState) -> bool {
    use ProtectionState::{ProtectionConfigured, ProtectionError, UpdatingProtection};
    matches!(state, ProtectionConfigured | UpdatingProtection | ProtectionError)
}

/// What of the account goes into the vault: without parameters, the vault rules of the policy protect every container.
pub(super) fn selection(instance: &StoredInstance) -> BackupSelection {
    match instance.instance.selection() {
        Selection::None => BackupSelection::default(),
        Selection::Containers(containers) => BackupSelection { containers: Some(containers), ..Default::default() },
        Selection::AllExcept(exclude_container_prefixes) => {
            BackupSelection { containers: None, exclude_container_prefixes }
        }
    }
}

/// Containers that are listed must be there.
pub(super) async fn check_containers(
    source: &dyn Source,
    instance: &StoredInstance,
    account: &str,
) -> Result<(), Fault> {
    missing_containers(source, &instance.instance.selection(), account).await
}

/// The same for an instance that is not stored yet.
pub(super) async fn missing_containers(source: &dyn Source, selection: &Selection, account: &str) -> Result<(), Fault> {
    let there = source.containers().await.map_err(|e| of_engine(&e.into(), account))?;
    let Selection::Containers(wanted) = selection else { return Ok(()) };
    let missing: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|wanted| there.iter().all(|container| container.name != *wanted))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let containers = missing.join(", ");
    Err(ApiError::of(ErrorCode::UserErrorIncorrectContainersSelectedForOperation, &[("containers", &containers)])
        .into())
}

async fn tag(app: &App, spec: &BackupSpec, subject: &Subject) -> Result<String, Fault> {
    if let Some(tag) = &spec.tag_override {
        return Ok(tag.clone());
    }
    let Some(rule) = subject.policy.policy.backup_rule(&spec.rule_name) else { return Ok("Default".to_owned()) };
    let tag = match (spec.trigger, spec.scheduled_for) {
        (BackupTrigger::Scheduled, Some(scheduled_for)) => {
            let mut reader = app.db.read().await?;
            // Markers such as the first of a year look back as far as that; an earlier instance of the same name does not count.
            let since = (scheduled_for - LOOK_BACK_MICROS).max(subject.instance.created_at);
            let earlier = db::jobs::scheduled_times(&mut reader, &subject.instance.key, since).await?;
            schedule::tag_of_scheduled(rule, scheduled_for, &earlier)
        }
        _ => schedule::default_tag(rule),
    };
    Ok(tag.unwrap_or("Default").to_owned())
}

/// When a point with that tag expires: counted from its own time, as every later look at the policy counts.
fn expiry(subject: &Subject, tag: &str) -> Expiry {
    let (policy, tag) = (subject.policy.policy.clone(), tag.to_owned());
    Expiry::by(move |at| schedule::expiry(&policy, DataStore::VaultStore, &tag, at.0).map(Timestamp))
}

/// Facts that a point carries in the vault, so that its row here can be made again from it.
pub(super) fn labels(store: DataStore, rule: &str, tag: &str, policy: &StoredPolicy) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([
        label("store", store.as_str()),
        label("rule", rule),
        label("tag", tag),
        label("policy", &policy.name),
        label("policyUpdatedAt", &policy.updated_at.to_string()),
    ])
}

/// Numbers by name.
fn numbers(report: &BackupReport) -> [(&'static str, u64); 9] {
    let (counts, totals) = (report.point.counts, report.point.root.totals);
    [
        ("Containers", totals.containers),
        ("Blobs", totals.blobs),
        ("Bytes", totals.bytes),
        ("UnchangedBlobs", counts.unchanged_blobs),
        ("ReadBlobs", counts.read_blobs),
        ("ReadBytes", counts.read_bytes),
        ("NewBytes", counts.new_bytes),
        ("StoredBytes", counts.stored_bytes),
        ("SkippedBlobs", counts.skipped_blobs),
    ]
}

/// The same as texts, which is what `additionalDetails` holds.
fn details(report: &BackupReport) -> impl Iterator<Item = (String, Value)> {
    numbers(report).into_iter().map(|(name, number)| (name.to_owned(), json!(number.to_string())))
}

/// One warning of a job, about one thing.
pub(super) fn warning(name: &str, reason: &str) -> Value {
    json!({
        "resourceName": name,
        "warning": {
            "code": "UserWarningBlobNotComplete",
            "message": reason,
            "target": name,
            "details": null,
            "recommendedAction": [],
            "innerError": null,
            "isRetryable": false,
            "isUserError": false,
            "properties": {},
        },
    })
}

/// Keeps the point in the database, for lists.
pub(super) async fn remember(
    app: &App,
    subject: &Subject,
    report: &BackupReport,
    store: DataStore,
    tag: &str,
    rule: &str,
    expires_at: Option<i64>,
) -> Result<(), Fault> {
    let is_complete = report.point.counts.skipped_blobs == 0;
    let row = db::points::Point {
        instance_key: subject.instance.key.clone(),
        id: report.point.job.clone(),
        job_id: report.point.job.clone(),
        created_at: match store {
            DataStore::OperationalStore => report.point.completed_at.0,
            _ => report.point.started_at.0,
        },
        expires_at,
        tag: tag.to_owned(),
        rule: rule.to_owned(),
        policy_name: subject.policy.name.clone(),
        tag_version: Some(subject.policy.updated_at),
        counts: Value::Object(
            numbers(report).into_iter().map(|(name, number)| (name.to_owned(), json!(number))).collect(),
        ),
        state: if is_complete { PointState::Completed } else { PointState::Partial },
        store,
        base: report.point.feed().map(|position| db::points::Base {
            complete_until: position.complete_until.0,
            follows: report.point.follows().map(ToOwned::to_owned),
        }),
    };
    let mut writer = app.db.write().await?;
    db::points::put(&mut writer, &Granted::service(), &row).await?;
    writer.commit().await?;
    Ok(())
}
