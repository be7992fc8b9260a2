//! Listing and reading: one request for a page, one for a range. There must be no request per unchanged blob.

use std::ops::Range;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use blobkeep_vault::source::{ChangePage, FeedPosition};
use blobkeep_vault::{BlobEntry, ContainerEntry, ListPage, Source, SourceError, SourceErrorKind, TopLevel};
use bytes::Bytes;
use http::Method;

use super::http_client::{Request, Response};
use super::xml::BlobPage;
use super::{AzureAccount, checksum, fault, xml};

const PAGE_ENTRIES: &str = "5000";
/// The first version of the service that knows `startFrom` ("List Blobs", URI parameters).
const START_FROM_VERSION: &str = "2026-02-06";

/// What a page of blobs is asked for.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) prefix: &'a str,
    /// Names before this one are left out; empty for none.
    pub(super) from: &'a str,
    pub(super) cursor: Option<&'a str>,
    pub(super) most: &'static str,
    /// Empty for none.
    pub(super) delimiter: &'static str,
    pub(super) rows: Rows,
}

/// What the rows of a page say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rows {
    /// Everything of the current blobs.
    #[default]
    Full,
    /// Everything of all versions.
    FullVersions,
    /// Without metadata and tags.
    Bare,
    /// All versions, without metadata and tags.
    BareVersions,
}

impl Rows {
    fn include(self, with_tags: bool) -> Option<&'static str> {
        match (self, with_tags) {
            (Self::Full, true) => Some("metadata,tags"),
            (Self::Full, false) => Some("metadata"),
            (Self::FullVersions, true) => Some("metadata,tags,versions"),
            (Self::FullVersions, false) => Some("metadata,versions"),
            (Self::Bare, _) => None,
            (Self::BareVersions, _) => Some("versions"),
        }
    }
}

impl<'a> Page<'a> {
    pub(super) fn of_prefix(prefix: &'a str, cursor: Option<&'a str>, most: &'static str) -> Self {
        Self { prefix, from: "", cursor, most, delimiter: "", rows: Rows::Full }
    }
}

impl AzureAccount {
    async fn list_containers(&self, prefix: Option<&str>) -> Result<Vec<ContainerEntry>, SourceError> {
        let what = "list the containers";
        let mut containers = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut request = Request::new(Method::GET, None, None)
                .query("comp", "list")
                .query("include", "metadata")
                .query("maxresults", PAGE_ENTRIES);
            if let Some(prefix) = prefix {
                request = request.query("prefix", prefix);
            }
            if let Some(marker) = &marker {
                request = request.query("marker", marker);
            }
            let response = self.inner.http.expect(what, &request, &[200]).await?;
            let (page, next) = xml::parse_containers(&response.body).map_err(|reason| self.nonsense(what, &reason))?;
            containers.extend(page);
            if next.is_none() {
                break;
            }
            if next == marker {
                return Err(self.nonsense(what, "the same page again and again"));
            }
            marker = next;
        }
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    /// The one container that this client is limited to, from a listing where that is allowed: only listings give metadata
    /// names with their capital letters. A SAS of a container does not even allow to ask for its properties, so its bare
    /// existence, seen from an empty listing, must do.
    async fn only_container(&self, name: &str) -> Result<ContainerEntry, SourceError> {
        if let Ok(listed) = self.list_containers(Some(name)).await
            && let Some(entry) = listed.into_iter().find(|entry| entry.name == name)
        {
            return Ok(entry);
        }
        match self.container_properties(name).await {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) => Err(SourceError::new(
                SourceErrorKind::NotFound,
                format!("there is no container {name} at {}", self.inner.http.shown()),
            )),
            Err(error) if error.kind == SourceErrorKind::Denied => {
                self.list_page(name, Page::of_prefix("", None, "1")).await?;
                Ok(ContainerEntry { name: name.to_owned(), ..ContainerEntry::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// One page of blobs; index tags are left out once the endpoint has refused them.
    pub(super) async fn list_page(&self, container: &str, page: Page<'_>) -> Result<BlobPage, SourceError> {
        self.check_scope(container)?;
        let what = format!("list container {container}");
        let refused = &self.inner.refused.list_tags;
        let with_tags = !refused.load(Ordering::Relaxed) && matches!(page.rows, Rows::Full | Rows::FullVersions);
        let mut response = self.inner.http.send(&what, &list_request(container, page, with_tags)).await?;
        if with_tags && self.cannot_list_tags(&response) {
            let without = self.inner.http.send(&what, &list_request(container, page, false)).await?;
            if without.status.as_u16() == 200 {
                tracing::warn!(
                    container,
                    code = fault::code_of(&response),
                    "index tags cannot be listed: going on without"
                );
                refused.store(true, Ordering::Relaxed);
                response = without;
            }
        }
        if response.status.as_u16() != 200 {
            return Err(fault::error_of(&what, self.inner.http.shown(), &response));
        }
        // A page of 5,000 takes tens of milliseconds to read: not on the threads that serve sockets.
        let owned = container.to_owned();
        let parsed = tokio::task::spawn_blocking(move || xml::parse_blobs(&response.body, &owned))
            .await
            .map_err(|error| SourceError::new(SourceErrorKind::Unavailable, format!("cannot {what}: {error}")))?;
        let parsed = parsed.map_err(|reason| self.nonsense(&what, &reason))?;
        if parsed.next.is_some() && parsed.next.as_deref() == page.cursor {
            return Err(self.nonsense(&what, "the same page again and again"));
        }
        Ok(parsed)
    }

    /// Whether a listing was refused because of the tags in it. A refusal for another reason (a firewall, a clock, a lease)
    /// must stay an error: without its tags the next point would silently lose them.
    pub(super) fn cannot_list_tags(&self, response: &Response) -> bool {
        match response.status.as_u16() {
            // Without any credential every refusal is a missing right.
            401 | 403 | 404 | 409 if self.inner.http.is_anonymous() => true,
            400..=499 | 501 => is_missing_right_or_feature(&fault::code_of(response), &response.body),
            _ => false,
        }
    }

    /// The first blob whose name starts with `prefix`. A page may hold no blob and lead to another one all the same (folder
    /// marks, deleted blobs), so pages are followed until one holds something.
    pub(super) async fn first_entry(&self, container: &str, prefix: &str) -> Result<Option<BlobEntry>, SourceError> {
        let mut page = self.list_page(container, Page::of_prefix(prefix, None, "1")).await?;
        while page.entries.is_empty()
            && let Some(next) = page.next
        {
            page = self.list_page(container, Page::of_prefix(prefix, Some(&next), PAGE_ENTRIES)).await?;
        }
        Ok(page.entries.into_iter().next())
    }

    /// What ordinary listings ask for. Versions are told only where somebody wants them: the rows of all earlier versions come with them.
    fn listed_rows(&self) -> Rows {
        if self.tells_versions() { Rows::FullVersions } else { Rows::Full }
    }

    /// The entry of a current blob with its version, as long as it is still the same blob.
    async fn with_version(&self, mut entry: BlobEntry) -> Result<BlobEntry, SourceError> {
        if entry.current_version.is_none()
            && let Some(found) = self.version(&entry.container, &entry.name, None, false).await?
            && found.entry.etag == entry.etag
        {
            entry.current_version = found.entry.current_version;
        }
        Ok(entry)
    }

    async fn read_range(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.check_scope(&entry.container)?;
        let what = format!("read {}", entry.display_name());
        let is_whole = range.start == 0 && range.end == entry.size_bytes;
        let mut request = Request::new(Method::GET, Some(&entry.container), Some(&entry.name));
        if !entry.etag.is_empty() {
            request.try_header("if-match", &format!("\"{}\"", entry.etag));
        }
        if !is_whole {
            request.try_header("x-ms-range", &format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let response = self.inner.http.expect(&what, &request, &[200, 206]).await?;
        let wanted = range.end.saturating_sub(range.start);
        let body = match response.body.len() as u64 {
            length if length == wanted => response.body.clone(),
            // The whole blob although a range was asked for: legal in HTTP.
            length if response.status.as_u16() == 200 && length == entry.size_bytes => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                response.body.slice(at(range.start)..at(range.end))
            }
            length => return Err(self.nonsense(&what, &format!("{length} bytes instead of {wanted}"))),
        };
        if is_whole && !self.inner.http.keeps_bytes() && !fits_md5(&response) {
            self.read_again(&what, &request, &response.body).await?;
        }
        Ok(body)
    }

    /// On a way that could have changed them, the bytes do not fit the MD5 that is stored with the blob. Users may store any MD5 they like; so only bytes that
    /// come differently the second time are damaged.
    async fn read_again(&self, what: &str, request: &Request, first: &Bytes) -> Result<(), SourceError> {
        let again = self.inner.http.expect(what, request, &[200]).await?;
        if again.body != *first {
            return Err(
                self.nonsense(what, "the bytes do not fit the MD5 stored with them and change from read to read")
            );
        }
        tracing::warn!(what, "the MD5 stored with the blob is not that of its content: kept as it is");
        Ok(())
    }

    pub(super) fn nonsense(&self, what: &str, reason: &str) -> SourceError {
        SourceError::new(
            SourceErrorKind::Protocol,
            format!("cannot {what} at {}: the answer makes no sense: {reason}", self.inner.http.shown()),
        )
    }
}

fn fits_md5(response: &Response) -> bool {
    let stored = response.header("content-md5").and_then(xml::md5_from_base64);
    stored.is_none_or(|stored| checksum::md5_of(&response.body) == stored)
}

/// Codes by which endpoints say that the right to tags is missing, that the account has none (hierarchical namespaces,
/// premium accounts), or that they do not know that part of the call. "Status and error codes" of the Blob service's REST API.
fn is_missing_right_or_feature(code: &str, body: &[u8]) -> bool {
    match code {
        "AuthorizationPermissionMismatch"
        | "BlobTagsNotSupportedForAccountType"
        | "UnsupportedHeader"
        | "UnsupportedQueryParameter"
        | "APINotImplemented"
        | "NotImplemented" => true,
        // Said of any parameter; the answer names it.
        "InvalidQueryParameterValue" => {
            let name = b"<QueryParameterName>";
            let named = body.windows(name.len()).position(|part| part == name).map(|at| &body[at + name.len()..]);
            named.is_none_or(|rest| rest.trim_ascii_start().starts_with(b"include"))
        }
        code => code.starts_with("FeatureNotSupported") || code.starts_with("FeatureNotYetSupported"),
    }
}

fn list_request(container: &str, page: Page<'_>, with_tags: bool) -> Request {
    let mut request = Request::new(Method::GET, Some(container), None)
        .query("restype", "container")
        .query("comp", "list")
        .query("maxresults", page.most);
    if let Some(include) = page.rows.include(with_tags) {
        request = request.query("include", include);
    }
    if !page.prefix.is_empty() {
        request = request.query("prefix", page.prefix);
    }
    if !page.from.is_empty() {
        request = request.query("startFrom", page.from).header("x-ms-version", START_FROM_VERSION);
    }
    if !page.delimiter.is_empty() {
        request = request.query("delimiter", page.delimiter);
    }
    if let Some(cursor) = page.cursor {
        request = request.query("marker", cursor);
    }
    request
}

#[async_trait]
impl Source for AzureAccount {
    fn describe(&self) -> String {
        self.described()
    }

    fn limits(&self) -> Vec<String> {
        self.describe_limits()
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        match self.inner.container.clone() {
            Some(name) => Ok(vec![self.only_container(&name).await?]),
            None => self.list_containers(None).await,
        }
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let page = Page { rows: self.listed_rows(), ..Page::of_prefix(prefix, cursor, PAGE_ENTRIES) };
        self.list_page(container, page).await.map(current_ones)
    }

    /// By `startFrom`. Endpoints that are older refuse the parameter or the version that has it: they are not asked again.
    async fn list_from(
        &self,
        container: &str,
        from: &str,
        cursor: Option<&str>,
    ) -> Result<Option<ListPage>, SourceError> {
        let refused = &self.inner.refused.list_from;
        if refused.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let page = Page { from, rows: self.listed_rows(), ..Page::of_prefix("", cursor, PAGE_ENTRIES) };
        match self.list_page(container, page).await {
            Err(error) if error.kind == SourceErrorKind::Refused && cursor.is_none() => {
                tracing::info!(container, %error, "listings cannot begin at a name: going on with whole listings");
                refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            outcome => outcome.map(|page| Some(current_ones(page))),
        }
    }

    /// Not where versions are to be told: endpoints list them without folders only.
    async fn top_level(&self, container: &str) -> Result<Option<TopLevel>, SourceError> {
        if self.tells_versions() {
            return Ok(None);
        }
        let page = Page { delimiter: "/", ..Page::of_prefix("", None, PAGE_ENTRIES) };
        let BlobPage { entries, prefixes, next } = self.list_page(container, page).await?;
        Ok(next.is_none().then_some(TopLevel { entries, prefixes }))
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.read_range(entry, range).await
    }

    /// By a listing: it gives metadata names as they were written and index tags, and takes one request. The name itself
    /// comes first among those that start with it. Its version takes a second one.
    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        let found = self.first_entry(container, name).await?.filter(|entry| entry.name == name);
        match found {
            Some(entry) if self.tells_versions() => self.with_version(entry).await.map(Some),
            found => Ok(found),
        }
    }

    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        self.feed_end().await
    }

    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        self.feed_page(cursor).await
    }

    async fn list_versions(&self, container: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        let page = Page { rows: Rows::FullVersions, ..Page::of_prefix("", cursor, PAGE_ENTRIES) };
        let page = self.list_page(container, page).await?;
        Ok(ListPage { entries: page.entries, next: page.next })
    }
}

/// The current blobs of a page that may have rows of earlier versions, too.
fn current_ones(mut page: BlobPage) -> ListPage {
    page.entries.retain(|entry| entry.version.is_none());
    ListPage { entries: page.entries, next: page.next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_right_or_feature_takes_the_tags_out_of_a_listing() {
        for code in [
            "AuthorizationPermissionMismatch",
            "BlobTagsNotSupportedForAccountType",
            "FeatureNotSupported",
            "FeatureNotSupportedForAccount",
            "FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
            "UnsupportedHeader",
        ] {
            assert!(is_missing_right_or_feature(code, b""), "{code}");
        }
        for code in [
            "",
            "AuthenticationFailed",
            "AuthorizationFailure",
            "AuthorizationSourceIPMismatch",
            "AccountIsDisabled",
            "ContainerBeingDeleted",
            "PublicAccessNotPermitted",
            "OutOfRangeInput",
        ] {
            assert!(!is_missing_right_or_feature(code, b""), "{code}");
        }
        let invalid = |body: &[u8]| is_missing_right_or_feature("InvalidQueryParameterValue", body);
        assert!(invalid(b"<Error><QueryParameterName>include</QueryParameterName></Error>"));
        assert!(!invalid(b"<Error><QueryParameterName>marker</QueryParameterName></Error>"));
        assert!(invalid(b"<Error></Error>"), "it does not say which one: the second try will tell");
    }
}
