//! Checksums of what is sent: CRC-64/NVME because it is cheap, MD5 where the blob carries one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_64_NVME, Crc, Table};
use md5::{Digest, Md5};

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);

/// `x-ms-content-crc64` of a request body: base64 of the eight bytes, least significant first.
pub(crate) fn crc64_base64(bytes: &[u8]) -> String {
    STANDARD.encode(CRC64.checksum(bytes).to_le_bytes())
}

/// MD5 of bytes that are at hand.
pub(crate) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// As headers have it.
pub(crate) fn md5_base64(md5: [u8; 16]) -> String {
    STANDARD.encode(md5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The check value of CRC-64/NVME is 0xAE8B14860A799888.
        assert_eq!(crc64_base64(b"123456789"), STANDARD.encode(0xAE8B_1486_0A79_9888_u64.to_le_bytes()));
        assert_eq!(md5_base64(md5_of(b"hello world")), "XrY7u+Ae7tCTyyK7j1rNww==");
    }
}
