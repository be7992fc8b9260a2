//! One run of a backup: container by container, the results of the merges in one manifest, with counts, progress and skipped blobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tracing::{info, warn};

use super::listing::Listing;
use super::merge::{Base, Done, Merge, Step, Stop};
use super::read::{BlobReader, Outcome};
use super::split::{self, RANGES_AT_MOST, Range};
use super::{BackupOptions, Found};
use crate::error::{Error, ErrorKind, Result};
use crate::item::{ChunkId, ContainerEntry, EntryKey, Timestamp};
use crate::manifest::{ManifestPart, ManifestReader, ManifestWriter, Record, Root, Shares, Totals, share};
use crate::monitor::{Clock, Monitor, WorkProgress};
use crate::pack::PackKind;
use crate::point::{BackupCounts, Point, Progress, Skipped};
use crate::sort::EntrySorter;
use crate::source::Source;
use crate::vault::{FORMAT, Vault};
use crate::work::Registration;
use crate::write::ChunkWriter;

/// Skipped blobs of one page.
const SKIPPED_PER_PAGE: usize = 1000;
/// Entries of a listing between two looks at the monitor.
const ENTRIES_PER_PULSE: u64 = 5000;
/// Time between two looks at the monitor while nothing comes.
const PULSE: Duration = Duration::from_millis(500);

/// How a container is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In several ranges of names at once.
    Split,
    /// From beginning to end.
    Straight,
    /// To a file, which is sorted.
    Sorted,
}

/// Where a container began: what to go back to.
struct Mark {
    counts: BackupCounts,
    skipped_pages: usize,
}

pub(super) struct Run<'a> {
    vault: &'a Vault,
    pub(super) source: Arc<dyn Source>,
    options: &'a BackupOptions,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
    registration: &'a Registration<'a>,
    reader: Arc<BlobReader>,
    pub(super) writer: Arc<ChunkWriter>,
    /// The containers that are done.
    manifest: ManifestWriter,
    /// The container that is being worked on: its ranges, in order.
    parts: Vec<ManifestPart>,
    earlier: BackupCounts,
    counts: BackupCounts,
    progress_number: u64,
    progress_due: Timestamp,
    skipped: Vec<Skipped>,
    skipped_pages: Vec<ChunkId>,
    pub(super) warnings: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        vault: &'a Vault,
        source: Arc<dyn Source>,
        options: &'a BackupOptions,
        clock: &'a dyn Clock,
        monitor: &'a dyn Monitor,
        registration: &'a Registration<'a>,
        own: Option<&Found>,
    ) -> Self {
        let writer = Arc::new(ChunkWriter::registered(vault, registration.writer(), registration.condemned()));
        // Skipped blobs are met again; everything else that was counted is not.
        let counts = own.map(|found| BackupCounts { skipped_blobs: 0, ..found.progress.counts }).unwrap_or_default();
        Self {
            vault,
            source: source.clone(),
            options,
            clock,
            monitor,
            registration,
            reader: Arc::new(BlobReader::new(source, writer.clone(), vault.cutter.clone())),
            manifest: ManifestWriter::new(&vault.keys.id_key),
            parts: Vec::new(),
            writer,
            earlier: counts,
            counts,
            progress_number: own.map_or(0, |found| found.number),
            progress_due: clock.now().plus_seconds(options.progress_every.as_secs() as i64),
            skipped: Vec::new(),
            skipped_pages: Vec::new(),
            warnings: Vec::new(),
            labels: options.labels.clone(),
        }
    }

    /// Backs up one container. `roots`: manifests from which content is taken over, and whether each is what this job itself had done.
    pub(super) async fn container(&mut self, container: &ContainerEntry, roots: &[(Root, bool)]) -> Result<()> {
        self.write_skipped().await?;
        let mark = Mark { counts: self.counts, skipped_pages: self.skipped_pages.len() };
        match self.container_in_some_way(container, roots, &mark).await {
            Err(e) if self.has_gone(container, &e).await? => {
                self.parts.clear();
                self.skipped.clear();
                self.skipped_pages.truncate(mark.skipped_pages);
                self.counts = mark.counts;
                self.warnings
                    .push(format!("container {} was deleted while it was backed up: it is left out", container.name));
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn container_in_some_way(
        &mut self,
        container: &ContainerEntry,
        roots: &[(Root, bool)],
        mark: &Mark,
    ) -> Result<()> {
        let mut roots = roots.to_vec();
        let mut is_in_order = true;
        for way in [Way::Split, Way::Straight, Way::Sorted] {
            if way == Way::Straight && !is_in_order {
                continue;
            }
            let Some(ranges) = self.ranges(way, &container.name, &roots).await? else { continue };
            match self.merge(container, ranges, &roots).await {
                Ok(()) => return Ok(()),
                Err(Stop::Failed(error)) => return Err(error),
                Err(stop) => {
                    info!(container = container.name, ?way, ?stop, "the listing cannot be used: another way is tried");
                    is_in_order = !matches!(stop, Stop::OutOfOrder);
                    roots.insert(0, (self.start_over(mark).await?, true));
                }
            }
        }
        Err(Error::Internal(format!("the sorted listing of container {} is out of order", container.name)))
    }

    /// Lets go of the parts. What they hold is kept as a manifest, so that nothing is read or counted twice.
    async fn start_over(&mut self, mark: &Mark) -> Result<Root> {
        let done = self.root_so_far().await?;
        self.parts.clear();
        self.skipped.clear();
        self.skipped_pages.truncate(mark.skipped_pages);
        self.counts.skipped_blobs = mark.counts.skipped_blobs;
        Ok(done)
    }

    /// A container that nobody named one by one may disappear while the others are backed up.
    async fn has_gone(&self, container: &ContainerEntry, error: &Error) -> Result<bool> {
        if self.options.selection.containers.is_some() || error.kind() != ErrorKind::NotFound {
            return Ok(false);
        }
        Ok(self.source.containers().await?.iter().all(|there| there.name != container.name))
    }

    /// The ranges of a container, or `None` if it cannot be listed in this way.
    async fn ranges(&mut self, way: Way, container: &str, roots: &[(Root, bool)]) -> Result<Option<Vec<Range>>> {
        match way {
            Way::Split => {
                let shares = self.shares(container, roots).await?;
                split::split(&self.source, container, &shares, self.options.split_from_blobs).await
            }
            Way::Straight => Ok(Some(split::whole(Listing::whole(self.source.clone(), container)))),
            Way::Sorted => Ok(Some(split::whole(self.sorted(container).await?))),
        }
    }

    /// Where ranges of about equal size begin, from the newest manifest that knows enough blobs of the container.
    async fn shares(&self, container: &str, roots: &[(Root, bool)]) -> Result<Shares> {
        let (ranges, at_least) = (self.options.ranges.min(RANGES_AT_MOST), self.options.split_from_blobs);
        for (root, _) in roots.iter().rev() {
            match share(&self.vault.reader, root, container, ranges, at_least).await {
                Ok(shares) if shares.names.is_empty() => {}
                Ok(shares) => return Ok(shares),
                // Whoever merges with it will say so.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Shares::default())
    }

    async fn sorted(&mut self, container: &str) -> Result<Listing> {
        let mut sorter = EntrySorter::new(&self.options.scratch);
        let mut unsorted = Listing::whole(self.source.clone(), container);
        let mut entries = 0_u64;
        while let Some(entry) = unsorted.next().await? {
            sorter.push(entry)?;
            entries += 1;
            if entries.is_multiple_of(ENTRIES_PER_PULSE) {
                self.pulse().await?;
            }
        }
        Ok(Listing::Sorted(sorter.finish()?))
    }

    fn bases(&self, container: &str, first: Option<&str>, roots: &[(Root, bool)]) -> Vec<Base<'a>> {
        let start = EntryKey { container, name: first.unwrap_or_default(), is_current: false, version: "" };
        let base = |(root, is_own_progress): &(Root, bool)| Base {
            reader: ManifestReader::new(&self.vault.reader, root, Some(start)),
            chunks: &self.vault.reader,
            is_own_progress: *is_own_progress,
        };
        roots.iter().map(base).collect()
    }

    /// Merges the ranges, several at once, each into a part of its own, and joins the parts.
    async fn merge(
        &mut self,
        container: &ContainerEntry,
        ranges: Vec<Range>,
        roots: &[(Root, bool)],
    ) -> Result<(), Stop> {
        self.parts = ranges.iter().map(|_| ManifestPart::new(&self.vault.keys.id_key)).collect();
        self.parts[0].push(Record::Container(container.clone()), &self.writer).await?;
        let at_once = ranges.len().min(self.options.ranges.clamp(1, RANGES_AT_MOST));
        let merges = ranges.into_iter().enumerate().map(|(number, range)| {
            let bases = self.bases(&container.name, range.first.as_deref(), roots);
            let mut merge = Merge::new(range, at_once, bases, self.reader.clone());
            merge.at_source = self.options.at_source.is_some();
            merge.steps().map(move |step| (number, step))
        });
        let merges: Vec<_> = merges.collect();
        let mut steps = stream::iter(merges).flatten_unordered(at_once);
        loop {
            match tokio::time::timeout(PULSE, steps.next()).await {
                Ok(Some((number, step))) => self.take(number, step?).await?,
                Ok(None) => break,
                Err(_) => {}
            }
            self.pulse().await?;
        }
        for part in std::mem::take(&mut self.parts) {
            self.manifest.append(part, &self.writer).await?;
        }
        Ok(())
    }

    /// Puts what has become of some entries into the part of their range.
    async fn take(&mut self, number: usize, step: Step) -> Result<()> {
        for warning in &step.warnings {
            // Every range that reads a damaged manifest says so.
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
        for done in step.done {
            match done {
                Done::TakenOver(item, is_counted) => {
                    self.counts.unchanged_blobs += u64::from(is_counted);
                    self.parts[number].push(Record::Blob(*item), &self.writer).await?;
                }
                Done::Read(Outcome::Read(item)) => {
                    self.parts[number].push(Record::Blob(*item), &self.writer).await?;
                }
                Done::Read(Outcome::Skipped(skipped)) => self.skip(skipped).await?,
                Done::Read(Outcome::Gone) => {}
            }
        }
        Ok(())
    }

    async fn skip(&mut self, skipped: Skipped) -> Result<()> {
        let Skipped { container, name, reason } = &skipped;
        warn!(container, name, reason, "a blob is left out");
        self.counts.skipped_blobs += 1;
        self.skipped.push(skipped);
        if self.skipped.len() >= SKIPPED_PER_PAGE { self.write_skipped().await } else { Ok(()) }
    }

    async fn write_skipped(&mut self) -> Result<()> {
        if self.skipped.is_empty() {
            return Ok(());
        }
        let page = postcard::to_stdvec(&std::mem::take(&mut self.skipped))
            .map_err(|e| Error::Internal(format!("page of skipped blobs: {e}")))?;
        self.skipped_pages.push(self.writer.put(PackKind::Metadata, Bytes::from(page)).await?);
        Ok(())
    }

    /// Tells the monitor, listens to it, and makes progress durable when it is time.
    async fn pulse(&mut self) -> Result<()> {
        let counts = self.counts();
        self.monitor.progress(&WorkProgress {
            blobs: self.totals().blobs,
            blobs_in_all: None,
            bytes: counts.read_bytes,
            bytes_in_all: None,
            unchanged_blobs: counts.unchanged_blobs,
            skipped_blobs: counts.skipped_blobs,
        });
        if let Some(reason) = self.monitor.should_stop() {
            return Err(Error::Cancelled(reason));
        }
        let now = self.clock.now();
        if now < self.progress_due {
            return Ok(());
        }
        let root = self.root_so_far().await?;
        let at_source = self.options.at_source.is_some();
        let progress = Progress { registered: self.registration.number(), root, counts: self.counts(), at_source };
        let (instance, job) = (&self.options.instance, &self.options.job);
        self.progress_number += 1;
        progress.put(self.vault, instance, job, self.progress_number).await?;
        self.progress_due = self.clock.now().plus_seconds(self.options.progress_every.as_secs() as i64);
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut totals = self.manifest.totals();
        for part in &self.parts {
            totals.add(&part.totals());
        }
        totals
    }

    fn counts(&self) -> BackupCounts {
        let (read, written) = (self.reader.counts(), self.writer.counts());
        BackupCounts {
            read_blobs: self.earlier.read_blobs + read.blobs,
            read_bytes: self.earlier.read_bytes + read.bytes,
            new_chunks: self.earlier.new_chunks + written.new_chunks,
            new_bytes: self.earlier.new_bytes + written.new_bytes,
            stored_bytes: self.earlier.stored_bytes + written.stored_bytes,
            ..self.counts
        }
    }

    /// The manifest of everything that is done, durable. Of a container in several ranges it holds what each range has come to.
    async fn root_so_far(&self) -> Result<Root> {
        let mut manifest = self.manifest.clone();
        for part in &self.parts {
            manifest.append(part.clone(), &self.writer).await?;
        }
        let root = manifest.finish(&self.writer).await?;
        self.writer.flush().await?;
        Ok(root)
    }

    /// The manifest of the point.
    pub(super) async fn root(&mut self) -> Result<Root> {
        self.write_skipped().await?;
        self.root_so_far().await
    }

    /// The point.
    pub(super) fn point(&self, root: Root, started_at: Timestamp) -> Point {
        let completed_at = self.clock.now();
        Point {
            format: FORMAT.to_owned(),
            instance: self.options.instance.clone(),
            job: self.options.job.clone(),
            source: self.source.describe(),
            started_at,
            completed_at,
            root,
            counts: self.counts(),
            skipped_pages: self.skipped_pages.clone(),
            labels: self.labels.clone(),
        }
    }
}
