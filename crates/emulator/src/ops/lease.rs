//! Lease Container and Lease Blob: one code path, two places.

use std::sync::Arc;

use http::StatusCode;

use super::Call;
use super::blob_headers as headers;
use crate::answer::Answer;
use crate::clock;
use crate::conditions::{Conditions, Validator};
use crate::error::AzureError;
use crate::model::lease::Lease;

/// What a lease operation did.
struct Done {
    status: StatusCode,
    id: Option<String>,
    seconds_left: Option<u32>,
}

/// Lease Container.
pub(super) fn lease_container(call: &Call<'_>) -> Result<Answer, AzureError> {
    let mut world = call.shared.write();
    let container = world.container_mut(call.account(), call.container())?;
    let done = act(call, &mut container.lease)?;
    let answer = Answer::new(done.status)
        .header("ETag", &format!("\"{}\"", container.etag))
        .header("Last-Modified", &clock::http_date(container.modified_us));
    Ok(with_done(answer, &done))
}

/// Lease Blob.
pub(super) fn lease_blob(call: &Call<'_>) -> Result<Answer, AzureError> {
    let mut world = call.shared.write();
    let container = world.container_mut(call.account(), call.container())?;
    let blob = container.get(call.blob(), None).ok_or_else(AzureError::blob_not_found)?;
    Conditions::read(call.request, "")?
        .check_write(Some(Validator { etag: &blob.etag, modified_us: blob.modified_us }))?;
    let mut lease = blob.lease.clone();
    let done = act(call, &mut lease)?;
    if let Some(current) = container.family_mut(call.blob()).current.as_mut() {
        Arc::make_mut(current).lease = lease;
    }
    Ok(with_done(headers::mark(Answer::new(done.status), &blob), &done))
}

fn with_done(answer: Answer, done: &Done) -> Answer {
    answer
        .maybe("x-ms-lease-id", done.id.as_deref())
        .maybe("x-ms-lease-time", done.seconds_left.map(|seconds| seconds.to_string()).as_deref())
}

fn act(call: &Call<'_>, lease: &mut Lease) -> Result<Done, AzureError> {
    let request = call.request;
    let needed = |name: &'static str| request.filled_header(name).ok_or_else(|| AzureError::missing_header(name));
    let proposed = request.filled_header("x-ms-proposed-lease-id");
    if let Some(id) = proposed.filter(|id| uuid::Uuid::try_parse(id).is_err()) {
        return Err(AzureError::invalid_header("x-ms-proposed-lease-id", id));
    }
    let done = |status, id: &str| Done { status, id: Some(id.to_owned()), seconds_left: None };
    match needed("x-ms-lease-action")?.to_ascii_lowercase().as_str() {
        "acquire" => {
            let seconds = duration(needed("x-ms-lease-duration")?)?;
            let id = proposed.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
            lease.acquire(id.clone(), seconds, call.now_us)?;
            Ok(done(StatusCode::CREATED, &id))
        }
        "renew" => {
            let id = needed("x-ms-lease-id")?;
            lease.renew(id, call.now_us)?;
            Ok(done(StatusCode::OK, id))
        }
        "change" => {
            let new = needed("x-ms-proposed-lease-id")?;
            lease.change(needed("x-ms-lease-id")?, new, call.now_us)?;
            Ok(done(StatusCode::OK, new))
        }
        "release" => {
            lease.release(needed("x-ms-lease-id")?)?;
            Ok(Done { status: StatusCode::OK, id: None, seconds_left: None })
        }
        "break" => {
            let period = request.number_header("x-ms-lease-break-period")?;
            let period = period.map(|period| u32::try_from(period.min(60)).unwrap_or(60));
            let left = lease.break_after(period, call.now_us)?;
            Ok(Done { status: StatusCode::ACCEPTED, id: None, seconds_left: Some(left) })
        }
        other => Err(AzureError::invalid_header("x-ms-lease-action", other)),
    }
}

/// Seconds of a lease: -1 is infinite, else 15 to 60.
fn duration(text: &str) -> Result<Option<u32>, AzureError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(seconds @ 15..=60) => Ok(u32::try_from(seconds).ok()),
        _ => Err(AzureError::invalid_header("x-ms-lease-duration", text)),
    }
}
