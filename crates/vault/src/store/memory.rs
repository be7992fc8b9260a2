//! A store in memory: for tests and rehearsals. Nothing that a user must keep belongs here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Put, Store, StoreError, StoreErrorKind, StoredFile};

/// Files in memory.
#[derive(Default)]
pub struct MemoryStore {
    files: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All files, sorted by name.
    pub fn files(&self) -> Vec<(String, Bytes)> {
        self.lock().iter().map(|(name, content)| (name.clone(), content.clone())).collect()
    }

    /// Puts `content` in place of a file, as damage would.
    pub fn replace(&self, name: &str, content: impl Into<Bytes>) {
        self.lock().insert(name.to_owned(), content.into());
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.lock().values().map(|content| content.len() as u64).sum()
    }
}

fn not_found(name: &str) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, format!("{name} is not there"))
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        super::check_name(name)?;
        let mut files = self.lock();
        if files.contains_key(name) {
            return Ok(Put::Exists);
        }
        files.insert(name.to_owned(), content);
        Ok(Put::Stored)
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.lock().get(name).cloned().ok_or_else(|| not_found(name))
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let content = self.get(name).await?;
        if range.start > range.end || range.end > content.len() as u64 {
            let message = format!("{name} has {} bytes, {range:?} was asked for", content.len());
            return Err(StoreError::new(StoreErrorKind::Other, message));
        }
        Ok(content.slice(range.start as usize..range.end as usize))
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.get(name).await?.len() as u64)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        let files = self.lock();
        let listed = files
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .take(1000)
            .map(|(name, content)| StoredFile { name: name.clone(), size_bytes: content.len() as u64 })
            .collect();
        Ok(listed)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.lock().remove(name);
        Ok(())
    }
}
