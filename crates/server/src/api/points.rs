//! Recovery points and restorable time ranges of an instance, also of one whose protection was stopped.

use std::sync::Arc;

use blobkeep_arm::point::{PointFilter, PointView, RangeRequest, render_ranges};
use blobkeep_arm::word::DataStore;
use http::Method;
use serde_json::Value;

use super::instances::{self, instance_id};
use super::page::Page;
use super::vaults::not_found;
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::db;
use crate::db::instances::StoredInstance;
use crate::db::points::Point;
use crate::error::ApiResult;
use crate::jobs::restorable_ranges;

const READ: &str = "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "RecoveryPoints_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/recoveryPoints",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "RecoveryPoints_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/recoveryPoints/{point}",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "RestorableTimeRanges_Find",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupInstances/{instance}/findRestorableTimeRanges",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action"),
        handler: |app, request| Box::pin(find_ranges(app, request)),
    },
];

fn render(stored: &StoredInstance, point: &Point) -> Value {
    PointView {
        instance_id: &stored.id,
        id: &point.id,
        created_at: point.created_at,
        expires_at: point.expires_at,
        tag: &point.tag,
        tag_version: point.tag_version,
        policy_name: &point.policy_name,
        state: point.state,
        store: point.store,
    }
    .render()
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let filter = PointFilter::parse(request.filter().unwrap_or_default())?;
    let page = Page::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let (_, stored) = instances::require(&mut reader, &request).await?;
    let granted = request.granted()?;
    let (before, limit) = (page.before(), page.fetch());
    let points =
        db::points::page(&mut reader, granted, &stored.key, DataStore::VaultStore, filter, before, limit).await?;
    page.answer(&request, &points, |point| render(&stored, point))
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let (_, stored) = instances::require(&mut reader, &request).await?;
    let name = request.param("point");
    let point = db::points::get(&mut reader, request.granted()?, &stored.key, name).await?;
    // Like the list: the states of the operational tier are no points to users.
    let point = point.filter(|point| point.store == DataStore::VaultStore);
    let point = point.ok_or_else(|| not_found(&instance_id(&request).child("recoveryPoints", name)))?;
    Ok(Answer::ok(render(&stored, &point)))
}

/// What the operational tier can bring back. The vault has points, not ranges.
async fn find_ranges(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = RangeRequest::parse(&request.json_or_null()?)?;
    let mut reader = app.db.read().await?;
    let (_, stored) = instances::require(&mut reader, &request).await?;
    let mut shown = Vec::new();
    if wanted.store == DataStore::OperationalStore {
        for range in restorable_ranges(&mut reader, request.granted()?, &stored, request.now).await? {
            let start = wanted.start.map_or(range.start, |from| from.max(range.start));
            let end = wanted.end.map_or(range.end, |until| until.min(range.end));
            if start <= end {
                shown.push((start, end));
            }
        }
    }
    Ok(Answer::ok(render_ranges(&stored.name, &shown)))
}
