//! Exporting a vault's jobs: begin, ask for the result, and fetch the files by links that carry a signature instead of a token.
//!
//! Only what this service has signed for is handed out, and only until the time in the link. The signature covers path and time; its key is
//! derived from the master key.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blobkeep_arm::time::{format_instant, parse_instant};
use blobkeep_arm::{ApiError, ErrorCode};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use uuid::Uuid;

use super::{Access, Answer, Request, Route, instances, vaults};
use crate::App;
use crate::clock::MICROS_PER_SECOND;
use crate::config::Waiting;
use crate::db;
use crate::db::exports::Export;
use crate::db::vaults::Vault;
use crate::error::{ApiResult, fault};
use crate::jobs::exports::{Form, KEPT_MICROS, file_of};
use crate::jobs::spec::{ExportJobsSpec, JobSpec};
use crate::seal::derive;

/// Routes of this file.
pub const ROUTES: &[Route] = &[
    Route {
        operation: "ExportJobs_Trigger",
        method: Method::POST,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/exportBackupJobs",
        access: Access::Action("Microsoft.DataProtection/backupVaults/exportBackupJobs/action"),
        handler: |app, request| Box::pin(trigger(app, request)),
    },
    Route {
        operation: "ExportJobsOperationResult_Get",
        method: Method::GET,
        pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataProtection/backupVaults/{vault}/backupJobs/operations/{operation}",
        access: Access::Action("Microsoft.DataProtection/backupVaults/backupJobs/read"),
        handler: |app, request| Box::pin(result(app, request)),
    },
    Route {
        operation: "Export_Download",
        method: Method::GET,
        pattern: "/exports/{vault}/{file}",
        access: Access::Public,
        handler: |app, request| Box::pin(download(app, request)),
    },
];

/// A link holds this long, in microseconds.
const LINK_MICROS: i64 = 3600 * MICROS_PER_SECOND;
/// Who asks again within this time follows the export that is under way, in microseconds.
const JOINED_MICROS: i64 = 600 * MICROS_PER_SECOND;
/// What names of files begin and workbooks end with, as in the specification's examples.
const REPORT: &str = "exportjobsreport";
const WORKBOOK_END: &str = "_ExcelFile.xlsx";

/// The answer while an export is worked on: `Location` alone.
fn waiting(app: &App, request: &Request, vault: &Vault, id: &str) -> Answer {
    let seconds = app.config.operations.retry_after.seconds(Waiting::Create);
    let location = request.absolute_url(&format!("{}/backupJobs/operations/{id}", vault.id));
    Answer::accepted().header("Location", location).header("Retry-After", seconds.to_string())
}

async fn trigger(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let granted = request.granted()?;
    let mut tx = app.db.write().await?;
    let vault = vaults::require(&mut tx, &request).await?;
    if db::jobs::list_visible(&mut tx, granted, &vault.key, None, 1).await?.is_empty() {
        return Ok(Answer::no_content());
    }
    let since = request.now - JOINED_MICROS;
    if let Some(under_way) = db::exports::unfinished(&mut tx, granted, &vault.key, since).await? {
        return Ok(waiting(&app, &request, &vault, &under_way.id));
    }
    let export = Export {
        id: Uuid::new_v4().to_string(),
        vault_key: vault.key.clone(),
        principal_id: request.caller.object_id.clone(),
        created_at: request.now,
        ended_at: None,
        error: None,
    };
    db::exports::create(&mut tx, granted, &export).await?;
    let spec = JobSpec::ExportJobs(ExportJobsSpec { vault_key: vault.key.clone(), export_id: export.id.clone() });
    instances::enqueue(&mut tx, &request, &vault.key, &spec, None).await?;
    tx.commit().await?;
    Ok(waiting(&app, &request, &vault, &export.id))
}

async fn result(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let id = request.param("operation");
    let mut reader = app.db.read().await?;
    let vault = vaults::require(&mut reader, &request).await?;
    let export = db::exports::get(&mut reader, request.granted()?, &vault.key, id).await?;
    drop(reader);
    // Its files may lie there for a while longer; no link opens them any more.
    let export = export.filter(|export| export.created_at + KEPT_MICROS > request.now);
    let export = export.ok_or_else(|| {
        ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &format!("operation {id}"))])
    })?;
    if export.ended_at.is_none() {
        return Ok(waiting(&app, &request, &vault, &export.id));
    }
    if let Some(error) = &export.error {
        return Err(ApiError::of(ErrorCode::CloudInternalError, &[]).with_detailed_message(error));
    }
    let links = Links::of(&app)?;
    let until = (request.now + LINK_MICROS).min(export.created_at + KEPT_MICROS);
    let until = format_instant(until - until.rem_euclid(MICROS_PER_SECOND));
    let json = format!("/exports/{}/{REPORT}{}", vault.vault_uuid, export.id);
    let workbook = format!("{json}{WORKBOOK_END}");
    Ok(Answer::ok(json!({
        "blobUrl": format!("{}{json}", request.base_url),
        "blobSasKey": links.sas(&json, &until),
        "excelFileBlobUrl": format!("{}{workbook}", request.base_url),
        "excelFileBlobSasKey": links.sas(&workbook, &until),
    })))
}

/// Signs links and knows its own again.
struct Links {
    key: hmac::Key,
}

impl Links {
    fn of(app: &App) -> ApiResult<Self> {
        let key = derive(app.master_key.as_slice(), "sign links to exports").map_err(|error| fault(&error))?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()) })
    }

    /// The query that makes `path` fetchable until an instant: what follows the `?`.
    fn sas(&self, path: &str, until: &str) -> String {
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, signed(path, until).as_bytes()));
        format!("sv=2024-11-04&sr=b&sp=r&se={until}&sig={signature}")
    }

    /// The signature is ours, compared in constant time, and its time is not over.
    fn allow(&self, path: &str, until: &str, signature: &str, now: i64) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        hmac::verify(&self.key, signed(path, until).as_bytes(), &signature).is_ok()
            && parse_instant(until).is_ok_and(|until| until > now)
    }
}

fn signed(path: &str, until: &str) -> String {
    format!("{path}\n{until}")
}

/// The export and form that a file's name in a link stands for.
fn named(file: &str) -> Option<(Uuid, Form)> {
    let rest = file.strip_prefix(REPORT)?;
    let (id, form) = match rest.strip_suffix(WORKBOOK_END) {
        Some(id) => (id, Form::Workbook),
        None => (rest, Form::Json),
    };
    Some((Uuid::parse_str(id).ok()?, form))
}

async fn download(app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let file = request.param("file");
    let path = format!("/exports/{}/{file}", request.param("vault"));
    let (until, signature) = (request.query("se").unwrap_or_default(), request.query("sig").unwrap_or_default());
    if !Links::of(&app)?.allow(&path, until, signature, request.now) {
        return Err(ApiError::of(ErrorCode::ExportLinkInvalid, &[]));
    }
    let gone = || ApiError::of(ErrorCode::NotFound, &[("path", &path)]);
    let (export, form) = named(file).ok_or_else(gone)?;
    let (kind, ending) = match form {
        Form::Json => ("application/json; charset=utf-8", ".json"),
        Form::Workbook => ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ""),
    };
    match tokio::fs::read(file_of(&app, export, form)).await {
        Ok(content) => Ok(Answer::raw(kind, Bytes::from(content))
            .header("Content-Disposition", format!("attachment; filename=\"{file}{ending}\""))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(gone()),
        Err(error) => Err(fault(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000 * MICROS_PER_SECOND;

    fn links() -> Links {
        Links { key: hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]) }
    }

    fn allows(path: &str, sas: &str, now: i64) -> bool {
        let value = |name: &str| sas.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        links().allow(path, value("se="), value("sig="), now)
    }

    #[test]
    fn a_link_opens_its_own_file_until_its_time_is_over() {
        let until = format_instant(NOW + LINK_MICROS);
        let sas = links().sas("/exports/v/file", &until);
        assert!(allows("/exports/v/file", &sas, NOW));
        assert!(!allows("/exports/v/file", &sas, NOW + LINK_MICROS));
        assert!(!allows("/exports/v/file2", &sas, NOW));
        let later = sas.replace(&until, &format_instant(NOW + 2 * LINK_MICROS));
        assert!(!allows("/exports/v/file", &later, NOW));
        assert!(!allows("/exports/v/file", &format!("se={until}&sig="), NOW));
        assert!(!allows("/exports/v/file", "", NOW));
    }

    #[test]
    fn names_of_files_hold_an_id_and_nothing_else() {
        let id = Uuid::from_u128(1);
        assert_eq!(named(&format!("exportjobsreport{id}")), Some((id, Form::Json)));
        assert_eq!(named(&format!("exportjobsreport{id}_ExcelFile.xlsx")), Some((id, Form::Workbook)));
        for bad in ["exportjobsreport", "exportjobsreport../master.key", "master.key", ""] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
