//! A container and its blobs in the order of their names' bytes. Computed blobs stand beside stored ones; one that is
//! written, changed or deleted becomes a stored one or is hidden, and the rest stay computed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Stamp;
use super::blob::{Blob, BlobKind};
use super::lease::Lease;
use super::synthetic::Synthetic;
use crate::error::AzureError;

/// What may be read without authorization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PublicAccess {
    #[default]
    None,
    Blob,
    Container,
}

impl PublicAccess {
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            PublicAccess::None => None,
            PublicAccess::Blob => Some("blob"),
            PublicAccess::Container => Some("container"),
        }
    }
}

/// A stored access policy of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccessPolicy {
    pub(crate) id: String,
    pub(crate) start: Option<String>,
    pub(crate) expiry: Option<String>,
    pub(crate) permissions: Option<String>,
}

/// Which state of a blob is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    Current,
    /// By its time.
    Snapshot(&'a str),
    /// By its ticks; the current state has a version as well.
    Version(i64),
}

/// Everything under one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    pub(crate) current: Option<Arc<Blob>>,
    /// By time of snapshot.
    pub(crate) snapshots: BTreeMap<String, Arc<Blob>>,
    /// Earlier versions, by their ticks; empty where versions are not kept.
    pub(crate) versions: BTreeMap<i64, Arc<Blob>>,
    /// Blocks that were put and not committed, by block id.
    pub(crate) uncommitted: BTreeMap<String, Bytes>,
}

impl Family {
    fn is_empty(&self) -> bool {
        self.current.is_none() && self.snapshots.is_empty() && self.versions.is_empty() && self.uncommitted.is_empty()
    }

    /// The place of a state.
    pub(crate) fn state_mut(&mut self, which: Which<'_>) -> Option<&mut Arc<Blob>> {
        match which {
            Which::Current => self.current.as_mut(),
            Which::Snapshot(time) => self.snapshots.get_mut(time),
            Which::Version(version) => match &mut self.current {
                Some(current) if current.version == version => Some(current),
                _ => self.versions.get_mut(&version),
            },
        }
    }

    /// Keeps a state that was current as an earlier version. The lease is the current state's alone.
    pub(crate) fn keep(&mut self, mut was: Arc<Blob>) {
        if was.lease != Lease::None {
            Arc::make_mut(&mut was).lease = Lease::None;
        }
        self.versions.insert(was.version, was);
    }
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) metadata: BTreeMap<String, String>,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified_us: i64,
    pub(crate) public: PublicAccess,
    pub(crate) policies: Vec<AccessPolicy>,
    pub(crate) lease: Lease,
    /// Whether a state that is replaced or deleted stays as an earlier version.
    pub(crate) keeps_versions: bool,
    families: BTreeMap<String, Family>,
    synthetic: Option<Synthetic>,
    /// Computed blobs that have a family of their own or are deleted.
    hidden: BTreeSet<u64>,
}

impl Container {
    pub(crate) fn new(stamp: &Stamp, keeps_versions: bool) -> Container {
        Container {
            metadata: BTreeMap::new(),
            etag: stamp.etag.clone(),
            modified_us: stamp.at_us,
            public: PublicAccess::None,
            policies: Vec::new(),
            lease: Lease::None,
            keeps_versions,
            families: BTreeMap::new(),
            synthetic: None,
            hidden: BTreeSet::new(),
        }
    }

    pub(crate) fn synthetic(&self) -> Option<&Synthetic> {
        self.synthetic.as_ref()
    }

    /// Adds computed blobs, instead of those it may have had.
    pub(crate) fn set_synthetic(&mut self, synthetic: Synthetic) {
        self.synthetic = Some(synthetic);
        self.hidden.clear();
    }

    fn visible_index(&self, name: &str) -> Option<u64> {
        self.synthetic.as_ref()?.index(name).filter(|index| !self.hidden.contains(index))
    }

    /// A blob's current state, or one of its snapshots.
    pub(crate) fn get(&self, name: &str, snapshot: Option<&str>) -> Option<Arc<Blob>> {
        if let Some(family) = self.families.get(name) {
            return match snapshot {
                Some(snapshot) => family.snapshots.get(snapshot).cloned(),
                None => family.current.clone(),
            };
        }
        if snapshot.is_some() {
            return None;
        }
        let index = self.visible_index(name)?;
        self.synthetic.as_ref().map(|synthetic| synthetic.blob_arc(index))
    }

    /// A state of a blob, and whether it is the current one. Where versions are not kept there is none of any id.
    pub(crate) fn find(&self, name: &str, which: Which<'_>) -> Option<(Arc<Blob>, bool)> {
        match which {
            Which::Current => self.get(name, None).map(|blob| (blob, true)),
            Which::Snapshot(time) => self.get(name, Some(time)).map(|blob| (blob, false)),
            Which::Version(_) if !self.keeps_versions => None,
            Which::Version(version) => match self.get(name, None) {
                Some(current) if current.version == version => Some((current, true)),
                _ => self.families.get(name)?.versions.get(&version).map(|blob| (Arc::clone(blob), false)),
            },
        }
    }

    /// Puts a state in place of the current one, or takes that away; returns it. It stays as an earlier version if
    /// versions are kept.
    pub(crate) fn replace(&mut self, name: &str, blob: Option<Arc<Blob>>) -> Option<Arc<Blob>> {
        let keeps_versions = self.keeps_versions;
        let family = self.family_mut(name);
        let was = std::mem::replace(&mut family.current, blob);
        if let Some(was) = was.as_ref().filter(|_| keeps_versions) {
            family.keep(Arc::clone(was));
        }
        self.tidy(name);
        was
    }

    /// Refuses a kind of blob where there are versions of another ("Blob versioning", "Versioning on write operations").
    pub(crate) fn check_kind(&self, name: &str, kind: BlobKind) -> Result<(), AzureError> {
        // All versions are of one kind: one of them speaks for all.
        let earlier = || self.families.get(name)?.versions.values().next().cloned();
        match self.get(name, None).or_else(earlier) {
            Some(blob) if self.keeps_versions && blob.kind != kind => Err(AzureError::invalid_blob_type()),
            _ => Ok(()),
        }
    }

    /// The stored family of a name; none for a blob that is merely computed.
    pub(crate) fn family(&self, name: &str) -> Option<&Family> {
        self.families.get(name)
    }

    /// The family of a name for writing, made if there is none. Call [`Container::tidy`] when it may have become empty.
    pub(crate) fn family_mut(&mut self, name: &str) -> &mut Family {
        let computed = self.visible_index(name);
        if let Some(index) = computed {
            self.hidden.insert(index);
        }
        let current = computed.and_then(|index| self.synthetic.as_ref().map(|synthetic| synthetic.blob_arc(index)));
        self.families.entry(name.to_owned()).or_insert_with(|| Family { current, ..Family::default() })
    }

    /// Forgets the family of a name if nothing is in it.
    pub(crate) fn tidy(&mut self, name: &str) {
        if self.families.get(name).is_some_and(Family::is_empty) {
            self.families.remove(name);
        }
    }

    /// Reads names in order, from the given one on.
    pub(crate) fn names(&self, from: &str) -> Names<'_> {
        let mut names =
            Names { container: self, stored: self.families.range::<str, _>(..), next_stored: None, next_index: 0 };
        names.seek(from);
        names
    }
}

/// One name and what is under it.
pub(crate) enum Entry<'a> {
    Stored(&'a str, &'a Family),
    Computed(String, Arc<Blob>),
}

/// Names in order: stored and computed ones merged.
pub(crate) struct Names<'a> {
    container: &'a Container,
    stored: std::collections::btree_map::Range<'a, String, Family>,
    next_stored: Option<(&'a String, &'a Family)>,
    next_index: u64,
}

impl<'a> Names<'a> {
    /// Goes to the first name that is not less than this.
    pub(crate) fn seek(&mut self, from: &str) {
        self.stored = self.container.families.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        self.next_stored = self.stored.next();
        self.next_index = self.container.synthetic.as_ref().map_or(0, |synthetic| synthetic.lower_bound(from));
    }

    fn next_computed(&mut self) -> Option<(u64, String)> {
        let synthetic = self.container.synthetic.as_ref()?;
        while self.container.hidden.contains(&self.next_index) {
            self.next_index += 1;
        }
        (self.next_index < synthetic.spec.count).then(|| (self.next_index, synthetic.name(self.next_index)))
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let computed = self.next_computed();
        let stored_first = match (&self.next_stored, &computed) {
            (Some((stored, _)), Some((_, computed))) => *stored < computed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if stored_first {
            let (name, family) = self.next_stored.take()?;
            self.next_stored = self.stored.next();
            return Some(Entry::Stored(name, family));
        }
        let (index, name) = computed?;
        self.next_index = index + 1;
        let blob = self.container.synthetic.as_ref()?.blob_arc(index);
        Some(Entry::Computed(name, blob))
    }
}
