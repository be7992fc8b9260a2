//! A vault in memory, an account in memory, and a clock set by hand: what the stories of this folder begin with.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::fault::FaultStore;
use blobkeep_vault::backup::{self, BackupOptions, BackupReport};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{Error, MasterKey, Timestamp, Unwatched, Vault};
use bytes::Bytes;

pub struct World {
    pub files: Arc<MemoryStore>,
    pub store: Arc<FaultStore>,
    pub master: MasterKey,
    pub clock: ManualClock,
}

impl World {
    pub async fn new() -> Self {
        let files = Arc::new(MemoryStore::default());
        let world = Self {
            store: Arc::new(FaultStore::new(files.clone())),
            files,
            master: MasterKey::generate().unwrap(),
            clock: ManualClock::at_seconds(1_800_000_000),
        };
        Vault::init(world.store.clone(), &world.master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        world
    }

    pub async fn vault(&self) -> Vault {
        Vault::open(self.store.clone(), &self.master).await.unwrap()
    }

    pub async fn back_up(&self, account: &MemoryAccount, job: &str) -> Result<BackupReport, Error> {
        self.back_up_with(account, BackupOptions::new("inst", job)).await
    }

    pub async fn back_up_with(&self, account: &MemoryAccount, options: BackupOptions) -> Result<BackupReport, Error> {
        self.clock.advance_seconds(60);
        backup::run(&self.vault().await, Arc::new(account.clone()), &options, &self.clock, &Unwatched).await
    }

    pub async fn restore(
        &self,
        job: &str,
        target: &MemoryAccount,
        options: RestoreOptions,
    ) -> Result<RestoreState, Error> {
        let vault = self.vault().await;
        let point = blobkeep_vault::point::Point::get(&vault, "inst", job).await?;
        let target = Arc::new(target.clone());
        restore::run(&vault, &point, target, &options, RestoreState::default(), &NoJournal, &Unwatched).await
    }

    pub async fn restored(&self, job: &str) -> BTreeMap<(String, String), Bytes> {
        let target = MemoryAccount::new();
        self.restore(job, &target, RestoreOptions::default()).await.unwrap();
        target.contents()
    }

    pub async fn assert_sound(&self) {
        let report = verify::run(&self.vault().await, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap();
        assert_eq!(report.damage, Vec::<String>::new());
    }
}

pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// A few hundred blobs in three containers: empty, tiny, small, large, with odd names.
pub fn sample() -> MemoryAccount {
    let account = MemoryAccount::new().with_pages_of(37);
    for number in 0..300_u64 {
        let length = [0, 1, 100, 5_000, 70_000, 300_000][number as usize % 6];
        account.put(
            &format!("c{}", number % 2),
            &format!("deep/{}/blob {number} ü%25", number % 7),
            noise(length, number),
        );
    }
    account.put("large", "nine mebibytes", noise(9 << 20, 1));
    account.put("large", "forty mebibytes", noise(40 << 20, 2));
    account
}
