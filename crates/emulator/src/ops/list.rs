//! List Blobs, flat and with a delimiter. A page is found by range scans from its first name on, never by a scan of the
//! container; what it holds is collected under the lock and written out after it.

use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::Call;
use super::tags::push_tags;
use crate::answer::Answer;
use crate::clock;
use crate::error::AzureError;
use crate::model::blob::{Blob, BlobKind};
use crate::model::container::{Container, Entry, Family, PublicAccess};
use crate::request::Request;
use crate::xml;

const MAX_PAGE: usize = 5_000;
/// The first version that knows `startFrom` ("List Blobs", URI parameters); requests of older ones are answered as if it were not there.
const START_FROM_VERSION: &str = "2026-02-06";
/// Sorts behind every id of a snapshot or version: the place of the current state in its family.
const CURRENT: &str = "~";

/// What a listing shows besides current states.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Include {
    metadata: bool,
    tags: bool,
    snapshots: bool,
    versions: bool,
    uncommitted: bool,
    copy: bool,
}

/// What is asked for.
struct Ask<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    start_from: &'a str,
    /// The first row of the page: a name, and a place in its family.
    from: (String, String),
    page_size: usize,
    include: Include,
}

/// Which state of a blob a row shows.
enum State {
    Current,
    Snapshot(String),
    /// An earlier version, by its id.
    Version(String),
}

/// One row of a listing.
enum Row {
    Prefix(String),
    Blob { name: String, state: State, blob: Arc<Blob> },
    Uncommitted { name: String },
}

impl Row {
    /// Name and place of the row, as a marker names it.
    fn position(&self) -> (&str, &str) {
        match self {
            Row::Prefix(name) => (name, ""),
            Row::Blob { name, state: State::Current, .. } => (name, CURRENT),
            Row::Blob { name, state: State::Snapshot(id) | State::Version(id), .. } => (name, id),
            Row::Uncommitted { name } => (name, CURRENT),
        }
    }
}

/// `maxresults`, 1 to 5,000.
pub(super) fn page_size(request: &Request) -> Result<usize, AzureError> {
    let Some(text) = request.query("maxresults").filter(|text| !text.is_empty()) else { return Ok(MAX_PAGE) };
    let asked: usize = text.parse().map_err(|_| AzureError::invalid_query("maxresults", text))?;
    if (1..=MAX_PAGE).contains(&asked) {
        return Ok(asked);
    }
    Err(AzureError::bad_request(
        "OutOfRangeQueryParameterValue",
        "One of the query parameters specified in the request URI is outside the permissible range: maxresults is 1 to 5000.",
    ))
}

/// Repeats what was asked for, as listings do.
pub(super) fn push_asked(document: &mut String, request: &Request) {
    for (parameter, element) in [("prefix", "Prefix"), ("marker", "Marker"), ("startfrom", "StartFrom")] {
        if let Some(value) = request.query(parameter).filter(|value| !value.is_empty()) {
            xml::push_name(document, element, value);
        }
    }
    for (parameter, element) in [("maxresults", "MaxResults"), ("delimiter", "Delimiter")] {
        if let Some(value) = request.query(parameter).filter(|value| !value.is_empty()) {
            xml::push_element(document, element, value);
        }
    }
}

fn include(call: &Call<'_>) -> Result<Include, AzureError> {
    let mut include = Include::default();
    for word in call.request.query("include").unwrap_or("").split(',').filter(|word| !word.is_empty()) {
        match word {
            "metadata" => include.metadata = true,
            "tags" => {
                call.demand('t')?;
                include.tags = true;
            }
            "snapshots" => include.snapshots = true,
            "versions" => include.versions = true,
            "uncommittedblobs" => include.uncommitted = true,
            "copy" => include.copy = true,
            "deletedwithversions" if call.shared.versioning => {
                return Err(AzureError::not_implemented("include=deletedwithversions where versions are kept"));
            }
            // An account that keeps no deleted blobs and no holds has none to show.
            "deleted" | "deletedwithversions" | "immutabilitypolicy" | "legalhold" | "permissions" => {}
            other => return Err(AzureError::invalid_query("include", other)),
        }
    }
    Ok(include)
}

fn write_marker(position: (&str, &str)) -> String {
    let inner = format!("{}\u{0}{}", position.1, position.0);
    // Azure's own markers look like this and use a minus for the padding.
    format!("2!{}!{}", inner.len(), STANDARD.encode(inner).replace('=', "-"))
}

fn read_marker(marker: &str) -> Result<(String, String), AzureError> {
    if marker.is_empty() {
        return Ok((String::new(), String::new()));
    }
    let decode = || {
        let encoded = marker.strip_prefix("2!")?.split_once('!')?.1.replace('-', "=");
        let inner = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (place, name) = inner.split_once('\u{0}')?;
        Some((name.to_owned(), place.to_owned()))
    };
    decode().ok_or_else(|| AzureError::invalid_query("marker", marker))
}

/// The least text that is greater than every text with this prefix; `None` if there is none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            char::MAX => None,
            other => char::from_u32(other as u32 + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// List Blobs.
pub(super) fn list_blobs(call: &Call<'_>) -> Result<Answer, AzureError> {
    let request = call.request;
    let text = |name: &str| request.query(name).unwrap_or("");
    let knows_start_from = request.filled_header("x-ms-version").is_none_or(|version| version >= START_FROM_VERSION);
    let ask = Ask {
        prefix: text("prefix"),
        delimiter: text("delimiter"),
        start_from: if knows_start_from { text("startfrom") } else { "" },
        from: read_marker(text("marker"))?,
        page_size: page_size(request)?,
        include: include(call)?,
    };
    if ask.include.snapshots && !ask.delimiter.is_empty() {
        return Err(AzureError::invalid_query("include", "snapshots with a delimiter"));
    }
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    let public = container.public;
    let mut ask = ask;
    ask.include.versions &= container.keeps_versions;
    let mut rows = collect(container, &ask);
    drop(world);
    let next = match rows.len() > ask.page_size {
        true => rows.pop().map(|row| write_marker(row.position())),
        false => None,
    };
    let document = write(call, &ask, &rows, next.as_deref().unwrap_or(""));
    let answer = Answer::new(StatusCode::OK).xml(document);
    Ok(if public == PublicAccess::None { answer } else { answer.maybe("x-ms-blob-public-access", public.name()) })
}

/// The rows of a page, and one more if there is one.
fn collect(container: &Container, ask: &Ask<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let first = ask.from.0.as_str().max(ask.prefix).max(ask.start_from);
    let mut names = container.names(first);
    while rows.len() <= ask.page_size {
        let Some(entry) = names.next() else { break };
        let name = match &entry {
            Entry::Stored(name, _) => *name,
            Entry::Computed(name, _) => name.as_str(),
        };
        let Some(rest) = name.strip_prefix(ask.prefix) else { break };
        if let Some(at) = find_delimiter(rest, ask.delimiter) {
            let common = name[..ask.prefix.len() + at + ask.delimiter.len()].to_owned();
            if has_shown_blob(container, &entry, &common, ask) {
                rows.push(Row::Prefix(common.clone()));
            }
            match after_prefix(&common) {
                Some(next) => names.seek(&next),
                None => break,
            }
            continue;
        }
        match entry {
            Entry::Computed(name, blob) => rows.push(Row::Blob { name, state: State::Current, blob }),
            Entry::Stored(name, family) => push_family(&mut rows, name, family, ask),
        }
    }
    rows.truncate(ask.page_size + 1);
    rows
}

fn find_delimiter(rest: &str, delimiter: &str) -> Option<usize> {
    if delimiter.is_empty() { None } else { rest.find(delimiter) }
}

/// Whether anything under a common prefix would be shown: a folder of mere uncommitted blocks is none.
fn has_shown_blob(container: &Container, first: &Entry<'_>, common: &str, ask: &Ask<'_>) -> bool {
    let shown = |entry: &Entry<'_>| match entry {
        Entry::Computed(..) => true,
        Entry::Stored(_, family) => {
            family.current.is_some()
                || (ask.include.versions && !family.versions.is_empty())
                || (ask.include.uncommitted && !family.uncommitted.is_empty())
        }
    };
    shown(first)
        || container
            .names(common)
            .take_while(|entry| match entry {
                Entry::Stored(name, _) => name.starts_with(common),
                Entry::Computed(name, _) => name.starts_with(common),
            })
            .any(|entry| shown(&entry))
}

fn push_family(rows: &mut Vec<Row>, name: &str, family: &Family, ask: &Ask<'_>) {
    // Only the first name of a page can begin inside its family.
    let from_place = if name == ask.from.0 { ask.from.1.as_str() } else { "" };
    let mut earlier: Vec<Row> = Vec::new();
    let row = |state, blob: &Arc<Blob>| Row::Blob { name: name.to_owned(), state, blob: Arc::clone(blob) };
    if ask.include.snapshots {
        let snapshots = family.snapshots.range::<str, _>((Bound::Included(from_place), Bound::Unbounded));
        earlier.extend(snapshots.map(|(time, blob)| row(State::Snapshot(time.clone()), blob)));
    }
    if ask.include.versions && from_place != CURRENT {
        let versions = family.versions.range(clock::parse_iso_ticks(from_place).unwrap_or(i64::MIN)..);
        // More than fill a page are of no use.
        let versions = versions.take(ask.page_size + 1);
        earlier.extend(versions.map(|(version, blob)| row(State::Version(clock::iso_ticks(*version)), blob)));
    }
    // Snapshots and versions from the oldest to the newest; their ids are times of one form.
    earlier.sort_by(|a, b| a.position().cmp(&b.position()));
    rows.append(&mut earlier);
    if let Some(blob) = &family.current {
        rows.push(row(State::Current, blob));
    } else if ask.include.uncommitted && !family.uncommitted.is_empty() {
        rows.push(Row::Uncommitted { name: name.to_owned() });
    }
}

fn write(call: &Call<'_>, ask: &Ask<'_>, rows: &[Row], next_marker: &str) -> String {
    let mut shown = Shown { include: ask.include, now_us: call.now_us, last_date: None };
    let mut document = String::with_capacity(1_024 + rows.len() * 900);
    document.push_str(xml::PROLOG);
    document.push_str("<EnumerationResults ServiceEndpoint=\"");
    xml::push_escaped(&mut document, &format!("{}/", call.shared.account_url(call.account())));
    document.push_str("\" ContainerName=\"");
    xml::push_escaped(&mut document, call.container());
    document.push_str("\">");
    push_asked(&mut document, call.request);
    document.push_str("<Blobs>");
    for row in rows {
        match row {
            Row::Prefix(prefix) => {
                document.push_str("<BlobPrefix>");
                xml::push_name(&mut document, "Name", prefix);
                document.push_str("</BlobPrefix>");
            }
            Row::Blob { name, state, blob } => push_blob(&mut document, name, state, blob, &mut shown),
            Row::Uncommitted { name } => push_uncommitted(&mut document, name),
        }
    }
    document.push_str("</Blobs>");
    xml::push_element(&mut document, "NextMarker", next_marker);
    document.push_str("</EnumerationResults>");
    document
}

/// What all rows of a page have in common.
struct Shown {
    include: Include,
    now_us: i64,
    /// The date that was written last, and its second: neighbours often share theirs, and a date is the dearest element.
    last_date: Option<(i64, String)>,
}

impl Shown {
    fn push_date(&mut self, document: &mut String, element: &str, at_us: i64) {
        let second = at_us.div_euclid(1_000_000);
        if self.last_date.as_ref().is_none_or(|(known, _)| *known != second) {
            self.last_date = Some((second, clock::http_date(at_us)));
        }
        if let Some((_, date)) = &self.last_date {
            xml::push_element(document, element, date);
        }
    }
}

/// Appends one blob: elements, order and spelling as in Azure's answers.
fn push_blob(document: &mut String, name: &str, state: &State, blob: &Blob, shown: &mut Shown) {
    let (include, now_us) = (shown.include, shown.now_us);
    document.push_str("<Blob>");
    xml::push_name(document, "Name", name);
    match state {
        State::Snapshot(time) => xml::push_element(document, "Snapshot", time),
        State::Version(id) => xml::push_element(document, "VersionId", id),
        State::Current if include.versions => {
            xml::push_element(document, "VersionId", &clock::iso_ticks(blob.version));
            document.push_str("<IsCurrentVersion>true</IsCurrentVersion>");
        }
        State::Current => {}
    }
    document.push_str("<Properties>");
    shown.push_date(document, "Creation-Time", blob.created_us);
    shown.push_date(document, "Last-Modified", blob.modified_us);
    xml::push_element(document, "Etag", &blob.etag);
    let _ = write!(document, "<Content-Length>{}</Content-Length>", blob.content.len_bytes());
    let headers = &blob.headers;
    xml::push_element(document, "Content-Type", text(&headers.content_type));
    xml::push_element(document, "Content-Encoding", text(&headers.content_encoding));
    xml::push_element(document, "Content-Language", text(&headers.content_language));
    document.push_str("<Content-CRC64 />");
    xml::push_element(document, "Content-MD5", text(&headers.content_md5));
    xml::push_element(document, "Cache-Control", text(&headers.cache_control));
    xml::push_element(document, "Content-Disposition", text(&headers.content_disposition));
    if blob.kind == BlobKind::Page {
        let _ = write!(document, "<x-ms-blob-sequence-number>{}</x-ms-blob-sequence-number>", blob.sequence_number);
    }
    xml::push_element(document, "BlobType", blob.kind.name());
    push_tier(document, blob);
    let lease = blob.lease.state(now_us);
    // Snapshots and earlier versions have no lease to speak of.
    if matches!(state, State::Current) {
        xml::push_element(document, "LeaseStatus", lease.status());
        xml::push_element(document, "LeaseState", lease.name());
        if let Some(duration) = blob.lease.duration(now_us) {
            xml::push_element(document, "LeaseDuration", duration);
        }
    }
    if include.copy {
        push_copy(document, blob);
    }
    document.push_str("<ServerEncrypted>true</ServerEncrypted>");
    if blob.sealed {
        document.push_str("<Sealed>true</Sealed>");
    }
    if !blob.tags.is_empty() {
        let _ = write!(document, "<TagCount>{}</TagCount>", blob.tags.len());
    }
    document.push_str("</Properties>");
    if include.metadata {
        push_metadata(document, blob);
    }
    if include.tags && !blob.tags.is_empty() {
        push_tags(document, &blob.tags);
    }
    document.push_str("<OrMetadata /></Blob>");
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("")
}

fn push_tier(document: &mut String, blob: &Blob) {
    let Some((tier, inferred)) = blob.shown_tier() else { return };
    xml::push_element(document, "AccessTier", tier);
    if inferred {
        document.push_str("<AccessTierInferred>true</AccessTierInferred>");
    }
    if let Some(changed_us) = blob.tier_changed_us {
        xml::push_element(document, "AccessTierChangeTime", &clock::http_date(changed_us));
    }
}

fn push_copy(document: &mut String, blob: &Blob) {
    let Some(copy) = &blob.copy else { return };
    xml::push_element(document, "CopyId", &copy.id);
    xml::push_element(document, "CopySource", &copy.source);
    xml::push_element(document, "CopyStatus", "success");
    let _ = write!(document, "<CopyProgress>{0}/{0}</CopyProgress>", copy.len_bytes);
    xml::push_element(document, "CopyCompletionTime", &clock::http_date(copy.completed_us));
}

fn push_metadata(document: &mut String, blob: &Blob) {
    if blob.metadata.is_empty() {
        document.push_str("<Metadata />");
        return;
    }
    document.push_str("<Metadata>");
    blob.metadata.iter().for_each(|(key, value)| xml::push_element(document, key, value));
    document.push_str("</Metadata>");
}

/// A blob of which there are only blocks yet.
fn push_uncommitted(document: &mut String, name: &str) {
    document.push_str("<Blob>");
    xml::push_name(document, "Name", name);
    document.push_str(
        "<Properties><Content-Length>0</Content-Length><Content-Type /><Content-Encoding /><Content-Language />\
         <Content-CRC64 /><Content-MD5 /><Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType>\
         <LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState></Properties><OrMetadata /></Blob>",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_leads_back_to_its_row() {
        let position = ("a/ü\u{1}b", "2026-01-01T00:00:00.0000001Z");
        let marker = write_marker(position);
        assert!(marker.starts_with("2!"));
        assert_eq!(read_marker(&marker).unwrap(), (position.0.to_owned(), position.1.to_owned()));
        assert_eq!(read_marker("anything").unwrap_err().code, "InvalidQueryParameterValue");
    }

    #[test]
    fn what_follows_a_prefix_is_behind_all_that_have_it() {
        assert_eq!(after_prefix("a/").as_deref(), Some("a0"));
        assert_eq!(after_prefix("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
    }
}
