//! Arbitrary bytes in the segments of journals: reading ends with an error or gives exactly what was written, and never with a panic or a
//! huge allocation. See `fuzz_formats` for the two kinds of properties.

#![allow(clippy::unwrap_used)]

mod continuous;
mod mutation;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use blobkeep_testkit::versioned::VersionedAccount;
use blobkeep_vault::journal;
use blobkeep_vault::restore::{self, InPlaceOptions, InPlacePlan, Instant};
use blobkeep_vault::seal::{open_record, seal_record};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{Clock, Error, MasterKey, Timestamp, Unwatched, Vault};
use bytes::Bytes;
use continuous::{Continuous, INSTANCE};
use mutation::{Mutation, near};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A vault with a journal of three segments, and its account.
struct Sample {
    files: Vec<(String, Bytes)>,
    master: MasterKey,
    account: VersionedAccount,
    at: Timestamp,
    plan: InPlacePlan,
}

fn run<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let build =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(4).enable_time().build();
    RUNTIME.get_or_init(|| build().unwrap()).block_on(work)
}

impl Sample {
    fn get() -> &'static Self {
        static SAMPLE: OnceLock<Sample> = OnceLock::new();
        SAMPLE.get_or_init(|| run(Self::make()))
    }

    async fn make() -> Self {
        let world = Continuous::new().await;
        world.account.put("c", "one", "first");
        world.base("base").await;
        for number in 0..3 {
            world.account.put("c", "one", format!("{number}"));
            world.account.put(&format!("c{number}"), "new", "x");
            world.account.remove("c0", "new");
            world.look().await;
        }
        let (at, files) = (world.clock.now(), world.files.files());
        world.account.put("c", "one", "later");
        let plan = world.plan(at, &[]).await.unwrap();
        Self { files, master: world.master.clone(), account: world.account.clone(), at, plan }
    }

    fn store(&self) -> Arc<MemoryStore> {
        let store = MemoryStore::default();
        for (name, file) in &self.files {
            store.replace(name, file.clone());
        }
        Arc::new(store)
    }

    fn segments(&self) -> Vec<&(String, Bytes)> {
        self.files.iter().filter(|(name, _)| name.starts_with("journal/")).collect()
    }

    /// What a restore would do with these files, after everything else that reads journals was done.
    async fn plan(&self, store: Arc<MemoryStore>) -> Result<InPlacePlan, Error> {
        let vault = Vault::open(store, &self.master).await?;
        let _ = verify::run(&vault, Depth::Structure, &SeenNumbers::new(), &Unwatched).await;
        let _ = journal::end(&vault, INSTANCE).await;
        let options = InPlaceOptions { ranges: vec![], is_whole_account: false, scratch: std::env::temp_dir() };
        let instant = Instant::At { instance: INSTANCE, at: self.at };
        restore::plan_in_place(&vault, instant, Arc::new(self.account.clone()), &options, &Unwatched).await
    }
}

/// What is announced is never set aside: see `fuzz_formats`.
fn assert_small_peak() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmPeak:")) else { return };
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 3584 << 10, "the process had {kib} KiB of addresses at its peak");
}

/// The plaintext of the second segment.
fn valid_segment() -> Vec<u8> {
    let sample = Sample::get();
    let (name, file) = sample.segments()[1];
    let vault = run(Vault::open(sample.store(), &sample.master)).unwrap();
    let compressed = open_record(&vault.keys.meta_key, name, file).unwrap();
    zstd::bulk::decompress(&compressed, 1 << 20).unwrap()
}

/// Puts this in the place of the second segment, sealed as it should be.
fn check_compressed(compressed: &[u8]) {
    let sample = Sample::get();
    let name = &sample.segments()[1].0;
    run(async {
        let store = sample.store();
        let vault = Vault::open(store.clone(), &sample.master).await.unwrap();
        store.replace(name, seal_record(&vault.keys.meta_key, name, compressed).unwrap());
        let _ = sample.plan(store).await;
    });
    assert_small_peak();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_segment_is_an_error_or_changes_nothing(segment in any::<Index>(), mutation in Mutation::any()) {
        let sample = Sample::get();
        let segments = sample.segments();
        let (name, original) = segment.get(&segments);
        let (store, mutated) = (sample.store(), mutation.apply(original));
        let is_changed = mutated != *original;
        store.replace(name, mutated);
        match run(sample.plan(store)) {
            Ok(plan) => prop_assert_eq!((&plan, is_changed), (&sample.plan, false), "{} by {:?}", name, mutation),
            Err(e) => prop_assert!(e.to_string().contains(name.as_str()), "{}", e),
        }
    }

    #[test]
    fn a_file_that_does_not_belong_to_a_journal_is_an_error_or_changes_nothing(
        name in "[0-9a-f]{1,34}|00000000[0-9]{2}|18446744073709551615",
        like in any::<Index>(),
    ) {
        let sample = Sample::get();
        let (store, name) = (sample.store(), format!("journal/{INSTANCE}/base/{name}"));
        if sample.files.iter().any(|(taken, _)| *taken == name) {
            return Ok(());
        }
        store.replace(&name, like.get(&sample.files).1.clone());
        if let Ok(plan) = run(sample.plan(store)) {
            prop_assert_eq!(&plan, &sample.plan, "{} was taken in", name);
        }
    }

    #[test]
    fn any_plaintext_of_a_segment_is_survived(plaintext in near(valid_segment())) {
        check_compressed(&zstd::bulk::compress(&plaintext, 3).unwrap());
    }

    #[test]
    fn any_compressed_segment_is_survived(compressed in near(zstd::bulk::compress(&valid_segment(), 3).unwrap())) {
        check_compressed(&compressed);
    }

    #[test]
    fn what_a_segment_announces_is_not_believed(length in any::<u64>(), count in vec(any::<u8>(), 0..12)) {
        let magic_and_eight_bytes_of_length = [0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        let last_raw_block = [0x19, 0, 0, b'a', b'b', b'c'];
        check_compressed(&[magic_and_eight_bytes_of_length.as_slice(), &length.to_le_bytes(), &last_raw_block].concat());
        // Lists that are said to be long: the numbers stand where those of a segment do.
        let plaintext = [[1, 2].as_slice(), &[7; 32], &count].concat();
        check_compressed(&zstd::bulk::compress(&plaintext, 3).unwrap());
    }
}
