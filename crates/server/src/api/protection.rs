//! Stopping, suspending and resuming the protection of an instance.
//!
//! Stopped: no backups, every point is kept for ever. Suspended: no backups, points expire, the newest is kept. The state alone says so;
//! scheduler and expiry look at it. Resuming a stopped instance configures it anew, for its account may have changed meanwhile.

use std::sync::Arc;

use blobkeep_arm::guard::{CriticalOperation, operation_requests};
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;

use super::critical::Approval;
use super::operations::{self, Beginning};
use super::{Access, Answer, Request, Route, instances, policies};
use crate::App;
use crate::config::Waiting;
use crate::db;
use crate::db::instances::StoredInstance;
use crate::db::operations::OperationState;
use crate::db::policies::StoredPolicy;
use crate::db::vaults::Vault;
use crate::error::ApiResult;
use crate::jobs::spec::{ExpireSpec, JobSpec};

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupInstances_StopProtection",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/stopProtection",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/stopProtection/action"),
        handler: |app, request| Box::pin(stop(app, request, ProtectionState::ProtectionStopped)),
    },
    Route {
        operation: "BackupInstances_SuspendBackups",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/suspendBackups",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/suspendBackups/action"),
        handler: |app, request| Box::pin(stop(app, request, ProtectionState::BackupSchedulesSuspended)),
    },
    Route {
        operation: "BackupInstances_ResumeBackups",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/resumeBackups",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/resumeBackups/action"),
        handler: |app, request| Box::pin(resume_backups(app, request)),
    },
    Route {
        operation: "BackupInstances_ResumeProtection",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/resumeProtection",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/resumeProtection/action"),
        handler: |app, request| Box::pin(resume_protection(app, request)),
    },
];

fn done<'a>(vault: &'a Vault, stored: &'a StoredInstance) -> Beginning<'a> {
    Beginning {
        vault,
        waiting: Waiting::Create,
        state: OperationState::Succeeded,
        job_id: None,
        resource_key: Some(&stored.key),
    }
}

async fn policy_of(conn: &mut db::Conn, request: &Request, stored: &StoredInstance) -> ApiResult<StoredPolicy> {
    let policy = db::policies::get(conn, request.granted()?, &stored.policy_key).await?;
    policy.ok_or_else(|| {
        ApiError::of(
            ErrorCode::UserErrorGenericResourceNotFound,
            &[("resource", &stored.instance.policy_info.policy_id)],
        )
    })
}

/// Stop and suspend: a backup that runs is let end; the next one is not begun.
async fn stop(app: Arc<App>, request: Request, state: ProtectionState) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let approval = Approval::of(&app, &request, operation_requests(Some(&request.json_or_null()?))?).await?;
    let critical = match state {
        ProtectionState::ProtectionStopped => CriticalOperation::StopProtection,
        _ => CriticalOperation::SuspendBackups,
    };
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    approval.check(&mut tx, &request, &vault, critical).await?;
    let is_vaulted = policy_of(&mut tx, &request, &stored).await?.policy.is_vaulted();
    // Azure cannot keep what lies in the account; here the journal is ours, and the owner of the service may allow it.
    if !is_vaulted && !app.config.operational.allow_stop {
        return Err(ApiError::of(ErrorCode::UserErrorStopProtectionNotSupportedForBlobOperationalBackup, &[]));
    }
    let is_stoppable = matches!(
        stored.state,
        ProtectionState::ProtectionConfigured
            | ProtectionState::ProtectionError
            | ProtectionState::BackupSchedulesSuspended
    );
    if stored.state != state {
        if !is_stoppable {
            let operation =
                if state == ProtectionState::ProtectionStopped { "stopProtection" } else { "suspendBackups" };
            return Err(instances::wrong_state(&stored, operation));
        }
        db::instances::set_state(&mut tx, granted, &stored.key, state, "Succeeded", None, request.now).await?;
        db::instances::clear_schedule(&mut tx, granted, &stored.key).await?;
        let spec = JobSpec::Expire(ExpireSpec { instance_key: stored.key.clone(), recalculate: true });
        instances::enqueue(&mut tx, &request, &vault.key, &spec, None).await?;
    }
    let operation = operations::begin(&mut tx, &request, done(&vault, &stored)).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create))
}

async fn resume_backups(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    match stored.state {
        ProtectionState::ProtectionConfigured => {}
        ProtectionState::BackupSchedulesSuspended => {
            let policy = policy_of(&mut tx, &request, &stored).await?;
            let next = policies::next_run(&policy.policy, request.now);
            db::instances::set_configured(&mut tx, request.granted()?, &stored.key, next, request.now).await?;
        }
        _ => return Err(instances::wrong_state(&stored, "resumeBackups")),
    }
    let operation = operations::begin(&mut tx, &request, done(&vault, &stored)).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create))
}

async fn resume_protection(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    let is_stopped =
        matches!(stored.state, ProtectionState::ProtectionStopped | ProtectionState::BackupSchedulesSuspended);
    if stored.state == ProtectionState::ProtectionConfigured {
        let operation = operations::begin(&mut tx, &request, done(&vault, &stored)).await?;
        tx.commit().await?;
        return Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create));
    }
    if !is_stopped {
        return Err(instances::wrong_state(&stored, "resumeProtection"));
    }
    let state = ProtectionState::ConfiguringProtection;
    db::instances::set_state(&mut tx, granted, &stored.key, state, "Updating", None, request.now).await?;
    let operation = instances::configure(&mut tx, &request, &vault, &stored.key).await?;
    let spec = JobSpec::Expire(ExpireSpec { instance_key: stored.key.clone(), recalculate: true });
    instances::enqueue(&mut tx, &request, &vault.key, &spec, None).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create))
}
