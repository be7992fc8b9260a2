//! Files that only their owner may read, written so that a crash leaves the old or the new content and nothing between.
//!
//! Nothing here may ever widen a permission.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder (with those above it) that only its owner may enter, or takes the rights of others away from an existing one.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if dir.metadata()?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Writes a file that only its owner may read: durable when this returns, never half-written.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = dir.join(format!(".{name}.new"));
    // A leftover of a crash may have been made with other rights.
    remove_if_there(&temporary)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    out.write_all(content)?;
    out.sync_all()?;
    std::fs::rename(&temporary, file)?;
    File::open(dir)?.sync_all()
}

/// Makes an empty file that only its owner may read, in the place of one that may be there.
pub(crate) fn create_private(file: &Path) -> io::Result<File> {
    // A leftover of a crash may have been made with other rights.
    remove_if_there(file)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// The content, or `None` if there is no such file.
pub(crate) fn read_if_there(file: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; it is no error if there is none.
pub(crate) fn remove_if_there(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
