//! Verifying a vault: begun by a request, done by a job, and its report kept until the next one.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, word};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::invalid;
use crate::App;
use crate::api::operations::{self, Beginning};
use crate::api::vaults;
use crate::api::{Access, Answer, Request, Route, instances};
use crate::config::Waiting;
use crate::db;
use crate::db::operations::OperationState;
use crate::error::ApiResult;
use crate::jobs::last_verification;
use crate::jobs::spec::{JobSpec, VerifyDepth, VerifySpec};

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BlobkeepVaults_Verify",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/providers/Blobkeep.DataProtection/verify",
        access: Access::Action("Microsoft.DataProtection/backupVaults/write"),
        handler: |app, request| Box::pin(verify(app, request)),
    },
    Route {
        operation: "BlobkeepVaults_GetVerification",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/providers/Blobkeep.DataProtection/verification",
        access: Access::Action("Microsoft.DataProtection/backupVaults/read"),
        handler: |app, request| Box::pin(get(app, request)),
    },
];

const MEMBERS: &[&str] = &["depth", "percent"];

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    depth: Option<String>,
    #[serde(default)]
    percent: Option<u8>,
}

fn wanted(request: &Request) -> ApiResult<(VerifyDepth, Option<u8>)> {
    let body = match request.json_or_null()? {
        Value::Null => json!({}),
        body => body,
    };
    let wanted: Wanted = word::read(&body, MEMBERS)?;
    let depth = match wanted.depth.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("bytes") => VerifyDepth::Bytes,
        Some("structure") => VerifyDepth::Structure,
        Some(_) => return Err(invalid("depth", "it is Bytes or Structure")),
    };
    if wanted.percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        return Err(invalid("percent", "it is a number from 1 to 100"));
    }
    if wanted.percent.is_some() && depth == VerifyDepth::Structure {
        return Err(invalid("percent", "it is a share of the bytes, and the depth Structure reads none"));
    }
    Ok((depth, wanted.percent))
}

async fn verify(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let (depth, percent) = wanted(&request)?;
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let unfinished = db::jobs::unfinished_in_vault(&mut tx, &vault.key).await?;
    if unfinished.iter().any(|job| matches!(job.spec, JobSpec::Verify(_))) {
        let reason = format!("A verification of the Backup vault {} is under way. Wait for its end.", vault.id);
        return Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]));
    }
    let beginning = Beginning {
        vault: &vault,
        waiting: Waiting::Validate,
        state: OperationState::Inprogress,
        job_id: None,
        resource_key: Some(&vault.key),
    };
    let operation = operations::begin(&mut tx, &request, beginning).await?;
    let spec = JobSpec::Verify(VerifySpec { vault_key: vault.key.clone(), depth, percent });
    instances::enqueue(&mut tx, &request, &vault.key, &spec, Some(&operation)).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let report = last_verification(&mut reader, &vault.vault_uuid).await?;
    report.map(Answer::ok).ok_or_else(|| {
        let resource = format!("verification of {}", vault.id);
        ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &resource)])
    })
}
