//! Reading many small files one after the other on one thread. Neighbours lie in one folder, which stays open between them; whatever is
//! not a plain file under its own name is left to the careful way of `Inner::read`.

use std::os::fd::{AsFd, OwnedFd};

use blobkeep_vault::{BlobEntry, SourceError};
use bytes::Bytes;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Inner, names, read_range, sidecar, tree, walk};

/// A container from which files are read in the order of their names.
pub(super) struct SmallFiles<'a> {
    inner: &'a Inner,
    container: Option<OpenContainer>,
    folder: Option<OpenFolder>,
}

struct OpenContainer {
    name: String,
    handle: OwnedFd,
    /// Some files have properties beside them.
    has_sidecars: bool,
}

struct OpenFolder {
    /// Its path from the container, without a slash at the end.
    path: String,
    handle: OwnedFd,
    sidecars: Option<OwnedFd>,
}

impl<'a> SmallFiles<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner, container: None, folder: None }
    }

    /// All bytes of the file, provided that its ETag is still the entry's.
    pub(super) fn read(&mut self, entry: &BlobEntry) -> Result<Bytes, SourceError> {
        match self.read_plain(entry) {
            Ok(Some(content)) => content,
            // Also what went wrong on this way is told by the other.
            Ok(None) | Err(_) => self.inner.read(entry, 0..entry.size_bytes, Vec::new()),
        }
    }

    /// `None` if the file is not found as it was listed under the blob's own name.
    fn read_plain(&mut self, entry: &BlobEntry) -> Result<Option<Result<Bytes, SourceError>>, Errno> {
        if !names::is_plain(&entry.name) {
            return Ok(None);
        }
        let (path, file_name) = entry.name.rsplit_once('/').unwrap_or(("", &entry.name));
        let Some(folder) = self.folder(&entry.container, path)? else { return Ok(None) };
        let Some((file, stat)) = tree::open_file(&folder.handle, file_name)? else { return Ok(None) };
        let kept = match &folder.sidecars {
            Some(sidecars) => sidecar::stat(sidecars.as_fd(), file_name)?,
            None => None,
        };
        let is_as_listed =
            tree::file_type(&stat) == FileType::RegularFile && walk::etag(&stat, kept.as_ref()) == entry.etag;
        Ok(is_as_listed.then(|| read_range(&file, &stat, 0..entry.size_bytes, entry, Vec::new())))
    }

    fn folder(&mut self, container: &str, path: &str) -> Result<Option<&OpenFolder>, Errno> {
        if self.container.as_ref().is_none_or(|open| open.name != container) {
            self.folder = None;
            let Some(handle) = self.inner.open_container(container)? else { return Ok(None) };
            let has_sidecars = sidecar::open_folder(handle.as_fd(), &[])?.is_some();
            self.container = Some(OpenContainer { name: container.to_owned(), handle, has_sidecars });
        }
        if self.folder.as_ref().is_none_or(|open| open.path != path) {
            self.folder = self.container.as_ref().map(|open| open_folder(open, path)).transpose()?.flatten();
        }
        Ok(self.folder.as_ref())
    }
}

fn open_folder(container: &OpenContainer, path: &str) -> Result<Option<OpenFolder>, Errno> {
    let folders: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some(handle) = tree::walk_down(container.handle.as_fd(), &folders)? else { return Ok(None) };
    let sidecars = match container.has_sidecars {
        true => sidecar::open_folder(container.handle.as_fd(), &folders)?,
        false => None,
    };
    Ok(Some(OpenFolder { path: path.to_owned(), handle, sidecars }))
}
