"""The engine as a command: a vault in a folder, a key file, and nothing else. Folders and containers of Azurite, both ways."""

from __future__ import annotations

import json
import shutil
import unittest
from pathlib import Path
from typing import Any, ClassVar

from harness import Story, blobkeep, folder_bytes
from storage import MIB, Azurite, differences, fill_plain, seeded_bytes, seeded_text


def fill_folder(folder: Path) -> None:
    """Files of several sizes in several folders."""
    for number in range(60):
        path = folder / f"part-{number % 4}" / "deep" / f"file-{number:02} ü.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seeded_text(number * 700, "folder", number))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "large.bin").write_bytes(seeded_bytes(20 * MIB, "folder", "large"))


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name; what begins with a dot is bookkeeping of the folder itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            found[name] = path.read_bytes()
    return found


class OfflineStory(Story):
    """A vault with a key."""

    store: ClassVar[Path]
    key: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.store, cls.key = cls.folder / "vault", cls.folder / "vault.key"

    def offline(self, verb: str, *arguments: str, code: int = 0, **options: Any) -> str:
        """One command on the vault; what it printed."""
        store = ["--store", str(self.store), "--key-file", str(self.key)]
        return str(self.command("offline", verb, *store, *arguments, code=code, **options).stdout)

    def assert_same_files(self, restored: Path, expected: dict[str, bytes]) -> None:
        """Equal names and equal bytes, told without printing megabytes."""
        found = files(restored)
        self.assertEqual(sorted(found), sorted(expected))
        self.assertEqual([name for name in expected if found[name] != expected[name]], [], "files with other bytes")


class TestOfflineFolder(OfflineStory):
    """A folder backed up, changed, and restored in every way."""

    source: ClassVar[Path]
    first: ClassVar[dict[str, bytes]]
    second: ClassVar[dict[str, bytes]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.source = cls.folder / "documents"
        cls.source.mkdir()
        fill_folder(cls.source)
        cls.first = files(cls.source)

    def points(self) -> list[Any]:
        """The vault's points as `list --output json` prints them."""
        listed = json.loads(self.offline("list", "--output", "json"))
        return list(listed["points"] if isinstance(listed, dict) else listed)

    def test_01_init_makes_the_vault_and_the_key(self) -> None:
        self.offline("init")
        self.assertTrue((self.store / "vault.json").is_file())
        self.assertEqual(self.key.stat().st_mode & 0o077, 0, "only its owner may read the key")
        self.assertEqual(self.points(), [])

    def test_02_init_again_changes_nothing(self) -> None:
        key = self.key.read_bytes()
        vault = (self.store / "vault.json").read_bytes()
        store = ["--store", str(self.store), "--key-file", str(self.key)]
        blobkeep("offline", "init", *store)
        self.assertEqual((self.key.read_bytes(), (self.store / "vault.json").read_bytes()), (key, vault))

    def test_03_backup(self) -> None:
        self.offline("backup", "--source", str(self.source))
        self.assertEqual(len(self.points()), 1)

    def test_04_the_same_again_stores_almost_nothing(self) -> None:
        before = folder_bytes(self.store)
        self.offline("backup", "--source", str(self.source))
        self.assertLess(folder_bytes(self.store) - before, 64 * 1024)

    def test_05_a_change(self) -> None:
        (self.source / "empty.txt").write_text("not empty any more")
        (self.source / "added.txt").write_text("added")
        shutil.rmtree(self.source / "part-2")
        type(self).second = files(self.source)
        self.offline("backup", "--source", str(self.source))
        self.assertEqual(len(self.points()), 3)

    def test_06_restore_of_the_latest(self) -> None:
        target = self.folder / "latest"
        self.offline("restore", "--target", str(target), "--point", "latest")
        self.assert_same_files(target, self.second)

    def test_07_restore_of_the_first(self) -> None:
        target = self.folder / "first"
        oldest = min(self.points(), key=lambda point: str(point.get("created") or point.get("time") or point.get("created_at")))
        self.offline("restore", "--target", str(target), "--point", str(oldest.get("id") or oldest.get("point")))
        self.assert_same_files(target, self.first)

    def test_08_restore_of_a_prefix(self) -> None:
        target = self.folder / "prefix"
        self.offline("restore", "--target", str(target), "--prefix", "part-1/")
        self.assert_same_files(target, {name: data for name, data in self.second.items() if name.startswith("part-1/")})

    def test_09_what_is_there_is_not_overwritten_unasked(self) -> None:
        target = self.folder / "latest"
        (target / "added.txt").write_text("mine")
        self.offline("restore", "--target", str(target), code=1)
        self.assertEqual((target / "added.txt").read_text(), "mine")
        self.offline("restore", "--target", str(target), "--on-conflict", "skip")
        self.assertEqual((target / "added.txt").read_text(), "mine")
        self.offline("restore", "--target", str(target), "--on-conflict", "overwrite")
        self.assert_same_files(target, self.second)

    def test_10_verify(self) -> None:
        self.offline("verify")

    def test_11_another_key_opens_nothing(self) -> None:
        other_store, other_key = self.folder / "other-vault", self.folder / "other.key"
        self.command("offline", "init", "--store", str(other_store), "--key-file", str(other_key))
        wrong = ["--store", str(self.store), "--key-file", str(other_key)]
        target = self.folder / "by-the-wrong-key"
        for arguments in (
            ["list"],
            ["verify"],
            ["restore", "--target", str(target)],
            ["backup", "--source", str(self.source)],
        ):
            with self.subTest(verb=arguments[0]):
                verb, *rest = arguments
                done = self.command("offline", verb, *wrong, *rest, code=1)
                self.assertIn("key", done.stderr)
        self.assertFalse(target.exists() and files(target))
        self.assertEqual(len(self.points()), 3)

    def test_12_wrong_usage_is_2(self) -> None:
        self.command("offline", "restore", "--no-such-option", code=2)


class TestOfflineDamage(OfflineStory):
    """One flipped bit in each pack: verify finds it, restore never writes what it hits."""

    source: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.source = cls.folder / "documents"
        cls.source.mkdir()
        fill_folder(cls.source)

    def test_01_a_sound_vault_verifies(self) -> None:
        self.offline("init")
        self.offline("backup", "--source", str(self.source))
        self.offline("verify")

    def test_02_damage_is_found_and_never_restored(self) -> None:
        packs = sorted(path for path in (self.store / "packs").rglob("*") if path.is_file())
        self.assertNotEqual(packs, [])
        expected = files(self.source)
        for number, pack in enumerate(packs):
            for part in (3, 2):
                with self.subTest(pack=number, at=f"1/{part}"):
                    sound = pack.read_bytes()
                    at = len(sound) // part
                    pack.chmod(0o600)
                    pack.write_bytes(sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :])
                    try:
                        self.offline("verify", code=1)
                        target = self.folder / f"damaged-{number}-{part}"
                        self.offline("restore", "--target", str(target), code=1)
                        restored = files(target) if target.exists() else {}
                        self.assertEqual([name for name, data in restored.items() if expected.get(name) != data], [])
                    finally:
                        pack.write_bytes(sound)

    def test_03_a_missing_pack_is_found(self) -> None:
        pack = next(path for path in sorted((self.store / "packs").rglob("*")) if path.is_file())
        aside = self.folder / "aside"
        shutil.move(pack, aside)
        self.offline("verify", code=1)
        shutil.move(aside, pack)
        self.offline("verify")


class TestOfflineContainers(OfflineStory):
    """Containers of Azurite by their SAS, and between kinds of storage."""

    azurite: ClassVar[Azurite]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.azurite = Azurite(cls.folder, ["offlinesource", "offlinetarget"])
        cls.addClassCleanup(cls.azurite.stop)
        cls.azurite.start()
        source = cls.azurite.account("offlinesource")
        fill_plain(source, "one", 50, 9_000, "offline")
        blob = source.client.get_blob_client("one", "with properties ü")
        blob.upload_blob(b"content", metadata={"a": "b"}, tags={"t": "v"})

    def test_01_backup_of_a_container_by_its_address(self) -> None:
        self.offline("init")
        source = self.azurite.account("offlinesource")
        self.offline("backup", "--source", source.sas_url("one"))

    def test_02_restore_into_another_container(self) -> None:
        source, target = self.azurite.account("offlinesource"), self.azurite.account("offlinetarget")
        target.container("copy")
        self.offline("restore", "--target", target.sas_url("copy"))
        expected = source.snapshot().only("one", rename_to="copy")
        self.assertEqual(differences(expected, target.snapshot()), [])

    def test_03_restore_into_a_folder(self) -> None:
        folder = self.folder / "container-as-folder"
        self.offline("restore", "--target", str(folder), "--prefix", "3/")
        expected = {f"3/{n:05}.bin": seeded_bytes(9_000, ("offline",), "one", n) for n in range(50) if n % 7 == 3}
        self.assert_same_files(folder, expected)

    def test_04_an_account_with_several_containers(self) -> None:
        source, target = self.azurite.account("offlinesource"), self.azurite.account("offlinetarget")
        fill_plain(source, "two", 20, 5_000, "offline")
        fill_plain(source, "three", 20, 5_000, "offline")
        target.empty()
        self.offline("backup", env={"BLOBKEEP_CONNECTION_STRING": source.connection_string})
        chosen = ["--container", "one", "--container", "two", "--rename", "two=second"]
        self.offline("restore", *chosen, env={"BLOBKEEP_CONNECTION_STRING": target.connection_string})
        expected = source.snapshot().only("one")
        second = source.snapshot().only("two", rename_to="second")
        expected.containers.update(second.containers)
        expected.blobs.update(second.blobs)
        self.assertEqual(differences(expected, target.snapshot()), [])


if __name__ == "__main__":
    unittest.main()
