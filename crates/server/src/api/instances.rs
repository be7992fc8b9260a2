//! Backup instances: validate, configure, change, back up on demand, delete.
//!
//! What can be known from the database is checked here and answered at once; whether the vault may and can reach the account is found
//! out by the job, and ends the operation. The checks of a validation and of a PUT are the same.

use std::sync::Arc;

use blobkeep_arm::id::{fold, fold_location};
use blobkeep_arm::instance::{BackupInstance, Deletion, InstanceView, ProtectionState, Selection, check_name};
use blobkeep_arm::restore::AdhocRequest;
use blobkeep_arm::vault::{FREE_SOFT_DELETE_DAYS, ImmutabilityState, SoftDeleteState};
use blobkeep_arm::word::{BLOB_DATASOURCE, DataStore, blob_datasource_type};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use http::Method;
use serde_json::Value;
use uuid::Uuid;

use super::operations::{self, Beginning};
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::auth::{self, Rights};
use crate::config::Waiting;
use crate::db::instances::StoredInstance;
use crate::db::jobs::NewJob;
use crate::db::operations::OperationState;
use crate::db::policies::StoredPolicy;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{
    BackupSpec, BackupTrigger, ConfigureSpec, DeleteInstanceSpec, JobSpec, UpdateInstanceSpec, ValidateBackupSpec,
};

const READ: &str = "Microsoft.DataProtection/backupVaults/backupInstances/read";
const ACCOUNT_READ: &str = "Microsoft.Storage/storageAccounts/read";
const PATTERN: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}";

/// From this version on a deleted instance is kept even if the vault's soft delete is Off ("secure by default").
const ALWAYS_SOFT_DELETED_SINCE: &str = "2025-09-01";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupInstances_ValidateForBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/validateForBackup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/validateForBackup/action"),
        handler: |app, request| Box::pin(validate(app, request)),
    },
    Route {
        operation: "BackupInstances_ValidateForModifyBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/validateForModifyBackup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/validateForModifyBackup/action"),
        handler: |app, request| Box::pin(validate(app, request)),
    },
    Route {
        operation: "BackupInstances_CreateOrUpdate",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/write"),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "BackupInstances_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "BackupInstances_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "BackupInstances_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "BackupInstancesExtensionRouting_List",
        method: Method::GET,
        pattern: "/{*scope}/providers/Microsoft.DataProtection/backupInstances",
        access: Access::SignedIn,
        handler: |app, request| Box::pin(list_of_resource(app, request)),
    },
    Route {
        operation: "BackupInstances_AdhocBackup",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/backup",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/backup/action"),
        handler: |app, request| Box::pin(backup(app, request)),
    },
];

/// The id of the instance that the path names.
pub(super) fn instance_id(request: &Request) -> ResourceId {
    vault_id(request).child("backupInstances", request.param("instance"))
}

/// The instance that the path names; deleted ones are not found.
///
/// # Errors
/// 404 `ResourceNotFound`, for the vault first.
pub(super) async fn require(conn: &mut Conn, request: &Request) -> ApiResult<(Vault, StoredInstance)> {
    let vault = vaults::require(conn, request).await?;
    let id = instance_id(request);
    let found = db::instances::get(conn, request.granted()?, &id.folded()).await?;
    let found = found.filter(|stored| stored.state != ProtectionState::SoftDeleted);
    Ok((vault, found.ok_or_else(|| not_found(&id))?))
}

/// The instance as answered.
pub(super) fn render(stored: &StoredInstance) -> Value {
    InstanceView {
        id: &stored.id,
        name: &stored.name,
        instance: &stored.instance,
        state: stored.state,
        provisioning_state: &stored.provisioning_state,
        error: stored.error.as_ref(),
        deletion: None,
    }
    .render()
}

/// 409: the instance's state does not allow it.
pub(super) fn wrong_state(stored: &StoredInstance, operation: &str) -> ApiError {
    ApiError::of(
        ErrorCode::UserErrorOperationNotAllowedInState,
        &[("instance", &stored.name), ("state", stored.state.as_str()), ("operation", operation)],
    )
}

/// The caller must be able to read a storage account that its request names.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`, whether or not the account exists.
pub(super) async fn authorize_account(app: &App, request: &Request, account: &ResourceId) -> ApiResult<()> {
    let scope = account.to_string();
    if auth::may(app, &request.caller.object_id, ACCOUNT_READ, &scope).await? {
        return Ok(());
    }
    let granted = request.granted()?;
    Err(ApiError::of(
        ErrorCode::LinkedAuthorizationFailed,
        &[
            ("object", &request.caller.object_id),
            ("action", granted.action()),
            ("scope", &request.path.id.to_string()),
            ("linked_action", ACCOUNT_READ),
            ("linked_scope", &scope),
        ],
    ))
}

/// 400 for an id that is not the id of a storage account.
pub(super) fn bad_account_id(id: &str, parameter: &str) -> ApiError {
    ApiError::of(
        ErrorCode::UserErrorInvalidResourceUriInRequest,
        &[("id", id), ("parameter", parameter), ("reason", "it is not the id of a storage account")],
    )
}

fn invalid(parameter: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &[("parameter", parameter), ("reason", reason)])
        .with_target(parameter)
}

/// An instance that passed the checks.
struct Checked {
    instance: BackupInstance,
    policy: StoredPolicy,
    datasource_key: String,
}

/// What can be said before the database is asked: the datasource is a storage account, and the caller may read it.
async fn check_datasource(app: &App, request: &Request, instance: &BackupInstance) -> ApiResult<ResourceId> {
    let source = &instance.data_source_info;
    if !source.datasource_type.is_empty() && blob_datasource_type(&source.datasource_type).is_none() {
        return Err(ApiError::of(
            ErrorCode::UserErrorUnsupportedStorageAccountType,
            &[("datasource", &source.resource_id), ("kind", &source.datasource_type)],
        ));
    }
    let parameter = "dataSourceInfo.resourceID";
    let account = source.account(parameter).map_err(|_| bad_account_id(&source.resource_id, parameter))?;
    authorize_account(app, request, &account).await?;
    Ok(account)
}

/// Everything else that is answered at once. `own_key` is the instance that the request is about, if it exists.
async fn check(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    mut instance: BackupInstance,
    account: &ResourceId,
    own_key: Option<&str>,
) -> ApiResult<Checked> {
    let datasource_key = account.folded();
    check_unprotected(conn, request, &datasource_key, own_key).await?;
    let policy = policy_of(conn, request, vault, &instance).await?;
    complete(conn, request, &mut instance, &policy, &datasource_key).await?;
    check_location(vault, &instance)?;
    check_selection(&instance, &policy)?;
    Ok(Checked { instance, policy, datasource_key })
}

async fn check_unprotected(
    conn: &mut Conn,
    request: &Request,
    datasource_key: &str,
    own_key: Option<&str>,
) -> ApiResult<()> {
    let granted = request.granted()?;
    let Some(other) = db::instances::by_datasource(conn, granted, datasource_key).await? else { return Ok(()) };
    if own_key == Some(other.key.as_str()) {
        return Ok(());
    }
    let vault = db::vaults::get(conn, granted, &other.vault_key).await?;
    let vault_id = vault.map_or(other.vault_key, |vault| vault.id);
    Err(ApiError::of(
        ErrorCode::UserErrorDppDatasourceAlreadyProtected,
        &[("vault", &vault_id), ("instance", &other.name)],
    ))
}

async fn policy_of(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    instance: &BackupInstance,
) -> ApiResult<StoredPolicy> {
    let parameter = "policyInfo.policyId";
    let policy_id = instance.policy_info.policy_id.trim();
    let id = ResourceId::parse(policy_id)
        .ok()
        .filter(|id| id.is_type("Microsoft.DataProtection/backupVaults/backupPolicies"))
        .ok_or_else(|| invalid(parameter, &format!("'{policy_id}' is not the id of a backup policy")))?;
    let is_ours = id.parent().is_some_and(|parent| parent.folded() == vault.key);
    if !is_ours {
        return Err(invalid(
            parameter,
            &format!("'{policy_id}' is a policy of another vault; use one of the vault {}", vault.name),
        ));
    }
    let found = db::policies::get(conn, request.granted()?, &id.folded()).await?;
    found.ok_or_else(|| invalid(parameter, &format!("the policy '{policy_id}' does not exist")))
}

/// Fills in the datasource's type and region where the request is silent.
async fn complete(
    conn: &mut Conn,
    request: &Request,
    instance: &mut BackupInstance,
    policy: &StoredPolicy,
    datasource_key: &str,
) -> ApiResult<()> {
    let policy_type = policy.policy.datasource_types.first().map_or(BLOB_DATASOURCE, String::as_str);
    let source = &mut instance.data_source_info;
    if source.datasource_type.is_empty() {
        policy_type.clone_into(&mut source.datasource_type);
    }
    if source.datasource_type != policy_type {
        return Err(invalid(
            "dataSourceInfo.datasourceType",
            &format!("it is {}, but the policy is for {policy_type}", source.datasource_type),
        ));
    }
    let account = db::storage_accounts::get(conn, request.granted()?, datasource_key).await?;
    if let Some(account) = account {
        let is_same = fold_location(&source.resource_location) == fold_location(&account.location);
        if !is_same {
            source.resource_location = account.location;
        }
    }
    Ok(())
}

fn check_location(vault: &Vault, instance: &BackupInstance) -> ApiResult<()> {
    let location = &instance.data_source_info.resource_location;
    if location.is_empty() || fold_location(location) == fold_location(&vault.location) {
        return Ok(());
    }
    Err(ApiError::of(
        ErrorCode::UserErrorDatasourceAndBackupVaultLocationMismatch,
        &[("datasource_location", location), ("vault_location", &vault.location)],
    ))
}

/// Nothing may look protected that no rule of the policy covers.
fn check_selection(instance: &BackupInstance, policy: &StoredPolicy) -> ApiResult<()> {
    let target = "policyInfo.policyParameters.backupDatasourceParametersList";
    let is_vaulted = policy.policy.is_vaulted();
    match instance.selection() {
        Selection::Containers(names) if names.is_empty() => {
            Err(ApiError::of(ErrorCode::UserErrorNoContainersSelectedForOperation, &[]))
        }
        Selection::Containers(_) | Selection::AllExcept(_) if !is_vaulted => Err(invalid(
            target,
            &format!("the policy '{}' has no backup rule for the vault, so containers cannot be selected", policy.name),
        )),
        Selection::None if is_vaulted && policy.policy.operational_retention().is_none() => {
            Err(ApiError::of(ErrorCode::UserErrorNoContainersSelectedForOperation, &[]).with_target(target))
        }
        _ => Ok(()),
    }
}

/// Adds a job of this request to the queue and returns its id.
pub(super) async fn enqueue(
    conn: &mut Conn,
    request: &Request,
    vault_key: &str,
    spec: &JobSpec,
    operation_id: Option<&str>,
) -> ApiResult<String> {
    let id = Uuid::new_v4().to_string();
    let correlation_id = request.correlation_id.to_string();
    let job = NewJob {
        id: &id,
        vault_key,
        spec,
        operation_id,
        principal_id: &request.caller.object_id,
        correlation_id: &correlation_id,
        now: request.now,
    };
    db::jobs::enqueue(conn, &job).await?;
    Ok(id)
}

/// An operation that goes on after its request was answered.
fn running<'a>(vault: &'a Vault, waiting: Waiting, resource_key: Option<&'a str>) -> Beginning<'a> {
    Beginning { vault, waiting, state: OperationState::Inprogress, job_id: None, resource_key }
}

/// Both validations: of a new instance, and of a change of the one that the path names.
async fn validate(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let instance = BackupInstance::parse_validation(&request.json()?)?;
    let account = check_datasource(&app, &request, &instance).await?;
    let mut tx = app.db.write().await?;
    let (vault, own_key) = if request.param("instance").is_empty() {
        (vaults::require(&mut tx, &request).await?, None)
    } else {
        let (vault, stored) = require(&mut tx, &request).await?;
        (vault, Some(stored.key))
    };
    let checked = check(&mut tx, &request, &vault, instance, &account, own_key.as_deref()).await?;
    let spec = JobSpec::ValidateBackup(ValidateBackupSpec {
        vault_key: vault.key.clone(),
        instance: checked.instance,
        policy_key: checked.policy.key,
        instance_key: own_key.clone(),
    });
    let beginning = running(&vault, Waiting::Validate, own_key.as_deref());
    let operation = operations::begin(&mut tx, &request, beginning).await?;
    enqueue(&mut tx, &request, &vault.key, &spec, Some(&operation)).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = instance_id(&request);
    check_name(id.name()).map_err(|rule| {
        ApiError::of(
            ErrorCode::InvalidResourceName,
            &[("name", id.name()), ("kind", "Microsoft.DataProtection/backupVaults/backupInstances"), ("rule", rule)],
        )
    })?;
    let instance = BackupInstance::parse_put(&request.json()?)?;
    let account = check_datasource(&app, &request, &instance).await?;
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let existing = db::instances::get(&mut tx, request.granted()?, &id.folded()).await?;
    if let Some(existing) = &existing
        && matches!(existing.state, ProtectionState::SoftDeleted | ProtectionState::SoftDeleting)
    {
        return Err(wrong_state(existing, "configure"));
    }
    let own_key = existing.as_ref().map(|existing| existing.key.as_str());
    let checked = check(&mut tx, &request, &vault, instance, &account, own_key).await?;
    let (stored, operation) = match existing {
        None => create(&mut tx, &request, &vault, &id, checked).await?,
        Some(existing) => change(&mut tx, &request, &vault, existing, checked).await?,
    };
    tx.commit().await?;
    let answer = Answer::created(render(&stored));
    Ok(operations::with_status_url(answer, &app, &request, &vault, &operation, Waiting::Create))
}

async fn create(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    id: &ResourceId,
    checked: Checked,
) -> ApiResult<(StoredInstance, String)> {
    let stored = StoredInstance {
        key: id.folded(),
        id: format!("{}/backupInstances/{}", vault.id, id.name()),
        name: id.name().to_owned(),
        vault_key: vault.key.clone(),
        instance_uuid: Uuid::new_v4().to_string(),
        datasource_key: checked.datasource_key,
        instance: checked.instance,
        policy_key: checked.policy.key,
        state: ProtectionState::ConfiguringProtection,
        provisioning_state: "Provisioning".to_owned(),
        error: None,
        deletion: None,
        configured_at: None,
        next_run_at: None,
        created_at: request.now,
        updated_at: request.now,
    };
    db::instances::create(conn, request.granted()?, &stored).await?;
    let operation = configure(conn, request, vault, &stored.key).await?;
    Ok((stored, operation))
}

/// Begins the operation and the job that bring an instance under protection.
pub(super) async fn configure(conn: &mut Conn, request: &Request, vault: &Vault, key: &str) -> ApiResult<String> {
    let operation = operations::begin(conn, request, running(vault, Waiting::Create, Some(key))).await?;
    let spec = JobSpec::Configure(ConfigureSpec { instance_key: key.to_owned() });
    enqueue(conn, request, &vault.key, &spec, Some(&operation)).await?;
    Ok(operation)
}

/// A PUT on an instance that is there: nothing, a repeated attempt, or a change.
async fn change(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    mut stored: StoredInstance,
    checked: Checked,
) -> ApiResult<(StoredInstance, String)> {
    if stored.datasource_key != checked.datasource_key {
        return Err(invalid(
            "dataSourceInfo.resourceID",
            "the datasource of a backup instance cannot be changed; create another backup instance",
        ));
    }
    let granted = request.granted()?;
    let is_same = stored.policy_key == checked.policy.key && same_content(&stored.instance, &checked.instance);
    match stored.state {
        ProtectionState::ConfiguringProtectionFailed | ProtectionState::ProtectionError => {
            let key = stored.key.clone();
            db::instances::apply_update(conn, granted, &key, &checked.instance, &checked.policy.key, request.now)
                .await?;
            stored.state = ProtectionState::ConfiguringProtection;
            "Provisioning".clone_into(&mut stored.provisioning_state);
            db::instances::set_state(conn, granted, &key, stored.state, "Provisioning", None, request.now).await?;
            stored.instance = checked.instance;
            stored.error = None;
            let operation = configure(conn, request, vault, &key).await?;
            Ok((stored, operation))
        }
        ProtectionState::ConfiguringProtection | ProtectionState::UpdatingProtection if is_same => {
            // The same request again, while the first one is being worked on: the same operation.
            let operation = running_operation(conn, request, vault, &stored).await?;
            Ok((stored, operation))
        }
        _ if is_same => {
            let beginning =
                Beginning { state: OperationState::Succeeded, ..running(vault, Waiting::Create, Some(&stored.key)) };
            let operation = operations::begin(conn, request, beginning).await?;
            Ok((stored, operation))
        }
        ProtectionState::ProtectionConfigured => {
            stored.state = ProtectionState::UpdatingProtection;
            "Updating".clone_into(&mut stored.provisioning_state);
            db::instances::set_state(conn, granted, &stored.key, stored.state, "Updating", None, request.now).await?;
            let operation =
                operations::begin(conn, request, running(vault, Waiting::Create, Some(&stored.key))).await?;
            let spec = JobSpec::UpdateInstance(UpdateInstanceSpec {
                instance_key: stored.key.clone(),
                instance: checked.instance,
                policy_key: checked.policy.key,
            });
            enqueue(conn, request, &vault.key, &spec, Some(&operation)).await?;
            Ok((stored, operation))
        }
        _ => Err(wrong_state(&stored, "configure")),
    }
}

/// Two instances say the same, ids compared without case.
fn same_content(one: &BackupInstance, other: &BackupInstance) -> bool {
    one.friendly_name == other.friendly_name
        && fold(&one.policy_info.policy_id) == fold(&other.policy_info.policy_id)
        && one.policy_info.policy_parameters.clone().unwrap_or_default()
            == other.policy_info.policy_parameters.clone().unwrap_or_default()
}

/// The operation of the unfinished job that configures or changes the instance; a new one that has ended if there is none.
async fn running_operation(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    stored: &StoredInstance,
) -> ApiResult<String> {
    for kind in ["update_instance", "configure"] {
        let jobs = db::jobs::unfinished(conn, &stored.key, kind).await?;
        if let Some(operation) = jobs.into_iter().next_back().and_then(|job| job.operation_id) {
            return Ok(operation);
        }
    }
    let beginning =
        Beginning { state: OperationState::Succeeded, ..running(vault, Waiting::Create, Some(&stored.key)) };
    operations::begin(conn, request, beginning).await
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let (_, stored) = require(&mut reader, &request).await?;
    Ok(Answer::ok(render(&stored)))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let stored = db::instances::list(&mut reader, request.granted()?, &vault.key, false).await?;
    Ok(Answer::ok(envelope::list(stored.iter().map(render).collect(), None)))
}

/// The instances that protect the resource in front of the path, as far as the caller may read them.
async fn list_of_resource(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let key = fold(request.param("scope"));
    // The right to read an instance is looked at for the one that is found; until then nothing is told.
    let granted = auth::Granted::service();
    let mut reader = app.db.read().await?;
    let found = db::instances::by_datasource(&mut reader, &granted, &key).await?;
    let readable = found.iter().filter(|stored| rights.allow(READ, &stored.key));
    Ok(Answer::ok(envelope::list(readable.map(render).collect(), None)))
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let key = instance_id(&request).folded();
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let Some(stored) = db::instances::get(&mut tx, granted, &key).await? else {
        return Ok(Answer::no_content());
    };
    if stored.state == ProtectionState::SoftDeleted {
        return Ok(Answer::no_content());
    }
    let jobs = db::jobs::unfinished(&mut tx, &key, "delete_instance").await?;
    if let Some(operation) = jobs.into_iter().next_back().and_then(|job| job.operation_id) {
        return Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Delete));
    }
    check_deletable(&mut tx, &request, &vault, &stored).await?;
    let operation = begin_delete(&mut tx, &request, &vault, &stored).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Delete))
}

async fn check_deletable(conn: &mut Conn, request: &Request, vault: &Vault, stored: &StoredInstance) -> ApiResult<()> {
    if vault.properties.immutability() == ImmutabilityState::Disabled {
        return Ok(());
    }
    if db::points::count_unexpired(conn, request.granted()?, &stored.key, request.now).await? == 0 {
        return Ok(());
    }
    Err(ApiError::of(
        ErrorCode::UserErrorImmutableVaultOperationNotAllowed,
        &[("vault", &vault.id), ("operation", "deleting backup data before it expires")],
    ))
}

async fn begin_delete(conn: &mut Conn, request: &Request, vault: &Vault, stored: &StoredInstance) -> ApiResult<String> {
    let granted = request.granted()?;
    let is_off = vault.properties.soft_delete_state() == Some(SoftDeleteState::Off);
    let is_kept = !is_off || request.api_version.is_at_least(ALWAYS_SOFT_DELETED_SINCE);
    let days = |days: u32| i64::from(days) * MICROS_PER_DAY;
    let deletion = is_kept.then(|| Deletion {
        deleted_at: request.now,
        billing_end: request.now + days(FREE_SOFT_DELETE_DAYS),
        purge_at: request.now + days(vault.properties.soft_delete_days()),
        activity_id: request.correlation_id.to_string(),
    });
    db::instances::set_deletion(conn, granted, &stored.key, deletion.as_ref()).await?;
    let state = ProtectionState::SoftDeleting;
    db::instances::set_state(conn, granted, &stored.key, state, "Updating", None, request.now).await?;
    db::instances::set_next_run(conn, granted, &stored.key, None).await?;
    for kind in ["backup", "operational"] {
        for job in db::jobs::unfinished(conn, &stored.key, kind).await? {
            db::jobs::request_cancel(conn, &job.id, request.now).await?;
        }
    }
    let operation = operations::begin(conn, request, running(vault, Waiting::Delete, Some(&stored.key))).await?;
    let purge_at = deletion.map(|deletion| deletion.purge_at);
    let spec = JobSpec::DeleteInstance(DeleteInstanceSpec { instance_key: stored.key.clone(), purge_at });
    enqueue(conn, request, &vault.key, &spec, Some(&operation)).await?;
    Ok(operation)
}

/// A backup on demand. The operation ends as soon as the job is accepted; while one backup runs, equal further ones share one successor.
async fn backup(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = AdhocRequest::parse(&request.json()?)?;
    let mut tx = app.db.write().await?;
    let (vault, stored) = require(&mut tx, &request).await?;
    if !matches!(stored.state, ProtectionState::ProtectionConfigured | ProtectionState::UpdatingProtection) {
        return Err(wrong_state(&stored, "backup"));
    }
    let policy = db::policies::get(&mut tx, request.granted()?, &stored.policy_key).await?;
    let policy = policy.ok_or_else(|| invalid("policyInfo.policyId", "the policy of the instance does not exist"))?;
    let spec = adhoc_spec(&stored, &policy, &wanted)?;
    let waiting = db::jobs::unfinished(&mut tx, &stored.key, "backup").await?;
    let joined = waiting.into_iter().find(|job| job.started_at.is_none() && job.spec == spec);
    let job_id = match joined {
        Some(job) => job.id,
        None => enqueue(&mut tx, &request, &vault.key, &spec, None).await?,
    };
    let operation = accepted_job(&mut tx, &request, &vault, &stored.key, &job_id).await?;
    tx.commit().await?;
    Ok(operations::accepted(&app, &request, &vault, &operation, Waiting::Validate))
}

/// The operation of a job that is accepted: it has ended, the job goes on.
pub(super) async fn accepted_job(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    key: &str,
    job_id: &str,
) -> ApiResult<String> {
    let beginning = Beginning {
        state: OperationState::Succeeded,
        job_id: Some(format!("{}/backupJobs/{job_id}", vault.id)),
        ..running(vault, Waiting::Validate, Some(key))
    };
    operations::begin(conn, request, beginning).await
}

fn adhoc_spec(stored: &StoredInstance, policy: &StoredPolicy, wanted: &AdhocRequest) -> ApiResult<JobSpec> {
    let Some(rule) = policy.policy.backup_rule(&wanted.rule_name) else {
        let rules: Vec<&str> = policy.policy.backup_rules().map(|rule| rule.name.as_str()).collect();
        return Err(ApiError::of(
            ErrorCode::UserErrorBackupRuleNotFound,
            &[("rule", &wanted.rule_name), ("policy", &policy.name), ("rules", &rules.join(", "))],
        ));
    };
    if stored.instance.selection() == Selection::None {
        return Err(ApiError::of(ErrorCode::UserErrorNoContainersSelectedForOperation, &[]));
    }
    let tag_override = wanted.tag_override.as_deref().map(|tag| retention_tag(policy, tag)).transpose()?;
    Ok(JobSpec::Backup(BackupSpec {
        instance_key: stored.key.clone(),
        rule_name: rule.name.clone(),
        tag_override,
        trigger: BackupTrigger::Adhoc,
        scheduled_for: None,
    }))
}

/// The tag in the policy's own spelling.
fn retention_tag(policy: &StoredPolicy, tag: &str) -> ApiResult<String> {
    if let Some(rule) = policy.policy.retention_rule(DataStore::VaultStore, tag) {
        return Ok(rule.name.clone());
    }
    let rules = policy.policy.retention_rules();
    let vaulted = rules.filter(|rule| rule.stores().any(|store| store == DataStore::VaultStore));
    let tags: Vec<&str> = vaulted.map(|rule| rule.name.as_str()).collect();
    Err(ApiError::of(
        ErrorCode::UserErrorRetentionTagNotFound,
        &[("tag", tag), ("policy", &policy.name), ("tags", &tags.join(", "))],
    ))
}
