//! An account that keeps versions, a vault in memory, and one who watches the account: what the stories of continuous backup begin with.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::versioned::{Key, VersionedAccount};
use blobkeep_vault::backup::{self, BackupOptions, BackupReport};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::journal::{self, AppendReport, JournalEnd};
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, InPlaceOptions, InPlacePlan, Instant, NameRange, NoJournal, RestoreState};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers, VerifyReport};
use blobkeep_vault::{BlobEntry, Clock, Error, MasterKey, Monitor, Source, Timestamp, Unwatched, Vault};
use bytes::Bytes;

pub const INSTANCE: &str = "inst";

/// Blobs by container and name.
pub type Blobs = BTreeMap<Key, (BlobEntry, Bytes)>;

pub struct Continuous {
    pub files: Arc<MemoryStore>,
    pub master: MasterKey,
    pub clock: Arc<ManualClock>,
    pub account: VersionedAccount,
}

impl Continuous {
    pub async fn new() -> Self {
        let clock = Arc::new(ManualClock::at_seconds(1_800_000_000));
        let account = VersionedAccount::new(clock.clone());
        let world = Self { files: Arc::default(), master: MasterKey::generate().unwrap(), clock, account };
        let sizes = ChunkSizes { min_bytes: 4 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 };
        Vault::init(world.files.clone(), &world.master, sizes, Timestamp(1)).await.unwrap();
        world
    }

    pub async fn vault(&self) -> Vault {
        Vault::open(self.files.clone(), &self.master).await.unwrap()
    }

    /// Time goes by.
    pub fn later(&self) -> Timestamp {
        self.clock.advance_seconds(60);
        self.clock.now()
    }

    /// A base point that goes on from the journal before.
    pub async fn base(&self, job: &str) -> BackupReport {
        self.base_with(BackupOptions::new(INSTANCE, job), &Unwatched).await.unwrap()
    }

    pub async fn base_with(&self, options: BackupOptions, monitor: &dyn Monitor) -> Result<BackupReport, Error> {
        let vault = self.vault().await;
        let position = match journal::end(&vault, INSTANCE).await {
            Ok(Some(end)) => end.position,
            _ => self.account.feed().await.unwrap().unwrap(),
        };
        let options = BackupOptions { at_source: Some(position), ..options };
        let source = Arc::new(self.account.clone());
        let report = backup::run(&vault, source, &options, self.clock.as_ref(), monitor).await?;
        self.clock.advance_micros(1);
        Ok(report)
    }

    /// A backup of content.
    pub async fn back_up(&self, job: &str) -> BackupReport {
        let options = BackupOptions::new(INSTANCE, job);
        let source = Arc::new(self.account.clone());
        backup::run(&self.vault().await, source, &options, self.clock.as_ref(), &Unwatched).await.unwrap()
    }

    /// Reads the feed to its end.
    pub async fn look(&self) -> (JournalEnd, AppendReport) {
        let vault = self.vault().await;
        let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
        let mut report = AppendReport::default();
        loop {
            let page = self.account.changes(&end.position.cursor).await.unwrap();
            let appended = journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
            report.segments += appended.segments;
            report.changes += appended.changes;
            report.bytes += appended.bytes;
            if page.is_last {
                return (end, report);
            }
        }
    }

    pub fn in_place(ranges: &[NameRange]) -> InPlaceOptions {
        InPlaceOptions { ranges: ranges.to_vec(), is_whole_account: false, scratch: std::env::temp_dir() }
    }

    pub async fn plan(&self, at: Timestamp, ranges: &[NameRange]) -> Result<InPlacePlan, Error> {
        let (vault, source, options) = (self.vault().await, Arc::new(self.account.clone()), Self::in_place(ranges));
        let instant = Instant::At { instance: INSTANCE, at };
        restore::plan_in_place(&vault, instant, source, &options, &Unwatched).await
    }

    pub async fn restore(&self, at: Timestamp, ranges: &[NameRange]) -> Result<RestoreState, Error> {
        self.restore_from(at, ranges, RestoreState::default(), &NoJournal, &Unwatched).await
    }

    pub async fn restore_from(
        &self,
        at: Timestamp,
        ranges: &[NameRange],
        state: RestoreState,
        journal: &dyn restore::Journal,
        monitor: &dyn Monitor,
    ) -> Result<RestoreState, Error> {
        let (vault, account, options) = (self.vault().await, Arc::new(self.account.clone()), Self::in_place(ranges));
        let instant = Instant::At { instance: INSTANCE, at };
        restore::run_in_place(&vault, instant, account.clone(), account, &options, state, journal, monitor).await
    }

    pub async fn point(&self, job: &str) -> Point {
        Point::get(&self.vault().await, INSTANCE, job).await.unwrap()
    }

    pub async fn verify(&self) -> VerifyReport {
        verify::run(&self.vault().await, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap()
    }

    pub async fn assert_sound(&self) {
        let report = self.verify().await;
        assert!(report.is_sound(), "{:?} {:?}", report.damage, report.losses);
    }

    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.files.files().into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect()
    }

    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        self.account.blobs().into_iter().map(|(key, (_, content))| (key, content)).collect()
    }
}

pub fn key(container: &str, name: &str) -> Key {
    (container.to_owned(), name.to_owned())
}

/// An account of three blobs with a base point, and the instant after it.
pub async fn protected() -> (Continuous, Timestamp) {
    let world = Continuous::new().await;
    world.account.put("c", "one", "first");
    world.account.put("c", "two", "second");
    world.account.put("d", "empty", "");
    world.later();
    world.base("base-1").await;
    world.look().await;
    let at = world.later();
    (world, at)
}
