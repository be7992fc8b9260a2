//! Walks the points: every page, every list, and the place of every chunk. What turns out to be lost is named.
//!
//! Points share most of their pages: a page below which nothing is lost is remembered and not walked again for older points.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use super::journals;
use super::packs::Packs;
use super::report::{Loss, LossScope, VerifyReport, is_damage};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ChunkId, Content, Item, Timestamp};
use crate::journal;
use crate::manifest::{Child, OwnedKey, Page, Record, Totals, decode};
use crate::monitor::{Monitor, WorkProgress};
use crate::pack::Location;
use crate::point::Point;
use crate::read::{ChunkReader, decode_list};
use crate::vault::Vault;

/// Pages fetched together: neighbours lie in one frame.
const TOGETHER: usize = 24;
/// Sound pages that are remembered; beyond that they are walked again. About 25 MiB.
const SOUND_PAGES: usize = 256 << 10;
/// Chunks whose fate is remembered because their pack is broken.
const VERDICTS: usize = 64 << 10;
/// Chunks that are looked up together.
const LOOKED_UP: usize = 8192;
/// Content that is read together to try chunks of broken packs, in bytes.
const TRIED_BYTES: u64 = 8 << 20;

/// What is below a page.
#[derive(Debug, Clone, Copy)]
struct Below {
    totals: Totals,
    is_sound: bool,
    /// When the pack that was read longest ago was read; `None` if one never was. [`ALWAYS`] if nothing is needed.
    read_at: Option<Timestamp>,
}

const ALWAYS: Option<Timestamp> = Some(Timestamp(i64::MAX));

impl Below {
    const NOTHING: Self =
        Self { totals: Totals { containers: 0, blobs: 0, bytes: 0 }, is_sound: true, read_at: ALWAYS };

    fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.is_sound &= other.is_sound;
        self.read_at = self.read_at.min(other.read_at);
    }

    fn of_lost(totals: Totals) -> Self {
        Self { totals, is_sound: false, read_at: None }
    }
}

/// What was found of one point.
pub(super) struct Walked {
    /// Nothing is lost.
    pub(super) is_sound: bool,
    /// Every pack that it needs was read whole since.
    pub(super) read_at: Option<Timestamp>,
    /// Segments of its journal, up to the first that is lost.
    pub(super) segments: u64,
}

/// Walks point after point; the newest first names most.
pub(super) struct Walk<'a> {
    vault: &'a Vault,
    index: &'a Index,
    reader: &'a ChunkReader,
    packs: &'a mut Packs,
    report: &'a mut VerifyReport,
    monitor: &'a dyn Monitor,
    /// The index was read anew for this point.
    has_refreshed: bool,
    sound: HashMap<ChunkId, Below>,
    verdicts: LruCache<ChunkId, Option<Arc<str>>>,
    instance: String,
    job: String,
    started_at: Timestamp,
    /// How many segments newer base points say that journals have.
    followed: HashMap<String, u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        vault: &'a Vault,
        index: &'a Index,
        reader: &'a ChunkReader,
        packs: &'a mut Packs,
        report: &'a mut VerifyReport,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let verdicts = LruCache::new(NonZeroUsize::new(VERDICTS).unwrap_or(NonZeroUsize::MIN));
        let (instance, job) = (String::new(), String::new());
        let started_at = Timestamp::default();
        let sound = HashMap::new();
        let has_refreshed = false;
        Self {
            vault,
            index,
            reader,
            packs,
            report,
            monitor,
            has_refreshed,
            sound,
            verdicts,
            instance,
            job,
            started_at,
            followed: HashMap::new(),
        }
    }

    /// Walks one point and reports what is lost of it. `seen` is the last segment that was seen of its journal.
    pub(super) async fn point(&mut self, instance: &str, job: &str, seen: u64) -> Result<Walked> {
        (self.instance, self.job) = (instance.to_owned(), job.to_owned());
        let name = Point::file_name(instance, job);
        self.report.points += 1;
        self.has_refreshed = false;
        let (point, hash) = match Point::get_hashed(self.vault, instance, job).await {
            Ok(found) => found,
            Err(error) => {
                let error = match error {
                    Error::NotFound(_) => Error::damaged(&name, "the file is missing"),
                    error => error,
                };
                let reason = error.to_string();
                self.report.take(error)?;
                self.report.harmed_points += 1;
                self.lose(0, LossScope::Point { blobs: None }, reason);
                return Ok(Walked { is_sound: false, read_at: None, segments: 0 });
            }
        };
        self.started_at = point.started_at;
        let promised = point.root.totals;
        let lost_before = self.report.lost_blobs;
        let mut found = match point.root.page {
            Some(page) => self.root(page, promised).await?,
            None => Below::NOTHING,
        };
        for page in &point.skipped_pages {
            if let Err(error) = self.page(*page).await {
                self.report.take(error.needed_by(&format!("the list of skipped blobs in {name}")))?;
                found.is_sound = false;
            }
        }
        if found.is_sound && found.totals != promised {
            let (promised, found) = (promised.blobs, found.totals.blobs);
            self.report.damaged(format!("{name}: it promises {promised} blobs and its manifest has {found}"));
        }
        self.report.blobs += found.totals.blobs;
        let lost = self.report.lost_blobs - lost_before;
        if lost > 0 {
            self.report.harmed_points += 1;
            self.report.damaged(format!("{name}: {lost} of its {} blobs are lost", promised.blobs));
        }
        if let Some(before) = point.follows() {
            self.followed.insert(journal::key(instance, before), point.followed_segments());
        }
        let followed = self.followed.remove(&journal::key(instance, job)).unwrap_or(0);
        let seen = seen.max(followed);
        let journal = journals::check(self.vault, &point, hash, seen, self.report, self.monitor).await?;
        self.report.harmed_points += u64::from(!journal.is_sound && lost == 0);
        let is_sound = found.is_sound && found.totals == promised && journal.is_sound;
        Ok(Walked { is_sound, read_at: found.read_at, segments: journal.segments })
    }

    fn lose(&mut self, blobs: u64, scope: LossScope, reason: String) {
        let (instance, point) = (self.instance.clone(), self.job.clone());
        self.report.lose(blobs, Loss { instance, point, scope, reason });
    }

    async fn root(&mut self, page: ChunkId, totals: Totals) -> Result<Below> {
        if let Some(below) = self.known_sound(page) {
            return Ok(below);
        }
        match self.page(page).await {
            Ok((bytes, read_at)) => self.walk(page, bytes, read_at, None).await,
            Err(error) if is_damage(&error) => {
                let reason = error.to_string();
                self.lose(totals.blobs, LossScope::Point { blobs: Some(totals.blobs) }, reason.clone());
                self.report.damaged(reason);
                Ok(Below::of_lost(totals))
            }
            Err(error) => Err(error),
        }
    }

    /// A page that was walked before. What it needs is needed by newer points already.
    fn known_sound(&self, page: ChunkId) -> Option<Below> {
        self.sound.get(&page).copied()
    }

    /// Walks what is below a page. `after` is the last key before it.
    fn walk<'b>(
        &'b mut self,
        id: ChunkId,
        bytes: Bytes,
        read_at: Option<Timestamp>,
        after: Option<OwnedKey>,
    ) -> Pin<Box<dyn Future<Output = Result<Below>> + Send + 'b>> {
        Box::pin(async move {
            if let Some(reason) = self.monitor.should_stop() {
                return Err(Error::Cancelled(reason));
            }
            let mut below = match decode(id, &bytes)? {
                Page::Leaf(records) => self.leaf(records).await?,
                Page::Inner(children) => self.inner(children, after).await?,
            };
            below.read_at = below.read_at.min(read_at);
            if below.is_sound && self.sound.len() < SOUND_PAGES {
                self.sound.insert(id, below);
            }
            Ok(below)
        })
    }

    async fn inner(&mut self, children: Vec<Child>, mut after: Option<OwnedKey>) -> Result<Below> {
        let mut all = Below::NOTHING;
        for group in children.chunks(TOGETHER) {
            let wanted = group.iter().map(|child| child.page).filter(|page| !self.sound.contains_key(page));
            // If one of them is damaged, each is read by itself below.
            let mut fetched = match self.reader.chunks(&wanted.collect()).await {
                Err(e) if is_damage(&e) => HashMap::new(),
                fetched => fetched?,
            };
            for child in group {
                let below = match (self.known_sound(child.page), fetched.remove(&child.page)) {
                    (Some(below), _) => below,
                    (None, bytes) => self.child(child, bytes, after.take()).await?,
                };
                all.add(&below);
                after = Some(child.last.clone());
            }
        }
        Ok(all)
    }

    async fn child(&mut self, child: &Child, bytes: Option<Bytes>, after: Option<OwnedKey>) -> Result<Below> {
        let page = match bytes {
            Some(bytes) => self.place(child.page).await.map(|read_at| (bytes, read_at)),
            None => self.page(child.page).await,
        };
        let error = match page {
            Ok((bytes, read_at)) => return self.walk(child.page, bytes, read_at, after).await,
            Err(error) => error,
        };
        let reason = error.to_string();
        self.report.take(error)?;
        let blobs = child.totals.blobs;
        self.lose(blobs, LossScope::Between { after, up_to: child.last.clone(), blobs }, reason);
        Ok(Below::of_lost(child.totals))
    }

    /// A chunk of metadata, and when its pack was read whole.
    async fn page(&mut self, id: ChunkId) -> Result<(Bytes, Option<Timestamp>)> {
        let bytes = self.reader.chunks(&HashSet::from([id])).await?.remove(&id);
        let bytes = bytes.ok_or_else(|| Error::Internal(format!("chunk {id} was fetched and is not there")))?;
        Ok((bytes, self.place(id).await?))
    }

    /// Notes that the point needs the pack of this chunk, and says when that was read whole.
    async fn place(&mut self, id: ChunkId) -> Result<Option<Timestamp>> {
        let location = self.reader.find(&HashSet::from([id])).await?.remove(&id);
        Ok(location.and_then(|location| self.packs.need(location.pack, self.started_at)))
    }

    async fn leaf(&mut self, records: Vec<Record>) -> Result<Below> {
        let mut below = Below::NOTHING;
        let ids = records.iter().flat_map(inline_chunks).copied().collect();
        let known = self.look_up(&ids).await?;
        for record in &records {
            below.totals.count(record);
            let Record::Blob(item) = record else { continue };
            let outcome = match &item.content {
                Content::Empty => expect_length(item, 0).map(|()| ALWAYS),
                // Nothing of it lies in the vault.
                Content::AtSource { .. } => Ok(ALWAYS),
                Content::Chunks(ids) => self.chunks(item, ids, &known),
                Content::ChunkTree { root, depth } => self.tree(item, *root, *depth).await?,
            };
            match outcome {
                Ok(read_at) => below.read_at = below.read_at.min(read_at),
                Err(reason) => {
                    below.is_sound = false;
                    below.read_at = None;
                    let entry = item.entry.clone();
                    let (container, name, version) = (entry.container, entry.name, entry.version);
                    self.lose(1, LossScope::Blob { container, name, version }, reason.to_string());
                }
            }
        }
        let blobs = self.report.blobs + below.totals.blobs;
        self.monitor.progress(&WorkProgress { blobs, bytes: self.report.pack_bytes, ..WorkProgress::default() });
        Ok(below)
    }

    /// Judges a blob by its chunks, all of which were looked up.
    fn chunks(
        &mut self,
        item: &Item,
        ids: &[ChunkId],
        known: &HashMap<ChunkId, Known>,
    ) -> std::result::Result<Option<Timestamp>, Arc<str>> {
        let mut read_at = ALWAYS;
        let mut length = 0;
        for id in ids {
            match known.get(id) {
                Some(Known::Sound { plain_bytes, read_at: at }) => {
                    length += u64::from(*plain_bytes);
                    read_at = read_at.min(*at);
                }
                Some(Known::Lost(reason)) => return Err(reason.clone()),
                None => return Err(Arc::from(format!("chunk {id} was not looked up"))),
            }
        }
        expect_length(item, length).map(|()| read_at)
    }

    /// Judges a blob by its tree of lists. Memory: one list of each level and the chunks that are looked up together.
    async fn tree(
        &mut self,
        item: &Item,
        root: ChunkId,
        depth: u8,
    ) -> Result<std::result::Result<Option<Timestamp>, Arc<str>>> {
        let mut read_at = ALWAYS;
        let mut length = 0;
        let mut wanted: Vec<ChunkId> = Vec::new();
        let mut stack = vec![(depth, vec![root])];
        while let Some((level, ids)) = stack.last_mut() {
            let level = *level;
            let Some(id) = ids.pop() else {
                stack.pop();
                continue;
            };
            if level == 0 {
                wanted.push(id);
                if wanted.len() < LOOKED_UP {
                    continue;
                }
            } else {
                match self.list(id).await {
                    Ok((mut listed, at)) => {
                        read_at = read_at.min(at);
                        listed.reverse();
                        stack.push((level - 1, listed));
                    }
                    Err(e) if is_damage(&e) => return Ok(Err(Arc::from(e.to_string()))),
                    Err(e) => return Err(e),
                }
                continue;
            }
            match self.sum(&std::mem::take(&mut wanted)).await? {
                Ok((bytes, at)) => (length, read_at) = (length + bytes, read_at.min(at)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        match self.sum(&wanted).await? {
            Ok((bytes, at)) => Ok(expect_length(item, length + bytes).map(|()| read_at.min(at))),
            Err(reason) => Ok(Err(reason)),
        }
    }

    async fn list(&mut self, id: ChunkId) -> Result<(Vec<ChunkId>, Option<Timestamp>)> {
        let (bytes, read_at) = self.page(id).await?;
        let listed = decode_list(id, &bytes)?;
        Ok((listed, read_at))
    }

    /// The length of these chunks together, and when the packs were read; or why one of them is lost.
    async fn sum(&mut self, ids: &[ChunkId]) -> Result<std::result::Result<(u64, Option<Timestamp>), Arc<str>>> {
        let known = self.look_up(&ids.iter().copied().collect()).await?;
        let (mut length, mut read_at) = (0, ALWAYS);
        for id in ids {
            match known.get(id) {
                Some(Known::Sound { plain_bytes, read_at: at }) => {
                    length += u64::from(*plain_bytes);
                    read_at = read_at.min(*at);
                }
                Some(Known::Lost(reason)) => return Ok(Err(reason.clone())),
                None => return Err(Error::Internal(format!("chunk {id} was not looked up"))),
            }
        }
        Ok(Ok((length, read_at)))
    }

    /// What is known of these chunks. Those in packs that are missing or broken are tried, as a restore would: a copy elsewhere may do.
    async fn look_up(&mut self, ids: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Known>> {
        let mut found = self.reader.find(ids).await?;
        if found.len() < ids.len() && !std::mem::replace(&mut self.has_refreshed, true) {
            // A backup that runs beside may have written runs since.
            self.index.refresh().await?;
            found = self.reader.find(ids).await?;
        }
        let mut known = HashMap::with_capacity(ids.len());
        let mut doubtful: Vec<(Location, ChunkId)> = Vec::new();
        for id in ids {
            let Some(location) = found.get(id) else {
                let reason = self.reader.why_not_found(*id).await;
                if !is_damage(&reason) {
                    return Err(reason);
                }
                known.insert(*id, Known::Lost(Arc::from(reason.to_string())));
                continue;
            };
            if self.packs.is_sound(self.vault, location.pack).await? {
                let read_at = self.packs.need(location.pack, self.started_at);
                known.insert(*id, Known::Sound { plain_bytes: location.plain_bytes, read_at });
            } else {
                doubtful.push((*location, *id));
            }
        }
        doubtful.sort_unstable();
        let mut rest = doubtful.as_slice();
        while !rest.is_empty() {
            let (together, after) = rest.split_at(tried_together(rest));
            self.try_all(together, &mut known).await?;
            rest = after;
        }
        Ok(known)
    }

    async fn try_all(&mut self, doubtful: &[(Location, ChunkId)], known: &mut HashMap<ChunkId, Known>) -> Result<()> {
        let untried: HashSet<ChunkId> =
            doubtful.iter().map(|(_, id)| *id).filter(|id| !self.verdicts.contains(id)).collect();
        match self.reader.chunks(&untried).await {
            Ok(_) => untried.iter().for_each(|id| drop(self.verdicts.put(*id, None))),
            // At least one is lost: each is tried by itself.
            Err(e) if is_damage(&e) => {}
            Err(e) => return Err(e),
        }
        for (location, id) in doubtful {
            let fate = match self.verdict(*id).await? {
                Some(reason) => Known::Lost(reason),
                None => Known::Sound { plain_bytes: location.plain_bytes, read_at: None },
            };
            known.insert(*id, fate);
        }
        Ok(())
    }

    /// Why a chunk cannot be read, if it cannot.
    async fn verdict(&mut self, id: ChunkId) -> Result<Option<Arc<str>>> {
        if let Some(verdict) = self.verdicts.get(&id) {
            return Ok(verdict.clone());
        }
        let verdict = match self.reader.chunks(&HashSet::from([id])).await {
            Ok(_) => None,
            Err(e) if is_damage(&e) => Some(Arc::from(e.to_string())),
            Err(e) => return Err(e),
        };
        self.verdicts.put(id, verdict.clone());
        Ok(verdict)
    }
}

/// What is known of a chunk.
enum Known {
    Sound { plain_bytes: u32, read_at: Option<Timestamp> },
    Lost(Arc<str>),
}

fn inline_chunks(record: &Record) -> &[ChunkId] {
    match record {
        Record::Blob(Item { content: Content::Chunks(ids), .. }) => ids,
        _ => &[],
    }
}

fn expect_length(item: &Item, found: u64) -> std::result::Result<(), Arc<str>> {
    let promised = item.entry.size_bytes;
    if found == promised {
        return Ok(());
    }
    Err(Arc::from(format!("it has {promised} bytes and its chunks have {found}")))
}

/// How many of the first entries are read together.
fn tried_together(doubtful: &[(Location, ChunkId)]) -> usize {
    let mut bytes = 0;
    for (count, (location, _)) in doubtful.iter().enumerate() {
        bytes += u64::from(location.plain_bytes);
        if bytes > TRIED_BYTES {
            return count.max(1);
        }
    }
    doubtful.len()
}
