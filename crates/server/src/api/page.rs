//! Pages of lists: after which row a page begins, how many rows it has, and the link to the next one.
//!
//! A page begins behind the last row of the one before, not at a number of rows: what is made or removed meanwhile neither doubles nor
//! hides another row. The order is that of the folded ids, or, of what happens in time, newest first.
//!
//! A `$skipToken` names the last row that was shown and nothing else. So it tells its holder nothing new, and it holds for ever.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blobkeep_arm::id::fold;
use blobkeep_arm::{ApiError, ErrorCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{Answer, Request};
use crate::App;
use crate::db::deleted_vaults::DeletedVault;
use crate::db::guards::Guard;
use crate::db::instances::StoredInstance;
use crate::db::jobs::Job;
use crate::db::points::Point;
use crate::db::policies::{PolicyVersion, StoredPolicy};
use crate::db::resource_groups::ResourceGroup;
use crate::db::storage_accounts::StorageAccount;
use crate::db::vaults::Vault;
use crate::error::{ApiResult, fault};

const SKIP_TOKEN: &str = "$skipToken";
/// About what a row takes as text.
const ROW_BYTES: usize = 1500;
/// What stays as it is in a link, in its path and in its query.
const LINK: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'$').remove(b'(').remove(b')');

/// The place of a row in the order of its list.
pub(super) trait Place: Sized {
    /// The text that a token holds.
    fn write(&self) -> String;
    /// The place in that text; none if it is the text of no such place.
    fn read(text: &str) -> Option<Self>;
}

/// The folded id of a resource.
impl Place for String {
    fn write(&self) -> String {
        self.clone()
    }

    fn read(text: &str) -> Option<Self> {
        text.starts_with('/').then(|| text.to_owned())
    }
}

/// Creation time (µs) or number, and id, of something in a list that begins with the newest.
impl Place for (i64, String) {
    fn write(&self) -> String {
        format!("{}_{}", self.0, self.1)
    }

    fn read(text: &str) -> Option<Self> {
        let (time, id) = text.split_once('_')?;
        Some((time.parse().ok()?, id.to_owned()))
    }
}

/// A row of a list that has pages.
pub(super) trait Listed {
    /// What the list is ordered by.
    type Place: Place;
    /// Where this row stands.
    fn place(&self) -> Self::Place;
}

impl Listed for Vault {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl Listed for DeletedVault {
    type Place = String;

    fn place(&self) -> String {
        self.vault.key.clone()
    }
}

impl Listed for Guard {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl Listed for StoredPolicy {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl Listed for PolicyVersion {
    type Place = (i64, String);

    fn place(&self) -> (i64, String) {
        (self.version, String::new())
    }
}

impl Listed for StoredInstance {
    type Place = String;

    fn place(&self) -> String {
        self.key.clone()
    }
}

impl Listed for StorageAccount {
    type Place = String;

    fn place(&self) -> String {
        fold(&self.id)
    }
}

impl Listed for ResourceGroup {
    type Place = String;

    fn place(&self) -> String {
        fold(&self.id)
    }
}

impl Listed for Point {
    type Place = (i64, String);

    fn place(&self) -> (i64, String) {
        (self.created_at, self.id.clone())
    }
}

impl Listed for Job {
    type Place = (i64, String);

    fn place(&self) -> (i64, String) {
        (self.created_at, self.id.clone())
    }
}

/// The page that a request asks for.
#[derive(Debug)]
pub(super) struct Page<P> {
    after: Option<P>,
    size: usize,
}

impl<P: Place> Page<P> {
    /// Reads `$skipToken`; an empty one is none.
    ///
    /// # Errors
    /// 400 `InvalidParameter` for a token that no list of this kind gave out.
    pub(super) fn of(app: &App, request: &Request) -> ApiResult<Self> {
        let token = request.query(SKIP_TOKEN).filter(|token| !token.is_empty());
        let after = token.map(|token| read_token(token).ok_or_else(bad_token)).transpose()?;
        Ok(Self { after, size: app.config.api.page_size as usize })
    }

    /// How many rows to read: one more than are shown tells whether there is another page.
    pub(super) fn fetch(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// The answer: as many of `rows` as fit, and the link to the others if there are any.
    ///
    /// # Errors
    /// 500 for a row that JSON cannot express.
    pub(super) fn answer<R: Listed<Place = P>, V: Serialize>(
        &self,
        request: &Request,
        rows: &[R],
        render: impl Fn(&R) -> V,
    ) -> ApiResult<Answer> {
        self.written(request, rows, |row, text| serde_json::to_writer(text, &render(row)))
    }

    /// The same of rows that are written one by one: what is shown need not be there as a whole before it is text.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(super) fn written<R: Listed<Place = P>>(
        &self,
        request: &Request,
        rows: &[R],
        write: impl Fn(&R, &mut Vec<u8>) -> serde_json::Result<()>,
    ) -> ApiResult<Answer> {
        let shown = self.shown(rows);
        let next = shown.last().filter(|_| rows.len() > shown.len()).map(|last| next_link(request, &last.place()));
        let text = list(shown, next.as_deref(), write).map_err(|error| fault(&error))?;
        Ok(Answer::json_text(text))
    }

    /// Those of the rows that were read that are on this page.
    pub(super) fn shown<'r, R>(&self, rows: &'r [R]) -> &'r [R] {
        &rows[..rows.len().min(self.size)]
    }
}

impl Page<String> {
    /// The folded id behind which this page begins; empty for the first one.
    pub(super) fn after(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }
}

impl Page<(i64, String)> {
    /// Creation time and id of what this page is older than; none for the first one.
    pub(super) fn before(&self) -> Option<(i64, &str)> {
        self.after.as_ref().map(|(time, id)| (*time, id.as_str()))
    }
}

/// The rows of a page of which the caller may read some, collected in as many steps as it takes. So a page is full wherever there is
/// enough to show, and neither its length nor its token tells of rows that the caller may not read.
#[derive(Debug)]
pub(super) struct Readable<R> {
    rows: Vec<R>,
    after: String,
    fetch: usize,
    is_over: bool,
}

impl<R: Listed<Place = String>> Readable<R> {
    /// Nothing yet, of this page.
    pub(super) fn of(page: &Page<String>) -> Self {
        Self { rows: Vec::new(), after: page.after().to_owned(), fetch: page.size + 1, is_over: false }
    }

    /// The page is neither full nor is the list at its end: read [`Page::fetch`] rows behind [`Readable::after`] and add them.
    pub(super) fn wants_more(&self) -> bool {
        !self.is_over && self.rows.len() < self.fetch
    }

    /// Where to go on reading.
    pub(super) fn after(&self) -> &str {
        &self.after
    }

    /// Takes the rows that were read, and keeps those that the caller may read.
    pub(super) fn add(&mut self, read: Vec<R>, may_read: impl Fn(&R) -> bool) {
        self.is_over = read.len() < self.fetch;
        if let Some(last) = read.last() {
            self.after = last.place();
        }
        self.rows.extend(read.into_iter().filter(may_read));
    }

    /// What was kept, in order.
    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }
}

/// The text of the list envelope ([`blobkeep_arm::envelope::list`]).
fn list<R>(
    rows: &[R],
    next_link: Option<&str>,
    write: impl Fn(&R, &mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(ROW_BYTES * (rows.len() + 1));
    text.extend_from_slice(b"{\"value\":[");
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        write(row, &mut text)?;
    }
    text.push(b']');
    if let Some(link) = next_link {
        text.extend_from_slice(b",\"nextLink\":");
        serde_json::to_writer(&mut text, link)?;
    }
    text.push(b'}');
    Ok(text)
}

/// This request's own URL with a token in place of the one that it had.
fn next_link(request: &Request, place: &impl Place) -> String {
    let encode = |text: &str| utf8_percent_encode(text, LINK).to_string();
    let path: String = request.path.segments.iter().map(|segment| format!("/{}", encode(segment))).collect();
    let mut link = request.absolute_url(&path);
    for (name, value) in &request.query {
        let is_ours = name.eq_ignore_ascii_case("api-version") || name.eq_ignore_ascii_case(SKIP_TOKEN);
        if !is_ours {
            link.push_str(&format!("&{}={}", encode(name), encode(value)));
        }
    }
    link.push_str(&format!("&{SKIP_TOKEN}={}", write_token(place)));
    link
}

fn write_token(place: &impl Place) -> String {
    URL_SAFE_NO_PAD.encode(place.write())
}

fn read_token<P: Place>(token: &str) -> Option<P> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    P::read(std::str::from_utf8(&bytes).ok()?)
}

fn bad_token() -> ApiError {
    let reason = "it is not one that this list gave out";
    ApiError::of(ErrorCode::InvalidParameter, &[("parameter", SKIP_TOKEN), ("reason", reason)])
}

#[cfg(test)]
mod tests {
    use blobkeep_arm::envelope;
    use serde_json::{Value, json};

    use super::{list, read_token, write_token};

    #[test]
    fn a_list_has_the_text_of_its_envelope() {
        let rows = [json!({"name": "a \"b\"", "tags": {}}), json!(null), json!([1.5, "ü"])];
        for link in [None, Some("https://localhost/?$skipToken=\"x\"")] {
            for count in 0..=rows.len() {
                let text = list(&rows[..count], link, |row: &Value, text| serde_json::to_writer(text, row)).unwrap();
                let whole = envelope::list(rows[..count].to_vec(), link.map(str::to_owned));
                assert_eq!(String::from_utf8(text).unwrap(), whole.to_string());
            }
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place_and_to_no_other_kind_of_list() {
        let key = "/subscriptions/s/resourcegroups/überall".to_owned();
        let token = write_token(&key);
        assert_eq!(read_token::<String>(&token), Some(key));
        assert_eq!(read_token::<(i64, String)>(&token), None);
        let time = (-1_625_662_130_000_000, "0_f".to_owned());
        let token = write_token(&time);
        assert_eq!(read_token::<(i64, String)>(&token), Some(time));
        assert_eq!(read_token::<String>(&token), None);
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["x", "%%%", "L3g=", "gICA", &"A".repeat(9000)] {
            assert_eq!(read_token::<String>(text), None, "{text}");
            assert_eq!(read_token::<(i64, String)>(text), None, "{text}");
        }
    }
}
