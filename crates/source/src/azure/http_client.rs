//! Requests to one endpoint: signed, limited in number, retried. It knows no operation of its own and must never log a
//! query string, because a SAS lies in it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blobkeep_vault::{SourceError, SourceErrorKind};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

use super::address::GuardedResolver;
use super::auth::{Credential, Signer};
use super::checksum::Kind;
use super::header_case::HeaderCase;
use super::limiter::Limiter;
use super::options::AzureOptions;
pub(crate) use super::request::{Request, Response};
use super::{clock, fault, path};

/// Old enough for every emulator, new enough for nearly all that is used here (cold tier, tags, immutability). A request that needs a newer
/// one says so itself.
const API_VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");
/// Azurite closes idle connections after five seconds without a word; ours are dropped before.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Room made for a body before it arrives, at most.
const EXPECTED_BYTES_AT_MOST: usize = 16 << 20;
/// Copies inside an account mostly take no time at all.
const MOST_COPY_DELAY: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// An endpoint that cannot be reached at all is given up on earlier than one that answers that it is busy.
const MOST_CONNECT_TRIES: u32 = 6;

/// Sends requests to one account.
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
    base: String,
    base_path: String,
    shown: String,
    signer: Option<Signer>,
    sas: Option<super::auth::Secret>,
    header_case: HeaderCase,
    limiter: Limiter,
    /// What answers is Azurite, or may be as long as nothing has answered.
    is_azurite: AtomicBool,
    keeps_bytes: bool,
    most_tries: u32,
    first_delay: Duration,
    longest_delay: Duration,
    try_timeout: Duration,
}

impl HttpClient {
    pub(crate) fn new(options: &AzureOptions) -> Result<Self, SourceError> {
        let refused = |message: String| SourceError::new(SourceErrorKind::Refused, message);
        let shown = options.endpoint.url();
        // The connector asks the resolver for names only; a literal address is judged here.
        if let Ok(address) = options.endpoint.host().parse() {
            options.allowed.check(address).map_err(|reason| refused(format!("cannot use {shown}: {reason}")))?;
        }
        let (signer, sas) = match &options.credential {
            Credential::AccountKey { account, key } => {
                let signer = Signer::new(account, key).ok_or_else(|| {
                    refused(format!("the key of account {account} is no base64: copy it again, whole"))
                })?;
                (Some(signer), None)
            }
            Credential::Sas(token) => {
                let probe = format!("http://localhost/?{}", token.reveal());
                probe
                    .parse::<Uri>()
                    .map_err(|_| refused(format!("the SAS for {shown} is not well formed: copy it again, whole")))?;
                (None, Some(token.clone()))
            }
            Credential::Anonymous => (None, None),
        };
        let mut http = HttpConnector::new_with_resolver(GuardedResolver { policy: options.allowed.clone() });
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = tls_config(options).map_err(|reason| refused(format!("cannot set up TLS for {shown}: {reason}")))?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.most_in_flight)
            .build(connector);
        let scheme = if options.endpoint.is_https { "https" } else { "http" };
        Ok(Self {
            client,
            base: format!("{scheme}://{}", options.endpoint.authority),
            base_path: options.endpoint.base_path.clone(),
            shown,
            signer,
            sas,
            header_case: HeaderCase::default(),
            limiter: Limiter::new(options.most_in_flight),
            is_azurite: AtomicBool::new(options.endpoint.is_path_style()),
            keeps_bytes: options.endpoint.keeps_bytes(),
            most_tries: options.most_tries.max(1),
            first_delay: options.first_delay,
            longest_delay: options.longest_delay,
            try_timeout: options.try_timeout,
        })
    }

    /// The endpoint's address, for messages.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether requests go out without any credential.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.signer.is_none() && self.sas.is_none()
    }

    /// Whether the credential is a SAS.
    pub(crate) fn has_sas(&self) -> bool {
        self.sas.is_some()
    }

    /// The address of a version of a blob, for requests that name it as their source; with the SAS, where there is one.
    pub(crate) fn version_url(&self, container: &str, blob: &str, version: &str) -> String {
        let (container, blob, version) = (path::encode(container), path::encode_blob(blob), path::encode(version));
        let mut url = format!("{}{}/{container}/{blob}?versionid={version}", self.base, self.base_path);
        if let Some(sas) = &self.sas {
            url.push('&');
            url.push_str(sas.reveal());
        }
        url
    }

    /// The pause before the look of this number at a copy that the account makes on its own.
    pub(crate) fn copy_delay(&self, look: u32) -> Duration {
        self.delay(look.min(4)).min(MOST_COPY_DELAY)
    }

    /// The checksum that goes with a block.
    pub(crate) fn checksum(&self) -> Kind {
        if self.is_azurite.load(Ordering::Relaxed) { Kind::Md5 } else { Kind::Crc64 }
    }

    /// Servers say who they are.
    fn note_server(&self, headers: &HeaderMap) {
        if let Some(server) = headers.get(http::header::SERVER) {
            self.is_azurite.store(server.as_bytes().starts_with(b"Azurite"), Ordering::Relaxed);
        }
    }

    /// Nothing on the way from the endpoint can change bytes unnoticed.
    pub(crate) fn keeps_bytes(&self) -> bool {
        self.keeps_bytes
    }

    /// Requests that may be in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.limiter.limit()
    }

    /// The pause between looks at a container that is being deleted; Azure needs half a minute and more.
    pub(crate) fn deletion_delay(&self) -> Duration {
        self.longest_delay.min(Duration::from_secs(20))
    }

    /// Sends a request until it is answered with something that trying again would not change. `what` completes
    /// "cannot …" in messages. Answers of every status come back; only what stays busy or unreachable is an error.
    pub(crate) async fn send(&self, what: &str, request: &Request) -> Result<Response, SourceError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let permit = self.limiter.acquire().await;
            let outcome = self.send_once(what, request).await;
            let pause = match outcome {
                Ok(mut response) if !is_worth_retrying(&response) => {
                    permit.succeeded();
                    response.tries = tries;
                    return Ok(response);
                }
                Ok(response) => {
                    if is_throttling(response.status) {
                        permit.throttled();
                    }
                    if tries >= self.most_tries {
                        let mut error = fault::error_of(what, &self.shown, &response);
                        error.message.push_str(&format!(" [tried {tries} times]"));
                        return Err(error);
                    }
                    let asked = retry_after(&response).unwrap_or_default();
                    tracing::debug!(
                        what,
                        status = response.status.as_u16(),
                        tries,
                        "the endpoint is busy: trying again"
                    );
                    self.delay(tries).max(asked).min(self.longest_delay)
                }
                Err(trouble) => {
                    let most =
                        if trouble.is_connect { self.most_tries.min(MOST_CONNECT_TRIES) } else { self.most_tries };
                    if trouble.is_final || tries >= most {
                        let tried = if tries > 1 { format!(" [tried {tries} times]") } else { String::new() };
                        let message = format!("cannot {what} at {}: {}{tried}", self.shown, trouble.message);
                        return Err(SourceError::new(trouble.kind, message));
                    }
                    tracing::debug!(what, tries, reason = trouble.message, "no answer: trying again");
                    // A pooled connection that the server had closed: a fresh one works at once.
                    if tries == 1 && !trouble.is_connect { Duration::ZERO } else { self.delay(tries) }
                }
            };
            drop(permit);
            tokio::time::sleep(pause).await;
        }
    }

    /// Like [`HttpClient::send`], and every status but those in `accepted` is an error.
    pub(crate) async fn expect(
        &self,
        what: &str,
        request: &Request,
        accepted: &[u16],
    ) -> Result<Response, SourceError> {
        let response = self.send(what, request).await?;
        if accepted.contains(&response.status.as_u16()) {
            return Ok(response);
        }
        Err(fault::error_of(what, &self.shown, &response))
    }

    async fn send_once(&self, what: &str, request: &Request) -> Result<Response, Trouble> {
        let mut built = self.build(request).ok_or_else(|| Trouble {
            kind: SourceErrorKind::Refused,
            is_final: true,
            is_connect: false,
            message: format!("{what} makes no legal request"),
        })?;
        if !request.cased_names.is_empty() {
            *built.extensions_mut() = self.header_case.of(&request.cased_names).await;
        }
        let work = async {
            let response = self.client.request(built).await.map_err(Trouble::from_client)?;
            let (parts, body) = response.into_parts();
            self.note_server(&parts.headers);
            let body = whole(body).await.map_err(|error| Trouble::broken(&error))?;
            Ok(Response { status: parts.status, headers: parts.headers, body, tries: 1 })
        };
        match tokio::time::timeout(self.try_timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::late(self.try_timeout)),
        }
    }

    fn build(&self, request: &Request) -> Option<http::Request<Full<Bytes>>> {
        let mut target = self.base_path.clone();
        match &request.container {
            Some(container) => {
                target.push('/');
                target.push_str(&path::encode(container));
            }
            None => target.push('/'),
        }
        if let Some(blob) = &request.blob {
            target.push('/');
            target.push_str(&path::encode_blob(blob));
        }
        let mut headers = request.headers.clone();
        headers.entry("x-ms-version").or_insert(API_VERSION);
        headers.insert("x-ms-date", HeaderValue::from_str(&clock::now_for_signing()).ok()?);
        if request.method == Method::PUT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        if let Some(signer) = &self.signer {
            let value = signer.authorization(request.method.as_str(), &target, &request.query, &headers);
            let mut value = HeaderValue::from_bytes(&value).ok()?;
            value.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, value);
        }
        let mut separator = '?';
        for (name, value) in &request.query {
            target.push(separator);
            target.push_str(name);
            target.push('=');
            target.push_str(&path::encode(value));
            separator = '&';
        }
        if let Some(sas) = &self.sas {
            target.push(separator);
            target.push_str(sas.reveal());
        }
        let mut built = http::Request::new(Full::new(request.body.clone()));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = format!("{}{target}", self.base).parse().ok()?;
        *built.headers_mut() = headers;
        Some(built)
    }

    fn delay(&self, tries: u32) -> Duration {
        let full = self.first_delay.saturating_mul(3_u32.saturating_pow(tries - 1)).min(self.longest_delay);
        let mut random = [0; 2];
        // Without randomness the pause is merely the same for everyone.
        let _ = aws_lc_rs::rand::fill(&mut random);
        full.mul_f64(0.5 + f64::from(u16::from_le_bytes(random)) / 131_072.0)
    }
}

/// A body, in one piece. Where its length is known it is put together in its place: ranges of blobs are large.
async fn whole(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(expected.min(EXPECTED_BYTES_AT_MOST));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if whole.is_empty() && data.len() == expected {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// A try that brought no answer.
#[derive(Debug)]
struct Trouble {
    kind: SourceErrorKind,
    is_final: bool,
    is_connect: bool,
    message: String,
}

impl Trouble {
    fn from_client(error: hyper_util::client::legacy::Error) -> Self {
        let mut trouble = Self::broken(&error);
        trouble.is_connect = error.is_connect();
        let mut cause = error.source();
        while let Some(inner) = cause {
            match refusal_in(inner) {
                Some(Refusal::Address) => {
                    trouble.kind = SourceErrorKind::Denied;
                    trouble.is_final = true;
                }
                Some(Refusal::Certificate) => {
                    trouble.kind = SourceErrorKind::Denied;
                    trouble.is_final = true;
                    trouble.message.push_str(": if the certificate is right, add its authority to the configuration");
                    break;
                }
                None => {}
            }
            cause = inner.source();
        }
        trouble
    }

    fn broken(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        Self { kind: SourceErrorKind::Unavailable, is_final: false, is_connect: false, message }
    }

    fn late(after: Duration) -> Self {
        Self {
            kind: SourceErrorKind::Unavailable,
            is_final: false,
            is_connect: false,
            message: format!("no complete answer within {} seconds", after.as_secs()),
        }
    }
}

/// Connections that would fail the same way again.
enum Refusal {
    /// Our own guard on addresses.
    Address,
    /// The server's certificate is not trusted.
    Certificate,
}

fn refusal_in(error: &(dyn std::error::Error + 'static)) -> Option<Refusal> {
    if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
        return Some(Refusal::Certificate);
    }
    let error = error.downcast_ref::<io::Error>()?;
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Some(Refusal::Address);
    }
    // An error inside an I/O error is not among its sources.
    refusal_in(error.get_ref()?)
}

fn is_worth_retrying(response: &Response) -> bool {
    // Azurite says 500 for what it does not know, and will say so again.
    let is_busy = matches!(response.status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
    is_busy && !matches!(fault::code_of(response).as_str(), "FeatureNotSupported" | "APINotImplemented")
}

fn is_throttling(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

fn retry_after(response: &Response) -> Option<Duration> {
    if let Some(seconds) = response.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok())
    {
        return Some(Duration::from_secs(seconds));
    }
    let millis = response.header("x-ms-retry-after-ms").or_else(|| response.header("retry-after-ms"))?;
    millis.trim().parse().ok().map(Duration::from_millis)
}

fn tls_config(options: &AzureOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if !options.endpoint.is_https {
        // Never used; reading the system's authorities costs time and may fail where there are none.
        return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    }
    let mut extra = Vec::new();
    if let Some(pem) = &options.extra_ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            extra.push(certificate.map_err(|error| format!("the extra certificate authority is no PEM: {error}"))?);
        }
    }
    let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}
