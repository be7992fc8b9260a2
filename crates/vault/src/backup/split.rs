//! Splitting a container into ranges of names that are listed at once.
//!
//! Where the ranges begin is read from the inner pages of a manifest before, so they are about equal. What a range really begins with is the
//! first name that the source lists for it, and the range before must come to that name: see [`super::merge::Merge`].
//!
//! A source that cannot begin a listing in the middle may still list folder by folder.

use std::sync::Arc;

use futures::future::try_join_all;

use super::listing::Listing;
use crate::error::Result;
use crate::item::BlobEntry;
use crate::manifest::Shares;
use crate::source::{Source, TopLevel};

/// Ranges at most, whatever is asked for: each holds a few pages of a listing in memory.
pub(super) const RANGES_AT_MOST: usize = 16;
/// Names of a range by which the range before may know that it has come there. One would do if no blob were ever deleted meanwhile.
const KNOWN_NAMES: usize = 64;
/// Folders that are listed one by one, at most: each keeps a few pages of a manifest in memory.
const FOLDERS_AT_MOST: u64 = 64;
/// Blobs of one page of a listing, at most.
const PAGE_BLOBS: u64 = 5_000;

/// One range of a container.
pub(super) struct Range {
    pub(super) listing: Listing,
    /// Where it begins: with this name or behind it; `None` for the first range, which begins with the container.
    pub(super) first: Option<String>,
    /// The first names of the next range, where that begins in the middle of a listing; else this range ends with its own.
    pub(super) next_range: Vec<String>,
    /// What all names begin with.
    pub(super) prefix: String,
}

impl Range {
    fn new(listing: Listing, first: Option<String>) -> Self {
        Self { listing, first, next_range: Vec::new(), prefix: String::new() }
    }
}

/// The container as a whole.
pub(super) fn whole(listing: Listing) -> Vec<Range> {
    vec![Range::new(listing, None)]
}

/// The container in ranges, or `None` if it is too small to be cut or the source has no way to list a part of it.
pub(super) async fn split(
    source: &Arc<dyn Source>,
    container: &str,
    shares: &Shares,
    split_from_blobs: u64,
) -> Result<Option<Vec<Range>>> {
    if shares.names.is_empty() {
        return Ok(None);
    }
    if let Some(ranges) = by_name(source, container, &shares.names).await? {
        return Ok(Some(ranges));
    }
    // Each folder takes a request at least, so each should have a page of blobs.
    let worthwhile = shares.blobs / split_from_blobs.clamp(1, PAGE_BLOBS);
    by_folder(source, container, worthwhile.min(FOLDERS_AT_MOST)).await
}

/// The container cut at these names, or `None` if the source cannot begin there or would give one range only.
async fn by_name(source: &Arc<dyn Source>, container: &str, names: &[String]) -> Result<Option<Vec<Range>>> {
    let begun = try_join_all(names.iter().map(|name| Listing::from(source.clone(), container, name))).await?;
    let mut ranges = whole(Listing::whole(source.clone(), container));
    for (name, listing) in names.iter().zip(begun) {
        let Some(mut listing) = listing else { return Ok(None) };
        let first_names = listing.first_names(KNOWN_NAMES).await?;
        let Some(first) = first_names.first().cloned() else { continue };
        let Some(before) = ranges.last_mut() else { continue };
        if first < *name || before.first.as_ref().is_some_and(|earlier| first < *earlier) {
            return Ok(None);
        }
        // Nothing is left of the range before: this one begins with the same blob.
        if before.first.as_ref() == Some(&first) {
            continue;
        }
        before.listing.ends_with(first_names.last().unwrap_or(&first));
        before.next_range = first_names;
        ranges.push(Range::new(listing, Some(first)));
    }
    Ok((ranges.len() > 1).then_some(ranges))
}

/// The container folder by folder, with the blobs between them; `None` if the source cannot tell them or there are more than `at_most`.
async fn by_folder(source: &Arc<dyn Source>, container: &str, at_most: u64) -> Result<Option<Vec<Range>>> {
    let Some(TopLevel { mut entries, mut prefixes }) = source.top_level(container).await? else { return Ok(None) };
    entries.sort_by(|a, b| a.key().cmp(&b.key()));
    prefixes.sort_unstable();
    prefixes.dedup();
    let is_plain = entries.iter().all(|entry| !entry.name.contains('/'))
        && prefixes.iter().all(|prefix| prefix.find('/').is_some_and(|at| at + 1 == prefix.len()));
    if prefixes.len() < 2 || prefixes.len() as u64 > at_most || !is_plain {
        return Ok(None);
    }
    let mut ranges = Vec::with_capacity(2 * prefixes.len() + 1);
    for prefix in prefixes {
        let behind = entries.split_off(entries.partition_point(|entry| entry.name < prefix));
        push_blobs(&mut ranges, std::mem::replace(&mut entries, behind));
        let listing = Listing::of_prefix(source.clone(), container, &prefix);
        ranges.push(Range { prefix: prefix.clone(), ..Range::new(listing, Some(prefix)) });
    }
    push_blobs(&mut ranges, entries);
    Ok(Some(ranges))
}

fn push_blobs(ranges: &mut Vec<Range>, entries: Vec<BlobEntry>) {
    if let Some(first) = entries.first().map(|entry| entry.name.clone()) {
        ranges.push(Range::new(Listing::Here(entries.into_iter()), Some(first)));
    }
}
