//! What each example needs and what comes of it.

use Came::{Accepted, NotForBlobs};
use Need::{
    Account, Deleted, DeletedVault, Encrypted, Export, Guard, Job, Linked, Point, Policy, Protected, Stopped,
    Suspended, Unlocked, Vault,
};

/// What there must be before the request, under the names that the example uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The vault.
    Vault,
    /// The vault, encrypted under a key of its owner's, and its infrastructure as well.
    Encrypted,
    /// A policy for blobs, in a vault that is there.
    Policy,
    /// A storage account.
    Account,
    /// A protected instance with all of these.
    Protected,
    /// The same without backups and expiry.
    Stopped,
    /// The same without backups.
    Suspended,
    /// The same, deleted and kept.
    Deleted,
    /// A recovery point of the instance.
    Point,
    /// A backup of the instance that has ended, and the operation that announced it.
    Job,
    /// An export of jobs that has ended.
    Export,
    /// A vault that was deleted and is kept.
    DeletedVault,
    /// A resource guard.
    Guard,
    /// A resource guard, and the vault's link to it.
    Linked,
    /// The same, and the link may be removed.
    Unlocked,
}

/// What comes of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Came {
    /// It is accepted with this status, which the example has.
    Accepted(u16),
    /// It is about something else than blobs and refused.
    NotForBlobs(u16, &'static str),
}

/// An example.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) example: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) came: Came,
}

impl Row {
    /// The name of its answer's file.
    pub(crate) fn name(&self) -> &'static str {
        self.example.rsplit('/').next().unwrap_or_default()
    }
}

/// Something in the body of an example that contradicts the specification itself, and what is sent instead.
#[derive(Debug)]
pub(crate) struct Quirk {
    pub(crate) examples: &'static [&'static str],
    /// Pointer into the body.
    pub(crate) at: &'static str,
    pub(crate) says: &'static str,
    pub(crate) sent: &'static str,
    pub(crate) why: &'static str,
}

/// All of them. The other known ones need nothing: ids with `BackupVaults`, `Backupvaults` or `BackupInstances` are sent as they are, and URLs
/// without `?api-version=`, `resourceNameOverrides` as a list, `provisioningState` `Provisioned` and `protectionStatus` `NotProtected` are
/// in answers alone.
pub(crate) const QUIRKS: &[Quirk] = &[Quirk {
    examples: &["VaultCRUD/PutBackupVault", "VaultCRUD/PutBackupVaultWithMSI", "PutBackupVaultWithUndelete"],
    at: "/properties/securitySettings/softDeleteSettings/state",
    says: "Enabled",
    sent: "On",
    why: "the states of soft delete are Off, On and AlwaysOn",
}];

const fn row(example: &'static str, needs: &'static [Need], came: Came) -> Row {
    Row { example, needs, came }
}

const PARAMETER: &str = "UserErrorInvalidParameterInRequest";
const RESOURCE_URI: &str = "UserErrorInvalidResourceUriInRequest";
const DATASOURCE: &str = "UserErrorUnsupportedStorageAccountType";
const REGION: &str = "UserErrorCrossRegionRestoreNotSupportedForDatasource";

/// All examples.
pub(crate) const ROWS: &[Row] = &[
    // The provider.
    row("Operations/List", &[], Accepted(200)),
    row("CheckfeatureSupport", &[], Accepted(200)),
    // Vaults. Infrastructure encryption is decided when a vault is made, so the PATCH that has it needs a vault that has it.
    row("VaultCRUD/CheckBackupVaultsNameAvailability", &[], Accepted(200)),
    row("VaultCRUD/PutBackupVault", &[], Accepted(201)),
    row("VaultCRUD/PutBackupVaultWithMSI", &[], Accepted(201)),
    row("VaultCRUD/PutBackupVaultWithCMK", &[], Accepted(201)),
    row("PutBackupVaultWithUndelete", &[DeletedVault], Accepted(201)),
    row("VaultCRUD/PatchBackupVault", &[Vault], Accepted(200)),
    row("VaultCRUD/PatchBackupVaultWithCMK", &[Encrypted], Accepted(202)),
    row("VaultCRUD/GetBackupVault", &[Vault], Accepted(200)),
    row("VaultCRUD/GetBackupVaultWithMSI", &[Vault], Accepted(200)),
    row("VaultCRUD/GetBackupVaultWithCMK", &[Encrypted], Accepted(200)),
    row("VaultCRUD/GetBackupVaultsInResourceGroup", &[Vault], Accepted(200)),
    row("VaultCRUD/GetBackupVaultsInSubscription", &[Vault], Accepted(200)),
    row("VaultCRUD/GetOperationResultPatch", &[Vault], Accepted(200)),
    row("VaultCRUD/DeleteBackupVault", &[Vault], Accepted(202)),
    row("DeletedBackupVaults_Get", &[DeletedVault], Accepted(200)),
    row("DeletedBackupVaults_ListByLocation", &[DeletedVault], Accepted(200)),
    // Policies. The one that is sent is for databases.
    row("PolicyCRUD/CreateOrUpdateBackupPolicy", &[Vault], NotForBlobs(400, PARAMETER)),
    row("PolicyCRUD/GetBackupPolicy", &[Vault, Policy], Accepted(200)),
    row("PolicyCRUD/ListBackupPolicy", &[Vault, Policy], Accepted(200)),
    row("PolicyCRUD/DeleteBackupPolicy", &[Vault, Policy], Accepted(200)),
    // Instances.
    row(
        "BackupInstanceOperations/PutBackupInstance_BlobBackupAutoProtection",
        &[Vault, Policy, Account],
        Accepted(201),
    ),
    row(
        "BackupInstanceOperations/PutBackupInstance_ADLSBlobBackupAutoProtection",
        &[Vault, Policy, Account],
        Accepted(201),
    ),
    row(
        "BackupInstanceOperations/PutBackupInstance_ADLSBlobBackupDatasourceParameters",
        &[Vault, Policy, Account],
        Accepted(201),
    ),
    row("BackupInstanceOperations/PutBackupInstance", &[Vault, Policy], NotForBlobs(400, DATASOURCE)),
    row(
        "BackupInstanceOperations/PutBackupInstance_ResourceGuardEnabled",
        &[Vault, Policy],
        NotForBlobs(400, DATASOURCE),
    ),
    row("BackupInstanceOperations/ValidateForBackup", &[Vault, Policy], NotForBlobs(400, DATASOURCE)),
    row("BackupInstanceOperations/ValidateForModifyBackup", &[Protected], NotForBlobs(400, PARAMETER)),
    row("BackupInstanceOperations/GetBackupInstance", &[Protected], Accepted(200)),
    row("BackupInstanceOperations/GetBackupInstance_BlobBackupAutoProtection", &[Protected], Accepted(200)),
    row("BackupInstanceOperations/GetBackupInstance_ADLSBlobBackupAutoProtection", &[Protected], Accepted(200)),
    row("BackupInstanceOperations/GetBackupInstance_ADLSBlobBackupDatasourceParameters", &[Protected], Accepted(200)),
    row("BackupInstanceOperations/ListBackupInstances", &[Protected], Accepted(200)),
    // The resource is a disk, which nothing protects.
    row("BackupInstanceOperations/ListBackupInstancesExtensionRouting", &[], Accepted(200)),
    row("BackupInstanceOperations/TriggerBackup", &[Protected], Accepted(202)),
    row("BackupInstanceOperations/StopProtection", &[Protected], Accepted(202)),
    row("BackupInstanceOperations/StopProtection_ResourceGuardEnabled", &[Protected, Linked], Accepted(202)),
    row("BackupInstanceOperations/SuspendBackups", &[Protected], Accepted(202)),
    row("BackupInstanceOperations/SuspendBackup_ResourceGuardEnabled", &[Protected, Linked], Accepted(202)),
    row("BackupInstanceOperations/ResumeBackups", &[Suspended], Accepted(202)),
    row("BackupInstanceOperations/ResumeProtection", &[Stopped], Accepted(202)),
    row("BackupInstanceOperations/SyncBackupInstance", &[Protected], Accepted(202)),
    row("BackupInstanceOperations/GetBackupInstanceOperationResult", &[Protected, Job], Accepted(200)),
    row("BackupInstanceOperations/DeleteBackupInstance", &[Protected], Accepted(202)),
    row("DeletedBackupInstanceOperations/GetDeletedBackupInstance", &[Deleted], Accepted(200)),
    row("DeletedBackupInstanceOperations/ListDeletedBackupInstances", &[Deleted], Accepted(200)),
    row("DeletedBackupInstanceOperations/UndeleteDeletedBackupInstance", &[Deleted], Accepted(200)),
    // Points and restores. What is restored is a database, to a database, to files, or from the archive tier.
    row("BackupInstanceOperations/ListRecoveryPoints", &[Protected, Point], Accepted(200)),
    row("BackupInstanceOperations/GetRecoveryPoint", &[Protected, Point], Accepted(200)),
    row("BackupInstanceOperations/FindRestorableTimeRanges", &[Protected, Point], Accepted(200)),
    row("BackupInstanceOperations/TriggerRestore", &[Protected, Point], NotForBlobs(400, PARAMETER)),
    row("BackupInstanceOperations/TriggerRestoreAsFiles", &[Protected, Point], NotForBlobs(400, PARAMETER)),
    row("BackupInstanceOperations/TriggerRestoreWithRehydration", &[Protected, Point], NotForBlobs(400, PARAMETER)),
    row("BackupInstanceOperations/ValidateRestore", &[Protected, Point], NotForBlobs(400, RESOURCE_URI)),
    row(
        "BackupInstanceOperations/TriggerRehydrate",
        &[Protected, Point],
        NotForBlobs(400, "UserErrorRehydrationNotSupportedForDatasource"),
    ),
    row("CrossRegionRestore/TriggerCrossRegionRestore", &[Protected, Point], NotForBlobs(400, REGION)),
    row("CrossRegionRestore/ValidateCrossRegionRestore", &[Protected, Point], NotForBlobs(400, REGION)),
    row("CrossRegionRestore/FetchSecondaryRPs", &[Protected, Point], Accepted(200)),
    row("CrossRegionRestore/FetchCrossRegionRestoreJobs", &[Vault], Accepted(200)),
    row("CrossRegionRestore/FetchCrossRegionRestoreJob", &[Vault], NotForBlobs(404, "ResourceNotFound")),
    // Jobs and operations.
    row("JobCRUD/ListJobs", &[Protected, Job], Accepted(200)),
    row("JobCRUD/GetJob", &[Protected, Job], Accepted(200)),
    row("JobCRUD/TriggerExportJobs", &[Protected, Job], Accepted(202)),
    row("JobCRUD/GetExportJobsOperationResult", &[Protected, Job, Export], Accepted(200)),
    row("GetOperationResult", &[Protected, Job], Accepted(200)),
    row("GetOperationStatus", &[Protected, Job], Accepted(200)),
    row("GetOperationStatusRGContext", &[Protected, Job], Accepted(200)),
    row("GetOperationStatusVaultContext", &[Protected, Job], Accepted(200)),
    // Resource guards.
    row("ResourceGuardCRUD/PutResourceGuard", &[], Accepted(200)),
    row("ResourceGuardCRUD/PatchResourceGuard", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetResourceGuard", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetResourceGuardsInResourceGroup", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetResourceGuardsInSubscription", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/DeleteResourceGuard", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListBackupSecurityPINRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListDeleteProtectedItemRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListDeleteResourceGuardProxyRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListDisableSoftDeleteRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListUpdateProtectedItemRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/ListUpdateProtectionPolicyRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultBackupSecurityPINRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultDeleteProtectedItemRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultDeleteResourceGuardProxyRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultDisableSoftDeleteRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultUpdateProtectedItemRequests", &[Guard], Accepted(200)),
    row("ResourceGuardCRUD/GetDefaultUpdateProtectionPolicyRequests", &[Guard], Accepted(200)),
    row("ResourceGuardProxyCRUD/PutResourceGuardProxy", &[Vault, Guard], Accepted(200)),
    row("ResourceGuardProxyCRUD/GetResourceGuardProxy", &[Vault, Linked], Accepted(200)),
    row("ResourceGuardProxyCRUD/ListResourceGuardProxy", &[Vault, Linked], Accepted(200)),
    row("ResourceGuardProxyCRUD/UnlockDeleteResourceGuardProxy", &[Protected, Linked], Accepted(200)),
    row("ResourceGuardProxyCRUD/DeleteResourceGuardProxy", &[Vault, Unlocked], Accepted(200)),
];
