//! Block blobs in parts: Put Block, Put Block List, Get Block List.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;

use super::blob_headers as headers;
use super::{Call, edit, put};
use crate::answer::Answer;
use crate::error::AzureError;
use crate::feed::Api;
use crate::model::blob::{Blob, BlobKind, Block, Content};
use crate::model::lease::Leased;
use crate::xml;

const MAX_BLOCKS: usize = 50_000;
const MAX_UNCOMMITTED_BLOCKS: usize = 100_000;
const MAX_BLOCK_BYTES: usize = 4_000 * 1024 * 1024;
const MAX_BLOCK_ID_BYTES: usize = 64;

fn invalid_block_list() -> AzureError {
    AzureError::bad_request("InvalidBlockList", "The specified block list is invalid.")
}

/// Put Block.
pub(super) fn put_block(call: &Call<'_>) -> Result<Answer, AzureError> {
    let id = call.request.query("blockid").unwrap_or("");
    let decoded = STANDARD.decode(id).map_err(|_| AzureError::invalid_query("blockid", id))?;
    if decoded.is_empty() || decoded.len() > MAX_BLOCK_ID_BYTES {
        return Err(AzureError::invalid_query("blockid", id));
    }
    if call.body.len() > MAX_BLOCK_BYTES {
        return Err(AzureError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", "The block is too large."));
    }
    headers::check_name(call.blob())?;
    let checked = headers::check_body(call.request, &call.body)?;
    let mut world = call.shared.write();
    let container = world.container_mut(call.account(), call.container())?;
    if let Some(blob) = container.get(call.blob(), None) {
        if blob.kind != BlobKind::Block {
            return Err(AzureError::invalid_blob_type());
        }
        blob.lease.guard(call.request.filled_header("x-ms-lease-id"), true, Leased::Blob, call.now_us)?;
    }
    let family = container.family_mut(call.blob());
    let other_length = family.uncommitted.keys().next().is_some_and(|known| known.len() != id.len());
    let full = family.uncommitted.len() >= MAX_UNCOMMITTED_BLOCKS;
    if other_length || full {
        container.tidy(call.blob());
        return Err(match full {
            true => AzureError::conflict("BlockCountExceedsLimit", "The uncommitted block count exceeds the limit."),
            false => AzureError::bad_request("InvalidBlobOrBlock", "The specified blob or block content is invalid."),
        });
    }
    family.uncommitted.insert(id.to_owned(), call.body.clone());
    let answer = Answer::new(StatusCode::CREATED).header("x-ms-request-server-encrypted", "true");
    Ok(put::with_checksums(answer, &checked))
}

/// Put Block List.
pub(super) fn put_block_list(call: &Call<'_>) -> Result<Answer, AzureError> {
    let checked = headers::check_body(call.request, &call.body)?;
    let entries: Vec<(String, String)> = xml::leaves(&call.body)?
        .into_iter()
        .filter(|leaf| leaf.parent == "BlockList")
        .map(|leaf| (leaf.name, leaf.text.trim().to_owned()))
        .collect();
    if entries.len() > MAX_BLOCKS {
        return Err(AzureError::bad_request(
            "BlockListTooLong",
            "The block list may not contain more than 50,000 blocks.",
        ));
    }
    let mut blob = put::new_blob(call, BlobKind::Block)?;
    // The request's own content headers are about the list, not about the blob.
    blob.headers = headers::blob_content_headers(call.request);
    if blob.headers.content_type.is_none() {
        blob.headers.content_type = Some("application/octet-stream".to_owned());
    }

    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    let existing = edit::creation_target(call, container)?;
    if existing.as_ref().is_some_and(|existing| existing.kind != BlobKind::Block) {
        return Err(AzureError::invalid_blob_type());
    }
    container.check_kind(call.blob(), BlobKind::Block)?;
    let family = container.family_mut(call.blob());
    let blocks = chosen_blocks(&entries, existing.as_deref(), &family.uncommitted);
    let Some(blocks) = blocks else {
        container.tidy(call.blob());
        return Err(invalid_block_list());
    };
    blob.content = Content::of_blocks(blocks);
    let blob = Arc::new(put::marked(blob, stamp, existing.as_deref()));
    put::put_in_place(call, &mut world, &blob, Api::PutBlockList)?;
    let answer = headers::with_new_version(put::written(&blob), call, &blob);
    Ok(put::with_checksums(answer, &checked))
}

/// The blocks that a list names; `None` if one of them is not there.
fn chosen_blocks(
    entries: &[(String, String)],
    existing: Option<&Blob>,
    uncommitted: &std::collections::BTreeMap<String, Bytes>,
) -> Option<Vec<Block>> {
    let committed: HashMap<&str, &Bytes> = match existing.map(|blob| &blob.content) {
        Some(Content::Blocks { blocks, .. }) => blocks.iter().map(|block| (block.id.as_str(), &block.bytes)).collect(),
        _ => HashMap::new(),
    };
    let chosen = entries.iter().map(|(kind, id)| {
        let bytes = match kind.as_str() {
            "Committed" => committed.get(id.as_str()).copied(),
            "Uncommitted" => uncommitted.get(id),
            "Latest" => uncommitted.get(id).or_else(|| committed.get(id.as_str()).copied()),
            _ => None,
        };
        Some(Block { id: id.clone(), bytes: bytes?.clone() })
    });
    chosen.collect()
}

/// Get Block List.
pub(super) fn get_block_list(call: &Call<'_>) -> Result<Answer, AzureError> {
    let kind = call.request.query("blocklisttype").unwrap_or("committed");
    let (committed, uncommitted) = match kind {
        "committed" => (true, false),
        "uncommitted" => (false, true),
        "all" => (true, true),
        other => return Err(AzureError::invalid_query("blocklisttype", other)),
    };
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    let blob = container.find(call.blob(), call.which()?).map(|(blob, _)| blob);
    let family = container.family(call.blob());
    let pending = family.filter(|family| !family.uncommitted.is_empty());
    if blob.is_none() && pending.is_none() {
        return Err(AzureError::blob_not_found());
    }
    if blob.as_ref().is_some_and(|blob| blob.kind != BlobKind::Block) {
        return Err(AzureError::invalid_blob_type());
    }
    let mut document = format!("{}<BlockList>", xml::PROLOG);
    if committed {
        document.push_str("<CommittedBlocks>");
        if let Some(Content::Blocks { blocks, .. }) = blob.as_ref().map(|blob| &blob.content) {
            blocks.iter().for_each(|block| push_block(&mut document, &block.id, block.bytes.len()));
        }
        document.push_str("</CommittedBlocks>");
    }
    if uncommitted {
        document.push_str("<UncommittedBlocks>");
        for (id, bytes) in pending.iter().flat_map(|family| &family.uncommitted) {
            push_block(&mut document, id, bytes.len());
        }
        document.push_str("</UncommittedBlocks>");
    }
    document.push_str("</BlockList>");
    drop(world);
    let answer = Answer::new(StatusCode::OK).xml(document);
    let Some(blob) = blob else { return Ok(answer.header("x-ms-blob-content-length", "0")) };
    let length = blob.content.len_bytes().to_string();
    Ok(headers::mark(answer, &blob).header("x-ms-blob-content-length", &length))
}

fn push_block(document: &mut String, id: &str, len: usize) {
    document.push_str("<Block>");
    xml::push_element(document, "Name", id);
    xml::push_element(document, "Size", &len.to_string());
    document.push_str("</Block>");
}
