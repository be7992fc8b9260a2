//! What every source and target promises, whatever lies behind it: written once, run on all of them.

use blobkeep_vault::{
    BlobEntry, BlobKind, ContainerEntry, ContentHeaders, OnConflict, Source, SourceErrorKind, Target, Timestamp,
    Written,
};
use bytes::Bytes;
use md5::{Digest, Md5};

/// What the endpoint under test cannot do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Control characters in names break its listings.
    pub(crate) no_control_characters: bool,
    /// A listing says more than was written (an MD5 of its own, a default content type).
    pub(crate) adds_properties: bool,
}

fn entry(container: &str, name: &str, content: &[u8]) -> BlobEntry {
    BlobEntry {
        container: container.into(),
        name: name.into(),
        size_bytes: content.len() as u64,
        modified_at: Timestamp(1_700_000_000_000_000),
        ..BlobEntry::default()
    }
}

fn rich(container: &str, name: &str, content: &[u8]) -> BlobEntry {
    BlobEntry {
        headers: ContentHeaders {
            content_type: Some("text/plain; charset=utf-8".into()),
            content_encoding: Some("identity".into()),
            content_language: Some("de".into()),
            content_disposition: Some("attachment; filename=\"x\"".into()),
            cache_control: Some("max-age=60".into()),
        },
        content_md5: Some(Md5::digest(content).into()),
        metadata: vec![("key".into(), "a value".into()), ("other".into(), "1+1=2".into())],
        tags: vec![("project".into(), "a b+c".into()), ("year".into(), "2024".into())],
        ..entry(container, name, content)
    }
}

fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect::<Vec<u8>>().into()
}

async fn put(target: &dyn Target, entry: &BlobEntry, content: Bytes, rule: OnConflict) -> Written {
    target.accepts(entry).unwrap();
    if content.len() as u64 <= target.whole_limit_bytes() {
        return target.write_whole(entry, content, rule).await.unwrap();
    }
    let mut writer = match target.begin(entry, rule).await.unwrap() {
        Ok(writer) => writer,
        Err(reason) => return Written::Skipped(reason),
    };
    // Parts of odd sizes: the writer must cut them as it needs.
    for part in content.chunks(3_333_333) {
        writer.write(Bytes::copy_from_slice(part)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn get(source: &dyn Source, entry: &BlobEntry) -> Vec<u8> {
    let mut content = Vec::new();
    while (content.len() as u64) < entry.size_bytes {
        let at = content.len() as u64;
        let end = (at + (8 << 20)).min(entry.size_bytes);
        content.extend_from_slice(&source.read(entry, at..end).await.unwrap());
    }
    content
}

async fn list(source: &dyn Source, container: &str, prefix: &str) -> Vec<BlobEntry> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = source.list(container, prefix, cursor.as_deref()).await.unwrap();
        all.extend(page.entries);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Runs the whole suite on a container that does not exist yet.
pub(crate) async fn conforms(source: &dyn Source, target: &dyn Target, container: &str, limits: Limits) {
    containers(source, target, container).await;
    every_kind_and_property(source, target, container, limits).await;
    odd_names(source, target, container, limits).await;
    conflicts(source, target, container).await;
    changes_are_noticed(source, target, container).await;
    large_blobs(source, target, container).await;
    deletes(source, target, container).await;
}

async fn containers(source: &dyn Source, target: &dyn Target, container: &str) {
    let wanted = ContainerEntry {
        name: container.into(),
        metadata: vec![("owner".into(), "someone".into())],
        ..ContainerEntry::default()
    };
    assert_eq!(target.container(container).await.unwrap(), None);
    assert!(target.create_container(&wanted).await.unwrap());
    assert!(!target.create_container(&wanted).await.unwrap());
    assert_eq!(target.container(container).await.unwrap().unwrap().metadata, wanted.metadata);
    let listed = source.containers().await.unwrap();
    let found = listed.iter().find(|entry| entry.name == container).unwrap();
    assert_eq!(found.metadata, wanted.metadata);
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    assert!(list(source, container, "").await.is_empty());
    let missing = source.list("no-such-container", "", None).await.unwrap_err();
    assert_eq!(missing.kind, SourceErrorKind::NotFound, "{missing}");
}

async fn every_kind_and_property(source: &dyn Source, target: &dyn Target, container: &str, limits: Limits) {
    let pages = {
        let mut pages = vec![0; 6 << 20];
        pages[..512].copy_from_slice(&bytes(512, 1));
        pages[(5 << 20)..(5 << 20) + 512].copy_from_slice(&bytes(512, 2));
        Bytes::from(pages)
    };
    let kinds = [
        ("empty", BlobKind::Block, Bytes::new()),
        ("block", BlobKind::Block, bytes(34_000, 3)),
        ("append", BlobKind::Append { sealed: false }, bytes(5 << 20, 4)),
        ("append-empty", BlobKind::Append { sealed: false }, Bytes::new()),
        ("append-sealed", BlobKind::Append { sealed: true }, bytes(1_000, 5)),
        ("page", BlobKind::Page { sequence_number: 7 }, pages),
        ("page-empty", BlobKind::Page { sequence_number: 0 }, Bytes::new()),
    ];
    for (name, kind, content) in kinds {
        for (folder, make) in [("kinds/plain/", entry as fn(&str, &str, &[u8]) -> BlobEntry), ("kinds/rich/", rich)] {
            let mut wanted = make(container, &format!("{folder}{name}"), &content);
            wanted.kind = kind;
            if folder == "kinds/rich/" && kind == BlobKind::Block {
                wanted.tier = Some("Cool".into());
            }
            let done = put(target, &wanted, content.clone(), OnConflict::Fail).await;
            assert_eq!(done, Written::Written { lost: vec![] }, "{}", wanted.name);
            let listed = list(source, container, &wanted.name).await;
            let listed = listed.iter().find(|entry| entry.name == wanted.name).unwrap();
            same(listed, &wanted, limits);
            assert_eq!(get(source, listed).await, content, "{}", wanted.name);
            let alone = source.entry(container, &wanted.name).await.unwrap().unwrap();
            assert_eq!(&alone, listed);
        }
    }
    assert_eq!(source.entry(container, "kinds/plain/nothing").await.unwrap(), None);
    assert_eq!(source.entry(container, "kinds/plain/bloc").await.unwrap(), None, "a longer name is another name");
}

fn same(found: &BlobEntry, wanted: &BlobEntry, limits: Limits) {
    assert_eq!(found.key(), wanted.key());
    assert_eq!((found.kind, found.size_bytes), (wanted.kind, wanted.size_bytes), "{}", wanted.name);
    assert_eq!(
        (&found.metadata, &found.tags, &found.tier),
        (&wanted.metadata, &wanted.tags, &wanted.tier),
        "{}",
        wanted.name
    );
    assert!(!found.etag.is_empty() && !found.etag.contains('"'));
    assert!(found.modified_at.0 > 0 && found.created_at.0 > 0);
    if limits.adds_properties && wanted.content_md5.is_none() {
        return;
    }
    assert_eq!((&found.headers, found.content_md5), (&wanted.headers, wanted.content_md5), "{}", wanted.name);
}

async fn odd_names(source: &dyn Source, target: &dyn Target, container: &str, limits: Limits) {
    let long = "ü/".repeat(500) + &"x".repeat(24);
    let mut names = vec![
        "odd/space here",
        "odd/per%cent",
        "odd/%41",
        "odd/hash#",
        "odd/what?",
        "odd/plus+",
        "odd/amp&lt;<>\"'",
        "odd/ünï ☃💾",
        "odd//double",
        "odd/trail/",
        "odd/dot.",
        "odd/...",
        "odd/.",
        "odd/..",
        "odd/a/../b",
        "odd/a/./b",
        "/lead",
        "//lead",
        "odd/tab\there",
        "odd/same",
        "odd/same/below",
        "odd/colon:semi;",
        "odd/[x]@!$,=~*'()",
        &long,
        ".",
        "..",
        "../up",
    ];
    if !limits.no_control_characters {
        names.extend(["odd/control\u{1}", "odd/not a character\u{ffff}"]);
    }
    for name in &names {
        let content = Bytes::copy_from_slice(name.as_bytes());
        let done = put(target, &entry(container, name, &content), content, OnConflict::Fail).await;
        assert_eq!(done, Written::Written { lost: vec![] }, "{name:?}");
    }
    let listed = list(source, container, "").await;
    for name in &names {
        let found = listed.iter().find(|entry| entry.name == *name);
        let found = found.unwrap_or_else(|| panic!("{name:?} is not listed"));
        assert_eq!(get(source, found).await, name.as_bytes(), "{name:?}");
        assert_eq!(source.entry(container, name).await.unwrap().as_ref(), Some(found), "{name:?}");
    }
    let below = list(source, container, "odd/a/").await;
    assert_eq!(below.len(), 2, "{below:?}");
}

async fn conflicts(source: &dyn Source, target: &dyn Target, container: &str) {
    let (old, new) = (bytes(100, 1), bytes(200, 2));
    for kind in [BlobKind::Block, BlobKind::Append { sealed: false }] {
        let name = format!("conflict/{kind:?}");
        let with_kind = |content: &[u8]| BlobEntry { kind, ..entry(container, &name, content) };
        put(target, &with_kind(&old), old.clone(), OnConflict::Fail).await;
        let wanted = with_kind(&new);
        let error = target.write_whole(&wanted, new.clone(), OnConflict::Fail).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Conflict, "{error}");
        assert_eq!(
            target.begin(&wanted, OnConflict::Fail).await.err().map(|error| error.kind),
            Some(SourceErrorKind::Conflict)
        );
        assert!(matches!(put(target, &wanted, new.clone(), OnConflict::Skip).await, Written::Skipped(_)));
        assert!(target.begin(&wanted, OnConflict::Skip).await.unwrap().is_err());
        assert!(matches!(put(target, &wanted, new.clone(), OnConflict::Newer).await, Written::Skipped(_)));
        let there = source.entry(container, &name).await.unwrap().unwrap();
        assert_eq!(get(source, &there).await, old);
        let later = BlobEntry { modified_at: Timestamp(4_000_000_000_000_000), ..wanted.clone() };
        assert!(matches!(put(target, &later, new.clone(), OnConflict::Newer).await, Written::Written { .. }));
        assert_eq!(get(source, &source.entry(container, &name).await.unwrap().unwrap()).await, new);
        assert!(matches!(
            put(target, &with_kind(&old), old.clone(), OnConflict::Overwrite).await,
            Written::Written { .. }
        ));
        assert_eq!(get(source, &source.entry(container, &name).await.unwrap().unwrap()).await, old);
    }
}

async fn changes_are_noticed(source: &dyn Source, target: &dyn Target, container: &str) {
    let content = bytes(1_000, 1);
    let wanted = entry(container, "changing", &content);
    put(target, &wanted, content.clone(), OnConflict::Fail).await;
    let listed = source.entry(container, "changing").await.unwrap().unwrap();
    assert_eq!(source.read(&listed, 10..20).await.unwrap(), content.slice(10..20));
    assert_eq!(source.read(&listed, 999..1_000).await.unwrap(), content.slice(999..));
    put(target, &wanted, bytes(1_000, 2), OnConflict::Overwrite).await;
    for range in [0..1_000, 10..20] {
        let error = source.read(&listed, range).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
    }
    let gone = BlobEntry { name: "gone".into(), ..listed };
    let error = source.read(&gone, 0..1_000).await.unwrap_err();
    // Azurite looks at the condition first.
    assert!(matches!(error.kind, SourceErrorKind::NotFound | SourceErrorKind::Changed), "{error}");
}

async fn large_blobs(source: &dyn Source, target: &dyn Target, container: &str) {
    let content = bytes(30_000_000, 9);
    let wanted = rich(container, "large", &content);
    let begun = target.begin(&wanted, OnConflict::Fail).await.unwrap().unwrap();
    drop(begun);
    assert_eq!(source.entry(container, "large").await.unwrap(), None, "an abandoned blob is not there");
    let mut short = target.begin(&wanted, OnConflict::Fail).await.unwrap().unwrap();
    short.write(content.slice(..10_000_000)).await.unwrap();
    assert!(short.finish().await.is_err(), "too few bytes");
    assert_eq!(put(target, &wanted, content.clone(), OnConflict::Fail).await, Written::Written { lost: vec![] });
    let listed = source.entry(container, "large").await.unwrap().unwrap();
    same(&listed, &wanted, Limits::default());
    assert_eq!(get(source, &listed).await, content);
    for content in [content.slice(..1_000), content] {
        wrong_md5(source, target, container, content).await;
    }
}

async fn wrong_md5(source: &dyn Source, target: &dyn Target, container: &str, content: Bytes) {
    let name = format!("wrong-md5-{}", content.len());
    let wrong = BlobEntry { content_md5: Some([1; 16]), ..rich(container, &name, &content) };
    let outcome = put(target, &wrong, content.clone(), OnConflict::Fail).await;
    let Written::Written { lost } = outcome else { panic!("{outcome:?}") };
    let listed = source.entry(container, &name).await.unwrap().unwrap();
    assert_eq!(get(source, &listed).await, content);
    let is_kept = listed.content_md5 == wrong.content_md5;
    assert_ne!(is_kept, lost.iter().any(|words| words.contains("MD5")), "kept or reported as lost: {lost:?}");
}

async fn deletes(source: &dyn Source, target: &dyn Target, container: &str) {
    let content = bytes(10, 1);
    let wanted = entry(container, "deleted", &content);
    put(target, &wanted, content.clone(), OnConflict::Fail).await;
    let listed = source.entry(container, "deleted").await.unwrap().unwrap();
    put(target, &wanted, bytes(10, 2), OnConflict::Overwrite).await;
    let error = target.delete(&listed).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "another blob of that name is not deleted");
    let now = source.entry(container, "deleted").await.unwrap().unwrap();
    assert!(target.delete(&now).await.unwrap());
    assert!(!target.delete(&now).await.unwrap());
    assert_eq!(source.entry(container, "deleted").await.unwrap(), None);
}
