//! How far the feed has been read, as a line of JSON.

use std::collections::BTreeMap;

use blobkeep_vault::source::FeedPosition;
use blobkeep_vault::{SourceError, SourceErrorKind, Timestamp};
use serde::{Deserialize, Serialize};

/// Everything before this place was read: all segments before `segment`, and of that one what lies before the places in its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Microseconds: what was made until then has been read.
    pub(super) until: i64,
    /// Path of the segment, like `2026/11/23/0700`; `None` before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) segment: Option<String>,
    /// ETag of the segment's description when its shards were learned. While it is the same there are no others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) etag: String,
    /// The segment was final and has been read to its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_done: bool,
    /// By shard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) shards: BTreeMap<String, Place>,
}

/// A place in the files of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Place {
    /// Name of the file within the shard's folder; empty before the first one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) file: String,
    /// Bytes of whole blocks that were read, with the header; 0 before the header.
    pub(super) at: u64,
    /// Records of the block there that were read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) skip: u64,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cursor {
    /// The beginning of a feed that holds nothing yet.
    pub(super) fn of_empty(until: Timestamp) -> Self {
        Self { until: until.0, segment: None, etag: String::new(), is_done: false, shards: BTreeMap::new() }
    }

    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        serde_json::from_str(text).map_err(|_| {
            SourceError::new(
                SourceErrorKind::Refused,
                format!("{text:?} is no position in the change feed of an account"),
            )
        })
    }

    pub(super) fn position(&self) -> Result<FeedPosition, SourceError> {
        let cursor = serde_json::to_string(self).map_err(|error| {
            SourceError::new(SourceErrorKind::Protocol, format!("no cursor can be written: {error}"))
        })?;
        Ok(FeedPosition { cursor, complete_until: Timestamp(self.until) })
    }
}

/// What a shard is called in the cursor: `00` for `log/00/2026/11/23/0700/`, and the whole path should it look otherwise.
pub(super) fn shard_of(chunk: &str, segment: &str) -> String {
    let inner = chunk.strip_prefix("log/").and_then(|rest| rest.strip_suffix(&format!("/{segment}/")));
    inner.filter(|inner| !inner.contains('/')).unwrap_or(chunk).to_owned()
}

/// The way back.
pub(super) fn chunk_of(shard: &str, segment: &str) -> String {
    if shard.contains('/') { shard.to_owned() } else { format!("log/{shard}/{segment}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_line_and_goes_both_ways() {
        let place = Place { file: "00000.avro".into(), at: 123_456, skip: 0 };
        let cursor = Cursor {
            until: 1_700_000_000_000_000,
            segment: Some("2026/11/23/0700".into()),
            etag: "0x8D1".into(),
            is_done: false,
            shards: [("00".to_owned(), place)].into(),
        };
        let position = cursor.position().unwrap();
        assert_eq!(position.complete_until, Timestamp(1_700_000_000_000_000));
        assert!(position.cursor.len() < 150, "{}", position.cursor);
        assert_eq!(Cursor::parse(&position.cursor).unwrap(), cursor);
        for bad in ["", "{}", "[]", "{\"until\":\"x\"}"] {
            assert_eq!(Cursor::parse(bad).unwrap_err().kind, SourceErrorKind::Refused, "{bad}");
        }
    }

    #[test]
    fn shards_are_named_short_where_their_paths_are_as_documented() {
        for (chunk, shard) in
            [("log/00/2026/11/23/0700/", "00"), ("log/a/b/2026/11/23/0700/", "log/a/b/2026/11/23/0700/")]
        {
            assert_eq!(shard_of(chunk, "2026/11/23/0700"), shard);
            assert_eq!(chunk_of(shard, "2026/11/23/0700"), chunk);
        }
    }
}
