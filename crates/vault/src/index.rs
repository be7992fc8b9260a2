//! The index: chunk id → where it lies. Sorted runs in the store, read by block; nothing here grows with the number of chunks
//! except the fences (44 bytes for every 512 chunks), and every run can be rebuilt from the footers of the packs.
//!
//! A run is `magic | salt | sealed blocks | sealed fence table | trailer` (`docs/format.md`, "Index").

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;

use crate::error::{Error, Result};
use crate::item::ChunkId;
use crate::key::VaultKeys;
use crate::pack::{Location, PackId};
use crate::seal::{Sealer, SecretKey, TAG_BYTES, random_bytes};
use crate::store::{Put, Store};

const MAGIC: &[u8; 8] = b"BKINDEX1";
const END_MAGIC: &[u8; 4] = b"BKIE";
const SALT_BYTES: usize = 32;
const TRAILER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 32 + 16 + 4 * 4;
const BLOCK_ENTRIES: usize = 512;
/// Opened blocks kept in memory: 1,024 of about 32 KiB.
const CACHED_BLOCKS: usize = 1024;
/// Folder of the runs.
pub const FOLDER: &str = "index/";

/// A chunk and where it lies.
pub type Entry = (ChunkId, Location);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fence {
    first: ChunkId,
    offset: u64,
    sealed_bytes: u32,
}

struct Run {
    name: String,
    sealer: Sealer,
    fences: Vec<Fence>,
}

type BlockCache = LruCache<(usize, usize), Arc<Vec<Entry>>>;

/// The index of an open vault.
pub struct Index {
    store: Arc<dyn Store>,
    keys: Arc<VaultKeys>,
    runs: RwLock<Vec<Arc<Run>>>,
    damaged: Mutex<BTreeMap<String, String>>,
    blocks: Mutex<BlockCache>,
}

impl Index {
    /// Opens all runs of the store: reads their fences, not their blocks.
    pub async fn open(store: Arc<dyn Store>, keys: Arc<VaultKeys>) -> Result<Self> {
        let capacity = NonZeroUsize::new(CACHED_BLOCKS).unwrap_or(NonZeroUsize::MIN);
        let index = Self {
            store,
            keys,
            runs: RwLock::default(),
            damaged: Mutex::default(),
            blocks: Mutex::new(LruCache::new(capacity)),
        };
        index.refresh().await?;
        Ok(index)
    }

    /// Learns of runs that were written since.
    pub async fn refresh(&self) -> Result<()> {
        let known: HashSet<String> = self.runs.read().await.iter().map(|run| run.name.clone()).collect();
        let mut after = None;
        loop {
            let files = self.store.list(FOLDER, after.as_deref()).await?;
            let Some(last) = files.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for file in files.iter().filter(|file| !known.contains(&file.name)) {
                match self.open_run(&file.name, file.size_bytes).await {
                    Ok(run) => self.runs.write().await.push(Arc::new(run)),
                    // What the other runs name can still be restored; what only this one names is missed when it is needed.
                    Err(Error::Damaged { file, reason }) => {
                        tracing::error!(file, reason, "an index run is damaged and left out");
                        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(file, reason);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }

    /// Runs that could not be opened, and why.
    pub fn damaged_runs(&self) -> BTreeMap<String, String> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open_run(&self, name: &str, file_bytes: u64) -> Result<Run> {
        let damaged = |reason: &str| Error::damaged(name, reason);
        if file_bytes < (MAGIC.len() + SALT_BYTES + TAG_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged("it is too short for an index run"));
        }
        let head = self.store.get_range(name, 0..(MAGIC.len() + SALT_BYTES) as u64).await?;
        let salt = head.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it does not begin like an index run"))?;
        let sealer = Sealer::new(&run_key(&self.keys.meta_key, salt))?;
        let trailer = self.store.get_range(name, file_bytes - TRAILER_BYTES as u64..file_bytes).await?;
        if &trailer[4..] != END_MAGIC {
            return Err(damaged("it does not end like an index run: it is cut off or overwritten"));
        }
        let length = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
        let end = file_bytes - TRAILER_BYTES as u64;
        let start = end
            .checked_sub(length)
            .filter(|start| *start >= (MAGIC.len() + SALT_BYTES) as u64 && length >= TAG_BYTES as u64)
            .ok_or_else(|| damaged("its trailer points outside of it"))?;
        let mut sealed = self.store.get_range(name, start..end).await?.to_vec();
        let plaintext = sealer
            .open(start, name.as_bytes(), &mut sealed)
            .ok_or_else(|| damaged("the seal of its fences does not fit"))?;
        let fences: Vec<Fence> =
            postcard::from_bytes(plaintext).map_err(|e| damaged(&format!("its fences do not parse: {e}")))?;
        let ends_before =
            |fence: &Fence| fence.offset.checked_add(fence.sealed_bytes.into()).is_some_and(|end| end <= start);
        if !fences.iter().all(ends_before) {
            return Err(damaged("its fences point outside of it"));
        }
        Ok(Run { name: name.to_owned(), sealer, fences })
    }

    /// Writes a run of these entries and makes it known here. The packs they name must be durable already.
    pub async fn add_run(&self, mut entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        entries.sort_unstable();
        let name = format!("{FOLDER}{}", hex::encode(random_bytes::<16>()?));
        let file = encode_run(&self.keys, &name, &entries)?;
        let size_bytes = file.len() as u64;
        if self.store.put_if_absent(&name, file).await? == Put::Exists {
            return Err(Error::Internal(format!("{name} was there already although its name is random")));
        }
        let run = self.open_run(&name, size_bytes).await?;
        self.runs.write().await.push(Arc::new(run));
        Ok(())
    }

    /// Where a chunk lies, or `None` if the index does not name it.
    pub async fn find(&self, id: ChunkId) -> Result<Option<Location>> {
        let runs = self.runs.read().await.clone();
        for (number, run) in runs.iter().enumerate().rev() {
            let Some(block) = run.fences.partition_point(|fence| fence.first <= id).checked_sub(1) else { continue };
            let entries = self.block(number, run, block).await?;
            if let Ok(position) = entries.binary_search_by(|(entry, _)| entry.cmp(&id)) {
                return Ok(Some(entries[position].1));
            }
        }
        Ok(None)
    }

    /// Where many chunks lie. Blocks are read in their own order, each once.
    pub async fn find_many(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Location>> {
        let mut missing: Vec<ChunkId> = ids.iter().copied().collect();
        missing.sort_unstable();
        let mut found = HashMap::with_capacity(missing.len());
        let runs = self.runs.read().await.clone();
        for (number, run) in runs.iter().enumerate().rev() {
            let mut still_missing = Vec::new();
            let mut open: Option<(usize, Arc<Vec<Entry>>)> = None;
            for id in missing {
                let Some(block) = run.fences.partition_point(|fence| fence.first <= id).checked_sub(1) else {
                    still_missing.push(id);
                    continue;
                };
                let entries = match &open {
                    Some((number, entries)) if *number == block => entries.clone(),
                    _ => self.block(number, run, block).await?,
                };
                match entries.binary_search_by(|(entry, _)| entry.cmp(&id)) {
                    Ok(position) => drop(found.insert(id, entries[position].1)),
                    Err(_) => still_missing.push(id),
                }
                open = Some((block, entries));
            }
            missing = still_missing;
            if missing.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    async fn block(&self, number: usize, run: &Run, block: usize) -> Result<Arc<Vec<Entry>>> {
        if let Some(entries) = lock(&self.blocks).get(&(number, block)) {
            return Ok(entries.clone());
        }
        let fence = &run.fences[block];
        let range = fence.offset..fence.offset + u64::from(fence.sealed_bytes);
        let mut sealed = self.store.get_range(&run.name, range).await?.to_vec();
        let damaged = |reason: &str| Error::damaged(&run.name, format!("block {block}: {reason}"));
        let plaintext = run
            .sealer
            .open(fence.offset, run.name.as_bytes(), &mut sealed)
            .ok_or_else(|| damaged("its seal does not fit"))?;
        let entries = Arc::new(decode_entries(plaintext).ok_or_else(|| damaged("it has no whole entries"))?);
        lock(&self.blocks).put((number, block), entries.clone());
        Ok(entries)
    }

    /// Names of all runs, and the entries of each block in turn: for `verify`.
    pub async fn for_each_block(&self, mut check: impl FnMut(&str, &[Entry]) -> Result<()>) -> Result<usize> {
        let runs = self.runs.read().await.clone();
        for (number, run) in runs.iter().enumerate() {
            for block in 0..run.fences.len() {
                check(&run.name, &self.block(number, run, block).await?)?;
            }
        }
        Ok(runs.len())
    }
}

fn lock(blocks: &Mutex<BlockCache>) -> std::sync::MutexGuard<'_, BlockCache> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_key(meta_key: &SecretKey, salt: &[u8]) -> SecretKey {
    meta_key.derive("blobkeep 1 index run", salt)
}

fn encode_run(keys: &VaultKeys, name: &str, entries: &[Entry]) -> Result<Bytes> {
    let salt: [u8; SALT_BYTES] = random_bytes()?;
    let sealer = Sealer::new(&run_key(&keys.meta_key, &salt))?;
    let mut file = Vec::with_capacity(entries.len() * (ENTRY_BYTES + 1) + 256);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&salt);
    let mut fences = Vec::with_capacity(entries.len() / BLOCK_ENTRIES + 1);
    for block in entries.chunks(BLOCK_ENTRIES) {
        let offset = file.len() as u64;
        let mut piece = encode_entries(block);
        sealer.seal(offset, name.as_bytes(), &mut piece)?;
        file.extend_from_slice(&piece);
        fences.push(Fence { first: block[0].0, offset, sealed_bytes: piece.len() as u32 });
    }
    let mut table = postcard::to_stdvec(&fences).map_err(|e| Error::Internal(format!("index fences: {e}")))?;
    sealer.seal(file.len() as u64, name.as_bytes(), &mut table)?;
    file.extend_from_slice(&table);
    file.extend_from_slice(&(table.len() as u32).to_le_bytes());
    file.extend_from_slice(END_MAGIC);
    Ok(Bytes::from(file))
}

fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES + TAG_BYTES);
    for (id, at) in entries {
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&at.pack.0);
        for number in [at.frame_offset, at.frame_bytes, at.inner_offset, at.plain_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn decode_entries(bytes: &[u8]) -> Option<Vec<Entry>> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    bytes.chunks_exact(ENTRY_BYTES).map(decode_entry).collect()
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let number = |position: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(position..position + 4)?.try_into().ok()?))
    };
    let location = Location {
        pack: PackId(bytes.get(32..48)?.try_into().ok()?),
        frame_offset: number(48)?,
        frame_bytes: number(52)?,
        inner_offset: number(56)?,
        plain_bytes: number(60)?,
    };
    Some((ChunkId(bytes.get(..32)?.try_into().ok()?), location))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn entry(number: u32) -> Entry {
        let id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let location = Location {
            pack: PackId([number as u8; 16]),
            frame_offset: number,
            frame_bytes: 100,
            inner_offset: 0,
            plain_bytes: number,
        };
        (id, location)
    }

    #[tokio::test]
    async fn chunks_are_found_in_all_runs_also_after_opening_again() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let keys = Arc::new(VaultKeys::generate().unwrap());
        let index = Index::open(store.clone(), keys.clone()).await.unwrap();
        index.add_run((0..2_000).map(entry).collect()).await.unwrap();
        index.add_run((2_000..2_100).map(entry).collect()).await.unwrap();
        for index in [index, Index::open(store, keys).await.unwrap()] {
            for number in [0, 1, 511, 512, 1_999, 2_000, 2_099] {
                let (id, location) = entry(number);
                assert_eq!(index.find(id).await.unwrap(), Some(location), "chunk {number}");
            }
            assert_eq!(index.find(entry(5_000).0).await.unwrap(), None);
            let ids = (1_500..2_200).map(|number| entry(number).0).collect();
            let found = index.find_many(&ids).await.unwrap();
            assert_eq!(found.len(), 600);
            assert!((1_500..2_100).all(|number| found[&entry(number).0] == entry(number).1));
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_in_a_run_is_found_before_an_answer_is_given() {
        let store = Arc::new(MemoryStore::default());
        let keys = Arc::new(VaultKeys::generate().unwrap());
        Index::open(store.clone(), keys.clone()).await.unwrap().add_run((0..20).map(entry).collect()).await.unwrap();
        let (name, file) = store.files().pop().unwrap();
        for position in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[position] ^= 1;
            store.replace(&name, damaged);
            let outcome = match Index::open(store.clone(), keys.clone()).await {
                Ok(index) if !index.damaged_runs().is_empty() => Err(Error::damaged(name.clone(), "as it says")),
                Ok(index) => index.find(entry(3).0).await.map(|found| assert_eq!(found, Some(entry(3).1))),
                Err(error) => Err(error),
            };
            assert!(outcome.is_err(), "byte {position} of {}", file.len());
        }
    }
}
