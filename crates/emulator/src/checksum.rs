//! The two checksums of the Blob service in its own notation: MD5, and CRC-64/NVME as eight little-endian bytes, both
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

/// The polynomial of CRC-64/NVME, bits reversed.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;
const SLICES: usize = 8;

static TABLES: [[u64; 256]; SLICES] = tables();

const fn tables() -> [[u64; 256]; SLICES] {
    let mut tables = [[0u64; 256]; SLICES];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < SLICES {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// CRC-64/NVME of some bytes.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = u64::MAX;
    let mut words = bytes.chunks_exact(SLICES);
    for word in &mut words {
        let mut eight = [0u8; SLICES];
        eight.copy_from_slice(word);
        let mixed = crc ^ u64::from_le_bytes(eight);
        crc = TABLES[7][(mixed & 0xff) as usize]
            ^ TABLES[6][(mixed >> 8 & 0xff) as usize]
            ^ TABLES[5][(mixed >> 16 & 0xff) as usize]
            ^ TABLES[4][(mixed >> 24 & 0xff) as usize]
            ^ TABLES[3][(mixed >> 32 & 0xff) as usize]
            ^ TABLES[2][(mixed >> 40 & 0xff) as usize]
            ^ TABLES[1][(mixed >> 48 & 0xff) as usize]
            ^ TABLES[0][(mixed >> 56) as usize];
    }
    for byte in words.remainder() {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ u64::from(*byte)) & 0xff) as usize];
    }
    !crc
}

/// The value of `x-ms-content-crc64` for some bytes.
pub fn crc64_base64(bytes: &[u8]) -> String {
    STANDARD.encode(crc64(bytes).to_le_bytes())
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
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(crc64(b""), 0);
        assert_eq!(crc64_base64(b"123456789"), STANDARD.encode([0x88, 0x98, 0x79, 0x0a, 0x86, 0x14, 0x8b, 0xae]));
    }

    #[test]
    fn crc64_by_words_equals_crc64_by_bytes() {
        let bytes: Vec<u8> = (0..1_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let slow = !bytes
            .iter()
            .fold(u64::MAX, |crc, byte| (crc >> 8) ^ TABLES[0][((crc ^ u64::from(*byte)) & 0xff) as usize]);
        assert_eq!(crc64(&bytes), slow);
    }

    #[test]
    fn md5_of_nothing_is_known() {
        assert_eq!(md5_base64(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
