//! Resource guards and the links of vaults to them: what is kept, what is answered, and who may see and change it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service};

pub(crate) const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
pub(crate) const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
pub(crate) const MUA_ADMIN: &str = "c2a970b4-16a7-4a51-8c84-8a8ea6ee0bb8";
pub(crate) const MUA_OPERATOR: &str = "f54b6d04-23c6-443e-b462-9c16ab7b4a52";
const RESTORE: &str = "Microsoft.DataProtection/backupVaults/backupInstances/restore/action";

impl Service {
    fn security_group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/SecurityRG", self.subscription)
    }

    pub(crate) fn guard(&self, name: &str) -> String {
        format!("{}/providers/Microsoft.DataProtection/resourceGuards/{name}", self.security_group())
    }

    /// A guard in a resource group of its own; gives its id.
    pub(crate) async fn make_guard(&self, name: &str) -> String {
        let group = self.put(&self.security_group(), json!({"location": "westus"})).await;
        assert!(group.status < 300, "{group:?}");
        let answer = self.put(&self.guard(name), json!({"location": "westus"})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.guard(name)
    }

    pub(crate) fn proxy(&self) -> String {
        format!("{}/backupResourceGuardProxies/DppResourceGuardProxy", self.vault())
    }

    pub(crate) async fn link(&self, guard: &str) -> Answer {
        self.put(&self.proxy(), json!({"properties": {"resourceGuardResourceId": guard}})).await
    }

    /// Changes which operations the guard does not protect.
    pub(crate) async fn exclude(&self, guard: &str, names: &[&str]) -> Answer {
        let properties = json!({"vaultCriticalOperationExclusionList": names});
        self.put(guard, json!({"location": "westus", "properties": properties})).await
    }
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

fn names(answer: &Answer) -> Vec<Value> {
    let body = answer.json();
    let values = body["value"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    values.iter().map(|value| value["name"].clone()).collect()
}

#[tokio::test]
async fn a_guard_is_made_read_changed_and_removed() {
    let service = Service::start().await;
    let id = service.make_guard("guard").await;
    let made = service.get(&id).await.json();
    assert_eq!(made["id"], json!(id));
    assert_eq!(made["type"], "Microsoft.DataProtection/resourceGuards");
    assert_eq!(made["properties"]["resourceGuardOperations"].as_array().map(Vec::len), Some(18));
    assert_eq!(made["properties"]["vaultCriticalOperationExclusionList"], json!([]));

    let fewer = service.exclude(&id.to_lowercase(), &[&RESTORE.to_uppercase()]).await.json();
    assert_eq!(fewer["id"], json!(id), "ids keep their spelling");
    assert_eq!(fewer["properties"]["resourceGuardOperations"].as_array().map(Vec::len), Some(17));
    let tagged = service.put(&id, json!({"location": "West US", "tags": {"a": "b"}})).await.json();
    assert_eq!(tagged["tags"], json!({"a": "b"}));
    let kept = &tagged["properties"]["vaultCriticalOperationExclusionList"];
    assert_eq!(kept, &json!([RESTORE]), "a PUT that does not name the list leaves it");
    let patched = service.patch(&id, json!({"tags": {"c": "d"}, "location": "elsewhere"})).await;
    assert_eq!((patched.status, &patched.json()["tags"]), (200, &json!({"c": "d"})));
    assert_eq!(service.patch(&id, json!({})).await.text, patched.text);
    let emptied = service.exclude(&id, &[]).await.json();
    assert_eq!(emptied["properties"]["vaultCriticalOperationExclusionList"], json!([]));

    let group = service.delete(&id.replace("/providers/Microsoft.DataProtection/resourceGuards/guard", "")).await;
    assert_eq!(refused(&group), (409, "ResourceGroupNotEmpty".to_owned()));
    let removed = service.delete(&id).await;
    assert_eq!((removed.status, removed.text.as_str()), (200, ""));
    assert_eq!((service.delete(&id).await.status, service.get(&id).await.status), (204, 404));
}

#[tokio::test]
async fn a_guard_needs_a_place_and_cannot_leave_out_what_is_mandatory() {
    let service = Service::start().await;
    let id = service.make_guard("guard").await;
    let before = service.get(&id).await.text;
    let excluding =
        |names: Value| json!({"location": "westus", "properties": {"vaultCriticalOperationExclusionList": names}});
    let parameter = "UserErrorInvalidParameterInRequest";
    for (path, body, status, code) in [
        (service.guard("other"), json!({}), 400, "LocationRequired"),
        (service.guard("other"), json!([]), 400, parameter),
        (service.guard("a%3Cb"), json!({"location": "westus"}), 400, "InvalidResourceName"),
        (id.replace("SecurityRG", "NoSuchGroup"), json!({"location": "westus"}), 404, "ResourceGroupNotFound"),
        (id.clone(), json!({"location": "eastus"}), 409, "InvalidResourceLocation"),
        (id.clone(), excluding(json!(["restore"])), 400, parameter),
        (id.clone(), excluding(json!(RESTORE)), 400, parameter),
        (
            id.clone(),
            excluding(json!([RESTORE, "Microsoft.DataProtection/backupVaults/write#reduceSoftDeleteSecurity"])),
            400,
            parameter,
        ),
        (
            id.clone(),
            excluding(json!(["Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete"])),
            400,
            parameter,
        ),
    ] {
        let answer = service.put(&path, body.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {body}");
    }
    assert_eq!(service.get(&id).await.text, before, "what is refused changes nothing");
}

#[tokio::test]
async fn guards_are_listed_to_those_who_may_read_them() {
    let service = Service::start().await;
    let mine = service.make_guard("mine").await;
    service.make_guard("other").await;
    let (token, object) = service.stranger("reader").await;
    service.assign(READER, &object, &mine).await;
    let in_group = mine.rsplit_once('/').unwrap().0.to_owned();
    let in_subscription =
        format!("/subscriptions/{}/providers/Microsoft.DataProtection/resourceGuards", service.subscription);
    for path in [in_group, in_subscription] {
        assert_eq!(names(&service.get(&path).await), ["mine", "other"]);
        assert_eq!(names(&service.send(&token, Method::GET, &path, None).await), ["mine"]);
    }
    assert_eq!(service.send(&token, Method::GET, &mine, None).await.status, 200);
    for (method, path) in [(Method::GET, service.guard("other")), (Method::PUT, mine.clone()), (Method::DELETE, mine)] {
        let answer = service.send(&token, method.clone(), &path, Some(&json!({"location": "westus"}))).await;
        assert_eq!(refused(&answer), (403, "AuthorizationFailed".to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn each_type_of_requests_holds_one_object() {
    let service = Service::start().await;
    let guard = service.make_guard("guard").await;
    for kind in [
        "deleteProtectedItemRequests",
        "deleteResourceGuardProxyRequests",
        "disableSoftDeleteRequests",
        "getBackupSecurityPINRequests",
        "updateProtectedItemRequests",
        "updateProtectionPolicyRequests",
        "deleteBackupInstanceRequests",
        "dppModifyPolicy",
        "dppTriggerRestoreRequests",
    ] {
        let expected = json!({"id": format!("{guard}/{kind}/default"), "name": "default",
            "type": format!("Microsoft.DataProtection/resourceGuards/{kind}")});
        let list = service.get(&format!("{guard}/{}", kind.to_lowercase())).await;
        assert_eq!(list.json(), json!({"value": [expected]}), "{list:?}");
        assert_eq!(service.get(&format!("{guard}/{kind}/Default")).await.json(), expected);
        let other = service.get(&format!("{guard}/{kind}/other")).await;
        assert_eq!(refused(&other), (404, "ResourceNotFound".to_owned()), "{kind}");
        let nowhere = service.get(&format!("{}/{kind}", service.guard("none"))).await;
        assert_eq!(refused(&nowhere), (404, "ResourceNotFound".to_owned()), "{kind}");
    }
    for path in ["eatCakeRequests", "eatCakeRequests/default"] {
        let unknown = service.get(&format!("{guard}/{path}")).await;
        assert_eq!(refused(&unknown), (404, "InvalidResourceType".to_owned()), "{path}");
    }
    let (token, object) = service.stranger("operator").await;
    let path = format!("{guard}/disableSoftDeleteRequests/default");
    assert_eq!(service.send(&token, Method::GET, &path, None).await.code(), "AuthorizationFailed");
    service.assign(MUA_OPERATOR, &object, &guard).await;
    assert_eq!(service.send(&token, Method::GET, &path, None).await.status, 200);
}

#[tokio::test]
async fn a_vault_is_linked_to_one_guard_and_shows_it() {
    let service = Service::start().await;
    service.make_vault("testBkpVault").await;
    let guard = service.make_guard("guard").await;
    let shows = async |expected: bool| {
        let vault = service.get(&service.vault()).await.json();
        assert_eq!(vault["properties"]["isVaultProtectedByResourceGuard"], expected);
        vault["properties"]["secureScore"].clone()
    };
    shows(false).await;
    let linked = service.link(&guard.to_lowercase()).await;
    assert_eq!(linked.status, 200, "{linked:?}");
    let proxy = linked.json();
    assert_eq!((&proxy["id"], &proxy["name"]), (&json!(service.proxy()), &json!("DppResourceGuardProxy")));
    assert_eq!(proxy["type"], "Microsoft.DataProtection/vaults/backupResourceGuardProxies");
    assert_eq!(proxy["properties"]["resourceGuardResourceId"], json!(guard), "the guard's own spelling");
    let details = proxy["properties"]["resourceGuardOperationDetails"].as_array().unwrap();
    assert_eq!(details.len(), 9);
    assert_eq!(details[0]["defaultResourceRequest"], json!(format!("{guard}/deleteBackupInstanceRequests/default")));
    assert_eq!(shows(true).await, "Minimum");
    let safest = json!({"properties": {"securitySettings": {
        "softDeleteSettings": {"state": "AlwaysOn"}, "immutabilitySettings": {"state": "Locked"}}}});
    let vault = service.patch(&service.vault(), safest).await.json();
    assert_eq!(vault["properties"]["secureScore"], "Maximum");
    assert_eq!(vault["properties"]["bcdrSecurityLevel"], "Excellent");

    service.exclude(&guard, &[RESTORE]).await;
    let fewer = service.get(&service.proxy().to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions")).await.json();
    assert_eq!(fewer["properties"]["resourceGuardOperationDetails"].as_array().map(Vec::len), Some(8));
    let list = service.get(&format!("{}/backupResourceGuardProxies", service.vault())).await;
    assert_eq!(list.json()["value"], json!([fewer]));
    let again = json!({"properties": {"resourceGuardResourceId": guard, "description": "ask Ann"}});
    let again = service.put(&service.proxy(), again).await.json();
    assert_eq!(again["properties"]["description"], "ask Ann");
    let second = format!("{}/backupResourceGuardProxies/second", service.vault());
    let refusal = service.put(&second, json!({"properties": {"resourceGuardResourceId": guard}})).await;
    assert_eq!(refused(&refusal), (409, "Conflict".to_owned()));
    assert_eq!((service.get(&second).await.status, service.delete(&second).await.status), (404, 204));
}

#[tokio::test]
async fn nothing_that_a_link_holds_together_can_be_removed() {
    let service = Service::start().await;
    service.make_vault("testBkpVault").await;
    let guard = service.make_guard("guard").await;
    service.link(&guard).await;
    let refusal = service.delete(&guard).await;
    assert_eq!(refused(&refusal), (409, "Conflict".to_owned()));
    assert!(refusal.text.contains(&service.vault()), "{}", refusal.text);
    let refusal = service.delete(&service.vault()).await;
    assert_eq!(refused(&refusal), (409, "UserErrorVaultNotEmpty".to_owned()));
    assert!(refusal.text.contains("the resource guard proxy DppResourceGuardProxy"), "{}", refusal.text);
    assert_eq!(refused(&service.delete(&service.proxy()).await), (403, "LinkedAuthorizationFailed".to_owned()));
    assert_eq!(service.get(&service.proxy()).await.status, 200);
}

#[tokio::test]
async fn links_lead_to_guards_that_exist_and_that_the_caller_may_read() {
    let service = Service::start().await;
    service.make_vault("testBkpVault").await;
    let guard = service.make_guard("guard").await;
    let uri = "UserErrorInvalidResourceUriInRequest";
    for (path, id, status, code) in [
        (service.proxy(), json!(service.guard("none")), 400, uri),
        (service.proxy(), json!(service.vault()), 400, uri),
        (service.proxy(), json!(null), 400, uri),
        (service.proxy(), json!(7), 400, "UserErrorInvalidParameterInRequest"),
        (format!("{}-1", service.proxy()), json!(guard), 400, "InvalidResourceName"),
        (service.proxy().replace("testBkpVault/", "none/"), json!(guard), 404, "ResourceNotFound"),
    ] {
        let answer = service.put(&path, json!({"properties": {"resourceGuardResourceId": id}})).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {id}");
    }
    let (token, object) = service.stranger("vault-admin").await;
    service.assign(CONTRIBUTOR, &object, &service.vault()).await;
    let body = json!({"properties": {"resourceGuardResourceId": guard}});
    let blind = service.send(&token, Method::PUT, &service.proxy(), Some(&body)).await;
    assert_eq!(refused(&blind), (403, "LinkedAuthorizationFailed".to_owned()));
    service.assign(READER, &object, &guard).await;
    assert_eq!(service.send(&token, Method::PUT, &service.proxy(), Some(&body)).await.status, 200);
}

#[tokio::test]
async fn the_admins_role_makes_guards_and_the_operators_does_not() {
    let service = Service::start().await;
    let guard = service.make_guard("guard").await;
    let (admin, admin_object) = service.stranger("admin").await;
    let (operator, operator_object) = service.stranger("operator").await;
    let group = format!("/subscriptions/{}/resourceGroups/SecurityRG", service.subscription);
    service.assign(MUA_ADMIN, &admin_object, &group).await;
    service.assign(MUA_OPERATOR, &operator_object, &group).await;
    let body = json!({"location": "westus"});
    let new = service.guard("new");
    for (method, path, status) in
        [(Method::PUT, &new, 200), (Method::PATCH, &new, 200), (Method::GET, &guard, 200), (Method::DELETE, &new, 200)]
    {
        let answer = service.send(&admin, method.clone(), path, Some(&body)).await;
        assert_eq!(answer.status, status, "{method} {answer:?}");
        let answer = service.send(&operator, method.clone(), path, Some(&body)).await;
        let expected = if method == Method::GET { 200 } else { 403 };
        assert_eq!(answer.status, expected, "{method} {answer:?}");
    }
}
