//! Asynchronous operations: what the status URLs tell.

use blobkeep_arm::ApiError;
use serde_json::Value;

use super::{Conn, DbError, DbResult, Row, from_json, query};
use crate::config::Waiting;

/// Where an operation stands; the words of the status body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// Not ended; spelled as in the seed.
    Inprogress,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
}

impl OperationState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inprogress => "Inprogress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Base64 of two GUIDs; its case counts.
    pub id: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// As created.
    pub subscription_id: String,
    /// Folded location, as in tracking URLs.
    pub location: String,
    /// What it is about: the name of the route.
    pub kind: String,
    /// Which `Retry-After` its answers carry.
    pub waiting: Waiting,
    /// Where it stands.
    pub state: OperationState,
    /// Microseconds.
    pub started_at: i64,
    /// Microseconds.
    pub ended_at: Option<i64>,
    /// The `error` member of a failed one's status.
    pub error: Option<Value>,
    /// HTTP status of that error where it is answered as one.
    pub error_status: Option<u16>,
    /// ARM id of the job that it announced.
    pub job_id: Option<String>,
    /// Who began it.
    pub principal_id: String,
    /// Of the request that began it.
    pub correlation_id: String,
    /// Folded id of the resource that it is about.
    pub resource_key: Option<String>,
}

fn waiting_word(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Validate => "validate",
        Waiting::Create => "create",
        Waiting::Delete => "delete",
    }
}

fn read(row: &Row) -> DbResult<Operation> {
    let id: String = row.try_get("id")?;
    let what = format!("operations {id}");
    let error: Option<String> = row.try_get("error")?;
    let status: String = row.try_get("status")?;
    let waiting: String = row.try_get("waiting")?;
    let error_status: Option<i64> = row.try_get("error_status")?;
    Ok(Operation {
        id,
        vault_key: row.try_get("vault_key")?,
        subscription_id: row.try_get("subscription_id")?,
        location: row.try_get("location")?,
        kind: row.try_get("kind")?,
        waiting: match waiting.as_str() {
            "validate" => Waiting::Validate,
            "create" => Waiting::Create,
            "delete" => Waiting::Delete,
            other => return Err(DbError::bad_row(&what, format!("waiting '{other}'"))),
        },
        state: match status.as_str() {
            "Inprogress" => OperationState::Inprogress,
            "Succeeded" => OperationState::Succeeded,
            "Failed" => OperationState::Failed,
            other => return Err(DbError::bad_row(&what, format!("status '{other}'"))),
        },
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
        error: error.map(|text| from_json(&what, &text)).transpose()?,
        error_status: error_status.and_then(|status| u16::try_from(status).ok()),
        job_id: row.try_get("job_id")?,
        principal_id: row.try_get("principal_id")?,
        correlation_id: row.try_get("correlation_id")?,
        resource_key: row.try_get("resource_key")?,
    })
}

/// Adds an operation, running or already ended.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn create(conn: &mut Conn, operation: &Operation) -> DbResult<()> {
    query(
        "INSERT INTO operations (id, vault_key, subscription_id, location, kind, waiting, status, started_at, ended_at,
             job_id, principal_id, correlation_id, resource_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(&operation.id)
    .bind(&operation.vault_key)
    .bind(&operation.subscription_id)
    .bind(&operation.location)
    .bind(&operation.kind)
    .bind(waiting_word(operation.waiting))
    .bind(operation.state.as_str())
    .bind(operation.started_at)
    .bind(operation.ended_at)
    .bind(&operation.job_id)
    .bind(&operation.principal_id)
    .bind(&operation.correlation_id)
    .bind(&operation.resource_key)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends an operation that runs; one that has ended already stays as it is, so this is safe to repeat. The error gets
/// the activity id of the request that began the operation, as in the seed.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn finish(conn: &mut Conn, id: &str, outcome: Result<(), ApiError>, now: i64) -> DbResult<()> {
    let Some(operation) = get(conn, id).await? else { return Ok(()) };
    let state = if outcome.is_ok() { OperationState::Succeeded } else { OperationState::Failed };
    let error = outcome.err().map(|error| error.with_activity(&operation.correlation_id));
    query(
        "UPDATE operations SET status = $2, ended_at = $3, error = $4, error_status = $5
         WHERE id = $1 AND status = 'Inprogress'",
    )
    .bind(id)
    .bind(state.as_str())
    .bind(now)
    .bind(error.as_ref().map(|error| error.status_error().to_string()))
    .bind(error.as_ref().map(|error| i64::from(error.status())))
    .execute(conn)
    .await?;
    Ok(())
}

/// The operation of that id. Who may see it is decided by its handler, for the id alone tells nothing.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get(conn: &mut Conn, id: &str) -> DbResult<Option<Operation>> {
    let row = query("SELECT * FROM operations WHERE id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// Forgets operations that ended before an instant.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn forget_ended_before(conn: &mut Conn, instant: i64) -> DbResult<u64> {
    let done = query("DELETE FROM operations WHERE ended_at < $1").bind(instant).execute(conn).await?;
    Ok(done.rows_affected())
}
