//! The database, SQLite or PostgreSQL: one writing connection beside a pool of reading ones, and one file per resource.
//!
//! Rules for all SQL: `$1` placeholders, nothing that only one database understands outside `dialect`, times are integers
//! (microseconds), JSON is text, a resource's row has its folded id as primary key and the id as created beside it. A function that
//! touches a resource takes a [`crate::auth::Granted`], so that an unchecked path does not compile. No function here may begin a
//! transaction of its own: the caller decides what belongs together. Statements go through [`query`], for it alone knows the database.

pub mod blob_services;
pub mod deleted_vaults;
mod dialect;
pub mod exports;
pub mod guard_proxies;
pub mod guards;
pub mod instances;
pub mod jobs;
pub mod leases;
pub mod locks;
pub mod meta;
pub mod operational_containers;
pub mod operational_ranges;
pub mod operations;
pub mod place;
pub mod points;
pub mod policies;
mod postgres;
pub mod principals;
pub mod prunes;
pub mod resource_groups;
pub mod role_assignments;
pub mod role_definitions;
pub mod sql;
mod sqlite;
pub mod stamps;
pub mod storage_accounts;
pub mod subscriptions;
pub mod vaults;
// One `pub mod` line per further resource follows here, as the files come.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

pub use place::{Database, PostgresUrl};
pub use sql::{Conn, Row, query};

/// A connection that only reads.
#[derive(Debug)]
pub struct Reader(Conn);

impl Deref for Reader {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

/// A writing transaction, begun as such. Dropped without [`Writer::commit`] it leaves no trace.
#[derive(Debug)]
pub struct Writer(Conn);

impl Writer {
    /// Makes everything that was written durable and visible.
    ///
    /// # Errors
    /// [`DbError`] when the database could not; then nothing was written.
    pub async fn commit(self) -> DbResult<()> {
        Ok(self.0.commit().await?)
    }
}

impl Deref for Writer {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

/// The result of database functions.
pub type DbResult<T> = Result<T, DbError>;

/// The database failed, or holds what it should not.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database could not do it.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The tables could not be brought to this version.
    #[error("database: cannot bring the tables to this version: {0}")]
    Migrate(MigrateError),
    /// A later version was here before.
    #[error(
        "the database was written by a newer version of blobkeep (its tables are at {found}, this version knows them up to {known}): \
         start that version, or a later one"
    )]
    Newer {
        /// The migration that this version does not have.
        found: i64,
        /// The last one that it has.
        known: i64,
    },
    /// The database cannot be opened, and it is known what to do.
    #[error("cannot use {place}: {reason}; {advice}")]
    Unusable {
        /// Which database, without any secret.
        place: String,
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// A stored value does not have the form that this version writes.
    #[error("database: {what} holds what cannot be read: {reason}")]
    BadRow {
        /// Table and key.
        what: String,
        /// What does not fit.
        reason: String,
    },
}

impl DbError {
    /// A row that cannot be read.
    pub fn bad_row(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::BadRow { what: what.into(), reason: reason.to_string() }
    }

    /// A row of that key is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e)) if e.is_unique_violation())
    }
}

impl From<MigrateError> for DbError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(found) => Self::Newer { found, known: dialect::last_migration() },
            other => Self::Migrate(other),
        }
    }
}

/// The database of one installation.
#[derive(Clone)]
pub struct Db(Pools);

#[derive(Clone)]
enum Pools {
    Sqlite { write: SqlitePool, read: SqlitePool },
    Postgres { write: PgPool, read: PgPool },
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Pools::Sqlite { .. } => "Db(SQLite)",
            Pools::Postgres { .. } => "Db(PostgreSQL)",
        })
    }
}

impl Db {
    /// Opens (or makes) the SQLite file and brings its tables to this version.
    ///
    /// # Errors
    /// [`DbError`] when the file cannot be opened or was written by a newer version.
    pub async fn open(file: &Path) -> DbResult<Self> {
        let (write, read) = sqlite::open(file).await?;
        Migrator::with_migrations(dialect::sqlite_migrations()).run(&write).await?;
        Ok(Self(Pools::Sqlite { write, read }))
    }

    /// Opens a PostgreSQL database, which must be there, and brings its tables to this version.
    ///
    /// # Errors
    /// [`DbError`] saying what to do when the database cannot be used or was written by a newer version.
    pub async fn open_postgres(url: &PostgresUrl) -> DbResult<Self> {
        let (write, read) = postgres::open(url).await?;
        if let Err(error) = Migrator::with_migrations(dialect::postgres_migrations()).run(&write).await {
            // The lock of a migration that failed goes with its connection.
            write.close().await;
            return Err(match error {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                    postgres::explained(url, error)
                }
                other => other.into(),
            });
        }
        Ok(Self(Pools::Postgres { write, read }))
    }

    /// Other processes may work on the same database: what they are at is told by leases alone. A SQLite file belongs to the process that
    /// has locked the data folder.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Pools::Postgres { .. })
    }

    /// A connection for reading. It sees everything that was committed before it is used.
    ///
    /// # Errors
    /// [`DbError`] when none becomes free in time.
    pub async fn read(&self) -> DbResult<Reader> {
        Ok(Reader(match &self.0 {
            Pools::Sqlite { read, .. } => read.acquire().await?.into(),
            Pools::Postgres { read, .. } => read.acquire().await?.into(),
        }))
    }

    /// Begins a writing transaction: there is only one at a time, of all services that share the database, so keep it short and never wait
    /// inside for anything but the database.
    ///
    /// # Errors
    /// [`DbError`] when the others do not end in time.
    pub async fn write(&self) -> DbResult<Writer> {
        Ok(Writer(match &self.0 {
            Pools::Sqlite { write, .. } => write.begin_with(dialect::SQLITE_BEGIN_WRITE).await?.into(),
            Pools::Postgres { write, .. } => {
                // Two steps: a transaction that is given up while it waits for the lock ends, and with it the lock.
                let mut begun = write.begin_with(dialect::POSTGRES_BEGIN_WRITE).await?;
                sqlx::query(dialect::POSTGRES_LOCK).execute(&mut *begun).await?;
                begun.into()
            }
        }))
    }

    /// Ends all connections; further calls fail.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres { write, read } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

/// Reads a JSON column.
///
/// # Errors
/// [`DbError::BadRow`] naming `what`.
pub fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> DbResult<T> {
    serde_json::from_str(text).map_err(|e| DbError::bad_row(what, e))
}

/// Writes a JSON column.
///
/// # Errors
/// [`DbError::BadRow`] naming `what`, for values that JSON cannot express.
pub fn to_json<T: serde::Serialize>(what: &str, value: &T) -> DbResult<String> {
    serde_json::to_string(value).map_err(|e| DbError::bad_row(what, e))
}
