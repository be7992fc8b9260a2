//! Jobs as users see them: backups and restores, newest first.

use std::sync::Arc;

use blobkeep_arm::ResourceId;
use blobkeep_arm::job::{DatasourceView, Extended, JobOperation, JobView};
use blobkeep_arm::word::DataStore;
use http::Method;
use serde_json::{Value, json};

use super::page::Page;
use super::vaults::{self, not_found, vault_id};
use super::{Access, Answer, Request, Route};
use crate::App;
use crate::db;
use crate::db::jobs::Job;
use crate::db::vaults::Vault;
use crate::error::ApiResult;
use crate::jobs::spec::{BackupTrigger, JobReport, JobSpec, PointReference};

const READ: &str = "Microsoft.DataProtection/backupVaults/backupJobs/read";

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "Jobs_List",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupJobs",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(list(app, request)),
    },
    Route {
        operation: "Jobs_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupJobs/{job}",
        access: Access::Action(READ),
        handler: |app, request| Box::pin(get(app, request)),
    },
];

async fn get(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let name = request.param("job");
    let job = db::jobs::get_visible(&mut reader, request.granted()?, &vault.key, name).await?;
    let job = job.ok_or_else(|| not_found(&vault_id(&request).child("backupJobs", name)))?;
    Ok(Answer::ok(Shown::of(&request).whole(&vault, &job)))
}

async fn list(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let page = Page::of(&app, &request)?;
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let granted = request.granted()?;
    let jobs = db::jobs::list_visible(&mut reader, granted, &vault.key, page.before(), page.fetch()).await?;
    let shown = Shown::of(&request);
    page.written(&request, &jobs, |job, text| shown.turned(&vault, job, None, |view| view.write(text)))
}

/// How jobs are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// The present, in microseconds.
    pub(crate) now: i64,
    /// With the members that were recorded although no specification names them.
    pub(crate) has_recorded: bool,
}

impl Shown {
    fn of(request: &Request) -> Self {
        Self { now: request.now, has_recorded: request.api_version.has_recorded() }
    }

    /// The job with what is told only of one job.
    fn whole(self, vault: &Vault, job: &Job) -> Value {
        let report = JobReport::of_state(&job.state);
        self.turned(vault, job, Some(extended(job, &report)), |view| view.render())
    }

    /// The job as lists have it: they do not even read the rest.
    pub(crate) fn listed(self, vault: &Vault, job: &Job) -> Value {
        self.turned(vault, job, None, |view| view.render())
    }

    /// What the view of a job is turned into.
    fn turned<T>(
        self,
        vault: &Vault,
        job: &Job,
        extended: Option<Extended<'_>>,
        turn: impl FnOnce(&JobView<'_>) -> T,
    ) -> T {
        let display = &job.display;
        let account = ResourceId::parse(&display.datasource.resource_id).unwrap_or_default();
        let (operation, store, is_user_triggered) = match &job.spec {
            JobSpec::Restore(spec) => (JobOperation::Restore, spec.source_store, true),
            JobSpec::Backup(spec) => {
                (JobOperation::Backup, DataStore::VaultStore, spec.trigger == BackupTrigger::Adhoc)
            }
            _ => (JobOperation::Backup, DataStore::VaultStore, false),
        };
        turn(&JobView {
            vault_id: &vault.id,
            vault_name: &vault.name,
            subscription_id: &vault.subscription_id,
            id: &job.id,
            operation,
            status: job.status,
            instance_id: &display.instance_id,
            instance_friendly_name: &display.friendly_name,
            datasource: DatasourceView {
                id: &display.datasource.resource_id,
                name: &display.datasource.resource_name,
                location: &display.datasource.resource_location,
                kind: &display.datasource.datasource_type,
                resource_group: account.resource_group().unwrap_or_default(),
                subscription_id: account.subscription().unwrap_or_default(),
            },
            policy_id: &display.policy_id,
            is_user_triggered,
            activity_id: &job.correlation_id,
            started_at: job.started_at.unwrap_or(job.created_at),
            ended_at: job.ended_at,
            now: self.now,
            store,
            errors: job.error.as_ref(),
            extended,
            has_recorded: self.has_recorded,
        })
    }
}

/// What the worker reported, over what follows from the job itself.
fn extended<'a>(job: &'a Job, report: &'a JobReport) -> Extended<'a> {
    let mut extended = Extended {
        transferred_bytes: report.transferred_bytes,
        source_point: report.source_point.as_ref().map(|point| (point.id.as_str(), point.time)),
        target_point: report.target_point.as_ref().map(|point| (point.id.as_str(), point.time)),
        sub_tasks: report.sub_tasks.clone(),
        warnings: report.warnings.clone(),
        ..Extended::default()
    };
    let task = match &job.spec {
        JobSpec::Restore(spec) => {
            extended.destination = Some(&spec.target);
            if let (None, PointReference::ById(id)) = (extended.source_point, &spec.point) {
                extended.source_point = Some((id, None));
            }
            "Trigger Restore"
        }
        JobSpec::Backup(spec) => {
            extended.details.insert("PolicyRuleName".to_owned(), json!(spec.rule_name));
            if let Some(tag) = &spec.tag_override {
                extended.details.insert("RetentionTag".to_owned(), json!(tag));
            }
            "Trigger Backup"
        }
        _ => "Run",
    };
    extended.details.insert("TaskId".to_owned(), json!(job.id));
    extended.details.extend(report.details.clone());
    if extended.sub_tasks.is_empty() {
        extended.sub_tasks.push((task.to_owned(), job.status.answered().to_owned()));
    }
    extended
}
