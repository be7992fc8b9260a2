//! The work behind the API: what is queued, and who does it.
//!
//! A job is a row. A worker claims it under a lease, does its steps, each of which may be repeated, and ends it. Only this folder speaks both
//! the API's words and the engine's.

pub(crate) mod exports;
pub mod spec;

mod accounts;
mod backup;
mod effects;
mod engine;
mod expire;
mod fault;
mod immutability;
mod instance;
mod keys;
mod limits;
mod operational;
mod prune;
mod purge;
mod restore;
mod schedule;
mod verify;
mod watch;
mod workbook;
mod worker;

use std::sync::Arc;

use tokio::sync::watch as signal;
use tokio::task::JoinHandle;

pub use accounts::{AccountOpener, SourceBrowser};
pub(crate) use effects::{protecting_instance, undo as undo_protection};
pub use engine::Vaults;
pub(crate) use expire::expiry_under;
pub use exports::forget as forget_exports;
pub(crate) use fault::missing_key;
pub use limits::Limits;
pub use operational::{Range, look_around, range_at, restorable_ranges};
pub(crate) use verify::last_report as last_verification;

use crate::App;
use crate::db::DbResult;

/// What the background does at one instant of a clock that stands: one look of the scheduler, then every job that is due, one after the
/// other, until none is left. The operational tier is not looked at. For a process that runs without background
/// ([`crate::Parts::by_hand`]).
///
/// # Errors
/// [`crate::db::DbError`] when the database fails. A job that fails is no error here: it ends as failed, or waits for its next try.
pub async fn tick(app: &Arc<App>) -> DbResult<()> {
    schedule::look(app).await?;
    schedule::forget(app).await?;
    worker::work_off(app).await
}

/// The background work of one process.
#[derive(Debug)]
pub(crate) struct Background {
    stop: signal::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts the worker, the scheduler and the watch over the operational tier.
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let (stop, stopped) = signal::channel(false);
        let tasks = vec![
            tokio::spawn(worker::run(app.clone(), stopped.clone())),
            tokio::spawn(schedule::run(app.clone(), stopped.clone())),
            tokio::spawn(operational::run(app.clone(), stopped)),
        ];
        Self { stop, tasks }
    }

    /// Stops it: running jobs stop at their next step and go on at the next start.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task failed");
            }
        }
    }
}
