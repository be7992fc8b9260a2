//! The stage of the quickstart: the service in this process, and the accounts of its story (the built-in emulator, or folders). Everything
//! that is made lies in one temporary folder, unless a data folder was given. The user's own folder is only read.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use blobkeep_emulator::{Emulator, EmulatorOptions};
use blobkeep_server::{Config, Parts, Running};
use blobkeep_source::{Connection, LocalFolder};
use blobkeep_vault::Source;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::sample;
use crate::UsageError;
use crate::client::Client;

/// The account that is protected.
pub(super) const SAMPLE: &str = "sample";
/// An untouched copy of it, against which is compared. The service does not know it.
const REFERENCE: &str = "reference";
/// The account that is restored to.
pub(super) const RESTORED: &str = "restored";

/// What is protected and restored to, and how to look at both without the service.
pub(super) struct Accounts {
    /// `properties.connection` of the protected account.
    pub(super) source: Value,
    /// `properties.connection` of the account that is restored to.
    pub(super) target: Value,
    /// Only these containers are protected; `None` is all.
    pub(super) containers: Option<Vec<String>>,
    /// What the first point must hold.
    pub(super) expected: Arc<dyn Source>,
    /// What was restored.
    pub(super) restored: Arc<dyn Source>,
    /// What is protected, in words.
    pub(super) description: String,
    /// The built-in emulator, where it serves the accounts.
    pub(super) emulator: Option<Emulator>,
    /// Folders that the service may use.
    local_roots: Vec<PathBuf>,
    /// The folder that was restored to.
    pub(super) restored_folder: Option<PathBuf>,
}

/// Everything that runs and lies around while the story is told.
pub(super) struct Stage {
    /// The service.
    pub(super) running: Running,
    /// A client of it.
    pub(super) client: Client,
    /// The accounts.
    pub(super) accounts: Accounts,
    /// The service's data folder.
    pub(super) data_dir: PathBuf,
    /// The data folder was given and stays.
    pub(super) keeps_data: bool,
    /// Removed when the stage goes.
    scratch: TempDir,
}

impl Stage {
    /// Starts the accounts and the service.
    ///
    /// # Errors
    /// A folder that cannot be protected so, or a service that does not start.
    pub(super) async fn set(source: Option<&Path>, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let scratch = scratch_for(source)?;
        let accounts = match source {
            Some(folder) => of_folder(folder, &scratch.path().join("restored"))?,
            None => of_sample().await?,
        };
        let keeps_data = data_dir.is_some();
        // Shown to the user, who may go on in another folder.
        let data_dir = std::path::absolute(data_dir.map_or_else(|| scratch.path().join("data"), Path::to_owned))?;
        let mut config = Config::new(&data_dir);
        config.listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        config.local_roots.clone_from(&accounts.local_roots);
        let running = blobkeep_server::serve(config, Parts::default()).await?;
        let client = Client::new(blobkeep_server::client_env(&data_dir)?)?;
        Ok(Self { running, client, accounts, data_dir, keeps_data, scratch })
    }

    /// Stops everything and removes what is not to be kept.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        self.running.shutdown().await;
        if let Some(emulator) = self.accounts.emulator {
            emulator.stop().await;
        }
        self.scratch.close().context("the temporary folder cannot be removed")
    }
}

/// The built-in emulator with the sample.
async fn of_sample() -> anyhow::Result<Accounts> {
    let options = EmulatorOptions::with_accounts(&[SAMPLE, REFERENCE, RESTORED]);
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let emulator = Emulator::start(address, options).await.context("the built-in storage account does not start")?;
    let (blobs, bytes) = sample::fill(&emulator, &[SAMPLE, REFERENCE])?;
    let open = |account: &str| {
        anyhow::Ok(Connection::by_connection_string(&emulator.connection_string(account))?.open_source()?)
    };
    let connection =
        |account: &str| json!({ "kind": "AzureBlob", "connectionString": emulator.connection_string(account) });
    let (blobs, bytes) = (crate::output::counted(blobs, "blob"), crate::output::bytes(bytes));
    let containers = emulator.container_names(SAMPLE).join(", ");
    Ok(Accounts {
        source: connection(SAMPLE),
        target: connection(RESTORED),
        containers: None,
        expected: open(REFERENCE)?,
        restored: open(RESTORED)?,
        description: format!("a built-in sample account: {blobs}, {bytes}, in the containers {containers}"),
        emulator: Some(emulator),
        local_roots: Vec::new(),
        restored_folder: None,
    })
}

/// A folder of the user's own, and an empty one to restore to.
///
/// A connected folder is an account whose sub-folders are containers. So the folder above the user's is connected and only the user's
/// own is protected, as one container with all that is in it. Where its name is no container name, its sub-folders become containers.
fn of_folder(folder: &Path, restored: &Path) -> anyhow::Result<Accounts> {
    let shown = folder.display();
    let folder = folder.canonicalize().with_context(|| format!("--source {shown} cannot be opened"))?;
    if !folder.is_dir() {
        return Err(UsageError(format!("--source {shown} is not a folder")).into());
    }
    std::fs::create_dir_all(restored)?;
    let restored = restored.canonicalize()?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let is_legal = blobkeep_arm::instance::check_container_name(&name, "--source").is_ok();
    let (account, containers, expected): (PathBuf, _, Arc<dyn Source>) = match folder.parent() {
        Some(parent) if is_legal => {
            (parent.to_owned(), Some(vec![name.clone()]), Arc::new(LocalFolder::single(&folder, &name)?))
        }
        _ => {
            check_only_folders(&folder)?;
            (folder.clone(), None, Arc::new(LocalFolder::account(&folder)?))
        }
    };
    let connection = |path: &Path| json!({ "kind": "LocalFolder", "url": file_url(path) });
    Ok(Accounts {
        source: connection(&account),
        target: connection(&restored),
        containers,
        expected,
        restored: Arc::new(LocalFolder::account(&restored)?),
        description: format!("your folder {}, which is only read", folder.display()),
        emulator: None,
        local_roots: vec![account, restored.clone()],
        restored_folder: Some(restored),
    })
}

/// Files beside the sub-folders would be in no container.
fn check_only_folders(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            bail!(
                "the name of {} is no container name (3 to 63 lower-case letters, digits and single hyphens), and it holds files beside its \
                 sub-folders ({}): give a folder with such a name, or use `blobkeep offline backup --source`",
                folder.display(),
                entry.file_name().display()
            );
        }
    }
    Ok(())
}

fn file_url(path: &Path) -> String {
    let text = path.to_string_lossy();
    let parts: Vec<String> = text.split('/').map(crate::client::encode).collect();
    format!("file://{}", parts.join("/"))
}

/// A temporary folder that neither holds nor lies in the folder above the user's: the service refuses to protect its own data.
fn scratch_for(source: Option<&Path>) -> anyhow::Result<TempDir> {
    let make = |place: &Path| tempfile::Builder::new().prefix("blobkeep-quickstart-").tempdir_in(place);
    let Some(source) = source.and_then(|source| source.canonicalize().ok()) else {
        return make(&std::env::temp_dir()).context("no temporary folder can be made");
    };
    let above = source.parent().unwrap_or(&source).to_owned();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = [Some(std::env::temp_dir()), Some("/var/tmp".into()), Some("/dev/shm".into()), home];
    for place in places.into_iter().flatten() {
        let Ok(place) = place.canonicalize() else { continue };
        if !place.starts_with(&above)
            && let Ok(scratch) = make(&place)
        {
            return Ok(scratch);
        }
    }
    bail!("no temporary folder lies apart from {}: set TMPDIR to one that does", above.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_lies_apart_from_the_users_folder() {
        let root = tempfile::tempdir().unwrap();
        let mine = root.path().join("mine");
        std::fs::create_dir(&mine).unwrap();
        let scratch = scratch_for(Some(&mine)).unwrap();
        assert!(!scratch.path().starts_with(root.path().canonicalize().unwrap()));
    }

    #[test]
    fn a_folder_with_a_legal_name_is_one_container() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("mine")).unwrap();
        std::fs::write(root.path().join("mine/file"), "x").unwrap();
        let accounts = of_folder(&root.path().join("mine"), &root.path().join("restored")).unwrap();
        assert_eq!(accounts.containers, Some(vec!["mine".to_owned()]));
        std::fs::rename(root.path().join("mine"), root.path().join("My Files")).unwrap();
        let refused = of_folder(&root.path().join("My Files"), &root.path().join("restored"));
        assert!(refused.err().unwrap().to_string().contains("container name"));
        std::fs::remove_file(root.path().join("My Files/file")).unwrap();
        let accounts = of_folder(&root.path().join("My Files"), &root.path().join("restored")).unwrap();
        assert_eq!(accounts.containers, None);
        assert_eq!(file_url(Path::new("/a b/ü")), "file:///a%20b/%C3%BC");
    }
}
