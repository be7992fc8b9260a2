"""The operational tier of an account that keeps versions and writes a change feed: any instant comes back exactly, by copies inside the
account. The storage is the built-in emulator, for Azurite has neither.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import ClassVar

from azure.storage.blob import ContentSettings, StandardBlobTier

from arm import (
    BACKUP_CONTRIBUTOR,
    OPERATIONAL_RULES,
    Arm,
    account_id,
    now,
    restore_ranges,
    restore_time,
    vault_id,
    wait_restorable,
)
from harness import BLOBKEEP, Process, Service, Story, eventually
from storage import Account, Snapshot, differences, fill_plain, seeded_text

CONFIG = "[operational]\ninterval_seconds = 1\n"


class TestContinuous(Story):
    """An account that changes all the time, and goes back to several instants of its past."""

    service: ClassVar[Service]
    arm: ClassVar[Arm]
    account: ClassVar[Account]
    account_id: ClassVar[str]
    instance: ClassVar[str]
    past: ClassVar[list[tuple[datetime, Snapshot]]] = []

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        command = [str(BLOBKEEP), "emulator", "--listen", "127.0.0.1:0", "--account", "living", "--versioning", "--change-feed"]
        emulator = Process(command, cls.folder / "emulator.out")
        cls.addClassCleanup(emulator.end)
        fields = emulator.wait_for_line("AccountName=living;AccountKey=([^;]+);BlobEndpoint=([^;]+);", 30)
        cls.account = Account("living", fields.group(1), fields.group(2))
        cls.service = cls.start_service(CONFIG)
        cls.arm = Arm(cls.service.env, cls.transcript)
        group = cls.arm.make_group("continuous")
        cls.account_id = account_id(group, "living")
        cls.arm.connect_account(cls.account_id, cls.account.connection_string)
        vault = vault_id(group, "vault")
        principal = cls.arm.make_vault(vault)
        cls.arm.assign(BACKUP_CONTRIBUTOR, principal, cls.account_id)
        policy = cls.arm.make_policy(vault, "continuous", *OPERATIONAL_RULES)
        cls.instance = f"{vault}/backupInstances/living"
        fill_plain(cls.account, "data", 60, 20_000, "first")
        fill_plain(cls.account, "more", 10, 500_000, "first")
        cls.arm.make_instance(cls.instance, cls.account_id, policy)

    @classmethod
    def remember(cls) -> None:
        """Notes what the account holds at this instant."""
        state = cls.account.snapshot()
        instant = now()
        cls.past.append((instant, state))
        # What follows is later, however coarse the clocks are.
        while (now() - instant).total_seconds() < 0.1:
            time.sleep(0.01)

    def restored(self, instant: datetime, *ranges: tuple[str, str]) -> None:
        wait_restorable(self.arm, self.instance, instant)
        request = restore_ranges(instant, self.account_id, *ranges) if ranges else restore_time(instant, self.account_id)
        job = self.arm.completed(self.arm.trigger_restore(self.instance, request))
        self.assertEqual(job["properties"]["sourceDataStoreType"], "OperationalStore")
        self.assertEqual(job["properties"]["extendedInfo"]["additionalDetails"]["MissingBlobs"], "0")

    def test_01_the_look_has_seen_that_the_account_keeps_versions(self) -> None:
        def look() -> bool:
            shown = self.arm.get(f"{self.account_id}/blobServices/default", version="2023-05-01").expect(200).json["properties"]
            self.assertEqual(shown["blobkeep"], {"keepsVersions": True})
            return bool(shown["isVersioningEnabled"])

        eventually("versions to be seen", look)

    def test_02_the_account_lives(self) -> None:
        data = self.account.client.get_container_client("data")
        names = sorted(blob.name for blob in data.list_blobs())
        # A tier that was set can be set again; one that was inherited cannot be inherited again.
        data.get_blob_client(names[22]).set_standard_blob_tier(StandardBlobTier.HOT)
        self.remember()
        for name in names[:10]:
            data.upload_blob(name, seeded_text(5_000, name), overwrite=True, metadata={"time": "second"})
        for name in names[10:20]:
            data.delete_blob(name)
        self.remember()
        data.get_blob_client(names[20]).set_blob_metadata({"changed": "yes"})
        data.get_blob_client(names[21]).set_blob_tags({"changed": "yes"})
        data.get_blob_client(names[22]).set_standard_blob_tier(StandardBlobTier.COOL)
        data.get_blob_client(names[23]).set_http_headers(ContentSettings(content_type="text/plain"))
        data.upload_blob(names[10], b"once more, another one")
        self.remember()
        fill_plain(self.account, "made-later", 20, 3_000, "later")
        data.upload_blob("came-later", b"")
        for name in names[30:40]:
            data.delete_blob(name)
        self.remember()
        for round_number in range(5):
            data.upload_blob(names[0], seeded_text(1_000, round_number), overwrite=True)
            self.remember()

    def test_03_every_instant_comes_back_exactly_in_any_order(self) -> None:
        for number in (3, 0, 6, 1, len(self.past) - 1, 2):
            instant, wanted = self.past[number]
            self.restored(instant)
            found = [line for line in differences(wanted, self.account.snapshot()) if not line.startswith("container made-later")]
            self.assertEqual(found, [], f"instant {number}")

    def test_04_a_range_comes_back_and_nothing_else(self) -> None:
        before = self.account.snapshot()
        instant, wanted = self.past[3]
        self.restored(instant, ("data/0", "data/3"), ("more", "more-0"))
        after = self.account.snapshot()
        for key, state in {**before.blobs, **after.blobs, **wanted.blobs}.items():
            container, name = key
            is_chosen = container == "more" or (container == "data" and "0" <= name < "3")
            expected = wanted.blobs.get(key) if is_chosen else before.blobs.get(key)
            self.assertEqual(after.blobs.get(key), expected, key)

    def test_05_a_version_that_is_gone_refuses_the_restore_before_anything_changes(self) -> None:
        data = self.account.client.get_container_client("data")
        data.upload_blob("precious", b"first", overwrite=True)
        self.remember()
        data.upload_blob("precious", b"second", overwrite=True)
        data.upload_blob("other", b"later", overwrite=True)
        for version in data.list_blobs(name_starts_with="precious", include=["versions"]):
            if not version.is_current_version:
                data.delete_blob("precious", version_id=version.version_id)
        before = self.account.snapshot()
        instant = self.past[-1][0]
        wait_restorable(self.arm, self.instance, instant)
        accepted = self.arm.trigger_restore(self.instance, restore_time(instant, self.account_id))
        job = self.arm.wait_job(self.arm.done(accepted).job_id)
        self.assertEqual(job["properties"]["status"], "Failed", job)
        (error,) = job["properties"]["errorDetails"]
        self.assertEqual(error["code"], "UserErrorInvalidRecoveryPointInTime")
        self.assertIn("data/precious", error["message"])
        self.assertEqual(differences(before, self.account.snapshot()), [])

    def test_06_a_killed_service_goes_on_without_a_gap(self) -> None:
        data = self.account.client.get_container_client("data")
        self.service.kill()
        data.upload_blob("while-nobody-looked", b"one")
        self.remember()
        data.delete_blob("while-nobody-looked")
        self.service.start()
        query = {"sourceDataStoreType": "OperationalStore", "startTime": "", "endTime": ""}
        wait_restorable(self.arm, self.instance, self.past[-1][0])
        ranges = self.arm.post(f"{self.instance}/findRestorableTimeRanges", query).expect(200).json["properties"]["restorableTimeRanges"]
        self.assertEqual(len(ranges), 1, ranges)
        self.restored(self.past[-1][0], ("data/while", "data/whim"))
        self.assertEqual(data.download_blob("while-nobody-looked").readall(), b"one")
