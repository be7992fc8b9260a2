"""What must not work: each request gets the right status and code, says what is wrong, and changes nothing."""

from __future__ import annotations

import difflib
import json
import unittest
from typing import Any, ClassVar, Optional

from arm import (
    BACKUP_CONTRIBUTOR,
    BACKUP_READER,
    STORAGE_VERSION,
    Answer,
    Arm,
    Json,
    account_id,
    instance_body,
    instance_properties,
    restore_point,
    vault_id,
    vaulted_rules,
)
from harness import Service, Story
from storage import Azurite, fill_plain


class TestBadInput(Story):
    """A small installation that must look the same after every step."""

    steps_depend = False
    service: ClassVar[Service]
    arm: ClassVar[Arm]
    group: ClassVar[str]
    vault: ClassVar[str]
    account: ClassVar[str]
    free_account: ClassVar[str]
    policy: ClassVar[str]
    other_policy: ClassVar[str]
    instance: ClassVar[str]
    before: Json

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        azurite = Azurite(cls.folder, ["badsource", "badfree"])
        cls.addClassCleanup(azurite.stop)
        azurite.start()
        (cls.folder / "allowed").mkdir()
        (cls.folder / "forbidden").mkdir()
        cls.service = cls.start_service(f"local_roots = [{json.dumps(str(cls.folder / 'allowed'))}]\n")
        cls.arm = Arm(cls.service.env, cls.transcript)
        cls.group = cls.arm.make_group("bad-input")
        cls.vault = vault_id(cls.group, "badVault")
        principal = cls.arm.make_vault(cls.vault)
        cls.account, cls.free_account = account_id(cls.group, "badsource"), account_id(cls.group, "badfree")
        for account in (cls.account, cls.free_account):
            blobs = azurite.account(account.rsplit("/", 1)[1])
            fill_plain(blobs, "data", 3, 100, "bad")
            cls.arm.connect_account(account, blobs.connection_string)
            cls.arm.assign(BACKUP_CONTRIBUTOR, principal, account)
        cls.policy = cls.arm.make_policy(cls.vault, "daily", *vaulted_rules())
        other = vault_id(cls.group, "otherVault")
        cls.arm.make_vault(other)
        cls.other_policy = cls.arm.make_policy(other, "daily", *vaulted_rules())
        cls.instance = f"{cls.vault}/backupInstances/protected"
        cls.arm.make_instance(cls.instance, cls.account, cls.policy, ["data"])

    def setUp(self) -> None:
        super().setUp()
        self.before = self.state()

    def tearDown(self) -> None:
        before, after = (json.dumps(state, indent=1).splitlines() for state in (self.before, self.state()))
        changes = list(difflib.unified_diff(before, after, "before", "after", lineterm="", n=2))
        self.assertEqual(changes[:60], [], "something has changed")

    def state(self) -> Json:
        """Every list that a caller can see, and the number of role assignments."""
        paths = [f"{self.group}/providers/Microsoft.DataProtection/backupVaults"]
        paths += [f"{self.vault}/{kind}" for kind in ("backupPolicies", "backupInstances", "deletedBackupInstances", "backupJobs")]
        paths += [f"{self.instance}/recoveryPoints"]
        found: dict[str, Json] = {path: self.arm.values(path) for path in paths}
        accounts = f"{self.group}/providers/Microsoft.Storage/storageAccounts"
        found[accounts] = self.arm.values(accounts, version=STORAGE_VERSION)
        roles = f"{self.group}/providers/Microsoft.Authorization/roleAssignments"
        found[roles] = len(self.arm.values(roles, version="2022-04-01"))
        return found

    def refused(self, answer: Answer, status: int, *codes: str) -> Json:
        """The answer is an ARM error with a code of these and a message that says something."""
        answer.expect(status)
        error = answer.json["error"]
        self.assertIn(error["code"], codes, answer.text)
        self.assertGreater(len(error["message"]), 10, answer.text)
        return error

    def validate(self, properties: Json) -> Answer:
        """validateForBackup of an instance."""
        return self.arm.post(f"{self.vault}/validateForBackup", {"backupInstance": properties})

    def free_instance(self, **changes: Any) -> Json:
        """A good instance of the account that is not protected, with changes to its datasource."""
        properties = instance_properties(self.free_account, self.policy, ["data"])
        properties["dataSourceInfo"].update(changes)
        return properties

    # --- the front door --------------------------------------------------------------------------------------------

    def test_malformed_json(self) -> None:
        for body in ('{"properties": ', "{'single': 'quotes'}", "not json", '{"a": 1} trailing', "[1, 2"):
            with self.subTest(body=body):
                self.refused(self.arm.put(f"{self.vault}/backupInstances/new", body), 400, "InvalidRequestContent")

    def test_a_missing_api_version(self) -> None:
        self.refused(self.arm.get(self.vault, version=None), 400, "MissingApiVersionParameter")

    def test_an_unknown_api_version(self) -> None:
        for version in ("banana", "2015-06-15", "2021-13-45", "1"):
            with self.subTest(version=version):
                self.refused(self.arm.get(self.vault, version=version), 400, "InvalidApiVersionParameter")

    def test_a_newer_api_version_is_fine(self) -> None:
        for version in ("2021-01-01", "2024-04-01", "2025-09-01", "2026-06-01", "2023-04-01-preview"):
            with self.subTest(version=version):
                self.arm.get(self.vault, version=version).expect(200)

    def test_no_token(self) -> None:
        answer = self.arm.get(self.vault, signed=False)
        self.refused(answer, 401, "AuthenticationFailed")
        self.assertRegex(answer.headers["WWW-Authenticate"], r'^Bearer authorization_uri="https://.*error="invalid_token"')

    def test_a_bad_token(self) -> None:
        for token in ("nonsense", self.arm.token()[:-4] + "AAAA", "a.b.c"):
            with self.subTest(token=token[:8]):
                answer = self.arm.get(self.vault, headers={"Authorization": f"Bearer {token}"})
                self.assertEqual(answer.status, 401, answer.text)

    def test_a_wrong_client_secret(self) -> None:
        env = self.service.env
        stranger = Arm(env, self.transcript, (env["AZURE_CLIENT_ID"], "wrong"))
        with self.assertRaisesRegex(AssertionError, "AADSTS7000215"):
            stranger.token()

    def test_paths_that_mean_two_things(self) -> None:
        for path in (
            f"{self.vault}%2FbackupPolicies",
            f"{self.vault}/../badVault",
            f"{self.vault}/backupInstances/a%2Fb",
            f"{self.vault}/%2e%2e/badVault",
        ):
            with self.subTest(path=path):
                self.assertEqual(self.arm.get(path).status, 400)

    def test_a_method_that_is_not_there(self) -> None:
        self.assertEqual(self.arm.request("PATCH", self.policy, {}).status, 405)

    # --- roles -----------------------------------------------------------------------------------------------------

    def stranger(self, name: str, role: Optional[str]) -> Arm:
        """A service principal with one role on the group, or none."""
        path = f"/providers/Blobkeep.Identity/servicePrincipals/{name}"
        made = self.arm.put(path, {}).expect(200, 201).json
        if role:
            self.arm.assign(role, member(made, "objectId"), self.group)
            self.before = self.state()
        secret = member(made, "secret", "clientSecret")
        return Arm(self.service.env, self.transcript, (member(made, "appId"), secret))

    def test_a_caller_without_a_role_learns_nothing(self) -> None:
        stranger = self.stranger("nobody", None)
        for path in (self.vault, f"{self.vault}-not-there", self.instance, self.account, self.group):
            with self.subTest(path=path):
                self.refused(stranger.get(path), 403, "AuthorizationFailed")

    def test_a_reader_may_read_and_no_more(self) -> None:
        reader = self.stranger("reader", BACKUP_READER)
        reader.get(self.instance).expect(200)
        body = instance_body(self.free_account, self.policy, ["data"])
        backup = {"backupRuleOptions": {"ruleName": "BackupDaily", "triggerOption": {}}}
        for answer in (
            reader.put(f"{self.vault}/backupInstances/new", body),
            reader.delete(self.instance),
            reader.post(f"{self.instance}/backup", backup),
            reader.post(f"{self.instance}/restore", restore_point("0" * 32, self.free_account)),
            reader.delete(self.policy),
        ):
            with self.subTest(request=answer.request.split("\n")[0]):
                self.refused(answer, 403, "AuthorizationFailed")

    # --- what is not there -----------------------------------------------------------------------------------------

    def test_an_unknown_vault(self) -> None:
        unknown = f"{self.vault}-unknown"
        self.refused(self.arm.get(unknown), 404, "ResourceNotFound")
        answer = self.arm.post(f"{unknown}/validateForBackup", {"backupInstance": self.free_instance()})
        self.refused(answer, 404, "ResourceNotFound", "ParentResourceNotFound")

    def test_an_unknown_group(self) -> None:
        group = self.group.replace("bad-input", "no-such-group")
        self.refused(self.arm.put(vault_id(group, "someVault"), {"location": "westus", "properties": {}}), 404, "ResourceGroupNotFound")

    def test_an_unknown_rule(self) -> None:
        body = {"backupRuleOptions": {"ruleName": "NoSuchRule", "triggerOption": {}}}
        answer = self.arm.post(f"{self.instance}/backup", body)
        self.assertEqual(answer.status, 400, answer.text)
        self.assertIn("NoSuchRule", answer.text)

    def test_an_unknown_recovery_point(self) -> None:
        answer = self.arm.post(f"{self.instance}/restore", restore_point("0" * 32, self.free_account))
        self.assertIn(answer.status, (400, 404), answer.text)
        self.assertIn(answer.code, ("UserErrorRestorePointNotFound", "UserErrorRestorePointNotFoundInBackupVault"))

    def test_a_container_that_is_not_there(self) -> None:
        properties = instance_properties(self.free_account, self.policy, ["data", "no-such-container"])
        outcome = self.arm.wait(self.validate(properties).expect(202))
        self.assertEqual(outcome.code, "UserErrorIncorrectContainersSelectedForOperation", outcome.status)
        self.assertIn("no-such-container", json.dumps(outcome.status))

    # --- what does not fit -----------------------------------------------------------------------------------------

    def test_no_containers(self) -> None:
        answer = self.validate(instance_properties(self.free_account, self.policy, []))
        self.refused(answer, 400, "UserErrorNoContainersSelectedForOperation")

    def test_a_wrong_datasource_type(self) -> None:
        answer = self.validate(self.free_instance(datasourceType="Microsoft.Compute/disks", resourceType="Microsoft.Compute/disks"))
        self.refused(answer, 400, "UserErrorUnsupportedStorageAccountType", "UserErrorInvalidParameterInRequest")

    def test_a_policy_of_another_vault(self) -> None:
        properties = instance_properties(self.free_account, self.other_policy, ["data"])
        self.refused(self.validate(properties), 400, "UserErrorInvalidParameterInRequest")
        answer = self.arm.put(f"{self.vault}/backupInstances/new", {"properties": properties})
        self.refused(answer, 400, "UserErrorInvalidParameterInRequest")

    def test_a_name_that_is_too_long(self) -> None:
        body = {"location": "westus", "identity": {"type": "SystemAssigned"}, "properties": {}}
        for name in ("v" * 51, "v", "1starts-with-a-digit", "ends-with-", "under_score"):
            with self.subTest(name=name):
                answer = self.arm.put(vault_id(self.group, name), body)
                self.assertEqual(answer.status, 400, answer.text)
                self.assertIn(name, answer.json["error"]["message"])

    def test_a_policy_that_contradicts_itself(self) -> None:
        rules = vaulted_rules()
        rules[1]["trigger"]["taggingCriteria"][0]["tagInfo"]["tagName"] = "NoSuchRetention"
        properties = {"objectType": "BackupPolicy", "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"]}
        answer = self.arm.put(f"{self.vault}/backupPolicies/bad", {"properties": {**properties, "policyRules": rules}})
        self.assertEqual(answer.status, 400, answer.text)
        self.assertIn("NoSuchRetention", answer.text)

    def test_a_policy_in_use_cannot_be_deleted(self) -> None:
        answer = self.arm.delete(self.policy)
        self.assertIn(answer.status, (400, 409), answer.text)

    # --- what may not be connected ---------------------------------------------------------------------------------

    def connect(self, connection: Json) -> Answer:
        """PUT of a storage account with this connection."""
        body = {
            "location": "westus",
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "properties": {"connection": connection},
        }
        return self.arm.put(account_id(self.group, "badnew"), body, version=STORAGE_VERSION)

    def test_a_folder_outside_the_local_roots(self) -> None:
        link = self.folder / "allowed" / "link"
        if not link.is_symlink():
            link.symlink_to(self.folder / "forbidden")
        for folder in (
            self.folder / "forbidden",
            "/etc",
            f"{self.folder}/allowed/../forbidden",
            f"{self.folder}/allowed-not-really",
            link,
            self.service.data_dir,
        ):
            with self.subTest(folder=str(folder)):
                answer = self.connect({"kind": "LocalFolder", "url": f"file://{folder}"})
                self.assertIn(answer.status, (400, 403), answer.text)

    def test_an_endpoint_that_is_not_allowed(self) -> None:
        for url in ("http://169.254.169.254/account", "http://10.1.2.3:10000/account", "ftp://127.0.0.1/account", "file:///etc"):
            with self.subTest(url=url):
                answer = self.connect({"kind": "AzureBlob", "url": url, "accountKey": "AAAA"})
                self.assertIn(answer.status, (400, 403), answer.text)

    def test_a_secret_is_never_answered(self) -> None:
        text = self.arm.get(self.account, version=STORAGE_VERSION).expect(200).text
        self.assertNotIn("accountKey", text)
        self.assertNotIn("AccountKey=", text)


def member(body: Json, *names: str) -> str:
    """The first member of one of these names, at the top or below `properties`."""
    for level in (body, body.get("properties") or {}):
        for name in names:
            if level.get(name):
                return str(level[name])
    raise AssertionError(f"none of {names} in {sorted(body)}")


if __name__ == "__main__":
    unittest.main()
