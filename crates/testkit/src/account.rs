//! A storage account in memory: a source and a target, with recorded calls, the listing order of choice, and errors and changes on request.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blobkeep_vault::{
    BlobEntry, BlobWriter, ContainerEntry, ListPage, OnConflict, Source, SourceError, SourceErrorKind, Target,
    Timestamp, TopLevel, Written,
};
use bytes::{Bytes, BytesMut};

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A page was listed.
    List(String),
    /// A page was listed that begins at a name.
    ListFrom(String, String),
    /// A page was listed of the names with a prefix.
    ListPrefix(String, String),
    /// The top of a container was listed.
    ListTop(String),
    /// A range was read.
    Read(String, Range<u64>),
    /// A blob was written.
    Write(String),
    /// A blob was removed.
    Delete(String),
}

/// The order in which names are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By their UTF-8 bytes, as the engine has it.
    #[default]
    Bytes,
    /// The other way round.
    Backwards,
    /// By their UTF-16 units: names with characters beyond U+FFFF come earlier.
    Utf16,
    /// Folder by folder, as with a hierarchical namespace: `a/b` before `a-b`.
    Folders,
}

impl Order {
    fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Bytes => a.cmp(b),
            Self::Backwards => b.cmp(a),
            Self::Utf16 => a.encode_utf16().cmp(b.encode_utf16()),
            Self::Folders => a.split('/').cmp(b.split('/')),
        }
    }
}

type Change = Box<dyn FnOnce(&MemoryAccount) + Send>;

#[derive(Default)]
struct Inner {
    containers: BTreeMap<String, ContainerEntry>,
    blobs: BTreeMap<(String, String), (BlobEntry, Bytes)>,
    calls: Vec<Call>,
    changes: u64,
    reads_until_failure: Option<u64>,
    writes_until_failure: Option<u64>,
    order: Order,
    cannot_list_from: bool,
    change_at_list: Option<(u64, Change)>,
    change_at_read: Option<(u64, String, String, Bytes)>,
    vanish_at_list: Option<String>,
}

/// The account.
#[derive(Clone, Default)]
pub struct MemoryAccount {
    inner: std::sync::Arc<Mutex<Inner>>,
    page_entries: Option<usize>,
    together: Option<usize>,
}

impl MemoryAccount {
    /// An empty account.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same account with pages of this many entries.
    #[must_use]
    pub fn with_pages_of(mut self, entries: usize) -> Self {
        self.page_entries = Some(entries);
        self
    }

    /// The same account, which likes small blobs to be read and written so many at a time.
    #[must_use]
    pub fn with_groups_of(mut self, blobs: usize) -> Self {
        self.together = Some(blobs);
        self
    }

    /// Lists names backwards from now on.
    pub fn list_backwards(&self) {
        self.list_in(Order::Backwards);
    }

    /// Lists names in this order from now on.
    pub fn list_in(&self, order: Order) {
        self.lock().order = order;
    }

    /// Cannot begin a listing in the middle any more.
    pub fn list_from_the_beginning_only(&self) {
        self.lock().cannot_list_from = true;
    }

    /// Just before the page of this number that is listed from now on (0: the next one), something happens.
    pub fn change_at_list(&self, lists: u64, change: impl FnOnce(&MemoryAccount) + Send + 'static) {
        self.lock().change_at_list = Some((lists, Box::new(change)));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a blob, and its container if that is missing.
    pub fn put(&self, container: &str, name: &str, content: impl Into<Bytes>) {
        let entry = BlobEntry { container: container.into(), name: name.into(), ..BlobEntry::default() };
        self.put_entry(entry, content);
    }

    /// Puts a blob with properties; size, ETag and times are set here.
    pub fn put_entry(&self, mut entry: BlobEntry, content: impl Into<Bytes>) {
        let content = content.into();
        let mut inner = self.lock();
        inner.changes += 1;
        entry.size_bytes = content.len() as u64;
        entry.etag = format!("0x{:X}", inner.changes);
        entry.modified_at = Timestamp(inner.changes as i64);
        let container = entry.container.clone();
        inner
            .containers
            .entry(container.clone())
            .or_insert_with(|| ContainerEntry { name: container, ..Default::default() });
        inner.blobs.insert((entry.container.clone(), entry.name.clone()), (entry, content));
    }

    /// Changes properties without changing the ETag, as setting tags or a tier does.
    pub fn touch(&self, container: &str, name: &str, change: impl FnOnce(&mut BlobEntry)) {
        if let Some((entry, _)) = self.lock().blobs.get_mut(&(container.to_owned(), name.to_owned())) {
            change(entry);
        }
    }

    /// Removes a blob.
    pub fn remove(&self, container: &str, name: &str) {
        self.lock().blobs.remove(&(container.to_owned(), name.to_owned()));
    }

    /// All blobs with their content, by container and name.
    pub fn blobs(&self) -> BTreeMap<(String, String), (BlobEntry, Bytes)> {
        self.lock().blobs.clone()
    }

    /// Content by container and name.
    pub fn contents(&self) -> BTreeMap<(String, String), Bytes> {
        self.blobs().into_iter().map(|(key, (_, content))| (key, content)).collect()
    }

    /// Calls since the last time this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }

    /// At the read of this number from now on, just before it, the blob gets another content.
    pub fn change_at_read(&self, reads: u64, container: &str, name: &str, content: impl Into<Bytes>) {
        self.lock().change_at_read = Some((reads, container.to_owned(), name.to_owned(), content.into()));
    }

    /// The container is deleted when it is listed next.
    pub fn vanish_at_list(&self, container: &str) {
        self.lock().vanish_at_list = Some(container.to_owned());
    }

    /// Reads fail after this many.
    pub fn fail_after_reads(&self, reads: Option<u64>) {
        self.lock().reads_until_failure = reads;
    }

    /// Writes fail after this many.
    pub fn fail_after_writes(&self, writes: Option<u64>) {
        self.lock().writes_until_failure = writes;
    }

    /// A page of the blobs that are wanted. The cursor is the name that the page before ended with, so blobs that come and go meanwhile
    /// move no other.
    fn page(
        &self,
        call: Call,
        container: &str,
        cursor: Option<&str>,
        is_wanted: impl Fn(&str, Order) -> bool,
    ) -> Result<ListPage, SourceError> {
        if let Some(change) = self.due_change() {
            change(self);
        }
        let mut inner = self.lock();
        inner.calls.push(call);
        if inner.vanish_at_list.as_deref() == Some(container) {
            inner.containers.remove(container);
            return Err(SourceError::new(SourceErrorKind::NotFound, format!("container {container} is gone")));
        }
        let order = inner.order;
        let first = (container.to_owned(), String::new());
        let of_container = inner.blobs.range(first..).map(|(_, (entry, _))| entry);
        let mut entries: Vec<&BlobEntry> = of_container
            .take_while(|entry| entry.container == container)
            .filter(|entry| is_wanted(&entry.name, order))
            .filter(|entry| cursor.is_none_or(|cursor| order.compare(&entry.name, cursor).is_gt()))
            .collect();
        entries.sort_by(|a, b| order.compare(&a.name, &b.name));
        let most = self.page_entries.unwrap_or(5000);
        let is_last = entries.len() <= most;
        let entries: Vec<BlobEntry> = entries.into_iter().take(most).cloned().collect();
        let next = entries.last().filter(|_| !is_last).map(|last| last.name.clone());
        Ok(ListPage { entries, next })
    }

    fn due_change(&self) -> Option<Change> {
        let mut inner = self.lock();
        match &mut inner.change_at_list {
            Some((0, _)) => inner.change_at_list.take().map(|(_, change)| change),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    fn store(&self, entry: &BlobEntry, content: Bytes, on_conflict: OnConflict) -> Result<Written, SourceError> {
        let name = entry.display_name();
        {
            let mut inner = self.lock();
            if !spend(&mut inner.writes_until_failure) {
                return Err(SourceError::new(SourceErrorKind::Unavailable, format!("{name} cannot be written")));
            }
            let there = inner.blobs.get(&(entry.container.clone(), entry.name.clone()));
            match (there, on_conflict) {
                (Some(_), OnConflict::Fail) => {
                    return Err(SourceError::new(SourceErrorKind::Conflict, format!("{name} is there already")));
                }
                (Some(_), OnConflict::Skip) => return Ok(Written::Skipped("it is there already".into())),
                (Some((old, _)), OnConflict::Newer) if old.modified_at >= entry.modified_at => {
                    return Ok(Written::Skipped("what is there is newer".into()));
                }
                _ => {}
            }
            inner.calls.push(Call::Write(name));
        }
        self.put_entry(entry.clone(), content);
        Ok(Written::Written { lost: Vec::new() })
    }
}

fn spend(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
        None => true,
    }
}

#[async_trait]
impl Source for MemoryAccount {
    fn describe(&self) -> String {
        "account in memory".into()
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        Ok(self.lock().containers.values().cloned().collect())
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let call = match prefix {
            "" => Call::List(container.to_owned()),
            prefix => Call::ListPrefix(container.to_owned(), prefix.to_owned()),
        };
        self.page(call, container, cursor, |name, _| name.starts_with(prefix))
    }

    async fn top_level(&self, container: &str) -> Result<Option<TopLevel>, SourceError> {
        let page = self.page(Call::ListTop(container.to_owned()), container, None, |name, _| !name.contains('/'))?;
        let inner = self.lock();
        let names = inner.blobs.keys().filter(|(of, _)| of == container).map(|(_, name)| name);
        let mut prefixes: Vec<String> =
            names.filter_map(|name| Some(format!("{}/", name.split_once('/')?.0))).collect();
        prefixes.dedup();
        let is_one_page = page.next.is_none() && self.page_entries.is_none_or(|most| prefixes.len() <= most);
        Ok(is_one_page.then_some(TopLevel { entries: page.entries, prefixes }))
    }

    async fn list_from(
        &self,
        container: &str,
        from: &str,
        cursor: Option<&str>,
    ) -> Result<Option<ListPage>, SourceError> {
        if self.lock().cannot_list_from {
            return Ok(None);
        }
        let call = Call::ListFrom(container.to_owned(), from.to_owned());
        self.page(call, container, cursor, |name, order| order.compare(name, from).is_ge()).map(Some)
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        let name = entry.display_name();
        let due = match &mut self.lock().change_at_read {
            Some((0, ..)) => true,
            Some((left, ..)) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let change = if due { self.lock().change_at_read.take() } else { None };
        if let Some((_, container, name, content)) = change {
            self.put(&container, &name, content);
        }
        let mut inner = self.lock();
        inner.calls.push(Call::Read(name.clone(), range.clone()));
        if !spend(&mut inner.reads_until_failure) {
            return Err(SourceError::new(SourceErrorKind::Unavailable, format!("{name} cannot be read")));
        }
        let found = inner.blobs.get(&(entry.container.clone(), entry.name.clone()));
        let (present, content) =
            found.ok_or_else(|| SourceError::new(SourceErrorKind::NotFound, format!("{name} is gone")))?;
        if present.etag != entry.etag {
            return Err(SourceError::new(SourceErrorKind::Changed, format!("{name} has changed")));
        }
        if present.tier.as_deref() == Some("Archive") {
            return Err(SourceError::new(SourceErrorKind::Archived, format!("{name} is archived")));
        }
        Ok(content.slice(range.start as usize..range.end as usize))
    }

    fn reads_together(&self) -> usize {
        self.together.unwrap_or(1)
    }

    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        Ok(self.lock().blobs.get(&(container.to_owned(), name.to_owned())).map(|(entry, _)| entry.clone()))
    }
}

#[async_trait]
impl Target for MemoryAccount {
    fn describe(&self) -> String {
        "account in memory".into()
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        Ok(self.lock().containers.get(name).cloned())
    }

    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        Ok(self.lock().containers.insert(container.name.clone(), container.clone()).is_none())
    }

    fn accepts(&self, entry: &BlobEntry) -> Result<(), String> {
        if entry.name.contains("unacceptable") { Err("this account does not like the name".into()) } else { Ok(()) }
    }

    fn whole_limit_bytes(&self) -> u64 {
        8 << 20
    }

    fn writes_together(&self) -> usize {
        self.together.unwrap_or(1)
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
        let mut inner = self.lock();
        inner.calls.push(Call::Delete(entry.display_name()));
        Ok(inner.blobs.remove(&(entry.container.clone(), entry.name.clone())).is_some())
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
    account: MemoryAccount,
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
