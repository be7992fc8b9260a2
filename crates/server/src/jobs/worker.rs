//! Claims jobs and does them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::job::JobStatus;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::{JoinError, JoinSet};

use super::fault::{Fault, internal};
use super::spec::JobSpec;
use super::watch::{LEASE_MICROS, Watch};
use super::{backup, expire, exports, immutability, instance, keys, prune, purge, restore, verify};
use crate::App;
use crate::db::{self, jobs::Job};

/// Jobs done at once.
const JOBS: usize = 4;
/// The queue is looked at this often.
const IDLE: Duration = Duration::from_millis(100);
/// The longest wait before a job is tried again, in seconds.
const LONGEST_WAIT_SECONDS: i64 = 600;
/// A job that this process works on already is looked at again after this long, in microseconds.
const SECOND_LOOK_MICROS: i64 = 5_000_000;

/// How often a job is tried while its fault is a passing one. What a client waits for fails soon; what would leave the vault and its records
/// apart never does.
fn tries(spec: &JobSpec) -> i64 {
    match spec {
        JobSpec::ValidateBackup(_) | JobSpec::ValidateRestore(_) | JobSpec::Prune(_) => 1,
        JobSpec::Configure(_) | JobSpec::UpdateInstance(_) | JobSpec::ChangeKey(_) => 4,
        JobSpec::ExportJobs(_) => exports::TRIES,
        JobSpec::Verify(_) => 4,
        JobSpec::Backup(_) | JobSpec::Restore(_) => 12,
        JobSpec::DeleteInstance(_)
        | JobSpec::UndeleteInstance(_)
        | JobSpec::Expire(_)
        | JobSpec::SyncVault(_)
        | JobSpec::PurgeVault(_) => i64::MAX,
    }
}

/// How a job ended well.
pub(super) struct Done {
    /// `Completed` or `CompletedWithWarnings`.
    pub(super) status: JobStatus,
}

impl Done {
    /// Without anything to say.
    pub(super) fn completed() -> Self {
        Self { status: JobStatus::Completed }
    }
}

/// Works until it is told to stop.
pub(super) async fn run(app: Arc<App>, mut stopped: signal::Receiver<bool>) {
    // A SQLite file is locked with its data folder, so no other process works on this queue: leases left behind are those of the process that
    // was here before. In a database that may be shared they may be those of somebody at work, and run out where nobody is.
    if !app.db.is_shared()
        && let Err(error) = release_leases(&app).await
    {
        tracing::error!(%error, "leases of the process before cannot be released; their jobs go on when they run out");
    }
    let at_work: Arc<Mutex<HashSet<String>>> = Arc::default();
    let places = Arc::new(Semaphore::new(JOBS));
    let mut running = JoinSet::new();
    while !*stopped.borrow() {
        while let Some(ended) = running.try_join_next() {
            log_failure(ended);
        }
        let Ok(place) = places.clone().acquire_owned().await else { break };
        // Each claim has an owner of its own: a run whose lease was taken over must notice, also within one process.
        let owner = uuid::Uuid::new_v4().to_string();
        match claim(&app, &owner).await {
            Ok(Some(job)) => {
                match AtWork::begin(&at_work, &job.id) {
                    Some(guard) => {
                        running.spawn(work(app.clone(), job, owner, stopped.clone(), (place, guard)));
                    }
                    None => leave(&app, &job, &owner).await,
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "no job can be claimed"),
        }
        tokio::select! {
            () = tokio::time::sleep(IDLE) => {}
            _ = stopped.changed() => {}
        }
    }
    while let Some(ended) = running.join_next().await {
        log_failure(ended);
    }
}

/// Does the jobs that may run now, one after the other, until none is left.
pub(super) async fn work_off(app: &Arc<App>) -> db::DbResult<()> {
    // Nobody stops this: it ends by itself. The channel stays open as long.
    let (_stop, stopped) = signal::channel(false);
    loop {
        let owner = uuid::Uuid::new_v4().to_string();
        let Some(job) = claim(app, &owner).await? else { return Ok(()) };
        work(app.clone(), job, owner, stopped.clone(), ()).await;
    }
}

fn log_failure(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a job's task failed");
    }
}

/// Marks a job as being worked on in this process, as long as it lives.
struct AtWork {
    all: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl AtWork {
    fn begin(all: &Arc<Mutex<HashSet<String>>>, id: &str) -> Option<Self> {
        let is_new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        is_new.then(|| Self { all: all.clone(), id: id.to_owned() })
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The lease ran out while the job still runs here (the machine slept, say). That run will find its lease gone and stop; then the job goes on.
async fn leave(app: &App, job: &Job, owner: &str) {
    tracing::warn!(job = job.id, "a job outlived its lease; it is taken up again when its first run has stopped");
    let give_back = async {
        let mut writer = app.db.write().await?;
        db::jobs::postpone(&mut writer, &job.id, owner, &job.state, app.now() + SECOND_LOOK_MICROS).await?;
        writer.commit().await
    };
    if let Err(error) = give_back.await {
        tracing::error!(job = job.id, %error, "a job cannot be given back");
    }
}

async fn release_leases(app: &App) -> db::DbResult<()> {
    let mut writer = app.db.write().await?;
    db::jobs::release_all(&mut writer).await?;
    writer.commit().await
}

async fn claim(app: &App, owner: &str) -> db::DbResult<Option<Job>> {
    let now = app.now();
    let mut reader = app.db.read().await?;
    let is_worth_it = db::jobs::has_waiting(&mut reader, now).await?;
    drop(reader);
    if !is_worth_it {
        return Ok(None);
    }
    let mut writer = app.db.write().await?;
    let job = db::jobs::claim_next(&mut writer, owner, now, now + LEASE_MICROS).await?;
    writer.commit().await?;
    Ok(job)
}

/// Does one claimed job and records its end. What is `held` is let go after that.
async fn work<Held>(app: Arc<App>, job: Job, owner: String, stopped: signal::Receiver<bool>, _held: Held) {
    let (watch, keeper) = Watch::start(&app, &job, &owner, stopped);
    tracing::info!(
        job = job.id,
        kind = job.spec.kind(),
        attempt = job.attempt,
        instance = job.instance_key,
        "job begins"
    );
    // A task of its own, so that a panic ends this job and nothing else.
    let task = tokio::spawn({
        let (app, job, watch) = (app.clone(), job.clone(), watch.clone());
        async move { do_it(&app, &job, &watch).await }
    });
    let outcome = task.await.unwrap_or_else(|error| {
        tracing::error!(job = job.id, %error, "a job panicked");
        Err(Fault::Final(Box::new(internal("the job panicked"))))
    });
    let outcome = match outcome {
        Err(Fault::Cancelled) => Err(watch.fault_of_stop().unwrap_or(Fault::Cancelled)),
        outcome => outcome,
    };
    watch.done();
    if let Err(error) = end(&app, &job, &watch, outcome).await {
        tracing::error!(job = job.id, %error, "the end of a job cannot be recorded; it is done again when its lease runs out");
    }
    keeper.abort();
}

async fn do_it(app: &Arc<App>, job: &Job, watch: &Watch) -> Result<Done, Fault> {
    match &job.spec {
        JobSpec::Backup(spec) => backup::run(app, job, spec, watch).await,
        JobSpec::Restore(spec) => restore::run(app, job, spec, watch).await,
        JobSpec::ValidateBackup(spec) => instance::validate(app, job, spec).await,
        JobSpec::ValidateRestore(spec) => restore::validate(app, job, spec).await,
        JobSpec::Configure(spec) => instance::configure(app, job, spec, watch).await,
        JobSpec::UpdateInstance(spec) => instance::update(app, job, spec, watch).await,
        JobSpec::DeleteInstance(spec) => instance::delete(app, job, spec).await,
        JobSpec::UndeleteInstance(spec) => instance::undelete(app, job, spec).await,
        JobSpec::Expire(spec) => expire::run(app, job, spec).await,
        JobSpec::SyncVault(spec) => immutability::run(app, spec).await,
        JobSpec::ChangeKey(spec) => keys::run(app, spec).await,
        JobSpec::ExportJobs(spec) => exports::run(app, job, spec).await,
        JobSpec::PurgeVault(spec) => purge::run(app, spec).await,
        JobSpec::Prune(spec) => prune::run(app, job, spec, watch).await,
        JobSpec::Verify(spec) => verify::run(app, job, spec, watch).await,
    }
}

async fn end(app: &App, job: &Job, watch: &Watch, outcome: Result<Done, Fault>) -> db::DbResult<()> {
    let now = app.now();
    let error = match outcome {
        Err(Fault::Yielded) => {
            tracing::info!(job = job.id, "job is left to be taken up again");
            // Whoever comes next need not wait for the lease. If it is lost already, this changes nothing.
            let mut writer = app.db.write().await?;
            db::jobs::postpone(&mut writer, &job.id, watch.owner(), &watch.state(), now).await?;
            return writer.commit().await;
        }
        Err(Fault::Passing(error)) if job.attempt < tries(&job.spec) => {
            let wait_seconds = (1_i64 << job.attempt.clamp(0, 20)).min(LONGEST_WAIT_SECONDS);
            tracing::warn!(job = job.id, error = error.message, wait_seconds, "job is tried again later");
            let mut writer = app.db.write().await?;
            let not_before = now + wait_seconds * 1_000_000;
            db::jobs::postpone(&mut writer, &job.id, watch.owner(), &watch.state(), not_before).await?;
            return writer.commit().await;
        }
        Err(Fault::Cancelled) => {
            let error = ApiError::of(ErrorCode::UserErrorOperationCancelled, &[]);
            return finish(app, job, watch, JobStatus::Cancelled, Some(error), now).await;
        }
        Err(Fault::Final(error) | Fault::Passing(error)) => *error,
        Ok(done) => {
            tracing::info!(job = job.id, kind = job.spec.kind(), status = done.status.as_str(), "job ends");
            return finish(app, job, watch, done.status, None, now).await;
        }
    };
    tracing::warn!(
        job = job.id,
        kind = job.spec.kind(),
        code = error.code_name(),
        error = error.message,
        detail = error.detailed_message,
        "job fails"
    );
    finish(app, job, watch, JobStatus::Failed, Some(error), now).await
}

/// Ends the job and, for jobs that the user sees as an operation, that operation, in one transaction.
async fn finish(
    app: &App,
    job: &Job,
    watch: &Watch,
    status: JobStatus,
    error: Option<ApiError>,
    now: i64,
) -> db::DbResult<()> {
    let infos: Option<Value> =
        error.as_ref().map(|error| json!([error.clone().with_activity(&job.correlation_id).info()]));
    let mut writer = app.db.write().await?;
    let is_mine =
        db::jobs::finish(&mut writer, &job.id, watch.owner(), status, &watch.state(), infos.as_ref(), now).await?;
    if !is_mine {
        return Ok(());
    }
    if let Some(operation) = job.operation_id.as_deref().filter(|_| !job.spec.is_visible()) {
        let outcome = error.map_or(Ok(()), Err);
        db::operations::finish(&mut writer, operation, outcome, now).await?;
    }
    writer.commit().await
}
