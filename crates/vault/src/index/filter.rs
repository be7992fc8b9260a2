//! Filters: a few bits for each chunk of a run say that it is surely not there, so that a new chunk costs no block of every run.
//!
//! A filter is a Bloom filter of 10 bits an entry and 7 probes (about 1 % of absent names pass). Names are keyed hashes already, so two
//! words of a name are its two hash functions. The first word would not do: within a run it is nearly the same for neighbours.

use crate::item::ChunkId;

const BITS_PER_ENTRY: usize = 10;
const PROBES: u64 = 7;

/// The bytes of a filter over these names. At least one byte.
pub(super) fn build<'a>(ids: impl ExactSizeIterator<Item = &'a ChunkId>) -> Vec<u8> {
    let mut bits = vec![0; (ids.len() * BITS_PER_ENTRY).div_ceil(8).max(1)];
    for id in ids {
        for bit in probes(*id, bits.len()) {
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    bits
}

/// False if the name was surely not among those that the filter was built over.
pub(super) fn may_hold(filter: &[u8], id: ChunkId) -> bool {
    !filter.is_empty() && probes(id, filter.len()).all(|bit| filter[bit / 8] & (1 << (bit % 8)) != 0)
}

fn probes(id: ChunkId, bytes: usize) -> impl Iterator<Item = usize> {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&id.0[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let (first, second) = (word(8), word(16) | 1);
    let bits = bytes as u64 * 8;
    (0..PROBES).map(move |probe| (first.wrapping_add(probe.wrapping_mul(second)) % bits) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn a_filter_holds_all_that_went_in_and_little_else() {
        for count in [0, 1, 7, 10_000] {
            let ids: Vec<ChunkId> = (0..count).map(id).collect();
            let filter = build(ids.iter());
            assert!(ids.iter().all(|id| may_hold(&filter, *id)));
            let others = (1_000_000..1_010_000).filter(|number| may_hold(&filter, id(*number))).count();
            assert!(others < 200, "{others} of 10,000 absent names pass a filter of {count}");
        }
    }
}
