//! Rebuilding the index from the footers of the packs: what a vault needs when runs are lost or damaged. It reads the head and the tail of
//! each pack and no content, writes new runs, and only when all of them are durable removes those that were there before.
//!
//! It can be stopped at any instant and run again: what it leaves behind are runs that say true things. Backups may run beside: the old
//! runs are listed before the packs, so that whatever they name is seen.
//!
//! Memory: the entries of one run.

use std::collections::HashSet;

use futures::stream::{self, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::index::{Entry, FOLDER, Index};
use crate::monitor::{Monitor, WorkProgress};
use crate::pack::{FrameEntry, HEADER_BYTES, PackId, read_footer};
use crate::read::get_range;
use crate::store::StoredFile;
use crate::vault::Vault;
use crate::work::{Registration, WorkKind, registered};

/// Packs that are read at once.
const READS: usize = 8;
/// Bytes of a tail that are read at first; a longer footer costs a second read.
const TAIL_BYTES: u64 = 32 << 10;
/// Packs without a footer whose entries are looked for together in the old runs.
const SALVAGED_TOGETHER: usize = 64;
/// The job under which a rebuild is registered.
const JOB: &str = "rebuild-index";
/// Damaged packs that a report spells out.
const SPELLED_OUT: usize = 1000;

/// How to rebuild.
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions {
    /// Entries of one run, at least; a run may have as many more as one pack has.
    pub run_entries: usize,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self { run_entries: 256 << 10 }
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Packs whose footers were read.
    pub packs: u64,
    /// Bytes read of them.
    pub read_bytes: u64,
    /// Entries of the new index.
    pub entries: u64,
    /// Runs written.
    pub new_runs: u64,
    /// Runs removed: all that were there before.
    pub removed_runs: u64,
    /// Packs whose footer cannot be read, at most 1,000 of them with the reason. They were left as they are; what the old runs said of
    /// them stays in the index.
    pub damaged: Vec<String>,
    /// How many they are in all.
    pub damaged_packs: u64,
}

/// Rebuilds the index. The vault must be opened anew to see it.
///
/// # Errors
/// [`Error::Conflict`] while a prune is at work: it removes packs that the footers still name.
pub async fn rebuild(vault: &Vault, options: RebuildOptions, monitor: &dyn Monitor) -> Result<RebuildReport> {
    // Registered as one, so that no prune begins meanwhile.
    let registration = match Registration::begin(vault, WorkKind::Prune, "", JOB).await {
        Ok(registration) => registration,
        // Where the vault's chain cannot be read no prune can be at work.
        Err(e) if e.kind() == ErrorKind::Damaged => return rebuild_registered(vault, options, monitor).await,
        Err(e) => return Err(e),
    };
    let outcome = match other_prune(vault, &registration).await {
        Ok(None) => rebuild_registered(vault, options, monitor).await,
        Ok(Some(job)) => Err(Error::Conflict(format!(
            "a prune ({job}) is at work, or has died: let it end, or run a prune, which clears away a dead one; then rebuild"
        ))),
        Err(e) => Err(e),
    };
    registration.end().await;
    outcome
}

async fn other_prune(vault: &Vault, own: &Registration<'_>) -> Result<Option<String>> {
    for found in registered(vault).await? {
        if found.writer != own.writer()
            && let Some(worker) = found.worker(vault).await?
            && worker.kind == WorkKind::Prune
            // Two rebuilds at once harm nobody, and one that died must not stand in the way of the next.
            && worker.job != JOB
        {
            return Ok(Some(worker.job));
        }
    }
    Ok(None)
}

async fn rebuild_registered(vault: &Vault, options: RebuildOptions, monitor: &dyn Monitor) -> Result<RebuildReport> {
    let old_runs = names(vault, FOLDER).await?;
    let old = Index::open(vault.store.clone(), vault.keys.clone()).await?;
    let mut work = Work { vault, options, monitor, old, pending: Vec::new(), report: RebuildReport::default() };
    let unreadable = work.read_packs().await?;
    work.salvage(&unreadable).await?;
    work.write_run().await?;
    for run in &old_runs {
        vault.store.delete(run).await?;
    }
    work.report.removed_runs = old_runs.len() as u64;
    Ok(work.report)
}

struct Work<'a> {
    vault: &'a Vault,
    options: RebuildOptions,
    monitor: &'a dyn Monitor,
    /// The index as it was; new runs are written through it and not read.
    old: Index,
    pending: Vec<Entry>,
    report: RebuildReport,
}

impl Work<'_> {
    /// Reads all footers; the packs that have none that opens.
    async fn read_packs(&mut self) -> Result<Vec<PackId>> {
        let mut unreadable = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let files = self.vault.store.list("packs/", after.as_deref()).await?;
            let Some(last) = files.last() else { return Ok(unreadable) };
            after = Some(last.name.clone());
            let packs = files.into_iter().filter_map(|file| Some((PackId::from_file_name(&file.name)?, file)));
            let vault = self.vault;
            let mut footers = stream::iter(packs)
                .map(|(id, file)| async move { (id, footer(vault, id, &file).await) })
                .buffer_unordered(READS);
            while let Some((id, footer)) = footers.next().await {
                if let Some(reason) = self.monitor.should_stop() {
                    return Err(Error::Cancelled(reason));
                }
                match footer {
                    Ok((frames, read_bytes)) => {
                        self.report.packs += 1;
                        self.report.read_bytes += read_bytes;
                        self.pending.extend(frames.iter().flat_map(|frame| frame.locations(id)));
                    }
                    Err(e) if e.kind() == ErrorKind::Damaged => {
                        self.report.damaged_packs += 1;
                        if self.report.damaged.len() < SPELLED_OUT {
                            self.report.damaged.push(e.to_string());
                        }
                        unreadable.push(id);
                    }
                    Err(e) => return Err(e),
                }
                if self.pending.len() >= self.options.run_entries {
                    self.write_run().await?;
                }
                self.monitor.progress(&WorkProgress { bytes: self.report.read_bytes, ..WorkProgress::default() });
            }
        }
    }

    /// Takes over what the old runs say of packs without a footer: their frames may be whole.
    async fn salvage(&mut self, unreadable: &[PackId]) -> Result<()> {
        for group in unreadable.chunks(SALVAGED_TOGETHER) {
            let group: HashSet<PackId> = group.iter().copied().collect();
            let pending = &mut self.pending;
            self.old
                .for_each_readable_block(|_, entries| {
                    pending.extend(entries.iter().filter(|(_, at)| group.contains(&at.pack)));
                })
                .await?;
            if self.pending.len() >= self.options.run_entries {
                self.write_run().await?;
            }
        }
        Ok(())
    }

    async fn write_run(&mut self) -> Result<()> {
        let mut entries = std::mem::take(&mut self.pending);
        entries.sort_unstable();
        entries.dedup();
        if entries.is_empty() {
            return Ok(());
        }
        self.report.entries += entries.len() as u64;
        self.report.new_runs += 1;
        self.old.put_run(entries).await.map(drop)
    }
}

async fn names(vault: &Vault, folder: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let files = vault.store.list(folder, names.last().map(String::as_str)).await?;
        if files.is_empty() {
            return Ok(names);
        }
        names.extend(files.into_iter().map(|file| file.name));
    }
}

/// The footer of a pack, and how many bytes were read for it.
async fn footer(vault: &Vault, id: PackId, file: &StoredFile) -> Result<(Vec<FrameEntry>, u64)> {
    let (store, name, size) = (vault.store.as_ref(), &file.name, file.size_bytes);
    let header = get_range(store, name, 0..HEADER_BYTES as u64).await?;
    let mut tail_bytes = size.min(TAIL_BYTES);
    let mut read_bytes = HEADER_BYTES as u64;
    loop {
        let tail = get_range(store, name, size - tail_bytes..size).await?;
        read_bytes += tail_bytes;
        match read_footer(&vault.keys, id, &header, &tail, size)? {
            Ok(frames) => return Ok((frames, read_bytes)),
            Err(needed) if needed as u64 > tail_bytes => tail_bytes = needed as u64,
            Err(_) => return Err(Error::damaged(name, "its trailer contradicts itself")),
        }
    }
}
