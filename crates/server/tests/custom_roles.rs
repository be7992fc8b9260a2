//! Roles that somebody made: what they allow, who may make and change them, and who learns of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use common::Service;
use serde_json::{Value, json};
use uuid::Uuid;

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";

fn definition(scope: &str, guid: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{guid}")
}

fn body(name: &str, actions: &[&str], not_actions: &[&str], scopes: &[&str]) -> Value {
    json!({ "properties": {
        "roleName": name,
        "description": "made by a test",
        "type": "CustomRole",
        "permissions": [{ "actions": actions, "notActions": not_actions, "dataActions": [], "notDataActions": [] }],
        "assignableScopes": scopes,
    }})
}

/// A role of that name, with the right to read groups, assignable at these scopes; gives its GUID.
async fn make(service: &Service, name: &str, scopes: &[&str]) -> String {
    let guid = Uuid::new_v4().to_string();
    let wanted = body(name, &["Microsoft.Resources/subscriptions/resourceGroups/read"], &[], scopes);
    service.put(&definition(scopes[0], &guid), wanted).await.expect(201);
    guid
}

fn names(list: &Value) -> Vec<&str> {
    list["value"].as_array().unwrap().iter().map(|role| role["properties"]["roleName"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_custom_role_allows_what_it_says_and_a_change_of_it_holds_at_once() {
    let service = Service::start().await;
    let (mine, other) = (service.group("mine").await, service.group("other").await);
    let (object_id, token) = service.principal("somebody").await;
    let path = definition(&service.subscription(), &Uuid::new_v4().to_string());
    let groups = "Microsoft.Resources/subscriptions/resourceGroups/read";
    let wanted = body("Keeper", &[groups, "Microsoft.Storage/storageAccounts/*"], &["*/Delete"], &[&mine, &other]);
    let made = service.put(&path, wanted).await.expect(201);
    service.assign(&object_id, made.body["name"].as_str().unwrap(), &mine).await;

    let account = |group: &str| format!("{group}/providers/Microsoft.Storage/storageAccounts/kept");
    let new_account = Some(json!({ "location": "westus" }));
    service.call_as(&token, "GET", &mine, None).await.expect(200);
    service.call_as(&token, "PUT", &account(&mine), new_account.clone()).await.expect(200);
    service.call_as(&token, "DELETE", &account(&mine), None).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "PUT", &account(&other), new_account.clone()).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "PATCH", &mine, Some(json!({}))).await.refused(403, "AuthorizationFailed");
    let seen = service.call_as(&token, "GET", &format!("{}/resourceGroups", service.subscription()), None).await;
    assert_eq!(seen.body["value"].as_array().unwrap().len(), 1, "{}", seen.text);

    service.put(&path, body("Keeper", &[groups], &[], &[&mine])).await.expect(201);
    service.call_as(&token, "PUT", &account(&mine), new_account).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "GET", &mine, None).await.expect(200);
}

#[tokio::test]
async fn a_definition_is_made_read_listed_changed_and_removed() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let subscription = service.subscription();
    let guid = Uuid::new_v4().to_string();
    let path = definition(&subscription, &guid);
    let wanted = body("Auditor of Backups", &["*/read"], &["*/secret/read"], &[&group]);
    let made = service.put(&definition(&group, &guid.to_uppercase()), wanted.clone()).await.expect(201).body;
    assert_eq!((&made["id"], &made["name"]), (&json!(path), &json!(guid)));
    assert_eq!(made["type"], "Microsoft.Authorization/roleDefinitions");
    for member in ["roleName", "description", "type", "permissions", "assignableScopes"] {
        assert_eq!(made["properties"][member], wanted["properties"][member], "{member}");
    }
    for seen_from in
        [subscription.as_str(), &group, &format!("{group}/providers/Microsoft.Storage/storageAccounts/a"), ""]
    {
        let got = service.get(&definition(seen_from, &guid)).await.expect(200);
        assert_eq!(got.body["properties"], made["properties"], "{seen_from}");
    }

    let base = format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions");
    let listed = |filter: &str| {
        let path = format!("{base}?$filter={filter}");
        let service = &service;
        async move { service.get(&path).await.expect(200).body }
    };
    assert_eq!(names(&listed("type%20eq%20'CustomRole'").await), ["Auditor of Backups"]);
    assert_eq!(names(&listed("roleName%20eq%20'auditor%20of%20backups'").await), ["Auditor of Backups"]);
    let everything = listed("").await;
    assert!(names(&everything).contains(&"Auditor of Backups") && names(&everything).contains(&"Owner"));
    let built_in = listed("type%20eq%20'BuiltInRole'").await;
    assert_eq!(names(&built_in).len() + 1, names(&everything).len());
    let at_scope = listed("atScope()").await;
    assert!(!names(&at_scope).contains(&"Auditor of Backups"), "it may be given in the group only");
    assert!(names(&listed("atScopeAndBelow()").await).contains(&"Auditor of Backups"));

    let changed = service.put(&path, body("Auditor", &["*"], &[], &[&subscription])).await.expect(201).body;
    assert_eq!(changed["properties"]["createdOn"], made["properties"]["createdOn"]);
    assert_eq!(changed["properties"]["roleName"], "Auditor");
    assert!(names(&listed("atScope()").await).contains(&"Auditor"));

    let removed = service.call("DELETE", &path, None).await.expect(200);
    assert_eq!(removed.body["properties"]["roleName"], "Auditor");
    service.get(&path).await.refused(404, "RoleDefinitionDoesNotExist");
    service.call("DELETE", &path, None).await.expect(204);
}

#[tokio::test]
async fn definitions_need_a_token_and_a_right() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let path = definition(&group, &make(&service, "Looker", &[&group]).await);
    let list = format!("{group}/providers/Microsoft.Authorization/roleDefinitions");
    let (_, stranger) = service.principal("stranger").await;
    let (contributor_id, contributor) = service.principal("contributor").await;
    service.assign(&contributor_id, CONTRIBUTOR, &group).await;
    let (admin_id, admin) = service.principal("admin").await;
    service.assign(&admin_id, USER_ACCESS_ADMINISTRATOR, &group).await;
    let wanted = body("Looker", &["*/read"], &[], &[&group]);
    for (method, path, body) in
        [("GET", &list, None), ("GET", &path, None), ("PUT", &path, Some(wanted)), ("DELETE", &path, None)]
    {
        service.call_as("", method, path, body.clone()).await.refused(401, "AuthenticationFailed");
        service.call_as(&stranger, method, path, body.clone()).await.refused(403, "AuthorizationFailed");
        let got = service.call_as(&contributor, method, path, body.clone()).await;
        assert_eq!(got.status, if method == "GET" { 200 } else { 403 }, "{method} {path}: {}", got.text);
        let got = service.call_as(&admin, method, path, body).await;
        assert_eq!(got.status, if method == "PUT" { 201 } else { 200 }, "{method} {path}: {}", got.text);
    }
}

#[tokio::test]
async fn who_has_no_right_at_every_scope_of_a_role_neither_changes_it_nor_learns_its_scopes() {
    let service = Service::start().await;
    let (mine, secret) = (service.group("mine").await, service.group("secret").await);
    let (object_id, token) = service.principal("admin-of-mine").await;
    service.assign(&object_id, USER_ACCESS_ADMINISTRATOR, &mine).await;
    let shared = make(&service, "Shared", &[&mine, &secret]).await;
    let hidden = make(&service, "Hidden", &[&secret]).await;

    let wanted = |scopes: &[&str]| Some(body("Mine", &["*/read"], &[], scopes));
    let new = definition(&mine, &Uuid::new_v4().to_string());
    let got = service.call_as(&token, "PUT", &new, wanted(&[&mine, &secret])).await;
    let absent = secret.replace("secret", "no-such-group");
    let same = service.call_as(&token, "PUT", &new, wanted(&[&mine, &absent])).await;
    assert_eq!(got.text.replace("/secret", "/no-such-group"), same.text, "whether the scope exists is not told");
    got.refused(403, "LinkedAuthorizationFailed");
    service.get(&new).await.refused(404, "RoleDefinitionDoesNotExist");
    service.call_as(&token, "PUT", &new, wanted(&[&mine])).await.expect(201);

    let seen = service.call_as(&token, "GET", &definition(&mine, &shared), None).await.expect(200);
    assert_eq!(seen.body["properties"]["assignableScopes"], json!([mine]));
    for (method, body) in [("PUT", wanted(&[&mine])), ("DELETE", None)] {
        let got = service.call_as(&token, method, &definition(&mine, &shared), body).await;
        assert!(!got.text.contains("secret"), "{}", got.text);
        got.refused(403, "AuthorizationFailed");
    }
    let whole = service.get(&definition(&mine, &shared)).await.expect(200);
    assert_eq!(whole.body["properties"]["assignableScopes"], json!([mine, secret]), "the owner sees all");
    assert_eq!(whole.body["properties"]["roleName"], "Shared");

    let path = definition(&mine, &hidden);
    service.call_as(&token, "GET", &path, None).await.refused(404, "RoleDefinitionDoesNotExist");
    service.call_as(&token, "DELETE", &path, None).await.expect(204);
    let list = format!("{mine}/providers/Microsoft.Authorization/roleDefinitions");
    let list = service.call_as(&token, "GET", &list, None).await.expect(200);
    assert!(!list.text.contains("Hidden") && !list.text.contains("secret") && list.text.contains("Shared"));
    let assignment = format!("{mine}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::new_v4());
    let given = |role: &str| {
        Some(json!({ "properties": { "roleDefinitionId": definition("", role), "principalId": object_id } }))
    };
    let refused = service.call_as(&token, "PUT", &assignment, given(&hidden)).await;
    refused.refused(404, "RoleDefinitionDoesNotExist");
    service.get(&definition(&secret, &hidden)).await.expect(200);
}

#[tokio::test]
async fn a_role_is_given_where_it_may_be_and_stays_while_somebody_has_it() {
    let service = Service::start().await;
    let (one, two) = (service.group("one").await, service.group("two").await);
    let role = make(&service, "Given", &[&one, &two]).await;
    let (object_id, _) = service.principal("somebody").await;
    let path =
        format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", service.subscription(), Uuid::new_v4());
    let wanted = json!({ "properties": { "roleDefinitionId": definition("", &role), "principalId": object_id } });
    service.put(&path, wanted).await.refused(400, "RoleAssignmentScopeNotAssignableToRoleDefinition");
    let account = format!("{one}/providers/Microsoft.Storage/storageAccounts/a");
    let assignment = service.assign(&object_id, &role.to_uppercase(), &account).await;
    let got = service.get(&assignment).await.expect(200);
    assert!(got.body["properties"]["roleDefinitionId"].as_str().unwrap().ends_with(&role), "{}", got.text);

    let change = |scopes: &[&str]| body("Given", &["*/read"], &[], scopes);
    let path = definition(&one, &role);
    service.call("DELETE", &path, None).await.refused(400, "RoleDefinitionHasAssignments");
    service.put(&path, change(&[&two])).await.refused(400, "RoleDefinitionHasAssignments");
    service.put(&path, change(&[&one])).await.expect(201);
    service.call("DELETE", &assignment, None).await.expect(200);
    service.put(&path, change(&[&two])).await.expect(201);
    service.call("DELETE", &definition(&two, &role), None).await.expect(200);
}

#[tokio::test]
async fn definitions_that_make_no_sense_change_nothing() {
    let service = Service::start().await;
    let group = service.group("g").await;
    make(&service, "Taken", &[&group]).await;
    let guid = Uuid::new_v4().to_string();
    let good = |name: &str| body(name, &["*/read"], &[], &[&group]);
    for (guid, wanted, status, code) in [
        ("not-a-guid", good("New"), 400, "InvalidRoleDefinitionId"),
        (OWNER, good("New"), 409, "RoleDefinitionExists"),
        (&guid, good("taken"), 409, "RoleDefinitionWithSameNameExists"),
        (&guid, good("backup reader"), 409, "RoleDefinitionWithSameNameExists"),
        (&guid, good(""), 400, "RoleDefinitionNameNullOrEmpty"),
        (&guid, body("New", &["*/read"], &[], &[]), 400, "MissingAssignableScopes"),
        (&guid, body("New", &["*/read"], &[], &["/"]), 400, "LinkedInvalidPropertyId"),
        (&guid, body("New", &["read"], &[], &[&group]), 400, "InvalidActionOrNotAction"),
        (&guid, json!({ "properties": "x" }), 400, "InvalidRequestContent"),
        (&guid, json!([]), 400, "InvalidRequestContent"),
    ] {
        service.put(&definition(&group, guid), wanted).await.refused(status, code);
    }
    service.call("DELETE", &definition(&group, OWNER), None).await.refused(409, "RoleDefinitionExists");
    service.get(&definition(&group, &guid)).await.refused(404, "RoleDefinitionDoesNotExist");
    let list = format!("{group}/providers/Microsoft.Authorization/roleDefinitions?$filter=type%20eq%20'CustomRole'");
    assert_eq!(names(&service.get(&list).await.expect(200).body), ["Taken"]);
}
