//! What a point holds: its containers, and blobs of one container, folder by folder if a delimiter is given.

use std::sync::Arc;

use blobkeep_arm::{ApiError, ErrorCode, word};
use blobkeep_vault::item::EntryKey;
use blobkeep_vault::manifest::{ManifestReader, Record, Root};
use blobkeep_vault::point::{Point, Skipped};
use blobkeep_vault::read::ChunkReader;
use blobkeep_vault::{BlobEntry, ContainerEntry, Result, Vault};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reading::{PAGE, READ, Reading, invalid, list, read_token, render_blob, render_container, write_token};
use crate::App;
use crate::api::{Access, Answer, Request, Route};
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BlobkeepPoints_Browse",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/recoveryPoints/{point}/providers/Blobkeep.DataProtection/browse",
    access: Access::Action(READ),
    handler: |app, request| Box::pin(browse(app, request)),
}];

/// Blobs that the backup left out are looked through up to so many.
const SKIPPED_AT_MOST: usize = 100_000;
/// Sorts behind whatever a name goes on with.
const LAST: char = char::MAX;

const MEMBERS: &[&str] = &["container", "prefix", "delimiter", "skipToken"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    container: Option<String>,
    prefix: String,
    delimiter: String,
    skip_token: Option<String>,
}

/// The last entry of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Place {
    Container(String),
    Blob(String),
    Prefix(String),
}

/// One entry of a container.
enum Entry {
    Blob(Box<BlobEntry>),
    /// Names that begin so and go on.
    Prefix(String),
}

impl Wanted {
    fn of(request: &Request) -> ApiResult<Self> {
        let body = match request.json_or_null()? {
            Value::Null => json!({}),
            body => body,
        };
        let wanted: Self = word::read(&body, MEMBERS)?;
        if wanted.container.is_none() && !(wanted.prefix.is_empty() && wanted.delimiter.is_empty()) {
            return Err(invalid(
                "container",
                "a prefix or delimiter is one of names in a container, so name that, too",
            ));
        }
        Ok(wanted)
    }
}

async fn browse(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = Wanted::of(&request)?;
    let after = wanted.skip_token.as_deref().map(read_token::<Place>).transpose()?;
    let reading = Reading::begin(&app, &request).await?;
    let body = reading.registered(look(&reading, &wanted, after.as_ref())).await?;
    Ok(Answer::ok(body))
}

/// A page of what the point holds; the first one tells what the backup left out, too.
async fn look(reading: &Reading, wanted: &Wanted, after: Option<&Place>) -> ApiResult<Value> {
    let point = reading.own_point().await?;
    let mut body = match &wanted.container {
        None => containers(reading, &point, after).await?,
        Some(container) => blobs(reading, &point, container, wanted, after).await?,
    };
    if after.is_none() {
        let skipped = reading.whole(skipped(&reading.vault, &point, wanted)).await?;
        body["skipped"] = json!(skipped);
        body["skippedInAll"] = json!(point.counts.skipped_blobs);
    }
    Ok(body)
}

async fn containers(reading: &Reading, point: &Point, after: Option<&Place>) -> ApiResult<Value> {
    let after = match after {
        None => None,
        Some(Place::Container(name)) => Some(name.as_str()),
        Some(Place::Blob(_) | Place::Prefix(_)) => return Err(other_listing()),
    };
    let mut found = reading.whole(read_containers(&reading.vault.reader, &point.root, after)).await?;
    let has_more = found.len() > PAGE;
    found.truncate(PAGE);
    let last = found.last().filter(|_| has_more).map(|last| Place::Container(last.name.clone()));
    let next = last.as_ref().map(write_token).transpose()?;
    Ok(list(found.iter().map(render_container).collect(), next))
}

async fn blobs(
    reading: &Reading,
    point: &Point,
    container: &str,
    wanted: &Wanted,
    after: Option<&Place>,
) -> ApiResult<Value> {
    if matches!(after, Some(Place::Container(_))) {
        return Err(other_listing());
    }
    let reader = &reading.vault.reader;
    let mut found = reading.whole(read_blobs(reader, &point.root, container, wanted, after)).await?;
    if found.is_empty() && !reading.whole(has_container(reader, &point.root, container)).await? {
        return Err(ApiError::of(
            ErrorCode::UserErrorContainerNotFoundForPointInTimeRestore,
            &[("containers", container)],
        ));
    }
    let has_more = found.len() > PAGE;
    found.truncate(PAGE);
    let last = found.last().filter(|_| has_more).map(|last| match last {
        Entry::Blob(entry) => Place::Blob(entry.name.clone()),
        Entry::Prefix(prefix) => Place::Prefix(prefix.clone()),
    });
    let next = last.as_ref().map(write_token).transpose()?;
    let values = found.iter().map(|entry| match entry {
        Entry::Blob(entry) => render_blob(entry),
        Entry::Prefix(prefix) => json!({ "kind": "prefix", "container": container, "name": prefix }),
    });
    Ok(list(values.collect(), next))
}

fn other_listing() -> ApiError {
    invalid("skipToken", "it belongs to another listing")
}

/// The first key of a name.
fn key<'a>(container: &'a str, name: &'a str) -> EntryKey<'a> {
    EntryKey { container, name, is_current: false, version: "" }
}

/// The containers behind that one, one more than a page has.
async fn read_containers(reader: &ChunkReader, root: &Root, after: Option<&str>) -> Result<Vec<ContainerEntry>> {
    let start = after.map(|name| format!("{name}\0"));
    let mut manifest = ManifestReader::new(reader, root, start.as_deref().map(|name| key(name, "")));
    let mut found = Vec::new();
    while found.len() <= PAGE {
        match manifest.next().await? {
            None => break,
            Some(Record::Blob(_)) => {}
            Some(Record::Container(container)) => {
                // The next container sorts behind all that this one holds.
                manifest.seek(key(&format!("{}\0", container.name), ""));
                found.push(container);
            }
        }
    }
    Ok(found)
}

async fn has_container(reader: &ChunkReader, root: &Root, container: &str) -> Result<bool> {
    let first = ManifestReader::new(reader, root, Some(key(container, ""))).next().await?;
    Ok(first.is_some_and(|record| record.key().container == container))
}

/// The entries of a container behind that place, one more than a page has. What lies below a prefix that was found is passed over unread.
async fn read_blobs(
    reader: &ChunkReader,
    root: &Root,
    container: &str,
    wanted: &Wanted,
    after: Option<&Place>,
) -> Result<Vec<Entry>> {
    let start = match after {
        Some(Place::Blob(name)) => format!("{name}\0").max(wanted.prefix.clone()),
        Some(Place::Prefix(prefix)) => format!("{prefix}{LAST}").max(wanted.prefix.clone()),
        Some(Place::Container(_)) | None => wanted.prefix.clone(),
    };
    let mut passed = match after {
        Some(Place::Prefix(prefix)) => Some(prefix.clone()),
        _ => None,
    };
    let mut manifest = ManifestReader::new(reader, root, Some(key(container, &start)));
    let mut found = Vec::new();
    while found.len() <= PAGE {
        let Some(record) = manifest.next().await? else { break };
        let item = match record {
            Record::Blob(item) if item.entry.container == container => item,
            Record::Container(entry) if entry.name == container => continue,
            _ => break,
        };
        let name = &item.entry.name;
        if !name.starts_with(&wanted.prefix) {
            break;
        }
        if passed.as_ref().is_some_and(|passed| name.starts_with(passed)) {
            continue;
        }
        match folder(name, wanted) {
            None => found.push(Entry::Blob(Box::new(item.entry))),
            Some(folder) => {
                manifest.seek(key(container, &format!("{folder}{LAST}")));
                passed = Some(folder.to_owned());
                found.push(Entry::Prefix(folder.to_owned()));
            }
        }
    }
    Ok(found)
}

/// The name up to the first delimiter behind the prefix, that included.
fn folder<'a>(name: &'a str, wanted: &Wanted) -> Option<&'a str> {
    if wanted.delimiter.is_empty() {
        return None;
    }
    let from = wanted.prefix.len();
    let at = name.get(from..)?.find(&wanted.delimiter)?;
    name.get(..from + at + wanted.delimiter.len())
}

/// Blobs of the listing that the backup left out, as many as a page has.
async fn skipped(vault: &Vault, point: &Point, wanted: &Wanted) -> Result<Vec<Value>> {
    let is_meant = |skipped: &Skipped| {
        wanted.container.as_ref().is_none_or(|container| skipped.container == *container)
            && skipped.name.starts_with(&wanted.prefix)
    };
    let all = point.skipped(vault, SKIPPED_AT_MOST).await?;
    let meant = all.into_iter().filter(is_meant).take(PAGE);
    Ok(meant
        .map(|skipped| json!({ "container": skipped.container, "name": skipped.name, "reason": skipped.reason }))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_ends_with_the_first_delimiter_behind_the_prefix() {
        let wanted = |prefix: &str, delimiter: &str| Wanted {
            prefix: prefix.to_owned(),
            delimiter: delimiter.to_owned(),
            ..Wanted::default()
        };
        assert_eq!(folder("a/b/c", &wanted("", "/")), Some("a/"));
        assert_eq!(folder("a/b/c", &wanted("a/", "/")), Some("a/b/"));
        assert_eq!(folder("a/b", &wanted("a/", "/")), None);
        assert_eq!(folder("a/b", &wanted("", "")), None);
        assert_eq!(folder("ü--b--c", &wanted("ü", "--")), Some("ü--"));
    }
}
