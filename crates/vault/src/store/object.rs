//! A store in an object store: an Azure Blob container (S3 follows), through the `object_store` crate, which
//! retries and times out by itself.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{Put, Store, StoreError, StoreErrorKind, StoredFile};

/// An object store below an optional folder.
pub struct CloudStore {
    inner: Arc<dyn ObjectStore>,
    folder: String,
    description: String,
}

/// How to reach a container of an Azure Blob endpoint.
#[derive(Clone)]
pub struct AzureContainer {
    /// Account name.
    pub account: String,
    /// The endpoint with the account where it is part of the path: `https://name.blob.core.windows.net` or `http://127.0.0.1:10000/name`.
    pub endpoint: String,
    /// Container name.
    pub container: String,
    /// Folder inside of the container, without slashes at its ends; may be empty.
    pub folder: String,
    /// Account key in base64, if that is the credential.
    pub account_key: Option<String>,
    /// Query string of a shared access signature, if that is the credential.
    pub sas: Option<String>,
}

impl CloudStore {
    /// A container of an Azure Blob endpoint.
    pub fn azure(container: &AzureContainer) -> Result<Self, StoreError> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(&container.account)
            .with_container_name(&container.container)
            .with_endpoint(container.endpoint.clone())
            .with_allow_http(container.endpoint.starts_with("http://"));
        if let Some(key) = &container.account_key {
            builder = builder.with_access_key(key);
        }
        if let Some(sas) = &container.sas {
            builder = builder.with_config(AzureConfigKey::SasKey, sas.trim_start_matches('?'));
        }
        let description = format!("container {} at {}", container.container, container.endpoint);
        let inner = builder
            .build()
            .map_err(|e| StoreError::new(StoreErrorKind::Other, format!("cannot use {description} as a store: {e}")))?;
        Ok(Self { inner: Arc::new(inner), folder: container.folder.clone(), description })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(self.full_name(name.trim_end_matches('/')))
    }

    fn full_name(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    fn failed(&self, what: &str, name: &str, error: &object_store::Error) -> StoreError {
        let kind = match error {
            object_store::Error::NotFound { .. } => StoreErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreErrorKind::Denied
            }
            object_store::Error::Generic { .. } => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Other,
        };
        StoreError::new(kind, format!("cannot {what} {name} in {}: {error}", self.description))
    }
}

#[async_trait]
impl Store for CloudStore {
    fn describe(&self) -> String {
        self.description.clone()
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        super::check_name(name)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let sent = content.clone();
        match self.inner.put_opts(&self.path(name), PutPayload::from(sent), options).await {
            Ok(_) => Ok(Put::Stored),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // The first try of a retried request may have stored it and lost its answer.
                match self.get(name).await {
                    Ok(found) if found == content => Ok(Put::Stored),
                    Ok(_) => Ok(Put::Exists),
                    Err(e) => Err(e),
                }
            }
            Err(e) => Err(self.failed("write", name, &e)),
        }
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let found = self.inner.get(&self.path(name)).await.map_err(|e| self.failed("read", name, &e))?;
        found.bytes().await.map_err(|e| self.failed("read", name, &e))
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let asked = range.end.saturating_sub(range.start);
        let found = self.inner.get_range(&self.path(name), range).await.map_err(|e| self.failed("read", name, &e))?;
        if found.len() as u64 == asked {
            return Ok(found);
        }
        Err(StoreError::new(StoreErrorKind::Other, format!("{name} ended before the range that was asked for")))
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        let found = self.inner.head(&self.path(name)).await.map_err(|e| self.failed("look at", name, &e))?;
        Ok(found.size)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        let folder = self.path(prefix);
        let mut entries = match after {
            Some(after) => self.inner.list_with_offset(Some(&folder), &self.path(after)),
            None => self.inner.list(Some(&folder)),
        };
        let mut files = Vec::new();
        let skipped = if self.folder.is_empty() { 0 } else { self.folder.len() + 1 };
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(|e| self.failed("list", prefix, &e))?;
            let name = entry.location.as_ref().get(skipped..).unwrap_or_default().to_owned();
            // Where to begin is a wish: an endpoint that does not know it begins at the beginning.
            if after.is_some_and(|after| name.as_str() <= after) {
                continue;
            }
            files.push(StoredFile { name, size_bytes: entry.size });
            if files.len() == 1000 {
                break;
            }
        }
        Ok(files)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.inner.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed("delete", name, &e)),
        }
    }
}
