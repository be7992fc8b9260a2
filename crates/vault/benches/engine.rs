//! What the parts of the engine cost on one core, without disks and networks.
//!
//! `cargo bench -p blobkeep-vault --bench engine`, with a word such as `index` behind `--` for some of them.

#![allow(clippy::unwrap_used)]

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;

use blobkeep_vault::chunk::{ChunkSizes, Chunker, Cutter, chunk_id};
use blobkeep_vault::index::{Entry, Index, RUN_ENTRIES_AT_MOST};
use blobkeep_vault::item::ChunkId;
use blobkeep_vault::key::VaultKeys;
use blobkeep_vault::manifest::{ManifestReader, ManifestWriter, Record, Root};
use blobkeep_vault::pack::{Location, PackBuilder, PackId, PackKind, PreparedFrame, WriterId};
use blobkeep_vault::seal::SecretKey;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::write::ChunkWriter;
use blobkeep_vault::{BlobEntry, Content, Item, MasterKey, Timestamp, Vault};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use tokio::runtime::Runtime;

const MIB: usize = 1 << 20;
const INDEX_ENTRIES: u32 = 1_000_000;
const RECORDS: u32 = 10_000;

/// Bytes that cannot be compressed, the same for the same seed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines of a log, with words by chance.
fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "accepted", "backup", "closed", "disk", "error", "file", "gone", "host", "index", "job", "key", "listed",
        "mounted", "node", "opened", "point",
    ];
    let mut lines = Vec::with_capacity(length + 128);
    for piece in noise(0, length).chunks(8) {
        lines.extend_from_slice(format!("level=info id={:02x}{:02x}", piece[0], piece[1]).as_bytes());
        for byte in &piece[2..] {
            lines.push(b' ');
            lines.extend_from_slice(WORDS[usize::from(byte % 16)].as_bytes());
        }
        lines.push(b'\n');
        if lines.len() >= length {
            break;
        }
    }
    lines.truncate(length);
    lines
}

/// Cutting a large blob that arrives in pieces, and naming its chunks.
fn chunk(c: &mut Criterion) {
    let content = noise(1, 64 * MIB);
    let pieces: Vec<Bytes> = content.chunks(4 * MIB).map(Bytes::copy_from_slice).collect();
    let cutter = Cutter::new(ChunkSizes::default(), 7);
    let id_key = SecretKey::new([1; 32]);
    let cut = || {
        let mut chunker = Chunker::new(&cutter);
        let mut chunks: Vec<Bytes> = pieces.iter().flat_map(|piece| chunker.push(piece.clone())).collect();
        chunks.extend(chunker.finish(Bytes::new()));
        chunks
    };
    let name = |chunks: Vec<Bytes>| -> Vec<ChunkId> { chunks.iter().map(|chunk| chunk_id(&id_key, chunk)).collect() };
    let mut group = c.benchmark_group("chunk");
    group.sample_size(10).throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("cut", |b| b.iter(cut));
    group.bench_function("cut and name", |b| b.iter(|| name(cut())));
    group.finish();
}

/// Making a frame ready (compressing it where that helps) and sealing it into a pack.
fn seal(c: &mut Criterion) {
    let keys = VaultKeys::generate().unwrap();
    let new_pack = || PackBuilder::new(&keys, PackKind::Content, WriterId([0; 8])).unwrap();
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Bytes(MIB as u64));
    for (name, content) in [("text", Bytes::from(text(MIB))), ("noise", Bytes::from(noise(2, MIB)))] {
        let chunks = vec![(chunk_id(&keys.id_key, &content), MIB as u32)];
        let prepare = || PreparedFrame::new(content.clone(), chunks.clone()).unwrap();
        group.bench_function(format!("prepare {name}"), |b| b.iter(|| black_box(prepare())));
        let mut pack = new_pack();
        group.bench_function(format!("prepare and seal {name}"), |b| {
            b.iter(|| {
                // One pack takes many frames: its own cost must not count for each.
                if pack.is_full() {
                    pack = new_pack();
                }
                pack.add(prepare()).unwrap();
            });
        });
    }
    group.finish();
}

fn record(number: u32) -> Record {
    let id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let entry = BlobEntry {
        container: "documents".into(),
        name: format!("2026/{:03}/report-{number:08}.pdf", number / 1000),
        size_bytes: u64::from(number) * 17,
        etag: format!("0x8D{number:013X}"),
        content_md5: Some([number as u8; 16]),
        created_at: Timestamp(1_700_000_000_000_000 + i64::from(number)),
        modified_at: Timestamp(1_700_000_000_000_000 + i64::from(number)),
        ..BlobEntry::default()
    };
    Record::Blob(Item { entry, content: Content::Chunks(vec![id]) })
}

async fn vault() -> Vault {
    let (store, master) = (Arc::new(MemoryStore::default()), MasterKey::generate().unwrap());
    Vault::init(store, &master, ChunkSizes::default(), Timestamp(1)).await.unwrap()
}

async fn write_manifest(vault: &Vault, records: Vec<Record>) -> Root {
    let writer = Arc::new(ChunkWriter::new(vault).unwrap());
    let mut manifest = ManifestWriter::new(&vault.keys.id_key);
    for record in records {
        manifest.push(record, &writer).await.unwrap();
    }
    let root = manifest.finish(&writer).await.unwrap();
    writer.flush().await.unwrap();
    root
}

async fn read_manifest(vault: &Vault, root: &Root) -> u64 {
    let mut reader = ManifestReader::new(&vault.reader, root, None);
    let mut count = 0;
    while let Some(record) = reader.next().await.unwrap() {
        black_box(record);
        count += 1;
    }
    count
}

/// Pages of a manifest: encoded, sealed and put into a store in memory; and read from there.
fn page(c: &mut Criterion, runtime: &Runtime) {
    let records: Vec<Record> = (0..RECORDS).map(record).collect();
    let mut group = c.benchmark_group("page");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("encode", |b| {
        // Each time an empty vault: pages that it has already would not be written.
        b.iter_batched(
            || (runtime.block_on(vault()), records.clone()),
            |(vault, records)| runtime.block_on(write_manifest(&vault, records)),
            BatchSize::PerIteration,
        );
    });
    let vault = runtime.block_on(vault());
    let root = runtime.block_on(write_manifest(&vault, records));
    assert_eq!(runtime.block_on(read_manifest(&vault, &root)), u64::from(RECORDS));
    group.bench_function("decode", |b| b.iter(|| runtime.block_on(read_manifest(&vault, &root))));
    group.finish();
}

fn index_entry(number: u32) -> Entry {
    let location = Location {
        pack: PackId([number as u8; 16]),
        frame_offset: number,
        frame_bytes: 4096,
        inner_offset: 0,
        plain_bytes: 8192,
    };
    (ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()), location)
}

async fn filled_index() -> Index {
    let keys = Arc::new(VaultKeys::generate().unwrap());
    let index = Index::open(Arc::new(MemoryStore::default()), keys).await.unwrap();
    for start in (0..INDEX_ENTRIES).step_by(RUN_ENTRIES_AT_MOST) {
        let end = INDEX_ENTRIES.min(start + RUN_ENTRIES_AT_MOST as u32);
        index.add_run((start..end).map(index_entry).collect()).await.unwrap();
    }
    index
}

/// Looking for one chunk in an index of a million, in runs of the greatest size.
fn index(c: &mut Criterion, runtime: &Runtime) {
    let filled = OnceCell::new();
    // An odd step goes over all numbers in an order that no cache likes; those behind the last entry are absent.
    let mut numbers = (0_u32..).map(|turn| turn.wrapping_mul(7_368_787) % INDEX_ENTRIES);
    let mut find = |b: &mut criterion::Bencher<'_>, offset: u32, is_there: bool| {
        // Filled only if it is asked for.
        let index = filled.get_or_init(|| runtime.block_on(filled_index()));
        b.iter_batched(
            || index_entry(numbers.next().unwrap_or_default() + offset).0,
            |id| assert_eq!(runtime.block_on(index.find(id)).unwrap().is_some(), is_there),
            BatchSize::SmallInput,
        );
    };
    let mut group = c.benchmark_group("index");
    group.bench_function("find present", |b| find(b, 0, true));
    group.bench_function("find absent", |b| find(b, INDEX_ENTRIES, false));
    group.finish();
}

fn main() {
    // `cargo test` builds and runs every target; only `cargo bench` says this, and only then it is worth its time.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let mut criterion = Criterion::default().configure_from_args();
    chunk(&mut criterion);
    seal(&mut criterion);
    page(&mut criterion, &runtime);
    index(&mut criterion, &runtime);
    criterion.final_summary();
}
