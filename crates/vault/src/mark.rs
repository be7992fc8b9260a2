//! Marking: every chunk that some manifests need, as sorted ids on disk. Pages that several manifests share are read once; memory does not
//! grow with their number.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::item::ChunkId;
use crate::manifest::{Reference, references};
use crate::monitor::Monitor;
use crate::read::{ChunkReader, decode_list};
use crate::spill::{Beside, Sorted, Spill};

/// Pages and lists that are read together.
const READ_TOGETHER: usize = 2048;
/// How a chunk of the frontier is read: a page, or a list of this depth.
const PAGE: u8 = 0;

/// Chunks that something needs.
pub struct Marks {
    scratch: PathBuf,
    /// Pages and lists.
    metadata: Sorted<32>,
    /// Content of blobs.
    content: Sorted<32>,
}

/// Where a manifest begins: its root page, and pages beside it that are needed as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MarkRoot {
    /// The topmost page of the manifest.
    pub page: Option<ChunkId>,
    /// Metadata chunks that refer to nothing.
    pub leaves: Vec<ChunkId>,
}

impl Marks {
    /// No chunk yet. `scratch` is a folder for scratch files.
    pub fn new(scratch: &Path) -> Result<Self> {
        let (metadata, content) = (Sorted::empty(scratch)?, Sorted::empty(scratch)?);
        Ok(Self { scratch: scratch.to_owned(), metadata, content })
    }

    /// Marks everything that these manifests need. What is marked already is not read again.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a page cannot be read: what lies below it is unknown then.
    pub async fn add(&mut self, reader: &ChunkReader, roots: &[MarkRoot], monitor: &dyn Monitor) -> Result<()> {
        let mut frontier = Spill::<33>::new(&self.scratch);
        let mut leaves = Spill::<32>::new(&self.scratch);
        for root in roots {
            if let Some(page) = root.page {
                frontier.push(frontier_record(page, PAGE))?;
            }
            for leaf in &root.leaves {
                leaves.push(leaf.0)?;
            }
        }
        let mut content = Spill::<32>::new(&self.scratch);
        loop {
            let mut level = frontier.finish()?;
            if level.is_empty() {
                break;
            }
            frontier = Spill::new(&self.scratch);
            let mut read = Spill::<32>::new(&self.scratch);
            let mut batch: Vec<(ChunkId, u8)> = Vec::new();
            let mut known = Beside::new(self.metadata.iter()?);
            let mut records = level.iter()?;
            loop {
                if let Some(reason) = monitor.should_stop() {
                    return Err(Error::Cancelled(reason));
                }
                let record = records.next().transpose()?;
                if let Some(record) = &record {
                    let (id, how) = of_frontier(record);
                    if !known.holds(&id.0)? {
                        read.push(id.0)?;
                        batch.push((id, how));
                    }
                }
                if batch.len() >= READ_TOGETHER || (record.is_none() && !batch.is_empty()) {
                    expand(reader, &std::mem::take(&mut batch), &mut frontier, &mut content).await?;
                }
                if record.is_none() {
                    break;
                }
            }
            let before = std::mem::replace(&mut self.metadata, Sorted::empty(&self.scratch)?);
            self.metadata = before.union(read.finish()?, &self.scratch)?;
        }
        let before = std::mem::replace(&mut self.metadata, Sorted::empty(&self.scratch)?);
        self.metadata = before.union(leaves.finish()?, &self.scratch)?;
        let before = std::mem::replace(&mut self.content, Sorted::empty(&self.scratch)?);
        self.content = before.union(content.finish()?, &self.scratch)?;
        Ok(())
    }

    /// Pages and lists, in order.
    pub fn metadata(&mut self) -> Result<impl Iterator<Item = Result<[u8; 32]>> + Send + use<>> {
        self.metadata.iter()
    }

    /// Chunks of content, in order.
    pub fn content(&mut self) -> Result<impl Iterator<Item = Result<[u8; 32]>> + Send + use<>> {
        self.content.iter()
    }

    /// How many chunks are marked.
    pub fn len(&self) -> u64 {
        self.metadata.len() + self.content.len()
    }

    /// Nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads pages and lists, and notes what they refer to.
async fn expand(
    reader: &ChunkReader,
    batch: &[(ChunkId, u8)],
    frontier: &mut Spill<33>,
    content: &mut Spill<32>,
) -> Result<()> {
    let ids: HashSet<ChunkId> = batch.iter().map(|(id, _)| *id).collect();
    let chunks = reader.chunks(&ids).await?;
    for (id, how) in batch {
        let chunk =
            chunks.get(id).ok_or_else(|| Error::Internal(format!("chunk {id} was fetched and is not there")))?;
        if *how == PAGE {
            for reference in references(*id, chunk)? {
                match reference {
                    Reference::Page(page) => frontier.push(frontier_record(page, PAGE))?,
                    Reference::List { root, depth } => frontier.push(frontier_record(root, depth))?,
                    Reference::Content(id) => content.push(id.0)?,
                }
            }
        } else {
            for listed in decode_list(*id, chunk)? {
                match how {
                    1 => content.push(listed.0)?,
                    deeper => frontier.push(frontier_record(listed, deeper - 1))?,
                }
            }
        }
    }
    Ok(())
}

fn frontier_record(id: ChunkId, how: u8) -> [u8; 33] {
    let mut record = [0; 33];
    record[..32].copy_from_slice(&id.0);
    record[32] = how;
    record
}

fn of_frontier(record: &[u8; 33]) -> (ChunkId, u8) {
    let mut id = [0; 32];
    id.copy_from_slice(&record[..32]);
    (ChunkId(id), record[32])
}
