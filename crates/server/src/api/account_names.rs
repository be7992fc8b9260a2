//! Whether a name is free for a storage account: the az CLI asks before it makes one.

use std::sync::Arc;

use blobkeep_arm::envelope;
use http::Method;
use serde_json::json;

use super::storage_accounts::{READ, check_name};
use super::subscriptions::require_subscription;
use super::{Access, Answer, Request, Route};
use crate::auth::Rights;
use crate::error::ApiResult;
use crate::{App, db};

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "StorageAccounts_CheckNameAvailability",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/providers/Microsoft.Storage/checkNameAvailability",
    access: Access::SignedIn,
    handler: |app, request| Box::pin(check(app, request)),
}];

/// Names are looked for in the subscription, and only among the accounts that the caller may read.
async fn check(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let subscription = require_subscription(&app, &request).await?;
    let body = request.json()?;
    let name = envelope::text(&body, "name").unwrap_or_default();
    if check_name(name).is_err() {
        let message =
            format!("'{name}' is not a name for a storage account: use 3 to 24 lower-case letters and digits.");
        return Ok(Answer::ok(json!({ "nameAvailable": false, "reason": "AccountNameInvalid", "message": message })));
    }
    let mut reader = app.db.read().await?;
    let found = db::storage_accounts::of_name(&mut reader, &subscription.id, name).await?;
    // Who holds a connection and waits for another one may wait for ever, once enough do so.
    drop(reader);
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    if !found.iter().any(|account| rights.allow(READ, &account.id)) {
        return Ok(Answer::ok(json!({ "nameAvailable": true })));
    }
    let message = format!("The subscription already has a storage account named '{name}'.");
    Ok(Answer::ok(json!({ "nameAvailable": false, "reason": "AlreadyExists", "message": message })))
}
