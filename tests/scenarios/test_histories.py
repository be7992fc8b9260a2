"""Histories of chance: the engine as a command and as a service, killed again and again at any instant, lose nothing that was acknowledged.

15 kills, with --long 500. The seed is printed with every failure; `run.py --seed N` tells the same steps again, BLOBKEEP_KILLS
wants another number of kills of each history.
"""

from __future__ import annotations

import os
import unittest
from typing import Callable, ClassVar, Optional

from harness import Story
from histories import SEED, History
from history_offline import OfflineHistory
from history_service import ServiceHistory

IS_LONG = bool(os.environ.get("BLOBKEEP_LONG"))


def kills(short: int, long: int) -> int:
    """How many kills a history gets."""
    return int(os.environ.get("BLOBKEEP_KILLS") or (long if IS_LONG else short))


class HistoryStory(Story):
    """One history, kept where it failed."""

    history: ClassVar[Optional[History]] = None

    def told(self, work: Callable[[], None]) -> None:
        """Does it; a failure comes with the seed, the steps and the place."""
        assert self.history
        try:
            work()
        except Exception as error:
            self.transcript.add(self.history.account())
            raise AssertionError(f"{error}\n{self.history.account()}") from error
        except BaseException:
            print(self.history.account(), flush=True)
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.history and not cls._broken:
            cls.history.forget()
        super().tearDownClass()


class TestOfflineHistory(HistoryStory):
    """`blobkeep offline` on vaults and sources in folders."""

    history: ClassVar[OfflineHistory]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.history = OfflineHistory(kills(8, 300))

    def test_01_no_kill_costs_an_acknowledged_point(self) -> None:
        self.told(self.history.tell)
        print(f"    seed {SEED}: {self.history.summary()}", flush=True)

    def test_02_an_engine_that_loses_data_would_be_noticed(self) -> None:
        self.told(self.history.check_that_loss_is_noticed)

    def test_03_nothing_piles_up(self) -> None:
        self.told(self.history.check_that_nothing_piles_up)


class TestServiceHistory(HistoryStory):
    """`blobkeep serve` with accounts of the emulator, over the API."""

    history: ClassVar[ServiceHistory]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.history = ServiceHistory(kills(7, 200), cls.transcript)
        cls.addClassCleanup(cls.history.stop)

    def test_01_no_kill_costs_an_acknowledged_point(self) -> None:
        self.told(self.history.tell)
        print(f"    seed {SEED}: {self.history.summary()}", flush=True)

    def test_02_an_engine_that_loses_data_would_be_noticed(self) -> None:
        self.told(self.history.check_that_loss_is_noticed)

    def test_03_nothing_piles_up(self) -> None:
        self.told(self.history.check_that_nothing_piles_up)


if __name__ == "__main__":
    unittest.main()
