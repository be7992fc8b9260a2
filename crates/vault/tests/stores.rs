//! Every store keeps the guarantees that the engine builds on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use blobkeep_testkit::suites;
use blobkeep_vault::store::Store;
use blobkeep_vault::store::layer::SubStore;
use blobkeep_vault::store::local::LocalStore;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::store::object::{AzureContainer, CloudStore};
use bytes::Bytes;

#[tokio::test]
async fn memory() {
    suites::store(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn local_folder() {
    let folder = tempfile::tempdir().unwrap();
    suites::store(Arc::new(LocalStore::open(folder.path().join("made/below")).unwrap())).await;
}

#[tokio::test]
async fn what_a_killed_writer_left_in_a_folder_goes_with_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("tmp/0123456789abcdef-7-packs-ab-cd");
    let first = LocalStore::open(folder.path()).unwrap();
    std::fs::write(&left, b"half of a pa").unwrap();
    let second = LocalStore::open(folder.path()).unwrap();
    assert!(left.exists(), "who only reads changes nothing");
    second.put_if_absent("index/1", Bytes::from_static(b"whole")).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(first.get("index/1").await.unwrap(), Bytes::from_static(b"whole"));
}

#[tokio::test]
async fn a_folder_of_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(LocalStore::open(folder.path()).unwrap());
    suites::store(Arc::new(SubStore::new(inner, "vaults/one"))).await;
}

/// Needs an Azurite with an empty container: `scripts/test` starts one and names it in the environment.
#[tokio::test(flavor = "multi_thread")]
async fn azurite_through_object_store() {
    let Ok(endpoint) = std::env::var("BLOBKEEP_TEST_AZURITE") else { return };
    let (Ok(account), Ok(key)) =
        (std::env::var("BLOBKEEP_TEST_AZURITE_ACCOUNT"), std::env::var("BLOBKEEP_TEST_AZURITE_KEY"))
    else {
        panic!("BLOBKEEP_TEST_AZURITE needs an account and a key beside it");
    };
    let container = AzureContainer {
        account,
        endpoint,
        container: "store-suite".into(),
        folder: "below".into(),
        account_key: Some(key),
        sas: None,
    };
    suites::store(Arc::new(CloudStore::azure(&container).unwrap())).await;
}
