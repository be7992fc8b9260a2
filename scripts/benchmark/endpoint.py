"""The Blob endpoints that take the part of Azure: the built-in emulator and Azurite, each a process of its own."""

import os
import subprocess
import threading
from pathlib import Path

from .blobs import Blobs

ACCOUNT = "devstoreaccount1"
# The published key of the development account, no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Endpoint:
    """A running server; ends with the `with` block."""

    def __init__(self, process, url):
        self.process, self.pid = process, process.pid
        self.url = f"{url}/{ACCOUNT}"
        self.connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
        self.blobs = Blobs(self.url, ACCOUNT, KEY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Emulator(Endpoint):
    """`blobkeep emulator`, with containers of generated blobs (NAME=COUNT:MIN:MAX) and a second account to restore to."""

    def __init__(self, binary, containers=(), options=()):
        synthetic = [f"--synthetic={ACCOUNT}/{container}" for container in containers]
        process = subprocess.Popen(
            [binary, "emulator", "--listen", "127.0.0.1:0", "--account", ACCOUNT, "--account", "target", *synthetic, *options],
            stdout=subprocess.PIPE, text=True)
        url = _announced(process, "listening on ")
        super().__init__(process, url)
        self.source, self.target = (process.stdout.readline().strip() for _ in range(2))


class Azurite(Endpoint):
    """Azurite's blob service, its blobs in files of a folder."""

    def __init__(self, program, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        node = ["node"] if str(program).endswith(".js") else []
        process = subprocess.Popen(
            [*node, program, "--blobHost", "127.0.0.1", "--blobPort", "0", "--location", folder, "--silent", "--disableTelemetry",
             "--skipApiVersionCheck"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}, stdout=subprocess.PIPE, text=True)
        super().__init__(process, _announced(process, "successfully listens on "))
        # What it goes on to say must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()


def _announced(process, before):
    for line in process.stdout:
        if before in line:
            return line.split(before, 1)[1].split()[0].rstrip("/")
    raise SystemExit(f"{process.args[0]} ended with {process.wait()} before it served")
