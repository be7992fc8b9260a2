//! What is known of the blob services of storage accounts: their settings, what protecting them changed, and what looks have seen. The accounts
//! themselves are elsewhere; these rows turn nothing on or off there.

use blobkeep_arm::blob_service::{Protection, Settings};

use super::{Conn, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;

/// The blob service of one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobService {
    /// The settings.
    pub settings: Settings,
    /// What a protection by the operational tier changed in them, as long as it was not undone.
    pub protection: Option<Protection>,
    /// Whether the last look found that the account keeps versions and writes a change feed.
    pub versions_seen: Option<bool>,
}

fn read(row: &Row) -> DbResult<BlobService> {
    let key: String = row.try_get("key")?;
    let what = format!("blob_services {key}");
    let settings: String = row.try_get("settings")?;
    let protection: Option<String> = row.try_get("protection")?;
    Ok(BlobService {
        settings: from_json(&what, &settings)?,
        protection: protection.map(|text| from_json(&what, &text)).transpose()?,
        versions_seen: row.try_get::<Option<i64>>("versions_seen")?.map(|seen| seen != 0),
    })
}

/// The blob service of the account of that folded id: as Azure makes one, if nothing is known of it.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, key: &str) -> DbResult<BlobService> {
    let row = query("SELECT * FROM blob_services WHERE key = $1").bind(key).fetch_optional(conn).await?;
    Ok(row.as_ref().map(read).transpose()?.unwrap_or_default())
}

/// Keeps what is known of a blob service.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn put(conn: &mut Conn, _granted: &Granted, key: &str, service: &BlobService, now: i64) -> DbResult<()> {
    let protection = service.protection.map(|protection| to_json("protection", &protection)).transpose()?;
    query(
        "INSERT INTO blob_services (key, settings, protection, versions_seen, updated_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (key) DO UPDATE SET settings = excluded.settings, protection = excluded.protection,
             versions_seen = excluded.versions_seen, updated_at = excluded.updated_at",
    )
    .bind(key)
    .bind(to_json("settings", &service.settings)?)
    .bind(protection)
    .bind(service.versions_seen.map(i64::from))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets a blob service, when its account is removed.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn forget(conn: &mut Conn, key: &str) -> DbResult<()> {
    query("DELETE FROM blob_services WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}
