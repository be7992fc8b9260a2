//! Arbitrary bytes and mutated files in every stored format: reading ends with an error or gives exactly what was written, and never with
//! a panic or a huge allocation.
//!
//! Two kinds of properties. Whoever has no key can only damage sealed bytes: then every file of a vault is mutated as it lies in the store.
//! Whoever has a writer's keys can seal what they like: then arbitrary content goes behind right seals, and nothing may panic.

#![allow(clippy::unwrap_used)]

mod mutation;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::{ChunkSizes, chunk_id};
use blobkeep_vault::item::ChunkId;
use blobkeep_vault::manifest::{ManifestReader, Record, Root, Totals};
use blobkeep_vault::pack::{self, FrameEntry, HEADER_BYTES, PackId, PackKind};
use blobkeep_vault::point::{Point, Progress};
use blobkeep_vault::read::encode_list;
use blobkeep_vault::seal::{Sealer, SecretKey, seal_record};
use blobkeep_vault::state::Chain;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::write::ChunkWriter;
use blobkeep_vault::{Content, Error, MasterKey, Timestamp, Unwatched, Vault};
use bytes::Bytes;
use mutation::{Mutation, near};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const INSTANCE: &str = "inst";

// --- a small vault with every kind of file ---------------------------------------------------------------------------

struct Sample {
    files: Vec<(String, Bytes)>,
    master: MasterKey,
    content: String,
}

impl Sample {
    fn get() -> &'static Self {
        static SAMPLE: OnceLock<Sample> = OnceLock::new();
        SAMPLE.get_or_init(|| run(Self::make()))
    }

    async fn make() -> Self {
        let (store, master) = (Arc::new(MemoryStore::default()), MasterKey::generate().unwrap());
        let clock = ManualClock::at_seconds(1_800_000_000);
        let sizes = ChunkSizes { min_bytes: 64, average_bytes: 256, max_bytes: 1024 };
        let vault = Vault::init(store.clone(), &master, sizes, Timestamp(1)).await.unwrap();
        let account = MemoryAccount::new();
        for number in 0..20_u32 {
            account.put("c", &format!("{number}"), vec![number as u8; number as usize * 10]);
        }
        let large: Vec<u8> = (0..4_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        account.put("d", "a tree of lists", large);
        for job in ["first", "second"] {
            clock.advance_seconds(60);
            account.put("c", job, job.as_bytes().to_vec());
            let options = BackupOptions::new(INSTANCE, job);
            backup::run(&vault, Arc::new(account.clone()), &options, &clock, &Unwatched).await.unwrap();
        }
        let root = Point::get(&vault, INSTANCE, "second").await.unwrap().root;
        let progress = Progress { registered: 1, root, counts: Default::default(), at_source: false };
        progress.put(&vault, INSTANCE, "third", 1).await.unwrap();
        let content = read_all(store.clone(), &master).await.unwrap();
        Self { files: store.files(), master, content }
    }

    /// The same vault in a store of its own.
    fn store(&self) -> Arc<MemoryStore> {
        let store = MemoryStore::default();
        for (name, file) in &self.files {
            store.replace(name, file.clone());
        }
        Arc::new(store)
    }

    async fn open(&self) -> (Arc<MemoryStore>, Vault) {
        let store = self.store();
        (store.clone(), Vault::open(store, &self.master).await.unwrap())
    }

    fn name_of(&self, folder: &str) -> String {
        self.files.iter().map(|(name, _)| name).rfind(|name| name.starts_with(folder)).unwrap().clone()
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let build =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(4).enable_time().build();
    RUNTIME.get_or_init(|| build().unwrap()).block_on(work)
}

/// Does something with the sample, whose making wants the runtime for itself.
fn with_sample<T>(work: impl AsyncFnOnce(&'static Sample) -> T) -> T {
    let sample = Sample::get();
    run(work(sample))
}

/// Everything that a vault holds, as text: equal vaults have equal texts.
async fn read_all(store: Arc<MemoryStore>, master: &MasterKey) -> Result<String, Error> {
    let vault = Vault::open(store, master).await?;
    let mut text = format!("{:?}\n", vault.header);
    text += &format!("{:?}\n", Chain::vault(&vault).load_and_check_all().await?);
    for instance in Chain::instances(&vault).await? {
        let state = Chain::instance(&vault, &instance)?.load_and_check_all().await?;
        text += &format!("{state:?}\n");
        for point in &state.points {
            let point = Point::get(&vault, &instance, &point.job).await?;
            text += &format!("{point:?} {:?}\n", point.skipped(&vault, 10).await?);
            text += &read_manifest(&vault, &point.root).await?;
        }
        for job in Progress::jobs(&vault, &instance).await? {
            text += &format!("{:?}\n", Progress::latest(&vault, &instance, &job).await?);
        }
    }
    Ok(text)
}

async fn read_manifest(vault: &Vault, root: &Root) -> Result<String, Error> {
    let (mut text, mut manifest) = (String::new(), ManifestReader::new(&vault.reader, root, None));
    while let Some(record) = manifest.next().await? {
        text += &format!("{record:?}\n");
        if let Record::Blob(item) = record {
            text += &format!("{}\n", blake3::hash(&read_content(vault, &item.content).await?));
        }
    }
    Ok(text)
}

async fn read_content(vault: &Vault, content: &Content) -> Result<Vec<u8>, Error> {
    let (mut bytes, mut chunks) = (Vec::new(), vault.reader.content(content));
    while let Some(id) = chunks.next().await? {
        bytes.extend_from_slice(&vault.reader.page(id).await?);
    }
    Ok(bytes)
}

/// Reads and verifies whatever that makes of it, where only a panic is a fault; what was read, if it could be.
async fn survive(store: Arc<MemoryStore>, master: &MasterKey) -> Option<String> {
    let content = read_all(store.clone(), master).await.ok();
    if let Ok(vault) = Vault::open(store, master).await {
        let _ = verify::run(&vault, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await;
    }
    content
}

/// Nobody ever set aside what was merely announced: lengths of 4 GiB reach the decoders all the time. What the process has of addresses
/// apart from that are stacks and arenas of its threads.
fn assert_small_peak() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmPeak:")) else { return };
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 3584 << 10, "the process had {kib} KiB of addresses at its peak");
}

const FOLDERS: &[&str] =
    &["keys/", "packs/00/", "index/", "points/inst/", "state/inst/", "state/vault/", "progress/inst/third/"];

// --- mutations -------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_an_error_or_changes_nothing(file in any::<Index>(), mutation in Mutation::any()) {
        let sample = Sample::get();
        let (name, original) = file.get(&sample.files);
        let store = sample.store();
        store.replace(name, mutation.apply(original));
        if let Some(content) = run(survive(store, &sample.master)) {
            prop_assert_eq!(&content, &sample.content, "{} was changed by {:?}", name, mutation);
        }
        assert_small_peak();
    }

    #[test]
    fn a_file_that_does_not_belong_there_is_an_error_or_changes_nothing(
        folder in proptest::sample::select(FOLDERS),
        name in "[0-9a-f]{1,34}|00000000[0-9]{2}|18446744073709551615",
        like in any::<Index>(),
        mutation in Mutation::any(),
    ) {
        let sample = Sample::get();
        let (store, name) = (sample.store(), format!("{folder}{name}"));
        let is_new = sample.files.iter().all(|(taken, _)| *taken != name);
        store.replace(&name, mutation.apply(&like.get(&sample.files).1));
        if let (Some(content), true) = (run(survive(store, &sample.master)), is_new) {
            prop_assert_eq!(&content, &sample.content, "{} was taken in", name);
        }
        assert_small_peak();
    }
}

/// The listing ends with it, and it has the number of a record that is there.
#[test]
fn a_file_named_by_a_number_of_another_length_does_not_hide_the_records_after_it() {
    let sample = Sample::get();
    for name in ["state/inst/1", "state/inst/01", "state/vault/1"] {
        let store = sample.store();
        store.replace(name, b"something".to_vec());
        assert_eq!(run(survive(store, &sample.master)), None, "{name} was taken in");
    }
}

// --- behind right seals ----------------------------------------------------------------------------------------------

fn open_record(vault: &Vault, store: &MemoryStore, name: &str) -> Vec<u8> {
    let (_, file) = store.files().into_iter().find(|(found, _)| found == name).unwrap();
    blobkeep_vault::seal::open_record(&vault.keys.meta_key, name, &file).unwrap()
}

/// A sealed JSON record whose text is changed.
fn check_record(folder: &'static str, mutations: &[Mutation]) {
    with_sample(async |sample| {
        let (store, vault) = sample.open().await;
        let name = sample.name_of(folder);
        let text = open_record(&vault, &store, &name);
        let text = mutations.iter().fold(text, |text, mutation| mutation.apply(&text));
        store.replace(&name, seal_record(&vault.keys.meta_key, &name, &text).unwrap());
        survive(store, &sample.master).await;
    });
    assert_small_peak();
}

/// A metadata chunk of these bytes, in the vault by all rules.
async fn put_chunk(vault: &Vault, bytes: Vec<u8>) -> ChunkId {
    let writer = Arc::new(ChunkWriter::new(vault).unwrap());
    let id = writer.put(PackKind::Metadata, Bytes::from(bytes)).await.unwrap();
    writer.flush().await.unwrap();
    id
}

fn valid_page() -> Vec<u8> {
    with_sample(async |sample| {
        let (_, vault) = sample.open().await;
        let root = Point::get(&vault, INSTANCE, "second").await.unwrap().root;
        vault.reader.page(root.page.unwrap()).await.unwrap().to_vec()
    })
}

fn valid_header() -> Vec<u8> {
    Sample::get().files.iter().find(|(name, _)| name == "vault.json").unwrap().1.to_vec()
}

/// A pack of one kind with these frames and this footer, all sealed as they should be.
fn sealed_pack(
    vault: &Vault,
    id: PackId,
    kind: PackKind,
    frames: &[Vec<u8>],
    footer: impl FnOnce(Vec<FrameEntry>) -> Vec<u8>,
) -> Vec<u8> {
    let (kind, (key, wrapped)) = match kind {
        PackKind::Content => (0, vault.keys.new_content_key().unwrap()),
        PackKind::Metadata => (1, vault.keys.new_metadata_key().unwrap()),
    };
    let mut file = [b"BKPACK01".as_slice(), &[kind], &wrapped].concat();
    let sealer = Sealer::new(&key).unwrap();
    let mut entries = Vec::new();
    for frame in frames {
        let (offset, mut piece) = (file.len() as u32, frame.clone());
        sealer.seal(u64::from(offset), &id.0, &mut piece).unwrap();
        let content = frame.get(1..).unwrap_or_default();
        let chunks = vec![(chunk_id(&vault.keys.id_key, content), content.len() as u32)];
        entries.push(FrameEntry { offset, sealed_bytes: piece.len() as u32, chunks });
        file.extend_from_slice(&piece);
    }
    let mut footer = footer(entries);
    let key = vault.keys.meta_key.derive("blobkeep 1 pack footer", &id.0);
    Sealer::new(&key).unwrap().seal(file.len() as u64, &file[..HEADER_BYTES], &mut footer).unwrap();
    file.extend_from_slice(&footer);
    file.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    file.extend_from_slice(b"BKPE");
    file
}

/// An index run with one block of these bytes and this fence table, sealed as it should be.
fn sealed_run(meta_key: &SecretKey, name: &str, block: &[u8], fences: impl FnOnce(u64, u32) -> Vec<u8>) -> Vec<u8> {
    let salt = [7; 32];
    let sealer = Sealer::new(&meta_key.derive("blobkeep 1 index run", &salt)).unwrap();
    let mut file = [b"BKINDEX1".as_slice(), &salt].concat();
    let (offset, mut piece) = (file.len() as u64, block.to_vec());
    sealer.seal(offset, name.as_bytes(), &mut piece).unwrap();
    let mut table = fences(offset, piece.len() as u32);
    file.extend_from_slice(&piece);
    sealer.seal(file.len() as u64, name.as_bytes(), &mut table).unwrap();
    file.extend_from_slice(&table);
    file.extend_from_slice(&(table.len() as u32).to_le_bytes());
    file.extend_from_slice(b"BKIE");
    file
}

/// Opens the vault with one more index run, and reads and looks for all that it names.
fn check_run(block: &[u8], wanted: ChunkId, fences: impl FnOnce(u64, u32) -> Vec<u8>) {
    with_sample(async |sample| {
        let (store, vault) = sample.open().await;
        let name = "index/ffffffffffffffffffffffffffffffff";
        store.replace(name, sealed_run(&vault.keys.meta_key, name, block, fences));
        survive(store.clone(), &sample.master).await;
        let vault = Vault::open(store, &sample.master).await.unwrap();
        let _ = vault.index.find(wanted).await;
        let _ = vault.reader.page(wanted).await;
    });
    assert_small_peak();
}

/// Numbers at the ends of their range are the ones that overflow.
fn edge() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), Just(HEADER_BYTES as u32), 0..2000_u32, any::<u32>()]
}

fn edge_of_file() -> impl Strategy<Value = u64> {
    prop_oneof![Just(u64::MAX), any::<u64>(), 0..100_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_of_a_point_is_survived(mutations in vec(Mutation::any(), 1..4)) {
        check_record("points/", &mutations);
    }

    #[test]
    fn any_text_of_a_state_record_is_survived(mutations in vec(Mutation::any(), 1..4)) {
        check_record("state/inst/", &mutations);
    }

    #[test]
    fn any_text_of_progress_is_survived(mutations in vec(Mutation::any(), 1..4)) {
        check_record("progress/", &mutations);
    }

    #[test]
    fn any_header_with_fitting_slots_is_survived(header in near(valid_header())) {
        with_sample(async |sample| {
            let (store, vault) = sample.open().await;
            for (name, _) in sample.files.iter().filter(|(name, _)| name.starts_with("keys/")) {
                store.replace(name, vault.keys.wrap(&sample.master, &header).unwrap());
            }
            store.replace("vault.json", header);
            survive(store, &sample.master).await;
        });
        assert_small_peak();
    }

    #[test]
    fn any_page_is_survived(page in near(valid_page())) {
        with_sample(async |sample| {
            let (_, vault) = sample.open().await;
            let page = Some(put_chunk(&vault, page).await);
            let _ = read_manifest(&vault, &Root { page, totals: Totals::default() }).await;
        });
        assert_small_peak();
    }

    #[test]
    fn any_list_at_any_depth_is_survived(
        list in near(encode_list(&[ChunkId([1; 32]), ChunkId([2; 32])])),
        depth in any::<u8>(),
    ) {
        with_sample(async |sample| {
            let (_, vault) = sample.open().await;
            let root = put_chunk(&vault, list).await;
            let above = put_chunk(&vault, encode_list(&[root, root]).to_vec()).await;
            for root in [root, above] {
                let _ = read_content(&vault, &Content::ChunkTree { root, depth }).await;
            }
        });
        assert_small_peak();
    }

    #[test]
    fn any_frame_is_survived(frames in vec(near(zstd_frame()), 1..3), kind in proptest::bool::ANY) {
        let kind = if kind { PackKind::Content } else { PackKind::Metadata };
        with_sample(async |sample| {
            let (_, vault) = sample.open().await;
            let id = PackId([3; 16]);
            let file = sealed_pack(&vault, id, kind, &frames, |entries| postcard::to_stdvec(&entries).unwrap());
            let _ = pack::check_file(&vault.keys, id, &file);
        });
        assert_small_peak();
    }

    #[test]
    fn any_footer_is_survived(
        made_up in vec((edge(), edge(), vec((any::<[u8; 32]>().prop_map(ChunkId), edge()), 0..4)), 0..4),
        announced in edge(),
        first_is_right in proptest::bool::ANY,
        mutation in proptest::option::of(Mutation::any()),
    ) {
        with_sample(async |sample| {
            let (_, vault) = sample.open().await;
            let id = PackId([3; 16]);
            let file = sealed_pack(&vault, id, PackKind::Content, &[announcing_frame(announced)], |mut frames| {
                frames[0].chunks[0].1 = announced;
                frames.truncate(usize::from(first_is_right));
                for (offset, sealed_bytes, chunks) in made_up {
                    frames.push(FrameEntry { offset, sealed_bytes, chunks });
                }
                let footer = postcard::to_stdvec(&frames).unwrap();
                mutation.map_or(footer.clone(), |mutation| mutation.apply(&footer))
            });
            let _ = pack::check_file(&vault.keys, id, &file);
            if let Ok(Ok(frames)) = pack::read_footer(&vault.keys, id, &file, &file, file.len() as u64) {
                let _ = frames.iter().flat_map(|frame| frame.locations(id)).count();
            }
        });
        assert_small_peak();
    }

    #[test]
    fn any_entry_of_an_index_is_survived(
        id in any::<[u8; 32]>(),
        pack in any::<Index>(),
        numbers in [edge(), edge(), edge(), edge()],
        rest in prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..70)],
    ) {
        let packs: Vec<PackId> =
            Sample::get().files.iter().filter_map(|(name, _)| PackId::from_file_name(name)).collect();
        let mut block = [id.as_slice(), &pack.get(&packs).0].concat();
        block.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        block.extend(rest);
        check_run(&block, ChunkId(id), |offset, length| {
            postcard::to_stdvec(&vec![(ChunkId([0; 32]), offset, length)]).unwrap()
        });
    }

    #[test]
    fn any_fence_of_an_index_is_survived(
        fences in vec((any::<[u8; 32]>().prop_map(ChunkId), edge_of_file(), edge()), 0..4),
        mutation in proptest::option::of(Mutation::any()),
    ) {
        check_run(&[5; 64], ChunkId([0xff; 32]), |_, _| {
            let table = postcard::to_stdvec(&fences).unwrap();
            mutation.as_ref().map_or(table.clone(), |mutation| mutation.apply(&table))
        });
    }
}

/// The plaintext of a compressed frame.
fn zstd_frame() -> Vec<u8> {
    let mut frame = vec![1];
    frame.extend(zstd::bulk::compress(&[42; 5000], 3).unwrap());
    frame
}

/// A compressed frame that says that it is much longer than it is: one raw block of three bytes.
fn announcing_frame(length: u32) -> Vec<u8> {
    let magic_and_eight_bytes_of_length = [0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    let last_raw_block = [0x19, 0, 0, b'a', b'b', b'c'];
    [&[1], magic_and_eight_bytes_of_length.as_slice(), &u64::from(length).to_le_bytes(), &last_raw_block].concat()
}
