//! Reading one blob of a source into chunks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::chunk::{Chunker, Cutter};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, ChunkId, Content, Item};
use crate::pack::PackKind;
use crate::point::Skipped;
use crate::read::encode_list;
use crate::source::{Source, SourceErrorKind};
use crate::write::ChunkWriter;

/// Blobs, or groups of small ones, that are read at once.
const READS: usize = 16;
/// Ranges of blobs of several chunks that are read at once.
const LARGE_RANGES: usize = 6;
/// Bytes that may be in memory between source and packs, in KiB.
const BUDGET_KIB: usize = 48 << 10;
/// One ranged read.
const RANGE_BYTES: u64 = 8 << 20;
/// Ranges of one blob that are read at once.
const RANGES: usize = 3;
/// Chunks of one blob that are sealed at once.
const SEALS: usize = 3;
/// Times that a blob which changes while it is read is tried.
const TRIES: usize = 4;
/// A list ends after so many names at the latest.
const LIST_NAMES: usize = 4096;
/// Chunk names kept in the item itself; a blob of more has a tree of lists.
const INLINE_CHUNKS: usize = 16;

/// What became of a blob.
pub(super) enum Outcome {
    /// It was read.
    Read(Box<Item>),
    /// It is no longer there.
    Gone,
    /// It could not be read.
    Skipped(Skipped),
}

/// What was read so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadCounts {
    pub(super) blobs: u64,
    pub(super) bytes: u64,
}

/// Reads blobs of one source into one writer.
pub(super) struct BlobReader {
    source: Arc<dyn Source>,
    writer: Arc<ChunkWriter>,
    cutter: Arc<Cutter>,
    reads: Semaphore,
    large: Semaphore,
    budget: Arc<Semaphore>,
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl BlobReader {
    pub(super) fn new(source: Arc<dyn Source>, writer: Arc<ChunkWriter>, cutter: Arc<Cutter>) -> Self {
        Self {
            source,
            writer,
            cutter,
            reads: Semaphore::new(READS),
            large: Semaphore::new(LARGE_RANGES),
            budget: Arc::new(Semaphore::new(BUDGET_KIB)),
            blobs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> ReadCounts {
        ReadCounts { blobs: self.blobs.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Reads a blob; one that changes meanwhile is looked up and read again.
    pub(super) async fn read(self: &Arc<Self>, mut entry: BlobEntry) -> Result<Outcome> {
        let _permit = self.reads.acquire().await.map_err(|_| closed())?;
        for _ in 0..TRIES {
            let error = match self.content(&entry).await {
                Ok(content) => {
                    self.blobs.fetch_add(1, Ordering::Relaxed);
                    return Ok(Outcome::Read(Box::new(Item { entry, content })));
                }
                Err(Error::Endpoint(error)) => error,
                Err(error) => return Err(error),
            };
            match error.kind {
                SourceErrorKind::Changed | SourceErrorKind::NotFound if entry.version.is_none() => {
                    match self.source.entry(&entry.container, &entry.name).await? {
                        Some(present) => entry = present,
                        None => return Ok(Outcome::Gone),
                    }
                }
                SourceErrorKind::NotFound => return Ok(Outcome::Gone),
                SourceErrorKind::Archived => {
                    return Ok(skipped(entry, "it lies in the archive tier: rehydrate it to have it backed up"));
                }
                SourceErrorKind::Refused => return Ok(skipped(entry, error.message)),
                _ => return Err(error.into()),
            }
        }
        Ok(skipped(entry, format!("it changed {TRIES} times while it was read")))
    }

    /// Reads a group of blobs: several small ones, or one of any size. The outcomes are in the order of the entries.
    pub(super) async fn read_all(self: &Arc<Self>, entries: Vec<BlobEntry>) -> Result<Vec<Outcome>> {
        if entries.len() < 2 {
            let mut outcomes = Vec::with_capacity(1);
            for entry in entries {
                outcomes.push(self.read(entry).await?);
            }
            return Ok(outcomes);
        }
        let entries = Arc::new(entries);
        let ids = self.small_contents(&entries).await?;
        let mut outcomes = Vec::with_capacity(entries.len());
        for (entry, id) in Arc::unwrap_or_clone(entries).into_iter().zip(ids) {
            outcomes.push(match id {
                Some(id) => Outcome::Read(Box::new(Item { entry, content: Content::Chunks(vec![id]) })),
                // It changed or cannot be read: reading it by itself finds out.
                None => self.read(entry).await?,
            });
        }
        Ok(outcomes)
    }

    /// The names of the chunks that small blobs are; `None` for what could not be read.
    async fn small_contents(&self, entries: &Arc<Vec<BlobEntry>>) -> Result<Vec<Option<ChunkId>>> {
        let _permit = self.reads.acquire().await.map_err(|_| closed())?;
        let _budget = self.reserve(entries.iter().map(|entry| entry.size_bytes).sum()).await?;
        let contents = self.source.read_whole(entries.clone()).await;
        let mut chunks = Vec::with_capacity(contents.len());
        let mut is_read = Vec::with_capacity(contents.len());
        for (entry, content) in entries.iter().zip(contents) {
            let content = content.ok().filter(|content| content.len() as u64 == entry.size_bytes);
            is_read.push(content.is_some());
            chunks.extend(content);
        }
        self.blobs.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(chunks.iter().map(|chunk| chunk.len() as u64).sum(), Ordering::Relaxed);
        let mut ids = self.writer.put_many(PackKind::Content, chunks).await?.into_iter();
        Ok(is_read.into_iter().map(|is_read| if is_read { ids.next() } else { None }).collect())
    }

    /// It is one chunk, and may be read together with others.
    pub(super) fn is_small(&self, entry: &BlobEntry) -> bool {
        entry.size_bytes <= u64::from(self.cutter.sizes().min_bytes)
    }

    /// Small blobs that make a good group.
    pub(super) fn reads_together(&self) -> usize {
        self.source.reads_together()
    }

    /// Counts a blob that needs no reading: it has no bytes, or its content stays at the source.
    pub(super) fn note_unread(&self) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
    }

    async fn content(self: &Arc<Self>, entry: &BlobEntry) -> Result<Content> {
        if entry.size_bytes == 0 {
            return Ok(Content::Empty);
        }
        if self.is_small(entry) {
            let _budget = self.reserve(entry.size_bytes).await?;
            let chunk = self.range(entry, 0).await?;
            return Ok(Content::Chunks(vec![self.writer.put(PackKind::Content, chunk).await?]));
        }
        self.large_content(entry).await
    }

    async fn large_content(self: &Arc<Self>, entry: &BlobEntry) -> Result<Content> {
        let ranges = entry.size_bytes.div_ceil(RANGE_BYTES);
        let _places = self.large.acquire_many(ranges.min(RANGES as u64) as u32).await.map_err(|_| closed())?;
        let mut next = 0;
        let mut ahead: VecDeque<RangeRead> = VecDeque::new();
        let mut chunker = Chunker::new(&self.cutter);
        let mut seals: VecDeque<JoinHandle<Result<ChunkId>>> = VecDeque::new();
        let mut names = ChunkNames::new(&self.writer);
        loop {
            while ahead.len() < RANGES && next < ranges {
                // Whoever holds nothing may wait for the budget; whoever reads ahead takes only what is free. So nobody waits in a circle.
                let budget = if ahead.is_empty() {
                    self.reserve(range_length(entry, next)).await?
                } else {
                    match self.try_reserve(range_length(entry, next)) {
                        Some(budget) => budget,
                        None => break,
                    }
                };
                ahead.push_back(RangeRead::begin(self, entry, next, budget));
                next += 1;
            }
            let Some(mut read) = ahead.pop_front() else { break };
            let piece = read.wait().await?;
            let is_last = next == ranges && ahead.is_empty();
            let chunks = if is_last { chunker.finish(piece) } else { chunker.push(piece) };
            for chunk in chunks {
                self.seal(chunk, &mut seals, &mut names).await?;
            }
        }
        for seal in seals {
            names.push(sealed(seal).await?).await?;
        }
        names.finish().await
    }

    async fn seal(
        &self,
        chunk: Bytes,
        seals: &mut VecDeque<JoinHandle<Result<ChunkId>>>,
        names: &mut ChunkNames<'_>,
    ) -> Result<()> {
        if seals.len() >= SEALS
            && let Some(first) = seals.pop_front()
        {
            names.push(sealed(first).await?).await?;
        }
        seals.push_back(self.writer.begin(PackKind::Content, chunk).await?);
        Ok(())
    }

    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        self.budget.clone().acquire_many_owned(kib(bytes)).await.map_err(|_| closed())
    }

    fn try_reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.budget.clone().try_acquire_many_owned(kib(bytes)).ok()
    }

    /// One range of a blob.
    async fn range(&self, entry: &BlobEntry, number: u64) -> Result<Bytes> {
        let start = number * RANGE_BYTES;
        let end = start + range_length(entry, number);
        let piece = self.source.read(entry, start..end).await?;
        if piece.len() as u64 != end - start {
            let message = format!("{} gave {} bytes for {start}..{end}", entry.display_name(), piece.len());
            return Err(crate::source::SourceError::new(SourceErrorKind::Protocol, message).into());
        }
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(piece)
    }
}

/// A range that is read ahead, with its share of the budget, which it gives back when it was used.
struct RangeRead {
    task: JoinHandle<Result<Bytes>>,
    _budget: OwnedSemaphorePermit,
}

impl RangeRead {
    fn begin(reader: &Arc<BlobReader>, entry: &BlobEntry, number: u64, budget: OwnedSemaphorePermit) -> Self {
        let (reader, entry) = (reader.clone(), entry.clone());
        Self { task: tokio::spawn(async move { reader.range(&entry, number).await }), _budget: budget }
    }

    async fn wait(&mut self) -> Result<Bytes> {
        (&mut self.task).await.map_err(|e| Error::Internal(format!("a reading task died: {e}")))?
    }
}

impl Drop for RangeRead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sealed(seal: JoinHandle<Result<ChunkId>>) -> Result<ChunkId> {
    seal.await.map_err(|e| Error::Internal(format!("a writing task died: {e}")))?
}

pub(super) fn skipped(entry: BlobEntry, reason: impl Into<String>) -> Outcome {
    Outcome::Skipped(Skipped { container: entry.container, name: entry.name, reason: reason.into() })
}

fn range_length(entry: &BlobEntry, number: u64) -> u64 {
    let start = number * RANGE_BYTES;
    entry.size_bytes.min(start + RANGE_BYTES) - start
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

fn closed() -> Error {
    Error::Internal("the reader is closed".into())
}

/// The chunk names of one blob, turned into lists as they become many. Lists end at names of a certain form, so that a
/// change rewrites few of them.
struct ChunkNames<'a> {
    writer: &'a Arc<ChunkWriter>,
    levels: Vec<Vec<ChunkId>>,
}

/// A list ends after a name whose first byte is zero: 256 names on average.
fn ends_list(id: ChunkId, level: usize) -> bool {
    id.0.get(level) == Some(&0)
}

impl<'a> ChunkNames<'a> {
    fn new(writer: &'a Arc<ChunkWriter>) -> Self {
        Self { writer, levels: vec![Vec::new()] }
    }

    async fn push(&mut self, name: ChunkId) -> Result<()> {
        let mut id = name;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(id);
            let names = self.levels[level].len();
            let is_open = names < 2 || (names < LIST_NAMES && !ends_list(id, level));
            if is_open {
                return Ok(());
            }
            let list = encode_list(&std::mem::take(&mut self.levels[level]));
            id = self.writer.put(PackKind::Metadata, list).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Content> {
        if self.levels.len() == 1 && self.levels[0].len() <= INLINE_CHUNKS {
            return Ok(Content::Chunks(std::mem::take(&mut self.levels[0])));
        }
        let mut level = 0;
        loop {
            let names = std::mem::take(&mut self.levels[level]);
            let is_top = level + 1 >= self.levels.len();
            if is_top && names.len() == 1 && level > 0 {
                let depth = u8::try_from(level).map_err(|_| Error::Internal("a chunk tree is too deep".into()))?;
                return Ok(Content::ChunkTree { root: names[0], depth });
            }
            if !names.is_empty() {
                let id = self.writer.put(PackKind::Metadata, encode_list(&names)).await?;
                if is_top {
                    self.levels.push(Vec::new());
                }
                self.levels[level + 1].push(id);
            }
            level += 1;
        }
    }
}
