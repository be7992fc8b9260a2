//! The merge of a listing with the manifests before it: what is unchanged is taken over, everything else is read.
//!
//! A container may be merged in several ranges of names at once. Each range has a listing and readers of its own, and its share of the window
//! of entries that may be under way; what they have in common is the reader of blobs.

use std::cmp::Ordering;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tracing::warn;

use super::read::{BlobReader, Outcome};
use super::split::Range;
use crate::error::{Error, ErrorKind, Result};
use crate::item::{BlobEntry, Content, Item};
use crate::manifest::{ManifestReader, Record};
use crate::read::ChunkReader;

/// Entries that may be under way between listing and manifest, in all ranges together.
const WINDOW_ENTRIES: usize = 2048;
/// Entries that are handed on together.
const STEP_ENTRIES: usize = 256;
/// Content that is read together, in bytes.
const STEP_BYTES: u64 = 1 << 20;

/// The manifest of an earlier run or point, from which content is taken over.
pub(super) struct Base<'a> {
    pub(super) reader: ManifestReader<'a>,
    /// Tells whether content is whole.
    pub(super) chunks: &'a ChunkReader,
    /// What this job itself had done: it was counted then.
    pub(super) is_own_progress: bool,
}

/// Why a merge ended before the end of its listing.
#[derive(Debug)]
pub(super) enum Stop {
    /// The listing is not in key order.
    OutOfOrder,
    /// Two neighbouring ranges do not meet: a blob may lie between them.
    Gap,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What has become of an entry.
pub(super) enum Done {
    /// Taken over without reading; `true` if the blob is still to be counted.
    TakenOver(Box<Item>, bool),
    /// It was read, or could not be.
    Read(Outcome),
}

/// Some entries that follow each other, ready for the manifest.
#[derive(Default)]
pub(super) struct Step {
    pub(super) done: Vec<Done>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
    /// Their places in the window.
    places: Option<OwnedSemaphorePermit>,
}

enum Slot {
    Done(Done),
    /// The next outcome of the tasks.
    Reading,
}

/// Blobs that are being read; nobody reads on if nobody waits for them any more.
struct Reading(JoinHandle<Result<Vec<Outcome>>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A step of which some entries may still be being read.
#[derive(Default)]
struct Pending {
    step: Step,
    slots: Vec<Slot>,
    readings: Vec<Reading>,
    wanted: Vec<BlobEntry>,
    wanted_bytes: u64,
}

impl Pending {
    fn is_full(&self, reader: &BlobReader) -> bool {
        self.slots.len() >= STEP_ENTRIES
            || self.wanted_bytes >= STEP_BYTES
            || (!self.wanted.is_empty() && self.wanted.len() >= reader.reads_together())
    }

    /// Begins to read what is wanted so far.
    fn read_wanted(&mut self, reader: &Arc<BlobReader>) {
        let wanted = std::mem::take(&mut self.wanted);
        if !wanted.is_empty() {
            let reader = reader.clone();
            self.readings.push(Reading(tokio::spawn(async move { reader.read_all(wanted).await })));
        }
    }

    fn want(&mut self, entry: BlobEntry) {
        self.wanted_bytes += entry.size_bytes;
        self.wanted.push(entry);
        self.slots.push(Slot::Reading);
    }

    async fn wait(mut self) -> Result<Step, Stop> {
        let mut outcomes = Vec::new();
        for reading in &mut self.readings {
            let read = (&mut reading.0).await.map_err(|e| Error::Internal(format!("a reading task died: {e}")))??;
            outcomes.extend(read);
        }
        let mut outcomes = outcomes.into_iter();
        for slot in std::mem::take(&mut self.slots) {
            self.step.done.push(match slot {
                Slot::Done(done) => done,
                Slot::Reading => {
                    let outcome = outcomes.next().ok_or_else(|| Error::Internal("a blob has no outcome".into()))?;
                    Done::Read(outcome)
                }
            });
        }
        Ok(self.step)
    }
}

/// The merge of one range of names of one container.
pub(super) struct Merge<'a> {
    range: Range,
    bases: Vec<Base<'a>>,
    reader: Arc<BlobReader>,
    /// Places of entries under way.
    window: Arc<Semaphore>,
    /// Name and version of the entry before.
    last: Option<(String, Option<String>)>,
    /// Content stays at the source: items point at versions.
    pub(super) at_source: bool,
}

impl<'a> Merge<'a> {
    /// The merge of `range`, one of several that go on at once.
    pub(super) fn new(range: Range, at_once: usize, bases: Vec<Base<'a>>, reader: Arc<BlobReader>) -> Self {
        let window = Arc::new(Semaphore::new((WINDOW_ENTRIES / at_once).max(STEP_ENTRIES)));
        Self { range, bases, reader, window, last: None, at_source: false }
    }

    /// What becomes of the entries, in key order. Blobs are read ahead as far as the window allows.
    pub(super) fn steps(self) -> BoxStream<'a, Result<Step, Stop>> {
        stream::unfold(Some(self), |merge| async move {
            let mut merge = merge?;
            match merge.next_pending().await {
                Ok(None) => None,
                Ok(Some(pending)) => Some((Ok(pending), Some(merge))),
                Err(stop) => Some((Err(stop), None)),
            }
        })
        .map(|pending| async move { pending?.wait().await })
        .buffered(WINDOW_ENTRIES)
        .boxed()
    }

    async fn next_pending(&mut self) -> Result<Option<Pending>, Stop> {
        let mut pending = Pending::default();
        while !pending.is_full(&self.reader) {
            // A step that holds places is handed on before it waits for more: these may be all there are.
            if !self.take_place(&mut pending.step.places, pending.slots.is_empty()).await? {
                break;
            }
            let Some(mut entry) = self.next_entry().await? else {
                let is_end = pending.slots.is_empty() && pending.step.warnings.is_empty();
                pending.read_wanted(&self.reader);
                return Ok((!is_end).then_some(pending));
            };
            // One without a version was written before the account kept any, and is read as elsewhere: nothing else would name what it was.
            if self.at_source
                && let Some(version) = entry.current_version.take()
            {
                let done = self.point_at(entry, version, &mut pending.step.warnings).await?;
                pending.slots.push(Slot::Done(done));
                continue;
            }
            match self.take_over(&entry, None, &mut pending.step.warnings).await? {
                Some((content, is_counted)) => {
                    let item = Box::new(Item { entry, content });
                    pending.slots.push(Slot::Done(Done::TakenOver(item, is_counted)));
                }
                None if entry.size_bytes == 0 => {
                    self.reader.note_unread();
                    let item = Box::new(Item { entry, content: Content::Empty });
                    pending.slots.push(Slot::Done(Done::Read(Outcome::Read(item))));
                }
                None if self.reader.is_small(&entry) => pending.want(entry),
                // A large one is read by itself, and ends the step.
                None => {
                    pending.read_wanted(&self.reader);
                    pending.want(entry);
                    break;
                }
            }
        }
        pending.read_wanted(&self.reader);
        Ok(Some(pending))
    }

    /// Takes a place in the window; `false` if none is free and it may not wait.
    async fn take_place(&self, places: &mut Option<OwnedSemaphorePermit>, may_wait: bool) -> Result<bool> {
        let place = match self.window.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) if !may_wait => return Ok(false),
            Err(_) => self.window.clone().acquire_owned().await.map_err(|e| Error::Internal(e.to_string()))?,
        };
        match places {
            Some(places) => places.merge(place),
            none => *none = Some(place),
        }
        Ok(true)
    }

    /// The next entry of this range. Endpoints may sort in another way than by bytes, and then something could lie between two ranges: so this
    /// one ends only where its own listing shows a name with which that of the next began, and goes on rising.
    async fn next_entry(&mut self) -> Result<Option<BlobEntry>, Stop> {
        let Range { listing, next_range, prefix, .. } = &mut self.range;
        while let Some(entry) = listing.next().await? {
            if next_range.first().is_some_and(|first| entry.name >= *first) {
                return match next_range.contains(&entry.name) {
                    false => Err(Stop::Gap),
                    true if !listing.rises_after(&entry.name) => Err(Stop::OutOfOrder),
                    true => Ok(None),
                };
            }
            match compare(&entry, self.last.as_ref()) {
                Ordering::Greater if !entry.name.starts_with(prefix.as_str()) => return Err(Stop::Gap),
                Ordering::Greater => {
                    remember(&mut self.last, &entry);
                    return Ok(Some(entry));
                }
                Ordering::Equal => {}
                Ordering::Less => return Err(Stop::OutOfOrder),
            }
        }
        if next_range.is_empty() { Ok(None) } else { Err(Stop::Gap) }
    }

    /// An item whose content is the version that the account keeps of the blob, also if that has no bytes or lies in the archive tier.
    async fn point_at(&mut self, entry: BlobEntry, version: String, warnings: &mut Vec<String>) -> Result<Done> {
        let content = Content::AtSource { version };
        if let Some((content, is_counted)) = self.take_over(&entry, Some(&content), warnings).await? {
            return Ok(Done::TakenOver(Box::new(Item { entry, content }), is_counted));
        }
        self.reader.note_unread();
        Ok(Done::Read(Outcome::Read(Box::new(Item { entry, content }))))
    }

    /// The content of an unchanged blob, without reading it, and whether that is still to be counted: what this job had done before was
    /// counted before. It is `wanted`, or, where that is not known, anything that lies in the vault.
    async fn take_over(
        &mut self,
        entry: &BlobEntry,
        wanted: Option<&Content>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Content, bool)>> {
        let fits = |content: &Content| match wanted {
            Some(wanted) => content == wanted,
            None => content.version_at_source().is_none(),
        };
        let mut number = 0;
        while number < self.bases.len() {
            let base = &mut self.bases[number];
            match base.reader.advance_to(entry.key()).await {
                Ok(Some(Record::Blob(item))) if item.entry.has_same_content_as(entry) && fits(&item.content) => {
                    if !base.chunks.is_whole(&item.content).await? {
                        // The vault lost a part of it, and the source still has it.
                        return Ok(None);
                    }
                    return Ok(Some((item.content, !base.is_own_progress)));
                }
                Ok(_) => number += 1,
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    warn!(error = %e, "the manifest before cannot be read any further");
                    warnings.push(format!("content is read anew because the manifest before is damaged: {e}"));
                    self.bases.remove(number);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// How an entry compares with the one before, in key order.
fn compare(entry: &BlobEntry, last: Option<&(String, Option<String>)>) -> Ordering {
    let Some((name, version)) = last else { return Ordering::Greater };
    let key = entry.key();
    (key.name, key.is_current, key.version).cmp(&(name, version.is_none(), version.as_deref().unwrap_or_default()))
}

/// Keeps the place of an entry, in the same buffers again and again.
fn remember(last: &mut Option<(String, Option<String>)>, entry: &BlobEntry) {
    let (name, version) = last.get_or_insert_default();
    name.clone_from(&entry.name);
    version.clone_from(&entry.version);
}
