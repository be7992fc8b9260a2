//! Multi-user authorization: what is critical in a linked vault happens only with a right on its guard.

use std::sync::Arc;

use blobkeep_arm::guard::CriticalOperation;
use blobkeep_arm::time::parse_instant;
use blobkeep_server::Parts;
use blobkeep_server::clock::{Clock, ManualClock, SystemClock};
use blobkeep_server::config::EncryptionKeyConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::guards::{CONTRIBUTOR, MUA_OPERATOR, READER};
use crate::restores::of_point;
use crate::service::{Answer, Service, policy};

/// Everything that is critical, in an order in which each leaves the next one possible.
const POSSIBLE: &[CriticalOperation] = &[
    CriticalOperation::ModifyEncryption,
    CriticalOperation::ReduceSoftDelete,
    CriticalOperation::ReduceImmutability,
    CriticalOperation::ModifyProtection,
    CriticalOperation::SuspendBackups,
    CriticalOperation::StopProtection,
    CriticalOperation::Restore,
    CriticalOperation::DeleteInstance,
    CriticalOperation::RemoveGuard,
];

/// A key that the service knows.
const KEY: &str = "https://vault.example.org/keys/team/1";

/// A linked vault that protects an account, and its administrator, who may do everything in the vault and read the guard.
struct Guarded {
    service: Service,
    instance: String,
    guard: String,
    point: String,
    admin: String,
    admin_object: String,
}

/// The header with a second token; none if it is empty.
fn second_token(auxiliary: &str) -> Vec<(&str, &str)> {
    if auxiliary.is_empty() { Vec::new() } else { vec![("x-ms-authorization-auxiliary", auxiliary)] }
}

impl Guarded {
    async fn start() -> Self {
        Self::start_with(Parts::default()).await
    }

    async fn start_with(parts: Parts) -> Self {
        let mut service = Service::start_with(parts, |config| {
            let file = config.data_dir.join("team.key");
            std::fs::write(&file, [0x5A; 32]).unwrap();
            config.encryption_keys.push(EncryptionKeyConfig { uri: KEY.to_owned(), file });
        })
        .await;
        let instance = service.protect().await;
        let point = service.add_point(1, "VaultStore").await;
        let body = json!({"properties": {"securitySettings": {"immutabilitySettings": {"state": "Unlocked"}}}});
        assert_eq!(service.patch(&service.vault(), body).await.status, 200);
        let guard = service.make_guard("guard").await;
        assert_eq!(service.link(&guard).await.status, 200);
        let (admin, admin_object) = service.stranger("vault-admin").await;
        for scope in [service.vault(), service.account("msblobbackup"), service.account("restoretarget")] {
            service.assign(CONTRIBUTOR, &admin_object, &scope).await;
        }
        service.assign(READER, &admin_object, &guard).await;
        Self { service, instance, guard, point, admin, admin_object }
    }

    /// The request for an operation, or the unlocking of a deletion; with that list of request ids.
    fn request(&self, operation: CriticalOperation, list: &Value) -> (Method, String, Value) {
        let vault = self.service.vault();
        let settings = |settings: Value| json!({"properties": {"securitySettings": settings, "resourceGuardOperationRequests": list}});
        let action = |name: &str| format!("{}/{name}", self.instance);
        let only_list = json!({"resourceGuardOperationRequests": list});
        match operation {
            CriticalOperation::ReduceSoftDelete => {
                (Method::PATCH, vault, settings(json!({"softDeleteSettings": {"state": "Off"}})))
            }
            CriticalOperation::ReduceImmutability => {
                (Method::PATCH, vault, settings(json!({"immutabilitySettings": {"state": "Disabled"}})))
            }
            CriticalOperation::ModifyProtection => {
                let mut instance = self.service.vaulted_instance("testBkpVault");
                instance["policyInfo"]["policyParameters"]["backupDatasourceParametersList"][0]["containersList"] =
                    json!(["container3"]);
                instance["resourceGuardOperationRequests"] = list.clone();
                (Method::PUT, self.instance.clone(), json!({"properties": instance}))
            }
            CriticalOperation::SuspendBackups => (Method::POST, action("suspendBackups"), only_list),
            CriticalOperation::StopProtection => (Method::POST, action("stopProtection"), only_list),
            CriticalOperation::Restore => {
                let mut body = of_point(&self.point, &self.service.account("restoretarget"));
                body["resourceGuardOperationRequests"] = list.clone();
                (Method::POST, action("restore"), body)
            }
            CriticalOperation::DeleteInstance => (
                Method::POST,
                format!("{}/unlockDelete", self.service.proxy()),
                json!({"resourceGuardOperationRequests": list, "resourceToBeDeleted": self.instance}),
            ),
            CriticalOperation::RemoveGuard => {
                (Method::POST, format!("{}/unlockDelete", self.service.proxy()), only_list)
            }
            CriticalOperation::ModifyEncryption => {
                let key = json!({"state": "Enabled", "keyVaultProperties": {"keyUri": KEY}});
                (Method::PATCH, vault, settings(json!({"encryptionSettings": key})))
            }
        }
    }

    /// The administrator's attempt, with the operation's own request id.
    async fn attempt(&self, operation: CriticalOperation, auxiliary: &str) -> Answer {
        let (method, path, body) = self.request(operation, &json!([operation.request_id(&self.guard)]));
        self.service.send_with(&self.admin, method, &path, &second_token(auxiliary), Some(&body)).await
    }

    async fn attempt_with(&self, operation: CriticalOperation, list: Value) -> Answer {
        let (method, path, body) = self.request(operation, &list);
        self.service.send(&self.admin, method, &path, Some(&body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.service.send(&self.admin, Method::DELETE, path, None).await
    }

    /// The state in which everything can be tried again.
    async fn reset(&mut self) {
        self.service.sql("UPDATE jobs SET status = 'Completed'").await;
        self.service.set_state("ProtectionConfigured").await;
    }

    /// Everything that an attempt could have changed. The service queues expiries and looks by itself.
    async fn everything(&mut self) -> String {
        let mut all = String::new();
        for path in [self.service.vault(), self.instance.clone(), self.service.proxy()] {
            all.push_str(&self.service.get(&path).await.text);
        }
        let counts = self
            .service
            .row(
                "SELECT (SELECT COUNT(*) FROM jobs WHERE kind NOT IN ('expire', 'operational')) AS jobs,
                     (SELECT COUNT(*) FROM operations) AS operations, (SELECT COUNT(*) FROM unlocked_deletes) AS unlocked",
            )
            .await;
        let count = |name: &str| counts.try_get::<i64>(name).unwrap();
        format!("{all} {} {} {}", count("jobs"), count("operations"), count("unlocked"))
    }
}

fn refused(answer: &Answer, operation: CriticalOperation, expected: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "LinkedAuthorizationFailed"),
        "{operation:?}: {answer:?}"
    );
    let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(expected), "{operation:?}: {message}");
}

#[tokio::test]
async fn without_a_right_on_the_guard_nothing_critical_happens() {
    let mut guarded = Guarded::start().await;
    let before = guarded.everything().await;
    for operation in POSSIBLE {
        let expected = operation.request_id(&guarded.guard);
        let other = if *operation == CriticalOperation::Restore { POSSIBLE[0] } else { CriticalOperation::Restore };
        for list in [json!(null), json!([]), json!([other.request_id(&guarded.guard)])] {
            let unnamed = guarded.attempt_with(*operation, list).await;
            refused(&unnamed, *operation, &expected);
            assert!(unnamed.json()["error"]["details"].to_string().contains(&expected), "{unnamed:?}");
        }
        let named = guarded.attempt(*operation, "").await;
        refused(&named, *operation, &expected);
        assert!(named.json()["error"].get("details").is_none(), "{named:?}");
    }
    for path in [guarded.instance.clone(), guarded.service.proxy()] {
        let answer = guarded.delete(&path).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "LinkedAuthorizationFailed"), "{path}");
        assert!(answer.text.contains("unlockDelete"), "{answer:?}");
    }
    assert_eq!(guarded.everything().await, before, "what is refused changes nothing");
}

#[tokio::test]
async fn a_right_on_the_guard_that_is_named_lets_everything_happen() {
    let mut guarded = Guarded::start().await;
    guarded.service.assign(MUA_OPERATOR, &guarded.admin_object, &guarded.guard).await;
    for operation in POSSIBLE {
        let unnamed = guarded.attempt_with(*operation, json!([])).await;
        refused(&unnamed, *operation, &operation.request_id(&guarded.guard));
        let answer = guarded.attempt(*operation, "").await;
        assert!(answer.status < 300, "{operation:?}: {answer:?}");
        if *operation != CriticalOperation::DeleteInstance {
            guarded.reset().await;
        }
    }
    assert_eq!(guarded.delete(&guarded.instance).await.status, 202);
    let removed = guarded.delete(&guarded.service.proxy()).await;
    assert_eq!((removed.status, removed.text.as_str()), (200, "{}"));
    let vault = guarded.service.get(&guarded.service.vault()).await.json();
    assert_eq!(vault["properties"]["isVaultProtectedByResourceGuard"], false);
    assert_eq!(guarded.service.delete(&guarded.guard).await.status, 200);
}

#[tokio::test]
async fn the_right_may_be_that_of_a_second_token() {
    let mut guarded = Guarded::start().await;
    let (operator, object) = guarded.service.stranger("operator").await;
    guarded.service.assign(MUA_OPERATOR, &object, &guarded.guard).await;
    let (nobody, _) = guarded.service.stranger("nobody").await;
    let auxiliary = format!("Bearer {operator}");
    for operation in POSSIBLE {
        let answer = guarded.attempt(*operation, &format!("Bearer {nobody}")).await;
        refused(&answer, *operation, &operation.request_id(&guarded.guard));
        let answer = guarded.attempt(*operation, &auxiliary).await;
        assert!(answer.status < 300, "{operation:?}: {answer:?}");
        if *operation != CriticalOperation::DeleteInstance {
            guarded.reset().await;
        }
    }
    assert_eq!(guarded.delete(&guarded.instance).await.status, 202, "it was unlocked for the caller");
}

#[tokio::test]
async fn a_second_token_gives_no_right_on_the_path_and_must_be_one_of_ours() {
    let guarded = Guarded::start().await;
    let (nobody, _) = guarded.service.stranger("nobody").await;
    let auxiliary = format!("Bearer {}", guarded.admin);
    let vault = guarded.service.vault();
    let answer = guarded.service.send_with(&nobody, Method::GET, &vault, &second_token(&auxiliary), None).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "AuthorizationFailed"));
    let get = async |auxiliary: &str| {
        let answer =
            guarded.service.send_with(&guarded.admin, Method::GET, &vault, &second_token(auxiliary), None).await;
        (answer.status, answer.code())
    };
    assert_eq!(get(&format!("Bearer abc, {auxiliary}")).await.0, 200, "the first that is ours");
    for bad in ["Bearer abc", "Basic abc", "abc", ","] {
        assert_eq!(get(bad).await, (401, "AuthenticationFailed".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn what_the_guard_leaves_out_needs_no_right() {
    let mut guarded = Guarded::start().await;
    let optional: Vec<CriticalOperation> =
        POSSIBLE.iter().copied().filter(|operation| !operation.is_mandatory()).collect();
    let names: Vec<&str> = optional.iter().map(|operation| operation.name()).collect();
    assert_eq!(guarded.service.exclude(&guarded.guard, &names).await.status, 200);
    for operation in optional {
        let answer = guarded.attempt_with(operation, json!([])).await;
        assert!(answer.status < 300, "{operation:?}: {answer:?}");
        guarded.reset().await;
    }
    for operation in [CriticalOperation::ReduceSoftDelete, CriticalOperation::RemoveGuard] {
        refused(&guarded.attempt(operation, "").await, operation, &operation.request_id(&guarded.guard));
    }
    guarded.service.sql("DELETE FROM unlocked_deletes").await;
    assert_eq!(guarded.delete(&guarded.instance).await.status, 202, "no unlocking either");
}

#[tokio::test]
async fn what_does_not_weaken_protection_needs_no_right() {
    let guarded = Guarded::start().await;
    let service = &guarded.service;
    let send = async |method: Method, path: &str, body: Value| {
        let answer = service.send(&guarded.admin, method, path, Some(&body)).await;
        assert!(answer.status < 300, "{path} {body}: {answer:?}");
    };
    let vault = service.vault();
    let security = |settings: Value| json!({"location": "westus", "properties": {"securitySettings": settings}});
    send(Method::PUT, &vault, json!({"location": "westus", "properties": {}})).await;
    send(Method::PATCH, &vault, json!({"tags": {"a": "b"}})).await;
    send(Method::PATCH, &vault, security(json!({"softDeleteSettings": {"retentionDurationInDays": 30}}))).await;
    send(Method::PUT, &vault, security(json!({"softDeleteSettings": {"state": "On"}}))).await;
    let mut same = service.vaulted_instance("testBkpVault");
    send(Method::PUT, &guarded.instance, json!({"properties": same, "tags": {"a": "b"}})).await;
    same["friendlyName"] = json!("photos");
    send(Method::PUT, &guarded.instance, json!({"properties": same})).await;
    send(
        Method::POST,
        &format!("{}/backup", guarded.instance),
        json!({"backupRuleOptions": {"ruleName": "BackupDaily"}}),
    )
    .await;
    let restore = of_point(&guarded.point, &service.account("restoretarget"));
    let path = format!("{}/validateRestore", guarded.instance);
    send(Method::POST, &path, json!({"restoreRequestObject": restore})).await;
    let fewer = security(json!({"softDeleteSettings": {"retentionDurationInDays": 14}}));
    for method in [Method::PUT, Method::PATCH] {
        let answer = service.send(&guarded.admin, method, &vault, Some(&fewer)).await;
        let operation = CriticalOperation::ReduceSoftDelete;
        refused(&answer, operation, &operation.request_id(&guarded.guard));
    }
}

#[tokio::test]
async fn a_policy_in_use_is_changed_like_its_instances() {
    let guarded = Guarded::start().await;
    let operation = CriticalOperation::ModifyProtection;
    let id = format!("{}/backupPolicies/BlobBackup-Policy", guarded.service.vault());
    let shorter = |list: Value| {
        let mut body = policy();
        body["properties"]["policyRules"][1]["lifecycles"][0]["deleteAfter"]["duration"] = json!("P1D");
        body["properties"]["resourceGuardOperationRequests"] = list;
        body
    };
    let list = json!([operation.request_id(&guarded.guard)]);
    let put =
        async |path: &str, body: Value| guarded.service.send(&guarded.admin, Method::PUT, path, Some(&body)).await;
    refused(&put(&id, shorter(json!(null))).await, operation, &operation.request_id(&guarded.guard));
    refused(&put(&id, shorter(list.clone())).await, operation, &operation.request_id(&guarded.guard));
    assert_eq!(put(&id, policy()).await.status, 200, "the same again");
    assert_eq!(put(&id.replace("BlobBackup-Policy", "new"), shorter(json!(null))).await.status, 200, "nobody uses it");
    guarded.service.assign(MUA_OPERATOR, &guarded.admin_object, &guarded.guard).await;
    assert_eq!(put(&id, shorter(list)).await.status, 200);
}

#[tokio::test]
async fn an_unlocked_deletion_is_for_one_caller_one_resource_and_half_an_hour() {
    let clock = Arc::new(ManualClock::at(SystemClock.now_micros()));
    let guarded = Guarded::start_with(Parts { clock: Some(clock.clone()), ..Parts::default() }).await;
    let (operator, object) = guarded.service.stranger("operator").await;
    guarded.service.assign(MUA_OPERATOR, &object, &guarded.guard).await;
    let auxiliary = format!("Bearer {operator}");
    let unlock = async |operation: CriticalOperation| {
        let answer = guarded.attempt(operation, &auxiliary).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let until = parse_instant(answer.json()["unlockDeleteExpiryTime"].as_str().unwrap_or_default()).unwrap();
        assert_eq!(until - clock.now_micros(), 30 * 60 * 1_000_000);
    };
    let proxy = guarded.service.proxy();
    unlock(CriticalOperation::RemoveGuard).await;
    assert_eq!(guarded.delete(&guarded.instance).await.status, 403, "another resource");
    assert_eq!(guarded.service.delete(&proxy).await.status, 403, "another caller, though it owns everything");
    clock.advance_seconds(30 * 60);
    assert_eq!(guarded.delete(&proxy).await.status, 403, "too late");
    unlock(CriticalOperation::RemoveGuard).await;
    clock.advance_seconds(30 * 60 - 1);
    assert_eq!(guarded.delete(&proxy).await.status, 200, "just in time");
}

#[tokio::test]
async fn an_unlocked_deletion_is_used_up_and_does_not_outlive_the_link() {
    let mut guarded = Guarded::start().await;
    guarded.service.assign(MUA_OPERATOR, &guarded.admin_object, &guarded.guard).await;
    let unlock = CriticalOperation::DeleteInstance;
    assert_eq!(guarded.attempt(unlock, "").await.status, 200);
    let first = guarded.delete(&guarded.instance).await;
    assert_eq!(first.status, 202);
    let again = guarded.delete(&guarded.instance).await;
    assert_eq!(again.header("azure-asyncoperation"), first.header("azure-asyncoperation"), "the same deletion");
    guarded.reset().await;
    assert_eq!(guarded.delete(&guarded.instance).await.status, 403, "it was used");

    assert_eq!(guarded.attempt(unlock, "").await.status, 200);
    assert_eq!(guarded.attempt(CriticalOperation::RemoveGuard, "").await.status, 200);
    assert_eq!(guarded.delete(&guarded.service.proxy()).await.status, 200);
    assert_eq!(guarded.service.link(&guarded.guard).await.status, 200);
    assert_eq!(guarded.delete(&guarded.instance).await.status, 403, "linked anew, locked anew");
}

#[tokio::test]
async fn a_vault_leaves_its_guard_for_another_one_only_with_a_right_on_the_first() {
    let guarded = Guarded::start().await;
    let service = &guarded.service;
    let other = service.make_guard("other").await;
    service.assign(MUA_OPERATOR, &guarded.admin_object, &other).await;
    let body = json!({"properties": {"resourceGuardResourceId": other}});
    let leave = async || service.send(&guarded.admin, Method::PUT, &service.proxy(), Some(&body)).await;
    let operation = CriticalOperation::RemoveGuard;
    refused(&leave().await, operation, &operation.request_id(&guarded.guard));
    service.assign(MUA_OPERATOR, &guarded.admin_object, &guarded.guard).await;
    assert_eq!(guarded.attempt(operation, "").await.status, 200);
    let left = leave().await;
    assert_eq!((left.status, &left.json()["properties"]["resourceGuardResourceId"]), (200, &json!(other)));
}

#[tokio::test]
async fn only_what_is_in_the_vault_can_be_unlocked() {
    let guarded = Guarded::start().await;
    guarded.service.assign(MUA_OPERATOR, &guarded.admin_object, &guarded.guard).await;
    let path = format!("{}/unlockDelete", guarded.service.proxy());
    let list = json!([CriticalOperation::DeleteInstance.request_id(&guarded.guard)]);
    let unlock = async |path: &str, body: Value| {
        let answer = guarded.service.send(&guarded.admin, Method::POST, path, Some(&body)).await;
        (answer.status, answer.code())
    };
    let none = format!("{}/backupInstances/none", guarded.service.vault());
    let elsewhere = guarded.instance.replace("testBkpVault", "otherVault");
    for resource in [none, elsewhere, guarded.service.vault(), guarded.guard.clone(), "x".to_owned()] {
        let body = json!({"resourceGuardOperationRequests": list, "resourceToBeDeleted": resource});
        assert_eq!(unlock(&path, body).await, (400, "UserErrorInvalidResourceUriInRequest".to_owned()), "{resource}");
    }
    let proxy = json!({"resourceGuardOperationRequests": list, "resourceToBeDeleted": guarded.service.proxy()});
    assert_eq!(unlock(&path, proxy).await.0, 403, "the request of another operation");
    for body in [json!([]), json!({"resourceGuardOperationRequests": "x"})] {
        assert_eq!(unlock(&path, body).await, (400, "UserErrorInvalidParameterInRequest".to_owned()));
    }
    let unlinked = path.replace("DppResourceGuardProxy", "other");
    assert_eq!(unlock(&unlinked, json!({"resourceGuardOperationRequests": list})).await.0, 404);
}
