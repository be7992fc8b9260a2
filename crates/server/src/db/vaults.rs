//! Backup vaults.

use blobkeep_arm::vault::VaultProperties;
use serde_json::{Map, Value};

use super::{Conn, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// A backup vault.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Folded id.
    pub key: String,
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Subscription as created.
    pub subscription_id: String,
    /// Folded id of the resource group.
    pub group_key: String,
    /// Location as given.
    pub location: String,
    /// Tags.
    pub tags: Map<String, Value>,
    /// The settings, complete with defaults.
    pub properties: VaultProperties,
    /// Names the vault in operation ids and in the store; a lower-case GUID.
    pub vault_uuid: String,
    /// Object id of its own identity, if it has one.
    pub principal_id: Option<String>,
    /// `Succeeded`, or what keeps it from that.
    pub provisioning_state: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
    /// It is linked to a resource guard. Kept by [`super::guard_proxies`]; [`put`] leaves it as it is.
    pub is_guarded: bool,
}

pub(super) fn read(row: &Row) -> DbResult<Vault> {
    let id: String = row.try_get("id")?;
    let what = format!("backup_vaults {id}");
    let tags: String = row.try_get("tags")?;
    let properties: String = row.try_get("properties")?;
    Ok(Vault {
        key: row.try_get("key")?,
        id,
        name: row.try_get("name")?,
        subscription_id: row.try_get("subscription_id")?,
        group_key: row.try_get("group_key")?,
        location: row.try_get("location")?,
        tags: from_json(&what, &tags)?,
        properties: from_json(&what, &properties)?,
        vault_uuid: row.try_get("vault_uuid")?,
        principal_id: row.try_get("principal_id")?,
        provisioning_state: row.try_get("provisioning_state")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        is_guarded: row.try_get::<i64>("is_guarded")? != 0,
    })
}

/// Adds a vault, or replaces tags, settings and identity of the one that is there.
///
/// # Errors
/// [`super::DbError`] when the database fails or the group is not there.
pub async fn put(conn: &mut Conn, _granted: &Granted, vault: &Vault) -> DbResult<()> {
    query(
        "INSERT INTO backup_vaults (key, id, name, subscription_id, subscription_key, group_key, location, tags,
             properties, vault_uuid, principal_id, provisioning_state, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (key) DO UPDATE SET tags = excluded.tags, properties = excluded.properties,
             principal_id = excluded.principal_id, provisioning_state = excluded.provisioning_state,
             updated_at = excluded.updated_at",
    )
    .bind(&vault.key)
    .bind(&vault.id)
    .bind(&vault.name)
    .bind(&vault.subscription_id)
    .bind(vault.subscription_id.to_lowercase())
    .bind(&vault.group_key)
    .bind(&vault.location)
    .bind(to_json("tags", &vault.tags)?)
    .bind(to_json("properties", &vault.properties)?)
    .bind(&vault.vault_uuid)
    .bind(&vault.principal_id)
    .bind(&vault.provisioning_state)
    .bind(vault.created_at)
    .bind(vault.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The same for a change that no request asked for.
///
/// # Errors
/// As for [`put`].
pub async fn put_moved_on(conn: &mut Conn, granted: &Granted, vault: &Vault) -> DbResult<()> {
    put(conn, granted, vault).await?;
    super::stamps::moved_on(conn, &vault.key).await
}

/// The vault of that folded id; a deleted one has another. A grant on anything inside the vault is enough.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<Vault>> {
    let row = query("SELECT * FROM backup_vaults WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The vault that the store knows by that id, deleted or not.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn by_uuid(conn: &mut Conn, _granted: &Granted, vault_uuid: &str) -> DbResult<Option<Vault>> {
    let row = query("SELECT * FROM backup_vaults WHERE vault_uuid = $1").bind(vault_uuid).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The vaults of a resource group, by folded id: at most `limit` behind the one named `after`. The caller shows only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list_in_group(conn: &mut Conn, group_key: &str, after: &str, limit: i64) -> DbResult<Vec<Vault>> {
    let rows = query(
        "SELECT * FROM backup_vaults WHERE group_key = $1 AND deleted_at IS NULL AND key > $2 ORDER BY key LIMIT $3",
    )
    .bind(group_key)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The vaults of a subscription (its GUID in any case), by folded id: at most `limit` behind the one named `after`. The caller shows
/// only what may be read.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list_in_subscription(
    conn: &mut Conn,
    subscription_id: &str,
    after: &str,
    limit: i64,
) -> DbResult<Vec<Vault>> {
    let rows = query(
        "SELECT * FROM backup_vaults WHERE subscription_key = $1 AND deleted_at IS NULL AND key > $2
         ORDER BY key LIMIT $3",
    )
    .bind(subscription_id.to_lowercase())
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Removes a vault.
///
/// # Errors
/// [`super::DbError`] when the database fails or something in the vault is left.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    super::stamps::forget(conn, key).await?;
    query("DELETE FROM backup_vaults WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}
