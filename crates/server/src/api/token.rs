//! The token service: OpenID discovery, keys, and tokens for client credentials.
//!
//! Its errors have the form of OAuth, not of the resource manager. No secret or token of a request may be logged.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{Access, Answer, Request, Route};
use crate::App;
use crate::db;
use crate::error::{ApiResult, fault};
use crate::identity::TOKEN_SECONDS;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Token_OpenIdConfigurationV2",
        method: Method::GET,
        pattern: "/{tenant}/v2.0/.well-known/openid-configuration",
        access: Access::Public,
        handler: |app, request| Box::pin(async move { openid_configuration(&app, &request) }),
    },
    Route {
        operation: "Token_OpenIdConfiguration",
        method: Method::GET,
        pattern: "/{tenant}/.well-known/openid-configuration",
        access: Access::Public,
        handler: |app, request| Box::pin(async move { openid_configuration(&app, &request) }),
    },
    Route {
        operation: "Token_KeysV2",
        method: Method::GET,
        pattern: "/{tenant}/discovery/v2.0/keys",
        access: Access::Public,
        handler: |app, request| Box::pin(async move { keys(&app, &request) }),
    },
    Route {
        operation: "Token_Keys",
        method: Method::GET,
        pattern: "/{tenant}/discovery/keys",
        access: Access::Public,
        handler: |app, request| Box::pin(async move { keys(&app, &request) }),
    },
    Route {
        operation: "Token_IssueV2",
        method: Method::POST,
        pattern: "/{tenant}/oauth2/v2.0/token",
        access: Access::Public,
        handler: |app, request| Box::pin(issue(app, request)),
    },
    Route {
        operation: "Token_Issue",
        method: Method::POST,
        pattern: "/{tenant}/oauth2/token",
        access: Access::Public,
        handler: |app, request| Box::pin(issue(app, request)),
    },
];

/// Names that stand for "whatever tenant": user-flow code of command lines asks for them when it signs out.
const ANY_TENANT: &[&str] = &["organizations", "common", "consumers"];

/// The tenant that is meant: ours, or ours by another name.
fn check_tenant(app: &App, request: &Request) -> ApiResult<String> {
    let asked = request.param("tenant");
    if asked.eq_ignore_ascii_case(app.tenant_id()) {
        return Ok(app.tenant_id().to_owned());
    }
    if let Some(name) = ANY_TENANT.iter().find(|name| name.eq_ignore_ascii_case(asked)) {
        return Ok((*name).to_owned());
    }
    Err(ApiError::of(ErrorCode::InvalidTenant, &[("tenant", asked), ("own", app.tenant_id())]))
}

fn openid_configuration(app: &App, request: &Request) -> ApiResult<Answer> {
    let tenant = match check_tenant(app, request) {
        Ok(tenant) => tenant,
        Err(error) => {
            return Ok(oauth_error(request, 400, "invalid_tenant", 90_002, &format!("AADSTS90002: {}", error.message)));
        }
    };
    let base = format!("{}/{tenant}", request.base_url);
    Ok(Answer::ok(json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["code", "id_token", "token"],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": ["openid"],
        "issuer": format!("{}/{}/", request.base_url, app.tenant_id()),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "appid", "oid", "tid", "idtyp", "ver"],
        "tenant_region_scope": null,
        "cloud_instance_name": request.base_url.trim_start_matches("https://"),
    })))
}

fn keys(app: &App, request: &Request) -> ApiResult<Answer> {
    check_tenant(app, request)?;
    Ok(Answer::ok(app.identity.key_set()))
}

/// The fields of a token request that matter; all others are ignored.
#[derive(Default)]
struct Form {
    grant_type: String,
    client_id: String,
    client_secret: String,
    scope: String,
}

fn read_form(body: &[u8]) -> Form {
    let mut form = Form::default();
    let text = String::from_utf8_lossy(body);
    for pair in text.trim().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let spaced = value.replace('+', " ");
        let value = percent_decode_str(&spaced).decode_utf8_lossy().into_owned();
        match key {
            "grant_type" => form.grant_type = value,
            "client_id" => form.client_id = value,
            "client_secret" => form.client_secret = value,
            // `resource` is the older protocol's word for an audience.
            "scope" => form.scope = value,
            "resource" if form.scope.is_empty() => form.scope = value,
            _ => {}
        }
    }
    form
}

/// `Authorization: Basic` may stand for the two fields.
fn take_basic(request: &Request, form: &mut Form) {
    use base64::Engine as _;
    let Some(value) = request.header("authorization").and_then(|value| value.strip_prefix("Basic ")) else { return };
    let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(value.trim()) else { return };
    let text = String::from_utf8_lossy(&decoded);
    if let Some((id, secret)) = text.split_once(':') {
        form.client_id = percent_decode_str(id).decode_utf8_lossy().into_owned();
        form.client_secret = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    }
}

/// The audience that a scope asks for: the scope without `/.default`. A doubled slash is kept as one: command lines put it there.
fn audience_of(scope: &str) -> String {
    let first = scope.split_whitespace().find(|word| word.contains("://")).unwrap_or_else(|| scope.trim());
    first.strip_suffix("/.default").unwrap_or(first).to_owned()
}

async fn issue(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    if let Err(error) = check_tenant(&app, &request) {
        return Ok(oauth_error(&request, 400, "invalid_request", 90_002, &format!("AADSTS90002: {}", error.message)));
    }
    let mut form = read_form(&request.body);
    if form.client_secret.is_empty() {
        take_basic(&request, &mut form);
    }
    if form.grant_type != "client_credentials" {
        let text = format!(
            "AADSTS70003: The app requested an unsupported grant type '{}'. Only client_credentials is offered.",
            form.grant_type
        );
        return Ok(oauth_error(&request, 400, "unsupported_grant_type", 70_003, &text));
    }
    if form.client_id.is_empty() {
        let text = "AADSTS900144: The request body must contain the following parameter: 'client_id'.";
        return Ok(oauth_error(&request, 400, "invalid_request", 900_144, text));
    }
    if form.scope.trim().is_empty() {
        let text = "AADSTS900144: The request body must contain the following parameter: 'scope'.";
        return Ok(oauth_error(&request, 400, "invalid_request", 900_144, text));
    }
    if form.client_secret.is_empty() {
        let text = "AADSTS7000216: 'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.";
        return Ok(oauth_error(&request, 401, "invalid_client", 7_000_216, text));
    }
    let mut reader = app.db.read().await?;
    let found = db::principals::by_app_id(&mut reader, &form.client_id).await?;
    drop(reader);
    let Some((principal, hash)) = found else {
        let text = format!(
            "AADSTS700016: Application with identifier '{}' was not found in the directory '{}'.",
            form.client_id,
            app.tenant_id()
        );
        return Ok(oauth_error(&request, 400, "unauthorized_client", 700_016, &text));
    };
    if !hash.is_some_and(|hash| app.identity.secret_matches(&form.client_secret, &hash)) {
        tracing::warn!(client = %principal.app_id, "token refused: wrong client secret");
        let text = format!(
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{}'.",
            principal.app_id
        );
        return Ok(oauth_error(&request, 401, "invalid_client", 7_000_215, &text));
    }
    let audience = audience_of(&form.scope);
    let token =
        app.identity.issue(&principal, &audience, &request.base_url, request.now).map_err(|error| fault(&error))?;
    Ok(Answer::ok(json!({
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "ext_expires_in": TOKEN_SECONDS,
        "access_token": token,
    })))
}

/// An error in the form that token clients read.
fn oauth_error(request: &Request, status: u16, error: &str, code: u32, description: &str) -> Answer {
    let instant = jiff::Timestamp::from_microsecond(request.now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let time = instant.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let correlation = request.header("client-request-id").unwrap_or_default();
    let correlation = if correlation.is_empty() { request.correlation_id.to_string() } else { correlation.to_owned() };
    Answer::new(
        status,
        Some(json!({
            "error": error,
            "error_description": format!(
                "{description} Trace ID: {} Correlation ID: {correlation} Timestamp: {time}", request.correlation_id
            ),
            "error_codes": [code],
            "timestamp": time,
            "trace_id": request.correlation_id.to_string(),
            "correlation_id": correlation,
            "error_uri": format!("{}/error?code={code}", request.base_url),
        })),
    )
}

#[cfg(test)]
mod tests {
    use super::{audience_of, read_form};

    #[test]
    fn the_audience_is_the_scope_without_its_suffix() {
        assert_eq!(audience_of("https://localhost:8443/.default"), "https://localhost:8443");
        assert_eq!(audience_of("https://localhost:8443//.default"), "https://localhost:8443/");
        assert_eq!(audience_of("openid https://management.azure.com/.default"), "https://management.azure.com");
        assert_eq!(audience_of("https://management.azure.com/"), "https://management.azure.com/");
    }

    #[test]
    fn forms_are_decoded_and_unknown_fields_ignored() {
        let form = read_form(b"claims=%7B%7D&client_id=a%2Bb&client_secret=x+y%26z&client_info=1&scope=s&grant_type=g");
        assert_eq!((form.client_id.as_str(), form.client_secret.as_str()), ("a+b", "x y&z"));
        assert_eq!((form.scope.as_str(), form.grant_type.as_str()), ("s", "g"));
    }
}
