"""The machine: what it is, and what one command took of it. Reads /proc, so Linux only."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
# A row is disturbed when others took more than this share of its time, and more than this many seconds.
OTHERS_SHARE, OTHERS_SECONDS = 0.15, 0.2
# A sparse file whose holes fill memory, how much is read of it at a time, and what is left free.
HOLES_BYTES, FILLED_MIB, LEFT_FREE_MIB = 200 << 30, 64, 700
LAUNCHER = Path(__file__).resolve().with_name("launch.py")
# What the start of the launcher takes itself, about.
LAUNCHER_SECONDS = 0.02


class Failed(Exception):
    """A command that ended with an error, and the end of what it said."""


def _all_cpu_seconds():
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def cpu_seconds(pid):
    """User and system seconds of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run(arguments, environment=None, folder=None, beside=None, log=None):
    """Runs one command to its end and says what it took. `beside` is the pid of a server that works for it: its CPU time is
    reported on its own. What the command prints is returned as `output`, or goes to the file `log`."""
    os.sync()
    words = [str(part) for part in arguments]
    load, before = os.getloadavg()[0], (_all_cpu_seconds(), cpu_seconds(beside) if beside else 0.0)
    with tempfile.NamedTemporaryFile(prefix="blobkeep-bench-", mode="r") as report:
        done = subprocess.run(
            [sys.executable, "-I", "-S", LAUNCHER, report.name, *words], env={**os.environ, **(environment or {})}, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if log else None, check=False)
        server = cpu_seconds(beside) - before[1] if beside else 0.0
        everything = _all_cpu_seconds() - before[0]
        output = done.stdout.decode(errors="replace")
        if log:
            with open(log, "a") as file:
                file.write(f"$ {' '.join(words)}\n{output}")
        if done.returncode != 0:
            raise Failed(f"{' '.join(words)} ended with {done.returncode}:\n{output[-1000:]}")
        took = json.load(report)
    others = max(0.0, everything - took["cpu_s"] - server - LAUNCHER_SECONDS)
    is_disturbed = others > max(OTHERS_SECONDS, OTHERS_SHARE * took["wall_s"])
    return {**took, "server_cpu_s": server, "others_cpu_s": others, "load_before": load, "is_disturbed": is_disturbed, "output": output}


def settle(work, *folders):
    """Brings memory into the state of a machine that has been up for long: what lies in `folders` is cached, and hardly any memory is free.

    Hosts take free memory back from virtual machines, and the first touch of a page then costs more than what a tool does with it: whichever
    tool ran after files were removed would pay for that."""
    piece = bytearray(MIB)
    for path in (Path(parent, name) for folder in folders for parent, _, names in os.walk(folder) for name in names):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(piece):
                pass
    filler = Path(work, "filler")
    start = int(filler.read_text()) if filler.exists() else 0
    holes = Path(work, "holes")
    with open(holes, "ab") as file:
        file.truncate(HOLES_BYTES)
    # Other parts of it each time: pages that were read twice would be kept before the data.
    with open(holes, "rb", buffering=0) as file:
        file.seek(start % HOLES_BYTES)
        for _ in range(_memory_mib("MemTotal") // FILLED_MIB):
            if _memory_mib("MemFree") < LEFT_FREE_MIB:
                break
            for _ in range(FILLED_MIB):
                if not file.readinto(piece):
                    file.seek(0)
        filler.write_text(str(file.tell()))


def _memory_mib(field):
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) >> 10


def folder_bytes(folder):
    """The bytes of all files below a folder."""
    total = 0
    for parent, _, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(parent, file)).st_size for file in files)
    return total


def facts(folder, versions):
    """What a reader needs to judge the figures: date, machine, file system, versions."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cpu": cpu, "cores": os.cpu_count(),
        "memory_gib": round(memory, 1), "kernel": platform.release(), "file_system": _file_system(folder),
        "python": platform.python_version(), "versions": versions,
    }


def _file_system(folder):
    known = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    path = str(Path(folder).resolve())
    fitting = [(len(point), kind) for point, kind in known if path == point or path.startswith(point.rstrip("/") + "/")]
    return max(fitting, default=(0, "unknown"))[1]


def version(arguments):
    """The first line that a program says of its version; nothing if it cannot be run."""
    try:
        done = subprocess.run([str(part) for part in arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=True)
        return (done.stdout.strip() or done.stderr.strip() or "unknown").splitlines()[0]
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip()
        note(f"{arguments[0]} cannot be run and is left out: {detail}")
        return None


def note(text):
    """A line about what goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)
