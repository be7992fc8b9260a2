//! Stamps of resources: who made and changed them, and a revision that grows with every change that a client can see.
//!
//! A request that makes or changes a resource says so here ([`made`], [`changed`]); functions of `db` that change one for other reasons
//! only let its revision grow (`moved_on`). A row goes with its resource (`forget`).

use std::collections::HashMap;

use blobkeep_arm::stamp::{Change, Stamp};

use super::{Conn, DbResult, Row, query};
use crate::auth::Granted;

/// The folded last type of a folded id.
fn kind_of(key: &str) -> &str {
    key.rsplit('/').nth(1).unwrap_or_default()
}

fn read(row: &Row) -> DbResult<Stamp> {
    Ok(Stamp {
        revision: row.try_get("revision")?,
        created: Change {
            by: row.try_get("created_by")?,
            by_type: row.try_get("created_by_type")?,
            at: row.try_get("created_at")?,
        },
        updated: Change {
            by: row.try_get("updated_by")?,
            by_type: row.try_get("updated_by_type")?,
            at: row.try_get("updated_at")?,
        },
    })
}

/// A resource was made. What may be left of an earlier one of its name is replaced.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn made(conn: &mut Conn, _granted: &Granted, key: &str, change: &Change) -> DbResult<Stamp> {
    let row = query(
        "INSERT INTO resource_stamps
             (kind, key, revision, created_by, created_by_type, created_at, updated_by, updated_by_type, updated_at)
         VALUES ($1, $2, 1, $3, $4, $5, $3, $4, $5)
         ON CONFLICT (kind, key) DO UPDATE SET revision = resource_stamps.revision + 1,
             created_by = excluded.created_by, created_by_type = excluded.created_by_type, created_at = excluded.created_at,
             updated_by = excluded.updated_by, updated_by_type = excluded.updated_by_type, updated_at = excluded.updated_at
         RETURNING *",
    )
    .bind(kind_of(key))
    .bind(key)
    .bind(&change.by)
    .bind(&change.by_type)
    .bind(change.at)
    .fetch_one(conn)
    .await?;
    read(&row)
}

/// A resource was changed. Of one without a stamp it is not known who made it.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn changed(conn: &mut Conn, _granted: &Granted, key: &str, change: &Change) -> DbResult<Stamp> {
    let row = query(
        "INSERT INTO resource_stamps
             (kind, key, revision, created_by, created_by_type, created_at, updated_by, updated_by_type, updated_at)
         VALUES ($1, $2, 1, '', '', $5, $3, $4, $5)
         ON CONFLICT (kind, key) DO UPDATE SET revision = resource_stamps.revision + 1,
             updated_by = excluded.updated_by, updated_by_type = excluded.updated_by_type, updated_at = excluded.updated_at
         RETURNING *",
    )
    .bind(kind_of(key))
    .bind(key)
    .bind(&change.by)
    .bind(&change.by_type)
    .bind(change.at)
    .fetch_one(conn)
    .await?;
    read(&row)
}

/// Something that a client can see of a resource has changed, by no request of anybody's to change it.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub(super) async fn moved_on(conn: &mut Conn, key: &str) -> DbResult<()> {
    query("UPDATE resource_stamps SET revision = revision + 1 WHERE kind = $1 AND key = $2")
        .bind(kind_of(key))
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// The stamp of the resource of that folded id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<Stamp>> {
    let row = query("SELECT * FROM resource_stamps WHERE kind = $1 AND key = $2")
        .bind(kind_of(key))
        .bind(key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The stamps of all resources of one type from one folded id to another, for the rows of a page. The caller shows only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn between(conn: &mut Conn, first_key: &str, last_key: &str) -> DbResult<HashMap<String, Stamp>> {
    let rows = query("SELECT * FROM resource_stamps WHERE kind = $1 AND key >= $2 AND key <= $3")
        .bind(kind_of(first_key))
        .bind(first_key)
        .bind(last_key)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, read(row)?))).collect()
}

/// A resource is gone.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub(super) async fn forget(conn: &mut Conn, key: &str) -> DbResult<()> {
    query("DELETE FROM resource_stamps WHERE kind = $1 AND key = $2")
        .bind(kind_of(key))
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn the_kind_is_the_last_type_of_the_id() {
        let vault = "/subscriptions/s/resourcegroups/g/providers/microsoft.dataprotection/backupvaults/v";
        assert_eq!(kind_of(vault), "backupvaults");
        assert_eq!(kind_of(&format!("{vault}/backupinstances/i")), "backupinstances");
    }
}
