//! Expiry: points go when their time is over. The engine decides from the vault's own records; the rows here follow.

use std::sync::Arc;

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::schedule;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::Timestamp;
use blobkeep_vault::state::{self, Chain, Change};

use super::fault::{Fault, of_engine};
use super::instance::Subject;
use super::spec::ExpireSpec;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, jobs::Job};

/// Does the job.
pub(super) async fn run(app: &Arc<App>, _job: &Job, spec: &ExpireSpec) -> Result<Done, Fault> {
    let granted = Granted::service();
    let subject = Subject::load(app, &spec.instance_key).await?;
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let Some(vault) = app.vaults.find(app, &subject.vault.vault_uuid).await.map_err(engine)? else {
        return Ok(Done::completed());
    };
    let uuid = &subject.instance.instance_uuid;
    if spec.recalculate {
        recalculate(app, &subject, &Chain::instance(&vault, uuid).map_err(engine)?).await?;
    }
    let keeps_newest = subject.instance.state == ProtectionState::BackupSchedulesSuspended;
    if subject.instance.state == ProtectionState::ProtectionStopped {
        return Ok(Done::completed());
    }
    let now = app.now();
    let removed = state::expire(&vault, uuid, Timestamp(now), keeps_newest).await.map_err(engine)?;
    let purge_at = subject.instance.deletion.as_ref().map(|deletion| deletion.purge_at);
    let is_purged = subject.instance.state == ProtectionState::SoftDeleted && purge_at.is_some_and(|at| at <= now);
    let mut writer = app.db.write().await?;
    for point in &removed {
        tracing::info!(instance = spec.instance_key, point, "recovery point has expired");
        db::points::set_deleted(&mut writer, &granted, &spec.instance_key, point).await?;
    }
    if is_purged {
        tracing::info!(instance = spec.instance_key, "the time of the deleted instance is over: it is gone");
        db::instances::purge(&mut writer, &granted, &spec.instance_key).await?;
    }
    writer.commit().await?;
    Ok(Done::completed())
}

/// Works out the expiry of every vaulted point anew, from the policy as it is now.
async fn recalculate(app: &App, subject: &Subject, chain: &Chain<'_>) -> Result<(), Fault> {
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    let key = &subject.instance.key;
    let points = db::points::list(&mut reader, &granted, key, DataStore::VaultStore, PointFilter::default()).await?;
    drop(reader);
    for point in points {
        let expires_at = schedule::expiry(&subject.policy.policy, DataStore::VaultStore, &point.tag, point.created_at);
        if expires_at == point.expires_at {
            continue;
        }
        let change = Change::ExpirySet { job: point.id.clone(), expires_at: expires_at.map(Timestamp) };
        chain.append(change, Timestamp(app.now())).await.map_err(|e| of_engine(&e, &subject.account_id))?;
        let mut writer = app.db.write().await?;
        db::points::set_expiry(&mut writer, &granted, key, &point.id, expires_at).await?;
        writer.commit().await?;
    }
    Ok(())
}
