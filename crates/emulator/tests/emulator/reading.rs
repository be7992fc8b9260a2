//! Reading: whole, in ranges, under conditions, snapshots; and what is told with it.

use blobkeep_emulator::{SeedBlob, crc64_base64, md5_base64};

use crate::client::{ACCOUNT, Server, encoded};

#[tokio::test]
async fn a_blob_comes_back_with_everything_that_was_put() {
    let server = Server::start().await;
    let put = server
        .put_block_blob("/c/b", "hello world")
        .with("x-ms-blob-content-type", "text/x-greeting")
        .with("x-ms-blob-content-encoding", "identity")
        .with("x-ms-blob-content-language", "en")
        .with("x-ms-blob-content-disposition", "inline")
        .with("x-ms-blob-cache-control", "no-cache")
        .with("x-ms-meta-owner", "ada")
        .with("x-ms-tags", "project=x%20y&level=1")
        .with("x-ms-access-tier", "Cool")
        .with("x-ms-client-request-id", "mine")
        .send()
        .await
        .expect(201);
    assert_eq!(put.header("content-md5"), Some(md5_base64(b"hello world").as_str()));
    assert_eq!(put.header("x-ms-content-crc64"), Some(crc64_base64(b"hello world").as_str()));
    assert_eq!(put.header("x-ms-client-request-id"), Some("mine"));
    let etag = put.header("etag").unwrap();
    assert!(etag.starts_with("\"0x8D") && etag.ends_with('"'), "{etag}");

    let get = server.get("/c/b").send().await.expect(200);
    let head = server.head("/c/b").send().await.expect(200);
    assert_eq!(get.text(), "hello world");
    assert!(head.body.is_empty());
    for reply in [&get, &head] {
        for (name, value) in [
            ("content-length", "11"),
            ("content-type", "text/x-greeting"),
            ("content-encoding", "identity"),
            ("content-language", "en"),
            ("content-disposition", "inline"),
            ("cache-control", "no-cache"),
            ("content-md5", &md5_base64(b"hello world")),
            ("etag", etag),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("x-ms-creation-time", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("x-ms-meta-owner", "ada"),
            ("x-ms-tag-count", "2"),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-lease-state", "available"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name}");
        }
    }
    assert_eq!(head.header("x-ms-access-tier"), Some("Cool"));
    let tags = server.get("/c/b?comp=tags").send().await.expect(200);
    assert_eq!(
        (tags.elements("Key"), tags.elements("Value")),
        (vec!["level".into(), "project".into()], vec!["1".into(), "x y".into()])
    );
}

#[tokio::test]
async fn ranges_are_cut_out_and_those_past_the_end_are_416() {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("0123456789")).unwrap();
    let range = |range: &str| server.get("/c/b").with("x-ms-range", range);
    let middle = range("bytes=2-4").with("x-ms-range-get-content-md5", "true").send().await.expect(206);
    assert_eq!(middle.text(), "234");
    assert_eq!(middle.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(middle.header("content-md5"), Some(md5_base64(b"234").as_str()));
    assert_eq!(middle.header("x-ms-blob-content-md5"), Some(md5_base64(b"0123456789").as_str()));
    assert_eq!(range("bytes=7-").send().await.expect(206).text(), "789");
    assert_eq!(range("bytes=7-100").send().await.expect(206).text(), "789");
    let past = range("bytes=10-11").send().await.expect_error(416, "InvalidRange");
    assert_eq!(past.header("content-range"), Some("bytes */10"));
    range("bytes=5").send().await.expect_error(400, "InvalidHeaderValue");
    let standard = server.get("/c/b").with("range", "bytes=0-0").send().await.expect(206);
    assert_eq!(standard.text(), "0");
}

#[tokio::test]
async fn reads_can_be_bound_to_an_etag() {
    let server = Server::start().await;
    let etag = server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("1")).unwrap();
    let quoted = format!("\"{etag}\"");
    server.get("/c/b").with("if-match", &quoted).send().await.expect(200);
    let same = server.get("/c/b").with("if-none-match", &quoted).send().await.expect(304);
    assert!(same.body.is_empty());
    server.pass_seconds(1);
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("2")).unwrap();
    server.get("/c/b").with("if-match", &quoted).send().await.expect_error(412, "ConditionNotMet");
    server.head("/c/b").with("if-match", &quoted).send().await.expect_error(412, "ConditionNotMet");
    server.get("/c/b").with("if-none-match", &quoted).send().await.expect(200);
    let first = "Thu, 01 Jan 2026 00:00:00 GMT";
    server.get("/c/b").with("if-modified-since", first).send().await.expect(200);
    server.get("/c/b").with("if-unmodified-since", first).send().await.expect_error(412, "ConditionNotMet");
}

#[tokio::test]
async fn what_is_not_there_is_404_with_the_right_code() {
    let server = Server::start().await;
    server.get("/c/none").send().await.expect_error(404, "BlobNotFound");
    server.get("/none/b").send().await.expect_error(404, "ContainerNotFound");
    server.head("/c/none").send().await.expect_error(404, "BlobNotFound");
    server.put_block_blob("/none/b", "x").send().await.expect_error(404, "ContainerNotFound");
    server.bare_request("GET", "/stranger/c/b").send().await.expect_error(404, "ResourceNotFound");
    server.get("/c/b?comp=unheard").send().await.expect_error(501, "NotImplemented");
    let error = server.get("/c/none").send().await;
    assert_eq!(error.elements("Code"), ["BlobNotFound"]);
    assert_eq!(error.header("content-type"), Some("application/xml"));
}

#[tokio::test]
async fn names_arrive_as_they_are() {
    let server = Server::start().await;
    let names = [
        "plain",
        "with space",
        "ünïcödé/日本語 🎉",
        "100%",
        "%41",
        "a#b",
        "a?b",
        "a+b",
        "a//b",
        "/leading",
        "trailing/",
        "dot.",
        "back\\slash",
        "tab\tname",
        "line\nfeed",
        "cr\rname",
        "ctl\u{1}name",
        "edge\u{ffff}",
        "&<>\"'",
        "..",
        "a/../b",
        "quote'",
        "~",
    ];
    for name in names {
        server.put_block_blob(&format!("/c/{}", encoded(name)), name).send().await.expect(201);
        assert_eq!(server.get(&format!("/c/{}", encoded(name))).send().await.expect(200).text(), name);
    }
    let mut sorted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sorted.sort();
    assert_eq!(server.emulator.blob_names(ACCOUNT, "c"), sorted);
    // Slashes and dots may as well be sent bare.
    assert_eq!(server.get("/c/a//b").send().await.expect(200).text(), "a//b");
    assert_eq!(server.get("/c/a/../b").send().await.expect(200).text(), "a/../b");
    let long = "n".repeat(1_024);
    server.put_block_blob(&format!("/c/{long}"), "").send().await.expect(201);
    server.put_block_blob(&format!("/c/{long}x"), "").send().await.expect_error(400, "OutOfRangeInput");
}

#[tokio::test]
async fn a_snapshot_keeps_what_was() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "old").with("x-ms-meta-k", "1").send().await.expect(201);
    let first = server.put("/c/b?comp=snapshot").send().await.expect(201);
    let id = first.header("x-ms-snapshot").unwrap().to_owned();
    let second = server.put("/c/b?comp=snapshot").with("x-ms-meta-k", "2").send().await.expect(201);
    assert_ne!(Some(id.as_str()), second.header("x-ms-snapshot"));
    server.put_block_blob("/c/b", "new").send().await.expect(201);

    let old = server.get(&format!("/c/b?snapshot={}", encoded(&id))).send().await.expect(200);
    assert_eq!((old.text().as_str(), old.header("x-ms-meta-k")), ("old", Some("1")));
    assert_eq!(server.get("/c/b").send().await.expect(200).text(), "new");
    assert_eq!(server.list("&include=snapshots").await.elements("Snapshot").len(), 2);

    server.delete("/c/b").send().await.expect_error(409, "SnapshotsPresent");
    server.delete(&format!("/c/b?snapshot={}", encoded(&id))).send().await.expect(202);
    server.get(&format!("/c/b?snapshot={}", encoded(&id))).send().await.expect_error(404, "BlobNotFound");
    server.delete("/c/b").with("x-ms-delete-snapshots", "only").send().await.expect(202);
    assert!(server.list("&include=snapshots").await.elements("Snapshot").is_empty());
    server.delete("/c/b").with("x-ms-delete-snapshots", "include").send().await.expect(202);
    server.delete("/c/b").send().await.expect_error(404, "BlobNotFound");
}

#[tokio::test]
async fn a_version_is_never_mistaken_for_the_current_blob() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.get("/c/b?versionid=2026-01-01T00:00:00.0000000Z").send().await.expect_error(404, "BlobNotFound");
}
