//! Looking into points while a request waits: pages of manifests are read from the vault's store, no content.
//!
//! That takes milliseconds where the store is near, so it is no job. Where it takes longer the request ends: after [`PATIENCE`] with what was
//! found until then, or with 503. Only a few requests look at once, so that they leave the store to backups and restores.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blobkeep_arm::time::format_seven_digits;
use blobkeep_arm::word::DataStore;
use blobkeep_arm::{ApiError, ErrorCode};
use blobkeep_vault::point::Point;
use blobkeep_vault::work::{WorkKind, register_reader};
use blobkeep_vault::{BlobEntry, ContainerEntry, Error, ErrorKind, Timestamp, Vault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::App;
use crate::api::Request;
use crate::api::instances;
use crate::api::vaults::not_found;
use crate::db;
use crate::db::instances::StoredInstance;
use crate::error::{ApiResult, fault};
use crate::jobs::missing_key;

/// What reading anything of a point needs.
pub(super) const READ: &str = "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read";
/// Entries of one answer.
pub(super) const PAGE: usize = 1000;
/// Under which name the vault knows who looks.
const JOB: &str = "look";
/// How long a request looks.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that look at once.
static PLACES: Semaphore = Semaphore::const_new(4);

/// A look into the vault of one instance.
pub(super) struct Reading {
    /// The engine's vault.
    pub(super) vault: Arc<Vault>,
    /// The instance.
    pub(super) stored: StoredInstance,
    /// The point that the path names, if it names one.
    point: Option<String>,
    until: Instant,
    _place: SemaphorePermit<'static>,
}

impl Reading {
    /// Finds what the path names.
    ///
    /// # Errors
    /// 404 for vault, instance and point; 400 if nothing was ever backed up into the vault; 503 while too many look.
    pub(super) async fn begin(app: &App, request: &Request) -> ApiResult<Self> {
        let nothing = || no_such_point(request.param("point"), request.param("instance"));
        Self::find(app, request).await?.ok_or_else(nothing)
    }

    /// The same; `None` if nothing was ever backed up into the vault.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub(super) async fn find(app: &App, request: &Request) -> ApiResult<Option<Self>> {
        let mut reader = app.db.read().await?;
        let (row, stored) = instances::require(&mut reader, request).await?;
        let name = request.param("point");
        let point = match name {
            "" => None,
            name => {
                let point = db::points::get(&mut reader, request.granted()?, &stored.key, name).await?;
                let point = point.filter(|point| point.store == DataStore::VaultStore);
                let id = instances::instance_id(request).child("recoveryPoints", name);
                Some(point.ok_or_else(|| not_found(&id))?.id)
            }
        };
        drop(reader);
        let until = Instant::now() + PATIENCE;
        let place = tokio::time::timeout_at(until, PLACES.acquire()).await.map_err(|_| too_slow())?;
        let place = place.map_err(|error| fault(&error))?;
        let vault = app.vaults.find(app, &row.vault_uuid).await.map_err(|error| refusal(&error))?;
        Ok(vault.map(|vault| Self { vault, stored, point, until, _place: place }))
    }

    /// The point that the path names.
    ///
    /// # Errors
    /// 400 if the vault has none of that name any more.
    pub(super) async fn own_point(&self) -> ApiResult<Point> {
        self.point(self.point.as_deref().unwrap_or_default()).await
    }

    /// A point of the instance, by the id of its row.
    ///
    /// # Errors
    /// 400 if the vault has none of that name any more.
    pub(super) async fn point(&self, id: &str) -> ApiResult<Point> {
        let read = self.within(Point::get(&self.vault, &self.stored.instance_uuid, id)).await;
        match read.ok_or_else(too_slow)? {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_such_point(id, &self.stored.name)),
            read => read.map_err(|error| refusal(&error)),
        }
    }

    /// A recovery point that a body names.
    ///
    /// # Errors
    /// 400 `UserErrorRestorePointNotFound`.
    pub(super) async fn named_point(&self, app: &App, request: &Request, id: &str) -> ApiResult<Point> {
        let mut reader = app.db.read().await?;
        let row = db::points::get(&mut reader, request.granted()?, &self.stored.key, id).await?;
        drop(reader);
        let row = row.filter(|point| point.store == DataStore::VaultStore);
        self.point(&row.ok_or_else(|| no_such_point(id, &self.stored.name))?.id).await
    }

    /// Does some work as a registered reader, as a restore does: a prune that begins meanwhile waits for its end. Every reading of the vault
    /// belongs inside, that of the point included.
    ///
    /// # Errors
    /// 503 when the time is over before it is registered; else what the work says.
    pub(super) async fn registered<T>(&self, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let registered = register_reader(&self.vault, WorkKind::Restore, &self.stored.instance_uuid, JOB);
        let registration = self.within(registered).await.ok_or_else(too_slow)?;
        let outcome = work.await;
        if let Some(registration) = registration {
            registration.end().await;
        }
        outcome
    }

    /// What comes of some work, or `None` if the time is over before it is done.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.until, work).await.ok()
    }

    /// The same for work that is all or nothing.
    ///
    /// # Errors
    /// 503 when the time is over; else what the engine says.
    pub(super) async fn whole<T>(&self, work: impl Future<Output = Result<T, Error>>) -> ApiResult<T> {
        self.within(work).await.ok_or_else(too_slow)?.map_err(|error| refusal(&error))
    }
}

/// 503: the store is slow, or there is too much to look through.
pub(super) fn too_slow() -> ApiError {
    let reason =
        format!("looking into the vault takes more than {} seconds, so ask for less at once", PATIENCE.as_secs());
    ApiError::of(ErrorCode::ServiceUnavailable, &[("reason", &reason)])
}

fn no_such_point(point: &str, instance: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorRestorePointNotFound, &[("point", point), ("instance", instance)])
}

/// What the engine says of a question, in the API's words.
pub(super) fn refusal(error: &Error) -> ApiError {
    if let Some(error) = missing_key(error) {
        return error;
    }
    match error.kind() {
        ErrorKind::NotFound => {
            ApiError::of(ErrorCode::UserErrorGenericResourceNotFound, &[("resource", &error.to_string())])
        }
        ErrorKind::Unavailable | ErrorKind::Denied => {
            tracing::warn!(%error, "the store does not answer who looks into a point");
            ApiError::of(ErrorCode::ServiceUnavailable, &[("reason", "the store of the vault does not answer")])
        }
        _ => fault(error),
    }
}

/// 400: a member of the body cannot be used.
pub(super) fn invalid(parameter: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorInvalidParameterInRequest, &[("parameter", parameter), ("reason", reason)])
}

/// The text by which a client asks for what follows `place`.
pub(super) fn write_token<T: Serialize>(place: &T) -> ApiResult<String> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).map_err(|error| fault(&error))?))
}

/// The place in a `skipToken`.
///
/// # Errors
/// 400 for a text that no answer gave out.
pub(super) fn read_token<T: DeserializeOwned>(token: &str) -> ApiResult<T> {
    let read = URL_SAFE_NO_PAD.decode(token).ok().and_then(|text| serde_json::from_slice(&text).ok());
    read.ok_or_else(|| invalid("skipToken", "it is not one that an answer to this action gave out"))
}

/// The body of an answer.
pub(super) fn list(values: Vec<Value>, next: Option<String>) -> Value {
    let mut body = Map::new();
    body.insert("value".to_owned(), Value::Array(values));
    if let Some(next) = next {
        body.insert("skipToken".to_owned(), json!(next));
    }
    Value::Object(body)
}

fn time(at: Timestamp) -> Value {
    json!(format_seven_digits(at.0))
}

/// A blob as it is answered.
pub(super) fn render_blob(entry: &BlobEntry) -> Value {
    json!({
        "kind": "blob",
        "container": entry.container,
        "name": entry.name,
        "size": entry.size_bytes,
        "etag": entry.etag,
        "lastModified": time(entry.modified_at),
        "contentType": entry.headers.content_type,
        "tier": entry.tier,
    })
}

/// A container as it is answered.
pub(super) fn render_container(entry: &ContainerEntry) -> Value {
    json!({
        "kind": "container",
        "name": entry.name,
        "etag": entry.etag,
        "lastModified": time(entry.modified_at),
    })
}
