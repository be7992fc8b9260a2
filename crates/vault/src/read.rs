//! Reading chunks: located through the index, fetched in coalesced ranges, opened, and checked against their names. No
//! byte leaves this file that was not checked.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ChunkId, Content};
use crate::key::VaultKeys;
use crate::pack::{FRAME_BYTES_AT_MOST, FrameOpener, HEADER_BYTES, Location, PackId, check_chunk};
use crate::store::{Store, StoreErrorKind};

/// Ranges of one pack that lie closer than this are fetched as one.
const GAP_BYTES: u64 = 64 << 10;
/// A fetched range ends here at the latest.
const FETCH_BYTES: u64 = 8 << 20;
/// Packs whose keys are kept open.
const OPEN_PACKS: usize = 512;
/// Metadata chunks kept in memory, at a few KiB each.
const CACHED_PAGES: usize = 256;

/// Reads chunks of a vault.
pub struct ChunkReader {
    store: Arc<dyn Store>,
    keys: Arc<VaultKeys>,
    index: Arc<Index>,
    openers: Mutex<LruCache<PackId, Arc<FrameOpener>>>,
    pages: Mutex<LruCache<ChunkId, Bytes>>,
}

impl ChunkReader {
    /// A reader of the chunks that `index` knows.
    pub fn new(store: Arc<dyn Store>, keys: Arc<VaultKeys>, index: Arc<Index>) -> Self {
        let cache = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            keys,
            index,
            openers: Mutex::new(LruCache::new(cache(OPEN_PACKS))),
            pages: Mutex::new(LruCache::new(cache(CACHED_PAGES))),
        }
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

    /// Many chunks at once, each pack read in its own order. The caller bounds how much that is.
    pub async fn chunks(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Bytes>> {
        let mut wanted: Vec<(Location, ChunkId)> =
            self.locate(ids).await?.into_iter().map(|(id, at)| (at, id)).collect();
        wanted.sort_unstable();
        let mut chunks = HashMap::with_capacity(wanted.len());
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (together, after) = rest.split_at(coalesced(rest));
            self.fetch(together, &mut chunks).await?;
            rest = after;
        }
        Ok(chunks)
    }

    /// Where these chunks lie. A chunk that the index does not know is damage: something refers to it.
    pub async fn locate(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Location>> {
        let mut found = self.index.find_many(ids).await?;
        if found.len() < ids.len() {
            self.index.refresh().await?;
            found = self.index.find_many(ids).await?;
        }
        match ids.iter().find(|id| !found.contains_key(id)) {
            None => Ok(found),
            Some(missing) => {
                Err(Error::damaged("index", format!("no run names chunk {missing}: a run is missing, or its pack")))
            }
        }
    }

    async fn fetch(&self, wanted: &[(Location, ChunkId)], chunks: &mut HashMap<ChunkId, Bytes>) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last()) else { return Ok(()) };
        let (start, end) = (u64::from(first.frame_offset), u64::from(last.frame_offset) + u64::from(last.frame_bytes));
        let name = first.pack.file_name();
        let opener = self.opener(first.pack).await?;
        let piece = self.store.get_range(&name, start..end).await.map_err(|e| missing(&name, e))?;
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
        let header = self.store.get_range(&name, 0..HEADER_BYTES as u64).await.map_err(|e| missing(&name, e))?;
        let opener = Arc::new(FrameOpener::new(&self.keys, pack, &header)?);
        self.openers.lock().unwrap_or_else(PoisonError::into_inner).put(pack, opener.clone());
        Ok(opener)
    }

    /// The chunk names of a blob's content, level by level; lists are read as they are needed.
    pub fn content<'a>(&'a self, content: &Content) -> ContentChunks<'a> {
        let stack = match content {
            Content::Empty => Vec::new(),
            Content::Chunks(ids) => vec![(0, ids.iter().copied().rev().collect())],
            Content::ChunkTree { root, depth } => vec![(*depth, vec![*root])],
        };
        ContentChunks { reader: self, stack }
    }
}

fn missing(name: &str, error: crate::store::StoreError) -> Error {
    match error.kind {
        StoreErrorKind::NotFound => Error::damaged(name, "the file is missing"),
        _ => error.into(),
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
}

impl ContentChunks<'_> {
    /// The next name, or `None` at the end of the blob.
    pub async fn next(&mut self) -> Result<Option<ChunkId>> {
        while let Some((depth, ids)) = self.stack.last_mut() {
            let depth = *depth;
            match ids.pop() {
                None => drop(self.stack.pop()),
                Some(id) if depth == 0 => return Ok(Some(id)),
                Some(id) => {
                    let mut listed = decode_list(&self.reader.page(id).await?)
                        .ok_or_else(|| Error::damaged("pack", format!("chunk list {id} does not parse")))?;
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

fn decode_list(bytes: &[u8]) -> Option<Vec<ChunkId>> {
    let ids = bytes.strip_prefix(&[LIST_VERSION])?;
    let (ids, rest) = ids.as_chunks::<32>();
    rest.is_empty().then(|| ids.iter().map(|id| ChunkId(*id)).collect())
}
