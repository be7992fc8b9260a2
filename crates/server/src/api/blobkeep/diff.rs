//! What differs between two points of an instance.

use std::sync::Arc;

use blobkeep_arm::word;
use blobkeep_vault::Error;
use blobkeep_vault::diff::{Changed, Diff, Difference};
use blobkeep_vault::manifest::{OwnedKey, Record};
use blobkeep_vault::names::Pattern;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::{
    PAGE, READ, Reading, invalid, list, read_token, refusal, render_blob, render_container, too_slow, write_token,
};
use crate::App;
use crate::api::{Access, Answer, Request, Route};
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BlobkeepPoints_Diff",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/recoveryPoints/{point}/providers/Blobkeep.DataProtection/diff",
    access: Access::Action(READ),
    handler: |app, request| Box::pin(diff(app, request)),
}];

const MEMBERS: &[&str] = &["with", "container", "prefix", "skipToken"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    with: String,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    skip_token: Option<String>,
}

async fn diff(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted: Wanted = word::read(&request.json()?, MEMBERS)?;
    if wanted.container.is_none() && !wanted.prefix.is_empty() {
        return Err(invalid("container", "a prefix is one of names in a container, so name that, too"));
    }
    let after: Option<OwnedKey> = wanted.skip_token.as_deref().map(read_token).transpose()?;
    let reading = Reading::begin(&app, &request).await?;
    let body = reading.registered(look(&app, &request, &reading, wanted, after)).await?;
    Ok(Answer::ok(body))
}

/// A page of what differs.
async fn look(
    app: &App,
    request: &Request,
    reading: &Reading,
    wanted: Wanted,
    after: Option<OwnedKey>,
) -> ApiResult<Value> {
    let from = reading.own_point().await?;
    let to = reading.named_point(app, request, &wanted.with).await?;
    let reader = &reading.vault.reader;
    let prefix = Pattern::Prefix(wanted.prefix);
    let mut diff = match &wanted.container {
        None => Diff::new(reader, &from.root, &to.root),
        Some(container) => Diff::of_names(reader, &from.root, &to.root, [(container.as_str(), &prefix)]),
    };
    if let Some(after) = after {
        diff = diff.starting_after(after);
    }
    let (found, next) = find(reading, diff).await?;
    let next = next.as_ref().map(write_token).transpose()?;
    Ok(list(found.iter().map(render).collect(), next))
}

/// What differs, and where to go on. If the time is over before the page is full, the page is what was found until then.
async fn find(reading: &Reading, mut diff: Diff<'_>) -> ApiResult<(Vec<Difference>, Option<OwnedKey>)> {
    let mut found: Vec<Difference> = Vec::new();
    loop {
        let next: Option<Result<Option<Difference>, Error>> = reading.within(diff.next()).await;
        let is_over = match next {
            Some(Err(error)) => return Err(refusal(&error)),
            Some(Ok(None)) => return Ok((found, None)),
            Some(Ok(Some(_))) if found.len() == PAGE => true,
            Some(Ok(Some(difference))) => {
                found.push(difference);
                false
            }
            None if found.is_empty() => return Err(too_slow()),
            None => true,
        };
        if is_over {
            let last = found.last().map(|last| OwnedKey::from(last.key()));
            return Ok((found, last));
        }
    }
}

fn render(difference: &Difference) -> Value {
    let (change, what, before, after) = match difference {
        Difference::Added(record) => ("Added", None, None, Some(record)),
        Difference::Removed(record) => ("Removed", None, Some(record), None),
        Difference::Changed { before, after, what } => {
            let what = match what {
                Changed::Content => "Content",
                Changed::Properties => "Properties",
                Changed::Both => "ContentAndProperties",
            };
            ("Changed", Some(what), Some(before), Some(after))
        }
    };
    json!({
        "change": change,
        "what": what,
        "before": before.map(render_record),
        "after": after.map(render_record),
    })
}

fn render_record(record: &Record) -> Value {
    match record {
        Record::Container(container) => render_container(container),
        Record::Blob(item) => render_blob(&item.entry),
    }
}
