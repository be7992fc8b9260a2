//! The end of a backup: nothing that its point needs may be condemned; then the record that makes it visible.

use crate::error::{Error, ErrorKind, Result};
use crate::mark::MarkRoot;
use crate::monitor::{Clock, Monitor};
use crate::point::{Point, Progress};
use crate::prune::rescue;
use crate::state::{Chain, Change, State};
use crate::store::Put;
use crate::vault::Vault;
use crate::work::Registration;

use super::{BackupOptions, BackupReport};

/// Everything that a backup needs to commit its point.
pub(super) struct Commit<'a> {
    pub(super) vault: &'a Vault,
    pub(super) options: &'a BackupOptions,
    pub(super) chain: &'a Chain<'a, State>,
    pub(super) registration: &'a Registration<'a>,
    /// Last record of the instance's chain when the backup registered.
    pub(super) registered: u64,
    pub(super) clock: &'a dyn Clock,
    pub(super) monitor: &'a dyn Monitor,
}

impl Commit<'_> {
    /// The point that an earlier run of this job had written and not committed, if everything that it needs is still there.
    pub(super) async fn written_before(&self) -> Result<Option<Point>> {
        let (instance, job) = (&self.options.instance, &self.options.job);
        let point = match Point::get(self.vault, instance, job).await {
            Ok(point) => point,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if self.is_whole(&point.mark_root()).await? {
            return Ok(Some(point));
        }
        // No chain names it, so nobody has seen it.
        self.vault.store.delete(&Point::file_name(instance, job)).await?;
        Ok(None)
    }

    /// Writes the point. Another run of this job, taken for dead, may have written its own meanwhile: that one stands only if everything that
    /// it needs is there.
    pub(super) async fn write(&self, point: Point) -> Result<Point> {
        while point.put(self.vault).await? == Put::Exists {
            if let Some(written) = self.written_before().await? {
                return Ok(written);
            }
        }
        Ok(point)
    }

    /// Whether work of an earlier run can be built upon: always, unless packs were condemned since that run began.
    pub(super) async fn is_usable(&self, progress: &Progress) -> Result<bool> {
        if progress.registered >= self.registration.unsafe_before() {
            return Ok(true);
        }
        self.is_whole(&MarkRoot { page: progress.root.page, leaves: Vec::new() }).await
    }

    async fn is_whole(&self, root: &MarkRoot) -> Result<bool> {
        let condemned = self.registration.condemned();
        match self.rescue(root, condemned.as_ref().clone()).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Damaged => {
                tracing::warn!(error = %e, "earlier work of this job cannot be used");
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    async fn rescue(&self, root: &MarkRoot, condemned: std::collections::HashSet<crate::pack::PackId>) -> Result<()> {
        rescue(self.vault, self.registration, root, condemned, &self.options.scratch, self.monitor).await.map(drop)
    }

    /// Makes the point visible.
    pub(super) async fn run(&self, point: Point, warnings: Vec<String>) -> Result<BackupReport> {
        // A point that this one builds upon may have been removed while packs were condemned: then, too, it is looked at as a whole.
        let mut looked_at = match self.registration.condemned().is_empty() {
            true => self.registration.number(),
            false => self.registration.unsafe_before() - 1,
        };
        while let Some((number, condemned)) = self.registration.condemned_after(looked_at).await? {
            tracing::info!("packs were condemned meanwhile: what the point needs of them is stored anew");
            self.rescue(&point.mark_root(), condemned).await?;
            looked_at = number;
        }
        let added = Change::PointAdded {
            job: self.options.job.clone(),
            started_at: point.started_at,
            completed_at: point.completed_at,
            expires_at: self.options.expires_at.of(point.started_at),
            registered: self.registered,
        };
        match self.chain.append(added, self.clock.now()).await {
            Ok(_) => {}
            // Another run of this job committed the same point a moment ago.
            Err(Error::Conflict(_)) if self.chain.load().await?.point(&self.options.job).is_some() => {}
            Err(e) => return Err(e),
        }
        finished(self.vault, self.options, point, warnings).await
    }
}

/// What is left to do once the point is visible.
pub(super) async fn finished(
    vault: &Vault,
    options: &BackupOptions,
    point: Point,
    warnings: Vec<String>,
) -> Result<BackupReport> {
    for job in Progress::jobs(vault, &options.instance).await? {
        // A backup of content that is under way beside a base point goes on from what it has, and the other way round.
        let is_of_another_kind = job != options.job
            && matches!(Progress::latest(vault, &options.instance, &job).await,
                Ok(Some((_, progress))) if progress.at_source != options.at_source.is_some());
        if !is_of_another_kind {
            Progress::clear(vault, &options.instance, &job).await?;
        }
    }
    Ok(BackupReport { point, is_new: true, warnings })
}
