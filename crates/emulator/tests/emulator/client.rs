//! The tests' own HTTP client: plain sockets, so that odd paths go out as written and broken answers can be seen. It must
//! never repair or normalise anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use blobkeep_emulator::{DEVELOPMENT_ACCOUNT, Emulator, EmulatorOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// 2026-01-01T00:00:00Z.
pub const START_US: i64 = 1_767_225_600_000_000;
pub const ACCOUNT: &str = DEVELOPMENT_ACCOUNT;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn code(&self) -> &str {
        self.header("x-ms-error-code").unwrap_or("")
    }

    /// The texts of all elements of a name.
    pub fn elements(&self, name: &str) -> Vec<String> {
        elements(&self.text(), name)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{} {}", self.code(), String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Reply {
        assert_eq!((self.status, self.code()), (status, code), "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// The texts of all elements of a name, with or without attributes.
pub fn elements(document: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in document.split(&format!("<{name}")).skip(1) {
        if let Some(rest) = piece.strip_prefix('>').or_else(|| piece.strip_prefix(" Encoded=\"true\">")) {
            found.push(rest.split(&format!("</{name}>")).next().unwrap().to_owned());
        } else if piece.starts_with(" />") {
            found.push(String::new());
        }
    }
    found
}

/// Sends one request on a connection of its own and reads the answer to its end.
pub async fn send_raw(address: SocketAddr, head: &str, body: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&bytes, head.starts_with("HEAD "))
}

fn parse(bytes: &[u8], is_head: bool) -> io::Result<Reply> {
    let aborted = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(aborted)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|text| text.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let reply = Reply { status: status.ok_or_else(aborted)?, headers, body };
    let told: usize = reply.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if !is_head && reply.body.len() != told {
        return Err(aborted());
    }
    Ok(reply)
}

/// An emulator with a clock that the test turns, and a SAS that allows everything.
pub struct Server {
    pub emulator: Emulator,
    now_us: Arc<AtomicI64>,
    pub token: String,
}

impl Server {
    /// A server with the container `c`.
    pub async fn start() -> Server {
        Server::start_with(EmulatorOptions::default()).await
    }

    /// A server that keeps versions and writes a change feed, with the container `c`.
    pub async fn start_versioned() -> Server {
        Server::start_with(EmulatorOptions { versioning: true, change_feed: true, ..EmulatorOptions::default() }).await
    }

    /// A server with these options but the test's clock, and the container `c`.
    pub async fn start_with(options: EmulatorOptions) -> Server {
        let now_us = Arc::new(AtomicI64::new(START_US));
        let clock = Arc::clone(&now_us);
        let options = EmulatorOptions { clock: Arc::new(move || clock.load(Ordering::SeqCst)), ..options };
        let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        emulator.create_container(ACCOUNT, "c").unwrap();
        let token = emulator.sas(ACCOUNT, "racwdlxt");
        Server { emulator, now_us, token }
    }

    pub fn pass_seconds(&self, seconds: i64) {
        self.pass_ms(seconds * 1_000);
    }

    pub fn pass_ms(&self, ms: i64) {
        self.now_us.fetch_add(ms * 1_000, Ordering::SeqCst);
    }

    /// A request to a path below the account, as written, with the server's SAS.
    pub fn request(&self, method: &str, path: &str) -> Call {
        let separator = if path.contains('?') { '&' } else { '?' };
        self.bare_request(method, &format!("/{ACCOUNT}{path}{separator}{}", self.token))
    }

    /// A request to a target as written, without authorization.
    pub fn bare_request(&self, method: &str, target: &str) -> Call {
        Call {
            address: self.emulator.address(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("x-ms-version".to_owned(), "2021-12-02".to_owned())],
            body: Vec::new(),
        }
    }

    pub fn get(&self, path: &str) -> Call {
        self.request("GET", path)
    }

    pub fn head(&self, path: &str) -> Call {
        self.request("HEAD", path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.request("PUT", path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.request("DELETE", path)
    }

    /// Put Blob of a block blob.
    pub fn put_block_blob(&self, path: &str, body: impl AsRef<[u8]>) -> Call {
        self.put(path).with("x-ms-blob-type", "BlockBlob").body(body)
    }

    /// A page of the list of container `c`.
    pub async fn list(&self, query: &str) -> Reply {
        let mut call = self.get(&format!("/c?restype=container&comp=list{query}"));
        if query.contains("startFrom") {
            // Known from this version on; before, it is left unread.
            call.headers = vec![("x-ms-version".to_owned(), "2026-02-06".to_owned())];
        }
        call.send().await.expect(200)
    }
}

/// A request that is being put together.
pub struct Call {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    pub fn with(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Call {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Call {
        self.body = body.as_ref().to_vec();
        self
    }

    pub async fn try_send(self) -> io::Result<Reply> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.address);
        let counted = self.method == "PUT" || !self.body.is_empty();
        if counted && !self.headers.iter().any(|(name, _)| name == "transfer-encoding") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        send_raw(self.address, &head, &self.body).await
    }

    pub async fn send(self) -> Reply {
        self.try_send().await.unwrap()
    }
}

/// The percent-encoded form of a name: everything but letters and digits.
pub fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
