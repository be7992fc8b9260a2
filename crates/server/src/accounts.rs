//! Where the blobs of a storage account are: the connection, what may be connected, and a look at the containers.
//!
//! A connection holds secrets: it is stored sealed, has no `Debug` that shows them, and is never part of an answer. This file opens no
//! connection itself; [`AccountBrowser`] does, and the address of an endpoint is checked again there, at every connect.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use blobkeep_arm::envelope;
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

/// What Azurite and its kin call the well-known account.
const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
/// The well-known, published key of that account; no secret.
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

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
        let (url, credential) = if let Some(string) = string {
            read_connection_string(string)?
        } else {
            let url =
                envelope::text(body, "url").ok_or_else(|| invalid("'url' is missing: the account's blob endpoint"))?;
            let url = read_endpoint(url)?;
            let credential = match (key, sas) {
                (Some(key), _) => {
                    let own = envelope::text(body, "accountName").map(str::to_owned);
                    Credential::AccountKey {
                        account_name: own.unwrap_or_else(|| account_of(&url)),
                        key: checked_key(key)?,
                    }
                }
                (None, sas) => Credential::SasToken { token: checked_sas(sas.unwrap_or(""))? },
            };
            (url, credential)
        };
        check_endpoint(&url, &config.allowed_endpoint_ranges)?;
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

/// The canonical folder, if it lies below an allowed root, is reached without a symbolic link and is not the data folder.
fn check_folder(folder: &Path, config: &Config) -> Result<PathBuf, ConnectionError> {
    let shown = folder.display();
    let canonical = folder
        .canonicalize()
        .map_err(|error| ConnectionError::Invalid(format!("the folder '{shown}' cannot be opened: {error}")))?;
    if !canonical.is_dir() {
        return Err(ConnectionError::Invalid(format!("'{shown}' is not a folder")));
    }
    let data_dir = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    if canonical.starts_with(&data_dir) || data_dir.starts_with(&canonical) {
        return Err(ConnectionError::Invalid(format!("'{shown}' is, holds or lies in the service's own data folder")));
    }
    for root in &config.local_roots {
        let Ok(canonical_root) = root.canonicalize() else { continue };
        if !canonical.starts_with(&canonical_root) {
            continue;
        }
        // The way from the root down must be the same as it was written: otherwise a link was followed.
        let below = folder.strip_prefix(root).or_else(|_| folder.strip_prefix(&canonical_root));
        if below.is_ok_and(|below| canonical_root.join(below) == canonical) {
            return Ok(canonical);
        }
        return Err(ConnectionError::Invalid(format!("the way to '{shown}' holds a symbolic link or '..'")));
    }
    Err(ConnectionError::Invalid(format!("'{shown}' does not lie below one of the 'local_roots' of the configuration")))
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

/// Host and the path behind it (without slashes at its ends).
fn host_and_path(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    (host, path.trim_matches('/'))
}

/// The account that an endpoint names: the first path segment of a path-style one, else the first label of the host.
fn account_of(url: &str) -> String {
    let (host, path) = host_and_path(url);
    let first = if path.is_empty() { host.split('.').next() } else { path.split('/').next() };
    first.unwrap_or("").to_owned()
}

/// Public, loopback or configured; never link-local. Names are checked here only as far as they are literal addresses: what a name
/// resolves to is checked at every connect.
fn check_endpoint(url: &str, ranges: &[IpRange]) -> Result<(), ConnectionError> {
    let (host, _) = host_and_path(url);
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

/// Whether the service may connect to that address for a user: link-local never, loopback and public always, others by configuration.
///
/// # Errors
/// [`ConnectionError::Invalid`] naming the address.
pub fn check_address(address: IpAddr, ranges: &[IpRange]) -> Result<(), ConnectionError> {
    let address = unmapped(address);
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if is_link_local {
        return Err(ConnectionError::Invalid(format!("the link-local address {address} is never connected to")));
    }
    if address.is_loopback() || ranges.iter().any(|range| range.contains(address)) {
        return Ok(());
    }
    let is_special = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            v4.is_private() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() || is_shared || a == 0
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    if is_special {
        let text = format!(
            "the address {address} is not public: allow its range in 'allowed_endpoint_ranges' of the configuration"
        );
        return Err(ConnectionError::Invalid(text));
    }
    Ok(())
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

/// Reads a connection string in the form that Azure's tools give.
fn read_connection_string(text: &str) -> Result<(String, Credential), ConnectionError> {
    let invalid = |text: &str| ConnectionError::Invalid(text.to_owned());
    let mut pairs = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| invalid("the connection string is no list of Name=Value pairs"))?;
        pairs.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if get("usedevelopmentstorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let url = format!("http://127.0.0.1:10000/{DEVELOPMENT_ACCOUNT}");
        let credential =
            Credential::AccountKey { account_name: DEVELOPMENT_ACCOUNT.to_owned(), key: DEVELOPMENT_KEY.to_owned() };
        return Ok((url, credential));
    }
    let url = match (get("blobendpoint"), get("accountname")) {
        (Some(url), _) => read_endpoint(url)?,
        (None, Some(name)) => {
            let protocol = get("defaultendpointsprotocol").unwrap_or("https");
            let suffix = get("endpointsuffix").unwrap_or("core.windows.net");
            read_endpoint(&format!("{protocol}://{name}.blob.{suffix}"))?
        }
        (None, None) => return Err(invalid("the connection string has neither BlobEndpoint nor AccountName")),
    };
    let credential = match (get("accountkey"), get("sharedaccesssignature")) {
        (Some(key), _) => Credential::AccountKey {
            account_name: get("accountname").map_or_else(|| account_of(&url), str::to_owned),
            key: checked_key(key)?,
        },
        (None, Some(sas)) => Credential::SasToken { token: checked_sas(sas)? },
        (None, None) => return Err(invalid("the connection string has neither AccountKey nor SharedAccessSignature")),
    };
    Ok((url, credential))
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
mod tests {
    use serde_json::{Value, json};

    use super::{Connection, Credential, check_address};
    use crate::config::{Config, IpRange};

    const KEY: &str = "c2VjcmV0";

    fn config() -> Config {
        Config::new("/nonexistent/blobkeep")
    }

    fn refused(body: &Value) -> String {
        Connection::from_body(body, &config()).unwrap_err().to_string()
    }

    fn azure(url: &str) -> Value {
        json!({ "kind": "azureblob", "URL": url, "accountKey": KEY })
    }

    #[test]
    fn an_endpoint_with_a_key_is_taken() {
        let connection = Connection::from_body(&azure("https://acc.blob.core.windows.net/"), &config()).unwrap();
        let Connection::AzureBlob { url, credential: Credential::AccountKey { account_name, key } } = connection else {
            panic!("not an Azure connection");
        };
        assert_eq!(
            (url.as_str(), account_name.as_str(), key.as_str()),
            ("https://acc.blob.core.windows.net", "acc", KEY)
        );
    }

    #[test]
    fn connection_strings_are_read() {
        for (string, url, name) in [
            (
                format!(
                    "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={KEY};EndpointSuffix=core.windows.net"
                ),
                "https://acc.blob.core.windows.net",
                "acc",
            ),
            (
                format!(
                    "AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
                ),
                "http://127.0.0.1:10000/devstoreaccount1",
                "devstoreaccount1",
            ),
            ("UseDevelopmentStorage=true".to_owned(), "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
        ] {
            let body = json!({ "kind": "AzureBlob", "connectionString": string });
            let Connection::AzureBlob { url: read, credential: Credential::AccountKey { account_name, .. } } =
                Connection::from_body(&body, &config()).unwrap()
            else {
                panic!("not an account key");
            };
            assert_eq!((read.as_str(), account_name.as_str()), (url, name));
        }
        let sas = json!({ "kind": "AzureBlob", "connectionString": "BlobEndpoint=https://a.example.org;SharedAccessSignature=?sv=1&sig=abc" });
        let Connection::AzureBlob { credential: Credential::SasToken { token }, .. } =
            Connection::from_body(&sas, &config()).unwrap()
        else {
            panic!("not a SAS");
        };
        assert_eq!(token, "sv=1&sig=abc");
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_the_reason() {
        let cases = [
            (json!({}), "kind"),
            (json!({ "kind": "Ftp" }), "Ftp"),
            (json!({ "kind": "S3", "url": "s3://b" }), "not offered yet"),
            (json!({ "kind": "AzureBlob", "url": "https://x", "managedIdentity": true }), "managedIdentity"),
            (json!({ "kind": "AzureBlob", "url": "https://x" }), "exactly one"),
            (json!({ "kind": "AzureBlob", "url": "https://x", "accountKey": KEY, "sasToken": "sig=1" }), "exactly one"),
            (json!({ "kind": "AzureBlob", "url": "https://x", "accountKey": "%%%" }), "base64"),
            (json!({ "kind": "AzureBlob", "url": "https://x", "sasToken": "sv=1" }), "sig="),
            (azure("ftp://x"), "https://"),
            (azure("https://x/?sv=1&sig=2"), "sasToken"),
            (azure("https://user@x"), "endpoint alone"),
            (azure("http://acc.blob.core.windows.net"), "https://"),
            (azure("https://169.254.169.254"), "link-local"),
            (azure("https://[fe80::1]"), "link-local"),
            (azure("https://[::ffff:169.254.169.254]"), "link-local"),
            (azure("https://10.0.0.1"), "allowed_endpoint_ranges"),
            (azure("https://0.0.0.0"), "allowed_endpoint_ranges"),
            (azure("https://[fd00::1]:10000/acc"), "allowed_endpoint_ranges"),
            (json!({ "kind": "LocalFolder", "url": "file:///tmp" }), "local_roots"),
            (json!({ "kind": "LocalFolder", "url": "relative" }), "absolute"),
            (json!({ "kind": "LocalFolder" }), "missing"),
        ];
        for (body, wanted) in cases {
            let reason = refused(&body);
            assert!(reason.contains(wanted), "{body}: {reason}");
            assert!(!reason.contains(KEY), "{reason}");
        }
    }

    #[test]
    fn loopback_is_allowed_and_private_ranges_by_configuration() {
        for url in ["http://127.0.0.1:10000/devstoreaccount1", "http://localhost:10000/a", "http://[::1]:10000/a"] {
            assert!(Connection::from_body(&azure(url), &config()).is_ok(), "{url}");
        }
        let mut allowed = config();
        allowed.allowed_endpoint_ranges =
            vec![IpRange::parse("10.0.0.0/8").unwrap(), IpRange::parse("169.254.0.0/16").unwrap()];
        assert!(Connection::from_body(&azure("http://10.1.2.3:10000/acc"), &allowed).is_ok());
        assert!(
            check_address("169.254.1.1".parse().unwrap(), &allowed.allowed_endpoint_ranges).is_err(),
            "link-local never"
        );
    }

    #[test]
    fn folders_must_lie_below_a_root_and_be_reached_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("root");
        let data = root.join("data");
        for folder in [&root.join("acc"), &data, &dir.path().join("outside")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::os::unix::fs::symlink(root.join("acc"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("escape")).unwrap();
        let mut config = Config::new(&data);
        config.local_roots = vec![root.clone()];
        let connect = |folder: &std::path::Path| {
            let body = json!({ "kind": "LocalFolder", "url": format!("file://{}", folder.display()) });
            Connection::from_body(&body, &config).map_err(|error| error.to_string())
        };
        assert!(connect(&root.join("acc")).is_ok());
        assert!(connect(&root.join("link")).unwrap_err().contains("symbolic link"));
        assert!(connect(&root.join("escape")).is_err());
        assert!(connect(&root.join("acc/../acc")).unwrap_err().contains("'..'"));
        assert!(connect(&dir.path().join("outside")).unwrap_err().contains("local_roots"));
        assert!(connect(&root.join("missing")).unwrap_err().contains("cannot be opened"));
        assert!(connect(&data).unwrap_err().contains("data folder"));
        assert!(
            connect(&root).unwrap_err().contains("data folder"),
            "a folder that holds the data folder would show its keys"
        );
    }

    #[test]
    fn no_secret_is_printed() {
        let connection = Connection::from_body(&azure("https://acc.blob.core.windows.net"), &config()).unwrap();
        assert_eq!(format!("{connection:?}"), "AzureBlob(https://acc.blob.core.windows.net)");
    }
}
