//! The links of vaults to resource guards, and deletions that were unlocked for a while.

use super::{Conn, DbResult, Row, from_json, query};
use crate::auth::Granted;

/// The link of a vault to its guard.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Folded id.
    pub key: String,
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// Folded id of the guard.
    pub guard_key: String,
    /// Free text.
    pub description: Option<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

/// A link with what it leads to.
#[derive(Debug, Clone)]
pub struct Link {
    /// The link.
    pub proxy: Proxy,
    /// ARM id of the guard as created.
    pub guard_id: String,
    /// Names of the operations that the guard does not protect.
    pub exclusions: Vec<String>,
}

fn read(row: &Row) -> DbResult<Link> {
    let id: String = row.try_get("id")?;
    let exclusions: String = row.try_get("exclusions")?;
    Ok(Link {
        guard_id: row.try_get("guard_id")?,
        exclusions: from_json(&format!("guard of {id}"), &exclusions)?,
        proxy: Proxy {
            key: row.try_get("key")?,
            id,
            name: row.try_get("name")?,
            vault_key: row.try_get("vault_key")?,
            guard_key: row.try_get("guard_key")?,
            description: row.try_get("description")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        },
    })
}

/// The link of a vault, if it has one. A grant on anything inside the vault is enough: the guard comes with the link.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn of_vault(conn: &mut Conn, _granted: &Granted, vault_key: &str) -> DbResult<Option<Link>> {
    let row = query(
        "SELECT p.*, g.id AS guard_id, g.exclusions FROM resource_guard_proxies p
         JOIN resource_guards g ON g.key = p.guard_key WHERE p.vault_key = $1",
    )
    .bind(vault_key)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Links a vault to a guard, or its link to another one. What was unlocked under another guard is locked again.
///
/// # Errors
/// [`super::DbError`] when the database fails, vault or guard are not there, or the vault has a link of another name.
pub async fn put(conn: &mut Conn, _granted: &Granted, proxy: &Proxy) -> DbResult<()> {
    query(
        "DELETE FROM unlocked_deletes WHERE vault_key = $1
             AND NOT EXISTS (SELECT 1 FROM resource_guard_proxies WHERE vault_key = $1 AND guard_key = $2)",
    )
    .bind(&proxy.vault_key)
    .bind(&proxy.guard_key)
    .execute(&mut *conn)
    .await?;
    query(
        "INSERT INTO resource_guard_proxies (key, id, name, vault_key, guard_key, description, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (key) DO UPDATE SET guard_key = excluded.guard_key, description = excluded.description,
             updated_at = excluded.updated_at",
    )
    .bind(&proxy.key)
    .bind(&proxy.id)
    .bind(&proxy.name)
    .bind(&proxy.vault_key)
    .bind(&proxy.guard_key)
    .bind(&proxy.description)
    .bind(proxy.created_at)
    .bind(proxy.updated_at)
    .execute(&mut *conn)
    .await?;
    set_guarded(conn, &proxy.vault_key, true).await
}

/// Takes a vault's link away, with everything that was unlocked under it.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, _granted: &Granted, proxy: &Proxy) -> DbResult<()> {
    super::stamps::forget(conn, &proxy.key).await?;
    query("DELETE FROM resource_guard_proxies WHERE key = $1").bind(&proxy.key).execute(&mut *conn).await?;
    query("DELETE FROM unlocked_deletes WHERE vault_key = $1").bind(&proxy.vault_key).execute(&mut *conn).await?;
    set_guarded(conn, &proxy.vault_key, false).await
}

async fn set_guarded(conn: &mut Conn, vault_key: &str, is_guarded: bool) -> DbResult<()> {
    query("UPDATE backup_vaults SET is_guarded = $2 WHERE key = $1")
        .bind(vault_key)
        .bind(i64::from(is_guarded))
        .execute(&mut *conn)
        .await?;
    super::stamps::moved_on(conn, vault_key).await
}

/// Lets the principal of the grant delete something in the vault, once and until `expires_at` (µs). Forgets what has expired.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn unlock(
    conn: &mut Conn,
    granted: &Granted,
    vault_key: &str,
    resource_key: &str,
    now: i64,
    expires_at: i64,
) -> DbResult<()> {
    query("DELETE FROM unlocked_deletes WHERE expires_at <= $1").bind(now).execute(&mut *conn).await?;
    query(
        "INSERT INTO unlocked_deletes (resource_key, principal_id, vault_key, expires_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (resource_key, principal_id) DO UPDATE SET expires_at = excluded.expires_at",
    )
    .bind(resource_key)
    .bind(granted.principal_id())
    .bind(vault_key)
    .bind(expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Uses up what [`unlock`] allowed the principal of the grant; false if that was nothing, or is over.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn use_unlock(conn: &mut Conn, granted: &Granted, resource_key: &str, now: i64) -> DbResult<bool> {
    let used = query("DELETE FROM unlocked_deletes WHERE resource_key = $1 AND principal_id = $2 AND expires_at > $3")
        .bind(resource_key)
        .bind(granted.principal_id())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(used.rows_affected() > 0)
}
