//! Append blobs: Append Block and Append Blob Seal.

use http::StatusCode;

use super::blob_headers as headers;
use super::edit::{Touch, edit};
use super::{Call, put};
use crate::answer::Answer;
use crate::error::AzureError;
use crate::feed::Api;
use crate::model::blob::{Blob, BlobKind, Block, Content};

const MAX_APPENDED_BLOCKS: usize = 50_000;
const MAX_APPEND_BYTES: usize = 100 * 1024 * 1024;

/// Append Block, at a position and up to a size if the request says so.
pub(super) fn append_block(call: &Call<'_>) -> Result<Answer, AzureError> {
    let wanted_position = call.request.number_header("x-ms-blob-condition-appendpos")?;
    let most_bytes = call.request.number_header("x-ms-blob-condition-maxsize")?;
    if call.body.is_empty() {
        return Err(AzureError::invalid_header("Content-Length", "0"));
    }
    if call.body.len() > MAX_APPEND_BYTES {
        return Err(AzureError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", "The block is too large."));
    }
    let checked = headers::check_body(call.request, &call.body)?;
    let mut position = 0;
    let mut count = 0;
    let blob = edit(call, Touch::Marks, Api::Unspecified, |blob, _| {
        check_appendable(blob)?;
        let Content::Blocks { blocks, len_bytes } = &mut blob.content else {
            return Err(AzureError::invalid_blob_type());
        };
        position = *len_bytes;
        let end = position + call.body.len() as u64;
        if wanted_position.is_some_and(|wanted| wanted != position) {
            return Err(AzureError::precondition(
                "AppendPositionConditionNotMet",
                "The append position condition specified was not met.",
            ));
        }
        if most_bytes.is_some_and(|most| end > most) {
            return Err(AzureError::precondition(
                "MaxBlobSizeConditionNotMet",
                "The max blob size condition specified was not met.",
            ));
        }
        if blocks.len() >= MAX_APPENDED_BLOCKS {
            return Err(AzureError::conflict("BlockCountExceedsLimit", "The committed block count exceeds 50,000."));
        }
        blocks.push(Block { id: String::new(), bytes: call.body.clone() });
        *len_bytes = end;
        count = blocks.len();
        Ok(())
    })?;
    let answer = put::written(&blob)
        .header("x-ms-blob-append-offset", &position.to_string())
        .header("x-ms-blob-committed-block-count", &count.to_string());
    Ok(put::with_checksums(answer, &checked))
}

fn check_appendable(blob: &Blob) -> Result<(), AzureError> {
    if blob.kind != BlobKind::Append {
        return Err(AzureError::invalid_blob_type());
    }
    if blob.sealed {
        return Err(AzureError::conflict(
            "BlobIsSealed",
            "The specified blob is sealed and its contents can't be modified.",
        ));
    }
    Ok(())
}

/// Append Blob Seal. Sealing a sealed blob changes nothing.
pub(super) fn seal(call: &Call<'_>) -> Result<Answer, AzureError> {
    let position = call.request.number_header("x-ms-blob-condition-appendpos")?;
    let blob = edit(call, Touch::Marks, Api::Unspecified, |blob, _| {
        if blob.kind != BlobKind::Append {
            return Err(AzureError::invalid_blob_type());
        }
        if position.is_some_and(|position| position != blob.content.len_bytes()) {
            return Err(AzureError::precondition(
                "AppendPositionConditionNotMet",
                "The append position condition specified was not met.",
            ));
        }
        blob.sealed = true;
        Ok(())
    })?;
    Ok(headers::mark(Answer::new(StatusCode::OK), &blob).header("x-ms-blob-sealed", "true"))
}
