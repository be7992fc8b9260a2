//! Shared access signatures of the account and of the Blob service ("Create an account SAS", "Create a service SAS"):
//! verifying those that come, and making some for clients.

use std::net::Ipv4Addr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::clock;
use crate::error::AzureError;
use crate::model::{SigningKey, World};
use crate::operation::Operation;
use crate::request::Request;

/// The version that made signatures carry.
const MADE_VERSION: &str = "2021-12-02";
/// When made signatures end.
const MADE_EXPIRY: &str = "2099-12-31T00:00:00Z";

/// The values that count, from the query or from a stored access policy.
struct Terms {
    permissions: String,
    start: String,
    expiry: String,
}

/// Verifies the SAS of a request and returns its permissions.
pub(crate) fn verify(
    world: &World,
    request: &Request,
    operation: Operation,
    now_us: i64,
) -> Result<String, AzureError> {
    let key = &world.account(&request.account)?.key;
    let signature = request.query("sig").unwrap_or("");
    let of_account = request.query("srt").is_some();
    let text = match of_account {
        true => account_string_to_sign(request),
        false => service_string_to_sign(request)?,
    };
    if !key.verify_base64(&text, signature) {
        return Err(AzureError::authentication_failed("Signature did not match."));
    }
    let terms = terms(world, request)?;
    check_time(&terms, now_us)?;
    check_origin(request)?;
    match of_account {
        true => check_account_scope(request, operation)?,
        false => check_service_scope(operation, request.query("sr").unwrap_or(""))?,
    }
    let need = operation.need().ok_or_else(AzureError::permission_mismatch)?;
    if !need.any_of.is_empty() && !need.any_of.chars().any(|permission| terms.permissions.contains(permission)) {
        return Err(AzureError::permission_mismatch());
    }
    Ok(terms.permissions)
}

fn parameter<'a>(request: &'a Request, name: &str) -> &'a str {
    request.query(name).unwrap_or("")
}

fn account_string_to_sign(request: &Request) -> String {
    let mut lines = vec![request.account.as_str()];
    lines.extend(["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"].map(|name| parameter(request, name)));
    if parameter(request, "sv") >= "2020-12-06" {
        lines.push(parameter(request, "ses"));
    }
    lines.push("");
    lines.join("\n")
}

fn service_string_to_sign(request: &Request) -> Result<String, AzureError> {
    let version = parameter(request, "sv");
    if version < "2015-04-05" {
        return Err(AzureError::authentication_failed("A service SAS of this version is not served."));
    }
    let container = request.container.as_deref().unwrap_or("");
    let resource = match (parameter(request, "sr"), request.blob.as_deref()) {
        ("c", _) => format!("/blob/{}/{container}", request.account),
        ("b" | "bs" | "bv", Some(blob)) => format!("/blob/{}/{container}/{blob}", request.account),
        _ => return Err(AzureError::authentication_failed("sr is not a resource that is served, or is missing.")),
    };
    let mut lines: Vec<&str> = ["sp", "st", "se"].map(|name| parameter(request, name)).to_vec();
    lines.push(&resource);
    lines.extend(["si", "sip", "spr", "sv"].map(|name| parameter(request, name)));
    if version >= "2018-11-09" {
        lines.push(parameter(request, "sr"));
        lines.push(match parameter(request, "sr") {
            "bs" => parameter(request, "snapshot"),
            "bv" => parameter(request, "versionid"),
            _ => "",
        });
    }
    if version >= "2020-12-06" {
        lines.push(parameter(request, "ses"));
    }
    lines.extend(["rscc", "rscd", "rsce", "rscl", "rsct"].map(|name| parameter(request, name)));
    Ok(lines.join("\n"))
}

/// The terms of the query, completed by the stored access policy that it may name.
fn terms(world: &World, request: &Request) -> Result<Terms, AzureError> {
    let mut terms = Terms {
        permissions: parameter(request, "sp").to_owned(),
        start: parameter(request, "st").to_owned(),
        expiry: parameter(request, "se").to_owned(),
    };
    let (Some(id), Some(container)) = (request.query("si"), request.container.as_deref()) else { return Ok(terms) };
    let container = world.container(&request.account, container);
    let policy = container
        .ok()
        .and_then(|container| container.policies.iter().find(|policy| policy.id == id))
        .ok_or_else(|| AzureError::authentication_failed("The stored access policy does not exist."))?;
    for (value, stored) in [
        (&mut terms.permissions, &policy.permissions),
        (&mut terms.start, &policy.start),
        (&mut terms.expiry, &policy.expiry),
    ] {
        if value.is_empty() {
            value.push_str(stored.as_deref().unwrap_or(""));
        }
    }
    Ok(terms)
}

fn check_time(terms: &Terms, now_us: i64) -> Result<(), AzureError> {
    let out_of_time = || AzureError::authentication_failed("Signature not valid in the specified time frame.");
    let expiry_us = clock::parse_sas_time(&terms.expiry).ok_or_else(out_of_time)?;
    let start_us = match terms.start.as_str() {
        "" => i64::MIN,
        start => clock::parse_sas_time(start).ok_or_else(out_of_time)?,
    };
    if now_us < start_us || now_us >= expiry_us { Err(out_of_time()) } else { Ok(()) }
}

fn check_origin(request: &Request) -> Result<(), AzureError> {
    if request.query("spr") == Some("https") {
        return Err(AzureError::forbidden(
            "AuthorizationProtocolMismatch",
            "This request is not authorized to perform this operation using this protocol.",
        ));
    }
    let Some(range) = request.query("sip").filter(|range| !range.is_empty()) else { return Ok(()) };
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let allowed = match (low.parse::<Ipv4Addr>(), high.parse::<Ipv4Addr>(), request.peer) {
        (Ok(low), Ok(high), std::net::IpAddr::V4(peer)) => (low..=high).contains(&peer),
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(AzureError::forbidden(
        "AuthorizationSourceIPMismatch",
        "This request is not authorized to perform this operation using this source IP.",
    ))
}

fn check_account_scope(request: &Request, operation: Operation) -> Result<(), AzureError> {
    if !parameter(request, "ss").contains('b') {
        return Err(AzureError::forbidden(
            "AuthorizationServiceMismatch",
            "This request is not authorized to perform this operation using this service.",
        ));
    }
    let resource = operation.need().map(|need| need.resource);
    let any = operation == Operation::GetAccountInformation;
    if any || resource.is_none_or(|resource| parameter(request, "srt").contains(resource)) {
        return Ok(());
    }
    Err(AzureError::forbidden(
        "AuthorizationResourceTypeMismatch",
        "This request is not authorized to perform this operation using this resource type.",
    ))
}

/// A container's SAS reaches its blobs and their list; a blob's SAS reaches that blob.
fn check_service_scope(operation: Operation, resource: &str) -> Result<(), AzureError> {
    let of_object = operation.need().is_some_and(|need| need.resource == 'o');
    let allowed = match operation {
        Operation::GetAccountInformation => true,
        Operation::ListBlobs => resource == "c",
        _ => of_object,
    };
    if allowed { Ok(()) } else { Err(AzureError::permission_mismatch()) }
}

fn query_text(pairs: &[(&str, &str)]) -> String {
    let encoded = pairs.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    encoded.collect::<Vec<_>>().join("&")
}

/// An account SAS token (no leading `?`) for the Blob service and all resource types.
pub(crate) fn make_account_sas(key: &SigningKey, account: &str, permissions: &str) -> String {
    let text = format!("{account}\n{permissions}\nb\nsco\n\n{MADE_EXPIRY}\n\n\n{MADE_VERSION}\n\n");
    let signature = key.sign_base64(&text);
    query_text(&[
        ("sv", MADE_VERSION),
        ("ss", "b"),
        ("srt", "sco"),
        ("sp", permissions),
        ("se", MADE_EXPIRY),
        ("sig", &signature),
    ])
}

/// A service SAS token (no leading `?`) for a container, or for one blob of it.
pub(crate) fn make_service_sas(
    key: &SigningKey,
    account: &str,
    container: &str,
    blob: Option<&str>,
    permissions: &str,
) -> String {
    let (kind, resource) = match blob {
        Some(blob) => ("b", format!("/blob/{account}/{container}/{blob}")),
        None => ("c", format!("/blob/{account}/{container}")),
    };
    let text = format!("{permissions}\n\n{MADE_EXPIRY}\n{resource}\n\n\n\n{MADE_VERSION}\n{kind}\n\n\n\n\n\n\n");
    let signature = key.sign_base64(&text);
    query_text(&[("sv", MADE_VERSION), ("sr", kind), ("sp", permissions), ("se", MADE_EXPIRY), ("sig", &signature)])
}
