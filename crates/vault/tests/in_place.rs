//! What a restore in place to an instant promises: copies inside of the account, nothing written if a version is missing, and what cannot be
//! brought back left as it is and named.

#![allow(clippy::unwrap_used)]

mod continuous;

use std::sync::Arc;

use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::journal;
use blobkeep_vault::pack::{PackId, PackKind};
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NameRange, NoJournal, RestoreState};
use blobkeep_vault::{BlobEntry, BlobKind, ErrorKind, Source, Store, Unwatched};
use continuous::{Continuous, INSTANCE, key, protected};

#[tokio::test]
async fn a_restore_copies_inside_the_account_and_moves_no_content() {
    let (world, at) = protected().await;
    let before = world.contents();
    world.account.put("c", "one", "changed");
    world.account.remove("c", "two");
    world.account.remove("d", "empty");
    world.account.put("new", "made later", "x");
    world.look().await;
    let plan = world.plan(at, &[]).await.unwrap();
    assert_eq!((plan.copies, plan.removals, plan.unchanged, plan.left), (3, 1, 0, 0));
    world.account.take_counts();
    world.restore(at, &[]).await.unwrap();
    assert_eq!((world.contents(), world.account.take_counts()), (before, (3, 0)));
    let containers = world.account.containers().await.unwrap();
    assert_eq!(containers.len(), 3, "a container that was made later is left empty");
    let again = world.restore(at, &[]).await.unwrap();
    assert!(again.counts.removed_blobs == 0 && world.account.blobs().len() == 3);
}

#[tokio::test]
async fn a_container_made_after_the_base_point_comes_back_from_the_journal_alone() {
    let (world, _) = protected().await;
    world.account.put("new", "a", "1");
    world.account.put("new", "b", "2");
    world.look().await;
    let (at, before) = (world.later(), world.contents());
    world.account.remove("new", "a");
    world.account.put("new", "b", "3");
    world.account.put("newer", "c", "4");
    world.look().await;
    world.restore(at, &[NameRange::new("new", "new-0")]).await.unwrap();
    let mut wanted = before.clone();
    wanted.insert(key("newer", "c"), "4".into());
    assert_eq!(world.contents(), wanted);
    world.restore(at, &[]).await.unwrap();
    assert_eq!(world.contents(), before);
}

#[tokio::test]
async fn a_change_that_the_feed_tells_again_later_does_not_undo_what_came_after_it() {
    let (world, _) = protected().await;
    world.account.put("c", "one", "second");
    world.account.put("c", "one", "third");
    let vault = world.vault().await;
    let begin = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let mut page = world.account.changes(&begin.position.cursor).await.unwrap();
    let (mut end, _) = world.look().await;
    page.changes.truncate(1);
    page.next = end.position.clone();
    assert_eq!(journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap().changes, 1);
    let at = world.later();
    world.account.put("c", "one", "fourth");
    world.look().await;
    world.restore(at, &[]).await.unwrap();
    assert_eq!(world.contents()[&key("c", "one")], "third");
}

#[tokio::test]
async fn a_missing_version_refuses_the_restore_and_is_named() {
    let (world, at) = protected().await;
    world.account.put("c", "one", "changed");
    world.account.put("c", "two", "changed");
    world.account.forget_versions("c", "one");
    world.look().await;
    let before = world.account.blobs();
    let plan = world.plan(at, &[]).await.unwrap();
    assert_eq!((plan.missing_in_all, plan.missing.len()), (1, 1));
    assert!(plan.missing[0].starts_with("c/one (version 20"), "{}", plan.missing[0]);
    let error = world.restore(at, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("c/one"), "{error}");
    assert_eq!(world.account.blobs(), before, "nothing was changed");
    // What is not chosen is not missed.
    let range = NameRange { min: "c/two".into(), max: "d".into() };
    world.restore(at, &[range]).await.unwrap();
    assert_eq!(world.contents()[&key("c", "two")], "second");
}

#[tokio::test]
async fn a_container_deleted_since_refuses_the_restore_unless_it_is_not_chosen() {
    let (world, at) = protected().await;
    world.account.put("c", "one", "changed");
    world.account.remove_container("d");
    world.look().await;
    let error = world.restore(at, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("deleted containers: d"), "{error}");
    world.restore(at, &[NameRange::new("c", "c-0")]).await.unwrap();
    assert_eq!(world.contents()[&key("c", "one")], "first");
}

#[tokio::test]
async fn archived_and_leased_blobs_are_left_and_named_one_by_one() {
    let (world, at) = protected().await;
    world.account.touch("c", "one", |entry| entry.tier = Some("Archive".into()));
    world.account.put("c", "two", "changed");
    world.account.lease("c", "two");
    world.account.put("d", "empty", "changed");
    world.look().await;
    let plan = world.plan(at, &[]).await.unwrap();
    assert_eq!((plan.left, plan.copies), (1, 2), "a lease is met by the restore only");
    assert!(plan.examples[0].contains("c/one") && plan.examples[0].contains("archive"), "{:?}", plan.examples);
    let state = world.restore(at, &[]).await.unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.skipped_blobs), (1, 2), "{:?}", state.counts.examples);
    assert!(state.counts.examples.iter().any(|example| example.contains("c/two") && example.contains("lease")));
    let contents = world.contents();
    assert_eq!((&contents[&key("c", "two")][..], &contents[&key("d", "empty")][..]), (&b"changed"[..], &b""[..]));
}

#[tokio::test]
async fn an_empty_container_deleted_since_is_not_missed() {
    let (world, _) = protected().await;
    world.account.remove("d", "empty");
    world.look().await;
    let (at, before) = (world.later(), world.contents());
    world.account.remove_container("d");
    world.account.put("c", "one", "changed");
    world.look().await;
    world.restore(at, &[]).await.unwrap();
    assert_eq!(world.contents(), before);
}

#[tokio::test]
async fn a_blob_that_was_written_in_place_is_left_and_named() {
    let (world, _) = protected().await;
    let entry = BlobEntry {
        container: "c".into(),
        name: "log".into(),
        kind: BlobKind::Append { sealed: false },
        content_md5: Some([7; 16]),
        ..BlobEntry::default()
    };
    world.account.put_entry(entry, "ten bytes.");
    world.look().await;
    let at = world.later();
    // An appended block makes no version, and leaves the hash that somebody set.
    world.account.touch("c", "log", |entry| {
        entry.etag = "0xAPPENDED".into();
        entry.size_bytes += 10;
    });
    world.look().await;
    let plan = world.plan(at, &[]).await.unwrap();
    assert_eq!((plan.copies, plan.left), (0, 1));
    let state = world.restore(at, &[]).await.unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.skipped_blobs), (0, 1));
    assert!(state.counts.examples[0].contains("c/log") && state.counts.examples[0].contains("written in place"));
}

#[tokio::test]
async fn content_is_put_back_although_somebody_kept_its_hash_and_length() {
    let (world, _) = protected().await;
    let entry = || BlobEntry {
        container: "c".into(),
        name: "hashed".into(),
        content_md5: Some([7; 16]),
        ..BlobEntry::default()
    };
    world.account.put_entry(entry(), "what it was");
    world.look().await;
    let at = world.later();
    world.account.put_entry(entry(), "WHAT IT IS!");
    world.look().await;
    world.restore(at, &[]).await.unwrap();
    assert_eq!(world.contents()[&key("c", "hashed")], "what it was");
}

#[tokio::test]
async fn a_version_in_the_archive_tier_is_left_by_the_plan_already() {
    let (world, at) = protected().await;
    world.account.touch("c", "one", |entry| entry.tier = Some("Archive".into()));
    world.account.put("c", "one", "changed");
    world.look().await;
    let plan = world.plan(at, &[]).await.unwrap();
    assert_eq!((plan.left, plan.copies, plan.missing_in_all), (1, 0, 0));
    assert!(plan.examples[0].contains("c/one") && plan.examples[0].contains("archive"), "{:?}", plan.examples);
}

#[tokio::test]
async fn content_that_the_vault_lost_refuses_the_restore_before_anything_is_written() {
    let world = Continuous::new().await;
    world.account.put("c", "a", "first");
    world.account.put("c", "b", "second");
    let point = world.back_up("content-1").await.point;
    world.account.put("c", "a", "changed");
    world.account.put("c", "b", "changed");
    let before = world.contents();
    let options = InPlaceOptions { ranges: vec![], is_whole_account: true, scratch: std::env::temp_dir() };
    for pack in world.names("packs/") {
        let whole = world.files.files().into_iter().find(|(name, _)| *name == pack).unwrap().1;
        let id = PackId::from_file_name(&pack).unwrap();
        if world.vault().await.reader.kind_of(id).await.unwrap() != PackKind::Content {
            continue;
        }
        for damaged in [None, Some(whole.slice(..whole.len() / 2))] {
            match damaged {
                None => world.files.delete(&pack).await.unwrap(),
                Some(half) => world.files.replace(&pack, half),
            }
            let (vault, account) = (world.vault().await, Arc::new(world.account.clone()));
            let (instant, state) = (Instant::Point(&point), RestoreState::default());
            let plan = restore::plan_in_place(&vault, instant, account.clone(), &options, &Unwatched).await.unwrap();
            assert_eq!((plan.lost_in_all, plan.copies), (2, 2), "{plan:?}");
            let error = restore::run_in_place(
                &vault,
                instant,
                account.clone(),
                account,
                &options,
                state,
                &NoJournal,
                &Unwatched,
            )
            .await
            .unwrap_err();
            assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("c/a"), "{error}");
            assert_eq!(world.contents(), before, "nothing was changed");
        }
        world.files.replace(&pack, whole);
        // One read of the pack failed, perhaps on the way: that alone does not mean that anything is lost.
        let vault = world.vault().await;
        vault.reader.mark_broken([id]);
        let live = Arc::new(world.account.clone());
        let plan = restore::plan_in_place(&vault, Instant::Point(&point), live, &options, &Unwatched).await.unwrap();
        assert_eq!((plan.lost_in_all, plan.copies), (0, 2), "{plan:?}");
    }
}

/// A feed tells some time later: its end, as it is when a base point is made, lies before what the listing of the base point sees.
#[tokio::test]
async fn what_a_feed_tells_late_of_the_time_before_a_base_point_hides_nothing_of_it() {
    let world = Continuous::new().await;
    let begin = world.account.feed().await.unwrap().unwrap();
    world.account.put("c", "before versions", "x");
    world.account.unname("c", "before versions");
    world.account.put("gone", "with its container", "y");
    world.account.put("c", "deleted", "z");
    world.account.remove("c", "deleted");
    world.account.remove_container("gone");
    for _ in 0..6 {
        world.later();
    }
    let options = BackupOptions { at_source: Some(begin), ..BackupOptions::new(INSTANCE, "base-1") };
    let source = Arc::new(world.account.clone());
    backup::run(&world.vault().await, source, &options, world.clock.as_ref(), &Unwatched).await.unwrap();
    let (at, before) = (world.later(), world.contents());
    world.later();
    world.account.put("c", "before versions", "changed");
    world.look().await;
    let state = world.restore(at, &[]).await.unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.skipped_blobs), (1, 0), "{:?}", state.counts.examples);
    assert_eq!(world.contents(), before);
}

#[tokio::test]
async fn the_lost_end_of_an_older_journal_is_noticed_by_what_the_next_base_point_says_of_it() {
    let (world, _) = protected().await;
    for content in ["second", "third"] {
        world.account.put("c", "one", content);
        world.look().await;
    }
    let at = world.later();
    world.look().await;
    world.later();
    world.base("base-2").await;
    let last = world.names("journal/").pop().unwrap();
    world.files.delete(&last).await.unwrap();
    let error = world.restore(at, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&last), "{error}");
    let report = world.verify().await;
    assert!(!report.is_sound() && report.damage.iter().any(|text| text.contains(&last)), "{:?}", report.damage);
}

#[tokio::test]
async fn a_base_point_itself_can_be_restored_in_place_without_its_journal() {
    let (world, _) = protected().await;
    let before = world.contents();
    world.account.put("c", "one", "changed");
    world.look().await;
    let (vault, account) = (world.vault().await, Arc::new(world.account.clone()));
    let (point, options) = (
        world.point("base-1").await,
        InPlaceOptions { ranges: vec![], is_whole_account: false, scratch: std::env::temp_dir() },
    );
    let instant = Instant::Point(&point);
    let state = RestoreState::default();
    restore::run_in_place(&vault, instant, account.clone(), account, &options, state, &NoJournal, &Unwatched)
        .await
        .unwrap();
    assert_eq!(world.contents(), before);
}
