//! The end of a deleted vault: its files go, and then its row.

use std::sync::Arc;

use blobkeep_vault::state::Chain;
use blobkeep_vault::{Error, Vault};

use super::fault::{Fault, internal};
use super::spec::{JobSpec, PurgeVaultSpec};
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db;

/// What the vault does not let go, and nobody knows until when, is tried again after a day, in microseconds.
const DELAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Does the job. Whatever is in the way is taken for passing: what was deleted must free its space at last.
pub(super) async fn run(app: &Arc<App>, spec: &PurgeVaultSpec) -> Result<Done, Fault> {
    let granted = Granted::service();
    if !is_over(app, spec).await? {
        return Ok(Done::completed());
    }
    let passing = |e: Error| Fault::Passing(Box::new(internal(&e.to_string())));
    if is_pruned(app, spec).await? {
        return Err(Fault::Passing(Box::new(internal("a prune is still at work in the vault"))));
    }
    // Half a vault, which a run before left, is not found any more, and its rest goes.
    if let Some(vault) = app.vaults.find(app, &spec.vault_uuid).await.map_err(passing)?
        && let Some(purge_at) = kept_until(&vault, app.now()).await.map_err(passing)?
    {
        tracing::warn!(
            vault = spec.vault_key,
            purge_at,
            "the records of the deleted vault name points that nobody removed: it stays"
        );
        let mut writer = app.db.write().await?;
        db::deleted_vaults::put_off(&mut writer, &granted, &spec.vault_key, purge_at).await?;
        writer.commit().await?;
        return Ok(Done::completed());
    }
    app.vaults.remove(app, &spec.vault_uuid).await.map_err(passing)?;
    tracing::info!(vault = spec.vault_key, "the time of the deleted vault is over: it is gone");
    let mut writer = app.db.write().await?;
    super::verify::forget(&mut writer, &spec.vault_uuid).await?;
    if db::deleted_vaults::get(&mut writer, &granted, &spec.vault_key).await?.is_some() {
        db::deleted_vaults::purge(&mut writer, &granted, &spec.vault_key).await?;
    }
    writer.commit().await?;
    Ok(Done::completed())
}

/// Nobody can have the vault back any more, and nothing is left in it.
async fn is_over(app: &App, spec: &PurgeVaultSpec) -> db::DbResult<bool> {
    let granted = Granted::service();
    // In a writing transaction: an undelete has either been committed, or finds that the time is over.
    let mut writer = app.db.write().await?;
    let row = db::vaults::by_uuid(&mut writer, &granted, &spec.vault_uuid).await?;
    if row.is_none() {
        return Ok(true);
    }
    let over = db::deleted_vaults::purgeable(&mut writer, &granted, app.now()).await?;
    Ok(over.iter().any(|deleted| deleted.vault.key == spec.vault_key))
}

/// A prune that was told to stop may need a moment for it, and would leave files behind.
async fn is_pruned(app: &App, spec: &PurgeVaultSpec) -> db::DbResult<bool> {
    let mut reader = app.db.read().await?;
    let unfinished = db::jobs::unfinished_in_vault(&mut reader, &spec.vault_key).await?;
    Ok(unfinished.iter().any(|job| matches!(job.spec, JobSpec::Prune(_))))
}

/// Until when the vault's own records keep something; none if nothing is left.
async fn kept_until(vault: &Vault, now: i64) -> Result<Option<i64>, Error> {
    let mut kept_until = None;
    for instance in Chain::instances(vault).await? {
        let state = Chain::instance(vault, &instance)?.load().await?;
        let ends = state.points.iter().filter_map(|point| match point.expires_at {
            // Nobody knows until when a hold lasts, or a point without an end.
            _ if state.hold_on(&point.job).is_some() => Some(now + DELAY_MICROS),
            None => Some(now + DELAY_MICROS),
            Some(ends) => (ends.0 > now).then_some(ends.0),
        });
        kept_until = kept_until.max(ends.max());
    }
    Ok(kept_until)
}

#[cfg(test)]
mod tests {
    use blobkeep_vault::chunk::ChunkSizes;
    use blobkeep_vault::state::{Change, Hold};
    use blobkeep_vault::store::memory::MemoryStore;
    use blobkeep_vault::{MasterKey, Timestamp};

    use super::*;

    const NOW: i64 = 1_000_000_000;

    async fn kept_with(expires_at: Option<i64>, held: &[&str]) -> Option<i64> {
        let store = Arc::new(MemoryStore::default());
        let key = MasterKey::generate().unwrap();
        let vault = Vault::init(store, &key, ChunkSizes::default(), Timestamp(0)).await.unwrap();
        let chain = Chain::instance(&vault, "instance").unwrap();
        let at = Timestamp(1);
        let point = Change::PointAdded {
            job: "one".to_owned(),
            started_at: at,
            completed_at: at,
            expires_at: expires_at.map(Timestamp),
            registered: 0,
        };
        chain.append(point, at).await.unwrap();
        for name in held {
            let hold = Hold { name: (*name).to_owned(), point: None, reason: "a lawsuit".to_owned() };
            chain.append(Change::HoldSet { hold }, at).await.unwrap();
        }
        kept_until(&vault, NOW).await.unwrap()
    }

    #[tokio::test]
    async fn a_vault_stays_while_its_own_records_keep_a_point() {
        assert_eq!(kept_with(Some(NOW - 1), &[]).await, None);
        assert_eq!(kept_with(Some(NOW + 7), &[]).await, Some(NOW + 7));
        assert_eq!(kept_with(None, &[]).await, Some(NOW + DELAY_MICROS));
        assert_eq!(
            kept_with(Some(NOW - 1), &["court"]).await,
            Some(NOW + DELAY_MICROS),
            "a hold outlasts the point's end"
        );
    }
}
