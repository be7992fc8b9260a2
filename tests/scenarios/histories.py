"""What histories stand on: choices from a seed, instants to kill at, processes to be killed, and what a point must hold.

A history works on vaults by steps of chance and is killed again and again. Its steps follow from the seed alone: each step
draws from a generator of its own, and none depends on what a kill did to the one before. The instants of kills follow from what
steps take on this machine, so that kills hit work wherever it is told.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Optional

from harness import BLOBKEEP, _children, blobkeep

KIB = 1024
MIB = 1024 * KIB
SEED = int(os.environ.get("BLOBKEEP_SEED") or random.SystemRandom().randrange(1_000_000))

# What a point may hold under each name: digests of contents, `None` among them if the name may be missing.
Content = Mapping[str, frozenset[Optional[str]]]


def chance_of(*names: object) -> random.Random:
    """The generator of one step: the same for the same seed and names."""
    return random.Random(repr((SEED, *names)))


def digest(content: bytes) -> str:
    """What stands for a content."""
    return hashlib.sha256(content).hexdigest()


def exactly(files: Mapping[str, str]) -> Content:
    """The content of a source at rest."""
    return {name: frozenset([found]) for name, found in files.items()}


def differences(allowed: Content, found: Mapping[str, str]) -> list[str]:
    """Where a restored point is not what it must be, one line a difference."""
    lines = []
    for name in sorted(allowed.keys() | found.keys()):
        wanted = allowed.get(name, frozenset([None]))
        if found.get(name) not in wanted:
            lines.append(f"{name}: {found.get(name) or 'missing'} instead of {' or '.join(map(str, wanted))}")
    return lines


def digests_below(folder: Path) -> dict[str, str]:
    """Every file of a restored folder; what begins with a dot is bookkeeping of the folder itself."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: digest((folder / name).read_bytes()) for name in names if not name.startswith(".")}


class Loss(AssertionError):
    """A vault does not hold what it promised."""


class Instants:
    """When to kill: uniform over what a kind of step took lately, drawn in where kills came too late."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lately: dict[str, deque[float]] = {}
        self._reach: dict[str, float] = {}
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()

    def learn(self, kind: str, seconds: float) -> None:
        """A step of that kind ran to its end."""
        self._lately.setdefault(kind, deque(maxlen=7)).append(seconds)

    def knows(self, kind: str) -> bool:
        """Such a step has been seen to its end: without that no instant can be chosen."""
        return kind in self._lately

    def draw(self, kind: str) -> float:
        """Seconds after the beginning of a step."""
        # On a machine whose load changes the quicker ones tell more: a kill that comes too late proves little.
        lately = sorted(self._lately[kind])
        return self._chance.random() * self._reach.get(kind, 0.9) * lately[len(lately) // 3]

    def judge(self, kind: str, is_hit: bool) -> None:
        """Whether the process was still at work when the kill came."""
        (self.hits if is_hit else self.misses)[kind] += 1
        self._reach[kind] = min(self._reach.get(kind, 0.9) * (1.04 if is_hit else 0.8), 1.0)

    def share_of_hits(self) -> float:
        """Of all kills at a chosen instant."""
        hits, misses = self.hits.total(), self.misses.total()
        return hits / (hits + misses) if hits + misses else 1.0

    def are_good(self) -> bool:
        """Enough kills came while there was work to be cut off."""
        return self.share_of_hits() >= 2 / 3


@dataclass
class Ended:
    """How a command ended; `answer` is what it printed as JSON, if it came so far."""

    code: int
    answer: Any
    errors: str

    @property
    def was_killed(self) -> bool:
        """It was at work when the kill came."""
        return self.code == -signal.SIGKILL


class Commands:
    """One or several commands that run at once, in one process group, each printing JSON."""

    def __init__(self, *commands: list[str]) -> None:
        self._began = time.monotonic()
        self._children: list[subprocess.Popen[bytes]] = []
        for command in commands:
            # The first child leads the group that the others join.
            group = self._children[0].pid if self._children else 0
            child = subprocess.Popen(
                [str(BLOBKEEP), *command, "--output", "json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                preexec_fn=lambda: os.setpgid(0, group),
            )
            self._children.append(child)
            _children.append(child)
        self._outputs: dict[int, tuple[bytes, bytes]] = {}
        self.seconds = 0.0

    def finish(self) -> list[Ended]:
        """All of them, run to their ends."""
        return self._collect(300.0)

    def killed_after(self, seconds: float, *, group: bool) -> list[Ended]:
        """All of them, killed at that time after they began, at once as a group or one after the other."""
        for child in self._children:
            try:
                left = max(seconds - (time.monotonic() - self._began), 0.0)
                self._outputs[child.pid] = child.communicate(timeout=left)
            except subprocess.TimeoutExpired:
                pass
        self._kill(group)
        return self._collect(30.0)

    def killed_when_acknowledged(self) -> list[Ended]:
        """The first, killed as soon as it has said that it is done; the others with it."""
        first = self._children[0]
        said = b""
        while parsed(said) is None:
            assert first.stdout
            more = first.stdout.read(64 * KIB)
            if not more:
                break
            said += more
        self._kill(group=True)
        ended = self._collect(30.0)
        ended[0].answer = parsed(said)
        return ended

    def _kill(self, group: bool) -> None:
        running = [child for child in self._children if child.poll() is None]
        if group and running:
            # A child that has not been waited for keeps the group's number from being given to others.
            os.killpg(self._children[0].pid, signal.SIGKILL) if self._children[0] in running else [c.kill() for c in running]
        else:
            for child in running:
                child.kill()

    def _collect(self, seconds: float) -> list[Ended]:
        ended = []
        for child in self._children:
            out, errors = self._outputs.get(child.pid) or child.communicate(timeout=seconds)
            ended.append(Ended(child.returncode, parsed(out), errors.decode("utf-8", "replace")))
        self.seconds = time.monotonic() - self._began
        return ended


def parsed(text: bytes) -> Any:
    """JSON, if it is whole."""
    try:
        return json.loads(text)
    except ValueError:
        return None


@dataclass
class StoredVault:
    """A vault's folder and key, and the points that it must hold, by their ids."""

    store: Path
    key: Path
    points: dict[str, Content] = field(default_factory=dict)

    def command(self, verb: str, *arguments: str) -> list[str]:
        """The arguments of one offline command."""
        return ["offline", verb, "--store", str(self.store), "--key-file", str(self.key), *arguments]

    def listed(self) -> list[dict[str, Any]]:
        """The points that the vault says it has."""
        done = blobkeep(*self.command("list", "--output", "json"))
        if done.returncode != 0:
            raise Loss(f"{self.store} cannot be listed: {done.stdout}{done.stderr}")
        answer = json.loads(done.stdout)
        return list(answer["points"] if isinstance(answer, dict) else answer)

    def check_verifies(self) -> None:
        """The engine's own judgement."""
        done = blobkeep(*self.command("verify"))
        if done.returncode != 0:
            raise Loss(f"{self.store} does not verify: {done.stdout}{done.stderr}")

    def check_list(self, allowed: Optional[set[str]] = None) -> None:
        """Exactly the points that it must hold are there; those `allowed` may be, too."""
        listed = {point["id"] for point in self.listed()}
        missing, stray = self.points.keys() - listed, listed - self.points.keys() - (allowed or set())
        if missing or stray:
            raise Loss(f"{self.store}: acknowledged points that are missing: {sorted(missing)}; points of nobody: {sorted(stray)}")

    def check_point(self, point: str, *options: str) -> None:
        """One point, restored to the byte."""
        with room("restored") as target:
            done = blobkeep(*self.command("restore", "--point", point, "--target", str(target), *options))
            if done.returncode != 0:
                raise Loss(f"point {point} of {self.store} cannot be restored: {done.stdout}{done.stderr}")
            found = differences(self.points[point], digests_below(target))
        if found:
            raise Loss(f"point {point} of {self.store} has other content:\n" + "\n".join(found[:20]))

    def check_all(self, *options: str) -> None:
        """Everything that can be checked."""
        self.check_list()
        self.check_verifies()
        for point in list(self.points):
            self.check_point(point, *options)

    def check_temporary_files(self) -> None:
        """After a step that wrote, nothing is left of what killed ones were writing."""
        left = [path.name for path in (self.store / "tmp").iterdir()]
        if left:
            raise Loss(f"{self.store}/tmp holds {len(left)} files of processes that have ended, such as {left[0]}")


class room:  # noqa: N801 - reads as a word
    """A folder name for a restore that only has to be looked at: in memory where the system has such a place."""

    def __init__(self, name: str) -> None:
        shared = Path("/dev/shm")
        self._folder = tempfile.mkdtemp(prefix=f"blobkeep-{name}-", dir=shared if os.access(shared, os.W_OK) else None)

    def __enter__(self) -> Path:
        return Path(self._folder) / "target"

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def check_that_loss_is_noticed(vault: StoredVault, folder: Path, *options: str) -> None:
    """Copies of the vault in which something is lost must not pass the checks: a history that notices nothing proves nothing."""
    largest = max((path for path in vault.store.glob("packs/*/*")), key=lambda path: path.stat().st_size)
    # Files that a kill left and nothing refers to may be lost unnoticed, and rightly so.
    promised = next(path for path in vault.store.glob("points/*/*") if path.name in vault.points)
    chain = vault.store / "state" / promised.parent.name

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)

    damages: list[tuple[str, Path, Callable[[Path], None], Iterable[str]]] = [
        ("a flipped byte in a pack", largest, flip, ("check_verifies", "check_all")),
        ("lost packs", vault.store / "packs", shutil.rmtree, ("check_verifies", "check_all")),
        ("a lost point", promised, Path.unlink, ("check_verifies", "check_all")),
        # The engine cannot know of records that were cut off at the end; whoever remembers their points can.
        ("lost acknowledgements", chain, shutil.rmtree, ("check_list",)),
    ]
    for what, path, damage, checks in damages:
        for check in checks:
            copy = StoredVault(folder / "damaged", vault.key, vault.points)
            shutil.copytree(vault.store, copy.store)
            damage(copy.store / path.relative_to(vault.store))
            try:
                getattr(copy, check)()
            except Loss:
                continue
            finally:
                shutil.rmtree(copy.store)
            raise AssertionError(f"{check} did not notice {what}: {path.relative_to(vault.store)}")


class History:
    """A story of chance: weighted steps, some of them killed; what was done so far; where it is kept."""

    # Of the steps that may be killed, how many are, and of these how many right after their acknowledgement.
    KILLED_SHARE = 0.6
    ACKNOWLEDGED_SHARE = 0.12

    def __init__(self, name: str, kills: int) -> None:
        self.name = name
        self.kills_wanted = kills
        self.kills = 0
        self.steps: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix=f"blobkeep-history-{name}-"))
        self.instants = Instants(chance_of(name, "instants"))

    def weights(self, chance: random.Random) -> dict[Callable[[random.Random, Optional[str]], None], float]:
        """Steps and how often each is taken. A step gets its generator and how to kill it, if at all."""
        raise NotImplementedError

    def check_after_kill(self, chance: random.Random) -> None:
        """What must hold after every kill."""
        raise NotImplementedError

    def check_everything(self) -> None:
        """What must hold now and then, and at the end."""
        raise NotImplementedError

    def tell(self) -> None:
        """Takes steps until there were enough kills; then everything is checked. Where few of them hit, up to twice as many are tried."""
        while self.kills < self.kills_wanted or (not self.instants.are_good() and self.kills < 2 * self.kills_wanted):
            number = len(self.steps) + 1
            chance = chance_of(self.name, number)
            weights = self.weights(chance)
            step = chance.choices(list(weights), list(weights.values()))[0]
            how = None
            if chance.random() < self.KILLED_SHARE:
                how = "when acknowledged" if chance.random() < self.ACKNOWLEDGED_SHARE else "at an instant"
            self.steps.append(f"{number:4} {step.__name__}")
            before = self.kills
            step(chance, how)
            if self.kills > before:
                self.check_after_kill(chance)
                if self.kills % 10 == 0:
                    self.check_everything()
                if self.kills % 50 == 0:
                    print(f"    seed {SEED}, {self.name}: {self.summary()}", flush=True)
        self.check_everything()
        if not self.instants.are_good():
            raise AssertionError(f"too few kills hit a process at work: {self.summary()}")

    def note(self, text: str) -> None:
        """Adds to the line of the present step."""
        self.steps[-1] += f"; {text}"

    def count_kill(self, kind: str, is_hit: Optional[bool], after: float) -> None:
        """One more kill; `None` where it came after the acknowledgement on purpose."""
        self.kills += 1
        if is_hit is not None:
            self.instants.judge(kind, is_hit)
        verdict = {True: "at work", False: "too late", None: "acknowledged"}[is_hit]
        self.note(f"kill {self.kills} of {kind} after {after:.3f} s ({verdict})")

    def summary(self) -> str:
        """Kills in figures."""
        kinds = sorted(self.instants.hits.keys() | self.instants.misses.keys())
        by_kind = ", ".join(f"{kind} {self.instants.hits[kind]}/{self.instants.hits[kind] + self.instants.misses[kind]}" for kind in kinds)
        share = self.instants.share_of_hits()
        return f"{len(self.steps)} steps, {self.kills} kills, {share:.0%} of those at an instant hit a process at work ({by_kind})"

    def forget(self) -> None:
        """The history went well: nothing of it is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def account(self) -> str:
        """How to tell it again, and what was done."""
        return f"seed {SEED} (repeat with --seed {SEED}); kept in {self.folder}\n" + "\n".join(self.steps[-60:])
