//! Two writers and a prune at once, each held up at every step by pauses of chance: no committed point ever misses a chunk.
//!
//! The content of blobs comes from a small pool, so that what one writer lets go of is taken up again by the other, out of packs that are
//! being condemned at that moment. Runs for some seconds; `BLOBKEEP_TEST_SECONDS` says how many.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::point::Point;
use blobkeep_vault::prune::{self, PruneOptions};
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::state::remove_point;
use blobkeep_vault::{Timestamp, Unwatched};
use bytes::Bytes;
use tokio::time::Instant;
use world::{World, noise};

type Contents = BTreeMap<(String, String), Bytes>;
/// Committed points that nobody has removed, with what they must give back.
type Points = Arc<Mutex<BTreeMap<(String, String), Contents>>>;

/// Numbers that look like chance and are the same each time.
#[derive(Clone)]
struct Chance(Arc<AtomicU64>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn below(&self, bound: u64) -> u64 {
        let mut word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) % bound
    }
}

fn duration() -> Duration {
    let seconds = std::env::var("BLOBKEEP_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_committed_point_misses_a_chunk_while_writers_and_a_prune_work_at_once() {
    let world = Arc::new(World::new().await);
    let chance = Chance::new(7);
    let pauses = chance.clone();
    world.store.set_hook(Arc::new(move |_, _| {
        let pause = match pauses.below(100) {
            0..=1 => Duration::from_millis(pauses.below(60)),
            2..=30 => Duration::from_micros(pauses.below(4_000)),
            _ => Duration::ZERO,
        };
        Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        })
    }));
    let (points, is_over) = (Points::default(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = ["one", "two"]
        .map(|instance| {
            let (world, chance, points, is_over) = (world.clone(), chance.clone(), points.clone(), is_over.clone());
            tokio::spawn(async move { write(&world, instance, &chance, &points, &is_over).await })
        })
        .into();
    let end = Instant::now() + duration();
    let (mut prunes, mut packs) = (0, 0);
    while Instant::now() < end {
        // Nobody is taken for dead: whoever is slow is waited for.
        let patient =
            PruneOptions { max_unused_percent: 0, patience: Duration::from_secs(3_600), ..PruneOptions::new("prune") };
        let report = prune::run(&world.vault().await, &patient, &world.clock, &Unwatched).await.unwrap();
        prunes += 1;
        packs += report.dead_packs + report.rewritten_packs;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut backups = 0;
    for writer in writers {
        backups += writer.await.unwrap();
    }
    let left = points.lock().unwrap().clone();
    for ((instance, job), content) in left {
        check(&world, &instance, &job, &content).await;
    }
    world.assert_sound().await;
    println!("{backups} backups beside {prunes} prunes, which removed {packs} packs");
    assert!(backups >= 4 && prunes >= 2 && packs >= 2, "{backups} backups, {prunes} prunes, {packs} packs");
}

/// Backs up an ever changing account, removes old points, and restores what it has committed.
async fn write(world: &World, instance: &str, chance: &Chance, points: &Points, is_over: &AtomicBool) -> u64 {
    let account = MemoryAccount::new();
    let mut backups = 0;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..6 {
            let name = format!("{}", chance.below(12));
            account.put("c", &name, noise(70_000, chance.below(16)));
        }
        let (vault, job) = (world.vault().await, format!("job-{backups}"));
        let options = BackupOptions::new(instance, &job);
        backup::run(&vault, Arc::new(account.clone()), &options, &world.clock, &Unwatched).await.unwrap();
        world.clock.advance_seconds(1);
        backups += 1;
        points.lock().unwrap().insert((instance.to_owned(), job.clone()), account.contents());
        check(world, instance, &job, &account.contents()).await;
        if backups > 2 {
            let old = format!("job-{}", backups - 3);
            points.lock().unwrap().remove(&(instance.to_owned(), old.clone()));
            remove_point(&world.vault().await, instance, &old, Timestamp(0)).await.unwrap();
        }
    }
    backups
}

async fn check(world: &World, instance: &str, job: &str, content: &Contents) {
    let (vault, target) = (world.vault().await, MemoryAccount::new());
    let point = Point::get(&vault, instance, job).await.unwrap();
    let (to, options) = (Arc::new(target.clone()), RestoreOptions::default());
    restore::run(&vault, &point, to, &options, RestoreState::default(), &NoJournal, &Unwatched).await.unwrap();
    assert!(target.contents() == *content, "{job} of {instance} gave back other bytes");
}
