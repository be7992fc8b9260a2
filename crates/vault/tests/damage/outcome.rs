//! What verify, restore, rebuild and backup do about a damaged vault, and what must hold whatever they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blobkeep_vault::Unwatched;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::item::EntryKey;
use blobkeep_vault::prune::{self, PruneOptions};
use blobkeep_vault::rebuild::{RebuildOptions, rebuild};
use blobkeep_vault::verify::{self, Loss, LossScope, VerifyOptions, VerifyReport};

use crate::common::{Contents, World};
use crate::sample::{Files, Kind, NEWEST, Sample, account};

/// What is asked of a damaged vault. A new way to touch a vault becomes one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Verify,
    Restore,
    /// A restore after the index was made anew.
    Rebuild,
    /// A backup that knows nothing of the damage.
    Backup,
    /// A backup after a verification that was remembered.
    Mend,
    /// A prune that rewrites whatever it can.
    Prune,
}

pub const ACTIONS: [Action; 6] =
    [Action::Verify, Action::Restore, Action::Rebuild, Action::Backup, Action::Mend, Action::Prune];

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The vault does not open, or the work stops, and says why.
    Refused,
    /// Verify: nothing is said, because nothing is lost.
    Silent,
    /// Verify: a note.
    Noted,
    /// Verify: the file is named; every blob can be restored.
    Named,
    /// Verify: the file is named, and so is every blob that is lost.
    Lost,
    /// Restore, backup, prune: exactly the right bytes, in every point or in the new ones.
    Whole,
    /// Restore, backup: some blobs fail, and no wrong byte is written.
    Part,
}

/// Blobs that cannot be restored, by point.
type LostBlobs = BTreeMap<(String, String), BTreeSet<(String, String)>>;

/// What each action does about these files. Panics where something happens that must never happen.
pub async fn of(sample: &Sample, files: &Files, kind: Kind) -> Vec<(Action, Outcome)> {
    if let Err(error) = sample.world(files).open().await {
        assert!(error.to_string().contains("vault"), "{kind:?}: {error}");
        return ACTIONS.map(|action| (action, Outcome::Refused)).to_vec();
    }
    let lost = lost_blobs(&sample.world(files), &sample.points, kind).await;
    let mut outcomes = Vec::new();
    for action in ACTIONS {
        let world = sample.world(files);
        let outcome = match action {
            Action::Verify => verified(sample, &world, kind, &lost).await,
            Action::Restore if lost.is_empty() => Outcome::Whole,
            Action::Restore => Outcome::Part,
            Action::Rebuild => rebuilt(sample, &world, kind, &lost).await,
            Action::Backup => backed_up(sample, &world, kind, &lost).await,
            Action::Mend => {
                verify(sample, &world).await;
                backed_up(sample, &world, kind, &lost).await
            }
            Action::Prune => pruned(sample, &world, kind, &lost).await,
        };
        outcomes.push((action, outcome));
    }
    outcomes
}

/// Restores every point as a whole; where that fails, which blobs of it are lost.
async fn lost_blobs(world: &World, points: &BTreeMap<(String, String), Contents>, kind: Kind) -> LostBlobs {
    let mut lost = LostBlobs::new();
    for ((instance, job), content) in points {
        let (restored, outcome) = world.restore(instance, job).await;
        for (key, bytes) in &restored {
            assert!(content.get(key) == Some(bytes), "{kind:?}: {key:?} of {job} was restored with other bytes");
        }
        let Err(error) = outcome else {
            assert_eq!(restored.len(), content.len(), "{kind:?}: a restore of {job} said that it was whole");
            continue;
        };
        let text = error.to_string();
        let names_it = if kind == Kind::ContentPack { text.contains("needed by") } else { text.contains(' ') };
        assert!(names_it, "{kind:?}: {text}");
        let of_point = world.lost_of(instance, job, content).await;
        assert!(!of_point.is_empty(), "{kind:?}: {job} fails as a whole and no blob of it is lost: {text}");
        lost.insert((instance.clone(), job.clone()), of_point);
    }
    lost
}

async fn verified(sample: &Sample, world: &World, kind: Kind, lost: &LostBlobs) -> Outcome {
    let report = verify(sample, world).await;
    let named = named(&report, &sample.points);
    if named != *lost {
        let losses: Vec<String> = report.losses.iter().map(ToString::to_string).collect();
        panic!(
            "{kind:?}: verify must name what cannot be restored: {}; {}",
            differences(&named, lost),
            losses.join("\n")
        );
    }
    // A chain is read up to its first damaged record.
    let name = match sample.file_of(kind) {
        name if name.starts_with("state/a/") => "state/a/".to_owned(),
        name => name,
    };
    let texts = report.damage.iter().chain(&report.notes);
    let is_named = texts.clone().any(|text| text.contains(name.trim_end_matches(".copy")));
    // A run that has gone leaves no name, and of a chain only its missing end is known.
    let is_told = texts.clone().any(|text| text.contains("no run names") || text.contains(": the chain ends at"))
        || report.losses.iter().any(|loss| loss.reason.contains("no run names"));
    if report.is_sound() {
        return if report.notes.is_empty() { Outcome::Silent } else { Outcome::Noted };
    }
    assert!(is_named || is_told, "{kind:?}: {name} is not named: {:?} {:?}", report.damage, report.notes);
    if report.harmed_points == 0 { Outcome::Named } else { Outcome::Lost }
}

fn differences(named: &LostBlobs, lost: &LostBlobs) -> String {
    let flat = |blobs: &LostBlobs| -> BTreeSet<(String, (String, String))> {
        blobs.iter().flat_map(|((_, job), names)| names.iter().map(|name| (job.clone(), name.clone()))).collect()
    };
    let (named, lost) = (flat(named), flat(lost));
    let unnamed: Vec<_> = lost.difference(&named).collect();
    let unlost: Vec<_> = named.difference(&lost).collect();
    format!("not named: {unnamed:?}, not lost: {unlost:?}")
}

async fn verify(sample: &Sample, world: &World) -> VerifyReport {
    let options = VerifyOptions { seen: sample.seen.clone(), ..VerifyOptions::default() };
    verify::run_recorded(&world.vault().await, &options, &world.clock, &Unwatched).await.unwrap()
}

/// The blobs that a report says are lost.
fn named(report: &VerifyReport, points: &BTreeMap<(String, String), Contents>) -> LostBlobs {
    let mut named = LostBlobs::new();
    for loss in &report.losses {
        let point = (loss.instance.clone(), loss.point.clone());
        let Some(content) = points.get(&point) else { panic!("{loss} is no point of the sample") };
        let lost = content.keys().filter(|(container, name)| concerns(loss, container, name)).cloned();
        named.entry(point).or_default().extend(lost);
    }
    named
}

fn concerns(loss: &Loss, container: &str, name: &str) -> bool {
    let key = EntryKey { container, name, is_current: true, version: "" };
    match &loss.scope {
        LossScope::Point { .. } => true,
        LossScope::Blob { container: lost_in, name: lost, .. } => lost_in == container && lost == name,
        LossScope::Between { after, up_to, .. } => {
            after.as_ref().is_none_or(|after| after.as_key() < key) && key <= up_to.as_key()
        }
        // Its own row asks for these.
        LossScope::Changes { .. } => false,
    }
}

/// Makes the index anew, which must cost nothing.
async fn rebuilt(sample: &Sample, world: &World, kind: Kind, before: &LostBlobs) -> Outcome {
    rebuild(&world.vault().await, RebuildOptions::default(), &Unwatched).await.unwrap();
    let after = lost_blobs(world, &sample.points, kind).await;
    assert_no_worse(&after, before, kind);
    if after.is_empty() { Outcome::Whole } else { Outcome::Part }
}

fn assert_no_worse(after: &LostBlobs, before: &LostBlobs, kind: Kind) {
    for (point, lost) in after {
        let was_lost = before.get(point).is_some_and(|before| lost.is_subset(before));
        assert!(was_lost, "{kind:?}: blobs of {point:?} are lost that were whole before");
    }
}

/// Frees space, which must cost nothing, whether it is done or refused.
async fn pruned(sample: &Sample, world: &World, kind: Kind, before: &LostBlobs) -> Outcome {
    let options = PruneOptions { max_unused_percent: 0, patience: Duration::ZERO, ..PruneOptions::new("prune") };
    let outcome = prune::run(&world.vault().await, &options, &world.clock, &Unwatched).await;
    let after = lost_blobs(world, &sample.points, kind).await;
    assert_no_worse(&after, before, kind);
    match outcome {
        Err(_) => Outcome::Refused,
        Ok(_) if after.is_empty() => Outcome::Whole,
        Ok(_) => Outcome::Part,
    }
}

/// Backs up both instances, and looks at the new points. What could be restored before must be restorable after, whatever came of it.
async fn backed_up(sample: &Sample, world: &World, kind: Kind, before: &LostBlobs) -> Outcome {
    let mut new = BTreeMap::new();
    let mut outcome = Outcome::Whole;
    for instance in ["a", "b"] {
        let account = account(instance, NEWEST + 1);
        let options = BackupOptions::new(instance, "day-4");
        let vault = world.vault().await;
        match backup::run(&vault, Arc::new(account.clone()), &options, &world.clock, &Unwatched).await {
            Ok(_) => drop(new.insert((instance.to_owned(), "day-4".to_owned()), account.contents())),
            Err(_) => outcome = Outcome::Refused,
        }
    }
    if !lost_blobs(world, &new, kind).await.is_empty() {
        outcome = Outcome::Part;
    }
    assert_no_worse(&lost_blobs(world, &sample.points, kind).await, before, kind);
    outcome
}
