//! What of an instance's past the operational tier can bring back, as far as looks at the account have seen it. Rows that are lost lose no
//! state, but the vault does not tell until when an account was known: the next look begins anew.

use super::{Conn, DbError, DbResult, Row, query};

/// A stretch of time without a hole; times are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRange {
    /// The first state.
    pub starts_at: i64,
    /// Everything until then is known.
    pub ends_at: i64,
    /// The next look may go on with it.
    pub is_open: bool,
    /// Where the account keeps versions; none: each look that found a change made a state of its own.
    pub journal: Option<JournalPlace>,
}

/// How far the journal of an account's changes was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPlace {
    /// Job of the newest base point.
    pub base: String,
    /// Number of the last segment; 0 if there is none.
    pub segments: i64,
    /// Where the account's feed goes on.
    pub cursor: String,
}

fn read(row: &Row) -> DbResult<StoredRange> {
    let base: Option<String> = row.try_get("base")?;
    let journal = match base {
        None => None,
        Some(base) => {
            let cursor: Option<String> = row.try_get("feed_cursor")?;
            let cursor = cursor.ok_or_else(|| DbError::bad_row("operational_ranges", "a base without a cursor"))?;
            Some(JournalPlace { base, segments: row.try_get("segments")?, cursor })
        }
    };
    Ok(StoredRange {
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
        is_open: row.try_get::<i64>("is_open")? != 0,
        journal,
    })
}

/// The ranges of an instance, newest first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list(conn: &mut Conn, instance_uuid: &str) -> DbResult<Vec<StoredRange>> {
    let rows = query("SELECT * FROM operational_ranges WHERE instance_uuid = $1 ORDER BY starts_at DESC")
        .bind(instance_uuid)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// Adds a range, or replaces what is known of the one that starts then.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn put(conn: &mut Conn, instance_uuid: &str, range: &StoredRange) -> DbResult<()> {
    query(
        "INSERT INTO operational_ranges (instance_uuid, starts_at, ends_at, is_open, base, segments, feed_cursor)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (instance_uuid, starts_at) DO UPDATE SET ends_at = excluded.ends_at, is_open = excluded.is_open,
             base = excluded.base, segments = excluded.segments, feed_cursor = excluded.feed_cursor",
    )
    .bind(instance_uuid)
    .bind(range.starts_at)
    .bind(range.ends_at)
    .bind(i64::from(range.is_open))
    .bind(range.journal.as_ref().map(|journal| journal.base.as_str()))
    .bind(range.journal.as_ref().map_or(0, |journal| journal.segments))
    .bind(range.journal.as_ref().map(|journal| journal.cursor.as_str()))
    .execute(conn)
    .await?;
    Ok(())
}

/// No later look may go on with a range of this instance: nobody knows what happened in between.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn close(conn: &mut Conn, instance_uuid: &str) -> DbResult<()> {
    query("UPDATE operational_ranges SET is_open = 0 WHERE instance_uuid = $1")
        .bind(instance_uuid)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the closed ranges that ended before an instant.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn forget_before(conn: &mut Conn, instance_uuid: &str, before: i64) -> DbResult<()> {
    query("DELETE FROM operational_ranges WHERE instance_uuid = $1 AND is_open = 0 AND ends_at < $2")
        .bind(instance_uuid)
        .bind(before)
        .execute(conn)
        .await?;
    Ok(())
}
