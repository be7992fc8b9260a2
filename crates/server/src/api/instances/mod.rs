//! Backup instances: validate, configure, change, back up on demand, delete.
//!
//! What can be known from the database is checked here and answered at once; whether the vault may and can reach the account is found
//! out by the job, and ends the operation. The checks of a validation and of a PUT are the same.

mod backup;
mod configure;

use std::sync::Arc;

use blobkeep_arm::guard::CriticalOperation;
use blobkeep_arm::id::fold;
use blobkeep_arm::instance::{Deletion, InstanceView, ProtectionState};
use blobkeep_arm::vault::{FREE_SOFT_DELETE_DAYS, ImmutabilityState, SoftDeleteState};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::Value;
use uuid::Uuid;

use super::critical;
use super::operations::{self, Beginning};
use super::page::Page;
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route, conditions};
use crate::App;
use crate::auth::{self, Rights};
use crate::config::Waiting;
use crate::db::instances::StoredInstance;
use crate::db::jobs::NewJob;
use crate::db::operations::OperationState;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{DeleteInstanceSpec, JobSpec};

pub(super) use backup::accepted_job;
pub(super) use configure::{configure, configure_again, pending_operation};

const READ: &str = "Microsoft.DataProtection/backupVaults/backupInstances/read";
const ACCOUNT_READ: &str = "Microsoft.Storage/storageAccounts/read";
const PATTERN: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}";

/// From this version on what is deleted is kept even if the vault's soft delete is Off ("secure by default").
pub(super) const ALWAYS_SOFT_DELETED_SINCE: &str = "2025-09-01";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupInstances_ValidateForBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/validateForBackup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/validateForBackup/action"),
        handler: |app, request| Box::pin(configure::validate(app, request)),
    },
    Route {
        operation: "BackupInstances_ValidateForModifyBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/validateForModifyBackup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/validateForModifyBackup/action"),
        handler: |app, request| Box::pin(configure::validate(app, request)),
    },
    Route {
        operation: "BackupInstances_CreateOrUpdate",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/write"),
        handler: |app, request| Box::pin(configure::put(app, request)),
    },
    Route {
        operation: "BackupInstances_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "BackupInstances_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "BackupInstances_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "BackupInstancesExtensionRouting_List",
        method: Method::GET,
        pattern: "/{*scope}/providers/Microsoft.DataProtection/backupInstances",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list_of_resource(app, request)),
    },
    Route {
        operation: "BackupInstances_AdhocBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/backup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/backup/action"),
        handler: |app, request| Box::pin(backup::backup(app, request)),
    },
];

/// The id of the instance that the path names.
pub(super) fn instance_id(request: &Request) -> ResourceId {
    vault_id(request).child("backupInstances", request.param("instance"))
}

/// The instance that the path names; deleted ones are not found.
///
/// # Errors
/// 404 `ResourceNotFound`, for the vault first.
pub(super) async fn require(conn: &mut Conn, request: &Request) -> ApiResult<(Vault, StoredInstance)> {
    let vault = vaults::require(conn, request).await?;
    let id = instance_id(request);
    let found = db::instances::get(conn, request.granted()?, &id.folded()).await?;
    let found = found.filter(|stored| stored.state != ProtectionState::SoftDeleted);
    Ok((vault, found.ok_or_else(|| not_found(&id))?))
}

/// The instance as answered.
pub(super) fn render(stored: &StoredInstance) -> Value {
    InstanceView {
        id: &stored.id,
        name: &stored.name,
        instance: &stored.instance,
        tags: &stored.tags,
        state: stored.state,
        provisioning_state: &stored.provisioning_state,
        error: stored.error.as_ref(),
        deletion: None,
    }
    .render()
}

/// 409: the instance's state does not allow it.
pub(super) fn wrong_state(stored: &StoredInstance, operation: &str) -> ApiError {
    ApiError::of(
        ErrorCode::UserErrorOperationNotAllowedInState,
        &[("instance", &stored.name), ("state", stored.state.answered()), ("operation", operation)],
    )
}

/// The caller must be able to read a storage account that its request names.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`, whether or not the account exists.
pub(super) async fn authorize_account(app: &App, request: &Request, account: &ResourceId) -> ApiResult<()> {
    let scope = account.to_string();
    if auth::may(app, &request.caller.object_id, ACCOUNT_READ, &scope).await? {
        return Ok(());
    }
    Err(linked_refusal(request, ACCOUNT_READ, &scope)?)
}

/// 403: the caller may do what the route is about, but not `action` on something else that the request names.
///
/// # Errors
/// As [`Request::granted`].
pub(super) fn linked_refusal(request: &Request, action: &str, scope: &str) -> ApiResult<ApiError> {
    let granted = request.granted()?;
    Ok(ApiError::of(
        ErrorCode::LinkedAuthorizationFailed,
        &[
            ("object", &request.caller.object_id),
            ("action", granted.action()),
            ("scope", &request.path.id.to_string()),
            ("linked_action", action),
            ("linked_scope", scope),
        ],
    ))
}

/// 400 for an id that is not the id of a storage account.
pub(super) fn bad_account_id(id: &str, parameter: &str) -> ApiError {
    ApiError::of(
        ErrorCode::UserErrorInvalidResourceUriInRequest,
        &[("id", id), ("parameter", parameter), ("reason", "it is not the id of a storage account")],
    )
}

/// 400: a member of the request cannot be used.
fn invalid(parameter: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &[("parameter", parameter), ("reason", reason)])
        .with_target(parameter)
}

/// Adds a job of this request to the queue and returns its id.
pub(super) async fn enqueue(
    conn: &mut Conn,
    request: &Request,
    vault_key: &str,
    spec: &JobSpec,
    operation_id: Option<&str>,
) -> ApiResult<String> {
    let id = Uuid::new_v4().to_string();
    let correlation_id = request.correlation_id.to_string();
    let job = NewJob {
        id: &id,
        vault_key,
        spec,
        operation_id,
        principal_id: &request.caller.object_id,
        correlation_id: &correlation_id,
        now: request.now,
    };
    db::jobs::enqueue(conn, &job).await?;
    Ok(id)
}

/// An operation that goes on after its request was answered.
fn running<'a>(vault: &'a Vault, waiting: Waiting, resource_key: Option<&'a str>) -> Beginning<'a> {
    Beginning { vault, waiting, state: OperationState::Inprogress, job_id: None, resource_key }
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let (_, stored) = require(&mut reader, &request).await?;
    let stamp = conditions::stamp(&mut reader, &request, &stored.key).await?;
    conditions::read_answer(&request, stamp.as_ref(), render(&stored))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let granted = request.granted()?;
    let stored = db::instances::page(&mut reader, granted, &vault.key, false, page.after(), page.fetch()).await?;
    page.answer(&request, &stored, render)
}

/// The instances that protect the resource in front of the path, as far as the caller may read them.
async fn list_of_resource(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let key = fold(request.param("scope"));
    // The right to read an instance is looked at for the one that is found; until then nothing is told.
    let granted = auth::Granted::service();
    let mut reader = app.db.read().await?;
    let found = db::instances::by_datasource(&mut reader, &granted, &key).await?;
    let readable = found.iter().filter(|stored| rights.allow(READ, &stored.key));
    Ok(Answer::ok(envelope::list(readable.map(render).collect(), None)))
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = instance_id(&request).folded();
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let stored = db::instances::get(&mut tx, granted, &key).await?;
    let stored = stored.filter(|stored| stored.state != ProtectionState::SoftDeleted);
    conditions::check(&mut tx, &request, stored.as_ref().map(|stored| stored.key.as_str())).await?;
    let Some(stored) = stored else { return Ok(Answer::no_content()) };
    let jobs = db::jobs::unfinished(&mut tx, &key, "delete_instance").await?;
    if let Some(operation) = jobs.into_iter().next_back().and_then(|job| job.operation_id) {
        return Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Delete));
    }
    critical::use_unlock(&mut tx, &request, &vault, CriticalOperation::DeleteInstance, &key).await?;
    check_deletable(&mut tx, &request, &vault, &stored).await?;
    let operation = begin_delete(&mut tx, &request, &vault, &stored).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Delete))
}

async fn check_deletable(conn: &mut Conn, request: &Request, vault: &Vault, stored: &StoredInstance) -> ApiResult<()> {
    if vault.properties.immutability() == ImmutabilityState::Disabled {
        return Ok(());
    }
    if db::points::count_unexpired(conn, request.granted()?, &stored.key, request.now).await? == 0 {
        return Ok(());
    }
    Err(ApiError::of(
        ErrorCode::UserErrorImmutableVaultOperationNotAllowed,
        &[("vault", &vault.id), ("operation", "deleting backup data before it expires")],
    ))
}

async fn begin_delete(conn: &mut Conn, request: &Request, vault: &Vault, stored: &StoredInstance) -> ApiResult<String> {
    let granted = request.granted()?;
    let is_off = vault.properties.soft_delete_state() == Some(SoftDeleteState::Off);
    let is_kept = !is_off || request.api_version.is_at_least(ALWAYS_SOFT_DELETED_SINCE);
    let days = |days: u32| i64::from(days) * MICROS_PER_DAY;
    let kept_days = vault.properties.soft_delete_days();
    let deletion = is_kept.then(|| Deletion {
        deleted_at: request.now,
        billing_end: request.now + days(kept_days.saturating_sub(FREE_SOFT_DELETE_DAYS)),
        purge_at: request.now + days(kept_days),
        activity_id: request.correlation_id.to_string(),
    });
    db::instances::set_deletion(conn, granted, &stored.key, deletion.as_ref()).await?;
    let state = ProtectionState::SoftDeleting;
    db::instances::set_state(conn, granted, &stored.key, state, "Updating", None, request.now).await?;
    db::instances::set_next_run(conn, granted, &stored.key, None).await?;
    for kind in ["backup", "operational"] {
        for job in db::jobs::unfinished(conn, &stored.key, kind).await? {
            db::jobs::request_cancel(conn, &job.id, request.now).await?;
        }
    }
    let operation = operations::begin(conn, request, running(vault, Waiting::Delete, Some(&stored.key))).await?;
    let purge_at = deletion.map(|deletion| deletion.purge_at);
    let spec = JobSpec::DeleteInstance(DeleteInstanceSpec { instance_key: stored.key.clone(), purge_at });
    enqueue(conn, request, &vault.key, &spec, Some(&operation)).await?;
    Ok(operation)
}
