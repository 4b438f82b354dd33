"""Five nodes with a pod each, pods that never stop talking, and a supervisor that starts nodes again."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from dataplane.errors import NodeError
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import Pinger
from dataplane.lab.topology import Lab, Pod
from dataplane.node.control import ControlClient
from tests.chaos.shim import Shim
from tests.cluster.site import Flow, etcd_members, store_url
from tests.stores.etcd_server import EtcdMember

SETTLE_SECONDS = 60.0
"""So long may it take until all is well after the last mischief, on a busy machine; usually it is one second."""

ENGINES = ("native", "python", "numpy", "native", "python")
MOST_DESCRIPTORS, MOST_THREADS = 64, 24
"""Of one node, at rest: a leak grows past any bound."""


class Site:
    """The nodes, each with what can be made wrong for it. A context manager."""

    def __init__(self, directory: Path, library: Path, *, with_etcd: bool = False) -> None:
        """Keep all files in `directory`. The store is etcd on a host of its own, or an SQLite file."""
        self.directory = directory
        self.lab = Lab(versions=(4,))
        self.overlays: list[Overlay] = []
        self.daemons: list[Daemon] = []
        self.shims: list[Shim] = []
        self._with_etcd = with_etcd
        self._etcd: EtcdMember | None = None
        self._library = library
        self._stack = ExitStack()
        self._before: dict[tuple[int, int], dict[str, Any]] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.lab)
            if self._with_etcd:
                self._stack.enter_context(self.lab.underlay.entered())  # where the test can talk to it
                (self._etcd,) = self._stack.enter_context(etcd_members(self.lab, self.directory, 1))
            flags = ["--iptables-resync=1", "--lease-seconds=600"]
            for number, engine in enumerate(ENGINES):
                shims = self.directory / f"shim{number}"
                shims.mkdir()
                self.shims.append(Shim(self._library, shims))
                overlay = Overlay(self.lab, self.directory, engine=engine, flags=flags, name_address=False)
                if self._etcd is not None:
                    overlay.store = store_url([self._etcd])
                self.overlays.append(self._stack.enter_context(overlay))
                self.daemons.append(self._start(number, first=True))
            for daemon in self.daemons:
                daemon.wait_until_ready()
                self.lab.add_pod(daemon.node, *daemon.lease())
            self.settle()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pods(self) -> list[Pod]:
        """One of each node."""
        return [daemon.node.pods[0] for daemon in self.daemons]

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Every pod pings the next one for the length of the block."""
        pods = self.pods
        flows = [Flow(source, target) for source, target in zip(pods, pods[1:] + pods[:1], strict=True)]
        with contextlib.ExitStack() as stack:
            for flow in flows:
                stack.callback(flow.start().stop)
            yield

    @contextlib.contextmanager
    def store_out_of_reach(self) -> Iterator[None]:
        """etcd is killed and started again; somebody holds the write lock of the SQLite file."""
        if self._etcd is not None:
            self._etcd.kill()
            yield
            self._etcd.start()
            self._etcd.wait()
            return
        with contextlib.closing(sqlite3.connect(self.directory / "leases.db", timeout=30)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield
            database.rollback()

    def supervise(self, seconds: float) -> None:
        """Start nodes again that end, for so long. It has to be this thread, with which the kernel ends them."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._start_ended()
            time.sleep(0.05)

    def settle(self) -> None:
        """Wait until all is as it should be; AssertionError with what is not."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while wrong := self._wrong():
            self._start_ended()
            assert time.monotonic() < deadline, f"after {SETTLE_SECONDS:.0f} s still: {wrong}"
            time.sleep(0.05)

    def check(self) -> None:
        """What must hold at all times when all is well."""
        statuses = [self.status(number) for number in range(len(self.daemons))]
        subnets = [ip_network(status["lease"]["subnets"][0]) for status in statuses]
        assert len(set(subnets)) == len(subnets), f"two nodes own a subnet: {subnets}"
        for number, (daemon, status) in enumerate(zip(self.daemons, statuses, strict=True)):
            assert str(daemon.lease()[0][0]) == status["lease"]["subnets"][0], f"{daemon.node.name}'s subnet file"
            self._check_counters(number, status)
            self._check_leaks(daemon)
            _, traceback, rest = daemon.log.read_text().partition("Traceback")
            assert not traceback, f"{daemon.node.name} shows a traceback{rest[:3000]}"

    def status(self, number: int) -> Any:
        """What a node says of itself."""
        return ControlClient(self.daemons[number].directory / "run" / "control.sock").status()

    def _start(self, number: int, *, first: bool = False) -> Daemon:
        node = self.lab.add_node() if first else self.daemons[number].node
        self.shims[number].set(refuse_size=0)  # an interpreter that has none cannot even start
        with self.shims[number].within():
            return self.overlays[number].start(node)

    def _start_ended(self) -> None:
        for number, daemon in enumerate(self.daemons):
            if daemon.process.poll() is not None:
                self.daemons[number] = self._start(number)

    def _wrong(self) -> str:
        """The first thing that is not as it should be; empty when all is."""
        for number, daemon in enumerate(self.daemons):
            try:
                status = self.status(number)
            except NodeError as error:
                return f"{daemon.node.name} does not answer: {error}"
            if status["phase"] != "ready" or status["lease"]["state"] != "held" or status["store"]["trouble"]:
                return f"{daemon.node.name} is {status['phase']}, {status['lease']}, {status['store']}"
            if status["host"]["troubles"] or status["host"]["lesser_troubles"]:
                return f"{daemon.node.name} has troubles: {status['host']}"
            if differences := self._differences(number):
                return f"{daemon.node.name} has not seen yet: {differences}"
            if sum(peer["reachable"] for peer in status["peers"]) != len(self.daemons) - 1:
                return f"{daemon.node.name} knows {len(status['peers'])} peers"
        return self._unreachable()

    def _differences(self, number: int) -> dict[str, str]:
        """What on the host is not as the node has set it up, at this moment."""
        try:
            client = ControlClient(self.daemons[number].directory / "run" / "control.sock")
            found = client.request("GET", "/v1/host")["differences"]
        except NodeError as error:
            return {"the control socket": str(error)}
        return {what: difference for what, difference in found.items() if difference}

    def _unreachable(self) -> str:
        for source in self.pods:
            for target in self.pods:
                with Pinger(source.netns, target.address(4)) as pinger:
                    try:
                        answer = pinger.ping(1, timeout=0.5) if source is not target else None
                    except OSError as error:
                        return f"{source.name} cannot send: {error}"
                if source is not target and (answer is None or not answer.echoed):
                    return f"{source.name} does not reach {target.name}"
        return ""

    def _check_counters(self, number: int, status: dict[str, Any]) -> None:
        """Counters of one process only grow, and a peer's share is part of the whole, as it is a moment later."""
        counters, identity = self.status(number)["counters"], (number, status["pid"])
        before = self._before.get(identity, {})
        self._before[identity] = counters
        for direction, key in (("encap", "tx_packets"), ("decap", "rx_packets")):
            shares = sum(peer[key] or 0 for peer in status["peers"])
            assert shares <= counters[direction]["packets"], (direction, shares, counters[direction])
            for name in ("packets", "bytes") if before else ():
                assert counters[direction][name] >= before[direction][name], (direction, name)

    @staticmethod
    def _check_leaks(daemon: Daemon) -> None:
        process = Path(f"/proc/{daemon.process.pid}")
        descriptors, threads = len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
        assert descriptors <= MOST_DESCRIPTORS, f"{daemon.node.name} has {descriptors} descriptors"
        assert threads <= MOST_THREADS, f"{daemon.node.name} has {threads} threads"
        links = daemon.node.netns.run(["ip", "-brief", "link"]).stdout
        names = {line.split()[0].partition("@")[0] for line in links.splitlines()}
        expected = {"lo", "eth0", "cni0", "udplane0", daemon.node.pods[0].host_device}
        assert names <= expected | {"flannel.1"}, f"{daemon.node.name} has {names - expected}"
