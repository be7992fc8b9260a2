//! Requests about a vault's secondary region. One service is one region: nothing is kept in a second one, so a restore from there is refused,
//! and the lists of what is there are empty.
//!
//! The path names the secondary region, the body the vault or instance. The caller needs the action in the resource group of the path and the
//! right to read what the body names.

use std::sync::Arc;

use blobkeep_arm::cross_region::Source;
use blobkeep_arm::id::fold_location;
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;

use super::instances::linked_refusal;
use super::vaults::not_found;
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{self, Granted};
use crate::db;
use crate::db::instances::StoredInstance;
use crate::db::vaults::Vault;
use crate::error::ApiResult;

const READ_VAULT: &str = "Microsoft.DataProtection/backupVaults/read";
const READ_INSTANCE: &str = "Microsoft.DataProtection/backupVaults/backupInstances/read";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupInstances_TriggerCrossRegionRestore",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/crossRegionRestore",
        access: Access::Action(
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/crossRegionRestore/action",
        ),
        handler: |app, request| Box::pin(refuse_restore(app, request)),
    },
    Route {
        operation: "BackupInstances_ValidateCrossRegionRestore",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/validateCrossRegionRestore",
        access: Access::Action(
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/validateCrossRegionRestore/action",
        ),
        handler: |app, request| Box::pin(refuse_restore(app, request)),
    },
    Route {
        operation: "FetchSecondaryRecoveryPoints_List",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/fetchSecondaryRecoveryPoints",
        access: Access::Action(
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchSecondaryRecoveryPoints/action",
        ),
        handler: |app, request| Box::pin(list_points(app, request)),
    },
    Route {
        operation: "FetchCrossRegionRestoreJobs_List",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/fetchCrossRegionRestoreJobs",
        access: Access::Action(
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJobs/action",
        ),
        handler: |app, request| Box::pin(list_jobs(app, request)),
    },
    Route {
        operation: "FetchCrossRegionRestoreJob_Get",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/fetchCrossRegionRestoreJob",
        access: Access::Action(
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJob/action",
        ),
        handler: |app, request| Box::pin(get_job(app, request)),
    },
];

/// The right to read what the body names, whether it exists or not.
async fn authorize_source(app: &App, request: &Request, action: &str, id: &ResourceId) -> ApiResult<Granted> {
    let scope = id.to_string();
    match auth::authorize(app, &request.caller, action, &scope).await {
        Err(error) if error.code == ErrorCode::AuthorizationFailed => Err(linked_refusal(request, action, &scope)?),
        other => other,
    }
}

fn check_region(vault: &Vault, source: &Source) -> ApiResult<()> {
    if fold_location(&vault.location) == fold_location(&source.region) {
        return Ok(());
    }
    let reason = format!("the Backup vault is in '{}'", vault.location);
    let values = [("parameter", source.region_parameter), ("reason", reason.as_str())];
    Err(ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &values).with_target(source.region_parameter))
}

async fn vault_of(app: &App, request: &Request, source: &Source) -> ApiResult<Vault> {
    let granted = authorize_source(app, request, READ_VAULT, &source.id).await?;
    let mut reader = app.db.read().await?;
    let vault = db::vaults::get(&mut reader, &granted, &source.id.folded()).await?;
    let vault = vault.ok_or_else(|| not_found(&source.id))?;
    check_region(&vault, source)?;
    Ok(vault)
}

async fn instance_of(app: &App, request: &Request, source: &Source) -> ApiResult<(Vault, StoredInstance)> {
    let granted = authorize_source(app, request, READ_INSTANCE, &source.id).await?;
    let mut reader = app.db.read().await?;
    let stored = db::instances::get(&mut reader, &granted, &source.id.folded()).await?;
    let stored = stored.filter(|stored| stored.state != ProtectionState::SoftDeleted);
    let stored = stored.ok_or_else(|| not_found(&source.id))?;
    let vault = db::vaults::get(&mut reader, &granted, &stored.vault_key).await?;
    let vault = vault.ok_or_else(|| not_found(&source.id))?;
    check_region(&vault, source)?;
    Ok((vault, stored))
}

fn check_enabled(vault: &Vault) -> ApiResult<()> {
    if vault.properties.allows_cross_region_restore() {
        return Ok(());
    }
    Err(ApiError::of(ErrorCode::UserErrorCrossRegionRestoreNotEnabled, &[("vault", &vault.id)]))
}

/// A restore and its validation.
async fn refuse_restore(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let source = Source::of_restore(&request.json()?)?;
    let (_, stored) = instance_of(&app, &request, &source).await?;
    Err(ApiError::of(
        ErrorCode::UserErrorCrossRegionRestoreNotSupportedForDatasource,
        &[("kind", &stored.instance.data_source_info.datasource_type)],
    ))
}

async fn list_points(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let source = Source::of_points(&request.json()?)?;
    let (vault, _) = instance_of(&app, &request, &source).await?;
    check_enabled(&vault)?;
    Ok(Answer::ok(envelope::list(Vec::new(), None)))
}

async fn list_jobs(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let source = Source::of_jobs(&request.json()?)?;
    check_enabled(&vault_of(&app, &request, &source).await?)?;
    Ok(Answer::ok(envelope::list(Vec::new(), None)))
}

async fn get_job(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let (source, job) = Source::of_job(&request.json()?)?;
    check_enabled(&vault_of(&app, &request, &source).await?)?;
    Err(not_found(&source.id.child("backupJobs", &job)))
}
