//! Cutting the blobs of a container into about equal shares, from what inner pages say of the pages below them.

use std::collections::HashSet;

use super::{Child, OwnedKey, Page, Root, decode};
use crate::error::Result;
use crate::read::ChunkReader;

/// Pages that a share consists of at least, where the manifest has so many: what makes shares even.
const PAGES_PER_SHARE: usize = 8;

/// A container, cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// Names at which its blobs fall into about equal shares, rising; one less than there are shares.
    pub names: Vec<String>,
    /// Blobs that it has, about.
    pub blobs: u64,
}

/// Cuts the blobs of a container into `shares` shares at most; not at all if there are fewer than `at_least`. Reads inner pages, as many as
/// it takes, and at most one leaf.
///
/// # Errors
/// [`crate::Error::Damaged`] if a page cannot be read.
pub async fn share(reader: &ChunkReader, root: &Root, container: &str, shares: usize, at_least: u64) -> Result<Shares> {
    let Some(page) = root.page else { return Ok(Shares::default()) };
    let mut level = vec![Child { last: OwnedKey::default(), page, totals: root.totals }];
    while blobs(&level) >= at_least.max(1) && shares > 1 {
        let is_fine_enough = level.len() >= PAGES_PER_SHARE * shares;
        match if is_fine_enough { None } else { expand(reader, &level, container).await? } {
            Some(below) => level = below,
            None => return Ok(Shares { names: cut(&level, container, shares), blobs: blobs(&level) }),
        }
    }
    Ok(Shares::default())
}

fn blobs(level: &[Child]) -> u64 {
    level.iter().map(|child| child.totals.blobs).sum()
}

/// The pages below that may hold blobs of the container, or `None` if these are leaves.
async fn expand(reader: &ChunkReader, level: &[Child], container: &str) -> Result<Option<Vec<Child>>> {
    let mut below = Vec::new();
    let Some(first) = level.first() else { return Ok(None) };
    let Page::Inner(_) = decode(first.page, &reader.page(first.page).await?)? else { return Ok(None) };
    let pages = reader.chunks(&level.iter().map(|child| child.page).collect::<HashSet<_>>()).await?;
    for child in level {
        if let Some(bytes) = pages.get(&child.page)
            && let Page::Inner(children) = decode(child.page, bytes)?
        {
            below.extend(children);
        }
    }
    let after = below.partition_point(|child| child.last.container.as_str() <= container);
    below.truncate(after + 1);
    below.drain(..below.partition_point(|child| child.last.container.as_str() < container));
    Ok(Some(below))
}

/// The last names of the pages after which a share is full.
fn cut(level: &[Child], container: &str, shares: usize) -> Vec<String> {
    let total = u128::from(blobs(level).max(1));
    let mut names: Vec<String> = Vec::new();
    let (mut passed, mut full) = (0_u128, 0_u128);
    for child in level {
        passed += u128::from(child.totals.blobs);
        let now_full = passed * shares as u128 / total;
        let is_usable = child.last.container == container
            && !child.last.name.is_empty()
            && names.last().is_none_or(|last| *last < child.last.name);
        if now_full > full && (now_full as usize) < shares && is_usable {
            names.push(child.last.name.clone());
        }
        full = now_full;
    }
    names
}
