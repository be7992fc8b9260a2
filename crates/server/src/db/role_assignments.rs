//! Role assignments: who has which role where.

use super::{Conn, DbResult, Row, query};
use crate::auth::Granted;
use crate::auth::permission::Permission;

/// A role assignment.
#[derive(Debug, Clone)]
pub struct RoleAssignment {
    /// The assignment's ARM id.
    pub id: String,
    /// Its name, a GUID.
    pub name: String,
    /// The scope as it was given.
    pub scope: String,
    /// The role definition's GUID.
    pub role: String,
    /// Object id of the principal.
    pub principal_id: String,
    /// `ServicePrincipal`, `User`, …: what the client said.
    pub principal_type: String,
    /// For people.
    pub description: Option<String>,
    /// Object id of who made it.
    pub created_by: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<RoleAssignment> {
    Ok(RoleAssignment {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scope: row.try_get("scope")?,
        role: row.try_get("role")?,
        principal_id: row.try_get("principal_id")?,
        principal_type: row.try_get("principal_type")?,
        description: row.try_get("description")?,
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// One thing that a principal was given, as far as rights are decided from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The folded scope.
    pub scope_key: String,
    /// The role definition's GUID.
    pub role: String,
    /// What the role allows if it is one that somebody made.
    pub permissions: Option<Vec<Permission>>,
}

/// Everything that a principal was given. Needs no grant: it is what grants are decided from.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn of_principal(conn: &mut Conn, principal_id: &str) -> DbResult<Vec<Given>> {
    let rows = query(
        "SELECT a.scope_key, a.role, d.permissions
         FROM role_assignments a LEFT JOIN role_definitions d ON d.guid = a.role
         WHERE a.principal_id = $1",
    )
    .bind(principal_id)
    .fetch_all(conn)
    .await?;
    let given = rows.iter().map(|row| {
        let permissions: Option<String> = row.try_get("permissions")?;
        let permissions =
            permissions.map(|text| super::from_json("role_definitions.permissions", &text)).transpose()?;
        Ok(Given { scope_key: row.try_get("scope_key")?, role: row.try_get("role")?, permissions })
    });
    given.collect()
}

/// Adds an assignment.
///
/// # Errors
/// A duplicate ([`super::DbError::is_duplicate`]) when the same principal has the same role at the same scope already.
pub async fn create(conn: &mut Conn, _granted: &Granted, assignment: &RoleAssignment) -> DbResult<()> {
    query(
        "INSERT INTO role_assignments
           (key, id, name, scope_key, scope, role, principal_id, principal_type, description, created_by, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(blobkeep_arm::id::fold(&assignment.id))
    .bind(&assignment.id)
    .bind(&assignment.name)
    .bind(blobkeep_arm::id::fold(&assignment.scope))
    .bind(&assignment.scope)
    .bind(&assignment.role)
    .bind(&assignment.principal_id)
    .bind(&assignment.principal_type)
    .bind(&assignment.description)
    .bind(&assignment.created_by)
    .bind(assignment.created_at)
    .bind(assignment.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The assignment of that folded id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<RoleAssignment>> {
    let row = query("SELECT * FROM role_assignments WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The assignment that says the same, if there is one.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn same(
    conn: &mut Conn,
    _granted: &Granted,
    principal_id: &str,
    role: &str,
    scope_key: &str,
) -> DbResult<Option<RoleAssignment>> {
    let row = query("SELECT * FROM role_assignments WHERE principal_id = $1 AND role = $2 AND scope_key = $3")
        .bind(principal_id)
        .bind(role)
        .bind(scope_key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// All assignments, by scope and name. The caller keeps those that concern its scope: their number is that of people and vaults.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn, _granted: &Granted) -> DbResult<Vec<RoleAssignment>> {
    let rows = query("SELECT * FROM role_assignments ORDER BY scope_key, key").fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// How many assignments give `role` at exactly that scope.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn count(conn: &mut Conn, _granted: &Granted, role: &str, scope_key: &str) -> DbResult<i64> {
    let row = query("SELECT COUNT(*) AS n FROM role_assignments WHERE role = $1 AND scope_key = $2")
        .bind(role)
        .bind(scope_key)
        .fetch_one(conn)
        .await?;
    Ok(row.try_get("n")?)
}

/// The folded scopes at which somebody has `role`, each once.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn scopes_of_role(conn: &mut Conn, _granted: &Granted, role: &str) -> DbResult<Vec<String>> {
    let rows = query("SELECT DISTINCT scope_key FROM role_assignments WHERE role = $1 ORDER BY scope_key")
        .bind(role)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("scope_key")?)).collect()
}

/// Changes what may change: the description.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn update(
    conn: &mut Conn,
    _granted: &Granted,
    key: &str,
    description: Option<&str>,
    now: i64,
) -> DbResult<()> {
    query("UPDATE role_assignments SET description = $2, updated_at = $3 WHERE key = $1")
        .bind(key)
        .bind(description)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes an assignment.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    query("DELETE FROM role_assignments WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}

/// Removes all assignments at a scope and below it, when the resource there is removed, and the locks with them: nobody finds old rights or
/// old locks in a new thing of the same name.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn delete_within(conn: &mut Conn, granted: &Granted, scope_key: &str) -> DbResult<()> {
    for assignment in list(conn, granted).await? {
        if blobkeep_arm::id::is_within(&blobkeep_arm::id::fold(&assignment.scope), scope_key) {
            delete(conn, granted, &blobkeep_arm::id::fold(&assignment.id)).await?;
        }
    }
    super::locks::delete_within(conn, granted, scope_key).await
}
