//! The rehearsal: a restore of a point into nothing. Every blob is put together from its chunks, in order, and measured; the MD5 is compared
//! where the point has one. Unlike a restore it goes on behind what is lost, so that all of it is named.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use md5::{Digest, Md5};

use super::report::{Loss, LossScope, is_damage};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ChunkId, Content, Item};
use crate::manifest::{ManifestReader, Record};
use crate::monitor::{Monitor, WorkProgress};
use crate::point::Point;
use crate::read::ChunkReader;
use crate::vault::Vault;

/// Content of small blobs that is read together, in bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// Blobs that are read together.
const BATCH_BLOBS: usize = 1000;
/// Chunks of a large blob that are read together: 32 MiB at the most.
const CHUNKS: usize = 16;
/// Failures that a report spells out.
const SPELLED_OUT: usize = 1000;

/// What a rehearsal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RehearsalReport {
    /// Blobs that came out as they went in.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose MD5 was known and compared.
    pub compared_blobs: u64,
    /// Blobs whose content is no part of the vault: it stays at their account.
    pub at_source_blobs: u64,
    /// Blobs that cannot be restored.
    pub failed_blobs: u64,
    /// Which they are, and why, at most 1,000.
    pub failures: Vec<Loss>,
}

/// Rehearses the restore of a point. Lost blobs are reported; only a failing store or a stop ends the work early.
pub async fn rehearse(vault: &Vault, point: &Point, monitor: &dyn Monitor) -> Result<RehearsalReport> {
    let index = Index::open(vault.store.clone(), vault.keys.clone()).await?;
    let reader = ChunkReader::new(vault.store.clone(), vault.keys.clone(), index.into());
    let mut work = Work { reader: &reader, point, monitor, report: RehearsalReport::default(), batch: Vec::new() };
    work.run().await?;
    Ok(work.report)
}

struct Work<'a> {
    reader: &'a ChunkReader,
    point: &'a Point,
    monitor: &'a dyn Monitor,
    report: RehearsalReport,
    batch: Vec<Item>,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<()> {
        let mut records = ManifestReader::new(self.reader, &self.point.root, None);
        let mut batch_bytes = 0;
        loop {
            let record = match records.next().await {
                Ok(None) => break,
                Ok(Some(Record::Blob(item))) if item.content.version_at_source().is_some() => {
                    self.report.at_source_blobs += 1;
                    continue;
                }
                Ok(Some(Record::Blob(item))) => item,
                Ok(Some(Record::Container(_))) => continue,
                Err(e) if is_damage(&e) => {
                    // How many blobs are lost with a page is known at the end.
                    self.fail(LossScope::Point { blobs: None }, format!("a part of its list of blobs is lost: {e}"));
                    continue;
                }
                Err(e) => return Err(e),
            };
            if is_small(&record) {
                batch_bytes += record.entry.size_bytes;
                self.batch.push(record);
            } else {
                self.large(&record).await?;
            }
            if batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_BLOBS {
                self.small().await?;
                batch_bytes = 0;
            }
        }
        self.small().await?;
        let whole = self.report.blobs + self.report.at_source_blobs;
        self.report.failed_blobs = self.point.root.totals.blobs.saturating_sub(whole);
        Ok(())
    }

    /// The small blobs of a batch, read together; if one of them is lost, each by itself.
    async fn small(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let ids = batch.iter().flat_map(inline_chunks).copied().collect();
        let chunks = match self.reader.chunks(&ids).await {
            Err(e) if is_damage(&e) => None,
            chunks => Some(chunks?),
        };
        for item in &batch {
            let outcome = match &chunks {
                Some(chunks) => Ok(in_order(item, chunks)),
                None => {
                    let chunks = self.reader.chunks(&inline_chunks(item).iter().copied().collect()).await;
                    chunks.map(|chunks| in_order(item, &chunks))
                }
            };
            match outcome {
                Ok(content) => {
                    let mut measured = Measured::new(item);
                    content.iter().for_each(|chunk| measured.add(chunk));
                    self.finish(item, measured);
                }
                Err(e) if is_damage(&e) => self.fail(blob(item), e.to_string()),
                Err(e) => return Err(e),
            }
        }
        self.pulse(0)
    }

    async fn large(&mut self, item: &Item) -> Result<()> {
        let mut measured = Measured::new(item);
        let mut names = self.reader.content(&item.content);
        loop {
            let part = match next_part(self.reader, &mut names).await {
                Ok(part) => part,
                Err(e) if is_damage(&e) => {
                    self.fail(blob(item), e.to_string());
                    return Ok(());
                }
                Err(e) => return Err(e),
            };
            if part.is_empty() {
                self.finish(item, measured);
                return Ok(());
            }
            part.iter().for_each(|chunk| measured.add(chunk));
            self.pulse(measured.bytes)?;
        }
    }

    fn finish(&mut self, item: &Item, measured: Measured) {
        let (bytes, promised) = (measured.bytes, item.entry.size_bytes);
        if bytes != promised {
            return self.fail(blob(item), format!("it has {promised} bytes and its chunks have {bytes}"));
        }
        if let Some(hasher) = measured.md5 {
            self.report.compared_blobs += 1;
            let found: [u8; 16] = hasher.finalize().into();
            if item.entry.content_md5 != Some(found) {
                let reason = "its MD5 is not the one that the source had: the source may have kept a wrong one";
                return self.fail(blob(item), reason.to_owned());
            }
        }
        self.report.blobs += 1;
        self.report.bytes += bytes;
    }

    fn fail(&mut self, scope: LossScope, reason: String) {
        let (instance, point) = (self.point.instance.clone(), self.point.job.clone());
        if self.report.failures.len() < SPELLED_OUT {
            self.report.failures.push(Loss { instance, point, scope, reason });
        }
    }

    fn pulse(&self, moved_bytes: u64) -> Result<()> {
        let totals = self.point.root.totals;
        self.monitor.progress(&WorkProgress {
            blobs: self.report.blobs,
            blobs_in_all: Some(totals.blobs),
            bytes: self.report.bytes + moved_bytes,
            bytes_in_all: Some(totals.bytes),
            ..WorkProgress::default()
        });
        match self.monitor.should_stop() {
            Some(reason) => Err(Error::Cancelled(reason)),
            None => Ok(()),
        }
    }
}

/// The content of a blob as it goes by.
struct Measured {
    bytes: u64,
    md5: Option<Md5>,
}

impl Measured {
    fn new(item: &Item) -> Self {
        Self { bytes: 0, md5: item.entry.content_md5.map(|_| Md5::new()) }
    }

    fn add(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len() as u64;
        if let Some(hasher) = &mut self.md5 {
            hasher.update(chunk);
        }
    }
}

fn blob(item: &Item) -> LossScope {
    let entry = item.entry.clone();
    LossScope::Blob { container: entry.container, name: entry.name, version: entry.version }
}

fn is_small(item: &Item) -> bool {
    item.entry.size_bytes <= BATCH_BYTES / 2 && !matches!(item.content, Content::ChunkTree { .. })
}

fn inline_chunks(item: &Item) -> &[ChunkId] {
    match &item.content {
        Content::Chunks(ids) => ids,
        Content::Empty | Content::ChunkTree { .. } | Content::AtSource { .. } => &[],
    }
}

fn in_order(item: &Item, chunks: &HashMap<ChunkId, Bytes>) -> Vec<Bytes> {
    inline_chunks(item).iter().filter_map(|id| chunks.get(id).cloned()).collect()
}

async fn next_part(reader: &ChunkReader, names: &mut crate::read::ContentChunks<'_>) -> Result<Vec<Bytes>> {
    let mut ids = Vec::with_capacity(CHUNKS);
    while ids.len() < CHUNKS {
        match names.next().await? {
            Some(id) => ids.push(id),
            None => break,
        }
    }
    let chunks = reader.chunks(&ids.iter().copied().collect::<HashSet<_>>()).await?;
    Ok(ids.iter().filter_map(|id| chunks.get(id).cloned()).collect())
}
