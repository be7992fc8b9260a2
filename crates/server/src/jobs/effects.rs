//! What protecting an account by the operational tier does to the account, as in Azure: point-in-time restore, soft delete, versioning and change
//! feed are on, never for shorter than they were, and a lock keeps the account from being deleted. What was there before is kept, so that it
//! can be undone. These are the service's records of the account: nothing of it is switched at the account's endpoint, which offers no way to.

use blobkeep_arm::id::{ResourceId, fold};

use super::fault::Fault;
use super::instance::{Subject, check_rights_of, has_rights_of};
use crate::App;
use crate::auth::Granted;
use crate::db::instances::StoredInstance;
use crate::db::locks::{Lock, LockLevel};
use crate::db::policies::StoredPolicy;
use crate::db::{self, Conn, DbResult};

/// The name of the lock, which is Azure's.
const LOCK: &str = "AzureBackupProtectionLock";
/// For people who come upon it.
const NOTES: &str = "Set by the operational backup of the blobs in this storage account: deleting the account would delete their versions.";
/// The farthest that a point-in-time restore reaches back in Azure's operational tier, in days.
const MOST_DAYS: i64 = 360;

/// What a vault's identity must be allowed on the account for that.
const ACTIONS: &[&str] =
    &["Microsoft.Storage/storageAccounts/blobServices/write", "Microsoft.Authorization/locks/write"];

/// The lock's folded id.
pub(crate) fn lock_key(account_key: &str) -> String {
    fold(&format!("{account_key}/providers/Microsoft.Authorization/locks/{LOCK}"))
}

/// How many days a policy asks an account to be restorable; none: it has nothing for the operational tier.
fn days(policy: &StoredPolicy) -> Option<u32> {
    let days = policy.policy.operational_retention()?.nominal_days().clamp(1, MOST_DAYS);
    u32::try_from(days).ok()
}

/// Looks whether the vault's identity may do what protecting by this policy does to the account.
pub(super) async fn check(
    app: &App,
    vault: &db::vaults::Vault,
    policy: &StoredPolicy,
    account: &str,
) -> Result<(), Fault> {
    if days(policy).is_none() {
        return Ok(());
    }
    check_rights_of(app, vault, ACTIONS, account).await
}

/// Turns on what the policy of an instance that is being configured needs. Safe to repeat.
pub(super) async fn apply(app: &App, subject: &Subject) -> Result<(), Fault> {
    let Some(days) = days(&subject.policy) else { return Ok(()) };
    check_rights_of(app, &subject.vault, ACTIONS, &subject.account_id).await?;
    write(app, subject, days).await?;
    Ok(())
}

/// The same at a look, for instances of before this was kept and for a policy that reaches farther back by now. What its owner has changed
/// since is left alone.
pub(super) async fn keep_up(app: &App, subject: &Subject) -> Result<(), Fault> {
    let Some(days) = days(&subject.policy) else { return Ok(()) };
    let mut reader = app.db.read().await?;
    let service = db::blob_services::get(&mut reader, &Granted::service(), &subject.instance.datasource_key).await?;
    drop(reader);
    let is_done = service.protection.is_some_and(|protection| protection.days >= days);
    if is_done || !has_rights_of(app, &subject.vault, ACTIONS, &subject.account_id).await? {
        return Ok(());
    }
    write(app, subject, days).await?;
    Ok(())
}

async fn write(app: &App, subject: &Subject, days: u32) -> DbResult<()> {
    let (granted, key, now) = (Granted::service(), &subject.instance.datasource_key, app.now());
    let mut writer = app.db.write().await?;
    let Some(account) = db::storage_accounts::get(&mut writer, &granted, key).await? else { return Ok(()) };
    let before = db::blob_services::get(&mut writer, &granted, key).await?;
    let mut service = before;
    let mut protection = service.protection.unwrap_or_default();
    service.settings.protect(days, &mut protection);
    protection.made_lock |= make_lock(&mut writer, &account.id, now).await?;
    service.protection = Some(protection);
    if service != before {
        db::blob_services::put(&mut writer, &granted, key, &service, now).await?;
    }
    writer.commit().await
}

/// True if it was made by this call: one that is there is its maker's.
async fn make_lock(conn: &mut Conn, account: &str, now: i64) -> DbResult<bool> {
    let granted = Granted::service();
    if db::locks::get(conn, &granted, &lock_key(account)).await?.is_some() {
        return Ok(false);
    }
    let id = ResourceId::parse(account).unwrap_or_default().attach("Microsoft.Authorization", "locks", LOCK);
    let lock = Lock {
        id: id.to_string(),
        name: LOCK.to_owned(),
        scope: account.to_owned(),
        level: LockLevel::CanNotDelete,
        notes: Some(NOTES.to_owned()),
        created_at: now,
        updated_at: now,
    };
    db::locks::put(conn, &granted, &lock).await?;
    Ok(true)
}

/// The instance that protects an account by the operational tier now, also one that is stopped: its states are versions that the account keeps.
///
/// # Errors
/// [`db::DbError`] when the database fails.
pub(crate) async fn protecting_instance(conn: &mut Conn, account_key: &str) -> DbResult<Option<StoredInstance>> {
    let granted = Granted::service();
    let Some(instance) = db::instances::by_datasource(conn, &granted, account_key).await? else { return Ok(None) };
    let policy = db::policies::get(conn, &granted, &instance.policy_key).await?;
    Ok(policy.is_some_and(|policy| days(&policy).is_some()).then_some(instance))
}

/// Undoes what protecting an account changed, as far as nobody has set something else since.
///
/// # Errors
/// [`db::DbError`] when the database fails.
pub(crate) async fn undo(conn: &mut Conn, granted: &Granted, account_key: &str, now: i64) -> DbResult<()> {
    let mut service = db::blob_services::get(conn, granted, account_key).await?;
    let Some(protection) = service.protection.take() else { return Ok(()) };
    service.settings.release(&protection);
    db::blob_services::put(conn, granted, account_key, &service, now).await?;
    let key = lock_key(account_key);
    let lock = db::locks::get(conn, granted, &key).await?;
    if protection.made_lock && lock.is_some_and(|lock| lock.level == LockLevel::CanNotDelete) {
        db::locks::delete(conn, granted, &key).await?;
    }
    Ok(())
}
