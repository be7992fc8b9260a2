//! Requests below a resource guard: one object, `default`, of each type. They hold nothing; critical requests name their ids, and who
//! has a right on one may approve what it stands for.

use std::sync::Arc;

use blobkeep_arm::envelope;
use blobkeep_arm::guard::{request_object, request_type};
use http::Method;
use serde_json::Value;

use super::vaults::not_found;
use super::{Access, Answer, Request, Route, guards, providers};
use crate::App;
use crate::error::ApiResult;

// A list and its object for each type that the specification knows, and one pair for all others.
macro_rules! routes {
    ($($stem:literal $kind:literal),+ $(,)?) => {
        &[
            $(
                Route {
                    operation: concat!("ResourceGuards_Get", $stem, "RequestsObjects"),
                    method: Method::GET,
                    pattern: concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{guard}/", $kind),
                    access: Access::Action(concat!("Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/", $kind, "/read")),
                    handler: |app, request| Box::pin(list(app, request, $kind)),
                },
                Route {
                    operation: concat!("ResourceGuards_GetDefault", $stem, "RequestsObject"),
                    method: Method::GET,
                    pattern: concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{guard}/", $kind, "/{requestName}"),
                    access: Access::Action(concat!("Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/", $kind, "/read")),
                    handler: |app, request| Box::pin(get(app, request, $kind)),
                },
            )+
            Route {
                operation: "ResourceGuards_GetRequestsObjects",
                method: Method::GET,
                pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{guard}/{requests}",
                access: Access::Action("Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/{operationName}/read"),
                handler: |app, request| {
                    Box::pin(async move {
                        let kind = kind(&request)?;
                        list(app, request, kind).await
                    })
                },
            },
            Route {
                operation: "ResourceGuards_GetDefaultRequestsObject",
                method: Method::GET,
                pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/resourceGuards/{guard}/{requests}/{requestName}",
                access: Access::Action("Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/{operationName}/read"),
                handler: |app, request| {
                    Box::pin(async move {
                        let kind = kind(&request)?;
                        get(app, request, kind).await
                    })
                },
            },
        ]
    };
}

/// Routes of this file.
pub const ROUTES: &[Route] = routes![
    "DeleteProtectedItem" "deleteProtectedItemRequests",
    "DeleteResourceGuardProxy" "deleteResourceGuardProxyRequests",
    "DisableSoftDelete" "disableSoftDeleteRequests",
    "BackupSecurityPIN" "getBackupSecurityPINRequests",
    "UpdateProtectedItem" "updateProtectedItemRequests",
    "UpdateProtectionPolicy" "updateProtectionPolicyRequests",
];

/// The type that the path names, for those that have no route of their own: what links of backup vaults name.
fn kind(request: &Request) -> ApiResult<&'static str> {
    request_type(request.param("requests")).ok_or_else(|| providers::nothing_there(&request.path, &request.api_version))
}

async fn object(app: &App, request: &Request, kind: &str) -> ApiResult<Value> {
    let mut reader = app.db.read().await?;
    let guard = guards::require(&mut reader, request).await?;
    Ok(request_object(&guard.id, kind))
}

async fn list(app: Arc<App>, request: Request, kind: &'static str) -> ApiResult<Answer> {
    Ok(Answer::ok(envelope::list(vec![object(&app, &request, kind).await?], None)))
}

async fn get(app: Arc<App>, request: Request, kind: &'static str) -> ApiResult<Answer> {
    let object = object(&app, &request, kind).await?;
    if !request.param("requestName").eq_ignore_ascii_case("default") {
        return Err(not_found(&request.path.id));
    }
    Ok(Answer::ok(object))
}
