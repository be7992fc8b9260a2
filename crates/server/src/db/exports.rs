//! Exports of a vault's jobs.

use super::{Conn, DbResult, Row, query};
use crate::auth::Granted;

/// An export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// A lower-case GUID; names its files.
    pub id: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// Who asked.
    pub principal_id: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds; none while it is worked on.
    pub ended_at: Option<i64>,
    /// Why there are no files.
    pub error: Option<String>,
}

fn read(row: &Row) -> DbResult<Export> {
    Ok(Export {
        id: row.try_get("id")?,
        vault_key: row.try_get("vault_key")?,
        principal_id: row.try_get("principal_id")?,
        created_at: row.try_get("created_at")?,
        ended_at: row.try_get("ended_at")?,
        error: row.try_get("error")?,
    })
}

/// Adds an export that is still to be worked on.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn create(conn: &mut Conn, _granted: &Granted, export: &Export) -> DbResult<()> {
    query("INSERT INTO exports (id, vault_key, principal_id, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&export.id)
        .bind(&export.vault_key)
        .bind(&export.principal_id)
        .bind(export.created_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// The export of that id (in any case) in a vault.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, vault_key: &str, id: &str) -> DbResult<Option<Export>> {
    let row = query("SELECT * FROM exports WHERE id = $1 AND vault_key = $2")
        .bind(id.to_lowercase())
        .bind(vault_key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The newest export of a vault that was begun since an instant and has not ended.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn unfinished(conn: &mut Conn, _granted: &Granted, vault_key: &str, since: i64) -> DbResult<Option<Export>> {
    let row = query(
        "SELECT * FROM exports WHERE vault_key = $1 AND created_at >= $2 AND ended_at IS NULL
         ORDER BY created_at DESC LIMIT 1",
    )
    .bind(vault_key)
    .bind(since)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Ends an export; `error` says why there are no files.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn finish(conn: &mut Conn, id: &str, error: Option<&str>, now: i64) -> DbResult<()> {
    query("UPDATE exports SET ended_at = $2, error = $3 WHERE id = $1")
        .bind(id)
        .bind(now)
        .bind(error)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the exports of a vault that is gone: a later one of its name has nothing to do with them.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub(super) async fn forget_of_vault(conn: &mut Conn, vault_key: &str) -> DbResult<()> {
    query("DELETE FROM exports WHERE vault_key = $1").bind(vault_key).execute(conn).await?;
    Ok(())
}

/// Forgets the exports that were begun before an instant.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn forget_begun_before(conn: &mut Conn, instant: i64) -> DbResult<u64> {
    let done = query("DELETE FROM exports WHERE created_at < $1").bind(instant).execute(conn).await?;
    Ok(done.rows_affected())
}

/// The ids of all exports.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn ids(conn: &mut Conn) -> DbResult<Vec<String>> {
    let rows = query("SELECT id FROM exports").fetch_all(conn).await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}
