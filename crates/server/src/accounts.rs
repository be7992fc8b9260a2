//! Where the blobs of a storage account are: the connection, what may be connected, and a look at the containers.
//!
//! A connection holds secrets: it is stored sealed, has no `Debug` that shows them, and is never part of an answer. This file opens no
//! connection itself; [`AccountBrowser`] does, and the address of an endpoint is checked again there, at every connect.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::{fmt, io};

use async_trait::async_trait;
use blobkeep_arm::envelope;
use blobkeep_source::azure as source;
use blobkeep_source::{AddressPolicy, AzureOptions, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Config, IpRange};

/// A credential for an Azure Blob endpoint.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Credential {
    /// Shared key.
    #[serde(rename_all = "camelCase")]
    AccountKey {
        /// The name that requests are signed with.
        account_name: String,
        /// Base64.
        key: String,
    },
    /// A shared access signature, without the question mark in front.
    #[serde(rename_all = "camelCase")]
    SasToken {
        /// `sv=…&sig=…`.
        token: String,
    },
}

/// Where the blobs of an account are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Connection {
    /// An Azure Blob endpoint: Azure itself, Azurite, or anything that speaks its protocol.
    AzureBlob {
        /// The account's endpoint, `https://name.blob.core.windows.net` or path-style `http://127.0.0.1:10000/devstoreaccount1`, without a
        /// slash at the end and without a query.
        url: String,
        /// How requests are signed.
        credential: Credential,
    },
    /// A folder; each sub-folder is a container.
    LocalFolder {
        /// The folder, canonical.
        path: PathBuf,
    },
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind_name(), self.public_url())
    }
}

/// Why a connection is refused; the texts follow "the connection of storage account '…' is invalid: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// It contradicts a rule.
    #[error("{0}")]
    Invalid(String),
    /// It is not offered yet.
    #[error("{0}")]
    NotSupported(String),
}

/// Members of `properties.connection`, in the spelling of the documentation.
pub const CONNECTION_MEMBERS: &[&str] = &[
    "kind",
    "url",
    "accountKey",
    "sasToken",
    "connectionString",
    "accessKeyId",
    "secretAccessKey",
    "managedIdentity",
    "accountName",
];

impl Connection {
    /// The word in `kind`.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::AzureBlob { .. } => "AzureBlob",
            Self::LocalFolder { .. } => "LocalFolder",
        }
    }

    /// Where the blobs are, without any secret.
    pub fn public_url(&self) -> String {
        match self {
            Self::AzureBlob { url, .. } => url.clone(),
            Self::LocalFolder { path } => format!("file://{}", path.display()),
        }
    }

    /// Reads `properties.connection` and checks it against what the configuration allows.
    ///
    /// # Errors
    /// [`ConnectionError`] with a sentence that never holds a secret.
    pub fn from_body(body: &Value, config: &Config) -> Result<Self, ConnectionError> {
        let invalid = |text: &str| ConnectionError::Invalid(text.to_owned());
        let kind =
            envelope::text(body, "kind").ok_or_else(|| invalid("'kind' is missing: use AzureBlob or LocalFolder"))?;
        let kinds = ["AzureBlob", "LocalFolder", "S3"];
        let kind = envelope::one_of(kind, &kinds).ok_or_else(|| {
            ConnectionError::Invalid(format!("the kind '{kind}' is unknown: use AzureBlob or LocalFolder"))
        })?;
        if envelope::member(body, "managedIdentity").is_some_and(|value| value != &Value::Bool(false)) {
            let text = "'managedIdentity' (the machine's own credentials) cannot be used yet: give an accountKey, a sasToken or a connectionString";
            return Err(ConnectionError::NotSupported(text.to_owned()));
        }
        match kind {
            "S3" => Err(ConnectionError::NotSupported(
                "the kind S3 is not offered yet: use AzureBlob or LocalFolder".to_owned(),
            )),
            "LocalFolder" => Self::local_folder(envelope::text(body, "url").unwrap_or(""), config),
            _ => Self::azure_blob(body, config),
        }
    }

    fn azure_blob(body: &Value, config: &Config) -> Result<Self, ConnectionError> {
        let invalid = |text: &str| ConnectionError::Invalid(text.to_owned());
        let key = envelope::text(body, "accountKey");
        let sas = envelope::text(body, "sasToken");
        let string = envelope::text(body, "connectionString");
        if [key, sas, string].iter().flatten().count() != 1 {
            return Err(invalid("give exactly one of 'accountKey', 'sasToken' and 'connectionString'"));
        }
        let options = if let Some(string) = string {
            AzureOptions::from_connection_string(string)
        } else {
            let url =
                envelope::text(body, "url").ok_or_else(|| invalid("'url' is missing: the account's blob endpoint"))?;
            let url = read_endpoint(url)?;
            match (key, sas) {
                (Some(key), _) => {
                    let key = Secret::new(checked_key(key)?);
                    check_endpoint(&url, &config.allowed_endpoint_ranges)?;
                    AzureOptions::of_account_by_key(&url, envelope::text(body, "accountName"), key)
                }
                (None, sas) => {
                    let sas = Secret::new(checked_sas(sas.unwrap_or(""))?);
                    check_endpoint(&url, &config.allowed_endpoint_ranges)?;
                    AzureOptions::of_account_by_sas(&url, &sas)
                }
            }
        };
        let options = options.map_err(|error| ConnectionError::Invalid(error.message))?;
        let url = options.endpoint.url();
        check_endpoint(&url, &config.allowed_endpoint_ranges)?;
        let credential = match &options.credential {
            source::Credential::AccountKey { account, key } => {
                Credential::AccountKey { account_name: account.clone(), key: checked_key(key.reveal())? }
            }
            source::Credential::Sas(sas) => Credential::SasToken { token: checked_sas(sas.reveal())? },
            _ => return Err(invalid("it holds no credential")),
        };
        Ok(Self::AzureBlob { url, credential })
    }

    fn local_folder(url: &str, config: &Config) -> Result<Self, ConnectionError> {
        let invalid = |text: String| ConnectionError::Invalid(text);
        let given = url.strip_prefix("file://").unwrap_or(url);
        if given.is_empty() {
            return Err(invalid("'url' is missing: the folder, as file:///path".to_owned()));
        }
        let given = percent_encoding::percent_decode_str(given)
            .decode_utf8()
            .map_err(|_| invalid("'url' is not UTF-8".to_owned()))?
            .into_owned();
        let folder = Path::new(&given);
        if !folder.is_absolute() {
            return Err(invalid(format!("'{given}' is not an absolute path")));
        }
        if config.local_roots.is_empty() {
            return Err(invalid(
                "folders are not allowed: name a folder above it in 'local_roots' of the configuration".to_owned(),
            ));
        }
        check_folder(folder, config).map(|path| Self::LocalFolder { path })
    }
}

/// Checks a stored connection once more against the configuration as it is now, and a folder against what lies on the way to it now.
/// Whoever opens a connection calls this first.
///
/// # Errors
/// As [`Connection::from_body`].
pub fn check_connection(config: &Config, connection: &Connection) -> Result<(), ConnectionError> {
    match connection {
        Connection::AzureBlob { url, .. } => check_endpoint(url, &config.allowed_endpoint_ranges),
        Connection::LocalFolder { path } => check_folder(path, config).map(|_| ()),
    }
}

/// The canonical folder, if it lies below an allowed root, is reached without a symbolic link and is not the data folder.
///
/// Outside of the roots nothing is looked at, so that no answer tells what is there: the path is judged as it is written first, and
/// from the root down no link is followed.
fn check_folder(folder: &Path, config: &Config) -> Result<PathBuf, ConnectionError> {
    let shown = folder.display();
    let invalid = |text: String| ConnectionError::Invalid(text);
    if folder.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(invalid(format!("the way to '{shown}' holds '..'")));
    }
    let root_and_rest = config.local_roots.iter().find_map(|root| {
        let canonical = root.canonicalize().unwrap_or_else(|_| root.clone());
        let below = folder.strip_prefix(root).or_else(|_| folder.strip_prefix(&canonical)).ok()?.to_owned();
        Some((canonical, below))
    });
    let Some((mut canonical, below)) = root_and_rest else {
        return Err(invalid(format!("'{shown}' does not lie below one of the 'local_roots' of the configuration")));
    };
    let cannot = |error: io::Error| invalid(format!("the folder '{shown}' cannot be opened: {error}"));
    let mut found = canonical.symlink_metadata().map_err(cannot)?;
    for part in below.components() {
        canonical.push(part);
        found = canonical.symlink_metadata().map_err(cannot)?;
        if found.is_symlink() {
            return Err(invalid(format!("the way to '{shown}' holds a symbolic link")));
        }
    }
    if !found.is_dir() {
        return Err(invalid(format!("'{shown}' is not a folder")));
    }
    let data_dir = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    if canonical.starts_with(&data_dir) || data_dir.starts_with(&canonical) {
        return Err(invalid(format!("'{shown}' is, holds or lies in the service's own data folder")));
    }
    Ok(canonical)
}

/// The endpoint without a slash at the end; refuses user names, queries and other schemes.
fn read_endpoint(url: &str) -> Result<String, ConnectionError> {
    let invalid = |text: String| ConnectionError::Invalid(text);
    let trimmed = url.trim().trim_end_matches('/');
    let rest = trimmed
        .strip_prefix("https://")
        .or_else(|| trimmed.strip_prefix("http://"))
        .ok_or_else(|| invalid("'url' must begin with https:// or http://".to_owned()))?;
    if rest.contains(['?', '#', '@']) {
        return Err(invalid(
            "'url' must be the account's endpoint alone; a signature belongs into 'sasToken'".to_owned(),
        ));
    }
    if rest.is_empty() || rest.starts_with('/') {
        return Err(invalid("'url' names no host".to_owned()));
    }
    Ok(trimmed.to_owned())
}

/// The host of an address, without port and brackets.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Public, loopback or configured; never link-local. Names are checked here only as far as they are literal addresses: what a name
/// resolves to is checked at every connect.
fn check_endpoint(url: &str, ranges: &[IpRange]) -> Result<(), ConnectionError> {
    let host = host_of(url);
    let is_plain = url.starts_with("http://");
    let lower = host.to_ascii_lowercase();
    let is_local_name = lower == "localhost" || lower.ends_with(".localhost");
    let address: Option<IpAddr> = host.parse().ok();
    let is_loopback = is_local_name || address.is_some_and(|a| unmapped(a).is_loopback());
    let is_configured = address.is_some_and(|a| ranges.iter().any(|range| range.contains(unmapped(a))));
    if let Some(address) = address
        && !is_loopback
    {
        check_address(unmapped(address), ranges)?;
    }
    if is_plain && !is_loopback && !is_configured {
        let text =
            format!("'{host}' must be reached by https://; http:// is for loopback addresses and configured ranges");
        return Err(ConnectionError::Invalid(text));
    }
    Ok(())
}

/// An IPv4 address in IPv6 clothes is judged as what it is.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Which addresses connections may go to: public and loopback ones, the ranges of the configuration, never link-local ones.
pub fn address_policy(ranges: &[IpRange]) -> AddressPolicy {
    let allowed_ranges = ranges.iter().filter_map(|range| range.to_string().parse().ok()).collect();
    AddressPolicy { allowed_ranges, ..AddressPolicy::default() }
}

/// Whether the service may connect to that address for a user: by the rule that holds at every connect.
///
/// # Errors
/// [`ConnectionError::Invalid`] naming the address.
pub fn check_address(address: IpAddr, ranges: &[IpRange]) -> Result<(), ConnectionError> {
    // What not even the operator's own commands reach no configuration can allow.
    AddressPolicy::for_operator().check(address).map_err(ConnectionError::Invalid)?;
    address_policy(ranges).check(address).map_err(|_| {
        ConnectionError::Invalid(format!(
            "the address {address} is not public: allow its range in 'allowed_endpoint_ranges' of the configuration"
        ))
    })
}

fn checked_key(key: &str) -> Result<String, ConnectionError> {
    use base64::Engine as _;
    let key = key.trim();
    let is_key = base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|bytes| !bytes.is_empty());
    if is_key { Ok(key.to_owned()) } else { Err(ConnectionError::Invalid("the account key is not base64".to_owned())) }
}

fn checked_sas(token: &str) -> Result<String, ConnectionError> {
    let token = token.trim().trim_start_matches('?');
    let has_signature = token.split('&').any(|pair| pair.starts_with("sig="));
    if has_signature {
        Ok(token.to_owned())
    } else {
        Err(ConnectionError::Invalid("the SAS token holds no 'sig='".to_owned()))
    }
}

/// A container as the API lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrowsedContainer {
    /// Its name.
    pub name: String,
    /// The endpoint's change mark, without quotes.
    pub etag: String,
    /// When it last changed, microseconds.
    pub modified_at: i64,
    /// `blob` or `container`; `None` is private.
    pub public_access: Option<String>,
    /// A legal hold is set.
    pub has_legal_hold: bool,
    /// A retention policy is set.
    pub has_immutability_policy: bool,
}

/// Looks into connected accounts for the API. The engine's side of the house implements it.
#[async_trait]
pub trait AccountBrowser: Send + Sync {
    /// All containers, by name.
    ///
    /// # Errors
    /// A sentence for the operator: what was tried and what came back, without any secret.
    async fn containers(&self, connection: &Connection) -> Result<Vec<BrowsedContainer>, String>;
}

#[cfg(test)]
mod tests;
