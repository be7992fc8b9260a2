//! Backup instances, also the deleted ones: a row lives until its data is gone.
//!
//! An instance counts as deleted from the state `SoftDeleted` on; while it is `SoftDeleting` it is still listed.

use blobkeep_arm::instance::{BackupInstance, Deletion, ProtectionState};
use serde_json::{Map, Value};

use super::{Conn, DbError, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// A stored instance.
#[derive(Debug, Clone)]
pub struct StoredInstance {
    /// Folded id.
    pub key: String,
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// Names the instance in the store; a lower-case GUID.
    pub instance_uuid: String,
    /// Folded id of the storage account.
    pub datasource_key: String,
    /// What was sent.
    pub instance: BackupInstance,
    /// The user's labels.
    pub tags: Map<String, Value>,
    /// Folded id of the policy.
    pub policy_key: String,
    /// How far it is protected.
    pub state: ProtectionState,
    /// `Provisioning`, `Updating`, `Succeeded`, `Failed`.
    pub provisioning_state: String,
    /// Why it is not protected: the `info` shape.
    pub error: Option<Value>,
    /// Set from the moment of the request to delete it.
    pub deletion: Option<Deletion>,
    /// Since when it is protected without a break, microseconds.
    pub configured_at: Option<i64>,
    /// The next scheduled backup, microseconds.
    pub next_run_at: Option<i64>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<StoredInstance> {
    let id: String = row.try_get("id")?;
    let what = format!("backup_instances {id}");
    let properties: String = row.try_get("properties")?;
    let tags: String = row.try_get("tags")?;
    let state: String = row.try_get("protection_state")?;
    let error: Option<String> = row.try_get("error")?;
    Ok(StoredInstance {
        key: row.try_get("key")?,
        id,
        name: row.try_get("name")?,
        vault_key: row.try_get("vault_key")?,
        instance_uuid: row.try_get("instance_uuid")?,
        datasource_key: row.try_get("datasource_key")?,
        instance: from_json(&what, &properties)?,
        tags: from_json(&what, &tags)?,
        policy_key: row.try_get("policy_key")?,
        state: ProtectionState::parse(&state).ok_or_else(|| DbError::bad_row(&what, format!("state '{state}'")))?,
        provisioning_state: row.try_get("provisioning_state")?,
        error: error.map(|text| from_json(&what, &text)).transpose()?,
        deletion: deletion(row)?,
        configured_at: row.try_get("configured_at")?,
        next_run_at: row.try_get("next_run_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn deletion(row: &Row) -> DbResult<Option<Deletion>> {
    let Some(deleted_at) = row.try_get::<Option<i64>>("deleted_at")? else { return Ok(None) };
    let activity_id: Option<String> = row.try_get("delete_activity_id")?;
    Ok(Some(Deletion {
        deleted_at,
        billing_end: row.try_get::<Option<i64>>("billing_end")?.unwrap_or(deleted_at),
        purge_at: row.try_get::<Option<i64>>("purge_at")?.unwrap_or(deleted_at),
        activity_id: activity_id.unwrap_or_default(),
    }))
}

/// Adds an instance.
///
/// # Errors
/// A duplicate ([`DbError::is_duplicate`]) when the name is taken or the account is protected already.
pub async fn create(conn: &mut Conn, _granted: &Granted, stored: &StoredInstance) -> DbResult<()> {
    query(
        "INSERT INTO backup_instances (key, id, name, vault_key, instance_uuid, datasource_key, properties, policy_key,
             protection_state, provisioning_state, created_at, updated_at, tags)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)",
    )
    .bind(&stored.key)
    .bind(&stored.id)
    .bind(&stored.name)
    .bind(&stored.vault_key)
    .bind(&stored.instance_uuid)
    .bind(&stored.datasource_key)
    .bind(to_json("instance", &stored.instance)?)
    .bind(&stored.policy_key)
    .bind(stored.state.as_str())
    .bind(&stored.provisioning_state)
    .bind(stored.created_at)
    .bind(to_json("tags", &stored.tags)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets how far an instance is protected. `error` is the `info` shape and replaces the one that was there, also by none.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_state(
    conn: &mut Conn,
    _granted: &Granted,
    key: &str,
    state: ProtectionState,
    provisioning_state: &str,
    error: Option<&Value>,
    now: i64,
) -> DbResult<()> {
    query(
        "UPDATE backup_instances SET protection_state = $2, provisioning_state = $3, error = $4, updated_at = $5
         WHERE key = $1",
    )
    .bind(key)
    .bind(state.as_str())
    .bind(provisioning_state)
    .bind(error.map(Value::to_string))
    .bind(now)
    .execute(&mut *conn)
    .await?;
    super::stamps::moved_on(conn, key).await
}

/// The instance is protected now: state `ProtectionConfigured`, the time since when (kept if it was protected before),
/// and the next scheduled backup. The operational tier takes it up.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_configured(
    conn: &mut Conn,
    granted: &Granted,
    key: &str,
    next_run_at: Option<i64>,
    now: i64,
) -> DbResult<()> {
    set_state(conn, granted, key, ProtectionState::ProtectionConfigured, "Succeeded", None, now).await?;
    query(
        "UPDATE backup_instances SET configured_at = COALESCE(configured_at, $2), next_run_at = $3,
             look_at = COALESCE(look_at, $2)
         WHERE key = $1",
    )
    .bind(key)
    .bind(now)
    .bind(next_run_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the unbroken protection: no next backup, and the continuous tier begins anew when it is protected again.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn clear_schedule(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    query("UPDATE backup_instances SET configured_at = NULL, next_run_at = NULL, look_at = NULL WHERE key = $1")
        .bind(key)
        .execute(&mut *conn)
        .await?;
    if let Some(uuid) = uuid_of(conn, key).await? {
        super::operational_ranges::close(conn, &uuid).await?;
    }
    Ok(())
}

async fn uuid_of(conn: &mut Conn, key: &str) -> DbResult<Option<String>> {
    let row = query("SELECT instance_uuid FROM backup_instances WHERE key = $1").bind(key).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("instance_uuid")).transpose()?)
}

/// Sets the next scheduled backup.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_next_run(conn: &mut Conn, _granted: &Granted, key: &str, next_run_at: Option<i64>) -> DbResult<()> {
    query("UPDATE backup_instances SET next_run_at = $2 WHERE key = $1")
        .bind(key)
        .bind(next_run_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives an instance another content and policy: the end of an update.
///
/// # Errors
/// [`DbError`] when the database fails or the policy is not there.
pub async fn apply_update(
    conn: &mut Conn,
    _granted: &Granted,
    key: &str,
    instance: &BackupInstance,
    policy_key: &str,
    now: i64,
) -> DbResult<()> {
    query("UPDATE backup_instances SET properties = $2, policy_key = $3, updated_at = $4, look_at = $4 WHERE key = $1")
        .bind(key)
        .bind(to_json("instance", instance)?)
        .bind(policy_key)
        .bind(now)
        .execute(&mut *conn)
        .await?;
    super::stamps::moved_on(conn, key).await
}

/// Replaces the user's labels of an instance.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_tags(
    conn: &mut Conn,
    _granted: &Granted,
    key: &str,
    tags: &Map<String, Value>,
    now: i64,
) -> DbResult<()> {
    query("UPDATE backup_instances SET tags = $2, updated_at = $3 WHERE key = $1")
        .bind(key)
        .bind(to_json("tags", tags)?)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes when an instance is deleted and what follows, or (with none) that it is not.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_deletion(conn: &mut Conn, _granted: &Granted, key: &str, deletion: Option<&Deletion>) -> DbResult<()> {
    query(
        "UPDATE backup_instances SET deleted_at = $2, billing_end = $3, purge_at = $4, delete_activity_id = $5
         WHERE key = $1",
    )
    .bind(key)
    .bind(deletion.map(|deletion| deletion.deleted_at))
    .bind(deletion.map(|deletion| deletion.billing_end))
    .bind(deletion.map(|deletion| deletion.purge_at))
    .bind(deletion.map(|deletion| deletion.activity_id.as_str()))
    .execute(&mut *conn)
    .await?;
    super::stamps::moved_on(conn, key).await
}

/// The instance of that folded id, deleted or not.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<StoredInstance>> {
    let row = query("SELECT * FROM backup_instances WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The instances of a vault, by folded id, deleted ones or the others.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list(
    conn: &mut Conn,
    granted: &Granted,
    vault_key: &str,
    is_deleted: bool,
) -> DbResult<Vec<StoredInstance>> {
    page(conn, granted, vault_key, is_deleted, "", i64::MAX).await
}

/// The instances of a vault, by folded id, deleted ones or the others: at most `limit` behind the one named `after`.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn page(
    conn: &mut Conn,
    _granted: &Granted,
    vault_key: &str,
    is_deleted: bool,
    after: &str,
    limit: i64,
) -> DbResult<Vec<StoredInstance>> {
    let rows = query(
        "SELECT * FROM backup_instances
         WHERE vault_key = $1 AND (protection_state = 'SoftDeleted') = ($2 = 1) AND key > $3 ORDER BY key LIMIT $4",
    )
    .bind(vault_key)
    .bind(i64::from(is_deleted))
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The instances (not the deleted ones) that protect a storage account; at most one.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn by_datasource(
    conn: &mut Conn,
    _granted: &Granted,
    datasource_key: &str,
) -> DbResult<Option<StoredInstance>> {
    let row = query("SELECT * FROM backup_instances WHERE datasource_key = $1 AND protection_state <> 'SoftDeleted'")
        .bind(datasource_key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The instances, deleted ones too, that use a policy.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn by_policy(conn: &mut Conn, _granted: &Granted, policy_key: &str) -> DbResult<Vec<StoredInstance>> {
    let rows = query("SELECT * FROM backup_instances WHERE policy_key = $1 ORDER BY key")
        .bind(policy_key)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The instances whose next scheduled backup is due, the longest waiting first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn due(conn: &mut Conn, _granted: &Granted, now: i64, limit: i64) -> DbResult<Vec<StoredInstance>> {
    let rows = query(
        "SELECT * FROM backup_instances
         WHERE next_run_at <= $1
           AND protection_state IN ('ProtectionConfigured', 'UpdatingProtection', 'ProtectionError')
         ORDER BY next_run_at, key LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// When the operational tier looks at an instance next; none: its policy has nothing for that tier.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_look_at(conn: &mut Conn, _granted: &Granted, key: &str, look_at: Option<i64>) -> DbResult<()> {
    query("UPDATE backup_instances SET look_at = $2 WHERE key = $1").bind(key).bind(look_at).execute(conn).await?;
    Ok(())
}

/// No look is later than that: the interval of the configuration may have become shorter.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn look_no_later_than(conn: &mut Conn, _granted: &Granted, latest: i64) -> DbResult<()> {
    query("UPDATE backup_instances SET look_at = $1 WHERE look_at > $1").bind(latest).execute(conn).await?;
    Ok(())
}

/// An instance that the operational tier is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLook {
    /// Folded id.
    pub key: String,
    /// A backup of it waits or runs: the look may follow the feed of changes, and make no point.
    pub is_backed_up: bool,
}

/// The protected instances that the operational tier is to look at, the longest waiting first. Not those that a restore in place works on, and of
/// those that are backed up only the ones whose account keeps versions.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn due_looks(conn: &mut Conn, _granted: &Granted, now: i64, limit: i64) -> DbResult<Vec<DueLook>> {
    let rows = query(
        "SELECT key, backups FROM
           (SELECT i.key, i.look_at, i.instance_uuid,
              (SELECT COUNT(*) FROM jobs j WHERE j.instance_key = i.key AND j.kind = 'backup'
                 AND j.status IN ('Queued', 'InProgress')) AS backups
            FROM backup_instances i
            WHERE i.look_at <= $1 AND i.protection_state IN ('ProtectionConfigured', 'ProtectionError')
              AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.instance_key = i.key AND j.kind = 'restore'
                                AND j.in_place = 1 AND j.status IN ('Queued', 'InProgress'))) due
         WHERE backups = 0 OR EXISTS (SELECT 1 FROM operational_ranges r
                                      WHERE r.instance_uuid = due.instance_uuid AND r.is_open = 1 AND r.base IS NOT NULL)
         ORDER BY look_at, key LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok(DueLook { key: row.try_get("key")?, is_backed_up: row.try_get::<i64>("backups")? > 0 }))
        .collect()
}

/// The deleted instances whose time is over.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn purgeable(conn: &mut Conn, _granted: &Granted, now: i64) -> DbResult<Vec<StoredInstance>> {
    let rows = query(
        "SELECT * FROM backup_instances WHERE protection_state = 'SoftDeleted' AND purge_at <= $1 ORDER BY purge_at, key",
    )
    .bind(now)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Removes an instance, the role assignments inside it and what is remembered of its points; for the worker, after the data is gone.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn purge(conn: &mut Conn, granted: &Granted, key: &str) -> DbResult<()> {
    super::role_assignments::delete_within(conn, granted, key).await?;
    super::stamps::forget(conn, key).await?;
    if let Some(uuid) = uuid_of(conn, key).await? {
        super::operational_ranges::close(conn, &uuid).await?;
        super::operational_ranges::forget_before(conn, &uuid, i64::MAX).await?;
        super::operational_containers::forget(conn, &uuid).await?;
    }
    query("DELETE FROM recovery_points WHERE instance_key = $1").bind(key).execute(&mut *conn).await?;
    query("DELETE FROM backup_instances WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}
