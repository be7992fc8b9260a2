//! The watch over one running job: it renews the lease, keeps the progress in the row, and stops the work when the lease is lost, the user
//! asks for it, a role is taken away, or the service stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blobkeep_vault::{Monitor, WorkProgress};
use serde_json::{Value, json};
use tokio::sync::watch as signal;
use tokio::task::JoinHandle;

use super::fault::Fault;
use super::spec::JobReport;
use crate::App;
use crate::auth;
use crate::db::{self, jobs::Job};

/// A lease lasts so long, in microseconds.
pub(super) const LEASE_MICROS: i64 = 30_000_000;
/// The watch looks this often.
const PULSE: Duration = Duration::from_secs(1);

/// Rights that the job needs as long as it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct NeededRights {
    pub(super) principal_id: String,
    pub(super) actions: Vec<&'static str>,
    pub(super) scopes: Vec<String>,
}

/// Why the work was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    LeaseLost,
    ServiceStops,
    Cancelled,
    RightsLost,
}

struct Inner {
    progress: Mutex<WorkProgress>,
    state: Mutex<Value>,
    report: Mutex<JobReport>,
    stop: Mutex<Option<Stop>>,
    rights: Mutex<Option<NeededRights>>,
    is_done: AtomicBool,
}

/// The watch.
#[derive(Clone)]
pub(super) struct Watch {
    app: Arc<App>,
    job_id: String,
    owner: String,
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Begins to watch a claimed job.
    pub(super) fn start(
        app: &Arc<App>,
        job: &Job,
        owner: &str,
        stopped: signal::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let watch = Self {
            app: app.clone(),
            job_id: job.id.clone(),
            owner: owner.to_owned(),
            inner: Arc::new(Inner {
                progress: Mutex::default(),
                state: Mutex::new(job.state.clone()),
                report: Mutex::new(JobReport::of_state(&job.state)),
                stop: Mutex::default(),
                rights: Mutex::default(),
                is_done: AtomicBool::new(false),
            }),
        };
        let task = tokio::spawn(watch.clone().keep(stopped));
        (watch, task)
    }

    /// The owner of the lease.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Looks from now on whether these rights still hold.
    pub(super) fn need(&self, rights: NeededRights) {
        *lock(&self.inner.rights) = Some(rights);
    }

    /// The job's state as it is kept in the row, with the report and the progress so far.
    pub(super) fn state(&self) -> Value {
        let mut state = lock(&self.inner.state).clone();
        let mut report = lock(&self.inner.report).clone();
        let progress = *lock(&self.inner.progress);
        if progress != WorkProgress::default() {
            report.transferred_bytes.get_or_insert(progress.bytes);
            let mut detail = |name: &str, value: u64| {
                report.details.entry(name.to_owned()).or_insert_with(|| json!(value.to_string()));
            };
            detail("ProgressBlobs", progress.blobs);
            detail("ProgressBytes", progress.bytes);
            if let (Some(blobs), Some(bytes)) = (progress.blobs_in_all, progress.bytes_in_all) {
                detail("ProgressBlobsInAll", blobs);
                detail("ProgressBytesInAll", bytes);
            }
        }
        state["report"] = serde_json::to_value(&report).unwrap_or_default();
        state
    }

    /// Changes what users are told about the job.
    pub(super) fn tell(&self, change: impl FnOnce(&mut JobReport)) {
        change(&mut lock(&self.inner.report));
    }

    /// Sets one member of the state; it is durable after [`Self::save`] or the end of the job.
    pub(super) fn set(&self, member: &str, value: Value) {
        lock(&self.inner.state)[member] = value;
    }

    /// Makes the state durable now.
    pub(super) async fn save(&self) -> Result<(), Fault> {
        // The writer first: of two states the one that was taken later must be written later.
        let mut writer = self.app.db.write().await?;
        let is_mine = db::jobs::save_state(&mut writer, &self.job_id, &self.owner, &self.state()).await?;
        writer.commit().await?;
        if is_mine {
            return Ok(());
        }
        *lock(&self.inner.stop) = Some(Stop::LeaseLost);
        Err(Fault::Yielded)
    }

    /// What a stop asked for by this watch means for the job.
    pub(super) fn fault_of_stop(&self) -> Option<Fault> {
        let stop = *lock(&self.inner.stop);
        Some(match stop? {
            Stop::LeaseLost | Stop::ServiceStops => Fault::Yielded,
            Stop::Cancelled => Fault::Cancelled,
            Stop::RightsLost => {
                let rights = lock(&self.inner.rights).clone().unwrap_or_default();
                super::instance::missing_permission(
                    &rights.principal_id,
                    rights.actions.first().copied(),
                    rights.scopes.first(),
                )
            }
        })
    }

    /// Ends the watch.
    pub(super) fn done(&self) {
        self.inner.is_done.store(true, Ordering::SeqCst);
    }

    async fn keep(self, mut stopped: signal::Receiver<bool>) {
        let mut seconds = 0_u64;
        while !self.inner.is_done.load(Ordering::SeqCst) {
            tokio::select! {
                () = tokio::time::sleep(PULSE) => {}
                changed = stopped.changed() => {
                    if changed.is_err() || *stopped.borrow() {
                        lock(&self.inner.stop).get_or_insert(Stop::ServiceStops);
                        return;
                    }
                }
            }
            seconds += 1;
            match self.look(seconds).await {
                Ok(None) => {}
                Ok(Some(stop)) => {
                    lock(&self.inner.stop).get_or_insert(stop);
                }
                Err(error) => tracing::warn!(job = self.job_id, %error, "the watch over a job cannot use the database"),
            }
        }
    }

    async fn look(&self, seconds: u64) -> db::DbResult<Option<Stop>> {
        if self.inner.is_done.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut writer = self.app.db.write().await?;
        let is_mine = db::jobs::save_state(&mut writer, &self.job_id, &self.owner, &self.state()).await?;
        if seconds.is_multiple_of(5) {
            db::jobs::renew(&mut writer, &self.job_id, &self.owner, self.app.now() + LEASE_MICROS).await?;
        }
        writer.commit().await?;
        if !is_mine {
            let is_done = self.inner.is_done.load(Ordering::SeqCst);
            return Ok((!is_done).then_some(Stop::LeaseLost));
        }
        let mut reader = self.app.db.read().await?;
        if db::jobs::by_id(&mut reader, &self.job_id).await?.is_some_and(|job| job.cancel_requested) {
            return Ok(Some(Stop::Cancelled));
        }
        drop(reader);
        let rights = lock(&self.inner.rights).clone();
        if let Some(rights) = rights {
            let held = auth::Rights::of(&self.app, &rights.principal_id).await?;
            let lost = rights.scopes.iter().any(|scope| rights.actions.iter().any(|action| !held.allow(action, scope)));
            return Ok(lost.then_some(Stop::RightsLost));
        }
        Ok(None)
    }
}

impl Monitor for Watch {
    fn progress(&self, progress: &WorkProgress) {
        *lock(&self.inner.progress) = *progress;
    }

    fn should_stop(&self) -> Option<String> {
        lock(&self.inner.stop).map(|stop| format!("{stop:?}"))
    }
}
