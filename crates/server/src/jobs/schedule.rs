//! The scheduler: turns time into jobs. It keeps nothing in memory; what is due stands in the database.

use std::sync::Arc;
use std::time::Duration;

use blobkeep_arm::schedule;
use tokio::sync::watch as signal;

use super::instance::{enqueue_own, next_run};
use super::spec::{BackupSpec, BackupTrigger, ExpireSpec, JobSpec};
use crate::App;
use crate::auth::Granted;
use crate::db::{self, instances::StoredInstance};

/// The scheduler looks this often.
const PULSE: Duration = Duration::from_secs(1);
/// Instances taken up at one look.
const AT_ONCE: i64 = 100;

/// Schedules until it is told to stop.
pub(super) async fn run(app: Arc<App>, mut stopped: signal::Receiver<bool>) {
    while !*stopped.borrow() {
        if let Err(error) = look(&app).await {
            tracing::error!(%error, "the scheduler cannot use the database");
        }
        tokio::select! {
            () = tokio::time::sleep(PULSE) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn look(app: &App) -> db::DbResult<()> {
    let (now, granted) = (app.now(), Granted::service());
    let mut reader = app.db.read().await?;
    let due = db::instances::due(&mut reader, &granted, now, AT_ONCE).await?;
    let mut expiring = db::points::instances_with_expired(&mut reader, &granted, now).await?;
    expiring
        .extend(db::instances::purgeable(&mut reader, &granted, now).await?.into_iter().map(|instance| instance.key));
    drop(reader);
    for instance in due {
        begin_backup(app, &instance, now).await?;
    }
    for instance_key in expiring {
        begin_expiry(app, &instance_key).await?;
    }
    Ok(())
}

/// Adds the backup that is due and sets the next one, in one transaction. Occurrences that passed while nobody looked are made up for by one.
async fn begin_backup(app: &App, instance: &StoredInstance, now: i64) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    let Some(policy) = db::policies::get(&mut writer, &granted, &instance.policy_key).await? else { return Ok(()) };
    let scheduled_for = instance.next_run_at.unwrap_or(now);
    let rule = schedule::next_backup(&policy.policy, scheduled_for - 1).ok().flatten();
    let next = next_run(&policy.policy, now).ok().flatten();
    db::instances::set_next_run(&mut writer, &granted, &instance.key, next).await?;
    let waiting = db::jobs::unfinished(&mut writer, &instance.key, "backup").await?;
    match rule {
        Some((_, rule)) if waiting.len() < 2 => {
            let spec = JobSpec::Backup(BackupSpec {
                instance_key: instance.key.clone(),
                rule_name: rule.name.clone(),
                tag_override: None,
                trigger: BackupTrigger::Scheduled,
                scheduled_for: Some(scheduled_for),
            });
            enqueue_own(&mut writer, app, &instance.vault_key, &spec).await?;
        }
        _ => tracing::warn!(instance = instance.key, "a scheduled backup is left out: one runs and one waits already"),
    }
    writer.commit().await
}

async fn begin_expiry(app: &App, instance_key: &str) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    if !db::jobs::unfinished(&mut writer, instance_key, "expire").await?.is_empty() {
        return Ok(());
    }
    let Some(instance) = db::instances::get(&mut writer, &granted, instance_key).await? else { return Ok(()) };
    if instance.state == blobkeep_arm::instance::ProtectionState::ProtectionStopped {
        return Ok(());
    }
    let spec = JobSpec::Expire(ExpireSpec { instance_key: instance_key.to_owned(), recalculate: false });
    enqueue_own(&mut writer, app, &instance.vault_key, &spec).await?;
    writer.commit().await
}
