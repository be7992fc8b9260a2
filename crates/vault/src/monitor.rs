//! How a caller watches a long piece of work, and stops it.

use crate::item::Timestamp;

/// How far a piece of work has come. Numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkProgress {
    /// Blobs looked at or written so far.
    pub blobs: u64,
    /// Blobs in all, where that is known beforehand.
    pub blobs_in_all: Option<u64>,
    /// Bytes of content moved so far.
    pub bytes: u64,
    /// Bytes of content in all, where that is known beforehand.
    pub bytes_in_all: Option<u64>,
    /// Blobs that needed no work because nothing changed.
    pub unchanged_blobs: u64,
    /// Blobs left out, with a reason.
    pub skipped_blobs: u64,
}

/// Watches a piece of work. Calls must return at once.
pub trait Monitor: Send + Sync {
    /// Called often, from one task.
    fn progress(&self, progress: &WorkProgress);

    /// `Some(reason)` asks the work to stop at its next step; what is done stays done.
    fn should_stop(&self) -> Option<String> {
        None
    }
}

/// Watches nothing.
pub struct Unwatched;

impl Monitor for Unwatched {
    fn progress(&self, _: &WorkProgress) {}
}

/// Tells the time. The engine takes it from here and nowhere else.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}
