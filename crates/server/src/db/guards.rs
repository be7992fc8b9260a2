//! Resource guards.

use serde_json::{Map, Value};

use super::{Conn, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// A resource guard.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Folded id.
    pub key: String,
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Subscription, lower case.
    pub subscription_key: String,
    /// Folded id of the resource group.
    pub group_key: String,
    /// Location as given.
    pub location: String,
    /// Tags.
    pub tags: Map<String, Value>,
    /// Names of the operations that it does not protect.
    pub exclusions: Vec<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<Guard> {
    let id: String = row.try_get("id")?;
    let what = format!("resource_guards {id}");
    let tags: String = row.try_get("tags")?;
    let exclusions: String = row.try_get("exclusions")?;
    Ok(Guard {
        key: row.try_get("key")?,
        id,
        name: row.try_get("name")?,
        subscription_key: row.try_get("subscription_key")?,
        group_key: row.try_get("group_key")?,
        location: row.try_get("location")?,
        tags: from_json(&what, &tags)?,
        exclusions: from_json(&what, &exclusions)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Adds a guard, or replaces tags and exclusions of the one that is there.
///
/// # Errors
/// [`super::DbError`] when the database fails or the group is not there.
pub async fn put(conn: &mut Conn, _granted: &Granted, guard: &Guard) -> DbResult<()> {
    query(
        "INSERT INTO resource_guards (key, id, name, subscription_key, group_key, location, tags, exclusions,
             created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (key) DO UPDATE SET tags = excluded.tags, exclusions = excluded.exclusions,
             updated_at = excluded.updated_at",
    )
    .bind(&guard.key)
    .bind(&guard.id)
    .bind(&guard.name)
    .bind(&guard.subscription_key)
    .bind(&guard.group_key)
    .bind(&guard.location)
    .bind(to_json("tags", &guard.tags)?)
    .bind(to_json("exclusions", &guard.exclusions)?)
    .bind(guard.created_at)
    .bind(guard.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The guard of that folded id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<Guard>> {
    let row = query("SELECT * FROM resource_guards WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The guards of a resource group, by folded id. The caller shows only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list_in_group(conn: &mut Conn, group_key: &str, after: &str, limit: i64) -> DbResult<Vec<Guard>> {
    let rows = query("SELECT * FROM resource_guards WHERE group_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(group_key)
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The guards of a subscription (its GUID in any case), by folded id. The caller shows only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list_in_subscription(
    conn: &mut Conn,
    subscription_id: &str,
    after: &str,
    limit: i64,
) -> DbResult<Vec<Guard>> {
    let rows = query("SELECT * FROM resource_guards WHERE subscription_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(subscription_id.to_lowercase())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// Ids of the vaults that are linked to a guard, by folded id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn vaults_of(conn: &mut Conn, _granted: &Granted, guard_key: &str) -> DbResult<Vec<String>> {
    let rows = query(
        "SELECT v.id FROM resource_guard_proxies p JOIN backup_vaults v ON v.key = p.vault_key
         WHERE p.guard_key = $1 ORDER BY v.key",
    )
    .bind(guard_key)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Removes a guard.
///
/// # Errors
/// [`super::DbError`] when the database fails or a vault is still linked to it.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    super::stamps::forget(conn, key).await?;
    query("DELETE FROM resource_guards WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}
