//! Management locks: who may make them, what they forbid, and that they say nothing to who has no right.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use blobkeep_server::auth::{Caller, authorize};
use blobkeep_server::db;
use common::world::World;
use common::{Got, Service};
use serde_json::{Value, json};
use uuid::Uuid;

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";

fn locks(scope: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/locks")
}

fn level(level: &str) -> Value {
    json!({ "properties": { "level": level } })
}

/// Locks a scope and gives the path of the lock.
async fn lock(service: &Service, scope: &str, word: &str) -> String {
    let path = format!("{}/{}", locks(scope), word.to_lowercase());
    service.put(&path, level(word)).await.expect(201);
    path
}

/// A new storage account of that group.
async fn account(service: &Service, group: &str, name: &str) -> String {
    let path = format!("{group}/providers/Microsoft.Storage/storageAccounts/{name}");
    service.put(&path, json!({ "location": "westus" })).await.expect(200);
    path
}

/// The request was refused for a lock at that scope.
#[track_caller]
fn is_locked(got: Got, operation: &str, locked: &str) {
    let message = got.refused(409, "ScopeLocked").body["error"]["message"].as_str().unwrap().to_owned();
    let wanted = format!(
        "' cannot perform {operation} operation because following scope(s) are locked: '{locked}'. Please remove the lock and try again."
    );
    assert!(message.starts_with("The scope '/subscriptions/") && message.ends_with(&wanted), "{message}");
}

#[tokio::test]
async fn a_lock_is_made_changed_read_and_removed() {
    let service = Service::start().await;
    let group = service.group("RG-Locked").await;
    let path = format!("{}/Keep it", locks(&group)).replace(' ', "%20");
    let made =
        service.put(&path, json!({ "properties": { "level": "canNotDelete", "notes": "why" } })).await.expect(201);
    assert_eq!(
        made.body,
        json!({
            "properties": { "level": "CanNotDelete", "notes": "why" },
            "id": format!("{}/Keep it", locks(&group)),
            "type": "Microsoft.Authorization/locks",
            "name": "Keep it",
        })
    );
    assert_eq!(service.get(&path.to_uppercase()).await.expect(200).body, made.body);
    let changed = service.put(&path.to_lowercase(), level("ReadOnly")).await.expect(200);
    assert_eq!(changed.body["properties"], json!({ "level": "ReadOnly" }));
    assert_eq!(changed.body["id"], made.body["id"]);
    service.call("DELETE", &path, None).await.expect(200);
    service.call("DELETE", &path, None).await.expect(204);
    service.get(&path).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn what_must_not_be_deleted_can_be_changed_and_what_is_read_only_cannot() {
    let service = Service::start().await;
    let (group, other) = (service.group("locked").await, service.group("other").await);
    let path = account(&service, &group, "kept").await;
    let tags = || Some(json!({ "tags": { "a": "b" } }));
    let keep = lock(&service, &path, "CanNotDelete").await;
    is_locked(service.call("DELETE", &path, None).await, "delete", &path);
    is_locked(service.call("DELETE", &group, None).await, "delete", &path);
    service.call("PATCH", &path, tags()).await.expect(200);

    let freeze = lock(&service, &group, "ReadOnly").await;
    is_locked(service.call("PATCH", &path, tags()).await, "write", &group);
    is_locked(service.call("PATCH", &group, tags()).await, "write", &group);
    is_locked(service.call("POST", &format!("{path}/listKeys"), None).await, "write", &group);
    let new = format!("{group}/providers/Microsoft.DataProtection/backupVaults/new");
    is_locked(service.put(&new, json!({ "location": "westus" })).await, "write", &group);
    is_locked(service.call("DELETE", &path, None).await, "delete", &format!("{group}, {path}"));
    service.get(&path).await.expect(200);
    service.get(&new).await.refused(404, "ResourceNotFound");
    account(&service, &other, "free").await;

    service.call("DELETE", &freeze, None).await.expect(200);
    service.call("PATCH", &path, tags()).await.expect(200);
    service.call("DELETE", &keep, None).await.expect(200);
    service.call("DELETE", &path, None).await.expect(200);
    service.call("DELETE", &group, None).await.expect(200);
}

#[tokio::test]
async fn role_assignments_are_locked_with_their_scope_and_locks_are_not() {
    let service = Service::start().await;
    let group = service.group("locked").await;
    let (object_id, _) = service.principal("somebody").await;
    let given = service.assign(&object_id, READER, &group).await;
    let keep = lock(&service, &group, "CanNotDelete").await;
    is_locked(service.call("DELETE", &given, None).await, "delete", &group);
    service.assign(&object_id, CONTRIBUTOR, &group).await;
    let freeze = lock(&service, &group, "ReadOnly").await;
    let path = format!("{group}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::new_v4());
    let owner = format!("/providers/Microsoft.Authorization/roleDefinitions/{OWNER}");
    let wanted = json!({ "properties": { "roleDefinitionId": owner, "principalId": object_id } });
    is_locked(service.put(&path, wanted).await, "write", &group);
    service.call("DELETE", &freeze, None).await.expect(200);
    service.call("DELETE", &keep, None).await.expect(200);
    service.call("DELETE", &given, None).await.expect(200);
}

#[tokio::test]
async fn locks_need_a_token_and_a_right_and_say_nothing_to_who_has_none() {
    let service = Service::start().await;
    let group = service.group("locked").await;
    let path = account(&service, &group, "kept").await;
    let present = lock(&service, &group, "ReadOnly").await;
    let (_, stranger) = service.principal("stranger").await;
    let (contributor_id, contributor) = service.principal("contributor").await;
    let (admin_id, admin) = service.principal("admin").await;
    let other = service.group("other").await;
    for scope in [&other, &service.subscription()] {
        service.assign(&contributor_id, CONTRIBUTOR, scope).await;
        service.assign(&admin_id, USER_ACCESS_ADMINISTRATOR, scope).await;
    }
    for (method, path, body) in [
        ("GET", &locks(&group), None),
        ("GET", &present, None),
        ("PUT", &present, Some(level("CanNotDelete"))),
        ("DELETE", &present, None),
    ] {
        service.call_as("", method, path, body.clone()).await.refused(401, "AuthenticationFailed");
        service.call_as(&stranger, method, path, body.clone()).await.refused(403, "AuthorizationFailed");
        let got = service.call_as(&contributor, method, path, body.clone()).await;
        assert_eq!(got.status, if method == "GET" { 200 } else { 403 }, "{method} {path}: {}", got.text);
        service.call_as(&admin, method, path, body).await.expect(200);
    }
    lock(&service, &group, "ReadOnly").await;
    for (method, path) in [("DELETE", &path), ("PATCH", &group), ("DELETE", &group)] {
        service.call_as(&stranger, method, path, Some(json!({}))).await.refused(403, "AuthorizationFailed");
        is_locked(
            service.call_as(&contributor, method, path, Some(json!({}))).await,
            if method == "PATCH" { "write" } else { "delete" },
            &group,
        );
    }
}

#[tokio::test]
async fn a_list_has_the_locks_at_a_scope_and_below_and_those_above_for_who_may_read_them() {
    let service = Service::start().await;
    let group = service.group("mine").await;
    let path = account(&service, &group, "kept").await;
    account(&service, &service.group("mi_e").await, "kept").await;
    let mut all = Vec::new();
    for scope in [&service.subscription(), &group, &path] {
        all.push(lock(&service, scope, "CanNotDelete").await);
    }
    lock(&service, &group.replace("mine", "mi_e"), "CanNotDelete").await;
    let (object_id, reader) = service.principal("reader").await;
    let admin_group = service.assign(&object_id, READER, &group).await;
    let ids = |got: Got| -> Vec<String> {
        let got = got.expect(200);
        got.body["value"].as_array().unwrap().iter().map(|lock| lock["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(service.get(&locks(&group)).await), all);
    assert_eq!(ids(service.get(&format!("{}?$filter=atScope()", locks(&group))).await), all[..2]);
    assert_eq!(ids(service.call_as(&reader, "GET", &locks(&group), None).await), all[1..]);
    assert_eq!(ids(service.call_as(&reader, "GET", &locks(&path), None).await), all[1..]);
    assert_eq!(ids(service.get(&locks("")).await).len(), 4);
    service.get(&format!("{}?$filter=name%20eq%20'x'", locks(&group))).await.refused(400, "InvalidFilterInQueryString");
    is_locked(
        service.call("DELETE", &admin_group, None).await,
        "delete",
        &format!("{}, {group}", service.subscription()),
    );
}

#[tokio::test]
async fn locks_that_make_no_sense_are_refused() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let storage = format!("{group}/providers/Microsoft.Storage/storageAccounts/absent");
    let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/absent");
    let guard = format!("{group}/providers/Microsoft.DataProtection/resourceGuards/absent");
    for (scope, name, body, status, code) in [
        (group.as_str(), "l", json!({}), 400, "InvalidRequestContent"),
        (&group, "l", level("NotSpecified"), 400, "InvalidRequestContent"),
        (&group, "a:b", level("ReadOnly"), 400, "InvalidResourceName"),
        ("", "l", level("ReadOnly"), 400, "NotSupported"),
        ("/subscriptions/absent", "l", level("ReadOnly"), 404, "SubscriptionNotFound"),
        (&group.replace("/g", "/absent"), "l", level("ReadOnly"), 404, "ResourceGroupNotFound"),
        (&storage, "l", level("ReadOnly"), 404, "ResourceNotFound"),
        (&vault, "l", level("ReadOnly"), 404, "ResourceNotFound"),
        (&guard, "l", level("ReadOnly"), 404, "ResourceNotFound"),
        (&format!("{vault}/x"), "l", level("ReadOnly"), 400, "InvalidRequestUri"),
    ] {
        service.put(&format!("{}/{name}", locks(scope)), body).await.refused(status, code);
    }
    assert_eq!(service.get(&locks("")).await.expect(200).body, json!({ "value": [] }));
}

#[tokio::test]
async fn locks_go_with_what_they_stood_at() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let path = account(&service, &group, "gone").await;
    lock(&service, &path, "ReadOnly").await;
    lock(&service, &group, "ReadOnly").await;
    let (object_id, _) = service.principal("owner").await;
    service.assign(&object_id, OWNER, "/").await;
    let caller = Caller { object_id, app_id: String::new() };
    let app = service.running.app();
    let granted = authorize(app, &caller, "Microsoft.Storage/storageAccounts/delete", &path).await.unwrap();
    let mut tx = app.db.write().await.unwrap();
    db::role_assignments::delete_within(&mut tx, &granted, &path.to_lowercase()).await.unwrap();
    tx.commit().await.unwrap();
    let left = service.get(&locks("")).await.expect(200);
    assert_eq!(left.body["value"].as_array().unwrap().len(), 1, "{}", left.text);
    assert_eq!(left.body["value"][0]["id"], format!("{}/readonly", locks(&group)));
}

#[tokio::test]
async fn a_resource_guard_is_locked_like_anything_else() {
    let service = Service::start().await;
    let group = service.group("g").await;
    let guard = format!("{group}/providers/Microsoft.DataProtection/resourceGuards/guard");
    let wanted = || json!({ "location": "westus", "properties": {} });
    service.put(&guard, wanted()).await.expect(200);
    let keep = lock(&service, &guard, "CanNotDelete").await;
    is_locked(service.call("DELETE", &guard, None).await, "delete", &guard);
    service.put(&guard, wanted()).await.expect(200);
    let freeze = lock(&service, &guard, "ReadOnly").await;
    is_locked(service.put(&guard, wanted()).await, "write", &guard);
    for path in [&keep, &freeze] {
        service.call("DELETE", path, None).await.expect(200);
    }
    service.call("DELETE", &guard, None).await.expect(200);
}

/// What the status of an operation says.
async fn status_of(world: &World, path: &str) -> Value {
    world.service.raw(&world.service.token, "GET", path, None).await.expect(200).body
}

/// The end of the operation that an answer announces.
async fn end_of(world: &mut World, got: Got) -> Value {
    let url = got.expect(202).header("azure-asyncoperation").to_owned();
    let path = url[url.find("/subscriptions/").unwrap()..].to_owned();
    world
        .until("the operation had ended", |world| {
            let path = path.clone();
            Box::pin(async move { status_of(world, &path).await["status"] != "Inprogress" })
        })
        .await;
    status_of(world, &path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_writes_to_no_account_that_is_read_only() {
    let mut world = World::protected().await;
    let backup = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
    world.service.call("POST", &format!("{}/backup", world.instance), Some(backup)).await.expect(202);
    world.until_points(1).await;
    let point = world.points().await[0]["name"].clone();
    let account = world.instance[..world.instance.find("/providers/").unwrap()].to_owned()
        + "/providers/Microsoft.Storage/storageAccounts/source";
    let wanted = json!({ "restoreRequestObject": {
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore",
        "restoreTargetInfo": {
            "objectType": "ItemLevelRestoreTargetInfo",
            "recoveryOption": "FailIfExists",
            "restoreLocation": "westus",
            "datasourceInfo": { "objectType": "Datasource", "resourceID": account },
            "restoreCriteria": [{
                "objectType": "ItemPathBasedRestoreCriteria", "itemPath": "photos",
                "isPathRelativeToBackupItem": true, "renameTo": "restored",
            }],
        },
    }});
    let path = format!("{}/validateRestore", world.instance);
    let freeze = lock(&world.service, &account, "ReadOnly").await;
    let got = world.service.call("POST", &path, Some(wanted.clone())).await;
    let end = end_of(&mut world, got).await;
    assert_eq!(end["status"], "Failed", "{end}");
    assert_eq!(end["error"]["code"], "UserErrorStorageAccountInLockedState");
    assert!(end["error"]["message"].as_str().unwrap().ends_with(&format!("are locked: {account}.")), "{end}");
    world.service.call("DELETE", &freeze, None).await.expect(200);
    let keep = lock(&world.service, &account, "CanNotDelete").await;
    let got = world.service.call("POST", &path, Some(wanted.clone())).await;
    let end = end_of(&mut world, got).await;
    assert_eq!(end["status"], "Succeeded", "a restore removes no account: {end}");

    lock(&world.service, &world.vault, "ReadOnly").await;
    is_locked(world.service.call("POST", &path, Some(wanted)).await, "write", &world.vault);
    world.service.call("DELETE", &keep, None).await.expect(200);
}
