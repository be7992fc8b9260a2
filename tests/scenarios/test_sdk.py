"""The whole story with the unmodified official Python clients: a vault, a policy, a protected account of 200 blobs of all
shapes; backups that read only what changed; restores whole, by container, by prefix and renamed, compared byte by byte;
another retention; protection stopped and resumed, backups suspended and resumed; deleted, undeleted, and protected again.
"""

from __future__ import annotations

import unittest
import uuid
from datetime import timedelta
from typing import Any, Callable, ClassVar, Optional

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.polling import LROPoller
from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.models import RoleAssignmentCreateParameters
from azure.mgmt.dataprotection import DataProtectionMgmtClient, models

from arm import BACKUP_CONTRIBUTOR, BLOBS, LOCATION, Arm, account_id, far_daily_schedule, vault_id
from harness import Service, Story, eventually
from storage import MIB, Account, Azurite, Snapshot, change_sample, differences, fill_sample

VAULT_GROUP = "sdk-vaults"
BLOB_GROUP = "sdk-blobs"
VAULT = "sdkVault"
POLICY = "blobs-daily"
INSTANCE = "sdksource-whole"
TARGETS = ["sdkwhole", "sdkcontainer", "sdkprefix", "sdkrenamed", "sdksecond"]
BIG_MIB = 300


class TestSdk(Story):
    """One account, protected by containers, through every state that its protection can have."""

    azurite: ClassVar[Azurite]
    service: ClassVar[Service]
    arm: ClassVar[Arm]
    client: ClassVar[DataProtectionMgmtClient]
    roles: ClassVar[AuthorizationManagementClient]
    principal: ClassVar[str]
    first: ClassVar[Snapshot]
    second: ClassVar[Snapshot]
    stored_after_first: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["sdksource", *TARGETS])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        cls.service = cls.start_service()
        cls.arm = Arm(cls.service.env, cls.transcript)
        env = cls.service.env
        verify = {"connection_verify": env["BLOBKEEP_CA_FILE"]}
        credential = ClientSecretCredential(
            env["AZURE_TENANT_ID"],
            env["AZURE_CLIENT_ID"],
            env["AZURE_CLIENT_SECRET"],
            authority=env["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True,
            **verify,
        )
        where: dict[str, Any] = {
            "base_url": env["BLOBKEEP_ENDPOINT"],
            "credential_scopes": [env["BLOBKEEP_ENDPOINT"].rstrip("/") + "/.default"],
            "polling_interval": 1,
            **verify,
        }
        cls.client = DataProtectionMgmtClient(credential, env["AZURE_SUBSCRIPTION_ID"], **where)
        cls.roles = AuthorizationManagementClient(credential, env["AZURE_SUBSCRIPTION_ID"], **where)
        # What in Azure is simply there: the groups, and the accounts with their blobs.
        cls.arm.make_group(VAULT_GROUP)
        cls.arm.make_group(BLOB_GROUP)
        for name in ["sdksource", *TARGETS]:
            cls.arm.connect_account(cls.account_id(name), cls.blobs(name).connection_string)
        fill_sample(cls.blobs("sdksource"), big_mib=BIG_MIB)
        cls.first = cls.blobs("sdksource").snapshot()

    @classmethod
    def account_id(cls, name: str) -> str:
        """The ARM id of an account of this story."""
        return account_id(f"/subscriptions/{cls.arm.subscription}/resourceGroups/{BLOB_GROUP}", name)

    @classmethod
    def blobs(cls, name: str) -> Account:
        """The storage behind it."""
        return cls.azurite.account(name)

    def datasource(self, name: str) -> models.Datasource:
        """An account as the source or the target."""
        return models.Datasource(
            resource_id=self.account_id(name),
            resource_name=name,
            resource_type="Microsoft.Storage/storageAccounts",
            resource_uri=self.account_id(name),
            resource_location=LOCATION,
            datasource_type=BLOBS,
            object_type="Datasource",
        )

    def policy(self, keep: str) -> models.BaseBackupPolicyResource:
        """A point a day in the vault, kept for so long (a duration such as P7D)."""
        store = models.DataStoreInfoBase(data_store_type="VaultStore", object_type="DataStoreInfoBase")
        tagging = models.TaggingCriteria(
            is_default=True, tagging_priority=99, tag_info=models.RetentionTag(tag_name="Default")
        )
        rules = [
            models.AzureRetentionRule(
                name="Default",
                is_default=True,
                lifecycles=[
                    models.SourceLifeCycle(
                        delete_after=models.AbsoluteDeleteOption(duration=keep),
                        source_data_store=store,
                        target_data_store_copy_settings=[],
                    )
                ],
            ),
            models.AzureBackupRule(
                name="BackupDaily",
                backup_parameters=models.AzureBackupParams(backup_type="Discrete"),
                data_store=store,
                trigger=models.ScheduleBasedTriggerContext(
                    schedule=models.BackupSchedule(repeating_time_intervals=[far_daily_schedule()], time_zone="UTC"),
                    tagging_criteria=[tagging],
                ),
            ),
        ]
        return models.BaseBackupPolicyResource(properties=models.BackupPolicy(datasource_types=[BLOBS], policy_rules=rules))

    def instance(self) -> models.BackupInstance:
        """What is protected: the account's four containers."""
        group = f"/subscriptions/{self.arm.subscription}/resourceGroups/{VAULT_GROUP}"
        policy = f"{vault_id(group, VAULT)}/backupPolicies/{POLICY}"
        containers = models.BlobBackupDatasourceParameters(containers_list=sorted(self.first.containers))
        return models.BackupInstance(
            friendly_name="sdksource",
            data_source_info=self.datasource("sdksource"),
            policy_info=models.PolicyInfo(
                policy_id=policy,
                policy_parameters=models.PolicyParameters(
                    data_store_parameters_list=[], backup_datasource_parameters_list=[containers]
                ),
            ),
            object_type="BackupInstance",
        )

    def assign(self, account: str) -> None:
        """The role that a vault needs on an account."""
        scope = self.account_id(account)
        role = f"/subscriptions/{self.arm.subscription}/providers/Microsoft.Authorization/roleDefinitions/{BACKUP_CONTRIBUTOR}"
        parameters = RoleAssignmentCreateParameters(
            role_definition_id=role, principal_id=self.principal, principal_type="ServicePrincipal"
        )
        self.roles.role_assignments.create(scope, str(uuid.uuid4()), parameters)

    def wait_job(self, job_id: str, status: str = "Completed") -> models.AzureBackupJobResource:
        """The job, once it has ended, and it must have ended like this."""

        def look() -> Optional[models.AzureBackupJobResource]:
            job = self.client.jobs.get(VAULT_GROUP, VAULT, job_id.rsplit("/", 1)[1])
            return job if job.properties.status not in ("InProgress", "Started") else None

        job = eventually(f"the end of {job_id}", look, seconds=300, pause=0.3)
        self.assertEqual(job.properties.status, status, job.as_dict())
        return job

    def back_up(self) -> models.AzureBackupRecoveryPointResource:
        """One adhoc backup; its point."""
        options = models.AdHocBackupRuleOptions(rule_name="BackupDaily", trigger_option=models.AdhocBackupTriggerOption())
        request = models.TriggerBackupRequest(backup_rule_options=options)
        before = {point.name for point in self.points()}
        poller = self.client.backup_instances.begin_adhoc_backup(VAULT_GROUP, VAULT, INSTANCE, request)
        self.wait_job(poller.result(120).job_id)
        (new,) = [point for point in self.points() if point.name not in before]
        return new

    def points(self) -> list[models.AzureBackupRecoveryPointResource]:
        """All recovery points, newest first."""
        return list(self.client.recovery_points.list(VAULT_GROUP, VAULT, INSTANCE))

    def kept_days(self) -> list[int]:
        """For how long each point is kept, from its time on. Days count; the moments that a job takes to begin do not."""
        stores = [(point.properties, point.properties.recovery_point_data_stores_details[0]) for point in self.points()]
        return [round((store.expiry_time - point.recovery_point_time) / timedelta(days=1)) for point, store in stores]

    def state(self) -> Optional[str]:
        """How far the account is protected; both members say it."""
        properties = self.client.backup_instances.get(VAULT_GROUP, VAULT, INSTANCE).properties
        self.assertEqual(properties.protection_status.status, properties.current_protection_state)
        return properties.current_protection_state

    def end(self, begin: Callable[[str, str, str], LROPoller[None]]) -> None:
        """Begins an operation on the instance and waits for its end."""
        begin(VAULT_GROUP, VAULT, INSTANCE).result(60)

    def assert_refuses(self, ask: Callable[[], object], code: str) -> None:
        """It is an error with this code."""
        with self.assertRaises(HttpResponseError) as caught:
            ask()
        assert caught.exception.error
        self.assertEqual(caught.exception.error.code, code)

    def restore(
        self, point: str, target: str, criteria: Optional[list[models.ItemLevelRestoreCriteria]] = None, status: str = "Completed"
    ) -> models.AzureBackupJobResource:
        """A validated restore to another account; its job."""
        common = {"recovery_option": "FailIfExists", "restore_location": LOCATION, "datasource_info": self.datasource(target)}
        info = (
            models.ItemLevelRestoreTargetInfo(restore_criteria=criteria, **common)
            if criteria
            else models.RestoreTargetInfo(**common)
        )
        request = models.AzureBackupRecoveryPointBasedRestoreRequest(
            recovery_point_id=point, source_data_store_type="VaultStore", restore_target_info=info
        )
        validation = models.ValidateRestoreRequestObject(restore_request_object=request)
        self.client.backup_instances.begin_validate_for_restore(VAULT_GROUP, VAULT, INSTANCE, validation).result(120)
        poller = self.client.backup_instances.begin_trigger_restore(VAULT_GROUP, VAULT, INSTANCE, request)
        return self.wait_job(poller.result(120).job_id, status)

    def assert_holds(self, target: str, expected: Snapshot) -> None:
        """The account holds this and nothing else."""
        self.assertEqual(differences(expected, self.blobs(target).snapshot()), [])

    # --- the steps -------------------------------------------------------------------------------------------------

    def test_01_a_vault_with_an_identity(self) -> None:
        vault = models.BackupVaultResource(
            location=LOCATION,
            identity=models.DppIdentityDetails(type="SystemAssigned"),
            properties=models.BackupVault(
                storage_settings=[models.StorageSetting(datastore_type="VaultStore", type="LocallyRedundant")]
            ),
        )
        made = self.client.backup_vaults.begin_create_or_update(VAULT_GROUP, VAULT, vault).result(60)
        self.assertEqual(made.properties.provisioning_state, "Succeeded")
        type(self).principal = made.identity.principal_id
        self.assertTrue(self.principal)
        again = self.client.backup_vaults.begin_create_or_update(VAULT_GROUP, VAULT, vault).result(60)
        self.assertEqual(again.identity.principal_id, self.principal, "an update keeps the identity")
        self.assertEqual([v.name for v in self.client.backup_vaults.get_in_resource_group(VAULT_GROUP)], [VAULT])

    def test_02_a_policy(self) -> None:
        made = self.client.backup_policies.create_or_update(VAULT_GROUP, VAULT, POLICY, self.policy("P7D"))
        self.assertEqual([rule.name for rule in made.properties.policy_rules], ["Default", "BackupDaily"])

    def test_03_validation_fails_without_the_role(self) -> None:
        request = models.ValidateForBackupRequest(backup_instance=self.instance())
        validate = self.client.backup_instances.begin_validate_for_backup
        self.assert_refuses(lambda: validate(VAULT_GROUP, VAULT, request).result(60), "UserErrorMissingRequiredPermissions")

    def test_04_and_succeeds_with_it(self) -> None:
        self.assign("sdksource")
        request = models.ValidateForBackupRequest(backup_instance=self.instance())
        done = self.client.backup_instances.begin_validate_for_backup(VAULT_GROUP, VAULT, request).result(60)
        self.assertIsNone(done.job_id)

    def test_05_the_account_is_protected(self) -> None:
        resource = models.BackupInstanceResource(properties=self.instance())
        self.client.backup_instances.begin_create_or_update(VAULT_GROUP, VAULT, INSTANCE, resource).result(60)
        eventually("protection", lambda: self.state() == "ProtectionConfigured")

    def test_06_the_first_backup(self) -> None:
        point = self.back_up()
        self.assertEqual(point.properties.recovery_point_type, "Full")
        type(self).stored_after_first = self.service.stored_bytes()
        self.assertGreater(self.stored_after_first, BIG_MIB * MIB, "the big blob doesn't compress")

    def test_07_a_second_backup_of_the_same_reads_no_blob(self) -> None:
        mark = self.azurite.mark()
        self.back_up()
        reads = self.azurite.blob_reads_since(mark, "sdksource")
        self.assertEqual(reads, [], "an unchanged account costs its listing only")
        grown = self.service.stored_bytes() - self.stored_after_first
        self.assertLess(grown, 64 * 1024, "and stores nothing but its point")

    def test_08_everything_restored_to_another_account(self) -> None:
        self.assign("sdkwhole")
        self.restore(self.points()[0].name, "sdkwhole")
        self.assert_holds("sdkwhole", self.first)

    def test_09_one_container(self) -> None:
        self.assign("sdkcontainer")
        criteria = models.ItemPathBasedRestoreCriteria(item_path="media", is_path_relative_to_backup_item=True)
        self.restore(self.points()[0].name, "sdkcontainer", [criteria])
        self.assert_holds("sdkcontainer", self.first.only("media"))

    def test_10_one_prefix(self) -> None:
        self.assign("sdkprefix")
        criteria = models.ItemPathBasedRestoreCriteria(
            item_path="documents", is_path_relative_to_backup_item=True, sub_item_path_prefix=["reports/2026/03"]
        )
        self.restore(self.points()[0].name, "sdkprefix", [criteria])
        expected = self.first.only("documents", "reports/2026/03")
        self.assertEqual(len(expected.blobs), 11)
        self.assert_holds("sdkprefix", expected)

    def test_11_under_another_name(self) -> None:
        self.assign("sdkrenamed")
        criteria = models.ItemPathBasedRestoreCriteria(
            item_path="logs", is_path_relative_to_backup_item=True, rename_to="logs-of-yesterday"
        )
        self.restore(self.points()[0].name, "sdkrenamed", [criteria])
        self.assert_holds("sdkrenamed", self.first.only("logs", rename_to="logs-of-yesterday"))

    def test_12_a_container_that_exists_refuses_the_restore(self) -> None:
        before = self.blobs("sdkcontainer").snapshot()
        criteria = models.ItemPathBasedRestoreCriteria(item_path="media", is_path_relative_to_backup_item=True)
        try:
            job = self.restore(self.points()[0].name, "sdkcontainer", [criteria], status="Failed")
            codes = [error.code for error in job.properties.error_details or []]
        except HttpResponseError as error:  # refused by its validation already
            codes = [error.error.code] if error.error else []
        self.assertEqual(codes, ["UserErrorTargetContainersExistOnAccount"])
        self.assert_holds("sdkcontainer", before)

    def test_13_after_changes_only_the_changes_are_stored(self) -> None:
        stored = self.service.stored_bytes()
        change_sample(self.blobs("sdksource"), big_mib=BIG_MIB)
        type(self).second = self.blobs("sdksource").snapshot()
        self.assertNotEqual(differences(self.first, self.second), [])
        self.back_up()
        grown = self.service.stored_bytes() - stored
        # What changed in the big blob, and the chunks at both ends of it, which have up to 4 MiB each.
        self.assertLess(grown, 10 * MIB, "a megabyte of the big blob and some small blobs have changed")

    def test_14_both_points_can_be_restored(self) -> None:
        self.assign("sdksecond")
        points = self.points()
        self.restore(points[0].name, "sdksecond")
        self.assert_holds("sdksecond", self.second)
        self.blobs("sdksecond").empty()
        self.restore(points[-1].name, "sdksecond")
        self.assert_holds("sdksecond", self.first)

    def test_15_another_retention_holds_for_the_points_that_are_there(self) -> None:
        self.assertEqual(self.kept_days(), [7] * 3)
        made = self.client.backup_policies.create_or_update(VAULT_GROUP, VAULT, POLICY, self.policy("P30D"))
        self.assertEqual(made.properties.policy_rules[0].lifecycles[0].delete_after.duration, "P30D")
        eventually("the new expiry of every point", lambda: self.kept_days() == [30] * 3)

    def test_16_protection_is_stopped(self) -> None:
        self.end(self.client.backup_instances.begin_stop_protection)
        self.assertEqual(self.state(), "ProtectionStopped")
        self.assert_refuses(self.back_up, "UserErrorOperationNotAllowedInState")
        self.assertEqual(len(self.points()), 3, "what there is stays")

    def test_17_and_its_points_can_be_restored_all_the_same(self) -> None:
        self.blobs("sdkcontainer").empty()
        criteria = models.ItemPathBasedRestoreCriteria(item_path="logs", is_path_relative_to_backup_item=True)
        self.restore(self.points()[0].name, "sdkcontainer", [criteria])
        self.assert_holds("sdkcontainer", self.second.only("logs"))

    def test_18_protection_is_resumed(self) -> None:
        self.end(self.client.backup_instances.begin_resume_protection)
        self.assertEqual(self.state(), "ProtectionConfigured")
        self.back_up()
        self.assertEqual(self.kept_days(), [30] * 4)

    def test_19_backups_are_suspended(self) -> None:
        self.end(self.client.backup_instances.begin_suspend_backups)
        self.assertEqual(self.state(), "BackupsSuspended")
        self.assert_refuses(self.back_up, "UserErrorOperationNotAllowedInState")
        self.assertEqual(len(self.points()), 4)

    def test_20_backups_are_resumed(self) -> None:
        self.end(self.client.backup_instances.begin_resume_backups)
        self.assertEqual(self.state(), "ProtectionConfigured")
        self.back_up()
        self.assertEqual(len(self.points()), 5)

    def test_21_what_is_not_deleted_cannot_be_undeleted(self) -> None:
        with self.assertRaises(ResourceNotFoundError):
            self.client.deleted_backup_instances.begin_undelete(VAULT_GROUP, VAULT, INSTANCE).result(60)
        self.assertEqual(self.state(), "ProtectionConfigured")

    def test_22_deleted(self) -> None:
        self.end(self.client.backup_instances.begin_delete)
        self.assertEqual(list(self.client.backup_instances.list(VAULT_GROUP, VAULT)), [])
        with self.assertRaises(ResourceNotFoundError):
            self.state()
        (deleted,) = self.client.deleted_backup_instances.list(VAULT_GROUP, VAULT)
        self.assertEqual(deleted.name, INSTANCE)
        self.assertEqual(deleted.properties.current_protection_state, "SoftDeleted")

    def test_23_undeleted_and_protected_again(self) -> None:
        self.end(self.client.deleted_backup_instances.begin_undelete)
        self.assertEqual(list(self.client.deleted_backup_instances.list(VAULT_GROUP, VAULT)), [])
        self.assertEqual(self.state(), "ProtectionStopped")
        self.assertEqual(len(self.points()), 5, "no point was lost")
        self.end(self.client.backup_instances.begin_resume_protection)
        self.assertEqual(self.state(), "ProtectionConfigured")
        self.back_up()
        self.assertEqual(self.kept_days(), [30] * 6)


if __name__ == "__main__":
    unittest.main()
