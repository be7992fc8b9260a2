//! A feed against what really was: after any changes to an account, whenever it was looked at, the changes that were told give exactly what the
//! account held at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use blobkeep_emulator::{Emulator, SeedBlob};
use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::source::BlobChange;
use blobkeep_vault::{BlobEntry, Source, Target, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setup::{ACCOUNT, Setup, setup_with};

const CONTAINERS: [&str; 2] = ["photos", "videos"];
const NAMES: [&str; 5] = ["a", "a/b", "ü &", "with/blobs/in", "z"];

/// What an account holds, by container and name.
type State = BTreeMap<(String, String), BlobEntry>;

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % most
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }

    fn tags(&mut self) -> Vec<(String, String)> {
        let tags = ["k", "l", "m"].map(|key| (key.to_owned(), self.below(3).to_string()));
        let most = self.below(4);
        tags.into_iter().take(most).collect()
    }
}

struct Account {
    emulator: Emulator,
    source: AzureAccount,
    sas: String,
    clock: Arc<AtomicI64>,
}

impl Account {
    async fn start() -> Self {
        // Its clock goes by whole milliseconds, to which the feed says up to when it is complete.
        let Setup { emulator, clock, .. } = setup_with(true, true).await;
        for container in CONTAINERS {
            emulator.create_container(ACCOUNT, container).unwrap();
        }
        let mut options = AzureOptions::from_connection_string(&emulator.connection_string(ACCOUNT)).unwrap();
        (options.first_delay, options.tells_versions) = (Duration::from_millis(1), true);
        let sas = emulator.sas(ACCOUNT, "rwdlactx");
        Self { source: AzureAccount::new(options).unwrap(), sas, emulator, clock }
    }

    async fn state(&self) -> State {
        let mut state = State::new();
        for container in CONTAINERS {
            let page = self.source.list(container, "", None).await.unwrap();
            assert!(page.next.is_none());
            state.extend(page.entries.into_iter().map(|entry| ((entry.container.clone(), entry.name.clone()), entry)));
        }
        state
    }

    async fn earlier_versions(&self) -> BTreeSet<String> {
        let mut versions = BTreeSet::new();
        for container in CONTAINERS {
            let rows = self.source.list_versions(container, None).await.unwrap().entries;
            versions.extend(rows.into_iter().filter_map(|row| row.version));
        }
        versions
    }

    /// A request that this client never makes itself, about a state of a blob.
    async fn ask(&self, method: &str, blob: &BlobEntry, query: &str) {
        let address = self.emulator.address();
        let encode = |text: &str| text.replace(' ', "%20").replace('&', "%26").replace('ü', "%C3%BC");
        let path = format!("/{ACCOUNT}/{}/{}", blob.container, encode(&blob.name));
        let sas = self.sas.trim_start_matches('?');
        let request = format!(
            "{method} {path}?{query}&{sas} HTTP/1.1\r\nhost: {address}\r\nx-ms-version: 2021-12-02\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// Changes one blob in one of all ways. Only versions that were `told` are removed: those that were no longer current when changes were looked
    /// for. What is gone before cannot be told as it was.
    async fn change(&self, random: &mut Random, state: &State, told: &BTreeSet<String>) {
        // Listings tell times to the second.
        self.clock.fetch_add(7_000_000, Ordering::SeqCst);
        let (container, name) = (random.of(&CONTAINERS), random.of(&NAMES));
        let live = state.get(&(container.to_owned(), name.to_owned()));
        let versions = self.emulator.version_ids(ACCOUNT, container, name);
        let earlier: Vec<&String> =
            versions.iter().filter(|id| live.is_none_or(|live| live.current_version.as_ref() != Some(*id))).collect();
        let version = live.and_then(|live| live.current_version.clone()).unwrap_or_default();
        match (random.below(10), live) {
            // Of a blob that was deleted, too: its versions stay.
            (8 | 9, _) if !earlier.is_empty() => {
                let one = earlier[random.below(earlier.len())];
                let blob = BlobEntry { container: container.into(), name: name.into(), ..BlobEntry::default() };
                let old = BlobEntry { current_version: Some(one.clone()), ..live.cloned().unwrap_or(blob) };
                let wanted = match random.below(4) {
                    0 if told.contains(one) => {
                        return self.ask("DELETE", &old, &format!("versionid={}", one.replace(':', "%3A"))).await;
                    }
                    1 => BlobEntry { tags: random.tags(), ..old.clone() },
                    _ => BlobEntry { tier: Some(random.of(&["Cool", "Cold"]).to_owned()), ..old.clone() },
                };
                self.source.copy_version(&wanted, one, Some(&old)).await.unwrap();
            }
            (0 | 1, _) | (_, None) => {
                let blob = SeedBlob {
                    tags: random.tags().into_iter().collect(),
                    tier: (random.below(3) == 0).then(|| random.of(&["Cool", "Cold", "Hot"]).to_owned()),
                    ..SeedBlob::new(vec![b'x'; random.below(100)])
                };
                self.emulator.put_blob(ACCOUNT, container, name, blob).unwrap();
            }
            (2, Some(_)) => assert!(self.emulator.delete_blob(ACCOUNT, container, name)),
            (3, Some(live)) => {
                let wanted = BlobEntry { tags: random.tags(), ..live.clone() };
                self.source.copy_version(&wanted, &version, Some(live)).await.unwrap();
            }
            (4, Some(live)) => {
                let mut wanted = BlobEntry { etag: String::new(), ..live.clone() };
                wanted.headers.content_type = Some(random.of(&["text/html", "text/plain"]).to_owned());
                wanted.headers.cache_control = (random.below(2) == 0).then(|| "no-cache".to_owned());
                self.source.copy_version(&wanted, &version, Some(live)).await.unwrap();
            }
            (5, Some(_)) => {
                self.emulator.set_tier(ACCOUNT, container, name, random.of(&["Cool", "Cold", "Hot"]));
            }
            (6, Some(live)) => self.ask("PUT", live, "comp=metadata").await,
            (7, Some(live)) => self.ask("PUT", live, "comp=snapshot").await,
            _ => {}
        }
    }
}

/// What is compared: times are told to the second, and a tier that was not set is the account's.
fn comparable(entry: &BlobEntry) -> BlobEntry {
    let tier = entry.tier.clone().unwrap_or_else(|| "Hot".to_owned());
    BlobEntry { tier: Some(tier), modified_at: Timestamp(0), created_at: Timestamp(0), ..entry.clone() }
}

fn apply(state: &mut State, change: &BlobChange) {
    let key = (change.container.clone(), change.name.clone());
    match &change.entry {
        Some(entry) => state.insert(key, entry.clone()),
        None => state.remove(&key),
    };
}

#[tokio::test]
async fn the_changes_give_what_the_account_held_at_every_moment() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let account = Account::start().await;
        for _ in 0..20 {
            let state = account.state().await;
            account.change(&mut random, &state, &BTreeSet::new()).await;
        }
        let mut cursor = account.source.feed().await.unwrap().unwrap();
        let base = account.state().await;
        let mut moments: Vec<(Timestamp, State)> = Vec::new();
        let mut changes: Vec<BlobChange> = Vec::new();
        let mut state = base.clone();
        let mut seen = account.earlier_versions().await;
        for round in 0..150 {
            account.change(&mut random, &state, &seen).await;
            state = account.state().await;
            // The feed is complete up to a moment after the change and before the next one.
            moments.push((account.source.feed().await.unwrap().unwrap().complete_until, state.clone()));
            if random.below(12) == 0 || round == 149 {
                loop {
                    let page = account.source.changes(&cursor.cursor).await.unwrap();
                    changes.extend(page.changes);
                    cursor = page.next;
                    if page.is_last {
                        break;
                    }
                }
                seen = account.earlier_versions().await;
            }
        }
        for (number, (at, expected)) in moments.iter().enumerate() {
            let mut told = base.clone();
            changes.iter().filter(|change| change.at <= *at).for_each(|change| apply(&mut told, change));
            assert!(told.keys().eq(expected.keys()), "seed {seed}, after change {number}");
            for (told, expected) in told.values().zip(expected.values()) {
                assert_eq!(comparable(told), comparable(expected), "seed {seed}, after change {number}");
            }
        }
        account.emulator.stop().await;
    }
}
