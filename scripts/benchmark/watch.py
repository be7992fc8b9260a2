"""The operational tier at its shortest interval: an account that keeps versions and a feed of changes, which changes all the time, and how far
the service lies behind it."""

import json
import os
import random
import statistics
import threading
import time
from datetime import datetime, timezone

from .endpoint import Emulator
from .lists import VERSION, Client, environment_of, serving
from .machine import Failed, cpu_seconds, folder_bytes, run

CASES = {"watch": "100,000 blobs of which 100 a second change, looked at every second: lag and bytes written"}
BLOBS, CHANGES_PER_SECOND, SECONDS, WRITERS = 100_000, 100, 120, 4
CONTAINER = "watched"


def case_names():
    """Every case, and what it shows."""
    return CASES


def run_case(case, setup):
    """One case: the rows of measurements."""
    rows = []
    for number in range(setup.rounds):
        blobs = max(1000, int(BLOBS * setup.scale))
        with setup.folder() as work, Emulator(setup.binary, [f"{CONTAINER}={blobs}:1000:1000"], ["--versioning", "--change-feed"]) as emulator:
            rows += [{"case": case, "tool": "blobkeep", "round": number, **row} for row in _round(setup.binary, work, emulator)]
    return rows


def _round(binary, work, emulator):
    data, config = work / "data", work / "config.toml"
    config.write_text("[operational]\ninterval_seconds = 1\n")
    with serving(binary, data, "--config", config) as service:
        instance = _protect(binary, data, emulator)
        client = Client(environment_of(binary, data))
        url = f"{instance}/findRestorableTimeRanges?{VERSION}"
        begun = time.monotonic()
        while not _restorable_until(client, url):
            if time.monotonic() - begun > 300:
                raise Failed("the account was not looked at within five minutes")
            time.sleep(0.2)
        yield _measure("nothing changes", service, data, client, url, lambda: None, 15)
        with _Writers(emulator) as writers:
            yield _measure("100 changes a second", service, data, client, url, writers.check, SECONDS)


def _protect(binary, data, emulator):
    common = ["--data-dir", data]
    scope = ["-g", "bench", "--vault-name", "bench", *common]
    subscription = environment_of(binary, data)["AZURE_SUBSCRIPTION_ID"]
    group = f"/subscriptions/{subscription}/resourceGroups/bench"
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/watched"
    for words in (
            ["vault", "create", "bench", "-g", "bench", "--location", "westus", "--create-group", *common],
            ["storage-account", "add", account, "--location", "westus", "--connection-string", emulator.source, *common],
            ["vault", "grant", "bench", "-g", "bench", "--account", account, *common],
            ["policy", "create", "continuous", *scope, "--operational-days", "7"],
            ["instance", "create", "watched", *scope, "--policy", "continuous", "--account", account]):
        run([binary, *words])
    return f"{group}/providers/Microsoft.DataProtection/backupVaults/bench/backupInstances/watched"


def _restorable_until(client, url):
    """The last instant that can be restored, seconds since 1970; nothing if there is none."""
    answer = client.post(url, {"sourceDataStoreType": "OperationalStore", "startTime": "2020-01-01T00:00:00Z", "endTime": "2099-01-01T00:00:00Z"})
    ranges = answer["properties"]["restorableTimeRanges"]
    return max((datetime.fromisoformat(found["endTime"]).timestamp() for found in ranges), default=None)


def _measure(step, service, data, client, url, check, seconds):
    stored, cpu, begun, lags = _stored(data), cpu_seconds(service.pid), time.monotonic(), []
    while time.monotonic() - begun < seconds:
        check()
        until = _restorable_until(client, url)
        lags.append(datetime.now(timezone.utc).timestamp() - until)
        time.sleep(0.5)
    wall, cpu = time.monotonic() - begun, cpu_seconds(service.pid) - cpu
    written = _stored(data) - stored
    figures = {"lag s": statistics.median(lags), "greatest lag s": max(lags), "KB a second in the store": written / wall / 1000,
               "share of a core": cpu / wall}
    return {"step": step, "wall_s": wall, "cpu_s": cpu, "server_cpu_s": cpu, "peak_mib": _peak_mib(service.pid), "stored_mib": written / (1 << 20),
            "load_before": os.getloadavg()[0], "others_cpu_s": 0.0, "is_disturbed": False, "figures": figures}


def _stored(data):
    return folder_bytes(data / "vaults")


def _peak_mib(pid):
    status = open(f"/proc/{pid}/status").read()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


class _Writers:
    """Overwrites blobs at a steady rate from several connections."""

    def __init__(self, emulator):
        self._blobs, self._stop, self._failures = emulator.blobs, threading.Event(), []
        self._names = emulator.blobs.names(CONTAINER)
        self._threads = [threading.Thread(target=self._write, args=[number]) for number in range(WRITERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self):
        """Ends the case if a writer failed."""
        if self._failures:
            raise Failed(f"a writer failed: {json.dumps(str(self._failures[0]))}")

    def _write(self, number):
        chance, due = random.Random(f"watch/{number}"), time.monotonic()
        try:
            while not self._stop.is_set():
                self._blobs.put(f"{CONTAINER}/{chance.choice(self._names)}", chance.randbytes(1000))
                due += WRITERS / CHANGES_PER_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:  # of a thread: told by the one that waits for it
            self._failures.append(error)
