//! Layers around a store: they add behaviour and change no meaning.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Put, Store, StoreError, StoreErrorKind, StoredFile};

/// Refuses every write: for looking into a vault that must not be changed.
pub struct ReadOnly(pub Arc<dyn Store>);

impl ReadOnly {
    fn refuse(&self, name: &str) -> StoreError {
        let message = format!("cannot change {name}: {} was opened for reading only", self.0.describe());
        StoreError::new(StoreErrorKind::Denied, message)
    }
}

#[async_trait]
impl Store for ReadOnly {
    fn describe(&self) -> String {
        format!("{} (read-only)", self.0.describe())
    }

    async fn put_if_absent(&self, name: &str, _: Bytes) -> Result<Put, StoreError> {
        Err(self.refuse(name))
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(name, range).await
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.0.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        self.0.list(prefix, after).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        Err(self.refuse(name))
    }
}

/// A folder inside of a store, as a store of its own: one store holds the vaults of a whole service.
pub struct SubStore {
    inner: Arc<dyn Store>,
    folder: String,
}

impl SubStore {
    /// `folder` without slashes at its ends.
    pub fn new(inner: Arc<dyn Store>, folder: impl Into<String>) -> Self {
        Self { inner, folder: folder.into() }
    }

    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

#[async_trait]
impl Store for SubStore {
    fn describe(&self) -> String {
        format!("{}/{}", self.inner.describe(), self.folder)
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        self.inner.put_if_absent(&self.full(name), content).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.inner.get(&self.full(name)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(&self.full(name), range).await
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.size(&self.full(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        let after = after.map(|after| self.full(after));
        let mut files = self.inner.list(&self.full(prefix), after.as_deref()).await?;
        for file in &mut files {
            file.name.drain(..=self.folder.len());
        }
        Ok(files)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(&self.full(name)).await
    }
}
