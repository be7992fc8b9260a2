//! Whether what a restore needs of the vault is there: every chunk in a pack that exists and is long enough. Content is read only where a pack
//! was found broken.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::item::{ChunkId, Content, Item};
use crate::monitor::Monitor;
use crate::pack::{Location, PackId};
use crate::store::StoreErrorKind;
use crate::vault::Vault;

use super::stop_if_asked;

/// Chunks that are looked up together.
const BATCH: usize = 4096;
/// Blobs that are named.
const NAMED: usize = 10;

/// Looks up the chunks of blob after blob.
pub(super) struct Needed<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    /// The index was read anew.
    has_refreshed: bool,
    /// Lengths of the packs that there are.
    packs: HashMap<PackId, Option<u64>>,
    /// Chunks to be looked up, each with its blob's place in `blobs`.
    chunks: Vec<(ChunkId, usize)>,
    blobs: Vec<String>,
    /// The blob that was counted last: its chunks may be looked up in several turns.
    counted: Option<String>,
    /// Some of the blobs of which something is lost, and why.
    pub(super) lost: Vec<String>,
    pub(super) lost_in_all: u64,
}

impl<'a> Needed<'a> {
    pub(super) fn new(vault: &'a Vault, monitor: &'a dyn Monitor) -> Self {
        Self {
            vault,
            monitor,
            has_refreshed: false,
            packs: HashMap::new(),
            chunks: Vec::new(),
            blobs: Vec::new(),
            counted: None,
            lost: Vec::new(),
            lost_in_all: 0,
        }
    }

    /// Looks up what the blob's content needs, now or with others later.
    pub(super) async fn add(&mut self, item: &Item) -> Result<()> {
        if matches!(item.content, Content::Empty | Content::AtSource { .. }) {
            return Ok(());
        }
        self.blobs.push(item.entry.display_name());
        let vault = self.vault;
        let mut names = vault.reader.content(&item.content);
        loop {
            match names.next().await {
                Ok(Some(id)) => self.chunks.push((id, self.blobs.len() - 1)),
                Ok(None) => return Ok(()),
                // A list of chunks is lost.
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    let blob = item.entry.display_name();
                    self.lose(&blob, &e);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
            if self.chunks.len() >= BATCH {
                self.look_up().await?;
                self.blobs.push(item.entry.display_name());
            }
        }
    }

    /// Looks up what is left.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.look_up().await
    }

    async fn look_up(&mut self) -> Result<()> {
        let (chunks, blobs) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.blobs));
        let ids: HashSet<ChunkId> = chunks.iter().map(|(id, _)| *id).collect();
        let found = self.vault.reader.find(&ids).await?;
        let mut absent: HashMap<ChunkId, Error> = HashMap::new();
        for id in ids {
            stop_if_asked(self.monitor)?;
            let is_there = match found.get(&id) {
                Some(at) => self.vault.reader.is_trusted(at.pack) && self.is_there(at).await?,
                None => false,
            };
            if !is_there && let Some(error) = self.why_lost(id).await? {
                absent.insert(id, error);
            }
        }
        for (id, blob) in chunks {
            if let Some(error) = absent.get(&id) {
                self.lose(&blobs[blob], error);
            }
        }
        Ok(())
    }

    /// Looks at every place that the index knows, and once at the index anew: the chunk may have moved. One that lies in a pack of which a read
    /// failed may be sound itself, and is read.
    async fn why_lost(&mut self, id: ChunkId) -> Result<Option<Error>> {
        let reader = &self.vault.reader;
        if !std::mem::replace(&mut self.has_refreshed, true) {
            self.vault.index.refresh().await?;
        }
        let places = match self.vault.index.find_all(id).await {
            Ok(places) => places,
            Err(e) if e.kind() == ErrorKind::Damaged => return Ok(Some(e)),
            Err(e) => return Err(e),
        };
        let mut doubtful = None;
        for at in &places {
            if !self.is_there(at).await? {
                continue;
            }
            if reader.is_trusted(at.pack) {
                return Ok(None);
            }
            doubtful = Some(*at);
        }
        if let Some(at) = doubtful {
            return match reader.chunks_at(vec![(at, id)]).await {
                Ok(_) => Ok(None),
                Err(e) if e.kind() == ErrorKind::Damaged => Ok(Some(e)),
                Err(e) => Err(e),
            };
        }
        Ok(Some(match places.first() {
            Some(at) => Error::damaged(at.pack.file_name(), "it is missing or too short"),
            None => reader.why_not_found(id).await,
        }))
    }

    /// The pack is there, and long enough.
    async fn is_there(&mut self, at: &Location) -> Result<bool> {
        let size = match self.packs.get(&at.pack) {
            Some(size) => *size,
            None => {
                let size = match self.vault.store.size(&at.pack.file_name()).await {
                    Ok(size) => Some(size),
                    Err(e) if e.kind == StoreErrorKind::NotFound => None,
                    Err(e) => return Err(e.into()),
                };
                self.packs.insert(at.pack, size);
                size
            }
        };
        Ok(size.is_some_and(|size| u64::from(at.frame_offset) + u64::from(at.frame_bytes) <= size))
    }

    fn lose(&mut self, blob: &str, error: &Error) {
        if self.counted.as_deref() == Some(blob) {
            return;
        }
        self.counted = Some(blob.to_owned());
        self.lost_in_all += 1;
        if self.lost.len() < NAMED {
            self.lost.push(format!("{blob} ({error})"));
        }
    }
}
