//! Changes to a blob that is there: properties, metadata, tier; and the frame that all such changes share: find, check lease
//! and conditions, change a copy, put it in place.

use std::sync::Arc;

use http::StatusCode;

use super::Call;
use super::blob_headers as headers;
use crate::answer::Answer;
use crate::conditions::{Conditions, Validator};
use crate::error::AzureError;
use crate::feed::{Api, Before, Change, EventKind};
use crate::model::Stamp;
use crate::model::blob::{Blob, BlobKind, Content};
use crate::model::container::{Container, Which};
use crate::model::lease::Leased;
use crate::model::pages::PAGE_BYTES;

/// What a change does to ETag and Last-Modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Both are new, and the state before stays as an earlier version where versions are kept. "Blob versioning" names
    /// the operations: all that write a blob or its metadata, but not those that change a page or append blob in place.
    Version,
    /// Both are new.
    Marks,
    /// Neither: tags and tier. They can be changed of earlier versions as well.
    Nothing,
}

/// The blob that a write is about to replace or change, after its lease and the conditions were checked.
pub(super) fn target(call: &Call<'_>, container: &Container) -> Result<Option<Arc<Blob>>, AzureError> {
    headers::check_name(call.blob())?;
    let existing = container.get(call.blob(), None);
    let validator = existing.as_ref().map(|blob| Validator { etag: &blob.etag, modified_us: blob.modified_us });
    Conditions::read(call.request, "")?.check_write(validator)?;
    let lease_id = call.request.filled_header("x-ms-lease-id");
    match &existing {
        Some(blob) => blob.lease.guard(lease_id, true, Leased::Blob, call.now_us)?,
        None if lease_id.is_some() => {
            return Err(AzureError::precondition(
                "LeaseNotPresentWithBlobOperation",
                "There is currently no lease on the blob.",
            ));
        }
        None => {}
    }
    Ok(existing)
}

/// As [`target`], for operations that may make a blob: the permission to create does not allow replacing one.
pub(super) fn creation_target(call: &Call<'_>, container: &Container) -> Result<Option<Arc<Blob>>, AzureError> {
    let existing = target(call, container)?;
    if existing.is_some() {
        call.demand('w')?;
    }
    Ok(existing)
}

/// Changes a blob (or, where the request names one, a snapshot or version) in place; returns what it has become.
pub(super) fn edit(
    call: &Call<'_>,
    touch: Touch,
    api: Api,
    change: impl FnOnce(&mut Blob, &Stamp) -> Result<(), AzureError>,
) -> Result<Arc<Blob>, AzureError> {
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    let which = call.which()?;
    if touch != Touch::Nothing && matches!(which, Which::Version(_)) {
        return Err(AzureError::invalid_query("versionid", "versions can't be changed"));
    }
    // A blob that is not there is 404, whatever the conditions say.
    let (existing, _) = container.find(call.blob(), which).ok_or_else(AzureError::blob_not_found)?;
    if which == Which::Current {
        target(call, container)?;
    }
    let becomes_earlier = touch == Touch::Version && container.keeps_versions;
    let was = becomes_earlier.then(|| Arc::clone(&existing));
    let before = Before::of(&existing);
    // Nobody else holding the state, it is changed where it is.
    drop(existing);
    let family = container.family_mut(call.blob());
    let place = family.state_mut(which).ok_or_else(AzureError::blob_not_found)?;
    let blob = Arc::make_mut(place);
    change(blob, &stamp)?;
    if touch != Touch::Nothing {
        blob.etag = stamp.etag;
        blob.modified_us = stamp.at_us;
    }
    if touch == Touch::Version {
        blob.version = stamp.ticks;
    }
    let blob = Arc::clone(place);
    if let Some(was) = was {
        family.keep(was);
    }
    if !matches!(which, Which::Snapshot(_)) {
        let kind = if api == Api::SetBlobTier { EventKind::TierChanged } else { EventKind::PropertiesUpdated };
        let before = Some(before);
        world.record(&call.origin(), &Change { kind, api, ticks: stamp.ticks, blob: &blob, before, snapshot: None });
    }
    Ok(blob)
}

/// Set Blob Metadata: all of it is replaced.
pub(super) fn set_metadata(call: &Call<'_>) -> Result<Answer, AzureError> {
    let metadata = headers::metadata(call.request)?;
    let blob = edit(call, Touch::Version, Api::SetBlobMetadata, |blob, _| {
        blob.metadata = metadata;
        Ok(())
    })?;
    let answer = headers::mark(Answer::new(StatusCode::OK), &blob).header("x-ms-request-server-encrypted", "true");
    Ok(headers::with_new_version(answer, call, &blob))
}

/// Set Blob Properties: content headers, and of a page blob its length and sequence number.
pub(super) fn set_properties(call: &Call<'_>) -> Result<Answer, AzureError> {
    let request = call.request;
    let given = headers::blob_content_headers(request);
    let sets_headers = given != Default::default();
    let new_length = request.number_header("x-ms-blob-content-length")?;
    let action = request.filled_header("x-ms-sequence-number-action");
    let number = request.number_header("x-ms-blob-sequence-number")?;
    let blob = edit(call, Touch::Marks, Api::SetBlobProperties, |blob, _| {
        if (new_length.is_some() || action.is_some()) && blob.kind != BlobKind::Page {
            return Err(AzureError::invalid_blob_type());
        }
        if let (Some(length), Content::Pages(pages)) = (new_length, &mut blob.content) {
            if length % PAGE_BYTES != 0 {
                return Err(AzureError::invalid_header("x-ms-blob-content-length", &length.to_string()));
            }
            pages.resize(length);
        }
        if let Some(action) = action {
            blob.sequence_number = next_sequence_number(blob.sequence_number, action, number)?;
        }
        // Headers that are not sent are cleared, unless the request is only about the pages.
        if sets_headers || (new_length.is_none() && action.is_none()) {
            blob.headers = given;
        }
        Ok(())
    })?;
    let sequence_number = (blob.kind == BlobKind::Page).then(|| blob.sequence_number.to_string());
    let answer = headers::mark(Answer::new(StatusCode::OK), &blob);
    Ok(answer.maybe("x-ms-blob-sequence-number", sequence_number.as_deref()))
}

fn next_sequence_number(present: u64, action: &str, number: Option<u64>) -> Result<u64, AzureError> {
    match (action, number) {
        ("increment", None) => Ok(present + 1),
        ("update", Some(number)) => Ok(number),
        ("max", Some(number)) => Ok(present.max(number)),
        _ => Err(AzureError::invalid_header("x-ms-sequence-number-action", action)),
    }
}

/// Set Blob Tier. Leaving the archive takes no time here; Azure's answer to it is 202.
pub(super) fn set_tier(call: &Call<'_>) -> Result<Answer, AzureError> {
    let asked = call.request.filled_header("x-ms-access-tier").unwrap_or("");
    let tier = headers::tier_header(call.request, BlobKind::Block)?
        .ok_or_else(|| AzureError::missing_header("x-ms-access-tier"))?;
    let mut status = StatusCode::OK;
    edit(call, Touch::Nothing, Api::SetBlobTier, |blob, stamp| {
        if blob.kind != BlobKind::Block {
            return Err(AzureError::invalid_header("x-ms-access-tier", asked));
        }
        if blob.is_archived() && tier != "Archive" {
            status = StatusCode::ACCEPTED;
        }
        if blob.tier.as_ref() != Some(&tier) {
            blob.tier_changed_us = Some(stamp.at_us);
        }
        blob.tier = Some(tier);
        Ok(())
    })?;
    Ok(Answer::new(status))
}
