//! Folders as sources and targets: either each sub-folder of a root is a container, or one folder is the only container.
//!
//! The root is opened once and everything else relative to it (see `tree`); files outside it must never be reached, links
//! never followed. Blob names become file names by the escapes of `names`; what a file cannot hold lies in `sidecar`.

mod file_writer;
mod names;
mod neighbours;
mod part;
mod sidecar;
mod small;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blobkeep_vault::{BlobEntry, ContainerEntry, ListPage, Source, SourceError, SourceErrorKind};
use bytes::Bytes;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use self::small::SmallFiles;
use self::walk::Walker;

const PAGE_ENTRIES: usize = 5_000;
/// Small files that are read by one thread one after the other: opening one costs about what handing work to a thread does.
const READS_TOGETHER: usize = 256;
/// Bytes written after which a flush is begun.
const FLUSH_AHEAD_BYTES: u64 = 128 << 20;
/// Listings in progress that are kept for their next page; others start again from their cursor.
const KEPT_WALKERS: usize = 8;

/// A folder whose files are blobs. Cheap to clone.
#[derive(Clone)]
pub struct LocalFolder {
    inner: Arc<Inner>,
}

struct Inner {
    root: OwnedFd,
    path: PathBuf,
    layout: Layout,
    walkers: Mutex<Vec<(String, Walker)>>,
    skipped: AtomicU64,
    writing: target::Writing,
}

enum Layout {
    /// Each sub-folder is a container.
    Account,
    /// The folder itself is the container. As a target it takes the first container that is written to it.
    Single { name: String, holds: Mutex<Option<String>> },
}

/// A file that was found for a blob name.
struct Located {
    file: File,
    stat: Stat,
    /// Change mark over file and kept properties.
    etag: String,
    folders: Vec<String>,
    component: String,
    /// The file's own name; differs from `component` beside a folder of that name.
    file_name: String,
}

impl LocalFolder {
    /// A folder whose sub-folders are the containers. It must exist.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotFound`] or [`SourceErrorKind::Denied`] if it cannot be opened.
    pub fn account(root: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::open(root.as_ref(), Layout::Account, tree::open_root)
    }

    /// [`LocalFolder::account`] for a path that others than the operator chose: no part of it may be a symbolic link. A check of
    /// the path alone would say nothing about what is there at the moment of opening.
    ///
    /// # Errors
    /// As [`LocalFolder::account`]; [`SourceErrorKind::Refused`] for a link in the way.
    pub fn account_without_links(root: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::open(root.as_ref(), Layout::Account, tree::open_root_without_links)
    }

    /// A folder that is itself the one container `container`. It must exist.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotFound`] or [`SourceErrorKind::Denied`] if it cannot be opened.
    pub fn single(root: impl AsRef<Path>, container: impl Into<String>) -> Result<Self, SourceError> {
        Self::open(root.as_ref(), Layout::Single { name: container.into(), holds: Mutex::new(None) }, tree::open_root)
    }

    /// [`LocalFolder::single`] for a target: makes the folder, with those above it, where it is missing.
    ///
    /// # Errors
    /// The kind says why it could not be made.
    pub fn create_single(root: impl AsRef<Path>, container: impl Into<String>) -> Result<Self, SourceError> {
        make_all(root.as_ref())?;
        Self::single(root, container)
    }

    /// [`LocalFolder::account`] for a target: makes the folder, with those above it, where it is missing.
    ///
    /// # Errors
    /// The kind says why it could not be made.
    pub fn create_account(root: impl AsRef<Path>) -> Result<Self, SourceError> {
        make_all(root.as_ref())?;
        Self::account(root)
    }

    fn open(path: &Path, layout: Layout, open_root: fn(&Path) -> Result<OwnedFd, Errno>) -> Result<Self, SourceError> {
        let root =
            open_root(path).map_err(|error| tree::failed("open the folder", &path.display().to_string(), error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                path: path.to_owned(),
                layout,
                walkers: Mutex::new(Vec::new()),
                skipped: AtomicU64::new(0),
                writing: target::Writing::default(),
            }),
        })
    }

    /// How many files the listings so far left out: links, pipes, sockets, devices, names that are not UTF-8, files
    /// beside the containers.
    pub fn skipped(&self) -> u64 {
        self.inner.skipped.load(Ordering::Relaxed)
    }

    /// Makes everything that was written so far durable, with one call for the whole file system. Single writes are only
    /// guaranteed above 1 MiB, because a flush for each of many small files costs more than the files.
    ///
    /// # Errors
    /// What the file system says now or has said to an earlier call: what could not be written then is lost.
    pub fn sync_all(&self) -> Result<(), SourceError> {
        let mut failed = lock(&self.inner.writing.flushing);
        if let Err(error) = rustix::fs::syncfs(&self.inner.root) {
            failed.get_or_insert(tree::failed("flush", &self.inner.path.display().to_string(), error));
        }
        failed.clone().map_or(Ok(()), Err)
    }

    /// Takes note that so much is about to be written, and begins to flush once it is much: the flush at the end, which is waited for, then
    /// finds little left to do.
    fn flush_ahead(&self, bytes: u64) {
        let writing = &self.inner.writing;
        let unflushed_bytes = writing.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unflushed_bytes < FLUSH_AHEAD_BYTES || writing.flushing.try_lock().is_err() {
            return;
        }
        writing.unflushed_bytes.store(0, Ordering::Relaxed);
        let folder = self.clone();
        // Nobody waits for it; an error is told by the flush at the end.
        tokio::task::spawn_blocking(move || folder.sync_all());
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, SourceError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, SourceError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|error| {
            SourceError::new(SourceErrorKind::Unavailable, format!("work on a folder was cut short: {error}"))
        })?
    }
}

impl Inner {
    fn shown(&self, container: &str) -> String {
        match self.layout {
            Layout::Account => format!("{}/{container}", self.path.display()),
            Layout::Single { .. } => self.path.display().to_string(),
        }
    }

    fn open_container(&self, name: &str) -> Result<Option<OwnedFd>, Errno> {
        match &self.layout {
            Layout::Single { name: own, holds } => {
                let is_held = lock(holds).as_deref().unwrap_or(own) == name;
                if is_held { rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map(Some) } else { Ok(None) }
            }
            Layout::Account if !is_component(name) => Ok(None),
            Layout::Account => tree::walk_down(self.root.as_fd(), &[name]),
        }
    }

    fn require_container(&self, name: &str) -> Result<OwnedFd, SourceError> {
        self.open_container(name)
            .map_err(|error| tree::failed("open the folder", &self.shown(name), error))?
            .ok_or_else(|| {
                SourceError::new(
                    SourceErrorKind::NotFound,
                    format!("there is no container {name} in {}", self.path.display()),
                )
            })
    }

    fn container_entry(&self, name: &str, folder: BorrowedFd<'_>) -> Result<ContainerEntry, SourceError> {
        let stat =
            rustix::fs::fstat(folder).map_err(|error| tree::failed("look at the folder", &self.shown(name), error))?;
        let mut entry = ContainerEntry {
            name: name.to_owned(),
            etag: walk::etag(&stat, None),
            modified_at: tree::modified_at(&stat),
            ..ContainerEntry::default()
        };
        sidecar::apply_container(folder, &mut entry);
        Ok(entry)
    }

    fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        if let Layout::Single { name, .. } = &self.layout {
            return Ok(vec![self.container_entry(name, self.root.as_fd())?]);
        }
        let unreadable = |error| tree::failed("read the folder", &self.path.display().to_string(), error);
        let mut containers = Vec::new();
        for found in Dir::read_from(&self.root).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            let Ok(name) = found.file_name().to_str() else {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            if matches!(name, "." | "..") || name == names::RESERVED {
                continue;
            }
            match tree::open_folder(&self.root, name) {
                Ok(folder) => containers.push(self.container_entry(name, folder.as_fd())?),
                Err(error) if tree::is_absent(error) => {
                    self.skipped.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(tree::failed("open the folder", &self.shown(name), error)),
            }
        }
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let mut walker = match cursor.and_then(|cursor| self.kept_walker(container, prefix, cursor)) {
            Some(walker) => walker,
            None => Walker::start(self.require_container(container)?, container, prefix, cursor)?,
        };
        let mut page = ListPage::default();
        let mut last_path = None;
        while page.entries.len() < PAGE_ENTRIES {
            let Some((entry, path)) = walker.next()? else {
                last_path = None;
                break;
            };
            page.entries.push(entry);
            last_path = Some(path);
        }
        self.skipped.fetch_add(walker.skipped, Ordering::Relaxed);
        walker.skipped = 0;
        if let Some(path) = last_path {
            let mut walkers = lock(&self.walkers);
            if walkers.len() >= KEPT_WALKERS {
                walkers.remove(0);
            }
            walkers.push((walker_key(container, prefix, &path), walker));
            page.next = Some(path);
        }
        Ok(page)
    }

    fn kept_walker(&self, container: &str, prefix: &str, cursor: &str) -> Option<Walker> {
        let key = walker_key(container, prefix, cursor);
        let mut walkers = lock(&self.walkers);
        let at = walkers.iter().position(|(kept, _)| *kept == key)?;
        Some(walkers.remove(at).1)
    }

    /// The file of a blob: under its encoded name, beside a folder of that name, or under the plain name (a user's file
    /// that merely looks like an escape).
    fn locate(&self, container: BorrowedFd<'_>, name: &str) -> Result<Option<Located>, Errno> {
        let encoded = names::encode(name);
        if let Some(found) = self.locate_at(container, &encoded)? {
            return Ok(Some(found));
        }
        let plain: Vec<String> = name.split('/').map(str::to_owned).collect();
        let is_legal = plain.iter().all(|part| is_component(part)) && plain[0] != names::RESERVED;
        // Another blob's escape is that blob, not this one.
        if plain == encoded || !is_legal || names::decode(&plain) != name {
            return Ok(None);
        }
        self.locate_at(container, &plain)
    }

    fn locate_at(&self, container: BorrowedFd<'_>, components: &[String]) -> Result<Option<Located>, Errno> {
        let Some((component, folders)) = components.split_last() else { return Ok(None) };
        let mut file_name = component.clone();
        let mut found = self.open_below(container, folders, &file_name)?;
        if found.as_ref().is_some_and(|(_, stat)| tree::file_type(stat) == FileType::Directory) {
            file_name.push_str(names::BESIDE_FOLDER);
            found = self.open_below(container, folders, &file_name)?;
        }
        let Some((file, stat)) = found.filter(|(_, stat)| tree::file_type(stat) == FileType::RegularFile) else {
            return Ok(None);
        };
        let kept = match sidecar::open_folder(container, folders)? {
            Some(folder) => sidecar::stat(folder.as_fd(), component)?,
            None => None,
        };
        let etag = walk::etag(&stat, kept.as_ref());
        Ok(Some(Located { file, stat, etag, folders: folders.to_vec(), component: component.clone(), file_name }))
    }

    fn open_below(
        &self,
        container: BorrowedFd<'_>,
        folders: &[String],
        component: &str,
    ) -> Result<Option<(File, Stat)>, Errno> {
        if folders.is_empty() {
            return tree::open_file(container, component);
        }
        // One call instead of one for each folder, where the kernel has it; it refuses links and steps upwards itself.
        let path = format!("{}/{component}", folders.join("/"));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(container, path.as_str(), flags, Mode::empty(), resolve) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                return Ok(Some((File::from(fd), stat)));
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(_) => {}
        }
        match tree::walk_down(container, folders)? {
            Some(folder) => tree::open_file(&folder, component),
            None => Ok(None),
        }
    }

    fn read(&self, entry: &BlobEntry, range: Range<u64>, room: Vec<u8>) -> Result<Bytes, SourceError> {
        let shown = entry.display_name();
        let container = self.require_container(&entry.container)?;
        let located = self
            .locate(container.as_fd(), &entry.name)
            .map_err(|error| tree::failed("open", &shown, error))?
            .ok_or_else(|| SourceError::new(SourceErrorKind::NotFound, format!("{shown} is no longer there")))?;
        if located.etag != entry.etag {
            return Err(changed(entry));
        }
        read_range(&located.file, &located.stat, range, entry, room)
    }

    fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        let folder = self.require_container(container)?;
        let shown = format!("{container}/{name}");
        let Some(located) = self.locate(folder.as_fd(), name).map_err(|error| tree::failed("open", &shown, error))?
        else {
            return Ok(None);
        };
        let sidecars = sidecar::open_folder(folder.as_fd(), &located.folders)
            .map_err(|error| tree::failed("open the property files of", &shown, error))?;
        let sidecars = sidecars.as_ref().map(AsFd::as_fd);
        walk::entry_of(container, name, &located.stat, sidecars, &located.component).map(Some)
    }
}

#[async_trait]
impl Source for LocalFolder {
    fn describe(&self) -> String {
        format!("folder {}", self.inner.path.display())
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        self.blocking(Inner::containers).await
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let (container, prefix, cursor) = (container.to_owned(), prefix.to_owned(), cursor.map(str::to_owned));
        self.blocking(move |inner| inner.list(&container, &prefix, cursor.as_deref())).await
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        let entry = entry.clone();
        // Room is made here, on one of few threads: allocators keep free memory for each thread, and blocking threads are many.
        let room = Vec::with_capacity(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0));
        self.blocking(move |inner| inner.read(&entry, range, room)).await
    }

    fn reads_together(&self) -> usize {
        READS_TOGETHER
    }

    async fn read_whole(&self, entries: Arc<Vec<BlobEntry>>) -> Vec<Result<Bytes, SourceError>> {
        let count = entries.len();
        let read = self.blocking(move |inner| {
            let mut files = SmallFiles::new(inner);
            Ok(entries.iter().map(|entry| files.read(entry)).collect())
        });
        read.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        let (container, name) = (container.to_owned(), name.to_owned());
        self.blocking(move |inner| inner.entry(&container, &name)).await
    }
}

fn changed(entry: &BlobEntry) -> SourceError {
    SourceError::new(SourceErrorKind::Changed, format!("{} changed since it was listed", entry.display_name()))
}

/// Part of an open file which `stat` described when it was opened, read into `bytes`.
fn read_range(
    file: &File,
    stat: &Stat,
    range: Range<u64>,
    entry: &BlobEntry,
    mut bytes: Vec<u8>,
) -> Result<Bytes, SourceError> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| {
        let message = format!("the range asked of {} is too long", entry.display_name());
        SourceError::new(SourceErrorKind::Refused, message)
    })?;
    bytes.resize(length, 0);
    if let Err(error) = file.read_exact_at(&mut bytes, range.start) {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Err(changed(entry)),
            _ => Err(tree::failed_io("read", &entry.display_name(), &error)),
        };
    }
    let after = rustix::fs::fstat(file).map_err(|error| tree::failed("look at", &entry.display_name(), error))?;
    // Someone wrote while we read: what we hold may be neither the old nor the new content.
    if tree::change_mark(&after) != tree::change_mark(stat) {
        return Err(changed(entry));
    }
    Ok(Bytes::from(bytes))
}

/// A container name made of the folder's own name: lower-case letters, digits and single hyphens, 3 to 63 of them;
/// `data` where nothing legal is left.
pub fn container_name_for(path: &Path) -> String {
    let own = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own = own.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let mut name = String::new();
    for character in own.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(63);
    let name = name.trim_end_matches('-');
    if name.len() < 3 { "data".to_owned() } else { name.to_owned() }
}

fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name != names::RESERVED && name.len() <= 255 && !name.contains(['/', '\0'])
}

fn walker_key(container: &str, prefix: &str, cursor: &str) -> String {
    format!("{container}\0{prefix}\0{cursor}")
}

fn make_all(path: &Path) -> Result<(), SourceError> {
    std::fs::create_dir_all(path)
        .map_err(|error| tree::failed_io("make the folder", &path.display().to_string(), &error))
}

/// A poisoned lock guards nothing here that a panic could have left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
