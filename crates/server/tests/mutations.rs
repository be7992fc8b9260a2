//! Thousands of requests that were changed at random, on a running service: whatever comes in, the answer has the service's own form, nothing
//! panics, and the database stays whole.
//!
//! `BLOBKEEP_REQUESTS` says how many (3,000 if it is not set), `BLOBKEEP_SEED` which ones: the seed of a run is printed, and a failed run is
//! repeated with it. The queue of jobs is held, so that only the front door, the handlers and the database work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "mutations/corpus.rs"]
mod corpus;
#[path = "mutations/mutate.rs"]
mod mutate;
#[path = "mutations/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};

use blobkeep_arm::ErrorCode;
use blobkeep_server::db::query;
use common::Service;
use common::database::hold_the_queue;
use corpus::{Corpus, Draft};
use mutate::Rng;
use serde_json::Value;
use wire::{Reply, Wire};

/// Requests of a run that says nothing else.
const REQUESTS: usize = 3_000;
/// After so many requests what they work on is made again.
const ROUND: usize = 150;
/// A run with so many faults goes no further.
const FAULTS: usize = 10;
/// Every so often two requests are sent at once.
const PAIR: usize = 10;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text}")))
}

/// What every answer carries (the how-to's headers), whatever it says.
const FIXED_HEADERS: &[(&str, &str)] = &[
    ("cache-control", "no-cache"),
    ("pragma", "no-cache"),
    ("expires", "-1"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
];

/// What is wrong with an answer.
fn fault(draft: &Draft, reply: &Reply) -> Option<String> {
    if PANICS.load(Ordering::SeqCst) > 0 {
        return Some("something panicked".to_owned());
    }
    let path = draft.path.to_ascii_lowercase();
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    if !reply.body.is_empty() && body.is_none() {
        return Some("the body is no JSON".to_owned());
    }
    for (name, value) in FIXED_HEADERS {
        if reply.header(name) != *value {
            return Some(format!("the header {name} is '{}'", reply.header(name)));
        }
    }
    if uuid::Uuid::parse_str(reply.header("x-ms-correlation-request-id")).is_err() {
        return Some("there is no correlation id".to_owned());
    }
    if reply.status < 400 || draft.method == "HEAD" {
        return None;
    }
    // The token service and the directory have error forms of their own.
    let has_own_form = ["/oauth2/", "/.well-known/", "/discovery/", "/v1.0/"].iter().any(|part| path.contains(part));
    if has_own_form {
        return (reply.status >= 500).then(|| "a fault of the service".to_owned());
    }
    let error = &body.unwrap_or_default()["error"];
    let code = error["code"].as_str().unwrap_or_default();
    if reply.status >= 500 {
        return Some("a fault of the service".to_owned());
    }
    if !ErrorCode::ALL.iter().any(|known| known.rule().name == code) {
        return Some(format!("the code '{code}' is not in the table"));
    }
    error["message"].as_str().is_none_or(str::is_empty).then(|| "the error has no message".to_owned())
}

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    /// Answers below 400.
    good: usize,
    /// The others.
    refused: usize,
    /// What was wrong, each with its request and answer.
    faults: Vec<String>,
}

impl Outcome {
    /// Sends `drafts`, all at once, and looks at the answers.
    fn send(&mut self, wires: &mut [Wire], drafts: &[Draft]) {
        let replies: Vec<Result<Reply, String>> = std::thread::scope(|scope| {
            let running: Vec<_> =
                wires.iter_mut().zip(drafts).map(|(wire, draft)| scope.spawn(move || wire.send(draft))).collect();
            let ended = running.into_iter().map(|each| each.join());
            ended.map(|reply| reply.unwrap_or_else(|_| Err("the client panicked".to_owned()))).collect()
        });
        let number = self.good + self.refused;
        for (draft, reply) in drafts.iter().zip(replies) {
            let found = match &reply {
                Ok(reply) => fault(draft, reply).map(|fault| format!("{fault}\n{draft}\nanswer: {reply}")),
                // Who is refused before a large body is read finds the connection closed while it still writes, and may lose the answer.
                Err(reason) if reason.starts_with("closed") && draft.is_large() => None,
                Err(reason) => Some(format!("no answer: {reason}\n{draft}")),
            };
            self.faults.extend(found.map(|found| format!("request {number}: {found}")));
            if reply.is_ok_and(|reply| reply.status < 400) {
                self.good += 1;
            } else {
                self.refused += 1;
            }
        }
    }
}

/// The whole run; ends early where much is wrong.
fn run(corpus: &Corpus, mut wires: [Wire; 2], seed: u64, count: usize) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome::default();
    let mut until_repair = 0;
    while outcome.good + outcome.refused < count && outcome.faults.len() < FAULTS {
        if until_repair == 0 {
            corpus.repairs().iter().for_each(|draft| outcome.send(&mut wires[..1], std::slice::from_ref(draft)));
            until_repair = ROUND;
        }
        until_repair -= 1;
        let base = rng.pick(corpus.all()).clone();
        let mut drafts = vec![mutate::mutated(&mut rng, &base, corpus)];
        if rng.below(PAIR) == 0 {
            // Now and then the very same thing.
            let other = if rng.below(2) == 0 { drafts[0].clone() } else { mutate::mutated(&mut rng, &base, corpus) };
            drafts.push(other);
        }
        outcome.send(&mut wires, &drafts);
    }
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_in_the_answer_has_the_services_form_and_nothing_breaks() {
    let seed = number("BLOBKEEP_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let count = number("BLOBKEEP_REQUESTS").map_or(REQUESTS, |count| usize::try_from(count).unwrap());
    println!("BLOBKEEP_SEED={seed} BLOBKEEP_REQUESTS={count}");
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        eprintln!("{info}");
    }));
    let service = Service::start().await;
    let app = service.running.app();
    hold_the_queue(&app.db).await;
    let (principal, _) = service.principal("somebody").await;
    let corpus = Corpus::new(&service, &principal);
    let wires = [Wire::new(&service), Wire::new(&service)];
    let outcome = tokio::task::spawn_blocking(move || run(&corpus, wires, seed, count)).await.unwrap();
    assert!(outcome.faults.is_empty(), "BLOBKEEP_SEED={seed}\n{}", outcome.faults.join("\n\n"));
    let (good, refused) = (outcome.good, outcome.refused);
    println!("{good} answers were successes, {refused} refusals");
    assert!(good * 20 > count, "hardly anything went through: {good} of {count}");
    assert!(refused * 4 > count, "hardly anything was refused: {refused} of {count}");

    service.raw("", "GET", "/healthz", None).await.expect(200);
    let mut reader = app.db.read().await.unwrap();
    // PostgreSQL has no such questions; it never let rows name what is not there.
    if !app.db.is_shared() {
        let check = query("PRAGMA integrity_check").fetch_one(&mut reader).await.unwrap();
        assert_eq!(check.try_get::<String>("integrity_check").unwrap(), "ok");
        let broken = query("PRAGMA foreign_key_check").fetch_all(&mut reader).await.unwrap();
        assert!(broken.is_empty(), "{} rows name what is not there", broken.len());
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
