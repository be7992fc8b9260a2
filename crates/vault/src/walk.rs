//! A place in a manifest from which whole pages can be passed over unread: what diff, search and history are made of.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::item::{ChunkId, ContainerEntry, EntryKey};
use crate::manifest::{Child, OwnedKey, Page, READ_AHEAD_PAGES, Record, Root, decode};
use crate::names::Span;
use crate::read::ChunkReader;

/// Walks a manifest, or a span of it, page by page. Memory: one page of each level, and a few that were read ahead.
///
/// A walk stands either at a page that is not read yet ([`Self::page`]) or at a record of an open leaf ([`Self::record`]).
pub(crate) struct PageWalk<'a> {
    reader: &'a ChunkReader,
    span: Option<Span>,
    /// Only what comes after this key.
    after: Option<OwnedKey>,
    /// Pages that are still to be visited, the next one last.
    stack: Vec<Child>,
    /// Records of the open leaf, the next one last.
    leaf: Vec<Record>,
    fetched: HashMap<ChunkId, Bytes>,
    pages_read: u64,
}

impl<'a> PageWalk<'a> {
    pub(crate) fn new(reader: &'a ChunkReader, root: &Root, span: Option<Span>, after: Option<OwnedKey>) -> Self {
        let stack = Child::of_root(root).into_iter().collect();
        Self { reader, span, after, stack, leaf: Vec::new(), fetched: HashMap::new(), pages_read: 0 }
    }

    /// Pages that were opened so far.
    pub(crate) fn pages_read(&self) -> u64 {
        self.pages_read
    }

    /// The next record, if a leaf is open.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.leaf.last()
    }

    /// Takes the next record of the open leaf.
    pub(crate) fn take_record(&mut self) -> Option<Record> {
        self.leaf.pop()
    }

    /// The next page that is not opened yet; the open leaf's records come before it.
    pub(crate) fn page(&self) -> Option<&Child> {
        self.stack.last()
    }

    /// Nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.leaf.is_empty() && self.stack.is_empty()
    }

    /// Passes over the next page and all that is below it.
    pub(crate) fn skip(&mut self) {
        if let Some(child) = self.stack.pop() {
            self.fetched.remove(&child.page);
            self.stop_after(child.last.as_key());
        }
    }

    /// Nothing of the span comes after this key: the walk is over.
    fn stop_after(&mut self, key: EntryKey<'_>) {
        if self.span.as_ref().is_some_and(|span| span.ends_before(key)) {
            self.stack.clear();
            self.fetched.clear();
        }
    }

    /// Opens the next page: its records or its children take its place. `ahead` are pages that will be opened soon, to be fetched together
    /// with it.
    pub(crate) async fn open(&mut self, ahead: Vec<ChunkId>) -> Result<()> {
        let Some(child) = self.stack.pop() else { return Ok(()) };
        let page = self.fetch(child.page, ahead).await?;
        self.pages_read += 1;
        match decode(child.page, &page)? {
            Page::Leaf(mut records) => {
                let last = records.last().map(|record| OwnedKey::from(record.key()));
                records.retain(|record| self.wants(record.key()));
                records.reverse();
                self.leaf = records;
                if let Some(last) = last {
                    self.stop_after(last.as_key());
                }
            }
            Page::Inner(children) => {
                let from = children.partition_point(|child| self.comes_before(child.last.as_key()));
                self.stack.extend(children.into_iter().skip(from).rev());
            }
        }
        Ok(())
    }

    fn wants(&self, key: EntryKey<'_>) -> bool {
        self.span.as_ref().is_none_or(|span| span.holds(key))
            && self.after.as_ref().is_none_or(|after| key > after.as_key())
    }

    /// Nothing up to this key is wanted.
    fn comes_before(&self, key: EntryKey<'_>) -> bool {
        self.span.as_ref().is_some_and(|span| key < span.start())
            || self.after.as_ref().is_some_and(|after| key <= after.as_key())
    }

    async fn fetch(&mut self, page: ChunkId, ahead: Vec<ChunkId>) -> Result<Bytes> {
        if let Some(bytes) = self.fetched.remove(&page) {
            return Ok(bytes);
        }
        let wanted: HashSet<ChunkId> =
            ahead.into_iter().filter(|id| !self.fetched.contains_key(id)).chain([page]).collect();
        self.fetched.extend(self.reader.chunks(&wanted).await?);
        let fetched = self.fetched.remove(&page);
        fetched.ok_or_else(|| Error::Internal(format!("page {page} was fetched and is not there")))
    }

    /// Pages after the next one that must be opened, whatever is in them, if this walk is compared with `other`: those at whose place `other`
    /// has another page, or nothing.
    pub(crate) fn sure_ahead(&self, other: &Self) -> Vec<ChunkId> {
        let is_sure = |child: &&Child| {
            let is_before = |record: &Record| child.last.as_key() < record.key();
            other.is_done() || other.record().is_some_and(is_before) || other.has_another_at(child)
        };
        self.stack.iter().rev().skip(1).take(READ_AHEAD_PAGES).filter(is_sure).map(|child| child.page).collect()
    }

    fn has_another_at(&self, child: &Child) -> bool {
        // The next page lies last, so keys fall towards the end.
        let at = self.stack.partition_point(|mine| mine.last > child.last);
        self.stack.get(at).is_some_and(|mine| mine.last == child.last && mine.page != child.page)
    }
}

/// One way down a manifest to a key, remembered so that the next manifest is read only below where it differs.
#[derive(Default)]
pub(crate) struct Descent {
    path: Vec<ChunkId>,
    found: Option<Record>,
}

impl Descent {
    /// The first record that is not less than `key`, which must be the same key at every call.
    pub(crate) async fn find(
        &mut self,
        reader: &ChunkReader,
        root: &Root,
        key: EntryKey<'_>,
    ) -> Result<Option<&Record>> {
        let mut path = Vec::new();
        let mut next = root.page;
        let mut found = None;
        while let Some(page) = next {
            if let Some(shared) = self.path.iter().position(|known| *known == page) {
                path.extend_from_slice(&self.path[shared..]);
                found = self.found.take();
                break;
            }
            path.push(page);
            next = match decode(page, &reader.page(page).await?)? {
                Page::Leaf(records) => {
                    found = records.into_iter().find(|record| record.key() >= key);
                    None
                }
                Page::Inner(children) => {
                    let at = children.partition_point(|child| child.last.as_key() < key);
                    children.get(at).map(|child| child.page)
                }
            };
        }
        (self.path, self.found) = (path, found);
        Ok(self.found.as_ref())
    }
}

/// The containers of a manifest, sorted by name. Costs one way down the tree for each, mostly over the same pages.
///
/// # Errors
/// A damaged manifest.
pub async fn containers(reader: &ChunkReader, root: &Root) -> Result<Vec<ContainerEntry>> {
    let mut containers: Vec<ContainerEntry> = Vec::new();
    loop {
        // The next container starts after every name of this one.
        let after = containers.last().map(|last| format!("{}\0", last.name)).unwrap_or_default();
        let start = EntryKey { container: &after, name: "", is_current: false, version: "" };
        let mut descent = Descent::default();
        match descent.find(reader, root, start).await? {
            Some(Record::Container(container)) => containers.push(container.clone()),
            Some(Record::Blob(item)) => {
                return Err(Error::damaged("manifest", format!("{} has no container", item.entry.display_name())));
            }
            None => return Ok(containers),
        }
    }
}
