//! Backups on demand.

use std::sync::Arc;

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::restore::AdhocRequest;
use blobkeep_arm::word::DataStore;
use blobkeep_arm::{ApiError, ErrorCode};

use super::{enqueue, invalid, require, running, wrong_state};
use crate::App;
use crate::api::operations::{self, Beginning};
use crate::api::{Answer, Request};
use crate::config::Waiting;
use crate::db::instances::StoredInstance;
use crate::db::operations::OperationState;
use crate::db::policies::StoredPolicy;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{BackupSpec, BackupTrigger, JobSpec};

/// A backup on demand. The operation ends as soon as the job is accepted; while one backup runs, equal further ones share one successor.
pub(super) async fn backup(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = AdhocRequest::parse(&request.json()?)?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = require(&mut tx, &request).await?;
    if !matches!(stored.state, ProtectionState::ProtectionConfigured | ProtectionState::UpdatingProtection) {
        return Err(wrong_state(&stored, "backup"));
    }
    let policy = db::policies::get(&mut tx, request.granted()?, &stored.policy_key).await?;
    let policy = policy.ok_or_else(|| invalid("policyInfo.policyId", "the policy of the instance does not exist"))?;
    let spec = adhoc_spec(&stored, &policy, &wanted)?;
    let waiting = db::jobs::unfinished(&mut tx, &stored.key, "backup").await?;
    let joined = waiting.into_iter().find(|job| job.started_at.is_none() && job.spec == spec);
    let job_id = match joined {
        Some(job) => job.id,
        None => enqueue(&mut tx, &request, &vault.key, &spec, None).await?,
    };
    let operation = accepted_job(&mut tx, &request, &vault, &stored.key, &job_id).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

/// The operation of a job that is accepted: it has ended, the job goes on.
pub(in crate::api) async fn accepted_job(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    key: &str,
    job_id: &str,
) -> ApiResult<String> {
    let beginning = Beginning {
        state: OperationState::Succeeded,
        job_id: Some(format!("{}/backupJobs/{job_id}", vault.id)),
        ..running(vault, Waiting::Validate, Some(key))
    };
    operations::begin(conn, request, beginning).await
}

fn adhoc_spec(stored: &StoredInstance, policy: &StoredPolicy, wanted: &AdhocRequest) -> ApiResult<JobSpec> {
    let Some(rule) = policy.policy.backup_rule(&wanted.rule_name) else {
        let rules: Vec<&str> = policy.policy.backup_rules().map(|rule| rule.name.as_str()).collect();
        return Err(ApiError::of(
            ErrorCode::UserErrorBackupRuleNotFound,
            &[("rule", &wanted.rule_name), ("policy", &policy.name), ("rules", &rules.join(", "))],
        ));
    };
    let tag_override = wanted.tag_override.as_deref().map(|tag| retention_tag(policy, tag)).transpose()?;
    Ok(JobSpec::Backup(BackupSpec {
        instance_key: stored.key.clone(),
        rule_name: rule.name.clone(),
        tag_override,
        trigger: BackupTrigger::Adhoc,
        scheduled_for: None,
    }))
}

/// The tag in the policy's own spelling.
fn retention_tag(policy: &StoredPolicy, tag: &str) -> ApiResult<String> {
    if let Some(rule) = policy.policy.retention_rule(DataStore::VaultStore, tag) {
        return Ok(rule.name.clone());
    }
    let rules = policy.policy.retention_rules();
    let vaulted = rules.filter(|rule| rule.stores().any(|store| store == DataStore::VaultStore));
    let tags: Vec<&str> = vaulted.map(|rule| rule.name.as_str()).collect();
    Err(ApiError::of(
        ErrorCode::UserErrorRetentionTagNotFound,
        &[("tag", tag), ("policy", &policy.name), ("tags", &tags.join(", "))],
    ))
}
