//! The scheduler: turns time into jobs. It keeps nothing in memory; what is due stands in the database.

use std::sync::Arc;
use std::time::Duration;

use blobkeep_arm::schedule;
use tokio::sync::watch as signal;

use super::exports;
use super::instance::{enqueue_own, next_run};
use super::spec::{BackupSpec, BackupTrigger, ExpireSpec, JobSpec, PruneSpec, PurgeVaultSpec};
use crate::App;
use crate::auth::Granted;
use crate::db::{self, vaults::Vault};

/// The scheduler looks this often.
const PULSE: Duration = Duration::from_secs(1);
/// Instances taken up at one look.
const AT_ONCE: i64 = 100;
/// Ended operations and internal jobs are kept for a week, in microseconds.
const KEPT_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// They are looked for at every so many looks.
const LOOKS_BETWEEN_FORGETTING: u64 = 3600;
/// A vault is pruned at most this often, in microseconds: once a day.
const PRUNE_PAUSE_MICROS: i64 = 24 * 3600 * 1_000_000;
/// Expiry of one instance is begun at most this often, in microseconds.
const EXPIRY_PAUSE_MICROS: i64 = 60_000_000;

/// Schedules until it is told to stop.
pub(super) async fn run(app: Arc<App>, mut stopped: signal::Receiver<bool>) {
    let mut looks = 0_u64;
    while !*stopped.borrow() {
        if let Err(error) = look(&app).await {
            tracing::error!(%error, "the scheduler cannot use the database");
        }
        if looks.is_multiple_of(LOOKS_BETWEEN_FORGETTING)
            && let Err(error) = forget(&app).await
        {
            tracing::error!(%error, "old operations cannot be forgotten");
        }
        looks += 1;
        tokio::select! {
            () = tokio::time::sleep(PULSE) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Adds the jobs that are due.
pub(super) async fn look(app: &App) -> db::DbResult<()> {
    let (now, granted) = (app.now(), Granted::service());
    let mut reader = app.db.read().await?;
    let due = db::instances::due(&mut reader, &granted, now, AT_ONCE).await?;
    let mut expiring = db::points::instances_with_expired(&mut reader, &granted, now).await?;
    expiring
        .extend(db::instances::purgeable(&mut reader, &granted, now).await?.into_iter().map(|instance| instance.key));
    let to_prune = db::prunes::due(&mut reader, &granted, now - PRUNE_PAUSE_MICROS).await?;
    let ended_vaults = db::deleted_vaults::purgeable(&mut reader, &granted, now).await?;
    drop(reader);
    // One instance that cannot be read must not keep the others from their backups.
    for instance in due {
        if let Err(error) = begin_backup(app, &instance.key, now).await {
            tracing::error!(instance = instance.key, %error, "a scheduled backup cannot be begun");
        }
    }
    for instance_key in expiring {
        if let Err(error) = begin_expiry(app, &instance_key, now).await {
            tracing::error!(instance = instance_key, %error, "expiry cannot be begun");
        }
    }
    if let Some(vault) = to_prune.first()
        && let Err(error) = begin_prune(app, vault, now).await
    {
        tracing::error!(vault = vault.key, %error, "a prune cannot be begun");
    }
    for ended in ended_vaults {
        if let Err(error) = begin_purge(app, &ended.vault).await {
            tracing::error!(vault = ended.vault.key, %error, "the end of a deleted vault cannot be begun");
        }
    }
    Ok(())
}

/// Forgets what nobody asks for any more: operations that have ended, and jobs of the service's own.
pub(super) async fn forget(app: &App) -> db::DbResult<()> {
    let before = app.now() - KEPT_MICROS;
    let mut writer = app.db.write().await?;
    db::operations::forget_ended_before(&mut writer, before).await?;
    db::jobs::forget_internal_ended_before(&mut writer, before).await?;
    writer.commit().await?;
    exports::forget(app).await
}

/// Adds the backups that are due and sets the next time, in one transaction. Occurrences that passed while nobody looked are made up for by one.
async fn begin_backup(app: &App, instance_key: &str, now: i64) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    // Read again: it may have been stopped, or changed its policy, since it was found due.
    let Some(instance) = db::instances::get(&mut writer, &granted, instance_key).await? else { return Ok(()) };
    let Some(scheduled_for) = instance.next_run_at.filter(|at| *at <= now) else { return Ok(()) };
    let Some(policy) = db::policies::get(&mut writer, &granted, &instance.policy_key).await? else { return Ok(()) };
    let next = next_run(&policy.policy, now).ok().flatten();
    db::instances::set_next_run(&mut writer, &granted, instance_key, next).await?;
    let waiting = db::jobs::unfinished(&mut writer, instance_key, "backup").await?;
    if waiting.len() >= 2 {
        tracing::warn!(instance = instance_key, "a scheduled backup is left out: one runs and one waits already");
        return writer.commit().await;
    }
    for rule in policy.policy.backup_rules() {
        let is_due = rule
            .schedule()
            .and_then(|schedule| schedule::next_after(schedule, scheduled_for - 1).ok().flatten())
            .is_some_and(|at| at == scheduled_for);
        if !is_due {
            continue;
        }
        let spec = JobSpec::Backup(BackupSpec {
            instance_key: instance_key.to_owned(),
            rule_name: rule.name.clone(),
            tag_override: None,
            trigger: BackupTrigger::Scheduled,
            scheduled_for: Some(scheduled_for),
        });
        enqueue_own(&mut writer, app, &instance.vault_key, &spec).await?;
    }
    writer.commit().await
}

async fn begin_expiry(app: &App, instance_key: &str, now: i64) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    let is_under_way = !db::jobs::unfinished(&mut writer, instance_key, "expire").await?.is_empty();
    if is_under_way || db::jobs::has_ended_since(&mut writer, instance_key, "expire", now - EXPIRY_PAUSE_MICROS).await?
    {
        return Ok(());
    }
    let Some(instance) = db::instances::get(&mut writer, &granted, instance_key).await? else { return Ok(()) };
    let spec = JobSpec::Expire(ExpireSpec { instance_key: instance_key.to_owned(), recalculate: false });
    enqueue_own(&mut writer, app, &instance.vault_key, &spec).await?;
    writer.commit().await
}

/// One vault after the other: a prune may wait for long, and other jobs need a place, too.
async fn begin_prune(app: &App, vault: &Vault, now: i64) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    if db::prunes::is_under_way(&mut writer).await? {
        return Ok(());
    }
    db::prunes::begun(&mut writer, &granted, &vault.key, now).await?;
    let spec = JobSpec::Prune(PruneSpec { vault_key: vault.key.clone() });
    enqueue_own(&mut writer, app, &vault.key, &spec).await?;
    writer.commit().await
}

/// One job does it, and does not end before the vault is gone or kept for longer.
async fn begin_purge(app: &App, vault: &Vault) -> db::DbResult<()> {
    let mut writer = app.db.write().await?;
    let waiting = db::jobs::unfinished_in_vault(&mut writer, &vault.key).await?;
    if waiting.iter().any(|job| matches!(job.spec, JobSpec::PurgeVault(_))) {
        return Ok(());
    }
    let (vault_key, vault_uuid) = (vault.key.clone(), vault.vault_uuid.clone());
    let spec = JobSpec::PurgeVault(PurgeVaultSpec { vault_key, vault_uuid });
    enqueue_own(&mut writer, app, &vault.key, &spec).await?;
    writer.commit().await
}
