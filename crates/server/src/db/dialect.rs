//! What is particular to the database behind [`super::Db`]: how it is opened, how writing begins, which migrations there are.
//!
//! No statement about resources belongs here.

use std::path::Path;
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::DbResult;

/// Takes the write lock at once, so that a transaction never fails half-way because another one wrote meanwhile.
pub const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Until the end of the transaction rows may refer to what is not there: for moving rows that refer to each other.
pub const DEFER_FOREIGN_KEYS: &str = "PRAGMA defer_foreign_keys = ON";

/// Reading connections; handlers hold one for some milliseconds.
const READING_CONNECTIONS: u32 = 8;
/// Rows that a query may be ahead of who reads them: a page of a list.
const ROWS_AHEAD: usize = 256;
/// How long to wait for the lock of another process (`doctor`, a backup of the file) before giving up.
const BUSY_SECONDS: u64 = 10;

/// Number, name and text of each migration, ascending. A released one is never changed: add another.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "foundation", include_str!("../../migrations/0001_foundation.sql")),
    (2, "dataprotection", include_str!("../../migrations/0002_dataprotection.sql")),
    (3, "instance_tags", include_str!("../../migrations/0003_instance_tags.sql")),
    (4, "exports", include_str!("../../migrations/0004_exports.sql")),
    (5, "guards", include_str!("../../migrations/0005_guards.sql")),
    (6, "deleted_vaults", include_str!("../../migrations/0006_deleted_vaults.sql")),
    (7, "stamps", include_str!("../../migrations/0007_stamps.sql")),
    (8, "role_definitions", include_str!("../../migrations/0008_role_definitions.sql")),
    (9, "management_locks", include_str!("../../migrations/0009_management_locks.sql")),
    (10, "operational_looks", include_str!("../../migrations/0010_operational_looks.sql")),
    (11, "prune", include_str!("../../migrations/0011_prune.sql")),
];

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

/// Brings the tables to this version.
pub(super) async fn migrate(pool: &SqlitePool) -> DbResult<()> {
    let migrations = MIGRATIONS.iter().map(|(number, name, sql)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect()).run(pool).await?;
    Ok(())
}
