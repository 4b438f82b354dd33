"""Stores with thousands of leases: filled and changed by a script, as if by thousands of nodes."""

import base64
import json
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from dataplane.errors import NodeError
from dataplane.lab.overlay import wait_until
from dataplane.lab.topology import Lab

PREFIX = "/coreos.com/network/subnets/"
CLIENT_PORT = 2379
_AT_ONCE = 100
"""Writes in one transaction; etcd's default limit is 128."""


class ScaleStore(Protocol):
    """A store that nodes use and that a script writes to."""

    url: str
    """What `--store` is given."""

    def write(self, leases: Iterable[tuple[str, str]]) -> None:
        """Put these keys and values, over what was there."""


class SqliteFile:
    """A database file. The nodes must have made its tables."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "leases.db"
        self.url = f"sqlite:{self._path}"

    def write(self, leases: Iterable[tuple[str, str]]) -> None:
        """See `ScaleStore`."""
        expires = time.time() + 86400
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            rows = ((key, value, expires) for key, value in leases)
            database.executemany("INSERT OR REPLACE INTO leases (key, value, expires) VALUES (?, ?, ?)", rows)


class EtcdServer:
    """One etcd on the underlay's router; the calling thread must be there to write."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}:{CLIENT_PORT}/v3/"
        self.url = f"etcd://{address}:{CLIENT_PORT}"

    def write(self, leases: Iterable[tuple[str, str]]) -> None:
        """See `ScaleStore`. All under one etcd lease, as if granted at once."""
        number = self._post("lease/grant", {"TTL": "86400"})["ID"]
        puts = [
            {"request_put": {"key": _base64(PREFIX + key), "value": _base64(value), "lease": number}}
            for key, value in leases
        ]
        for start in range(0, len(puts), _AT_ONCE):
            self._post("kv/txn", {"success": puts[start : start + _AT_ONCE]})

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self._post("kv/range", {"key": _base64("a")})
        except OSError:
            return False
        return True

    def _post(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self._base + method, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@contextmanager
def sqlite_store(_lab: Lab, directory: Path) -> Iterator[ScaleStore]:
    """The embedded store."""
    yield SqliteFile(directory)


@contextmanager
def etcd_store(lab: Lab, directory: Path) -> Iterator[ScaleStore]:
    """An etcd of one member."""
    if shutil.which("etcd") is None:
        raise NodeError("this case needs etcd: apt-get install etcd-server, or leave it out with --cases")
    address = "192.168.0.1"
    client, peer = f"http://{address}:{CLIENT_PORT}", f"http://{address}:2380"
    command = ["etcd", "--name", "m0", "--data-dir", str(directory / "etcd"), "--initial-cluster", f"m0={peer}"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    with (directory / "etcd.log").open("wb") as log:
        process = lab.underlay.start(command, log=log)
    try:
        with lab.underlay.entered():
            server = EtcdServer(address)
            wait_until(server.answers, "etcd to answer")
            yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
