//! Storage accounts: what Azure would know about them, and the sealed connection to where their blobs are.
//!
//! A connection leaves this file only sealed ([`get`]) or, for jobs, opened by [`connection`]; it is never part of an answer.

use super::resource_groups::Tags;
use super::{Conn, DbError, DbResult, Row, from_json, query, to_json};
use crate::accounts::Connection;
use crate::auth::Granted;
use crate::seal::Sealer;

/// A storage account, without its secrets.
#[derive(Debug, Clone)]
pub struct StorageAccount {
    /// ARM id as created.
    pub id: String,
    /// Name as created.
    pub name: String,
    /// Folded id of the subscription.
    pub subscription_key: String,
    /// Folded id of the resource group.
    pub group_key: String,
    /// Location as given.
    pub location: String,
    /// Tags.
    pub tags: Tags,
    /// `sku`, `kind` and the other settings that the owner gave, as answered.
    pub properties: serde_json::Value,
    /// `AzureBlob` or `LocalFolder`; `None`: not connected.
    pub connection_kind: Option<String>,
    /// Where the blobs are, without any secret.
    pub connection_url: Option<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

fn read(row: &Row) -> DbResult<StorageAccount> {
    let id: String = row.try_get("id")?;
    let what = format!("storage_accounts {id}");
    let tags: String = row.try_get("tags")?;
    let properties: String = row.try_get("properties")?;
    Ok(StorageAccount {
        id,
        name: row.try_get("name")?,
        subscription_key: row.try_get("subscription_key")?,
        group_key: row.try_get("group_key")?,
        location: row.try_get("location")?,
        tags: from_json(&what, &tags)?,
        properties: from_json(&what, &properties)?,
        connection_kind: row.try_get("connection_kind")?,
        connection_url: row.try_get("connection_url")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Adds or replaces an account; its connection stays as it is (see [`set_connection`]).
///
/// # Errors
/// [`DbError`] when the database fails or the group is not there.
pub async fn put(conn: &mut Conn, _granted: &Granted, account: &StorageAccount) -> DbResult<()> {
    query(
        "INSERT INTO storage_accounts
           (key, id, name, subscription_key, group_key, location, tags, properties, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (key) DO UPDATE SET tags = excluded.tags, properties = excluded.properties, updated_at = excluded.updated_at",
    )
    .bind(blobkeep_arm::id::fold(&account.id))
    .bind(&account.id)
    .bind(&account.name)
    .bind(&account.subscription_key)
    .bind(&account.group_key)
    .bind(&account.location)
    .bind(to_json("tags", &account.tags)?)
    .bind(to_json("properties", &account.properties)?)
    .bind(account.created_at)
    .bind(account.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Seals and stores the connection of an account.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_connection(
    conn: &mut Conn,
    _granted: &Granted,
    sealer: &Sealer,
    key: &str,
    connection: &Connection,
) -> DbResult<()> {
    let text = to_json("connection", connection)?;
    let sealed =
        sealer.seal(key, text.as_bytes()).map_err(|e| DbError::bad_row(format!("storage_accounts {key}"), e))?;
    query("UPDATE storage_accounts SET connection_kind = $2, connection_url = $3, connection = $4 WHERE key = $1")
        .bind(key)
        .bind(connection.kind_name())
        .bind(connection.public_url())
        .bind(sealed)
        .execute(conn)
        .await?;
    Ok(())
}

/// The opened connection of an account, for jobs: `None` if the account is not there or not connected.
///
/// # Errors
/// [`DbError::BadRow`] when it cannot be opened: it was sealed by another installation, or changed.
pub async fn connection(
    conn: &mut Conn,
    _granted: &Granted,
    sealer: &Sealer,
    key: &str,
) -> DbResult<Option<Connection>> {
    let row = query("SELECT connection FROM storage_accounts WHERE key = $1").bind(key).fetch_optional(conn).await?;
    let sealed: Option<String> = row.map(|row| row.try_get("connection")).transpose()?.flatten();
    let Some(sealed) = sealed else { return Ok(None) };
    let what = format!("the connection of storage account {key}");
    let opened = sealer.open(key, &sealed).map_err(|e| DbError::bad_row(&what, e))?;
    let text = std::str::from_utf8(&opened).map_err(|e| DbError::bad_row(&what, e))?;
    Ok(Some(from_json(&what, text)?))
}

/// The account of that folded id.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<StorageAccount>> {
    let row = query("SELECT * FROM storage_accounts WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The accounts of a resource group, by folded id: at most `limit` behind the one named `after`. The caller shows only what may be read.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list_in_group(conn: &mut Conn, group_key: &str, after: &str, limit: i64) -> DbResult<Vec<StorageAccount>> {
    let rows = query("SELECT * FROM storage_accounts WHERE group_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(group_key)
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The accounts of a subscription (its GUID in any case), by folded id: at most `limit` behind the one named `after`. The caller shows
/// only what may be read.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list_in_subscription(
    conn: &mut Conn,
    subscription_id: &str,
    after: &str,
    limit: i64,
) -> DbResult<Vec<StorageAccount>> {
    let rows = query("SELECT * FROM storage_accounts WHERE subscription_key = $1 AND key > $2 ORDER BY key LIMIT $3")
        .bind(subscription_id.to_lowercase())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The accounts of that name in a subscription (its GUID in any case), one in a group. The caller tells only of what may be read.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn of_name(conn: &mut Conn, subscription_id: &str, name: &str) -> DbResult<Vec<StorageAccount>> {
    let rows = query("SELECT * FROM storage_accounts WHERE subscription_key = $1 AND name = $2 ORDER BY key")
        .bind(subscription_id.to_lowercase())
        .bind(name)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// Removes an account; its blobs stay where they are.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<()> {
    super::stamps::forget(conn, key).await?;
    super::blob_services::forget(conn, key).await?;
    query("DELETE FROM storage_accounts WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}

/// Id of the backup instance that protects an account now, if there is one; a soft-deleted instance does not count.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn protected_by(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<Option<String>> {
    let row = query("SELECT id FROM backup_instances WHERE datasource_key = $1 AND protection_state <> 'SoftDeleted'")
        .bind(key)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}
