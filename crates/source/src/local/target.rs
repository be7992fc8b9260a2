//! Writing blobs into folders. A file appears under its name complete or not at all; nothing is ever replaced unless the
//! conflict rule says so.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blobkeep_vault::{
    BlobEntry, BlobWriter, ContainerEntry, OnConflict, SourceError, SourceErrorKind, Target, Timestamp, Written,
};
use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::file_writer::FileWriter;
use super::names::{BESIDE_FOLDER, PART_PREFIX};
use super::neighbours::Neighbours;
use super::part::{self, Part};
use super::sidecar::Properties;
use super::{Inner, Layout, LocalFolder, is_component, lock, names, sidecar, tree};

const WHOLE_LIMIT_BYTES: u64 = 8 << 20;
/// Files above this are flushed one by one; see [`LocalFolder::sync_all`].
const FLUSH_ABOVE_BYTES: u64 = 1 << 20;

/// Small files that are written by one thread one after the other: more threads in one folder would only wait for each other.
const WRITES_TOGETHER: usize = 256;
/// Folders that are remembered as swept.
const SWEPT_AT_MOST: usize = 4096;

/// What writers share.
#[derive(Default)]
pub(crate) struct Writing {
    /// The folder that the last blob went to: most blobs go where their neighbour went.
    last_folder: Mutex<Option<LastFolder>>,
    /// Held while a file makes room for a folder of its name.
    structure: Mutex<()>,
    parts: AtomicU64,
    /// Folders (their inodes) in which nothing of dead writers is left.
    swept: Mutex<HashSet<u64>>,
    /// Bytes written since a flush was begun the last time.
    pub(super) unflushed_bytes: AtomicU64,
    /// Held by whoever flushes; why an earlier flush failed, since the system says that only once.
    pub(super) flushing: Mutex<Option<SourceError>>,
}

/// Container, folders below it, and the handle of the last of them.
type LastFolder = (String, Vec<String>, Arc<OwnedFd>);

/// Where one blob goes.
pub(super) struct Place {
    pub(super) container: Arc<OwnedFd>,
    pub(super) folder: Arc<OwnedFd>,
    pub(super) folders: Vec<String>,
    pub(super) component: String,
    /// False if there is certainly nothing beside the file that would have to go.
    pub(super) may_have_sidecar: bool,
}

impl Inner {
    /// The first container written to a single folder is the one it holds; a second one would mix with it.
    fn claim(&self, container: &str) -> Result<(), String> {
        match &self.layout {
            Layout::Account if is_component(container) => Ok(()),
            Layout::Account => Err(format!("a folder cannot be named {container:?}")),
            Layout::Single { holds, .. } => {
                let mut held = lock(holds);
                match held.as_deref() {
                    None => {
                        *held = Some(container.to_owned());
                        Ok(())
                    }
                    Some(name) if name == container => Ok(()),
                    Some(name) => Err(format!(
                        "the folder holds one container, {name}, and {container} would mix with it: restore one container \
                         at a time, each into a folder of its own"
                    )),
                }
            }
        }
    }

    fn part_name(&self) -> Result<String, Errno> {
        let mut random = [0; 6];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Errno::IO)?;
        let number = self.writing.parts.fetch_add(1, Ordering::Relaxed);
        Ok(format!("{PART_PREFIX}{:x}-{number:x}-{:x}", std::process::id(), u64_of(random)))
    }

    fn has_content(&self) -> Result<bool, Errno> {
        for found in Dir::read_from(&self.root)? {
            if !matches!(found?.file_name().to_bytes(), b"." | b"..") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn find_container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        let failed = |error| tree::failed("look at the folder", &self.shown(name), error);
        if matches!(self.layout, Layout::Single { .. }) {
            return match self.has_content().map_err(failed)? {
                true => self.container_entry(name, self.root.as_fd()).map(Some),
                false => Ok(None),
            };
        }
        match self.open_container(name).map_err(failed)? {
            Some(folder) => self.container_entry(name, folder.as_fd()).map(Some),
            None => Ok(None),
        }
    }

    fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        let failed = |error| tree::failed("make the folder", &self.shown(&container.name), error);
        self.claim(&container.name).map_err(|reason| SourceError::new(SourceErrorKind::Refused, reason))?;
        let is_new = match self.layout {
            Layout::Single { .. } => !self.has_content().map_err(failed)?,
            Layout::Account => {
                match rustix::fs::mkdirat(&self.root, container.name.as_str(), Mode::from_raw_mode(0o777)) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let folder = self.require_container(&container.name)?;
        self.sweep(folder.as_fd()).map_err(failed)?;
        if is_new {
            let part = self.part_name().map_err(failed)?;
            sidecar::write_container(folder.as_fd(), container, &part).map_err(failed)?;
        }
        Ok(is_new)
    }

    pub(super) fn claim_for(&self, container: &str) -> Result<(), SourceError> {
        self.claim(container).map_err(|reason| SourceError::new(SourceErrorKind::Refused, reason))
    }

    fn place(&self, entry: &BlobEntry) -> Result<Place, SourceError> {
        self.claim_for(&entry.container)?;
        let container = Arc::new(self.require_container(&entry.container)?);
        let mut folders = names::encode(&entry.name);
        let component = folders.pop().unwrap_or_default();
        let folder = if folders.is_empty() {
            Arc::clone(&container)
        } else {
            self.folder_for(&entry.container, container.as_fd(), &folders)
                .map_err(|error| tree::failed("make the folders of", &entry.display_name(), error))?
        };
        Ok(Place { container, folder, folders, component, may_have_sidecar: true })
    }

    pub(super) fn folder_for(
        &self,
        name: &str,
        container: BorrowedFd<'_>,
        folders: &[String],
    ) -> Result<Arc<OwnedFd>, Errno> {
        {
            let last = lock(&self.writing.last_folder);
            if let Some((last_name, last_folders, folder)) = last.as_ref()
                && last_name == name
                && last_folders == folders
                // A folder that was removed meanwhile has no links left.
                && rustix::fs::fstat(&**folder).is_ok_and(|stat| stat.st_nlink > 0)
            {
                return Ok(Arc::clone(folder));
            }
        }
        let mut here = rustix::io::fcntl_dupfd_cloexec(container, 0)?;
        for folder in folders {
            here = match tree::make_folder(&here, folder) {
                Err(Errno::NOTDIR | Errno::LOOP) => self.make_room(&here, folder)?,
                other => other?,
            };
        }
        self.sweep(here.as_fd())?;
        let here = Arc::new(here);
        *lock(&self.writing.last_folder) = Some((name.to_owned(), folders.to_vec(), Arc::clone(&here)));
        Ok(here)
    }

    /// A blob `a` is there and `a/…` comes: the file moves to `a%@` and the folder takes its name.
    fn make_room(&self, parent: &OwnedFd, folder: &str) -> Result<OwnedFd, Errno> {
        let _guard = lock(&self.writing.structure);
        let is_file = tree::stat(parent, folder)?.is_some_and(|stat| tree::file_type(&stat) == FileType::RegularFile);
        if is_file {
            tree::rename_new(parent.as_fd(), folder, &format!("{folder}{BESIDE_FOLDER}"))?;
        }
        match tree::make_folder(parent, folder) {
            Err(Errno::NOTDIR) => Err(Errno::LOOP),
            other => other,
        }
    }

    /// What stands under the name already, if anything does.
    fn existing(&self, place: &Place) -> Result<Option<Stat>, Errno> {
        let found = tree::stat(&*place.folder, &place.component)?;
        if found.as_ref().is_some_and(|stat| tree::file_type(stat) == FileType::Directory) {
            return tree::stat(&*place.folder, &beside(&place.component));
        }
        Ok(found)
    }

    /// Applies the conflict rule before anything is written. `Some` is the reason to skip.
    fn check_conflict(
        &self,
        place: &Place,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Option<String>, SourceError> {
        if on_conflict == OnConflict::Overwrite {
            return Ok(None);
        }
        let found = self.existing(place).map_err(|error| tree::failed("look at", &entry.display_name(), error))?;
        let Some(stat) = found else { return Ok(None) };
        match on_conflict {
            OnConflict::Fail => Err(conflict(entry)),
            OnConflict::Skip => Ok(Some("a file of that name is there already".to_owned())),
            OnConflict::Newer if tree::modified_at(&stat) >= entry.modified_at => {
                Ok(Some("the file that is there is as new or newer".to_owned()))
            }
            OnConflict::Newer | OnConflict::Overwrite => Ok(None),
        }
    }

    fn start_part(&self, place: &Place) -> Result<Part, Errno> {
        loop {
            if let Some(part) = Part::create(&place.folder, self.part_name()?)? {
                return Ok(part);
            }
        }
    }

    /// Removes what writers that were killed have left in this folder, the first time that something is written into it.
    fn sweep(&self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let inode = rustix::fs::fstat(folder)?.st_ino;
        let mut swept = lock(&self.writing.swept);
        if swept.len() >= SWEPT_AT_MOST {
            swept.clear();
        }
        if swept.insert(inode) { part::sweep(folder) } else { Ok(()) }
    }

    /// Gives a complete file its time, its properties and its name.
    pub(super) fn complete(
        &self,
        mut part: Part,
        place: &Place,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        let shown = entry.display_name();
        let failed = |error| tree::failed("write", &shown, error);
        set_modified(&part.file, entry.modified_at).map_err(failed)?;
        if entry.size_bytes > FLUSH_ABOVE_BYTES {
            rustix::fs::fdatasync(&part.file).map_err(failed)?;
        }
        // Looked at again, because another writer may have come first since the blob was begun; the properties go
        // first, so that the name never shows a blob without them.
        if let Some(reason) = self.check_conflict(place, entry, on_conflict)? {
            return Ok(Written::Skipped(reason));
        }
        let container = place.container.as_fd();
        match Properties::of(entry, WHOLE_LIMIT_BYTES) {
            Some(properties) => {
                let scratch = self.part_name().map_err(failed)?;
                sidecar::write(container, &place.folders, &place.component, &properties, &scratch)
            }
            None if place.may_have_sidecar => sidecar::remove(container, &place.folders, &place.component),
            None => Ok(()),
        }
        .map_err(|error| tree::failed("write the properties of", &shown, error))?;
        let may_replace = matches!(on_conflict, OnConflict::Overwrite | OnConflict::Newer);
        match self.name_part(&part, place, may_replace) {
            Ok(()) => {
                part.is_placed = true;
                Ok(Written::Written { lost: lost_properties(entry) })
            }
            Err(Errno::EXIST) if on_conflict == OnConflict::Skip => {
                Ok(Written::Skipped("a file of that name appeared meanwhile".to_owned()))
            }
            Err(Errno::EXIST) => Err(conflict(entry)),
            Err(error) => Err(failed(error)),
        }
    }

    fn name_part(&self, part: &Part, place: &Place, may_replace: bool) -> Result<(), Errno> {
        let folder = place.folder.as_fd();
        let rename = |to: &str| match may_replace {
            true => rustix::fs::renameat(folder, part.name.as_str(), folder, to),
            false => tree::rename_new(folder, &part.name, to),
        };
        let first = rename(&place.component);
        if !matches!(first, Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY)) {
            return first;
        }
        let _guard = lock(&self.writing.structure);
        let is_folder =
            tree::stat(folder, &place.component)?.is_some_and(|stat| tree::file_type(&stat) == FileType::Directory);
        if is_folder { rename(&beside(&place.component)) } else { first }
    }

    fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        let shown = entry.display_name();
        let failed = |error| tree::failed("delete", &shown, error);
        let Some(container) = self.open_container(&entry.container).map_err(failed)? else { return Ok(false) };
        let Some(located) = self.locate(container.as_fd(), &entry.name).map_err(failed)? else { return Ok(false) };
        if located.etag != entry.etag {
            return Err(SourceError::new(SourceErrorKind::Changed, format!("{shown} changed since it was listed")));
        }
        let Some(folder) = tree::walk_down(container.as_fd(), &located.folders).map_err(failed)? else {
            return Ok(false);
        };
        match rustix::fs::unlinkat(&folder, located.file_name.as_str(), AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(failed)?,
        }
        sidecar::remove(container.as_fd(), &located.folders, &located.component).map_err(failed)?;
        Ok(true)
    }

    pub(super) fn write_whole(
        &self,
        entry: &BlobEntry,
        content: &[u8],
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        self.write_at(&self.place(entry)?, entry, content, on_conflict)
    }

    pub(super) fn write_at(
        &self,
        place: &Place,
        entry: &BlobEntry,
        content: &[u8],
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        if let Some(reason) = self.check_conflict(place, entry, on_conflict)? {
            return Ok(Written::Skipped(reason));
        }
        let shown = entry.display_name();
        let mut part = self.start_part(place).map_err(|error| tree::failed("write", &shown, error))?;
        part.file.write_all(content).map_err(|error| tree::failed_io("write", &shown, &error))?;
        self.complete(part, place, entry, on_conflict)
    }
}

#[async_trait]
impl Target for LocalFolder {
    fn describe(&self) -> String {
        format!("folder {}", self.inner.path.display())
    }

    fn only_container(&self) -> Option<String> {
        match &self.inner.layout {
            Layout::Single { name, .. } => Some(name.clone()),
            Layout::Account => None,
        }
    }

    async fn flush(&self) -> Result<(), SourceError> {
        let folder = self.clone();
        tokio::task::spawn_blocking(move || folder.sync_all()).await.map_err(|error| {
            SourceError::new(SourceErrorKind::Unavailable, format!("the flush of a folder was cut short: {error}"))
        })?
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.find_container(&name)).await
    }

    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        let container = container.clone();
        self.blocking(move |inner| inner.create_container(&container)).await
    }

    fn accepts(&self, entry: &BlobEntry) -> Result<(), String> {
        if entry.name.is_empty() {
            return Err("a blob without a name cannot be a file".to_owned());
        }
        self.inner.claim(&entry.container)
    }

    fn whole_limit_bytes(&self) -> u64 {
        WHOLE_LIMIT_BYTES
    }

    async fn write_whole(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        let entry = entry.clone();
        self.blocking(move |inner| inner.write_whole(&entry, &content, on_conflict)).await
    }

    fn writes_together(&self) -> usize {
        WRITES_TOGETHER
    }

    async fn write_many(
        &self,
        blobs: Arc<Vec<(BlobEntry, Bytes)>>,
        on_conflict: OnConflict,
    ) -> Vec<Result<Written, SourceError>> {
        let count = blobs.len();
        self.flush_ahead(blobs.iter().map(|(_, content)| content.len() as u64).sum());
        let written = self.blocking(move |inner| {
            let mut neighbours = Neighbours::new(inner);
            Ok(blobs.iter().map(|(entry, content)| neighbours.write(entry, content, on_conflict)).collect())
        });
        written.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        let entry = entry.clone();
        self.blocking(move |inner| inner.delete(&entry)).await
    }

    async fn begin(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError> {
        let wanted = entry.clone();
        let begun = self
            .blocking(move |inner| {
                let place = inner.place(&wanted)?;
                if let Some(reason) = inner.check_conflict(&place, &wanted, on_conflict)? {
                    return Ok(Err(reason));
                }
                let part =
                    inner.start_part(&place).map_err(|error| tree::failed("write", &wanted.display_name(), error))?;
                Ok(Ok((place, part)))
            })
            .await?;
        Ok(begun.map(|(place, part)| {
            Box::new(FileWriter::new(self, entry, on_conflict, place, part)) as Box<dyn BlobWriter>
        }))
    }
}

fn beside(component: &str) -> String {
    format!("{component}{BESIDE_FOLDER}")
}

fn conflict(entry: &BlobEntry) -> SourceError {
    SourceError::new(SourceErrorKind::Conflict, format!("a file for {} is there already", entry.display_name()))
}

fn lost_properties(entry: &BlobEntry) -> Vec<String> {
    let mut lost = Vec::new();
    if entry.immutability.until.is_some() || entry.immutability.legal_hold {
        lost.push("protection against changes (kept beside the file, not enforced)".to_owned());
    }
    lost
}

fn set_modified(file: &File, at: Timestamp) -> Result<(), Errno> {
    let time = Timespec { tv_sec: at.0.div_euclid(1_000_000), tv_nsec: (at.0.rem_euclid(1_000_000) * 1_000) as _ };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

fn u64_of(random: [u8; 6]) -> u64 {
    random.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
