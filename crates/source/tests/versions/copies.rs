//! Versions that become the blob again.

use blobkeep_source::AzureOptions;
use blobkeep_vault::{BlobEntry, BlobKind, ContainerEntry, Source, SourceErrorKind, Target, Written};

use crate::setup::{ACCOUNT, by_key, by_sas, entry, quick, setup, written};

#[tokio::test]
async fn a_version_becomes_the_blob_again_with_all_that_it_was() {
    for by_signature in [false, true] {
        let setup = setup().await;
        let account = if by_signature { by_sas(&setup.emulator, "rwdlact") } else { by_key(&setup.emulator) };
        let rich = BlobEntry {
            metadata: vec![("owner".into(), "me".into())],
            tags: vec![("k".into(), "1 & 2".into())],
            tier: Some("Cool".into()),
            ..entry("a b/ü&?.txt")
        };
        let mut rich = rich;
        rich.headers.content_type = Some("text/plain".into());
        let first = setup.put(&rich, "first").await;
        let version = first.current_version.clone().unwrap();
        let second = setup.put(&entry("a b/ü&?.txt"), "second").await;
        setup.requests();
        assert_eq!(account.copy_version(&first, &version, Some(&second)).await.unwrap(), written());
        assert_eq!(setup.requests(), ["CopyBlob"], "one request, and no content through here");
        let back = setup.now(&first.name).await;
        assert_eq!((&back.metadata, &back.tags, &back.tier), (&first.metadata, &first.tags, &first.tier));
        assert_eq!((&back.headers, back.content_md5), (&first.headers, first.content_md5));
        assert_eq!(setup.content(&first.name).await, "first");
        assert_ne!(back.current_version, first.current_version, "it is a version of its own");

        // What was deleted comes back as well; who asks for it again finds it done.
        setup.delete(&first.name).await;
        assert_eq!(account.copy_version(&first, &version, None).await.unwrap(), written());
        let there = setup.now(&first.name).await;
        for live in [None, Some(&second)] {
            assert_eq!(account.copy_version(&first, &version, live).await.unwrap(), written());
        }
        assert_eq!(setup.now(&first.name).await, there, "it was not copied anew");
        // What has come meanwhile is not overwritten.
        setup.put(&entry(&first.name), "third").await;
        for live in [None, Some(&second)] {
            let error = account.copy_version(&first, &version, live).await.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
            assert!(!error.message.contains("sig="), "{error}");
        }
        let gone = "2001-01-01T00:00:00.0000000Z";
        let live = setup.now(&first.name).await;
        let other = BlobEntry { etag: "0x1".into(), ..first.clone() };
        let error = account.copy_version(&other, gone, Some(&live)).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
        setup.emulator.stop().await;
    }
}

#[tokio::test]
async fn a_blob_that_has_the_content_is_only_adjusted() {
    let setup = setup().await;
    let tagged = BlobEntry { tags: vec![("k".into(), "1".into())], ..entry("a") };
    let first = setup.put(&tagged, "first").await;
    let version = first.current_version.clone().unwrap();
    let mut changed = BlobEntry { tags: vec![], tier: Some("Cool".into()), ..first.clone() };
    changed.headers.cache_control = Some("no-cache".into());
    setup.adjust(&changed).await;
    let live = setup.now("a").await;
    assert_eq!((&live.tags, &live.headers.cache_control), (&vec![], &changed.headers.cache_control));
    assert_eq!(live.current_version, first.current_version, "none of it makes a version");
    setup.requests();
    let Written::Written { lost } = setup.account.copy_version(&first, &version, Some(&live)).await.unwrap() else {
        panic!("written")
    };
    assert!(lost.len() == 1 && lost[0].contains("inherited"), "{lost:?}");
    assert_eq!(setup.requests(), ["SetBlobProperties", "SetBlobTags"]);
    let back = setup.now("a").await;
    assert_eq!((&back.tags, &back.headers), (&first.tags, &first.headers));
    setup.requests();
    let same = setup.now("a").await;
    setup.requests();
    assert_eq!(setup.account.copy_version(&same, &version, Some(&same)).await.unwrap(), written());
    assert_eq!(setup.requests(), Vec::<&str>::new(), "nothing differs");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn headers_that_were_changed_without_a_new_version_are_put_back_after_the_copy() {
    let setup = setup().await;
    let mut html = entry("a");
    html.headers.content_type = Some("text/html".into());
    let first = setup.put(&html, "first").await;
    let mut plain = first.clone();
    plain.headers.content_type = Some("text/plain".into());
    setup.adjust(&plain).await;
    let second = setup.put(&entry("a"), "second").await;
    let version = first.current_version.clone().unwrap();
    assert_eq!(setup.account.copy_version(&first, &version, Some(&second)).await.unwrap(), written());
    assert_eq!(setup.now("a").await.headers.content_type.as_deref(), Some("text/html"));
    assert_eq!(setup.content("a").await, "first");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_copy_is_named() {
    let setup = setup().await;
    let first = setup.put(&entry("a"), "first").await;
    let version = first.current_version.clone().unwrap();
    let live = setup.put(&entry("a"), "second").await;
    for (status, code, kind, words) in [
        (412, "LeaseIdMissing", SourceErrorKind::Refused, "leased"),
        (409, "BlobImmutableDueToPolicy", SourceErrorKind::Refused, "legal hold"),
        (409, "BlobArchived", SourceErrorKind::Archived, "tier"),
        (409, "PendingCopyOperation", SourceErrorKind::Refused, "another copy"),
    ] {
        setup.emulator.faults().fail_next_with_code("CopyBlob", 1, status, code);
        let error = setup.account.copy_version(&first, &version, Some(&live)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words) && error.message.contains("photos/a"), "{error}");
    }
    // A right that is missing for the tags alone is reported, and the copy is made.
    let tagged = BlobEntry { tags: vec![("k".into(), "1".into())], ..first.clone() };
    let without_tags = by_sas(&setup.emulator, "rwdlac");
    let Written::Written { lost } = without_tags.copy_version(&tagged, &version, Some(&live)).await.unwrap() else {
        panic!("written")
    };
    assert!(lost.len() == 1 && lost[0].contains("tags"), "{lost:?}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_counts_as_done() {
    let setup = setup().await;
    let first = setup.put(&entry("a"), "first").await;
    let version = first.current_version.clone().unwrap();
    let live = setup.put(&entry("a"), "second").await;
    setup.emulator.faults().lose_answer("CopyBlob", 1);
    assert_eq!(setup.account.copy_version(&first, &version, Some(&live)).await.unwrap(), written());
    assert_eq!(setup.content("a").await, "first");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn an_appended_blob_has_no_version_of_what_it_was() {
    let setup = setup().await;
    let log = BlobEntry { kind: BlobKind::Append { sealed: false }, ..entry("log") };
    let first = setup.put(&log, "first").await;
    let version = first.current_version.clone().unwrap();
    let grown = BlobEntry { etag: "0x1".into(), size_bytes: 100, ..first.clone() };
    let error = setup.account.copy_version(&first, &version, Some(&grown)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Refused);
    assert!(error.message.contains("in place"), "{error}");
    setup.emulator.stop().await;
}

#[tokio::test]
async fn versions_and_copies_keep_to_the_one_container_that_was_given() {
    let setup = setup().await;
    let sas = setup.emulator.container_sas(ACCOUNT, "photos", "rwdlact");
    let url = format!("{}/photos?{}", setup.emulator.account_url(ACCOUNT), sas.trim_start_matches('?'));
    let one = quick(AzureOptions::from_url(&url, None, None).unwrap());
    assert!(one.create_container(&ContainerEntry { name: "photos".into(), ..Default::default() }).await.unwrap());
    let other = BlobEntry { container: "other".into(), ..entry("a") };
    assert_eq!(one.copy_version(&other, "v", None).await.unwrap_err().kind, SourceErrorKind::Refused);
    assert_eq!(one.list_versions("other", None).await.unwrap_err().kind, SourceErrorKind::Refused);
    setup.emulator.stop().await;
}
