//! Search by name, in one point or in all points of an instance, and the history of one blob. Both are walks over trees: what points share
//! is read once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diff::{Diff, Difference};
use crate::error::{Error, ErrorKind, Result};
use crate::item::{EntryKey, Item};
use crate::manifest::{OwnedKey, Record, Root};
use crate::names::{Pattern, Span};
use crate::point::Point;
use crate::state::{Chain, LivePoint};
use crate::vault::Vault;
use crate::walk::{Descent, containers};

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Only in these containers; none is all of them.
    pub containers: Vec<String>,
    /// The names. What a pattern starts with is where the walk begins; one that starts with nothing certain is looked for everywhere.
    pub pattern: Pattern,
}

/// A blob that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The newest point (its job) that holds it as it is here.
    pub point: String,
    /// The blob.
    pub item: Item,
}

/// Where a search stopped. As text it is opaque; it is good as long as the points that it stopped between are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCursor {
    /// Of which search: see [`Search::mark`].
    mark: [u8; 8],
    instance: String,
    point: String,
    newer: Option<String>,
    after: OwnedKey,
}

impl SearchCursor {
    /// The instance that was searched.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        f.write_str(&hex::encode(bytes))
    }
}

impl FromStr for SearchCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::Invalid("that is no place where a search stopped: give it as the search printed it".into());
        let bytes = hex::decode(text).map_err(|_| wrong())?;
        postcard::from_bytes(&bytes).map_err(|_| wrong())
    }
}

/// A search that is under way. Memory: a few pages.
///
/// Points are looked through from the newest on; of an older one only where it differs from the next newer. So every version of a blob comes
/// once for each unbroken row of points that hold it, and a search over many points costs little more than one plus what changed between them.
pub struct Search<'a> {
    vault: &'a Vault,
    instance: String,
    query: Query,
    mark: [u8; 8],
    /// Points still to be looked through, the next one last.
    older: Vec<LivePoint>,
    here: Option<Here<'a>>,
    last: Option<SearchCursor>,
    /// Pages that were opened in points that are done with.
    pages_read: u64,
}

/// One point that is being looked through.
struct Here<'a> {
    point: Point,
    newer: Option<String>,
    diff: Diff<'a>,
}

impl<'a> Search<'a> {
    /// A search in one point.
    ///
    /// # Errors
    /// A query that cannot be encoded, which is a fault of ours.
    pub fn in_point(vault: &'a Vault, point: &Point, query: Query) -> Result<Self> {
        let live = LivePoint {
            job: point.job.clone(),
            started_at: point.started_at,
            completed_at: point.completed_at,
            expires_at: None,
        };
        let mark = Self::mark(&query, Some(&point.job))?;
        Ok(Self {
            vault,
            instance: point.instance.clone(),
            query,
            mark,
            older: vec![live],
            here: None,
            last: None,
            pages_read: 0,
        })
    }

    /// A search in all points of an instance.
    ///
    /// # Errors
    /// A damaged chain of the instance.
    pub async fn in_instance(vault: &'a Vault, instance: &str, query: Query) -> Result<Self> {
        let older = oldest_first(vault, instance).await?;
        let mark = Self::mark(&query, None)?;
        Ok(Self { vault, instance: instance.to_owned(), query, mark, older, here: None, last: None, pages_read: 0 })
    }

    /// By what a cursor is recognised to be of the same search.
    fn mark(query: &Query, point: Option<&str>) -> Result<[u8; 8]> {
        let text = postcard::to_stdvec(&(query, point)).map_err(|e| Error::Internal(format!("query: {e}")))?;
        let mut mark = [0; 8];
        mark.copy_from_slice(&blake3::hash(&text).as_bytes()[..8]);
        Ok(mark)
    }

    /// Goes on where an earlier search for the same stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for the cursor of another search, [`ErrorKind::NotFound`] if a point that it stopped between has gone meanwhile.
    pub async fn go_on(mut self, cursor: SearchCursor) -> Result<Self> {
        if cursor.instance != self.instance || cursor.mark != self.mark {
            return Err(Error::Invalid("it was another search that stopped there: ask for the same one".into()));
        }
        let gone = || Error::NotFound("a point where the search stopped has gone: begin the search anew".into());
        let at = self.older.iter().position(|point| point.job == cursor.point).ok_or_else(gone)?;
        let newer = match &cursor.newer {
            Some(job) => Some(get_live(self.vault, &self.instance, job).await?.ok_or_else(gone)?),
            None => None,
        };
        let point = get_live(self.vault, &self.instance, &cursor.point).await?.ok_or_else(gone)?;
        self.older.truncate(at);
        self.here = Some(self.look_into(point, newer.as_ref(), Some(&cursor.after)).await?);
        self.last = Some(cursor);
        Ok(self)
    }

    /// Where the blob that was found last lies: the search can go on after it.
    pub fn cursor(&self) -> Option<&SearchCursor> {
        self.last.as_ref()
    }

    /// Pages of manifests that were opened so far, without those that told the containers of points.
    pub fn pages_read(&self) -> u64 {
        self.pages_read + self.here.as_ref().map_or(0, |here| here.diff.pages_read())
    }

    /// The next blob, or `None` at the end. Within a point they come in key order.
    ///
    /// # Errors
    /// A point or page that cannot be read or is damaged.
    pub async fn next(&mut self) -> Result<Option<Found>> {
        loop {
            if let Some(here) = &mut self.here
                && let Some(item) = next_match(&mut here.diff, &self.query.pattern).await?
            {
                let (point, newer) = (here.point.job.clone(), here.newer.clone());
                let after = OwnedKey::from(item.entry.key());
                let (mark, instance) = (self.mark, self.instance.clone());
                self.last = Some(SearchCursor { mark, instance, point: point.clone(), newer, after });
                return Ok(Some(Found { point, item }));
            }
            if !self.next_point().await? {
                return Ok(None);
            }
        }
    }

    async fn next_point(&mut self) -> Result<bool> {
        self.pages_read = self.pages_read();
        let newer = self.here.take().map(|here| here.point);
        while let Some(live) = self.older.pop() {
            // A point that expired a moment ago is passed over: what it held may be in the next one.
            let Some(point) = get_live(self.vault, &self.instance, &live.job).await? else { continue };
            self.here = Some(self.look_into(point, newer.as_ref(), None).await?);
            return Ok(true);
        }
        Ok(false)
    }

    async fn look_into(&self, point: Point, newer: Option<&Point>, after: Option<&OwnedKey>) -> Result<Here<'a>> {
        let reader: &'a crate::read::ChunkReader = &self.vault.reader;
        let newer_root = newer.map(|newer| newer.root).unwrap_or_default();
        let mut diff = match self.spans(&point, &newer_root).await? {
            Some(spans) => Diff::of_spans(reader, &point.root, &newer_root, spans),
            None => Diff::new(reader, &point.root, &newer_root),
        };
        if let Some(after) = after {
            diff = diff.starting_after(after.clone());
        }
        Ok(Here { point, newer: newer.map(|newer| newer.job.clone()), diff })
    }

    /// The parts of a point that can hold what is searched for; `None` is all of it.
    async fn spans(&self, point: &Point, newer: &Root) -> Result<Option<Vec<Span>>> {
        let pattern = &self.query.pattern;
        if point.root.page == newer.page {
            return Ok(Some(Vec::new()));
        }
        if !self.query.containers.is_empty() {
            return Ok(Some(self.query.containers.iter().map(|container| pattern.span(container)).collect()));
        }
        if pattern.span("").prefix.is_empty() {
            return Ok(None);
        }
        let containers = containers(&self.vault.reader, &point.root).await?;
        Ok(Some(containers.iter().map(|container| pattern.span(&container.name)).collect()))
    }
}

/// The next blob that fits and that only the point has, or has in another version than the newer one.
async fn next_match(diff: &mut Diff<'_>, pattern: &Pattern) -> Result<Option<Item>> {
    while let Some(difference) = diff.next().await? {
        match difference {
            Difference::Removed(Record::Blob(item)) | Difference::Changed { before: Record::Blob(item), .. }
                if pattern.matches(&item.entry.name) =>
            {
                return Ok(Some(item));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// One version of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its properties and where its content lies.
    pub item: Item,
    /// The points that hold it, oldest first.
    pub points: Vec<LivePoint>,
}

/// All versions of the current blob of that name over the points of an instance, in the order in which points first hold them. A version is
/// another one if its content or any of its properties is. Points that share the page with the name are not read again.
///
/// # Errors
/// A point or page that cannot be read or is damaged.
pub async fn history(vault: &Vault, instance: &str, container: &str, name: &str) -> Result<Vec<Version>> {
    let key = EntryKey { container, name, is_current: true, version: "" };
    let mut versions: Vec<Version> = Vec::new();
    let mut descent = Descent::default();
    for live in oldest_first(vault, instance).await? {
        let Some(point) = get_live(vault, instance, &live.job).await? else { continue };
        let Some(Record::Blob(item)) = descent.find(&vault.reader, &point.root, key).await? else { continue };
        if item.entry.key() != key {
            continue;
        }
        // The newest version is the likeliest, and one that was put back is an old one.
        match versions.iter_mut().rev().find(|version| version.item == *item) {
            Some(version) => version.points.push(live),
            None => versions.push(Version { item: item.clone(), points: vec![live] }),
        }
    }
    Ok(versions)
}

/// The points of an instance, oldest first.
async fn oldest_first(vault: &Vault, instance: &str) -> Result<Vec<LivePoint>> {
    let mut points = Chain::instance(vault, instance)?.load().await?.points.clone();
    points.sort_by(|a, b| (a.started_at, a.completed_at, &a.job).cmp(&(b.started_at, b.completed_at, &b.job)));
    Ok(points)
}

/// A point, or `None` if it has gone since its chain was read.
async fn get_live(vault: &Vault, instance: &str, job: &str) -> Result<Option<Point>> {
    match Point::get(vault, instance, job).await {
        Ok(point) => Ok(Some(point)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match Chain::instance(vault, instance)?.load().await?.point(job) {
                Some(_) => Err(error),
                None => Ok(None),
            }
        }
        Err(error) => Err(error),
    }
}
