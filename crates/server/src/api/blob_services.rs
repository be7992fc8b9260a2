//! The blob service of a storage account and its containers. Containers are asked of the account's endpoint. The settings are what the service has
//! on record: nobody can switch them at the endpoint, which knows no such call, but looks see whether the account really keeps versions.

use std::sync::Arc;

use blobkeep_arm::blob_service::{self, Change};
use blobkeep_arm::id::fold;
use blobkeep_arm::{ApiError, ErrorCode, envelope};
use http::Method;
use serde_json::{Value, json};

use super::storage_accounts::{body, existing_account, find_account, timestamp};
use super::{Access, Answer, Request, Route};
use crate::accounts::BrowsedContainer;
use crate::db::blob_services::BlobService;
use crate::db::storage_accounts::StorageAccount;
use crate::error::ApiResult;
use crate::{App, db};

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BlobServices_GetServiceProperties",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default",
        access: Access::Action("Microsoft.Storage/storageAccounts/blobServices/read"),
        handler: |app, request| Box::pin(blob_service(app, request)),
    },
    Route {
        operation: "BlobServices_SetServiceProperties",
        method: Method::PUT,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default",
        access: Access::Action("Microsoft.Storage/storageAccounts/blobServices/write"),
        handler: |app, request| Box::pin(set_blob_service(app, request)),
    },
    Route {
        operation: "BlobContainers_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default/containers",
        access: Access::Action("Microsoft.Storage/storageAccounts/blobServices/containers/read"),
        handler: |app, request| Box::pin(containers(app, request)),
    },
    Route {
        operation: "BlobContainers_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default/containers/{container}",
        access: Access::Action("Microsoft.Storage/storageAccounts/blobServices/containers/read"),
        handler: |app, request| Box::pin(container(app, request)),
    },
];

/// The blob service in Azure's shape. `blobkeep` says what the last look found at the account itself; nothing, if nobody looked.
pub(in crate::api) fn service_body(account: &StorageAccount, service: &BlobService) -> Value {
    let shown = body(account);
    let mut properties = service.settings.render();
    if let Some(seen) = service.versions_seen {
        if seen {
            properties["isVersioningEnabled"] = json!(true);
            properties["changeFeed"]["enabled"] = json!(true);
        }
        properties["blobkeep"] = json!({ "keepsVersions": seen });
    }
    json!({
        "sku": shown["sku"],
        "id": format!("{}/blobServices/default", account.id),
        "name": "default",
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "properties": properties,
    })
}

async fn blob_service(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut reader = app.db.read().await?;
    let account = find_account(&mut reader, granted, &request.path.id).await?;
    let service = db::blob_services::get(&mut reader, granted, &fold(&account.id)).await?;
    Ok(Answer::ok(service_body(&account, &service)))
}

/// What a request does not name stays as it is.
async fn set_blob_service(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let change: Change = request.typed(blob_service::MEMBERS)?;
    let mut tx = app.db.write().await?;
    let account = find_account(&mut tx, granted, &request.path.id).await?;
    let key = fold(&account.id);
    let mut service = db::blob_services::get(&mut tx, granted, &key).await?;
    service.settings.change(&change, service.protection.as_mut())?;
    db::blob_services::put(&mut tx, granted, &key, &service, request.now).await?;
    tx.commit().await?;
    Ok(Answer::ok(service_body(&account, &service)))
}

fn container_body(account: &StorageAccount, container: &BrowsedContainer) -> Value {
    let access = match container.public_access.as_deref() {
        Some(word) if word.eq_ignore_ascii_case("blob") => "Blob",
        Some(word) if word.eq_ignore_ascii_case("container") => "Container",
        _ => "None",
    };
    let etag = format!("\"{}\"", container.etag.trim_matches('"'));
    json!({
        "id": format!("{}/blobServices/default/containers/{}", account.id, container.name),
        "name": container.name,
        "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
        "etag": etag,
        "properties": {
            "deleted": false,
            "remainingRetentionDays": 0,
            "defaultEncryptionScope": "$account-encryption-key",
            "denyEncryptionScopeOverride": false,
            "publicAccess": access,
            "leaseStatus": "Unlocked",
            "leaseState": "Available",
            "lastModifiedTime": timestamp(container.modified_at),
            "hasImmutabilityPolicy": container.has_immutability_policy,
            "hasLegalHold": container.has_legal_hold,
        },
    })
}

/// All containers of a connected account, asked of its endpoint.
async fn browse(app: &App, request: &Request) -> ApiResult<(StorageAccount, Vec<BrowsedContainer>)> {
    let granted = request.granted()?;
    let account = existing_account(app, granted, &request.path.id).await?;
    let not_connected = || ApiError::of(ErrorCode::StorageAccountNotConnected, &[("account", &account.name)]);
    let mut reader = app.db.read().await?;
    let key = fold(&account.id);
    let connection = db::storage_accounts::connection(&mut reader, granted, &app.sealer, &key).await?;
    drop(reader);
    let connection = connection.ok_or_else(not_connected)?;
    let browser = app.browser.as_ref().ok_or_else(|| {
        ApiError::of(ErrorCode::ServiceUnavailable, &[("reason", "this process cannot look into storage accounts")])
    })?;
    match browser.containers(&connection).await {
        Ok(found) => Ok((account, found)),
        Err(reason) => {
            let values = [("account", account.name.as_str()), ("reason", reason.as_str())];
            Err(ApiError::of(ErrorCode::StorageAccountUnreachable, &values))
        }
    }
}

async fn containers(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let (account, mut found) = browse(&app, &request).await?;
    if let Some(prefix) = request.filter() {
        found.retain(|container| container.name.starts_with(prefix));
    }
    Ok(Answer::ok(envelope::list(found.iter().map(|c| container_body(&account, c)).collect(), None)))
}

async fn container(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let (account, found) = browse(&app, &request).await?;
    let name = request.param("container");
    let found = found.iter().find(|container| container.name == name);
    let found = found.ok_or_else(|| {
        let resource =
            format!("Microsoft.Storage/storageAccounts/{}/blobServices/default/containers/{name}", account.name);
        ApiError::of(ErrorCode::ResourceNotFound, &[("resource", &resource), ("group", request.param("group"))])
    })?;
    Ok(Answer::ok(container_body(&account, found)))
}
