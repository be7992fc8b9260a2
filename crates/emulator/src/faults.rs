//! Failures on request: rules that say which requests go wrong, and how. A rule matches by the operation's name (or `*`)
//! and, if it says so, by a part of the path. Rules are looked at in the order in which they were added; the first that
//! applies decides. Without rules nothing fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultAction {
    /// The request is not performed; the answer is this error.
    Status {
        /// The HTTP status, e.g. 503.
        status: u16,
        /// Azure's error code, e.g. `ServerBusy`.
        code: String,
        /// The value of `Retry-After`, if it is sent.
        retry_after_seconds: Option<u64>,
    },
    /// The connection is closed and the request is not performed.
    DropRequest,
    /// The request is performed and the connection is closed instead of an answer: the client can't know.
    LoseAnswer,
    /// The answer promises its whole length, half of the body is sent and the connection is closed. An answer without a
    /// body stays whole.
    DropMidBody,
    /// The answer's body is silently cut to its half: its length fits what is sent.
    TruncateBody,
    /// The first byte of the answer's body is changed; its length is right.
    CorruptBody,
    /// The request is performed after this pause.
    Delay(Duration),
}

/// Which requests go wrong, how often, and how.
#[derive(Debug, Clone)]
pub struct FaultRule {
    /// The operation's name as in recorded requests, or `*` for all.
    pub operation: String,
    /// Only requests whose target (path and query as sent) contains this.
    pub target_contains: Option<String>,
    /// This many matching requests pass first.
    pub skip: u64,
    /// Of the others, each k-th is hit; 1 is all.
    pub every: u64,
    /// The rule ends after this many hits.
    pub times: u64,
    /// What happens.
    pub action: FaultAction,
}

impl FaultRule {
    /// A rule that hits every request of this operation, without end.
    pub fn new(operation: &str, action: FaultAction) -> FaultRule {
        FaultRule { operation: operation.to_owned(), target_contains: None, skip: 0, every: 1, times: u64::MAX, action }
    }

    /// The rule with an end after this many hits.
    pub fn times(mut self, times: u64) -> FaultRule {
        self.times = times;
        self
    }

    /// The rule for requests whose target contains this text only.
    pub fn on_target(mut self, part: &str) -> FaultRule {
        self.target_contains = Some(part.to_owned());
        self
    }

    fn matches(&self, operation: &str, target: &str) -> bool {
        (self.operation == "*" || self.operation == operation)
            && self.target_contains.as_ref().is_none_or(|part| target.contains(part.as_str()))
    }
}

struct ActiveRule {
    rule: FaultRule,
    seen: u64,
    hits: u64,
}

impl ActiveRule {
    /// Counts a matching request and says whether it is hit.
    fn take(&mut self) -> bool {
        self.seen += 1;
        let counted = self.seen.saturating_sub(self.rule.skip);
        let due = counted > 0 && counted.is_multiple_of(self.rule.every.max(1)) && self.hits < self.rule.times;
        self.hits += u64::from(due);
        due
    }
}

struct ActiveHold {
    id: u64,
    operation: String,
    waiting: Arc<watch::Sender<usize>>,
    released: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    rules: Vec<ActiveRule>,
    holds: Vec<ActiveHold>,
    next_hold: u64,
    concurrency_limit: Option<usize>,
    hits: u64,
}

/// The faults of one emulator. Cheap to clone: clones share the rules.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    in_flight: Arc<AtomicUsize>,
}

/// What the server shall do with one request.
pub(crate) struct FaultPlan {
    pub(crate) action: Option<FaultAction>,
    hold: Option<(Arc<watch::Sender<usize>>, watch::Receiver<bool>)>,
}

impl FaultPlan {
    /// Waits while the request's operation is held.
    pub(crate) async fn wait(&mut self) {
        let Some((waiting, released)) = &mut self.hold else { return };
        waiting.send_modify(|count| *count += 1);
        // An error means that the hold is gone, which releases as well.
        let _ = released.wait_for(|released| *released).await;
    }
}

/// Counts a request as being worked on for as long as it lives.
pub(crate) struct InFlight {
    count: Arc<AtomicUsize>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// While this lives, requests of its operation wait before they are performed. Dropping it lets them go on.
pub struct Hold {
    faults: Faults,
    id: u64,
    waiting: watch::Receiver<usize>,
    release: watch::Sender<bool>,
}

impl Hold {
    /// Returns as soon as this many requests have come to the hold since it was made.
    pub async fn reached(&mut self, count: usize) {
        // The sender lives in the faults as long as this hold does; an error can't happen and would mean "don't wait".
        let _ = self.waiting.wait_for(|waiting| *waiting >= count).await;
    }

    /// Lets the waiting requests go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.release.send(true);
        self.faults.lock().holds.retain(|hold| hold.id != self.id);
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule after the others.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(ActiveRule { rule, seen: 0, hits: 0 });
    }

    /// The next `times` requests of an operation get this status, with the error code that fits it.
    pub fn fail_next(&self, operation: &str, times: u64, status: u16) {
        self.add(FaultRule::new(operation, status_action(status, None)).times(times));
    }

    /// As [`Faults::fail_next`], with a `Retry-After`.
    pub fn fail_next_retry_after(&self, operation: &str, times: u64, status: u16, retry_after_seconds: u64) {
        self.add(FaultRule::new(operation, status_action(status, Some(retry_after_seconds))).times(times));
    }

    /// The next `times` requests of an operation get this status with this error code.
    pub fn fail_next_with_code(&self, operation: &str, times: u64, status: u16, code: &str) {
        let action = FaultAction::Status { status, code: code.to_owned(), retry_after_seconds: None };
        self.add(FaultRule::new(operation, action).times(times));
    }

    /// Each k-th request of an operation gets this status, until [`Faults::clear`].
    pub fn fail_every(&self, operation: &str, k: u64, status: u16) {
        self.add(FaultRule { every: k, ..FaultRule::new(operation, status_action(status, None)) });
    }

    /// The next `times` requests of an operation are not performed; their connection is closed.
    pub fn drop_request(&self, operation: &str, times: u64) {
        self.add(FaultRule::new(operation, FaultAction::DropRequest).times(times));
    }

    /// The next `times` requests of an operation are performed, and their connection is closed without an answer.
    pub fn lose_answer(&self, operation: &str, times: u64) {
        self.add(FaultRule::new(operation, FaultAction::LoseAnswer).times(times));
    }

    /// The connection breaks in the middle of the next `times` answers' bodies.
    pub fn drop_mid_body(&self, operation: &str, times: u64) {
        self.add(FaultRule::new(operation, FaultAction::DropMidBody).times(times));
    }

    /// The next `times` answers carry only the first half of their body, with a length that fits the half.
    pub fn truncate_body(&self, operation: &str, times: u64) {
        self.add(FaultRule::new(operation, FaultAction::TruncateBody).times(times));
    }

    /// The next `times` answers carry a wrong first byte.
    pub fn corrupt_body(&self, operation: &str, times: u64) {
        self.add(FaultRule::new(operation, FaultAction::CorruptBody).times(times));
    }

    /// Every request of an operation is delayed, until [`Faults::clear`].
    pub fn delay(&self, operation: &str, milliseconds: u64) {
        self.add(FaultRule::new(operation, FaultAction::Delay(Duration::from_millis(milliseconds))));
    }

    /// Answers 503 `ServerBusy` to a request that comes while this many are being worked on; `None` ends it.
    pub fn limit_concurrency(&self, requests: Option<usize>) {
        self.lock().concurrency_limit = requests;
    }

    /// Holds the requests of an operation (`*`: all) until the answer of this call is dropped.
    pub fn hold(&self, operation: &str) -> Hold {
        let (waiting_sender, waiting) = watch::channel(0);
        let (release, released) = watch::channel(false);
        let mut state = self.lock();
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.push(ActiveHold {
            id,
            operation: operation.to_owned(),
            waiting: Arc::new(waiting_sender),
            released,
        });
        drop(state);
        Hold { faults: self.clone(), id, waiting, release }
    }

    /// How many requests were hit by a rule or by the limit of concurrency since the start or the last clear.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// Ends all rules and the limit of concurrency. Holds end with their owners.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.concurrency_limit = None;
        state.hits = 0;
    }

    /// Counts a request as being worked on.
    pub(crate) fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { count: Arc::clone(&self.in_flight) }
    }

    /// Decides what happens with a request; to be asked once for each.
    pub(crate) fn plan(&self, operation: &str, target: &str) -> FaultPlan {
        let mut state = self.lock();
        let hold = state
            .holds
            .iter()
            .find(|hold| hold.operation == "*" || hold.operation == operation)
            .map(|hold| (Arc::clone(&hold.waiting), hold.released.clone()));
        let over_limit = state.concurrency_limit.is_some_and(|limit| self.in_flight.load(Ordering::Relaxed) > limit);
        let mut action = None;
        for active in &mut state.rules {
            if active.rule.matches(operation, target) && active.take() {
                action = Some(active.rule.action.clone());
                break;
            }
        }
        state.rules.retain(|active| active.hits < active.rule.times);
        if action.is_none() && over_limit {
            action = Some(status_action(503, None));
        }
        state.hits += u64::from(action.is_some());
        FaultPlan { action, hold }
    }
}

/// The fault of a status, with the code that Azure sends with it.
fn status_action(status: u16, retry_after_seconds: Option<u64>) -> FaultAction {
    let code = match status {
        400 => "InvalidInput",
        403 => "AuthorizationFailure",
        404 => "ResourceNotFound",
        408 => "RequestTimeout",
        409 => "OperationTimedOut",
        412 => "ConditionNotMet",
        429 => "TooManyRequests",
        503 => "ServerBusy",
        504 => "GatewayTimeout",
        _ => "InternalError",
    };
    FaultAction::Status { status, code: code.to_owned(), retry_after_seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(faults: &Faults, operation: &str, count: usize) -> Vec<u16> {
        (0..count)
            .map(|_| match faults.plan(operation, "/a/c/b").action {
                Some(FaultAction::Status { status, .. }) => status,
                _ => 0,
            })
            .collect()
    }

    #[test]
    fn a_rule_hits_its_operation_only_and_ends() {
        let faults = Faults::default();
        faults.fail_next("GetBlob", 2, 503);
        assert_eq!(statuses(&faults, "PutBlob", 2), [0, 0]);
        assert_eq!(statuses(&faults, "GetBlob", 3), [503, 503, 0]);
        assert_eq!(faults.hits(), 2);
    }

    #[test]
    fn each_third_request_fails_until_cleared() {
        let faults = Faults::default();
        faults.fail_every("*", 3, 500);
        assert_eq!(statuses(&faults, "GetBlob", 7), [0, 0, 500, 0, 0, 500, 0]);
        faults.clear();
        assert_eq!(statuses(&faults, "GetBlob", 3), [0, 0, 0]);
    }

    #[test]
    fn a_rule_may_name_a_part_of_the_target() {
        let faults = Faults::default();
        faults.add(FaultRule::new("GetBlob", FaultAction::DropRequest).on_target("/other"));
        assert_eq!(faults.plan("GetBlob", "/a/c/b").action, None);
        assert_eq!(faults.plan("GetBlob", "/a/c/other").action, Some(FaultAction::DropRequest));
    }

    #[test]
    fn more_requests_at_once_than_allowed_are_told_to_wait() {
        let faults = Faults::default();
        faults.limit_concurrency(Some(1));
        let first = faults.enter();
        assert_eq!(statuses(&faults, "GetBlob", 1), [0]);
        let second = faults.enter();
        assert_eq!(statuses(&faults, "GetBlob", 1), [503]);
        drop((first, second));
    }
}
