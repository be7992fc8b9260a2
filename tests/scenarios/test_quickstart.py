"""The first command that a newcomer runs: it tells the whole story by itself, and says so by its exit code."""

from __future__ import annotations

import time
import unittest

from harness import Story


class TestQuickstart(Story):
    """`blobkeep quickstart`, in an empty home."""

    steps_depend = False

    def test_it_ends_well_within_a_minute(self) -> None:
        home = self.folder / "home"
        home.mkdir()
        started = time.monotonic()
        done = self.command("quickstart", seconds=90, cwd=home, env={"HOME": str(home)})
        self.assertLess(time.monotonic() - started, 60)
        self.assertIn("https://", done.stdout, "it says where it can be reached")

    def test_a_folder_of_ones_own(self) -> None:
        mine = self.folder / "mine"
        (mine / "letters").mkdir(parents=True)
        (mine / "letters" / "one.txt").write_text("Dear reader")
        (mine / "letters" / "two ü.txt").write_text("Dear other reader")
        before = {path: path.read_bytes() for path in mine.rglob("*.txt")}
        home = self.folder / "home2"
        home.mkdir()
        self.command("quickstart", "--source", str(mine), seconds=90, cwd=home, env={"HOME": str(home)})
        self.assertEqual({path: path.read_bytes() for path in mine.rglob("*.txt")}, before, "it never touches the user's files")


if __name__ == "__main__":
    unittest.main()
