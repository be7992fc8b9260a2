//! Files that are written in parts.

use std::io::Write;

use async_trait::async_trait;
use blobkeep_vault::{BlobEntry, BlobWriter, OnConflict, SourceError, SourceErrorKind, Written};
use bytes::Bytes;

use super::part::Part;
use super::target::Place;
use super::{LocalFolder, tree};

/// A file that is being written in parts.
pub(super) struct FileWriter {
    folder: LocalFolder,
    entry: BlobEntry,
    on_conflict: OnConflict,
    place: Place,
    part: Option<Part>,
    written_bytes: u64,
}

impl FileWriter {
    pub(super) fn new(
        folder: &LocalFolder,
        entry: &BlobEntry,
        on_conflict: OnConflict,
        place: Place,
        part: Part,
    ) -> Self {
        Self { folder: folder.clone(), entry: entry.clone(), on_conflict, place, part: Some(part), written_bytes: 0 }
    }
}

#[async_trait]
impl BlobWriter for FileWriter {
    async fn write(&mut self, content: Bytes) -> Result<(), SourceError> {
        let shown = self.entry.display_name();
        let mut part = self.part.take().ok_or_else(|| broken(&shown))?;
        self.written_bytes += content.len() as u64;
        self.folder.flush_ahead(content.len() as u64);
        let written = self
            .folder
            .blocking(move |_| {
                part.file.write_all(&content).map_err(|error| tree::failed_io("write", &shown, &error))?;
                Ok(part)
            })
            .await?;
        self.part = Some(written);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Written, SourceError> {
        let shown = self.entry.display_name();
        let part = self.part.take().ok_or_else(|| broken(&shown))?;
        if self.written_bytes != self.entry.size_bytes {
            return Err(SourceError::new(
                SourceErrorKind::Protocol,
                format!("{} bytes were given for {shown} of {} bytes", self.written_bytes, self.entry.size_bytes),
            ));
        }
        let Self { folder, entry, on_conflict, place, .. } = *self;
        folder.blocking(move |inner| inner.complete(part, &place, &entry, on_conflict)).await
    }
}

fn broken(shown: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, format!("an earlier write of {shown} failed"))
}
