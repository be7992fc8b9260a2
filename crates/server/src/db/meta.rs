//! Facts about the installation as a whole, by name.

use super::{Conn, DbResult, query};

/// The tenant's GUID.
pub const TENANT_ID: &str = "tenant_id";
/// The GUID of the subscription that is there from the start.
pub const DEFAULT_SUBSCRIPTION_ID: &str = "default_subscription_id";

/// The value of `key`.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, key: &str) -> DbResult<Option<String>> {
    let row = query("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("value")).transpose()?)
}

/// Sets `key`.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn set(conn: &mut Conn, key: &str, value: &str) -> DbResult<()> {
    query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets `key`.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn remove(conn: &mut Conn, key: &str) -> DbResult<()> {
    query("DELETE FROM meta WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}
