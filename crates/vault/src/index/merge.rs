//! Walking all entries in the order of their names, and putting fewer, larger runs in the place of many.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use super::run::Run;
use super::{Entry, Index, RUN_ENTRIES_AT_MOST};
use crate::error::{Error, Result};
use crate::store::{Store, StoreErrorKind};

struct Stream {
    run: Arc<Run>,
    next_block: usize,
    entries: std::vec::IntoIter<Entry>,
}

/// Entries of several runs in the order of their names, equal ones once. Memory: one block of each run.
pub struct MergedEntries {
    store: Arc<dyn Store>,
    streams: Vec<Stream>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    last: Option<Entry>,
}

impl MergedEntries {
    async fn new(store: Arc<dyn Store>, runs: Vec<Arc<Run>>) -> Result<Self> {
        let streams: Vec<Stream> =
            runs.into_iter().map(|run| Stream { run, next_block: 0, entries: Vec::new().into_iter() }).collect();
        let mut merged = Self { store, streams, heads: BinaryHeap::new(), last: None };
        for number in 0..merged.streams.len() {
            merged.refill(number).await?;
        }
        Ok(merged)
    }

    async fn refill(&mut self, number: usize) -> Result<()> {
        let stream = &mut self.streams[number];
        loop {
            if let Some(entry) = stream.entries.next() {
                self.heads.push(Reverse((entry, number)));
                return Ok(());
            }
            if stream.next_block >= stream.run.blocks() {
                return Ok(());
            }
            stream.entries = stream.run.block(self.store.as_ref(), stream.next_block).await?.into_iter();
            stream.next_block += 1;
        }
    }

    /// The next entry, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        while let Some(Reverse((entry, number))) = self.heads.pop() {
            self.refill(number).await?;
            if self.last != Some(entry) {
                self.last = Some(entry);
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl Index {
    /// All entries in the order of their names.
    pub async fn merged(&self) -> Result<MergedEntries> {
        let runs = self.runs.read().await.clone();
        MergedEntries::new(self.store.clone(), runs).await
    }

    /// Puts new runs in the place of the runs `names` (of all that are open, if `None`), with the entries that `keeps` says yes to. The new runs
    /// are durable before an old one goes. Returns how many there were and how many there are.
    pub async fn replace(
        &self,
        names: Option<&HashSet<String>>,
        keeps: impl Fn(&Entry) -> bool,
    ) -> Result<(usize, usize)> {
        const TRIES: usize = 4;
        for _ in 1..TRIES {
            match self.try_replace(names, &keeps).await {
                // Another writer has merged its own runs meanwhile.
                Err(Error::Store(e)) if e.kind == StoreErrorKind::NotFound => self.refresh().await?,
                outcome => return outcome,
            }
        }
        self.try_replace(names, &keeps).await
    }

    async fn try_replace(
        &self,
        names: Option<&HashSet<String>>,
        keeps: impl Fn(&Entry) -> bool,
    ) -> Result<(usize, usize)> {
        let is_chosen = |run: &Arc<Run>| names.is_none_or(|names| names.contains(&run.name));
        let old: Vec<Arc<Run>> = self.runs.read().await.iter().filter(|run| is_chosen(run)).cloned().collect();
        let mut merged = MergedEntries::new(self.store.clone(), old.clone()).await?;
        let mut entries = Vec::new();
        let mut written = 0;
        while let Some(entry) = merged.next().await? {
            if keeps(&entry) {
                entries.push(entry);
            }
            if entries.len() >= RUN_ENTRIES_AT_MOST {
                self.add_run(std::mem::take(&mut entries)).await?;
                written += 1;
            }
        }
        written += usize::from(self.add_run(entries).await?.is_some());
        for run in &old {
            self.store.delete(&run.name).await?;
        }
        let gone: HashSet<u64> = old.iter().map(|run| run.serial).collect();
        self.runs.write().await.retain(|run| !gone.contains(&run.serial));
        Ok((old.len(), written))
    }
}
