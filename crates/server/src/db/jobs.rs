//! The queue: a job is a row, claimed under a lease that a live worker renews and any worker may take over.
//!
//! Of the jobs of one kind and instance only one runs at a time, and changes of an instance run in the order in which
//! they were asked for. Every write of a worker names the lease's owner: a worker that lost its lease changes nothing.

use blobkeep_arm::instance::Datasource;
use blobkeep_arm::job::JobStatus;
use blobkeep_arm::{ApiError, ErrorCode};
use serde_json::{Value, json};

use super::{Conn, DbError, DbResult, Row, from_json, query, to_json};
use crate::auth::Granted;
use crate::jobs::spec::JobSpec;

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// A lower-case GUID.
    pub id: String,
    /// Folded id of the vault.
    pub vault_key: String,
    /// Folded id of the instance that it is about.
    pub instance_key: Option<String>,
    /// Where it stands.
    pub status: JobStatus,
    /// What to do.
    pub spec: JobSpec,
    /// The worker's checkpoints and counters; `{}` at first.
    pub state: Value,
    /// An array of the `info` shape.
    pub error: Option<Value>,
    /// The operation that ends with it, or that announced it.
    pub operation_id: Option<String>,
    /// Who asked for it; empty for a schedule.
    pub principal_id: String,
    /// Of the request that asked for it.
    pub correlation_id: String,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub started_at: Option<i64>,
    /// Microseconds.
    pub ended_at: Option<i64>,
    /// Not before this, microseconds.
    pub not_before: i64,
    /// How often it was claimed.
    pub attempt: i64,
    /// Who works on it.
    pub lease_owner: Option<String>,
    /// Until when, microseconds.
    pub lease_until: Option<i64>,
    /// Somebody asked to stop it.
    pub cancel_requested: bool,
    /// What users are shown of its instance, also after that is gone.
    pub display: JobDisplay,
}

/// What users are shown of a job's instance, taken when the job was queued.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct JobDisplay {
    /// The instance's id as created.
    pub instance_id: String,
    /// What people call the instance.
    pub friendly_name: String,
    /// The policy's id as sent.
    pub policy_id: String,
    /// The protected account.
    pub datasource: Datasource,
}

/// What is needed to add a job; the rest follows from the spec.
#[derive(Debug, Clone)]
pub struct NewJob<'a> {
    /// A lower-case GUID.
    pub id: &'a str,
    /// Folded id of the vault.
    pub vault_key: &'a str,
    /// What to do.
    pub spec: &'a JobSpec,
    /// The operation that ends with it, or that announced it.
    pub operation_id: Option<&'a str>,
    /// Who asks for it; empty for a schedule.
    pub principal_id: &'a str,
    /// Of the request that asks for it.
    pub correlation_id: &'a str,
    /// Now, microseconds.
    pub now: i64,
}

fn read(row: &Row) -> DbResult<Job> {
    let id: String = row.try_get("id")?;
    let what = format!("jobs {id}");
    let status: String = row.try_get("status")?;
    let spec: String = row.try_get("spec")?;
    let state: String = row.try_get("state")?;
    let error: Option<String> = row.try_get("error")?;
    let display: String = row.try_get("display")?;
    Ok(Job {
        id,
        vault_key: row.try_get("vault_key")?,
        instance_key: row.try_get("instance_key")?,
        status: JobStatus::parse(&status).ok_or_else(|| DbError::bad_row(&what, format!("status '{status}'")))?,
        spec: from_json(&what, &spec)?,
        state: from_json(&what, &state)?,
        error: error.map(|text| from_json(&what, &text)).transpose()?,
        operation_id: row.try_get("operation_id")?,
        principal_id: row.try_get("principal_id")?,
        correlation_id: row.try_get("correlation_id")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
        not_before: row.try_get("not_before")?,
        attempt: row.try_get("attempt")?,
        lease_owner: row.try_get("lease_owner")?,
        lease_until: row.try_get("lease_until")?,
        cancel_requested: row.try_get::<i64>("cancel_requested")? != 0,
        display: from_json(&what, &display)?,
    })
}

/// Adds a job to the queue, to be done as soon as somebody is free.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn enqueue(conn: &mut Conn, job: &NewJob<'_>) -> DbResult<()> {
    let display = display_of(conn, job.spec).await?;
    query(
        "INSERT INTO jobs (id, vault_key, instance_key, kind, visible, status, spec, state, operation_id, principal_id,
             correlation_id, created_at, not_before, display, in_place)
         VALUES ($1, $2, $3, $4, $5, 'Queued', $6, '{}', $7, $8, $9, $10, $10, $11, $12)",
    )
    .bind(job.id)
    .bind(job.vault_key)
    .bind(job.spec.instance_key())
    .bind(job.spec.kind())
    .bind(i64::from(job.spec.is_visible()))
    .bind(to_json("job", job.spec)?)
    .bind(job.operation_id)
    .bind(job.principal_id)
    .bind(job.correlation_id)
    .bind(job.now)
    .bind(to_json("job", &display)?)
    .bind(i64::from(job.spec.is_in_place()))
    .execute(conn)
    .await?;
    Ok(())
}

async fn display_of(conn: &mut Conn, spec: &JobSpec) -> DbResult<JobDisplay> {
    let Some(key) = spec.instance_key() else { return Ok(JobDisplay::default()) };
    let Some(stored) = super::instances::get(conn, &Granted::service(), key).await? else {
        return Ok(JobDisplay::default());
    };
    Ok(JobDisplay {
        instance_id: stored.id,
        friendly_name: stored.instance.friendly_name,
        policy_id: stored.instance.policy_info.policy_id,
        datasource: stored.instance.data_source_info,
    })
}

/// Takes the oldest job that may run and gives its lease to `owner` until `lease_until`. Call it in a writing
/// transaction, so that no two workers take the same.
///
/// A job may run when its time has come, nobody holds a live lease on it, no other job of its kind runs for its
/// instance, and (for changes of an instance) no older change of that instance is left.
///
/// # Errors
/// [`DbError`] when the database fails or holds a job that this version cannot read.
pub async fn claim_next(conn: &mut Conn, owner: &str, now: i64, lease_until: i64) -> DbResult<Option<Job>> {
    let row = query(
        "SELECT j.* FROM jobs j
         WHERE j.status IN ('Queued', 'InProgress') AND j.not_before <= $1
           AND (j.lease_until IS NULL OR j.lease_until <= $1)
           AND NOT EXISTS (
               SELECT 1 FROM jobs r
               WHERE r.instance_key = j.instance_key AND r.kind = j.kind AND r.id <> j.id AND r.status = 'InProgress'
                 AND j.kind IN ('backup', 'operational', 'restore', 'expire'))
           AND NOT EXISTS (
               SELECT 1 FROM jobs e
               WHERE e.instance_key = j.instance_key AND e.id <> j.id AND e.status IN ('Queued', 'InProgress')
                 AND j.kind IN ('configure', 'update_instance', 'delete_instance', 'undelete_instance')
                 AND e.kind IN ('configure', 'update_instance', 'delete_instance', 'undelete_instance')
                 AND (e.created_at < j.created_at OR (e.created_at = j.created_at AND e.id < j.id)))
         ORDER BY j.created_at, j.id LIMIT 1",
    )
    .bind(now)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    query(
        "UPDATE jobs SET status = 'InProgress', started_at = COALESCE(started_at, $2), attempt = attempt + 1,
             lease_owner = $3, lease_until = $4
         WHERE id = $1",
    )
    .bind(&id)
    .bind(now)
    .bind(owner)
    .bind(lease_until)
    .execute(&mut *conn)
    .await?;
    by_id(conn, &id).await
}

/// Prolongs a lease. False: it is lost, somebody else works on the job or it has ended; stop at once.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn renew(conn: &mut Conn, id: &str, owner: &str, lease_until: i64) -> DbResult<bool> {
    let done = query("UPDATE jobs SET lease_until = $3 WHERE id = $1 AND lease_owner = $2 AND status = 'InProgress'")
        .bind(id)
        .bind(owner)
        .bind(lease_until)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Stores checkpoints and counters. False: the lease is lost; stop at once.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn save_state(conn: &mut Conn, id: &str, owner: &str, state: &Value) -> DbResult<bool> {
    let done = query("UPDATE jobs SET state = $3 WHERE id = $1 AND lease_owner = $2 AND status = 'InProgress'")
        .bind(id)
        .bind(owner)
        .bind(state.to_string())
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a job. `errors` is an array of the `info` shape. False: the lease is lost, and the job is not ended by this.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn finish(
    conn: &mut Conn,
    id: &str,
    owner: &str,
    status: JobStatus,
    state: &Value,
    errors: Option<&Value>,
    now: i64,
) -> DbResult<bool> {
    let done = query(
        "UPDATE jobs SET status = $3, state = $4, error = $5, ended_at = $6, lease_owner = NULL, lease_until = NULL
         WHERE id = $1 AND lease_owner = $2 AND status = 'InProgress'",
    )
    .bind(id)
    .bind(owner)
    .bind(status.as_str())
    .bind(state.to_string())
    .bind(errors.map(Value::to_string))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a job back, to be taken up again (by anybody) not before an instant. False: the lease is lost.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn postpone(conn: &mut Conn, id: &str, owner: &str, state: &Value, not_before: i64) -> DbResult<bool> {
    let done = query(
        "UPDATE jobs SET state = $3, not_before = $4, lease_owner = NULL, lease_until = NULL
         WHERE id = $1 AND lease_owner = $2 AND status = 'InProgress'",
    )
    .bind(id)
    .bind(owner)
    .bind(state.to_string())
    .bind(not_before)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The job of that id, for the worker.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn by_id(conn: &mut Conn, id: &str) -> DbResult<Option<Job>> {
    let row = query("SELECT * FROM jobs WHERE id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The visible job of that id (in any case) in a vault.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn get_visible(conn: &mut Conn, _granted: &Granted, vault_key: &str, id: &str) -> DbResult<Option<Job>> {
    let row = query("SELECT * FROM jobs WHERE id = $1 AND vault_key = $2 AND visible = 1")
        .bind(id.to_lowercase())
        .bind(vault_key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The visible jobs of a vault, newest first: those after `before` (creation time and id of the last one of the page
/// before), at most `limit`. Without their state, which may be large and which no list tells: it is `{}`.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn list_visible(
    conn: &mut Conn,
    _granted: &Granted,
    vault_key: &str,
    before: Option<(i64, &str)>,
    limit: i64,
) -> DbResult<Vec<Job>> {
    let (before_time, before_id) = before.unwrap_or((i64::MAX, ""));
    let rows = query(
        "SELECT id, vault_key, instance_key, status, spec, '{}' AS state, error, operation_id, principal_id,
             correlation_id, created_at, started_at, ended_at, not_before, attempt, lease_owner, lease_until,
             cancel_requested, display
         FROM jobs
         WHERE vault_key = $1 AND visible = 1 AND (created_at < $2 OR (created_at = $2 AND id < $3))
         ORDER BY created_at DESC, id DESC LIMIT $4",
    )
    .bind(vault_key)
    .bind(before_time)
    .bind(before_id)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The jobs of a kind for an instance that have not ended, oldest first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn unfinished(conn: &mut Conn, instance_key: &str, kind: &str) -> DbResult<Vec<Job>> {
    let rows = query(
        "SELECT * FROM jobs WHERE instance_key = $1 AND kind = $2 AND status IN ('Queued', 'InProgress')
         ORDER BY created_at, id",
    )
    .bind(instance_key)
    .bind(kind)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The jobs in a vault that have not ended, oldest first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn unfinished_in_vault(conn: &mut Conn, vault_key: &str) -> DbResult<Vec<Job>> {
    let rows =
        query("SELECT * FROM jobs WHERE vault_key = $1 AND status IN ('Queued', 'InProgress') ORDER BY created_at, id")
            .bind(vault_key)
            .fetch_all(conn)
            .await?;
    rows.iter().map(read).collect()
}

/// Asks for a job to stop: one that waits (also for its next try) ends at once, one that runs at its next step. False: it has ended already.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn request_cancel(conn: &mut Conn, id: &str, now: i64) -> DbResult<bool> {
    let Some(job) = by_id(conn, id).await? else { return Ok(false) };
    let error = ApiError::of(ErrorCode::UserErrorOperationCancelled, &[]).with_activity(&job.correlation_id);
    let waiting = query(
        "UPDATE jobs SET status = 'Cancelled', ended_at = $2, error = $3
         WHERE id = $1 AND (status = 'Queued' OR (status = 'InProgress' AND lease_until IS NULL))",
    )
    .bind(id)
    .bind(now)
    .bind(json!([error.info()]).to_string())
    .execute(&mut *conn)
    .await?;
    if waiting.rows_affected() == 1 {
        return Ok(true);
    }
    let running = query("UPDATE jobs SET cancel_requested = 1 WHERE id = $1 AND status = 'InProgress'")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(running.rows_affected() == 1)
}

/// Whether [`claim_next`] could find something: a cheap look that takes no writing transaction.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn has_waiting(conn: &mut Conn, now: i64) -> DbResult<bool> {
    let row = query(
        "SELECT 1 AS found FROM jobs WHERE status IN ('Queued', 'InProgress') AND not_before <= $1
           AND (lease_until IS NULL OR lease_until <= $1) LIMIT 1",
    )
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Releases every lease. Only for a process that knows that no other works on this queue.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn release_all(conn: &mut Conn) -> DbResult<u64> {
    let done = query("UPDATE jobs SET lease_owner = NULL, lease_until = NULL WHERE lease_until IS NOT NULL")
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// For which instants of its schedules an instance was backed up since an instant, newest first.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn scheduled_times(conn: &mut Conn, instance_key: &str, since: i64) -> DbResult<Vec<i64>> {
    let rows = query(
        "SELECT spec FROM jobs WHERE instance_key = $1 AND kind = 'backup' AND created_at >= $2
           AND status IN ('Completed', 'CompletedWithWarnings') ORDER BY created_at DESC",
    )
    .bind(instance_key)
    .bind(since)
    .fetch_all(conn)
    .await?;
    let mut times = Vec::new();
    for row in &rows {
        let spec: String = row.try_get("spec")?;
        if let JobSpec::Backup(crate::jobs::spec::BackupSpec { scheduled_for: Some(time), .. }) =
            from_json("jobs", &spec)?
        {
            times.push(time);
        }
    }
    Ok(times)
}

/// Whether a job of that kind has ended for an instance since an instant.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn has_ended_since(conn: &mut Conn, instance_key: &str, kind: &str, since: i64) -> DbResult<bool> {
    let row = query("SELECT 1 AS found FROM jobs WHERE instance_key = $1 AND kind = $2 AND ended_at >= $3 LIMIT 1")
        .bind(instance_key)
        .bind(kind)
        .bind(since)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Forgets jobs that no user sees and that ended before an instant.
///
/// # Errors
/// [`DbError`] when the database fails.
pub async fn forget_internal_ended_before(conn: &mut Conn, instant: i64) -> DbResult<u64> {
    let done = query("DELETE FROM jobs WHERE visible = 0 AND ended_at < $1").bind(instant).execute(conn).await?;
    Ok(done.rows_affected())
}
