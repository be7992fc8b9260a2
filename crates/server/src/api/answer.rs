//! What a handler answers. Headers that every answer carries are added by the front door.

use blobkeep_arm::ApiError;
use bytes::Bytes;
use serde_json::Value;

/// The type of JSON.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// Status, headers and body of one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers beyond those that every answer carries; names in the spelling that goes onto the wire.
    pub headers: Vec<(&'static str, String)>,
    /// The body; `None` is an empty one.
    pub body: Option<Value>,
    /// A body that is text or bytes already, with its type; it takes the place of `body`.
    pub raw: Option<(&'static str, Bytes)>,
}

impl Answer {
    /// An answer of any status.
    pub fn new(status: u16, body: Option<Value>) -> Self {
        Self { status, headers: Vec::new(), body, raw: None }
    }

    /// 200 with a body.
    pub fn ok(body: Value) -> Self {
        Self::new(200, Some(body))
    }

    /// 200 with a body that is JSON as text already.
    pub fn json_text(text: Vec<u8>) -> Self {
        Self::raw(JSON, Bytes::from(text))
    }

    /// 200 with the content of a file of that type.
    pub fn raw(kind: &'static str, content: Bytes) -> Self {
        Self { raw: Some((kind, content)), ..Self::ok_empty() }
    }

    /// 200 without a body.
    pub fn ok_empty() -> Self {
        Self::new(200, None)
    }

    /// 201 with the resource.
    pub fn created(body: Value) -> Self {
        Self::new(201, Some(body))
    }

    /// 202 without a body; the caller adds the tracking headers.
    pub fn accepted() -> Self {
        Self::new(202, None)
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::new(204, None)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer to an error.
    pub fn error(error: &ApiError) -> Self {
        Self::new(error.status(), Some(error.answer_body()))
    }
}
