//! What the misbehaving store does, rule by rule: tests of the engine stand on it.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use blobkeep_testkit::fault::{Fault, FaultStore, Op, Rule};
use blobkeep_testkit::suites;
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::{Put, Store, StoreErrorKind};
use bytes::Bytes;

const TEN: Bytes = Bytes::from_static(b"0123456789");

fn store() -> (Arc<MemoryStore>, Arc<FaultStore>) {
    let inner = Arc::new(MemoryStore::default());
    (inner.clone(), Arc::new(FaultStore::new(inner)))
}

async fn kind_of_put(store: &FaultStore, name: &str) -> Result<Put, StoreErrorKind> {
    store.put_if_absent(name, TEN).await.map_err(|error| error.kind)
}

#[tokio::test]
async fn without_rules_and_with_held_writes_it_is_a_store_like_any_other() {
    suites::store(store().1).await;
    let (inner, holding) = store();
    holding.add(Rule::new(Fault::Held));
    suites::store(holding).await;
    assert_eq!(inner.files(), []);
}

#[tokio::test]
async fn a_rule_hits_its_calls_and_names_and_numbers_only() {
    let (_, store) = store();
    store.add(Rule::new(Fault::Before(StoreErrorKind::Other)).on(Op::Put).named("packs/").after(1).times(2));
    let mut outcomes = Vec::new();
    for name in ["packs/a", "points/a", "packs/b", "packs/c", "packs/d"] {
        outcomes.push(kind_of_put(&store, name).await.is_ok());
    }
    assert_eq!(outcomes, [true, true, false, false, true]);
    assert_eq!(store.get("packs/a").await.unwrap(), TEN);
    assert_eq!(store.take_calls().len(), 6);
    assert_eq!(store.take_calls(), []);
}

#[tokio::test]
async fn a_call_fails_before_or_after_the_deed() {
    let (inner, store) = store();
    store.add(Rule::new(Fault::Before(StoreErrorKind::Unavailable)).named("a"));
    store.add(Rule::new(Fault::After(StoreErrorKind::Unavailable)).named("b").on(Op::Put).on(Op::Delete).times(2));
    assert_eq!(kind_of_put(&store, "a").await, Err(StoreErrorKind::Unavailable));
    assert_eq!(store.get("a").await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(kind_of_put(&store, "b").await, Err(StoreErrorKind::Unavailable));
    assert_eq!(inner.files(), [("b".to_owned(), TEN)]);
    assert!(store.delete("b").await.is_err());
    assert_eq!(inner.files(), []);
    store.heal();
    assert_eq!(kind_of_put(&store, "a").await, Ok(Put::Stored));
}

#[tokio::test]
async fn a_torn_write_leaves_a_part_under_the_name_and_a_lost_one_nothing() {
    let (inner, store) = store();
    store.add(Rule::new(Fault::Torn(300)).named("torn").on(Op::Put).times(1));
    store.add(Rule::new(Fault::Lost).named("lost"));
    assert!(store.put_if_absent("torn", TEN).await.is_err());
    assert_eq!(inner.get("torn").await.unwrap(), "012");
    assert_eq!(kind_of_put(&store, "torn").await, Ok(Put::Exists));
    assert_eq!(kind_of_put(&store, "lost").await, Ok(Put::Stored));
    assert_eq!(store.get("lost").await.unwrap_err().kind, StoreErrorKind::NotFound);
    inner.replace("lost", TEN);
    store.delete("lost").await.unwrap();
    assert_eq!(inner.get("lost").await.unwrap(), TEN);
}

#[tokio::test]
async fn held_writes_are_seen_and_land_in_any_order_or_are_lost_by_a_crash() {
    let (inner, store) = store();
    store.add(Rule::new(Fault::Held).on(Op::Put));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(kind_of_put(&store, name).await, Ok(Put::Stored));
        assert_eq!(kind_of_put(&store, name).await, Ok(Put::Exists));
    }
    assert_eq!(store.list("", Some("a")).await.unwrap().len(), 3);
    assert_eq!(store.get_range("c", 2..4).await.unwrap(), "23");
    assert!(store.get_range("c", 2..14).await.is_err());
    assert_eq!(store.land(|name| name == "c").await.unwrap(), 1);
    assert_eq!(inner.files(), [("c".to_owned(), TEN)]);
    assert_eq!(store.held(), ["a", "b", "d"]);
    store.crash(2).await.unwrap();
    let names: Vec<String> = inner.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!((names, store.held()), (vec!["a".to_owned(), "c".to_owned()], vec![]));
}

#[tokio::test]
async fn a_full_store_takes_nothing_and_a_read_only_one_loses_nothing_either() {
    let (inner, store) = store();
    inner.replace("there", TEN);
    store.add(Rule::full());
    assert_eq!(kind_of_put(&store, "a").await, Err(StoreErrorKind::Full));
    store.delete("there").await.unwrap();
    inner.replace("there", TEN);
    store.heal();
    store.add(Rule::read_only());
    assert_eq!(kind_of_put(&store, "a").await, Err(StoreErrorKind::Denied));
    assert_eq!(store.delete("there").await.unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(store.get("there").await.unwrap(), TEN);
}

#[tokio::test]
async fn chance_is_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let (_, store) = store();
        store.add(Rule::new(Fault::Before(StoreErrorKind::Other)).by_chance(300, seed));
        let mut run = Vec::new();
        for number in 0..200 {
            run.push(kind_of_put(&store, &format!("{number}")).await.is_err());
        }
        let hits = run.iter().filter(|hit| **hit).count();
        assert!((30..100).contains(&hits), "{hits} of 200");
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn a_slow_call_is_done_when_its_time_has_passed() {
    let (_, store) = store();
    store.add(Rule::new(Fault::Slow(Duration::from_millis(5))).named("slow"));
    let mut call = std::pin::pin!(store.put_if_absent("slow", TEN));
    assert!(matches!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    assert_eq!(call.await.unwrap(), Put::Stored);
}

#[tokio::test]
async fn a_gate_holds_a_call_until_it_is_opened() {
    let (inner, store) = store();
    let gate = store.gate(Op::Put, "state/");
    assert_eq!(kind_of_put(&store, "points/a").await, Ok(Put::Stored));
    let (waiting, put) = (store.clone(), Bytes::from_static(b"x"));
    let task = tokio::spawn(async move { waiting.put_if_absent("state/a", put).await });
    gate.reached().await;
    assert_eq!(inner.files().len(), 1);
    gate.open();
    assert_eq!(task.await.unwrap().unwrap(), Put::Stored);
    assert_eq!(kind_of_put(&store, "state/b").await, Ok(Put::Stored));
}
