//! What diff, search and history promise: what they find, and that they read no more than they must.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::fault::FaultStore;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::diff::{Changed, Diff, Difference};
use blobkeep_vault::item::ChunkId;
use blobkeep_vault::manifest::{ManifestReader, ManifestWriter, OwnedKey, Record, Root};
use blobkeep_vault::names::Pattern;
use blobkeep_vault::point::Point;
use blobkeep_vault::search::{self, Found, Query, Search};
use blobkeep_vault::state::{Chain, Change, LivePoint};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::write::ChunkWriter;
use blobkeep_vault::{BlobEntry, ContainerEntry, Content, ErrorKind, Item, MasterKey, Timestamp, Unwatched, Vault};
use proptest::prelude::*;

type Records = BTreeMap<OwnedKey, Record>;
/// Versions of one name, each with the jobs of its points.
type Versions = Vec<(Item, Vec<String>)>;

struct World {
    store: Arc<FaultStore>,
    master: MasterKey,
    clock: ManualClock,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            store: Arc::new(FaultStore::new(Arc::new(MemoryStore::default()))),
            master: MasterKey::generate().unwrap(),
            clock: ManualClock::at_seconds(1_800_000_000),
        };
        Vault::init(world.store.clone(), &world.master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        world
    }

    async fn vault(&self) -> Vault {
        Vault::open(self.store.clone(), &self.master).await.unwrap()
    }

    async fn back_up(&self, account: &MemoryAccount, job: &str) -> Point {
        self.clock.advance_seconds(60);
        let (vault, options) = (self.vault().await, BackupOptions::new("inst", job));
        backup::run(&vault, Arc::new(account.clone()), &options, &self.clock, &Unwatched).await.unwrap().point
    }
}

fn container(name: &str) -> Record {
    Record::Container(ContainerEntry { name: name.into(), ..ContainerEntry::default() })
}

fn blob(container: &str, name: &str, content: u8, tag: u8) -> Record {
    Record::Blob(Item {
        entry: BlobEntry {
            container: container.into(),
            name: name.into(),
            size_bytes: u64::from(content),
            etag: format!("{content}"),
            tags: vec![("tag".into(), tag.to_string())],
            ..BlobEntry::default()
        },
        content: Content::Chunks(vec![ChunkId([content; 32])]),
    })
}

fn records(all: impl IntoIterator<Item = Record>) -> Records {
    all.into_iter().map(|record| (OwnedKey::from(record.key()), record)).collect()
}

async fn write(vault: &Vault, records: &Records) -> Root {
    let writer = Arc::new(ChunkWriter::new(vault).unwrap());
    let mut manifest = ManifestWriter::new(&vault.keys.id_key);
    for record in records.values() {
        manifest.push(record.clone(), &writer).await.unwrap();
    }
    let root = manifest.finish(&writer).await.unwrap();
    writer.flush().await.unwrap();
    root
}

async fn all(mut diff: Diff<'_>) -> (Vec<Difference>, u64) {
    let mut found = Vec::new();
    while let Some(difference) = diff.next().await.unwrap() {
        found.push(difference);
    }
    (found, diff.pages_read())
}

/// The difference by looking at everything.
fn naive(before: &Records, after: &Records) -> Vec<Difference> {
    let keys: BTreeSet<&OwnedKey> = before.keys().chain(after.keys()).collect();
    let differ = |key: &OwnedKey| match (before.get(key), after.get(key)) {
        (Some(old), None) => Some(Difference::Removed(old.clone())),
        (None, Some(new)) => Some(Difference::Added(new.clone())),
        (Some(old), Some(new)) if old != new => {
            let what = match (old, new) {
                (Record::Blob(old), Record::Blob(new)) => {
                    match (old.content == new.content, old.entry.tags == new.entry.tags) {
                        (true, _) => Changed::Properties,
                        (false, true) => Changed::Content,
                        (false, false) => Changed::Both,
                    }
                }
                _ => Changed::Properties,
            };
            Some(Difference::Changed { before: old.clone(), after: new.clone(), what })
        }
        _ => None,
    };
    keys.into_iter().filter_map(differ).collect()
}

/// A list of blobs in three containers, by number.
fn numbered(numbers: impl IntoIterator<Item = (u32, (u8, u8))>) -> Records {
    let blobs = numbers.into_iter().map(|(number, (content, tag))| {
        blob(["a", "b", "b-longer"][number as usize % 3], &format!("{}/{number:05}", number % 17), content, tag)
    });
    records(["a", "b", "b-longer"].map(container).into_iter().chain(blobs))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_diff_is_what_looking_at_everything_finds(
        size in 0_u32..6_000,
        changes in prop::collection::vec((0_u32..6_500, 0_u8..3, 0_u8..3), 0..40),
        gone in prop::collection::vec((0_u32..6_000, 0_u32..900), 0..3),
        swaps in any::<bool>(),
        prefix in prop::sample::select(vec!["", "1", "16/", "3/0001"]),
    ) {
        let mut numbers: BTreeMap<u32, (u8, u8)> = (0..size).map(|number| (number, (1, 1))).collect();
        let before = numbered(numbers.clone());
        for (from, length) in gone {
            numbers.retain(|number, _| !(from..from + length).contains(number));
        }
        numbers.extend(changes.into_iter().map(|(number, content, tag)| (number, (content, tag))));
        let after = numbered(numbers);
        let (before, after) = if swaps { (after, before) } else { (before, after) };
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let vault = World::new().await.vault().await;
            let (old, new) = (write(&vault, &before).await, write(&vault, &after).await);
            let expected = naive(&before, &after);
            assert_eq!(all(Diff::new(&vault.reader, &old, &new)).await.0, expected);
            let pattern = Pattern::Prefix(prefix.into());
            let names = [("b-longer", &pattern), ("a", &pattern), ("none", &pattern)];
            let chosen: Vec<Difference> = expected
                .into_iter()
                .filter(|difference| {
                    let key = difference.key();
                    key.container != "b" && key.name.starts_with(prefix)
                })
                .collect();
            assert_eq!(all(Diff::of_names(&vault.reader, &old, &new, names)).await.0, chosen);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_and_nothing_differ_by_all_of_it() {
    let vault = World::new().await.vault().await;
    let some = numbered((0..500).map(|number| (number, (1, 1))));
    let root = write(&vault, &some).await;
    let added: Vec<Difference> = some.values().cloned().map(Difference::Added).collect();
    let removed: Vec<Difference> = some.values().cloned().map(Difference::Removed).collect();
    assert_eq!(all(Diff::new(&vault.reader, &Root::default(), &root)).await.0, added);
    assert_eq!(all(Diff::new(&vault.reader, &root, &Root::default())).await.0, removed);
    assert_eq!(all(Diff::new(&vault.reader, &Root::default(), &Root::default())).await.0, []);
    assert_eq!(all(Diff::new(&vault.reader, &root, &root)).await, (vec![], 0), "equal roots are not read");
}

/// 100,000 entries make a tree of three or four levels with some 1,600 leaves. A change costs its way down in both trees, and a new or a lost
/// end of a page another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_diff_reads_pages_for_what_changed_and_not_for_what_is_there() {
    const ENTRIES: u32 = 100_000;
    let vault = World::new().await.vault().await;
    let numbers: BTreeMap<u32, (u8, u8)> = (0..ENTRIES).map(|number| (number, (1, 1))).collect();
    let old = write(&vault, &numbered(numbers.clone())).await;
    for changes in [1_u32, 10, 100] {
        let mut changed = numbers.clone();
        for change in 0..changes {
            let number = change.wrapping_mul(2_654_435_761) % ENTRIES;
            match change % 3 {
                0 => drop(changed.insert(number, (2, 1))),
                1 => drop(changed.remove(&number)),
                _ => drop(changed.insert(ENTRIES + number, (1, 1))),
            }
        }
        let new = write(&vault, &numbered(changed)).await;
        let (found, pages) = all(Diff::new(&vault.reader, &old, &new)).await;
        assert_eq!(found.len(), changes as usize);
        let at_most = 12 * u64::from(changes) + 12;
        assert!(pages <= at_most, "{changes} changes cost {pages} pages, more than {at_most}");
    }
}

/// An account of which five points are taken while it changes.
async fn changing(world: &World) -> Vec<Point> {
    let account = MemoryAccount::new();
    for number in 0..600 {
        account.put(
            ["docs", "logs"][number % 2],
            &format!("{}/file {number:03}.txt", number % 5),
            vec![number as u8; 10],
        );
    }
    let mut points = vec![world.back_up(&account, "job-1").await];
    account.remove("docs", "0/file 100.txt");
    account.put("docs", "0/file 110.txt", "second");
    points.push(world.back_up(&account, "job-2").await);
    points.push(world.back_up(&account, "job-3").await);
    account.put("docs", "0/file 110.txt", "third");
    account.put("photos", "0/file 999.txt", "new");
    account.remove("logs", "1/file 001.txt");
    points.push(world.back_up(&account, "job-4").await);
    account.touch("docs", "0/file 110.txt", |entry| entry.tags = vec![("t".into(), "1".into())]);
    account.remove("photos", "0/file 999.txt");
    points.push(world.back_up(&account, "job-5").await);
    points
}

async fn blobs(vault: &Vault, root: &Root) -> BTreeMap<OwnedKey, Item> {
    let mut blobs = BTreeMap::new();
    let mut reader = ManifestReader::new(&vault.reader, root, None);
    while let Some(record) = reader.next().await.unwrap() {
        if let Record::Blob(item) = record {
            blobs.insert(OwnedKey::from(item.entry.key()), item);
        }
    }
    blobs
}

fn query(containers: &[&str], pattern: Pattern) -> Query {
    Query { containers: containers.iter().map(ToString::to_string).collect(), pattern }
}

async fn found(mut search: Search<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    while let Some(found) = search.next().await.unwrap() {
        all.push(found);
    }
    all
}

fn patterns() -> Vec<Pattern> {
    vec![
        Pattern::Prefix("0/".into()),
        Pattern::Prefix(String::new()),
        Pattern::Exact("0/file 110.txt".into()),
        Pattern::Exact("0/file".into()),
        Pattern::Contains("10".into()),
        Pattern::glob("0/file ?1*.txt").unwrap(),
        Pattern::glob("**/file 1*").unwrap(),
        Pattern::glob("*").unwrap(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_looking_at_every_name_of_every_point_finds() {
    let world = World::new().await;
    let points = changing(&world).await;
    let vault = world.vault().await;
    for pattern in patterns() {
        for containers in [&[][..], &["docs", "photos"], &["none"]] {
            let wanted = |item: &Item| {
                let is_chosen = containers.is_empty() || containers.contains(&item.entry.container.as_str());
                is_chosen && pattern.matches(&item.entry.name)
            };
            let mut expected = Vec::new();
            let mut newer = BTreeMap::new();
            for point in points.iter().rev() {
                let here = blobs(&vault, &point.root).await;
                let of_here = here.iter().filter(|(key, item)| wanted(item) && newer.get(*key) != Some(*item));
                expected.extend(of_here.map(|(_, item)| Found { point: point.job.clone(), item: item.clone() }));
                newer = here;
            }
            let search = Search::in_instance(&vault, "inst", query(containers, pattern.clone())).await.unwrap();
            assert_eq!(found(search).await, expected, "{pattern:?} in {containers:?}");

            let of_one: Vec<Found> = blobs(&vault, &points[1].root)
                .await
                .into_values()
                .filter(wanted)
                .map(|item| Found { point: "job-2".into(), item })
                .collect();
            let search = Search::in_point(&vault, &points[1], query(containers, pattern.clone())).unwrap();
            assert_eq!(found(search).await, of_one, "{pattern:?} in {containers:?} of one point");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_on_where_it_stopped() {
    let world = World::new().await;
    changing(&world).await;
    let vault = world.vault().await;
    for pattern in patterns() {
        let anew = async || Search::in_instance(&vault, "inst", query(&[], pattern.clone())).await.unwrap();
        let whole = found(anew().await).await;
        let mut in_pages = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut search = anew().await;
            if let Some(cursor) = &cursor {
                search = search.go_on(cursor.parse().unwrap()).await.unwrap();
            }
            let before = in_pages.len();
            while in_pages.len() < before + 37
                && let Some(found) = search.next().await.unwrap()
            {
                in_pages.push(found);
            }
            if in_pages.len() < before + 37 {
                break;
            }
            cursor = search.cursor().map(ToString::to_string);
        }
        assert_eq!(in_pages, whole, "{pattern:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_stopped_at_a_point_that_has_gone_begins_anew() {
    let world = World::new().await;
    changing(&world).await;
    let vault = world.vault().await;
    let anew = async || Search::in_instance(&vault, "inst", query(&[], Pattern::Contains("1".into()))).await.unwrap();
    let mut search = anew().await;
    search.next().await.unwrap();
    let cursor = search.cursor().unwrap().clone();
    let other = Search::in_instance(&vault, "inst", query(&["docs"], Pattern::Contains("1".into()))).await.unwrap();
    let Err(error) = other.go_on(cursor.clone()).await else { panic!("that is another search") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
    Chain::instance(&vault, "inst")
        .unwrap()
        .append(Change::PointRemoved { job: "job-5".into() }, Timestamp(1))
        .await
        .unwrap();
    vault.store.delete(&Point::file_name("inst", "job-5")).await.unwrap();
    let Err(error) = anew().await.go_on(cursor).await else { panic!("the point has gone") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("begin the search anew"), "{error}");
    // One that is under way passes it over.
    while search.next().await.unwrap().is_some() {}
    let Err(error) = "no cursor".parse::<search::SearchCursor>() else { panic!("that is no cursor") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_blob_has_each_version_once_with_the_points_that_hold_it() {
    let world = World::new().await;
    let points = changing(&world).await;
    let vault = world.vault().await;
    let key = |item: &Item| (item.entry.container.clone(), item.entry.name.clone());
    let mut expected: BTreeMap<(String, String), Versions> = BTreeMap::new();
    for point in &points {
        for item in blobs(&vault, &point.root).await.into_values() {
            let versions = expected.entry(key(&item)).or_default();
            match versions.iter_mut().find(|(version, _)| *version == item) {
                Some((_, points)) => points.push(point.job.clone()),
                None => versions.push((item, vec![point.job.clone()])),
            }
        }
    }
    for ((container, name), expected) in &expected {
        let jobs = |points: Vec<LivePoint>| points.into_iter().map(|point| point.job).collect::<Vec<_>>();
        let versions = search::history(&vault, "inst", container, name).await.unwrap();
        let versions: Vec<_> = versions.into_iter().map(|version| (version.item, jobs(version.points))).collect();
        assert_eq!(versions, *expected, "{container}/{name}");
    }
    assert_eq!(expected[&("docs".into(), "0/file 110.txt".into())].len(), 4);
    assert_eq!(search::history(&vault, "inst", "docs", "0/file").await.unwrap(), []);
}

/// An account of 5,000 blobs, some 80 leaves, with one point.
async fn many_blobs(world: &World) -> MemoryAccount {
    let account = MemoryAccount::new();
    for number in 0..5_000 {
        account.put("c", &format!("{number:05}"), "same");
    }
    world.back_up(&account, "job-0").await;
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_blob_costs_one_file_for_each_point_that_has_the_page_of_another() {
    const POINTS: u64 = 40;
    /// Records of the instance's chain that are read at most.
    const CHAIN: u64 = 32;
    let world = World::new().await;
    let account = many_blobs(&world).await;
    let reads = async || {
        let vault = world.vault().await;
        let before = world.store.reads();
        assert_eq!(search::history(&vault, "inst", "c", "02500").await.unwrap().len(), 1);
        world.store.reads() - before
    };
    let of_one = reads().await;
    for number in 1..=POINTS {
        world.back_up(&account, &format!("job-{number}")).await;
    }
    let (of_all, at_most) = (reads().await, of_one + POINTS + CHAIN);
    assert!(of_all <= at_most, "{of_all} reads for {POINTS} more points after {of_one} for one, more than {at_most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_over_many_points_reads_what_changed_between_them() {
    const POINTS: u64 = 20;
    let world = World::new().await;
    let account = many_blobs(&world).await;
    let pages = async || {
        let vault = world.vault().await;
        let everything = query(&[], Pattern::Prefix("0".into()));
        let mut search = Search::in_instance(&vault, "inst", everything).await.unwrap();
        let mut blobs = 0;
        while search.next().await.unwrap().is_some() {
            blobs += 1;
        }
        (blobs, search.pages_read())
    };
    let (blobs_of_one, pages_of_one) = pages().await;
    for number in 1..=POINTS {
        account.put("c", "02500", format!("version {number}"));
        world.back_up(&account, &format!("job-{number}")).await;
    }
    let (blobs_of_all, pages_of_all) = pages().await;
    assert_eq!((blobs_of_one, blobs_of_all), (5_000, 5_000 + POINTS));
    assert!(pages_of_one > 30, "{pages_of_one} pages are no tree");
    let at_most = pages_of_one + 12 * POINTS;
    assert!(pages_of_all <= at_most, "{pages_of_all} pages after {pages_of_one} for one point, more than {at_most}");
}
