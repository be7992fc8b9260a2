//! The files of the feed, as they lie in the container `$blobchangefeed` ("Change feed segments", "Specifications" in Azure's document on the
//! change feed): `meta/segments.json` tells up to which segment everything is final, `idx/segments/` describes the segments of an hour each,
//! and `log/` has the events in append blobs, which grow.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use blobkeep_vault::{SourceError, SourceErrorKind, Timestamp};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::avro::{Header, MARKER_BYTES, MOST_HEADER_BYTES};
use super::event::instant_of;
use crate::azure::http_client::Request;
use crate::azure::reader::{Page, Rows};
use crate::azure::{AzureAccount, fault};

const CONTAINER: &str = "$blobchangefeed";
const SEGMENTS: &str = "idx/segments/";
/// Room for a header with the schema that Azure writes, several times over.
const HEADER_BYTES: u64 = 64 << 10;
/// What is read first of a file's end to find where its last block ends.
const TAIL_BYTES: u64 = 256 << 10;
/// Headers that are remembered; an hour has one file or two in each shard.
const MOST_HEADERS: usize = 64;

/// Headers of the files that were read last, by their paths. Files are never written anew.
pub(in crate::azure) type Headers = HashMap<String, Arc<Header>>;

/// A file of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFile {
    /// Within the shard's folder.
    pub(super) name: String,
    pub(super) length: u64,
}

/// A segment in the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentRow {
    /// Like `2026/11/23/0700`, the time at which it begins.
    pub(super) path: String,
    /// ETag of its description.
    pub(super) etag: String,
}

/// What a segment's description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Nothing will be added any more.
    pub(super) is_final: bool,
    /// Folders of the log, one for each shard.
    pub(super) chunks: Vec<String>,
}

impl AzureAccount {
    /// Up to when the feed is final; `None` if the account has none.
    pub(super) async fn last_consumable(&self) -> Result<Option<Timestamp>, SourceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Segments {
            last_consumable: String,
        }
        let what = "read the change feed's meta/segments.json";
        let request = Request::new(Method::GET, Some(CONTAINER), Some("meta/segments.json"));
        let response = self.inner.http.send(what, &request).await?;
        match response.status.as_u16() {
            200 => {}
            // Endpoints that know no change feed may refuse the container's name as well.
            400 | 404 => return Ok(None),
            // Nobody may read it without any credential.
            401 | 403 | 409 if self.inner.http.is_anonymous() => return Ok(None),
            _ => return Err(fault::error_of(what, self.inner.http.shown(), &response)),
        }
        let parsed: Segments =
            serde_json::from_slice(&response.body).map_err(|error| self.nonsense(what, &error.to_string()))?;
        let until = instant_of(&parsed.last_consumable);
        until.map(Some).ok_or_else(|| self.nonsense(what, "lastConsumable is no time"))
    }

    /// Everything in the feed whose path starts so, in the order of paths.
    async fn feed_rows(&self, prefix: &str) -> Result<Vec<(String, u64, String)>, SourceError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = Page { rows: Rows::Bare, ..Page::of_prefix(prefix, cursor.as_deref(), "5000") };
            let page = self.list_page(CONTAINER, page).await?;
            rows.extend(page.entries.into_iter().map(|entry| (entry.name, entry.size_bytes, entry.etag)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        rows.sort();
        Ok(rows)
    }

    /// The segments that begin between the times that their paths say, both inclusive.
    pub(super) async fn segments(&self, from: Option<&str>, until: &str) -> Result<Vec<SegmentRow>, SourceError> {
        let rows = self.feed_rows(&format!("{SEGMENTS}{}", span(from, until))).await?;
        let of_row = |(path, _, etag): (String, u64, String)| {
            let path = path.strip_prefix(SEGMENTS)?.strip_suffix("/meta.json")?.to_owned();
            Some(SegmentRow { path, etag })
        };
        let rows = rows.into_iter().filter_map(of_row);
        // The segment of 1601 is made together with the feed, and is always empty.
        let is_wanted = |row: &SegmentRow| {
            from.is_none_or(|from| row.path.as_str() >= from)
                && row.path.as_str() <= until
                && !row.path.starts_with("1601/")
        };
        Ok(rows.filter(is_wanted).collect())
    }

    /// The last segment that begins before a time.
    pub(super) async fn last_segment(&self, until: &str) -> Result<Option<SegmentRow>, SourceError> {
        // Most often it is one of the same day. Nobody wants to list the hours of years.
        for from in [until.get(..11), until.get(..8), until.get(..5), None] {
            if let Some(last) = self.segments(from, until).await?.pop() {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// What the description of a segment says.
    pub(super) async fn segment(&self, path: &str) -> Result<Segment, SourceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            #[serde(default)]
            status: String,
            chunk_file_paths: Vec<String>,
        }
        let what = format!("read segment {path} of the change feed");
        let name = format!("{SEGMENTS}{path}/meta.json");
        let request = Request::new(Method::GET, Some(CONTAINER), Some(&name));
        let response = self.inner.http.expect(&what, &request, &[200]).await?;
        let meta: Meta =
            serde_json::from_slice(&response.body).map_err(|error| self.nonsense(&what, &error.to_string()))?;
        let prefix = format!("{CONTAINER}/");
        let chunk = |path: &String| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
        Ok(Segment { is_final: meta.status == "Finalized", chunks: meta.chunk_file_paths.iter().map(chunk).collect() })
    }

    /// The files of a shard, in their order.
    pub(super) async fn log_files(&self, chunk: &str) -> Result<Vec<LogFile>, SourceError> {
        let rows = self.feed_rows(chunk).await?;
        let of_row = |(path, length, _): (String, u64, String)| {
            let name = path.strip_prefix(chunk)?.to_owned();
            name.ends_with(".avro").then_some(LogFile { name, length })
        };
        let mut files: Vec<LogFile> = rows.into_iter().filter_map(of_row).collect();
        // Numbers with leading zeros, as many as were thought to be enough.
        files.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        Ok(files)
    }

    /// A range of a file, which may grow meanwhile.
    pub(super) async fn log_bytes(&self, path: &str, range: Range<u64>) -> Result<Bytes, SourceError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let what = format!("read {path} of the change feed");
        let mut request = Request::new(Method::GET, Some(CONTAINER), Some(path));
        request.try_header("x-ms-range", &format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let response = self.inner.http.expect(&what, &request, &[200, 206]).await?;
        let wanted = range.end - range.start;
        let body = match response.status.as_u16() {
            // The whole file although a range was asked for: legal in HTTP.
            200 if response.body.len() as u64 >= range.end => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                response.body.slice(at(range.start)..at(range.end))
            }
            _ => response.body,
        };
        match body.len() as u64 {
            length if length == wanted => Ok(body),
            length => Err(self.nonsense(&what, &format!("{length} bytes instead of {wanted}"))),
        }
    }

    /// The header of a file of so many bytes; `None` if that is not there as a whole yet.
    pub(super) async fn log_header(&self, path: &str, length: u64) -> Result<Option<Arc<Header>>, SourceError> {
        let known = || self.inner.feed_headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = known().get(path) {
            return Ok(Some(Arc::clone(header)));
        }
        let mut bytes = HEADER_BYTES;
        let header = loop {
            let start = self.log_bytes(path, 0..bytes.min(length)).await?;
            let read = Header::read(&start).map_err(|reason| self.damaged(path, &reason))?;
            match read {
                Some(header) => break Arc::new(header),
                None if bytes >= length => return Ok(None),
                None if bytes >= MOST_HEADER_BYTES => return Err(self.damaged(path, "its header has no end")),
                None => bytes *= 4,
            }
        };
        let mut known = known();
        if known.len() >= MOST_HEADERS {
            known.clear();
        }
        known.insert(path.to_owned(), Arc::clone(&header));
        Ok(Some(header))
    }

    /// Where the last whole block of a file of so many bytes ends; 0 if not even the header is there.
    pub(super) async fn log_end(&self, path: &str, length: u64) -> Result<u64, SourceError> {
        let Some(header) = self.log_header(path, length).await? else { return Ok(0) };
        let lowest = header.length().saturating_sub(MARKER_BYTES as u64);
        let mut tail = TAIL_BYTES;
        loop {
            let from = length.saturating_sub(tail).max(lowest);
            let bytes = self.log_bytes(path, from..length).await?;
            if let Some(end) = header.last_end(&bytes) {
                return Ok(from + end as u64);
            }
            if from == lowest {
                return Err(self.feed_begun_anew(path));
            }
            tail *= 4;
        }
    }

    pub(super) fn damaged(&self, path: &str, reason: &str) -> SourceError {
        self.nonsense(&format!("read {path} of the change feed"), reason)
    }

    pub(super) fn feed_begun_anew(&self, path: &str) -> SourceError {
        SourceError::new(
            SourceErrorKind::NotFound,
            format!(
                "the change feed of {} has no {path} any more as it was when it was read last: it was removed, or begun anew",
                self.inner.http.shown()
            ),
        )
    }
}

/// The path that a segment beginning at that time would have.
pub(super) fn segment_path(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => at.strftime("%Y/%m/%d/%H%M").to_string(),
        Err(_) => String::new(),
    }
}

/// The time at which a segment begins.
pub(super) fn segment_begin(path: &str) -> Option<Timestamp> {
    let (day, hour) = path.rsplit_once('/')?;
    let (hours, minutes) = hour.split_at_checked(2)?;
    instant_of(&format!("{}T{hours}:{minutes}:00Z", day.replace('/', "-")))
}

/// The folders that both paths have in common: year, month and day.
fn span(from: Option<&str>, until: &str) -> String {
    let from = from.unwrap_or_default();
    let common =
        from.split_inclusive('/').zip(until.split_inclusive('/')).take_while(|(a, b)| a == b && a.ends_with('/'));
    common.map(|(folder, _)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_segments_are_times() {
        let at = instant_of("2026-11-23T07:10:59.5Z").unwrap();
        assert_eq!(segment_path(at), "2026/11/23/0710");
        assert_eq!(segment_begin("2026/11/23/0710"), instant_of("2026-11-23T07:10:00Z"));
        for bad in ["", "2026", "2026/11/23", "2026/11/23/7", "2026/13/23/0700"] {
            assert_eq!(segment_begin(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_more_is_listed_than_the_folders_that_can_hold_a_segment() {
        for (from, folders) in [
            (Some("2026/11/23/0600"), "2026/11/23/"),
            (Some("2026/11/22/2300"), "2026/11/"),
            (Some("2026/09/22/2300"), "2026/"),
            (Some("2025/12/31/2300"), ""),
            (Some("2026/11/23/"), "2026/11/23/"),
            (Some("2026/"), "2026/"),
            (None, ""),
        ] {
            assert_eq!(span(from, "2026/11/23/0700"), folders, "{from:?}");
        }
    }
}
