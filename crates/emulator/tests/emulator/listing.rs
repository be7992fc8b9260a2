//! Lists of containers and blobs: pages, markers, prefixes, delimiters, and what is told about each.

use std::time::Instant;

use blobkeep_emulator::{SeedBlob, SeedKind};

use crate::client::{ACCOUNT, Server, encoded};

/// All names of a list, page by page.
async fn all_names(server: &Server, query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let page = server.list(&format!("{query}&marker={}", encoded(&marker))).await;
        names.extend(page.elements("Name"));
        marker = page.elements("NextMarker").remove(0);
        if marker.is_empty() {
            return names;
        }
    }
}

fn fill(server: &Server, names: &[&str]) {
    for name in names {
        server.emulator.put_blob(ACCOUNT, "c", name, SeedBlob::new(name.as_bytes().to_vec())).unwrap();
    }
}

#[tokio::test]
async fn pages_of_any_size_give_the_same_names_in_the_order_of_their_bytes() {
    let server = Server::start().await;
    let names = ["B", "a", "a b", "a.txt", "a/1", "a/2/x", "a0", "b/1", "z", "é", "日本"];
    fill(&server, &names);
    for size in [1, 2, 3, 11, 5_000] {
        assert_eq!(all_names(&server, &format!("&maxresults={size}")).await, names, "{size}");
    }
    assert_eq!(all_names(&server, "&maxresults=1&prefix=a").await, ["a", "a b", "a.txt", "a/1", "a/2/x", "a0"]);
    assert_eq!(all_names(&server, "&maxresults=2&startFrom=a%2F2").await, ["a/2/x", "a0", "b/1", "z", "é", "日本"]);
    let flat = server.list("&maxresults=5&prefix=zz").await;
    assert!(flat.elements("Name").is_empty());
    assert_eq!(flat.elements("NextMarker"), [""]);
}

#[tokio::test]
async fn a_delimiter_folds_names_into_prefixes_on_every_page_size() {
    let server = Server::start().await;
    fill(&server, &["a", "a/1", "a/2/x", "a/2/y", "a//", "b/1", "b0"]);
    for size in [1, 2, 5_000] {
        let query = format!("&delimiter=%2F&maxresults={size}");
        assert_eq!(all_names(&server, &query).await, ["a", "a/", "b/", "b0"], "{size}");
        let below = all_names(&server, &format!("{query}&prefix=a%2F")).await;
        assert_eq!(below, ["a//", "a/1", "a/2/"], "{size}");
    }
    let page = server.list("&delimiter=%2F").await.text();
    assert!(page.contains("<BlobPrefix><Name>a/</Name></BlobPrefix>"), "{page}");
    assert_eq!(all_names(&server, "&delimiter=2%2F").await, ["a", "a//", "a/1", "a/2/", "b/1", "b0"]);
}

#[tokio::test]
async fn names_that_xml_can_not_hold_are_encoded_and_marked() {
    let server = Server::start().await;
    fill(&server, &["ctl\u{1}/%", "edge\u{fffe}", "tab\t&<"]);
    let page = server.list("").await.text();
    assert!(page.contains("<Name Encoded=\"true\">ctl%01/%25</Name>"), "{page}");
    assert!(page.contains("<Name Encoded=\"true\">edge%EF%BF%BE</Name>"), "{page}");
    assert!(page.contains("<Name>tab\t&amp;&lt;</Name>"), "{page}");
    assert_eq!(all_names(&server, "&maxresults=1").await.len(), 3);
}

#[tokio::test]
async fn a_row_has_azures_elements_in_azures_order() {
    let server = Server::start().await;
    let seed = SeedBlob {
        content_type: Some("text/plain".to_owned()),
        metadata: [("owner".to_owned(), "a & b".to_owned())].into(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        tier: Some("Cool".to_owned()),
        ..SeedBlob::new("x")
    };
    let etag = server.emulator.put_blob(ACCOUNT, "c", "b", seed).unwrap();
    let page = server.list("&include=metadata,tags,copy&prefix=b").await.text();
    assert!(page.starts_with(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://127.0.0.1:"
    ));
    assert!(page.contains(
        "/devstoreaccount1/\" ContainerName=\"c\"><Prefix>b</Prefix><Blobs><Blob><Name>b</Name><Properties>"
    ));
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let row = format!(
        "<Properties><Creation-Time>{date}</Creation-Time><Last-Modified>{date}</Last-Modified><Etag>{etag}</Etag>\
         <Content-Length>1</Content-Length><Content-Type>text/plain</Content-Type><Content-Encoding />\
         <Content-Language /><Content-CRC64 /><Content-MD5>nd1O8MSUPRT3LXs7IsyaFQ==</Content-MD5><Cache-Control />\
         <Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Cool</AccessTier>\
         <AccessTierChangeTime>{date}</AccessTierChangeTime><LeaseStatus>unlocked</LeaseStatus>\
         <LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted><TagCount>1</TagCount></Properties>\
         <Metadata><owner>a &amp; b</owner></Metadata><Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet>\
         </Tags><OrMetadata /></Blob></Blobs><NextMarker /></EnumerationResults>"
    );
    let row = row.replace("nd1O8MSUPRT3LXs7IsyaFQ==", &blobkeep_emulator::md5_base64(b"x"));
    assert!(page.ends_with(&row), "{page}\n\n{row}");
}

#[tokio::test]
async fn kinds_and_inferred_tiers_are_told() {
    let server = Server::start().await;
    fill(&server, &["block"]);
    let page = SeedBlob { kind: SeedKind::Page, sequence_number: 3, ..SeedBlob::new(vec![1u8; 512]) };
    server.emulator.put_blob(ACCOUNT, "c", "page", page).unwrap();
    let append = SeedBlob { kind: SeedKind::Append, ..SeedBlob::new("x") };
    server.emulator.put_blob(ACCOUNT, "c", "append", append).unwrap();
    let page = server.list("").await;
    assert_eq!(page.elements("BlobType"), ["AppendBlob", "BlockBlob", "PageBlob"]);
    assert_eq!(page.elements("AccessTierInferred"), ["true"]);
    assert_eq!(page.elements("x-ms-blob-sequence-number"), ["3"]);
}

#[tokio::test]
async fn snapshots_are_listed_before_their_blob_across_pages() {
    let server = Server::start().await;
    fill(&server, &["a", "b"]);
    for _ in 0..3 {
        server.put("/c/a?comp=snapshot").send().await.expect(201);
    }
    for size in [1, 2, 3, 5] {
        let names = all_names(&server, &format!("&include=snapshots&maxresults={size}")).await;
        assert_eq!(names, ["a", "a", "a", "a", "b"], "{size}");
    }
    let whole = server.list("&include=snapshots").await;
    let times = whole.elements("Snapshot");
    assert!(times.len() == 3 && times.is_sorted());
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let list = |query: &str| server.get(&format!("/c?restype=container&comp=list{query}"));
    list("&maxresults=5001").send().await.expect_error(400, "OutOfRangeQueryParameterValue");
    list("&maxresults=0").send().await.expect_error(400, "OutOfRangeQueryParameterValue");
    list("&maxresults=x").send().await.expect_error(400, "InvalidQueryParameterValue");
    list("&marker=made-up").send().await.expect_error(400, "InvalidQueryParameterValue");
    list("&include=everything").send().await.expect_error(400, "InvalidQueryParameterValue");
    list("&include=snapshots&delimiter=/").send().await.expect_error(400, "InvalidQueryParameterValue");
    list("&include=versions,deleted,legalhold,immutabilitypolicy").send().await.expect(200);
}

#[tokio::test]
async fn containers_are_listed_in_pages() {
    let server = Server::start().await;
    for name in ["alpha", "beta", "gamma"] {
        server.put(&format!("/{name}?restype=container")).with("x-ms-meta-n", name).send().await.expect(201);
    }
    let mut names = Vec::new();
    let mut marker = String::new();
    for _ in 0..4 {
        let query = format!("/?comp=list&maxresults=1&include=metadata&marker={}", encoded(&marker));
        let page = server.get(&query).send().await.expect(200);
        names.extend(page.elements("Name"));
        marker = page.elements("NextMarker").remove(0);
    }
    assert_eq!(names, ["alpha", "beta", "c", "gamma"]);
    assert_eq!(marker, "");
    let page = server.get("/?comp=list&prefix=al&include=metadata").send().await.expect(200);
    assert_eq!((page.elements("Name"), page.elements("n")), (vec!["alpha".into()], vec!["alpha".into()]));
}

#[tokio::test]
async fn a_page_in_the_middle_of_many_blobs_costs_what_a_page_costs() {
    let server = Server::start().await;
    for number in 0..50_000 {
        let seed = SeedBlob { with_md5: false, ..SeedBlob::new("x") };
        server.emulator.put_blob(ACCOUNT, "c", &format!("{number:06}"), seed).unwrap();
    }
    let started = Instant::now();
    let page = server.list("&prefix=0499&maxresults=10").await;
    assert_eq!(page.elements("Name").len(), 10);
    // A scan of all names would take far longer even here; the limit is wide for slow machines.
    assert!(started.elapsed().as_millis() < 200, "{:?}", started.elapsed());
    assert_eq!(all_names(&server, "").await.len(), 50_000);
    assert_eq!(server.emulator.count("ListBlobs"), 11);
}
