//! `blobkeep job`: backups and restores as the service runs them, and waiting for them.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::Outcome;
use crate::client::{ApiFailure, Client, version};
use crate::output::{self, Format};
use crate::progress::{ProgressView, StopFlag};
use crate::scope::{self, VaultScope, text};

/// Jobs: backups and restores, running and done
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blobkeep job list -g backups --vault-name team")]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the jobs of the vault, newest first
    #[command(after_help = "Example:\n  blobkeep job list -g backups --vault-name team")]
    List(VaultScope),
    /// Shows one job
    #[command(after_help = "Example:\n  blobkeep job show $JOB -g backups --vault-name team --output json")]
    Show(OneArgs),
    /// Waits for the end of a job; ends with code 1 if it failed
    #[command(after_help = "Example:\n  blobkeep job wait $JOB -g backups --vault-name team")]
    Wait(OneArgs),
    /// Stops a job that waits or runs; what a restore has written stays
    #[command(after_help = "Example:\n  blobkeep job cancel $JOB -g backups --vault-name team")]
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The job's id: its GUID, or its whole ARM id
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    scope: VaultScope,
}

/// Runs one verb.
///
/// # Errors
/// What the service answers.
pub(crate) async fn run(args: JobArgs) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::List(scope) => {
            let (client, vault) = scope.open()?;
            let jobs = client.values(&format!("{vault}/backupJobs"), version::DATA_PROTECTION).await?;
            let headers = ["ID", "OPERATION", "INSTANCE", "STATUS", "STARTED", "DURATION"];
            scope::list(scope.format(), &jobs, &headers, row, "the vault has no jobs")?;
            Ok(Outcome::Done)
        }
        Verb::Show(args) => {
            let (client, id) = open(&args)?;
            show(args.scope.format(), &client.get(&id, version::DATA_PROTECTION).await?)?;
            Ok(Outcome::Done)
        }
        Verb::Wait(args) => {
            let (client, id) = open(&args)?;
            wait(&client, args.scope.format(), &id, "job").await
        }
        Verb::Cancel(args) => {
            let (client, id) = open(&args)?;
            let path = format!("{id}/providers/Blobkeep.DataProtection/cancel");
            let accepted = client.post(&path, version::DATA_PROTECTION, &json!({})).await?;
            client.finish(&accepted).await?;
            scope::done(args.scope.format(), &id, "told to stop")?;
            Ok(Outcome::Done)
        }
    }
}

fn open(args: &OneArgs) -> anyhow::Result<(Client, String)> {
    let (client, vault) = args.scope.open()?;
    Ok((client, format!("{vault}/backupJobs/{}", scope::segment(scope::last_segment(&args.job))?)))
}

/// The job that an operation's last status announces.
///
/// # Errors
/// It announces none.
pub(crate) fn id_of(status: &Value) -> anyhow::Result<String> {
    match text(status, "/properties/jobId") {
        "" => bail!("the service accepted the request and named no job: {status}"),
        id => Ok(id.to_owned()),
    }
}

/// Says which job has begun, or waits for its end.
///
/// # Errors
/// What the service answers.
pub(crate) async fn after_begin(
    client: &Client,
    format: Format,
    job_id: &str,
    label: &str,
    is_waited_for: bool,
) -> anyhow::Result<Outcome> {
    if is_waited_for {
        return wait(client, format, job_id, label).await;
    }
    if format == Format::Json {
        output::json(&json!({ "jobId": job_id }))?;
    } else {
        output::line(format!("{label} began as job {}", scope::last_segment(job_id)))?;
        output::note("`blobkeep job wait` follows it");
    }
    Ok(Outcome::Done)
}

async fn wait(client: &Client, format: Format, job_id: &str, label: &str) -> anyhow::Result<Outcome> {
    // Ctrl-C ends the waiting, not the job; the default handling of signals does just that.
    let view = ProgressView::new(label, StopFlag::default());
    let job = client.wait_for_job(job_id, &view).await?;
    view.finish();
    show(format, &job)?;
    Ok(if has_succeeded(&job) { Outcome::Done } else { Outcome::Failed })
}

/// The job did what it should, perhaps with warnings.
pub(crate) fn has_succeeded(job: &Value) -> bool {
    text(job, "/properties/status").starts_with("Completed")
}

/// The errors of a job, in words.
pub(crate) fn errors(job: &Value) -> Vec<String> {
    let errors = job.pointer("/properties/errorDetails").and_then(Value::as_array);
    errors.into_iter().flatten().map(|error| ApiFailure::from_error(error, None).to_string()).collect()
}

fn row(job: &Value) -> Vec<String> {
    let part = |pointer| text(job, pointer).to_owned();
    vec![
        part("/name"),
        part("/properties/operation"),
        part("/properties/backupInstanceFriendlyName"),
        part("/properties/status"),
        scope::time(job, "/properties/startTime"),
        part("/properties/duration").split('.').next().unwrap_or_default().to_owned(),
    ]
}

fn show(format: Format, job: &Value) -> anyhow::Result<()> {
    let line = |name, pointer| (name, text(job, pointer).to_owned());
    let moved = job.pointer("/properties/extendedInfo/dataTransferredInBytes").and_then(Value::as_u64);
    let point = ["target", "source"]
        .map(|side| text(job, &format!("/properties/extendedInfo/{side}RecoverPoint/recoveryPointID")))
        .into_iter()
        .find(|id| !id.is_empty());
    let mut lines = vec![
        line("id", "/name"),
        line("operation", "/properties/operation"),
        line("status", "/properties/status"),
        line("account", "/properties/dataSourceId"),
        ("started", scope::time(job, "/properties/startTime")),
        ("ended", scope::time(job, "/properties/endTime")),
        ("point", point.unwrap_or_default().to_owned()),
        ("moved", moved.map(output::bytes).unwrap_or_default()),
    ];
    let details = job.pointer("/properties/extendedInfo/additionalDetails").and_then(Value::as_object);
    // How far it is matters while it runs; the id is told above.
    let is_told = |name: &str| name != "TaskId" && (!has_succeeded(job) || !name.starts_with("Progress"));
    for (name, value) in details.into_iter().flatten().filter(|(name, _)| is_told(name)) {
        lines.push((name, value.as_str().unwrap_or_default().to_owned()));
    }
    scope::show(format, job, &lines)?;
    if format == Format::Table {
        let warnings = job.pointer("/properties/extendedInfo/warningDetails").and_then(Value::as_array);
        for warning in warnings.into_iter().flatten() {
            let said = ApiFailure::from_error(warning.get("warning").unwrap_or(warning), None);
            output::note(&format!(
                "warning: {}",
                output::printable(&format!("{}: {said}", text(warning, "/resourceName")))
            ));
        }
    }
    for error in errors(job) {
        output::error(&error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_names_its_job() {
        assert_eq!(id_of(&json!({"properties": {"jobId": "/v/backupJobs/j"}})).unwrap(), "/v/backupJobs/j");
        assert!(id_of(&json!({"status": "Succeeded"})).is_err());
    }

    #[test]
    fn warnings_are_no_failure() {
        let ended = |status: &str| has_succeeded(&json!({"properties": {"status": status}}));
        assert!(ended("Completed") && ended("CompletedWithWarnings"));
        assert!(!ended("Failed") && !ended("Cancelled"));
    }
}
