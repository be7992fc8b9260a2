//! Waiting for others who work on the vault, and telling the slow from the dead.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::error::{Error, Result};
use crate::monitor::{Clock, Monitor};
use crate::pack::WriterId;
use crate::vault::Vault;
use crate::work::{Registered, Registration, WorkKind, fence, registered};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Waiting<'a> {
    pub(super) vault: &'a Vault,
    pub(super) registration: &'a Registration<'a>,
    pub(super) clock: &'a dyn Clock,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) patience: Duration,
}

/// The beat that was seen last, and when it was seen first.
type Beats = HashMap<WriterId, (u64, Instant)>;

impl Waiting<'_> {
    /// Waits until nobody is left who registered before record `number`. Returns how many were taken for dead.
    pub(super) async fn for_those_before(&self, number: u64) -> Result<u64> {
        let mut beats = Beats::new();
        let mut fenced = 0;
        loop {
            let (mut is_waiting, mut has_fenced) = (false, false);
            for found in self.others().await?.iter().filter(|found| found.number < number) {
                if self.is_alive(&mut beats, found) {
                    is_waiting = true;
                } else {
                    fenced += u64::from(fence(self.vault, found, self.clock.now()).await?);
                    has_fenced = true;
                }
            }
            // Only a look that finds nobody ends the waiting: whoever was to be fenced may have shown a sign of life meanwhile.
            if has_fenced {
                continue;
            }
            if !is_waiting {
                return Ok(fenced);
            }
            self.pause().await?;
        }
    }

    /// One prune at a time: waits until it is clear whether another lives. Returns how many were taken for dead.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another prune shows a sign of life.
    pub(super) async fn for_other_prunes(&self) -> Result<u64> {
        let mut beats = Beats::new();
        let mut fenced = 0;
        loop {
            let mut is_waiting = false;
            for found in self.others().await? {
                let Some(worker) = found.worker(self.vault).await? else { continue };
                if worker.kind != WorkKind::Prune {
                    continue;
                }
                if beats.get(&found.writer).is_some_and(|(beat, _)| *beat != found.beat) {
                    return Err(Error::Conflict(format!(
                        "another prune ({}) is at work: wait until it has ended",
                        worker.job
                    )));
                }
                if self.is_alive(&mut beats, &found) {
                    is_waiting = true;
                } else {
                    fenced += u64::from(fence(self.vault, &found, self.clock.now()).await?);
                }
            }
            if !is_waiting {
                return Ok(fenced);
            }
            self.pause().await?;
        }
    }

    async fn others(&self) -> Result<Vec<Registered>> {
        let mut others = registered(self.vault).await?;
        others.retain(|found| found.writer != self.registration.writer());
        Ok(others)
    }

    fn is_alive(&self, beats: &mut Beats, found: &Registered) -> bool {
        let now = Instant::now();
        let (beat, since) = beats.entry(found.writer).or_insert_with(|| {
            info!(writer = %found.writer, "waiting for a worker to end");
            (found.beat, now)
        });
        if *beat != found.beat {
            (*beat, *since) = (found.beat, now);
        }
        now.duration_since(*since) < self.patience
    }

    async fn pause(&self) -> Result<()> {
        if let Some(reason) = self.monitor.should_stop() {
            return Err(Error::Cancelled(reason));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}
