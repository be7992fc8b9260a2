//! Verify: proves that what the vault promises is there, and names what is not. Structure (state, index, points, pages), bytes (every pack,
//! or the share of them that is due), and the rehearsal of a restore. Nothing here changes a vault, except for the ledger.
//!
//! Memory: some 50 bytes for each pack, and bounded caches; nothing grows with the number of blobs or of chunks.

mod journals;
mod ledger;
mod packs;
mod rehearse;
mod report;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::Timestamp;
use crate::journal;
use crate::monitor::{Clock, Monitor};
use crate::point::Point;
use crate::read::ChunkReader;
use crate::seal::open_record;
use crate::state::Chain;
use crate::vault::Vault;
use crate::work::{WorkKind, reading};
pub use ledger::{Ledger, PointProof};
use packs::{Packs, check_index};
pub use rehearse::{RehearsalReport, rehearse};
use report::is_damage;
pub use report::{Loss, LossScope, VerifyReport};
use walk::Walk;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// State, points, pages, index; content is not read.
    Structure,
    /// The same, and every byte of the packs.
    #[default]
    Bytes,
}

/// Numbers of the last state records that somebody saw, by chain (an instance, or `vault`). A chain that ends before them was cut: what lies
/// inside of a chain proves itself, its tail only this way.
pub type SeenNumbers = BTreeMap<String, u64>;

/// What to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// How deep to look.
    pub depth: Depth,
    /// Of the packs only this share, in percent: those that were read longest ago, and among equals those of the newest points.
    pub percent: Option<u8>,
    /// Numbers of state records that were seen before.
    pub seen: SeenNumbers,
}

/// Verifies a vault and remembers nothing. Damage is collected in the report; only a failing store or a stop ends the work early.
pub async fn run(vault: &Vault, depth: Depth, seen: &SeenNumbers, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let options = VerifyOptions { depth, percent: None, seen: seen.clone() };
    let work = beside_prunes(vault, &options, None, monitor);
    reading(vault, WorkKind::Verify, "", "verify", work).await
}

/// A prune that had begun before this one registered does not wait for it: what looks like damage while packs go may be none, so it
/// is looked at once more.
async fn beside_prunes(
    vault: &Vault,
    options: &VerifyOptions,
    clock: Option<&dyn Clock>,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let before = last_prune(vault).await;
    let report = verify_once(vault, options, clock, monitor).await?;
    if report.is_sound() || last_prune(vault).await == before {
        return Ok(report);
    }
    verify_once(vault, options, clock, monitor).await
}

async fn last_prune(vault: &Vault) -> (u64, u64) {
    Chain::vault(vault).load().await.map_or((0, 0), |state| (state.unsafe_before(), state.pruned))
}

/// Verifies a vault and remembers in its ledger what was proven, and when. What was read before a stop is remembered, too.
pub async fn run_recorded(
    vault: &Vault,
    options: &VerifyOptions,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let work = beside_prunes(vault, options, Some(clock), monitor);
    reading(vault, WorkKind::Verify, "", "verify", work).await
}

async fn verify_once(
    vault: &Vault,
    options: &VerifyOptions,
    clock: Option<&dyn Clock>,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let Some(clock) = clock else {
        let mut work = Work::new(vault, options, Ledger::default(), None, monitor).await?;
        work.run().await?;
        return Ok(work.report);
    };
    let (ledger, unreadable) = Ledger::load(vault).await?;
    let mut work = Work::new(vault, options, ledger, Some(clock.now()), monitor).await?;
    if let Some(reason) = unreadable {
        work.report.note(format!("{reason}: what was proven before is forgotten, nothing else is lost"));
    }
    let outcome = work.run().await;
    work.ledger.set_packs(work.packs.facts(), work.packs.broken());
    if let Err(error) = work.ledger.save(vault).await {
        work.report.note(format!("what was proven could not be remembered: {error}"));
    }
    outcome.map(|()| work.report)
}

/// A point that is to be walked.
struct PointToWalk {
    started_at: Timestamp,
    instance: String,
    job: String,
}

/// One verification. It reads the index anew, so that nothing kept in memory hides what happened to the files.
struct Work<'a> {
    vault: &'a Vault,
    options: &'a VerifyOptions,
    index: Arc<Index>,
    reader: ChunkReader,
    ledger: Ledger,
    now: Option<Timestamp>,
    monitor: &'a dyn Monitor,
    packs: Packs,
    report: VerifyReport,
}

impl<'a> Work<'a> {
    async fn new(
        vault: &'a Vault,
        options: &'a VerifyOptions,
        ledger: Ledger,
        now: Option<Timestamp>,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let index = Arc::new(Index::open(vault.store.clone(), vault.keys.clone()).await?);
        let reader = ChunkReader::new(vault.store.clone(), vault.keys.clone(), index.clone());
        let mut report = VerifyReport::default();
        let packs = Packs::list(vault, &ledger, &mut report).await?;
        Ok(Self { vault, options, index, reader, ledger, now, monitor, packs, report })
    }

    async fn run(&mut self) -> Result<()> {
        check_header_and_slots(self.vault, &mut self.report).await?;
        check_index(self.vault, &self.index, &mut self.packs, &mut self.report).await?;
        let mut points = self.points().await?;
        points.sort_by(|a, b| (b.started_at, &b.instance, &b.job).cmp(&(a.started_at, &a.instance, &a.job)));
        self.read_packs(&points).await?;
        let proofs = self.walk(&points).await?;
        self.ledger.set_points(proofs, self.report.harmed_points > 0);
        check_leftovers(self.vault, &points, &mut self.report).await
    }

    async fn read_packs(&mut self, points: &[PointToWalk]) -> Result<()> {
        let due = match (self.options.depth, self.options.percent) {
            (Depth::Structure, _) => return Ok(()),
            (Depth::Bytes, None) => self.packs.due(100),
            (Depth::Bytes, Some(percent)) => {
                if self.ledger.is_empty() {
                    // Nobody remembers which packs the newest points need.
                    let found = std::mem::take(&mut self.report);
                    self.walk(points).await?;
                    self.report = found;
                }
                self.packs.due(percent)
            }
        };
        self.packs.read(self.vault, &self.index, &due, self.now, self.monitor, &mut self.report).await
    }

    /// Walks the points, and returns what was proven of each.
    async fn walk(&mut self, points: &[PointToWalk]) -> Result<BTreeMap<(String, String), PointProof>> {
        self.packs.forget_needs();
        let mut proofs = BTreeMap::new();
        let mut journals = SeenNumbers::new();
        let mut walk =
            Walk::new(self.vault, &self.index, &self.reader, &mut self.packs, &mut self.report, self.monitor);
        for point in points {
            let key = journal::key(&point.instance, &point.job);
            let seen = self.ledger.journal(&key);
            let walked = walk.point(&point.instance, &point.job, seen).await?;
            if walked.segments > 0 || seen > 0 {
                journals.insert(key, walked.segments);
            }
            if walked.is_sound {
                // A point that needs no pack at all is proven as soon as it is read.
                let bytes_at = walked.read_at.min(self.now.or(walked.read_at));
                let proof = PointProof { structure_at: self.now, bytes_at };
                proofs.insert((point.instance.clone(), point.job.clone()), proof);
            }
        }
        self.ledger.set_journals(journals);
        Ok(proofs)
    }

    /// The points of all instances; chains are checked on the way.
    async fn points(&mut self) -> Result<Vec<PointToWalk>> {
        let mut points = Vec::new();
        // Chains whose end is known. That of a damaged one is not.
        let mut numbers = SeenNumbers::new();
        let mut damaged = BTreeSet::new();
        match Chain::vault(self.vault).load_and_check_all().await {
            Ok(state) => drop(numbers.insert("vault".to_owned(), state.number)),
            Err(e) => {
                self.report.take(e)?;
                damaged.insert("vault".to_owned());
            }
        }
        for instance in Chain::instances(self.vault).await? {
            self.report.instances += 1;
            let (found, number) = self.points_of(&instance).await?;
            points.extend(found);
            match number {
                Some(number) => drop(numbers.insert(instance, number)),
                None => drop(damaged.insert(instance)),
            }
        }
        self.check_ends(&numbers, &damaged);
        Ok(points)
    }

    /// Compares the ends of the chains with what the caller and earlier verifications saw.
    fn check_ends(&mut self, numbers: &SeenNumbers, damaged: &BTreeSet<String>) {
        self.ledger.see_numbers(&self.options.seen);
        for (chain, seen) in self.ledger.numbers().iter().filter(|(chain, _)| !damaged.contains(*chain)) {
            let found = numbers.get(chain).copied().unwrap_or(0);
            if found < *seen {
                let text = format!("state/{chain}: the chain ends at {found}, and record {seen} was seen before");
                self.report.damaged(text);
            }
        }
        self.ledger.see_numbers(numbers);
    }

    /// The points of an instance and the number of its last record. Where the chain is damaged the files of the points tell what there is.
    async fn points_of(&mut self, instance: &str) -> Result<(Vec<PointToWalk>, Option<u64>)> {
        let chain = match Chain::instance(self.vault, instance) {
            Ok(chain) => chain,
            Err(e) => {
                self.report.damaged(format!("state/{instance}: no chain can have this name: {e}"));
                return Ok((Vec::new(), None));
            }
        };
        let to_walk = |job: String, started_at| PointToWalk { started_at, instance: instance.to_owned(), job };
        let error = match chain.load_and_check_all().await {
            Ok(state) => {
                let points = state.points.iter().map(|point| to_walk(point.job.clone(), point.started_at)).collect();
                return Ok((points, Some(state.number)));
            }
            Err(error) => error,
        };
        self.report.take(error)?;
        let jobs = Point::files(self.vault, instance).await?;
        self.report.note(format!(
            "which points {instance} has is not sure, because its state is damaged: the files of {} points were looked at",
            jobs.len()
        ));
        Ok((jobs.into_iter().map(|job| to_walk(job, Timestamp::default())).collect(), None))
    }
}

async fn check_header_and_slots(vault: &Vault, report: &mut VerifyReport) -> Result<()> {
    for name in &vault.damaged_slots {
        report.damaged(format!("{name}: the key slot does not open, its copy does"));
    }
    if let Some(text) = &vault.damaged_header {
        report.damaged(text.clone());
    }
    let slots = vault.store.list("keys/", None).await?;
    let mut copies: BTreeMap<&str, u32> = BTreeMap::new();
    for slot in &slots {
        *copies.entry(slot.name.trim_end_matches(".copy")).or_default() += 1;
    }
    for (name, count) in copies {
        if count < 2 {
            report.damaged(format!("{name}: one of the two copies of the key slot is missing"));
        }
    }
    Ok(())
}

/// Files that no chain names, and progress that cannot be used: neither costs anything.
async fn check_leftovers(vault: &Vault, points: &[PointToWalk], report: &mut VerifyReport) -> Result<()> {
    let named: BTreeSet<String> = points.iter().map(|point| Point::file_name(&point.instance, &point.job)).collect();
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list("points/", after.as_deref()).await?;
        let Some(last) = files.last() else { break };
        after = Some(last.name.clone());
        for file in files.iter().filter(|file| !named.contains(&file.name)) {
            report.note(format!(
                "{}: no state record names it: left by a backup or an expiry that was interrupted, or the record is gone",
                file.name
            ));
        }
    }
    journals::check_leftovers(vault, &named, report).await?;
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list("progress/", after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(()) };
        after = Some(last.name.clone());
        for file in &files {
            let content = match vault.store.get(&file.name).await {
                Ok(content) => content,
                Err(e) if is_damage(&Error::Store(e.clone())) => continue,
                Err(e) => return Err(e.into()),
            };
            if let Err(e) = open_record(&vault.keys.meta_key, &file.name, &content) {
                report.note(format!("{e}: the interrupted backup will read some blobs again"));
            }
        }
    }
}
