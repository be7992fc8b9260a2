//! Change feeds as Azure writes them and an emulator does not: several shards, segments that are final or not ready yet, files that end in the
//! middle of a block; and events that tell less than an emulator's.

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use blobkeep_vault::source::BlobChange;
use blobkeep_vault::{Source, SourceErrorKind, Timestamp};

use crate::endpoint::{Endpoint, SCHEMA, event, file_of, told};

/// Deletions of these blobs, in blocks: a file of the feed that needs no further question.
fn log(blocks: &[&[&str]]) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::append_to(&schema, Vec::new(), [7; 16]).unwrap();
    for names in blocks {
        for name in *names {
            let deleted = event(name, "BlobDeleted", "2026-11-23T07:30:00.0000000Z", &[("sequencer", *name)]);
            writer.append_value(deleted).unwrap();
        }
        writer.flush().unwrap();
    }
    let blocks = writer.into_inner().unwrap();
    // The header, with a marker that is known.
    let mut header = b"Obj\x01\x02\x16avro.schema".to_vec();
    let length = SCHEMA.len() as u64 * 2;
    header.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
    header.extend(SCHEMA.as_bytes());
    header.push(0);
    header.extend([7; 16]);
    [header, blocks].concat()
}

#[tokio::test]
async fn segments_are_read_one_after_the_other_up_to_where_they_are_final() {
    let endpoint = Endpoint::start().await;
    endpoint.put("idx/segments/1601/01/01/0000/meta.json", "{}");
    endpoint.consumable("2026-11-23T06:00:00.000Z");
    let position = endpoint.account.feed().await.unwrap().unwrap();
    assert_eq!(position.complete_until, Timestamp(1_795_413_600_000_000));
    let mut cursor = position.cursor;
    assert_eq!(endpoint.names_after(&mut cursor).await, Vec::<String>::new());

    endpoint.segment("2026/11/22/2300", "Finalized", &["00", "01"]);
    endpoint.put("log/00/2026/11/22/2300/00000.avro", log(&[&["a", "b"], &["c"]]));
    endpoint.put("log/00/2026/11/22/2300/00001.avro", log(&[&["d"]]));
    endpoint.put("log/01/2026/11/22/2300/00000.avro", log(&[&["e"]]));
    endpoint.segment("2026/11/23/0700", "Finalized", &["00"]);
    endpoint.put("log/00/2026/11/23/0700/00000.avro", log(&[&["f"]]));
    assert_eq!(endpoint.names_after(&mut cursor).await, ["a", "b", "c", "d", "e"], "the later segment is not ready");
    endpoint.heads();
    assert_eq!(endpoint.names_after(&mut cursor).await, Vec::<String>::new());
    assert_eq!(endpoint.heads().len(), 1, "nothing can be new while lastConsumable stays where it is");

    endpoint.consumable("2026-11-23T07:00:00.000Z");
    assert_eq!(endpoint.names_after(&mut cursor).await, ["f"]);
    assert!(cursor.len() < 150, "{cursor}");
}

#[tokio::test]
async fn a_growing_segment_is_followed_shard_by_shard() {
    let endpoint = Endpoint::start().await;
    endpoint.consumable("2026-11-23T07:10:00.000Z");
    endpoint.segment("2026/11/23/0700", "Publishing", &["00"]);
    let blocks: [&[&str]; 3] = [&["a"], &["b"], &["c", "d"]];
    let whole = log(&blocks);
    let ends: Vec<usize> = (0..=3).map(|number| log(&blocks[..number]).len()).collect();
    endpoint.put("log/00/2026/11/23/0700/00000.avro", &whole[..ends[1]]);
    let mut cursor = endpoint.account.feed().await.unwrap().unwrap().cursor;
    assert_eq!(endpoint.names_after(&mut cursor).await, Vec::<String>::new(), "the end is behind what is there");

    endpoint.consumable("2026-11-23T07:20:00.000Z");
    endpoint.put("log/00/2026/11/23/0700/00000.avro", &whole[..ends[3] - 1]);
    let page = endpoint.account.changes(&cursor).await.unwrap();
    assert_eq!(page.changes.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(page.is_last);
    assert_eq!(page.next.complete_until, Timestamp(1_795_417_800_000_000), "half a block is missing: not complete");
    cursor = page.next.cursor;
    // The block is completed, and a second shard comes.
    endpoint.put("log/00/2026/11/23/0700/00000.avro", whole);
    endpoint.segment("2026/11/23/0700", "Publishing", &["00", "01"]);
    endpoint.put("log/01/2026/11/23/0700/00000.avro", log(&[&["x"]]));
    assert_eq!(endpoint.names_after(&mut cursor).await, ["c", "d", "x"]);
    let page = endpoint.account.changes(&cursor).await.unwrap();
    assert_eq!((page.changes.len(), page.next.complete_until), (0, Timestamp(1_795_418_400_000_000)));
    // It becomes final, and the next one begins.
    endpoint.segment("2026/11/23/0700", "Finalized", &["00", "01"]);
    endpoint.segment("2026/11/23/0800", "Publishing", &["00"]);
    endpoint.put("log/00/2026/11/23/0800/00000.avro", log(&[&["y"]]));
    endpoint.consumable("2026-11-23T08:20:00.000Z");
    assert_eq!(endpoint.names_after(&mut cursor).await, ["y"]);
}

#[tokio::test]
async fn what_is_damaged_or_gone_is_an_error_that_names_the_file() {
    let endpoint = Endpoint::start().await;
    endpoint.consumable("2026-11-23T07:10:00.000Z");
    let mut begin = endpoint.account.feed().await.unwrap().unwrap().cursor;
    endpoint.names_after(&mut begin).await;
    let file = "log/00/2026/11/23/0700/00000.avro";
    let error = async |kind: SourceErrorKind| {
        let error = endpoint.account.changes(&begin).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        error.message
    };
    endpoint.segment("2026/11/23/0700", "Finalized", &["00"]);
    let mut damaged = log(&[&["a"]]);
    let last = damaged.len() - 20;
    damaged[last] ^= 0xff;
    endpoint.put(file, damaged);
    let said = error(SourceErrorKind::Protocol).await;
    assert!(said.contains(file), "{said}");
    // Half a block where nothing will come any more.
    let whole = log(&[&["a"], &["b"]]);
    let other = Endpoint::start().await;
    other.consumable("2026-11-23T06:10:00.000Z");
    let mut cursor = other.account.feed().await.unwrap().unwrap().cursor;
    other.names_after(&mut cursor).await;
    other.consumable("2026-11-23T07:10:00.000Z");
    other.segment("2026/11/23/0700", "Finalized", &["00"]);
    other.put(file, &whole[..whole.len() - 3]);
    assert!(other.account.changes(&cursor).await.unwrap_err().message.contains("middle of a block"));
    other.put(file, whole);
    assert_eq!(other.names_after(&mut cursor).await, ["a", "b"]);
    // Retention takes the segment away that the position is in.
    other.forget(|name| name.starts_with("meta/"));
    other.consumable("2026-11-23T09:10:00.000Z");
    assert_eq!(other.account.changes(&cursor).await.unwrap_err().kind, SourceErrorKind::NotFound);
}

#[tokio::test]
async fn an_event_is_told_with_its_metadata_names_as_they_were_written() {
    let endpoint = Endpoint::start().await;
    let version = "2026-11-23T07:30:00.0000000Z";
    let created = told("BlobCreated", version, &[("sequencer", "1"), ("etag", "0x1"), ("blobVersion", version)]);
    let more = "\r\nx-ms-meta-Zeta: 1\r\nx-ms-is-current-version: true\r\nx-ms-tag-count: 1\r\nx-ms-version-id: ";
    endpoint.script("HEAD /acc/photos/a", &[&head("0x1", &format!("{more}{version}"))]);
    let row = "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified>\
        <Etag>0x1</Etag><Content-Length>3</Content-Length></Properties><Metadata><Zeta>1</Zeta></Metadata><Tags><TagSet><Tag><Key>k</Key>\
        <Value>v</Value></Tag></TagSet></Tags></Blob></Blobs><NextMarker/></EnumerationResults>";
    endpoint.script("GET /acc/photos", &[&format!("200 OK\r\ncontent-length: {}\r\n\r\n{row}", row.len())]);
    let entry = changes_of(&endpoint, &[created]).await.remove(0).entry.unwrap();
    assert_eq!(entry.metadata, [("Zeta".to_owned(), "1".to_owned())]);
    assert_eq!(entry.tags, [("k".to_owned(), "v".to_owned())]);
    assert_eq!((entry.current_version.as_deref(), entry.size_bytes), (Some(version), 3));
}

/// The changes that a feed of these events tells.
async fn changes_of(endpoint: &Endpoint, events: &[Value]) -> Vec<BlobChange> {
    endpoint.consumable("2026-11-23T06:10:00.000Z");
    let cursor = endpoint.account.feed().await.unwrap().unwrap().cursor;
    endpoint.consumable("2026-11-23T07:10:00.000Z");
    endpoint.segment("2026/11/23/0700", "Publishing", &["00"]);
    endpoint.put("log/00/2026/11/23/0700/00000.avro", file_of(events));
    endpoint.account.changes(&cursor).await.unwrap().changes
}

/// What a request for a blob or one of its versions alone is answered.
fn head(etag: &str, more: &str) -> String {
    format!("200 OK\r\ncontent-length: 3\r\netag: \"{etag}\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:03 GMT{more}")
}

#[tokio::test]
async fn what_is_written_after_versions_were_switched_off_has_none() {
    let endpoint = Endpoint::start().await;
    let [first, second, third] = ["30", "31", "32"].map(|minute| format!("2026-11-23T07:{minute}:00.0000000Z"));
    let events = [
        told("BlobCreated", &first, &[("sequencer", "1"), ("etag", "0x1"), ("blobVersion", &first)]),
        told("BlobCreated", &second, &[("sequencer", "2"), ("etag", "0x2")]),
        told("BlobCreated", &third, &[("sequencer", "3"), ("etag", "0x3")]),
        // These leave the content as it was: they would only hide what is known of it.
        told("BlobTierChanged", &third, &[("sequencer", "4"), ("etag", "0x2")]),
        told("BlobTierChanged", &third, &[("sequencer", "5"), ("etag", "0x3")]),
    ];
    let of_version = format!("HEAD /acc/photos/a?versionid={}", first.replace(':', "%3A"));
    endpoint.script(&of_version, &[&head("0x1", &format!("\r\nx-ms-version-id: {first}"))]);
    endpoint.script("HEAD /acc/photos/a", &[&head("0x3", "")]);
    let changes = changes_of(&endpoint, &events).await;
    let told: Vec<(&str, Option<&str>)> = changes
        .iter()
        .map(|change| change.entry.as_ref().unwrap())
        .map(|entry| (entry.etag.as_str(), entry.current_version.as_deref()))
        .collect();
    assert_eq!(told, [("0x1", Some(first.as_str())), ("0x2", None), ("0x3", None)]);
}

#[tokio::test]
async fn a_blob_without_a_version_stays_when_one_of_its_versions_goes() {
    let endpoint = Endpoint::start().await;
    let [version, at] = ["10", "30"].map(|minute| format!("2026-11-23T07:{minute}:00.0000000Z"));
    let removed = told("BlobDeleted", &at, &[("sequencer", "1"), ("etag", "0x1"), ("blobVersion", &version)]);
    let row = |minute: u32| {
        let times = ["Creation-Time", "Last-Modified"]
            .map(|name| format!("<{name}>Mon, 23 Nov 2026 07:{minute}:00 GMT</{name}>"));
        let rows = format!(
            "<Blob><Name>a</Name><Properties>{}<Etag>0x2</Etag><Content-Length>3</Content-Length></Properties></Blob>",
            times.concat()
        );
        let body = format!("<EnumerationResults><Blobs>{rows}</Blobs><NextMarker/></EnumerationResults>");
        format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    endpoint.script("GET /acc/photos", &[&row(20)]);
    assert_eq!(changes_of(&endpoint, std::slice::from_ref(&removed)).await, []);
    let other = Endpoint::start().await;
    other.script("GET /acc/photos", &[&row(40)]);
    assert_eq!(changes_of(&other, &[removed]).await.len(), 1, "it was written after the blob had been deleted");
}

#[tokio::test]
async fn the_content_type_is_that_of_the_event_whatever_was_set_later() {
    let endpoint = Endpoint::start().await;
    let version = "2026-11-23T07:30:00.0000000Z";
    let data = [("sequencer", "1"), ("etag", "0x1"), ("contentType", "text/plain"), ("blobVersion", version)];
    let events = ["a", "b"].map(|name| event(name, "BlobCreated", version, &data));
    let now = format!("\r\ncontent-type: text/html\r\nx-ms-is-current-version: true\r\nx-ms-version-id: {version}");
    endpoint.script("HEAD /acc/photos/a", &[&head("0x2", &now)]);
    endpoint.script("HEAD /acc/photos/b", &[&head("0x1", &now)]);
    let changes = changes_of(&endpoint, &events).await;
    let types: Vec<Option<&str>> =
        changes.iter().map(|change| change.entry.as_ref().unwrap().headers.content_type.as_deref()).collect();
    assert_eq!(types, [Some("text/plain"), Some("text/html")], "the second is as it was: its own answer counts");
}
