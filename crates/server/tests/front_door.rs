//! What every request meets before a handler: TLS, paths, versions, tokens, rights, bodies, headers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use common::{Service, VERSION, client};
use serde_json::json;

#[tokio::test]
async fn tokens_are_given_for_the_right_secret_only() {
    let service = Service::start().await;
    let env = &service.env;
    let wrong = format!("grant_type=client_credentials&client_id={}&client_secret=wrong&scope=x", env.client_id);
    let got = service.ask_token(&wrong).await.expect(401);
    assert_eq!(got.body["error"], "invalid_client");
    assert_eq!(got.body["error_codes"], json!([7_000_215]));
    assert!(
        got.body["error_description"].as_str().unwrap().starts_with("AADSTS7000215: Invalid client secret provided")
    );
    for member in ["timestamp", "trace_id", "correlation_id"] {
        assert!(got.body[member].is_string(), "{member}");
    }
    let unknown =
        "grant_type=client_credentials&client_id=00000000-0000-0000-0000-000000000000&client_secret=x&scope=x";
    assert_eq!(service.ask_token(unknown).await.expect(400).body["error"], "unauthorized_client");
    assert_eq!(
        service.ask_token("grant_type=password&client_id=x").await.expect(400).body["error"],
        "unsupported_grant_type"
    );
    assert_eq!(service.ask_token("grant_type=client_credentials").await.expect(400).body["error"], "invalid_request");

    let good = format!(
        "scope=https%3A%2F%2Fmanagement.azure.com%2F.default&grant_type=client_credentials&client_id={}&client_secret={}&claims=%7B%7D",
        env.client_id.to_uppercase(),
        env.client_secret
    );
    let got = service.ask_token(&good).await.expect(200);
    assert_eq!(got.body["token_type"], "Bearer");
    assert_eq!((got.body["expires_in"].as_i64(), got.body["ext_expires_in"].as_i64()), (Some(3_599), Some(3_599)));
    let token = got.body["access_token"].as_str().unwrap();
    service.call_as(token, "GET", "/subscriptions", None).await.expect(200);
    let graph = good.replace("management.azure.com", "graph.example.org");
    let graph = service.ask_token(&graph).await.expect(200);
    service
        .call_as(graph.body["access_token"].as_str().unwrap(), "GET", "/subscriptions", None)
        .await
        .refused(401, "AuthenticationFailed");
}

#[tokio::test]
async fn without_a_good_token_the_answer_is_401_and_says_where_to_get_one() {
    let service = Service::start().await;
    let mut forged = service.token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    for token in ["", "nonsense", forged.as_str()] {
        let got = service.call_as(token, "GET", "/subscriptions", None).await.refused(401, "AuthenticationFailed");
        let header = got.header("www-authenticate");
        let authority = format!(
            "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\"",
            service.env.endpoint, service.env.tenant_id
        );
        assert!(header.starts_with(&authority), "{header}");
        assert!(!header.contains("claims"), "{header}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_principal() {
    let service = Service::start().await;
    let (_, token) = service.principal("short-lived").await;
    service.call_as(&token, "GET", "/subscriptions", None).await.expect(200);
    service.call("DELETE", "/providers/Blobkeep.Identity/servicePrincipals/short-lived", None).await.expect(200);
    service.call_as(&token, "GET", "/subscriptions", None).await.refused(401, "AuthenticationFailed");
}

#[tokio::test]
async fn api_versions_are_dates_from_the_seeds_on() {
    let service = Service::start().await;
    for version in ["2021-01-01", "2023-05-01", "2026-06-01", "2031-12-31", "2022-05-01-preview", "2022-05-01-Preview"]
    {
        service.raw(&service.token, "GET", &format!("/subscriptions?api-version={version}"), None).await.expect(200);
        service.raw(&service.token, "GET", &format!("/subscriptions?API-Version={version}"), None).await.expect(200);
    }
    for path in ["/subscriptions", "/subscriptions?api-version=", "/subscriptions?x=1"] {
        service.raw(&service.token, "GET", path, None).await.refused(400, "MissingApiVersionParameter");
    }
    for version in ["2020-12-31", "2021-02-30", "2021-1-1", "latest", "2021-01-01x", "20210101", "2021-01-01-beta"] {
        let path = format!("/subscriptions?api-version={version}");
        service.raw(&service.token, "GET", &path, None).await.refused(400, "InvalidApiVersionParameter");
    }
    service.raw("", "GET", "/subscriptions", None).await.refused(400, "MissingApiVersionParameter");
}

#[tokio::test]
async fn paths_are_read_strictly_and_without_case() {
    let service = Service::start().await;
    let subscription = service.subscription();
    let version = format!("api-version={VERSION}");
    for path in [
        format!("{}?{version}", subscription.to_uppercase()),
        format!("//{}?{version}", subscription.trim_start_matches('/')),
        format!("{subscription}/?{version}"),
        format!("{subscription}/ResourceGroups?{version}"),
    ] {
        service.raw(&service.token, "GET", &path, None).await.expect(200);
    }
    for path in [
        "/subscriptions/a%2Fb",
        "/subscriptions/a%5cb",
        "/subscriptions//b",
        "/subscriptions/%ff",
        "/subscriptions/%zz",
    ] {
        service.raw(&service.token, "GET", &format!("{path}?{version}"), None).await.refused(400, "InvalidRequestUri");
    }
}

#[tokio::test]
async fn dot_segments_are_refused_on_the_wire() {
    // Clients fold dot segments away before they send, so this request is written by hand.
    let service = Service::start().await;
    for path in ["/subscriptions/../tenants", "/subscriptions/%2e%2e/tenants", "/./tenants"] {
        let answer = by_hand(&service, path).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        assert!(answer.contains("InvalidRequestUri"), "{answer}");
    }
}

/// One GET whose path goes out exactly as given.
async fn by_hand(service: &Service, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&service.env.ca_file).unwrap()).unwrap();
    let address = service.running.address();
    let text = format!(
        "GET {path}?api-version={VERSION} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n",
        address.port()
    );
    tokio::task::spawn_blocking(move || {
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut tls =
            rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_nobody_serves_is_told_apart() {
    let service = Service::start().await;
    let subscription = service.subscription();
    let vaults = format!("{subscription}/resourceGroups/g/providers");
    service.get("/nonsense/x").await.refused(404, "NotFound");
    service
        .get(&format!("{vaults}/Microsoft.Compute/virtualMachines/v"))
        .await
        .refused(404, "InvalidResourceNamespace");
    service.get(&format!("{vaults}/Microsoft.Storage/storageQueues/q")).await.refused(404, "InvalidResourceType");
    let got = service.call("DELETE", "/subscriptions", None).await.refused(405, "MethodNotAllowed");
    assert_eq!(got.header("allow"), "GET");
}

#[tokio::test]
async fn malformed_bodies_are_400_with_line_and_column() {
    let service = Service::start().await;
    let path = format!("{}/resourceGroups/g?api-version={VERSION}", service.subscription());
    let got = service.raw(&service.token, "PUT", &path, Some("{\n  \"location\": \"westus\",\n}")).await;
    let got = got.refused(400, "InvalidRequestContent");
    assert!(got.body["error"]["message"].as_str().unwrap().contains("line 3 column 1"), "{}", got.text);
    service.raw(&service.token, "PUT", &path, None).await.refused(400, "InvalidRequestContent");
    service.raw(&service.token, "PUT", &path, Some("{}")).await.refused(400, "LocationRequired");
    let bom = "\u{feff}{\"location\": \"westus\"}";
    service.raw(&service.token, "PUT", &path, Some(bom)).await.expect(201);
    let huge = format!("{{\"location\": \"{}\"}}", "x".repeat(4 * 1024 * 1024));
    service.raw(&service.token, "PUT", &path, Some(&huge)).await.refused(413, "RequestEntityTooLarge");
}

#[tokio::test]
async fn every_answer_carries_the_seeds_headers() {
    let service = Service::start().await;
    let group = format!("{}/resourceGroups/g", service.subscription());
    let answers = [
        ("reads", "11999", service.get("/subscriptions").await.expect(200)),
        ("reads", "11999", service.get("/nonsense").await.expect(404)),
        ("writes", "1199", service.put(&group, json!({ "location": "westus" })).await.expect(201)),
        ("deletes", "14999", service.call("DELETE", &group, None).await.expect(200)),
    ];
    for (kind, limit, got) in answers {
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("pragma", "no-cache"),
            ("expires", "-1"),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ] {
            assert_eq!(got.header(name), value, "{name}");
        }
        assert_eq!(got.header(&format!("x-ms-ratelimit-remaining-subscription-{kind}")), limit);
        uuid::Uuid::parse_str(got.header("x-ms-correlation-request-id")).unwrap();
        assert!(got.headers.contains_key("x-ms-request-id") && got.headers.contains_key("date"));
        assert_eq!(got.header("content-length"), got.text.len().to_string());
        if !got.text.is_empty() {
            assert_eq!(got.header("content-type"), "application/json; charset=utf-8");
        }
        let routing: Vec<&str> = got.header("x-ms-routing-request-id").split(':').collect();
        assert_eq!(routing.len(), 3);
        assert!(routing[1].len() == 16 && routing[1].ends_with('Z'), "{routing:?}");
    }
}

#[tokio::test]
async fn the_clients_request_id_is_echoed_when_asked() {
    let service = Service::start().await;
    let url = format!("{}/subscriptions?api-version={VERSION}", service.env.endpoint);
    for (wish, wanted) in [("true", "id-1"), ("false", "")] {
        let request = service.client.get(&url).bearer_auth(&service.token);
        let request = request.header("x-ms-client-request-id", "id-1").header("x-ms-return-client-request-id", wish);
        let got = common::read(request.send().await.unwrap()).await.expect(200);
        assert_eq!(got.header("x-ms-client-request-id"), wanted);
    }
}

#[tokio::test]
async fn discovery_needs_no_token_and_names_this_service() {
    let service = Service::start().await;
    let base = service.env.endpoint.clone();
    let one = service.raw("", "GET", "/metadata/endpoints?api-version=2022-09-01", None).await.expect(200);
    let two = service.raw("", "GET", "//metadata/endpoints?api-version=2019-05-01", None).await.expect(200);
    assert_eq!(two.body, json!([one.body]));
    assert_eq!(one.body["authentication"]["loginEndpoint"], format!("{base}/"));
    assert_eq!(one.body["resourceManager"], format!("{base}/"));
    assert_eq!(one.body["microsoftGraphResourceId"], format!("{base}/"));
    for member in [
        "name",
        "portal",
        "graphAudience",
        "gallery",
        "batch",
        "media",
        "sqlManagement",
        "vmImageAliasDoc",
        "activeDirectoryDataLake",
    ] {
        assert!(one.body[member].is_string(), "{member}");
    }
    for member in ["storage", "keyVaultDns", "sqlServerHostname", "acrLoginServer"] {
        assert!(one.body["suffixes"][member].is_string(), "{member}");
    }
    service.raw("", "GET", "/metadata/endpoints", None).await.refused(400, "MissingApiVersionParameter");
    for tenant in [service.env.tenant_id.as_str(), "organizations", "common"] {
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        let got = service.raw("", "GET", &path, None).await.expect(200);
        assert_eq!(got.body["token_endpoint"], format!("{base}/{tenant}/oauth2/v2.0/token"));
        assert!(got.body["authorization_endpoint"].as_str().unwrap().starts_with(&base));
        let keys = got.body["jwks_uri"].as_str().unwrap().strip_prefix(&base).unwrap().to_owned();
        let keys = service.raw("", "GET", &keys, None).await.expect(200);
        assert_eq!(keys.body["keys"][0]["crv"], "P-256");
    }
    service.raw("", "GET", "/other-tenant/v2.0/.well-known/openid-configuration", None).await.expect(400);
}

#[tokio::test]
async fn only_our_own_names_are_echoed_as_base_address() {
    let service = Service::start().await;
    let port = service.running.address().port();
    let path = "/metadata/endpoints?api-version=2022-09-01";
    for (host, wanted) in [
        (format!("127.0.0.1:{port}"), format!("https://127.0.0.1:{port}/")),
        (format!("LOCALHOST:{port}"), format!("https://localhost:{port}/")),
        ("evil.example.org".to_owned(), format!("{}/", service.env.endpoint)),
    ] {
        let url = format!("https://127.0.0.1:{port}{path}");
        let got = common::read(service.client.get(url).header("host", &host).send().await.unwrap()).await;
        assert_eq!(got.body["resourceManager"], wanted, "{host}");
    }
}

#[tokio::test]
async fn a_configured_public_address_wins() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = common::config(dir.path());
    config.public_url = Some("https://backup.example.org".to_owned());
    let running = blobkeep_server::serve(config, Default::default()).await.unwrap();
    let env = blobkeep_server::client_env(dir.path()).unwrap();
    assert_eq!(env.endpoint, "https://backup.example.org");
    let url = format!("https://127.0.0.1:{}/metadata/endpoints?api-version=2022-09-01", running.address().port());
    let got = common::read(client(&env.ca_file).get(url).send().await.unwrap()).await.expect(200);
    assert_eq!(got.body["resourceManager"], "https://backup.example.org/");
    running.shutdown().await;
}

#[tokio::test]
async fn nothing_is_served_without_tls() {
    let service = Service::start().await;
    let url = format!("http://127.0.0.1:{}/subscriptions", service.running.address().port());
    assert!(client(&service.env.ca_file).get(url).send().await.is_err());
}

#[tokio::test]
async fn a_second_start_keeps_identity_and_data() {
    let dir = tempfile::tempdir().unwrap();
    let first = Service::start_at(common::config(dir.path()), Default::default()).await;
    first.group("kept").await;
    let (env, client, token) = (first.env.clone(), first.client.clone(), first.token.clone());
    first.running.shutdown().await;
    let again = Service::start_at(common::config(dir.path()), Default::default()).await;
    assert_eq!(
        (&again.env.client_id, &again.env.client_secret, &again.env.tenant_id),
        (&env.client_id, &env.client_secret, &env.tenant_id)
    );
    let path = format!("{}/resourceGroups/kept", again.subscription());
    again.get(&path).await.expect(200);
    // Who trusted the first certificate trusts the second; the port is another one, so the old token is for another audience.
    let url = format!("{}{path}?api-version={VERSION}", again.env.endpoint);
    let got = common::read(client.get(url).bearer_auth(token).send().await.unwrap()).await;
    assert!(got.status == 200 || got.code() == "AuthenticationFailed", "{}", got.text);
}
