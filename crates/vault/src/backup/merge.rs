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

/// Entries that may be under way between listing and manifest, in all ranges together.
const WINDOW_ENTRIES: usize = 1024;
/// Unchanged entries that are handed on together.
const BATCH_ENTRIES: usize = 64;

/// The manifest of an earlier run or point, from which content is taken over.
pub(super) struct Base<'a> {
    pub(super) reader: ManifestReader<'a>,
    /// What this job itself had done: it was counted then.
    /// Tells whether content is whole.
    pub(super) chunks: &'a ChunkReader,
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

/// Some entries that follow each other, ready for the manifest.
#[derive(Default)]
pub(super) struct Step {
    /// Taken over without reading; `true` if the blob is still to be counted.
    pub(super) taken_over: Vec<(Item, bool)>,
    /// What became of the one after those.
    pub(super) read: Option<(BlobEntry, Outcome)>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
    /// Their places in the window.
    places: Option<OwnedSemaphorePermit>,
}

/// A blob that is being read; nobody reads on if nobody waits for it any more.
struct Reading {
    entry: BlobEntry,
    task: JoinHandle<Result<Outcome>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A step whose last entry may still be being read.
struct Pending {
    step: Step,
    reading: Option<Reading>,
}

impl Pending {
    async fn wait(mut self) -> Result<Step, Stop> {
        if let Some(mut reading) = self.reading.take() {
            let outcome =
                (&mut reading.task).await.map_err(|e| Error::Internal(format!("a reading task died: {e}")))??;
            self.step.read = Some((std::mem::take(&mut reading.entry), outcome));
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
}

impl<'a> Merge<'a> {
    /// The merge of `range`, one of several that go on at once.
    pub(super) fn new(range: Range, at_once: usize, bases: Vec<Base<'a>>, reader: Arc<BlobReader>) -> Self {
        let window = Arc::new(Semaphore::new((WINDOW_ENTRIES / at_once).max(BATCH_ENTRIES)));
        Self { range, bases, reader, window, last: None }
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
        let mut step = Step::default();
        while step.taken_over.len() < BATCH_ENTRIES {
            // A step that holds places is handed on before it waits for more: these may be all there are.
            if !self.take_place(&mut step.places, step.taken_over.is_empty()).await? {
                break;
            }
            let Some(entry) = self.next_entry().await? else {
                let is_end = step.taken_over.is_empty() && step.warnings.is_empty();
                return Ok((!is_end).then_some(Pending { step, reading: None }));
            };
            match self.take_over(&entry, &mut step.warnings).await? {
                Some((content, is_counted)) => step.taken_over.push((Item { entry, content }, is_counted)),
                None => {
                    let (reader, wanted) = (self.reader.clone(), entry.clone());
                    let task = tokio::spawn(async move { reader.read(wanted).await });
                    return Ok(Some(Pending { step, reading: Some(Reading { entry, task }) }));
                }
            }
        }
        Ok(Some(Pending { step, reading: None }))
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

    /// The content of an unchanged blob, without reading it, and whether that is still to be counted: what this job had done before was
    /// counted before.
    async fn take_over(&mut self, entry: &BlobEntry, warnings: &mut Vec<String>) -> Result<Option<(Content, bool)>> {
        let mut number = 0;
        while number < self.bases.len() {
            let base = &mut self.bases[number];
            match base.reader.advance_to(entry.key()).await {
                Ok(Some(Record::Blob(item))) if item.entry.has_same_content_as(entry) => {
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
