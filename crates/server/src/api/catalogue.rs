//! The provider's list of its actions, with words for people.

use blobkeep_arm::envelope;
use http::Method;
use serde_json::{Value, json};

use super::{Access, Answer, Route};
use crate::App;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "DataProtectionOperations_List",
    method: Method::GET,
    pattern: "/providers/Microsoft.DataProtection/operations",
    access: Access::SignedIn,
    handler: |app, _| Box::pin(async move { Ok(list(&app)) }),
}];

/// Action, resource, operation, description: those of the specification's example. An action that does several things has a line for each.
///
/// The example calls reading and deleting a vault "Create Backup Vault"; here they are called what they are.
const KNOWN: &[[&str; 4]] = &[
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/backup/action",
        "Backup Instance",
        "Backup Backup Instance",
        "Performs Backup on the Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/delete",
        "Backup Instance",
        "Delete Backup Instance",
        "Deletes the Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action",
        "Restorable Time Ranges",
        "Find Restorable Time Ranges",
        "Finds Restorable Time Ranges",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read",
        "Backup Instance",
        "Get Backup Operation Result",
        "Returns Backup Operation Result for Backup Vault.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/read",
        "Backup Instance",
        "Get Backup Instance Details",
        "Returns details of the Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/read",
        "Backup Instance",
        "Get Backup Instances",
        "Returns all Backup Instances",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
        "Recovery Points",
        "Get Recovery Point Details",
        "Returns details of the Recovery Point",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
        "Recovery Points",
        "Get Recovery Points",
        "Returns all Recovery Points",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
        "Backup Instance",
        "Restore Backup Instance",
        "Triggers restore on the Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/resumeBackups/action",
        "Backup Instance",
        "Resume Backups of Backup Instance",
        "Resume Backups for a BackupsSuspended BI.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/resumeProtection/action",
        "Backup Instance",
        "Resume Protection of Backup Instance",
        "Resume protection of a ProtectionStopped BI.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/stopProtection/action",
        "Backup Instance",
        "Stop Protection of Backup Instance",
        "Stop Protection operation stops both backup and retention schedules of backup instance. Existing data will be retained forever.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/suspendBackups/action",
        "Backup Instance",
        "Suspend Backups of Backup Instance",
        "Suspend Backups operation stops only backups of backup instance. Retention activities will continue and hence data will be retained as per policy.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/sync/action",
        "Backup Instance",
        "Sync Backup Instance",
        "Sync operation retries last failed operation on backup instance to bring it to a valid state.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/validateRestore/action",
        "Backup Instance",
        "Validate for Restore of Backup Instance",
        "Validates for Restore of the Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupInstances/write",
        "Backup Instance",
        "Create a Backup Instance",
        "Creates a Backup Instance",
    ],
    ["Microsoft.DataProtection/backupVaults/backupJobs/read", "Backup Jobs", "Backup Jobs", "Get Jobs list"],
    [
        "Microsoft.DataProtection/backupVaults/backupPolicies/delete",
        "Backup Policies",
        "Delete Backup Policy",
        "Deletes the Backup Policy",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupPolicies/read",
        "Backup Policies",
        "Get Backup Policy details",
        "Returns details of the Backup Policy",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupPolicies/read",
        "Backup Policies",
        "Get Backup Policies",
        "Returns all Backup Policies",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupPolicies/write",
        "Backup Policies",
        "Create Backup Policy",
        "Creates Backup Policy",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
        "Resource Guard Proxy",
        "Delete ResourceGuard proxy",
        "The Delete ResourceGuard proxy operation deletes the specified Azure resource of type 'ResourceGuard proxy'",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read",
        "Resource Guard Proxy",
        "Get the list of ResourceGuard proxies for a resource",
        "Get the list of ResourceGuard proxies for a resource",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read",
        "Resource Guard Proxy",
        "Get ResourceGuard proxy",
        "Get ResourceGuard proxy operation gets an object representing the Azure resource of type 'ResourceGuard proxy'",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/unlockDelete/action",
        "Resource Guard Proxy",
        "Unlock delete ResourceGuard proxy operation unlocks the next delete critical operation",
        "Unlock delete ResourceGuard proxy operation unlocks the next delete critical operation",
    ],
    [
        "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/write",
        "Resource Guard Proxy",
        "Create ResourceGuard proxy",
        "Create ResourceGuard proxy operation creates an Azure resource of type 'ResourceGuard Proxy'",
    ],
    [
        "Microsoft.DataProtection/backupVaults/delete",
        "Backup Vaults",
        "Delete Backup Vault",
        "Delete BackupVault operation deletes the specified Azure resource of type 'Backup Vault'",
    ],
    [
        "Microsoft.DataProtection/backupVaults/operationResults/read",
        "Backup Vaults",
        "Get Operation Result of a Patch Operation for a Backup Vault",
        "Gets Operation Result of a Patch Operation for a Backup Vault",
    ],
    [
        "Microsoft.DataProtection/backupVaults/operationStatus/read",
        "Backup Operation Status",
        "Get Backup Operation Status",
        "Returns Backup Operation Status for Backup Vault.",
    ],
    [
        "Microsoft.DataProtection/backupVaults/read",
        "Backup Vaults",
        "Get Backup Vaults in a Resource Group",
        "Gets list of Backup Vaults in a Resource Group",
    ],
    [
        "Microsoft.DataProtection/backupVaults/read",
        "Backup Vaults",
        "Get Backup Vaults in a Subscription",
        "Gets list of Backup Vaults in a Subscription",
    ],
    [
        "Microsoft.DataProtection/backupVaults/validateForBackup/action",
        "Validate Backup",
        "Validate for backup of Backup Instance",
        "Validates for backup of Backup Instance",
    ],
    [
        "Microsoft.DataProtection/backupVaults/write",
        "Backup Vaults",
        "Create Backup Vault",
        "Create BackupVault operation creates an Azure resource of type 'Backup Vault'",
    ],
    [
        "Microsoft.DataProtection/locations/checkFeatureSupport/action",
        "Resource Provider Operation",
        "Validate if a feature is supported",
        "Validates if a feature is supported",
    ],
    [
        "Microsoft.DataProtection/locations/checkNameAvailability/action",
        "Backup Vaults",
        "Check if the requested BackupVault Name is Available",
        "Checks if the requested BackupVault Name is Available",
    ],
    [
        "Microsoft.DataProtection/locations/operationResults/read",
        "Backup Operation Results",
        "Get Backup Operation Result",
        "Returns Backup Operation Result for Backup Vault.",
    ],
    [
        "Microsoft.DataProtection/locations/operationStatus/read",
        "Backup Operation Status",
        "Get Backup Operation Status",
        "Returns Backup Operation Status for Backup Vault.",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/delete",
        "Resource Guards",
        "Delete ResourceGuard",
        "The Delete ResourceGuard operation deletes the specified Azure resource of type 'ResourceGuard'",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/read",
        "Resource Guards",
        "Get ResourceGuard",
        "The Get ResourceGuard operation gets an object representing the Azure resource of type 'ResourceGuard'",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/read",
        "Resource Guards",
        "Get ResourceGuards in a Resource Group",
        "Gets list of ResourceGuards in a Resource Group",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/write",
        "Resource Guards",
        "Create ResourceGuard",
        "Create ResourceGuard operation creates an Azure resource of type 'ResourceGuard'",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/write",
        "Resource Guards",
        "Update ResourceGuard",
        "Update ResourceGuard operation updates an Azure resource of type 'ResourceGuard'",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/{operationName}/read",
        "Resource Guards",
        "Get ResourceGuard operation request info",
        "Gets ResourceGuard operation request info",
    ],
    [
        "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/{operationName}/read",
        "Resource Guards",
        "Get ResourceGuard default operation request info",
        "Gets ResourceGuard default operation request info",
    ],
];

fn entry(action: &str, resource: &str, operation: &str, description: &str) -> Value {
    json!({
        "name": action,
        "isDataAction": false,
        "display": {
            "provider": "Microsoft.DataProtection",
            "resource": resource,
            "operation": operation,
            "description": description,
        },
        "origin": "user",
    })
}

/// Every action that this service asks for, by name. One without words in the specification is told by the operation that needs it.
fn list(app: &App) -> Answer {
    let mut entries: Vec<(&str, Value)> = KNOWN
        .iter()
        .map(|[action, resource, operation, text]| (*action, entry(action, resource, operation, text)))
        .collect();
    for route in &app.routes {
        if let Access::Action(action) = route.access
            && action.starts_with("Microsoft.DataProtection/")
            && !entries.iter().any(|(known, _)| *known == action)
        {
            let (resource, verb) = route.operation.split_once('_').unwrap_or((route.operation, "Do"));
            let text = format!("Allows the operation {}.", route.operation);
            entries.push((action, entry(action, resource, verb, &text)));
        }
    }
    entries.sort_by_key(|(action, _)| *action);
    Answer::ok(envelope::list(entries.into_iter().map(|(_, entry)| entry).collect(), None))
}
