//! Thousands of random changes to an account that keeps versions, with looks, base points, backups of content and prunes between them: a
//! restore in place to any instant gives exactly what there was, in the chosen ranges and nowhere else, however often it is stopped.

#![allow(clippy::unwrap_used)]

mod continuous;
mod dice;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::versioned::{Key, VersionedAccount};
use blobkeep_vault::backup::BackupOptions;
use blobkeep_vault::journal::{self, JournalEnd};
use blobkeep_vault::prune::{self, PruneOptions};
use blobkeep_vault::restore::{self, NameRange, RestoreOptions, RestoreState};
use blobkeep_vault::state::remove_point;
use blobkeep_vault::{BlobEntry, Clock, ContentHeaders, ErrorKind, Source, Timestamp, Unwatched};
use bytes::Bytes;
use continuous::{Blobs, Continuous, INSTANCE};
use dice::{Dice, Kept, StopsOnce};

const CONTAINERS: [&str; 4] = ["alpha", "alpha-1", "beta", "gamma"];
const NAMES: [&str; 10] = ["a", "a/b", "a/b/c", "a-b", "b", "b0", "b1", "z", "ü", "\u{10000}"];

/// What was under each name from which instant on.
type Log = Arc<Mutex<Vec<(Timestamp, Key, Option<(BlobEntry, Bytes)>)>>>;

/// One random change, which the log remembers.
fn change(account: &VersionedAccount, clock: &ManualClock, log: &Log, dice: &mut Dice) {
    clock.advance_micros(dice.below(2_000_000) as i64);
    // Some containers come later than others.
    let containers = 2 + dice.below(3) as usize;
    let container = dice.of(&CONTAINERS[..containers]);
    let name = dice.of(&NAMES);
    match dice.below(20) {
        0..12 => {
            let content = vec![dice.below(256) as u8; dice.below(4) as usize * dice.below(3_000) as usize];
            // Large blobs have no hash at most endpoints.
            let content_md5 = dice.one_in(2).then(|| *blake3_of(&content));
            let content_type = dice.one_in(3).then(|| format!("type/{}", dice.below(3)));
            let headers = ContentHeaders { content_type, ..ContentHeaders::default() };
            let (container, name) = (container.to_owned(), name.to_owned());
            account.put_entry(BlobEntry { container, name, content_md5, headers, ..BlobEntry::default() }, content);
        }
        12..15 => account.remove(container, name),
        15..17 => {
            let note = vec![("note".to_owned(), dice.below(5).to_string())];
            account.change(container, name, |entry| entry.metadata = note);
        }
        17 => {
            let tags = vec![("tag".to_owned(), dice.below(3).to_string())];
            account.touch(container, name, |entry| entry.tags = tags);
        }
        _ => {
            let tier = dice.of(&["Hot", "Cool", "Cold"]);
            account.touch(container, name, |entry| entry.tier = Some(tier.to_owned()));
        }
    }
    let key = (container.to_owned(), name.to_owned());
    let now = account.blobs().remove(&key);
    log.lock().unwrap().push((clock.now(), key, now));
    if dice.one_in(3) {
        account.shuffle_feed();
    }
}

/// Stands for an MD5: only whether two are equal matters.
fn blake3_of(content: &[u8]) -> Box<[u8; 16]> {
    let mut hash = Box::new([0; 16]);
    hash.copy_from_slice(&blake3::hash(content).as_bytes()[..16]);
    hash
}

fn state_at(log: &Log, at: Timestamp) -> Blobs {
    let mut blobs = Blobs::new();
    for (_, key, blob) in log.lock().unwrap().iter().filter(|(changed, ..)| *changed <= at) {
        match blob {
            Some(blob) => drop(blobs.insert(key.clone(), blob.clone())),
            None => drop(blobs.remove(key)),
        }
    }
    blobs
}

struct Round {
    world: Continuous,
    log: Log,
    dice: Dice,
    /// The watcher's own memory; it is lost now and then.
    end: Option<JournalEnd>,
    /// Until when the feed was read.
    known_until: Timestamp,
    /// When each base point that is there was completed.
    bases: Vec<(String, Timestamp)>,
    /// While a restore was at work: no instants for a restore.
    forbidden: Vec<(Timestamp, Timestamp)>,
    number: u64,
    /// Restores, and those of them that were stopped and went on.
    restores: (u64, u64),
}

impl Round {
    async fn begin(seed: u64) -> Self {
        let mut world = Continuous::new().await;
        world.account = world.account.clone().with_pages_of(5).with_a_feed_that_lags();
        let (log, mut dice) = (Log::default(), Dice(seed));
        for _ in 0..30 {
            change(&world.account, &world.clock, &log, &mut dice);
        }
        world.account.tell(0);
        let mut round = Self {
            world,
            log,
            dice,
            end: None,
            known_until: Timestamp(0),
            bases: Vec::new(),
            forbidden: Vec::new(),
            number: 0,
            restores: (0, 0),
        };
        round.base().await;
        round
    }

    fn job(&mut self, kind: &str) -> String {
        self.number += 1;
        format!("{kind}-{}", self.number)
    }

    fn change(&mut self) {
        change(&self.world.account, &self.world.clock, &self.log, &mut self.dice);
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..78 => self.change(),
            78..88 => self.look().await,
            88..91 => self.base().await,
            91..93 => self.back_up().await,
            93..94 => self.prune().await,
            94..95 => self.expire().await,
            _ => self.restore().await,
        }
    }

    /// A look, which may end anywhere.
    async fn look(&mut self) {
        self.world.account.tell(self.dice.below(4) as usize);
        let vault = self.world.vault().await;
        let mut end = match self.end.take() {
            Some(end) if !self.dice.one_in(4) => end,
            _ => journal::end(&vault, INSTANCE).await.unwrap().unwrap(),
        };
        loop {
            let page = self.world.account.changes(&end.position.cursor).await.unwrap();
            journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
            self.known_until = self.known_until.max(end.position.complete_until);
            if page.is_last || self.dice.one_in(10) {
                break;
            }
        }
        if !self.dice.one_in(4) {
            self.end = Some(end);
        }
    }

    /// A base point, while the account changes, which may be stopped.
    async fn base(&mut self) {
        let job = self.job("base");
        loop {
            if self.dice.one_in(2) {
                let (clock, log, seed) = (self.world.clock.clone(), self.log.clone(), self.dice.below(u64::MAX));
                let happening = move |account: &VersionedAccount| change(account, &clock, &log, &mut Dice(seed));
                self.world.account.happen_at_list(happening);
            }
            let stops = if self.dice.one_in(3) { self.dice.below(6) as i64 } else { i64::MAX };
            let options = BackupOptions { progress_every: Duration::ZERO, ..BackupOptions::new(INSTANCE, job.clone()) };
            match self.world.base_with(options, &StopsOnce(AtomicI64::new(stops))).await {
                Ok(report) => {
                    self.bases.push((job, report.point.completed_at));
                    self.end = None;
                    break;
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Cancelled, "{e}"),
            }
        }
        let end = journal::end(&self.world.vault().await, INSTANCE).await.unwrap().unwrap();
        self.known_until = self.known_until.max(end.position.complete_until);
    }

    /// A backup of content, which has nothing to do with any of this.
    async fn back_up(&mut self) {
        let job = self.job("content");
        let report = self.world.back_up(&job).await;
        assert_eq!(report.point.counts.skipped_blobs, 0);
        let target = MemoryAccount::new();
        let (vault, to) = (self.world.vault().await, Arc::new(target.clone()));
        let (options, state) = (RestoreOptions::default(), RestoreState::default());
        restore::run(&vault, &report.point, to, &options, state, &restore::NoJournal, &Unwatched).await.unwrap();
        assert_eq!(target.contents(), self.world.contents());
        if self.dice.one_in(2) {
            remove_point(&vault, INSTANCE, &job, self.world.clock.now()).await.unwrap();
        }
    }

    async fn prune(&mut self) {
        let options = PruneOptions { patience: Duration::ZERO, max_unused_percent: 0, ..PruneOptions::new("prune") };
        prune::run(&self.world.vault().await, &options, self.world.clock.as_ref(), &Unwatched).await.unwrap();
    }

    /// The oldest base point goes: what was before the next one cannot be restored any more.
    async fn expire(&mut self) {
        if self.bases.len() < 3 {
            return;
        }
        let (job, completed_at) = self.bases.remove(0);
        remove_point(&self.world.vault().await, INSTANCE, &job, self.world.clock.now()).await.unwrap();
        assert_eq!(self.world.names(&format!("journal/{INSTANCE}/{job}/")), [""; 0]);
        let error = self.world.plan(completed_at, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }

    /// An instant that can be restored, often just before, at or after a change.
    fn instant(&mut self) -> Option<Timestamp> {
        let first = self.bases[0].1;
        let span = self.known_until.0 - first.0;
        if span < 0 {
            return None;
        }
        let any = first.0 + self.dice.below(span as u64 + 1) as i64;
        let changed: Vec<i64> = self.log.lock().unwrap().iter().map(|(at, ..)| at.0).collect();
        let near = self.dice.of(&changed) + self.dice.below(3) as i64 - 1;
        let at = Timestamp(if self.dice.one_in(2) { any } else { near });
        let is_free = self.forbidden.iter().all(|(from, to)| at <= *from || at >= *to);
        (first <= at && at <= self.known_until && is_free).then_some(at)
    }

    fn ranges(&mut self) -> Vec<NameRange> {
        (0..self.dice.below(3))
            .map(|_| {
                let container = self.dice.of(&CONTAINERS);
                let (one, other) = (self.dice.of(&NAMES), self.dice.of(&NAMES));
                match self.dice.below(4) {
                    0 => NameRange::new(container, &format!("{container}-0")),
                    1 => NameRange::new(container, self.dice.of(&CONTAINERS)),
                    2 => NameRange::new(&format!("{container}/{one}"), ""),
                    _ => NameRange::new(
                        &format!("{container}/{}", one.min(other)),
                        &format!("{container}/{}", one.max(other)),
                    ),
                }
            })
            .collect()
    }

    async fn restore(&mut self) {
        let Some(at) = self.instant() else { return };
        let ranges = self.ranges();
        let is_chosen =
            |(container, name): &Key| ranges.is_empty() || ranges.iter().any(|range| range.holds(container, name));
        let (before, wanted) = (self.world.account.blobs(), state_at(&self.log, at));
        let plan = self.world.plan(at, &ranges).await.unwrap();
        assert_eq!(self.world.account.blobs(), before, "a plan changes nothing");
        assert_eq!((plan.left, plan.missing_in_all), (0, 0), "{:?} {:?}", plan.examples, plan.missing);

        let (started, kept) = (self.world.clock.now(), Kept::default());
        let mut interrupted = false;
        let state = loop {
            let stops = if self.dice.one_in(3) { self.dice.below(40) as i64 } else { i64::MAX };
            let monitor = StopsOnce(AtomicI64::new(stops));
            let fails = self.dice.one_in(4).then(|| self.dice.below(12));
            self.world.account.fail_after_writes(fails);
            let from = kept.state(&mut self.dice);
            match self.world.restore_from(at, &ranges, from, &kept, &monitor).await {
                Ok(state) => break state,
                Err(e) if fails.is_some() => {
                    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled), "{e}")
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Cancelled, "{e}"),
            }
            interrupted = true;
        };
        self.world.account.fail_after_writes(None);
        self.restores = (self.restores.0 + 1, self.restores.1 + u64::from(interrupted));
        self.forbidden.push((started, self.world.clock.now()));
        let after = self.world.account.blobs();
        for key in before.keys().chain(after.keys()).chain(wanted.keys()) {
            if !is_chosen(key) {
                assert_eq!(after.get(key), before.get(key), "{key:?} is outside of {ranges:?}");
                continue;
            }
            assert_eq!(after.get(key).map(comparable), wanted.get(key).map(comparable), "{key:?} at {at}");
        }
        if !interrupted {
            let done = (state.counts.written_blobs, state.counts.removed_blobs, state.counts.unchanged_blobs);
            assert_eq!(done, (plan.copies, plan.removals, plan.unchanged), "the plan was right");
        }
        let now = self.world.clock.now();
        let mut log = self.log.lock().unwrap();
        for key in before.keys().chain(after.keys()).filter(|key| before.get(key) != after.get(key)) {
            log.push((now, key.clone(), after.get(key).cloned()));
        }
    }
}

/// What of a blob a restore brings back.
fn comparable((entry, content): &(BlobEntry, Bytes)) -> (BlobEntry, Bytes) {
    let BlobEntry { headers, metadata, tags, tier, kind, content_md5, .. } = entry.clone();
    (BlobEntry { headers, metadata, tags, tier, kind, content_md5, ..BlobEntry::default() }, content.clone())
}

const STEPS: u64 = 1_000;

/// How many restores there were, and how many of them were stopped and went on.
async fn round(seed: u64) -> (u64, u64) {
    let mut round = Round::begin(seed).await;
    for _ in 0..STEPS {
        round.step().await;
    }
    round.world.account.tell(0);
    round.look().await;
    for _ in 0..10 {
        round.restore().await;
    }
    round.world.assert_sound().await;
    round.restores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_instant_comes_back_exactly_after_random_changes() {
    let rounds: Vec<_> = (1..=8).map(|seed| tokio::spawn(round(seed))).collect();
    let (mut restores, mut resumed) = (0, 0);
    for (seed, round) in (1..).zip(rounds) {
        let Ok(done) = round.await else { panic!("the round of seed {seed} failed") };
        (restores, resumed) = (restores + done.0, resumed + done.1);
    }
    assert!(restores > 100 && resumed > 20, "{restores} restores, {resumed} of them stopped and resumed");
}
