//! The chain of an instance: its points, how long they stay, what holds them, and whether the instance was deleted.
//!
//! What is held, immutable or soft-deleted is not removed, whoever asks: [`Chain::append`] refuses the record that would remove it.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::chain::{At, Chain, Chained};
use super::vault::{Immutability, VAULT_CHAIN, VaultState};
use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::journal;
use crate::point::Point;
use crate::vault::Vault;

/// One change of an instance's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// The first backup of the instance has begun. So a point without a chain is known to have lost it.
    InstanceMade,
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
        /// Number of the last record of this chain when the writer registered: a fence after it makes this record impossible.
        registered: u64,
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
    /// A hold was set: what it covers stays until it is lifted.
    HoldSet {
        /// The hold.
        #[serde(flatten)]
        hold: Hold,
    },
    /// A hold was lifted.
    HoldLifted {
        /// Its name.
        name: String,
    },
    /// The instance was deleted; its points stay until `purge_at`.
    SoftDeleted {
        /// When the points may go.
        purge_at: Timestamp,
    },
    /// The deletion was taken back.
    Undeleted,
    /// Writers that registered before this record are taken for dead: they can add no point.
    Fenced,
}

/// Keeps one point, or all of an instance, from being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Its name, by which it is lifted.
    pub name: String,
    /// The point's job; `None` is all points of the instance, also future ones.
    pub point: Option<String>,
    /// Why, in words for whoever finds it.
    pub reason: String,
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

/// What the chain of an instance adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Points, in the order of their commits.
    pub points: Vec<LivePoint>,
    /// What keeps points from being removed.
    pub holds: Vec<Hold>,
    /// Set while the instance is soft-deleted.
    pub purge_at: Option<Timestamp>,
    /// Number of the last fence; 0 if there is none.
    pub fence: u64,
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

    /// The hold that keeps a point, if there is one.
    pub fn hold_on(&self, job: &str) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.point.as_deref().is_none_or(|held| held == job))
    }

    /// Whether a point can be removed now, and if not, why. Nothing here says that it should be.
    pub fn removal(&self, job: &str, immutability: Immutability, now: Timestamp) -> Removal {
        let Some(point) = self.point(job) else { return Removal::Unknown };
        if let Some(hold) = self.hold_on(job) {
            return Removal::Kept(format!("hold {:?} keeps it: {}", hold.name, hold.reason));
        }
        let is_expired = point.expires_at.is_some_and(|expires_at| expires_at <= now);
        if immutability != Immutability::Disabled && !is_expired {
            return Removal::Kept("the vault is immutable and the point has not expired".into());
        }
        match self.purge_at {
            Some(purge_at) if purge_at > now => {
                Removal::Kept("its instance was deleted and can still be brought back".into())
            }
            _ => Removal::Allowed,
        }
    }

    fn point_mut(&mut self, job: &str) -> Result<&mut LivePoint> {
        self.points.iter_mut().find(|point| point.job == job).ok_or_else(|| unknown(job))
    }

    /// What the rules of the vault say to a change.
    fn check_rules(&self, change: &Change, rules: &VaultState, now: Timestamp) -> Result<()> {
        let is_immutable = rules.immutability != Immutability::Disabled;
        let refuse = |reason: &str| Err(Error::Conflict(reason.to_owned()));
        match change {
            Change::PointRemoved { job } => match self.removal(job, rules.immutability, now) {
                Removal::Allowed => Ok(()),
                Removal::Unknown => Err(unknown(job)),
                Removal::Kept(reason) => {
                    Err(Error::Conflict(format!("recovery point {job} cannot be removed: {reason}")))
                }
            },
            Change::ExpirySet { job, expires_at } if is_immutable => {
                let sooner = match (self.point(job).and_then(|point| point.expires_at), expires_at) {
                    (None, Some(_)) => true,
                    (Some(old), Some(new)) => *new < old,
                    (_, None) => false,
                };
                if sooner { refuse("the vault is immutable: a point's expiry can only be put off") } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

/// Whether a point can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Nothing is in the way.
    Allowed,
    /// Something is, in words for the operator.
    Kept(String),
    /// There is no such point.
    Unknown,
}

fn unknown(job: &str) -> Error {
    Error::NotFound(format!("there is no recovery point {job}"))
}

impl Chained for State {
    type Change = Change;

    fn apply(&mut self, change: &Change, number: u64) -> Result<()> {
        match change {
            Change::InstanceMade => {}
            Change::PointAdded { job, started_at, completed_at, expires_at, registered } => {
                if self.point(job).is_some() {
                    return Err(Error::Conflict(format!("recovery point {job} is there already")));
                }
                if self.purge_at.is_some() {
                    return Err(Error::Conflict("the instance was deleted: a deleted instance takes no points".into()));
                }
                if *registered < self.fence {
                    return Err(Error::Fenced { job: job.clone() });
                }
                self.points.push(LivePoint {
                    job: job.clone(),
                    started_at: *started_at,
                    completed_at: *completed_at,
                    expires_at: *expires_at,
                });
            }
            Change::ExpirySet { job, expires_at } => self.point_mut(job)?.expires_at = *expires_at,
            Change::PointRemoved { job } => {
                self.point_mut(job)?;
                self.points.retain(|point| point.job != *job);
                self.holds.retain(|hold| hold.point.as_ref() != Some(job));
            }
            Change::HoldSet { hold } => {
                if let Some(job) = &hold.point {
                    self.point_mut(job)?;
                }
                if self.holds.iter().any(|there| there.name == hold.name) {
                    return Err(Error::Conflict(format!("there is a hold {:?} already", hold.name)));
                }
                self.holds.push(hold.clone());
            }
            Change::HoldLifted { name } => {
                let before = self.holds.len();
                self.holds.retain(|hold| hold.name != *name);
                if self.holds.len() == before {
                    return Err(Error::NotFound(format!("there is no hold {name:?}")));
                }
            }
            Change::SoftDeleted { purge_at } => self.purge_at = Some(*purge_at),
            Change::Undeleted => self.purge_at = None,
            Change::Fenced => self.fence = number,
        }
        Ok(())
    }
}

impl<'a> Chain<'a, State> {
    /// The chain of an instance. Instance names are of lower-case letters, digits and hyphens.
    pub fn instance(vault: &'a Vault, instance: &str) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if instance.is_empty() || instance == VAULT_CHAIN || instance.len() > 64 || !instance.bytes().all(legal) {
            return Err(Error::Invalid(format!("{instance:?} is no name of an instance")));
        }
        Ok(Self::named(vault, instance))
    }

    /// All instances that have a chain.
    pub async fn instances(vault: &Vault) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let files = vault.store.list("state/", after.as_deref()).await?;
            let Some(last) = files.last() else { break };
            names.extend(files.iter().filter_map(|file| file.name.split('/').nth(1)).map(ToOwned::to_owned));
            // The rest of this chain tells nothing new: digits sort before letters.
            let chain = last.name.rsplit_once('/').map_or(last.name.as_str(), |(folder, _)| folder);
            after = Some(format!("{chain}/z").max(last.name.clone()));
        }
        names.remove(VAULT_CHAIN);
        Ok(names.into_iter().collect())
    }

    /// Adds a record. If another writer was faster, the change is checked against the newer state and tried again.
    pub async fn append(&self, change: Change, now: Timestamp) -> Result<At<State>> {
        self.append_if(change, now, |_| true).await.map(|(state, _)| state)
    }

    /// The same, provided that `holds` still says so of the state that the record will follow. The second value tells whether it was added.
    pub async fn append_if(
        &self,
        change: Change,
        now: Timestamp,
        holds: impl Fn(&State) -> bool,
    ) -> Result<(At<State>, bool)> {
        let takes = matches!(change, Change::PointRemoved { .. } | Change::ExpirySet { .. });
        loop {
            let at = self.load().await?;
            if !holds(&at) {
                return Ok((at, false));
            }
            if takes {
                let rules = Chain::vault(self.vault).load().await?;
                at.check_rules(&change, &rules, now)?;
            }
            if let Some(added) = self.add(&at, &change, now).await? {
                return Ok((added, true));
            }
        }
    }
}

/// Removes one point, unless something keeps it.
///
/// The record in the chain comes first and the point's file and its journal go after it, so that a crash in between leaves files that no
/// chain names.
/// Chunks stay until a prune frees them.
///
/// # Errors
/// [`Error::Conflict`] if it is held, immutable, or of an instance that can still be brought back.
pub async fn remove_point(vault: &Vault, instance: &str, job: &str, now: Timestamp) -> Result<()> {
    Chain::instance(vault, instance)?.append(Change::PointRemoved { job: job.to_owned() }, now).await?;
    delete_files(vault, instance, job).await
}

/// The point's file first: whoever writes its journal on looks whether it is there.
async fn delete_files(vault: &Vault, instance: &str, job: &str) -> Result<()> {
    vault.store.delete(&Point::file_name(instance, job)).await?;
    journal::remove(vault, instance, job).await
}

/// Removes from an instance the points that have expired, oldest first. The newest point of an instance that is not deleted always
/// stays if `keep_newest` says so; so does what is held. Returns the jobs of the removed points.
pub async fn expire(vault: &Vault, instance: &str, now: Timestamp, keep_newest: bool) -> Result<Vec<String>> {
    expire_others(vault, instance, now, keep_newest, &HashSet::new()).await
}

/// The same, but for points that somebody still needs, who says so by their jobs.
pub async fn expire_others(
    vault: &Vault,
    instance: &str,
    now: Timestamp,
    keep_newest: bool,
    needed: &HashSet<String>,
) -> Result<Vec<String>> {
    let chain = Chain::instance(vault, instance)?;
    let rules = Chain::vault(vault).load().await?;
    let should_go = |state: &State, job: &str| {
        let Some(point) = state.point(job) else { return false };
        let is_newest = state.latest().is_some_and(|newest| newest.job == job);
        let is_due = match state.purge_at {
            Some(purge_at) => purge_at <= now,
            None => point.expires_at.is_some_and(|expires_at| expires_at <= now) && !(keep_newest && is_newest),
        };
        is_due && state.removal(job, rules.immutability, now) == Removal::Allowed
    };
    let mut removed = Vec::new();
    for point in chain.load().await?.points.iter().filter(|point| !needed.contains(&point.job)) {
        let change = Change::PointRemoved { job: point.job.clone() };
        // Looked at again as the record is made: the deletion may have been taken back, or the expiry put off, a moment ago.
        if chain.append_if(change, now, |state| should_go(state, &point.job)).await?.1 {
            delete_files(vault, instance, &point.job).await?;
            removed.push(point.job.clone());
        }
    }
    Ok(removed)
}
