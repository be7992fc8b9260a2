//! What base points and journals promise: nothing is read, nothing is written when nothing changes, and what is lost is said.

#![allow(clippy::unwrap_used)]

mod continuous;

use std::sync::Arc;
use std::time::Duration;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::backup::{self, BackupOptions, BackupSelection};
use blobkeep_vault::item::Content;
use blobkeep_vault::journal;
use blobkeep_vault::manifest::{ManifestReader, Record};
use blobkeep_vault::point::{FEED_GAP, Point};
use blobkeep_vault::prune::{self, PruneOptions};
use blobkeep_vault::restore::{self, NoJournal, RestoreOptions, RestoreState};
use blobkeep_vault::source::{BlobChange, ChangePage, FeedPosition};
use blobkeep_vault::state::{expire, remove_point};
use blobkeep_vault::verify::{self, Depth, LossScope, VerifyOptions};
use blobkeep_vault::{
    BlobEntry, Clock, ErrorKind, Item, Monitor, Source, Store, Timestamp, Unwatched, Vault, WorkProgress,
};
use continuous::{Continuous, INSTANCE, key, protected};

async fn items(vault: &Vault, point: &Point) -> Vec<Item> {
    let (mut items, mut records) = (Vec::new(), ManifestReader::new(&vault.reader, &point.root, None));
    while let Some(record) = records.next().await.unwrap() {
        if let Record::Blob(item) = record {
            items.push(item);
        }
    }
    items
}

// --- base points -----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_base_point_reads_nothing_and_points_at_versions_also_of_empty_and_archived_blobs() {
    let world = Continuous::new().await;
    world.account.put("c", "one", "first");
    world.account.put("c", "empty", "");
    world.account.put("c", "archived", "old");
    world.account.touch("c", "archived", |entry| entry.tier = Some("Archive".into()));
    let report = world.base("base-1").await;
    assert_eq!(world.account.take_counts(), (0, 0));
    assert_eq!((report.point.counts.read_bytes, report.point.counts.skipped_blobs), (0, 0));
    let vault = world.vault().await;
    let blobs = world.account.blobs();
    for item in items(&vault, &report.point).await {
        let (live, _) = &blobs[&(item.entry.container.clone(), item.entry.name.clone())];
        let version = live.current_version.clone().unwrap();
        assert_eq!(item.content, Content::AtSource { version }, "{}", item.entry.name);
    }
    assert_eq!(report.point.root.totals.blobs, 3);
    assert!(report.point.feed().is_some());

    world.account.put("c", "one", "changed");
    world.look().await;
    let second = world.base("base-2").await.point;
    assert_eq!((second.counts.unchanged_blobs, second.counts.read_blobs), (2, 1));
    let again = world.base("base-3").await.point;
    assert_eq!((again.counts.unchanged_blobs, again.root), (3, second.root));
}

#[tokio::test]
async fn a_blob_from_before_the_account_kept_versions_is_read_once_and_comes_back_from_the_vault() {
    let world = Continuous::new().await;
    world.account.put("c", "before versions", "x");
    world.account.put("c", "plain", "y");
    world.account.unname("c", "before versions");
    world.account.take_counts();
    let report = world.base("base-1").await;
    assert_eq!((report.point.counts.skipped_blobs, world.account.take_counts()), (0, (0, 1)));
    let report = world.base("base-2").await;
    assert_eq!((report.point.counts.unchanged_blobs, world.account.take_counts()), (2, (0, 0)), "once");
    let at = world.later();
    world.account.put("c", "before versions", "changed");
    world.account.put("c", "unnamed later", "z");
    world.account.unname("c", "unnamed later");
    world.look().await;
    let both = world.later();
    world.account.put("c", "unnamed later", "zz");
    world.look().await;

    let state = world.restore(at, &[]).await.unwrap();
    assert_eq!((state.counts.written_blobs, state.counts.removed_blobs), (1, 1), "{:?}", state.counts.examples);
    assert_eq!(world.contents()[&key("c", "before versions")], "x");

    world.look().await;
    let state = world.restore(both, &[]).await.unwrap();
    assert!(state.counts.examples[0].contains("named no version"), "{:?}", state.counts.examples);
    assert_eq!(world.contents()[&key("c", "before versions")], "changed", "as it was then");
}

#[tokio::test]
async fn a_backup_of_content_takes_nothing_over_from_a_base_point_nor_the_other_way_round() {
    let (world, _) = protected().await;
    let content = world.back_up("content-1").await.point;
    assert_eq!((content.counts.unchanged_blobs, content.counts.read_blobs, content.feed()), (0, 3, None));
    let base = world.base("base-2").await.point;
    assert_eq!((base.counts.unchanged_blobs, base.counts.read_blobs), (3, 0), "of the base point before");
    let again = world.back_up("content-2").await.point;
    assert_eq!((again.counts.unchanged_blobs, again.root), (3, content.root), "of the content before");
    let target = MemoryAccount::new();
    let (vault, to) = (world.vault().await, Arc::new(target.clone()));
    restore::run(&vault, &again, to, &RestoreOptions::default(), RestoreState::default(), &NoJournal, &Unwatched)
        .await
        .unwrap();
    assert_eq!(target.contents(), world.contents());
}

/// Stops when so many blobs are done.
struct StopAt(u64, std::sync::atomic::AtomicBool);

impl Monitor for StopAt {
    fn progress(&self, progress: &WorkProgress) {
        self.1.fetch_or(progress.blobs >= self.0, std::sync::atomic::Ordering::SeqCst);
    }

    fn should_stop(&self) -> Option<String> {
        self.1.load(std::sync::atomic::Ordering::SeqCst).then(|| "enough".to_owned())
    }
}

#[tokio::test]
async fn an_interrupted_base_point_leaves_nothing_to_a_backup_of_content_and_stays_for_its_own_job() {
    let (world, _) = protected().await;
    for number in 0..400 {
        world.account.put("e", &format!("{number:03}"), "content");
    }
    let options = || BackupOptions { progress_every: Duration::ZERO, ..BackupOptions::new(INSTANCE, "base-2") };
    let stop = StopAt(100, Default::default());
    assert_eq!(world.base_with(options(), &stop).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!world.names("progress/").is_empty());
    let content = world.back_up("content-1").await.point;
    assert_eq!((content.counts.read_blobs, content.counts.unchanged_blobs), (403, 0));
    assert!(!world.names("progress/inst/base-2/").is_empty(), "it is still of use to its own job");
    let base = world.base_with(options(), &Unwatched).await.unwrap().point;
    assert_eq!((base.root.totals.blobs, base.counts.read_blobs + base.counts.unchanged_blobs), (403, 403));
    assert_eq!(world.names("progress/"), [""; 0]);
}

#[tokio::test]
async fn a_base_point_covers_the_whole_account_or_is_refused() {
    let world = Continuous::new().await;
    world.account.add_container("c");
    let selection = BackupSelection { containers: Some(vec!["c".into()]), ..BackupSelection::default() };
    let options = BackupOptions { selection, ..BackupOptions::new(INSTANCE, "base-1") };
    assert_eq!(world.base_with(options, &Unwatched).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_stays_at_its_account_is_never_taken_for_an_empty_blob() {
    let (world, _) = protected().await;
    let (vault, point) = (world.vault().await, world.point("base-1").await);
    for item in items(&vault, &point).await {
        let error = vault.reader.content(&item.content).next().await.unwrap_err();
        assert!(error.to_string().contains("stays at its account"), "{error}");
        assert!(vault.reader.is_whole(&item.content).await.unwrap());
    }
    let target = MemoryAccount::new();
    let (to, options) = (Arc::new(target.clone()), RestoreOptions::default());
    let error = restore::run(&vault, &point, to, &options, RestoreState::default(), &NoJournal, &Unwatched).await;
    let error = error.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("in place"), "{error}");
    assert!(target.contents().is_empty());
    let rehearsal = verify::rehearse(&vault, &point, &Unwatched).await.unwrap();
    assert_eq!((rehearsal.at_source_blobs, rehearsal.blobs, rehearsal.failed_blobs), (3, 0, 0));
}

// --- journals --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn nothing_is_written_while_nothing_changes() {
    let (world, _) = protected().await;
    let before = world.files.files().len();
    world.later();
    let (end, report) = world.look().await;
    assert_eq!((world.files.files().len(), report.segments, end.segments), (before, 0, 0));
    assert_eq!(end.position.complete_until, world.clock.now(), "the end moves on all the same");
}

#[tokio::test]
async fn the_end_of_a_journal_is_known_again_after_a_restart() {
    let (world, _) = protected().await;
    for number in 0..3 {
        world.account.put("c", &format!("{number}"), "x");
        world.later();
        world.look().await;
    }
    let (end, _) = world.look().await;
    let again = journal::end(&world.vault().await, INSTANCE).await.unwrap().unwrap();
    assert_eq!((again.segments, again.changes, again.base.as_str()), (3, 3, "base-1"));
    assert_eq!(again.position.cursor, end.position.cursor);
    let (first, last) = journal::range(&world.vault().await, INSTANCE).await.unwrap().unwrap();
    assert_eq!((first, last), (again.base_completed_at, again.position.complete_until));
    assert!(journal::end(&world.vault().await, "other").await.unwrap().is_none());
    assert!(journal::range(&world.vault().await, "other").await.unwrap().is_none());
}

#[tokio::test]
async fn the_end_of_a_long_journal_is_found_without_listing_it_and_a_segment_that_is_missing_before_it_is_named() {
    let (world, _) = protected().await;
    let vault = world.vault().await;
    let begin = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let mut end = begin.clone();
    for number in 1..=4_700 {
        let at = Timestamp(begin.position.complete_until.0 + number);
        let (container, name, sequence) = ("c".to_owned(), "one".to_owned(), format!("{number:08}"));
        let next = FeedPosition { cursor: format!("{number}"), complete_until: at };
        let changes = vec![BlobChange { container, name, at, sequence, entry: None }];
        let page = ChangePage { changes, next, is_last: true };
        journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
    }
    assert_eq!(journal::end(&vault, INSTANCE).await.unwrap(), Some(end));
    let names = world.names("journal/");
    world.files.delete(&names[4_690]).await.unwrap();
    let error = journal::end(&vault, INSTANCE).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&names[4_690]), "{error}");
}

#[tokio::test]
async fn one_of_two_who_write_the_same_journal_is_told_and_so_is_who_writes_one_that_has_gone() {
    let (world, _) = protected().await;
    world.account.put("c", "one", "changed");
    let vault = world.vault().await;
    let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let page = world.account.changes(&end.position.cursor).await.unwrap();
    world.look().await;
    let error = journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && end.segments == 0, "{error}");
    remove_point(&vault, INSTANCE, "base-1", world.clock.now()).await.unwrap();
    assert_eq!(world.names("journal/"), [""; 0], "the journal goes with its base point");
    let error = journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.names("journal/"), [""; 0]);
}

#[tokio::test]
async fn a_hundred_changes_a_second_take_less_than_thirty_kilobytes_a_second() {
    let (world, _) = protected().await;
    let vault = world.vault().await;
    let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let start = end.position.complete_until.0;
    let hash = |number: i64| *blake3::hash(&number.to_le_bytes()).as_bytes();
    let (seconds, mut bytes) = (60, 0);
    for second in 0..seconds {
        let changes = (0..100).map(|number| {
            let at = Timestamp(start + second * 1_000_000 + number * 9_973);
            let random = hash(second * 100 + number);
            let mut md5 = [0; 16];
            md5.copy_from_slice(&random[..16]);
            let container = format!("container-{}", number % 7);
            let name =
                format!("year=2026/month=11/device-{:03}/part-{:08x}.parquet", number % 50, second * 100 + number);
            let entry = BlobEntry {
                container: container.clone(),
                name: name.clone(),
                size_bytes: 1_000 + u64::from(random[0]),
                etag: format!("0x8DE{}", hex::encode_upper(&random[16..22])),
                content_md5: Some(md5),
                created_at: Timestamp(at.0 / 1_000_000 * 1_000_000),
                modified_at: Timestamp(at.0 / 1_000_000 * 1_000_000),
                current_version: Some(format!("{at}").replace('Z', "1Z")),
                ..BlobEntry::default()
            };
            let sequence = format!("0000000000000001000000000000{:016X}0000000000000000", at.0);
            BlobChange { container, name, at, sequence, entry: Some(entry) }
        });
        let complete_until = Timestamp(start + (second + 1) * 1_000_000);
        let next = FeedPosition { cursor: format!("{{\"shard\":\"00\",\"offset\":{second}}}"), complete_until };
        let page = ChangePage { changes: changes.collect(), next, is_last: true };
        bytes += journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap().bytes;
    }
    assert_eq!((end.changes, end.segments), (6_000, 60));
    let a_second = bytes / seconds as u64;
    assert!(a_second < 30_000, "{a_second} bytes a second");
    println!("{a_second} bytes a second in segments of a second");
}

#[tokio::test]
async fn a_page_of_many_changes_becomes_several_segments_and_is_read_again_as_a_whole_after_a_crash() {
    let (world, _) = protected().await;
    let account = world.account.clone().with_pages_of(10_000);
    for number in 0..5_000 {
        account.put("c", &format!("{number:04}"), format!("{number}"));
    }
    let at = world.later();
    let vault = world.vault().await;
    let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    let (begin, page) = (end.clone(), account.changes(&end.position.cursor).await.unwrap());
    let report = journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
    assert_eq!((report.segments, report.changes), (2, 5_000));
    // The second one had not been written when the machine stopped.
    world.files.delete(&world.names("journal/")[1]).await.unwrap();
    let mut end = journal::end(&vault, INSTANCE).await.unwrap().unwrap();
    assert_eq!((end.segments, &end.position), (1, &begin.position));
    journal::append(&vault, INSTANCE, &mut end, &page).await.unwrap();
    let before = world.contents();
    for number in 0..5_000 {
        account.remove("c", &format!("{number:04}"));
    }
    let state = world.restore(at, &[]).await.unwrap();
    assert_eq!((state.counts.written_blobs, world.contents()), (5_000, before));
}

#[tokio::test]
async fn a_lost_segment_ends_the_instants_before_it_and_the_next_base_point_begins_new_ones() {
    let (world, _) = protected().await;
    let mut instants = Vec::new();
    for number in 0..4 {
        world.account.put("c", "one", format!("{number}"));
        let (end, _) = world.look().await;
        instants.push((end.position.complete_until, world.contents()));
        world.later();
    }
    let options = VerifyOptions::default();
    let report = verify::run_recorded(&world.vault().await, &options, world.clock.as_ref(), &Unwatched).await.unwrap();
    assert_eq!((report.is_sound(), report.journal_segments, report.journal_changes), (true, 4, 4));
    let names = world.names("journal/");
    let third = world.files.get(&names[2]).await.unwrap();
    world.files.replace(&names[2], third.slice(..third.len() - 1));

    for (at, contents) in &instants[..2] {
        world.restore(*at, &[]).await.unwrap();
        assert_eq!(world.contents(), *contents, "what was before is not lost");
    }
    for (at, _) in &instants[2..] {
        let error = world.plan(*at, &[]).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&names[2]), "{error}");
    }
    let report = world.verify().await;
    assert_eq!(report.losses[0].scope, LossScope::Changes { after: instants[1].0 });
    assert!(report.losses[0].to_string().starts_with("changes from 20"), "{}", report.losses[0]);
    assert_eq!((report.harmed_points, report.lost_blobs), (1, 0));

    // The watcher does not notice what lies behind the end, and the next base point goes on from there.
    world.base("base-2").await;
    world.look().await;
    let at = world.later();
    let contents = world.contents();
    world.account.put("c", "one", "much later");
    world.look().await;
    world.restore(at, &[]).await.unwrap();
    assert_eq!(world.contents(), contents);

    // A cut end is known by the number that a verification saw.
    world.files.replace(&names[2], third);
    world.files.delete(&names[3]).await.unwrap();
    let error = world.plan(instants[3].0, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&names[3]), "{error}");
    assert!(world.plan(instants[2].0, &[]).await.is_ok());
    let report = verify::run_recorded(&world.vault().await, &options, world.clock.as_ref(), &Unwatched).await.unwrap();
    assert_eq!(report.harmed_points, 1);
}

#[tokio::test]
async fn a_base_point_that_is_missing_in_between_is_noticed() {
    let (world, _) = protected().await;
    world.account.put("c", "one", "after the first");
    world.base("base-2").await;
    world.look().await;
    world.account.put("c", "one", "after the second");
    world.look().await;
    let between = world.later();
    world.later();
    world.base("base-3").await;
    world.look().await;
    let after = world.later();
    assert!(world.plan(between, &[]).await.is_ok());
    remove_point(&world.vault().await, INSTANCE, "base-2", world.clock.now()).await.unwrap();
    let error = world.plan(between, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("not known"), "{error}");
    assert!(world.plan(after, &[]).await.is_ok());
}

#[tokio::test]
async fn a_gap_in_the_feed_is_said_and_no_instant_in_it_is_restored() {
    let (world, before) = protected().await;
    world.account.put("c", "one", "nobody saw this");
    let within = world.later();
    world.later();
    let options = BackupOptions {
        labels: [(FEED_GAP.to_owned(), "true".to_owned())].into(),
        at_source: world.account.feed().await.unwrap(),
        ..BackupOptions::new(INSTANCE, "base-2")
    };
    let source = Arc::new(world.account.clone());
    backup::run(&world.vault().await, source, &options, world.clock.as_ref(), &Unwatched).await.unwrap();
    world.look().await;
    let after = world.later();
    assert_eq!(world.plan(within, &[]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        world.plan(before, &[]).await.unwrap_err().kind(),
        ErrorKind::NotFound,
        "nothing was written until then"
    );
    assert!(world.plan(after, &[]).await.is_ok());
}

#[tokio::test]
async fn instants_before_the_oldest_base_point_are_not_kept() {
    let (world, at) = protected().await;
    let error = world.plan(Timestamp(at.0 - 3_600_000_000), &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("the first instant"), "{error}");
}

#[tokio::test]
async fn journals_go_with_their_base_points_and_a_prune_removes_what_was_left() {
    let (world, _) = protected().await;
    world.account.put("c", "one", "changed");
    world.look().await;
    let left = world.names("journal/");
    let file = world.files.get(&left[0]).await.unwrap();
    world.base("base-2").await;
    world.account.put("c", "one", "changed again");
    world.look().await;
    let vault = world.vault().await;
    remove_point(&vault, INSTANCE, "base-1", world.clock.now()).await.unwrap();
    assert!(!world.names("journal/").contains(&left[0]));
    world.files.replace(&left[0], file);
    let report = world.verify().await;
    assert!(report.is_sound() && report.notes.iter().any(|note| note.contains("journal/inst/base-1")), "{report:?}");
    let options = |dry_run| PruneOptions { patience: Duration::ZERO, dry_run, ..PruneOptions::new("prune") };
    let would = prune::run(&vault, &options(true), world.clock.as_ref(), &Unwatched).await.unwrap();
    assert!(would.removed_journals == 1 && world.names("journal/").contains(&left[0]));
    let report = prune::run(&vault, &options(false), world.clock.as_ref(), &Unwatched).await.unwrap();
    assert_eq!((report.removed_journals, world.names("journal/").len()), (1, 1));

    let far = Timestamp(i64::MAX);
    assert_eq!(expire(&vault, INSTANCE, far, false).await.unwrap(), [""; 0], "it never expires");
}

#[tokio::test]
async fn a_vault_of_base_points_verifies_by_structure_and_by_bytes() {
    let (world, _) = protected().await;
    world.account.put("c", "one", "changed");
    world.look().await;
    for depth in [Depth::Structure, Depth::Bytes] {
        let options = VerifyOptions { depth, ..VerifyOptions::default() };
        let vault = world.vault().await;
        let report = verify::run_recorded(&vault, &options, world.clock.as_ref(), &Unwatched).await.unwrap();
        assert_eq!((report.is_sound(), report.journal_segments), (true, 1), "{report:?}");
        let proof = verify::Ledger::load(&vault).await.unwrap().0.point(INSTANCE, "base-1");
        assert_eq!(proof.structure_at, Some(world.clock.now()));
    }
}
