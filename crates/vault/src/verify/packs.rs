//! The packs of a vault as a verification sees them: which there are, when each was last read whole, and which turned out to be broken.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Ledger;
use super::report::{VerifyReport, is_damage};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ChunkId, Timestamp};
use crate::monitor::{Monitor, WorkProgress};
use crate::pack::{Location, PackId, check_file};
use crate::store::StoreErrorKind;
use crate::vault::Vault;

/// What is known of a pack that is there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PackFacts {
    /// When it was last read whole and found sound.
    pub(super) read_at: Option<Timestamp>,
    /// When the newest point that needs it was begun.
    pub(super) needed_at: Option<Timestamp>,
    /// It was read and is not as it was written.
    is_broken: bool,
}

/// All packs.
#[derive(Default)]
pub(super) struct Packs {
    found: HashMap<PackId, PackFacts>,
    missing: HashSet<PackId>,
}

impl Packs {
    /// The packs of the store, with what the ledger remembers of them. What it does not know was written since, by newer points than all others.
    pub(super) async fn list(vault: &Vault, ledger: &Ledger, report: &mut VerifyReport) -> Result<Self> {
        let mut packs = Self::default();
        let mut after: Option<String> = None;
        loop {
            let files = vault.store.list("packs/", after.as_deref()).await?;
            let Some(last) = files.last() else { break };
            after = Some(last.name.clone());
            for file in &files {
                let Some(id) = PackId::from_file_name(&file.name) else {
                    report.damaged(format!("{}: this is no name of a pack", file.name));
                    continue;
                };
                let facts = match ledger.pack(id) {
                    Some((read_at, needed_at)) => PackFacts { read_at, needed_at, is_broken: ledger.is_broken(id) },
                    None => PackFacts { needed_at: Some(Timestamp(i64::MAX)), ..PackFacts::default() },
                };
                packs.found.insert(id, facts);
            }
        }
        report.packs_in_all = packs.found.len() as u64;
        Ok(packs)
    }

    pub(super) fn ids(&self) -> Vec<PackId> {
        self.found.keys().copied().collect()
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (PackId, PackFacts)> + '_ {
        self.found.iter().map(|(id, facts)| (*id, *facts))
    }

    /// Packs that are damaged, or missing although something names them.
    pub(super) fn broken(&self) -> BTreeSet<PackId> {
        let damaged = self.found.iter().filter(|(_, facts)| facts.is_broken).map(|(id, _)| *id);
        damaged.chain(self.missing.iter().copied()).collect()
    }

    /// Forgets which points need which packs: a walk of all points tells anew.
    pub(super) fn forget_needs(&mut self) {
        self.found.values_mut().for_each(|facts| facts.needed_at = None);
    }

    /// Notes that a point begun at `at` needs the pack, and returns when the pack was last read whole.
    pub(super) fn need(&mut self, id: PackId, at: Timestamp) -> Option<Timestamp> {
        let facts = self.found.get_mut(&id)?;
        facts.needed_at = facts.needed_at.max(Some(at));
        facts.read_at
    }

    /// The pack is there, and nothing speaks against it. One that was written after the packs were listed counts, too.
    pub(super) async fn is_sound(&mut self, vault: &Vault, id: PackId) -> Result<bool> {
        if let Some(facts) = self.found.get(&id) {
            return Ok(!facts.is_broken);
        }
        if self.missing.contains(&id) {
            return Ok(false);
        }
        match vault.store.size(&id.file_name()).await {
            Ok(_) => {
                self.found.insert(id, PackFacts::default());
                Ok(true)
            }
            Err(e) if e.kind == StoreErrorKind::NotFound => {
                self.missing.insert(id);
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The share of the packs that is due: those that were proven longest ago, and among equals those of the newest points.
    pub(super) fn due(&self, percent: u8) -> Vec<PackId> {
        let mut ids = self.ids();
        ids.sort_unstable_by_key(|id| {
            let facts = self.found.get(id).copied().unwrap_or_default();
            (facts.read_at, std::cmp::Reverse(facts.needed_at), *id)
        });
        ids.truncate((self.found.len() * usize::from(percent.min(100))).div_ceil(100));
        ids
    }

    /// Reads these packs whole.
    pub(super) async fn read(
        &mut self,
        vault: &Vault,
        index: &Index,
        ids: &[PackId],
        now: Option<Timestamp>,
        monitor: &dyn Monitor,
        report: &mut VerifyReport,
    ) -> Result<()> {
        for id in ids {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let is_sound = check_pack(vault, index, *id, report).await?;
            if let Some(facts) = self.found.get_mut(id) {
                facts.is_broken = !is_sound;
                facts.read_at = if is_sound { now.or(facts.read_at) } else { None };
            }
            monitor.progress(&WorkProgress { bytes: report.pack_bytes, ..WorkProgress::default() });
        }
        Ok(())
    }
}

/// Reads a pack whole; whether it is sound.
async fn check_pack(vault: &Vault, index: &Index, id: PackId, report: &mut VerifyReport) -> Result<bool> {
    let file = match vault.store.get(&id.file_name()).await {
        Ok(file) => file,
        Err(e) if e.kind == StoreErrorKind::NotFound => {
            report.damaged(format!("{} is damaged: the file is missing", id.file_name()));
            return Ok(false);
        }
        Err(e) => return Err(e.into()),
    };
    report.packs += 1;
    report.pack_bytes += file.len() as u64;
    let keys = vault.keys.clone();
    let checked = tokio::task::spawn_blocking(move || check_file(&keys, id, &file))
        .await
        .map_err(|e| Error::Internal(format!("a worker thread died: {e}")))?;
    let frames = match checked {
        Ok(frames) => frames,
        Err(e) => return report.take(e).map(|()| false),
    };
    // A pack whose chunks no run names is a leftover of an interrupted job. One that the index describes wrongly is damage.
    for frame in &frames {
        let ids: HashSet<ChunkId> = frame.chunks.iter().map(|(chunk, _)| *chunk).collect();
        let indexed = match index.find_many(&ids).await {
            // Told already, by the look at the index.
            Err(e) if is_damage(&e) => break,
            indexed => indexed?,
        };
        for (chunk, location) in frame.locations(id) {
            let is_wrong = |found: &Location| found.pack == id && *found != location;
            if indexed.get(&chunk).is_some_and(is_wrong) {
                report.damaged(format!("index: it describes chunk {chunk} of {} wrongly", id.file_name()));
            }
        }
    }
    Ok(true)
}

/// Reads all runs, and finds packs that they name and that are not there.
pub(super) async fn check_index(
    vault: &Vault,
    index: &Index,
    packs: &mut Packs,
    report: &mut VerifyReport,
) -> Result<()> {
    for (name, reason) in index.damaged_runs() {
        report.damaged(format!("{name} is damaged: {reason}"));
    }
    let mut missing: BTreeMap<PackId, u64> = BTreeMap::new();
    let (runs, damaged) = index
        .for_each_readable_block(|_, entries| {
            for (_, location) in entries.iter().filter(|(_, location)| !packs.found.contains_key(&location.pack)) {
                *missing.entry(location.pack).or_default() += 1;
            }
        })
        .await?;
    report.index_runs = runs as u64;
    for text in damaged {
        report.damaged(text);
    }
    for (pack, chunks) in missing {
        // A backup that runs beside may have written it since the packs were listed.
        if !packs.is_sound(vault, pack).await? {
            let name = pack.file_name();
            report.damaged(format!("{name}: the file is missing, and the index says that it holds {chunks} chunks"));
        }
    }
    Ok(())
}
