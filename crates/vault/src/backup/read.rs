//! Reading one blob of a source into chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, FuturesOrdered, StreamExt};
use tokio::sync::Semaphore;

use crate::chunk::{Chunker, Cutter};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, ChunkId, Content, Item};
use crate::pack::PackKind;
use crate::read::encode_list;
use crate::source::{Source, SourceErrorKind};
use crate::write::ChunkWriter;

/// Blobs that are read at once.
const READS: usize = 16;
/// Bytes that may be in memory between source and packs, in KiB.
const BUDGET_KIB: usize = 48 << 10;
/// One ranged read.
const RANGE_BYTES: u64 = 4 << 20;
/// Ranges of one blob that are read at once.
const RANGES: usize = 4;
/// Chunks of one blob that are sealed at once.
const SEALS: usize = 3;
/// Times that a blob which changes while it is read is tried.
const TRIES: usize = 4;
/// Chunk names kept in the item itself; a blob of more has a tree of lists.
const INLINE_CHUNKS: usize = 16;

/// What became of a blob.
pub(super) enum Outcome {
    /// It was read.
    Read(Box<Item>),
    /// It is no longer there.
    Gone,
    /// It could not be read, for this reason.
    Skipped(String),
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
    budget: Semaphore,
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
            budget: Semaphore::new(BUDGET_KIB),
            blobs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> ReadCounts {
        ReadCounts { blobs: self.blobs.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Reads a blob; one that changes meanwhile is looked up and read again.
    pub(super) async fn read(&self, mut entry: BlobEntry) -> Result<Outcome> {
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
                    return Ok(Outcome::Skipped(
                        "it lies in the archive tier: rehydrate it to have it backed up".into(),
                    ));
                }
                SourceErrorKind::Refused => return Ok(Outcome::Skipped(error.message)),
                _ => return Err(error.into()),
            }
        }
        Ok(Outcome::Skipped(format!("it changed {TRIES} times while it was read")))
    }

    async fn content(&self, entry: &BlobEntry) -> Result<Content> {
        if entry.size_bytes == 0 {
            return Ok(Content::Empty);
        }
        if entry.size_bytes <= u64::from(self.cutter.sizes().min_bytes) {
            let chunk = self.range(entry, 0).await?;
            return Ok(Content::Chunks(vec![self.writer.put(PackKind::Content, chunk).await?]));
        }
        let ranges = entry.size_bytes.div_ceil(RANGE_BYTES);
        let mut pieces = stream::iter(0..ranges).map(|number| self.range(entry, number * RANGE_BYTES)).buffered(RANGES);
        let mut chunker = Chunker::new(&self.cutter);
        let mut seals = FuturesOrdered::new();
        let mut names = ChunkNames::new(&self.writer);
        while let Some(piece) = pieces.next().await {
            for chunk in chunker.push(&piece?) {
                while seals.len() >= SEALS {
                    names.push(seals.next().await.transpose()?).await?;
                }
                seals.push_back(self.writer.put(PackKind::Content, chunk));
            }
        }
        for chunk in chunker.finish() {
            seals.push_back(self.writer.put(PackKind::Content, chunk));
        }
        while let Some(name) = seals.next().await {
            names.push(Some(name?)).await?;
        }
        names.finish().await
    }

    /// One range of a blob, within the budget of bytes in flight.
    async fn range(&self, entry: &BlobEntry, start: u64) -> Result<Bytes> {
        let end = entry.size_bytes.min(start + RANGE_BYTES);
        let kib = u32::try_from((end - start).div_ceil(1024)).unwrap_or(u32::MAX);
        let _permit = self.budget.acquire_many(kib).await.map_err(|_| closed())?;
        let piece = self.source.read(entry, start..end).await?;
        if piece.len() as u64 != end - start {
            let message = format!("{} gave {} bytes for {start}..{end}", entry.display_name(), piece.len());
            return Err(crate::source::SourceError::new(SourceErrorKind::Protocol, message).into());
        }
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(piece)
    }
}

fn closed() -> Error {
    Error::Internal("the reader is closed".into())
}

/// The chunk names of one blob, turned into lists as they become many. Lists end at names of a certain form, so that a
/// change rewrites few of them.
struct ChunkNames<'a> {
    writer: &'a ChunkWriter,
    levels: Vec<Vec<ChunkId>>,
}

/// A list ends after a name whose first byte is zero: 256 names on average.
fn ends_list(id: ChunkId, level: usize) -> bool {
    id.0.get(level) == Some(&0)
}

impl<'a> ChunkNames<'a> {
    fn new(writer: &'a ChunkWriter) -> Self {
        Self { writer, levels: vec![Vec::new()] }
    }

    async fn push(&mut self, name: Option<ChunkId>) -> Result<()> {
        let Some(mut id) = name else { return Ok(()) };
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(id);
            let is_done = !ends_list(id, level) || self.levels[level].len() < 2;
            if is_done {
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
