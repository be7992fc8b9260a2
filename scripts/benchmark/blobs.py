"""A small client of one Blob endpoint, with an account SAS: fills containers and reads them back. Not what is measured."""

import base64
import hashlib
import hmac
import http.client
import os
import threading
import urllib.parse
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1 << 20
BLOCK = 8 * MIB
VERSION = "2021-12-02"


class BlobFailed(Exception):
    """A request that was refused."""


def account_sas(account, key):
    """An account SAS for everything in the Blob service, without the leading question mark."""
    terms = {"sv": VERSION, "ss": "b", "srt": "sco", "sp": "rwdlacup", "se": "2099-12-31T00:00:00Z"}
    # Empty: start, addresses, protocols, encryption scope. The text ends with a line feed.
    text = "\n".join([account, terms["sp"], terms["ss"], terms["srt"], "", terms["se"], "", "", terms["sv"], "", ""])
    signature = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return urllib.parse.urlencode({**terms, "sig": base64.b64encode(signature).decode()})


class Blobs:
    """The containers of one account at `http://host:port/account`."""

    def __init__(self, endpoint, account, key):
        parts = urllib.parse.urlsplit(endpoint)
        self.endpoint, self.host, self.path = endpoint, parts.netloc, parts.path
        self.sas = account_sas(account, key)
        self._local = threading.local()

    def url(self, container):
        """The address of a container with its SAS."""
        return f"{self.endpoint}/{container}?{self.sas}"

    def create(self, container):
        """Makes an empty container."""
        self._request("PUT", container, {"restype": "container"})

    def delete(self, container):
        """Deletes a container if it is there."""
        self._request("DELETE", container, {"restype": "container"}, good=(202, 404))

    def upload(self, container, folder, names):
        """Puts files of a folder as blobs of the same names."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self._put(f"{container}/{name}", Path(folder, name)), names))

    def put(self, path, content):
        """Puts one small blob, over whatever is there."""
        self._request("PUT", path, body=content, headers={"x-ms-blob-type": "BlockBlob"})

    def warm(self, container, names):
        """Reads some of every blob: a server that compiles as it runs (Node) has then compiled what it needs."""
        for name in names[:2000]:
            for _ in range(1 + 40 // len(names)):
                self._request("GET", f"{container}/{name}", headers={"x-ms-range": f"bytes=0-{2 * BLOCK - 1}"})

    def remove(self, container, names):
        """Deletes blobs."""
        for name in names:
            self._request("DELETE", f"{container}/{name}")

    def names(self, container):
        """The names of all blobs, sorted."""
        found, marker = [], ""
        while True:
            page = xml.fromstring(self._request("GET", container, {"restype": "container", "comp": "list", "marker": marker}))
            found.extend(name.text for name in page.iterfind("Blobs/Blob/Name"))
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return sorted(found)

    def difference(self, container, folder, expected):
        """The first thing in which a container differs from the files of a folder, or nothing."""
        odd = sorted(set(expected) ^ set(self.names(container)))
        if odd:
            return f"{len(odd)} names are in one of {folder} and {container} only, such as {odd[0]}"
        with ThreadPoolExecutor(4) as pool:
            equal = pool.map(lambda name: self._is_equal(f"{container}/{name}", Path(folder, name)), expected)
            return next((f"{name} has other bytes" for name, same in zip(expected, equal) if not same), None)

    def _put(self, path, file):
        size = file.stat().st_size
        if size <= BLOCK:
            self._request("PUT", path, body=file.read_bytes(), headers={"x-ms-blob-type": "BlockBlob"})
            return
        blocks = []
        with file.open("rb") as source:
            while piece := source.read(BLOCK):
                blocks.append(base64.b64encode(f"{len(blocks):08}".encode()).decode())
                self._request("PUT", path, {"comp": "block", "blockid": blocks[-1]}, body=piece)
        listed = "".join(f"<Latest>{block}</Latest>" for block in blocks)
        self._request("PUT", path, {"comp": "blocklist"}, body=f"<BlockList>{listed}</BlockList>".encode())

    def _is_equal(self, path, file):
        size = file.stat().st_size
        with file.open("rb") as source:
            for start in range(0, size, BLOCK):
                headers = {"x-ms-range": f"bytes={start}-{start + BLOCK - 1}"}
                if self._request("GET", path, headers=headers) != source.read(BLOCK):
                    return False
        # Ranges of the file's length say nothing of what the blob may have behind it.
        return self._length(path) == size

    def _length(self, path):
        return int(self._exchange("HEAD", path, {}, None, {})[1].getheader("Content-Length"))

    def _request(self, method, path, query=None, body=None, headers=None, good=(200, 201, 202, 206)):
        answer, response = self._exchange(method, path, query or {}, body, headers or {})
        if response.status not in good:
            raise BlobFailed(f"{method} {path} answered {response.status}: {answer[:300].decode(errors='replace')}")
        return answer

    def _exchange(self, method, path, query, body, headers):
        target = f"{self.path}/{urllib.parse.quote(path)}?{urllib.parse.urlencode(query)}&{self.sas}"
        headers = {"x-ms-version": VERSION, **headers}
        if method == "PUT":
            headers["Content-Length"] = str(len(body or b""))
        # A server may close a connection that was idle: everything here may be asked twice.
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, target, body=body, headers=headers)
                response = connection.getresponse()
                return response.read(), response
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if attempt == 2:
                    raise

    def _connection(self):
        if getattr(self._local, "connection", None) is None:
            self._local.connection = http.client.HTTPConnection(self.host, timeout=120)
        return self._local.connection


def files(folder):
    """The names that the files of a folder have as blobs, sorted."""
    found = []
    for parent, _, names in os.walk(folder):
        found.extend(Path(parent, name).relative_to(folder).as_posix() for name in names)
    return sorted(found)
