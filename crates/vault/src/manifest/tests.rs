//! What the parts of a manifest promise: however the records are cut, one root.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkSizes;
use crate::item::{BlobEntry, Timestamp};
use crate::key::MasterKey;
use crate::store::memory::MemoryStore;
use crate::vault::Vault;

async fn vault() -> Vault {
    let master = MasterKey::generate().unwrap();
    Vault::init(Arc::new(MemoryStore::default()), &master, ChunkSizes::default(), Timestamp(1)).await.unwrap()
}

fn empty(vault: &Vault, page_bits: u32) -> ManifestWriter {
    ManifestWriter { page_bits, ..ManifestWriter::new(&vault.keys.id_key) }
}

/// Records in key order: several containers, and now and then versions of one name, so that a cut may fall between them.
fn records(count: usize, seed: u64) -> Vec<Record> {
    let mut records: Vec<Record> = (0..count)
        .map(|number| {
            let hash = blake3::hash(&[seed.to_le_bytes(), (number as u64).to_le_bytes()].concat());
            let random = hash.as_bytes();
            let container = format!("c{}", number * 3 / count);
            match random[0] % 8 {
                0 => Record::Container(ContainerEntry { name: format!("{container}-{number}"), ..Default::default() }),
                choice => Record::Blob(Item {
                    entry: BlobEntry {
                        container,
                        name: hex::encode(&random[1..4]),
                        version: (choice == 1).then(|| number.to_string()),
                        size_bytes: u64::from(random[4]),
                        ..BlobEntry::default()
                    },
                    ..Item::default()
                }),
            }
        })
        .collect();
    records.sort_by(|a, b| a.key().cmp(&b.key()));
    records.dedup_by(|a, b| a.key() == b.key());
    records
}

/// Parts of these ranges, built at once: a record of each in turn.
async fn parts(vault: &Vault, page_bits: u32, ranges: &[&[Record]], writer: &Arc<ChunkWriter>) -> Vec<ManifestPart> {
    let mut parts: Vec<ManifestPart> = ranges.iter().map(|_| ManifestPart::before(empty(vault, page_bits))).collect();
    let longest = ranges.iter().map(|range| range.len()).max().unwrap_or_default();
    for position in 0..longest {
        // The last range first: nothing that an earlier one does may matter to a later one.
        for (part, range) in parts.iter_mut().zip(ranges).rev() {
            if let Some(record) = range.get(position) {
                part.push(record.clone(), writer).await.unwrap();
            }
        }
    }
    parts
}

async fn height(vault: &Vault, root: &Root) -> usize {
    let mut height = 0;
    let mut page = root.page;
    while let Some(id) = page {
        page = match decode(id, &vault.reader.page(id).await.unwrap()).unwrap() {
            Page::Leaf(_) => return height,
            Page::Inner(children) => Some(children[0].page),
        };
        height += 1;
    }
    height
}

/// The root of all records by one writer, and by parts cut at these positions.
async fn roots(records: &[Record], cuts: &[usize], page_bits: u32) -> (Root, Root, usize) {
    let vault = vault().await;
    let writer = Arc::new(ChunkWriter::new(&vault).unwrap());
    let mut whole = empty(&vault, page_bits);
    for record in records {
        whole.push(record.clone(), &writer).await.unwrap();
    }
    let edges: Vec<usize> = [0].iter().chain(cuts).chain([&records.len()]).copied().collect();
    let ranges: Vec<&[Record]> = edges.windows(2).map(|edge| &records[edge[0]..edge[1]]).collect();
    let mut joined = empty(&vault, page_bits);
    for part in parts(&vault, page_bits, &ranges, &writer).await {
        joined.append(part, &writer).await.unwrap();
    }
    assert_eq!(joined.last(), records.last().map(Record::key));
    let (whole, joined) = (whole.finish(&writer).await.unwrap(), joined.finish(&writer).await.unwrap());
    writer.flush().await.unwrap();
    let height = height(&vault, &whole).await;
    (whole, joined, height)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn records_cut_anywhere_and_joined_have_the_root_of_one_writer(
        count in prop_oneof![0_usize..8, 8_usize..120, 120_usize..600],
        seed in any::<u64>(),
        cuts in prop::collection::vec(0.0..=1.0_f64, 0..8),
        page_bits in 1_u32..=6,
    ) {
        let records = records(count, seed);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * records.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let (whole, joined, _) = block_on(roots(&records, &cuts, page_bits));
        prop_assert_eq!(whole, joined);
    }
}

/// Small pages make high trees of few records; a vault's trees are of height 3 beyond a quarter of a million blobs.
#[test]
fn trees_of_every_height_are_cut_and_joined() {
    let mut heights = HashSet::new();
    // Keys are random and so are heights; a few rounds have all of them.
    for seed in 0..50 {
        for (count, page_bits) in [(0, 2), (3, 6), (40, 4), (300, 4), (700, 3), (700, 2)] {
            let records = records(count, seed);
            let cuts: Vec<usize> = (1..6).map(|part| part * records.len() / 6).collect();
            let (whole, joined, height) = block_on(roots(&records, &cuts, page_bits));
            assert_eq!(whole, joined, "{count} records, {page_bits} bits");
            heights.insert(height);
        }
        if seed > 2 && (0..=3).all(|height| heights.contains(&height)) {
            return;
        }
    }
    panic!("heights {heights:?}");
}

/// Every record a part of its own: each boundary lies in a head, and no part knows where its pages begin.
#[test]
fn a_part_for_every_record_has_the_root_of_one_writer() {
    let records = records(200, 7);
    let cuts: Vec<usize> = (1..records.len()).collect();
    for page_bits in 1..=3 {
        let (whole, joined, _) = block_on(roots(&records, &cuts, page_bits));
        assert_eq!(whole, joined, "{page_bits} bits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_the_wrong_order_are_refused() {
    let vault = vault().await;
    let writer = Arc::new(ChunkWriter::new(&vault).unwrap());
    let records = records(50, 3);
    let mut parts = parts(&vault, 2, &[&records[..20], &records[20..]], &writer).await;
    let mut joined = empty(&vault, 2);
    joined.append(parts.remove(1), &writer).await.unwrap();
    assert!(joined.append(parts.remove(0), &writer).await.is_err());
}

/// What a part holds in memory is a few pages, not its records.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_many_records_keeps_few_of_them() {
    let vault = vault().await;
    let writer = Arc::new(ChunkWriter::new(&vault).unwrap());
    let mut part = ManifestPart::before(empty(&vault, 3));
    for record in records(5_000, 11) {
        part.push(record, &writer).await.unwrap();
        assert!(part.kept_entries() < 500, "{} entries are kept", part.kept_entries());
    }
    assert!(part.totals().blobs > 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_between_others_is_cut_into_about_equal_shares() {
    let vault = vault().await;
    let writer = Arc::new(ChunkWriter::new(&vault).unwrap());
    let mut manifest = ManifestWriter::new(&vault.keys.id_key);
    for container in ["a", "b", "c"] {
        for number in 0..6_000 {
            let name = format!("{number:05}");
            let entry = BlobEntry { container: container.into(), name, ..BlobEntry::default() };
            manifest.push(Record::Blob(Item { entry, ..Item::default() }), &writer).await.unwrap();
        }
    }
    let root = manifest.finish(&writer).await.unwrap();
    writer.flush().await.unwrap();
    let cut =
        async |container, shares, at_least| share(&vault.reader, &root, container, shares, at_least).await.unwrap();
    for container in ["a", "b", "c"] {
        let shares = cut(container, 4, 5_000).await;
        let edges: Vec<u32> = shares.names.iter().map(|name| name.parse().unwrap()).collect();
        assert!(edges.is_sorted() && (2..=3).contains(&edges.len()), "{container}: {edges:?}");
        let all: Vec<u32> = [0].into_iter().chain(edges).chain([6_000]).collect();
        assert!(all.windows(2).all(|edge| (500..3_500).contains(&(edge[1] - edge[0]))), "{container}: {all:?}");
        // The pages at both ends hold blobs of the neighbours, too.
        assert!((6_000..8_000).contains(&shares.blobs), "{container}: {}", shares.blobs);
    }
    for nothing in [cut("b", 1, 0).await, cut("b", 4, 10_000).await, cut("bb", 4, 5_000).await] {
        assert_eq!(nothing, Shares::default());
    }
}
