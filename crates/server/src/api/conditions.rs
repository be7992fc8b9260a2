//! Entity tags, conditional requests and system data, for every resource that has them.
//!
//! A GET reads the [`stamp`] of what it shows and answers by [`read_answer`]. A PUT, PATCH or DELETE calls [`check`] with what is there as
//! soon as it has read that, inside its transaction; who changed something writes it down by [`change`] and answers by
//! [`written_answer`].

use std::collections::HashMap;

use blobkeep_arm::stamp::{Change, Stamp, meets_match, meets_none_match};
use blobkeep_arm::{ApiError, ErrorCode};
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use super::{Answer, Request};
use crate::db::{self, Conn};
use crate::error::ApiResult;

/// From this version on the bodies of tracked resources have `eTag`.
const ETAG_SINCE: &str = "2022-01-01";
/// From this version on the bodies of tracked resources have `systemData`.
const SYSTEM_DATA_SINCE: &str = "2023-01-01";

/// Refuses a change whose `If-Match` or `If-None-Match` is not met. `existing` is the folded id of what the path names, if it is there.
///
/// # Errors
/// 412 `PreconditionFailed`.
pub(super) async fn check(conn: &mut Conn, request: &Request, existing: Option<&str>) -> ApiResult<()> {
    let (wanted, unwanted) = (value(request, IF_MATCH), value(request, IF_NONE_MATCH));
    if wanted.is_none() && unwanted.is_none() {
        return Ok(());
    }
    let current = match existing {
        Some(key) => Some(stamp(conn, request, key).await?.map_or_else(String::new, |stamp| stamp.etag())),
        None => None,
    };
    match (wanted, unwanted) {
        (Some(wanted), _) if !meets_match(&wanted, current.as_deref()) => Err(not_met("If-Match", &wanted)),
        (_, Some(unwanted)) if !meets_none_match(&unwanted, current.as_deref()) => {
            Err(not_met("If-None-Match", &unwanted))
        }
        _ => Ok(()),
    }
}

/// The stamp of the resource of that folded id.
pub(super) async fn stamp(conn: &mut Conn, request: &Request, key: &str) -> ApiResult<Option<Stamp>> {
    Ok(db::stamps::get(conn, request.granted()?, key).await?)
}

/// Writes down that this request made (`is_new`) or changed the resource of that folded id.
pub(super) async fn change(conn: &mut Conn, request: &Request, key: &str, is_new: bool) -> ApiResult<Stamp> {
    let principal = db::principals::by_object_id(conn, &request.caller.object_id).await?;
    let by_type = principal.map_or("Application", |principal| principal.kind.as_str());
    let change = Change { by: request.caller.app_id.clone(), by_type: by_type.to_owned(), at: request.now };
    let granted = request.granted()?;
    Ok(if is_new {
        db::stamps::made(conn, granted, key, &change).await?
    } else {
        db::stamps::changed(conn, granted, key, &change).await?
    })
}

/// The answer to a GET: the body with its tag, or 304 for a client that has it.
///
/// # Errors
/// 412 `PreconditionFailed` for an `If-Match` that is not met.
pub(super) fn read_answer(request: &Request, stamp: Option<&Stamp>, body: Value) -> ApiResult<Answer> {
    let etag = stamp.map(Stamp::etag).unwrap_or_default();
    if let Some(wanted) = value(request, IF_MATCH)
        && !meets_match(&wanted, Some(&etag))
    {
        return Err(not_met("If-Match", &wanted));
    }
    let is_known = value(request, IF_NONE_MATCH).is_some_and(|unwanted| !meets_none_match(&unwanted, Some(&etag)));
    let answer = if is_known { Answer::new(304, None) } else { Answer::ok(body) };
    Ok(if etag.is_empty() { answer } else { answer.header("ETag", etag) })
}

/// The answer to a PUT or PATCH, with the tag of what is there now and with who made and changed it.
pub(super) fn written_answer(answer: Answer, stamp: &Stamp) -> Answer {
    answer.header("ETag", stamp.etag()).header("x-ms-arm-resource-system-data", stamp.system_data().to_string())
}

/// The stamps of the rows of a page by folded id, in the versions whose bodies show something of them. `key_of` is the folded id of a row.
pub(super) async fn stamps<R>(
    conn: &mut Conn,
    request: &Request,
    rows: &[R],
    key_of: impl Fn(&R) -> &String,
) -> ApiResult<HashMap<String, Stamp>> {
    let ([first, .., last] | [first @ last]) = rows else { return Ok(HashMap::new()) };
    if !request.api_version.is_at_least(ETAG_SINCE.min(SYSTEM_DATA_SINCE)) {
        return Ok(HashMap::new());
    }
    Ok(db::stamps::between(conn, key_of(first), key_of(last)).await?)
}

/// The body of a tracked resource with `eTag` and `systemData`, in the versions that have them.
pub(super) fn tracked_body(request: &Request, mut body: Value, stamp: Option<&Stamp>) -> Value {
    if let (Some(stamp), Some(members)) = (stamp, body.as_object_mut()) {
        if request.api_version.is_at_least(ETAG_SINCE) {
            members.insert("eTag".to_owned(), json!(stamp.etag()));
        }
        if request.api_version.is_at_least(SYSTEM_DATA_SINCE) {
            members.insert("systemData".to_owned(), stamp.system_data());
        }
    }
    body
}

/// All values of a header as one list; none if it is absent. What is no text is a tag that nothing here has: a condition that cannot be
/// understood must not count as none.
fn value(request: &Request, name: HeaderName) -> Option<String> {
    let values = request.headers.get_all(name).iter();
    let values: Vec<&str> = values.map(|value| value.to_str().unwrap_or("?")).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn not_met(header: &str, value: &str) -> ApiError {
    ApiError::of(ErrorCode::PreconditionFailed, &[("condition", &format!("{header}: {value}"))])
}
