//! A vault in memory with accounts to protect, shared by the tests of proof and repair.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions, BackupReport};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::item::Content;
use blobkeep_vault::manifest::{ManifestReader, Record};
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, ContainerSelection, NoJournal, RestoreOptions, RestoreState, Selection};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers, VerifyReport};
use blobkeep_vault::{Error, MasterKey, Store, Timestamp, Unwatched, Vault};
use bytes::Bytes;

/// Content by container and name.
pub type Contents = BTreeMap<(String, String), Bytes>;

pub struct World {
    pub files: Arc<MemoryStore>,
    pub master: MasterKey,
    pub clock: ManualClock,
}

impl World {
    /// A vault with small chunks, so that a small blob is a large one.
    pub async fn new() -> Self {
        Self::with_key(MasterKey::generate().unwrap()).await
    }

    pub async fn with_key(master: MasterKey) -> Self {
        let world = Self { files: Arc::default(), master, clock: ManualClock::at_seconds(1_800_000_000) };
        let sizes = ChunkSizes { min_bytes: 4 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 };
        Vault::init(world.files.clone(), &world.master, sizes, Timestamp(1)).await.unwrap();
        world
    }

    pub async fn vault(&self) -> Vault {
        self.open().await.unwrap()
    }

    pub async fn open(&self) -> Result<Vault, Error> {
        Vault::open(self.files.clone(), &self.master).await
    }

    pub async fn back_up(&self, account: &MemoryAccount, instance: &str, job: &str) -> Result<BackupReport, Error> {
        self.clock.advance_seconds(3_600);
        let options = BackupOptions::new(instance, job);
        backup::run(&self.open().await?, Arc::new(account.clone()), &options, &self.clock, &Unwatched).await
    }

    pub async fn point(&self, instance: &str, job: &str) -> Point {
        Point::get(&self.vault().await, instance, job).await.unwrap()
    }

    /// Restores a point into an empty account; what has come by the end, or by the error.
    pub async fn restore(&self, instance: &str, job: &str) -> (Contents, Result<RestoreState, Error>) {
        self.restore_chosen(instance, job, Selection::default()).await
    }

    pub async fn restore_chosen(
        &self,
        instance: &str,
        job: &str,
        selection: Selection,
    ) -> (Contents, Result<RestoreState, Error>) {
        let target = MemoryAccount::new();
        let outcome = async {
            let vault = self.open().await?;
            let point = Point::get(&vault, instance, job).await?;
            let options = RestoreOptions { selection, ..RestoreOptions::default() };
            let state = RestoreState::default();
            restore::run(&vault, &point, Arc::new(target.clone()), &options, state, &NoJournal, &Unwatched).await
        };
        let outcome = outcome.await;
        (target.contents(), outcome)
    }

    /// Names of the blobs of a point that cannot be read, told without the code that is tested: page by page and chunk by chunk.
    pub async fn lost_of(&self, instance: &str, job: &str, content: &Contents) -> BTreeSet<(String, String)> {
        let mut lost: BTreeSet<(String, String)> = content.keys().cloned().collect();
        let vault = self.vault().await;
        let Ok(point) = Point::get(&vault, instance, job).await else { return lost };
        let mut records = ManifestReader::new(&vault.reader, &point.root, None);
        loop {
            let item = match records.next().await {
                Ok(Some(Record::Blob(item))) => item,
                Ok(None) => return lost,
                Ok(Some(Record::Container(_))) | Err(_) => continue,
            };
            let key = (item.entry.container.clone(), item.entry.name.clone());
            if let Some(bytes) = read(&vault, &item.content).await {
                assert!(content[&key] == bytes, "{key:?} was read with other bytes");
                lost.remove(&key);
            }
        }
    }

    /// The same, told by a restore of each blob alone.
    pub async fn lost_by_restores(&self, instance: &str, job: &str, content: &Contents) -> BTreeSet<(String, String)> {
        let mut lost = BTreeSet::new();
        for ((container, name), bytes) in content {
            let chosen = ContainerSelection {
                name: container.clone(),
                prefixes: vec![name.clone()],
                ..ContainerSelection::default()
            };
            let (restored, _) = self
                .restore_chosen(instance, job, Selection { containers: vec![chosen], ..Selection::default() })
                .await;
            match restored.get(&(container.clone(), name.clone())) {
                Some(found) => assert!(found == bytes, "{container}/{name} was restored with other bytes"),
                None => drop(lost.insert((container.clone(), name.clone()))),
            }
        }
        lost
    }

    pub async fn verify(&self, depth: Depth) -> VerifyReport {
        verify::run(&self.vault().await, depth, &SeenNumbers::new(), &Unwatched).await.unwrap()
    }

    pub async fn assert_sound(&self) {
        let report = self.verify(Depth::Bytes).await;
        assert!(report.is_sound() && report.damage.is_empty(), "{:?} {:?}", report.damage, report.losses);
    }

    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.files.files().into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect()
    }

    pub async fn flip(&self, name: &str, position: usize) {
        let mut file = self.files.get(name).await.unwrap().to_vec();
        file[position] ^= 0x10;
        self.files.replace(name, file);
    }

    /// Packs by what they hold.
    pub fn packs(&self, is_metadata: bool) -> Vec<String> {
        let files = self.files.files().into_iter();
        let packs = files.filter(|(name, file)| name.starts_with("packs/") && (file[8] == 1) == is_metadata);
        packs.map(|(name, _)| name).collect()
    }
}

/// All bytes of a content, if all can be read.
async fn read(vault: &Vault, content: &Content) -> Option<Vec<u8>> {
    let (mut names, mut bytes) = (vault.reader.content(content), Vec::new());
    while let Some(id) = names.next().await.ok()? {
        bytes.extend_from_slice(vault.reader.chunks(&[id].into()).await.ok()?.get(&id)?);
    }
    Some(bytes)
}

pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}
