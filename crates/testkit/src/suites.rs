//! One suite for every [`Store`]: the guarantees written on the trait, one by one. It panics where one does not hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use blobkeep_vault::{Put, Store, StoreErrorKind};
use bytes::Bytes;

/// Runs the suite on an empty store and leaves it empty.
///
/// # Panics
/// If a guarantee does not hold.
#[allow(clippy::expect_used, clippy::unwrap_used)]
pub async fn store(store: Arc<dyn Store>) {
    assert!(store.list("", None).await.unwrap().is_empty(), "the suite needs an empty store");
    assert_eq!(store.get("packs/00/none").await.unwrap_err().kind, StoreErrorKind::NotFound);
    assert_eq!(store.size("packs/00/none").await.unwrap_err().kind, StoreErrorKind::NotFound);
    store.delete("packs/00/none").await.expect("deleting what is not there is no error");

    // A file is there whole after its put, and a second put changes nothing.
    let content = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    assert_eq!(store.put_if_absent("packs/aa/one", content.clone()).await.unwrap(), Put::Stored);
    assert_eq!(store.put_if_absent("packs/aa/one", Bytes::from_static(b"other")).await.unwrap(), Put::Exists);
    assert_eq!(store.get("packs/aa/one").await.unwrap(), content);
    assert_eq!(store.size("packs/aa/one").await.unwrap(), content.len() as u64);

    // Ranges are exact, and one beyond the end is an error, never short.
    assert_eq!(store.get_range("packs/aa/one", 3..17).await.unwrap(), content.slice(3..17));
    let end = content.len() as u64;
    assert_eq!(store.get_range("packs/aa/one", end - 1..end).await.unwrap(), content.slice(content.len() - 1..));
    assert!(store.get_range("packs/aa/one", end - 1..end + 1).await.is_err());

    // Of many concurrent puts of one name exactly one is told that it stored.
    let puts = (0..8_u8).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            (number, store.put_if_absent("state/vault/0000000001", Bytes::from(vec![number; 10])).await)
        })
    });
    let mut winners = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        let (number, outcome) = put.await.unwrap();
        if outcome.unwrap() == Put::Stored {
            winners.push(number);
        }
    }
    assert_eq!(winners.len(), 1, "one put wins");
    assert_eq!(store.get("state/vault/0000000001").await.unwrap(), vec![winners[0]; 10]);

    // Listings are sorted by bytes, keep to their prefix, and go on after any name.
    let mut names: BTreeSet<String> = ["packs/aa/one", "state/vault/0000000001"].map(String::from).into();
    for name in
        ["packs/ab/x", "packs/aa/two", "packs.txt", "packs-old/y", "state/a/1", "vault.json", "keys/k.copy", "keys/k"]
    {
        store.put_if_absent(name, Bytes::from_static(b"x")).await.unwrap();
        names.insert(name.to_owned());
    }
    let listed = |prefix: &'static str, after: Option<&'static str>| {
        let store = store.clone();
        async move { store.list(prefix, after).await.unwrap().into_iter().map(|file| file.name).collect::<Vec<_>>() }
    };
    assert_eq!(listed("", None).await, names.iter().cloned().collect::<Vec<_>>());
    assert_eq!(listed("packs/", None).await, ["packs/aa/one", "packs/aa/two", "packs/ab/x"]);
    assert_eq!(listed("packs/", Some("packs/aa/one")).await, ["packs/aa/two", "packs/ab/x"]);
    assert_eq!(listed("packs/", Some("packs/ab/x")).await, [""; 0]);
    assert_eq!(listed("keys/", None).await, ["keys/k", "keys/k.copy"]);
    assert_eq!(listed("nothing/", None).await, [""; 0]);

    // Names that could leave the store are refused.
    for name in ["../x", "a/../x", "/x", "a//b", "", "A", "a b", "."] {
        assert!(store.put_if_absent(name, Bytes::from_static(b"x")).await.is_err(), "{name:?} was taken");
    }

    for name in &names {
        store.delete(name).await.unwrap();
    }
    assert!(store.list("", None).await.unwrap().is_empty(), "everything was deleted");
}
