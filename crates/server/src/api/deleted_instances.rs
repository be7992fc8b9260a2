//! Deleted backup instances: kept for a while, listed apart, and brought back as stopped ones.

use std::sync::Arc;

use blobkeep_arm::instance::{InstanceView, ProtectionState};
use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;
use serde_json::Value;

use super::instances::{self, instance_id};
use super::page::Page;
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::db;
use crate::db::instances::StoredInstance;
use crate::error::ApiResult;
use crate::jobs::spec::{JobSpec, UndeleteInstanceSpec};

const READ: &str = "Microsoft.DataProtection/backupVaults/deletedBackupInstances/read";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "DeletedBackupInstances_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/deletedBackupInstances",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "DeletedBackupInstances_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/deletedBackupInstances/{instance}",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "DeletedBackupInstances_Undelete",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/deletedBackupInstances/{instance}/undelete",
        access: Access::Action("Microsoft.DataProtection/backupVaults/deletedBackupInstances/undelete/action"),
        handler: |app, request| Box::pin(undelete(app, request)),
    },
];

fn render(stored: &StoredInstance) -> Value {
    let (vault_id, _) = stored.id.rsplit_once("/backupInstances/").unwrap_or((stored.id.as_str(), ""));
    InstanceView {
        id: &format!("{vault_id}/deletedBackupInstances/{}", stored.name),
        name: &stored.name,
        instance: &stored.instance,
        tags: &stored.tags,
        state: stored.state,
        provisioning_state: "Succeeded",
        error: stored.error.as_ref(),
        deletion: stored.deletion.as_ref(),
    }
    .render()
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let granted = request.granted()?;
    let stored = db::instances::page(&mut reader, granted, &vault.key, true, page.after(), page.fetch()).await?;
    page.answer(&request, &stored, render)
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    vaults::require(&mut reader, &request).await?;
    let key = instance_id(&request).folded();
    let found = db::instances::get(&mut reader, request.granted()?, &key).await?;
    let found = found.filter(|stored| stored.state == ProtectionState::SoftDeleted);
    let id = vault_id(&request).child("deletedBackupInstances", request.param("instance"));
    found.map(|stored| Answer::ok(render(&stored))).ok_or_else(|| not_found(&id))
}

/// Done at once (recorded); the vault's own records follow by a job, which the purge waits for.
async fn undelete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = instance_id(&request).folded();
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let found = db::instances::get(&mut tx, granted, &key).await?;
    // What is over is over: from then on the points are being removed.
    let is_over =
        |stored: &StoredInstance| stored.deletion.as_ref().is_some_and(|deletion| deletion.purge_at <= request.now);
    let found = found.filter(|stored| stored.state == ProtectionState::SoftDeleted && !is_over(stored));
    let Some(stored) = found else {
        let name = request.param("instance");
        return Err(ApiError::of(
            ErrorCode::UserErrorGenericResourceNotFound,
            &[("resource", &format!("deleted backup instance {name}"))],
        ));
    };
    if let Some(other) = db::instances::by_datasource(&mut tx, granted, &stored.datasource_key).await? {
        return Err(ApiError::of(
            ErrorCode::UserErrorDppDatasourceAlreadyHasBackupInstance,
            &[("datasource", &stored.instance.data_source_info.resource_id), ("instance", &other.name)],
        ));
    }
    let state = ProtectionState::ProtectionStopped;
    db::instances::set_deletion(&mut tx, granted, &key, None).await?;
    db::instances::set_state(&mut tx, granted, &key, state, "Succeeded", None, request.now).await?;
    let spec = JobSpec::UndeleteInstance(UndeleteInstanceSpec { instance_key: key });
    instances::enqueue(&mut tx, &request, &vault.key, &spec, None).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}
