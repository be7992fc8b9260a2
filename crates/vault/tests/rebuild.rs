//! The index is made anew from the packs, whatever became of it, and nothing is lost on the way.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_testkit::fault::{Fault, FaultStore, Op, Rule};
use blobkeep_vault::rebuild::{RebuildOptions, RebuildReport, rebuild};
use blobkeep_vault::verify::Depth;
use blobkeep_vault::{Error, Store, StoreErrorKind, Unwatched, Vault};
use common::{World, noise};

/// Three points, so that there are several runs and packs.
async fn vault_of_three_points() -> (World, MemoryAccount) {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for day in 0..3_u64 {
        for number in 0..40 {
            account.put("c", &format!("{day}-{number}"), noise(3_000, day * 100 + number));
        }
        account.put("c", &format!("{day}-large"), noise(300_000, 1_000 + day));
        world.back_up(&account, "inst", &format!("job-{day}")).await.unwrap();
    }
    assert!(world.names("index/").len() >= 3);
    (world, account)
}

async fn run(world: &World) -> RebuildReport {
    rebuild(&world.vault().await, RebuildOptions::default(), &Unwatched).await.unwrap()
}

async fn assert_whole(world: &World, account: &MemoryAccount) {
    world.assert_sound().await;
    let (restored, outcome) = world.restore("inst", "job-2").await;
    outcome.unwrap();
    assert_eq!(restored, account.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_comes_back_from_the_packs_without_reading_content() {
    let (world, account) = vault_of_three_points().await;
    for name in world.names("index/") {
        world.files.delete(&name).await.unwrap();
    }
    assert!(world.verify(Depth::Structure).await.harmed_points == 3);
    let report = run(&world).await;
    assert_eq!((report.packs, report.new_runs, report.removed_runs, report.damaged_packs), (6, 1, 0, 0));
    assert_whole(&world, &account).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_runs_are_replaced_and_a_second_time_changes_nothing() {
    for position in [0, 60, 200] {
        let (world, account) = vault_of_three_points().await;
        let name = world.names("index/").remove(1);
        world.flip(&name, position).await;
        assert!(!world.verify(Depth::Structure).await.is_sound());
        let report = run(&world).await;
        assert!(!world.names("index/").contains(&name));
        assert_whole(&world, &account).await;
        let again = run(&world).await;
        assert_eq!((again.entries, again.new_runs, again.removed_runs), (report.entries, 1, 1));
        assert_whole(&world, &account).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_bounded() {
    let (world, account) = vault_of_three_points().await;
    let options = RebuildOptions { run_entries: 30 };
    let report = rebuild(&world.vault().await, options, &Unwatched).await.unwrap();
    assert!(report.new_runs >= 3 && world.names("index/").len() as u64 == report.new_runs, "{report:?}");
    assert_whole(&world, &account).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_index_knew_of_a_pack_without_a_footer_is_kept_and_the_pack_is_named() {
    let (world, account) = vault_of_three_points().await;
    let pack = world.packs(false).remove(0);
    let length = world.files.get(&pack).await.unwrap().len();
    world.flip(&pack, length - 20).await;
    let report = run(&world).await;
    assert_eq!(report.damaged_packs, 1);
    assert!(report.damaged[0].contains(&pack), "{:?}", report.damaged);
    let (restored, outcome) = world.restore("inst", "job-2").await;
    outcome.unwrap();
    assert_eq!(restored, account.contents());
    assert!(world.names("packs/").contains(&pack));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_leaves_a_whole_index_and_old_runs_go_last() {
    let (world, account) = vault_of_three_points().await;
    let before = world.files.files();
    let options = RebuildOptions { run_entries: 30 };
    for step in 0.. {
        let world = World { files: Arc::default(), master: world.master.clone(), clock: world_clock() };
        for (name, content) in &before {
            world.files.replace(name, content.clone());
        }
        let store = Arc::new(FaultStore::new(world.files.clone()));
        let vault = Vault::open(store.clone(), &world.master).await.unwrap();
        store.take_calls();
        let fault = Fault::Before(StoreErrorKind::Unavailable);
        store.add(Rule::new(fault).on(Op::Put).on(Op::Delete).after(step));
        let outcome: Result<RebuildReport, Error> = rebuild(&vault, options, &Unwatched).await;
        let calls = store.take_calls();
        let last_put = calls.iter().rposition(|(op, _)| *op == Op::Put).unwrap();
        let first_delete = calls.iter().position(|(op, _)| *op == Op::Delete);
        assert!(first_delete.is_none_or(|first| first > last_put), "nothing is removed before all is durable");
        assert_whole(&world, &account).await;
        run(&world).await;
        assert_eq!(world.names("index/").len(), 1);
        assert_whole(&world, &account).await;
        if outcome.is_ok() {
            assert!(step > 5, "there are several steps");
            return;
        }
    }
}

fn world_clock() -> blobkeep_testkit::clock::ManualClock {
    blobkeep_testkit::clock::ManualClock::at_seconds(1_900_000_000)
}
