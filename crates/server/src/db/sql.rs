//! Statements and rows: the few calls by which everything in `db` speaks to its database.
//!
//! Only two kinds of columns exist, TEXT and INTEGER, so only two kinds of values are bound and read. What a statement says is never
//! looked at here, and values are never logged.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, Decode, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, Transaction, Type};

/// The result of a statement.
pub type SqlResult<T> = Result<T, sqlx::Error>;

/// What every function of `db` takes: a reading connection or a transaction, borrowed (`&mut tx`).
#[derive(Debug)]
pub struct Conn(Held);

#[derive(Debug)]
enum Held {
    Reading(PoolConnection<Sqlite>),
    Writing(Transaction<'static, Sqlite>),
}

impl Conn {
    pub(super) fn reading(conn: PoolConnection<Sqlite>) -> Self {
        Self(Held::Reading(conn))
    }

    pub(super) fn writing(transaction: Transaction<'static, Sqlite>) -> Self {
        Self(Held::Writing(transaction))
    }

    fn sqlite(&mut self) -> &mut SqliteConnection {
        match &mut self.0 {
            Held::Reading(conn) => conn,
            Held::Writing(transaction) => transaction,
        }
    }

    /// Makes durable what a transaction wrote; nothing to do for a reading connection.
    pub(super) async fn commit(self) -> SqlResult<()> {
        match self.0 {
            Held::Reading(_) => Ok(()),
            Held::Writing(transaction) => transaction.commit().await,
        }
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
        let done = sqlx::query_with(self.sql, sqlite_arguments(self.values)?).execute(conn.sqlite()).await?;
        Ok(Done { rows_affected: done.rows_affected() })
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
        let row = sqlx::query_with(self.sql, sqlite_arguments(self.values)?).fetch_optional(conn.sqlite()).await?;
        Ok(row.map(Row))
    }

    /// All rows.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database could not.
    pub async fn fetch_all(self, conn: &mut Conn) -> SqlResult<Vec<Row>> {
        let rows = sqlx::query_with(self.sql, sqlite_arguments(self.values)?).fetch_all(conn.sqlite()).await?;
        Ok(rows.into_iter().map(Row).collect())
    }
}

fn sqlite_arguments(values: Vec<Value>) -> SqlResult<SqliteArguments> {
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

/// A row of an answer.
pub struct Row(SqliteRow);

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Row")
    }
}

/// What a column can be read as: `String`, `i64`, or an `Option` of one where it may be NULL.
pub trait Column: for<'r> Decode<'r, Sqlite> + Type<Sqlite> {}

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
        self.0.try_get(column)
    }
}
