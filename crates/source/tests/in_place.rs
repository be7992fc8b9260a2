//! A restore in place of an account that keeps versions, through the real client, against the emulator.

// Helpers of tests, where a failure should stop the test at once.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use blobkeep_emulator::{Emulator, EmulatorOptions, SeedBlob, SyntheticSpec};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::journal;
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NoJournal, RestoreState};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::{BlobEntry, Clock, MasterKey, Source, Timestamp, Unwatched, Vault};
use bytes::Bytes;

const ACCOUNT: &str = "devstoreaccount1";
const CONTAINER: &str = "photos";
const INSTANCE: &str = "photos-of-everybody";
const BLOBS: usize = 10_000;

/// The endpoint's time, as it was when the account was looked at.
struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}

async fn listed(account: &AzureAccount) -> Vec<BlobEntry> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let page = account.list(CONTAINER, "", cursor.as_deref()).await.unwrap();
        entries.extend(page.entries);
        cursor = page.next;
        if cursor.is_none() {
            return entries;
        }
    }
}

/// Every hundredth blob with its content.
async fn samples(account: &AzureAccount) -> Vec<(String, Bytes)> {
    let mut samples = Vec::new();
    for entry in listed(account).await.iter().step_by(100) {
        samples.push((entry.name.clone(), account.read(entry, 0..entry.size_bytes).await.unwrap()));
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_blobs_come_back_by_copies_inside_the_account() {
    let options = EmulatorOptions {
        versioning: true,
        change_feed: true,
        recorded_requests: 4 * BLOBS,
        ..EmulatorOptions::default()
    };
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    emulator.create_container(ACCOUNT, CONTAINER).unwrap();
    let spec = SyntheticSpec { count: BLOBS as u64, min_bytes: 100, max_bytes: 2_000, ..SyntheticSpec::default() };
    emulator.add_synthetic(ACCOUNT, CONTAINER, spec).unwrap();
    let options = AzureOptions::from_connection_string(&emulator.connection_string(ACCOUNT)).unwrap();
    let account = Arc::new(AzureAccount::new(options).unwrap());
    let before = samples(&account).await;

    let master = MasterKey::generate().unwrap();
    let sizes = ChunkSizes { min_bytes: 4 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 };
    let vault = Vault::init(Arc::new(MemoryStore::default()), &master, sizes, Timestamp(1)).await.unwrap();
    let at_source = account.feed().await.unwrap();
    let clock = Stopped(at_source.as_ref().expect("the account keeps versions and writes a feed").complete_until);
    let base = BackupOptions { at_source, ..BackupOptions::new(INSTANCE, "base") };
    backup::run(&vault, account.clone(), &base, &clock, &Unwatched).await.unwrap();
    let end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let instant = account.changes(&end.position.cursor).await.unwrap().next.complete_until;

    for entry in listed(&account).await {
        emulator.put_blob(ACCOUNT, CONTAINER, &entry.name, SeedBlob::new("overwritten")).unwrap();
    }
    emulator.put_blob(ACCOUNT, CONTAINER, "made later", SeedBlob::new("new")).unwrap();
    emulator.clear_requests();
    let wanted = Instant::At { instance: INSTANCE, at: instant };
    let in_place = InPlaceOptions { ranges: Vec::new(), is_whole_account: false, scratch: std::env::temp_dir() };
    let state = RestoreState::default();
    let (source, target) = (account.clone(), account.clone());
    let state =
        restore::run_in_place(&vault, wanted, source, target, &in_place, state, &NoJournal, &Unwatched).await.unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.removed_blobs), (BLOBS as u64, 1));

    let requests = emulator.requests();
    let count = |operation: &str| requests.iter().filter(|request| request.operation == operation).count();
    assert_eq!(count("CopyBlob"), BLOBS);
    assert_eq!(count("GetBlob"), 0, "no content is read");
    assert_eq!(requests.iter().map(|request| request.request_bytes).sum::<u64>(), 0, "no content is sent");
    assert_eq!(samples(&account).await, before);
    assert_eq!(listed(&account).await.len(), BLOBS);
    emulator.stop().await;
}
