"""What every story stands on: temporary folders, waiting with a deadline, the service as a process, the base of a story.

Nothing here knows a resource of the API (see arm.py) or a storage account (see storage.py). It never sleeps for luck: whatever
is waited for is asked for again and again until a deadline, and a missed deadline says what was last seen.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable, ClassVar, Optional, TypeVar

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target" / "tools"
REPORTS = ROOT / "target" / "scenarios"
BLOBKEEP = Path(os.environ.get("BLOBKEEP_BIN") or ROOT / "target" / "release" / "blobkeep").resolve()

T = TypeVar("T")


def eventually(
    what: str, look: Callable[[], Optional[T]], *, seconds: float = 60.0, pause: float = 0.1
) -> T:
    """Calls `look` until it answers something true and returns that. After the deadline fails, naming `what`.

    An AssertionError or OSError of `look` counts as "not yet" and is told if the deadline passes.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {last!r}")
        time.sleep(pause)


class Transcript:
    """What was said over HTTP and by commands, kept for the report of a failed step."""

    SECRETS = re.compile(
        r'(AccountKey=|"accountKey": ?"|"clientSecret": ?"|"secret": ?"|client_secret=|sig=|Bearer |"access_token": ?")[^";&\s]+'
    )

    def __init__(self) -> None:
        self._entries: list[str] = []
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Notes one exchange; secrets are struck out."""
        clean = self.SECRETS.sub(r"\1***", text)
        with self._lock:
            self._entries.append(f"[{time.strftime('%H:%M:%S')}] {clean}")

    def text(self) -> str:
        """All that was noted, oldest first."""
        with self._lock:
            return "\n\n".join(self._entries)


_children: list[subprocess.Popen[bytes]] = []


@atexit.register
def _end_children() -> None:
    """No child outlives the stories, however they end."""
    for child in _children:
        if child.poll() is None:
            child.kill()


class Process:
    """A child process whose lines of standard output can be waited for; both outputs go to files."""

    def __init__(self, command: list[str], log: Path, env: Optional[dict[str, str]] = None, cwd: Optional[Path] = None):
        self.command = command
        self.log = log
        self._out = open(log, "ab")
        self._err = open(log.with_suffix(".err"), "ab")
        self._offset = self._out.tell()
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err, env={**os.environ, **(env or {})}, cwd=cwd
        )

        _children.append(self.child)

    def lines(self) -> list[str]:
        """What this process has printed on standard output."""
        with open(self.log, "rb") as file:
            file.seek(self._offset)
            return file.read().decode("utf-8", "replace").splitlines()

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """The first line that matches; fails early if the process ends."""
        compiled = re.compile(pattern)

        def look() -> Optional[re.Match[str]]:
            ended = self.child.poll()
            found = next((m for m in map(compiled.search, self.lines()) if m), None)
            if found is None and ended is not None:
                raise RuntimeError(f"{self.command[0]} ended with {ended}:\n{self.tail()}")
            return found

        return eventually(f"{pattern!r} from {Path(self.command[0]).name}", look, seconds=seconds, pause=0.02)

    def tail(self, lines: int = 30) -> str:
        """The last lines of both outputs, for messages."""
        texts = [p.read_text("utf-8", "replace") for p in (self.log, self.log.with_suffix(".err")) if p.exists()]
        return "\n".join(line for text in texts for line in text.splitlines()[-lines:])

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Sends a signal and waits for the end; a process that does not mind SIGTERM is killed, and that is an error."""
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise AssertionError(f"{self.command[0]} did not end within {seconds:g} s of {how.name}") from None
            finally:
                self._out.close()
                self._err.close()
        return self.child.returncode


class Service:
    """`blobkeep serve` over a data folder of its own. It can be stopped, killed, and started again at the same address."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "blobkeep.toml"
        self.config.write_text(config)
        self.url = ""
        self.env: dict[str, str] = {}
        self._listen = "127.0.0.1:0"
        self._process: Optional[Process] = None

    def start(self) -> None:
        """Starts it and waits until it says that it answers requests."""
        command = [str(BLOBKEEP), "serve", "--data-dir", str(self.data_dir), "--listen", self._listen]
        command += ["--config", str(self.config)]
        self._process = Process(command, self.folder / "service.out", {"RUST_BACKTRACE": "1"})
        self.url = self._process.wait_for_line(r"listening on (https://\S+)", 60).group(1).rstrip("/")
        self._listen = "127.0.0.1:" + self.url.rsplit(":", 1)[1]
        answer = blobkeep("env", "--data-dir", str(self.data_dir), "--format", "json", check=True)
        self.env = json.loads(answer.stdout)

    def stop(self) -> None:
        """Ends it in order (SIGTERM)."""
        if self._process:
            self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once (SIGKILL): nothing of it runs on."""
        assert self._process
        self._process.end(signal.SIGKILL)

    def log_tail(self) -> str:
        """The end of its log, for messages."""
        return self._process.tail(60) if self._process else ""

    @property
    def vaults_folder(self) -> Path:
        """Where the vaults lie when no store is configured."""
        return self.data_dir / "vaults"

    def vault_stores(self) -> list[Path]:
        """The folders of all vaults: each holds a `vault.json`."""
        return sorted(path.parent for path in self.vaults_folder.rglob("vault.json"))

    def stored_bytes(self) -> int:
        """Bytes in all vaults."""
        return folder_bytes(self.vaults_folder)


def folder_bytes(folder: Path) -> int:
    """The size of all files below `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except FileNotFoundError:
                pass
    return total


def blobkeep(
    *arguments: str, check: bool = False, seconds: float = 300.0, env: Optional[dict[str, str]] = None, cwd: Optional[Path] = None
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end. With `check` a code other than 0 fails with all that it printed."""
    done = subprocess.run(
        [str(BLOBKEEP), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"blobkeep {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Story(unittest.TestCase):
    """Steps that run in the order of their names. After a failed step the later ones fail as "not reached".

    A subclass whose steps don't build on each other sets `steps_depend = False`.
    """

    steps_depend: ClassVar[bool] = True
    goes_on: ClassVar[bool] = False
    folder: ClassVar[Path]
    transcript: ClassVar[Transcript]
    _broken: ClassVar[Optional[str]]

    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix=f"blobkeep-{cls.__name__}-"))
        cls.transcript = Transcript()
        cls._broken = None
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

    @classmethod
    def start_service(cls, config: str = "") -> Service:
        """A service that ends with the story."""
        service = Service(cls.folder, config)
        cls.addClassCleanup(service.stop)
        service.start()
        return service

    def setUp(self) -> None:
        # A step that cannot be told has not passed.
        if type(self)._broken and not self.goes_on:
            self.fail(f"not reached: {type(self)._broken} failed")

    def run(self, result: Optional[unittest.TestResult] = None) -> Optional[unittest.TestResult]:
        result = result if result is not None else self.defaultTestResult()
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and not type(self)._broken:
            if self.steps_depend:
                type(self)._broken = self._testMethodName
            self._report()
        return result

    def _report(self) -> None:
        REPORTS.mkdir(parents=True, exist_ok=True)
        report = REPORTS / f"{type(self).__name__}.{self._testMethodName}.txt"
        logs = [f"--- {path.name}\n{tail_of(path)}" for path in sorted(self.folder.glob("*.out")) + sorted(self.folder.glob("*.err"))]
        report.write_text(self.transcript.text() + "\n\n" + "\n".join(logs))
        print(f"    what was said: {report.relative_to(ROOT)}", flush=True)

    def command(self, *arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs `blobkeep …` and expects an exit code."""
        done = blobkeep(*arguments, **options)
        self.transcript.add(f"$ blobkeep {' '.join(arguments)}\n{done.stdout}{done.stderr}exit {done.returncode}")
        self.assertEqual(done.returncode, code, f"blobkeep {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return done


def tail_of(path: Path, characters: int = 20_000) -> str:
    """The end of a text file."""
    return path.read_text("utf-8", "replace")[-characters:]
