//! Requests about the secondary region of a vault: where its backups are, and what is asked of them.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{ApiError, ErrorCode};
use crate::id::ResourceId;
use crate::word::{Invalid, read};

const MEMBERS: &[&str] = &[
    "restoreRequestObject",
    "crossRegionRestoreDetails",
    "sourceRegion",
    "sourceBackupInstanceId",
    "sourceBackupVaultId",
    "jobId",
];

/// The vault or instance that a request is about.
#[derive(Debug, Clone)]
pub struct Source {
    /// The region that it lies in, as sent.
    pub region: String,
    /// Its id.
    pub id: ResourceId,
    /// The member that named the region.
    pub region_parameter: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    restore_request_object: Option<Map<String, Value>>,
    cross_region_restore_details: Option<Details>,
    #[serde(flatten)]
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    source_region: Option<String>,
    source_backup_instance_id: Option<String>,
    source_backup_vault_id: Option<String>,
    job_id: Option<String>,
}

impl Source {
    /// The instance of a restore or its validation: `restoreRequestObject` and `crossRegionRestoreDetails` must be there.
    ///
    /// # Errors
    /// 400 for a member that is missing, or an id that is not that of a backup instance.
    pub fn of_restore(body: &Value) -> Result<Self, ApiError> {
        let body: Body = read(body, MEMBERS)?;
        need(body.restore_request_object, "restoreRequestObject")?;
        let details = need(body.cross_region_restore_details, "crossRegionRestoreDetails")?;
        Self::instance(
            details,
            "crossRegionRestoreDetails.sourceRegion",
            "crossRegionRestoreDetails.sourceBackupInstanceId",
        )
    }

    /// The instance whose secondary points are asked for.
    ///
    /// # Errors
    /// As [`Self::of_restore`].
    pub fn of_points(body: &Value) -> Result<Self, ApiError> {
        let body: Body = read(body, MEMBERS)?;
        Self::instance(body.details, "sourceRegion", "sourceBackupInstanceId")
    }

    /// The vault whose restores are asked for.
    ///
    /// # Errors
    /// 400 for a member that is missing, or an id that is not that of a vault.
    pub fn of_jobs(body: &Value) -> Result<Self, ApiError> {
        let body: Body = read(body, MEMBERS)?;
        Self::vault(body.details)
    }

    /// The vault and the id of one restore.
    ///
    /// # Errors
    /// As [`Self::of_jobs`].
    pub fn of_job(body: &Value) -> Result<(Self, String), ApiError> {
        let mut body: Body = read(body, MEMBERS)?;
        let job = need_text(body.details.job_id.take(), "jobId")?;
        Ok((Self::vault(body.details)?, job))
    }

    fn instance(details: Details, region: &'static str, id: &'static str) -> Result<Self, ApiError> {
        let kind = "Microsoft.DataProtection/backupVaults/backupInstances";
        Ok(Self {
            region: need_text(details.source_region, region)?,
            id: id_of(need_text(details.source_backup_instance_id, id)?, kind, id)?,
            region_parameter: region,
        })
    }

    fn vault(details: Details) -> Result<Self, ApiError> {
        let (region, id) = ("sourceRegion", "sourceBackupVaultId");
        Ok(Self {
            region: need_text(details.source_region, region)?,
            id: id_of(need_text(details.source_backup_vault_id, id)?, "Microsoft.DataProtection/backupVaults", id)?,
            region_parameter: region,
        })
    }
}

fn need<T>(given: Option<T>, parameter: &str) -> Result<T, Invalid> {
    given.ok_or_else(|| Invalid::new(parameter, format!("The request has no '{parameter}'.")))
}

fn need_text(given: Option<String>, parameter: &str) -> Result<String, Invalid> {
    need(given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()), parameter)
}

fn id_of(text: String, kind: &str, parameter: &str) -> Result<ResourceId, ApiError> {
    ResourceId::parse(&text).ok().filter(|id| id.is_type(kind)).ok_or_else(|| {
        let reason = format!("it is not the id of a resource of type {kind}");
        ApiError::of(
            ErrorCode::UserErrorInvalidResourceUriInRequest,
            &[("id", &text), ("parameter", parameter), ("reason", &reason)],
        )
        .with_target(parameter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const VAULT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataProtection/backupVaults/v";

    #[test]
    fn a_restore_names_its_instance_in_its_details() {
        let id = format!("{VAULT}/BackupInstances/i");
        let body = json!({ "restoreRequestObject": {}, "crossRegionRestoreDetails": { "sourceRegion": "east asia", "sourceBackupInstanceId": id } });
        let source = Source::of_restore(&body).unwrap();
        assert_eq!((source.region.as_str(), source.id.name()), ("east asia", "i"));
        for (member, target) in [
            ("/restoreRequestObject", "restoreRequestObject"),
            ("/crossRegionRestoreDetails", "crossRegionRestoreDetails"),
            ("/crossRegionRestoreDetails/sourceRegion", "crossRegionRestoreDetails.sourceRegion"),
            ("/crossRegionRestoreDetails/sourceBackupInstanceId", "crossRegionRestoreDetails.sourceBackupInstanceId"),
        ] {
            let mut without = body.clone();
            *without.pointer_mut(member).unwrap() = Value::Null;
            assert_eq!(Source::of_restore(&without).unwrap_err().target.as_deref(), Some(target));
        }
    }

    #[test]
    fn an_id_of_something_else_is_refused() {
        let body = json!({ "sourceRegion": "eastus", "sourceBackupInstanceId": VAULT });
        let error = Source::of_points(&body).unwrap_err();
        assert_eq!(error.code, ErrorCode::UserErrorInvalidResourceUriInRequest);
        let body = json!({ "SourceRegion": "eastus", "sourceBackupVaultId": VAULT, "jobId": "j" });
        assert_eq!(Source::of_job(&body).unwrap().1, "j");
        assert_eq!(Source::of_jobs(&body).unwrap().id.name(), "v");
    }
}
