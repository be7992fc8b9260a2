//! Change feeds as Azure writes them and an emulator does not: several shards, segments that are final or not ready yet, files that end in the
//! middle of a block; and copies that the account makes on its own. Against an endpoint that has what a test puts there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::source::BlobChange;
use blobkeep_vault::{BlobEntry, Source, SourceErrorKind, Target, Timestamp, Written};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const FEED: &str = "/acc/%24blobchangefeed";

/// What the endpoint has.
#[derive(Default)]
struct Stored {
    files: BTreeMap<String, Vec<u8>>,
    /// Answers to requests that begin so (method and path), one after the other; the last one stays.
    answers: HashMap<String, Vec<String>>,
    heads: Vec<String>,
}

#[derive(Clone)]
struct Endpoint {
    stored: Arc<Mutex<Stored>>,
    account: AzureAccount,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/acc?sig=secret", listener.local_addr().unwrap());
        let mut options = AzureOptions::from_url(&url, None, None).unwrap();
        (options.first_delay, options.longest_delay) = (Duration::from_millis(1), Duration::from_millis(2));
        let endpoint = Self { stored: Arc::default(), account: AzureAccount::new(options).unwrap() };
        let serving = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        endpoint
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|part| part == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        let answer = self.answer(&head);
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut request).await;
    }

    fn answer(&self, head: &str) -> Vec<u8> {
        let mut stored = self.stored.lock().unwrap();
        stored.heads.push(head.to_owned());
        let line: Vec<&str> = head.split(' ').collect();
        let (method, target) = (line[0], line[1]);
        let (path, query) = target.split_once('?').unwrap();
        let with_body = |status: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        if let Some(answers) = stored.answers.get_mut(&format!("{method} {path}")) {
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            return format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n").into_bytes();
        }
        if path == FEED {
            let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or_default();
            let prefix = prefix.replace("%2F", "/");
            let rows: String = stored
                .files
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix))
                .map(|(name, content)| {
                    let mark: usize = content.iter().map(|byte| usize::from(*byte)).sum();
                    format!(
                        "<Blob><Name>{name}</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified>\
                         <Etag>{mark}</Etag><Content-Length>{}</Content-Length></Properties></Blob>",
                        content.len()
                    )
                })
                .collect();
            let body = format!("<EnumerationResults><Blobs>{rows}</Blobs><NextMarker/></EnumerationResults>");
            return with_body("200 OK", body.as_bytes());
        }
        if path == "/acc/" {
            return with_body("200 OK", b"<EnumerationResults><Containers/><NextMarker/></EnumerationResults>");
        }
        let Some(content) = path.strip_prefix(&format!("{FEED}/")).and_then(|name| stored.files.get(name)) else {
            return with_body("404 Not Found", b"");
        };
        let range = head.lines().find_map(|line| line.strip_prefix("x-ms-range: bytes="));
        match range.and_then(|range| range.trim().split_once('-')) {
            Some((from, to)) => {
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                with_body("206 Partial Content", &content[from..=to.min(content.len() - 1)])
            }
            None => with_body("200 OK", content),
        }
    }

    fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.stored.lock().unwrap().files.insert(name.to_owned(), content.into());
    }

    /// The feed is final up to there.
    fn consumable(&self, until: &str) {
        self.put("meta/segments.json", format!("{{\"version\":0,\"lastConsumable\":\"{until}\"}}"));
    }

    fn segment(&self, path: &str, status: &str, shards: &[&str]) {
        let chunks: Vec<String> =
            shards.iter().map(|shard| format!("\"$blobchangefeed/log/{shard}/{path}/\"")).collect();
        let meta = format!("{{\"version\":0,\"status\":\"{status}\",\"chunkFilePaths\":[{}]}}", chunks.join(","));
        self.put(&format!("idx/segments/{path}/meta.json"), meta);
    }

    /// Starts of requests to a method and path are answered like this from now on.
    fn script(&self, start: &str, answers: &[&str]) {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        self.stored.lock().unwrap().answers.insert(start.to_owned(), answers);
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.stored.lock().unwrap().heads)
    }

    async fn names_after(&self, cursor: &mut String) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let page = self.account.changes(cursor).await.unwrap();
            names.extend(page.changes.into_iter().map(|change| change.name));
            *cursor = page.next.cursor;
            if page.is_last {
                return names;
            }
        }
    }
}

const SCHEMA: &str = r#"{"type": "record", "name": "BlobChangeEvent", "fields": [
    {"name": "subject", "type": "string"}, {"name": "eventType", "type": "string"}, {"name": "eventTime", "type": "string"},
    {"name": "id", "type": "string"}, {"name": "data", "type": {"type": "map", "values": "string"}}]}"#;

/// Deletions of these blobs, in blocks: a file of the feed that needs no further question.
fn log(blocks: &[&[&str]]) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::append_to(&schema, Vec::new(), [7; 16]).unwrap();
    for names in blocks {
        for name in *names {
            let data = HashMap::from([("sequencer".to_owned(), Value::String((*name).to_owned()))]);
            let text = |text: String| Value::String(text);
            let fields = [
                ("subject", text(format!("/blobServices/default/containers/photos/blobs/{name}"))),
                ("eventType", text("BlobDeleted".to_owned())),
                ("eventTime", text("2026-11-23T07:30:00.0000000Z".to_owned())),
                ("id", text((*name).to_owned())),
                ("data", Value::Map(data)),
            ];
            writer.append_value(Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())).unwrap();
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
    other.stored.lock().unwrap().files.retain(|name, _| name.starts_with("meta/"));
    other.consumable("2026-11-23T09:10:00.000Z");
    assert_eq!(other.account.changes(&cursor).await.unwrap_err().kind, SourceErrorKind::NotFound);
}

#[tokio::test]
async fn an_event_is_told_with_its_metadata_names_as_they_were_written() {
    let endpoint = Endpoint::start().await;
    endpoint.consumable("2026-11-23T06:10:00.000Z");
    let cursor = endpoint.account.feed().await.unwrap().unwrap().cursor;
    endpoint.consumable("2026-11-23T07:10:00.000Z");
    endpoint.segment("2026/11/23/0700", "Publishing", &["00"]);
    let version = "2026-11-23T07:30:00.0000000Z";
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    let text = |text: &str| Value::String(text.to_owned());
    let data = [("sequencer", "1"), ("etag", "0x1"), ("blobVersion", version)];
    let data = data.map(|(name, value)| (name.to_owned(), text(value)));
    let fields = vec![
        ("subject".to_owned(), text("/blobServices/default/containers/photos/blobs/a")),
        ("eventType".to_owned(), text("BlobCreated")),
        ("eventTime".to_owned(), text(version)),
        ("id".to_owned(), text("1")),
        ("data".to_owned(), Value::Map(HashMap::from(data))),
    ];
    writer.append_value(Value::Record(fields)).unwrap();
    endpoint.put("log/00/2026/11/23/0700/00000.avro", writer.into_inner().unwrap());
    let head = format!(
        "200 OK\r\ncontent-length: 3\r\netag: \"0x1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:03 GMT\r\nx-ms-meta-Zeta: 1\r\n\
         x-ms-is-current-version: true\r\nx-ms-version-id: {version}\r\nx-ms-tag-count: 1"
    );
    endpoint.script("HEAD /acc/photos/a", &[&head]);
    let row = "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified>\
        <Etag>0x1</Etag><Content-Length>3</Content-Length></Properties><Metadata><Zeta>1</Zeta></Metadata><Tags><TagSet><Tag><Key>k</Key>\
        <Value>v</Value></Tag></TagSet></Tags></Blob></Blobs><NextMarker/></EnumerationResults>";
    endpoint.script("GET /acc/photos", &[&format!("200 OK\r\ncontent-length: {}\r\n\r\n{row}", row.len())]);
    let BlobChange { entry, .. } = endpoint.account.changes(&cursor).await.unwrap().changes.remove(0);
    let entry = entry.unwrap();
    assert_eq!(entry.metadata, [("Zeta".to_owned(), "1".to_owned())]);
    assert_eq!(entry.tags, [("k".to_owned(), "v".to_owned())]);
    assert_eq!((entry.current_version.as_deref(), entry.size_bytes), (Some(version), 3));
}

fn blob(size_bytes: u64) -> BlobEntry {
    BlobEntry { container: "photos".into(), name: "a b".into(), size_bytes, etag: "0x1".into(), ..BlobEntry::default() }
}

const PUT: &str = "PUT /acc/photos/a%20b";
const HEAD: &str = "HEAD /acc/photos/a%20b";
const VERSION: &str = "2026-11-23T07:00:00.1234567Z";

#[tokio::test]
async fn a_copy_that_the_account_makes_on_its_own_is_waited_for() {
    let endpoint = Endpoint::start().await;
    let pending = "x-ms-copy-id: 7\r\nx-ms-copy-status: pending\r\nx-ms-copy-progress: ";
    let started = "202 Accepted\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: pending";
    let [none, half] = ["0/9", "5/9"].map(|progress| format!("200 OK\r\ncontent-length: 0\r\n{pending}{progress}"));
    let done = "200 OK\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: success\r\netag: \"0x2\"";
    endpoint.script(PUT, &[started]);
    endpoint.script(HEAD, &[&none, &none, &half, done]);
    let large = blob(300 << 20);
    let written = Written::Written { lost: Vec::new() };
    assert_eq!(endpoint.account.copy_version(&large, VERSION, None).await.unwrap(), written);
    let heads = endpoint.heads();
    assert_eq!(heads.len(), 5, "{heads:?}");
    let (copy, source) = (&heads[0], "x-ms-copy-source: http://");
    assert!(
        copy.contains(source) && copy.contains("?versionid=2026-11-23T07%3A00%3A00.1234567Z&sig=secret\r\n"),
        "{copy}"
    );
    assert!(!copy.contains("x-ms-requires-sync"), "too large for that");
    assert!(copy.contains("if-none-match: *\r\n") && copy.contains("x-ms-source-if-match: \"0x1\"\r\n"), "{copy}");

    for (answer, kind, words) in [
        (
            "x-ms-copy-id: 7\r\nx-ms-copy-status: failed\r\nx-ms-copy-status-description: 500 broken",
            SourceErrorKind::Unavailable,
            "500 broken",
        ),
        ("x-ms-copy-id: 8\r\nx-ms-copy-status: success", SourceErrorKind::Changed, "somebody else"),
    ] {
        endpoint.script(HEAD, &[&format!("200 OK\r\ncontent-length: 0\r\n{answer}")]);
        let error = endpoint.account.copy_version(&large, VERSION, None).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words) && error.message.contains(VERSION), "{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
    // One that never gets on is given up, and the account is told so.
    endpoint.heads();
    endpoint.script(HEAD, &[&half]);
    let error = endpoint.account.copy_version(&large, VERSION, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.message.contains("no progress"), "{error}");
    assert!(endpoint.heads().last().unwrap().contains("x-ms-copy-action: abort"));
}

#[tokio::test]
async fn a_small_copy_by_a_signature_is_done_when_it_is_answered() {
    let endpoint = Endpoint::start().await;
    let done = "202 Accepted\r\ncontent-length: 0\r\nx-ms-copy-id: 7\r\nx-ms-copy-status: success";
    endpoint.script(PUT, &[done]);
    endpoint.account.copy_version(&blob(3), VERSION, None).await.unwrap();
    assert!(endpoint.heads()[0].contains("x-ms-requires-sync: true\r\n"));
}
