//! Listing a container folder in the order of blob names. It must hold no more than the folders on the way down to the
//! present file (memory is bounded by the widest ones), and must never follow a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blobkeep_vault::{BlobEntry, SourceError, SourceErrorKind};
use md5::{Digest, Md5};
use rustix::fs::{Dir, FileType, Stat};

use super::names::{self, BESIDE_FOLDER, PART_PREFIX, RESERVED};
use super::{sidecar, tree};

/// A listing in progress: a depth-first walk that yields blobs in key order.
pub(crate) struct Walker {
    container: String,
    prefix: String,
    frames: Vec<Frame>,
    /// Links, pipes, sockets, devices and names that are not UTF-8: seen and left out so far.
    pub(crate) skipped: u64,
}

struct Frame {
    folder: OwnedFd,
    sidecars: Option<OwnedFd>,
    component: String,
    children: std::vec::IntoIter<Child>,
}

struct Child {
    key: String,
    component: String,
    is_folder: bool,
}

impl Walker {
    /// Starts a listing of the folder `root`, after the file whose path (file names joined by slashes) is `after`.
    pub(crate) fn start(
        root: OwnedFd,
        container: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Self, SourceError> {
        let sidecars = sidecar::open_folder(root.as_fd(), &[])
            .map_err(|error| tree::failed("open the property files of", container, error))?;
        let mut walker =
            Self { container: container.to_owned(), prefix: prefix.to_owned(), frames: Vec::new(), skipped: 0 };
        let after: Vec<&str> = after.map(|path| path.split('/').collect()).unwrap_or_default();
        walker.enter(root, sidecars, String::new(), &after)?;
        Ok(walker)
    }

    /// The next blob and the path that continues the listing after it.
    pub(crate) fn next(&mut self) -> Result<Option<(BlobEntry, String)>, SourceError> {
        while let Some(frame) = self.frames.last_mut() {
            let Some(child) = frame.children.next() else {
                self.frames.pop();
                continue;
            };
            if child.is_folder {
                self.descend(&child.component, &[])?;
                continue;
            }
            if let Some(found) = self.file(&child.component)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn file(&mut self, component: &str) -> Result<Option<(BlobEntry, String)>, SourceError> {
        let Some(frame) = self.frames.last() else { return Ok(None) };
        let Some(stat) = tree::stat(&frame.folder, component)
            .map_err(|error| tree::failed("look at", &self.shown(component), error))?
        else {
            return Ok(None); // Gone since the folder was read: no longer part of the listing.
        };
        if tree::file_type(&stat) != FileType::RegularFile {
            self.skipped += 1;
            return Ok(None);
        }
        let path = self.path_of(component);
        let plain = self.plain_component(component);
        let name = match plain {
            Some(base) => names::decode(&path_components(&self.path_of(base))),
            None if path.contains('%') => names::decode(&path_components(&path)),
            None => path.clone(),
        };
        if !name.starts_with(&self.prefix) {
            return Ok(None);
        }
        let sidecars = self.frames.last().and_then(|frame| frame.sidecars.as_ref()).map(OwnedFd::as_fd);
        let entry = entry_of(&self.container, &name, &stat, sidecars, plain.unwrap_or(component))?;
        Ok(Some((entry, path)))
    }

    /// `a` for the file `a%@` where a folder `a` stands beside it.
    fn plain_component<'a>(&self, component: &'a str) -> Option<&'a str> {
        let base = component.strip_suffix(BESIDE_FOLDER).filter(|base| !base.is_empty())?;
        let frame = self.frames.last()?;
        let stat = tree::stat(&frame.folder, base).ok().flatten()?;
        (tree::file_type(&stat) == FileType::Directory).then_some(base)
    }

    fn descend(&mut self, component: &str, after: &[&str]) -> Result<(), SourceError> {
        let path = self.path_of(component);
        if !may_hold(&path, &self.prefix) {
            return Ok(());
        }
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let folder = match tree::open_folder(&frame.folder, component) {
            Ok(folder) => folder,
            Err(error) if tree::is_absent(error) => return Ok(()),
            Err(error) => return Err(tree::failed("open the folder", &self.shown(component), error)),
        };
        let sidecars = match &frame.sidecars {
            Some(parent) => sidecar::open_child(parent.as_fd(), component)
                .map_err(|error| tree::failed("open the property files of", &self.shown(component), error))?,
            None => None,
        };
        self.enter(folder, sidecars, component.to_owned(), after)
    }

    fn enter(
        &mut self,
        folder: OwnedFd,
        sidecars: Option<OwnedFd>,
        component: String,
        after: &[&str],
    ) -> Result<(), SourceError> {
        let is_root = self.frames.is_empty();
        let mut children = self.read_children(&folder, is_root, &component)?;
        children.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| a.component.cmp(&b.component)));
        let mut resume = None;
        if let Some((&at, below)) = after.split_first() {
            let key = names::sort_key(at, !below.is_empty(), is_root);
            let is_before = |child: &Child| (child.key.as_str(), child.component.as_str()) <= (key.as_str(), at);
            let done = children.iter().take_while(|child| is_before(child)).count();
            let last = children.drain(..done).next_back();
            resume =
                last.filter(|child| child.is_folder && child.component == at && !below.is_empty()).map(|_| (at, below));
        }
        self.frames.push(Frame { folder, sidecars, component, children: children.into_iter() });
        match resume {
            Some((at, below)) => self.descend(at, below),
            None => Ok(()),
        }
    }

    fn read_children(&mut self, folder: &OwnedFd, is_root: bool, component: &str) -> Result<Vec<Child>, SourceError> {
        let unreadable = |error| tree::failed("read the folder", &format!("{} {component}", self.container), error);
        let mut children = Vec::new();
        let mut skipped = 0;
        for found in Dir::read_from(folder).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            let Ok(name) = found.file_name().to_str() else {
                skipped += 1;
                tracing::warn!(container = self.container, name = ?found.file_name(), "not a UTF-8 file name: left out");
                continue;
            };
            if matches!(name, "." | "..") || (is_root && name == RESERVED) || name.starts_with(PART_PREFIX) {
                continue;
            }
            let file_type = match found.file_type() {
                FileType::Unknown => match tree::stat(folder, name).map_err(unreadable)? {
                    Some(stat) => tree::file_type(&stat),
                    None => continue,
                },
                known => known,
            };
            let is_folder = file_type == FileType::Directory;
            if !is_folder && file_type != FileType::RegularFile {
                skipped += 1;
                continue;
            }
            let key = names::sort_key(name, is_folder, is_root);
            children.push(Child { key, component: name.to_owned(), is_folder });
        }
        self.skipped += skipped;
        Ok(children)
    }

    fn path_of(&self, component: &str) -> String {
        let mut path = String::new();
        for frame in self.frames.iter().skip(1) {
            path.push_str(&frame.component);
            path.push('/');
        }
        path.push_str(component);
        path
    }

    fn shown(&self, component: &str) -> String {
        format!("{}/{}", self.container, self.path_of(component))
    }
}

fn path_components(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

/// Whether blobs below the folder `path` can start with `prefix`. Folders with escapes are always looked into.
fn may_hold(path: &str, prefix: &str) -> bool {
    if path.contains('%') || prefix.is_empty() {
        return true;
    }
    let below = format!("{path}/");
    below.starts_with(prefix) || prefix.starts_with(&below)
}

/// The entry of the file that `stat` describes, with its kept properties.
pub(crate) fn entry_of(
    container: &str,
    name: &str,
    stat: &Stat,
    sidecars: Option<BorrowedFd<'_>>,
    component: &str,
) -> Result<BlobEntry, SourceError> {
    let modified_at = tree::modified_at(stat);
    let mut entry = BlobEntry {
        container: container.to_owned(),
        name: name.to_owned(),
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        created_at: modified_at,
        modified_at,
        ..BlobEntry::default()
    };
    let kept = match sidecars {
        Some(folder) => sidecar::read(folder, component).map_err(|reason| {
            SourceError::new(
                SourceErrorKind::Protocol,
                format!("cannot read the properties of {container}/{name}: {reason}"),
            )
        })?,
        None => None,
    };
    entry.etag = etag(stat, kept.as_ref().map(|(_, stat)| stat));
    if let Some((properties, _)) = kept {
        properties.apply(&mut entry);
    }
    Ok(entry)
}

/// Bytes of a change mark. It need only differ from earlier marks of the same file, and every manifest keeps it.
const ETAG_BYTES: usize = 9;

/// The change mark of a file: whatever touches its content or its kept properties changes it.
pub(crate) fn etag(stat: &Stat, sidecar: Option<&Stat>) -> String {
    let mut hash = Md5::new();
    for part in [Some(stat), sidecar].into_iter().flatten() {
        for number in tree::change_mark(part) {
            hash.update(number.to_le_bytes());
        }
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..ETAG_BYTES])
}
