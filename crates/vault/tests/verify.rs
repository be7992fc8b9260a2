//! What a verification names, remembers and rehearses.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::item::BlobEntry;
use blobkeep_vault::verify::{self, Depth, Ledger, LossScope, SeenNumbers, VerifyOptions, VerifyReport};
use blobkeep_vault::{Monitor, Store, Unwatched, WorkProgress};
use common::{World, noise};
use md5::Digest as _;

/// Some hundred blobs, a few of them of many chunks.
fn account() -> MemoryAccount {
    let account = MemoryAccount::new();
    for number in 0..300_u64 {
        account.put(&format!("c{}", number % 2), &format!("blob {number:03}"), noise(3_000, number));
    }
    account.put("large", "tree", noise(900_000, 1_000));
    account.put("large", "empty", "");
    account
}

async fn share(world: &World, percent: Option<u8>) -> VerifyReport {
    let options = VerifyOptions { depth: Depth::Bytes, percent, seen: SeenNumbers::new() };
    world.clock.advance_seconds(86_400);
    verify::run_recorded(&world.vault().await, &options, &world.clock, &Unwatched).await.unwrap()
}

fn named(report: &VerifyReport, job: &str) -> BTreeSet<(String, String)> {
    let of_point = report.losses.iter().filter(|loss| loss.point == job);
    of_point
        .filter_map(|loss| match &loss.scope {
            LossScope::Blob { container, name, .. } => Some((container.clone(), name.clone())),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_blobs_that_cannot_be_restored_are_named() {
    let (world, account) = (World::new().await, account());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    let before = account.contents();
    account.put("c0", "blob 000", noise(3_000, 9_000));
    account.put("large", "another", noise(700_000, 1_001));
    world.back_up(&account, "inst", "job-2").await.unwrap();
    for pack in world.packs(false) {
        let sound = world.files.get(&pack).await.unwrap();
        for place in [200, sound.len() / 3, sound.len() - 50_000] {
            world.flip(&pack, place).await;
            let report = world.verify(Depth::Bytes).await;
            for (job, content) in [("job-1", &before), ("job-2", &account.contents())] {
                let lost = world.lost_of("inst", job, content).await;
                assert_eq!(lost, world.lost_by_restores("inst", job, content).await, "{pack} at {place}, {job}");
                assert_eq!(named(&report, job), lost, "{pack} at {place}, {job}");
            }
            assert!(report.damage[0].contains(&pack), "{:?}", report.damage);
            assert_eq!(report.lost_blobs, report.losses.len() as u64);
            assert!(report.lost_blobs > 0 && report.harmed_points > 0);
            world.files.replace(&pack, sound.clone());
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_costs_every_blob_in_it_and_is_seen_without_reading_bytes() {
    let (world, account) = (World::new().await, account());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    let pack = world.packs(false).remove(0);
    world.files.delete(&pack).await.unwrap();
    let report = world.verify(Depth::Structure).await;
    assert_eq!(named(&report, "job-1"), world.lost_of("inst", "job-1", &account.contents()).await);
    assert_eq!((report.lost_blobs, report.harmed_points), (301, 1));
    assert!(report.losses[0].to_string().contains(&pack), "{}", report.losses[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_lost_page_the_names_around_it_and_the_number_of_blobs_are_told() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for number in 0..2_000_u64 {
        account.put("c", &format!("blob {number:04}"), number.to_le_bytes().to_vec());
    }
    world.back_up(&account, "inst", "job-1").await.unwrap();
    let pack = world.packs(true).remove(0);
    world.flip(&pack, 200).await;
    let report = world.verify(Depth::Structure).await;
    assert!(report.damage.iter().any(|text| text.contains(&pack)), "{:?}", report.damage);
    let is_between = |scope: &LossScope| matches!(scope, LossScope::Between { .. });
    assert!(report.losses.iter().all(|loss| is_between(&loss.scope)) && !report.losses.is_empty());
    let first = report.losses[0].to_string();
    assert!(first.contains(" up to c/blob ") && first.contains("job-1"), "{first}");
    assert_eq!(report.blobs, 2_000, "what is lost is counted, too");
    assert_eq!(report.lost_blobs, world.lost_of("inst", "job-1", &account.contents()).await.len() as u64);
    let point = world.point("inst", "job-1").await;
    let rehearsed = verify::rehearse(&world.vault().await, &point, &Unwatched).await.unwrap();
    assert_eq!(rehearsed.failed_blobs, report.lost_blobs, "a rehearsal goes on behind a lost page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_reads_new_packs_first_and_all_of_them_in_time() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for day in 0..10_u64 {
        account.put("c", &format!("{day}"), noise(200_000, day));
        world.back_up(&account, "inst", &format!("job-{day}")).await.unwrap();
    }
    let packs = world.packs(false).len() + world.packs(true).len();
    assert_eq!(packs, 20);
    let first = share(&world, Some(15)).await;
    assert_eq!((first.packs, first.packs_in_all), (3, 20));
    // Nothing was read before, so the newest points come first, and these three packs are not all that the newest needs.
    let (ledger, _) = Ledger::load(&world.vault().await).await.unwrap();
    let proof = ledger.point("inst", "job-9");
    assert!(proof.structure_at.is_some() && proof.bytes_at.is_none());
    for _ in 0..6 {
        assert_eq!(share(&world, Some(15)).await.packs, 3);
    }
    let (ledger, _) = Ledger::load(&world.vault().await).await.unwrap();
    let oldest = ledger.point("inst", "job-9").bytes_at.unwrap();
    assert!(oldest < ledger.point("inst", "job-9").structure_at.unwrap());
    // A pack that was written since comes before all others.
    account.put("c", "new", noise(200_000, 100));
    world.back_up(&account, "inst", "job-new").await.unwrap();
    world.flip(&world.newest_content(&account, "job-new").await, 300).await;
    assert_eq!(share(&world, Some(10)).await.lost_blobs, 1);
    assert_eq!(world.names("ledger/").len(), 1);
}

impl World {
    /// The pack that holds the blob `new` of a point: the one without which it is lost.
    async fn newest_content(&self, account: &MemoryAccount, job: &str) -> String {
        for pack in self.packs(false) {
            let sound = self.files.get(&pack).await.unwrap();
            self.files.delete(&pack).await.unwrap();
            let lost = self.lost_of("inst", job, &account.contents()).await;
            self.files.replace(&pack, sound);
            if lost.iter().any(|(_, name)| name == "new") {
                return pack;
            }
        }
        panic!("no pack holds the new blob");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_read_again_every_time_until_it_is_sound() {
    let (world, account) = (World::new().await, account());
    for day in 0..6_u64 {
        account.put("c", &format!("{day}"), noise(200_000, 5_000 + day));
        world.back_up(&account, "inst", &format!("job-{day}")).await.unwrap();
    }
    share(&world, None).await;
    let pack = world.packs(false).remove(2);
    let sound = world.files.get(&pack).await.unwrap();
    world.flip(&pack, 300).await;
    let whole = share(&world, None).await;
    assert!(!whole.is_sound());
    for _ in 0..3 {
        let report = share(&world, Some(1)).await;
        assert_eq!((report.packs, report.is_sound()), (1, false), "what is broken stays first in line");
    }
    world.files.replace(&pack, sound);
    assert!(share(&world, Some(1)).await.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_when_a_point_was_proven_and_its_loss_costs_nothing() {
    let (world, account) = (World::new().await, account());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    share(&world, None).await;
    let (ledger, _) = Ledger::load(&world.vault().await).await.unwrap();
    let proof = ledger.point("inst", "job-1");
    assert_eq!(proof.structure_at.map(|at| at.0 / 60_000_000), proof.bytes_at.map(|at| at.0 / 60_000_000));
    assert!(ledger.point("inst", "job-2").structure_at.is_none());
    let name = world.names("ledger/").remove(0);
    world.flip(&name, 50).await;
    let report = share(&world, Some(50)).await;
    assert!(report.is_sound() && report.notes[0].contains(&name), "{report:?}");
    assert!(Ledger::load(&world.vault().await).await.unwrap().0.point("inst", "job-1").structure_at.is_some());
    assert_eq!(world.names("ledger/").len(), 1);
    world.assert_sound().await;
}

/// Stops after some progress.
struct Impatient(std::sync::atomic::AtomicU64);

impl Monitor for Impatient {
    fn progress(&self, progress: &WorkProgress) {
        self.0.store(progress.bytes, std::sync::atomic::Ordering::SeqCst);
    }

    fn should_stop(&self) -> Option<String> {
        (self.0.load(std::sync::atomic::Ordering::SeqCst) > 0).then(|| "enough".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_stop_is_remembered() {
    let (world, account) = (World::new().await, account());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    share(&world, None).await;
    let options = VerifyOptions::default();
    world.clock.advance_seconds(86_400);
    let stopped =
        verify::run_recorded(&world.vault().await, &options, &world.clock, &Impatient(0.into())).await.unwrap_err();
    assert!(stopped.to_string().contains("enough"), "{stopped}");
    let (ledger, _) = Ledger::load(&world.vault().await).await.unwrap();
    assert_eq!(world.names("ledger/"), ["ledger/0000000002"]);
    assert!(ledger.point("inst", "job-1").structure_at.is_some(), "older proofs stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_names_all_that_a_restore_would_miss_and_compares_md5() {
    let (world, account) = (World::new().await, account());
    let content = b"with a checksum".to_vec();
    let entry = BlobEntry { container: "c0".into(), name: "right".into(), ..BlobEntry::default() };
    let right = BlobEntry { content_md5: Some(md5::Md5::digest(&content).into()), ..entry.clone() };
    account.put_entry(right, content.clone());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    let rehearse = async || {
        let point = world.point("inst", "job-1").await;
        verify::rehearse(&world.vault().await, &point, &Unwatched).await.unwrap()
    };
    let report = rehearse().await;
    assert_eq!((report.blobs, report.failed_blobs, report.compared_blobs), (303, 0, 1));
    let bytes: usize = account.contents().values().map(bytes::Bytes::len).sum();
    assert_eq!(report.bytes, bytes as u64);

    let pack = world.packs(false).remove(0);
    let sound = world.files.get(&pack).await.unwrap();
    for place in [10, 200, sound.len() / 2] {
        world.flip(&pack, place).await;
        let lost = world.lost_of("inst", "job-1", &account.contents()).await;
        let report = rehearse().await;
        assert_eq!((report.failed_blobs, report.failures.len()), (lost.len() as u64, lost.len()), "at {place}");
        world.files.replace(&pack, sound.clone());
    }
    let wrong = BlobEntry { content_md5: Some([7; 16]), name: "wrong".into(), ..entry };
    account.put_entry(wrong, content);
    world.back_up(&account, "inst", "job-2").await.unwrap();
    let point = world.point("inst", "job-2").await;
    let report = verify::rehearse(&world.vault().await, &point, &Unwatched).await.unwrap();
    assert_eq!((report.blobs, report.failed_blobs, report.compared_blobs), (303, 1, 2));
    assert!(report.failures[0].to_string().contains("c0/wrong"), "{}", report.failures[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_a_damaged_chain_are_found_by_their_files_and_walked() {
    let (world, account) = (World::new().await, account());
    world.back_up(&account, "inst", "job-1").await.unwrap();
    world.flip("state/inst/0000000001", 60).await;
    let report = world.verify(Depth::Structure).await;
    assert_eq!((report.points, report.blobs, report.lost_blobs), (1, 302, 0));
    assert!(report.damage.len() == 1 && report.damage[0].contains("state/inst/0000000001"), "{:?}", report.damage);
    assert!(report.notes[0].contains("inst"), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_chain_that_was_taken_away_is_found_by_a_number_seen_before_and_by_nothing_else() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    account.put("c", "x", "content");
    for job in ["job-1", "job-2"] {
        world.back_up(&account, "inst", job).await.unwrap();
    }
    let record = world.files.get("state/inst/0000000003").await.unwrap();
    world.files.delete("state/inst/0000000003").await.unwrap();
    let unaware = world.verify(Depth::Bytes).await;
    assert!(unaware.is_sound() && unaware.notes[0].contains("points/inst/job-2"), "{unaware:?}");
    let seen = SeenNumbers::from([("inst".to_owned(), 3)]);
    let report = verify::run(&world.vault().await, Depth::Structure, &seen, &Unwatched).await.unwrap();
    assert_eq!(report.damage, ["state/inst: the chain ends at 2, and record 3 was seen before"]);
    // A verification that is remembered sees for the next one.
    world.files.replace("state/inst/0000000003", record);
    assert!(share(&world, None).await.is_sound());
    world.files.delete("state/inst/0000000003").await.unwrap();
    for _ in 0..2 {
        assert_eq!(share(&world, None).await.damage, report.damage);
    }
    for name in world.names("state/inst/") {
        world.files.delete(&name).await.unwrap();
    }
    assert!(share(&world, None).await.damage[0].contains("the chain ends at 0"));
}
