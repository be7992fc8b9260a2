//! The requests that were answered, newest last, in bounded memory. Signatures are never kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request as the emulator saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The HTTP method.
    pub method: String,
    /// Path and query as sent, with the value of `sig` replaced by `REDACTED`.
    pub target: String,
    /// The name of the operation, e.g. `ListBlobs`, `GetBlob`, `PutBlob`; `Unknown` if it is none.
    pub operation: &'static str,
    /// The HTTP status; 0 when the connection was dropped without an answer.
    pub status: u16,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body as promised by its length (0 for HEAD and for a dropped connection).
    pub response_bytes: u64,
}

#[derive(Default)]
struct Records {
    latest: VecDeque<RecordedRequest>,
    counts: HashMap<&'static str, usize>,
}

/// The bounded memory of requests.
pub(crate) struct Recorder {
    capacity: usize,
    records: Mutex<Records>,
}

impl Recorder {
    pub(crate) fn new(capacity: usize) -> Recorder {
        Recorder { capacity, records: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, request: RecordedRequest) {
        let mut records = self.lock();
        *records.counts.entry(request.operation).or_default() += 1;
        if self.capacity == 0 {
            return;
        }
        if records.latest.len() >= self.capacity {
            records.latest.pop_front();
        }
        records.latest.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<RecordedRequest> {
        self.lock().latest.iter().cloned().collect()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        self.lock().counts.get(operation).copied().unwrap_or(0)
    }

    pub(crate) fn clear(&self) {
        *self.lock() = Records::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: &'static str, target: &str) -> RecordedRequest {
        RecordedRequest {
            method: "GET".to_owned(),
            target: target.to_owned(),
            operation,
            status: 200,
            request_bytes: 0,
            response_bytes: 1,
        }
    }

    #[test]
    fn the_oldest_is_forgotten_but_still_counted() {
        let recorder = Recorder::new(2);
        for target in ["/a", "/b", "/c"] {
            recorder.add(request("GetBlob", target));
        }
        let targets: Vec<_> = recorder.all().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/b", "/c"]);
        assert_eq!(recorder.count("GetBlob"), 3);
        recorder.clear();
        assert_eq!(recorder.count("GetBlob"), 0);
        assert!(recorder.all().is_empty());
    }
}
