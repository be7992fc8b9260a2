//! Entity tags, what requests may demand of them, and who is said to have made and changed a resource.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, policy};
use crate::{BACKUP_CONTRIBUTOR, BACKUP_READER};

const STORAGE_ACCOUNT_CONTRIBUTOR: &str = "17d1049b-9a84-46fb-8f53-869881c3d3ab";
const SYSTEM_DATA: &str = "x-ms-arm-resource-system-data";
/// A version whose bodies say all that they can.
const NEW: &str = "api-version=2025-09-01";

/// A resource that has a tag: where it is, and a body that makes and one that changes it.
struct Tagged {
    what: &'static str,
    path: String,
    body: Value,
    other: Value,
}

impl Tagged {
    fn of(what: &'static str, path: String, body: Value, change: impl FnOnce(&mut Value)) -> Self {
        let mut other = body.clone();
        change(&mut other);
        Self { what, path, body, other }
    }
}

/// One of each kind, in the order in which they can be made.
fn tagged(service: &Service) -> Vec<Tagged> {
    let tag = |body: &mut Value| body["tags"] = json!({"changed": "yes"});
    let policy_path = format!("{}/backupPolicies/BlobBackup-Policy", service.vault());
    let instance = json!({"properties": service.vaulted_instance("testBkpVault")});
    vec![
        Tagged::of("account", service.account("other"), json!({"location": "westus", "properties": {}}), tag),
        Tagged::of("vault", service.vault(), json!({"location": "westus", "properties": {}}), tag),
        Tagged::of("policy", policy_path, policy(), |body| {
            body["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"] = json!("P14D");
        }),
        Tagged::of("instance", format!("{}/backupInstances/msblobbackup-1", service.vault()), instance, tag),
    ]
}

impl Service {
    async fn with(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        self.send_with(self.token(), method, path, headers, body).await
    }

    async fn tag_of(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.header("etag").to_owned()
    }
}

fn system_data(answer: &Answer) -> Value {
    serde_json::from_str(answer.header(SYSTEM_DATA)).unwrap_or_else(|_| panic!("no system data: {answer:?}"))
}

#[track_caller]
fn assert_not_met(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (412, "PreconditionFailed"), "{what}: {answer:?}");
}

#[tokio::test]
async fn a_tag_stands_for_one_state_of_a_resource() {
    let mut service = Service::start().await;
    for Tagged { what, path, body, other } in tagged(&service) {
        let made = service.put(&path, body.clone()).await;
        assert!(made.status < 300, "{what}: {made:?}");
        let first = made.header("etag").to_owned();
        assert!(first.len() > 4 && first.starts_with('"') && first.ends_with('"'), "{what}: {made:?}");
        assert_eq!(service.tag_of(&path).await, first, "{what} has not changed since");
        if what == "instance" {
            service.set_state("ProtectionConfigured").await;
            service.sql("UPDATE jobs SET status = 'Completed'").await;
        }
        let changed = service.put(&path, other).await;
        assert!(changed.status < 300, "{what}: {changed:?}");
        let second = changed.header("etag").to_owned();
        assert!(!second.is_empty() && second != first, "{what}: {second}");
        assert_eq!(service.tag_of(&path).await, second, "{what}");
    }
    let instance = format!("{}/backupInstances/msblobbackup-1", service.vault());
    let before = service.tag_of(&instance).await;
    assert_eq!(service.post_empty(&format!("{instance}/stopProtection")).await.status, 202);
    assert_ne!(service.tag_of(&instance).await, before, "its state is part of what is shown");
    for list in ["backupInstances", "backupPolicies"] {
        assert_eq!(service.get(&format!("{}/{list}", service.vault())).await.header("etag"), "", "a list has none");
    }
}

#[tokio::test]
async fn a_condition_that_is_not_met_changes_nothing() {
    let mut service = Service::start().await;
    for Tagged { what, path, body, other } in tagged(&service) {
        for header in [("If-Match", "*"), ("If-Match", "\"1-1\"")] {
            for method in [Method::PUT, Method::DELETE] {
                let answer = service.with(method, &path, &[header], Some(&body)).await;
                assert_not_met(&answer, &format!("{what} is not there, {header:?}"));
            }
        }
        assert_eq!(service.get(&path).await.status, 404, "{what}");
        let made = service.with(Method::PUT, &path, &[("If-None-Match", "*")], Some(&body)).await;
        assert!(made.status < 300, "{what}: {made:?}");
        if what == "instance" {
            service.set_state("ProtectionConfigured").await;
            service.sql("UPDATE jobs SET status = 'Completed'").await;
        }
        let shown = service.get(&path).await;
        let tag = shown.header("etag").to_owned();
        let weak = format!("W/{tag}");
        let methods: &[Method] = match what {
            "vault" | "account" => &[Method::PUT, Method::PATCH, Method::DELETE],
            _ => &[Method::PUT, Method::DELETE],
        };
        for method in methods {
            for header in [
                ("If-Match", "\"1-1\""),
                ("If-Match", weak.as_str()),
                ("If-Match", "nonsense"),
                ("If-Match", ""),
                ("If-None-Match", "*"),
                ("If-None-Match", tag.as_str()),
                ("If-None-Match", weak.as_str()),
            ] {
                let answer = service.with(method.clone(), &path, &[header], Some(&other)).await;
                assert_not_met(&answer, &format!("{method} {what}, {header:?}"));
                assert!(answer.json()["error"]["message"].as_str().unwrap().contains(header.0), "{answer:?}");
            }
            let both = [("If-Match", tag.as_str()), ("If-None-Match", tag.as_str())];
            assert_not_met(&service.with(method.clone(), &path, &both, Some(&other)).await, "both must be met");
        }
        let after = service.get(&path).await;
        assert_eq!((after.header("etag"), &after.text), (tag.as_str(), &shown.text), "{what}");
    }
}

#[tokio::test]
async fn a_condition_that_is_met_lets_the_change_through() {
    let service = Service::start().await;
    let all = tagged(&service);
    for Tagged { what, path, body, .. } in &all[..3] {
        assert!(service.put(path, body.clone()).await.status < 300, "{what}");
        let lists = |tag: &str| format!("\"other\", {tag}");
        for header in ["exact", "list", "star", "none"] {
            let tag = service.tag_of(path).await;
            let header = match header {
                "exact" => ("If-Match", tag),
                "list" => ("If-Match", lists(&tag)),
                "star" => ("If-Match", "*".to_owned()),
                _ => ("If-None-Match", "\"other\"".to_owned()),
            };
            let answer = service.with(Method::PUT, path, &[(header.0, &header.1)], Some(body)).await;
            assert!(answer.status < 300, "{what} {header:?}: {answer:?}");
        }
    }
    for Tagged { what, path, .. } in all[..3].iter().rev() {
        let tag = service.tag_of(path).await;
        let answer = service.with(Method::DELETE, path, &[("If-Match", &tag)], None).await;
        assert!(answer.status < 300, "{what}: {answer:?}");
        assert_eq!(service.get(path).await.status, 404, "{what}");
    }
}

#[tokio::test]
async fn of_changes_at_once_on_the_same_tag_one_wins() {
    let service = Service::start().await;
    service.make_vault("testBkpVault").await;
    let (vault, tag) = (service.vault(), service.tag_of(&service.vault()).await);
    let body = |number: i64| json!({"tags": {"winner": number.to_string()}});
    let bodies = [body(1), body(2), body(3), body(4)];
    let headers = [("If-Match", tag.as_str())];
    let change = |body| service.with(Method::PATCH, &vault, &headers, Some(body));
    let answers = tokio::join!(change(&bodies[0]), change(&bodies[1]), change(&bodies[2]), change(&bodies[3]));
    let mut statuses = [answers.0.status, answers.1.status, answers.2.status, answers.3.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412]);
}

#[tokio::test]
async fn who_has_the_present_state_is_not_sent_it_again() {
    let mut service = Service::start().await;
    service.protect().await;
    for Tagged { what, path, body, .. } in tagged(&service) {
        if what == "account" {
            assert_eq!(service.put(&path, body).await.status, 200);
        }
        let tag = service.tag_of(&path).await;
        for value in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let answer = service.with(Method::GET, &path, &[("If-None-Match", &value)], None).await;
            assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{what} {value}");
            assert_eq!(answer.header("etag"), tag, "{what}");
            assert!(!answer.header("x-ms-request-id").is_empty(), "{what}");
            assert_eq!((answer.header("content-type"), answer.header("content-length")), ("", ""), "{what}");
        }
        for value in ["\"1-1\"", ""] {
            let answer = service.with(Method::GET, &path, &[("If-None-Match", value)], None).await;
            assert_eq!((answer.status, answer.header("etag")), (200, tag.as_str()), "{what} {value}");
        }
        let answer = service.with(Method::GET, &path, &[("If-Match", "\"1-1\"")], None).await;
        assert_not_met(&answer, what);
        assert_eq!(service.with(Method::GET, &path, &[("If-Match", &tag)], None).await.status, 200, "{what}");
    }
}

#[tokio::test]
async fn conditions_tell_nothing_to_who_may_not_read() {
    let mut service = Service::start().await;
    service.protect().await;
    let (stranger, _) = service.stranger("stranger").await;
    let (reader, object_id) = service.stranger("reader").await;
    service.assign(BACKUP_READER, &object_id, &service.vault()).await;
    for Tagged { what, path, body, .. } in tagged(&service) {
        for header in [("If-None-Match", "*"), ("If-Match", "*"), ("If-Match", "\"1-1\"")] {
            let answer = service.send_with("", Method::GET, &path, &[header], None).await;
            assert_eq!(answer.status, 401, "{what}");
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                let answer = service.send_with(&stranger, method, &path, &[header], Some(&body)).await;
                assert_eq!((answer.status, answer.code().as_str()), (403, "AuthorizationFailed"), "{what}");
            }
        }
    }
    let vault = service.vault();
    let answer = service.send_with(&reader, Method::GET, &vault, &[("If-None-Match", "*")], None).await;
    assert_eq!(answer.status, 304);
    let answer = service.send_with(&reader, Method::PATCH, &vault, &[("If-Match", "\"1-1\"")], Some(&json!({}))).await;
    assert_eq!(answer.code(), "AuthorizationFailed");
}

#[tokio::test]
async fn answers_to_changes_say_who_made_and_who_changed_the_resource() {
    let mut service = Service::start().await;
    let (other, object_id) = service.stranger("other").await;
    let root = format!("/subscriptions/{}", service.subscription);
    service.assign(BACKUP_CONTRIBUTOR, &object_id, &root).await;
    service.assign(STORAGE_ACCOUNT_CONTRIBUTOR, &object_id, &root).await;
    for Tagged { what, path, body, other: changed } in tagged(&service) {
        let made = system_data(&service.put(&path, body).await);
        let owner = made["createdBy"].clone();
        assert!(uuid::Uuid::parse_str(owner.as_str().unwrap()).is_ok(), "{what}: {made}");
        assert_eq!(
            (&made["createdByType"], &made["lastModifiedByType"]),
            (&json!("Application"), &json!("Application"))
        );
        assert_eq!((&made["lastModifiedBy"], &made["lastModifiedAt"]), (&owner, &made["createdAt"]), "{what}");
        // A vault is made by who owns more than its backups.
        let token = if what == "vault" { service.token().to_owned() } else { other.clone() };
        if what == "instance" {
            service.set_state("ProtectionConfigured").await;
            service.sql("UPDATE jobs SET status = 'Completed'").await;
        }
        let answer = service.send_with(&token, Method::PUT, &path, &[], Some(&changed)).await;
        assert!(answer.status < 300, "{what}: {answer:?}");
        let then = system_data(&answer);
        assert_eq!((&then["createdBy"], &then["createdAt"]), (&owner, &made["createdAt"]), "{what}");
        assert_eq!(then["lastModifiedBy"] == owner, what == "vault", "{what}: {then}");
        assert!(then["lastModifiedAt"].as_str() > made["lastModifiedAt"].as_str(), "{what}: {then}");
        assert_eq!(service.get(&path).await.header(SYSTEM_DATA), "", "{what}: only changes say it in a header");
    }
    for path in [service.vault(), service.account("other")] {
        let answer = service.patch(&path, json!({"tags": {"a": "b"}})).await;
        assert_eq!((answer.status, system_data(&answer)["lastModifiedByType"].as_str()), (200, Some("Application")));
    }
}

#[tokio::test]
async fn bodies_of_vaults_have_their_tag_and_system_data_in_the_versions_that_know_them() {
    let mut service = Service::start().await;
    service.protect().await;
    service.make_vault("another").await;
    let list = format!("/subscriptions/{}/providers/Microsoft.DataProtection/backupVaults", service.subscription);
    for (version, has_tag, has_data) in
        [("2021-01-01", false, false), ("2022-01-01", true, false), ("2023-01-01", true, true)]
    {
        let answer = service.get(&format!("{}?api-version={version}", service.vault())).await;
        let body = answer.json();
        assert_eq!((body.get("eTag").is_some(), body.get("systemData").is_some()), (has_tag, has_data), "{version}");
        if has_tag {
            assert_eq!(body["eTag"], json!(answer.header("etag")));
        }
        let listed = service.get(&format!("{list}?api-version={version}")).await.json();
        assert_eq!(listed["value"][1], body, "{version}: a list shows what a GET shows");
    }
    let shown = service.get(&format!("{}?{NEW}", service.vault())).await.json();
    let again = service.put(&format!("{}?{NEW}", service.vault()), shown.clone()).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(again.json()["systemData"]["createdAt"], shown["systemData"]["createdAt"]);
    let stale = service.put(&format!("{}?{NEW}", service.vault()), shown).await;
    assert_eq!(stale.status, 201, "a tag in a body is no condition: {stale:?}");
    for Tagged { what, path, .. } in tagged(&service).into_iter().filter(|each| each.what != "account") {
        let body = service.get(&format!("{path}?{NEW}")).await.json();
        let has_any = body.get("eTag").is_some() || body.get("systemData").is_some();
        assert_eq!(has_any, what == "vault", "{what}: {body}");
    }
}

#[tokio::test]
async fn a_new_resource_of_an_old_name_is_another_one() {
    let service = Service::start().await;
    let all = tagged(&service);
    for Tagged { what, path, body, .. } in &all[..2] {
        let old = service.put(path, body.clone()).await;
        assert!(service.delete(path).await.status < 300, "{what}");
        let new = service.put(path, body.clone()).await;
        assert_ne!(new.header("etag"), old.header("etag"), "{what}");
        assert_ne!(system_data(&new)["createdAt"], system_data(&old)["createdAt"], "{what}");
        let answer = service.with(Method::DELETE, path, &[("If-Match", old.header("etag"))], None).await;
        assert_not_met(&answer, what);
    }
}

#[tokio::test]
async fn a_resource_without_a_stamp_is_met_by_the_star_alone_until_it_is_changed() {
    let mut service = Service::start().await;
    service.make_vault("testBkpVault").await;
    service.sql("DELETE FROM resource_stamps").await;
    let vault = service.vault();
    let shown = service.get(&format!("{vault}?{NEW}")).await;
    assert_eq!((shown.status, shown.header("etag")), (200, ""));
    assert!(shown.json().get("eTag").is_none() && shown.json().get("systemData").is_none(), "{shown:?}");
    let body = json!({"tags": {"a": "b"}});
    for value in ["\"1-1\"", "\"\"", ""] {
        let answer = service.with(Method::PATCH, &vault, &[("If-Match", value)], Some(&body)).await;
        assert_not_met(&answer, value);
    }
    let answer = service.with(Method::PATCH, &vault, &[("If-Match", "*")], Some(&body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let members = system_data(&answer);
    assert!(members.get("createdBy").is_none() && members["lastModifiedBy"].is_string(), "{members}");
    assert_eq!(service.tag_of(&vault).await, answer.header("etag"));
}
