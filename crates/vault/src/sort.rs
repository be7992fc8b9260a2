//! Sorting a listing on disk, for endpoints whose order is not ours. Memory is bounded by one run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::item::BlobEntry;
use crate::manifest::OwnedKey;

/// Entries of one run in memory.
const RUN_ENTRIES: usize = 50_000;
/// Bytes of one run in memory: entries with much metadata are few.
const RUN_BYTES: usize = 32 << 20;

/// Collects entries in any order and gives them back in key order.
pub struct EntrySorter {
    scratch: PathBuf,
    run: Vec<BlobEntry>,
    run_bytes: usize,
    runs: Vec<BufReader<File>>,
}

/// About what an entry takes in memory.
fn memory_bytes(entry: &BlobEntry) -> usize {
    let headers = &entry.headers;
    let texts = [
        &entry.version,
        &headers.content_type,
        &headers.content_encoding,
        &headers.content_language,
        &headers.content_disposition,
        &headers.cache_control,
        &entry.tier,
        &entry.encryption_scope,
    ];
    let pairs = entry.metadata.iter().chain(&entry.tags);
    size_of::<BlobEntry>()
        + entry.container.len()
        + entry.name.len()
        + entry.etag.len()
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
        + pairs.map(|(name, value)| 2 * size_of::<String>() + name.len() + value.len()).sum::<usize>()
}

fn local(what: &str, error: std::io::Error) -> Error {
    Error::Local { what: what.to_owned(), error }
}

impl EntrySorter {
    /// A sorter that spills into unnamed files in `scratch`.
    pub fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), run: Vec::new(), run_bytes: 0, runs: Vec::new() }
    }

    /// Takes an entry.
    pub fn push(&mut self, entry: BlobEntry) -> Result<()> {
        self.run_bytes += memory_bytes(&entry);
        self.run.push(entry);
        let is_full = self.run.len() >= RUN_ENTRIES || self.run_bytes >= RUN_BYTES;
        if is_full { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_by(|a, b| a.key().cmp(&b.key()));
        let write = |entries: &[BlobEntry]| -> std::io::Result<File> {
            std::fs::create_dir_all(&self.scratch)?;
            let mut file = BufWriter::new(tempfile::tempfile_in(&self.scratch)?);
            for entry in entries {
                let bytes = postcard::to_stdvec(entry).map_err(std::io::Error::other)?;
                file.write_all(&(bytes.len() as u32).to_le_bytes())?;
                file.write_all(&bytes)?;
            }
            let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(file)
        };
        let file = write(&self.run).map_err(|e| local("cannot write a scratch file for sorting a listing", e))?;
        self.runs.push(BufReader::new(file));
        self.run.clear();
        self.run_bytes = 0;
        Ok(())
    }

    /// All entries in key order; of several with one key the one that was pushed last in its run.
    pub fn finish(mut self) -> Result<SortedEntries> {
        self.run.sort_by(|a, b| a.key().cmp(&b.key()));
        let mut sorted =
            SortedEntries { memory: self.run.into_iter(), runs: self.runs, heads: BinaryHeap::new(), last: None };
        for source in 0..=sorted.runs.len() {
            sorted.refill(source)?;
        }
        Ok(sorted)
    }
}

/// The merged runs of an [`EntrySorter`].
pub struct SortedEntries {
    memory: std::vec::IntoIter<BlobEntry>,
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<OwnedKey>,
}

struct Head {
    key: OwnedKey,
    source: usize,
    entry: BlobEntry,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.key, self.source).cmp(&(&other.key, other.source))
    }
}

impl SortedEntries {
    fn refill(&mut self, source: usize) -> Result<()> {
        let entry = match self.runs.get_mut(source) {
            Some(run) => read_entry(run).map_err(|e| local("cannot read a scratch file of a sorted listing", e))?,
            None => self.memory.next(),
        };
        if let Some(entry) = entry {
            self.heads.push(Reverse(Head { key: OwnedKey::from(entry.key()), source, entry }));
        }
        Ok(())
    }

    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<BlobEntry>> {
        while let Some(Reverse(head)) = self.heads.pop() {
            self.refill(head.source)?;
            if self.last.as_ref() != Some(&head.key) {
                self.last = Some(head.key);
                return Ok(Some(head.entry));
            }
        }
        Ok(None)
    }
}

fn read_entry(run: &mut impl Read) -> std::io::Result<Option<BlobEntry>> {
    let mut length = [0; 4];
    match run.read_exact(&mut length) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let length = u32::from_le_bytes(length);
    let mut bytes = Vec::new();
    // Memory follows what is there, not what is announced.
    if run.take(length.into()).read_to_end(&mut bytes)? < length as usize {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map(Some).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_scratch_file_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0..200_u32) {
            let _ = read_entry(&mut bytes.as_slice());
            let _ = read_entry(&mut [length.to_le_bytes().as_slice(), &bytes].concat().as_slice());
        }
    }

    #[test]
    fn entries_come_out_in_key_order_each_once() {
        let scratch = tempfile::tempdir().unwrap();
        let mut sorter = EntrySorter::new(scratch.path());
        let count = 2 * RUN_ENTRIES + 10;
        for number in 0..count {
            let name = format!("{:06}", (number * 7919) % count);
            sorter.push(BlobEntry { container: "c".into(), name, ..BlobEntry::default() }).unwrap();
        }
        sorter.push(BlobEntry { container: "c".into(), name: "000001".into(), ..BlobEntry::default() }).unwrap();
        let mut sorted = sorter.finish().unwrap();
        for number in 0..count {
            assert_eq!(sorted.next_entry().unwrap().unwrap().name, format!("{number:06}"));
        }
        assert!(sorted.next_entry().unwrap().is_none());
    }

    #[test]
    fn entries_with_much_metadata_make_runs_of_few() {
        let scratch = tempfile::tempdir().unwrap();
        let mut sorter = EntrySorter::new(scratch.path());
        let entries = 3 * RUN_BYTES / (1 << 20);
        for number in (0..entries).rev() {
            let metadata = vec![("note".to_owned(), "x".repeat(1 << 20))];
            let name = format!("{number:03}");
            sorter.push(BlobEntry { container: "c".into(), name, metadata, ..BlobEntry::default() }).unwrap();
            assert!(sorter.run.len() <= RUN_BYTES >> 20, "{} entries in memory", sorter.run.len());
        }
        assert!(sorter.runs.len() >= 3);
        let mut sorted = sorter.finish().unwrap();
        for number in 0..entries {
            assert_eq!(sorted.next_entry().unwrap().unwrap().name, format!("{number:03}"));
        }
    }
}
