//! A clock that is set by hand.

use std::sync::atomic::{AtomicI64, Ordering};

use blobkeep_vault::{Clock, Timestamp};

/// Time as a test wants it.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at this many seconds since 1970.
    pub fn at_seconds(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds * 1_000_000))
    }

    /// Moves on.
    pub fn advance_seconds(&self, seconds: i64) {
        self.advance_micros(seconds * 1_000_000);
    }

    /// Moves on.
    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
