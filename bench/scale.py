"""A node in a cluster of thousands: `python -m bench.scale`.

Two real nodes and a store that a script fills with the leases of thousands of others. For each case:

    start up     from the start of the daemon until every peer is in use, with all leases in the store
    storm        1,000 leases change their public address within one second, while the two nodes' pods exchange
                 echoes; time from the first write until the last change is in use
    memory       resident memory with all leases less that with one, by lease

CPU seconds are the daemon's. The times include what the store takes to notice: the embedded one is polled.
"""

import argparse
import itertools
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bench.environment import machine
from bench.scale_stores import ScaleStore, etcd_store, sqlite_store
from dataplane.errors import UdplaneError
from dataplane.lab.overlay import Daemon, Overlay, wait_until
from dataplane.lab.ping import Pinger
from dataplane.lab.topology import Lab, Pod

STORM_SECONDS = 1.0
STORM_PARTS = 20
PATIENCE = 120.0
_CHANGES = re.compile(r"peer (added|changed):|peers: (.*)")
_COUNT = re.compile(r"([0-9]+) (added|changed)")

NETWORK = "10.0.0.0/8"
_FIRST_LEASE = 10 << 24 | 100 << 16
"""The script's leases begin at 10.100.0.0; the real nodes take theirs from the beginning of the network."""
_ON_LINK = "172.16.255.254/16"
"""An address that puts all nodes that are not real on the link, where host-gw needs them."""


@dataclass(frozen=True, slots=True)
class Case:
    """A store and a backend."""

    name: str
    store: Callable[[Lab, Path], AbstractContextManager[ScaleStore]]
    backend: str


CASES = (
    Case("sqlite, udp", sqlite_store, "udp"),
    Case("etcd, udp", etcd_store, "udp"),
    Case("sqlite, vxlan", sqlite_store, "vxlan"),
    Case("sqlite, host-gw", sqlite_store, "host-gw"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a case gave."""

    start_seconds: float
    start_cpu_seconds: float
    storm_seconds: float
    storm_cpu_seconds: float
    memory_mb: float
    memory_per_lease_bytes: float
    echoes: int
    echoes_lost: int
    longest_echo_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Exit status 0, or 1 with one line of what went wrong."""
    options = _parse(argv)
    results: dict[str, Figures] = {}
    try:
        for case in CASES:
            if not options.cases or case.name in options.cases:
                results[case.name] = _measure(case, options)
    except UdplaneError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    environment = machine() | {"leases": str(options.leases), "changes": str(options.changes), "engine": options.engine}
    print(", ".join(f"{key} {value}" for key, value in environment.items()) + "\n")
    print(render(results))
    if options.json:
        document = {"environment": environment, "figures": {name: asdict(f) for name, f in results.items()}}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"every figure: {options.json}")
    return 0


def render(results: dict[str, Figures]) -> str:
    """The table for people."""
    rows = [("", *results)]
    rows += [
        (name.replace("_", " "), *(f"{asdict(figures)[name]:.4g}" for figures in results.values()))
        for name in Figures.__dataclass_fields__
    ]
    return "\n".join(first.ljust(26) + "".join(cell.rjust(18) for cell in rest) for first, *rest in rows)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="Measure a node in a large cluster.")
    parser.add_argument("--leases", type=int, default=5000, help="leases of other nodes (default %(default)s)")
    parser.add_argument("--changes", type=int, default=1000, help="changes in the storm (default %(default)s)")
    parser.add_argument("--engine", default="native", help="the engine of the udp cases (default %(default)s)")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="only these cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    options = parser.parse_args(argv)
    if not 1 <= options.changes <= options.leases <= 30000:
        parser.error("--changes must be from 1 to --leases, and that 30000 at most")
    return options


def _measure(case: Case, options: argparse.Namespace) -> Figures:
    """One case from beginning to end, in namespaces of its own."""
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="udplane-bench-")))
        lab = cleanup.enter_context(Lab(prefix=f"s{os.getpid()}-", versions=(4,)))
        store = cleanup.enter_context(case.store(lab, directory))
        overlay = cleanup.enter_context(Overlay(lab, directory / "nodes", engine=options.engine))
        overlay.store = store.url
        config = {"Network": NETWORK, "Backend": {"Type": case.backend}}
        (overlay.directory / "net-conf.json").write_text(json.dumps(config))
        small, pods = _start_both(lab, overlay)
        memory_before = _memory_bytes(small)
        small.stop()
        store.write(_leases(case.backend, 0, options.leases, moved=False))
        started = time.time()
        node = overlay.start(small.node)
        start_seconds = _seconds_until(lambda: _count(node, "added") >= options.leases + 1, started)
        start_cpu, memory = _cpu_seconds(node), _memory_bytes(node)
        with Echoes(*pods) as echoes:
            storm_started = time.time()
            _storm(store, case.backend, options.changes)
            storm_seconds = _seconds_until(lambda: _count(node, "changed") >= options.changes, storm_started)
            storm_cpu = _cpu_seconds(node) - start_cpu
            sent, lost, longest = echoes.stop()
        per_lease = (memory - memory_before) / options.leases
        return Figures(
            *(start_seconds, start_cpu, storm_seconds, storm_cpu, memory / 1e6, per_lease, sent, lost, longest * 1e3)
        )


def _start_both(lab: Lab, overlay: Overlay) -> tuple[Daemon, list[Pod]]:
    """Start the node that is measured and its peer, with a pod each."""
    pods = []
    daemons = []
    for _ in range(2):
        node = lab.add_node()
        node.netns.ip(f"addr add {_ON_LINK} dev eth0 noprefixroute", "route add 172.16.0.0/16 dev eth0")
        daemon = overlay.start(node)
        daemon.wait_until_ready()
        pods.append(lab.add_pod(node, *daemon.lease()))
        daemons.append(daemon)
    wait_until(lambda: _count(daemons[0], "added") >= 1, "the nodes to know each other")
    return daemons[0], pods


def _leases(backend: str, first: int, count: int, *, moved: bool) -> Iterator[tuple[str, str]]:
    """Keys and values of leases, as nodes of this backend write them; at other public addresses if they `moved`."""
    for number in range(first, first + count):
        subnet = _FIRST_LEASE + (number << 8)
        public = f"172.16.{(128 if moved else 0) + (number >> 8)}.{number & 255}"
        value = f'{{"PublicIP":"{public}","PublicIPv6":null'
        if backend != "udp":
            value += f',"BackendType":"{backend}"'
        if backend == "vxlan":
            value += f',"BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"}}'
        yield f"{subnet >> 24}.{subnet >> 16 & 255}.{subnet >> 8 & 255}.0-24", value + "}"


def _storm(store: ScaleStore, backend: str, changes: int) -> None:
    """Change so many leases, spread evenly over `STORM_SECONDS`."""
    started = time.monotonic()
    bounds = [changes * part // STORM_PARTS for part in range(STORM_PARTS + 1)]
    for part, (first, last) in enumerate(itertools.pairwise(bounds)):
        store.write(_leases(backend, first, last - first, moved=True))
        time.sleep(max(0.0, started + STORM_SECONDS * (part + 1) / STORM_PARTS - time.monotonic()))


def _seconds_until(condition: Callable[[], bool], started: float) -> float:
    """Seconds from `started`, a time of day, until `condition` holds."""
    wait_until(condition, "the leases to be in use", PATIENCE)
    return time.time() - started


def _count(daemon: Daemon, change: str) -> int:
    """How many changes of this kind the daemon has put into effect since it was started."""
    text = daemon.log.read_text()
    total = 0
    for match in _CHANGES.finditer(text, text.rfind("INFO  ready:")):
        if match[1]:
            total += match[1] == change
        else:
            total += sum(int(number) for number, kind in _COUNT.findall(match[2]) if kind == change)
    return total


def _memory_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def _cpu_seconds(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Echoes:
    """Echo requests from one pod to another, one after the other, as long as the `with` block lasts."""

    def __init__(self, source: Pod, target: Pod) -> None:
        self._pinger = Pinger(source.netns, target.address(4))
        self._thread = threading.Thread(target=self._run)
        self._ended = threading.Event()
        self._times: list[float | None] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pinger.__exit__()

    def stop(self) -> tuple[int, int, float]:
        """End them; returns how many were sent and lost, and the longest time to an answer in seconds."""
        self._ended.set()
        self._thread.join()
        answered = [seconds for seconds in self._times if seconds is not None]
        return len(self._times), len(self._times) - len(answered), max(answered, default=math.nan)

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            reply = self._pinger.ping(len(self._times) & 0xFFFF)
            self._times.append(reply.rtt if reply is not None and reply.echoed else None)


if __name__ == "__main__":
    sys.exit(main())
