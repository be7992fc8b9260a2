//! Every operation is driven without a token, by somebody without any role, with a role that does not allow it, and with the least one that does.
//! What came of it is the list `docs/coverage.md`; `docs/api.md` must have a row for each operation and each error.
//!
//! `BLOBKEEP_BLESS=1` writes the list anew, to be looked through before it is committed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "coverage/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use blobkeep_arm::ErrorCode;
use blobkeep_server::api::{Access, Route, routes};
use blobkeep_server::auth::roles::BUILT_IN;
use common::Got;
use world::{World, role_id};

/// What is answered without a token: how to get one, whether the service is there, and what carries a signature of its own.
const PUBLIC: &[&str] = &[
    "Export_Download",
    "Health",
    "Metadata_Endpoints",
    "Token_Issue",
    "Token_IssueV2",
    "Token_Keys",
    "Token_KeysV2",
    "Token_OpenIdConfiguration",
    "Token_OpenIdConfigurationV2",
];

/// What shows something to everybody who has signed in: catalogues, and the caller itself.
const OPEN: &[&str] = &[
    "DataProtectionOperations_List",
    "Graph_ServicePrincipals",
    "Providers_GetAtTenantScope",
    "Providers_ListAtTenantScope",
    "Tenants_List",
];

/// Roles from the one that may least to the one that may everything, as far as that can be said.
const LEAST_FIRST: &[&str] = &[
    "Storage Blob Data Contributor",
    "Backup Reader",
    "Reader",
    "Backup Operator",
    "Backup Contributor",
    "Backup MUA Operator",
    "Backup MUA Admin",
    "Storage Account Contributor",
    "User Access Administrator",
    "Contributor",
    "Owner",
];

/// What a handler asks for beside its route's own action, because it depends on the subject.
const ALSO_NEEDED: &[(&str, &str)] = &[
    ("BlobkeepJobs_Cancel", "Microsoft.DataProtection/backupVaults/backupInstances/write"),
    ("BlobkeepAccounts_UndoProtection", "Microsoft.Authorization/locks/delete"),
];

fn allows(role: &str, action: &str) -> bool {
    BUILT_IN.iter().any(|known| known.name == role && known.allows(action))
}

/// The role allows the action, and what else the operation needs.
fn suffices(role: &str, action: &str, operation: &str) -> bool {
    let mut others = ALSO_NEEDED.iter().filter(|(known, _)| *known == operation);
    allows(role, action) && others.all(|(_, other)| allows(role, other))
}

/// The role that may most and still not this.
fn wrong_role_of(action: &str) -> &'static str {
    let known = LEAST_FIRST.iter().copied().filter(|name| BUILT_IN.iter().any(|role| role.name == *name));
    let wrong = known.rev().find(|name| !allows(name, action));
    wrong.unwrap_or_else(|| panic!("every role allows {action}"))
}

/// The role that a request is sent with; none for what needs no token.
fn role_of(route: &Route) -> Option<&'static str> {
    match route.access {
        Access::Public => None,
        Access::Action(action) => {
            let least = LEAST_FIRST.iter().copied().find(|name| suffices(name, action, route.operation));
            Some(least.unwrap_or_else(|| panic!("no role allows {action}")))
        }
        // The handler decides; what it asks for is reading role assignments, or changing them.
        Access::SignedIn | Access::Unversioned if route.method.is_safe() => Some("Reader"),
        Access::SignedIn | Access::Unversioned => Some("User Access Administrator"),
    }
}

/// What is only read comes first, then what is changed, then what is removed, the innermost thing first.
fn in_order(mut all: Vec<&'static Route>) -> Vec<&'static Route> {
    let rank = |route: &Route| match route.method.as_str() {
        "GET" | "HEAD" => (0, 0),
        "DELETE" => (2, usize::MAX - route.pattern.len()),
        _ => (1, 0),
    };
    all.sort_by_key(|route| rank(route));
    all
}

const OPEN_TO_ALL: &str = "200, open to all";

/// What somebody without any role was shown: nothing, nothing of anybody's, or what everybody is shown.
fn shown_to_a_stranger(route: &Route, got: &Got) -> &'static str {
    let is_empty = got.body["value"].as_array().is_some_and(Vec::is_empty);
    match got.status {
        403 => "403",
        200 if is_empty => "200, an empty list",
        200 => OPEN_TO_ALL,
        _ => panic!("{route:?} answers a stranger {}: {}", got.status, got.text),
    }
}

#[tokio::test]
async fn every_operation_is_answered_to_whom_it_should_be() {
    let world = World::start().await;
    let (_, stranger) = world.service.principal("stranger").await;
    let mut tokens = Vec::new();
    for role in LEAST_FIRST.iter().filter(|name| BUILT_IN.iter().any(|role| role.name == **name)) {
        let (object, token) = world.service.principal(&role.replace(' ', "-")).await;
        world.service.assign(&object, role_id(role), "/").await;
        tokens.push((*role, token));
    }
    let token_of =
        |wanted: &str| tokens.iter().find(|(name, _)| *name == wanted).map_or("", |(_, token)| token.as_str());
    let mut lines = BTreeSet::new();
    for route in in_order(routes()) {
        world.set_states().await;
        assert_eq!(route.access == Access::Public, PUBLIC.contains(&route.operation), "{route:?}");
        let (mut without_token, mut without_role, mut wrong_role) = ("–".to_owned(), "–", "–".to_owned());
        if route.access != Access::Public {
            let got = world.drive("", route).await;
            assert_eq!(got.status, 401, "{route:?}: {}", got.text);
            assert!(got.code() == "AuthenticationFailed" || route.method == http::Method::HEAD, "{route:?}");
            without_token = got.status.to_string();
            let got = world.drive(&stranger, route).await;
            without_role = shown_to_a_stranger(route, &got);
            assert_eq!(without_role == OPEN_TO_ALL, OPEN.contains(&route.operation), "{route:?}: {}", got.text);
            assert!(got.status == 403 || !matches!(route.access, Access::Action(_)), "{route:?}: {}", got.text);
        }
        if let Access::Action(action) = route.access {
            let role = wrong_role_of(action);
            let got = world.drive(token_of(role), route).await;
            assert_eq!(got.status, 403, "{route:?} with the role {role}: {}", got.text);
            wrong_role = format!("403 ({role})");
        }
        let role = role_of(route);
        let got = world.drive(role.map_or("", token_of), route).await;
        let is_refused = matches!(got.status, 401 | 500..) || got.code() == "InvalidResourceType";
        assert!(!is_refused, "{route:?} with the role {role:?}: {} {}", got.status, got.text);
        // Keys are never given out, whatever the role.
        let is_forbidden = got.status == 403 && !["ListKeysNotOffered", "ExportLinkInvalid"].contains(&got.code());
        assert!(!is_forbidden, "{route:?} with the role {role:?}: {}", got.text);
        let (operation, method) = (route.operation, &route.method);
        let path = format!("/{}", route.pattern.trim_start_matches('/'));
        let came = if got.status < 400 { got.status.to_string() } else { format!("{} {}", got.status, got.code()) };
        let role = role.unwrap_or("none, no token");
        let refused = format!("{without_token} | {without_role} | {wrong_role}");
        lines.insert(format!("| {operation} | `{method} {path}` | {refused} | {role} | {came} |"));
    }
    compare_with_document(&list_of(&lines));
}

fn list_of(lines: &BTreeSet<String>) -> String {
    let mut text = String::from(
        "# Coverage\n\n\
         Every operation that is served, as a test drives it (`crates/server/tests/coverage.rs`): without a token, with a token but no role, with the\n\
         largest built-in role that does not allow it, and with the least one that does. The last column is what came of a plain request with that role;\n\
         refusals there are what the subject of the request calls for, such as 409 for a vault that is not empty.\n\
         Written by `BLOBKEEP_BLESS=1 cargo test -p blobkeep-server --test coverage`.\n\n\
         | operation | method and path | no token | no role | wrong role | role | with it |\n|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn compare_with_document(text: &str) {
    let file = root().join("docs/coverage.md");
    if std::env::var_os("BLOBKEEP_BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let document = std::fs::read_to_string(&file).unwrap_or_default();
    let known: BTreeSet<&str> = document.lines().collect();
    let now: BTreeSet<&str> = text.lines().collect();
    let (gone, new): (Vec<_>, Vec<_>) = (known.difference(&now).collect(), now.difference(&known).collect());
    assert!(
        document == text,
        "docs/coverage.md is out of date (BLOBKEEP_BLESS=1 writes it): {gone:#?} are now {new:#?}"
    );
}

/// Name, method and path of each operation of the specification.
fn specified() -> Vec<(&'static str, &'static str, &'static str)> {
    let lines = include_str!("../../../testdata/api/operations.tsv").lines().filter(|line| !line.starts_with('#'));
    let columns = |line: &'static str| {
        let mut columns = line.split('\t');
        (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap())
    };
    lines.map(columns).collect()
}

/// A path without the names of its placeholders, and without case.
fn erased(path: &str) -> String {
    let mut text = String::from("/");
    let mut rest = path.trim_start_matches('/');
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push_str("{}");
        rest = after.split_once('}').unwrap().1;
    }
    text.push_str(rest);
    text.to_lowercase()
}

#[test]
fn every_operation_of_the_specification_has_its_route() {
    let specified = specified();
    assert_eq!(specified.len(), 75);
    let all = routes();
    for (operation, method, path) in &specified {
        let served = all.iter().find(|route| route.operation == *operation);
        let route = served.unwrap_or_else(|| panic!("{operation} is not served"));
        assert_eq!((route.method.as_str(), erased(route.pattern)), (*method, erased(path)), "{operation}");
    }
}

/// The rows of a part of `docs/api.md`, each as its cells.
fn rows(from: &str, to: &str) -> Vec<Vec<String>> {
    let document = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    let after = document.split_once(&format!("\n{from}\n")).unwrap_or_else(|| panic!("docs/api.md has no '{from}'")).1;
    let part = after.split_once(&format!("\n{to}\n")).unwrap_or_else(|| panic!("docs/api.md has no '{to}'")).0;
    let rows = part.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").map(|cell| cell.trim().to_owned()).collect());
    cells.filter(|cells: &Vec<String>| !cells[0].is_empty()).collect()
}

/// The abbreviations of `docs/api.md` written out.
fn written_out(text: &str) -> String {
    let mut text = text.trim_matches('`').to_owned();
    for (short, long) in [
        ("{V}", "{G}/providers/Microsoft.DataProtection/backupVaults/{vault}"),
        ("{A}", "{G}/providers/Microsoft.Storage/storageAccounts/{account}"),
        ("{G}", "{S}/resourceGroups/{group}"),
        ("{S}", "/subscriptions/{subscription}"),
    ] {
        text = text.replace(short, long);
    }
    for (short, long) in [
        ("DP/", "Microsoft.DataProtection/"),
        ("ST/", "Microsoft.Storage/"),
        ("AU/", "Microsoft.Authorization/"),
        ("RS/", "Microsoft.Resources/subscriptions/"),
    ] {
        if let Some(rest) = text.strip_prefix(short) {
            text = format!("{long}{rest}");
        }
    }
    text
}

#[test]
fn the_document_has_a_row_for_each_operation() {
    let answered = rows("## Operations", "## Errors");
    let all = routes();
    let specified = specified();
    for route in &all {
        let found: Vec<_> = answered.iter().filter(|cells| cells[0] == route.operation).collect();
        let [cells] = found.as_slice() else { panic!("docs/api.md has {} rows for {route:?}", found.len()) };
        let [_, request, action, here] = cells.as_slice() else { panic!("{cells:?} has not four cells") };
        let (method, path) = request.trim_matches('`').split_once(' ').unwrap();
        assert_eq!((method, erased(&written_out(path))), (route.method.as_str(), erased(route.pattern)), "{route:?}");
        let wanted = match route.access {
            Access::Public => "none, no token",
            Access::SignedIn | Access::Unversioned => "a token; see text",
            Access::Action(action) => action,
        };
        assert_eq!(written_out(action), wanted, "{route:?}");
        if specified.iter().any(|(operation, _, _)| *operation == route.operation) {
            let is_clear = ["Works", "Differs: ", "Not for blobs: "].iter().any(|word| here.starts_with(word));
            assert!(is_clear, "{}: '{here}' does not begin with Works, Differs or Not for blobs", route.operation);
        }
    }
    let names = |rows: &[Vec<String>]| -> BTreeSet<String> {
        rows.iter().map(|cells| cells[0].clone()).filter(|name| name != "operation").collect()
    };
    assert_eq!(names(&answered), all.iter().map(|route| route.operation.to_owned()).collect());
}

#[test]
fn the_document_has_each_error_with_its_text() {
    let rows = rows("## Errors", "## Our own additions");
    let codes: Vec<_> = rows.iter().filter(|cells| cells.len() == 5 && cells[0] != "code").collect();
    for code in ErrorCode::ALL {
        let rule = code.rule();
        let found: Vec<_> = codes.iter().filter(|cells| cells[0].trim_end_matches(" ¹") == rule.name).collect();
        let [cells] = found.as_slice() else { panic!("docs/api.md has {} rows for {}", found.len(), rule.name) };
        let actions = if rule.actions.is_empty() { "–".to_owned() } else { rule.actions.join(" ") };
        let retry = if rule.is_retryable { "yes" } else { "no" };
        let wanted = [rule.status.to_string().as_str(), rule.message, actions.as_str(), retry].map(str::to_owned);
        assert_eq!(cells[1..], wanted, "{}", rule.name);
    }
    assert_eq!(codes.len(), ErrorCode::ALL.len(), "docs/api.md has errors that are not in the table");
}
