//! Writing a journal on.

use crate::error::{Error, Result};
use crate::point::Point;
use crate::source::ChangePage;
use crate::store::{Put, StoreErrorKind};
use crate::vault::Vault;

use super::JournalEnd;
use super::segment::{Change, Segment, cut};

/// What was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendReport {
    /// Segments written.
    pub segments: u64,
    /// Changes in them.
    pub changes: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Writes the changes of a page as segments; nothing if it has none (then only `end.position` moves on, in memory). What was written is
/// durable, and `end` tells of it, also if an error follows.
///
/// # Errors
/// [`Error::Conflict`] if somebody else wrote meanwhile, or the base point has gone: [`super::end`] tells how it is now.
pub async fn append(vault: &Vault, instance: &str, end: &mut JournalEnd, page: &ChangePage) -> Result<AppendReport> {
    let mut report = AppendReport::default();
    let mut next = page.next.clone();
    // An instant that was complete stays so.
    next.complete_until = next.complete_until.max(end.position.complete_until);
    let mut pieces = cut(page.changes.iter().cloned().map(Change::from).collect())?.into_iter().peekable();
    if pieces.peek().is_some() {
        check_base(vault, instance, end).await?;
    }
    while let Some(changes) = pieces.next() {
        // Only the last piece says that the page is done: after a crash all of it is read again, and what stands twice does no harm.
        let position = if pieces.peek().is_some() { end.position.clone() } else { next.clone() };
        let (number, count) = (end.segments + 1, changes.len() as u64);
        let total = end.changes + count;
        let (previous, from) = (end.hash, end.position.complete_until);
        let segment = Segment { number, previous, from, position: position.clone(), total, changes };
        let (name, file) = segment.seal(vault, instance, &end.base)?;
        let hash = *blake3::hash(&file).as_bytes();
        let bytes = file.len() as u64;
        if vault.store.put_if_absent(&name, file).await? == Put::Exists {
            return Err(Error::Conflict(format!("{name} was written by somebody else meanwhile")));
        }
        (end.segments, end.changes, end.position, end.hash) = (number, total, position, hash);
        report.segments += 1;
        report.changes += count;
        report.bytes += bytes;
    }
    end.position = next;
    Ok(report)
}

/// Only the journal of a base point that is there is written: whoever removes the point removes its journal too.
async fn check_base(vault: &Vault, instance: &str, end: &JournalEnd) -> Result<()> {
    match vault.store.size(&Point::file_name(instance, &end.base)).await {
        Ok(_) => Ok(()),
        Err(e) if e.kind == StoreErrorKind::NotFound => {
            Err(Error::Conflict(format!("the base point {} of {instance} has gone: its journal has ended", end.base)))
        }
        Err(e) => Err(e.into()),
    }
}
