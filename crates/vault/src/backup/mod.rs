//! Backup: one pass over a source, merged with the manifest of the point before; only what changed is read.
//!
//! The listing, the reads and the writing of packs overlap; a large container is listed and merged in several ranges of names at once. Memory is bounded by a window of entries, a budget of bytes in flight and the
//! writer's packs, whatever the number and size of blobs. At intervals everything so far is made durable as the job's progress, from
//! which an interrupted job goes on.

mod commit;
mod expiry;
mod listing;
mod merge;
mod read;
mod run;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result};
use crate::item::ContainerEntry;
use crate::journal;
use crate::manifest::Root;
use crate::monitor::{Clock, Monitor};
use crate::point::{Point, Progress, feed_labels};
use crate::source::{FeedPosition, Source};
use crate::state::{Chain, Change};
use crate::vault::Vault;
use crate::verify::Ledger;
use crate::work::{Registration, WorkKind, fence_predecessors};
use commit::{Commit, finished};
pub use expiry::Expiry;
use run::Run;

/// What of a source is backed up.
#[derive(Debug, Clone, Default)]
pub struct BackupSelection {
    /// These containers, which must all be there; `None` is every container, also future ones.
    pub containers: Option<Vec<String>>,
    /// Not the containers whose names start with one of these.
    pub exclude_container_prefixes: Vec<String>,
}

impl BackupSelection {
    /// Nothing is left out.
    fn is_everything(&self) -> bool {
        self.containers.is_none() && self.exclude_container_prefixes.is_empty()
    }
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
    /// When the point may go.
    pub expires_at: Expiry,
    /// Facts to keep in the point.
    pub labels: BTreeMap<String, String>,
    /// A folder for scratch files.
    pub scratch: PathBuf,
    /// Time between two progress records.
    pub progress_every: Duration,
    /// Makes no point if nothing differs from the point of this job, which is reported instead.
    pub only_if_differs_from: Option<String>,
    /// Ranges of names of one container that are listed and merged at once, where the source can list a part of it; 1 to 16. The point is the
    /// same whatever their number.
    pub ranges: usize,
    /// Containers of fewer blobs than this are not split into ranges.
    pub split_from_blobs: u64,
    /// Makes the base point of a continuous backup: content stays at the source, items point at the versions that the account keeps, and
    /// nothing is read. The position is what the journal of this point begins from (kept in its labels `feed.cursor` and `feed.until`). It
    /// must have been taken before the backup begins: the end of the journal so far, or, where there is none, the end of the feed. If the
    /// feed does not reach back to the end of the journal any more, the label [`crate::point::FEED_GAP`] says so.
    pub at_source: Option<FeedPosition>,
}

impl BackupOptions {
    /// Everything, for ever.
    pub fn new(instance: impl Into<String>, job: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            job: job.into(),
            selection: BackupSelection::default(),
            expires_at: Expiry::default(),
            labels: BTreeMap::new(),
            scratch: std::env::temp_dir(),
            progress_every: Duration::from_secs(15),
            only_if_differs_from: None,
            ranges: 4,
            // Every range asks for up to a page more than it needs: with five pages each that is little.
            split_from_blobs: 100_000,
            at_source: None,
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
    if options.at_source.is_some() && !options.selection.is_everything() {
        // What a feed tells is of the whole account, and a container of which nothing is known was made later.
        return Err(Error::Invalid("a base point of a continuous backup covers the whole account".to_owned()));
    }
    if chain.load().await?.point(&options.job).is_some() {
        let point = Point::get(vault, &options.instance, &options.job).await?;
        return finished(vault, options, point, Vec::new()).await;
    }
    fence_predecessors(vault, &options.instance, &options.job, clock.now()).await?;
    if chain.load().await?.number == 0 {
        chain.append(Change::InstanceMade, clock.now()).await?;
    }
    let registered = chain.load().await?.number;
    let registration = Registration::begin(vault, WorkKind::Backup, &options.instance, &options.job).await?;
    let commit = Commit { vault, options, chain: &chain, registration: &registration, registered, clock, monitor };
    let outcome = back_up(source, &commit).await;
    match &outcome {
        // Whether a record that failed was written after all is not known: a prune must fence this writer before it trusts the chain.
        Err(Error::Store(_)) => drop(registration),
        _ => registration.end().await,
    }
    outcome
}

async fn back_up(source: Arc<dyn Source>, commit: &Commit<'_>) -> Result<BackupReport> {
    let Commit { vault, options, clock, monitor, registration, .. } = *commit;
    if let Some(point) = commit.written_before().await? {
        return commit.run(point, Vec::new()).await;
    }
    let progress = match latest_progress(commit).await {
        Ok(progress) => progress,
        Err(e) if e.kind() == ErrorKind::Damaged => {
            warn!(error = %e, "the progress of the interrupted job cannot be used; it starts anew");
            None
        }
        Err(e) => return Err(e),
    };
    // What a verification found broken is not built upon.
    Ledger::load(vault).await?.0.warn(&vault.reader);
    let mut warnings = Vec::new();
    let previous = point_before(commit, &mut warnings).await?;
    // A job that goes on lists everything anew, so its point is as fresh as its last run.
    let started_at = clock.now();
    let containers = chosen_containers(source.as_ref(), &options.selection).await?;
    info!(instance = options.instance, job = options.job, containers = containers.len(), "backup begins");

    let own = progress.as_ref().filter(|found| found.is_own);
    let mut run = Run::new(vault, source, options, clock, monitor, registration, own);
    run.warnings = warnings;
    if let Some(position) = &options.at_source {
        let followed = match &previous {
            Some(before) => Some((before, segments_of(vault, before).await?)),
            None => None,
        };
        run.labels = feed_labels(&options.labels, position, followed);
    }
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
    let point = commit.write(run.point(root, started_at)).await?;
    let mut warnings = std::mem::take(&mut run.warnings);
    warnings.extend(run.source.limits());
    run.writer.merge_runs().await?;
    commit.run(point, warnings).await
}

/// Segments of the journal of a base point. Of one that is damaged nobody needs to know: who reads it notices.
async fn segments_of(vault: &Vault, base: &Point) -> Result<u64> {
    match journal::end(vault, &base.instance).await {
        Ok(end) => Ok(end.filter(|end| end.base == base.job).map_or(0, |end| end.segments)),
        Err(e) if e.kind() == ErrorKind::Damaged => Ok(0),
        Err(e) => Err(e),
    }
}

/// The newest point from which content may be taken over: of base points for a base point, and of all others for others.
async fn point_before(commit: &Commit<'_>, warnings: &mut Vec<String>) -> Result<Option<Point>> {
    let (vault, options) = (commit.vault, commit.options);
    let state = commit.chain.load().await?;
    let mut points: Vec<_> = state.points.iter().collect();
    points.sort_by_key(|point| std::cmp::Reverse((point.started_at, point.completed_at)));
    for point in points {
        match Point::get(vault, &options.instance, &point.job).await {
            Ok(point) if point.feed().is_some() == options.at_source.is_some() => return Ok(Some(point)),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
                warnings.push(format!("the point {} cannot be built upon: {e}", point.job));
                // It may have been a base point: then nobody knows whether the one before it goes up to the new one.
                if options.at_source.is_some() {
                    return Ok(None);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// What an interrupted job left behind.
struct Found {
    number: u64,
    progress: Progress,
    /// It is this job's own: what it had done is counted already.
    is_own: bool,
}

/// The newest progress of this job, or else of another that was interrupted.
async fn latest_progress(commit: &Commit<'_>) -> Result<Option<Found>> {
    let (vault, instance, own_job) = (commit.vault, &commit.options.instance, &commit.options.job);
    let others = Progress::jobs(vault, instance).await?.into_iter().filter(|job| job != own_job);
    for job in std::iter::once(own_job.clone()).chain(others) {
        if let Some((number, progress)) = Progress::latest(vault, instance, &job).await?
            && progress.at_source == commit.options.at_source.is_some()
            && commit.is_usable(&progress).await?
        {
            return Ok(Some(Found { number, progress, is_own: job == *own_job }));
        }
    }
    Ok(None)
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
