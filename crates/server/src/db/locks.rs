//! Management locks: what they are, and which ones a scope has to do with.

use blobkeep_arm::id::{fold, is_within};

use super::{Conn, DbError, DbResult, Row, query};
use crate::auth::Granted;

/// What a lock forbids at its scope and below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockLevel {
    /// To remove.
    CanNotDelete,
    /// To remove and to change: everything but reading.
    ReadOnly,
}

impl LockLevel {
    /// All levels, in the spelling of the API.
    pub const WORDS: &'static [&'static str] = &["CanNotDelete", "ReadOnly"];

    /// The level as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CanNotDelete => "CanNotDelete",
            Self::ReadOnly => "ReadOnly",
        }
    }

    /// The level of a word in the spelling of the API.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "CanNotDelete" => Some(Self::CanNotDelete),
            "ReadOnly" => Some(Self::ReadOnly),
            _ => None,
        }
    }
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Its ARM id, as created.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What is locked, as created.
    pub scope: String,
    /// What it forbids there.
    pub level: LockLevel,
    /// For people.
    pub notes: Option<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

impl Lock {
    /// The folded id of what is locked.
    pub fn scope_key(&self) -> String {
        fold(&self.scope)
    }

    /// The lock holds for the resource of that folded id: it lies at it or above it.
    pub fn covers(&self, key: &str) -> bool {
        is_within(key, &self.scope_key())
    }
}

fn read(row: &Row) -> DbResult<Lock> {
    let level: String = row.try_get("level")?;
    Ok(Lock {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scope: row.try_get("scope")?,
        level: LockLevel::parse(&level).ok_or_else(|| DbError::bad_row("management_locks.level", level))?,
        notes: row.try_get("notes")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// The lock of that folded id.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, granted: &Granted, key: &str) -> DbResult<Option<Lock>> {
    debug_assert!(granted.covers(key), "{granted:?} does not cover {key}");
    let row = query("SELECT * FROM management_locks WHERE key = $1").bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// All locks at a scope (folded), above it and below it, by scope and name.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn around(conn: &mut Conn, _granted: &Granted, scope_key: &str) -> DbResult<Vec<Lock>> {
    // Begins of texts are compared and not patterns, for names may hold the signs of patterns.
    let below = format!("{}/", scope_key.trim_end_matches('/'));
    let rows = query(
        "SELECT * FROM management_locks
         WHERE scope_key = $1
            OR substr($1, 1, length(scope_key) + 1) = scope_key || '/'
            OR substr(scope_key, 1, length($2)) = $2
         ORDER BY scope_key, key",
    )
    .bind(scope_key)
    .bind(below)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Makes a lock, or changes the level and the notes of one.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn put(conn: &mut Conn, granted: &Granted, lock: &Lock) -> DbResult<()> {
    debug_assert!(granted.covers(&lock.id), "{granted:?} does not cover {}", lock.id);
    query(
        "INSERT INTO management_locks (key, id, name, scope_key, scope, level, notes, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (key) DO UPDATE SET
           level = excluded.level, notes = excluded.notes, updated_at = excluded.updated_at",
    )
    .bind(fold(&lock.id))
    .bind(&lock.id)
    .bind(&lock.name)
    .bind(lock.scope_key())
    .bind(&lock.scope)
    .bind(lock.level.as_str())
    .bind(&lock.notes)
    .bind(lock.created_at)
    .bind(lock.updated_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a lock.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn delete(conn: &mut Conn, granted: &Granted, key: &str) -> DbResult<()> {
    debug_assert!(granted.covers(key), "{granted:?} does not cover {key}");
    query("DELETE FROM management_locks WHERE key = $1").bind(key).execute(conn).await?;
    Ok(())
}

/// Removes all locks at a scope (folded) and below it, when the resource there is gone.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn delete_within(conn: &mut Conn, granted: &Granted, scope_key: &str) -> DbResult<()> {
    for lock in around(conn, granted, scope_key).await? {
        if is_within(&lock.scope_key(), scope_key) {
            query("DELETE FROM management_locks WHERE key = $1").bind(fold(&lock.id)).execute(&mut *conn).await?;
        }
    }
    Ok(())
}
