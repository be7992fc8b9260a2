//! What a restore has done, and how far it has come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::item::BlobEntry;
use crate::manifest::Totals;
use crate::monitor::{Monitor, WorkProgress};
use crate::target::Written;

/// Skipped blobs and losses that a report spells out.
pub(super) const EXAMPLES: usize = 100;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreCounts {
    /// Blobs chosen by the selection.
    pub planned: Totals,
    /// Containers made.
    pub created_containers: u64,
    /// Blobs written.
    pub written_blobs: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Blobs left as they were.
    pub skipped_blobs: u64,
    /// Blobs removed (in place only).
    pub removed_blobs: u64,
    /// Blobs that were already as they should be (in place only).
    pub unchanged_blobs: u64,
    /// Properties that the target cannot hold, and on how many blobs.
    pub lost_properties: BTreeMap<String, u64>,
    /// Some of the skipped blobs and lost properties, in words.
    pub examples: Vec<String>,
}

impl RestoreCounts {
    pub(super) fn note(&mut self, entry: &BlobEntry, outcome: &Written) {
        match outcome {
            Written::Written { lost } => {
                self.written_blobs += 1;
                self.written_bytes += entry.size_bytes;
                for property in lost {
                    *self.lost_properties.entry(property.clone()).or_default() += 1;
                    self.example(|| format!("{}: {property} could not be put back", entry.display_name()));
                }
            }
            Written::Skipped(reason) => {
                self.skipped_blobs += 1;
                self.example(|| format!("{}: {reason}", entry.display_name()));
            }
        }
    }

    pub(super) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// How far the work has come, as it is shown: with what batches that are under way have written already.
pub(super) struct Shown {
    planned: Totals,
    blobs: AtomicU64,
    bytes: AtomicU64,
    unchanged_blobs: AtomicU64,
    skipped_blobs: AtomicU64,
}

impl Shown {
    pub(super) fn new(counts: &RestoreCounts) -> Self {
        let shown = Self {
            planned: counts.planned,
            blobs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            unchanged_blobs: AtomicU64::new(0),
            skipped_blobs: AtomicU64::new(0),
        };
        shown.set(counts);
        shown
    }

    /// Everything so far, where nothing else is under way.
    pub(super) fn set(&self, counts: &RestoreCounts) {
        let blobs = counts.written_blobs + counts.skipped_blobs + counts.unchanged_blobs;
        self.blobs.store(blobs, Ordering::Relaxed);
        self.bytes.store(counts.written_bytes, Ordering::Relaxed);
        self.unchanged_blobs.store(counts.unchanged_blobs, Ordering::Relaxed);
        self.skipped_blobs.store(counts.skipped_blobs, Ordering::Relaxed);
    }

    /// One more blob, with those of its bytes that were not shown while they moved.
    pub(super) fn note(&self, outcome: &Written, bytes: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Written::Written { .. } => self.moved(bytes),
            Written::Skipped(_) => drop(self.skipped_blobs.fetch_add(1, Ordering::Relaxed)),
        }
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn report(&self, monitor: &dyn Monitor) {
        monitor.progress(&WorkProgress {
            blobs: self.blobs.load(Ordering::Relaxed),
            blobs_in_all: Some(self.planned.blobs),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_in_all: Some(self.planned.bytes),
            unchanged_blobs: self.unchanged_blobs.load(Ordering::Relaxed),
            skipped_blobs: self.skipped_blobs.load(Ordering::Relaxed),
        });
    }
}
