//! Space that nothing needs any more is freed by the service itself, beside its backups.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use blobkeep_emulator::SeedBlob;
use blobkeep_vault::Unwatched;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use common::world::{DAY, HOUR, World};

impl World {
    /// The packs of the only vault.
    fn packs(&self) -> BTreeSet<String> {
        let vaults = self.service.running.app().config.data_dir.join("vaults");
        let vault = std::fs::read_dir(vaults).unwrap().next().unwrap().unwrap().path();
        let mut packs = BTreeSet::new();
        let mut folders = vec![vault.join("packs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    packs.insert(path.display().to_string());
                }
            }
        }
        packs
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_expired_points_used_is_freed_once_a_day() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let first = world.packs();
    assert!(!first.is_empty());

    // Nothing of the first point is in the second one.
    world.emulator.put_blob("source", "photos", "one", SeedBlob::new("another content of the blob")).unwrap();
    world.pass(DAY).await;
    world.until_points(2).await;
    let second: BTreeSet<String> = world.packs().difference(&first).cloned().collect();
    assert!(!second.is_empty());

    let oldest = world.points().await.pop().unwrap()["name"].clone();
    world.pass(6 * DAY + HOUR).await;
    world
        .until("the first point's packs were gone, and those of the second were not", |world| {
            let (first, second) = (first.clone(), second.clone());
            let oldest = oldest.clone();
            Box::pin(async move {
                let is_listed = world.points().await.iter().any(|point| point["name"] == oldest);
                let packs = world.packs();
                !is_listed && packs.is_disjoint(&first) && !packs.is_disjoint(&second)
            })
        })
        .await;
    let report = verify::run(&world.engine().await, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    world.service.running.shutdown().await;
}
