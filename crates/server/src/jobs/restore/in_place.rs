//! Restores in place: the protected account goes back to an instant, whole or in part. First a plan is made, and nothing is written if anything
//! that is needed is not there.

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::time::format_instant;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::restore::{self, InPlaceOptions, InPlacePlan, Instant, Journal, NameRange, RestoreState};
use blobkeep_vault::{Error, Timestamp, Unwatched, Vault};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Prepared, RowJournal, Wanted, point};
use crate::App;
use crate::auth::Granted;
use crate::db::{self, jobs::Job};
use crate::jobs::fault::{Fault, of_engine};
use crate::jobs::instance::Subject;
use crate::jobs::operational::{range_at, restorable_ranges};
use crate::jobs::spec::{self, PointReference, RestoreSpec};
use crate::jobs::watch::Watch;

/// What an instant was found to be restored from when the job began. A job that goes on asks no more: its instant may have left the retention
/// by then, and the account is rolled back half-way. What it needs stays as long as it has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Found {
    /// The journal: the account keeps versions.
    Exact,
    /// The state with this id.
    State(String),
}

/// Its place in the state of the job.
const FOUND: &str = "instant";

impl Found {
    /// What an earlier run of the job has found.
    pub(super) fn of(job: &Job) -> Option<Self> {
        job.state.get(FOUND).and_then(|kept| serde_json::from_value(kept.clone()).ok())
    }

    /// Keeps what this run has found.
    pub(super) async fn keep(wanted: &Wanted, watch: &Watch) -> Result<(), Fault> {
        let found = match wanted {
            Wanted::At(_) => Self::Exact,
            Wanted::State(point) => Self::State(point.job.clone()),
        };
        watch.set(FOUND, json!(found));
        watch.save().await
    }
}

/// What was found.
pub(super) async fn wanted(
    subject: &Subject,
    vault: &Vault,
    time: i64,
    spec: &RestoreSpec,
    found: Found,
) -> Result<Wanted, Fault> {
    Ok(match found {
        Found::Exact => Wanted::At(time),
        Found::State(id) => Wanted::State(Box::new(point(subject, vault, &id, spec).await?)),
    })
}

/// What an instant is restored from: the journal where the account keeps versions, else the state of the last look that was completed by then.
/// Its retention counts from when the restore was asked for: it may have waited since.
pub(super) async fn find(app: &App, subject: &Subject, time: i64, asked_at: i64) -> Result<Found, Fault> {
    let (granted, instance) = (Granted::service(), &subject.instance);
    let mut reader = app.db.read().await?;
    let ranges = restorable_ranges(&mut reader, &granted, instance, asked_at).await?;
    let range = range_at(&ranges, time)?;
    if range.is_exact {
        return Ok(Found::Exact);
    }
    let filter = PointFilter { until: Some(time), ..PointFilter::default() };
    let states = db::points::list(&mut reader, &granted, &instance.key, DataStore::OperationalStore, filter).await?;
    drop(reader);
    let Some(state) = range.state_at(&states, time) else {
        // It has expired between the two questions.
        let values = [("point", "of that time"), ("instance", instance.id.as_str())];
        return Err(ApiError::of(ErrorCode::UserErrorRestorePointNotFound, &values).into());
    };
    Ok(Found::State(state.id.clone()))
}

/// The names that are brought back; none: all.
fn ranges(spec: &RestoreSpec) -> Vec<NameRange> {
    match &spec.selection {
        spec::Selection::All => Vec::new(),
        spec::Selection::Ranges(parts) => parts
            .iter()
            .map(|part| {
                NameRange::new(part.min.as_deref().unwrap_or_default(), part.max.as_deref().unwrap_or_default())
            })
            .collect(),
        spec::Selection::Containers(parts) => parts
            .iter()
            .flat_map(|part| match part.prefixes.as_slice() {
                [] => vec![NameRange::container(&part.container)],
                prefixes => prefixes.iter().map(|prefix| prefix_range(&part.container, prefix)).collect(),
            })
            .collect(),
    }
}

/// The names of a container that start with a prefix.
fn prefix_range(container: &str, prefix: &str) -> NameRange {
    // The first name after all of them: the last character that has a successor, raised by one.
    let mut characters: Vec<char> = prefix.chars().collect();
    let mut max = NameRange::container(container).max;
    while let Some(last) = characters.pop() {
        let after = char::from_u32(u32::from(last) + 1).or((last == '\u{d7ff}').then_some('\u{e000}'));
        if let Some(after) = after {
            max = format!("{container}/{}{after}", characters.iter().collect::<String>());
            break;
        }
    }
    NameRange { min: format!("{container}/{prefix}"), max }
}

/// Does the work. A restore that was interrupted goes on where it was.
pub(super) async fn run(
    app: &App,
    prepared: &Prepared,
    spec: &RestoreSpec,
    mut state: RestoreState,
    journal: &RowJournal<'_>,
    watch: &Watch,
) -> Result<RestoreState, Fault> {
    let (options, wanted) = (options(app, prepared, spec), instant(prepared));
    let engine = |e| of_restore(e, spec);
    let (source, target) = (prepared.account.source.clone(), prepared.account.target.clone());
    if !state.is_planned {
        let plan =
            restore::plan_in_place(&prepared.vault, wanted, source.clone(), &options, watch).await.map_err(engine)?;
        tell(&plan, watch);
        plan.check().map_err(engine)?;
        state.is_planned = true;
        state.counts.planned.blobs = plan.copies + plan.unchanged;
        journal.save(&state).await.map_err(engine)?;
    }
    restore::run_in_place(&prepared.vault, wanted, source, target, &options, state, journal, watch)
        .await
        .map_err(engine)
}

/// Looks whether it could begin, without listing the account.
pub(super) async fn validate(app: &App, prepared: &Prepared, spec: &RestoreSpec) -> Result<(), Fault> {
    let (options, source) = (options(app, prepared, spec), prepared.account.source.clone());
    restore::validate_in_place(&prepared.vault, instant(prepared), source, &options, &Unwatched)
        .await
        .map_err(|e| of_restore(e, spec))
}

fn options(app: &App, prepared: &Prepared, spec: &RestoreSpec) -> InPlaceOptions {
    let is_whole_account = match &prepared.wanted {
        Wanted::State(point) => {
            point.labels.get("store").is_some_and(|store| store == DataStore::OperationalStore.as_str())
        }
        Wanted::At(_) => true,
    };
    InPlaceOptions { ranges: ranges(spec), is_whole_account, scratch: app.config.data_dir.join("scratch") }
}

fn instant(prepared: &Prepared) -> Instant<'_> {
    match &prepared.wanted {
        Wanted::State(point) => Instant::Point(point),
        Wanted::At(time) => {
            Instant::At { instance: prepared.subject.instance.instance_uuid.as_str(), at: Timestamp(*time) }
        }
    }
}

/// The engine's error as a caller of a restore in place is told of it.
fn of_restore(error: Error, spec: &RestoreSpec) -> Fault {
    match error {
        Error::ContainersGone { containers } => {
            let code = ErrorCode::UserErrorContainerNotFoundForPointInTimeRestore;
            ApiError::of(code, &[("containers", &containers.join(", "))]).into()
        }
        Error::VersionsGone { blobs, in_all } => {
            let others = in_all.saturating_sub(blobs.len() as u64);
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            let named = blobs.join(", ");
            let reason =
                format!("what these blobs were then is not kept any more, and nothing was changed: {named}{more}");
            refused(spec, &reason)
        }
        Error::NotFound(reason) => refused(spec, &reason),
        other => of_engine(&other, &spec.target),
    }
}

fn tell(plan: &InPlacePlan, watch: &Watch) {
    let numbers = [
        ("PlannedCopies", plan.copies),
        ("PlannedRemovals", plan.removals),
        ("PlannedUnchanged", plan.unchanged),
        ("PlannedLeft", plan.left),
        ("MissingBlobs", plan.missing_in_all),
        ("LostBlobs", plan.lost_in_all),
    ];
    watch.tell(|told| {
        told.details.extend(numbers.map(|(name, number)| (name.to_owned(), json!(number.to_string()))));
    });
}

fn refused(spec: &RestoreSpec, reason: &str) -> Fault {
    let time = match spec.point {
        PointReference::ByTime(time) => format_instant(time),
        PointReference::ById(_) => String::new(),
    };
    ApiError::of(ErrorCode::UserErrorInvalidRecoveryPointInTime, &[("time", &time), ("reason", reason)]).into()
}
