//! What diff, search and history promise: what they find, and that they read no more than they must.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blobkeep_testkit::fault::FaultStore;
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::diff::{Changed, Diff, Difference};
use blobkeep_vault::item::ChunkId;
use blobkeep_vault::manifest::{ManifestWriter, OwnedKey, Record, Root};
use blobkeep_vault::names::Pattern;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::write::ChunkWriter;
use blobkeep_vault::{BlobEntry, ContainerEntry, Content, Item, MasterKey, Timestamp, Vault};
use proptest::prelude::*;

type Records = BTreeMap<OwnedKey, Record>;

struct World {
    store: Arc<FaultStore>,
    master: MasterKey,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            store: Arc::new(FaultStore::new(Arc::new(MemoryStore::default()))),
            master: MasterKey::generate().unwrap(),
        };
        Vault::init(world.store.clone(), &world.master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        world
    }

    async fn vault(&self) -> Vault {
        Vault::open(self.store.clone(), &self.master).await.unwrap()
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
    let writer = Arc::new(ChunkWriter::new(vault));
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

/// 100,000 entries make a tree of three levels. A change costs its way down in both trees, and a new or a lost end of a page another one.
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
        let at_most = 8 * u64::from(changes);
        assert!(pages <= at_most, "{changes} changes cost {pages} pages, more than {at_most}");
    }
}
