//! The ledger: when each pack was last read whole, and when each point was last proven. It lies in the store as one sealed file,
//! `ledger/<number>`, and every verification that is to be remembered writes the next one and removes those before it. Losing it loses
//! nothing but the memory: packs are then read anew, newest points first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::SeenNumbers;
use super::packs::PackFacts;
use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::pack::PackId;
use crate::read::ChunkReader;
use crate::seal::{open_record, seal_record};
use crate::store::Put;
use crate::vault::Vault;

/// Folder of the ledger.
const FOLDER: &str = "ledger/";
const VERSION: u8 = 1;
/// Beginning of a pack's id: two packs that share it share their entry, which costs nothing but an early or late reading.
type ShortId = [u8; 8];
/// Numbers that are tried if other verifications run beside.
const TRIES: u64 = 16;

/// When a point was last proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PointProof {
    /// Its pages and index were walked, and nothing was missing.
    pub structure_at: Option<Timestamp>,
    /// Every pack that it needs was read whole since this instant.
    pub bytes_at: Option<Timestamp>,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    number: u64,
    packs: HashMap<ShortId, (u32, u32)>,
    broken: BTreeSet<PackId>,
    has_losses: bool,
    numbers: SeenNumbers,
    /// The last segment that was seen of each journal.
    journals: SeenNumbers,
    points: BTreeMap<(String, String), PointProof>,
}

/// The plaintext, as postcard after a version byte.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Beginning of the id, then minutes since 1970 of its last reading and of the newest point that needs it; 0 is never.
    packs: Vec<(ShortId, u32, u32)>,
    /// Packs that are damaged, or missing although the index names them.
    broken: BTreeSet<PackId>,
    /// The last verification found that something is lost.
    has_losses: bool,
    /// The last record of each chain, and the last segment of each journal.
    numbers: SeenNumbers,
    /// Instance, job, and when it was proven.
    points: Vec<(String, String, PointProof)>,
}

impl Ledger {
    /// The newest ledger of the store; an empty one if there is none. `Ok((_, Some(reason)))` if it cannot be read, which loses nothing.
    pub async fn load(vault: &Vault) -> Result<(Self, Option<String>)> {
        let Some((number, name)) = files(vault).await?.pop() else { return Ok((Self::default(), None)) };
        match Self::read(vault, &name, number).await {
            Ok(ledger) => Ok((ledger, None)),
            Err(e @ (Error::Damaged { .. } | Error::Store(_))) => {
                Ok((Self { number, ..Self::default() }, Some(e.to_string())))
            }
            Err(e) => Err(e),
        }
    }

    async fn read(vault: &Vault, name: &str, number: u64) -> Result<Self> {
        let file = vault.store.get(name).await?;
        let plaintext = open_record(&vault.keys.meta_key, name, &file)?;
        let stored: Stored = plaintext
            .strip_prefix(&[VERSION])
            .and_then(|rest| postcard::from_bytes(rest).ok())
            .ok_or_else(|| Error::damaged(name, "it does not parse"))?;
        let (journals, numbers) = stored.numbers.into_iter().partition(|(name, _)| name.contains('/'));
        Ok(Self {
            number,
            packs: stored.packs.into_iter().map(|(id, read, needed)| (id, (read, needed))).collect(),
            broken: stored.broken,
            has_losses: stored.has_losses,
            numbers,
            journals,
            points: stored.points.into_iter().map(|(instance, job, proof)| ((instance, job), proof)).collect(),
        })
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// When a point was last proven.
    pub fn point(&self, instance: &str, job: &str) -> PointProof {
        self.points.get(&(instance.to_owned(), job.to_owned())).copied().unwrap_or_default()
    }

    /// When a pack was last read whole, and when the newest point that needs it was begun; `None` if it is not known here.
    pub(super) fn pack(&self, id: PackId) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        self.packs.get(&short(id)).map(|(read, needed)| (from_minutes(*read), from_minutes(*needed)))
    }

    /// Tells a reader what a backup must not build upon.
    pub fn warn(&self, reader: &ChunkReader) {
        reader.mark_broken(self.broken.iter().copied());
        if self.has_losses {
            reader.doubt();
        }
    }

    pub(super) fn is_broken(&self, id: PackId) -> bool {
        self.broken.contains(&id)
    }

    /// Takes over what is known of the packs now; packs that have gone are forgotten.
    pub(super) fn set_packs(&mut self, facts: impl Iterator<Item = (PackId, PackFacts)>, broken: BTreeSet<PackId>) {
        self.broken = broken;
        self.packs = facts.map(|(id, facts)| (short(id), (minutes(facts.read_at), minutes(facts.needed_at)))).collect();
    }

    /// Numbers of the last records that were seen of each chain. They only grow: a chain that ends before was cut.
    pub(crate) fn numbers(&self) -> &SeenNumbers {
        &self.numbers
    }

    pub(super) fn see_numbers(&mut self, found: &SeenNumbers) {
        for (chain, number) in found {
            let seen = self.numbers.entry(chain.clone()).or_default();
            *seen = (*seen).max(*number);
        }
    }

    /// The last segment that was seen of a journal; 0 if none was.
    pub(crate) fn journal(&self, key: &str) -> u64 {
        self.journals.get(key).copied().unwrap_or(0)
    }

    /// Takes over the last segments that are there. Journals that are not named have gone.
    pub(super) fn set_journals(&mut self, found: SeenNumbers) {
        let before = std::mem::take(&mut self.journals);
        let grown = |(key, number): (String, u64)| {
            let seen = before.get(&key).copied().unwrap_or(0);
            (key, number.max(seen))
        };
        self.journals = found.into_iter().map(grown).collect();
    }

    /// Takes over what was proven of all points; points that have gone are forgotten.
    pub(super) fn set_points(&mut self, points: BTreeMap<(String, String), PointProof>, has_losses: bool) {
        self.points = points;
        self.has_losses = has_losses;
    }

    /// Writes this as the next ledger, then removes those before it.
    pub(super) async fn save(&mut self, vault: &Vault) -> Result<()> {
        let mut packs: Vec<_> = self.packs.iter().map(|(id, (read, needed))| (*id, *read, *needed)).collect();
        packs.sort_unstable();
        let points = self.points.iter().map(|((instance, job), proof)| (instance.clone(), job.clone(), *proof));
        let stored = Stored {
            packs,
            broken: self.broken.clone(),
            has_losses: self.has_losses,
            numbers: self.numbers.iter().chain(&self.journals).map(|(name, number)| (name.clone(), *number)).collect(),
            points: points.collect(),
        };
        let plaintext =
            postcard::to_extend(&stored, vec![VERSION]).map_err(|e| Error::Internal(format!("ledger: {e}")))?;
        for _ in 0..TRIES {
            self.number += 1;
            let name = format!("{FOLDER}{:010}", self.number);
            let file = seal_record(&vault.keys.meta_key, &name, &plaintext)?;
            if vault.store.put_if_absent(&name, Bytes::from(file)).await? == Put::Stored {
                for (_, old) in files(vault).await?.iter().filter(|(number, _)| *number < self.number) {
                    vault.store.delete(old).await?;
                }
                return Ok(());
            }
        }
        Err(Error::Conflict("other verifications keep writing the ledger: run them one after the other".into()))
    }
}

/// Numbers and names of all ledgers, oldest first: one, but for a moment or after a crash.
async fn files(vault: &Vault) -> Result<Vec<(u64, String)>> {
    let files = vault.store.list(FOLDER, None).await?;
    let numbered = |name: String| name[FOLDER.len()..].parse().ok().map(|number| (number, name));
    Ok(files.into_iter().filter_map(|file| numbered(file.name)).collect())
}

fn short(id: PackId) -> ShortId {
    let mut short = ShortId::default();
    short.copy_from_slice(&id.0[..8]);
    short
}

const MICROSECONDS: i64 = 60_000_000;

/// Never is 0; an instant that does not fit is taken for the nearest that does.
fn minutes(at: Option<Timestamp>) -> u32 {
    at.map_or(0, |at| u32::try_from((at.0 / MICROSECONDS).max(1)).unwrap_or(u32::MAX))
}

fn from_minutes(minutes: u32) -> Option<Timestamp> {
    (minutes > 0).then(|| Timestamp(i64::from(minutes) * MICROSECONDS))
}
