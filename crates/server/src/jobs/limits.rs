//! The limits of the configuration on what jobs read from accounts and write to them: one for all jobs together.

use std::sync::Arc;

use blobkeep_vault::caps::{CappedSource, CappedTarget, Caps, Schedule};
use blobkeep_vault::{Clock, Source, Target, Timestamp};

use crate::clock;
use crate::config::LimitsConfig;

/// Holds back what jobs move, by `[limits]`.
pub struct Limits {
    backup: Option<Arc<Caps>>,
    restore: Option<Arc<Caps>>,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// The limits of a configuration; `clock` tells the time of day.
    pub(crate) fn new(config: &LimitsConfig, clock: &Arc<dyn clock::Clock>) -> Self {
        let caps = |schedule: &Option<Schedule>| {
            schedule.clone().map(|schedule| Caps::new(schedule, Arc::new(TimeOfDay(clock.clone()))))
        };
        Self { backup: caps(&config.backup), restore: caps(&config.restore) }
    }

    /// A source that is read no faster than `[limits] backup` allows.
    pub(super) fn source(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        match &self.backup {
            Some(caps) => Arc::new(CappedSource::new(source, caps.clone())),
            None => source,
        }
    }

    /// A target that is written no faster than `[limits] restore` allows.
    pub(super) fn target(&self, target: Arc<dyn Target>) -> Arc<dyn Target> {
        match &self.restore {
            Some(caps) => Arc::new(CappedTarget::new(target, caps.clone())),
            None => target,
        }
    }
}

/// The service's clock as the engine's limits know it.
struct TimeOfDay(Arc<dyn clock::Clock>);

impl Clock for TimeOfDay {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now_micros())
    }
}

#[cfg(test)]
mod tests {
    use blobkeep_source::Connection;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::ManualClock;

    fn limits(backup: &str) -> Limits {
        let config = LimitsConfig { backup: Some(backup.parse().unwrap()), restore: None };
        let clock: Arc<dyn clock::Clock> = Arc::new(ManualClock::at(0));
        Limits::new(&config, &clock)
    }

    #[tokio::test(start_paused = true)]
    async fn all_accounts_share_the_limit_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let limits = limits("1req/s");
        let open = || limits.source(Connection::LocalFolder { path: folder.path().to_owned() }.open_source().unwrap());
        let (one, other) = (open(), open());
        let start = Instant::now();
        for _ in 0..5 {
            one.containers().await.unwrap();
            other.containers().await.unwrap();
        }
        assert_eq!(start.elapsed().as_secs_f64().round(), 9.0);
    }
}
