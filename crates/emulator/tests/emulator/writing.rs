//! Writing: checksums, conditions, metadata, tags, tiers, leases, copies, deletion.

use blobkeep_emulator::{crc64_base64, md5_base64};

use crate::client::{ACCOUNT, START_US, Server};

#[tokio::test]
async fn a_wrong_checksum_stores_nothing() {
    let server = Server::start().await;
    let put = || server.put_block_blob("/c/b", "right");
    put().with("content-md5", &md5_base64(b"wrong")).send().await.expect_error(400, "Md5Mismatch");
    put().with("x-ms-blob-content-md5", &md5_base64(b"wrong")).send().await.expect_error(400, "Md5Mismatch");
    put().with("x-ms-content-crc64", &crc64_base64(b"wrong")).send().await.expect_error(400, "Crc64Mismatch");
    server.get("/c/b").send().await.expect_error(404, "BlobNotFound");
    put().with("content-md5", &md5_base64(b"right")).send().await.expect(201);
    put().with("x-ms-content-crc64", &crc64_base64(b"right")).send().await.expect(201);
}

#[tokio::test]
async fn a_write_may_be_bound_to_what_is_there() {
    let server = Server::start().await;
    let put = || server.put_block_blob("/c/b", "x");
    put().with("if-match", "*").send().await.expect_error(412, "ConditionNotMet");
    let first = put().with("if-none-match", "*").send().await.expect(201);
    put().with("if-none-match", "*").send().await.expect_error(409, "BlobAlreadyExists");
    let etag = first.header("etag").unwrap();
    put().with("if-match", etag).send().await.expect(201);
    put().with("if-match", etag).send().await.expect_error(412, "ConditionNotMet");
    server.delete("/c/b").with("if-match", etag).send().await.expect_error(412, "ConditionNotMet");
}

#[tokio::test]
async fn replacing_a_blob_keeps_its_creation_time_and_changes_its_etag() {
    let server = Server::start().await;
    let first = server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.pass_seconds(60);
    let second = server.put_block_blob("/c/b", "x").send().await.expect(201);
    assert_ne!(first.header("etag"), second.header("etag"));
    let blob = server.emulator.get_blob(ACCOUNT, "c", "b").unwrap().blob;
    assert_eq!((blob.created_us, blob.modified_us), (Some(START_US), Some(START_US + 60_000_000)));
}

#[tokio::test]
async fn metadata_changes_the_etag_and_tags_and_tier_do_not() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    let etag = || server.emulator.get_blob(ACCOUNT, "c", "b").unwrap().etag;
    let at_first = etag();
    let tags = "<Tags><TagSet><Tag><Key>a</Key><Value>1 &#43; 1</Value></Tag></TagSet></Tags>";
    server.put("/c/b?comp=tags").body(tags).send().await.expect(204);
    server.put("/c/b?comp=tier").with("x-ms-access-tier", "Cool").send().await.expect(200);
    assert_eq!(etag(), at_first);
    server.put("/c/b?comp=metadata").with("x-ms-meta-a", "1").send().await.expect(200);
    let with_metadata = etag();
    assert_ne!(with_metadata, at_first);
    server.put("/c/b?comp=properties").with("x-ms-blob-content-type", "text/plain").send().await.expect(200);
    assert_ne!(etag(), with_metadata);

    let blob = server.emulator.get_blob(ACCOUNT, "c", "b").unwrap();
    assert_eq!(blob.blob.tags["a"], "1 + 1");
    assert_eq!(blob.blob.metadata["a"], "1");
    assert_eq!(blob.blob.tier.as_deref(), Some("Cool"));
    // Properties that are not sent are cleared, the MD5 among them.
    assert_eq!((blob.blob.content_type.as_deref(), blob.content_md5), (Some("text/plain"), None));
}

#[tokio::test]
async fn metadata_and_tags_have_limits() {
    let server = Server::start().await;
    let put = || server.put_block_blob("/c/b", "x");
    put().with("x-ms-meta-not-a-name", "1").send().await.expect_error(400, "InvalidMetadata");
    put().with("x-ms-meta-a", &"v".repeat(9_000)).send().await.expect_error(400, "MetadataTooLarge");
    put().with("x-ms-tags", "a=%3F").send().await.expect_error(400, "InvalidTag");
    server.put("/c/b?comp=tags").body("<Tags>").send().await.expect_error(400, "InvalidXmlDocument");
}

#[tokio::test]
async fn an_archived_blob_can_not_be_read_until_its_tier_is_changed() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "x").with("x-ms-access-tier", "Archive").send().await.expect(201);
    server.get("/c/b").send().await.expect_error(409, "BlobArchived");
    assert_eq!(server.head("/c/b").send().await.expect(200).header("x-ms-access-tier"), Some("Archive"));
    server.put("/c/b?comp=tier").with("x-ms-access-tier", "Warm").send().await.expect_error(400, "InvalidHeaderValue");
    server.put("/c/b?comp=tier").with("x-ms-access-tier", "Hot").send().await.expect(202);
    server.get("/c/b").send().await.expect(200);
    // Writing it anew leaves the default tier.
    server.put_block_blob("/c/b", "y").send().await.expect(201);
    assert_eq!(server.head("/c/b").send().await.header("x-ms-access-tier-inferred"), Some("true"));
}

#[tokio::test]
async fn a_lease_guards_writes_until_it_ends() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    let lease = |action: &str| server.put("/c/b?comp=lease").with("x-ms-lease-action", action);
    let acquired = lease("acquire").with("x-ms-lease-duration", "15").send().await.expect(201);
    let id = acquired.header("x-ms-lease-id").unwrap().to_owned();
    lease("acquire").with("x-ms-lease-duration", "-1").send().await.expect_error(409, "LeaseAlreadyPresent");
    server.put_block_blob("/c/b", "y").send().await.expect_error(412, "LeaseIdMissing");
    server.delete("/c/b").send().await.expect_error(412, "LeaseIdMissing");
    let other = "00000000-0000-0000-0000-000000000001";
    server
        .put_block_blob("/c/b", "y")
        .with("x-ms-lease-id", other)
        .send()
        .await
        .expect_error(412, "LeaseIdMismatchWithBlobOperation");
    server.put_block_blob("/c/b", "y").with("x-ms-lease-id", &id).send().await.expect(201);
    assert_eq!(server.head("/c/b").send().await.header("x-ms-lease-status"), Some("locked"));
    lease("renew").with("x-ms-lease-id", &id).send().await.expect(200);
    lease("change").with("x-ms-lease-id", &id).with("x-ms-proposed-lease-id", other).send().await.expect(200);
    let broken = lease("break").with("x-ms-lease-break-period", "5").send().await.expect(202);
    assert_eq!(broken.header("x-ms-lease-time"), Some("5"));
    server.put_block_blob("/c/b", "z").send().await.expect_error(412, "LeaseIdMissing");
    server.pass_seconds(5);
    server.put_block_blob("/c/b", "z").send().await.expect(201);
    lease("release").with("x-ms-lease-id", other).send().await.expect(200);
    assert_eq!(server.head("/c/b").send().await.header("x-ms-lease-state"), Some("available"));
}

#[tokio::test]
async fn containers_are_made_changed_leased_and_removed() {
    let server = Server::start().await;
    let path = "/box?restype=container";
    server.put(path).with("x-ms-meta-a", "1").send().await.expect(201);
    server.put(path).send().await.expect_error(409, "ContainerAlreadyExists");
    server.put("/Bad_Name?restype=container").send().await.expect_error(400, "InvalidResourceName");
    assert_eq!(server.head(path).send().await.expect(200).header("x-ms-meta-a"), Some("1"));
    server.put("/box?restype=container&comp=metadata").with("x-ms-meta-b", "2").send().await.expect(200);
    let got = server.get("/box?restype=container&comp=metadata").send().await.expect(200);
    assert_eq!((got.header("x-ms-meta-a"), got.header("x-ms-meta-b")), (None, Some("2")));
    let leased = server
        .put("/box?restype=container&comp=lease")
        .with("x-ms-lease-action", "acquire")
        .with("x-ms-lease-duration", "-1")
        .send()
        .await
        .expect(201);
    server.delete(path).send().await.expect_error(412, "LeaseIdMissing");
    let id = leased.header("x-ms-lease-id").unwrap();
    server.delete(path).with("x-ms-lease-id", id).send().await.expect(202);
    server.get(path).send().await.expect_error(404, "ContainerNotFound");
}

#[tokio::test]
async fn a_copy_takes_content_and_properties_along() {
    let server = Server::start().await;
    server
        .put_block_blob("/c/from", "content")
        .with("x-ms-blob-content-type", "text/plain")
        .with("x-ms-meta-a", "1")
        .send()
        .await
        .expect(201);
    let source = format!("{}/c/from?{}", server.emulator.account_url(ACCOUNT), server.token);
    let copied = server.put("/c/to").with("x-ms-copy-source", &source).send().await.expect(202);
    assert_eq!(copied.header("x-ms-copy-status"), Some("success"));
    let got = server.get("/c/to").send().await.expect(200);
    assert_eq!((got.text().as_str(), got.header("content-type")), ("content", Some("text/plain")));
    assert_eq!(got.header("x-ms-meta-a"), Some("1"));
    let shown = got.header("x-ms-copy-source").unwrap();
    assert!(shown.ends_with("/c/from"), "{shown}");
    assert_eq!(server.emulator.count("CopyBlob"), 1);

    let unsigned = format!("{}/c/from", server.emulator.account_url(ACCOUNT));
    server.put("/c/to").with("x-ms-copy-source", &unsigned).send().await.expect_error(404, "CannotVerifyCopySource");
    server.put("/c/to?comp=copy&copyid=1").send().await.expect_error(409, "NoPendingCopyOperation");
}

#[tokio::test]
async fn an_upload_without_a_length_is_refused() {
    let server = Server::start().await;
    server
        .put("/c/b")
        .with("x-ms-blob-type", "BlockBlob")
        .with("transfer-encoding", "chunked")
        .body("5\r\nhello\r\n0\r\n\r\n")
        .send()
        .await
        .expect_error(411, "MissingContentLengthHeader");
}

#[tokio::test]
async fn the_service_tells_about_itself() {
    let server = Server::start().await;
    let info = server.get("/?restype=account&comp=properties").send().await.expect(200);
    assert_eq!(info.header("x-ms-is-hns-enabled"), Some("false"));
    let properties = server.get("/?restype=service&comp=properties").send().await.expect(200);
    assert_eq!(properties.elements("DeleteRetentionPolicy").len(), 1);
    let set = "<StorageServiceProperties><DefaultServiceVersion>2021-12-02</DefaultServiceVersion></StorageServiceProperties>";
    server.put("/?restype=service&comp=properties").body(set).send().await.expect(202);
    assert_eq!(server.get("/?restype=service&comp=properties").send().await.text(), set);
}
