//! Asynchronous operations: the tracking headers, and the status and result URLs in all their forms.
//!
//! Who may look at an operation: whoever may read operations at the URL's scope, may read those of its vault, or began it. Of others
//! and of operations that do not exist nobody learns more than a 403.

use std::sync::Arc;

use blobkeep_arm::envelope::OperationStatus;
use blobkeep_arm::id::fold_location;
use blobkeep_arm::operation::{job_info, operation_id};
use blobkeep_arm::time::format_instant;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Access, Answer, Request, Route, conditions, instances, vaults};
use crate::App;
use crate::auth::{self, Granted, Rights};
use crate::config::Waiting;
use crate::db::operations::{Operation, OperationState};
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::{ApiResult, fault};

const VAULT_STATUS_READ: &str = "Microsoft.DataProtection/backupVaults/operationStatus/read";
const VAULT_RESULTS_READ: &str = "Microsoft.DataProtection/backupVaults/operationResults/read";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "OperationStatus_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/operationStatus/{operation}",
        access: Access::SignedIn,
        handler: |app, request| {
            Box::pin(status(app, request, "Microsoft.DataProtection/locations/operationStatus/read"))
        },
    },
    Route {
        operation: "OperationResult_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/operationResults/{operation}",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(result(app, request)),
    },
    Route {
        operation: "OperationStatusResourceGroupContext_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/operationStatus/{operation}",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(status(app, request, "Microsoft.DataProtection/operationStatus/read")),
    },
    Route {
        operation: "OperationStatusResourceGroupLocation_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/operationStatus/{operation}",
        access: Access::SignedIn,
        handler: |app, request| {
            Box::pin(status(app, request, "Microsoft.DataProtection/locations/operationStatus/read"))
        },
    },
    Route {
        operation: "OperationStatusBackupVaultContext_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/operationStatus/{operation}",
        access: Access::Action(VAULT_STATUS_READ),
        handler: |app, request| Box::pin(status(app, request, VAULT_STATUS_READ)),
    },
    Route {
        operation: "BackupVaultOperationResults_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/operationResults/{operation}",
        access: Access::Action(VAULT_RESULTS_READ),
        handler: |app, request| Box::pin(vault_result(app, request)),
    },
    Route {
        operation: "BackupInstances_GetBackupInstanceOperationResult",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/operationResults/{operation}",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read"),
        handler: |app, request| Box::pin(instance_result(app, request)),
    },
];

/// What is needed to begin an operation.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    /// The vault that it happens in.
    pub(super) vault: &'a Vault,
    /// Which `Retry-After` its answers carry.
    pub(super) waiting: Waiting,
    /// `Inprogress`, or `Succeeded` for what is done when the request is.
    pub(super) state: OperationState,
    /// ARM id of the job that it announces.
    pub(super) job_id: Option<String>,
    /// Folded id of the resource that it is about.
    pub(super) resource_key: Option<&'a str>,
}

/// Stores a new operation and returns its id.
pub(super) async fn begin(conn: &mut Conn, request: &Request, beginning: Beginning<'_>) -> ApiResult<String> {
    let vault_uuid = Uuid::parse_str(&beginning.vault.vault_uuid).map_err(|error| fault(&error))?;
    let operation = Operation {
        id: operation_id(vault_uuid, Uuid::new_v4()),
        vault_key: beginning.vault.key.clone(),
        subscription_id: beginning.vault.subscription_id.clone(),
        location: fold_location(&beginning.vault.location),
        kind: request.route.operation.to_owned(),
        waiting: beginning.waiting,
        state: beginning.state,
        started_at: request.now,
        ended_at: (beginning.state != OperationState::Inprogress).then_some(request.now),
        error: None,
        error_status: None,
        job_id: beginning.job_id,
        principal_id: request.caller.object_id.clone(),
        correlation_id: request.correlation_id.to_string(),
        resource_key: beginning.resource_key.map(str::to_owned),
    };
    db::operations::create(conn, &operation).await?;
    Ok(operation.id)
}

/// Adds `Azure-AsyncOperation` and `Retry-After`: what a PUT sends. A `Location` there would be read as the resource.
pub(super) fn with_status_url(
    answer: Answer,
    app: &App,
    request: &Request,
    vault: &Vault,
    id: &str,
    waiting: Waiting,
) -> Answer {
    let url = tracking_url(request, &vault.subscription_id, &vault.location, "operationStatus", id);
    with_tracking(answer, app, url, waiting)
}

fn with_tracking(answer: Answer, app: &App, status_url: String, waiting: Waiting) -> Answer {
    let seconds = app.config.operations.retry_after.seconds(waiting);
    answer.header("Retry-After", seconds.to_string()).header("Azure-AsyncOperation", status_url)
}

/// A 202 with status URL, result URL and `Retry-After`: what everything but a PUT sends.
pub(super) fn accepted(app: &App, request: &Request, vault: &Vault, id: &str, waiting: Waiting) -> Answer {
    let location = tracking_url(request, &vault.subscription_id, &vault.location, "operationResults", id);
    with_status_url(Answer::accepted(), app, request, vault, id, waiting).header("Location", location)
}

/// The same with the status below the vault's resource group: what the deletion of a vault sends (recorded).
pub(super) fn accepted_in_group(app: &App, request: &Request, vault: &Vault, id: &str, waiting: Waiting) -> Answer {
    let group = ResourceId::parse(&vault.id).map(|id| id.scope()).unwrap_or_default();
    let location = fold_location(&vault.location);
    let status_url = request
        .absolute_url(&format!("{group}/providers/Microsoft.DataProtection/locations/{location}/operationStatus/{id}"));
    let result_url = tracking_url(request, &vault.subscription_id, &vault.location, "operationResults", id);
    with_tracking(Answer::accepted(), app, status_url, waiting).header("Location", result_url)
}

/// The same with both below the vault, whose result is the vault: what a PATCH of one sends while it goes on.
pub(super) fn accepted_in_vault(app: &App, request: &Request, vault: &Vault, id: &str, waiting: Waiting) -> Answer {
    let url = |kind| request.absolute_url(&format!("{}/{kind}/{id}", vault.id));
    with_tracking(Answer::accepted(), app, url("operationStatus"), waiting).header("Location", url("operationResults"))
}

fn tracking_url(request: &Request, subscription: &str, location: &str, kind: &str, id: &str) -> String {
    let location = fold_location(location);
    request.absolute_url(&format!(
        "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/{kind}/{id}"
    ))
}

/// The operation that the URL names, if the caller may see it. `action` is what reading needs at the URL's own scope.
async fn find(app: &App, request: &Request, action: &str, vault_action: &str) -> ApiResult<Operation> {
    let id = request.param("operation");
    let scope = request.path.id.to_string();
    let rights = Rights::of(app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let found = db::operations::get(&mut reader, id).await?;
    drop(reader);
    let is_own = found.as_ref().is_some_and(|operation| operation.principal_id == request.caller.object_id);
    let may_read_vault = found.as_ref().is_some_and(|operation| rights.allow(vault_action, &operation.vault_key));
    if !is_own && !may_read_vault && !rights.allow(action, &scope) {
        // Refuses, for the right was just found missing; in this way there is one wording of refusals.
        auth::authorize(app, &request.caller, action, &scope).await?;
    }
    let belongs = |operation: &Operation| {
        let vault = request.param("vault");
        let in_subscription = operation.subscription_id.eq_ignore_ascii_case(request.param("subscription"));
        in_subscription && (vault.is_empty() || operation.vault_key == vaults::vault_id(request).folded())
    };
    found.filter(belongs).ok_or_else(|| {
        ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &format!("operation {id}"))])
    })
}

async fn status(app: Arc<App>, request: Request, action: &'static str) -> ApiResult<Answer> {
    let operation = find(&app, &request, action, VAULT_STATUS_READ).await?;
    let is_running = operation.state == OperationState::Inprogress;
    let job_id = operation.job_id.as_deref().filter(|_| operation.state == OperationState::Succeeded);
    let body = OperationStatus {
        id: request.path.decoded(),
        name: operation.id.clone(),
        status: operation.state.as_str().to_owned(),
        error: operation.error,
        start_time: format_instant(operation.started_at),
        end_time: operation.ended_at.map(format_instant),
        properties: job_id.map(|job_id| job_info(Some(job_id))),
    };
    let answer = Answer::ok(body.body());
    if !is_running {
        return Ok(answer);
    }
    let seconds = app.config.operations.retry_after.seconds(operation.waiting);
    Ok(answer.header("Retry-After", seconds.to_string()))
}

/// 202 while it runs, the error itself after a failure; `None` when it is done and its result may be told.
fn unfinished(app: &App, request: &Request, operation: &Operation) -> Option<Answer> {
    match operation.state {
        OperationState::Succeeded => None,
        OperationState::Failed => {
            let body = json!({ "error": operation.error.clone().unwrap_or(Value::Null) });
            Some(Answer::new(operation.error_status.unwrap_or(400), Some(body)))
        }
        OperationState::Inprogress => {
            let seconds = app.config.operations.retry_after.seconds(operation.waiting);
            let url =
                |kind| tracking_url(request, &operation.subscription_id, &operation.location, kind, &operation.id);
            Some(
                Answer::accepted()
                    .header("Retry-After", seconds.to_string())
                    .header("Azure-AsyncOperation", url("operationStatus"))
                    .header("Location", url("operationResults")),
            )
        }
    }
}

async fn result(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let action = "Microsoft.DataProtection/locations/operationResults/read";
    let operation = find(&app, &request, action, VAULT_RESULTS_READ).await?;
    if let Some(answer) = unfinished(&app, &request, &operation) {
        return Ok(answer);
    }
    Ok(Answer::ok(job_info(operation.job_id.as_deref())))
}

/// The result of an operation in a vault is the vault; nothing is left to tell once it is deleted.
async fn vault_result(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let operation = find(&app, &request, VAULT_RESULTS_READ, VAULT_RESULTS_READ).await?;
    if let Some(answer) = unfinished(&app, &request, &operation) {
        return Ok(answer);
    }
    let mut reader = app.db.read().await?;
    let vault = db::vaults::get(&mut reader, request.granted()?, &operation.vault_key).await?;
    let Some(vault) = vault else { return Ok(Answer::ok_empty()) };
    let stamp = conditions::stamp(&mut reader, &request, &vault.key).await?;
    let body = vaults::render(&app, &vault, &vault.provisioning_state);
    Ok(Answer::ok(conditions::tracked_body(&request, body, stamp.as_ref())))
}

async fn instance_result(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let action = "Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read";
    let operation = find(&app, &request, action, VAULT_RESULTS_READ).await?;
    if let Some(answer) = unfinished(&app, &request, &operation) {
        return Ok(answer);
    }
    let granted: &Granted = request.granted()?;
    let key = instances::instance_id(&request).folded();
    let mut reader = app.db.read().await?;
    let stored = db::instances::get(&mut reader, granted, &key).await?;
    Ok(stored.map_or_else(Answer::ok_empty, |stored| Answer::ok(instances::render(&stored))))
}
