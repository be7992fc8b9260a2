//! What a job is asked to do: written once by a handler or the scheduler, read by the worker, never changed.
//!
//! These structs are stored as JSON in the queue, so a field may be added with a default but never change its meaning.
//! Progress does not belong here; it is the worker's state.

use blobkeep_arm::instance::BackupInstance;
use blobkeep_arm::restore::{AccessTier, RecoveryOption, RestoreRequest, RestoreSelection, RestoreSource};
use blobkeep_arm::word::DataStore;
use serde::{Deserialize, Serialize};

/// What a job does, with everything it needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobSpec {
    /// Makes a recovery point. Visible, except in the continuous tier (whose `kind` column says `operational`).
    Backup(BackupSpec),
    /// Brings a state back. Visible.
    Restore(RestoreSpec),
    /// Looks whether an instance could be protected; its operation fails if not.
    ValidateBackup(ValidateBackupSpec),
    /// Looks whether a restore would work; its operation fails if not.
    ValidateRestore(ValidateRestoreSpec),
    /// Brings a new (or stopped) instance under protection.
    Configure(ConfigureSpec),
    /// Brings an instance under another policy or selection.
    UpdateInstance(UpdateInstanceSpec),
    /// Moves an instance to the deleted ones, or removes it at once.
    DeleteInstance(DeleteInstanceSpec),
    /// Takes the deletion back in the vault's own records.
    UndeleteInstance(UndeleteInstanceSpec),
    /// Sets expiry anew where a policy changed, and removes the points that have expired.
    Expire(ExpireSpec),
    /// Brings a vault's immutability into the vault's own records.
    SyncVault(SyncVaultSpec),
    /// Gives a vault the key that its row names.
    ChangeKey(ChangeKeySpec),
    /// Writes a vault's jobs into files.
    ExportJobs(ExportJobsSpec),
    /// Removes a deleted vault for good.
    PurgeVault(PurgeVaultSpec),
    /// Frees the space of points that have gone from a vault.
    Prune(PruneSpec),
    /// Proves that what a vault promises is there.
    Verify(VerifySpec),
}

impl JobSpec {
    /// The word in the `kind` column.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Backup(spec) if spec.trigger == BackupTrigger::Operational => "operational",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::ValidateBackup(_) => "validate_backup",
            Self::ValidateRestore(_) => "validate_restore",
            Self::Configure(_) => "configure",
            Self::UpdateInstance(_) => "update_instance",
            Self::DeleteInstance(_) => "delete_instance",
            Self::UndeleteInstance(_) => "undelete_instance",
            Self::Expire(_) => "expire",
            Self::SyncVault(_) => "sync_vault",
            Self::ChangeKey(_) => "change_key",
            Self::ExportJobs(_) => "export_jobs",
            Self::PurgeVault(_) => "purge_vault",
            Self::Prune(_) => "prune",
            Self::Verify(_) => "verify",
        }
    }

    /// Whether users see the job under `backupJobs`. The continuous tier's own backups are no jobs to them.
    pub fn is_visible(&self) -> bool {
        match self {
            Self::Backup(spec) => spec.trigger != BackupTrigger::Operational,
            Self::Restore(_) => true,
            _ => false,
        }
    }

    /// Whether the job rolls the protected account itself back: nobody looks at it meanwhile.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Self::Restore(spec) if spec.in_place)
    }

    /// The folded id of the instance that the job is about.
    pub fn instance_key(&self) -> Option<&str> {
        match self {
            Self::Backup(spec) => Some(&spec.instance_key),
            Self::Restore(spec) => Some(&spec.instance_key),
            Self::ValidateBackup(_)
            | Self::SyncVault(_)
            | Self::ChangeKey(_)
            | Self::ExportJobs(_)
            | Self::PurgeVault(_)
            | Self::Prune(_)
            | Self::Verify(_) => None,
            Self::ValidateRestore(spec) => Some(&spec.restore.instance_key),
            Self::Configure(spec) => Some(&spec.instance_key),
            Self::UpdateInstance(spec) => Some(&spec.instance_key),
            Self::DeleteInstance(spec) => Some(&spec.instance_key),
            Self::UndeleteInstance(spec) => Some(&spec.instance_key),
            Self::Expire(spec) => Some(&spec.instance_key),
        }
    }
}

/// What made a backup begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupTrigger {
    /// Somebody asked.
    Adhoc,
    /// A schedule.
    Scheduled,
    /// The continuous tier's own clock.
    Operational,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSpec {
    /// Folded id of the instance.
    pub instance_key: String,
    /// The backup rule of the policy; empty for the operational tier.
    pub rule_name: String,
    /// A retention tag instead of the rule's own.
    #[serde(default)]
    pub tag_override: Option<String>,
    /// What made it begin.
    pub trigger: BackupTrigger,
    /// The instant that the schedule named, µs; tags are chosen by it.
    #[serde(default)]
    pub scheduled_for: Option<i64>,
}

/// The state that is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointReference {
    /// A recovery point, by its 32 hex digits.
    ById(String),
    /// A moment of the operational tier, µs.
    ByTime(i64),
}

/// What of the state is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Everything.
    All,
    /// Containers.
    Containers(Vec<ContainerPart>),
    /// Ranges of `container/blob` names, compared as bytes.
    Ranges(Vec<RangePart>),
}

/// A container, whole or by prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPart {
    /// Its name in the point.
    pub container: String,
    /// Prefixes of blob names; none means all blobs.
    pub prefixes: Vec<String>,
    /// Its name at the target, if another one.
    pub rename_to: Option<String>,
}

/// A range of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangePart {
    /// The first name that belongs to it.
    pub min: Option<String>,
    /// The first name that no longer does.
    pub max: Option<String>,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSpec {
    /// Folded id of the instance.
    pub instance_key: String,
    /// The state.
    pub point: PointReference,
    /// The tier it is read from.
    pub source_store: DataStore,
    /// ARM id of the account that is written to, in the caller's casing.
    pub target: String,
    /// What of it.
    pub selection: Selection,
    /// What happens where something of the same name exists.
    pub option: RecoveryOption,
    /// The operational tier: blobs of the protected account are turned back where they are.
    pub in_place: bool,
    /// The access tier of all restored block blobs, instead of the one that each had.
    #[serde(default)]
    pub tier: Option<AccessTier>,
}

impl RestoreSpec {
    /// The work that a request asks for.
    pub fn of(request: &RestoreRequest, instance_key: &str, in_place: bool) -> Self {
        let point = match &request.source {
            RestoreSource::Point(id) => PointReference::ById(id.clone()),
            RestoreSource::Time(time) => PointReference::ByTime(*time),
        };
        let selection = match &request.selection {
            RestoreSelection::All => Selection::All,
            RestoreSelection::Containers(containers) => Selection::Containers(
                containers
                    .iter()
                    .map(|each| ContainerPart {
                        container: each.container.clone(),
                        prefixes: each.prefixes.clone(),
                        rename_to: each.rename_to.clone(),
                    })
                    .collect(),
            ),
            RestoreSelection::Ranges(ranges) => Selection::Ranges(
                ranges.iter().map(|each| RangePart { min: each.min.clone(), max: each.max.clone() }).collect(),
            ),
        };
        Self {
            instance_key: instance_key.to_owned(),
            point,
            source_store: request.store,
            target: request.target.resource_id.clone(),
            selection,
            option: request.option,
            in_place,
            tier: request.tier,
        }
    }
}

/// Whether an instance could be protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidateBackupSpec {
    /// Folded id of the vault.
    pub vault_key: String,
    /// The instance as it was sent.
    pub instance: BackupInstance,
    /// Folded id of the policy.
    pub policy_key: String,
    /// The instance that is to be changed, if it exists already.
    #[serde(default)]
    pub instance_key: Option<String>,
}

/// Whether a restore would work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateRestoreSpec {
    /// The restore as it would be done.
    pub restore: RestoreSpec,
}

/// Bring an instance under protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigureSpec {
    /// Folded id of the instance.
    pub instance_key: String,
}

/// Bring an instance under another policy or selection. Until the job is done the instance shows what it had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateInstanceSpec {
    /// Folded id of the instance.
    pub instance_key: String,
    /// What the instance shall be: see `db::instances::apply_update`.
    pub instance: BackupInstance,
    /// Folded id of the policy it shall have.
    pub policy_key: String,
}

/// Delete an instance. The times of a soft delete are in the instance's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteInstanceSpec {
    /// Folded id of the instance.
    pub instance_key: String,
    /// When the data goes, µs; nothing: at once.
    pub purge_at: Option<i64>,
}

/// Take a deletion back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeleteInstanceSpec {
    /// Folded id of the instance.
    pub instance_key: String,
}

/// Expire points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireSpec {
    /// Folded id of the instance.
    pub instance_key: String,
    /// First work out every point's expiry anew from the policy as it is now.
    #[serde(default)]
    pub recalculate: bool,
}

/// Bring a vault's immutability into the vault's own records: the row says what it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncVaultSpec {
    /// Folded id of the vault.
    pub vault_key: String,
}

/// Give a vault another key: the row says which one it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeKeySpec {
    /// Folded id of the vault.
    pub vault_key: String,
}

/// Write a vault's jobs into files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportJobsSpec {
    /// Folded id of the vault.
    pub vault_key: String,
    /// The export's row; also names the files.
    pub export_id: String,
}

/// Remove a deleted vault for good: its files, and its row if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeVaultSpec {
    /// Folded id of the vault, as a deleted one; of one that was not kept, the id that it had.
    pub vault_key: String,
    /// Names the vault in the store.
    pub vault_uuid: String,
}

/// Free the space of points that have gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneSpec {
    /// Folded id of the vault.
    pub vault_key: String,
}

/// Verify a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySpec {
    /// Folded id of the vault.
    pub vault_key: String,
    /// How deep to look.
    pub depth: VerifyDepth,
    /// Of the packs only this share, those that were read longest ago first.
    pub percent: Option<u8>,
}

/// How deep a verification looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyDepth {
    /// Records, pages and index; content is not read.
    Structure,
    /// The same, and the bytes of the packs.
    Bytes,
}

/// What a worker tells users of a visible job: the `report` member of the job's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobReport {
    /// Free pairs for `additionalDetails`: counts of blobs, bytes stored …
    pub details: serde_json::Map<String, serde_json::Value>,
    /// Bytes read from the source, or written to the target.
    pub transferred_bytes: Option<u64>,
    /// The point that a restore reads.
    pub source_point: Option<PointStamp>,
    /// The point that a backup made.
    pub target_point: Option<PointStamp>,
    /// Steps and the status word of each.
    pub sub_tasks: Vec<(String, String)>,
    /// `{"resourceName": …, "warning": <the info shape>}` each.
    pub warnings: Vec<serde_json::Value>,
}

/// A point, by id and time (µs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointStamp {
    /// 32 hex digits.
    pub id: String,
    /// The state that it holds.
    #[serde(default)]
    pub time: Option<i64>,
}

impl JobReport {
    /// The report in a job's state; an empty one if the worker has told nothing yet.
    pub fn of_state(state: &serde_json::Value) -> Self {
        state.get("report").cloned().and_then(|report| serde_json::from_value(report).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_in_the_column_is_the_kind_in_the_text() {
        let spec = JobSpec::Configure(ConfigureSpec { instance_key: "/i".to_owned() });
        let text = serde_json::to_value(&spec).unwrap();
        assert_eq!(text["kind"], spec.kind());
        assert_eq!(serde_json::from_value::<JobSpec>(text).unwrap(), spec);
    }

    #[test]
    fn specs_that_were_queued_before_a_field_came_are_read() {
        let text = r#"{"kind":"backup","instance_key":"/i","rule_name":"BackupDaily","trigger":"adhoc"}"#;
        let JobSpec::Backup(spec) = serde_json::from_str(text).unwrap() else { panic!("a backup") };
        assert_eq!((spec.tag_override, spec.scheduled_for), (None, None));
    }
}
