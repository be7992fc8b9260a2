//! Resource groups.

use std::collections::BTreeMap;

use super::{Conn, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// Tags of a resource, by name.
pub type Tags = BTreeMap<String, String>;

/// A resource group.
#[derive(Debug, Clone)]
pub struct ResourceGroup {
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Location as given.
    pub location: String,
    /// Tags.
    pub tags: Tags,
    /// Microseconds.
    pub created_at: i64,
}

fn read(row: &Row) -> DbResult<ResourceGroup> {
    let id: String = row.try_get("id")?;
    let tags: String = row.try_get("tags")?;
    Ok(ResourceGroup {
        tags: from_json(&format!("resource_groups {id}"), &tags)?,
        id,
        name: row.try_get("name")?,
        location: row.try_get("location")?,
        created_at: row.try_get("created_at")?,
    })
}

/// Adds a group.
///
/// # Errors
/// [`super::DbError`] when the database fails or the subscription is not there.
pub async fn create(conn: &mut Conn, _granted: &Granted, group: &ResourceGroup, subscription_id: &str) -> DbResult<()> {
    query(
        "INSERT INTO resource_groups (key, id, name, subscription_key, location, tags, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(blobkeep_arm::id::fold(&group.id))
    .bind(&group.id)
    .bind(&group.name)
    .bind(subscription_id.to_lowercase())
    .bind(&group.location)
    .bind(to_json("tags", &group.tags)?)
    .bind(group.created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets a group's tags.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn set_tags(conn: &mut Conn, _granted: &Granted, key: &str, tags: &Tags) -> DbResult<()> {
    query("UPDATE resource_groups SET tags = $2 WHERE key = $1")
        .bind(key)
        .bind(to_json("tags", tags)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// The group of that folded id. A grant on anything inside the group is enough: whether it is there is what its parts depend on.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<ResourceGroup>> {
    let row = query("SELECT * FROM resource_groups WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The groups of a subscription, by name: at most `limit` behind the folded id `after`. The caller shows only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn, subscription_id: &str, after: &str, limit: i64) -> DbResult<Vec<ResourceGroup>> {
    let rows = query("SELECT * FROM resource_groups WHERE subscription_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(subscription_id.to_lowercase())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// Removes an empty group.
///
/// # Errors
/// [`super::DbError`] when the database fails or something still refers to the group.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    query("DELETE FROM resource_groups WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}

/// Ids of what lies in a group: a group with contents is not removed, also not one to which a deleted vault may come back.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn contents(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Vec<String>> {
    let rows = query(
        "SELECT id FROM storage_accounts WHERE group_key = $1
         UNION ALL SELECT CASE WHEN deleted_at IS NULL THEN id ELSE id || ' (soft-deleted)' END FROM backup_vaults
             WHERE group_key = $1
         UNION ALL SELECT id FROM resource_guards WHERE group_key = $1 ORDER BY id",
    )
    .bind(key)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}
