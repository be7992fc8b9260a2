//! A container that is backed up in several ranges of names at once gives the point that one listing gives, whatever happens meanwhile and
//! however the endpoint sorts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blobkeep_testkit::account::{Call, MemoryAccount, Order};
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions, BackupReport};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::manifest::{ManifestReader, Record, Root};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{Error, ErrorKind, MasterKey, Monitor, Timestamp, Unwatched, Vault, WorkProgress};

const BLOBS: u64 = 1_500;

struct World {
    vault: Vault,
    clock: ManualClock,
}

impl World {
    async fn new() -> Self {
        let master = MasterKey::generate().unwrap();
        let store = Arc::new(MemoryStore::default());
        let vault = Vault::init(store, &master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        Self { vault, clock: ManualClock::at_seconds(1_800_000_000) }
    }

    /// Each number of ranges is an instance of its own, so that all go from the same point before to the next one.
    fn options(ranges: usize, job: &str) -> BackupOptions {
        let options = BackupOptions::new(format!("ranges-{ranges}"), job);
        BackupOptions { ranges, split_from_blobs: 100, ..options }
    }

    async fn run(&self, account: &MemoryAccount, options: &BackupOptions) -> Result<BackupReport, Error> {
        self.clock.advance_seconds(60);
        backup::run(&self.vault, Arc::new(account.clone()), options, &self.clock, &Unwatched).await
    }

    async fn back_up(&self, account: &MemoryAccount, ranges: usize, job: &str) -> BackupReport {
        self.run(account, &Self::options(ranges, job)).await.unwrap()
    }

    async fn names(&self, root: &Root) -> Vec<String> {
        let mut reader = ManifestReader::new(&self.vault.reader, root, None);
        let mut names = Vec::new();
        while let Some(record) = reader.next().await.unwrap() {
            if let Record::Blob(item) = record {
                names.push(item.entry.name);
            }
        }
        names
    }
}

fn name(number: u64) -> String {
    format!("folder-{}/{number:06}", number / 350)
}

fn sample() -> MemoryAccount {
    let account = MemoryAccount::new().with_pages_of(50);
    for number in 0..BLOBS {
        account.put("c", &name(number), number.to_string());
    }
    account.put("b", "before", "1");
    account.put("d", "after", "2");
    account
}

/// Where listings of container `c` began since this was last asked.
fn beginnings(account: &MemoryAccount) -> BTreeSet<String> {
    let from = |call| if let Call::ListFrom(_, from) = call { Some(from) } else { None };
    account.take_calls().into_iter().filter_map(from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_ranges_gives_the_same_root_and_counts() {
    let (world, account) = (World::new().await, sample());
    let mut edges = BTreeSet::new();
    for ranges in [1, 2, 7] {
        world.back_up(&account, ranges, "job-1").await;
        assert_eq!(beginnings(&account), BTreeSet::new(), "there is nothing yet to tell where to cut");
        world.back_up(&account, ranges, "job-2").await;
        let beginnings = beginnings(&account);
        // Pages are of random sizes: one may be as large as two shares, now and then.
        assert!(beginnings.len() < ranges && 2 * beginnings.len() >= ranges - 1, "{beginnings:?}");
        edges.extend(beginnings);
    }
    // At the edges blobs go, come and change, and the last range loses all it had.
    let edges: Vec<String> = edges.into_iter().collect();
    account.remove("c", &edges[0]);
    account.put("c", &format!("{}-", edges[1]), "new, right behind an edge");
    account.put("c", &edges[1], "changed");
    for number in 0..BLOBS {
        if name(number) >= edges[edges.len() - 1] {
            account.remove("c", &name(number));
        }
    }
    account.put("c", "zzz", "new, behind all");
    account.put("c", "!", "new, before all");
    account.put("c", "unreadable", "archived");
    account.touch("c", "unreadable", |entry| entry.tier = Some("Archive".into()));
    let mut reports = Vec::new();
    for ranges in [1, 2, 7] {
        reports.push(world.back_up(&account, ranges, "job-3").await.point);
        assert_eq!(beginnings(&account).is_empty(), ranges == 1);
    }
    let whole = &reports[0];
    assert_eq!((whole.counts.read_blobs, whole.counts.skipped_blobs), (4, 1));
    for point in &reports[1..] {
        assert_eq!(point.root, whole.root);
        let counts = |point: &blobkeep_vault::point::Point| {
            let counts = point.counts;
            (counts.unchanged_blobs, counts.read_blobs, counts.read_bytes, counts.skipped_blobs)
        };
        assert_eq!(counts(point), counts(whole));
        assert_eq!(point.skipped(&world.vault, 10).await.unwrap(), whole.skipped(&world.vault, 10).await.unwrap());
    }
    let report = verify::run(&world.vault, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
}

/// Whatever page it happens at: blobs that were there all the time are in the point, each once, and what is in it was there at some time.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_come_and_go_at_the_edges_meanwhile_cost_no_other_blob() {
    for at_list in 0..40 {
        let (world, account) = (World::new().await, sample());
        world.back_up(&account, 4, "job-1").await;
        world.back_up(&account, 4, "job-2").await;
        let edges: Vec<String> = beginnings(&account).into_iter().collect();
        let (first, last) = (&edges[0], &edges[edges.len() - 1]);
        let (gone, new, behind) = (first.clone(), format!("{}x", &last[..last.len() - 1]), format!("{last}-"));
        let changes = (gone.clone(), new.clone(), behind.clone());
        account.change_at_list(at_list, move |account| {
            account.remove("c", &changes.0);
            account.put("c", &changes.1, "before the first name of a range");
            account.put("c", &changes.2, "right behind the first name of a range");
        });
        let report = world.back_up(&account, 4, "job-3").await;
        assert!(!beginnings(&account).is_empty());
        let names = world.names(&report.point.root).await;
        let fleeting = [gone, new, behind];
        let lasting: Vec<&String> = names.iter().filter(|name| !fleeting.contains(name)).collect();
        assert_eq!(lasting.len() as u64, BLOBS + 2 - 1, "page {at_list}");
        assert!(report.point.counts.read_blobs <= 2, "page {at_list}: {:?}", report.point.counts);
        assert!(report.point.counts.unchanged_blobs <= BLOBS + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_sorts_in_another_way_loses_no_blob_and_has_the_same_root() {
    for order in [Order::Backwards, Order::Utf16, Order::Folders] {
        for ranges in [2, 3, 5, 8] {
            let (world, account) = (World::new().await, MemoryAccount::new().with_pages_of(100));
            for number in 0..600 {
                for folder in ["a/", "a-", "a0", "\u{fffd}", "\u{1f600}"] {
                    account.put("c", &format!("{folder}{number:04}"), "");
                }
            }
            let straight = world.back_up(&account, ranges, "job-1").await;
            account.list_in(order);
            account.take_calls();
            let report = world.back_up(&account, ranges, "job-2").await;
            assert!(!beginnings(&account).is_empty(), "it was tried");
            assert_eq!(report.point.root, straight.point.root, "{order:?} in {ranges} ranges");
            assert_eq!(report.point.counts.unchanged_blobs, 3_000, "{order:?} in {ranges} ranges");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_begin_in_the_middle_is_listed_folder_by_folder() {
    let (world, account) = (World::new().await, sample());
    for name in ["beside", "folder-1", "folder-3-", "folder-30", "zzz"] {
        account.put("c", name, "between folders");
    }
    world.back_up(&account, 4, "job-1").await;
    account.list_from_the_beginning_only();
    account.put("c", "folder-2/new", "in a folder");
    account.put("c", "folder-20/new", "a new folder");
    account.remove("c", "folder-30");
    account.take_calls();
    let by_folder = world.back_up(&account, 4, "job-2").await;
    let prefixes: BTreeSet<String> = account
        .take_calls()
        .into_iter()
        .filter_map(|call| if let Call::ListPrefix(_, prefix) = call { Some(prefix) } else { None })
        .collect();
    let folders = ["folder-0/", "folder-1/", "folder-2/", "folder-20/", "folder-3/", "folder-4/"];
    assert_eq!(prefixes, folders.iter().map(ToString::to_string).collect());
    assert_eq!(by_folder.point.counts.unchanged_blobs, BLOBS + 2 + 4);
    let straight = world.back_up(&account, 1, "job-1").await;
    assert_eq!(by_folder.point.root, straight.point.root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_many_small_folders_is_listed_from_the_beginning() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for number in 0..600 {
        account.put("c", &format!("{}/{number}", number % 40), "");
    }
    world.back_up(&account, 4, "job-1").await;
    account.list_from_the_beginning_only();
    account.take_calls();
    world.back_up(&account, 4, "job-2").await;
    let calls = account.take_calls();
    assert_eq!(calls, [Call::ListTop("c".into()), Call::List("c".into())], "one request for each folder is too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_in_ranges_goes_on_and_its_counts_are_true() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, 4, "job-1").await;
    // Every fifth blob is changed: in all ranges some are read before the interruption, and some are not.
    for number in (0..BLOBS).step_by(5) {
        account.put("c", &name(number), format!("changed {number}"));
    }
    let options = BackupOptions { progress_every: Duration::ZERO, ..World::options(4, "job-2") };
    // More reads than the windows of all ranges hold, so that some are in the progress.
    account.fail_after_reads(Some(BLOBS / 6));
    assert!(world.run(&account, &options).await.is_err());
    assert!(!beginnings(&account).is_empty());
    account.fail_after_reads(None);
    let report = world.run(&account, &options).await.unwrap();
    let reads = account.take_calls().iter().filter(|call| matches!(call, Call::Read(..))).count() as u64;
    assert!(reads < BLOBS / 5 - 20, "{reads} reads after going on");
    assert_eq!(report.point.counts.unchanged_blobs, BLOBS + 2 - BLOBS / 5);
    let straight = world.back_up(&account, 1, "job-1").await;
    assert_eq!(report.point.root, straight.point.root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_disappears_while_its_ranges_are_listed_is_left_out() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, 4, "job-1").await;
    account.change_at_list(12, |account| account.vanish_at_list("c"));
    let report = world.back_up(&account, 4, "job-2").await;
    assert_eq!((report.point.root.totals.containers, report.point.root.totals.blobs), (2, 2));
    assert_eq!(report.point.counts.unchanged_blobs, 2);
    assert!(report.warnings[0].contains("container c"), "{:?}", report.warnings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_ranges_stops_when_it_is_told_to() {
    struct StopAt(AtomicU64);
    impl Monitor for StopAt {
        fn progress(&self, progress: &WorkProgress) {
            self.0.store(progress.blobs, Ordering::Relaxed);
        }
        fn should_stop(&self) -> Option<String> {
            (self.0.load(Ordering::Relaxed) > 500).then(|| "enough".to_owned())
        }
    }
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, 4, "job-1").await;
    let (source, options) = (Arc::new(account.clone()), World::options(4, "job-2"));
    let monitor = StopAt(AtomicU64::new(0));
    let error = backup::run(&world.vault, source, &options, &world.clock, &monitor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(monitor.0.load(Ordering::Relaxed) < 1_000);
}
