//! Validating, configuring and changing an instance. A validation and a PUT are checked alike.

use std::sync::Arc;

use blobkeep_arm::guard::{CriticalOperation, operation_requests};
use blobkeep_arm::id::{fold, fold_location};
use blobkeep_arm::instance::{BackupInstance, InstanceRequest, ProtectionState, Selection, check_name};
use blobkeep_arm::word::{BLOB_DATASOURCE, blob_datasource_type};
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope};
use serde_json::Map;
use uuid::Uuid;

use super::{authorize_account, bad_account_id, enqueue, instance_id, invalid, render, require, running, wrong_state};
use crate::App;
use crate::api::critical::Approval;
use crate::api::operations::{self, Beginning};
use crate::api::{Answer, Request, conditions, vaults};
use crate::config::Waiting;
use crate::db::instances::StoredInstance;
use crate::db::jobs::Job;
use crate::db::operations::OperationState;
use crate::db::policies::StoredPolicy;
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{ConfigureSpec, ExpireSpec, JobSpec, UpdateInstanceSpec, ValidateBackupSpec};

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
        _ => Ok(()),
    }
}

/// Both validations: of a new instance, and of a change of the one that the path names.
pub(super) async fn validate(app: Arc<App>, request: Request) -> ApiResult<Answer> {
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

pub(super) async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = instance_id(&request);
    check_name(id.name()).map_err(|rule| {
        ApiError::of(
            ErrorCode::InvalidResourceName,
            &[("name", id.name()), ("kind", "Microsoft.DataProtection/backupVaults/backupInstances"), ("rule", rule)],
        )
    })?;
    let body = request.json()?;
    let InstanceRequest { tags, instance } = InstanceRequest::parse(&body)?;
    let named = operation_requests(envelope::member(&body, "properties"))?;
    let approval = Approval::of(&app, &request, named).await?;
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
    conditions::check(&mut tx, &request, own_key).await?;
    let is_new = own_key.is_none();
    let checked = check(&mut tx, &request, &vault, instance, &account, own_key).await?;
    let (mut stored, operation) = match existing {
        None => create(&mut tx, &request, &vault, &id, checked).await?,
        Some(existing) => change(&mut tx, &request, &vault, existing, checked, &approval).await?,
    };
    if let Some(tags) = tags {
        // They are nothing that has to be worked on, so they hold at once; a PUT without them leaves them.
        db::instances::set_tags(&mut tx, request.granted()?, &stored.key, &tags, request.now).await?;
        stored.tags = tags;
    }
    let stamp = conditions::change(&mut tx, &request, &stored.key, is_new).await?;
    tx.commit().await?;
    let answer = conditions::written_answer(Answer::created(render(&stored)), &stamp);
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
        tags: Map::new(),
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
pub(in crate::api) async fn configure(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    key: &str,
) -> ApiResult<String> {
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
    approval: &Approval,
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
            check_approved(conn, request, vault, &stored, &checked, approval).await?;
            begin_anew(conn, request, vault, stored, checked).await
        }
        ProtectionState::ConfiguringProtection | ProtectionState::UpdatingProtection => {
            match pending(conn, &stored, &checked, is_same).await? {
                Some(operation) => Ok((stored, operation)),
                None => {
                    check_approved(conn, request, vault, &stored, &checked, approval).await?;
                    begin_anew(conn, request, vault, stored, checked).await
                }
            }
        }
        _ if is_same => {
            let beginning =
                Beginning { state: OperationState::Succeeded, ..running(vault, Waiting::Create, Some(&stored.key)) };
            let operation = operations::begin(conn, request, beginning).await?;
            Ok((stored, operation))
        }
        ProtectionState::ProtectionConfigured => {
            check_approved(conn, request, vault, &stored, &checked, approval).await?;
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

/// Another policy or other containers are nothing that one person decides, where a resource guard says so. What people call the instance is.
async fn check_approved(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    stored: &StoredInstance,
    checked: &Checked,
    approval: &Approval,
) -> ApiResult<()> {
    if same_protection(&stored.instance, &checked.instance) {
        return Ok(());
    }
    approval.check(conn, request, vault, CriticalOperation::ModifyProtection).await
}

/// Two instances say the same, ids compared without case.
fn same_content(one: &BackupInstance, other: &BackupInstance) -> bool {
    one.friendly_name == other.friendly_name && same_protection(one, other)
}

fn same_protection(one: &BackupInstance, other: &BackupInstance) -> bool {
    fold(&one.policy_info.policy_id) == fold(&other.policy_info.policy_id)
        && one.policy_info.policy_parameters.clone().unwrap_or_default()
            == other.policy_info.policy_parameters.clone().unwrap_or_default()
}

/// Takes the content over and configures the instance once more: after a failure, and where nothing else would end its state.
async fn begin_anew(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    mut stored: StoredInstance,
    checked: Checked,
) -> ApiResult<(StoredInstance, String)> {
    let key = stored.key.clone();
    let granted = request.granted()?;
    db::instances::apply_update(conn, granted, &key, &checked.instance, &checked.policy.key, request.now).await?;
    if stored.policy_key != checked.policy.key {
        let spec = JobSpec::Expire(ExpireSpec { instance_key: key.clone(), recalculate: true });
        enqueue(conn, request, &vault.key, &spec, None).await?;
    }
    let operation = configure_again(conn, request, vault, &key).await?;
    stored.state = ProtectionState::ConfiguringProtection;
    "Provisioning".clone_into(&mut stored.provisioning_state);
    stored.instance = checked.instance;
    stored.policy_key = checked.policy.key;
    stored.error = None;
    Ok((stored, operation))
}

/// Configures an instance once more with what it has.
pub(in crate::api) async fn configure_again(
    conn: &mut Conn,
    request: &Request,
    vault: &Vault,
    key: &str,
) -> ApiResult<String> {
    let state = ProtectionState::ConfiguringProtection;
    db::instances::set_state(conn, request.granted()?, key, state, "Provisioning", None, request.now).await?;
    configure(conn, request, vault, key).await
}

/// The job that was last asked to configure or change an instance, if one is left.
async fn pending_job(conn: &mut Conn, key: &str) -> ApiResult<Option<Job>> {
    let mut jobs = db::jobs::unfinished(conn, key, "configure").await?;
    jobs.extend(db::jobs::unfinished(conn, key, "update_instance").await?);
    jobs.sort_by_key(|job| job.created_at);
    Ok(jobs.pop())
}

/// The operation of the job that is configuring or changing an instance. None: no such job is left, whatever the instance's state says.
pub(in crate::api) async fn pending_operation(conn: &mut Conn, key: &str) -> ApiResult<Option<String>> {
    Ok(pending_job(conn, key).await?.and_then(|job| job.operation_id))
}

/// The operation of the job that is configuring or changing the instance, if it does what this request asks for. None: no such job is
/// left, whatever the instance's state says. What counts for a change is what it will make of the instance, not what that still shows;
/// `is_same_as_stored` is the answer for a configuration.
///
/// # Errors
/// 409 while something else is being worked on.
async fn pending(
    conn: &mut Conn,
    stored: &StoredInstance,
    checked: &Checked,
    is_same_as_stored: bool,
) -> ApiResult<Option<String>> {
    let Some(job) = pending_job(conn, &stored.key).await? else { return Ok(None) };
    let is_same = match &job.spec {
        JobSpec::UpdateInstance(spec) => {
            spec.policy_key == checked.policy.key && same_content(&spec.instance, &checked.instance)
        }
        _ => is_same_as_stored,
    };
    match job.operation_id {
        Some(operation) if is_same => Ok(Some(operation)),
        _ => Err(wrong_state(stored, "configure")),
    }
}
