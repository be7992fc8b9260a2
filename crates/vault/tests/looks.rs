//! Thousands of random changes to an account that keeps no versions, with looks at random moments, some of them while it changes: a restore in
//! place to a look that nothing disturbed gives exactly what there was then, and to any other one of the states that each blob had meanwhile,
//! in the chosen ranges and nowhere else, however often looks and restores are stopped.

#![allow(clippy::unwrap_used)]

mod dice;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NameRange};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::{BlobEntry, ErrorKind, MasterKey, Timestamp, Vault};
use bytes::Bytes;
use dice::{Dice, Kept, StopsOnce};

const INSTANCE: &str = "inst";
/// The last one is made some time later.
const CONTAINERS: [&str; 4] = ["alpha", "alpha-1", "beta", "beta-later"];
const NAMES: [&str; 9] = ["a", "a/b", "a/b/c", "a-b", "b", "b1", "z", "ü", "\u{10000}"];

type Key = (String, String);
type Blobs = BTreeMap<Key, (BlobEntry, Bytes)>;
/// What was under each name from then on.
type Log = Arc<Mutex<Vec<(Key, Option<(BlobEntry, Bytes)>)>>>;

fn change(account: &MemoryAccount, log: &Log, dice: &mut Dice) {
    let (container, name) = (dice.of(&CONTAINERS), dice.of(&NAMES));
    match dice.below(20) {
        0..12 => {
            let content = vec![dice.below(256) as u8; dice.below(4) as usize * dice.below(3_000) as usize];
            let metadata = vec![("note".to_owned(), dice.below(5).to_string())];
            let entry = BlobEntry { container: container.into(), name: name.into(), metadata, ..BlobEntry::default() };
            account.put_entry(entry, content);
        }
        12..16 => account.remove(container, name),
        16 => {
            let metadata = vec![("note".to_owned(), dice.below(5).to_string())];
            if let Some((entry, content)) = account.blobs().remove(&(container.to_owned(), name.to_owned())) {
                account.put_entry(BlobEntry { metadata, ..entry }, content);
            }
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
    log.lock().unwrap().push((key, now));
}

/// What a restore brings back: everything but what the endpoint itself counts.
fn kept(blob: Option<&(BlobEntry, Bytes)>) -> Option<(BlobEntry, Bytes)> {
    let (entry, content) = blob?.clone();
    Some((BlobEntry { etag: String::new(), modified_at: Timestamp(0), ..entry }, content))
}

/// A look, and which part of the log happened while it was at work.
struct Look {
    point: Point,
    from: usize,
    to: usize,
}

struct Round {
    vault: Vault,
    clock: ManualClock,
    account: MemoryAccount,
    log: Log,
    dice: Dice,
    looks: Vec<Look>,
    stops: u64,
}

impl Round {
    async fn new(seed: u64) -> Self {
        let master = MasterKey::generate().unwrap();
        let sizes = ChunkSizes { min_bytes: 4 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 };
        let vault = Vault::init(Arc::new(MemoryStore::default()), &master, sizes, Timestamp(1)).await.unwrap();
        let round = Self {
            vault,
            clock: ManualClock::at_seconds(1_800_000_000),
            account: MemoryAccount::new().with_pages_of(4),
            log: Log::default(),
            dice: Dice(seed),
            looks: Vec::new(),
            stops: 0,
        };
        for container in &CONTAINERS[..3] {
            round.account.put(container, "always there", "x");
            let key = ((*container).to_owned(), "always there".to_owned());
            let there = round.account.blobs().remove(&key);
            round.log.lock().unwrap().push((key, there));
        }
        round
    }

    fn monitor(&mut self) -> StopsOnce {
        let stops = if self.dice.one_in(3) { self.dice.below(6) } else { u64::MAX >> 1 };
        StopsOnce(AtomicI64::new(stops as i64))
    }

    /// A look. Every other one is disturbed by changes while it lists.
    async fn look(&mut self) {
        let from = self.log.lock().unwrap().len();
        if self.dice.one_in(2) {
            let (log, mut dice) = (self.log.clone(), Dice(self.dice.below(u64::MAX)));
            let changes = 1 + dice.below(6);
            self.account.change_at_list(self.dice.below(6), move |account| {
                (0..changes).for_each(|_| change(account, &log, &mut dice));
            });
        }
        let job = format!("look-{}", self.looks.len());
        let only_if_differs_from = self.looks.last().map(|look| look.point.job.clone());
        let options = BackupOptions { only_if_differs_from, ..BackupOptions::new(INSTANCE, &job) };
        let report = loop {
            let monitor = self.monitor();
            self.clock.advance_seconds(1);
            match backup::run(&self.vault, Arc::new(self.account.clone()), &options, &self.clock, &monitor).await {
                Ok(report) => break report,
                Err(e) if e.kind() == ErrorKind::Cancelled => self.stops += 1,
                Err(e) => panic!("{e}"),
            }
        };
        // What was to happen and has not must not happen later.
        self.account.change_at_list(u64::MAX, |_| {});
        let to = self.log.lock().unwrap().len();
        self.looks.push(Look { point: report.point, from, to });
    }

    /// The states of a name while a look was at work, its beginning included.
    fn states(&self, look: &Look, key: &Key) -> Vec<Option<(BlobEntry, Bytes)>> {
        let log = self.log.lock().unwrap();
        let before = log[..look.from].iter().rev().find(|(changed, _)| changed == key);
        let during = log[look.from..look.to].iter().filter(|(changed, _)| changed == key);
        let first = before.and_then(|(_, blob)| kept(blob.as_ref()));
        std::iter::once(first).chain(during.map(|(_, blob)| kept(blob.as_ref()))).collect()
    }

    async fn restore(&mut self) {
        let number = self.dice.below(self.looks.len() as u64) as usize;
        let ranges = match self.dice.below(3) {
            0 => Vec::new(),
            1 => vec![NameRange::new("alpha", "alpha-0"), NameRange::new("beta/a", "beta/b")],
            _ => vec![NameRange::new("alpha/b", "alpha-1/a/b")],
        };
        let before = self.account.blobs();
        let scratch = std::env::temp_dir();
        let (state, options) = (Kept::default(), InPlaceOptions { ranges, is_whole_account: true, scratch });
        loop {
            let (monitor, begun) = (self.monitor(), state.state(&mut self.dice));
            let fails = self.dice.one_in(4).then(|| self.dice.below(8));
            self.account.fail_after_writes(fails);
            let (source, target) = (Arc::new(self.account.clone()), Arc::new(self.account.clone()));
            let wanted = Instant::Point(&self.looks[number].point);
            match restore::run_in_place(&self.vault, wanted, source, target, &options, begun, &state, &monitor).await {
                Ok(_) => break,
                Err(e) if e.kind() == ErrorKind::Cancelled => self.stops += 1,
                Err(e) if fails.is_some() && e.kind() == ErrorKind::Unavailable => self.stops += 1,
                Err(e) => panic!("{e}"),
            }
        }
        self.account.fail_after_writes(None);
        let after = self.account.blobs();
        self.check(&self.looks[number], &options.ranges, &before, &after);
        let keys = before.keys().chain(after.keys()).cloned();
        let written: Vec<_> = keys.map(|key| (key.clone(), after.get(&key).cloned())).collect();
        self.log.lock().unwrap().extend(written);
    }

    fn check(&self, look: &Look, ranges: &[NameRange], before: &Blobs, after: &Blobs) {
        let names = NAMES.iter().copied().chain(["always there"]);
        let keys = names.flat_map(|name| CONTAINERS.map(|container| (container.to_owned(), name.to_owned())));
        for key in keys {
            let is_chosen = ranges.is_empty() || ranges.iter().any(|range| range.holds(&key.0, &key.1));
            let now = kept(after.get(&key));
            if !is_chosen {
                assert_eq!(now, kept(before.get(&key)), "{key:?} is in no range");
                continue;
            }
            let states = self.states(look, &key);
            let is_one = if look.from == look.to { now == states[0] } else { states.contains(&now) };
            assert!(is_one, "{key:?} is {now:?} after a restore to {}, and was {states:?}", look.point.job);
        }
    }
}

#[tokio::test]
async fn a_restore_to_a_look_gives_what_the_account_held_then() {
    let (mut restores, mut stops, mut disturbed) = (0, 0, 0);
    for seed in 0..6 {
        let mut round = Round::new(0xB10B_0000 + seed).await;
        round.look().await;
        for _ in 0..600 {
            change(&round.account, &round.log, &mut round.dice);
            if round.dice.one_in(9) {
                round.look().await;
            }
            if round.dice.one_in(25) {
                round.restore().await;
                restores += 1;
            }
        }
        stops += round.stops;
        disturbed += round.looks.iter().filter(|look| look.from != look.to).count();
    }
    assert!(
        restores > 80 && stops > 50 && disturbed > 80,
        "{restores} restores, {stops} stops, {disturbed} disturbed looks"
    );
}
