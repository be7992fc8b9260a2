//! Parts of a manifest: each is built from a range of the records on its own, in any order and at once with others, and all are joined in key
//! order. What comes out is the manifest that one writer makes of all records, page by page.
//!
//! Of every level a part keeps its head (what belongs to a page that an earlier part may have begun) and its tail (what a later part may go on
//! with). All between is written: memory is about two pages a level.

use std::sync::Arc;

use super::{Child, ManifestWriter, OwnedKey, Record, Totals, push_child};
use crate::error::Result;
use crate::item::EntryKey;
use crate::seal::SecretKey;
use crate::write::ChunkWriter;

/// A manifest of some records that follow each other; what comes before them need not be known yet.
#[derive(Clone)]
pub struct ManifestPart {
    first: Option<OwnedKey>,
    /// Records up to the first after which a leaf ends.
    head_leaf: Vec<Record>,
    /// Of each level from 1 on the children after that page whose beginning lies in an earlier part, up to the first after which a page
    /// of the level ends.
    head_levels: Vec<Vec<Child>>,
    /// Levels whose head has an end. What comes later in them belongs to the tail.
    ended: usize,
    tail: ManifestWriter,
}

impl ManifestPart {
    /// A part without records.
    pub fn new(id_key: &SecretKey) -> Self {
        Self::before(ManifestWriter::new(id_key))
    }

    pub(super) fn before(tail: ManifestWriter) -> Self {
        Self { first: None, head_leaf: Vec::new(), head_levels: Vec::new(), ended: 0, tail }
    }

    /// What was pushed so far.
    pub fn totals(&self) -> Totals {
        self.tail.totals
    }

    /// The key that was pushed last.
    pub fn last(&self) -> Option<EntryKey<'_>> {
        self.tail.last()
    }

    /// Records and children in memory.
    #[cfg(test)]
    pub(super) fn kept_entries(&self) -> usize {
        let children: usize = self.head_levels.iter().chain(&self.tail.levels).map(Vec::len).sum();
        self.head_leaf.len() + self.tail.leaf.len() + children
    }

    /// Adds the next record, whose key must be greater than the last one.
    pub async fn push(&mut self, record: Record, writer: &Arc<ChunkWriter>) -> Result<()> {
        let ended = self.tail.take_in(&record)?;
        if self.first.is_none() {
            self.first = Some(OwnedKey::from(record.key()));
        }
        if self.ended == 0 {
            self.head_leaf.push(record);
            self.ended = ended;
            return Ok(());
        }
        self.tail.leaf.push(record);
        if ended == 0 {
            return Ok(());
        }
        self.tail.close_leaf(writer).await?;
        for level in 1..ended.min(self.ended) {
            self.tail.close_level(level, writer).await?;
        }
        if ended >= self.ended {
            self.move_to_head(ended);
        }
        Ok(())
    }

    /// The page that was closed last lies in the lowest level whose head has no end yet: it belongs there, not to the tail.
    fn move_to_head(&mut self, ended: usize) {
        let level = self.ended;
        if let Some(child) = self.tail.levels.get_mut(level - 1).and_then(Vec::pop) {
            push_child(&mut self.head_levels, level, child);
        }
        self.tail.levels.truncate(level - 1);
        self.ended = ended.max(self.ended);
    }
}

impl ManifestWriter {
    /// Adds the records of a part, whose keys must all be greater than the last one here. Costs a page or two a level, whatever the part holds.
    pub async fn append(&mut self, part: ManifestPart, writer: &Arc<ChunkWriter>) -> Result<()> {
        let ManifestPart { first, head_leaf, head_levels, ended, mut tail } = part;
        let Some(first) = first else { return Ok(()) };
        self.check_follows(first.as_key())?;
        self.totals.add(&tail.totals);
        self.last = tail.last.take();
        self.leaf.extend(head_leaf);
        if ended == 0 {
            return Ok(());
        }
        self.close_leaf(writer).await?;
        self.leaf = tail.leaf;
        let mut heads = head_levels.into_iter();
        let mut tails = tail.levels.into_iter();
        for level in 1..=ended {
            for child in heads.next().unwrap_or_default() {
                self.child(level, child);
            }
            if level < ended {
                self.close_level(level, writer).await?;
                self.levels[level - 1] = tails.next().unwrap_or_default();
            }
        }
        Ok(())
    }
}
