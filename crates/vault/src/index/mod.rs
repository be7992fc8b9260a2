//! The index: chunk id → where it lies. Sorted runs in the store, read by block; nothing here grows with the number of chunks
//! except the fences (about 44 bytes for every 512 chunks), and every run can be rebuilt from the footers of the packs.

mod filter;
mod merge;
mod run;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::RwLock;

use crate::error::{Error, ErrorKind, Result};
use crate::item::ChunkId;
use crate::key::VaultKeys;
use crate::pack::{Location, PackId};
use crate::seal::random_bytes;
use crate::store::{Put, Store, StoreErrorKind};
pub use merge::MergedEntries;
use run::Run;

/// Opened blocks kept in memory: 1,024 of about 32 KiB.
const CACHED_BLOCKS: usize = 1024;
/// Opened filters kept in memory: 384 of at most 40 KiB.
const CACHED_FILTERS: usize = 384;
/// Entries of one run at most: 16 MiB.
pub const RUN_ENTRIES_AT_MOST: usize = 256 << 10;
/// Times that a search begins anew because runs have gone: others took their place.
const TRIES: usize = 4;
/// Folder of the runs.
pub const FOLDER: &str = "index/";

/// A chunk and where it lies.
pub type Entry = (ChunkId, Location);

type Cache<T> = Mutex<LruCache<(u64, usize), Arc<T>>>;

/// The index of an open vault.
pub struct Index {
    store: Arc<dyn Store>,
    keys: Arc<VaultKeys>,
    /// Oldest first.
    runs: RwLock<Vec<Arc<Run>>>,
    serials: AtomicU64,
    damaged: Mutex<BTreeMap<String, String>>,
    blocks: Cache<Vec<Entry>>,
    filters: Cache<Vec<u8>>,
}

fn lock<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run was not there any more.
fn has_gone(error: &Error) -> bool {
    matches!(error, Error::Store(e) if e.kind == StoreErrorKind::NotFound)
}

impl Index {
    /// Opens all runs of the store: reads their tables, not their blocks.
    pub async fn open(store: Arc<dyn Store>, keys: Arc<VaultKeys>) -> Result<Self> {
        let cache = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        let index = Self {
            store,
            keys,
            runs: RwLock::default(),
            serials: AtomicU64::new(0),
            damaged: Mutex::default(),
            blocks: Mutex::new(LruCache::new(cache(CACHED_BLOCKS))),
            filters: Mutex::new(LruCache::new(cache(CACHED_FILTERS))),
        };
        index.refresh().await?;
        Ok(index)
    }

    /// Learns of runs that were written since, and forgets those that have gone.
    pub async fn refresh(&self) -> Result<()> {
        let mut there = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let files = self.store.list(FOLDER, after.as_deref()).await?;
            let Some(last) = files.last() else { break };
            after = Some(last.name.clone());
            there.extend(files.into_iter().map(|file| (file.name, file.size_bytes)));
        }
        let known: HashSet<String> = self.runs.read().await.iter().map(|run| run.name.clone()).collect();
        let mut opened = Vec::new();
        let mut damaged = BTreeMap::new();
        for (name, size_bytes) in there.iter().filter(|(name, _)| !known.contains(*name)) {
            match self.open_run(name, *size_bytes).await {
                Ok(run) => opened.push(run),
                // What the other runs name can still be restored; what only this one names is missed when it is needed.
                Err(Error::Damaged { file, reason }) => {
                    tracing::error!(file, reason, "an index run is damaged and left out");
                    damaged.insert(file, reason);
                }
                // A prune replaced it since it was listed.
                Err(Error::Store(e)) if e.kind == StoreErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        *lock(&self.damaged) = damaged;
        let mut runs = self.runs.write().await;
        runs.retain(|run| there.contains_key(&run.name));
        for run in opened {
            if runs.iter().all(|known| known.name != run.name) {
                runs.push(run);
            }
        }
        Ok(())
    }

    /// Runs that could not be opened, and why.
    pub fn damaged_runs(&self) -> BTreeMap<String, String> {
        lock(&self.damaged).clone()
    }

    /// Names of the runs that are open.
    pub async fn run_names(&self) -> Vec<String> {
        self.runs.read().await.iter().map(|run| run.name.clone()).collect()
    }

    async fn open_run(&self, name: &str, size_bytes: u64) -> Result<Arc<Run>> {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        Run::open(self.store.as_ref(), &self.keys, name, size_bytes, serial).await.map(Arc::new)
    }

    /// Writes a run of these entries, at most [`RUN_ENTRIES_AT_MOST`], makes it known here and returns its name. The packs they
    /// name must be durable already.
    pub async fn add_run(&self, entries: Vec<Entry>) -> Result<Option<String>> {
        if entries.is_empty() {
            return Ok(None);
        }
        let (name, size_bytes) = self.put_run(entries).await?;
        let run = self.open_run(&name, size_bytes).await?;
        self.runs.write().await.push(run);
        Ok(Some(name))
    }

    /// Writes a run without making it known here; its name and size.
    pub(crate) async fn put_run(&self, mut entries: Vec<Entry>) -> Result<(String, u64)> {
        entries.sort_unstable();
        let name = format!("{FOLDER}{}", hex::encode(random_bytes::<16>()?));
        let file = run::encode(&self.keys, &name, &entries)?;
        let size_bytes = file.len() as u64;
        if self.store.put_if_absent(&name, file).await? == Put::Exists {
            return Err(Error::Internal(format!("{name} was there already although its name is random")));
        }
        Ok((name, size_bytes))
    }

    /// Where a chunk lies, or `None` if the index does not name it.
    pub async fn find(&self, id: ChunkId) -> Result<Option<Location>> {
        self.find_except(id, &HashSet::new()).await
    }

    /// Where a chunk lies outside of the packs `absent`.
    pub async fn find_except(&self, id: ChunkId, absent: &HashSet<PackId>) -> Result<Option<Location>> {
        Ok(self.find_many_except(&HashSet::from([id]), absent).await?.remove(&id))
    }

    /// Where many chunks lie. Blocks are read in their own order, each once.
    pub async fn find_many(&self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Location>> {
        self.find_many_except(ids, &HashSet::new()).await
    }

    /// The same outside of the packs `absent`.
    pub async fn find_many_except(
        &self,
        ids: &HashSet<ChunkId>,
        absent: &HashSet<PackId>,
    ) -> Result<HashMap<ChunkId, Location>> {
        let mut sorted: Vec<ChunkId> = ids.iter().copied().collect();
        sorted.sort_unstable();
        for _ in 1..TRIES {
            match self.search_many(&sorted, absent).await {
                Err(e) if has_gone(&e) => self.refresh().await?,
                outcome => return outcome,
            }
        }
        self.search_many(&sorted, absent).await
    }

    async fn search_many(&self, sorted: &[ChunkId], absent: &HashSet<PackId>) -> Result<HashMap<ChunkId, Location>> {
        let mut found = HashMap::with_capacity(sorted.len());
        let mut missing = sorted.to_vec();
        for run in self.newest_first().await {
            let mut still_missing = Vec::new();
            for id in missing {
                let places = self.find_in(&run, id).await?;
                match places.into_iter().find(|at| !absent.contains(&at.pack)) {
                    Some(at) => drop(found.insert(id, at)),
                    None => still_missing.push(id),
                }
            }
            missing = still_missing;
            if missing.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Every place where a chunk lies, each once. There is more than one where work was done twice.
    pub async fn find_all(&self, id: ChunkId) -> Result<Vec<Location>> {
        for _ in 1..TRIES {
            match self.search_all(id).await {
                Err(e) if has_gone(&e) => self.refresh().await?,
                outcome => return outcome,
            }
        }
        self.search_all(id).await
    }

    /// A run that cannot be read is passed over as long as another one names the chunk.
    async fn search_all(&self, id: ChunkId) -> Result<Vec<Location>> {
        let mut places = Vec::new();
        let mut unreadable = None;
        for run in self.newest_first().await {
            match self.find_in(&run, id).await {
                Ok(found) => found.into_iter().for_each(|at| {
                    if !places.contains(&at) {
                        places.push(at);
                    }
                }),
                Err(e) if e.kind() == ErrorKind::Damaged && !has_gone(&e) => unreadable = Some(e),
                Err(e) => return Err(e),
            }
        }
        match unreadable {
            Some(e) if places.is_empty() => Err(e),
            _ => Ok(places),
        }
    }

    async fn newest_first(&self) -> Vec<Arc<Run>> {
        self.runs.read().await.iter().rev().cloned().collect()
    }

    async fn find_in(&self, run: &Run, id: ChunkId) -> Result<Vec<Location>> {
        let Some(block) = run.block_of(id) else { return Ok(Vec::new()) };
        if !self.may_hold(run, block, id).await? {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        let mut unreadable = None;
        for block in (0..=block).rev() {
            match self.block(run, block).await {
                Ok(entries) => {
                    let start = entries.partition_point(|(entry, _)| *entry < id);
                    let end = entries.partition_point(|(entry, _)| *entry <= id);
                    places.extend(entries[start..end].iter().map(|(_, at)| *at));
                }
                Err(e) if e.kind() == ErrorKind::Damaged && !has_gone(&e) => unreadable = Some(e),
                Err(e) => return Err(e),
            }
            // Only a name at the very beginning of a block may have begun in the one before.
            if run.begins_before(block, id) {
                break;
            }
        }
        match unreadable {
            Some(e) if places.is_empty() => Err(e),
            _ => Ok(places),
        }
    }

    async fn may_hold(&self, run: &Run, block: usize, id: ChunkId) -> Result<bool> {
        // A block that is in memory already needs no filter.
        if lock(&self.blocks).contains(&(run.serial, block)) {
            return Ok(true);
        }
        let number = Run::filter_of(block);
        if let Some(filter) = lock(&self.filters).get(&(run.serial, number)) {
            return Ok(filter::may_hold(filter, id));
        }
        let filter = Arc::new(run.filter(self.store.as_ref(), number).await?);
        lock(&self.filters).put((run.serial, number), filter.clone());
        Ok(filter::may_hold(&filter, id))
    }

    async fn block(&self, run: &Run, block: usize) -> Result<Arc<Vec<Entry>>> {
        if let Some(entries) = lock(&self.blocks).get(&(run.serial, block)) {
            return Ok(entries.clone());
        }
        let entries = Arc::new(run.block(self.store.as_ref(), block).await?);
        lock(&self.blocks).put((run.serial, block), entries.clone());
        Ok(entries)
    }

    /// The entries of each block of each run in turn, with the run's name: for `verify`. Returns how many runs there are, and what is damaged
    /// in them.
    pub async fn for_each_readable_block(&self, mut look: impl FnMut(&str, &[Entry])) -> Result<(usize, Vec<String>)> {
        let runs = self.runs.read().await.clone();
        let mut damaged = Vec::new();
        let mut note = |e: Error| match e.kind() {
            // Others took its place.
            _ if has_gone(&e) => Ok(()),
            ErrorKind::Damaged => {
                damaged.push(e.to_string());
                Ok(())
            }
            _ => Err(e),
        };
        for run in &runs {
            // Read anew: what a cache holds proves nothing about the store.
            for block in 0..run.blocks() {
                match run.block(self.store.as_ref(), block).await {
                    Ok(entries) => look(&run.name, &entries),
                    Err(e) => note(e)?,
                }
            }
            for filter in 0..run.filters() {
                run.filter(self.store.as_ref(), filter).await.map(drop).or_else(&mut note)?;
            }
        }
        Ok((runs.len(), damaged))
    }
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
    async fn every_place_of_a_chunk_is_told_also_beside_a_run_that_cannot_be_read() {
        let store = Arc::new(MemoryStore::default());
        let keys = Arc::new(VaultKeys::generate().unwrap());
        let index = Index::open(store.clone(), keys.clone()).await.unwrap();
        let id = entry(7).0;
        let copy =
            |number: u32| (id, Location { pack: PackId([number as u8; 16]), inner_offset: number, ..entry(7).1 });
        // The chunk stands in three blocks of one run, and once in another.
        index.add_run((0..1_200).map(copy).chain([entry(1)]).collect()).await.unwrap();
        index.add_run(vec![copy(7_163), entry(2)]).await.unwrap();
        assert_eq!(index.find_all(id).await.unwrap().len(), 1_201);
        assert_eq!(index.find_all(id).await.unwrap()[0].pack, PackId([251; 16]));
        assert_eq!(index.find_all(entry(5_000).0).await.unwrap(), []);
        let (name, file) = store.files().into_iter().max_by_key(|(_, file)| file.len()).unwrap();
        let mut damaged = file.to_vec();
        damaged[50_000] ^= 1;
        store.replace(&name, damaged);
        let index = Index::open(store.clone(), keys.clone()).await.unwrap();
        let packs = index.find_all(id).await.unwrap();
        assert!(packs.len() > 1 && packs.len() < 1_201, "{}", packs.len());
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
