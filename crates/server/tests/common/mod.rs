//! A real service on a free port of loopback, and a client that trusts its authority and nothing else.
//!
//! Shared by the tests of this folder; holds no test itself.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its own part")]

pub mod database;
pub mod world;

use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use blobkeep_server::{ClientEnv, Config, Parts, Running, client_env, serve};
use database::OwnDatabase;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// The version of the seed article.
pub const VERSION: &str = "2021-01-01";

/// The answer to one request, read to its end.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        self
    }
}

/// A running service with the client of its owner.
pub struct Service {
    pub running: Running,
    pub env: ClientEnv,
    pub client: reqwest::Client,
    pub token: String,
    _dir: Option<tempfile::TempDir>,
    _database: Option<Arc<OwnDatabase>>,
}

/// A client that trusts `ca_file` only.
pub fn client(ca_file: &Path) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    let pem = std::fs::read(ca_file).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// A configuration for a data folder: loopback, any free port.
pub fn config(data_dir: &Path) -> Config {
    let mut config = Config::new(data_dir);
    config.listen = "127.0.0.1:0".parse().unwrap();
    config
}

impl Service {
    /// A service in a new folder.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A service in a new folder whose configuration `change` has seen.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir.path().join("data"));
        change(&mut config);
        let mut service = Self::start_at(config, Parts::default()).await;
        service._dir = Some(dir);
        service
    }

    /// A service with that configuration.
    pub async fn start_at(mut config: Config, parts: Parts) -> Self {
        let database = OwnDatabase::for_service(&config.data_dir).await;
        if let Some(database) = &database {
            config.database = database.database();
        }
        let mut service = Self::start_on_own_database(config, parts).await;
        service._database = database;
        service
    }

    /// A service whose configuration says where its database is.
    pub async fn start_on_own_database(config: Config, parts: Parts) -> Self {
        let data_dir = config.data_dir.clone();
        let running = serve(config, parts).await.unwrap();
        let env = client_env(&data_dir).unwrap();
        let client = client(&env.ca_file);
        let mut service = Self { running, env, client, token: String::new(), _dir: None, _database: None };
        service.token = service.token_of(&service.env.client_id, &service.env.client_secret).await;
        service
    }

    /// The answer to a token request.
    pub async fn ask_token(&self, form: &str) -> Got {
        let url = format!("{}/{}/oauth2/v2.0/token", self.env.endpoint, self.env.tenant_id);
        let request = self.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        read(request.body(form.to_owned()).send().await.unwrap()).await
    }

    /// A token for a client.
    pub async fn token_of(&self, id: &str, secret: &str) -> String {
        let scope = format!("{}/.default", self.env.endpoint);
        let form =
            format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&client_info=1&scope={scope}");
        let got = self.ask_token(&form).await.expect(200);
        got.body["access_token"].as_str().unwrap().to_owned()
    }

    /// Any request; `token` is the bearer token, empty for none. `path` may hold a query; nothing is added to it.
    pub async fn raw(&self, token: &str, method: &str, path: &str, body: Option<&str>) -> Got {
        let url = format!("{}{path}", self.env.endpoint);
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        read(request.send().await.unwrap()).await
    }

    /// A request of the owner at the seed's version.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        self.call_as(&self.token, method, path, body).await
    }

    /// A request at the seed's version.
    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Got {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}api-version={VERSION}");
        self.raw(token, method, &path, body.map(|body| body.to_string()).as_deref()).await
    }

    pub async fn get(&self, path: &str) -> Got {
        self.call("GET", path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Got {
        self.call("PUT", path, Some(body)).await
    }

    /// `/subscriptions/{the default one}`.
    pub fn subscription(&self) -> String {
        format!("/subscriptions/{}", self.env.subscription_id)
    }

    /// Makes a resource group and returns its path.
    pub async fn group(&self, name: &str) -> String {
        let path = format!("{}/resourceGroups/{name}", self.subscription());
        self.put(&path, json!({ "location": "westus" })).await.expect(201);
        path
    }

    /// Another service principal: object id and token.
    pub async fn principal(&self, name: &str) -> (String, String) {
        let path = format!("/providers/Blobkeep.Identity/servicePrincipals/{name}");
        let got = self.call("PUT", &path, None).await.expect(201);
        let text = |member: &str| got.body["properties"][member].as_str().unwrap().to_owned();
        let token = self.token_of(&text("appId"), &text("secret")).await;
        (text("objectId"), token)
    }

    /// Gives a role (its GUID) to a principal at a scope (`/` for the root) and returns the assignment's path.
    pub async fn assign(&self, principal: &str, role: &str, scope: &str) -> String {
        let scope = if scope == "/" { "" } else { scope };
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{}", uuid::Uuid::new_v4());
        let definition = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let body = json!({ "properties": { "roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal" } });
        self.put(&path, body).await.expect(201);
        path
    }
}

/// Reads an answer to its end; a body that is not JSON is null.
pub async fn read(response: Response) -> Got {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Got { status, headers, text, body }
}
