"""More packets than a node can take: each is delivered, or counted where it was dropped.

    pod1 -- node1 [TUN queue] --- underlay --- [receive buffer] node2 -- pod2

A daemon that is stopped for a moment (SIGSTOP) lets the queue in front of it overflow.
"""

import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from bench.integrity import check_udp
from dataplane.forwarding.udp import BUFFER_BYTES, SK_MEMINFO_DROPS, SK_MEMINFO_VARS, SO_MEMINFO
from dataplane.kernel.device import TX_QUEUE_LEN
from dataplane.lab.overlay import Daemon
from dataplane.lab.topology import Pod
from tests.offloads.conftest import ALL_ON, Pair, Start
from tests.waiting import wait_until

SMALL, LARGE = 64, 1400
REPORTS = 4
"""Multicast reports (MLD) that the host may send by the TUN after it came up."""


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """The daemon does not run for the length of the block."""
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def overruns(pair: Pair, node: int, queue: str) -> int:
    """Packets that a node tells it has lost to a full "queue" (of the TUN) or "receive" buffer."""
    return int(pair.status(node)["backend"][f"{queue}_overruns"])


def send_burst(source: socket.socket, n: int, size: int) -> None:
    """Send `n` datagrams as fast as they go, none of them segmented."""
    datagram = bytes(size)
    for _ in range(n):
        source.send(datagram)


class Sink:
    """A socket in a pod, and how many datagrams have come to it since it was opened."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._taken = 0

    def come(self) -> int:
        """Take what waits; what did not fit the receive buffer has come, too."""
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(65535, socket.MSG_DONTWAIT)
                self._taken += 1
        info = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * SK_MEMINFO_VARS)
        return self._taken + int(struct.unpack(f"={SK_MEMINFO_VARS}I", info)[SK_MEMINFO_DROPS])


@contextmanager
def connected(sender: Pod, receiver: Pod) -> Iterator[tuple[socket.socket, Sink]]:
    """A socket in each pod; the first is connected to the second."""
    with (
        sender.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        receiver.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
    ):
        sink.bind((str(receiver.address(4)), 0))
        source.connect(sink.getsockname())
        yield source, Sink(sink)


def test_every_packet_of_a_burst_is_delivered_or_counted(start: Start) -> None:
    with start("--no-offload", "gso") as pair, connected(*pair.pods) as (source, sink):
        send_burst(source, 1, SMALL)
        expect(pair, sink, 1)
        expect(pair, sink, sink.come() + overflow_node1(pair, source), others=REPORTS)
        expect(pair, sink, sink.come() + overflow_node2(pair, source))


def overflow_node1(pair: Pair, source: socket.socket) -> int:
    """Send more than fits the TUN's queue; returns how many were not counted as lost there."""
    n = 2 * TX_QUEUE_LEN
    before = overruns(pair, 0, "queue")
    with stopped(pair.daemons[0]):
        send_burst(source, n, SMALL)
    lost = overruns(pair, 0, "queue") - before
    assert 0 < lost < n
    return n - lost


def overflow_node2(pair: Pair, source: socket.socket) -> int:
    """Send more than fits the receive buffer; returns how many were not counted as lost there."""
    rounds, at_once = 2 * BUFFER_BYTES // LARGE // 500, 500
    already = pair.packets(0, "encap")
    with stopped(pair.daemons[1]):
        for number in range(1, rounds + 1):
            send_burst(source, at_once, LARGE)
            wait_until(partial(has_sent, pair, already + number * at_once), "node1 has sent them")
    lost = overruns(pair, 1, "receive")
    assert 0 < lost < rounds * at_once
    return rounds * at_once - lost


def has_sent(pair: Pair, n: int) -> bool:
    """Whether node1 has sent so many packets since its start."""
    return pair.packets(0, "encap") >= n


def expect(pair: Pair, sink: Sink, n: int, *, others: int = 0) -> None:
    """Wait until so many datagrams have come in all, and no more; `others` may be among those that were dropped."""
    wait_until(lambda: sink.come() >= n, f"{n} datagrams come to the pod")
    assert sink.come() - n <= others
    for node in (0, 1):
        assert not pair.drops(node, "encap")
        assert not pair.drops(node, "decap")


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_flows_stay_in_order_with_several_workers(start: Start, version: int) -> None:
    with start(*ALL_ON, "--workers", "2") as pair:
        arrivals = check_udp(*pair.pods, version, runs=50)
        assert (arrivals.late, arrivals.repeated) == (0, 0)
        assert arrivals.arrived > arrivals.sent / 2
