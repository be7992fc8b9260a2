//! The Microsoft.DataProtection operations on a running service: who may call them, what they answer, and what they queue.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod actions;
mod answers;
mod approvals;
mod changes;
mod conditions;
#[path = "../common/database.rs"]
mod database;
mod deleted_vaults;
mod deletion;
mod guards;
mod instances;
mod paging;
mod points;
mod prunes;
mod queue;
mod removal;
mod restores;
mod service;
mod vaults;
mod versions;

use blobkeep_server::api::{Access, routes};
use reqwest::Method;
use serde_json::json;
use service::Service;

const BACKUP_CONTRIBUTOR: &str = "5e467623-bb1f-42f4-a55d-6e525e11384b";
const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";

/// The routes of this provider with their placeholders filled in.
fn paths(subscription: &str) -> Vec<(&'static str, Method, Access, String)> {
    let ours = routes().into_iter().filter(|route| route.pattern.contains("Microsoft.DataProtection"));
    ours.map(|route| {
        let path = route
            .pattern
            .replace("{*scope}", &format!("subscriptions/{subscription}/resourceGroups/RG-BlobBackup"))
            .replace("{subscription}", subscription)
            .replace("{group}", "TestBkpVaultRG")
            .replace("{vault}", "testBkpVault")
            .replace(['{', '}'], "");
        (route.operation, route.method.clone(), route.access, path)
    })
    .collect()
}

#[tokio::test]
async fn no_operation_answers_without_a_token_or_without_rights() {
    let service = Service::start().await;
    service.make_vault_and_policy().await;
    let (stranger, _) = service.stranger("stranger").await;
    let paths = paths(&service.subscription);
    assert!(paths.len() >= 38, "the provider has {} routes", paths.len());
    for (operation, method, access, path) in paths {
        let answer = service.send("", method.clone(), &path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "AuthenticationFailed"), "{operation}");
        let answer = service.send(&stranger, method, &path, None).await;
        match access {
            Access::Public | Access::Unversioned => panic!("{operation} is public"),
            Access::Action(_) => {
                assert_eq!((answer.status, answer.code().as_str()), (403, "AuthorizationFailed"), "{operation}")
            }
            Access::SignedIn if answer.status == 200 => {
                let is_catalogue = operation == "DataProtectionOperations_List";
                let shown = answer.json()["value"].as_array().map_or(0, Vec::len);
                assert!(is_catalogue || shown == 0, "{operation} shows {shown} things to a stranger");
            }
            Access::SignedIn => assert_eq!(answer.status, 403, "{operation}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_reader_reads_and_changes_nothing() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let (reader, object_id) = service.stranger("reader").await;
    service.assign(BACKUP_READER, &object_id, &service.vault()).await;
    for path in ["", "/backupInstances", "/backupPolicies", "/backupJobs", "/deletedBackupInstances"] {
        let answer = service.send(&reader, Method::GET, &format!("{}{path}", service.vault()), None).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    for (method, path) in [
        (Method::PUT, service.vault()),
        (Method::DELETE, service.vault()),
        (Method::PUT, id.clone()),
        (Method::DELETE, id.clone()),
        (Method::POST, format!("{id}/backup")),
        (Method::POST, format!("{id}/restore")),
        (Method::POST, format!("{}/validateForBackup", service.vault())),
    ] {
        let answer = service.send(&reader, method.clone(), &path, Some(&body)).await;
        assert_eq!(answer.code(), "AuthorizationFailed", "{method} {path}");
    }
    let list = format!("/subscriptions/{}/providers/Microsoft.DataProtection/backupVaults", service.subscription);
    let answer = service.send(&reader, Method::GET, &list, None).await;
    assert_eq!(answer.json()["value"].as_array().map(Vec::len), Some(1), "{answer:?}");
}
