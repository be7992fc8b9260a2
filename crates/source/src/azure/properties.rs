//! A blob's properties as the headers of a write, and which of them may be left out when the endpoint refuses them.

use blobkeep_vault::{BlobEntry, BlobKind};

use super::checksum;
use super::clock::format_http_date;
use super::http_client::Request;
use super::path;

/// Groups of properties that a write can do without. What is left out is reported as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tags: bool,
    pub(crate) tier: bool,
    /// Immutability, legal hold and encryption scope.
    pub(crate) protection: bool,
}

impl Wanted {
    /// What there is to write of `entry` at all.
    pub(crate) fn of(entry: &BlobEntry) -> Self {
        Self { tags: !entry.tags.is_empty(), tier: tier_for(entry).is_some(), protection: has_protection(entry) }
    }
}

/// Adds every wanted property but the MD5; returns what cannot be put into headers at all.
pub(crate) fn add_properties(request: &mut Request, entry: &BlobEntry, wanted: Wanted) -> Vec<String> {
    let mut lost = Vec::new();
    add_content_headers(request, entry, &mut lost);
    for (name, value) in &entry.metadata {
        if request.headers.contains_key(format!("x-ms-meta-{name}")) {
            lost.push(format!("metadata {name}: another name differs from it only in capital letters"));
            continue;
        }
        if !request.try_header(&format!("x-ms-meta-{name}"), value) {
            lost.push(format!("metadata {name}: the protocol cannot carry it"));
        }
    }
    if wanted.tags {
        request.try_header("x-ms-tags", &tags_value(&entry.tags));
    }
    match tier_for(entry) {
        Some(tier) if wanted.tier => {
            request.try_header("x-ms-access-tier", tier);
        }
        None if entry.tier.is_some() => lost.push(format!(
            "access tier {}: a blob of this type cannot be given one",
            entry.tier.as_deref().unwrap_or_default()
        )),
        _ => {}
    }
    if wanted.protection {
        add_protection(request, entry);
    }
    lost
}

/// Adds the content headers, under the names by which a write stores them.
pub(crate) fn add_content_headers(request: &mut Request, entry: &BlobEntry, lost: &mut Vec<String>) {
    let headers = &entry.headers;
    for (name, value) in [
        ("content-type", &headers.content_type),
        ("content-encoding", &headers.content_encoding),
        ("content-language", &headers.content_language),
        ("content-disposition", &headers.content_disposition),
        ("cache-control", &headers.cache_control),
    ] {
        let Some(value) = value else { continue };
        if !request.try_header(&format!("x-ms-blob-{name}"), value) {
            lost.push(format!("{name}: the protocol cannot carry it"));
        }
    }
}

/// Stores an MD5 with the blob.
pub(crate) fn add_md5(request: &mut Request, md5: [u8; 16]) {
    request.try_header("x-ms-blob-content-md5", &checksum::md5_base64(md5));
}

fn add_protection(request: &mut Request, entry: &BlobEntry) {
    let immutability = &entry.immutability;
    if let Some(until) = immutability.until {
        request.try_header("x-ms-immutability-policy-until-date", &format_http_date(until));
        request.try_header("x-ms-immutability-policy-mode", immutability.mode.as_deref().unwrap_or("unlocked"));
    }
    if immutability.legal_hold {
        request.try_header("x-ms-legal-hold", "true");
    }
    if let Some(scope) = &entry.encryption_scope {
        request.try_header("x-ms-encryption-scope", scope);
    }
}

fn has_protection(entry: &BlobEntry) -> bool {
    entry.immutability.until.is_some() || entry.immutability.legal_hold || entry.encryption_scope.is_some()
}

/// The tier to write: block blobs have one, page blobs of premium accounts (`P10`) too.
pub(crate) fn tier_for(entry: &BlobEntry) -> Option<&str> {
    let tier = entry.tier.as_deref()?;
    match entry.kind {
        BlobKind::Block => Some(tier),
        BlobKind::Page { .. } if tier.starts_with('P') => Some(tier),
        BlobKind::Page { .. } | BlobKind::Append { .. } => None,
    }
}

/// Tags as headers have them.
pub(crate) fn tags_value(tags: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        tags.iter().map(|(name, value)| format!("{}={}", path::encode(name), path::encode(value))).collect();
    pairs.join("&")
}

/// What to leave out after the endpoint refused a write with `status` and `code`, with the words for the report;
/// `None` if the refusal has nothing to do with properties that can be left out.
pub(crate) fn give_up_on(status: u16, code: &str, wanted: Wanted) -> Option<(Wanted, &'static str)> {
    const UNRELATED: [&str; 15] = [
        "Md5Mismatch",
        "Crc64Mismatch",
        "InvalidMd5",
        "BlobAlreadyExists",
        "AuthenticationFailed",
        "ContainerNotFound",
        "ContainerBeingDeleted",
        "InvalidBlobType",
        "InvalidBlockList",
        "InvalidBlockId",
        "InvalidBlobOrBlock",
        "SnapshotsPresent",
        "BlobImmutableDueToPolicy",
        "InvalidResourceName",
        "RequestBodyTooLarge",
    ];
    let may_be = matches!(status, 400 | 403 | 404 | 409 | 500 | 501) && !UNRELATED.contains(&code);
    if !may_be || code.starts_with("LeaseId") {
        return None;
    }
    let is_right = status == 403;
    let names_tags = code.contains("Tag");
    let names_tier = code.contains("Tier");
    if wanted.tier && names_tier {
        return Some((Wanted { tier: false, ..wanted }, "access tier: the endpoint refused it"));
    }
    if wanted.protection && !names_tags {
        let words = "immutability, legal hold or encryption scope: the endpoint refused them";
        return Some((Wanted { protection: false, ..wanted }, words));
    }
    if wanted.tags && (is_right || names_tags || !wanted.tier) {
        return Some((Wanted { tags: false, ..wanted }, "index tags: the endpoint refused them"));
    }
    if wanted.tier {
        return Some((Wanted { tier: false, ..wanted }, "access tier: the endpoint refused it"));
    }
    None
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn rich() -> BlobEntry {
        let mut entry = BlobEntry::default();
        entry.headers.content_type = Some("text/plain".into());
        entry.metadata = vec![("k".into(), "v".into()), ("bad name".into(), "v".into()), ("nl".into(), "a\nb".into())];
        entry.tags = vec![("a b".into(), "1+1=2&3".into()), ("z".into(), String::new())];
        entry.tier = Some("Archive".into());
        entry.encryption_scope = Some("s".into());
        entry
    }

    #[test]
    fn every_property_becomes_a_header_and_what_cannot_is_named() {
        let mut request = Request::new(Method::PUT, Some("c"), Some("b"));
        let lost = add_properties(&mut request, &rich(), Wanted::of(&rich()));
        let get = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("x-ms-blob-content-type"), Some("text/plain"));
        assert_eq!(get("x-ms-meta-k"), Some("v"));
        assert_eq!(get("x-ms-tags"), Some("a%20b=1%2B1%3D2%263&z="));
        assert_eq!(get("x-ms-access-tier"), Some("Archive"));
        assert_eq!(get("x-ms-encryption-scope"), Some("s"));
        assert_eq!(lost.len(), 2, "{lost:?}");
    }

    #[test]
    fn refusals_are_answered_by_leaving_out_one_group_after_the_other() {
        let all = Wanted { tags: true, tier: true, protection: true };
        let (next, _) = give_up_on(403, "AuthorizationPermissionMismatch", all).unwrap();
        assert_eq!(next, Wanted { protection: false, ..all });
        let (next, words) = give_up_on(403, "AuthorizationPermissionMismatch", next).unwrap();
        assert_eq!(
            (next, words.starts_with("index tags")),
            (Wanted { tags: false, tier: true, protection: false }, true)
        );
        assert!(give_up_on(400, "InvalidBlobTier", all).unwrap().1.starts_with("access tier"));
        for code in ["Md5Mismatch", "BlobAlreadyExists", "LeaseIdMissing", "AuthenticationFailed", "ContainerNotFound"]
        {
            assert_eq!(give_up_on(409, code, all), None, "{code}");
        }
        assert_eq!(
            give_up_on(403, "AuthorizationPermissionMismatch", Wanted { tags: false, tier: false, protection: false }),
            None
        );
    }
}
