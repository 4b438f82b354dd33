"""The loop: two nodes on in-memory ends with a clock that is a number, and the worker thread around it."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from dataplane.engines.contract import EngineConfig
from dataplane.engines.python import PythonEngine
from dataplane.errors import NodeError
from dataplane.forwarding.forwarder import BatchLoop, Forwarder
from dataplane.forwarding.memory import MemoryTun, MemoryUnderlay, Wire
from dataplane.packets.batch import PacketBatch
from dataplane.packets.routes import RouteSnapshot, RouteTable
from dataplane.packets.verdicts import Direction, Event, Verdict
from tests.waiting import wait_until

UNDERLAY = ("192.168.0.201", "192.168.0.202")


class Node:
    """Node number 1 or 2, with the subnets 10.5.N.0/24 and fd05:N::/64, on in-memory ends."""

    def __init__(self, number: int, wire: Wire, **changes: object) -> None:
        self.address = UNDERLAY[number - 1]
        config = EngineConfig(IPv4Network(f"10.5.{number}.0/24"), IPv6Network(f"fd05:{number}::/64"), mtu=1472)
        self.engine = PythonEngine(replace(config, **changes))  # type: ignore[arg-type]
        self.tun = MemoryTun()
        self.loop = BatchLoop(self.engine, self.tun, MemoryUnderlay(wire, self.address), slots=4)
        self.loop.set_routes(routes_to(3 - number))

    def counted(self, direction: Direction) -> dict[str, int]:
        """Packets by verdict, without the zeros."""
        return {v.name: n for v, n in zip(Verdict, self.engine.counters().packets[direction], strict=True) if n}


def routes_to(number: int) -> RouteSnapshot:
    table = RouteTable()
    subnets = [ip_network(f"10.5.{number}.0/24"), ip_network(f"fd05:{number}::/64")]
    table.set("peer", ip_address(UNDERLAY[number - 1]), 8285, subnets)
    return table.snapshot()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def nodes(wire: Wire) -> tuple[Node, Node]:
    return Node(1, wire), Node(2, wire)


def packet(ttl: int = 64, tos: int = 0, size: int = 28, destination: str = "10.5.2.2", flags: str = "") -> bytes:
    return bytes(
        IP(src="10.5.1.2", dst=destination, ttl=ttl, tos=tos, flags=flags) / UDP(chksum=0) / Raw(bytes(size - 28))
    )


def test_a_packet_crosses_two_nodes(nodes: tuple[Node, Node]) -> None:
    """It leaves the first node as it is but for the TTL, and the second with two less than at first."""
    left, right = nodes
    left.tun.from_host.append(packet(ttl=64, size=100))
    assert (left.loop.turn(0), right.loop.turn(0)) == (1, 1)
    assert right.tun.to_host == [packet(ttl=62, size=100)]
    assert left.counted(Direction.ENCAP) == right.counted(Direction.DECAP) == {"FORWARDED": 1}


def test_a_turn_is_one_batch_each_way(nodes: tuple[Node, Node]) -> None:
    left, right = nodes
    left.tun.from_host.extend(packet(size=30 + i) for i in range(10))
    assert [left.loop.turn(0) for _ in range(4)] == [4, 4, 2, 0]
    assert [right.loop.turn(0) for _ in range(4)] == [4, 4, 2, 0]
    assert [len(p) for p in right.tun.to_host] == list(range(30, 40))


def test_congestion_on_the_wire_reaches_the_inner_packet(nodes: tuple[Node, Node], wire: Wire) -> None:
    left, right = nodes
    wire.congested = True
    left.tun.from_host += [packet(tos=0xB8 | bits) for bits in range(4)]
    left.loop.turn(0)
    right.loop.turn(0)
    assert [p[1] for p in right.tun.to_host] == [0xB8, 0xBB, 0xBB, 0xBB]


def test_a_ttl_that_runs_out_at_the_far_node_is_answered_through_the_overlay(nodes: tuple[Node, Node]) -> None:
    left, right = nodes
    left.tun.from_host.append(packet(ttl=2))
    left.loop.turn(0)
    right.loop.turn(0)
    (error,) = right.tun.to_host
    assert right.counted(Direction.DECAP) == {"TTL_EXCEEDED": 1}
    right.tun.to_host.clear()
    right.tun.from_host.append(error)  # the host routes it back into the TUN, having taken nothing from its TTL
    right.loop.turn(0)
    left.loop.turn(0)
    (arrived,) = left.tun.to_host
    assert (IP(arrived).src, IP(arrived).dst, IP(arrived)[ICMP].type) == ("10.5.2.0", "10.5.1.2", 11)


def test_a_packet_that_may_be_cut_crosses_a_narrow_wire(nodes: tuple[Node, Node], wire: Wire) -> None:
    """Also the one by which the node learns that the wire is narrow."""
    left, right = nodes
    wire.mtus[UNDERLAY[1], 8285] = 1300
    left.tun.from_host += [packet(size=1400), packet(size=1400), packet(size=1272)]
    left.loop.turn(0)
    right.loop.turn(0)
    right.loop.turn(0)
    assert sorted(len(p) for p in right.tun.to_host) == [152, 152, 1268, 1268, 1272]
    assert left.counted(Direction.ENCAP) == {"FORWARDED": 3}
    events = left.engine.counters().events
    assert (events[Event.FRAGMENTED], events[Event.MTU_LEARNED], events[Event.ICMP_SENT]) == (2, 1, 0)


def test_a_wire_that_is_said_to_be_too_narrow_is_used_without_df(wire: Wire) -> None:
    left, right = Node(1, wire, least_mtu=1280), Node(2, wire)
    wire.mtus[UNDERLAY[1], 8285] = 552
    six = bytes(IPv6(src="fd05:1::2", dst="fd05:2::2") / UDP() / Raw(bytes(1232)))
    left.tun.from_host += [six, six, packet(size=1400), packet(size=1280, flags="DF"), packet(size=1281, flags="DF")]
    left.loop.turn(0)
    left.loop.turn(0)
    right.loop.turn(0)
    right.loop.turn(0)
    assert [len(p) for p in right.tun.to_host] == [1280, 1280, 1276, 144, 1280]
    assert left.counted(Direction.ENCAP) == {"FORWARDED": 4, "TOO_BIG": 1}
    assert left.engine.counters().events[Event.SENT_WITHOUT_DF] == 4
    (error,) = left.tun.to_host
    assert IP(error)[ICMP].nexthopmtu == 1280


def test_a_narrow_wire_is_learned_and_told(nodes: tuple[Node, Node], wire: Wire) -> None:
    left, _ = nodes
    wire.mtus[UNDERLAY[1], 8285] = 1300
    left.tun.from_host += [packet(size=1400, flags="DF"), packet(size=1272)]
    left.loop.turn(0)
    (error,) = left.tun.to_host
    assert IP(error)[ICMP].nexthopmtu == 1300 - 28
    assert left.counted(Direction.ENCAP) == {"TOO_BIG": 1, "FORWARDED": 1}
    assert left.engine.counters().bytes[Direction.ENCAP][Verdict.TOO_BIG] == 1400
    assert left.engine.counters().events[Event.MTU_LEARNED] == 1
    six = bytes(IPv6(src="fd05:1::2", dst="fd05:2::2") / UDP() / Raw(bytes(1300)))
    left.tun.from_host.append(six)
    left.loop.turn(0)
    assert IPv6(left.tun.to_host[-1])[ICMPv6PacketTooBig].mtu == 1300 - 28


def test_refused_for_size_without_a_narrow_path_is_a_failure(nodes: tuple[Node, Node]) -> None:
    """Larger than the wire, because the node was told a wrong MTU; what the kernel knows of the path is no help."""
    left, _ = nodes
    loop = BatchLoop(left.engine, left.tun, ContraryUnderlay(Wire(), UNDERLAY[0]))
    loop.set_routes(routes_to(2))
    left.tun.from_host.append(packet(size=1000))
    loop.turn(0)
    assert left.counted(Direction.ENCAP) == {"SEND_FAILED": 1}


class ContraryUnderlay(MemoryUnderlay):
    """Finds every datagram too large, and does not know why."""

    def write_batch(self, batch: PacketBatch, destinations: object) -> list[int]:  # noqa: ARG002
        return list(range(batch.count))


def test_refusals_behind_the_engine_are_counted(nodes: tuple[Node, Node], wire: Wire) -> None:
    left, right = nodes
    right.tun.up = False
    left.tun.from_host.append(packet())
    left.loop.turn(0)
    right.loop.turn(0)
    assert right.counted(Direction.DECAP) == {"WRITE_FAILED": 1}
    del wire.waiting[UNDERLAY[1], 8285]
    left.tun.from_host.append(packet())
    left.loop.turn(0)
    assert left.counted(Direction.ENCAP) == {"FORWARDED": 1, "SEND_FAILED": 1}


# The thread. Its ends are socket pairs: what is sent into one comes out of the device, a message for a packet.


class PairTun:
    """A TUN whose other end is `host`."""

    name = "pair"

    def __init__(self) -> None:
        self._device, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._device.setblocking(False)
        self.broken: Exception | None = None

    def fileno(self) -> int:
        return self._device.fileno()

    def read_batch(self, batch: PacketBatch) -> int:
        if self.broken:
            raise self.broken
        try:
            batch.append(self._device.recv(65535))
        except BlockingIOError:
            return 0
        return 1

    def write_batch(self, batch: PacketBatch) -> None:
        """Throw away what is for the host."""

    def close(self) -> None:
        self._device.close()
        self.host.close()


class QuietUnderlay(MemoryUnderlay):
    """An underlay with a descriptor on which nothing ever arrives."""

    def __init__(self, wire: Wire, address: str) -> None:
        super().__init__(wire, address)
        self._fd = os.eventfd(0)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def ends(wire: Wire) -> Iterator[tuple[PairTun, QuietUnderlay]]:
    tun, underlay = PairTun(), QuietUnderlay(wire, UNDERLAY[0])
    MemoryUnderlay(wire, UNDERLAY[1])
    yield tun, underlay
    tun.close()
    underlay.close()


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def forwarder(ends: tuple[PairTun, QuietUnderlay], errors: list[Exception]) -> Iterator[Forwarder]:
    config = EngineConfig(IPv4Network("10.5.1.0/24"), IPv6Network("fd05:1::/64"), mtu=1472)
    made = Forwarder(PythonEngine(config), *ends, on_error=errors.append)
    made.set_routes(routes_to(2))
    made.start()
    yield made
    made.stop()
    assert not made.running


def forwarded(forwarder: Forwarder) -> int:
    return forwarder.counters().packets[Direction.ENCAP][Verdict.FORWARDED]


def test_the_thread_forwards_by_the_newest_routes(
    forwarder: Forwarder, ends: tuple[PairTun, QuietUnderlay], errors: list[Exception]
) -> None:
    host = ends[0].host
    host.send(packet())
    wait_until(lambda: forwarded(forwarder) == 1, "the packet is forwarded")
    forwarder.set_routes(RouteSnapshot())
    host.send(packet())
    wait_until(lambda: forwarder.counters().drops(Direction.ENCAP) == {"no_route": 1}, "the routes are gone")
    assert forwarder.running
    assert errors == []


def test_a_path_mtu_is_forgotten_when_the_path_is_wider_again(
    forwarder: Forwarder, ends: tuple[PairTun, QuietUnderlay], wire: Wire
) -> None:
    wire.mtus[UNDERLAY[1], 8285] = 1300
    ends[0].host.send(packet(size=1400, flags="DF"))
    wait_until(lambda: forwarder.counters().drops(Direction.ENCAP) == {"too_big": 1}, "the narrow path is met")
    forwarder.refresh_path_mtus()
    ends[0].host.send(packet(size=1400, flags="DF"))
    wait_until(lambda: forwarder.counters().drops(Direction.ENCAP) == {"too_big": 2}, "it is still narrow")
    wire.mtus.clear()
    forwarder.refresh_path_mtus()
    ends[0].host.send(packet(size=1400))
    wait_until(lambda: forwarded(forwarder) == 1, "it is wide again")


def test_a_path_mtu_can_be_forgotten(forwarder: Forwarder, ends: tuple[PairTun, QuietUnderlay], wire: Wire) -> None:
    """Also while the path is as narrow as ever: then it is learned once more."""
    wire.mtus[UNDERLAY[1], 8285] = 1300
    for times in (1, 2):
        ends[0].host.send(packet(size=1400, flags="DF"))
        wait_until(partial(learned_paths, forwarder, times), "it is learned")
        forwarder.forget_path_mtu(0)


def learned_paths(forwarder: Forwarder, times: int) -> bool:
    return forwarder.counters().events[Event.MTU_LEARNED] == times


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            OSError(77, "File descriptor in bad state"),
            NodeError("forwarding through pair has stopped: File descriptor in bad state"),
        ),
        (ZeroDivisionError("a defect"), ZeroDivisionError("a defect")),
    ],
)
def test_what_ends_the_thread_is_said(
    forwarder: Forwarder,
    ends: tuple[PairTun, QuietUnderlay],
    errors: list[Exception],
    cause: Exception,
    said: Exception,
) -> None:
    ends[0].broken = cause
    ends[0].host.send(packet())
    wait_until(lambda: not forwarder.running, "the thread has ended")
    assert errors == [forwarder.error]
    assert type(forwarder.error) is type(said)
    assert str(forwarder.error).startswith(str(said))


def test_stop_before_start_is_fine(ends: tuple[PairTun, QuietUnderlay]) -> None:
    config = EngineConfig(None, None, mtu=1472)
    Forwarder(PythonEngine(config), *ends).stop()


class LoopingEngine(PythonEngine):
    """An engine with a loop of its own, which waits to be stopped."""

    ran_on: tuple[int, int] | None = None
    entered = threading.Event()

    def run(self, tun_fd: int, udp_fd: int, stop_fd: int) -> None:
        """Wait until `stop_fd` is readable."""
        self.ran_on = tun_fd, udp_fd
        self.entered.set()
        wait_until(lambda: _readable(stop_fd), "the loop is told to stop", seconds=60)

    def features(self) -> dict[str, str]:
        """None."""
        return {}


def _readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0.1)[0])


def test_an_engine_with_a_loop_gets_the_descriptors(ends: tuple[PairTun, QuietUnderlay]) -> None:
    engine = LoopingEngine(EngineConfig(None, None, mtu=1472))
    forwarder = Forwarder(engine, *ends)
    forwarder.start()
    assert engine.entered.wait(10)
    snapshot = routes_to(2)
    forwarder.set_routes(snapshot)
    assert engine.routes is snapshot
    forwarder.stop()
    assert engine.ran_on == (ends[0].fileno(), ends[1].fileno())
    assert forwarder.error is None
