//! Role definitions: the built-in ones, and those that somebody made.
//!
//! A custom definition lies at no scope. It says where it may be given (`assignableScopes`), and by these it is decided who sees it and
//! who may change it: it is there for who asks from a scope in or around one of them, and to change or remove it one needs the right at
//! every one of them, at those that it has and at those that it shall have. Whoever may not learns nothing of it.

use std::sync::Arc;

use blobkeep_arm::id::{fold, is_within};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::authorization::{read_filter, scope_of, time, unknown_term};
use super::{Access, Answer, Request, Route, custom_role};
use crate::App;
use crate::auth::roles::{self, Role};
use crate::auth::{Granted, Rights};
use crate::db::role_definitions::RoleDefinition;
use crate::db::{self, Conn};
use crate::error::ApiResult;

const KIND: &str = "roleDefinitions";
const DEFINITION: &str = "{*scope}/providers/Microsoft.Authorization/roleDefinitions/{name}";
const READ: &str = "Microsoft.Authorization/roleDefinitions/read";
const WRITE: &str = "Microsoft.Authorization/roleDefinitions/write";
const DELETE: &str = "Microsoft.Authorization/roleDefinitions/delete";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "RoleDefinitions_List",
        method: Method::GET,
        pattern: "{*scope}/providers/Microsoft.Authorization/roleDefinitions",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "RoleDefinitions_Get",
        method: Method::GET,
        pattern: DEFINITION,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "RoleDefinitions_CreateOrUpdate",
        method: Method::PUT,
        pattern: DEFINITION,
        access: Access::Action(WRITE),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "RoleDefinitions_Delete",
        method: Method::DELETE,
        pattern: DEFINITION,
        access: Access::Action(DELETE),
        handler: |app, request| Box::pin(delete(app, request)),
    },
];

/// The id of a definition as it is seen from a scope: with the scope's subscription in front, as in Azure.
pub(super) fn definition_id(scope: &ResourceId, guid: &str) -> String {
    match scope.subscription() {
        Some(subscription) => {
            format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{guid}")
        }
        None => format!("/providers/Microsoft.Authorization/roleDefinitions/{guid}"),
    }
}

/// 404: there is no such role, or none that may be known of.
pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::of(ErrorCode::RoleDefinitionDoesNotExist, &[("id", id)])
}

/// The role may be given at the scope (folded).
pub(super) fn is_assignable_at(definition: &RoleDefinition, scope_key: &str) -> bool {
    definition.assignable_scopes.iter().any(|at| is_within(scope_key, &fold(at)))
}

/// The role may be given at the scope (folded), or somewhere in it: for who asks from anywhere else there is no such role.
pub(super) fn is_seen_from(definition: &RoleDefinition, scope_key: &str) -> bool {
    is_assignable_at(definition, scope_key)
        || definition.assignable_scopes.iter().any(|at| is_within(&fold(at), scope_key))
}

fn built_in_body(scope: &ResourceId, role: &Role) -> Value {
    json!({
        "id": definition_id(scope, role.guid),
        "type": "Microsoft.Authorization/roleDefinitions",
        "name": role.guid,
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.description,
            "assignableScopes": ["/"],
            "permissions": [{
                "actions": role.all_actions().collect::<Vec<_>>(),
                "notActions": role.not_actions,
                "dataActions": role.data_actions,
                "notDataActions": [],
            }],
        },
    })
}

/// Of the assignable scopes those are shown that the path's own scope lies in, and those at which the caller may read definitions.
fn custom_body(scope: &ResourceId, rights: &Rights, definition: &RoleDefinition) -> Value {
    let key = scope.folded();
    let is_shown = |at: &&String| is_within(&key, &fold(at)) || rights.allow(READ, at);
    json!({
        "id": definition_id(scope, &definition.guid),
        "type": "Microsoft.Authorization/roleDefinitions",
        "name": definition.guid,
        "properties": {
            "roleName": definition.name,
            "type": "CustomRole",
            "description": definition.description,
            "assignableScopes": definition.assignable_scopes.iter().filter(is_shown).collect::<Vec<_>>(),
            "permissions": definition.permissions,
            "createdOn": time(definition.created_at),
            "updatedOn": time(definition.updated_at),
            "createdBy": definition.created_by,
            "updatedBy": definition.updated_by,
        },
    })
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let scope = scope_of(&request, KIND)?;
    let key = scope.folded();
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let mut custom = db::role_definitions::list(&mut reader, request.granted()?).await?;
    drop(reader);
    custom.retain(|definition| is_seen_from(definition, &key));
    let mut built_in: Vec<&Role> = roles::BUILT_IN.iter().collect();
    let filter = request.filter().unwrap_or_default();
    for (word, text) in read_filter(filter)? {
        match word.as_str() {
            "rolename" => {
                built_in.retain(|role| role.name.eq_ignore_ascii_case(&text));
                custom.retain(|definition| definition.name.to_lowercase() == text.to_lowercase());
            }
            "type" => {
                built_in.retain(|_| text.eq_ignore_ascii_case("BuiltInRole"));
                custom.retain(|_| text.eq_ignore_ascii_case("CustomRole"));
            }
            "atscope" => custom.retain(|definition| is_assignable_at(definition, &key)),
            "atscopeandbelow" => {}
            other => return Err(unknown_term(filter, other)),
        }
    }
    let built_in = built_in.into_iter().map(|role| built_in_body(&scope, role));
    let custom = custom.iter().map(|definition| custom_body(&scope, &rights, definition));
    Ok(Answer::ok(envelope::list(built_in.chain(custom).collect(), None)))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let scope = scope_of(&request, KIND)?;
    let name = request.param("name");
    if let Some(role) = roles::by_guid(name) {
        return Ok(Answer::ok(built_in_body(&scope, role)));
    }
    let guid = read_guid(name).map_err(|_| not_found(name))?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let found = db::role_definitions::get(&mut reader, request.granted()?, &guid).await?;
    let found = found.filter(|definition| is_seen_from(definition, &scope.folded()));
    let found = found.ok_or_else(|| not_found(name))?;
    Ok(Answer::ok(custom_body(&scope, &rights, &found)))
}

/// The GUID of a definition, lower case.
fn read_guid(name: &str) -> ApiResult<String> {
    let guid = Uuid::parse_str(name).map_err(|_| ApiError::of(ErrorCode::InvalidRoleDefinitionId, &[("id", name)]))?;
    Ok(guid.to_string())
}

/// The GUID of the definition that shall change: not that of a built-in role.
fn changeable(request: &Request) -> ApiResult<String> {
    let guid = read_guid(request.param("name"))?;
    match roles::by_guid(&guid) {
        Some(role) => Err(ApiError::of(ErrorCode::RoleDefinitionExists, &[("id", role.guid)])),
        None => Ok(guid),
    }
}

/// The caller may do this at every scope that its own request names.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed` naming the first one, whether or not it exists.
fn check_named(request: &Request, rights: &Rights, action: &str, scopes: &[String]) -> ApiResult<()> {
    let Some(missing) = scopes.iter().find(|scope| !rights.allow(action, scope)) else { return Ok(()) };
    let granted = request.granted()?;
    let values = [
        ("object", request.caller.object_id.as_str()),
        ("action", granted.action()),
        ("scope", granted.scope()),
        ("linked_action", action),
        ("linked_scope", missing.as_str()),
    ];
    Err(ApiError::of(ErrorCode::LinkedAuthorizationFailed, &values))
}

/// The caller may do this at every scope of a definition that is there. Which scope stands in the way is not told: it may be one that the
/// caller must not know.
///
/// # Errors
/// 403 `AuthorizationFailed` naming the path's own scope.
fn check_present(request: &Request, rights: &Rights, action: &str, definition: &RoleDefinition) -> ApiResult<()> {
    if definition.assignable_scopes.iter().all(|scope| rights.allow(action, scope)) {
        return Ok(());
    }
    let values = [
        ("client", request.caller.app_id.as_str()),
        ("object", request.caller.object_id.as_str()),
        ("action", action),
        ("scope", request.granted()?.scope()),
    ];
    Err(ApiError::of(ErrorCode::AuthorizationFailed, &values))
}

/// Nobody may be left with the role where it can no longer be given.
async fn check_given(conn: &mut Conn, granted: &Granted, wanted: &RoleDefinition) -> ApiResult<()> {
    let given = db::role_assignments::scopes_of_role(conn, granted, &wanted.guid).await?;
    if given.iter().all(|scope| is_assignable_at(wanted, scope)) {
        return Ok(());
    }
    Err(ApiError::of(ErrorCode::RoleDefinitionHasAssignments, &[]))
}

/// Names are unique, those of built-in roles included.
async fn check_name(conn: &mut Conn, granted: &Granted, wanted: &RoleDefinition) -> ApiResult<()> {
    let is_built_in = roles::BUILT_IN.iter().any(|role| role.name.eq_ignore_ascii_case(&wanted.name));
    let same = db::role_definitions::by_name(conn, granted, &wanted.name).await?;
    if is_built_in || same.is_some_and(|same| same.guid != wanted.guid) {
        return Err(ApiError::of(ErrorCode::RoleDefinitionWithSameNameExists, &[]));
    }
    Ok(())
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let scope = scope_of(&request, KIND)?;
    let guid = changeable(&request)?;
    let wanted = custom_role::read(&request.json()?)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    check_named(&request, &rights, WRITE, &wanted.assignable_scopes)?;
    let mut tx = app.db.write().await?;
    let present = db::role_definitions::get(&mut tx, granted, &guid).await?;
    if let Some(present) = &present {
        check_present(&request, &rights, WRITE, present)?;
    }
    let caller = &request.caller.object_id;
    let definition = RoleDefinition {
        guid,
        name: wanted.name,
        description: wanted.description,
        permissions: wanted.permissions,
        assignable_scopes: wanted.assignable_scopes,
        created_by: present.as_ref().map_or(caller, |present| &present.created_by).clone(),
        updated_by: caller.clone(),
        created_at: present.as_ref().map_or(request.now, |present| present.created_at),
        updated_at: request.now,
    };
    check_given(&mut tx, granted, &definition).await?;
    check_name(&mut tx, granted, &definition).await?;
    db::role_definitions::put(&mut tx, granted, &definition).await?;
    tx.commit().await?;
    // 201 also for a change, as in Azure.
    Ok(Answer::created(custom_body(&scope, &rights, &definition)))
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let scope = scope_of(&request, KIND)?;
    let guid = changeable(&request)?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut tx = app.db.write().await?;
    let present = db::role_definitions::get(&mut tx, granted, &guid).await?;
    let Some(present) = present.filter(|definition| is_seen_from(definition, &scope.folded())) else {
        return Ok(Answer::no_content());
    };
    check_present(&request, &rights, DELETE, &present)?;
    if !db::role_assignments::scopes_of_role(&mut tx, granted, &guid).await?.is_empty() {
        return Err(ApiError::of(ErrorCode::RoleDefinitionHasAssignments, &[]));
    }
    db::role_definitions::delete(&mut tx, granted, &guid).await?;
    tx.commit().await?;
    Ok(Answer::ok(custom_body(&scope, &rights, &present)))
}
