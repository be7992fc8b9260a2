//! An endpoint that has what a test puts there, and answers as a test wants it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::Source;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const FEED: &str = "/acc/%24blobchangefeed";

pub(crate) const SCHEMA: &str = r#"{"type": "record", "name": "BlobChangeEvent", "fields": [
    {"name": "subject", "type": "string"}, {"name": "eventType", "type": "string"}, {"name": "eventTime", "type": "string"},
    {"name": "id", "type": "string"}, {"name": "data", "type": {"type": "map", "values": "string"}}]}"#;

/// What the endpoint has.
#[derive(Default)]
struct Stored {
    files: BTreeMap<String, Vec<u8>>,
    /// Answers to requests that begin so (method and path, and `?versionid=…` for those about that version alone), one after the other; the last
    /// one stays.
    answers: HashMap<String, Vec<String>>,
    heads: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Endpoint {
    stored: Arc<Mutex<Stored>>,
    pub(crate) account: AzureAccount,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
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
        let start = format!("{method} {path}");
        let of_version = query.split('&').find(|part| part.starts_with("versionid="));
        let of_version = of_version.map(|part| format!("{start}?{part}")).filter(|of| stored.answers.contains_key(of));
        if let Some(answers) = stored.answers.get_mut(of_version.as_ref().unwrap_or(&start)) {
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

    pub(crate) fn forget(&self, is_kept: impl Fn(&str) -> bool) {
        self.stored.lock().unwrap().files.retain(|name, _| is_kept(name));
    }

    pub(crate) fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.stored.lock().unwrap().files.insert(name.to_owned(), content.into());
    }

    /// The feed is final up to there.
    pub(crate) fn consumable(&self, until: &str) {
        self.put("meta/segments.json", format!("{{\"version\":0,\"lastConsumable\":\"{until}\"}}"));
    }

    pub(crate) fn segment(&self, path: &str, status: &str, shards: &[&str]) {
        let chunks: Vec<String> =
            shards.iter().map(|shard| format!("\"$blobchangefeed/log/{shard}/{path}/\"")).collect();
        let meta = format!("{{\"version\":0,\"status\":\"{status}\",\"chunkFilePaths\":[{}]}}", chunks.join(","));
        self.put(&format!("idx/segments/{path}/meta.json"), meta);
    }

    /// Starts of requests to a method and path are answered like this from now on.
    pub(crate) fn script(&self, start: &str, answers: &[&str]) {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        self.stored.lock().unwrap().answers.insert(start.to_owned(), answers);
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.stored.lock().unwrap().heads)
    }

    pub(crate) fn asked(&self) -> usize {
        self.stored.lock().unwrap().heads.len()
    }

    pub(crate) async fn names_after(&self, cursor: &mut String) -> Vec<String> {
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

/// An event of the blob `a`: its kind, its time, and the data that it tells.
pub(crate) fn told(kind: &str, time: &str, data: &[(&str, &str)]) -> Value {
    event("a", kind, time, data)
}

/// An event of a blob in the container `photos`.
pub(crate) fn event(name: &str, kind: &str, time: &str, data: &[(&str, &str)]) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    let data: HashMap<String, Value> = data.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    let fields = [
        ("subject", text(&format!("/blobServices/default/containers/photos/blobs/{name}"))),
        ("eventType", text(kind)),
        ("eventTime", text(time)),
        ("id", text(&format!("{name} {time}"))),
        ("data", Value::Map(data)),
    ];
    Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// A file of the feed with these events.
pub(crate) fn file_of(events: &[Value]) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    for event in events {
        writer.append_value(event.clone()).unwrap();
    }
    writer.into_inner().unwrap()
}
