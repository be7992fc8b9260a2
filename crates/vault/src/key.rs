//! The secrets of a vault and how they are wrapped.
//!
//! A vault has four secrets: the id key (names chunks), the cut seed (cuts large blobs), the metadata key (seals pages, index,
//! points and state) and the private half of the data key (opens content). A writer needs the first three and the public half
//! of the last: it can back up and cannot read content. All of them lie wrapped in `keys/<id>`, twice; `rekey` wraps them anew.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::seal::{Sealer, SecretKey, TAG_BYTES, random_bytes};

/// The key that its owner keeps: it opens the key slots of vaults and nothing else.
///
/// As a file it is one line of 64 hexadecimal digits, or its 32 bytes.
#[derive(Clone, Debug)]
pub struct MasterKey(SecretKey);

impl MasterKey {
    /// A fresh random key.
    pub fn generate() -> Result<Self> {
        Ok(Self(SecretKey::random()?))
    }

    /// Reads the text of a key file.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| Error::Invalid("a key file holds one line of 64 hexadecimal digits, or 32 bytes".into()))?;
        Ok(Self(SecretKey::new(bytes)))
    }

    /// Reads a key file: its one line of text, or the 32 bytes of the key as they are, as key stores give them out.
    pub fn from_file(content: &[u8]) -> Result<Self> {
        if let Ok(bytes) = <[u8; 32]>::try_from(content) {
            return Ok(Self(SecretKey::new(bytes)));
        }
        Self::from_text(std::str::from_utf8(content).unwrap_or_default())
    }

    /// Both are the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }

    /// The text of a key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = hex::encode(self.0.expose());
        text.push('\n');
        Zeroizing::new(text)
    }

    /// A key for another purpose of the same owner (sealing of connection secrets, say).
    pub fn derive(&self, purpose: &'static str) -> SecretKey {
        self.0.derive(purpose, b"")
    }
}

/// The opened secrets of a vault.
#[derive(Clone)]
pub struct VaultKeys {
    /// Names chunks: the key of keyed BLAKE3.
    pub id_key: SecretKey,
    /// Seals metadata.
    pub meta_key: SecretKey,
    /// Seeds the content-defined cutting.
    pub cut_seed: u64,
    /// Content is sealed to this X25519 key.
    pub data_public: [u8; 32],
    data_private: Option<SecretKey>,
}

impl fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKeys").field("can_read", &self.data_private.is_some()).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Slot {
    id_key: [u8; 32],
    meta_key: [u8; 32],
    cut_seed: u64,
    data_private: Option<[u8; 32]>,
}

const SLOT_MAGIC: &[u8; 8] = b"BKSLOT01";

impl VaultKeys {
    /// Fresh secrets for a new vault.
    pub fn generate() -> Result<Self> {
        let private = SecretKey::random()?;
        Ok(Self {
            id_key: SecretKey::random()?,
            meta_key: SecretKey::random()?,
            cut_seed: u64::from_le_bytes(random_bytes()?),
            data_public: public_half(&private)?,
            data_private: Some(private),
        })
    }

    /// The same without the private half: enough to back up, not to read content.
    pub fn for_writing_only(&self) -> Self {
        Self { data_private: None, ..self.clone() }
    }

    /// They open content, and are not only those of a writer.
    pub fn can_read(&self) -> bool {
        self.data_private.is_some()
    }

    /// Every secret is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let private = |keys: &Self| keys.data_private.as_ref().map(|key| *key.expose());
        self.id_key.expose() == other.id_key.expose()
            && self.meta_key.expose() == other.meta_key.expose()
            && self.cut_seed == other.cut_seed
            && private(self) == private(other)
    }

    /// A key slot file. `header` is the vault's `vault.json`, which the slot authenticates.
    pub fn wrap(&self, master: &MasterKey, header: &[u8]) -> Result<Vec<u8>> {
        let slot = Slot {
            id_key: *self.id_key.expose(),
            meta_key: *self.meta_key.expose(),
            cut_seed: self.cut_seed,
            data_private: self.data_private.as_ref().map(|key| *key.expose()),
        };
        let mut piece = postcard::to_stdvec(&slot).map_err(|e| Error::Internal(format!("key slot: {e}")))?;
        let salt: [u8; 32] = random_bytes()?;
        Sealer::new(&master.0.derive("blobkeep 1 key slot", &salt))?.seal(0, header, &mut piece)?;
        let mut file = SLOT_MAGIC.to_vec();
        file.extend_from_slice(&salt);
        file.extend_from_slice(&piece);
        Ok(file)
    }

    /// Opens a key slot file; `None` if the master key, the header or a bit of the file is not the one it was made with.
    pub fn unwrap(master: &MasterKey, header: &[u8], file: &[u8]) -> Result<Option<Self>> {
        let Some(rest) = file.strip_prefix(SLOT_MAGIC.as_slice()).filter(|rest| rest.len() > 32 + TAG_BYTES) else {
            return Ok(None);
        };
        let (salt, piece) = rest.split_at(32);
        let mut piece = Zeroizing::new(piece.to_vec());
        let sealer = Sealer::new(&master.0.derive("blobkeep 1 key slot", salt))?;
        let Some(plaintext) = sealer.open(0, header, &mut piece) else { return Ok(None) };
        let Ok(slot) = postcard::from_bytes::<Slot>(plaintext) else { return Ok(None) };
        let data_private = slot.data_private.map(SecretKey::new);
        let data_public = match &data_private {
            Some(private) => public_half(private)?,
            None => [0; 32],
        };
        Ok(Some(Self {
            id_key: SecretKey::new(slot.id_key),
            meta_key: SecretKey::new(slot.meta_key),
            cut_seed: slot.cut_seed,
            data_public,
            data_private,
        }))
    }

    /// A fresh pack key and its wrapping to the data key: an ephemeral public key and the sealed pack key, 80 bytes.
    pub fn new_content_key(&self) -> Result<(SecretKey, [u8; WRAPPED_KEY_BYTES])> {
        let pack_key = SecretKey::random()?;
        let ephemeral = SecretKey::random()?;
        let ephemeral_public = public_half(&ephemeral)?;
        let wrapping = shared_key(&ephemeral, &self.data_public, &ephemeral_public, &self.data_public)?;
        Ok((pack_key.clone(), wrap_with(&wrapping, ephemeral_public, &pack_key)?))
    }

    /// Opens what [`Self::new_content_key`] wrapped. `None` if it does not fit.
    pub fn open_content_key(&self, wrapped: &[u8; WRAPPED_KEY_BYTES]) -> Result<Option<SecretKey>> {
        let private = self
            .data_private
            .as_ref()
            .ok_or_else(|| Error::Invalid("this key can write to the vault but not read content from it".into()))?;
        let mut ephemeral_public = [0; 32];
        ephemeral_public.copy_from_slice(&wrapped[..32]);
        let Ok(wrapping) = shared_key(private, &ephemeral_public, &ephemeral_public, &self.data_public) else {
            return Ok(None);
        };
        unwrap_with(&wrapping, wrapped)
    }

    /// A fresh pack key for metadata, wrapped by the metadata key: a salt and the sealed pack key, 80 bytes.
    pub fn new_metadata_key(&self) -> Result<(SecretKey, [u8; WRAPPED_KEY_BYTES])> {
        let pack_key = SecretKey::random()?;
        let salt: [u8; 32] = random_bytes()?;
        let wrapping = self.meta_key.derive("blobkeep 1 metadata pack", &salt);
        Ok((pack_key.clone(), wrap_with(&wrapping, salt, &pack_key)?))
    }

    /// Opens what [`Self::new_metadata_key`] wrapped. `None` if it does not fit.
    pub fn open_metadata_key(&self, wrapped: &[u8; WRAPPED_KEY_BYTES]) -> Result<Option<SecretKey>> {
        unwrap_with(&self.meta_key.derive("blobkeep 1 metadata pack", &wrapped[..32]), wrapped)
    }
}

/// Length of a wrapped pack key: 32 bytes of public key or salt, 32 of sealed key, 16 of tag.
pub const WRAPPED_KEY_BYTES: usize = 80;

fn wrap_with(wrapping: &SecretKey, first: [u8; 32], pack_key: &SecretKey) -> Result<[u8; WRAPPED_KEY_BYTES]> {
    let mut sealed = pack_key.expose().to_vec();
    Sealer::new(wrapping)?.seal(0, &first, &mut sealed)?;
    let mut wrapped = [0; WRAPPED_KEY_BYTES];
    wrapped[..32].copy_from_slice(&first);
    wrapped[32..].copy_from_slice(&sealed);
    Ok(wrapped)
}

fn unwrap_with(wrapping: &SecretKey, wrapped: &[u8; WRAPPED_KEY_BYTES]) -> Result<Option<SecretKey>> {
    let (first, sealed) = wrapped.split_at(32);
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let sealer = Sealer::new(wrapping)?;
    let Some(key) = sealer.open(0, first, &mut sealed) else { return Ok(None) };
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key);
    Ok(Some(SecretKey::new(bytes)))
}

fn private_key(secret: &SecretKey) -> Result<PrivateKey> {
    PrivateKey::from_private_key(&X25519, secret.expose()).map_err(|_| Error::Internal("X25519 refuses a key".into()))
}

fn public_half(secret: &SecretKey) -> Result<[u8; 32]> {
    let public =
        private_key(secret)?.compute_public_key().map_err(|_| Error::Internal("X25519 gives no public key".into()))?;
    public.as_ref().try_into().map_err(|_| Error::Internal("an X25519 public key has 32 bytes".into()))
}

/// The key that both sides of an X25519 agreement derive, bound to both public keys.
fn shared_key(secret: &SecretKey, peer: &[u8; 32], ephemeral: &[u8; 32], data: &[u8; 32]) -> Result<SecretKey> {
    let failed = || Error::Internal("X25519 agreement failed".into());
    agreement::agree(&private_key(secret)?, UnparsedPublicKey::new(&X25519, peer), failed(), |shared| {
        let mut hasher = blake3::Hasher::new_derive_key("blobkeep 1 content pack");
        hasher.update(shared);
        hasher.update(ephemeral);
        hasher.update(data);
        Ok(SecretKey::new(*hasher.finalize().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_content_of_a_slot_is_survived(mut piece in proptest::collection::vec(any::<u8>(), 0..150)) {
            let (master, salt) = (MasterKey::generate().unwrap(), [7; 32]);
            Sealer::new(&master.0.derive("blobkeep 1 key slot", &salt)).unwrap().seal(0, b"header", &mut piece).unwrap();
            let file = [SLOT_MAGIC.as_slice(), &salt, &piece].concat();
            let _ = VaultKeys::unwrap(&master, b"header", &file);
            prop_assert!(VaultKeys::unwrap(&master, b"header", &piece).unwrap().is_none());
        }
    }

    #[test]
    fn a_slot_opens_only_with_its_master_key_and_header() {
        let master = MasterKey::generate().unwrap();
        let keys = VaultKeys::generate().unwrap();
        let slot = keys.wrap(&master, b"header").unwrap();
        let opened = VaultKeys::unwrap(&master, b"header", &slot).unwrap().unwrap();
        assert_eq!(opened.id_key.expose(), keys.id_key.expose());
        assert_eq!(opened.data_public, keys.data_public);
        assert!(VaultKeys::unwrap(&master, b"Header", &slot).unwrap().is_none());
        assert!(VaultKeys::unwrap(&MasterKey::generate().unwrap(), b"header", &slot).unwrap().is_none());
        for position in 0..slot.len() {
            let mut damaged = slot.clone();
            damaged[position] ^= 4;
            assert!(VaultKeys::unwrap(&master, b"header", &damaged).unwrap().is_none(), "byte {position}");
        }
    }

    #[test]
    fn a_writer_wraps_content_keys_and_cannot_open_them() {
        let keys = VaultKeys::generate().unwrap();
        let writer = keys.for_writing_only();
        let (pack_key, wrapped) = writer.new_content_key().unwrap();
        assert!(writer.open_content_key(&wrapped).is_err());
        assert_eq!(keys.open_content_key(&wrapped).unwrap().unwrap().expose(), pack_key.expose());
        for position in 0..wrapped.len() {
            let mut damaged = wrapped;
            damaged[position] ^= 1;
            assert!(keys.open_content_key(&damaged).unwrap().is_none(), "byte {position}");
        }
    }

    #[test]
    fn a_key_file_is_one_line_of_hexadecimal_digits() {
        let master = MasterKey::generate().unwrap();
        let text = master.to_text();
        assert_eq!(text.len(), 65);
        assert_eq!(*MasterKey::from_text(&text).unwrap().to_text(), *text);
        assert!(MasterKey::from_text("abc").is_err());
    }

    #[test]
    fn a_key_file_may_also_hold_the_bytes_themselves() {
        let raw = [0xE9; 32];
        let key = MasterKey::from_file(&raw).unwrap();
        assert!(key.is_same(&MasterKey::from_file(key.to_text().as_bytes()).unwrap()));
        assert!(!key.is_same(&MasterKey::generate().unwrap()));
        for wrong in [&raw[..31], b"", b"abc", &[0xE9; 33]] {
            assert!(MasterKey::from_file(wrong).is_err());
        }
    }
}
