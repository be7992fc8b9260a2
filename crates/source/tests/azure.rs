//! How the client behaves when an endpoint is busy, loses answers, or refuses: against the emulator's faults.

// Helpers of tests, where a failure should stop the test at once.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use blobkeep_emulator::{Emulator, EmulatorOptions, SeedBlob, SyntheticSpec};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::{
    BlobEntry, BlobKind, ContainerEntry, OnConflict, Source, SourceErrorKind, Target, Timestamp, Written,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const ACCOUNT: &str = "devstoreaccount1";

async fn emulator() -> Emulator {
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), EmulatorOptions::default()).await.unwrap();
    emulator.create_container(ACCOUNT, "photos").unwrap();
    emulator
}

fn quick(mut options: AzureOptions) -> AzureAccount {
    options.first_delay = Duration::from_millis(1);
    options.longest_delay = Duration::from_millis(5);
    AzureAccount::new(options).unwrap()
}

fn by_key(emulator: &Emulator) -> AzureAccount {
    quick(AzureOptions::from_connection_string(&emulator.connection_string(ACCOUNT)).unwrap())
}

fn by_container_sas(emulator: &Emulator, permissions: &str) -> AzureAccount {
    let sas = emulator.container_sas(ACCOUNT, "photos", permissions);
    let url = format!("{}/photos?{}", emulator.account_url(ACCOUNT), sas.trim_start_matches('?'));
    quick(AzureOptions::from_url(&url, None, None).unwrap())
}

fn entry(name: &str, size_bytes: u64) -> BlobEntry {
    BlobEntry {
        container: "photos".into(),
        name: name.into(),
        size_bytes,
        modified_at: Timestamp(1),
        ..BlobEntry::default()
    }
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_and_less_at_once() {
    let emulator = emulator().await;
    emulator.put_blob(ACCOUNT, "photos", "a", SeedBlob::new("content")).unwrap();
    let account = by_key(&emulator);
    let listed = account.list("photos", "", None).await.unwrap().entries.remove(0);
    assert_eq!(account.requests_in_flight_limit(), 16);
    for status in [408, 429, 500, 502, 503, 504] {
        emulator.faults().fail_next("GetBlob", 2, status);
        assert_eq!(account.read(&listed, 0..7).await.unwrap(), "content", "{status}");
    }
    assert!(account.requests_in_flight_limit() < 16);
    emulator.faults().fail_next("GetBlob", 100, 503);
    let error = account.read(&listed, 0..7).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.message.contains("photos/a") && error.message.contains("tried 8 times"), "{error}");
    emulator.stop().await;
}

#[tokio::test]
async fn a_listing_begins_at_a_name_where_the_endpoint_can() {
    let emulator = emulator().await;
    let spec = SyntheticSpec { count: 12_000, min_bytes: 1, max_bytes: 1, ..SyntheticSpec::default() };
    emulator.add_synthetic(ACCOUNT, "photos", spec).unwrap();
    let middle = emulator.synthetic_name(ACCOUNT, "photos", 3_000).unwrap();
    let account = by_key(&emulator);
    // Not only names that are there: the first one behind will do.
    for (from, expected) in [(middle.clone(), 9_000), (format!("{middle} ü%&"), 8_999), ("z".to_owned(), 0)] {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = account.list_from("photos", &from, cursor.as_deref()).await.unwrap().unwrap();
            names.extend(page.entries.into_iter().map(|entry| entry.name));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(names.len(), expected, "{from}");
        assert!(names.is_sorted() && names.first().is_none_or(|first| *first >= from), "{from}");
    }
    emulator.faults().fail_next("ListBlobs", 1, 400);
    assert!(account.list_from("photos", &middle, None).await.unwrap().is_none(), "an endpoint that is older");
    assert!(account.list_from("photos", &middle, None).await.unwrap().is_none(), "it is not asked again");
    assert_eq!(account.list("photos", "", None).await.unwrap().entries.len(), 5_000);
    emulator.stop().await;
}

#[tokio::test]
async fn the_top_of_a_container_is_its_folders_and_the_blobs_beside_them() {
    let emulator = emulator().await;
    for name in ["a/1", "a/2/3", "b", "ü & ä/1", "ü & ä/2", "z", "/1"] {
        emulator.put_blob(ACCOUNT, "photos", name, SeedBlob::new("content")).unwrap();
    }
    let account = by_key(&emulator);
    let top = account.top_level("photos").await.unwrap().unwrap();
    assert_eq!(top.prefixes, ["/", "a/", "ü & ä/"]);
    assert_eq!(top.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["b", "z"]);
    assert!(top.entries.iter().all(|entry| entry.size_bytes == 7));
    let spec = SyntheticSpec { count: 50_010_000, min_bytes: 1, max_bytes: 1, ..SyntheticSpec::default() };
    emulator.create_container(ACCOUNT, "many").unwrap();
    emulator.add_synthetic(ACCOUNT, "many", spec).unwrap();
    assert!(account.top_level("many").await.unwrap().is_none(), "more folders than a page has");
    emulator.stop().await;
}

#[tokio::test]
async fn broken_connections_and_short_answers_are_read_again() {
    let emulator = emulator().await;
    emulator.put_blob(ACCOUNT, "photos", "a", SeedBlob::new("content")).unwrap();
    let account = by_key(&emulator);
    let listed = account.list("photos", "", None).await.unwrap().entries.remove(0);
    emulator.faults().drop_request("GetBlob", 2);
    assert_eq!(account.read(&listed, 0..7).await.unwrap(), "content");
    emulator.faults().drop_mid_body("GetBlob", 2);
    assert_eq!(account.read(&listed, 0..7).await.unwrap(), "content");
    emulator.faults().drop_mid_body("ListBlobs", 1);
    assert_eq!(account.list("photos", "", None).await.unwrap().entries.len(), 1);
    // A lie about the length cannot be told from a shorter blob: it is an error, never short content.
    emulator.faults().truncate_body("GetBlob", 1);
    assert_eq!(account.read(&listed, 0..7).await.unwrap_err().kind, SourceErrorKind::Protocol);
    emulator.stop().await;
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_counts_as_done() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    emulator.faults().lose_answer("PutBlob", 1);
    let done = account.write_whole(&entry("a", 7), Bytes::from_static(b"content"), OnConflict::Fail).await.unwrap();
    assert_eq!(done, Written::Written { lost: vec![] });
    // Someone else's blob is no sign that ours was written.
    emulator.put_blob(ACCOUNT, "photos", "b", SeedBlob::new("another")).unwrap();
    emulator.faults().drop_request("PutBlob", 1);
    let refused = account.write_whole(&entry("b", 7), Bytes::from_static(b"content"), OnConflict::Fail).await;
    assert_eq!(refused.unwrap_err().kind, SourceErrorKind::Conflict);
    // The same for a container, for blocks that are listed, and for appended blocks.
    emulator.faults().lose_answer("CreateContainer", 1);
    let made = ContainerEntry { name: "videos".into(), ..ContainerEntry::default() };
    assert!(account.create_container(&made).await.unwrap());
    for (name, kind, operation) in [
        ("block", BlobKind::Block, "PutBlockList"),
        ("append", BlobKind::Append { sealed: false }, "AppendBlock"),
        ("append2", BlobKind::Append { sealed: false }, "PutBlob"),
    ] {
        emulator.faults().lose_answer(operation, 1);
        let wanted = BlobEntry { kind, ..entry(name, 10_000_000) };
        let mut writer = account.begin(&wanted, OnConflict::Fail).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 10_000_000])).await.unwrap();
        assert!(matches!(writer.finish().await.unwrap(), Written::Written { .. }), "{name}");
        assert_eq!(account.entry("photos", name).await.unwrap().unwrap().size_bytes, 10_000_000);
    }
    emulator.stop().await;
}

#[tokio::test]
async fn one_request_for_a_small_blob_and_none_for_an_unchanged_one() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    emulator.clear_requests();
    let wanted = BlobEntry {
        metadata: vec![("k".into(), "v".into())],
        tags: vec![("t".into(), "1".into())],
        tier: Some("Cool".into()),
        ..entry("a", 7)
    };
    account.write_whole(&wanted, Bytes::from_static(b"content"), OnConflict::Fail).await.unwrap();
    assert_eq!(emulator.requests().len(), 1);
    let listed = account.list("photos", "", None).await.unwrap().entries.remove(0);
    assert_eq!(emulator.requests().len(), 2);
    account.read(&listed, 0..7).await.unwrap();
    assert_eq!(emulator.requests().len(), 3);
    emulator.stop().await;
}

#[tokio::test]
async fn a_container_sas_reaches_its_container_and_no_other() {
    let emulator = emulator().await;
    emulator.create_container(ACCOUNT, "other").unwrap();
    let account = by_container_sas(&emulator, "rwdlact");
    assert_eq!(account.containers().await.unwrap()[0].name, "photos");
    assert_eq!(account.container("photos").await.unwrap(), None, "an empty container is still to be filled");
    assert!(account.create_container(&ContainerEntry { name: "photos".into(), ..Default::default() }).await.unwrap());
    account.write_whole(&entry("a", 1), Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap();
    assert!(account.container("photos").await.unwrap().is_some());
    let error = account.list("other", "", None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Refused);
    assert!(account.accepts(&BlobEntry { container: "other".into(), ..entry("a", 1) }).is_err());
    emulator.stop().await;
}

#[tokio::test]
async fn missing_rights_are_named_and_tags_are_done_without() {
    let emulator = emulator().await;
    emulator.put_blob(ACCOUNT, "photos", "a", SeedBlob::new("content")).unwrap();
    let without_tags = by_container_sas(&emulator, "rwdlac");
    assert_eq!(without_tags.list("photos", "", None).await.unwrap().entries.len(), 1);
    assert_eq!(without_tags.describe_limits().len(), 1);
    emulator.clear_requests();
    without_tags.list("photos", "", None).await.unwrap();
    assert_eq!(emulator.requests().len(), 1, "what was refused once is not asked for again");
    let tagged = BlobEntry { tags: vec![("t".into(), "1".into())], ..entry("b", 1) };
    let Written::Written { lost } =
        without_tags.write_whole(&tagged, Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap()
    else {
        panic!("written")
    };
    assert!(lost[0].contains("tags"), "{lost:?}");

    let read_only = by_container_sas(&emulator, "rl");
    let error = read_only.write_whole(&entry("c", 1), Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Denied);
    assert!(error.message.contains("photos/c") && error.message.contains("permission"), "{error}");
    assert!(!error.message.contains("sig="), "{error}");

    let text = emulator.connection_string(ACCOUNT).replace("AccountKey=", "AccountKey=AAAA");
    let error = quick(AzureOptions::from_connection_string(&text).unwrap()).containers().await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Denied);
    assert!(error.message.contains("check the key"), "{error}");
    emulator.stop().await;
}

#[tokio::test]
async fn tags_are_done_without_only_where_they_are_what_is_refused() {
    let emulator = emulator().await;
    let tagged = BlobEntry { tags: vec![("t".into(), "1".into())], ..entry("a", 1) };
    by_key(&emulator).write_whole(&tagged, Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap();
    for (status, code) in [
        (403, "AuthorizationFailure"),
        (403, "AuthenticationFailed"),
        (409, "ContainerBeingDeleted"),
        (400, "OutOfRangeInput"),
    ] {
        let account = by_key(&emulator);
        emulator.faults().fail_next_with_code("ListBlobs", 1, status, code);
        let error = account.list("photos", "", None).await.unwrap_err();
        assert!(error.message.contains(code), "{error}");
        assert_eq!(account.list("photos", "", None).await.unwrap().entries[0].tags, tagged.tags, "{code}");
        assert_eq!(account.limits(), Vec::<String>::new());
    }
    for (status, code) in [
        (409, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts"),
        (403, "AuthorizationPermissionMismatch"),
        (400, "UnsupportedHeader"),
        (400, "InvalidQueryParameterValue"),
    ] {
        let account = by_key(&emulator);
        emulator.faults().fail_next_with_code("ListBlobs", 1, status, code);
        assert_eq!(account.list("photos", "", None).await.unwrap().entries[0].tags, [], "{code}");
        assert!(account.limits()[0].contains("index tags are not listed"), "{:?}", account.limits());
    }
    emulator.stop().await;
}

#[tokio::test]
async fn an_entry_is_looked_for_on_the_pages_after_an_empty_one() {
    let page = |blobs: &str, next: &str| {
        format!("<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>")
    };
    let blob = |name: &str| {
        format!(
            "<Blob><Name>{name}</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified>\
             <Content-Length>1</Content-Length></Properties></Blob>"
        )
    };
    let pages =
        vec![page("", "1"), page("", "2"), page(&blob("a"), "3"), page("", "1"), page(&blob("ab"), "2"), page("", "")];
    let (account, requests) = scripted(pages.into_iter().map(|body| ("200 OK", body)).collect()).await;
    assert_eq!(account.entry("photos", "a").await.unwrap().unwrap().name, "a");
    assert_eq!(account.entry("photos", "a").await.unwrap(), None, "a greater name ends the search");
    assert_eq!(account.entry("photos", "a").await.unwrap(), None, "no next page ends it too");
    let requests = requests.await.unwrap();
    assert!(requests[2].contains("marker=2") && !requests[3].contains("marker="), "{requests:?}");
}

#[tokio::test]
async fn a_length_that_cannot_be_read_is_an_error_of_the_protocol() {
    let body = "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT\
        </Last-Modified><Content-Length>1e3</Content-Length></Properties></Blob></Blobs></EnumerationResults>";
    let (account, _) = scripted(vec![("200 OK", body.to_owned())]).await;
    let error = account.list("photos", "", None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Protocol);
    assert!(error.message.contains("1e3") && error.message.contains("Content-Length"), "{error}");
}

#[tokio::test]
async fn metadata_names_keep_their_capital_letters() {
    let (account, requests) = scripted(vec![("201 Created", String::new())]).await;
    let metadata = ["Zeta", "alphaBeta", "small"].map(|name| (name.to_owned(), "1".to_owned()));
    let wanted = BlobEntry { metadata: metadata.to_vec(), ..entry("a", 1) };
    let done = account.write_whole(&wanted, Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap();
    assert_eq!(done, Written::Written { lost: vec![] });
    let request = requests.await.unwrap().remove(0);
    for name in ["Zeta", "alphaBeta", "small"] {
        assert!(request.contains(&format!("\r\nx-ms-meta-{name}: 1\r\n")), "{request}");
    }
}

/// An endpoint that gives these answers one after the other, and then the heads of the requests that it got.
async fn scripted(answers: Vec<(&'static str, String)>) -> (AzureAccount, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/acc?sig=x", listener.local_addr().unwrap());
    let requests = tokio::spawn(async move {
        let mut heads = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|part| part == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            heads.push(String::from_utf8_lossy(&request).into_owned());
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            // What is left of the request is taken, so that closing does not take the answer back.
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut request).await;
        }
        heads
    });
    (quick(AzureOptions::from_url(&url, None, None).unwrap()), requests)
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    let account = quick(AzureOptions::from_url("http://127.0.0.1:1/acc?sig=hidden", None, None).unwrap());
    let error = account.containers().await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.message.contains("http://127.0.0.1:1/acc") && !error.message.contains("hidden"), "{error}");
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_at_once() {
    let mut options = AzureOptions::from_url("http://localhost:1/acc", None, None).unwrap();
    options.allowed.allow_loopback = false;
    let error = quick(options).containers().await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Denied);
    assert!(error.message.contains("loopback") && !error.message.contains("tried"), "{error}");
}

#[tokio::test]
async fn an_archived_blob_says_so() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    let archived = BlobEntry { tier: Some("Archive".into()), ..entry("a", 1) };
    account.write_whole(&archived, Bytes::from_static(b"x"), OnConflict::Fail).await.unwrap();
    let listed = account.entry("photos", "a").await.unwrap().unwrap();
    assert_eq!(listed.tier.as_deref(), Some("Archive"));
    assert_eq!(account.read(&listed, 0..1).await.unwrap_err().kind, SourceErrorKind::Archived);
    emulator.stop().await;
}

#[tokio::test]
async fn long_listings_are_read_page_by_page() {
    let emulator = emulator().await;
    for number in 0..6_000 {
        emulator.put_blob(ACCOUNT, "photos", &format!("{number:05}"), SeedBlob::new("")).unwrap();
    }
    let account = by_key(&emulator);
    let first = account.list("photos", "", None).await.unwrap();
    assert_eq!(first.entries.len(), 5_000);
    let second = account.list("photos", "", first.next.as_deref()).await.unwrap();
    assert_eq!((second.entries.len(), second.next), (1_000, None));
    assert_eq!(second.entries[0].name, "05000");
    emulator.stop().await;
}

#[tokio::test]
async fn an_abandoned_append_blob_is_removed_but_nobody_elses() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    let wanted = BlobEntry { kind: BlobKind::Append { sealed: false }, ..entry("log", 100) };
    let mut writer = account.begin(&wanted, OnConflict::Fail).await.unwrap().unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    assert!(account.entry("photos", "log").await.unwrap().is_some());
    drop(writer);
    while account.entry("photos", "log").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let abandoned = account.begin(&wanted, OnConflict::Fail).await.unwrap().unwrap();
    emulator.put_blob(ACCOUNT, "photos", "log", SeedBlob::new("another's")).unwrap();
    emulator.clear_requests();
    drop(abandoned);
    while emulator.count("DeleteBlob") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(account.entry("photos", "log").await.unwrap().is_some());
    emulator.stop().await;
}

const IN_PLACE: [BlobKind; 2] = [BlobKind::Append { sealed: false }, BlobKind::Page { sequence_number: 0 }];

#[tokio::test]
async fn a_blob_that_is_being_replaced_is_left_alone_until_the_first_part_and_never_removed() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    for kind in IN_PLACE {
        emulator.put_blob(ACCOUNT, "photos", "old", SeedBlob::new("old content")).unwrap();
        let wanted = BlobEntry { kind, ..entry("old", 12 << 20) };
        let mut writer = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
        drop(writer);
        let mut short = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        short.write(Bytes::from_static(b"short")).await.unwrap();
        let error = short.finish().await.unwrap_err();
        assert!(!error.message.contains("replaced"), "{error}");
        let there = account.entry("photos", "old").await.unwrap().unwrap();
        assert_eq!((there.kind, there.size_bytes), (BlobKind::Block, 11), "nothing was there to write yet");

        emulator.clear_requests();
        let mut writer = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 5 << 20])).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        assert!(error.message.contains("already replaced") && error.message.contains("restore"), "{error}");
        // Whatever clean-up there is would be a task of this thread that is ready by now.
        account.list("photos", "", None).await.unwrap();
        assert_eq!(emulator.count("DeleteBlob"), 0);
        assert_eq!(account.entry("photos", "old").await.unwrap().unwrap().kind, kind);
        let mut writer = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 12 << 20])).await.unwrap();
        assert_eq!(writer.finish().await.unwrap(), Written::Written { lost: vec![] });
    }
    emulator.stop().await;
}

#[tokio::test]
async fn an_abandoned_rest_is_removed_with_writes_under_way_where_nothing_was_before() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    for (kind, rule) in IN_PLACE.into_iter().flat_map(|kind| [(kind, OnConflict::Fail), (kind, OnConflict::Overwrite)])
    {
        let wanted = BlobEntry { kind, ..entry("new", 20 << 20) };
        let mut writer = account.begin(&wanted, rule).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 12 << 20])).await.unwrap();
        drop(writer);
        while account.entry("photos", "new").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    }
    emulator.stop().await;
}

#[tokio::test]
async fn parts_do_not_go_into_a_blob_that_someone_else_has_put_there() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    for kind in IN_PLACE {
        let wanted = BlobEntry { kind, ..entry("shared", 12 << 20) };
        let mut writer = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        writer.write(Bytes::from(vec![1; 4 << 20])).await.unwrap();
        while emulator.count("AppendBlock") + emulator.count("PutPage") == 0 {
            tokio::task::yield_now().await;
        }
        emulator.clear_requests();
        // The same kind and length, so that only its ETag tells it from ours.
        let other = BlobEntry { kind, ..entry("shared", 12 << 20) };
        let mut others = account.begin(&other, OnConflict::Overwrite).await.unwrap().unwrap();
        others.write(Bytes::from(vec![2; 12 << 20])).await.unwrap();
        others.finish().await.unwrap();
        let failed = match writer.write(Bytes::from(vec![1; 8 << 20])).await {
            Ok(()) => writer.finish().await.unwrap_err(),
            Err(error) => {
                drop(writer);
                error
            }
        };
        assert_eq!(failed.kind, SourceErrorKind::Changed, "{failed}");
        while emulator.count("DeleteBlob") == 0 {
            tokio::task::yield_now().await;
        }
        let there = account.entry("photos", "shared").await.unwrap().unwrap();
        assert_eq!(account.read(&there, 0..1).await.unwrap(), vec![2]);
        assert_eq!(account.read(&there, (4 << 20)..(4 << 20) + 1).await.unwrap(), vec![2]);
        emulator.delete_blob(ACCOUNT, "photos", "shared");
    }
    emulator.stop().await;
}

#[tokio::test]
async fn pages_and_appends_whose_answers_were_lost_count_once() {
    let emulator = emulator().await;
    let account = by_key(&emulator);
    for (kind, operation) in IN_PLACE.into_iter().zip(["AppendBlock", "PutPage"]) {
        emulator.faults().lose_answer(operation, 1);
        let content = Bytes::from((0..12_u32 << 20).map(|at| (at >> 16) as u8 | 1).collect::<Vec<u8>>());
        let wanted = BlobEntry { kind, ..entry("once", 12 << 20) };
        let mut writer = account.begin(&wanted, OnConflict::Overwrite).await.unwrap().unwrap();
        writer.write(content.clone()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap(), Written::Written { lost: vec![] });
        let there = account.entry("photos", "once").await.unwrap().unwrap();
        assert_eq!(account.read(&there, 0..8 << 20).await.unwrap(), content.slice(..8 << 20));
        assert_eq!(account.read(&there, 8 << 20..12 << 20).await.unwrap(), content.slice(8 << 20..));
    }
    emulator.stop().await;
}
