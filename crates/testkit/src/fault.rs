//! A store that fails on request, and one that counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use blobkeep_vault::{Put, Store, StoreError, StoreErrorKind, StoredFile};
use bytes::Bytes;

/// Counts what is asked of a store, and lets writes fail after a while, as a crash would.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    writes_left: AtomicI64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
}

impl FaultStore {
    /// A layer around `inner` that lets everything through.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            writes_left: AtomicI64::new(i64::MAX),
            written_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }

    /// Writes fail from now on after this many.
    pub fn fail_after_writes(&self, writes: i64) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::SeqCst)
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for FaultStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("{name} cannot be written: fault on request"),
            ));
        }
        self.written_bytes.fetch_add(content.len() as u64, Ordering::SeqCst);
        self.inner.put_if_absent(name, content).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get_range(name, range).await
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }
}
