//! What a restore in place to an instant promises: copies inside of the account, nothing written if a version is missing, and what cannot be
//! brought back left as it is and named.

#![allow(clippy::unwrap_used)]

mod continuous;

use std::sync::Arc;

use blobkeep_vault::journal;
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NameRange, NoJournal, RestoreState};
use blobkeep_vault::{ErrorKind, Source, Unwatched};
use continuous::{INSTANCE, key, protected};

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
async fn a_base_point_itself_can_be_restored_in_place_without_its_journal() {
    let (world, _) = protected().await;
    let before = world.contents();
    world.account.put("c", "one", "changed");
    world.look().await;
    let (vault, account) = (world.vault().await, Arc::new(world.account.clone()));
    let (point, options) =
        (world.point("base-1").await, InPlaceOptions { ranges: vec![], scratch: std::env::temp_dir() });
    let instant = Instant::Point(&point);
    let state = RestoreState::default();
    restore::run_in_place(&vault, instant, account.clone(), account, &options, state, &NoJournal, &Unwatched)
        .await
        .unwrap();
    assert_eq!(world.contents(), before);
}
