//! Copying what is needed out of condemned packs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choose::{Uses, sweep};
use crate::error::{Error, Result};
use crate::index::Entry;
use crate::item::ChunkId;
use crate::mark::{MarkRoot, Marks};
use crate::monitor::Monitor;
use crate::pack::{Location, PackId, PackKind, WriterId};
use crate::read::ChunkReader;
use crate::spill::Spill;
use crate::vault::Vault;
use crate::work::Registration;
use crate::write::{ChunkWriter, WriteCounts};

/// Plaintext that is copied at once, in bytes.
const COPIED_TOGETHER: usize = 16 << 20;

/// Copies needed chunks out of condemned packs.
pub(super) struct Copier<'a> {
    vault: &'a Vault,
    reader: &'a ChunkReader,
    condemned: &'a HashSet<PackId>,
    writer: Arc<ChunkWriter>,
    scratch: PathBuf,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        vault: &'a Vault,
        reader: &'a ChunkReader,
        writer: WriterId,
        condemned: &'a HashSet<PackId>,
        scratch: &Path,
    ) -> Self {
        let absent = Arc::new(condemned.clone());
        let writer = Arc::new(ChunkWriter::registered(vault, writer, absent));
        Self { vault, reader, condemned, writer, scratch: scratch.to_owned() }
    }

    /// Copies each marked chunk of which only condemned packs have a copy. When this has returned, there is none.
    pub(super) async fn copy_what_is_needed(
        &mut self,
        marks: &mut Marks,
        uses: &mut Uses,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut wanted = Spill::<64>::new(&self.scratch);
        let packs = super::list_packs(self.vault).await?;
        let is_whole = |pack: &PackId| packs.contains_key(pack) && self.reader.is_trusted(*pack);
        sweep(self.vault, marks, is_whole, self.condemned, uses, |entry| wanted.push(record(&entry))).await?;
        let mut wanted = wanted.finish()?;
        let mut together: Vec<(Location, ChunkId)> = Vec::new();
        let mut bytes = 0;
        for record in wanted.iter()? {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let (id, at) = entry(&record?);
            let is_other_pack = together.last().is_some_and(|(last, _)| last.pack != at.pack);
            if is_other_pack || bytes >= COPIED_TOGETHER {
                self.copy(std::mem::take(&mut together)).await?;
                bytes = 0;
            }
            bytes += at.plain_bytes as usize;
            together.push((at, id));
        }
        self.copy(together).await?;
        self.writer.flush().await
    }

    async fn copy(&self, wanted: Vec<(Location, ChunkId)>) -> Result<()> {
        let Some((first, _)) = wanted.first() else { return Ok(()) };
        let kind = self.reader.kind_of(first.pack).await?;
        let mut copies = Vec::new();
        for (_, chunk) in self.reader.chunks_at(wanted).await? {
            copies.push(self.writer.begin(kind, chunk).await?);
        }
        for copy in copies {
            copy.await.map_err(|e| Error::Internal(format!("a writing task died: {e}")))??;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> WriteCounts {
        self.writer.counts()
    }
}

/// An entry as a record that sorts by where it lies.
fn record((id, at): &Entry) -> [u8; 64] {
    let mut record = [0; 64];
    record[..16].copy_from_slice(&at.pack.0);
    for (number, value) in [at.frame_offset, at.inner_offset, at.frame_bytes, at.plain_bytes].into_iter().enumerate() {
        record[16 + 4 * number..20 + 4 * number].copy_from_slice(&value.to_be_bytes());
    }
    record[32..].copy_from_slice(&id.0);
    record
}

fn entry(record: &[u8; 64]) -> Entry {
    let mut pack = [0; 16];
    pack.copy_from_slice(&record[..16]);
    let number = |number: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&record[16 + 4 * number..20 + 4 * number]);
        u32::from_be_bytes(bytes)
    };
    let mut id = [0; 32];
    id.copy_from_slice(&record[32..]);
    let location = Location {
        pack: PackId(pack),
        frame_offset: number(0),
        inner_offset: number(1),
        frame_bytes: number(2),
        plain_bytes: number(3),
    };
    (ChunkId(id), location)
}

/// Ids that are looked up together.
const LOOKED_UP: usize = 8192;
/// Chunks that are stored anew together: 32 MiB at most.
const STORED_TOGETHER: usize = 16;

/// Stores anew whatever a manifest needs and only the packs `condemned` have, so that it can be committed. Everything is durable when this
/// returns.
///
/// # Errors
/// [`Error::Damaged`] if something that the manifest needs is nowhere any more.
pub(crate) async fn rescue(
    vault: &Vault,
    registration: &Registration<'_>,
    root: &MarkRoot,
    condemned: HashSet<PackId>,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<WriteCounts> {
    vault.index.refresh().await?;
    let mut marks = Marks::new(scratch)?;
    marks.add(&vault.reader, std::slice::from_ref(root), monitor).await?;
    let condemned = Arc::new(condemned);
    let writer = Arc::new(ChunkWriter::registered(vault, registration.writer(), condemned.clone()));
    for kind in [PackKind::Metadata, PackKind::Content] {
        let mut ids: Box<dyn Iterator<Item = Result<[u8; 32]>> + Send> = match kind {
            PackKind::Metadata => Box::new(marks.metadata()?),
            PackKind::Content => Box::new(marks.content()?),
        };
        loop {
            let batch: HashSet<ChunkId> =
                ids.by_ref().take(LOOKED_UP).map(|id| id.map(ChunkId)).collect::<Result<_>>()?;
            if batch.is_empty() {
                break;
            }
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let found = vault.index.find_many_except(&batch, &condemned).await?;
            let missing: Vec<ChunkId> = batch.into_iter().filter(|id| !found.contains_key(id)).collect();
            for together in missing.chunks(STORED_TOGETHER) {
                for (_, chunk) in vault.reader.chunks(&together.iter().copied().collect()).await? {
                    writer.put(kind, chunk).await?;
                }
            }
        }
    }
    writer.flush().await?;
    Ok(writer.counts())
}
