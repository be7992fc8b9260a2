//! A storage account in memory that keeps every version of its blobs and writes a feed of changes: a source and a target. Times are those of
//! a clock that is set by hand; every change moves it on, so that no two happen at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blobkeep_vault::source::{BlobChange, ChangePage, FeedPosition};
use blobkeep_vault::{
    BlobEntry, BlobWriter, Clock, ContainerEntry, ListPage, OnConflict, Source, SourceError, SourceErrorKind, Target,
    Timestamp, Written,
};
use bytes::{Bytes, BytesMut};

use crate::clock::ManualClock;

/// Container and name.
pub type Key = (String, String);

/// One version of a blob.
#[derive(Clone)]
struct Version {
    id: String,
    entry: BlobEntry,
    content: Bytes,
}

/// Everything that was ever written under one name.
#[derive(Clone, Default)]
struct History {
    versions: Vec<Version>,
    /// The last version is the current blob.
    is_there: bool,
}

impl History {
    fn current(&self) -> Option<&Version> {
        self.versions.last().filter(|_| self.is_there)
    }

    fn current_mut(&mut self) -> Option<&mut Version> {
        if self.is_there { self.versions.last_mut() } else { None }
    }
}

type Happening = Box<dyn FnOnce(&VersionedAccount) + Send>;

#[derive(Default)]
struct Inner {
    at_list: Option<Happening>,
    containers: BTreeMap<String, ContainerEntry>,
    blobs: BTreeMap<Key, History>,
    /// What the feed tells, in its order.
    feed: Vec<BlobChange>,
    /// Changes that the feed tells already.
    told: usize,
    leased: BTreeSet<Key>,
    writes_until_failure: Option<u64>,
    copies: u64,
    reads: u64,
}

/// The account.
#[derive(Clone)]
pub struct VersionedAccount {
    inner: Arc<Mutex<Inner>>,
    clock: Arc<ManualClock>,
    page_entries: usize,
    lags: bool,
}

impl VersionedAccount {
    /// An empty account with this clock.
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self { inner: Arc::default(), clock, page_entries: 1000, lags: false }
    }

    /// The same account with pages of this many entries and changes.
    #[must_use]
    pub fn with_pages_of(mut self, entries: usize) -> Self {
        self.page_entries = entries;
        self
    }

    /// The same account, whose feed tells of a change only when [`Self::tell`] is called.
    #[must_use]
    pub fn with_a_feed_that_lags(mut self) -> Self {
        self.lags = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instant of the next change.
    fn tick(&self) -> Timestamp {
        self.clock.advance_micros(7);
        self.clock.now()
    }

    /// Makes a container.
    pub fn add_container(&self, name: &str) {
        let entry = self.marked(ContainerEntry { name: name.to_owned(), ..ContainerEntry::default() });
        self.lock().containers.entry(name.to_owned()).or_insert(entry);
    }

    /// The container as it is when it is made now.
    fn marked(&self, mut entry: ContainerEntry) -> ContainerEntry {
        let now = self.clock.now().0;
        entry.modified_at = Timestamp(now / 1_000_000 * 1_000_000);
        entry.etag = format!("0x8DC{now:013X}");
        entry
    }

    /// Removes a container with all versions in it. The feed says nothing of it.
    pub fn remove_container(&self, name: &str) {
        let mut inner = self.lock();
        inner.containers.remove(name);
        inner.blobs.retain(|(container, _), _| container != name);
    }

    /// Writes a blob, and its container if that is missing.
    pub fn put(&self, container: &str, name: &str, content: impl Into<Bytes>) {
        let entry = BlobEntry { container: container.into(), name: name.into(), ..BlobEntry::default() };
        self.put_entry(entry, content);
    }

    /// Writes a blob with properties; version, size, ETag and times are set here.
    pub fn put_entry(&self, mut entry: BlobEntry, content: impl Into<Bytes>) {
        self.add_container(&entry.container);
        let (at, content) = (self.tick(), content.into());
        let mut inner = self.lock();
        let key = (entry.container.clone(), entry.name.clone());
        let history = inner.blobs.entry(key.clone()).or_default();
        let whole_second = Timestamp(at.0 / 1_000_000 * 1_000_000);
        entry.created_at = history.current().map_or(whole_second, |current| current.entry.created_at);
        entry.modified_at = whole_second;
        entry.size_bytes = content.len() as u64;
        entry.etag = format!("0x8DE{:013X}", at.0);
        entry.version = None;
        let id = format!("{at}");
        entry.current_version = Some(id.clone());
        history.versions.push(Version { id, entry, content });
        history.is_there = true;
        inner.note(&key, at, self.lags);
    }

    /// Changes properties as setting tags or a tier does: no new version, and the ETag stays.
    pub fn touch(&self, container: &str, name: &str, change: impl FnOnce(&mut BlobEntry)) {
        let (at, key) = (self.tick(), (container.to_owned(), name.to_owned()));
        let mut inner = self.lock();
        if let Some(version) = inner.blobs.get_mut(&key).and_then(History::current_mut) {
            change(&mut version.entry);
            inner.note(&key, at, self.lags);
        }
    }

    /// Changes properties as setting metadata does: that makes a new version of the same content.
    pub fn change(&self, container: &str, name: &str, change: impl FnOnce(&mut BlobEntry)) {
        let found = self.lock().blobs.get(&(container.to_owned(), name.to_owned())).and_then(|h| h.current().cloned());
        if let Some(Version { mut entry, content, .. }) = found {
            change(&mut entry);
            self.put_entry(entry, content);
        }
    }

    /// Removes a blob; its versions stay.
    pub fn remove(&self, container: &str, name: &str) {
        let (at, key) = (self.tick(), (container.to_owned(), name.to_owned()));
        let mut inner = self.lock();
        let Some(history) = inner.blobs.get_mut(&key).filter(|history| history.is_there) else { return };
        history.is_there = false;
        inner.note(&key, at, self.lags);
    }

    /// Forgets the versions of a blob that are not current, as the end of their retention does. The feed says nothing of it.
    pub fn forget_versions(&self, container: &str, name: &str) {
        if let Some(history) = self.lock().blobs.get_mut(&(container.to_owned(), name.to_owned())) {
            let current = history.current().cloned();
            history.versions = current.into_iter().collect();
        }
    }

    /// Takes the version id away from a blob, as if it had been written before the account kept versions.
    pub fn unname(&self, container: &str, name: &str) {
        let key = (container.to_owned(), name.to_owned());
        let mut inner = self.lock();
        if let Some(version) = inner.blobs.get_mut(&key).and_then(History::current_mut) {
            version.entry.current_version = None;
        }
        if let Some(change) = inner.feed.iter_mut().rev().find(|c| c.container == container && c.name == name)
            && let Some(entry) = &mut change.entry
        {
            entry.current_version = None;
        }
    }

    /// Somebody holds a lease on a blob: it can be neither overwritten nor removed.
    pub fn lease(&self, container: &str, name: &str) {
        self.lock().leased.insert((container.to_owned(), name.to_owned()));
    }

    /// The feed tells of all but the last `untold` changes.
    pub fn tell(&self, untold: usize) {
        let mut inner = self.lock();
        inner.told = inner.told.max(inner.feed.len().saturating_sub(untold));
    }

    /// The last change that the feed has not told yet and the one before it change places, if they are of different blobs.
    pub fn shuffle_feed(&self) {
        let mut inner = self.lock();
        let last = inner.feed.len();
        if last >= inner.told + 2 {
            let (a, b) = (&inner.feed[last - 2], &inner.feed[last - 1]);
            if (&a.container, &a.name) != (&b.container, &b.name) {
                inner.feed.swap(last - 2, last - 1);
            }
        }
    }

    /// Just before the next page of a listing something happens.
    pub fn happen_at_list(&self, happening: impl FnOnce(&VersionedAccount) + Send + 'static) {
        self.lock().at_list = Some(Box::new(happening));
    }

    /// Writes, copies and removals fail after this many.
    pub fn fail_after_writes(&self, writes: Option<u64>) {
        self.lock().writes_until_failure = writes;
    }

    /// Copies of versions, and reads of content, since the last time this was asked.
    pub fn take_counts(&self) -> (u64, u64) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.copies), std::mem::take(&mut inner.reads))
    }

    /// All current blobs with their content, by container and name.
    pub fn blobs(&self) -> BTreeMap<Key, (BlobEntry, Bytes)> {
        let inner = self.lock();
        let current = |history: &History| history.current().map(|v| (v.entry.clone(), v.content.clone()));
        inner.blobs.iter().filter_map(|(key, history)| Some((key.clone(), current(history)?))).collect()
    }

    fn is_container(&self, name: &str) -> Result<(), SourceError> {
        match self.lock().containers.contains_key(name) {
            true => Ok(()),
            false => Err(SourceError::new(SourceErrorKind::NotFound, format!("there is no container {name}"))),
        }
    }

    fn spend(&self, key: &Key) -> Result<(), SourceError> {
        let mut inner = self.lock();
        let name = format!("{}/{}", key.0, key.1);
        if inner.leased.contains(key) {
            return Err(SourceError::new(SourceErrorKind::Conflict, format!("somebody holds a lease on {name}")));
        }
        match &mut inner.writes_until_failure {
            Some(0) => Err(SourceError::new(SourceErrorKind::Unavailable, format!("{name} cannot be written"))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The current blob must be `live`.
    fn expect(&self, key: &Key, live: Option<&BlobEntry>) -> Result<(), SourceError> {
        let etag = self.lock().blobs.get(key).and_then(|history| history.current().map(|v| v.entry.etag.clone()));
        if etag.as_ref() == live.map(|live| &live.etag) {
            return Ok(());
        }
        Err(SourceError::new(SourceErrorKind::Changed, format!("{}/{} has changed", key.0, key.1)))
    }

    fn store(&self, entry: &BlobEntry, content: Bytes, on_conflict: OnConflict) -> Result<Written, SourceError> {
        let key = (entry.container.clone(), entry.name.clone());
        let is_there = self.lock().blobs.get(&key).is_some_and(|history| history.is_there);
        match on_conflict {
            OnConflict::Fail if is_there => {
                return Err(SourceError::new(SourceErrorKind::Conflict, format!("{} is there", entry.display_name())));
            }
            OnConflict::Skip if is_there => return Ok(Written::Skipped("it is there already".into())),
            _ => {}
        }
        self.spend(&key)?;
        self.put_entry(entry.clone(), content);
        Ok(Written::Written { lost: Vec::new() })
    }

    /// Some entries of a container, in key order, after a cursor that counts them.
    fn page(&self, container: &str, cursor: Option<&str>, list: impl Fn(&History) -> Vec<BlobEntry>) -> ListPage {
        let inner = self.lock();
        let first = (container.to_owned(), String::new());
        let names = inner.blobs.range(first..).take_while(|((of, _), _)| of == container);
        // The cursor is the name that the page before ended with.
        let names = names.filter(|((_, name), _)| cursor.is_none_or(|cursor| name.as_str() > cursor));
        let mut entries = Vec::new();
        for ((_, name), history) in names {
            entries.extend(list(history));
            if entries.len() >= self.page_entries {
                return ListPage { entries, next: Some(name.clone()) };
            }
        }
        ListPage { entries, next: None }
    }
}

impl Inner {
    fn note(&mut self, key: &Key, at: Timestamp, lags: bool) {
        let entry = self.blobs.get(key).and_then(|history| history.current().map(|version| version.entry.clone()));
        let (container, name) = key.clone();
        self.feed.push(BlobChange { container, name, at, sequence: format!("{:020}", at.0), entry });
        if !lags {
            self.told = self.feed.len();
        }
    }

    /// A place in the feed. What is told later happened later than all before the place, or will happen after `now`.
    fn position(&self, place: usize, now: Timestamp) -> FeedPosition {
        let first_after = self.feed[place..].iter().map(|change| change.at.0 - 1).min();
        FeedPosition { cursor: format!("{place}"), complete_until: Timestamp(first_after.unwrap_or(now.0)) }
    }
}

#[async_trait]
impl Source for VersionedAccount {
    fn describe(&self) -> String {
        "account with versions in memory".into()
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        Ok(self.lock().containers.values().cloned().collect())
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let happening = self.lock().at_list.take();
        if let Some(happening) = happening {
            happening(self);
        }
        self.is_container(container)?;
        Ok(self.page(container, cursor, |history| {
            let current = history.current().filter(|version| version.entry.name.starts_with(prefix));
            current.map(|version| version.entry.clone()).into_iter().collect()
        }))
    }

    async fn list_versions(&self, container: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.is_container(container)?;
        Ok(self.page(container, cursor, |history| {
            let last = history.versions.len();
            let entry = |(place, version): (usize, &Version)| {
                let mut entry = version.entry.clone();
                if place + 1 < last || !history.is_there {
                    (entry.version, entry.current_version) = (Some(version.id.clone()), None);
                }
                entry
            };
            history.versions.iter().enumerate().map(entry).collect()
        }))
    }

    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        let inner = self.lock();
        Ok(Some(inner.position(inner.told, self.clock.now())))
    }

    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        let inner = self.lock();
        let unknown = || SourceError::new(SourceErrorKind::NotFound, format!("the feed has no place {cursor}"));
        let from: usize = cursor.parse().map_err(|_| unknown())?;
        let to = inner.told.min(from + self.page_entries);
        let changes = inner.feed.get(from..to).ok_or_else(unknown)?.to_vec();
        Ok(ChangePage { changes, next: inner.position(to, self.clock.now()), is_last: to == inner.told })
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        let name = entry.display_name();
        let mut inner = self.lock();
        inner.reads += 1;
        let history = inner.blobs.get(&(entry.container.clone(), entry.name.clone()));
        let current = history.and_then(History::current);
        let current = current.ok_or_else(|| SourceError::new(SourceErrorKind::NotFound, format!("{name} is gone")))?;
        if current.entry.etag != entry.etag {
            return Err(SourceError::new(SourceErrorKind::Changed, format!("{name} has changed")));
        }
        if current.entry.tier.as_deref() == Some("Archive") {
            return Err(SourceError::new(SourceErrorKind::Archived, format!("{name} is archived")));
        }
        Ok(current.content.slice(range.start as usize..range.end as usize))
    }

    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        let inner = self.lock();
        let history = inner.blobs.get(&(container.to_owned(), name.to_owned()));
        Ok(history.and_then(|history| history.current().map(|version| version.entry.clone())))
    }
}

#[async_trait]
impl Target for VersionedAccount {
    fn describe(&self) -> String {
        "account with versions in memory".into()
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        Ok(self.lock().containers.get(name).cloned())
    }

    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        let made = self.marked(container.clone());
        Ok(self.lock().containers.insert(container.name.clone(), made).is_none())
    }

    fn accepts(&self, _: &BlobEntry) -> Result<(), String> {
        Ok(())
    }

    fn whole_limit_bytes(&self) -> u64 {
        8 << 20
    }

    async fn write_whole(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        self.store(entry, content, on_conflict)
    }

    async fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        let key = (entry.container.clone(), entry.name.clone());
        if !self.lock().blobs.get(&key).is_some_and(|history| history.is_there) {
            return Ok(false);
        }
        self.expect(&key, Some(entry))?;
        self.spend(&key)?;
        self.remove(&entry.container, &entry.name);
        Ok(true)
    }

    async fn copy_version(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
    ) -> Result<Written, SourceError> {
        let key = (entry.container.clone(), entry.name.clone());
        self.expect(&key, live)?;
        let found = self.lock().blobs.get(&key).and_then(|h| h.versions.iter().find(|v| v.id == version).cloned());
        let Some(Version { content, .. }) = found else {
            let name = entry.display_name();
            return Err(SourceError::new(SourceErrorKind::NotFound, format!("{name} has no version {version}")));
        };
        self.spend(&key)?;
        self.put_entry(entry.clone(), content);
        self.lock().copies += 1;
        Ok(Written::Written { lost: Vec::new() })
    }

    async fn begin(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError> {
        Ok(Ok(Box::new(Parts { account: self.clone(), entry: entry.clone(), on_conflict, content: BytesMut::new() })))
    }
}

struct Parts {
    account: VersionedAccount,
    entry: BlobEntry,
    on_conflict: OnConflict,
    content: BytesMut,
}

#[async_trait]
impl BlobWriter for Parts {
    async fn write(&mut self, part: Bytes) -> Result<(), SourceError> {
        self.content.extend_from_slice(&part);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Written, SourceError> {
        self.account.store(&self.entry, self.content.freeze(), self.on_conflict)
    }
}
