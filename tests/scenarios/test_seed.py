"""The story of the public article "Back up blobs … via REST API", request by request: its bodies as printed, its paths in both
casings, its api-version, and its answers checked for status, headers and shape. Each accepted body is followed to restored bytes.
"""

from __future__ import annotations

import json
import re
import unittest
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from arm import (
    BACKUP_CONTRIBUTOR,
    OPERATIONAL_RULES,
    Answer,
    Arm,
    Json,
    account_id,
    daily_rule,
    now,
    restore_point,
    restore_ranges,
    restore_time,
    retention,
    vault_id,
    vaulted_rules,
    wait_restorable,
)
from harness import Service, Story
from storage import Account, Azurite, Snapshot, differences, fill_plain, seeded_text

SEED = Path(__file__).resolve().parent / "seed"
SUBSCRIPTION = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxxx"
INSTANCE = "msblobbackup-f2df34eb-5628-4570-87b2-0331d797c67d"
GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z"
CONFIG = '[operations]\nretry_after = "azure"\n\n[operational]\ninterval_seconds = 1\n'
FIXED_HEADERS = {
    "Expires": "-1",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}


class SeedStory(Story):
    """The article's service, vault, groups and accounts, under the article's names."""

    policy_rules: ClassVar[list[Json]]
    service: ClassVar[Service]
    azurite: ClassVar[Azurite]
    arm: ClassVar[Arm]
    principal: ClassVar[str]
    vault: ClassVar[str]
    source: ClassVar[str]
    target: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["msblobbackup", "msblobtarget"])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        cls.service = cls.start_service(CONFIG)
        cls.arm = Arm(cls.service.env, cls.transcript)
        vault_group = cls.arm.make_group("TestBkpVaultRG")
        blob_group = cls.arm.make_group("RG-BlobBackup")
        cls.source = account_id(blob_group, "msblobbackup")
        cls.target = account_id(blob_group, "msblobtarget")
        for account in (cls.source, cls.target):
            cls.arm.connect_account(account, cls.blobs(account).connection_string)
        cls.vault = vault_id(vault_group, "testBkpVault")
        cls.principal = cls.arm.make_vault(cls.vault)
        cls.arm.make_policy(cls.vault, "BlobBackup-Policy", *cls.policy_rules)

    @classmethod
    def blobs(cls, account: str) -> Account:
        """The storage behind an account's id."""
        return cls.azurite.account(account.rsplit("/", 1)[1])

    @classmethod
    def body(cls, name: str) -> str:
        """One of the article's bodies, its subscription filled in."""
        return (SEED / name).read_text("utf-8").replace(SUBSCRIPTION, cls.arm.subscription)

    def assert_seed_headers(self, answer: Answer, kind: str) -> None:
        """The headers of every answer of the article; `kind` is reads, writes or deletes."""
        for name, value in FIXED_HEADERS.items():
            self.assertEqual(answer.headers[name], value, name)
        self.assertIsNotNone(answer.headers["x-ms-request-id"], "x-ms-request-id")
        self.assertIsNotNone(answer.headers["Date"], "Date")
        self.assertRegex(answer.headers["x-ms-correlation-request-id"], f"^{GUID}$")
        self.assertRegex(answer.headers["x-ms-routing-request-id"], rf"^[A-Z0-9]+:\d{{8}}T\d{{6}}Z:{GUID}$")
        self.assertRegex(answer.headers[f"x-ms-ratelimit-remaining-subscription-{kind}"], r"^\d+$")
        self.assertEqual(answer.headers["Content-Length"], str(len(answer.text.encode())))
        if answer.text:
            self.assertTrue(answer.headers["Content-Type"].startswith("application/json"), answer.headers["Content-Type"])

    def assert_tracking(self, answer: Answer, header: str, kind: str) -> None:
        """An absolute URL below the vault's location, with the api-version of the request."""
        start = f"{self.arm.endpoint}/subscriptions/{self.arm.subscription}/providers/Microsoft.DataProtection/locations/westus/{kind}/"
        url = answer.headers[header]
        self.assertTrue(url and url.startswith(start), f"{header}: {url} should start with {start}")
        self.assertTrue(url.endswith("?api-version=2021-01-01"), url)

    def assert_status_body(self, answer: Answer, *members: str) -> None:
        """A status body with exactly these members, in this order, about its own operation."""
        body = answer.json
        self.assertEqual(list(body), list(members))
        url_path = answer.request.split(" ", 1)[1].split("?", 1)[0][len(self.arm.endpoint) :]
        self.assertEqual(body["id"], url_path)
        self.assertEqual(body["name"], url_path.rsplit("/", 1)[1])
        self.assertRegex(body["startTime"], f"^{TIME}$")
        self.assert_seed_headers(answer, "reads")

    def assert_running_bodies(self, running: list[Answer]) -> None:
        """Every answer before the end looks like the article's."""
        for answer in running:
            self.assert_status_body(answer, "id", "name", "status", "startTime", "endTime")
            self.assertEqual(answer.json["status"], "Inprogress")
            self.assertEqual(answer.json["endTime"], "0001-01-01T00:00:00")
            self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)

    def assert_succeeds(self, accepted: Answer) -> None:
        """The operation ends with exactly the article's five members."""
        outcome = self.arm.wait(accepted)
        self.assert_running_bodies(outcome.running)
        assert outcome.last
        self.assertEqual(outcome.status["status"], "Succeeded", outcome.status)
        self.assert_status_body(outcome.last, "id", "name", "status", "startTime", "endTime")
        self.assertRegex(outcome.status["endTime"], f"^{TIME}$")

    def assert_accepted(self, answer: Answer, kind: str, retry_after: str) -> None:
        """202 with both tracking URLs and no body."""
        answer.expect(202)
        self.assertEqual(answer.text, "")
        self.assert_seed_headers(answer, kind)
        self.assertEqual(answer.headers["Retry-After"], retry_after)
        self.assert_tracking(answer, "Azure-AsyncOperation", "operationStatus")
        self.assert_tracking(answer, "Location", "operationResults")

    def assert_already_protected(self, answer: Answer, vault: str, instance: str) -> None:
        """The article's 400, member by member."""
        answer.expect(400, code="UserErrorDppDatasourceAlreadyProtected")
        self.assert_seed_headers(answer, "writes")
        message = f"Datasource is already protected under the Backup vault {vault}."
        info = {
            "message": message,
            "recommendedAction": [
                f"Delete the backup instance {instance} from the Backup vault {vault} to re-protect the datasource in any other vault."
            ],
            "details": None,
            "code": "UserErrorDppDatasourceAlreadyProtected",
            "target": "",
            "innerError": None,
            "isRetryable": False,
            "isUserError": False,
            "properties": {"ActivityId": answer.headers["x-ms-correlation-request-id"]},
        }
        expected = {
            "error": {
                "additionalInfo": [{"type": "UserFacingError", "info": info}],
                "code": "UserErrorDppDatasourceAlreadyProtected",
                "message": message,
                "target": None,
            }
        }
        self.assertEqual(json.dumps(answer.json, indent=1), json.dumps(expected, indent=1))

    def assert_restored(self, expected: Snapshot, account: str) -> None:
        """Every byte and property is there."""
        self.assertEqual(differences(expected, self.blobs(account).snapshot()), [])

    def validate(self, body: str, vault: str = "testBkpVault") -> Answer:
        """The article's validate request; it writes `Subscriptions` and `resourcegroups` in other casings, too."""
        path = f"/Subscriptions/{self.arm.subscription}/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults/{vault}"
        return self.arm.post(f"{path}/validateForBackup", body)

    def put_instance(self, body: str, name: str) -> Answer:
        """The article's configure request."""
        return self.arm.put(f"{self.vault}/backupInstances/{name}", body)


class TestSeedOperational(SeedStory):
    """An account under a policy with an operational rule: from the refused validation to the deleted instance."""

    policy_rules = OPERATIONAL_RULES
    at_rest: ClassVar[Snapshot]
    instant: ClassVar[datetime]

    def test_01_validate_without_the_role_fails_as_printed(self) -> None:
        answer = self.validate(self.body("configure.json"))
        self.assert_accepted(answer, "writes", "10")
        outcome = self.arm.wait(answer)
        self.assert_running_bodies(outcome.running)
        assert outcome.last
        self.assertEqual(outcome.status["status"], "Failed", outcome.status)
        self.assert_status_body(outcome.last, "id", "name", "status", "error", "startTime", "endTime")
        error = outcome.status["error"]
        code = "UserErrorMissingRequiredPermissions"
        message = "Appropriate permissions to perform the operation is missing."
        self.assertEqual(list(error), ["additionalInfo", "code", "message"])
        self.assertEqual((error["code"], error["message"]), (code, message))
        (additional,) = error["additionalInfo"]
        self.assertEqual(list(additional), ["type", "info"])
        self.assertEqual(additional["type"], "UserFacingError")
        info = additional["info"]
        members = ["message", "recommendedAction", "code", "target", "innerError", "isRetryable", "isUserError", "properties"]
        self.assertEqual(list(info), members)
        self.assertEqual((info["message"], info["code"], info["target"]), (message, code, ""))
        action = f"Grant appropriate permissions to perform this operation as mentioned at https://aka.ms/{code} and retry the operation."
        self.assertEqual(info["recommendedAction"], [action])
        self.assertEqual((info["isRetryable"], info["isUserError"]), (False, False))
        self.assertEqual(info["properties"], {"ActivityId": answer.headers["x-ms-correlation-request-id"]})
        self.assertEqual(list(info["innerError"]), ["code", "additionalInfo"])
        self.assertEqual(info["innerError"]["code"], code)
        detail = info["innerError"]["additionalInfo"]["DetailedNonLocalisedMessage"]
        self.assertRegex(
            detail,
            rf"^Validate for Protection failed\. Exception Message: The client '{GUID}' with object id '{self.principal}' does not have "
            rf"authorization to perform action 'Microsoft\.[A-Za-z./]+' over scope '{re.escape(self.source)}[^']*' or the scope is "
            rf"invalid\. If access was recently granted, please refresh your credentials\.$",
        )

    def test_02_validate_with_the_role_succeeds(self) -> None:
        self.arm.assign(BACKUP_CONTRIBUTOR, self.principal, self.source)
        answer = self.validate(self.body("configure.json"))
        self.assert_accepted(answer, "writes", "10")
        self.assert_succeeds(answer)

    def test_03_lower_case_paths_and_ids_mean_the_same(self) -> None:
        path = self.vault.lower().replace("/subscriptions/", "/SUBSCRIPTIONS/")
        self.assertIn("/resourcegroups/", path)
        self.assert_succeeds(self.arm.post(f"{path}/validateforbackup", self.body("configure.json")).expect(202))

    def test_04_configure_answers_201_with_the_instance(self) -> None:
        answer = self.put_instance(self.body("instance.json"), INSTANCE).expect(201)
        self.assert_seed_headers(answer, "writes")
        self.assertEqual(answer.headers["Retry-After"], "15")
        self.assert_tracking(answer, "Azure-AsyncOperation", "operationStatus")
        self.assertIsNone(answer.headers["Location"], "a PUT answers with Azure-AsyncOperation only")
        expected = {
            "id": f"{self.vault}/backupInstances/{INSTANCE}",
            "name": INSTANCE,
            "type": "Microsoft.DataProtection/backupVaults/backupInstances",
            "properties": {
                "friendlyName": "msblobbackup",
                "dataSourceInfo": {
                    "resourceID": self.source,
                    "resourceUri": "",
                    "datasourceType": "Microsoft.Storage/storageAccounts/blobServices",
                    "resourceName": "msblobbackup",
                    "resourceType": "Microsoft.Storage/storageAccounts",
                    "resourceLocation": "westus",
                    "objectType": "Datasource",
                },
                "policyInfo": {"policyId": f"{self.vault}/backupPolicies/BlobBackup-Policy"},
                "protectionStatus": {"status": "ConfiguringProtection"},
                "currentProtectionState": "ConfiguringProtection",
                "provisioningState": "Provisioning",
                "objectType": "BackupInstance",
            },
        }
        self.assertEqual(json.dumps(answer.json, indent=1), json.dumps(expected, indent=1))
        self.assert_succeeds(answer)

    def test_05_the_instance_becomes_protected(self) -> None:
        found = self.arm.wait_protected(f"{self.vault}/backupInstances/{INSTANCE}")
        self.assertEqual(found["properties"]["provisioningState"], "Succeeded")
        self.assertEqual(found["properties"]["protectionStatus"], {"status": "ProtectionConfigured"})

    def test_06_a_protected_account_is_refused_as_printed(self) -> None:
        self.assert_already_protected(self.validate(self.body("configure.json")), self.vault, INSTANCE)

    def test_07_also_by_another_vault(self) -> None:
        other = self.vault.replace("testBkpVault", "otherVault")
        self.arm.make_vault(other)
        self.arm.make_policy(other, "BlobBackup-Policy", *OPERATIONAL_RULES)
        body = self.body("configure.json").replace("testBkpVault", "otherVault")
        self.assert_already_protected(self.validate(body, "otherVault"), self.vault, INSTANCE)

    def test_08_an_instant_becomes_restorable(self) -> None:
        account = self.blobs(self.source)
        fill_plain(account, "data", 40, 20_000, "operational")
        fill_plain(account, "more", 10, 3_000_000, "operational")
        type(self).at_rest = account.snapshot()
        # Three looks later at the latest, that state has been seen, whatever the clock of the storage.
        type(self).instant = now() + timedelta(seconds=3)
        wait_restorable(self.arm, f"{self.vault}/backupInstances/{INSTANCE}", self.instant)

    def test_09_everything_comes_back_in_place(self) -> None:
        data = self.blobs(self.source).client.get_container_client("data")
        names = sorted(blob for container, blob in self.at_rest.blobs if container == "data")
        for name in names[:10]:
            data.delete_blob(name)
        for name in names[10:20]:
            data.upload_blob(name, seeded_text(5_000, name), overwrite=True)
        data.get_blob_client(names[20]).set_blob_metadata({"changed": "yes"})
        data.get_blob_client(names[21]).set_blob_tags({"changed": "yes"})
        data.upload_blob("came-later", b"not there at that instant")
        self.assertNotEqual(differences(self.at_rest, self.blobs(self.source).snapshot()), [])
        instance = f"{self.vault}/backupInstances/{INSTANCE}"
        job = self.arm.completed(self.arm.trigger_restore(instance, restore_time(self.instant, self.source)))
        self.assertEqual(job["properties"]["sourceDataStoreType"], "OperationalStore")
        self.assert_restored(self.at_rest, self.source)

    def test_09b_without_dates_the_range_is_told_as_printed(self) -> None:
        # The body of the article about restoring.
        body = {"sourceDataStoreType": "OperationalStore", "startTime": "", "endTime": ""}
        answer = self.arm.post(f"{self.vault}/backupInstances/{INSTANCE}/findRestorableTimeRanges", body).expect(200)
        self.assert_seed_headers(answer, "writes")
        self.assertEqual(answer.json["id"], INSTANCE)
        properties = answer.json["properties"]
        self.assertEqual(properties["objectType"], "AzureBackupFindRestorableTimeRangesResponse")
        (found,) = properties["restorableTimeRanges"]
        self.assertEqual(found["objectType"], "RestorableTimeRange")
        self.assertRegex(found["startTime"], f"^{TIME}$")
        self.assertLess(found["startTime"], found["endTime"])

    def test_09c_one_container_comes_back_and_the_others_stay(self) -> None:
        account = self.blobs(self.source)
        for container in ("data", "more"):
            account.client.get_container_client(container).upload_blob("came-later", b"once more", overwrite=True)
        request = restore_ranges(self.instant, self.source, ("data", "data-0"))
        instance = f"{self.vault}/backupInstances/{INSTANCE}"
        accepted = self.arm.post(f"{instance}/validateRestore", {"restoreRequestObject": request})
        self.assert_accepted(accepted, "writes", "10")
        self.assert_succeeds(accepted)
        self.arm.completed(self.arm.trigger_restore(instance, request))
        left = differences(self.at_rest, account.snapshot())
        self.assertEqual(left, ["more/came-later should not be there"])

    def test_09d_ranges_that_make_no_sense_are_refused(self) -> None:
        instance = f"{self.vault}/backupInstances/{INSTANCE}"
        for ranges, code in [
            ([("data/b", "data/a")], "UserErrorInvalidRestorePrefixRange"),
            ([("data", "data-0"), ("data/a", "data/b")], "UserErrorInvalidRestorePrefixRange"),
            ([(f"data/{n:02}", f"data/{n:02}a") for n in range(11)], "UserErrorTooManyRestoreCriteriaGivenForBlobRestore"),
            ([], "UserErrorNoContainersSelectedForOperation"),
        ]:
            request = restore_ranges(self.instant, self.source, *ranges)
            self.arm.post(f"{instance}/validateRestore", {"restoreRequestObject": request}).expect(400, code=code)
            self.arm.post(f"{instance}/restore", request).expect(400, code=code)

    def test_09e_the_account_shows_what_protecting_it_does(self) -> None:
        settings = self.arm.get(f"{self.source}/blobServices/default", version="2023-05-01").expect(200).json["properties"]
        self.assertEqual(settings["restorePolicy"], {"enabled": True, "days": 30})
        self.assertEqual(settings["deleteRetentionPolicy"]["days"], 35)
        self.assertTrue(settings["isVersioningEnabled"] and settings["changeFeed"]["enabled"])
        self.assertEqual(settings["blobkeep"], {"keepsVersions": False})
        locks = self.arm.values(f"{self.source}/providers/Microsoft.Authorization/locks")
        self.assertEqual([(lock["name"], lock["properties"]["level"]) for lock in locks], [("AzureBackupProtectionLock", "CanNotDelete")])
        self.arm.delete(self.source, version="2023-05-01").expect(409, code="ScopeLocked")

    def test_10_delete_moves_the_instance_to_the_deleted_ones(self) -> None:
        path = f"{self.vault}/backupInstances/{INSTANCE}"
        answer = self.arm.delete(path)
        self.assert_accepted(answer, "deletes", "30")
        self.assert_succeeds(answer)
        self.assertEqual(self.arm.values(f"{self.vault}/backupInstances"), [])
        self.arm.get(path).expect(404)
        deleted = self.arm.values(f"{self.vault}/deletedBackupInstances")
        self.assertEqual([one["name"] for one in deleted], [INSTANCE])
        self.assertEqual(deleted[0]["properties"]["currentProtectionState"], "SoftDeleted")
        self.assertRegex(deleted[0]["properties"]["deletionInfo"]["scheduledPurgeTime"], TIME)

    def test_11_delete_of_nothing_is_204(self) -> None:
        self.arm.delete(f"{self.vault}/backupInstances/nothing-of-that-name").expect(204)

    def test_12_what_protection_left_behind_is_undone(self) -> None:
        lock = f"{self.source}/providers/Microsoft.Authorization/locks/AzureBackupProtectionLock"
        self.arm.get(lock).expect(200)
        undo = f"{self.source}/providers/Blobkeep.DataProtection/undoProtection"
        settings = self.arm.post(undo).expect(200).json["properties"]
        self.assertEqual((settings["restorePolicy"], settings["isVersioningEnabled"]), ({"enabled": False}, False))
        self.arm.get(lock).expect(404)


class TestSeedWholeAccount(SeedStory):
    """The article's body without parameters under a policy of the vault: the whole account, also containers made later."""

    policy_rules = [retention("VaultStore", 7), daily_rule()]

    def test_01_the_body_is_accepted(self) -> None:
        fill_plain(self.blobs(self.source), "first", 30, 10_000, "whole")
        self.arm.assign(BACKUP_CONTRIBUTOR, self.principal, self.source)
        self.assert_succeeds(self.validate(self.body("configure.json")).expect(202))
        self.assert_succeeds(self.put_instance(self.body("instance.json"), INSTANCE).expect(201))
        self.arm.wait_protected(f"{self.vault}/backupInstances/{INSTANCE}")

    def test_02_a_backup_holds_the_whole_account(self) -> None:
        fill_plain(self.blobs(self.source), "made-later", 5, 50_000, "whole")
        instance = f"{self.vault}/backupInstances/{INSTANCE}"
        job = self.arm.completed(self.arm.trigger_backup(instance))
        self.assertEqual(job["properties"]["operationCategory"], "Backup")
        point = self.arm.latest_point(instance)
        self.assertRegex(point["name"], r"^[0-9a-f]{32}$")
        self.assertEqual(point["properties"]["recoveryPointType"], "Full")

    def test_03_everything_is_restored_to_another_account(self) -> None:
        instance = f"{self.vault}/backupInstances/{INSTANCE}"
        self.arm.assign(BACKUP_CONTRIBUTOR, self.principal, self.target)
        expected = self.blobs(self.source).snapshot()
        request = restore_point(self.arm.latest_point(instance)["name"], self.target)
        self.arm.completed(self.arm.trigger_restore(instance, request))
        self.assertEqual(len(expected.blobs), 35)
        self.assert_restored(expected, self.target)


class TestSeedVaulted(SeedStory):
    """The article's two bodies with containers, their account in another subscription than the vault."""

    policy_rules = vaulted_rules()
    other_subscription: ClassVar[str]
    containers = [f"container{n}" for n in range(1, 6)]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.other_subscription = str(uuid.uuid4())
        cls.arm.make_subscription(cls.other_subscription)
        group = cls.arm.make_group("RG-BlobBackup", cls.other_subscription)
        cls.source = account_id(group, "msblobbackup")
        cls.arm.connect_account(cls.source, cls.blobs(cls.source).connection_string)
        cls.arm.assign(BACKUP_CONTRIBUTOR, cls.principal, cls.source)
        cls.arm.assign(BACKUP_CONTRIBUTOR, cls.principal, cls.target)
        for container in [*cls.containers, "not-named"]:
            fill_plain(cls.blobs(cls.source), container, 12, 7_000, "vaulted")

    @classmethod
    def body(cls, name: str) -> str:
        """One of the article's bodies, all of its placeholders filled in."""
        text = (SEED / name).read_text("utf-8")
        values = {
            "backupInstanceSubscriptionId": cls.other_subscription,
            "backupInstanceresourcegroup": "RG-BlobBackup",
            "backupInstanceRG": "RG-BlobBackup",
            "backupInstanceResourceType": "Microsoft.Storage/storageAccounts",
            "backupInstanceDataSourceType": "Microsoft.Storage/storageAccounts/blobServices",
            "backupInstanceName": "msblobbackup",
            "location": "westUS",
            "subscription": cls.arm.subscription,
            "resourceGroup": "TestBkpVaultRG",
            "backupVaultRP": "Microsoft.DataProtection/backupVaults",
            "vaultName": "testBkpVault",
            "policyName": "BlobBackup-Policy",
        }
        for placeholder, value in values.items():
            text = text.replace("{{" + placeholder + "}}", value)
        return text

    def test_01_validation_of_the_vaulted_body_succeeds(self) -> None:
        answer = self.validate(self.body("validate-vaulted.json"))
        self.assert_accepted(answer, "writes", "10")
        self.assert_succeeds(answer)

    def test_02_the_body_as_printed_is_not_json(self) -> None:
        answer = self.put_instance(self.body("instance-vaulted-as-printed.json"), "msblobbackup")
        answer.expect(400, code="InvalidRequestContent")
        self.assertEqual(self.arm.values(f"{self.vault}/backupInstances"), [])

    def test_03_without_its_stray_lines_it_is_accepted(self) -> None:
        printed = self.body("instance-vaulted-as-printed.json")
        repaired = printed.split("\n", 2)[2]
        json.loads(repaired)
        answer = self.put_instance(repaired, "msblobbackup").expect(201)
        self.assert_succeeds(answer)
        found = self.arm.wait_protected(f"{self.vault}/backupInstances/msblobbackup")
        parameters = found["properties"]["policyInfo"]["policyParameters"]["backupDatasourceParametersList"]
        self.assertEqual(parameters, [{"objectType": "BlobBackupDatasourceParameters", "containersList": self.containers}])

    def test_04_the_named_containers_are_backed_up_and_restored(self) -> None:
        instance = f"{self.vault}/backupInstances/msblobbackup"
        expected = self.blobs(self.source).snapshot().without("not-named")
        self.arm.completed(self.arm.trigger_backup(instance))
        self.blobs(self.source).empty()
        request = restore_point(self.arm.latest_point(instance)["name"], self.target)
        validation = {"objectType": "ValidateRestoreRequestObject", "restoreRequestObject": request}
        self.assert_succeeds(self.arm.post(f"{instance}/validateRestore", validation).expect(202))
        self.arm.completed(self.arm.trigger_restore(instance, request))
        self.assertEqual(len(expected.blobs), 60)
        self.assert_restored(expected, self.target)


if __name__ == "__main__":
    unittest.main()
