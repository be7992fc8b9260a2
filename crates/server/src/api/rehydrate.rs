//! Rehydration: refused, for recovery points of blobs are never in an archive tier. A wrong request is told what is wrong with it first.

use std::sync::Arc;

use blobkeep_arm::rehydration::RehydrationRequest;
use blobkeep_arm::word::DataStore;
use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;

use super::{Access, Answer, Request, Route, instances};
use crate::App;
use crate::db;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BackupInstances_TriggerRehydrate",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/rehydrate",
    access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/rehydrate/action"),
    handler: |app, request| Box::pin(rehydrate(app, request)),
}];

async fn rehydrate(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let (_, stored) = instances::require(&mut reader, &request).await?;
    let wanted = RehydrationRequest::parse(&request.json()?)?;
    let id = &wanted.recovery_point_id;
    let point = db::points::get(&mut reader, request.granted()?, &stored.key, id).await?;
    if point.is_none_or(|point| point.store != DataStore::VaultStore) {
        return Err(ApiError::of(
            ErrorCode::UserErrorRestorePointNotFound,
            &[("point", id), ("instance", &stored.name)],
        ));
    }
    Err(ApiError::of(
        ErrorCode::UserErrorRehydrationNotSupportedForDatasource,
        &[("kind", &stored.instance.data_source_info.datasource_type)],
    ))
}
