//! The key of a vault: whether a request may change it, and the operation that does.

use blobkeep_arm::vault::{KeyChange, VaultProperties};

use super::operations::{self, Beginning};
use super::{Answer, Request, conditions, instances, vaults};
use crate::App;
use crate::config::Waiting;
use crate::db::Conn;
use crate::db::operations::OperationState;
use crate::db::vaults::Vault;
use crate::error::ApiResult;
use crate::jobs::spec::{ChangeKeySpec, JobSpec};

/// Checks the new settings of a vault against those of `before`, none for a new vault, and says what they need.
///
/// # Errors
/// 400 `UserErrorKeyVaultKeyWasNotFound` for a key that nobody has made known, and what
/// [`VaultProperties::settle_encryption`] refuses.
pub(super) fn settle(app: &App, before: Option<&VaultProperties>, vault: &mut Vault) -> ApiResult<KeyChange> {
    let change = vault.properties.settle_encryption(before, &vault.id)?;
    if let KeyChange::New(uri) | KeyChange::Change(uri) = &change {
        app.keys.require(uri)?;
    }
    Ok(change)
}

/// Begins the operation of a change of a vault, and returns its id: it has ended already unless the vault gets another key.
pub(super) async fn begin(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    change: &KeyChange,
    waiting: Waiting,
) -> ApiResult<String> {
    let beginning = vaults::done(vault, waiting);
    if !matches!(change, KeyChange::Change(_)) {
        return operations::begin(conn, request, beginning).await;
    }
    let beginning = Beginning { state: OperationState::Inprogress, ..beginning };
    let operation = operations::begin(conn, request, beginning).await?;
    let spec = JobSpec::ChangeKey(ChangeKeySpec { vault_key: vault.key.clone() });
    instances::enqueue(conn, request, &vault.key, &spec, Some(&operation)).await?;
    Ok(operation)
}

/// The answer to a PATCH that gives the vault another key: 202, and the result of the operation is the vault.
pub(super) async fn accepted(
    app: &App,
    request: &Request,
    conn: &mut Conn,
    vault: &Vault,
    change: &KeyChange,
) -> ApiResult<Answer> {
    let operation = begin(conn, request, vault, change, Waiting::Create).await?;
    let stamp = conditions::change(conn, request, &vault.key, false).await?;
    let answer = operations::accepted_in_vault(app, request, vault, &operation, Waiting::Create);
    Ok(conditions::written_answer(answer, &stamp))
}
