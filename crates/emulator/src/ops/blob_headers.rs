//! Headers of blobs, in and out: content headers, metadata, tags, tiers, checksums, ranges. Limits are those of the public
//! reference ("Naming and referencing containers, blobs, and metadata", "Set Blob Tags").

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Call;
use crate::answer::Answer;
use crate::checksum;
use crate::clock;
use crate::error::AzureError;
use crate::model::blob::{Blob, BlobKind, Content, ContentHeaders};
use crate::request::{Query, Request};

const METADATA_PREFIX: &str = "x-ms-meta-";
const MAX_METADATA_BYTES: usize = 8 * 1024;
const MAX_TAGS: usize = 10;
const MAX_NAME_CHARS: usize = 1_024;

/// The checksums of an upload's body, after they were compared with what the client says: those that were sent, and the CRC if none was.
pub(super) struct Checked {
    pub(super) md5: Option<String>,
    pub(super) crc64: Option<String>,
}

/// Refuses a name that Azure can't hold.
pub(super) fn check_name(name: &str) -> Result<(), AzureError> {
    if name.encode_utf16().count() <= MAX_NAME_CHARS {
        return Ok(());
    }
    Err(AzureError::bad_request("OutOfRangeInput", "One of the request inputs is out of range: the blob's name."))
}

/// `x-ms-blob-content-*` and `x-ms-blob-cache-control`.
pub(super) fn blob_content_headers(request: &Request) -> ContentHeaders {
    let text = |name: &str| request.filled_header(name).map(str::to_owned);
    ContentHeaders {
        content_type: text("x-ms-blob-content-type"),
        content_encoding: text("x-ms-blob-content-encoding"),
        content_language: text("x-ms-blob-content-language"),
        content_disposition: text("x-ms-blob-content-disposition"),
        cache_control: text("x-ms-blob-cache-control"),
        content_md5: text("x-ms-blob-content-md5"),
    }
}

/// As [`blob_content_headers`]; where one is missing Put Blob takes the request's own header.
pub(super) fn put_content_headers(request: &Request) -> ContentHeaders {
    let text = |name: &str| request.filled_header(name).map(str::to_owned);
    let given = blob_content_headers(request);
    ContentHeaders {
        content_type: given
            .content_type
            .or_else(|| text("content-type"))
            .or_else(|| Some("application/octet-stream".to_owned())),
        content_encoding: given.content_encoding.or_else(|| text("content-encoding")),
        content_language: given.content_language.or_else(|| text("content-language")),
        cache_control: given.cache_control.or_else(|| text("cache-control")),
        ..given
    }
}

/// The metadata of a request.
pub(super) fn metadata(request: &Request) -> Result<BTreeMap<String, String>, AzureError> {
    let mut metadata = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in &request.headers {
        let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) else { continue };
        let value = value.to_str().map_err(|_| invalid_metadata())?.trim();
        if !is_identifier(name) {
            return Err(invalid_metadata());
        }
        bytes += name.len() + value.len();
        metadata.insert(name.to_owned(), value.to_owned());
    }
    if bytes > MAX_METADATA_BYTES {
        return Err(AzureError::bad_request(
            "MetadataTooLarge",
            "The size of the specified metadata exceeds the maximum size permitted.",
        ));
    }
    Ok(metadata)
}

fn invalid_metadata() -> AzureError {
    AzureError::bad_request(
        "InvalidMetadata",
        "The metadata specified is invalid. It has characters that are not permitted.",
    )
}

/// Names of metadata are C# identifiers.
fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_') && chars.all(|c| c.is_alphanumeric() || c == '_')
}

/// The tags of `x-ms-tags`, which need a permission of their own.
pub(super) fn tags_header(call: &Call<'_>) -> Result<BTreeMap<String, String>, AzureError> {
    let Some(raw) = call.request.filled_header("x-ms-tags") else { return Ok(BTreeMap::new()) };
    call.demand('t')?;
    let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_tag(key), decode_tag(value))
    });
    checked_tags(pairs)
}

/// Case counts in tags, unlike in names of query parameters.
fn decode_tag(raw: &str) -> String {
    let one = Query::parse(&format!("v={raw}"));
    one.get("v").unwrap_or("").to_owned()
}

/// Tags within their limits: ten, keys of 1 to 128 characters, values up to 256, of a small alphabet, no key twice.
pub(super) fn checked_tags(
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, AzureError> {
    let allowed = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || " +-./:=_".contains(c));
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        let fits = (1..=128).contains(&key.len()) && value.len() <= 256 && allowed(&key) && allowed(&value);
        if !fits || tags.insert(key, value).is_some() {
            return Err(AzureError::bad_request(
                "InvalidTag",
                "A tag specified is invalid: length, characters or key.",
            ));
        }
    }
    if tags.len() > MAX_TAGS {
        return Err(AzureError::bad_request("TagsTooLarge", "The tags specified exceed the maximum number of 10."));
    }
    Ok(tags)
}

/// The tier of `x-ms-access-tier`, checked against the kind of blob.
pub(super) fn tier_header(request: &Request, kind: BlobKind) -> Result<Option<String>, AzureError> {
    let Some(tier) = request.filled_header("x-ms-access-tier") else { return Ok(None) };
    let known = ["Hot", "Cool", "Cold", "Archive"].into_iter().find(|known| known.eq_ignore_ascii_case(tier));
    match (known, kind) {
        (Some(known), BlobKind::Block) => Ok(Some(known.to_owned())),
        _ => Err(AzureError::invalid_header("x-ms-access-tier", tier)),
    }
}

/// Compares a body with `Content-MD5` and `x-ms-content-crc64`.
pub(super) fn check_body(request: &Request, body: &Bytes) -> Result<Checked, AzureError> {
    let sent_md5 = request.filled_header("content-md5");
    let sent_crc64 = request.filled_header("x-ms-content-crc64");
    let md5 = sent_md5.map(|_| checksum::md5_base64(body));
    if sent_md5 != md5.as_deref() {
        return Err(md5_mismatch());
    }
    let crc64 = (sent_crc64.is_some() || sent_md5.is_none()).then(|| checksum::crc64_base64(body));
    if sent_crc64.is_some() && sent_crc64 != crc64.as_deref() {
        return Err(AzureError::bad_request(
            "Crc64Mismatch",
            "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server.",
        ));
    }
    Ok(Checked { md5, crc64 })
}

pub(super) fn md5_mismatch() -> AzureError {
    AzureError::bad_request(
        "Md5Mismatch",
        "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
    )
}

/// The bytes `from..to` that a range header asks for; `None` without one.
///
/// # Errors
/// 416 for a range that begins past the end; 400 for `x-ms-range` in another form.
pub(super) fn range(request: &Request, len_bytes: u64) -> Result<Option<(u64, u64)>, AzureError> {
    let (strict, text) = match (request.filled_header("x-ms-range"), request.filled_header("range")) {
        (Some(text), _) => (true, text),
        (None, Some(text)) => (false, text),
        (None, None) => return Ok(None),
    };
    let Some((from, last)) = parse_range(text) else {
        return if strict { Err(AzureError::invalid_header("x-ms-range", text)) } else { Ok(None) };
    };
    if from >= len_bytes {
        return Err(AzureError::new(
            http::StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        )
        .with_header("Content-Range", format!("bytes */{len_bytes}")));
    }
    Ok(Some((from, last.map_or(len_bytes, |last| last.saturating_add(1).min(len_bytes)))))
}

/// First and last byte of `bytes=a-b` or `bytes=a-`.
pub(super) fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (from, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let last: Option<u64> = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    last.is_none_or(|last| last >= from).then_some((from, last))
}

/// ETag and time of a change.
pub(super) fn mark(answer: Answer, blob: &Blob) -> Answer {
    answer.header("ETag", &format!("\"{}\"", blob.etag)).header("Last-Modified", &clock::http_date(blob.modified_us))
}

/// Metadata as headers.
pub(super) fn with_metadata(mut answer: Answer, metadata: &BTreeMap<String, String>) -> Answer {
    for (name, value) in metadata {
        answer.set(&format!("{METADATA_PREFIX}{name}"), value);
    }
    answer
}

/// Everything that GET and HEAD tell about a blob, but its length.
pub(super) fn with_properties(answer: Answer, blob: &Blob, call: &Call<'_>) -> Answer {
    let request = call.request;
    let headers = &blob.headers;
    // A SAS may replace content headers of the answer.
    let or =
        |parameter: &str, own: &Option<String>| request.query(parameter).map(str::to_owned).or_else(|| own.clone());
    let tag_count = (!blob.tags.is_empty()).then(|| blob.tags.len().to_string());
    let lease = blob.lease.state(call.now_us);
    let answer = with_metadata(mark(answer, blob), &blob.metadata)
        .maybe("Content-Type", or("rsct", &headers.content_type).as_deref())
        .maybe("Content-Encoding", or("rsce", &headers.content_encoding).as_deref())
        .maybe("Content-Language", or("rscl", &headers.content_language).as_deref())
        .maybe("Content-Disposition", or("rscd", &headers.content_disposition).as_deref())
        .maybe("Cache-Control", or("rscc", &headers.cache_control).as_deref())
        .header("Accept-Ranges", "bytes")
        .header("x-ms-blob-type", blob.kind.name())
        .header("x-ms-creation-time", &clock::http_date(blob.created_us))
        .header("x-ms-lease-status", lease.status())
        .header("x-ms-lease-state", lease.name())
        .maybe("x-ms-lease-duration", blob.lease.duration(call.now_us))
        .header("x-ms-server-encrypted", "true")
        .maybe("x-ms-tag-count", tag_count.as_deref());
    let answer = match (&blob.kind, &blob.content) {
        (BlobKind::Page, _) => answer.header("x-ms-blob-sequence-number", &blob.sequence_number.to_string()),
        (BlobKind::Append, Content::Blocks { blocks, .. }) => {
            let answer = answer.header("x-ms-blob-committed-block-count", &blocks.len().to_string());
            if blob.sealed { answer.header("x-ms-blob-sealed", "true") } else { answer }
        }
        (BlobKind::Append, Content::Log(log)) => {
            answer.header("x-ms-blob-committed-block-count", &log.appends.to_string())
        }
        _ => answer,
    };
    let Some(copy) = &blob.copy else { return answer };
    answer
        .header("x-ms-copy-id", &copy.id)
        .header("x-ms-copy-source", &copy.source)
        .header("x-ms-copy-status", "success")
        .header("x-ms-copy-progress", &format!("{0}/{0}", copy.len_bytes))
        .header("x-ms-copy-completion-time", &clock::http_date(copy.completed_us))
}

/// The id of the version that a write has made, where versions are kept.
pub(super) fn with_new_version(answer: Answer, call: &Call<'_>, blob: &Blob) -> Answer {
    answer.maybe("x-ms-version-id", call.shared.versioning.then(|| clock::iso_ticks(blob.version)).as_deref())
}

/// The tier, as HEAD tells it.
pub(super) fn with_tier(answer: Answer, blob: &Blob) -> Answer {
    let Some((tier, inferred)) = blob.shown_tier() else { return answer };
    answer
        .header("x-ms-access-tier", tier)
        .maybe("x-ms-access-tier-inferred", inferred.then_some("true"))
        .maybe("x-ms-access-tier-change-time", blob.tier_changed_us.map(clock::http_date).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_both_forms() {
        assert_eq!(parse_range("bytes=0-9"), Some((0, Some(9))));
        assert_eq!(parse_range("bytes=5-"), Some((5, None)));
        for wrong in ["bytes=9-0", "bytes=-5", "items=0-1", "bytes=a-b", ""] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tags_have_limits() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        checked_tags([pair("a b", "1+2=3")]).unwrap();
        assert_eq!(checked_tags([pair("", "x")]).unwrap_err().code, "InvalidTag");
        assert_eq!(checked_tags([pair("a", "x"), pair("a", "y")]).unwrap_err().code, "InvalidTag");
        assert_eq!(checked_tags([pair("a", "é")]).unwrap_err().code, "InvalidTag");
        let eleven = (0..11).map(|i| pair(&i.to_string(), ""));
        assert_eq!(checked_tags(eleven).unwrap_err().code, "TagsTooLarge");
    }
}
