//! Put Blob: a whole block blob in one request, or the beginning of an append or page blob.

use std::sync::Arc;

use http::StatusCode;

use super::blob_headers::{self as headers, Checked};
use super::{Call, edit};
use crate::answer::Answer;
use crate::checksum;
use crate::error::AzureError;
use crate::feed::{Api, Change};
use crate::model::blob::{Blob, BlobKind, Content};
use crate::model::pages::{PAGE_BYTES, PageMap};
use crate::model::{Stamp, World};

/// The largest page blob, 8 TiB.
const MAX_PAGE_BLOB_BYTES: u64 = 8 << 40;

/// Put Blob.
pub(super) fn put_blob(call: &Call<'_>) -> Result<Answer, AzureError> {
    let kind = match call.request.filled_header("x-ms-blob-type") {
        Some("BlockBlob") => BlobKind::Block,
        Some("AppendBlob") => BlobKind::Append,
        Some("PageBlob") => BlobKind::Page,
        Some(other) => return Err(AzureError::invalid_header("x-ms-blob-type", other)),
        None => return Err(AzureError::missing_header("x-ms-blob-type")),
    };
    let checked = headers::check_body(call.request, &call.body)?;
    let mut blob = new_blob(call, kind)?;
    blob.content = content(call, kind)?;
    if kind == BlobKind::Block {
        let md5 = checked.md5.unwrap_or_else(|| checksum::md5_base64(&call.body));
        if blob.headers.content_md5.as_ref().is_some_and(|given| *given != md5) {
            return Err(headers::md5_mismatch());
        }
        blob.headers.content_md5 = Some(md5);
    }
    if kind == BlobKind::Page {
        blob.sequence_number = call.request.number_header("x-ms-blob-sequence-number")?.unwrap_or(0);
    }
    let blob = publish(call, blob, Api::PutBlob)?;
    let answer = headers::with_new_version(written(&blob), call, &blob);
    if kind != BlobKind::Block {
        return Ok(answer);
    }
    let crc64 = checked.crc64.unwrap_or_else(|| checksum::crc64_base64(&call.body));
    Ok(answer.maybe("Content-MD5", blob.headers.content_md5.as_deref()).header("x-ms-content-crc64", &crc64))
}

/// A blob of this kind with everything that the request's headers say, and no content yet.
pub(super) fn new_blob(call: &Call<'_>, kind: BlobKind) -> Result<Blob, AzureError> {
    let request = call.request;
    let tier = headers::tier_header(request, kind)?;
    let blob = Blob::new(kind, Content::Whole(Default::default()), String::new(), call.now_us);
    Ok(Blob {
        headers: headers::put_content_headers(request),
        metadata: headers::metadata(request)?,
        tags: headers::tags_header(call)?,
        tier_changed_us: tier.as_ref().map(|_| call.now_us),
        tier,
        ..blob
    })
}

fn content(call: &Call<'_>, kind: BlobKind) -> Result<Content, AzureError> {
    if kind == BlobKind::Block {
        return Ok(Content::Whole(call.body.clone()));
    }
    if !call.body.is_empty() {
        let length = call.body.len().to_string();
        return Err(AzureError::invalid_header("Content-Length", &length));
    }
    if kind == BlobKind::Append {
        return Ok(Content::of_blocks(Vec::new()));
    }
    let name = "x-ms-blob-content-length";
    let length = call.request.number_header(name)?.ok_or_else(|| AzureError::missing_header(name))?;
    if length % PAGE_BYTES != 0 || length > MAX_PAGE_BLOB_BYTES {
        return Err(AzureError::invalid_header(name, &length.to_string()));
    }
    Ok(Content::Pages(PageMap::new(length)))
}

/// Puts a blob in place of what was there: its creation time and lease stay, its uncommitted blocks go.
pub(super) fn publish(call: &Call<'_>, blob: Blob, api: Api) -> Result<Arc<Blob>, AzureError> {
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    let existing = edit::creation_target(call, container)?;
    container.check_kind(call.blob(), blob.kind)?;
    let blob = Arc::new(marked(blob, stamp, existing.as_deref()));
    put_in_place(call, &mut world, &blob, api)?;
    Ok(blob)
}

/// Makes a blob the current state of its name, and tells of it.
pub(super) fn put_in_place(call: &Call<'_>, world: &mut World, blob: &Arc<Blob>, api: Api) -> Result<(), AzureError> {
    let container = world.container_mut(call.account(), call.container())?;
    container.family_mut(call.blob()).uncommitted.clear();
    let before = container.replace(call.blob(), Some(Arc::clone(blob)));
    world.record(&call.origin(), &Change::created(api, blob, before.as_deref()));
    Ok(())
}

/// The blob with its mark and with what it inherits from the one that it replaces.
pub(super) fn marked(mut blob: Blob, stamp: Stamp, existing: Option<&Blob>) -> Blob {
    blob.etag = stamp.etag;
    blob.version = stamp.ticks;
    blob.modified_us = stamp.at_us;
    blob.created_us = existing.map_or(stamp.at_us, |existing| existing.created_us);
    blob.lease = existing.map(|existing| existing.lease.clone()).unwrap_or_default();
    blob
}

/// 201 with the marks of a written blob.
pub(super) fn written(blob: &Blob) -> Answer {
    headers::mark(Answer::new(StatusCode::CREATED), blob).header("x-ms-request-server-encrypted", "true")
}

/// The checksums of a part as Azure gives them back: the MD5 if one was sent, else the CRC.
pub(super) fn with_checksums(answer: Answer, checked: &Checked) -> Answer {
    answer.maybe("Content-MD5", checked.md5.as_deref()).maybe("x-ms-content-crc64", checked.crc64.as_deref())
}
