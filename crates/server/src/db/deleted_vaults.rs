//! Deleted backup vaults. A row and everything inside keep what they say and go under another key, that of the deleted vault: so the old
//! name is free, nothing finds them by it, and taking the deletion back is the same move the other way.

use blobkeep_arm::ResourceId;
use blobkeep_arm::deleted_vault::{self, VaultDeletion};

use super::vaults::{self, Vault};
use super::{Conn, DbError, DbResult, Row, query};
use crate::auth::Granted;

/// A vault stays for this long after the last of its instances, in microseconds (recorded: ten minutes).
pub const GRACE_MICROS: i64 = 10 * 60 * 1_000_000;

/// A deleted vault.
#[derive(Debug, Clone)]
pub struct DeletedVault {
    /// The vault under its key as a deleted one; id and name are those that it had, and has again when it is undeleted.
    pub vault: Vault,
    /// When, and what follows.
    pub deletion: VaultDeletion,
}

impl DeletedVault {
    /// The id of the deleted vault.
    pub fn id(&self) -> ResourceId {
        deleted_vault::id(&self.vault.subscription_id, &self.vault.location, &self.deletion.name)
    }
}

fn read(row: &Row) -> DbResult<DeletedVault> {
    let vault = vaults::read(row)?;
    let missing = |column: &str| DbError::bad_row(format!("backup_vaults {}", vault.key), format!("no {column}"));
    let name: Option<String> = row.try_get("deleted_name")?;
    let deleted_at: Option<i64> = row.try_get("deleted_at")?;
    let purge_at: Option<i64> = row.try_get("purge_at")?;
    let activity_id: Option<String> = row.try_get("delete_activity_id")?;
    let deletion = VaultDeletion {
        name: name.ok_or_else(|| missing("deleted_name"))?,
        deleted_at: deleted_at.ok_or_else(|| missing("deleted_at"))?,
        purge_at: purge_at.ok_or_else(|| missing("purge_at"))?,
        activity_id: activity_id.unwrap_or_default(),
    };
    Ok(DeletedVault { vault, deletion })
}

/// Makes the vault of that key a deleted one, without an identity, with everything inside, and returns its new key.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn put(conn: &mut Conn, _granted: &Granted, vault: &Vault, deletion: &VaultDeletion) -> DbResult<String> {
    let key = deleted_vault::id(&vault.subscription_id, &vault.location, &deletion.name).folded();
    rekey(conn, &vault.key, &key).await?;
    query(
        "UPDATE backup_vaults SET deleted_name = $2, deleted_at = $3, purge_at = $4, delete_activity_id = $5,
             principal_id = NULL, updated_at = $3
         WHERE key = $1",
    )
    .bind(&key)
    .bind(&deletion.name)
    .bind(deletion.deleted_at)
    .bind(deletion.purge_at)
    .bind(&deletion.activity_id)
    .execute(conn)
    .await?;
    Ok(key)
}

/// Takes a deletion back: the vault and everything inside has its old key again, which must be free. Gives the vault.
///
/// # Errors
/// A duplicate ([`DbError::is_duplicate`]) when the key is taken.
pub async fn restore(conn: &mut Conn, _granted: &Granted, deleted: DeletedVault, now: i64) -> DbResult<Vault> {
    let key = blobkeep_arm::id::fold(&deleted.vault.id);
    rekey(conn, &deleted.vault.key, &key).await?;
    query(
        "UPDATE backup_vaults SET deleted_name = NULL, deleted_at = NULL, purge_at = NULL, delete_activity_id = NULL,
             updated_at = $2
         WHERE key = $1",
    )
    .bind(&key)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(Vault { key, updated_at: now, ..deleted.vault })
}

/// What a key inside of the vault `from` is inside of the vault `to`.
pub fn rekeyed(key: &str, from: &str, to: &str) -> String {
    key.strip_prefix(from).map_or_else(|| key.to_owned(), |rest| format!("{to}{rest}"))
}

/// Gives a vault and everything inside another key. Rows refer to each other, so the database looks at that only when all are moved.
async fn rekey(conn: &mut Conn, from: &str, to: &str) -> DbResult<()> {
    conn.defer_foreign_keys().await?;
    let moves = [
        // Of the vault itself and of what has a stamp inside.
        "UPDATE resource_stamps SET key = $2 || substr(key, length($1) + 1),
             kind = CASE kind WHEN 'backupvaults' THEN 'deletedvaults' WHEN 'deletedvaults' THEN 'backupvaults' ELSE kind END
         WHERE (kind IN ('backupvaults', 'deletedvaults') AND key = $1)
            OR (kind = 'backuppolicies' AND key IN (SELECT key FROM backup_policies WHERE vault_key = $1))
            OR (kind = 'backupinstances' AND key IN (SELECT key FROM backup_instances WHERE vault_key = $1))",
        "UPDATE exports SET vault_key = $2 WHERE vault_key = $1",
        "UPDATE backup_policy_versions SET policy_key = $2 || substr(policy_key, length($1) + 1)
         WHERE policy_key IN (SELECT key FROM backup_policies WHERE vault_key = $1)",
        "UPDATE backup_policies SET key = $2 || substr(key, length($1) + 1), vault_key = $2 WHERE vault_key = $1",
        "UPDATE recovery_points SET instance_key = $2 || substr(instance_key, length($1) + 1)
         WHERE instance_key IN (SELECT key FROM backup_instances WHERE vault_key = $1)",
        "UPDATE backup_instances SET key = $2 || substr(key, length($1) + 1), vault_key = $2,
             policy_key = $2 || substr(policy_key, length($1) + 1)
         WHERE vault_key = $1",
        "UPDATE jobs SET vault_key = $2, instance_key = $2 || substr(instance_key, length($1) + 1) WHERE vault_key = $1",
        "UPDATE operations SET vault_key = $2,
             resource_key = CASE WHEN substr(resource_key, 1, length($1)) = $1
                 THEN $2 || substr(resource_key, length($1) + 1) ELSE resource_key END
         WHERE vault_key = $1",
        "UPDATE backup_vaults SET key = $2 WHERE key = $1",
    ];
    for statement in moves {
        query(statement).bind(from).bind(to).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The deleted vault of that folded id.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<DeletedVault>> {
    let row = query("SELECT * FROM backup_vaults WHERE key = $1 AND deleted_at IS NOT NULL")
        .bind(key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The deleted vaults of a subscription (its GUID in any case) whose time is not over, of any location, by folded id and behind `after`, so
/// many at most. The caller shows only what may be read.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list(
    conn: &mut Conn,
    subscription_id: &str,
    now: i64,
    after: &str,
    limit: i64,
) -> DbResult<Vec<DeletedVault>> {
    let rows = query(
        "SELECT * FROM backup_vaults
         WHERE subscription_key = $1 AND deleted_at IS NOT NULL AND purge_at > $2 AND key > $3 ORDER BY key LIMIT $4",
    )
    .bind(subscription_id.to_lowercase())
    .bind(now)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The deleted vaults whose time is over and which hold no instance any more.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn purgeable(conn: &mut Conn, _granted: &Granted, now: i64) -> DbResult<Vec<DeletedVault>> {
    let rows = query(
        "SELECT v.* FROM backup_vaults v WHERE v.deleted_at IS NOT NULL AND v.purge_at <= $1
           AND NOT EXISTS (SELECT 1 FROM backup_instances i WHERE i.vault_key = v.key)
         ORDER BY v.purge_at, v.key",
    )
    .bind(now)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Lets a deleted vault stay at least until an instant. Nothing happens to a vault that is not deleted.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn put_off(conn: &mut Conn, _granted: &Granted, vault_key: &str, purge_at: i64) -> DbResult<()> {
    query("UPDATE backup_vaults SET purge_at = $2 WHERE key = $1 AND deleted_at IS NOT NULL AND purge_at < $2")
        .bind(vault_key)
        .bind(purge_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a vault, deleted or not, with its policies, the jobs that have ended, the exports of these, and the roles that were given inside. Operations are
/// forgotten in their own time, for somebody may still ask for them.
///
/// # Errors
/// [`DbError`] when the database fails or an instance is left.
pub async fn purge(conn: &mut Conn, granted: &Granted, vault_key: &str) -> DbResult<()> {
    super::role_assignments::delete_within(conn, granted, vault_key).await?;
    for policy in super::policies::list(conn, granted, vault_key).await? {
        super::policies::delete(conn, granted, &policy.key).await?;
    }
    query("DELETE FROM jobs WHERE vault_key = $1 AND ended_at IS NOT NULL").bind(vault_key).execute(&mut *conn).await?;
    super::exports::forget_of_vault(conn, vault_key).await?;
    vaults::delete(conn, granted, vault_key).await
}
