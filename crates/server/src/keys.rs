//! Keys of the owners of vaults: what the configuration makes known, by the URIs under which settings of vaults ask for them.
//!
//! A local stand-in for a key vault: the bytes are read once, at the start, and never leave the process. Nothing here prints them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blobkeep_arm::vault::fold_key_uri;
use blobkeep_arm::{ApiError, ErrorCode};
use blobkeep_vault::MasterKey;
use zeroize::Zeroizing;

use crate::config::EncryptionKeyConfig;

/// Why a key of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {file}: {error}")]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error("{file} does not hold a key: 32 bytes, or one line of 64 hexadecimal digits")]
    NoKey {
        /// Which file.
        file: PathBuf,
    },
    /// Two entries have one name.
    #[error("the URI is there twice")]
    Twice,
    /// A key of one's own would be none.
    #[error("{file} holds the same key as {other}")]
    Same {
        /// Which file.
        file: PathBuf,
        /// Whose key it is, too.
        other: String,
    },
}

/// All keys that are known, by folded URI.
#[derive(Default)]
pub struct KeyRing {
    keys: BTreeMap<String, MasterKey>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl KeyRing {
    /// Reads the files of the configuration. No key may be there under two names, or be the service's own, `master`.
    ///
    /// # Errors
    /// The URI that stands in the configuration, and what is wrong with its key.
    pub fn read(configured: &[EncryptionKeyConfig], master: &MasterKey) -> Result<Self, (String, KeyError)> {
        let mut ring = Self::default();
        for entry in configured {
            ring.add(entry, master).map_err(|error| (entry.uri.clone(), error))?;
        }
        Ok(ring)
    }

    fn add(&mut self, entry: &EncryptionKeyConfig, master: &MasterKey) -> Result<(), KeyError> {
        let (uri, file) = (fold_key_uri(&entry.uri), entry.file.clone());
        if self.keys.contains_key(&uri) {
            return Err(KeyError::Twice);
        }
        let key = read_key(&entry.file)?;
        if key.is_same(master) {
            return Err(KeyError::Same { file, other: "the service's master key".to_owned() });
        }
        if let Some((other, _)) = self.keys.iter().find(|(_, other)| other.is_same(&key)) {
            return Err(KeyError::Same { file, other: other.clone() });
        }
        self.keys.insert(uri, key);
        Ok(())
    }

    /// The key of that URI, if it is known.
    pub fn get(&self, uri: &str) -> Option<&MasterKey> {
        self.keys.get(&fold_key_uri(uri))
    }

    /// The key of that URI.
    ///
    /// # Errors
    /// 400 `UserErrorKeyVaultKeyWasNotFound`.
    pub fn require(&self, uri: &str) -> Result<&MasterKey, ApiError> {
        self.get(uri).ok_or_else(|| not_found(uri, NOT_CONFIGURED))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        self.keys.values()
    }
}

/// What is wrong with a key that nobody has made known.
pub(crate) const NOT_CONFIGURED: &str = "it is not in the service's configuration";

/// 400: a key that guards a vault, or is to, cannot be used.
pub(crate) fn not_found(uri: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorKeyVaultKeyWasNotFound, &[("key", uri), ("reason", reason)])
}

fn read_key(file: &Path) -> Result<MasterKey, KeyError> {
    let unreadable = |error| KeyError::Unreadable { file: file.to_owned(), error };
    let content = Zeroizing::new(std::fs::read(file).map_err(unreadable)?);
    let key = MasterKey::from_file(&content).map_err(|_| KeyError::NoKey { file: file.to_owned() })?;
    if file.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        tracing::warn!(file = %file.display(), "others may read this key: chmod 600");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dir: &Path, name: &str, content: &[u8]) -> EncryptionKeyConfig {
        let file = dir.join(name);
        std::fs::write(&file, content).unwrap();
        EncryptionKeyConfig { uri: format!("https://vault.example.org/keys/{name}"), file }
    }

    #[test]
    fn keys_are_found_by_their_uri_in_any_spelling() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [entry(dir.path(), "raw", &[0xE9; 32]), entry(dir.path(), "text", "ab".repeat(32).as_bytes())];
        let ring = KeyRing::read(&entries, &MasterKey::generate().unwrap()).unwrap();
        assert!(ring.get("HTTPS://Vault.Example.Org/Keys/RAW/").is_some());
        assert_eq!(ring.get("https://vault.example.org/keys/text").unwrap().to_text().trim(), "ab".repeat(32));
        assert_eq!(ring.all().count(), 2);
        let error = ring.require("https://vault.example.org/keys/none").unwrap_err();
        assert!(error.message.contains("keys/none"), "{error}");
    }

    #[test]
    fn what_is_no_key_of_ones_own_is_refused_and_no_key_is_ever_printed() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |entries: &[EncryptionKeyConfig], master: &MasterKey| {
            let (uri, error) = KeyRing::read(entries, master).unwrap_err();
            assert!(uri.starts_with("https://vault.example.org/keys/"));
            error.to_string()
        };
        let master = MasterKey::generate().unwrap();
        let good = entry(dir.path(), "good", &[0x5A; 32]);
        let missing = EncryptionKeyConfig { file: dir.path().join("missing"), ..good.clone() };
        assert!(refused(&[missing], &master).contains("missing"));
        let short = refused(&[entry(dir.path(), "short", &[0x5A; 31])], &master);
        assert!(short.contains("32 bytes") && !short.contains("ZZZZ"), "{short}");
        assert!(refused(&[good.clone(), good.clone()], &master).contains("twice"));
        let again = entry(dir.path(), "again", "5a".repeat(32).as_bytes());
        assert!(
            refused(&[good.clone(), again], &master).contains("the same key as https://vault.example.org/keys/good")
        );
        let own = entry(dir.path(), "own", master.to_text().as_bytes());
        assert!(refused(&[own], &master).contains("master key"));
        let ring = KeyRing::read(&[good], &master).unwrap();
        let printed = format!("{ring:?}");
        assert!(printed.contains("keys/good") && !printed.to_lowercase().contains("5a5a"), "{printed}");
    }
}
