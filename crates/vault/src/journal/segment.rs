//! The bytes of a segment: a version byte and postcard, compressed, then sealed as a record under the file's name.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file_name;
use crate::error::{Error, Result};
use crate::item::{Content, Item, Timestamp};
use crate::seal::{open_record, seal_record};
use crate::source::{BlobChange, FeedPosition};
use crate::vault::Vault;

/// Changes of one segment.
pub const CHANGES_AT_MOST: usize = 4_096;
/// Plaintext of the changes of one segment, in bytes. A single change may have more.
pub const BYTES_AT_MOST: usize = 1 << 20;
/// A reader takes no more plaintext than this for a segment.
const READ_AT_MOST: usize = 8 << 20;
const VERSION: u8 = 1;
/// Segments are small and written seldom: time for what repeats from change to change.
const LEVEL: i32 = 9;

/// What became of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// There is no current blob any more.
    Deleted,
    /// This is the current blob.
    Blob(Box<Item>),
    /// There is a current blob, and the account named no version of it: it cannot be brought back.
    Unnamed,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) container: String,
    pub(crate) name: String,
    /// When, by the clock of the endpoint.
    pub(crate) at: Timestamp,
    /// Greater is later, among the changes of one blob.
    pub(crate) sequence: String,
    pub(crate) state: State,
}

impl From<BlobChange> for Change {
    fn from(change: BlobChange) -> Self {
        let BlobChange { container, name, at, sequence, entry } = change;
        let state = match entry {
            None => State::Deleted,
            Some(mut entry) => match entry.current_version.take() {
                None => State::Unnamed,
                Some(version) => {
                    (entry.container, entry.name) = (container.clone(), name.clone());
                    entry.version = None;
                    State::Blob(Box::new(Item { entry, content: Content::AtSource { version } }))
                }
            },
        };
        Self { container, name, at, sequence, state }
    }
}

/// Some changes that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// From 1.
    pub(crate) number: u64,
    /// BLAKE3 of the file before.
    pub(crate) previous: [u8; 32],
    /// Where the journal had come before.
    pub(crate) from: Timestamp,
    /// Where the feed is read on after it, and until when nothing is missing.
    pub(crate) position: FeedPosition,
    /// Changes in this segment and all before it.
    pub(crate) total: u64,
    pub(crate) changes: Vec<Change>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    number: u64,
    previous: [u8; 32],
    from: Timestamp,
    until: Timestamp,
    cursor: String,
    total: u64,
    /// Names that changes refer to by their places.
    containers: Vec<String>,
    changes: Vec<StoredChange>,
}

#[derive(Serialize, Deserialize)]
struct StoredChange {
    container: u32,
    name: String,
    /// Microseconds since the change before; since `from` for the first.
    since: i64,
    sequence: String,
    /// Of a blob the item as it is, with an empty container and an empty name.
    state: State,
}

impl Stored {
    fn of(segment: Segment) -> Self {
        let Segment { number, previous, from, position, total, changes } = segment;
        let mut containers: Vec<String> = Vec::new();
        let mut last = from.0;
        let mut stored = Vec::with_capacity(changes.len());
        for Change { container, name, at, sequence, mut state } in changes {
            let place = containers.iter().rposition(|known| *known == container).unwrap_or_else(|| {
                containers.push(container);
                containers.len() - 1
            });
            if let State::Blob(item) = &mut state {
                item.entry.container.clear();
                item.entry.name.clear();
            }
            let since = at.0.wrapping_sub(std::mem::replace(&mut last, at.0));
            stored.push(StoredChange { container: place as u32, name, since, sequence, state });
        }
        let FeedPosition { cursor, complete_until: until } = position;
        Self { number, previous, from, until, cursor, total, containers, changes: stored }
    }

    /// `None` if a change is in a container that is not in the table.
    fn into_segment(self) -> Option<Segment> {
        let mut last = self.from.0;
        let mut changes = Vec::with_capacity(self.changes.len());
        for StoredChange { container, name, since, sequence, mut state } in self.changes {
            let container = self.containers.get(container as usize)?.clone();
            last = last.wrapping_add(since);
            if let State::Blob(item) = &mut state {
                item.entry.container.clone_from(&container);
                item.entry.name.clone_from(&name);
            }
            changes.push(Change { container, name, at: Timestamp(last), sequence, state });
        }
        let position = FeedPosition { cursor: self.cursor, complete_until: self.until };
        let (number, previous, from, total) = (self.number, self.previous, self.from, self.total);
        Some(Segment { number, previous, from, position, total, changes })
    }
}

impl Segment {
    /// The file and its name.
    pub(super) fn seal(self, vault: &Vault, instance: &str, base: &str) -> Result<(String, Bytes)> {
        let name = file_name(instance, base, self.number);
        let fault = |e: String| Error::Internal(format!("{name}: {e}"));
        let plaintext = postcard::to_extend(&Stored::of(self), vec![VERSION]).map_err(|e| fault(e.to_string()))?;
        let compressed = zstd::bulk::compress(&plaintext, LEVEL).map_err(|e| fault(e.to_string()))?;
        let file = seal_record(&vault.keys.meta_key, &name, &compressed)?;
        Ok((name, Bytes::from(file)))
    }

    /// What a file holds.
    pub(super) fn open(vault: &Vault, name: &str, file: &[u8]) -> Result<Self> {
        let compressed = open_record(&vault.keys.meta_key, name, file)?;
        let plaintext = zstd::bulk::decompress(&compressed, READ_AT_MOST)
            .map_err(|e| Error::damaged(name, format!("it does not decompress: {e}")))?;
        let Some(rest) = plaintext.strip_prefix(&[VERSION]) else {
            return Err(Error::damaged(name, "it has a version that is not known here"));
        };
        let stored: Stored =
            postcard::from_bytes(rest).map_err(|e| Error::damaged(name, format!("it does not parse: {e}")))?;
        stored.into_segment().ok_or_else(|| Error::damaged(name, "a change is in a container that it does not name"))
    }
}

/// Changes cut into the pieces that are segments.
pub(super) fn cut(changes: Vec<Change>) -> Result<Vec<Vec<Change>>> {
    let mut pieces: Vec<Vec<Change>> = Vec::new();
    let mut piece_bytes = 0;
    for change in changes {
        let bytes = postcard::to_stdvec(&change).map_err(|e| Error::Internal(format!("a change: {e}")))?.len();
        piece_bytes += bytes;
        match pieces.last_mut() {
            Some(piece) if piece.len() < CHANGES_AT_MOST && piece_bytes <= BYTES_AT_MOST => piece.push(change),
            _ => {
                piece_bytes = bytes;
                pieces.push(vec![change]);
            }
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::BlobEntry;

    fn change(number: usize, note: usize) -> Change {
        let entry = BlobEntry {
            name: format!("{number}"),
            metadata: vec![("note".into(), "x".repeat(note))],
            current_version: Some(format!("v{number}")),
            ..BlobEntry::default()
        };
        let at = Timestamp(1_000 - number as i64);
        BlobChange {
            container: format!("c{}", number % 3),
            name: format!("{number}"),
            at,
            sequence: format!("{number:09}"),
            entry: Some(entry),
        }
        .into()
    }

    #[test]
    fn a_segment_comes_back_as_it_was() {
        let mut changes: Vec<Change> = (0..10).map(|number| change(number, 3)).collect();
        changes[3].state = State::Deleted;
        changes[4].state = State::Unnamed;
        let position = FeedPosition { cursor: "here".into(), complete_until: Timestamp(2_000) };
        let segment = Segment { number: 7, previous: [9; 32], from: Timestamp(-5), position, total: 17, changes };
        let stored = Stored::of(segment.clone());
        assert_eq!(stored.containers, ["c0", "c1", "c2"]);
        let bytes = postcard::to_stdvec(&stored).unwrap();
        let read: Stored = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read.into_segment(), Some(segment));
    }

    #[test]
    fn many_changes_and_large_ones_make_several_segments() {
        let lengths = |changes: Vec<Change>| -> Vec<usize> { cut(changes).unwrap().iter().map(Vec::len).collect() };
        assert_eq!(lengths(Vec::new()), [0; 0]);
        assert_eq!(lengths((0..CHANGES_AT_MOST + 1).map(|number| change(number, 0)).collect()), [CHANGES_AT_MOST, 1]);
        assert_eq!(lengths((0..5).map(|number| change(number, 400_000)).collect()), [2, 2, 1]);
        assert_eq!(lengths((0..2).map(|number| change(number, 2 << 20)).collect()), [1, 1]);
    }
}
