//! Cancelling a job.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;

use crate::App;
use crate::api::operations::{self, Beginning};
use crate::api::vaults::{self, not_found, vault_id};
use crate::api::{Access, Answer, Request, Route, locks};
use crate::auth;
use crate::config::Waiting;
use crate::db;
use crate::db::jobs::Job;
use crate::db::operations::OperationState;
use crate::error::ApiResult;
use crate::jobs::spec::JobSpec;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BlobkeepJobs_Cancel",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupJobs/{job}/providers/Blobkeep.DataProtection/cancel",
    access: Access::Action("Microsoft.DataProtection/backupVaults/backupJobs/read"),
    handler: |app, request| Box::pin(cancel(app, request)),
}];

/// What cancelling needs on the job's instance, beside the right to see the job. For a backup it is more than beginning one needs: who
/// can stop backups again and again leaves an account without any.
fn action_for(job: &Job) -> &'static str {
    match &job.spec {
        JobSpec::Restore(_) => "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
        _ => "Microsoft.DataProtection/backupVaults/backupInstances/write",
    }
}

async fn cancel(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let name = request.param("job");
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let job = db::jobs::get_visible(&mut reader, granted, &vault.key, name).await?;
    let job = job.ok_or_else(|| not_found(&vault_id(&request).child("backupJobs", name)))?;
    drop(reader);
    let instance = ResourceId::parse(&job.display.instance_id)?;
    let linked = auth::authorize(&app, &request.caller, action_for(&job), &job.display.instance_id).await?;
    locks::check(&app, &linked, &instance).await?;
    let mut tx = app.db.write().await?;
    if !db::jobs::request_cancel(&mut tx, &job.id, request.now).await? {
        let ended = db::jobs::get_visible(&mut tx, granted, &vault.key, name).await?;
        return Err(has_ended(&ended.unwrap_or(job)));
    }
    let beginning = Beginning {
        vault: &vault,
        waiting: Waiting::Create,
        state: OperationState::Succeeded,
        job_id: Some(format!("{}/backupJobs/{}", vault.id, job.id)),
        resource_key: job.instance_key.as_deref(),
    };
    let operation = operations::begin(&mut tx, &request, beginning).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create))
}

/// 409: nothing is left to cancel.
fn has_ended(job: &Job) -> ApiError {
    let status = job.status.answered();
    let mut error = ApiError::of(
        ErrorCode::UserErrorOperationNotAllowedInState,
        &[("instance", &job.display.friendly_name), ("state", status), ("operation", "cancel")],
    );
    error.message = format!("The job {} has ended with the status {status}, so it cannot be cancelled.", job.id);
    error.actions = vec!["Look at the job for what came of it.".to_owned()];
    error
}
