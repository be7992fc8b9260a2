//! Subscriptions, tenants, locations and subscription aliases.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::providers::LOCATIONS;
use super::request::invalid_content;
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::Rights;
use crate::db::{self, subscriptions::Subscription};
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Tenants_List",
        method: Method::GET,
        pattern: "/tenants",
        access: Access::SignedIn,
        handler: |app, _| Box::pin(async move { Ok(tenants(&app)) }),
    },
    Route {
        operation: "Subscriptions_List",
        method: Method::GET,
        pattern: "/subscriptions",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "Subscriptions_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "Subscriptions_ListLocations",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/locations",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(locations(app, request)),
    },
    Route {
        operation: "Alias_Create",
        method: Method::PUT,
        pattern: "/providers/Microsoft.Subscription/aliases/{alias}",
        access: Access::Action("Microsoft.Subscription/aliases/write"),
        handler: |app, request| Box::pin(put_alias(app, request)),
    },
    Route {
        operation: "Alias_Get",
        method: Method::GET,
        pattern: "/providers/Microsoft.Subscription/aliases/{alias}",
        access: Access::Action("Microsoft.Subscription/aliases/read"),
        handler: |app, request| Box::pin(get_alias(app, request)),
    },
];

/// What a caller must be allowed to do somewhere in a subscription for it to be shown.
const READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";

fn tenants(app: &App) -> Answer {
    let tenant = app.tenant_id();
    let body = json!({
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "countryCode": "",
        "displayName": "Blobkeep",
        "domains": [],
        "tenantCategory": "Home",
        "defaultDomain": "",
        "tenantType": "AAD",
    });
    Answer::ok(envelope::list(vec![body], None))
}

fn body(app: &App, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription.id,
        "tenantId": app.tenant_id(),
        "displayName": subscription.display_name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "Blobkeep",
            "spendingLimit": "Off",
        },
    })
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let all = db::subscriptions::list(&mut reader).await?;
    let visible = all.iter().filter(|s| rights.allow_somewhere_in(READ, &format!("/subscriptions/{}", s.id)));
    Ok(Answer::ok(envelope::list(visible.map(|s| body(&app, s)).collect(), None)))
}

/// The subscription of the path, for callers who have some right in it.
///
/// # Errors
/// 403 for who has no right anywhere in it, whether it exists or not; 404 `SubscriptionNotFound`.
pub(super) async fn require_subscription(app: &App, request: &Request) -> ApiResult<Subscription> {
    let id = request.path.id.subscription().unwrap_or_default();
    let scope = format!("/subscriptions/{id}");
    let rights = Rights::of(app, &request.caller.object_id).await?;
    if !rights.allow_somewhere_in(READ, &scope) {
        let action = "Microsoft.Resources/subscriptions/read";
        let values = [
            ("client", request.caller.app_id.as_str()),
            ("object", request.caller.object_id.as_str()),
            ("action", action),
            ("scope", scope.as_str()),
        ];
        return Err(ApiError::of(ErrorCode::AuthorizationFailed, &values));
    }
    existing_subscription(app, &request.path.id).await
}

/// The subscription that an id lies in. Call it only after something on the id was granted.
///
/// # Errors
/// 404 `SubscriptionNotFound`.
pub async fn existing_subscription(app: &App, id: &ResourceId) -> ApiResult<Subscription> {
    let mut reader = app.db.read().await?;
    find_subscription(&mut reader, id).await
}

/// The same on a connection that the caller holds.
///
/// # Errors
/// As [`existing_subscription`].
pub(super) async fn find_subscription(conn: &mut db::Conn, id: &ResourceId) -> ApiResult<Subscription> {
    let id = id.subscription().unwrap_or_default();
    db::subscriptions::get(conn, id)
        .await?
        .ok_or_else(|| ApiError::of(ErrorCode::SubscriptionNotFound, &[("subscription", id)]))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let subscription = require_subscription(&app, &request).await?;
    Ok(Answer::ok(body(&app, &subscription)))
}

async fn locations(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let subscription = require_subscription(&app, &request).await?;
    let values = LOCATIONS
        .iter()
        .map(|location| {
            json!({
                "id": format!("/subscriptions/{}/locations/{}", subscription.id, location.name),
                "name": location.name,
                "type": "Region",
                "displayName": location.display_name,
                "regionalDisplayName": location.display_name,
                "metadata": {
                    "regionType": "Physical", "regionCategory": "Recommended", "geography": "", "geographyGroup": "",
                    "longitude": "0", "latitude": "0", "physicalLocation": "", "pairedRegion": [],
                },
            })
        })
        .collect();
    Ok(Answer::ok(envelope::list(values, None)))
}

fn alias_body(name: &str, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/providers/Microsoft.Subscription/aliases/{name}"),
        "name": name,
        "type": "Microsoft.Subscription/aliases",
        "properties": {
            "subscriptionId": subscription.id,
            "displayName": subscription.display_name,
            "provisioningState": "Succeeded",
        },
    })
}

/// Makes a subscription, or gives a name to one that exists. `properties.subscriptionId` chooses the GUID; without it a new one is made.
async fn put_alias(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let name = request.param("alias");
    let content = request.json()?;
    let properties = envelope::member(&content, "properties").cloned().unwrap_or(Value::Null);
    let wanted = envelope::text(&properties, "subscriptionId").map(|id| {
        Uuid::parse_str(id)
            .map(|id| id.to_string())
            .map_err(|_| invalid_content("'properties.subscriptionId' must be a GUID"))
    });
    let wanted = wanted.transpose()?;
    let mut tx = app.db.write().await?;
    if let Some((name, subscription)) = db::subscriptions::alias(&mut tx, name).await? {
        if wanted.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&subscription.id)) {
            let values = [("subscription", subscription.id.as_str()), ("alias", name.as_str())];
            return Err(ApiError::of(ErrorCode::SubscriptionAlreadyExists, &values));
        }
        return Ok(Answer::ok(alias_body(&name, &subscription)));
    }
    let id = wanted.unwrap_or_else(|| Uuid::new_v4().to_string());
    if let Some(other) = db::subscriptions::alias_of(&mut tx, &id).await? {
        let values = [("subscription", id.as_str()), ("alias", other.as_str())];
        return Err(ApiError::of(ErrorCode::SubscriptionAlreadyExists, &values));
    }
    let display_name = envelope::text(&properties, "displayName").unwrap_or(name).to_owned();
    let subscription = Subscription { id: id.clone(), display_name, created_at: request.now };
    db::subscriptions::create(&mut tx, &subscription).await?;
    db::subscriptions::create_alias(&mut tx, name, &id, request.now).await?;
    let stored = db::subscriptions::get(&mut tx, &id).await?.unwrap_or(subscription);
    tx.commit().await?;
    Ok(Answer::created(alias_body(name, &stored)))
}

async fn get_alias(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let name = request.param("alias");
    let mut reader = app.db.read().await?;
    let found = db::subscriptions::alias(&mut reader, name).await?;
    let (name, subscription) = found.ok_or_else(|| {
        ApiError::of(
            ErrorCode::ResourceNotFound,
            &[("resource", &format!("Microsoft.Subscription/aliases/{name}")), ("group", "")],
        )
    })?;
    Ok(Answer::ok(alias_body(&name, &subscription)))
}
