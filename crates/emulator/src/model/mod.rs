//! What the emulator holds: accounts, containers, blobs. Pure data behind one lock; it knows nothing of HTTP. Blobs are
//! immutable records behind `Arc`, so that a reader never waits for a writer longer than a map look-up takes. A blob's name
//! leads to a family (current state, snapshots, uncommitted blocks), which is where versions will find their place.

pub(crate) mod blob;
pub(crate) mod container;
pub(crate) mod lease;
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
use crate::options::Account;
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
    last_ticks: i64,
}

impl World {
    /// A world of these accounts; `Err` holds the name of the one whose key is not base64.
    pub(crate) fn new(accounts: &[Account]) -> Result<World, String> {
        let mut world = World::default();
        for account in accounts {
            let key = SigningKey::from_base64(&account.key_base64).ok_or_else(|| account.name.clone())?;
            let state = AccountState { key, containers: BTreeMap::new(), service_properties: None };
            world.accounts.insert(account.name.clone(), state);
        }
        Ok(world)
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
