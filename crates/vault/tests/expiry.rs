//! When points go: their time is over, counted from the point's own time.

#![allow(clippy::unwrap_used)]

mod world;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::backup::{BackupOptions, Expiry};
use blobkeep_vault::restore::RestoreOptions;
use blobkeep_vault::state::{Chain, expire};
use blobkeep_vault::{ErrorKind, Timestamp};
use world::{World, noise};

#[tokio::test(flavor = "multi_thread")]
async fn expired_points_go_and_the_newest_may_stay() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    account.put("c", "x", "1");
    for job in ["job-1", "job-2", "job-3"] {
        let expires_at = Expiry::at(Timestamp(0).plus_seconds(1_800_000_000 + 1_000));
        world.back_up_with(&account, BackupOptions { expires_at, ..BackupOptions::new("inst", job) }).await.unwrap();
    }
    let vault = world.vault().await;
    let later = Timestamp(0).plus_seconds(1_900_000_000);
    assert_eq!(expire(&vault, "inst", Timestamp(0), true).await.unwrap(), [""; 0]);
    assert_eq!(expire(&vault, "inst", later, true).await.unwrap(), ["job-1", "job-2"]);
    assert_eq!(
        world.restore("job-1", &MemoryAccount::new(), RestoreOptions::default()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(world.restored("job-3").await, account.contents());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_points_time_is_counted_from_its_own_wherever_its_backup_was_cut_off() {
    for writes in 0.. {
        let (world, account) = (World::new().await, MemoryAccount::new());
        account.put("c", "x", noise(90_000, 1));
        let options = || BackupOptions {
            expires_at: Expiry::by(|started_at| Some(started_at.plus_seconds(1_000))),
            ..BackupOptions::new("inst", "job-1")
        };
        world.store.fail_after_writes(writes);
        let first = world.back_up_with(&account, options()).await;
        world.store.fail_after_writes(i64::MAX);
        // A minute later. A point that was written already, but not made visible, has the time of the first try.
        let point = world.back_up_with(&account, options()).await.unwrap().point;
        let vault = world.vault().await;
        let state = Chain::instance(&vault, "inst").unwrap().load().await.unwrap();
        let [live] = state.points.as_slice() else { panic!("{:?}", state.points) };
        assert_eq!(live.started_at, point.started_at, "after {writes} writes");
        assert_eq!(live.expires_at, Some(point.started_at.plus_seconds(1_000)), "after {writes} writes");
        if first.is_ok() {
            assert!(writes > 3, "a backup writes more than {writes} files");
            return;
        }
    }
}
