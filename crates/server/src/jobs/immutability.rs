//! Carries the immutability of a vault from its row, which users set, into the vault's own records, which the engine goes by.
//!
//! The row refuses at once what it forbids. The record makes the promise hold without the database, too: whoever has only the vault, or puts
//! an old database back, removes nothing that it protects.

use std::sync::Arc;

use blobkeep_arm::vault::ImmutabilityState;
use blobkeep_vault::state::{Chain, Immutability, VaultChange};
use blobkeep_vault::{Error, Timestamp, Vault};

use super::fault::{Fault, internal};
use super::spec::SyncVaultSpec;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db;

/// Does the job. Whatever is in the way is taken for passing: what a user has set must arrive.
pub(super) async fn run(app: &Arc<App>, spec: &SyncVaultSpec) -> Result<Done, Fault> {
    let mut reader = app.db.read().await?;
    let row = db::vaults::get(&mut reader, &Granted::service(), &spec.vault_key).await?;
    drop(reader);
    // A vault that is gone has nothing to keep, and one that was not made yet is told when it is.
    let Some(row) = row else { return Ok(Done::completed()) };
    let passing = |e: Error| Fault::Passing(Box::new(internal(&e.to_string())));
    if let Some(vault) = app.vaults.find(app, &row.vault_uuid).await.map_err(passing)? {
        record(app, &vault, &row.vault_uuid).await.map_err(passing)?;
    }
    Ok(Done::completed())
}

/// Makes the vault's own records say what its row says. Where they are locked already they stay so, whatever the row says.
///
/// # Errors
/// What the store reports; [`Error::Internal`] when the database fails.
pub(super) async fn record(app: &App, vault: &Vault, vault_uuid: &str) -> Result<(), Error> {
    let chain = Chain::vault(vault);
    loop {
        // The records are read before the row, and both again after a change: so the last one to write has seen the row as it is now.
        let at = chain.load().await?;
        let Some(wanted) = of_row(app, vault_uuid).await? else { return Ok(()) };
        if at.immutability == wanted {
            return Ok(());
        }
        if at.immutability == Immutability::Locked {
            tracing::error!(
                vault = vault_uuid,
                "the vault is locked in its own records, but not in the database; it stays locked"
            );
            return Ok(());
        }
        let change = VaultChange::ImmutabilitySet { mode: wanted };
        if chain.append_after(&at, &change, Timestamp(app.now())).await?.is_some() {
            tracing::info!(vault = vault_uuid, mode = ?wanted, "the vault's immutability is recorded");
        }
    }
}

/// What the row of a vault says; nothing if there is none.
async fn of_row(app: &App, vault_uuid: &str) -> Result<Option<Immutability>, Error> {
    let failed = |e: db::DbError| Error::Internal(e.to_string());
    let mut reader = app.db.read().await.map_err(failed)?;
    let row = db::vaults::by_uuid(&mut reader, &Granted::service(), vault_uuid).await.map_err(failed)?;
    Ok(row.map(|row| match row.properties.immutability() {
        ImmutabilityState::Disabled => Immutability::Disabled,
        ImmutabilityState::Unlocked => Immutability::Unlocked,
        ImmutabilityState::Locked => Immutability::Locked,
    }))
}
