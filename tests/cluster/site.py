"""A small site for cluster tests: etcd members and udplane nodes in namespaces, and pods that never stop talking."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dataplane.lab.netns import Namespace
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import Pinger
from dataplane.lab.topology import Lab, Node, Pod
from dataplane.leases.lease import LeaseAttrs, Subnets
from dataplane.node.control import ControlClient
from tests.stores.etcd_server import EtcdMember, require_etcd

CLIENT_PORT, PEER_PORT = 2379, 2380
PREFIX = "/coreos.com/network"
ANSWER_SECONDS = 5.0
"""So long may an echo take on a busy machine; what takes longer is lost."""


@contextlib.contextmanager
def etcd_members(lab: Lab, directory: Path, count: int) -> Iterator[list[EtcdMember]]:
    """An etcd cluster whose members run on the next `count` nodes of `lab`; it serves."""
    require_etcd()
    nodes = [lab.add_node() for _ in range(count)]
    cluster = ",".join(f"{node.name}=http://{node.address(4)}:{PEER_PORT}" for node in nodes)
    members = [
        EtcdMember(
            directory,
            node.name,
            (CLIENT_PORT, PEER_PORT),
            cluster,
            [],
            "http",
            host=str(node.address(4)),
            enter=node.netns.command(["setpriv", "--pdeathsig", "KILL"]),
        )
        for node in nodes
    ]
    try:
        for member in members:
            member.start()
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            member.kill()


def store_url(members: list[EtcdMember]) -> str:
    """What `--store` is given."""
    return "etcd://" + ",".join(f"{member.host}:{member.client_port}" for member in members)


def holders(member: EtcdMember) -> dict[Subnets, LeaseAttrs]:
    """Who holds which subnet, as the store says."""
    prefix = f"{PREFIX}/subnets"
    return {
        Subnets.from_key(key.removeprefix(f"{prefix}/")): LeaseAttrs.from_json(value)
        for key, (value, _) in member.dump(prefix).items()
    }


@contextlib.contextmanager
def cut_off(netns: Namespace, members: list[EtcdMember]) -> Iterator[None]:
    """Take the way to all members from a host: its connections to them break, and new ones are refused."""
    addresses = ", ".join(member.host for member in members)
    netns.run(["nft", "add", "table", "ip", "cut"])
    netns.run(["nft", "add chain ip cut out { type filter hook output priority 0; }"])
    netns.run(["nft", f"add rule ip cut out ip daddr {{ {addresses} }} tcp dport {CLIENT_PORT} reject with tcp reset"])
    try:
        yield
    finally:
        netns.run(["nft", "delete", "table", "ip", "cut"])


def start_nodes(lab: Lab, overlay: Overlay, count: int) -> list[Daemon]:
    """Start daemons on `count` new hosts, each with a pod once it is ready."""
    daemons = [overlay.start(lab.add_node()) for _ in range(count)]
    for daemon in daemons:
        daemon.wait_until_ready()
        lab.add_pod(daemon.node, *daemon.lease())
    overlay.daemons += daemons
    return daemons


def ready_or_ended(daemon: Daemon) -> bool:
    """Wait until a daemon has its lease, or has given up; True if it has."""
    while daemon.process.poll() is None:
        if daemon.subnet_file.exists():
            return True
        time.sleep(0.02)
    return False


def status(daemon: Daemon) -> Any:
    """What a node says of itself, asked without starting a program."""
    return ControlClient(daemon.directory / "run" / "control.sock").status()


def public_ip(node: Node) -> str:
    """The address by which a node is known in the store."""
    return str(node.address(4))


@dataclass
class Flow:
    """Echo requests from one pod to another, one after the other, from `start` to `stop`."""

    source: Pod
    target: Pod
    sent: int = 0
    lost: int = 0
    longest: float = 0.0
    """Seconds from a request to its answer, at most."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=f"{self.source.name}->{self.target.name}")
        self._thread.start()
        return self

    def stop(self) -> None:
        """End, after the last answer."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with Pinger(self.source.netns, self.target.address(4)) as pinger:
            while not self._ended.wait(0.05):
                self.sent += 1
                reply = pinger.ping(self.sent & 0xFFFF, timeout=ANSWER_SECONDS)
                if reply is None or not reply.echoed:
                    self.lost += 1
                else:
                    self.longest = max(self.longest, reply.rtt)


class Flows:
    """Flows between pods, each pod of the first half with its counterpart in the second. A context manager."""

    def __init__(self, pods: list[Pod]) -> None:
        half = len(pods) // 2
        self.flows = [Flow(*pair) for pair in zip(pods[:half], pods[half:], strict=False)]

    def __enter__(self) -> Self:
        for flow in self.flows:
            flow.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all flows."""
        for flow in self.flows:
            flow.stop()
