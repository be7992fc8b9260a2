use std::collections::HashMap;
use std::sync::OnceLock;

use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Schema, Writer};
use proptest::prelude::*;

use super::avro::{Frames, MARKER_BYTES};
use super::event::{Changed, What, instant_of};
use super::*;

/// What version 5 of the schema says of the fields that are read, in the types that Azure's files have for them.
const VERSION_5: &str = r#"{"type": "record", "name": "BlobChangeEvent", "namespace": "x", "fields": [
    {"name": "schemaVersion", "type": "long"}, {"name": "subject", "type": "string"},
    {"name": "eventType", "type": {"type": "enum", "name": "Kind", "symbols":
        ["UnspecifiedEventType", "BlobCreated", "BlobDeleted", "BlobPropertiesUpdated", "BlobSnapshotCreated", "Control", "BlobTierChanged"]}},
    {"name": "eventTime", "type": "string"}, {"name": "id", "type": "string"},
    {"name": "data", "type": {"type": "record", "name": "Data", "fields": [
        {"name": "etag", "type": "string"}, {"name": "contentType", "type": "string"}, {"name": "contentLength", "type": "long"},
        {"name": "blobType", "type": {"type": "enum", "name": "Type", "symbols": ["UnspecifiedBlobType", "BlockBlob", "PageBlob", "AppendBlob"]}},
        {"name": "blobVersion", "type": ["null", "string"]}, {"name": "blobTier", "type": ["null", "string"]},
        {"name": "sequencer", "type": "string"}, {"name": "snapshot", "type": ["null", "string"]},
        {"name": "previousInfo", "type": ["null", {"type": "map", "values": "string"}]},
        {"name": "blobPropertiesUpdated", "type": ["null", {"type": "map", "values": {"type": "record", "name": "Values", "fields": [
            {"name": "current", "type": "string"}, {"name": "previous", "type": "string"}]}}]},
        {"name": "blobTagsUpdated", "type": ["null", {"type": "record", "name": "Tags", "fields": [
            {"name": "previous", "type": {"type": "map", "values": "string"}},
            {"name": "current", "type": {"type": "map", "values": "string"}}]}]}]}}]}"#;

/// What version 1 says of them, where everything is simpler.
const VERSION_1: &str = r#"{"type": "record", "name": "BlobChangeEvent", "fields": [
    {"name": "subject", "type": "string"}, {"name": "eventType", "type": "string"}, {"name": "eventTime", "type": "string"},
    {"name": "id", "type": "string"}, {"name": "data", "type": {"type": "map", "values": "string"}}]}"#;

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::parse_str(VERSION_5).unwrap())
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn maybe(value: Option<Value>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(value)),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

fn map(entries: &[(&str, &str)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect())
}

/// A record of the kind of this number among the symbols.
fn told(kind: u32, symbol: &str, subject: &str, number: u64) -> Value {
    let tags = record(vec![("previous", map(&[])), ("current", map(&[("z", "1"), ("a", "")]))]);
    let header = record(vec![("current", text("text/html")), ("previous", text(""))]);
    let headers = Value::Map(HashMap::from([("ContentType".to_owned(), header)]));
    record(vec![
        ("schemaVersion", Value::Long(5)),
        ("subject", text(subject)),
        ("eventType", Value::Enum(kind, symbol.to_owned())),
        ("eventTime", text("2022-02-17T13:12:11.5746587Z")),
        ("id", text(&format!("id-{number}"))),
        (
            "data",
            record(vec![
                ("etag", text("0x8D9F2171BE32588")),
                ("contentType", text("text/plain")),
                ("contentLength", Value::Long(128)),
                ("blobType", Value::Enum(1, "BlockBlob".to_owned())),
                ("blobVersion", maybe(Some(text("2022-02-17T16:11:52.5901564Z")))),
                ("blobTier", maybe(Some(text("Cool")))),
                ("sequencer", text(&format!("{number:048x}"))),
                ("snapshot", maybe(None)),
                ("previousInfo", maybe(Some(map(&[("LastVersion", "2021-02-17T16:11:52.5901564Z")])))),
                ("blobPropertiesUpdated", maybe(Some(headers))),
                ("blobTagsUpdated", maybe(Some(tags))),
            ]),
        ),
    ])
}

const SUBJECT: &str = "/blobServices/default/containers/photos/blobs/a b/blobs/ü%20.jpg";

/// A file of blocks with so many records each.
fn file(codec: Codec, blocks: &[u64]) -> Bytes {
    let mut writer = Writer::with_codec(schema(), Vec::new(), codec).unwrap();
    let mut number = 0;
    for records in blocks {
        for _ in 0..*records {
            number += 1;
            writer.append_value(told(1, "BlobCreated", SUBJECT, number)).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap().into()
}

fn header_of(file: &Bytes) -> Header {
    Header::read(file).unwrap().unwrap()
}

/// Reads a file of this content as if it were looked at again and again, `room` events at a time.
fn read_all(file: &Bytes, room: usize) -> Result<Vec<String>, String> {
    let Some(header) = Header::read(file)? else { return Ok(Vec::new()) };
    let mut place = Place { file: "00000.avro".into(), at: header.length(), skip: 0 };
    let mut ids = Vec::new();
    while (place.at as usize) < file.len() {
        let blocks = file.slice(place.at as usize..);
        let Frames { whole, .. } = header.frames(&blocks)?;
        if whole.is_empty() {
            break;
        }
        let before = place.clone();
        let decoded = decode(&header, &blocks, &whole, place, room)?;
        assert!(decoded.events.len() <= room);
        ids.extend(decoded.events.into_iter().map(|event| event.id));
        place = decoded.place;
        assert_ne!(place, before, "it goes on");
    }
    Ok(ids)
}

#[test]
fn files_are_read_block_by_block_and_record_by_record() {
    for codec in [Codec::Null, Codec::Deflate(DeflateSettings::default())] {
        let file = file(codec, &[3, 1, 5, 2]);
        let expected: Vec<String> = (1..=11).map(|number| format!("id-{number}")).collect();
        for room in [1, 2, 3, 4, 100] {
            assert_eq!(read_all(&file, room).unwrap(), expected, "{codec:?} by {room}");
        }
        // While it grows, what is there of a block is left for the next time.
        let header = header_of(&file);
        let frames = header.frames(&file[header.length() as usize..]).unwrap().whole;
        let mut ends: Vec<usize> = frames.iter().map(|frame| header.length() as usize + frame.end).collect();
        ends.insert(0, header.length() as usize);
        let so_far = [0, 3, 4, 9, 11];
        for length in 0..=file.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            let read = read_all(&file.slice(..length), 100).unwrap();
            assert_eq!(read.len(), if whole == 0 { 0 } else { so_far[whole - 1] }, "{length}");
        }
        assert_eq!(header.last_end(&file), Some(file.len()));
        assert_eq!(header.last_end(&file[..file.len() - 1]), Some(ends[3]));
        assert!(header.is_before(&file[ends[2] - MARKER_BYTES..]) && !header.is_before(&file[ends[2]..]));
    }
}

#[test]
fn what_is_compressed_otherwise_or_nested_without_end_is_refused_with_a_reason() {
    let with = |codec: &str, schema: &str| {
        let mut bytes = b"Obj\x01\x04".to_vec();
        for text in ["avro.codec", codec, "avro.schema", schema] {
            let length = text.len() as u64 * 2;
            bytes.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
            bytes.extend(text.as_bytes());
        }
        bytes.push(0);
        bytes.extend([7; 16]);
        Header::read(&Bytes::from(bytes)).map(|header| header.is_some())
    };
    assert_eq!(with("null", "\"string\""), Ok(true));
    assert_eq!(with("deflate", VERSION_1), Ok(true));
    assert!(with("snappy", "\"string\"").unwrap_err().contains("snappy"));
    assert!(with("null", "{").unwrap_err().contains("schema"));
    let list = r#"{"type": "record", "name": "a.List", "fields": [{"name": "next", "type": ["null", "List"]}]}"#;
    assert!(with("null", list).unwrap_err().contains("themselves"));
    let array =
        r#"{"type": "record", "name": "A", "fields": [{"name": "a", "type": {"type": "array", "items": "A"}}]}"#;
    assert!(with("null", array).unwrap_err().contains("themselves"));
}

#[test]
fn an_event_tells_what_its_record_has() {
    let event = event_of(&told(1, "BlobCreated", SUBJECT, 1)).unwrap().unwrap();
    assert_eq!((event.container.as_str(), event.name.as_str()), ("photos", "a b/blobs/ü%20.jpg"));
    assert_eq!((event.what, event.at), (What::Created, Timestamp(1_645_103_531_574_658)));
    assert_eq!((event.sequence.len(), event.id.as_str()), (48, "id-1"));
    assert_eq!(event.version.as_deref(), Some("2022-02-17T16:11:52.5901564Z"));
    assert_eq!(event.last_version.as_deref(), Some("2021-02-17T16:11:52.5901564Z"));
    assert_eq!((event.etag.as_str(), event.size_bytes), ("0x8D9F2171BE32588", Some(128)));
    assert_eq!((event.tier.as_deref(), event.content_type.as_deref()), (Some("Cool"), Some("text/plain")));
    let tags = vec![("a".to_owned(), String::new()), ("z".to_owned(), "1".to_owned())];
    assert_eq!(event.tags, Some(Changed { previous: vec![], current: tags }));
    let header = Changed { previous: None, current: Some("text/html".to_owned()) };
    assert_eq!(event.headers, [("ContentType".to_owned(), header)]);
    assert_eq!(event_of(&told(2, "BlobDeleted", SUBJECT, 1)).unwrap().unwrap().what, What::Deleted);
    assert_eq!(event_of(&told(6, "BlobTierChanged", SUBJECT, 1)).unwrap().unwrap().what, What::Tier);
}

#[test]
fn what_is_of_no_blob_is_no_event() {
    for (kind, symbol, subject) in [
        (5, "Control", SUBJECT),
        (0, "UnspecifiedEventType", SUBJECT),
        (1, "BlobCreated", ""),
        (1, "BlobCreated", "/blobServices/default/containers/photos"),
        (1, "BlobCreated", "/blobServices/default/containers/$logs/blobs/a"),
    ] {
        assert_eq!(event_of(&told(kind, symbol, subject, 1)).unwrap(), None, "{symbol} {subject}");
    }
    assert!(event_of(&told(1, "BlobCreated", "/blobServices/default/containers/$web/blobs/a", 1)).unwrap().is_some());
    // Of a snapshot, or a snapshot itself, unless that makes a new version of the blob.
    let with = |kind: u32, symbol: &str, changed: &str, value: Value| {
        let Value::Record(mut fields) = told(kind, symbol, SUBJECT, 1) else { panic!("a record") };
        let Value::Record(data) = &mut fields[5].1 else { panic!("a record") };
        data.iter_mut().find(|(name, _)| name == changed).unwrap().1 = value;
        event_of(&Value::Record(fields)).unwrap().map(|event| event.what)
    };
    let snapshot = || maybe(Some(text("2022-02-17T16:09:16.7261278Z")));
    assert_eq!(with(2, "BlobDeleted", "snapshot", snapshot()), None);
    assert_eq!(with(6, "BlobTierChanged", "snapshot", snapshot()), None);
    assert_eq!(with(4, "BlobSnapshotCreated", "snapshot", snapshot()), Some(What::Changed));
    assert_eq!(with(4, "BlobSnapshotCreated", "previousInfo", maybe(None)), None);
}

#[test]
fn the_first_schema_is_read_as_well() {
    let schema = Schema::parse_str(VERSION_1).unwrap();
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    let data = map(&[("api", "PutBlob"), ("eTag", "\"0x1\""), ("blobType", "AppendBlob"), ("sequencer", "02")]);
    let fields = vec![
        ("subject", text(SUBJECT)),
        ("eventType", text("BlobPropertiesUpdated")),
        ("eventTime", text("2022-02-17T12:59:41.4003102Z")),
        ("id", text("x")),
        ("data", data),
    ];
    writer.append_value(record(fields)).unwrap();
    let file = Bytes::from(writer.into_inner().unwrap());
    let header = header_of(&file);
    let blocks = file.slice(header.length() as usize..);
    let frames = header.frames(&blocks).unwrap().whole;
    let place = Place { at: header.length(), ..Place::default() };
    let event = decode(&header, &blocks, &frames, place, 10).unwrap().events.remove(0);
    assert_eq!((event.what, event.etag.as_str(), event.sequence.as_str()), (What::Changed, "0x1", "02"));
    assert_eq!((event.version, event.size_bytes, event.tags), (None, None, None));
}

#[test]
fn an_event_without_its_time_is_an_error() {
    let Value::Record(mut fields) = told(1, "BlobCreated", SUBJECT, 1) else { panic!("a record") };
    fields[3].1 = text("yesterday");
    assert!(event_of(&Value::Record(fields)).unwrap_err().contains("id-1"));
    assert_eq!(instant_of("2022-02-17T13:12:11.5746587Z"), Some(Timestamp(1_645_103_531_574_658)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever has happened to a file of the feed: it is read as far as it makes sense, or it is an error. The length of the answer and the
    /// time for it are bounded by the file's, and nothing panics.
    #[test]
    fn damaged_files_are_read_or_refused(
        is_compressed: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        inserted in prop::option::of((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..20))),
    ) {
        let codec = if is_compressed { Codec::Deflate(DeflateSettings::default()) } else { Codec::Null };
        let mut bytes = file(codec, &[2, 3, 1]).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((at, more)) = inserted {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(ids) = read_all(&Bytes::from(bytes), 1_000) {
            prop_assert!(ids.len() <= 6);
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = b"Obj\x01".to_vec();
        file.extend(bytes);
        let _ = read_all(&Bytes::from(file), 10);
    }
}
