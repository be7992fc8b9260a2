//! Expiry: points go when their time is over. The engine decides from the vault's own records; the rows here follow.

use std::sync::Arc;

use blobkeep_arm::instance::{Deletion, ProtectionState};
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::policy::Policy;
use blobkeep_arm::schedule;
use blobkeep_arm::vault::{ImmutabilityState, SoftDeleteState};
use blobkeep_arm::word::DataStore;
use blobkeep_vault::state::{self, Chain, Change, State};
use blobkeep_vault::{Timestamp, Vault};

use super::fault::{Fault, of_engine};
use super::instance::Subject;
use super::spec::ExpireSpec;
use super::worker::Done;
use super::{immutability, operational};
use crate::App;
use crate::auth::Granted;
use crate::db::{self, instances::StoredInstance, jobs::Job, points::Point};

/// What the vault does not let go, and nobody knows until when, is tried again after a day, in microseconds.
const DELAY_MICROS: i64 = MICROS_PER_DAY;
const MICROS_PER_DAY: i64 = 24 * 3600 * 1_000_000;

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
    if let Some(deletion) = subject.instance.deletion.as_ref().filter(|_| is_purged(&subject.instance, app.now())) {
        purge(app, &subject, deletion, vault.as_deref()).await?;
    }
    Ok(Done::completed())
}

/// Ends a deleted instance whose time is over, unless the vault still keeps something of it: then its time is put off.
async fn purge(app: &App, subject: &Subject, deletion: &Deletion, vault: Option<&Vault>) -> Result<(), Fault> {
    let (granted, key) = (Granted::service(), &subject.instance.key);
    let kept_until = match vault {
        Some(vault) => delay_end(app, subject, vault).await?,
        None => None,
    };
    let mut writer = app.db.write().await?;
    match kept_until {
        Some(purge_at) => {
            let deletion = Deletion { purge_at, ..deletion.clone() };
            db::instances::set_deletion(&mut writer, &granted, key, Some(&deletion)).await?;
            let vault_ends_at = purge_at + db::deleted_vaults::GRACE_MICROS;
            db::deleted_vaults::put_off(&mut writer, &granted, &subject.vault.key, vault_ends_at).await?;
        }
        None => {
            tracing::info!(instance = key, "the time of the deleted instance is over: it is gone");
            db::instances::purge(&mut writer, &granted, key).await?;
        }
    }
    writer.commit().await?;
    Ok(())
}

/// What the vault still keeps of a deleted instance whose time is over, because it is immutable or held, puts off the end until the last
/// of these points has expired. Gives the new end, or none if nothing is left.
pub(super) async fn delay_end(app: &App, subject: &Subject, vault: &Vault) -> Result<Option<i64>, Fault> {
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let chain = Chain::instance(vault, &subject.instance.instance_uuid).map_err(engine)?;
    let state = chain.load().await.map_err(engine)?;
    if state.points.is_empty() {
        return Ok(None);
    }
    let now = app.now();
    let ends: Option<Vec<i64>> = state.points.iter().map(|point| point.expires_at.map(|at| at.0)).collect();
    let last = ends.and_then(|ends| ends.into_iter().max()).filter(|at| *at > now);
    let purge_at = last.unwrap_or(now + DELAY_MICROS);
    tracing::info!(
        instance = subject.instance.key,
        purge_at,
        "the vault keeps points of the deleted instance: its end is put off"
    );
    let change = Change::SoftDeleted { purge_at: Timestamp(purge_at) };
    chain.append(change, Timestamp(now)).await.map_err(engine)?;
    Ok(Some(purge_at))
}

/// Soft-deleted, and kept for as long as was promised. Nobody can take the deletion back from that instant on.
fn is_purged(instance: &StoredInstance, now: i64) -> bool {
    let purge_at = instance.deletion.as_ref().map(|deletion| deletion.purge_at);
    instance.state == ProtectionState::SoftDeleted && purge_at.is_some_and(|at| at <= now)
}

async fn expire(app: &App, subject: &Subject, vault: &Vault, recalculates: bool) -> Result<(), Fault> {
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let (instance, now) = (&subject.instance, app.now());
    // What the row of the vault allows or forbids since a moment ago counts already.
    immutability::record(app, vault, &subject.vault.vault_uuid).await.map_err(engine)?;
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
    if instance.deletion.is_none() {
        operational::keep_newest(app, subject, vault, &chain).await?;
    }
    let keeps_newest = instance.state == ProtectionState::BackupSchedulesSuspended;
    let needed = operational::needed_by_restores(app, instance).await?;
    let removed = state::expire_others(vault, &instance.instance_uuid, Timestamp(now), keeps_newest, &needed)
        .await
        .map_err(engine)?;
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
    db::prunes::points_removed(&mut writer, &granted, &instance.vault_key, app.now()).await?;
    writer.commit().await?;
    Ok(())
}

/// When a point in the vault tier expires once it follows a policy from now on (none: never).
pub(crate) fn expiry_under(policy: &Policy, vault: &db::vaults::Vault, point: &Point, now: i64) -> Option<i64> {
    let expires_at = schedule::expiry(policy, DataStore::VaultStore, &point.tag, point.created_at);
    if !may_become(vault, point.expires_at, expires_at) {
        return point.expires_at;
    }
    let keeps_deleted = vault.properties.soft_delete_state() != Some(SoftDeleteState::Off);
    let soft_delete_end = now + i64::from(vault.properties.soft_delete_days()) * MICROS_PER_DAY;
    if keeps_deleted { softened(point.expires_at, expires_at, soft_delete_end) } else { expires_at }
}

/// A point that is to go sooner than it was (none: never) is deleted as far as its owner is concerned. So it stays until the end of its
/// soft deletion, but not longer than it would have. Doing this again later does not put the end off any further.
fn softened(was: Option<i64>, wanted: Option<i64>, soft_delete_end: i64) -> Option<i64> {
    let wanted = wanted?;
    let was = was.unwrap_or(i64::MAX);
    Some(if wanted < was { wanted.max(was.min(soft_delete_end)) } else { wanted })
}

/// Whether a point may expire at another time (none: never): in an immutable vault nothing goes sooner than was promised.
pub(super) fn may_become(vault: &db::vaults::Vault, expires_at: Option<i64>, other: Option<i64>) -> bool {
    let is_immutable = vault.properties.immutability() != ImmutabilityState::Disabled;
    !is_immutable || other.unwrap_or(i64::MAX) >= expires_at.unwrap_or(i64::MAX)
}

/// Works out the expiry of every vaulted point anew, from the policy as it is now.
async fn recalculate(app: &App, subject: &Subject, chain: &Chain<'_>) -> Result<(), Fault> {
    let granted = Granted::service();
    let key = &subject.instance.key;
    let mut reader = app.db.read().await?;
    let points = db::points::list(&mut reader, &granted, key, DataStore::VaultStore, PointFilter::default()).await?;
    drop(reader);
    for point in points {
        let expires_at = expiry_under(&subject.policy.policy, &subject.vault, &point, app.now());
        if expires_at != point.expires_at {
            set_expiry(app, subject, chain, &point.id, expires_at).await?;
        }
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

#[cfg(test)]
mod tests {
    use super::softened;

    #[test]
    fn what_is_to_go_sooner_stays_until_its_soft_deletion_ends_and_not_longer_than_it_would_have() {
        let end = 100;
        for (was, wanted, expected) in [
            (Some(500), Some(50), Some(100)),
            (Some(500), Some(200), Some(200)),
            (Some(70), Some(50), Some(70)),
            (None, Some(50), Some(100)),
            (None, Some(200), Some(200)),
            (Some(50), Some(500), Some(500)),
            (Some(50), None, None),
            (Some(50), Some(50), Some(50)),
            (None, None, None),
        ] {
            assert_eq!(softened(was, wanted, end), expected, "from {was:?} to {wanted:?}");
        }
        let once = softened(Some(500), Some(50), end);
        assert_eq!(softened(once, Some(50), end + 60), once, "a later look does not put the end off");
        assert_eq!(softened(once, Some(500), end + 60), Some(500), "a longer policy gives the time back");
    }
}
