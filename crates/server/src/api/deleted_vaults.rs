//! Deleted backup vaults: what a deletion keeps, who is shown it, and how a vault comes back.

use std::sync::Arc;

use blobkeep_arm::deleted_vault::{self, DeletedVaultView, VaultDeletion};
use blobkeep_arm::id::fold_location;
use blobkeep_arm::job::JobStatus;
use blobkeep_arm::vault::{SoftDeleteState, VaultRequest};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;
use serde_json::Value;
use uuid::Uuid;

use super::operations;
use super::page::{Page, Readable};
use super::vaults::{self, vault_id};
use super::{Access, Answer, Request, Route, conditions, encryption, instances};
use crate::App;
use crate::auth::{self, Rights};
use crate::config::Waiting;
use crate::db::deleted_vaults::{DeletedVault, GRACE_MICROS, rekeyed};
use crate::db::instances::StoredInstance;
use crate::db::jobs::Job;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{ExpireSpec, JobSpec, PurgeVaultSpec, SyncVaultSpec};

const READ: &str = "Microsoft.DataProtection/locations/deletedVaults/read";
/// The header of a PUT that takes a deletion back.
pub(super) const HEADER: &str = "x-ms-deleted-vault-id";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "DeletedBackupVaults_ListByLocation",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/deletedVaults",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "DeletedBackupVaults_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/deletedVaults/{deletedVault}",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
];

fn render(request: &Request, deleted: &DeletedVault) -> Value {
    DeletedVaultView {
        original_id: &deleted.vault.id,
        original_name: &deleted.vault.name,
        vault_uuid: &deleted.vault.vault_uuid,
        subscription: &deleted.vault.subscription_id,
        location: &deleted.vault.location,
        tags: &deleted.vault.tags,
        properties: &deleted.vault.properties,
        deletion: &deleted.deletion,
        has_recorded: request.api_version.has_recorded(),
    }
    .render()
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let may_read = rights.to(READ);
    let mut reader = app.db.read().await?;
    let (subscription, location) = (request.param("subscription"), fold_location(request.param("location")));
    let mut vaults = Readable::of(&page);
    while vaults.wants_more() {
        let (after, limit) = (vaults.after(), page.fetch());
        let read = db::deleted_vaults::list(&mut reader, subscription, request.now, after, limit).await?;
        vaults.add(read, |deleted: &DeletedVault| {
            fold_location(&deleted.vault.location) == location && may_read.on(&deleted.vault.key)
        });
    }
    page.answer(&request, vaults.rows(), |deleted| render(&request, deleted))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let name = request.param("deletedVault");
    let id = deleted_vault::id(request.param("subscription"), request.param("location"), name);
    let mut reader = app.db.read().await?;
    let found = db::deleted_vaults::get(&mut reader, request.granted()?, &id.folded()).await?;
    let found = found.filter(|deleted| deleted.deletion.purge_at > request.now);
    found.map(|deleted| Answer::ok(render(&request, &deleted))).ok_or_else(|| {
        let resource = format!("{}/{name}", deleted_vault::TYPE);
        ApiError::of(ErrorCode::ResourceNotFound, &[("resource", &resource), ("group", "<null>")])
    })
}

/// Deletes a vault in which nothing is protected. It is kept, with what is in it, for as long as its deleted instances, or for the days of
/// its soft delete; but a vault in which there is nothing that could be kept, or may be, goes at once. Its identity goes in any case, and
/// so do the roles inside.
pub(super) async fn delete(conn: &mut Conn, request: &Request, vault: &Vault) -> ApiResult<()> {
    let granted = request.granted()?;
    let waiting = idle_jobs(conn, vault).await?;
    for prune in waiting.iter().filter(|job| matches!(job.spec, JobSpec::Prune(_))) {
        db::jobs::request_cancel(conn, &prune.id, request.now).await?;
    }
    let instances = db::instances::list(conn, granted, &vault.key, true).await?;
    let has_policies = !db::policies::list(conn, granted, &vault.key).await?.is_empty();
    if let Some(object_id) = &vault.principal_id {
        db::principals::delete(conn, object_id).await?;
    }
    if !is_kept(request, vault, !instances.is_empty(), has_policies) {
        db::deleted_vaults::purge(conn, granted, &vault.key).await?;
        let (vault_key, vault_uuid) = (vault.key.clone(), vault.vault_uuid.clone());
        let spec = JobSpec::PurgeVault(PurgeVaultSpec { vault_key, vault_uuid });
        instances::enqueue(conn, request, &vault.key, &spec, None).await?;
        return Ok(());
    }
    db::role_assignments::delete_within(conn, granted, &vault.key).await?;
    let deletion = VaultDeletion {
        name: Uuid::new_v4().to_string(),
        deleted_at: request.now,
        purge_at: purge_at(request, vault, &instances),
        activity_id: request.correlation_id.to_string(),
    };
    let key = db::deleted_vaults::put(conn, granted, vault, &deletion).await?;
    move_jobs(conn, request, waiting, &vault.key, &key).await
}

/// Deleted instances are kept in any case. Without any it depends on the soft delete whether policies are, and from a version on every
/// vault is.
fn is_kept(request: &Request, vault: &Vault, has_instances: bool, has_policies: bool) -> bool {
    let is_off = vault.properties.soft_delete_state() == Some(SoftDeleteState::Off);
    has_instances || (has_policies && !is_off) || request.api_version.is_at_least(instances::ALWAYS_SOFT_DELETED_SINCE)
}

/// A little after the last of its instances (recorded).
fn purge_at(request: &Request, vault: &Vault, instances: &[StoredInstance]) -> i64 {
    let ends = instances.iter().filter_map(|instance| instance.deletion.as_ref()).map(|deletion| deletion.purge_at);
    match ends.max() {
        Some(last) => last + GRACE_MICROS,
        None => request.now + i64::from(vault.properties.soft_delete_days()) * MICROS_PER_DAY,
    }
}

/// The jobs of a vault that are waiting, of kinds that need nobody's right and can be moved.
///
/// # Errors
/// 409 `Conflict` while anything else is at work.
async fn idle_jobs(conn: &mut Conn, vault: &Vault) -> ApiResult<Vec<Job>> {
    let unfinished = db::jobs::unfinished_in_vault(conn, &vault.key).await?;
    let is_idle = |job: &Job| match job.spec {
        JobSpec::SyncVault(_) | JobSpec::PurgeVault(_) | JobSpec::Prune(_) => true,
        JobSpec::Expire(_) => job.status == JobStatus::Queued,
        _ => false,
    };
    let mut at_work: Vec<&str> = unfinished.iter().filter(|job| !is_idle(job)).map(|job| job.spec.kind()).collect();
    if at_work.is_empty() {
        return Ok(unfinished);
    }
    at_work.dedup();
    let reason = format!(
        "The Backup vault '{}' cannot be deleted while jobs are at work in it ({}). Try again when they have ended.",
        vault.id,
        at_work.join(", ")
    );
    Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]))
}

/// What was to be done in a vault is done under its other key.
async fn move_jobs(conn: &mut Conn, request: &Request, jobs: Vec<Job>, from: &str, to: &str) -> ApiResult<()> {
    for job in jobs {
        match &job.spec {
            JobSpec::Expire(spec) => {
                db::jobs::request_cancel(conn, &job.id, request.now).await?;
                let instance_key = rekeyed(&spec.instance_key, from, to);
                let spec = JobSpec::Expire(ExpireSpec { instance_key, recalculate: spec.recalculate });
                instances::enqueue(conn, request, to, &spec, None).await?;
            }
            // A deleted vault is not pruned; if it comes back, that is begun anew.
            JobSpec::Prune(_) => db::prunes::points_removed(conn, request.granted()?, to, request.now).await?,
            _ => {}
        }
    }
    let spec = JobSpec::SyncVault(SyncVaultSpec { vault_key: to.to_owned() });
    instances::enqueue(conn, request, to, &spec, None).await?;
    Ok(())
}

/// A PUT of a vault that names a deleted one: that one comes back with tags, settings, policies and deleted instances, and what the body
/// says is laid over it. It has no identity before the body asks for one, which is another then.
pub(super) async fn undelete(app: Arc<App>, request: Request, wanted: VaultRequest) -> ApiResult<Answer> {
    let deleted_id = named(&request, &wanted)?;
    authorize(&app, &request, &deleted_id).await?;
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let found = db::deleted_vaults::get(&mut tx, granted, &deleted_id.folded()).await?;
    // The time is read now, when no purge can be deciding about the vault, not when the request arrived.
    let found = found.filter(|deleted| deleted.deletion.purge_at > app.now());
    let Some(deleted) = found else {
        let resource = format!("deleted backup vault {}", deleted_id.name());
        return Err(ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &resource)]));
    };
    check_path(&mut tx, &request, &deleted).await?;
    let deleted_key = deleted.vault.key.clone();
    let waiting = db::jobs::unfinished_in_vault(&mut tx, &deleted_key).await?;
    let mut vault = db::deleted_vaults::restore(&mut tx, granted, deleted, request.now).await?;
    let properties = vault.properties.merged(&wanted.properties)?;
    vault.properties.check_change(&properties, &vault.id)?;
    let before = std::mem::replace(&mut vault.properties, properties);
    let change = encryption::settle(&app, Some(&before), &mut vault)?;
    vault.tags = wanted.tags.unwrap_or(vault.tags);
    let vault = vaults::with_identity(&mut tx, vault, wanted.identity, request.now).await?;
    db::vaults::put(&mut tx, granted, &vault).await?;
    move_jobs(&mut tx, &request, waiting, &deleted_key, &vault.key).await?;
    let operation = encryption::begin(&mut tx, &request, &vault, &change, Waiting::Create).await?;
    let stamp = conditions::change(&mut tx, &request, &vault.key, false).await?;
    tx.commit().await?;
    let body = conditions::tracked_body(&request, vaults::render(&app, &vault, "Provisioning"), Some(&stamp));
    let answer = conditions::written_answer(Answer::created(body), &stamp);
    Ok(operations::with_status_url(answer, &app, &request, &vault, &operation, Waiting::Create))
}

/// The deleted vault that the header names: by its name alone (recorded), or by its id in this subscription and the body's location.
fn named(request: &Request, wanted: &VaultRequest) -> ApiResult<ResourceId> {
    let location = wanted.location.as_deref().map(str::trim).unwrap_or_default();
    if location.is_empty() {
        return Err(ApiError::of(ErrorCode::LocationRequired, &[]));
    }
    let text = request.header(HEADER).unwrap_or_default().trim();
    let subscription = request.param("subscription");
    let wrong = |reason: &str| {
        let values = [("id", text), ("parameter", HEADER), ("reason", reason)];
        Err(ApiError::of(ErrorCode::UserErrorInvalidResourceUriInRequest, &values).with_target(HEADER))
    };
    if !text.is_empty() && !text.contains('/') {
        return Ok(deleted_vault::id(subscription, location, text));
    }
    let Some(id) = ResourceId::parse(text).ok().filter(|id| id.is_type(deleted_vault::TYPE)) else {
        return wrong("it is neither the name nor the id of a deleted vault");
    };
    if !id.subscription().unwrap_or_default().eq_ignore_ascii_case(subscription) {
        return wrong("a vault comes back in its own subscription");
    }
    if fold_location(id.name_of("locations").unwrap_or_default()) != fold_location(location) {
        return wrong("a vault comes back in its own location, and the body names another one");
    }
    Ok(deleted_vault::id(subscription, location, id.name()))
}

/// Whoever takes a vault back must be able to see it among the deleted ones.
async fn authorize(app: &App, request: &Request, deleted_id: &ResourceId) -> ApiResult<()> {
    let scope = deleted_id.to_string();
    if auth::may(app, &request.caller.object_id, READ, &scope).await? {
        return Ok(());
    }
    Err(ApiError::of(
        ErrorCode::LinkedAuthorizationFailed,
        &[
            ("object", &request.caller.object_id),
            ("action", request.granted()?.action()),
            ("scope", &request.path.id.to_string()),
            ("linked_action", READ),
            ("linked_scope", &scope),
        ],
    ))
}

/// A vault comes back where it was, and nowhere else, and only where no other has its name now.
async fn check_path(conn: &mut Conn, request: &Request, deleted: &DeletedVault) -> ApiResult<()> {
    let key = vault_id(request).folded();
    if key != blobkeep_arm::id::fold(&deleted.vault.id) {
        let reason = format!("the deleted vault was {}, and comes back only there", deleted.vault.id);
        return Err(ApiError::of(ErrorCode::InvalidParameter, &[("parameter", HEADER), ("reason", &reason)]));
    }
    if db::vaults::get(conn, request.granted()?, &key).await?.is_some() {
        let reason = format!("There is another Backup vault '{}' now. Delete it first.", deleted.vault.id);
        return Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]));
    }
    Ok(())
}
