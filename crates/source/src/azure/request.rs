//! A request and its answer, as the operations of this client see them.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// One request, without authorization.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) container: Option<String>,
    pub(crate) blob: Option<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: HeaderMap,
    /// The names among them that have capital letters, as they are to be sent: `headers` holds them in small letters.
    pub(crate) cased_names: Vec<String>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn new(method: Method, container: Option<&str>, blob: Option<&str>) -> Self {
        Self {
            method,
            container: container.map(str::to_owned),
            blob: blob.map(str::to_owned),
            query: Vec::new(),
            headers: HeaderMap::new(),
            cased_names: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a header that is known to be legal.
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Adds a header if name and value are legal; says whether they were. The name goes out with the capital letters it has.
    pub(crate) fn try_header(&mut self, name: &str, value: &str) -> bool {
        let (Ok(legal), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            return false;
        };
        if legal.as_str() != name {
            self.cased_names.push(name.to_owned());
        }
        self.headers.insert(legal, value);
        true
    }

    /// Adds a header that may hold a secret: it is not shown where the request is. One that is not legal is left out.
    pub(crate) fn secret_header(&mut self, name: &'static str, value: &str) {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How often it was asked; above one, an earlier try may have taken effect although its answer was lost.
    pub(crate) tries: u32,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
