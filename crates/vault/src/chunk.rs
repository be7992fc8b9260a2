//! Cutting content into chunks, and naming them.
//!
//! A blob up to the minimum size is one chunk. Larger ones are cut by their content, so that a change moves only the cuts around
//! it. The seed of the cutting is secret, so that lengths of chunks tell an outsider nothing about known files.

use bytes::{Buf, Bytes, BytesMut};
use fastcdc::v2020::{self, Normalization};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::ChunkId;
use crate::seal::SecretKey;

/// Chunk sizes of a vault, in bytes; part of `vault.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunkSizes {
    /// No cut before this; blobs up to it are one chunk.
    pub min_bytes: u32,
    /// Cuts come about this often.
    pub average_bytes: u32,
    /// A cut is forced here.
    pub max_bytes: u32,
}

impl Default for ChunkSizes {
    fn default() -> Self {
        Self { min_bytes: 512 << 10, average_bytes: 1 << 20, max_bytes: 4 << 20 }
    }
}

impl ChunkSizes {
    /// Refuses what the cutting cannot work with.
    pub fn check(self) -> Result<Self> {
        let even = [self.min_bytes, self.average_bytes, self.max_bytes].iter().all(|size| size % 2 == 0);
        let ordered =
            64 <= self.min_bytes && self.min_bytes < self.average_bytes && self.average_bytes < self.max_bytes;
        if even
            && ordered
            && self.average_bytes.is_power_of_two()
            && self.average_bytes <= 4 << 20
            && self.max_bytes <= 16 << 20
        {
            return Ok(self);
        }
        Err(Error::Invalid(format!("chunk sizes {self:?} cannot be used by this version")))
    }
}

/// The name of a chunk: BLAKE3 of its plaintext, keyed with the vault's id key.
pub fn chunk_id(id_key: &SecretKey, plaintext: &[u8]) -> ChunkId {
    ChunkId(*blake3::keyed_hash(id_key.expose(), plaintext).as_bytes())
}

/// The tables of the cutting: made once per vault and shared by all chunkers.
pub struct Cutter {
    sizes: ChunkSizes,
    mask_small: u64,
    mask_large: u64,
    gear: Vec<u64>,
    gear_shifted: Vec<u64>,
}

impl Cutter {
    /// Tables for these sizes and seed.
    pub fn new(sizes: ChunkSizes, seed: u64) -> Self {
        let (mask_small, mask_large) = v2020::select_masks(sizes.average_bytes as usize, Normalization::Level1);
        let (gear, gear_shifted) = v2020::get_gear_with_seed(seed);
        Self { sizes, mask_small, mask_large, gear: gear.into_owned(), gear_shifted: gear_shifted.into_owned() }
    }

    /// The sizes.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// The length of the first chunk of `content`, which must hold at least the maximum size or the end of the blob.
    fn cut(&self, content: &[u8]) -> usize {
        let (_, length) = v2020::cut_gear(
            content,
            self.sizes.min_bytes as usize,
            self.sizes.average_bytes as usize,
            self.sizes.max_bytes as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        length
    }

    /// The same for content that may go on: `None` if the chunk may, too.
    fn cut_inside(&self, content: &[u8]) -> Option<usize> {
        let length = self.cut(content);
        // Whether a byte ends a chunk depends on those before it alone.
        (length < content.len() || content.len() >= self.sizes.max_bytes as usize).then_some(length)
    }
}

/// Cuts the content of one blob, which arrives in pieces of any size. Chunks are parts of the pieces, not copies of them, but for those
/// that begin in one piece and end in a later one.
pub struct Chunker<'a> {
    cutter: &'a Cutter,
    /// The begin of a chunk whose end has not come yet.
    rest: Bytes,
}

impl<'a> Chunker<'a> {
    /// A chunker at the start of a blob.
    pub fn new(cutter: &'a Cutter) -> Self {
        Self { cutter, rest: Bytes::new() }
    }

    /// Takes the next piece of the blob and returns the chunks that end in it.
    pub fn push(&mut self, mut piece: Bytes) -> Vec<Bytes> {
        let chunks = self.cut_off(&mut piece);
        if !piece.is_empty() {
            // A copy, so that a short rest does not keep a long piece in memory.
            self.rest = Bytes::copy_from_slice(&piece);
        }
        chunks
    }

    /// Takes the last piece of the blob, which may be empty, and returns all chunks that are left.
    pub fn finish(&mut self, mut last: Bytes) -> Vec<Bytes> {
        let mut chunks = self.cut_off(&mut last);
        for mut rest in [std::mem::take(&mut self.rest), last] {
            while !rest.is_empty() {
                chunks.push(rest.split_to(self.cutter.cut(&rest)));
            }
        }
        chunks
    }

    /// Cuts what can be cut whatever comes later. A rest is left in `self` or in `piece`, not in both.
    fn cut_off(&mut self, piece: &mut Bytes) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        while !self.rest.is_empty() {
            match self.cut_over_the_seam(piece) {
                Some(chunk) => chunks.push(chunk),
                None => return chunks,
            }
        }
        while let Some(length) = self.cutter.cut_inside(piece) {
            chunks.push(piece.split_to(length));
        }
        chunks
    }

    /// The chunk that began before this piece. What of the piece belongs to it is taken away.
    fn cut_over_the_seam(&mut self, piece: &mut Bytes) -> Option<Bytes> {
        let step = self.cutter.sizes.average_bytes as usize;
        let before = self.rest.len();
        let mut seam = BytesMut::with_capacity(before + piece.len().min(step));
        seam.extend_from_slice(&self.rest);
        let mut copied = 0;
        // Most chunks end soon: no more is copied than it takes to find out where.
        while copied < piece.len() {
            let until = piece.len().min(copied + step);
            seam.extend_from_slice(&piece[copied..until]);
            copied = until;
            let Some(length) = self.cutter.cut_inside(&seam) else { continue };
            // A cut at the last byte of the rest shows only now.
            self.rest.advance(length.min(before));
            piece.advance(length.saturating_sub(before));
            seam.truncate(length);
            return Some(seam.freeze());
        }
        piece.clear();
        self.rest = seam.freeze();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small_cutter() -> Cutter {
        Cutter::new(ChunkSizes { min_bytes: 64, average_bytes: 256, max_bytes: 1024 }, 42)
    }

    /// All pieces but the last come while more are expected.
    fn cut_all(cutter: &Cutter, pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut chunker = Chunker::new(cutter);
        let (last, before) = pieces.split_last().expect("there is a piece");
        let mut chunks: Vec<Bytes> =
            before.iter().flat_map(|piece| chunker.push(Bytes::copy_from_slice(piece))).collect();
        chunks.extend(chunker.finish(Bytes::copy_from_slice(last)));
        chunks
    }

    fn noise(length: usize, seed: u8) -> Vec<u8> {
        let mut content = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut content);
        content
    }

    proptest! {
        #[test]
        fn cuts_do_not_depend_on_how_the_content_arrives(
            length in 0usize..20_000,
            cuts in proptest::collection::vec(0usize..20_000, 0..8),
        ) {
            let cutter = small_cutter();
            let content = noise(length, 1);
            let mut edges: Vec<usize> = cuts.into_iter().filter(|cut| *cut < length).collect();
            edges.extend([0, length]);
            edges.sort_unstable();
            let pieces: Vec<&[u8]> = edges.windows(2).map(|edge| &content[edge[0]..edge[1]]).collect();
            let chunks = cut_all(&cutter, &pieces);
            prop_assert_eq!(&chunks, &cut_all(&cutter, &[&content]));
            prop_assert_eq!(chunks.concat(), content);
        }
    }

    #[test]
    fn a_change_in_the_middle_leaves_most_chunks_as_they_were() {
        let cutter = small_cutter();
        let before = noise(200_000, 1);
        let mut after = before.clone();
        after.splice(100_000..100_010, noise(500, 2));
        let old: std::collections::HashSet<Bytes> = cut_all(&cutter, &[&before]).into_iter().collect();
        let new = cut_all(&cutter, &[&after]);
        let added: usize = new.iter().filter(|chunk| !old.contains(*chunk)).map(Bytes::len).sum();
        assert!(added < 4_096, "{added} bytes are new after a change of 500");
    }

    #[test]
    fn another_seed_cuts_elsewhere() {
        let content = noise(100_000, 1);
        let sizes = small_cutter().sizes();
        let lengths = |seed| cut_all(&Cutter::new(sizes, seed), &[&content]).iter().map(Bytes::len).collect::<Vec<_>>();
        assert_ne!(lengths(1), lengths(2));
    }

    #[test]
    fn equal_content_has_one_name_under_one_key_only() {
        let (one, other) = (SecretKey::new([1; 32]), SecretKey::new([2; 32]));
        assert_eq!(chunk_id(&one, b"x"), chunk_id(&one, b"x"));
        assert_ne!(chunk_id(&one, b"x"), chunk_id(&other, b"x"));
    }
}
