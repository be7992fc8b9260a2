//! A store in a local folder.
//!
//! A file is written under a temporary name in `tmp/`, flushed, then hard-linked to its own name, which fails if that is taken; then the
//! folder is flushed. So a file is there whole and durable, or not at all, whatever the moment of a crash. What a crash left in `tmp/` goes
//! when a later process writes for the first time.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Put, Store, StoreError, StoreErrorKind, StoredFile, temporary as temporary_files};

/// A folder as a store.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    attempts: AtomicU64,
    /// Sets temporary names of this process apart from those of any other, also of one in another container.
    nonce: String,
}

const TEMPORARY: &str = "tmp";

impl LocalStore {
    /// Opens the folder, and makes it if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        make_folder(&root.join(TEMPORARY)).map_err(|e| failed("make the folder", &root.display().to_string(), &e))?;
        let nonce =
            crate::seal::random_bytes::<8>().map_err(|e| StoreError::new(StoreErrorKind::Other, e.to_string()))?;
        Ok(Self { root, attempts: AtomicU64::new(0), nonce: hex::encode(nonce) })
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        super::check_name(name)?;
        if name == TEMPORARY || name.starts_with("tmp/") {
            return Err(StoreError::new(
                StoreErrorKind::Other,
                format!("{name:?} is kept for files that are being written"),
            ));
        }
        Ok(self.root.join(name))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        name: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome.map_err(|e| failed(what, name, &e)),
            Err(e) => Err(StoreError::new(StoreErrorKind::Other, format!("cannot {what} {name}: {e}"))),
        }
    }
}

fn failed(what: &str, name: &str, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        _ => StoreErrorKind::Other,
    };
    StoreError::new(kind, format!("cannot {what} {name}: {error}"))
}

/// Makes a folder and flushes each parent in which an entry was made.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    flush_folder(folder.parent().unwrap_or(Path::new(".")))
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

fn put(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<Put> {
    let parent = path.parent().unwrap_or(Path::new("."));
    if path.exists() {
        // Another writer linked it; its flush of the folder may still be under way.
        flush_folder(parent)?;
        return Ok(Put::Exists);
    }
    make_folder(parent)?;
    let written = temporary_files::create(temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        Ok(file)
    });
    // It stays open, and so safe from sweeping, until it has its own name.
    let linked = written.and_then(|_open| match fs::hard_link(temporary, path) {
        Ok(()) => Ok(Put::Stored),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
        Err(e) => Err(e),
    });
    let removed = fs::remove_file(temporary);
    let put = linked?;
    removed?;
    flush_folder(parent)?;
    Ok(put)
}

fn read_range(path: &Path, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let length = range.end.saturating_sub(range.start);
    // A range that is not there must cost no memory.
    let held = length.min(file.metadata()?.len());
    let mut content = Vec::with_capacity(usize::try_from(held).unwrap_or(0));
    file.take(length).read_to_end(&mut content)?;
    if content.len() as u64 == length {
        return Ok(content);
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends before byte {}", range.end)))
}

/// All files below `folder`, sorted by name, appended to `files` until there are 1,000 after `after`.
fn list(folder: &Path, prefix: &str, after: Option<&str>, files: &mut Vec<StoredFile>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_folder = entry.file_type()?.is_dir();
        if prefix.is_empty() && name == TEMPORARY {
            continue;
        }
        names.push((if is_folder { format!("{prefix}{name}/") } else { format!("{prefix}{name}") }, is_folder));
    }
    names.sort_unstable();
    for (name, is_folder) in names {
        if files.len() >= 1000 {
            return Ok(());
        }
        let short = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if is_folder {
            let is_passed = after.is_some_and(|after| after > name.as_str() && !after.starts_with(&name));
            if !is_passed {
                list(&folder.join(short), &name, after, files)?;
            }
        } else if after.is_none_or(|after| name.as_str() > after) {
            match fs::metadata(folder.join(short)) {
                Ok(metadata) => files.push(StoredFile { name, size_bytes: metadata.len() }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        format!("folder {}", self.root.display())
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        let path = self.path(name)?;
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{}-{attempt}-{}", self.nonce, name.replace('/', "-"));
        let folder = self.root.join(TEMPORARY);
        self.blocking("write", name, move || {
            if attempt == 0 {
                temporary_files::sweep(&folder);
            }
            put(&folder.join(temporary), &path, &content)
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let path = self.path(name)?;
        self.blocking("read", name, move || fs::read(path).map(Bytes::from)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = self.path(name)?;
        self.blocking("read", name, move || read_range(&path, &range).map(Bytes::from)).await
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        let path = self.path(name)?;
        self.blocking("look at", name, move || fs::metadata(path).map(|metadata| metadata.len())).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        let folder = if prefix.is_empty() { self.root.clone() } else { self.path(prefix.trim_end_matches('/'))? };
        let (prefix, after) = (prefix.to_owned(), after.map(ToOwned::to_owned));
        let name = if prefix.is_empty() { "the store".to_owned() } else { prefix.clone() };
        self.blocking("list", &name, move || {
            let mut files = Vec::new();
            list(&folder, &prefix, after.as_deref(), &mut files)?;
            Ok(files)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        self.blocking("delete", name, move || match fs::remove_file(&path) {
            Ok(()) => flush_folder(path.parent().unwrap_or(Path::new("."))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        })
        .await
    }
}
