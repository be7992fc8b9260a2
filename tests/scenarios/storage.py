"""Storage accounts to protect: Azurite as a process, accounts filled with blobs of every shape, the comparison of two accounts.

All content is made from seeds, so that a story can be told again with the same bytes. Names that Azurite cannot hold
(backslashes, control characters) are not made here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ContentSettings,
    StandardBlobTier,
    generate_container_sas,
)

from harness import TOOLS, Process

# The newest that Azurite 3.37.0 takes; the client library's own default is newer.
STORAGE_PROTOCOL = "2026-06-06"
MIB = 1024 * 1024
BLOCK_BYTES = 4 * MIB


def seeded_bytes(size_bytes: int, *seed: object) -> bytes:
    """Bytes that don't compress, always the same for a seed."""
    return random.Random(repr(seed)).randbytes(size_bytes)


def seeded_text(size_bytes: int, *seed: object) -> bytes:
    """Bytes that compress like a log."""
    words = random.Random(repr(seed))
    lines: list[str] = []
    length = 0
    while length < size_bytes:
        verb, item, status = words.choice(["GET", "PUT", "HEAD"]), words.randint(0, 9999), words.randint(200, 504)
        line = f"2026-01-{words.randint(1, 28):02} {verb} /items/{item} {status}\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size_bytes]


class Azurite:
    """One Azurite blob service on a free port, with the accounts that are named. Data persist in a folder."""

    def __init__(self, folder: Path, accounts: Iterable[str]) -> None:
        self.folder = folder / "azurite"
        self.log = folder / "azurite.out"
        self.keys = {name: base64.b64encode(os.urandom(32)).decode() for name in accounts}
        self.url = ""
        self._process: Optional[Process] = None

    def start(self) -> "Azurite":
        """Starts it, on the port it had before if it had one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        program = TOOLS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        port = self.url.rsplit(":", 1)[1] if self.url else "0"
        command = ["node", str(program), "--blobHost", "127.0.0.1", "--blobPort", port, "--location", str(self.folder)]
        command += ["--disableTelemetry"]
        accounts = ";".join(f"{name}:{key}" for name, key in self.keys.items())
        self._process = Process(command, self.log, {"AZURITE_ACCOUNTS": accounts})
        self.url = self._process.wait_for_line(r"successfully listens on (http://\S+)", 60).group(1)
        return self

    def stop(self) -> None:
        """SIGTERM: it saves all that it holds."""
        if self._process:
            self._process.end()

    def account(self, name: str) -> "Account":
        """A client of one account."""
        return Account(name, self.keys[name], f"{self.url}/{name}")

    def mark(self) -> int:
        """The present end of the access log, for `requests_since`."""
        return self.log.stat().st_size

    def requests_since(self, mark: int) -> list["Request"]:
        """What was asked since then, in order."""
        with open(self.log, "rb") as file:
            file.seek(mark)
            text = file.read().decode("utf-8", "replace")
        return [Request(*found) for found in re.findall(r'"([A-Z]+) (\S+) HTTP/1\.1" (\d{3})', text)]

    def blob_reads_since(self, mark: int, account: str) -> list["Request"]:
        """Those requests that read a blob's content: GET of a blob, without a component."""
        return [r for r in self.requests_since(mark) if r.reads_blob(account)]


@dataclass(frozen=True)
class Request:
    """One line of the access log."""

    method: str
    target: str
    status: str

    def reads_blob(self, account: str) -> bool:
        """GET /account/container/blob without `comp=`."""
        path, _, query = self.target.partition("?")
        names = path.split("/", 3)
        is_blob = len(names) == 4 and names[1] == account and bool(names[3])
        return self.method == "GET" and is_blob and not re.search(r"(^|&)(comp|restype)=", query)


@dataclass(frozen=True)
class BlobState:
    """All that must come back of a blob. Times, ETags and ids of versions are the storage's own and are not here."""

    kind: str
    size_bytes: int
    sha256: str
    content_type: Optional[str]
    content_encoding: Optional[str]
    content_language: Optional[str]
    content_disposition: Optional[str]
    cache_control: Optional[str]
    content_md5: Optional[str]
    metadata: tuple[tuple[str, str], ...]
    tags: tuple[tuple[str, str], ...]
    tier: Optional[str]


@dataclass
class Snapshot:
    """An account at rest: its containers with their metadata, its blobs by (container, name)."""

    containers: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    blobs: dict[tuple[str, str], BlobState] = field(default_factory=dict)

    def only(self, container: str, prefix: str = "", rename_to: Optional[str] = None) -> "Snapshot":
        """What a restore of one container, or of a prefix of it, maybe under another name, has to make."""
        name = rename_to or container
        blobs = {(name, b): s for (c, b), s in self.blobs.items() if c == container and b.startswith(prefix)}
        return Snapshot({name: self.containers[container]}, blobs)

    def without(self, *containers: str) -> "Snapshot":
        """This account less some containers."""
        kept = {c: m for c, m in self.containers.items() if c not in containers}
        return Snapshot(kept, {key: state for key, state in self.blobs.items() if key[0] in kept})


def differences(expected: Snapshot, actual: Snapshot) -> list[str]:
    """Where `actual` is not what was `expected`, one line a difference.

    A missing MD5 may have been added by the storage, which computes it for what is put in one piece.
    """
    found: list[str] = []
    for name in sorted(expected.containers.keys() | actual.containers.keys()):
        if name not in actual.containers:
            found.append(f"container {name} is missing")
        elif name not in expected.containers:
            found.append(f"container {name} should not be there")
        elif expected.containers[name] != actual.containers[name]:
            found.append(f"container {name}: metadata {actual.containers[name]} instead of {expected.containers[name]}")
    for key in sorted(expected.blobs.keys() | actual.blobs.keys()):
        wanted, got = expected.blobs.get(key), actual.blobs.get(key)
        title = "/".join(key)[:160]
        if got is None:
            found.append(f"{title} is missing")
        elif wanted is None:
            found.append(f"{title} should not be there")
        else:
            if wanted.content_md5 is None:
                got = replace(got, content_md5=None)
            found += [
                f"{title}: {name} {getattr(got, name)!r} instead of {getattr(wanted, name)!r}"
                for name in BlobState.__dataclass_fields__
                if getattr(got, name) != getattr(wanted, name)
            ]
    return found


class Account:
    """One storage account, seen through the official client library."""

    def __init__(self, name: str, key: str, url: str) -> None:
        self.name = name
        self.key = key
        self.url = url
        self.client = BlobServiceClient(
            url, credential={"account_name": name, "account_key": key}, api_version=STORAGE_PROTOCOL, retry_total=3
        )

    @property
    def connection_string(self) -> str:
        """As the portal shows it, with the endpoint spelled out."""
        return f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};BlobEndpoint={self.url};"

    def container(self, name: str, metadata: Optional[dict[str, str]] = None) -> ContainerClient:
        """A container, made if it is not there."""
        client = self.client.get_container_client(name)
        try:
            client.create_container(metadata=metadata)
        except ResourceExistsError:
            pass
        return client

    def sas_url(self, container: str) -> str:
        """The address of a container with a signature that may read, list, write and delete for an hour."""
        from datetime import datetime, timedelta, timezone

        sas = generate_container_sas(
            self.name,
            container,
            account_key=self.key,
            permission=ContainerSasPermissions.from_string("racwdlt"),
            expiry=datetime.now(timezone.utc) + timedelta(hours=1),
        )
        return f"{self.url}/{container}?{sas}"

    def snapshot(self) -> Snapshot:
        """Reads everything."""
        state = Snapshot()
        work: list[tuple[str, Any]] = []
        for container in self.client.list_containers(include_metadata=True):
            state.containers[container.name] = pairs(container.metadata)
            client = self.client.get_container_client(container.name)
            work += [(container.name, blob) for blob in client.list_blobs(include=["metadata", "tags"])]
        with ThreadPoolExecutor(8) as pool:
            for key, blob in pool.map(lambda item: self._state(*item), work):
                state.blobs[key] = blob
        return state

    def blob_count(self) -> int:
        """How many blobs there are now."""
        return sum(1 for c in self.client.list_containers() for _ in self.client.get_container_client(c.name).list_blob_names())

    def empty(self) -> None:
        """Deletes every container."""
        for container in list(self.client.list_containers()):
            self.client.delete_container(container.name)

    def _state(self, container: str, blob: Any) -> tuple[tuple[str, str], BlobState]:
        digest = hashlib.sha256()
        client = self.client.get_blob_client(container, blob.name)
        for piece in client.download_blob(max_concurrency=1).chunks():
            digest.update(piece)
        settings: ContentSettings = blob.content_settings
        tier = None if blob.blob_tier_inferred else blob.blob_tier
        state = BlobState(
            kind=str(getattr(blob.blob_type, "value", blob.blob_type)),
            size_bytes=blob.size,
            sha256=digest.hexdigest(),
            content_type=settings.content_type or None,
            content_encoding=settings.content_encoding or None,
            content_language=settings.content_language or None,
            content_disposition=settings.content_disposition or None,
            cache_control=settings.cache_control or None,
            content_md5=bytes(settings.content_md5).hex() if settings.content_md5 else None,
            metadata=pairs(blob.metadata),
            tags=pairs(blob.tags),
            tier=str(tier) if tier else None,
        )
        return (container, blob.name), state


def pairs(members: Optional[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    """A mapping as a value that compares."""
    return tuple(sorted((members or {}).items()))


# --- filling -------------------------------------------------------------------------------------------------------

UNUSUAL_NAMES = [
    "with a space/and  two.txt",
    "100%/50%25 off/%41.txt",
    "query?and#fragment&more=+;,.txt",
    "ünïcödé/größe/naïve.txt",
    "日本語/ファイル.txt",
    "emoji/🗄️/📦.bin",
    "composed-\u00e9 and decomposed-e\u0301.txt",
    "trailing.dot.",
    "a//double//slash",
    "quotes/'single' \"double\" <angle> & ampersand.xml",
    "[brackets]/{braces}/(parentheses)/~tilde!*.txt",
    "/".join(f"level{n}" for n in range(60)) + "/leaf",
    "long/" + "x" * 1019,
    "UPPER/lower",
    "upper/LOWER",
]


def put_blocks(client: BlobClient, blocks: Iterable[bytes], **properties: Any) -> None:
    """Stages the blocks four at a time, then commits them. No more than the running ones are in memory."""
    gate = threading.Semaphore(6)
    ids: list[BlobBlock] = []

    def stage(block_id: str, block: bytes) -> None:
        try:
            client.stage_block(block_id, block)
        finally:
            gate.release()

    with ThreadPoolExecutor(4) as pool:
        staged = []
        for number, block in enumerate(blocks):
            block_id = base64.b64encode(f"{number:08}".encode()).decode()
            ids.append(BlobBlock(block_id))
            gate.acquire()
            staged.append(pool.submit(stage, block_id, block))
        for one in staged:
            one.result()
    client.commit_block_list(ids, **properties)


def big_blob_blocks(size_mib: int, changed_mib: Optional[int] = None) -> Iterator[bytes]:
    """A blob of many MiB that don't compress, in blocks of 4 MiB; one MiB of it can be another."""
    for first in range(0, size_mib, 4):
        numbers = range(first, min(first + 4, size_mib))
        yield b"".join(seeded_bytes(MIB, "big", n, n == changed_mib) for n in numbers)


def fill_sample(account: Account, *, big_mib: int = 300) -> None:
    """About 200 blobs of all shapes in four containers: `documents`, `media`, `logs` and `archive`."""
    documents = account.container("documents", {"owner": "records", "retention": "seven years"})
    media = account.container("media")
    logs = account.container("logs")
    archive = account.container("archive")

    jobs: list[Callable[[], object]] = []
    for number, name in enumerate(UNUSUAL_NAMES):
        jobs.append(lambda n=number, b=name: documents.upload_blob(b, seeded_text(500 + n, "unusual", n)))
    for number in range(130):
        name = f"reports/2026/{number % 12 + 1:02}/report-{number:03}.txt"
        jobs.append(lambda n=number, b=name: documents.upload_blob(b, seeded_text(1 + n * 500, "report", n)))
    for number in range(50):
        name = f"pictures/{number % 5}/{number:04}.jpg"
        settings = ContentSettings(content_type="image/jpeg", cache_control="max-age=3600")
        jobs.append(
            lambda n=number, b=name, s=settings: media.upload_blob(b, seeded_bytes(2_000 + n * 997, "picture", n), content_settings=s)
        )
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()

    documents.upload_blob("empty", b"")
    documents.upload_blob("one-byte", b"\x00")
    documents.upload_blob("same-1", seeded_bytes(100_000, "same"))
    documents.upload_blob("same-2", seeded_bytes(100_000, "same"))
    documents.upload_blob(
        "all-properties",
        seeded_text(4_000, "all"),
        metadata={"department": "finance", "case_id": "42", "note": "with spaces, commas; and = signs"},
        tags={"project": "alpha", "state": "in review", "path": "a/b:c"},
        content_settings=ContentSettings(
            content_type="text/csv; charset=utf-8",
            content_encoding="identity",
            content_language="de-CH, en",
            content_disposition='attachment; filename="all properties.csv"',
            cache_control="no-cache, max-age=0",
        ),
        standard_blob_tier=StandardBlobTier.COOL,
    )
    documents.upload_blob("cold", seeded_text(3_000, "cold"), standard_blob_tier=StandardBlobTier.COLD)
    documents.upload_blob("hot", seeded_text(3_000, "hot"), standard_blob_tier=StandardBlobTier.HOT)
    blocks = [seeded_bytes(size, "blocks", size) for size in (MIB, 3 * MIB + 17, 4 * MIB - 17)]
    put_blocks(
        media.get_blob_client("video/eight-mib.mp4"),
        blocks,
        content_settings=ContentSettings(content_type="video/mp4", content_md5=bytearray(hashlib.md5(b"".join(blocks)).digest())),
        metadata={"codec": "h264"},
    )
    put_blocks(archive.get_blob_client("images/disk.img"), big_blob_blocks(big_mib), metadata={"made": "from blocks"})

    journal = logs.get_blob_client("journal.log")
    journal.create_append_blob(content_settings=ContentSettings(content_type="text/plain"), metadata={"kind": "append"})
    for number in range(3):
        journal.append_block(seeded_text(70_000, "journal", number))
    disk = logs.get_blob_client("small.vhd")
    disk.create_page_blob(256 * 1024, metadata={"kind": "page"})
    disk.upload_page(seeded_bytes(4096, "page", 1), offset=0, length=4096)
    disk.upload_page(seeded_bytes(8192, "page", 2), offset=128 * 1024, length=8192)


def change_sample(account: Account, *, big_mib: int = 300) -> None:
    """Overwrites, changes properties of, deletes and adds some of what `fill_sample` made."""
    documents = account.client.get_container_client("documents")
    for number in range(0, 120, 10):
        name = f"reports/2026/{number % 12 + 1:02}/report-{number:03}.txt"
        documents.upload_blob(name, b"changed " + seeded_text(500, "again", number), overwrite=True)
    for number in range(1, 120, 10):
        documents.delete_blob(f"reports/2026/{number % 12 + 1:02}/report-{number:03}.txt")
    documents.upload_blob("added/later.txt", b"came later")
    documents.get_blob_client("one-byte").set_blob_metadata({"touched": "yes"})
    documents.get_blob_client("hot").set_standard_blob_tier(StandardBlobTier.COOL)
    documents.get_blob_client("same-1").set_blob_tags({"changed": "tags only"})
    account.client.get_container_client("logs").get_blob_client("journal.log").append_block(b"one more line\n")
    big = account.client.get_container_client("archive").get_blob_client("images/disk.img")
    put_blocks(big, big_blob_blocks(big_mib, changed_mib=big_mib // 2), metadata={"made": "from blocks"})


def fill_plain(account: Account, container: str, count: int, size_bytes: int, *seed: object) -> None:
    """Many blobs of one size in one container."""
    client = account.container(container)
    with ThreadPoolExecutor(8) as pool:
        done = [
            pool.submit(client.upload_blob, f"{n % 7}/{n:05}.bin", seeded_bytes(size_bytes, seed, container, n)) for n in range(count)
        ]
        for one in done:
            one.result()
