//! Which key guards a vault of the engine, and the job that gives it another one.
//!
//! The row of a vault says which key it has. While that is being changed the row says `Inconsistent`, from before the first step until
//! after the last: so the row never names a key as the guard that is not the only one, and a vault that was left half-way is opened by
//! whatever key opens it.

use std::sync::Arc;

use blobkeep_arm::vault::{EncryptionState, fold_key_uri};
use blobkeep_vault::{Error, ErrorKind, MasterKey, Result, Store, Vault};

use super::fault::{Fault, internal, missing_key};
use super::spec::ChangeKeySpec;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, vaults::Vault as Row};
use crate::keys::NOT_CONFIGURED;

/// What guards a vault, as its row says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The service's master key.
    Service,
    /// A key of the owner's, and no other.
    Key(String),
    /// A key of the owner's, or still the one before.
    Changing(String),
    /// There is no row any more.
    Unknown,
}

impl Guard {
    /// The guard of the vault of that id.
    pub(super) async fn of(app: &App, vault_uuid: &str) -> Result<Self> {
        let failed = |e: db::DbError| Error::Internal(e.to_string());
        let mut reader = app.db.read().await.map_err(failed)?;
        let row = db::vaults::by_uuid(&mut reader, &Granted::service(), vault_uuid).await.map_err(failed)?;
        Ok(row.map_or(Self::Unknown, |row| Self::of_row(&row)))
    }

    fn of_row(row: &Row) -> Self {
        let uri = || row.properties.key_uri().unwrap_or_default().to_owned();
        match row.properties.encryption_state() {
            EncryptionState::Disabled => Self::Service,
            EncryptionState::Enabled => Self::Key(uri()),
            EncryptionState::Inconsistent => Self::Changing(uri()),
        }
    }

    /// The URI of the owner's key, if there is one.
    fn uri(&self) -> Option<&str> {
        match self {
            Self::Key(uri) | Self::Changing(uri) => Some(uri),
            Self::Service | Self::Unknown => None,
        }
    }

    /// It is the same key, whether or not the change to it has come to its end.
    fn is_same_key(&self, other: &Self) -> bool {
        self.uri().map(fold_key_uri) == other.uri().map(fold_key_uri)
    }

    /// The row still names this key.
    pub(super) async fn is_wanted(&self, app: &App, vault_uuid: &str) -> Result<bool> {
        Ok(Self::of(app, vault_uuid).await?.is_same_key(self))
    }

    /// The key under which a vault is made.
    ///
    /// # Errors
    /// [`Error::NoKey`] if it is not known.
    pub(super) fn key(&self, app: &App) -> Result<MasterKey> {
        match self {
            Self::Service | Self::Unknown => MasterKey::from_file(app.master_key.as_slice()),
            Self::Key(uri) | Self::Changing(uri) => {
                app.keys.get(uri).cloned().ok_or_else(|| no_key(uri, NOT_CONFIGURED))
            }
        }
    }

    /// Opens the vault in a store.
    ///
    /// # Errors
    /// [`Error::NoKey`] if the key that guards it is not known, or is another one; else what the engine says.
    pub(super) async fn open(&self, app: &App, store: &Arc<dyn Store>) -> Result<Vault> {
        let mut refusal = None;
        for key in self.keys(app)? {
            match Vault::open(store.clone(), &key).await {
                Err(error) if error.kind() == ErrorKind::WrongKey => refusal = Some(error),
                opened => return opened,
            }
        }
        Err(match self {
            Self::Key(uri) => no_key(uri, "what is configured for it is another key"),
            Self::Changing(uri) => {
                no_key(uri, "the change to it has not come to its end: the key before it must be configured until then")
            }
            Self::Service | Self::Unknown => refusal.unwrap_or_else(|| Error::Internal("no key was tried".to_owned())),
        })
    }

    /// The keys that may open it, the likeliest first.
    fn keys(&self, app: &App) -> Result<Vec<MasterKey>> {
        match self {
            Self::Service | Self::Key(_) => Ok(vec![self.key(app)?]),
            Self::Changing(_) | Self::Unknown => {
                let service = Self::Service.key(app)?;
                let wanted = self.key(app).ok();
                Ok(wanted.into_iter().chain([service]).chain(app.keys.all().cloned()).collect())
            }
        }
    }
}

fn no_key(uri: &str, reason: &str) -> Error {
    Error::NoKey { key: uri.to_owned(), reason: reason.to_owned() }
}

/// Does the job. Whatever key the row names by now is the one that the vault is brought under, so it does not matter which of several
/// changes a job was queued for, nor whether another process is at the same.
pub(super) async fn run(app: &Arc<App>, spec: &ChangeKeySpec) -> Result<Done, Fault> {
    // What another job here does need not be done once more; what is done elsewhere meanwhile, the engine and the loop get along with.
    let _alone = app.vaults.changing.lock().await;
    let granted = Granted::service();
    loop {
        let mut reader = app.db.read().await?;
        let row = db::vaults::get(&mut reader, &granted, &spec.vault_key).await?;
        drop(reader);
        let Some(row) = row else { return Ok(Done::completed()) };
        let guard = Guard::of_row(&row);
        let Some(uri) = guard.uri() else { return Ok(Done::completed()) };
        let key = app.keys.require(uri)?;
        let is_wanted = guard.is_wanted(app, &row.vault_uuid);
        let changed = app.vaults.change_key(app, &row.vault_uuid, key, is_wanted).await;
        if changed.map_err(|error| fault_of(&error))? && settle(app, &granted, spec, &guard).await? {
            tracing::info!(vault = spec.vault_key, key = uri, "the vault is guarded by this key and no other");
            return Ok(Done::completed());
        }
    }
}

/// Says in the row that the vault has the key. False: the row names another one by now.
async fn settle(app: &App, granted: &Granted, spec: &ChangeKeySpec, guard: &Guard) -> Result<bool, Fault> {
    let mut writer = app.db.write().await?;
    let Some(mut row) = db::vaults::get(&mut writer, granted, &spec.vault_key).await? else { return Ok(true) };
    let now = Guard::of_row(&row);
    if !now.is_same_key(guard) {
        return Ok(false);
    }
    if let Guard::Changing(_) = now {
        row.properties.set_guarded();
        row.updated_at = app.now();
        db::vaults::put_moved_on(&mut writer, granted, &row).await?;
        writer.commit().await?;
    }
    Ok(true)
}

fn fault_of(error: &Error) -> Fault {
    if let Some(error) = missing_key(error) {
        return Fault::Final(Box::new(error));
    }
    let told = Box::new(internal(&error.to_string()));
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Internal => Fault::Passing(told),
        _ => Fault::Final(told),
    }
}
