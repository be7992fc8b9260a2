//! The operational tier in its simple form: a look at the account at every interval; a point is kept when something changed. Any instant can
//! be restored to the last look that was completed before it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobkeep_arm::error::ApiError;
use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::backup::{self, BackupOptions, BackupReport, Expiry};
use blobkeep_vault::point::Point;
use blobkeep_vault::state::Chain;
use blobkeep_vault::{Monitor, Timestamp, Vault, WorkProgress};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::accounts;
use super::backup::{BACKUP_ACTIONS, labels, remember};
use super::engine::EngineClock;
use super::expire::{may_become, set_expiry};
use super::fault::{Fault, of_engine};
use super::instance::{Subject, check_rights};
use super::watch::LEASE_MICROS;
use crate::App;
use crate::auth::Granted;
use crate::db;

/// Instances are looked through this often for one whose interval is over.
const PULSE: Duration = Duration::from_millis(250);
/// Looks at once.
const LOOKS: usize = 2;
/// Instances found at one pulse.
const AT_ONCE: i64 = 64;
/// After a look that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// So many intervals without a look that succeeded make an instance show an error.
const LOOKS_OF_PATIENCE: i64 = 5;

/// When the last look at an instance was completed, in microseconds: until then it can be restored.
///
/// # Errors
/// [`db::DbError`] when the database fails.
pub async fn last_look(conn: &mut db::Conn, instance_uuid: &str) -> db::DbResult<Option<i64>> {
    let text = db::meta::get(conn, &meta_key(instance_uuid)).await?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn meta_key(instance_uuid: &str) -> String {
    format!("operational/last_look/{instance_uuid}")
}

/// Stops a look when the service stops.
struct StopOnly(signal::Receiver<bool>);

impl Monitor for StopOnly {
    fn progress(&self, _: &WorkProgress) {}

    fn should_stop(&self) -> Option<String> {
        self.0.borrow().then(|| "the service stops".to_owned())
    }
}

/// Whose turn it is to look at accounts: of several services that share a database one looks, the others wait until it stops or dies.
struct Turn {
    owner: String,
    /// Until when it is ours, microseconds; 0: it is not.
    until: i64,
}

/// Names the lease.
const TURN: &str = "operational";

impl Turn {
    fn new() -> Self {
        Self { owner: uuid::Uuid::new_v4().to_string(), until: 0 }
    }

    /// It is ours: for certain where nobody else can be, and otherwise by a lease that is prolonged in good time.
    async fn is_ours(&mut self, app: &App) -> db::DbResult<bool> {
        let now = app.now();
        if !app.db.is_shared() || self.until - now > LEASE_MICROS / 2 {
            return Ok(true);
        }
        let until = now + LEASE_MICROS;
        let mut writer = app.db.write().await?;
        let is_ours = db::leases::hold(&mut writer, TURN, &self.owner, now, until).await?;
        writer.commit().await?;
        self.until = if is_ours { until } else { 0 };
        Ok(is_ours)
    }

    /// Leaves it to the next one.
    async fn end(self, app: &App) -> db::DbResult<()> {
        if self.until == 0 {
            return Ok(());
        }
        let mut writer = app.db.write().await?;
        db::leases::let_go(&mut writer, TURN, &self.owner).await?;
        writer.commit().await
    }
}

/// Looks until it is told to stop.
pub(super) async fn run(app: Arc<App>, mut stopped: signal::Receiver<bool>) {
    if let Err(error) = begin(&app).await {
        tracing::error!(%error, "looks that the last configuration put off stay put off");
    }
    let busy: Arc<Mutex<HashSet<String>>> = Arc::default();
    let mut looks = JoinSet::new();
    let mut turn = Turn::new();
    while !*stopped.borrow() {
        while looks.try_join_next().is_some() {}
        match due(&app, &mut turn).await {
            Ok(keys) => {
                for key in keys {
                    let is_free =
                        looks.len() < LOOKS && busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                    if is_free {
                        let guard = Busy { all: busy.clone(), key: key.clone() };
                        looks.spawn(look_at(app.clone(), key, guard, stopped.clone()));
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the operational tier cannot use the database"),
        }
        tokio::select! {
            () = tokio::time::sleep(PULSE) => {}
            _ = stopped.changed() => {}
        }
    }
    while looks.join_next().await.is_some() {}
    if let Err(error) = turn.end(&app).await {
        tracing::warn!(%error, "other services look at accounts only when the lease of this one runs out");
    }
}

/// The interval may be shorter than it was.
async fn begin(app: &App) -> db::DbResult<()> {
    let mut writer = app.db.write().await?;
    db::instances::look_no_later_than(&mut writer, &Granted::service(), app.now() + interval(app)).await?;
    writer.commit().await
}

/// Instances with an operational rule whose interval is over and that nothing else works on. Who turns out to have no such rule is left alone
/// until its policy changes: what this asks for does not grow with the number of instances.
async fn due(app: &App, turn: &mut Turn) -> db::DbResult<Vec<String>> {
    if !turn.is_ours(app).await? {
        return Ok(Vec::new());
    }
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    for key in db::instances::due_looks(&mut reader, &granted, app.now(), AT_ONCE).await? {
        let is_operational = has_operational_rule(&mut reader, &key).await?;
        if is_operational { keys.push(key) } else { others.push(key) }
    }
    drop(reader);
    if !others.is_empty() {
        let mut writer = app.db.write().await?;
        for key in others {
            // Asked again where nobody else writes: its policy may have changed since.
            if !has_operational_rule(&mut writer, &key).await? {
                db::instances::set_look_at(&mut writer, &granted, &key, None).await?;
            }
        }
        writer.commit().await?;
    }
    Ok(keys)
}

async fn has_operational_rule(conn: &mut db::Conn, key: &str) -> db::DbResult<bool> {
    let granted = Granted::service();
    let Some(instance) = db::instances::get(conn, &granted, key).await? else { return Ok(false) };
    let policy = db::policies::get(conn, &granted, &instance.policy_key).await?;
    Ok(policy.is_some_and(|policy| policy.policy.operational_retention().is_some()))
}

/// Microseconds between two looks at an account.
fn interval(app: &App) -> i64 {
    i64::from(app.config.operational.interval_seconds) * 1_000_000
}

/// Marks an instance as being looked at, as long as it lives.
struct Busy {
    all: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

async fn look_at(app: Arc<App>, key: String, _busy: Busy, stopped: signal::Receiver<bool>) {
    let outcome = match Subject::load(&app, &key).await {
        Ok(subject) => look(&app, &subject, &StopOnly(stopped)).await,
        Err(fault) => Err(fault),
    };
    match outcome {
        Err(Fault::Cancelled | Fault::Yielded) => {}
        Ok(()) => {
            if let Err(error) = report(&app, &key, None).await {
                tracing::error!(instance = key, %error, "the state of the operational tier cannot be recorded");
            }
        }
        Err(Fault::Final(error) | Fault::Passing(error)) => {
            let detail = error.detailed_message.clone().unwrap_or_default();
            tracing::warn!(
                instance = key,
                error = error.message,
                detail,
                "a look of the operational tier failed; it is tried again"
            );
            if let Err(error) = report(&app, &key, Some(&error)).await {
                tracing::error!(instance = key, %error, "the state of the operational tier cannot be recorded");
            }
            // With what it holds: so long nobody looks at it again.
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

/// Nothing shows as protected that is not looked at: after some failed looks the instance says what is wrong, until one succeeds.
async fn report(app: &App, key: &str, error: Option<&ApiError>) -> db::DbResult<()> {
    let granted = Granted::service();
    let mut writer = app.db.write().await?;
    let Some(instance) = db::instances::get(&mut writer, &granted, key).await? else { return Ok(()) };
    let last_look = last_look(&mut writer, &instance.instance_uuid).await?.unwrap_or(instance.created_at);
    let patience = interval(app) * LOOKS_OF_PATIENCE;
    let (configured, failed) = (ProtectionState::ProtectionConfigured, ProtectionState::ProtectionError);
    match error {
        None if instance.state == failed => {
            db::instances::set_configured(&mut writer, &granted, key, instance.next_run_at, app.now()).await?;
        }
        Some(error) => {
            // To the end of the queue: one that fails again and again does not keep the others waiting.
            db::instances::set_look_at(&mut writer, &granted, key, Some(app.now())).await?;
            if instance.state == configured && app.now() - last_look > patience {
                let (info, now) = (error.info(), app.now());
                db::instances::set_state(&mut writer, &granted, key, failed, "Succeeded", Some(&info), now).await?;
            }
        }
        None => return Ok(()),
    }
    writer.commit().await
}

/// Looks at the account once and keeps a point if something changed.
pub(super) async fn look(app: &Arc<App>, subject: &Subject, monitor: &dyn Monitor) -> Result<(), Fault> {
    let account = &subject.account_id;
    check_rights(app, subject, BACKUP_ACTIONS, account).await?;
    let opened = accounts::open(app, &subject.instance.datasource_key, account).await?;
    let vault = app.vaults.for_job(app, &subject.vault.vault_uuid).await?;
    let uuid = &subject.instance.instance_uuid;
    let engine = |e: blobkeep_vault::Error| of_engine(&e, account);
    let chain = Chain::instance(&vault, uuid).map_err(engine)?;
    keep_newest(app, subject, &vault, &chain).await?;
    let previous = points(app, subject).await?.into_iter().next().map(|point| point.id);
    let looked_from = app.now();
    let expires_at = retained_until(subject, looked_from);
    let options = BackupOptions {
        expires_at: expires_at.map(|at| Expiry::at(Timestamp(at))).unwrap_or_default(),
        labels: labels(DataStore::OperationalStore, "", "Default", &subject.policy),
        scratch: app.config.data_dir.join("scratch"),
        only_if_differs_from: previous,
        ..BackupOptions::new(uuid, uuid::Uuid::new_v4().simple().to_string())
    };
    let report = backup::run(&vault, opened.source, &options, &EngineClock(app), monitor).await.map_err(engine)?;
    let mut seen_until = looked_from;
    if report.is_new {
        remember(app, subject, &report, DataStore::OperationalStore, "Default", "", expires_at).await?;
        seen_until = report.point.completed_at.0;
    }
    expire_superseded(app, subject, &chain).await?;
    let mut writer = app.db.write().await?;
    db::meta::set(&mut writer, &meta_key(uuid), &seen_until.to_string()).await?;
    let next = seen_until + interval(app);
    db::instances::set_look_at(&mut writer, &Granted::service(), &subject.instance.key, Some(next)).await?;
    writer.commit().await?;
    Ok(())
}

/// When what is the state at an instant leaves the retention; none: never, or the policy does not say.
fn retained_until(subject: &Subject, instant: i64) -> Option<i64> {
    subject.policy.policy.operational_retention()?.after(instant, 1, &jiff::tz::TimeZone::UTC).ok()
}

/// The newest state is what the account holds, however long ago it came about: its end is put off again and again, and early enough. From
/// the first record on every end is only ever put off, which is what an immutable vault allows. To be called before anything expires.
pub(super) async fn keep_newest(app: &App, subject: &Subject, vault: &Vault, chain: &Chain<'_>) -> Result<(), Fault> {
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
async fn expire_superseded(app: &App, subject: &Subject, chain: &Chain<'_>) -> Result<(), Fault> {
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
async fn points(app: &App, subject: &Subject) -> db::DbResult<Vec<db::points::Point>> {
    let (granted, key, all) = (Granted::service(), &subject.instance.key, PointFilter::default());
    let mut reader = app.db.read().await?;
    db::points::list(&mut reader, &granted, key, DataStore::OperationalStore, all).await
}
