//! Statements and rows: the few calls by which everything in `db` speaks to its database.
//!
//! Only two kinds of columns exist, TEXT and INTEGER, so only two kinds of values are bound and read. What a statement says is never
//! looked at here, and values are never logged.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, Decode, PgConnection, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    Transaction, Type,
};

use super::dialect;

/// The result of a statement.
pub type SqlResult<T> = Result<T, sqlx::Error>;

/// What every function of `db` takes: a reading connection or a transaction, borrowed (`&mut tx`).
#[derive(Debug)]
pub struct Conn(Held);

#[derive(Debug)]
enum Held {
    SqliteReading(PoolConnection<Sqlite>),
    SqliteWriting(Transaction<'static, Sqlite>),
    PostgresReading(PoolConnection<Postgres>),
    PostgresWriting(Transaction<'static, Postgres>),
}

/// Whose connection it is.
enum Target<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl From<PoolConnection<Sqlite>> for Conn {
    fn from(conn: PoolConnection<Sqlite>) -> Self {
        Self(Held::SqliteReading(conn))
    }
}

impl From<Transaction<'static, Sqlite>> for Conn {
    fn from(transaction: Transaction<'static, Sqlite>) -> Self {
        Self(Held::SqliteWriting(transaction))
    }
}

impl From<PoolConnection<Postgres>> for Conn {
    fn from(conn: PoolConnection<Postgres>) -> Self {
        Self(Held::PostgresReading(conn))
    }
}

impl From<Transaction<'static, Postgres>> for Conn {
    fn from(transaction: Transaction<'static, Postgres>) -> Self {
        Self(Held::PostgresWriting(transaction))
    }
}

impl Conn {
    fn target(&mut self) -> Target<'_> {
        match &mut self.0 {
            Held::SqliteReading(conn) => Target::Sqlite(conn),
            Held::SqliteWriting(transaction) => Target::Sqlite(transaction),
            Held::PostgresReading(conn) => Target::Postgres(conn),
            Held::PostgresWriting(transaction) => Target::Postgres(transaction),
        }
    }

    /// Makes durable what a transaction wrote; nothing to do for a reading connection.
    pub(super) async fn commit(self) -> SqlResult<()> {
        match self.0 {
            Held::SqliteReading(_) | Held::PostgresReading(_) => Ok(()),
            Held::SqliteWriting(transaction) => transaction.commit().await,
            Held::PostgresWriting(transaction) => transaction.commit().await,
        }
    }

    /// Until the end of the transaction rows may refer to what is not there: for moving rows that refer to each other.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database could not.
    pub(super) async fn defer_foreign_keys(&mut self) -> SqlResult<()> {
        let statement = match self.target() {
            Target::Sqlite(_) => dialect::SQLITE_DEFER_FOREIGN_KEYS,
            Target::Postgres(_) => dialect::POSTGRES_DEFER_FOREIGN_KEYS,
        };
        query(statement).execute(self).await.map(drop)
    }
}

/// A value to be bound.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of a TEXT column.
    Text(Option<String>),
    /// Of an INTEGER column.
    Integer(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

/// A statement with its values.
#[derive(Debug)]
#[must_use = "a statement does nothing until it is executed"]
pub struct Query {
    sql: SqlStr,
    values: Vec<Value>,
}

/// A statement, whose values are `$1`, `$2`, … in the order in which they are bound. It is prepared once on each connection.
pub fn query(sql: impl SqlSafeStr) -> Query {
    Query { sql: sql.into_sql_str(), values: Vec::new() }
}

/// What a statement without rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    rows_affected: u64,
}

impl Done {
    /// How many rows it added, changed or removed.
    pub fn rows_affected(self) -> u64 {
        self.rows_affected
    }
}

impl Query {
    /// Binds the next value.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Executes it for what it does.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database could not.
    pub async fn execute(self, conn: &mut Conn) -> SqlResult<Done> {
        self.trace();
        let rows_affected = match conn.target() {
            Target::Sqlite(conn) => {
                let query = sqlx::query_with::<Sqlite, _>(self.sql, for_sqlite(self.values)?);
                query.execute(conn).await?.rows_affected()
            }
            Target::Postgres(conn) => {
                let query = sqlx::query_with::<Postgres, _>(self.sql, for_postgres(self.values)?);
                query.execute(conn).await?.rows_affected()
            }
        };
        Ok(Done { rows_affected })
    }

    /// The only row.
    ///
    /// # Errors
    /// [`sqlx::Error`], also when there is none.
    pub async fn fetch_one(self, conn: &mut Conn) -> SqlResult<Row> {
        self.fetch_optional(conn).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database could not.
    pub async fn fetch_optional(self, conn: &mut Conn) -> SqlResult<Option<Row>> {
        self.trace();
        Ok(match conn.target() {
            Target::Sqlite(conn) => {
                let query = sqlx::query_with::<Sqlite, _>(self.sql, for_sqlite(self.values)?);
                query.fetch_optional(conn).await?.map(Row::Sqlite)
            }
            Target::Postgres(conn) => {
                let query = sqlx::query_with::<Postgres, _>(self.sql, for_postgres(self.values)?);
                query.fetch_optional(conn).await?.map(Row::Postgres)
            }
        })
    }

    /// All rows.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database could not.
    pub async fn fetch_all(self, conn: &mut Conn) -> SqlResult<Vec<Row>> {
        self.trace();
        Ok(match conn.target() {
            Target::Sqlite(conn) => {
                let query = sqlx::query_with::<Sqlite, _>(self.sql, for_sqlite(self.values)?);
                query.fetch_all(conn).await?.into_iter().map(Row::Sqlite).collect()
            }
            Target::Postgres(conn) => {
                let query = sqlx::query_with::<Postgres, _>(self.sql, for_postgres(self.values)?);
                query.fetch_all(conn).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The statement without its values; a test learns from it which statements were executed.
    fn trace(&self) {
        tracing::trace!(target: "blobkeep_server::db::sql", statement = self.sql.as_str());
    }
}

fn for_sqlite(values: Vec<Value>) -> SqlResult<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Text(text) => arguments.add(text),
            Value::Integer(number) => arguments.add(number),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn for_postgres(values: Vec<Value>) -> SqlResult<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Text(text) => arguments.add(text.map(dialect::postgres_text)),
            Value::Integer(number) => arguments.add(number),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// A row of an answer.
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Row")
    }
}

/// What a column can be read as: `String`, `i64`, or an `Option` of one where it may be NULL.
pub trait Column: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl Column for String {}
impl Column for i64 {}
impl Column for Option<String> {}
impl Column for Option<i64> {}

impl Row {
    /// Reads a column by its name.
    ///
    /// # Errors
    /// [`sqlx::Error`] when there is no such column or it holds something else.
    pub fn try_get<T: Column>(&self, column: &str) -> SqlResult<T> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}
