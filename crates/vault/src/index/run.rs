//! One sorted run: its bytes (`docs/format.md`, "Index"), how they are written and how parts of them are read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, filter};
use crate::error::{Error, Result};
use crate::item::ChunkId;
use crate::key::VaultKeys;
use crate::pack::{Location, PackId};
use crate::read::get_range;
use crate::seal::{Sealer, SecretKey, TAG_BYTES, random_bytes};
use crate::store::{Store, StoreErrorKind};

const MAGIC: &[u8; 8] = b"BKINDEX1";
const END_MAGIC: &[u8; 4] = b"BKIE";
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;
const TRAILER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 32 + 16 + 4 * 4;
const BLOCK_ENTRIES: usize = 512;
/// Blocks of one filter: it covers 32,768 entries in 40 KiB.
const BLOCKS_PER_FILTER: usize = 64;
/// Read at the end of a run in the hope that its table is in it.
const TAIL_BYTES: u64 = 64 << 10;

/// A sealed piece of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Piece {
    offset: u64,
    sealed_bytes: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fence {
    first: ChunkId,
    block: Piece,
}

/// What the end of a run tells.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    fences: Vec<Fence>,
    filters: Vec<Piece>,
}

/// An open run: its table in memory, its blocks and filters in the store.
pub(super) struct Run {
    /// Tells runs apart in caches, also those that have gone.
    pub(super) serial: u64,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    sealer: Sealer,
    table: Table,
}

fn run_key(meta_key: &SecretKey, salt: &[u8]) -> SecretKey {
    meta_key.derive("blobkeep 1 index run", salt)
}

impl Run {
    /// Opens a run: reads its table.
    pub(super) async fn open(
        store: &dyn Store,
        keys: &VaultKeys,
        name: &str,
        size_bytes: u64,
        serial: u64,
    ) -> Result<Self> {
        let damaged = |reason: &str| Error::damaged(name, reason);
        if size_bytes < (HEAD_BYTES + TAG_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged("it is too short for an index run"));
        }
        let mut tail_start = size_bytes.saturating_sub(TAIL_BYTES);
        let mut tail = fetch(store, name, tail_start..size_bytes).await?;
        let trailer = &tail[tail.len() - TRAILER_BYTES..];
        if &trailer[4..] != END_MAGIC {
            return Err(damaged("it does not end like an index run: it is cut off or overwritten"));
        }
        let length = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
        let end = size_bytes - TRAILER_BYTES as u64;
        let start = end
            .checked_sub(length)
            .filter(|start| *start >= HEAD_BYTES as u64 && length >= TAG_BYTES as u64)
            .ok_or_else(|| damaged("its trailer points outside of it"))?;
        if start < tail_start {
            tail_start = start;
            tail = fetch(store, name, start..size_bytes).await?;
        }
        let head = match tail_start {
            0 => tail.slice(..HEAD_BYTES),
            _ => fetch(store, name, 0..HEAD_BYTES as u64).await?,
        };
        let salt = head.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it does not begin like an index run"))?;
        let sealer = Sealer::new(&run_key(&keys.meta_key, salt))?;
        let mut sealed = tail[(start - tail_start) as usize..(end - tail_start) as usize].to_vec();
        let plaintext = sealer
            .open(start, name.as_bytes(), &mut sealed)
            .ok_or_else(|| damaged("the seal of its table does not fit"))?;
        let table: Table =
            postcard::from_bytes(plaintext).map_err(|e| damaged(&format!("its table does not parse: {e}")))?;
        if table.filters.len() != table.fences.len().div_ceil(BLOCKS_PER_FILTER) {
            return Err(damaged("its table has not as many filters as blocks need"));
        }
        Ok(Self { serial, name: name.to_owned(), size_bytes, sealer, table })
    }

    /// Number of its blocks.
    pub(super) fn blocks(&self) -> usize {
        self.table.fences.len()
    }

    /// Number of its filters.
    pub(super) fn filters(&self) -> usize {
        self.table.filters.len()
    }

    /// The block that holds a name if the run does.
    pub(super) fn block_of(&self, id: ChunkId) -> Option<usize> {
        self.table.fences.partition_point(|fence| fence.first <= id).checked_sub(1)
    }

    /// Whether a block begins with a lesser name, so that the block before it cannot hold this one.
    pub(super) fn begins_before(&self, block: usize, id: ChunkId) -> bool {
        self.table.fences[block].first < id
    }

    /// The filter that covers a block.
    pub(super) fn filter_of(block: usize) -> usize {
        block / BLOCKS_PER_FILTER
    }

    /// The bytes of a filter.
    pub(super) async fn filter(&self, store: &dyn Store, number: usize) -> Result<Vec<u8>> {
        self.piece(store, self.table.filters[number], || format!("filter {number}")).await
    }

    /// The entries of a block.
    pub(super) async fn block(&self, store: &dyn Store, number: usize) -> Result<Vec<Entry>> {
        let what = || format!("block {number}");
        let plaintext = self.piece(store, self.table.fences[number].block, what).await?;
        decode_entries(&plaintext)
            .ok_or_else(|| Error::damaged(&self.name, format!("{}: it has no whole entries", what())))
    }

    async fn piece(&self, store: &dyn Store, piece: Piece, what: impl Fn() -> String) -> Result<Vec<u8>> {
        let damaged = |reason: &str| Error::damaged(&self.name, format!("{}: {reason}", what()));
        let end = piece.offset.checked_add(u64::from(piece.sealed_bytes)).filter(|end| *end <= self.size_bytes);
        let range = piece.offset..end.ok_or_else(|| damaged("it lies outside of the file"))?;
        let mut sealed = fetch(store, &self.name, range).await?.to_vec();
        let length = self
            .sealer
            .open(piece.offset, self.name.as_bytes(), &mut sealed)
            .ok_or_else(|| damaged("its seal does not fit"))?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

/// A range of a run. One that has gone is told from one that is damaged: others may have taken its place.
async fn fetch(store: &dyn Store, name: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
    match store.get_range(name, range.clone()).await {
        Ok(bytes) => Ok(bytes),
        Err(e) if e.kind == StoreErrorKind::NotFound => Err(e.into()),
        Err(_) => get_range(store, name, range).await,
    }
}

/// The bytes of a run named `name` over `entries`, which are sorted.
pub(super) fn encode(keys: &VaultKeys, name: &str, entries: &[Entry]) -> Result<Bytes> {
    let salt: [u8; SALT_BYTES] = random_bytes()?;
    let sealer = Sealer::new(&run_key(&keys.meta_key, &salt))?;
    let mut file = Vec::with_capacity(entries.len() * (ENTRY_BYTES + 2) + 1024);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&salt);
    let mut add = |mut piece: Vec<u8>| -> Result<Piece> {
        let offset = file.len() as u64;
        sealer.seal(offset, name.as_bytes(), &mut piece)?;
        file.extend_from_slice(&piece);
        Ok(Piece { offset, sealed_bytes: piece.len() as u32 })
    };
    let mut table = Table { fences: Vec::new(), filters: Vec::new() };
    for block in entries.chunks(BLOCK_ENTRIES) {
        table.fences.push(Fence { first: block[0].0, block: add(encode_entries(block))? });
    }
    for covered in entries.chunks(BLOCK_ENTRIES * BLOCKS_PER_FILTER) {
        table.filters.push(add(filter::build(covered.iter().map(|(id, _)| id)))?);
    }
    let table = postcard::to_stdvec(&table).map_err(|e| Error::Internal(format!("index table: {e}")))?;
    let table = add(table)?;
    file.extend_from_slice(&table.sealed_bytes.to_le_bytes());
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
