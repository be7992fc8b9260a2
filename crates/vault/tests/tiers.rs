//! Blobs come back in the tier that they had, or in one that is asked for.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::{BlobEntry, BlobKind, Unwatched};
use common::{World, noise};

/// The tiers of what a restore has written, by name.
async fn restored(world: &World, tier: Option<&str>) -> BTreeMap<String, Option<String>> {
    let target = MemoryAccount::new();
    let options = RestoreOptions { tier: tier.map(str::to_owned), ..RestoreOptions::default() };
    let (point, state) = (world.point("a", "job").await, RestoreState::default());
    let vault = world.vault().await;
    let done = restore::run(&vault, &point, Arc::new(target.clone()), &options, state, &NoJournal, &Unwatched).await;
    assert_eq!(done.unwrap().counts.written_blobs, 5);
    target.blobs().into_iter().map(|((_, name), (entry, _))| (name, entry.tier)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_gives_block_blobs_the_tier_that_is_asked_for_and_leaves_others_as_they_were() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    let put = |name: &str, kind: BlobKind, tier: Option<&str>, length: usize| {
        let entry = BlobEntry {
            container: "c".into(),
            name: name.into(),
            kind,
            tier: tier.map(str::to_owned),
            ..BlobEntry::default()
        };
        account.put_entry(entry, noise(length, length as u64));
    };
    put("cool", BlobKind::Block, Some("Cool"), 10_000);
    put("inherited", BlobKind::Block, None, 20_000);
    put("large", BlobKind::Block, Some("Hot"), 9 << 20);
    put("log", BlobKind::Append { sealed: false }, None, 1_000);
    put("disk", BlobKind::Page { sequence_number: 0 }, Some("P10"), 4_096);
    world.back_up(&account, "a", "job").await.unwrap();

    let tiers = |of: [Option<&str>; 5]| -> BTreeMap<String, Option<String>> {
        let names = ["cool", "inherited", "large", "log", "disk"];
        names.into_iter().zip(of).map(|(name, tier)| (name.to_owned(), tier.map(str::to_owned))).collect()
    };
    assert_eq!(restored(&world, None).await, tiers([Some("Cool"), None, Some("Hot"), None, Some("P10")]));
    let archive = Some("Archive");
    assert_eq!(restored(&world, archive).await, tiers([archive, archive, archive, None, Some("P10")]));
}
