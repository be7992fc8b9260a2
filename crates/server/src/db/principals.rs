//! Principals: applications with a secret, and the managed identities of vaults, which have none.
//!
//! Secrets are stored as keyed hashes; the clear text is returned once, where it is made, and never comes through here.

use super::{Conn, DbResult, Row, query};

/// What kind of principal a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Has a secret and asks for tokens.
    Application,
    /// Belongs to a resource; the service acts with its rights.
    ManagedIdentity,
}

impl PrincipalKind {
    /// As it is stored, and as Graph look-alikes call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::ManagedIdentity => "ManagedIdentity",
        }
    }
}

/// A principal.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What role assignments name; a lower-case GUID.
    pub object_id: String,
    /// What a client calls its `client_id`; a lower-case GUID.
    pub app_id: String,
    /// For people.
    pub name: String,
    /// Application or managed identity.
    pub kind: PrincipalKind,
    /// Folded id of the resource that a managed identity belongs to.
    pub resource_key: Option<String>,
    /// When it was made, microseconds.
    pub created_at: i64,
}

fn read(row: &Row) -> DbResult<Principal> {
    let kind: String = row.try_get("kind")?;
    let object_id: String = row.try_get("object_id")?;
    let kind = match kind.as_str() {
        "Application" => PrincipalKind::Application,
        "ManagedIdentity" => PrincipalKind::ManagedIdentity,
        other => return Err(super::DbError::bad_row(format!("principals {object_id}"), format!("kind '{other}'"))),
    };
    Ok(Principal {
        object_id,
        app_id: row.try_get("app_id")?,
        name: row.try_get("name")?,
        kind,
        resource_key: row.try_get("resource_key")?,
        created_at: row.try_get("created_at")?,
    })
}

/// Adds a principal. `secret_hash` is the keyed hash of its secret ([`crate::identity::Identity::secret_hash`]); `None` for managed
/// identities.
///
/// # Errors
/// A duplicate ([`super::DbError::is_duplicate`]) when the name of an application, the ids or the resource are taken.
pub async fn create(conn: &mut Conn, principal: &Principal, secret_hash: Option<&str>) -> DbResult<()> {
    query(
        "INSERT INTO principals (object_id, app_id, name, kind, resource_key, secret_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&principal.object_id)
    .bind(&principal.app_id)
    .bind(&principal.name)
    .bind(principal.kind.as_str())
    .bind(&principal.resource_key)
    .bind(secret_hash)
    .bind(principal.created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes the managed identity of a resource with new ids, or returns the one that it has already.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn create_managed_identity(conn: &mut Conn, name: &str, resource_key: &str, now: i64) -> DbResult<Principal> {
    if let Some(found) = by_resource(conn, resource_key).await? {
        return Ok(found);
    }
    let principal = Principal {
        object_id: uuid::Uuid::new_v4().to_string(),
        app_id: uuid::Uuid::new_v4().to_string(),
        name: name.to_owned(),
        kind: PrincipalKind::ManagedIdentity,
        resource_key: Some(resource_key.to_owned()),
        created_at: now,
    };
    create(conn, &principal, None).await?;
    Ok(principal)
}

/// Sets another secret.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn set_secret_hash(conn: &mut Conn, object_id: &str, secret_hash: &str) -> DbResult<()> {
    query("UPDATE principals SET secret_hash = $2 WHERE object_id = $1")
        .bind(object_id)
        .bind(secret_hash)
        .execute(conn)
        .await?;
    Ok(())
}

/// The application with that client id, with the hash of its secret.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_app_id(conn: &mut Conn, app_id: &str) -> DbResult<Option<(Principal, Option<String>)>> {
    let row = query("SELECT * FROM principals WHERE app_id = $1")
        .bind(app_id.to_ascii_lowercase())
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok((read(&row)?, row.try_get("secret_hash")?))).transpose()
}

/// The principal with that object id.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_object_id(conn: &mut Conn, object_id: &str) -> DbResult<Option<Principal>> {
    let row = query("SELECT * FROM principals WHERE object_id = $1")
        .bind(object_id.to_ascii_lowercase())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The application of that name.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_name(conn: &mut Conn, name: &str) -> DbResult<Option<Principal>> {
    let row = query("SELECT * FROM principals WHERE name = $1 AND kind = 'Application'")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The managed identity of a resource.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_resource(conn: &mut Conn, resource_key: &str) -> DbResult<Option<Principal>> {
    let row = query("SELECT * FROM principals WHERE resource_key = $1").bind(resource_key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// All principals, oldest first.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn) -> DbResult<Vec<Principal>> {
    query("SELECT * FROM principals ORDER BY created_at, object_id").fetch_all(conn).await?.iter().map(read).collect()
}

/// Removes a principal together with its role assignments.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, object_id: &str) -> DbResult<()> {
    query("DELETE FROM role_assignments WHERE principal_id = $1").bind(object_id).execute(&mut *conn).await?;
    query("DELETE FROM principals WHERE object_id = $1").bind(object_id).execute(conn).await?;
    Ok(())
}
