//! The configuration: one TOML file over defaults that need no file at all.
//!
//! Unknown keys are refused, so that a typing mistake is found at start and not after a lost backup. Secrets may stand here (storage
//! accounts), so `Debug` of such values must never print them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use blobkeep_arm::vault::check_key_uri;
use blobkeep_vault::caps::Schedule;
use serde::Deserialize;

use crate::db::Database;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {error}")]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is not what is expected; the message has line and column.
    #[error("the configuration {file} is invalid: {reason}")]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// How long clients are told to wait between two looks at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// What Azure says: 10 for validation, 15 for create, 30 for delete.
    Azure,
    /// This many seconds for everything.
    Seconds(u32),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A validation, or a job that was accepted.
    Validate,
    /// A resource that is being made or changed.
    Create,
    /// A resource that is being removed.
    Delete,
}

impl RetryAfter {
    /// Seconds for the `Retry-After` header; at least 1, because clients take 0 for 30.
    pub fn seconds(self, waiting: Waiting) -> u32 {
        match (self, waiting) {
            (Self::Seconds(seconds), _) => seconds.max(1),
            (Self::Azure, Waiting::Validate) => 10,
            (Self::Azure, Waiting::Create) => 15,
            (Self::Azure, Waiting::Delete) => 30,
        }
    }
}

impl<'de> Deserialize<'de> for RetryAfter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Seconds(u32),
        }
        match Form::deserialize(deserializer) {
            Ok(Form::Word(word)) if word.eq_ignore_ascii_case("azure") => Ok(Self::Azure),
            Ok(Form::Seconds(seconds)) if seconds >= 1 => Ok(Self::Seconds(seconds)),
            _ => Err(serde::de::Error::custom("retry_after must be \"azure\" or a number of seconds from 1 on")),
        }
    }
}

/// `[operations]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperationsConfig {
    /// `Retry-After` of answers about operations; default 1 second.
    pub retry_after: RetryAfter,
}

impl Default for OperationsConfig {
    fn default() -> Self {
        Self { retry_after: RetryAfter::Seconds(1) }
    }
}

/// Rows on one page of a list when nothing else is said.
const DEFAULT_PAGE_SIZE: u32 = 200;
/// Most rows that a page may have: an answer stays small enough for any client.
const MOST_PAGE_SIZE: u32 = 1_000;

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Rows on one page of a list, 1 to 1,000; default 200.
    pub page_size: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { page_size: DEFAULT_PAGE_SIZE }
    }
}

/// `[operational]`: the continuous tier.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperationalConfig {
    /// Seconds between two looks at an account; default 60.
    pub interval_seconds: u32,
    /// Of an account that keeps versions, hours after which the whole is listed anew; default 24.
    pub base_hours: u32,
    /// The same once so many changes were written down since the last time, and more than the account had blobs; default 100,000.
    pub base_changes: u64,
    /// Stop and suspend work for an instance that has this tier alone, which Azure refuses; default no.
    pub allow_stop: bool,
}

impl Default for OperationalConfig {
    fn default() -> Self {
        Self { interval_seconds: 60, base_hours: 24, base_changes: 100_000, allow_stop: false }
    }
}

/// `[limits]`: how fast jobs may move content, all of them together; see [`blobkeep_vault::caps::Schedule`] for how it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// What is read from storage accounts.
    #[serde(deserialize_with = "schedule")]
    pub backup: Option<Schedule>,
    /// What is written to storage accounts.
    #[serde(deserialize_with = "schedule")]
    pub restore: Option<Schedule>,
}

fn schedule<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Schedule>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// `[[storage_account]]`: connects an account at every start.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageAccountConfig {
    /// The account's ARM id.
    pub id: String,
    /// The account's location.
    pub location: String,
    /// Where its blobs are: the members of `properties.connection`.
    pub connection: serde_json::Map<String, serde_json::Value>,
}

impl fmt::Debug for StorageAccountConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageAccountConfig")
            .field("id", &self.id)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// `[[encryption_key]]`: makes a key known by which vaults may be guarded.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionKeyConfig {
    /// The name by which settings of vaults ask for it: `https://{host}/keys/{name}`, or with `/{version}`.
    pub uri: String,
    /// Where its 32 bytes are, as they are or as one line of 64 hexadecimal digits.
    pub file: PathBuf,
}

/// What the file may say; everything has a default.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    listen: Option<SocketAddr>,
    hostnames: Vec<String>,
    public_url: Option<String>,
    database: Option<String>,
    store: Option<String>,
    local_roots: Vec<PathBuf>,
    allowed_endpoint_ranges: Vec<IpRange>,
    api: ApiConfig,
    operations: OperationsConfig,
    operational: OperationalConfig,
    limits: LimitsConfig,
    storage_account: Vec<StorageAccountConfig>,
    encryption_key: Vec<EncryptionKeyConfig>,
}

/// The configuration of one service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything lies that the service makes: keys, certificates, database, by default also the vaults.
    pub data_dir: PathBuf,
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names by which the service is reached beside `localhost`; they go into the certificate.
    pub hostnames: Vec<String>,
    /// The address that clients use, if it is neither the listening one nor one of the names: `https://host[:port]`.
    pub public_url: Option<String>,
    /// Where the database is; default SQLite in the data folder.
    pub database: Database,
    /// Where vaults are kept, as a URL; default a folder `vaults` in the data folder.
    pub store: Option<String>,
    /// Folders below which `LocalFolder` connections are allowed.
    pub local_roots: Vec<PathBuf>,
    /// Private address ranges in which endpoints may lie. Public and loopback addresses are always allowed, link-local ones never.
    pub allowed_endpoint_ranges: Vec<IpRange>,
    /// `[api]`.
    pub api: ApiConfig,
    /// `[operations]`.
    pub operations: OperationsConfig,
    /// `[operational]`.
    pub operational: OperationalConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[[storage_account]]`.
    pub storage_accounts: Vec<StorageAccountConfig>,
    /// `[[encryption_key]]`. The files are read at the start.
    pub encryption_keys: Vec<EncryptionKeyConfig>,
}

/// The port of `serve` when none is given.
pub const DEFAULT_PORT: u16 = 8443;

impl Config {
    /// The defaults for a data folder: loopback, port 8443.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self::from_parts(data_dir.into(), FileConfig::default())
    }

    /// Reads a configuration file over the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and, where it is known, line and column.
    pub fn from_file(data_dir: impl Into<PathBuf>, file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        let invalid = |reason: String| ConfigError::Invalid { file: file.to_owned(), reason };
        let mut parsed: FileConfig = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let database = parsed.database.take();
        let mut config = Self::from_parts(data_dir.into(), parsed);
        if let Some(text) = database {
            let parsed = Database::parse(&text, &config.data_dir);
            config.database = parsed.map_err(|reason| invalid(format!("database: {reason}")))?;
        }
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn from_parts(data_dir: PathBuf, file: FileConfig) -> Self {
        Self {
            data_dir,
            listen: file.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT)),
            hostnames: file.hostnames,
            public_url: file.public_url,
            database: Database::default(),
            store: file.store,
            local_roots: file.local_roots,
            allowed_endpoint_ranges: file.allowed_endpoint_ranges,
            api: file.api,
            operations: file.operations,
            operational: file.operational,
            limits: file.limits,
            storage_accounts: file.storage_account,
            encryption_keys: file.encryption_key,
        }
    }

    /// Checks what types alone cannot say.
    fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.public_url {
            let rest =
                url.strip_prefix("https://").ok_or_else(|| format!("public_url '{url}' must begin with https://"))?;
            if rest.trim_end_matches('/').is_empty() || rest.trim_end_matches('/').contains('/') {
                return Err(format!("public_url '{url}' must be https://host or https://host:port, without a path"));
            }
        }
        for name in &self.hostnames {
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
            if !is_name {
                return Err(format!("hostname '{name}' is neither a DNS name nor an IP address"));
            }
        }
        for root in &self.local_roots {
            if !root.is_absolute() {
                return Err(format!("local root '{}' must be an absolute path", root.display()));
            }
        }
        for key in &self.encryption_keys {
            check_key_uri(&key.uri).map_err(|rule| format!("[[encryption_key]] uri '{}': {rule}", key.uri))?;
            if !key.file.is_absolute() {
                return Err(format!("[[encryption_key]] file '{}' must be an absolute path", key.file.display()));
            }
        }
        if !(1..=MOST_PAGE_SIZE).contains(&self.api.page_size) {
            return Err(format!("[api] page_size must be 1 to {MOST_PAGE_SIZE}"));
        }
        if self.operational.interval_seconds == 0 {
            return Err("[operational] interval_seconds must be at least 1".to_owned());
        }
        if self.operational.base_hours == 0 || self.operational.base_changes == 0 {
            return Err("[operational] base_hours and base_changes must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// A range of addresses in CIDR form, e.g. `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    address: IpAddr,
    prefix_bits: u8,
}

impl IpRange {
    /// Reads `address/bits` or a single address.
    ///
    /// # Errors
    /// A sentence that names what does not fit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| format!("'{text}' is not an IP range such as 10.0.0.0/8"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|b| *b <= most)
                .ok_or_else(|| format!("'{text}' has no valid prefix length"))?,
        };
        Ok(Self { address, prefix_bits })
    }

    /// The address lies in this range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                u32::from(own).checked_shr(shift).unwrap_or(0) == u32::from(other).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                u128::from(own).checked_shr(shift).unwrap_or(0) == u128::from(other).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Config, Database, IpRange, RetryAfter, Waiting};

    fn read(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blobkeep.toml");
        std::fs::write(&file, text).unwrap();
        Config::from_file(dir.path(), &file).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = read("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8443");
        assert_eq!(config.operations.retry_after, RetryAfter::Seconds(1));
        let operational = config.operational;
        assert_eq!((operational.interval_seconds, operational.base_hours), (60, 24));
        assert_eq!((operational.base_changes, operational.allow_stop), (100_000, false));
        assert_eq!(config.api.page_size, 200);
        assert!(config.local_roots.is_empty() && config.allowed_endpoint_ranges.is_empty());
    }

    #[test]
    fn a_full_file_is_read() {
        let config = read(
            r#"
            listen = "0.0.0.0:9443"
            hostnames = ["backup.example.org"]
            public_url = "https://backup.example.org"
            local_roots = ["/srv/blobs"]
            allowed_endpoint_ranges = ["10.0.0.0/8", "fd00::/8"]
            [operations]
            retry_after = "azure"
            [operational]
            interval_seconds = 5
            base_hours = 6
            base_changes = 1000
            allow_stop = true
            [limits]
            backup = "08:00-18:00=20MiB/s; else unlimited"
            [api]
            page_size = 50
            [[storage_account]]
            id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/abc"
            location = "westus"
            connection = { kind = "LocalFolder", url = "file:///srv/blobs/abc" }
            [[encryption_key]]
            uri = "https://vault.example.org/keys/team/1"
            file = "/safe/team.key"
            "#,
        )
        .unwrap();
        assert_eq!(config.encryption_keys[0].uri, "https://vault.example.org/keys/team/1");
        assert_eq!(config.operations.retry_after.seconds(Waiting::Validate), 10);
        assert_eq!(config.operations.retry_after.seconds(Waiting::Create), 15);
        assert_eq!(config.operations.retry_after.seconds(Waiting::Delete), 30);
        assert_eq!((config.operational.base_hours, config.operational.allow_stop), (6, true));
        assert_eq!(config.api.page_size, 50);
        assert_eq!(config.storage_accounts.len(), 1);
        assert!(config.limits.backup.is_some() && config.limits.restore.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("listne = \"127.0.0.1:1\"", "listne"),
            ("[operations]\nretry_after = 0", "retry_after"),
            ("[operations]\nretry_after = \"aws\"", "retry_after"),
            ("public_url = \"http://x\"", "https://"),
            ("public_url = \"https://x/path\"", "without a path"),
            ("hostnames = [\"a b\"]", "a b"),
            ("local_roots = [\"data\"]", "absolute"),
            ("allowed_endpoint_ranges = [\"10.0.0.0/33\"]", "10.0.0.0/33"),
            ("[[trusted_issuer]]\nissuer = \"x\"", "trusted_issuer"),
            ("[operational]\ninterval_seconds = 0", "interval_seconds"),
            ("[operational]\nbase_hours = 0", "base_hours"),
            ("[limits]\nbackup = \"fast\"", "fast"),
            ("[[encryption_key]]\nuri = \"http://v/keys/k\"\nfile = \"/k\"", "http://v/keys/k"),
            ("[[encryption_key]]\nuri = \"https://v/keys/k\"\nfile = \"k\"", "absolute"),
            ("[[encryption_key]]\nuri = \"https://v/keys/k\"", "file"),
            ("[api]\npage_size = 0", "page_size"),
            ("[api]\npage_size = 1001", "page_size"),
            ("database = \"/elsewhere/blobkeep.db\"", "data folder"),
            ("database = \"postgres://u:p@h/d?ssl=on\"", "sslmode"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let text = r#"
            [[storage_account]]
            id = "/x"
            location = "l"
            connection = { kind = "AzureBlob", accountKey = "topsecret" }
        "#;
        assert!(!format!("{:?}", read(text).unwrap()).contains("topsecret"));
        let config = read("database = \"postgres://keeper:topsecret@db.example.org/backup\"").unwrap();
        assert!(matches!(config.database, Database::Postgres(_)));
        assert!(!format!("{config:?}").contains("topsecret"));
    }

    #[test]
    fn ranges_hold_their_addresses() {
        let holds =
            |range: &str, address: &str| IpRange::parse(range).unwrap().contains(address.parse::<IpAddr>().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("192.168.1.7", "192.168.1.7") && !holds("192.168.1.7", "192.168.1.8"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
    }
}
