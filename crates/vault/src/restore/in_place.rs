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
use super::live::{LiveWalk, Version};
use super::needed::Needed;
use super::settle::UnderWay;
use super::step::Step;
use super::{Journal, NameRange, RestoreState, Selection, Shown, Work, stop_if_asked};
use crate::error::{Error, Result};
use crate::item::EntryKey;
use crate::manifest::Totals;
use crate::monitor::Monitor;
use crate::source::Source;
use crate::target::{OnConflict, Target};
use crate::vault::Vault;
use crate::verify::Ledger;
use crate::work::{WorkKind, reading};

/// Names between two questions whether to stop, where nothing is written.
const NAMES_PER_QUESTION: u64 = 1024;
/// Missing versions that a plan names.
const MISSING: usize = 10;
/// Why such a version does not come back.
const ARCHIVED: &str = "lies in the archive tier and cannot be copied";

/// How a restore in place goes.
#[derive(Debug, Clone)]
pub struct InPlaceOptions {
    /// Only blobs in one of these ranges; none is the whole account.
    pub ranges: Vec<NameRange>,
    /// What is restored is a state of the whole account: a container that it does not have was made later, and its blobs are removed. Else
    /// such containers are left alone. A point that points at versions is always one of the whole account.
    pub is_whole_account: bool,
    /// A folder for sorting listings and changes.
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
    /// Blobs that lie in the vault and have lost something there, with what is damaged, at most 10. If there is one, nothing is restored.
    pub lost: Vec<String>,
    /// How many these are in all.
    pub lost_in_all: u64,
}

impl InPlacePlan {
    /// Whether everything is there that would have to come back.
    ///
    /// # Errors
    /// [`Error::Damaged`] if something is lost in the vault, [`Error::VersionsGone`] if the account does not keep it any more.
    pub fn check(&self) -> Result<()> {
        if self.lost_in_all > 0 {
            let reason = format!(
                "{} of the blobs that would have to come back are lost, so nothing was changed: {}; verify the vault to have all damage named",
                self.lost_in_all,
                self.lost.join(", ")
            );
            return Err(Error::damaged("the vault", reason));
        }
        if self.missing_in_all > 0 {
            return Err(Error::VersionsGone { blobs: self.missing.clone(), in_all: self.missing_in_all });
        }
        Ok(())
    }

    fn leave(&mut self, example: String) {
        self.left += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    fn miss(&mut self, blob: String) {
        self.missing_in_all += 1;
        if self.missing.len() < MISSING {
            self.missing.push(blob);
        }
    }
}

/// Looks whether a restore in place to this instant could begin: the state is kept, and every container that it needs is there. What
/// [`plan_in_place`] finds by listing the account is not looked for.
///
/// # Errors
/// As [`plan_in_place`].
pub async fn validate_in_place(
    vault: &Vault,
    wanted: Instant<'_>,
    source: Arc<dyn Source>,
    options: &InPlaceOptions,
    monitor: &dyn Monitor,
) -> Result<()> {
    let work = async {
        let wanted = Wanted::load(vault, wanted, options, monitor).await?;
        Rollback::begin(vault, &wanted, source, options, monitor).await.map(|_| ())
    };
    reading(vault, WorkKind::Restore, wanted.instance(), &wanted.name(), work).await
}

/// What a restore in place to this instant would do. Nothing is written.
///
/// # Errors
/// As [`run_in_place`], but for what the plan names ([`InPlacePlan::check`]).
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
/// [`Error::NotFound`] if the state of the instant is not kept; [`Error::ContainersGone`] if a container has been deleted since;
/// [`Error::VersionsGone`] if the account does not keep a version any more that would have to come back; [`Error::Damaged`] if what changed is
/// lost, or content that the vault should have. Nothing was written then. Content that turns out to be damaged only when it is read ends the
/// restore where it is.
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
        Ledger::load(self.vault).await?.0.warn(&self.vault.reader);
        let mut needed = Needed::new(self.vault, self.monitor);
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
                    Step::Left(example) => plan.leave(example),
                    Step::Remove(_) => plan.removals += 1,
                    Step::Write(item, _) => {
                        match (&version, found.version) {
                            (Some(_), Version::Archived) => {
                                plan.leave(format!("{}: its version {ARCHIVED}", item.entry.display_name()));
                                continue;
                            }
                            (Some(version), Version::Gone) => {
                                plan.miss(format!("{} (version {version})", item.entry.display_name()));
                            }
                            _ => needed.add(&item).await?,
                        }
                        plan.copies += 1;
                    }
                }
            }
        }
        needed.finish().await?;
        (plan.lost, plan.lost_in_all) = (needed.lost, needed.lost_in_all);
        Ok((plan, totals))
    }

    /// Refuses what cannot be done as a whole. Returns what blobs there will be.
    async fn check(&self) -> Result<Totals> {
        let (plan, totals) = self.plan().await?;
        info!(
            copies = plan.copies,
            removals = plan.removals,
            unchanged = plan.unchanged,
            "restore in place is planned"
        );
        plan.check().map(|()| totals)
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
        let mut under_way = UnderWay::new(work, journal);
        match self.run_each(&mut under_way, state).await {
            // What has begun is brought to its end, so that the state that is kept says what was done.
            Err(stopped @ Error::Cancelled(_)) => under_way.finish(state).await.and(Err(stopped)),
            outcome => outcome,
        }
    }

    async fn run_each(&self, under_way: &mut UnderWay<'_>, state: &mut RestoreState) -> Result<()> {
        let resumed = state.cursor.clone();
        let is_behind = |key: EntryKey<'_>| resumed.as_ref().is_none_or(|cursor| key > cursor.as_key());
        let mut wanted = self.wanted.walk(self.vault)?;
        let mut names = 0;
        for container in &self.containers {
            if resumed.as_ref().is_some_and(|cursor| cursor.as_key().container > container.as_str()) {
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
                if !is_behind(key) || !self.options.holds(container, &name) {
                    continue;
                }
                let step = Step::of(self.wanted, &name, found.current, want);
                if under_way.add(key, step, state).await? {
                    stop_if_asked(self.monitor)?;
                }
            }
            // Nobody looks after them while the next container is listed.
            under_way.finish(state).await?;
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
