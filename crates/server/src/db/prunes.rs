//! Which vaults have space to be freed, and since when.

use super::vaults::{self, Vault};
use super::{Conn, DbResult, query};
use crate::auth::Granted;

/// Points of a vault have gone, or what they used could not be freed: a prune has something to do.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn points_removed(conn: &mut Conn, _granted: &Granted, vault_key: &str, now: i64) -> DbResult<()> {
    query("UPDATE backup_vaults SET points_removed_at = $2 WHERE key = $1")
        .bind(vault_key)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// A prune begins: what is removed from now on is for the next one.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn begun(conn: &mut Conn, _granted: &Granted, vault_key: &str, now: i64) -> DbResult<()> {
    query("UPDATE backup_vaults SET prune_begun_at = $2 WHERE key = $1")
        .bind(vault_key)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// The vaults (not the deleted ones) in which points have gone since the last prune began, if that was before an instant, or if there was
/// none and the vault was made before it; the longest waiting first.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn due(conn: &mut Conn, _granted: &Granted, before: i64) -> DbResult<Vec<Vault>> {
    let rows = query(
        "SELECT * FROM backup_vaults
         WHERE points_removed_at IS NOT NULL AND deleted_at IS NULL
           AND points_removed_at >= COALESCE(prune_begun_at, points_removed_at)
           AND COALESCE(prune_begun_at, created_at) <= $1
         ORDER BY COALESCE(prune_begun_at, created_at), key",
    )
    .bind(before)
    .fetch_all(conn)
    .await?;
    rows.iter().map(vaults::read).collect()
}

/// Whether a prune waits or runs, of whichever vault.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn is_under_way(conn: &mut Conn) -> DbResult<bool> {
    let row = query("SELECT COUNT(*) AS n FROM jobs WHERE kind = 'prune' AND status IN ('Queued', 'InProgress')")
        .fetch_one(conn)
        .await?;
    Ok(row.try_get::<i64>("n")? > 0)
}
