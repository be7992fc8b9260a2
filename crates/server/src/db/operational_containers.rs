//! The containers in which the newest base point of an instance, or its journal, has something. A feed of changes tells nothing of a container
//! that is deleted. A row that is lost costs one base point.

use std::collections::BTreeMap;

use super::{Conn, DbResult, from_json, query, to_json};

/// Containers by name, each with the mark that the account gave it when that was seen; none: what is known of it may be of a container of that
/// name which has gone.
pub type Marks = BTreeMap<String, Option<String>>;

/// What is known of the journal of this base point; none if nothing is.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, instance_uuid: &str, base: &str) -> DbResult<Option<Marks>> {
    let row = query("SELECT marks FROM operational_containers WHERE instance_uuid = $1 AND base = $2")
        .bind(instance_uuid)
        .bind(base)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let marks: String = row.try_get("marks")?;
    from_json(&format!("operational_containers {instance_uuid}"), &marks).map(Some)
}

/// Keeps what is known of the journal of this base point, instead of what was kept before.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn put(conn: &mut Conn, instance_uuid: &str, base: &str, marks: &Marks) -> DbResult<()> {
    query(
        "INSERT INTO operational_containers (instance_uuid, base, marks) VALUES ($1, $2, $3)
         ON CONFLICT (instance_uuid) DO UPDATE SET base = excluded.base, marks = excluded.marks",
    )
    .bind(instance_uuid)
    .bind(base)
    .bind(to_json("containers", marks)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets what is known of an instance.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn forget(conn: &mut Conn, instance_uuid: &str) -> DbResult<()> {
    query("DELETE FROM operational_containers WHERE instance_uuid = $1").bind(instance_uuid).execute(conn).await?;
    Ok(())
}
