//! What the feed of an account tells, and its listings.

use std::sync::atomic::Ordering;

use blobkeep_emulator::SeedBlob;
use blobkeep_source::AzureOptions;
use blobkeep_vault::source::BlobChange;
use blobkeep_vault::{BlobEntry, BlobKind, Source, SourceErrorKind, Target};

use crate::setup::{ACCOUNT, Setup, by_key, entry, quick, setup, setup_with, written};

#[tokio::test]
async fn an_account_has_a_feed_if_it_writes_one_and_keeps_versions() {
    for (versioning, change_feed, has_feed) in [(true, true, true), (false, true, false), (true, false, false)] {
        let Setup { emulator, account, .. } = setup_with(versioning, change_feed).await;
        emulator.put_blob(ACCOUNT, "photos", "a", SeedBlob::new("content")).unwrap();
        assert_eq!(account.feed().await.unwrap().is_some(), has_feed, "{versioning} {change_feed}");
        assert_eq!(account.tells_versions(), has_feed);
        emulator.stop().await;
    }
    // Without any blob nothing tells of versions: it is believed.
    let empty = setup().await;
    assert!(empty.account.feed().await.unwrap().is_some());
    // Who may see one container only cannot read the feed.
    let sas = empty.emulator.container_sas(ACCOUNT, "photos", "rwdlact");
    let url = format!("{}/photos?{}", empty.emulator.account_url(ACCOUNT), sas.trim_start_matches('?'));
    let one_container = quick(AzureOptions::from_url(&url, None, None).unwrap());
    assert_eq!(one_container.feed().await.unwrap(), None);
    // A busy moment is not taken for an account without a feed.
    empty.emulator.faults().fail_next_with_code("GetBlob", 1, 403, "AuthorizationFailure");
    assert_eq!(empty.account.feed().await.unwrap_err().kind, SourceErrorKind::Denied);
    empty.emulator.stop().await;
}

#[tokio::test]
async fn the_feed_tells_every_change_with_what_the_blob_then_was() {
    let setup = setup().await;
    setup.put(&entry("before"), "1").await;
    let start = setup.end().await;
    assert_eq!(setup.changes_after(&start).await.0, [], "what lies before the position is not told");

    let tagged =
        BlobEntry { tags: vec![("k".into(), "1".into())], metadata: vec![("owner".into(), "me".into())], ..entry("a") };
    let first = setup.put(&tagged, "first").await;
    let cool = BlobEntry { tier: Some("Cool".into()), ..first.clone() };
    setup.adjust(&cool).await;
    let other_tags = BlobEntry { tags: vec![("k".into(), "2".into()), ("l".into(), String::new())], ..cool.clone() };
    setup.adjust(&other_tags).await;
    let mut typed = other_tags.clone();
    typed.headers.content_type = Some("text/html".into());
    setup.adjust(&typed).await;
    let second = setup.put(&entry("a"), "second").await;
    setup.put(&entry("b"), "b").await;
    setup.delete("a").await;

    let (changes, end) = setup.changes_after(&start).await;
    let told: Vec<(&str, Option<&BlobEntry>)> =
        changes.iter().map(|change| (change.name.as_str(), change.entry.as_ref())).collect();
    let names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["a", "a", "a", "a", "a", "b", "a"], "{told:?}");
    let states: Vec<&BlobEntry> = told[..5].iter().map(|(_, entry)| entry.unwrap()).collect();
    for (state, expected) in states.iter().zip([&first, &cool, &other_tags, &typed, &second]) {
        assert_eq!((&state.tags, &state.metadata), (&expected.tags, &expected.metadata));
        assert_eq!(&state.headers, &expected.headers);
        assert_eq!((state.size_bytes, state.content_md5), (expected.size_bytes, expected.content_md5));
        assert_eq!((&state.version, &state.current_version), (&None, &expected.current_version));
    }
    assert_eq!([&states[1].tier, &states[2].tier], [&cool.tier, &cool.tier]);
    assert_eq!(states[0].etag, first.etag);
    assert_ne!(states[3].etag, first.etag, "properties change it");
    assert_eq!(states[4].etag, second.etag);
    assert_eq!(told[6].1, None, "deleted");
    assert!(changes.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(changes.iter().all(|change| change.at <= end.complete_until && change.at > start.complete_until));
    assert_eq!(setup.changes_after(&end).await.0, []);
    setup.emulator.stop().await;
}

#[tokio::test]
async fn what_happens_to_earlier_versions_is_not_told_of_the_blob() {
    let setup = setup().await;
    let first = setup.put(&entry("a"), "first").await;
    setup.put(&entry("a"), "second").await;
    for whole_page in [true, false] {
        let start = setup.end().await;
        if whole_page {
            setup.put(&entry("a"), "third").await;
        }
        // Set by a rule of the account, say: a request about the version itself.
        let version = first.current_version.clone().unwrap();
        let tier = if whole_page { "Cool" } else { "Cold" };
        let old = BlobEntry { tier: Some(tier.into()), ..first.clone() };
        assert_eq!(setup.account.copy_version(&old, &version, Some(&first)).await.unwrap(), written());
        let (changes, _) = setup.changes_after(&start).await;
        let sizes: Vec<u64> = changes.iter().map(|change| change.entry.as_ref().unwrap().size_bytes).collect();
        assert_eq!(sizes, if whole_page { vec![5] } else { vec![] });
    }
    setup.emulator.stop().await;
}

#[tokio::test]
async fn a_deleted_blob_stays_deleted_whatever_happens_to_its_versions() {
    let setup = setup().await;
    let first = setup.put(&entry("a"), "first").await;
    let version = first.current_version.clone().unwrap();
    let start = setup.end().await;
    setup.delete("a").await;
    let (changes, mut position) = setup.changes_after(&start).await;
    assert_eq!(changes.iter().map(|change| &change.entry).collect::<Vec<_>>(), [&None]);
    // A rule of the account moves the version, somebody tags it; each is seen alone, and nothing else tells of the deletion.
    let cool = BlobEntry { tier: Some("Cool".into()), ..first.clone() };
    let tagged = BlobEntry { tags: vec![("k".into(), "1".into())], ..cool.clone() };
    for (wanted, was) in [(&cool, &first), (&tagged, &cool)] {
        assert_eq!(setup.account.copy_version(wanted, &version, Some(was)).await.unwrap(), written());
        let (changes, next) = setup.changes_after(&position).await;
        assert_eq!(changes, []);
        position = next;
    }
    // Neither does it come back for the time before a blob of that name is made anew.
    let cold = BlobEntry { tier: Some("Cold".into()), ..tagged.clone() };
    assert_eq!(setup.account.copy_version(&cold, &version, Some(&tagged)).await.unwrap(), written());
    setup.clock.fetch_add(2_000_000, Ordering::SeqCst);
    let second = setup.put(&entry("a"), "second").await;
    let (changes, _) = setup.changes_after(&position).await;
    let versions: Vec<_> = changes.iter().map(|change| &change.entry.as_ref().unwrap().current_version).collect();
    assert_eq!(versions, [&second.current_version]);
    setup.emulator.stop().await;
}

#[tokio::test]
async fn what_was_written_without_a_version_is_told_without_one() {
    let setup = setup_with(false, true).await;
    let start = setup.end().await;
    let put = |name: &str, blob: SeedBlob| setup.emulator.put_blob(ACCOUNT, "photos", name, blob).unwrap();
    put("a", SeedBlob::new("first"));
    put("a", SeedBlob::new("second"));
    put("b", SeedBlob::new("b"));
    assert!(setup.emulator.delete_blob(ACCOUNT, "photos", "b"));
    let mark = [("hdi_isfolder".to_owned(), "true".to_owned())].into();
    put("folder", SeedBlob { metadata: mark, ..SeedBlob::new("") });
    let (changes, _) = setup.changes_after(&start).await;
    let told: Vec<(&str, Option<u64>)> = changes
        .iter()
        .map(|change| (change.name.as_str(), change.entry.as_ref().map(|entry| entry.size_bytes)))
        .collect();
    assert_eq!(told, [("a", Some(5)), ("a", Some(6)), ("b", Some(1)), ("b", None)]);
    let has_version = |change: &BlobChange| change.entry.as_ref().is_some_and(|entry| entry.current_version.is_some());
    assert!(!changes.iter().any(has_version), "{changes:?}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn several_changes_of_a_version_are_asked_for_once() {
    let setup = setup().await;
    let start = setup.end().await;
    let first = setup.put(&entry("a"), "first").await;
    for number in 0..10 {
        setup.adjust(&BlobEntry { tags: vec![("k".into(), number.to_string())], ..first.clone() }).await;
    }
    setup.requests();
    let (changes, _) = setup.changes_after(&start).await;
    let told: Vec<&[(String, String)]> = changes.iter().map(|change| &*change.entry.as_ref().unwrap().tags).collect();
    assert_eq!(told.len(), 11);
    assert_eq!(told[0], []);
    for (number, tags) in told[1..].iter().enumerate() {
        assert_eq!(**tags, [("k".to_owned(), number.to_string())]);
    }
    let asked = setup.requests();
    assert_eq!(asked.iter().filter(|operation| **operation == "GetBlobProperties").count(), 1, "{asked:?}");
    assert!(!asked.contains(&"GetBlobTags"), "{asked:?}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn a_version_that_is_gone_is_told_as_far_as_its_event_goes() {
    let setup = setup().await;
    let start = setup.end().await;
    let first = setup.put(&entry("a"), "first").await;
    setup.emulator.delete_container(ACCOUNT, "photos");
    let (changes, _) = setup.changes_after(&start).await;
    let told = changes[0].entry.as_ref().unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((&told.etag, told.size_bytes, told.kind), (&first.etag, 5, BlobKind::Block));
    assert_eq!(told.current_version, first.current_version);
    setup.emulator.stop().await;
}

#[tokio::test]
async fn looking_for_changes_costs_three_small_requests_when_nothing_happens() {
    let setup = setup().await;
    for number in 0..300 {
        setup.emulator.put_blob(ACCOUNT, "photos", &number.to_string(), SeedBlob::new("x")).unwrap();
    }
    let position = setup.end().await;
    setup.requests();
    for _ in 0..3 {
        let (changes, next) = setup.changes_after(&position).await;
        assert_eq!((changes, next.cursor == position.cursor), (vec![], false));
        assert!(next.complete_until > position.complete_until);
        assert_eq!(setup.requests(), ["GetBlob", "ListBlobs", "ListBlobs"]);
    }
    // A change costs its part of the feed and the look at its version.
    let (_, position) = setup.changes_after(&position).await;
    setup.put(&entry("new"), "x").await;
    setup.requests();
    assert_eq!(setup.changes_after(&position).await.0.len(), 1);
    let requests = setup.emulator.requests();
    let bytes: u64 = requests.iter().map(|request| request.response_bytes).sum();
    assert!(requests.len() <= 6 && bytes < 30_000, "{requests:?}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn many_changes_come_in_pages_and_none_is_lost_or_told_twice() {
    let setup = setup().await;
    let start = setup.end().await;
    for number in 0..9_000 {
        setup.emulator.put_blob(ACCOUNT, "photos", &format!("{number:05}"), SeedBlob::new("x")).unwrap();
    }
    let first = setup.account.changes(&start.cursor).await.unwrap();
    assert!(!first.is_last && first.changes.len() <= 5_000);
    let (rest, end) = setup.changes_after(&first.next).await;
    let names: Vec<String> = first.changes.into_iter().chain(rest).map(|change| change.name).collect();
    let expected: Vec<String> = (0..9_000).map(|number| format!("{number:05}")).collect();
    assert!(names == expected, "{} changes", names.len());
    assert!(first.next.complete_until < end.complete_until, "a part is not complete");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn the_feed_goes_on_over_hours_and_from_every_position() {
    let setup = setup().await;
    let mut positions = vec![setup.end().await];
    for hour in 0..4 {
        for number in 0..3 {
            setup.put(&entry(&format!("{hour}-{number}")), "x").await;
            positions.push(setup.end().await);
        }
        // Two hours without anything between the second and the third.
        let hours = if hour == 1 { 3 } else { 1 };
        setup.clock.fetch_add(hours * 3_600_000_000, Ordering::SeqCst);
        positions.push(setup.end().await);
    }
    let (all, _) = setup.changes_after(&positions[0]).await;
    assert_eq!(all.len(), 12);
    for position in &positions {
        let (changes, _) = setup.changes_after(position).await;
        let expected: Vec<&BlobChange> = all.iter().filter(|change| change.at > position.complete_until).collect();
        assert_eq!(changes.iter().collect::<Vec<_>>(), expected, "{position:?}");
    }
    setup.emulator.stop().await;
}

#[tokio::test]
async fn a_feed_that_does_not_reach_back_is_not_found_and_another_text_is_refused() {
    let setup = setup().await;
    for number in 0..20 {
        setup.put(&entry("a"), &number.to_string()).await;
    }
    let position = setup.end().await;
    let error = setup.account.changes("2026").await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Refused);
    let other = setup_with(true, true).await;
    let error = other.account.changes(&position.cursor).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "another account, or the same begun anew: {error}");
    let without = setup_with(true, false).await;
    let error = without.account.changes(&position.cursor).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn listings_tell_versions_only_where_they_are_wanted() {
    let setup = setup().await;
    for round in 0..4 {
        for number in 0..2_000 {
            let content = format!("{round}");
            setup.emulator.put_blob(ACCOUNT, "photos", &format!("{number:04}"), SeedBlob::new(content)).unwrap();
        }
    }
    setup.delete("0007").await;
    let plain = by_key(&setup.emulator);
    setup.requests();
    let page = plain.list("photos", "", None).await.unwrap();
    assert_eq!((page.entries.len(), page.next.is_none()), (1_999, true));
    assert!(page.entries.iter().all(|entry| entry.current_version.is_none() && entry.version.is_none()));
    assert!(setup.emulator.requests().iter().all(|request| !request.target.contains("versions")));

    let told = AzureOptions::from_connection_string(&setup.emulator.connection_string(ACCOUNT)).unwrap();
    let told = quick(AzureOptions { tells_versions: true, ..told });
    for from in [None, Some("1000")] {
        let (mut entries, mut cursor) = (Vec::new(), None);
        loop {
            let page = match from {
                Some(from) => told.list_from("photos", from, cursor.as_deref()).await.unwrap().unwrap(),
                None => told.list("photos", "", cursor.as_deref()).await.unwrap(),
            };
            entries.extend(page.entries);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(entries.len(), if from.is_some() { 1_000 } else { 1_999 });
        assert!(entries.is_sorted_by(|a, b| a.key() < b.key()));
        for entry in &entries {
            assert_eq!(
                setup.emulator.version_ids(ACCOUNT, "photos", &entry.name).last(),
                entry.current_version.as_ref()
            );
        }
    }
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = plain.list_versions("photos", cursor.as_deref()).await.unwrap();
        rows.extend(page.entries);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(rows.len(), 8_000);
    assert!(rows.is_sorted_by(|a, b| a.key() < b.key()));
    assert!(rows.iter().all(|row| row.version.is_some() != row.current_version.is_some()));
    assert_eq!(rows.iter().filter(|row| row.version.is_none()).count(), 1_999);
    setup.emulator.stop().await;
}
