//! The operational tier of an account without versions: a look makes a state of its own where something changed.

use blobkeep_arm::word::DataStore;
use blobkeep_vault::Timestamp;
use blobkeep_vault::backup::{self, BackupOptions, Expiry};

use super::keep::{points, retained_until};
use super::look::{Look, Seen};
use super::ranges::known_ranges;
use crate::db::operational_ranges::StoredRange;
use crate::jobs::backup::{labels, remember};
use crate::jobs::engine::EngineClock;
use crate::jobs::fault::Fault;

/// Looks at the account once and keeps a state if something changed.
pub(super) async fn look(look: &Look<'_>) -> Result<Seen, Fault> {
    let (app, subject) = (look.app, look.subject);
    let states = points(app, subject).await?;
    let mut reader = app.db.read().await?;
    let known = known_ranges(&mut reader, &subject.instance, &states).await?;
    drop(reader);
    // After a break nobody knows what happened meanwhile, and the states of an account with versions are of another kind.
    let range = known.into_iter().next().filter(|range| range.is_open && range.journal.is_none());
    let previous = range.as_ref().and_then(|range| {
        let newest = states.first()?;
        (newest.created_at <= range.ends_at).then(|| newest.id.clone())
    });
    let looked_from = app.now();
    let expires_at = retained_until(subject, looked_from);
    let options = BackupOptions {
        expires_at: expires_at.map(|at| Expiry::at(Timestamp(at))).unwrap_or_default(),
        labels: labels(DataStore::OperationalStore, "", "Default", &subject.policy),
        scratch: app.config.data_dir.join("scratch"),
        only_if_differs_from: previous,
        ..BackupOptions::new(&subject.instance.instance_uuid, uuid::Uuid::new_v4().simple().to_string())
    };
    let source = look.source.clone();
    let report = backup::run(look.vault, source, &options, &EngineClock(app), look.monitor)
        .await
        .map_err(|e| look.engine(&e))?;
    let mut seen_until = looked_from;
    if report.is_new {
        remember(app, subject, &report, DataStore::OperationalStore, "Default", "", expires_at).await?;
        seen_until = report.point.completed_at.0;
    }
    let range = match range {
        Some(range) => StoredRange { ends_at: range.ends_at.max(seen_until), ..range },
        None => StoredRange { starts_at: seen_until, ends_at: seen_until, is_open: true, journal: None },
    };
    Ok(Seen { ended: None, range, seen_until })
}
