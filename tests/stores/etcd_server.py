"""Real etcd servers on loopback ports of their own, for tests; and a relay that can be cut."""

import asyncio
import base64
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dataplane.stores.etcd import EtcdStore
from dataplane.stores.etcd_gateway import Credentials, Gateway
from dataplane.stores.http import Endpoint

START_SECONDS = 20.0


def require_etcd() -> None:
    """Skip the test where etcd is not installed."""
    if shutil.which("etcd") is None:
        pytest.skip("needs the etcd server: run `sudo apt-get install etcd-server`")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def store_at(
    port: int, prefix: str, *, lease_seconds: float = 86400.0, user: str = "", password: str = ""
) -> EtcdStore:
    """A store in the etcd at a loopback port."""
    gateway = Gateway([Endpoint("127.0.0.1", port)], Credentials(user, password))
    return EtcdStore(gateway, prefix, lease_seconds=lease_seconds, rng=random.Random(port))


class EtcdMember:
    """One etcd process, whose clients talk to it by `scheme`. `arguments` come after those for addresses and data.

    It listens at `host`; `enter` goes before its command line, to run it in a namespace which has that address.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        ports: tuple[int, int],
        cluster: str,
        arguments: list[str],
        scheme: str,
        *,
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.host = host
        self.client_port, peer_port = ports
        self.data = directory / name
        self._log = directory / f"{name}.log"
        client, peer = f"{scheme}://{host}:{self.client_port}", f"http://{host}:{peer_port}"
        self.command = [*enter, "etcd", "--name", name, "--data-dir", str(self.data), "--heartbeat-interval", "50"]
        self.command += ["--election-timeout", "500", "--listen-client-urls", client, "--advertise-client-urls", client]
        self.command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        self.command += ["--initial-cluster", cluster, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *extra: str) -> None:
        """Start the process; `wait` for it before use."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self.command, *extra], stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until the member serves reads that need a leader."""
        self.post_until_done("kv/range", {"key": "YQ=="})

    def wait_for_any_answer(self) -> None:
        """Wait until something listens, even if it wants credentials first."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                self.post("kv/range", {"key": "YQ=="}, seconds=1.0)
            except urllib.error.HTTPError as error:
                if "user name is empty" in error.read().decode():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"etcd does not listen:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop it in its tracks: its connections stay and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def post(self, method: str, body: dict[str, Any], seconds: float = 10.0) -> dict[str, Any]:
        """One call of the JSON gateway, by a client that has nothing in common with the one under test."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.client_port}/v3/{method}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=seconds) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def post_until_done(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call that may come too early: tried until the member or the cluster is ready for it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                return self.post(method, body, seconds=1.0)
            time.sleep(0.05)
        raise AssertionError(f"etcd does not answer {method}:\n{self._log.read_text()[-2000:]}")

    def put(self, key: str, value: str, lease: int = 0) -> None:
        """Write a key."""
        self.post("kv/put", {"key": to_base64(key), "value": to_base64(value), "lease": str(lease)})

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.post("kv/deleterange", {"key": to_base64(key)})

    def dump(self, prefix: str) -> dict[str, tuple[str, int]]:
        """Every key below `prefix` with its value and its etcd lease."""
        answer = self.post("kv/range", {"key": to_base64(prefix + "/"), "range_end": to_base64(prefix + "0")})
        return {
            base64.b64decode(kv["key"]).decode(): (base64.b64decode(kv["value"]).decode(), int(kv.get("lease", 0)))
            for kv in answer.get("kvs", [])
        }

    def compact(self) -> None:
        """Forget all history."""
        revision = self.post("kv/range", {"key": "YQ=="})["header"]["revision"]
        self.post("kv/compaction", {"revision": revision, "physical": True})

    def is_leader(self) -> bool:
        """True if this member leads the cluster."""
        status = self.post("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])


def rejoin(helper: EtcdMember, lost: EtcdMember) -> None:
    """Bring a member whose data is gone back in, as etcd's manual says: remove it, add it, start it empty."""
    listed = helper.post("cluster/member/list", {})["members"]
    entry = next(member for member in listed if member["name"] == lost.name)
    helper.post("cluster/member/remove", {"ID": entry["ID"]})
    helper.post_until_done("cluster/member/add", {"peerURLs": entry["peerURLs"]})
    lost.data.rename(lost.data.with_name("lost"))
    lost.start("--initial-cluster-state", "existing")
    lost.wait()


def to_base64(text: str) -> str:
    """What the gateway wants instead of bytes."""
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def etcd_cluster(
    directory: Path, size: int, *arguments: str, wait: bool = True, scheme: str = "http"
) -> Iterator[list[EtcdMember]]:
    """A cluster of `size` members, which serve if `wait`; its processes are gone afterwards."""
    require_etcd()
    ports = free_ports(2 * size)
    names = [f"m{number}" for number in range(size)]
    cluster = ",".join(f"{name}=http://127.0.0.1:{ports[2 * n + 1]}" for n, name in enumerate(names))
    members = [
        EtcdMember(directory, name, (ports[2 * n], ports[2 * n + 1]), cluster, list(arguments), scheme)
        for n, name in enumerate(names)
    ]
    try:
        for member in members:
            member.start()
        for member in members if wait else ():
            member.wait()
        yield members
    finally:
        for member in members:
            member.kill()


class Relay:
    """A TCP relay to a port, which can be cut and mended; connections end when it is cut."""

    def __init__(self, target_port: int) -> None:
        (self.port,) = free_ports(1)
        self._target = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Refuse connections and end those that are open."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))
        finally:
            to_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def relay(target_port: int) -> AsyncIterator[Relay]:
    """A relay that works, and is cut at the end."""
    one = Relay(target_port)
    await one.mend()
    try:
        yield one
    finally:
        await one.cut()
