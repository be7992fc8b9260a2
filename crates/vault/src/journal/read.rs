//! Reading journals, segment by segment, each checked against the one before.

use crate::error::{Error, Result};
use crate::item::Timestamp;
use crate::monitor::Monitor;
use crate::point::Point;
use crate::state::LivePoint;
use crate::store::StoreErrorKind;
use crate::vault::Vault;
use crate::verify::Ledger;

use super::segment::{Change, Segment};
use super::{JournalEnd, by_completion, check_is_no_base, file_name, first_instant, folder, is_lost, key};

/// A journal of more segments than one listing holds is searched for its end instead of listed.
const LISTED: usize = 1000;

/// Numbers of the segments that are there, in order.
async fn numbers(vault: &Vault, instance: &str, base: &str) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    loop {
        let page = page_after(vault, instance, base, numbers.last().copied().unwrap_or(0)).await?;
        if page.is_empty() {
            return Ok(numbers);
        }
        numbers.extend(page);
    }
}

/// Numbers behind this one, as many as one listing gives.
async fn page_after(vault: &Vault, instance: &str, base: &str, number: u64) -> Result<Vec<u64>> {
    let folder = folder(instance, base);
    let after = (number > 0).then(|| file_name(instance, base, number));
    let files = vault.store.list(&folder, after.as_deref()).await?;
    let numbers = files.iter().map(|file| {
        let number = file.name[folder.len()..].parse().ok();
        number
            .filter(|number| file_name(instance, base, *number) == file.name)
            .ok_or_else(|| Error::damaged(&file.name, "it is no segment by its name: move it away"))
    });
    numbers.collect()
}

/// The number of the last segment. One that is missing shortly before it is named; who reads them all finds the others.
async fn last_number(vault: &Vault, instance: &str, base: &str) -> Result<u64> {
    let mut last = 0;
    loop {
        let page = page_after(vault, instance, base, last).await?;
        for number in &page {
            if *number != last + 1 {
                return Err(is_missing(&file_name(instance, base, last + 1)));
            }
            last = *number;
        }
        if page.len() < LISTED {
            return Ok(last);
        }
        last = far_behind(vault, instance, base, last).await?;
    }
}

/// A segment that is there, not far from the last one.
async fn far_behind(vault: &Vault, instance: &str, base: &str, from: u64) -> Result<u64> {
    let (mut there, mut step) = (from, LISTED as u64);
    while has(vault, &file_name(instance, base, there + step)).await? {
        there += step;
        step *= 2;
    }
    while step >= LISTED as u64 {
        step /= 2;
        if has(vault, &file_name(instance, base, there + step)).await? {
            there += step;
        }
    }
    Ok(there)
}

async fn has(vault: &Vault, name: &str) -> Result<bool> {
    match vault.store.size(name).await {
        Ok(_) => Ok(true),
        Err(e) if e.kind == StoreErrorKind::NotFound => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn is_missing(file: &str) -> Error {
    Error::damaged(file, "the segment is missing from its journal")
}

/// The end of a journal, of which `begin` is the beginning.
pub(super) async fn last(vault: &Vault, instance: &str, begin: JournalEnd) -> Result<JournalEnd> {
    let number = last_number(vault, instance, &begin.base).await?;
    if number == 0 {
        return Ok(begin);
    }
    let name = file_name(instance, &begin.base, number);
    let file = get(vault, &name).await?;
    let segment = Segment::open(vault, &name, &file)?;
    if segment.number != number {
        return Err(Error::damaged(&name, "it has another number inside"));
    }
    let hash = *blake3::hash(&file).as_bytes();
    Ok(JournalEnd { segments: number, changes: segment.total, position: segment.position, hash, ..begin })
}

async fn get(vault: &Vault, name: &str) -> Result<bytes::Bytes> {
    vault.store.get(name).await.map_err(|e| match e.kind {
        StoreErrorKind::NotFound => is_missing(name),
        _ => e.into(),
    })
}

/// Reads the journal of one base point.
pub(crate) struct JournalReader<'a> {
    vault: &'a Vault,
    instance: &'a str,
    base: String,
    /// Segments that there are, or were when somebody looked before.
    last: u64,
    number: u64,
    hash: [u8; 32],
    total: u64,
    until: Timestamp,
}

impl<'a> JournalReader<'a> {
    /// The journal of `base`, whose file has this hash. `seen` is the number of a segment that was there before, 0 if nobody knows.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no base point.
    pub(crate) async fn open(
        vault: &'a Vault,
        instance: &'a str,
        base: &Point,
        hash: [u8; 32],
        seen: u64,
    ) -> Result<Self> {
        let Some(position) = base.feed() else {
            return Err(Error::Invalid(format!("recovery point {} has no journal", base.job)));
        };
        let until = position.complete_until;
        let mut reader = Self { vault, instance, base: base.job.clone(), last: seen, number: 0, hash, total: 0, until };
        let last = numbers(vault, instance, &base.job).await.map_err(|e| reader.lost(e))?.last().copied();
        reader.last = reader.last.max(last.unwrap_or(0));
        Ok(reader)
    }

    /// Until when nothing is missing in what was read so far.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// Segments read so far.
    pub(crate) fn segments(&self) -> u64 {
        self.number
    }

    /// The next segment.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the file, and from when on nothing can be restored because of it.
    pub(crate) async fn next(&mut self) -> Result<Option<Segment>> {
        if self.number >= self.last {
            return Ok(None);
        }
        match self.read().await {
            Ok(segment) => Ok(Some(segment)),
            Err(e) => Err(self.lost(e)),
        }
    }

    async fn read(&mut self) -> Result<Segment> {
        let number = self.number + 1;
        let name = file_name(self.instance, &self.base, number);
        let file = get(self.vault, &name).await?;
        let segment = Segment::open(self.vault, &name, &file)?;
        let total = self.total.wrapping_add(segment.changes.len() as u64);
        if segment.number != number || segment.previous != self.hash || segment.total != total {
            return Err(Error::damaged(&name, "it does not follow the file before it"));
        }
        (self.number, self.total) = (number, total);
        self.hash = *blake3::hash(&file).as_bytes();
        self.until = self.until.max(segment.position.complete_until);
        Ok(segment)
    }

    /// Refuses a journal that was read to its end and had more segments once.
    fn check_reaches(&self, segments: u64) -> Result<()> {
        if self.number >= segments {
            return Ok(());
        }
        Err(self.lost(is_missing(&file_name(self.instance, &self.base, self.number + 1))))
    }

    fn lost(&self, error: Error) -> Error {
        match error {
            Error::Damaged { file, reason } => {
                let reason = format!(
                    "{reason}; what changed after {} is not known, so no instant after it can be restored until the next base point",
                    self.until
                );
                Error::damaged(file, reason)
            }
            other => other,
        }
    }
}

/// Gives `take` every change up to `at` that the newest base point completed by then may not have, blob by blob in any order and some of
/// them twice; those of one blob are to be put in order by their sequence. Returns the base point. Up to which instant all changes are known
/// is for the caller to know: the store knows it up to the last change.
///
/// # Errors
/// [`Error::NotFound`] if there is no base point that old, or changes before `at` were never known. [`Error::Damaged`] if they are lost.
pub(crate) async fn changes_until(
    vault: &Vault,
    instance: &str,
    at: Timestamp,
    monitor: &dyn Monitor,
    mut take: impl FnMut(Change) -> Result<()>,
) -> Result<Point> {
    let points = by_completion(vault, instance).await?;
    let (before, after) = points.split_at(points.partition_point(|point| point.completed_at <= at));
    let (base, hash) = newest_base(vault, instance, before, at).await?;
    let ledger = Ledger::load(vault).await?.0;
    let mut later = after.iter();
    let mut current = (base.clone(), hash);
    loop {
        let seen = ledger.journal(&key(instance, &current.0.job));
        let mut reader = JournalReader::open(vault, instance, &current.0, current.1, seen).await?;
        while reader.until() < at {
            if let Some(reason) = monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let Some(segment) = reader.next().await? else { break };
            segment.changes.into_iter().filter(|change| change.at <= at).try_for_each(&mut take)?;
        }
        if reader.until() >= at {
            return Ok(base);
        }
        // The journal ends before: the next base point begins where it ends.
        match next_base(vault, instance, &mut later, &current.0.job, reader.until()).await? {
            Some((next, hash)) => {
                reader.check_reaches(next.followed_segments())?;
                current = (next, hash);
            }
            None => return Ok(base),
        }
    }
}

/// The newest base point of these, which are sorted.
async fn newest_base(vault: &Vault, instance: &str, points: &[LivePoint], at: Timestamp) -> Result<(Point, [u8; 32])> {
    for live in points.iter().rev() {
        match Point::get_hashed(vault, instance, &live.job).await {
            Ok((point, hash)) if point.feed().is_some() => return Ok((point, hash)),
            Ok(_) => {}
            Err(e) => check_is_no_base(vault, instance, &live.job, e).await?,
        }
    }
    Err(Error::NotFound(match first_instant(vault, instance).await? {
        Some(first) => format!("the state at {at} is not kept: the first instant that can be restored is {first}"),
        None => format!("{instance} has no base point, so no instant of it can be restored"),
    }))
}

/// The base point after `before`, whose journal goes on where that of `before` ended.
async fn next_base(
    vault: &Vault,
    instance: &str,
    later: &mut std::slice::Iter<'_, LivePoint>,
    before: &str,
    until: Timestamp,
) -> Result<Option<(Point, [u8; 32])>> {
    for live in later {
        match Point::get_hashed(vault, instance, &live.job).await {
            Ok((point, hash)) if point.follows() == Some(before) => return Ok(Some((point, hash))),
            Ok((point, _)) if point.feed().is_some() => {
                return Err(Error::NotFound(format!(
                    "what changed between {until} and {} is not known: no instant between them can be restored",
                    live.completed_at
                )));
            }
            Ok(_) => {}
            Err(e) if is_lost(&e) => check_is_no_base(vault, instance, &live.job, e).await?,
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
