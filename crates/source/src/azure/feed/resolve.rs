//! From events to changes: an event tells that something happened to a blob and little of what the blob then was. The rest is asked for, once for
//! each version in a page. The answer is of now: tags and content headers are taken back to each event by what the later ones in the page say they
//! changed. What changed after the page looks as if it had been so at its end: the next page tells what was before, but changes that were told
//! stay as they were told. Only the content type is known better, because every event tells it.
//!
//! Events of earlier versions (set aside by a rule of the account, say) look much like those of the current blob. They must not be taken for it: the
//! deletion of an old version would otherwise look like that of the blob. Which one is current is known from the events around, from the answer
//! to the request for the version, or at last from the list of the blob's versions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;

use blobkeep_vault::source::BlobChange;
use blobkeep_vault::{BlobEntry, BlobKind, ContentHeaders, SourceError, SourceErrorKind, Timestamp};
use tokio::task::JoinSet;

use super::event::{Event, Tags, What, instant_of};
use crate::azure::versions::{Kept, Version};
use crate::azure::{AzureAccount, xml};

/// Requests that wait for their turn at once.
const MOST_WAITING: usize = 64;

/// Container and name.
type Blob = (String, String);
/// A version of a blob, or its current state.
type VersionKey = (Blob, Option<String>);

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The blob as it then was.
    Current,
    /// A version that was no longer the blob.
    Earlier,
    /// One of both.
    Unknown,
}

/// What was asked for.
#[derive(Default)]
struct Found {
    /// `None` for versions that are gone.
    versions: HashMap<VersionKey, Option<Version>>,
    /// All versions of a blob.
    kept: HashMap<Blob, Vec<Kept>>,
}

/// What a version was at a moment, going back from now.
struct Then {
    tags: Tags,
    headers: ContentHeaders,
    content_md5: Option<[u8; 16]>,
}

impl AzureAccount {
    /// The changes that events tell, in their order.
    pub(super) async fn changes_of(&self, events: Vec<Event>) -> Result<Vec<BlobChange>, SourceError> {
        let events = in_order(events);
        let about = what_about(&events);
        let mut found = Found::default();
        found.versions = self.look_at_versions(&events, &about).await?;
        found.kept = self.list_unknown(&events, &about, &found.versions).await?;
        let mut changes = Vec::with_capacity(events.len());
        let mut thens = HashMap::new();
        // Backwards: what is known of a version is what it is now, and its last event tells what it was before.
        for (event, about) in events.iter().zip(&about).rev() {
            if found.settle(event, *about) == About::Earlier {
                found.go_before(event, &mut thens);
                continue;
            }
            let entry = match event.what {
                What::Deleted => None,
                _ => match found.entry_at(event, &mut thens) {
                    Some(entry) => Some(entry),
                    None => continue,
                },
            };
            changes.push(BlobChange {
                container: event.container.clone(),
                name: event.name.clone(),
                at: event.at,
                sequence: event.sequence.clone(),
                entry,
            });
        }
        changes.reverse();
        Ok(changes)
    }

    async fn look_at_versions(
        &self,
        events: &[Event],
        about: &[About],
    ) -> Result<HashMap<VersionKey, Option<Version>>, SourceError> {
        // The last event of a version decides whether its present tags are of interest.
        let mut wanted: HashMap<VersionKey, bool> = HashMap::new();
        for (event, about) in events.iter().zip(about) {
            if event.what != What::Deleted && *about != About::Earlier {
                wanted.insert((blob_of(event), event.version.clone()), event.tags.is_none());
            }
        }
        let jobs = wanted.into_iter().map(|(key, needs_tags)| {
            let account = self.clone();
            async move {
                let ((container, name), version) = &key;
                let found = account.version(container, name, version.as_deref(), needs_tags).await?;
                Ok::<_, SourceError>((key, found))
            }
        });
        Ok(at_once(jobs).await?.into_iter().collect())
    }

    async fn list_unknown(
        &self,
        events: &[Event],
        about: &[About],
        versions: &HashMap<VersionKey, Option<Version>>,
    ) -> Result<HashMap<Blob, Vec<Kept>>, SourceError> {
        let is_open = |event: &Event| match versions.get(&(blob_of(event), event.version.clone())) {
            Some(Some(version)) if event.what != What::Deleted => !version.is_current,
            _ => event.version.is_some(),
        };
        let blobs: BTreeSet<Blob> = events
            .iter()
            .zip(about)
            .filter(|(event, about)| **about == About::Unknown && is_open(event))
            .map(|(event, _)| blob_of(event))
            .collect();
        let jobs = blobs.into_iter().map(|blob| {
            let account = self.clone();
            async move {
                let kept = account.kept_versions(&blob.0, &blob.1).await?;
                Ok::<_, SourceError>((blob, kept))
            }
        });
        Ok(at_once(jobs).await?.into_iter().collect())
    }
}

/// Does all jobs, some at once. The account itself limits the requests that are on their way.
async fn at_once<T: Send + 'static>(
    jobs: impl Iterator<Item = impl Future<Output = Result<T, SourceError>> + Send + 'static>,
) -> Result<Vec<T>, SourceError> {
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    let ended = |outcome: Result<Result<T, SourceError>, tokio::task::JoinError>| match outcome {
        Ok(outcome) => outcome,
        Err(error) => Err(SourceError::new(SourceErrorKind::Unavailable, format!("a request was given up: {error}"))),
    };
    for job in jobs {
        if running.len() >= MOST_WAITING
            && let Some(outcome) = running.join_next().await
        {
            done.push(ended(outcome)?);
        }
        running.spawn(job);
    }
    while let Some(outcome) = running.join_next().await {
        done.push(ended(outcome)?);
    }
    Ok(done)
}

fn blob_of(event: &Event) -> Blob {
    (event.container.clone(), event.name.clone())
}

/// By blob, the places of its events.
fn by_blob(events: &[Event]) -> HashMap<(&str, &str), Vec<usize>> {
    let mut places: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (place, event) in events.iter().enumerate() {
        places.entry((event.container.as_str(), event.name.as_str())).or_default().push(place);
    }
    places
}

/// Puts the events of each blob into the order of their sequence, and leaves out those that came before.
fn in_order(events: Vec<Event>) -> Vec<Event> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    for places in by_blob(&events).into_values() {
        let mut sorted = places.clone();
        sorted.sort_by(|a, b| events[*a].sequence.cmp(&events[*b].sequence));
        for (place, from) in places.into_iter().zip(sorted) {
            order[place] = from;
        }
    }
    let mut seen = HashSet::new();
    let is_new: Vec<bool> = order
        .iter()
        .map(|from| {
            let event = &events[*from];
            event.id.is_empty() || seen.insert((&event.container, &event.name, &event.sequence, &event.id))
        })
        .collect();
    drop(seen);
    let mut events: Vec<Option<Event>> = events.into_iter().map(Some).collect();
    order.into_iter().zip(is_new).filter_map(|(from, is_new)| events[from].take().filter(|_| is_new)).collect()
}

/// What the events of a page tell of each other.
fn what_about(events: &[Event]) -> Vec<About> {
    let mut about = vec![About::Unknown; events.len()];
    for places in by_blob(events).into_values() {
        // The version that is current, once an event has told; `Some(None)` if there is none.
        let mut current: Option<Option<&str>> = None;
        // Ids are times: one that is greater than all before is that of a new version, whether its event says so or not.
        let mut newest: Option<&str> = None;
        for (number, place) in places.iter().enumerate() {
            let event = &events[*place];
            let version = event.version.as_deref();
            about[*place] = match (event.what, current) {
                _ if version.is_none() || event.makes_version() => About::Current,
                (What::Deleted, _) if event.last_version == event.version => About::Current,
                (_, Some(current)) if current == version => About::Current,
                (What::Deleted, Some(_)) if version > newest => About::Unknown,
                (_, Some(_)) if version > newest => About::Current,
                (_, Some(_)) => About::Earlier,
                (_, None) => before_next(&places[number + 1..], events, version),
            };
            if about[*place] == About::Current {
                newest = newest.max(version);
                current = match (event.what, version) {
                    (What::Deleted, _) => Some(None),
                    (_, Some(version)) => Some(Some(version)),
                    // An event that does not tell its version leaves open which one is current.
                    (_, None) => None,
                };
            }
        }
    }
    about
}

/// The next event that took the place of the current version says which one that was.
fn before_next(later: &[usize], events: &[Event], version: Option<&str>) -> About {
    match later.iter().find_map(|place| events[*place].last_version.as_deref()) {
        Some(last) if Some(last) == version => About::Current,
        Some(last) if Some(last) > version => About::Earlier,
        _ => About::Unknown,
    }
}

/// Ids are times, and more exact than others.
fn made_at(kept: &Kept) -> Timestamp {
    kept.id.as_deref().and_then(instant_of).unwrap_or(kept.modified_at)
}

impl Found {
    /// Decides what the events of the page left open.
    ///
    /// Where nothing tells, an event that changed something is taken for one of an earlier version: otherwise a rule that moves old versions to
    /// another tier would bring back a blob whose deletion an earlier page told. What that costs: a tag, tier or header that was set shortly
    /// before the blob was deleted is not told, if the deletion is not in the page but was made before the page was read.
    fn settle(&self, event: &Event, about: About) -> About {
        let (About::Unknown, Some(version)) = (about, &event.version) else { return about };
        let key = (blob_of(event), event.version.clone());
        let is_deletion = event.what == What::Deleted;
        if !is_deletion
            && let Some(Some(found)) = self.versions.get(&key)
            && found.is_current
        {
            return About::Current;
        }
        let kept = self.kept.get(&key.0).map(Vec::as_slice).unwrap_or_default();
        // What is current and has no id was written when versions had been switched off: later than all of them.
        let is_later = |kept: &&Kept| kept.id.as_ref().is_none_or(|id| id > version);
        let next = kept.iter().filter(is_later).min_by_key(|kept| made_at(kept));
        match next {
            // Another version was made before the event: this one was no longer current.
            Some(next) if made_at(next) < event.at => About::Earlier,
            _ if is_deletion => About::Current,
            // Another version took its place after the event, unless that is the first one of a blob that was made anew.
            Some(next) if next.blob_created_at <= event.at => About::Current,
            _ => About::Earlier,
        }
    }

    /// Tags of an earlier version may change, too, and events before may be of the time when it was the blob.
    fn go_before(&self, event: &Event, thens: &mut HashMap<VersionKey, Then>) {
        let key = (blob_of(event), event.version.clone());
        if let Some(Some(found)) = self.versions.get(&key) {
            thens.entry(key).or_insert_with(|| Then::of(found)).go_before(event);
        }
    }

    /// What the blob was after the event; `None` if it is nothing that is kept. Where nobody can tell any more which version that was, it has none;
    /// an event that left the content as it was is not told then, since it would only hide what is known of the content.
    fn entry_at(&self, event: &Event, thens: &mut HashMap<VersionKey, Then>) -> Option<BlobEntry> {
        let key = (blob_of(event), event.version.clone());
        let found = self.versions.get(&key)?.as_ref();
        // Without its version an event can only be about the present state, if that is still the one.
        let present = found.filter(|found| event.version.is_some() || found.entry.etag == event.etag);
        let version = event.version.as_ref().or(present.and_then(|found| found.entry.current_version.as_ref()));
        if found.is_some_and(|found| found.is_folder) || (version.is_none() && event.leaves_content()) {
            return None;
        }
        let Some(found) = present else { return Some(told_by(event)) };
        let then = thens.entry(key).or_insert_with(|| Then::of(found));
        then.go_to(event, &found.entry.etag);
        let mut entry = BlobEntry {
            tags: then.tags.clone(),
            headers: then.headers.clone(),
            content_md5: then.content_md5,
            tier: tier_at(event, found),
            current_version: event.version.clone().or_else(|| found.entry.current_version.clone()),
            ..found.entry.clone()
        };
        if !event.etag.is_empty() {
            event.etag.clone_into(&mut entry.etag);
        }
        // Append and page blobs grow and shrink without a new version.
        if let Some(size_bytes) = event.size_bytes
            && entry.kind != BlobKind::Block
        {
            entry.size_bytes = size_bytes;
        }
        then.go_before(event);
        Some(entry)
    }
}

impl Then {
    fn of(found: &Version) -> Self {
        let entry = &found.entry;
        Self { tags: entry.tags.clone(), headers: entry.headers.clone(), content_md5: entry.content_md5 }
    }

    fn go_to(&mut self, event: &Event, etag_now: &str) {
        if let Some(tags) = &event.tags {
            tags.current.clone_into(&mut self.tags);
        }
        // Headers were set since, perhaps after the page: this one is told by every event.
        if event.content_type.is_some() && event.etag != etag_now {
            event.content_type.clone_into(&mut self.headers.content_type);
        }
        for (name, change) in &event.headers {
            self.set(name, change.current.clone());
        }
    }

    fn go_before(&mut self, event: &Event) {
        // What was before the version was made is another version's.
        if event.makes_version() {
            return;
        }
        if let Some(tags) = &event.tags {
            tags.previous.clone_into(&mut self.tags);
        }
        for (name, change) in &event.headers {
            self.set(name, change.previous.clone());
        }
    }

    fn set(&mut self, name: &str, value: Option<String>) {
        let headers = &mut self.headers;
        match name {
            "ContentType" => headers.content_type = value,
            "ContentEncoding" => headers.content_encoding = value,
            "ContentLanguage" => headers.content_language = value,
            "ContentDisposition" => headers.content_disposition = value,
            "CacheControl" => headers.cache_control = value,
            "ContentMD5" => self.content_md5 = value.as_deref().and_then(xml::md5_from_base64),
            _ => {}
        }
    }
}

/// The tier that was set; `None` if it is inherited. Events tell the tier of every blob, whether it was set or not.
fn tier_at(event: &Event, found: &Version) -> Option<String> {
    match (&event.tier, event.what) {
        (Some(tier), What::Tier) => Some(tier.clone()),
        (Some(tier), _) if found.tier.as_ref() != Some(tier) => Some(tier.clone()),
        _ => found.entry.tier.clone(),
    }
}

/// What an event tells of a version that is gone, or of a state that never had one. A restore that needs it will name it.
fn told_by(event: &Event) -> BlobEntry {
    BlobEntry {
        container: event.container.clone(),
        name: event.name.clone(),
        kind: event.kind.unwrap_or_default(),
        size_bytes: event.size_bytes.unwrap_or_default(),
        etag: event.etag.clone(),
        headers: ContentHeaders { content_type: event.content_type.clone(), ..ContentHeaders::default() },
        tags: event.tags.as_ref().map(|tags| tags.current.clone()).unwrap_or_default(),
        tier: event.tier.clone().filter(|_| event.what == What::Tier),
        created_at: event.at,
        modified_at: event.at,
        current_version: event.version.clone(),
        ..BlobEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event's kind, its version, and the one that it says was current before.
    type Told = (What, &'static str, &'static str);

    /// An event of one blob: its number, what it is, its version, and the one that it says was current before.
    fn event(number: i64, what: What, version: &str, last_version: &str) -> Event {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            container: "c".into(),
            name: "a".into(),
            what,
            at: Timestamp(number),
            sequence: format!("{number:03}"),
            id: number.to_string(),
            version: some(version),
            last_version: some(last_version),
            etag: String::new(),
            size_bytes: None,
            content_type: None,
            kind: None,
            tier: None,
            tags: None,
            headers: Vec::new(),
        }
    }

    fn about(events: &[Told]) -> Vec<About> {
        let events: Vec<Event> =
            events.iter().zip(1..).map(|((what, version, last), number)| event(number, *what, version, last)).collect();
        what_about(&events)
    }

    #[test]
    fn events_of_earlier_versions_are_known_by_those_around() {
        use About::{Current, Earlier, Unknown};
        use What::{Changed, Created, Deleted, Tier};
        let cases: [(&[Told], &[About]); 8] = [
            (&[(Created, "1", ""), (Tier, "1", ""), (Created, "2", "1")], &[Current, Current, Current]),
            (&[(Created, "2", "1"), (Tier, "1", ""), (Deleted, "1", "")], &[Current, Earlier, Earlier]),
            (&[(Deleted, "2", "2"), (Deleted, "1", ""), (Tier, "1", "")], &[Current, Earlier, Earlier]),
            // Only an event behind it tells.
            (&[(Tier, "1", ""), (Created, "2", "1")], &[Current, Current]),
            (&[(Tier, "1", ""), (Created, "3", "2")], &[Earlier, Current]),
            (&[(Deleted, "1", ""), (Deleted, "2", "2")], &[Earlier, Current]),
            // Nothing tells.
            (&[(Deleted, "1", ""), (Tier, "2", "")], &[Unknown, Unknown]),
            // A greater id is that of a new version, though the event does not say so; metadata that were set, say.
            (&[(Created, "1", ""), (Changed, "2", ""), (Tier, "1", "")], &[Current, Current, Earlier]),
        ];
        for (events, expected) in cases {
            assert_eq!(about(events), expected, "{events:?}");
        }
    }

    #[test]
    fn what_the_page_leaves_open_is_known_by_the_versions_that_are_kept() {
        let version = |micros: &str| format!("2026-11-23T07:00:00.{micros}0Z");
        let base = instant_of(&version("000000")).unwrap().0;
        // Versions that are kept, each with when its blob was made.
        let settled = |what: What, at: i64, kept: &[(&str, i64)]| {
            let mut found = Found::default();
            let kept = kept.iter().map(|(micros, blob)| Kept {
                id: Some(version(micros)),
                modified_at: Timestamp::default(),
                blob_created_at: Timestamp(base + blob),
            });
            found.kept.insert(("c".to_owned(), "a".to_owned()), kept.collect());
            found.settle(&event(base + at, what, &version("000005"), ""), About::Unknown)
        };
        assert_eq!(settled(What::Deleted, 9, &[("000003", 3), ("000007", 3)]), About::Earlier);
        assert_eq!(settled(What::Deleted, 9, &[("000003", 3)]), About::Current);
        assert_eq!(settled(What::Deleted, 9, &[]), About::Current);
        for what in [What::Tier, What::Changed] {
            assert_eq!(settled(what, 9, &[("000005", 3), ("000007", 3)]), About::Earlier);
            assert_eq!(
                settled(what, 9, &[("000005", 3), ("000020", 3)]),
                About::Current,
                "written over after the event"
            );
            assert_eq!(settled(what, 9, &[("000005", 3), ("000020", 20)]), About::Earlier, "deleted, and made anew");
            assert_eq!(settled(what, 9, &[("000003", 3), ("000005", 3)]), About::Earlier, "deleted, before or after");
            assert_eq!(settled(what, 9, &[]), About::Earlier, "nothing is left");
        }
    }

    #[test]
    fn events_of_a_blob_are_put_in_order_and_come_once() {
        let named = |name: &str, number: i64| Event { name: name.into(), ..event(number, What::Created, "1", "") };
        let events = vec![named("a", 2), named("b", 9), named("a", 1), named("a", 2), named("b", 3)];
        let order: Vec<(String, Timestamp)> =
            in_order(events).into_iter().map(|event| (event.name, event.at)).collect();
        let expected = [("a", 1), ("b", 3), ("a", 2), ("b", 9)].map(|(name, at)| (name.to_owned(), Timestamp(at)));
        assert_eq!(order, expected);
    }
}
