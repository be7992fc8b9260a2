//! What `blobkeep offline` does with a damaged vault, told with the real command on folders.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a source, a vault and its key.
struct World {
    root: TempDir,
}

impl World {
    fn with_vault() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        std::fs::create_dir(world.at("documents")).unwrap();
        for number in 0..20_u8 {
            std::fs::write(world.at("documents").join(format!("{number}.txt")), vec![number; 300]).unwrap();
        }
        let mut large = vec![0; 9 << 20];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut large);
        std::fs::write(world.at("documents/large.bin"), large).unwrap();
        world.done(&["init"]);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn source(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.at("documents"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_blobkeep"))
            .env_remove("BLOBKEEP_CONNECTION_STRING")
            .env_remove("RUST_LOG")
            .args(["offline", verb, "--store", &self.text("vault"), "--key-file", &self.text("vault.key")])
            .args(rest)
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

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

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Relative names and contents of all files below a folder, sidecars left out.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            } else if path.file_name().unwrap() != ".blobkeep" {
                folders.push(path);
            }
        }
    }
    found
}

/// Replaces a file of the vault, as damage would.
fn overwrite(path: &Path, content: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn lost_blobs_are_named_and_what_to_do_is_said() {
    let world = World::with_vault();
    world.back_up();
    let packs = files(&world.at("vault/packs"));
    let (name, _) = packs.iter().max_by_key(|(_, content)| content.len()).unwrap();
    std::fs::remove_file(world.at("vault/packs").join(name)).unwrap();
    let output = world.run(&["verify", "--depth", "structure"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("lost: documents/large.bin in point"), "{said}");
    assert!(stderr(&output).contains("back up into a new vault"), "{}", stderr(&output));
    let output = world.run(&["verify", "--rehearse", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["failedBlobs"].as_u64().unwrap() > 0 && report["failures"][0].as_str().unwrap().contains(name));
    // The source still has everything: the next backup is whole, and so is the first point again.
    let mended = world.back_up();
    assert!(mended["readBlobs"].as_u64().unwrap() > 0);
    world.done(&["restore", "--target", &world.text("restored")]);
    assert!(files(&world.at("restored")) == world.source());
}

#[test]
fn points_show_when_they_were_proven() {
    let world = World::with_vault();
    world.back_up();
    assert_eq!(
        (&world.points()[0]["structureProven"], &world.points()[0]["bytesProven"]),
        (&Value::Null, &Value::Null)
    );
    assert!(world.done(&["list"]).contains("never"));
    world.done(&["verify", "--depth", "structure"]);
    assert!(world.points()[0]["structureProven"].is_string() && world.points()[0]["bytesProven"].is_null());
    let report: Value = serde_json::from_str(&world.done(&["verify", "--percent", "50", "--output", "json"])).unwrap();
    assert_eq!((&report["packs"], &report["packsInAll"]), (&Value::from(1), &Value::from(2)));
    world.done(&["verify", "--percent", "50"]);
    assert!(world.points()[0]["bytesProven"].is_string());
    assert!(world.done(&["verify", "--rehearse"]).contains("came out as they went in"));
    world.fails(&["verify", "--percent", "0"], 2);
    world.fails(&["verify", "--rehearse", "--percent", "5"], 2);
    assert!(world.fails(&["verify", "--depth", "structure", "--percent", "5"], 1).contains("leave one of them out"));
}

#[test]
fn an_index_that_is_gone_is_made_anew() {
    let world = World::with_vault();
    world.back_up();
    std::fs::remove_dir_all(world.at("vault/index")).unwrap();
    assert!(world.fails(&["verify"], 1).contains("rebuild-index"));
    assert!(world.done(&["rebuild-index"]).contains("wrote 1 index run"));
    world.done(&["verify"]);
    world.done(&["restore", "--target", &world.text("restored")]);
    assert!(files(&world.at("restored")) == world.source());
}

#[test]
fn the_points_of_a_damaged_chain_can_still_be_restored() {
    let world = World::with_vault();
    let point = world.back_up();
    let record = std::fs::read_dir(world.at("vault/state")).unwrap().map(|entry| entry.unwrap().path());
    let chain = record.into_iter().find(|path| path.file_name().unwrap() != "vault").unwrap();
    let record = chain.join("0000000001");
    overwrite(&record, b"damaged");
    let output = world.run(&["list", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let points: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(points[0]["id"], point["id"]);
    world.done(&["restore", "--target", &world.text("restored")]);
    assert!(files(&world.at("restored")) == world.source());
}
