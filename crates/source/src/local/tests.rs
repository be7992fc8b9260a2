//! What folders promise, as sources and as targets.

use std::os::unix::fs::symlink;

use blobkeep_vault::{
    BlobEntry, BlobKind, ContainerEntry, OnConflict, Source, SourceErrorKind, Target, Timestamp, Written,
};
use bytes::Bytes;
use tempfile::TempDir;

use super::{LocalFolder, container_name_for};

fn entry(name: &str, size: usize) -> BlobEntry {
    BlobEntry {
        container: "data".into(),
        name: name.into(),
        size_bytes: size as u64,
        modified_at: Timestamp(1_700_000_000_123_456),
        ..BlobEntry::default()
    }
}

async fn all(folder: &LocalFolder, prefix: &str) -> Vec<BlobEntry> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = folder.list("data", prefix, cursor.as_deref()).await.unwrap();
        found.extend(page.entries);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

async fn names(folder: &LocalFolder, prefix: &str) -> Vec<String> {
    all(folder, prefix).await.into_iter().map(|entry| entry.name).collect()
}

async fn put(folder: &LocalFolder, name: &str, content: &'static str) {
    let wanted = entry(name, content.len());
    let done = folder.write_whole(&wanted, Bytes::from_static(content.as_bytes()), OnConflict::Fail).await;
    assert_eq!(done.unwrap(), Written::Written { lost: vec![] }, "{name:?}");
}

async fn content(folder: &LocalFolder, entry: &BlobEntry) -> Bytes {
    folder.read(entry, 0..entry.size_bytes).await.unwrap()
}

#[tokio::test]
async fn files_of_a_user_are_listed_in_the_order_of_blob_names() {
    let root = TempDir::new().unwrap();
    for folder in ["a", "a-b", "z/deep"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    for file in ["a.txt", "a/b", "a/%2Fx", "a-b/c", "100%.txt", "%2E", "%-", "tab\there", "z/deep/file", "ü"] {
        std::fs::write(root.path().join(file), file).unwrap();
    }
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let listed = all(&folder, "").await;
    let found: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
    let expected = ["%-", ".", "100%.txt", "a-b/c", "a.txt", "a/%2Fx", "a/b", "tab\there", "z/deep/file", "ü"];
    assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>(), expected.iter().collect());
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(
        sorted.iter().filter(|name| **name != ".").collect::<Vec<_>>(),
        found.iter().filter(|name| **name != ".").collect::<Vec<_>>()
    );
    for listed in &listed {
        let file = if listed.name == "." { "%2E" } else { &listed.name };
        assert_eq!(content(&folder, listed).await, file.as_bytes(), "{}", listed.name);
        assert_eq!(folder.entry("data", &listed.name).await.unwrap().as_ref(), Some(listed));
        assert_eq!(listed.kind, BlobKind::Block);
        assert_eq!(listed.headers, Default::default());
    }
    assert_eq!(names(&folder, "a/").await, ["a/%2Fx", "a/b"]);
    assert_eq!(names(&folder, "a").await, ["a-b/c", "a.txt", "a/%2Fx", "a/b"]);
    assert_eq!(names(&folder, "z/de").await, ["z/deep/file"]);
}

#[tokio::test]
async fn a_listing_goes_on_from_its_cursor_page_by_page() {
    let root = TempDir::new().unwrap();
    std::fs::create_dir(root.path().join("many")).unwrap();
    for number in 0..5_100 {
        std::fs::write(root.path().join(format!("many/{number:05}")), "").unwrap();
    }
    std::fs::write(root.path().join("zz"), "").unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let first = folder.list("data", "", None).await.unwrap();
    assert_eq!(first.entries.len(), 5_000);
    let next = first.next.unwrap();
    let second = folder.list("data", "", Some(&next)).await.unwrap();
    assert_eq!(second.entries.len(), 101);
    assert_eq!(second.entries[0].name, "many/05000");
    assert_eq!(second.entries[100].name, "zz");
    assert_eq!(second.next, None);
    // Another process holds only the cursor.
    let again = LocalFolder::single(root.path(), "data").unwrap();
    let resumed = again.list("data", "", Some(&next)).await.unwrap();
    assert_eq!(resumed.entries, second.entries);
}

#[tokio::test]
async fn links_and_special_files_are_never_followed() {
    let root = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::fs::write(root.path().join("file"), "x").unwrap();
    symlink(outside.path(), root.path().join("folder")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    assert_eq!(names(&folder, "").await, ["file"]);
    assert_eq!(folder.skipped(), 3);
    for name in ["folder/secret", "link", "pipe", "../file"] {
        let found = folder.entry("data", name).await;
        assert!(found.is_err() || found.as_ref().unwrap().is_none(), "{name}: {found:?}");
    }
    let error = folder.write_whole(&entry("folder/new", 1), Bytes::from_static(b"x"), OnConflict::Overwrite).await;
    assert_eq!(error.unwrap_err().kind, SourceErrorKind::Refused);
    assert!(!outside.path().join("new").exists());
    let done = folder.write_whole(&entry("link", 1), Bytes::from_static(b"y"), OnConflict::Overwrite).await;
    assert!(matches!(done, Ok(Written::Written { .. })), "the link itself is replaced");
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_changed_file_is_not_read() {
    let root = TempDir::new().unwrap();
    std::fs::write(root.path().join("f"), "one").unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let listed = all(&folder, "").await.remove(0);
    std::fs::write(root.path().join("f"), "two!").unwrap();
    assert_eq!(folder.read(&listed, 0..3).await.unwrap_err().kind, SourceErrorKind::Changed);
    std::fs::remove_file(root.path().join("f")).unwrap();
    assert_eq!(folder.read(&listed, 0..3).await.unwrap_err().kind, SourceErrorKind::NotFound);
}

#[tokio::test]
async fn names_that_no_folder_can_hold_come_back() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let long = "x".repeat(1024);
    let odd = [
        ".",
        "..",
        "a/../b",
        "/lead",
        "trail/",
        "a//b",
        ".blobkeep",
        ".blobkeep/x",
        "%2E",
        "x%@",
        "both",
        "both/below",
        "deep/a",
        "deep/a/b/c",
        "%+",
        "tab\t",
        "new\nline",
        "nul\0",
        "späß",
        "💾",
        "a#?+ %41",
        "%-",
        long.as_str(),
    ];
    for name in odd {
        put(&folder, name, "content").await;
    }
    let mut expected: Vec<String> = odd.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    let mut found = names(&folder, "").await;
    found.sort();
    assert_eq!(found, expected);
    for listed in all(&folder, "").await {
        assert_eq!(content(&folder, &listed).await, "content");
        assert_eq!(folder.entry("data", &listed.name).await.unwrap().unwrap(), listed);
        assert_eq!(listed.modified_at, Timestamp(1_700_000_000_123_456));
        assert!(folder.delete(&listed).await.unwrap());
        assert!(!folder.delete(&listed).await.unwrap());
    }
    assert!(names(&folder, "").await.is_empty());
}

#[tokio::test]
async fn a_blob_makes_room_for_blobs_below_its_name_in_either_order() {
    for order in [["a", "a/b"], ["a/b", "a"]] {
        let root = TempDir::new().unwrap();
        let folder = LocalFolder::single(root.path(), "data").unwrap();
        for name in order {
            put(&folder, name, "x").await;
        }
        assert_eq!(names(&folder, "").await, ["a", "a/b"]);
        let again = folder.write_whole(&entry("a", 1), Bytes::from_static(b"y"), OnConflict::Fail).await;
        assert_eq!(again.unwrap_err().kind, SourceErrorKind::Conflict);
        let over = folder.write_whole(&entry("a", 1), Bytes::from_static(b"y"), OnConflict::Overwrite).await;
        assert!(matches!(over, Ok(Written::Written { .. })));
        assert_eq!(names(&folder, "").await, ["a", "a/b"]);
    }
}

#[tokio::test]
async fn every_property_is_kept_and_none_is_needed() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let mut rich = entry("dir/rich", 512);
    rich.kind = BlobKind::Page { sequence_number: 7 };
    rich.headers.content_type = Some("text/plain".into());
    rich.metadata = vec![("k".into(), "v".into())];
    rich.tags = vec![("t".into(), "1".into())];
    rich.tier = Some("Cool".into());
    rich.created_at = Timestamp(1_600_000_000_000_000);
    folder.write_whole(&rich, Bytes::from(vec![1; 512]), OnConflict::Fail).await.unwrap();
    put(&folder, "dir/plain", "x").await;
    let listed = all(&folder, "").await;
    assert_eq!(listed[0].name, "dir/plain");
    let mut back = listed[1].clone();
    back.etag = String::new();
    assert_eq!(back, rich);
    assert!(root.path().join(".blobkeep/dir.d/rich.json").exists());
    assert!(!root.path().join(".blobkeep/dir.d/plain.json").exists());
    // The change mark covers the properties, and overwriting with a plain blob forgets them.
    folder.write_whole(&entry("dir/rich", 1), Bytes::from_static(b"x"), OnConflict::Overwrite).await.unwrap();
    assert!(!root.path().join(".blobkeep/dir.d/rich.json").exists());
    assert_eq!(folder.read(&listed[1], 0..1).await.unwrap_err().kind, SourceErrorKind::Changed);
}

#[tokio::test]
async fn conflict_rules_do_what_they_say() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    put(&folder, "f", "old").await;
    let new = Bytes::from_static(b"new");
    let mut wanted = entry("f", 3);
    let failed = folder.write_whole(&wanted, new.clone(), OnConflict::Fail).await;
    assert_eq!(failed.unwrap_err().kind, SourceErrorKind::Conflict);
    for rule in [OnConflict::Skip, OnConflict::Newer] {
        assert!(matches!(folder.write_whole(&wanted, new.clone(), rule).await, Ok(Written::Skipped(_))));
        assert!(folder.begin(&wanted, rule).await.unwrap().is_err());
    }
    assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"old");
    wanted.modified_at = wanted.modified_at.plus_seconds(1);
    assert!(matches!(folder.write_whole(&wanted, new, OnConflict::Newer).await, Ok(Written::Written { .. })));
    assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"new");
}

#[tokio::test]
async fn a_large_file_appears_complete_or_not_at_all() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    let large = entry("x/large", 3_000_000);
    let mut writer = folder.begin(&large, OnConflict::Fail).await.unwrap().unwrap();
    writer.write(Bytes::from(vec![1; 1_000_000])).await.unwrap();
    assert!(names(&folder, "").await.is_empty());
    drop(writer);
    assert_eq!(std::fs::read_dir(root.path().join("x")).unwrap().count(), 0);
    let mut writer = folder.begin(&large, OnConflict::Fail).await.unwrap().unwrap();
    writer.write(Bytes::from(vec![1; 1_000_000])).await.unwrap();
    assert!(writer.finish().await.is_err(), "too short");
    let mut writer = folder.begin(&large, OnConflict::Fail).await.unwrap().unwrap();
    for part in 1..=3 {
        writer.write(Bytes::from(vec![part; 1_000_000])).await.unwrap();
    }
    writer.finish().await.unwrap();
    let listed = all(&folder, "").await.remove(0);
    assert_eq!(folder.read(&listed, 999_999..1_000_001).await.unwrap().as_ref(), [1, 2]);
    folder.sync_all().unwrap();
}

#[tokio::test]
async fn containers_are_sub_folders_or_the_folder_itself() {
    let root = TempDir::new().unwrap();
    std::fs::write(root.path().join("stray"), "").unwrap();
    let account = LocalFolder::account(root.path()).unwrap();
    let wanted = ContainerEntry {
        name: "photos".into(),
        metadata: vec![("k".into(), "v".into())],
        public_access: Some("blob".into()),
        ..ContainerEntry::default()
    };
    assert_eq!(account.container("photos").await.unwrap(), None);
    assert!(account.create_container(&wanted).await.unwrap());
    assert!(!account.create_container(&wanted).await.unwrap());
    let listed = account.containers().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].name, &listed[0].metadata, &listed[0].public_access),
        (&wanted.name, &wanted.metadata, &wanted.public_access)
    );
    assert_eq!(account.skipped(), 1);
    assert_eq!(account.list("nothing", "", None).await.unwrap_err().kind, SourceErrorKind::NotFound);
    for bad in ["..", "a/b", "", ".blobkeep"] {
        let refused = account.create_container(&ContainerEntry { name: bad.into(), ..ContainerEntry::default() }).await;
        assert_eq!(refused.unwrap_err().kind, SourceErrorKind::Refused, "{bad:?}");
    }

    let empty = TempDir::new().unwrap();
    let single = LocalFolder::single(empty.path(), "data").unwrap();
    assert_eq!(single.containers().await.unwrap()[0].name, "data");
    assert_eq!(single.container("photos").await.unwrap(), None, "an empty folder is a container still to be made");
    assert!(
        single.accepts(&BlobEntry { container: "photos".into(), name: "x".into(), ..BlobEntry::default() }).is_ok()
    );
    assert!(
        single.accepts(&entry("x", 0)).unwrap_err().contains("photos"),
        "a second container would mix with the first"
    );
}

#[test]
fn a_container_is_named_after_its_folder() {
    for (path, name) in
        [("/x/My Photos", "my-photos"), ("/x/data", "data"), ("/", "data"), ("/x/ü", "data"), ("/x/a--b_", "a-b")]
    {
        assert_eq!(container_name_for(std::path::Path::new(path)), name);
    }
}

#[tokio::test]
async fn files_read_together_are_as_if_read_alone_and_a_changed_one_fails_alone() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    for name in ["a", "a/b", "a/c", "dir/%2E", "dir/..", "dir/sub/file", "z"] {
        put(&folder, name, "some content").await;
    }
    let mut rich = entry("dir/rich", 4);
    rich.metadata = vec![("k".into(), "v".into())];
    folder.write_whole(&rich, Bytes::from_static(b"rich"), OnConflict::Fail).await.unwrap();
    let listed = all(&folder, "").await;
    assert_eq!(listed.len(), 8);
    std::fs::write(root.path().join("a/c"), "changed since").unwrap();
    symlink("z", root.path().join("link")).unwrap();
    let mut wanted = listed.clone();
    wanted.push(entry("link", 12));
    let read = folder.read_whole(std::sync::Arc::new(wanted.clone())).await;
    assert_eq!(read.len(), wanted.len());
    for (entry, outcome) in wanted.iter().zip(read) {
        let alone = folder.read(entry, 0..entry.size_bytes).await;
        assert_eq!(outcome.map_err(|e| e.kind), alone.map_err(|e| e.kind), "{}", entry.name);
        if entry.name == "a/c" {
            let again = folder.read_whole(std::sync::Arc::new(vec![entry.clone()])).await;
            assert_eq!(again[0].as_ref().unwrap_err().kind, SourceErrorKind::Changed);
        }
    }
    // Whoever changes the properties alone changes the blob.
    rich.metadata = vec![("k".into(), "other".into())];
    folder.write_whole(&rich, Bytes::from_static(b"rich"), OnConflict::Overwrite).await.unwrap();
    let old = listed.into_iter().find(|entry| entry.name == "dir/rich").unwrap();
    let read = folder.read_whole(std::sync::Arc::new(vec![old])).await;
    assert_eq!(read[0].as_ref().unwrap_err().kind, SourceErrorKind::Changed);
}

#[tokio::test]
async fn files_written_together_are_as_if_written_alone() {
    let root = TempDir::new().unwrap();
    let folder = LocalFolder::single(root.path(), "data").unwrap();
    put(&folder, "there", "old").await;
    let mut rich = entry("a/rich", 4);
    rich.tier = Some("Cool".into());
    folder.write_whole(&rich, Bytes::from_static(b"rich"), OnConflict::Fail).await.unwrap();
    let mut new_rich = entry("b/rich", 4);
    new_rich.metadata = vec![("k".into(), "v".into())];
    let blobs: Vec<(BlobEntry, Bytes)> = ["a", "a/b", "a/rich", "there", "z/deep/file", "z/deep"]
        .iter()
        .map(|name| (entry(name, 4), Bytes::from_static(b"text")))
        .chain([(new_rich, Bytes::from_static(b"rich"))])
        .collect();
    let refused = folder.write_many(std::sync::Arc::new(blobs[2..5].to_vec()), OnConflict::Fail).await;
    let kinds: Vec<_> = refused.iter().map(|outcome| outcome.as_ref().err().map(|e| e.kind)).collect();
    assert_eq!(kinds, [Some(SourceErrorKind::Conflict), Some(SourceErrorKind::Conflict), None]);
    let written = folder.write_many(std::sync::Arc::new(blobs.clone()), OnConflict::Overwrite).await;
    assert!(written.iter().all(|outcome| matches!(outcome, Ok(Written::Written { .. }))), "{written:?}");
    let listed = all(&folder, "").await;
    assert_eq!(listed.len(), blobs.len());
    for found in listed {
        let (wanted, text) = blobs.iter().find(|(entry, _)| entry.name == found.name).unwrap();
        assert_eq!(&content(&folder, &found).await, text, "{}", found.name);
        assert_eq!((&found.metadata, &found.tier), (&wanted.metadata, &wanted.tier), "{}", found.name);
        assert_eq!(found.modified_at, wanted.modified_at);
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays() {
    let root = TempDir::new().unwrap();
    let living = LocalFolder::create_single(root.path(), "data").unwrap();
    let mut writer = living.begin(&entry("deep/large", 4), OnConflict::Fail).await.unwrap().unwrap();
    writer.write(Bytes::from_static(b"1234")).await.unwrap();
    let parts_in = |folder: &str| {
        let names = std::fs::read_dir(root.path().join(folder)).unwrap().map(|found| found.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".blobkeep-part-")).count()
    };
    for folder in ["", "deep"] {
        std::fs::write(root.path().join(folder).join(".blobkeep-part-1-2-3"), "half").unwrap();
    }
    assert_eq!((parts_in(""), parts_in("deep")), (1, 2));

    let next = LocalFolder::create_single(root.path(), "data").unwrap();
    next.create_container(&ContainerEntry { name: "data".into(), ..ContainerEntry::default() }).await.unwrap();
    put(&next, "deep/small", "1").await;
    assert_eq!((parts_in(""), parts_in("deep")), (0, 1), "the living writer's part is left");
    writer.finish().await.unwrap();
    assert_eq!(names(&next, "").await, ["deep/large", "deep/small"]);
    assert_eq!(parts_in("deep"), 0);
}
