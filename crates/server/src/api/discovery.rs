//! What a client asks before it has a token: the endpoints of this cloud.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode};
use http::Method;
use serde_json::{Value, json};

use super::{Access, Answer, Request, Route};
use crate::App;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Metadata_Endpoints",
        method: Method::GET,
        pattern: "/metadata/endpoints",
        access: Access::Public,
        handler: |app, request| Box::pin(endpoints(app, request)),
    },
    Route {
        operation: "Health",
        method: Method::GET,
        pattern: "/healthz",
        access: Access::Public,
        handler: |app, request| Box::pin(health(app, request)),
    },
];

/// Since this version the answer is one object; before it was a list of them.
const SINGLE_SINCE: &str = "2022-09-01";

async fn endpoints(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let version = request.query("api-version").unwrap_or("").trim();
    if version.is_empty() {
        return Err(ApiError::of(ErrorCode::MissingApiVersionParameter, &[]));
    }
    // This route has versions of its own, some of them older than the oldest of the resource manager's.
    if version.get(..10).is_none_or(|date| date.parse::<jiff::civil::Date>().is_err()) {
        return Err(ApiError::of(
            ErrorCode::InvalidApiVersionParameter,
            &[("version", version), ("supported", "2015-01-01, 2018-05-01, 2019-05-01, 2020-06-01, 2022-09-01")],
        ));
    }
    let body = cloud(&request.base_url, app.tenant_id());
    Ok(Answer::ok(if version >= SINGLE_SINCE { body } else { Value::Array(vec![body]) }))
}

/// Everything that command lines read; what this service does not offer is named all the same, because a missing key makes them fail.
fn cloud(base_url: &str, tenant: &str) -> Value {
    let base = format!("{base_url}/");
    let host = base_url.trim_start_matches("https://");
    json!({
        "name": "Blobkeep",
        "portal": base,
        "authentication": {
            "loginEndpoint": base,
            "audiences": [base, base_url],
            "tenant": tenant,
            "identityProvider": "AAD",
        },
        "media": base,
        "graphAudience": base,
        "graph": base,
        "microsoftGraphResourceId": base,
        "resourceManager": base,
        "gallery": base,
        "batch": base,
        "sqlManagement": base,
        "vmImageAliasDoc": format!("{base_url}/aliases.json"),
        "activeDirectoryDataLake": base,
        "appInsightsResourceId": base,
        "logAnalyticsResourceId": base,
        "attestationResourceId": base,
        "synapseAnalyticsResourceId": base,
        "ossrDbmsResourceId": base,
        "suffixes": {
            "storage": "core.windows.net",
            "keyVaultDns": format!("vault.{host}"),
            "sqlServerHostname": format!("database.{host}"),
            "acrLoginServer": format!("acr.{host}"),
            "mhsmDns": format!("managedhsm.{host}"),
            "azureDataLakeStoreFileSystem": format!("datalakestore.{host}"),
            "azureDataLakeAnalyticsCatalogAndJob": format!("datalakeanalytics.{host}"),
            "synapseAnalytics": format!("synapse.{host}"),
            "attestationEndpoint": format!("attest.{host}"),
        },
    })
}

/// 200 as long as the database answers.
async fn health(app: Arc<App>, _request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    crate::db::meta::get(&mut reader, crate::db::meta::TENANT_ID).await?;
    Ok(Answer::ok(json!({ "status": "ok" })))
}
