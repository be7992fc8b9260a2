//! Writing blobs: one Put Blob for a small block blob with all its properties; larger blobs and the other kinds go through
//! `upload`. Every body carries a checksum that the endpoint verifies, and its answer is checked.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use blobkeep_vault::{
    BlobEntry, BlobKind, BlobWriter, ContainerEntry, OnConflict, SourceError, SourceErrorKind, Target, Timestamp,
    Written,
};
use bytes::Bytes;
use http::Method;

use super::containers::is_container_name;
use super::http_client::{Request, Response};
use super::properties::{self, Wanted};
use super::upload::Upload;
use super::{AzureAccount, checksum, clock, fault, xml};

const WHOLE_LIMIT_BYTES: u64 = 8 << 20;
/// 50,000 blocks of 4 MiB, what the protocol version in use allows for append blobs.
const APPEND_LIMIT_BYTES: u64 = 50_000 * (4 << 20);
const PAGE_LIMIT_BYTES: u64 = 8 << 40;

/// The condition under which a blob may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    Always,
    IfAbsent,
    IfUnchanged(String),
}

impl Guard {
    pub(super) fn add_to(&self, request: &mut Request) {
        match self {
            Self::Always => {}
            Self::IfAbsent => {
                request.try_header("if-none-match", "*");
            }
            Self::IfUnchanged(etag) => {
                request.try_header("if-match", &format!("\"{etag}\""));
            }
        }
    }
}

/// What became of the request that makes a blob visible.
pub(super) enum Committed {
    Done {
        lost: Vec<String>,
        etag: String,
        /// The answer was lost, and what is there was recognised as ours by its length and MD5.
        is_recognised: bool,
    },
    Exists,
}

/// What a HEAD request says of a blob.
pub(super) struct Head {
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) modified_at: Timestamp,
}

impl AzureAccount {
    pub(super) async fn head(&self, entry: &BlobEntry) -> Result<Option<Head>, SourceError> {
        let what = format!("look at {}", entry.display_name());
        let request = Request::new(Method::HEAD, Some(&entry.container), Some(&entry.name));
        let response = self.inner.http.expect(&what, &request, &[200, 404]).await?;
        if response.status.as_u16() == 404 {
            return Ok(None);
        }
        // Guessing one of these could overwrite a newer blob, or take another's for ours.
        let missing = |name: &str| self.nonsense(&what, &format!("it has no {name} that can be read"));
        let size_bytes = response.header("content-length").and_then(|text| text.parse().ok());
        let modified_at = response.header("last-modified").and_then(clock::parse_http_date);
        Ok(Some(Head {
            etag: response.header("etag").map(xml::plain_etag).ok_or_else(|| missing("ETag"))?,
            size_bytes: size_bytes.ok_or_else(|| missing("Content-Length"))?,
            md5: response.header("content-md5").and_then(xml::md5_from_base64),
            modified_at: modified_at.ok_or_else(|| missing("Last-Modified"))?,
        }))
    }

    /// The condition that stands for the conflict rule; `Err` inside is the reason to skip. `looks_first` avoids uploading
    /// a large blob for nothing.
    async fn guard_for(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
        looks_first: bool,
    ) -> Result<Result<Guard, String>, SourceError> {
        match on_conflict {
            OnConflict::Overwrite => Ok(Ok(Guard::Always)),
            OnConflict::Fail | OnConflict::Skip if !looks_first => Ok(Ok(Guard::IfAbsent)),
            _ => match (self.head(entry).await?, on_conflict) {
                (None, _) => Ok(Ok(Guard::IfAbsent)),
                (Some(_), OnConflict::Fail) => Err(conflict(entry)),
                (Some(there), OnConflict::Newer) if there.modified_at < entry.modified_at => {
                    Ok(Ok(Guard::IfUnchanged(there.etag)))
                }
                (Some(_), OnConflict::Newer) => Ok(Err("the blob that is there is as new or newer".to_owned())),
                (Some(_), _) => Ok(Err("a blob of that name is there already".to_owned())),
            },
        }
    }

    /// What of the blob's properties is worth asking for, and the words for what was refused before.
    fn still_wanted(&self, entry: &BlobEntry, lost: &mut Vec<String>) -> Wanted {
        let refused = &self.inner.refused;
        let mut wanted = Wanted::of(entry);
        for (flag, refused, words) in [
            (&mut wanted.tags, &refused.write_tags, "index tags: the endpoint refused them"),
            (&mut wanted.tier, &refused.write_tier, "access tier: the endpoint refused it"),
            (
                &mut wanted.protection,
                &refused.write_protection,
                "immutability, legal hold or encryption scope: the endpoint refused them",
            ),
        ] {
            if *flag && refused.load(Ordering::Relaxed) {
                *flag = false;
                lost.push(words.to_owned());
            }
        }
        wanted
    }

    fn remember_refused(&self, asked: Wanted, granted: Wanted) {
        let refused = &self.inner.refused;
        for (was_asked, is_granted, flag) in [
            (asked.tags, granted.tags, &refused.write_tags),
            (asked.tier, granted.tier, &refused.write_tier),
            (asked.protection, granted.protection, &refused.write_protection),
        ] {
            if was_asked && !is_granted {
                flag.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Sends the request that makes the blob visible, leaving out properties that the endpoint refuses. `base` has body,
    /// checksum and everything that cannot be left out; `md5` is what a lost answer is recognised by.
    pub(super) async fn commit(
        &self,
        entry: &BlobEntry,
        base: &Request,
        guard: &Guard,
        md5: Option<[u8; 16]>,
    ) -> Result<Committed, SourceError> {
        let what = format!("write {}", entry.display_name());
        let mut lost = Vec::new();
        let asked = self.still_wanted(entry, &mut lost);
        let mut wanted = asked;
        let mut is_general = false;
        loop {
            let mut request = base.clone();
            guard.add_to(&mut request);
            let unsent = properties::add_properties(&mut request, entry, wanted);
            let response = self.inner.http.send(&what, &request).await?;
            let (status, code) = (response.status.as_u16(), fault::code_of(&response));
            if status == 201 {
                self.check_answer(&what, &request, &response)?;
                if is_general {
                    self.remember_refused(asked, wanted);
                }
                lost.extend(unsent);
                let etag = response.header("etag").map(xml::plain_etag).unwrap_or_default();
                return Ok(Committed::Done { lost, etag, is_recognised: false });
            }
            let is_refused_by_guard =
                matches!((status, code.as_str()), (409, "BlobAlreadyExists") | (412, "ConditionNotMet" | ""));
            if is_refused_by_guard && *guard != Guard::Always {
                if response.tries > 1
                    && let Some(there) = self.written(entry, md5).await?
                {
                    lost.extend(unsent);
                    return Ok(Committed::Done { lost, etag: there.etag, is_recognised: true });
                }
                return match guard {
                    Guard::IfUnchanged(_) => Err(fault::error_of(&what, self.inner.http.shown(), &response)),
                    _ => Ok(Committed::Exists),
                };
            }
            let Some((less, words)) = properties::give_up_on(status, &code, wanted) else {
                return Err(fault::error_of(&what, self.inner.http.shown(), &response));
            };
            tracing::debug!(what, status, code, "written again without: {words}");
            // A right or feature that is missing is missing for every blob; a bad value is one blob's own.
            is_general |= matches!(status, 403 | 500 | 501) || code == "FeatureNotSupported";
            wanted = less;
            lost.push(words.to_owned());
        }
    }

    /// What is there if a write whose answer was lost took effect: it has our length and, where known, our MD5.
    async fn written(&self, entry: &BlobEntry, md5: Option<[u8; 16]>) -> Result<Option<Head>, SourceError> {
        let Some(there) = self.head(entry).await? else { return Ok(None) };
        let is_same_content = match (there.md5, md5) {
            (Some(there), Some(ours)) => there == ours,
            _ => true,
        };
        let is_ours = there.size_bytes == entry.size_bytes && is_same_content;
        Ok(is_ours.then_some(there))
    }

    /// The endpoint repeats the checksum of what it received; it must be that of what was sent.
    pub(super) fn check_answer(&self, what: &str, request: &Request, response: &Response) -> Result<(), SourceError> {
        for name in ["x-ms-content-crc64", "content-md5"] {
            let (Some(sent), Some(received)) = (request.headers.get(name), response.headers.get(name)) else {
                continue;
            };
            if sent != received {
                return Err(self.nonsense(what, "the endpoint confirmed another checksum than that of the bytes sent"));
            }
        }
        Ok(())
    }

    pub(super) fn resolve(entry: &BlobEntry, on_conflict: OnConflict, done: Committed) -> Result<Written, SourceError> {
        match (done, on_conflict) {
            (Committed::Done { lost, .. }, _) => Ok(Written::Written { lost }),
            (Committed::Exists, OnConflict::Fail) => Err(conflict(entry)),
            (Committed::Exists, _) => Ok(Written::Skipped("a blob of that name is there already".to_owned())),
        }
    }

    async fn put_block_blob(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
        guard: &Guard,
    ) -> Result<Written, SourceError> {
        let Some(stored) = entry.content_md5 else {
            return Self::resolve(entry, on_conflict, self.put_content(entry, content, guard, None).await?);
        };
        // The endpoint compares it with the bytes that arrive. Only where it refuses them it is computed here, too.
        match self.put_content(entry, content.clone(), guard, Some(stored)).await {
            Err(error) if error.kind == SourceErrorKind::Refused && checksum::md5_of(&content) != stored => {}
            done => return Self::resolve(entry, on_conflict, done?),
        }
        let done = self.put_content(entry, content, guard, None).await?;
        let mut written = Self::resolve(entry, on_conflict, done)?;
        if let Written::Written { lost } = &mut written {
            lost.push("the stored MD5: it was not that of the content".to_owned());
        }
        Ok(written)
    }

    /// Put Blob with the MD5 that is to be checked and stored, or with a checksum of our own.
    async fn put_content(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        guard: &Guard,
        stored_md5: Option<[u8; 16]>,
    ) -> Result<Committed, SourceError> {
        let mut request =
            Request::new(Method::PUT, Some(&entry.container), Some(&entry.name)).header("x-ms-blob-type", "BlockBlob");
        let md5 = stored_md5.or_else(|| checksum_if_small(&content));
        let request = match stored_md5 {
            Some(md5) => {
                // Transactional and stored at once.
                request.try_header("content-md5", &checksum::md5_base64(md5));
                properties::add_md5(&mut request, md5);
                request.body(content)
            }
            None => checksum::with_body(request, content, self.inner.http.checksum()).await,
        };
        self.commit(entry, &request, guard, md5).await
    }
}

/// The MD5 that the endpoint will have computed itself, for recognising our blob should an answer get lost; only where it
/// costs next to nothing.
fn checksum_if_small(content: &[u8]) -> Option<[u8; 16]> {
    (content.len() <= 64 << 10).then(|| checksum::md5_of(content))
}

fn conflict(entry: &BlobEntry) -> SourceError {
    SourceError::new(SourceErrorKind::Conflict, format!("blob {} is there already", entry.display_name()))
}

#[async_trait]
impl Target for AzureAccount {
    fn describe(&self) -> String {
        self.described()
    }

    fn only_container(&self) -> Option<String> {
        self.inner.container.clone()
    }

    /// A client for one container cannot make it (a SAS of a container has no such right), so there an empty container
    /// counts as one that is still to be made.
    async fn container(&self, name: &str) -> Result<Option<ContainerEntry>, SourceError> {
        self.check_scope(name)?;
        if self.inner.container.is_none() {
            return self.container_properties(name).await;
        }
        match self.is_empty(name).await? {
            Some(false) => Ok(Some(ContainerEntry { name: name.to_owned(), ..ContainerEntry::default() })),
            Some(true) | None => Ok(None),
        }
    }

    async fn create_container(&self, container: &ContainerEntry) -> Result<bool, SourceError> {
        self.check_scope(&container.name)?;
        if self.inner.container.is_some()
            && let Some(is_empty) = self.is_empty(&container.name).await?
        {
            return Ok(is_empty);
        }
        self.make_container(container).await
    }

    fn accepts(&self, entry: &BlobEntry) -> Result<(), String> {
        if let Err(error) = self.check_scope(&entry.container) {
            return Err(error.message);
        }
        if !is_container_name(&entry.container) {
            return Err(format!(
                "{:?} is no legal container name: 3 to 63 lower-case letters, digits and single hyphens",
                entry.container
            ));
        }
        if entry.name.is_empty() || entry.name.chars().count() > 1_024 {
            return Err("a blob name has 1 to 1,024 characters".to_owned());
        }
        if entry.name.contains('\0') {
            return Err("a blob name cannot contain a NUL character".to_owned());
        }
        match entry.kind {
            BlobKind::Page { .. } if !entry.size_bytes.is_multiple_of(512) || entry.size_bytes > PAGE_LIMIT_BYTES => {
                Err("a page blob has a multiple of 512 bytes, at most 8 TiB".to_owned())
            }
            BlobKind::Append { .. } if entry.size_bytes > APPEND_LIMIT_BYTES => {
                Err("an append blob has at most 50,000 blocks of 4 MiB".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn whole_limit_bytes(&self) -> u64 {
        WHOLE_LIMIT_BYTES
    }

    async fn write_whole(
        &self,
        entry: &BlobEntry,
        content: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Written, SourceError> {
        self.check_scope(&entry.container)?;
        if content.len() as u64 != entry.size_bytes {
            return Err(SourceError::new(
                SourceErrorKind::Protocol,
                format!(
                    "{} bytes were given for {} of {} bytes",
                    content.len(),
                    entry.display_name(),
                    entry.size_bytes
                ),
            ));
        }
        let guard = match self.guard_for(entry, on_conflict, false).await? {
            Ok(guard) => guard,
            Err(reason) => return Ok(Written::Skipped(reason)),
        };
        if entry.kind == BlobKind::Block {
            return self.put_block_blob(entry, content, on_conflict, &guard).await;
        }
        match Upload::start(self, entry, guard, on_conflict).await? {
            Ok(mut upload) => {
                upload.write(content).await?;
                Box::new(upload).finish().await
            }
            Err(reason) => Ok(Written::Skipped(reason)),
        }
    }

    async fn delete(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        self.check_scope(&entry.container)?;
        let what = format!("delete {}", entry.display_name());
        let mut request = Request::new(Method::DELETE, Some(&entry.container), Some(&entry.name))
            .header("x-ms-delete-snapshots", "include");
        Guard::IfUnchanged(entry.etag.clone()).add_to(&mut request);
        let response = self.inner.http.send(&what, &request).await?;
        let is_gone = match response.status.as_u16() {
            202 | 404 => true,
            // Some endpoints look at the condition before they look for the blob.
            412 => self.head(entry).await?.is_none(),
            _ => false,
        };
        if !is_gone {
            return Err(fault::error_of(&what, self.inner.http.shown(), &response));
        }
        // Gone after a try whose answer was lost: that try did it.
        Ok(response.status.as_u16() == 202 || response.tries > 1)
    }

    async fn copy_version(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
    ) -> Result<Written, SourceError> {
        self.make_current(entry, version, live).await
    }

    async fn begin(
        &self,
        entry: &BlobEntry,
        on_conflict: OnConflict,
    ) -> Result<Result<Box<dyn BlobWriter>, String>, SourceError> {
        self.check_scope(&entry.container)?;
        let guard = match self.guard_for(entry, on_conflict, true).await? {
            Ok(guard) => guard,
            Err(reason) => return Ok(Err(reason)),
        };
        let started = Upload::start(self, entry, guard, on_conflict).await?;
        Ok(started.map(|upload| Box::new(upload) as Box<dyn BlobWriter>))
    }
}
