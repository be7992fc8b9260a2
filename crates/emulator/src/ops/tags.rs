//! Index tags: Get Blob Tags and Set Blob Tags. Setting them leaves ETag and Last-Modified as they are.

use http::StatusCode;

use super::Call;
use super::blob_headers as headers;
use super::blobs;
use super::edit::{Touch, edit};
use crate::answer::Answer;
use crate::error::AzureError;
use crate::feed::Api;
use crate::xml;

/// Appends the element `Tags` of a document about tags.
pub(super) fn push_tags(document: &mut String, tags: &std::collections::BTreeMap<String, String>) {
    document.push_str("<Tags><TagSet>");
    for (key, value) in tags {
        document.push_str("<Tag>");
        xml::push_element(document, "Key", key);
        xml::push_element(document, "Value", value);
        document.push_str("</Tag>");
    }
    document.push_str("</TagSet></Tags>");
}

/// Get Blob Tags.
pub(super) fn get_tags(call: &Call<'_>) -> Result<Answer, AzureError> {
    let blob = blobs::find(call)?.blob;
    let mut document = xml::PROLOG.to_owned();
    push_tags(&mut document, &blob.tags);
    Ok(Answer::new(StatusCode::OK).xml(document))
}

/// Set Blob Tags: all of them are replaced.
pub(super) fn set_tags(call: &Call<'_>) -> Result<Answer, AzureError> {
    headers::check_body(call.request, &call.body)?;
    let mut pairs = Vec::new();
    for leaf in xml::leaves(&call.body)?.into_iter().filter(|leaf| leaf.parent == "Tag") {
        match (leaf.name.as_str(), pairs.last_mut()) {
            ("Key", _) => pairs.push((leaf.text, String::new())),
            ("Value", Some((_, value))) => *value = leaf.text,
            _ => return Err(AzureError::invalid_xml("a tag is a Key and a Value")),
        }
    }
    let tags = headers::checked_tags(pairs)?;
    edit(call, Touch::Nothing, Api::SetBlobTags, |blob, _| {
        blob.tags = tags;
        Ok(())
    })?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}
