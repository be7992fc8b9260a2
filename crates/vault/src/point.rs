//! Recovery points: one file each, sealed, written once. What may change about a point (its expiry, holds) lies in `state`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::item::{ChunkId, Timestamp};
use crate::manifest::Root;
use crate::mark::MarkRoot;
use crate::seal::{open_record, seal_record};
use crate::source::FeedPosition;
use crate::store::{Put, StoreErrorKind};
use crate::vault::Vault;

/// What a backup did, as the point remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupCounts {
    /// Blobs whose content was taken over from the point before, without reading.
    pub unchanged_blobs: u64,
    /// Blobs that were read.
    pub read_blobs: u64,
    /// Bytes that were read from the source.
    pub read_bytes: u64,
    /// Blobs that are not in the point, with a reason each.
    pub skipped_blobs: u64,
    /// Chunks added to the store, by this run of the job and those before it.
    pub new_chunks: u64,
    /// Their plaintext bytes.
    pub new_bytes: u64,
    /// Bytes of packs added to the store.
    pub stored_bytes: u64,
}

/// A blob that is missing in a point, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Container.
    pub container: String,
    /// Blob name.
    pub name: String,
    /// Why, in words for the operator.
    pub reason: String,
}

/// One recovery point: the plaintext of `points/<instance>/<job>`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Format of the vault when it was written.
    pub format: String,
    /// The instance it belongs to.
    pub instance: String,
    /// The job that made it, and its name.
    pub job: String,
    /// What was backed up, in words without secrets.
    pub source: String,
    /// When the listing began: no change before this instant is missing.
    pub started_at: Timestamp,
    /// When everything was durable.
    pub completed_at: Timestamp,
    /// The manifest.
    pub root: Root,
    /// What the job did.
    pub counts: BackupCounts,
    /// Pages of skipped blobs (postcard lists of [`Skipped`]).
    pub skipped_pages: Vec<ChunkId>,
    /// Facts of the caller: policy rule, retention tag, tier.
    pub labels: BTreeMap<String, String>,
}

/// Label of a base point: the cursor of the feed from which its journal goes on.
const FEED_CURSOR: &str = "feed.cursor";
/// Label of a base point: every change up to this instant lies before the cursor; microseconds since 1970.
const FEED_UNTIL: &str = "feed.until";
/// Label of a base point: the job of the base point before it, whose journal ends no earlier than that of this one begins.
const FEED_FOLLOWS: &str = "feed.follows";
/// Label of a base point: how many segments that journal had when this point was begun. With fewer its end is lost.
const FEED_FOLLOWED_SEGMENTS: &str = "feed.follows.segments";

/// Label that a caller gives to a base point if its cursor does not go on from the journal before, because the feed did not reach back to the
/// end of that any more. What happened between is not known then, and a restore to an instant between is refused.
pub const FEED_GAP: &str = "feed.gap";

/// The labels of a base point whose journal begins at `position`. `before` is the base point before it, with the segments of its journal.
pub(crate) fn feed_labels(
    labels: &BTreeMap<String, String>,
    position: &FeedPosition,
    before: Option<(&Point, u64)>,
) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert(FEED_CURSOR.to_owned(), position.cursor.clone());
    labels.insert(FEED_UNTIL.to_owned(), position.complete_until.0.to_string());
    labels.remove(FEED_FOLLOWS);
    labels.remove(FEED_FOLLOWED_SEGMENTS);
    if let Some((before, segments)) = before.filter(|_| !labels.contains_key(FEED_GAP)) {
        labels.insert(FEED_FOLLOWS.to_owned(), before.job.clone());
        labels.insert(FEED_FOLLOWED_SEGMENTS.to_owned(), segments.to_string());
    }
    labels
}

impl Point {
    /// Where its journal begins, if it is a base point of a continuous backup.
    pub fn feed(&self) -> Option<FeedPosition> {
        let cursor = self.labels.get(FEED_CURSOR)?.clone();
        let until = self.labels.get(FEED_UNTIL).and_then(|until| until.parse().ok());
        Some(FeedPosition { cursor, complete_until: Timestamp(until.unwrap_or(i64::MIN)) })
    }

    /// The base point that this one goes on from without a gap.
    pub fn follows(&self) -> Option<&str> {
        self.labels.get(FEED_FOLLOWS).map(String::as_str)
    }

    /// Segments that the journal of that base point must have at least.
    pub(crate) fn followed_segments(&self) -> u64 {
        self.labels.get(FEED_FOLLOWED_SEGMENTS).and_then(|segments| segments.parse().ok()).unwrap_or(0)
    }

    /// The file's name.
    pub fn file_name(instance: &str, job: &str) -> String {
        format!("points/{instance}/{job}")
    }

    /// Writes the point; [`Put::Exists`] if the job has written one before.
    pub async fn put(&self, vault: &Vault) -> Result<Put> {
        let name = Self::file_name(&self.instance, &self.job);
        let text = serde_json::to_vec(self).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
        let file = seal_record(&vault.keys.meta_key, &name, &text)?;
        Ok(vault.store.put_if_absent(&name, Bytes::from(file)).await?)
    }

    /// Reads a point.
    pub async fn get(vault: &Vault, instance: &str, job: &str) -> Result<Self> {
        Self::get_hashed(vault, instance, job).await.map(|(point, _)| point)
    }

    /// Reads a point; with the BLAKE3 of its file, by which its journal begins.
    pub(crate) async fn get_hashed(vault: &Vault, instance: &str, job: &str) -> Result<(Self, [u8; 32])> {
        let name = Self::file_name(instance, job);
        let file = match vault.store.get(&name).await {
            Ok(file) => file,
            Err(e) if e.kind == StoreErrorKind::NotFound => {
                return Err(Error::NotFound(format!("there is no recovery point {job} of {instance}")));
            }
            Err(e) => return Err(e.into()),
        };
        let text = open_record(&vault.keys.meta_key, &name, &file)?;
        let point = serde_json::from_slice(&text).map_err(|e| Error::damaged(name, e.to_string()))?;
        Ok((point, *blake3::hash(&file).as_bytes()))
    }

    /// What of the vault it needs.
    pub fn mark_root(&self) -> MarkRoot {
        MarkRoot { page: self.root.page, leaves: self.skipped_pages.clone() }
    }

    /// Jobs of an instance whose point files are in the store, whatever its chain says of them.
    pub async fn files(vault: &Vault, instance: &str) -> Result<Vec<String>> {
        let folder = Self::file_name(instance, "");
        let mut jobs = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let files = vault.store.list(&folder, after.as_deref()).await?;
            let Some(last) = files.last() else { return Ok(jobs) };
            after = Some(last.name.clone());
            jobs.extend(files.iter().map(|file| file.name[folder.len()..].to_owned()));
        }
    }

    /// The blobs that are missing, at most `at_most` of them.
    pub async fn skipped(&self, vault: &Vault, at_most: usize) -> Result<Vec<Skipped>> {
        let mut skipped = Vec::new();
        for id in &self.skipped_pages {
            if skipped.len() >= at_most {
                break;
            }
            let page = vault.reader.page(*id).await?;
            let listed: Vec<Skipped> = postcard::from_bytes(&page)
                .map_err(|e| Error::damaged(Self::file_name(&self.instance, &self.job), e.to_string()))?;
            skipped.extend(listed);
        }
        skipped.truncate(at_most);
        Ok(skipped)
    }
}

/// How far an interrupted job has come: the plaintext of `progress/<instance>/<job>/<n>`, as JSON. Its manifest holds the
/// entries that are done: a container that is backed up in ranges of names has gaps. The next run of the job takes their content from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The number under which its writer had registered: after a prune that condemned packs later, it may need what is gone.
    pub registered: u64,
    /// What is done.
    pub root: Root,
    /// Counts so far.
    pub counts: BackupCounts,
    /// It is on the way to a base point: its content stays at the source.
    #[serde(default)]
    pub at_source: bool,
}

const PROGRESS: &str = "progress";

impl Progress {
    fn folder(instance: &str, job: &str) -> String {
        format!("{PROGRESS}/{instance}/{job}/")
    }

    /// Writes the `number`th progress of a job.
    pub async fn put(&self, vault: &Vault, instance: &str, job: &str, number: u64) -> Result<()> {
        let name = format!("{}{number:010}", Self::folder(instance, job));
        let text = serde_json::to_vec(self).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
        let file = seal_record(&vault.keys.meta_key, &name, &text)?;
        vault.store.put_if_absent(&name, Bytes::from(file)).await?;
        Ok(())
    }

    /// The newest progress of a job and its number.
    pub async fn latest(vault: &Vault, instance: &str, job: &str) -> Result<Option<(u64, Self)>> {
        let folder = Self::folder(instance, job);
        let Some(name) = last_name(vault, &folder).await? else { return Ok(None) };
        let text = open_record(&vault.keys.meta_key, &name, &vault.store.get(&name).await?)?;
        let progress = serde_json::from_slice(&text).map_err(|e| Error::damaged(&name, e.to_string()))?;
        let number = name[folder.len()..].parse().map_err(|_| Error::damaged(&name, "its name is no number"))?;
        Ok(Some((number, progress)))
    }

    /// Jobs of an instance that left progress behind.
    pub async fn jobs(vault: &Vault, instance: &str) -> Result<Vec<String>> {
        let all = Self::below(vault, &format!("{PROGRESS}/{instance}/")).await?;
        Ok(all.into_iter().map(|(_, job)| job).collect())
    }

    /// All jobs that left progress behind, each with its instance, which need not have a point yet.
    pub async fn all_jobs(vault: &Vault) -> Result<Vec<(String, String)>> {
        Self::below(vault, &format!("{PROGRESS}/")).await
    }

    async fn below(vault: &Vault, folder: &str) -> Result<Vec<(String, String)>> {
        let mut jobs: Vec<(String, String)> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let files = vault.store.list(folder, after.as_deref()).await?;
            let Some(last) = files.last() else { return Ok(jobs) };
            after = Some(last.name.clone());
            for file in &files {
                let mut parts = file.name.split('/').skip(1);
                if let (Some(instance), Some(job), Some(_)) = (parts.next(), parts.next(), parts.next()) {
                    let found = (instance.to_owned(), job.to_owned());
                    if jobs.last() != Some(&found) {
                        jobs.push(found);
                    }
                }
            }
        }
    }

    /// Removes the progress of a finished job.
    pub async fn clear(vault: &Vault, instance: &str, job: &str) -> Result<()> {
        loop {
            let files = vault.store.list(&Self::folder(instance, job), None).await?;
            if files.is_empty() {
                return Ok(());
            }
            for file in files {
                vault.store.delete(&file.name).await?;
            }
        }
    }
}

async fn last_name(vault: &Vault, folder: &str) -> Result<Option<String>> {
    let mut last: Option<String> = None;
    loop {
        let files = vault.store.list(folder, last.as_deref()).await?;
        match files.into_iter().next_back() {
            Some(file) => last = Some(file.name),
            None => return Ok(last),
        }
    }
}
