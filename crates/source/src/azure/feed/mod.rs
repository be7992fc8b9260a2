//! The change feed of an account: which blobs changed, in the order in which it happened to each of them.
//!
//! Azure promises (specifications in its document on the change feed): what is in the files stays there, events of one blob are in the order of
//! the changes and lie in one shard, all changes of a segment come before those of the next one, and a segment is final when `lastConsumable`
//! has reached the time at which it begins. So only segments up to there are read, one after the other. An event may come more than once.
//!
//! An account has a feed to go by if it writes one and keeps versions. The first is seen from `meta/segments.json`; the second from rows of its
//! listings that tell a version, without writing anything. Blobs that were last written before versions were kept have none: one row with a
//! version is enough. An account without blobs is believed; its versions are seen later.

mod avro;
mod cursor;
mod event;
mod files;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use blobkeep_vault::source::{ChangePage, FeedPosition};
use blobkeep_vault::{SourceError, SourceErrorKind, Timestamp};
use bytes::Bytes;
use http::Method;

use self::avro::{Frame, Header, MARKER_BYTES};
use self::cursor::{Cursor, Place, chunk_of, shard_of};
use self::event::{Event, event_of};
pub(in crate::azure) use self::files::Headers;
use self::files::{LogFile, SegmentRow, segment_begin, segment_path};
use super::http_client::Request;
use super::reader::{Page, Rows};
use super::{AzureAccount, xml};

/// Changes in a page.
const MOST_EVENTS: usize = 4_000;
/// Bytes of the feed that are read for a page, whatever is in them.
const MOST_PAGE_BYTES: u64 = 32 << 20;
/// Bytes of a file that are read at once.
const WINDOW_BYTES: u64 = 4 << 20;
/// How much the times of segments may be off.
const SEGMENT_SLACK_SECONDS: i64 = 15 * 60;
/// Containers that are looked into for versions, and blobs in each.
const CONTAINERS_TO_TRY: &str = "10";
const BLOBS_TO_TRY: &str = "100";

/// What is collected for a page.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: u64,
    /// A file ended in the middle of a block.
    is_cut: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events.len() >= MOST_EVENTS || self.bytes >= MOST_PAGE_BYTES
    }
}

/// What a part of a file brought.
struct Decoded {
    events: Vec<Event>,
    place: Place,
}

impl AzureAccount {
    /// The end of the feed; `None` if the account has none to go by.
    pub(super) async fn feed_end(&self) -> Result<Option<FeedPosition>, SourceError> {
        // With the right to one container nobody can read the feed, and half of it would be another's.
        if self.inner.container.is_some() {
            return Ok(None);
        }
        let Some(until) = self.last_consumable().await? else { return Ok(None) };
        if !self.keeps_versions().await? {
            return Ok(None);
        }
        self.inner.tells_versions.store(true, Ordering::Relaxed);
        // Whatever was made up to `until` could be read before the places that are looked for now.
        let mut cursor = Cursor::of_empty(until);
        if let Some(row) = self.last_segment(&segment_path(until)).await? {
            cursor.shards = self.ends_of(&row, &mut cursor.is_done).await?;
            (cursor.segment, cursor.etag) = (Some(row.path), row.etag);
        }
        cursor.position().map(Some)
    }

    async fn ends_of(&self, row: &SegmentRow, is_done: &mut bool) -> Result<BTreeMap<String, Place>, SourceError> {
        let segment = self.segment(&row.path).await?;
        let mut shards = BTreeMap::new();
        if segment.is_final {
            *is_done = true;
            return Ok(shards);
        }
        for chunk in &segment.chunks {
            let mut place = Place::default();
            if let Some(last) = self.log_files(chunk).await?.pop() {
                let at = self.log_end(&format!("{chunk}{}", last.name), last.length).await?;
                place = Place { file: last.name, at, skip: 0 };
            }
            shards.insert(shard_of(chunk, &row.path), place);
        }
        Ok(shards)
    }

    /// Whether listings of the account tell versions.
    async fn keeps_versions(&self) -> Result<bool, SourceError> {
        let what = "list some containers";
        let request =
            Request::new(Method::GET, None, None).query("comp", "list").query("maxresults", CONTAINERS_TO_TRY);
        let response = self.inner.http.expect(what, &request, &[200]).await?;
        let (containers, _) = xml::parse_containers(&response.body).map_err(|reason| self.nonsense(what, &reason))?;
        let mut has_blobs = false;
        for container in containers {
            let page = Page { rows: Rows::BareVersions, ..Page::of_prefix("", None, BLOBS_TO_TRY) };
            let rows = match self.list_page(&container.name, page).await {
                Ok(page) => page.entries,
                // It is gone by now, or the endpoint knows nothing of versions.
                Err(error) if error.kind == SourceErrorKind::NotFound => continue,
                Err(error) if error.kind == SourceErrorKind::Refused => return Ok(false),
                Err(error) => return Err(error),
            };
            if rows.iter().any(|row| row.version.is_some() || row.current_version.is_some()) {
                return Ok(true);
            }
            has_blobs |= !rows.is_empty();
        }
        Ok(!has_blobs)
    }

    /// The page of changes after a cursor.
    pub(super) async fn feed_page(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        let cursor = Cursor::parse(cursor)?;
        let Some(until) = self.last_consumable().await? else {
            return Err(self.feed_begun_anew("meta/segments.json"));
        };
        self.inner.tells_versions.store(true, Ordering::Relaxed);
        if cursor.is_done && until.0 <= cursor.until {
            return Ok(ChangePage { changes: Vec::new(), next: cursor.position()?, is_last: true });
        }
        let (events, next, is_last) = self.events_after(cursor, until).await?;
        Ok(ChangePage { changes: self.changes_of(events).await?, next: next.position()?, is_last })
    }

    /// Events after a cursor, the place behind them, and whether there are no more.
    async fn events_after(
        &self,
        mut cursor: Cursor,
        until: Timestamp,
    ) -> Result<(Vec<Event>, Cursor, bool), SourceError> {
        let rows = self.segments(cursor.segment.as_deref(), &segment_path(until)).await?;
        if let Some(segment) = &cursor.segment
            && rows.first().is_none_or(|row| row.path != *segment)
        {
            return Err(self.feed_begun_anew(&format!("segment {segment}")));
        }
        let mut batch = Batch::default();
        for row in rows {
            let has_ended = self.read_segment(&row, &mut cursor, &mut batch).await?;
            if has_ended && !batch.is_cut {
                continue;
            }
            // Only what lies before this segment is complete.
            let begin = segment_begin(&row.path).map(|begin| begin.plus_seconds(-SEGMENT_SLACK_SECONDS));
            cursor.until = cursor.until.max(begin.unwrap_or_default().min(until).0);
            return Ok((batch.events, cursor, has_ended));
        }
        cursor.until = cursor.until.max(until.0);
        Ok((batch.events, cursor, true))
    }

    /// Reads a segment on, and moves the cursor. `false` if the page is full before the segment has ended.
    async fn read_segment(
        &self,
        row: &SegmentRow,
        cursor: &mut Cursor,
        batch: &mut Batch,
    ) -> Result<bool, SourceError> {
        let is_known = cursor.segment.as_deref() == Some(row.path.as_str());
        if is_known && cursor.is_done {
            return Ok(true);
        }
        let mut is_final = false;
        if !is_known || cursor.etag != row.etag {
            let segment = self.segment(&row.path).await?;
            let mut shards: BTreeMap<String, Place> =
                segment.chunks.iter().map(|chunk| (shard_of(chunk, &row.path), Place::default())).collect();
            if is_known {
                shards.append(&mut cursor.shards);
            }
            is_final = segment.is_final;
            (cursor.segment, cursor.etag, cursor.is_done) = (Some(row.path.clone()), row.etag.clone(), false);
            cursor.shards = shards;
        }
        let shards: Vec<String> = cursor.shards.keys().cloned().collect();
        for shard in shards {
            let place = cursor.shards.entry(shard.clone()).or_default();
            if !self.read_shard(&chunk_of(&shard, &row.path), place, batch).await? {
                // Its description has to be read again: it may say that it is final.
                if is_final {
                    cursor.etag.clear();
                }
                return Ok(false);
            }
        }
        if is_final {
            if batch.is_cut {
                return Err(self.damaged(&row.path, "a file of a final segment ends in the middle of a block"));
            }
            cursor.is_done = true;
            cursor.shards.clear();
        }
        Ok(true)
    }

    /// Reads the files of a shard on. `false` if the page is full before they have ended.
    async fn read_shard(&self, chunk: &str, place: &mut Place, batch: &mut Batch) -> Result<bool, SourceError> {
        let files = self.log_files(chunk).await?;
        let first = match files.iter().position(|file| file.name == place.file) {
            Some(first) => first,
            None if place.file.is_empty() => 0,
            None => return Err(self.feed_begun_anew(&format!("{chunk}{}", place.file))),
        };
        for (number, file) in files.iter().enumerate().skip(first) {
            if place.file != file.name {
                *place = Place { file: file.name.clone(), ..Place::default() };
            }
            let path = format!("{chunk}{}", file.name);
            if place.at > file.length {
                return Err(self.feed_begun_anew(&path));
            }
            while place.at < file.length {
                if batch.is_full() {
                    return Ok(false);
                }
                if !self.read_blocks(&path, file, place, batch).await? {
                    if number + 1 < files.len() {
                        return Err(self.damaged(&path, "it ends in the middle of a block, and another file follows"));
                    }
                    // The rest is still being written.
                    batch.is_cut = true;
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Reads some blocks of a file on. `false` if no whole one is there any more.
    async fn read_blocks(
        &self,
        path: &str,
        file: &LogFile,
        place: &mut Place,
        batch: &mut Batch,
    ) -> Result<bool, SourceError> {
        let Some(header) = self.log_header(path, file.length).await? else { return Ok(false) };
        place.at = place.at.max(header.length());
        if place.at >= file.length {
            return Ok(true);
        }
        let mut window = WINDOW_BYTES;
        let (bytes, frames) = loop {
            let until = place.at.saturating_add(window).min(file.length);
            let bytes = self.log_bytes(path, place.at - MARKER_BYTES as u64..until).await?;
            if !header.is_before(&bytes) {
                return Err(self.feed_begun_anew(path));
            }
            let blocks = bytes.slice(MARKER_BYTES..);
            let frames = header.frames(&blocks).map_err(|reason| self.damaged(path, &reason))?;
            if !frames.whole.is_empty() {
                break (blocks, frames.whole);
            }
            match frames.next_bytes {
                Some(next) if next > window && place.at.saturating_add(next) <= file.length => window = next,
                _ => return Ok(false),
            }
        };
        let (before, room) = (place.clone(), MOST_EVENTS.saturating_sub(batch.events.len()));
        let decoded = tokio::task::spawn_blocking(move || decode(&header, &bytes, &frames, before, room))
            .await
            .map_err(|error| SourceError::new(SourceErrorKind::Unavailable, format!("cannot read {path}: {error}")))?
            .map_err(|reason| self.damaged(path, &reason))?;
        batch.bytes += decoded.place.at - place.at;
        batch.events.extend(decoded.events);
        *place = decoded.place;
        Ok(true)
    }
}

/// The events in whole blocks after a place, at most `room`, and the place behind them.
fn decode(header: &Header, bytes: &Bytes, frames: &[Frame], place: Place, room: usize) -> Result<Decoded, String> {
    let end = frames.last().map_or(0, |last| last.end);
    let mut events = Vec::new();
    // The block that the next record is in, and how many of it were read.
    let (mut number, mut read) = (0, 0);
    header.records(&bytes[..end], |record| {
        if events.len() >= room {
            return Ok(ControlFlow::Break(()));
        }
        while frames.get(number).is_some_and(|frame| frame.records == read) {
            (number, read) = (number + 1, 0);
        }
        read += 1;
        if number > 0 || read > place.skip {
            events.extend(event_of(record)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    while frames.get(number).is_some_and(|frame| frame.records == read) {
        (number, read) = (number + 1, 0);
    }
    let start = frames.get(number).map_or(end, |frame| frame.start);
    Ok(Decoded { events, place: Place { file: place.file, at: place.at + start as u64, skip: read } })
}
