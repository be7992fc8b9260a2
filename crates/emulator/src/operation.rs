//! The table of operations: how a request names one, what it is called in records and faults, and what a SAS must allow for
//! it (from "Create an account SAS" and "Create a service SAS").

use http::Method;

use crate::request::Request;

/// An operation of the Blob service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ListContainers,
    GetAccountInformation,
    GetServiceProperties,
    SetServiceProperties,
    CreateContainer,
    GetContainerProperties,
    DeleteContainer,
    GetContainerMetadata,
    SetContainerMetadata,
    GetContainerAcl,
    SetContainerAcl,
    LeaseContainer,
    ListBlobs,
    PutBlob,
    GetBlob,
    GetBlobProperties,
    DeleteBlob,
    CopyBlob,
    AbortCopyBlob,
    PutBlock,
    PutBlockList,
    GetBlockList,
    AppendBlock,
    SealBlob,
    PutPage,
    GetPageRanges,
    SetBlobProperties,
    GetBlobMetadata,
    SetBlobMetadata,
    GetBlobTags,
    SetBlobTags,
    SetBlobTier,
    SnapshotBlob,
    LeaseBlob,
    Unknown,
}

/// What a SAS must have for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Service, container or object: `s`, `c`, `o`.
    pub(crate) resource: char,
    /// One of these permissions is enough; empty means any.
    pub(crate) any_of: &'static str,
}

impl Operation {
    /// The operation that a request asks for.
    pub(crate) fn of(request: &Request) -> Operation {
        let comp = request.query("comp").unwrap_or("");
        let restype = request.query("restype").unwrap_or("");
        if restype == "account" && comp == "properties" {
            return match request.method {
                Method::GET | Method::HEAD => Operation::GetAccountInformation,
                _ => Operation::Unknown,
            };
        }
        match (&request.container, &request.blob) {
            (None, _) => of_account(&request.method, restype, comp),
            (Some(_), None) if restype == "container" => of_container(&request.method, comp),
            (Some(_), None) => Operation::Unknown,
            (Some(_), Some(_)) => of_blob(request, comp),
        }
    }

    /// The name in records and fault rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::ListContainers => "ListContainers",
            Operation::GetAccountInformation => "GetAccountInformation",
            Operation::GetServiceProperties => "GetServiceProperties",
            Operation::SetServiceProperties => "SetServiceProperties",
            Operation::CreateContainer => "CreateContainer",
            Operation::GetContainerProperties => "GetContainerProperties",
            Operation::DeleteContainer => "DeleteContainer",
            Operation::GetContainerMetadata => "GetContainerMetadata",
            Operation::SetContainerMetadata => "SetContainerMetadata",
            Operation::GetContainerAcl => "GetContainerAcl",
            Operation::SetContainerAcl => "SetContainerAcl",
            Operation::LeaseContainer => "LeaseContainer",
            Operation::ListBlobs => "ListBlobs",
            Operation::PutBlob => "PutBlob",
            Operation::GetBlob => "GetBlob",
            Operation::GetBlobProperties => "GetBlobProperties",
            Operation::DeleteBlob => "DeleteBlob",
            Operation::CopyBlob => "CopyBlob",
            Operation::AbortCopyBlob => "AbortCopyBlob",
            Operation::PutBlock => "PutBlock",
            Operation::PutBlockList => "PutBlockList",
            Operation::GetBlockList => "GetBlockList",
            Operation::AppendBlock => "AppendBlock",
            Operation::SealBlob => "SealBlob",
            Operation::PutPage => "PutPage",
            Operation::GetPageRanges => "GetPageRanges",
            Operation::SetBlobProperties => "SetBlobProperties",
            Operation::GetBlobMetadata => "GetBlobMetadata",
            Operation::SetBlobMetadata => "SetBlobMetadata",
            Operation::GetBlobTags => "GetBlobTags",
            Operation::SetBlobTags => "SetBlobTags",
            Operation::SetBlobTier => "SetBlobTier",
            Operation::SnapshotBlob => "SnapshotBlob",
            Operation::LeaseBlob => "LeaseBlob",
            Operation::Unknown => "Unknown",
        }
    }

    /// Whether it changes nothing in a container and its blobs.
    pub(crate) fn only_reads(self) -> bool {
        matches!(
            self,
            Operation::GetContainerProperties
                | Operation::GetContainerMetadata
                | Operation::GetContainerAcl
                | Operation::ListBlobs
                | Operation::GetBlob
                | Operation::GetBlobProperties
                | Operation::GetBlobMetadata
                | Operation::GetBlobTags
                | Operation::GetBlockList
                | Operation::GetPageRanges
        )
    }

    /// What a SAS must allow; `None` for what no SAS allows.
    pub(crate) fn need(self) -> Option<Need> {
        let need = |resource, any_of| Some(Need { resource, any_of });
        match self {
            Operation::ListContainers => need('s', "l"),
            Operation::GetAccountInformation => need('s', ""),
            Operation::GetServiceProperties => need('s', "r"),
            Operation::SetServiceProperties => need('s', "w"),
            Operation::CreateContainer => need('c', "cw"),
            Operation::GetContainerProperties | Operation::GetContainerMetadata => need('c', "r"),
            Operation::DeleteContainer => need('c', "d"),
            Operation::SetContainerMetadata => need('c', "w"),
            Operation::LeaseContainer => need('c', "wd"),
            Operation::ListBlobs => need('c', "l"),
            Operation::GetBlob
            | Operation::GetBlobProperties
            | Operation::GetBlobMetadata
            | Operation::GetBlockList
            | Operation::GetPageRanges => need('o', "r"),
            Operation::PutBlob | Operation::PutBlockList | Operation::CopyBlob | Operation::SnapshotBlob => {
                need('o', "cw")
            }
            Operation::AppendBlock => need('o', "aw"),
            Operation::PutBlock
            | Operation::PutPage
            | Operation::SealBlob
            | Operation::AbortCopyBlob
            | Operation::SetBlobProperties
            | Operation::SetBlobMetadata
            | Operation::SetBlobTier => need('o', "w"),
            // Which of the two depends on what is deleted: a blob, or a version of it.
            Operation::DeleteBlob => need('o', "dx"),
            Operation::GetBlobTags | Operation::SetBlobTags => need('o', "t"),
            Operation::LeaseBlob => need('o', "wd"),
            Operation::GetContainerAcl | Operation::SetContainerAcl | Operation::Unknown => None,
        }
    }
}

fn of_account(method: &Method, restype: &str, comp: &str) -> Operation {
    match (method, restype, comp) {
        (&Method::GET, "", "list") => Operation::ListContainers,
        (&Method::GET, "service", "properties") => Operation::GetServiceProperties,
        (&Method::PUT, "service", "properties") => Operation::SetServiceProperties,
        _ => Operation::Unknown,
    }
}

fn of_container(method: &Method, comp: &str) -> Operation {
    match (method, comp) {
        (&Method::PUT, "") => Operation::CreateContainer,
        (&Method::GET | &Method::HEAD, "") => Operation::GetContainerProperties,
        (&Method::DELETE, "") => Operation::DeleteContainer,
        (&Method::GET | &Method::HEAD, "metadata") => Operation::GetContainerMetadata,
        (&Method::PUT, "metadata") => Operation::SetContainerMetadata,
        (&Method::GET | &Method::HEAD, "acl") => Operation::GetContainerAcl,
        (&Method::PUT, "acl") => Operation::SetContainerAcl,
        (&Method::PUT, "lease") => Operation::LeaseContainer,
        (&Method::GET, "list") => Operation::ListBlobs,
        _ => Operation::Unknown,
    }
}

fn of_blob(request: &Request, comp: &str) -> Operation {
    let copies = request.headers.contains_key("x-ms-copy-source");
    match (&request.method, comp) {
        // Put Blob From URL, Put Block From URL and their like.
        (&Method::PUT, "") if copies && request.headers.contains_key("x-ms-blob-type") => Operation::Unknown,
        (&Method::PUT, "block" | "appendblock" | "page") if copies => Operation::Unknown,
        (&Method::PUT, "") if copies => Operation::CopyBlob,
        (&Method::PUT, "") => Operation::PutBlob,
        (&Method::GET, "") => Operation::GetBlob,
        (&Method::HEAD, "") => Operation::GetBlobProperties,
        (&Method::DELETE, "") => Operation::DeleteBlob,
        (&Method::PUT, "copy") => Operation::AbortCopyBlob,
        (&Method::PUT, "block") => Operation::PutBlock,
        (&Method::PUT, "blocklist") => Operation::PutBlockList,
        (&Method::GET, "blocklist") => Operation::GetBlockList,
        (&Method::PUT, "appendblock") => Operation::AppendBlock,
        (&Method::PUT, "seal") => Operation::SealBlob,
        (&Method::PUT, "page") => Operation::PutPage,
        (&Method::GET, "pagelist") => Operation::GetPageRanges,
        (&Method::PUT, "properties") => Operation::SetBlobProperties,
        (&Method::GET | &Method::HEAD, "metadata") => Operation::GetBlobMetadata,
        (&Method::PUT, "metadata") => Operation::SetBlobMetadata,
        (&Method::GET, "tags") => Operation::GetBlobTags,
        (&Method::PUT, "tags") => Operation::SetBlobTags,
        (&Method::PUT, "tier") => Operation::SetBlobTier,
        (&Method::PUT, "snapshot") => Operation::SnapshotBlob,
        (&Method::PUT, "lease") => Operation::LeaseBlob,
        _ => Operation::Unknown,
    }
}
