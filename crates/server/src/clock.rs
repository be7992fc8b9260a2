//! The only place that reads the machine's clock. Everything else is told what time it is.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Now, in microseconds since 1970-01-01T00:00:00Z.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one edge where the process meets the real clock")]
    fn now_micros(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }
}

/// A clock that stands where it was put, for tests and rehearsals.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at that instant.
    pub fn at(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Moves the clock by whole seconds.
    pub fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds.saturating_mul(MICROS_PER_SECOND), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
