//! What a prune promises: it frees what no point needs, keeps what one does, and says why; beside writers, killed at any write.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::prune::{self, PruneOptions, PruneReport};
use blobkeep_vault::state::{Chain, Change, Hold, Immutability, VaultChange, remove_point};
use blobkeep_vault::work::{Registration, WorkKind, registered};
use blobkeep_vault::{Error, ErrorKind, Timestamp, Unwatched};
use world::{World, noise, sample};

fn options() -> PruneOptions {
    PruneOptions { patience: Duration::ZERO, ..PruneOptions::new("prune") }
}

async fn prune_with(world: &World, options: &PruneOptions) -> Result<PruneReport, Error> {
    prune::run(&world.vault().await, options, &world.clock, &Unwatched).await
}

async fn prune(world: &World) -> PruneReport {
    prune_with(world, &options()).await.unwrap()
}

async fn remove(world: &World, job: &str) -> Result<(), Error> {
    remove_point(&world.vault().await, "inst", job, Timestamp(0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_point_needs_goes_and_what_one_needs_stays() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let first = account.contents();
    account.put("large", "forty mebibytes", noise(40 << 20, 77));
    account.put("c0", "new", noise(200_000, 78));
    world.back_up(&account, "job-2").await.unwrap();
    assert_eq!(world.restored("job-1").await, first);

    let unneeded = prune(&world).await;
    assert_eq!((unneeded.dead_packs, unneeded.rewritten_packs), (0, 0), "both points need everything");
    let before = world.files.total_bytes();
    remove(&world, "job-1").await.unwrap();
    let report = prune(&world).await;
    assert!(report.dead_packs + report.rewritten_packs > 0);
    assert!(report.read_bytes < report.rewritten_bytes + (2 << 20), "{report:?}");
    let freed = before - world.files.total_bytes();
    assert!(freed > 38 << 20, "the forty mebibytes that changed are freed, {freed} bytes were");
    assert_eq!(world.restored("job-2").await, account.contents());
    world.assert_sound().await;
    let again = prune(&world).await;
    assert_eq!((again.dead_packs, again.rewritten_packs, again.copied_chunks), (0, 0, 0), "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_go_and_why_the_rest_stays_and_changes_nothing() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    account.put("large", "forty mebibytes", noise(40 << 20, 77));
    world.back_up(&account, "job-2").await.unwrap();
    let chain_of = world.vault().await;
    let hold = Hold { name: "case-7".into(), point: Some("job-2".into()), reason: "asked for by the auditors".into() };
    Chain::instance(&chain_of, "inst").unwrap().append(Change::HoldSet { hold }, Timestamp(0)).await.unwrap();
    remove(&world, "job-1").await.unwrap();
    let files = world.files.files();
    let report = prune_with(&world, &PruneOptions { dry_run: true, ..options() }).await.unwrap();
    assert_eq!(world.files.files(), files);
    assert!(report.dead_bytes + report.rewritten_bytes > 30 << 20);
    let [kept] = report.kept.as_slice() else { panic!("{:?}", report.kept) };
    assert!(kept.job == "job-2" && kept.reason.contains("case-7") && kept.reason.contains("auditors"), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn held_immutable_and_soft_deleted_points_are_not_removed_whoever_asks() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    account.put("c", "x", "1");
    world.back_up(&account, "job-1").await.unwrap();
    let vault = world.vault().await;
    let chain = Chain::instance(&vault, "inst").unwrap();
    let refused = |outcome: Result<(), Error>, why: &str| {
        let error = outcome.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains(why), "{error}");
    };

    let hold = Hold { name: "h".into(), point: None, reason: "a lawsuit".into() };
    chain.append(Change::HoldSet { hold }, Timestamp(0)).await.unwrap();
    refused(remove(&world, "job-1").await, "lawsuit");
    chain.append(Change::HoldLifted { name: "h".into() }, Timestamp(0)).await.unwrap();

    chain.append(Change::SoftDeleted { purge_at: Timestamp(1_000) }, Timestamp(0)).await.unwrap();
    refused(remove(&world, "job-1").await, "brought back");
    chain.append(Change::Undeleted, Timestamp(0)).await.unwrap();

    let rules = Chain::vault(&vault);
    rules.append(VaultChange::ImmutabilitySet { mode: Immutability::Unlocked }, Timestamp(0)).await.unwrap();
    refused(remove(&world, "job-1").await, "immutable");
    let sooner = Change::ExpirySet { job: "job-1".into(), expires_at: Some(Timestamp(5)) };
    refused(chain.append(sooner, Timestamp(0)).await.map(drop), "put off");
    rules.append(VaultChange::ImmutabilitySet { mode: Immutability::Locked }, Timestamp(0)).await.unwrap();
    let back = VaultChange::ImmutabilitySet { mode: Immutability::Disabled };
    refused(rules.append(back, Timestamp(0)).await.map(drop), "locked");
    assert_eq!(chain.load().await.unwrap().points.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_fails_at_any_write_costs_nothing_and_is_finished_by_the_next() {
    for writes in 0.. {
        let (world, account) = (World::new().await, MemoryAccount::new());
        for number in 0..40 {
            account.put("c", &format!("{number}"), noise(90_000, number));
        }
        world.back_up(&account, "job-1").await.unwrap();
        for number in (0..40).step_by(2) {
            account.put("c", &format!("{number}"), noise(90_000, 1_000 + number));
        }
        world.back_up(&account, "job-2").await.unwrap();
        remove(&world, "job-1").await.unwrap();
        world.store.fail_after_writes(writes);
        let outcome = prune_with(&world, &options()).await;
        world.store.fail_after_writes(i64::MAX);
        world.assert_sound().await;
        assert_eq!(world.restored("job-2").await, account.contents(), "after {writes} writes");
        // A backup between the two must not take anything from a condemned pack.
        account.put("c", "0", noise(90_000, 0));
        world.back_up(&account, "job-3").await.unwrap();
        prune(&world).await;
        world.assert_sound().await;
        assert_eq!(world.restored("job-3").await, account.contents(), "after {writes} writes and a prune");
        if outcome.is_ok() {
            assert!(writes > 4, "a prune writes more than {writes} files");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_lives_is_waited_for_and_a_dead_one_is_fenced() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    account.put("large", "forty mebibytes", noise(40 << 20, 5));
    world.back_up(&account, "job-2").await.unwrap();
    remove(&world, "job-1").await.unwrap();

    let vault = world.vault().await;
    let living = Registration::begin(&vault, WorkKind::Restore, "inst", "job-2").await.unwrap();
    let patient = PruneOptions { patience: Duration::from_secs(3_600), ..options() };
    let (outcome, ()) = tokio::join!(prune_with(&world, &patient), async {
        // The prune cannot end before the reader does: it is given every chance to.
        while Chain::vault(&vault).load().await.unwrap().condemned.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.restored("job-2").await, account.contents());
        assert!(Chain::vault(&vault).load().await.unwrap().condemned.is_some());
        living.end().await;
    });
    assert_eq!(outcome.unwrap().fenced, 0);

    account.put("large", "forty mebibytes", noise(40 << 20, 6));
    world.back_up(&account, "job-3").await.unwrap();
    remove(&world, "job-2").await.unwrap();
    let dead = Registration::begin(&vault, WorkKind::Backup, "inst", "job-4").await.unwrap();
    let seen = Chain::instance(&vault, "inst").unwrap().load().await.unwrap().number;
    std::mem::forget(dead);
    assert_eq!(prune(&world).await.fenced, 1);
    assert_eq!(registered(&vault).await.unwrap(), []);
    let late = Change::PointAdded {
        job: "job-4".into(),
        started_at: Timestamp(1),
        completed_at: Timestamp(1),
        expires_at: None,
        registered: seen,
    };
    let error = Chain::instance(&vault, "inst").unwrap().append(late, Timestamp(0)).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(world.restored("job-3").await, account.contents());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_runs_become_few() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for number in 0..30 {
        account.put("c", "x", noise(100_000, number));
        world.back_up(&account, &format!("job-{number}")).await.unwrap();
    }
    let report = prune(&world).await;
    assert!(report.index_runs.0 >= 30 && report.index_runs.1 == 1, "{report:?}");
    assert_eq!(world.restored("job-3").await.into_values().next().unwrap(), noise(100_000, 3));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_job_has_done_is_kept_for_it() {
    let (world, account) = (World::new().await, sample());
    account.fail_after_reads(Some(150));
    let keen = || blobkeep_vault::backup::BackupOptions {
        progress_every: Duration::ZERO,
        ..blobkeep_vault::backup::BackupOptions::new("inst", "job-1")
    };
    assert!(world.back_up_with(&account, keen()).await.is_err());
    account.fail_after_reads(None);
    let report = prune(&world).await;
    assert_eq!(report.kept_progress, 1);
    account.take_calls();
    let done = world.back_up_with(&account, keen()).await.unwrap();
    assert!(done.point.counts.read_blobs > 0);
    let reads = account
        .take_calls()
        .into_iter()
        .filter(|call| matches!(call, blobkeep_testkit::account::Call::Read(..)))
        .count();
    assert!(reads < 300, "{reads} reads: what the first run had read is not read again");
    assert_eq!(world.restored("job-1").await, account.contents());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_needs_cannot_be_told_is_not_pruned() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let (name, _) = world.files.files().into_iter().find(|(name, _)| name.starts_with("points/")).unwrap();
    world.files.replace(&name, Vec::new());
    let files = world.files.files();
    let error = prune_with(&world, &options()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&name), "{error}");
    assert_eq!(world.files.files(), files);
}
