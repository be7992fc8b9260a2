//! The manifest of a point: its containers and blobs, sorted, as a tree of pages.
//!
//! A page ends after an entry whose key hashes to a certain value, so where pages end depends on the entries alone: equal lists
//! have equal pages and one root, whoever wrote them and in how many parts. Pages are chunks: a point that differs little from
//! the one before shares nearly all of them with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::{ChunkId, ContainerEntry, EntryKey, Item};
use crate::pack::PackKind;
use crate::read::ChunkReader;
use crate::seal::SecretKey;
use crate::write::ChunkWriter;

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    fn add(&mut self, other: &Self) {
        self.containers += other.containers;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }

    fn count(&mut self, record: &Record) {
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
struct Child {
    last: OwnedKey,
    page: ChunkId,
    totals: Totals,
}

#[derive(Serialize, Deserialize)]
enum Page {
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
/// Pages that a reader fetches ahead.
const READ_AHEAD_PAGES: usize = 24;

fn encode(page: &Page) -> Result<Bytes> {
    postcard::to_extend(page, vec![PAGE_VERSION])
        .map(Bytes::from)
        .map_err(|e| Error::Internal(format!("manifest page: {e}")))
}

fn decode(id: ChunkId, bytes: &[u8]) -> Result<Page> {
    let damaged = |reason: String| Error::damaged(format!("manifest page {id}"), reason);
    let Some(rest) = bytes.strip_prefix(&[PAGE_VERSION]) else {
        return Err(damaged("it has a version that is not known here".into()));
    };
    postcard::from_bytes(rest).map_err(|e| damaged(format!("it does not parse: {e}")))
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

/// A page of this level (0: leaves) ends after an entry of this hash.
fn ends_page(hash: u64, level: usize) -> bool {
    let shift = (PAGE_BITS * level as u32).min(63);
    (hash >> shift) & ((1 << PAGE_BITS) - 1) == 0
}

/// Builds a manifest from records in key order. Cloning it keeps a state to go back to: what is open in it is a few pages.
#[derive(Clone)]
pub struct ManifestWriter {
    id_key: SecretKey,
    leaf: Vec<Record>,
    levels: Vec<Vec<Child>>,
    totals: Totals,
    last: Option<OwnedKey>,
}

impl ManifestWriter {
    /// An empty manifest.
    pub fn new(id_key: &SecretKey) -> Self {
        Self { id_key: id_key.clone(), leaf: Vec::new(), levels: Vec::new(), totals: Totals::default(), last: None }
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
        let key = OwnedKey::from(record.key());
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Error::Internal(format!("manifest entries are out of order at {:?}", key.name)));
        }
        let hash = boundary_hash(&self.id_key, key.as_key());
        self.totals.count(&record);
        self.leaf.push(record);
        self.last = Some(key);
        if ends_page(hash, 0) {
            self.close_leaf(writer).await?;
            let mut level = 1;
            while ends_page(hash, level) && level <= self.levels.len() {
                self.close_level(level, writer).await?;
                level += 1;
            }
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
        if self.levels.len() < level {
            self.levels.resize_with(level, Vec::new);
        }
        self.levels[level - 1].push(child);
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
        let last = OwnedKey { container: String::new(), name: String::new(), is_current: true, version: String::new() };
        let stack = root.page.map(|page| Child { last, page, totals: root.totals }).into_iter().collect();
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
            self.fetched = self.reader.chunks(&next.chain([id]).collect::<HashSet<_>>()).await?;
        }
        self.fetched.remove(&id).ok_or_else(|| Error::Internal(format!("page {id} was fetched and is not there")))
    }

    /// The next record, or `None` at the end.
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
