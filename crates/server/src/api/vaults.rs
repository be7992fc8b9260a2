//! Backup vaults. Making, changing and removing one is done when the request is; the operation that is tracked has ended by then, unless
//! the vault is to be encrypted under another key.

use std::collections::HashMap;
use std::sync::Arc;

use blobkeep_arm::guard::operation_requests;
use blobkeep_arm::id::fold_location;
use blobkeep_arm::vault::{
    IdentityType, ImmutabilityState, KeyChange, VaultProperties, VaultRequest, VaultView, check_name,
};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::critical::Approval;
use super::operations::{self, Beginning};
use super::page::{Page, Readable};
use super::resources::Scope;
use super::{Access, Answer, Request, Route, conditions, deleted_vaults, encryption, instances};
use crate::App;
use crate::auth::{Granted, Rights};
use crate::config::Waiting;
use crate::db::operations::OperationState;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{JobSpec, SyncVaultSpec};

pub(super) const READ: &str = "Microsoft.DataProtection/backupVaults/read";
const WRITE: &str = "Microsoft.DataProtection/backupVaults/write";
const PATTERN: &str =
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupVaults_CreateOrUpdate",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "BackupVaults_Update",
        method: Method::PATCH,
        pattern: PATTERN,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(patch(app, request)),
    },
    Route {
        operation: "BackupVaults_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "BackupVaults_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "BackupVaults_GetInResourceGroup",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "BackupVaults_GetInSubscription",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/backupVaults",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "BackupVaults_CheckNameAvailability",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/locations/{location}/checkNameAvailability",
        access: Access::Action("Microsoft.DataProtection/locations/checkNameAvailability/action"),
        handler: |app, request| Box::pin(check_name_availability(app, request)),
    },
];

/// The id of the vault that the path names.
pub(super) fn vault_id(request: &Request) -> ResourceId {
    ResourceId::group_scope(request.param("subscription"), request.param("group")).attach(
        "Microsoft.DataProtection",
        "backupVaults",
        request.param("vault"),
    )
}

/// The vault that the path names.
///
/// # Errors
/// 404 `ResourceNotFound`.
pub(super) async fn require(conn: &mut Conn, request: &Request) -> ApiResult<Vault> {
    let id = vault_id(request);
    let found = db::vaults::get(conn, request.granted()?, &id.folded()).await?;
    found.ok_or_else(|| not_found(&id))
}

/// 404 `ResourceNotFound` for anything in a resource group.
pub(super) fn not_found(id: &ResourceId) -> ApiError {
    let names: Vec<String> = id.types().iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
    let resource = format!("{}/{}", id.provider().unwrap_or_default(), names.join("/"));
    ApiError::of(
        ErrorCode::ResourceNotFound,
        &[("resource", &resource), ("group", id.resource_group().unwrap_or_default())],
    )
}

/// The vault as answered.
pub(super) fn render(app: &App, vault: &Vault, provisioning_state: &str) -> Value {
    VaultView {
        id: &vault.id,
        name: &vault.name,
        location: &vault.location,
        tags: &vault.tags,
        identity: vault.principal_id.as_deref().map(|principal| (principal, app.tenant_id())),
        properties: &vault.properties,
        provisioning_state,
        is_guarded: vault.is_guarded,
    }
    .render()
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = vault_id(&request);
    check_name(id.name()).map_err(|rule| {
        ApiError::of(
            ErrorCode::InvalidResourceName,
            &[("name", id.name()), ("kind", "Microsoft.DataProtection/backupVaults"), ("rule", rule)],
        )
    })?;
    let body = request.json()?;
    let wanted = VaultRequest::parse(&body)?;
    if request.headers.contains_key(deleted_vaults::HEADER) {
        return deleted_vaults::undelete(app, request, wanted).await;
    }
    let approval = approval_of(&app, &request, &body).await?;
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let existing = db::vaults::get(&mut tx, granted, &id.folded()).await?;
    conditions::check(&mut tx, &request, existing.as_ref().map(|existing| existing.key.as_str())).await?;
    let before = existing.as_ref().map(|existing| existing.properties.clone());
    let (mut vault, state) = match existing {
        Some(existing) => (replaced(existing, &wanted)?, "Updating"),
        None => (new_vault(&mut tx, &request, &id, &wanted).await?, "Provisioning"),
    };
    let change = encryption::settle(&app, before.as_ref(), &mut vault)?;
    if let Some(before) = &before {
        approval.check_change(&mut tx, &request, &vault, before).await?;
    }
    let vault = with_identity(&mut tx, vault, wanted.identity, request.now).await?;
    db::vaults::put(&mut tx, granted, &vault).await?;
    // The store of a new vault is made later, and is told then.
    if let Some(before) = &before {
        follow_immutability(&mut tx, &request, &vault, before.immutability()).await?;
    }
    let operation = encryption::begin(&mut tx, &request, &vault, &change, Waiting::Create).await?;
    let stamp = conditions::change(&mut tx, &request, &vault.key, before.is_none()).await?;
    tx.commit().await?;
    let body = conditions::tracked_body(&request, render(&app, &vault, state), Some(&stamp));
    let answer = conditions::written_answer(Answer::created(body), &stamp);
    Ok(operations::with_status_url(answer, &app, &request, &vault, &operation, Waiting::Create))
}

/// What the body of a PUT or PATCH brings to be approved for.
async fn approval_of(app: &App, request: &Request, body: &Value) -> ApiResult<Approval> {
    Approval::of(app, request, operation_requests(envelope::member(body, "properties"))?).await
}

/// An operation that has ended when its request is answered.
pub(super) fn done(vault: &Vault, waiting: Waiting) -> Beginning<'_> {
    Beginning { vault, waiting, state: OperationState::Succeeded, job_id: None, resource_key: Some(&vault.key) }
}

async fn new_vault(conn: &mut Conn, request: &Request, id: &ResourceId, wanted: &VaultRequest) -> ApiResult<Vault> {
    let location = wanted.location.as_deref().map(str::trim).unwrap_or_default();
    if location.is_empty() {
        return Err(ApiError::of(ErrorCode::LocationRequired, &[]));
    }
    let group_id = id.scope();
    let group = db::resource_groups::get(conn, request.granted()?, &group_id.folded()).await?;
    let Some(group) = group else {
        return Err(ApiError::of(ErrorCode::ResourceGroupNotFound, &[("group", request.param("group"))]));
    };
    // Ids are answered with the group's own spelling.
    let group_id = ResourceId::parse(&group.id).unwrap_or(group_id);
    let id = group_id.attach("Microsoft.DataProtection", "backupVaults", id.name());
    Ok(Vault {
        key: id.folded(),
        id: id.to_string(),
        name: id.name().to_owned(),
        subscription_id: id.subscription().unwrap_or_default().to_owned(),
        group_key: group_id.folded(),
        location: location.to_owned(),
        tags: wanted.tags.clone().unwrap_or_default(),
        properties: wanted.properties.clone().with_defaults(),
        vault_uuid: Uuid::new_v4().to_string(),
        principal_id: None,
        provisioning_state: "Succeeded".to_owned(),
        created_at: request.now,
        updated_at: request.now,
        is_guarded: false,
    })
}

/// A PUT replaces settings and tags; it cannot move the vault. What guards the data (security and features) stays where the request is
/// silent, so that a script that is run again neither weakens a vault nor fails on one that was locked since.
fn replaced(mut vault: Vault, wanted: &VaultRequest) -> ApiResult<Vault> {
    check_location(&vault, wanted)?;
    let guards = VaultProperties {
        security_settings: wanted.properties.security_settings.clone(),
        feature_settings: wanted.properties.feature_settings.clone(),
        ..VaultProperties::default()
    };
    let guarded = vault.properties.merged(&guards)?;
    let mut properties = wanted.properties.clone();
    properties.security_settings = guarded.security_settings;
    properties.feature_settings = guarded.feature_settings;
    let properties = properties.with_defaults();
    vault.properties.check_change(&properties, &vault.id)?;
    vault.properties = properties;
    vault.tags = wanted.tags.clone().unwrap_or_default();
    Ok(vault)
}

fn check_location(vault: &Vault, wanted: &VaultRequest) -> ApiResult<()> {
    match wanted.location.as_deref() {
        Some(location) if fold_location(location) != fold_location(&vault.location) => Err(ApiError::of(
            ErrorCode::InvalidResourceLocation,
            &[("name", &vault.name), ("location", &vault.location), ("wanted", location)],
        )),
        _ => Ok(()),
    }
}

/// An identity that is there is kept, with its roles, unless the request says `None`.
pub(super) async fn with_identity(
    conn: &mut Conn,
    mut vault: Vault,
    wanted: Option<IdentityType>,
    now: i64,
) -> ApiResult<Vault> {
    match (wanted, vault.principal_id.as_deref()) {
        (Some(IdentityType::SystemAssigned), None) => {
            let principal = db::principals::create_managed_identity(conn, &vault.name, &vault.key, now).await?;
            vault.principal_id = Some(principal.object_id);
        }
        (Some(IdentityType::None), Some(object_id)) => {
            db::principals::delete(conn, object_id).await?;
            vault.principal_id = None;
        }
        _ => {}
    }
    vault.updated_at = now;
    Ok(vault)
}

async fn patch(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let body = request.json()?;
    let wanted = VaultRequest::parse(&body)?;
    let approval = approval_of(&app, &request, &body).await?;
    let mut tx = app.db.write().await?;
    let mut vault = require(&mut tx, &request).await?;
    conditions::check(&mut tx, &request, Some(&vault.key)).await?;
    check_location(&vault, &wanted)?;
    let properties = vault.properties.merged(&wanted.properties)?;
    vault.properties.check_change(&properties, &vault.id)?;
    let before = std::mem::replace(&mut vault.properties, properties);
    let change = encryption::settle(&app, Some(&before), &mut vault)?;
    approval.check_change(&mut tx, &request, &vault, &before).await?;
    if let Some(tags) = wanted.tags {
        vault.tags = tags;
    }
    let vault = with_identity(&mut tx, vault, wanted.identity, request.now).await?;
    db::vaults::put(&mut tx, request.granted()?, &vault).await?;
    follow_immutability(&mut tx, &request, &vault, before.immutability()).await?;
    if let KeyChange::Change(_) = change {
        let answer = encryption::accepted(&app, &request, &mut tx, &vault, &change).await?;
        tx.commit().await?;
        return Ok(answer);
    }
    let stamp = conditions::change(&mut tx, &request, &vault.key, false).await?;
    tx.commit().await?;
    let body = conditions::tracked_body(&request, render(&app, &vault, &vault.provisioning_state), Some(&stamp));
    Ok(conditions::written_answer(Answer::ok(body), &stamp))
}

/// A change of immutability holds here at once, and a job brings it into the vault's own records.
async fn follow_immutability(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    before: ImmutabilityState,
) -> ApiResult<()> {
    if vault.properties.immutability() != before {
        let spec = JobSpec::SyncVault(SyncVaultSpec { vault_key: vault.key.clone() });
        instances::enqueue(conn, request, &vault.key, &spec, None).await?;
    }
    Ok(())
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let vault = require(&mut reader, &request).await?;
    let stamp = conditions::stamp(&mut reader, &request, &vault.key).await?;
    let body = conditions::tracked_body(&request, render(&app, &vault, &vault.provisioning_state), stamp.as_ref());
    conditions::read_answer(&request, stamp.as_ref(), body)
}

/// A vault goes only when nothing is protected in it any more.
async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let vault = db::vaults::get(&mut tx, granted, &vault_id(&request).folded()).await?;
    conditions::check(&mut tx, &request, vault.as_ref().map(|vault| vault.key.as_str())).await?;
    let Some(vault) = vault else { return Ok(Answer::no_content()) };
    check_deletable(&mut tx, granted, &vault).await?;
    deleted_vaults::delete(&mut tx, &request, &vault).await?;
    // After the vault has moved: who follows the operation asks for it where the vault was.
    let operation = operations::begin(&mut tx, &request, done(&vault, Waiting::Delete)).await?;
    tx.commit().await?;
    Ok(operations::accepted_in_group(&app, &request, &vault, &operation, Waiting::Delete))
}

async fn check_deletable(conn: &mut Conn, granted: &Granted, vault: &Vault) -> ApiResult<()> {
    let instances = db::instances::list(conn, granted, &vault.key, false).await?;
    let link = db::guard_proxies::of_vault(conn, granted, &vault.key).await?;
    if instances.is_empty() && link.is_none() {
        return Ok(());
    }
    let names: Vec<&str> = instances.iter().map(|each| each.name.as_str()).collect();
    let content = match &link {
        Some(link) if names.is_empty() => format!("the resource guard proxy {}", link.proxy.name),
        _ => format!("the backup instances {}", names.join(", ")),
    };
    Err(ApiError::of(ErrorCode::UserErrorVaultNotEmpty, &[("vault", &vault.id), ("content", &content)]))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let (may_read, place) = (rights.to(READ), Scope::of(&request));
    let mut vaults = Readable::of(&page);
    let mut stamps = HashMap::new();
    // Who may read nothing here is not worth a look.
    if may_read.somewhere_in(&request.path.id.folded()) {
        let mut reader = app.db.read().await?;
        while vaults.wants_more() {
            let read = read_some(&mut reader, place, vaults.after(), page.fetch()).await?;
            vaults.add(read, |vault| may_read.on(&vault.key));
        }
        stamps = conditions::stamps(&mut reader, &request, page.shown(vaults.rows()), |vault| &vault.key).await?;
    }
    page.answer(&request, vaults.rows(), |vault| {
        let body = render(&app, vault, &vault.provisioning_state);
        conditions::tracked_body(&request, body, stamps.get(&vault.key))
    })
}

/// Vaults of a group, or else of a subscription, behind a folded id.
pub(super) async fn read_some(conn: &mut Conn, place: Scope<'_>, after: &str, limit: i64) -> ApiResult<Vec<Vault>> {
    Ok(match place.group_key() {
        Some(group) => db::vaults::list_in_group(conn, &group, after, limit).await?,
        None => db::vaults::list_in_subscription(conn, place.subscription, after, limit).await?,
    })
}

async fn check_name_availability(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let body = request.json()?;
    let name = envelope::text(&body, "name").unwrap_or_default();
    if let Err(rule) = check_name(name) {
        let message = format!("The name '{name}' of a backup vault is invalid: {rule}.");
        return Ok(Answer::ok(json!({ "message": message, "nameAvailable": false, "reason": "Invalid" })));
    }
    let id = ResourceId::group_scope(request.param("subscription"), request.param("group")).attach(
        "Microsoft.DataProtection",
        "backupVaults",
        name,
    );
    let mut reader = app.db.read().await?;
    if db::vaults::get(&mut reader, request.granted()?, &id.folded()).await?.is_none() {
        return Ok(Answer::ok(json!({ "nameAvailable": true })));
    }
    let message = format!("The resource group already has a backup vault named '{name}'.");
    Ok(Answer::ok(json!({ "message": message, "nameAvailable": false, "reason": "AlreadyExists" })))
}
