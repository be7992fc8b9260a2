//! Exports of jobs: what is in the files, and who gets them. The service, the backup and the files are real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use blobkeep_server::auth::{Caller, authorize};
use blobkeep_server::clock::{Clock, SystemClock};
use blobkeep_server::db::exports::{self, Export};
use blobkeep_server::jobs::forget_exports;
use common::world::{DAY, HOUR, World};
use common::{Got, Service, read};
use serde_json::{Value, json};

const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";

/// Begins an export and waits for its result.
async fn export(world: &mut World) -> Value {
    let path = format!("{}/exportBackupJobs", world.vault);
    let begun = world.service.call("POST", &path, None).await.expect(202);
    assert_eq!((begun.text.as_str(), begun.header("azure-asyncoperation")), ("", ""), "a Location and nothing else");
    assert!(!begun.header("retry-after").is_empty());
    let location = begun.header("location").strip_prefix(world.service.env.endpoint.as_str()).unwrap().to_owned();
    assert!(location.contains("/backupJobs/operations/"), "{location}");
    let ask = location.clone();
    world
        .until("the export has ended", move |world| {
            let ask = ask.clone();
            Box::pin(async move {
                let got = world.service.raw(&world.service.token, "GET", &ask, None).await;
                assert!([200, 202].contains(&got.status), "{got:?}");
                assert!(got.status == 200 || got.header("location").ends_with(&ask), "{got:?}");
                got.status == 200
            })
        })
        .await;
    world.service.raw(&world.service.token, "GET", &location, None).await.expect(200).body
}

/// Fetches a link as a browser would: without a token.
async fn fetch(world: &World, url: &Value, key: &Value) -> Got {
    let url = format!("{}?{}", url.as_str().unwrap(), key.as_str().unwrap());
    read(world.service.client.get(url).send().await.unwrap()).await
}

async fn json_file(world: &World, links: &Value) -> Got {
    fetch(world, &links["blobUrl"], &links["blobSasKey"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_vault_are_fetched_as_json_and_as_a_workbook_for_an_hour_and_kept_for_a_day() {
    let mut world = World::protected().await;
    let export_path = format!("{}/exportBackupJobs", world.vault);
    world.service.call("POST", &export_path, None).await.expect(204);
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let jobs = format!("{}/backupJobs", world.vault);
    world
        .until("the backup has ended", |world| {
            let jobs = format!("{}/backupJobs", world.vault);
            Box::pin(
                async move { world.service.get(&jobs).await.body["value"][0]["properties"]["status"] == "Completed" },
            )
        })
        .await;
    let listed = world.service.get(&jobs).await.expect(200);

    let links = export(&mut world).await;
    let got = json_file(&world, &links).await.expect(200);
    assert_eq!(got.body, listed.body["value"], "the file holds what the list shows");
    assert!(got.header("content-type").starts_with("application/json"));
    let workbook = fetch(&world, &links["excelFileBlobUrl"], &links["excelFileBlobSasKey"]).await.expect(200);
    assert!(workbook.header("content-type").ends_with("spreadsheetml.sheet"));
    assert!(workbook.text.starts_with("PK") && workbook.text.contains("xl/worksheets/sheet1.xml"));
    let name = listed.body["value"][0]["name"].as_str().unwrap();
    assert!(workbook.text.contains(name) && workbook.text.contains(">Completed<"));

    let key = links["blobSasKey"].as_str().unwrap();
    let forged = json!(key.replace("se=20", "se=29"));
    fetch(&world, &links["blobUrl"], &forged).await.refused(403, "ExportLinkInvalid");
    fetch(&world, &links["excelFileBlobUrl"], &json!(key)).await.refused(403, "ExportLinkInvalid");
    fetch(&world, &links["blobUrl"], &json!("")).await.refused(403, "ExportLinkInvalid");
    world.pass(HOUR + 1).await;
    json_file(&world, &links).await.refused(403, "ExportLinkInvalid");

    let again = export(&mut world).await;
    json_file(&world, &again).await.expect(200);
    world.pass(DAY - HOUR).await;
    forget_exports(world.service.running.app()).await.unwrap();
    json_file(&world, &again).await.refused(403, "ExportLinkInvalid");
    let folder = world.service.running.app().config.data_dir.join("exports");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "the files of the first export are gone");
    world.pass(2 * HOUR).await;
    let id = again["blobUrl"].as_str().unwrap().rsplit("exportjobsreport").next().unwrap();
    let result = world.service.get(&format!("{}/backupJobs/operations/{id}", world.vault)).await;
    result.refused(404, "UserErrorGenericResourceNotFound");
    forget_exports(world.service.running.app()).await.unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_begun_by_who_may_and_read_by_who_may_read_jobs() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let (object, reader) = world.service.principal("reader").await;
    let (_, stranger) = world.service.principal("stranger").await;
    world.service.assign(&object, BACKUP_READER, &world.vault).await;
    let path = format!("{}/exportBackupJobs", world.vault);
    world.service.call_as("", "POST", &path, None).await.refused(401, "AuthenticationFailed");
    world.service.call_as(&stranger, "POST", &path, None).await.refused(403, "AuthorizationFailed");
    world.service.call_as(&reader, "POST", &path, None).await.refused(403, "AuthorizationFailed");
    let begun = world.service.call("POST", &path, None).await.expect(202);
    let location = begun.header("location").strip_prefix(world.service.env.endpoint.as_str()).unwrap().to_owned();
    assert!([200, 202].contains(&world.service.raw(&reader, "GET", &location, None).await.status));
    world.service.raw(&stranger, "GET", &location, None).await.refused(403, "AuthorizationFailed");
    let none = format!("{}/backupJobs/operations/{}", world.vault, uuid::Uuid::new_v4());
    world.service.get(&none).await.refused(404, "UserErrorGenericResourceNotFound");
    let elsewhere = format!("{}2/exportBackupJobs", world.vault);
    world.service.call("POST", &elsewhere, None).await.refused(404, "ResourceNotFound");
    world.service.running.shutdown().await;
}

#[tokio::test]
async fn a_vault_does_not_inherit_the_exports_of_an_earlier_one_of_its_name() {
    let service = Service::start().await;
    let vault = format!("{}/providers/Microsoft.DataProtection/backupVaults/vault", service.group("g").await);
    let wanted = || json!({ "location": "westus", "properties": {} });
    service.put(&vault, wanted()).await.expect(201);
    let (object_id, _) = service.principal("owner").await;
    service.assign(&object_id, OWNER, "/").await;
    let app = service.running.app();
    let caller = Caller { object_id: object_id.clone(), app_id: String::new() };
    let action = "Microsoft.DataProtection/backupVaults/exportBackupJobs/action";
    let granted = authorize(app, &caller, action, &vault).await.unwrap();
    let export = Export {
        id: uuid::Uuid::new_v4().to_string(),
        vault_key: vault.to_lowercase(),
        principal_id: object_id,
        created_at: SystemClock.now_micros(),
        ended_at: None,
        error: None,
    };
    let mut tx = app.db.write().await.unwrap();
    exports::create(&mut tx, &granted, &export).await.unwrap();
    exports::finish(&mut tx, &export.id, None, export.created_at).await.unwrap();
    tx.commit().await.unwrap();
    let result = format!("{vault}/backupJobs/operations/{}", export.id);
    service.get(&result).await.expect(200);
    service.call("DELETE", &vault, None).await.expect(202);
    service.put(&vault, wanted()).await.expect(201);
    service.get(&result).await.refused(404, "UserErrorGenericResourceNotFound");
}
