"""Lists of a large service: 1,000 backup vaults with 100 protected accounts each. One account is protected through the API, and its rows are
copied in the database of the stopped service; every page of every list is then asked for by clients with connections of their own."""

import http.client
import json
import os
import random
import re
import sqlite3
import ssl
import statistics
import subprocess
import threading
import time
import urllib.parse
import uuid
from contextlib import contextmanager
from pathlib import Path

from .endpoint import Emulator
from .machine import Failed, cpu_seconds, run

CASES = {"lists": "1,000 vaults of 100 instances: pages of lists through the API, and memory"}
VAULTS, INSTANCES, POINTS = 1000, 100, 3
CLIENTS, REQUESTS, IDLE_SECONDS = 8, 4000, 15
VERSION = "api-version=2024-04-01"
PROVIDER = "providers/Microsoft.DataProtection"


def case_names():
    """Every case, and what it shows."""
    return CASES


def run_case(case, setup):
    """One case: the rows of measurements."""
    rows = []
    for number in range(setup.rounds):
        with setup.folder() as work, Emulator(setup.binary, ["one=1:1000:1000"]) as emulator:
            rows += [{"case": case, "tool": "blobkeep", "round": number, **row} for row in _round(setup, work / "data", emulator)]
    return rows


def _round(setup, data, emulator):
    with serving(setup.binary, data):
        _protect_one(setup.binary, data, emulator)
    vaults = max(2, int(VAULTS * setup.scale))
    _multiply(data / "blobkeep.db", vaults)
    with serving(setup.binary, data) as service:
        yield from _measure(service, setup.binary, data, vaults)


@contextmanager
def serving(binary, data, *options):
    """A running service; ends with the `with` block."""
    words = [binary, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        process.stdout.readline()
        yield process
    finally:
        process.terminate()
        process.wait()


def _protect_one(binary, data, emulator):
    client = ["--data-dir", data]
    scope = ["-g", "bench", "--vault-name", "vault-0000", *client]
    environment = environment_of(binary, data)
    account = f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}/resourceGroups/bench/providers/Microsoft.Storage/storageAccounts/source0000000"
    for words in (
            ["vault", "create", "vault-0000", "-g", "bench", "--location", "westus", "--create-group", *client],
            ["storage-account", "add", account, "--location", "westus", "--connection-string", emulator.source, *client],
            ["vault", "grant", "vault-0000", "-g", "bench", "--account", account, *client],
            ["policy", "create", "daily", *scope, "--daily", "02:00", "--retention-days", "30"],
            ["instance", "create", "source0000000", *scope, "--policy", "daily", "--account", account],
            *[["instance", "backup", "source0000000", *scope, "--wait"]] * POINTS):
        run([binary, *words])


def environment_of(binary, data):
    """What a client needs to know of the service."""
    return json.loads(subprocess.check_output([binary, "env", "--data-dir", data, "--format", "json"]))


def _multiply(file, vaults):
    """Copies the vault, its policy and its instance with all that belongs to it, under other names and ids."""
    with sqlite3.connect(file) as database:
        database.row_factory = sqlite3.Row
        read = {table: [dict(row) for row in database.execute(f"SELECT * FROM {table}")] for table in
                ("backup_vaults", "backup_policies", "storage_accounts", "backup_instances", "recovery_points", "jobs")}
        jobs = [row for row in read["jobs"] if row["kind"] == "backup"]
        points = {row["id"]: row for row in read["recovery_points"]}
        for vault in range(vaults):
            of_vault = {"vault-0000": f"vault-{vault:04}"}
            if vault:
                for table in ("backup_vaults", "backup_policies"):
                    _insert(database, table, read[table], of_vault, ("vault_uuid", "principal_id"))
            for instance in range(INSTANCES):
                if vault == instance == 0:
                    continue
                names = {**of_vault, "source0000000": f"source{vault:04}{instance:03}"}
                _insert(database, "storage_accounts", read["storage_accounts"], names)
                _insert(database, "backup_instances", read["backup_instances"], names, ("instance_uuid",))
                for job in jobs:
                    job_id = str(uuid.uuid4())
                    _insert(database, "jobs", [job], {**names, job["id"]: job_id})
                    point = points.get(job["id"].replace("-", ""))
                    if point:
                        _insert(database, "recovery_points", [point], {**names, point["id"]: job_id.replace("-", "")})
    database.close()


def _insert(database, table, rows, names, fresh=()):
    pattern = re.compile("|".join(map(re.escape, names)))
    for row in rows:
        copy = {name: pattern.sub(lambda found: names[found.group()], value) if isinstance(value, str) else value for name, value in row.items()}
        copy.update({name: str(uuid.uuid4()) for name in fresh if copy.get(name) is not None})
        marks = ", ".join("?" * len(copy))
        database.execute(f"INSERT INTO {table} ({', '.join(copy)}) VALUES ({marks})", list(copy.values()))


class Client:
    """One connection to the service that is kept, with a token."""

    def __init__(self, environment):
        address = urllib.parse.urlsplit(environment["BLOBKEEP_ENDPOINT"])
        trust = ssl.create_default_context(cafile=environment["BLOBKEEP_CA_FILE"])
        self.connection = http.client.HTTPSConnection(address.hostname, address.port, context=trust)
        form = urllib.parse.urlencode({
            "grant_type": "client_credentials", "client_id": environment["AZURE_CLIENT_ID"],
            "client_secret": environment["AZURE_CLIENT_SECRET"], "scope": f"{environment['BLOBKEEP_ENDPOINT']}/.default"})
        self.connection.request("POST", f"/{environment['AZURE_TENANT_ID']}/oauth2/v2.0/token", form,
                                {"Content-Type": "application/x-www-form-urlencoded"})
        self.token = json.loads(self.connection.getresponse().read())["access_token"]

    def get(self, target):
        """Seconds until the whole answer was there, and the answer."""
        begun = time.perf_counter()
        answer = self._ask("GET", target)
        return time.perf_counter() - begun, json.loads(answer)

    def post(self, target, body):
        """The answer to a JSON document."""
        return json.loads(self._ask("POST", target, json.dumps(body), {"Content-Type": "application/json"}))

    def _ask(self, method, target, body=None, headers=None):
        self.connection.request(method, target, body, {"Authorization": f"Bearer {self.token}", **(headers or {})})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Failed(f"{method} {target}: {response.status} {answer[:300]!r}")
        return answer


def _measure(service, binary, data, vaults):
    environment = environment_of(binary, data)
    group = f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}/resourceGroups/bench"

    def of_instance(chance):
        vault, number = chance.randrange(vaults), chance.randrange(INSTANCES)
        return f"{group}/{PROVIDER}/backupVaults/vault-{vault:04}/backupInstances/source{vault:04}{number:03}"

    def of_vault(chance):
        return of_instance(chance).rsplit("/backupInstances", 1)[0]

    subscription = group.rsplit("/resourceGroups", 1)[0]
    kinds = {
        "vaults of the subscription": lambda _: f"{subscription}/{PROVIDER}/backupVaults",
        "vaults of the group": lambda _: f"{group}/{PROVIDER}/backupVaults",
        "instances of a vault": lambda chance: f"{of_vault(chance)}/backupInstances",
        "policies of a vault": lambda chance: f"{of_vault(chance)}/backupPolicies",
        "jobs of a vault": lambda chance: f"{of_vault(chance)}/backupJobs",
        "points of an instance": lambda chance: f"{of_instance(chance)}/recoveryPoints",
        "one instance": of_instance,
    }
    before = _memory_mib(service.pid)
    for name, target_of in kinds.items():
        yield {"step": name, **_pages(service.pid, environment, target_of, REQUESTS // len(kinds), before)}
    cpu = cpu_seconds(service.pid)
    time.sleep(IDLE_SECONDS)
    idle = cpu_seconds(service.pid) - cpu
    yield _row(service.pid, IDLE_SECONDS, idle, {"share of a core": idle / IDLE_SECONDS}, "nobody asks")


def _pages(pid, environment, target_of, requests, memory_before):
    """Follows lists to their ends, from several connections at once, until so many pages were read."""
    left, times, lock, failures = [requests], [], threading.Lock(), []

    def work(seed):
        chance, next_link = random.Random(seed), None
        try:
            client = Client(environment)
            while not failures:
                with lock:
                    if left[0] == 0:
                        return
                    left[0] -= 1
                took, answer = client.get(next_link or f"{target_of(chance)}?{VERSION}")
                times.append(took)
                link = answer.get("nextLink")
                next_link = link and "{0.path}?{0.query}".format(urllib.parse.urlsplit(link))
        except Exception as error:  # of a thread: told by the one that waits for it
            failures.append(error)

    cpu, begun = cpu_seconds(pid), time.perf_counter()
    threads = [threading.Thread(target=work, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Failed(str(failures[0]))
    cuts = statistics.quantiles(times, n=100)
    figures = {"p50 ms": cuts[49] * 1000, "p99 ms": cuts[98] * 1000, "MiB more": _memory_mib(pid) - memory_before}
    return _row(pid, time.perf_counter() - begun, cpu_seconds(pid) - cpu, figures)


def _row(pid, wall, cpu, figures, step=None):
    row = {"wall_s": wall, "cpu_s": cpu, "server_cpu_s": cpu, "peak_mib": _memory_mib(pid, "VmHWM"), "stored_mib": 0.0,
           "load_before": os.getloadavg()[0], "others_cpu_s": 0.0, "is_disturbed": False, "figures": figures}
    return {"step": step, **row} if step else row


def _memory_mib(pid, line="VmRSS"):
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(text.split()[1]) for text in status.splitlines() if text.startswith(line)) / 1024
