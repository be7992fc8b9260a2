//! Blobs that are computed instead of stored: a container of any number of them takes no memory. Names, sizes and contents
//! depend on the specification and the blob's index alone, so that two emulators with the same specification hold the same
//! bytes. Nothing here may depend on time, order of calls or machine.

use std::sync::Arc;

use bytes::Bytes;

use super::blob::{Blob, BlobKind, Content, ContentHeaders};
use crate::clock;

/// Contents are made in pieces of this size, each from its own seed, so that a range costs what it is long.
pub(crate) const PIECE_BYTES: u64 = 64 * 1024;

/// Blobs per folder of a synthetic container.
const FOLDER_BLOBS: u64 = 10_000;

/// A container of computed blobs.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticSpec {
    /// How many blobs.
    pub count: u64,
    /// Bytes of the smallest blob.
    pub min_bytes: u64,
    /// Bytes of the largest blob; sizes are spread evenly between the two.
    pub max_bytes: u64,
    /// Another seed gives other sizes and contents under the same names.
    pub seed: u64,
    /// Share of the blobs, 0 to 1, that hold text, which compresses about three to one; the others don't compress.
    pub text_share: f64,
}

impl Default for SyntheticSpec {
    fn default() -> SyntheticSpec {
        SyntheticSpec { count: 1_000, min_bytes: 4 * 1024, max_bytes: 64 * 1024, seed: 1, text_share: 0.5 }
    }
}

/// The content of one computed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntheticContent {
    pub(crate) key: u64,
    pub(crate) len_bytes: u64,
    pub(crate) text: bool,
}

/// One step of SplitMix64: a full-period generator whose outputs are well mixed.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SyntheticContent {
    /// The bytes of `from..to`, which must lie inside one piece.
    pub(crate) fn piece(&self, from: u64, to: u64) -> Bytes {
        let number = from / PIECE_BYTES;
        let start = number * PIECE_BYTES;
        let seed = mix(self.key ^ mix(number));
        let needed = (to - start) as usize;
        let piece = if self.text { text_piece(seed, needed) } else { noise_piece(seed, needed) };
        Bytes::from(piece).slice((from - start) as usize..needed)
    }
}

fn noise_piece(seed: u64, len: usize) -> Vec<u8> {
    let mut piece = vec![0u8; len.next_multiple_of(8)];
    let mut state = seed;
    for word in piece.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    piece.truncate(len);
    piece
}

const WORDS: [&str; 32] = [
    "account ",
    "archive ",
    "backup ",
    "between ",
    "blob ",
    "business ",
    "change ",
    "container ",
    "copy ",
    "customer ",
    "date ",
    "delivery ",
    "document ",
    "every ",
    "file ",
    "invoice ",
    "letter ",
    "market ",
    "number ",
    "office ",
    "order ",
    "page ",
    "payment ",
    "people ",
    "project ",
    "quarter ",
    "report ",
    "restore ",
    "service ",
    "storage ",
    "value ",
    "week.\n",
];

fn text_piece(seed: u64, len: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(len + 16);
    let mut state = seed;
    while piece.len() < len {
        state = state.wrapping_add(1);
        let mut choices = mix(state);
        for _ in 0..8 {
            piece.extend_from_slice(WORDS[(choices & 31) as usize].as_bytes());
            choices >>= 5;
        }
        // A number now and then keeps the text from being a mere sequence of known words.
        piece.extend_from_slice(format!("{:06} ", choices & 0xf_ffff).as_bytes());
    }
    piece.truncate(len);
    piece
}

/// A specification with the times of its container.
#[derive(Debug, Clone)]
pub(crate) struct Synthetic {
    pub(crate) spec: SyntheticSpec,
    pub(crate) made_us: i64,
}

impl Synthetic {
    /// The name of the blob with this index; names sort like indices.
    pub(crate) fn name(&self, index: u64) -> String {
        let extension = if self.is_text(index) { "txt" } else { "bin" };
        format!("d{:06}/b{index:010}.{extension}", index / FOLDER_BLOBS)
    }

    /// The index of a name, if it is one of this container's.
    pub(crate) fn index(&self, name: &str) -> Option<u64> {
        let digits = name.get(9..19)?;
        let index: u64 = digits.parse().ok()?;
        (index < self.spec.count && self.name(index) == name).then_some(index)
    }

    /// The first index whose name is not less than this text.
    pub(crate) fn lower_bound(&self, from: &str) -> u64 {
        let (mut low, mut high) = (0, self.spec.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle).as_str() < from {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn key(&self, index: u64, generation: u64) -> u64 {
        mix(self.spec.seed ^ mix(index.wrapping_add(mix(generation))))
    }

    fn is_text(&self, index: u64) -> bool {
        let draw = mix(self.key(index, 0) ^ 0x7465_7874) >> 11;
        (draw as f64 / (1u64 << 53) as f64) < self.spec.text_share
    }

    /// What the blob of an index holds; generation 0 is what it was made with, others are its later contents.
    pub(crate) fn content(&self, index: u64, generation: u64) -> SyntheticContent {
        let key = self.key(index, generation);
        let spread = self.spec.max_bytes.saturating_sub(self.spec.min_bytes);
        // The size stays the same in all generations: a changed blob need not change its length.
        let extra = if spread == u64::MAX { mix(self.key(index, 0)) } else { mix(self.key(index, 0)) % (spread + 1) };
        SyntheticContent { key, len_bytes: self.spec.min_bytes + extra, text: self.is_text(index) }
    }

    /// The whole blob of an index as it was made.
    pub(crate) fn blob(&self, index: u64) -> Blob {
        let content = self.content(index, 0);
        let content_type = if content.text { "text/plain" } else { "application/octet-stream" };
        let etag = clock::ticks(self.made_us).wrapping_add((self.key(index, 0) >> 24) as i64);
        Blob {
            headers: ContentHeaders { content_type: Some(content_type.to_owned()), ..ContentHeaders::default() },
            ..Blob::new(BlobKind::Block, Content::Synthetic(content), format!("0x{etag:X}"), self.made_us)
        }
    }

    pub(crate) fn blob_arc(&self, index: u64) -> Arc<Blob> {
        Arc::new(self.blob(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synthetic(count: u64) -> Synthetic {
        Synthetic { spec: SyntheticSpec { count, ..SyntheticSpec::default() }, made_us: 0 }
    }

    #[test]
    fn names_sort_like_indices_and_lead_back() {
        let synthetic = synthetic(10_000_000);
        let indices = [0, 1, 9_999, 10_000, 123_456, 9_999_999];
        let names: Vec<_> = indices.iter().map(|index| synthetic.name(*index)).collect();
        assert!(names.is_sorted());
        for (index, name) in indices.iter().zip(&names) {
            assert_eq!(synthetic.index(name), Some(*index));
            assert_eq!(synthetic.lower_bound(name), *index);
        }
        assert_eq!(synthetic.index("d000000/b0000000000.xyz"), None);
        assert_eq!(synthetic.index("né"), None);
        assert_eq!(synthetic.lower_bound("z"), 10_000_000);
        assert_eq!(synthetic.lower_bound(""), 0);
    }

    #[test]
    fn a_part_of_a_piece_is_the_same_bytes_as_in_the_whole() {
        for text in [false, true] {
            let content = SyntheticContent { key: 7, len_bytes: 200_000, text };
            let whole = content.piece(PIECE_BYTES, 2 * PIECE_BYTES);
            assert_eq!(content.piece(PIECE_BYTES + 5, PIECE_BYTES + 1_005), whole.slice(5..1_005));
        }
    }

    #[test]
    fn another_generation_has_other_bytes_and_the_same_length() {
        let synthetic = synthetic(10);
        let (before, after) = (synthetic.content(3, 0), synthetic.content(3, 1));
        assert_eq!(before.len_bytes, after.len_bytes);
        assert_ne!(before.piece(0, 64), after.piece(0, 64));
    }

    #[test]
    fn the_share_of_text_is_about_what_was_asked_for() {
        let spec = SyntheticSpec { count: 10_000, text_share: 0.25, ..SyntheticSpec::default() };
        let synthetic = Synthetic { spec, made_us: 0 };
        let text = (0..10_000).filter(|index| synthetic.is_text(*index)).count();
        assert!((2_200..2_800).contains(&text), "{text}");
    }
}
