//! What a verification found: damaged files, and the blobs that are lost by them, by name.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::item::{EntryKey, Timestamp};
use crate::manifest::OwnedKey;

/// Damage, losses and notes that a report spells out, each.
const SPELLED_OUT: usize = 1000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Instances looked at.
    pub instances: u64,
    /// Points whose structure was walked.
    pub points: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Segments of journals read.
    pub journal_segments: u64,
    /// Changes in them.
    pub journal_changes: u64,
    /// Packs read in full.
    pub packs: u64,
    /// Bytes of packs read.
    pub pack_bytes: u64,
    /// Packs in the store.
    pub packs_in_all: u64,
    /// Index runs read.
    pub index_runs: u64,
    /// What is wrong, each with the file it concerns, at most 1,000; empty means that all is well.
    pub damage: Vec<String>,
    /// How much is wrong in all.
    pub damage_in_all: u64,
    /// What can no longer be restored, at most 1,000.
    pub losses: Vec<Loss>,
    /// Blobs that can no longer be restored, each counted once for each point it is lost from.
    pub lost_blobs: u64,
    /// Points that lost something.
    pub harmed_points: u64,
    /// What was noticed and costs nothing: leftovers, and files that are made anew when they are missed.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Nothing is damaged. Notes do not count.
    pub fn is_sound(&self) -> bool {
        self.damage_in_all == 0
    }

    pub(super) fn damaged(&mut self, text: String) {
        // One damaged page is met in each point that has it.
        if self.damage.contains(&text) {
            return;
        }
        self.damage_in_all += 1;
        if self.damage.len() < SPELLED_OUT {
            self.damage.push(text);
        }
    }

    pub(super) fn note(&mut self, text: String) {
        if self.notes.len() < SPELLED_OUT {
            self.notes.push(text);
        }
    }

    pub(super) fn lose(&mut self, blobs: u64, loss: Loss) {
        self.lost_blobs += blobs;
        if self.losses.len() < SPELLED_OUT {
            self.losses.push(loss);
        }
    }

    /// Records damage; anything else is an error of the verification itself.
    pub(super) fn take(&mut self, error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        self.damaged(error.to_string());
        Ok(())
    }
}

/// An error that tells something about the vault rather than about the way to it.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound)
}

/// Something that can no longer be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The instance.
    pub instance: String,
    /// The job of the point.
    pub point: String,
    /// What is lost of it.
    pub scope: LossScope,
    /// Why: the damaged file, and what does not fit.
    pub reason: String,
}

/// How much of a point is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossScope {
    /// All of it: its file or its first page. `None` if nobody knows how many blobs it has.
    Point {
        /// Blobs in it.
        blobs: Option<u64>,
    },
    /// One blob.
    Blob {
        /// Its container.
        container: String,
        /// Its name.
        name: String,
        /// Its version, if it is not the current one.
        version: Option<String>,
    },
    /// The blobs of a page: those in a part of the sorted list of containers and names.
    Between {
        /// The last one before the part; `None` at the beginning.
        after: Option<OwnedKey>,
        /// The last one of the part.
        up_to: OwnedKey,
        /// Blobs in it.
        blobs: u64,
    },
    /// Of a base point of a continuous backup what changed after an instant: no later one can be restored until the next base point.
    Changes {
        /// The last instant that can be restored.
        after: Timestamp,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, point, scope, reason } = self;
        match scope {
            LossScope::Point { blobs: None } => write!(f, "point {point} of {instance}")?,
            LossScope::Point { blobs: Some(blobs) } => write!(f, "point {point} of {instance}, {blobs} blobs")?,
            LossScope::Blob { container, name, version } => {
                write!(f, "{container}/{name}")?;
                if let Some(version) = version {
                    write!(f, " (version {version})")?;
                }
                write!(f, " in point {point} of {instance}")?;
            }
            LossScope::Between { after, up_to, blobs } => {
                write!(f, "{blobs} blobs ")?;
                if let Some(after) = after {
                    write!(f, "after {} ", text(after.as_key()))?;
                }
                write!(f, "up to {} in point {point} of {instance}", text(up_to.as_key()))?;
            }
            LossScope::Changes { after } => {
                write!(f, "changes from {after} on in the journal of point {point} of {instance}")?;
            }
        }
        write!(f, ": {reason}")
    }
}

fn text(key: EntryKey<'_>) -> String {
    if key.name.is_empty() { key.container.to_owned() } else { format!("{}/{}", key.container, key.name) }
}
