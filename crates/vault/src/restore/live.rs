//! What the account has now, name by name: a listing of a container, sorted on disk.

use super::step::ARCHIVE;
use super::{InPlaceOptions, stop_if_asked};
use crate::error::Result;
use crate::item::BlobEntry;
use crate::monitor::Monitor;
use crate::sort::{EntrySorter, SortedEntries};
use crate::source::Source;

/// Walks a container's names.
pub(super) struct LiveWalk {
    entries: SortedEntries,
    ahead: Option<BlobEntry>,
}

/// What the account has of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Nothing any more.
    Gone,
    /// It is there, and cannot be copied: it lies in the archive tier.
    Archived,
    /// It can be copied.
    Kept,
}

/// What was found under a name.
pub(super) struct Found {
    /// The current blob.
    pub(super) current: Option<BlobEntry>,
    /// The version that was asked for.
    pub(super) version: Version,
}

impl LiveWalk {
    /// Lists the names that are meant, with the versions that the account keeps or without.
    pub(super) async fn list(
        source: &dyn Source,
        container: &str,
        with_versions: bool,
        options: &InPlaceOptions,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut sorter = EntrySorter::new(&options.scratch);
        let mut cursor: Option<String> = None;
        loop {
            stop_if_asked(monitor)?;
            let page = match with_versions {
                true => source.list_versions(container, cursor.as_deref()).await?,
                false => source.list(container, "", cursor.as_deref()).await?,
            };
            for entry in page.entries.into_iter().filter(|entry| options.holds(container, &entry.name)) {
                sorter.push(entry)?;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut entries = sorter.finish()?;
        let ahead = entries.next_entry()?;
        Ok(Self { entries, ahead })
    }

    /// The next name.
    pub(super) fn peek(&self) -> Option<&str> {
        self.ahead.as_ref().map(|entry| entry.name.as_str())
    }

    /// What there is under a name, which is not behind the next one.
    pub(super) fn take(&mut self, name: &str, version: Option<&str>) -> Result<Found> {
        let mut found = Found { current: None, version: Version::Gone };
        while self.peek() == Some(name) {
            let Some(entry) = std::mem::replace(&mut self.ahead, self.entries.next_entry()?) else { break };
            let is_of = entry.version.as_deref().or(entry.current_version.as_deref());
            if version.is_some() && is_of == version {
                found.version = if entry.tier.as_deref() == Some(ARCHIVE) { Version::Archived } else { Version::Kept };
            }
            if entry.version.is_none() {
                found.current = Some(entry);
            }
        }
        Ok(found)
    }
}
