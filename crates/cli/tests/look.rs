//! What `blobkeep offline diff` and `offline search` promise, told with the real command on folders.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a source, a vault, and two points of it; between them one file was changed, one added and one removed.
struct World {
    root: TempDir,
    points: Vec<String>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { root: tempfile::tempdir().unwrap(), points: Vec::new() };
        for number in 0..30 {
            world.write(&format!("part-{}/file {number}.txt", number % 3), &vec![number as u8; 100 * number]);
        }
        world.write("plan.txt", b"first");
        world.ok(&["init"]);
        world.back_up();
        world.write("plan.txt", b"second thoughts");
        world.write("new.txt", b"new");
        std::fs::remove_file(world.at("documents/part-1/file 4.txt")).unwrap();
        world.back_up();
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

    fn back_up(&mut self) {
        let report = self.json(&["backup", "--source", &self.text("documents")]);
        self.points.push(report["id"].as_str().unwrap().to_owned());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_blobkeep"))
            .args(["offline", verb, "--store", &self.text("vault"), "--key-file", &self.text("vault.key")])
            .args(rest)
            .env_remove("BLOBKEEP_CONNECTION_STRING")
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.ok(&arguments).0).unwrap()
    }

    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stderr(&output)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The changes of a diff, as words.
fn changes(diff: &Value) -> Vec<String> {
    let words = |difference: &Value| {
        let text = |name: &str| difference[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("change"), text("what"), text("container"), text("name"))
    };
    diff["differences"].as_array().unwrap().iter().map(words).collect()
}

#[test]
fn a_diff_shows_what_became_of_a_source_since_the_point_before() {
    let world = World::new();
    let diff = world.json(&["diff"]);
    // A folder that gets a file has another time of change.
    let expected = [
        "changed properties documents -",
        "added - documents new.txt",
        "removed - documents part-1/file 4.txt",
        "changed content documents plan.txt",
    ];
    assert_eq!(changes(&diff), expected);
    assert_eq!(
        (&diff["from"]["id"], &diff["point"]["id"]),
        (&world.points[0].clone().into(), &world.points[1].clone().into())
    );
    let plan = &diff["differences"][3];
    assert_eq!((&plan["before"]["bytes"], &plan["after"]["bytes"]), (&5.into(), &15.into()));
    assert_eq!(diff["more"], false);
    let (table, _) = world.ok(&["diff"]);
    assert!(table.contains("plan.txt") && table.contains("15 B") && table.contains(&world.points[0]), "{table}");
}

#[test]
fn a_diff_goes_either_way_and_the_first_point_is_compared_with_nothing() {
    let world = World::new();
    let (first, second) = (world.points[0].as_str(), world.points[1].as_str());
    let back = world.json(&["diff", "--from", second, "--point", first, "--prefix", "new", "--prefix", "plan"]);
    assert_eq!(changes(&back), ["removed - documents new.txt", "changed content documents plan.txt"]);
    let whole = world.json(&["diff", "--point", first]);
    assert_eq!(whole["from"], Value::Null);
    assert_eq!(changes(&whole).len(), 32, "31 files and their container");
    assert!(world.ok(&["diff", "--from", first, "--point", first]).0.contains("nothing differs"));
    assert!(world.fails(&["diff", "--container", "stray"], 1).contains("documents"));
    assert!(world.fails(&["diff", "--from", "zzz"], 1).contains("no recovery point zzz"));
    world.fails(&["diff", "--limit", "0"], 2);
}

#[test]
fn a_limit_says_that_there_is_more() {
    let world = World::new();
    let diff = world.json(&["diff", "--limit", "2"]);
    assert_eq!((changes(&diff).len(), &diff["more"]), (2, &true.into()));
    assert_eq!(world.json(&["diff", "--limit", "4"])["more"], false);
    assert!(world.ok(&["diff", "--limit", "2"]).1.contains("larger --limit"));
}

fn names(found: &Value) -> Vec<String> {
    found["found"].as_array().unwrap().iter().map(|blob| blob["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_search_finds_what_is_gone_and_names_the_newest_point_with_it() {
    let world = World::new();
    let gone = world.json(&["search", "file 4."]);
    assert_eq!(names(&gone), ["part-1/file 4.txt"]);
    assert_eq!(gone["found"][0]["point"], world.points[0]);
    assert_eq!(names(&world.json(&["search", "file 4.", "--point", "latest"])), Vec::<String>::new());
    let plans = world.json(&["search", "--prefix", "plan"]);
    let points: Vec<&Value> = plans["found"].as_array().unwrap().iter().map(|blob| &blob["point"]).collect();
    assert_eq!(points, [&world.points[1], &world.points[0]], "newest first");
    assert_eq!(names(&world.json(&["search", "part-?/*1?.txt", "--point", "latest"])).len(), 10);
    assert_eq!(names(&world.json(&["search", "*.txt", "--point", "latest"])), ["new.txt", "plan.txt"]);
    assert_eq!(names(&world.json(&["search", "**.txt", "--container", "stray"])), Vec::<String>::new());
    assert!(world.ok(&["search", "nothing of the kind"]).0.contains("no blob"));
}

#[test]
fn a_search_over_several_sources_goes_on_where_it_stopped() {
    let mut world = World::new();
    std::fs::create_dir(world.at("letters")).unwrap();
    std::fs::write(world.at("letters/file of letters.txt"), "Dear reader").unwrap();
    world.json(&["backup", "--source", &world.text("letters")]);
    world.write("part-1/file 7.txt", b"other");
    world.back_up();
    let whole = names(&world.json(&["search", "file"]));
    assert_eq!(whole.len(), 32, "29 files, one that is gone, an older version and a letter");
    let (mut in_pages, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["search", "file", "--limit", "5"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = world.json(&arguments);
        in_pages.extend(names(&page));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(in_pages, whole);
    assert!(world.ok(&["search", "file", "--limit", "5"]).1.contains("--after"));
}

#[test]
fn the_history_of_a_blob_is_told_from_its_first_version_on() {
    let mut world = World::new();
    world.write("part-0/file 0.txt", b"unrelated");
    world.back_up();
    let history = world.json(&["search", "--history", "documents/plan.txt"]);
    let versions = history["versions"].as_array().unwrap();
    let points = |version: &Value| -> Vec<String> {
        version["points"].as_array().unwrap().iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(versions.iter().map(points).collect::<Vec<_>>(), [&world.points[..1], &world.points[1..]]);
    assert_eq!(versions[0]["properties"]["bytes"], 5);
    let (table, said) = world.ok(&["search", "--history", "documents/plan.txt", "--limit", "1"]);
    assert!(table.contains(&world.points[2]) && !table.contains(&world.points[0]), "{table}");
    assert!(said.contains("1 older"), "{said}");
    assert!(world.fails(&["search", "--history", "documents/none"], 1).contains("no recovery point holds"));
}

#[test]
fn a_search_that_cannot_be_meant_ends_with_2() {
    let world = World::new();
    world.fails(&["search"], 2);
    world.fails(&["search", "x", "--prefix", "y"], 2);
    world.fails(&["search", "--history", "documents/plan.txt", "--point", "latest"], 2);
    assert!(world.fails(&["search", "--history", "documents"], 2).contains("CONTAINER/NAME"));
    assert!(world.fails(&["search", "*\\"], 2).contains("`\\\\`"));
    assert!(world.fails(&["search", "x", "--after", "y"], 2).contains("where a search stopped"));
}

/// Relative names of all files below a folder.
fn restored(world: &World, folder: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![world.at(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.to_str().unwrap().to_owned()),
            }
        }
    }
    let root = format!("{}/", world.text(folder));
    let mut names: Vec<String> = found.iter().map(|path| path.trim_start_matches(&root).to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_restore_takes_globs_and_single_blobs_and_any_order_takes_all() {
    let world = World::new();
    let target = world.text("some");
    let include = ["--include", "part-?/file 1?.txt", "--include", "/documents/plan.txt", "--prefix", "new"];
    world.ok(&[&["restore", "--target", &target], &include[..]].concat());
    let mut expected: Vec<String> = (10..20).map(|number| format!("part-{}/file {number}.txt", number % 3)).collect();
    expected.extend(["new.txt".to_owned(), "plan.txt".to_owned()]);
    expected.sort();
    assert_eq!(restored(&world, "some"), expected);
    let all = world.text("all");
    world.ok(&["restore", "--target", &all, "--first", "/documents/plan.txt", "--first", "**/*2*"]);
    assert_eq!(restored(&world, "all"), restored(&world, "documents"));
    let other = world.text("other");
    let stray = world.fails(&["restore", "--target", &other, "--include", "/stray/*"], 1);
    assert!(stray.contains("stray") && stray.contains("documents"), "{stray}");
    assert!(world.fails(&["restore", "--target", &other, "--include", "/stray"], 2).contains("/CONTAINER/GLOB"));
}

#[test]
fn a_limit_holds_back_a_backup_and_a_restore() {
    let world = World::new();
    world.write("big.bin", &vec![1; 100_000]);
    let source = world.text("documents");
    // The first read passes at once; thirty small files were changed before, so that others wait for it.
    for number in 0..10 {
        world.write(&format!("part-0/more {number}.txt"), &vec![number; 10_000]);
    }
    let began = std::time::Instant::now();
    world.ok(&["backup", "--source", &source, "--limit", "200kB/s"]);
    assert!(
        began.elapsed().as_secs_f64() > 0.4,
        "200 kB without what passes at once, at 200 kB/s: {:?}",
        began.elapsed()
    );
    world.ok(&["backup", "--source", &source, "--limit", "00:00-24:00=1GiB/s,100000req/s; else unlimited"]);
    let began = std::time::Instant::now();
    world.ok(&["restore", "--target", &world.text("slow"), "--limit", "100req/s"]);
    assert!(began.elapsed().as_secs_f64() > 0.3, "more than 40 writes at 100 in a second: {:?}", began.elapsed());
    assert_eq!(restored(&world, "slow"), restored(&world, "documents"));
    for limit in ["fast", "20MiB", "8-18=1MiB/s"] {
        let said = world.fails(&["backup", "--source", &source, "--limit", limit], 2);
        assert!(said.contains("08:00-18:00=20MiB/s"), "{said}");
    }
}
