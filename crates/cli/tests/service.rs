//! The service and its client commands as real processes, on the built-in emulator: what an operator types, from the first start to a
//! restore.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A process that prints lines and runs until it is told to stop.
struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Running {
    /// Starts a command and reads its first lines from standard output.
    fn start(arguments: &[&str], lines: usize) -> Self {
        let mut child = blobkeep().args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout.lines().take(lines).map(Result::unwrap).collect();
        Self { child, lines }
    }

    /// Asks it to stop; its exit code and how long it took.
    fn stop(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        (self.child.wait().unwrap().code(), began.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn blobkeep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blobkeep"));
    for name in
        ["BLOBKEEP_CONNECTION_STRING", "BLOBKEEP_DATABASE", "BLOBKEEP_ENDPOINT", "AZURE_SUBSCRIPTION_ID", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command
}

/// A service with the emulator's accounts, and the words of an operator.
struct World {
    folder: TempDir,
    service: Running,
    emulator: Running,
    env: Value,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let emulator =
            Running::start(&["emulator", "--listen", "127.0.0.1:0", "--account", "source", "--account", "target"], 3);
        let data_dir = folder.path().join("data");
        let service = serve(&data_dir);
        let output = blobkeep().args(["env", "--format", "json", "--data-dir"]).arg(&data_dir).output().unwrap();
        assert!(output.status.success());
        Self { env: serde_json::from_slice(&output.stdout).unwrap(), folder, service, emulator }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn account_id(&self, name: &str) -> String {
        let subscription = self.env["AZURE_SUBSCRIPTION_ID"].as_str().unwrap();
        format!("/subscriptions/{subscription}/resourceGroups/team/providers/Microsoft.Storage/storageAccounts/{name}")
    }

    fn connection_string(&self, position: usize) -> &str {
        &self.emulator.lines[position]
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let connection = self.folder.path().join("connection");
        blobkeep()
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("SECRET", std::fs::read_to_string(connection).unwrap_or_default())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed and print JSON.
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail; what it said.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        stderr
    }

    fn connect(&self, name: &str, connection_string: &str) {
        std::fs::write(self.folder.path().join("connection"), connection_string).unwrap();
        let id = self.account_id(name);
        let arguments = ["storage-account", "add", &id, "--location", "westus", "--create-group"];
        let added = self.done(&[arguments.as_slice(), &["--connection-string", "env:SECRET"]].concat());
        assert_eq!(added["name"], name);
        assert!(!added.to_string().contains("AccountKey"), "no secret comes back");
    }
}

fn serve(data_dir: &Path) -> Running {
    let data_dir = data_dir.to_str().unwrap();
    let service = Running::start(&["serve", "--data-dir", data_dir, "--listen", "127.0.0.1:0"], 1);
    assert!(service.lines[0].starts_with("listening on https://"), "{:?}", service.lines);
    service
}

/// Fills an emulator's account by an offline restore of a folder.
fn fill(world: &World, connection_string: &str) {
    let root = world.folder.path();
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(root.join("photos/2024")).unwrap();
    for number in 0..20 {
        std::fs::write(root.join(format!("photos/2024/{number}.jpg")), vec![number; 5000]).unwrap();
    }
    std::fs::write(root.join("photos/index.txt"), "all photos").unwrap();
    let (store, key, source) = (at("vault"), at("vault.key"), at("photos"));
    let offline = |arguments: &[&str]| {
        let output = blobkeep()
            .args(["offline", arguments[0], "--store", &store, "--key-file", &key])
            .args(&arguments[1..])
            .env("BLOBKEEP_CONNECTION_STRING", connection_string)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    offline(&["init"]);
    offline(&["backup", "--source", &source]);
    offline(&["restore"]);
}

/// Browses, searches and compares the only point of the instance `photos`.
fn looks_into_the_point(world: &World, scope: &[&str]) {
    let look = |verb: &[&str]| {
        let arguments = [["recovery-point"].as_slice(), verb, &["--instance", "photos"], scope].concat();
        let found = world.done(&arguments);
        let names = found.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(look(&["browse", "latest"]), ["photos"]);
    assert_eq!(look(&["browse", "latest", "--container", "photos"]), ["2024/", "index.txt"]);
    assert_eq!(look(&["browse", "latest", "--container", "photos", "--prefix", "2024/1", "--flat"]).len(), 11);
    assert_eq!(look(&["search", "**/7.jpg"]), ["2024/7.jpg"]);
    assert!(look(&["diff", "latest", "--with", "latest"]).is_empty());
}

#[test]
fn an_operator_protects_an_account_and_restores_it_elsewhere() {
    let world = World::new();
    let (source, target) = (world.account_id("source"), world.account_id("target"));
    fill(&world, world.connection_string(1));
    world.connect("source", world.connection_string(1));
    world.connect("target", world.connection_string(2));
    assert_eq!(world.done(&["storage-account", "list"]).as_array().unwrap().len(), 2);

    let vault = world.done(&["vault", "create", "safe", "-g", "team", "--location", "westus"]);
    assert!(!vault["identity"]["principalId"].as_str().unwrap().is_empty());
    let scope = ["-g", "team", "--vault-name", "safe"];
    let with_scope = |arguments: &[&'static str]| [arguments, &scope].concat();
    let policy =
        ["policy", "create", "nightly", "--daily", "02:00", "--retention-days", "30", "--time-zone", "Europe/Berlin"];
    assert_eq!(world.done(&with_scope(&policy))["name"], "nightly");

    let mut validate = with_scope(&["instance", "validate", "--policy", "nightly"]);
    validate.extend(["--account", &source]);
    let refused = world.fails(&validate);
    assert!(refused.starts_with("error: UserErrorMissingRequiredPermissions: "), "{refused}");
    assert!(refused.contains("what to do: "), "{refused}");
    for account in [&source, &target] {
        world.done(&["vault", "grant", "safe", "-g", "team", "--account", account]);
    }
    world.done(&validate);
    let mut create = with_scope(&["instance", "create", "photos", "--policy", "nightly", "--all"]);
    create.extend(["--account", &source]);
    assert_eq!(world.done(&create)["properties"]["currentProtectionState"], "ProtectionConfigured");

    let job = world.done(&with_scope(&["instance", "backup", "photos", "--wait"]));
    assert_eq!(job["properties"]["status"], "Completed");
    let points = world.done(&with_scope(&["recovery-point", "list", "--instance", "photos"]));
    assert_eq!(points.as_array().unwrap().len(), 1);
    looks_into_the_point(&world, &scope);
    let ended = job["name"].as_str().unwrap();
    let cancelled = world.fails(&[["job", "cancel", ended].as_slice(), &scope].concat());
    assert!(cancelled.starts_with("error: UserErrorOperationNotAllowedInState: "), "{cancelled}");
    assert_eq!(world.done(&["vault", "verify", "safe", "-g", "team"])["isSound"], true);
    let shorter = ["policy", "preview", "nightly", "--daily", "02:00", "--retention-days", "7"];
    let preview = world.done(&with_scope(&shorter));
    assert_eq!((&preview["changedPoints"], &preview["removedNow"]), (&Value::from(1), &Value::from(0)));

    let mut restore =
        with_scope(&["restore", "trigger", "photos", "--recovery-point", "latest", "--container", "photos"]);
    restore.extend(["--prefix", "2024/", "--rename", "photos=old-photos", "--wait", "--target", &target]);
    assert_eq!(world.done(&restore)["properties"]["status"], "Completed");
    let again = world.fails(&restore);
    assert!(again.contains("old-photos"), "a container of that name refuses the restore: {again}");
    assert_eq!(world.done(&with_scope(&["job", "list"])).as_array().unwrap().len(), 3);

    world.done(&with_scope(&["instance", "delete", "photos"]));
    assert_eq!(world.done(&with_scope(&["instance", "list"])), Value::Array(Vec::new()));
    world.done(&with_scope(&["instance", "undelete", "photos"]));
    assert_eq!(world.done(&with_scope(&["instance", "list"])).as_array().unwrap().len(), 1);
    assert!(world.fails(&["vault", "show", "nothing-such", "-g", "team"]).starts_with("error: ResourceNotFound: "));
}

#[test]
fn a_client_finds_the_service_by_the_environment() {
    let world = World::new();
    let mut command = blobkeep();
    for (name, value) in world.env.as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    let output = command.args(["vault", "list", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"[]\n");
    command.env("AZURE_CLIENT_SECRET", "wrong");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refuses to sign in"));
}

#[test]
fn the_service_stops_when_asked_and_comes_back_with_everything() {
    let world = World::new();
    world.done(&["vault", "create", "safe", "-g", "team", "--location", "westus", "--create-group"]);
    let World { folder, service, emulator, env } = world;
    let (code, took) = service.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(30), "{took:?}");
    let service = serve(&folder.path().join("data"));
    let world = World { folder, service, emulator, env };
    assert_eq!(world.done(&["vault", "list", "-g", "team"])[0]["name"], "safe");
    let second =
        blobkeep().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(world.data_dir()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use"));
}

#[test]
fn what_serve_cannot_do_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let output = blobkeep().arg("serve").arg("--data-dir").arg(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = serve(&["--database", "postgres://keeper:topsecret@localhost:1/backup"]);
    let what_to_do = "cannot use the PostgreSQL database backup at localhost:1 (user keeper): it cannot be reached";
    assert!(code == Some(1) && said.contains(what_to_do) && !said.contains("topsecret"), "{said}");
    let (code, said) = serve(&["--database", "postgres://keeper:top/secret@localhost:1/backup"]);
    assert!(code == Some(2) && said.contains("%2F") && !said.contains("secret"), "{said}");
    std::fs::write(folder.path().join("odd.toml"), "no_such_key = 1\n").unwrap();
    let file = folder.path().join("odd.toml");
    let (code, said) = serve(&["--config", file.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("no_such_key"), "{said}");
    let output = blobkeep().args(["env", "--data-dir", "/no/such/folder"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_quickstart_tells_the_whole_story() {
    let folder = tempfile::tempdir().unwrap();
    let output = blobkeep().arg("quickstart").env("HOME", folder.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    for told in ["https://", "UserErrorMissingRequiredPermissions", "ProtectionConfigured", "compared equal: 434 blobs"]
    {
        assert!(stdout.contains(told), "{told} is missing in {stdout}");
    }
}

#[test]
fn the_quickstart_protects_a_folder_and_only_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine");
    std::fs::create_dir_all(mine.join("letters")).unwrap();
    std::fs::write(mine.join("letters/two ü.txt"), "Dear other reader").unwrap();
    std::fs::write(mine.join("beside.txt"), "beside the folders").unwrap();
    let output = blobkeep().arg("quickstart").arg("--source").arg(&mine).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("compared equal: 2 blobs"), "{stdout}");
    let names: Vec<_> = std::fs::read_dir(&mine).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing was added: {names:?}");
}
