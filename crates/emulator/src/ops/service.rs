//! The account: its containers, its service properties, its kind.

use std::ops::Bound;

use http::StatusCode;

use super::Call;
use super::list::{page_size, push_asked};
use crate::answer::Answer;
use crate::clock;
use crate::error::AzureError;
use crate::feed::FEED_CONTAINER;
use crate::model::container::Container;
use crate::xml;

/// Service properties before any were set.
const DEFAULT_PROPERTIES: &str = "<StorageServiceProperties><Logging><Version>1.0</Version><Read>false</Read>\
    <Write>false</Write><Delete>false</Delete><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></Logging>\
    <HourMetrics><Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>\
    </HourMetrics><MinuteMetrics><Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled>\
    </RetentionPolicy></MinuteMetrics><Cors /><DeleteRetentionPolicy><Enabled>false</Enabled></DeleteRetentionPolicy>\
    <StaticWebsite><Enabled>false</Enabled></StaticWebsite></StorageServiceProperties>";

/// Get Account Information.
pub(super) fn account_information() -> Result<Answer, AzureError> {
    Ok(Answer::new(StatusCode::OK)
        .header("x-ms-sku-name", "Standard_LRS")
        .header("x-ms-account-kind", "StorageV2")
        .header("x-ms-is-hns-enabled", "false"))
}

/// Get Blob Service Properties.
pub(super) fn get_properties(call: &Call<'_>) -> Result<Answer, AzureError> {
    let world = call.shared.read();
    let set = world.account(call.account())?.service_properties.clone();
    let answer = Answer::new(StatusCode::OK);
    Ok(match set {
        Some(document) => answer.header("Content-Type", "application/xml").bytes(document),
        None => answer.xml(format!("{}{DEFAULT_PROPERTIES}", xml::PROLOG)),
    })
}

/// Set Blob Service Properties: kept as sent and given back. None of it takes effect.
pub(super) fn set_properties(call: &Call<'_>) -> Result<Answer, AzureError> {
    xml::leaves(&call.body)?;
    call.shared.write().account_mut(call.account())?.service_properties = Some(call.body.clone());
    Ok(Answer::new(StatusCode::ACCEPTED))
}

/// List Containers.
pub(super) fn list_containers(call: &Call<'_>) -> Result<Answer, AzureError> {
    let request = call.request;
    let prefix = request.query("prefix").unwrap_or("");
    let marker = request.query("marker").unwrap_or("");
    let page_size = page_size(request)?;
    let (mut with_metadata, mut with_system) = (false, false);
    for include in request.query("include").unwrap_or("").split(',').filter(|word| !word.is_empty()) {
        match include {
            "metadata" => with_metadata = true,
            "system" => with_system = true,
            // There are no deleted containers.
            "deleted" => {}
            other => return Err(AzureError::invalid_query("include", other)),
        }
    }
    let mut document = format!("{}<EnumerationResults ServiceEndpoint=\"", xml::PROLOG);
    xml::push_escaped(&mut document, &format!("{}/", call.shared.account_url(call.account())));
    document.push_str("\">");
    push_asked(&mut document, request);
    document.push_str("<Containers>");
    let world = call.shared.read();
    // The marker is the first name of the next page, behind a mark that makes it opaque.
    let from = decode_marker(marker)?.unwrap_or_default();
    let account = world.account(call.account())?;
    let mut found = account
        .containers
        .range::<str, _>((Bound::Included(from.as_str().max(prefix)), Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(prefix))
        // "You currently cannot see the $blobchangefeed container when you call the ListContainers API."
        .filter(|(name, _)| with_system || account.feed.is_none() || *name != FEED_CONTAINER);
    for (name, container) in found.by_ref().take(page_size) {
        push_container(&mut document, name, container, with_metadata, call.now_us);
    }
    document.push_str("</Containers>");
    let next = found.next().map(|(name, _)| format!("/{}/{name}", call.account())).unwrap_or_default();
    xml::push_element(&mut document, "NextMarker", &next);
    document.push_str("</EnumerationResults>");
    Ok(Answer::new(StatusCode::OK).xml(document))
}

/// The name in a marker of the form `/account/name`.
fn decode_marker(marker: &str) -> Result<Option<String>, AzureError> {
    if marker.is_empty() {
        return Ok(None);
    }
    let name = marker.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(_, name)| name.to_owned());
    name.map(Some).ok_or_else(|| AzureError::invalid_query("marker", marker))
}

fn push_container(document: &mut String, name: &str, container: &Container, with_metadata: bool, now_us: i64) {
    let lease = container.lease.state(now_us);
    document.push_str("<Container>");
    xml::push_element(document, "Name", name);
    document.push_str("<Properties>");
    xml::push_element(document, "Last-Modified", &clock::http_date(container.modified_us));
    xml::push_element(document, "Etag", &format!("\"{}\"", container.etag));
    xml::push_element(document, "LeaseStatus", lease.status());
    xml::push_element(document, "LeaseState", lease.name());
    if let Some(duration) = container.lease.duration(now_us) {
        xml::push_element(document, "LeaseDuration", duration);
    }
    if let Some(access) = container.public.name() {
        xml::push_element(document, "PublicAccess", access);
    }
    document.push_str(
        "<DefaultEncryptionScope>$account-encryption-key</DefaultEncryptionScope>\
         <DenyEncryptionScopeOverride>false</DenyEncryptionScopeOverride>\
         <HasImmutabilityPolicy>false</HasImmutabilityPolicy><HasLegalHold>false</HasLegalHold>\
         <ImmutableStorageWithVersioningEnabled>false</ImmutableStorageWithVersioningEnabled></Properties>",
    );
    if with_metadata && !container.metadata.is_empty() {
        document.push_str("<Metadata>");
        container.metadata.iter().for_each(|(key, value)| xml::push_element(document, key, value));
        document.push_str("</Metadata>");
    }
    document.push_str("</Container>");
}
