//! How the SQLite file is opened: one writing connection beside reading ones.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::DbResult;

/// Reading connections; handlers hold one for some milliseconds.
const READING_CONNECTIONS: u32 = 8;
/// Rows that a query may be ahead of who reads them: a page of a list.
const ROWS_AHEAD: usize = 256;
/// How long to wait for the lock of another process (a backup of the file) before giving up.
const BUSY_SECONDS: u64 = 10;

/// Opens the file: the writing pool (one connection) and the reading one.
pub(super) async fn open(file: &Path) -> DbResult<(SqlitePool, SqlitePool)> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .row_buffer_size(ROWS_AHEAD)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS));
    let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(READING_CONNECTIONS)
        // A file does not hang up.
        .test_before_acquire(false)
        .connect_lazy_with(options.create_if_missing(false).pragma("query_only", "ON"));
    Ok((write, read))
}
