//! Restore in place: the account is rolled back to a point or to an instant. What differs is written back, what was made later is removed,
//! and what is as it was is not touched.
//!
//! Twice the state that is wanted and a sorted listing of the account are walked side by side. First nothing is written: what would be done
//! is counted, and every version that has to come back must be there. Then it is done.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::counts::EXAMPLES;
use super::instant::{Instant, Want, Wanted};
use super::live::LiveWalk;
use super::{
    Journal, Loaded, NameRange, RestoreState, Selection, Shown, Work, check_length, inline_chunks, is_large, load,
    stop_if_asked,
};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, EntryKey, Item};
use crate::manifest::{OwnedKey, Totals};
use crate::monitor::Monitor;
use crate::source::{Source, SourceErrorKind};
use crate::target::{OnConflict, Target, Written};
use crate::vault::Vault;
use crate::work::{WorkKind, reading};

/// Names settled between two saves of the state.
const SETTLED_PER_SAVE: u32 = 64;
/// Names between two questions whether to stop, where nothing is written.
const NAMES_PER_QUESTION: u64 = 1024;
/// Missing versions that a plan names.
const MISSING: usize = 10;
const ARCHIVE: &str = "Archive";

/// How a restore in place goes.
#[derive(Debug, Clone)]
pub struct InPlaceOptions {
    /// Only blobs in one of these ranges; none is the whole account.
    pub ranges: Vec<NameRange>,
    /// A folder for sorting listings and changes. Containers that a point does not cover are left alone; one that points at versions covers
    /// all of them.
    pub scratch: PathBuf,
}

impl InPlaceOptions {
    pub(super) fn holds(&self, container: &str, name: &str) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.holds(container, name))
    }

    pub(super) fn touches(&self, container: &str) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.touches(container))
    }
}

/// What a restore in place would do, without doing it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InPlacePlan {
    /// Blobs that would be written back.
    pub copies: u64,
    /// Blobs that would be removed, because they were made later.
    pub removals: u64,
    /// Blobs that are as they should be.
    pub unchanged: u64,
    /// Blobs that would be left as they are although they are not as they were. What a lease or a hold prevents is met by the restore only.
    pub left: u64,
    /// Some of these with the reason, at most 100.
    pub examples: Vec<String>,
    /// Blobs of which the account does not keep the version any more, at most 10. If there is one, nothing is restored.
    pub missing: Vec<String>,
    /// How many these are in all.
    pub missing_in_all: u64,
}

/// What a restore in place to this instant would do. Nothing is written.
///
/// # Errors
/// As [`run_in_place`], but for versions that are missing, which the plan names.
pub async fn plan_in_place(
    vault: &Vault,
    wanted: Instant<'_>,
    source: Arc<dyn Source>,
    options: &InPlaceOptions,
    monitor: &dyn Monitor,
) -> Result<InPlacePlan> {
    let work = async {
        let wanted = Wanted::load(vault, wanted, options, monitor).await?;
        let rollback = Rollback::begin(vault, &wanted, source, options, monitor).await?;
        rollback.plan().await.map(|(plan, _)| plan)
    };
    reading(vault, WorkKind::Restore, wanted.instance(), &wanted.name(), work).await
}

/// Rolls the account behind `source` and `target` back to an instant. `state` is the default one, or what the journal kept of an interrupted
/// run; unless that had its plan already, it is planned first.
///
/// # Errors
/// [`Error::NotFound`] if the state of the instant is not kept, if a container has been deleted since, or if the account does not keep a
/// version any more that would have to come back; [`Error::Damaged`] if what changed is lost. Nothing was written then.
#[allow(clippy::too_many_arguments)]
pub async fn run_in_place(
    vault: &Vault,
    wanted: Instant<'_>,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    options: &InPlaceOptions,
    mut state: RestoreState,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<RestoreState> {
    let work = async {
        let wanted = Wanted::load(vault, wanted, options, monitor).await?;
        let rollback = Rollback::begin(vault, &wanted, source, options, monitor).await?;
        if !state.is_planned {
            state.counts.planned = rollback.check().await?;
            state.is_planned = true;
            journal.save(&state).await?;
        }
        let work = Work {
            vault,
            target,
            monitor,
            shown: Shown::new(&state.counts),
            selection: Selection::default(),
            on_conflict: OnConflict::Overwrite,
            tier: None,
            is_resumed: false,
            own: BTreeSet::new(),
        };
        let outcome = rollback.run(&work, &mut state, journal).await;
        if outcome.is_ok() || matches!(outcome, Err(Error::Cancelled(_))) {
            work.target.flush().await?;
        }
        if matches!(outcome, Err(Error::Cancelled(_))) && journal.is_kept() {
            journal.save(&state).await?;
        }
        outcome.map(|()| state)
    };
    reading(vault, WorkKind::Restore, wanted.instance(), &wanted.name(), work).await
}

/// What is to be done about one name.
enum Step {
    /// There is nothing, and there should be nothing.
    Nothing,
    /// It is as it was.
    Unchanged,
    /// It is not as it was, and stays all the same.
    Left(String),
    /// It was made later.
    Remove(Box<BlobEntry>),
    /// It is to become this, in place of what is there.
    Write(Box<Item>, Option<Box<BlobEntry>>),
}

impl Step {
    fn of(wanted: &Wanted, name: &str, live: Option<BlobEntry>, want: Want) -> Self {
        match (want, live) {
            (Want::Gone | Want::Unknown, None) => Self::Nothing,
            (Want::Gone, Some(live)) => Self::Remove(Box::new(live)),
            (Want::Unknown, Some(live)) => match wanted.why_kept(&live) {
                Some(reason) => Self::left(&live, reason),
                None => Self::Remove(Box::new(live)),
            },
            (Want::Unnamed, Some(live)) => {
                Self::left(&live, "it is left as it is, because the account named no version of what it was")
            }
            (Want::Unnamed, None) => {
                Self::Left(format!("{name}: it does not come back, because the account named no version of it"))
            }
            (Want::Blob(item), None) => Self::Write(item, None),
            (Want::Blob(item), Some(live)) => {
                match (has_wanted_content(&live, &item), has_wanted_properties(&live, &item.entry)) {
                    (true, true) => Self::Unchanged,
                    // As in Azure: nothing is taken out of the archive.
                    (true, false) if is_archived(&live) && !is_archived(&item.entry) => Self::left(
                        &live,
                        "it is left as it is, because it lies in the archive tier and its content is what it was",
                    ),
                    _ => Self::Write(item, Some(Box::new(live))),
                }
            }
        }
    }

    fn left(live: &BlobEntry, reason: &str) -> Self {
        Self::Left(format!("{}: {reason}", live.display_name()))
    }
}

fn is_archived(entry: &BlobEntry) -> bool {
    entry.tier.as_deref() == Some(ARCHIVE)
}

/// The bytes are those that are wanted, as far as that can be told without reading them.
fn has_wanted_content(live: &BlobEntry, item: &Item) -> bool {
    let wanted = &item.entry;
    let is_same_version =
        live.current_version.is_some() && live.current_version.as_deref() == item.content.version_at_source();
    let has_same_hash = live.content_md5.is_some()
        && live.content_md5 == wanted.content_md5
        && live.size_bytes == wanted.size_bytes
        && live.kind == wanted.kind;
    live.has_same_content_as(wanted) || has_same_hash || is_same_version
}

/// Nothing else that a restore could change differs.
fn has_wanted_properties(live: &BlobEntry, wanted: &BlobEntry) -> bool {
    live.kind == wanted.kind
        && live.headers == wanted.headers
        && live.metadata == wanted.metadata
        && live.tags == wanted.tags
        && live.tier == wanted.tier
}

/// A state, and the account that is to have it.
struct Rollback<'a> {
    vault: &'a Vault,
    wanted: &'a Wanted,
    source: Arc<dyn Source>,
    options: &'a InPlaceOptions,
    monitor: &'a dyn Monitor,
    containers: Vec<String>,
}

impl<'a> Rollback<'a> {
    async fn begin(
        vault: &'a Vault,
        wanted: &'a Wanted,
        source: Arc<dyn Source>,
        options: &'a InPlaceOptions,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let live = source.containers().await?.into_iter().map(|container| container.name).collect();
        let containers = wanted.containers(vault, &live, options).await?;
        Ok(Self { vault, wanted, source, options, monitor, containers })
    }

    /// What would be done, and what blobs there would be.
    async fn plan(&self) -> Result<(InPlacePlan, Totals)> {
        let mut plan = InPlacePlan::default();
        let mut totals = Totals { containers: self.containers.len() as u64, ..Totals::default() };
        let mut wanted = self.wanted.walk(self.vault)?;
        let mut names = 0;
        for container in &self.containers {
            stop_if_asked(self.monitor)?;
            wanted.begin(container).await?;
            let mut live = self.live(container, self.wanted.needs_versions()).await?;
            while let Some(name) = next_name(live.peek(), wanted.peek()) {
                self.go_on_after(&mut names)?;
                let want = wanted.take(&name).await?;
                if !self.options.holds(container, &name) {
                    continue;
                }
                let version = match &want {
                    Want::Blob(item) => {
                        totals.blobs += 1;
                        totals.bytes += item.entry.size_bytes;
                        item.content.version_at_source().map(ToOwned::to_owned)
                    }
                    _ => None,
                };
                let found = live.take(&name, version.as_deref())?;
                match Step::of(self.wanted, &name, found.current, want) {
                    Step::Nothing => {}
                    Step::Unchanged => plan.unchanged += 1,
                    Step::Left(example) => {
                        plan.left += 1;
                        if plan.examples.len() < EXAMPLES {
                            plan.examples.push(example);
                        }
                    }
                    Step::Remove(_) => plan.removals += 1,
                    Step::Write(item, _) => {
                        plan.copies += 1;
                        if let Some(version) = version.filter(|_| !found.has_version) {
                            plan.missing_in_all += 1;
                            if plan.missing.len() < MISSING {
                                plan.missing.push(format!("{} (version {version})", item.entry.display_name()));
                            }
                        }
                    }
                }
            }
        }
        Ok((plan, totals))
    }

    /// Refuses what cannot be done as a whole. Returns what blobs there will be.
    async fn check(&self) -> Result<Totals> {
        if !self.wanted.needs_versions() {
            return Ok(self.wanted.base.root.totals);
        }
        let (plan, totals) = self.plan().await?;
        info!(
            copies = plan.copies,
            removals = plan.removals,
            unchanged = plan.unchanged,
            "restore in place is planned"
        );
        if plan.missing_in_all == 0 {
            return Ok(totals);
        }
        Err(Error::NotFound(format!(
            "{} does not keep {} of the versions any more that would have to come back, so nothing was changed: {}",
            self.source.describe(),
            plan.missing_in_all,
            plan.missing.join(", ")
        )))
    }

    /// Counts a name, and stops if that is asked.
    fn go_on_after(&self, names: &mut u64) -> Result<()> {
        *names += 1;
        if names.is_multiple_of(NAMES_PER_QUESTION) { stop_if_asked(self.monitor) } else { Ok(()) }
    }

    async fn live(&self, container: &str, with_versions: bool) -> Result<LiveWalk> {
        LiveWalk::list(self.source.as_ref(), container, with_versions, self.options, self.monitor).await
    }

    async fn run(&self, work: &Work<'_>, state: &mut RestoreState, journal: &dyn Journal) -> Result<()> {
        let mut wanted = self.wanted.walk(self.vault)?;
        let (mut names, mut unsaved) = (0, 0);
        for container in &self.containers {
            if state.cursor.as_ref().is_some_and(|cursor| cursor.as_key().container > container.as_str()) {
                continue;
            }
            stop_if_asked(self.monitor)?;
            info!(container, "container is rolled back");
            wanted.begin(container).await?;
            let mut live = self.live(container, false).await?;
            while let Some(name) = next_name(live.peek(), wanted.peek()) {
                self.go_on_after(&mut names)?;
                let (want, found) = (wanted.take(&name).await?, live.take(&name, None)?);
                let key = EntryKey { container, name: &name, is_current: true, version: "" };
                let is_done = state.cursor.as_ref().is_some_and(|cursor| cursor.as_key() >= key);
                if is_done || !self.options.holds(container, &name) {
                    continue;
                }
                let step = Step::of(self.wanted, &name, found.current, want);
                if !work.settle(step, state).await? {
                    continue;
                }
                state.cursor = Some(OwnedKey::from(key));
                // Settling a name again does no harm, so not every one needs to be remembered.
                unsaved += 1;
                if journal.is_kept() && unsaved >= SETTLED_PER_SAVE {
                    unsaved = 0;
                    work.target.flush().await?;
                    journal.save(state).await?;
                }
                stop_if_asked(self.monitor)?;
            }
        }
        Ok(())
    }
}

/// The smaller of two names.
fn next_name(live: Option<&str>, wanted: Option<&str>) -> Option<String> {
    let first = match (live, wanted) {
        (Some(live), Some(wanted)) => Some(live.min(wanted)),
        (live, wanted) => live.or(wanted),
    };
    first.map(ToOwned::to_owned)
}

impl Work<'_> {
    /// Brings one name to the state it had. Returns whether something was written.
    async fn settle(&self, step: Step, state: &mut RestoreState) -> Result<bool> {
        let counts = &mut state.counts;
        match step {
            Step::Nothing => return Ok(false),
            Step::Unchanged => {
                counts.unchanged_blobs += 1;
                return Ok(false);
            }
            Step::Left(example) => {
                counts.skipped_blobs += 1;
                counts.example(|| example);
                return Ok(false);
            }
            Step::Remove(live) => match self.target.delete(&live).await {
                Ok(_) => counts.removed_blobs += 1,
                Err(e)
                    if matches!(
                        e.kind,
                        SourceErrorKind::Conflict | SourceErrorKind::Refused | SourceErrorKind::Changed
                    ) =>
                {
                    counts.skipped_blobs += 1;
                    counts.example(|| format!("{}: it could not be removed: {e}", live.display_name()));
                }
                Err(e) => return Err(e.into()),
            },
            Step::Write(item, live) => {
                let (entry, is_copy) = (item.entry.clone(), item.content.version_at_source().is_some());
                match self.put_back(*item, live.as_deref()).await {
                    Ok(written) => counts.note(&entry, &written),
                    Err(Error::Endpoint(e)) if concerns_one_blob(e.kind, is_copy) => {
                        counts.skipped_blobs += 1;
                        counts.example(|| format!("{}: it could not be put back: {e}", entry.display_name()));
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        self.shown.set(counts);
        self.shown.report(self.monitor);
        Ok(true)
    }

    async fn put_back(&self, item: Item, live: Option<&BlobEntry>) -> Result<Written> {
        let entry = item.entry.clone();
        if let Some(version) = item.content.version_at_source() {
            return Ok(self.target.copy_version(&entry, version, live).await?);
        }
        if is_large(&item) || entry.size_bytes > self.target.whole_limit_bytes() {
            self.write_large(&item, &entry).await
        } else {
            self.write_small(item).await
        }
    }

    async fn write_small(&self, item: Item) -> Result<Written> {
        debug_assert!(inline_chunks(&item.content).len() <= 64, "small blobs have few chunks");
        let mut loaded = load(&self.vault.reader, vec![item]).await?;
        let Some(Loaded { entry, content }) = loaded.pop() else {
            return Err(Error::Internal("one blob was asked for and none came".into()));
        };
        check_length(&entry, content.len() as u64)?;
        Ok(self.target.write_whole(&entry, content, OnConflict::Overwrite).await?)
    }
}

/// A lease or a hold; where the account copies by itself, also a change or a loss since the plan. The other blobs go on.
fn concerns_one_blob(kind: SourceErrorKind, is_copy: bool) -> bool {
    use SourceErrorKind::{Archived, Changed, Conflict, NotFound, Refused};
    matches!(kind, Conflict | Refused) || (is_copy && matches!(kind, Changed | Archived | NotFound))
}
