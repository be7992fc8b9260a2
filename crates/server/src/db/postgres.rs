//! How a PostgreSQL database is opened, and what is said where it cannot be.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::place::PostgresUrl;
use super::{DbError, DbResult};

/// Reading connections; handlers hold one for some milliseconds.
const READING_CONNECTIONS: u32 = 8;
/// How long a server may take to answer at the start.
const CONNECT_SECONDS: u64 = 10;

/// A writer waits for others no longer than for a free connection; one that hangs in the middle of a transaction does not keep the others
/// waiting for ever.
const WRITING: &str = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'";
/// What only reads cannot write by mistake.
const READING: &str = "SET default_transaction_read_only = on";

/// Codes of PostgreSQL's errors.
mod codes {
    pub(super) const WRONG_PASSWORD: &str = "28P01";
    pub(super) const NOT_LET_IN: &str = "28000";
    pub(super) const NO_SUCH_DATABASE: &str = "3D000";
    pub(super) const NOT_PERMITTED: &str = "42501";
    pub(super) const TOO_MANY_CONNECTIONS: &str = "53300";
}

/// Opens the database: the writing pool (one connection) and the reading one. What is wrong shows here and not at the first request.
pub(super) async fn open(url: &PostgresUrl) -> DbResult<(PgPool, PgPool)> {
    check(url).await?;
    let write = pool(url.options(), 1, WRITING);
    let read = pool(url.options(), READING_CONNECTIONS, READING);
    Ok((write, read))
}

fn pool(options: &PgConnectOptions, connections: u32, settings: &'static str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .after_connect(move |conn, _| Box::pin(async move { sqlx::raw_sql(settings).execute(conn).await.map(drop) }))
        .connect_lazy_with(options.clone())
}

/// Looks once, by a connection of its own: a pool would only say that it waited for too long.
async fn check(url: &PostgresUrl) -> DbResult<()> {
    let connecting = tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS), url.options().connect());
    let mut conn = match connecting.await {
        Ok(connected) => connected.map_err(|error| explained(url, error))?,
        Err(_) => return Err(unusable(url, &format!("no answer within {CONNECT_SECONDS} seconds"), UNREACHABLE)),
    };
    let encoding = encoding(&mut conn).await.map_err(|error| explained(url, error))?;
    // Best effort: the connection has served its end.
    let _ = conn.close().await;
    if encoding == "UTF8" {
        return Ok(());
    }
    let advice = format!("make another one: {}", create(url));
    Err(unusable(url, &format!("its encoding is {encoding}, not UTF8"), &advice))
}

async fn encoding(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT current_setting('server_encoding')").fetch_one(conn).await
}

const UNREACHABLE: &str =
    "look whether the server runs, and whether its address, port and firewall let this machine in";

fn create(url: &PostgresUrl) -> String {
    format!("CREATE DATABASE \"{}\" OWNER \"{}\" ENCODING 'UTF8' TEMPLATE template0", url.name(), url.user())
}

/// The error with what to do about it, where that is known.
pub(super) fn explained(url: &PostgresUrl, error: sqlx::Error) -> DbError {
    match &error {
        sqlx::Error::Io(reason) => {
            let advice = match reason.kind() {
                io::ErrorKind::NotFound => {
                    "there is no such socket: look whether the server runs, and in which folder its socket is"
                }
                _ => UNREACHABLE,
            };
            unusable(url, &format!("it cannot be reached: {reason}"), advice)
        }
        sqlx::Error::Tls(reason) => {
            let advice = "sslmode=verify-full checks the server's certificate against sslrootcert=FILE, or the public authorities; \
                          sslmode=require does not check it";
            unusable(url, &format!("TLS: {reason}"), advice)
        }
        sqlx::Error::Database(reason) => {
            let create = format!("make it: {}", create(url));
            let code = reason.code().map(std::borrow::Cow::into_owned);
            let advice = match code.as_deref() {
                Some(codes::WRONG_PASSWORD) => {
                    "give the right password in the address (env:NAME or file:PATH hide it), in PGPASSWORD or in ~/.pgpass"
                }
                Some(codes::NOT_LET_IN) => "let the user in: its role (LOGIN) and the server's pg_hba.conf decide that",
                Some(codes::NO_SUCH_DATABASE) => create.as_str(),
                Some(codes::NOT_PERMITTED) => {
                    "make the user the owner of the database, or let it create tables in the schema"
                }
                Some(codes::TOO_MANY_CONNECTIONS) => "let the server have more connections: a service uses up to nine",
                _ => return error.into(),
            };
            unusable(url, reason.message(), advice)
        }
        _ => error.into(),
    }
}

fn unusable(url: &PostgresUrl, reason: &str, advice: &str) -> DbError {
    DbError::Unusable { place: url.to_string(), reason: reason.to_owned(), advice: advice.to_owned() }
}
