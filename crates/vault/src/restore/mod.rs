//! Restore: plan, run, report. Packs are read in their own order in coalesced ranges; every chunk is checked against its name before it is
//! written; small blobs take one write each.

mod in_place;
mod plan;
mod select;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::error::{Error, Result};
use crate::item::{BlobEntry, ChunkId, Content, Item};
use crate::manifest::{OwnedKey, Root, Totals};
use crate::monitor::{Monitor, WorkProgress};
use crate::point::Point;
use crate::read::ChunkReader;
use crate::target::{OnConflict, Target, Written};
use crate::vault::Vault;
use crate::work::{WorkKind, reading};
pub use in_place::{InPlaceOptions, NameRange, run_in_place};
use plan::chosen_containers;
pub use plan::{Plan, plan};
pub use select::{ContainerSelection, SelectedItems, Selection};

/// Content of one batch of small blobs, in bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// Blobs of one batch.
const BATCH_BLOBS: usize = 2000;
/// Blobs written at once.
const WRITES: usize = 12;
/// Groups of small blobs written at once.
const GROUP_WRITES: usize = 2;
/// Content of one such group, in bytes.
const GROUP_BYTES: usize = 4 << 20;
/// Content of a large blob that is opened at once, in bytes.
const PART_BYTES: usize = 8 << 20;
/// Skipped blobs and losses that a report spells out.
const EXAMPLES: usize = 100;

/// How a restore goes.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// What is taken, and where it goes.
    pub selection: Selection,
    /// What to do about blobs that are there.
    pub on_conflict: OnConflict,
}

/// How far a restore has come. A caller that keeps it can go on after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreState {
    /// Containers that this restore was about to make: written before they are made, so that a resumed restore accepts them and no others.
    pub containers: BTreeSet<String>,
    /// The plan held and writing has begun.
    pub is_planned: bool,
    /// Everything up to this key is written, in the order of [`SelectedItems`], which is not that of keys if some blobs come first.
    pub cursor: Option<OwnedKey>,
    /// Counts so far.
    pub counts: RestoreCounts,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreCounts {
    /// Blobs chosen by the selection.
    pub planned: Totals,
    /// Containers made.
    pub created_containers: u64,
    /// Blobs written.
    pub written_blobs: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Blobs left as they were.
    pub skipped_blobs: u64,
    /// Blobs removed (in place only).
    pub removed_blobs: u64,
    /// Blobs that were already as they should be (in place only).
    pub unchanged_blobs: u64,
    /// Properties that the target cannot hold, and on how many blobs.
    pub lost_properties: BTreeMap<String, u64>,
    /// Some of the skipped blobs and lost properties, in words.
    pub examples: Vec<String>,
}

impl RestoreCounts {
    fn note(&mut self, entry: &BlobEntry, outcome: &Written) {
        match outcome {
            Written::Written { lost } => {
                self.written_blobs += 1;
                self.written_bytes += entry.size_bytes;
                for property in lost {
                    *self.lost_properties.entry(property.clone()).or_default() += 1;
                    self.example(|| format!("{}: {property} could not be put back", entry.display_name()));
                }
            }
            Written::Skipped(reason) => {
                self.skipped_blobs += 1;
                self.example(|| format!("{}: {reason}", entry.display_name()));
            }
        }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// Keeps the state of a restore.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Makes the state durable; called before containers are made and after every batch.
    async fn save(&self, state: &RestoreState) -> Result<()>;

    /// False if the state is thrown away.
    fn is_kept(&self) -> bool {
        true
    }
}

/// Keeps nothing: the restore starts anew after a crash.
pub struct NoJournal;

#[async_trait]
impl Journal for NoJournal {
    async fn save(&self, _: &RestoreState) -> Result<()> {
        Ok(())
    }

    fn is_kept(&self) -> bool {
        false
    }
}

/// Restores blobs of `point` into `target`. `state` is the default one, or what the journal kept of an interrupted run.
pub async fn run(
    vault: &Vault,
    point: &Point,
    target: Arc<dyn Target>,
    options: &RestoreOptions,
    state: RestoreState,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<RestoreState> {
    let work = run_registered(vault, point, target, options, state, journal, monitor);
    reading(vault, WorkKind::Restore, &point.instance, &point.job, work).await
}

async fn run_registered(
    vault: &Vault,
    point: &Point,
    target: Arc<dyn Target>,
    options: &RestoreOptions,
    mut state: RestoreState,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<RestoreState> {
    let plan = plan(vault, point, target.as_ref(), options, &state).await?;
    info!(
        blobs = plan.totals.blobs,
        bytes = plan.totals.bytes,
        containers = plan.containers.len(),
        "restore is planned"
    );
    state.counts.planned = plan.totals;
    state.is_planned = true;
    let resumed = state.containers.clone();
    state.containers.extend(plan.to_create.iter().cloned());
    journal.save(&state).await?;
    for container in &plan.containers {
        let is_made = target.create_container(container).await?;
        state.counts.created_containers += u64::from(is_made);
        // Somebody may have made it since the plan: it is theirs, and what is in it stays.
        if !is_made && options.on_conflict == OnConflict::Fail && !resumed.contains(&container.name) {
            let (name, place) = (&container.name, target.describe());
            return Err(Error::Conflict(format!(
                "{name} was made in {place} by somebody else just now: nothing was written to it"
            )));
        }
    }
    let is_resumed = state.cursor.is_some();
    let selection = plan.selection.clone();
    let mut work =
        Work { vault, target, selection, on_conflict: options.on_conflict, is_resumed, own: state.containers.clone() };
    work.write_all(&point.root, &mut state, journal, monitor).await?;
    Ok(state)
}

/// A blob with its content.
struct Loaded {
    entry: BlobEntry,
    content: Bytes,
}

struct Work<'a> {
    vault: &'a Vault,
    target: Arc<dyn Target>,
    selection: Selection,
    on_conflict: OnConflict,
    is_resumed: bool,
    own: BTreeSet<String>,
}

enum Batch {
    Small { last: OwnedKey, blobs: Vec<Loaded> },
    Large(Box<Item>),
}

impl Work<'_> {
    async fn write_all(
        &mut self,
        root: &Root,
        state: &mut RestoreState,
        journal: &dyn Journal,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let reader = &self.vault.reader;
        let mut items = SelectedItems::new(reader, root, &self.selection, state.cursor.clone());
        let mut ahead = None;
        let mut batch = next_batch(reader, &mut items, &mut ahead).await?;
        while let Some(current) = batch {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            // The next batch is read while this one is written.
            let (written, next) = futures::join!(
                self.write_batch(current, &mut state.counts, monitor),
                next_batch(reader, &mut items, &mut ahead)
            );
            state.cursor = Some(written?);
            if journal.is_kept() {
                // What the journal calls written must survive what the journal survives.
                self.target.flush().await?;
                journal.save(state).await?;
            }
            batch = next?;
        }
        Ok(self.target.flush().await?)
    }

    /// The rule for one blob: in containers that an interrupted run made, its own blobs may lie already.
    fn conflict_rule(&self, container: &str) -> OnConflict {
        match self.on_conflict {
            OnConflict::Fail if self.is_resumed || self.own.contains(container) => OnConflict::Overwrite,
            rule => rule,
        }
    }

    fn retarget(&self, mut entry: BlobEntry) -> BlobEntry {
        let name = self.selection.target_name(&entry.container);
        if name != entry.container {
            entry.container = name.to_owned();
        }
        entry
    }

    async fn write_batch(&self, batch: Batch, counts: &mut RestoreCounts, monitor: &dyn Monitor) -> Result<OwnedKey> {
        match batch {
            Batch::Large(item) => {
                let entry = self.retarget(item.entry.clone());
                let written = self.write_large(&item, &entry, counts, monitor).await?;
                counts.note(&entry, &written);
                report(counts, monitor);
                Ok(OwnedKey::from(item.entry.key()))
            }
            Batch::Small { last, blobs } => {
                let together = self.target.writes_together();
                let at_once = if together > 1 { GROUP_WRITES } else { WRITES };
                let mut writes = stream::iter(self.groups(blobs, together))
                    .map(|(blobs, rule)| async move {
                        let blobs = Arc::new(blobs);
                        let outcomes = self.target.write_many(blobs.clone(), rule).await;
                        (blobs, outcomes)
                    })
                    .buffer_unordered(at_once);
                while let Some((blobs, outcomes)) = writes.next().await {
                    for ((entry, _), outcome) in blobs.iter().zip(outcomes) {
                        counts.note(entry, &outcome?);
                    }
                    report(counts, monitor);
                }
                Ok(last)
            }
        }
    }

    /// Neighbours that are written together, with the rule that holds for all of them.
    fn groups(&self, blobs: Vec<Loaded>, together: usize) -> Vec<(Vec<(BlobEntry, Bytes)>, OnConflict)> {
        let mut groups: Vec<(Vec<(BlobEntry, Bytes)>, OnConflict)> = Vec::new();
        let mut bytes = 0;
        for Loaded { entry, content } in blobs {
            let entry = self.retarget(entry);
            let rule = self.conflict_rule(&entry.container);
            bytes += content.len();
            match groups.last_mut() {
                Some((group, of_group)) if group.len() < together && *of_group == rule && bytes <= GROUP_BYTES => {
                    group.push((entry, content));
                }
                _ => {
                    bytes = content.len();
                    groups.push((vec![(entry, content)], rule));
                }
            }
        }
        groups
    }

    async fn write_large(
        &self,
        item: &Item,
        entry: &BlobEntry,
        counts: &RestoreCounts,
        monitor: &dyn Monitor,
    ) -> Result<Written> {
        let mut parts = Parts::new(&self.vault.reader, item);
        // Read before anything is begun: some blobs are visible as soon as they are.
        let mut part = parts.next().await?;
        let mut writer = match self.target.begin(entry, self.conflict_rule(&entry.container)).await? {
            Ok(writer) => writer,
            Err(reason) => return Ok(Written::Skipped(reason)),
        };
        let mut moved_bytes = 0;
        while let Some(chunks) = part {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            moved_bytes += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            let write = async {
                for chunk in chunks {
                    writer.write(chunk).await?;
                }
                Ok::<_, Error>(())
            };
            let (written, next) = futures::join!(write, parts.next());
            written?;
            part = next?;
            report_moved(counts, moved_bytes, monitor);
        }
        check_length(entry, moved_bytes)?;
        Ok(writer.finish().await?)
    }
}

fn check_length(entry: &BlobEntry, found_bytes: u64) -> Result<()> {
    if found_bytes == entry.size_bytes {
        return Ok(());
    }
    let reason = format!("{} has {} bytes and its chunks have {found_bytes}", entry.display_name(), entry.size_bytes);
    Err(Error::damaged("manifest", reason))
}

fn report(counts: &RestoreCounts, monitor: &dyn Monitor) {
    report_moved(counts, 0, monitor);
}

fn report_moved(counts: &RestoreCounts, moved_bytes: u64, monitor: &dyn Monitor) {
    monitor.progress(&WorkProgress {
        blobs: counts.written_blobs + counts.skipped_blobs + counts.unchanged_blobs,
        blobs_in_all: Some(counts.planned.blobs),
        bytes: counts.written_bytes + moved_bytes,
        bytes_in_all: Some(counts.planned.bytes),
        unchanged_blobs: counts.unchanged_blobs,
        skipped_blobs: counts.skipped_blobs,
    });
}

/// Blobs above this are written part by part.
fn is_large(item: &Item) -> bool {
    item.entry.size_bytes > PART_BYTES as u64 || matches!(item.content, Content::ChunkTree { .. })
}

async fn next_batch(
    reader: &ChunkReader,
    items: &mut SelectedItems<'_>,
    ahead: &mut Option<Item>,
) -> Result<Option<Batch>> {
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
    let Some(last) = batch.last().map(|item| OwnedKey::from(item.entry.key())) else { return Ok(None) };
    let blobs = load(reader, batch).await?;
    Ok(Some(Batch::Small { last, blobs }))
}

/// Reads the content of small blobs, all together.
async fn load(reader: &ChunkReader, items: Vec<Item>) -> Result<Vec<Loaded>> {
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
async fn first_lost(reader: &ChunkReader, items: &[Item], error: Error) -> Error {
    for item in items {
        if let Err(error) = reader.chunks(&inline_chunks(&item.content).iter().copied().collect()).await {
            return error.needed_by(&item.entry.display_name());
        }
    }
    error
}

fn inline_chunks(content: &Content) -> &[ChunkId] {
    match content {
        Content::Chunks(ids) => ids,
        Content::Empty | Content::ChunkTree { .. } => &[],
    }
}

/// The content of one large blob, some chunks at a time.
struct Parts<'a> {
    reader: &'a ChunkReader,
    names: crate::read::ContentChunks<'a>,
    chunks_at_once: usize,
    blob: String,
}

impl<'a> Parts<'a> {
    fn new(reader: &'a ChunkReader, item: &Item) -> Self {
        // Chunks average half a mebibyte and never exceed two: sixteen are a part of 8 MiB, 32 at the most.
        Self { reader, names: reader.content(&item.content), chunks_at_once: 16, blob: item.entry.display_name() }
    }

    async fn next(&mut self) -> Result<Option<Vec<Bytes>>> {
        self.read().await.map_err(|error| error.needed_by(&self.blob))
    }

    async fn read(&mut self) -> Result<Option<Vec<Bytes>>> {
        let mut ids = Vec::with_capacity(self.chunks_at_once);
        while ids.len() < self.chunks_at_once {
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
