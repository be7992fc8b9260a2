//! The trait by which the engine keeps the files of a vault, and the guarantees it needs.
//!
//! What an implementation must guarantee:
//! 1. **Durable**: when [`Store::put_if_absent`] has returned `Stored`, the file survives a crash of this process and of the machine.
//! 2. **Atomic**: a file is there whole or not at all; no reader ever sees a part of it.
//! 3. **Exclusive**: of two concurrent puts of one name exactly one gets `Stored`.
//! 4. **Read after write**: a get or list that starts after `Stored` was returned sees the file.
//! 5. **Ordered listing**: names come sorted by their bytes.
//!
//! Names are relative, `/`-separated, of lower-case ASCII letters, digits, `.`, `-` and `_`; no part is `.` or `..`.

pub mod layer;
pub mod local;
pub mod memory;
pub mod object;
mod temporary;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// This call stored the file.
    Stored,
    /// A file of that name was there; nothing was changed.
    Exists,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name, relative to the store.
    pub name: String,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// Where the files of a vault lie.
#[async_trait]
pub trait Store: Send + Sync {
    /// What this is, for messages: kind and address, never a secret.
    fn describe(&self) -> String;

    /// Stores a file unless one of that name exists.
    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError>;

    /// A whole file.
    async fn get(&self, name: &str) -> Result<Bytes, StoreError>;

    /// Part of a file, exactly as long as asked for; an error if the file is shorter.
    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The length of a file in bytes.
    async fn size(&self, name: &str) -> Result<u64, StoreError>;

    /// Files whose names start with `prefix` (which ends in `/` or is empty) and come after `after`, sorted; at most
    /// 1,000, and fewer only at the end.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError>;

    /// Removes a file; not an error if it is gone already.
    async fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// Why a store could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No file of that name.
    NotFound,
    /// The credentials do not allow it, or the medium is read-only.
    Denied,
    /// No room is left.
    Full,
    /// The store stayed unreachable through all retries.
    Unavailable,
    /// Anything else, for good.
    Other,
}

/// An error of a store, naming the file.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What kind of failure this is.
    pub kind: StoreErrorKind,
    /// What was tried, on which file, and what came back; no secret.
    pub message: String,
}

impl StoreError {
    /// An error of `kind` with a message that names the file.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Refuses names that are not of the form this module describes: no name may lead out of the store.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let is_legal = |part: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
    };
    if name.split('/').all(is_legal) {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Other, format!("{name:?} is no legal name in a store")))
}
