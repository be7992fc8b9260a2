//! Sorting on disk: listings whose order is not ours, and changes of which the last one counts. Memory is bounded by one run.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::BlobEntry;
use crate::manifest::OwnedKey;

/// Records of one run in memory.
const RUN_RECORDS: usize = 50_000;
/// Bytes of one run in memory: records with much metadata are few.
const RUN_BYTES: usize = 32 << 20;

/// What can be sorted on disk: it survives postcard as it is.
pub(crate) trait Sortable: Serialize + DeserializeOwned {
    /// Which comes first.
    fn order(&self, other: &Self) -> Ordering;

    /// About what it takes in memory.
    fn memory_bytes(&self) -> usize;
}

fn local(what: &str, error: std::io::Error) -> Error {
    Error::Local { what: what.to_owned(), error }
}

fn cannot_write(error: std::io::Error) -> Error {
    local("cannot write a scratch file for sorting", error)
}

fn cannot_read(error: std::io::Error) -> Error {
    local("cannot read a scratch file of sorted records", error)
}

/// Collects records in any order and gives them back in theirs.
pub(crate) struct Sorter<T> {
    scratch: PathBuf,
    run: Vec<T>,
    run_bytes: usize,
    runs: Vec<Records<T>>,
}

impl<T: Sortable> Sorter<T> {
    /// A sorter that spills into unnamed files in `scratch`.
    pub(crate) fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), run: Vec::new(), run_bytes: 0, runs: Vec::new() }
    }

    /// Takes a record.
    pub(crate) fn push(&mut self, record: T) -> Result<()> {
        self.run_bytes += record.memory_bytes();
        self.run.push(record);
        let is_full = self.run.len() >= RUN_RECORDS || self.run_bytes >= RUN_BYTES;
        if is_full { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_by(T::order);
        let mut file = ScratchWriter::new(&self.scratch)?;
        for record in self.run.drain(..) {
            file.push(&record)?;
        }
        self.runs.push(file.finish()?.into_records()?);
        self.run_bytes = 0;
        Ok(())
    }

    /// All records in order; those that compare equal in the order of their runs, and within a run as they were pushed.
    pub(crate) fn finish(mut self) -> Result<Sorted<T>> {
        self.run.sort_by(T::order);
        let mut sorted = Sorted { memory: self.run.into_iter(), runs: self.runs, heads: BinaryHeap::new() };
        for source in 0..=sorted.runs.len() {
            sorted.refill(source)?;
        }
        Ok(sorted)
    }
}

/// The merged runs of a [`Sorter`].
pub(crate) struct Sorted<T> {
    memory: std::vec::IntoIter<T>,
    runs: Vec<Records<T>>,
    heads: BinaryHeap<Head<T>>,
}

struct Head<T> {
    record: T,
    source: usize,
}

impl<T: Sortable> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<T: Sortable> Eq for Head<T> {}
impl<T: Sortable> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
/// The other way round: a heap gives its greatest first.
impl<T: Sortable> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.record.order(&self.record).then(other.source.cmp(&self.source))
    }
}

impl<T: Sortable> Sorted<T> {
    fn refill(&mut self, source: usize) -> Result<()> {
        let record = match self.runs.get_mut(source) {
            Some(run) => run.next()?,
            None => self.memory.next(),
        };
        if let Some(record) = record {
            self.heads.push(Head { record, source });
        }
        Ok(())
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<T>> {
        let Some(head) = self.heads.pop() else { return Ok(None) };
        self.refill(head.source)?;
        Ok(Some(head.record))
    }
}

/// Records on their way into a scratch file.
pub(crate) struct ScratchWriter<T> {
    file: BufWriter<File>,
    of: PhantomData<T>,
}

impl<T: Serialize> ScratchWriter<T> {
    /// An unnamed file in the folder `scratch`.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        std::fs::create_dir_all(scratch).map_err(cannot_write)?;
        let file = tempfile::tempfile_in(scratch).map_err(cannot_write)?;
        Ok(Self { file: BufWriter::new(file), of: PhantomData })
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &T) -> Result<()> {
        let bytes = postcard::to_stdvec(record).map_err(|e| cannot_write(std::io::Error::other(e)))?;
        self.file.write_all(&(bytes.len() as u32).to_le_bytes()).map_err(cannot_write)?;
        self.file.write_all(&bytes).map_err(cannot_write)
    }

    /// The file, to be read from its beginning.
    pub(crate) fn finish(self) -> Result<ScratchFile<T>> {
        let file = self.file.into_inner().map_err(|e| cannot_write(e.into_error()))?;
        Ok(ScratchFile { file, of: PhantomData })
    }
}

/// Records in a scratch file.
pub(crate) struct ScratchFile<T> {
    file: File,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> ScratchFile<T> {
    /// The records, in the order in which they were written. Only one such walk goes at a time: they share the file's position.
    pub(crate) fn walk(&self) -> Result<Records<T>> {
        self.file.try_clone().map_err(cannot_read).and_then(Records::of)
    }

    fn into_records(self) -> Result<Records<T>> {
        Records::of(self.file)
    }
}

/// A walk over the records of a scratch file.
pub(crate) struct Records<T> {
    file: BufReader<File>,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Records<T> {
    fn of(mut file: File) -> Result<Self> {
        file.rewind().map_err(cannot_read)?;
        Ok(Self { file: BufReader::new(file), of: PhantomData })
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<T>> {
        read_record(&mut self.file).map_err(cannot_read)
    }
}

fn read_record<T: DeserializeOwned>(run: &mut impl Read) -> std::io::Result<Option<T>> {
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

/// An entry of a listing, with what is not stored with it otherwise.
#[derive(Serialize, Deserialize)]
struct Listed {
    entry: BlobEntry,
    current_version: Option<String>,
}

impl Sortable for Listed {
    fn order(&self, other: &Self) -> Ordering {
        self.entry.key().cmp(&other.entry.key())
    }

    fn memory_bytes(&self) -> usize {
        memory_bytes(&self.entry) + self.current_version.as_ref().map_or(0, String::len)
    }
}

/// About what an entry takes in memory.
pub(crate) fn memory_bytes(entry: &BlobEntry) -> usize {
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

/// Collects entries in any order and gives them back in key order.
pub struct EntrySorter(Sorter<Listed>);

impl EntrySorter {
    /// A sorter that spills into unnamed files in `scratch`.
    pub fn new(scratch: &Path) -> Self {
        Self(Sorter::new(scratch))
    }

    /// Takes an entry.
    pub fn push(&mut self, mut entry: BlobEntry) -> Result<()> {
        let current_version = entry.current_version.take();
        self.0.push(Listed { entry, current_version })
    }

    /// All entries in key order; of several with one key the first.
    pub fn finish(self) -> Result<SortedEntries> {
        Ok(SortedEntries { sorted: self.0.finish()?, last: None })
    }
}

/// The merged runs of an [`EntrySorter`].
pub struct SortedEntries {
    sorted: Sorted<Listed>,
    last: Option<OwnedKey>,
}

impl SortedEntries {
    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<BlobEntry>> {
        while let Some(Listed { mut entry, current_version }) = self.sorted.next()? {
            if self.last.as_ref().is_some_and(|last| last.as_key() == entry.key()) {
                continue;
            }
            self.last = Some(OwnedKey::from(entry.key()));
            entry.current_version = current_version;
            return Ok(Some(entry));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_scratch_file_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0..200_u32) {
            let _ = read_record::<Listed>(&mut bytes.as_slice());
            let _ = read_record::<Listed>(&mut [length.to_le_bytes().as_slice(), &bytes].concat().as_slice());
        }
    }

    #[test]
    fn entries_come_out_in_key_order_each_once() {
        let scratch = tempfile::tempdir().unwrap();
        let mut sorter = EntrySorter::new(scratch.path());
        let count = 2 * RUN_RECORDS + 10;
        for number in 0..count {
            let name = format!("{:06}", (number * 7919) % count);
            let current_version = Some(format!("version of {name}"));
            sorter.push(BlobEntry { container: "c".into(), name, current_version, ..BlobEntry::default() }).unwrap();
        }
        sorter.push(BlobEntry { container: "c".into(), name: "000001".into(), ..BlobEntry::default() }).unwrap();
        let mut sorted = sorter.finish().unwrap();
        for number in 0..count {
            let entry = sorted.next_entry().unwrap().unwrap();
            assert_eq!(entry.name, format!("{number:06}"));
            assert_eq!(entry.current_version, Some(format!("version of {number:06}")));
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
            assert!(sorter.0.run.len() <= RUN_BYTES >> 20, "{} entries in memory", sorter.0.run.len());
        }
        assert!(sorter.0.runs.len() >= 3);
        let mut sorted = sorter.finish().unwrap();
        for number in 0..entries {
            assert_eq!(sorted.next_entry().unwrap().unwrap().name, format!("{number:03}"));
        }
    }
}
