//! The official examples of the specification (`testdata/api/examples`), sent to a service: what concerns blobs is accepted with a status that
//! the example allows, everything else is refused with a code that says why. The answers are kept in `tests/snapshots/examples`.
//!
//! `INSTA_UPDATE=always` writes the answers anew, to be looked through before they are committed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "examples/example.rs"]
mod example;
#[path = "examples/redact.rs"]
mod redact;
#[path = "examples/table.rs"]
mod table;
#[path = "examples/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use common::Got;
use example::{Example, operations};
use redact::Redactor;
use serde_json::{Value, json};
use table::{Came, QUIRKS, ROWS, Row};
use world::{Stage, World};

/// What an answer tells besides its body.
const HEADERS: &[&str] = &["azure-asyncoperation", "location", "retry-after"];

/// What is wrong with an answer.
fn fault(row: &Row, example: &Example, got: &Got) -> Option<String> {
    let (wanted, code) = match row.came {
        Came::Accepted(status) => (status, ""),
        Came::NotForBlobs(status, code) => (status, code),
    };
    let is_allowed = match row.came {
        Came::Accepted(status) => example.statuses().any(|allowed| allowed == status),
        Came::NotForBlobs(..) => (400..500).contains(&wanted),
    };
    if !is_allowed {
        return Some(format!("{}: the table may not say {wanted}", row.example));
    }
    let came = (got.status, got.code());
    (came != (wanted, code)).then(|| format!("{}: {came:?} instead of {:?}: {}", row.example, (wanted, code), got.text))
}

/// What is kept of an answer.
fn kept(redactor: &Redactor, request: &str, got: &Got) -> Value {
    let mut headers = serde_json::Map::new();
    for name in HEADERS.iter().filter(|name| got.headers.contains_key(**name)) {
        headers.insert((*name).to_owned(), json!(redactor.text(got.header(name))));
    }
    let body = redactor.value(&got.body);
    json!({ "request": redactor.text(request), "status": got.status, "headers": headers, "body": body })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_specification_are_answered_as_the_table_says() {
    let world = World::start().await;
    let (mut faults, mut answers) = (Vec::new(), Vec::new());
    for row in ROWS {
        let example = Example::read(row.example);
        let mut stage = Stage::new(&world, &example).await;
        for need in row.needs {
            stage.set(*need).await;
        }
        let (request, got) = stage.send().await;
        faults.extend(fault(row, &example, &got));
        let redactor = Redactor { endpoint: &world.service.env.endpoint, subscription: stage.subscription() };
        answers.push((row, kept(&redactor, &request, &got)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/examples");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (row, answer) in answers {
        settings.bind(|| insta::assert_json_snapshot!(row.name(), answer));
    }
}

#[test]
fn every_example_is_in_the_table_once_and_every_operation_has_an_example() {
    let files = Example::all();
    let rows: Vec<String> = ROWS.iter().map(|row| row.example.to_owned()).collect();
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), files);
    assert_eq!(rows.len(), files.len());
    let names: BTreeSet<&str> = ROWS.iter().map(Row::name).collect();
    assert_eq!(names.len(), rows.len(), "two examples have the same name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/examples");
    let kept = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.collect::<BTreeSet<_>>(), names.iter().map(|name| format!("{name}.snap")).collect());
    let shown: BTreeSet<String> = ROWS.iter().map(|row| Example::read(row.example).operation).collect();
    assert_eq!(shown, operations().into_keys().collect());
}

#[test]
fn every_quirk_is_in_the_examples_that_it_names() {
    for quirk in QUIRKS {
        for name in quirk.examples {
            let example = Example::read(name);
            let found = example.body().and_then(|body| body.pointer(quirk.at));
            assert_eq!(found, Some(&json!(quirk.says)), "{name}: {}", quirk.why);
        }
    }
}

#[test]
fn what_differs_from_run_to_run_is_redacted_and_nothing_else() {
    let id = "0b352192-dcac-4cc7-992e-a96190ccc68c";
    let redactor = Redactor { endpoint: "https://localhost:1", subscription: id };
    let operation = format!("{}==", "YWUz".repeat(24) + "YW");
    for (text, expected) in [
        (format!("https://localhost:1/subscriptions/{id}/x"), "{service}/subscriptions/{subscription}/x"),
        ("exportjobsreport1c2d3e4f-0000-4000-8000-0123456789ab.json".to_owned(), "exportjobsreport{guid}.json"),
        (
            format!("operationStatus/{operation}?api-version=2026-06-01"),
            "operationStatus/{operation}?api-version=2026-06-01",
        ),
        ("W/\"datetime'2026-11-23T01:02:03.4567890Z'\"".to_owned(), "W/\"datetime'{time}'\""),
        ("R/2019-11-20T08:00:00-08:00/P1W".to_owned(), "R/2019-11-20T08:00:00-08:00/P1W"),
        ("a-2a76f8a-c176-4f7d-819e-95157e2b0071".to_owned(), "a-2a76f8a-c176-4f7d-819e-95157e2b0071"),
    ] {
        assert_eq!(redactor.text(&text), expected);
    }
    let links = json!({ "blobSasKey": "sig=x", "eTag": "\"1-1\"", "list": [{ "id": id }] });
    let expected = json!({ "blobSasKey": "{signed}", "eTag": "{etag}", "list": [{ "id": "{subscription}" }] });
    assert_eq!(redactor.value(&links), expected);
}
