//! Checksums of what is sent: CRC-64/NVME because it is cheap for us and for Azure, MD5 where the blob carries one, and for the blocks that
//! Azurite gets: it computes a CRC-64 of any block that comes without an MD5, in JavaScript.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};

use super::http_client::Request;

/// Which checksum goes with a part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `x-ms-content-crc64`
    Crc64,
    /// `Content-MD5`
    Md5,
}

/// The request with this body and its checksum, which is made on a thread of its own: an MD5 of a block takes more than ten milliseconds.
pub(crate) async fn with_body(mut request: Request, body: Bytes, kind: Kind) -> Request {
    let of = body.clone();
    let made = tokio::task::spawn_blocking(move || match kind {
        Kind::Crc64 => ("x-ms-content-crc64", crc64_base64(&of)),
        Kind::Md5 => ("content-md5", md5_base64(md5_of(&of))),
    });
    // A runtime that shuts down makes no checksum, and sends nothing any more.
    if let Ok((name, value)) = made.await {
        request.try_header(name, &value);
    }
    request.body(body)
}

/// `x-ms-content-crc64` of a request body: base64 of the eight bytes, least significant first.
pub(crate) fn crc64_base64(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_le_bytes())
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
