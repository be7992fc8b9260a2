//! Backup policies, and what they said before they were changed.

use blobkeep_arm::policy::Policy;

use super::{Conn, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// A stored policy.
#[derive(Debug, Clone)]
pub struct StoredPolicy {
    /// Folded id.
    pub key: String,
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// 1, 2, … with every change.
    pub version: i64,
    /// The rules.
    pub policy: Policy,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<StoredPolicy> {
    let id: String = row.try_get("id")?;
    let properties: String = row.try_get("properties")?;
    Ok(StoredPolicy {
        policy: from_json(&format!("backup_policies {id}"), &properties)?,
        key: row.try_get("key")?,
        id,
        name: row.try_get("name")?,
        vault_key: row.try_get("vault_key")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Adds a policy, or replaces the rules of the one that is there; every version is kept for the record.
///
/// # Errors
/// [`super::DbError`] when the database fails or the vault is not there.
pub async fn put(conn: &mut Conn, _granted: &Granted, policy: &StoredPolicy) -> DbResult<()> {
    let properties = to_json("policy", &policy.policy)?;
    query(
        "INSERT INTO backup_policies (key, id, name, vault_key, version, properties, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (key) DO UPDATE SET version = excluded.version, properties = excluded.properties,
             updated_at = excluded.updated_at",
    )
    .bind(&policy.key)
    .bind(&policy.id)
    .bind(&policy.name)
    .bind(&policy.vault_key)
    .bind(policy.version)
    .bind(&properties)
    .bind(policy.created_at)
    .bind(policy.updated_at)
    .execute(&mut *conn)
    .await?;
    query("INSERT INTO backup_policy_versions (policy_key, version, properties, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&policy.key)
        .bind(policy.version)
        .bind(&properties)
        .bind(policy.updated_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// The policy of that folded id. A grant on anything inside its vault is enough.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<StoredPolicy>> {
    let row = query("SELECT * FROM backup_policies WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The policies of a vault, by folded id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn, granted: &Granted, vault_key: &str) -> DbResult<Vec<StoredPolicy>> {
    page(conn, granted, vault_key, "", i64::MAX).await
}

/// The policies of a vault, by folded id: at most `limit` behind the one named `after`.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn page(
    conn: &mut Conn,
    _granted: &Granted,
    vault_key: &str,
    after: &str,
    limit: i64,
) -> DbResult<Vec<StoredPolicy>> {
    let rows = query("SELECT * FROM backup_policies WHERE vault_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(vault_key)
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// What a policy said from some instant on.
#[derive(Debug, Clone)]
pub struct PolicyVersion {
    /// 1, 2, … with every change.
    pub version: i64,
    /// The rules.
    pub policy: Policy,
    /// Since when, microseconds.
    pub created_at: i64,
}

/// The versions of a policy, newest first: at most `limit` of those before the version `before`.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn versions(
    conn: &mut Conn,
    _granted: &Granted,
    key: &str,
    before: i64,
    limit: i64,
) -> DbResult<Vec<PolicyVersion>> {
    let rows = query(
        "SELECT version, properties, created_at FROM backup_policy_versions
         WHERE policy_key = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
    )
    .bind(key)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read = |row: &Row| {
        let properties: String = row.try_get("properties")?;
        Ok(PolicyVersion {
            version: row.try_get("version")?,
            policy: from_json(&format!("backup_policy_versions {key}"), &properties)?,
            created_at: row.try_get("created_at")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Removes a policy and its history.
///
/// # Errors
/// [`super::DbError`] when the database fails or an instance still uses the policy.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    super::stamps::forget(conn, key).await?;
    query("DELETE FROM backup_policies WHERE key = $1").bind(key).execute(&mut *conn).await?;
    query("DELETE FROM backup_policy_versions WHERE policy_key = $1").bind(key).execute(conn).await?;
    Ok(())
}
