//! Key files: one line of 64 hexadecimal digits, or the 32 bytes of the key, readable by their owner alone. A key file that exists is never
//! written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use blobkeep_vault::MasterKey;

use crate::output;

/// Reads a key file.
///
/// # Errors
/// A file that is not there or holds no key.
pub(super) fn read(path: &Path) -> anyhow::Result<MasterKey> {
    match find(path)? {
        Some(key) => Ok(key),
        None => bail!("there is no key file {}: give the one that was made with the vault", path.display()),
    }
}

/// Reads a key file, or `None` if there is none.
///
/// # Errors
/// A file that cannot be read or holds no key.
pub(super) fn find(path: &Path) -> anyhow::Result<Option<MasterKey>> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read the key file {}", path.display())),
    };
    let key = MasterKey::from_file(&content).with_context(|| format!("{} is no key file", path.display()))?;
    if path.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        let path = path.display();
        output::note(&format!("warning: others may read the key file {path}: chmod 600 {path}"));
    }
    Ok(Some(key))
}

/// Makes a key file with a fresh key; durable when this returns.
///
/// # Errors
/// A file that exists, or what the system says.
pub(super) fn make(path: &Path) -> anyhow::Result<MasterKey> {
    let key = MasterKey::generate()?;
    write(path, key.to_text().as_bytes()).with_context(|| format!("cannot make the key file {}", path.display()))?;
    Ok(key)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| File::open(parent)?.sync_all());
    if written.is_err() {
        // Half a key is worse than none: the next attempt would find it and refuse.
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.key");
        assert!(find(&path).unwrap().is_none());
        assert!(read(&path).unwrap_err().to_string().contains("no key file"));
        let made = make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*read(&path).unwrap().to_text(), *made.to_text());
        assert!(make(&path).is_err());
        assert_eq!(*read(&path).unwrap().to_text(), *made.to_text());
        std::fs::write(&path, "short").unwrap();
        assert!(find(&path).is_err(), "what holds no key is no key");
        std::fs::write(&path, [0xE9; 32]).unwrap();
        assert_eq!(read(&path).unwrap().to_text().trim(), "e9".repeat(32), "a key may lie there as its bytes");
    }
}
