//! The client of a running service: finds it, signs in, sends requests over HTTPS trusting the service's own authority, follows
//! asynchronous operations, and turns error answers into something to act on. Tokens stay in memory; no secret is ever printed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use blobkeep_server::ClientEnv;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::output;
use crate::progress::ProgressView;

/// Versions of the API that the command speaks.
pub(crate) mod version {
    /// `Microsoft.DataProtection`.
    pub(crate) const DATA_PROTECTION: &str = "2026-06-01";
    /// `Microsoft.Storage`.
    pub(crate) const STORAGE: &str = "2023-05-01";
    /// `Microsoft.Authorization`.
    pub(crate) const AUTHORIZATION: &str = "2022-04-01";
    /// Resource groups.
    pub(crate) const RESOURCES: &str = "2021-04-01";
}

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request that met no service, or a busy one, is sent.
const MOST_TRIES: u32 = 4;
/// A token is renewed this long before it expires.
const TOKEN_MARGIN: Duration = Duration::from_secs(120);

/// An error that the service answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) struct ApiFailure {
    /// HTTP status, where the error came as an answer of its own.
    pub(crate) status: Option<u16>,
    /// The code, e.g. `ResourceNotFound`.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What lies behind it, where the service tells.
    pub(crate) detail: Option<String>,
    /// What to do about it.
    pub(crate) actions: Vec<String>,
}

impl ApiFailure {
    /// Reads the `error` object of an answer, an operation or a job (there it is the object itself).
    pub(crate) fn from_error(error: &Value, status: Option<u16>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
        let info = error.pointer("/additionalInfo/0/info").unwrap_or(error);
        let actions = info.get("recommendedAction").and_then(Value::as_array);
        let code = error.get("code").and_then(text).unwrap_or_else(|| "Unknown".to_owned());
        let mut actions: Vec<String> = actions.into_iter().flatten().filter_map(text).collect();
        if code == "ResourceGroupNotFound" {
            actions.push(
                "make the resource group first (--create-group of `vault create` and `storage-account add`)".to_owned(),
            );
        }
        let detail = info.pointer("/innerError/additionalInfo/DetailedNonLocalisedMessage").and_then(text);
        let message = error.get("message").and_then(text).unwrap_or_else(|| "no reason was given".to_owned());
        let detail = detail.filter(|detail| !message.contains(detail.as_str()));
        Self { status, code, message, detail, actions }
    }

    /// There is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n  {detail}")?;
        }
        for action in &self.actions {
            write!(f, "\n  what to do: {action}")?;
        }
        Ok(())
    }
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// The body; null if there is none.
    pub(crate) body: Value,
    headers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn retry_after(&self) -> Duration {
        let seconds = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        Duration::from_secs(seconds.unwrap_or(1).clamp(1, 60))
    }
}

struct Token {
    text: String,
    renew_at: Instant,
}

/// A signed-in client of one service.
pub(crate) struct Client {
    http: reqwest::Client,
    env: ClientEnv,
    token: Mutex<Option<Token>>,
}

/// Where the service of this machine keeps its data when nothing else is said: `$XDG_DATA_HOME/blobkeep` or
/// `~/.local/share/blobkeep`.
///
/// # Errors
/// Neither variable is set.
pub(crate) fn default_data_dir() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(data) = folder("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("blobkeep"));
    }
    match folder("HOME") {
        Some(home) => Ok(home.join(".local/share/blobkeep")),
        None => bail!("neither XDG_DATA_HOME nor HOME is set: give --data-dir"),
    }
}

/// The service to speak to: of `data_dir`, else of the environment that `blobkeep env` prints, else of the default data folder.
fn find_service(data_dir: Option<&Path>) -> anyhow::Result<ClientEnv> {
    if let Some(data_dir) = data_dir {
        return blobkeep_server::client_env(data_dir)
            .with_context(|| format!("there is no service to be found by --data-dir {}", data_dir.display()));
    }
    if let Some(env) = service_of_environment()? {
        return Ok(env);
    }
    let advice = "no service is named: give --data-dir, or set the variables that `blobkeep env` prints";
    let data_dir = default_data_dir()?;
    blobkeep_server::client_env(&data_dir).with_context(|| format!("{advice} (tried {})", data_dir.display()))
}

fn service_of_environment() -> anyhow::Result<Option<ClientEnv>> {
    let find = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(endpoint) = find("BLOBKEEP_ENDPOINT") else { return Ok(None) };
    let need = |name: &str| {
        find(name)
            .ok_or_else(|| anyhow!("BLOBKEEP_ENDPOINT is set but {name} is not: set all that `blobkeep env` prints"))
    };
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let ca_file = PathBuf::from(need("BLOBKEEP_CA_FILE")?);
    Ok(Some(ClientEnv {
        tenant_id: need("AZURE_TENANT_ID")?,
        client_id: need("AZURE_CLIENT_ID")?,
        client_secret: need("AZURE_CLIENT_SECRET")?,
        subscription_id: find("AZURE_SUBSCRIPTION_ID").unwrap_or_default(),
        authority_host: find("AZURE_AUTHORITY_HOST").unwrap_or_else(|| endpoint.clone()),
        bundle_file: ca_file.clone(),
        ca_file,
        endpoint,
    }))
}

impl Client {
    /// A client of the service that flags and environment name. Nothing is sent yet.
    ///
    /// # Errors
    /// No service is named, or its certificate authority cannot be read.
    pub(crate) fn find(data_dir: Option<&Path>) -> anyhow::Result<Self> {
        Self::new(find_service(data_dir)?)
    }

    /// A client of this service.
    ///
    /// # Errors
    /// Its certificate authority cannot be read.
    pub(crate) fn new(env: ClientEnv) -> anyhow::Result<Self> {
        if !env.endpoint.starts_with("https://") {
            bail!("the service's address {} must begin with https://", env.endpoint);
        }
        let file = env.ca_file.display();
        let pem = std::fs::read(&env.ca_file).with_context(|| format!("cannot read the service's authority {file}"))?;
        let authorities =
            Certificate::from_pem_bundle(&pem).with_context(|| format!("{file} holds no certificate authority"))?;
        let http = reqwest::Client::builder()
            .tls_certs_only(authorities)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("blobkeep/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot prepare HTTPS")?;
        Ok(Self { http, env, token: Mutex::new(None) })
    }

    /// The subscription that is used when none is given.
    pub(crate) fn default_subscription(&self) -> &str {
        &self.env.subscription_id
    }

    /// `https://host:port` of the service.
    pub(crate) fn endpoint(&self) -> &str {
        &self.env.endpoint
    }

    async fn token(&self) -> anyhow::Result<String> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.text.clone());
        }
        let url = format!("{}/{}/oauth2/v2.0/token", self.env.authority_host.trim_end_matches('/'), self.env.tenant_id);
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.env.client_id),
            ("client_secret", &self.env.client_secret),
            ("scope", &format!("{}/.default", self.env.endpoint)),
        ];
        let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = self
            .http
            .post(&url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.join("&"))
            .build()
            .context("cannot make the request for a token")?;
        let answer = self.execute(request).await?;
        let text = answer.body.get("access_token").and_then(Value::as_str);
        let Some(text) = text.filter(|_| answer.status.is_success()) else {
            let said = answer.body.get("error_description").and_then(Value::as_str).unwrap_or("no reason was given");
            bail!("the service at {} refuses to sign in: {said}", self.env.endpoint);
        };
        let seconds = answer.body.get("expires_in").and_then(Value::as_u64).unwrap_or(300);
        let renew_at = Instant::now() + Duration::from_secs(seconds).saturating_sub(TOKEN_MARGIN);
        *held = Some(Token { text: text.to_owned(), renew_at });
        Ok(text.to_owned())
    }

    /// Sends one request as often as it is worth: a service that is not reached, or is busy, may be there in a moment.
    async fn execute(&self, request: reqwest::Request) -> anyhow::Result<Answer> {
        let mut tries = 0;
        loop {
            tries += 1;
            let copy = request.try_clone().ok_or_else(|| anyhow!("a request cannot be sent twice"))?;
            let outcome = self.http.execute(copy).await;
            let answer = match outcome {
                Ok(response) => read(response).await?,
                Err(error) if error.is_connect() && tries < MOST_TRIES => {
                    tokio::time::sleep(Duration::from_millis(200) * tries).await;
                    continue;
                }
                Err(error) => {
                    let advice = "is it running (`blobkeep serve`)?";
                    return Err(error)
                        .with_context(|| format!("the service at {} does not answer: {advice}", self.env.endpoint));
                }
            };
            let is_busy = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if !is_busy || tries >= MOST_TRIES {
                return Ok(answer);
            }
            tokio::time::sleep(answer.retry_after()).await;
        }
    }

    /// One request. `path` is a path of the API (an ARM id, say) or one of the service's own URLs; `api_version` is added unless the URL
    /// has one.
    ///
    /// # Errors
    /// [`ApiFailure`] for an error that was answered.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        api_version: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut url = format!("{}{}", self.env.endpoint, path_of(path)?);
        if !url.contains("api-version=") {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("api-version={api_version}"));
        }
        let mut request = self.http.request(method, &url).bearer_auth(self.token().await?);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(serde_json::to_vec(body)?);
        }
        let answer = self.execute(request.build().with_context(|| format!("{url} is no address"))?).await?;
        if answer.status.is_client_error() || answer.status.is_server_error() {
            let status = answer.status.as_u16();
            let error = answer.body.get("error").cloned().unwrap_or_else(
                || serde_json::json!({"code": format!("HTTP {status}"), "message": format!("{path} was answered so")}),
            );
            return Err(ApiFailure::from_error(&error, Some(status)).into());
        }
        Ok(answer)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn get(&self, path: &str, api_version: &str) -> anyhow::Result<Value> {
        Ok(self.send(Method::GET, path, api_version, None).await?.body)
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn put(&self, path: &str, api_version: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, api_version, Some(body)).await
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn post(&self, path: &str, api_version: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, api_version, Some(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn delete(&self, path: &str, api_version: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, api_version, None).await
    }

    /// All values of a list, through its next links.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn values(&self, path: &str, api_version: &str) -> anyhow::Result<Vec<Value>> {
        let mut values = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let mut page = self.get(&path, api_version).await?;
            if let Some(Value::Array(found)) = page.get_mut("value").map(Value::take) {
                values.extend(found);
            }
            next = page.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()).map(str::to_owned);
        }
        Ok(values)
    }

    /// Follows the operation that an answer announced to its end; its last status body, or null if none was announced.
    ///
    /// # Errors
    /// [`ApiFailure`] if the operation failed.
    pub(crate) async fn finish(&self, accepted: &Answer) -> anyhow::Result<Value> {
        let Some(url) = accepted.header("azure-asyncoperation") else { return Ok(Value::Null) };
        loop {
            let answer = self.send(Method::GET, url, version::DATA_PROTECTION, None).await?;
            let status = answer.body.get("status").and_then(Value::as_str).unwrap_or_default();
            match status.to_ascii_lowercase().as_str() {
                "succeeded" => return Ok(answer.body),
                "failed" | "canceled" => {
                    let error = answer.body.get("error").cloned().unwrap_or_default();
                    return Err(ApiFailure::from_error(&error, None).into());
                }
                "" => bail!("the service answered an operation without a status: {}", answer.body),
                _ => tokio::time::sleep(answer.retry_after()).await,
            }
        }
    }

    /// Looks at a job until it has ended; its last state.
    ///
    /// # Errors
    /// As [`Client::send`]. A job that failed is no error here.
    pub(crate) async fn wait_for_job(&self, job_id: &str, view: &ProgressView) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let job = self.get(job_id, version::DATA_PROTECTION).await?;
            let status = job.pointer("/properties/status").and_then(Value::as_str).unwrap_or_default();
            if !matches!(status, "InProgress" | "Started" | "Cancelling" | "Paused" | "Queued") {
                return Ok(job);
            }
            view.say(&describe_job(&job));
            // Short jobs are answered quickly, long ones are not asked about all the time.
            let pause = (began.elapsed() / 10).clamp(Duration::from_millis(100), Duration::from_secs(2));
            tokio::time::sleep(pause).await;
        }
    }
}

/// How far a job has come, as far as it tells.
fn describe_job(job: &Value) -> String {
    let status = job.pointer("/properties/status").and_then(Value::as_str).unwrap_or("InProgress");
    let number = |name: &str| {
        let value = job.pointer(&format!("/properties/extendedInfo/additionalDetails/{name}"))?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let Some(blobs) = number("ProgressBlobs") else { return status.to_owned() };
    let of =
        |name: &str, show: fn(u64) -> String| number(name).map(|all| format!(" of {}", show(all))).unwrap_or_default();
    format!(
        "{status}: {}{} blobs, {}{}",
        output::count(blobs),
        of("ProgressBlobsInAll", output::count),
        output::bytes(number("ProgressBytes").unwrap_or_default()),
        of("ProgressBytesInAll", output::bytes)
    )
}

async fn read(response: reqwest::Response) -> anyhow::Result<Answer> {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.context("the answer of the service broke off")?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
    Ok(Answer { status, body, headers })
}

/// Path and query of a path or URL. The service may know itself by another name than we do; the token goes only to the address that we
/// were given.
fn path_of(url: &str) -> anyhow::Result<&str> {
    if url.starts_with('/') {
        return Ok(url);
    }
    let rest = url.split_once("://").map(|(_, rest)| rest);
    match rest.and_then(|rest| rest.find('/').map(|start| &rest[start..])) {
        Some(path) => Ok(path),
        None => bail!("the service named an address that is none: {url}"),
    }
}

/// Percent-encodes a value of a form or query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let info = json!({"code": "C", "message": "m", "recommendedAction": ["assign the role"]});
        let error = json!({"code": "C", "message": "m", "additionalInfo": [{"type": "UserFacingError", "info": info}]});
        let failure = ApiFailure::from_error(&error, Some(400));
        assert_eq!(failure.to_string(), "C: m\n  what to do: assign the role");
        assert_eq!(ApiFailure::from_error(&info, None).to_string(), failure.to_string(), "in a job it stands alone");
        let bare = ApiFailure::from_error(&json!({"code": "ResourceNotFound", "message": "gone"}), Some(404));
        assert_eq!(bare.to_string(), "ResourceNotFound: gone");
        assert!(bare.is_not_found());
    }

    #[test]
    fn only_the_path_of_an_answered_url_is_followed() {
        assert_eq!(path_of("https://elsewhere:1/a/b?c=d").unwrap(), "/a/b?c=d");
        assert_eq!(path_of("/a").unwrap(), "/a");
        assert!(path_of("nonsense").is_err());
    }

    #[test]
    fn form_values_are_encoded() {
        assert_eq!(encode("a b+ü/~"), "a%20b%2B%C3%BC%2F~");
    }
}
