//! Subscriptions and their aliases. A subscription is a fact of the installation: it is never removed.

use super::{Conn, DbResult, Row, query};

/// A subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its GUID as it was given.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Microseconds.
    pub created_at: i64,
}

fn read(row: &Row) -> DbResult<Subscription> {
    Ok(Subscription {
        id: row.try_get("id")?,
        display_name: row.try_get("display_name")?,
        created_at: row.try_get("created_at")?,
    })
}

/// Adds a subscription if it is not there yet.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn create(conn: &mut Conn, subscription: &Subscription) -> DbResult<()> {
    query(
        "INSERT INTO subscriptions (key, id, display_name, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING",
    )
    .bind(subscription.id.to_lowercase())
    .bind(&subscription.id)
    .bind(&subscription.display_name)
    .bind(subscription.created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The subscription of that GUID, in any case.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn get(conn: &mut Conn, id: &str) -> DbResult<Option<Subscription>> {
    let row = query("SELECT * FROM subscriptions WHERE key = $1").bind(id.to_lowercase()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// All subscriptions, oldest first.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn list(conn: &mut Conn) -> DbResult<Vec<Subscription>> {
    query("SELECT * FROM subscriptions ORDER BY created_at, key").fetch_all(conn).await?.iter().map(read).collect()
}

/// The name of the alias and the subscription that it stands for.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn alias(conn: &mut Conn, name: &str) -> DbResult<Option<(String, Subscription)>> {
    let row = query(
        "SELECT a.name AS alias_name, s.id, s.display_name, s.created_at
         FROM subscription_aliases a JOIN subscriptions s ON s.key = a.subscription_key WHERE a.key = $1",
    )
    .bind(name.to_lowercase())
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.try_get("alias_name")?, read(&row)?))).transpose()
}

/// The alias that stands for a subscription.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn alias_of(conn: &mut Conn, subscription_id: &str) -> DbResult<Option<String>> {
    let row = query("SELECT name FROM subscription_aliases WHERE subscription_key = $1 ORDER BY created_at")
        .bind(subscription_id.to_lowercase())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.try_get("name")).transpose()?)
}

/// Adds an alias.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn create_alias(conn: &mut Conn, name: &str, subscription_id: &str, now: i64) -> DbResult<()> {
    query("INSERT INTO subscription_aliases (key, name, subscription_key, created_at) VALUES ($1, $2, $3, $4)")
        .bind(name.to_lowercase())
        .bind(name)
        .bind(subscription_id.to_lowercase())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}
