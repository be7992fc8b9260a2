//! What a restore takes, and in which order, told on an account in memory.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use blobkeep_testkit::account::{Call, MemoryAccount};
use blobkeep_testkit::clock::ManualClock;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::manifest::OwnedKey;
use blobkeep_vault::names::{Pattern, ScopedPattern};
use blobkeep_vault::point::Point;
use blobkeep_vault::restore::{
    self, ContainerSelection, Journal, NoJournal, RestoreOptions, RestoreState, SelectedItems, Selection,
};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::{Error, MasterKey, Timestamp, Unwatched, Vault};

type Name = (String, String);

/// A vault with one point of 3,000 blobs in three containers.
struct World {
    vault: Vault,
    point: Point,
    names: Vec<Name>,
}

impl World {
    async fn new() -> Self {
        let account = MemoryAccount::new();
        for number in 0..3_000 {
            let container = ["a", "b", "c"][number % 3];
            account.put(container, &format!("{}/{number:04}.{}", number % 7, ["txt", "db"][number % 2]), "content");
        }
        let store = Arc::new(MemoryStore::default());
        let master = MasterKey::generate().unwrap();
        Vault::init(store.clone(), &master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
        let vault = Vault::open(store.clone(), &master).await.unwrap();
        let clock = ManualClock::at_seconds(1_800_000_000);
        let options = BackupOptions::new("inst", "job");
        let names = account.contents().into_keys().collect();
        let point = backup::run(&vault, Arc::new(account), &options, &clock, &Unwatched).await.unwrap().point;
        let vault = Vault::open(store, &master).await.unwrap();
        Self { vault, point, names }
    }

    async fn walked(&self, selection: &Selection, after: Option<OwnedKey>) -> (Vec<Name>, Vec<OwnedKey>) {
        let mut items = SelectedItems::new(&self.vault.reader, &self.point.root, selection, after);
        let (mut names, mut keys) = (Vec::new(), Vec::new());
        while let Some(item) = items.next().await.unwrap() {
            keys.push(OwnedKey::from(item.entry.key()));
            names.push((item.entry.container, item.entry.name));
        }
        (names, keys)
    }

    /// What a selection takes, by looking at every name.
    fn expected(&self, selection: &Selection) -> Vec<Name> {
        let takes = |(container, name): &Name| {
            let of_container = |chosen: &ContainerSelection| {
                let is_all = chosen.prefixes.is_empty() && chosen.patterns.is_empty();
                chosen.name == *container
                    && (is_all
                        || chosen.prefixes.iter().any(|prefix| name.starts_with(prefix))
                        || chosen.patterns.iter().any(|pattern| pattern.matches(name)))
            };
            selection.containers.is_empty() || selection.containers.iter().any(of_container)
        };
        let mut names: Vec<Name> = self.names.iter().filter(|name| takes(name)).cloned().collect();
        names.sort_by_key(|(container, name)| {
            let class = selection.first.iter().position(|first| first.matches(container, name));
            (class.unwrap_or(usize::MAX), container.clone(), name.clone())
        });
        names
    }
}

fn chosen(name: &str, prefixes: &[&str], patterns: Vec<Pattern>) -> ContainerSelection {
    let prefixes = prefixes.iter().map(ToString::to_string).collect();
    ContainerSelection { name: name.into(), prefixes, patterns, rename_to: None }
}

fn glob(text: &str) -> Pattern {
    Pattern::glob(text).unwrap()
}

fn first(texts: &[&str]) -> Vec<ScopedPattern> {
    texts.iter().map(|text| ScopedPattern::parse(text).unwrap()).collect()
}

fn selections() -> Vec<Selection> {
    let exact = |name: &str| Pattern::Exact(name.into());
    let containers = [
        vec![],
        vec![chosen("b", &[], vec![])],
        vec![chosen("b", &["1/", "1/00"], vec![glob("3/*0.txt"), exact("0/0007.db"), exact("none")])],
        vec![chosen("c", &["4"], vec![]), chosen("a", &[], vec![glob("**/*00.txt"), exact("0/0000.txt")])],
        vec![chosen("a", &["none"], vec![])],
    ];
    let orders = [
        vec![],
        first(&["**.db"]),
        first(&["/c/4/**", "1/*", "/none/x", "**/2?00.*"]),
        first(&["/b/0/0007.db", "3/**", "**"]),
    ];
    containers
        .iter()
        .flat_map(|containers| {
            orders.iter().map(|first| Selection { containers: containers.clone(), first: first.clone() })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn globs_prefixes_and_single_names_are_taken_most_important_first() {
    let world = World::new().await;
    for selection in selections() {
        assert_eq!(world.walked(&selection, None).await.0, world.expected(&selection), "{selection:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_after_any_blob_in_the_order_of_the_restore() {
    let world = World::new().await;
    for selection in selections() {
        let (names, keys) = world.walked(&selection, None).await;
        for at in [0, 1, names.len() / 3, names.len() / 2, names.len().saturating_sub(1)] {
            let Some(key) = keys.get(at) else { continue };
            let rest = world.walked(&selection, Some(key.clone())).await.0;
            assert_eq!(rest, names[at + 1..], "{selection:?} after {key:?}");
        }
    }
}

struct Kept(Mutex<RestoreState>);

#[async_trait::async_trait]
impl Journal for Kept {
    async fn save(&self, state: &RestoreState) -> Result<(), Error> {
        *self.0.lock().unwrap() = state.clone();
        Ok(())
    }
}

fn written(target: &MemoryAccount) -> Vec<String> {
    let name = |call| match call {
        Call::Write(name) => Some(name),
        _ => None,
    };
    target.take_calls().into_iter().filter_map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_has_the_most_important_blobs_and_goes_on_with_the_rest() {
    let world = World::new().await;
    let selection = Selection { first: first(&["/b/**.db", "**/1*"]), ..Selection::default() };
    let important = world.names.iter().filter(|(container, name)| container == "b" && name.ends_with(".db")).count();
    let options = RestoreOptions { selection, ..RestoreOptions::default() };
    let target = MemoryAccount::new();
    target.fail_after_writes(Some(2_500));
    let kept = Kept(Mutex::default());
    let run =
        |state| restore::run(&world.vault, &world.point, Arc::new(target.clone()), &options, state, &kept, &Unwatched);
    assert!(run(RestoreState::default()).await.is_err());
    let first_written = written(&target);
    // A dozen are written at once.
    let early = &first_written[..important - 12];
    assert!(early.iter().all(|name| name.starts_with("b/") && name.ends_with(".db")), "{early:?}");
    target.fail_after_writes(None);
    let state = kept.0.lock().unwrap().clone();
    assert!(state.cursor.is_some(), "a batch was written");
    run(state).await.unwrap();
    assert_eq!(target.contents().into_keys().collect::<Vec<_>>(), world.names);
    assert!(written(&target).len() < 1_500, "what was written is not written again");
    let whole = MemoryAccount::new();
    let everything = RestoreOptions::default();
    restore::run(
        &world.vault,
        &world.point,
        Arc::new(whole.clone()),
        &everything,
        RestoreState::default(),
        &NoJournal,
        &Unwatched,
    )
    .await
    .unwrap();
    assert_eq!(whole.contents(), target.contents());
}
