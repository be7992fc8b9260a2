"""What a history protects: sources that change by chance, in a folder or in an account, and that know what they hold."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path
from typing import Optional

from histories import KIB, MIB, Content, digest, exactly
from storage import Account

# Larger than the largest chunk, so that it is cut by content.
LARGE_BYTES = 2 * MIB + 700 * KIB
LARGE = "large/disk.img"
MOST_FILES = 30


class ChangingSource:
    """Files or blobs that change; a subclass puts, moves and removes them where they lie."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._held: dict[str, bytes] = {}
        # Every content that a name had, while somebody wants to know.
        self._had: dict[str, set[Optional[str]]] = {}

    def fill(self, chance: random.Random) -> None:
        """One large file and ten small ones."""
        self._write(LARGE, chance.randbytes(LARGE_BYTES))
        for _ in range(10):
            self._add(chance)

    def content(self) -> Content:
        """What a point made now must hold."""
        return exactly({name: digest(held) for name, held in self._held.items()})

    def watch(self) -> None:
        """From now on every content of every name is kept."""
        self._had = {name: {digest(held)} for name, held in self._held.items()}

    def watched(self) -> Content:
        """What a point made since `watch` may hold. What changed may be missing, too: what never stands still is skipped."""
        return {name: frozenset(had if len(had) == 1 else had | {None}) for name, had in self._had.items()}

    def change(self, chance: random.Random) -> None:
        """One to four changes of chance."""
        for _ in range(chance.randint(1, 4)):
            kinds = [self._add, self._replace, self._rename, self._delete, self._change_part]
            chance.choices(kinds, [3 if len(self._held) < MOST_FILES else 0, 2, 1, 1, 2])[0](chance)

    def put(self, name: str, content: bytes) -> None:
        """Stores a content, at once and whole."""
        raise NotImplementedError

    def move(self, old: str, new: str) -> None:
        """Gives it another name."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Removes it."""
        raise NotImplementedError

    def _small(self, chance: random.Random) -> Optional[str]:
        """Any but the large one."""
        names = sorted(self._held.keys() - {LARGE})
        return chance.choice(names) if names else None

    def _write(self, name: str, content: bytes) -> None:
        self.put(name, content)
        self._held[name] = content
        self._had.setdefault(name, {None}).add(digest(content))

    def _forget(self, name: str) -> bytes:
        self._had.setdefault(name, set()).add(None)
        return self._held.pop(name)

    def _add(self, chance: random.Random) -> None:
        self._write(f"{chance.randrange(4)}/{next(self._numbers):04}", chance.randbytes(chance.choice([0, 100, 20_000, 90_000])))

    def _replace(self, chance: random.Random) -> None:
        self._write(self._small(chance) or "first", chance.randbytes(chance.randint(1, 50_000)))

    def _rename(self, chance: random.Random) -> None:
        old, new = self._small(chance), f"moved/{next(self._numbers):04}"
        if old:
            self.move(old, new)
            self._held[new] = self._forget(old)
            self._had.setdefault(new, {None}).add(digest(self._held[new]))

    def _delete(self, chance: random.Random) -> None:
        name = self._small(chance)
        if name:
            self.remove(name)
            self._forget(name)

    def _change_part(self, chance: random.Random) -> None:
        content = bytearray(self._held[LARGE])
        start = chance.randrange(len(content))
        content[start : start + 40_000] = chance.randbytes(chance.randint(39_000, 41_000))
        self._write(LARGE, bytes(content[: 2 * LARGE_BYTES]))


class FolderSource(ChangingSource):
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder / "files"
        # What is being put in place lies outside of the source: a backup sees whole files only.
        self._beside = folder / "beside"
        self.folder.mkdir(parents=True)

    def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        self._beside.write_bytes(content)
        self._beside.replace(path)

    def move(self, old: str, new: str) -> None:
        (self.folder / new).parent.mkdir(exist_ok=True)
        (self.folder / old).rename(self.folder / new)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()


class AccountSource(ChangingSource):
    """Blobs of one container."""

    CONTAINER = "data"

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._container = account.container(self.CONTAINER)

    def put(self, name: str, content: bytes) -> None:
        self._container.upload_blob(name, content, overwrite=True)

    def move(self, old: str, new: str) -> None:
        self.put(new, self._held[old])
        self.remove(old)

    def remove(self, name: str) -> None:
        self._container.delete_blob(name)


class Mover(threading.Thread):
    """Changes a source while a backup of it runs."""

    CHANGES = 15

    def __init__(self, source: ChangingSource, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._source, self._chance = source, chance
        self._is_over = threading.Event()
        self._failure: Optional[Exception] = None
        source.watch()

    def run(self) -> None:
        """Changes come every few milliseconds, so that some hit what is being read; all come, so that the next step finds the same."""
        try:
            for _ in range(self.CHANGES):
                self._is_over.wait(0.01)
                self._source.change(self._chance)
        except Exception as error:  # told by `content`, where somebody listens
            self._failure = error

    def content(self) -> Content:
        """What the point may hold, once the changes are over."""
        self._is_over.set()
        self.join()
        if self._failure:
            raise self._failure
        return self._source.watched()
