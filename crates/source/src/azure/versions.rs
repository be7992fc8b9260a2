//! Versions of a blob that the account keeps: what one of them is, and which there are.

use std::sync::atomic::Ordering;

use blobkeep_vault::item::Immutability;
use blobkeep_vault::{BlobEntry, BlobKind, ContentHeaders, SourceError, SourceErrorKind, Timestamp};
use http::Method;

use super::http_client::{Request, Response};
use super::reader::{Page, Rows};
use super::{AzureAccount, clock, fault, tags, xml};

/// A version, or the current blob, as a request for it alone shows it.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// With its own id as [`BlobEntry::current_version`], whether it is the current one or not. Without tags, and metadata names are in small
    /// letters: headers have no others.
    pub(super) entry: BlobEntry,
    pub(super) is_current: bool,
    /// The tier that it is in, set or inherited.
    pub(super) tier: Option<String>,
    pub(super) has_tags: bool,
    /// A mark for a folder, which listings leave out.
    pub(super) is_folder: bool,
}

/// A version that the account keeps, as a row of a listing tells it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// `None` for a current blob that was written while the account kept no versions.
    pub(super) id: Option<String>,
    /// To the second.
    pub(super) modified_at: Timestamp,
    /// When the blob was made that it is a version of, to the second. Writing over a blob leaves that as it is; a blob that was deleted and made
    /// again is another one.
    pub(super) blob_created_at: Timestamp,
}

impl AzureAccount {
    /// A version of a blob, or its current state; `None` if that is gone. One request, two for metadata or tags.
    ///
    /// Tags are looked up only if `needs_tags`.
    pub(super) async fn version(
        &self,
        container: &str,
        name: &str,
        version: Option<&str>,
        needs_tags: bool,
    ) -> Result<Option<Version>, SourceError> {
        let Some(mut found) = self.version_head(container, name, version).await? else { return Ok(None) };
        let mut needs_tags = needs_tags && found.has_tags && !self.inner.refused.list_tags.load(Ordering::Relaxed);
        // A row of a listing has metadata names with their capital letters, and tags.
        if found.is_current
            && !found.entry.metadata.is_empty()
            && let Some(row) = self.first_entry(container, name).await?
            && row.name == name
            && row.etag == found.entry.etag
        {
            (found.entry.metadata, found.entry.tags) = (row.metadata, row.tags);
            needs_tags = false;
        }
        if needs_tags {
            found.entry.tags = self.tags(container, name, version).await?;
        }
        Ok(Some(found))
    }

    async fn version_head(
        &self,
        container: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<Version>, SourceError> {
        self.check_scope(container)?;
        let what = match version {
            Some(version) => format!("look at {container}/{name} (version {version})"),
            None => format!("look at {container}/{name}"),
        };
        let request = with_version(Request::new(Method::HEAD, Some(container), Some(name)), version);
        let response = self.inner.http.expect(&what, &request, &[200, 404]).await?;
        if response.status.as_u16() == 404 {
            return Ok(None);
        }
        let version = version_of(&response)
            .map_err(|missing| self.nonsense(&what, &format!("it has no {missing} that can be read")))?;
        let entry = BlobEntry { container: container.to_owned(), name: name.to_owned(), ..version.entry };
        Ok(Some(Version { entry, ..version }))
    }

    /// Tags of a version; none if they may not be read, which the report then says.
    async fn tags(
        &self,
        container: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Vec<(String, String)>, SourceError> {
        let what = format!("read the tags of {container}/{name}");
        let request = Request::new(Method::GET, Some(container), Some(name)).query("comp", "tags");
        let response = self.inner.http.send(&what, &with_version(request, version)).await?;
        match response.status.as_u16() {
            200 => tags::parse_tags(&response.body).map_err(|reason| self.nonsense(&what, &reason)),
            // Gone since it was looked at.
            404 => Ok(Vec::new()),
            _ if self.cannot_list_tags(&response) => {
                self.inner.refused.list_tags.store(true, Ordering::Relaxed);
                Ok(Vec::new())
            }
            _ => Err(fault::error_of(&what, self.inner.http.shown(), &response)),
        }
    }

    /// The versions of a blob that are kept, the current one among them.
    pub(super) async fn kept_versions(&self, container: &str, name: &str) -> Result<Vec<Kept>, SourceError> {
        let mut kept = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = Page { rows: Rows::BareVersions, ..Page::of_prefix(name, cursor.as_deref(), "1000") };
            let page = match self.list_page(container, page).await {
                Ok(page) => page,
                Err(error) if error.kind == SourceErrorKind::NotFound => return Ok(kept),
                Err(error) => return Err(error),
            };
            // The name itself comes before those that begin with it.
            let is_past = page.entries.iter().any(|entry| entry.name != name);
            let of_blob = page.entries.into_iter().filter(|entry| entry.name == name);
            kept.extend(of_blob.map(|entry| Kept {
                id: entry.version.or(entry.current_version),
                modified_at: entry.modified_at,
                blob_created_at: entry.created_at,
            }));
            cursor = page.next;
            if is_past || cursor.is_none() {
                return Ok(kept);
            }
        }
    }
}

fn with_version(request: Request, version: Option<&str>) -> Request {
    match version {
        Some(version) => request.query("versionid", version),
        None => request,
    }
}

/// What the headers of an answer say ("Get Blob Properties", response headers); `Err` names what is missing.
fn version_of(response: &Response) -> Result<Version, &'static str> {
    let text = |name: &str| response.header(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let date = |name: &str| response.header(name).and_then(clock::parse_http_date);
    let is_true = |name: &str| response.header(name) == Some("true");
    let modified_at = date("last-modified").ok_or("Last-Modified")?;
    let mut metadata: Vec<(String, String)> = response
        .headers
        .iter()
        .filter_map(|(header, value)| {
            let name = header.as_str().strip_prefix("x-ms-meta-")?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        })
        .collect();
    metadata.sort();
    let kind = match response.header("x-ms-blob-type") {
        Some("AppendBlob") => BlobKind::Append { sealed: is_true("x-ms-blob-sealed") },
        Some("PageBlob") => BlobKind::Page {
            sequence_number: text("x-ms-blob-sequence-number").and_then(|text| text.parse().ok()).unwrap_or_default(),
        },
        _ => BlobKind::Block,
    };
    let tier = text("x-ms-access-tier");
    let size_bytes = text("content-length").and_then(|text| text.parse().ok()).ok_or("Content-Length")?;
    let is_folder = size_bytes == 0
        && metadata.iter().any(|(name, value)| name == "hdi_isfolder" && value.eq_ignore_ascii_case("true"));
    let entry = BlobEntry {
        kind,
        size_bytes,
        etag: response.header("etag").map(xml::plain_etag).ok_or("ETag")?,
        headers: ContentHeaders {
            content_type: text("content-type"),
            content_encoding: text("content-encoding"),
            content_language: text("content-language"),
            content_disposition: text("content-disposition"),
            cache_control: text("cache-control"),
        },
        content_md5: response.header("content-md5").and_then(xml::md5_from_base64),
        metadata,
        tier: tier.clone().filter(|_| !is_true("x-ms-access-tier-inferred")),
        created_at: date("x-ms-creation-time").unwrap_or(modified_at),
        modified_at,
        immutability: Immutability {
            legal_hold: is_true("x-ms-legal-hold"),
            until: date("x-ms-immutability-policy-until-date"),
            mode: text("x-ms-immutability-policy-mode"),
        },
        encryption_scope: text("x-ms-encryption-scope"),
        current_version: text("x-ms-version-id"),
        ..BlobEntry::default()
    };
    let has_tags = text("x-ms-tag-count").is_some_and(|count| count != "0");
    Ok(Version { is_current: is_true("x-ms-is-current-version"), tier, has_tags, is_folder, entry })
}
