//! Records of the feed ("Event record schemas" of Azure's document on the change feed, versions 1 to 5, and the later ones that add fields).
//! Fields are looked up by their names in whatever schema the file has; those that are missing are not told.

use apache_avro::types::Value;
use blobkeep_vault::{BlobKind, Timestamp};

use crate::azure::xml::plain_etag;

/// What happened to one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) container: String,
    pub(super) name: String,
    pub(super) what: What,
    pub(super) at: Timestamp,
    /// Greater is later among the events of one blob.
    pub(super) sequence: String,
    pub(super) id: String,
    /// The version that it is about; `None` while the account kept none.
    pub(super) version: Option<String>,
    /// The version that was current before, if this took its place or took it away.
    pub(super) last_version: Option<String>,
    /// Empty if it does not tell.
    pub(super) etag: String,
    pub(super) size_bytes: Option<u64>,
    pub(super) content_type: Option<String>,
    pub(super) kind: Option<BlobKind>,
    pub(super) tier: Option<String>,
    pub(super) tags: Option<Changed<Tags>>,
    /// Content headers that it changed, by the names that events have for them.
    pub(super) headers: Vec<(String, Changed<Option<String>>)>,
}

pub(super) type Tags = Vec<(String, String)>;

/// A property before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed<T> {
    pub(super) previous: T,
    pub(super) current: T,
}

/// Kinds of events, as far as they make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The blob was written.
    Created,
    /// Its tier was set.
    Tier,
    /// Something else of it was changed.
    Changed,
    /// The blob, or an earlier version of it, is gone.
    Deleted,
}

impl Event {
    /// It changed something else than the content. Pages and appended blocks are written without an event of their own.
    pub(super) fn leaves_content(&self) -> bool {
        self.what != What::Created && self.kind.is_none_or(|kind| kind == BlobKind::Block)
    }

    /// It made the version that it is about.
    pub(super) fn makes_version(&self) -> bool {
        self.what == What::Created
            || (self.what != What::Deleted && self.last_version.is_some() && self.last_version != self.version)
    }
}

/// The event that a record tells; `None` if it is none of a blob that can be protected: marks of the service itself, snapshots, containers of the
/// service.
///
/// # Errors
/// What is wrong with the record.
pub(super) fn event_of(record: &Value) -> Result<Option<Event>, String> {
    let Some((container, name)) = member(record, "subject").and_then(text).and_then(blob_of) else { return Ok(None) };
    let kind = member(record, "eventType").and_then(text).unwrap_or_default();
    let data = member(record, "data");
    let of_data = |name: &str| data.and_then(|data| member(data, name));
    let is_of_snapshot = of_data("snapshot").and_then(text).is_some();
    let previous = of_data("previousInfo");
    let version = of_data("blobVersion").and_then(text);
    let last_version = previous.and_then(|previous| member(previous, "LastVersion")).and_then(text);
    let what = match kind {
        "BlobCreated" => What::Created,
        "BlobDeleted" if !is_of_snapshot => What::Deleted,
        "BlobTierChanged" if !is_of_snapshot => What::Tier,
        // A snapshot makes a new version of the blob as well, where versions are kept, and nothing else of interest.
        "BlobSnapshotCreated" if version.is_some() && last_version.is_some() && version != last_version => {
            What::Changed
        }
        "BlobSnapshotCreated" | "BlobAsyncOperationInitiated" | "RestorePointMarkerCreated" | "Control" => {
            return Ok(None);
        }
        kind if kind.starts_with("Blob") && !is_of_snapshot => What::Changed,
        _ => return Ok(None),
    };
    let id = member(record, "id").and_then(text).unwrap_or_default().to_owned();
    let at = member(record, "eventTime").and_then(instant).ok_or_else(|| format!("event {id:?} has no time"))?;
    let sequence = match of_data("sequencer").and_then(text) {
        Some(sequence) => sequence.to_owned(),
        None => format!("{:020}", at.0),
    };
    Ok(Some(Event {
        container: container.to_owned(),
        name: name.to_owned(),
        what,
        at,
        sequence,
        id,
        version: version.map(str::to_owned),
        last_version: last_version.map(str::to_owned),
        etag: of_data("etag").or_else(|| of_data("eTag")).and_then(text).map(plain_etag).unwrap_or_default(),
        size_bytes: of_data("contentLength").and_then(number),
        content_type: of_data("contentType").and_then(text).map(str::to_owned),
        kind: of_data("blobType").and_then(text).and_then(kind_of),
        tier: of_data("blobTier").or_else(|| of_data("accessTier")).and_then(text).map(str::to_owned),
        tags: of_data("blobTagsUpdated").map(tags_of),
        headers: of_data("blobPropertiesUpdated").map(headers_of).unwrap_or_default(),
    }))
}

/// Container and name of `/blobServices/default/containers/photos/blobs/a/b.jpg`. Names stand there as they are.
fn blob_of(subject: &str) -> Option<(&str, &str)> {
    let (_, rest) = subject.split_once("/containers/")?;
    let (container, name) = rest.split_once("/blobs/")?;
    // The service's own containers are not among those that it lists; `$root` and `$web` are.
    let is_the_services = container.starts_with('$') && !matches!(container, "$root" | "$web");
    (!container.is_empty() && !name.is_empty() && !is_the_services).then_some((container, name))
}

fn kind_of(text: &str) -> Option<BlobKind> {
    match text {
        "BlockBlob" => Some(BlobKind::Block),
        "AppendBlob" => Some(BlobKind::Append { sealed: false }),
        "PageBlob" => Some(BlobKind::Page { sequence_number: 0 }),
        _ => None,
    }
}

fn tags_of(changed: &Value) -> Changed<Tags> {
    let of = |name: &str| {
        let mut tags: Tags = member(changed, name)
            .map(members)
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), any_text(value).unwrap_or_default().to_owned()))
            .collect();
        tags.sort();
        tags
    };
    Changed { previous: of("previous"), current: of("current") }
}

fn headers_of(changed: &Value) -> Vec<(String, Changed<Option<String>>)> {
    let one = |(name, change): (&str, &Value)| {
        let of = |side: &str| member(change, side).and_then(text).map(str::to_owned);
        (name.to_owned(), Changed { previous: of("previous"), current: of("current") })
    };
    members(changed).into_iter().map(one).collect()
}

/// The value inside a union.
fn plain(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => plain(inner),
        value => value,
    }
}

/// A member of a record or map, if it is there and is something.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let found = match plain(value) {
        Value::Record(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
        Value::Map(entries) => entries.get(name),
        _ => None,
    };
    found.map(plain).filter(|value| **value != Value::Null)
}

fn members(value: &Value) -> Vec<(&str, &Value)> {
    match plain(value) {
        Value::Record(fields) => fields.iter().map(|(name, value)| (name.as_str(), plain(value))).collect(),
        Value::Map(entries) => entries.iter().map(|(name, value)| (name.as_str(), plain(value))).collect(),
        _ => Vec::new(),
    }
}

fn any_text(value: &Value) -> Option<&str> {
    match plain(value) {
        Value::String(text) | Value::Enum(_, text) => Some(text),
        _ => None,
    }
}

/// A text that says something: schemas have an empty text or a symbol for what is not told.
fn text(value: &Value) -> Option<&str> {
    any_text(value).filter(|text| !text.is_empty() && !text.starts_with("Unspecified"))
}

fn number(value: &Value) -> Option<u64> {
    match plain(value) {
        Value::Long(number) => u64::try_from(*number).ok(),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn instant(value: &Value) -> Option<Timestamp> {
    match plain(value) {
        Value::String(text) => instant_of(text),
        Value::TimestampMicros(micros) => Some(Timestamp(*micros)),
        Value::TimestampMillis(millis) => millis.checked_mul(1000).map(Timestamp),
        _ => None,
    }
}

/// Reads `2022-02-17T13:12:11.5746587Z`, as events and versions have it.
pub(super) fn instant_of(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_microsecond()))
}
