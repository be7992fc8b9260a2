//! Who works on a vault at present: each backup, restore, verification and prune registers as a file, `writers/<number>-<writer>-<beat>`,
//! and removes it at its end. `number` is the last record of the vault's chain that the worker had read before: whoever has a
//! number of at least *n* knows of every pack that was condemned up to record *n*, and uses none of them.
//!
//! So that a worker which died can be told from one that is slow, the file is replaced by one of the next beat now and then. No clock is
//! compared: whoever waits looks whether the beat moves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::item::Timestamp;
use crate::key::VaultKeys;
use crate::pack::{PackId, WriterId};
use crate::prune::condemned_packs;
use crate::seal::{open_record, random_bytes, seal_record};
use crate::state::{Chain, Change};
use crate::store::{Put, Store, StoreErrorKind};
use crate::vault::Vault;

const FOLDER: &str = "writers/";
/// Time between two beats.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// What somebody does with a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkKind {
    /// Adds a point.
    Backup,
    /// Reads a point.
    Restore,
    /// Reads everything.
    Verify,
    /// Frees space.
    Prune,
}

/// The plaintext of a registration's file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// What is being done.
    pub kind: WorkKind,
    /// On which instance; empty for work on the whole vault.
    pub instance: String,
    /// Which job.
    pub job: String,
}

/// A registration as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Last record of the vault's chain that the worker had read when it registered.
    pub number: u64,
    /// Which worker.
    pub writer: WriterId,
    /// How often it has shown that it lives.
    pub beat: u64,
    /// The file's name.
    pub file: String,
}

impl Registered {
    fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(FOLDER)?.split('-');
        let (number, writer, beat) = (parts.next()?, parts.next()?, parts.next()?);
        let mut id = [0; 8];
        hex::decode_to_slice(writer, &mut id).ok()?;
        let registered = Self {
            number: number.parse().ok()?,
            writer: WriterId(id),
            beat: beat.parse().ok()?,
            file: name.to_owned(),
        };
        (parts.next().is_none() && registered.file == file_name(registered.number, registered.writer, registered.beat))
            .then_some(registered)
    }

    /// Who it is; `None` if the registration has ended meanwhile.
    pub async fn worker(&self, vault: &Vault) -> Result<Option<Worker>> {
        let file = match vault.store.get(&self.file).await {
            Ok(file) => file,
            Err(e) if e.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let text = open_record(&vault.keys.meta_key, &self.file, &file)?;
        serde_json::from_slice(&text).map(Some).map_err(|e| Error::damaged(&self.file, e.to_string()))
    }
}

fn file_name(number: u64, writer: WriterId, beat: u64) -> String {
    format!("{FOLDER}{number:010}-{writer}-{beat:010}")
}

/// Everybody who is registered, each with the newest beat.
pub async fn registered(vault: &Vault) -> Result<Vec<Registered>> {
    let mut newest: BTreeMap<(u64, WriterId), Registered> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let files = vault.store.list(FOLDER, after.as_deref()).await?;
        let Some(last) = files.last() else { return Ok(newest.into_values().collect()) };
        after = Some(last.name.clone());
        // Names sort by beat, so the last one of a worker stands.
        for found in files.iter().filter_map(|file| Registered::from_file_name(&file.name)) {
            newest.insert((found.number, found.writer), found);
        }
    }
}

/// One registration. End it with [`Registration::end`]; what is dropped without is taken for dead after a while.
pub struct Registration<'a> {
    vault: &'a Vault,
    writer: WriterId,
    number: u64,
    condemned: Arc<HashSet<PackId>>,
    unsafe_before: u64,
    heart: Heart,
}

impl<'a> Registration<'a> {
    /// Registers, and learns which packs are condemned and which index runs there are.
    pub async fn begin(vault: &'a Vault, kind: WorkKind, instance: &str, job: &str) -> Result<Registration<'a>> {
        let worker = Worker { kind, instance: instance.to_owned(), job: job.to_owned() };
        let number = Chain::vault(vault).load().await?.number;
        let writer = WriterId(random_bytes()?);
        let heart = Heart::begin(vault, worker, number, writer).await?;
        let mut registration = Self { vault, writer, number, condemned: Arc::default(), unsafe_before: 0, heart };
        // Read again: what was condemned since the number was read is known, too, from here on.
        match registration.learn().await {
            Ok(()) => Ok(registration),
            Err(e) => {
                registration.end().await;
                Err(e)
            }
        }
    }

    async fn learn(&mut self) -> Result<()> {
        let state = Chain::vault(self.vault).load().await?;
        self.condemned = Arc::new(condemned_packs(self.vault, &state).await?);
        self.unsafe_before = state.unsafe_before();
        self.vault.index.refresh().await
    }

    /// Which worker this is: the packs it writes carry its id in their names.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// Last record of the vault's chain that was read before registering.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Packs that were condemned when this began: to be treated as absent.
    pub fn condemned(&self) -> Arc<HashSet<PackId>> {
        self.condemned.clone()
    }

    /// Work of whoever had registered before this number may need packs that were condemned when this began, or are gone.
    pub fn unsafe_before(&self) -> u64 {
        self.unsafe_before
    }

    /// Packs that are condemned now, if any were after record `number` of the vault's chain, and the number of the record that did it.
    pub async fn condemned_after(&self, number: u64) -> Result<Option<(u64, HashSet<PackId>)>> {
        let state = Chain::vault(self.vault).load().await?;
        if state.unsafe_before() <= number {
            return Ok(None);
        }
        Ok(Some((state.unsafe_before(), condemned_packs(self.vault, &state).await?)))
    }

    /// Takes the registration back. A store that fails now costs a later prune some patience, and nothing else.
    pub async fn end(self) {
        self.heart.stop().await;
    }
}

/// Shows at intervals that the worker lives. Dropping it stops that and leaves the last file.
struct Heart {
    store: Arc<dyn Store>,
    /// The files that lie in the store: the last beat and the one before.
    beats: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Heart {
    async fn begin(vault: &Vault, worker: Worker, number: u64, writer: WriterId) -> Result<Self> {
        let (store, keys) = (vault.store.clone(), vault.keys.clone());
        let name = put_beat(&store, &keys, &worker, &file_name(number, writer, 0)).await?;
        let beats = Arc::new(Mutex::new(vec![name]));
        let (task_store, task_beats) = (store.clone(), beats.clone());
        let task = tokio::spawn(async move {
            for next in 1.. {
                tokio::time::sleep(BEAT_EVERY).await;
                let mut beats = task_beats.lock().await;
                match put_beat(&task_store, &keys, &worker, &file_name(number, writer, next)).await {
                    Ok(name) => beats.push(name),
                    Err(e) => tracing::warn!(error = %e, "a sign of life could not be written; it is tried again"),
                }
                // The one before stays for one more beat: a listing that had begun before this one was written still finds it.
                while beats.len() > 2 {
                    let before = beats.remove(0);
                    if let Err(e) = task_store.delete(&before).await {
                        tracing::warn!(error = %e, "an old sign of life could not be removed");
                    }
                }
            }
        });
        Ok(Self { store, beats, task })
    }

    async fn stop(self) {
        let beats = self.beats.lock().await;
        self.task.abort();
        for name in beats.iter() {
            if let Err(e) = self.store.delete(name).await {
                tracing::warn!(error = %e, "a registration could not be removed: a prune will take it for dead after a while");
            }
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn put_beat(store: &Arc<dyn Store>, keys: &VaultKeys, worker: &Worker, name: &str) -> Result<String> {
    let text = serde_json::to_vec(worker).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
    let file = seal_record(&keys.meta_key, name, &text)?;
    match store.put_if_absent(name, Bytes::from(file)).await? {
        Put::Stored => Ok(name.to_owned()),
        Put::Exists => Err(Error::Internal(format!("{name} was there already although its name is random"))),
    }
}

/// Registers a reader. What is only read can also be read where nobody can register: from a medium that is full or read-only, and beside a
/// damaged chain. Then there is none.
pub async fn register_reader<'a>(
    vault: &'a Vault,
    kind: WorkKind,
    instance: &str,
    job: &str,
) -> Option<Registration<'a>> {
    match Registration::begin(vault, kind, instance, job).await {
        Ok(registration) => Some(registration),
        Err(e) => {
            tracing::warn!(error = %e, "this cannot be registered in the store: a prune at the same time would not wait for it");
            None
        }
    }
}

/// Registers a reader, where that is possible, and does its work.
pub async fn reading<T>(
    vault: &Vault,
    kind: WorkKind,
    instance: &str,
    job: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let registration = register_reader(vault, kind, instance, job).await;
    let outcome = work.await;
    if let Some(registration) = registration {
        registration.end().await;
    }
    outcome
}

/// Takes a worker for dead: it can add no point any more, and nobody waits for it. `false` if it has shown a sign of life meanwhile, or has
/// ended.
pub async fn fence(vault: &Vault, dead: &Registered, now: Timestamp) -> Result<bool> {
    let Some(worker) = dead.worker(vault).await? else { return Ok(false) };
    tracing::warn!(?worker, "a worker is taken for dead");
    if worker.kind == WorkKind::Backup {
        Chain::instance(vault, &worker.instance)?.append(Change::Fenced, now).await?;
    }
    // With the beat before, which may lie there still.
    for beat in [dead.beat.checked_sub(1), Some(dead.beat)].into_iter().flatten() {
        vault.store.delete(&file_name(dead.number, dead.writer, beat)).await?;
    }
    Ok(true)
}

/// Fences whoever worked on this job before: there is one at a time.
pub async fn fence_predecessors(vault: &Vault, instance: &str, job: &str, now: Timestamp) -> Result<()> {
    loop {
        let mut is_sure = true;
        for found in registered(vault).await? {
            match found.worker(vault).await {
                Ok(Some(worker))
                    if worker.kind == WorkKind::Backup && worker.instance == instance && worker.job == job =>
                {
                    is_sure &= fence(vault, &found, now).await?;
                }
                Ok(Some(_)) => {}
                // It has gone on, or ended: the next look tells.
                Ok(None) => is_sure = false,
                Err(e) if e.kind() == ErrorKind::Damaged => tracing::warn!(error = %e, "a registration cannot be read"),
                Err(e) => return Err(e),
            }
        }
        if is_sure {
            return Ok(());
        }
    }
}
