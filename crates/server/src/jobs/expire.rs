//! Expiry: points go when their time is over. The engine decides from the vault's own records; the rows here follow.

use std::sync::Arc;

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::schedule;
use blobkeep_arm::vault::ImmutabilityState;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::state::{self, Chain, Change, State};
use blobkeep_vault::{Timestamp, Vault};

use super::fault::{Fault, of_engine};
use super::instance::Subject;
use super::spec::ExpireSpec;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, instances::StoredInstance, jobs::Job};

/// Does the job.
pub(super) async fn run(app: &Arc<App>, _job: &Job, spec: &ExpireSpec) -> Result<Done, Fault> {
    let subject = match Subject::load(app, &spec.instance_key).await {
        // It was purged meanwhile: nothing is left to expire.
        Err(Fault::Final(_)) => return Ok(Done::completed()),
        loaded => loaded?,
    };
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let vault = app.vaults.find(app, &subject.vault.vault_uuid).await.map_err(engine)?;
    if let Some(vault) = &vault {
        expire(app, &subject, vault, spec.recalculate).await?;
    }
    if is_purged(&subject.instance, app.now()) {
        tracing::info!(instance = spec.instance_key, "the time of the deleted instance is over: it is gone");
        let mut writer = app.db.write().await?;
        db::instances::purge(&mut writer, &Granted::service(), &spec.instance_key).await?;
        writer.commit().await?;
    }
    Ok(Done::completed())
}

/// Soft-deleted, and kept for as long as was promised. Nobody can take the deletion back from that instant on.
fn is_purged(instance: &StoredInstance, now: i64) -> bool {
    let purge_at = instance.deletion.as_ref().map(|deletion| deletion.purge_at);
    instance.state == ProtectionState::SoftDeleted && purge_at.is_some_and(|at| at <= now)
}

async fn expire(app: &App, subject: &Subject, vault: &Vault, recalculates: bool) -> Result<(), Fault> {
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let (instance, now) = (&subject.instance, app.now());
    let chain = Chain::instance(vault, &instance.instance_uuid).map_err(engine)?;
    let state = chain.load().await.map_err(engine)?;
    if state.purge_at.is_some() && instance.deletion.is_none() {
        // The deletion was taken back here, and the vault has not heard of it yet. Nothing may be removed on its account.
        chain.append(Change::Undeleted, Timestamp(now)).await.map_err(engine)?;
    }
    reconcile(app, instance, &state).await?;
    if recalculates {
        recalculate(app, subject, &chain).await?;
    }
    if instance.state == ProtectionState::ProtectionStopped {
        return Ok(());
    }
    let keeps_newest = instance.state == ProtectionState::BackupSchedulesSuspended;
    let removed = state::expire(vault, &instance.instance_uuid, Timestamp(now), keeps_newest).await.map_err(engine)?;
    for point in &removed {
        tracing::info!(instance = instance.key, point, "recovery point has expired");
    }
    let state = chain.load().await.map_err(engine)?;
    reconcile(app, instance, &state).await
}

/// Points that the vault no longer has are no longer listed: also those whose removal was recorded there and not here.
async fn reconcile(app: &App, instance: &StoredInstance, state: &State) -> Result<(), Fault> {
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    let mut gone = Vec::new();
    for store in [DataStore::VaultStore, DataStore::OperationalStore] {
        let points = db::points::list(&mut reader, &granted, &instance.key, store, PointFilter::default()).await?;
        gone.extend(points.into_iter().map(|point| point.id).filter(|id| state.point(id).is_none()));
    }
    drop(reader);
    if gone.is_empty() {
        return Ok(());
    }
    let mut writer = app.db.write().await?;
    for point in &gone {
        db::points::set_deleted(&mut writer, &granted, &instance.key, point).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// Works out the expiry of every vaulted point anew, from the policy as it is now. In an immutable vault nothing goes sooner than was promised.
async fn recalculate(app: &App, subject: &Subject, chain: &Chain<'_>) -> Result<(), Fault> {
    let granted = Granted::service();
    let key = &subject.instance.key;
    let is_immutable = subject.vault.properties.immutability() != ImmutabilityState::Disabled;
    let mut reader = app.db.read().await?;
    let points = db::points::list(&mut reader, &granted, key, DataStore::VaultStore, PointFilter::default()).await?;
    drop(reader);
    for point in points {
        let expires_at = schedule::expiry(&subject.policy.policy, DataStore::VaultStore, &point.tag, point.created_at);
        let is_sooner = expires_at.unwrap_or(i64::MAX) < point.expires_at.unwrap_or(i64::MAX);
        if expires_at == point.expires_at || (is_immutable && is_sooner) {
            continue;
        }
        set_expiry(app, subject, chain, &point.id, expires_at).await?;
    }
    Ok(())
}

/// Sets when a point goes: in the vault, which decides, and then here.
pub(super) async fn set_expiry(
    app: &App,
    subject: &Subject,
    chain: &Chain<'_>,
    point: &str,
    expires_at: Option<i64>,
) -> Result<(), Fault> {
    let change = Change::ExpirySet { job: point.to_owned(), expires_at: expires_at.map(Timestamp) };
    chain.append(change, Timestamp(app.now())).await.map_err(|e| of_engine(&e, &subject.account_id))?;
    let mut writer = app.db.write().await?;
    db::points::set_expiry(&mut writer, &Granted::service(), &subject.instance.key, point, expires_at).await?;
    writer.commit().await?;
    Ok(())
}
