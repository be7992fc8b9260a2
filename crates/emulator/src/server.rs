//! Connections and the way of a request: read, take apart, fail on request, authorize, perform, record, answer. The only file
//! that touches sockets. Stopping ends idle connections at once and gives running requests two seconds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::answer::{Answer, AnswerBody};
use crate::auth::{self, sas};
use crate::clock::{self, Clock};
use crate::error::AzureError;
use crate::faults::{FaultAction, Faults};
use crate::model::{SigningKey, World};
use crate::operation::Operation;
use crate::ops::{self, Call};
use crate::options::{Account, EmulatorOptions};
use crate::record::{RecordedRequest, Recorder};
use crate::request::{self, Request};

/// The newest version of the service that is spoken.
const NEWEST_VERSION: &str = "2026-12-06";
const OLDEST_VERSION: &str = "2009-09-19";
/// The largest body that Azure takes in one request, 5,000 MiB.
const MAX_BODY_BYTES: u64 = 5_000 * 1024 * 1024;
/// Bytes that are read from a socket at once.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// How long running requests may go on after a stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Shared {
    world: RwLock<World>,
    accounts: Vec<Account>,
    pub(crate) faults: Faults,
    recorder: Recorder,
    clock: Clock,
    max_request_age_seconds: Option<i64>,
    /// Whether earlier versions of blobs are kept.
    pub(crate) versioning: bool,
    pub(crate) address: SocketAddr,
    next_request: AtomicU64,
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.clock)()
    }

    fn request_id(&self) -> String {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        format!("b10bdeed-001e-0000-{:04x}-{:012x}", number >> 48, number & 0xffff_ffff_ffff)
    }

    /// The address of an account, without a slash at the end.
    pub(crate) fn account_url(&self, account: &str) -> String {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        format!("http://{}/{account}", SocketAddr::new(ip, self.address.port()))
    }

    /// The account's key; a key that opens nothing for an account that is not served.
    fn key(&self, account: &str) -> (String, Option<SigningKey>) {
        let known = self.accounts.iter().find(|known| known.name == account);
        let key_base64 = known.map(|known| known.key_base64.clone()).unwrap_or_default();
        let key = SigningKey::from_base64(&key_base64);
        (key_base64, key)
    }
}

/// A running emulator. Dropping it stops it as well, without waiting.
pub struct Emulator {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Emulator {
    /// Starts to listen; port 0 is any free port. Needs a Tokio runtime with time and I/O.
    ///
    /// # Errors
    /// What the operating system says about the address; `InvalidInput` for an account key that is not base64.
    pub async fn start(listen: SocketAddr, options: EmulatorOptions) -> io::Result<Emulator> {
        let world = World::new(&options).map_err(|account| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the key of account {account} is not base64"))
        })?;
        let listener = TcpListener::bind(listen).await?;
        let shared = Arc::new(Shared {
            world: RwLock::new(world),
            accounts: options.accounts,
            faults: Faults::default(),
            recorder: Recorder::new(options.recorded_requests),
            clock: options.clock,
            max_request_age_seconds: options.max_request_age_seconds,
            versioning: options.versioning,
            address: listener.local_addr()?,
            next_request: AtomicU64::new(1),
        });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Emulator { shared, stop, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The Blob endpoint of an account: `http://127.0.0.1:PORT/account`.
    pub fn account_url(&self, account: &str) -> String {
        self.shared.account_url(account)
    }

    /// A connection string with the account's key. It holds a secret, if only the sample's.
    pub fn connection_string(&self, account: &str) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName={account};AccountKey={};BlobEndpoint={};",
            self.shared.key(account).0,
            self.account_url(account)
        )
    }

    /// An account SAS token (no leading `?`) for all resource types, valid until 2099. Permissions as in `sp`, e.g. `rl`.
    /// For an account that is not served it opens nothing.
    pub fn sas(&self, account: &str, permissions: &str) -> String {
        let key = self.shared.key(account).1;
        key.map(|key| sas::make_account_sas(&key, account, permissions)).unwrap_or_default()
    }

    /// A service SAS token (no leading `?`) for a container and its blobs, valid until 2099.
    pub fn container_sas(&self, account: &str, container: &str, permissions: &str) -> String {
        let key = self.shared.key(account).1;
        key.map(|key| sas::make_service_sas(&key, account, container, None, permissions)).unwrap_or_default()
    }

    /// A service SAS token (no leading `?`) for one blob, valid until 2099.
    pub fn blob_sas(&self, account: &str, container: &str, blob: &str, permissions: &str) -> String {
        let key = self.shared.key(account).1;
        key.map(|key| sas::make_service_sas(&key, account, container, Some(blob), permissions)).unwrap_or_default()
    }

    /// The latest requests, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.recorder.all()
    }

    /// Forgets the requests and their counts.
    pub fn clear_requests(&self) {
        self.shared.recorder.clear();
    }

    /// How many requests of an operation came since the start or the last clear.
    pub fn count(&self, operation: &str) -> usize {
        self.shared.recorder.count(operation)
    }

    /// Failures on request.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Stops listening, lets running requests end for up to two seconds, and closes all connections.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // An error would be a panic of the accepting task, which then has stopped as well.
        let _ = self.accepting.await;
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Takes connections until told to stop, then waits for them to end.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(converse(stream, peer.ip(), Arc::clone(&shared), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the emulator can't accept a connection");
                    // Out of file descriptors: without a pause this would be a busy loop.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, all_ended).await;
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| serve(Arc::clone(&shared), peer, request));
    let connection = http1::Builder::new().serve_connection(Io::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // An error is a client that went away or a fault on request: nothing to tell anyone.
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The connection shall end without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped")]
struct Dropped;

async fn serve(
    shared: Arc<Shared>,
    peer: IpAddr,
    request: http::Request<Incoming>,
) -> Result<Response<AnswerBody>, Dropped> {
    let _in_flight = shared.faults.enter();
    let (parts, body) = request.into_parts();
    let parsed = Request::parse(&parts, peer);
    let operation = parsed.as_ref().map_or(Operation::Unknown, Operation::of);
    let target = request::redacted_target(&parts.uri);
    let mut record = RecordedRequest {
        method: parts.method.to_string(),
        target,
        operation: operation.name(),
        status: 0,
        request_bytes: 0,
        response_bytes: 0,
    };
    let mut plan = shared.faults.plan(operation.name(), &record.target);
    plan.wait().await;
    match &plan.action {
        Some(FaultAction::DropRequest) => {
            shared.recorder.add(record);
            return Err(Dropped);
        }
        Some(FaultAction::Delay(pause)) => tokio::time::sleep(*pause).await,
        _ => {}
    }
    let body = read_body(&parts, body).await?;
    record.request_bytes = body.as_ref().map_or(0, Bytes::len) as u64;

    let request_id = shared.request_id();
    let result = match &plan.action {
        Some(FaultAction::Status { status, code, retry_after_seconds }) => {
            Ok(fault_answer(*status, code, *retry_after_seconds))
        }
        _ => parsed.as_ref().map_err(Clone::clone).and_then(|request| {
            let body = body?;
            perform(&shared, request, operation, body, &request_id)
        }),
    };
    let now_us = shared.now_us();
    let mut answer =
        result.unwrap_or_else(|error| Answer::error(&error, &request_id, &clock::iso_ticks(clock::ticks(now_us))));
    if parts.method == Method::HEAD {
        answer = answer.without_body();
    }
    match plan.action {
        Some(FaultAction::LoseAnswer) => {
            shared.recorder.add(record);
            return Err(Dropped);
        }
        Some(FaultAction::DropMidBody) => answer.body.break_in_the_middle(),
        Some(FaultAction::TruncateBody) => answer.body.truncate_to_half(),
        Some(FaultAction::CorruptBody) => answer.body.corrupt(),
        _ => {}
    }
    set_common_headers(&mut answer, &parts.headers, &request_id, now_us);
    record.status = answer.status.as_u16();
    record.response_bytes = answer.body.len_bytes();
    shared.recorder.add(record);
    Ok(answer.into_response())
}

fn fault_answer(status: u16, code: &str, retry_after_seconds: Option<u64>) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = retry_after_seconds.map(|seconds| seconds.to_string());
    let mut document = format!("{}<Error><Code>", crate::xml::PROLOG);
    crate::xml::push_escaped(&mut document, code);
    document.push_str("</Code><Message>The server is asked to fail this request.</Message></Error>");
    Answer::new(status).header("x-ms-error-code", code).maybe("Retry-After", retry_after.as_deref()).xml(document)
}

/// The body, or why it is not taken. `Dropped` if the client went away.
async fn read_body(parts: &http::request::Parts, body: Incoming) -> Result<Result<Bytes, AzureError>, Dropped> {
    let has_length = parts.headers.contains_key(http::header::CONTENT_LENGTH);
    let chunked = parts.headers.contains_key(http::header::TRANSFER_ENCODING);
    let length = hyper::body::Body::size_hint(&body).upper().unwrap_or(0);
    if length > MAX_BODY_BYTES {
        return Ok(Err(AzureError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestBodyTooLarge",
            "The request body is too large and exceeds the maximum permissible limit.",
        )));
    }
    if chunked || (parts.method == Method::PUT && !has_length) {
        // What comes is read and forgotten, so that the client gets to the answer.
        let mut body = body;
        while let Some(frame) = body.frame().await {
            frame.map_err(|_| Dropped)?;
        }
        return Ok(Err(AzureError::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLengthHeader",
            "Content-Length HTTP header is missing.",
        )));
    }
    let collected = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    // A small body is a slice of the connection's read buffer: kept as it is, it would keep all of that.
    let small = collected.len() < READ_BUFFER_BYTES;
    Ok(Ok(if small { Bytes::copy_from_slice(&collected) } else { collected }))
}

fn perform(
    shared: &Shared,
    request: &Request,
    operation: Operation,
    body: Bytes,
    request_id: &str,
) -> Result<Answer, AzureError> {
    check_version(request)?;
    if operation == Operation::Unknown {
        // Before authorization: there is nothing to protect, and the reason is what the client needs to know.
        return Err(ops::unknown(request));
    }
    let now_us = shared.now_us();
    let granted = auth::authorize(&shared.read(), request, operation, now_us, shared.max_request_age_seconds)?;
    ops::perform(&Call { shared, request, body, granted, now_us, request_id }, operation)
}

fn check_version(request: &Request) -> Result<(), AzureError> {
    let Some(version) = request.filled_header("x-ms-version") else { return Ok(()) };
    let shaped = version.len() == 10
        && version.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if shaped && (OLDEST_VERSION..=NEWEST_VERSION).contains(&version) {
        return Ok(());
    }
    Err(AzureError::invalid_header("x-ms-version", version))
}

fn set_common_headers(answer: &mut Answer, asked: &http::HeaderMap, request_id: &str, now_us: i64) {
    let text = |name: &str| asked.get(name).and_then(|value| value.to_str().ok());
    answer.set("Server", "Blobkeep-Emulator/1.0");
    answer.set("x-ms-request-id", request_id);
    answer.set("x-ms-version", text("x-ms-version").filter(|version| !version.is_empty()).unwrap_or(NEWEST_VERSION));
    answer.set("Date", &clock::http_date(now_us));
    if let Some(id) = text("x-ms-client-request-id") {
        answer.set("x-ms-client-request-id", id);
    }
}

/// A socket in the terms of the HTTP library. Reading copies once through a buffer, which keeps it free of unsafe code.
struct Io {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Io {
    fn new(stream: TcpStream) -> Io {
        Io { stream, buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice() }
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        let wanted = cursor.remaining().min(io.buffer.len());
        let mut read = ReadBuf::new(&mut io.buffer[..wanted]);
        ready!(Pin::new(&mut io.stream).poll_read(context, &mut read))?;
        cursor.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }
}
