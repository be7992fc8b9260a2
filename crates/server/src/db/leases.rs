//! Leases by name: of several services that share a database, one does what is to be done once.
//!
//! Who holds a lease prolongs it; when it runs out, anybody takes it. The clocks of the machines must agree to a few seconds.

use super::{Conn, DbResult, meta};

fn key(name: &str) -> String {
    format!("lease/{name}")
}

/// Who holds it, and until when in microseconds.
async fn holder(conn: &mut Conn, name: &str) -> DbResult<Option<(String, i64)>> {
    let text = meta::get(conn, &key(name)).await?;
    let holder = text.as_deref().and_then(|text| text.split_once(' '));
    Ok(holder.and_then(|(until, owner)| Some((owner.to_owned(), until.parse().ok()?))))
}

/// Takes a lease that is free, or prolongs the own one, until an instant. Call it in a writing transaction. False: somebody else holds it.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn hold(conn: &mut Conn, name: &str, owner: &str, now: i64, until: i64) -> DbResult<bool> {
    if let Some((other, ends)) = holder(conn, name).await?
        && other != owner
        && ends > now
    {
        return Ok(false);
    }
    meta::set(conn, &key(name), &format!("{until} {owner}")).await?;
    Ok(true)
}

/// Gives a lease back, if it is the own one.
///
/// # Errors
/// [`super::DbError`] when the database fails.
pub async fn let_go(conn: &mut Conn, name: &str, owner: &str) -> DbResult<()> {
    if holder(conn, name).await?.is_some_and(|(holder, _)| holder == owner) {
        meta::remove(conn, &key(name)).await?;
    }
    Ok(())
}
