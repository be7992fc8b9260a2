//! A request as handlers see it: path and body are taken apart, the caller is known, the time is given.

use blobkeep_arm::{ApiError, ErrorCode, ParsedPath, envelope};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::route::{Params, Route};
use crate::auth::{Caller, Granted};
use crate::error::{ApiResult, fault};

/// The `api-version` of a request: a date, with or without `-preview`, not before 2021-01-01.
///
/// All versions run the same code; only what the public documentation ties to a version asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersion(String);

/// The first version that is served: the seed's.
pub const FIRST_API_VERSION: &str = "2021-01-01";
/// The newest version whose documents were read; later dates are accepted too.
pub const NEWEST_API_VERSION: &str = "2026-06-01";
/// From this version on answers keep to its document; before, they also have what was recorded beside the documents.
const SPECIFIED_SINCE: &str = "2026-06-01";

impl ApiVersion {
    /// Reads a version.
    ///
    /// # Errors
    /// 400 `InvalidApiVersionParameter` for what is no date or lies before the first version.
    pub fn parse(text: &str) -> ApiResult<Self> {
        let lower = text.to_ascii_lowercase();
        let date = lower.strip_suffix("-preview").unwrap_or(&lower);
        let is_date = date.len() == 10 && date.parse::<jiff::civil::Date>().is_ok();
        if !is_date || date < FIRST_API_VERSION {
            let supported = format!("{FIRST_API_VERSION} to {NEWEST_API_VERSION}");
            return Err(ApiError::of(
                ErrorCode::InvalidApiVersionParameter,
                &[("version", text), ("supported", &supported)],
            ));
        }
        Ok(Self(lower))
    }

    /// For routes that need none.
    pub(crate) fn unspecified() -> Self {
        Self(FIRST_API_VERSION.to_owned())
    }

    /// The version as it is echoed into tracking URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Answers of this version have members that were recorded although no specification names them.
    pub fn has_recorded(&self) -> bool {
        !self.is_at_least(SPECIFIED_SINCE)
    }

    /// This version is `date` (`YYYY-MM-DD`) or later.
    pub fn is_at_least(&self, date: &str) -> bool {
        self.0.as_str() >= date
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path: segments, the id it begins with, what follows.
    pub path: ParsedPath,
    /// Values of the route's placeholders.
    pub params: Params,
    /// The route that was found.
    pub route: &'static Route,
    /// The api-version.
    pub api_version: ApiVersion,
    /// Who asks.
    pub caller: Caller,
    /// The principal of a second token (`x-ms-authorization-auxiliary`): its rights count for resource guards that the request
    /// names, and for nothing else.
    pub auxiliary: Option<Caller>,
    /// The route's action on the path's id, granted; `None` on routes without an action.
    pub granted: Option<Granted>,
    /// Decoded query pairs, as given.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The body, at most 4 MiB.
    pub body: Bytes,
    /// `https://host:port` without a slash at the end: the front of every absolute URL that is answered.
    pub base_url: String,
    /// Names this request in answers, errors and the log.
    pub correlation_id: Uuid,
    /// Now, in microseconds since 1970.
    pub now: i64,
}

impl Request {
    /// The value of a placeholder of the route's pattern; empty if the pattern has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    }

    /// A query value, its name compared without case; `None` if absent.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The `$filter`, trimmed; an empty one is none (command lines always send one).
    pub fn filter(&self) -> Option<&str> {
        self.query("$filter").map(str::trim).filter(|filter| !filter.is_empty())
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The grant of the route's action.
    ///
    /// # Errors
    /// 500 when the route names no action: a fault of its table.
    pub fn granted(&self) -> ApiResult<&Granted> {
        self.granted.as_ref().ok_or_else(|| fault(&format!("route {:?} names no action", self.route)))
    }

    /// The caller, then the principal of the second token.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        std::iter::once(&self.caller).chain(&self.auxiliary)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// 400 `InvalidRequestContent` with line and column.
    pub fn json(&self) -> ApiResult<Value> {
        if self.body.is_empty() {
            return Err(invalid_content("The request has no body."));
        }
        // A byte order mark is what some editors put in front of files that are then sent.
        let body = self.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.body);
        serde_json::from_slice(body).map_err(|error| invalid_content(&error.to_string()))
    }

    /// The body as JSON; `null` if there is none.
    ///
    /// # Errors
    /// 400 `InvalidRequestContent` with line and column.
    pub fn json_or_null(&self) -> ApiResult<Value> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(Value::Null) } else { self.json() }
    }

    /// The body as JSON with the members in `known` re-keyed to that spelling (see [`envelope::respell`]).
    ///
    /// # Errors
    /// 400 `InvalidRequestContent`, also when the body is no object.
    pub fn json_respelled(&self, known: &[&str]) -> ApiResult<Value> {
        let mut value = self.json()?;
        if !value.is_object() {
            return Err(invalid_content("The body must be a JSON object."));
        }
        envelope::respell(&mut value, known);
        Ok(value)
    }

    /// The body as a typed struct, member names compared without case.
    ///
    /// # Errors
    /// 400 `InvalidRequestContent` naming what does not fit.
    pub fn typed<T: DeserializeOwned>(&self, known: &[&str]) -> ApiResult<T> {
        typed(self.json_respelled(known)?)
    }

    /// An absolute URL of this service for a path, with this request's api-version.
    pub fn absolute_url(&self, path: &str) -> String {
        format!("{}{path}?api-version={}", self.base_url, self.api_version.as_str())
    }
}

/// A JSON value as a typed struct.
///
/// # Errors
/// 400 `InvalidRequestContent` naming what does not fit.
pub fn typed<T: DeserializeOwned>(value: Value) -> ApiResult<T> {
    serde_json::from_value(value).map_err(|error| invalid_content(&error.to_string()))
}

/// 400 `InvalidRequestContent`.
pub fn invalid_content(reason: &str) -> ApiError {
    ApiError::of(ErrorCode::InvalidRequestContent, &[("reason", reason)])
}
