//! The operations, one file per group. Each takes a call that is already authorized and gives an answer or a refusal. No
//! operation waits: what it does under the lock is a map look-up and a swap.

mod append;
mod blob_headers;
mod blobs;
mod blocks;
mod containers;
mod copy;
mod edit;
mod feed;
mod lease;
mod list;
mod pages;
mod put;
mod service;
mod tags;

use bytes::Bytes;

use crate::answer::Answer;
use crate::auth::Granted;
use crate::clock;
use crate::error::AzureError;
use crate::feed::Origin;
use crate::model::container::Which;
use crate::operation::Operation;
use crate::request::{Query, Request};
use crate::server::Shared;

/// A request that may be performed.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) request: &'a Request,
    pub(crate) body: Bytes,
    pub(crate) granted: Granted,
    pub(crate) now_us: i64,
    pub(crate) request_id: &'a str,
}

impl Call<'_> {
    fn account(&self) -> &str {
        &self.request.account
    }

    fn container(&self) -> &str {
        self.request.container.as_deref().unwrap_or("")
    }

    fn blob(&self) -> &str {
        self.request.blob.as_deref().unwrap_or("")
    }

    /// The state of the blob that the request names.
    ///
    /// # Errors
    /// 400 for an id that is no time, and for a snapshot of a version.
    fn which(&self) -> Result<Which<'_>, AzureError> {
        which(&self.request.query)
    }

    /// The request as the change feed tells of it.
    fn origin(&self) -> Origin<'_> {
        Origin {
            account: self.account(),
            container: self.container(),
            blob: self.blob(),
            request_id: self.request_id,
            client_request_id: self.request.header("x-ms-client-request-id").unwrap_or(""),
            now_us: self.now_us,
        }
    }

    /// Refuses if a further permission is missing.
    fn demand(&self, permission: char) -> Result<(), AzureError> {
        if self.granted.may(permission) { Ok(()) } else { Err(AzureError::permission_mismatch()) }
    }
}

/// The state that the query of a blob's address names.
fn which(query: &Query) -> Result<Which<'_>, AzureError> {
    match (query.get("snapshot"), query.get("versionid")) {
        (None, None) => Ok(Which::Current),
        (Some(time), None) => Ok(Which::Snapshot(time)),
        (None, Some(id)) => {
            clock::parse_iso_ticks(id).map(Which::Version).ok_or_else(|| AzureError::invalid_query("versionid", id))
        }
        (Some(_), Some(_)) => Err(AzureError::bad_request(
            "MutuallyExclusiveQueryParameters",
            "The snapshot and versionid query parameters are mutually exclusive.",
        )),
    }
}

/// Performs an operation.
pub(crate) fn perform(call: &Call<'_>, operation: Operation) -> Result<Answer, AzureError> {
    feed::attend(call, operation)?;
    match operation {
        Operation::ListContainers => service::list_containers(call),
        Operation::GetAccountInformation => service::account_information(),
        Operation::GetServiceProperties => service::get_properties(call),
        Operation::SetServiceProperties => service::set_properties(call),
        Operation::CreateContainer => containers::create(call),
        Operation::GetContainerProperties | Operation::GetContainerMetadata => containers::get_properties(call),
        Operation::DeleteContainer => containers::delete(call),
        Operation::SetContainerMetadata => containers::set_metadata(call),
        Operation::GetContainerAcl => containers::get_acl(call),
        Operation::SetContainerAcl => containers::set_acl(call),
        Operation::LeaseContainer => lease::lease_container(call),
        Operation::ListBlobs => list::list_blobs(call),
        Operation::PutBlob => put::put_blob(call),
        Operation::GetBlob => blobs::get(call),
        Operation::GetBlobProperties => blobs::get_properties(call),
        Operation::DeleteBlob => blobs::delete(call),
        Operation::CopyBlob => copy::copy_blob(call),
        Operation::AbortCopyBlob => copy::abort_copy(call),
        Operation::PutBlock => blocks::put_block(call),
        Operation::PutBlockList => blocks::put_block_list(call),
        Operation::GetBlockList => blocks::get_block_list(call),
        Operation::AppendBlock => append::append_block(call),
        Operation::SealBlob => append::seal(call),
        Operation::PutPage => pages::put_page(call),
        Operation::GetPageRanges => pages::get_page_ranges(call),
        Operation::SetBlobProperties => edit::set_properties(call),
        Operation::GetBlobMetadata => blobs::get_metadata(call),
        Operation::SetBlobMetadata => edit::set_metadata(call),
        Operation::GetBlobTags => tags::get_tags(call),
        Operation::SetBlobTags => tags::set_tags(call),
        Operation::SetBlobTier => edit::set_tier(call),
        Operation::SnapshotBlob => blobs::snapshot(call),
        Operation::LeaseBlob => lease::lease_blob(call),
        Operation::Unknown => Err(unknown(call.request)),
    }
}

/// The refusal of an operation that is not served.
pub(crate) fn unknown(request: &Request) -> AzureError {
    let comp = request.query("comp").unwrap_or("");
    AzureError::not_implemented(&format!("{} of this resource with comp={comp}", request.method))
}
