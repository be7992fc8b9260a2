//! Roles: who may do what, decided before anybody looks whether the thing exists.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use common::Service;
use serde_json::json;

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const BACKUP_CONTRIBUTOR_OF_ACCOUNTS: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";

fn assignment_body(role: &str, principal: &str) -> serde_json::Value {
    let definition = format!("/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/{role}");
    json!({ "properties": { "roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal" } })
}

#[tokio::test]
async fn without_a_role_nothing_is_told_apart() {
    let service = Service::start().await;
    let group = service.group("secret-group").await;
    let (object_id, token) = service.principal("nobody").await;
    let missing = group.replace("secret-group", "no-such-group");
    for path in [&group, &missing] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let body = (method == "PUT").then(|| json!({ "location": "westus" }));
            let got = service.call_as(&token, method, path, body).await.refused(403, "AuthorizationFailed");
            let message = got.body["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!("with object id '{object_id}'")), "{message}");
            assert!(message.contains("action 'Microsoft.Resources/subscriptions/resourceGroups/"), "{message}");
            assert!(message.contains(&format!("over scope '{path}'")), "{message}");
        }
    }
    let subscriptions = service.call_as(&token, "GET", "/subscriptions", None).await.expect(200);
    assert_eq!(subscriptions.body, json!({ "value": [] }));
    service.call_as(&token, "GET", &service.subscription(), None).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "GET", "/subscriptions/other", None).await.refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn a_role_at_a_group_reaches_what_lies_in_it_and_no_further() {
    let service = Service::start().await;
    let (mine, other) = (service.group("mine").await, service.group("other").await);
    let (object_id, token) = service.principal("reader").await;
    let assignment = service.assign(&object_id, READER, &mine).await;
    service.call_as(&token, "GET", &mine.to_uppercase(), None).await.expect(200);
    service.call_as(&token, "GET", &other, None).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "DELETE", &mine, None).await.refused(403, "AuthorizationFailed");
    let account = format!("{mine}/providers/Microsoft.Storage/storageAccounts/absent");
    service.call_as(&token, "GET", &account, None).await.refused(404, "ResourceNotFound");
    let groups =
        service.call_as(&token, "GET", &format!("{}/resourceGroups", service.subscription()), None).await.expect(200);
    assert_eq!(groups.body["value"].as_array().unwrap().len(), 1);
    assert_eq!(groups.body["value"][0]["name"], "mine");
    let subscriptions = service.call_as(&token, "GET", "/subscriptions", None).await.expect(200);
    assert_eq!(subscriptions.body["value"][0]["subscriptionId"], service.env.subscription_id);

    service.call("DELETE", &assignment, None).await.expect(200);
    service.call_as(&token, "GET", &mine, None).await.refused(403, "AuthorizationFailed");
    service.call("DELETE", &assignment, None).await.expect(204);
}

#[tokio::test]
async fn a_contributor_cannot_give_roles_away() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let (object_id, token) = service.principal("contributor").await;
    service.assign(&object_id, CONTRIBUTOR, &group).await;
    let path = format!("{group}/providers/Microsoft.Authorization/roleAssignments/{}", uuid::Uuid::new_v4());
    service
        .call_as(&token, "PUT", &path, Some(assignment_body(OWNER, &object_id)))
        .await
        .refused(403, "AuthorizationFailed");
    service.call_as(&token, "PATCH", &group, Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    service
        .call_as(&token, "PUT", "/providers/Blobkeep.Identity/servicePrincipals/x", None)
        .await
        .refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn assignments_are_made_once_found_and_removed() {
    let service = Service::start().await;
    let group = service.group("RG-Blob").await;
    let (object_id, _) = service.principal("vault-like").await;
    let scope = format!("{group}/providers/Microsoft.Storage/storageAccounts/msblobbackup");
    let path = service.assign(&object_id, BACKUP_CONTRIBUTOR_OF_ACCOUNTS, &scope).await;
    let got = service.get(&path).await.expect(200);
    assert_eq!(got.body["id"], path);
    assert_eq!(got.body["type"], "Microsoft.Authorization/roleAssignments");
    assert_eq!(got.body["properties"]["scope"], scope);
    assert_eq!(got.body["properties"]["principalId"], object_id);
    let definition = got.body["properties"]["roleDefinitionId"].as_str().unwrap();
    assert!(
        definition
            .ends_with(&format!("/providers/Microsoft.Authorization/roleDefinitions/{BACKUP_CONTRIBUTOR_OF_ACCOUNTS}"))
    );

    let again =
        format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", scope.to_uppercase(), uuid::Uuid::new_v4());
    let body = assignment_body(BACKUP_CONTRIBUTOR_OF_ACCOUNTS, &object_id);
    service.put(&again, body.clone()).await.refused(409, "RoleAssignmentExists");
    service.put(&path, body).await.expect(200);
    service.put(&path, assignment_body(READER, &object_id)).await.refused(400, "RoleAssignmentUpdateNotPermitted");

    let base = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
    let count = |filter: &str| {
        let path = format!("{base}?$filter={filter}");
        let service = &service;
        async move { service.get(&path).await.expect(200).body["value"].as_array().unwrap().len() }
    };
    assert_eq!(count("").await, 2, "the owner's at / works here, too");
    assert_eq!(count("atScope()").await, 2);
    assert_eq!(count(&format!("principalId%20eq%20'{object_id}'")).await, 1);
    assert_eq!(count(&format!("assignedTo('{object_id}')")).await, 1);
    assert_eq!(count(&format!("principalId%20eq%20'{}'", uuid::Uuid::nil())).await, 0);
    service.get(&format!("{base}?$filter=color%20eq%20'red'")).await.refused(400, "InvalidFilterInQueryString");

    let below = format!("{group}/providers/Microsoft.Authorization/roleAssignments");
    assert_eq!(service.get(&below).await.body["value"].as_array().unwrap().len(), 2);
    let at = service.get(&format!("{below}?$filter=atScope()")).await;
    assert_eq!(at.body["value"].as_array().unwrap().len(), 1);
    let removed = service.call("DELETE", &path, None).await.expect(200);
    assert_eq!(removed.body["id"], path);
    service.get(&path).await.refused(404, "RoleAssignmentNotFound");
}

#[tokio::test]
async fn a_path_that_only_looks_like_a_scope_shows_and_changes_nothing() {
    let service = Service::start().await;
    let group = service.group("whole-group").await;
    let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/mine");
    let (object_id, token) = service.principal("of-the-account").await;
    service.assign(&object_id, OWNER, &account).await;
    let list = |front: &str| format!("{front}/providers/Microsoft.Authorization/roleAssignments");
    service.call_as(&token, "GET", &list(&account), None).await.expect(200);
    for front in [format!("{account}/x"), format!("{account}/blobServices")] {
        let item = format!("{}/{}", list(&front), uuid::Uuid::new_v4());
        service.call_as(&token, "GET", &list(&front), None).await.refused(400, "InvalidRequestUri");
        service.call_as(&token, "GET", &item, None).await.refused(400, "InvalidRequestUri");
        service.call_as(&token, "DELETE", &item, None).await.refused(400, "InvalidRequestUri");
        let wanted = Some(assignment_body(READER, &object_id));
        service.call_as(&token, "PUT", &item, wanted).await.refused(400, "InvalidRequestUri");
    }
    let all = service.get(&list(&group)).await.expect(200);
    assert_eq!(all.body["value"].as_array().unwrap().len(), 2, "{}", all.text);
}

#[tokio::test]
async fn assignments_that_make_no_sense_are_refused() {
    let service = Service::start().await;
    let (object_id, _) = service.principal("p").await;
    let path =
        |name: &str| format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", service.subscription());
    let guid = uuid::Uuid::new_v4().to_string();
    service.put(&path("not-a-guid"), assignment_body(READER, &object_id)).await.refused(400, "InvalidRoleAssignmentId");
    service.put(&path(&guid), assignment_body(&guid, &object_id)).await.refused(404, "RoleDefinitionDoesNotExist");
    service.put(&path(&guid), assignment_body(READER, &guid)).await.refused(400, "PrincipalNotFound");
    service.put(&path(&guid), json!({})).await.refused(400, "InvalidRequestContent");
    let mut conditional = assignment_body(READER, &object_id);
    conditional["properties"]["condition"] = json!("@Resource[x] StringEquals 'y'");
    service.put(&path(&guid), conditional).await.refused(400, "NotSupported");
}

#[tokio::test]
async fn the_last_owner_cannot_be_removed() {
    let service = Service::start().await;
    let root = "/providers/Microsoft.Authorization/roleAssignments";
    let all = service.get(&format!("{root}?$filter=atScope()")).await.expect(200);
    let first = all.body["value"][0]["id"].as_str().unwrap().to_owned();
    service.call("DELETE", &first, None).await.refused(409, "LastOwnerCannotBeRemoved");
    let (object_id, token) = service.principal("second-owner").await;
    service.assign(&object_id, OWNER, "/").await;
    service.call("DELETE", &first, None).await.expect(200);
    service.call("GET", &format!("{root}?$filter=atScope()"), None).await.refused(403, "AuthorizationFailed");
    service.call_as(&token, "GET", root, None).await.expect(200);
}

#[tokio::test]
async fn role_definitions_have_azures_ids() {
    let service = Service::start().await;
    let base = format!("{}/providers/Microsoft.Authorization/roleDefinitions", service.subscription());
    let by_name = service
        .get(&format!("{base}?$filter=roleName%20eq%20'Storage%20Account%20Backup%20Contributor'"))
        .await
        .expect(200);
    let found = by_name.body["value"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["name"], BACKUP_CONTRIBUTOR_OF_ACCOUNTS);
    assert_eq!(found[0]["id"], format!("{base}/{BACKUP_CONTRIBUTOR_OF_ACCOUNTS}"));
    assert_eq!(found[0]["properties"]["type"], "BuiltInRole");
    assert!(found[0]["properties"]["permissions"][0]["actions"].as_array().unwrap().len() > 10);
    let one = service.get(&format!("{base}/{OWNER}")).await.expect(200);
    assert_eq!(one.body["properties"]["roleName"], "Owner");
    service.get(&format!("{base}/{}", uuid::Uuid::nil())).await.refused(404, "RoleDefinitionDoesNotExist");
    let all = service.get(&base).await.expect(200).body["value"].as_array().unwrap().len();
    let built_in = service.get(&format!("{base}?$filter=type%20eq%20'BuiltInRole'")).await;
    assert_eq!(built_in.body["value"].as_array().unwrap().len(), all);
    let custom = service.get(&format!("{base}?$filter=type%20eq%20'CustomRole'")).await.expect(200);
    assert_eq!(custom.body, json!({ "value": [] }));
}

#[tokio::test]
async fn a_secret_is_told_once_and_can_be_renewed() {
    let service = Service::start().await;
    let path = "/providers/Blobkeep.Identity/servicePrincipals/app";
    let made = service.call("PUT", path, None).await.expect(201);
    let secret = made.body["properties"]["secret"].as_str().unwrap().to_owned();
    let id = made.body["properties"]["appId"].as_str().unwrap().to_owned();
    for got in [service.call("PUT", path, None).await.expect(200), service.get(path).await.expect(200)] {
        assert!(!got.text.contains(&secret) && got.body["properties"]["appId"] == id.as_str());
    }
    let list = service.get("/providers/Blobkeep.Identity/servicePrincipals").await.expect(200);
    assert!(list.body["value"].as_array().unwrap().len() == 2 && !list.text.contains("secret\""));
    let renewed = service.call("POST", &format!("{path}/resetSecret"), None).await.expect(200);
    let renewed = renewed.body["properties"]["secret"].as_str().unwrap().to_owned();
    service.token_of(&id, &renewed).await;
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=x");
    service.ask_token(&form).await.expect(401);
    service.call("DELETE", path, None).await.expect(200);
    service.get(path).await.refused(404, "ResourceNotFound");
    service.call("DELETE", path, None).await.expect(204);
    service
        .call("DELETE", "/providers/Blobkeep.Identity/servicePrincipals/blobkeep-owner", None)
        .await
        .refused(409, "Conflict");
    service
        .call("PUT", "/providers/Blobkeep.Identity/servicePrincipals/a%20b", None)
        .await
        .refused(400, "InvalidResourceName");
}

#[tokio::test]
async fn the_directory_look_alike_knows_our_principals() {
    let service = Service::start().await;
    let (object_id, token) = service.principal("app").await;
    let body = json!({ "ids": [object_id, uuid::Uuid::nil().to_string()], "types": ["servicePrincipal"] }).to_string();
    let got = service.raw(&service.token, "POST", "/v1.0/directoryObjects/getByIds", Some(&body)).await.expect(200);
    assert_eq!(got.body["value"].as_array().unwrap().len(), 1);
    assert_eq!(got.body["value"][0]["displayName"], "app");
    let filter =
        format!("/v1.0/servicePrincipals?$filter=servicePrincipalNames/any(c:c%20eq%20'{}')", service.env.client_id);
    let got = service.raw(&service.token, "GET", &filter, None).await.expect(200);
    assert_eq!(got.body["value"][0]["appId"], service.env.client_id);
    let seen = service.raw(&token, "GET", "/v1.0/servicePrincipals", None).await.expect(200);
    assert_eq!(seen.body["value"].as_array().unwrap().len(), 1, "who has no role sees itself alone");
    service.raw("", "GET", "/v1.0/servicePrincipals", None).await.refused(401, "AuthenticationFailed");
}

#[tokio::test]
async fn an_assignment_is_the_same_however_its_guid_is_spelled() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let (one, _) = service.principal("one").await;
    let (other, _) = service.principal("other").await;
    let given = service.assign(&one, READER, &group).await;
    let (base, guid) = given.rsplit_once('/').unwrap();
    let spelled = format!("{base}/{}", guid.replace('-', "").to_uppercase());
    let got = service.get(&spelled).await.expect(200);
    assert_eq!(got.body["name"], guid);
    service.put(&spelled, assignment_body(READER, &one)).await.expect(200);
    service.put(&spelled, assignment_body(READER, &other)).await.refused(400, "RoleAssignmentUpdateNotPermitted");
    service.call("DELETE", &spelled, None).await.expect(200);
    service.get(&given).await.refused(404, "RoleAssignmentNotFound");
}
