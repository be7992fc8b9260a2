//! Role definitions that somebody made. The built-in ones are no rows: [`crate::auth::roles`].

use super::{Conn, DbResult, Row, query};
use crate::auth::Granted;
use crate::auth::permission::Permission;

/// A role that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleDefinition {
    /// Its GUID, lower case: what assignments name.
    pub guid: String,
    /// Its name, e.g. `Backup Auditor`; no other definition has it, in any case of letters.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What it allows.
    pub permissions: Vec<Permission>,
    /// The ids of the subscriptions, groups or resources in which it may be given, as they were given.
    pub assignable_scopes: Vec<String>,
    /// Object id of who made it.
    pub created_by: String,
    /// Object id of who changed it last.
    pub updated_by: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<RoleDefinition> {
    let text = |column: &str| -> DbResult<String> { Ok(row.try_get(column)?) };
    Ok(RoleDefinition {
        guid: text("guid")?,
        name: text("name")?,
        description: row.try_get("description")?,
        permissions: super::from_json("role_definitions.permissions", &text("permissions")?)?,
        assignable_scopes: super::from_json("role_definitions.assignable_scopes", &text("assignable_scopes")?)?,
        created_by: text("created_by")?,
        updated_by: text("updated_by")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Names are compared without case.
fn fold_name(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The definition with that GUID (lower case).
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, guid: &str) -> DbResult<Option<RoleDefinition>> {
    let row = query("SELECT * FROM role_definitions WHERE guid = $1").bind(guid).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The definition of that name, compared without case.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_name(conn: &mut Conn, _granted: &Granted, name: &str) -> DbResult<Option<RoleDefinition>> {
    let row =
        query("SELECT * FROM role_definitions WHERE name_key = $1").bind(fold_name(name)).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// All definitions, by name. The caller keeps those that concern its scope.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn, _granted: &Granted) -> DbResult<Vec<RoleDefinition>> {
    let rows = query("SELECT * FROM role_definitions ORDER BY name_key").fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// Makes or changes a definition; who made it and when stays as it was.
///
/// # Errors
/// A duplicate ([`super::DbError::is_duplicate`]) when another definition has the name.
pub async fn put(conn: &mut Conn, _granted: &Granted, definition: &RoleDefinition) -> DbResult<()> {
    query(
        "INSERT INTO role_definitions
           (guid, name_key, name, description, permissions, assignable_scopes, created_by, updated_by, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (guid) DO UPDATE SET
           name_key = excluded.name_key, name = excluded.name, description = excluded.description,
           permissions = excluded.permissions, assignable_scopes = excluded.assignable_scopes,
           updated_by = excluded.updated_by, updated_at = excluded.updated_at",
    )
    .bind(&definition.guid)
    .bind(fold_name(&definition.name))
    .bind(&definition.name)
    .bind(&definition.description)
    .bind(super::to_json("role_definitions.permissions", &definition.permissions)?)
    .bind(super::to_json("role_definitions.assignable_scopes", &definition.assignable_scopes)?)
    .bind(&definition.created_by)
    .bind(&definition.updated_by)
    .bind(definition.created_at)
    .bind(definition.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a definition.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, _granted: &Granted, guid: &str) -> DbResult<()> {
    query("DELETE FROM role_definitions WHERE guid = $1").bind(guid).execute(conn).await?;
    Ok(())
}
