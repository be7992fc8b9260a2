//! The entries of one container, on their way from the source to the merge.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::item::BlobEntry;
use crate::sort::SortedEntries;
use crate::source::{ListPage, Source, SourceError, SourceErrorKind};

/// The entries of one container, or of a part of it: as the source gives them, one page ahead, or sorted on disk.
pub(super) enum Listing {
    Streamed {
        pages: mpsc::Receiver<Result<ListPage, SourceError>>,
        page: std::vec::IntoIter<BlobEntry>,
        task: JoinHandle<()>,
    },
    Sorted(SortedEntries),
    /// Entries that are here already.
    Here(std::vec::IntoIter<BlobEntry>),
    /// Will be streamed from its first entry on. What is here of it already is its first page.
    Waiting(Option<(Wanted, Option<ListPage>)>),
}

/// What of a container is to be listed.
pub(super) struct Wanted {
    source: Arc<dyn Source>,
    container: String,
    reach: Reach,
    /// No page is asked for after one that came to this name.
    until: Option<String>,
}

#[derive(Debug)]
enum Reach {
    Prefix(String),
    From(String),
}

impl Wanted {
    async fn page(&self, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let (source, container) = (&self.source, &self.container);
        match &self.reach {
            Reach::Prefix(prefix) => source.list(container, prefix, cursor).await,
            Reach::From(name) => source.list_from(container, name, cursor).await?.ok_or_else(|| {
                let message = format!("the listing of container {container} began at a name and cannot go on");
                SourceError::new(SourceErrorKind::Protocol, message)
            }),
        }
    }

    /// Where the page after this one begins, if it is wanted.
    fn after(&self, page: &ListPage) -> Option<String> {
        let is_end = match (&self.until, page.entries.last()) {
            (Some(until), Some(last)) => last.name >= *until,
            _ => false,
        };
        if is_end { None } else { page.next.clone() }
    }
}

impl Listing {
    /// All entries.
    pub(super) fn whole(source: Arc<dyn Source>, container: &str) -> Self {
        Self::of_prefix(source, container, "")
    }

    /// The entries whose names start with a prefix. Nothing is asked of the source before the first entry is.
    pub(super) fn of_prefix(source: Arc<dyn Source>, container: &str, prefix: &str) -> Self {
        let reach = Reach::Prefix(prefix.to_owned());
        Self::Waiting(Some((Wanted { source, container: container.to_owned(), reach, until: None }, None)))
    }

    /// The entries from a name on, or `None` if the source cannot begin in the middle.
    pub(super) async fn from(source: Arc<dyn Source>, container: &str, name: &str) -> Result<Option<Self>> {
        let Some(first) = source.list_from(container, name, None).await? else { return Ok(None) };
        let reach = Reach::From(name.to_owned());
        let wanted = Wanted { source, container: container.to_owned(), reach, until: None };
        Ok(Some(Self::Waiting(Some((wanted, Some(first))))))
    }

    /// What lies behind this name is not needed: pages that begin behind it are not asked for. To be said before the first entry is taken.
    pub(super) fn ends_with(&mut self, name: &str) {
        if let Self::Waiting(Some((wanted, _))) = self {
            wanted.until = Some(name.to_owned());
        }
    }

    fn stream(wanted: Wanted, first: Option<ListPage>) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let mut cursor = first.as_ref().and_then(|page| wanted.after(page));
        let mut is_all = first.is_some() && cursor.is_none();
        let page = first.map(|page| page.entries).unwrap_or_default();
        let task = tokio::spawn(async move {
            while !is_all {
                // First the place, then the page: a page is several megabytes, and there may be many listings at once.
                let Ok(place) = sender.reserve().await else { return };
                let page = wanted.page(cursor.as_deref()).await;
                cursor = page.as_ref().ok().and_then(|page| wanted.after(page));
                is_all = cursor.is_none();
                place.send(page);
            }
        });
        Self::Streamed { pages, page: page.into_iter(), task }
    }

    /// The next entry.
    pub(super) async fn next(&mut self) -> Result<Option<BlobEntry>> {
        if let Self::Waiting(wanted) = self
            && let Some((wanted, first)) = wanted.take()
        {
            *self = Self::stream(wanted, first);
        }
        match self {
            Self::Waiting(_) => Ok(None),
            Self::Here(entries) => Ok(entries.next()),
            Self::Sorted(sorted) => sorted.next_entry(),
            Self::Streamed { pages, page, .. } => loop {
                if let Some(entry) = page.next() {
                    return Ok(Some(entry));
                }
                match pages.recv().await {
                    Some(next) => *page = next?.entries.into_iter(),
                    None => return Ok(None),
                }
            },
        }
    }

    /// Names that will come first, at most this many and at least one unless there is none. Only a listing that begins at a name and has
    /// not been begun tells.
    pub(super) async fn first_names(&mut self, at_most: usize) -> Result<Vec<String>> {
        let Self::Waiting(Some((wanted, Some(first)))) = self else { return Ok(Vec::new()) };
        while first.entries.is_empty()
            && let Some(cursor) = first.next.take()
        {
            *first = wanted.page(Some(&cursor)).await?;
        }
        Ok(first.entries.iter().take(at_most).map(|entry| entry.name.clone()).collect())
    }

    /// Whether the names that are here already go on rising after this one.
    pub(super) fn rises_after(&self, name: &str) -> bool {
        let Self::Streamed { page, .. } = self else { return true };
        let names = page.as_slice().iter().map(|entry| entry.name.as_str());
        std::iter::once(name).chain(names).is_sorted()
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Self::Streamed { task, .. } = self {
            task.abort();
        }
    }
}
