//! Blobs by name, in one point or in all of an instance.

use std::collections::HashMap;
use std::sync::Arc;

use blobkeep_arm::point::PointFilter;
use blobkeep_arm::time::format_seven_digits;
use blobkeep_arm::word::{self, DataStore};
use blobkeep_vault::names::Pattern;
use blobkeep_vault::search::{Found, Query, Search, SearchCursor};
use blobkeep_vault::{Error, ErrorKind};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::{PAGE, READ, Reading, invalid, list, refusal, render_blob, too_slow};
use crate::App;
use crate::api::{Access, Answer, Request, Route};
use crate::db;
use crate::db::points::Point;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "BlobkeepInstances_Search",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/providers/Blobkeep.DataProtection/search",
    access: Access::Action(READ),
    handler: |app, request| Box::pin(search(app, request)),
}];

const MEMBERS: &[&str] = &["pattern", "containers", "recoveryPointId", "skipToken"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    pattern: String,
    #[serde(default)]
    containers: Vec<String>,
    #[serde(default)]
    recovery_point_id: Option<String>,
    #[serde(default)]
    skip_token: Option<String>,
}

impl Wanted {
    fn query(&self) -> ApiResult<Query> {
        let pattern = if self.pattern.contains(['*', '?']) {
            Pattern::glob(&self.pattern).map_err(|error| invalid("pattern", &error.to_string()))?
        } else if self.pattern.is_empty() {
            return Err(invalid("pattern", "an empty text is in every name: write ** for all of them"));
        } else {
            Pattern::Contains(self.pattern.clone())
        };
        Ok(Query { containers: self.containers.clone(), pattern })
    }

    fn cursor(&self) -> ApiResult<Option<SearchCursor>> {
        let cursor = self.skip_token.as_deref().map(str::parse).transpose();
        cursor.map_err(|error: Error| invalid("skipToken", &error.to_string()))
    }
}

async fn search(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted: Wanted = word::read(&request.json()?, MEMBERS)?;
    let (query, cursor) = (wanted.query()?, wanted.cursor()?);
    let Some(reading) = Reading::find(&app, &request).await? else { return Ok(Answer::ok(list(Vec::new(), None))) };
    let point = wanted.recovery_point_id.as_deref();
    let (found, next) = reading.registered(look(&app, &request, &reading, point, query, cursor)).await?;
    let points = points(&app, &request, &reading).await?;
    let values = found.iter().map(|found| render(found, points.get(&found.point))).collect();
    Ok(Answer::ok(list(values, next.map(|next| next.to_string()))))
}

/// Searches in the point of that id, or else in all of the instance.
async fn look(
    app: &App,
    request: &Request,
    reading: &Reading,
    point: Option<&str>,
    query: Query,
    cursor: Option<SearchCursor>,
) -> ApiResult<(Vec<Found>, Option<SearchCursor>)> {
    let point = match point {
        Some(id) => Some(reading.named_point(app, request, id).await?),
        None => None,
    };
    let search = match &point {
        Some(point) => Search::in_point(&reading.vault, point, query).map_err(|error| refusal(&error))?,
        None => {
            let begun = Search::in_instance(&reading.vault, &reading.stored.instance_uuid, query);
            reading.whole(begun).await?
        }
    };
    let search = match cursor {
        Some(cursor) => match reading.within(search.go_on(cursor)).await.ok_or_else(too_slow)? {
            Err(error) if error.kind() == ErrorKind::Invalid => return Err(invalid("skipToken", &error.to_string())),
            gone_on => gone_on.map_err(|error| refusal(&error))?,
        },
        None => search,
    };
    find(reading, search).await
}

/// A page of what there is, and where to go on. If the time is over before the page is full, the page is what was found until then.
async fn find(reading: &Reading, mut search: Search<'_>) -> ApiResult<(Vec<Found>, Option<SearchCursor>)> {
    let mut found = Vec::new();
    let mut next = None;
    loop {
        match reading.within(search.next()).await {
            None if found.is_empty() => return Err(too_slow()),
            None => return Ok((found, next)),
            Some(Err(error)) => return Err(refusal(&error)),
            Some(Ok(None)) => return Ok((found, None)),
            Some(Ok(Some(_))) if found.len() == PAGE => return Ok((found, next)),
            Some(Ok(Some(blob))) => {
                next = search.cursor().cloned();
                found.push(blob);
            }
        }
    }
}

/// All points of the instance, by id.
async fn points(app: &App, request: &Request, reading: &Reading) -> ApiResult<HashMap<String, Point>> {
    let mut reader = app.db.read().await?;
    let mut points = HashMap::new();
    for store in [DataStore::VaultStore, DataStore::OperationalStore] {
        let (granted, key) = (request.granted()?, &reading.stored.key);
        let listed = db::points::list(&mut reader, granted, key, store, PointFilter::default()).await?;
        points.extend(listed.into_iter().map(|point| (point.id.clone(), point)));
    }
    Ok(points)
}

/// A state of the operational tier has no id that could be asked for: it is restored by its time.
fn render(found: &Found, point: Option<&Point>) -> Value {
    let mut value = render_blob(&found.item.entry);
    let store = point.map_or(DataStore::VaultStore, |point| point.store);
    value["recoveryPointId"] = json!((store == DataStore::VaultStore).then_some(&found.point));
    value["recoveryPointTime"] = json!(point.map(|point| format_seven_digits(point.created_at)));
    value["sourceDataStoreType"] = json!(store);
    value
}
