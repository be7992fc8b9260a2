//! The operational tier: a look at each account at every interval. Where the account keeps versions and writes a feed of changes, a look takes
//! over what the feed tells, and any instant can be restored exactly. Elsewhere a look keeps a state when something changed, and an
//! instant is restored to the last look that was completed before it.

mod containers;
mod continuous;
mod keep;
mod look;
mod ranges;
mod simple;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobkeep_arm::error::ApiError;
use blobkeep_arm::instance::ProtectionState;
use blobkeep_vault::{Monitor, WorkProgress};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

pub(super) use keep::{keep_newest, needed_by_restores};
pub(super) use look::look;
pub use ranges::{Range, range_at, restorable_ranges};

use super::fault::Fault;
use super::instance::Subject;
use super::watch::LEASE_MICROS;
use crate::App;
use crate::auth::Granted;
use crate::db;
use crate::db::instances::DueLook;

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

/// Of when an instance is known by the last completed look, in microseconds by the service's clock.
///
/// # Errors
/// [`db::DbError`] when the database fails.
async fn last_look(conn: &mut db::Conn, instance_uuid: &str) -> db::DbResult<Option<i64>> {
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
            Ok(due) => {
                for DueLook { key, is_backed_up } in due {
                    let is_free =
                        looks.len() < LOOKS && busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                    if is_free {
                        let guard = Busy { all: busy.clone(), key: key.clone() };
                        looks.spawn(look_at(app.clone(), key, is_backed_up, guard, stopped.clone()));
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

/// Looks at what is due at one instant of a clock that stands, one account after the other. A look that fails is told by the instance.
///
/// # Errors
/// [`db::DbError`] when the database fails.
pub async fn look_around(app: &Arc<App>) -> db::DbResult<()> {
    let (_stop, stopped) = signal::channel(false);
    let mut turn = Turn::new();
    for DueLook { key, is_backed_up } in due(app, &mut turn).await? {
        look_once(app, &key, is_backed_up, &stopped).await;
    }
    turn.end(app).await
}

/// The interval may be shorter than it was.
async fn begin(app: &App) -> db::DbResult<()> {
    let mut writer = app.db.write().await?;
    db::instances::look_no_later_than(&mut writer, &Granted::service(), app.now() + interval(app)).await?;
    writer.commit().await
}

/// Instances with an operational rule whose interval is over and that nothing else works on. Who turns out to have no such rule is left alone
/// until its policy changes: what this asks for does not grow with the number of instances.
async fn due(app: &App, turn: &mut Turn) -> db::DbResult<Vec<DueLook>> {
    if !turn.is_ours(app).await? {
        return Ok(Vec::new());
    }
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    let (mut looks, mut others) = (Vec::new(), Vec::new());
    for look in db::instances::due_looks(&mut reader, &granted, app.now(), AT_ONCE).await? {
        let is_operational = has_operational_rule(&mut reader, &look.key).await?;
        if is_operational { looks.push(look) } else { others.push(look.key) }
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
    Ok(looks)
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

async fn look_at(app: Arc<App>, key: String, is_backed_up: bool, _busy: Busy, stopped: signal::Receiver<bool>) {
    if !look_once(&app, &key, is_backed_up, &stopped).await {
        // With what it holds: so long nobody looks at it again.
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
}

/// One look, and what it leads to; false if it failed.
async fn look_once(app: &Arc<App>, key: &str, is_backed_up: bool, stopped: &signal::Receiver<bool>) -> bool {
    let outcome = match Subject::load(app, key).await {
        Ok(subject) => look(app, &subject, !is_backed_up, &StopOnly(stopped.clone())).await,
        Err(fault) => Err(fault),
    };
    note(app, key, outcome).await
}

/// Keeps how a look ended; false if it failed.
async fn note(app: &App, key: &str, outcome: Result<(), Fault>) -> bool {
    let error = match outcome {
        Err(Fault::Cancelled | Fault::Yielded) => return true,
        Ok(()) => None,
        Err(Fault::Final(error) | Fault::Passing(error)) => {
            let detail = error.detailed_message.clone().unwrap_or_default();
            tracing::warn!(
                instance = key,
                error = error.message,
                detail,
                "a look of the operational tier failed; it is tried again"
            );
            Some(error)
        }
    };
    if let Err(error) = report(app, key, error.as_deref()).await {
        tracing::error!(instance = key, %error, "the state of the operational tier cannot be recorded");
    }
    error.is_none()
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
