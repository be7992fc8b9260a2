//! What is kept of a blob: its key, all of its properties, and where its content lies.
//!
//! These types are stored (see `docs/format.md`, "Manifest"); their field order is part of the format. They must never
//! hold anything that only one kind of source understands: a source translates.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved by whole seconds.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

/// As RFC 3339 has it, in UTC: for messages.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DAY: i64 = 86_400_000_000;
        let (days, of_day) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        // Days since the 1st of March of the year 0, so that a leap day is the last of its year; 400 years have 146,097 days.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year + 400 * era + i64::from(month <= 2);
        let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The kind of a blob, as in Azure. Folders and S3 hold block blobs only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum BlobKind {
    /// Written as a whole or as a list of blocks.
    #[default]
    Block,
    /// Written by appending; `sealed` ones take no further blocks.
    Append {
        /// No further block can be appended.
        sealed: bool,
    },
    /// Random access in pages of 512 bytes.
    Page {
        /// The blob's sequence number.
        sequence_number: i64,
    },
}

/// The content headers that a blob carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContentHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
}

/// Write-once protection of one blob.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Immutability {
    /// A legal hold is set.
    pub legal_hold: bool,
    /// The blob cannot be changed before this instant.
    pub until: Option<Timestamp>,
    /// `locked` or `unlocked`, as the endpoint says it.
    pub mode: Option<String>,
}

/// A blob with all its properties, without its content: what one entry of a listing says.
///
/// `metadata` and `tags` are sorted by name, so that equal blobs are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlobEntry {
    /// The container's name.
    pub container: String,
    /// The blob's name, decoded, at most 1,024 characters.
    pub name: String,
    /// Version id or snapshot time if this is not the current blob, as the endpoint spells it.
    pub version: Option<String>,
    /// Block, append or page.
    pub kind: BlobKind,
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// The endpoint's change mark, without quotes. Content and metadata change it; tags and tier do not.
    pub etag: String,
    /// Content headers.
    pub headers: ContentHeaders,
    /// MD5 of the content, where the endpoint stores one.
    pub content_md5: Option<[u8; 16]>,
    /// User metadata.
    pub metadata: Vec<(String, String)>,
    /// Index tags.
    pub tags: Vec<(String, String)>,
    /// Access tier if it was set explicitly (`Hot`, `Cool`, `Cold`, `Archive`, or a page blob's `P…`); `None` if inherited.
    pub tier: Option<String>,
    /// When the blob was made.
    pub created_at: Timestamp,
    /// When content or metadata last changed.
    pub modified_at: Timestamp,
    /// Holds and retention.
    pub immutability: Immutability,
    /// Name of the encryption scope, if one is set.
    pub encryption_scope: Option<String>,
    /// The version that the current blob is, where the endpoint keeps versions and says so. Not stored with the entry.
    #[serde(skip)]
    pub current_version: Option<String>,
}

impl BlobEntry {
    /// The key by which listings, manifests and restores are sorted: container, name, version, each by its UTF-8 bytes;
    /// the current blob (no version) comes after its versions and snapshots.
    pub fn key(&self) -> EntryKey<'_> {
        EntryKey {
            container: &self.container,
            name: &self.name,
            is_current: self.version.is_none(),
            version: self.version.as_deref().unwrap_or(""),
        }
    }

    /// `container/name` for messages, with the version where there is one.
    pub fn display_name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}/{} (version {version})", self.container, self.name),
            None => format!("{}/{}", self.container, self.name),
        }
    }

    /// Content can be taken over from `other` without reading: same kind, size and ETag.
    pub fn has_same_content_as(&self, other: &Self) -> bool {
        self.etag == other.etag
            && self.size_bytes == other.size_bytes
            && self.kind == other.kind
            && !self.etag.is_empty()
    }
}

/// The sort key of one entry. The derived order is the order of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey<'a> {
    /// Container name.
    pub container: &'a str,
    /// Blob name; empty for the container's own entry, which therefore comes first.
    pub name: &'a str,
    /// Versions come before the current blob.
    pub is_current: bool,
    /// Version or snapshot; empty for the current blob.
    pub version: &'a str,
}

/// A container with its properties.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerEntry {
    /// The container's name.
    pub name: String,
    /// The endpoint's change mark, without quotes.
    pub etag: String,
    /// When the container or its metadata last changed.
    pub modified_at: Timestamp,
    /// User metadata, sorted by name.
    pub metadata: Vec<(String, String)>,
    /// Anonymous access: `blob` or `container`; `None` is private.
    pub public_access: Option<String>,
    /// A legal hold is set on the container.
    pub has_legal_hold: bool,
    /// A retention policy is set on the container.
    pub has_immutability_policy: bool,
}

/// The name of a piece of content: keyed BLAKE3 of its plaintext.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub [u8; 32]);

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Where the content of an item lies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Content {
    /// Nothing to keep: the blob has no bytes.
    #[default]
    Empty,
    /// The chunks of the blob, in order.
    Chunks(Vec<ChunkId>),
    /// A tree of chunk lists, for blobs of many chunks; the root list lies `depth` levels above the chunks.
    ChunkTree {
        /// The chunk that holds the topmost list.
        root: ChunkId,
        /// Levels of lists: 1 means that the root lists content chunks.
        depth: u8,
    },
    /// The content stays at the source, as a version that the account keeps. Only points of the operational tier have it.
    AtSource {
        /// The version id, as the endpoint spells it.
        version: String,
    },
}

impl Content {
    /// The version that is the content, if that stays at the source.
    pub fn version_at_source(&self) -> Option<&str> {
        match self {
            Self::AtSource { version } => Some(version),
            Self::Empty | Self::Chunks(_) | Self::ChunkTree { .. } => None,
        }
    }
}

/// One blob of a recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Item {
    /// Key and properties.
    pub entry: BlobEntry,
    /// Content.
    pub content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_as_in_a_calendar() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (1_795_419_565_000_042, "2026-11-23T07:39:25.000042Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), text);
        }
        assert!(!Timestamp(i64::MAX).to_string().is_empty() && !Timestamp(i64::MIN).to_string().is_empty());
    }
}
