//! The manifest of a point: its containers and blobs, sorted, as a tree of pages.
//!
//! A page ends after an entry whose key hashes to a certain value, so where pages end depends on the entries alone: equal lists
//! have equal pages and one root, whoever wrote them and in how many parts. Pages are chunks: a point that differs little from
//! the one before shares nearly all of them with it.

mod part;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::item::{ChunkId, ContainerEntry, Content, EntryKey, Item};
use crate::pack::PackKind;
use crate::read::ChunkReader;
use crate::seal::SecretKey;
use crate::write::ChunkWriter;

pub use part::ManifestPart;
pub use share::{Shares, share};

/// One entry of a manifest. Nearly all are blobs, so their size decides.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A container; comes before its blobs.
    Container(ContainerEntry),
    /// A blob.
    Blob(Item),
}

impl Record {
    /// The key by which records are sorted.
    pub fn key(&self) -> EntryKey<'_> {
        match self {
            Self::Container(container) => {
                EntryKey { container: &container.name, name: "", is_current: false, version: "" }
            }
            Self::Blob(item) => item.entry.key(),
        }
    }
}

/// A key that owns its strings.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedKey {
    container: String,
    name: String,
    is_current: bool,
    version: String,
}

impl OwnedKey {
    /// The borrowed form.
    pub fn as_key(&self) -> EntryKey<'_> {
        EntryKey { container: &self.container, name: &self.name, is_current: self.is_current, version: &self.version }
    }

    /// Becomes another key, in the same buffers.
    fn set(&mut self, key: EntryKey<'_>) {
        for (text, new) in
            [(&mut self.container, key.container), (&mut self.name, key.name), (&mut self.version, key.version)]
        {
            new.clone_into(text);
        }
        self.is_current = key.is_current;
    }
}

impl From<EntryKey<'_>> for OwnedKey {
    fn from(key: EntryKey<'_>) -> Self {
        Self {
            container: key.container.to_owned(),
            name: key.name.to_owned(),
            is_current: key.is_current,
            version: key.version.to_owned(),
        }
    }
}

/// What lies below a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Containers.
    pub containers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of the blobs.
    pub bytes: u64,
}

impl Totals {
    /// Adds what lies below another page.
    pub fn add(&mut self, other: &Self) {
        self.containers += other.containers;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }

    pub(crate) fn count(&mut self, record: &Record) {
        match record {
            Record::Container(_) => self.containers += 1,
            Record::Blob(item) => {
                self.blobs += 1;
                self.bytes += item.entry.size_bytes;
            }
        }
    }
}

/// A page as its parent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) last: OwnedKey,
    pub(crate) page: ChunkId,
    pub(crate) totals: Totals,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Page {
    Leaf(Vec<Record>),
    Inner(Vec<Child>),
}

/// The root of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// The topmost page; `None` if there is no entry at all.
    pub page: Option<ChunkId>,
    /// What the manifest holds.
    pub totals: Totals,
}

const PAGE_VERSION: u8 = 1;
/// Entries of a page, on average: 2 to this power. Small pages, because a scattered change of one blob in a hundred rewrites half of all
/// pages of 64 entries and a quarter of those of 32; they are compressed several together, so being small costs them little.
const PAGE_BITS: u32 = 5;
/// Levels of pages at most; only a hash of zero would have more.
const MAX_LEVELS: u32 = 64;
/// Pages that a reader fetches ahead.
pub(crate) const READ_AHEAD_PAGES: usize = 24;

fn encode(page: &Page) -> Result<Bytes> {
    postcard::to_extend(page, vec![PAGE_VERSION])
        .map(Bytes::from)
        .map_err(|e| Error::Internal(format!("manifest page: {e}")))
}

/// A page from its bytes.
pub(crate) fn decode(id: ChunkId, bytes: &[u8]) -> Result<Page> {
    let damaged = |reason: String| Error::damaged(format!("manifest page {id}"), reason);
    let Some(rest) = bytes.strip_prefix(&[PAGE_VERSION]) else {
        return Err(damaged("it has a version that is not known here".into()));
    };
    postcard::from_bytes(rest).map_err(|e| damaged(format!("it does not parse: {e}")))
}

/// What a page refers to.
pub(crate) enum Reference {
    /// A page below.
    Page(ChunkId),
    /// The list at the top of a blob's tree of lists.
    List { root: ChunkId, depth: u8 },
    /// A chunk of a blob's content.
    Content(ChunkId),
}

/// Everything that a page refers to.
pub(crate) fn references(id: ChunkId, bytes: &[u8]) -> Result<Vec<Reference>> {
    Ok(match decode(id, bytes)? {
        Page::Inner(children) => children.into_iter().map(|child| Reference::Page(child.page)).collect(),
        Page::Leaf(records) => records
            .into_iter()
            .flat_map(|record| match record {
                Record::Blob(Item { content: Content::Chunks(ids), .. }) => {
                    ids.into_iter().map(Reference::Content).collect()
                }
                Record::Blob(Item { content: Content::ChunkTree { root, depth }, .. }) => {
                    vec![Reference::List { root, depth }]
                }
                Record::Blob(Item { content: Content::Empty | Content::AtSource { .. }, .. })
                | Record::Container(_) => Vec::new(),
            })
            .collect(),
    })
}

impl Child {
    /// The topmost page as a child of nothing; its last key is not known.
    pub(crate) fn of_root(root: &Root) -> Option<Self> {
        let last = OwnedKey { container: String::new(), name: String::new(), is_current: true, version: String::new() };
        root.page.map(|page| Self { last, page, totals: root.totals })
    }
}

/// Decides after which entries pages end.
fn boundary_hash(id_key: &SecretKey, key: EntryKey<'_>) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(id_key.expose());
    for part in [key.container, key.name, key.version] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&[u8::from(key.is_current)]);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Levels of pages that end after an entry of this hash: 0 if not even its leaf ends, 1 if the leaf alone does, and so on. A page of level
/// *l* has about 2 to the power of `page_bits` entries.
fn levels_ended(hash: u64, page_bits: u32) -> usize {
    let ends = |level: u32| (hash >> (page_bits * level).min(63)) & ((1 << page_bits) - 1) == 0;
    (0..MAX_LEVELS).take_while(|level| ends(*level)).count()
}

/// Builds a manifest from records in key order. Cloning it keeps a state to go back to: what is open in it is a few pages.
#[derive(Clone)]
pub struct ManifestWriter {
    id_key: SecretKey,
    page_bits: u32,
    leaf: Vec<Record>,
    levels: Vec<Vec<Child>>,
    totals: Totals,
    last: Option<OwnedKey>,
}

impl ManifestWriter {
    /// An empty manifest.
    pub fn new(id_key: &SecretKey) -> Self {
        Self {
            id_key: id_key.clone(),
            page_bits: PAGE_BITS,
            leaf: Vec::new(),
            levels: Vec::new(),
            totals: Totals::default(),
            last: None,
        }
    }

    /// What was pushed so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The key that was pushed last.
    pub fn last(&self) -> Option<EntryKey<'_>> {
        self.last.as_ref().map(OwnedKey::as_key)
    }

    /// Adds the next record, whose key must be greater than the last one.
    pub async fn push(&mut self, record: Record, writer: &Arc<ChunkWriter>) -> Result<()> {
        let ended = self.take_in(&record)?;
        self.leaf.push(record);
        if ended > 0 {
            self.close_leaf(writer).await?;
            for level in 1..ended {
                self.close_level(level, writer).await?;
            }
        }
        Ok(())
    }

    /// Counts a record that comes next, and says how many levels end after it.
    fn take_in(&mut self, record: &Record) -> Result<usize> {
        let key = record.key();
        self.check_follows(key)?;
        let hash = boundary_hash(&self.id_key, key);
        self.totals.count(record);
        self.last.get_or_insert_default().set(key);
        Ok(levels_ended(hash, self.page_bits))
    }

    fn check_follows(&self, key: EntryKey<'_>) -> Result<()> {
        if self.last().is_some_and(|last| last >= key) {
            return Err(Error::Internal(format!("manifest entries are out of order at {:?}", key.name)));
        }
        Ok(())
    }

    async fn close_leaf(&mut self, writer: &Arc<ChunkWriter>) -> Result<()> {
        let Some(last) = self.leaf.last() else { return Ok(()) };
        let last = OwnedKey::from(last.key());
        let mut totals = Totals::default();
        for record in &self.leaf {
            totals.count(record);
        }
        let page = encode(&Page::Leaf(std::mem::take(&mut self.leaf)))?;
        let page = writer.put(PackKind::Metadata, page).await?;
        self.child(1, Child { last, page, totals });
        Ok(())
    }

    async fn close_level(&mut self, level: usize, writer: &Arc<ChunkWriter>) -> Result<()> {
        let children = std::mem::take(&mut self.levels[level - 1]);
        let Some(last) = children.last().map(|child| child.last.clone()) else { return Ok(()) };
        let mut totals = Totals::default();
        for child in &children {
            totals.add(&child.totals);
        }
        let page = writer.put(PackKind::Metadata, encode(&Page::Inner(children))?).await?;
        self.child(level + 1, Child { last, page, totals });
        Ok(())
    }

    fn child(&mut self, level: usize, child: Child) {
        push_child(&mut self.levels, level, child);
    }

    /// Closes all pages. The pages are durable after the writer's next flush.
    pub async fn finish(mut self, writer: &Arc<ChunkWriter>) -> Result<Root> {
        self.close_leaf(writer).await?;
        let mut level = 1;
        loop {
            let is_top = level >= self.levels.len();
            match self.levels.get(level - 1).map(Vec::len) {
                None => return Ok(Root { page: None, totals: self.totals }),
                Some(1) if is_top => {
                    return Ok(Root { page: Some(self.levels[level - 1][0].page), totals: self.totals });
                }
                _ => self.close_level(level, writer).await?,
            }
            level += 1;
        }
    }
}

/// Adds a child to a level, counted from 1.
fn push_child(levels: &mut Vec<Vec<Child>>, level: usize, child: Child) {
    if levels.len() < level {
        levels.resize_with(level, Vec::new);
    }
    levels[level - 1].push(child);
}

/// Reads a manifest in key order. Memory: one page of each level, and a few leaves ahead.
pub struct ManifestReader<'a> {
    reader: &'a ChunkReader,
    /// Pages that are still to be visited, the next one last.
    stack: Vec<Child>,
    /// Pages that were read ahead together, because neighbours lie in one frame.
    fetched: HashMap<ChunkId, Bytes>,
    leaf: std::vec::IntoIter<Record>,
    start: Option<OwnedKey>,
    ahead: Option<Record>,
}

impl<'a> ManifestReader<'a> {
    /// A reader at the first record whose key is not less than `start`.
    pub fn new(reader: &'a ChunkReader, root: &Root, start: Option<EntryKey<'_>>) -> Self {
        let stack = Child::of_root(root).into_iter().collect();
        Self {
            reader,
            stack,
            fetched: HashMap::new(),
            leaf: Vec::new().into_iter(),
            start: start.map(OwnedKey::from),
            ahead: None,
        }
    }

    async fn page(&mut self, id: ChunkId) -> Result<Bytes> {
        if !self.fetched.contains_key(&id) {
            let next = self.stack.iter().rev().take(READ_AHEAD_PAGES).map(|child| child.page);
            self.fetched = match self.reader.chunks(&next.chain([id]).collect::<HashSet<_>>()).await {
                // A damaged page is met when it is its turn, not before.
                Err(e) if e.kind() == ErrorKind::Damaged => self.reader.chunks(&HashSet::from([id])).await?,
                fetched => fetched?,
            };
        }
        self.fetched.remove(&id).ok_or_else(|| Error::Internal(format!("page {id} was fetched and is not there")))
    }

    /// The next record, or `None` at the end. After an error of kind `Damaged` the reader goes on behind the damaged page if it is asked again.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        if let Some(record) = self.ahead.take() {
            return Ok(Some(record));
        }
        loop {
            for record in self.leaf.by_ref() {
                if self.start.as_ref().is_none_or(|start| record.key() >= start.as_key()) {
                    self.start = None;
                    return Ok(Some(record));
                }
            }
            let Some(child) = self.stack.pop() else { return Ok(None) };
            match decode(child.page, &self.page(child.page).await?)? {
                Page::Leaf(records) => self.leaf = records.into_iter(),
                Page::Inner(children) => {
                    let start = self.start.as_ref();
                    let from = start.map_or(0, |start| children.partition_point(|child| child.last < *start));
                    self.stack.extend(children.into_iter().skip(from).rev());
                }
            }
        }
    }

    /// Passes over the records before `start`, if it lies further on; pages that hold none but such are not read.
    pub fn seek(&mut self, start: EntryKey<'_>) {
        if self.ahead.as_ref().is_some_and(|record| record.key() >= start) {
            return;
        }
        self.ahead = None;
        // Of the root alone the last key is not known.
        while self.stack.len() > 1 && self.stack.last().is_some_and(|child| child.last.as_key() < start) {
            self.stack.pop();
        }
        if self.start.as_ref().is_none_or(|old| old.as_key() < start) {
            self.start = Some(OwnedKey::from(start));
        }
    }

    /// The record that [`Self::next`] will return.
    pub async fn peek(&mut self) -> Result<Option<&Record>> {
        if self.ahead.is_none() {
            self.ahead = self.next().await?;
        }
        Ok(self.ahead.as_ref())
    }

    /// Skips to the record of this key if it is there; records before it are passed over.
    pub async fn advance_to(&mut self, key: EntryKey<'_>) -> Result<Option<Record>> {
        loop {
            match self.peek().await? {
                Some(record) if record.key() < key => drop(self.next().await?),
                Some(record) if record.key() == key => return self.next().await,
                _ => return Ok(None),
            }
        }
    }
}
