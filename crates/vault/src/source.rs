//! The trait by which the engine reads blobs. `blobkeep-source` implements it for Azure Blob endpoints and folders.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::item::{BlobEntry, ContainerEntry, Timestamp};

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Entries in the order of the endpoint. Sources should yield key order ([`BlobEntry::key`]); the engine notices
    /// where one does not and sorts that container on disk.
    pub entries: Vec<BlobEntry>,
    /// Cursor of the next page, opaque to the engine; `None` on the last one.
    pub next: Option<String>,
}

/// What a container shows at its top when `/` separates folders.
#[derive(Debug, Clone, Default)]
pub struct TopLevel {
    /// Blobs whose names have no `/`.
    pub entries: Vec<BlobEntry>,
    /// The beginnings of all other names, each up to its first `/` and with it, each once.
    pub prefixes: Vec<String>,
}

/// A place in the feed of an account's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPosition {
    /// Where the reading goes on; opaque to the engine, and as long as a line or two.
    pub cursor: String,
    /// Every change that was made up to this instant, by the clock of the endpoint, lies before the cursor.
    pub complete_until: Timestamp,
}

/// What became of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobChange {
    /// The container.
    pub container: String,
    /// The blob's name.
    pub name: String,
    /// When it happened, by the clock of the endpoint.
    pub at: Timestamp,
    /// Orders the changes of one blob among each other: greater is later.
    pub sequence: String,
    /// The current blob from then on, with its [`BlobEntry::current_version`]; `None` if there is none any more.
    pub entry: Option<BlobEntry>,
}

/// Changes of an account, in the order in which the feed has them. Those of one blob are in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// Some thousands at most.
    pub changes: Vec<BlobChange>,
    /// Where to go on.
    pub next: FeedPosition,
    /// The feed had no more when it was asked.
    pub is_last: bool,
}

/// Where blobs come from.
///
/// Implementations retry what is worth retrying themselves (throttling, dropped connections) and lower their concurrency
/// when the endpoint asks for it; an error that reaches the engine is final for that call.
#[async_trait]
pub trait Source: Send + Sync {
    /// What this is, for messages: kind and address, never a secret.
    fn describe(&self) -> String;

    /// What this source cannot see, in words for the report (index tags without the right to read them, say). Known at the latest
    /// after the last page of a listing.
    fn limits(&self) -> Vec<String> {
        Vec::new()
    }

    /// All containers, sorted by name (UTF-8 bytes).
    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError>;

    /// One page of the current blobs of a container whose names start with `prefix`, with every property that the
    /// endpoint's listing can give (metadata, tags, tier, MD5). `cursor` is the `next` of the page before.
    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError>;

    /// Like [`Self::list`], but of the blobs whose names are not less than `from`, in the order of the endpoint. `None` if the endpoint
    /// cannot begin in the middle; the engine then lists from the beginning. It checks what it gets, so an order other than that of bytes
    /// costs a second listing and never a blob.
    async fn list_from(
        &self,
        container: &str,
        from: &str,
        cursor: Option<&str>,
    ) -> Result<Option<ListPage>, SourceError> {
        let _ = (container, from, cursor);
        Ok(None)
    }

    /// The top of a container. `None` if the endpoint cannot tell in one page.
    async fn top_level(&self, container: &str) -> Result<Option<TopLevel>, SourceError> {
        let _ = container;
        Ok(None)
    }

    /// The bytes `range` of a blob, exactly as long as asked for, provided that its ETag is still `entry.etag`;
    /// otherwise [`SourceErrorKind::Changed`]. The engine asks for at most 8 MiB at once and never for an empty range.
    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError>;

    /// How many small blobs the engine should ask for in one [`Source::read_whole`]: 1 where each is a request of its own, more where
    /// the way to a blob costs more than its bytes (files).
    fn reads_together(&self) -> usize {
        1
    }

    /// All bytes of several small blobs, none of them empty, in the order of `entries`; each as by [`Source::read`], and one that fails
    /// fails alone. The engine asks for a few MiB at once.
    async fn read_whole(&self, entries: Arc<Vec<BlobEntry>>) -> Vec<Result<Bytes, SourceError>> {
        let mut contents = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            contents.push(self.read(entry, 0..entry.size_bytes).await);
        }
        contents
    }

    /// The present state of one blob, or `None` if it is gone. Used when a blob changed between listing and reading.
    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError>;

    /// The present end of the feed of changes, if the account writes one and keeps versions of its blobs; `None` if it does not do both.
    /// Listings of such an account tell the version of every current blob ([`BlobEntry::current_version`]).
    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        Ok(None)
    }

    /// The changes after a cursor. [`SourceErrorKind::NotFound`] if the feed does not reach back that far any more.
    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        let _ = cursor;
        Err(SourceError::new(SourceErrorKind::Refused, format!("{} has no feed of changes", self.describe())))
    }

    /// Like [`Self::list`] of a whole container, with the versions that the account still keeps: each entry has either its
    /// [`BlobEntry::version`] or, if it is the current blob, its [`BlobEntry::current_version`].
    async fn list_versions(&self, container: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.list(container, "", cursor).await
    }
}

/// Why a source could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// Container or blob is not there.
    NotFound,
    /// The blob is no longer the one that was listed.
    Changed,
    /// The credentials do not allow it.
    Denied,
    /// The blob lies in the archive tier and cannot be read.
    Archived,
    /// The endpoint refuses the request for good (bad name, unsupported feature, property it cannot hold).
    Refused,
    /// Something of that name is there already.
    Conflict,
    /// The endpoint stayed busy or unreachable through all retries.
    Unavailable,
    /// The endpoint answered what makes no sense.
    Protocol,
}

/// An error of a source or target, naming the thing it happened to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What kind of failure this is.
    pub kind: SourceErrorKind,
    /// What was tried, on which thing, and what came back; no secret.
    pub message: String,
}

impl SourceError {
    /// An error of `kind` with a message that names the thing.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Trying the same again later may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, SourceErrorKind::Unavailable | SourceErrorKind::Changed)
    }
}
