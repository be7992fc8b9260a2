//! Vaults of every released format version open, prove whole, and give back what was put into them.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::state::Chain;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{MasterKey, Unwatched, Vault};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vaults")
}

/// The files of a vault, in memory: nothing in the repository is ever changed.
fn load(folder: &Path, prefix: &str, store: &MemoryStore) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            load(&entry.path(), &format!("{name}/"), store);
        } else {
            store.replace(&name, std::fs::read(entry.path()).unwrap());
        }
    }
}

async fn open(version: &str) -> (Arc<MemoryStore>, Vault) {
    let store = Arc::new(MemoryStore::default());
    load(&testdata().join(version), "", &store);
    let key = std::fs::read_to_string(testdata().join(format!("{version}.key"))).unwrap();
    let vault = Vault::open(store.clone(), &MasterKey::from_text(&key).unwrap()).await.unwrap();
    (store, vault)
}

/// One hash over names and contents of everything in a point.
async fn digest(vault: &Vault, instance: &str, job: &str) -> (usize, String) {
    let (point, target) = (Point::get(vault, instance, job).await.unwrap(), MemoryAccount::new());
    let to = Arc::new(target.clone());
    let options = RestoreOptions::default();
    restore::run(vault, &point, to, &options, RestoreState::default(), &NoJournal, &Unwatched).await.unwrap();
    let mut hasher = blake3::Hasher::new();
    for ((_, name), content) in target.contents() {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes()).update(&content);
    }
    (target.contents().len(), hasher.finalize().to_hex()[..16].to_owned())
}

/// Two points: `large text` is 2.3 MiB with a tree of lists, the rest is small; one older point was pruned away.
#[tokio::test]
async fn a_vault_of_format_1_gives_back_what_it_holds() {
    let (_, vault) = open("v1").await;
    assert_eq!(vault.header.format, "1");
    let report = verify::run(&vault, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap();
    assert_eq!((report.damage.as_slice(), report.points), ([].as_slice(), 2));
    let instances = Chain::instances(&vault).await.unwrap();
    let [instance] = instances.as_slice() else { panic!("{instances:?}") };
    let state = Chain::instance(&vault, instance).unwrap().load_and_check_all().await.unwrap();
    let mut digests = Vec::new();
    for point in &state.points {
        digests.push(digest(&vault, instance, &point.job).await);
    }
    assert_eq!(digests, EXPECTED.map(|(blobs, digest)| (blobs, digest.to_owned())));
    assert!(Chain::vault(&vault).load_and_check_all().await.unwrap().pruned > 0);
}

#[tokio::test]
async fn a_vault_of_format_1_takes_new_points() {
    let (_, vault) = open("v1").await;
    let (account, clock) = (MemoryAccount::new(), ManualClock::at_seconds(1_900_000_000));
    account.put("c", "new", "content");
    backup::run(&vault, Arc::new(account), &BackupOptions::new("new", "job"), &clock, &Unwatched).await.unwrap();
    assert_eq!(digest(&vault, "new", "job").await.0, 1);
}

const EXPECTED: [(usize, &str); 2] = [(43, "8c680bf815f12054"), (44, "3bdd851b7d7cf4b2")];
