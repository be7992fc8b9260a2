//! Who may do what: SharedKey, SAS, public containers.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobkeep_emulator::{Account, DEVELOPMENT_KEY, Emulator, EmulatorOptions};

use crate::client::{ACCOUNT, Server};

pub const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

pub fn sign(key_base64: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key_base64).unwrap());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

#[tokio::test]
async fn a_request_signed_with_the_key_is_served_and_with_another_key_refused() {
    let server = Server::start().await;
    let text = format!(
        "PUT\n\n\n5\n\ntext/plain\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\nx-ms-date:{DATE}\nx-ms-version:2021-12-02\n\
         /{ACCOUNT}/{ACCOUNT}/c/a%20b\ntimeout:30"
    );
    for (key, status, code) in [(DEVELOPMENT_KEY, 201, ""), ("bm90IHRoZSBrZXk=", 403, "AuthenticationFailed")] {
        server
            .bare_request("PUT", &format!("/{ACCOUNT}/c/a%20b?timeout=30"))
            .with("content-type", "text/plain")
            .with("x-ms-blob-type", "BlockBlob")
            .with("x-ms-date", DATE)
            .with("authorization", &format!("SharedKey {ACCOUNT}:{}", sign(key, &text)))
            .body("hello")
            .send()
            .await
            .expect_error(status, code);
    }
    assert_eq!(server.emulator.blob_names(ACCOUNT, "c"), ["a b"]);
}

#[tokio::test]
async fn a_list_signed_with_the_key_covers_its_query_in_order() {
    let server = Server::start().await;
    let text = format!(
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{DATE}\nx-ms-version:2021-12-02\n\
         /{ACCOUNT}/{ACCOUNT}/c\ncomp:list\nprefix:a b\nrestype:container"
    );
    let authorization = format!("SharedKey {ACCOUNT}:{}", sign(DEVELOPMENT_KEY, &text));
    let call = |query: &str| {
        server
            .bare_request("GET", &format!("/{ACCOUNT}/c?{query}"))
            .with("x-ms-date", DATE)
            .with("authorization", &authorization)
    };
    call("restype=container&prefix=a%20b&comp=list").send().await.expect(200);
    call("restype=container&prefix=other&comp=list").send().await.expect_error(403, "AuthenticationFailed");
}

#[tokio::test]
async fn an_account_sas_allows_what_it_says_and_no_more() {
    let server = Server::start().await;
    server.put_block_blob("/c/b", "x").send().await.expect(201);
    let call = |method: &str, path: &str, permissions: &str| {
        let token = server.emulator.sas(ACCOUNT, permissions);
        let separator = if path.contains('?') { '&' } else { '?' };
        server.bare_request(method, &format!("/{ACCOUNT}{path}{separator}{token}"))
    };
    call("GET", "/c/b", "r").send().await.expect(200);
    call("GET", "/c/b", "l").send().await.expect_error(403, "AuthorizationPermissionMismatch");
    call("GET", "/c?restype=container&comp=list", "l").send().await.expect(200);
    call("GET", "/c?restype=container&comp=list&include=tags", "rl")
        .send()
        .await
        .expect_error(403, "AuthorizationPermissionMismatch");
    call("GET", "/?comp=list", "l").send().await.expect(200);
    call("DELETE", "/c/b", "rw").send().await.expect_error(403, "AuthorizationPermissionMismatch");
    // The permission to create does not allow replacing.
    let put = |path: &str| call("PUT", path, "c").with("x-ms-blob-type", "BlockBlob");
    put("/c/new").send().await.expect(201);
    put("/c/b").send().await.expect_error(403, "AuthorizationPermissionMismatch");
    put("/c/tagged").with("x-ms-tags", "a=b").send().await.expect_error(403, "AuthorizationPermissionMismatch");
}

#[tokio::test]
async fn a_changed_or_outdated_sas_is_refused() {
    let server = Server::start().await;
    let token = server.emulator.sas(ACCOUNT, "r").replace("sp=r", "sp=rw");
    server
        .bare_request("GET", &format!("/{ACCOUNT}/c/b?{token}"))
        .send()
        .await
        .expect_error(403, "AuthenticationFailed");
    server.emulator.put_blob(ACCOUNT, "c", "b", Default::default()).unwrap();
    server.get("/c/b").send().await.expect(200);
    server.pass_seconds(80 * 366 * 86_400);
    server.get("/c/b").send().await.expect_error(403, "AuthenticationFailed");
}

#[tokio::test]
async fn a_container_sas_reaches_its_container_only() {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "odd name/%", Default::default()).unwrap();
    server.emulator.put_blob(ACCOUNT, "other", "b", Default::default()).unwrap();
    let token = server.emulator.container_sas(ACCOUNT, "c", "rl");
    let get = |path: &str| server.bare_request("GET", &format!("/{ACCOUNT}{path}{token}"));
    get("/c/odd%20name/%25?").send().await.expect(200);
    get("/c?restype=container&comp=list&").send().await.expect(200);
    get("/other/b?").send().await.expect_error(403, "AuthenticationFailed");
    get("/?comp=list&").send().await.expect_error(403, "AuthenticationFailed");
    get("/c?restype=container&").send().await.expect_error(403, "AuthorizationPermissionMismatch");
}

#[tokio::test]
async fn a_blob_sas_reaches_its_blob_only() {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "a", Default::default()).unwrap();
    server.emulator.put_blob(ACCOUNT, "c", "b", Default::default()).unwrap();
    let token = server.emulator.blob_sas(ACCOUNT, "c", "a", "r");
    server.bare_request("GET", &format!("/{ACCOUNT}/c/a?{token}")).send().await.expect(200);
    server
        .bare_request("GET", &format!("/{ACCOUNT}/c/b?{token}"))
        .send()
        .await
        .expect_error(403, "AuthenticationFailed");
}

#[tokio::test]
async fn a_stored_access_policy_gives_a_sas_its_terms_until_it_is_removed() {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "a", Default::default()).unwrap();
    let acl = "<?xml version=\"1.0\"?><SignedIdentifiers><SignedIdentifier><Id>readers</Id><AccessPolicy>\
               <Expiry>2030-01-01T00:00:00Z</Expiry><Permission>r</Permission></AccessPolicy></SignedIdentifier>\
               </SignedIdentifiers>";
    // Only the key may set access.
    server
        .put("/c?restype=container&comp=acl")
        .body(acl)
        .send()
        .await
        .expect_error(403, "AuthorizationPermissionMismatch");
    let set = |body: &str| {
        let text = format!(
            "PUT\n\n\n{}\n\n\n\n\n\n\n\n\nx-ms-date:{DATE}\nx-ms-version:2021-12-02\n\
             /{ACCOUNT}/{ACCOUNT}/c\ncomp:acl\nrestype:container",
            if body.is_empty() { String::new() } else { body.len().to_string() }
        );
        server
            .bare_request("PUT", &format!("/{ACCOUNT}/c?restype=container&comp=acl"))
            .with("x-ms-date", DATE)
            .with("authorization", &format!("SharedKey {ACCOUNT}:{}", sign(DEVELOPMENT_KEY, &text)))
            .body(body)
    };
    set(acl).send().await.expect(200);
    let text = format!("\n\n\n/blob/{ACCOUNT}/c\nreaders\n\n\n2021-12-02\nc\n\n\n\n\n\n\n");
    let signature = crate::client::encoded(&sign(DEVELOPMENT_KEY, &text));
    let target = format!("/{ACCOUNT}/c/a?sv=2021-12-02&sr=c&si=readers&sig={signature}");
    server.bare_request("GET", &target).send().await.expect(200);
    set("").send().await.expect(200);
    server.bare_request("GET", &target).send().await.expect_error(403, "AuthenticationFailed");
}

#[tokio::test]
async fn without_authorization_only_public_containers_can_be_read() {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "a", Default::default()).unwrap();
    server
        .bare_request("GET", &format!("/{ACCOUNT}/c/a"))
        .send()
        .await
        .expect_error(401, "NoAuthenticationInformation");
    server.put("/pub?restype=container").with("x-ms-blob-public-access", "blob").send().await.expect(201);
    server.emulator.put_blob(ACCOUNT, "pub", "a", Default::default()).unwrap();
    server.bare_request("GET", &format!("/{ACCOUNT}/pub/a")).send().await.expect(200);
    let list = format!("/{ACCOUNT}/pub?restype=container&comp=list");
    server.bare_request("GET", &list).send().await.expect(401);
    server.bare_request("PUT", &format!("/{ACCOUNT}/pub/a")).send().await.expect(401);
}

#[tokio::test]
async fn each_account_has_its_own_key_and_containers() {
    let options = EmulatorOptions {
        accounts: vec![Account::with_derived_key("one"), Account::with_derived_key("two")],
        ..EmulatorOptions::default()
    };
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
    emulator.create_container("one", "only").unwrap();
    assert_eq!(emulator.container_names("one"), ["only"]);
    assert!(emulator.container_names("two").is_empty());
    assert!(emulator.create_container("three", "x").unwrap_err().to_string().contains("three"));
    assert_ne!(emulator.sas("one", "r"), emulator.sas("two", "r"));
    assert!(
        emulator
            .connection_string("two")
            .contains(&format!("BlobEndpoint={}/two;", format_args!("http://{}", emulator.address())))
    );
    emulator.stop().await;
}

#[tokio::test]
async fn versions_of_the_service_are_checked() {
    let server = Server::start().await;
    let list = |version: &str| server.get("/?comp=list").without("x-ms-version").with("x-ms-version", version);
    for version in ["2015-04-05", "2021-12-02", "2026-06-06", "2026-12-06"] {
        let reply = list(version).send().await.expect(200);
        assert_eq!(reply.header("x-ms-version"), Some(version));
    }
    for version in ["2099-01-01", "latest"] {
        list(version).send().await.expect_error(400, "InvalidHeaderValue");
    }
}
