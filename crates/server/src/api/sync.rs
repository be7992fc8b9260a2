//! Syncing an instance: what failed is tried again, without sending the instance once more.

use std::sync::Arc;

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::sync::SyncType;
use http::Method;

use super::operations::{self, Beginning};
use super::{Access, Answer, Request, Route, instances};
use crate::App;
use crate::config::Waiting;
use crate::db::Conn;
use crate::db::instances::StoredInstance;
use crate::db::operations::OperationState;
use crate::db::vaults::Vault;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BackupInstances_SyncBackupInstance",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/sync",
    access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/sync/action"),
    handler: |app, request| Box::pin(sync(app, request)),
}];

async fn sync(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = SyncType::of_request(&request.json_or_null()?)?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = instances::require(&mut tx, &request).await?;
    let operation = begin(&mut tx, &request, &vault, &stored, wanted).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Create))
}

/// Begins what the instance's state asks for, and returns the operation that follows it.
async fn begin(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    stored: &StoredInstance,
    wanted: SyncType,
) -> ApiResult<String> {
    match stored.state {
        ProtectionState::SoftDeleting => return Err(instances::wrong_state(stored, "sync")),
        ProtectionState::ConfiguringProtectionFailed | ProtectionState::ProtectionError => {}
        ProtectionState::ProtectionConfigured if wanted == SyncType::ForceResync => {}
        ProtectionState::ConfiguringProtection | ProtectionState::UpdatingProtection => {
            if let Some(operation) = instances::pending_operation(conn, &stored.key).await? {
                return Ok(operation);
            }
        }
        _ => {
            let done = Beginning {
                vault,
                waiting: Waiting::Create,
                state: OperationState::Succeeded,
                job_id: None,
                resource_key: Some(&stored.key),
            };
            return operations::begin(conn, request, done).await;
        }
    }
    instances::configure_again(conn, request, vault, &stored.key).await
}
