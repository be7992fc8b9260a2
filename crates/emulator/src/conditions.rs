//! Conditional headers: `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`, and the same about the source
//! of a copy. Times compare in whole seconds, as they are shown.

use http::StatusCode;

use crate::clock;
use crate::error::AzureError;
use crate::request::Request;

/// The conditions of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    modified_since: Option<i64>,
    unmodified_since: Option<i64>,
}

/// What conditions are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validator<'a> {
    /// Without quotes.
    pub(crate) etag: &'a str,
    pub(crate) modified_us: i64,
}

impl Validator<'_> {
    fn fits(&self, list: &str) -> bool {
        list.split(',').any(|etag| {
            let etag = etag.trim();
            let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
            etag == "*" || etag == self.etag
        })
    }
}

impl Conditions {
    /// Reads the conditions; `prefix` is empty or `x-ms-source-`.
    pub(crate) fn read(request: &Request, prefix: &str) -> Result<Conditions, AzureError> {
        if request.headers.contains_key("x-ms-if-tags") {
            return Err(AzureError::not_implemented("x-ms-if-tags"));
        }
        let text = |name: &str| request.filled_header(&format!("{prefix}{name}")).map(str::to_owned);
        let time = |name: &str| {
            text(name)
                .map(|value| clock::parse_http_date(&value).ok_or_else(|| AzureError::invalid_header(name, &value)))
                .transpose()
        };
        Ok(Conditions {
            if_match: text("if-match"),
            if_none_match: text("if-none-match"),
            modified_since: time("if-modified-since")?,
            unmodified_since: time("if-unmodified-since")?,
        })
    }

    fn are_met(&self, at: Validator<'_>) -> (bool, bool) {
        let seconds = at.modified_us.div_euclid(1_000_000);
        let kept = self.if_match.as_ref().is_none_or(|list| at.fits(list))
            && self.unmodified_since.is_none_or(|since| seconds <= since);
        let fresh = self.if_none_match.as_ref().is_none_or(|list| !at.fits(list))
            && self.modified_since.is_none_or(|since| seconds > since);
        (kept, fresh)
    }

    /// Refuses a read with 412 or 304.
    pub(crate) fn check_read(&self, at: Validator<'_>) -> Result<(), AzureError> {
        match self.are_met(at) {
            (false, _) => Err(AzureError::condition_not_met()),
            (true, false) => Err(AzureError::new(StatusCode::NOT_MODIFIED, "ConditionNotMet", "not modified")
                .with_header("ETag", format!("\"{}\"", at.etag))),
            (true, true) => Ok(()),
        }
    }

    /// Refuses a write with 412, or with 409 if nothing may be there and something is.
    pub(crate) fn check_write(&self, existing: Option<Validator<'_>>) -> Result<(), AzureError> {
        let Some(at) = existing else {
            let wants_one = self.if_match.is_some();
            return if wants_one { Err(AzureError::condition_not_met()) } else { Ok(()) };
        };
        if self.if_none_match.as_deref().is_some_and(|list| list.trim() == "*") {
            return Err(AzureError::conflict("BlobAlreadyExists", "The specified blob already exists."));
        }
        match self.are_met(at) {
            (true, true) => Ok(()),
            _ => Err(AzureError::condition_not_met()),
        }
    }

    /// Refuses a copy whose source is not as it should be.
    pub(crate) fn check_source(&self, at: Validator<'_>) -> Result<(), AzureError> {
        match self.are_met(at) {
            (true, true) => Ok(()),
            _ => Err(AzureError::precondition(
                "SourceConditionNotMet",
                "The source condition specified using HTTP conditional header(s) is not met.",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Validator<'_> = Validator { etag: "0x8D", modified_us: 100_900_000 };

    #[test]
    fn a_read_is_304_when_nothing_is_new_and_412_when_it_is_another() {
        let same = Conditions { if_none_match: Some("\"0x8D\"".to_owned()), ..Conditions::default() };
        assert_eq!(same.check_read(AT).unwrap_err().status, StatusCode::NOT_MODIFIED);
        let other = Conditions { if_match: Some("\"0x8E\"".to_owned()), ..Conditions::default() };
        assert_eq!(other.check_read(AT).unwrap_err().status, StatusCode::PRECONDITION_FAILED);
        let since = Conditions { modified_since: Some(100), ..Conditions::default() };
        assert_eq!(since.check_read(AT).unwrap_err().status, StatusCode::NOT_MODIFIED);
        let until = Conditions { unmodified_since: Some(100), ..Conditions::default() };
        until.check_read(AT).unwrap();
    }

    #[test]
    fn a_write_may_demand_that_nothing_or_something_is_there() {
        let nothing = Conditions { if_none_match: Some("*".to_owned()), ..Conditions::default() };
        nothing.check_write(None).unwrap();
        assert_eq!(nothing.check_write(Some(AT)).unwrap_err().code, "BlobAlreadyExists");
        let something = Conditions { if_match: Some("*".to_owned()), ..Conditions::default() };
        something.check_write(Some(AT)).unwrap();
        assert_eq!(something.check_write(None).unwrap_err().code, "ConditionNotMet");
    }
}
