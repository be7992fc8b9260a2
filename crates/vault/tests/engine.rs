//! What a backup and a restore promise, told on accounts in memory.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blobkeep_testkit::account::{Call, MemoryAccount};
use blobkeep_vault::backup::{BackupOptions, BackupSelection};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::restore::{
    self, ContainerSelection, InPlaceOptions, Instant, NameRange, NoJournal, RestoreOptions, RestoreState, Selection,
};
use blobkeep_vault::state::Chain;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{
    BlobEntry, BlobKind, ContentHeaders, Error, ErrorKind, MasterKey, OnConflict, Store, Timestamp, Unwatched, Vault,
};
use world::{World, noise, sample};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_comes_back_byte_for_byte() {
    let (world, account) = (World::new().await, sample());
    let report = world.back_up(&account, "job-1").await.unwrap();
    assert_eq!(report.point.root.totals.blobs, 302);
    assert_eq!(report.point.counts.skipped_blobs, 0);
    assert_eq!(world.restored("job-1").await, account.contents());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_read_in_groups_make_the_same_manifest() {
    let (world, account) = (World::new().await, sample());
    let one_by_one = world.back_up(&account, "job-1").await.unwrap().point;
    let options = BackupOptions::new("grouped", "job-1");
    let grouped = world.back_up_with(&account.clone().with_groups_of(50), options).await.unwrap().point;
    assert_eq!(grouped.root, one_by_one.root);
    assert_eq!(grouped.counts.read_blobs, one_by_one.counts.read_blobs);
    assert_eq!(grouped.counts.read_bytes, one_by_one.counts.read_bytes);
    let target = MemoryAccount::new().with_groups_of(7);
    world.restore("job-1", &target, RestoreOptions::default()).await.unwrap();
    assert_eq!(target.contents(), account.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_in_a_group_costs_no_other_blob_of_it() {
    let (world, account) = (World::new().await, MemoryAccount::new().with_groups_of(50));
    for number in 0..40 {
        account.put("c", &format!("blob {number:02}"), noise(1000, number));
    }
    account.touch("c", "blob 07", |entry| entry.tier = Some("Archive".into()));
    account.change_at_read(5, "c", "blob 11", noise(2000, 99));
    let point = world.back_up(&account, "job-1").await.unwrap().point;
    assert_eq!(point.counts.skipped_blobs, 1);
    let mut expected = account.contents();
    expected.remove(&("c".into(), "blob 07".into()));
    assert_eq!(expected[&("c".into(), "blob 11".into())], noise(2000, 99), "it did change");
    assert_eq!(world.restored("job-1").await, expected);
    account.fail_after_reads(Some(0));
    account.put("c", "blob 03", "new");
    assert!(world.back_up(&account, "job-2").await.is_err(), "an endpoint that fails makes no point");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_property_comes_back() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    let entry = BlobEntry {
        container: "c".into(),
        name: "all".into(),
        kind: BlobKind::Append { sealed: true },
        headers: ContentHeaders { content_type: Some("text/plain".into()), ..ContentHeaders::default() },
        content_md5: Some([7; 16]),
        metadata: vec![("a".into(), "1".into())],
        tags: vec![("t".into(), "ü".into())],
        tier: Some("Cool".into()),
        ..BlobEntry::default()
    };
    account.put_entry(entry, "content");
    world.back_up(&account, "job-1").await.unwrap();
    account.touch("c", "all", |entry| entry.tags = vec![("t".into(), "later".into())]);
    let report = world.back_up(&account, "job-2").await.unwrap();
    assert_eq!(report.point.counts.read_blobs, 0, "tags change without a read");
    let target = MemoryAccount::new();
    world.restore("job-2", &target, RestoreOptions::default()).await.unwrap();
    let (mut restored, mut original) = (target.blobs(), account.blobs());
    for (entry, _) in restored.values_mut().chain(original.values_mut()) {
        entry.etag.clear();
        entry.modified_at = Timestamp(0);
    }
    assert_eq!(restored, original);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_account_is_not_read_and_adds_almost_nothing() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    account.take_calls();
    let before = world.files.total_bytes();
    let report = world.back_up(&account, "job-2").await.unwrap();
    assert!(account.take_calls().iter().all(|call| matches!(call, Call::List(_))));
    assert_eq!((report.point.counts.unchanged_blobs, report.point.counts.new_chunks), (302, 0));
    let added = world.files.total_bytes() - before;
    assert!(added < 4_096, "{added} bytes were added");
    assert_eq!(world.restored("job-2").await, account.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mebibyte_costs_less_than_four_on_average() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    let mut content = noise(64 << 20, 5);
    account.put("c", "big", content.clone());
    world.back_up(&account, "job-1").await.unwrap();
    // Where chunks are cut is a secret of each vault, so one change alone may meet two long ones.
    let places: Vec<usize> = (4..64).step_by(10).map(|mebibyte| mebibyte << 20).collect();
    for place in &places {
        content[*place..place + (1 << 20)].copy_from_slice(&noise(1 << 20, *place as u64));
    }
    account.put("c", "big", content);
    let before = world.files.total_bytes();
    world.back_up(&account, "job-2").await.unwrap();
    let added = world.files.total_bytes() - before;
    assert!(added < (4 << 20) * places.len() as u64, "{added} bytes were added");
    assert_eq!(world.restored("job-2").await, account.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_in_another_order_is_sorted_first() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let straight = world.vault().await;
    let root = blobkeep_vault::point::Point::get(&straight, "inst", "job-1").await.unwrap().root;
    account.list_backwards();
    let report = world.back_up(&account, "job-2").await.unwrap();
    assert_eq!(report.point.root, root, "equal lists have one root");
    assert_eq!(report.point.counts.unchanged_blobs, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_blob_is_left_out_with_a_reason_unless_it_was_read_before() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    account.put("c", "later", "content");
    world.back_up(&account, "job-1").await.unwrap();
    account.touch("c", "later", |entry| entry.tier = Some("Archive".into()));
    account.put("c", "never", "content");
    account.touch("c", "never", |entry| entry.tier = Some("Archive".into()));
    let report = world.back_up(&account, "job-2").await.unwrap();
    assert_eq!(report.point.counts.skipped_blobs, 1);
    let skipped = report.point.skipped(&world.vault().await, 10).await.unwrap();
    assert_eq!((skipped[0].name.as_str(), skipped.len()), ("never", 1));
    assert!(skipped[0].reason.contains("archive tier"));
    assert_eq!(world.restored("job-2").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_goes_on_where_it_was() {
    let (world, account) = (World::new().await, sample());
    let options = BackupOptions { progress_every: Duration::ZERO, ..BackupOptions::new("inst", "job-1") };
    account.fail_after_reads(Some(200));
    assert!(world.back_up_with(&account, options.clone()).await.is_err());
    assert!(Chain::instance(&world.vault().await, "inst").unwrap().load().await.unwrap().points.is_empty());
    account.fail_after_reads(None);
    account.take_calls();
    let report = world.back_up_with(&account, options).await.unwrap();
    let reads = account.take_calls().iter().filter(|call| matches!(call, Call::Read(..))).count();
    assert!(reads < 200, "{reads} reads after going on");
    assert_eq!(report.point.root.totals.blobs, 302);
    assert_eq!(world.restored("job-1").await, account.contents());
    assert!(world.files.files().iter().all(|(name, _)| !name.starts_with("progress/")), "progress is cleared");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_write_leaves_a_sound_vault_and_the_job_can_be_run_again() {
    let account = MemoryAccount::new();
    for number in 0..40_u64 {
        account.put("c", &format!("{number:03}"), noise(20_000, number));
    }
    for writes in 0.. {
        let world = World::new().await;
        world.back_up(&account, "job-1").await.unwrap();
        account.put("c", "010", noise(20_000, 1_000 + writes as u64));
        world.store.fail_after_writes(writes);
        let is_done = world.back_up(&account, "job-2").await.is_ok();
        world.store.fail_after_writes(i64::MAX);
        world.assert_sound().await;
        world.back_up(&account, "job-2").await.unwrap();
        assert_eq!(world.restored("job-2").await, account.contents(), "after a crash at write {writes}");
        world.assert_sound().await;
        if is_done {
            assert!(writes > 3, "a backup makes several writes");
            return;
        }
    }
}

/// The puts that were begun for the first version must not count as stored when the second one needs the same chunks.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_that_changes_while_it_is_read_comes_back_as_it_is_then() {
    for at_read in 1..8 {
        let (world, account) = (World::new().await, MemoryAccount::new());
        let mut content = noise(30 << 20, 7);
        account.put("c", "big", content.clone());
        content[29 << 20..].copy_from_slice(&noise(1 << 20, 8));
        account.change_at_read(at_read, "c", "big", content);
        world.back_up(&account, "job-1").await.unwrap();
        assert_eq!(world.restored("job-1").await, account.contents(), "changed at read {at_read}");
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_of_a_listing_in_another_order_is_whole() {
    let (world, account) = (World::new().await, sample());
    account.list_backwards();
    world.back_up(&account, "job-1").await.unwrap();
    assert_eq!(world.restored("job-1").await, account.contents());
    world.assert_sound().await;
}

/// A pack that could not be stored takes chunks of several blobs with it; progress must not promise them.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_now_and_then_never_makes_a_point_with_holes() {
    let account = MemoryAccount::new();
    for number in 0..60_u64 {
        account.put("c", &format!("{number:03}"), noise(900_000, number));
    }
    for writes in 0.. {
        let world = World::new().await;
        let options = BackupOptions { progress_every: Duration::ZERO, ..BackupOptions::new("inst", "job-1") };
        world.store.fail_after_writes(writes);
        let is_done = world.back_up_with(&account, options.clone()).await.is_ok();
        world.store.fail_after_writes(i64::MAX);
        world.back_up_with(&account, options).await.unwrap();
        assert_eq!(world.restored("job-1").await, account.contents(), "after a failure at write {writes}");
        if is_done || writes > 12 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_disappears_meanwhile_is_left_out_with_a_warning() {
    let (world, account) = (World::new().await, sample());
    account.vanish_at_list("c1");
    let report = world.back_up(&account, "job-1").await.unwrap();
    assert_eq!((report.point.root.totals.containers, report.point.root.totals.blobs), (2, 152));
    assert!(report.warnings[0].contains("c1"), "{:?}", report.warnings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_leaves_what_could_not_be_backed_up() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    account.put("c", "archived", "content");
    account.touch("c", "archived", |entry| entry.tier = Some("Archive".into()));
    account.put("c", "plain", "before");
    world.back_up(&account, "job-1").await.unwrap();
    account.put("c", "plain", "after");
    let vault = world.vault().await;
    let point = blobkeep_vault::point::Point::get(&vault, "inst", "job-1").await.unwrap();
    let options = InPlaceOptions { ranges: vec![], is_whole_account: false, scratch: std::env::temp_dir() };
    let live = Arc::new(account.clone());
    let state = restore::run_in_place(
        &vault,
        Instant::Point(&point),
        live.clone(),
        live,
        &options,
        RestoreState::default(),
        &NoJournal,
        &Unwatched,
    )
    .await
    .unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.removed_blobs, state.counts.skipped_blobs), (1, 0, 1));
    assert_eq!(account.contents()[&("c".into(), "plain".into())], "before");
    assert!(account.contents().contains_key(&("c".into(), "archived".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_makes_no_point_where_that_is_asked_for() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let options =
        |job: &str| BackupOptions { only_if_differs_from: Some("job-1".into()), ..BackupOptions::new("inst", job) };
    let report = world.back_up_with(&account, options("job-2")).await.unwrap();
    assert!(!report.is_new && report.point.job == "job-1");
    account.put("c0", "new", "x");
    // Another tier sees the change first; it is still a change for this one.
    world.back_up(&account, "job-3").await.unwrap();
    let report = world.back_up_with(&account, options("job-4")).await.unwrap();
    assert!(report.is_new && report.point.job == "job-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_a_committed_job_again_reports_its_point() {
    let (world, account) = (World::new().await, sample());
    let first = world.back_up(&account, "job-1").await.unwrap();
    account.put("c0", "new", "later");
    let again = world.back_up(&account, "job-1").await.unwrap();
    assert_eq!(first.point, again.point);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_containers_prefixes_and_new_names_are_restored_alone() {
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let selection = Selection {
        containers: vec![
            ContainerSelection { name: "large".into(), rename_to: Some("renamed".into()), ..Default::default() },
            ContainerSelection {
                name: "c1".into(),
                prefixes: vec!["deep/3/".into(), "deep/3/blob 1".into()],
                ..Default::default()
            },
        ],
        ..Selection::default()
    };
    let target = MemoryAccount::new();
    let options = RestoreOptions { selection, ..RestoreOptions::default() };
    let state = world.restore("job-1", &target, options).await.unwrap();
    let expected: BTreeMap<_, _> = account
        .contents()
        .into_iter()
        .filter_map(|((container, name), content)| match container.as_str() {
            "large" => Some((("renamed".to_owned(), name), content)),
            "c1" if name.starts_with("deep/3/") => Some(((container, name), content)),
            _ => None,
        })
        .collect();
    assert!(expected.len() > 10);
    assert_eq!(target.contents(), expected);
    assert_eq!(state.counts.written_blobs, expected.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_would_meet_a_container_or_a_bad_name_writes_nothing() {
    let (world, account) = (World::new().await, sample());
    account.put("c0", "unacceptable", "x");
    world.back_up(&account, "job-1").await.unwrap();
    let target = MemoryAccount::new();
    target.put("c1", "mine", "precious");
    let error = world.restore("job-1", &target, RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let options = RestoreOptions { on_conflict: OnConflict::Overwrite, ..RestoreOptions::default() };
    let error = world.restore("job-1", &target, options).await.unwrap_err();
    assert!(error.to_string().contains("unacceptable"), "{error}");
    assert_eq!(target.contents().len(), 1);
    let containers = vec![ContainerSelection { name: "none".into(), ..Default::default() }];
    let missing = Selection { containers, ..Selection::default() };
    let options = RestoreOptions { selection: missing, ..RestoreOptions::default() };
    assert_eq!(world.restore("job-1", &target, options).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_and_accepts_its_own_containers_only() {
    use std::sync::Mutex;
    struct Kept(Mutex<RestoreState>);
    #[async_trait::async_trait]
    impl restore::Journal for Kept {
        async fn save(&self, state: &RestoreState) -> Result<(), Error> {
            *self.0.lock().unwrap() = state.clone();
            Ok(())
        }
    }
    let (world, account) = (World::new().await, sample());
    world.back_up(&account, "job-1").await.unwrap();
    let vault = world.vault().await;
    let point = blobkeep_vault::point::Point::get(&vault, "inst", "job-1").await.unwrap();
    let target = MemoryAccount::new();
    target.fail_after_writes(Some(301));
    let kept = Kept(Mutex::default());
    let options = RestoreOptions::default();
    let run = |state| restore::run(&vault, &point, Arc::new(target.clone()), &options, state, &kept, &Unwatched);
    assert!(run(RestoreState::default()).await.is_err());
    target.fail_after_writes(None);
    assert_eq!(run(RestoreState::default()).await.unwrap_err().kind(), ErrorKind::Conflict, "a stranger's restore");
    let state = kept.0.lock().unwrap().clone();
    assert!(state.cursor.is_some());
    let state = run(state).await.unwrap();
    assert_eq!(target.contents(), account.contents());
    assert_eq!(state.counts.written_blobs, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_rolls_back_what_changed_and_touches_nothing_else() {
    let (world, account) = (World::new().await, sample());
    let before = account.contents();
    world.back_up(&account, "job-1").await.unwrap();
    account.put("c0", "deep/0/later", "made later");
    account.put("c0", "deep/0/blob 0 ü%25", "changed");
    account.remove("c1", "deep/1/blob 1 ü%25");
    account.put("large", "forty mebibytes", "changed, outside of the ranges");
    account.take_calls();
    let vault = world.vault().await;
    let point = blobkeep_vault::point::Point::get(&vault, "inst", "job-1").await.unwrap();
    let ranges =
        vec![NameRange { min: "c0".into(), max: "c0-0".into() }, NameRange { min: "c1".into(), max: "c1-0".into() }];
    let options = InPlaceOptions { ranges, is_whole_account: false, scratch: std::env::temp_dir() };
    let live = Arc::new(account.clone());
    let state = restore::run_in_place(
        &vault,
        Instant::Point(&point),
        live.clone(),
        live,
        &options,
        RestoreState::default(),
        &NoJournal,
        &Unwatched,
    )
    .await
    .unwrap();
    let touched = account.take_calls().into_iter().filter(|call| !matches!(call, Call::List(_))).count();
    assert_eq!((state.counts.written_blobs, state.counts.removed_blobs, touched), (2, 1, 3));
    let mut after = account.contents();
    after.insert(("large".into(), "forty mebibytes".into()), noise(40 << 20, 2).into());
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chosen_containers_are_backed_up_and_a_missing_one_is_an_error() {
    let (world, account) = (World::new().await, sample());
    let select = |containers: &[&str], exclude: &[&str]| BackupSelection {
        containers: (!containers.is_empty()).then(|| containers.iter().map(ToString::to_string).collect()),
        exclude_container_prefixes: exclude.iter().map(ToString::to_string).collect(),
    };
    let options = |job: &str, selection| BackupOptions { selection, ..BackupOptions::new("inst", job) };
    let report = world.back_up_with(&account, options("job-1", select(&["c1"], &[]))).await.unwrap();
    assert_eq!((report.point.root.totals.containers, report.point.root.totals.blobs), (1, 150));
    let report = world.back_up_with(&account, options("job-2", select(&[], &["c"]))).await.unwrap();
    assert_eq!((report.point.root.totals.containers, report.point.root.totals.blobs), (1, 2));
    let error = world.back_up_with(&account, options("job-3", select(&["c1", "gone"], &[]))).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_opens_nothing_and_says_so() {
    let world = World::new().await;
    let error = Vault::open(world.store.clone(), &MasterKey::generate().unwrap()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let error =
        Vault::init(world.store.clone(), &world.master, ChunkSizes::default(), Timestamp(1)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// {flip a bit, cut short, delete} × {every file of a small vault}: found by verify, and never restored silently.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_file_is_found_and_never_restored() {
    let (world, account) = (World::new().await, MemoryAccount::new());
    for number in 0..30_u64 {
        account.put("c", &format!("{number}"), noise(9_000, number));
    }
    account.put("c", "large", noise(3 << 20, 99));
    world.back_up(&account, "job-1").await.unwrap();
    let content = account.contents();
    let seen = SeenNumbers::from([("inst".to_owned(), 2), ("vault".to_owned(), 1)]);
    for (name, file) in world.files.files() {
        let mut flipped = file.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        let cut = file[..file.len() - 1].to_vec();
        for (damage, bytes) in [("flipped", Some(flipped)), ("cut", Some(cut)), ("deleted", None)] {
            match bytes {
                Some(bytes) => world.files.replace(&name, bytes),
                None => world.files.delete(&name).await.unwrap(),
            }
            let opened = Vault::open(world.store.clone(), &world.master).await;
            let is_slot = name.starts_with("keys/");
            if let Ok(vault) = &opened {
                let report = verify::run(vault, Depth::Bytes, &seen, &Unwatched).await;
                let is_found = report.as_ref().map_or(true, |report| !report.damage.is_empty());
                assert!(is_found, "{name} {damage} was not found");
                let target = MemoryAccount::new();
                if world.restore("job-1", &target, RestoreOptions::default()).await.is_ok() {
                    assert_eq!(target.contents(), content, "{name} {damage}: a restore said that it was whole");
                }
            } else {
                assert!(!is_slot, "one damaged slot must not cost the vault: {name} {damage}");
            }
            world.files.replace(&name, file.clone());
        }
    }
    world.assert_sound().await;
}
