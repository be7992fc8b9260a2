//! One look at an account: by its feed of changes where it keeps versions, else by a listing.

use std::sync::Arc;

use blobkeep_vault::state::Chain;
use blobkeep_vault::{Monitor, Source, Vault};

use super::keep::{expire_superseded, keep_newest, points_of, retained_until};
use super::ranges::known_ranges;
use super::{continuous, interval, meta_key, simple};
use crate::App;
use crate::auth::Granted;
use crate::db::instances::StoredInstance;
use crate::db::operational_ranges::StoredRange;
use crate::db::{self, Conn, blob_services::BlobService};
use crate::jobs::backup::BACKUP_ACTIONS;
use crate::jobs::fault::{Fault, of_engine};
use crate::jobs::instance::{Subject, check_rights};
use crate::jobs::{accounts, effects};

/// What a look works with.
pub(super) struct Look<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) subject: &'a Subject,
    pub(super) vault: &'a Vault,
    pub(super) source: Arc<dyn Source>,
    /// Points can be made: no backup of the instance is at work, which the beginning of another one would end.
    pub(super) may_make_points: bool,
    pub(super) monitor: &'a dyn Monitor,
}

impl Look<'_> {
    /// What the engine reports, in the words of a job.
    pub(super) fn engine(&self, error: &blobkeep_vault::Error) -> Fault {
        of_engine(error, &self.subject.account_id)
    }
}

/// What a look has seen.
pub(super) struct Seen {
    /// The range before, if it was learnt only now until when it reached.
    pub(super) ended: Option<StoredRange>,
    /// The present range.
    pub(super) range: StoredRange,
    /// Of when the account is known by this look, microseconds by the service's clock.
    pub(super) seen_until: i64,
}

/// Looks at the account once and keeps what changed. Where no points may be made, changes that a feed tells are kept all the same.
pub(in crate::jobs) async fn look(
    app: &Arc<App>,
    subject: &Subject,
    may_make_points: bool,
    monitor: &dyn Monitor,
) -> Result<(), Fault> {
    let account = &subject.account_id;
    check_rights(app, subject, BACKUP_ACTIONS, account).await?;
    effects::keep_up(app, subject).await?;
    let opened = accounts::open(app, &subject.instance.datasource_key, account).await?;
    let vault = app.vaults.for_job(app, &subject.vault.vault_uuid).await?;
    let engine = |e: blobkeep_vault::Error| of_engine(&e, account);
    let chain = Chain::instance(&vault, &subject.instance.instance_uuid).map_err(engine)?;
    keep_newest(app, subject, &vault, &chain).await?;
    let feed = opened.source.feed().await.map_err(|e| engine(e.into()))?;
    let look = Look { app, subject, vault: &vault, source: opened.source, may_make_points, monitor };
    let seen = match &feed {
        Some(position) => continuous::look(&look, position).await?,
        None if may_make_points => Some(simple::look(&look).await?),
        None => None,
    };
    let Some(seen) = seen else { return put_off(app, subject).await };
    expire_superseded(app, subject, &chain).await?;
    write_down(app, subject, &seen, feed.is_some()).await?;
    Ok(())
}

/// The look needs a point of its own, and waits for the backup to end.
async fn put_off(app: &App, subject: &Subject) -> Result<(), Fault> {
    let mut writer = app.db.write().await?;
    let next = app.now() + interval(app);
    db::instances::set_look_at(&mut writer, &Granted::service(), &subject.instance.key, Some(next)).await?;
    writer.commit().await?;
    Ok(())
}

/// Keeps what was seen, and when the next look is due.
async fn write_down(app: &App, subject: &Subject, seen: &Seen, keeps_versions: bool) -> db::DbResult<()> {
    let (granted, uuid, key) = (Granted::service(), &subject.instance.instance_uuid, &subject.instance.key);
    let mut writer = app.db.write().await?;
    // It may have been stopped meanwhile, or purged.
    let Some(instance) = db::instances::get(&mut writer, &granted, key).await? else { return Ok(()) };
    let is_stopped = instance.configured_at.is_none() && subject.instance.configured_at.is_some();
    let others = db::operational_ranges::list(&mut writer, uuid).await?;
    if others.is_empty() {
        write_older(&mut writer, &instance, seen).await?;
    }
    if others.iter().any(|other| other.is_open && other.starts_at != seen.range.starts_at) {
        db::operational_ranges::close(&mut writer, uuid).await?;
    }
    if let Some(ended) = &seen.ended {
        db::operational_ranges::put(&mut writer, uuid, &StoredRange { is_open: false, ..ended.clone() }).await?;
    }
    let range = StoredRange { is_open: !is_stopped, ..seen.range.clone() };
    db::operational_ranges::put(&mut writer, uuid, &range).await?;
    if let Some(horizon) = horizon(subject, app.now()) {
        db::operational_ranges::forget_before(&mut writer, uuid, horizon).await?;
    }
    let account = &subject.instance.datasource_key;
    let service = db::blob_services::get(&mut writer, &granted, account).await?;
    if service.versions_seen != Some(keeps_versions) {
        let service = BlobService { versions_seen: Some(keeps_versions), ..service };
        db::blob_services::put(&mut writer, &granted, account, &service, app.now()).await?;
    }
    db::meta::set(&mut writer, &meta_key(uuid), &seen.seen_until.to_string()).await?;
    if !is_stopped {
        db::instances::set_look_at(&mut writer, &granted, key, Some(seen.seen_until + interval(app))).await?;
    }
    writer.commit().await
}

/// Where nothing is written down, what the points tell of the time before what was seen.
async fn write_older(conn: &mut Conn, instance: &StoredInstance, seen: &Seen) -> db::DbResult<()> {
    let points = points_of(conn, instance).await?;
    let is_older = |range: &StoredRange| range.starts_at <= range.ends_at && range.ends_at < seen.range.starts_at;
    for range in known_ranges(conn, instance, &points).await?.into_iter().filter(is_older) {
        let range = StoredRange { is_open: false, ..range };
        db::operational_ranges::put(conn, &instance.instance_uuid, &range).await?;
    }
    Ok(())
}

/// What lies before it has left the retention for certain.
fn horizon(subject: &Subject, now: i64) -> Option<i64> {
    let retained_until = retained_until(subject, now)?;
    Some(now.saturating_sub(retained_until.saturating_sub(now)).saturating_sub(31 * 86_400_000_000))
}
