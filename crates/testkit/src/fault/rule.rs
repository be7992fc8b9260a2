//! Which calls a fault hits, and what it does to them.

use std::time::Duration;

use blobkeep_vault::{StoreError, StoreErrorKind};

/// A call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `put_if_absent`.
    Put,
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `size`.
    Size,
    /// `list`; its name is the prefix.
    List,
    /// `delete`.
    Delete,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing was done.
    Before(StoreErrorKind),
    /// It is done, and its answer is lost: it fails all the same.
    After(StoreErrorKind),
    /// A put leaves the first so many thousandths of its bytes under the name, and fails. Such a store is not atomic. Other calls fail.
    Torn(u16),
    /// A put or delete is acknowledged and never done. Such a store is not durable. Reads are let through.
    Lost,
    /// A put is acknowledged and can be read, and lands only with [`super::FaultStore::land`]; a crash may lose it. Other calls are let through.
    Held,
    /// It is done after this time, which is tokio's and can be paused.
    Slow(Duration),
}

/// A fault and the calls that it hits.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) fault: Fault,
    ops: Vec<Op>,
    prefix: String,
    skip: u64,
    times: u64,
    per_mille: u64,
    random: u64,
}

impl Rule {
    /// Every call, of every name, from now on.
    pub fn new(fault: Fault) -> Self {
        Self { fault, ops: Vec::new(), prefix: String::new(), skip: 0, times: u64::MAX, per_mille: 1000, random: 0 }
    }

    /// Nothing can be written any more: no room is left.
    pub fn full() -> Self {
        Self::new(Fault::Before(StoreErrorKind::Full)).on(Op::Put)
    }

    /// Nothing can be written or deleted.
    pub fn read_only() -> Self {
        Self::new(Fault::Before(StoreErrorKind::Denied)).on(Op::Put).on(Op::Delete)
    }

    /// Only calls of this kind (again for more).
    #[must_use]
    pub fn on(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Only names that begin like this.
    #[must_use]
    pub fn named(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets the first so many of its calls pass.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Hits only so many calls.
    #[must_use]
    pub fn times(mut self, calls: u64) -> Self {
        self.times = calls;
        self
    }

    /// Hits so many calls of a thousand, chosen by `seed` alone.
    #[must_use]
    pub fn by_chance(mut self, per_mille: u16, seed: u64) -> Self {
        self.per_mille = u64::from(per_mille);
        self.random = seed;
        self
    }

    /// Whether this call is hit; counts it.
    pub(super) fn hits(&mut self, op: Op, name: &str) -> bool {
        let concerns = (self.ops.is_empty() || self.ops.contains(&op)) && name.starts_with(&self.prefix);
        if !concerns || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if next_random(&mut self.random) % 1000 >= self.per_mille {
            return false;
        }
        self.times -= 1;
        true
    }
}

/// SplitMix64: equal seeds give equal faults on every machine.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

pub(super) fn on_request(kind: StoreErrorKind, op: Op, name: &str) -> StoreError {
    StoreError::new(kind, format!("{op:?} of {name} failed: fault on request"))
}
