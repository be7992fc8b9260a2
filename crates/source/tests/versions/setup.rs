//! An emulator that keeps versions and writes a feed, and what tests do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use blobkeep_emulator::{Emulator, EmulatorOptions};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::source::{BlobChange, FeedPosition};
use blobkeep_vault::{BlobEntry, OnConflict, Source, Target, Written};
use bytes::Bytes;

pub(crate) const ACCOUNT: &str = "devstoreaccount1";

/// A quarter to an hour.
const START_US: i64 = 1_800_002_700_000_000;

/// An emulator, and an account of it by its key.
pub(crate) struct Setup {
    pub(crate) emulator: Emulator,
    pub(crate) account: AzureAccount,
    /// Microseconds; every look at it takes a millisecond.
    pub(crate) clock: Arc<AtomicI64>,
}

pub(crate) async fn setup_with(versioning: bool, change_feed: bool) -> Setup {
    let clock = Arc::new(AtomicI64::new(START_US));
    let seen = clock.clone();
    let options = EmulatorOptions {
        versioning,
        change_feed,
        clock: Arc::new(move || seen.fetch_add(1_000, Ordering::SeqCst)),
        ..EmulatorOptions::default()
    };
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    emulator.create_container(ACCOUNT, "photos").unwrap();
    let account = by_key(&emulator);
    Setup { emulator, account, clock }
}

pub(crate) async fn setup() -> Setup {
    setup_with(true, true).await
}

pub(crate) fn quick(mut options: AzureOptions) -> AzureAccount {
    options.first_delay = Duration::from_millis(1);
    options.longest_delay = Duration::from_millis(5);
    AzureAccount::new(options).unwrap()
}

pub(crate) fn by_key(emulator: &Emulator) -> AzureAccount {
    quick(AzureOptions::from_connection_string(&emulator.connection_string(ACCOUNT)).unwrap())
}

pub(crate) fn by_sas(emulator: &Emulator, permissions: &str) -> AzureAccount {
    let sas = emulator.sas(ACCOUNT, permissions);
    let url = format!("{}?{}", emulator.account_url(ACCOUNT), sas.trim_start_matches('?'));
    quick(AzureOptions::from_url(&url, None, None).unwrap())
}

pub(crate) fn entry(name: &str) -> BlobEntry {
    BlobEntry { container: "photos".into(), name: name.into(), ..BlobEntry::default() }
}

impl Setup {
    pub(crate) async fn put(&self, entry: &BlobEntry, content: &str) -> BlobEntry {
        let entry = BlobEntry { size_bytes: content.len() as u64, ..entry.clone() };
        let content = Bytes::copy_from_slice(content.as_bytes());
        self.account.write_whole(&entry, content, OnConflict::Overwrite).await.unwrap();
        self.now(&entry.name).await
    }

    /// The present state of a blob, with its version.
    pub(crate) async fn now(&self, name: &str) -> BlobEntry {
        let account = by_key(&self.emulator);
        account.feed().await.unwrap().unwrap();
        account.entry("photos", name).await.unwrap().unwrap()
    }

    /// Overwrites it by another client's means: `change` makes it a blob that has the same content and version, with other tags, tier or headers.
    pub(crate) async fn adjust(&self, wanted: &BlobEntry) {
        let live = self.now(&wanted.name).await;
        let version = live.current_version.clone().unwrap();
        let wanted = BlobEntry { etag: String::new(), ..wanted.clone() };
        assert_eq!(self.account.copy_version(&wanted, &version, Some(&live)).await.unwrap(), written());
    }

    pub(crate) async fn delete(&self, name: &str) {
        let live = self.now(name).await;
        assert!(self.account.delete(&live).await.unwrap());
    }

    pub(crate) async fn content(&self, name: &str) -> Bytes {
        let entry = self.now(name).await;
        self.account.read(&entry, 0..entry.size_bytes).await.unwrap()
    }

    pub(crate) async fn changes_after(&self, position: &FeedPosition) -> (Vec<BlobChange>, FeedPosition) {
        let (mut changes, mut position) = (Vec::new(), position.clone());
        loop {
            let page = self.account.changes(&position.cursor).await.unwrap();
            assert!(page.changes.len() <= 5_000 && page.next.complete_until >= position.complete_until);
            changes.extend(page.changes);
            position = page.next;
            if page.is_last {
                return (changes, position);
            }
        }
    }

    pub(crate) async fn end(&self) -> FeedPosition {
        self.account.feed().await.unwrap().unwrap()
    }

    /// Requests since the last time.
    pub(crate) fn requests(&self) -> Vec<&'static str> {
        let requests = self.emulator.requests().iter().map(|request| request.operation).collect();
        self.emulator.clear_requests();
        requests
    }
}

pub(crate) fn written() -> Written {
    Written::Written { lost: Vec::new() }
}
