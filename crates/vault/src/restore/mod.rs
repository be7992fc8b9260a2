//! Restore: plan, run, report. Packs are read in their own order in coalesced ranges; every chunk is checked against its name before it is
//! written; small blobs take one write each.

mod batch;
mod counts;
mod in_place;
mod instant;
mod live;
mod needed;
mod plan;
mod range;
mod select;
mod settle;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, FuturesOrdered, StreamExt};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::error::{Error, Result};
use crate::item::{BlobEntry, BlobKind, Item};
use crate::manifest::{OwnedKey, Root};
use crate::monitor::Monitor;
use crate::point::Point;
use crate::target::{OnConflict, Target, Written};
use crate::vault::Vault;
use crate::work::{WorkKind, reading};
use batch::{Batch, Loaded, Parts, Turn, check_length, inline_chunks, is_large, load, next_batch};
pub use counts::RestoreCounts;
use counts::Shown;
pub use in_place::{InPlaceOptions, InPlacePlan, plan_in_place, run_in_place, validate_in_place};
pub use instant::Instant;
use plan::chosen_containers;
pub use plan::{Plan, plan};
pub use range::NameRange;
pub use select::{ContainerSelection, SelectedItems, Selection};

/// Batches that are under way at once: while one is written the next ones are read. A large blob is a batch of its own, so that several
/// are written side by side.
const BATCHES: usize = 3;
/// Blobs written at once.
const WRITES: usize = 12;
/// Groups of small blobs written at once.
const GROUP_WRITES: usize = 2;
/// Content of one such group, in bytes.
const GROUP_BYTES: usize = 4 << 20;

/// How a restore goes.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// What is taken, and where it goes.
    pub selection: Selection,
    /// What to do about blobs that are there.
    pub on_conflict: OnConflict,
    /// The access tier that block blobs get (`Hot`, `Cool`, `Cold`, `Archive`) instead of the one that they had.
    pub tier: Option<String>,
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
    let work = Work {
        vault,
        target,
        monitor,
        shown: Shown::new(&state.counts),
        selection,
        on_conflict: options.on_conflict,
        tier: options.tier.as_deref(),
        is_resumed,
        own: state.containers.clone(),
    };
    work.write_all(&point.root, &mut state, journal).await?;
    Ok(state)
}

struct Work<'a> {
    vault: &'a Vault,
    target: Arc<dyn Target>,
    monitor: &'a dyn Monitor,
    shown: Shown,
    selection: Selection,
    on_conflict: OnConflict,
    tier: Option<&'a str>,
    is_resumed: bool,
    own: BTreeSet<String>,
}

/// A batch that is written.
struct Done {
    last: OwnedKey,
    outcomes: Vec<(BlobEntry, Written)>,
}

impl Work<'_> {
    async fn write_all(&self, root: &Root, state: &mut RestoreState, journal: &dyn Journal) -> Result<()> {
        let mut items = SelectedItems::new(&self.vault.reader, root, &self.selection, state.cursor.clone());
        let mut ahead = None;
        let mut is_last = false;
        // In their order, so that there is always one key up to which everything is written.
        let mut under_way = FuturesOrdered::new();
        let mut turn = Turn::first();
        loop {
            while !is_last && under_way.len() < BATCHES {
                match next_batch(&mut items, &mut ahead).await? {
                    Some(batch) => {
                        let after = turn.next();
                        under_way.push_back(self.write_batch(batch, std::mem::replace(&mut turn, after)));
                    }
                    None => is_last = true,
                }
            }
            let Some(done) = under_way.next().await else { break };
            let done = done?;
            for (entry, outcome) in &done.outcomes {
                state.counts.note(entry, outcome);
            }
            state.cursor = Some(done.last);
            if journal.is_kept() {
                // What the journal calls written must survive what the journal survives.
                self.target.flush().await?;
                journal.save(state).await?;
            }
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
        // Others cannot be given one.
        if let (Some(tier), BlobKind::Block) = (self.tier, entry.kind) {
            entry.tier = Some(tier.to_owned());
        }
        entry
    }

    async fn write_batch(&self, batch: Batch, mut turn: Turn) -> Result<Done> {
        match batch {
            Batch::Large(item) => {
                turn.come().await;
                // Others are written beside it.
                turn.pass();
                stop_if_asked(self.monitor)?;
                let entry = self.retarget(item.entry.clone());
                let written = self.write_large(&item, &entry).await?;
                self.shown.note(&written, 0);
                Ok(Done { last: OwnedKey::from(item.entry.key()), outcomes: vec![(entry, written)] })
            }
            Batch::Small { last, items } => {
                let blobs = load(&self.vault.reader, items).await?;
                turn.come().await;
                stop_if_asked(self.monitor)?;
                let mut done = Done { last, outcomes: Vec::with_capacity(blobs.len()) };
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
                        let outcome = outcome?;
                        self.shown.note(&outcome, entry.size_bytes);
                        done.outcomes.push((entry.clone(), outcome));
                    }
                    self.shown.report(self.monitor);
                }
                Ok(done)
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

    async fn write_large(&self, item: &Item, entry: &BlobEntry) -> Result<Written> {
        let mut parts = Parts::new(&self.vault.reader, item);
        // Read before anything is begun: some blobs are visible as soon as they are.
        let mut part = parts.next().await?;
        let mut writer = match self.target.begin(entry, self.conflict_rule(&entry.container)).await? {
            Ok(writer) => writer,
            Err(reason) => return Ok(Written::Skipped(reason)),
        };
        let mut moved_bytes = 0;
        while let Some(chunks) = part {
            stop_if_asked(self.monitor)?;
            let part_bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            let write = async {
                for chunk in chunks {
                    writer.write(chunk).await?;
                }
                Ok::<_, Error>(())
            };
            let (written, next) = futures::join!(write, parts.next());
            written?;
            part = next?;
            moved_bytes += part_bytes;
            self.shown.moved(part_bytes);
            self.shown.report(self.monitor);
        }
        check_length(entry, moved_bytes)?;
        Ok(writer.finish().await?)
    }
}

fn stop_if_asked(monitor: &dyn Monitor) -> Result<()> {
    match monitor.should_stop() {
        Some(reason) => Err(Error::Cancelled(reason)),
        None => Ok(()),
    }
}
