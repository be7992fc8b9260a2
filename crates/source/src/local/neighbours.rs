//! Writing many small files one after the other on one thread. Neighbours go into one folder, which stays open between them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use blobkeep_vault::{BlobEntry, OnConflict, SourceError, SourceErrorKind, Written};

use super::target::Place;
use super::{Inner, names, sidecar, tree};

/// A container into which neighbours are written one after the other: what they share is opened once.
pub(super) struct Neighbours<'a> {
    inner: &'a Inner,
    /// Its name, its handle, and whether some of its files have properties beside them.
    container: Option<(String, Arc<OwnedFd>, bool)>,
    folder: Option<(Vec<String>, Arc<OwnedFd>)>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner, container: None, folder: None }
    }

    pub(super) fn write(
        &mut self,
        entry: &BlobEntry,
        content: &[u8],
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        let place = self.place(entry)?;
        match self.inner.write_at(&place, entry, content, on_conflict) {
            // A folder that was removed meanwhile is made again.
            Err(error) if error.kind == SourceErrorKind::NotFound => {
                self.folder = None;
                self.inner.write_whole(entry, content, on_conflict)
            }
            outcome => outcome,
        }
    }

    fn place(&mut self, entry: &BlobEntry) -> Result<Place, SourceError> {
        let failed = |error| tree::failed("make the folders of", &entry.display_name(), error);
        let (container, has_sidecars) = match &self.container {
            Some((name, handle, has_sidecars)) if *name == entry.container => (Arc::clone(handle), *has_sidecars),
            _ => {
                self.inner.claim_for(&entry.container)?;
                let handle = Arc::new(self.inner.require_container(&entry.container)?);
                let has_sidecars = sidecar::open_folder(handle.as_fd(), &[]).map_err(failed)?.is_some();
                self.container = Some((entry.container.clone(), Arc::clone(&handle), has_sidecars));
                self.folder = None;
                (handle, has_sidecars)
            }
        };
        let mut folders = names::encode(&entry.name);
        let component = folders.pop().unwrap_or_default();
        let folder = match &self.folder {
            _ if folders.is_empty() => Arc::clone(&container),
            Some((last, handle)) if *last == folders => Arc::clone(handle),
            _ => {
                let handle = self.inner.folder_for(&entry.container, container.as_fd(), &folders).map_err(failed)?;
                self.folder = Some((folders.clone(), Arc::clone(&handle)));
                handle
            }
        };
        Ok(Place { container, folder, folders, component, may_have_sidecar: has_sidecars })
    }
}
