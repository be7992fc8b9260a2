//! What a restore in place wants: the blobs of a base point, overlaid with what changed up to an instant. The overlay is sorted on disk; memory
//! is bounded by the sorter, by the number of containers and by that of blobs which could not be backed up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::{InPlaceOptions, Selection, chosen_containers};
use crate::error::{Error, Result};
use crate::item::{BlobEntry, EntryKey, Item, Timestamp};
use crate::journal::{Change, State, changes_until};
use crate::manifest::{ManifestReader, Record};
use crate::monitor::Monitor;
use crate::point::Point;
use crate::sort::{Records, ScratchFile, ScratchWriter, Sortable, Sorter, memory_bytes};
use crate::vault::Vault;

/// A change that is older than a base point by more than this was seen by its listing: the clocks of the service and of the endpoint are not
/// farther apart.
const WITNESSED_SECONDS: i64 = 300;

/// What an account is rolled back to.
#[derive(Debug, Clone, Copy)]
pub enum Instant<'a> {
    /// To a recovery point.
    Point(&'a Point),
    /// To any instant that a continuous backup covers, by the clock of the endpoint. It must have been read up to it: how far the feed was
    /// read is for the caller to know ([`crate::journal::JournalEnd::position`]).
    At {
        /// The instance.
        instance: &'a str,
        /// The instant.
        at: Timestamp,
    },
}

impl Instant<'_> {
    pub(super) fn instance(&self) -> &str {
        match self {
            Self::Point(point) => &point.instance,
            Self::At { instance, .. } => instance,
        }
    }

    /// For others to see what is being read.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Point(point) => point.job.clone(),
            Self::At { at, .. } => at.to_string(),
        }
    }
}

/// What a blob is to become.
#[derive(Debug)]
pub(super) enum Want {
    /// This.
    Blob(Box<Item>),
    /// It was deleted by then.
    Gone,
    /// It was there, and cannot be brought back.
    Unnamed,
    /// The state does not have it, and nothing tells why.
    Unknown,
}

impl From<State> for Want {
    fn from(state: State) -> Self {
        match state {
            State::Deleted => Self::Gone,
            State::Blob(item) => Self::Blob(item),
            State::Unnamed => Self::Unnamed,
        }
    }
}

/// The state of an account at an instant.
pub(super) struct Wanted {
    pub(super) base: Point,
    overlay: ScratchFile<Change>,
    /// Containers in the overlay; true if the state has a blob there.
    overlaid: BTreeMap<String, bool>,
    /// What is older than this was there at the instant.
    as_of: Timestamp,
    /// Blobs that could not be backed up.
    skipped: BTreeSet<(String, String)>,
}

/// A change among others, the order of which is that of its blob's history.
#[derive(serde::Serialize, serde::Deserialize)]
struct Numbered {
    change: Change,
    number: u64,
}

impl Sortable for Numbered {
    fn order(&self, other: &Self) -> Ordering {
        let (mine, others) = (&self.change, &other.change);
        (&mine.container, &mine.name, &mine.sequence, self.number).cmp(&(
            &others.container,
            &others.name,
            &others.sequence,
            other.number,
        ))
    }

    fn memory_bytes(&self) -> usize {
        let Change { container, name, sequence, state, .. } = &self.change;
        let item = match state {
            State::Blob(item) => memory_bytes(&item.entry) + size_of::<Item>() + 64,
            State::Deleted | State::Unnamed => 0,
        };
        size_of::<Self>() + container.len() + name.len() + sequence.len() + item
    }
}

impl Wanted {
    pub(super) async fn load(
        vault: &Vault,
        instant: Instant<'_>,
        options: &InPlaceOptions,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut sorter = Sorter::new(&options.scratch);
        let (base, as_of) = match instant {
            Instant::Point(point) => (point.clone(), point.started_at),
            Instant::At { instance, at } => {
                let mut number = 0;
                let take = |change: Change| {
                    number += 1;
                    let is_chosen = options.holds(&change.container, &change.name);
                    if is_chosen { sorter.push(Numbered { change, number }) } else { Ok(()) }
                };
                (changes_until(vault, instance, at, monitor, take).await?, at)
            }
        };
        let (overlay, overlaid) = last_of_each(sorter, &base, options)?;
        let skipped = base.skipped(vault, usize::MAX).await?.into_iter();
        let skipped = skipped.filter(|blob| options.holds(&blob.container, &blob.name));
        let skipped = skipped.map(|blob| (blob.container, blob.name)).collect();
        Ok(Self { base, overlay, overlaid, as_of, skipped })
    }

    /// Content stays at the account, which must still have the versions.
    pub(super) fn needs_versions(&self) -> bool {
        self.base.feed().is_some()
    }

    /// The containers to be rolled back, in order. `live` are those that the account has.
    ///
    /// # Errors
    /// [`Error::ContainersGone`] if a container is gone of which the state has a blob that is chosen.
    pub(super) async fn containers(
        &self,
        vault: &Vault,
        live: &BTreeSet<String>,
        options: &InPlaceOptions,
    ) -> Result<Vec<String>> {
        let of_base = chosen_containers(&vault.reader, &self.base.root, &Selection::default()).await?;
        let of_base = of_base.into_iter().map(|container| container.name).filter(|name| options.touches(name));
        let mut covered: BTreeSet<String> = of_base.collect();
        covered.extend(self.overlaid.iter().filter(|(_, has_blobs)| **has_blobs).map(|(name, _)| name.clone()));
        let gone: Vec<String> = covered.extract_if(.., |name| !live.contains(name)).collect();
        let containers = self.with_blobs(vault, gone, options).await?;
        if !containers.is_empty() {
            // Azure refuses this too (UserErrorContainerNotFoundForPointInTimeRestore).
            return Err(Error::ContainersGone { containers });
        }
        if options.is_whole_account || self.needs_versions() {
            // The state is that of the whole account: a container of which it says nothing was empty, or made later.
            covered.extend(live.iter().filter(|name| options.touches(name)).cloned());
        }
        Ok(covered.into_iter().collect())
    }

    /// Those of the containers, which are in order, of which the state has a chosen blob.
    async fn with_blobs(
        &self,
        vault: &Vault,
        containers: Vec<String>,
        options: &InPlaceOptions,
    ) -> Result<Vec<String>> {
        let (mut walk, mut found) = (self.walk(vault)?, Vec::new());
        for container in containers {
            walk.begin(&container).await?;
            while let Some(name) = walk.peek().map(ToOwned::to_owned) {
                if matches!(walk.take(&name).await?, Want::Blob(_)) && options.holds(&container, &name) {
                    found.push(container);
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Why a blob that the state does not have must stay, if it must.
    pub(super) fn why_kept(&self, live: &BlobEntry) -> Option<&'static str> {
        if self.skipped.contains(&(live.container.clone(), live.name.clone())) {
            return Some("it is left as it is, because it could not be backed up then");
        }
        // Endpoints tell the time of creation in whole seconds.
        let was_there = live.created_at != Timestamp(0) && live.created_at.plus_seconds(1) <= self.as_of;
        was_there.then_some("it is left as it is, because it is older than what is restored and not in it")
    }

    /// Walks the state. Containers are asked for in their order.
    pub(super) fn walk<'a>(&'a self, vault: &'a Vault) -> Result<WantedWalk<'a>> {
        Ok(WantedWalk { vault, wanted: self, changes: self.overlay.walk()?, ahead: None, items: None, item: None })
    }
}

/// The last change of each blob, and the containers that they are in. A feed tells late, also of what was there before the base point was listed:
/// the listing knows better what is left of that, and of blobs without a version it has the content.
fn last_of_each(
    sorter: Sorter<Numbered>,
    base: &Point,
    options: &InPlaceOptions,
) -> Result<(ScratchFile<Change>, BTreeMap<String, bool>)> {
    let mut sorted = sorter.finish()?;
    let mut overlay = ScratchWriter::new(&options.scratch)?;
    let mut overlaid: BTreeMap<String, bool> = BTreeMap::new();
    let mut last: Option<Change> = None;
    loop {
        let next = sorted.next()?.map(|numbered| numbered.change);
        let is_same = |a: &Change, b: &Change| a.container == b.container && a.name == b.name;
        let is_listed = |change: &Change| {
            change.state != State::Deleted && change.at.plus_seconds(WITNESSED_SECONDS) < base.started_at
        };
        let done = last.take().filter(|last| next.as_ref().is_none_or(|next| !is_same(last, next)));
        if let Some(done) = done.filter(|done| !is_listed(done)) {
            overlay.push(&done)?;
            let has_blobs = overlaid.entry(done.container).or_default();
            *has_blobs |= matches!(done.state, State::Blob(_));
        }
        match next {
            Some(next) => last = Some(next),
            None => return Ok((overlay.finish()?, overlaid)),
        }
    }
}

/// Walks a state, container by container and name by name.
pub(super) struct WantedWalk<'a> {
    vault: &'a Vault,
    wanted: &'a Wanted,
    changes: Records<Change>,
    /// The next change.
    ahead: Option<Change>,
    /// The base point's blobs of the container.
    items: Option<(String, ManifestReader<'a>)>,
    /// The next of them.
    item: Option<Item>,
}

impl WantedWalk<'_> {
    /// Goes to the beginning of a container, which comes after all that were walked before.
    pub(super) async fn begin(&mut self, container: &str) -> Result<()> {
        let start = EntryKey { container, name: "", is_current: false, version: "" };
        let reader = ManifestReader::new(&self.vault.reader, &self.wanted.base.root, Some(start));
        self.items = Some((container.to_owned(), reader));
        self.next_item().await?;
        while self.ahead.as_ref().is_none_or(|change| change.container.as_str() < container) {
            match self.changes.next()? {
                Some(change) => self.ahead = Some(change),
                None => {
                    self.ahead = None;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn next_item(&mut self) -> Result<()> {
        self.item = None;
        let Some((container, items)) = &mut self.items else { return Ok(()) };
        loop {
            match items.next().await? {
                Some(Record::Blob(item)) if item.entry.container == *container => {
                    if item.entry.version.is_none() {
                        self.item = Some(item);
                        return Ok(());
                    }
                }
                Some(Record::Container(found)) if found.name == *container => {}
                _ => return Ok(()),
            }
        }
    }

    /// The next name of the container of which the state says something.
    pub(super) fn peek(&self) -> Option<&str> {
        let item = self.item.as_ref().map(|item| item.entry.name.as_str());
        match (item, self.change()) {
            (Some(item), Some(change)) => Some(item.min(change)),
            (item, change) => item.or(change),
        }
    }

    /// The name of the next change in this container.
    fn change(&self) -> Option<&str> {
        let (container, _) = self.items.as_ref()?;
        self.ahead.as_ref().filter(|change| change.container == *container).map(|change| change.name.as_str())
    }

    /// What the state says of a name, which is not behind the next one.
    pub(super) async fn take(&mut self, name: &str) -> Result<Want> {
        let mut want = Want::Unknown;
        if self.item.as_ref().is_some_and(|item| item.entry.name == name) {
            want = self.item.take().map_or(Want::Unknown, |item| Want::Blob(Box::new(item)));
            self.next_item().await?;
        }
        // What changed later counts.
        if self.change() == Some(name) {
            let change = std::mem::replace(&mut self.ahead, self.changes.next()?);
            want = change.map_or(want, |change| change.state.into());
        }
        Ok(want)
    }
}
