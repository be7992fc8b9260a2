"""The whole story with the Azure SDK of mid-2023: scripts that were written years ago are not written anew.

The SDKs of two years do not fit into one Python. Each step is a command of client_2023.py, run by a Python with the old one.
"""

from __future__ import annotations

import json
import os
import subprocess
import unittest
from pathlib import Path
from typing import Any, ClassVar

from arm import Arm, account_id, far_daily_schedule
from harness import TOOLS, Service, Story, eventually
from storage import Account, Azurite, Snapshot, change_sample, differences, fill_sample

OLD_PYTHON = TOOLS / "python-2023" / "bin" / "python"
CLIENT = Path(__file__).with_name("client_2023.py")
GROUP = "old-blobs"
INSTANCE = "oldsource-whole"
BIG_MIB = 8


class TestSdk2023(Story):
    """One account, from its vault to what was undeleted."""

    azurite: ClassVar[Azurite]
    service: ClassVar[Service]
    arm: ClassVar[Arm]
    principal: ClassVar[str]
    first: ClassVar[Snapshot]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["oldsource", "oldtarget"])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        cls.service = cls.start_service()
        cls.arm = Arm(cls.service.env, cls.transcript)
        # What in Azure is simply there: the groups, and the accounts with their blobs.
        cls.arm.make_group("old-vaults")
        cls.arm.make_group(GROUP)
        for name in ["oldsource", "oldtarget"]:
            cls.arm.connect_account(cls.account_id(name), cls.blobs(name).connection_string)
        fill_sample(cls.blobs("oldsource"), big_mib=BIG_MIB)
        cls.first = cls.blobs("oldsource").snapshot()

    @classmethod
    def account_id(cls, name: str) -> str:
        """The ARM id of an account of this story."""
        return account_id(f"/subscriptions/{cls.arm.subscription}/resourceGroups/{GROUP}", name)

    @classmethod
    def blobs(cls, name: str) -> Account:
        """The storage behind it."""
        return cls.azurite.account(name)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        """What a command of the old client gives."""
        done = subprocess.run(
            [str(OLD_PYTHON), str(CLIENT), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            env={**os.environ, **self.service.env},
        )
        said = f"client_2023.py {' '.join(arguments)}\n{done.stdout}{done.stderr}exit {done.returncode}"
        self.transcript.add(said)
        self.assertEqual(done.returncode, code, said)
        return json.loads(done.stdout)

    def assert_refuses(self, error: str, *arguments: str) -> None:
        """The service refuses it, with this code."""
        self.assertEqual(self.ask(*arguments, code=3), {"error": error})

    def source(self) -> list[str]:
        """The account that is protected, and its containers."""
        return [self.account_id("oldsource"), *sorted(self.first.containers)]

    # --- the steps -------------------------------------------------------------------------------------------------

    def test_01_a_vault_with_an_identity(self) -> None:
        made = self.ask("make_vault")
        self.assertEqual(made["provisioningState"], "Succeeded")
        type(self).principal = made["principalId"]
        self.assertEqual(self.ask("make_vault")["principalId"], self.principal, "an update keeps the identity")

    def test_02_a_policy(self) -> None:
        self.assertEqual(self.ask("make_policy", far_daily_schedule()), ["Default", "BackupDaily"])

    def test_03_validation_fails_without_the_role(self) -> None:
        self.assert_refuses("UserErrorMissingRequiredPermissions", "validate", *self.source())

    def test_04_and_succeeds_with_it(self) -> None:
        self.assertEqual(self.ask("assign", self.account_id("oldsource"), self.principal), self.principal)
        self.assertIsNone(self.ask("validate", *self.source()))

    def test_05_the_account_is_protected(self) -> None:
        self.assertEqual(self.ask("protect", *self.source()), INSTANCE)
        eventually("protection", lambda: self.ask("state") == "ProtectionConfigured")
        self.assertEqual(self.ask("instances"), [INSTANCE])

    def test_06_two_backups(self) -> None:
        self.assertEqual(self.ask("back_up"), "Completed")
        change_sample(self.blobs("oldsource"), big_mib=BIG_MIB)
        self.assertEqual(self.ask("back_up"), "Completed")
        self.assertEqual(len(self.ask("points")), 2)

    def test_07_the_first_one_is_restored(self) -> None:
        self.ask("assign", self.account_id("oldtarget"), self.principal)
        self.assertEqual(self.ask("restore", self.ask("points")[-1], self.account_id("oldtarget")), "Completed")
        self.assertEqual(differences(self.first, self.blobs("oldtarget").snapshot()), [])

    def test_08_what_is_there_refuses_a_restore(self) -> None:
        restore = ["restore", self.ask("points")[0], self.account_id("oldtarget"), "media"]
        self.assert_refuses("UserErrorTargetContainersExistOnAccount", *restore)

    def test_09_one_container_of_the_second(self) -> None:
        self.blobs("oldtarget").empty()
        self.assertEqual(self.ask("restore", self.ask("points")[0], self.account_id("oldtarget"), "documents"), "Completed")
        second = self.blobs("oldsource").snapshot().only("documents")
        self.assertEqual(differences(second, self.blobs("oldtarget").snapshot()), [])

    def test_10_the_jobs_are_listed(self) -> None:
        self.assertEqual(self.ask("jobs"), [["Restore", "Completed"]] * 2 + [["Backup", "Completed"]] * 2)

    def test_11_protection_is_stopped_and_resumed(self) -> None:
        self.ask("change", "stop_protection")
        self.assertEqual(self.ask("state"), "ProtectionStopped")
        self.assert_refuses("UserErrorOperationNotAllowedInState", "back_up")
        self.ask("change", "resume_protection")
        self.assertEqual(self.ask("state"), "ProtectionConfigured")

    def test_12_backups_are_suspended_and_resumed(self) -> None:
        self.ask("change", "suspend_backups")
        self.assertEqual(self.ask("state"), "BackupsSuspended")
        self.assert_refuses("UserErrorOperationNotAllowedInState", "back_up")
        self.ask("change", "resume_backups")
        self.assertEqual(self.ask("state"), "ProtectionConfigured")
        self.assertEqual(self.ask("back_up"), "Completed")

    def test_13_delete_and_undelete(self) -> None:
        self.ask("change", "delete")
        self.assertEqual((self.ask("instances"), self.ask("deleted")), ([], [INSTANCE]))
        self.assert_refuses("ResourceNotFound", "state")
        self.ask("change", "undelete")
        self.assertEqual((self.ask("instances"), self.ask("deleted")), ([INSTANCE], []))
        self.assertEqual(self.ask("state"), "ProtectionStopped")
        self.assertEqual(len(self.ask("points")), 3, "no point was lost")


if __name__ == "__main__":
    unittest.main()
