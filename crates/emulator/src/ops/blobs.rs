//! Reading a blob, its properties and metadata; deleting it; taking a snapshot of it.

use std::sync::Arc;

use http::StatusCode;

use super::blob_headers as headers;
use super::{Call, edit};
use crate::answer::{Answer, AnswerBody};
use crate::checksum;
use crate::clock;
use crate::conditions::{Conditions, Validator};
use crate::error::AzureError;
use crate::model::blob::Blob;
use crate::model::lease::{Lease, Leased};

/// The longest range whose checksum is computed.
const MAX_CHECKSUM_RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// The blob or snapshot that a request names, after lease and conditions were checked for reading.
pub(super) fn find(call: &Call<'_>) -> Result<Arc<Blob>, AzureError> {
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    if call.request.query("versionid").is_some() {
        // The account keeps no versions, so there is none of any id.
        return Err(AzureError::blob_not_found());
    }
    let blob = container.get(call.blob(), call.request.query("snapshot")).ok_or_else(AzureError::blob_not_found)?;
    drop(world);
    blob.lease.guard(call.request.filled_header("x-ms-lease-id"), false, Leased::Blob, call.now_us)?;
    Conditions::read(call.request, "")?.check_read(Validator { etag: &blob.etag, modified_us: blob.modified_us })?;
    Ok(blob)
}

/// Get Blob.
pub(super) fn get(call: &Call<'_>) -> Result<Answer, AzureError> {
    let blob = find(call)?;
    if blob.is_archived() {
        return Err(AzureError::conflict("BlobArchived", "This operation is not permitted on an archived blob."));
    }
    let len_bytes = blob.content.len_bytes();
    let range = headers::range(call.request, len_bytes)?;
    let (from, to) = range.unwrap_or((0, len_bytes));
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut answer = headers::with_properties(Answer::new(status), &blob, call);
    let stored_md5 = blob.headers.content_md5.as_deref();
    match range {
        None => answer = answer.maybe("Content-MD5", stored_md5),
        Some(_) => {
            answer = answer
                .header("Content-Range", &format!("bytes {from}-{}/{len_bytes}", to - 1))
                .maybe("x-ms-blob-content-md5", stored_md5);
            answer = with_range_checksum(answer, call, &blob, from, to)?;
        }
    }
    answer.body = AnswerBody::of(blob.content.parts(from, to), to - from);
    Ok(answer)
}

fn with_range_checksum(answer: Answer, call: &Call<'_>, blob: &Blob, from: u64, to: u64) -> Result<Answer, AzureError> {
    let asked = |name: &str| call.request.header(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let (md5, crc64) = (asked("x-ms-range-get-content-md5"), asked("x-ms-range-get-content-crc64"));
    if !md5 && !crc64 {
        return Ok(answer);
    }
    if to - from > MAX_CHECKSUM_RANGE_BYTES || (md5 && crc64) {
        return Err(AzureError::bad_request(
            "OutOfRangeInput",
            "The range of a checksum must be at most 4 MiB, and only one checksum may be asked for.",
        ));
    }
    let bytes = blob.content.read(from, to);
    Ok(match md5 {
        true => answer.header("Content-MD5", &checksum::md5_base64(&bytes)),
        false => answer.header("x-ms-content-crc64", &checksum::crc64_base64(&bytes)),
    })
}

/// Get Blob Properties.
pub(super) fn get_properties(call: &Call<'_>) -> Result<Answer, AzureError> {
    let blob = find(call)?;
    let answer = headers::with_properties(Answer::new(StatusCode::OK), &blob, call);
    let mut answer = headers::with_tier(answer, &blob).maybe("Content-MD5", blob.headers.content_md5.as_deref());
    answer.told_length = Some(blob.content.len_bytes());
    Ok(answer)
}

/// Get Blob Metadata.
pub(super) fn get_metadata(call: &Call<'_>) -> Result<Answer, AzureError> {
    let blob = find(call)?;
    Ok(headers::with_metadata(headers::mark(Answer::new(StatusCode::OK), &blob), &blob.metadata))
}

/// Delete Blob, with `x-ms-delete-snapshots` or of one snapshot.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, AzureError> {
    let mut world = call.shared.write();
    let container = world.container_mut(call.account(), call.container())?;
    let name = call.blob();
    let snapshot = call.request.query("snapshot");
    if container.get(name, snapshot).is_none() {
        return Err(AzureError::blob_not_found());
    }
    if snapshot.is_none() {
        edit::target(call, container)?;
    }
    let family = container.family_mut(name);
    match (snapshot, call.request.filled_header("x-ms-delete-snapshots")) {
        (Some(snapshot), None) => {
            family.snapshots.remove(snapshot);
        }
        (None, Some("include")) => *family = Default::default(),
        (None, Some("only")) => family.snapshots.clear(),
        (None, None) if !family.snapshots.is_empty() => {
            return Err(AzureError::conflict(
                "SnapshotsPresent",
                "This operation is not permitted while the blob has snapshots.",
            ));
        }
        (None, None) => *family = Default::default(),
        (_, Some(other)) => return Err(AzureError::invalid_header("x-ms-delete-snapshots", other)),
    }
    container.tidy(name);
    Ok(Answer::new(StatusCode::ACCEPTED).header("x-ms-delete-type-permanent", "true"))
}

/// Snapshot Blob. Metadata of the request, if any, replaces the blob's in the snapshot.
pub(super) fn snapshot(call: &Call<'_>) -> Result<Answer, AzureError> {
    let metadata = headers::metadata(call.request)?;
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    let blob = container.get(call.blob(), None).ok_or_else(AzureError::blob_not_found)?;
    // A snapshot changes nothing, so a lease does not stand in its way; a wrong lease id does.
    blob.lease.guard(call.request.filled_header("x-ms-lease-id"), false, Leased::Blob, call.now_us)?;
    Conditions::read(call.request, "")?
        .check_write(Some(Validator { etag: &blob.etag, modified_us: blob.modified_us }))?;
    let time = clock::iso_ticks(stamp.ticks);
    let mut copy = Blob { lease: Lease::None, ..(*blob).clone() };
    if !metadata.is_empty() {
        copy.metadata = metadata;
        copy.etag = stamp.etag;
        copy.modified_us = stamp.at_us;
    }
    let answer = headers::mark(Answer::new(StatusCode::CREATED), &copy).header("x-ms-snapshot", &time);
    container.family_mut(call.blob()).snapshots.insert(time, Arc::new(copy));
    Ok(answer)
}
