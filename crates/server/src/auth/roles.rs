//! The built-in role definitions: Azure's own ids, names and action lists.
//!
//! The lists are those of the public reference of built-in roles of July 2026. What they say of providers that are not served here
//! (`Microsoft.RecoveryServices`, `Microsoft.Network` in the roles of backup) is left out, and what they say twice stands here once. Two
//! things differ on purpose: [`ADDED`], and `Microsoft.DataProtection/backupVaults/write`, which Azure's list of Backup Contributor has
//! although the role "can't create vaults": whoever has it could also switch soft delete off, so it is left out.
//!
//! A role never names principals or scopes; that is what assignments do. Roles that somebody made are rows: `db::role_definitions`.

/// A role: what it allows, minus what it takes away again.
#[derive(Debug)]
pub struct Role {
    /// The definition's GUID, lower case.
    pub guid: &'static str,
    /// The role's name, e.g. `Backup Reader`.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// Patterns of allowed actions; `*` stands for any text.
    pub actions: &'static [&'static str],
    /// Patterns that are taken away from `actions`.
    pub not_actions: &'static [&'static str],
    /// Patterns of allowed data actions. Listed for completeness: Blobkeep serves no data plane.
    pub data_actions: &'static [&'static str],
}

/// Owner: everything.
pub const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
/// Everything about backups but vaults themselves and giving rights away.
pub const BACKUP_CONTRIBUTOR: &str = "5e467623-bb1f-42f4-a55d-6e525e11384b";
/// Daily work with backups; removes none.
pub const BACKUP_OPERATOR: &str = "00c29273-979b-4161-815c-10b084fb9324";
/// Sees backups.
pub const BACKUP_READER: &str = "a795c7a0-d4a2-40c1-ae25-d81f01202912";
/// What a vault's identity needs on each storage account that it protects or restores to.
pub const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";

/// What a role allows here beyond Azure's list, by the role's GUID: each is asked for here, and the role is of no use without it.
pub const ADDED: &[(&str, &[&str])] = &[
    (
        BACKUP_CONTRIBUTOR,
        &[
            "Microsoft.DataProtection/backupVaults/backupInstances/stopProtection/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/resumeBackups/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/sync/action",
            "Microsoft.DataProtection/backupVaults/backupJobs/read",
        ],
    ),
    (BACKUP_OPERATOR, &["Microsoft.DataProtection/backupVaults/backupJobs/read"]),
    (
        BACKUP_READER,
        &[
            "Microsoft.DataProtection/backupVaults/backupJobs/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ],
    ),
];

/// All built-in roles.
pub const BUILT_IN: &[Role] = &[
    Role {
        guid: OWNER,
        name: "Owner",
        description: "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: "b24988ac-6180-42a0-ab88-20f7382dd24c",
        name: "Contributor",
        description: "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC, manage assignments in Azure Blueprints, or share image galleries.",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
            "Microsoft.Blueprint/blueprintAssignments/write",
            "Microsoft.Blueprint/blueprintAssignments/delete",
            "Microsoft.Compute/galleries/share/action",
            "Microsoft.Purview/consents/write",
            "Microsoft.Purview/consents/delete",
            "Microsoft.Resources/deploymentStacks/manageDenySetting/action",
            "Microsoft.Subscription/cancel/action",
            "Microsoft.Subscription/enable/action",
        ],
        data_actions: &[],
    },
    Role {
        guid: "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        name: "Reader",
        description: "View all resources, but does not allow you to make any changes.",
        actions: &["*/read"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        name: "User Access Administrator",
        description: "Lets you manage user access to Azure resources.",
        actions: &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: BACKUP_CONTRIBUTOR,
        name: "Backup Contributor",
        description: "Lets you manage backup service, but can't create vaults and give access to others",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Storage/storageAccounts/read",
            "Microsoft.Support/*",
            "Microsoft.DataProtection/locations/getBackupStatus/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/write",
            "Microsoft.DataProtection/backupVaults/backupInstances/delete",
            "Microsoft.DataProtection/backupVaults/backupInstances/read",
            "Microsoft.DataProtection/backupVaults/deletedBackupInstances/read",
            "Microsoft.DataProtection/backupVaults/deletedBackupInstances/undelete/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/backup/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/validateRestore/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/crossRegionRestore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/validateCrossRegionRestore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJobs/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJob/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchSecondaryRecoveryPoints/action",
            "Microsoft.DataProtection/backupVaults/backupPolicies/write",
            "Microsoft.DataProtection/backupVaults/backupPolicies/delete",
            "Microsoft.DataProtection/backupVaults/backupPolicies/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read",
            "Microsoft.DataProtection/backupVaults/read",
            "Microsoft.DataProtection/backupVaults/operationResults/read",
            "Microsoft.DataProtection/backupVaults/operationStatus/read",
            "Microsoft.DataProtection/locations/checkNameAvailability/action",
            "Microsoft.DataProtection/locations/checkFeatureSupport/action",
            "Microsoft.DataProtection/locations/operationStatus/read",
            "Microsoft.DataProtection/locations/operationResults/read",
            "Microsoft.DataProtection/backupVaults/validateForBackup/action",
            "Microsoft.DataProtection/operations/read",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/write",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/unlockDelete/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/validateForModifyBackup/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/SuspendBackups/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/resumeProtection/action",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: BACKUP_OPERATOR,
        name: "Backup Operator",
        description: "Lets you manage backup services, except removal of backup, vault creation and giving access to others",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Storage/storageAccounts/read",
            "Microsoft.Support/*",
            "Microsoft.DataProtection/backupVaults/backupInstances/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/write",
            "Microsoft.DataProtection/backupVaults/deletedBackupInstances/read",
            "Microsoft.DataProtection/backupVaults/backupPolicies/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action",
            "Microsoft.DataProtection/backupVaults/read",
            "Microsoft.DataProtection/backupVaults/operationResults/read",
            "Microsoft.DataProtection/backupVaults/operationStatus/read",
            "Microsoft.DataProtection/locations/operationStatus/read",
            "Microsoft.DataProtection/locations/operationResults/read",
            "Microsoft.DataProtection/operations/read",
            "Microsoft.DataProtection/backupVaults/validateForBackup/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/backup/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/validateRestore/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/crossRegionRestore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/validateCrossRegionRestore/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJobs/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJob/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchSecondaryRecoveryPoints/action",
            "Microsoft.DataProtection/locations/checkFeatureSupport/action",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/write",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/unlockDelete/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/validateForModifyBackup/action",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: BACKUP_READER,
        name: "Backup Reader",
        description: "Can view backup services, but can't make changes",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.DataProtection/locations/getBackupStatus/action",
            "Microsoft.DataProtection/backupVaults/backupInstances/read",
            "Microsoft.DataProtection/backupVaults/deletedBackupInstances/read",
            "Microsoft.DataProtection/backupVaults/backupPolicies/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/operationResults/read",
            "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action",
            "Microsoft.DataProtection/backupVaults/read",
            "Microsoft.DataProtection/backupVaults/operationResults/read",
            "Microsoft.DataProtection/backupVaults/operationStatus/read",
            "Microsoft.DataProtection/locations/operationStatus/read",
            "Microsoft.DataProtection/locations/operationResults/read",
            "Microsoft.DataProtection/operations/read",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJobs/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchCrossRegionRestoreJob/action",
            "Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/fetchSecondaryRecoveryPoints/action",
            "Microsoft.DataProtection/locations/checkFeatureSupport/action",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR,
        name: "Storage Account Backup Contributor",
        description: "Lets you perform backup and restore operations using Azure Backup on the storage account.",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.Authorization/locks/read",
            "Microsoft.Authorization/locks/write",
            "Microsoft.Authorization/locks/delete",
            "Microsoft.Features/features/read",
            "Microsoft.Features/providers/features/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Storage/operations/read",
            "Microsoft.Storage/storageAccounts/objectReplicationPolicies/delete",
            "Microsoft.Storage/storageAccounts/objectReplicationPolicies/read",
            "Microsoft.Storage/storageAccounts/objectReplicationPolicies/write",
            "Microsoft.Storage/storageAccounts/objectReplicationPolicies/restorePointMarkers/write",
            "Microsoft.Storage/storageAccounts/blobServices/containers/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/write",
            "Microsoft.Storage/storageAccounts/blobServices/read",
            "Microsoft.Storage/storageAccounts/blobServices/write",
            "Microsoft.Storage/storageAccounts/read",
            "Microsoft.Storage/storageAccounts/restoreBlobRanges/action",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: "17d1049b-9a84-46fb-8f53-869881c3d3ab",
        name: "Storage Account Contributor",
        description: "Lets you manage storage accounts, including accessing storage account keys which provide full access to storage account data.",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Insights/diagnosticSettings/*",
            "Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action",
            "Microsoft.ResourceHealth/availabilityStatuses/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Storage/storageAccounts/*",
            "Microsoft.Support/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        name: "Storage Blob Data Contributor",
        description: "Allows for read, write and delete access to Azure Storage blob containers and data.",
        actions: &[
            "Microsoft.Storage/storageAccounts/blobServices/containers/delete",
            "Microsoft.Storage/storageAccounts/blobServices/containers/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/write",
            "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action",
        ],
        not_actions: &[],
        data_actions: &[
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/move/action",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action",
        ],
    },
    // Of the first role's 26 entries six could be read; the others are what its description asks for.
    Role {
        guid: "c2a970b4-16a7-4a51-8c84-8a8ea6ee0bb8",
        name: "Backup MUA Admin",
        description: "Backup MultiUser-Authorization. Can create/delete ResourceGuard",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.DataProtection/*/read",
            "Microsoft.DataProtection/*/resourceGuards/write",
            "Microsoft.DataProtection/*/resourceGuards/delete",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/delete",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/read",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/unlockDelete/action",
            "Microsoft.DataProtection/backupVaults/backupResourceGuardProxies/write",
            "Microsoft.DataProtection/locations/checkFeatureSupport/action",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Support/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        guid: "f54b6d04-23c6-443e-b462-9c16ab7b4a52",
        name: "Backup MUA Operator",
        description: "Backup MultiUser-Authorization. Allows user to perform critical operation protected by resourceguard",
        actions: &[
            "Microsoft.Authorization/*/read",
            "Microsoft.DataProtection/*/action",
            "Microsoft.DataProtection/*/read",
        ],
        not_actions: &[],
        data_actions: &[],
    },
];

/// The role with that GUID, compared without case.
pub fn by_guid(guid: &str) -> Option<&'static Role> {
    BUILT_IN.iter().find(|role| role.guid.eq_ignore_ascii_case(guid))
}

impl Role {
    /// Patterns of everything that the role allows before `not_actions`: Azure's, then ours ([`ADDED`]).
    pub fn all_actions(&self) -> impl Iterator<Item = &'static str> + use<> {
        let guid = self.guid;
        let added = ADDED.iter().filter(move |(of, _)| *of == guid).flat_map(|(_, actions)| actions.iter());
        self.actions.iter().chain(added).copied()
    }

    /// The role allows `action`.
    pub fn allows(&self, action: &str) -> bool {
        self.all_actions().any(|pattern| matches(pattern, action))
            && !self.not_actions.iter().any(|pattern| matches(pattern, action))
    }
}

/// `pattern` matches `action` without case; `*` stands for any text, slashes included, also for none.
pub fn matches(pattern: &str, action: &str) -> bool {
    // Each request asks this for many patterns, so nothing is copied.
    let mut parts = pattern.as_bytes().split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = without_start(action.as_bytes(), first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.len() >= part.len() && rest[rest.len() - part.len()..].eq_ignore_ascii_case(part);
        }
        let Some(at) = (0..=rest.len()).find(|at| without_start(&rest[*at..], part).is_some()) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// What follows `start` in `text`, compared without case.
fn without_start<'t>(text: &'t [u8], start: &[u8]) -> Option<&'t [u8]> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{ADDED, BUILT_IN, by_guid, matches};

    #[test]
    fn patterns_match_without_case_and_across_slashes() {
        let cases = [
            ("*", "Anything/at/all/action", true),
            ("*/read", "Microsoft.Storage/storageAccounts/read", true),
            ("*/read", "Microsoft.Storage/storageAccounts/readers/write", false),
            ("Microsoft.Authorization/*/read", "microsoft.authorization/roleAssignments/READ", true),
            ("Microsoft.Authorization/*/read", "Microsoft.Authorization/read", false),
            ("Microsoft.DataProtection/backupVaults/*/read", "Microsoft.DataProtection/backupVaults/a/b/read", true),
            ("Microsoft.DataProtection/backupVaults/*", "Microsoft.DataProtection/backupVaultsX/read", false),
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "aec", false),
            ("a**", "a", true),
            ("*a*a", "a", false),
            ("*b*", "B", true),
            ("ab", "a", false),
        ];
        for (pattern, action, wanted) in cases {
            assert_eq!(matches(pattern, action), wanted, "{pattern} on {action}");
        }
    }

    fn allows(name: &str, action: &str) -> bool {
        BUILT_IN.iter().find(|role| role.name == name).unwrap().allows(action)
    }

    #[test]
    fn roles_allow_what_azures_do() {
        let delete_instance = "Microsoft.DataProtection/backupVaults/backupInstances/delete";
        let write_vault = "Microsoft.DataProtection/backupVaults/write";
        let grant = "Microsoft.Authorization/roleAssignments/write";
        assert!(allows("Owner", grant) && allows("User Access Administrator", grant));
        assert!(!allows("Contributor", grant) && allows("Contributor", write_vault));
        assert!(allows("Backup Contributor", delete_instance) && !allows("Backup Contributor", write_vault));
        assert!(!allows("Backup Operator", delete_instance));
        assert!(allows("Backup Operator", "Microsoft.DataProtection/backupVaults/backupInstances/backup/action"));
        assert!(allows("Backup Reader", "Microsoft.DataProtection/backupVaults/backupJobs/read"));
        assert!(!allows("Backup Reader", "Microsoft.DataProtection/backupVaults/backupInstances/restore/action"));
        assert!(!allows("Reader", "Microsoft.Storage/storageAccounts/listkeys/action"));
    }

    #[test]
    fn guards_are_kept_by_one_role_and_their_operations_approved_by_another() {
        let write = "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/write";
        let delete = "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/delete";
        let read = "Microsoft.DataProtection/subscriptions/resourceGroups/providers/resourceGuards/read";
        let approve = "Microsoft.DataProtection/resourceGuards/dppTriggerRestoreRequests/action";
        let (admin, operator) = ("Backup MUA Admin", "Backup MUA Operator");
        assert!(allows(admin, write) && allows(admin, delete) && allows(admin, read) && !allows(admin, approve));
        assert!(!allows(operator, write) && !allows(operator, delete));
        assert!(allows(operator, read) && allows(operator, approve) && allows("Contributor", approve));
        for role in ["Reader", "Backup Contributor", "Backup Operator", "Backup Reader"] {
            assert!(!allows(role, approve) && !allows(role, write), "{role}");
        }
        assert!(!allows(operator, "Microsoft.DataProtection/backupVaults/backupInstances/delete"));
    }

    #[test]
    fn a_vaults_role_on_an_account_suffices_for_validation() {
        let role = "Storage Account Backup Contributor";
        for action in [
            "Microsoft.Authorization/roleAssignments/read",
            "Microsoft.Storage/storageAccounts/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/write",
        ] {
            assert!(allows(role, action), "{action}");
        }
        assert!(!allows(role, "Microsoft.Storage/storageAccounts/delete"));
    }

    /// Reviewed by hand: the first line names the roles, each further one an action and who may perform it.
    #[test]
    fn the_table_of_actions_and_roles_holds() {
        let table = include_str!("../../../../testdata/api/roles.tsv");
        let mut lines = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let roles = lines.next().unwrap();
        let mut rows = 0;
        for row in lines {
            assert_eq!(row.len(), roles.len(), "{row:?}");
            for (role, mark) in roles.iter().zip(&row).skip(1) {
                let wanted = if allows(role, row[0]) { "yes" } else { "-" };
                assert_eq!(*mark, wanted, "{role} and {}", row[0]);
            }
            rows += 1;
        }
        assert!(rows > 50, "{rows} actions");
    }

    #[test]
    fn what_is_added_is_not_in_azures_lists() {
        for (guid, actions) in ADDED {
            let role = by_guid(guid).unwrap();
            for action in *actions {
                assert!(!role.actions.iter().any(|pattern| matches(pattern, action)), "{}: {action}", role.name);
                assert!(role.allows(action), "{}: {action}", role.name);
            }
        }
    }

    #[test]
    fn ids_are_unique_and_found_in_any_case() {
        for role in BUILT_IN {
            assert_eq!(BUILT_IN.iter().filter(|other| other.guid == role.guid).count(), 1, "{}", role.name);
            assert_eq!(by_guid(&role.guid.to_uppercase()).unwrap().name, role.name);
        }
    }
}
