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
use crate::feed::{Api, Before, Change, EventKind};
use crate::model::blob::Blob;
use crate::model::container::{Container, Which};
use crate::model::lease::{Lease, Leased};

/// The longest range whose checksum is computed.
const MAX_CHECKSUM_RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// What a request names.
pub(super) struct Found {
    pub(super) blob: Arc<Blob>,
    is_current: bool,
    /// Whether it has a version to tell of.
    has_version: bool,
}

impl Found {
    /// Its version. That a version is not the current one is not told but left out.
    fn with_version(&self, answer: Answer) -> Answer {
        if !self.has_version {
            return answer;
        }
        answer
            .header("x-ms-version-id", &clock::iso_ticks(self.blob.version))
            .maybe("x-ms-is-current-version", self.is_current.then_some("true"))
    }
}

/// The blob, snapshot or version that a request names, after lease and conditions were checked for reading.
pub(super) fn find(call: &Call<'_>) -> Result<Found, AzureError> {
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    let which = call.which()?;
    let (blob, is_current) = container.find(call.blob(), which).ok_or_else(AzureError::blob_not_found)?;
    let has_version = container.keeps_versions && !matches!(which, Which::Snapshot(_));
    drop(world);
    blob.lease.guard(call.request.filled_header("x-ms-lease-id"), false, Leased::Blob, call.now_us)?;
    Conditions::read(call.request, "")?.check_read(Validator { etag: &blob.etag, modified_us: blob.modified_us })?;
    Ok(Found { blob, is_current, has_version })
}

/// Get Blob.
pub(super) fn get(call: &Call<'_>) -> Result<Answer, AzureError> {
    let found = find(call)?;
    let blob = &found.blob;
    if blob.is_archived() {
        return Err(AzureError::conflict("BlobArchived", "This operation is not permitted on an archived blob."));
    }
    let len_bytes = blob.content.len_bytes();
    let range = headers::range(call.request, len_bytes)?;
    let (from, to) = range.unwrap_or((0, len_bytes));
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut answer = found.with_version(headers::with_properties(Answer::new(status), blob, call));
    let stored_md5 = blob.headers.content_md5.as_deref();
    match range {
        None => answer = answer.maybe("Content-MD5", stored_md5),
        Some(_) => {
            answer = answer
                .header("Content-Range", &format!("bytes {from}-{}/{len_bytes}", to - 1))
                .maybe("x-ms-blob-content-md5", stored_md5);
            answer = with_range_checksum(answer, call, blob, from, to)?;
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
    let found = find(call)?;
    let blob = &found.blob;
    let answer = found.with_version(headers::with_properties(Answer::new(StatusCode::OK), blob, call));
    let mut answer = headers::with_tier(answer, blob).maybe("Content-MD5", blob.headers.content_md5.as_deref());
    answer.told_length = Some(blob.content.len_bytes());
    Ok(answer)
}

/// Get Blob Metadata.
pub(super) fn get_metadata(call: &Call<'_>) -> Result<Answer, AzureError> {
    let blob = find(call)?.blob;
    Ok(headers::with_metadata(headers::mark(Answer::new(StatusCode::OK), &blob), &blob.metadata))
}

/// Delete Blob, with `x-ms-delete-snapshots` or of one snapshot or version.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, AzureError> {
    let which = call.which()?;
    // A SAS has a permission of its own for versions ("Create a service SAS", "Delete version").
    call.demand(if matches!(which, Which::Version(_)) { 'x' } else { 'd' })?;
    let snapshots = call.request.filled_header("x-ms-delete-snapshots");
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    let (blob, is_current) = container.find(call.blob(), which).ok_or_else(AzureError::blob_not_found)?;
    let permanent = match (which, snapshots) {
        (Which::Snapshot(_) | Which::Version(_), Some(other)) => {
            return Err(AzureError::invalid_header("x-ms-delete-snapshots", other));
        }
        (Which::Snapshot(time), None) => {
            container.family_mut(call.blob()).snapshots.remove(time);
            container.tidy(call.blob());
            true
        }
        (Which::Version(_), None) if is_current => {
            // The current version goes by deleting the blob.
            return Err(AzureError::forbidden(
                "OperationNotAllowedOnRootBlob",
                "The specified operation is not allowed on root blob.",
            ));
        }
        (Which::Version(version), None) => {
            container.family_mut(call.blob()).versions.remove(&version);
            container.tidy(call.blob());
            world.record(&call.origin(), &Change::version_deleted(stamp.ticks, &blob));
            true
        }
        (Which::Current, _) => {
            edit::target(call, container)?;
            let keeps_versions = container.keeps_versions;
            if delete_current(container, call.blob(), snapshots)? {
                world.record(&call.origin(), &Change::deleted(stamp.ticks, &blob));
            }
            !keeps_versions
        }
    };
    let permanent = if permanent { "true" } else { "false" };
    Ok(Answer::new(StatusCode::ACCEPTED).header("x-ms-delete-type-permanent", permanent))
}

/// Deletes the current state, which becomes an earlier version where versions are kept, or its snapshots alone; says whether
/// the former.
fn delete_current(container: &mut Container, name: &str, snapshots: Option<&str>) -> Result<bool, AzureError> {
    let family = container.family_mut(name);
    match snapshots {
        None if !family.snapshots.is_empty() => {
            return Err(AzureError::conflict(
                "SnapshotsPresent",
                "This operation is not permitted while the blob has snapshots.",
            ));
        }
        None => {}
        Some("include" | "only") => family.snapshots.clear(),
        Some(other) => return Err(AzureError::invalid_header("x-ms-delete-snapshots", other)),
    }
    if snapshots == Some("only") {
        return Ok(false);
    }
    family.uncommitted.clear();
    container.replace(name, None);
    Ok(true)
}

/// Snapshot Blob. Metadata of the request, if any, replaces the blob's in the snapshot. Where versions are kept, it makes one
/// ("Snapshot a blob when versioning is enabled"): the blob goes on as it is under the id of a new version.
pub(super) fn snapshot(call: &Call<'_>) -> Result<Answer, AzureError> {
    let metadata = headers::metadata(call.request)?;
    let mut world = call.shared.write();
    let (stamp, next) = (world.stamp(call.now_us), world.stamp(call.now_us));
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
    container.family_mut(call.blob()).snapshots.insert(time.clone(), Arc::new(copy));
    let mut goes_on = Arc::clone(&blob);
    if container.keeps_versions {
        goes_on = Arc::new(Blob { version: next.ticks, ..(*blob).clone() });
        container.replace(call.blob(), Some(Arc::clone(&goes_on)));
    }
    let change = Change {
        kind: EventKind::SnapshotCreated,
        api: Api::SnapshotBlob,
        ticks: next.ticks,
        blob: &goes_on,
        before: Some(Before::of(&blob)),
        snapshot: Some(&time),
    };
    world.record(&call.origin(), &change);
    Ok(headers::with_new_version(answer, call, &goes_on))
}
