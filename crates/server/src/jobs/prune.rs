//! Frees the space of points that have gone: a prune of one vault, beside whatever else is at work in it.

use std::sync::Arc;

use blobkeep_vault::prune::{self, PruneOptions, PruneReport};
use blobkeep_vault::{Error, ErrorKind};

use super::backup::engine_job;
use super::engine::EngineClock;
use super::fault::{Fault, internal};
use super::spec::PruneSpec;
use super::watch::Watch;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, jobs::Job, vaults::Vault};

/// Does the job. A prune that fails has freed nothing that is needed; it is begun again a day later.
pub(super) async fn run(app: &Arc<App>, job: &Job, spec: &PruneSpec, watch: &Watch) -> Result<Done, Fault> {
    let mut reader = app.db.read().await?;
    let row = db::vaults::get(&mut reader, &Granted::service(), &spec.vault_key).await?;
    drop(reader);
    // A vault that was deleted meanwhile is freed as a whole.
    let Some(row) = row else { return Ok(Done::completed()) };
    match prune_one(app, job, &row, watch).await {
        Ok(Some(report)) => tell(&row, &report),
        Ok(None) => {}
        Err(error) => return Err(failed(app, &row, &error).await),
    }
    Ok(Done::completed())
}

async fn prune_one(app: &App, job: &Job, row: &Vault, watch: &Watch) -> Result<Option<PruneReport>, Error> {
    let Some(vault) = app.vaults.find(app, &row.vault_uuid).await? else { return Ok(None) };
    let scratch = app.config.data_dir.join("scratch");
    let options = PruneOptions { scratch, ..PruneOptions::new(engine_job(&job.id)) };
    prune::run(&vault, &options, &EngineClock(app), watch).await.map(Some)
}

fn tell(row: &Vault, report: &PruneReport) {
    tracing::info!(
        vault = row.key,
        freed_bytes = report.dead_bytes + report.rewritten_bytes,
        written_bytes = report.written_bytes,
        kept_points = report.kept.len(),
        "the space of points that have gone is freed"
    );
}

/// What could not be freed is still to be freed.
async fn failed(app: &App, row: &Vault, error: &Error) -> Fault {
    if error.kind() == ErrorKind::Cancelled {
        return Fault::Cancelled;
    }
    tracing::error!(vault = row.key, %error, "the space of points that have gone cannot be freed now");
    let remember = async {
        let mut writer = app.db.write().await?;
        db::prunes::points_removed(&mut writer, &Granted::service(), &row.key, app.now()).await?;
        writer.commit().await
    };
    match remember.await {
        Ok(()) => Fault::Final(Box::new(internal(&error.to_string()))),
        Err(error) => error.into(),
    }
}
