//! The change feed, read back as a client reads it: "Change feed support in Azure Blob Storage".

use std::collections::HashMap;

use apache_avro::Reader;
use apache_avro::types::Value;
use blobkeep_emulator::{EmulatorOptions, SeedBlob};

use crate::client::{ACCOUNT, Reply, Server, encoded};

const FEED: &str = "/$blobchangefeed";

/// An event: its members, and those of `data` beside them.
#[derive(Debug)]
struct Event(HashMap<String, Value>);

impl Event {
    fn of(record: Value) -> Event {
        let Value::Record(fields) = record else { panic!("no record: {record:?}") };
        let mut members: HashMap<String, Value> = fields.into_iter().collect();
        let Some(Value::Record(data)) = members.remove("data") else { panic!("no data") };
        members.extend(data);
        Event(members)
    }

    /// A text or symbol; empty for null.
    fn text(&self, name: &str) -> &str {
        match inner(&self.0[name]) {
            Value::String(text) | Value::Enum(_, text) => text,
            Value::Null => "",
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The members of a map or record as texts; empty for null.
    fn pairs(&self, name: &str) -> Vec<(String, String)> {
        pairs(inner(&self.0[name]))
    }

    fn number(&self, name: &str) -> i64 {
        match &self.0[name] {
            Value::Long(number) => *number,
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn inner(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => inner,
        other => other,
    }
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        nested => format!("{:?}", pairs(nested)),
    };
    let mut pairs: Vec<_> = match value {
        Value::Map(map) => map.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Value::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Value::Null => Vec::new(),
        other => panic!("{other:?}"),
    };
    pairs.sort();
    pairs
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn names(server: &Server, prefix: &str) -> Vec<String> {
    let path = format!("{FEED}?restype=container&comp=list&prefix={}", encoded(prefix));
    server.get(&path).send().await.expect(200).elements("Name")
}

async fn read(server: &Server, name: &str) -> Reply {
    server.get(&format!("{FEED}/{name}")).send().await.expect(200)
}

/// The events of the files that are there.
async fn published(server: &Server) -> Vec<Event> {
    let mut events = Vec::new();
    for name in names(server, "log/").await {
        let file = read(server, &name).await.body;
        events.extend(Reader::new(&file[..]).unwrap().map(|record| Event::of(record.unwrap())));
    }
    events
}

/// All events so far.
async fn events(server: &Server) -> Vec<Event> {
    read(server, "meta/segments.json").await;
    published(server).await
}

fn told(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.text("eventType"), event.text("api"))).collect()
}

#[tokio::test]
async fn every_change_of_a_blob_is_one_event() {
    let server = Server::start_versioned().await;
    let put = |body: &str| server.put_block_blob("/c/a%20b/%C3%BC", body);
    let first = put("one").with("x-ms-tags", "k=1").with("x-ms-client-request-id", "mine").send().await.expect(201);
    let second = put("three").with("x-ms-access-tier", "Cool").send().await.expect(201);
    let metadata = server.put("/c/a%20b/%C3%BC?comp=metadata").with("x-ms-meta-a", "1").send().await.expect(200);
    server.put("/c/a%20b/%C3%BC?comp=properties").with("x-ms-blob-content-type", "text/x").send().await.expect(200);
    let tags = "<Tags><TagSet><Tag><Key>k</Key><Value>2</Value></Tag></TagSet></Tags>";
    server.put("/c/a%20b/%C3%BC?comp=tags").body(tags).send().await.expect(204);
    server.put("/c/a%20b/%C3%BC?comp=tier").with("x-ms-access-tier", "Archive").send().await.expect(200);
    server.delete("/c/a%20b/%C3%BC").send().await.expect(202);

    let events = events(&server).await;
    let expected = [
        ("BlobCreated", "PutBlob"),
        ("BlobCreated", "PutBlob"),
        ("BlobPropertiesUpdated", "SetBlobMetadata"),
        ("BlobPropertiesUpdated", "SetBlobProperties"),
        ("BlobPropertiesUpdated", "SetBlobTags"),
        ("BlobTierChanged", "SetBlobTier"),
        ("BlobDeleted", "DeleteBlob"),
    ];
    assert_eq!(told(&events), expected);
    for event in &events {
        assert_eq!(event.number("schemaVersion"), 5);
        assert_eq!(event.text("subject"), "/blobServices/default/containers/c/blobs/a b/ü");
        assert!(event.text("topic").ends_with(&format!("/Microsoft.Storage/storageAccounts/{ACCOUNT}")));
        assert_eq!((event.text("blobType"), event.text("url"), event.text("snapshot")), ("BlockBlob", "", ""));
    }
    assert!(events.is_sorted_by(|a, b| a.text("eventTime") < b.text("eventTime")));
    assert!(events.is_sorted_by(|a, b| a.text("sequencer") < b.text("sequencer")));
    assert!(events.is_sorted_by(|a, b| a.text("id") < b.text("id")));

    let versions: Vec<&str> = events.iter().map(|event| event.text("blobVersion")).collect();
    let [one, two, three] = [&first, &second, &metadata].map(|reply| reply.header("x-ms-version-id").unwrap());
    assert_eq!(versions, [one, two, three, three, three, three, three]);
    assert_eq!(
        [events[0].text("eventTime"), events[1].text("eventTime")],
        [one, two],
        "a version is named by its time"
    );
    assert_eq!(format!("\"{}\"", events[1].text("etag")), second.header("etag").unwrap());
    assert_eq!((events[0].number("contentLength"), events[1].number("contentLength")), (3, 5));
    assert_eq!(events[0].text("clientRequestId"), "mine");
    assert_eq!(events[0].text("requestId"), first.header("x-ms-request-id").unwrap());
    assert_eq!((events[2].text("contentType"), events[3].text("contentType")), ("application/octet-stream", "text/x"));

    let tiers: Vec<&str> = events.iter().map(|event| event.text("blobTier")).collect();
    assert_eq!(tiers, ["Hot", "Cool", "Cool", "Cool", "Cool", "Archive", "Archive"]);
    assert!(events[0].pairs("previousInfo").is_empty());
    assert_eq!(events[1].pairs("previousInfo"), [pair("LastVersion", one), pair("PreviousTier", "Hot")]);
    assert_eq!(events[2].pairs("previousInfo"), [pair("LastVersion", two)]);
    assert_eq!(events[5].pairs("previousInfo"), [pair("PreviousTier", "Cool")]);
    assert_eq!(events[6].pairs("previousInfo"), [pair("LastVersion", three)]);

    let tagged: Vec<_> = events.iter().map(|event| event.pairs("blobTagsUpdated")).collect();
    assert_eq!(tagged[0], [pair("current", "[(\"k\", \"1\")]"), pair("previous", "[]")]);
    assert_eq!(tagged[1], [pair("current", "[]"), pair("previous", "[(\"k\", \"1\")]")]);
    assert_eq!(tagged[4], [pair("current", "[(\"k\", \"2\")]"), pair("previous", "[]")]);
    assert!([2, 3, 5, 6].iter().all(|at| tagged[*at].is_empty()), "only what changed is told");
    let properties: Vec<String> = events[3].pairs("blobPropertiesUpdated").into_iter().map(|(name, _)| name).collect();
    assert_eq!(properties, ["ContentMD5", "ContentType"]);
}

#[tokio::test]
async fn an_event_about_an_earlier_version_says_which() {
    let server = Server::start_versioned().await;
    let first = server.put_block_blob("/c/b", "one").send().await.expect(201);
    let first = first.header("x-ms-version-id").unwrap();
    server.put_block_blob("/c/b", "two").send().await.expect(201);
    let path = |comp: &str| format!("/c/b?versionid={}{comp}", encoded(first));
    server.put(&path("&comp=tier")).with("x-ms-access-tier", "Cool").send().await.expect(200);
    server.delete(&path("")).send().await.expect(202);
    let events = events(&server).await;
    assert_eq!(told(&events[2..]), [("BlobTierChanged", "SetBlobTier"), ("BlobDeleted", "DeleteBlob")]);
    assert_eq!((events[2].text("blobVersion"), events[3].text("blobVersion")), (first, first));
    assert!(events[3].pairs("previousInfo").is_empty(), "the current blob is as it was");
}

#[tokio::test]
async fn copies_snapshots_appended_blocks_and_seeds_are_told_of() {
    let server = Server::start_versioned().await;
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("x")).unwrap();
    let source = format!("{}/c/b?{}", server.emulator.account_url(ACCOUNT), server.token);
    server.put("/c/d").with("x-ms-copy-source", &source).send().await.expect(202);
    let taken = server.put("/c/d?comp=snapshot").send().await.expect(201);
    server.put("/c/log").with("x-ms-blob-type", "AppendBlob").send().await.expect(201);
    server.put("/c/log?comp=appendblock").body("line").send().await.expect(201);
    server.emulator.set_tier(ACCOUNT, "c", "b", "Cool");
    server.emulator.delete_blob(ACCOUNT, "c", "b");
    server.put("/$web?restype=container").send().await.expect(201);
    server.put_block_blob("/$web/index.html", "x").send().await.expect(201);
    let events = events(&server).await;
    let expected = [
        ("BlobCreated", "PutBlob"),
        ("BlobCreated", "CopyBlob"),
        ("BlobSnapshotCreated", "SnapshotBlob"),
        ("BlobCreated", "PutBlob"),
        ("BlobPropertiesUpdated", "UnspecifiedApi"),
        ("BlobTierChanged", "SetBlobTier"),
        ("BlobDeleted", "DeleteBlob"),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!(events[2].text("snapshot"), taken.header("x-ms-snapshot").unwrap());
    assert_eq!(events[2].text("blobVersion"), taken.header("x-ms-version-id").unwrap());
    assert_eq!(events[2].pairs("previousInfo"), [pair("LastVersion", events[1].text("blobVersion"))]);
    assert_eq!((events[4].text("blobType"), events[4].number("contentLength")), ("AppendBlob", 4));
    assert_eq!(events[4].text("blobTier"), "");
}

#[tokio::test]
async fn the_layout_is_that_of_the_documentation() {
    let server = Server::start_versioned().await;
    let first = "idx/segments/1601/01/01/0000/meta.json";
    assert_eq!(names(&server, "").await, [first, "meta/segments.json"]);
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.pass_seconds(3_600);
    server.put_block_blob("/c/b", "y").send().await.expect(201);
    server.pass_ms(1_500);
    let manifest = read(&server, "meta/segments.json").await;
    assert_eq!(manifest.header("content-type"), Some("application/json"));
    assert!(manifest.text().contains("\"lastConsumable\":\"2026-01-01T01:00:01.500Z\""), "{}", manifest.text());
    let hours = ["2026/01/01/0000", "2026/01/01/0100"];
    let expected = [
        first.to_owned(),
        format!("idx/segments/{}/meta.json", hours[0]),
        format!("idx/segments/{}/meta.json", hours[1]),
        format!("log/00/{}/00000.avro", hours[0]),
        format!("log/00/{}/00000.avro", hours[1]),
        "meta/segments.json".to_owned(),
    ];
    assert_eq!(names(&server, "").await, expected);
    for (name, status) in [(&expected[0], "Finalized"), (&expected[1], "Finalized"), (&expected[2], "Publishing")] {
        let text = read(&server, name).await.text();
        assert!(text.contains(&format!("\"status\":\"{status}\"")), "{text}");
    }
    let segment = read(&server, &expected[2]).await.text();
    for part in [
        "\"begin\":\"2026-01-01T01:00:00.000Z\",\"intervalSecs\":3600",
        "\"chunkFilePaths\":[\"$blobchangefeed/log/00/2026/01/01/0100/\"]",
    ] {
        assert!(segment.contains(part), "{segment}");
    }
    let file = server.head(&format!("{FEED}/{}", expected[3])).send().await.expect(200);
    assert_eq!((file.header("x-ms-blob-type"), file.header("content-type")), (Some("AppendBlob"), Some("avro/binary")));
    // The hour that is over is final once nothing more can come, also without another event.
    server.pass_seconds(3_600);
    read(&server, "meta/segments.json").await;
    assert!(read(&server, &expected[2]).await.text().contains("Finalized"));
}

#[tokio::test]
async fn an_event_comes_after_the_delay_or_when_the_manifest_is_read() {
    let server = Server::start_versioned().await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    assert!(published(&server).await.is_empty());
    server.pass_ms(999);
    assert!(published(&server).await.is_empty());
    server.pass_ms(2);
    assert_eq!(published(&server).await.len(), 1);
    server.put_block_blob("/c/b", "y").send().await.expect(201);
    assert_eq!(published(&server).await.len(), 1);
    let manifest = read(&server, "meta/segments.json").await.text();
    let events = published(&server).await;
    assert_eq!(events.len(), 2);
    // What comes after it has a later time than the manifest tells, even if the clock stands still.
    server.put_block_blob("/c/b", "z").send().await.expect(201);
    let last = manifest.split("\"lastConsumable\":\"").nth(1).unwrap().split("Z\"").next().unwrap();
    let next = self::events(&server).await.pop().unwrap();
    assert!(next.text("eventTime") > last, "{} {last}", next.text("eventTime"));
}

#[tokio::test]
async fn a_file_grows_by_blocks_and_its_beginning_stays() {
    let server = Server::start_versioned().await;
    let log = format!("{FEED}/log/00/2026/01/01/0000/00000.avro");
    let mut before: Vec<u8> = Vec::new();
    for number in 0..40 {
        for blob in 0..20 {
            let name = format!("{number}-{blob}");
            server.emulator.put_blob(ACCOUNT, "c", &name, SeedBlob::new("x")).unwrap();
        }
        read(&server, "meta/segments.json").await;
        let tail =
            server.get(&log).with("x-ms-range", &format!("bytes={}-", before.len())).send().await.expect(206).body;
        let whole = server.get(&log).send().await.expect(200).body;
        assert!(whole[..before.len()] == before[..] && whole[before.len()..] == tail[..]);
        assert_eq!(whole.windows(4).filter(|window| window == b"Obj\x01").count(), 1, "one header");
        before = whole;
    }
    assert!(before.len() > 300_000, "several packed pieces: {}", before.len());
    assert_eq!(published(&server).await.len(), 800);
}

#[tokio::test]
async fn a_large_file_is_followed_by_another() {
    let server = Server::start_versioned().await;
    for number in 0..20_000 {
        server.emulator.put_blob(ACCOUNT, "c", &format!("b{}", number % 100), SeedBlob::new("x")).unwrap();
    }
    let events = events(&server).await;
    assert_eq!(events.len(), 20_000);
    assert!(events.is_sorted_by(|a, b| a.text("sequencer") < b.text("sequencer")));
    let files = names(&server, "log/").await;
    assert_eq!(files, ["log/00/2026/01/01/0000/00000.avro", "log/00/2026/01/01/0000/00001.avro"]);
}

#[tokio::test]
async fn nobody_but_the_system_writes_the_feed() {
    let server = Server::start_versioned().await;
    let mismatch = "AuthorizationPermissionMismatch";
    server.put_block_blob(&format!("{FEED}/x"), "x").send().await.expect_error(403, mismatch);
    server.delete(&format!("{FEED}/meta/segments.json")).send().await.expect_error(403, mismatch);
    server.delete(&format!("{FEED}?restype=container")).send().await.expect_error(403, mismatch);
    server.put(&format!("{FEED}?restype=container")).send().await.expect_error(403, mismatch);
    server.bare_request("GET", &format!("/{ACCOUNT}{FEED}/meta/segments.json")).send().await.expect(401);
    server.head(&format!("{FEED}?restype=container")).send().await.expect(200);
    assert_eq!(server.get("/?comp=list").send().await.elements("Name"), ["c"]);
    assert_eq!(server.get("/?comp=list&include=system").send().await.elements("Name"), ["$blobchangefeed", "c"]);
    assert_eq!(server.emulator.container_names(ACCOUNT), ["c"]);
}

#[tokio::test]
async fn a_feed_without_versions_tells_of_none() {
    let options = EmulatorOptions { change_feed: true, change_feed_delay_ms: 0, ..EmulatorOptions::default() };
    let server = Server::start_with(options).await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.put_block_blob("/c/b", "y").send().await.expect(201);
    server.delete("/c/b").send().await.expect(202);
    let events = published(&server).await;
    assert_eq!(told(&events).len(), 3, "without a delay nobody has to ask");
    assert!(events.iter().all(|event| event.text("blobVersion").is_empty() && event.pairs("previousInfo").is_empty()));
}

#[tokio::test]
async fn without_the_switch_there_is_no_feed() {
    let server = Server::start_with(EmulatorOptions { versioning: true, ..EmulatorOptions::default() }).await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    server.get(&format!("{FEED}/meta/segments.json")).send().await.expect_error(404, "ContainerNotFound");
    assert_eq!(server.get("/?comp=list&include=system").send().await.elements("Name"), ["c"]);
}
