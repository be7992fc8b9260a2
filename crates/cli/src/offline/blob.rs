//! How blobs, containers and points are shown by the verbs that look into points.

use std::num::NonZeroUsize;

use blobkeep_vault::manifest::Record;
use blobkeep_vault::point::Point;
use blobkeep_vault::{BlobEntry, BlobKind};
use serde_json::{Map, Value, json};

use crate::output;

/// Rows that are shown unless `--limit` says otherwise.
pub(super) const SHOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// The properties of a blob.
pub(super) fn properties(entry: &BlobEntry) -> Value {
    let pairs = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    };
    json!({
        "kind": match entry.kind {
            BlobKind::Block => "block",
            BlobKind::Append { .. } => "append",
            BlobKind::Page { .. } => "page",
        },
        "bytes": entry.size_bytes,
        "modified": output::time(entry.modified_at),
        "etag": entry.etag,
        "contentType": entry.headers.content_type,
        "contentMd5": entry.content_md5.map(|md5| md5.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        "tier": entry.tier,
        "metadata": pairs(&entry.metadata),
        "tags": pairs(&entry.tags),
    })
}

/// The properties of an entry of a point.
pub(super) fn of_record(record: &Record) -> Value {
    match record {
        Record::Blob(item) => properties(&item.entry),
        Record::Container(container) => json!({
            "modified": output::time(container.modified_at),
            "etag": container.etag,
            "publicAccess": container.public_access,
        }),
    }
}

/// A point by its id and its time.
pub(super) fn of_point(point: &Point) -> Value {
    json!({ "id": point.job, "created": output::time(point.started_at), "source": point.source })
}

/// `3f2a… (2026-11-01T02:00:00Z)`.
pub(super) fn point_name(point: &Point) -> String {
    format!("{} ({})", point.job, output::short_time(point.started_at))
}
