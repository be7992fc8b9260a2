//! Leases of containers and blobs: the states and the rules of change from the reference of "Lease Blob". Time comes in.

use crate::error::AzureError;

/// A lease as it was left by the last operation; its present state also depends on the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Lease {
    #[default]
    None,
    Held {
        id: String,
        /// `None` is infinite.
        seconds: Option<u32>,
        since_us: i64,
    },
    Breaking {
        id: String,
        until_us: i64,
    },
}

/// The state of a lease at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Available,
    Leased,
    Expired,
    Breaking,
    Broken,
}

impl LeaseState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LeaseState::Available => "available",
            LeaseState::Leased => "leased",
            LeaseState::Expired => "expired",
            LeaseState::Breaking => "breaking",
            LeaseState::Broken => "broken",
        }
    }

    /// The value of `x-ms-lease-status`.
    pub(crate) fn status(self) -> &'static str {
        if self.is_locked() { "locked" } else { "unlocked" }
    }

    pub(crate) fn is_locked(self) -> bool {
        matches!(self, LeaseState::Leased | LeaseState::Breaking)
    }
}

/// What is leased: it decides on the words of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leased {
    Container,
    Blob,
}

fn mismatch_with_lease_operation() -> AzureError {
    AzureError::conflict(
        "LeaseIdMismatchWithLeaseOperation",
        "The lease ID specified did not match the lease ID for the resource.",
    )
}

fn not_present_with_lease_operation() -> AzureError {
    AzureError::conflict("LeaseNotPresentWithLeaseOperation", "There is currently no lease on the resource.")
}

impl Lease {
    pub(crate) fn state(&self, now_us: i64) -> LeaseState {
        match self {
            Lease::None => LeaseState::Available,
            Lease::Held { .. } if self.remaining_us(now_us) == Some(0) => LeaseState::Expired,
            Lease::Held { .. } => LeaseState::Leased,
            Lease::Breaking { until_us, .. } if *until_us <= now_us => LeaseState::Broken,
            Lease::Breaking { .. } => LeaseState::Breaking,
        }
    }

    /// `infinite` or `fixed` while leased.
    pub(crate) fn duration(&self, now_us: i64) -> Option<&'static str> {
        match self {
            Lease::Held { seconds, .. } if self.state(now_us) == LeaseState::Leased => {
                Some(if seconds.is_some() { "fixed" } else { "infinite" })
            }
            _ => None,
        }
    }

    /// Time until a held lease expires; `None` if it never does.
    fn remaining_us(&self, now_us: i64) -> Option<i64> {
        match self {
            Lease::Held { seconds: Some(seconds), since_us, .. } => {
                Some((since_us + i64::from(*seconds) * 1_000_000 - now_us).max(0))
            }
            _ => None,
        }
    }

    fn id(&self) -> Option<&str> {
        match self {
            Lease::None => None,
            Lease::Held { id, .. } | Lease::Breaking { id, .. } => Some(id),
        }
    }

    fn has_id(&self, given: &str) -> bool {
        self.id().is_some_and(|id| id.eq_ignore_ascii_case(given))
    }

    pub(crate) fn acquire(&mut self, id: String, seconds: Option<u32>, now_us: i64) -> Result<(), AzureError> {
        let free = !self.state(now_us).is_locked();
        let renewed = self.state(now_us) == LeaseState::Leased && self.has_id(&id);
        if !free && !renewed {
            return Err(AzureError::conflict("LeaseAlreadyPresent", "There is already a lease present."));
        }
        *self = Lease::Held { id, seconds, since_us: now_us };
        Ok(())
    }

    pub(crate) fn renew(&mut self, given: &str, now_us: i64) -> Result<(), AzureError> {
        if *self == Lease::None {
            return Err(not_present_with_lease_operation());
        }
        if !self.has_id(given) {
            return Err(mismatch_with_lease_operation());
        }
        match self {
            Lease::Held { since_us, .. } => *since_us = now_us,
            _ => {
                return Err(AzureError::conflict(
                    "LeaseIsBrokenAndCannotBeRenewed",
                    "The lease ID matched, but the lease has been broken explicitly and cannot be renewed.",
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn change(&mut self, given: &str, proposed: &str, now_us: i64) -> Result<(), AzureError> {
        match self.state(now_us) {
            LeaseState::Leased => {}
            LeaseState::Breaking => {
                return Err(AzureError::conflict(
                    "LeaseIsBreakingAndCannotBeChanged",
                    "The lease ID matched, but the lease is currently in breaking state and cannot be changed.",
                ));
            }
            _ => return Err(not_present_with_lease_operation()),
        }
        if !self.has_id(given) && !self.has_id(proposed) {
            return Err(mismatch_with_lease_operation());
        }
        if let Lease::Held { id, .. } = self {
            *id = proposed.to_owned();
        }
        Ok(())
    }

    pub(crate) fn release(&mut self, given: &str) -> Result<(), AzureError> {
        if *self == Lease::None {
            return Err(not_present_with_lease_operation());
        }
        if !self.has_id(given) {
            return Err(mismatch_with_lease_operation());
        }
        *self = Lease::None;
        Ok(())
    }

    /// Breaks the lease after the given seconds or what is left of it, whichever is less; returns the seconds until then.
    pub(crate) fn break_after(&mut self, period_seconds: Option<u32>, now_us: i64) -> Result<u32, AzureError> {
        let Some(id) = self.id().map(str::to_owned) else {
            return Err(not_present_with_lease_operation());
        };
        let left_us = match self {
            Lease::Breaking { until_us, .. } => Some((*until_us - now_us).max(0)),
            _ => self.remaining_us(now_us),
        };
        let asked_us = period_seconds.map(|seconds| i64::from(seconds) * 1_000_000);
        let wait_us = match (left_us, asked_us) {
            (Some(left), Some(asked)) => left.min(asked),
            (Some(left), None) => left,
            (None, asked) => asked.unwrap_or(0),
        };
        *self = Lease::Breaking { id, until_us: now_us + wait_us };
        Ok(u32::try_from((wait_us + 999_999) / 1_000_000).unwrap_or(u32::MAX))
    }

    /// Refuses a request that may not touch what is leased. A read needs no id, but a wrong one is refused.
    pub(crate) fn guard(&self, given: Option<&str>, write: bool, what: Leased, now_us: i64) -> Result<(), AzureError> {
        let (mismatch, missing) = match what {
            Leased::Container => ("LeaseIdMismatchWithContainerOperation", "LeaseNotPresentWithContainerOperation"),
            Leased::Blob => ("LeaseIdMismatchWithBlobOperation", "LeaseNotPresentWithBlobOperation"),
        };
        let locked = self.state(now_us).is_locked();
        match given {
            None if locked && write => Err(AzureError::precondition(
                "LeaseIdMissing",
                "There is currently a lease on the resource and no lease ID was specified in the request.",
            )),
            None => Ok(()),
            Some(id) if locked && self.has_id(id) => Ok(()),
            Some(_) if locked => Err(AzureError::precondition(
                mismatch,
                "The lease ID specified did not match the lease ID for the resource.",
            )),
            Some(id) if self.has_id(id) => Err(AzureError::precondition(
                "LeaseLost",
                "A lease ID was specified, but the lease for the resource has expired.",
            )),
            Some(_) => Err(AzureError::precondition(missing, "There is currently no lease on the resource.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn a_fixed_lease_expires_and_can_be_renewed_or_taken_over() {
        let mut lease = Lease::None;
        lease.acquire("a".to_owned(), Some(15), 0).unwrap();
        assert_eq!(lease.state(14 * S), LeaseState::Leased);
        assert_eq!(lease.acquire("b".to_owned(), None, S).unwrap_err().code, "LeaseAlreadyPresent");
        assert_eq!(lease.state(15 * S), LeaseState::Expired);
        lease.renew("a", 16 * S).unwrap();
        assert_eq!(lease.state(30 * S), LeaseState::Leased);
        lease.acquire("b".to_owned(), None, 40 * S).unwrap();
        assert_eq!(lease.duration(40 * S), Some("infinite"));
    }

    #[test]
    fn a_broken_lease_guards_until_its_time_and_can_not_be_renewed() {
        let mut lease = Lease::None;
        lease.acquire("a".to_owned(), None, 0).unwrap();
        assert_eq!(lease.break_after(Some(10), 0).unwrap(), 10);
        assert_eq!(lease.guard(None, true, Leased::Blob, 9 * S).unwrap_err().code, "LeaseIdMissing");
        assert_eq!(lease.renew("a", 9 * S).unwrap_err().code, "LeaseIsBrokenAndCannotBeRenewed");
        assert_eq!(lease.state(10 * S), LeaseState::Broken);
        lease.guard(None, true, Leased::Blob, 10 * S).unwrap();
    }

    #[test]
    fn a_write_needs_the_id_and_a_read_must_not_have_a_wrong_one() {
        let mut lease = Lease::None;
        lease.guard(None, true, Leased::Blob, 0).unwrap();
        assert_eq!(lease.guard(Some("a"), true, Leased::Blob, 0).unwrap_err().code, "LeaseNotPresentWithBlobOperation");
        lease.acquire("a".to_owned(), None, 0).unwrap();
        lease.guard(None, false, Leased::Blob, 0).unwrap();
        lease.guard(Some("A"), true, Leased::Blob, 0).unwrap();
        assert_eq!(
            lease.guard(Some("b"), false, Leased::Blob, 0).unwrap_err().code,
            "LeaseIdMismatchWithBlobOperation"
        );
        lease.change("a", "b", 0).unwrap();
        lease.release("b").unwrap();
        assert_eq!(lease, Lease::None);
    }
}
