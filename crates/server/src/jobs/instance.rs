//! Jobs about an instance: validate, configure, update, delete, undelete.

use std::sync::Arc;

use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_arm::id::fold;
use blobkeep_arm::instance::{BackupInstance, Deletion, ProtectionState};
use blobkeep_arm::policy::Policy;
use blobkeep_arm::schedule;
use blobkeep_vault::Timestamp;
use blobkeep_vault::state::{self, Chain, Change};
use serde_json::Value;

use super::backup::{BACKUP_ACTIONS, missing_containers};
use super::fault::{Fault, internal, of_engine};
use super::spec::{
    ConfigureSpec, DeleteInstanceSpec, ExpireSpec, JobSpec, UndeleteInstanceSpec, UpdateInstanceSpec,
    ValidateBackupSpec,
};
use super::watch::Watch;
use super::worker::Done;
use super::{accounts, effects, expire, immutability, operational};
use crate::App;
use crate::auth::{Granted, Rights};
use crate::db::{self, instances::StoredInstance, jobs::Job, policies::StoredPolicy, vaults::Vault};

/// An instance with what belongs to it.
pub(super) struct Subject {
    pub(super) instance: StoredInstance,
    pub(super) policy: StoredPolicy,
    pub(super) vault: Vault,
    /// ARM id of the storage account, as it was sent.
    pub(super) account_id: String,
}

impl Subject {
    /// Reads it from the database.
    pub(super) async fn load(app: &App, instance_key: &str) -> Result<Self, Fault> {
        let granted = Granted::service();
        let mut reader = app.db.read().await?;
        let gone = |what: &str| ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", what)]);
        let instance =
            db::instances::get(&mut reader, &granted, instance_key).await?.ok_or_else(|| gone(instance_key))?;
        let policy = db::policies::get(&mut reader, &granted, &instance.policy_key).await?;
        let policy = policy.ok_or_else(|| gone(&instance.policy_key))?;
        let vault = db::vaults::get(&mut reader, &granted, &instance.vault_key).await?;
        let vault = vault.ok_or_else(|| gone(&instance.vault_key))?;
        let account_id = instance.instance.data_source_info.resource_id.clone();
        Ok(Self { instance, policy, vault, account_id })
    }
}

/// The vault's identity may not do what the job needs: the answer of the seed.
pub(super) fn missing_permission(principal_id: &str, action: Option<&str>, scope: Option<&String>) -> Fault {
    let (action, scope) = (action.unwrap_or("*"), scope.map(String::as_str).unwrap_or("/"));
    let detail = format!(
        "Validate for Protection failed. Exception Message: The client '{principal_id}' with object id '{principal_id}' does not have \
         authorization to perform action '{action}' over scope '{scope}/providers/{}' or the scope is invalid. If access was recently granted, \
         please refresh your credentials.",
        action.split('/').next().unwrap_or_default()
    );
    let error = ApiError::of(ErrorCode::UserErrorMissingRequiredPermissions, &[]).with_detailed_message(detail);
    Fault::Final(Box::new(error))
}

/// The vault's identity must be allowed all of `actions` on the account.
pub(super) async fn check_rights(app: &App, subject: &Subject, actions: &[&str], account: &str) -> Result<(), Fault> {
    check_rights_of(app, &subject.vault, actions, account).await
}

/// The same, given the vault alone.
pub(super) async fn check_rights_of(app: &App, vault: &Vault, actions: &[&str], account: &str) -> Result<(), Fault> {
    match missing_right(app, vault, actions, account).await? {
        None => Ok(()),
        Some(missing) => {
            let principal = vault.principal_id.as_deref().unwrap_or_default();
            Err(missing_permission(principal, Some(missing), Some(&account.to_owned())))
        }
    }
}

/// Whether the vault's identity is allowed all of `actions` on the account.
pub(super) async fn has_rights_of(app: &App, vault: &Vault, actions: &[&str], account: &str) -> db::DbResult<bool> {
    Ok(missing_right(app, vault, actions, account).await?.is_none())
}

async fn missing_right<'a>(
    app: &App,
    vault: &Vault,
    actions: &[&'a str],
    account: &str,
) -> db::DbResult<Option<&'a str>> {
    let rights = Rights::of(app, vault.principal_id.as_deref().unwrap_or_default()).await?;
    Ok(actions.iter().copied().find(|action| !rights.allow(action, account)))
}

/// Everything that protecting the instance by a policy will need.
async fn check_instance(
    app: &App,
    vault: &Vault,
    instance: &BackupInstance,
    policy: Option<&StoredPolicy>,
) -> Result<(), Fault> {
    let account = &instance.data_source_info.resource_id;
    check_rights_of(app, vault, BACKUP_ACTIONS, account).await?;
    if let Some(policy) = policy {
        effects::check(app, vault, policy, account).await?;
    }
    let opened = accounts::open(app, &fold(account.trim_end_matches('/')), account).await?;
    missing_containers(opened.source.as_ref(), &instance.selection(), account).await
}

/// Looks whether an instance could be protected.
pub(super) async fn validate(app: &Arc<App>, _job: &Job, spec: &ValidateBackupSpec) -> Result<Done, Fault> {
    let mut reader = app.db.read().await?;
    let granted = Granted::service();
    let vault = db::vaults::get(&mut reader, &granted, &spec.vault_key).await?;
    let policy = db::policies::get(&mut reader, &granted, &spec.policy_key).await?;
    drop(reader);
    let vault = vault
        .ok_or_else(|| ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &spec.vault_key)]))?;
    check_instance(app, &vault, &spec.instance, policy.as_ref()).await?;
    Ok(Done::completed())
}

/// The next scheduled backup of a policy.
pub(super) fn next_run(policy: &Policy, now: i64) -> Result<Option<i64>, Fault> {
    let next =
        schedule::next_backup(policy, now).map_err(|e| internal(&format!("the schedule cannot be used: {e}")))?;
    Ok(next.map(|(instant, _)| instant))
}

/// Brings an instance under protection.
pub(super) async fn configure(app: &Arc<App>, job: &Job, spec: &ConfigureSpec, watch: &Watch) -> Result<Done, Fault> {
    let subject = Subject::load(app, &spec.instance_key).await?;
    let outcome = protect(app, job, &subject, watch).await;
    record_failure(app, &spec.instance_key, &outcome).await?;
    outcome
}

/// Shows on the instance why it is not protected. A later try that succeeds takes it back.
async fn record_failure(app: &App, instance_key: &str, outcome: &Result<Done, Fault>) -> Result<(), Fault> {
    let Err(Fault::Final(error) | Fault::Passing(error)) = outcome else { return Ok(()) };
    let (state, info) = (ProtectionState::ConfiguringProtectionFailed, error.info());
    set_state(app, instance_key, state, "Failed", Some(&info)).await
}

/// The instance is being deleted, or gone: what else was begun for it must no longer change its state.
async fn is_leaving(conn: &mut db::Conn, instance_key: &str) -> db::DbResult<bool> {
    use ProtectionState::{SoftDeleted, SoftDeleting};
    let instance = db::instances::get(conn, &Granted::service(), instance_key).await?;
    Ok(instance.is_none_or(|instance| matches!(instance.state, SoftDeleting | SoftDeleted)))
}

/// Sets the state of an instance that is not being deleted.
async fn set_state(
    app: &App,
    instance_key: &str,
    state: ProtectionState,
    provisioning: &str,
    error: Option<&Value>,
) -> Result<(), Fault> {
    let mut writer = app.db.write().await?;
    if !is_leaving(&mut writer, instance_key).await? {
        db::instances::set_state(&mut writer, &Granted::service(), instance_key, state, provisioning, error, app.now())
            .await?;
    }
    writer.commit().await?;
    Ok(())
}

/// Nothing reports `ProtectionConfigured` that is not being backed up: the continuous tier takes its first point before.
async fn protect(app: &Arc<App>, job: &Job, subject: &Subject, watch: &Watch) -> Result<Done, Fault> {
    let granted = Granted::service();
    check_instance(app, &subject.vault, &subject.instance.instance, Some(&subject.policy)).await?;
    let vault = app.vaults.for_job(app, &subject.vault.vault_uuid).await?;
    let chain = Chain::instance(&vault, &subject.instance.instance_uuid).map_err(|e| internal(&e.to_string()))?;
    chain.load().await.map_err(|e| of_engine(&e, &subject.account_id))?;
    if subject.policy.policy.operational_retention().is_some() {
        // The operation ends here, as in Azure, and the state follows.
        set_state(app, &subject.instance.key, ProtectionState::ConfiguringProtection, "Succeeded", None).await?;
        if let Some(operation) = &job.operation_id {
            let mut writer = app.db.write().await?;
            db::operations::finish(&mut writer, operation, Ok(()), app.now()).await?;
            writer.commit().await?;
        }
        effects::apply(app, subject).await?;
        operational::look(app, subject, true, watch).await?;
    }
    let next = next_run(&subject.policy.policy, app.now())?;
    let mut writer = app.db.write().await?;
    if !is_leaving(&mut writer, &subject.instance.key).await? {
        db::instances::set_configured(&mut writer, &granted, &subject.instance.key, next, app.now()).await?;
    }
    writer.commit().await?;
    Ok(Done::completed())
}

/// Brings an instance under another policy or selection.
pub(super) async fn update(app: &Arc<App>, job: &Job, spec: &UpdateInstanceSpec, watch: &Watch) -> Result<Done, Fault> {
    let granted = Granted::service();
    let before = Subject::load(app, &spec.instance_key).await?;
    let mut reader = app.db.read().await?;
    let policy = db::policies::get(&mut reader, &granted, &spec.policy_key).await?;
    drop(reader);
    if let Err(fault) = check_instance(app, &before.vault, &spec.instance, policy.as_ref()).await {
        // What was protected before still is.
        let state = match before.instance.configured_at {
            Some(_) => ProtectionState::ProtectionConfigured,
            None => ProtectionState::ConfiguringProtectionFailed,
        };
        set_state(app, &spec.instance_key, state, "Succeeded", None).await?;
        return Err(fault);
    }
    let mut writer = app.db.write().await?;
    db::instances::apply_update(&mut writer, &granted, &spec.instance_key, &spec.instance, &spec.policy_key, app.now())
        .await?;
    let recalculate = JobSpec::Expire(ExpireSpec { instance_key: spec.instance_key.clone(), recalculate: true });
    enqueue_own(&mut writer, app, &before.vault.key, &recalculate).await?;
    writer.commit().await?;
    let subject = Subject::load(app, &spec.instance_key).await?;
    let outcome = protect(app, job, &subject, watch).await;
    record_failure(app, &spec.instance_key, &outcome).await?;
    outcome
}

/// Adds a job of the service's own.
pub(super) async fn enqueue_own(conn: &mut db::Conn, app: &App, vault_key: &str, spec: &JobSpec) -> db::DbResult<()> {
    let (id, correlation_id) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    let job = db::jobs::NewJob {
        id: &id,
        vault_key,
        spec,
        operation_id: None,
        principal_id: "",
        correlation_id: &correlation_id,
        now: app.now(),
    };
    db::jobs::enqueue(conn, &job).await
}

/// Deletes an instance: its points stay until their time in a soft delete, and go at once without one, except what the vault keeps.
pub(super) async fn delete(app: &Arc<App>, job: &Job, spec: &DeleteInstanceSpec) -> Result<Done, Fault> {
    let granted = Granted::service();
    let subject = Subject::load(app, &spec.instance_key).await?;
    stop_backups(app, &spec.instance_key).await?;
    let uuid = &subject.instance.instance_uuid;
    let now = Timestamp(app.now());
    let vault =
        app.vaults.find(app, &subject.vault.vault_uuid).await.map_err(|e| of_engine(&e, &subject.account_id))?;
    let mut kept_until = spec.purge_at;
    if let Some(vault) = vault {
        let mark = async {
            immutability::record(app, &vault, &subject.vault.vault_uuid).await?;
            let chain = Chain::instance(&vault, uuid)?;
            // Also where there is no point yet: a backup that is about to commit its first one must be refused.
            let purge_at = spec.purge_at.map_or(now, Timestamp);
            chain.append_if(Change::SoftDeleted { purge_at }, now, |state| state.purge_at != Some(purge_at)).await?;
            if spec.purge_at.is_none() {
                state::expire(&vault, uuid, now, false).await?;
            }
            Ok(())
        };
        mark.await.map_err(|e| of_engine(&e, &subject.account_id))?;
        if spec.purge_at.is_none() {
            kept_until = expire::delay_end(app, &subject, &vault).await?;
        }
    }
    let mut writer = app.db.write().await?;
    if spec.purge_at.is_none() {
        db::prunes::points_removed(&mut writer, &granted, &subject.vault.key, app.now()).await?;
    }
    if let Some(purge_at) = kept_until {
        if spec.purge_at.is_none() {
            let activity_id = job.correlation_id.clone();
            let deletion = Deletion { deleted_at: now.0, billing_end: now.0, purge_at, activity_id };
            db::instances::set_deletion(&mut writer, &granted, &spec.instance_key, Some(&deletion)).await?;
        }
        db::instances::clear_schedule(&mut writer, &granted, &spec.instance_key).await?;
        let state = ProtectionState::SoftDeleted;
        db::instances::set_state(&mut writer, &granted, &spec.instance_key, state, "Succeeded", None, app.now())
            .await?;
    } else {
        db::instances::purge(&mut writer, &granted, &spec.instance_key).await?;
    }
    writer.commit().await?;
    Ok(Done::completed())
}

async fn stop_backups(app: &App, instance_key: &str) -> Result<(), Fault> {
    let mut writer = app.db.write().await?;
    for job in db::jobs::unfinished(&mut writer, instance_key, "backup").await? {
        db::jobs::request_cancel(&mut writer, &job.id, app.now()).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// Takes a deletion back: every point is there again, and none expires until protection is resumed.
pub(super) async fn undelete(app: &Arc<App>, _job: &Job, spec: &UndeleteInstanceSpec) -> Result<Done, Fault> {
    let granted = Granted::service();
    let subject = Subject::load(app, &spec.instance_key).await?;
    let vault =
        app.vaults.find(app, &subject.vault.vault_uuid).await.map_err(|e| of_engine(&e, &subject.account_id))?;
    if let Some(vault) = vault {
        let take_back = async {
            let chain = Chain::instance(&vault, &subject.instance.instance_uuid)?;
            if chain.load().await?.purge_at.is_some() {
                chain.append(Change::Undeleted, Timestamp(app.now())).await?;
            }
            Ok(())
        };
        take_back.await.map_err(|e| of_engine(&e, &subject.account_id))?;
    }
    if subject.instance.state == ProtectionState::SoftDeleted {
        let mut writer = app.db.write().await?;
        db::instances::set_deletion(&mut writer, &granted, &spec.instance_key, None).await?;
        let state = ProtectionState::ProtectionStopped;
        db::instances::set_state(&mut writer, &granted, &spec.instance_key, state, "Succeeded", None, app.now())
            .await?;
        writer.commit().await?;
    }
    Ok(Done::completed())
}
