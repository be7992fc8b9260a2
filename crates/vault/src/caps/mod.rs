//! Caps: how many bytes and requests may pass in a second, by time of day. A [`Caps`] is shared by all that it holds back together: a source, a
//! target, a store, each behind a layer of its own kind that waits before a call and changes nothing else.
//!
//! What counts is what the engine asks for: a page of a listing, a read, a write, a part of a large blob, a change of a feed, a copy inside an
//! account are one request each, and the bytes are those of content. What an endpoint's client makes of it (tries again, blocks of a part) is not seen here.

mod layers;
mod schedule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::monitor::Clock;
pub use layers::{CappedSource, CappedStore, CappedTarget};
pub use schedule::{Rates, Schedule};

/// What was not used is saved up for so long.
const BURST: Duration = Duration::from_secs(1);
/// No wait is shorter: timers are no finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Holds back what passes it to the rates of a schedule. Who waits is served in the order of asking.
pub struct Caps {
    schedule: Schedule,
    clock: Arc<dyn Clock>,
    requests: Gate,
    bytes: Gate,
}

impl Caps {
    /// Caps by `schedule`; the clock tells the time of day, and seconds are counted by the machine's steady clock.
    pub fn new(schedule: Schedule, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { schedule, clock, requests: Gate::new(), bytes: Gate::new() })
    }

    /// Waits until a request that moves so many bytes may be made.
    ///
    /// A request is let through as soon as those before it are paid off, whatever its size, so that one larger than the rate of a second passes,
    /// too, and the next one waits for it.
    pub async fn pass(&self, bytes: u64) {
        self.wait(&self.requests, |rates| rates.requests_per_second, 1).await;
        if bytes > 0 {
            self.wait(&self.bytes, |rates| rates.bytes_per_second, bytes).await;
        }
    }

    /// The same for a request of which it is not known how many bytes it will move: they are to be counted afterwards ([`Self::charge`]).
    pub async fn pass_unsized(&self) {
        self.wait(&self.requests, |rates| rates.requests_per_second, 1).await;
        self.wait(&self.bytes, |rates| rates.bytes_per_second, 0).await;
    }

    /// Counts bytes that have moved: what comes next waits for them.
    pub fn charge(&self, bytes: u64) {
        if self.schedule.at(self.clock.now()).rates.bytes_per_second.is_some() {
            self.bytes.bucket().balance -= bytes as f64;
        }
    }

    /// Counts requests that were made beyond the one that was let through: what comes next waits for them.
    pub fn charge_requests(&self, requests: u64) {
        if self.schedule.at(self.clock.now()).rates.requests_per_second.is_some() {
            self.requests.bucket().balance -= requests as f64;
        }
    }

    async fn wait(&self, gate: &Gate, rate: fn(&Rates) -> Option<u64>, amount: u64) {
        // Whoever holds the turn waits for its tokens, the others for the turn.
        let _turn = gate.turn.lock().await;
        loop {
            let present = self.schedule.at(self.clock.now());
            let wait = gate.bucket().take(Instant::now(), rate(&present.rates), amount);
            let Some(wait) = wait else { return };
            // At the end of a window the rate is another one.
            sleep(wait.min(present.left).max(SHORTEST_WAIT)).await;
        }
    }
}

struct Gate {
    turn: tokio::sync::Mutex<()>,
    bucket: Mutex<Bucket>,
}

impl Gate {
    fn new() -> Self {
        Self { turn: tokio::sync::Mutex::new(()), bucket: Mutex::new(Bucket { balance: 0.0, at: None }) }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket of tokens that may be overdrawn: debts are waited for afterwards.
struct Bucket {
    balance: f64,
    /// When the balance was what it is.
    at: Option<Instant>,
}

impl Bucket {
    /// Takes `amount` if nothing is owed; otherwise says how long it takes at this rate until then.
    fn take(&mut self, now: Instant, rate: Option<u64>, amount: u64) -> Option<Duration> {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let Some(rate) = rate else {
            self.balance = 0.0;
            return None;
        };
        let rate = rate as f64;
        self.balance = (self.balance + passed.as_secs_f64() * rate).min(BURST.as_secs_f64() * rate);
        if self.balance < 0.0 {
            return Some(Duration::from_secs_f64(-self.balance / rate));
        }
        self.balance -= amount as f64;
        None
    }
}

#[cfg(test)]
mod tests;
