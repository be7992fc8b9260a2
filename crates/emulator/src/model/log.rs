//! The content of a blob that only grows and whose parts resemble each other: what is complete is held packed and unpacked
//! piece by piece on reading.

use bytes::{Bytes, BytesMut};

use super::blob::Part;

/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;
/// The packed records of a change feed are an eighth of their size already at the lowest level.
const PACKING_LEVEL: i32 = 1;

/// One piece.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Packed(Bytes),
    /// Packing would not make it smaller.
    Plain(Bytes),
}

impl Piece {
    fn of(bytes: &[u8]) -> Piece {
        match zstd::bulk::compress(bytes, PACKING_LEVEL) {
            // It comes with room for the worst case, which must not stay with it.
            Ok(packed) if packed.len() < bytes.len() => Piece::Packed(Bytes::from(packed.into_boxed_slice())),
            _ => Piece::Plain(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The bytes of a piece; none if what was packed can't be read, which breaks off the answer.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        match self {
            Piece::Packed(packed) => zstd::bulk::decompress(packed, PIECE_BYTES).ok().map(Bytes::from),
            Piece::Plain(bytes) => Some(bytes.clone()),
        }
    }
}

/// A content that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pieces: Vec<Piece>,
    tail: Bytes,
    /// How often something was appended.
    pub(crate) appends: u32,
}

impl Log {
    pub(crate) fn len_bytes(&self) -> u64 {
        (self.pieces.len() * PIECE_BYTES + self.tail.len()) as u64
    }

    /// Adds bytes at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let mut tail = BytesMut::with_capacity(self.tail.len() + bytes.len());
        tail.extend_from_slice(&self.tail);
        tail.extend_from_slice(bytes);
        let mut rest: &[u8] = &tail;
        while rest.len() >= PIECE_BYTES {
            let (piece, after) = rest.split_at(PIECE_BYTES);
            self.pieces.push(Piece::of(piece));
            rest = after;
        }
        self.tail = Bytes::copy_from_slice(rest);
        self.appends += 1;
    }

    /// The stretches that make up `from..to`, which must lie inside the content.
    pub(crate) fn parts(&self, from: u64, to: u64) -> Vec<Part> {
        let (from, to) = (from as usize, to as usize);
        let mut parts = Vec::new();
        let mut start = from / PIECE_BYTES * PIECE_BYTES;
        while start < to {
            let (low, high) = (from.saturating_sub(start), (to - start).min(PIECE_BYTES));
            parts.push(match self.pieces.get(start / PIECE_BYTES) {
                Some(piece) => Part::Piece { piece: piece.clone(), from: low, to: high },
                None => Part::Bytes(self.tail.slice(low..high)),
            });
            start += PIECE_BYTES;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_what_was_appended_reads_back() {
        let mut log = Log::default();
        let mut whole = Vec::new();
        for number in 0..900u32 {
            let line = format!("{number:08} {}\n", "word ".repeat(40));
            log.append(line.as_bytes());
            whole.extend_from_slice(line.as_bytes());
        }
        assert_eq!(log.len_bytes(), whole.len() as u64);
        let piece = PIECE_BYTES;
        for (from, to) in
            [(0, whole.len()), (piece - 1, piece + 1), (piece, 2 * piece), (7, 9), (whole.len() - 3, whole.len())]
        {
            let mut read = Vec::new();
            for mut part in log.parts(from as u64, to as u64) {
                while let Some(bytes) = part.take() {
                    read.extend_from_slice(&bytes);
                }
            }
            assert!(read == whole[from..to], "{from}..{to}");
        }
    }
}
