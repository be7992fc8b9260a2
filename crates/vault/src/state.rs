//! What changes in a vault: numbered, sealed, hash-chained records, made by put-if-absent of the next number, which is a
//! compare-and-swap. There is one chain for each instance and one for the vault.
//!
//! The record that adds a point is the commit of its backup: before it nothing is visible, after it everything is. The truth
//! about what exists and until when lies here, beside the data, and in no database.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::seal::{open_record, seal_record};
use crate::store::{Put, StoreErrorKind};
use crate::vault::Vault;

/// One change of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// The vault was made; only in the chain of the vault.
    VaultMade,
    /// A backup was committed.
    PointAdded {
        /// The point's job.
        job: String,
        /// When its listing began.
        started_at: Timestamp,
        /// When everything was durable.
        completed_at: Timestamp,
        /// When it may go; `None` is never.
        expires_at: Option<Timestamp>,
    },
    /// The expiry of a point was set anew.
    ExpirySet {
        /// The point's job.
        job: String,
        /// When it may go; `None` is never.
        expires_at: Option<Timestamp>,
    },
    /// A point has gone.
    PointRemoved {
        /// The point's job.
        job: String,
    },
    /// The instance was deleted; its points stay until `purge_at`.
    SoftDeleted {
        /// When the points may go.
        purge_at: Timestamp,
    },
    /// The deletion was taken back.
    Undeleted,
}

/// A point as its chain knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LivePoint {
    /// The job that made it, and its name.
    pub job: String,
    /// When its listing began.
    pub started_at: Timestamp,
    /// When everything was durable.
    pub completed_at: Timestamp,
    /// When it may go; `None` is never.
    pub expires_at: Option<Timestamp>,
}

/// What a chain adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Number of the last record; 0 if there is none.
    pub number: u64,
    /// Points, in the order of their commits.
    pub points: Vec<LivePoint>,
    /// Set while the instance is soft-deleted.
    pub purge_at: Option<Timestamp>,
    #[serde(skip)]
    last_hash: String,
}

impl State {
    /// The newest point.
    pub fn latest(&self) -> Option<&LivePoint> {
        self.points.iter().max_by_key(|point| (point.started_at, point.completed_at))
    }

    /// The point of that job.
    pub fn point(&self, job: &str) -> Option<&LivePoint> {
        self.points.iter().find(|point| point.job == job)
    }

    /// Applies a change; an error if it contradicts what is there.
    fn apply(&mut self, change: &Change) -> Result<()> {
        let unknown = |job: &str| Error::NotFound(format!("there is no recovery point {job}"));
        match change {
            Change::VaultMade => {}
            Change::PointAdded { job, started_at, completed_at, expires_at } => {
                if self.point(job).is_some() {
                    return Err(Error::Conflict(format!("recovery point {job} is there already")));
                }
                if self.purge_at.is_some() {
                    return Err(Error::Conflict("the instance was deleted: a deleted instance takes no points".into()));
                }
                self.points.push(LivePoint {
                    job: job.clone(),
                    started_at: *started_at,
                    completed_at: *completed_at,
                    expires_at: *expires_at,
                });
            }
            Change::ExpirySet { job, expires_at } => {
                let point = self.points.iter_mut().find(|point| point.job == *job).ok_or_else(|| unknown(job))?;
                point.expires_at = *expires_at;
            }
            Change::PointRemoved { job } => {
                let position = self.points.iter().position(|point| point.job == *job).ok_or_else(|| unknown(job))?;
                self.points.remove(position);
            }
            Change::SoftDeleted { purge_at } => self.purge_at = Some(*purge_at),
            Change::Undeleted => self.purge_at = None,
        }
        Ok(())
    }
}

/// The plaintext of `state/<chain>/<n>`, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    number: u64,
    /// BLAKE3 of the file before, in hexadecimal digits; empty for the first.
    previous: String,
    time: Timestamp,
    #[serde(flatten)]
    change: Change,
    /// The state after this record, in every [`FOLD`]th one, so that a chain need not be read from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<State>,
}

/// Every record of a number divisible by this carries the whole state.
const FOLD: u64 = 32;
/// The chain of the vault itself.
const VAULT_CHAIN: &str = "vault";

/// One chain of a vault.
pub struct Chain<'a> {
    vault: &'a Vault,
    name: String,
}

impl<'a> Chain<'a> {
    /// The chain of an instance. Instance names are of lower-case letters, digits and hyphens.
    pub fn instance(vault: &'a Vault, instance: &str) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if instance.is_empty() || instance == VAULT_CHAIN || instance.len() > 64 || !instance.bytes().all(legal) {
            return Err(Error::Invalid(format!("{instance:?} is no name of an instance")));
        }
        Ok(Self { vault, name: instance.to_owned() })
    }

    /// The chain of the vault.
    pub fn vault(vault: &'a Vault) -> Self {
        Self { vault, name: VAULT_CHAIN.to_owned() }
    }

    /// All instances that have a chain.
    pub async fn instances(vault: &Vault) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let files = vault.store.list("state/", after.as_deref()).await?;
            let Some(last) = files.last() else { break };
            after = Some(last.name.clone());
            names.extend(files.iter().filter_map(|file| file.name.split('/').nth(1)).map(ToOwned::to_owned));
        }
        names.remove(VAULT_CHAIN);
        Ok(names.into_iter().collect())
    }

    fn file_name(&self, number: u64) -> String {
        format!("state/{}/{number:010}", self.name)
    }

    /// The state after the last record, read from the last fold on.
    pub async fn load(&self) -> Result<State> {
        let last = self.last_number().await?;
        let from = (last / FOLD * FOLD).max(1);
        self.replay(from, last).await
    }

    /// The state, with every record of the chain read and checked.
    pub async fn load_and_check_all(&self) -> Result<State> {
        self.replay(1, self.last_number().await?).await
    }

    async fn last_number(&self) -> Result<u64> {
        let folder = format!("state/{}/", self.name);
        let mut last: Option<String> = None;
        loop {
            let files = self.vault.store.list(&folder, last.as_deref()).await?;
            match files.into_iter().next_back() {
                Some(file) => last = Some(file.name),
                None => break,
            }
        }
        let Some(name) = last else { return Ok(0) };
        name[folder.len()..].parse().map_err(|_| Error::damaged(&name, "its name is no number"))
    }

    async fn replay(&self, from: u64, last: u64) -> Result<State> {
        let mut state = State::default();
        for number in from..=last {
            let name = self.file_name(number);
            let file = self.vault.store.get(&name).await.map_err(|e| match e.kind {
                StoreErrorKind::NotFound => Error::damaged(&name, "the record is missing from its chain"),
                _ => Error::Store(e),
            })?;
            let text = open_record(&self.vault.keys.meta_key, &name, &file)?;
            let record: Record = serde_json::from_slice(&text).map_err(|e| Error::damaged(&name, e.to_string()))?;
            let follows = number == from || record.previous == state.last_hash;
            let is_first = number != 1 || record.previous.is_empty();
            if record.number != number || !follows || !is_first {
                return Err(Error::damaged(&name, "it does not follow the record before it"));
            }
            match record.folded {
                Some(folded) if number == from => state = folded,
                Some(folded) => {
                    state.apply(&record.change).map_err(|e| Error::damaged(&name, e.to_string()))?;
                    if folded.points != state.points || folded.purge_at != state.purge_at {
                        return Err(Error::damaged(
                            &name,
                            "the state folded into it is not what the records before add up to",
                        ));
                    }
                }
                None => state.apply(&record.change).map_err(|e| Error::damaged(&name, e.to_string()))?,
            }
            state.number = number;
            state.last_hash = blake3::hash(&file).to_hex().to_string();
        }
        Ok(state)
    }

    /// Adds a record. If another writer was faster, the change is checked against the newer state and tried again.
    pub async fn append(&self, change: Change, now: Timestamp) -> Result<State> {
        self.append_if(change, now, |_| true).await.map(|(state, _)| state)
    }

    /// The same, provided that `holds` still says so of the state that the record will follow. The second value tells whether it was added.
    pub async fn append_if(
        &self,
        change: Change,
        now: Timestamp,
        holds: impl Fn(&State) -> bool,
    ) -> Result<(State, bool)> {
        loop {
            let mut state = self.load().await?;
            if !holds(&state) {
                return Ok((state, false));
            }
            let previous = state.last_hash.clone();
            state.apply(&change)?;
            state.number += 1;
            let folded = state.number.is_multiple_of(FOLD).then(|| state.clone());
            let record = Record { number: state.number, previous, time: now, change: change.clone(), folded };
            let name = self.file_name(state.number);
            let text = serde_json::to_vec(&record).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
            let file = seal_record(&self.vault.keys.meta_key, &name, &text)?;
            state.last_hash = blake3::hash(&file).to_hex().to_string();
            if self.vault.store.put_if_absent(&name, Bytes::from(file)).await? == Put::Stored {
                return Ok((state, true));
            }
        }
    }
}

/// Removes from an instance the points that have expired, oldest first. The newest point of an instance that is not deleted always
/// stays if `keep_newest` says so. Returns the jobs of the removed points.
///
/// The record in the chain comes first and the point's file goes after it, so that a crash in between leaves a file that no chain names.
/// Chunks stay until a prune frees them.
pub async fn expire(vault: &Vault, instance: &str, now: Timestamp, keep_newest: bool) -> Result<Vec<String>> {
    let chain = Chain::instance(vault, instance)?;
    let may_go = |state: &State, job: &str| {
        let Some(point) = state.point(job) else { return false };
        let is_newest = state.latest().is_some_and(|newest| newest.job == job);
        match state.purge_at {
            Some(purge_at) => purge_at <= now,
            None => point.expires_at.is_some_and(|expires_at| expires_at <= now) && !(keep_newest && is_newest),
        }
    };
    let mut removed = Vec::new();
    for point in chain.load().await?.points {
        let change = Change::PointRemoved { job: point.job.clone() };
        // Looked at again as the record is made: the deletion may have been taken back, or the expiry put off, a moment ago.
        if chain.append_if(change, now, |state| may_go(state, &point.job)).await?.1 {
            vault.store.delete(&crate::point::Point::file_name(instance, &point.job)).await?;
            removed.push(point.job);
        }
    }
    Ok(removed)
}
