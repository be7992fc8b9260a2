//! Earlier versions of blobs, as "Blob versioning" and the operations' own pages describe them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobkeep_emulator::{DEVELOPMENT_KEY, SeedBlob, SyntheticSpec};

use crate::access::{DATE, sign};
use crate::client::{ACCOUNT, Reply, Server, encoded};

/// Puts a block blob and returns the id of its version.
async fn put(server: &Server, path: &str, body: &str) -> String {
    version_of(&server.put_block_blob(path, body).send().await.expect(201))
}

fn version_of(reply: &Reply) -> String {
    reply.header("x-ms-version-id").unwrap().to_owned()
}

fn at(path: &str, version: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}versionid={}", encoded(version))
}

/// Name, version and whether it is current of all rows of a listing, page by page.
async fn rows(server: &Server, page_size: usize, query: &str) -> Vec<(String, String, bool)> {
    let mut rows = Vec::new();
    let mut marker = String::new();
    loop {
        let asked = format!("&include=versions&maxresults={page_size}&marker={}{query}", encoded(&marker));
        let page = server.list(&asked).await;
        let blobs = page.elements("Blob");
        assert!(blobs.len() <= page_size);
        for blob in blobs {
            let first = |name: &str| crate::client::elements(&blob, name).into_iter().next();
            let is_current = first("IsCurrentVersion").as_deref() == Some("true");
            rows.push((first("Name").unwrap(), first("VersionId").unwrap(), is_current));
        }
        marker = page.elements("NextMarker").remove(0);
        if marker.is_empty() {
            return rows;
        }
    }
}

#[tokio::test]
async fn every_write_makes_a_version_and_the_one_before_stays_readable() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "one").await;
    let second = put(&server, "/c/b", "two").await;
    let set = server.put("/c/b?comp=metadata").with("x-ms-meta-a", "1").send().await.expect(200);
    let third = version_of(&set);
    server
        .put(&format!("/c/b?comp=block&blockid={}", encoded(&STANDARD.encode("1"))))
        .body("4")
        .send()
        .await
        .expect(201);
    let list = format!("<BlockList><Latest>{}</Latest></BlockList>", STANDARD.encode("1"));
    let fourth = version_of(&server.put("/c/b?comp=blocklist").body(list).send().await.expect(201));
    let ids = [&first, &second, &third, &fourth];
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == "2026-01-01T00:00:00.0000001Z".len()), "{ids:?}");
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", "b"), ids.map(String::clone));

    for (version, content, metadata) in [(&first, "one", None), (&second, "two", None), (&third, "two", Some("1"))] {
        let got = server.get(&at("/c/b", version)).send().await.expect(200);
        assert_eq!((got.text().as_str(), got.header("x-ms-meta-a")), (content, metadata));
        assert_eq!(
            (got.header("x-ms-version-id"), got.header("x-ms-is-current-version")),
            (Some(version.as_str()), None)
        );
    }
    for path in ["/c/b".to_owned(), at("/c/b", &fourth)] {
        let head = server.head(&path).send().await.expect(200);
        assert_eq!(head.header("x-ms-version-id"), Some(fourth.as_str()));
        assert_eq!(head.header("x-ms-is-current-version"), Some("true"));
    }
    server.get(&at("/c/b", "2020-01-01T00:00:00.0000000Z")).send().await.expect_error(404, "BlobNotFound");
    server.get("/c/b?versionid=yesterday").send().await.expect_error(400, "InvalidQueryParameterValue");
    let both = at("/c/b?snapshot=2020-01-01T00:00:00.0000000Z", &first);
    server.get(&both).send().await.expect_error(400, "MutuallyExclusiveQueryParameters");
    server.put(&at("/c/b?comp=metadata", &first)).send().await.expect_error(400, "InvalidQueryParameterValue");
}

#[tokio::test]
async fn a_deleted_blob_becomes_an_earlier_version() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "one").await;
    server.delete(&at("/c/b", &first)).send().await.expect_error(403, "OperationNotAllowedOnRootBlob");
    let second = put(&server, "/c/b", "two").await;
    server.delete("/c/b").send().await.expect(202);
    server.get("/c/b").send().await.expect_error(404, "BlobNotFound");
    server.delete("/c/b").send().await.expect_error(404, "BlobNotFound");
    assert!(server.list("").await.elements("Name").is_empty());
    assert!(server.list("&delimiter=/").await.elements("Name").is_empty());
    let b = || "b".to_owned();
    assert_eq!(rows(&server, 10, "").await, [(b(), first.clone(), false), (b(), second.clone(), false)]);
    assert_eq!(server.get(&at("/c/b", &second)).send().await.expect(200).text(), "two");

    let third = put(&server, "/c/b", "three").await;
    server.delete(&at("/c/b", &second)).send().await.expect(202);
    server.get(&at("/c/b", &second)).send().await.expect_error(404, "BlobNotFound");
    assert_eq!(rows(&server, 10, "").await, [(b(), first, false), (b(), third, true)]);
}

#[tokio::test]
async fn a_listing_with_versions_may_break_off_in_the_middle_of_a_name() {
    let server = Server::start_versioned().await;
    let mut expected = Vec::new();
    for (name, count) in [("a", 3), ("a/b", 1), ("b", 5), ("gone", 2)] {
        for number in 1..=count {
            let version = put(&server, &format!("/c/{name}"), &number.to_string()).await;
            expected.push((name.to_owned(), version, number == count && name != "gone"));
        }
    }
    server.delete("/c/gone").send().await.expect(202);
    for page_size in [1, 2, 3, 4, 100] {
        assert_eq!(rows(&server, page_size, "").await, expected, "{page_size}");
    }
    let of_b: Vec<_> = expected.iter().filter(|row| row.0 == "b").cloned().collect();
    assert_eq!(rows(&server, 2, "&prefix=b").await, of_b);
    assert_eq!(server.list("").await.elements("Name"), ["a", "a/b", "b"]);
    assert!(server.list("").await.elements("VersionId").is_empty());
    // A folder of which only versions are left is one for those who ask for versions.
    server.put_block_blob("/c/old/x", "x").send().await.expect(201);
    server.delete("/c/old/x").send().await.expect(202);
    assert_eq!(server.list("&delimiter=/&prefix=o").await.elements("BlobPrefix").len(), 0);
    assert_eq!(server.list("&delimiter=/&prefix=o&include=versions").await.elements("BlobPrefix").len(), 1);
}

#[tokio::test]
async fn snapshots_and_versions_are_listed_by_age() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "x").await;
    let taken = server.put("/c/b?comp=snapshot").send().await.expect(201);
    let (time, second) = (taken.header("x-ms-snapshot").unwrap().to_owned(), version_of(&taken));
    assert_eq!(
        server.head("/c/b").send().await.header("etag"),
        server.head(&at("/c/b", &first)).send().await.header("etag")
    );
    assert_eq!(server.head("/c/b").send().await.header("x-ms-version-id"), Some(second.as_str()));
    let listed = server.list("&include=snapshots,versions").await;
    assert_eq!(
        (listed.elements("Snapshot"), listed.elements("VersionId")),
        (vec![time], vec![first.clone(), second.clone()])
    );
    assert_eq!(listed.elements("IsCurrentVersion"), ["true"]);
    server.delete("/c/b").send().await.expect_error(409, "SnapshotsPresent");
    server.delete("/c/b").with("x-ms-delete-snapshots", "include").send().await.expect(202);
    let listed = server.list("&include=snapshots,versions").await;
    assert_eq!((listed.elements("Snapshot").len(), listed.elements("VersionId")), (0, vec![first, second]));
}

#[tokio::test]
async fn an_earlier_version_comes_back_by_a_copy_onto_its_own_name() {
    let server = Server::start_versioned().await;
    server
        .put_block_blob("/c/b", "one")
        .with("x-ms-blob-content-type", "text/plain")
        .with("x-ms-meta-a", "1")
        .with("x-ms-tags", "t=1")
        .send()
        .await
        .expect(201);
    let first = version_of(&server.head("/c/b").send().await);
    let second = put(&server, "/c/b", "two").await;
    let source = format!("{}{}&{}", server.emulator.account_url(ACCOUNT), at("/c/b", &first), server.token);
    let copy = || server.put("/c/b").with("x-ms-copy-source", &source);

    let etag = server.head("/c/b").send().await.header("etag").unwrap().to_owned();
    copy().with("if-none-match", "*").send().await.expect_error(409, "BlobAlreadyExists");
    copy().with("if-match", "\"0x1\"").send().await.expect_error(412, "ConditionNotMet");
    copy().with("x-ms-source-if-match", &etag).send().await.expect_error(412, "SourceConditionNotMet");
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", "b").len(), 2, "a refused copy changes nothing");

    let copied = copy().with("if-match", &etag).with("x-ms-access-tier", "Cool").send().await.expect(202);
    assert_eq!(copied.header("x-ms-copy-status"), Some("success"));
    let got = server.get("/c/b").send().await.expect(200);
    assert_eq!(got.header("x-ms-version-id"), copied.header("x-ms-version-id"));
    assert_eq!((got.text().as_str(), got.header("content-type")), ("one", Some("text/plain")));
    assert_eq!((got.header("x-ms-meta-a"), got.header("x-ms-tag-count")), (Some("1"), None), "tags stay behind");
    assert_eq!(server.head("/c/b").send().await.header("x-ms-access-tier"), Some("Cool"));
    assert_eq!(server.get(&at("/c/b", &second)).send().await.expect(200).text(), "two");

    let tagged = copy().with("x-ms-tags", "u=2").send().await.expect(202);
    assert_eq!(server.get(&at("/c/b?comp=tags", &version_of(&tagged))).send().await.elements("Key"), ["u"]);
    let synchronous = || copy().with("x-ms-requires-sync", "true");
    synchronous().with("x-ms-copy-source-tag-option", "COPY").send().await.expect(202);
    assert_eq!(server.get("/c/b?comp=tags").send().await.elements("Key"), ["t"]);
    let unsigned = format!("{}{}", server.emulator.account_url(ACCOUNT), at("/c/b", &first));
    let refused = server.put("/c/b").with("x-ms-copy-source", &unsigned);
    refused.send().await.expect_error(404, "CannotVerifyCopySource");
}

#[tokio::test]
async fn the_account_key_opens_the_source_of_a_copy_but_not_of_a_synchronous_one() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "one").await;
    put(&server, "/c/b", "two").await;
    let source = format!("{}{}", server.emulator.account_url(ACCOUNT), at("/c/b", &first));
    for (synchronous, status) in [(false, 202), (true, 404)] {
        let sync_line = if synchronous { "x-ms-requires-sync:true\n" } else { "" };
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-copy-source:{source}\nx-ms-date:{DATE}\n{sync_line}\
             x-ms-version:2021-12-02\n/{ACCOUNT}/{ACCOUNT}/c/b"
        );
        let call = server
            .bare_request("PUT", &format!("/{ACCOUNT}/c/b"))
            .with("x-ms-copy-source", &source)
            .with("x-ms-date", DATE)
            .with("authorization", &format!("SharedKey {ACCOUNT}:{}", sign(DEVELOPMENT_KEY, &text)));
        let call = if synchronous { call.with("x-ms-requires-sync", "true") } else { call };
        call.send().await.expect(status);
        assert_eq!(server.get("/c/b").send().await.text(), "one");
    }
}

#[tokio::test]
async fn a_lease_or_the_archive_stands_in_the_way_of_a_copy() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "one").await;
    put(&server, "/c/b", "two").await;
    let source = format!("{}{}&{}", server.emulator.account_url(ACCOUNT), at("/c/b", &first), server.token);
    let lease = |action: &str| server.put("/c/b?comp=lease").with("x-ms-lease-action", action);
    let held = lease("acquire").with("x-ms-lease-duration", "-1").send().await.expect(201);
    server.put("/c/b").with("x-ms-copy-source", &source).send().await.expect_error(412, "LeaseIdMissing");
    let id = held.header("x-ms-lease-id").unwrap();
    let third = server.put("/c/b").with("x-ms-copy-source", &source).with("x-ms-lease-id", id).send().await.expect(202);
    assert_eq!(
        server.head("/c/b").send().await.header("x-ms-lease-status"),
        Some("locked"),
        "the blob keeps its lease"
    );
    assert_eq!(server.head(&at("/c/b", &first)).send().await.header("x-ms-lease-status"), Some("unlocked"));
    lease("release").with("x-ms-lease-id", id).send().await.expect(200);

    server.put(&at("/c/b?comp=tier", &first)).with("x-ms-access-tier", "Archive").send().await.expect(200);
    assert_eq!(server.head(&at("/c/b", &first)).send().await.header("x-ms-access-tier"), Some("Archive"));
    assert_eq!(server.head("/c/b").send().await.header("x-ms-access-tier"), Some("Hot"));
    server.put("/c/b").with("x-ms-copy-source", &source).send().await.expect_error(409, "BlobArchived");
    server.get(&at("/c/b", &first)).send().await.expect_error(409, "BlobArchived");
    let tags = "<Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tags>";
    server.put(&at("/c/b?comp=tags", &first)).body(tags).send().await.expect(204);
    assert_eq!(server.get(&at("/c/b?comp=tags", &first)).send().await.elements("Value"), ["v"]);
    assert!(server.get("/c/b?comp=tags").send().await.elements("Value").is_empty());
    assert_eq!(
        server.emulator.version_ids(ACCOUNT, "c", "b").last(),
        Some(&version_of(&third)),
        "neither made a version"
    );
}

#[tokio::test]
async fn what_changes_an_append_or_page_blob_in_place_makes_no_version() {
    let server = Server::start_versioned().await;
    let made = server.put("/c/log").with("x-ms-blob-type", "AppendBlob").send().await.expect(201);
    server.put("/c/log?comp=appendblock").body("x").send().await.expect(201);
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", "log"), [version_of(&made)]);
    let disk = server.put("/c/disk").with("x-ms-blob-type", "PageBlob").with("x-ms-blob-content-length", "512");
    let made = disk.send().await.expect(201);
    let page = server.put("/c/disk?comp=page").with("x-ms-range", "bytes=0-511").with("x-ms-page-write", "update");
    page.body([1u8; 512]).send().await.expect(201);
    server.put("/c/disk?comp=properties").with("x-ms-blob-content-type", "a/b").send().await.expect(200);
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", "disk"), [version_of(&made)]);
    // All versions of a blob are of one kind.
    server.put_block_blob("/c/log", "x").send().await.expect_error(409, "InvalidBlobType");
    server.delete("/c/log").send().await.expect(202);
    server.put_block_blob("/c/log", "x").send().await.expect_error(409, "InvalidBlobType");
}

#[tokio::test]
async fn deleting_a_version_needs_a_permission_of_its_own() {
    let server = Server::start_versioned().await;
    let first = put(&server, "/c/b", "one").await;
    put(&server, "/c/b", "two").await;
    let delete = |path: &str, permissions: &str| {
        let separator = if path.contains('?') { '&' } else { '?' };
        let token = server.emulator.sas(ACCOUNT, permissions);
        server.bare_request("DELETE", &format!("/{ACCOUNT}{path}{separator}{token}"))
    };
    let version = at("/c/b", &first);
    delete(&version, "rwd").send().await.expect_error(403, "AuthorizationPermissionMismatch");
    delete("/c/b", "rwx").send().await.expect_error(403, "AuthorizationPermissionMismatch");
    delete(&version, "x").send().await.expect(202);
    delete("/c/b", "d").send().await.expect(202);
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", "b").len(), 1);
}

#[tokio::test]
async fn a_computed_blob_has_the_version_of_its_beginning_until_it_is_changed() {
    let server = Server::start_versioned().await;
    server.emulator.add_synthetic(ACCOUNT, "c", SyntheticSpec { count: 3, ..SyntheticSpec::default() }).unwrap();
    let name = server.emulator.synthetic_name(ACCOUNT, "c", 1).unwrap();
    let before = server.get(&format!("/c/{name}")).send().await.expect(200);
    server.pass_seconds(1);
    server.emulator.change_synthetic(ACCOUNT, "c", [1], 1).unwrap();
    let after = server.get(&format!("/c/{name}")).send().await.expect(200);
    assert!(before.body != after.body);
    let listed = rows(&server, 2, "").await;
    assert_eq!(listed.len(), 4);
    assert_eq!((listed[1].1.as_str(), listed[1].2), (before.header("x-ms-version-id").unwrap(), false));
    assert_eq!((listed[2].1.as_str(), listed[2].2), (after.header("x-ms-version-id").unwrap(), true));
    let path = at(&format!("/c/{name}"), &version_of(&before));
    assert!(server.get(&path).send().await.expect(200).body == before.body);
    server.emulator.delete_blob(ACCOUNT, "c", &name);
    assert_eq!(server.emulator.version_ids(ACCOUNT, "c", &name).len(), 2);
}

#[tokio::test]
async fn without_the_switch_nothing_tells_of_versions() {
    let server = Server::start().await;
    for body in ["one", "two"] {
        let put = server.put_block_blob("/c/b", body).send().await.expect(201);
        assert_eq!(put.header("x-ms-version-id"), None);
    }
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("three")).unwrap();
    let head = server.head("/c/b").send().await.expect(200);
    assert_eq!((head.header("x-ms-version-id"), head.header("x-ms-is-current-version")), (None, None));
    let listed = server.list("&include=versions").await;
    assert_eq!((listed.elements("Name").len(), listed.elements("VersionId").len()), (1, 0));
    assert!(server.emulator.version_ids(ACCOUNT, "c", "b").is_empty());
    let gone = server.delete("/c/b").send().await.expect(202);
    assert_eq!(gone.header("x-ms-delete-type-permanent"), Some("true"));
    server.put("/c/b").with("x-ms-blob-type", "AppendBlob").send().await.expect(201);
    server.put_block_blob("/c/b", "x").send().await.expect(201);
}
