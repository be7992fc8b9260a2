//! An answer on its way to the wire: status, headers, and a body that is made piece by piece, so that a blob of any size
//! takes no memory of its own.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use crate::error::AzureError;
use crate::model::blob::Part;

/// The body of an answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerBody {
    parts: VecDeque<Part>,
    left_bytes: u64,
    /// Break the connection once only this many bytes are left.
    break_at: Option<u64>,
    corrupt_next: bool,
}

impl AnswerBody {
    pub(crate) fn of(parts: Vec<Part>, len_bytes: u64) -> AnswerBody {
        AnswerBody { parts: parts.into(), left_bytes: len_bytes, break_at: None, corrupt_next: false }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// Breaks the connection after the first half.
    pub(crate) fn break_in_the_middle(&mut self) {
        self.break_at = Some(self.left_bytes - self.left_bytes / 2);
    }

    /// Sends the first half only, as if it were all.
    pub(crate) fn truncate_to_half(&mut self) {
        self.left_bytes /= 2;
    }

    /// Changes the first byte.
    pub(crate) fn corrupt(&mut self) {
        self.corrupt_next = true;
    }

    fn next_bytes(&mut self) -> Option<Bytes> {
        loop {
            match self.parts.front_mut()?.take() {
                Some(bytes) => return Some(bytes),
                None => self.parts.pop_front(),
            };
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.break_at.is_some_and(|at| body.left_bytes <= at) {
            let reason = io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is broken on request");
            return Poll::Ready(Some(Err(reason)));
        }
        if body.left_bytes == 0 {
            return Poll::Ready(None);
        }
        let Some(mut bytes) = body.next_bytes() else { return Poll::Ready(None) };
        let allowed = body.left_bytes - body.break_at.unwrap_or(0);
        bytes.truncate(usize::try_from(allowed).unwrap_or(usize::MAX));
        if std::mem::take(&mut body.corrupt_next) {
            let mut changed = BytesMut::from(&bytes[..]);
            if let Some(first) = changed.first_mut() {
                *first ^= 0x01;
            }
            bytes = changed.freeze();
        }
        body.left_bytes -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
    /// The length that is told without a body: of HEAD.
    pub(crate) told_length: Option<u64>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: AnswerBody::default(), told_length: None }
    }

    /// Adds a header; a value that HTTP can't carry is left out.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Answer {
        self.set(name, value);
        self
    }

    /// As [`Answer::header`], if there is a value.
    pub(crate) fn maybe(self, name: &str, value: Option<&str>) -> Answer {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            self.headers.insert(name, value);
        }
    }

    pub(crate) fn xml(mut self, document: String) -> Answer {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        self.bytes(Bytes::from(document))
    }

    pub(crate) fn bytes(mut self, bytes: Bytes) -> Answer {
        let len_bytes = bytes.len() as u64;
        self.body = AnswerBody::of(vec![Part::Bytes(bytes)], len_bytes);
        self
    }

    /// The answer for an error. The body's words are those of Azure's error document.
    pub(crate) fn error(error: &AzureError, request_id: &str, at: &str) -> Answer {
        let mut answer = Answer::new(error.status).header("x-ms-error-code", error.code);
        for (name, value) in &error.headers {
            answer.set(name, value);
        }
        if error.status == StatusCode::NOT_MODIFIED {
            return answer;
        }
        let mut document = String::from("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>");
        document.push_str(error.code);
        document.push_str("</Code><Message>");
        crate::xml::push_escaped(&mut document, &error.message);
        document.push_str(&format!("\nRequestId:{request_id}\nTime:{at}</Message></Error>"));
        answer.xml(document)
    }

    /// Drops the body of an answer to HEAD, keeping its length.
    pub(crate) fn without_body(mut self) -> Answer {
        self.told_length = self.told_length.or(Some(self.body.len_bytes()));
        self.body = AnswerBody::default();
        self
    }

    /// The HTTP response, with a length always.
    pub(crate) fn into_response(mut self) -> http::Response<AnswerBody> {
        if self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED {
            let length = self.told_length.unwrap_or(self.body.len_bytes());
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
