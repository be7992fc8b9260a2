"""The tools that are compared: how each makes a first backup, the next ones and a restore. A command is a list of
words."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .endpoint import ACCOUNT, KEY
from .machine import version


@dataclass
class Job:
    """What one tool works on in one round."""

    work: Path  # scratch of the whole run
    store: Path  # the tool's own repository
    out: Path  # an empty folder to restore to
    source: Path | None = None  # the folder to protect
    container: str = ""  # or the container
    target: str = ""  # a container to restore to
    endpoint: object = None


class Tool:
    """One program, at `program`. Steps return the command; None means that the tool needs no such step."""

    name, version_words, variables = "", ["version"], {}
    makes_target = False

    def __init__(self, program):
        self.program = program

    def environment(self, job):
        """Variables for every command."""
        cache = {"XDG_CACHE_HOME": job.work / "cache", "XDG_CONFIG_HOME": job.work / "config"}
        return {name: str(value) for name, value in {**cache, **self.variables}.items()}

    @cached_property
    def version(self):
        """What it says of its version; nothing if it cannot be run."""
        return version([self.program, *self.version_words])

    def init(self, job):
        """Makes a repository; not timed."""
        return None

    def restored(self, job):
        """Where the restored tree lies."""
        return job.out


class Blobkeep(Tool):
    name, version_words = "blobkeep", ["--version"]
    # A restore refuses a container that is there.
    makes_target = True

    def _offline(self, job, verb, *words):
        return [self.program, "offline", verb, "--store", job.store / "vault", "--key-file", job.store / "key", *words]

    def environment(self, job):
        account = {"BLOBKEEP_CONNECTION_STRING": job.endpoint.connection} if job.endpoint else {}
        return {**super().environment(job), **account}

    def init(self, job):
        return self._offline(job, "init")

    def backup(self, job, step):
        return self._offline(job, "backup", *(["--container", job.container] if job.endpoint else ["--source", job.source]))

    def restore(self, job):
        if job.endpoint:
            return self._offline(job, "restore", "--rename", f"{job.container}={job.target}")
        return self._offline(job, "restore", "--target", job.out)


class Restic(Tool):
    name, variables = "restic", {"RESTIC_PASSWORD": "benchmark"}

    def environment(self, job):
        return {**super().environment(job), "RESTIC_CACHE_DIR": str(job.work / "cache/restic")}

    def init(self, job):
        return [self.program, "-q", "init", "-r", job.store / "r"]

    def backup(self, job, step):
        return [self.program, "-q", "-r", job.store / "r", "backup", job.source]

    def restore(self, job):
        return [self.program, "-q", "-r", job.store / "r", "restore", "latest", "--target", job.out]

    def restored(self, job):
        return job.out / job.source.relative_to("/")


class Rustic(Tool):
    name, version_words, variables = "rustic", ["--version"], {"RUSTIC_PASSWORD": "benchmark"}

    def _rustic(self, job, *words):
        return [self.program, "--log-level", "error", "--no-progress", "-r", job.store / "r", *words]

    def init(self, job):
        return self._rustic(job, "init")

    def backup(self, job, step):
        return self._rustic(job, "backup", job.source)

    def restore(self, job):
        return self._rustic(job, "restore", f"latest:{job.source}", job.out)


class Borg(Tool):
    name, version_words = "borg", ["--version"]
    variables = {"BORG_PASSPHRASE": "benchmark", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "LC_ALL": "C.UTF-8"}
    compression = []

    def environment(self, job):
        return {**super().environment(job), "BORG_BASE_DIR": str(job.work / "borg")}

    def init(self, job):
        return [self.program, "init", "-e", "repokey-blake2", job.store / "r"]

    def backup(self, job, step):
        return [self.program, "create", *self.compression, f"{job.store}/r::{step}", job.source]

    def restore(self, job):
        return [self.program, "extract", f"{job.store}/r::changed"]

    def restored(self, job):
        return job.out / job.source.relative_to("/")


class BorgZstd(Borg):
    """With the compressor that the others use."""

    name, compression = "borg-zstd", ["-C", "zstd,3"]


class Rclone(Tool):
    """Copies, without history: what a mirror costs."""

    name, tuning = "rclone", []

    def environment(self, job):
        config = job.work / "rclone.conf"
        endpoint = job.endpoint.url if job.endpoint else ""
        config.write_text(f"[az]\ntype = azureblob\naccount = {ACCOUNT}\nkey = {KEY}\nendpoint = {endpoint}\n")
        return {**super().environment(job), "RCLONE_CONFIG": str(config)}

    def backup(self, job, step):
        return [self.program, "sync", *self.tuning, f"az:{job.container}", job.store / "copy"]

    def restore(self, job):
        return [self.program, "copy", *self.tuning, job.store / "copy", f"az:{job.target}"]


class RcloneTuned(Rclone):
    """As its manual advises for many small files."""

    name, tuning = "rclone-16", ["--transfers", "16", "--checkers", "16", "--fast-list"]


class Azcopy(Tool):
    """Copies, without history."""

    name, version_words = "azcopy", ["--version"]
    variables = {"AZCOPY_DISABLE_SYSLOG": "true", "AZCOPY_SKIP_VERSION_CHECK": "true"}
    quiet = ["--recursive", "--log-level", "ERROR", "--output-level", "quiet"]

    def environment(self, job):
        plans = str(job.work / "azcopy")
        return {**super().environment(job), "AZCOPY_LOG_LOCATION": plans, "AZCOPY_JOB_PLAN_LOCATION": plans}

    def backup(self, job, step):
        source, copy = job.endpoint.blobs.url(job.container), job.store / "copy"
        if step == "full":
            return [self.program, "copy", source, copy, *self.quiet, "--from-to", "BlobLocal", "--check-length=true"]
        return [self.program, "sync", source, copy / job.container, *self.quiet, "--from-to", "BlobLocal", "--delete-destination", "true"]

    def restore(self, job):
        return [self.program, "copy", f"{job.store}/copy/{job.container}/*", job.endpoint.blobs.url(job.target), *self.quiet,
                "--from-to", "LocalBlob"]


FOLDER_TOOLS = (Blobkeep, Restic, Rustic, Borg, BorgZstd)
BLOB_TOOLS = (Blobkeep, Rclone, RcloneTuned, Azcopy)
PROGRAMS = {"restic": "restic", "rustic": "rustic", "borg": "borg", "borg-zstd": "borg", "rclone": "rclone", "rclone-16": "rclone",
            "azcopy": "azcopy"}


class Toolbox:
    """The tools that are on this machine. `peers` maps programs to paths that go before the PATH; `wanted` leaves only the peers
    that it names."""

    def __init__(self, ours, peers, wanted=None):
        self._tools = {Blobkeep.name: Blobkeep(ours)}
        for kind in {kind.name: kind for kind in (*FOLDER_TOOLS, *BLOB_TOOLS)}.values():
            program = peers.get(PROGRAMS.get(kind.name)) or shutil.which(PROGRAMS.get(kind.name, ""))
            if kind is not Blobkeep and program and (wanted is None or kind.name in wanted):
                self._tools[kind.name] = kind(program)

    def of(self, kinds):
        """Those of these kinds that can be run, ours first."""
        known = [self._tools[kind.name] for kind in kinds if kind.name in self._tools]
        return [tool for tool in known if tool.version]
