//! The journal of a base point: what changed in the account after the base point's listing began, change by change, in sealed segments that
//! are written once. With it any instant can be restored: its state is that of the newest base point completed by then, overlaid with the
//! changes up to it.
//!
//! Segments are numbered from 1 and each holds the hash of the file before, the first that of the base point's file. So one that was
//! changed, exchanged or taken out is noticed; of a cut end it is noticed by the number that a verification saw.
//!
//! Only the journal of the newest base point grows, and one watcher writes it. The next base point begins where this journal ends, so that
//! between two of them nothing is missing; what stands in both does no harm.

mod read;
mod segment;
mod write;

use crate::error::{Error, ErrorKind, Result};
use crate::item::Timestamp;
use crate::point::Point;
use crate::source::FeedPosition;
use crate::state::{Chain, LivePoint};
use crate::vault::Vault;
pub(crate) use read::{JournalReader, changes_until};
pub use segment::{BYTES_AT_MOST, CHANGES_AT_MOST};
pub(crate) use segment::{Change, State};
pub use write::{AppendReport, append};

/// Folder of all journals.
const FOLDER: &str = "journal/";

/// The end of a journal: where its next segment goes, and from where the feed is read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEnd {
    /// Job of the base point.
    pub base: String,
    /// When the base point was completed.
    pub base_completed_at: Timestamp,
    /// Number of the last segment, 0 if there is none.
    pub segments: u64,
    /// Changes in all segments.
    pub changes: u64,
    /// Where the feed is read on. Every instant up to its `complete_until` can be restored, from the base point's completion on.
    pub position: FeedPosition,
    /// BLAKE3 of the last file: of the last segment, or of the base point.
    hash: [u8; 32],
}

fn folder(instance: &str, base: &str) -> String {
    format!("{FOLDER}{instance}/{base}/")
}

fn file_name(instance: &str, base: &str, number: u64) -> String {
    format!("{}{number:010}", folder(instance, base))
}

/// The end of the journal of an instance's newest base point; `None` if it has no base point.
///
/// # Errors
/// [`Error::Damaged`] if that point or the last segment cannot be read: a new base point makes an end of that.
pub async fn end(vault: &Vault, instance: &str) -> Result<Option<JournalEnd>> {
    let mut points = by_completion(vault, instance).await?;
    points.reverse();
    for live in points {
        let (point, hash) = match Point::get_hashed(vault, instance, &live.job).await {
            Ok(found) => found,
            Err(e) => {
                check_is_no_base(vault, instance, &live.job, e).await?;
                continue;
            }
        };
        let Some(position) = point.feed() else { continue };
        let begin = JournalEnd {
            base: live.job.clone(),
            base_completed_at: live.completed_at,
            segments: 0,
            changes: 0,
            position,
            hash,
        };
        return read::last(vault, instance, begin).await.map(Some);
    }
    Ok(None)
}

/// The first and the last instant that can be restored, as far as the store knows: it learns of the time that goes by with changes only, so
/// whoever reads the feed knows a later end ([`JournalEnd::position`]). `None` if there is no base point; nothing can be restored yet while
/// the last instant is before the first.
///
/// # Errors
/// As of [`end`].
pub async fn range(vault: &Vault, instance: &str) -> Result<Option<(Timestamp, Timestamp)>> {
    let Some(end) = end(vault, instance).await? else { return Ok(None) };
    let first = first_instant(vault, instance).await?;
    Ok(Some((first.unwrap_or(end.base_completed_at), end.position.complete_until)))
}

/// When the oldest base point that can be read was completed.
async fn first_instant(vault: &Vault, instance: &str) -> Result<Option<Timestamp>> {
    for live in by_completion(vault, instance).await? {
        match Point::get(vault, instance, &live.job).await {
            Ok(point) if point.feed().is_some() => return Ok(Some(live.completed_at)),
            Ok(_) => {}
            Err(e) if is_lost(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The points of an instance, in the order in which they were completed.
async fn by_completion(vault: &Vault, instance: &str) -> Result<Vec<LivePoint>> {
    let mut points = Chain::instance(vault, instance)?.load().await?.points.clone();
    points.sort_by_key(|point| (point.completed_at, point.started_at));
    Ok(points)
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound)
}

/// A point that cannot be read may be passed over if it has no journal: then nothing hangs on whether it is a base point.
async fn check_is_no_base(vault: &Vault, instance: &str, job: &str, error: Error) -> Result<()> {
    if !is_lost(&error) {
        return Err(error);
    }
    match vault.store.list(&folder(instance, job), None).await?.is_empty() {
        true => Ok(()),
        false => Err(Error::damaged(
            Point::file_name(instance, job),
            format!("the journal that begins with it cannot be used: {error}"),
        )),
    }
}

/// Removes the journal of a point that no chain names any more.
pub(crate) async fn remove(vault: &Vault, instance: &str, base: &str) -> Result<()> {
    let folder = folder(instance, base);
    loop {
        let files = vault.store.list(&folder, None).await?;
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            vault.store.delete(&file.name).await?;
        }
    }
}

/// All journals of the store: instance and base point of each.
pub(crate) async fn all(vault: &Vault) -> Result<Vec<(String, String)>> {
    let mut journals: Vec<(String, String)> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list(FOLDER, after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(journals) };
        for file in &files {
            let mut parts = file.name.split('/').skip(1);
            if let (Some(instance), Some(base), Some(_)) = (parts.next(), parts.next(), parts.next()) {
                let found = (instance.to_owned(), base.to_owned());
                if journals.last() != Some(&found) {
                    journals.push(found);
                }
            }
        }
        // The rest of this journal tells nothing new: digits sort before letters.
        let journal = last.name.rsplit_once('/').map_or(last.name.as_str(), |(journal, _)| journal);
        after = Some(format!("{journal}/z").max(last.name.clone()));
    }
}

/// The key of a journal among the numbers that verifications remember.
pub(crate) fn key(instance: &str, base: &str) -> String {
    format!("{FOLDER}{instance}/{base}")
}
