//! Words of ids that have one spelling.

/// Canonical spellings of provider and type names, matched without case. Unknown ones stay as they were given.
const CANONICAL_WORDS: &[&str] = &[
    "Microsoft.Authorization",
    "Microsoft.DataProtection",
    "Microsoft.Features",
    "Microsoft.ManagedIdentity",
    "Microsoft.Resources",
    "Microsoft.Storage",
    "Microsoft.Subscription",
    "Blobkeep.DataProtection",
    "Blobkeep.Identity",
    "adlsBlobServices",
    "aliases",
    "backupInstances",
    "backupJobs",
    "backupPolicies",
    "backupResourceGuardProxies",
    "backupVaults",
    "blobServices",
    "containers",
    "deletedBackupInstances",
    "deletedVaults",
    "locations",
    "locks",
    "operationResults",
    "operationStatus",
    "recoveryPoints",
    "resourceGuards",
    "roleAssignments",
    "roleDefinitions",
    "servicePrincipals",
    "storageAccounts",
    // Requests below a resource guard.
    "deleteBackupInstanceRequests",
    "deleteProtectedItemRequests",
    "deleteResourceGuardProxyRequests",
    "disableSoftDeleteRequests",
    "dppDisableStopProtectionRequests",
    "dppDisableSuspendBackupsRequests",
    "dppModifyEncryptionSettingsRequests",
    "dppModifyPolicy",
    "dppReduceImmutabilityStateRequests",
    "dppReduceSoftDeleteSecurityRequests",
    "dppTriggerRestoreRequests",
    "getBackupSecurityPINRequests",
    "reduceImmutabilityStateRequests",
    "stopProtectionWithRetainDataRequests",
    "triggerRestoreRequests",
    "updateProtectedItemRequests",
    "updateProtectionPolicyRequests",
];

/// The canonical spelling of a provider or type word.
pub(super) fn canonical_word(word: &str) -> String {
    let known = CANONICAL_WORDS.iter().find(|known| known.eq_ignore_ascii_case(word));
    known.map_or_else(|| word.to_owned(), |known| (*known).to_owned())
}
