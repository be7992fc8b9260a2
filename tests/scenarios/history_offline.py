"""A history of the engine as a command: vaults in folders, sources in folders, `blobkeep offline` killed at any instant."""

from __future__ import annotations

import itertools
import random
import shutil
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

from harness import blobkeep
from histories import (
    Commands,
    Content,
    Ended,
    History,
    Loss,
    StoredVault,
    chance_of,
    check_that_loss_is_noticed,
    differences,
    digests_below,
    room,
)
from history_sources import FolderSource, Mover

VAULTS = 2
SOURCES = 2
MOST_POINTS = 16


class OfflineHistory(History):
    """Two vaults and two sources; every source goes to every vault."""

    def __init__(self, kills: int) -> None:
        super().__init__("offline", kills)
        chance = chance_of(self.name, "sources")
        self.sources = [FolderSource(self.folder / f"source-{number}") for number in range(SOURCES)]
        for source in self.sources:
            source.fill(chance)
        self.has_prune = blobkeep("offline", "prune", "--help").returncode == 0
        self._numbers = itertools.count()
        self.vaults = [self._new_vault(None, chance) for _ in range(VAULTS)]
        # The vault and the points that the last kill may have touched.
        self._last = self.vaults[0]

    def weights(self, chance: random.Random) -> dict[Callable[[random.Random, Optional[str]], None], float]:
        return {
            self.backup: 10,
            self.two_backups_at_once: 4,
            self.backup_of_a_moving_source: 3,
            self.restore: 4,
            self.verify: 1,
            self.another_vault: 1,
            self.prune: 5 if self.has_prune else 0,
            self.prune_beside_a_backup: 3 if self.has_prune else 0,
        }

    # --- steps -----------------------------------------------------------------------------------------------------

    def backup(self, chance: random.Random, how: Optional[str]) -> None:
        """A source changes and is backed up."""
        vault, source = self._choose(chance)
        source.change(chance)
        (ended,) = self._work("backup", how, chance, self._backup(vault, source))
        self._take_in(vault, [(ended, source, source.content())])

    def two_backups_at_once(self, chance: random.Random, how: Optional[str]) -> None:
        """Two processes write to one vault, and sometimes to the chain of one instance."""
        vault, source = self._choose(chance)
        sources = [source, source] if chance.random() < 0.3 else self.sources
        for source in sources:
            source.change(chance)
        ended = self._work("two backups", how, chance, *(self._backup(vault, source) for source in sources))
        self._take_in(vault, [(end, source, source.content()) for end, source in zip(ended, sources)])

    def backup_of_a_moving_source(self, chance: random.Random, how: Optional[str]) -> None:
        """A source changes while it is backed up: each file has one of the contents that it had."""
        vault, source = self._choose(chance)
        mover = Mover(source, chance)
        mover.start()
        (ended,) = self._work("moving backup", how, chance, self._backup(vault, source))
        self._take_in(vault, [(ended, source, mover.content())])

    def restore(self, chance: random.Random, how: Optional[str]) -> None:
        """A point is restored; if that is killed, the same again completes it."""
        vault, _ = self._choose(chance)
        point = self._point(vault, chance)
        if point is None:
            return self.note("nothing to restore")
        command = ["restore", "--point", point, "--on-conflict", "overwrite"]
        with room("restore") as target:
            (ended,) = self._work("restore", how, chance, vault.command(*command, "--target", str(target)))
            if ended.was_killed:
                (ended,) = Commands(vault.command(*command, "--target", str(target))).finish()
            expect_done(ended)
            found = differences(vault.points[point], digests_below(target))
        if found:
            raise Loss(f"point {point} of {vault.store} has other content:\n" + "\n".join(found[:20]))

    def verify(self, chance: random.Random, how: Optional[str]) -> None:
        """Looking changes nothing, also when it is killed."""
        vault, _ = self._choose(chance)
        (ended,) = self._work("verify", how, chance, vault.command("verify"))
        if not ended.was_killed:
            expect_done(ended)

    def another_vault(self, chance: random.Random, how: Optional[str]) -> None:
        """A vault that has many points is left, and another one made: also an init that was killed is run again and done."""
        number = chance.randrange(VAULTS)
        vault = self.vaults[number]
        if len(vault.points) < MOST_POINTS:
            return self.note("not yet")
        vault.check_all()
        shutil.rmtree(vault.store)
        self._last = self.vaults[number] = self._new_vault(how, chance)

    def prune(self, chance: random.Random, how: Optional[str]) -> None:
        """Points go and what they alone used; a prune that was killed has removed some of them, all or none."""
        vault, _ = self._choose(chance)
        doomed = self._doom(vault, chance)
        (ended,) = self._work("prune", how, chance, vault.command("prune", *ALONE, *doomed.options))
        self._take_out(vault, doomed, ended)
        vault.check_list()

    def prune_beside_a_backup(self, chance: random.Random, how: Optional[str]) -> None:
        """A prune and a backup of one vault at once."""
        vault, source = self._choose(chance)
        source.change(chance)
        # Whoever was killed before is out of the way: who is at work in this step is waited for.
        (ended,) = Commands(vault.command("prune", *ALONE)).finish()
        expect_done(ended)
        doomed = self._doom(vault, chance)
        commands = [self._backup(vault, source), vault.command("prune", *doomed.options)]
        backup, prune = self._work("prune beside backup", how, chance, *commands)
        self._take_out(vault, doomed, prune)
        self._take_in(vault, [(backup, source, source.content())], beside=[prune])
        if prune.was_killed:
            # What it was writing may have been left after the backup had looked: whoever comes next removes it.
            (ended,) = Commands(vault.command("prune", *ALONE)).finish()
            expect_done(ended)
            vault.check_temporary_files()

    # --- checks ----------------------------------------------------------------------------------------------------

    def check_after_kill(self, chance: random.Random) -> None:
        vault = self._last
        vault.check_list()
        vault.check_verifies()
        point = self._point(vault, chance)
        if point:
            vault.check_point(point)

    def check_everything(self) -> None:
        for vault in self.vaults:
            vault.check_all()

    def check_that_loss_is_noticed(self) -> None:
        """The checks of this history fail on damaged copies."""
        vault = max(self.vaults, key=lambda vault: len(vault.points))
        check_that_loss_is_noticed(vault, self.folder)

    def check_that_nothing_piles_up(self) -> None:
        """One backup that nobody kills leaves no temporary file in the vaults."""
        for vault in self.vaults:
            (ended,) = Commands(self._backup(vault, self.sources[0])).finish()
            expect_done(ended)
            vault.check_temporary_files()

    # --- the work --------------------------------------------------------------------------------------------------

    def _choose(self, chance: random.Random) -> tuple[StoredVault, FolderSource]:
        self._last = chance.choice(self.vaults)
        return self._last, chance.choice(self.sources)

    @staticmethod
    def _point(vault: StoredVault, chance: random.Random) -> Optional[str]:
        """A point by its place in time: ids are not of the seed."""
        where = chance.random()
        points = list(vault.points)
        return points[int(where * len(points))] if points else None

    @staticmethod
    def _backup(vault: StoredVault, source: FolderSource) -> list[str]:
        return vault.command("backup", "--source", str(source.folder))

    def _new_vault(self, how: Optional[str], chance: random.Random) -> StoredVault:
        number = next(self._numbers)
        vault = StoredVault(self.folder / f"vault-{number}", self.folder / f"vault-{number}.key")
        (ended,) = self._work("init", how, chance, vault.command("init"))
        if ended.was_killed:
            (ended,) = Commands(vault.command("init")).finish()
        expect_done(ended)
        return vault

    def _work(self, kind: str, how: Optional[str], chance: random.Random, *commands: list[str]) -> list[Ended]:
        """Runs commands, and kills them if they are to be killed."""
        as_group = chance.random() < 0.5
        if how is None or not self.instants.knows(kind):
            running = Commands(*commands)
            ended = running.finish()
            self.instants.learn(kind, running.seconds)
            return ended
        if how == "when acknowledged":
            running = Commands(*commands)
            ended = running.killed_when_acknowledged()
            self.count_kill(kind, None, running.seconds)
            return ended
        instant = self.instants.draw(kind)
        running = Commands(*commands)
        ended = running.killed_after(instant, group=as_group)
        is_hit = any(end.was_killed for end in ended)
        if not is_hit:
            self.instants.learn(kind, running.seconds)
        self.count_kill(kind, is_hit, instant)
        return ended

    def _take_in(self, vault: StoredVault, backups: list[tuple[Ended, FolderSource, Content]], beside: Sequence[Ended] = ()) -> None:
        """Acknowledged points are promised. Of a killed backup the point may be there, too, and then it is whole and stays. `beside` is
        what else ran at the time."""
        for ended, _, content in backups:
            if not ended.was_killed:
                expect_done(ended)
            if ended.answer:
                vault.points[ended.answer["id"]] = content
        listed = {point["id"]: point for point in vault.listed()}
        for ended, source, content in backups:
            for point in listed.keys() - vault.points.keys():
                if ended.answer is None and listed[point]["source"].endswith(str(source.folder)):
                    vault.points[point] = content
                    self.note("committed before the kill")
        vault.check_list()
        # Who came to its end has removed what others had left before it began, and not what was left while it ran.
        if not any(ended.was_killed for ended in (*(ended for ended, _, _ in backups), *beside)):
            vault.check_temporary_files()

    def _doom(self, vault: StoredVault, chance: random.Random) -> "Doomed":
        """Chooses points that a prune is to remove."""
        by_point, keep, point = chance.random() < 0.5, chance.randint(1, 4), self._point(vault, chance)
        if by_point and point:
            return Doomed(["--point", point], {point}, {point})
        by_instance: dict[str, list[tuple[str, str]]] = {}
        for listed in vault.listed():
            by_instance.setdefault(listed["instance"], []).append((listed["created"], listed["id"]))
        oldest_first = [[point for _, point in sorted(points)] for points in by_instance.values()]
        certain = {point for points in oldest_first for point in points[:-keep]}
        # A point that is made meanwhile counts among the last, and one more goes.
        possible = {point for points in oldest_first for point in points[: len(points) - keep + 1]}
        return Doomed(["--keep-last", str(keep)], certain, possible)

    def _take_out(self, vault: StoredVault, doomed: "Doomed", ended: Ended) -> None:
        """What a prune was told to remove has gone if it ended well, and may have gone if not."""
        listed = {point["id"] for point in vault.listed()}
        if not ended.was_killed:
            expect_done(ended)
            if doomed.certain & listed:
                raise Loss(f"a prune of {vault.store} left points that it was to remove: {sorted(doomed.certain & listed)}")
        for gone in doomed.possible - listed:
            vault.points.pop(gone, None)


# Nobody else works on the vault, so whoever is registered was killed, and is not waited for.
ALONE = ["--patience", "0"]


@dataclass
class Doomed:
    """What a prune is told: its options, the points that go, and those that may go because something else happens meanwhile."""

    options: list[str]
    certain: set[str]
    possible: set[str]


def expect_done(ended: Ended) -> None:
    """A command that nobody killed ends well."""
    if ended.code != 0 and not ended.was_killed:
        raise AssertionError(f"a command ended with {ended.code}: {ended.errors}")
