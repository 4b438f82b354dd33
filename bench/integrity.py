"""Does everything arrive, byte for byte? Patterned TCP and UDP data through every combination of offloads.

    python -m bench.integrity --gigabytes 10

Two nodes on a wire without segmentation offload; in the second half of the run the wire loses, duplicates and reorders
packets. What arrives is compared with what was sent: TCP to the byte, UDP datagram by datagram. On the good wire
datagrams must also arrive in order and only once.
"""

import argparse
import itertools
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random

from bench.impair import Impairment, impair
from bench.pair import NO_SEGMENTATION_OFFLOAD
from dataplane.errors import UdplaneError
from dataplane.lab.netns import LabError
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import FAMILIES
from dataplane.lab.topology import Lab, Pod

OFFLOADS = ("tso", "gso", "gro", "uso")
BAD_WIRE = Impairment(loss=2, duplication=3, reordering=3)

PERIOD = 1_048_573
"""Length of the pattern; a prime, so that data which is shifted or swapped never fits by chance."""
PATTERN = memoryview(Random(8285).randbytes(PERIOD) * 2)
CHUNK = 1 << 19

SIZES = (1400, 64, 1000, 1400, 8, 9, 1424, 333)
"""Bytes of datagrams; each size is used for a run of them, since runs are what offloads work on."""
RUN = 40
SEQUENCE = struct.Struct("!Q")
UDP_SEGMENT = 103
PACE = 0.002
"""Seconds from one run of datagrams to the next: below what any combination of offloads carries."""
SILENCE = 0.5
PATIENCE = 30.0


@dataclass(slots=True)
class Arrivals:
    """What became of datagrams."""

    sent: int = 0
    arrived: int = 0
    """Different ones."""
    repeated: int = 0
    late: int = 0
    """Arrived after one that was sent later."""


@contextmanager
def two_nodes(directory: Path, *, prefix: str | None = None) -> Iterator[Overlay]:
    """Two nodes, a pod on each, and between them a wire without segmentation offload. `prefix` is that of `Lab`."""
    with Lab(prefix=prefix) as lab:
        for _ in range(2):
            node = lab.add_node()
            node.netns.run(["ethtool", "-K", "eth0", *NO_SEGMENTATION_OFFLOAD])
        with Overlay(lab, directory) as overlay:
            overlay.up(pods_per_node=1)
            yield overlay


@contextmanager
def without(base: Overlay, offloads: Sequence[str], *flags: str) -> Iterator[list[Daemon]]:
    """The nodes of `base`, started again without some offloads; the pods live on."""
    for daemon in base.daemons:
        daemon.stop()
    option = ["--no-offload", ",".join(offloads)] if offloads else []
    with Overlay(base.lab, base.directory, flags=[*option, *flags]) as overlay:
        daemons = [overlay.start(node) for node in base.lab.nodes]
        for daemon in daemons:
            daemon.wait_until_ready()
        yield daemons


def combinations() -> list[tuple[str, ...]]:
    """Every set of offloads that can be switched off."""
    return [off for n in range(len(OFFLOADS) + 1) for off in itertools.combinations(OFFLOADS, n)]


def check_tcp(sender: Pod, receiver: Pod, version: int, n_bytes: int) -> float:
    """Send `n_bytes` of the pattern over TCP and compare what arrives: the rate in Gb/s, or LabError if it differs."""
    address = receiver.address(version)
    with ExitStack() as stack:
        listener = stack.enter_context(receiver.netns.socket(FAMILIES[version].family, socket.SOCK_STREAM))
        source = stack.enter_context(sender.netns.socket(FAMILIES[version].family, socket.SOCK_STREAM))
        listener.bind((str(address), 0))
        listener.listen(1)
        listener.settimeout(PATIENCE)
        source.settimeout(PATIENCE)
        source.connect(listener.getsockname()[:2])
        sink = stack.enter_context(listener.accept()[0])
        sink.settimeout(PATIENCE)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        start = time.monotonic()
        sending = pool.submit(_send_stream, source, n_bytes)
        received = _compare_stream(sink)
        sending.result()
        seconds = time.monotonic() - start
    if received != n_bytes:
        raise LabError(f"TCP: {n_bytes} bytes sent, {received} arrived")
    return n_bytes * 8 / seconds / 1e9


def _send_stream(source: socket.socket, n_bytes: int) -> None:
    for at in range(0, n_bytes, CHUNK):
        start = at % PERIOD
        source.sendall(PATTERN[start : start + min(CHUNK, n_bytes - at)])
    source.shutdown(socket.SHUT_WR)


def _compare_stream(sink: socket.socket) -> int:
    """Read to the end and compare every byte; returns how many there were."""
    buffer, at = memoryview(bytearray(CHUNK)), 0
    while n := sink.recv_into(buffer):
        start = at % PERIOD
        if buffer[:n] != PATTERN[start : start + n]:
            raise LabError(f"TCP: bytes {at} to {at + n} are not those that were sent")
        at += n
    return at


def check_udp(sender: Pod, receiver: Pod, version: int, runs: int) -> Arrivals:
    """Send `runs` runs of datagrams and compare what arrives. LabError for a datagram that was not sent like this."""
    with ExitStack() as stack:
        source = stack.enter_context(sender.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM))
        sink = stack.enter_context(receiver.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sink.bind((str(receiver.address(version)), 0))
        sink.settimeout(SILENCE)
        source.connect(sink.getsockname()[:2])
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        sending = pool.submit(_send_datagrams, source, runs)
        arrivals = _compare_datagrams(sink)
        sending.result()
    arrivals.sent = runs * RUN
    return arrivals


def _datagram(sequence: int) -> bytes:
    start = sequence * 7919 % PERIOD
    size = SIZES[sequence // RUN % len(SIZES)]
    return SEQUENCE.pack(sequence) + PATTERN[start : start + size - SEQUENCE.size]


def _send_datagrams(source: socket.socket, runs: int) -> None:
    """Send each run at once, segmented by the kernel: what a pod with a modern QUIC library does."""
    for run in range(runs):
        size = SIZES[run % len(SIZES)]
        segment = (socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", size))
        source.sendmsg([_datagram(sequence) for sequence in range(run * RUN, (run + 1) * RUN)], [segment])
        time.sleep(PACE)


def _compare_datagrams(sink: socket.socket) -> Arrivals:
    """Read until there is silence, and compare every datagram."""
    arrivals, seen, newest = Arrivals(), set[int](), -1
    while True:
        try:
            data = sink.recv(65535)
        except TimeoutError:
            return arrivals
        sequence = SEQUENCE.unpack_from(data)[0] if len(data) >= SEQUENCE.size else -1
        if sequence < 0 or data != _datagram(sequence):
            raise LabError(f"UDP: a datagram of {len(data)} bytes, number {sequence}, is not as it was sent")
        if sequence in seen:
            arrivals.repeated += 1
            continue
        seen.add(sequence)
        arrivals.arrived += 1
        arrivals.late += sequence < newest
        newest = max(newest, sequence)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one combination of offloads did; what arrived was right, else there would be none."""

    gbits_per_second: tuple[float, float]
    """TCP over IPv4 and over IPv6."""
    udp: Arrivals
    """Both together."""


def check_combination(base: Overlay, off: Sequence[str], n_bytes: int) -> Outcome:
    """Push `n_bytes` of TCP, then UDP, through the nodes without the offloads `off`."""
    (first,), (second,) = (node.pods for node in base.lab.nodes)
    with without(base, off):
        rates = [check_tcp(first, second, version, n_bytes // 2) for version in (4, 6)]
        parts = [check_udp(second, first, version, runs=50) for version in (4, 6)]
    totals = (sum(counts) for counts in zip(*(astuple(part) for part in parts), strict=True))
    return Outcome((rates[0], rates[1]), Arrivals(*totals))


def check_order(udp: Arrivals) -> None:
    """On a wire that does not do such things, datagrams arrive in order and once."""
    if udp.late or udp.repeated:
        raise LabError(f"UDP: {udp.late} datagrams out of order and {udp.repeated} repeated on a good wire")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every combination on a good wire, then on a bad one."""
    parser = argparse.ArgumentParser(prog="bench.integrity", description="Send patterned data and compare it.")
    parser.add_argument("--gigabytes", type=float, default=10, help="TCP data in all (default %(default)s)")
    options = parser.parse_args(argv)
    n_bytes = int(options.gigabytes * 1e9 / (2 * len(combinations())))
    print("wire offloads off        TCP Gb/s    UDP: sent  arrived  repeated  late")
    try:
        with tempfile.TemporaryDirectory() as directory, two_nodes(Path(directory)) as overlay:
            for good_wire in (True, False):
                if not good_wire:
                    impair(overlay.lab.underlay, ("node1", "node2"), BAD_WIRE)
                for off in combinations():
                    outcome = check_combination(overlay, off, n_bytes)
                    if good_wire:
                        check_order(outcome.udp)
                    _print(off, outcome, good_wire=good_wire)
    except UdplaneError as error:
        print(f"integrity: {error}", file=sys.stderr)
        return 1
    print(f"{options.gigabytes:g} GB arrived as they were sent.")
    return 0


def _print(off: Sequence[str], outcome: Outcome, *, good_wire: bool) -> None:
    wire, missing = "good" if good_wire else "bad", ",".join(off) or "-"
    v4, v6 = outcome.gbits_per_second
    udp = outcome.udp
    counts = f"{udp.sent:>9}{udp.arrived:>9}{udp.repeated:>10}{udp.late:>6}"
    print(f"{wire:<5}{missing:<18}{v4:5.2f} {v6:5.2f} {counts}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
