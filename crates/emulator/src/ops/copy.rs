//! Copy Blob and Copy Blob From URL inside this server, of current states, snapshots and earlier versions. A copy is done when
//! the answer is sent, so there is none to abort.

use std::collections::BTreeMap;

use std::sync::Arc;

use http::{Method, StatusCode};

use super::blob_headers as headers;
use super::{Call, put, which};
use crate::answer::Answer;
use crate::auth::{self, Granted};
use crate::conditions::{Conditions, Validator};
use crate::error::AzureError;
use crate::feed::Api;
use crate::model::blob::{Blob, CopyInfo};
use crate::model::lease::Lease;
use crate::operation::Operation;
use crate::request::{self, Query, Request};

fn cannot_verify(detail: &str) -> AzureError {
    AzureError::not_found("CannotVerifyCopySource", format!("Could not verify the copy source: {detail}"))
}

/// Whether this is Copy Blob From URL.
fn is_synchronous(call: &Call<'_>) -> bool {
    call.request.header("x-ms-requires-sync").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The tags of a copy: those of the request. Copy Blob From URL can take those of the source.
fn tags(call: &Call<'_>, source: &Blob) -> Result<BTreeMap<String, String>, AzureError> {
    let name = "x-ms-copy-source-tag-option";
    match call.request.filled_header(name).filter(|_| is_synchronous(call)) {
        None | Some("REPLACE") => headers::tags_header(call),
        Some("COPY") if call.request.filled_header("x-ms-tags").is_none() => {
            call.demand('t')?;
            Ok(source.tags.clone())
        }
        Some(other) => Err(AzureError::invalid_header(name, other)),
    }
}

/// Copy Blob.
pub(super) fn copy_blob(call: &Call<'_>) -> Result<Answer, AzureError> {
    let url = call.request.filled_header("x-ms-copy-source").unwrap_or("");
    let source = find_source(call, url)?;
    Conditions::read(call.request, "x-ms-source-")?
        .check_source(Validator { etag: &source.etag, modified_us: source.modified_us })?;
    if source.is_archived() {
        return Err(AzureError::conflict("BlobArchived", "This operation is not permitted on an archived blob."));
    }
    let metadata = headers::metadata(call.request)?;
    let tier = headers::tier_header(call.request, source.kind)?;
    let copy = CopyInfo {
        id: uuid::Uuid::new_v4().to_string(),
        // The signature of the source stays a secret.
        source: url.split('?').next().unwrap_or("").to_owned(),
        len_bytes: source.content.len_bytes(),
        completed_us: call.now_us,
    };
    let blob = Blob {
        metadata: if metadata.is_empty() { source.metadata.clone() } else { metadata },
        tags: tags(call, &source)?,
        tier_changed_us: tier.as_ref().map(|_| call.now_us),
        tier,
        lease: Lease::None,
        sealed: source.sealed && call.request.header("x-ms-seal-blob") == Some("true"),
        copy: Some(copy.clone()),
        ..(*source).clone()
    };
    let blob = put::publish(call, blob, Api::CopyBlob)?;
    let answer = headers::mark(Answer::new(StatusCode::ACCEPTED), &blob);
    let answer = headers::with_new_version(answer, call, &blob);
    Ok(answer.header("x-ms-copy-id", &copy.id).header("x-ms-copy-status", "success"))
}

/// The blob that the source's address names, if the caller may read it.
fn find_source(call: &Call<'_>, url: &str) -> Result<Arc<Blob>, AzureError> {
    let rest = url.strip_prefix("http://").ok_or_else(|| AzureError::invalid_header("x-ms-copy-source", url))?;
    let (host, rest) = rest.split_once('/').ok_or_else(|| AzureError::invalid_header("x-ms-copy-source", url))?;
    let is_ours = Some(host) == call.request.header("host") || host == call.shared.address.to_string();
    if !is_ours {
        return Err(cannot_verify("only blobs of this server can be copied"));
    }
    let (raw_path, raw_query) = rest.split_once('?').unwrap_or((rest, ""));
    let query = Query::parse(raw_query);
    let raw_path = format!("/{raw_path}");
    let (account, container, blob) = request::split_path(&raw_path, &query)?;
    let source = Request {
        method: Method::GET,
        raw_path,
        query,
        headers: http::HeaderMap::new(),
        account,
        container,
        blob,
        peer: call.request.peer,
    };
    let world = call.shared.read();
    // "Copy Blob From URL": the source must be public or have a SAS, also in the same account.
    let by_key = call.granted == Granted::Key && source.account == *call.account() && !is_synchronous(call);
    if !by_key {
        auth::authorize(&world, &source, Operation::GetBlob, call.now_us, None)
            .map_err(|_| cannot_verify("the source may not be read: give its URL a SAS with the permission r"))?;
    }
    let container = world.container(&source.account, source.container.as_deref().unwrap_or(""))?;
    let found = container.find(source.blob.as_deref().unwrap_or(""), which(&source.query)?);
    found.map(|(blob, _)| blob).ok_or_else(AzureError::blob_not_found)
}

/// Abort Copy Blob: no copy is ever pending.
pub(super) fn abort_copy(_: &Call<'_>) -> Result<Answer, AzureError> {
    Err(AzureError::conflict("NoPendingCopyOperation", "There is currently no pending copy operation."))
}
