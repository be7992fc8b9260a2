"""The story with the az CLI: the service as a cloud of its own, signed in as a service principal, with the commands of az for
groups, accounts and roles, and `az rest` and `az resource` for what is backed up. `scripts/test --az` installs az and tells it.
"""

from __future__ import annotations

import json
import os
import subprocess
import unittest
from typing import Any, ClassVar, Optional

from arm import BLOBS, LOCATION, account_id, instance_body, instance_properties, restore_point, vault_id, vaulted_rules
from harness import BLOBKEEP, TOOLS, Service, Story, eventually
from storage import Account, Azurite, Snapshot, differences, fill_plain

VAULT_GROUP = "az-vaults"
BLOB_GROUP = "az-blobs"
ROLE = "Storage Account Backup Contributor"
VERSION = "2025-07-01"
STORAGE_VERSION = "2023-05-01"
SIGN_IN = 'eval "$("$0" env --data-dir "$1" --format az)" >&2; printf %s "$REQUESTS_CA_BUNDLE"'


class TestAz(Story):
    """One account, from the registration of the cloud to the role that is taken away."""

    azurite: ClassVar[Azurite]
    service: ClassVar[Service]
    env: ClassVar[dict[str, str]]
    subscription: ClassVar[str]
    vault: ClassVar[str]
    principal: ClassVar[str]
    source: ClassVar[Snapshot]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["azsource", "aztarget"])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        cls.service = cls.start_service()
        cls.subscription = cls.service.env["AZURE_SUBSCRIPTION_ID"]
        cls.vault = vault_id(f"/subscriptions/{cls.subscription}/resourceGroups/{VAULT_GROUP}", "azVault")
        fill_plain(cls.blobs("azsource"), "photos", 20, 5_000, "az")
        fill_plain(cls.blobs("azsource"), "logs", 5, 5_000, "az")
        cls.source = cls.blobs("azsource").snapshot()
        # An az of its own: nobody's sign-in, nobody's extensions, nothing sent anywhere.
        cls.env = {
            **os.environ,
            "PATH": f"{TOOLS / 'az' / 'bin'}:{os.environ['PATH']}",
            "AZURE_CONFIG_DIR": str(cls.folder / "azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_NO_COLOR": "yes",
            "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
        }

    @classmethod
    def account(cls, name: str) -> str:
        """The ARM id of an account of this story."""
        return account_id(f"/subscriptions/{cls.subscription}/resourceGroups/{BLOB_GROUP}", name)

    @classmethod
    def blobs(cls, name: str) -> Account:
        """The storage behind it."""
        return cls.azurite.account(name)

    @property
    def instance(self) -> str:
        """The ARM id of what is protected."""
        return f"{self.vault}/backupInstances/azsource"

    def run_az(self, *arguments: str, env: Optional[dict[str, str]] = None) -> subprocess.CompletedProcess[str]:
        """One command of az, to its end."""
        done = subprocess.run(
            ["az", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=env or self.env
        )
        self.transcript.add(f"$ az {' '.join(arguments)}\n{done.stdout}{done.stderr}exit {done.returncode}")
        return done

    def az(self, *arguments: str) -> Any:
        """What a command gives; it must succeed."""
        done = self.run_az(*arguments)
        self.assertEqual(done.returncode, 0, f"az {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def assert_refuses(self, error: str, *arguments: str) -> None:
        """The command fails and says this."""
        done = self.run_az(*arguments)
        self.assertNotEqual(done.returncode, 0, f"az {' '.join(arguments)}\n{done.stdout}")
        self.assertIn(error, done.stderr)

    def body(self, content: Any) -> str:
        """A body as an argument: a file, for it may hold a secret."""
        path = self.folder / "body.json"
        path.write_text(json.dumps(content))
        return f"@{path}"

    def rest(self, method: str, path: str, content: Any = None, version: str = VERSION) -> Any:
        """What `az rest` gives."""
        return self.az(*self.rest_words(method, path, content, version))

    def rest_words(self, method: str, path: str, content: Any = None, version: str = VERSION) -> list[str]:
        """The words of such a command."""
        words = ["rest", "--method", method, "--url", f"{path}?api-version={version}"]
        return words if content is None else [*words, "--body", self.body(content)]

    def action(self, resource: str, name: str, content: Any = None) -> list[str]:
        """The words of an action that az follows to its end."""
        words = ["resource", "invoke-action", "--ids", resource, "--action", name, "--api-version", VERSION]
        return words if content is None else [*words, "--request-body", self.body(content)]

    def validation(self) -> list[str]:
        """The words of the question whether the account can be protected."""
        properties = instance_properties(self.account("azsource"), f"{self.vault}/backupPolicies/daily", ["logs", "photos"])
        return self.action(self.vault, "validateForBackup", {"backupInstance": properties})

    def state(self) -> str:
        """How far the account is protected."""
        return str(self.rest("get", self.instance)["properties"]["currentProtectionState"])

    def wait_job(self, operation: str) -> None:
        """The newest job is this one, and completes."""

        def look() -> bool:
            newest = self.rest("get", f"{self.vault}/backupJobs")["value"][0]["properties"]
            self.assertEqual(newest["operationCategory"], operation)
            return newest["status"] != "InProgress"

        eventually(f"the end of the {operation}", look)
        self.assertEqual(self.rest("get", f"{self.vault}/backupJobs")["value"][0]["properties"]["status"], "Completed")

    def points(self) -> list[str]:
        """The names of the points, newest first."""
        return [point["name"] for point in self.rest("get", f"{self.instance}/recoveryPoints")["value"]]

    def back_up(self) -> None:
        """One backup, to its end."""
        before = len(self.points())
        content = {"backupRuleOptions": {"ruleName": "BackupDaily", "triggerOption": {}}}
        self.rest("post", f"{self.instance}/backup", content)
        self.wait_job("Backup")
        self.assertEqual(len(self.points()), before + 1)

    def assign(self, account: str) -> Any:
        """The role that the vault needs on an account."""
        who = ["--assignee-object-id", self.principal, "--assignee-principal-type", "ServicePrincipal"]
        return self.az("role", "assignment", "create", "--role", ROLE, *who, "--scope", self.account(account))

    # --- signing in ------------------------------------------------------------------------------------------------

    def test_01_the_service_is_registered_as_a_cloud_and_signed_in_to(self) -> None:
        command = ["bash", "-ec", SIGN_IN, str(BLOBKEEP), str(self.service.data_dir)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=self.env)
        self.transcript.add(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.env["REQUESTS_CA_BUNDLE"] = done.stdout
        account = self.az("account", "show")
        self.assertEqual((account["environmentName"], account["id"]), ("Blobkeep", self.subscription))
        self.assertEqual(account["user"], {"name": self.service.env["AZURE_CLIENT_ID"], "type": "servicePrincipal"})

    def test_02_another_secret_does_not_sign_in(self) -> None:
        # The cache of tokens would sign in whatever the secret is.
        fresh = {**self.env, "AZURE_CONFIG_DIR": str(self.folder / "azure-wrong"), "AZURE_CORE_INSTANCE_DISCOVERY": "no"}
        where = ["--name", "Blobkeep", "--endpoint-resource-manager", self.service.env["BLOBKEEP_ENDPOINT"]]
        for words in (["cloud", "register", *where], ["cloud", "set", "--name", "Blobkeep"]):
            self.assertEqual(self.run_az(*words, env=fresh).returncode, 0)
        who = ["--username", self.service.env["AZURE_CLIENT_ID"], "--tenant", self.service.env["AZURE_TENANT_ID"]]
        done = self.run_az("login", "--service-principal", *who, "--password", "wrong", env=fresh)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("AADSTS7000215", done.stderr)

    # --- groups and accounts ---------------------------------------------------------------------------------------

    def test_03_groups(self) -> None:
        for group in (VAULT_GROUP, BLOB_GROUP, "az-empty"):
            made = self.az("group", "create", "--name", group, "--location", LOCATION)
            self.assertEqual(made["properties"]["provisioningState"], "Succeeded")
        self.assertIs(self.az("group", "exists", "--name", BLOB_GROUP), True)
        self.assertEqual(self.az("group", "update", "--name", "az-empty", "--tags", "a=b")["tags"], {"a": "b"})
        self.az("group", "delete", "--name", "az-empty", "--yes")
        self.assertIs(self.az("group", "exists", "--name", "az-empty"), False)
        self.assertEqual([group["name"] for group in self.az("group", "list")], [BLOB_GROUP, VAULT_GROUP])

    def test_04_accounts_are_connected(self) -> None:
        for name in ("azsource", "aztarget"):
            connection = {"kind": "AzureBlob", "connectionString": self.blobs(name).connection_string}
            content = {"location": LOCATION, "kind": "StorageV2", "properties": {"connection": connection}}
            self.rest("put", self.account(name), content, version=STORAGE_VERSION)
        self.assertEqual([account["name"] for account in self.az("storage", "account", "list")], ["azsource", "aztarget"])
        shown = self.az("storage", "account", "show", "--name", "azsource")
        self.assertEqual((shown["id"], shown["resourceGroup"]), (self.account("azsource"), BLOB_GROUP))
        self.assertEqual(shown["primaryEndpoints"]["blob"], self.blobs("azsource").url + "/")

    def test_05_and_tell_their_containers_but_not_their_keys(self) -> None:
        containers = self.az("storage", "container-rm", "list", "--storage-account", "azsource")
        self.assertEqual([container["name"] for container in containers], ["logs", "photos"])
        keys = ["storage", "account", "keys", "list", "--account-name", "azsource", "--resource-group", BLOB_GROUP]
        self.assert_refuses("(ListKeysNotOffered)", *keys)

    # --- vault, policy, role ---------------------------------------------------------------------------------------

    def test_06_a_vault_with_an_identity(self) -> None:
        settings = [{"datastoreType": "VaultStore", "type": "LocallyRedundant"}]
        content = {"location": LOCATION, "identity": {"type": "SystemAssigned"}, "properties": {"storageSettings": settings}}
        self.rest("put", self.vault, content)
        found = self.az("resource", "show", "--ids", self.vault)
        self.assertEqual(found["properties"]["provisioningState"], "Succeeded")
        type(self).principal = found["identity"]["principalId"]
        self.assertEqual(self.az("ad", "sp", "show", "--id", self.principal)["displayName"], "azVault")

    def test_07_a_policy(self) -> None:
        content = {"properties": {"objectType": "BackupPolicy", "datasourceTypes": [BLOBS], "policyRules": vaulted_rules()}}
        made = self.rest("put", f"{self.vault}/backupPolicies/daily", content)
        self.assertEqual([rule["name"] for rule in made["properties"]["policyRules"]], ["Default", "BackupDaily"])

    def test_08_validation_fails_without_the_role(self) -> None:
        self.assert_refuses("(UserErrorMissingRequiredPermissions)", *self.validation())

    def test_09_the_role_is_assigned(self) -> None:
        made = self.assign("azsource")
        self.assertEqual((made["principalId"], made["scope"]), (self.principal, self.account("azsource")))
        self.assertEqual(self.assign("azsource")["id"], made["id"], "again is the same")
        (listed,) = self.az("role", "assignment", "list", "--assignee", self.principal, "--all")
        self.assertEqual((listed["id"], listed["roleDefinitionName"]), (made["id"], ROLE))

    # --- backup and restore ----------------------------------------------------------------------------------------

    def test_10_the_account_is_protected(self) -> None:
        self.az(*self.validation())
        policy = f"{self.vault}/backupPolicies/daily"
        self.rest("put", self.instance, instance_body(self.account("azsource"), policy, ["logs", "photos"]))
        eventually("protection", lambda: self.state() == "ProtectionConfigured")

    def test_11_a_backup(self) -> None:
        self.back_up()

    def test_12_is_restored_to_another_account(self) -> None:
        self.assign("aztarget")
        request = restore_point(self.points()[0], self.account("aztarget"))
        self.az(*self.action(self.instance, "validateRestore", {"restoreRequestObject": request}))
        self.rest("post", f"{self.instance}/restore", request)
        self.wait_job("Restore")
        self.assertEqual(differences(self.source, self.blobs("aztarget").snapshot()), [])

    def test_13_what_is_there_refuses_a_restore(self) -> None:
        request = restore_point(self.points()[0], self.account("aztarget"))
        validation = self.action(self.instance, "validateRestore", {"restoreRequestObject": request})
        self.assert_refuses("(UserErrorTargetContainersExistOnAccount)", *validation)

    # --- stop, delete, take away -----------------------------------------------------------------------------------

    def test_14_protection_is_stopped_and_resumed(self) -> None:
        self.az(*self.action(self.instance, "stopProtection"))
        self.assertEqual(self.state(), "ProtectionStopped")
        content = {"backupRuleOptions": {"ruleName": "BackupDaily", "triggerOption": {}}}
        refused = self.rest_words("post", f"{self.instance}/backup", content)
        self.assert_refuses("UserErrorOperationNotAllowedInState", *refused)
        self.az(*self.action(self.instance, "resumeProtection"))
        self.assertEqual(self.state(), "ProtectionConfigured")
        self.back_up()

    def test_15_what_is_protected_is_not_removed(self) -> None:
        account = ["storage", "account", "delete", "--name", "azsource", "--resource-group", BLOB_GROUP, "--yes"]
        self.assert_refuses("(StorageAccountProtected)", *account)
        self.assert_refuses("(ResourceGroupNotEmpty)", "group", "delete", "--name", BLOB_GROUP, "--yes")

    def test_16_delete_and_undelete(self) -> None:
        self.az("resource", "delete", "--ids", self.instance, "--api-version", VERSION)
        self.assert_refuses("ResourceNotFound", *self.rest_words("get", self.instance))
        deleted = self.rest("get", f"{self.vault}/deletedBackupInstances")["value"]
        self.assertEqual([one["name"] for one in deleted], ["azsource"])
        self.rest("post", f"{self.vault}/deletedBackupInstances/azsource/undelete")
        self.assertEqual(self.state(), "ProtectionStopped")
        self.assertEqual(len(self.points()), 2, "no point was lost")

    def test_17_without_the_role_there_is_no_way_back(self) -> None:
        who = ["--assignee", self.principal, "--role", ROLE, "--scope", self.account("azsource")]
        self.az("role", "assignment", "delete", *who)
        self.assertEqual(self.az("role", "assignment", "list", "--assignee", self.principal, "--scope", self.account("azsource")), [])
        self.assert_refuses("(UserErrorMissingRequiredPermissions)", *self.action(self.instance, "resumeProtection"))

    def test_18_an_account_that_is_changed_keeps_its_connection(self) -> None:
        which = ["--name", "aztarget", "--resource-group", BLOB_GROUP]
        self.assertEqual(self.az("storage", "account", "update", *which, "--tags", "team=a")["tags"], {"team": "a"})
        # It reads the account and sends the whole back.
        tagged = self.az("resource", "tag", "--ids", self.account("aztarget"), "--tags", "team=b")
        self.assertEqual(tagged["tags"], {"team": "b"})
        (found,) = self.az("resource", "list", "--tag", "team=b")
        self.assertEqual((found["id"], found["provisioningState"]), (self.account("aztarget"), "Succeeded"))
        (tag,) = self.az("tag", "list")
        self.assertEqual((tag["tagName"], tag["count"]["value"]), ("team", 1))
        kinds = ["--resource-type", "Microsoft.DataProtection/backupVaults", "--resource-group", VAULT_GROUP]
        self.assertEqual([vault["id"] for vault in self.az("resource", "list", *kinds)], [self.vault])
        containers = self.az("storage", "container-rm", "list", "--storage-account", "aztarget")
        self.assertEqual([container["name"] for container in containers], ["logs", "photos"])

    def test_19_an_account_is_made(self) -> None:
        which = ["--name", "azmade", "--resource-group", BLOB_GROUP]
        self.assertIs(self.az("storage", "account", "check-name", "--name", "azmade")["nameAvailable"], True)
        made = self.az("storage", "account", "create", *which, "--location", LOCATION, "--sku", "Standard_LRS")
        self.assertEqual((made["id"], made["provisioningState"]), (self.account("azmade"), "Succeeded"))
        self.assertEqual(self.az("storage", "account", "check-name", "--name", "azmade")["reason"], "AlreadyExists")
        self.az("storage", "account", "delete", *which, "--yes")
        self.assertIs(self.az("storage", "account", "check-name", "--name", "azmade")["nameAvailable"], True)


if __name__ == "__main__":
    unittest.main()
