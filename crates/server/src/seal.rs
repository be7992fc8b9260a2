//! Sealing of secrets that rest in the database: AES-256-GCM under a key derived from the master key.
//!
//! A sealed text is bound to the row that it belongs to: moved to another row it does not open. The keys never leave this file.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What a sealed text begins with: the version of this form.
const PREFIX: &str = "s1:";
const NONCE_BYTES: usize = 12;

/// Why a sealed text cannot be made or opened. Says nothing about the content.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Encryption or randomness failed.
    #[error("sealing failed")]
    Sealing,
    /// The text is not of this form, not of this row, or sealed with another master key.
    #[error("the sealed value does not open with this installation's master key")]
    NotOurs,
}

/// Seals and opens.
pub struct Sealer {
    key: LessSafeKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derives 32 bytes for one purpose from the master key.
///
/// # Errors
/// [`SealError::Sealing`] when the derivation fails.
pub fn derive(master_key: &[u8], purpose: &str) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut out = Zeroizing::new([0u8; 32]);
    let pseudo_random = Salt::new(HKDF_SHA256, b"blobkeep service keys").extract(master_key);
    let info = [purpose.as_bytes()];
    let okm = pseudo_random.expand(&info, Length(32)).map_err(|_| SealError::Sealing)?;
    okm.fill(out.as_mut_slice()).map_err(|_| SealError::Sealing)?;
    Ok(out)
}

impl Sealer {
    /// A sealer under the key that is derived from the master key (32 bytes).
    ///
    /// # Errors
    /// [`SealError::Sealing`] when the key cannot be used.
    pub fn new(master_key: &[u8]) -> Result<Self, SealError> {
        let bytes = derive(master_key, "seal secrets")?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| SealError::Sealing)?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals `plain` for the row `row_key`.
    ///
    /// # Errors
    /// [`SealError::Sealing`] when there is no randomness.
    pub fn seal(&self, row_key: &str, plain: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0u8; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Sealing)?;
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(row_key.as_bytes()), &mut body)
            .map_err(|_| SealError::Sealing)?;
        let mut all = nonce.to_vec();
        all.extend_from_slice(&body);
        Ok(format!("{PREFIX}{}", STANDARD.encode(all)))
    }

    /// Opens what was sealed for the row `row_key`.
    ///
    /// # Errors
    /// [`SealError::NotOurs`].
    pub fn open(&self, row_key: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let text = sealed.strip_prefix(PREFIX).ok_or(SealError::NotOurs)?;
        let all = STANDARD.decode(text).map_err(|_| SealError::NotOurs)?;
        let (nonce, body) = all.split_at_checked(NONCE_BYTES).ok_or(SealError::NotOurs)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotOurs)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain_bytes = self
            .key
            .open_in_place(nonce, Aad::from(row_key.as_bytes()), &mut body)
            .map_err(|_| SealError::NotOurs)?
            .len();
        body.truncate(plain_bytes);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::{Sealer, derive};

    #[test]
    fn what_was_sealed_opens_in_its_row_only() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal("/row/a", b"secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(sealer.open("/row/a", &sealed).unwrap().as_slice(), b"secret");
        assert!(sealer.open("/row/b", &sealed).is_err());
        assert!(Sealer::new(&[8; 32]).unwrap().open("/row/a", &sealed).is_err());
    }

    #[test]
    fn a_changed_text_does_not_open() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal("r", b"secret").unwrap();
        let mut changed = sealed.clone().into_bytes();
        let last = changed.len() - 5;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        for text in [String::from_utf8(changed).unwrap().as_str(), "s1:", "s1:AAAA", "", "nonsense"] {
            assert!(sealer.open("r", text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        assert_ne!(sealer.seal("r", b"x").unwrap(), sealer.seal("r", b"x").unwrap());
    }

    #[test]
    fn keys_differ_by_purpose() {
        assert_ne!(*derive(&[1; 32], "a").unwrap(), *derive(&[1; 32], "b").unwrap());
    }
}
