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
}

impl Listing {
    /// All entries.
    pub(super) fn whole(source: Arc<dyn Source>, container: &str) -> Self {
        Self::stream(source, container, None, None)
    }

    /// The entries from a name on, or `None` if the source cannot begin in the middle.
    pub(super) async fn from(source: Arc<dyn Source>, container: &str, name: &str) -> Result<Option<Self>> {
        let Some(first) = source.list_from(container, name, None).await? else { return Ok(None) };
        Ok(Some(Self::stream(source, container, Some(name.to_owned()), Some(first))))
    }

    fn stream(source: Arc<dyn Source>, container: &str, from: Option<String>, first: Option<ListPage>) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let container = container.to_owned();
        let mut is_all = first.as_ref().is_some_and(|page| page.next.is_none());
        let (page, mut cursor) = first.map(|page| (page.entries, page.next)).unwrap_or_default();
        let task = tokio::spawn(async move {
            while !is_all {
                let page = next_page(source.as_ref(), &container, from.as_deref(), cursor.as_deref()).await;
                cursor = page.as_ref().ok().and_then(|page| page.next.clone());
                is_all = cursor.is_none();
                if sender.send(page).await.is_err() {
                    return;
                }
            }
        });
        Self::Streamed { pages, page: page.into_iter(), task }
    }

    /// The next entry.
    pub(super) async fn next(&mut self) -> Result<Option<BlobEntry>> {
        match self {
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

    /// Names that will come next, at most this many and at least one unless none is left. Sorted listings do not tell.
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

async fn next_page(
    source: &dyn Source,
    container: &str,
    from: Option<&str>,
    cursor: Option<&str>,
) -> Result<ListPage, SourceError> {
    let Some(from) = from else { return source.list(container, "", cursor).await };
    source.list_from(container, from, cursor).await?.ok_or_else(|| {
        let message = format!("the listing of container {container} began at a name and cannot go on");
        SourceError::new(SourceErrorKind::Protocol, message)
    })
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Self::Streamed { task, .. } = self {
            task.abort();
        }
    }
}
