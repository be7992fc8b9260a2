//! The entries of one container, on their way from the source to the merge.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::item::BlobEntry;
use crate::sort::SortedEntries;
use crate::source::{ListPage, Source, SourceError};

/// The entries of one container: as the source gives them, one page ahead, or sorted on disk.
pub(super) enum Listing {
    Streamed {
        pages: mpsc::Receiver<Result<ListPage, SourceError>>,
        page: std::vec::IntoIter<BlobEntry>,
        task: JoinHandle<()>,
    },
    Sorted(SortedEntries),
}

impl Listing {
    pub(super) fn start(source: Arc<dyn Source>, container: &str) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let container = container.to_owned();
        let task = tokio::spawn(async move {
            let mut cursor: Option<String> = None;
            loop {
                let page = source.list(&container, "", cursor.as_deref()).await;
                cursor = page.as_ref().ok().and_then(|page| page.next.clone());
                if sender.send(page).await.is_err() || cursor.is_none() {
                    return;
                }
            }
        });
        Self::Streamed { pages, page: Vec::new().into_iter(), task }
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
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Self::Streamed { task, .. } = self {
            task.abort();
        }
    }
}
