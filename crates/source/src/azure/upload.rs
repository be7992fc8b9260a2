//! Blobs that take more than one request: block blobs by blocks and a block list, append blobs in order, page blobs by
//! ranges. It holds at most the parts in flight and one that fills. A block blob is visible only when it is complete; of the
//! other kinds an abandoned rest is removed again.
//!
//! Append and page blobs are written in place. It must never remove what it has not made: each of their writes depends on the
//! ETag that the one before it left, and so does the removal. A blob that is to be replaced is left alone until the
//! first part is at hand; from then on an interrupted upload leaves the new blob incomplete, and errors say so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobkeep_vault::{BlobEntry, BlobKind, BlobWriter, OnConflict, SourceError, SourceErrorKind, Written};
use bytes::{Bytes, BytesMut};
use http::Method;
use md5::{Digest, Md5};
use tokio::task::JoinSet;

use super::http_client::{Request, Response};
use super::writer::{Committed, Guard};
use super::{AzureAccount, checksum, fault, properties, xml};

const BLOCK_BYTES: u64 = 8 << 20;
const MOST_BLOCKS: u64 = 50_000;
const APPEND_BYTES: usize = 4 << 20;
const PAGES_BYTES: usize = 4 << 20;
/// Blocks of all blobs of an account that are on their way at once.
pub(super) const BLOCKS_IN_FLIGHT: usize = 6;

/// A blob on its way.
pub(super) struct Upload {
    account: AzureAccount,
    entry: Arc<BlobEntry>,
    guard: Guard,
    on_conflict: OnConflict,
    filling: BytesMut,
    part_bytes: usize,
    /// Bytes handed to requests so far.
    sent_bytes: u64,
    in_flight: JoinSet<Result<(), SourceError>>,
    block_ids: Vec<String>,
    id_start: [u8; 8],
    md5: Option<Md5>,
    lost: Vec<String>,
    in_place: InPlace,
    /// The ETag of an append or page blob after the last write.
    last_etag: Arc<Mutex<String>>,
}

/// What an append or page blob's upload has done under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InPlace {
    /// Nothing; always so for block blobs.
    Untouched,
    /// Made an incomplete blob where none was.
    Made,
    /// Put an incomplete blob in another one's place.
    Replaced,
    /// Completed it.
    Complete,
}

impl Upload {
    /// Starts the blob. Kinds that are written in place are made now, empty, unless they may take another one's place. `Err`
    /// inside is the reason to skip.
    pub(super) async fn start(
        account: &AzureAccount,
        entry: &BlobEntry,
        guard: Guard,
        on_conflict: OnConflict,
    ) -> Result<Result<Self, String>, SourceError> {
        let mut id_start = [0; 8];
        aws_lc_rs::rand::fill(&mut id_start)
            .map_err(|_| SourceError::new(SourceErrorKind::Unavailable, "no random numbers: cannot name blocks"))?;
        let part_bytes = match entry.kind {
            BlobKind::Block => block_bytes(entry.size_bytes),
            BlobKind::Append { .. } => APPEND_BYTES,
            BlobKind::Page { .. } => PAGES_BYTES,
        };
        let mut upload = Self {
            account: account.clone(),
            entry: Arc::new(entry.clone()),
            guard,
            on_conflict,
            filling: BytesMut::new(),
            part_bytes,
            sent_bytes: 0,
            in_flight: JoinSet::new(),
            block_ids: Vec::new(),
            id_start,
            md5: entry.content_md5.map(|_| Md5::new()),
            lost: Vec::new(),
            in_place: InPlace::Untouched,
            last_etag: Arc::default(),
        };
        if entry.kind == BlobKind::Block || upload.guard != Guard::IfAbsent {
            return Ok(Ok(upload));
        }
        let done = upload.create_empty(&Guard::IfAbsent).await?;
        if upload.note_made(&done, InPlace::Made) {
            return Ok(Ok(upload));
        }
        match AzureAccount::resolve(entry, on_conflict, done)? {
            Written::Skipped(reason) => Ok(Err(reason)),
            Written::Written { .. } => Ok(Ok(upload)),
        }
    }

    /// Makes the empty blob if that was put off in order not to replace another one too early.
    async fn ensure_made(&mut self) -> Result<(), SourceError> {
        if self.entry.kind == BlobKind::Block || self.in_place != InPlace::Untouched {
            return Ok(());
        }
        if self.guard == Guard::Always {
            // Whether another one is there decides what may be removed should this be interrupted. A blob that was merely
            // recognised as ours could be another's.
            let done = self.create_empty(&Guard::IfAbsent).await?;
            if !matches!(done, Committed::Done { is_recognised: true, .. }) && self.note_made(&done, InPlace::Made) {
                return Ok(());
            }
        }
        let guard = self.guard.clone();
        let done = self.create_empty(&guard).await?;
        self.note_made(&done, InPlace::Replaced);
        AzureAccount::resolve(&self.entry, self.on_conflict, done).map(|_| ())
    }

    /// Remembers the blob that was made, if it was.
    fn note_made(&mut self, done: &Committed, how: InPlace) -> bool {
        let Committed::Done { lost, etag, .. } = done else { return false };
        self.lost.extend_from_slice(lost);
        lock(&self.last_etag).clone_from(etag);
        self.in_place = how;
        true
    }

    async fn create_empty(&self, guard: &Guard) -> Result<Committed, SourceError> {
        let mut request = self.request();
        match self.entry.kind {
            BlobKind::Page { sequence_number } => {
                request.try_header("x-ms-blob-type", "PageBlob");
                request.try_header("x-ms-blob-content-length", &self.entry.size_bytes.to_string());
                request.try_header("x-ms-blob-sequence-number", &sequence_number.to_string());
            }
            _ => {
                request.try_header("x-ms-blob-type", "AppendBlob");
            }
        }
        // What a lost answer left behind is empty (or has its size, for pages), not yet the whole blob.
        let mut made = (*self.entry).clone();
        if !matches!(made.kind, BlobKind::Page { .. }) {
            made.size_bytes = 0;
        }
        self.account.commit(&made, &request, guard, None).await
    }

    fn request(&self) -> Request {
        Request::new(Method::PUT, Some(&self.entry.container), Some(&self.entry.name))
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), SourceError> {
        self.ensure_made().await?;
        if let Some(md5) = &mut self.md5 {
            md5.update(&part);
        }
        let offset = self.sent_bytes;
        self.sent_bytes += part.len() as u64;
        let what = format!("write {} at {offset}", self.entry.display_name());
        let (request, most) = match self.entry.kind {
            BlobKind::Block => {
                let id = self.next_block_id();
                (self.request().query("comp", "block").query("blockid", id), BLOCKS_IN_FLIGHT)
            }
            BlobKind::Page { .. } if part.iter().all(|byte| *byte == 0) => return Ok(()),
            BlobKind::Page { .. } => {
                let mut request = self.request().query("comp", "page").header("x-ms-page-write", "update");
                request.try_header("x-ms-range", &format!("bytes={offset}-{}", offset + part.len() as u64 - 1));
                (request, 1)
            }
            BlobKind::Append { .. } => {
                let mut request = self.request().query("comp", "appendblock");
                request.try_header("x-ms-blob-condition-appendpos", &offset.to_string());
                (request, 1)
            }
        };
        while self.in_flight.len() >= most {
            self.one_done().await?;
        }
        let account = self.account.clone();
        if self.entry.kind == BlobKind::Block {
            let place = Arc::clone(&account.inner.blocks).acquire_owned().await;
            self.in_flight.spawn(async move {
                let _place = place;
                let request = checksum::with_body(request, part, account.inner.http.checksum()).await;
                let response = account.inner.http.expect(&what, &request, &[201]).await?;
                account.check_answer(&what, &request, &response)
            });
            return Ok(());
        }
        let mut request = checksum::with_body(request, part, checksum::Kind::Crc64).await;
        // One after the other: the ETag that the write before has left is the condition.
        let last_etag = Arc::clone(&self.last_etag);
        Guard::IfUnchanged(lock(&last_etag).clone()).add_to(&mut request);
        let change = Change { entry: Arc::clone(&self.entry), offset };
        self.in_flight.spawn(async move {
            let etag = change.apply(&account, &what, &request).await?;
            *lock(&last_etag) = etag;
            Ok(())
        });
        Ok(())
    }

    fn next_block_id(&mut self) -> String {
        let mut id = self.id_start.to_vec();
        id.extend_from_slice(&(self.block_ids.len() as u32).to_be_bytes());
        let id = STANDARD.encode(id);
        self.block_ids.push(id.clone());
        id
    }

    async fn one_done(&mut self) -> Result<(), SourceError> {
        match self.in_flight.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(SourceError::new(
                SourceErrorKind::Unavailable,
                format!("the upload of {} was cut short: {error}", self.entry.display_name()),
            )),
            None => Ok(()),
        }
    }

    /// The entry's MD5 if it is that of the bytes that were written.
    fn confirmed_md5(&mut self) -> Option<[u8; 16]> {
        let own: [u8; 16] = self.md5.take()?.finalize().into();
        if self.entry.content_md5 == Some(own) {
            return Some(own);
        }
        self.lost.push("the stored MD5: it was not that of the content".to_owned());
        None
    }

    async fn commit_blocks(&mut self) -> Result<Written, SourceError> {
        let md5 = self.confirmed_md5();
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for id in &self.block_ids {
            list.push_str("<Latest>");
            list.push_str(&xml::escape(id));
            list.push_str("</Latest>");
        }
        list.push_str("</BlockList>");
        let mut request = self.request().query("comp", "blocklist");
        if let Some(md5) = md5 {
            properties::add_md5(&mut request, md5);
        }
        let body = Bytes::from(list);
        request.try_header("x-ms-content-crc64", &checksum::crc64_base64(&body));
        let request = request.body(body);
        let done = self.account.commit(&self.entry, &request, &self.guard, md5).await?;
        AzureAccount::resolve(&self.entry, self.on_conflict, done)
    }

    /// What an append or page blob gets once its content is there: its MD5, and the seal.
    async fn settle(&mut self) -> Result<(), SourceError> {
        let shown = self.entry.display_name();
        if let Some(md5) = self.confirmed_md5() {
            let mut request = self.request().query("comp", "properties");
            // This call sets all of them or clears those that are not named.
            properties::add_content_headers(&mut request, &self.entry, &mut Vec::new());
            properties::add_md5(&mut request, md5);
            let response = self.account.inner.http.expect(&format!("set the MD5 of {shown}"), &request, &[200]).await?;
            note_etag(&self.last_etag, &response);
        }
        if matches!(self.entry.kind, BlobKind::Append { sealed: true }) {
            let request = self.request().query("comp", "seal");
            let response = self.account.inner.http.expect(&format!("seal {shown}"), &request, &[200]).await?;
            note_etag(&self.last_etag, &response);
        }
        Ok(())
    }

    /// An error that leaves half a blob where another one was says so.
    fn explained(&self, mut error: SourceError) -> SourceError {
        if self.in_place == InPlace::Replaced {
            error.message.push_str(
                ": the blob that was there is already replaced and the new one is incomplete: restore this blob again",
            );
        }
        error
    }

    async fn take(&mut self, part: Bytes) -> Result<(), SourceError> {
        let mut rest = part;
        while !rest.is_empty() {
            // A part that is whole already is not copied.
            if self.filling.is_empty() && rest.len() >= self.part_bytes {
                let whole = rest.split_to(self.part_bytes);
                self.send_part(whole).await?;
                continue;
            }
            if self.filling.capacity() == 0 {
                let left_bytes = self.entry.size_bytes.saturating_sub(self.sent_bytes);
                self.filling = BytesMut::with_capacity(self.part_bytes.min(left_bytes as usize));
            }
            let room = self.part_bytes - self.filling.len();
            let taken = rest.split_to(room.min(rest.len()));
            self.filling.extend_from_slice(&taken);
            if self.filling.len() == self.part_bytes {
                let full = std::mem::take(&mut self.filling).freeze();
                self.send_part(full).await?;
            }
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<Written, SourceError> {
        let last = std::mem::take(&mut self.filling).freeze();
        let given_bytes = self.sent_bytes + last.len() as u64;
        if given_bytes != self.entry.size_bytes {
            return Err(SourceError::new(
                SourceErrorKind::Protocol,
                format!(
                    "{given_bytes} bytes were given for {} of {} bytes",
                    self.entry.display_name(),
                    self.entry.size_bytes
                ),
            ));
        }
        if !last.is_empty() {
            self.send_part(last).await?;
        }
        self.ensure_made().await?;
        while !self.in_flight.is_empty() {
            self.one_done().await?;
        }
        let mut written = match self.entry.kind {
            BlobKind::Block => self.commit_blocks().await?,
            _ => {
                self.settle().await?;
                self.in_place = InPlace::Complete;
                Written::Written { lost: Vec::new() }
            }
        };
        if let Written::Written { lost } = &mut written {
            lost.append(&mut self.lost);
        }
        Ok(written)
    }
}

#[async_trait]
impl BlobWriter for Upload {
    async fn write(&mut self, part: Bytes) -> Result<(), SourceError> {
        let outcome = self.take(part).await;
        outcome.map_err(|error| self.explained(error))
    }

    async fn finish(mut self: Box<Self>) -> Result<Written, SourceError> {
        let outcome = self.complete().await;
        outcome.map_err(|error| self.explained(error))
    }
}

/// One write to an append or page blob, under the condition that nobody else has written since ours before.
struct Change {
    entry: Arc<BlobEntry>,
    offset: u64,
}

impl Change {
    /// Sends it; returns the ETag that it leaves.
    async fn apply(&self, account: &AzureAccount, what: &str, request: &Request) -> Result<String, SourceError> {
        let http = &account.inner.http;
        let response = http.send(what, request).await?;
        if response.status.as_u16() == 201 {
            account.check_answer(what, request, &response)?;
            let etag = response.header("etag").ok_or_else(|| account.nonsense(what, "it has no ETag"))?;
            return Ok(xml::plain_etag(etag));
        }
        // An earlier try may have taken effect and its answer was lost.
        if response.status.as_u16() == 412
            && response.tries > 1
            && let Some(etag) = self.etag_if_applied(account, what, request).await?
        {
            return Ok(etag);
        }
        Err(fault::error_of(what, http.shown(), &response))
    }

    /// The blob's ETag if our bytes are where they belong, and for append blobs the last ones.
    async fn etag_if_applied(
        &self,
        account: &AzureAccount,
        what: &str,
        written: &Request,
    ) -> Result<Option<String>, SourceError> {
        let Some(there) = account.head(&self.entry).await? else { return Ok(None) };
        let end = self.offset + written.body.len() as u64;
        let size_bytes = if matches!(self.entry.kind, BlobKind::Append { .. }) { end } else { self.entry.size_bytes };
        if there.size_bytes != size_bytes {
            return Ok(None);
        }
        let mut request = Request::new(Method::GET, Some(&self.entry.container), Some(&self.entry.name));
        request.try_header("x-ms-range", &format!("bytes={}-{}", self.offset, end - 1));
        Guard::IfUnchanged(there.etag.clone()).add_to(&mut request);
        let response = account.inner.http.expect(what, &request, &[200, 206]).await?;
        let from = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let found = match response.status.as_u16() {
            206 => response.body.get(..),
            _ => response.body.get(from..from.saturating_add(written.body.len())),
        };
        Ok((found == Some(&written.body[..])).then_some(there.etag))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let shown = self.entry.display_name();
        match self.in_place {
            InPlace::Untouched | InPlace::Complete => return,
            InPlace::Replaced => {
                tracing::warn!(blob = shown, "it was being replaced and is now incomplete: restore it again");
                return;
            }
            InPlace::Made => {}
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(blob = shown, "an unfinished blob stays behind");
            return;
        };
        let (account, entry) = (self.account.clone(), Arc::clone(&self.entry));
        let (last_etag, mut in_flight) = (Arc::clone(&self.last_etag), std::mem::take(&mut self.in_flight));
        runtime.spawn(async move {
            // A write that is under way changes the ETag.
            while in_flight.join_next().await.is_some() {}
            let etag = lock(&last_etag).clone();
            let what = format!("remove the unfinished {}", entry.display_name());
            let mut request = Request::new(Method::DELETE, Some(&entry.container), Some(&entry.name));
            // Without the condition this could hit the blob of a second attempt.
            Guard::IfUnchanged(etag).add_to(&mut request);
            if let Err(error) = account.inner.http.expect(&what, &request, &[202, 404]).await {
                tracing::warn!(%error, "an unfinished blob stays behind");
            }
        });
    }
}

fn note_etag(last: &Mutex<String>, response: &Response) {
    if let Some(etag) = response.header("etag") {
        *lock(last) = xml::plain_etag(etag);
    }
}

fn lock(etag: &Mutex<String>) -> MutexGuard<'_, String> {
    etag.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks of 8 MiB, larger where 50,000 of them would not do; whole mebibytes.
fn block_bytes(size_bytes: u64) -> usize {
    let least = size_bytes.div_ceil(MOST_BLOCKS).div_ceil(1 << 20) << 20;
    usize::try_from(least.max(BLOCK_BYTES)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_blob() {
        assert_eq!(block_bytes(0), 8 << 20);
        assert_eq!(block_bytes(50_000 * (8 << 20)), 8 << 20);
        assert_eq!(block_bytes(50_000 * (8 << 20) + 1), 9 << 20);
        let tib = 1_u64 << 40;
        assert!(tib.div_ceil(block_bytes(tib) as u64) <= 50_000);
    }
}
