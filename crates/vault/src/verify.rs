//! Verify: proves that what the vault promises is there. Structure first (state, points, pages, index), then every byte of every pack.

use std::collections::{BTreeMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::item::ChunkId;
use crate::manifest::{ManifestReader, Record};
use crate::monitor::{Monitor, WorkProgress};
use crate::pack::{Location, PackId, check_file};
use crate::point::Point;
use crate::state::Chain;
use crate::vault::Vault;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// State, points, pages, index; content is not read.
    Structure,
    /// The same, and every byte of every pack.
    #[default]
    Bytes,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Instances looked at.
    pub instances: u64,
    /// Points whose structure was walked.
    pub points: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Packs read in full.
    pub packs: u64,
    /// Bytes of packs read.
    pub pack_bytes: u64,
    /// Index runs read.
    pub index_runs: u64,
    /// Everything that is wrong, each with the file it concerns; empty means that all is well.
    pub damage: Vec<String>,
}

/// Damage of one kind that a report spells out.
const SPELLED_OUT: usize = 1000;

impl VerifyReport {
    fn damaged(&mut self, text: String) {
        if self.damage.len() < SPELLED_OUT {
            self.damage.push(text);
        }
    }

    /// Records damage; anything else is an error of the verification itself.
    fn take(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound => {
                self.damaged(error.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Numbers of the last state records that somebody saw, by chain (an instance, or `vault`). A chain that ends before them was cut: what lies
/// inside of a chain proves itself, its tail only this way.
pub type SeenNumbers = BTreeMap<String, u64>;

/// Verifies a vault. Damage is collected in the report; only a failing store or a stop ends the work early.
pub async fn run(vault: &Vault, depth: Depth, seen: &SeenNumbers, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    vault.index.refresh().await?;
    check_key_slots(vault, &mut report).await?;
    let mut numbers = SeenNumbers::new();
    match Chain::vault(vault).load_and_check_all().await {
        Ok(state) => drop(numbers.insert("vault".to_owned(), state.number)),
        Err(e) => report.take(e)?,
    }
    let packs = check_packs(vault, depth, monitor, &mut report).await?;
    check_index(vault, &packs, &mut report).await?;
    for instance in Chain::instances(vault).await? {
        report.instances += 1;
        check_instance(vault, &instance, &mut numbers, &mut report).await?;
    }
    for (chain, seen) in seen {
        let found = numbers.get(chain).copied().unwrap_or(0);
        if found < *seen {
            report.damaged(format!("state/{chain}: the chain ends at {found}, and record {seen} was seen before"));
        }
    }
    Ok(report)
}

async fn check_key_slots(vault: &Vault, report: &mut VerifyReport) -> Result<()> {
    for name in &vault.damaged_slots {
        report.damaged(format!("{name}: the key slot does not open, its copy does"));
    }
    for (name, reason) in vault.index.damaged_runs() {
        report.damaged(format!("{name} is damaged: {reason}"));
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

/// Reads the packs and returns which there are.
async fn check_packs(
    vault: &Vault,
    depth: Depth,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<HashSet<PackId>> {
    let mut packs = HashSet::new();
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list("packs/", after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(packs) };
        after = Some(last.name.clone());
        for file in &files {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let Some(id) = PackId::from_file_name(&file.name) else {
                report.damaged(format!("{}: this is no name of a pack", file.name));
                continue;
            };
            packs.insert(id);
            if depth == Depth::Bytes {
                check_pack(vault, id, report).await?;
            }
            monitor.progress(&WorkProgress { bytes: report.pack_bytes, ..WorkProgress::default() });
        }
    }
}

async fn check_pack(vault: &Vault, id: PackId, report: &mut VerifyReport) -> Result<()> {
    let file = vault.store.get(&id.file_name()).await?;
    report.packs += 1;
    report.pack_bytes += file.len() as u64;
    let keys = vault.keys.clone();
    let checked = tokio::task::spawn_blocking(move || check_file(&keys, id, &file))
        .await
        .map_err(|e| Error::Internal(format!("a worker thread died: {e}")))?;
    let frames = match checked {
        Ok(frames) => frames,
        Err(e) => return report.take(e),
    };
    // A pack whose chunks no run names is a leftover of an interrupted job. One that the index describes wrongly is damage.
    for frame in &frames {
        let ids: HashSet<ChunkId> = frame.chunks.iter().map(|(chunk, _)| *chunk).collect();
        let indexed = vault.index.find_many(&ids).await?;
        for (chunk, location) in frame.locations(id) {
            let is_wrong = |found: &Location| found.pack == id && *found != location;
            if indexed.get(&chunk).is_some_and(is_wrong) {
                report.damaged(format!("index: it describes chunk {chunk} of {} wrongly", id.file_name()));
            }
        }
    }
    Ok(())
}

async fn check_index(vault: &Vault, packs: &HashSet<PackId>, report: &mut VerifyReport) -> Result<()> {
    let mut missing: BTreeMap<String, u64> = BTreeMap::new();
    let outcome = Index::for_each_block(&vault.index, |_, entries| {
        for (_, location) in entries.iter().filter(|(_, location)| !packs.contains(&location.pack)) {
            *missing.entry(location.pack.file_name()).or_default() += 1;
        }
        Ok(())
    })
    .await;
    match outcome {
        Ok(runs) => report.index_runs = runs as u64,
        Err(e) => report.take(e)?,
    }
    for (pack, chunks) in missing {
        // A backup that runs beside may have written it since the packs were listed.
        if vault.store.size(&pack).await.is_ok() {
            continue;
        }
        report.damaged(format!("{pack}: the file is missing, and the index says that it holds {chunks} chunks"));
    }
    Ok(())
}

async fn check_instance(
    vault: &Vault,
    instance: &str,
    numbers: &mut SeenNumbers,
    report: &mut VerifyReport,
) -> Result<()> {
    let state = match Chain::instance(vault, instance)?.load_and_check_all().await {
        Ok(state) => state,
        Err(e) => return report.take(e),
    };
    numbers.insert(instance.to_owned(), state.number);
    for point in &state.points {
        report.points += 1;
        if let Err(e) = check_point(vault, instance, &point.job, report).await {
            report.take(e)?;
        }
    }
    Ok(())
}

/// Chunks that are looked up together.
const LOOKED_UP: usize = 8192;

async fn check_point(vault: &Vault, instance: &str, job: &str, report: &mut VerifyReport) -> Result<()> {
    let name = Point::file_name(instance, job);
    let named = |e: Error| match e {
        Error::Damaged { file, reason } => Error::damaged(file, format!("{reason} (needed by {name})")),
        other => other,
    };
    let point = Point::get(vault, instance, job).await?;
    let mut records = ManifestReader::new(&vault.reader, &point.root, None);
    let mut wanted: HashSet<ChunkId> = HashSet::new();
    let mut blobs = 0;
    while let Some(record) = records.next().await.map_err(named)? {
        let Record::Blob(item) = record else { continue };
        blobs += 1;
        let mut names = vault.reader.content(&item.content);
        while let Some(id) = names.next().await.map_err(named)? {
            wanted.insert(id);
            if wanted.len() >= LOOKED_UP {
                vault.reader.locate(&std::mem::take(&mut wanted)).await.map_err(named)?;
            }
        }
    }
    vault.reader.locate(&wanted).await.map_err(named)?;
    report.blobs += blobs;
    let promised = point.root.totals.blobs;
    if blobs == promised {
        return Ok(());
    }
    Err(Error::damaged(name.clone(), format!("it promises {promised} blobs and its manifest has {blobs}")))
}
