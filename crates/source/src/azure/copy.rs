//! Making a version that the account keeps the current blob again, inside the account: no content comes by here.
//!
//! With a SAS, block blobs of up to 256 MiB go by Copy Blob From URL, which is done when it answers; its source must be readable without any
//! other credential, so the SAS goes along in the address. Everything else goes by Copy Blob, which the account does on its own, and which may
//! read sources of the same account by the right of the request itself. Content headers and metadata come with a copy, tags and tier do not.
//!
//! A copy goes on when nobody waits for it. So whoever finds the blob to be another than it was looks first whether it is this very copy.
//!
//! Content headers can be changed without a new version, and a version keeps only the last ones. So the copy is made on the condition that the
//! version is still as it was; where it is not, the headers are set afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use blobkeep_vault::{BlobEntry, BlobKind, SourceError, SourceErrorKind, Written};
use bytes::Bytes;
use http::Method;

use super::http_client::{Request, Response};
use super::writer::Guard;
use super::{AzureAccount, fault, path, properties, tags, xml};

/// "Copy Blob From URL", remarks.
const SYNCHRONOUS_LIMIT_BYTES: u64 = 256 << 20;
/// Looks at a copy that makes no progress before it is given up.
const MOST_IDLE_LOOKS: u32 = 240;

/// What is still asked for of the properties that a copy does not bring.
#[derive(Debug, Clone, Copy)]
struct Extras {
    tags: bool,
    tier: bool,
}

/// A copy that is there.
struct Copied {
    etag: String,
    /// The version has other content headers than it had when the entry was made.
    has_other_headers: bool,
}

impl AzureAccount {
    /// See [`blobkeep_vault::Target::copy_version`].
    pub(super) async fn make_current(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
    ) -> Result<Written, SourceError> {
        self.check_scope(&entry.container)?;
        let mut lost = Vec::new();
        match live {
            Some(live) if is_version(entry, version, live) => self.adjust(entry, live, &mut lost).await?,
            _ => {
                let copied = self.copy(entry, version, live, &mut lost).await?;
                if copied.has_other_headers {
                    self.set_headers(entry, &copied.etag, &mut lost).await?;
                }
            }
        }
        Ok(Written::Written { lost })
    }

    /// The blob has that version's content already: only what can change without a new version may be different.
    async fn adjust(&self, entry: &BlobEntry, live: &BlobEntry, lost: &mut Vec<String>) -> Result<(), SourceError> {
        if live.etag != entry.etag && (entry.kind != BlobKind::Block || live.size_bytes != entry.size_bytes) {
            return Err(written_in_place(entry));
        }
        self.adjust_properties(entry, live, lost).await
    }

    async fn adjust_properties(
        &self,
        entry: &BlobEntry,
        live: &BlobEntry,
        lost: &mut Vec<String>,
    ) -> Result<(), SourceError> {
        let has_other_headers = live.headers != entry.headers || live.content_md5 != entry.content_md5;
        if live.etag != entry.etag && has_other_headers {
            self.set_headers(entry, &live.etag, lost).await?;
        }
        if live.tags != entry.tags {
            self.set_tags(entry, live, lost).await?;
        }
        match (properties::tier_for(entry), &live.tier) {
            (Some(tier), there) if there.as_deref() != Some(tier) => self.set_tier(entry, tier, live, lost).await?,
            (None, Some(there)) if entry.tier.is_none() => {
                lost.push(format!(
                    "access tier: it was inherited, and {there} has been set since, which cannot be taken back"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    async fn copy(
        &self,
        entry: &BlobEntry,
        version: &str,
        live: Option<&BlobEntry>,
        lost: &mut Vec<String>,
    ) -> Result<Copied, SourceError> {
        let what = format!("copy version {version} of {}/{} over it", entry.container, entry.name);
        let guard = match live {
            Some(live) => Guard::IfUnchanged(live.etag.clone()),
            None => Guard::IfAbsent,
        };
        let mut extras = self.extras(entry, lost);
        let mut is_as_it_was = !entry.etag.is_empty();
        loop {
            let request = self.copy_request(entry, version, &guard, extras, is_as_it_was);
            let response = self.inner.http.send(&what, &request).await?;
            let (status, code) = (response.status.as_u16(), fault::code_of(&response));
            match (status, code.as_str()) {
                (201 | 202, _) => {
                    let etag = self.finished_copy(entry, &response, &what).await?;
                    return Ok(Copied { etag, has_other_headers: !entry.etag.is_empty() && !is_as_it_was });
                }
                (412, "SourceConditionNotMet") if is_as_it_was => {
                    if entry.kind != BlobKind::Block {
                        return Err(written_in_place(entry));
                    }
                    is_as_it_was = false;
                }
                (412, "ConditionNotMet" | "TargetConditionNotMet" | "")
                | (409, "BlobAlreadyExists" | "PendingCopyOperation") => {
                    return self.earlier_copy(entry, version, &response, &what, lost).await;
                }
                _ => {
                    let Some((less, words)) = give_up_on(status, &code, extras) else {
                        return Err(fault::error_of(&what, self.inner.http.shown(), &response));
                    };
                    self.remember_lost(status, extras, less);
                    extras = less;
                    lost.push(words.to_owned());
                }
            }
        }
    }

    fn copy_request(
        &self,
        entry: &BlobEntry,
        version: &str,
        guard: &Guard,
        extras: Extras,
        is_as_it_was: bool,
    ) -> Request {
        let mut request = Request::new(Method::PUT, Some(&entry.container), Some(&entry.name));
        request.secret_header("x-ms-copy-source", &self.inner.http.version_url(&entry.container, &entry.name, version));
        if self.inner.http.has_sas() && entry.kind == BlobKind::Block && entry.size_bytes <= SYNCHRONOUS_LIMIT_BYTES {
            request = request.header("x-ms-requires-sync", "true");
        }
        if is_as_it_was {
            request.try_header("x-ms-source-if-match", &format!("\"{}\"", entry.etag));
        }
        guard.add_to(&mut request);
        if extras.tags {
            request.try_header("x-ms-tags", &properties::tags_value(&entry.tags));
        }
        if let Some(tier) = properties::tier_for(entry).filter(|_| extras.tier) {
            request.try_header("x-ms-access-tier", tier);
        }
        request
    }

    /// Tags and tier as far as there are any, and the endpoint has not refused to write them before.
    fn extras(&self, entry: &BlobEntry, lost: &mut Vec<String>) -> Extras {
        let refused = &self.inner.refused;
        let mut extras = Extras { tags: !entry.tags.is_empty(), tier: properties::tier_for(entry).is_some() };
        for (flag, refused, words) in
            [(&mut extras.tags, &refused.write_tags, TAGS_LOST), (&mut extras.tier, &refused.write_tier, TIER_LOST)]
        {
            if *flag && refused.load(Ordering::Relaxed) {
                *flag = false;
                lost.push(words.to_owned());
            }
        }
        extras
    }

    fn remember_lost(&self, status: u16, asked: Extras, granted: Extras) {
        // A right or feature that is missing is missing for every blob; a bad value is one blob's own.
        if !matches!(status, 403 | 500 | 501) {
            return;
        }
        let refused = &self.inner.refused;
        refused.write_tags.fetch_or(asked.tags && !granted.tags, Ordering::Relaxed);
        refused.write_tier.fetch_or(asked.tier && !granted.tier, Ordering::Relaxed);
    }

    /// The blob is no longer the one that is to be replaced. Because this copy was begun before, by a try whose answer was lost or by a restore
    /// that ended while the account was still at it: then it is waited for. Or because of somebody else.
    async fn earlier_copy(
        &self,
        entry: &BlobEntry,
        version: &str,
        refusal: &Response,
        what: &str,
        lost: &mut Vec<String>,
    ) -> Result<Copied, SourceError> {
        let there = self.look_at_copy(entry, what).await?;
        // Pages are written in place without a trace in size or marks: of a copy that is complete only this very request may be the maker.
        let may_be_ours = !matches!(entry.kind, BlobKind::Page { .. }) || is_pending(&there) || refusal.tries > 1;
        if may_be_ours && is_copy_of(&there, entry, version) {
            let etag = self.finished_copy(entry, &there, what).await?;
            let live = self.version(&entry.container, &entry.name, None, true).await?.map(|live| live.entry);
            // Not every write takes away the marks of a copy: setting metadata and appending blocks leave them.
            if let Some(live) = live.filter(|live| live.etag == etag && has_what_a_copy_brings(live, entry)) {
                lost.clear();
                self.adjust_properties(entry, &live, lost).await?;
                return Ok(Copied { etag, has_other_headers: false });
            }
        }
        let mut error = fault::error_of(what, self.inner.http.shown(), refusal);
        if error.kind == SourceErrorKind::Conflict {
            error.kind = SourceErrorKind::Changed;
        }
        Err(error)
    }

    async fn look_at_copy(&self, entry: &BlobEntry, what: &str) -> Result<Response, SourceError> {
        let request = Request::new(Method::HEAD, Some(&entry.container), Some(&entry.name));
        self.inner.http.expect(what, &request, &[200, 404]).await
    }

    /// Waits until a copy is complete; its ETag.
    ///
    /// Nothing asks whether to stop in between: an account mostly copies within itself at once, and one that does not get on is given up. Who
    /// drops the future leaves a copy behind that goes on, and that the next try finds and waits for.
    async fn finished_copy(&self, entry: &BlobEntry, answer: &Response, what: &str) -> Result<String, SourceError> {
        let etag = |response: &Response| response.header("etag").map(xml::plain_etag).unwrap_or_default();
        let failed = |kind, reason: &str| {
            SourceError::new(kind, format!("cannot {what} at {}: {reason}", self.inner.http.shown()))
        };
        if !is_pending(answer) {
            return Ok(etag(answer));
        }
        let copy_id = answer.header("x-ms-copy-id").unwrap_or_default().to_owned();
        let (mut looks, mut idle_looks, mut progress) = (0, 0, String::new());
        while idle_looks < MOST_IDLE_LOOKS {
            looks += 1;
            tokio::time::sleep(self.inner.http.copy_delay(looks)).await;
            let there = self.look_at_copy(entry, what).await?;
            if there.header("x-ms-copy-id") != Some(copy_id.as_str()) {
                return Err(failed(SourceErrorKind::Changed, "somebody else wrote or deleted the blob meanwhile"));
            }
            match there.header("x-ms-copy-status") {
                Some("success") => return Ok(etag(&there)),
                Some("pending") => {}
                other => {
                    let words = there.header("x-ms-copy-status-description").unwrap_or("the account does not say why");
                    let reason = format!("the account ended the copy as {}: {words}", other.unwrap_or("nothing known"));
                    return Err(failed(SourceErrorKind::Unavailable, &reason));
                }
            }
            let now = there.header("x-ms-copy-progress").unwrap_or_default();
            idle_looks = if now == progress { idle_looks + 1 } else { 0 };
            now.clone_into(&mut progress);
        }
        self.abort_copy(entry, &copy_id).await;
        Err(failed(SourceErrorKind::Unavailable, "the account's copy made no progress and was given up"))
    }

    async fn abort_copy(&self, entry: &BlobEntry, copy_id: &str) {
        let what = format!("give up the copy of {}", entry.display_name());
        let request = Request::new(Method::PUT, Some(&entry.container), Some(&entry.name))
            .query("comp", "copy")
            .query("copyid", copy_id)
            .header("x-ms-copy-action", "abort");
        if let Err(error) = self.inner.http.expect(&what, &request, &[204, 409]).await {
            tracing::warn!(%error, "a copy goes on that was given up");
        }
    }

    async fn set_headers(&self, entry: &BlobEntry, etag: &str, lost: &mut Vec<String>) -> Result<(), SourceError> {
        let what = format!("set the properties of {}", entry.display_name());
        let mut request =
            Request::new(Method::PUT, Some(&entry.container), Some(&entry.name)).query("comp", "properties");
        properties::add_content_headers(&mut request, entry, lost);
        if let Some(md5) = entry.content_md5 {
            properties::add_md5(&mut request, md5);
        }
        if !etag.is_empty() {
            Guard::IfUnchanged(etag.to_owned()).add_to(&mut request);
        }
        let response = self.inner.http.send(&what, &request).await?;
        match response.status.as_u16() {
            200 => Ok(()),
            // The answer of a first try was lost: it has changed the ETag.
            412 if response.tries > 1 && self.has_headers(entry).await? => Ok(()),
            _ => Err(fault::error_of(&what, self.inner.http.shown(), &response)),
        }
    }

    async fn has_headers(&self, entry: &BlobEntry) -> Result<bool, SourceError> {
        let there = self.version(&entry.container, &entry.name, None, false).await?;
        Ok(there
            .is_some_and(|there| there.entry.headers == entry.headers && there.entry.content_md5 == entry.content_md5))
    }

    async fn set_tags(&self, entry: &BlobEntry, live: &BlobEntry, lost: &mut Vec<String>) -> Result<(), SourceError> {
        let what = format!("set the tags of {}", entry.display_name());
        let request = of_live(entry, live)
            .query("comp", "tags")
            .header("content-type", "application/xml; charset=utf-8")
            .body(Bytes::from(tags::tags_body(&entry.tags)));
        self.set(&what, &request, &self.inner.refused.write_tags, TAGS_LOST, lost).await
    }

    async fn set_tier(
        &self,
        entry: &BlobEntry,
        tier: &str,
        live: &BlobEntry,
        lost: &mut Vec<String>,
    ) -> Result<(), SourceError> {
        let what = format!("set the access tier of {}", entry.display_name());
        let mut request = of_live(entry, live).query("comp", "tier");
        request.try_header("x-ms-access-tier", tier);
        self.set(&what, &request, &self.inner.refused.write_tier, TIER_LOST, lost).await
    }

    /// Sets what a blob can do without: a right or feature that is missing is reported as lost.
    async fn set(
        &self,
        what: &str,
        request: &Request,
        refused: &AtomicBool,
        words: &str,
        lost: &mut Vec<String>,
    ) -> Result<(), SourceError> {
        if !refused.load(Ordering::Relaxed) {
            let response = self.inner.http.send(what, request).await?;
            match response.status.as_u16() {
                200 | 202 | 204 => return Ok(()),
                403 | 501 => refused.store(true, Ordering::Relaxed),
                _ => return Err(fault::error_of(what, self.inner.http.shown(), &response)),
            }
        }
        lost.push(words.to_owned());
        Ok(())
    }
}

const TAGS_LOST: &str = "index tags: the endpoint refused them";
const TIER_LOST: &str = "access tier: the endpoint refused it";

/// Whether the blob that is there has that version's content.
fn is_version(entry: &BlobEntry, version: &str, live: &BlobEntry) -> bool {
    let is_same = !entry.etag.is_empty() && live.etag == entry.etag && live.size_bytes == entry.size_bytes;
    is_same || live.current_version.as_deref() == Some(version)
}

/// A request about exactly the version that was seen, where that is known.
fn of_live(entry: &BlobEntry, live: &BlobEntry) -> Request {
    let request = Request::new(Method::PUT, Some(&entry.container), Some(&entry.name));
    match &live.current_version {
        Some(version) => request.query("versionid", version.clone()),
        None => request,
    }
}

fn is_pending(there: &Response) -> bool {
    there.header("x-ms-copy-status") == Some("pending")
}

/// Whether the blob that is there was copied from that version. Endpoints may leave the query out of the source that they show; then the stored
/// MD5 must do.
fn is_copy_of(there: &Response, entry: &BlobEntry, version: &str) -> bool {
    let source = there.header("x-ms-copy-source").unwrap_or_default();
    let marks = [format!("versionid={version}"), format!("versionid={}", path::encode(version))];
    let is_of_version = match source.split_once('?') {
        Some((_, query)) => query.split('&').any(|part| marks.iter().any(|mark| mark == part)),
        None => {
            let md5 = there.header("content-md5").and_then(xml::md5_from_base64);
            let is_same_blob = source.ends_with(&format!("/{}", path::encode_blob(&entry.name)));
            is_same_blob && md5.is_some() && md5 == entry.content_md5
        }
    };
    is_of_version && matches!(there.header("x-ms-copy-status"), Some("success" | "pending"))
}

/// Whether it has all that can only be changed by writing a blob anew. Headers tell names of metadata in small letters.
fn has_what_a_copy_brings(live: &BlobEntry, entry: &BlobEntry) -> bool {
    let metadata = |entry: &BlobEntry| -> BTreeMap<String, String> {
        entry.metadata.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    live.size_bytes == entry.size_bytes && metadata(live) == metadata(entry)
}

fn written_in_place(entry: &BlobEntry) -> SourceError {
    SourceError::new(
        SourceErrorKind::Refused,
        format!(
            "{} was written in place since then, and the account keeps no version of it as it was: append and page blobs have \
             a new version only when they are made anew",
            entry.display_name()
        ),
    )
}

/// What to leave out after the endpoint refused a copy; `None` if the refusal has nothing to do with tags and tier.
fn give_up_on(status: u16, code: &str, extras: Extras) -> Option<(Extras, &'static str)> {
    let is_right_or_feature = matches!(status, 403 | 501)
        || code.starts_with("FeatureNotSupported")
        || code.starts_with("FeatureNotYetSupported")
        || code == "UnsupportedHeader";
    let may_be = |word: &str| code.contains(word) || (is_right_or_feature && code != "AuthenticationFailed");
    if extras.tags && may_be("Tag") {
        return Some((Extras { tags: false, ..extras }, TAGS_LOST));
    }
    // Moving and missing blobs have codes with this word, too.
    if extras.tier && status != 404 && code != "BlobArchived" && may_be("Tier") {
        return Some((Extras { tier: false, ..extras }, TIER_LOST));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_is_left_out_of_a_copy() {
        let both = Extras { tags: true, tier: true };
        let less = |status, code| give_up_on(status, code, both).map(|(less, _)| (less.tags, less.tier));
        assert_eq!(less(403, "AuthorizationPermissionMismatch"), Some((false, true)));
        assert_eq!(less(409, "BlobTagsNotSupportedForAccountType"), Some((false, true)));
        assert_eq!(less(400, "InvalidBlobTier"), Some((true, false)));
        for (status, code) in [
            (403, "AuthenticationFailed"),
            (404, "BlobNotFound"),
            (409, "BlobArchived"),
            (409, "BlobImmutableDueToPolicy"),
            (412, "LeaseIdMissing"),
            (409, "PendingCopyOperation"),
        ] {
            assert_eq!(less(status, code), None, "{code}");
        }
        assert!(give_up_on(403, "AuthorizationPermissionMismatch", Extras { tags: false, tier: false }).is_none());
    }

    #[test]
    fn a_blob_is_a_version_by_its_id_or_by_its_mark() {
        let entry = BlobEntry { etag: "0x1".into(), size_bytes: 3, ..BlobEntry::default() };
        let live = |etag: &str, version: Option<&str>| BlobEntry {
            etag: etag.into(),
            current_version: version.map(str::to_owned),
            ..entry.clone()
        };
        assert!(is_version(&entry, "v1", &live("0x1", Some("v2"))));
        assert!(is_version(&entry, "v1", &live("0x2", Some("v1"))), "its headers were changed");
        assert!(!is_version(&entry, "v1", &live("0x2", None)));
        let unknown = BlobEntry::default();
        assert!(!is_version(&unknown, "v1", &unknown));
    }
}
