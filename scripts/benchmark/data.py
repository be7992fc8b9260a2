"""Sets of files, the same bytes for the same seed: even-numbered files are log-like text, odd ones random.

A set is changed by about 1 %. Of small files, 1 in 100 gets another second half and some more bytes, 1 in 1,000 is
deleted, 1 in 1,000 gets a new neighbour. Of every large file, 1 % of its megabytes are written anew where they are, and 1,000 bytes
are inserted at a third of it, which moves all that follows.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
PIECE = 4 * MIB
FILES_PER_FOLDER = 500


@dataclass(frozen=True)
class Shape:
    """How many files, and how large."""

    count: int
    least: int
    most: int
    is_large: bool = False

    def scaled(self, scale):
        """A smaller set of the same kind: fewer files, or smaller ones where the set has few and large ones."""
        if self.is_large:
            size = max(4 * MIB, int(self.most * scale) // MIB * MIB)
            return Shape(self.count, size, size, True)
        return Shape(max(20, int(self.count * scale)), self.least, self.most)

    def __str__(self):
        size = readable(self.least) if self.least == self.most else f"{readable(self.least)} to {readable(self.most)}"
        return f"{self.count:,} files of {size}"


SHAPES = {
    "S": Shape(20_000, 4 << 10, 64 << 10),
    "M": Shape(2_000, MIB, MIB),
    "L": Shape(8, 256 * MIB, 256 * MIB, True),
    "T": Shape(300_000, 100, 1_000),
}


def readable(size):
    """A size in the largest unit that gives a whole number."""
    for unit, name in ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"


def _tokens():
    """65,536 pieces of log lines, common words more often than rare ones: two random bytes choose one."""
    chance = random.Random("words")
    syllables = "ba con der ex for gra hi in jo ke lo mar no ot per qui re sta tu un ver wo xi yl zu".split()
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(4096)]
    levels = ("INFO", "INFO", "INFO", "DEBUG", "WARN")
    tokens = []
    for _ in range(1 << 16):
        kind = chance.random()
        if kind < 0.09:
            clock = f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.random() * 60:09.6f}"
            tokens.append(f"\n2026-03-{chance.randint(1, 31):02}T{clock}Z {chance.choice(levels)}")
        elif kind < 0.13:
            tokens.append(f" id={chance.randrange(1 << 64):016x}")
        else:
            # The square of a uniform number: a few words are common, most are rare.
            tokens.append(" " + words[int(chance.random() ** 2 * len(words))])
    return [token.encode() for token in tokens]


_TOKENS = _tokens()


def content(chance, size, is_text):
    """So many bytes of text or noise."""
    if not is_text:
        return chance.randbytes(size)
    pieces, length = [], 0
    while length < size:
        choice = memoryview(chance.randbytes(2 * max(64, (size - length) // 8))).cast("H")
        piece = b"".join(map(_TOKENS.__getitem__, choice))
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)[:size]


class FileSet:
    """A set of files in a folder, made from a shape and a seed."""

    def __init__(self, folder, shape, seed=1):
        self.folder, self.shape, self.seed = Path(folder), shape, seed

    def make(self):
        """Writes every file."""
        for index in range(self.shape.count):
            self._make_file(index)

    def path(self, index):
        """Where the file of this number lies."""
        ending = "log" if index % 2 == 0 else "bin"
        return self.folder / f"d{index // FILES_PER_FOLDER:05}" / f"f{index:08}.{ending}"

    def change(self, round_number):
        """Changes about 1 % of the files; returns the numbers of those, for `undo`, and the paths below the folder: written, deleted."""
        indices, written, deleted = [], [], []
        for index in range(self.shape.count):
            chance = random.Random(f"{self.seed}/{index}/change {round_number}")
            path = self.path(index)
            if self.shape.is_large:
                self._change_large(path, index, chance)
                written.append(path)
            else:
                kind = chance.random()
                if kind < 0.010 or (index == 0 and not written):
                    self._change_small(path, index, chance)
                    written.append(path)
                elif kind < 0.011:
                    path.unlink()
                    deleted.append(path)
                elif kind < 0.012:
                    added = self._added(path)
                    added.write_bytes(content(chance, chance.randint(self.shape.least, self.shape.most), index % 2 == 0))
                    written.append(added)
                else:
                    continue
            indices.append(index)
        relative = [[str(path.relative_to(self.folder)) for path in paths] for paths in (written, deleted)]
        return indices, *relative

    def undo(self, indices):
        """Makes the changed files what they were."""
        for index in indices:
            self._added(self.path(index)).unlink(missing_ok=True)
            self._make_file(index)

    def _make_file(self, index):
        chance = random.Random(f"{self.seed}/{index}")
        path = self.path(index)
        if index % FILES_PER_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        left = chance.randint(self.shape.least, self.shape.most)
        with path.open("wb") as file:
            while left:
                size = min(left, PIECE)
                file.write(content(chance, size, index % 2 == 0))
                left -= size

    @staticmethod
    def _added(path):
        return path.with_name(f"new-{path.name}")

    @staticmethod
    def _change_small(path, index, chance):
        old = path.read_bytes()
        half = len(old) // 2
        path.write_bytes(old[:half] + content(chance, len(old) - half + chance.randrange(100), index % 2 == 0))

    @staticmethod
    def _change_large(path, index, chance):
        is_text = index % 2 == 0
        size = path.stat().st_size
        regions = {chance.randrange(size // MIB) for _ in range(max(1, size // MIB // 100))}
        rewrite(path, [(region * MIB, content(chance, MIB, is_text)) for region in sorted(regions)])
        other = path.with_name(path.name + ".part")
        with path.open("rb") as source, other.open("wb") as target:
            left = size // 3
            while left:
                piece = source.read(min(left, PIECE))
                target.write(piece)
                left -= len(piece)
            target.write(content(chance, 1000, is_text))
            while piece := source.read(PIECE):
                target.write(piece)
        other.replace(path)


def rewrite(path, pieces):
    """Writes pieces of (offset, bytes) over a file."""
    with open(path, "r+b") as file:
        for offset, piece in pieces:
            file.seek(offset)
            file.write(piece)


def names(folder):
    """The paths of all files below a folder, relative and sorted."""
    found = []
    for parent, _, files in os.walk(folder):
        found.extend(os.path.relpath(os.path.join(parent, file), folder) for file in files)
    return sorted(found)


def difference(source, restored):
    """The first thing in which two folders differ, or nothing if names and bytes are equal."""
    expected, found = names(source), names(restored)
    if expected != found:
        odd = sorted(set(expected) ^ set(found))
        return f"{len(odd)} names are in one of {source} and {restored} only, such as {odd[0]}"
    for name in expected:
        with open(os.path.join(source, name), "rb") as one, open(os.path.join(restored, name), "rb") as other:
            while True:
                pair = one.read(MIB), other.read(MIB)
                if pair[0] != pair[1]:
                    return f"{name} has other bytes"
                if not pair[0]:
                    break
    return None
