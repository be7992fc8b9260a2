//! Sources, targets and stores behind [`Caps`]: every call waits for its turn and is then passed on as it is.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Caps;
use crate::item::{BlobEntry, ContainerEntry};
use crate::source::{ChangePage, FeedPosition, ListPage, Source, SourceError};
use crate::store::{Put, Store, StoreError, StoredFile};
use crate::target::{BlobWriter, OnConflict, Target, Written};

/// A source that is asked no faster than its caps allow.
pub struct CappedSource {
    inner: Arc<dyn Source>,
    caps: Arc<Caps>,
}

impl CappedSource {
    /// `inner` behind `caps`, which others may share.
    pub fn new(inner: Arc<dyn Source>, caps: Arc<Caps>) -> Self {
        Self { inner, caps }
    }
}

#[async_trait]
impl Source for CappedSource {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn limits(&self) -> Vec<String> {
        self.inner.limits()
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        self.caps.pass(0).await;
        self.inner.containers().await
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.caps.pass(0).await;
        self.inner.list(container, prefix, cursor).await
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.caps.pass(range.end.saturating_sub(range.start)).await;
        self.inner.read(entry, range).await
    }

    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        self.caps.pass(0).await;
        self.inner.entry(container, name).await
    }

    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        self.caps.pass(0).await;
        self.inner.feed().await
    }

    /// A page costs about a request for each change in it, and how many those are is known afterwards: so the next page waits.
    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        self.caps.pass(0).await;
        let page = self.inner.changes(cursor).await?;
        self.caps.charge_requests(page.changes.iter().filter(|change| change.entry.is_some()).count() as u64);
        Ok(page)
    }

    async fn list_versions(&self, container: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.caps.pass(0).await;
        self.inner.list_versions(container, cursor).await
    }
}

/// A target that is written no faster than its caps allow.
pub struct CappedTarget {
    inner: Arc<dyn Target>,
    caps: Arc<Caps>,
}

impl CappedTarget {
    /// `inner` behind `caps`, which others may share.
    pub fn new(inner: Arc<dyn Target>, caps: Arc<Caps>) -> Self {
        Self { inner, caps }
    }
}

#[async_trait]
impl Target for CappedTarget {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        self.caps.pass(0).await;
        self.inner.container(name).await
    }

    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        self.caps.pass(0).await;
        self.inner.create_container(container).await
    }

    fn accepts(&self, entry: &BlobEntry) -> Result<(), String> {
        self.inner.accepts(entry)
    }

    fn identity(&self, name: &str) -> String {
        self.inner.identity(name)
    }

    fn only_container(&self) -> Option<String> {
        self.inner.only_container()
    }

    fn whole_limit_bytes(&self) -> u64 {
        self.inner.whole_limit_bytes()
    }

    async fn write_whole(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        self.caps.pass(content.len() as u64).await;
        self.inner.write_whole(entry, content, on_conflict).await
    }

    async fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        self.caps.pass(0).await;
        self.inner.delete(entry).await
    }

    /// One request that moves no bytes through here: the account copies on its own.
    async fn copy_version(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
    ) -> Result<Written, SourceError> {
        self.caps.pass(0).await;
        self.inner.copy_version(entry, version, live).await
    }

    async fn flush(&self) -> Result<(), SourceError> {
        self.inner.flush().await
    }

    async fn begin(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError> {
        self.caps.pass(0).await;
        let begun = self.inner.begin(entry, on_conflict).await?;
        Ok(begun.map(|inner| Box::new(CappedWriter { inner, caps: self.caps.clone() }) as Box<dyn BlobWriter>))
    }
}

struct CappedWriter {
    inner: Box<dyn BlobWriter>,
    caps: Arc<Caps>,
}

#[async_trait]
impl BlobWriter for CappedWriter {
    async fn write(&mut self, part: Bytes) -> Result<(), SourceError> {
        self.caps.pass(part.len() as u64).await;
        self.inner.write(part).await
    }

    async fn finish(self: Box<Self>) -> Result<Written, SourceError> {
        self.caps.pass(0).await;
        self.inner.finish().await
    }
}

/// A store that is used no faster than its caps allow.
pub struct CappedStore {
    inner: Arc<dyn Store>,
    caps: Arc<Caps>,
}

impl CappedStore {
    /// `inner` behind `caps`, which others may share.
    pub fn new(inner: Arc<dyn Store>, caps: Arc<Caps>) -> Self {
        Self { inner, caps }
    }
}

#[async_trait]
impl Store for CappedStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        self.caps.pass(content.len() as u64).await;
        self.inner.put_if_absent(name, content).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.caps.pass_unsized().await;
        let content = self.inner.get(name).await?;
        self.caps.charge(content.len() as u64);
        Ok(content)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.caps.pass(range.end.saturating_sub(range.start)).await;
        self.inner.get_range(name, range).await
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.caps.pass(0).await;
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        self.caps.pass(0).await;
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.caps.pass(0).await;
        self.inner.delete(name).await
    }
}
