//! Service principals: an action of our own, because there is no directory beside this service.
//!
//! Only who may give roles away at `/` may make principals. The secret is answered once, when it is made, and never again.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, envelope};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{self, Granted};
use crate::db;
use crate::db::principals::{Principal, PrincipalKind};
use crate::error::{ApiResult, fault};
use crate::identity::new_secret;

const ONE: &str = "/providers/Blobkeep.Identity/servicePrincipals/{name}";

/// Routes of this file. What they need is asked for at `/` by the handlers themselves.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "ServicePrincipals_List",
        method: Method::GET,
        pattern: "/providers/Blobkeep.Identity/servicePrincipals",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "ServicePrincipals_Create",
        method: Method::PUT,
        pattern: ONE,
        access: Access::SignedIn,
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "ServicePrincipals_Get",
        method: Method::GET,
        pattern: ONE,
        access: Access::SignedIn,
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "ServicePrincipals_Delete",
        method: Method::DELETE,
        pattern: ONE,
        access: Access::SignedIn,
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "ServicePrincipals_ResetSecret",
        method: Method::POST,
        pattern: "/providers/Blobkeep.Identity/servicePrincipals/{name}/resetSecret",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(reset_secret(app, request)),
    },
];

async fn may_write(app: &App, request: &Request) -> ApiResult<Granted> {
    auth::authorize(app, &request.caller, "Microsoft.Authorization/roleAssignments/write", "/").await
}

async fn may_read(app: &App, request: &Request) -> ApiResult<Granted> {
    auth::authorize(app, &request.caller, "Microsoft.Authorization/roleAssignments/read", "/").await
}

fn body(app: &App, principal: &Principal, secret: Option<&str>) -> Value {
    let mut properties = json!({
        "appId": principal.app_id,
        "objectId": principal.object_id,
        "tenantId": app.tenant_id(),
        "displayName": principal.name,
    });
    if let (Some(secret), Some(members)) = (secret, properties.as_object_mut()) {
        members.insert("secret".to_owned(), json!(secret));
    }
    json!({
        "id": format!("/providers/Blobkeep.Identity/servicePrincipals/{}", principal.name),
        "name": principal.name,
        "type": "Blobkeep.Identity/servicePrincipals",
        "properties": properties,
    })
}

fn not_found(name: &str) -> ApiError {
    let resource = format!("Blobkeep.Identity/servicePrincipals/{name}");
    ApiError::of(ErrorCode::ResourceNotFound, &[("resource", &resource), ("group", "")])
}

async fn existing(conn: &mut db::Conn, name: &str) -> ApiResult<Principal> {
    db::principals::by_name(conn, name).await?.ok_or_else(|| not_found(name))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    may_read(&app, &request).await?;
    let mut reader = app.db.read().await?;
    let all = db::principals::list(&mut reader).await?;
    let applications = all.iter().filter(|principal| principal.kind == PrincipalKind::Application);
    Ok(Answer::ok(envelope::list(applications.map(|p| body(&app, p, None)).collect(), None)))
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    may_write(&app, &request).await?;
    let name = request.param("name");
    let is_legal = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_legal {
        let rule = "it can have up to 64 letters, digits, '-', '_' and '.'";
        return Err(ApiError::of(
            ErrorCode::InvalidResourceName,
            &[("name", name), ("kind", "service principal"), ("rule", rule)],
        ));
    }
    let mut tx = app.db.write().await?;
    if let Some(principal) = db::principals::by_name(&mut tx, name).await? {
        return Ok(Answer::ok(body(&app, &principal, None)));
    }
    let secret = new_secret().map_err(|error| fault(&error))?;
    let principal = Principal {
        object_id: Uuid::new_v4().to_string(),
        app_id: Uuid::new_v4().to_string(),
        name: name.to_owned(),
        kind: PrincipalKind::Application,
        resource_key: None,
        created_at: request.now,
    };
    db::principals::create(&mut tx, &principal, Some(&app.identity.secret_hash(&secret))).await?;
    tx.commit().await?;
    Ok(Answer::created(body(&app, &principal, Some(&secret))))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    may_read(&app, &request).await?;
    let mut reader = app.db.read().await?;
    let principal = existing(&mut reader, request.param("name")).await?;
    Ok(Answer::ok(body(&app, &principal, None)))
}

async fn reset_secret(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    may_write(&app, &request).await?;
    let secret = new_secret().map_err(|error| fault(&error))?;
    let mut tx = app.db.write().await?;
    let principal = existing(&mut tx, request.param("name")).await?;
    db::principals::set_secret_hash(&mut tx, &principal.object_id, &app.identity.secret_hash(&secret)).await?;
    tx.commit().await?;
    Ok(Answer::ok(body(&app, &principal, Some(&secret))))
}

/// Removes the principal and its role assignments. The caller cannot remove itself: nobody shall lock himself out by a slip.
async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    may_write(&app, &request).await?;
    let mut tx = app.db.write().await?;
    let Some(principal) = db::principals::by_name(&mut tx, request.param("name")).await? else {
        return Ok(Answer::no_content());
    };
    if principal.object_id == request.caller.object_id {
        let reason = format!("The service principal '{}' is the caller and cannot remove itself.", principal.name);
        return Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]));
    }
    db::principals::delete(&mut tx, &principal.object_id).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}
