//! Restores: validate one, begin one. The job goes on after the operation has ended.

use std::sync::Arc;

use blobkeep_arm::guard::{CriticalOperation, operation_requests};
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::restore::{RecoveryOption, RestoreRequest, RestoreSelection, RestoreSource};
use blobkeep_arm::vault::CrossSubscriptionRestore;
use blobkeep_arm::word::DataStore;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;

use super::critical::Approval;
use super::instances::{self, authorize_account, bad_account_id};
use super::operations::{self, Beginning};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::config::Waiting;
use crate::db::instances::StoredInstance;
use crate::db::operations::OperationState;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{JobSpec, RestoreSpec, ValidateRestoreSpec};
use crate::jobs::{range_at, restorable_ranges};

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupInstances_ValidateForRestore",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/validateRestore",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/validateRestore/action"),
        handler: |app, request| Box::pin(validate(app, request)),
    },
    Route {
        operation: "BackupInstances_TriggerRestore",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/restore",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/restore/action"),
        handler: |app, request| Box::pin(restore(app, request)),
    },
];

/// The account that a restore writes to, which the caller must be able to read.
///
/// Not more than read, in place neither: the vault's identity does the writing and is checked for it by the job, and Azure's Backup
/// Contributor and Backup Operator, who begin restores, have no `Microsoft.Storage/storageAccounts/restoreBlobRanges/action`.
async fn target_of(app: &App, request: &Request, wanted: &RestoreRequest) -> ApiResult<ResourceId> {
    let parameter = "restoreTargetInfo.datasourceInfo.resourceID";
    let target = wanted.target_account().map_err(|_| bad_account_id(&wanted.target.resource_id, parameter))?;
    authorize_account(app, request, &target).await?;
    Ok(target)
}

/// What can be said at once: the state exists, and the target may be one.
async fn check(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    stored: &StoredInstance,
    wanted: &RestoreRequest,
    target: &ResourceId,
) -> ApiResult<RestoreSpec> {
    let has_never_worked = matches!(
        stored.state,
        ProtectionState::SoftDeleting | ProtectionState::Invalid | ProtectionState::NotProtected
    );
    if has_never_worked {
        return Err(instances::wrong_state(stored, "restore"));
    }
    // The tier decides: a state of the vault always comes back as new containers, also in the account that it came from.
    let is_in_place = wanted.store == DataStore::OperationalStore;
    if is_in_place {
        check_in_place(stored, wanted, target)?;
    }
    check_subscription(vault, stored, target)?;
    match &wanted.source {
        RestoreSource::Point(id) => check_point(conn, request, stored, id).await?,
        RestoreSource::Time(time) => check_time(conn, request, stored, *time).await?,
    }
    Ok(RestoreSpec::of(wanted, &stored.key, is_in_place))
}

/// What a restore of the operational tier cannot do: it turns the blobs of the protected account back, under their own names.
fn check_in_place(stored: &StoredInstance, wanted: &RestoreRequest, target: &ResourceId) -> ApiResult<()> {
    if target.folded() != stored.datasource_key {
        return Err(invalid(
            "restoreTargetInfo.datasourceInfo.resourceID",
            "a restore from OperationalStore goes to the protected storage account itself",
        ));
    }
    let is_renamed = match &wanted.selection {
        RestoreSelection::Containers(containers) => containers.iter().any(|each| each.rename_to.is_some()),
        RestoreSelection::All | RestoreSelection::Ranges(_) => false,
    };
    if is_renamed {
        return Err(invalid(
            "restoreTargetInfo.restoreCriteria.renameTo",
            "a restore from OperationalStore turns containers back in place, under their own names",
        ));
    }
    if wanted.tier.is_some() {
        return Err(invalid(
            "blobkeep.accessTier",
            "a restore from OperationalStore turns blobs back with the tier that they had",
        ));
    }
    if wanted.option != RecoveryOption::FailIfExists {
        return Err(invalid(
            "restoreTargetInfo.recoveryOption",
            &format!(
                "{} is for restores from VaultStore; a restore from OperationalStore takes FailIfExists",
                wanted.option
            ),
        ));
    }
    Ok(())
}

/// 400: a member of the request cannot be used.
fn invalid(parameter: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &[("parameter", parameter), ("reason", reason)])
}

fn check_subscription(vault: &Vault, stored: &StoredInstance, target: &ResourceId) -> ApiResult<()> {
    let source = ResourceId::parse(&stored.datasource_key).unwrap_or_default();
    let fold = |id: &ResourceId| id.subscription().map(str::to_lowercase);
    let may_leave = vault.properties.cross_subscription_restore() == CrossSubscriptionRestore::Enabled;
    if may_leave || fold(&source) == fold(target) {
        return Ok(());
    }
    Err(invalid(
        "restoreTargetInfo.datasourceInfo.resourceID",
        "the vault's crossSubscriptionRestoreSettings do not allow a restore to another subscription",
    ))
}

async fn check_point(conn: &mut Conn, request: &Request, stored: &StoredInstance, id: &str) -> ApiResult<()> {
    let point = db::points::get(conn, request.granted()?, &stored.key, id).await?;
    let point = point.filter(|point| point.store == DataStore::VaultStore);
    if point.is_some() {
        return Ok(());
    }
    Err(ApiError::of(ErrorCode::UserErrorRestorePointNotFound, &[("point", id), ("instance", &stored.name)]))
}

async fn check_time(conn: &mut Conn, request: &Request, stored: &StoredInstance, time: i64) -> ApiResult<()> {
    let ranges = restorable_ranges(conn, request.granted()?, stored, request.now).await?;
    range_at(&ranges, time).map(drop)
}

async fn validate(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = RestoreRequest::parse_validation(&request.json()?)?;
    let target = target_of(&app, &request, &wanted).await?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    let restore = check(&mut tx, &request, &vault, &stored, &wanted, &target).await?;
    let beginning = Beginning {
        vault: &vault,
        waiting: Waiting::Validate,
        state: OperationState::Inprogress,
        job_id: None,
        resource_key: Some(&stored.key),
    };
    let operation = operations::begin(&mut tx, &request, beginning).await?;
    let spec = JobSpec::ValidateRestore(ValidateRestoreSpec { restore });
    instances::enqueue(&mut tx, &request, &vault.key, &spec, Some(&operation)).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

async fn restore(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let body = request.json()?;
    let wanted = RestoreRequest::parse(&body)?;
    let approval = Approval::of(&app, &request, operation_requests(Some(&body))?).await?;
    let target = target_of(&app, &request, &wanted).await?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    approval.check(&mut tx, &request, &vault, CriticalOperation::Restore).await?;
    let restore = check(&mut tx, &request, &vault, &stored, &wanted, &target).await?;
    if restore.in_place {
        check_no_other_in_place(&mut tx, &stored).await?;
    }
    let job_id = instances::enqueue(&mut tx, &request, &vault.key, &JobSpec::Restore(restore), None).await?;
    let operation = instances::accepted_job(&mut tx, &request, &vault, &stored.key, &job_id).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

/// Two restores that write into the same account at once would undo each other.
async fn check_no_other_in_place(conn: &mut Conn, stored: &StoredInstance) -> ApiResult<()> {
    let jobs = db::jobs::unfinished(conn, &stored.key, "restore").await?;
    if !jobs.iter().any(|job| job.spec.is_in_place()) {
        return Ok(());
    }
    Err(ApiError::of(
        ErrorCode::UserErrorPitrRestoreInProgress,
        &[("account", &stored.instance.data_source_info.resource_id)],
    ))
}
