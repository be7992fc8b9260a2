//! The content of a page blob: a length and the written extents, everything else being zeros that take no memory.
//! Extents never overlap.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Bytes of a page; all offsets and lengths of page operations are multiples of it.
pub(crate) const PAGE_BYTES: u64 = 512;

/// A sparse content.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageMap {
    pub(crate) len_bytes: u64,
    extents: BTreeMap<u64, Bytes>,
}

impl PageMap {
    pub(crate) fn new(len_bytes: u64) -> PageMap {
        PageMap { len_bytes, extents: BTreeMap::new() }
    }

    /// The written extents that touch `from..to`, cut to it, in order.
    pub(crate) fn extents(&self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let before = self.extents.range(..from).next_back().map(|(start, _)| *start).unwrap_or(from);
        self.extents
            .range(before..to.max(before))
            .filter_map(|(start, bytes)| {
                let end = start + bytes.len() as u64;
                let (low, high) = (from.max(*start), to.min(end));
                (low < high).then(|| (low, bytes.slice((low - start) as usize..(high - start) as usize)))
            })
            .collect()
    }

    /// Forgets what was written in `from..to`.
    pub(crate) fn clear(&mut self, from: u64, to: u64) {
        let touched = self.extents(from, to);
        for (low, piece) in touched {
            let high = low + piece.len() as u64;
            let Some((start, whole)) = self.extents.range(..=low).next_back().map(|(s, b)| (*s, b.clone())) else {
                continue;
            };
            self.extents.remove(&start);
            let end = start + whole.len() as u64;
            if start < low {
                self.extents.insert(start, whole.slice(..(low - start) as usize));
            }
            if high < end {
                self.extents.insert(high, whole.slice((high - start) as usize..));
            }
        }
    }

    /// Writes bytes at an offset.
    pub(crate) fn write(&mut self, offset: u64, bytes: Bytes) {
        self.clear(offset, offset + bytes.len() as u64);
        if !bytes.is_empty() {
            self.extents.insert(offset, bytes);
        }
    }

    /// Changes the length; what lies beyond is forgotten.
    pub(crate) fn resize(&mut self, len_bytes: u64) {
        if len_bytes < self.len_bytes {
            self.clear(len_bytes, self.len_bytes);
        }
        self.len_bytes = len_bytes;
    }

    /// The written ranges in `from..to` as (first byte, last byte), neighbours joined.
    pub(crate) fn ranges(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (start, bytes) in self.extents(from, to) {
            let last = start + bytes.len() as u64 - 1;
            match ranges.last_mut() {
                Some(range) if range.1 + 1 == start => range.1 = last,
                _ => ranges.push((start, last)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8, pages: usize) -> Bytes {
        Bytes::from(vec![byte; pages * 512])
    }

    #[test]
    fn a_clear_in_the_middle_splits_an_extent() {
        let mut map = PageMap::new(4096);
        map.write(0, page(1, 4));
        map.clear(512, 1024);
        assert_eq!(map.ranges(0, 4096), [(0, 511), (1024, 2047)]);
    }

    #[test]
    fn the_last_write_wins_and_neighbours_join() {
        let mut map = PageMap::new(4096);
        map.write(0, page(1, 4));
        map.write(512, page(2, 1));
        assert_eq!(map.ranges(0, 4096), [(0, 2047)]);
        let bytes: Vec<u8> = map.extents(0, 4096).iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(bytes, [1, 2, 1]);
        assert_eq!(map.ranges(600, 700), [(600, 699)]);
    }

    #[test]
    fn shrinking_forgets_the_rest_for_good() {
        let mut map = PageMap::new(2048);
        map.write(0, page(1, 4));
        map.resize(1024);
        map.resize(2048);
        assert_eq!(map.ranges(0, 2048), [(0, 1023)]);
    }
}
