//! The engine's vaults of this service: one for each backup vault, made when it is first needed, in a folder of the store that is named
//! after the vault's own id.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::store::layer::SubStore;
use blobkeep_vault::store::local::LocalStore;
use blobkeep_vault::store::object::{AzureContainer, CloudStore};
use blobkeep_vault::{Clock, Error, ErrorKind, MasterKey, Result, Store, StoreError, StoreErrorKind, Timestamp, Vault};
use tokio::sync::Mutex;

use super::fault::{Fault, internal, missing_key, of_engine};
use super::immutability;
use super::keys::Guard;
use crate::App;
use crate::config::Config;

/// Where vaults lie in the data folder by default.
const FOLDER: &str = "vaults";
/// Vaults kept open, each with its cache of index blocks, while nobody uses them.
const OPEN_AT_MOST: usize = 8;

/// The open vaults.
#[derive(Default)]
pub struct Vaults {
    open: Mutex<Open>,
    /// Held by the one job of this process that gives a vault another key, from reading what is wanted until it is said to be so.
    pub(super) changing: Mutex<()>,
}

/// By the vault's id.
type Open = HashMap<String, Arc<Vault>>;

impl std::fmt::Debug for Vaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vaults")
    }
}

impl Vaults {
    /// The vault of that id, if it was made.
    pub(crate) async fn find(&self, app: &App, vault_uuid: &str) -> Result<Option<Arc<Vault>>> {
        match self.open(app, vault_uuid, false).await {
            Ok(vault) => Ok(Some(vault)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The vault of that id, made if it is not there.
    pub(crate) async fn find_or_make(&self, app: &App, vault_uuid: &str) -> Result<Arc<Vault>> {
        self.open(app, vault_uuid, true).await
    }

    /// Like [`Self::find_or_make`], in the words of a job.
    pub(super) async fn for_job(&self, app: &App, vault_uuid: &str) -> Result<Arc<Vault>, Fault> {
        self.find_or_make(app, vault_uuid).await.map_err(|e: Error| {
            tracing::error!(vault = vault_uuid, error = %e, "the vault cannot be opened");
            if let Some(error) = missing_key(&e) {
                return Fault::Final(Box::new(error));
            }
            match of_engine(&e, "") {
                Fault::Final(_) => Fault::Final(Box::new(internal(&e.to_string()))),
                other => other,
            }
        })
    }

    /// Removes the vault of that id with everything in it, for good. Nobody may be at work in it. Safe to repeat.
    pub(super) async fn remove(&self, app: &App, vault_uuid: &str) -> Result<()> {
        // What lies beside the vault in the store is not to be named by mistake.
        uuid::Uuid::try_parse(vault_uuid)
            .map_err(|e| Error::Internal(format!("no vault is called {vault_uuid:?}: {e}")))?;
        self.open.lock().await.remove(vault_uuid);
        remove_files(&app.config, vault_uuid).await?;
        // Whoever looked meanwhile holds nothing that is there.
        self.open.lock().await.remove(vault_uuid);
        Ok(())
    }

    /// Gives the vault of that id this key and no other; a vault that was not made yet is made under it when it is needed. False: the key
    /// was no longer the one that is wanted, and others may open the vault, too.
    pub(super) async fn change_key(
        &self,
        app: &App,
        vault_uuid: &str,
        key: &MasterKey,
        is_wanted: impl Future<Output = Result<bool>>,
    ) -> Result<bool> {
        // Nobody opens it meanwhile, and finds the slots half changed.
        let mut open = self.open.lock().await;
        let vault = match open_in(&mut open, app, vault_uuid, false).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
            vault => vault?,
        };
        let is_done = vault.change_key(key, is_wanted).await?;
        // What was noticed of its slots when it was opened is no longer so.
        open.remove(vault_uuid);
        Ok(is_done)
    }

    async fn open(&self, app: &App, vault_uuid: &str, make: bool) -> Result<Arc<Vault>> {
        open_in(&mut *self.open.lock().await, app, vault_uuid, make).await
    }
}

async fn open_in(open: &mut Open, app: &App, vault_uuid: &str, make: bool) -> Result<Arc<Vault>> {
    if let Some(vault) = open.get(vault_uuid) {
        return Ok(vault.clone());
    }
    let store = match store(&app.config, vault_uuid, make) {
        // Nothing is damaged: there never was one, or it has gone.
        Err(e) if e.kind == StoreErrorKind::NotFound => return Err(Error::NotFound(e.to_string())),
        store => store?,
    };
    let mut guard = Guard::of(app, vault_uuid).await?;
    let vault = loop {
        match guard.open(app, &store).await {
            Err(e) if make && e.kind() == ErrorKind::NotFound => {
                break make_in(store, app, vault_uuid, guard).await?;
            }
            Err(e) if e.kind() == ErrorKind::WrongKey => {
                // Another process may have given it another key since the row was read.
                let now = Guard::of(app, vault_uuid).await?;
                if now == guard {
                    return Err(e);
                }
                guard = now;
            }
            opened => break opened?,
        }
    };
    // Before anybody uses it: a vault that was just made, or that nobody could tell before, knows what its row promises.
    // A store that takes no writes must not keep anybody from restoring; what removes something records it first, or fails.
    if let Err(error) = immutability::record(app, &vault, vault_uuid).await {
        tracing::warn!(%error, vault = vault_uuid, "the vault's immutability cannot be written into its own records now");
    }
    let vault = Arc::new(vault);
    if open.len() >= OPEN_AT_MOST {
        // Those that no job uses are opened again when they are needed.
        open.retain(|_, vault| Arc::strong_count(vault) > 1);
    }
    open.insert(vault_uuid.to_owned(), vault.clone());
    Ok(vault)
}

/// Makes the vault under the key that guards it, also if that is another one by the time that the vault is there: who changed it may
/// not have found it yet.
async fn make_in(store: Arc<dyn Store>, app: &App, vault_uuid: &str, guard: Guard) -> Result<Vault> {
    tracing::info!(vault = vault_uuid, store = store.describe(), "a vault is made");
    let vault = Vault::init(store, &guard.key(app)?, ChunkSizes::default(), Timestamp(app.now())).await?;
    let mut made_for = guard;
    loop {
        let now = Guard::of(app, vault_uuid).await?;
        if now == made_for {
            return Ok(vault);
        }
        vault.change_key(&now.key(app)?, now.is_wanted(app, vault_uuid)).await?;
        made_for = now;
    }
}

fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

/// The place of one vault.
fn store(config: &Config, vault_uuid: &str, make: bool) -> Result<Arc<dyn Store>, StoreError> {
    let place = config.store.as_deref().unwrap_or_default();
    if is_url(place) {
        return Ok(Arc::new(SubStore::new(Arc::new(CloudStore::azure(&azure_container(place)?)?), vault_uuid)));
    }
    let folder = folder(config, vault_uuid);
    if !make && !folder.exists() {
        let message = format!("there is no vault in {}", folder.display());
        return Err(StoreError::new(StoreErrorKind::NotFound, message));
    }
    Ok(Arc::new(LocalStore::open(folder)?))
}

/// Removes all files of one vault.
async fn remove_files(config: &Config, vault_uuid: &str) -> Result<(), StoreError> {
    if !is_url(config.store.as_deref().unwrap_or_default()) {
        let folder = folder(config, vault_uuid);
        let shown = folder.display().to_string();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
        return match removed.map_err(std::io::Error::from).flatten() {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::new(StoreErrorKind::Other, format!("cannot remove the folder {shown}: {e}")))
            }
            _ => Ok(()),
        };
    }
    let store = store(config, vault_uuid, false)?;
    let mut after: Option<String> = None;
    loop {
        let files = store.list("", after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(()) };
        after = Some(last.name.clone());
        for file in &files {
            store.delete(&file.name).await?;
        }
    }
}

/// Where a vault lies if the store is a folder.
fn folder(config: &Config, vault_uuid: &str) -> PathBuf {
    let place = config.store.as_deref().unwrap_or_default();
    let root = match place.strip_prefix("file://").unwrap_or(place) {
        "" => config.data_dir.join(FOLDER),
        path => path.into(),
    };
    root.join(vault_uuid)
}

/// Reads `https://account.blob.core.windows.net/container[/folder]?SAS`, or the path style of emulators.
fn azure_container(url: &str) -> Result<AzureContainer, StoreError> {
    let wrong = |reason: &str| {
        StoreError::new(
            StoreErrorKind::Other,
            format!("the store is not the URL of a container with its SAS: {reason}"),
        )
    };
    let (address, sas) = url.split_once('?').ok_or_else(|| wrong("there is no SAS after a question mark"))?;
    let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong("there is no scheme"))?;
    let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("there is no container"))?;
    let host = authority.split(':').next().unwrap_or_default();
    let is_path_style = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (account, endpoint) = if is_path_style {
        let account = parts.next().ok_or_else(|| wrong("there is no account"))?;
        (account.to_owned(), format!("{scheme}://{authority}/{account}"))
    } else {
        (host.split('.').next().unwrap_or_default().to_owned(), format!("{scheme}://{authority}"))
    };
    let container = parts.next().ok_or_else(|| wrong("there is no container"))?.to_owned();
    let folder = parts.collect::<Vec<_>>().join("/");
    Ok(AzureContainer { account, endpoint, container, folder, account_key: None, sas: Some(sas.to_owned()) })
}

/// The service's clock as the engine knows it.
pub(super) struct EngineClock<'a>(pub(super) &'a App);

impl Clock for EngineClock<'_> {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now())
    }
}
