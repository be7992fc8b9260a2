//! Proves that what a vault promises is there: every record, page and index run, and the bytes of the packs or of a share of them.

use std::sync::Arc;

use blobkeep_arm::time::format_seven_digits;
use blobkeep_vault::verify::{self, Depth, SeenNumbers, VerifyOptions, VerifyReport};
use blobkeep_vault::{Error, ErrorKind};
use serde_json::{Value, json};

use super::engine::EngineClock;
use super::fault::{Fault, internal, missing_key};
use super::spec::{VerifyDepth, VerifySpec};
use super::watch::Watch;
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::{self, Conn, DbResult, jobs::Job};

/// Where the last report on a vault is kept.
fn meta_key(vault_uuid: &str) -> String {
    format!("verification:{vault_uuid}")
}

/// What the last verification of a vault found; none if there was none.
///
/// # Errors
/// [`crate::db::DbError`] when the database fails.
pub(crate) async fn last_report(conn: &mut Conn, vault_uuid: &str) -> DbResult<Option<Value>> {
    let text = db::meta::get(conn, &meta_key(vault_uuid)).await?;
    text.map(|text| db::from_json("verification", &text)).transpose()
}

/// Forgets the report on a vault that has gone.
pub(super) async fn forget(conn: &mut Conn, vault_uuid: &str) -> DbResult<()> {
    db::meta::remove(conn, &meta_key(vault_uuid)).await
}

/// Does the job. Damage is no failure of it: the report tells it, and so does the log.
pub(super) async fn run(app: &Arc<App>, job: &Job, spec: &VerifySpec, watch: &Watch) -> Result<Done, Fault> {
    let mut reader = app.db.read().await?;
    let row = db::vaults::get(&mut reader, &Granted::service(), &spec.vault_key).await?;
    drop(reader);
    let Some(row) = row else { return Err(Fault::Final(Box::new(internal("the vault is gone")))) };
    let report = report_on(app, &row.vault_uuid, spec, watch).await.map_err(|error| fault_of(&error))?;
    if !report.is_sound() {
        tracing::error!(
            vault = row.key,
            damage = report.damage_in_all,
            lost_blobs = report.lost_blobs,
            first = report.damage.first(),
            "the vault is damaged"
        );
    }
    let began = job.started_at.unwrap_or(job.created_at);
    let text = render(&report, spec, began, app.now()).to_string();
    let mut writer = app.db.write().await?;
    db::meta::set(&mut writer, &meta_key(&row.vault_uuid), &text).await?;
    writer.commit().await?;
    Ok(Done::completed())
}

async fn report_on(app: &App, vault_uuid: &str, spec: &VerifySpec, watch: &Watch) -> Result<VerifyReport, Error> {
    // Nothing was ever backed up: nothing was promised.
    let Some(vault) = app.vaults.find(app, vault_uuid).await? else { return Ok(VerifyReport::default()) };
    let depth = match spec.depth {
        VerifyDepth::Structure => Depth::Structure,
        VerifyDepth::Bytes => Depth::Bytes,
    };
    let options = VerifyOptions { depth, percent: spec.percent, seen: SeenNumbers::new() };
    verify::run_recorded(&vault, &options, &EngineClock(app), watch).await
}

fn fault_of(error: &Error) -> Fault {
    if let Some(error) = missing_key(error) {
        return Fault::Final(Box::new(error));
    }
    match error.kind() {
        ErrorKind::Cancelled => Fault::Cancelled,
        ErrorKind::Unavailable => Fault::Passing(Box::new(internal(&error.to_string()))),
        _ => Fault::Final(Box::new(internal(&error.to_string()))),
    }
}

fn render(report: &VerifyReport, spec: &VerifySpec, began: i64, ended: i64) -> Value {
    json!({
        "isSound": report.is_sound(),
        "depth": spec.depth,
        "percent": spec.percent,
        "startTime": format_seven_digits(began),
        "endTime": format_seven_digits(ended),
        "instances": report.instances,
        "recoveryPoints": report.points,
        "blobs": report.blobs,
        "packs": report.packs,
        "packsInAll": report.packs_in_all,
        "packBytes": report.pack_bytes,
        "damage": report.damage,
        "damageInAll": report.damage_in_all,
        "lost": report.losses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lostBlobs": report.lost_blobs,
        "harmedPoints": report.harmed_points,
        "notes": report.notes,
    })
}
