//! Page blobs: Put Page (update and clear) and Get Page Ranges. Differences to a snapshot are not served.

use http::StatusCode;

use super::blob_headers as headers;
use super::edit::{Touch, edit};
use super::{Call, blobs, put};
use crate::answer::Answer;
use crate::error::AzureError;
use crate::feed::Api;
use crate::model::blob::Content;
use crate::model::pages::PAGE_BYTES;
use crate::xml;

const MAX_UPDATE_BYTES: u64 = 4 * 1024 * 1024;

fn invalid_page_range() -> AzureError {
    AzureError::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "InvalidPageRange",
        "The page range specified is invalid: it must be whole pages inside the blob, 4 MiB at most for an update.",
    )
}

/// Put Page.
pub(super) fn put_page(call: &Call<'_>) -> Result<Answer, AzureError> {
    let request = call.request;
    let range = request.filled_header("x-ms-range").or_else(|| request.filled_header("range"));
    let range = range.ok_or_else(|| AzureError::missing_header("x-ms-range"))?;
    let (from, last) = headers::parse_range(range).ok_or_else(|| AzureError::invalid_header("x-ms-range", range))?;
    let to = last.ok_or_else(|| AzureError::invalid_header("x-ms-range", range))?.saturating_add(1);
    if from % PAGE_BYTES != 0 || to % PAGE_BYTES != 0 {
        return Err(invalid_page_range());
    }
    let update = match request.filled_header("x-ms-page-write").map(str::to_ascii_lowercase).as_deref() {
        Some("update") => true,
        Some("clear") => false,
        Some(other) => return Err(AzureError::invalid_header("x-ms-page-write", other)),
        None => return Err(AzureError::missing_header("x-ms-page-write")),
    };
    if update && to - from > MAX_UPDATE_BYTES {
        return Err(invalid_page_range());
    }
    let body_bytes = call.body.len() as u64;
    if body_bytes != if update { to - from } else { 0 } {
        return Err(AzureError::invalid_header("Content-Length", &body_bytes.to_string()));
    }
    let checked = headers::check_body(request, &call.body)?;
    let conditions = SequenceConditions::read(call)?;
    let blob = edit(call, Touch::Marks, Api::Unspecified, |blob, _| {
        conditions.check(blob.sequence_number)?;
        let Content::Pages(pages) = &mut blob.content else { return Err(AzureError::invalid_blob_type()) };
        if to > pages.len_bytes {
            return Err(invalid_page_range());
        }
        if update {
            pages.write(from, call.body.clone());
        } else {
            pages.clear(from, to);
        }
        Ok(())
    })?;
    let answer = put::written(&blob).header("x-ms-blob-sequence-number", &blob.sequence_number.to_string());
    Ok(put::with_checksums(answer, &checked))
}

/// `x-ms-if-sequence-number-le`, `-lt`, `-eq`.
struct SequenceConditions {
    at_most: Option<u64>,
    below: Option<u64>,
    equal: Option<u64>,
}

impl SequenceConditions {
    fn read(call: &Call<'_>) -> Result<SequenceConditions, AzureError> {
        let number = |which: &str| call.request.number_header(&format!("x-ms-if-sequence-number-{which}"));
        Ok(SequenceConditions { at_most: number("le")?, below: number("lt")?, equal: number("eq")? })
    }

    fn check(&self, number: u64) -> Result<(), AzureError> {
        let met = self.at_most.is_none_or(|most| number <= most)
            && self.below.is_none_or(|limit| number < limit)
            && self.equal.is_none_or(|equal| number == equal);
        if met {
            return Ok(());
        }
        Err(AzureError::precondition(
            "SequenceNumberConditionNotMet",
            "The sequence number condition specified was not met.",
        ))
    }
}

/// Get Page Ranges.
pub(super) fn get_page_ranges(call: &Call<'_>) -> Result<Answer, AzureError> {
    if call.request.query("prevsnapshot").is_some() || call.request.headers.contains_key("x-ms-previous-snapshot-url") {
        return Err(AzureError::not_implemented("page ranges that differ from a snapshot"));
    }
    let blob = blobs::find(call)?.blob;
    let Content::Pages(pages) = &blob.content else { return Err(AzureError::invalid_blob_type()) };
    let (from, to) = headers::range(call.request, pages.len_bytes)?.unwrap_or((0, pages.len_bytes));
    let mut document = format!("{}<PageList>", xml::PROLOG);
    for (start, last) in pages.ranges(from, to) {
        document.push_str(&format!("<PageRange><Start>{start}</Start><End>{last}</End></PageRange>"));
    }
    document.push_str("</PageList>");
    let length = pages.len_bytes.to_string();
    let answer = Answer::new(StatusCode::OK).xml(document).header("x-ms-blob-content-length", &length);
    Ok(headers::mark(answer, &blob))
}
