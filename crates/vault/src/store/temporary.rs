//! Temporary files of a store in a folder: made locked, so that what a killed process left can be told from what a live one writes.
//!
//! The system drops a lock when its process ends, however it ends. So a temporary file that can be locked belongs to nobody. Where the file
//! system has no locks nothing is taken for a leftover.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Makes a new file, which is safe from [`sweep`] until it is closed.
///
/// # Errors
/// What the system says; `AlreadyExists` if the name is taken.
pub(super) fn create(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // Between the making and the lock a sweep may have taken it for a leftover: then it has lost its name.
        if file.lock().is_err() || file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes the files that belong to no live process. A file that cannot be removed stays: it takes space and does no harm.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        // The lock is held until the file is gone, so that its maker sees that it has lost its name.
        if let Ok(_locked) = lock_leftover(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The file, locked, if nobody writes it.
fn lock_leftover(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.try_lock()?;
    // Swept by another process since it was opened: its name may be that of a new file already.
    if file.metadata()?.nlink() == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_leftover_goes_and_a_file_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (left, live) = (folder.path().join("left"), folder.path().join("live"));
        drop(create(&left).unwrap());
        let writing = create(&live).unwrap();
        sweep(folder.path());
        assert!(!left.exists());
        assert!(live.exists());
        drop(writing);
        sweep(folder.path());
        assert!(!live.exists());
    }

    #[test]
    fn a_file_that_is_being_swept_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        sweep(folder.path());
                    }
                });
            }
            let lost = (0..2000).filter(|_| !survives(&path)).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(lost, 0, "files that were being written were swept away");
        });
    }

    fn survives(path: &Path) -> bool {
        let Ok(_writing) = create(path) else { return false };
        fs::remove_file(path).is_ok()
    }

    #[test]
    fn a_folder_that_is_not_there_is_swept_already() {
        sweep(Path::new("/nowhere/at/all"));
    }
}
