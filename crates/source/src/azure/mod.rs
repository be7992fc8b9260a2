//! Azure Blob endpoints as sources and targets: a thin client of ours for the calls that a backup and a restore need.
//!
//! Not the official SDK, because it costs several times the CPU per listed and per read blob, and not a URL library,
//! because that folds names such as `a/../b`. It must never follow a redirect or use a proxy from the environment: both
//! would lead around the guard on addresses.

pub mod address;
mod auth;
mod checksum;
mod clock;
mod containers;
mod copy;
mod fault;
mod feed;
mod header_case;
mod http_client;
mod limiter;
mod options;
mod path;
mod properties;
mod reader;
mod request;
mod tags;
mod upload;
mod versions;
mod writer;
mod xml;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use blobkeep_vault::{SourceError, SourceErrorKind};
use tokio::sync::Semaphore;

pub use self::address::{AddressPolicy, Cidr};
pub use self::auth::{Credential, Secret};
pub use self::options::{AzureOptions, Endpoint};

use self::http_client::HttpClient;

/// A storage account at an Azure Blob endpoint, or one container of it. Cheap to clone; clones share connections and the
/// limit on requests in flight.
#[derive(Clone)]
pub struct AzureAccount {
    inner: Arc<Inner>,
}

struct Inner {
    http: HttpClient,
    account: String,
    /// The only container that may be touched.
    container: Option<String>,
    refused: Refusals,
    /// For each block that may be on its way, whatever blob it is of: they are what takes the memory.
    blocks: Arc<Semaphore>,
    /// Listings tell which version a blob is.
    tells_versions: AtomicBool,
    feed_headers: Mutex<feed::Headers>,
}

/// What the endpoint has refused once and is not asked for again.
#[derive(Default)]
struct Refusals {
    list_tags: AtomicBool,
    list_from: AtomicBool,
    write_tags: AtomicBool,
    write_tier: AtomicBool,
    write_protection: AtomicBool,
}

impl AzureAccount {
    /// Prepares a client; nothing is connected yet.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] if the address is not allowed, or key, SAS or certificates are malformed.
    pub fn new(options: AzureOptions) -> Result<Self, SourceError> {
        let http = HttpClient::new(&options)?;
        let inner = Inner {
            http,
            account: options.endpoint.account.clone(),
            container: options.container,
            tells_versions: AtomicBool::new(options.tells_versions),
            feed_headers: Mutex::default(),
            refused: Refusals::default(),
            blocks: Arc::new(Semaphore::new(upload::BLOCKS_IN_FLIGHT)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.inner.account
    }

    /// Requests that may be in flight now; lower than configured while the endpoint is busy.
    pub fn requests_in_flight_limit(&self) -> usize {
        self.inner.http.limit()
    }

    /// Whether listings tell the version of every blob: from the beginning if the options say so, and since a feed was found.
    pub fn tells_versions(&self) -> bool {
        self.inner.tells_versions.load(Ordering::Relaxed)
    }

    /// What the endpoint or the credential kept this client from doing so far, in words for a report.
    pub fn describe_limits(&self) -> Vec<String> {
        let refused = &self.inner.refused;
        let known = [
            (&refused.list_tags, "index tags are not listed: the endpoint or the SAS (permission t) does not allow it"),
            (
                &refused.write_tags,
                "index tags are not written: the endpoint or the SAS (permission t) does not allow it",
            ),
            (&refused.write_tier, "access tiers are not written: the endpoint does not take them"),
            (
                &refused.write_protection,
                "immutability, legal holds and encryption scopes are not written: the endpoint or the SAS (permission i) does \
                 not allow it",
            ),
        ];
        known.iter().filter(|(flag, _)| flag.load(Ordering::Relaxed)).map(|(_, words)| (*words).to_owned()).collect()
    }

    /// Refuses containers outside the one that this client is limited to.
    fn check_scope(&self, container: &str) -> Result<(), SourceError> {
        match &self.inner.container {
            Some(only) if only != container => Err(SourceError::new(
                SourceErrorKind::Refused,
                format!("only container {only} of {} was given, not {container}", self.inner.http.shown()),
            )),
            _ => Ok(()),
        }
    }

    fn described(&self) -> String {
        match &self.inner.container {
            Some(container) => format!("Azure Blob container {}/{container}", self.inner.http.shown()),
            None => format!("Azure Blob account {}", self.inner.http.shown()),
        }
    }
}
