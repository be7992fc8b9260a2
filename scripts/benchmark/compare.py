"""Comparisons: every tool does the same with the same data, one after the other, round after round.

A round: each tool makes a repository (not timed), a first backup and one of nothing new; then about 1 % of the data is changed; then
each tool backs that up and restores all. Every other round has the tools in reverse order. Ratios are taken inside a round, so a
machine that slows down meanwhile does not tell in them.
"""

import os
import shutil
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

from . import tools
from .blobs import files
from .data import MIB, SHAPES, FileSet, difference
from .endpoint import Azurite, Emulator
from .machine import Failed, folder_bytes, note, run, settle

CONTAINER = "data"
STEPS = ("full", "nochange", "changed", "restore")


def case_names():
    """Every case of comparison, and what it shows."""
    texts = {"folder": "a folder", "emulator": "the built-in emulator", "azurite": "Azurite"}
    return {f"{place}-{kind}": f"{text}: {shape}" for place, text in texts.items() for kind, shape in SHAPES.items()
            if not (kind == "T" and place != "folder")}


def kinds_of(case):
    """The kinds of tools that a case compares."""
    return tools.FOLDER_TOOLS if case.startswith("folder") else tools.BLOB_TOOLS


def run_case(case, setup):
    """All rounds of one case: the rows of measurements."""
    place, kind = case.split("-")
    if place == "azurite" and not setup.azurite:
        note(f"{case}: there is no Azurite: name it with --azurite, or run scripts/test once")
        return []
    with setup.folder() as work:
        shape = SHAPES[kind].scaled(setup.scale)
        data = FileSet(work / "source", shape)
        note(f"{case}: making {shape}")
        data.make()
        return Comparison(case, setup, work, data, lambda: _endpoint(place, setup, work)).rounds()


def _endpoint(place, setup, work):
    if place == "folder":
        return nullcontext()
    # Azurite frees the space of deleted blobs late: the rounds before must not fill the disk.
    shutil.rmtree(work / "azurite", ignore_errors=True)
    return Emulator(setup.binary) if place == "emulator" else Azurite(setup.azurite, work / "azurite")


class Comparison:
    """One case under way. Each round has an endpoint of its own, so that all begin alike."""

    def __init__(self, case, setup, work, data, start_endpoint):
        self.case, self.setup, self.work, self.data = case, setup, work, data
        self.start_endpoint, self.endpoint = start_endpoint, None
        self.tools = setup.tools.of(kinds_of(case))
        self.rows = []

    def rounds(self):
        """Runs them all: the rows of measurements."""
        for number in range(self.setup.rounds):
            with self.start_endpoint() as self.endpoint:
                if self.endpoint:
                    self.endpoint.blobs.create(CONTAINER)
                    self.endpoint.blobs.upload(CONTAINER, self.data.folder, files(self.data.folder))
                    self.endpoint.blobs.warm(CONTAINER, files(self.data.folder))
                self._round(number, self.tools[:: 1 if number % 2 == 0 else -1])
        return self.rows

    def _round(self, number, order):
        jobs = {tool.name: self._job(tool, number) for tool in order}
        for tool in order:
            with self._unless_it_fails(tool):
                if (command := tool.init(jobs[tool.name])) is not None:
                    run(command, tool.environment(jobs[tool.name]), self.work, log=self._log(tool))
                for step in ("full", "nochange"):
                    self._step(number, tool, jobs[tool.name], step)
        with self._changed(number):
            for tool in [tool for tool in order if tool in self.tools]:
                with self._unless_it_fails(tool):
                    self._step(number, tool, jobs[tool.name], "changed")
                    self._restore(number, tool, jobs[tool.name])
                shutil.rmtree(jobs[tool.name].store)
        shutil.rmtree(self.work / "cache", ignore_errors=True)

    @contextmanager
    def _unless_it_fails(self, tool):
        """A peer that fails takes no further part; the others go on."""
        try:
            yield
        except Failed as error:
            if tool.name == tools.Blobkeep.name:
                raise
            note(f"{self.case} goes on without {tool.name}: {error}")
            self.tools.remove(tool)

    def _job(self, tool, number):
        # Every round restores to a place of its own, and many small files stay there to the end: for minutes after a file was deleted ext4
        # makes a long search of every new one near it (`recently_deleted` in its source), and the next tool would pay for that.
        store, out = self.work / "stores" / tool.name, self.work / "out" / f"{tool.name}-{number}"
        shutil.rmtree(store, ignore_errors=True)
        for folder in (store, out):
            folder.mkdir(parents=True)
        if self.endpoint:
            return tools.Job(self.work, store, out, container=CONTAINER, target=f"restored-{tool.name}", endpoint=self.endpoint)
        return tools.Job(self.work, store, out, source=self.data.folder)

    @contextmanager
    def _changed(self, number):
        indices, written, deleted = self.data.change(number)
        if self.endpoint:
            # Endpoints tell times in seconds: a tool that goes by them must see that this is later.
            time.sleep(1.1)
            self.endpoint.blobs.upload(CONTAINER, self.data.folder, written)
            self.endpoint.blobs.remove(CONTAINER, deleted)
        try:
            yield
        finally:
            self.data.undo(indices)

    def _step(self, number, tool, job, step):
        stored = folder_bytes(job.store)
        command = tool.restore(job) if step == "restore" else tool.backup(job, step)
        if self.setup.settle:
            settle(self.work, job.store, self.work / "azurite" if self.endpoint else self.data.folder)
        # Borg extracts to where it is.
        folder = job.out if step == "restore" else self.work
        row = run(command, tool.environment(job), folder, self.endpoint.pid if self.endpoint else None, self._log(tool))
        added = folder_bytes(job.store) - stored
        del row["output"]
        self.rows.append({"case": self.case, "step": step, "tool": tool.name, "round": number, **row, "stored_mib": added / (1 << 20)})
        note(f"{self.case} round {number + 1} {tool.name} {step}: {row['wall_s']:.2f} s")

    def _restore(self, number, tool, job):
        if self.endpoint and not tool.makes_target:
            self.endpoint.blobs.create(job.target)
        self._step(number, tool, job, "restore")
        if self.setup.verify and number + 1 == self.setup.rounds:
            odd = self._difference(tool, job)
            self.rows[-1]["is_equal"] = odd is None
            note(f"{self.case} {tool.name}: the restore is {'equal, byte for byte' if odd is None else f'DIFFERENT: {odd}'}")
        if self.endpoint:
            self.endpoint.blobs.delete(job.target)
        if self.data.shape.most >= MIB:
            shutil.rmtree(job.out)

    def _difference(self, tool, job):
        if self.endpoint:
            return self.endpoint.blobs.difference(job.target, self.data.folder, files(self.data.folder))
        return difference(self.data.folder, tool.restored(job))

    def _log(self, tool):
        return self.work / f"{tool.name}.log"


def azurite_program(given, top):
    """Azurite's blob service: as named, on the PATH, or where the tests keep theirs."""
    kept = Path(top, "target/tools/azurite/node_modules/azurite/dist/src/blob/main.js")
    return given or shutil.which("azurite-blob") or (kept if os.path.exists(kept) else None)
