"""Cases of Blobkeep alone on generated blobs of the built-in emulator: directly, and through the service."""

import json
import subprocess
from pathlib import Path

from .endpoint import Emulator
from .machine import MIB, folder_bytes, run

# name: (count, least and greatest size in bytes, what it shows)
CASES = {
    "small": (100_000, 4096, 65536, "100,000 blobs of 4 to 64 KiB"),
    "tiny": (300_000, 100, 1000, "300,000 blobs of 100 to 1,000 bytes"),
    "large": (1, 4 << 30, 4 << 30, "one blob of 4 GiB"),
    "medium": (2_000, MIB, MIB, "2,000 blobs of 1 MiB"),
}


def case_names():
    """Every case, and what it shows."""
    return {**{name: text for name, (*_, text) in CASES.items()}, "service": "small and large, by serve"}


def container(name, scale):
    """The containers of a case as the emulator takes them; a single blob is scaled by its size."""
    count, least, most, _ = CASES[name]
    if count == 1:
        size = max(MIB, int(least * scale))
        return f"{name}=1:{size}:{size}"
    return f"{name}={max(10, int(count * scale))}:{least}:{most}"


def run_case(case, setup):
    """All rounds of one case: the rows of measurements."""
    one_round = _service_round if case == "service" else _round
    rows = []
    for number in range(setup.rounds):
        with setup.folder() as work:
            rows.extend({"case": case, "tool": "blobkeep", "round": number, **row} for row in one_round(case, setup, work))
    return rows


class Vault:
    """A vault in a folder and the commands on it; every step says what it added to the vault."""

    def __init__(self, binary, work):
        self.binary, self.folder = binary, work / "vault"
        self._words = ["--store", self.folder, "--key-file", work / "key"]
        self._stored = 0
        self.offline("init")

    def offline(self, verb, *words, connection=None, beside=None):
        """Runs `blobkeep offline`; what it printed is in `output`."""
        environment = {"BLOBKEEP_CONNECTION_STRING": connection} if connection else None
        return run([self.binary, "offline", verb, *self._words, *words], environment, beside=beside)

    def step(self, step, verb, *words, connection=None, beside=None):
        """A row of measurements of one command."""
        row = self.offline(verb, *words, connection=connection, beside=beside)
        stored = folder_bytes(self.folder)
        added, self._stored = stored - self._stored, stored
        del row["output"]
        return {"step": step, **row, "stored_mib": added / MIB}


def _round(case, setup, work):
    with Emulator(setup.binary, [container(case, setup.scale)]) as emulator:
        vault = Vault(setup.binary, work)
        source = {"connection": emulator.source, "beside": emulator.pid}
        return [
            vault.step("first backup", "backup", **source),
            vault.step("nothing changed", "backup", **source),
            vault.step("restore of all", "restore", connection=emulator.target, beside=emulator.pid),
            vault.step("verify", "verify"),
        ]


def _service_round(_, setup, work):
    """Backup and restore through the service: peak and CPU time are those of `serve`, which does the work."""
    with Emulator(setup.binary, [container(name, setup.scale) for name in ("small", "large")]) as emulator:
        serve = subprocess.Popen(
            [setup.binary, "serve", "--data-dir", work / "data", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            serve.stdout.readline()
            return _service_steps(setup.binary, work / "data", emulator, serve.pid)
        finally:
            serve.terminate()
            serve.wait()


def _service_steps(binary, data, emulator, serve_pid):
    client = ["--data-dir", data]
    scope = ["-g", "bench", "--vault-name", "bench", *client]

    def blobkeep(*words):
        return run([binary, *words], beside=serve_pid)

    environment = json.loads(subprocess.check_output([binary, "env", *client, "--format", "json"]))
    group = f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}/resourceGroups/bench"
    accounts = [f"{group}/providers/Microsoft.Storage/storageAccounts/{name}" for name in ("source", "target")]
    blobkeep("vault", "create", "bench", "-g", "bench", "--location", "westus", "--create-group", *client)
    for account, connection in zip(accounts, (emulator.source, emulator.target)):
        blobkeep("storage-account", "add", account, "--location", "westus", "--connection-string", connection, *client)
        blobkeep("vault", "grant", "bench", "-g", "bench", "--account", account, *client)
    blobkeep("policy", "create", "daily", *scope, "--daily", "02:00", "--retention-days", "30")
    blobkeep("instance", "create", "source", *scope, "--policy", "daily", "--account", accounts[0])
    backup = ["instance", "backup", "source", *scope, "--wait"]
    restore = ["restore", "trigger", "source", *scope, "--recovery-point", "latest", "--target", accounts[1], "--wait"]
    rows, before = [], 0
    for step, command in (("first backup", backup), ("nothing changed", backup), ("restore of all", restore)):
        row = blobkeep(*command)
        stored = folder_bytes(data / "vaults")
        # The emulator's CPU time counts as that of others here, so nothing can be said of disturbance.
        row = {**row, "cpu_s": row["server_cpu_s"], "is_disturbed": False, "peak_mib": _peak_mib(serve_pid), "stored_mib": (stored - before) / MIB}
        del row["output"]
        before = stored
        rows.append({"step": step, **row})
    return rows


def _peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
