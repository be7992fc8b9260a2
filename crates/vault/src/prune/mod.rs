//! Prune: frees the space of chunks that no point needs, beside running backups and restores, and trusts no clock.
//!
//! 1. Mark what the points need, and what interrupted jobs have done. Choose packs with nothing or little of it.
//! 2. Condemn the chosen packs in the vault's chain. Writers that register from now on treat them as absent.
//! 3. Copy what is needed from them into new packs.
//! 4. Wait until nobody is left who registered before. Before its commit such a writer looks at the chain, too, and stores anew what
//!    it took from a condemned pack. Whoever shows no sign of life is fenced, so that its late commit fails.
//! 5. Mark what was added meanwhile, and copy again if a condemned pack has the only copy of something.
//! 6. Write the index without the condemned packs, delete them, and say so in the chain.
//!
//! A prune that died is taken up by the next one: it condemns anew whatever was condemned, so that a pack which somebody may be deleting never
//! comes back into use.

mod choose;
mod copy;
mod wait;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use crate::error::{Error, ErrorKind, Result};
use crate::item::Timestamp;
use crate::journal;
use crate::mark::{MarkRoot, Marks};
use crate::monitor::{Clock, Monitor};
use crate::pack::PackId;
use crate::point::{Point, Progress};
use crate::read::ChunkReader;
use crate::seal::{open_record, random_bytes, seal_record};
use crate::state::{At, Chain, Removal, State, VaultChange, VaultState};
use crate::store::{Put, StoreErrorKind};
use crate::vault::Vault;
use crate::verify::Ledger;
use crate::work::{Registration, WorkKind, registered};
use choose::{Uses, choose};
pub(crate) use copy::rescue;

/// Runs beyond what the entries need, from which on they are merged although nothing is removed.
const RUNS_TOO_MANY: usize = 16;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The job's name, for others to see.
    pub job: String,
    /// Only says what would be done.
    pub dry_run: bool,
    /// A pack of which more than this share is not needed is rewritten, in percent. 0 rewrites every pack that has anything unneeded.
    pub max_unused_percent: u8,
    /// Whoever shows no sign of life for this long is taken for dead.
    pub patience: Duration,
    /// A folder for scratch files.
    pub scratch: PathBuf,
}

impl PruneOptions {
    /// Frees what is worth freeing, with patience for slow writers.
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            dry_run: false,
            max_unused_percent: 10,
            patience: Duration::from_secs(60),
            scratch: std::env::temp_dir(),
        }
    }
}

/// A point that stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its instance.
    pub instance: String,
    /// Its job.
    pub job: String,
    /// Why it is kept, in words for the operator.
    pub reason: String,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Points that stay, each with the reason.
    pub kept: Vec<Kept>,
    /// Interrupted jobs whose work so far stays.
    pub kept_progress: u64,
    /// Packs that there were, and their bytes.
    pub packs: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Packs of writers that are at work: not looked at.
    pub packs_in_use: u64,
    /// Packs that nothing needs: deleted unread.
    pub dead_packs: u64,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Packs of which little is needed: that was copied, then they were deleted.
    pub rewritten_packs: u64,
    /// Their bytes.
    pub rewritten_bytes: u64,
    /// Bytes in packs that stay although nothing needs them: too little of a pack to rewrite it.
    pub unused_bytes_kept: u64,
    /// Chunks copied into new packs.
    pub copied_chunks: u64,
    /// Bytes of new packs.
    pub written_bytes: u64,
    /// Bytes of packs that were read: manifests and what was copied.
    pub read_bytes: u64,
    /// Index runs before and after.
    pub index_runs: (u64, u64),
    /// Workers that were taken for dead.
    pub fenced: u64,
    /// Journals whose base point has gone: an expiry that was interrupted left them.
    pub removed_journals: u64,
}

/// Frees the space of whatever no point needs.
///
/// # Errors
/// [`Error::Damaged`] if what is needed cannot be told, or is missing: nothing was removed then. [`Error::Conflict`] while another prune is at
/// work. After any error, and after a crash, it can be run again.
pub async fn run(
    vault: &Vault,
    options: &PruneOptions,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let registration = Registration::begin(vault, WorkKind::Prune, "", &options.job).await?;
    let outcome = prune(vault, options, &registration, clock, monitor).await;
    registration.end().await;
    outcome
}

async fn prune(
    vault: &Vault,
    options: &PruneOptions,
    registration: &Registration<'_>,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let mut report = PruneReport::default();
    let waiting = wait::Waiting { vault, registration, clock, monitor, patience: options.patience };
    report.fenced += waiting.for_other_prunes().await?;
    let ledger = Ledger::load(vault).await?.0;
    check_chains(vault, &ledger).await?;
    if let Some((name, reason)) = vault.index.damaged_runs().pop_first() {
        return Err(Error::damaged(name, format!("{reason}; nothing was removed: rebuild the index first")));
    }
    let reader = ChunkReader::new(vault.store.clone(), vault.keys.clone(), vault.index.clone());
    ledger.warn(&reader);

    // Before the chains are read: a journal is written only after its base point was added.
    let journals = journal::all(vault).await?;
    // In this order: a pack of a writer who is gone when the writers are listed is needed by a point that is listed after.
    let packs = list_packs(vault).await?;
    let at_work: HashSet<_> = registered(vault).await?.iter().map(|found| found.writer).collect();
    let mut roots = HashSet::new();
    let mut marks = Marks::new(&options.scratch)?;
    mark_new(vault, &reader, &mut roots, &mut marks, monitor).await?;
    (report.kept, report.kept_progress) = why_kept(vault, clock.now()).await?;

    let before = registration.condemned();
    let mut uses = Uses::default();
    let is_whole = |pack: &PackId| packs.contains_key(pack) && reader.is_trusted(*pack);
    choose::sweep(vault, &mut marks, is_whole, &before, &mut uses, |_| Ok(())).await?;
    let is_kept = |pack: &PackId| at_work.contains(&pack.writer()) || !reader.is_trusted(*pack);
    let chosen = choose(&packs, &uses, is_kept, &before, options.max_unused_percent, &mut report);
    report.index_runs.0 = vault.index.run_names().await.len() as u64;
    report.read_bytes = reader.fetched_bytes();
    report.index_runs.1 = report.index_runs.0;
    let orphans = orphans(vault, journals).await?;
    report.removed_journals = orphans.len() as u64;
    if options.dry_run {
        return Ok(report);
    }
    for (instance, base) in orphans {
        journal::remove(vault, &instance, &base).await?;
    }
    let must_finish = Chain::vault(vault).load().await?.condemned.is_some();
    if chosen.is_empty() && !must_finish {
        let runs_needed = uses.entries as usize / crate::index::RUN_ENTRIES_AT_MOST + 1;
        if report.index_runs.0 as usize > runs_needed + RUNS_TOO_MANY {
            report.index_runs.1 = vault.index.replace(None, |_| true).await?.1 as u64;
        }
        return Ok(report);
    }

    let (condemned, number) = condemn(vault, chosen, clock.now()).await?;
    info!(packs = condemned.len(), "packs are condemned");
    let mut copier = copy::Copier::new(vault, &reader, registration.writer(), &condemned, &options.scratch);
    copier.copy_what_is_needed(&mut marks, &mut uses, monitor).await?;
    report.fenced += waiting.for_those_before(number).await?;
    // What was added meanwhile was added by writers who looked at the chain before their commit; it is looked at once more all the same.
    mark_new(vault, &reader, &mut roots, &mut marks, monitor).await?;
    vault.index.refresh().await?;
    copier.copy_what_is_needed(&mut marks, &mut uses, monitor).await?;
    let copied = copier.finish();
    report.copied_chunks = copied.new_chunks;
    report.written_bytes = copied.stored_bytes;

    report.index_runs.1 = vault.index.replace(None, |(_, at)| !condemned.contains(&at.pack)).await?.1 as u64;
    for pack in &condemned {
        if let Some(reason) = monitor.should_stop() {
            return Err(Error::Cancelled(reason));
        }
        vault.store.delete(&pack.file_name()).await?;
    }
    finish(vault, number, clock.now()).await?;
    report.read_bytes = reader.fetched_bytes();
    Ok(report)
}

/// A chain that was cut names fewer points than there are: what only the others need must not go.
async fn check_chains(vault: &Vault, ledger: &Ledger) -> Result<()> {
    let instances = Chain::instances(vault).await?;
    let cut = |chain: &str, found: u64, seen: u64| {
        let reason = format!("the chain ends at {found}, and record {seen} was seen before; nothing was removed");
        Err(Error::damaged(format!("state/{chain}"), reason))
    };
    for (chain, seen) in ledger.numbers() {
        let found = match chain.as_str() {
            "vault" => Chain::vault(vault).load().await?.number,
            instance => Chain::instance(vault, instance)?.load().await?.number,
        };
        if found < *seen {
            return cut(chain, found, *seen);
        }
    }
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list("points/", after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(()) };
        after = Some(last.name.clone());
        let of_nobody =
            |name: &str| name.split('/').nth(1).is_some_and(|instance| !instances.iter().any(|i| i == instance));
        if let Some(file) = files.iter().find(|file| of_nobody(&file.name)) {
            let reason = "the chain of its instance is missing; nothing was removed";
            return Err(Error::damaged(file.name.clone(), reason));
        }
    }
}

async fn list_packs(vault: &Vault) -> Result<BTreeMap<PackId, u64>> {
    let mut packs = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list("packs/", after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(packs) };
        after = Some(last.name.clone());
        packs.extend(files.iter().filter_map(|file| Some((PackId::from_file_name(&file.name)?, file.size_bytes))));
    }
}

/// Marks the points and the progress that are not among `roots` yet, and adds them.
async fn mark_new(
    vault: &Vault,
    reader: &ChunkReader,
    roots: &mut HashSet<MarkRoot>,
    marks: &mut Marks,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut new = Vec::new();
    let mut add = |root: MarkRoot| {
        if roots.insert(root.clone()) {
            new.push(root);
        }
    };
    for instance in Chain::instances(vault).await? {
        for point in &Chain::instance(vault, &instance)?.load().await?.points {
            match Point::get(vault, &instance, &point.job).await {
                Ok(point) => add(point.mark_root()),
                // It was removed a moment ago, or its file is missing: the chain knows.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    if Chain::instance(vault, &instance)?.load().await?.point(&point.job).is_some() {
                        let name = Point::file_name(&instance, &point.job);
                        return Err(Error::damaged(name, "the file is missing, so what it needs cannot be told"));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
    for (instance, job) in Progress::all_jobs(vault).await? {
        match Progress::latest(vault, &instance, &job).await {
            Ok(Some((_, progress))) => add(MarkRoot { page: progress.root.page, leaves: Vec::new() }),
            Ok(None) => {}
            // It helps nobody: the job starts anew.
            Err(e) if e.kind() == ErrorKind::Damaged => tracing::warn!(error = %e, "progress cannot be read"),
            Err(e) => return Err(e),
        }
    }
    marks.add(reader, &new, monitor).await
}

/// Of these journals those whose base point no chain has.
async fn orphans(vault: &Vault, journals: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let mut orphans = Vec::new();
    let mut chain: Option<(String, At<State>)> = None;
    for (instance, base) in journals {
        if chain.as_ref().is_none_or(|(name, _)| *name != instance) {
            // No chain can have another name: what that is, is for its owner to know.
            let Ok(found) = Chain::instance(vault, &instance) else { continue };
            chain = Some((instance.clone(), found.load().await?));
        }
        if chain.as_ref().is_some_and(|(_, state)| state.point(&base).is_none()) {
            orphans.push((instance, base));
        }
    }
    Ok(orphans)
}

async fn why_kept(vault: &Vault, now: Timestamp) -> Result<(Vec<Kept>, u64)> {
    let rules = Chain::vault(vault).load().await?;
    let mut kept = Vec::new();
    for instance in Chain::instances(vault).await? {
        let state = Chain::instance(vault, &instance)?.load().await?;
        for point in &state.points {
            let is_newest = state.latest().is_some_and(|newest| newest.job == point.job);
            let reason = match (state.removal(&point.job, rules.immutability, now), point.expires_at) {
                (Removal::Kept(reason), _) => reason,
                (_, None) => "it never expires".to_owned(),
                (_, Some(expires_at)) if expires_at > now => {
                    format!("it has not expired: {} more days", (expires_at.0 - now.0) / 86_400_000_000)
                }
                _ if is_newest => "it has expired and is the newest of its instance".to_owned(),
                _ => "it has expired and nobody has removed it".to_owned(),
            };
            kept.push(Kept { instance: instance.clone(), job: point.job.clone(), reason });
        }
    }
    Ok((kept, Progress::all_jobs(vault).await?.len() as u64))
}

fn list_name(prune: &str) -> String {
    format!("condemned/{prune}")
}

/// The list lies in the store twice: without it nothing can be written to the vault.
fn copy_of(name: &str) -> String {
    format!("{name}.copy")
}

/// The packs that are condemned in a state of the vault's chain.
///
/// # Errors
/// [`Error::Damaged`] if their list is missing or not the one that the chain names.
pub(crate) async fn condemned_packs(vault: &Vault, state: &VaultState) -> Result<HashSet<PackId>> {
    let Some(condemned) = &state.condemned else { return Ok(HashSet::new()) };
    let name = list_name(&condemned.prune);
    let mut found = None;
    for copy in [name.clone(), copy_of(&name)] {
        match vault.store.get(&copy).await {
            Ok(file) if blake3::hash(&file).to_hex().as_str() == condemned.list_hash => {
                found = Some(file);
                break;
            }
            Ok(_) => tracing::warn!(file = copy, "it is not the list that the vault's chain names"),
            Err(e) if e.kind == StoreErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    let Some(file) = found else {
        // The prune may have ended since the state was read.
        return match Chain::vault(vault).load().await?.condemned.as_ref() {
            Some(still) if still == condemned => {
                Err(Error::damaged(name, "neither it nor its copy is the list that the vault's chain names"))
            }
            _ => Ok(HashSet::new()),
        };
    };
    let list = open_record(&vault.keys.meta_key, &name, &file)?;
    let (ids, rest) = list.as_chunks::<16>();
    if !rest.is_empty() || ids.len() as u64 != condemned.packs {
        return Err(Error::damaged(name, "it has not as many packs as the vault's chain says"));
    }
    Ok(ids.iter().map(|id| PackId(*id)).collect())
}

/// Records the chosen packs, and those that were condemned before, as condemned. Returns them and the record's number.
async fn condemn(vault: &Vault, chosen: HashSet<PackId>, now: Timestamp) -> Result<(HashSet<PackId>, u64)> {
    let chain = Chain::vault(vault);
    loop {
        let at: At<VaultState> = chain.load().await?;
        let mut packs: Vec<PackId> = condemned_packs(vault, &at).await?.union(&chosen).copied().collect();
        packs.sort_unstable();
        let prune = hex::encode(random_bytes::<8>()?);
        let name = list_name(&prune);
        let list: Vec<u8> = packs.iter().flat_map(|pack| pack.0).collect();
        let file = seal_record(&vault.keys.meta_key, &name, &list)?;
        let list_hash = blake3::hash(&file).to_hex().to_string();
        let file = Bytes::from(file);
        for copy in [name.clone(), copy_of(&name)] {
            if vault.store.put_if_absent(&copy, file.clone()).await? == Put::Exists {
                return Err(Error::Internal(format!("{copy} was there already although its name is random")));
            }
        }
        let change = VaultChange::PacksCondemned { prune, list_hash, packs: packs.len() as u64 };
        if let Some(added) = chain.append_after(&at, &change, now).await? {
            return Ok((packs.into_iter().collect(), added.number));
        }
    }
}

/// Says in the chain that the condemned packs are gone, and removes the lists of this prune and those before.
async fn finish(vault: &Vault, number: u64, now: Timestamp) -> Result<()> {
    let chain = Chain::vault(vault);
    let Some(condemned) = chain.load().await?.condemned.clone().filter(|condemned| condemned.number == number) else {
        return Err(Error::Conflict("another prune has begun: it finishes what this one left".into()));
    };
    // Listed before: a list that comes after the record is that of the next prune.
    let lists = vault.store.list("condemned/", None).await?;
    chain.append(VaultChange::PacksPruned { prune: condemned.prune }, now).await?;
    for file in lists {
        vault.store.delete(&file.name).await?;
    }
    Ok(())
}
