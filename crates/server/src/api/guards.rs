//! Resource guards: what in a vault needs the approval of whoever has rights on the guard.

use std::collections::HashMap;
use std::sync::Arc;

use blobkeep_arm::guard::{GuardRequest, GuardView, RESOURCE_GUARD};
use blobkeep_arm::id::fold_location;
use blobkeep_arm::instance::check_name;
use blobkeep_arm::stamp::Stamp;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};
use http::Method;
use serde_json::Value;

use super::page::{Page, Readable};
use super::resource_groups::find_group;
use super::resources::Scope;
use super::vaults::not_found;
use super::{Access, Answer, Request, Route, conditions};
use crate::App;
use crate::auth::Rights;
use crate::db::guards::Guard;
use crate::db::{self, Conn};
use crate::error::ApiResult;

/// Reading a guard; the spelling of this provider's own list of actions.
pub(super) const READ: &str = "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/read";
const WRITE: &str = "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/write";
const PATTERN: &str =
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{guard}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "ResourceGuards_Put",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "ResourceGuards_Patch",
        method: Method::PATCH,
        pattern: PATTERN,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(patch(app, request)),
    },
    Route {
        operation: "ResourceGuards_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "ResourceGuards_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "ResourceGuards_GetResourcesInResourceGroup",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "ResourceGuards_GetResourcesInSubscription",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/resourceGuards",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
];

fn guard_id(request: &Request) -> ResourceId {
    ResourceId::group_scope(request.param("subscription"), request.param("group")).attach(
        "Microsoft.DataProtection",
        "resourceGuards",
        request.param("guard"),
    )
}

/// The guard that the path names.
///
/// # Errors
/// 404 `ResourceNotFound`.
pub(super) async fn require(conn: &mut Conn, request: &Request) -> ApiResult<Guard> {
    let id = guard_id(request);
    let found = db::guards::get(conn, request.granted()?, &id.folded()).await?;
    found.ok_or_else(|| not_found(&id))
}

fn render(guard: &Guard) -> Value {
    GuardView {
        id: &guard.id,
        name: &guard.name,
        location: &guard.location,
        tags: &guard.tags,
        exclusions: &guard.exclusions,
    }
    .render()
}

/// 200 also for a new one (recorded).
async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = guard_id(&request);
    check_name(id.name()).map_err(|rule| {
        ApiError::of(ErrorCode::InvalidResourceName, &[("name", id.name()), ("kind", RESOURCE_GUARD), ("rule", rule)])
    })?;
    let wanted = GuardRequest::parse(&request.json()?)?;
    let location = wanted.location.as_deref().map(str::trim).unwrap_or_default();
    if location.is_empty() {
        return Err(ApiError::of(ErrorCode::LocationRequired, &[]));
    }
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let existing = db::guards::get(&mut tx, granted, &id.folded()).await?;
    conditions::check(&mut tx, &request, existing.as_ref().map(|guard| guard.key.as_str())).await?;
    let is_new = existing.is_none();
    let mut guard = match existing {
        Some(guard) if fold_location(&guard.location) != fold_location(location) => {
            return Err(ApiError::of(
                ErrorCode::InvalidResourceLocation,
                &[("name", &guard.name), ("location", &guard.location), ("wanted", location)],
            ));
        }
        Some(guard) => guard,
        None => new_guard(&mut tx, &request, &id, location).await?,
    };
    guard.tags = wanted.tags.unwrap_or_default();
    // A PUT that does not name the list leaves it (recorded), so that a change of tags opens nothing.
    if let Some(exclusions) = wanted.exclusions {
        guard.exclusions = exclusions;
    }
    guard.updated_at = request.now;
    db::guards::put(&mut tx, granted, &guard).await?;
    let stamp = conditions::change(&mut tx, &request, &guard.key, is_new).await?;
    tx.commit().await?;
    Ok(written(&request, &guard, &stamp))
}

/// A new guard in the spelling of its group.
async fn new_guard(conn: &mut Conn, request: &Request, id: &ResourceId, location: &str) -> ApiResult<Guard> {
    let group = find_group(conn, request.granted()?, id).await?;
    let group_id = ResourceId::parse(&group.id).unwrap_or_else(|_| id.scope());
    let id = group_id.attach("Microsoft.DataProtection", "resourceGuards", id.name());
    Ok(Guard {
        key: id.folded(),
        id: id.to_string(),
        name: id.name().to_owned(),
        subscription_key: id.subscription().unwrap_or_default().to_lowercase(),
        group_key: group_id.folded(),
        location: location.to_owned(),
        tags: serde_json::Map::new(),
        exclusions: Vec::new(),
        created_at: request.now,
        updated_at: request.now,
    })
}

fn written(request: &Request, guard: &Guard, stamp: &Stamp) -> Answer {
    let body = conditions::tracked_body(request, render(guard), Some(stamp));
    conditions::written_answer(Answer::ok(body), stamp)
}

async fn patch(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = GuardRequest::parse(&request.json()?)?;
    let mut tx = app.db.write().await?;
    let mut guard = require(&mut tx, &request).await?;
    conditions::check(&mut tx, &request, Some(&guard.key)).await?;
    if let Some(tags) = wanted.tags {
        guard.tags = tags;
    }
    guard.updated_at = request.now;
    db::guards::put(&mut tx, request.granted()?, &guard).await?;
    let stamp = conditions::change(&mut tx, &request, &guard.key, false).await?;
    tx.commit().await?;
    Ok(written(&request, &guard, &stamp))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let guard = require(&mut reader, &request).await?;
    let stamp = conditions::stamp(&mut reader, &request, &guard.key).await?;
    let body = conditions::tracked_body(&request, render(&guard), stamp.as_ref());
    conditions::read_answer(&request, stamp.as_ref(), body)
}

/// A guard that protects a vault stays: without it nobody could say any more what it protects.
async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let existing = db::guards::get(&mut tx, granted, &guard_id(&request).folded()).await?;
    conditions::check(&mut tx, &request, existing.as_ref().map(|guard| guard.key.as_str())).await?;
    let Some(guard) = existing else { return Ok(Answer::no_content()) };
    let vaults = db::guards::vaults_of(&mut tx, granted, &guard.key).await?;
    if !vaults.is_empty() {
        let reason = format!(
            "The resource guard '{}' cannot be deleted because it protects {}. Remove their links to it first.",
            guard.name,
            vaults.join(", ")
        );
        return Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]));
    }
    db::role_assignments::delete_within(&mut tx, granted, &guard.key).await?;
    db::guards::delete(&mut tx, granted, &guard.key).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let (may_read, place) = (rights.to(READ), Scope::of(&request));
    let mut guards = Readable::of(&page);
    let mut stamps = HashMap::new();
    // Who may read nothing here is not worth a look.
    if may_read.somewhere_in(&request.path.id.folded()) {
        let mut reader = app.db.read().await?;
        while guards.wants_more() {
            let read = read_some(&mut reader, place, guards.after(), page.fetch()).await?;
            guards.add(read, |guard: &Guard| may_read.on(&guard.key));
        }
        stamps = conditions::stamps(&mut reader, &request, page.shown(guards.rows()), |guard| &guard.key).await?;
    }
    page.answer(&request, guards.rows(), |guard| {
        conditions::tracked_body(&request, render(guard), stamps.get(&guard.key))
    })
}

/// Guards of a group, or else of a subscription, behind a folded id.
pub(super) async fn read_some(conn: &mut Conn, place: Scope<'_>, after: &str, limit: i64) -> ApiResult<Vec<Guard>> {
    Ok(match place.group_key() {
        Some(group) => db::guards::list_in_group(conn, &group, after, limit).await?,
        None => db::guards::list_in_subscription(conn, place.subscription, after, limit).await?,
    })
}
