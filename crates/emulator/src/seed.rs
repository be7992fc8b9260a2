//! Filling and looking into an emulator without HTTP. What is put this way obeys the same rules of marks and times as what
//! comes by HTTP, unless a time is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::checksum;
use crate::clock;
use crate::feed::{Api, Before, Change, EventKind, FEED_CONTAINER, Origin};
use crate::model::World;
use crate::model::blob::{Blob, BlobKind, Content, ContentHeaders};
use crate::model::container::{Container, Entry};
use crate::model::pages::PageMap;
use crate::model::synthetic::{Synthetic, SyntheticSpec};
use crate::server::Emulator;

/// The kinds of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SeedKind {
    /// A block blob.
    #[default]
    Block,
    /// An append blob.
    Append,
    /// A page blob; its length must be a multiple of 512 bytes.
    Page,
}

/// A blob to be put. `SeedBlob::default()` is an empty block blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeedBlob {
    /// Its kind.
    pub kind: SeedKind,
    /// Its bytes.
    pub content: Bytes,
    /// `Content-Type`; `application/octet-stream` if none.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// Whether the MD5 of the bytes is stored, as Put Blob does and Put Block List does not.
    pub with_md5: bool,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// Index tags.
    pub tags: BTreeMap<String, String>,
    /// A tier that is set, e.g. `Cool`; none is the account's default.
    pub tier: Option<String>,
    /// Microseconds since the epoch; now if none. An existing blob keeps its own.
    pub created_us: Option<i64>,
    /// Microseconds since the epoch; now if none.
    pub modified_us: Option<i64>,
    /// Append blobs: no more appending.
    pub sealed: bool,
    /// Page blobs: the sequence number.
    pub sequence_number: u64,
}

impl SeedBlob {
    /// A block blob of these bytes, with its MD5.
    pub fn new(content: impl Into<Bytes>) -> SeedBlob {
        SeedBlob { content: content.into(), with_md5: true, ..SeedBlob::default() }
    }
}

/// A blob as the emulator holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Everything that can be put; `with_md5` says whether an MD5 is stored.
    pub blob: SeedBlob,
    /// The ETag without quotes.
    pub etag: String,
    /// The stored MD5, base64.
    pub content_md5: Option<String>,
}

/// Why nothing could be put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The account is not among the emulator's.
    #[error("the emulator has no account {0}: name it in EmulatorOptions.accounts")]
    UnknownAccount(String),
    /// The container is not there.
    #[error("the account {account} has no container {container}: create it first")]
    UnknownContainer {
        /// The account.
        account: String,
        /// The container.
        container: String,
    },
}

impl Emulator {
    /// Makes a container if it is not there.
    pub fn create_container(&self, account: &str, container: &str) -> Result<(), SeedError> {
        let now_us = self.shared().now_us();
        make_container(&mut self.shared().write(), account, container, now_us).map(|_| ())
    }

    /// Removes a container with all its blobs; says whether it was there.
    pub fn delete_container(&self, account: &str, container: &str) -> bool {
        let mut world = self.shared().write();
        world.accounts.get_mut(account).is_some_and(|account| account.containers.remove(container).is_some())
    }

    /// The names of an account's containers, sorted, without that of a change feed.
    pub fn container_names(&self, account: &str) -> Vec<String> {
        let world = self.shared().read();
        let Some(account) = world.accounts.get(account) else { return Vec::new() };
        let shown = |name: &&String| account.feed.is_none() || *name != FEED_CONTAINER;
        account.containers.keys().filter(shown).cloned().collect()
    }

    /// Puts a blob, replacing one of that name, and returns its ETag without quotes. Makes the container if need be.
    pub fn put_blob(&self, account: &str, container: &str, name: &str, blob: SeedBlob) -> Result<String, SeedError> {
        let now_us = self.shared().now_us();
        let mut world = self.shared().write();
        let held = make_container(&mut world, account, container, now_us)?;
        let existing = held.get(name, None);
        let stamp = world.stamp(now_us);
        let mut state = state_of(blob, stamp.etag.clone(), stamp.at_us);
        state.version = stamp.ticks;
        if let Some(existing) = existing {
            state.created_us = existing.created_us;
            state.lease = existing.lease.clone();
        }
        put_in_place(&mut world, &origin(account, container, name, now_us), state)?;
        Ok(stamp.etag)
    }

    /// The ids of a blob's versions, from the oldest to the newest; the last one is that of the current blob, if there is one.
    /// Empty where versions are not kept.
    pub fn version_ids(&self, account: &str, container: &str, name: &str) -> Vec<String> {
        let world = self.shared().read();
        let Ok(container) = world.container(account, container) else { return Vec::new() };
        if !container.keeps_versions {
            return Vec::new();
        }
        let earlier = container.family(name).into_iter().flat_map(|family| family.versions.keys().copied());
        let current = container.get(name, None).map(|blob| blob.version);
        earlier.chain(current).map(clock::iso_ticks).collect()
    }

    /// A blob as it is held, with its bytes in memory.
    pub fn get_blob(&self, account: &str, container: &str, name: &str) -> Option<StoredBlob> {
        let world = self.shared().read();
        let blob = world.accounts.get(account)?.containers.get(container)?.get(name, None)?;
        drop(world);
        Some(stored_of(&blob))
    }

    /// Sets the tier of a blob, which leaves its ETag as it is; says whether the blob was there.
    pub fn set_tier(&self, account: &str, container: &str, name: &str, tier: &str) -> bool {
        let now_us = self.shared().now_us();
        let mut world = self.shared().write();
        let held = world.container_mut(account, container).ok().filter(|held| held.get(name, None).is_some());
        let Some(current) = held.and_then(|held| held.family_mut(name).current.as_mut()) else { return false };
        let before = Some(Before::of(current));
        let blob = Arc::make_mut(current);
        (blob.tier, blob.tier_changed_us) = (Some(tier.to_owned()), Some(now_us));
        let blob = Arc::clone(current);
        let ticks = world.stamp(now_us).ticks;
        let (kind, api) = (EventKind::TierChanged, Api::SetBlobTier);
        let origin = origin(account, container, name, now_us);
        world.record(&origin, &Change { kind, api, ticks, blob: &blob, before, snapshot: None });
        true
    }

    /// Removes a blob with its snapshots; says whether it was there. It stays as an earlier version where versions are kept.
    pub fn delete_blob(&self, account: &str, container: &str, name: &str) -> bool {
        let now_us = self.shared().now_us();
        let mut world = self.shared().write();
        let Ok(held) = world.container_mut(account, container) else { return false };
        let family = held.family_mut(name);
        family.snapshots.clear();
        family.uncommitted.clear();
        let Some(gone) = held.replace(name, None) else { return false };
        let ticks = world.stamp(now_us).ticks;
        world.record(&origin(account, container, name, now_us), &Change::deleted(ticks, &gone));
        true
    }

    /// The names of a container's blobs, sorted by their bytes. Of a large synthetic container this is a large list.
    pub fn blob_names(&self, account: &str, container: &str) -> Vec<String> {
        let world = self.shared().read();
        let Some(container) = world.accounts.get(account).and_then(|known| known.containers.get(container)) else {
            return Vec::new();
        };
        let names = container.names("").filter_map(|entry| match entry {
            Entry::Stored(name, family) => family.current.is_some().then(|| name.to_owned()),
            Entry::Computed(name, _) => Some(name),
        });
        names.collect()
    }

    /// Fills a container with computed blobs, beside the stored ones that it may have. Makes the container if need be.
    pub fn add_synthetic(&self, account: &str, container: &str, spec: SyntheticSpec) -> Result<(), SeedError> {
        let now_us = self.shared().now_us();
        let mut world = self.shared().write();
        let made_us = world.stamp(now_us).at_us;
        make_container(&mut world, account, container, now_us)?.set_synthetic(Synthetic { spec, made_us });
        Ok(())
    }

    /// The name of the computed blob of an index, if the container has one.
    pub fn synthetic_name(&self, account: &str, container: &str, index: u64) -> Option<String> {
        let world = self.shared().read();
        let synthetic = world.accounts.get(account)?.containers.get(container)?.synthetic()?;
        (index < synthetic.spec.count).then(|| synthetic.name(index))
    }

    /// Gives computed blobs other contents of the same length, with new ETags and times; returns how many there were. The
    /// contents depend on the specification, the index and the generation (1, 2, …) alone.
    pub fn change_synthetic(
        &self,
        account: &str,
        container: &str,
        indices: impl IntoIterator<Item = u64>,
        generation: u64,
    ) -> Result<u64, SeedError> {
        let now_us = self.shared().now_us();
        let mut changed = 0;
        for index in indices {
            let mut world = self.shared().write();
            let stamp = world.stamp(now_us);
            let held = find_container(&mut world, account, container)?;
            let Some(synthetic) = held.synthetic().filter(|synthetic| index < synthetic.spec.count) else {
                continue;
            };
            let (name, content) = (synthetic.name(index), Content::Synthetic(synthetic.content(index, generation)));
            let Some(current) = held.get(&name, None) else { continue };
            let (etag, version, modified_us) = (stamp.etag, stamp.ticks, stamp.at_us);
            let state = Blob { content, etag, version, modified_us, ..(*current).clone() };
            put_in_place(&mut world, &origin(account, container, &name, now_us), state)?;
            changed += 1;
        }
        Ok(changed)
    }
}

/// The container of this name, made if it is not there.
fn make_container<'a>(
    world: &'a mut World,
    account: &str,
    container: &str,
    now_us: i64,
) -> Result<&'a mut Container, SeedError> {
    let stamp = world.stamp(now_us);
    let made = world.new_container(&stamp);
    let known = world.accounts.get_mut(account).ok_or_else(|| SeedError::UnknownAccount(account.to_owned()))?;
    Ok(known.containers.entry(container.to_owned()).or_insert(made))
}

/// Makes a state the current one of a blob, and tells of it as of a Put Blob.
fn put_in_place(world: &mut World, origin: &Origin<'_>, state: Blob) -> Result<(), SeedError> {
    let held = find_container(world, origin.account, origin.container)?;
    let state = Arc::new(state);
    held.family_mut(origin.blob).uncommitted.clear();
    let before = held.replace(origin.blob, Some(Arc::clone(&state)));
    world.record(origin, &Change::created(Api::PutBlob, &state, before.as_deref()));
    Ok(())
}

/// What the change feed tells of who made a change without HTTP.
fn origin<'a>(account: &'a str, container: &'a str, blob: &'a str, now_us: i64) -> Origin<'a> {
    const NO_REQUEST: &str = "00000000-0000-0000-0000-000000000000";
    Origin { account, container, blob, request_id: NO_REQUEST, client_request_id: NO_REQUEST, now_us }
}

fn find_container<'a>(world: &'a mut World, account: &str, container: &str) -> Result<&'a mut Container, SeedError> {
    let known = world.accounts.get_mut(account).ok_or_else(|| SeedError::UnknownAccount(account.to_owned()))?;
    known
        .containers
        .get_mut(container)
        .ok_or_else(|| SeedError::UnknownContainer { account: account.to_owned(), container: container.to_owned() })
}

fn state_of(seed: SeedBlob, etag: String, now_us: i64) -> Blob {
    let content_md5 = seed.with_md5.then(|| checksum::md5_base64(&seed.content));
    let (kind, content) = match seed.kind {
        SeedKind::Block => (BlobKind::Block, Content::Whole(seed.content)),
        SeedKind::Append if seed.content.is_empty() => (BlobKind::Append, Content::of_blocks(Vec::new())),
        SeedKind::Append => {
            let block = crate::model::blob::Block { id: String::new(), bytes: seed.content };
            (BlobKind::Append, Content::of_blocks(vec![block]))
        }
        SeedKind::Page => {
            let mut pages = PageMap::new(seed.content.len() as u64);
            pages.write(0, seed.content);
            (BlobKind::Page, Content::Pages(pages))
        }
    };
    Blob {
        headers: ContentHeaders {
            content_type: seed.content_type.or_else(|| Some("application/octet-stream".to_owned())),
            content_encoding: seed.content_encoding,
            content_language: seed.content_language,
            content_disposition: seed.content_disposition,
            cache_control: seed.cache_control,
            content_md5,
        },
        metadata: seed.metadata,
        tags: seed.tags,
        tier_changed_us: seed.tier.as_ref().map(|_| now_us),
        tier: seed.tier,
        created_us: seed.created_us.unwrap_or(now_us),
        modified_us: seed.modified_us.unwrap_or(now_us),
        sealed: seed.sealed,
        sequence_number: seed.sequence_number,
        ..Blob::new(kind, content, etag, now_us)
    }
}

fn stored_of(blob: &Blob) -> StoredBlob {
    let kind = match blob.kind {
        BlobKind::Block => SeedKind::Block,
        BlobKind::Append => SeedKind::Append,
        BlobKind::Page => SeedKind::Page,
    };
    StoredBlob {
        blob: SeedBlob {
            kind,
            content: blob.content.read(0, blob.content.len_bytes()),
            content_type: blob.headers.content_type.clone(),
            content_encoding: blob.headers.content_encoding.clone(),
            content_language: blob.headers.content_language.clone(),
            content_disposition: blob.headers.content_disposition.clone(),
            cache_control: blob.headers.cache_control.clone(),
            with_md5: blob.headers.content_md5.is_some(),
            metadata: blob.metadata.clone(),
            tags: blob.tags.clone(),
            tier: blob.tier.clone(),
            created_us: Some(blob.created_us),
            modified_us: Some(blob.modified_us),
            sealed: blob.sealed,
            sequence_number: blob.sequence_number,
        },
        etag: blob.etag.clone(),
        content_md5: blob.headers.content_md5.clone(),
    }
}
