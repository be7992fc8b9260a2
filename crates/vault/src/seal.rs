//! Sealing: AES-256-GCM and key derivation, in one place. Nothing else in the engine touches a cipher.
//!
//! Every key is used for one file only (a fresh salt or id enters its derivation), and within a file a nonce is the offset of
//! the sealed piece. So no nonce is ever used twice under one key, by construction.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Bytes that sealing adds: the authentication tag.
pub const TAG_BYTES: usize = 16;

/// A secret key of 32 bytes that is wiped when dropped and never printed.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh random key from the operating system.
    pub fn random() -> Result<Self> {
        Ok(Self::new(random_bytes()?))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose and one file: BLAKE3 in key-derivation mode over this key and `salt`.
    pub fn derive(&self, purpose: &'static str, salt: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(self.expose());
        hasher.update(salt);
        Self::new(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Internal("the system gives no random bytes".into()))?;
    Ok(bytes)
}

/// A key made ready for sealing and opening the pieces of one file.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    /// Prepares `key`.
    pub fn new(key: &SecretKey) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose())
            .map_err(|_| Error::Internal("the cipher refuses a key of 32 bytes".into()))?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Encrypts `piece` in place and appends the tag. `offset` becomes the nonce: never use one twice with this key.
    pub fn seal(&self, offset: u64, associated: &[u8], piece: &mut Vec<u8>) -> Result<()> {
        self.key
            .seal_in_place_append_tag(nonce(offset), Aad::from(associated), piece)
            .map_err(|_| Error::Internal("a piece is too long to be sealed".into()))
    }

    /// Like [`Self::seal`], where the piece lies inside of a longer file: encrypts it in place and returns the tag, which belongs behind it.
    pub fn seal_detached(&self, offset: u64, associated: &[u8], piece: &mut [u8]) -> Result<[u8; TAG_BYTES]> {
        let mut bytes = [0; TAG_BYTES];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(offset), Aad::from(associated), piece)
            .map_err(|_| Error::Internal("a piece is too long to be sealed".into()))?;
        bytes.copy_from_slice(tag.as_ref());
        Ok(bytes)
    }

    /// Decrypts in place; `None` if a single bit of piece, tag, offset or associated data is not what was sealed.
    pub fn open<'a>(&self, offset: u64, associated: &[u8], piece: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.key.open_in_place(nonce(offset), Aad::from(associated), piece).ok()
    }
}

fn nonce(offset: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&offset.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

const RECORD_MAGIC: &[u8; 8] = b"BKRECRD1";
const RECORD_SALT_BYTES: usize = 32;

/// Seals a small file (point, state record, progress) under the vault's metadata key. The file's own name is
/// authenticated, so that a record put under another name does not open.
pub fn seal_record(meta_key: &SecretKey, name: &str, plaintext: &[u8]) -> Result<Vec<u8>> {
    let salt: [u8; RECORD_SALT_BYTES] = random_bytes()?;
    let sealer = Sealer::new(&meta_key.derive("blobkeep 1 record", &salt))?;
    let mut piece = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    piece.extend_from_slice(plaintext);
    sealer.seal(0, name.as_bytes(), &mut piece)?;
    let mut file = Vec::with_capacity(RECORD_MAGIC.len() + RECORD_SALT_BYTES + piece.len());
    file.extend_from_slice(RECORD_MAGIC);
    file.extend_from_slice(&salt);
    file.extend_from_slice(&piece);
    Ok(file)
}

/// Opens what [`seal_record`] sealed.
pub fn open_record(meta_key: &SecretKey, name: &str, file: &[u8]) -> Result<Vec<u8>> {
    let rest = file
        .strip_prefix(RECORD_MAGIC.as_slice())
        .filter(|rest| rest.len() >= RECORD_SALT_BYTES + TAG_BYTES)
        .ok_or_else(|| Error::damaged(name, "it does not begin like a sealed record"))?;
    let (salt, piece) = rest.split_at(RECORD_SALT_BYTES);
    let sealer = Sealer::new(&meta_key.derive("blobkeep 1 record", salt))?;
    let mut piece = piece.to_vec();
    let length = match sealer.open(0, name.as_bytes(), &mut piece) {
        Some(plaintext) => plaintext.len(),
        None => return Err(Error::damaged(name, "its seal does not fit")),
    };
    piece.truncate(length);
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_whole_and_under_its_own_name() {
        let key = SecretKey::random().unwrap();
        let file = seal_record(&key, "points/a/b", b"the facts").unwrap();
        assert_eq!(open_record(&key, "points/a/b", &file).unwrap(), b"the facts");
        assert!(open_record(&key, "points/a/c", &file).is_err());
        assert!(open_record(&SecretKey::random().unwrap(), "points/a/b", &file).is_err());
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                assert!(open_record(&key, "points/a/b", &damaged).is_err(), "bit {bit} of byte {position}");
            }
        }
        for length in 0..file.len() {
            assert!(open_record(&key, "points/a/b", &file[..length]).is_err(), "cut to {length}");
        }
    }
}
