//! How much of each pack is needed, and which packs go.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::PruneReport;
use crate::error::{Error, Result};
use crate::index::Entry;
use crate::item::ChunkId;
use crate::mark::Marks;
use crate::pack::{Location, PackId};
use crate::vault::Vault;

/// How much of a pack is needed, in bytes of plaintext.
#[derive(Debug, Clone, Copy, Default)]
struct PackUse {
    all_bytes: u64,
    needed_bytes: u64,
}

/// How much of each pack is needed. Memory: about 50 bytes a pack.
#[derive(Default)]
pub(super) struct Uses {
    packs: HashMap<PackId, PackUse>,
    /// Entries of the index.
    pub(super) entries: u64,
}

/// Walks the index beside the marks. A needed chunk counts in one of the packs that hold it and are whole as far as anybody knows, outside of
/// `absent` if it can be; `only_absent` is called for each that lies in packs of `absent` only.
///
/// # Errors
/// [`Error::Damaged`] if a marked chunk is nowhere.
pub(super) async fn sweep(
    vault: &Vault,
    marks: &mut Marks,
    is_whole: impl Fn(&PackId) -> bool,
    absent: &HashSet<PackId>,
    uses: &mut Uses,
    mut only_absent: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    *uses = Uses::default();
    let mut metadata = marks.metadata()?.peekable();
    let mut content = marks.content()?.peekable();
    let mut next_mark = || -> Result<Option<ChunkId>> {
        let take_metadata = match (metadata.peek(), content.peek()) {
            (None, None) => return Ok(None),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(Ok(one)), Some(Ok(other))) => one <= other,
            (Some(Err(_)), _) => true,
            (_, Some(Err(_))) => false,
        };
        let next = if take_metadata { metadata.next() } else { content.next() };
        Ok(next.transpose()?.map(ChunkId))
    };
    let mut merged = vault.index.merged().await?;
    let mut ahead = merged.next().await?;
    let mut mark = next_mark()?;
    while let Some((id, _)) = ahead {
        let mut places: Vec<Location> = Vec::with_capacity(1);
        while let Some((_, at)) = ahead.filter(|(next, _)| *next == id) {
            places.push(at);
            ahead = merged.next().await?;
        }
        uses.entries += places.len() as u64;
        for at in &places {
            uses.packs.entry(at.pack).or_default().all_bytes += u64::from(at.plain_bytes).max(1);
        }
        if mark.is_some_and(|mark| mark < id) {
            return Err(missing(mark));
        }
        if mark != Some(id) {
            continue;
        }
        while mark == Some(id) {
            mark = next_mark()?;
        }
        let keeper = places.iter().find(|at| is_whole(&at.pack) && !absent.contains(&at.pack));
        let last_resort = || places.iter().find(|at| is_whole(&at.pack)).or(places.first());
        if let Some(at) = keeper.or_else(last_resort) {
            uses.packs.entry(at.pack).or_default().needed_bytes += u64::from(at.plain_bytes).max(1);
            // What lies in missing or broken packs only cannot be copied; it is lost already, or newer than the listing of the packs.
            if keeper.is_none() && is_whole(&at.pack) {
                only_absent((id, *at))?;
            }
        }
    }
    match mark {
        None => Ok(()),
        mark => Err(missing(mark)),
    }
}

fn missing(mark: Option<ChunkId>) -> Error {
    let id = mark.map(|id| id.to_string()).unwrap_or_default();
    Error::damaged("index", format!("a point needs chunk {id} and no run names it: rebuild the index, then verify"))
}

/// Which packs go: those of which nothing or little is needed, and those that were condemned before.
pub(super) fn choose(
    packs: &BTreeMap<PackId, u64>,
    uses: &Uses,
    is_kept: impl Fn(&PackId) -> bool,
    condemned_before: &HashSet<PackId>,
    max_unused_percent: u8,
    report: &mut PruneReport,
) -> HashSet<PackId> {
    let mut chosen = HashSet::new();
    for (pack, file_bytes) in packs {
        report.packs += 1;
        report.pack_bytes += file_bytes;
        if is_kept(pack) && !condemned_before.contains(pack) {
            report.packs_in_use += 1;
            continue;
        }
        let used = uses.packs.get(pack).copied().unwrap_or_default();
        let unused = used.all_bytes - used.needed_bytes;
        let unused_file_bytes = match used.all_bytes {
            0 => *file_bytes,
            all => (u128::from(*file_bytes) * u128::from(unused) / u128::from(all)) as u64,
        };
        if used.needed_bytes == 0 {
            report.dead_packs += 1;
            report.dead_bytes += file_bytes;
        } else if condemned_before.contains(pack)
            || u128::from(unused) * 100 > u128::from(used.all_bytes) * u128::from(max_unused_percent)
        {
            report.rewritten_packs += 1;
            report.rewritten_bytes += file_bytes;
        } else {
            report.unused_bytes_kept += unused_file_bytes;
            continue;
        }
        chosen.insert(*pack);
    }
    chosen
}
