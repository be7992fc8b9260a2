//! Splitting a container into ranges of names that are listed at once.
//!
//! Where the ranges begin is read from the inner pages of a manifest before, so they are about equal. What a range really begins with is the
//! first name that the source lists for it, and the range before must come to that name: see [`super::merge::Merge`].

use std::sync::Arc;

use futures::future::try_join_all;

use super::listing::Listing;
use crate::error::Result;
use crate::source::Source;

/// Ranges at most, whatever is asked for: each holds a few pages of a listing in memory.
pub(super) const RANGES_AT_MOST: usize = 16;
/// Names of a range by which the range before may know that it has come there. One would do if no blob were ever deleted meanwhile.
const KNOWN_NAMES: usize = 64;

/// One range of a container.
pub(super) struct Range {
    pub(super) listing: Listing,
    /// The name of its first blob; `None` for the first range, which begins with the container.
    pub(super) first: Option<String>,
    /// The first names of the next range; empty for the last.
    pub(super) next_range: Vec<String>,
}

/// The container as a whole.
pub(super) fn whole(listing: Listing) -> Vec<Range> {
    vec![Range { listing, first: None, next_range: Vec::new() }]
}

/// The container cut at these names, or `None` if the source cannot begin there or would give one range only.
pub(super) async fn split(source: &Arc<dyn Source>, container: &str, names: &[String]) -> Result<Option<Vec<Range>>> {
    let begun = try_join_all(names.iter().map(|name| Listing::from(source.clone(), container, name))).await?;
    let mut ranges = whole(Listing::whole(source.clone(), container));
    for (name, listing) in names.iter().zip(begun) {
        let Some(mut listing) = listing else { return Ok(None) };
        let first_names = listing.next_names(KNOWN_NAMES).await?;
        let Some(first) = first_names.first().cloned() else { continue };
        let Some(before) = ranges.last_mut() else { continue };
        if first < *name || before.first.as_ref().is_some_and(|earlier| first < *earlier) {
            return Ok(None);
        }
        // Nothing is left of the range before: this one begins with the same blob.
        if before.first.as_ref() == Some(&first) {
            continue;
        }
        before.next_range = first_names;
        ranges.push(Range { listing, first: Some(first), next_range: Vec::new() });
    }
    Ok((ranges.len() > 1).then_some(ranges))
}
