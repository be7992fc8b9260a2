//! One event of a change feed, and its form as an Avro record of schema version 5 ("Change feed support in Azure Blob
//! Storage", "Event record schemas"). The schema is that of the files that Azure writes with version 4, with what the
//! documentation adds for version 5.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::types::Value;

use crate::clock;
use crate::model::blob::{Blob, BlobKind, ContentHeaders};

/// The schema of the records; `None` only if its text were no schema.
pub(super) static SCHEMA: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::parse_str(include_str!("schema.avsc")).ok());

/// The version of the schema.
const SCHEMA_VERSION: i64 = 5;

/// What happened: the number is that of the symbol in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Created = 1,
    Deleted = 2,
    PropertiesUpdated = 3,
    SnapshotCreated = 4,
    TierChanged = 6,
}

impl EventKind {
    fn value(self) -> Value {
        let name = match self {
            EventKind::Created => "BlobCreated",
            EventKind::Deleted => "BlobDeleted",
            EventKind::PropertiesUpdated => "BlobPropertiesUpdated",
            EventKind::SnapshotCreated => "BlobSnapshotCreated",
            EventKind::TierChanged => "BlobTierChanged",
        };
        Value::Enum(self as u32, name.to_owned())
    }
}

/// By which operation: the number is that of the symbol in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// What the schema has no name for: changes of append and page blobs in place.
    Unspecified = 0,
    PutBlob = 1,
    PutBlockList = 2,
    CopyBlob = 3,
    DeleteBlob = 4,
    SetBlobMetadata = 5,
    SetBlobProperties = 8,
    SnapshotBlob = 9,
    SetBlobTier = 10,
    SetBlobTags = 12,
}

impl Api {
    fn value(self) -> Value {
        let name = match self {
            Api::Unspecified => "UnspecifiedApi",
            Api::PutBlob => "PutBlob",
            Api::PutBlockList => "PutBlockList",
            Api::CopyBlob => "CopyBlob",
            Api::DeleteBlob => "DeleteBlob",
            Api::SetBlobMetadata => "SetBlobMetadata",
            Api::SetBlobProperties => "SetBlobProperties",
            Api::SnapshotBlob => "SnapshotBlob",
            Api::SetBlobTier => "SetBlobTier",
            Api::SetBlobTags => "SetBlobTags",
        };
        Value::Enum(self as u32, name.to_owned())
    }
}

/// Which blob was changed, and by which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) account: &'a str,
    pub(crate) container: &'a str,
    pub(crate) blob: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) client_request_id: &'a str,
    pub(crate) now_us: i64,
}

/// What is told of the state before a change.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    version: i64,
    tier: Option<String>,
    tags: BTreeMap<String, String>,
    headers: ContentHeaders,
}

impl Before {
    pub(crate) fn of(blob: &Blob) -> Before {
        Before {
            version: blob.version,
            tier: blob.shown_tier().map(|(tier, _)| tier.to_owned()),
            tags: blob.tags.clone(),
            headers: blob.headers.clone(),
        }
    }
}

/// A change that has just been made.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) kind: EventKind,
    pub(crate) api: Api,
    pub(crate) ticks: i64,
    /// The state after the change; of a deletion the one that went.
    pub(crate) blob: &'a Blob,
    /// The state that was changed, replaced or deleted. An earlier version that is deleted has none: nothing is different
    /// for the current state.
    pub(crate) before: Option<Before>,
    pub(crate) snapshot: Option<&'a str>,
}

impl<'a> Change<'a> {
    /// A blob that was put in place of another, or of none.
    pub(crate) fn created(api: Api, blob: &'a Blob, before: Option<&Blob>) -> Change<'a> {
        let before = before.map(Before::of);
        Change { kind: EventKind::Created, api, ticks: blob.version, blob, before, snapshot: None }
    }

    /// A blob that is no more.
    pub(crate) fn deleted(ticks: i64, blob: &'a Blob) -> Change<'a> {
        let before = Some(Before::of(blob));
        Change { kind: EventKind::Deleted, api: Api::DeleteBlob, ticks, blob, before, snapshot: None }
    }

    /// An earlier version that is no more.
    pub(crate) fn version_deleted(ticks: i64, blob: &'a Blob) -> Change<'a> {
        Change { before: None, ..Change::deleted(ticks, blob) }
    }
}

/// An event that waits to be written.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) ticks: i64,
    kind: EventKind,
    api: Api,
    sequence: u64,
    subject: String,
    request_id: String,
    client_request_id: String,
    etag: String,
    content_type: String,
    len_bytes: u64,
    blob_kind: BlobKind,
    version: Option<i64>,
    tier: Option<String>,
    previous: Vec<(&'static str, String)>,
    snapshot: Option<String>,
    properties: Vec<(&'static str, String, String)>,
    tags: Option<(BTreeMap<String, String>, BTreeMap<String, String>)>,
}

impl Event {
    pub(super) fn new(origin: &Origin<'_>, change: &Change<'_>, sequence: u64, keeps_versions: bool) -> Event {
        let (blob, before) = (change.blob, change.before.as_ref());
        let tier = blob.shown_tier().map(|(tier, _)| tier.to_owned());
        let is_deleted = change.kind == EventKind::Deleted;
        let mut previous = Vec::new();
        let was_current = before.filter(|before| is_deleted || before.version != blob.version);
        if let Some(before) = was_current.filter(|_| keeps_versions) {
            previous.push(("LastVersion", clock::iso_ticks(before.version)));
        }
        if let Some(was) = before.and_then(|before| before.tier.clone()).filter(|was| tier.as_ref() != Some(was)) {
            previous.push(("PreviousTier", was));
        }
        let no_tags = BTreeMap::new();
        let had_tags = before.map_or(&no_tags, |before| &before.tags);
        let tells_tags = !is_deleted && *had_tags != blob.tags;
        Event {
            ticks: change.ticks,
            kind: change.kind,
            api: change.api,
            sequence,
            subject: format!("/blobServices/default/containers/{}/blobs/{}", origin.container, origin.blob),
            request_id: origin.request_id.to_owned(),
            client_request_id: origin.client_request_id.to_owned(),
            etag: blob.etag.clone(),
            content_type: blob.headers.content_type.clone().unwrap_or_default(),
            len_bytes: blob.content.len_bytes(),
            blob_kind: blob.kind,
            version: keeps_versions.then_some(blob.version),
            tier,
            previous,
            snapshot: change.snapshot.map(str::to_owned),
            properties: match (change.api, before) {
                (Api::SetBlobProperties, Some(before)) => differing(&before.headers, &blob.headers),
                _ => Vec::new(),
            },
            tags: tells_tags.then(|| (had_tags.clone(), blob.tags.clone())),
        }
    }

    /// The record.
    pub(super) fn value(&self, topic: &str) -> Value {
        record(vec![
            ("schemaVersion", Value::Long(SCHEMA_VERSION)),
            ("topic", text(topic)),
            ("subject", text(&self.subject)),
            ("eventType", self.kind.value()),
            ("eventTime", text(&clock::iso_ticks(self.ticks))),
            (
                "id",
                Value::String(format!(
                    "b10bdeed-8020-0000-{:04x}-{:012x}",
                    self.sequence >> 48,
                    self.sequence & 0xffff_ffff_ffff
                )),
            ),
            ("data", self.data()),
        ])
    }

    fn data(&self) -> Value {
        let strings = |pairs: &[(&'static str, String)]| {
            Value::Map(pairs.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect())
        };
        record(vec![
            ("api", self.api.value()),
            ("clientRequestId", text(&self.client_request_id)),
            ("requestId", text(&self.request_id)),
            ("etag", text(&self.etag)),
            ("contentType", text(&self.content_type)),
            ("contentLength", Value::Long(i64::try_from(self.len_bytes).unwrap_or(i64::MAX))),
            ("blobType", kind_value(self.blob_kind)),
            ("blobVersion", optional(self.version.map(|version| Value::String(clock::iso_ticks(version))))),
            ("containerVersion", optional(None)),
            ("blobTier", optional(self.tier.as_deref().map(tier_value))),
            // "The url property of the log file is currently always empty."
            ("url", text("")),
            ("sequencer", Value::String(format!("{:032x}{:016x}", 1, self.sequence))),
            ("previousInfo", optional((!self.previous.is_empty()).then(|| strings(&self.previous)))),
            ("snapshot", optional(self.snapshot.as_deref().map(text))),
            ("blobPropertiesUpdated", optional((!self.properties.is_empty()).then(|| self.properties_value()))),
            ("asyncOperationInfo", optional(None)),
            (
                "blobTagsUpdated",
                optional(
                    self.tags.as_ref().map(|(previous, current)| {
                        record(vec![("previous", map(previous)), ("current", map(current))])
                    }),
                ),
            ),
            ("restorePointMarker", optional(None)),
            ("storageDiagnostics", Value::Map(HashMap::new())),
        ])
    }

    fn properties_value(&self) -> Value {
        let properties = self.properties.iter().map(|(name, current, previous)| {
            let value = record(vec![("current", text(current)), ("previous", text(previous))]);
            ((*name).to_owned(), value)
        });
        Value::Map(properties.collect())
    }
}

/// The content headers that are not the same, each with what it is and what it was.
fn differing(before: &ContentHeaders, after: &ContentHeaders) -> Vec<(&'static str, String, String)> {
    let all = [
        ("ContentType", &after.content_type, &before.content_type),
        ("ContentEncoding", &after.content_encoding, &before.content_encoding),
        ("ContentLanguage", &after.content_language, &before.content_language),
        ("ContentDisposition", &after.content_disposition, &before.content_disposition),
        ("CacheControl", &after.cache_control, &before.cache_control),
        ("ContentMD5", &after.content_md5, &before.content_md5),
    ];
    let told = |value: &Option<String>| value.clone().unwrap_or_default();
    all.into_iter().filter(|(_, is, was)| is != was).map(|(name, is, was)| (name, told(is), told(was))).collect()
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn record(fields: Vec<(&'static str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A value of a union with null, which is its first branch everywhere in the schema.
fn optional(value: Option<Value>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(value)),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

fn map(pairs: &BTreeMap<String, String>) -> Value {
    Value::Map(pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn kind_value(kind: BlobKind) -> Value {
    let number = match kind {
        BlobKind::Block => 1,
        BlobKind::Page => 2,
        BlobKind::Append => 3,
    };
    Value::Enum(number, kind.name().to_owned())
}

fn tier_value(tier: &str) -> Value {
    let known = ["UnspecifiedBlobTier", "Hot", "Cool", "Archive", "Cold"];
    let number = known.iter().position(|known| *known == tier).unwrap_or(0);
    Value::Enum(u32::try_from(number).unwrap_or(0), known[number].to_owned())
}
