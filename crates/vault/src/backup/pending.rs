//! Entries between the listing and the manifest: taken in groups, each of them read by one task, and given back in their order.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::read::{BlobReader, Outcome};
use crate::error::Result;
use crate::item::{BlobEntry, Content, Item};

/// Entries that may be under way.
const WINDOW_ENTRIES: usize = 2048;
/// Entries of one group.
const GROUP_ENTRIES: usize = 256;
/// Content that one group reads together, in bytes.
const GROUP_BYTES: u64 = 1 << 20;

/// An entry of a group.
pub(super) enum Slot {
    /// It needs no reading; `true` if it counts as unchanged.
    Ready(Box<Item>, bool),
    /// The next outcome of the group's task.
    Reading,
}

/// Consecutive entries.
#[derive(Default)]
pub(super) struct Group {
    pub(super) slots: Vec<Slot>,
    wanted: Vec<BlobEntry>,
    wanted_bytes: u64,
    /// Reads what is wanted; `None` if nothing is.
    pub(super) task: Option<JoinHandle<Result<Vec<Outcome>>>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// All groups that are under way, in the order of the listing.
pub(super) struct Pending {
    reader: Arc<BlobReader>,
    groups: VecDeque<Group>,
    open: Group,
    entries: usize,
}

impl Pending {
    pub(super) fn new(reader: Arc<BlobReader>) -> Self {
        Self { reader, groups: VecDeque::new(), open: Group::default(), entries: 0 }
    }

    /// No more should be pushed before a group was taken.
    pub(super) fn is_full(&self) -> bool {
        self.entries >= WINDOW_ENTRIES
    }

    /// Adds an entry whose content is known.
    pub(super) fn push_ready(&mut self, entry: BlobEntry, content: Content, is_unchanged: bool) {
        self.push(Slot::Ready(Box::new(Item { entry, content }), is_unchanged));
    }

    /// Adds an entry that is to be read.
    pub(super) fn push_wanted(&mut self, entry: BlobEntry) {
        if entry.size_bytes == 0 {
            self.reader.note_empty();
            return self.push_ready(entry, Content::Empty, false);
        }
        let is_small = self.reader.is_small(&entry);
        if !is_small {
            self.close();
        }
        self.open.wanted_bytes += entry.size_bytes;
        self.open.wanted.push(entry);
        self.push(Slot::Reading);
        if !is_small || self.open.wanted.len() >= self.reader.reads_together() || self.open.wanted_bytes >= GROUP_BYTES
        {
            self.close();
        }
    }

    fn push(&mut self, slot: Slot) {
        self.open.slots.push(slot);
        self.entries += 1;
        if self.open.slots.len() >= GROUP_ENTRIES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open.slots.is_empty() {
            return;
        }
        let mut group = std::mem::take(&mut self.open);
        let wanted = std::mem::take(&mut group.wanted);
        if !wanted.is_empty() {
            let reader = self.reader.clone();
            group.task = Some(tokio::spawn(async move { reader.read_all(wanted).await }));
        }
        self.groups.push_back(group);
    }

    /// The first group, or `None` if nothing is under way.
    pub(super) fn take_first(&mut self) -> Option<Group> {
        if self.groups.is_empty() {
            self.close();
        }
        let first = self.groups.pop_front()?;
        self.entries -= first.slots.len();
        Some(first)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.reader.clone());
    }
}
