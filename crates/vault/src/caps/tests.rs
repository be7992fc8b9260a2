use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::item::{BlobEntry, ContainerEntry, Timestamp};
use crate::source::{BlobChange, ChangePage, FeedPosition, ListPage, Source, SourceError};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::target::{BlobWriter, OnConflict, Target, Written};

/// A wall clock that goes with the runtime's time, which is paused in these tests.
struct RuntimeClock {
    start: Instant,
    start_seconds: i64,
}

impl RuntimeClock {
    /// At the start it is so many hours and minutes of a day in UTC.
    fn at(hours: i64, minutes: i64) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), start_seconds: 86_400 * 20_000 + hours * 3600 + minutes * 60 })
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.start_seconds * 1_000_000 + self.start.elapsed().as_micros() as i64)
    }
}

fn caps(text: &str) -> Arc<Caps> {
    Caps::new(text.parse().unwrap(), RuntimeClock::at(12, 0))
}

async fn seconds(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs_f64()
}

fn is_about(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 0.02 + expected * 0.01
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_at_their_rate_however_many_ask_at_once() {
    let caps = caps("1MiB/s");
    let took = seconds(async { drop(join_all((0..100).map(|_| caps.pass(256 << 10))).await) }).await;
    assert!(is_about(took, 99.0 * 0.25), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn requests_pass_at_their_rate_and_the_slower_of_both_rates_counts() {
    let slow_requests = caps("1GiB/s,10req/s");
    let took = seconds(async { drop(join_all((0..101).map(|_| slow_requests.pass(1000))).await) }).await;
    assert!(is_about(took, 10.0), "{took} s");
    let slow_bytes = caps("1kB/s,10req/s");
    let took = seconds(async { drop(join_all((0..11).map(|_| slow_bytes.pass(1000))).await) }).await;
    assert!(is_about(took, 10.0), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let caps = caps("else unlimited");
    assert!(seconds(async { drop(join_all((0..1000).map(|_| caps.pass(1 << 30))).await) }).await < 0.001);
}

#[tokio::test(start_paused = true)]
async fn a_request_larger_than_a_second_passes_and_the_next_one_waits_for_it() {
    let caps = caps("1MiB/s");
    assert!(seconds(caps.pass(8 << 20)).await < 0.001);
    let took = seconds(caps.pass(1)).await;
    assert!(is_about(took, 8.0), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn idle_time_saves_up_one_second_and_no_more() {
    let caps = caps("10req/s");
    caps.pass(0).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let took = seconds(async { drop(join_all((0..31).map(|_| caps.pass(0))).await) }).await;
    assert!(is_about(took, 2.0), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_at_the_new_rate_when_a_window_ends() {
    let caps = Caps::new("08:00-18:00=1kB/s; else unlimited".parse().unwrap(), RuntimeClock::at(17, 59));
    caps.pass(1_000_000).await;
    let took = seconds(caps.pass(1_000_000)).await;
    assert!(is_about(took, 60.0), "{took} s, and not a quarter of an hour");
    assert!(seconds(caps.pass(1_000_000_000)).await < 0.001);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_the_turn_to_the_next() {
    let caps = caps("1kB/s");
    caps.pass(5_000).await;
    let given_up = tokio::time::timeout(Duration::from_secs(1), caps.pass(1_000_000)).await;
    assert!(given_up.is_err());
    let took = seconds(caps.pass(1)).await;
    assert!(is_about(took, 4.0), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_store_behind_caps_does_the_same_slower() {
    let plain: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = CappedStore::new(plain.clone(), caps("1kB/s"));
    let took = seconds(async {
        store.put_if_absent("packs/aa/one", Bytes::from(vec![7; 5_000])).await.unwrap();
        assert_eq!(store.get("packs/aa/one").await.unwrap().len(), 5_000);
        assert_eq!(store.get_range("packs/aa/one", 10..20).await.unwrap().len(), 10);
        assert_eq!(store.size("packs/aa/one").await.unwrap(), 5_000);
        assert_eq!(store.list("packs/", None).await.unwrap().len(), 1);
        store.delete("packs/aa/one").await.unwrap();
    })
    .await;
    assert!(is_about(took, 10.0), "{took} s: what a get brought is paid for by the range after it");
    assert!(plain.list("", None).await.unwrap().is_empty());
}

/// An account that answers the calls of continuous backup, and nothing else.
struct Versioned;

fn feed_position(cursor: &str) -> FeedPosition {
    FeedPosition { cursor: cursor.to_owned(), complete_until: Timestamp(1) }
}

#[async_trait]
impl Source for Versioned {
    fn describe(&self) -> String {
        "versioned".to_owned()
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        unreachable!()
    }

    async fn list(&self, _: &str, _: &str, _: Option<&str>) -> Result<ListPage, SourceError> {
        unreachable!()
    }

    async fn read(&self, _: &BlobEntry, _: std::ops::Range<u64>) -> Result<Bytes, SourceError> {
        unreachable!()
    }

    async fn entry(&self, _: &str, _: &str) -> Result<Option<BlobEntry>, SourceError> {
        unreachable!()
    }

    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        Ok(Some(feed_position("0")))
    }

    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        let change = |number: usize| BlobChange {
            container: "c".to_owned(),
            name: cursor.to_owned(),
            at: Timestamp(number as i64),
            sequence: number.to_string(),
            entry: Some(BlobEntry::default()),
        };
        Ok(ChangePage { changes: (0..50).map(change).collect(), next: feed_position("1"), is_last: true })
    }

    async fn list_versions(&self, container: &str, _: Option<&str>) -> Result<ListPage, SourceError> {
        Ok(ListPage { next: Some(container.to_owned()), ..ListPage::default() })
    }
}

#[async_trait]
impl Target for Versioned {
    fn describe(&self) -> String {
        "versioned".to_owned()
    }

    async fn container(&self, _: &str) -> Result<Option<ContainerEntry>, SourceError> {
        unreachable!()
    }

    async fn create_container(&self, _: &ContainerEntry) -> Result<bool, SourceError> {
        unreachable!()
    }

    fn accepts(&self, _: &BlobEntry) -> Result<(), String> {
        unreachable!()
    }

    fn whole_limit_bytes(&self) -> u64 {
        unreachable!()
    }

    async fn write_whole(&self, _: &BlobEntry, _: Bytes, _: OnConflict) -> Result<Written, SourceError> {
        unreachable!()
    }

    async fn delete(&self, _: &BlobEntry) -> Result<bool, SourceError> {
        unreachable!()
    }

    async fn copy_version(&self, _: &BlobEntry, version: &str, _: Option<&BlobEntry>) -> Result<Written, SourceError> {
        Ok(Written::Skipped(version.to_owned()))
    }

    async fn begin(&self, _: &BlobEntry, _: OnConflict) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError> {
        unreachable!()
    }
}

#[tokio::test(start_paused = true)]
async fn feeds_versions_and_copies_pass_through_caps_and_count() {
    let source = CappedSource::new(Arc::new(Versioned), caps("10req/s"));
    let took = seconds(async {
        assert_eq!(source.feed().await.unwrap(), Some(feed_position("0")));
        assert_eq!(source.changes("0").await.unwrap().changes.len(), 50);
        assert_eq!(source.list_versions("c", None).await.unwrap().next.as_deref(), Some("c"));
    })
    .await;
    assert!(is_about(took, 5.2), "{took} s: a change costs a request");
    let target = CappedTarget::new(Arc::new(Versioned), caps("10req/s"));
    let took = seconds(async {
        for version in ["1", "2", "3"] {
            let done = target.copy_version(&BlobEntry::default(), version, None).await.unwrap();
            assert_eq!(done, Written::Skipped(version.to_owned()));
        }
    })
    .await;
    assert!(is_about(took, 0.2), "{took} s");
}
