//! Writing chunks: naming, deduplicating, compressing, sealing into packs, and making packs durable before the index names them.
//!
//! What was begun is finished: a put runs in a task of its own, so that a caller who stops waiting leaves no chunk half stored. Once a write
//! has failed nothing more is taken, because chunks that were said to be stored may be among the lost.
//!
//! Memory is bounded by two open packs, a few packs on their way to the store, and the index entries of one run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Mutex, RwLock, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::chunk::chunk_id;
use crate::compress::looks_random;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Index, RUN_ENTRIES_AT_MOST};
use crate::item::ChunkId;
use crate::key::VaultKeys;
use crate::pack::{
    Location, PackBuilder, PackId, PackKind, PreparedFrame, SHARED_FRAME_BYTES, SMALL_CHUNK_BYTES, WriterId,
};
use crate::read::ChunkReader;
use crate::seal::random_bytes;
use crate::store::{Put, Store, StoreError, StoreErrorKind};
use crate::vault::Vault;

/// Packs that may be on their way to the store at once.
const UPLOADS: usize = 2;
/// Entries of one index run.
const RUN_ENTRIES: usize = 128 << 10;
/// Index runs of one writer that are left as they are.
const RUNS_KEPT: usize = 4;
/// Hashing and compressing below this size is done in place; above, on a thread of its own.
const INLINE_BYTES: usize = 32 << 10;

/// What a [`ChunkWriter`] has added to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Chunks that were not there before.
    pub new_chunks: u64,
    /// Their plaintext.
    pub new_bytes: u64,
    /// Bytes of packs written.
    pub stored_bytes: u64,
}

#[derive(Default)]
struct Shared {
    plaintext: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// One of the two packs that are being filled.
#[derive(Default)]
struct Open {
    builder: Option<PackBuilder>,
    /// Frames of small chunks, and of such as do not compress: in one frame with others these would only dilute them.
    shared: Shared,
    shared_random: Shared,
}

impl Open {
    /// Adds a small chunk to a shared frame, and returns that frame if it is full now.
    fn share(&mut self, id: ChunkId, chunk: &[u8]) -> Option<Shared> {
        let shared = if looks_random(chunk) { &mut self.shared_random } else { &mut self.shared };
        if shared.plaintext.capacity() == 0 {
            shared.plaintext.reserve(SHARED_FRAME_BYTES + SMALL_CHUNK_BYTES);
        }
        shared.plaintext.extend_from_slice(chunk);
        shared.chunks.push((id, chunk.len() as u32));
        (shared.plaintext.len() >= SHARED_FRAME_BYTES).then(|| std::mem::take(shared))
    }
}

#[derive(Default)]
struct Known {
    /// Chunks in open packs or on their way.
    in_flight: HashSet<ChunkId>,
    /// Chunks in durable packs that no index run names yet.
    pending: HashMap<ChunkId, Location>,
}

/// Writes chunks into a vault.
pub struct ChunkWriter {
    store: Arc<dyn Store>,
    keys: Arc<VaultKeys>,
    index: Arc<Index>,
    /// Who writes; in the names of packs.
    writer: WriterId,
    /// Packs whose chunks count as not there.
    absent: Arc<HashSet<PackId>>,
    /// Index runs written so far, to be merged when they become many.
    runs: Mutex<HashSet<String>>,
    reader: Arc<ChunkReader>,
    content: Mutex<Open>,
    metadata: Mutex<Open>,
    known: std::sync::Mutex<Known>,
    /// Held for reading by every put and for writing by a flush, which so waits until no put is half done.
    puts: Arc<RwLock<()>>,
    /// Why an earlier write failed.
    failed: std::sync::Mutex<Option<StoreError>>,
    uploads: Semaphore,
    cpu: Semaphore,
    new_chunks: AtomicU64,
    new_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

impl ChunkWriter {
    /// A writer into `vault` beside which no prune runs.
    pub fn new(vault: &Vault) -> Result<Self> {
        Ok(Self::registered(vault, WriterId(random_bytes()?), Arc::default()))
    }

    /// The writer of a registered worker, for which chunks in the packs `absent` are not there.
    pub fn registered(vault: &Vault, writer: WriterId, absent: Arc<HashSet<PackId>>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            store: vault.store.clone(),
            keys: vault.keys.clone(),
            index: vault.index.clone(),
            writer,
            absent,
            runs: Mutex::default(),
            reader: vault.reader.clone(),
            content: Mutex::default(),
            metadata: Mutex::default(),
            known: std::sync::Mutex::default(),
            puts: Arc::default(),
            failed: std::sync::Mutex::default(),
            uploads: Semaphore::new(UPLOADS),
            cpu: Semaphore::new(cores),
            new_chunks: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
        }
    }

    /// What was added so far.
    pub fn counts(&self) -> WriteCounts {
        WriteCounts {
            new_chunks: self.new_chunks.load(Ordering::Relaxed),
            new_bytes: self.new_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
        }
    }

    /// Stores a chunk unless the vault has it, and returns its name. It is durable after the next [`Self::flush`].
    ///
    /// Small content chunks are looked up among those of this writer only, so that none costs a read of the store.
    pub async fn put(self: &Arc<Self>, kind: PackKind, chunk: Bytes) -> Result<ChunkId> {
        let task = self.begin(kind, chunk).await?;
        task.await.map_err(|e| Error::Internal(format!("a writing task died: {e}")))?
    }

    /// Like [`Self::put`], without waiting for the end. The work goes on even if nobody waits for it.
    pub async fn begin(self: &Arc<Self>, kind: PackKind, chunk: Bytes) -> Result<JoinHandle<Result<ChunkId>>> {
        let guard = self.puts.clone().read_owned().await;
        self.check_not_failed()?;
        let writer = self.clone();
        Ok(tokio::spawn(async move {
            let _guard = guard;
            let outcome = writer.store(kind, chunk).await;
            writer.note_failure(&outcome);
            outcome
        }))
    }

    /// Like [`Self::put`] for several chunks, in one step for all of them. Meant for small ones, which cost little but their handling.
    pub async fn put_many(self: &Arc<Self>, kind: PackKind, chunks: Vec<Bytes>) -> Result<Vec<ChunkId>> {
        let guard = self.puts.clone().read_owned().await;
        self.check_not_failed()?;
        let writer = self.clone();
        let task = tokio::spawn(async move {
            let _guard = guard;
            let outcome = writer.store_many(kind, chunks).await;
            writer.note_failure(&outcome);
            outcome
        });
        task.await.map_err(|e| Error::Internal(format!("a writing task died: {e}")))?
    }

    async fn store_many(&self, kind: PackKind, chunks: Vec<Bytes>) -> Result<Vec<ChunkId>> {
        let keys = self.keys.clone();
        let named = self.on_cpu(move || {
            let name = |chunk: Bytes| (chunk_id(&keys.id_key, &chunk), chunk);
            Ok(chunks.into_iter().map(name).collect::<Vec<_>>())
        });
        let named = named.await?;
        let mut ids = Vec::with_capacity(named.len());
        let mut full = Vec::new();
        for (id, chunk) in named {
            ids.push(id);
            if is_looked_up(kind, &chunk) {
                self.store_named(kind, id, chunk).await?;
            } else if self.is_new(id, &chunk) {
                full.extend(self.open(kind).lock().await.share(id, &chunk));
            }
        }
        for shared in full {
            self.add_shared(kind, shared).await?;
        }
        Ok(ids)
    }

    fn check_not_failed(&self) -> Result<()> {
        match &*self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error.clone().into()),
        }
    }

    fn note_failure<T>(&self, outcome: &Result<T>) {
        let error = match outcome {
            Ok(_) => return,
            Err(Error::Store(error)) => error.clone(),
            Err(error) => StoreError::new(StoreErrorKind::Other, error.to_string()),
        };
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    }

    async fn store(&self, kind: PackKind, chunk: Bytes) -> Result<ChunkId> {
        let id = self.name(&chunk).await?;
        self.store_named(kind, id, chunk).await?;
        Ok(id)
    }

    async fn store_named(&self, kind: PackKind, id: ChunkId, chunk: Bytes) -> Result<()> {
        if self.is_known(id) || (is_looked_up(kind, &chunk) && self.is_stored(kind, id).await?) {
            return Ok(());
        }
        if !self.is_new(id, &chunk) {
            return Ok(());
        }
        let length = u32::try_from(chunk.len()).map_err(|_| Error::Internal("a chunk is beyond 4 GiB".into()))?;
        if chunk.len() >= SMALL_CHUNK_BYTES {
            let frame = self.prepare(chunk, vec![(id, length)]).await?;
            return self.add(kind, frame).await;
        }
        let full = self.open(kind).lock().await.share(id, &chunk);
        match full {
            Some(shared) => self.add_shared(kind, shared).await,
            None => Ok(()),
        }
    }

    /// Takes note that this chunk goes into a pack now, and counts it; `false` if it went into one before.
    fn is_new(&self, id: ChunkId, chunk: &[u8]) -> bool {
        let mut known = self.lock_known();
        if known.pending.contains_key(&id) || !known.in_flight.insert(id) {
            return false;
        }
        self.new_chunks.fetch_add(1, Ordering::Relaxed);
        self.new_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        true
    }

    async fn add_shared(&self, kind: PackKind, shared: Shared) -> Result<()> {
        let frame = self.prepare(Bytes::from(shared.plaintext), shared.chunks).await?;
        self.add(kind, frame).await
    }

    /// Makes durable and indexed whatever was put before this call.
    pub async fn flush(&self) -> Result<()> {
        let _guard = self.puts.write().await;
        self.check_not_failed()?;
        let outcome = self.flush_all().await;
        self.note_failure(&outcome);
        outcome
    }

    async fn flush_all(&self) -> Result<()> {
        for kind in [PackKind::Content, PackKind::Metadata] {
            let shared = {
                let mut open = self.open(kind).lock().await;
                [std::mem::take(&mut open.shared), std::mem::take(&mut open.shared_random)]
            };
            for shared in shared.into_iter().filter(|shared| !shared.chunks.is_empty()) {
                self.add_shared(kind, shared).await?;
            }
            let builder = self.open(kind).lock().await.builder.take();
            if let Some(builder) = builder {
                self.upload(builder, self.upload_permit().await?).await?;
            }
        }
        let lost = self.lock_known().in_flight.len();
        if lost > 0 {
            return Err(Error::Internal(format!("{lost} chunks were put and are in no pack")));
        }
        self.write_run(0).await
    }

    /// Merges the index runs that this writer has made, if they are many.
    pub async fn merge_runs(&self) -> Result<()> {
        let mut runs = self.runs.lock().await;
        if runs.len() > RUNS_KEPT {
            self.index.replace(Some(&runs), |_| true).await?;
            runs.clear();
        }
        Ok(())
    }

    fn open(&self, kind: PackKind) -> &Mutex<Open> {
        match kind {
            PackKind::Content => &self.content,
            PackKind::Metadata => &self.metadata,
        }
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_known(&self, id: ChunkId) -> bool {
        let known = self.lock_known();
        known.in_flight.contains(&id) || known.pending.contains_key(&id)
    }

    /// Whether the store has the chunk in a pack that is neither condemned nor known to be broken. Where the index cannot be read it is stored once more.
    async fn is_stored(&self, kind: PackKind, id: ChunkId) -> Result<bool> {
        if kind == PackKind::Metadata && !self.reader.is_beyond_doubt() {
            // Where one page is damaged others may be, and a page lost costs all blobs below it: so it is read once more.
            return match self.reader.chunks(&HashSet::from([id])).await {
                Ok(_) => Ok(self.absent.is_empty()),
                Err(e) if e.kind() == ErrorKind::Damaged => Ok(false),
                Err(e) => Err(e),
            };
        }
        match self.index.find_except(id, &self.absent).await {
            Ok(None) => return Ok(false),
            Ok(Some(found)) if self.reader.is_trusted(found.pack) => return Ok(true),
            Ok(Some(_)) => {}
            Err(e) if e.kind() == ErrorKind::Damaged => {}
            Err(e) => return Err(e),
        }
        match self.index.find_all(id).await {
            Ok(places) => {
                Ok(places.iter().any(|at| self.reader.is_trusted(at.pack) && !self.absent.contains(&at.pack)))
            }
            Err(e) if e.kind() == ErrorKind::Damaged => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn name(&self, chunk: &Bytes) -> Result<ChunkId> {
        if chunk.len() <= INLINE_BYTES {
            return Ok(chunk_id(&self.keys.id_key, chunk));
        }
        let (keys, chunk) = (self.keys.clone(), chunk.clone());
        self.on_cpu(move || Ok(chunk_id(&keys.id_key, &chunk))).await
    }

    async fn prepare(&self, plaintext: Bytes, chunks: Vec<(ChunkId, u32)>) -> Result<PreparedFrame> {
        if plaintext.len() <= INLINE_BYTES {
            return PreparedFrame::new(plaintext, chunks);
        }
        self.on_cpu(move || PreparedFrame::new(plaintext, chunks)).await
    }

    async fn on_cpu<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let _permit = self.cpu.acquire().await.map_err(|_| Error::Internal("the writer is closed".into()))?;
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(format!("a worker thread died: {e}")))?
    }

    async fn add(&self, kind: PackKind, frame: PreparedFrame) -> Result<()> {
        let (builder, permit) = {
            let mut open = self.open(kind).lock().await;
            let builder = match &mut open.builder {
                Some(builder) => builder,
                empty => empty.insert(PackBuilder::new(&self.keys, kind, self.writer)?),
            };
            builder.add(frame)?;
            if !builder.is_full() {
                return Ok(());
            }
            // While a full pack waits for its turn no other is begun: a slow store must hold back its writers, not fill the memory.
            let permit = self.upload_permit().await?;
            (open.builder.take(), permit)
        };
        if let Some(builder) = builder {
            self.upload(builder, permit).await?;
            self.write_run(RUN_ENTRIES).await?;
        }
        Ok(())
    }

    async fn upload_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.uploads.acquire().await.map_err(|_| Error::Internal("the writer is closed".into()))
    }

    async fn upload(&self, builder: PackBuilder, _permit: SemaphorePermit<'_>) -> Result<()> {
        let (id, file, frames) = builder.finish()?;
        let stored_bytes = file.len() as u64;
        if self.store.put_if_absent(&id.file_name(), file).await? == Put::Exists {
            return Err(Error::Internal(format!("{} was there already although its name is random", id.file_name())));
        }
        self.stored_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
        let mut known = self.lock_known();
        for (chunk, location) in frames.iter().flat_map(|frame| frame.locations(id)) {
            known.in_flight.remove(&chunk);
            known.pending.insert(chunk, location);
        }
        Ok(())
    }

    /// Writes an index run once more than `at_most` entries wait for one.
    async fn write_run(&self, at_most: usize) -> Result<()> {
        let entries: Vec<_> = {
            let known = self.lock_known();
            if known.pending.len() <= at_most {
                return Ok(());
            }
            known.pending.iter().map(|(id, location)| (*id, *location)).collect()
        };
        for entries in entries.chunks(RUN_ENTRIES_AT_MOST) {
            self.runs.lock().await.extend(self.index.add_run(entries.to_vec()).await?);
        }
        // Only now may they be forgotten here: a put in between must find them in one of the two places.
        let mut known = self.lock_known();
        for (id, _) in &entries {
            known.pending.remove(id);
        }
        Ok(())
    }
}

/// Small content is looked up among what this writer has written only, so that none costs a read of the store.
fn is_looked_up(kind: PackKind, chunk: &[u8]) -> bool {
    kind == PackKind::Metadata || chunk.len() >= SMALL_CHUNK_BYTES
}
