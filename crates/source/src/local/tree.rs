//! Folders by directory handle: every step is relative to an open folder and no symbolic link is ever followed, so that
//! nothing outside the root can be reached. Paths are never joined as strings. Blocking: callers run it off the async threads.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use blobkeep_vault::{SourceError, SourceErrorKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
// NONBLOCK: opening a pipe that somebody put there must not hang.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Opens the root itself. The path comes from the operator's command line; here alone links are followed.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())
}

/// Opens a root that others than the operator chose: [`Errno::LOOP`] if any part of the path is a symbolic link.
pub(crate) fn open_root_without_links(path: &Path) -> Result<OwnedFd, Errno> {
    // Without NOFOLLOW, under which a link at the end is reported as "no folder".
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve) {
        // Not in this kernel, or not allowed by the rules of a container.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => open_root_step_by_step(path),
        other => other,
    }
}

/// The same without that call: every folder on the way is opened by itself, and none by a link.
fn open_root_step_by_step(path: &Path) -> Result<OwnedFd, Errno> {
    // Folders on the way need not be readable.
    let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(rustix::fs::CWD, ".", on_the_way, Mode::empty())?;
    for component in path.components() {
        let name = component.as_os_str();
        here = rustix::fs::openat(&here, name, on_the_way, Mode::empty()).map_err(|error| {
            // A link is no folder either; say what it is.
            let is_link = rustix::fs::statat(&here, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| file_type(&stat) == FileType::Symlink);
            if is_link { Errno::LOOP } else { error }
        })?;
    }
    rustix::fs::openat(&here, ".", FOLDER, Mode::empty())
}

/// Opens one folder inside another.
pub(crate) fn open_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, FOLDER, Mode::empty())
}

/// Opens folder after folder; `None` if one is missing or is no folder.
pub(crate) fn walk_down<S: AsRef<str>>(root: BorrowedFd<'_>, names: &[S]) -> Result<Option<OwnedFd>, Errno> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for name in names {
        match open_folder(&here, name.as_ref()) {
            Ok(next) => here = next,
            Err(error) if is_absent(error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(here))
}

/// Opens a file for reading and says what it is; `None` if there is none of that name.
pub(crate) fn open_file(parent: impl AsFd, name: &str) -> Result<Option<(File, Stat)>, Errno> {
    match rustix::fs::openat(parent, name, READ, Mode::empty()) {
        Ok(fd) => {
            let stat = rustix::fs::fstat(&fd)?;
            Ok(Some((File::from(fd), stat)))
        }
        Err(error) if is_absent(error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies under a name, itself if it is a link; `None` if nothing does.
pub(crate) fn stat(parent: impl AsFd, name: &str) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_absent(error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kind of file that `stat` describes.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens a folder for writing into it, making it where it is missing.
pub(crate) fn make_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    match open_folder(&parent, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => open_folder(&parent, name),
        Err(error) => Err(error),
    }
}

/// Moves `from` to `to`, both inside `parent`, without replacing anything: [`Errno::EXIST`] if `to` is there.
pub(crate) fn rename_new(parent: impl AsFd, from: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(&parent, from, &parent, to, RenameFlags::NOREPLACE) {
        // Network file systems: a hard link is refused just as well when the name is taken.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(&parent, from, &parent, to, AtFlags::empty())?;
            rustix::fs::unlinkat(&parent, from, AtFlags::empty())
        }
        other => other,
    }
}

/// Nothing (usable) of that name: missing, below a file, or behind a symbolic link.
pub(crate) fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)
}

/// Time of the last change of content.
#[allow(clippy::unnecessary_cast)] // The types of these numbers differ between platforms.
pub(crate) fn modified_at(stat: &Stat) -> Timestamp {
    Timestamp((stat.st_mtime as i64).saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec as i64 / 1_000))
}

/// The numbers that change whenever a file's content or properties do.
#[allow(clippy::unnecessary_cast)] // As above.
pub(crate) fn change_mark(stat: &Stat) -> [i64; 6] {
    [
        stat.st_size as i64,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as i64,
        stat.st_ctime as i64,
        stat.st_ctime_nsec as i64,
        stat.st_ino as i64,
    ]
}

/// Turns a file system's error into one for the operator.
pub(crate) fn failed(what: &str, thing: &str, error: Errno) -> SourceError {
    let (kind, hint) = match error {
        Errno::NOENT | Errno::NOTDIR => (SourceErrorKind::NotFound, ""),
        Errno::LOOP => (SourceErrorKind::Refused, ": a symbolic link is in the way, and links are not followed"),
        Errno::ACCESS | Errno::PERM => {
            (SourceErrorKind::Denied, ": give the user that runs this program access to the folder")
        }
        Errno::ROFS => (SourceErrorKind::Denied, ": the file system is mounted read-only"),
        Errno::NOSPC | Errno::DQUOT => (SourceErrorKind::Refused, ": free some space there and try again"),
        Errno::EXIST => (SourceErrorKind::Conflict, ""),
        Errno::IO | Errno::STALE | Errno::MFILE | Errno::NFILE => (SourceErrorKind::Unavailable, ""),
        _ => (SourceErrorKind::Refused, ""),
    };
    SourceError::new(kind, format!("cannot {what} {thing}: {}{hint}", io::Error::from(error)))
}

/// The same for errors of the standard library.
pub(crate) fn failed_io(what: &str, thing: &str, error: &io::Error) -> SourceError {
    match Errno::from_io_error(error) {
        Some(errno) => failed(what, thing, errno),
        None => SourceError::new(SourceErrorKind::Unavailable, format!("cannot {what} {thing}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::Dir;

    use super::*;

    #[test]
    fn a_root_is_not_opened_through_a_link_with_and_without_openat2() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/account")).unwrap();
        std::fs::write(base.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        std::os::unix::fs::symlink("account", base.join("real/last")).unwrap();
        for open in [open_root_without_links, open_root_step_by_step] {
            let opened = open(&base.join("real/account")).unwrap();
            assert_eq!(file_type(&rustix::fs::fstat(&opened).unwrap()), FileType::Directory);
            assert!(Dir::read_from(&opened).is_ok(), "it can be listed");
            for (path, wanted) in [
                ("link/account", Errno::LOOP),
                ("real/last", Errno::LOOP),
                ("real/file", Errno::NOTDIR),
                ("real/missing", Errno::NOENT),
            ] {
                assert_eq!(open(&base.join(path)).unwrap_err(), wanted, "{path}");
            }
        }
        assert!(open_root(&base.join("link/account")).is_ok(), "the operator's own paths may have links");
    }
}
