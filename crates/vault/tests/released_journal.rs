//! The vault of format 1 with journals that every later version reads: `testdata/vaults/v1-journal`. The story below made it, once, with the
//! folder in `BLOBKEEP_KEEP_VAULT`; told again without a vault it gives the account that the vault points into, with the same versions.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::versioned::{Key, VersionedAccount};
use blobkeep_vault::backup::{self, BackupOptions};
use blobkeep_vault::chunk::ChunkSizes;
use blobkeep_vault::journal;
use blobkeep_vault::restore::{self, InPlaceOptions, Instant, NoJournal, RestoreState};
use blobkeep_vault::store::memory::MemoryStore;
use blobkeep_vault::verify::{self, Depth, SeenNumbers};
use blobkeep_vault::{BlobEntry, Clock, ContentHeaders, MasterKey, Source, Timestamp, Unwatched, Vault};
use bytes::Bytes;

const INSTANCE: &str = "photos";

/// Blobs by container and name.
type Blobs = BTreeMap<Key, (BlobEntry, Bytes)>;

struct Story {
    clock: Arc<ManualClock>,
    account: VersionedAccount,
    vault: Option<Vault>,
    /// Instants, and what there was.
    states: Vec<(Timestamp, Blobs)>,
}

impl Story {
    /// Tells the story: to a vault, or only to the account.
    async fn tell(vault: Option<Vault>) -> Self {
        let clock = Arc::new(ManualClock::at_seconds(1_800_000_000));
        let account = VersionedAccount::new(clock.clone()).with_pages_of(20);
        let mut story = Self { clock, account, vault, states: Vec::new() };
        for number in 0..60 {
            story.account.put(&format!("c{}", number % 2), &format!("{number:02}"), format!("first {number}"));
        }
        story.account.put("c0", "empty", "");
        let headers = ContentHeaders { content_type: Some("image/png".into()), ..ContentHeaders::default() };
        let entry = BlobEntry {
            container: "c1".into(),
            name: "with/properties ü".into(),
            headers,
            metadata: vec![("by".into(), "somebody".into())],
            tags: vec![("kind".into(), "photo".into())],
            tier: Some("Cool".into()),
            content_md5: Some([7; 16]),
            ..BlobEntry::default()
        };
        story.account.put_entry(entry, "properties");
        story.base("base-1").await;
        story.remember();

        story.account.put("c0", "00", "changed");
        story.account.remove("c0", "02");
        story.account.touch("c1", "with/properties ü", |entry| entry.tier = Some("Hot".into()));
        story.account.put("later", "only in the journal", "x");
        story.look().await;
        story.remember();
        story.back_up("content-1").await;
        for number in 0..30 {
            story.account.put("c1", &format!("{number:02}"), format!("second {number}"));
        }
        story.look().await;
        story.remember();
        // Told in the journal of the next base point only.
        story.account.remove("later", "only in the journal");
        story.account.put("c0", "02", "again");
        story.remember();
        story.base("base-2").await;
        story.account.put("c0", "empty", "no longer");
        story.account.put("c0", "unnamed", "a version that nobody knows");
        story.account.unname("c0", "unnamed");
        story.account.remove("c0", "unnamed");
        story.look().await;
        story.remember();
        story.account.put("c0", "00", "much later");
        story.look().await;
        story
    }

    /// This instant can be restored.
    fn remember(&mut self) {
        self.states.push((self.clock.now(), self.account.blobs()));
        self.clock.advance_seconds(3_600);
    }

    async fn base(&self, job: &str) {
        let Some(vault) = &self.vault else { return };
        let position = match journal::end(vault, INSTANCE).await.unwrap() {
            Some(end) => end.position,
            None => self.account.feed().await.unwrap().unwrap(),
        };
        self.run(vault, BackupOptions { at_source: Some(position), ..BackupOptions::new(INSTANCE, job) }).await;
    }

    async fn back_up(&self, job: &str) {
        if let Some(vault) = &self.vault {
            self.run(vault, BackupOptions::new(INSTANCE, job)).await;
        }
    }

    async fn run(&self, vault: &Vault, options: BackupOptions) {
        let source = Arc::new(self.account.clone());
        backup::run(vault, source, &options, self.clock.as_ref(), &Unwatched).await.unwrap();
    }

    async fn look(&self) {
        if let Some(vault) = &self.vault {
            look(vault, &self.account).await;
        }
    }
}

async fn look(vault: &Vault, account: &VersionedAccount) {
    let mut end = journal::end(vault, INSTANCE).await.unwrap().unwrap();
    loop {
        let page = account.changes(&end.position.cursor).await.unwrap();
        journal::append(vault, INSTANCE, &mut end, &page).await.unwrap();
        if page.is_last {
            return;
        }
    }
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vaults")
}

/// The files of a vault, in memory: nothing in the repository is ever changed.
fn load(folder: &Path, prefix: &str, store: &MemoryStore) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            load(&entry.path(), &format!("{name}/"), store);
        } else {
            store.replace(&name, std::fs::read(entry.path()).unwrap());
        }
    }
}

async fn open() -> Vault {
    let store = Arc::new(MemoryStore::default());
    load(&testdata().join("v1-journal"), "", &store);
    let key = std::fs::read_to_string(testdata().join("v1-journal.key")).unwrap();
    Vault::open(store, &MasterKey::from_text(&key).unwrap()).await.unwrap()
}

async fn restore(vault: &Vault, account: &VersionedAccount, at: Timestamp) {
    let (live, options) = (
        Arc::new(account.clone()),
        InPlaceOptions { ranges: vec![], is_whole_account: false, scratch: std::env::temp_dir() },
    );
    let (instant, state) = (Instant::At { instance: INSTANCE, at }, RestoreState::default());
    restore::run_in_place(vault, instant, live.clone(), live, &options, state, &NoJournal, &Unwatched).await.unwrap();
}

/// What a restore brings back.
fn comparable(blobs: Blobs) -> Vec<(Key, BlobEntry, Bytes)> {
    let of = |(key, (entry, content))| {
        let BlobEntry { headers, metadata, tags, tier, kind, content_md5, .. } = entry;
        (key, BlobEntry { headers, metadata, tags, tier, kind, content_md5, ..BlobEntry::default() }, content)
    };
    blobs.into_iter().map(of).collect()
}

async fn check(vault: &Vault) {
    let report = verify::run(vault, Depth::Bytes, &SeenNumbers::new(), &Unwatched).await.unwrap();
    assert_eq!((report.damage.as_slice(), report.points), ([].as_slice(), 3));
    assert_eq!((report.journal_segments, report.journal_changes), (5, 40));
    let story = Story::tell(None).await;
    assert_eq!(story.states.len(), 5);
    for (at, blobs) in story.states {
        let account = Story::tell(None).await.account;
        restore(vault, &account, at).await;
        assert_eq!(comparable(account.blobs()), comparable(blobs), "at {at}");
    }
}

#[tokio::test]
async fn a_vault_of_format_1_gives_back_every_instant_of_its_journals() {
    check(&open().await).await;
}

#[tokio::test]
async fn a_journal_of_format_1_is_written_on() {
    let (vault, story) = (open().await, Story::tell(None).await);
    story.clock.advance_seconds(60);
    story.account.put("c0", "new", "x");
    look(&vault, &story.account).await;
    let (at, blobs) = (story.clock.now(), story.account.blobs());
    story.account.remove("c0", "new");
    restore(&vault, &story.account, at).await;
    assert_eq!(comparable(story.account.blobs()), comparable(blobs));
}

#[tokio::test]
async fn the_story_makes_such_a_vault_still() {
    let (store, master) = (Arc::new(MemoryStore::default()), MasterKey::generate().unwrap());
    let vault = Vault::init(store.clone(), &master, ChunkSizes::default(), Timestamp(1)).await.unwrap();
    let vault = Story::tell(Some(vault)).await.vault.unwrap();
    check(&vault).await;
    let Some(folder) = std::env::var_os("BLOBKEEP_KEEP_VAULT").map(PathBuf::from) else { return };
    for (name, content) in store.files() {
        let path = folder.join("v1-journal").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::write(folder.join("v1-journal.key"), master.to_text().as_bytes()).unwrap();
}
