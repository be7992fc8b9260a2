//! The journal of a continuous backup, in a vault and with an account of its own: an instant is restored whole or refused, and verify says
//! from when on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::versioned::VersionedAccount;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::journal;
use blobkeep_vault::point::FEED_GAP;
use blobkeep_vault::prune::{self, PruneOptions};
use blobkeep_vault::rebuild::{RebuildOptions, rebuild};
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NoJournal, RestoreState};
use blobkeep_vault::state::remove_point;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, LossScope, VerifyOptions};
use blobkeep_vault::{Clock, MasterKey, Source, Timestamp, Unwatched, Vault};

use crate::Cells;
use crate::common::{Contents, World};
use crate::harm::{HARMS, Harm, changed};
use crate::outcome::{ACTIONS, Action, Outcome};
use crate::sample::{Files, Kind};

const INSTANCE: &str = "v";
/// Segments of the journal; the second is damaged.
const DAYS: u64 = 3;

fn new_account() -> (Arc<ManualClock>, VersionedAccount) {
    let clock = Arc::new(ManualClock::at_seconds(1_800_000_000));
    let account = VersionedAccount::new(clock.clone());
    for number in 0..20 {
        account.put(&format!("c{}", number % 2), &format!("{number:02}"), format!("first {number}"));
    }
    (clock, account)
}

fn live_before_the_base_point(clock: &ManualClock, account: &VersionedAccount) {
    clock.advance_seconds(60);
    account.put("c0", "01", "changed");
    clock.advance_seconds(60);
}

/// The account on a day. Every call makes the same one, with the same versions at the same times.
fn account(day: u64) -> (Arc<ManualClock>, VersionedAccount) {
    let (clock, account) = new_account();
    live_before_the_base_point(&clock, &account);
    for day in 1..=day {
        live_a_day(&clock, &account, day);
    }
    (clock, account)
}

fn live_a_day(clock: &ManualClock, account: &VersionedAccount, day: u64) {
    clock.advance_seconds(3_600);
    account.put("c0", "00", format!("day {day}"));
    account.put("c1", &format!("new on day {day}"), "new");
    account.remove("c0", &format!("{:02}", 2 * day));
}

fn contents(account: &VersionedAccount) -> Contents {
    account.blobs().into_iter().map(|(key, (_, content))| (key, content)).collect()
}

struct Sample {
    master: MasterKey,
    files: Files,
    removed: Files,
    /// Instants, and what there was.
    states: Vec<(Timestamp, Contents)>,
}

fn segment(base: &str, number: u64) -> String {
    format!("journal/{INSTANCE}/{base}/{number:010}")
}

async fn base(world: &World, clock: &ManualClock, account: &VersionedAccount, job: &str) {
    let vault = world.vault().await;
    let mut options = BackupOptions::new(INSTANCE, job);
    options.at_source = match journal::end(&vault, INSTANCE).await {
        Ok(Some(end)) => Some(end.position),
        Ok(None) => account.feed().await.unwrap(),
        Err(_) => {
            options.labels.insert(FEED_GAP.to_owned(), "true".to_owned());
            account.feed().await.unwrap()
        }
    };
    backup::run(&vault, Arc::new(account.clone()), &options, clock, &Unwatched).await.unwrap();
}

async fn look(world: &World, account: &VersionedAccount) {
    let vault = world.vault().await;
    let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let page = account.changes(&end.position.cursor).await.unwrap();
    journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
}

impl Sample {
    async fn make(master: MasterKey) -> Self {
        let world = World::with_key(master.clone()).await;
        let (clock, account) = new_account();
        // A base point with a journal that has gone since.
        base(&world, &clock, &account, "old").await;
        live_before_the_base_point(&clock, &account);
        look(&world, &account).await;
        let removed: Files = world.files.files().into_iter().filter(|(name, _)| *name == segment("old", 1)).collect();
        base(&world, &clock, &account, "base").await;
        remove_point(&world.vault().await, INSTANCE, "old", clock.now()).await.unwrap();
        let mut states = vec![(clock.now(), contents(&account))];
        for day in 1..=DAYS {
            live_a_day(&clock, &account, day);
            look(&world, &account).await;
            states.push((clock.now(), contents(&account)));
        }
        let options = VerifyOptions::default();
        let report = verify::run_recorded(&world.vault().await, &options, clock.as_ref(), &Unwatched).await.unwrap();
        assert!(report.is_sound() && report.journal_segments == DAYS && removed.len() == 1, "{report:?}");
        Self { master, files: world.files.files().into_iter().collect(), removed, states }
    }

    fn world(&self, files: &Files) -> World {
        let store = MemoryStore::default();
        for (name, content) in files {
            store.replace(name, content.clone());
        }
        World { files: Arc::new(store), master: self.master.clone(), clock: ManualClock::at_seconds(1_900_000_000) }
    }

    fn damaged(&self, other: &Self, harm: Harm) -> Files {
        let mut files = self.files.clone();
        let (name, last) = (segment("base", 2), segment("base", 3));
        let content = files[&name].clone();
        match harm {
            Harm::Delete => drop(files.remove(&name)),
            Harm::Swap => {
                files.insert(name, files[&last].clone());
                files.insert(last, content);
            }
            Harm::Foreign => drop(files.insert(name.clone(), other.files[&name].clone())),
            Harm::Replay => files.extend(self.removed.clone()),
            harm => drop(files.insert(name, changed(&content, harm).unwrap())),
        }
        files
    }

    /// Instants that cannot be restored. One that can gives exactly what there was, and one that cannot leaves the account as it is.
    async fn lost(&self, world: &World) -> BTreeSet<Timestamp> {
        let mut lost = BTreeSet::new();
        for (at, state) in &self.states {
            if !comes_back(world, *at, state).await {
                lost.insert(*at);
            }
        }
        lost
    }
}

async fn comes_back(world: &World, at: Timestamp, state: &Contents) -> bool {
    let (vault, (_, account)) = (world.vault().await, account(DAYS));
    let before = account.blobs();
    restored(&vault, &account, at).await.inspect_err(|_| assert_eq!(account.blobs(), before)).is_ok_and(|()| {
        assert_eq!(contents(&account), *state, "{at} was restored with other blobs");
        true
    })
}

async fn restored(vault: &Vault, account: &VersionedAccount, at: Timestamp) -> Result<(), String> {
    let (live, options) = (
        Arc::new(account.clone()),
        InPlaceOptions { ranges: vec![], is_whole_account: false, scratch: std::env::temp_dir() },
    );
    let (instant, state) = (Instant::At { instance: INSTANCE, at }, RestoreState::default());
    let outcome = restore::run_in_place(vault, instant, live.clone(), live, &options, state, &NoJournal, &Unwatched);
    outcome.await.map(drop).map_err(|e| e.to_string())
}

/// The cells of all damages.
pub async fn row(master: MasterKey) -> Cells {
    let (sample, other) = (Sample::make(master.clone()).await, Sample::make(master).await);
    let mut cells = Cells::new();
    for harm in HARMS {
        let files = sample.damaged(&other, harm);
        let lost = sample.lost(&sample.world(&files)).await;
        for action in ACTIONS {
            let world = sample.world(&files);
            let outcome = match action {
                Action::Verify => verified(&sample, &world, &lost).await,
                Action::Restore => whole(&lost),
                Action::Rebuild => {
                    rebuild(&world.vault().await, RebuildOptions::default(), &Unwatched).await.unwrap();
                    whole(&sample.lost(&world).await)
                }
                Action::Backup => backed_up(&sample, &world, &lost).await,
                Action::Mend => {
                    verified(&sample, &world, &lost).await;
                    backed_up(&sample, &world, &lost).await
                }
                Action::Prune => {
                    let patience = Duration::ZERO;
                    let options = PruneOptions { max_unused_percent: 0, patience, ..PruneOptions::new("prune") };
                    prune::run(&world.vault().await, &options, &world.clock, &Unwatched).await.unwrap();
                    whole(&sample.lost(&world).await)
                }
            };
            assert!(sample.lost(&world).await.is_subset(&lost), "{harm:?}, {action:?}: it got worse");
            cells.insert((Kind::JournalSegment, harm, action), outcome);
        }
    }
    cells
}

fn whole(lost: &BTreeSet<Timestamp>) -> Outcome {
    if lost.is_empty() { Outcome::Whole } else { Outcome::Part }
}

async fn verified(sample: &Sample, world: &World, lost: &BTreeSet<Timestamp>) -> Outcome {
    let vault = world.vault().await;
    let report = verify::run_recorded(&vault, &VerifyOptions::default(), &world.clock, &Unwatched).await.unwrap();
    let mut named = BTreeSet::new();
    for loss in &report.losses {
        let LossScope::Changes { after } = loss.scope else { panic!("{loss}") };
        named.extend(sample.states.iter().map(|(at, _)| *at).filter(|at| *at > after));
    }
    assert_eq!(named, *lost, "verify must name what cannot be restored: {:?}", report.losses);
    if !report.is_sound() {
        let name = segment("base", 2);
        assert!(report.damage.iter().any(|text| text.contains(&name)), "{:?}", report.damage);
        return Outcome::Lost;
    }
    if report.notes.is_empty() { Outcome::Silent } else { Outcome::Noted }
}

/// The next base point, and an instant after it.
async fn backed_up(sample: &Sample, world: &World, lost: &BTreeSet<Timestamp>) -> Outcome {
    let (clock, account) = account(DAYS);
    live_a_day(&clock, &account, DAYS + 1);
    base(world, &clock, &account, "next").await;
    look(world, &account).await;
    let (at, state) = (clock.now(), contents(&account));
    account.put("c0", "00", "later");
    assert!(sample.lost(world).await.is_subset(lost));
    match restored(&world.vault().await, &account, at).await {
        Ok(()) if contents(&account) == state => Outcome::Whole,
        Ok(()) => panic!("another state came back"),
        Err(_) => Outcome::Part,
    }
}
