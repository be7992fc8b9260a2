//! A vault whose settings name a key of its owner's is guarded by that key and by no other.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use blobkeep_emulator::SeedBlob;
use blobkeep_server::clock::Clock;
use blobkeep_server::config::EncryptionKeyConfig;
use blobkeep_server::{Config, Parts, db, serve};
use blobkeep_vault::{ErrorKind, MasterKey};
use common::Got;
use common::world::{DAY, HOUR, World, restore_as};
use serde_json::{Value, json};

const ONE: &str = "https://vault.example.org/keys/one/1";
const TWO: &str = "https://vault.example.org/keys/two";
/// A key that nobody has made known.
const NONE: &str = "https://vault.example.org/keys/none";

/// The files of two keys, outside of every data folder.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(keys.file(ONE), [0xA1; 32]).unwrap();
        std::fs::write(keys.file(TWO), format!("{}\n", "b2".repeat(32))).unwrap();
        keys
    }

    fn file(&self, uri: &str) -> PathBuf {
        self.dir.path().join(if uri == ONE { "one" } else { "two" })
    }

    fn key(&self, uri: &str) -> MasterKey {
        MasterKey::from_file(&std::fs::read(self.file(uri)).unwrap()).unwrap()
    }

    /// A configuration that makes these keys known.
    fn known<'a>(&'a self, uris: &'a [&'a str]) -> impl FnOnce(&mut Config) + 'a {
        move |config| {
            let entry = |uri: &&str| EncryptionKeyConfig { uri: (*uri).to_owned(), file: self.file(uri) };
            config.encryption_keys = uris.iter().map(entry).collect();
        }
    }
}

fn under(uri: &str) -> Value {
    json!({ "securitySettings": { "encryptionSettings": enabled(uri) } })
}

fn enabled(uri: &str) -> Value {
    json!({ "state": "Enabled", "keyVaultProperties": { "keyUri": uri } })
}

impl World {
    async fn encryption(&self) -> Value {
        let vault = self.service.get(&self.vault).await.expect(200).body;
        vault["properties"]["securitySettings"]["encryptionSettings"].clone()
    }

    async fn state(&self) -> String {
        self.encryption().await["state"].as_str().unwrap_or("none").to_owned()
    }

    async fn patch(&self, encryption: Value) -> Got {
        let settings = json!({ "properties": { "securitySettings": { "encryptionSettings": encryption } } });
        self.service.call("PATCH", &self.vault, Some(settings)).await
    }

    /// What became of an operation.
    async fn status_of(&self, accepted: &Got) -> Value {
        let url = accepted.header("azure-asyncoperation").to_owned();
        let path = url.strip_prefix(&self.service.env.endpoint).unwrap();
        self.service.raw(&self.service.token, "GET", path, None).await.expect(200).body
    }

    /// A backup on demand; the job that it was.
    async fn back_up(&self) -> Value {
        // Jobs are told apart by when they began.
        self.clock.advance_seconds(1);
        let body = json!({ "backupRuleOptions": { "ruleName": "BackupDaily" } });
        self.service.call("POST", &format!("{}/backup", self.instance), Some(body)).await.expect(202);
        self.tick().await;
        self.newest_job().await
    }

    /// A restore of a point beside the blobs that are there; the job that it was.
    async fn restore(&self, point: &Value, to: &str) -> Value {
        self.clock.advance_seconds(1);
        let account = self.service.get(&self.instance).await.body["properties"]["dataSourceInfo"]["resourceID"].clone();
        let body = restore_as(&account, &point["name"], to);
        self.service.call("POST", &format!("{}/restore", self.instance), Some(body)).await.expect(202);
        self.tick().await;
        self.newest_job().await
    }

    async fn newest_job(&self) -> Value {
        let jobs = self.service.get(&format!("{}/backupJobs", self.vault)).await.expect(200);
        let id = jobs.body["value"][0]["id"].as_str().unwrap().to_owned();
        self.service.get(&id).await.expect(200).body["properties"].clone()
    }

    fn restored(&self, container: &str) -> Option<String> {
        let blob = self.emulator.get_blob("source", container, "one")?;
        Some(String::from_utf8(blob.blob.content.to_vec()).unwrap())
    }

    async fn is_opened_by(&self, key: &MasterKey) -> bool {
        match self.engine_by(key).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
                false
            }
        }
    }
}

#[track_caller]
fn names_missing_key(job: &Value, uri: &str) {
    assert_eq!(job["status"], "Failed", "{job}");
    let error = &job["errorDetails"][0];
    assert_eq!(error["code"], "UserErrorKeyVaultKeyWasNotFound", "{job}");
    assert!(error["message"].as_str().unwrap().contains(uri), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_vault_opens_with_the_key_of_its_settings_and_not_with_the_services() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE, TWO]), under(ONE)).await;
    assert_eq!(world.encryption().await, enabled(ONE));
    assert_eq!(world.back_up().await["status"], "Completed");
    assert!(world.is_opened_by(&keys.key(ONE)).await);
    assert!(!world.is_opened_by(&world.service_key()).await);
    assert!(!world.is_opened_by(&keys.key(TWO)).await);

    let point = world.points().await.remove(0);
    assert_eq!(world.restore(&point, "restored").await["status"], "Completed");
    assert_eq!(world.restored("restored").as_deref(), Some("first"));
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_brought_under_a_key_and_from_that_to_the_next_and_never_claims_it_before() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE, TWO]), json!({})).await;
    assert_eq!(world.back_up().await["status"], "Completed");
    assert!(world.is_opened_by(&world.service_key()).await);
    assert_eq!(world.state().await, "none");
    let mut former = world.service_key();
    for uri in [ONE, TWO] {
        let accepted = world.patch(enabled(uri)).await.expect(202);
        assert!(
            accepted.header("location").contains("/backupVaults/vault/operationResults/"),
            "the result is the vault"
        );
        assert_eq!(world.state().await, "Inconsistent");
        assert!(world.is_opened_by(&former).await && !world.is_opened_by(&keys.key(uri)).await);
        assert_eq!(world.status_of(&accepted).await["status"], "Inprogress");
        let etag = world.service.get(&world.vault).await.header("etag").to_owned();

        world.tick().await;
        assert_eq!(world.encryption().await, enabled(uri));
        assert_ne!(world.service.get(&world.vault).await.header("etag"), etag, "what is shown has changed");
        assert!(world.is_opened_by(&keys.key(uri)).await && !world.is_opened_by(&former).await);
        assert_eq!(world.status_of(&accepted).await["status"], "Succeeded");
        assert_eq!(world.back_up().await["status"], "Completed", "the vault goes on");
        former = keys.key(uri);
    }
    let oldest = world.points().await.pop().unwrap();
    assert_eq!(world.restore(&oldest, "restored").await["status"], "Completed", "points of before are still there");

    // By a PUT it is the same, and the same key again is no change.
    let body = json!({ "location": "westus", "properties": under(ONE) });
    let accepted = world.service.put(&world.vault, body.clone()).await.expect(201);
    assert_eq!(accepted.body["properties"]["securitySettings"]["encryptionSettings"]["state"], "Inconsistent");
    world.tick().await;
    assert_eq!(world.status_of(&accepted).await["status"], "Succeeded");
    let again = world.service.put(&world.vault, body).await.expect(201);
    assert_eq!(again.body["properties"]["securitySettings"]["encryptionSettings"], enabled(ONE));
    world.patch(enabled(&ONE.to_uppercase())).await.expect(200);
    assert!(world.is_opened_by(&keys.key(ONE)).await && !world.is_opened_by(&keys.key(TWO)).await);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_into_which_nothing_was_backed_up_yet_is_made_under_the_key_it_was_given_last() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE, TWO]), under(ONE)).await;
    world.patch(enabled(TWO)).await.expect(202);
    world.tick().await;
    assert_eq!(world.encryption().await, enabled(TWO));
    assert_eq!(world.back_up().await["status"], "Completed");
    assert!(world.is_opened_by(&keys.key(TWO)).await && !world.is_opened_by(&keys.key(ONE)).await);
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_back_or_is_not_known_is_refused_and_changes_nothing() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE]), under(ONE)).await;
    let before = world.service.get(&world.vault).await.text;
    let not_allowed = "UserErrorEncryptionSettingsChangeNotAllowed";
    let parameter = "UserErrorInvalidParameterInRequest";
    for (settings, code) in [
        (json!({ "state": "Disabled" }), not_allowed),
        (json!({ "infrastructureEncryption": "Enabled" }), not_allowed),
        (enabled(NONE), "UserErrorKeyVaultKeyWasNotFound"),
        (enabled(TWO), "UserErrorKeyVaultKeyWasNotFound"),
        (enabled("http://vault.example.org/keys/one/1"), parameter),
        (enabled("https://vault.example.org/secrets/one"), parameter),
        (json!({ "state": "Inconsistent" }), parameter),
    ] {
        let refused = world.patch(settings.clone()).await.refused(400, code);
        let sent = settings["keyVaultProperties"]["keyUri"].as_str().unwrap_or_default();
        assert!(refused.text.contains(sent), "{}", refused.text);
    }
    let path = world.vault.replace("/vault", "/another");
    let body = json!({ "location": "westus", "properties": under(NONE) });
    world.service.put(&path, body).await.refused(400, "UserErrorKeyVaultKeyWasNotFound");
    world.service.get(&path).await.refused(404, "ResourceNotFound");
    assert_eq!(world.service.get(&world.vault).await.text, before);
    // Silence about encryption leaves it as it is.
    let silent = json!({ "location": "westus", "identity": { "type": "SystemAssigned" }, "properties": {} });
    world.service.put(&world.vault, silent).await.expect(201);
    world.service.call("PATCH", &world.vault, Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    assert_eq!(world.encryption().await, enabled(ONE));
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_longer_known_stops_the_backups_and_restores_of_its_vault_and_nothing_else() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE, TWO]), under(ONE)).await;
    assert_eq!(world.back_up().await["status"], "Completed");
    let point = world.points().await.remove(0);

    let world = world.restarted(keys.known(&[TWO])).await;
    names_missing_key(&world.back_up().await, ONE);
    names_missing_key(&world.restore(&point, "restored").await, ONE);
    assert_eq!(world.restored("restored"), None);
    let browse = format!("{}/recoveryPoints/{}", world.instance, point["name"].as_str().unwrap());
    let browse = format!("{browse}/providers/Blobkeep.DataProtection/browse");
    let refused = world.service.call("POST", &browse, Some(json!({}))).await;
    assert!(refused.refused(400, "UserErrorKeyVaultKeyWasNotFound").text.contains(ONE));
    // What needs no key goes on: lists, settings, other vaults.
    assert_eq!(world.points().await.len(), 1);
    assert_eq!(world.encryption().await, enabled(ONE), "it still guards the vault");
    world.service.call("PATCH", &world.vault, Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    let other = world.vault.replace("/vault", "/another");
    world.service.put(&other, json!({ "location": "westus", "properties": under(TWO) })).await.expect(201);

    // Without the old key no other takes its place.
    let accepted = world.patch(enabled(TWO)).await.expect(202);
    world.tick().await;
    let status = world.status_of(&accepted).await;
    assert_eq!(status["status"], "Failed", "{status}");
    assert_eq!(status["error"]["code"], "UserErrorKeyVaultKeyWasNotFound");
    assert_eq!(world.state().await, "Inconsistent");

    // With it back the change is asked for again, as the state says, and everything goes on.
    let world = world.restarted(keys.known(&[ONE, TWO])).await;
    assert_eq!(world.restore(&point, "restored").await["status"], "Completed");
    world.patch(enabled(TWO)).await.expect(202);
    world.tick().await;
    assert_eq!(world.encryption().await, enabled(TWO));
    let world = world.restarted(keys.known(&[TWO])).await;
    assert_eq!(world.restore(&point, "again").await["status"], "Completed");
    assert_eq!(world.restored("again").as_deref(), Some("first"));
    world.service.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_under_the_same_uri_is_told_from_the_right_one() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE]), under(ONE)).await;
    assert_eq!(world.back_up().await["status"], "Completed");
    std::fs::write(keys.file(ONE), [0xC3; 32]).unwrap();
    let world = world.restarted(keys.known(&[ONE])).await;
    let job = world.back_up().await;
    names_missing_key(&job, ONE);
    assert!(job["errorDetails"][0]["message"].as_str().unwrap().contains("another key"), "{job}");
    world.service.running.shutdown().await;
}

/// Does part of what the job does, as a process that was killed in it would have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Killed {
    /// Before its first step.
    Before,
    /// With slots of both keys in the store.
    Between,
    /// Before the row says that it is done.
    After,
}

async fn kill(world: &World, at: Killed, key: &MasterKey) {
    let slots = world.folder().join("keys");
    let read = |path: &Path| std::fs::read(path).unwrap();
    let old: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&slots)
        .unwrap()
        .map(|slot| slot.unwrap().path())
        .map(|path| (path.clone(), read(&path)))
        .collect();
    if at == Killed::Before {
        return;
    }
    let engine = world.engine_by(&world.service_key()).await.unwrap();
    assert!(engine.change_key(key, async { Ok(true) }).await.unwrap());
    if at == Killed::Between {
        for (path, content) in old {
            std::fs::write(path, content).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_killed_while_it_changed_a_key_opens_the_vault_and_ends_the_change() {
    for at in [Killed::Before, Killed::Between, Killed::After] {
        let keys = Keys::new();
        let world = World::configured(keys.known(&[ONE]), json!({})).await;
        assert_eq!(world.back_up().await["status"], "Completed");
        let accepted = world.patch(enabled(ONE)).await.expect(202);
        kill(&world, at, &keys.key(ONE)).await;
        let mut world = world.restarted(keys.known(&[ONE])).await;
        assert_eq!(world.state().await, "Inconsistent", "{at:?}");
        world.pass(HOUR / 2).await;
        world.tick().await;
        assert_eq!(world.encryption().await, enabled(ONE), "{at:?}");
        assert!(world.is_opened_by(&keys.key(ONE)).await && !world.is_opened_by(&world.service_key()).await, "{at:?}");
        assert_eq!(std::fs::read_dir(world.folder().join("keys")).unwrap().count(), 2, "{at:?}");
        let operation = accepted.header("azure-asyncoperation").split('/').next_back().unwrap().to_owned();
        let path = format!("{}/operationStatus/{operation}", world.vault);
        let status = world.service.raw(&world.service.token, "GET", &path, None).await;
        assert_eq!(status.body["status"], "Succeeded", "{at:?}: {}", status.text);
        let point = world.points().await.remove(0);
        assert_eq!(world.restore(&point, "restored").await["status"], "Completed", "{at:?}");
        world.service.running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_restores_go_on_while_a_key_is_being_changed() {
    for at in [Killed::Before, Killed::Between, Killed::After] {
        let keys = Keys::new();
        let world = World::configured(keys.known(&[ONE]), json!({})).await;
        assert_eq!(world.back_up().await["status"], "Completed");
        world.patch(enabled(ONE)).await.expect(202);
        kill(&world, at, &keys.key(ONE)).await;
        // Somebody else has the job of the change, and does not come to an end with it.
        let mut tx = world.service.running.app().db.write().await.unwrap();
        let now = world.clock.now_micros();
        let job =
            db::jobs::claim_next(&mut tx, "somebody else", now, now + 30 * DAY * 1_000_000).await.unwrap().unwrap();
        assert_eq!(job.spec.kind(), "change_key");
        tx.commit().await.unwrap();
        let mut world = world.restarted(keys.known(&[ONE])).await;
        world.emulator.put_blob("source", "photos", "one", SeedBlob::new("second")).unwrap();
        world.pass(DAY).await;
        assert_eq!(world.back_up().await["status"], "Completed", "{at:?}");
        let point = world.points().await.remove(0);
        assert_eq!(world.restore(&point, "restored").await["status"], "Completed", "{at:?}");
        assert_eq!(world.restored("restored").as_deref(), Some("second"), "{at:?}");
        assert_eq!(world.state().await, "Inconsistent", "{at:?}");
        world.service.running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_key_that_is_none_does_not_start_and_names_it() {
    let keys = Keys::new();
    std::fs::write(keys.file(ONE), "c3".repeat(31)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = common::config(&dir.path().join("data"));
    keys.known(&[ONE])(&mut config);
    let error = serve(config, Parts::default()).await.unwrap_err().to_string();
    assert!(error.contains(ONE) && error.contains("does not hold a key"), "{error}");
    assert!(!error.contains("c3c3"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_vault_comes_back_under_its_key_or_under_the_one_that_is_asked_for() {
    let keys = Keys::new();
    let world = World::configured(keys.known(&[ONE, TWO]), under(ONE)).await;
    assert_eq!(world.back_up().await["status"], "Completed");
    let version = "?api-version=2025-09-01";
    let call = async |method: &str, path: &str| {
        let got = world.service.raw(&world.service.token, method, &format!("{path}{version}"), None).await;
        world.tick().await;
        got
    };
    call("DELETE", &world.instance).await.expect(202);
    call("DELETE", &world.vault).await.expect(202);
    let list =
        format!("{}/providers/Microsoft.DataProtection/locations/westus/deletedVaults", world.service.subscription());
    let name = call("GET", &list).await.expect(200).body["value"][0]["name"].as_str().unwrap().to_owned();
    let undelete = async |uri: &str| {
        let url = format!("{}{}{version}", world.service.env.endpoint, world.vault);
        let body = json!({ "location": "westus", "properties": under(uri) });
        let request = world.service.client.put(url).bearer_auth(&world.service.token);
        let request = request.header("x-ms-deleted-vault-id", &name).header("content-type", "application/json");
        common::read(request.body(body.to_string()).send().await.unwrap()).await
    };
    undelete(NONE).await.refused(400, "UserErrorKeyVaultKeyWasNotFound");
    let back = undelete(TWO).await.expect(201);
    assert_eq!(back.body["properties"]["securitySettings"]["encryptionSettings"]["state"], "Inconsistent");
    world.tick().await;
    assert_eq!(world.encryption().await, enabled(TWO));
    assert!(world.is_opened_by(&keys.key(TWO)).await && !world.is_opened_by(&keys.key(ONE)).await);
    world.service.running.shutdown().await;
}
