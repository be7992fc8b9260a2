//! Multi-user authorization: what is critical in a vault that is linked to a resource guard needs a right on the guard as well.
//!
//! The request names, by the guard's request ids, what it wants to be approved for; its caller, or the principal of a second token
//! (`x-ms-authorization-auxiliary`), must have the right. A DELETE has no body to name anything in, so the deletion is unlocked before.
//! Everything is decided when the request comes: jobs need no approval.

use blobkeep_arm::guard::{CriticalOperation, is_excluded};
use blobkeep_arm::id::fold;
use blobkeep_arm::vault::VaultProperties;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId};

use super::Request;
use super::guards::READ;
use crate::App;
use crate::auth::{self, Granted, Rights};
use crate::db::guard_proxies::Link;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;

/// What a request brings with it to be approved.
#[derive(Debug)]
pub(super) struct Approval {
    /// Folded request ids.
    named: Vec<String>,
    /// Of the caller, and of the second token's principal.
    rights: Vec<Rights>,
}

impl Approval {
    /// `named` are the ids in the body (`resourceGuardOperationRequests`), folded. Ask before a transaction begins: rights are read on a
    /// connection of their own.
    ///
    /// # Errors
    /// 500 when the rights cannot be read.
    pub(super) async fn of(app: &App, request: &Request, named: Vec<String>) -> ApiResult<Self> {
        let mut rights = Vec::new();
        // Who names nothing is approved for nothing, whatever the rights.
        if !named.is_empty() {
            for caller in request.callers() {
                rights.push(Rights::of(app, &caller.object_id).await?);
            }
        }
        Ok(Self { named, rights })
    }

    /// Nothing stands against the operation: no guard protects it in this vault, or the request is approved for it.
    ///
    /// # Errors
    /// 403 `LinkedAuthorizationFailed` naming the request id.
    pub(super) async fn check(
        &self,
        conn: &mut Conn,
        request: &Request,
        vault: &Vault,
        operation: CriticalOperation,
    ) -> ApiResult<()> {
        let Some(link) = guarding(conn, request, vault, operation).await? else { return Ok(()) };
        let expected = operation.request_id(&link.guard_id);
        let action = operation.approval();
        let is_named = self.named.contains(&fold(&expected));
        if is_named && self.rights.iter().any(|rights| rights.allow(&action, &expected)) {
            return Ok(());
        }
        let refusal = refusal(request, &action, &expected);
        if is_named {
            return Err(refusal);
        }
        Err(explained(
            refusal,
            &format!("The vault is linked to a resource guard: name '{expected}' in 'resourceGuardOperationRequests'."),
        ))
    }

    /// The same for everything in a change of the vault's settings that a guard protects. `vault` has the new ones.
    ///
    /// # Errors
    /// As [`Approval::check`].
    pub(super) async fn check_change(
        &self,
        conn: &mut Conn,
        request: &Request,
        vault: &Vault,
        before: &VaultProperties,
    ) -> ApiResult<()> {
        for operation in CriticalOperation::of_change(before, &vault.properties) {
            self.check(conn, request, vault, operation).await?;
        }
        Ok(())
    }
}

/// The vault's link, if its guard protects the operation.
async fn guarding(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    operation: CriticalOperation,
) -> ApiResult<Option<Link>> {
    let link = db::guard_proxies::of_vault(conn, request.granted()?, &vault.key).await?;
    Ok(link.filter(|link| !is_excluded(operation, &link.exclusions)))
}

/// A deletion that no guard protects, or that the caller has unlocked, which it uses up.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed` naming the request id that unlocks it.
pub(super) async fn use_unlock(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    operation: CriticalOperation,
    resource_key: &str,
) -> ApiResult<()> {
    let Some(link) = guarding(conn, request, vault, operation).await? else { return Ok(()) };
    if db::guard_proxies::use_unlock(conn, request.granted()?, resource_key, request.now).await? {
        return Ok(());
    }
    let expected = operation.request_id(&link.guard_id);
    let hint = format!(
        "The vault is linked to a resource guard: unlock the deletion by POST {}/unlockDelete with '{expected}' in 'resourceGuardOperationRequests'.",
        link.proxy.id
    );
    Err(explained(refusal(request, &operation.approval(), &expected), &hint))
}

/// The right to read a guard that the request names, of the caller or of the second token's principal.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`, whether or not the guard exists.
pub(super) async fn authorize_guard(app: &App, request: &Request, guard: &ResourceId) -> ApiResult<Granted> {
    let scope = guard.to_string();
    for caller in request.callers() {
        match auth::authorize(app, caller, READ, &scope).await {
            Err(error) if error.code == ErrorCode::AuthorizationFailed => {}
            decided => return decided,
        }
    }
    Err(refusal(request, READ, &scope))
}

/// The caller may do what the route does, but not what that implies on the guard.
fn refusal(request: &Request, action: &str, scope: &str) -> ApiError {
    tracing::info!(principal = %request.caller.object_id, action, scope, "refused: a resource guard stands against it");
    ApiError::of(
        ErrorCode::LinkedAuthorizationFailed,
        &[
            ("object", &request.caller.object_id),
            ("action", request.granted.as_ref().map_or("", Granted::action)),
            ("scope", &request.path.id.to_string()),
            ("linked_action", action),
            ("linked_scope", scope),
        ],
    )
}

fn explained(refusal: ApiError, hint: &str) -> ApiError {
    let code = refusal.code_name();
    refusal.with_detail(code, hint, Some("resourceGuardOperationRequests".to_owned()))
}
