"""A history of the service: `blobkeep serve` protects accounts of the emulator, is killed at any instant, and starts again."""

from __future__ import annotations

import http.client
import math
import random
import threading
import time
from typing import Any, Callable, Optional

from arm import BACKUP_CONTRIBUTOR, Answer, Arm, Json, account_id, daily_rule, instant, restore_point, retention, vault_id
from harness import BLOBKEEP, Process, Service, Transcript, eventually
from histories import Content, History, Loss, StoredVault, chance_of, check_that_loss_is_noticed, differences
from history_sources import AccountSource, ChangingSource, Mover
from storage import Account

SOURCES = ["historyone", "historytwo"]
TARGET = "historytarget"
CONTAINER = ["--container", AccountSource.CONTAINER]
DONE = ("Completed", "CompletedWithWarnings")


class Emulator:
    """The built-in emulator as a process of its own: it lives on while the service dies."""

    def __init__(self, folder: Any, accounts: list[str]) -> None:
        command = [str(BLOBKEEP), "emulator", "--listen", "127.0.0.1:0"]
        self._process = Process(command + [word for name in accounts for word in ("--account", name)], folder / "emulator.out")
        self._process.wait_for_line(f"AccountName={accounts[-1]};", 30)

    def account(self, name: str) -> Account:
        """A client of one account."""
        fields = self._process.wait_for_line(f"AccountName={name};AccountKey=([^;]+);BlobEndpoint=([^;]+);", 5)
        return Account(name, fields.group(1), fields.group(2))

    def stop(self) -> None:
        """Its blobs go with it."""
        self._process.end()


class PatientArm(Arm):
    """A client to which an answer that broke off is a lost connection, like any other."""

    def send(self, method: str, url: str, body: Optional[bytes], headers: dict[str, str]) -> Answer:
        try:
            return super().send(method, url, body, headers)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {url}: {error!r}") from error


class Killer(threading.Thread):
    """Kills the service at an instant, or when it is told that the work is done, and starts it again."""

    def __init__(self, service: Service, after: float) -> None:
        super().__init__(daemon=True)
        self._service, self._after = service, after
        self._work_is_done = threading.Event()
        self._failure: Optional[BaseException] = None
        self.killed_at = math.inf

    def run(self) -> None:
        """Whoever talks to the service meanwhile finds it gone, and back at the same address."""
        self._work_is_done.wait(None if math.isinf(self._after) else self._after)
        try:
            self.killed_at = time.time()
            self._service.kill()
            self._service.start()
        except BaseException as error:  # told by `finish`, where somebody listens
            self._failure = error

    def finish(self) -> None:
        """Kills now if it has not yet, and waits until the service is back."""
        self._work_is_done.set()
        self.join()
        if self._failure:
            raise AssertionError(f"the service did not come back: {self._failure}") from self._failure


class Protected:
    """One instance: its account and the points that it must have."""

    def __init__(self, path: str, source: ChangingSource) -> None:
        self.path = path
        self.source = source
        self.points: set[str] = set()


class ServiceHistory(History):
    """One vault, two instances, a third account to restore to."""

    def __init__(self, kills: int, transcript: Transcript) -> None:
        super().__init__("service", kills)
        self.emulator = Emulator(self.folder, [*SOURCES, TARGET])
        self.service = Service(self.folder)
        self.service.start()
        self.arm = PatientArm(self.service.env, transcript)
        self._jobs: set[str] = set()
        self._killer: Optional[Killer] = None
        group = self.arm.make_group("histories")
        self.vault = vault_id(group, "vault")
        principal = self.arm.make_vault(self.vault)
        for name in (*SOURCES, TARGET):
            account = account_id(group, name)
            self.arm.connect_account(account, self.emulator.account(name).connection_string)
            self.arm.assign(BACKUP_CONTRIBUTOR, principal, account)
        self.target, self.target_id = self.emulator.account(TARGET), account_id(group, TARGET)
        self.days = 7
        policy = self.arm.make_policy(self.vault, "daily", *self._rules())
        self.instances = [self._protect(group, name, policy) for name in SOURCES]
        # Instants are chosen by what steps take: a first one of each, and the vault is there.
        chance = chance_of(self.name, "sources")
        self.stored: Optional[StoredVault] = None
        for step in (self.backup, self.backup_of_moving_blobs, self.restore, self.delete_and_undelete, self.policy):
            self.steps.append(f"   0 {step.__name__}")
            step(chance, None)

    def weights(self, chance: random.Random) -> dict[Callable[[random.Random, Optional[str]], None], float]:
        return {
            self.backup: 10,
            self.backup_of_moving_blobs: 3,
            self.restore: 4,
            self.delete_and_undelete: 3,
            self.policy: 2,
        }

    def stop(self) -> None:
        """Ends the processes."""
        self.service.stop()
        self.emulator.stop()

    # --- steps -----------------------------------------------------------------------------------------------------

    def backup(self, chance: random.Random, how: Optional[str]) -> None:
        """Blobs change, then a backup is asked for."""
        instance = chance.choice(self.instances)
        instance.source.change(chance)
        job = self._work("backup", how, lambda: self._job(lambda: self.arm.trigger_backup(instance.path)))
        self._take_in(instance, job, instance.source.content(), ["Completed"])

    def backup_of_moving_blobs(self, chance: random.Random, how: Optional[str]) -> None:
        """Blobs change while they are backed up: each has one of the contents that it had."""
        instance = chance.choice(self.instances)
        mover = Mover(instance.source, chance)
        mover.start()
        job = self._work("moving backup", how, lambda: self._job(lambda: self.arm.trigger_backup(instance.path)))
        self._take_in(instance, job, mover.content(), DONE)

    def restore(self, chance: random.Random, how: Optional[str]) -> None:
        """A point is restored to an empty account; a restore that was killed goes on by itself."""
        instance, where = chance.choice(self.instances), chance.random()
        if not instance.points:
            return self.note("nothing to restore")
        point = sorted(instance.points, key=list(self.known.points).index)[int(where * len(instance.points))]
        self.target.empty()
        request = restore_point(point, self.target_id)
        job = self._work("restore", how, lambda: self._job(lambda: self.arm.trigger_restore(instance.path, request)))
        if job["properties"]["status"] != "Completed":
            raise Loss(f"the restore of {point} ended as {job}")
        restored = {name: state.sha256 for (_, name), state in self.target.snapshot().blobs.items()}
        found = differences(self.known.points[point], restored)
        if found:
            raise Loss(f"point {point} was restored with other content:\n" + "\n".join(found[:20]))

    def delete_and_undelete(self, chance: random.Random, how: Optional[str]) -> None:
        """An instance is deleted, taken back, and protected again."""
        instance = chance.choice(self.instances)
        deleted = instance.path.replace("/backupInstances/", "/deletedBackupInstances/")

        def is_there(path: str) -> bool:
            return self.arm.get(path).expect(200, 404).status == 200

        def work() -> None:
            self._until("deleted", lambda: self.arm.delete(instance.path), lambda: is_there(deleted) and not is_there(instance.path))
            self._until("taken back", lambda: self.arm.post(f"{deleted}/undelete"), lambda: is_there(instance.path))
            self._until("protected", lambda: self.arm.post(f"{instance.path}/resumeProtection"), lambda: self._is_protected(instance))

        self._work("delete and undelete", how, work)
        self._check_points(instance)

    def policy(self, chance: random.Random, how: Optional[str]) -> None:
        """The policy keeps points for another number of days: those that are there get another expiry.

        Not fewer than the 14 days of soft delete, for which a point stays that a shorter policy drops.
        """
        self.days = 14 + (self.days + chance.randint(7, 14)) % 30
        path = f"{self.vault}/backupPolicies/daily"

        def work() -> None:
            self._until("the policy", lambda: self.arm.make_policy(self.vault, "daily", *self._rules()), lambda: self._keeps(path))
            eventually(f"points to be kept for {self.days} days", lambda: all(map(self._are_kept, self.instances)), seconds=30)

        self._work("policy", how, work)

    # --- checks ----------------------------------------------------------------------------------------------------

    @property
    def known(self) -> StoredVault:
        """The vault as it lies in its store."""
        if self.stored is None:
            (store,) = self.service.vault_stores()
            self.stored = StoredVault(store, self.service.data_dir / "master.key")
        return self.stored

    def check_after_kill(self, chance: random.Random) -> None:
        for instance in self.instances:
            self._check_points(instance)
        self.known.check_list()
        self.known.check_verifies()
        point = chance.choice(list(self.known.points))
        self.known.check_point(point, *CONTAINER)

    def check_everything(self) -> None:
        self.known.check_all(*CONTAINER)
        statuses = {job["properties"]["status"] for job in self.arm.values(f"{self.vault}/backupJobs")}
        if not statuses <= set(DONE):
            raise Loss(f"jobs ended as {statuses}")

    def check_that_loss_is_noticed(self) -> None:
        """The checks of this history fail on damaged copies."""
        check_that_loss_is_noticed(self.known, self.folder, *CONTAINER)

    def check_that_nothing_piles_up(self) -> None:
        """One backup that nobody kills leaves no temporary file in the vault, and a service that stops none in its scratch."""
        self.steps.append("last backup")
        self.backup(chance_of(self.name, "last"), None)
        self.known.check_temporary_files()
        self.service.stop()
        scratch = self.service.data_dir / "scratch"
        left = list(scratch.iterdir()) if scratch.exists() else []
        if left:
            raise Loss(f"{scratch} holds {left}")

    def _check_points(self, instance: Protected) -> None:
        listed = {point["name"] for point in self.arm.values(f"{instance.path}/recoveryPoints")}
        if listed != instance.points:
            raise Loss(f"{instance.path} lists {sorted(listed)} instead of {sorted(instance.points)}")

    # --- the work --------------------------------------------------------------------------------------------------

    def _rules(self) -> list[Json]:
        return [retention("VaultStore", self.days), daily_rule()]

    def _protect(self, group: str, name: str, policy: str) -> Protected:
        source = AccountSource(self.emulator.account(name))
        source.fill(chance_of(self.name, name))
        path = f"{self.vault}/backupInstances/{name}"
        self.arm.make_instance(path, account_id(group, name), policy, [AccountSource.CONTAINER])
        return Protected(path, source)

    def _work(self, kind: str, how: Optional[str], work: Callable[[], Any]) -> Any:
        """Does a piece of work to its end, through the death and the new start of the service if it is to be killed."""
        began = time.time()
        if how is None or not self.instants.knows(kind):
            done = work()
            self.instants.learn(kind, ended_at(done) - began)
            return done
        killer = self._killer = Killer(self.service, math.inf if how == "when acknowledged" else self.instants.draw(kind))
        killer.start()
        try:
            done = work()
        finally:
            killer.finish()
            self._killer = None
        is_hit = killer.killed_at < ended_at(done)
        if not is_hit:
            self.instants.learn(kind, ended_at(done) - began)
        self.count_kill(kind, None if how == "when acknowledged" else is_hit, killer.killed_at - began)
        return done

    def _when_back(self) -> None:
        """After a lost connection: waits until the service answers again."""
        if self._killer is None:
            raise AssertionError(f"the service went away although nobody killed it:\n{self.service.log_tail()}")
        self._killer.finish()

    def _job(self, trigger: Callable[[], Answer]) -> Json:
        """The ended job of a request. If its answer was lost, the list of jobs tells whether it was accepted; if not, it is sent again."""
        try:
            job = self.arm.done(trigger()).job_id
        except OSError:
            self._when_back()
            new = [job["id"] for job in self.arm.values(f"{self.vault}/backupJobs") if job["id"] not in self._jobs]
            job = new[0] if new else self.arm.done(trigger()).job_id
        found = self.arm.wait_job(job, seconds=60)
        self._jobs.add(found["id"])
        return found

    def _until(self, what: str, ask: Callable[[], Any], is_so: Callable[[], bool]) -> None:
        """Asks for something and waits until it is so; asks again if the request was lost."""
        try:
            ask()
        except OSError:
            self._when_back()
            if not is_so():
                ask()
        eventually(f"{what} to be so", is_so, seconds=60, pause=0.03)

    def _is_protected(self, instance: Protected) -> bool:
        found = self.arm.get(instance.path).expect(200).json
        return bool(found["properties"]["currentProtectionState"] == "ProtectionConfigured")

    def _keeps(self, policy: str) -> bool:
        return f'"P{self.days}D"' in self.arm.get(policy).expect(200).text

    def _are_kept(self, instance: Protected) -> bool:
        """Every point of the instance expires when the present policy says."""
        points = [point["properties"] for point in self.arm.values(f"{instance.path}/recoveryPoints")]
        return all((instant(p["expiryTime"]) - instant(p["recoveryPointTime"])).days == self.days for p in points)

    def _take_in(self, instance: Protected, job: Json, content: Content, allowed: Any) -> None:
        """A completed job is the acknowledgement of its point."""
        if job["properties"]["status"] not in allowed:
            raise Loss(f"a backup ended as {job}")
        point = job["name"].replace("-", "").lower()
        instance.points.add(point)
        self.known.points[point] = content
        self._check_points(instance)


def ended_at(done: Any) -> float:
    """When a job ended, by its own word; anything else has ended now."""
    if isinstance(done, dict) and done["properties"]["endTime"]:
        return instant(done["properties"]["endTime"]).timestamp()
    return time.time()
