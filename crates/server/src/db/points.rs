//! Recovery points: a cache of what the vaults' own records say, for lists and for the search of what has expired.
//!
//! Losing these rows loses nothing that can be restored; the worker writes them again from the vault.

use blobkeep_arm::point::{PointFilter, PointState};
use blobkeep_arm::word::DataStore;
use serde_json::Value;

use super::{Conn, DbError, DbResult, Row, from_json, query};
use crate::auth::Granted;

/// A recovery point as it is remembered.
#[derive(Debug, Clone)]
pub struct Point {
    /// Folded id of the instance.
    pub instance_key: String,
    /// 32 hex digits.
    pub id: String,
    /// The job that made it.
    pub job_id: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds; none: kept for ever.
    pub expires_at: Option<i64>,
    /// The retention rule that it falls under.
    pub tag: String,
    /// The backup rule that made it.
    pub rule: String,
    /// The policy's name when it was made.
    pub policy_name: String,
    /// When that policy had last changed, microseconds.
    pub tag_version: Option<i64>,
    /// Blobs and bytes, as the worker counts them.
    pub counts: Value,
    /// Whether it is complete.
    pub state: PointState,
    /// Where it lies.
    pub store: DataStore,
    /// Of an account that keeps versions: how it goes on from others.
    pub base: Option<Base>,
}

/// What makes a point of the operational tier a base point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Every change up to then lies before its journal, in microseconds.
    pub complete_until: i64,
    /// The base point before it whose journal ends where that of this one begins; none if something between is not known.
    pub follows: Option<String>,
}

fn read(row: &Row) -> DbResult<Point> {
    let id: String = row.try_get("id")?;
    let what = format!("recovery_points {id}");
    let counts: String = row.try_get("counts")?;
    let state: String = row.try_get("state")?;
    let store: String = row.try_get("store")?;
    Ok(Point {
        instance_key: row.try_get("instance_key")?,
        job_id: row.try_get("job_id")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        tag: row.try_get("tag")?,
        rule: row.try_get("rule")?,
        policy_name: row.try_get("policy_name")?,
        tag_version: row.try_get("tag_version")?,
        counts: from_json(&what, &counts)?,
        state: PointState::parse(&state).ok_or_else(|| DbError::bad_row(&what, format!("state '{state}'")))?,
        store: DataStore::parse(&store).ok_or_else(|| DbError::bad_row(&what, format!("store '{store}'")))?,
        base: base(row)?,
        id,
    })
}

fn base(row: &Row) -> DbResult<Option<Base>> {
    let Some(complete_until) = row.try_get("base_until")? else { return Ok(None) };
    Ok(Some(Base { complete_until, follows: row.try_get("base_follows")? }))
}

/// Adds a point or replaces what is remembered of it: safe to repeat.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn put(conn: &mut Conn, _granted: &Granted, point: &Point) -> DbResult<()> {
    query(
        "INSERT INTO recovery_points (instance_key, id, job_id, created_at, expires_at, tag, rule, policy_name,
             tag_version, counts, state, store, deleted, base_until, base_follows)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $14)
         ON CONFLICT (instance_key, id) DO UPDATE SET expires_at = excluded.expires_at, tag = excluded.tag,
             rule = excluded.rule, counts = excluded.counts, state = excluded.state",
    )
    .bind(&point.instance_key)
    .bind(&point.id)
    .bind(&point.job_id)
    .bind(point.created_at)
    .bind(point.expires_at)
    .bind(&point.tag)
    .bind(&point.rule)
    .bind(&point.policy_name)
    .bind(point.tag_version)
    .bind(point.counts.to_string())
    .bind(point.state.as_str())
    .bind(point.store.as_str())
    .bind(point.base.as_ref().map(|base| base.complete_until))
    .bind(point.base.as_ref().and_then(|base| base.follows.as_deref()))
    .execute(conn)
    .await?;
    Ok(())
}

/// The points of an instance in a store that a filter asks for, newest first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list(
    conn: &mut Conn,
    granted: &Granted,
    instance_key: &str,
    store: DataStore,
    filter: PointFilter,
) -> DbResult<Vec<Point>> {
    page(conn, granted, instance_key, store, filter, None, i64::MAX).await
}

/// The same by pages: at most `limit` points behind `before`, the creation time and id of the last one of the page before.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn page(
    conn: &mut Conn,
    _granted: &Granted,
    instance_key: &str,
    store: DataStore,
    filter: PointFilter,
    before: Option<(i64, &str)>,
    limit: i64,
) -> DbResult<Vec<Point>> {
    let (before_time, before_id) = before.unwrap_or((i64::MAX, ""));
    let rows = query(
        "SELECT * FROM recovery_points
         WHERE instance_key = $1 AND store = $2 AND deleted = 0 AND created_at >= $3 AND created_at <= $4
           AND (created_at < $5 OR (created_at = $5 AND id < $6))
         ORDER BY created_at DESC, id DESC LIMIT $7",
    )
    .bind(instance_key)
    .bind(store.as_str())
    .bind(filter.from.unwrap_or(i64::MIN))
    .bind(filter.until.unwrap_or(i64::MAX))
    .bind(before_time)
    .bind(before_id)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// A point of an instance, by its id in any case and with or without hyphens.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, _granted: &Granted, instance_key: &str, id: &str) -> DbResult<Option<Point>> {
    let row = query("SELECT * FROM recovery_points WHERE instance_key = $1 AND id = $2 AND deleted = 0")
        .bind(instance_key)
        .bind(id.replace('-', "").to_lowercase())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Sets when a point goes; none keeps it for ever.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_expiry(
    conn: &mut Conn,
    _granted: &Granted,
    instance_key: &str,
    id: &str,
    expires_at: Option<i64>,
) -> DbResult<()> {
    query("UPDATE recovery_points SET expires_at = $3 WHERE instance_key = $1 AND id = $2")
        .bind(instance_key)
        .bind(id)
        .bind(expires_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// A point is gone.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn set_deleted(conn: &mut Conn, _granted: &Granted, instance_key: &str, id: &str) -> DbResult<()> {
    query("UPDATE recovery_points SET deleted = 1 WHERE instance_key = $1 AND id = $2")
        .bind(instance_key)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Instances that have points whose time is over, and in whose state points expire.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn instances_with_expired(conn: &mut Conn, _granted: &Granted, now: i64) -> DbResult<Vec<String>> {
    let rows = query(
        "SELECT DISTINCT p.instance_key FROM recovery_points p JOIN backup_instances i ON i.key = p.instance_key
         WHERE p.deleted = 0 AND p.expires_at <= $1
           AND i.protection_state NOT IN ('SoftDeleting', 'SoftDeleted', 'ProtectionStopped')",
    )
    .bind(now)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("instance_key")?)).collect()
}

/// How many points of an instance in the vault tier live beyond an instant.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn count_unexpired(conn: &mut Conn, _granted: &Granted, instance_key: &str, now: i64) -> DbResult<i64> {
    let row = query(
        "SELECT COUNT(*) AS count FROM recovery_points
         WHERE instance_key = $1 AND store = 'VaultStore' AND deleted = 0 AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(instance_key)
    .bind(now)
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("count")?)
}
