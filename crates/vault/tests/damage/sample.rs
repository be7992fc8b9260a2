//! The vault that is damaged: every kind of file is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blobkeep_testkit::account::MemoryAccount;
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::state::{Chain, Change, expire};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, SeenNumbers, VerifyOptions};
use blobkeep_vault::{MasterKey, Timestamp, Unwatched};
use bytes::Bytes;

use crate::common::{Contents, World, noise};

/// The files of a store.
pub type Files = BTreeMap<String, Bytes>;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Header,
    HeaderCopy,
    BothHeaders,
    Slot,
    SlotCopy,
    BothSlots,
    ContentPack,
    MetadataPack,
    IndexRun,
    Point,
    StateFirst,
    StateMiddle,
    StateFold,
    StateLast,
    VaultState,
    Progress,
    Ledger,
    /// Of the journal of a continuous backup, which is in a vault of its own.
    JournalSegment,
}

pub const KINDS: [Kind; 18] = [
    Kind::Header,
    Kind::HeaderCopy,
    Kind::BothHeaders,
    Kind::Slot,
    Kind::SlotCopy,
    Kind::BothSlots,
    Kind::ContentPack,
    Kind::MetadataPack,
    Kind::IndexRun,
    Kind::Point,
    Kind::StateFirst,
    Kind::StateMiddle,
    Kind::StateFold,
    Kind::StateLast,
    Kind::VaultState,
    Kind::Progress,
    Kind::Ledger,
    Kind::JournalSegment,
];

/// The vault, what is known of it, and what an evildoer may have at hand.
pub struct Sample {
    pub master: MasterKey,
    pub files: Files,
    /// Files that the vault removed by itself.
    pub removed: Files,
    /// Content of each point, by instance and job.
    pub points: BTreeMap<(String, String), Contents>,
    /// The last numbers of the chains.
    pub seen: SeenNumbers,
    /// The packs and the run that the newest point of `a` added, and its last state record.
    pub of_newest: Vec<String>,
}

/// The account of an instance on a day; equal days have equal ETags.
pub fn account(instance: &str, day: u64) -> MemoryAccount {
    let account = MemoryAccount::new();
    let seed = instance.bytes().map(u64::from).sum::<u64>() * 1_000;
    let blobs = if instance == "a" { 40 } else { 6 };
    for number in 0..blobs {
        account.put(&format!("c{}", number % 2), &format!("{number:03}"), noise(3_000, seed + number));
    }
    account.put("c0", "empty", "");
    account.put("large", "tree", noise(300_000, seed + 500));
    for day in 1..=day {
        account.put("c1", &format!("new on day {day}"), noise(5_000, seed + 600 + day));
        account.put("c0", "000", noise(3_000, seed + 700 + day));
    }
    account
}

/// The day of the newest points.
pub const NEWEST: u64 = 3;
/// The points of the sample: instance, job and day. `gone` is soft-deleted.
const POINTS: [(&str, &str, u64); 6] = [
    ("a", "day-1", 1),
    ("b", "day-1", 1),
    ("gone", "day-1", 1),
    ("a", "day-2", 2),
    ("b", "day-3", 3),
    ("a", "day-3", 3),
];

fn files(store: &MemoryStore) -> Files {
    store.files().into_iter().collect()
}

impl Sample {
    /// Makes the vault: several instances and points, a point that expired, an instance that was deleted, an interrupted backup, chains long
    /// enough to be folded, and a ledger that replaced another.
    pub async fn make(master: MasterKey) -> Self {
        let world = World::with_key(master.clone()).await;
        let mut removed = Files::new();
        world.back_up(&account("a", 0), "a", "day-0").await.unwrap();
        let mut points = BTreeMap::new();
        let mut of_newest = Vec::new();
        for (instance, job, day) in POINTS {
            let before = files(&world.files);
            let account = account(instance, day);
            world.back_up(&account, instance, job).await.unwrap();
            points.insert((instance.to_owned(), job.to_owned()), account.contents());
            of_newest = files(&world.files).into_keys().filter(|name| !before.contains_key(name)).collect();
        }
        let vault = world.vault().await;
        remember_removed(&world, &mut removed, "points/a/day-0", async || {
            let chain = Chain::instance(&vault, "a").unwrap();
            let set = |job: &str, at| Change::ExpirySet { job: job.into(), expires_at: Some(Timestamp(at)) };
            chain.append(set("day-0", 1), Timestamp(1)).await.unwrap();
            assert_eq!(expire(&vault, "a", Timestamp(100), true).await.unwrap(), ["day-0"]);
            // Long enough to be folded, and its last records change nothing that is seen otherwise.
            for at in 1_000..1_040 {
                chain.append(set("day-1", at), Timestamp(1)).await.unwrap();
            }
        })
        .await;
        let purge_at = Timestamp(i64::MAX);
        Chain::instance(&vault, "gone").unwrap().append(Change::SoftDeleted { purge_at }, Timestamp(1)).await.unwrap();
        let record = |world: &World| verify_recorded(world.files.clone(), master.clone());
        record(&world).await;
        remember_removed(&world, &mut removed, "ledger/", async || record(&world).await).await;
        interrupt(&world, &mut removed).await;
        let mut seen = SeenNumbers::new();
        for instance in ["a", "b", "gone"] {
            let number = Chain::instance(&vault, instance).unwrap().load().await.unwrap().number;
            seen.insert(instance.to_owned(), number);
        }
        seen.insert("vault".to_owned(), Chain::vault(&vault).load().await.unwrap().number);
        assert!(seen["a"] > 32, "the chain is folded");
        world.assert_sound().await;
        Self { master, files: files(&world.files), removed, points, seen, of_newest }
    }

    /// The file of a kind that is damaged, and of both-kinds the first.
    pub fn file_of(&self, kind: Kind) -> String {
        let first = |prefix: &str| self.files.keys().find(|name| name.starts_with(prefix)).unwrap().clone();
        let is_metadata = |name: &&String| self.files[*name][8] == 1;
        let state = |number: u64| format!("state/a/{number:010}");
        let name = match kind {
            Kind::Header | Kind::BothHeaders => "vault.json".to_owned(),
            Kind::HeaderCopy => "vault.json.copy".to_owned(),
            Kind::Slot | Kind::BothSlots => first("keys/"),
            Kind::SlotCopy => format!("{}.copy", first("keys/")),
            Kind::ContentPack => {
                self.packs().filter(|name| !is_metadata(name)).max_by_key(|n| self.files[*n].len()).unwrap().clone()
            }
            Kind::MetadataPack => {
                self.of_newest.iter().find(|name| name.starts_with("packs/") && is_metadata(name)).unwrap().clone()
            }
            Kind::IndexRun => self
                .files
                .keys()
                .filter(|n| n.starts_with("index/"))
                .max_by_key(|n| self.files[*n].len())
                .unwrap()
                .clone(),
            Kind::Point => "points/a/day-2".to_owned(),
            Kind::StateFirst => state(1),
            Kind::StateMiddle => state(self.seen["a"] - 1),
            Kind::StateFold => state(32),
            Kind::StateLast => state(self.seen["a"]),
            Kind::VaultState => first("state/vault/"),
            Kind::Progress => self.files.keys().rfind(|name| name.starts_with("progress/b/")).unwrap().clone(),
            Kind::Ledger => first("ledger/"),
            Kind::JournalSegment => first("journal/"),
        };
        assert!(self.files.contains_key(&name), "the sample has a {kind:?}: {name}");
        name
    }

    fn packs(&self) -> impl Iterator<Item = &String> {
        self.files.keys().filter(|name| name.starts_with("packs/"))
    }

    /// A world with these files.
    pub fn world(&self, files: &Files) -> World {
        let store = MemoryStore::default();
        for (name, content) in files {
            store.replace(name, content.clone());
        }
        let clock = blobkeep_testkit::clock::ManualClock::at_seconds(1_900_000_000);
        World { files: Arc::new(store), master: self.master.clone(), clock }
    }
}

/// Runs `work` and keeps the files of this prefix that it removed.
async fn remember_removed(world: &World, removed: &mut Files, prefix: &str, work: impl AsyncFnOnce()) {
    let before = files(&world.files);
    work().await;
    let after = files(&world.files);
    let gone = before.into_iter().filter(|(name, _)| name.starts_with(prefix) && !after.contains_key(name));
    removed.extend(gone);
    assert!(removed.keys().any(|name| name.starts_with(prefix)), "something of {prefix} was removed");
}

async fn verify_recorded(store: Arc<MemoryStore>, master: MasterKey) {
    let vault = blobkeep_vault::Vault::open(store, &master).await.unwrap();
    let clock = blobkeep_testkit::clock::ManualClock::at_seconds(1_850_000_000);
    verify::run_recorded(&vault, &VerifyOptions::default(), &clock, &Unwatched).await.unwrap();
}

/// Interrupts a backup of `b`, and then, for what a replay needs, ends one of `a`.
async fn interrupt(world: &World, removed: &mut Files) {
    let run = async |instance: &str, reads: Option<u64>| {
        let account = account(instance, NEWEST + 1);
        account.fail_after_reads(reads);
        let options = BackupOptions { progress_every: Duration::ZERO, ..BackupOptions::new(instance, "day-4") };
        backup::run(&world.vault().await, Arc::new(account), &options, &world.clock, &Unwatched).await.is_ok()
    };
    assert!(!run("b", Some(1)).await);
    let of_b = files(&world.files).into_iter().filter(|(name, _)| name.starts_with("progress/b/"));
    removed.extend(of_b.map(|(name, content)| (name.replace("progress/b/day-4/", "progress/b/day-0/"), content)));
}

/// Puts a pack and a run of a chunk that nothing needs into a copy of the vault, as an interrupted backup leaves them.
pub async fn leftovers(world: &World) -> Files {
    use blobkeep_vault::pack::PackKind;
    use blobkeep_vault::write::ChunkWriter;
    let before = files(&world.files);
    let writer = Arc::new(ChunkWriter::new(&world.vault().await).unwrap());
    for kind in [PackKind::Content, PackKind::Metadata] {
        writer.put(kind, noise(1_000, kind as u64).into()).await.unwrap();
    }
    writer.flush().await.unwrap();
    files(&world.files).into_iter().filter(|(name, _)| !before.contains_key(name)).collect()
}
