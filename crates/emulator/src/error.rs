//! An answer that is an error: status, Azure's error code and a message. The codes and statuses are those of the public
//! list "Blob service error codes"; nothing else may be sent to a client.

use http::StatusCode;

/// A refusal in Azure's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(crate) struct AzureError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Extra response headers, e.g. `Content-Range` of a 416.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl AzureError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> AzureError {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn precondition(code: &'static str, message: impl Into<String>) -> AzureError {
        AzureError::new(StatusCode::PRECONDITION_FAILED, code, message)
    }

    /// The signature does not fit, or its time has passed.
    pub(crate) fn authentication_failed(detail: &str) -> AzureError {
        AzureError::forbidden(
            "AuthenticationFailed",
            format!(
                "Server failed to authenticate the request. Make sure the value of Authorization header is formed \
                 correctly including the signature. {detail}"
            ),
        )
    }

    /// The signature is right but does not allow this.
    pub(crate) fn permission_mismatch() -> AzureError {
        AzureError::forbidden(
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        )
    }

    pub(crate) fn container_not_found() -> AzureError {
        AzureError::not_found("ContainerNotFound", "The specified container does not exist.")
    }

    pub(crate) fn blob_not_found() -> AzureError {
        AzureError::not_found("BlobNotFound", "The specified blob does not exist.")
    }

    pub(crate) fn condition_not_met() -> AzureError {
        AzureError::precondition(
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        )
    }

    pub(crate) fn invalid_header(name: &str, value: &str) -> AzureError {
        AzureError::bad_request(
            "InvalidHeaderValue",
            format!("The value for one of the HTTP headers is not in the correct format: {name}: {value}"),
        )
    }

    pub(crate) fn missing_header(name: &str) -> AzureError {
        AzureError::bad_request(
            "MissingRequiredHeader",
            format!("An HTTP header that's mandatory for this request is not specified: {name}"),
        )
    }

    pub(crate) fn invalid_query(name: &str, value: &str) -> AzureError {
        AzureError::bad_request(
            "InvalidQueryParameterValue",
            format!("Value for one of the query parameters specified in the request URI is invalid: {name}={value}"),
        )
    }

    pub(crate) fn invalid_xml(detail: impl std::fmt::Display) -> AzureError {
        AzureError::bad_request("InvalidXmlDocument", format!("XML specified is not syntactically valid: {detail}"))
    }

    pub(crate) fn invalid_blob_type() -> AzureError {
        AzureError::conflict("InvalidBlobType", "The blob type is invalid for this operation.")
    }

    pub(crate) fn not_implemented(what: &str) -> AzureError {
        AzureError::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("The emulator does not implement this: {what}"),
        )
    }
}
