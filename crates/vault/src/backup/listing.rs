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
    /// Will be streamed from its first entry on.
    Waiting(Option<Wanted>),
}

/// What of a container is to be listed.
pub(super) struct Wanted {
    source: Arc<dyn Source>,
    container: String,
    reach: Reach,
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
}

impl Listing {
    /// All entries.
    pub(super) fn whole(source: Arc<dyn Source>, container: &str) -> Self {
        Self::of_prefix(source, container, "")
    }

    /// The entries whose names start with a prefix. Nothing is asked of the source before the first entry is.
    pub(super) fn of_prefix(source: Arc<dyn Source>, container: &str, prefix: &str) -> Self {
        let reach = Reach::Prefix(prefix.to_owned());
        Self::Waiting(Some(Wanted { source, container: container.to_owned(), reach }))
    }

    /// The entries from a name on, or `None` if the source cannot begin in the middle.
    pub(super) async fn from(source: Arc<dyn Source>, container: &str, name: &str) -> Result<Option<Self>> {
        let Some(first) = source.list_from(container, name, None).await? else { return Ok(None) };
        let wanted = Wanted { source, container: container.to_owned(), reach: Reach::From(name.to_owned()) };
        Ok(Some(Self::stream(wanted, Some(first))))
    }

    fn stream(wanted: Wanted, first: Option<ListPage>) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let mut is_all = first.as_ref().is_some_and(|page| page.next.is_none());
        let (page, mut cursor) = first.map(|page| (page.entries, page.next)).unwrap_or_default();
        let task = tokio::spawn(async move {
            while !is_all {
                // First the place, then the page: a page is several megabytes, and there may be many listings at once.
                let Ok(place) = sender.reserve().await else { return };
                let page = wanted.page(cursor.as_deref()).await;
                cursor = page.as_ref().ok().and_then(|page| page.next.clone());
                is_all = cursor.is_none();
                place.send(page);
            }
        });
        Self::Streamed { pages, page: page.into_iter(), task }
    }

    /// The next entry.
    pub(super) async fn next(&mut self) -> Result<Option<BlobEntry>> {
        if let Self::Waiting(wanted) = self
            && let Some(wanted) = wanted.take()
        {
            *self = Self::stream(wanted, None);
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

    /// Names that will come next, at most this many and at least one unless none is left. Only a listing that began at a name tells.
    pub(super) async fn next_names(&mut self, at_most: usize) -> Result<Vec<String>> {
        let Self::Streamed { pages, page, .. } = self else { return Ok(Vec::new()) };
        while page.as_slice().is_empty() {
            match pages.recv().await {
                Some(next) => *page = next?.entries.into_iter(),
                None => break,
            }
        }
        Ok(page.as_slice().iter().take(at_most).map(|entry| entry.name.clone()).collect())
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
