//! When a point may go.

use std::fmt;
use std::sync::Arc;

use crate::item::Timestamp;

type Rule = dyn Fn(Timestamp) -> Option<Timestamp> + Send + Sync;

/// When a point may go, worked out from the point's own time: that is known only once its listing begins. The default is never.
#[derive(Clone, Default)]
pub struct Expiry(Option<Arc<Rule>>);

impl Expiry {
    /// At that instant, whatever the point's time.
    pub fn at(instant: Timestamp) -> Self {
        Self::by(move |_| Some(instant))
    }

    /// When `rule` says of the time of a point; `None` is never.
    pub fn by(rule: impl Fn(Timestamp) -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rule)))
    }

    /// When a point of that time may go; `None` is never.
    pub fn of(&self, started_at: Timestamp) -> Option<Timestamp> {
        self.0.as_ref().and_then(|rule| rule(started_at))
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Expiry(by a rule)" } else { "Expiry(never)" })
    }
}
