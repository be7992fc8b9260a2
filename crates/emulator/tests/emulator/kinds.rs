//! Block blobs in parts, append blobs, page blobs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobkeep_emulator::{SeedKind, md5_base64};

use crate::client::{ACCOUNT, Server, encoded};

fn block_path(path: &str, id: &str) -> String {
    format!("{path}?comp=block&blockid={}", encoded(&STANDARD.encode(id)))
}

fn block_list(entries: &[(&str, &str)]) -> String {
    let entries: String =
        entries.iter().map(|(kind, id)| format!("<{kind}>{}</{kind}>", STANDARD.encode(id))).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{entries}</BlockList>")
}

#[tokio::test]
async fn blocks_become_a_blob_when_they_are_listed() {
    let server = Server::start().await;
    for (id, bytes) in [("01", "hello "), ("02", "world"), ("03", "unused")] {
        let put = server.put(&block_path("/c/b", id)).body(bytes).send().await.expect(201);
        assert!(put.header("x-ms-content-crc64").is_some());
    }
    server.get("/c/b").send().await.expect_error(404, "BlobNotFound");
    assert!(server.list("").await.elements("Name").is_empty());
    assert_eq!(server.list("&include=uncommittedblobs").await.elements("Name"), ["b"]);
    let pending = server.get("/c/b?comp=blocklist&blocklisttype=all").send().await.expect(200);
    assert_eq!(pending.elements("Size"), ["6", "5", "6"]);

    let list = block_list(&[("Latest", "02"), ("Uncommitted", "01"), ("Latest", "02")]);
    server.put("/c/b?comp=blocklist").with("x-ms-meta-a", "1").body(&list).send().await.expect(201);
    let got = server.get("/c/b").send().await.expect(200);
    assert_eq!(got.text(), "worldhello world");
    assert_eq!((got.header("x-ms-meta-a"), got.header("content-md5")), (Some("1"), None));
    let range = server.get("/c/b").with("x-ms-range", "bytes=3-8").send().await.expect(206);
    assert_eq!(range.text(), "ldhell");

    // A committed block can be used again; one that was left out is gone.
    server.put("/c/b?comp=blocklist").body(block_list(&[("Committed", "01")])).send().await.expect(201);
    assert_eq!(server.get("/c/b").send().await.expect(200).text(), "hello ");
    let unknown = server.put("/c/b?comp=blocklist").body(block_list(&[("Latest", "03")]));
    unknown.send().await.expect_error(400, "InvalidBlockList");
}

#[tokio::test]
async fn a_list_stores_the_md5_and_headers_that_come_with_it() {
    let server = Server::start().await;
    server.put(&block_path("/c/b", "1")).body("x").send().await.expect(201);
    server
        .put("/c/b?comp=blocklist")
        .with("content-type", "application/xml")
        .with("x-ms-blob-content-type", "text/plain")
        .with("x-ms-blob-content-md5", &md5_base64(b"x"))
        .with("x-ms-access-tier", "Cold")
        .body(block_list(&[("Latest", "1")]))
        .send()
        .await
        .expect(201);
    let head = server.head("/c/b").send().await.expect(200);
    assert_eq!(head.header("content-type"), Some("text/plain"));
    assert_eq!(head.header("content-md5"), Some(md5_base64(b"x").as_str()));
    assert_eq!(head.header("x-ms-access-tier"), Some("Cold"));
}

#[tokio::test]
async fn block_ids_have_one_length_and_are_base64() {
    let server = Server::start().await;
    server.put(&block_path("/c/b", "1")).body("x").send().await.expect(201);
    server.put(&block_path("/c/b", "1111")).body("x").send().await.expect_error(400, "InvalidBlobOrBlock");
    server.put("/c/b?comp=block&blockid=!").body("x").send().await.expect_error(400, "InvalidQueryParameterValue");
    let wrong = server.put(&block_path("/c/b", "2")).with("content-md5", &md5_base64(b"y")).body("x");
    wrong.send().await.expect_error(400, "Md5Mismatch");
}

#[tokio::test]
async fn an_append_blob_grows_in_order_until_it_is_sealed() {
    let server = Server::start().await;
    server.put("/c/log").with("x-ms-blob-type", "AppendBlob").send().await.expect(201);
    let append = |bytes: &str| server.put("/c/log?comp=appendblock").body(bytes);
    let first = append("one\n").send().await.expect(201);
    assert_eq!(first.header("x-ms-blob-append-offset"), Some("0"));
    let second = append("two\n").with("x-ms-blob-condition-appendpos", "4").send().await.expect(201);
    assert_eq!(second.header("x-ms-blob-append-offset"), Some("4"));
    assert_eq!(second.header("x-ms-blob-committed-block-count"), Some("2"));
    let again = append("two\n").with("x-ms-blob-condition-appendpos", "4");
    again.send().await.expect_error(412, "AppendPositionConditionNotMet");
    let limited = append("three\n").with("x-ms-blob-condition-maxsize", "10");
    limited.send().await.expect_error(412, "MaxBlobSizeConditionNotMet");
    assert_eq!(server.get("/c/log").send().await.expect(200).text(), "one\ntwo\n");

    server.put("/c/log?comp=seal").send().await.expect(200);
    append("x").send().await.expect_error(409, "BlobIsSealed");
    assert_eq!(server.list("").await.elements("Sealed"), ["true"]);
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.put("/c/b?comp=appendblock").body("x").send().await.expect_error(409, "InvalidBlobType");
}

#[tokio::test]
async fn a_page_blob_is_zeros_but_for_what_is_written() {
    let server = Server::start().await;
    let create = |length: &str| {
        server.put("/c/disk").with("x-ms-blob-type", "PageBlob").with("x-ms-blob-content-length", length)
    };
    create("1000").send().await.expect_error(400, "InvalidHeaderValue");
    create("1048576").with("x-ms-blob-sequence-number", "7").send().await.expect(201);
    let page = |range: &str, action: &str| {
        server.put("/c/disk?comp=page").with("x-ms-range", range).with("x-ms-page-write", action)
    };
    page("bytes=512-1535", "update").body([1u8; 1_024]).send().await.expect(201);
    page("bytes=524288-524799", "update").body([2u8; 512]).send().await.expect(201);
    page("bytes=512-1023", "clear").send().await.expect(201);
    page("bytes=0-100", "update").body([0u8; 101]).send().await.expect_error(416, "InvalidPageRange");
    page("bytes=1048576-1049087", "update").body([0u8; 512]).send().await.expect_error(416, "InvalidPageRange");
    let guarded = page("bytes=0-511", "update").with("x-ms-if-sequence-number-lt", "7").body([0u8; 512]);
    guarded.send().await.expect_error(412, "SequenceNumberConditionNotMet");

    let ranges = server.get("/c/disk?comp=pagelist").send().await.expect(200);
    assert_eq!(
        (ranges.elements("Start"), ranges.elements("End")),
        (vec!["1024".into(), "524288".into()], vec!["1535".into(), "524799".into()])
    );
    let whole = server.get("/c/disk").send().await.expect(200);
    assert_eq!(whole.header("x-ms-blob-sequence-number"), Some("7"));
    let mut expected = vec![0u8; 1_048_576];
    expected[1_024..1_536].fill(1);
    expected[524_288..524_800].fill(2);
    assert!(whole.body == expected);
    let resized = server.put("/c/disk?comp=properties").with("x-ms-blob-content-length", "1024");
    resized.with("x-ms-sequence-number-action", "increment").send().await.expect(200);
    let blob = server.emulator.get_blob(ACCOUNT, "c", "disk").unwrap().blob;
    assert_eq!((blob.kind, blob.content.len(), blob.sequence_number), (SeedKind::Page, 1_024, 8));
}
