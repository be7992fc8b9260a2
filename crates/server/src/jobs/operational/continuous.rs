//! The operational tier of an account that keeps versions of its blobs and writes a feed of their changes: the changes go into a journal in the
//! vault, and from time to time the whole is listed anew, as the base point from which the next journal begins. No content is read.

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::word::DataStore;
use blobkeep_vault::backup::{self, BackupOptions, Expiry};
use blobkeep_vault::journal::{self, JournalEnd};
use blobkeep_vault::point::{FEED_GAP, Point};
use blobkeep_vault::source::FeedPosition;
use blobkeep_vault::state::Chain;
use blobkeep_vault::{Error, ErrorKind, SourceErrorKind, Timestamp};
use serde_json::Value;

use super::containers::Containers;
use super::keep::{points, retained_until};
use super::look::{Look, Seen};
use super::ranges::known_ranges;
use crate::auth::Granted;
use crate::db;
use crate::db::operational_ranges::{JournalPlace, StoredRange};
use crate::jobs::backup::{labels, remember};
use crate::jobs::engine::EngineClock;
use crate::jobs::fault::{Fault, internal};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// Least time between two listings because of containers that have gone, in microseconds.
const LISTED_AT_MOST_EVERY: i64 = 300_000_000;
/// And how many times as long as a listing took.
const LISTING_SHARE: i64 = 10;

/// Where the next look goes on.
struct At {
    range: StoredRange,
    end: JournalEnd,
    /// What the journal has something in; none if nobody knows.
    containers: Option<Containers>,
}

/// Looks at the account once: everything that the feed has told since is in the journal afterwards. None if a point must be made first, and
/// none may.
pub(super) async fn look(look: &Look<'_>, feed: &FeedPosition) -> Result<Option<Seen>, Fault> {
    let seen_until = look.app.now();
    let before = match resume(look).await? {
        Some(mut at) => {
            if drain(look, &mut at).await? {
                // Also where no base can be made: what has gone is remembered until one is.
                let has_gone = has_gone(look, &mut at).await?;
                let is_due = if has_gone { may_list(look, &at.end).await? } else { is_base_due(look, &at.end).await? };
                if look.may_make_points && is_due {
                    rebase(look, &mut at).await?;
                }
                return Ok(Some(Seen { ended: None, range: at.range, seen_until }));
            }
            tracing::warn!(
                instance = look.subject.instance.key,
                "the account's feed of changes does not reach back to the last look: what happened in between cannot be restored"
            );
            Some(at.range)
        }
        None => {
            let states = points(look.app, look.subject).await?;
            let mut reader = look.app.db.read().await?;
            known_ranges(&mut reader, &look.subject.instance, &states).await?.into_iter().next()
        }
    };
    if !look.may_make_points {
        return Ok(None);
    }
    let at = begin(look, feed).await?;
    Ok(Some(Seen { ended: before, range: at.range, seen_until }))
}

/// The newest journal, and what is known of how far it was written; none if a new one must begin.
///
/// # Errors
/// A journal that is shorter than it was: the look fails and says so, and the next one goes on from what is left, with the feed.
async fn resume(look: &Look<'_>) -> Result<Option<At>, Fault> {
    let uuid = &look.subject.instance.instance_uuid;
    let end = match journal::end(look.vault, uuid).await {
        Ok(Some(end)) => end,
        Ok(None) => return Ok(None),
        // What is broken stays so, and a restore to an instant in it says so. From the next base on everything is well again.
        Err(e) if e.kind() == ErrorKind::Damaged => {
            tracing::error!(instance = look.subject.instance.key, error = %e, "the journal is damaged: the account is listed anew");
            return Ok(None);
        }
        Err(e) => return Err(look.engine(&e)),
    };
    let mut reader = look.app.db.read().await?;
    let known = db::operational_ranges::list(&mut reader, uuid).await?.into_iter().next();
    drop(reader);
    let Some(range) = known else { return anew(look, end).await.map(Some) };
    if range.journal.is_some() {
        return go_on(look, range, end).await.map(Some);
    }
    // Where looks made states of their own since, nobody followed the feed.
    let is_newer = end.base_completed_at.0 > range.ends_at;
    if is_newer { anew(look, end).await.map(Some) } else { Ok(None) }
}

/// A range of which no row tells: it begins with the oldest base that leads to the one of this journal without a gap.
async fn anew(look: &Look<'_>, end: JournalEnd) -> Result<At, Fault> {
    let history = history(look, &end.base).await?;
    let starts_at = history.last().map_or(end.base_completed_at.0, |(_, completed_at)| *completed_at);
    let range = StoredRange { starts_at, ends_at: i64::MIN, is_open: true, journal: None };
    At::of(look, range, end).await
}

/// The base points that lead to this one without a gap, from itself back to the oldest: the id of each, and when it was completed.
async fn history(look: &Look<'_>, newest: &str) -> Result<Vec<(String, i64)>, Fault> {
    let engine = |e: Error| look.engine(&e);
    let uuid = &look.subject.instance.instance_uuid;
    let points = Chain::instance(look.vault, uuid).map_err(engine)?.load().await.map_err(engine)?.points.clone();
    let mut found: Vec<(String, i64)> = Vec::new();
    let mut next = Some(newest.to_owned());
    while let Some(live) = next.and_then(|job| points.iter().find(|point| point.job == job)) {
        let point = match Point::get(look.vault, uuid, &live.job).await {
            // What is lost is restored by nobody.
            Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => break,
            point => point.map_err(engine)?,
        };
        found.push((live.job.clone(), live.completed_at.0));
        next = point.follows().filter(|_| found.len() < points.len()).map(ToOwned::to_owned);
    }
    Ok(found)
}

impl At {
    async fn of(look: &Look<'_>, range: StoredRange, end: JournalEnd) -> Result<Self, Fault> {
        let containers = Containers::load(look, &end).await?;
        let mut at = Self { range, end, containers };
        at.note();
        Ok(at)
    }

    /// The range follows the journal.
    fn note(&mut self) {
        self.range.ends_at = self.range.ends_at.max(self.end.position.complete_until.0);
        self.range.is_open = true;
        self.range.journal = Some(JournalPlace {
            base: self.end.base.clone(),
            segments: i64::try_from(self.end.segments).unwrap_or(i64::MAX),
            cursor: self.end.position.cursor.clone(),
        });
    }
}

async fn go_on(look: &Look<'_>, range: StoredRange, mut end: JournalEnd) -> Result<At, Fault> {
    let Some(place) = &range.journal else { return anew(look, end).await };
    if place.base != end.base {
        // A base was committed, and this service did not come to write it down; or this is an old copy of the database, and there are several.
        let is_known = history(look, &end.base).await?.iter().any(|(base, _)| *base == place.base);
        return if is_known { At::of(look, range, end).await } else { anew(look, end).await };
    }
    let written = u64::try_from(place.segments).unwrap_or_default();
    if end.segments < written {
        return Err(cut_off(look, &range, &end, written).await?);
    }
    if end.segments == written {
        // Where nothing changed nothing was written, and only the row knows how far the feed was read.
        let complete_until = Timestamp(range.ends_at.max(end.position.complete_until.0));
        end.position = FeedPosition { cursor: place.cursor.clone(), complete_until };
    }
    At::of(look, range, end).await
}

/// Segments at the end of a journal have gone. What is left is told from now on; the next look reads the rest from the feed again.
async fn cut_off(look: &Look<'_>, range: &StoredRange, end: &JournalEnd, written: u64) -> Result<Fault, Fault> {
    let instance = &look.subject.instance;
    let reason = format!(
        "the journal of the base point {} of {} ends with segment {}, but {written} were written: the vault has lost the others, and what changed \
         in them cannot be restored unless the account's change feed still tells it",
        end.base, instance.id, end.segments
    );
    tracing::error!(instance = instance.key, "{reason}");
    let error = internal(&reason);
    let left = StoredRange {
        ends_at: range.ends_at.min(end.position.complete_until.0),
        journal: Some(JournalPlace {
            base: end.base.clone(),
            segments: i64::try_from(end.segments).unwrap_or(i64::MAX),
            cursor: end.position.cursor.clone(),
        }),
        ..range.clone()
    };
    write_cut_off(look, left, &error.info()).await?;
    Ok(Fault::Final(Box::new(error)))
}

/// Protection may have been stopped while this look was under way: nothing that was set since is set back.
async fn write_cut_off(look: &Look<'_>, left: StoredRange, info: &Value) -> db::DbResult<()> {
    let (granted, now, instance) = (Granted::service(), look.app.now(), &look.subject.instance);
    let mut writer = look.app.db.write().await?;
    let rows = db::operational_ranges::list(&mut writer, &instance.instance_uuid).await?;
    if let Some(row) = rows.into_iter().find(|row| row.starts_at == left.starts_at) {
        let left = StoredRange { is_open: row.is_open, ..left };
        db::operational_ranges::put(&mut writer, &instance.instance_uuid, &left).await?;
    }
    let present = db::instances::get(&mut writer, &granted, &instance.key).await?;
    if present.is_some_and(|present| present.state == ProtectionState::ProtectionConfigured) {
        let failed = ProtectionState::ProtectionError;
        db::instances::set_state(&mut writer, &granted, &instance.key, failed, "Succeeded", Some(info), now).await?;
    }
    writer.commit().await
}

/// Reads the feed to its end into the journal. False if it does not reach back any more.
async fn drain(look: &Look<'_>, at: &mut At) -> Result<bool, Fault> {
    let uuid = &look.subject.instance.instance_uuid;
    loop {
        if let Some(reason) = look.monitor.should_stop() {
            return Err(look.engine(&Error::Cancelled(reason)));
        }
        let page = match look.source.changes(&at.end.position.cursor).await {
            Err(e) if e.kind == SourceErrorKind::NotFound => return Ok(false),
            page => page.map_err(|e| look.engine(&e.into()))?,
        };
        if let Some(containers) = &mut at.containers
            && containers.note(&page.changes)
        {
            // Before the journal has something in them: were it the other way round, an interrupted look could lose one.
            containers.save(look, &at.end.base).await?;
        }
        // This moves the position on, also where nothing has to be written.
        journal::append(look.vault, uuid, &mut at.end, &page).await.map_err(|e| look.engine(&e))?;
        at.note();
        if page.is_last {
            return Ok(true);
        }
    }
}

/// The first base point of a range.
async fn begin(look: &Look<'_>, feed: &FeedPosition) -> Result<At, Fault> {
    let mut at = anew(look, make_base(look, feed, true).await?).await?;
    drain_new(look, &mut at).await?;
    Ok(at)
}

/// Whether something that the journal has may have gone with its container; yes if nobody knows.
async fn has_gone(look: &Look<'_>, at: &mut At) -> Result<bool, Fault> {
    match &mut at.containers {
        Some(containers) => containers.look(look, &at.end.base).await,
        None => Ok(true),
    }
}

/// Lists the whole anew. The journal of the base before was written up to where the new one begins, so the range goes on.
async fn rebase(look: &Look<'_>, at: &mut At) -> Result<(), Fault> {
    at.end = make_base(look, &at.end.position, false).await?;
    at.containers = Containers::load(look, &at.end).await?;
    at.note();
    drain_new(look, at).await
}

/// What happened while the whole was listed. A feed that lost that within this look is found out by the next one, and so is a container that has
/// gone.
async fn drain_new(look: &Look<'_>, at: &mut At) -> Result<(), Fault> {
    if let Some(containers) = &at.containers {
        containers.save(look, &at.end.base).await?;
    }
    drain(look, at).await?;
    if at.containers.as_ref().is_some_and(Containers::has_news) {
        has_gone(look, at).await?;
    }
    Ok(())
}

/// Whether the account may be listed anew because of its containers: where these come and go all the time, that must not be all that is done.
async fn may_list(look: &Look<'_>, end: &JournalEnd) -> Result<bool, Fault> {
    let age = look.app.now() - end.base_completed_at.0;
    if age < LISTED_AT_MOST_EVERY {
        return Ok(false);
    }
    let uuid = &look.subject.instance.instance_uuid;
    let base = Point::get(look.vault, uuid, &end.base).await.map_err(|e| look.engine(&e))?;
    let took = base.completed_at.0 - base.started_at.0;
    Ok(age >= took.saturating_mul(LISTING_SHARE))
}

async fn is_base_due(look: &Look<'_>, end: &JournalEnd) -> Result<bool, Fault> {
    let limits = &look.app.config.operational;
    let age = look.app.now() - end.base_completed_at.0;
    if age >= i64::from(limits.base_hours) * MICROS_PER_HOUR {
        return Ok(true);
    }
    if end.changes < limits.base_changes {
        return Ok(false);
    }
    let uuid = &look.subject.instance.instance_uuid;
    let base = Point::get(look.vault, uuid, &end.base).await.map_err(|e| look.engine(&e))?;
    Ok(end.changes > base.root.totals.blobs)
}

/// `is_gap`: what happened since the base point before, if there is one, is not known.
async fn make_base(look: &Look<'_>, from: &FeedPosition, is_gap: bool) -> Result<JournalEnd, Fault> {
    let (app, subject) = (look.app, look.subject);
    let uuid = &subject.instance.instance_uuid;
    let expires_at = retained_until(subject, app.now());
    let mut labels = labels(DataStore::OperationalStore, "", "Default", &subject.policy);
    if is_gap {
        labels.insert(FEED_GAP.to_owned(), "true".to_owned());
    }
    let options = BackupOptions {
        expires_at: expires_at.map(|at| Expiry::at(Timestamp(at))).unwrap_or_default(),
        labels,
        scratch: app.config.data_dir.join("scratch"),
        at_source: Some(from.clone()),
        ..BackupOptions::new(uuid, uuid::Uuid::new_v4().simple().to_string())
    };
    let source = look.source.clone();
    let report = backup::run(look.vault, source, &options, &EngineClock(app), look.monitor)
        .await
        .map_err(|e| look.engine(&e))?;
    remember(app, subject, &report, DataStore::OperationalStore, "Default", "", expires_at).await?;
    let end = journal::end(look.vault, uuid).await.map_err(|e| look.engine(&e))?;
    let missing =
        || internal(&format!("the base point {} of {} cannot be found", report.point.job, subject.instance.id));
    Ok(end.ok_or_else(missing)?)
}
