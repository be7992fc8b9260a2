//! Exports of a vault's jobs: all of them as JSON, and as a workbook for people, in files that are kept for a day.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blobkeep_arm::error::{ApiError, ErrorCode};
use serde_json::Value;
use uuid::Uuid;

use super::fault::{Fault, internal};
use super::spec::ExportJobsSpec;
use super::workbook::Workbook;
use super::worker::Done;
use crate::App;
use crate::api::jobs::Shown;
use crate::auth::Granted;
use crate::db::{self, jobs::Job};
use crate::files;

/// How often an export is tried. Somebody waits for it.
pub(super) const TRIES: i64 = 3;
/// Exports are kept so long, in microseconds.
pub(crate) const KEPT_MICROS: i64 = 24 * 3600 * 1_000_000;
/// Jobs that are read at once.
const PAGE_JOBS: usize = 200;

/// Columns of the workbook, and where in a job's `properties` their values are.
const COLUMNS: &[(&str, &str)] = &[
    ("Job", ""),
    ("Operation", "/operation"),
    ("Status", "/status"),
    ("Start time", "/startTime"),
    ("End time", "/endTime"),
    ("Duration", "/duration"),
    ("Backup instance", "/backupInstanceFriendlyName"),
    ("Backup instance id", "/backupInstanceId"),
    ("Datasource", "/dataSourceName"),
    ("Datasource type", "/dataSourceType"),
    ("Datasource id", "/dataSourceId"),
    ("Policy", "/policyName"),
    ("Data store", "/sourceDataStoreName"),
    ("Triggered by a user", "/isUserTriggered"),
    ("Error", "/errorDetails/0/message"),
];

/// The form of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An array of the jobs as the list of jobs has them.
    Json,
    /// A sheet with a row for each.
    Workbook,
}

fn folder(app: &App) -> PathBuf {
    app.config.data_dir.join("exports")
}

/// Where a file of an export lies once the export has ended.
pub(crate) fn file_of(app: &App, export: Uuid, form: Form) -> PathBuf {
    let ending = match form {
        Form::Json => "json",
        Form::Workbook => "xlsx",
    };
    folder(app).join(format!("{export}.{ending}"))
}

/// Does the job.
pub(super) async fn run(app: &Arc<App>, job: &Job, spec: &ExportJobsSpec) -> Result<Done, Fault> {
    let outcome = write(app, spec).await;
    let error = match &outcome {
        Err(Fault::Passing(_)) if job.attempt < TRIES => None,
        Err(Fault::Passing(error) | Fault::Final(error)) => Some(error.message.as_str()),
        Ok(()) | Err(Fault::Cancelled | Fault::Yielded) => None,
    };
    if outcome.is_ok() || error.is_some() {
        let mut writer = app.db.write().await?;
        db::exports::finish(&mut writer, &spec.export_id, error, app.now()).await?;
        writer.commit().await?;
    }
    outcome.map(|()| Done::completed())
}

async fn write(app: &Arc<App>, spec: &ExportJobsSpec) -> Result<(), Fault> {
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    let vault = db::vaults::get(&mut reader, &granted, &spec.vault_key).await?;
    drop(reader);
    let vault = vault
        .ok_or_else(|| ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &spec.vault_key)]))?;
    let id = Uuid::parse_str(&spec.export_id).map_err(|error| internal(&error.to_string()))?;
    let (json, workbook) = (file_of(app, id, Form::Json), file_of(app, id, Form::Workbook));
    let mut report = blocking(move || Report::begin(json, workbook)).await?;
    let shown = Shown { now: app.now(), has_recorded: true };
    let limit = i64::try_from(PAGE_JOBS).unwrap_or(i64::MAX);
    let mut last: Option<(i64, String)> = None;
    loop {
        let mut reader = app.db.read().await?;
        let before = last.as_ref().map(|(time, id)| (*time, id.as_str()));
        let jobs = db::jobs::list_visible(&mut reader, &granted, &vault.key, before, limit).await?;
        drop(reader);
        let is_last = jobs.len() < PAGE_JOBS;
        last = jobs.last().map(|job| (job.created_at, job.id.clone()));
        let page: Vec<Value> = jobs.iter().map(|job| shown.listed(&vault, job)).collect();
        report = blocking(move || report.add(&page)).await?;
        if is_last {
            break;
        }
    }
    blocking(move || report.finish()).await
}

/// Work on files, which waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Fault> {
    let passing = |text: String| Fault::Passing(Box::new(internal(&text)));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(passing(format!("the export cannot be written: {error}"))),
        Err(error) => Err(passing(error.to_string())),
    }
}

/// Both files while they are written: under other names, so that nobody takes half of one for the whole.
struct Report {
    json: BufWriter<File>,
    workbook: Workbook<BufWriter<File>>,
    names: [PathBuf; 2],
    is_empty: bool,
}

/// The name of a file until it is whole.
fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

impl Report {
    fn begin(json: PathBuf, workbook: PathBuf) -> io::Result<Self> {
        files::private_dir(json.parent().unwrap_or(Path::new(".")))?;
        let create = |file: &Path| Ok::<_, io::Error>(BufWriter::new(files::create_private(&unfinished(file))?));
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let mut out = create(&json)?;
        out.write_all(b"[")?;
        let book = Workbook::begin(create(&workbook)?, &columns)?;
        Ok(Self { json: out, workbook: book, names: [json, workbook], is_empty: true })
    }

    fn add(mut self, jobs: &[Value]) -> io::Result<Self> {
        for job in jobs {
            let joint: &[u8] = if self.is_empty { b"\n" } else { b",\n" };
            self.is_empty = false;
            self.json.write_all(joint)?;
            serde_json::to_writer(&mut self.json, job)?;
            let cells: Vec<String> = COLUMNS.iter().map(|(_, place)| cell(job, place)).collect();
            self.workbook.row(&cells)?;
        }
        Ok(self)
    }

    fn finish(mut self) -> io::Result<()> {
        self.json.write_all(b"\n]\n")?;
        let json = self.json.into_inner().map_err(io::IntoInnerError::into_error)?;
        let workbook = self.workbook.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        for (file, name) in [json, workbook].into_iter().zip(&self.names) {
            file.sync_all()?;
            std::fs::rename(unfinished(name), name)?;
        }
        Ok(())
    }
}

fn cell(job: &Value, place: &str) -> String {
    let value = if place.is_empty() { job.get("name") } else { job["properties"].pointer(place) };
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Forgets the exports whose day is over, with their files, and files that a crash left behind.
///
/// # Errors
/// [`db::DbError`] when the database fails. A file that cannot be removed is tried again the next time.
pub async fn forget(app: &App) -> db::DbResult<()> {
    // The files are looked for before the rows: a row is there before its files are.
    let found = files_in(&folder(app));
    let mut writer = app.db.write().await?;
    db::exports::forget_begun_before(&mut writer, app.now() - KEPT_MICROS).await?;
    let kept: HashSet<String> = db::exports::ids(&mut writer).await?.into_iter().collect();
    writer.commit().await?;
    for (id, file) in found {
        if !kept.contains(&id)
            && let Err(error) = files::remove_if_there(&file)
        {
            tracing::warn!(file = %file.display(), %error, "an old export cannot be removed");
        }
    }
    Ok(())
}

/// The files of exports, with the ids of these.
fn files_in(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let of_export = |file: PathBuf| {
        let name = file.file_name()?.to_str()?;
        let id = Uuid::parse_str(name.split('.').next()?).ok()?;
        Some((id.to_string(), file))
    };
    entries.filter_map(|entry| of_export(entry.ok()?.path())).collect()
}
