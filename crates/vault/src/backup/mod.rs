//! Backup: one pass over a source, merged with the manifest of the point before; only what changed is read.
//!
//! The listing, the reads and the writing of packs overlap. Memory is bounded by a window of entries, a budget of bytes in flight and the
//! writer's packs, whatever the number and size of blobs. At intervals everything so far is made durable as the job's progress, from
//! which an interrupted job goes on.

mod listing;
mod pending;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result};
use crate::item::{BlobEntry, ContainerEntry, Content, EntryKey, Timestamp};
use crate::manifest::{ManifestReader, ManifestWriter, Record, Root};
use crate::monitor::{Clock, Monitor, WorkProgress};
use crate::pack::PackKind;
use crate::point::{BackupCounts, Point, Progress, Skipped};
use crate::sort::EntrySorter;
use crate::source::Source;
use crate::state::{Chain, Change};
use crate::vault::{FORMAT, Vault};
use crate::write::ChunkWriter;
use listing::Listing;
use pending::{Pending, Slot};
use read::{BlobReader, Outcome};

/// Skipped blobs of one page.
const SKIPPED_PER_PAGE: usize = 1000;
/// Entries of a listing between two looks at the monitor.
const ENTRIES_PER_PULSE: u64 = 5000;

/// What of a source is backed up.
#[derive(Debug, Clone, Default)]
pub struct BackupSelection {
    /// These containers, which must all be there; `None` is every container, also future ones.
    pub containers: Option<Vec<String>>,
    /// Not the containers whose names start with one of these.
    pub exclude_container_prefixes: Vec<String>,
}

/// What to back up and how to call it.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The instance: one datasource in this vault.
    pub instance: String,
    /// The job; it names the point. Running a job again goes on where it was.
    pub job: String,
    /// What is taken.
    pub selection: BackupSelection,
    /// When the point may go; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// Facts to keep in the point.
    pub labels: BTreeMap<String, String>,
    /// A folder for scratch files.
    pub scratch: PathBuf,
    /// Time between two progress records.
    pub progress_every: Duration,
    /// Makes no point if nothing differs from the point of this job, which is reported instead.
    pub only_if_differs_from: Option<String>,
}

impl BackupOptions {
    /// Everything, for ever.
    pub fn new(instance: impl Into<String>, job: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            job: job.into(),
            selection: BackupSelection::default(),
            expires_at: None,
            labels: BTreeMap::new(),
            scratch: std::env::temp_dir(),
            progress_every: Duration::from_secs(15),
            only_if_differs_from: None,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The point, committed.
    pub point: Point,
    /// False if nothing had changed and `point` is the one before.
    pub is_new: bool,
    /// What should be looked at although the backup is complete.
    pub warnings: Vec<String>,
}

/// Backs up `source` into `vault` and commits the point.
pub async fn run(
    vault: &Vault,
    source: Arc<dyn Source>,
    options: &BackupOptions,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    let chain = Chain::instance(vault, &options.instance)?;
    match Point::get(vault, &options.instance, &options.job).await {
        Ok(point) => return commit(vault, &chain, options, point, Vec::new(), clock).await,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let progress = match latest_progress(vault, options).await {
        Ok(progress) => progress,
        Err(e) if e.kind() == ErrorKind::Damaged => {
            warn!(error = %e, "the progress of the interrupted job cannot be used; it starts anew");
            None
        }
        Err(e) => return Err(e),
    };
    let state = chain.load().await?;
    let mut previous = None;
    let mut warnings = Vec::new();
    if let Some(latest) = state.latest() {
        match Point::get(vault, &options.instance, &latest.job).await {
            Ok(point) => previous = Some(point),
            Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
                warnings.push(format!("the point before cannot be used, everything is read anew: {e}"));
            }
            Err(e) => return Err(e),
        }
    }
    // A job that goes on lists everything anew, so its point is as fresh as its last run.
    let started_at = clock.now();
    let containers = chosen_containers(source.as_ref(), &options.selection).await?;
    info!(instance = options.instance, job = options.job, containers = containers.len(), "backup begins");

    let writer = Arc::new(ChunkWriter::new(vault));
    let own = progress.as_ref().filter(|found| found.is_own);
    // Skipped blobs are met again; everything else that was counted is not.
    let counts = own.map(|found| BackupCounts { skipped_blobs: 0, ..found.progress.counts }).unwrap_or_default();
    let reader = Arc::new(BlobReader::new(source.clone(), writer.clone(), vault.cutter.clone()));
    let mut run = Run {
        vault,
        source,
        options,
        clock,
        monitor,
        pending: Pending::new(reader.clone()),
        reader,
        manifest: ManifestWriter::new(&vault.keys.id_key),
        writer,
        earlier: counts,
        counts,
        started_at,
        progress_number: own.map_or(0, |found| found.number),
        progress_due: clock.now().plus_seconds(options.progress_every.as_secs() as i64),
        skipped: Vec::new(),
        skipped_pages: Vec::new(),
        warnings,
    };
    let roots: Vec<(Root, bool)> = progress
        .iter()
        .map(|found| (found.progress.root, found.is_own))
        .chain(previous.iter().map(|point| (point.root, false)))
        .collect();
    for container in &containers {
        run.container(container, &roots).await?;
    }
    let root = run.root().await?;
    if let Some(job) = &options.only_if_differs_from {
        let other = Point::get(vault, &options.instance, job).await?;
        if other.root == root {
            Progress::clear(vault, &options.instance, &options.job).await?;
            return Ok(BackupReport { point: other, is_new: false, warnings: run.warnings });
        }
    }
    let point = run.finish(root).await?;
    let mut warnings = std::mem::take(&mut run.warnings);
    warnings.extend(run.source.limits());
    commit(vault, &chain, options, point, warnings, clock).await
}

/// What an interrupted job left behind.
struct Found {
    number: u64,
    progress: Progress,
    /// It is this job's own: what it had done is counted already.
    is_own: bool,
}

/// The newest progress of this job, or else of another that was interrupted.
async fn latest_progress(vault: &Vault, options: &BackupOptions) -> Result<Option<Found>> {
    let (instance, own_job) = (&options.instance, &options.job);
    if let Some((number, progress)) = Progress::latest(vault, instance, own_job).await? {
        return Ok(Some(Found { number, progress, is_own: true }));
    }
    for job in Progress::jobs(vault, instance).await? {
        if let Some((number, progress)) = Progress::latest(vault, instance, &job).await? {
            return Ok(Some(Found { number, progress, is_own: false }));
        }
    }
    Ok(None)
}

async fn commit(
    vault: &Vault,
    chain: &Chain<'_>,
    options: &BackupOptions,
    point: Point,
    warnings: Vec<String>,
    clock: &dyn Clock,
) -> Result<BackupReport> {
    if chain.load().await?.point(&options.job).is_none() {
        let added = Change::PointAdded {
            job: options.job.clone(),
            started_at: point.started_at,
            completed_at: point.completed_at,
            expires_at: options.expires_at,
        };
        match chain.append(added, clock.now()).await {
            Ok(_) => {}
            // Another run of this job committed the same point a moment ago.
            Err(Error::Conflict(_)) if chain.load().await?.point(&options.job).is_some() => {}
            Err(e) => return Err(e),
        }
    }
    for job in Progress::jobs(vault, &options.instance).await? {
        Progress::clear(vault, &options.instance, &job).await?;
    }
    Ok(BackupReport { point, is_new: true, warnings })
}

async fn chosen_containers(source: &dyn Source, selection: &BackupSelection) -> Result<Vec<ContainerEntry>> {
    let mut containers = source.containers().await?;
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(wanted) = &selection.containers {
        let found: BTreeSet<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        let missing: Vec<&str> = wanted.iter().map(String::as_str).filter(|name| !found.contains(name)).collect();
        if !missing.is_empty() {
            let (place, missing) = (source.describe(), missing.join(", "));
            return Err(Error::NotFound(format!(
                "{place} has no container {missing}: restore it or leave it out of the backup"
            )));
        }
        containers.retain(|container| wanted.contains(&container.name));
    }
    let is_excluded = |name: &str| selection.exclude_container_prefixes.iter().any(|prefix| name.starts_with(prefix));
    containers.retain(|container| !is_excluded(&container.name));
    Ok(containers)
}

/// The manifest of an earlier run or point, from which content is taken over.
struct Base<'a> {
    reader: ManifestReader<'a>,
    is_own_progress: bool,
}

struct Run<'a> {
    vault: &'a Vault,
    source: Arc<dyn Source>,
    options: &'a BackupOptions,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
    reader: Arc<BlobReader>,
    writer: Arc<ChunkWriter>,
    manifest: ManifestWriter,
    earlier: BackupCounts,
    counts: BackupCounts,
    started_at: Timestamp,
    progress_number: u64,
    progress_due: Timestamp,
    skipped: Vec<Skipped>,
    skipped_pages: Vec<crate::item::ChunkId>,
    warnings: Vec<String>,
    pending: Pending,
}

/// A listing turned out not to be in key order.
struct OutOfOrder;

/// Where a container began: a state to go back to.
struct Mark {
    manifest: ManifestWriter,
    counts: BackupCounts,
    skipped_pages: usize,
}

impl<'a> Run<'a> {
    async fn container(&mut self, container: &ContainerEntry, roots: &[(Root, bool)]) -> Result<()> {
        self.write_skipped().await?;
        let mark =
            Mark { manifest: self.manifest.clone(), counts: self.counts, skipped_pages: self.skipped_pages.len() };
        let mut listing = Listing::start(self.source.clone(), &container.name);
        let mut bases = self.bases(&container.name, roots);
        match self.merge(container, &mut bases, &mut listing).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(OutOfOrder)) => {
                info!(container = container.name, "the listing is not in key order: it is sorted on disk");
                self.go_back_to(mark);
            }
            Err(e) if self.has_gone(container, &e).await? => {
                self.go_back_to(mark);
                self.warnings
                    .push(format!("container {} was deleted while it was backed up: it is left out", container.name));
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        let mut sorter = EntrySorter::new(&self.options.scratch);
        let mut unsorted = Listing::start(self.source.clone(), &container.name);
        let mut entries = 0_u64;
        while let Some(entry) = unsorted.next().await? {
            sorter.push(entry)?;
            entries += 1;
            if entries.is_multiple_of(ENTRIES_PER_PULSE) {
                self.pulse().await?;
            }
        }
        let mut sorted = Listing::Sorted(sorter.finish()?);
        let mut bases = self.bases(&container.name, roots);
        match self.merge(container, &mut bases, &mut sorted).await? {
            Ok(()) => Ok(()),
            Err(OutOfOrder) => Err(Error::Internal("a sorted listing is out of order".into())),
        }
    }

    fn go_back_to(&mut self, mark: Mark) {
        self.pending.clear();
        self.manifest = mark.manifest;
        self.counts = mark.counts;
        self.skipped.clear();
        self.skipped_pages.truncate(mark.skipped_pages);
    }

    /// A container that nobody named one by one may disappear while the others are backed up.
    async fn has_gone(&self, container: &ContainerEntry, error: &Error) -> Result<bool> {
        if self.options.selection.containers.is_some() || error.kind() != ErrorKind::NotFound {
            return Ok(false);
        }
        Ok(self.source.containers().await?.iter().all(|there| there.name != container.name))
    }

    fn bases(&self, container: &str, roots: &[(Root, bool)]) -> Vec<Base<'a>> {
        let start = EntryKey { container, name: "", is_current: false, version: "" };
        roots
            .iter()
            .map(|(root, is_own_progress)| Base {
                reader: ManifestReader::new(&self.vault.reader, root, Some(start)),
                is_own_progress: *is_own_progress,
            })
            .collect()
    }

    async fn merge(
        &mut self,
        container: &ContainerEntry,
        bases: &mut Vec<Base<'a>>,
        listing: &mut Listing,
    ) -> Result<std::result::Result<(), OutOfOrder>> {
        self.manifest.push(Record::Container(container.clone()), &self.writer).await?;
        let mut last: Option<BlobEntry> = None;
        while let Some(entry) = listing.next().await? {
            match last.as_ref().map(|last| entry.key().cmp(&last.key())) {
                Some(std::cmp::Ordering::Equal) => continue,
                Some(std::cmp::Ordering::Less) => return Ok(Err(OutOfOrder)),
                _ => {}
            }
            last = Some(entry.clone());
            match self.take_over(&entry, bases).await? {
                Some((content, is_unchanged)) => self.pending.push_ready(entry, content, is_unchanged),
                None => self.pending.push_wanted(entry),
            }
            while self.pending.is_full() {
                self.drain_first().await?;
            }
        }
        while self.drain_first().await? {}
        self.pulse().await?;
        Ok(Ok(()))
    }

    /// The content of an unchanged blob, without reading it, and whether that is still to be counted: what this job had done before was
    /// counted before.
    async fn take_over(&mut self, entry: &BlobEntry, bases: &mut Vec<Base<'a>>) -> Result<Option<(Content, bool)>> {
        let mut number = 0;
        while number < bases.len() {
            match bases[number].reader.advance_to(entry.key()).await {
                Ok(Some(Record::Blob(item))) if item.entry.has_same_content_as(entry) => {
                    return Ok(Some((item.content, !bases[number].is_own_progress)));
                }
                Ok(_) => number += 1,
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    warn!(error = %e, "the manifest before cannot be read any further");
                    self.warnings.push(format!("content is read anew because the manifest before is damaged: {e}"));
                    bases.remove(number);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Waits for the first pending group and puts it into the manifest; `false` if there is none.
    async fn drain_first(&mut self) -> Result<bool> {
        let Some(mut group) = self.pending.take_first() else { return Ok(false) };
        let mut outcomes = match &mut group.task {
            None => Vec::new(),
            Some(task) => loop {
                tokio::select! {
                    outcomes = &mut *task => {
                        break outcomes.map_err(|e| Error::Internal(format!("a reading task died: {e}")))??;
                    }
                    () = tokio::time::sleep(Duration::from_millis(500)) => self.pulse().await?,
                }
            },
        }
        .into_iter();
        for slot in std::mem::take(&mut group.slots) {
            let outcome = match slot {
                Slot::Ready(item, is_unchanged) => {
                    self.counts.unchanged_blobs += u64::from(is_unchanged);
                    Outcome::Read(item)
                }
                Slot::Reading => outcomes.next().ok_or_else(|| Error::Internal("a blob has no outcome".into()))?,
            };
            match outcome {
                Outcome::Read(item) => self.manifest.push(Record::Blob(*item), &self.writer).await?,
                Outcome::Gone => {}
                Outcome::Skipped(skipped) => self.skip(skipped).await?,
            }
        }
        self.pulse().await?;
        Ok(true)
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
            blobs: self.manifest.totals().blobs,
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
        let root = self.manifest.clone().finish(&self.writer).await?;
        self.writer.flush().await?;
        let progress = Progress { root, counts: self.counts() };
        let (instance, job) = (&self.options.instance, &self.options.job);
        self.progress_number += 1;
        progress.put(self.vault, instance, job, self.progress_number).await?;
        self.progress_due = self.clock.now().plus_seconds(self.options.progress_every.as_secs() as i64);
        Ok(())
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

    async fn root(&mut self) -> Result<Root> {
        self.write_skipped().await?;
        let root = self.manifest.clone().finish(&self.writer).await?;
        self.writer.flush().await?;
        Ok(root)
    }

    async fn finish(&mut self, root: Root) -> Result<Point> {
        let completed_at = self.clock.now();
        let point = Point {
            format: FORMAT.to_owned(),
            instance: self.options.instance.clone(),
            job: self.options.job.clone(),
            source: self.source.describe(),
            started_at: self.started_at,
            completed_at,
            root,
            counts: self.counts(),
            skipped_pages: self.skipped_pages.clone(),
            labels: self.options.labels.clone(),
        };
        point.put(self.vault).await
    }
}
