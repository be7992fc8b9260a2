//! The two checksums of the Blob service in its own notation: MD5, and CRC-64/NVME as eight little-endian bytes, both
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

/// The value of `x-ms-content-crc64` for some bytes.
pub fn crc64_base64(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_le_bytes())
}

/// The value of `Content-MD5` for some bytes.
pub fn md5_base64(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc64_has_the_published_check_value() {
        let check = 0xae8b_1486_0a79_9888_u64;
        assert_eq!(crc64_base64(b"123456789"), STANDARD.encode(check.to_le_bytes()));
    }

    #[test]
    fn md5_of_nothing_is_known() {
        assert_eq!(md5_base64(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
