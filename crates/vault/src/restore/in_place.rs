//! Restore in place: the account is rolled back to a point. What differs is written back, what was made later is removed, and what is as it
//! was is not touched.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use super::{
    Journal, Loaded, RestoreState, Selection, Shown, Work, check_length, inline_chunks, is_large, load, stop_if_asked,
};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, ContainerEntry, EntryKey, Item, Timestamp};
use crate::manifest::{ManifestReader, OwnedKey, Record, Root};
use crate::monitor::Monitor;
use crate::point::Point;
use crate::sort::{EntrySorter, SortedEntries};
use crate::source::{Source, SourceErrorKind};
use crate::target::{OnConflict, Target};
use crate::vault::Vault;
use crate::work::{WorkKind, reading};

/// Names settled between two saves of the state.
const SETTLED_PER_SAVE: u32 = 64;

/// A range of names over `container/blob`, as Azure's point-in-time restore has it: from the minimum on, up to but without the maximum.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameRange {
    /// `container` or `container/blob`; empty is the start of the account.
    pub min: String,
    /// The same; empty is the end of the account.
    pub max: String,
}

impl NameRange {
    /// A whole container. Azure's clients write it as `c` … `c-0`, which is the same thing where names follow Azure's rules.
    pub fn container(name: &str) -> Self {
        Self { min: name.to_owned(), max: format!("{name}\0") }
    }

    /// The range that a request names.
    pub fn new(min: &str, max: &str) -> Self {
        let is_whole = !min.is_empty() && !min.contains('/') && max.strip_suffix("-0") == Some(min);
        if is_whole { Self::container(min) } else { Self { min: min.to_owned(), max: max.to_owned() } }
    }

    fn split(value: &str) -> (&str, &str) {
        value.split_once('/').unwrap_or((value, ""))
    }

    /// The range holds this blob.
    pub fn holds(&self, container: &str, name: &str) -> bool {
        let key = (container, name);
        Self::split(&self.min) <= key && (self.max.is_empty() || key < Self::split(&self.max))
    }

    fn touches(&self, container: &str) -> bool {
        let (min, max) = (Self::split(&self.min), Self::split(&self.max));
        min.0 <= container && (self.max.is_empty() || container < max.0 || (container == max.0 && !max.1.is_empty()))
    }
}

/// How a restore in place goes.
#[derive(Debug, Clone)]
pub struct InPlaceOptions {
    /// Only blobs in one of these ranges; none is the whole account.
    pub ranges: Vec<NameRange>,
    /// Containers that the point does not cover are left alone; this is a folder for sorting listings.
    pub scratch: PathBuf,
}

impl InPlaceOptions {
    fn holds(&self, container: &str, name: &str) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.holds(container, name))
    }

    fn touches(&self, container: &str) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.touches(container))
    }
}

/// Rolls the account behind `source` and `target` back to `point`.
#[allow(clippy::too_many_arguments)]
pub async fn run_in_place(
    vault: &Vault,
    point: &Point,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    options: &InPlaceOptions,
    state: RestoreState,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<RestoreState> {
    let work = roll_all_back(vault, point, source, target, options, state, journal, monitor);
    reading(vault, WorkKind::Restore, &point.instance, &point.job, work).await
}

#[allow(clippy::too_many_arguments)]
async fn roll_all_back(
    vault: &Vault,
    point: &Point,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    options: &InPlaceOptions,
    mut state: RestoreState,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<RestoreState> {
    let live: BTreeSet<String> = source.containers().await?.into_iter().map(|container| container.name).collect();
    let covered = covered_containers(vault, &point.root, options).await?;
    let gone: Vec<&str> =
        covered.iter().map(|container| container.name.as_str()).filter(|name| !live.contains(*name)).collect();
    if !gone.is_empty() {
        // Azure refuses this too (UserErrorContainerNotFoundForPointInTimeRestore).
        return Err(Error::NotFound(format!(
            "a restore in place cannot bring back deleted containers: {}",
            gone.join(", ")
        )));
    }
    state.is_planned = true;
    state.counts.planned = point.root.totals;
    journal.save(&state).await?;
    let work = Work {
        vault,
        target,
        monitor,
        shown: Shown::new(&state.counts),
        selection: Selection::default(),
        on_conflict: OnConflict::Overwrite,
        tier: None,
        is_resumed: false,
        own: BTreeSet::new(),
    };
    for container in &covered {
        let is_done = state.cursor.as_ref().is_some_and(|cursor| cursor.as_key().container > container.name.as_str());
        if is_done {
            continue;
        }
        stop_if_asked(monitor)?;
        info!(container = container.name, "container is rolled back");
        let live = sorted_listing(source.as_ref(), &container.name, options, monitor).await?;
        let kept = Kept { skipped: skipped_names(vault, point, &container.name).await?, started_at: point.started_at };
        work.roll_back(&point.root, container, live, &kept, options, &mut state, journal).await?;
    }
    work.target.flush().await?;
    Ok(state)
}

async fn covered_containers(vault: &Vault, root: &Root, options: &InPlaceOptions) -> Result<Vec<ContainerEntry>> {
    let mut containers = super::chosen_containers(&vault.reader, root, &Selection::default()).await?;
    containers.retain(|container| options.touches(&container.name));
    Ok(containers)
}

/// Blobs that are not in the point and were there all the same when it was taken: they are not removed.
struct Kept {
    skipped: BTreeSet<String>,
    started_at: Timestamp,
}

impl Kept {
    /// Why a blob that the point does not have must stay, if it must.
    fn reason(&self, live: &BlobEntry) -> Option<&'static str> {
        if self.skipped.contains(&live.name) {
            return Some("it is left as it is, because it could not be backed up then");
        }
        // Endpoints tell the time of creation in whole seconds.
        let was_there = live.created_at != Timestamp(0) && live.created_at.plus_seconds(1) <= self.started_at;
        was_there.then_some("it is left as it is, because it is older than the point and not in it")
    }
}

async fn skipped_names(vault: &Vault, point: &Point, container: &str) -> Result<BTreeSet<String>> {
    let skipped = point.skipped(vault, usize::MAX).await?;
    Ok(skipped.into_iter().filter(|blob| blob.container == container).map(|blob| blob.name).collect())
}

async fn sorted_listing(
    source: &dyn Source,
    container: &str,
    options: &InPlaceOptions,
    monitor: &dyn Monitor,
) -> Result<SortedEntries> {
    let mut sorter = EntrySorter::new(&options.scratch);
    let mut cursor: Option<String> = None;
    loop {
        stop_if_asked(monitor)?;
        let page = source.list(container, "", cursor.as_deref()).await?;
        for entry in page.entries {
            sorter.push(entry)?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return sorter.finish();
        }
    }
}

/// Nothing that a restore could change differs.
fn is_as_it_was(live: &BlobEntry, wanted: &BlobEntry) -> bool {
    let same_content = live.has_same_content_as(wanted)
        || (live.content_md5.is_some()
            && live.content_md5 == wanted.content_md5
            && live.size_bytes == wanted.size_bytes);
    same_content
        && live.kind == wanted.kind
        && live.headers == wanted.headers
        && live.metadata == wanted.metadata
        && live.tags == wanted.tags
        && live.tier == wanted.tier
}

impl Work<'_> {
    #[allow(clippy::too_many_arguments)]
    async fn roll_back(
        &self,
        root: &Root,
        container: &ContainerEntry,
        mut live: SortedEntries,
        kept: &Kept,
        options: &InPlaceOptions,
        state: &mut RestoreState,
        journal: &dyn Journal,
    ) -> Result<()> {
        let start = EntryKey { container: &container.name, name: "", is_current: false, version: "" };
        let mut wanted = ManifestReader::new(&self.vault.reader, root, Some(start));
        let mut next_live = live.next_entry()?;
        let mut next_wanted = next_item(&mut wanted, &container.name).await?;
        let mut unsaved = 0;
        loop {
            let order = match (&next_live, &next_wanted) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(live), Some(item)) => live.key().cmp(&item.entry.key()),
            };
            let there = if order.is_le() { std::mem::replace(&mut next_live, live.next_entry()?) } else { None };
            let item = if order.is_ge() {
                let following = next_item(&mut wanted, &container.name).await?;
                std::mem::replace(&mut next_wanted, following)
            } else {
                None
            };
            let key = item.as_ref().map(|item| &item.entry).or(there.as_ref()).map(|entry| OwnedKey::from(entry.key()));
            let Some(key) = key else { break };
            let is_done = state.cursor.as_ref().is_some_and(|cursor| *cursor >= key);
            if is_done || !options.holds(key.as_key().container, key.as_key().name) {
                continue;
            }
            let writes = self.settle(there, item, kept, state).await?;
            if writes {
                state.cursor = Some(key);
                // Settling a name again does no harm, so not every one needs to be remembered.
                unsaved += 1;
                if journal.is_kept() && unsaved >= SETTLED_PER_SAVE {
                    unsaved = 0;
                    self.target.flush().await?;
                    journal.save(state).await?;
                }
                stop_if_asked(self.monitor)?;
            }
        }
        Ok(())
    }

    /// Brings one name to the state it had. Returns whether something was written.
    async fn settle(
        &self,
        live: Option<BlobEntry>,
        wanted: Option<Item>,
        kept: &Kept,
        state: &mut RestoreState,
    ) -> Result<bool> {
        let counts = &mut state.counts;
        let Some(item) = wanted else {
            let Some(live) = live else { return Ok(false) };
            if let Some(reason) = kept.reason(&live) {
                counts.skipped_blobs += 1;
                counts.example(|| format!("{}: {reason}", live.display_name()));
                return Ok(false);
            }
            match self.target.delete(&live).await {
                Ok(_) => counts.removed_blobs += 1,
                Err(e)
                    if matches!(
                        e.kind,
                        SourceErrorKind::Conflict | SourceErrorKind::Refused | SourceErrorKind::Changed
                    ) =>
                {
                    counts.skipped_blobs += 1;
                    counts.example(|| format!("{}: it could not be removed: {e}", live.display_name()));
                }
                Err(e) => return Err(e.into()),
            }
            return Ok(true);
        };
        if live.as_ref().is_some_and(|live| is_as_it_was(live, &item.entry)) {
            counts.unchanged_blobs += 1;
            return Ok(false);
        }
        let entry = item.entry.clone();
        let written = if is_large(&item) || item.entry.size_bytes > self.target.whole_limit_bytes() {
            self.write_large(&item, &entry).await
        } else {
            self.write_small(item).await
        };
        match written {
            Ok(written) => counts.note(&entry, &written),
            Err(Error::Endpoint(e)) if matches!(e.kind, SourceErrorKind::Conflict | SourceErrorKind::Refused) => {
                counts.skipped_blobs += 1;
                counts.example(|| format!("{}: it could not be put back: {e}", entry.display_name()));
            }
            Err(e) => return Err(e),
        }
        self.shown.set(counts);
        self.shown.report(self.monitor);
        Ok(true)
    }

    async fn write_small(&self, item: Item) -> Result<crate::target::Written> {
        debug_assert!(inline_chunks(&item.content).len() <= 64, "small blobs have few chunks");
        let mut loaded = load(&self.vault.reader, vec![item]).await?;
        let Some(Loaded { entry, content }) = loaded.pop() else {
            return Err(Error::Internal("one blob was asked for and none came".into()));
        };
        check_length(&entry, content.len() as u64)?;
        Ok(self.target.write_whole(&entry, content, OnConflict::Overwrite).await?)
    }
}

async fn next_item(wanted: &mut ManifestReader<'_>, container: &str) -> Result<Option<Item>> {
    loop {
        match wanted.next().await? {
            Some(Record::Blob(item)) if item.entry.container == container => return Ok(Some(item)),
            Some(Record::Container(found)) if found.name == container => {}
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: &str, max: &str) -> NameRange {
        NameRange { min: min.into(), max: max.into() }
    }

    #[test]
    fn a_range_includes_its_start_and_not_its_end() {
        let blobs = range("c/blob1", "c/blob5");
        for (name, expected) in [("blob1", true), ("blob11", true), ("blob4x", true), ("blob5", false), ("a", false)] {
            assert_eq!(blobs.holds("c", name), expected, "{name}");
        }
        let whole = NameRange::new("c", "c-0");
        assert!(!whole.holds("c (old)", "x"));
        assert!(whole.holds("c", "anything") && whole.touches("c"));
        assert!(!whole.holds("c-0", "x") && !whole.holds("d", "x") && !whole.touches("c-0") && !whole.touches("b"));
        assert!(range("", "").holds("any", "thing"));
    }
}
