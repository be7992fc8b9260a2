//! What decides by chance in the stories of random changes: small numbers, when somebody is stopped, and which of the saved states are left.

#![allow(clippy::unwrap_used, unreachable_pub)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use blobkeep_vault::restore::{self, RestoreState};
use blobkeep_vault::{Error, Monitor, WorkProgress};

/// Small numbers that look random, the same for the same seed.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Stops after some questions, and never again after that.
pub struct StopsOnce(pub AtomicI64);

impl Monitor for StopsOnce {
    fn progress(&self, _: &WorkProgress) {}

    fn should_stop(&self) -> Option<String> {
        (self.0.fetch_sub(1, Ordering::SeqCst) == 0).then(|| "so the dice want it".to_owned())
    }
}

/// All states that were saved.
#[derive(Default)]
pub struct Kept(Mutex<Vec<RestoreState>>);

impl Kept {
    /// The state from which a restore goes on after a crash: the last one, or, as if that had not been saved any more, an earlier one.
    pub fn state(&self, dice: &mut Dice) -> RestoreState {
        let saved = self.0.lock().unwrap();
        let lost = if dice.one_in(2) { dice.below(saved.len() as u64 + 1) as usize } else { 0 };
        saved.iter().rev().nth(lost).cloned().unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl restore::Journal for Kept {
    async fn save(&self, state: &RestoreState) -> Result<(), Error> {
        self.0.lock().unwrap().push(state.clone());
        Ok(())
    }
}
