//! One state of a blob: its content and everything that Azure keeps beside it. A value of this type never changes once a
//! reader can see it; writers copy, change and replace it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::lease::Lease;
use super::log::{Log, Piece};
use super::pages::PageMap;
use super::synthetic::{PIECE_BYTES, SyntheticContent};
use crate::clock;

/// The three kinds of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobKind {
    Block,
    Append,
    Page,
}

impl BlobKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            BlobKind::Block => "BlockBlob",
            BlobKind::Append => "AppendBlob",
            BlobKind::Page => "PageBlob",
        }
    }
}

/// The content headers, as they are given back on reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContentHeaders {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) cache_control: Option<String>,
    /// Base64.
    pub(crate) content_md5: Option<String>,
}

/// One committed block; the id of appended ones is empty.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) id: String,
    pub(crate) bytes: Bytes,
}

/// The bytes of a blob.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Whole(Bytes),
    Blocks { blocks: Vec<Block>, len_bytes: u64 },
    Pages(PageMap),
    Synthetic(SyntheticContent),
    Log(Log),
}

/// A stretch of content on its way out.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Bytes(Bytes),
    Zeros(u64),
    Synthetic {
        content: SyntheticContent,
        from: u64,
        to: u64,
    },
    /// From and to count inside the piece.
    Piece {
        piece: Piece,
        from: usize,
        to: usize,
    },
}

impl Part {
    /// Takes the next handful of bytes off the front; `None` when nothing is left.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        match self {
            Part::Bytes(bytes) if bytes.is_empty() => None,
            Part::Bytes(bytes) => Some(std::mem::take(bytes)),
            Part::Zeros(0) => None,
            Part::Zeros(left) => {
                let count = (*left).min(ZEROS.len() as u64);
                *left -= count;
                Some(Bytes::from_static(&ZEROS[..count as usize]))
            }
            Part::Synthetic { from, to, .. } if *from >= *to => None,
            Part::Synthetic { content, from, to } => {
                let end = (*to).min((*from / PIECE_BYTES + 1) * PIECE_BYTES);
                let bytes = content.piece(*from, end);
                *from = end;
                Some(bytes)
            }
            Part::Piece { piece, from, to } => {
                let bytes = piece.bytes().filter(|bytes| bytes.len() >= *to).map(|bytes| bytes.slice(*from..*to));
                *self = Part::Zeros(0);
                bytes
            }
        }
    }
}

impl Content {
    pub(crate) fn len_bytes(&self) -> u64 {
        match self {
            Content::Whole(bytes) => bytes.len() as u64,
            Content::Blocks { len_bytes, .. } => *len_bytes,
            Content::Pages(pages) => pages.len_bytes,
            Content::Synthetic(content) => content.len_bytes,
            Content::Log(log) => log.len_bytes(),
        }
    }

    pub(crate) fn of_blocks(blocks: Vec<Block>) -> Content {
        let len_bytes = blocks.iter().map(|block| block.bytes.len() as u64).sum();
        Content::Blocks { blocks, len_bytes }
    }

    /// The stretches that make up `from..to`, which must lie inside the content.
    pub(crate) fn parts(&self, from: u64, to: u64) -> Vec<Part> {
        if from >= to {
            return Vec::new();
        }
        match self {
            Content::Whole(bytes) => vec![Part::Bytes(bytes.slice(from as usize..to as usize))],
            Content::Blocks { blocks, .. } => block_parts(blocks, from, to),
            Content::Pages(pages) => page_parts(pages, from, to),
            Content::Synthetic(content) => vec![Part::Synthetic { content: content.clone(), from, to }],
            Content::Log(log) => log.parts(from, to),
        }
    }

    /// The bytes of `from..to` in one piece.
    pub(crate) fn read(&self, from: u64, to: u64) -> Bytes {
        let mut parts = self.parts(from, to);
        if let [Part::Bytes(bytes)] = parts.as_slice() {
            return bytes.clone();
        }
        let mut whole = BytesMut::with_capacity((to - from) as usize);
        for part in &mut parts {
            while let Some(bytes) = part.take() {
                whole.extend_from_slice(&bytes);
            }
        }
        whole.freeze()
    }
}

fn block_parts(blocks: &[Block], from: u64, to: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = 0;
    for block in blocks {
        let end = start + block.bytes.len() as u64;
        let (low, high) = (from.max(start), to.min(end));
        if low < high {
            parts.push(Part::Bytes(block.bytes.slice((low - start) as usize..(high - start) as usize)));
        }
        if end >= to {
            break;
        }
        start = end;
    }
    parts
}

fn page_parts(pages: &PageMap, from: u64, to: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = from;
    for (start, bytes) in pages.extents(from, to) {
        if at < start {
            parts.push(Part::Zeros(start - at));
        }
        at = start + bytes.len() as u64;
        parts.push(Part::Bytes(bytes));
    }
    if at < to {
        parts.push(Part::Zeros(to - at));
    }
    parts
}

/// What is told about the copy that made a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyInfo {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) len_bytes: u64,
    pub(crate) completed_us: i64,
}

/// One state of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) kind: BlobKind,
    pub(crate) content: Content,
    pub(crate) headers: ContentHeaders,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// A tier that was set; `None` is the account's default.
    pub(crate) tier: Option<String>,
    pub(crate) tier_changed_us: Option<i64>,
    pub(crate) created_us: i64,
    pub(crate) modified_us: i64,
    /// Without quotes.
    pub(crate) etag: String,
    /// Ticks of the change that made this version: its id, where versions are kept.
    pub(crate) version: i64,
    pub(crate) lease: Lease,
    /// Page blobs only.
    pub(crate) sequence_number: u64,
    /// Append blobs only.
    pub(crate) sealed: bool,
    pub(crate) copy: Option<CopyInfo>,
}

impl Blob {
    pub(crate) fn new(kind: BlobKind, content: Content, etag: String, at_us: i64) -> Blob {
        Blob {
            kind,
            content,
            headers: ContentHeaders::default(),
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            tier: None,
            tier_changed_us: None,
            created_us: at_us,
            modified_us: at_us,
            etag,
            version: clock::ticks(at_us),
            lease: Lease::None,
            sequence_number: 0,
            sealed: false,
            copy: None,
        }
    }

    /// The tier that is shown, and whether it is only the account's default. Only block blobs have one.
    pub(crate) fn shown_tier(&self) -> Option<(&str, bool)> {
        match (&self.tier, self.kind) {
            (Some(tier), _) => Some((tier, false)),
            (None, BlobKind::Block) => Some(("Hot", true)),
            (None, _) => None,
        }
    }

    pub(crate) fn is_archived(&self) -> bool {
        self.tier.as_deref() == Some("Archive")
    }
}
