//! The link of a vault to its resource guard, at most one, and the unlocking of deletions that the guard protects.

use std::sync::Arc;

use blobkeep_arm::guard::{CriticalOperation, ProxyRequest, ProxyView, UnlockRequest, bad_guard_id, check_proxy_name};
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::time::format_seven_digits;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};

use super::critical::{self, Approval};
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route, conditions};
use crate::App;
use crate::clock::MICROS_PER_SECOND;
use crate::db::guard_proxies::{Link, Proxy};
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;

/// How long an unlocked deletion stays so (recorded).
const UNLOCKED_MICROS: i64 = 30 * 60 * MICROS_PER_SECOND;

const READ: &str = "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read";
const PATTERN: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupResourceGuardProxies/{proxy}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "DppResourceGuardProxy_CreateOrUpdate",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/write"),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "DppResourceGuardProxy_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "DppResourceGuardProxy_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "DppResourceGuardProxy_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupResourceGuardProxies",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "DppResourceGuardProxy_UnlockDelete",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupResourceGuardProxies/{proxy}/unlockDelete",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/unlockDelete/action"),
        handler: |app, request| Box::pin(unlock_delete(app, request)),
    },
];

fn proxy_id(request: &Request) -> ResourceId {
    vault_id(request).child("backupResourceGuardProxies", request.param("proxy"))
}

fn render(link: &Link) -> Value {
    ProxyView {
        id: &link.proxy.id,
        name: &link.proxy.name,
        guard_id: &link.guard_id,
        exclusions: &link.exclusions,
        description: link.proxy.description.as_deref(),
        updated_at: link.proxy.updated_at,
    }
    .render()
}

/// The vault of the path and the link of that name, if it has one.
async fn find(conn: &mut Conn, request: &Request) -> ApiResult<(Vault, Option<Link>)> {
    let vault = vaults::require(conn, request).await?;
    let link = db::guard_proxies::of_vault(conn, request.granted()?, &vault.key).await?;
    let key = proxy_id(request).folded();
    Ok((vault, link.filter(|link| link.proxy.key == key)))
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = proxy_id(&request);
    check_proxy_name(id.name()).map_err(|rule| {
        let kind = "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies";
        ApiError::of(ErrorCode::InvalidResourceName, &[("name", id.name()), ("kind", kind), ("rule", rule)])
    })?;
    let wanted = ProxyRequest::parse(&request.json()?)?;
    let may_read_guard = critical::authorize_guard(&app, &request, &wanted.guard).await?;
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let guard = db::guards::get(&mut tx, &may_read_guard, &wanted.guard.folded()).await?;
    let guard = guard.ok_or_else(|| bad_guard_id(&wanted.guard.to_string(), "there is no such resource guard"))?;
    let granted = request.granted()?;
    let existing = db::guard_proxies::of_vault(&mut tx, granted, &vault.key).await?;
    let same = existing.as_ref().filter(|link| link.proxy.key == id.folded());
    conditions::check(&mut tx, &request, same.map(|link| link.proxy.key.as_str())).await?;
    let is_new = existing.is_none();
    let proxy = match existing {
        Some(link) if link.proxy.key != id.folded() => return Err(already_linked(&vault, &link)),
        Some(link) => {
            if link.proxy.guard_key != guard.key {
                // The vault leaves its guard, which is what the guard protects first of all.
                let operation = CriticalOperation::RemoveGuard;
                critical::use_unlock(&mut tx, &request, &vault, operation, &link.proxy.key).await?;
            }
            Proxy { guard_key: guard.key, description: wanted.description, updated_at: request.now, ..link.proxy }
        }
        None => Proxy {
            key: id.folded(),
            id: format!("{}/backupResourceGuardProxies/{}", vault.id, id.name()),
            name: id.name().to_owned(),
            vault_key: vault.key,
            guard_key: guard.key,
            description: wanted.description,
            created_at: request.now,
            updated_at: request.now,
        },
    };
    db::guard_proxies::put(&mut tx, granted, &proxy).await?;
    let stamp = conditions::change(&mut tx, &request, &proxy.key, is_new).await?;
    tx.commit().await?;
    let link = Link { proxy, guard_id: guard.id, exclusions: guard.exclusions };
    Ok(conditions::written_answer(Answer::ok(render(&link)), &stamp))
}

fn already_linked(vault: &Vault, link: &Link) -> ApiError {
    let reason = format!(
        "The Backup vault '{}' is linked to the resource guard {} by '{}' already, and a vault has one such link.",
        vault.name, link.guard_id, link.proxy.name
    );
    ApiError::of(ErrorCode::Conflict, &[("reason", &reason)])
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let (_, link) = find(&mut reader, &request).await?;
    let link = link.ok_or_else(|| not_found(&proxy_id(&request)))?;
    let stamp = conditions::stamp(&mut reader, &request, &link.proxy.key).await?;
    conditions::read_answer(&request, stamp.as_ref(), render(&link))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let link = db::guard_proxies::of_vault(&mut reader, request.granted()?, &vault.key).await?;
    Ok(Answer::ok(envelope::list(link.iter().map(render).collect(), None)))
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let (vault, link) = find(&mut tx, &request).await?;
    conditions::check(&mut tx, &request, link.as_ref().map(|link| link.proxy.key.as_str())).await?;
    let Some(Link { proxy, .. }) = link else { return Ok(Answer::no_content()) };
    critical::use_unlock(&mut tx, &request, &vault, CriticalOperation::RemoveGuard, &proxy.key).await?;
    db::role_assignments::delete_within(&mut tx, granted, &proxy.key).await?;
    db::guard_proxies::delete(&mut tx, granted, &proxy).await?;
    tx.commit().await?;
    Ok(Answer::ok(json!({})))
}

/// Lets the caller delete what the request names, once and soon.
async fn unlock_delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let UnlockRequest { requests, resource } = UnlockRequest::parse(&request.json()?)?;
    let approval = Approval::of(&app, &request, requests).await?;
    let mut tx = app.db.write().await?;
    let (vault, link) = find(&mut tx, &request).await?;
    let link = link.ok_or_else(|| not_found(&proxy_id(&request)))?;
    let (operation, key) = target_of(&mut tx, &request, &vault, &link, resource.as_deref()).await?;
    approval.check(&mut tx, &request, &vault, operation).await?;
    let expires_at = request.now + UNLOCKED_MICROS;
    db::guard_proxies::unlock(&mut tx, request.granted()?, &vault.key, &key, request.now, expires_at).await?;
    tx.commit().await?;
    Ok(Answer::ok(json!({ "unlockDeleteExpiryTime": format_seven_digits(expires_at) })))
}

/// Which deletion is meant, and the folded id of what goes: an instance of this vault, or the link itself.
async fn target_of(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    link: &Link,
    resource: Option<&str>,
) -> ApiResult<(CriticalOperation, String)> {
    let Some(resource) = resource else { return Ok((CriticalOperation::RemoveGuard, link.proxy.key.clone())) };
    let refused = |reason: &str| {
        ApiError::of(
            ErrorCode::UserErrorInvalidResourceUriInRequest,
            &[("id", resource), ("parameter", "resourceToBeDeleted"), ("reason", reason)],
        )
        .with_target("resourceToBeDeleted")
    };
    let id = ResourceId::parse(resource).map_err(|error| refused(&error.to_string()))?;
    let key = id.folded();
    if key == link.proxy.key {
        return Ok((CriticalOperation::RemoveGuard, key));
    }
    let is_instance = id.is_type("Microsoft.DataProtection/backupVaults/backupInstances")
        && id.parent().is_some_and(|parent| parent.folded() == vault.key);
    if !is_instance {
        return Err(refused("it is neither a backup instance of this vault nor its link to the resource guard"));
    }
    let found = db::instances::get(conn, request.granted()?, &key).await?;
    match found {
        Some(stored) if stored.state != ProtectionState::SoftDeleted => Ok((CriticalOperation::DeleteInstance, key)),
        _ => Err(refused("there is no such backup instance in this vault")),
    }
}
