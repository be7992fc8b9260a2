//! What a restore in place does about one name.

use super::instant::{Want, Wanted};
use crate::item::{BlobEntry, BlobKind, Item};

/// The tier out of which nothing is taken at once.
pub(super) const ARCHIVE: &str = "Archive";

/// What is to be done about one name.
pub(super) enum Step {
    /// There is nothing, and there should be nothing.
    Nothing,
    /// It is as it was.
    Unchanged,
    /// It is not as it was, and stays all the same.
    Left(String),
    /// It was made later.
    Remove(Box<BlobEntry>),
    /// It is to become this, in place of what is there.
    Write(Box<Item>, Option<Box<BlobEntry>>),
}

impl Step {
    pub(super) fn of(wanted: &Wanted, name: &str, live: Option<BlobEntry>, want: Want) -> Self {
        match (want, live) {
            (Want::Gone | Want::Unknown, None) => Self::Nothing,
            (Want::Gone, Some(live)) => Self::Remove(Box::new(live)),
            (Want::Unknown, Some(live)) => match wanted.why_kept(&live) {
                Some(reason) => Self::left(&live, reason),
                None => Self::Remove(Box::new(live)),
            },
            (Want::Unnamed, Some(live)) => {
                Self::left(&live, "it is left as it is, because the account named no version of what it was")
            }
            (Want::Unnamed, None) => {
                Self::Left(format!("{name}: it does not come back, because the account named no version of it"))
            }
            (Want::Blob(item), None) => Self::Write(item, None),
            (Want::Blob(item), Some(live)) => {
                if is_written_over(&live, &item) {
                    return Self::left(
                        &live,
                        "it is left as it is, because it was written in place since and the account keeps no version of what it was",
                    );
                }
                match (has_wanted_content(&live, &item), has_wanted_properties(&live, &item.entry)) {
                    (true, true) => Self::Unchanged,
                    // As in Azure: nothing is taken out of the archive.
                    (true, false) if is_archived(&live) && !is_archived(&item.entry) => Self::left(
                        &live,
                        "it is left as it is, because it lies in the archive tier and its content is what it was",
                    ),
                    _ => Self::Write(item, Some(Box::new(live))),
                }
            }
        }
    }

    fn left(live: &BlobEntry, reason: &str) -> Self {
        Self::Left(format!("{}: {reason}", live.display_name()))
    }
}

fn is_archived(entry: &BlobEntry) -> bool {
    entry.tier.as_deref() == Some(ARCHIVE)
}

fn is_same_version(live: &BlobEntry, item: &Item) -> bool {
    live.current_version.is_some() && live.current_version.as_deref() == item.content.version_at_source()
}

/// Pages and appended blocks are written into the version that there is, and no other version keeps what was before.
fn is_written_over(live: &BlobEntry, item: &Item) -> bool {
    live.kind != BlobKind::Block && is_same_version(live, item) && !live.has_same_content_as(&item.entry)
}

/// The bytes are those that are wanted. A hash that the account shows proves nothing: writers may set it to what they like.
fn has_wanted_content(live: &BlobEntry, item: &Item) -> bool {
    live.has_same_content_as(&item.entry) || is_same_version(live, item)
}

/// Nothing else that a restore could change differs.
fn has_wanted_properties(live: &BlobEntry, wanted: &BlobEntry) -> bool {
    live.kind == wanted.kind
        && live.headers == wanted.headers
        && live.metadata == wanted.metadata
        && live.tags == wanted.tags
        && live.tier == wanted.tier
}
