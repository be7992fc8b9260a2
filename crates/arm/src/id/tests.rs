//! What is the id of something and what is not, how ids compare, and which paths are refused.

use proptest::prelude::*;

use super::{ParsedPath, PathError, ResourceId, fold, fold_location, is_within};

const VAULT: &str =
    "/subscriptions/s1/resourceGroups/RG-Blob/providers/Microsoft.DataProtection/backupVaults/testBkpVault";

#[test]
fn keywords_are_canonical_and_names_as_given() {
    let id = ResourceId::parse(
        "/Subscriptions/s1/resourcegroups/RG-Blob/Providers/microsoft.dataprotection/BACKUPVAULTS/testBkpVault/",
    )
    .unwrap();
    assert_eq!(id.to_string(), VAULT);
    assert_eq!(id.subscription(), Some("s1"));
    assert_eq!(id.resource_group(), Some("RG-Blob"));
    assert_eq!(id.provider(), Some("Microsoft.DataProtection"));
    assert_eq!(id.full_type().unwrap(), "Microsoft.DataProtection/backupVaults");
    assert_eq!((id.name(), id.name_of("backupvaults")), ("testBkpVault", Some("testBkpVault")));
}

#[test]
fn ids_compare_without_case() {
    let one = ResourceId::parse(VAULT).unwrap();
    let other = ResourceId::parse(&VAULT.to_uppercase()).unwrap();
    assert_eq!(one, other);
    assert_eq!(one.folded(), other.folded());
    assert_ne!(one, ResourceId::parse(&format!("{VAULT}2")).unwrap());
}

#[test]
fn paths_are_taken_apart_into_id_and_rest() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("/", "/", &[]),
        ("//", "/", &[]),
        ("/subscriptions", "/", &["subscriptions"]),
        ("/subscriptions/s", "/subscriptions/s", &[]),
        ("/subscriptions/s/resourcegroups", "/subscriptions/s", &["resourcegroups"]),
        ("/subscriptions/s/providers/Microsoft.Storage", "/subscriptions/s", &["providers", "Microsoft.Storage"]),
        (
            "/subscriptions/s/providers/microsoft.storage/storageaccounts",
            "/subscriptions/s",
            &["providers", "microsoft.storage", "storageaccounts"],
        ),
        (
            "/subscriptions/s/providers/Microsoft.DataProtection/locations/westus/operationStatus/YWI7Yw==",
            "/subscriptions/s/providers/Microsoft.DataProtection/locations/westus/operationStatus/YWI7Yw==",
            &[],
        ),
        (
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/backupVaults/v/validateForBackup",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/backupVaults/v",
            &["validateForBackup"],
        ),
        (
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/providers/Microsoft.Authorization/roleAssignments/n",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/providers/Microsoft.Authorization/roleAssignments/n",
            &[],
        ),
        (
            "/providers/Microsoft.Authorization/roleAssignments/n",
            "/providers/Microsoft.Authorization/roleAssignments/n",
            &[],
        ),
        ("//metadata/endpoints", "/", &["metadata", "endpoints"]),
        ("/tenant/oauth2/v2.0/token", "/", &["tenant", "oauth2", "v2.0", "token"]),
    ];
    for (raw, id, rest) in cases {
        let path = ParsedPath::parse(raw).unwrap();
        assert_eq!(path.id.to_string(), *id, "{raw}");
        assert_eq!(path.rest, *rest, "{raw}");
    }
}

#[test]
fn paths_that_could_mean_two_things_are_refused() {
    let is = |raw: &str, wanted: fn(&PathError) -> bool| {
        let error = ParsedPath::parse(raw).unwrap_err();
        assert!(wanted(&error), "{raw}: {error}");
    };
    is("/subscriptions/a%2Fb", |e| matches!(e, PathError::EncodedSlash(_)));
    is("/subscriptions/a%2fb", |e| matches!(e, PathError::EncodedSlash(_)));
    is("/subscriptions/a%5Cb", |e| matches!(e, PathError::EncodedSlash(_)));
    is("/subscriptions/../x", |e| matches!(e, PathError::RelativeSegment(_)));
    is("/subscriptions/%2e%2E/x", |e| matches!(e, PathError::RelativeSegment(_)));
    is("/subscriptions/./x", |e| matches!(e, PathError::RelativeSegment(_)));
    is("/subscriptions//x", |e| matches!(e, PathError::EmptySegment));
    is("/subscriptions/x//", |e| matches!(e, PathError::EmptySegment));
    is("/subscriptions/%zz", |e| matches!(e, PathError::BadEncoding(_)));
    is("/subscriptions/%4", |e| matches!(e, PathError::BadEncoding(_)));
    is("/subscriptions/%ff", |e| matches!(e, PathError::BadEncoding(_)));
    is("/subscriptions/a%00b", |e| matches!(e, PathError::BadEncoding(_)));
    is("subscriptions", |e| matches!(e, PathError::NotAbsolute(_)));
    is(&format!("/{}", "x".repeat(9_000)), |e| matches!(e, PathError::TooLong));
}

#[test]
fn segments_are_decoded_exactly_once() {
    let path = ParsedPath::parse("/subscriptions/a%20b%2541").unwrap();
    assert_eq!(path.id.subscription(), Some("a b%41"));
}

#[test]
fn scopes_go_from_the_resource_to_the_root() {
    let id = ResourceId::parse(VAULT).unwrap().child("backupinstances", "i");
    let scopes: Vec<String> = id.scopes().iter().map(ToString::to_string).collect();
    assert_eq!(
        scopes,
        [
            &format!("{VAULT}/backupInstances/i"),
            VAULT,
            "/subscriptions/s1/resourceGroups/RG-Blob",
            "/subscriptions/s1",
            "/"
        ]
    );
    assert_eq!(id.scope().to_string(), "/subscriptions/s1/resourceGroups/RG-Blob");
    assert!(ResourceId::parse(VAULT).unwrap().contains(&id));
    assert!(!id.contains(&ResourceId::parse(VAULT).unwrap()));
}

#[test]
fn being_within_ends_at_a_segment() {
    assert!(is_within("/a/b", "/a"));
    assert!(is_within("/a", "/"));
    assert!(!is_within("/ab", "/a"));
    assert_eq!(fold("/A/b/"), "/a/b");
    assert_eq!(fold("/"), "/");
}

#[test]
fn what_is_no_id_is_refused() {
    for text in
        ["", "storageAccounts/a", "/subscriptions", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage"]
    {
        assert!(ResourceId::parse(text).is_err(), "{text}");
    }
}

#[test]
fn locations_fold_to_one_spelling() {
    assert_eq!(fold_location("West US"), "westus");
    assert_eq!(fold_location("westUS"), "westus");
}

proptest! {
    #[test]
    fn no_path_panics_and_what_parses_displays_as_itself(raw in "(/[A-Za-z0-9%.;= _-]{0,8}){0,9}") {
        if let Ok(path) = ParsedPath::parse(&raw) {
            for segment in &path.segments {
                prop_assert!(!segment.contains('/') && segment != ".." && !segment.is_empty());
            }
        }
    }

    #[test]
    fn a_displayed_id_parses_to_itself(names in proptest::collection::vec("[A-Za-z0-9_()-]{1,12}", 4)) {
        let id = ResourceId::group_scope(&*names[0], &*names[1])
            .attach("Microsoft.DataProtection", "backupVaults", &names[2])
            .child("backupInstances", &names[3]);
        prop_assert_eq!(ResourceId::parse(&id.to_string()).unwrap().to_string(), id.to_string());
    }
}
