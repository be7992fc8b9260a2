//! Undoing what protecting a storage account by the operational tier changed in it. Azure leaves all of that behind.

use std::sync::Arc;

use blobkeep_arm::id::fold;
use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;

use crate::api::blob_services::service_body;
use crate::api::storage_accounts::find_account;
use crate::api::{Access, Answer, Request, Route};
use crate::error::ApiResult;
use crate::{App, auth, db, jobs};

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BlobkeepAccounts_UndoProtection",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}/providers/Blobkeep.DataProtection/undoProtection",
    access: Access::Action("Microsoft.Storage/storageAccounts/blobServices/write"),
    handler: |app, request| Box::pin(undo(app, request)),
}];

/// The settings and the lock. Whoever asks must be allowed to remove locks, whether or not there is one.
async fn undo(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    auth::authorize(&app, &request.caller, "Microsoft.Authorization/locks/delete", granted.scope()).await?;
    let mut tx = app.db.write().await?;
    let account = find_account(&mut tx, granted, &request.path.id).await?;
    let key = fold(&account.id);
    if let Some(instance) = jobs::protecting_instance(&mut tx, &key).await? {
        let reason = format!(
            "The storage account '{}' is protected by the operational tier of the backup instance '{}'. End that protection first.",
            account.name, instance.id
        );
        return Err(ApiError::of(ErrorCode::Conflict, &[("reason", &reason)]));
    }
    jobs::undo_protection(&mut tx, granted, &key, request.now).await?;
    let service = db::blob_services::get(&mut tx, granted, &key).await?;
    tx.commit().await?;
    Ok(Answer::ok(service_body(&account, &service)))
}
