//! The difference between two manifests: a walk over both trees that passes over equal pages unread. It costs about one way down the trees
//! for each difference, however large the points are.

use std::cmp::Ordering;

use crate::error::Result;
use crate::item::{EntryKey, Item};
use crate::manifest::{OwnedKey, Record, Root};
use crate::names::{Pattern, Span, disjoint};
use crate::read::ChunkReader;
use crate::walk::PageWalk;

/// What of an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The bytes.
    Content,
    /// Properties: headers, metadata, tags, tier, times, the endpoint's change mark.
    Properties,
    /// The bytes, and properties other than size, MD5, change mark and times, which follow the bytes.
    Both,
}

impl Changed {
    /// What of a blob differs; `None` if nothing does.
    pub fn between(before: &Item, after: &Item) -> Option<Self> {
        if before == after {
            return None;
        }
        if before.content == after.content {
            return Some(Self::Properties);
        }
        // What every write of bytes brings along says nothing of its own.
        let mut followed = before.entry.clone();
        followed.size_bytes = after.entry.size_bytes;
        followed.content_md5 = after.entry.content_md5;
        followed.created_at = after.entry.created_at;
        followed.modified_at = after.entry.modified_at;
        followed.etag.clone_from(&after.entry.etag);
        Some(if followed == after.entry { Self::Content } else { Self::Both })
    }
}

/// One difference.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the later manifest has it.
    Added(Record),
    /// Only the earlier manifest has it.
    Removed(Record),
    /// Both have it, and it is not the same.
    Changed {
        /// As it was.
        before: Record,
        /// As it is.
        after: Record,
        /// What differs; containers have properties only.
        what: Changed,
    },
}

impl Difference {
    /// The key of what differs.
    pub fn key(&self) -> EntryKey<'_> {
        match self {
            Self::Added(record) | Self::Removed(record) | Self::Changed { after: record, .. } => record.key(),
        }
    }
}

/// Yields the differences of two manifests in key order. Memory: a page of each level of both, and a few that were read ahead.
pub struct Diff<'a> {
    reader: &'a ChunkReader,
    before: Root,
    after: Root,
    spans: std::vec::IntoIter<Span>,
    start_after: Option<OwnedKey>,
    open: Option<(PageWalk<'a>, PageWalk<'a>)>,
    pages_read: u64,
}

impl<'a> Diff<'a> {
    /// The differences that lead from `before` to `after`. The default root holds nothing: compared with it, everything was added.
    pub fn new(reader: &'a ChunkReader, before: &Root, after: &Root) -> Self {
        let spans = Vec::new().into_iter();
        let open = Some((PageWalk::new(reader, before, None, None), PageWalk::new(reader, after, None, None)));
        Self { reader, before: *before, after: *after, spans, start_after: None, open, pages_read: 0 }
    }

    /// The same, for names of some containers only. Whoever wants whole containers gives an empty prefix, which holds their own entries, too.
    pub fn of_names<'n>(
        reader: &'a ChunkReader,
        before: &Root,
        after: &Root,
        names: impl IntoIterator<Item = (&'n str, &'n Pattern)>,
    ) -> Self {
        Self::of_spans(reader, before, after, names.into_iter().map(|(container, pattern)| pattern.span(container)))
    }

    pub(crate) fn of_spans(
        reader: &'a ChunkReader,
        before: &Root,
        after: &Root,
        spans: impl IntoIterator<Item = Span>,
    ) -> Self {
        let spans = disjoint(spans).into_iter();
        Self { reader, before: *before, after: *after, spans, start_after: None, open: None, pages_read: 0 }
    }

    /// The differences after this key only. To be called before the first [`Self::next`].
    #[must_use]
    pub fn starting_after(mut self, key: OwnedKey) -> Self {
        let walk = |root: &Root| PageWalk::new(self.reader, root, None, Some(key.clone()));
        self.open = self.open.is_some().then(|| (walk(&self.before), walk(&self.after)));
        self.start_after = Some(key);
        self
    }

    /// Pages of both manifests that were opened so far.
    pub fn pages_read(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |(before, after)| before.pages_read() + after.pages_read());
        self.pages_read + open
    }

    /// The next difference, or `None` at the end.
    ///
    /// # Errors
    /// A page that cannot be read or is damaged.
    pub async fn next(&mut self) -> Result<Option<Difference>> {
        loop {
            if let Some((before, after)) = &mut self.open {
                if let Some(difference) = next_of(before, after).await? {
                    return Ok(Some(difference));
                }
                self.pages_read = self.pages_read();
                self.open = None;
            }
            let Some(span) = self.spans.next() else { return Ok(None) };
            let walk = |root: &Root| PageWalk::new(self.reader, root, Some(span.clone()), self.start_after.clone());
            self.open = Some((walk(&self.before), walk(&self.after)));
        }
    }
}

async fn next_of(before: &mut PageWalk<'_>, after: &mut PageWalk<'_>) -> Result<Option<Difference>> {
    loop {
        match (before.record(), after.record()) {
            (Some(old), Some(new)) => match old.key().cmp(&new.key()) {
                Ordering::Less => return Ok(before.take_record().map(Difference::Removed)),
                Ordering::Greater => return Ok(after.take_record().map(Difference::Added)),
                Ordering::Equal => {
                    let (Some(old), Some(new)) = (before.take_record(), after.take_record()) else { return Ok(None) };
                    if let Some(what) = changed(&old, &new) {
                        return Ok(Some(Difference::Changed { before: old, after: new, what }));
                    }
                }
            },
            (Some(_), None) if after.is_done() || next_pages_are_equal(before, after) => {
                return Ok(before.take_record().map(Difference::Removed));
            }
            (None, Some(_)) if before.is_done() || next_pages_are_equal(before, after) => {
                return Ok(after.take_record().map(Difference::Added));
            }
            (Some(_), None) => after.open(after.sure_ahead(before)).await?,
            (None, Some(_)) => before.open(before.sure_ahead(after)).await?,
            (None, None) if before.is_done() && after.is_done() => return Ok(None),
            (None, None) => descend(before, after).await?,
        }
    }
}

/// Both walks go on with the same page. Then what is left of an open leaf comes before all that the other walk still has.
fn next_pages_are_equal(before: &PageWalk<'_>, after: &PageWalk<'_>) -> bool {
    matches!((before.page(), after.page()), (Some(old), Some(new)) if old.page == new.page)
}

/// Neither walk has a leaf open: equal pages are passed over, of others the one that reaches further is opened, because the other may be
/// found below it.
async fn descend(before: &mut PageWalk<'_>, after: &mut PageWalk<'_>) -> Result<()> {
    let order = match (before.page(), after.page()) {
        (Some(old), Some(new)) if old.page == new.page => {
            before.skip();
            after.skip();
            return Ok(());
        }
        (Some(old), Some(new)) => old.last.cmp(&new.last),
        (Some(_), None) => Ordering::Greater,
        (None, _) => Ordering::Less,
    };
    let (ahead_before, ahead_after) = (before.sure_ahead(after), after.sure_ahead(before));
    match order {
        Ordering::Greater => before.open(ahead_before).await,
        Ordering::Less => after.open(ahead_after).await,
        Ordering::Equal => futures::try_join!(before.open(ahead_before), after.open(ahead_after)).map(|_| ()),
    }
}

fn changed(before: &Record, after: &Record) -> Option<Changed> {
    match (before, after) {
        (Record::Blob(before), Record::Blob(after)) => Changed::between(before, after),
        _ => (before != after).then_some(Changed::Properties),
    }
}
