//! What a change of a policy would do to the points that are there, and what a policy said before.

use std::sync::Arc;

use blobkeep_arm::instance::ProtectionState;
use blobkeep_arm::point::PointFilter;
use blobkeep_arm::policy::Policy;
use blobkeep_arm::time::format_seven_digits;
use blobkeep_arm::word::DataStore;
use http::Method;
use serde_json::{Value, json};

use crate::App;
use crate::api::page::Page;
use crate::api::policies::policy_id;
use crate::api::vaults::{self, not_found};
use crate::api::{Access, Answer, Request, Route};
use crate::auth::{Granted, Rights};
use crate::db::instances::StoredInstance;
use crate::db::points::Point;
use crate::db::policies::{PolicyVersion, StoredPolicy};
use crate::db::vaults::Vault;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::expiry_under;

const READ: &str = "Microsoft.DataProtection/backupVaults/backupPolicies/read";
const READ_POINTS: &str = "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read";
/// Points that a preview spells out; it counts them all.
const SPELLED_OUT: usize = 1000;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BlobkeepPolicies_Preview",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupPolicies/{policy}/providers/Blobkeep.DataProtection/preview",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(preview(app, request)),
    },
    Route {
        operation: "BlobkeepPolicies_ListVersions",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupPolicies/{policy}/providers/Blobkeep.DataProtection/versions",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(versions(app, request)),
    },
];

async fn require(conn: &mut Conn, request: &Request) -> ApiResult<(Vault, StoredPolicy)> {
    let vault = vaults::require(conn, request).await?;
    let id = policy_id(request);
    let found = db::policies::get(conn, request.granted()?, &id.folded()).await?;
    Ok((vault, found.ok_or_else(|| not_found(&id))?))
}

async fn preview(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let policy = Policy::parse(&request.json()?)?;
    let granted = request.granted()?;
    let rights = Rights::of(&app, &request.caller.object_id).await?;
    let mut reader = app.db.read().await?;
    let (vault, stored) = require(&mut reader, &request).await?;
    let users = db::instances::by_policy(&mut reader, granted, &stored.key).await?;
    let (shown, hidden): (Vec<_>, Vec<_>) = users.iter().partition(|user| rights.allow(READ_POINTS, &user.key));
    let mut preview = Preview { hidden: hidden.len(), instances: shown.len(), ..Preview::default() };
    for instance in shown {
        preview.look_at(&mut reader, granted, &vault, instance, &policy, request.now).await?;
    }
    Ok(Answer::ok(preview.render()))
}

/// What would become of points. Memory: the points of one instance, and those that are spelled out.
#[derive(Debug, Default)]
struct Preview {
    instances: usize,
    /// Instances whose points the caller may not read.
    hidden: usize,
    changed: usize,
    removed: usize,
    points: Vec<Value>,
}

impl Preview {
    async fn look_at(
        &mut self,
        conn: &mut Conn,
        granted: &Granted,
        vault: &Vault,
        instance: &StoredInstance,
        policy: &Policy,
        now: i64,
    ) -> ApiResult<()> {
        let (key, all) = (&instance.key, PointFilter::default());
        let points = db::points::list(conn, granted, key, DataStore::VaultStore, all).await?;
        let others = db::points::page(conn, granted, key, DataStore::OperationalStore, all, None, 1).await?;
        let newest = points.first().into_iter().chain(&others).max_by_key(|point| point.created_at);
        for point in &points {
            let expires_at = expiry_under(policy, vault, point, now);
            if expires_at == point.expires_at {
                continue;
            }
            let is_newest = newest.is_some_and(|newest| newest.id == point.id);
            let is_removed = expires_at.is_some_and(|at| at <= now) && !is_kept(instance, is_newest);
            self.changed += 1;
            self.removed += usize::from(is_removed);
            if self.points.len() < SPELLED_OUT {
                self.points.push(change_of(instance, point, expires_at, is_removed));
            }
        }
        Ok(())
    }

    fn render(self) -> Value {
        json!({
            "affectedInstances": self.instances,
            "hiddenInstances": self.hidden,
            "changedPoints": self.changed,
            "removedNow": self.removed,
            "points": self.points,
        })
    }
}

/// In this state of its instance a point stays although its time is over.
fn is_kept(instance: &StoredInstance, is_newest: bool) -> bool {
    instance.deletion.is_some()
        || instance.state == ProtectionState::ProtectionStopped
        || (instance.state == ProtectionState::BackupSchedulesSuspended && is_newest)
}

fn change_of(instance: &StoredInstance, point: &Point, expires_at: Option<i64>, is_removed: bool) -> Value {
    json!({
        "instanceId": instance.id,
        "recoveryPointId": point.id,
        "recoveryPointTime": format_seven_digits(point.created_at),
        "retentionTagName": point.tag,
        "expiryTime": point.expires_at.map(format_seven_digits),
        "newExpiryTime": expires_at.map(format_seven_digits),
        "wouldBeRemovedNow": is_removed,
    })
}

async fn versions(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::<(i64, String)>::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let (_, stored) = require(&mut reader, &request).await?;
    let before = page.before().map_or(i64::MAX, |(version, _)| version);
    let versions = db::policies::versions(&mut reader, request.granted()?, &stored.key, before, page.fetch()).await?;
    page.answer(&request, &versions, render_version)
}

fn render_version(version: &PolicyVersion) -> Value {
    json!({
        "version": version.version,
        "createdAt": format_seven_digits(version.created_at),
        "properties": version.policy,
    })
}
