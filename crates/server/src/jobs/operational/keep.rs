//! The states of the operational tier and how long each stays: until the one that replaced it leaves the retention. A base point of an account
//! that keeps versions is such a state as well, and its journal goes with it.

use std::collections::HashSet;

use blobkeep_arm::point::PointFilter;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::Vault;
use blobkeep_vault::backup::BackupReport;
use blobkeep_vault::point::Point;
use blobkeep_vault::state::Chain;

use crate::App;
use crate::auth::Granted;
use crate::db;
use crate::db::instances::StoredInstance;
use crate::jobs::backup::remember;
use crate::jobs::expire::{may_become, set_expiry};
use crate::jobs::fault::{Fault, of_engine};
use crate::jobs::instance::Subject;
use crate::jobs::spec::{JobSpec, PointReference};

/// When what is the state at an instant leaves the retention; none: never, or the policy does not say.
pub(super) fn retained_until(subject: &Subject, instant: i64) -> Option<i64> {
    subject.policy.policy.operational_retention()?.after(instant, 1, &jiff::tz::TimeZone::UTC).ok()
}

/// The newest state is what the account holds, however long ago it came about: its end is put off again and again, and early enough. From
/// the first record on every end is only ever put off, which is what an immutable vault allows. To be called before anything expires.
pub(in crate::jobs) async fn keep_newest(
    app: &App,
    subject: &Subject,
    vault: &Vault,
    chain: &Chain<'_>,
) -> Result<(), Fault> {
    let now = app.now();
    let Some(retained_until) = retained_until(subject, now) else { return Ok(()) };
    list_unlisted(app, subject, vault).await?;
    let Some(newest) = points(app, subject).await?.into_iter().next() else { return Ok(()) };
    // One without an end stays anyway.
    let Some(expires_at) = newest.expires_at else { return Ok(()) };
    if expires_at - now < (retained_until - now) / 2 {
        set_expiry(app, subject, chain, &newest.id, Some(retained_until)).await?;
    }
    Ok(())
}

/// A state can be asked for until the one that replaced it leaves the retention. Every look sets this right, also after a crash and after a
/// change of the policy.
pub(super) async fn expire_superseded(app: &App, subject: &Subject, chain: &Chain<'_>) -> Result<(), Fault> {
    if subject.policy.policy.operational_retention().is_none() {
        return Ok(());
    }
    for pair in points(app, subject).await?.windows(2) {
        let (successor, point) = (&pair[0], &pair[1]);
        let expires_at = retained_until(subject, successor.created_at);
        if point.expires_at != expires_at && may_become(&subject.vault, point.expires_at, expires_at) {
            set_expiry(app, subject, chain, &point.id, expires_at).await?;
        }
    }
    Ok(())
}

/// A look that was cut off between its commit in the vault and its row here left a point that nobody lists: that is made up for.
async fn list_unlisted(app: &App, subject: &Subject, vault: &Vault) -> Result<(), Fault> {
    let engine = |e: blobkeep_vault::Error| of_engine(&e, &subject.account_id);
    let (uuid, key) = (&subject.instance.instance_uuid, &subject.instance.key);
    let state = Chain::instance(vault, uuid).map_err(engine)?.load().await.map_err(engine)?;
    let mut reader = app.db.read().await?;
    let mut listed = HashSet::new();
    for store in [DataStore::OperationalStore, DataStore::VaultStore] {
        let points = db::points::list(&mut reader, &Granted::service(), key, store, PointFilter::default()).await?;
        listed.extend(points.into_iter().map(|point| point.id));
    }
    drop(reader);
    for live in state.points.iter().filter(|live| !listed.contains(&live.job)) {
        let point = Point::get(vault, uuid, &live.job).await.map_err(engine)?;
        if point.labels.get("store").is_some_and(|store| store == DataStore::OperationalStore.as_str()) {
            let report = BackupReport { point, is_new: true, warnings: Vec::new() };
            let expires_at = live.expires_at.map(|at| at.0);
            remember(app, subject, &report, DataStore::OperationalStore, "Default", "", expires_at).await?;
        }
    }
    Ok(())
}

/// The points of the operational tier, newest first.
pub(super) async fn points(app: &App, subject: &Subject) -> db::DbResult<Vec<db::points::Point>> {
    let mut reader = app.db.read().await?;
    points_of(&mut reader, &subject.instance).await
}

pub(super) async fn points_of(conn: &mut db::Conn, instance: &StoredInstance) -> db::DbResult<Vec<db::points::Point>> {
    let (store, all) = (DataStore::OperationalStore, PointFilter::default());
    db::points::list(conn, &Granted::service(), &instance.key, store, all).await
}

/// What restores in place that have not ended bring back: one that was interrupted goes on, also when its instant has left the retention
/// meanwhile. From the oldest of their instants on every state stays, because each base point continues the journal of the one before.
pub(in crate::jobs) async fn needed_by_restores(app: &App, instance: &StoredInstance) -> db::DbResult<HashSet<String>> {
    let mut reader = app.db.read().await?;
    let jobs = db::jobs::unfinished(&mut reader, &instance.key, "restore").await?;
    let instants = jobs.iter().filter_map(|job| match &job.spec {
        JobSpec::Restore(spec) if spec.in_place => match spec.point {
            PointReference::ByTime(time) => Some(time),
            // Of the vault tier.
            PointReference::ById(_) => None,
        },
        _ => None,
    });
    let Some(oldest) = instants.min() else { return Ok(HashSet::new()) };
    let points = points_of(&mut reader, instance).await?;
    let is_later = points.iter().take_while(|point| point.created_at > oldest).count();
    Ok(points.into_iter().take(is_later + 1).map(|point| point.id).collect())
}
