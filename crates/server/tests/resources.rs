//! Subscriptions, resource groups, providers and storage accounts as clients meet them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::sync::Arc;

use blobkeep_server::Parts;
use blobkeep_server::accounts::{AccountBrowser, BrowsedContainer, Connection};
use blobkeep_server::config::StorageAccountConfig;
use common::Service;
use serde_json::{Value, json};

const KEY: &str = "dG9wLXNlY3JldC1rZXk=";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

fn account(group: &str, name: &str) -> String {
    format!("{group}/providers/Microsoft.Storage/storageAccounts/{name}")
}

fn connected(url: &str) -> Value {
    json!({
        "location": "West US", "kind": "StorageV2", "sku": { "name": "Standard_GRS" }, "tags": { "Team": "a" },
        "properties": { "accessTier": "Cool", "connection": { "kind": "AzureBlob", "url": url, "accountKey": KEY } },
    })
}

#[tokio::test]
async fn the_default_subscription_is_there_and_others_are_made_by_alias() {
    let service = Service::start().await;
    let got = service.get("/subscriptions").await.expect(200);
    let one = &got.body["value"][0];
    assert_eq!(one["id"], service.subscription());
    assert_eq!(
        (one["state"].as_str(), one["tenantId"].as_str()),
        (Some("Enabled"), Some(service.env.tenant_id.as_str()))
    );
    assert_eq!(one["managedByTenants"], json!([]));
    assert!(one["subscriptionPolicies"].is_object() && one["authorizationSource"].is_string());
    assert_eq!(service.get("/tenants").await.expect(200).body["value"][0]["tenantId"], service.env.tenant_id);

    let other = uuid::Uuid::new_v4().to_string();
    let alias = "/providers/Microsoft.Subscription/aliases/second";
    let body = json!({ "properties": { "subscriptionId": other, "displayName": "Second" } });
    service.put(alias, body.clone()).await.expect(201);
    let again = service.put(alias, body).await.expect(200);
    assert_eq!(again.body["properties"]["subscriptionId"], other.as_str());
    assert_eq!(service.get(alias).await.expect(200).body, again.body);
    let elsewhere = json!({ "properties": { "subscriptionId": uuid::Uuid::new_v4() } });
    service.put(alias, elsewhere).await.refused(409, "SubscriptionAlreadyExists");
    let taken = json!({ "properties": { "subscriptionId": other } });
    service
        .put("/providers/Microsoft.Subscription/aliases/third", taken)
        .await
        .refused(409, "SubscriptionAlreadyExists");
    service
        .put("/providers/Microsoft.Subscription/aliases/bad", json!({ "properties": { "subscriptionId": "x" } }))
        .await
        .refused(400, "InvalidRequestContent");
    service.get(&format!("/subscriptions/{other}")).await.expect(200);
    let unknown = uuid::Uuid::new_v4();
    service.get(&format!("/subscriptions/{unknown}")).await.refused(404, "SubscriptionNotFound");
    service
        .put(&format!("/subscriptions/{unknown}/resourceGroups/g"), json!({ "location": "x" }))
        .await
        .refused(404, "SubscriptionNotFound");
}

#[tokio::test]
async fn resource_groups_live_as_in_azure() {
    let service = Service::start().await;
    let path = format!("{}/resourcegroups/RG-Blob", service.subscription());
    service.call("HEAD", &path, None).await.expect(404);
    service.get(&path).await.refused(404, "ResourceGroupNotFound");
    let made = service.put(&path, json!({ "location": "West US", "tags": { "a": "b" } })).await.expect(201);
    assert_eq!(made.body["id"], format!("{}/resourceGroups/RG-Blob", service.subscription()));
    assert_eq!(made.body["location"], "westus");
    assert_eq!(made.body["properties"], json!({ "provisioningState": "Succeeded" }));
    let head = service.call("HEAD", &path.to_uppercase(), None).await.expect(204);
    assert!(head.text.is_empty() && !head.headers.contains_key("content-length"));
    service.put(&path, json!({ "location": "westus" })).await.expect(200);
    service.put(&path, json!({ "location": "eastus" })).await.refused(409, "InvalidResourceGroupLocation");
    let patched = service.call("PATCH", &path, Some(json!({ "tags": { "x": "y" } }))).await.expect(200);
    assert_eq!(patched.body["tags"], json!({ "x": "y" }));
    assert_eq!(
        service.get(&format!("{}/resourceGroups", service.subscription())).await.body["value"][0]["name"],
        "RG-Blob"
    );
    service.put(&account(&path, "abc"), json!({ "location": "westus" })).await.expect(200);
    let full = service.call("DELETE", &path, None).await.refused(409, "ResourceGroupNotEmpty");
    assert!(full.text.contains("storageAccounts/abc"), "{}", full.text);
    service.call("DELETE", &account(&path, "abc"), None).await.expect(200);
    service.call("DELETE", &path, None).await.expect(200);
    service.call("DELETE", &path, None).await.refused(404, "ResourceGroupNotFound");
    service
        .put(&format!("{}/resourceGroups/bad.", service.subscription()), json!({ "location": "x" }))
        .await
        .refused(400, "InvalidResourceGroupName");
}

#[tokio::test]
async fn providers_and_locations_are_listed() {
    let service = Service::start().await;
    let base = service.subscription();
    let got = service.get(&format!("{base}/providers/microsoft.dataprotection")).await.expect(200);
    assert_eq!(got.body["registrationState"], "Registered");
    let types = got.body["resourceTypes"].as_array().unwrap();
    let vaults = types.iter().find(|t| t["resourceType"] == "backupVaults").unwrap();
    assert!(vaults["apiVersions"].as_array().unwrap().contains(&json!("2021-01-01")) && vaults["locations"].is_array());
    service.call("POST", &format!("{base}/providers/Microsoft.Storage/register"), None).await.expect(200);
    service.get(&format!("{base}/providers/Microsoft.Compute")).await.refused(404, "InvalidResourceNamespace");
    assert!(service.get(&format!("{base}/providers")).await.expect(200).body["value"].as_array().unwrap().len() >= 4);
    let locations = service.get(&format!("{base}/locations")).await.expect(200);
    let west = locations.body["value"].as_array().unwrap().iter().find(|l| l["name"] == "westus").unwrap();
    assert_eq!(west["metadata"]["regionType"], "Physical");
}

#[tokio::test]
async fn a_storage_account_answers_in_azures_shape_and_never_with_a_secret() {
    let service = Service::start().await;
    let group = service.group("RG").await;
    let path = account(&group, "msblobbackup");
    let made = service.put(&path, connected("http://127.0.0.1:10000/devstoreaccount1/")).await.expect(200);
    assert_eq!(made.body["id"], path);
    assert_eq!((made.body["location"].as_str(), made.body["kind"].as_str()), (Some("westus"), Some("StorageV2")));
    assert_eq!(made.body["sku"], json!({ "name": "Standard_GRS", "tier": "Standard" }));
    let properties = &made.body["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["accessTier"], "Cool");
    assert_eq!(properties["encryption"], json!({ "keySource": "Microsoft.Storage" }), "az cannot do without");
    assert_eq!(properties["primaryEndpoints"]["blob"], "http://127.0.0.1:10000/devstoreaccount1/");
    assert_eq!(
        properties["connection"],
        json!({ "kind": "AzureBlob", "url": "http://127.0.0.1:10000/devstoreaccount1" })
    );

    let without = json!({ "location": "westus" });
    let kept = service.put(&path, without).await.expect(200);
    assert_eq!(kept.body["properties"]["connection"]["kind"], "AzureBlob", "a PUT without connection keeps it");
    let patched = service.call("PATCH", &path.to_uppercase(), Some(json!({ "tags": { "n": "1" } }))).await.expect(200);
    assert_eq!((patched.body["id"].as_str(), &patched.body["tags"]), (Some(path.as_str()), &json!({ "n": "1" })));
    service.put(&path, json!({ "location": "eastus" })).await.refused(409, "InvalidResourceLocation");
    let keys = service.call("POST", &format!("{path}/listKeys"), None).await.refused(403, "ListKeysNotOffered");
    for got in [made, kept, patched, keys, service.get(&path).await] {
        assert!(!got.text.contains(KEY), "{}", got.text);
    }
    for list in [
        format!("{group}/providers/Microsoft.Storage/storageAccounts"),
        format!("{}/providers/Microsoft.Storage/storageAccounts", service.subscription()),
    ] {
        let got = service.get(&list).await.expect(200);
        assert_eq!(got.body["value"][0]["name"], "msblobbackup");
        assert!(!got.text.contains(KEY));
    }
    let blobs = service.get(&format!("{path}/blobServices/default")).await.expect(200);
    assert_eq!(blobs.body["name"], "default");
    service.call("DELETE", &path, None).await.expect(200);
    service.call("DELETE", &path, None).await.expect(204);
    service.get(&path).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn whether_a_name_is_free_for_an_account_is_told_of_what_the_caller_may_read() {
    let service = Service::start().await;
    let (group, other) = (service.group("RG").await, service.group("Other").await);
    service.put(&account(&group, "msblobbackup"), json!({ "location": "westus" })).await.expect(200);
    let path = format!("{}/providers/Microsoft.Storage/checkNameAvailability", service.subscription());
    let asked = |name: &str| Some(json!({ "name": name, "type": "Microsoft.Storage/storageAccounts" }));
    let free = service.call("POST", &path, asked("another")).await.expect(200);
    assert_eq!(free.body, json!({ "nameAvailable": true }));
    for (name, reason) in [("msblobbackup", "AlreadyExists"), ("No_Name", "AccountNameInvalid")] {
        let got = service.call("POST", &path, asked(name)).await.expect(200);
        assert_eq!((&got.body["nameAvailable"], &got.body["reason"]), (&json!(false), &json!(reason)), "{name}");
    }

    let (object_id, token) = service.principal("reader").await;
    service.call_as(&token, "POST", &path, asked("msblobbackup")).await.refused(403, "AuthorizationFailed");
    service.assign(&object_id, READER, &other).await;
    let unseen = service.call_as(&token, "POST", &path, asked("msblobbackup")).await.expect(200);
    assert_eq!(unseen.body, json!({ "nameAvailable": true }), "its group is not to be seen");
    service.call_as("", "POST", &path, asked("another")).await.refused(401, "AuthenticationFailed");
}

#[tokio::test]
async fn an_account_that_is_sent_back_as_it_was_read_keeps_its_connection() {
    let service = Service::start().await;
    let group = service.group("RG").await;
    let path = account(&group, "msblobbackup");
    let made = service.put(&path, connected("http://127.0.0.1:10000/devstoreaccount1")).await.expect(200);
    let mut whole = made.body.clone();
    whole["tags"] = json!({ "team": "a" });
    let again = service.put(&path, whole.clone()).await.expect(200);
    assert_eq!(again.body["tags"], json!({ "team": "a" }));
    assert_eq!(again.body["properties"]["connection"], made.body["properties"]["connection"]);
    service.call("PATCH", &path, Some(whole.clone())).await.expect(200);

    whole["properties"]["connection"]["url"] = json!("http://127.0.0.1:10000/another");
    service.put(&path, whole.clone()).await.refused(400, "InvalidConnection");
    service.call("PATCH", &path, Some(whole.clone())).await.refused(400, "InvalidConnection");
    let new = account(&group, "another");
    whole["properties"]["connection"] = made.body["properties"]["connection"].clone();
    service.put(&new, whole).await.refused(400, "InvalidConnection");
}

#[tokio::test]
async fn many_lists_at_once_do_not_wait_for_each_other_for_ever() {
    let service = Arc::new(Service::start().await);
    let group = service.group("RG").await;
    service.put(&account(&group, "msblobbackup"), json!({ "location": "westus" })).await.expect(200);
    let lists =
        [group.clone(), service.subscription()].map(|at| format!("{at}/providers/Microsoft.Storage/storageAccounts"));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (service, list) = (service.clone(), lists[number % 2].clone());
        asked.spawn(async move { service.get(&list).await });
    }
    for got in asked.join_all().await {
        assert_eq!(got.expect(200).body["value"][0]["name"], "msblobbackup");
    }
}

#[tokio::test]
async fn changes_of_an_account_at_the_same_time_all_stay() {
    let service = Arc::new(Service::start().await);
    let group = service.group("RG").await;
    let path = account(&group, "msblobbackup");
    service.put(&path, json!({ "location": "westus" })).await.expect(200);
    let settings = ["accessTier", "isHnsEnabled", "minimumTlsVersion", "publicNetworkAccess", "allowSharedKeyAccess"];
    let mut asked = tokio::task::JoinSet::new();
    for name in settings {
        let (service, path) = (service.clone(), path.clone());
        asked.spawn(async move {
            let body = json!({ "properties": { name: "changed" } });
            service.call("PATCH", &path, Some(body)).await
        });
    }
    for got in asked.join_all().await {
        got.expect(200);
    }
    let got = service.get(&path).await.expect(200);
    for name in settings {
        assert_eq!(got.body["properties"][name], "changed", "{name}");
    }
}

#[tokio::test]
async fn the_key_rests_sealed_and_opens_for_jobs() {
    let service = Service::start().await;
    let group = service.group("RG").await;
    let path = account(&group, "acc");
    service.put(&path, connected("https://acc.blob.core.windows.net")).await.expect(200);
    let app = service.running.app();
    let caller = blobkeep_server::auth::Caller { object_id: owner_of(&service).await, app_id: String::new() };
    let granted =
        blobkeep_server::auth::authorize(app, &caller, "Microsoft.Storage/storageAccounts/read", &path).await.unwrap();
    let key = path.to_lowercase();
    let mut reader = app.db.read().await.unwrap();
    let connection = blobkeep_server::db::storage_accounts::connection(&mut reader, &granted, &app.sealer, &key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(format!("{connection:?}"), "AzureBlob(https://acc.blob.core.windows.net)");
    drop(reader);
    for entry in std::fs::read_dir(&app.config.data_dir).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            assert!(
                !bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()),
                "{} holds the key in clear",
                file.display()
            );
        }
    }
}

async fn owner_of(service: &Service) -> String {
    let mut reader = service.running.app().db.read().await.unwrap();
    let found = blobkeep_server::db::principals::by_app_id(&mut reader, &service.env.client_id).await.unwrap();
    found.unwrap().0.object_id
}

#[tokio::test]
async fn connections_are_limited() {
    let service = Service::start().await;
    let group = service.group("RG").await;
    let path = account(&group, "acc");
    let connect = |connection: Value| {
        let (service, path) = (&service, path.clone());
        async move { service.put(&path, json!({ "location": "westus", "properties": { "connection": connection } })).await }
    };
    for url in [
        "https://169.254.169.254/metadata",
        "https://10.0.0.1",
        "https://[fe80::1]",
        "http://acc.blob.core.windows.net",
    ] {
        let got = connect(json!({ "kind": "AzureBlob", "url": url, "accountKey": KEY }))
            .await
            .refused(400, "InvalidConnection");
        assert!(!got.text.contains(KEY));
    }
    connect(json!({ "kind": "LocalFolder", "url": "file:///etc" })).await.refused(400, "InvalidConnection");
    let data = service.running.app().config.data_dir.display().to_string();
    connect(json!({ "kind": "LocalFolder", "url": format!("file://{data}") })).await.refused(400, "InvalidConnection");
    connect(json!({ "kind": "S3", "url": "s3://bucket" })).await.refused(400, "ConnectionNotSupported");
    connect(json!({ "kind": "AzureBlob", "url": "https://x", "managedIdentity": true }))
        .await
        .refused(400, "ConnectionNotSupported");
    connect(json!("x")).await.refused(400, "InvalidRequestContent");
    service.get(&path).await.refused(404, "ResourceNotFound");
    service.put(&account(&group, "Bad_Name"), json!({ "location": "westus" })).await.refused(400, "AccountNameInvalid");
    let absent = group.replace("RG", "absent");
    service.put(&account(&absent, "acc"), json!({ "location": "westus" })).await.refused(404, "ResourceGroupNotFound");
}

struct TwoContainers;

#[async_trait::async_trait]
impl AccountBrowser for TwoContainers {
    async fn containers(&self, connection: &Connection) -> Result<Vec<BrowsedContainer>, String> {
        if connection.public_url().contains("broken") {
            return Err("List Containers: no answer within 30 seconds".to_owned());
        }
        let named =
            |name: &str| BrowsedContainer { name: name.to_owned(), etag: "0x1".to_owned(), ..Default::default() };
        Ok(vec![named("one"), named("two")])
    }
}

#[tokio::test]
async fn containers_are_listed_through_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts { browser: Some(Arc::new(TwoContainers)), ..Parts::default() };
    let service = Service::start_at(common::config(dir.path()), parts).await;
    let group = service.group("RG").await;
    let path = account(&group, "acc");
    let list = format!("{path}/blobServices/default/containers");
    service.get(&list).await.refused(404, "ResourceNotFound");
    service.put(&path, json!({ "location": "westus" })).await.expect(200);
    service.get(&list).await.refused(409, "StorageAccountNotConnected");
    service.put(&path, connected("https://acc.blob.core.windows.net")).await.expect(200);
    let got = service.get(&list).await.expect(200);
    let first = &got.body["value"][0];
    assert_eq!((first["name"].as_str(), first["properties"]["publicAccess"].as_str()), (Some("one"), Some("None")));
    assert_eq!(first["id"], format!("{list}/one"));
    service.get(&format!("{list}/two")).await.expect(200);
    service.get(&format!("{list}/three")).await.refused(404, "ResourceNotFound");
    service.put(&path, connected("https://broken.example.org")).await.expect(200);
    let got = service.get(&list).await.refused(502, "StorageAccountUnreachable");
    assert!(got.text.contains("no answer within 30 seconds"));
}

#[tokio::test]
async fn accounts_of_the_configuration_are_connected_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap().join("blobs/acc");
    std::fs::create_dir_all(&folder).unwrap();
    let subscription = uuid::Uuid::new_v4();
    let id = format!("/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/acc");
    let mut config = common::config(&dir.path().join("data"));
    config.local_roots = vec![dir.path().canonicalize().unwrap().join("blobs")];
    let connection = json!({ "kind": "LocalFolder", "url": format!("file://{}", folder.display()) });
    config.storage_accounts = vec![StorageAccountConfig {
        id: id.clone(),
        location: "westus".to_owned(),
        connection: connection.as_object().unwrap().clone(),
    }];
    let service = Service::start_at(config.clone(), Parts::default()).await;
    let got = service.get(&id).await.expect(200);
    assert_eq!(got.body["properties"]["connection"]["kind"], "LocalFolder");
    service.running.shutdown().await;
    let again = Service::start_at(config.clone(), Parts::default()).await;
    let kept = again.get(&id).await.expect(200);
    assert!(got.header("etag").len() > 4 && got.header("etag") == kept.header("etag"), "a start alone changes nothing");
    again.running.shutdown().await;
    config.storage_accounts[0].id = "/subscriptions/x".to_owned();
    let error = blobkeep_server::serve(config, Parts::default()).await.unwrap_err().to_string();
    assert!(error.contains("[[storage_account]] /subscriptions/x"), "{error}");
}

/// Two groups with a vault, a guard and two accounts, some of them with tags.
async fn of_all_types(service: &Service) -> (String, String) {
    let (one, two) = (service.group("One").await, service.group("two").await);
    let vault = format!("{one}/providers/Microsoft.DataProtection/backupVaults/vault");
    let body = json!({ "location": "westus", "tags": { "Team": "a", "stage": "test" }, "identity": { "type": "SystemAssigned" }, "properties": {} });
    service.put(&vault, body).await.expect(201);
    let guard = format!("{two}/providers/Microsoft.DataProtection/resourceGuards/guard");
    service.put(&guard, json!({ "location": "eastus", "tags": { "team": "A" }, "properties": {} })).await.expect(200);
    service.put(&account(&one, "first"), json!({ "location": "westus", "tags": { "team": "a" } })).await.expect(200);
    service.put(&account(&two, "second"), json!({ "location": "eastus" })).await.expect(200);
    (one, two)
}

fn names(body: &Value) -> Vec<&str> {
    body["value"].as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn resources_of_all_types_are_listed_in_a_subscription_and_in_a_group() {
    let service = Service::start().await;
    let (one, two) = of_all_types(&service).await;
    let list = format!("{}/resources", service.subscription());
    let got = service.get(&list).await.expect(200);
    assert_eq!(names(&got.body), ["vault", "first", "guard", "second"], "by id");
    let vault = &got.body["value"][0];
    assert_eq!(vault["id"], format!("{one}/providers/Microsoft.DataProtection/backupVaults/vault"));
    assert_eq!(vault["type"], "Microsoft.DataProtection/backupVaults");
    assert_eq!(vault["tags"], json!({ "Team": "a", "stage": "test" }));
    assert!(vault["identity"]["principalId"].is_string() && vault.get("properties").is_none());
    let first = &got.body["value"][1];
    assert_eq!((&first["kind"], &first["sku"]["name"]), (&json!("StorageV2"), &json!("Standard_LRS")));
    for expanded in ["createdTime", "changedTime", "provisioningState"] {
        assert!(first.get(expanded).is_none(), "{expanded} is shown only where it is asked for");
    }
    let got = service.get(&format!("{list}?$expand=createdTime,changedTime,provisioningState")).await.expect(200);
    for each in got.body["value"].as_array().unwrap() {
        assert_eq!(each["provisioningState"], "Succeeded");
        assert!(each["createdTime"].is_string() && each["changedTime"].is_string(), "{each}");
    }
    let got = service.get(&format!("{}/resources", two.to_uppercase())).await.expect(200);
    assert_eq!(names(&got.body), ["guard", "second"]);
    assert_eq!(service.get(&format!("{two}x/resources")).await.expect(200).body, json!({ "value": [] }));
}

#[tokio::test]
async fn lists_of_all_types_follow_the_filters_of_command_lines() {
    let service = Service::start().await;
    of_all_types(&service).await;
    let list = format!("{}/resources?$filter=", service.subscription());
    for (filter, wanted) in [
        ("resourceType eq 'microsoft.storage/storageaccounts'", &["first", "second"][..]),
        ("resourceType eq 'Microsoft.Compute/virtualMachines'", &[]),
        ("resourceGroup eq 'ONE'", &["vault", "first"]),
        ("name eq 'Guard'", &["guard"]),
        ("location eq 'East US' and resourceType eq 'Microsoft.Storage/storageAccounts'", &["second"]),
        ("tagName eq 'team'", &["vault", "first", "guard"]),
        ("tagname eq 'team' and tagvalue eq 'a'", &["vault", "first"]),
        ("startswith(tagname, 'st')", &["vault"]),
        ("substringof('ir', name)", &["first"]),
        ("", &["vault", "first", "guard", "second"]),
    ] {
        let got = service.get(&format!("{list}{}", filter.replace(' ', "%20"))).await.expect(200);
        assert_eq!(names(&got.body), wanted, "{filter}");
    }
    service.get(&format!("{list}plan%20eq%20'x'")).await.refused(400, "InvalidFilterInQueryString");
}

#[tokio::test]
async fn resources_and_tags_are_shown_to_who_may_read_them() {
    let service = Service::start_with(|config| config.api.page_size = 2).await;
    let (one, _) = of_all_types(&service).await;
    let (object, token) = service.principal("reader-of-one").await;
    let list = format!("{}/resources", service.subscription());
    let tags = format!("{}/tagNames", service.subscription());
    for path in [&list, &tags] {
        assert_eq!(service.call_as("", "GET", path, None).await.status, 401);
        assert_eq!(service.call_as(&token, "GET", path, None).await.expect(200).body, json!({ "value": [] }), "{path}");
    }
    service.assign(&object, READER, &account(&one, "first")).await;
    let got = service.call_as(&token, "GET", &list, None).await.expect(200);
    assert_eq!((names(&got.body), got.body.get("nextLink")), (vec!["first"], None));
    let got = service.call_as(&token, "GET", &tags, None).await.expect(200);
    assert_eq!(got.body["value"].as_array().unwrap().len(), 1);
    assert_eq!(got.body["value"][0]["count"]["value"], 1, "only the tag of the account that may be read");

    let mut found = Vec::new();
    let mut next = format!("{}{list}?api-version=2021-04-01", service.env.endpoint);
    while let Some(path) = next.strip_prefix(&service.env.endpoint).map(str::to_owned) {
        let got = service.raw(&service.token, "GET", &path, None).await.expect(200);
        assert!(names(&got.body).len() <= 2);
        found.extend(names(&got.body).into_iter().map(str::to_owned));
        next = got.body["nextLink"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(found, ["vault", "first", "guard", "second"], "over all pages");
}

#[tokio::test]
async fn names_of_tags_are_counted_without_case_and_their_values_with_it() {
    let service = Service::start().await;
    let (one, _) = of_all_types(&service).await;
    service.call("PATCH", &one, Some(json!({ "tags": { "TEAM": "a" } }))).await.expect(200);
    let path = format!("{}/tagNames", service.subscription());
    let got = service.get(&path).await.expect(200);
    let [stage, team] = got.body["value"].as_array().unwrap().as_slice() else { panic!("{}", got.text) };
    assert_eq!((&stage["tagName"], &stage["count"]), (&json!("stage"), &json!({ "type": "Total", "value": 1 })));
    assert_eq!(team["id"], format!("{path}/TEAM"));
    assert_eq!(team["count"]["value"], 4);
    let value = |value: &str, uses: u64| json!({ "id": format!("{path}/TEAM/tagValues/{value}"), "tagValue": value, "count": { "type": "Total", "value": uses } });
    assert_eq!(team["values"], json!([value("A", 1), value("a", 3)]));
}
