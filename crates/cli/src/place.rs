//! Places named on the command line: stores, sources and targets. Turns their text into what the engine can open, and refuses a source
//! or target that lies in the store (or the other way round). Messages never hold a SAS or a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use blobkeep_source::{Credential, Location};
use blobkeep_vault::Store;
use blobkeep_vault::store::local::LocalStore;
use blobkeep_vault::store::object::{AzureContainer, CloudStore};

use crate::{UsageError, secret};

/// The environment variable that names an account as source or target.
pub(crate) const CONNECTION_STRING: &str = "BLOBKEEP_CONNECTION_STRING";

/// The source or target of a flag, or the account of [`CONNECTION_STRING`] without one.
///
/// # Errors
/// [`UsageError`] if neither is given; what is wrong with the text otherwise.
pub(crate) fn location(given: Option<&str>, flag: &str) -> anyhow::Result<Location> {
    if let Some(given) = given {
        let text = secret::read_place(given, flag)?;
        return text.parse::<Location>().with_context(|| format!("{flag} cannot be used"));
    }
    match account_of_environment()? {
        Some(account) => Ok(account),
        None => {
            Err(UsageError(format!("give {flag}, or an account by its connection string in {CONNECTION_STRING}"))
                .into())
        }
    }
}

fn account_of_environment() -> anyhow::Result<Option<Location>> {
    let Ok(text) = std::env::var(CONNECTION_STRING) else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let account =
        Location::by_connection_string(&text).with_context(|| format!("{CONNECTION_STRING} cannot be used"))?;
    Ok(Some(account))
}

/// Where a vault's files lie.
#[derive(Clone)]
pub(crate) enum StorePlace {
    /// A folder.
    Folder(PathBuf),
    /// A container of an Azure Blob endpoint, or a folder in one.
    Azure(AzureContainer),
}

impl StorePlace {
    /// Reads the text of `--store`: a path, `file:///…`, or the URL of an Azure container (and a folder in it) with its SAS. Without a
    /// SAS the key of [`CONNECTION_STRING`] is used if that is the same account.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(given: &str) -> anyhow::Result<Self> {
        let text = secret::read_place(given, "--store")?;
        if text.starts_with("https://") || text.starts_with("http://") {
            let mut container = azure_container(&text)?;
            if container.sas.is_none() {
                container.account_key = key_of_environment(&container.endpoint)?;
            }
            if container.sas.is_none() && container.account_key.is_none() {
                bail!(
                    "the store {}/{} needs a credential: append its SAS to the address, or set {CONNECTION_STRING} for that account",
                    container.endpoint,
                    container.container
                );
            }
            return Ok(Self::Azure(container));
        }
        match text.parse::<Location>().context("--store cannot be used")? {
            Location::Folder(path) => Ok(Self::Folder(path)),
            Location::Azure(_) => {
                bail!("--store takes a folder or the address of a container, not a connection string")
            }
        }
    }

    /// Opens the store. A folder that is not there is made only if `may_make` says so.
    ///
    /// # Errors
    /// What the system or the endpoint says.
    pub(crate) fn open(&self, may_make: bool) -> anyhow::Result<Arc<dyn Store>> {
        match self {
            Self::Folder(path) => {
                let is_vault = ["vault.json", "vault.json.copy"].iter().any(|name| path.join(name).is_file());
                if !may_make && !is_vault {
                    bail!("there is no vault in {}: make one with `blobkeep offline init`", path.display());
                }
                Ok(Arc::new(LocalStore::open(path)?))
            }
            Self::Azure(container) => Ok(Arc::new(CloudStore::azure(container)?)),
        }
    }

    /// Refuses a source or target that is the store, lies in it, or holds it: the vault would back itself up, or be written over.
    ///
    /// # Errors
    /// [`UsageError`] naming both.
    pub(crate) fn check_apart_from(&self, other: &Location, flag: &str) -> anyhow::Result<()> {
        let is_shared = match (self, other) {
            (Self::Folder(store), Location::Folder(other)) => {
                let (store, other) = (resolved(store), resolved(other));
                store.starts_with(&other) || other.starts_with(&store)
            }
            (Self::Azure(store), Location::Azure(other)) => {
                let is_same_account = store.endpoint.eq_ignore_ascii_case(&other.endpoint.url());
                is_same_account && other.container.as_ref().is_some_and(|container| *container == store.container)
            }
            _ => false,
        };
        if is_shared {
            let text = format!(
                "{flag} ({other}) and --store overlap: a vault needs a place of its own, apart from what it protects"
            );
            return Err(UsageError(text).into());
        }
        Ok(())
    }
}

/// The path without symbolic links and dots, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = absolute.clone();
    let mut rest = Vec::new();
    loop {
        if let Ok(found) = existing.canonicalize() {
            return rest.iter().rev().fold(found, |path, part| path.join(part));
        }
        match (existing.file_name().map(ToOwned::to_owned), existing.parent().map(ToOwned::to_owned)) {
            (Some(name), Some(parent)) => {
                rest.push(name);
                existing = parent;
            }
            _ => return absolute,
        }
    }
}

fn key_of_environment(endpoint: &str) -> anyhow::Result<Option<String>> {
    let Some(Location::Azure(options)) = account_of_environment()? else { return Ok(None) };
    if !options.endpoint.url().eq_ignore_ascii_case(endpoint) {
        return Ok(None);
    }
    Ok(match &options.credential {
        Credential::AccountKey { key, .. } => Some(key.reveal().to_owned()),
        _ => None,
    })
}

/// Splits `https://account.blob.core.windows.net/container[/folder]?sas` and `http://127.0.0.1:10000/account/container[/folder]?sas`.
fn azure_container(url: &str) -> anyhow::Result<AzureContainer> {
    let (address, sas) = url.split_once('?').map_or((url, None), |(address, sas)| (address, Some(sas)));
    let wrong = |why: &str| anyhow::anyhow!("--store {address} is no address of a container: {why}");
    let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let authority = parts.next().ok_or_else(|| wrong("it has no host"))?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let (account, endpoint) = if host.contains(".blob.") {
        let account = host.split('.').next().unwrap_or_default().to_owned();
        (account, format!("{scheme}://{authority}"))
    } else {
        let account = parts.next().ok_or_else(|| wrong("the account's name is missing after the host"))?;
        (account.to_owned(), format!("{scheme}://{authority}/{account}"))
    };
    let container = parts.next().ok_or_else(|| wrong("the container is missing"))?.to_owned();
    let folder = parts.collect::<Vec<_>>().join("/");
    let sas = sas.filter(|sas| !sas.is_empty()).map(str::to_owned);
    Ok(AzureContainer { account, endpoint, container, folder, account_key: None, sas })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_containers_are_split() {
        let cases = [
            (
                "https://acc.blob.core.windows.net/vaults?sv=1&sig=x",
                ("acc", "https://acc.blob.core.windows.net", "vaults", ""),
            ),
            (
                "https://acc.blob.core.windows.net/vaults/a/b/?sig=x",
                ("acc", "https://acc.blob.core.windows.net", "vaults", "a/b"),
            ),
            ("http://127.0.0.1:10000/dev/vaults/x?sig=x", ("dev", "http://127.0.0.1:10000/dev", "vaults", "x")),
            ("http://[::1]:10000/dev/vaults?sig=x", ("dev", "http://[::1]:10000/dev", "vaults", "")),
        ];
        for (url, expected) in cases {
            let found = azure_container(url).unwrap();
            let found_parts =
                (found.account.as_str(), found.endpoint.as_str(), found.container.as_str(), found.folder.as_str());
            assert_eq!(found_parts, expected, "{url}");
            assert!(found.sas.unwrap().contains("sig=x"));
        }
        let Err(error) = azure_container("http://127.0.0.1:10000/dev?sig=hidden") else { panic!("no container") };
        assert!(!error.to_string().contains("hidden"));
    }

    #[test]
    fn a_store_and_what_it_protects_lie_apart() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data")).unwrap();
        std::os::unix::fs::symlink(root.path().join("data"), root.path().join("link")).unwrap();
        let at = |name: &str| root.path().join(name);
        let overlap = |store: &str, other: &str| {
            StorePlace::Folder(at(store)).check_apart_from(&Location::Folder(at(other)), "--source").is_err()
        };
        assert!(overlap("data", "data"));
        assert!(overlap("data/vault", "data"));
        assert!(overlap("data", "data/inner/deeper"));
        assert!(overlap("link/vault", "data"), "through a symbolic link");
        assert!(!overlap("vault", "data"));
        assert!(!overlap("data2", "data"), "names that merely begin alike");
    }
}
