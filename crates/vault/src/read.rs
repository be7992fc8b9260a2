//! Reading chunks: located through the index, fetched in coalesced ranges, opened, and checked against their names. No
//! byte leaves this file that was not checked. Where a copy of a chunk is damaged or missing, the others that the index names are tried.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::item::{ChunkId, Content};
use crate::key::VaultKeys;
use crate::pack::{FRAME_BYTES_AT_MOST, FrameOpener, HEADER_BYTES, Location, PackId, PackKind, check_chunk};
use crate::store::{Store, StoreErrorKind};

/// Ranges of one pack that lie closer than this are fetched as one.
const GAP_BYTES: u64 = 64 << 10;
/// A fetched range ends here at the latest.
const FETCH_BYTES: u64 = 8 << 20;
/// Packs whose keys are kept open.
const OPEN_PACKS: usize = 512;
/// Metadata chunks kept in memory, at a few KiB each.
const CACHED_PAGES: usize = 256;

/// Broken packs that are remembered.
const BROKEN_PACKS: usize = 64 << 10;

/// Reads chunks of a vault.
pub struct ChunkReader {
    store: Arc<dyn Store>,
    keys: Arc<VaultKeys>,
    index: Arc<Index>,
    fetched_bytes: AtomicU64,
    openers: Mutex<LruCache<PackId, Arc<FrameOpener>>>,
    pages: Mutex<LruCache<ChunkId, Bytes>>,
    broken: Mutex<HashSet<PackId>>,
    is_doubted: AtomicBool,
}

impl ChunkReader {
    /// A reader of the chunks that `index` knows.
    pub fn new(store: Arc<dyn Store>, keys: Arc<VaultKeys>, index: Arc<Index>) -> Self {
        let cache = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            keys,
            index,
            fetched_bytes: AtomicU64::new(0),
            openers: Mutex::new(LruCache::new(cache(OPEN_PACKS))),
            pages: Mutex::new(LruCache::new(cache(CACHED_PAGES))),
            broken: Mutex::default(),
            is_doubted: AtomicBool::new(false),
        }
    }

    /// These packs are damaged or missing. What lies only there is not taken for stored by a backup, which so mends what its source still has.
    pub fn mark_broken(&self, packs: impl IntoIterator<Item = PackId>) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BROKEN_PACKS.saturating_sub(broken.len());
        broken.extend(packs.into_iter().take(room));
    }

    /// Something is lost, and nobody knows in which pack: a backup then looks for every chunk that it takes over.
    pub fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
    }

    /// No damage is known in this vault.
    pub fn is_beyond_doubt(&self) -> bool {
        let no_pack_is_broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        no_pack_is_broken && !self.is_doubted.load(Ordering::Relaxed) && self.index.damaged_runs().is_empty()
    }

    /// Nothing is known against this pack: no read of it failed, and no verification said that it is broken.
    pub fn is_trusted(&self, pack: PackId) -> bool {
        !self.broken.lock().unwrap_or_else(PoisonError::into_inner).contains(&pack)
    }

    /// Whether every chunk of a blob lies in a pack that is not known to be broken. Costs nothing while no damage is known.
    pub async fn is_whole(&self, content: &Content) -> Result<bool> {
        if self.is_beyond_doubt() {
            return Ok(true);
        }
        match self.is_content_trusted(content).await {
            Err(e) if e.kind() == ErrorKind::Damaged => Ok(false),
            outcome => outcome,
        }
    }

    async fn is_content_trusted(&self, content: &Content) -> Result<bool> {
        if content.version_at_source().is_some() {
            return Ok(true);
        }
        let mut names = self.content(content);
        while let Some(id) = names.next().await? {
            if !self.index.find_all(id).await?.iter().any(|at| self.is_trusted(at.pack)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One chunk of metadata (a page or a list), from a small cache where it is there.
    pub async fn page(&self, id: ChunkId) -> Result<Bytes> {
        if let Some(page) = self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(page.clone());
        }
        let page = self
            .chunks(&HashSet::from([id]))
            .await?
            .remove(&id)
            .ok_or_else(|| Error::Internal(format!("chunk {id} was fetched and is not there")))?;
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).put(id, page.clone());
        Ok(page)
    }

    /// Bytes of packs that were read so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// What a pack holds.
    pub async fn kind_of(&self, pack: PackId) -> Result<PackKind> {
        Ok(self.opener(pack).await?.kind())
    }

    /// Many chunks at once, each pack read in its own order. The caller bounds how much that is.
    pub async fn chunks(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Bytes>> {
        let wanted = self.locate(ids).await?.into_iter().map(|(id, at)| (at, id)).collect();
        self.chunks_at(wanted).await
    }

    /// The same for chunks that lie in known places.
    pub async fn chunks_at(&self, mut wanted: Vec<(Location, ChunkId)>) -> Result<HashMap<ChunkId, Bytes>> {
        wanted.sort_unstable();
        let mut chunks = HashMap::with_capacity(wanted.len());
        let mut has_refreshed = false;
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (together, after) = rest.split_at(coalesced(rest));
            match self.fetch(together, &mut chunks).await {
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    for (location, id) in together {
                        self.fetch_any(*id, *location, &mut has_refreshed, &mut chunks).await?;
                    }
                }
                outcome => outcome?,
            }
            rest = after;
        }
        Ok(chunks)
    }

    /// One chunk by itself: from where it was expected, or else from any other place that a run names. The index is looked at anew once:
    /// the chunk may have moved since it was read.
    async fn fetch_any(
        &self,
        id: ChunkId,
        expected: Location,
        has_refreshed: &mut bool,
        chunks: &mut HashMap<ChunkId, Bytes>,
    ) -> Result<()> {
        let first = match self.fetch(&[(expected, id)], chunks).await {
            Err(e) if e.kind() == ErrorKind::Damaged => e,
            outcome => return outcome,
        };
        let mut tried = vec![expected];
        loop {
            for location in self.index.find_all(id).await? {
                if tried.contains(&location) {
                    continue;
                }
                tried.push(location);
                match self.fetch(&[(location, id)], chunks).await {
                    Err(e) if e.kind() == ErrorKind::Damaged => {}
                    outcome => return outcome,
                }
            }
            if *has_refreshed {
                return Err(first);
            }
            self.index.refresh().await?;
            *has_refreshed = true;
        }
    }

    /// Where these chunks lie. A chunk that the index does not know is damage: something refers to it.
    pub async fn locate(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Location>> {
        let mut found = self.find(ids).await?;
        if found.len() < ids.len() {
            self.index.refresh().await?;
            found = self.find(ids).await?;
        }
        match ids.iter().find(|id| !found.contains_key(id)) {
            None => Ok(found),
            Some(missing) => Err(self.why_not_found(*missing).await),
        }
    }

    /// Why the index does not name a chunk that something refers to: a run that cannot be read may have named it.
    pub(crate) async fn why_not_found(&self, id: ChunkId) -> Error {
        match self.index.find_all(id).await {
            Err(e) => e,
            Ok(_) => Error::damaged("index", format!("no run names chunk {id}: a run is missing, or its pack")),
        }
    }

    /// What the index knows of these chunks. A run that cannot be read does not hide what others name.
    pub(crate) async fn find(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Location>> {
        match self.index.find_many(ids).await {
            Err(e) if e.kind() == ErrorKind::Damaged => {}
            outcome => return outcome,
        }
        let mut found = HashMap::with_capacity(ids.len());
        for id in ids {
            match self.index.find_all(*id).await {
                Ok(locations) => found.extend(locations.first().map(|location| (*id, *location))),
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    async fn fetch(&self, wanted: &[(Location, ChunkId)], chunks: &mut HashMap<ChunkId, Bytes>) -> Result<()> {
        let outcome = self.fetch_range(wanted, chunks).await;
        if matches!(&outcome, Err(e) if e.kind() == ErrorKind::Damaged) {
            self.mark_broken(wanted.first().map(|(location, _)| location.pack));
        }
        outcome
    }

    async fn fetch_range(&self, wanted: &[(Location, ChunkId)], chunks: &mut HashMap<ChunkId, Bytes>) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last()) else { return Ok(()) };
        let (start, end) = (u64::from(first.frame_offset), u64::from(last.frame_offset) + u64::from(last.frame_bytes));
        let name = first.pack.file_name();
        let opener = self.opener(first.pack).await?;
        let piece = get_range(self.store.as_ref(), &name, start..end).await?;
        self.fetched_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let (keys, wanted) = (self.keys.clone(), wanted.to_vec());
        let opened = tokio::task::spawn_blocking(move || open_all(&keys, &opener, &piece, start, &wanted))
            .await
            .map_err(|e| Error::Internal(format!("a worker thread died: {e}")))??;
        chunks.extend(opened);
        Ok(())
    }

    async fn opener(&self, pack: PackId) -> Result<Arc<FrameOpener>> {
        if let Some(opener) = self.openers.lock().unwrap_or_else(PoisonError::into_inner).get(&pack) {
            return Ok(opener.clone());
        }
        let name = pack.file_name();
        let header = get_range(self.store.as_ref(), &name, 0..HEADER_BYTES as u64).await?;
        let opener = Arc::new(FrameOpener::new(&self.keys, pack, &header)?);
        self.openers.lock().unwrap_or_else(PoisonError::into_inner).put(pack, opener.clone());
        Ok(opener)
    }

    /// The chunk names of a blob's content, level by level; lists are read as they are needed.
    pub fn content<'a>(&'a self, content: &Content) -> ContentChunks<'a> {
        let stack = match content {
            Content::Empty | Content::AtSource { .. } => Vec::new(),
            Content::Chunks(ids) => vec![(0, ids.iter().copied().rev().collect())],
            Content::ChunkTree { root, depth } => vec![(*depth, vec![*root])],
        };
        ContentChunks { reader: self, stack, elsewhere: content.version_at_source().map(ToOwned::to_owned) }
    }
}

/// A range of a file that must be there: a file that is missing or too short is damage, whatever the store calls it.
pub(crate) async fn get_range(store: &dyn Store, name: &str, range: Range<u64>) -> Result<Bytes> {
    let end = range.end;
    let error = match store.get_range(name, range).await {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let missing = || Error::damaged(name, "the file is missing");
    if error.kind == StoreErrorKind::NotFound {
        return Err(missing());
    }
    match store.size(name).await {
        Ok(size) if size < end => {
            Err(Error::damaged(name, format!("it is cut off: it has {size} bytes and byte {end} is needed")))
        }
        Err(e) if e.kind == StoreErrorKind::NotFound => Err(missing()),
        _ => Err(error.into()),
    }
}

/// How many of the first entries belong to one fetch.
fn coalesced(wanted: &[(Location, ChunkId)]) -> usize {
    let first = wanted[0].0;
    let mut end = u64::from(first.frame_offset) + u64::from(first.frame_bytes);
    for (count, (location, _)) in wanted.iter().enumerate().skip(1) {
        let start = u64::from(location.frame_offset);
        let next_end = end.max(start + u64::from(location.frame_bytes));
        let fits = next_end - u64::from(first.frame_offset) <= FETCH_BYTES;
        if location.pack != first.pack || start > end + GAP_BYTES || !fits {
            return count;
        }
        end = next_end;
    }
    wanted.len()
}

fn open_all(
    keys: &VaultKeys,
    opener: &FrameOpener,
    piece: &[u8],
    start: u64,
    wanted: &[(Location, ChunkId)],
) -> Result<Vec<(ChunkId, Bytes)>> {
    let mut opened = Vec::with_capacity(wanted.len());
    let mut frame: Option<(u32, Bytes)> = None;
    for (location, id) in wanted {
        let plaintext = match &frame {
            Some((offset, plaintext)) if *offset == location.frame_offset => plaintext.clone(),
            _ => {
                let from = (u64::from(location.frame_offset) - start) as usize;
                let sealed = piece.get(from..from + location.frame_bytes as usize).ok_or_else(|| {
                    Error::damaged(location.pack.file_name(), "the index names a frame beyond its range")
                })?;
                opener.open(location.frame_offset, sealed.to_vec(), FRAME_BYTES_AT_MOST)?
            }
        };
        let chunk = check_chunk(keys, &plaintext, *id, location)?;
        // A small chunk must not keep the whole frame that it shared in memory.
        let is_part = chunk.len() < plaintext.len();
        opened.push((*id, if is_part { Bytes::copy_from_slice(&chunk) } else { chunk }));
        frame = Some((location.frame_offset, plaintext));
    }
    Ok(opened)
}

/// Walks the chunk names of one blob.
pub struct ContentChunks<'a> {
    reader: &'a ChunkReader,
    stack: Vec<(u8, Vec<ChunkId>)>,
    /// The version of the account that is the content, if the vault does not have it.
    elsewhere: Option<String>,
}

/// Why content cannot be read here. It is never taken for no content.
pub(crate) fn stays_at_source(version: &str) -> Error {
    Error::Invalid(format!(
        "the content is no part of the vault: it stays at its account, as version {version}, and only a restore in place brings it back"
    ))
}

impl ContentChunks<'_> {
    /// The next name, or `None` at the end of the blob.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the content stays at its source.
    pub async fn next(&mut self) -> Result<Option<ChunkId>> {
        if let Some(version) = &self.elsewhere {
            return Err(stays_at_source(version));
        }
        while let Some((depth, ids)) = self.stack.last_mut() {
            let depth = *depth;
            match ids.pop() {
                None => drop(self.stack.pop()),
                Some(id) if depth == 0 => return Ok(Some(id)),
                Some(id) => {
                    let mut listed = decode_list(id, &self.reader.page(id).await?)?;
                    listed.reverse();
                    self.stack.push((depth - 1, listed));
                }
            }
        }
        Ok(None)
    }
}

const LIST_VERSION: u8 = 1;

/// The bytes of a chunk list.
pub fn encode_list(ids: &[ChunkId]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + 32 * ids.len());
    bytes.push(LIST_VERSION);
    for id in ids {
        bytes.extend_from_slice(&id.0);
    }
    Bytes::from(bytes)
}

/// The names in a chunk list.
pub(crate) fn decode_list(id: ChunkId, bytes: &[u8]) -> Result<Vec<ChunkId>> {
    let damaged = || Error::damaged("pack", format!("chunk list {id} does not parse"));
    let (ids, rest) = bytes.strip_prefix(&[LIST_VERSION]).ok_or_else(damaged)?.as_chunks::<32>();
    if rest.is_empty() { Ok(ids.iter().map(|id| ChunkId(*id)).collect()) } else { Err(damaged()) }
}
