//! What the emulator holds: accounts, containers, blobs. Pure data behind one lock; it knows nothing of HTTP. Blobs are
//! immutable records behind `Arc`, so that a reader never waits for a writer longer than a map look-up takes. A blob's name
//! leads to a family: current state, earlier versions, snapshots, uncommitted blocks.

pub(crate) mod blob;
pub(crate) mod container;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod pages;
pub(crate) mod synthetic;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::clock;
use crate::error::AzureError;
use crate::feed::{Change, FEED_CONTAINER, Feed, Origin, Publish};
use crate::options::EmulatorOptions;
use container::Container;

/// An account key, ready for use.
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    /// `None` if the text is not base64.
    pub(crate) fn from_base64(key_base64: &str) -> Option<SigningKey> {
        let key = STANDARD.decode(key_base64).ok()?;
        Some(SigningKey(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    pub(crate) fn sign_base64(&self, text: &str) -> String {
        STANDARD.encode(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Compares in constant time.
    pub(crate) fn verify_base64(&self, text: &str, signature_base64: &str) -> bool {
        STANDARD
            .decode(signature_base64)
            .is_ok_and(|signature| hmac::verify(&self.0, text.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// One storage account.
pub(crate) struct AccountState {
    pub(crate) key: SigningKey,
    pub(crate) containers: BTreeMap<String, Container>,
    /// The service properties as they were set.
    pub(crate) service_properties: Option<Bytes>,
    /// The change feed, if the account writes one.
    pub(crate) feed: Option<Feed>,
}

/// The mark of one change: its ETag (no quotes) and the ticks that it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) etag: String,
    pub(crate) ticks: i64,
    pub(crate) at_us: i64,
}

/// Everything.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) accounts: HashMap<String, AccountState>,
    keeps_versions: bool,
    last_ticks: i64,
}

impl World {
    /// A world of the accounts of these options; `Err` holds the name of the one whose key is not base64.
    pub(crate) fn new(options: &EmulatorOptions) -> Result<World, String> {
        let mut world = World { keeps_versions: options.versioning, ..World::default() };
        for account in &options.accounts {
            let key = SigningKey::from_base64(&account.key_base64).ok_or_else(|| account.name.clone())?;
            let mut state = AccountState { key, containers: BTreeMap::new(), service_properties: None, feed: None };
            if options.change_feed {
                let stamp = world.stamp((options.clock)());
                let (feed, container) =
                    Feed::new(&account.name, options.versioning, options.change_feed_delay_ms, &stamp);
                state.feed = Some(feed);
                state.containers.insert(FEED_CONTAINER.to_owned(), container);
            }
            world.accounts.insert(account.name.clone(), state);
        }
        Ok(world)
    }

    /// A new, empty container.
    pub(crate) fn new_container(&self, stamp: &Stamp) -> Container {
        Container::new(stamp, self.keeps_versions)
    }

    /// Tells the account's change feed, if it writes one, of a change that has just been made. The system's own
    /// containers make no events.
    pub(crate) fn record(&mut self, origin: &Origin<'_>, change: &Change<'_>) {
        let feed = self.accounts.get_mut(origin.account).and_then(|account| account.feed.as_mut());
        let Some(feed) = feed.filter(|_| !origin.container.starts_with('$')) else { return };
        feed.add(origin, change);
        if feed.due(change.ticks) > 0 {
            self.publish(origin.account, origin.now_us, Publish::Due);
        }
    }

    /// Writes waiting events to the account's change feed. All changes to come have later stamps than what is complete.
    pub(crate) fn publish(&mut self, account: &str, now_us: i64, upto: Publish) {
        let stamp = self.stamp(now_us);
        let Some(AccountState { feed: Some(feed), containers, .. }) = self.accounts.get_mut(account) else { return };
        if let Some(container) = containers.get_mut(FEED_CONTAINER) {
            feed.publish(container, &stamp, upto);
        }
    }

    /// A new mark, later than all before it.
    pub(crate) fn stamp(&mut self, now_us: i64) -> Stamp {
        self.last_ticks = clock::ticks(now_us).max(self.last_ticks + 1);
        Stamp { etag: format!("0x{:X}", self.last_ticks), ticks: self.last_ticks, at_us: now_us }
    }

    pub(crate) fn account(&self, account: &str) -> Result<&AccountState, AzureError> {
        self.accounts.get(account).ok_or_else(unknown_account)
    }

    pub(crate) fn account_mut(&mut self, account: &str) -> Result<&mut AccountState, AzureError> {
        self.accounts.get_mut(account).ok_or_else(unknown_account)
    }

    pub(crate) fn container(&self, account: &str, container: &str) -> Result<&Container, AzureError> {
        self.account(account)?.containers.get(container).ok_or_else(AzureError::container_not_found)
    }

    pub(crate) fn container_mut(&mut self, account: &str, container: &str) -> Result<&mut Container, AzureError> {
        self.account_mut(account)?.containers.get_mut(container).ok_or_else(AzureError::container_not_found)
    }
}

fn unknown_account() -> AzureError {
    AzureError::not_found("ResourceNotFound", "The specified resource does not exist: no such account.")
}
