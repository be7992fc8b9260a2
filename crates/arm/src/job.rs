//! Jobs as users see them: backups and restores, their states and what is told of them.
//!
//! Jobs print explicit nulls for absent members; `extendedInfo` is null in lists and filled when one job is asked for
//! (recorded). Which work a job does is the service's affair.

use serde_json::{Map, Value, json};

use crate::point::ticks;
use crate::time::{format_seven_digits, format_timespan};
use crate::word::{DataStore, words};

words! {
    /// Where a job stands.
    JobStatus {
        /// Accepted, not begun; answered as `InProgress`.
        Queued,
        /// Being worked on.
        InProgress,
        /// Done.
        Completed,
        /// Done, with something left out that `warningDetails` names.
        CompletedWithWarnings,
        /// Given up; `errorDetails` say why.
        Failed,
        /// Given up because somebody asked for it.
        Cancelled,
    }
}

impl JobStatus {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }

    /// The word that is answered: the product has none for a job that waits.
    pub fn answered(self) -> &'static str {
        match self {
            Self::Queued => Self::InProgress.as_str(),
            other => other.as_str(),
        }
    }
}

words! {
    /// What a visible job does; `operation` and `operationCategory` alike.
    JobOperation {
        /// Makes a recovery point.
        Backup,
        /// Brings one back.
        Restore,
    }
}

/// What is answered of a job. Times are µs.
#[derive(Debug, Clone)]
pub struct JobView<'a> {
    /// The id of the vault as created.
    pub vault_id: &'a str,
    /// The name of the vault.
    pub vault_name: &'a str,
    /// The subscription of the vault.
    pub subscription_id: &'a str,
    /// A GUID.
    pub id: &'a str,
    /// What it does.
    pub operation: JobOperation,
    /// Where it stands.
    pub status: JobStatus,
    /// The id of the instance.
    pub instance_id: &'a str,
    /// What people call the instance.
    pub instance_friendly_name: &'a str,
    /// The protected account.
    pub datasource: DatasourceView<'a>,
    /// The policy's id.
    pub policy_id: &'a str,
    /// Whether somebody asked for it, rather than a schedule.
    pub is_user_triggered: bool,
    /// Correlation id of the request that began it.
    pub activity_id: &'a str,
    /// When work began (or the job was accepted).
    pub started_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// The present, for the duration of a job that still runs.
    pub now: i64,
    /// The tier that a restore reads, or a backup writes.
    pub store: DataStore,
    /// An array of the `info` shape.
    pub errors: Option<&'a Value>,
    /// Filled only when one job is asked for.
    pub extended: Option<Extended<'a>>,
}

/// The protected account in a job.
#[derive(Debug, Clone, Copy)]
pub struct DatasourceView<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its region.
    pub location: &'a str,
    /// Its datasource type.
    pub kind: &'a str,
    /// Its resource group.
    pub resource_group: &'a str,
    /// Its subscription.
    pub subscription_id: &'a str,
}

/// What is told only of one job.
#[derive(Debug, Clone, Default)]
pub struct Extended<'a> {
    /// Free pairs: rule, tag, counts.
    pub details: Map<String, Value>,
    /// Bytes read from the source or written to the target.
    pub transferred_bytes: Option<u64>,
    /// The point that a restore reads: id, and time where known.
    pub source_point: Option<(&'a str, Option<i64>)>,
    /// The point that a backup made: id and time.
    pub target_point: Option<(&'a str, Option<i64>)>,
    /// The account that a restore writes to.
    pub destination: Option<&'a str>,
    /// Names of the steps, with the word for where each stands.
    pub sub_tasks: Vec<(String, String)>,
    /// `{resourceName, warning}` each.
    pub warnings: Vec<Value>,
}

impl JobView<'_> {
    /// The resource, in the recorded shape.
    pub fn render(&self) -> Value {
        let end = self.ended_at.unwrap_or(self.now);
        let policy_name = self.policy_id.rsplit('/').next().unwrap_or_default();
        let changed = ticks(self.ended_at.unwrap_or(self.started_at));
        json!({
            "properties": {
                "activityID": self.activity_id,
                "subscriptionId": self.subscription_id,
                "backupInstanceId": self.instance_id,
                "policyId": self.policy_id,
                "dataSourceId": self.datasource.id,
                "vaultName": self.vault_name,
                "backupInstanceFriendlyName": self.instance_friendly_name,
                "policyName": policy_name,
                "sourceResourceGroup": self.datasource.resource_group,
                "dataSourceSetName": self.datasource.name,
                "dataSourceName": self.datasource.name,
                "sourceDataStoreName": self.store,
                "sourceDataStoreType": self.store,
                "isCrossRegionRestore": false,
                "destinationDataStoreName": null,
                "progressEnabled": false,
                "etag": format!("W/\"datetime'{changed}'\""),
                "sourceSubscriptionID": self.datasource.subscription_id,
                "dataSourceLocation": self.datasource.location,
                "startTime": format_seven_digits(self.started_at),
                "endTime": self.ended_at.map(format_seven_digits),
                "dataSourceType": self.datasource.kind,
                "operationCategory": self.operation,
                "operation": self.operation,
                "status": self.status.answered(),
                "isUserTriggered": self.is_user_triggered,
                "rehydrationPriority": null,
                "supportedActions": [""],
                "duration": format_timespan(end.saturating_sub(self.started_at)),
                "progressUrl": null,
                "errorDetails": self.errors,
                "extendedInfo": self.extended.as_ref().map(Extended::render),
            },
            "id": format!("{}/backupJobs/{}", self.vault_id, self.id),
            "name": self.id,
            "type": "Microsoft.DataProtection/backupVaults/backupJobs",
        })
    }
}

impl Extended<'_> {
    fn render(&self) -> Value {
        let point = |point: Option<(&str, Option<i64>)>| {
            point.map(|(id, time)| json!({"recoveryPointID": id, "recoveryPointTime": time.map(format_seven_digits)}))
        };
        let tasks: Vec<Value> = self
            .sub_tasks
            .iter()
            .zip(1..)
            .map(|((name, status), number): (_, i32)| {
                json!({
                    "taskId": number, "taskName": name, "additionalDetails": null, "taskStatus": status,
                    "taskProgress": null,
                })
            })
            .collect();
        // The specification makes these details strings.
        let details: Map<String, Value> = self
            .details
            .iter()
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.clone(), Value::String(text))
            })
            .collect();
        json!({
            "additionalDetails": if details.is_empty() { Value::Null } else { Value::Object(details) },
            "backupInstanceState": null,
            "dataTransferredInBytes": self.transferred_bytes,
            "targetRecoverPoint": point(self.target_point),
            "sourceRecoverPoint": point(self.source_point),
            "recoveryDestination": self.destination,
            "subTasks": tasks,
            "warningDetails": if self.warnings.is_empty() { Value::Null } else { json!(self.warnings) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> JobView<'static> {
        JobView {
            vault_id: "/v",
            vault_name: "v",
            subscription_id: "s",
            id: "3c60cb49-63e8-4b21-b9bd-26277b3fdfae",
            operation: JobOperation::Backup,
            status: JobStatus::Queued,
            instance_id: "/v/backupInstances/i",
            instance_friendly_name: "account",
            datasource: DatasourceView {
                id: "/a",
                name: "a",
                location: "westus",
                kind: crate::word::BLOB_DATASOURCE,
                resource_group: "g",
                subscription_id: "s",
            },
            policy_id: "/v/backupPolicies/daily",
            is_user_triggered: true,
            activity_id: "c4344fb4-7c11-43a4-8307-7ae7c7fb09b9",
            started_at: 0,
            ended_at: None,
            now: 5_000_000,
            store: DataStore::VaultStore,
            errors: None,
            extended: None,
        }
    }

    #[test]
    fn a_waiting_job_is_in_progress_and_prints_its_nulls() {
        let answer = view().render();
        let properties = answer["properties"].as_object().unwrap();
        assert_eq!(properties["status"], "InProgress");
        assert_eq!(properties["duration"], "00:00:05.0000000");
        assert_eq!(properties["policyName"], "daily");
        for absent in ["endTime", "errorDetails", "extendedInfo"] {
            assert_eq!(properties.get(absent), Some(&Value::Null), "{absent}");
        }
    }

    #[test]
    fn every_member_that_the_specification_requires_is_there() {
        let answer = view().render();
        for name in [
            "activityID",
            "backupInstanceFriendlyName",
            "dataSourceId",
            "dataSourceLocation",
            "dataSourceName",
            "dataSourceType",
            "isUserTriggered",
            "operation",
            "operationCategory",
            "progressEnabled",
            "sourceResourceGroup",
            "sourceSubscriptionID",
            "startTime",
            "status",
            "subscriptionId",
            "supportedActions",
            "vaultName",
        ] {
            assert!(!answer["properties"][name].is_null(), "{name}");
        }
    }

    #[test]
    fn details_of_one_job_are_strings() {
        let mut extended = Extended::default();
        extended.details.insert("BlobsRead".to_owned(), json!(3));
        extended.sub_tasks.push(("Trigger Backup".to_owned(), "Completed".to_owned()));
        let answer = JobView { extended: Some(extended), ..view() }.render();
        let info = &answer["properties"]["extendedInfo"];
        assert_eq!(info["additionalDetails"]["BlobsRead"], "3");
        assert_eq!(info["subTasks"][0]["taskId"], 1);
    }
}
