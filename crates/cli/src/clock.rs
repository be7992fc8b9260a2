//! The only place of the command that reads the machine's clock. Everything else is given a [`SystemClock`] or an instant.

use blobkeep_vault::{Clock, Timestamp};

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one edge where the command meets the real clock")]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }
}
