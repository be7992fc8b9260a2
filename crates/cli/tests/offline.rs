//! What `blobkeep offline` promises, told with the real command as a child process on folders.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    assert_eq!(files(&world.at("restored")), world.source());
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
    assert_eq!(files(&world.at("new")), world.source());
    let beginning = &first["id"].as_str().unwrap()[..12];
    world.done(&["restore", "--target", &world.text("old"), "--point", beginning]);
    assert_eq!(files(&world.at("old")), before);
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
    assert_eq!(files(&world.at("restored")), files(&world.at("letters")));
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
    assert_eq!(files(&world.at("chosen")), expected);
    let other = world.text("other");
    assert!(world.fails(&["restore", "--target", &other, "--container", "nothing-such"], 1).contains("nothing-such"));
    world.done(&["restore", "--target", &other, "--container", "documents", "--rename", "documents=papers"]);
    assert_eq!(files(&world.at("other")), world.source());
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
    assert_eq!(files(&world.at("restored")), world.source());
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
