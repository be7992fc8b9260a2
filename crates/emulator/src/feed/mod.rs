//! The change feed of an account: events are collected and appended, block by block, to Avro files in a container that only
//! the system writes. Rules and layout are those of "Change feed support in Azure Blob Storage"; where Azure takes minutes
//! to publish, this takes a set delay, and whoever reads [`SEGMENTS`] gets everything up to that moment.
//!
//! Nothing runs in the background: what is due is published when somebody looks at the container or changes another blob.

mod event;
mod layout;

use std::sync::Arc;

use apache_avro::Writer;
use bytes::Bytes;

pub(crate) use event::{Api, Before, Change, EventKind, Origin};
use event::{Event, SCHEMA};
pub(crate) use layout::{FEED_CONTAINER, SEGMENTS};

use crate::model::Stamp;
use crate::model::blob::{Blob, BlobKind, Content, ContentHeaders};
use crate::model::container::Container;
use crate::model::log::Log;

/// A file that has become larger than this is followed by another.
const FILE_BYTES: u64 = 8 << 20;
/// Bytes of records that make a block of a file.
const BLOCK_BYTES: usize = 64 * 1024;
/// So many events are published before their time: they wait in memory as they are.
const MAX_PENDING: usize = 1_000;
/// What stands between the blocks of all files.
const SYNC_MARKER: [u8; 16] = *b"blobkeep-changes";
const TICKS_PER_MS: i64 = 10_000;

/// The hour that is written, and its newest file.
#[derive(Debug, Clone, Copy)]
struct Segment {
    hour: i64,
    file: u32,
    file_bytes: u64,
}

/// The feed of an account.
#[derive(Debug)]
pub(crate) struct Feed {
    topic: String,
    keeps_versions: bool,
    delay_ticks: i64,
    pending: Vec<Event>,
    sequence: u64,
    segment: Option<Segment>,
}

/// Up to where events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// What has waited for the delay.
    Due,
    /// Everything, and the feed says that it is complete up to now.
    All,
}

impl Feed {
    /// A feed of an account, and its container with what is in it from the beginning.
    pub(crate) fn new(account: &str, keeps_versions: bool, delay_ms: u64, stamp: &Stamp) -> (Feed, Container) {
        let feed = Feed {
            topic: format!(
                "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/emulator/providers/\
                 Microsoft.Storage/storageAccounts/{account}"
            ),
            keeps_versions,
            delay_ticks: i64::try_from(delay_ms).unwrap_or(i64::MAX).saturating_mul(TICKS_PER_MS),
            pending: Vec::new(),
            sequence: 0,
            segment: None,
        };
        let mut container = Container::new(stamp, false);
        put_document(&mut container, SEGMENTS, layout::segments(stamp.ticks), stamp);
        put_manifest(&mut container, layout::FIRST_HOUR, true, stamp);
        (feed, container)
    }

    /// Adds an event.
    pub(crate) fn add(&mut self, origin: &Origin<'_>, change: &Change<'_>) {
        self.sequence += 1;
        self.pending.push(Event::new(origin, change, self.sequence, self.keeps_versions));
    }

    /// How many events should be published by now.
    pub(crate) fn due(&self, now_ticks: i64) -> usize {
        if self.pending.len() >= MAX_PENDING {
            return self.pending.len();
        }
        self.pending.partition_point(|event| event.ticks.saturating_add(self.delay_ticks) <= now_ticks)
    }

    /// Writes events to the container. The stamp is later than those of all events so far.
    pub(crate) fn publish(&mut self, container: &mut Container, stamp: &Stamp, upto: Publish) {
        let due = match upto {
            Publish::All => self.pending.len(),
            Publish::Due => self.due(stamp.ticks),
        };
        let events: Vec<Event> = self.pending.drain(..due).collect();
        for hour in events.chunk_by(|a, b| layout::hour_of(a.ticks) == layout::hour_of(b.ticks)) {
            let Some(first) = hour.first() else { continue };
            self.enter(container, layout::hour_of(first.ticks), stamp);
            self.append(container, hour, stamp);
        }
        if upto == Publish::All {
            // No event can come any more into an hour that is over.
            if self.segment.is_some_and(|segment| segment.hour < layout::hour_of(stamp.ticks)) {
                self.leave(container, stamp);
            }
            put_document(container, SEGMENTS, layout::segments(stamp.ticks), stamp);
        }
    }

    /// Goes on to an hour, if it is not that of the segment that is being written.
    fn enter(&mut self, container: &mut Container, hour: i64, stamp: &Stamp) {
        if self.segment.is_some_and(|segment| segment.hour == hour) {
            return;
        }
        self.leave(container, stamp);
        self.segment = Some(Segment { hour, file: 0, file_bytes: 0 });
        put_manifest(container, hour, false, stamp);
    }

    /// Ends the segment that is being written.
    fn leave(&mut self, container: &mut Container, stamp: &Stamp) {
        if let Some(segment) = self.segment.take() {
            put_manifest(container, segment.hour, true, stamp);
        }
    }

    fn append(&mut self, container: &mut Container, events: &[Event], stamp: &Stamp) {
        let Some(segment) = self.segment.as_mut() else { return };
        if segment.file_bytes >= FILE_BYTES {
            (segment.file, segment.file_bytes) = (segment.file + 1, 0);
        }
        let bytes = match blocks(events, &self.topic, segment.file_bytes == 0) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "events of the change feed can't be written");
                return;
            }
        };
        segment.file_bytes += bytes.len() as u64;
        append_bytes(container, &layout::log_name(segment.hour, segment.file), &bytes, stamp);
    }
}

/// Why events are no Avro.
#[derive(Debug, thiserror::Error)]
enum NoAvro {
    #[error("the schema of the events is not readable")]
    Schema,
    #[error(transparent)]
    Avro(#[from] apache_avro::Error),
}

/// Blocks with these events, behind a header if a file begins with them.
fn blocks(events: &[Event], topic: &str, with_header: bool) -> Result<Vec<u8>, NoAvro> {
    let schema = SCHEMA.as_ref().ok_or(NoAvro::Schema)?;
    let mut writer = Writer::builder()
        .schema(schema)
        .writer(Vec::new())
        .block_size(BLOCK_BYTES)
        .marker(SYNC_MARKER)
        .has_header(!with_header)
        .build()?;
    for event in events {
        writer.append_value(event.value(topic))?;
    }
    writer.flush()?;
    Ok(writer.into_inner()?)
}

fn put_manifest(container: &mut Container, hour: i64, is_final: bool, stamp: &Stamp) {
    put_document(container, &layout::manifest_name(hour), layout::manifest(hour, is_final, stamp.ticks), stamp);
}

/// Puts a small JSON document.
fn put_document(container: &mut Container, name: &str, text: String, stamp: &Stamp) {
    let content_md5 = Some(crate::checksum::md5_base64(text.as_bytes()));
    let content_type = Some("application/json".to_owned());
    let created_us = container.get(name, None).map_or(stamp.at_us, |known| known.created_us);
    let blob = Blob {
        headers: ContentHeaders { content_type, content_md5, ..ContentHeaders::default() },
        created_us,
        ..Blob::new(BlobKind::Block, Content::Whole(Bytes::from(text)), stamp.etag.clone(), stamp.at_us)
    };
    container.replace(name, Some(Arc::new(blob)));
}

/// Appends to a file, which is made if it is not there.
fn append_bytes(container: &mut Container, name: &str, bytes: &[u8], stamp: &Stamp) {
    let file = container.family_mut(name).current.get_or_insert_with(|| {
        let content_type = Some("avro/binary".to_owned());
        Arc::new(Blob {
            headers: ContentHeaders { content_type, ..ContentHeaders::default() },
            ..Blob::new(BlobKind::Append, Content::Log(Log::default()), String::new(), stamp.at_us)
        })
    });
    // A reader that is under way keeps the file as it was; copying costs a pointer for each piece.
    let file = Arc::make_mut(file);
    if let Content::Log(log) = &mut file.content {
        log.append(bytes);
    }
    file.etag = stamp.etag.clone();
    file.modified_us = stamp.at_us;
}
