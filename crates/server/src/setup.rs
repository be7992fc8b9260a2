//! The first start, and every later one: makes what is missing in the data folder, in an order in which a crash at any point is completed
//! by the next start.
//!
//! Nothing that exists is ever made anew here, except certificates that expire. A master key is never made for a database that exists.

mod master_key;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::auth::{Granted, roles};
use crate::db::principals::{Principal, PrincipalKind};
use crate::db::role_assignments::RoleAssignment;
use crate::db::subscriptions::Subscription;
use crate::db::{self, Database, Db, DbError, DbResult};
use crate::files::{private_dir, read_if_there, write_private};
use crate::identity::{Identity, IdentityError, new_secret};
use crate::pki::{PkiError, PkiFiles, ensure_key};
use crate::seal::SealError;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be read or written.
    #[error("cannot use {file}: {error}")]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another service works in the same folder.
    #[error(
        "the data folder {dir} is in use by another running service{holder}: stop it first, or use another --data-dir"
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// ` (process N)` if the lock says so.
        holder: String,
    },
    /// The database is there, its key is not.
    #[error(
        "{file} is missing but the database exists: put the master key back from your copy; without it no vault can be read"
    )]
    MasterKeyMissing {
        /// Where it should be.
        file: PathBuf,
    },
    /// The database was made with another key.
    #[error(
        "{file} is not the master key that the database was made with: put the right one there, or use the database that belongs to this \
         data folder"
    )]
    MasterKeyOfAnother {
        /// Which file.
        file: PathBuf,
    },
    /// The master key file does not hold a key.
    #[error("{file} does not hold a master key (one line of 64 hexadecimal digits)")]
    MasterKeyInvalid {
        /// Which file.
        file: PathBuf,
    },
    /// The file with the first client's secret cannot be read.
    #[error("{file} cannot be read: {reason}; remove it to have a new secret made at the next start")]
    ClientFile {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificates or keys.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Tokens.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Randomness or derivation.
    #[error("keys cannot be made: {0}")]
    Keys(#[from] SealError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What a client needs to talk to the service of a data folder.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ClientEnv {
    /// `AZURE_TENANT_ID`.
    pub tenant_id: String,
    /// `AZURE_CLIENT_ID`.
    pub client_id: String,
    /// `AZURE_CLIENT_SECRET`.
    pub client_secret: String,
    /// `AZURE_SUBSCRIPTION_ID`.
    pub subscription_id: String,
    /// `AZURE_AUTHORITY_HOST`: the same address.
    pub authority_host: String,
    /// Address of the running or last service, without a slash at the end.
    pub endpoint: String,
    /// The authority's certificate.
    pub ca_file: PathBuf,
    /// The system's roots and ours.
    pub bundle_file: PathBuf,
}

impl std::fmt::Debug for ClientEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientEnv")
            .field("endpoint", &self.endpoint)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// `client.json`: the first client, in clear, for `blobkeep env`.
#[derive(Clone, Serialize, Deserialize)]
struct ClientFile {
    tenant_id: String,
    subscription_id: String,
    client_id: String,
    object_id: String,
    client_secret: String,
}

/// Names of the files in the data folder.
pub(crate) mod names {
    pub(crate) const MASTER_KEY: &str = "master.key";
    pub(crate) const TOKEN_KEY: &str = "token.key";
    pub(crate) const CLIENT: &str = "client.json";
    pub(crate) const DATABASE: &str = crate::db::place::SQLITE_FILE;
    pub(crate) const ENDPOINT: &str = "endpoint";
    pub(crate) const LOCK: &str = "lock";
}

/// A data folder that is ready for use, and locked for this process.
#[derive(Debug)]
pub struct Installation {
    /// The database.
    pub db: Db,
    /// Tokens and secrets.
    pub identity: Identity,
    /// The master key, 32 bytes.
    pub master_key: Zeroizing<[u8; 32]>,
    /// The tenant's GUID.
    pub tenant_id: String,
    /// The GUID of the subscription that is there from the start.
    pub default_subscription_id: String,
    /// Held as long as the folder is used.
    pub lock: File,
}

/// What a client of the service of `data_dir` needs.
///
/// # Errors
/// [`SetupError`] when the service was never started there or its files cannot be read.
pub fn client_env(data_dir: &Path) -> Result<ClientEnv, SetupError> {
    let file = data_dir.join(names::CLIENT);
    let client = read_client(&file)?.ok_or_else(|| SetupError::File {
        file: file.clone(),
        error: io::Error::new(io::ErrorKind::NotFound, "no service was started with this data folder yet"),
    })?;
    let endpoint_file = data_dir.join(names::ENDPOINT);
    let endpoint = at(&endpoint_file, read_if_there(&endpoint_file))?.unwrap_or_default().trim().to_owned();
    if endpoint.is_empty() {
        let error = io::Error::new(io::ErrorKind::NotFound, "no service was started with this data folder yet");
        return Err(SetupError::File { file: endpoint_file, error });
    }
    let pki = PkiFiles::of(data_dir);
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    Ok(ClientEnv {
        tenant_id: client.tenant_id,
        client_id: client.client_id,
        client_secret: client.client_secret,
        subscription_id: client.subscription_id,
        authority_host: endpoint.clone(),
        endpoint,
        ca_file: absolute(pki.ca()),
        bundle_file: absolute(pki.bundle()),
    })
}

/// Opens a data folder and its database, making whatever is missing.
///
/// # Errors
/// [`SetupError`] naming the file and what to do.
pub async fn open(data_dir: &Path, database: &Database, now: i64) -> Result<Installation, SetupError> {
    at(data_dir, private_dir(data_dir))?;
    let lock = take_lock(data_dir)?;
    let (db, master_key) = open_database(data_dir, database).await?;
    let signing_key = ensure_key(&data_dir.join(names::TOKEN_KEY))?;
    let (tenant_id, default_subscription_id) = ensure_tenant(&db, now).await?;
    let identity = Identity::new(&signing_key, master_key.as_slice(), &tenant_id)?;
    master_key::check(data_dir, &db, &identity).await?;
    let client = ensure_client_file(data_dir, &db, &tenant_id, &default_subscription_id).await?;
    ensure_first_principal(&db, &identity, &client, now).await?;
    Ok(Installation { db, identity, master_key, tenant_id, default_subscription_id, lock })
}

fn at<T>(file: &Path, result: io::Result<T>) -> Result<T, SetupError> {
    result.map_err(|error| SetupError::File { file: file.to_owned(), error })
}

/// The kernel drops this lock when the process ends, however it ends.
fn take_lock(data_dir: &Path) -> Result<File, SetupError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = data_dir.join(names::LOCK);
    let opened =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
    let mut lock = at(&file, opened)?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = read_if_there(&file).ok().flatten().unwrap_or_default();
            let holder = holder.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(SetupError::InUse { dir: data_dir.to_owned(), holder });
        }
        Err(error) => return at(&file, Err(error.into())),
    }
    at(&file, lock.set_len(0))?;
    at(&file, writeln!(lock, "{}", std::process::id()))?;
    Ok(lock)
}

/// The database with its master key, which is made with it.
async fn open_database(data_dir: &Path, database: &Database) -> Result<(Db, Zeroizing<[u8; 32]>), SetupError> {
    match database {
        Database::Sqlite => {
            let file = data_dir.join(names::DATABASE);
            let is_in_use = file.metadata().is_ok_and(|found| found.len() > 0);
            let master_key = master_key::ensure(data_dir, is_in_use)?;
            ensure_private_file(&file)?;
            Ok((Db::open(&file).await?, master_key))
        }
        Database::Postgres(url) => {
            let db = Db::open_postgres(url).await?;
            let mut reader = db.read().await?;
            let tenant = db::meta::get(&mut reader, db::meta::TENANT_ID).await;
            drop(reader);
            let master_key =
                tenant.map_err(SetupError::from).and_then(|found| master_key::ensure(data_dir, found.is_some()));
            if master_key.is_err() {
                db.close().await;
            }
            Ok((db, master_key?))
        }
    }
}

/// SQLite makes its files with the rights of the main one.
fn ensure_private_file(file: &Path) -> Result<(), SetupError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    at(file, std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)).map(drop)
}

/// Tenant, default subscription and its row, in one transaction.
async fn ensure_tenant(db: &Db, now: i64) -> DbResult<(String, String)> {
    let mut tx = db.write().await?;
    let tenant_id = ensure_guid(&mut tx, db::meta::TENANT_ID).await?;
    let subscription_id = ensure_guid(&mut tx, db::meta::DEFAULT_SUBSCRIPTION_ID).await?;
    let subscription =
        Subscription { id: subscription_id.clone(), display_name: "Blobkeep".to_owned(), created_at: now };
    db::subscriptions::create(&mut tx, &subscription).await?;
    tx.commit().await?;
    Ok((tenant_id, subscription_id))
}

async fn ensure_guid(conn: &mut db::Conn, key: &str) -> DbResult<String> {
    if let Some(found) = db::meta::get(conn, key).await? {
        return Ok(found);
    }
    let made = Uuid::new_v4().to_string();
    db::meta::set(conn, key, &made).await?;
    Ok(made)
}

fn read_client(file: &Path) -> Result<Option<ClientFile>, SetupError> {
    let Some(text) = at(file, read_if_there(file))? else { return Ok(None) };
    let read = serde_json::from_str(&text);
    read.map(Some).map_err(|e| SetupError::ClientFile { file: file.to_owned(), reason: e.to_string() })
}

/// Written before the principal: a crash between the two leaves a file from which the next start makes the same principal.
async fn ensure_client_file(
    data_dir: &Path,
    db: &Db,
    tenant_id: &str,
    subscription_id: &str,
) -> Result<ClientFile, SetupError> {
    let file = data_dir.join(names::CLIENT);
    if let Some(client) = read_client(&file)?
        && client.tenant_id == tenant_id
    {
        return Ok(client);
    }
    let mut reader = db.read().await?;
    // Who removed the file gets the same principal with a new secret.
    let known = match db::meta::get(&mut reader, FIRST_PRINCIPAL).await? {
        Some(object_id) => db::principals::by_object_id(&mut reader, &object_id).await?,
        None => None,
    };
    let new_id = || Uuid::new_v4().to_string();
    let client = ClientFile {
        tenant_id: tenant_id.to_owned(),
        subscription_id: subscription_id.to_owned(),
        client_id: known.as_ref().map_or_else(new_id, |p| p.app_id.clone()),
        object_id: known.as_ref().map_or_else(new_id, |p| p.object_id.clone()),
        client_secret: new_secret()?,
    };
    let reason = |e: serde_json::Error| SetupError::ClientFile { file: file.clone(), reason: e.to_string() };
    let mut text = Zeroizing::new(serde_json::to_string_pretty(&client).map_err(reason)?);
    text.push('\n');
    at(&file, write_private(&file, text.as_bytes()))?;
    Ok(client)
}

/// `meta`: the object id of the principal that owned everything at first.
const FIRST_PRINCIPAL: &str = "first_principal_id";
/// Its name.
const FIRST_PRINCIPAL_NAME: &str = "blobkeep-owner";

/// Makes the principal of `client.json` and gives it everything, once; later only keeps its secret equal to the file's.
async fn ensure_first_principal(db: &Db, identity: &Identity, client: &ClientFile, now: i64) -> DbResult<()> {
    let hash = identity.secret_hash(&client.client_secret);
    let mut tx = db.write().await?;
    if db::meta::get(&mut tx, FIRST_PRINCIPAL).await?.is_some() {
        db::principals::set_secret_hash(&mut tx, &client.object_id, &hash).await?;
        return tx.commit().await;
    }
    let principal = Principal {
        object_id: client.object_id.clone(),
        app_id: client.client_id.clone(),
        name: FIRST_PRINCIPAL_NAME.to_owned(),
        kind: PrincipalKind::Application,
        resource_key: None,
        created_at: now,
    };
    db::principals::create(&mut tx, &principal, Some(&hash)).await?;
    let name = Uuid::new_v4().to_string();
    let assignment = RoleAssignment {
        id: format!("/providers/Microsoft.Authorization/roleAssignments/{name}"),
        name,
        scope: "/".to_owned(),
        role: roles::OWNER.to_owned(),
        principal_id: principal.object_id.clone(),
        principal_type: "ServicePrincipal".to_owned(),
        description: Some("made at the first start".to_owned()),
        created_by: principal.object_id.clone(),
        created_at: now,
        updated_at: now,
    };
    db::role_assignments::create(&mut tx, &Granted::service(), &assignment).await?;
    db::meta::set(&mut tx, FIRST_PRINCIPAL, &principal.object_id).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Installation, SetupError, client_env, names, read_client};
    use crate::db::{self, Database};

    const NOW: i64 = 1_700_000_000_000_000;

    async fn open(dir: &Path, now: i64) -> Result<Installation, SetupError> {
        super::open(dir, &Database::Sqlite, now).await
    }

    /// Everything that must not change over starts.
    async fn facts(dir: &Path, installation: &Installation) -> (String, String, String, String, Vec<(String, String)>) {
        let client = read_client(&dir.join(names::CLIENT)).unwrap().unwrap();
        let mut reader = installation.db.read().await.unwrap();
        let (principal, hash) = db::principals::by_app_id(&mut reader, &client.client_id).await.unwrap().unwrap();
        assert!(installation.identity.secret_matches(&client.client_secret, &hash.unwrap()));
        let rights = db::role_assignments::of_principal(&mut reader, &principal.object_id).await.unwrap();
        let rights = rights.into_iter().map(|given| (given.scope_key, given.role)).collect();
        (
            installation.tenant_id.clone(),
            installation.default_subscription_id.clone(),
            client.client_id,
            principal.object_id,
            rights,
        )
    }

    async fn start(dir: &Path) -> (String, String, String, String, Vec<(String, String)>) {
        let installation = open(dir, NOW).await.unwrap();
        let facts = facts(dir, &installation).await;
        installation.db.close().await;
        facts
    }

    #[tokio::test]
    async fn a_second_start_finds_everything_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path()).await;
        assert_eq!(first.4, [("/".to_owned(), crate::auth::roles::OWNER.to_owned())]);
        assert_eq!(start(dir.path()).await, first);
    }

    #[tokio::test]
    async fn only_the_owner_can_read_what_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        start(&data).await;
        assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for entry in std::fs::read_dir(&data).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{:?} has {mode:o}", entry.file_name());
        }
    }

    #[tokio::test]
    async fn a_first_start_that_stopped_after_any_file_is_completed() {
        // The order in which the files are made; a crash leaves the first n of them.
        let order = [names::MASTER_KEY, names::TOKEN_KEY, names::DATABASE, names::CLIENT];
        for kept in 0..=order.len() {
            let dir = tempfile::tempdir().unwrap();
            start(dir.path()).await;
            for name in &order[kept..] {
                std::fs::remove_file(dir.path().join(name)).unwrap();
                if *name == names::DATABASE {
                    for suffix in ["-wal", "-shm"] {
                        let _ = std::fs::remove_file(dir.path().join(format!("{name}{suffix}")));
                    }
                }
            }
            let completed = start(dir.path()).await;
            assert_eq!(start(dir.path()).await, completed, "after {kept} files");
        }
    }

    #[tokio::test]
    async fn a_crash_between_the_clients_file_and_its_row_keeps_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path()).await;
        let installation = open(dir.path(), NOW).await.unwrap();
        let mut tx = installation.db.write().await.unwrap();
        db::principals::delete(&mut tx, &first.3).await.unwrap();
        db::meta::remove(&mut tx, super::FIRST_PRINCIPAL).await.unwrap();
        tx.commit().await.unwrap();
        installation.db.close().await;
        drop(installation);
        assert_eq!(start(dir.path()).await, first);
    }

    #[tokio::test]
    async fn a_removed_clients_file_gives_the_same_principal_a_new_secret() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path()).await;
        let secret = read_client(&dir.path().join(names::CLIENT)).unwrap().unwrap().client_secret;
        std::fs::remove_file(dir.path().join(names::CLIENT)).unwrap();
        assert_eq!(start(dir.path()).await, first);
        assert_ne!(read_client(&dir.path().join(names::CLIENT)).unwrap().unwrap().client_secret, secret);
    }

    #[tokio::test]
    async fn a_folder_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path(), NOW).await.unwrap();
        let error = open(dir.path(), NOW).await.unwrap_err();
        assert!(matches!(error, SetupError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
    }

    #[tokio::test]
    async fn a_lost_master_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path()).await;
        std::fs::remove_file(dir.path().join(names::MASTER_KEY)).unwrap();
        assert!(matches!(open(dir.path(), NOW).await.unwrap_err(), SetupError::MasterKeyMissing { .. }));
        assert!(!dir.path().join(names::MASTER_KEY).exists());
        std::fs::write(dir.path().join(names::MASTER_KEY), "not a key").unwrap();
        assert!(matches!(open(dir.path(), NOW).await.unwrap_err(), SetupError::MasterKeyInvalid { .. }));
    }

    #[test]
    fn the_environment_of_a_folder_without_service_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(client_env(dir.path()).unwrap_err().to_string().contains("no service was started"));
    }
}
