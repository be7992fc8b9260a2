//! Resource ids and request paths: one parser for both.
//!
//! A path is decoded exactly once, here. Keywords, provider and type names, and resource names compare without case; they are
//! answered as they were created, with the keywords in their canonical spelling. This file must never look anything up: whether a
//! resource exists is not its business.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest path that is read, in bytes before decoding.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// Canonical spellings of provider and type names, matched without case. Unknown ones stay as they were given.
const CANONICAL_WORDS: &[&str] = &[
    "Microsoft.Authorization",
    "Microsoft.DataProtection",
    "Microsoft.Features",
    "Microsoft.ManagedIdentity",
    "Microsoft.Resources",
    "Microsoft.Storage",
    "Microsoft.Subscription",
    "Blobkeep.DataProtection",
    "Blobkeep.Identity",
    "adlsBlobServices",
    "aliases",
    "backupInstances",
    "backupJobs",
    "backupPolicies",
    "backupResourceGuardProxies",
    "backupVaults",
    "blobServices",
    "containers",
    "deletedBackupInstances",
    "deletedVaults",
    "locations",
    "locks",
    "operationResults",
    "operationStatus",
    "recoveryPoints",
    "resourceGuards",
    "roleAssignments",
    "roleDefinitions",
    "servicePrincipals",
    "storageAccounts",
    // Requests below a resource guard.
    "deleteBackupInstanceRequests",
    "deleteProtectedItemRequests",
    "deleteResourceGuardProxyRequests",
    "disableSoftDeleteRequests",
    "dppDisableStopProtectionRequests",
    "dppDisableSuspendBackupsRequests",
    "dppModifyEncryptionSettingsRequests",
    "dppModifyPolicy",
    "dppReduceImmutabilityStateRequests",
    "dppReduceSoftDeleteSecurityRequests",
    "dppTriggerRestoreRequests",
    "getBackupSecurityPINRequests",
    "reduceImmutabilityStateRequests",
    "stopProtectionWithRetainDataRequests",
    "triggerRestoreRequests",
    "updateProtectedItemRequests",
    "updateProtectionPolicyRequests",
];

/// Why a path or id cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("'{0}' does not begin with '/'")]
    NotAbsolute(String),
    /// Nobody writes paths of this length by hand or by program.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Two slashes in a row inside the path.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..`, plain or encoded.
    #[error("the path holds the relative segment '{0}'")]
    RelativeSegment(String),
    /// `%2F` or `%5C`: would change its meaning when decoded.
    #[error("the segment '{0}' holds an encoded slash")]
    EncodedSlash(String),
    /// A broken `%XX` sequence, bytes that are not UTF-8, or a control character.
    #[error("the segment '{0}' cannot be decoded")]
    BadEncoding(String),
    /// The words are not those of a resource id.
    #[error("'{0}' is not the id of a resource")]
    NotAnId(String),
}

/// A provider with the type/name pairs that follow it, e.g. `Microsoft.Storage/storageAccounts/a`.
#[derive(Debug, Clone)]
struct Provided {
    namespace: String,
    types: Vec<(String, String)>,
}

/// The id of anything that has one: the tenant root, a subscription, a resource group, or a resource in one of these or attached to
/// another resource (as role assignments are).
///
/// [`fmt::Display`] gives the canonical spelling of the keywords with names as they were given; equality, order and hash ignore case.
#[derive(Debug, Clone, Default)]
pub struct ResourceId {
    subscription: Option<String>,
    resource_group: Option<String>,
    chain: Vec<Provided>,
}

impl ResourceId {
    /// The tenant root, `/`.
    pub fn root() -> Self {
        Self::default()
    }

    /// `/subscriptions/{subscription}`.
    pub fn subscription_scope(subscription: impl Into<String>) -> Self {
        Self { subscription: Some(subscription.into()), ..Self::default() }
    }

    /// `/subscriptions/{subscription}/resourceGroups/{group}`.
    pub fn group_scope(subscription: impl Into<String>, group: impl Into<String>) -> Self {
        Self { subscription: Some(subscription.into()), resource_group: Some(group.into()), chain: Vec::new() }
    }

    /// Reads an id from a body or configuration: a trailing slash is allowed, anything after a complete id is not.
    ///
    /// # Errors
    /// [`PathError`] when it is not an id.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = ParsedPath::parse(text.trim())?;
        if !path.rest.is_empty() {
            return Err(PathError::NotAnId(text.to_owned()));
        }
        Ok(path.id)
    }

    /// The subscription's id, as given.
    pub fn subscription(&self) -> Option<&str> {
        self.subscription.as_deref()
    }

    /// The resource group's name, as given.
    pub fn resource_group(&self) -> Option<&str> {
        self.resource_group.as_deref()
    }

    /// The provider of the innermost resource, e.g. `Microsoft.DataProtection`.
    pub fn provider(&self) -> Option<&str> {
        self.chain.last().map(|p| p.namespace.as_str())
    }

    /// The type/name pairs of the innermost resource, outermost first.
    pub fn types(&self) -> &[(String, String)] {
        self.chain.last().map_or(&[], |p| p.types.as_slice())
    }

    /// The full type, e.g. `Microsoft.DataProtection/backupVaults/backupInstances`; `None` for scopes that are no resource.
    pub fn full_type(&self) -> Option<String> {
        let last = self.chain.last()?;
        let names: Vec<&str> = last.types.iter().map(|(kind, _)| kind.as_str()).collect();
        Some(format!("{}/{}", last.namespace, names.join("/")))
    }

    /// This id is a resource of exactly that full type, compared without case.
    pub fn is_type(&self, full_type: &str) -> bool {
        self.full_type().is_some_and(|own| own.eq_ignore_ascii_case(full_type))
    }

    /// The last name: of the resource, else of the group, else of the subscription; empty for the root.
    pub fn name(&self) -> &str {
        if let Some((_, name)) = self.types().last() {
            return name;
        }
        self.resource_group.as_deref().or(self.subscription.as_deref()).unwrap_or("")
    }

    /// The name that belongs to a type word within the innermost provider, compared without case.
    pub fn name_of(&self, kind: &str) -> Option<&str> {
        self.types().iter().find(|(k, _)| k.eq_ignore_ascii_case(kind)).map(|(_, name)| name.as_str())
    }

    /// This id with one more type/name pair of the same provider.
    #[must_use]
    pub fn child(&self, kind: &str, name: &str) -> Self {
        let mut id = self.clone();
        match id.chain.last_mut() {
            Some(last) => last.types.push((canonical_word(kind), name.to_owned())),
            None => {
                id.chain.push(Provided {
                    namespace: "Microsoft.Resources".to_owned(),
                    types: vec![(canonical_word(kind), name.to_owned())],
                });
            }
        }
        id
    }

    /// A resource of another provider attached to this scope: `{self}/providers/{namespace}/{kind}/{name}`.
    #[must_use]
    pub fn attach(&self, namespace: &str, kind: &str, name: &str) -> Self {
        let mut id = self.clone();
        id.chain.push(Provided {
            namespace: canonical_word(namespace),
            types: vec![(canonical_word(kind), name.to_owned())],
        });
        id
    }

    /// What this id hangs under: the outer resource, else the scope, else the subscription, else the root; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let mut id = self.clone();
        if let Some(last) = id.chain.last_mut() {
            last.types.pop();
            if last.types.is_empty() {
                id.chain.pop();
            }
            return Some(id);
        }
        if id.resource_group.take().is_some() {
            return Some(id);
        }
        id.subscription.take()?;
        Some(id)
    }

    /// What the innermost provider is attached to: the account of a role assignment, the group of a vault, …
    pub fn scope(&self) -> Self {
        let mut id = self.clone();
        id.chain.pop();
        id
    }

    /// This id and everything it lies in, innermost first, ending with the root.
    pub fn scopes(&self) -> Vec<Self> {
        let mut all = vec![self.clone()];
        let mut next = self.parent();
        while let Some(id) = next {
            next = id.parent();
            all.push(id);
        }
        all
    }

    /// The lower-case key by which rows are found; equal for equal ids.
    pub fn folded(&self) -> String {
        fold(&self.to_string())
    }

    /// `other` is this id or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        is_within(&other.folded(), &self.folded())
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subscription.is_none() && self.chain.is_empty() {
            return f.write_str("/");
        }
        if let Some(subscription) = &self.subscription {
            write!(f, "/subscriptions/{subscription}")?;
        }
        if let Some(group) = &self.resource_group {
            write!(f, "/resourceGroups/{group}")?;
        }
        for provided in &self.chain {
            write!(f, "/providers/{}", provided.namespace)?;
            for (kind, name) in &provided.types {
                write!(f, "/{kind}/{name}")?;
            }
        }
        Ok(())
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}

impl Eq for ResourceId {}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

/// Lower case, without a trailing slash: the form in which ids are keys. The root stays `/`.
pub fn fold(id: &str) -> String {
    let trimmed = id.trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_lowercase() }
}

/// Both are folded ids (see [`fold`]); `id` is `scope` or lies below it.
pub fn is_within(id: &str, scope: &str) -> bool {
    scope == "/" || id == scope || id.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
}

/// A location as it is compared and put into tracking URLs: lower case, no spaces (`West US` → `westus`).
pub fn fold_location(location: &str) -> String {
    location.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// A request path, decoded and taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPath {
    /// The decoded segments in order, as given.
    pub segments: Vec<String>,
    /// The longest id that the path begins with; the root if it is not about a resource at all.
    pub id: ResourceId,
    /// What follows the id: nothing (the resource itself), a collection (`["backupInstances"]`, or with its provider
    /// `["providers", "Microsoft.Storage", "storageAccounts"]`), or an action (`["validateForBackup"]`).
    pub rest: Vec<String>,
}

impl ParsedPath {
    /// Reads the raw path of a request (without the query).
    ///
    /// Repeated slashes at the front count as one (command lines that register an endpoint with a trailing slash send `//metadata`), one
    /// slash at the end is ignored.
    ///
    /// # Errors
    /// [`PathError`] for everything that could mean two things.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute(raw.to_owned()));
        }
        let inner = raw.trim_start_matches('/');
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let mut segments = Vec::new();
        if !inner.is_empty() {
            for segment in inner.split('/') {
                segments.push(decode_segment(segment)?);
            }
        }
        let (id, used) = read_id(&segments);
        let rest = segments[used..].to_vec();
        Ok(Self { segments, id, rest })
    }

    /// The path in decoded form, as given.
    pub fn decoded(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }
}

/// Decodes `%XX` once and refuses what would then mean something else.
fn decode_segment(segment: &str) -> Result<String, PathError> {
    if segment.is_empty() {
        return Err(PathError::EmptySegment);
    }
    let bad = || PathError::BadEncoding(segment.to_owned());
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let pair = bytes.get(at + 1..at + 3).ok_or_else(bad)?;
        let byte = hex_value(pair[0]).zip(hex_value(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
        if byte == b'/' || byte == b'\\' {
            return Err(PathError::EncodedSlash(segment.to_owned()));
        }
        decoded.push(byte);
        at += 3;
    }
    let text = String::from_utf8(decoded).map_err(|_| bad())?;
    if text == "." || text == ".." {
        return Err(PathError::RelativeSegment(text));
    }
    if text.chars().any(char::is_control) || text.contains('\\') {
        return Err(bad());
    }
    Ok(text)
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok())
}

/// The longest id at the front, and how many segments it takes.
fn read_id(segments: &[String]) -> (ResourceId, usize) {
    let mut id = ResourceId::root();
    let mut at = 0;
    if is_word(segments, at, "subscriptions") && at + 1 < segments.len() {
        id.subscription = Some(segments[at + 1].clone());
        at += 2;
        if is_word(segments, at, "resourceGroups") && at + 1 < segments.len() {
            id.resource_group = Some(segments[at + 1].clone());
            at += 2;
        }
    }
    while is_word(segments, at, "providers") && at + 3 < segments.len() {
        let mut provided = Provided { namespace: canonical_word(&segments[at + 1]), types: Vec::new() };
        at += 2;
        while at + 1 < segments.len() && !is_word(segments, at, "providers") {
            provided.types.push((canonical_word(&segments[at]), segments[at + 1].clone()));
            at += 2;
        }
        id.chain.push(provided);
    }
    (id, at)
}

fn is_word(segments: &[String], at: usize, word: &str) -> bool {
    segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word))
}

/// The canonical spelling of a provider or type word.
fn canonical_word(word: &str) -> String {
    let known = CANONICAL_WORDS.iter().find(|known| known.eq_ignore_ascii_case(word));
    known.map_or_else(|| word.to_owned(), |known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
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
}
