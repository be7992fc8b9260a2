"""A client with the Azure SDK of mid-2023, for test_sdk_2023.py: `client_2023.py VERB [ARGUMENT…]`.

It runs by the Python of target/tools/python-2023, and finds the service by the variables that `blobkeep env` prints. Each verb is
a function below. What it gives is printed as JSON; what the service refuses, as {"error": its code}, and the exit code is 3.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.dataprotection import DataProtectionMgmtClient, models

VAULT_GROUP, VAULT, POLICY, INSTANCE = "old-vaults", "oldVault", "blobs-daily", "oldsource-whole"
BACKUP_CONTRIBUTOR = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices"
LOCATION = "westus"

ENV = os.environ
SUBSCRIPTION = ENV["AZURE_SUBSCRIPTION_ID"]
CREDENTIAL = ClientSecretCredential(
    ENV["AZURE_TENANT_ID"],
    ENV["AZURE_CLIENT_ID"],
    ENV["AZURE_CLIENT_SECRET"],
    authority=ENV["AZURE_AUTHORITY_HOST"],
    disable_instance_discovery=True,
    connection_verify=ENV["BLOBKEEP_CA_FILE"],
)
WHERE: dict[str, Any] = {
    "base_url": ENV["BLOBKEEP_ENDPOINT"],
    "credential_scopes": [ENV["BLOBKEEP_ENDPOINT"].rstrip("/") + "/.default"],
    "connection_verify": ENV["BLOBKEEP_CA_FILE"],
}
CLIENT = DataProtectionMgmtClient(CREDENTIAL, SUBSCRIPTION, **WHERE)


# --- what there is to protect, and how -----------------------------------------------------------------------------


def make_vault() -> Any:
    """A vault with an identity; the identity's principal id."""
    settings = [models.StorageSetting(datastore_type="VaultStore", type="LocallyRedundant")]
    vault = models.BackupVaultResource(
        location=LOCATION,
        identity=models.DppIdentityDetails(type="SystemAssigned"),
        properties=models.BackupVault(storage_settings=settings),
    )
    made = CLIENT.backup_vaults.begin_create_or_update(VAULT_GROUP, VAULT, vault).result(60)
    return {"provisioningState": made.properties.provisioning_state, "principalId": made.identity.principal_id}


def make_policy(schedule: str) -> Any:
    """A point a day, kept for a week; the names of its rules."""
    store = models.DataStoreInfoBase(data_store_type="VaultStore", object_type="DataStoreInfoBase")
    lifecycle = models.SourceLifeCycle(
        delete_after=models.AbsoluteDeleteOption(duration="P7D"), source_data_store=store, target_data_store_copy_settings=[]
    )
    tagging = models.TaggingCriteria(is_default=True, tagging_priority=99, tag_info=models.RetentionTag(tag_name="Default"))
    backup = models.AzureBackupRule(
        name="BackupDaily",
        backup_parameters=models.AzureBackupParams(backup_type="Discrete"),
        data_store=store,
        trigger=models.ScheduleBasedTriggerContext(
            schedule=models.BackupSchedule(repeating_time_intervals=[schedule], time_zone="UTC"), tagging_criteria=[tagging]
        ),
    )
    rules = [models.AzureRetentionRule(name="Default", is_default=True, lifecycles=[lifecycle]), backup]
    policy = models.BaseBackupPolicyResource(properties=models.BackupPolicy(datasource_types=[BLOBS], policy_rules=rules))
    made = CLIENT.backup_policies.create_or_update(VAULT_GROUP, VAULT, POLICY, policy)
    return [rule.name for rule in made.properties.policy_rules]


def assign(account: str, principal: str) -> Any:
    """The role that a vault needs on an account; the principal that has it now."""
    role = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{BACKUP_CONTRIBUTOR}"
    roles = AuthorizationManagementClient(CREDENTIAL, SUBSCRIPTION, "2022-04-01", **WHERE)
    parameters = {"role_definition_id": role, "principal_id": principal, "principal_type": "ServicePrincipal"}
    return roles.role_assignments.create(account, str(uuid.uuid4()), parameters).principal_id


def datasource(account: str) -> models.Datasource:
    """An account as the source or the target."""
    return models.Datasource(
        resource_id=account,
        resource_name=account.rsplit("/", 1)[1],
        resource_type="Microsoft.Storage/storageAccounts",
        resource_uri=account,
        resource_location=LOCATION,
        datasource_type=BLOBS,
        object_type="Datasource",
    )


def instance(account: str, containers: tuple[str, ...]) -> models.BackupInstance:
    """The account, protected by containers."""
    vault = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{VAULT_GROUP}/providers/Microsoft.DataProtection/backupVaults/{VAULT}"
    parameters = models.PolicyParameters(
        backup_datasource_parameters_list=[models.BlobBackupDatasourceParameters(containers_list=list(containers))]
    )
    return models.BackupInstance(
        friendly_name=account.rsplit("/", 1)[1],
        data_source_info=datasource(account),
        policy_info=models.PolicyInfo(policy_id=f"{vault}/backupPolicies/{POLICY}", policy_parameters=parameters),
        object_type="BackupInstance",
    )


def validate(account: str, *containers: str) -> Any:
    """Whether the account can be protected."""
    request = models.ValidateForBackupRequest(backup_instance=instance(account, containers))
    return CLIENT.backup_instances.begin_validate_for_backup(VAULT_GROUP, VAULT, request).result(60).job_id


def protect(account: str, *containers: str) -> Any:
    """Protects it; its name."""
    resource = models.BackupInstanceResource(properties=instance(account, containers))
    return CLIENT.backup_instances.begin_create_or_update(VAULT_GROUP, VAULT, INSTANCE, resource).result(60).name


# --- what is there -------------------------------------------------------------------------------------------------


def state() -> Any:
    """How far the account is protected."""
    return CLIENT.backup_instances.get(VAULT_GROUP, VAULT, INSTANCE).properties.current_protection_state


def instances() -> Any:
    """The names of what is protected."""
    return [found.name for found in CLIENT.backup_instances.list(VAULT_GROUP, VAULT)]


def deleted() -> Any:
    """The names of what was deleted and can be taken back."""
    return [found.name for found in CLIENT.deleted_backup_instances.list(VAULT_GROUP, VAULT)]


def points() -> Any:
    """The points, newest first."""
    return [found.name for found in CLIENT.recovery_points.list(VAULT_GROUP, VAULT, INSTANCE)]


def jobs() -> Any:
    """What each job was and how it ended, newest first."""
    found = CLIENT.jobs.list(VAULT_GROUP, VAULT)
    return [[job.properties.operation_category, job.properties.status] for job in found]


# --- what is done --------------------------------------------------------------------------------------------------


def ended(job_id: str) -> Any:
    """How the job ended, within five minutes."""
    deadline = time.monotonic() + 300
    while True:
        job = CLIENT.jobs.get(VAULT_GROUP, VAULT, job_id.rsplit("/", 1)[1])
        if job.properties.status != "InProgress" or time.monotonic() > deadline:
            return job.properties.status
        time.sleep(0.2)


def back_up() -> Any:
    """One backup now; how its job ended."""
    options = models.AdHocBackupRuleOptions(rule_name="BackupDaily", trigger_option=models.AdhocBackupTriggerOption())
    request = models.TriggerBackupRequest(backup_rule_options=options)
    return ended(CLIENT.backup_instances.begin_adhoc_backup(VAULT_GROUP, VAULT, INSTANCE, request).result(60).job_id)


def restore(point: str, target: str, *containers: str) -> Any:
    """Everything of a point, or some containers, to another account, after validating it; how the job ended."""
    common = {"recovery_option": "FailIfExists", "restore_location": LOCATION, "datasource_info": datasource(target)}
    chosen = [models.ItemPathBasedRestoreCriteria(item_path=name, is_path_relative_to_backup_item=True) for name in containers]
    info = (
        models.ItemLevelRestoreTargetInfo(restore_criteria=chosen, **common) if chosen else models.RestoreTargetInfo(**common)
    )
    request = models.AzureBackupRecoveryPointBasedRestoreRequest(
        recovery_point_id=point, source_data_store_type="VaultStore", restore_target_info=info
    )
    validation = models.ValidateRestoreRequestObject(restore_request_object=request)
    CLIENT.backup_instances.begin_validate_for_restore(VAULT_GROUP, VAULT, INSTANCE, validation).result(60)
    return ended(CLIENT.backup_instances.begin_trigger_restore(VAULT_GROUP, VAULT, INSTANCE, request).result(60).job_id)


def change(how: str) -> Any:
    """Stops, suspends, resumes, deletes or undeletes the protection, to the end of the operation."""
    begin = {
        "stop_protection": CLIENT.backup_instances.begin_stop_protection,
        "resume_protection": CLIENT.backup_instances.begin_resume_protection,
        "suspend_backups": CLIENT.backup_instances.begin_suspend_backups,
        "resume_backups": CLIENT.backup_instances.begin_resume_backups,
        "delete": CLIENT.backup_instances.begin_delete,
        "undelete": CLIENT.deleted_backup_instances.begin_undelete,
    }[how]
    begin(VAULT_GROUP, VAULT, INSTANCE).result(60)


VERBS = [make_vault, make_policy, assign, validate, protect, state, instances, deleted, points, jobs, back_up, restore, change]


def main() -> int:
    verbs = {verb.__name__: verb for verb in VERBS}
    try:
        print(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])))
    except HttpResponseError as error:
        print(json.dumps({"error": error.error.code if error.error else str(error)}))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
