//! The few questions about principals that command lines put to a directory before they show or make role assignments.

use std::sync::Arc;

use blobkeep_arm::envelope;
use http::Method;
use serde_json::{Value, json};

use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{Rights, authorize};
use crate::db;
use crate::db::principals::{Principal, PrincipalKind};
use crate::error::ApiResult;

/// Routes of this file. Directory requests carry no api-version, so they name none and check the token themselves.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Graph_GetByIds",
        method: Method::POST,
        pattern: "/v1.0/directoryObjects/getByIds",
        access: Access::Unversioned,
        handler: |app, request| Box::pin(get_by_ids(app, request)),
    },
    Route {
        operation: "Graph_ServicePrincipals",
        method: Method::GET,
        pattern: "/v1.0/servicePrincipals",
        access: Access::Unversioned,
        handler: |app, request| Box::pin(service_principals(app, request)),
    },
    Route {
        operation: "Graph_ServicePrincipal",
        method: Method::GET,
        pattern: "/v1.0/servicePrincipals/{object}",
        access: Access::Unversioned,
        handler: |app, request| Box::pin(service_principal(app, request)),
    },
];

/// Who may see role assignments somewhere may know the names in them.
const READ: &str = "Microsoft.Authorization/roleAssignments/read";

fn body(principal: &Principal) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.servicePrincipal",
        "id": principal.object_id,
        "appId": principal.app_id,
        "displayName": principal.name,
        "servicePrincipalNames": [principal.app_id],
        "servicePrincipalType": principal.kind.as_str(),
        "accountEnabled": true,
    })
}

/// The principals that the caller may see: all with a right to read assignments anywhere, else itself.
async fn visible(app: &App, request: &Request) -> ApiResult<Vec<Principal>> {
    let rights = Rights::of(app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let mut all = db::principals::list(&mut reader).await?;
    if !rights.allow_somewhere_in(READ, "/") {
        all.retain(|principal| principal.object_id == request.caller.object_id);
    }
    Ok(all)
}

async fn get_by_ids(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let content = request.json()?;
    let ids: Vec<&str> = envelope::member(&content, "ids")
        .and_then(Value::as_array)
        .map(|ids| ids.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let found = visible(&app, &request).await?;
    let wanted = found.iter().filter(|p| ids.iter().any(|id| id.eq_ignore_ascii_case(&p.object_id)));
    Ok(Answer::ok(envelope::list(wanted.map(body).collect(), None)))
}

/// Understands the filters that clients send: an equality on `appId`, `id`, `displayName`, or `servicePrincipalNames/any(c:c eq '…')`.
async fn service_principals(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let filter = request.filter().map(str::to_owned);
    let found = visible(&app, &request).await?;
    let matches = |principal: &&Principal| filter.as_deref().is_none_or(|filter| fits(filter, principal));
    Ok(Answer::ok(envelope::list(found.iter().filter(matches).map(body).collect(), None)))
}

fn fits(filter: &str, principal: &Principal) -> bool {
    let Some(value) = filter.split('\'').nth(1) else { return false };
    let starts = |word: &str| filter.trim_start().to_ascii_lowercase().starts_with(word);
    if starts("displayname") {
        return principal.name.eq_ignore_ascii_case(value);
    }
    if starts("id ") {
        return principal.object_id.eq_ignore_ascii_case(value);
    }
    principal.app_id.eq_ignore_ascii_case(value)
        || principal.kind == PrincipalKind::Application && principal.name.eq_ignore_ascii_case(value)
}

async fn service_principal(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let object_id = request.param("object").to_owned();
    let found = visible(&app, &request).await?;
    match found.iter().find(|principal| principal.object_id.eq_ignore_ascii_case(&object_id)) {
        Some(principal) => Ok(Answer::ok(body(principal))),
        None => {
            // Says "forbidden" to who may not know, and only to others that there is none.
            authorize(&app, &request.caller, READ, "/").await?;
            let error = json!({
                "code": "Request_ResourceNotFound",
                "message": format!("Resource '{object_id}' does not exist or one of its queried reference-property objects are not present."),
            });
            Ok(Answer::new(404, Some(json!({ "error": error }))))
        }
    }
}
