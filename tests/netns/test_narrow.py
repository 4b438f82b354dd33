"""Paths narrower than pods send: nodes fragment, and the kernels of pods and nodes put together again.

    pod1 -- node1  udplane up --- underlay: route MTU --- udplane up  node2 -- pod2

Each node's route to the other is given an MTU, as a router on the way would teach it; nothing larger may cross.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from bench.integrity import PATTERN, check_tcp
from dataplane.forwarding.udp import DEFAULT_PORT
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import FAMILIES, ping
from dataplane.lab.topology import Lab, Pod
from tests.engines.conftest import available
from tests.offloads.exchange import MTU_DISCOVER, PMTUDISC_DONT, lockstep
from tests.waiting import wait_until

N_BYTES = 300_000
LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
SIZES = (1300, 1344, 1345, 1444, 1445, 1800, 2700, 3000, 9000)
"""Bytes of datagrams: whole, cut once by the node, cut by the pod already and then again."""

RIGS = {
    "native": (4, "native", ""),
    "native, IPv6 underlay": (6, "native", ""),
    "native without offloads": (4, "native", "all"),
    "numpy, IPv6 underlay": (6, "numpy", ""),
    "python": (4, "python", ""),
}
"""IP version of the underlay, engine, and offloads that are off."""


class Pair:
    """Two nodes with a pod each."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.lab = overlay.lab
        self.daemons: Sequence[Daemon] = overlay.daemons

    @property
    def pods(self) -> tuple[Pod, Pod]:
        """pod1 and pod2."""
        return self.lab.nodes[0].pods[0], self.lab.nodes[1].pods[0]

    def events(self, node: int) -> dict[str, int]:
        """What a node counted beside the verdicts."""
        events: dict[str, int] = self.daemons[node].status()["counters"]["events"]
        return events

    def drops(self) -> dict[str, int]:
        """What both nodes have dropped, but for the multicast that hosts send when a device comes up."""
        drops: dict[str, int] = {}
        for daemon in self.daemons:
            for way in ("encap", "decap"):
                for reason, count in daemon.status()["counters"][way]["drops"].items():
                    drops[reason] = drops.get(reason, 0) + count
        return {reason: count for reason, count in drops.items() if count and reason != "no_route"}

    @contextmanager
    def narrow(self, mtu: int) -> Iterator[None]:
        """Let the routes between the nodes carry packets of `mtu` bytes."""
        version = self.overlay.underlay
        routes = [f"{self.lab.nodes[1 - i].address(version)} dev eth0 mtu {mtu}" for i in range(2)]
        for node, route in zip(self.lab.nodes, routes, strict=True):
            node.netns.ip(f"route add {route}")
        try:
            yield
        finally:
            for node, route in zip(self.lab.nodes, routes, strict=True):
                node.netns.ip(f"route del {route}")


@pytest.fixture(scope="module", params=RIGS)
def pair(request: pytest.FixtureRequest, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    underlay, engine, no_offload = RIGS[request.param]
    if not available(engine):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(prefix=f"udp{os.getpid()}-narrow-"))
        for _ in range(2):
            lab.add_node()
        flags = ("--no-offload", no_offload)
        overlay = Overlay(lab, tmp_path_factory.mktemp("narrow"), engine=engine, underlay=underlay, flags=flags)
        stack.enter_context(overlay).up(pods_per_node=1)
        pair = Pair(overlay)
        for version in (4, 6):  # neighbours are known from here on
            assert all(ping(pair.pods[0].netns, pair.pods[1].address(version)))
        yield pair


def exchange(sender: Pod, receiver: Pod, version: int, sizes: Sequence[int]) -> None:
    """Send datagrams without DF; fail unless each arrives whole."""
    with ExitStack() as stack:
        sockets = [pod.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM) for pod in (sender, receiver)]
        source, sink = (stack.enter_context(sock) for sock in sockets)
        sink.bind((str(receiver.address(version)), 0))
        sink.settimeout(10)
        source.setsockopt(LEVEL[version], MTU_DISCOVER[version], PMTUDISC_DONT)
        for size in sizes:
            source.sendto(PATTERN[size : 2 * size], sink.getsockname()[:2])
            assert sink.recv(65535) == PATTERN[size : 2 * size]


def test_ipv4_without_df_crosses_a_narrow_path(pair: Pair) -> None:
    """In both directions, single packets and super-packets, also those by which the path is learned."""
    before = [pair.events(node)["fragmented"] for node in (0, 1)]
    with pair.narrow(1400):
        for sender, receiver in (pair.pods, pair.pods[::-1]):
            exchange(sender, receiver, 4, SIZES)
            assert all(ping(sender.netns, receiver.address(4), size=4000))
            lockstep(sender, receiver, 4, [(1400, 45), (1420, 30), (1000, 30)], may_fragment=True)
    assert all(pair.events(node)["fragmented"] > before[node] + 70 for node in (0, 1))
    assert not pair.drops()


def test_tcp_without_df_crosses_a_narrow_path(pair: Pair) -> None:
    first, second = pair.pods
    for pod in pair.pods:
        pod.netns.sysctl({"net/ipv4/ip_no_pmtu_disc": 1})
    try:
        before = pair.events(0)["fragmented"]
        with pair.narrow(1400):
            check_tcp(first, second, 4, N_BYTES)
        assert pair.events(0)["fragmented"] > before + 50
        assert not pair.drops()
    finally:
        for pod in pair.pods:
            pod.netns.sysctl({"net/ipv4/ip_no_pmtu_disc": 0})


def test_a_path_that_carries_less_than_ipv6_needs(pair: Pair) -> None:
    """The node's kernel fragments datagrams, and the peer's puts them together; pods are told no less than 1280."""
    before = [pair.events(node)["sent_without_df"] for node in (0, 1)]
    with pair.narrow(1300):
        exchange(*pair.pods, 4, SIZES)
        for version in (6, 4):
            check_tcp(*pair.pods, version, N_BYTES)
            check_tcp(*pair.pods[::-1], version, N_BYTES)
        assert_learned(pair)
    assert all(pair.events(node)["sent_without_df"] > before[node] for node in (0, 1))


def test_a_forged_icmp_error_stops_nobody(pair: Pair) -> None:
    """Sent by a stranger who knows both nodes' addresses and the port."""
    underlay = pair.overlay.underlay
    first, second = (node.address(underlay) for node in pair.lab.nodes)
    said = {4: 552, 6: 1280}[underlay]  # the least that the kernel believes
    header = {4: IP, 6: IPv6}[underlay](src=str(first), dst=str(second))
    datagram = bytes(header / UDP(sport=DEFAULT_PORT, dport=DEFAULT_PORT) / Raw(bytes(64)))
    error = {4: ICMP(type=3, code=4, nexthopmtu=said), 6: ICMPv6PacketTooBig(mtu=said, cksum=0)}[underlay]
    protocol = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}[underlay]
    with pair.lab.underlay.socket(FAMILIES[underlay].family, socket.SOCK_RAW, protocol) as stranger:
        stranger.sendto(bytes(error / Raw(datagram)), (str(first), 0))
    route = ["ip", "route", "get", str(second)]
    wait_until(lambda: f"mtu {said}" in pair.lab.nodes[0].netns.run(route).stdout, "the kernel believes it")
    for version in (6, 4):
        check_tcp(*pair.pods, version, N_BYTES)
    exchange(*pair.pods, 4, SIZES)
    assert_learned(pair)


def assert_learned(pair: Pair) -> None:
    """Node1's status says of the path to node2 that pods may send 1280 bytes, and what the kernel said, and when."""
    (peer,) = pair.daemons[0].status()["peers"]
    assert peer["mtu"] == 1280 > peer["learned_mtu"]["mtu"]
    assert 0 <= peer["learned_mtu"]["age_seconds"] < 60
