//! The damage matrix: every kind of damage × every kind of file × everything that is done with a vault. What must come of each cell is
//! written down in `expected`; whatever comes of it, no wrong byte is restored, verify names exactly what is lost, and a backup makes nothing worse.

#![allow(unreachable_pub, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod expected;
mod harm;
mod journal;
mod outcome;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;

use blobkeep_vault::MasterKey;
use harm::{Arsenal, HARMS, Harm, damaged};
use outcome::{ACTIONS, Action, Outcome};
use sample::{KINDS, Kind, Sample, leftovers};

type Cells = BTreeMap<(Kind, Harm, Action), Outcome>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damage_to_every_file_has_the_outcome_that_is_written_down() {
    let master = MasterKey::generate().unwrap();
    let sample = Arc::new(Sample::make(master.clone()).await);
    let leftovers = leftovers(&sample.world(&sample.files)).await;
    let arsenal = Arc::new(Arsenal { other: Sample::make(master).await, leftovers });
    let tasks = KINDS.map(|kind| tokio::spawn(row(sample.clone(), arsenal.clone(), kind)));
    let mut found = Cells::new();
    let mut panicked = false;
    for task in tasks {
        // Every row is seen before one that panicked ends the test.
        match task.await {
            Ok(cells) => found.extend(cells),
            Err(_) => panicked = true,
        }
    }
    println!("{}", table(&found));
    assert!(!panicked, "a row did what must never happen");
    let mut wrong = Vec::new();
    for ((kind, harm, action), outcome) in &found {
        let expected = expected::of(*kind, *harm, *action);
        let is_better = expected == Outcome::Part && *outcome == Outcome::Whole && *action == Action::Backup;
        if expected != *outcome && !is_better {
            wrong.push(format!("{kind:?}, {harm:?}, {action:?}: {outcome:?} where {expected:?} is right"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), found.len(), wrong.join("\n"));
}

async fn row(sample: Arc<Sample>, arsenal: Arc<Arsenal>, kind: Kind) -> Cells {
    if kind == Kind::JournalSegment {
        return journal::row(sample.master.clone()).await;
    }
    let mut cells = Cells::new();
    for harm in HARMS {
        let Some(files) = damaged(&sample, &arsenal, kind, harm) else { continue };
        for (action, outcome) in outcome::of(&sample, &files, kind).await {
            cells.insert((kind, harm, action), outcome);
        }
    }
    cells
}

/// One line for each kind and each set of outcomes, as documentation shows it.
fn table(cells: &Cells) -> String {
    let mut lines = vec![
        "| file | damage | verify | restore | after rebuild-index | backup | verify, then backup | prune |\n|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for kind in KINDS {
        let mut groups: Vec<(Vec<Outcome>, Vec<String>)> = Vec::new();
        for harm in HARMS {
            let outcomes: Vec<Outcome> =
                ACTIONS.iter().filter_map(|action| cells.get(&(kind, harm, *action)).copied()).collect();
            if outcomes.is_empty() {
                continue;
            }
            match groups.iter_mut().find(|(known, _)| *known == outcomes) {
                Some((_, harms)) => harms.push(format!("{harm:?}")),
                None => groups.push((outcomes, vec![format!("{harm:?}")])),
            }
        }
        for (outcomes, harms) in groups {
            let outcomes: Vec<String> = outcomes.iter().map(|outcome| format!("{outcome:?}")).collect();
            lines.push(format!("| {kind:?} | {} | {} |", harms.join(", "), outcomes.join(" | ")));
        }
    }
    lines.join("\n")
}
