"""Cases that hold Blobkeep to its bounds: what an unchanged account costs, memory at ten million blobs, what a prune reads, what
a changed megabyte adds. They give figures of their own beside the usual columns."""

import json
import random
import shutil
from pathlib import Path

from . import tools
from .data import MIB, SHAPES, FileSet, rewrite
from .endpoint import Emulator
from .machine import Failed, folder_bytes, note, run
from .own import Vault

CASES = {
    "listing-1m": "1,000,000 unchanged blobs: the time beside that of merely listing them",
    "huge": "10,000,000 blobs: first backup, unchanged, restore of 1,000; memory beside that of 100,000",
    "prune": "a vault of 10 GiB, every other of its points deleted: what is read beside what is rewritten",
    "change": "a changed megabyte in every file of 256 MiB: what each adds, of every tool for folders",
}
SYNTHETIC_FOLDER, RESTORED = 10_000, 1_000
# Ten points; each brings a GiB, half of which the next one still has.
POINTS, POINT_FILES = 10, 1024


def case_names():
    """Every case, and what it shows."""
    return CASES


def run_case(case, setup):
    """One case: the rows of measurements, those with a `figures` text among them."""
    work_of = {"listing-1m": _listing, "huge": _huge, "prune": _prune, "change": _change}[case]
    with setup.folder() as work:
        return [{"case": case, "tool": "blobkeep", "round": 0, **row} for row in work_of(setup, work)]


def _listing(setup, work):
    lister = Path(setup.binary).parent / "examples/list"
    if not lister.exists():
        raise Failed(f"{lister} is not there: cargo build --release -p blobkeep-source --example list")
    rows, count = [], max(1000, int(1_000_000 * setup.scale))
    with Emulator(setup.binary, [f"unchanged={count}:100:1000"]) as emulator:
        vault = Vault(setup.binary, work)
        source = {"connection": emulator.source, "beside": emulator.pid}
        rows.append(vault.step("first backup", "backup", **source))
        for number in range(setup.rounds):
            listed = run([lister], {"BLOBKEEP_CONNECTION_STRING": emulator.source}, beside=emulator.pid)
            del listed["output"]
            row = vault.step("nothing changed", "backup", **source)
            ratio = row["wall_s"] / listed["wall_s"]
            rows.append({"step": "list only", "round": number, **listed, "stored_mib": 0.0})
            rows.append({"step": "nothing changed", "round": number, **row, "figures": {"time ÷ listing": ratio}})
    return rows


def _huge(setup, work):
    rows, peaks = [], {}
    most = max(20_000, int(10_000_000 * setup.scale))
    for count in (most // 100, most):
        part = work / str(count)
        part.mkdir()
        with Emulator(setup.binary, [f"huge={count}:100:1000"]) as emulator:
            for row in _huge_steps(setup, part, emulator, count):
                peaks[row["kind"], count] = row["peak_mib"]
                few = peaks[row.pop("kind"), most // 100]
                rows.append(row if count < most else {**row, "figures": {f"peak ÷ that of {most // 100:,}": row["peak_mib"] / few}})
        shutil.rmtree(part)
    return rows


def _huge_steps(setup, work, emulator, count):
    vault = Vault(setup.binary, work)
    source = {"connection": emulator.source, "beside": emulator.pid}
    for kind in ("first backup", "nothing changed"):
        yield {"kind": kind, **vault.step(f"{count:,}: {kind}", "backup", **source)}
    first = count // 2 // RESTORED * RESTORED if count >= RESTORED else 0
    prefix = f"d{first // SYNTHETIC_FOLDER:06}/b{first // RESTORED:07}"
    row = vault.step(f"{count:,}: restore of {min(count, RESTORED):,}", "restore", "--prefix", prefix, connection=emulator.target,
                     beside=emulator.pid)
    yield {"kind": "restore", **row}


def _prune(setup, work):
    vault, source = Vault(setup.binary, work), work / "source"
    count = max(16, int(POINT_FILES * setup.scale))
    points = []
    for number in range(POINTS):
        _next_gibibyte(source, number, count)
        points.append(json.loads(vault.offline("backup", "--source", source, "--output", "json")["output"])["id"])
    before = folder_bytes(vault.folder)
    chosen = [word for point in points[1::2] for word in ("--point", point)]
    row = vault.offline("prune", *chosen, "--output", "json")
    report = json.loads(row.pop("output"))
    added = folder_bytes(vault.folder) - before
    note(f"prune: {json.dumps(report)}")
    rows = [{"step": f"prune of {before / (1 << 30):.1f} GiB", **row, "stored_mib": added / MIB, "figures": _prune_figures(report)}]
    row = vault.offline("verify")
    del row["output"]
    return [*rows, {"step": "verify", **row, "stored_mib": 0.0}]


def _prune_figures(report):
    figures = {f"{name} MiB": report[name] / MIB for name in ("readBytes", "rewrittenBytes", "deadBytes")}
    if report["rewrittenBytes"]:
        figures["read ÷ rewritten"] = report["readBytes"] / report["rewrittenBytes"]
    return figures


def _next_gibibyte(source, number, count):
    """Files of a MiB that dedupe with nothing; even ones stay for the next point, too, so packs of deleted points are half dead."""
    old = source / f"{number - 1:02}"
    if old.exists():
        for file in sorted(old.iterdir())[1::2]:
            file.unlink()
    shutil.rmtree(source / f"{number - 2:02}", ignore_errors=True)
    fresh = source / f"{number:02}"
    fresh.mkdir(parents=True)
    for index in range(count):
        (fresh / f"f{index:06}.bin").write_bytes(random.Random(f"prune/{number}/{index}").randbytes(MIB))


def _change(setup, work):
    shape = SHAPES["L"].scaled(setup.scale)
    data = FileSet(work / "source", shape)
    data.make()
    known, jobs = setup.tools.of(tools.FOLDER_TOOLS), {}
    for tool in known:
        jobs[tool.name] = job = tools.Job(work, work / "stores" / tool.name, work, source=data.folder)
        job.store.mkdir(parents=True)
        if (command := tool.init(job)) is not None:
            run(command, tool.environment(job), work, log=work / "log")
        run(tool.backup(job, "full"), tool.environment(job), work, log=work / "log")
    for index in range(shape.count):
        chance = random.Random(f"megabyte/{index}")
        offset = chance.randrange(shape.most - MIB)
        rewrite(data.path(index), [(offset, chance.randbytes(MIB))])
    for tool in known:
        job = jobs[tool.name]
        stored = folder_bytes(job.store)
        row = run(tool.backup(job, "changed"), tool.environment(job), work, log=work / "log")
        added = (folder_bytes(job.store) - stored) / MIB
        del row["output"]
        yield {"step": "changed", "tool": tool.name, **row, "stored_mib": added, "figures": {"MiB added by each": added / shape.count}}
