//! The front door: every request comes in here and every answer goes out here.
//!
//! Order: path, route, api-version, authentication, authorization, locks, body, handler. A handler runs in a task of its own: a client that hangs up
//! does not stop it half-way, and a panic becomes a 500. Headers that every answer carries are added here alone. Nothing that a client sends
//! as a secret (tokens, bodies) may be logged.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use blobkeep_arm::{ApiError, ErrorCode, ParsedPath};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::answer::JSON;
use super::request::{ApiVersion, Request};
use super::route::{Access, Found, find};
use super::{Answer, locks, providers};
use crate::App;
use crate::auth::{self, Caller};
use crate::db;
use crate::error::{ApiResult, CORRELATION_MARK, fault};
use crate::identity::TokenError;

/// Largest body that is read.
pub const BODY_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// What is known of a request before it is understood.
struct Arrival {
    method: Method,
    raw_path: String,
    raw_query: String,
    headers: HeaderMap,
    correlation_id: Uuid,
    base_url: String,
    now: i64,
}

/// Answers any request: the handler that a server runs. It stands alone, because a router would add headers of its own to answers without
/// a body.
pub(crate) async fn answer(State(app): State<Arc<App>>, incoming: axum::extract::Request) -> Response {
    let (head, body) = incoming.into_parts();
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
    let arrival = Arrival {
        base_url: app.base_url_for(host),
        method: head.method,
        raw_path: head.uri.path().to_owned(),
        raw_query: head.uri.query().unwrap_or("").to_owned(),
        headers: head.headers,
        correlation_id: Uuid::new_v4(),
        now: app.now(),
    };
    let answer = match understand(app.clone(), &arrival, body).await {
        Ok(answer) => answer,
        Err(error) => error_answer(&app, &arrival, error),
    };
    tracing::info!(
        method = %arrival.method, path = %arrival.raw_path, status = answer.status,
        correlation = %arrival.correlation_id, millis = (app.now() - arrival.now) / 1_000, "request"
    );
    finish(&arrival, answer)
}

/// Everything between arrival and answer.
async fn understand(app: Arc<App>, arrival: &Arrival, body: Body) -> ApiResult<Answer> {
    let path = ParsedPath::parse(&arrival.raw_path)?;
    let query = read_query(&arrival.raw_query);
    let found = find(&app.routes, &arrival.method, &path);
    let access = if let Found::Route(route, _) = &found { Some(route.access) } else { None };
    let is_public = access == Some(Access::Public);
    let is_unversioned = is_public || access == Some(Access::Unversioned);
    let api_version = if is_unversioned { ApiVersion::unspecified() } else { read_version(&query)? };
    let (route, params) = match found {
        Found::Route(route, params) => (route, params),
        Found::OtherMethods(_) => {
            return Err(ApiError::of(ErrorCode::MethodNotAllowed, &[("method", arrival.method.as_str())]));
        }
        Found::Nothing => return Err(providers::nothing_there(&path, &api_version)),
    };
    let caller = if is_public { Caller::nobody() } else { authenticate(&app, arrival).await? };
    let auxiliary = if is_public { None } else { authenticate_auxiliary(&app, arrival).await? };
    let granted = match route.access {
        Access::Action(action) => Some(auth::authorize(&app, &caller, action, &path.id.to_string()).await?),
        Access::Public | Access::Unversioned | Access::SignedIn => None,
    };
    if let Some(granted) = &granted {
        locks::check(&app, granted, &path.id).await?;
    }
    let request = Request {
        method: arrival.method.clone(),
        path,
        params,
        route,
        api_version,
        caller,
        auxiliary,
        granted,
        query,
        headers: arrival.headers.clone(),
        body: read_body(&arrival.headers, body).await?,
        base_url: arrival.base_url.clone(),
        correlation_id: arrival.correlation_id,
        now: arrival.now,
    };
    let handler = route.handler;
    match tokio::spawn(handler(app, request)).await {
        Ok(result) => result,
        Err(error) => Err(fault(&format!("handler of {} panicked: {error}", route.operation))),
    }
}

fn read_version(query: &[(String, String)]) -> ApiResult<ApiVersion> {
    let given = query.iter().find(|(key, _)| key.eq_ignore_ascii_case("api-version")).map(|(_, value)| value.trim());
    match given {
        None | Some("") => Err(ApiError::of(ErrorCode::MissingApiVersionParameter, &[])),
        Some(text) => ApiVersion::parse(text),
    }
}

/// The decoded pairs of a query; what cannot be decoded stays as it is.
fn read_query(raw: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

async fn authenticate(app: &App, arrival: &Arrival) -> ApiResult<Caller> {
    match check_token(app, arrival).await? {
        Ok(caller) => Ok(caller),
        Err(reason) => Err(ApiError::of(ErrorCode::AuthenticationFailed, &[("reason", &reason.to_string())])),
    }
}

async fn check_token(app: &App, arrival: &Arrival) -> ApiResult<Result<Caller, TokenError>> {
    let value = arrival.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    check_bearer(app, value, arrival.now).await
}

/// The principal of a second token: the first of the header's list (`Bearer …, Bearer …`) that is ours.
async fn authenticate_auxiliary(app: &App, arrival: &Arrival) -> ApiResult<Option<Caller>> {
    let Some(value) = arrival.headers.get("x-ms-authorization-auxiliary") else { return Ok(None) };
    let mut reason = TokenError::Invalid;
    for token in value.to_str().unwrap_or("").split(',') {
        match check_bearer(app, token.trim(), arrival.now).await? {
            Ok(caller) => return Ok(Some(caller)),
            Err(error) => reason = error,
        }
    }
    let reason = format!("The header 'x-ms-authorization-auxiliary' holds no token that can be used. {reason}");
    Err(ApiError::of(ErrorCode::AuthenticationFailed, &[("reason", &reason)]))
}

/// Who a `Bearer …` speaks for.
async fn check_bearer(app: &App, value: &str, now: i64) -> ApiResult<Result<Caller, TokenError>> {
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => token.trim(),
        _ => return Ok(Err(TokenError::Missing)),
    };
    let caller = match app.identity.check(token, &app.own_urls(), now) {
        Ok(caller) => caller,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut reader = app.db.read().await?;
    let exists = db::principals::by_object_id(&mut reader, &caller.object_id).await?.is_some();
    Ok(if exists { Ok(caller) } else { Err(TokenError::UnknownPrincipal) })
}

async fn read_body(headers: &HeaderMap, body: Body) -> ApiResult<Bytes> {
    let too_large = || ApiError::of(ErrorCode::RequestEntityTooLarge, &[("limit", &BODY_LIMIT_BYTES.to_string())]);
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > BODY_LIMIT_BYTES as u64) {
        return Err(too_large());
    }
    match axum::body::to_bytes(body, BODY_LIMIT_BYTES).await {
        Ok(bytes) => Ok(bytes),
        Err(error) if is_length_limit(&error) => Err(too_large()),
        Err(error) => Err(super::request::invalid_content(&format!("The body could not be read: {error}"))),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if inner.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = inner.source();
    }
    false
}

fn error_answer(app: &App, arrival: &Arrival, error: ApiError) -> Answer {
    let correlation = arrival.correlation_id.to_string();
    let mut error = error.with_activity(&correlation);
    error.message = error.message.replace(CORRELATION_MARK, &correlation);
    let answer = Answer::error(&error);
    match error.code {
        ErrorCode::AuthenticationFailed => {
            let authority = format!("{}/{}", arrival.base_url, app.tenant_id());
            let description = error.message.replace('"', "'");
            answer.header(
                "WWW-Authenticate",
                format!(
                    "Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"{description}\""
                ),
            )
        }
        ErrorCode::MethodNotAllowed => answer.header("Allow", allowed_methods(app, &arrival.raw_path)),
        _ => answer,
    }
}

fn allowed_methods(app: &App, raw_path: &str) -> String {
    let Ok(path) = ParsedPath::parse(raw_path) else { return String::new() };
    match find(&app.routes, &Method::TRACE, &path) {
        Found::OtherMethods(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

/// Turns an answer into what goes onto the wire, with the headers that every answer carries (seed).
fn finish(arrival: &Arrival, answer: Answer) -> Response {
    let (kind, body) = match (answer.raw, answer.body) {
        (Some((kind, content)), _) => (kind, Some(content)),
        (None, body) => (JSON, body.map(|body| Bytes::from(body.to_string()))),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let (limit_name, limit) = match arrival.method {
        Method::GET | Method::HEAD => ("x-ms-ratelimit-remaining-subscription-reads", "11999"),
        Method::DELETE => ("x-ms-ratelimit-remaining-subscription-deletes", "14999"),
        _ => ("x-ms-ratelimit-remaining-subscription-writes", "1199"),
    };
    let correlation = arrival.correlation_id.to_string();
    let common = [
        ("Cache-Control", "no-cache"),
        ("Pragma", "no-cache"),
        ("Expires", "-1"),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ("X-Content-Type-Options", "nosniff"),
        ("x-ms-request-id", correlation.as_str()),
        ("x-ms-correlation-request-id", correlation.as_str()),
        (limit_name, limit),
    ];
    for (name, value) in common {
        put_header(headers, name, value);
    }
    put_header(headers, "x-ms-routing-request-id", &routing_id(arrival));
    if wants_echo(&arrival.headers)
        && let Some(id) = arrival.headers.get("x-ms-client-request-id")
    {
        headers.insert("x-ms-client-request-id", id.clone());
    }
    for (name, value) in &answer.headers {
        put_header(headers, name, value);
    }
    // A 304 speaks of a body that the client has, so it must not give the length of another one.
    if !matches!(answer.status, 204 | 304) {
        put_header(headers, "Content-Length", &body.as_ref().map_or(0, Bytes::len).to_string());
    }
    if let Some(body) = body {
        put_header(headers, "Content-Type", kind);
        *response.body_mut() = Body::from(body);
    }
    response
}

fn put_header(headers: &mut HeaderMap, name: &str, value: &str) {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), Ok(value)) => {
            headers.insert(name, value);
        }
        _ => tracing::error!(name, "a header could not be sent: its value is not legal"),
    }
}

/// `REGION:yyyyMMddTHHmmssZ:GUID`.
fn routing_id(arrival: &Arrival) -> String {
    let instant = jiff::Timestamp::from_microsecond(arrival.now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("LOCAL:{}:{}", instant.strftime("%Y%m%dT%H%M%SZ"), Uuid::new_v4())
}

fn wants_echo(headers: &HeaderMap) -> bool {
    let wish = headers.get("x-ms-return-client-request-id").and_then(|value| value.to_str().ok());
    wish.is_some_and(|wish| wish.eq_ignore_ascii_case("true"))
}
