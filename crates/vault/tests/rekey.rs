//! A vault that is given another key opens with that one and no other, whatever happened on the way.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::fault::{Fault, FaultStore, Op, Rule};
use blobkeep_vault::{ErrorKind, MasterKey, StoreErrorKind, Vault};
use common::World;

fn slots(world: &World) -> Vec<String> {
    world.files.files().into_iter().map(|(name, _)| name).filter(|name| name.starts_with("keys/")).collect()
}

async fn change(vault: &Vault, key: &MasterKey) -> bool {
    vault.change_key(key, async { Ok(true) }).await.unwrap()
}

async fn opens(world: &World, key: &MasterKey) -> bool {
    match Vault::open(world.files.clone(), key).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_with_another_key_opens_with_that_one_alone_and_nothing_else_of_it_has_changed() {
    let (mut world, key) = (World::new().await, MasterKey::generate().unwrap());
    let account = MemoryAccount::new();
    account.put("c", "blob", vec![7; 100_000]);
    world.back_up(&account, "a", "before").await.unwrap();
    let rest = |world: &World| {
        let mut files = world.files.files();
        files.retain(|(name, _)| !name.starts_with("keys/"));
        files
    };
    let before = rest(&world);

    let open = world.vault().await;
    assert!(change(&open, &key).await);
    assert_eq!(rest(&world), before);
    assert_eq!(slots(&world).len(), 2);
    assert!(opens(&world, &key).await);
    assert!(!opens(&world, &world.master).await, "the old key must not open it any more");

    // Once more changes nothing, and who has the vault open goes on.
    let there = slots(&world);
    assert!(change(&open, &key).await);
    assert_eq!(slots(&world), there);
    world.master = key;
    account.put("c", "other", vec![8; 100_000]);
    world.back_up(&account, "a", "after").await.unwrap();
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_key_that_ends_at_any_step_leaves_a_vault_that_opens_and_is_brought_to_its_end() {
    for fault in [Fault::Before(StoreErrorKind::Unavailable), Fault::After(StoreErrorKind::Unavailable)] {
        let mut steps = 0;
        loop {
            let (world, key) = (World::new().await, MasterKey::generate().unwrap());
            let store = Arc::new(FaultStore::new(world.files.clone()));
            let vault = Vault::open(store.clone(), &world.master).await.unwrap();
            store.add(Rule::new(fault).named("keys/").after(steps));
            let changed = vault.change_key(&key, async { Ok(true) }).await;
            let (old, new) = (opens(&world, &world.master).await, opens(&world, &key).await);
            assert!(old || new, "step {steps}: nothing opens the vault");
            if changed.is_ok() {
                assert!(new && !old, "step {steps}");
                break;
            }
            store.heal();
            let master = if new { &key } else { &world.master };
            assert!(change(&Vault::open(store, master).await.unwrap(), &key).await);
            assert!(opens(&world, &key).await && !opens(&world, &world.master).await, "step {steps}");
            assert_eq!(slots(&world).len(), 2, "step {steps}");
            steps += 1;
        }
        assert!(steps > 6, "{steps} steps are not all of them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_tears_or_loses_the_new_slot_keeps_the_old_one() {
    for fault in [Fault::Torn(500), Fault::Lost] {
        let (world, key) = (World::new().await, MasterKey::generate().unwrap());
        let store = Arc::new(FaultStore::new(world.files.clone()));
        let vault = Vault::open(store.clone(), &world.master).await.unwrap();
        store.add(Rule::new(fault).named("keys/").on(Op::Put));
        vault.change_key(&key, async { Ok(true) }).await.unwrap_err();
        assert!(opens(&world, &world.master).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_at_once_the_later_one_holds_and_none_takes_the_vault_from_everybody() {
    let (world, first, second) = (World::new().await, MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
    let vault = world.vault().await;
    // The other one comes and goes while this one is about to remove what it found.
    let overtaken = vault.change_key(&first, async {
        assert!(change(&vault, &second).await);
        Ok(true)
    });
    assert!(overtaken.await.unwrap());
    assert!(opens(&world, &second).await);
    assert!(!opens(&world, &first).await && !opens(&world, &world.master).await);
    assert_eq!(slots(&world).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_change_twice_at_once_ends_with_a_vault_that_opens() {
    let (world, key) = (World::new().await, MasterKey::generate().unwrap());
    let vault = world.vault().await;
    let twice = vault.change_key(&key, async { Ok(change(&vault, &key).await) });
    assert!(twice.await.unwrap());
    assert!(opens(&world, &key).await && !opens(&world, &world.master).await);
    // The one that had looked first has left the slot of the other.
    assert_eq!(slots(&world).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_longer_wanted_shuts_nobody_out_and_goes_with_the_next_change() {
    let (world, first, second) = (World::new().await, MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
    let vault = world.vault().await;
    assert!(!vault.change_key(&first, async { Ok(false) }).await.unwrap());
    assert!(opens(&world, &world.master).await && opens(&world, &first).await);
    assert!(change(&vault, &second).await);
    assert!(opens(&world, &second).await);
    assert!(!opens(&world, &first).await && !opens(&world, &world.master).await);
    assert_eq!(slots(&world).len(), 2);
}
