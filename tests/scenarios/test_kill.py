"""kill -9 in the middle: a backup and a restore go on by themselves after a new start, and what they leave is sound."""

from __future__ import annotations

import os
import random
import time
import unittest
from typing import ClassVar

from arm import BACKUP_CONTRIBUTOR, Arm, account_id, restore_point, vault_id, vaulted_rules
from harness import Service, Story, eventually
from storage import MIB, Account, Azurite, Snapshot, differences, fill_plain

BLOBS = 400


class KillStory(Story):
    """One account of 400 MiB that does not compress, protected, and another one to restore to."""

    azurite: ClassVar[Azurite]
    service: ClassVar[Service]
    arm: ClassVar[Arm]
    instance: ClassVar[str]
    target: ClassVar[str]
    expected: ClassVar[Snapshot]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["killsource", "killtarget"])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        cls.service = cls.start_service()
        cls.arm = Arm(cls.service.env, cls.transcript)
        group = cls.arm.make_group("kill")
        source, cls.target = account_id(group, "killsource"), account_id(group, "killtarget")
        vault = vault_id(group, "killVault")
        principal = cls.arm.make_vault(vault)
        for account in (source, cls.target):
            cls.arm.connect_account(account, cls.blobs(account).connection_string)
            cls.arm.assign(BACKUP_CONTRIBUTOR, principal, account)
        fill_plain(cls.blobs(source), "data", BLOBS, MIB, "kill")
        cls.expected = cls.blobs(source).snapshot()
        policy = cls.arm.make_policy(vault, "daily", *vaulted_rules())
        cls.instance = f"{vault}/backupInstances/killsource"
        cls.arm.make_instance(cls.instance, source, policy, ["data"])

    @classmethod
    def blobs(cls, account: str) -> Account:
        """The storage behind an account's id."""
        return cls.azurite.account(account.rsplit("/", 1)[1])

    def verify(self) -> None:
        """The vault is sound, by the engine's own judgement."""
        (store,) = self.service.vault_stores()
        self.command("offline", "verify", "--store", str(store), "--key-file", str(self.service.data_dir / "master.key"))


class TestKill(KillStory):
    """Once in a backup, once in a restore."""

    def test_01_a_killed_backup_goes_on_and_completes(self) -> None:
        job = self.arm.done(self.arm.trigger_backup(self.instance)).job_id
        eventually("some packs of the backup", lambda: self.service.stored_bytes() > 16 * MIB, pause=0.01)
        self.service.kill()
        committed = [path for store in self.service.vault_stores() for path in store.glob("points/*/*")]
        self.assertEqual(committed, [], "the backup was over before it was killed: make the account larger")
        self.service.start()
        self.assertEqual(self.arm.wait_job(job)["properties"]["status"], "Completed")
        self.assertEqual(len(self.arm.values(f"{self.instance}/recoveryPoints")), 1)

    def test_02_what_it_left_verifies(self) -> None:
        self.verify()

    def test_03_a_killed_restore_goes_on_and_completes(self) -> None:
        request = restore_point(self.arm.latest_point(self.instance)["name"], self.target)
        job = self.arm.done(self.arm.trigger_restore(self.instance, request)).job_id
        eventually("some restored blobs", lambda: self.blobs(self.target).blob_count() > 10, pause=0.01)
        self.service.kill()
        self.assertLess(self.blobs(self.target).blob_count(), BLOBS, "the restore was over before it was killed")
        self.service.start()
        self.assertEqual(self.arm.wait_job(job)["properties"]["status"], "Completed")

    def test_04_every_byte_is_there(self) -> None:
        self.assertEqual(differences(self.expected, self.blobs(self.target).snapshot()), [])

    def test_05_the_service_still_backs_up(self) -> None:
        self.arm.completed(self.arm.trigger_backup(self.instance))
        self.assertEqual(len(self.arm.values(f"{self.instance}/recoveryPoints")), 2)

    def test_06_no_job_is_left_running(self) -> None:
        vault = self.instance.split("/backupInstances/")[0]
        states = {job["properties"]["status"] for job in self.arm.values(f"{vault}/backupJobs")}
        self.assertEqual(states, {"Completed"})


@unittest.skipUnless(os.environ.get("BLOBKEEP_LONG"), "told with --long")
class TestKillOften(KillStory):
    """The same service killed again and again, at instants that a seed chooses."""

    def test_01_twenty_kills_lose_nothing(self) -> None:
        chance = random.Random("kill often")
        for number in range(20):
            job = self.arm.done(self.arm.trigger_backup(self.instance)).job_id
            # Any instant is a right one to be killed at, so that this waiting needs no condition.
            time.sleep(chance.random() * 1.5)
            self.service.kill()
            self.service.start()
            with self.subTest(kill=number):
                self.assertEqual(self.arm.wait_job(job)["properties"]["status"], "Completed")
        self.assertEqual(len(self.arm.values(f"{self.instance}/recoveryPoints")), 20)

    def test_02_and_leave_a_sound_vault(self) -> None:
        self.verify()

    def test_03_of_which_everything_is_restored(self) -> None:
        request = restore_point(self.arm.latest_point(self.instance)["name"], self.target)
        self.arm.completed(self.arm.trigger_restore(self.instance, request))
        self.assertEqual(differences(self.expected, self.blobs(self.target).snapshot()), [])


if __name__ == "__main__":
    unittest.main()
