//! Actions of our own that look into points or stop work: the service, the account and the backups are real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use blobkeep_emulator::SeedBlob;
use common::Got;
use common::world::{DAY, HOUR, World};
use serde_json::{Value, json};

const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";

impl World {
    fn put_blob(&self, container: &str, name: &str, content: &str) {
        self.emulator.put_blob("source", container, name, SeedBlob::new(content.to_owned())).unwrap();
    }

    /// An action of ours on something.
    async fn act(&self, subject: &str, action: &str, body: Value) -> Got {
        let path = format!("{subject}/providers/Blobkeep.DataProtection/{action}");
        self.service.call("POST", &path, Some(body)).await
    }

    fn point(&self, name: &str) -> String {
        format!("{}/recoveryPoints/{name}", self.instance)
    }

    /// The ids of the points, newest first.
    async fn point_names(&self) -> Vec<String> {
        self.points().await.iter().map(|point| point["name"].as_str().unwrap().to_owned()).collect()
    }

    /// An account with folders and two containers, backed up twice; the ids of the points, the older one first.
    async fn backed_up_twice() -> (Self, String, String) {
        let mut world = World::protected().await;
        world.emulator.create_container("source", "documents").unwrap();
        for name in ["2024/a.txt", "2024/b.txt", "2025/03/c.txt", "2025/d.txt", "readme"] {
            world.put_blob("documents", name, "first");
        }
        world.pass(HOUR + 60).await;
        world.until_points(1).await;
        world.put_blob("documents", "2024/b.txt", "second, longer");
        world.put_blob("documents", "2025/new.txt", "second");
        assert!(world.emulator.delete_container("source", "photos"));
        world.pass(DAY).await;
        world.until_points(2).await;
        let names = world.point_names().await;
        (world, names[1].clone(), names[0].clone())
    }
}

/// Kind and name of each entry.
fn entries(got: &Got) -> Vec<(&str, &str)> {
    let values = got.body["value"].as_array().unwrap_or_else(|| panic!("{}", got.text));
    values.iter().map(|value| (value["kind"].as_str().unwrap(), value["name"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_browsed_searched_and_compared_with_another() {
    let (world, older, newer) = World::backed_up_twice().await;
    a_point_is_browsed_folder_by_folder(&world, &older).await;
    blobs_are_found_by_name(&world, &older, &newer).await;
    points_are_compared(&world, &older, &newer).await;
    who_looks_is_registered(&world, &older, &newer).await;
    only_who_may_read_points_looks_into_them(&world, &older).await;
    world.service.running.shutdown().await;
}

async fn a_point_is_browsed_folder_by_folder(world: &World, older: &str) {
    let point = world.point(older);
    let all = world.act(&point, "browse", json!({})).await.expect(200);
    assert_eq!(entries(&all), [("container", "documents"), ("container", "photos")]);
    assert_eq!((&all.body["skipped"], &all.body["skippedInAll"]), (&json!([]), &json!(0)));
    assert!(all.body.get("skipToken").is_none());
    let root = world.act(&point, "browse", json!({"container": "documents", "delimiter": "/"})).await.expect(200);
    assert_eq!(entries(&root), [("prefix", "2024/"), ("prefix", "2025/"), ("blob", "readme")]);
    let body = json!({"Container": "documents", "PREFIX": "2025/", "delimiter": "/"});
    let folder = world.act(&point, "browse", body).await.expect(200);
    assert_eq!(entries(&folder), [("prefix", "2025/03/"), ("blob", "2025/d.txt")]);
    let flat = world.act(&point, "browse", json!({"container": "documents", "prefix": "2024/"})).await.expect(200);
    assert_eq!(entries(&flat), [("blob", "2024/a.txt"), ("blob", "2024/b.txt")]);
    assert_eq!((&flat.body["value"][0]["size"], &flat.body["value"][0]["container"]), (&json!(5), &json!("documents")));
    let nothing = world.act(&point, "browse", json!({"container": "documents", "prefix": "x"})).await.expect(200);
    assert!(entries(&nothing).is_empty());

    let refused = world.act(&point, "browse", json!({"container": "none"})).await;
    refused.refused(400, "UserErrorContainerNotFoundForPointInTimeRestore");
    for body in [json!({"prefix": "a"}), json!({"container": "documents", "skipToken": "x"})] {
        world.act(&point, "browse", body).await.refused(400, "UserErrorInvalidParameterInRequest");
    }
    world.act(&world.point("none"), "browse", json!({})).await.refused(404, "ResourceNotFound");
}

async fn blobs_are_found_by_name(world: &World, older: &str, newer: &str) {
    let found = |got: Got| -> Vec<(String, String)> {
        let values = got.expect(200).body["value"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        values.iter().map(|value| (text(&value["name"]), text(&value["recoveryPointId"]))).collect()
    };
    let pair = |name: &str, point: &str| (name.to_owned(), point.to_owned());
    let b = world.act(&world.instance, "search", json!({"pattern": "b.txt"})).await;
    assert_eq!(found(b), [pair("2024/b.txt", newer), pair("2024/b.txt", older)], "each version once");
    let glob = world.act(&world.instance, "search", json!({"pattern": "2025/*.txt"})).await;
    assert_eq!(found(glob), [pair("2025/d.txt", newer), pair("2025/new.txt", newer)]);
    let body = json!({"pattern": "txt", "recoveryPointId": older, "containers": ["documents"]});
    assert_eq!(found(world.act(&world.instance, "search", body).await).len(), 4);
    let photos = world.act(&world.instance, "search", json!({"pattern": "one"})).await;
    assert_eq!(found(photos), [pair("one", older)], "what is gone is found where it was");
    for body in [json!({"pattern": ""}), json!({}), json!({"pattern": "a", "skipToken": "x"})] {
        world.act(&world.instance, "search", body).await.refused(400, "UserErrorInvalidParameterInRequest");
    }
    let body = json!({"pattern": "a", "recoveryPointId": "none"});
    world.act(&world.instance, "search", body).await.refused(400, "UserErrorRestorePointNotFound");
}

/// A prune waits for those who are registered.
async fn who_looks_is_registered(world: &World, older: &str, newer: &str) {
    let vaults = world.service.running.app().config.data_dir.join("vaults");
    let writers = std::fs::read_dir(vaults).unwrap().next().unwrap().unwrap().path().join("writers");
    for (subject, action, body) in [
        (&world.point(older), "browse", json!({"container": "documents"})),
        (&world.point(older), "diff", json!({"with": newer})),
        (&world.instance, "search", json!({"pattern": "txt"})),
    ] {
        // It is made anew for the first who registers, and stays.
        std::fs::remove_dir(&writers).unwrap();
        world.act(subject, action, body).await.expect(200);
        assert_eq!(std::fs::read_dir(&writers).unwrap().count(), 0, "{action} was registered, and has ended that");
    }
}

async fn points_are_compared(world: &World, older: &str, newer: &str) {
    let point = world.point(older);
    let got = world.act(&point, "diff", json!({"with": newer})).await.expect(200);
    let changes: Vec<(&str, &str)> = got.body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| {
            let side = if value["after"].is_null() { &value["before"] } else { &value["after"] };
            (value["change"].as_str().unwrap(), side["name"].as_str().unwrap())
        })
        .filter(|(_, name)| *name != "documents")
        .collect();
    let expected = [("Changed", "2024/b.txt"), ("Added", "2025/new.txt"), ("Removed", "photos"), ("Removed", "one")];
    assert_eq!(changes, expected, "{}", got.text);
    let body = json!({"with": newer, "container": "documents", "prefix": "2024/"});
    let one = world.act(&point, "diff", body).await.expect(200);
    let values = one.body["value"].as_array().unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!((&values[0]["before"]["size"], &values[0]["after"]["size"]), (&json!(5), &json!(14)));
    let same = world.act(&point, "diff", json!({"with": older})).await.expect(200);
    assert_eq!(same.body, json!({"value": []}));
    world.act(&point, "diff", json!({"with": "none"})).await.refused(400, "UserErrorRestorePointNotFound");
    for body in [json!({}), json!({"with": newer, "prefix": "a"}), json!({"with": newer, "skipToken": "x"})] {
        world.act(&point, "diff", body).await.refused(400, "UserErrorInvalidParameterInRequest");
    }
}

async fn only_who_may_read_points_looks_into_them(world: &World, older: &str) {
    let (object, reader) = world.service.principal("reader").await;
    let (_, stranger) = world.service.principal("stranger").await;
    world.service.assign(&object, BACKUP_READER, &world.vault).await;
    let point = world.point(older);
    for (subject, action, body) in [
        (point.as_str(), "browse", json!({})),
        (point.as_str(), "diff", json!({"with": older})),
        (world.instance.as_str(), "search", json!({"pattern": "a"})),
    ] {
        let path = format!("{subject}/providers/Blobkeep.DataProtection/{action}");
        world.service.call_as("", "POST", &path, Some(body.clone())).await.refused(401, "AuthenticationFailed");
        world.service.call_as(&stranger, "POST", &path, Some(body.clone())).await.refused(403, "AuthorizationFailed");
        world.service.call_as(&reader, "POST", &path, Some(body)).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_an_answer_is_asked_for_by_its_token() {
    let mut world = World::protected().await;
    world.emulator.create_container("source", "many").unwrap();
    for number in 0..1_203 {
        world.put_blob("many", &format!("{:03}/{number:04}", number / 2), "x");
    }
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let first = world.point_names().await.remove(0);
    for number in 0..1_203 {
        world.put_blob("many", &format!("{:03}/{number:04}", number / 2), "another");
    }
    world.pass(DAY).await;
    world.until_points(2).await;
    let second = world.point_names().await.remove(0);
    let point = world.point(&first);
    for (subject, action, body, count) in [
        (point.as_str(), "browse", json!({"container": "many"}), 1_203),
        (point.as_str(), "browse", json!({"container": "many", "delimiter": "/"}), 602),
        (world.instance.as_str(), "search", json!({"pattern": "/", "containers": ["many"]}), 2_406),
        (point.as_str(), "diff", json!({"with": second, "container": "many"}), 1_203),
    ] {
        let mut body = body;
        let mut seen = Vec::new();
        loop {
            let got = world.act(subject, action, body.clone()).await.expect(200);
            seen.extend(got.body["value"].as_array().unwrap().iter().map(Value::to_string));
            let Some(token) = got.body.get("skipToken") else { break };
            assert_eq!(seen.len() % 1_000, 0, "a page that is not the last one is full");
            body["skipToken"] = token.clone();
        }
        assert_eq!(seen.len(), count, "{action}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "{action}: nothing comes twice");
    }
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_at_work_stops_when_it_is_cancelled_and_the_next_one_is_whole() {
    let mut world = World::protected().await;
    for number in 0..600 {
        world.put_blob("photos", &format!("{number:04}"), &format!("content of {number}"));
    }
    world.emulator.faults().delay("GetBlob", 500);
    let path = format!("{}/backup", world.instance);
    let body = json!({"backupRuleOptions": {"ruleName": "BackupDaily"}});
    let begun = world.service.call("POST", &path, Some(body.clone())).await.expect(202);
    let location = begun.header("location").strip_prefix(world.service.env.endpoint.as_str()).unwrap().to_owned();
    let result = world.service.raw(&world.service.token, "GET", &location, None).await.expect(200);
    let job = result.body["jobId"].as_str().unwrap().to_owned();
    world.until("blobs are read", |world| Box::pin(async move { world.emulator.count("GetBlob") > 0 })).await;
    world.act(&job, "cancel", Value::Null).await.expect(202);
    let asked = job.clone();
    world
        .until("the job has stopped", move |world| {
            let job = asked.clone();
            Box::pin(async move { world.service.get(&job).await.body["properties"]["status"] != "InProgress" })
        })
        .await;
    let ended = world.service.get(&job).await;
    assert_eq!(ended.body["properties"]["status"], "Cancelled", "{}", ended.text);
    assert_eq!(ended.body["properties"]["errorDetails"][0]["code"], "UserErrorOperationCancelled", "{}", ended.text);
    assert!(world.points().await.is_empty());

    world.emulator.faults().clear();
    world.service.call("POST", &path, Some(body)).await.expect(202);
    world.until_points(1).await;
    let point = world.point(&world.point_names().await[0]);
    let got = world.act(&point, "browse", json!({"container": "photos"})).await.expect(200);
    assert_eq!(entries(&got).len(), 601);
    world.service.running.shutdown().await;
}

/// Begins a verification, waits for its end, and gives the report.
async fn verified(world: &mut World, body: Value) -> Value {
    let begun = world.act(&world.vault, "verify", body).await.expect(202);
    let url =
        begun.header("azure-asyncoperation").strip_prefix(world.service.env.endpoint.as_str()).unwrap().to_owned();
    world
        .until("the verification has ended", move |world| {
            let url = url.clone();
            Box::pin(async move {
                let got = world.service.raw(&world.service.token, "GET", &url, None).await.expect(200);
                assert_ne!(got.body["status"], "Failed", "{}", got.text);
                got.body["status"] == "Succeeded"
            })
        })
        .await;
    let path = format!("{}/providers/Blobkeep.DataProtection/verification", world.vault);
    world.service.get(&path).await.expect(200).body
}

/// The packs of the only vault.
fn packs(world: &World) -> Vec<PathBuf> {
    let vaults = world.service.running.app().config.data_dir.join("vaults");
    let vault = std::fs::read_dir(vaults).unwrap().next().unwrap().unwrap().path();
    let (mut packs, mut folders) = (Vec::new(), vec![vault.join("packs")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { packs.push(path) }
        }
    }
    packs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_proves_a_vault_and_names_what_is_damaged() {
    let mut world = World::protected().await;
    world.pass(HOUR + 60).await;
    world.until_points(1).await;
    let report = verified(&mut world, json!({})).await;
    assert_eq!((&report["isSound"], &report["recoveryPoints"], &report["blobs"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!((&report["depth"], &report["packs"]), (&json!("Bytes"), &report["packsInAll"]), "{report}");
    let structure = verified(&mut world, json!({"depth": "structure"})).await;
    assert_eq!((&structure["isSound"], &structure["packs"]), (&json!(true), &json!(0)), "{structure}");

    let packs = packs(&world);
    assert!(!packs.is_empty());
    for pack in packs {
        let mut content = std::fs::read(&pack).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        let mut permissions = std::fs::metadata(&pack).unwrap().permissions();
        permissions.set_mode(0o600);
        std::fs::set_permissions(&pack, permissions).unwrap();
        std::fs::write(&pack, content).unwrap();
    }
    let report = verified(&mut world, json!({"depth": "Bytes"})).await;
    assert_eq!(report["isSound"], false, "{report}");
    assert!(report["damageInAll"].as_u64().unwrap() > 0 && !report["damage"].as_array().unwrap().is_empty());
    world.service.running.shutdown().await;
}
