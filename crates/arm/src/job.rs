//! Jobs as users see them: backups and restores, their states and what is told of them.
//!
//! Jobs print explicit nulls for absent members; `extendedInfo` is null in lists and filled when one job is asked for
//! (recorded). Which work a job does is the service's affair.

use serde::Serialize;
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
    /// With the members that were recorded although no specification names them.
    pub has_recorded: bool,
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

/// The resource, in the recorded shape: members in their order, absent ones as null.
#[derive(Serialize)]
struct Shown<'a> {
    properties: Properties<'a>,
    id: String,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(rename = "activityID")]
    activity_id: &'a str,
    subscription_id: &'a str,
    backup_instance_id: &'a str,
    policy_id: &'a str,
    data_source_id: &'a str,
    vault_name: &'a str,
    backup_instance_friendly_name: &'a str,
    policy_name: &'a str,
    source_resource_group: &'a str,
    data_source_set_name: &'a str,
    data_source_name: &'a str,
    source_data_store_name: DataStore,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_data_store_type: Option<DataStore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_cross_region_restore: Option<bool>,
    destination_data_store_name: (),
    progress_enabled: bool,
    etag: String,
    #[serde(rename = "sourceSubscriptionID")]
    source_subscription_id: &'a str,
    data_source_location: &'a str,
    start_time: String,
    end_time: Option<String>,
    data_source_type: &'a str,
    operation_category: JobOperation,
    operation: JobOperation,
    status: &'static str,
    is_user_triggered: bool,
    rehydration_priority: (),
    supported_actions: [&'static str; 1],
    duration: String,
    progress_url: (),
    error_details: Option<&'a Value>,
    extended_info: Option<Value>,
}

impl JobView<'_> {
    fn shown(&self) -> Shown<'_> {
        let end = self.ended_at.unwrap_or(self.now);
        let changed = ticks(self.ended_at.unwrap_or(self.started_at));
        let properties = Properties {
            activity_id: self.activity_id,
            subscription_id: self.subscription_id,
            backup_instance_id: self.instance_id,
            policy_id: self.policy_id,
            data_source_id: self.datasource.id,
            vault_name: self.vault_name,
            backup_instance_friendly_name: self.instance_friendly_name,
            policy_name: self.policy_id.rsplit('/').next().unwrap_or_default(),
            source_resource_group: self.datasource.resource_group,
            data_source_set_name: self.datasource.name,
            data_source_name: self.datasource.name,
            source_data_store_name: self.store,
            source_data_store_type: self.has_recorded.then_some(self.store),
            is_cross_region_restore: self.has_recorded.then_some(false),
            destination_data_store_name: (),
            progress_enabled: false,
            etag: format!("W/\"datetime'{changed}'\""),
            source_subscription_id: self.datasource.subscription_id,
            data_source_location: self.datasource.location,
            start_time: format_seven_digits(self.started_at),
            end_time: self.ended_at.map(format_seven_digits),
            data_source_type: self.datasource.kind,
            operation_category: self.operation,
            operation: self.operation,
            status: self.status.answered(),
            is_user_triggered: self.is_user_triggered,
            rehydration_priority: (),
            supported_actions: [""],
            duration: format_timespan(end.saturating_sub(self.started_at)),
            progress_url: (),
            error_details: self.errors,
            extended_info: self.extended.as_ref().map(Extended::render),
        };
        Shown {
            properties,
            id: format!("{}/backupJobs/{}", self.vault_id, self.id),
            name: self.id,
            kind: "Microsoft.DataProtection/backupVaults/backupJobs",
        }
    }

    /// The resource, in the recorded shape.
    pub fn render(&self) -> Value {
        serde_json::to_value(self.shown()).unwrap_or_default()
    }

    /// The same as text.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn write(&self, text: impl std::io::Write) -> serde_json::Result<()> {
        serde_json::to_writer(text, &self.shown())
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
            has_recorded: true,
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
    fn a_job_is_the_same_as_text() {
        let errors = json!([{"code": "x"}]);
        let failed = JobView { ended_at: Some(7_000_000), errors: Some(&errors), ..view() };
        let full = JobView { extended: Some(Extended::default()), ..view() };
        for view in [view(), failed, full] {
            let mut text = Vec::new();
            view.write(&mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), view.render().to_string());
        }
        let answer = view().render();
        let (first, last) = (answer["properties"].as_object().unwrap().keys().next(), answer.as_object().unwrap());
        assert_eq!(first.map(String::as_str), Some("activityID"));
        assert_eq!(last.keys().collect::<Vec<_>>(), ["properties", "id", "name", "type"]);
    }

    #[test]
    fn what_was_only_recorded_can_be_left_out() {
        let (recorded, specified) = (view().render(), JobView { has_recorded: false, ..view() }.render());
        let members = |job: &Value| job["properties"].as_object().unwrap().clone();
        let (mut left, kept) = (members(&recorded), members(&specified));
        left.retain(|name, _| !kept.contains_key(name));
        assert_eq!(Value::Object(left), json!({"sourceDataStoreType": "VaultStore", "isCrossRegionRestore": false}));
        assert!(kept.iter().all(|(name, value)| recorded["properties"][name] == *value));
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
