//! The trait by which the engine writes blobs back.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::item::{BlobEntry, ContainerEntry};
use crate::source::{SourceError, SourceErrorKind};

/// What to do when a blob of that name is already in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Refuse. Containers that exist refuse the whole restore before anything is written.
    #[default]
    Fail,
    /// Keep what is there.
    Skip,
    /// Replace what is there.
    Overwrite,
    /// Replace what is there if the point's blob was modified later.
    Newer,
}

/// What became of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is there, its bytes confirmed by the target's checksum, durable at the latest after [`Target::flush`]. `lost` names the properties that the target
    /// cannot hold, in words for the report.
    Written {
        /// Properties that could not be put back.
        lost: Vec<String>,
    },
    /// It was left as it was, for this reason.
    Skipped(String),
}

/// Where blobs go to.
#[async_trait]
pub trait Target: Send + Sync {
    /// What this is, for messages: kind and address, never a secret.
    fn describe(&self) -> String;

    /// The container of that name, if there is one.
    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError>;

    /// Makes a container with metadata and access level. `true` if this call made it, `false` if it was there.
    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError>;

    /// Whether the target can hold a blob of this name and kind at all: checked for every blob of a plan before the
    /// first write. `Err` says why not, in words for the report. Properties that are merely lost are reported by the write.
    fn accepts(&self, entry: &BlobEntry) -> Result<(), String>;

    /// Two names for which this is equal would be one thing in the target (a folder that ignores case, say).
    fn identity(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The name of the one container that this target is, if it is only one (a folder, say). A restore to it puts one container there,
    /// whatever that was called. While it is empty, [`Target::container`] says that it is not there.
    fn only_container(&self) -> Option<String> {
        None
    }

    /// The size above which the engine must use [`Target::begin`], in bytes.
    fn whole_limit_bytes(&self) -> u64;

    /// Writes a small blob with all its properties, in one request where the endpoint can.
    async fn write_whole(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError>;

    /// How many small blobs the engine should give to one [`Target::write_many`]: 1 where each is a request of its own, more where the way
    /// to a blob costs more than its bytes (files).
    fn writes_together(&self) -> usize {
        1
    }

    /// Writes several small blobs, each as by [`Target::write_whole`]; the outcomes are in their order, and one that fails fails alone.
    async fn write_many(
        &self,
        blobs: Arc<Vec<(BlobEntry, Bytes)>>,
        on_conflict: OnConflict,
    ) -> Vec<Result<Written, SourceError>> {
        let mut outcomes = Vec::with_capacity(blobs.len());
        for (entry, content) in blobs.iter() {
            outcomes.push(self.write_whole(entry, content.clone(), on_conflict).await);
        }
        outcomes
    }

    /// Removes the current blob of that name, provided that its ETag is still `entry.etag`; `false` if it was gone. Used only by
    /// restores in place, for blobs that were made after the restored instant.
    async fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError>;

    /// Makes a version that the account itself keeps the current blob again, with the properties of `entry`, without moving content through
    /// the caller. `live` is the current blob that it replaces, if there is one: [`SourceErrorKind::Changed`] if that is no longer so. The account
    /// may go on with it when the future is dropped, or whoever waits for it has ended; asked for again, that counts as done once it is.
    ///
    /// [`SourceErrorKind::Changed`]: crate::source::SourceErrorKind::Changed
    async fn copy_version(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
    ) -> Result<Written, SourceError> {
        let _ = (version, live);
        let reason = format!("{}: {} keeps no versions", entry.display_name(), self.describe());
        Err(SourceError::new(SourceErrorKind::Refused, reason))
    }

    /// Makes durable whatever was written before this call, where a write alone does not promise that (folders).
    async fn flush(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Starts a larger blob. `Ok(Err(reason))` if the conflict rule says to skip it.
    async fn begin(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError>;
}

/// A blob that is being written in parts. Nothing is visible under its name before [`BlobWriter::finish`], where
/// the endpoint allows that (block blobs, folders). Dropping it abandons the blob.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends the next bytes. Parts may have any size; the writer cuts them as its endpoint likes and may keep a bounded
    /// number of uploads in flight.
    async fn write(&mut self, part: Bytes) -> Result<(), SourceError>;

    /// Completes the blob with all its properties.
    async fn finish(self: Box<Self>) -> Result<Written, SourceError>;
}
