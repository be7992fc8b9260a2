//! Restores in place: the protected account goes back to an instant, whole or in part. First a plan is made, and nothing is written if anything
//! that is needed is not there.

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::time::format_instant;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::restore::{self, InPlaceOptions, InPlacePlan, Instant, Journal, NameRange, RestoreState};
use blobkeep_vault::{Error, Timestamp, Vault};
use serde_json::json;

use super::{Prepared, RowJournal, Wanted, point};
use crate::App;
use crate::auth::Granted;
use crate::db;
use crate::jobs::fault::{Fault, of_engine};
use crate::jobs::instance::Subject;
use crate::jobs::operational::{range_at, restorable_ranges};
use crate::jobs::spec::{self, PointReference, RestoreSpec};
use crate::jobs::watch::Watch;

/// What an instant is restored from: the journal where the account keeps versions, else the state of the last look that was completed by then.
pub(super) async fn wanted_at(
    app: &App,
    subject: &Subject,
    vault: &Vault,
    time: i64,
    spec: &RestoreSpec,
) -> Result<Wanted, Fault> {
    let (granted, instance) = (Granted::service(), &subject.instance);
    let mut reader = app.db.read().await?;
    let ranges = restorable_ranges(&mut reader, &granted, instance, app.now()).await?;
    let range = range_at(&ranges, time)?;
    if range.is_exact {
        return Ok(Wanted::At(time));
    }
    let filter = PointFilter { until: Some(time), ..PointFilter::default() };
    let states = db::points::list(&mut reader, &granted, &instance.key, DataStore::OperationalStore, filter).await?;
    drop(reader);
    let Some(state) = range.state_at(&states, time) else {
        // It has expired between the two questions.
        let values = [("point", "of that time"), ("instance", instance.id.as_str())];
        return Err(ApiError::of(ErrorCode::UserErrorRestorePointNotFound, &values).into());
    };
    Ok(Wanted::State(Box::new(point(subject, vault, &state.id, spec).await?)))
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

/// What the engine says where containers that are needed are gone.
const CONTAINERS_GONE: &str = "a restore in place cannot bring back deleted containers: ";

/// Does the work. A restore that was interrupted goes on where it was.
pub(super) async fn run(
    app: &App,
    prepared: &Prepared,
    spec: &RestoreSpec,
    mut state: RestoreState,
    journal: &RowJournal<'_>,
    watch: &Watch,
) -> Result<RestoreState, Fault> {
    let options = InPlaceOptions { ranges: ranges(spec), scratch: app.config.data_dir.join("scratch") };
    let instance = prepared.subject.instance.instance_uuid.as_str();
    let wanted = match &prepared.wanted {
        Wanted::State(point) => Instant::Point(point),
        Wanted::At(time) => Instant::At { instance, at: Timestamp(*time) },
    };
    let engine = |e: Error| match e {
        Error::NotFound(reason) => match reason.strip_prefix(CONTAINERS_GONE) {
            Some(containers) => {
                let code = ErrorCode::UserErrorContainerNotFoundForPointInTimeRestore;
                ApiError::of(code, &[("containers", containers)]).into()
            }
            None => refused(spec, &reason),
        },
        other => of_engine(&other, &spec.target),
    };
    let (source, target) = (prepared.account.source.clone(), prepared.account.target.clone());
    if matches!(prepared.wanted, Wanted::At(_)) && !state.is_planned {
        let plan =
            restore::plan_in_place(&prepared.vault, wanted, source.clone(), &options, watch).await.map_err(engine)?;
        tell(&plan, watch);
        check(&plan, spec)?;
        state.is_planned = true;
        state.counts.planned.blobs = plan.copies + plan.unchanged;
        journal.save(&state).await.map_err(engine)?;
    }
    restore::run_in_place(&prepared.vault, wanted, source, target, &options, state, journal, watch)
        .await
        .map_err(engine)
}

fn tell(plan: &InPlacePlan, watch: &Watch) {
    let numbers = [
        ("PlannedCopies", plan.copies),
        ("PlannedRemovals", plan.removals),
        ("PlannedUnchanged", plan.unchanged),
        ("PlannedLeft", plan.left),
        ("MissingBlobs", plan.missing_in_all),
    ];
    watch.tell(|told| {
        told.details.extend(numbers.map(|(name, number)| (name.to_owned(), json!(number.to_string()))));
    });
}

/// Nothing is written back where anything is missing.
fn check(plan: &InPlacePlan, spec: &RestoreSpec) -> Result<(), Fault> {
    if plan.missing_in_all == 0 {
        return Ok(());
    }
    let mut named = plan.missing.join(", ");
    let others = plan.missing_in_all.saturating_sub(plan.missing.len() as u64);
    if others > 0 {
        named.push_str(&format!(" and {others} more"));
    }
    let reason = format!("what these blobs were then is not kept any more, and nothing was changed: {named}");
    Err(refused(spec, &reason))
}

fn refused(spec: &RestoreSpec, reason: &str) -> Fault {
    let time = match spec.point {
        PointReference::ByTime(time) => format_instant(time),
        PointReference::ById(_) => String::new(),
    };
    ApiError::of(ErrorCode::UserErrorInvalidRecoveryPointInTime, &[("time", &time), ("reason", reason)]).into()
}
