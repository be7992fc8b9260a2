//! A chunk that lies in the store twice survives the loss of one copy.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::{Error, ErrorKind, MasterKey, Store, Timestamp, Unwatched, Vault};

struct World {
    files: Arc<MemoryStore>,
    master: MasterKey,
    account: MemoryAccount,
}

impl World {
    async fn new() -> Self {
        let account = MemoryAccount::new();
        for number in 0..40_u32 {
            let mut content = vec![0; 8_000];
            blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
            account.put("c", &format!("{number}"), content);
        }
        let world = Self { files: Arc::default(), master: MasterKey::generate().unwrap(), account };
        Vault::init(world.files.clone(), &world.master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        world
    }

    async fn vault(&self) -> Vault {
        Vault::open(self.files.clone(), &self.master).await.unwrap()
    }

    fn packs(&self) -> BTreeSet<String> {
        self.files.files().into_iter().map(|(name, _)| name).filter(|name| name.starts_with("packs/")).collect()
    }

    /// Backs up as an instance; the largest pack that this added: small content is stored anew for each instance.
    async fn back_up(&self, instance: &str) -> String {
        let before = self.packs();
        let clock = ManualClock::at_seconds(1_800_000_000);
        let options = BackupOptions::new(instance, "job");
        let source = Arc::new(self.account.clone());
        backup::run(&self.vault().await, source, &options, &clock, &Unwatched).await.unwrap();
        let size = |name: &&String| self.files.files().iter().find(|file| file.0 == **name).unwrap().1.len();
        self.packs().difference(&before).max_by_key(size).unwrap().clone()
    }

    async fn restore(&self, vault: &Vault, instance: &str) -> Result<(), Error> {
        let point = Point::get(vault, instance, "job").await?;
        let target = MemoryAccount::new();
        let (options, state) = (RestoreOptions::default(), RestoreState::default());
        restore::run(vault, &point, Arc::new(target.clone()), &options, state, &NoJournal, &Unwatched).await?;
        assert_eq!(target.contents(), self.account.contents());
        Ok(())
    }

    async fn flip_all_over(&self, name: &str) {
        let mut file = self.files.get(name).await.unwrap().to_vec();
        for position in (200..file.len()).step_by(100) {
            file[position] ^= 1;
        }
        self.files.replace(name, file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_pack_is_made_up_for_by_a_copy_elsewhere() {
    let world = World::new().await;
    let (first, second) = (world.back_up("a").await, world.back_up("b").await);
    for pack in [&first, &second] {
        let sound = world.files.get(pack).await.unwrap();
        for damage in ["flipped", "cut", "empty", "deleted"] {
            match damage {
                "flipped" => world.flip_all_over(pack).await,
                "cut" => world.files.replace(pack, sound.slice(..sound.len() / 2)),
                "empty" => world.files.replace(pack, ""),
                _ => world.files.delete(pack).await.unwrap(),
            }
            for instance in ["a", "b"] {
                world.restore(&world.vault().await, instance).await.unwrap();
            }
        }
        world.files.replace(pack, sound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_sound_copy_the_blob_is_named_and_nothing_wrong_is_restored() {
    let world = World::new().await;
    let (first, second) = (world.back_up("a").await, world.back_up("b").await);
    world.flip_all_over(&first).await;
    world.flip_all_over(&second).await;
    let error = world.restore(&world.vault().await, "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("packs/") && error.to_string().contains("needed by c/"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_moved_after_the_vault_was_opened_is_found_at_its_new_place() {
    let world = World::new().await;
    let first = world.back_up("a").await;
    let opened_before = world.vault().await;
    world.back_up("b").await;
    world.files.delete(&first).await.unwrap();
    world.restore(&opened_before, "a").await.unwrap();
}
