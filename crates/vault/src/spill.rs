//! Sets of small records of one length, sorted on disk: for whatever is too many to be held in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Bytes of records in memory before they are written out.
const MEMORY_BYTES: usize = 16 << 20;

fn local(error: std::io::Error) -> Error {
    Error::Local { what: "cannot use a scratch file for sorting".to_owned(), error }
}

/// Collects records of `N` bytes in any order, also several times.
pub struct Spill<const N: usize> {
    scratch: PathBuf,
    memory: Vec<[u8; N]>,
    files: Vec<File>,
}

impl<const N: usize> Spill<N> {
    /// An empty set that spills into unnamed files in the folder `scratch`.
    pub fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), memory: Vec::new(), files: Vec::new() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: [u8; N]) -> Result<()> {
        self.memory.push(record);
        if self.memory.len() * N >= MEMORY_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        self.memory.sort_unstable();
        self.memory.dedup();
        let file = write_file(&self.scratch, self.memory.iter().map(|record| Ok(*record)))?.0;
        self.memory.clear();
        self.files.push(file);
        Ok(())
    }

    /// The records in order, each once.
    pub fn finish(mut self) -> Result<Sorted<N>> {
        self.memory.sort_unstable();
        self.memory.dedup();
        let mut sources: Vec<Box<dyn Iterator<Item = Result<[u8; N]>> + Send>> = Vec::new();
        for file in self.files {
            sources.push(Box::new(Records { file: BufReader::new(file) }));
        }
        sources.push(Box::new(self.memory.into_iter().map(Ok)));
        Sorted::merge(&self.scratch, sources)
    }
}

fn write_file<const N: usize>(scratch: &Path, records: impl Iterator<Item = Result<[u8; N]>>) -> Result<(File, u64)> {
    std::fs::create_dir_all(scratch).map_err(local)?;
    let mut file = BufWriter::new(tempfile::tempfile_in(scratch).map_err(local)?);
    let mut count = 0;
    for record in records {
        file.write_all(&record?).map_err(local)?;
        count += 1;
    }
    let mut file = file.into_inner().map_err(|e| local(e.into_error()))?;
    file.rewind().map_err(local)?;
    Ok((file, count))
}

struct Records<const N: usize> {
    file: BufReader<File>,
}

impl<const N: usize> Iterator for Records<N> {
    type Item = Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = [0; N];
        match self.file.read_exact(&mut record) {
            Ok(()) => Some(Ok(record)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(e) => Some(Err(local(e))),
        }
    }
}

/// Records in order, each once, in a scratch file.
pub struct Sorted<const N: usize> {
    file: File,
    count: u64,
}

impl<const N: usize> Sorted<N> {
    /// No records.
    pub fn empty(scratch: &Path) -> Result<Self> {
        Self::merge(scratch, Vec::new())
    }

    fn merge(scratch: &Path, sources: Vec<Box<dyn Iterator<Item = Result<[u8; N]>> + Send + '_>>) -> Result<Self> {
        let (file, count) = write_file(scratch, Merge::new(sources)?)?;
        Ok(Self { file, count })
    }

    /// The union with another.
    pub fn union(self, other: Self, scratch: &Path) -> Result<Self> {
        let (mine, others) = (self.into_iter()?, other.into_iter()?);
        Self::merge(scratch, vec![Box::new(mine), Box::new(others)])
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All records in order. Only one such walk of a set goes at a time: they share the file's position.
    pub fn iter(&mut self) -> Result<impl Iterator<Item = Result<[u8; N]>> + Send + use<N>> {
        self.file.rewind().map_err(local)?;
        let file = self.file.try_clone().map_err(local)?;
        Ok(Records { file: BufReader::new(file) })
    }

    fn into_iter(mut self) -> Result<impl Iterator<Item = Result<[u8; N]>> + Send> {
        self.file.rewind().map_err(local)?;
        Ok(Records { file: BufReader::new(self.file) })
    }
}

/// Merges sorted records; equal ones come out once.
struct Merge<'a, const N: usize> {
    sources: Vec<Box<dyn Iterator<Item = Result<[u8; N]>> + Send + 'a>>,
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
    last: Option<[u8; N]>,
}

impl<'a, const N: usize> Merge<'a, N> {
    fn new(sources: Vec<Box<dyn Iterator<Item = Result<[u8; N]>> + Send + 'a>>) -> Result<Self> {
        let mut merge = Self { sources, heads: BinaryHeap::new(), last: None };
        for number in 0..merge.sources.len() {
            merge.refill(number)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, number: usize) -> Result<()> {
        if let Some(record) = self.sources[number].next() {
            self.heads.push(Reverse((record?, number)));
        }
        Ok(())
    }
}

impl<const N: usize> Iterator for Merge<'_, N> {
    type Item = Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(Reverse((record, number))) = self.heads.pop() {
            if let Err(e) = self.refill(number) {
                return Some(Err(e));
            }
            if self.last != Some(record) {
                self.last = Some(record);
                return Some(Ok(record));
            }
        }
        None
    }
}

/// Walks a sorted set beside questions that come in order, and tells for each whether it is in the set.
pub struct Beside<const N: usize, I: Iterator<Item = Result<[u8; N]>>> {
    records: std::iter::Peekable<I>,
}

impl<const N: usize, I: Iterator<Item = Result<[u8; N]>>> Beside<N, I> {
    /// A walk over `records`.
    pub fn new(records: I) -> Self {
        Self { records: records.peekable() }
    }

    /// Whether the set holds `record`, which is not less than the one asked for before.
    pub fn holds(&mut self, record: &[u8; N]) -> Result<bool> {
        loop {
            match self.records.peek() {
                None => return Ok(false),
                Some(Ok(there)) if there < record => drop(self.records.next()),
                Some(Ok(there)) => return Ok(there == record),
                Some(Err(_)) => {
                    return match self.records.next() {
                        Some(Err(e)) => Err(e),
                        _ => Err(Error::Internal("a scratch file changed its mind".into())),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_out_sorted_each_once_and_are_found(
            records in proptest::collection::vec(any::<[u8; 2]>(), 0..400),
            spills in proptest::collection::vec(any::<bool>(), 400),
            more in proptest::collection::vec(any::<[u8; 2]>(), 0..50),
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let mut spill = Spill::new(scratch.path());
            for (record, writes_out) in records.iter().zip(spills) {
                spill.push(*record).unwrap();
                if writes_out { spill.write_out().unwrap(); }
            }
            let mut other = Spill::new(scratch.path());
            for record in &more { other.push(*record).unwrap(); }
            let mut sorted = spill.finish().unwrap().union(other.finish().unwrap(), scratch.path()).unwrap();
            let expected: BTreeSet<[u8; 2]> = records.iter().chain(&more).copied().collect();
            let found: Vec<[u8; 2]> = sorted.iter().unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(found, expected.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(sorted.len(), expected.len() as u64);
            let mut beside = Beside::new(sorted.iter().unwrap());
            for number in 0..=u16::MAX {
                let record = number.to_be_bytes();
                prop_assert_eq!(beside.holds(&record).unwrap(), expected.contains(&record));
            }
        }
    }
}
