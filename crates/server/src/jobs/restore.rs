//! The job that brings a state back, and its validation.

mod in_place;

use std::sync::Arc;

use async_trait::async_trait;
use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::id::fold;
use blobkeep_arm::job::JobStatus;
use blobkeep_arm::restore::RecoveryOption;
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, ContainerSelection, Journal, RestoreOptions, RestoreState, Selection};
use blobkeep_vault::{Error, OnConflict, Target, Vault};
use serde_json::json;

use super::accounts;
use super::backup::warning;
use super::fault::{Fault, of_engine};
use super::instance::{Subject, check_rights};
use super::spec::{self, PointReference, PointStamp, RestoreSpec, ValidateRestoreSpec};
use super::watch::{NeededRights, Watch};
use super::worker::Done;
use crate::App;
use crate::auth::Granted;
use crate::db::locks::{Lock, LockLevel};
use crate::db::{self, jobs::Job};

/// What a vault's identity must be allowed on the account that is written to.
const RESTORE_ACTIONS: &[&str] = &[
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/write",
];
/// The same for a restore in place.
const IN_PLACE_ACTIONS: &[&str] = &[
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/restoreBlobRanges/action",
];

/// The state that is brought back.
enum Wanted {
    /// That of a point.
    State(Box<Point>),
    /// That of an instant, of an account that keeps versions; microseconds.
    At(i64),
}

/// A restore with everything that belongs to it, open.
struct Prepared {
    subject: Subject,
    vault: Arc<Vault>,
    wanted: Wanted,
    account: accounts::OpenAccount,
    actions: &'static [&'static str],
}

async fn prepare(app: &App, spec: &RestoreSpec) -> Result<Prepared, Fault> {
    prepare_job(app, spec, None, app.now()).await
}

/// The same for a job that was asked for at an instant, and knows what it brings back if it has begun before.
async fn prepare_job(
    app: &App,
    spec: &RestoreSpec,
    found: Option<in_place::Found>,
    asked_at: i64,
) -> Result<Prepared, Fault> {
    let subject = Subject::load(app, &spec.instance_key).await?;
    let target_key = fold(spec.target.trim_end_matches('/'));
    let actions = if spec.in_place { IN_PLACE_ACTIONS } else { RESTORE_ACTIONS };
    check_rights(app, &subject, actions, &spec.target).await?;
    check_unlocked(app, &target_key, &spec.target).await?;
    let account = accounts::open(app, &target_key, &spec.target).await?;
    let vault = app.vaults.for_job(app, &subject.vault.vault_uuid).await?;
    let wanted = match &spec.point {
        PointReference::ById(id) => {
            let id = id.replace('-', "").to_lowercase();
            Wanted::State(Box::new(point(&subject, &vault, &id, spec).await?))
        }
        PointReference::ByTime(time) => {
            let found = match found {
                Some(found) => found,
                None => in_place::find(app, &subject, *time, asked_at).await?,
            };
            in_place::wanted(&subject, &vault, *time, spec, found).await?
        }
    };
    Ok(Prepared { subject, vault, wanted, account, actions })
}

/// Nothing is written where somebody put a read-only lock.
async fn check_unlocked(app: &App, target_key: &str, target: &str) -> Result<(), Fault> {
    let mut reader = app.db.read().await?;
    let locks = db::locks::around(&mut reader, &Granted::service(), target_key).await?;
    drop(reader);
    let stands = |lock: &&Lock| lock.level == LockLevel::ReadOnly && lock.covers(target_key);
    let locked: Vec<&str> = locks.iter().filter(stands).map(|lock| lock.scope.as_str()).collect();
    if locked.is_empty() {
        return Ok(());
    }
    let values = [("account", target), ("locked", &locked.join(", "))];
    Err(ApiError::of(ErrorCode::UserErrorStorageAccountInLockedState, &values).into())
}

async fn point(subject: &Subject, vault: &Vault, id: &str, spec: &RestoreSpec) -> Result<Point, Fault> {
    Point::get(vault, &subject.instance.instance_uuid, id).await.map_err(|e| match e {
        Error::NotFound(_) => {
            let values = [("point", id), ("instance", &subject.instance.id)];
            ApiError::of(ErrorCode::UserErrorRestorePointNotFound, &values).into()
        }
        other => of_engine(&other, &spec.target),
    })
}

fn selection(spec: &RestoreSpec) -> Selection {
    let containers = match &spec.selection {
        spec::Selection::Containers(parts) => parts
            .iter()
            .map(|part| ContainerSelection {
                name: part.container.clone(),
                prefixes: part.prefixes.clone(),
                rename_to: part.rename_to.clone(),
                ..ContainerSelection::default()
            })
            .collect(),
        spec::Selection::All | spec::Selection::Ranges(_) => Vec::new(),
    };
    Selection { containers, ..Selection::default() }
}

/// What happens to blobs and containers that are there.
fn on_conflict(spec: &RestoreSpec) -> OnConflict {
    match spec.option {
        RecoveryOption::FailIfExists => OnConflict::Fail,
        RecoveryOption::Skip => OnConflict::Skip,
        RecoveryOption::Overwrite => OnConflict::Overwrite,
        RecoveryOption::OverwriteIfNewer => OnConflict::Newer,
    }
}

/// Looks whether a restore would work: rights, point, target, clashes, names.
pub(super) async fn validate(app: &Arc<App>, _job: &Job, spec: &ValidateRestoreSpec) -> Result<Done, Fault> {
    let prepared = prepare(app, &spec.restore).await?;
    match &prepared.wanted {
        Wanted::State(point) if !spec.restore.in_place => {
            plan(&prepared, point, &spec.restore, &RestoreState::default()).await?;
        }
        // In place nothing is in the way; whether every byte is there is looked at by the job, before it writes anything.
        _ => in_place::validate(app, &prepared, &spec.restore).await?,
    }
    Ok(Done::completed())
}

/// Refuses, with the names, a restore whose containers are there already.
async fn plan(prepared: &Prepared, point: &Point, spec: &RestoreSpec, state: &RestoreState) -> Result<(), Fault> {
    let engine = |e: Error| match e {
        Error::NotFound(reason) => {
            ApiError::of(ErrorCode::UserErrorContainerNotFoundForPointInTimeRestore, &[("containers", &reason)]).into()
        }
        other => of_engine(&other, &spec.target),
    };
    let options =
        RestoreOptions { selection: selection(spec), on_conflict: OnConflict::Overwrite, ..RestoreOptions::default() };
    let target: &dyn Target = prepared.account.target.as_ref();
    let plan = restore::plan(&prepared.vault, point, target, &options, state).await.map_err(engine)?;
    let mut clashes = Vec::new();
    for container in &plan.containers {
        let is_there = target.container(&container.name).await.map_err(|e| engine(e.into()))?.is_some();
        let must_be_new = on_conflict(spec) == OnConflict::Fail;
        if must_be_new && is_there && !state.containers.contains(&container.name) {
            clashes.push(container.name.clone());
        }
    }
    if clashes.is_empty() {
        return Ok(());
    }
    let clashes = clashes.join(", ");
    Err(ApiError::of(ErrorCode::UserErrorTargetContainersExistOnAccount, &[("containers", &clashes)]).into())
}

/// Keeps the state of a restore in its job's row.
struct RowJournal<'a>(&'a Watch);

#[async_trait]
impl Journal for RowJournal<'_> {
    async fn save(&self, state: &RestoreState) -> Result<(), Error> {
        let text = serde_json::to_value(state).map_err(|e| Error::Internal(format!("state of a restore: {e}")))?;
        self.0.set("restore", text);
        match self.0.save().await {
            Ok(()) => Ok(()),
            Err(Fault::Final(error) | Fault::Passing(error)) => Err(Error::Internal(error.message)),
            Err(Fault::Cancelled | Fault::Yielded) => Err(Error::Cancelled("the lease is lost".to_owned())),
        }
    }
}

/// Does the job.
pub(super) async fn run(app: &Arc<App>, job: &Job, spec: &RestoreSpec, watch: &Watch) -> Result<Done, Fault> {
    let outcome = bring_back(app, job, spec, watch).await;
    if spec.in_place {
        // What it has changed, and what was not looked at meanwhile, is looked at as soon as it has ended.
        let mut writer = app.db.write().await?;
        db::instances::set_look_at(&mut writer, &Granted::service(), &spec.instance_key, Some(app.now())).await?;
        writer.commit().await?;
    }
    outcome
}

async fn bring_back(app: &Arc<App>, job: &Job, spec: &RestoreSpec, watch: &Watch) -> Result<Done, Fault> {
    let found = in_place::Found::of(job);
    let is_new = found.is_none();
    let prepared = prepare_job(app, spec, found, job.created_at).await?;
    if spec.in_place && is_new {
        in_place::Found::keep(&prepared.wanted, watch).await?;
    }
    watch.need(NeededRights {
        principal_id: prepared.subject.vault.principal_id.clone().unwrap_or_default(),
        actions: prepared.actions.to_vec(),
        scopes: vec![spec.target.clone()],
    });
    let stamp = match &prepared.wanted {
        Wanted::State(point) => PointStamp { id: point.job.clone(), time: Some(point.started_at.0) },
        // An instant is no point, and has no id.
        Wanted::At(time) => PointStamp { id: String::new(), time: Some(*time) },
    };
    watch.tell(|told| told.source_point = Some(stamp));
    let state: RestoreState = match job.state.get("restore") {
        Some(kept) => serde_json::from_value(kept.clone()).unwrap_or_default(),
        None => RestoreState::default(),
    };
    let journal = RowJournal(watch);
    let state = match &prepared.wanted {
        Wanted::State(point) if !spec.in_place => {
            plan(&prepared, point, spec, &state).await?;
            let tier = spec.tier.map(|tier| tier.as_str().to_owned());
            let options = RestoreOptions { selection: selection(spec), on_conflict: on_conflict(spec), tier };
            let target = prepared.account.target.clone();
            restore::run(&prepared.vault, point, target, &options, state, &journal, watch)
                .await
                .map_err(|e| of_engine(&e, &spec.target))?
        }
        _ => in_place::run(app, &prepared, spec, state, &journal, watch).await?,
    };
    let counts = &state.counts;
    watch.tell(|told| {
        told.transferred_bytes = Some(counts.written_bytes);
        told.warnings = counts.examples.iter().map(|example| warning(&spec.target, example)).collect();
        let numbers = [
            ("WrittenBlobs", counts.written_blobs),
            ("WrittenBytes", counts.written_bytes),
            ("SkippedBlobs", counts.skipped_blobs),
            ("RemovedBlobs", counts.removed_blobs),
            ("UnchangedBlobs", counts.unchanged_blobs),
            ("CreatedContainers", counts.created_containers),
        ];
        told.details.extend(numbers.map(|(name, number)| (name.to_owned(), json!(number.to_string()))));
    });
    let is_clean = counts.skipped_blobs == 0 && counts.lost_properties.is_empty();
    Ok(Done { status: if is_clean { JobStatus::Completed } else { JobStatus::CompletedWithWarnings } })
}
