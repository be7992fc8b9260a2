//! Files that have their content but not yet their name, and what a writer leaves of them that was killed.
//!
//! A living writer holds a lock on each of its parts. Whoever writes into a folder first removes the parts in it that nobody holds.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::names::PART_PREFIX;

/// A file that has its content but not yet its name. Dropping it removes it.
pub(super) struct Part {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) file: File,
    pub(super) is_placed: bool,
}

impl Part {
    /// Makes an empty part. `None` if a sweep has come between: the name is used up then.
    pub(super) fn create(folder: &Arc<OwnedFd>, name: String) -> Result<Option<Self>, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&**folder, name.as_str(), flags, Mode::from_raw_mode(0o666))?);
        // Some file systems have no locks: nothing is swept there.
        let is_held = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK);
        if is_held && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok(Some(Self { folder: Arc::clone(folder), name, file, is_placed: false }));
        }
        Ok(None)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = rustix::fs::unlinkat(&*self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Removes the parts of dead writers from one folder. What cannot be removed stays: it is in nobody's way.
pub(super) fn sweep(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    for found in Dir::read_from(folder)? {
        let found = found?;
        match found.file_name().to_str() {
            Ok(name) if name.starts_with(PART_PREFIX) => remove_if_dead(folder, name),
            _ => {}
        }
    }
    Ok(())
}

fn remove_if_dead(folder: BorrowedFd<'_>, name: &str) {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { return };
    // A name is used once: it is gone if its writer has given the file another one before this lock.
    if rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    }
}
