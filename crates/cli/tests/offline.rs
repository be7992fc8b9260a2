//! What `blobkeep offline` promises, told with the real command as a child process on folders.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blobkeep_emulator::{Emulator, EmulatorOptions, SeedBlob};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a source, and the names of a store and a key.
struct World {
    root: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        for number in 0..40 {
            world.write(&format!("part-{}/file {number} ü.txt", number % 3), &vec![number as u8; 100 * number]);
        }
        world.write("empty.txt", b"");
        world.write("large.bin", &noise(9 << 20));
        world
    }

    /// A world whose vault is made already.
    fn with_vault() -> Self {
        let world = Self::new();
        world.done(&["init"]);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.at("documents").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn source(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.at("documents"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        blobkeep()
            .args(["offline", verb, "--store", &self.text("vault"), "--key-file", &self.text("vault.key")])
            .args(rest)
            .output()
            .unwrap()
    }

    /// Runs a verb that must succeed; what it printed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that must fail with a code; what it said.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stderr(&output)
    }

    fn back_up(&self) -> Value {
        let source = self.text("documents");
        serde_json::from_str(&self.done(&["backup", "--source", &source, "--output", "json"])).unwrap()
    }

    fn points(&self) -> Vec<Value> {
        serde_json::from_str(&self.done(&["list", "--output", "json"])).unwrap()
    }
}

fn blobkeep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blobkeep"));
    command.env_remove("BLOBKEEP_CONNECTION_STRING").env_remove("RUST_LOG");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Equal names and bytes, told without printing contents.
fn assert_same_files(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let differing: Vec<_> =
        expected.iter().filter(|(name, bytes)| found[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "differing: {differing:?}");
}

fn noise(length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut content);
    content
}

/// Relative names and contents of all files below a folder, sidecars left out.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.file_name().unwrap() == ".blobkeep" => {}
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

#[test]
fn what_was_backed_up_is_listed_and_comes_back() {
    let world = World::with_vault();
    assert_eq!(world.points(), Vec::<Value>::new());
    let report = world.back_up();
    assert_eq!(report["blobs"], 42);
    let points = world.points();
    assert_eq!(points.len(), 1);
    assert_eq!(points[0]["id"], report["id"]);
    assert_eq!(points[0]["skipped"], 0);
    assert_eq!(points[0]["expires"], Value::Null);
    assert!(points[0]["created"].as_str().unwrap().ends_with('Z'));
    assert!(points[0]["newStoredBytes"].as_u64().unwrap() > 9 << 20);
    world.done(&["restore", "--target", &world.text("restored")]);
    assert_same_files(&files(&world.at("restored")), &world.source());
    assert!(world.done(&["list"]).contains(report["id"].as_str().unwrap()));
    assert!(world.done(&["verify"]).contains("everything is as it was written"));
    world.done(&["verify", "--structure"]);
}

#[test]
fn the_key_file_is_private_and_init_is_made_once() {
    let world = World::new();
    let said = world.done(&["init"]);
    assert!(said.contains("made vault") && said.contains("keep a copy"), "{said}");
    assert_eq!(world.at("vault.key").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (key, header) =
        (std::fs::read(world.at("vault.key")).unwrap(), std::fs::read(world.at("vault/vault.json")).unwrap());
    assert!(world.done(&["init"]).contains("nothing was changed"));
    assert_eq!(std::fs::read(world.at("vault.key")).unwrap(), key);
    assert_eq!(std::fs::read(world.at("vault/vault.json")).unwrap(), header);
    std::fs::remove_file(world.at("vault.key")).unwrap();
    assert!(world.fails(&["init"], 1).contains("no key file"));
    assert!(!world.at("vault.key").exists(), "no new key is made for an old vault");
}

#[test]
fn an_unchanged_source_is_not_read_again_and_an_older_point_stays_as_it_was() {
    let world = World::with_vault();
    let before = world.source();
    let first = world.back_up();
    let second = world.back_up();
    assert_eq!((&second["readBlobs"], &second["unchangedBlobs"]), (&Value::from(0), &Value::from(42)));
    world.write("empty.txt", b"not empty any more");
    std::fs::remove_dir_all(world.at("documents/part-1")).unwrap();
    let third = world.back_up();
    assert_eq!(third["readBlobs"], 1);
    assert_eq!(world.points()[0]["id"], third["id"], "newest first");
    world.done(&["restore", "--target", &world.text("new")]);
    assert_same_files(&files(&world.at("new")), &world.source());
    let beginning = &first["id"].as_str().unwrap()[..12];
    world.done(&["restore", "--target", &world.text("old"), "--point", beginning]);
    assert_same_files(&files(&world.at("old")), &before);
}

#[test]
fn sources_share_a_vault_and_latest_is_the_newest_of_all() {
    let world = World::with_vault();
    world.back_up();
    std::fs::create_dir(world.at("letters")).unwrap();
    std::fs::write(world.at("letters/one.txt"), "Dear reader").unwrap();
    world.done(&["backup", "--source", &format!("file://{}", world.text("letters"))]);
    let points = world.points();
    assert_eq!(points.len(), 2);
    assert_ne!(points[0]["instance"], points[1]["instance"]);
    assert!(points.iter().all(|point| point["instance"].as_str().unwrap().starts_with("offline-")));
    world.done(&["restore", "--target", &world.text("restored")]);
    assert_same_files(&files(&world.at("restored")), &files(&world.at("letters")));
}

#[test]
fn a_restore_takes_what_was_chosen() {
    let world = World::with_vault();
    world.back_up();
    let target = world.text("chosen");
    world.done(&["restore", "--target", &target, "--prefix", "part-1/", "--prefix", "empty"]);
    let expected: BTreeMap<_, _> = world
        .source()
        .into_iter()
        .filter(|(name, _)| name.starts_with("part-1/") || name.starts_with("empty"))
        .collect();
    assert_same_files(&files(&world.at("chosen")), &expected);
    let other = world.text("other");
    assert!(world.fails(&["restore", "--target", &other, "--container", "nothing-such"], 1).contains("nothing-such"));
    world.done(&["restore", "--target", &other, "--container", "documents", "--rename", "documents=papers"]);
    assert_same_files(&files(&world.at("other")), &world.source());
    let stray = world.fails(&["restore", "--target", &other, "--rename", "stray=papers", "--on-conflict", "skip"], 1);
    assert!(stray.contains("stray") && stray.contains("documents"), "{stray}");
}

#[test]
fn what_is_in_the_target_is_kept_unless_asked() {
    let world = World::with_vault();
    world.back_up();
    let target = world.text("restored");
    world.done(&["restore", "--target", &target]);
    std::fs::write(world.at("restored/empty.txt"), "mine").unwrap();
    world.fails(&["restore", "--target", &target], 1);
    assert_eq!(std::fs::read(world.at("restored/empty.txt")).unwrap(), b"mine");
    world.done(&["restore", "--target", &target, "--on-conflict", "skip"]);
    assert_eq!(std::fs::read(world.at("restored/empty.txt")).unwrap(), b"mine");
    world.done(&["restore", "--target", &target, "--on-conflict", "overwrite"]);
    assert_same_files(&files(&world.at("restored")), &world.source());
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let world = World::with_vault();
    world.back_up();
    let said = world.done(&["restore", "--target", &world.text("restored"), "--dry-run"]);
    assert!(said.contains("42 blobs") && said.contains("nothing was written"), "{said}");
    assert!(!world.at("restored").exists());
}

#[test]
fn another_key_opens_nothing() {
    let world = World::with_vault();
    world.back_up();
    std::fs::write(world.at("vault.key"), format!("{}\n", "ab".repeat(32))).unwrap();
    let (source, target) = (world.text("documents"), world.text("restored"));
    for arguments in [
        vec!["list"],
        vec!["verify"],
        vec!["backup", "--source", &source],
        vec!["restore", "--target", &target],
        vec!["init"],
    ] {
        assert!(world.fails(&arguments, 1).contains("key"), "{arguments:?}");
    }
    assert!(!world.at("restored").exists());
    std::fs::remove_file(world.at("vault.key")).unwrap();
    assert!(world.fails(&["list"], 1).contains("no key file"));
}

#[test]
fn damage_is_found_and_never_restored() {
    let world = World::with_vault();
    world.back_up();
    let packs = files(&world.at("vault/packs"));
    let (name, sound) = packs.iter().max_by_key(|(_, content)| content.len()).unwrap();
    let path = world.at("vault/packs").join(name);
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 0x10;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, &damaged).unwrap();
    let output = world.run(&["verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("damaged: packs/"));
    world.fails(&["restore", "--target", &world.text("restored")], 1);
    let source = world.source();
    if world.at("restored").exists() {
        for (name, content) in files(&world.at("restored")) {
            assert!(source.get(&name) == Some(&content), "{name} was restored with other bytes");
        }
    }
    std::fs::remove_file(&path).unwrap();
    world.fails(&["verify"], 1);
    std::fs::write(&path, sound).unwrap();
    world.done(&["verify"]);
}

#[test]
fn a_store_never_overlaps_with_what_it_protects() {
    let world = World::with_vault();
    let above = world.root.path().to_str().unwrap().to_owned();
    let inside = world.text("vault/inside");
    assert!(world.fails(&["backup", "--source", &above], 2).contains("overlap"));
    assert!(world.fails(&["restore", "--target", &inside], 2).contains("overlap"));
    assert!(!world.at("vault/inside").exists());
}

#[test]
fn wrong_usage_ends_with_2_and_failures_with_1() {
    let world = World::new();
    assert!(world.fails(&["backup"], 2).contains("BLOBKEEP_CONNECTION_STRING"));
    world.fails(&["restore", "--no-such-option"], 2);
    world.fails(&["restore", "--target", "x", "--rename", "old"], 2);
    world.fails(&["restore", "--target", "x", "--on-conflict", "perhaps"], 2);
    world.done(&["init"]);
    assert!(world.fails(&["backup", "--source", "/no/such/folder"], 1).contains("/no/such/folder"));
    assert!(world.fails(&["restore", "--target", &world.text("t")], 1).contains("no recovery point"));
    assert!(!world.at("t").exists());
    assert_eq!(blobkeep().arg("--version").output().unwrap().status.code(), Some(0));
    assert_eq!(blobkeep().arg("offline").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_secret_on_the_command_line_is_taken_with_a_warning_and_not_repeated() {
    let world = World::with_vault();
    let url = "http://127.0.0.1:9/account/container?sv=1&sig=hidden";
    // Nothing listens there; the endpoint's own retries are not what is told here, so the key is wrong as well.
    std::fs::write(world.at("vault.key"), "no key").unwrap();
    let said = world.fails(&["backup", "--source", url], 1);
    assert!(said.contains("warning: --source") && !said.contains("hidden"), "{said}");
}

/// An emulator with two accounts, on a runtime of its own.
struct Cloud {
    runtime: tokio::runtime::Runtime,
    emulator: Option<Emulator>,
}

impl Cloud {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = EmulatorOptions::with_accounts(&["source", "target"]);
        let emulator = runtime.block_on(Emulator::start(([127, 0, 0, 1], 0).into(), options)).unwrap();
        for number in 0..30_u8 {
            let blob = SeedBlob {
                metadata: [("number".to_owned(), number.to_string())].into(),
                tags: [("project".to_owned(), "a/b c".to_owned())].into(),
                content_type: Some("text/plain".to_owned()),
                ..SeedBlob::new(vec![number; 3_000])
            };
            let container = ["one", "two", "three"][usize::from(number) % 3];
            emulator.put_blob("source", container, &format!("part {}/{number} #ü", number % 2), blob).unwrap();
        }
        Self { runtime, emulator: Some(emulator) }
    }

    fn emulator(&self) -> &Emulator {
        self.emulator.as_ref().unwrap()
    }

    fn url(&self, account: &str, container: &str) -> String {
        let emulator = self.emulator();
        let sas = emulator.container_sas(account, container, "racwdlt");
        format!("{}/{container}?{sas}", emulator.account_url(account))
    }

    /// Blobs of a container as they are held, without what belongs to the account.
    fn blobs(&self, account: &str, container: &str) -> BTreeMap<String, SeedBlob> {
        let emulator = self.emulator();
        let get = |name: String| {
            let mut blob = emulator.get_blob(account, container, &name).unwrap().blob;
            (blob.created_us, blob.modified_us) = (None, None);
            (name, blob)
        };
        emulator.blob_names(account, container).into_iter().map(get).collect()
    }

    /// A container of the source and one of the target hold the same; told without printing contents.
    fn assert_same(&self, source: &str, target: &str) {
        let (source, target) = (self.blobs("source", source), self.blobs("target", target));
        assert_eq!(source.keys().collect::<Vec<_>>(), target.keys().collect::<Vec<_>>());
        let differing: Vec<_> =
            source.iter().filter(|(name, blob)| target[*name] != **blob).map(|(name, _)| name).collect();
        assert!(differing.is_empty(), "differing: {differing:?}");
    }

    fn run(&self, world: &World, account: &str, arguments: &[&str]) {
        let output = blobkeep()
            .args(["offline", arguments[0], "--store", &world.text("vault"), "--key-file", &world.text("vault.key")])
            .args(&arguments[1..])
            .env("BLOBKEEP_CONNECTION_STRING", self.emulator().connection_string(account))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(emulator) = self.emulator.take() {
            self.runtime.block_on(emulator.stop());
        }
    }
}

#[test]
fn an_account_of_the_environment_comes_back_by_container_and_under_another_name() {
    let (world, cloud) = (World::with_vault(), Cloud::new());
    cloud.run(&world, "source", &["backup"]);
    cloud.run(&world, "target", &["restore", "--container", "one", "--container", "two", "--rename", "two=second"]);
    assert_eq!(cloud.emulator().container_names("target"), ["one", "second"]);
    cloud.assert_same("one", "one");
    cloud.assert_same("two", "second");
    cloud.run(&world, "target", &["restore", "--prefix", "part 1/", "--container", "three"]);
    assert!(cloud.blobs("target", "three").keys().all(|name| name.starts_with("part 1/")));
    assert!(!cloud.blobs("target", "three").is_empty());
}

#[test]
fn a_container_is_source_and_target_by_its_address() {
    let (world, cloud) = (World::with_vault(), Cloud::new());
    world.done(&["backup", "--source", &cloud.url("source", "one")]);
    cloud.emulator().create_container("target", "copy").unwrap();
    let listed = world.done(&["list", "--output", "json"]);
    assert!(!listed.contains("sig="), "no signature is kept: {listed}");
    world.done(&["restore", "--target", &cloud.url("target", "copy")]);
    cloud.assert_same("one", "copy");
    world.done(&["restore", "--target", &world.text("folder")]);
    assert_eq!(files(&world.at("folder")).len(), 10);
}

#[test]
fn a_vault_lies_in_a_container_or_in_a_folder_of_one() {
    let (world, cloud) = (World::new(), Cloud::new());
    cloud.emulator().create_container("target", "vaults").unwrap();
    let url = cloud.url("target", "vaults").replace("/vaults?", "/vaults/team/a?");
    let run = |arguments: &[&str]| {
        let output = blobkeep()
            .args(["offline", arguments[0], "--store", "env:STORE", "--key-file", &world.text("vault.key")])
            .args(&arguments[1..])
            .env("STORE", &url)
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("warning"), "a secret by reference needs no warning: {said}");
    };
    run(&["init"]);
    run(&["backup", "--source", &world.text("documents")]);
    run(&["verify"]);
    run(&["restore", "--target", &world.text("restored")]);
    assert_same_files(&files(&world.at("restored")), &world.source());
    assert!(cloud.emulator().blob_names("target", "vaults").iter().all(|name| name.starts_with("team/a/")));
}
