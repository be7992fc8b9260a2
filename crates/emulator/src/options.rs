//! What an emulator is started with: its accounts, its clock and a few limits. Keys never appear in debug output.

use std::fmt;

use crate::clock::{self, Clock};

/// The account name that every Azure Storage tool knows as "development storage".
pub const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";

/// The published key of [`DEVELOPMENT_ACCOUNT`], base64. It is no secret.
pub const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A storage account that the emulator serves.
#[derive(Clone)]
pub struct Account {
    /// The account's name, the first segment of every path.
    pub name: String,
    /// The account key, base64 as in a connection string.
    pub key_base64: String,
}

impl Account {
    /// An account of this name whose key is derived from the name, so that tests need not invent one.
    pub fn with_derived_key(name: &str) -> Account {
        use base64::Engine as _;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, name.as_bytes());
        Account { name: name.to_owned(), key_base64: base64::engine::general_purpose::STANDARD.encode(digest.as_ref()) }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Everything that can be chosen about an emulator. `EmulatorOptions::default()` serves [`DEVELOPMENT_ACCOUNT`] on the
/// machine's clock.
#[derive(Clone)]
pub struct EmulatorOptions {
    /// The accounts; at least one, names distinct.
    pub accounts: Vec<Account>,
    /// Microseconds since the Unix epoch; the time behind every `Last-Modified`, lease and SAS check.
    pub clock: Clock,
    /// How many of the latest requests are remembered.
    pub recorded_requests: usize,
    /// Refuse SharedKey requests whose date is further than this from the clock (Azure: 900 s). `None` checks no age, so
    /// that a test may run the emulator in another time than its client.
    pub max_request_age_seconds: Option<i64>,
    /// Every state of a blob that is overwritten or deleted stays as an earlier version.
    pub versioning: bool,
    /// The accounts write change feeds, in the container `$blobchangefeed`.
    pub change_feed: bool,
    /// Milliseconds after which a change appears in the feed at the latest (Azure: some minutes). Whoever reads
    /// `meta/segments.json` gets everything up to that moment, whatever this is.
    pub change_feed_delay_ms: u64,
}

impl Default for EmulatorOptions {
    fn default() -> EmulatorOptions {
        EmulatorOptions {
            accounts: vec![Account { name: DEVELOPMENT_ACCOUNT.to_owned(), key_base64: DEVELOPMENT_KEY.to_owned() }],
            clock: clock::real(),
            recorded_requests: 100_000,
            max_request_age_seconds: None,
            versioning: false,
            change_feed: false,
            change_feed_delay_ms: 1_000,
        }
    }
}

impl EmulatorOptions {
    /// The default options with accounts of these names, their keys derived from the names.
    pub fn with_accounts(names: &[&str]) -> EmulatorOptions {
        EmulatorOptions {
            accounts: names.iter().map(|name| Account::with_derived_key(name)).collect(),
            ..EmulatorOptions::default()
        }
    }
}

impl fmt::Debug for EmulatorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatorOptions")
            .field("accounts", &self.accounts)
            .field("recorded_requests", &self.recorded_requests)
            .field("max_request_age_seconds", &self.max_request_age_seconds)
            .field("versioning", &self.versioning)
            .field("change_feed", &self.change_feed)
            .field("change_feed_delay_ms", &self.change_feed_delay_ms)
            .finish_non_exhaustive()
    }
}
