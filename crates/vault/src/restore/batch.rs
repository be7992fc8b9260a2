//! What a restore reads and writes at a time: batches of small blobs, each read with as few reads of packs as it takes, and large blobs part
//! by part.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::SelectedItems;
use crate::error::{Error, Result};
use crate::item::{BlobEntry, ChunkId, Content, Item};
use crate::manifest::OwnedKey;
use crate::read::{ChunkReader, ContentChunks, stays_at_source};

/// Content of one batch of small blobs, in bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// Blobs of one batch.
const BATCH_BLOBS: usize = 2000;
/// Blobs above this size are written part by part.
const PART_BYTES: u64 = 8 << 20;
/// Chunks of a large blob that are opened at once: about 8 MiB.
const PART_CHUNKS: usize = 8;

/// A blob with its content.
pub(super) struct Loaded {
    pub(super) entry: BlobEntry,
    pub(super) content: Bytes,
}

/// Blobs that are next to each other and are written together.
pub(super) enum Batch {
    Small { last: OwnedKey, items: Vec<Item> },
    Large(Box<Item>),
}

/// Batches are read side by side, and begin to write in their order: what is most important comes first.
pub(super) struct Turn {
    /// Closes when the batch before lets this one begin.
    before: oneshot::Receiver<()>,
    /// Lets the batch after begin, at the latest when this batch ends.
    after: Option<oneshot::Sender<()>>,
}

impl Turn {
    pub(super) fn first() -> Self {
        Self { before: oneshot::channel().1, after: None }
    }

    /// The turn of the batch after.
    pub(super) fn next(&mut self) -> Self {
        let (after, before) = oneshot::channel();
        self.after = Some(after);
        Self { before, after: None }
    }

    pub(super) async fn come(&mut self) {
        // Nothing is ever sent: the end of the sender is what is waited for.
        let _ = (&mut self.before).await;
    }

    pub(super) fn pass(&mut self) {
        self.after = None;
    }
}

pub(super) fn check_length(entry: &BlobEntry, found_bytes: u64) -> Result<()> {
    if found_bytes == entry.size_bytes {
        return Ok(());
    }
    let reason = format!("{} has {} bytes and its chunks have {found_bytes}", entry.display_name(), entry.size_bytes);
    Err(Error::damaged("manifest", reason))
}

/// Blobs above this are written part by part.
pub(super) fn is_large(item: &Item) -> bool {
    item.entry.size_bytes > PART_BYTES || matches!(item.content, Content::ChunkTree { .. })
}

pub(super) async fn next_batch(items: &mut SelectedItems<'_>, ahead: &mut Option<Item>) -> Result<Option<Batch>> {
    let mut batch: Vec<Item> = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_BLOBS && bytes < BATCH_BYTES {
        let next = match ahead.take() {
            Some(item) => Some(item),
            None => items.next().await?,
        };
        match next {
            None => break,
            Some(item) if is_large(&item) && batch.is_empty() => return Ok(Some(Batch::Large(Box::new(item)))),
            Some(item) if is_large(&item) => {
                *ahead = Some(item);
                break;
            }
            Some(item) => {
                bytes += item.entry.size_bytes;
                batch.push(item);
            }
        }
    }
    let last = batch.last().map(|item| OwnedKey::from(item.entry.key()));
    Ok(last.map(|last| Batch::Small { last, items: batch }))
}

/// Reads the content of small blobs, all together.
pub(super) async fn load(reader: &ChunkReader, items: Vec<Item>) -> Result<Vec<Loaded>> {
    if let Some(version) = items.iter().find_map(|item| item.content.version_at_source()) {
        return Err(stays_at_source(version));
    }
    let ids: HashSet<ChunkId> = items.iter().flat_map(|item| inline_chunks(&item.content)).copied().collect();
    let chunks = match reader.chunks(&ids).await {
        Ok(chunks) => chunks,
        Err(error) => return Err(first_lost(reader, &items, error).await),
    };
    let mut loaded = Vec::with_capacity(items.len());
    for item in items {
        let content = match inline_chunks(&item.content) {
            [] => Bytes::new(),
            [id] => chunks.get(id).cloned().unwrap_or_default(),
            ids => {
                let mut content = BytesMut::with_capacity(item.entry.size_bytes as usize);
                for chunk in ids.iter().filter_map(|id| chunks.get(id)) {
                    content.extend_from_slice(chunk);
                }
                content.freeze()
            }
        };
        check_length(&item.entry, content.len() as u64)?;
        loaded.push(Loaded { entry: item.entry, content });
    }
    Ok(loaded)
}

/// Names the first of these blobs that cannot be read: an operator must know more than the damaged file.
pub(super) async fn first_lost(reader: &ChunkReader, items: &[Item], error: Error) -> Error {
    for item in items {
        if let Err(error) = reader.chunks(&inline_chunks(&item.content).iter().copied().collect()).await {
            return error.needed_by(&item.entry.display_name());
        }
    }
    error
}

pub(super) fn inline_chunks(content: &Content) -> &[ChunkId] {
    match content {
        Content::Chunks(ids) => ids,
        Content::Empty | Content::ChunkTree { .. } | Content::AtSource { .. } => &[],
    }
}

/// The content of one large blob, some chunks at a time.
pub(super) struct Parts<'a> {
    reader: &'a ChunkReader,
    names: ContentChunks<'a>,
    blob: String,
}

impl<'a> Parts<'a> {
    pub(super) fn new(reader: &'a ChunkReader, item: &Item) -> Self {
        Self { reader, names: reader.content(&item.content), blob: item.entry.display_name() }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bytes>>> {
        self.read().await.map_err(|error| error.needed_by(&self.blob))
    }

    pub(super) async fn read(&mut self) -> Result<Option<Vec<Bytes>>> {
        let mut ids = Vec::with_capacity(PART_CHUNKS);
        while ids.len() < PART_CHUNKS {
            match self.names.next().await? {
                Some(id) => ids.push(id),
                None => break,
            }
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let chunks = self.reader.chunks(&ids.iter().copied().collect()).await?;
        Ok(Some(ids.iter().filter_map(|id| chunks.get(id).cloned()).collect()))
    }
}
