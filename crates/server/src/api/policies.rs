//! Backup policies. A change makes a new version; the instances that use the policy follow it at once.

use std::sync::Arc;

use blobkeep_arm::guard::{CriticalOperation, operation_requests};
use blobkeep_arm::instance::{ProtectionState, check_name};
use blobkeep_arm::policy::Policy;
use blobkeep_arm::{ApiError, ErrorCode, ResourceId, envelope, schedule};
use http::Method;
use uuid::Uuid;

use super::critical::Approval;
use super::page::Page;
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route, conditions};
use crate::App;
use crate::db::instances::StoredInstance;
use crate::db::jobs::NewJob;
use crate::db::policies::StoredPolicy;
use crate::db::{self, Conn};
use crate::error::ApiResult;
use crate::jobs::spec::{ExpireSpec, JobSpec};

const READ: &str = "Microsoft.DataProtection/backupVaults/backupPolicies/read";
const PATTERN: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupPolicies/{policy}";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "BackupPolicies_CreateOrUpdate",
        method: Method::PUT,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupPolicies/write"),
        handler: |app, request| Box::pin(put(app, request)),
    },
    Route {
        operation: "BackupPolicies_Get",
        method: Method::GET,
        pattern: PATTERN,
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
    Route {
        operation: "BackupPolicies_Delete",
        method: Method::DELETE,
        pattern: PATTERN,
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupPolicies/delete"),
        handler: |app, request| Box::pin(delete(app, request)),
    },
    Route {
        operation: "BackupPolicies_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupPolicies",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
];

pub(super) fn policy_id(request: &Request) -> ResourceId {
    vault_id(request).child("backupPolicies", request.param("policy"))
}

fn render(stored: &StoredPolicy) -> serde_json::Value {
    stored.policy.render(&stored.id, &stored.name)
}

async fn put(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = policy_id(&request);
    check_name(id.name()).map_err(|rule| {
        ApiError::of(
            ErrorCode::InvalidResourceName,
            &[("name", id.name()), ("kind", "Microsoft.DataProtection/backupVaults/backupPolicies"), ("rule", rule)],
        )
    })?;
    let body = request.json()?;
    let policy = Policy::parse(&body)?;
    let named = operation_requests(envelope::member(&body, "properties"))?;
    let approval = Approval::of(&app, &request, named).await?;
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    let existing = db::policies::get(&mut tx, granted, &id.folded()).await?;
    conditions::check(&mut tx, &request, existing.as_ref().map(|existing| existing.key.as_str())).await?;
    let stored = match existing {
        Some(existing) if existing.policy == policy => {
            let stamp = conditions::stamp(&mut tx, &request, &existing.key).await?;
            let answer = Answer::ok(render(&existing));
            return Ok(match stamp {
                Some(stamp) => conditions::written_answer(answer, &stamp),
                None => answer,
            });
        }
        Some(existing) => StoredPolicy { version: existing.version + 1, policy, updated_at: request.now, ..existing },
        None => StoredPolicy {
            key: id.folded(),
            id: format!("{}/backupPolicies/{}", vault.id, id.name()),
            name: id.name().to_owned(),
            vault_key: vault.key.clone(),
            version: 1,
            policy,
            created_at: request.now,
            updated_at: request.now,
        },
    };
    let users = db::instances::by_policy(&mut tx, granted, &stored.key).await?;
    if !users.is_empty() {
        // Its instances follow a changed policy at once, so that is as good as giving them another one.
        approval.check(&mut tx, &request, &vault, CriticalOperation::ModifyProtection).await?;
    }
    db::policies::put(&mut tx, granted, &stored).await?;
    if stored.version > 1 {
        for instance in users {
            follow_change(&mut tx, &request, &stored, &instance).await?;
        }
    }
    let stamp = conditions::change(&mut tx, &request, &stored.key, stored.version == 1).await?;
    tx.commit().await?;
    Ok(conditions::written_answer(Answer::ok(render(&stored)), &stamp))
}

/// The instance gets its next backup by the new schedule, its points their expiry by the new retention, and the operational tier looks whether
/// it is meant.
async fn follow_change(
    conn: &mut Conn,
    request: &Request,
    policy: &StoredPolicy,
    instance: &StoredInstance,
) -> ApiResult<()> {
    if instance.state == ProtectionState::ProtectionConfigured {
        let next = next_run(&policy.policy, request.now);
        db::instances::set_next_run(conn, request.granted()?, &instance.key, next).await?;
    }
    db::instances::set_look_at(conn, request.granted()?, &instance.key, Some(request.now)).await?;
    let spec = JobSpec::Expire(ExpireSpec { instance_key: instance.key.clone(), recalculate: true });
    db::jobs::enqueue(
        conn,
        &NewJob {
            id: &Uuid::new_v4().to_string(),
            vault_key: &policy.vault_key,
            spec: &spec,
            operation_id: None,
            principal_id: &request.caller.object_id,
            correlation_id: &request.correlation_id.to_string(),
            now: request.now,
        },
    )
    .await?;
    Ok(())
}

/// The next scheduled backup of a policy; a schedule that leads nowhere (it was checked when it came) is none.
pub(super) fn next_run(policy: &Policy, now: i64) -> Option<i64> {
    schedule::next_backup(policy, now).ok().flatten().map(|(at, _)| at)
}

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let id = policy_id(&request);
    vaults::require(&mut reader, &request).await?;
    let stored = db::policies::get(&mut reader, request.granted()?, &id.folded()).await?;
    let stored = stored.ok_or_else(|| not_found(&id))?;
    let stamp = conditions::stamp(&mut reader, &request, &stored.key).await?;
    conditions::read_answer(&request, stamp.as_ref(), render(&stored))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let granted = request.granted()?;
    let stored = db::policies::page(&mut reader, granted, &vault.key, page.after(), page.fetch()).await?;
    page.answer(&request, &stored, render)
}

async fn delete(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let id = policy_id(&request);
    let mut tx = app.db.write().await?;
    let stored = db::policies::get(&mut tx, granted, &id.folded()).await?;
    conditions::check(&mut tx, &request, stored.as_ref().map(|stored| stored.key.as_str())).await?;
    let Some(stored) = stored else { return Ok(Answer::no_content()) };
    let users = db::instances::by_policy(&mut tx, granted, &stored.key).await?;
    if !users.is_empty() {
        let names: Vec<&str> = users.iter().map(|instance| instance.name.as_str()).collect();
        return Err(ApiError::of(
            ErrorCode::UserErrorPolicyInUse,
            &[("policy", &stored.id), ("instances", &names.join(", "))],
        ));
    }
    db::role_assignments::delete_within(&mut tx, granted, &stored.key).await?;
    db::policies::delete(&mut tx, granted, &stored.key).await?;
    tx.commit().await?;
    Ok(Answer::ok_empty())
}
