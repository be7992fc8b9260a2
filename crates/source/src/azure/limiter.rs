//! How many requests of one account are in flight: halved when the endpoint says that it is busy, growing back slowly.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Additive increase, multiplicative decrease, between one and `most` requests.
pub(crate) struct Limiter {
    most: f64,
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    limit: f64,
    in_flight: usize,
    /// Counts reductions: answers to requests sent before the last one say nothing new.
    epoch: u64,
}

/// The right to have one request in flight.
pub(crate) struct Permit<'a> {
    limiter: &'a Limiter,
    epoch: u64,
}

impl Limiter {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { most, state: Mutex::new(State { limit: most, in_flight: 0, epoch: 0 }), freed: Notify::new() }
    }

    /// Waits for its turn.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        loop {
            let freed = self.freed.notified();
            if let Some(epoch) = self.try_take() {
                return Permit { limiter: self, epoch };
            }
            freed.await;
        }
    }

    /// Requests that may be in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.lock().limit as usize
    }

    fn try_take(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.in_flight >= state.limit as usize {
            return None;
        }
        state.in_flight += 1;
        Some(state.epoch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The endpoint answered that it is busy.
    pub(crate) fn throttled(&self) {
        let mut state = self.limiter.lock();
        if state.epoch == self.epoch {
            state.limit = (state.limit / 2.0).max(1.0);
            state.epoch += 1;
        }
    }

    /// The endpoint did what was asked: one more request in flight for each round of answers.
    pub(crate) fn succeeded(&self) {
        let mut state = self.limiter.lock();
        state.limit = (state.limit + 1.0 / state.limit).min(self.limiter.most);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        state.in_flight -= 1;
        let free = (state.limit as usize).saturating_sub(state.in_flight);
        drop(state);
        for _ in 0..free.min(2) {
            self.limiter.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn busy_answers_halve_it_once_a_round_and_success_grows_it_back() {
        let limiter = Limiter::new(16);
        let (first, second) = (limiter.acquire().await, limiter.acquire().await);
        first.throttled();
        second.throttled();
        assert_eq!(limiter.limit(), 8, "both answers belong to one round");
        drop((first, second));
        for _ in 0..10 {
            limiter.acquire().await.throttled();
        }
        assert_eq!(limiter.limit(), 1, "never below one");
        let mut answers = 0;
        while limiter.limit() < 16 {
            limiter.acquire().await.succeeded();
            answers += 1;
        }
        assert!((60..400).contains(&answers), "slowly: {answers}");
    }

    #[tokio::test]
    async fn no_more_than_the_limit_run_at_once() {
        let limiter = std::sync::Arc::new(Limiter::new(3));
        let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let work = (0..50).map(|_| {
            let (limiter, running) = (limiter.clone(), running.clone());
            tokio::spawn(async move {
                let _permit = limiter.acquire().await;
                let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                assert!(now <= 3);
                tokio::task::yield_now().await;
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            })
        });
        for done in futures::future::join_all(work).await {
            done.unwrap();
        }
    }
}
