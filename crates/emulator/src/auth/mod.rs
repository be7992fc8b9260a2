//! Who may do what: SharedKey, account SAS, service SAS, or nobody in particular on public containers. Every signature is
//! verified; nothing here may log or keep one.

pub(crate) mod sas;
pub(crate) mod shared_key;

use http::StatusCode;

use crate::error::AzureError;
use crate::model::World;
use crate::model::container::PublicAccess;
use crate::operation::Operation;
use crate::request::Request;

/// How a request was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Granted {
    /// By the account's key: everything.
    Key,
    /// By a SAS with these permissions.
    Sas(String),
    /// By a container's public access.
    Public,
}

impl Granted {
    /// Whether a further permission is there, beside those that the operation itself needs.
    pub(crate) fn may(&self, permission: char) -> bool {
        match self {
            Granted::Key => true,
            Granted::Sas(permissions) => permissions.contains(permission),
            Granted::Public => false,
        }
    }
}

/// Decides whether a request is allowed.
pub(crate) fn authorize(
    world: &World,
    request: &Request,
    operation: Operation,
    now_us: i64,
    max_age_seconds: Option<i64>,
) -> Result<Granted, AzureError> {
    let account = world.account(&request.account)?;
    if let Some(authorization) = request.header("authorization") {
        shared_key::verify(&account.key, request, authorization, now_us, max_age_seconds)?;
        return Ok(Granted::Key);
    }
    if request.query("sig").is_some() {
        return sas::verify(world, request, operation, now_us).map(Granted::Sas);
    }
    let public = request
        .container
        .as_ref()
        .and_then(|container| account.containers.get(container))
        .map_or(PublicAccess::None, |container| container.public);
    if is_public(public, operation) {
        return Ok(Granted::Public);
    }
    Err(AzureError::new(
        StatusCode::UNAUTHORIZED,
        "NoAuthenticationInformation",
        "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
    )
    .with_header("WWW-Authenticate", "SharedKey"))
}

fn is_public(access: PublicAccess, operation: Operation) -> bool {
    match operation {
        Operation::GetBlob
        | Operation::GetBlobProperties
        | Operation::GetBlobMetadata
        | Operation::GetBlockList
        | Operation::GetPageRanges => access != PublicAccess::None,
        Operation::ListBlobs | Operation::GetContainerProperties | Operation::GetContainerMetadata => {
            access == PublicAccess::Container
        }
        _ => false,
    }
}
