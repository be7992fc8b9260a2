//! The service: identity, API, database, jobs.
//!
//! `serve` opens the data folder (making what is missing), binds the address and answers. Life of a request: `api::front` parses, finds
//! the route, authenticates and authorizes; a handler in `api/` changes rows in `db/` and enqueues jobs; `jobs/` does the work. Only `jobs/`
//! speaks the engine's language. Nothing here prints: messages go to `tracing`, results to the caller.

pub mod accounts;
pub mod api;
pub mod auth;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
mod files;
pub mod identity;
pub mod jobs;
pub mod keys;
pub mod pki;
pub mod seal;
pub mod setup;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::handler::Handler as _;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use blobkeep_vault::MasterKey;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::accounts::AccountBrowser;
use crate::clock::{Clock, SystemClock};
pub use crate::config::Config;
use crate::db::Db;
use crate::identity::Identity;
use crate::keys::KeyRing;
use crate::seal::Sealer;
use crate::setup::SetupError;
pub use crate::setup::{ClientEnv, client_env};

/// How long running requests may go on after the service was told to stop.
const SHUTDOWN_SECONDS: u64 = 10;

/// Why the service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A file of the data folder.
    #[error("cannot write {file}: {error}")]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A storage account of the configuration.
    #[error("[[storage_account]] {id}: {reason}")]
    StorageAccount {
        /// Its id as configured.
        id: String,
        /// What does not fit.
        reason: String,
    },
    /// A key of the configuration.
    #[error("[[encryption_key]] {uri}: {error}")]
    EncryptionKey {
        /// Its URI as configured.
        uri: String,
        /// What does not fit.
        #[source]
        error: keys::KeyError,
    },
    /// The server ended by itself.
    #[error("the server stopped: {0}")]
    Stopped(String),
}

impl From<seal::SealError> for ServeError {
    fn from(error: seal::SealError) -> Self {
        Self::Setup(SetupError::Keys(error))
    }
}

impl From<db::DbError> for ServeError {
    fn from(error: db::DbError) -> Self {
        Self::Setup(SetupError::Db(error))
    }
}

/// What a process puts into the service beside its configuration.
#[derive(Clone, Default)]
pub struct Parts {
    /// The clock; the machine's by default.
    pub clock: Option<Arc<dyn Clock>>,
    /// Looks into storage accounts for `blobServices/default/containers`.
    pub browser: Option<Arc<dyn AccountBrowser>>,
    /// Opens accounts that the process brings along; all others are opened by their connections.
    pub opener: Option<Arc<dyn jobs::AccountOpener>>,
    /// Nothing is done in the background: who sets the clock does the work of each instant with [`jobs::tick`].
    pub by_hand: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("clock", &self.clock)
            .field("browser", &self.browser.is_some())
            .field("opener", &self.opener.is_some())
            .field("by_hand", &self.by_hand)
            .finish()
    }
}

/// Everything that handlers and jobs share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The clock. Handlers use the time of their request instead.
    pub clock: Arc<dyn Clock>,
    /// Tokens and secrets.
    pub identity: Identity,
    /// Seals connection secrets.
    pub sealer: Sealer,
    /// The vaults' master key, 32 bytes.
    pub master_key: Zeroizing<[u8; 32]>,
    /// Keys of the owners of vaults.
    pub keys: KeyRing,
    /// The subscription that is there from the start.
    pub default_subscription_id: String,
    /// Looks into storage accounts, where one was given.
    pub browser: Option<Arc<dyn AccountBrowser>>,
    /// Opens accounts that the process brings along.
    pub opener: Option<Arc<dyn jobs::AccountOpener>>,
    /// The engine's vaults.
    pub vaults: jobs::Vaults,
    /// What holds jobs back.
    pub limits: jobs::Limits,
    /// `https://host:port` without a slash at the end: what tracking URLs begin with unless the request names another of our hosts.
    pub base_url: String,
    /// The port that is listened on.
    pub port: u16,
    /// All routes.
    pub(crate) routes: Vec<&'static api::Route>,
    /// Held while the data folder is used.
    _lock: File,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("base_url", &self.base_url)
            .field("data_dir", &self.config.data_dir)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Now, in microseconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now_micros()
    }

    /// The tenant's GUID.
    pub fn tenant_id(&self) -> &str {
        self.identity.tenant_id()
    }

    /// The addresses by which this service is reached, lower case, without a slash at the end.
    pub fn own_urls(&self) -> Vec<String> {
        let names = ["localhost", "127.0.0.1", "[::1]"].into_iter().map(str::to_owned);
        let names = names.chain(self.config.hostnames.iter().map(|name| url_host(name)));
        let mut urls: Vec<String> = names.map(|name| format!("https://{name}:{}", self.port)).collect();
        urls.push(self.base_url.to_ascii_lowercase());
        urls
    }

    /// The front of absolute URLs in the answer to a request that was sent to `host` (the `Host` header).
    ///
    /// The configured public address wins; a host that is not ours is not echoed, so that nobody can be sent elsewhere.
    pub fn base_url_for(&self, host: Option<&str>) -> String {
        if self.config.public_url.is_some() {
            return self.base_url.clone();
        }
        let asked = host.map(|host| format!("https://{}", host.to_ascii_lowercase()));
        match asked {
            Some(asked) if self.own_urls().contains(&asked) => asked,
            _ => self.base_url.clone(),
        }
    }
}

/// A host as it stands in a URL: IPv6 addresses in brackets, lower case.
fn url_host(name: &str) -> String {
    let bare = name.trim_matches(['[', ']']).to_ascii_lowercase();
    if bare.contains(':') { format!("[{bare}]") } else { bare }
}

/// A service that answers requests.
#[derive(Debug)]
pub struct Running {
    app: Arc<App>,
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    server: JoinHandle<std::io::Result<()>>,
    background: Option<jobs::Background>,
}

impl Running {
    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://host:port` without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.app.base_url
    }

    /// What handlers and jobs share.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops taking requests, lets running ones end, closes the database.
    pub async fn shutdown(self) {
        self.handle.graceful_shutdown(Some(Duration::from_secs(SHUTDOWN_SECONDS)));
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the server task failed while stopping");
        }
        if let Some(background) = self.background {
            background.stop().await;
        }
        self.app.db.close().await;
    }

    /// Waits until the server ends by itself, which it does only by a fault.
    ///
    /// # Errors
    /// [`ServeError::Stopped`] with the reason.
    pub async fn wait(&mut self) -> Result<(), ServeError> {
        match (&mut self.server).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ServeError::Stopped(error.to_string())),
            Err(error) => Err(ServeError::Stopped(error.to_string())),
        }
    }
}

/// Starts the service: opens the data folder, binds, answers.
///
/// # Errors
/// [`ServeError`] saying what to do.
pub async fn serve(config: Config, parts: Parts) -> Result<Running, ServeError> {
    let clock = parts.clock.unwrap_or_else(|| Arc::new(SystemClock));
    let now = clock.now_micros();
    let installation = setup::open(&config.data_dir, &config.database, now).await?;
    let keys = encryption_keys(&config, installation.master_key.as_slice())?;
    let tls = pki::ensure(&config.data_dir, &certificate_names(&config), now)?;
    let (listener, address) = bind(config.listen)?;
    let base_url = default_base_url(&config, address);
    let sealer = Sealer::new(installation.master_key.as_slice())?;
    let app = Arc::new(App {
        db: installation.db,
        identity: installation.identity,
        sealer,
        master_key: installation.master_key,
        keys,
        default_subscription_id: installation.default_subscription_id,
        opener: parts.opener,
        browser: Some(parts.browser.unwrap_or_else(|| Arc::new(jobs::SourceBrowser::new(config.clone())))),
        vaults: jobs::Vaults::default(),
        limits: jobs::Limits::new(&config.limits, &clock),
        base_url,
        port: address.port(),
        routes: api::routes(),
        clock,
        config,
        _lock: installation.lock,
    });
    api::storage_accounts::connect_configured(&app, now).await?;
    let endpoint = app.config.data_dir.join(setup::names::ENDPOINT);
    files::write_private(&endpoint, format!("{}\n", app.base_url).as_bytes())
        .map_err(|error| ServeError::File { file: endpoint.clone(), error })?;
    let handle = Handle::new();
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))
        .map_err(|error| ServeError::Listen { address, error })?
        .handle(handle.clone());
    let service = api::front::answer.with_state(app.clone()).into_make_service();
    let server = tokio::spawn(server.serve(service));
    let background = (!parts.by_hand).then(|| jobs::Background::start(&app));
    Ok(Running { app, address, handle, server, background })
}

/// The keys of the configuration, next to the service's own.
fn encryption_keys(config: &Config, master_key: &[u8]) -> Result<KeyRing, ServeError> {
    let file = config.data_dir.join(setup::names::MASTER_KEY);
    let master = MasterKey::from_file(master_key).map_err(|_| SetupError::MasterKeyInvalid { file })?;
    KeyRing::read(&config.encryption_keys, &master).map_err(|(uri, error)| ServeError::EncryptionKey { uri, error })
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The configured names, and the public address's host, which clients will check.
fn certificate_names(config: &Config) -> Vec<String> {
    let mut names = config.hostnames.clone();
    if let Some(host) = config.public_url.as_deref().and_then(|url| url.strip_prefix("https://")) {
        let host = host.trim_end_matches('/');
        let bare = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(v6),
            None => host.split(':').next().unwrap_or(host),
        };
        names.push(bare.to_owned());
    }
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names
}

fn default_base_url(config: &Config, address: SocketAddr) -> String {
    if let Some(url) = &config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = match config.hostnames.first() {
        Some(name) if !address.ip().is_loopback() => url_host(name),
        _ => "localhost".to_owned(),
    };
    format!("https://{host}:{}", address.port())
}
