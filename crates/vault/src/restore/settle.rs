//! Doing what a restore in place has found to be done: several names at once, and what came of them counted in the order of the names. So all
//! names up to the cursor of the state are settled.

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};

use super::step::Step;
use super::{Journal, Loaded, RestoreState, Work, check_length, inline_chunks, is_large, load};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, EntryKey, Item};
use crate::manifest::OwnedKey;
use crate::source::SourceErrorKind;
use crate::target::{OnConflict, Written};

/// Names settled at once: removals, copies inside the account, and small blobs.
const AT_ONCE: usize = 16;
/// Larger blobs that come from the vault are written one after another, each in parts.
const SMALL_BYTES: u64 = 1 << 20;
/// Names that wait behind these for their turn to be counted.
const WAITING: usize = 4096;
/// Names settled between two saves of the state.
const SETTLED_PER_SAVE: u32 = 64;

/// What came of a step.
enum Outcome {
    /// Nothing was to be done.
    Unchanged,
    /// It stays as it is, and why.
    Left(String),
    Removed,
    Written(Box<BlobEntry>, Written),
}

/// Names that are being settled.
pub(super) struct UnderWay<'w> {
    work: &'w Work<'w>,
    journal: &'w dyn Journal,
    settling: FuturesOrdered<BoxFuture<'w, Result<Settled>>>,
    /// Those of them for which there is something to do.
    busy: usize,
    unsaved: u32,
}

struct Settled {
    key: OwnedKey,
    was_busy: bool,
    outcome: Outcome,
}

impl<'w> UnderWay<'w> {
    pub(super) fn new(work: &'w Work<'w>, journal: &'w dyn Journal) -> Self {
        Self { work, journal, settling: FuturesOrdered::new(), busy: 0, unsaved: 0 }
    }

    /// Brings a name to the state it had, now or with others later. Returns whether there was anything to do.
    pub(super) async fn add(&mut self, key: EntryKey<'_>, step: Step, state: &mut RestoreState) -> Result<bool> {
        let key = OwnedKey::from(key);
        let quick = match step {
            Step::Nothing => return Ok(false),
            Step::Unchanged => Outcome::Unchanged,
            Step::Left(reason) => Outcome::Left(reason),
            Step::Remove(_) | Step::Write(..) => {
                self.begin(key, step, state).await?;
                return Ok(true);
            }
        };
        if self.settling.is_empty() {
            self.note(key, quick, state).await?;
            return Ok(false);
        }
        while self.settling.len() >= WAITING {
            self.note_next(state).await?;
        }
        let settled = Settled { key, was_busy: false, outcome: quick };
        self.settling.push_back(async move { Ok(settled) }.boxed());
        Ok(false)
    }

    async fn begin(&mut self, key: OwnedKey, step: Step, state: &mut RestoreState) -> Result<()> {
        let is_alone = matches!(&step, Step::Write(item, _)
            if item.content.version_at_source().is_none() && item.entry.size_bytes > SMALL_BYTES);
        let at_once = if is_alone { 1 } else { AT_ONCE };
        while self.busy >= at_once {
            self.note_next(state).await?;
        }
        let work = self.work;
        self.busy += 1;
        self.settling
            .push_back(async move { Ok(Settled { key, was_busy: true, outcome: work.settle(step).await? }) }.boxed());
        if is_alone { self.finish(state).await } else { Ok(()) }
    }

    /// Waits for all.
    pub(super) async fn finish(&mut self, state: &mut RestoreState) -> Result<()> {
        while !self.settling.is_empty() {
            self.note_next(state).await?;
        }
        Ok(())
    }

    async fn note_next(&mut self, state: &mut RestoreState) -> Result<()> {
        let Some(settled) = self.settling.next().await else { return Ok(()) };
        let Settled { key, was_busy, outcome } = settled?;
        self.busy -= usize::from(was_busy);
        self.note(key, outcome, state).await
    }

    async fn note(&mut self, key: OwnedKey, outcome: Outcome, state: &mut RestoreState) -> Result<()> {
        let counts = &mut state.counts;
        state.cursor = Some(key);
        match outcome {
            Outcome::Unchanged => {
                counts.unchanged_blobs += 1;
                return Ok(());
            }
            Outcome::Left(reason) => {
                counts.skipped_blobs += 1;
                counts.example(|| reason);
            }
            Outcome::Removed => counts.removed_blobs += 1,
            Outcome::Written(entry, written) => counts.note(&entry, &written),
        }
        self.work.shown.set(counts);
        self.work.shown.report(self.work.monitor);
        // Settling a name again does no harm, so not every one needs to be remembered.
        self.unsaved += 1;
        if self.journal.is_kept() && self.unsaved >= SETTLED_PER_SAVE {
            self.unsaved = 0;
            self.work.target.flush().await?;
            self.journal.save(state).await?;
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Brings one name to the state it had.
    async fn settle(&self, step: Step) -> Result<Outcome> {
        match step {
            Step::Nothing | Step::Unchanged => Ok(Outcome::Unchanged),
            Step::Left(reason) => Ok(Outcome::Left(reason)),
            Step::Remove(live) => match self.target.delete(&live).await {
                Ok(_) => Ok(Outcome::Removed),
                Err(e) if concerns_one_removal(e.kind) => {
                    Ok(Outcome::Left(format!("{}: it could not be removed: {e}", live.display_name())))
                }
                Err(e) => Err(e.into()),
            },
            Step::Write(item, live) => {
                let (entry, is_copy) = (Box::new(item.entry.clone()), item.content.version_at_source().is_some());
                match self.put_back(*item, live.as_deref()).await {
                    Ok(written) => Ok(Outcome::Written(entry, written)),
                    Err(Error::Endpoint(e)) if concerns_one_blob(e.kind, is_copy) => {
                        Ok(Outcome::Left(format!("{}: it could not be put back: {e}", entry.display_name())))
                    }
                    Err(e) => Err(e),
                }
            }
        }
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

/// A lease or a hold, or somebody changed it: the other blobs go on.
fn concerns_one_removal(kind: SourceErrorKind) -> bool {
    matches!(kind, SourceErrorKind::Conflict | SourceErrorKind::Refused | SourceErrorKind::Changed)
}

/// A lease or a hold; where the account copies by itself, also a change or a loss since the plan. The other blobs go on.
fn concerns_one_blob(kind: SourceErrorKind, is_copy: bool) -> bool {
    use SourceErrorKind::{Archived, Changed, Conflict, NotFound, Refused};
    matches!(kind, Conflict | Refused) || (is_copy && matches!(kind, Changed | Archived | NotFound))
}
