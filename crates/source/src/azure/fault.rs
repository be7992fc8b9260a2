//! Answers that are no success, put into words for the operator. It must never repeat a query string: a SAS lies in it.

use blobkeep_vault::{SourceError, SourceErrorKind};
use http::StatusCode;

use super::http_client::Response;

/// Azure's error code: from the header, or from the body.
pub(crate) fn code_of(response: &Response) -> String {
    if let Some(code) = response.header("x-ms-error-code") {
        return code.to_owned();
    }
    element(&response.body, "Code").unwrap_or_default()
}

/// The error for an answer to `what` ("list container photos"), made to `endpoint`.
pub(crate) fn error_of(what: &str, endpoint: &str, response: &Response) -> SourceError {
    let code = code_of(response);
    let kind = kind_of(response.status, &code);
    let mut message = format!("cannot {what} at {endpoint}: {}", response.status.as_u16());
    if !code.is_empty() {
        message.push(' ');
        message.push_str(&code);
    }
    if let Some(said) = element(&response.body, "Message").and_then(|said| said.lines().next().map(str::to_owned))
        && !said.is_empty()
    {
        message.push_str(&format!(" ({})", without_signature(said.trim_end_matches('.'))));
    }
    if let Some(hint) = hint_for(response.status, &code) {
        message.push_str(": ");
        message.push_str(hint);
    }
    SourceError::new(kind, message)
}

fn kind_of(status: StatusCode, code: &str) -> SourceErrorKind {
    match code {
        "BlobArchived" | "BlobBeingRehydrated" => return SourceErrorKind::Archived,
        "BlobAlreadyExists" | "ContainerAlreadyExists" => return SourceErrorKind::Conflict,
        "ContainerBeingDeleted" | "ServerBusy" | "InternalError" | "OperationTimedOut" => {
            return SourceErrorKind::Unavailable;
        }
        "FeatureNotSupported" | "APINotImplemented" => return SourceErrorKind::Refused,
        code if code.starts_with("LeaseId") => return SourceErrorKind::Refused,
        _ => {}
    }
    match status.as_u16() {
        404 => SourceErrorKind::NotFound,
        304 | 412 | 416 => SourceErrorKind::Changed,
        401 | 403 => SourceErrorKind::Denied,
        408 | 429 | 500..=599 => SourceErrorKind::Unavailable,
        400..=499 => SourceErrorKind::Refused,
        _ => SourceErrorKind::Protocol,
    }
}

fn hint_for(status: StatusCode, code: &str) -> Option<&'static str> {
    Some(match code {
        "AuthorizationPermissionMismatch" => {
            "the SAS or role lacks the permission: reading needs r and l (and t for index tags), writing c, w and l (and t for \
             index tags, i for immutability)"
        }
        "AuthorizationResourceTypeMismatch" => "the SAS must be for services, containers and objects (srt=sco)",
        "AuthorizationServiceMismatch" => "the SAS must be for the blob service (ss=b)",
        "AuthorizationProtocolMismatch" => "the SAS is for https only",
        "AuthorizationSourceIPMismatch" => "the SAS does not allow this machine's address",
        "AuthenticationFailed" | "AuthorizationFailure" => {
            "check the key or SAS, that it has not expired, that the account's firewall lets this machine in, and this machine's clock"
        }
        "KeyBasedAuthenticationNotPermitted" => {
            "the account does not allow keys: use a SAS made with a user delegation key"
        }
        "NoAuthenticationInformation" | "PublicAccessNotPermitted" | "ResourceNotFound" => {
            "nothing is public there: give a key or a SAS"
        }
        "AccountIsDisabled" => "the storage account is disabled",
        "BlobArchived" => "set its tier to Hot, Cool or Cold first and wait until it is there",
        "BlobBeingRehydrated" => "it is being moved out of the archive tier: try again when it is there",
        "LeaseIdMissing" => "it is leased: break the lease or wait until it ends",
        "BlobImmutableDueToPolicy" | "ContainerImmutableStorage" => "a legal hold or a retention policy protects it",
        "SnapshotsPresent" => "it has snapshots",
        "PendingCopyOperation" => "another copy over it is still under way: try again when it is done",
        "ContainerBeingDeleted" => "a container of that name is being deleted, which takes a while: try again later",
        "InvalidBlobOrBlock" => "someone else is uploading a blob of that name: try again when they have finished",
        "InvalidResourceName" | "InvalidUri" | "OutOfRangeInput" => "the endpoint does not allow this name",
        "MetadataTooLarge" => "the endpoint takes at most 8 KiB of metadata",
        _ if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE => {
            "the endpoint is too busy: try again later, or ask less of it at once"
        }
        _ if status.is_redirection() => "redirects are not followed: give the address that it leads to",
        _ => return None,
    })
}

/// The text of the first element of that name; error bodies are small and flat.
fn element(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = text.find(&open)? + open.len();
    let to = text[from..].find(&close)? + from;
    Some(text[from..to].trim().to_owned())
}

/// Azure explains a wrong signature by showing the string that it signed; none of that belongs into a log.
fn without_signature(said: &str) -> &str {
    let end =
        ["sig=", "Signature did not match", "The MAC signature found"].iter().filter_map(|mark| said.find(mark)).min();
    said[..end.unwrap_or(said.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &'static str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            tries: 1,
        }
    }

    #[test]
    fn an_error_says_what_happened_and_what_to_do() {
        let body = "<?xml version=\"1.0\"?><Error><Code>AuthorizationPermissionMismatch</Code><Message>This request is not \
                    authorized.\nRequestId:1</Message></Error>";
        let error = error_of("list container photos", "https://acc.example.org", &answer(403, body));
        assert_eq!(error.kind, SourceErrorKind::Denied);
        assert!(
            error.message.starts_with(
                "cannot list container photos at https://acc.example.org: 403 AuthorizationPermissionMismatch (This request is \
                 not authorized): the SAS"
            ),
            "{}",
            error.message
        );
    }

    #[test]
    fn kinds_follow_code_and_status() {
        let kind = |status, code: &str| kind_of(StatusCode::from_u16(status).unwrap(), code);
        assert_eq!(kind(409, "BlobArchived"), SourceErrorKind::Archived);
        assert_eq!(kind(409, "BlobAlreadyExists"), SourceErrorKind::Conflict);
        assert_eq!(kind(412, "ConditionNotMet"), SourceErrorKind::Changed);
        assert_eq!(kind(412, "LeaseIdMissing"), SourceErrorKind::Refused);
        assert_eq!(kind(404, ""), SourceErrorKind::NotFound);
        assert_eq!(kind(503, "ServerBusy"), SourceErrorKind::Unavailable);
        assert_eq!(kind(500, "FeatureNotSupported"), SourceErrorKind::Refused);
        assert_eq!(kind(400, "InvalidHeaderValue"), SourceErrorKind::Refused);
        assert_eq!(kind(302, ""), SourceErrorKind::Protocol);
    }

    #[test]
    fn signatures_are_not_repeated() {
        assert_eq!(without_signature("Server failed. The MAC signature found in abc"), "Server failed.");
        assert_eq!(without_signature("see ?sv=1&sig=abc"), "see ?sv=1&");
    }
}
