//! The database: one writing connection beside a pool of reading ones, and one file per resource.
//!
//! Rules for all SQL: `$1` placeholders, nothing that only one database understands outside `dialect`, times are integers
//! (microseconds), JSON is text, a resource's row has its folded id as primary key and the id as created beside it. A function that
//! touches a resource takes a [`crate::auth::Granted`], so that an unchecked path does not compile. No function here may begin a
//! transaction of its own: the caller decides what belongs together. Statements go through [`query`], for it alone knows the database.

pub mod deleted_vaults;
pub mod dialect;
pub mod exports;
pub mod guard_proxies;
pub mod guards;
pub mod instances;
pub mod jobs;
pub mod locks;
pub mod meta;
pub mod operations;
pub mod points;
pub mod policies;
pub mod principals;
pub mod prunes;
pub mod resource_groups;
pub mod role_assignments;
pub mod role_definitions;
pub mod sql;
pub mod stamps;
pub mod storage_accounts;
pub mod subscriptions;
pub mod vaults;
// One `pub mod` line per further resource follows here, as the files come.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use sqlx::sqlite::SqlitePool;

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
    Migrate(#[from] sqlx::migrate::MigrateError),
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

/// The database of one installation.
#[derive(Debug, Clone)]
pub struct Db {
    write: SqlitePool,
    read: SqlitePool,
}

impl Db {
    /// Opens (or makes) the SQLite file and brings its tables to this version.
    ///
    /// # Errors
    /// [`DbError`] when the file cannot be opened or was written by a newer version.
    pub async fn open(file: &Path) -> DbResult<Self> {
        let (write, read) = dialect::open(file).await?;
        dialect::migrate(&write).await?;
        Ok(Self { write, read })
    }

    /// A connection for reading. It sees everything that was committed before it is used.
    ///
    /// # Errors
    /// [`DbError`] when none becomes free in time.
    pub async fn read(&self) -> DbResult<Reader> {
        Ok(Reader(Conn::reading(self.read.acquire().await?)))
    }

    /// Begins a writing transaction (`BEGIN IMMEDIATE`): there is only one at a time, so keep it short and never wait inside for
    /// anything but the database.
    ///
    /// # Errors
    /// [`DbError`] when the writing connection does not become free in time.
    pub async fn write(&self) -> DbResult<Writer> {
        Ok(Writer(Conn::writing(self.write.begin_with(dialect::BEGIN_WRITE).await?)))
    }

    /// Ends all connections; further calls fail.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
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
