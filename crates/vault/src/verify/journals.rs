//! The journals of base points: every segment is read, and what cannot be restored without a lost one is said.

use std::collections::BTreeSet;

use super::report::{Loss, LossScope, VerifyReport};
use crate::error::{Error, Result};
use crate::journal::{self, JournalReader};
use crate::monitor::Monitor;
use crate::point::Point;
use crate::vault::Vault;

/// What was found of a journal.
pub(super) struct Checked {
    pub(super) is_sound: bool,
    /// Segments up to the first that is lost.
    pub(super) segments: u64,
}

/// Reads the journal of a point, if it is a base point. `hash` is that of its file, and `seen` the last segment that was seen before.
pub(super) async fn check(
    vault: &Vault,
    point: &Point,
    hash: [u8; 32],
    seen: u64,
    report: &mut VerifyReport,
    monitor: &dyn Monitor,
) -> Result<Checked> {
    let Some(begin) = point.feed() else { return Ok(Checked { is_sound: true, segments: 0 }) };
    let mut reader = match JournalReader::open(vault, &point.instance, point, hash, seen).await {
        Ok(reader) => reader,
        Err(error) => {
            lose(point, begin.complete_until, error, report)?;
            return Ok(Checked { is_sound: false, segments: 0 });
        }
    };
    loop {
        if let Some(reason) = monitor.should_stop() {
            return Err(Error::Cancelled(reason));
        }
        match reader.next().await {
            Ok(Some(segment)) => {
                report.journal_segments += 1;
                report.journal_changes += segment.changes.len() as u64;
            }
            Ok(None) => return Ok(Checked { is_sound: true, segments: reader.segments() }),
            Err(error) => {
                lose(point, reader.until(), error, report)?;
                return Ok(Checked { is_sound: false, segments: reader.segments() });
            }
        }
    }
}

fn lose(point: &Point, after: crate::Timestamp, error: Error, report: &mut VerifyReport) -> Result<()> {
    let reason = error.to_string();
    report.take(error)?;
    let (instance, job) = (point.instance.clone(), point.job.clone());
    report.lose(0, Loss { instance, point: job, scope: LossScope::Changes { after }, reason });
    Ok(())
}

/// Journals whose base point no chain names: they cost nothing, and a prune removes them. `named` are the files of the points that there are.
pub(super) async fn check_leftovers(vault: &Vault, named: &BTreeSet<String>, report: &mut VerifyReport) -> Result<()> {
    for (instance, base) in journal::all(vault).await? {
        if !named.contains(&Point::file_name(&instance, &base)) {
            let journal = journal::key(&instance, &base);
            report.note(format!(
                "{journal}: its base point is not there: left by an expiry that was interrupted, a prune removes it"
            ));
        }
    }
    Ok(())
}
