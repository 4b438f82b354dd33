"""The underlay end, on real sockets in two network namespaces with a router between them:

left 192.0.2.1, 2001:db8:1::1 --- router --- right 198.51.100.1, 2001:db8:2::1
                             mtu 1500     mtu 1300
"""

import os
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from dataplane.errors import NodeError
from dataplane.forwarding.udp import BUFFER_BYTES, Underlay
from dataplane.kernel import netdev
from dataplane.lab.netns import Namespace
from dataplane.packets.batch import MAX_PACKET, PacketBatch
from dataplane.packets.routes import address_key
from dataplane.packets.verdicts import Egress, Verdict
from tests.waiting import wait_until

LEFT = {4: "192.0.2.1", 6: "2001:db8:1::1"}
RIGHT = {4: "198.51.100.1", 6: "2001:db8:2::1"}
TOS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module")
def hosts(namespaces: None) -> Iterator[tuple[Namespace, Namespace]]:
    left, router, right = made = [Namespace(f"udp-{name}-{os.getpid()}") for name in ("left", "router", "right")]
    try:
        for netns in made:
            Namespace.create(netns.name)
            netns.sysctl({"net/ipv6/conf/default/accept_dad": 0})
        router.ip(
            f"link add left mtu 1500 type veth peer name eth0 mtu 1500 netns {left.name}",
            f"link add right mtu 1300 type veth peer name eth0 mtu 1300 netns {right.name}",
            *(f"addr add {a} dev left" for a in ("192.0.2.254/24", "2001:db8:1::254/64")),
            *(f"addr add {a} dev right" for a in ("198.51.100.254/24", "2001:db8:2::254/64")),
            "link set left up",
            "link set right up",
        )
        router.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        for netns, addresses, gateways in (
            (left, LEFT, ("192.0.2.254", "2001:db8:1::254")),
            (right, RIGHT, ("198.51.100.254", "2001:db8:2::254")),
        ):
            netns.ip(
                f"addr add {addresses[4]}/24 dev eth0",
                f"addr add {addresses[6]}/64 dev eth0",
                "link set eth0 up",
                *(f"route add default via {gateway}" for gateway in gateways),
            )
        yield left, right
    finally:
        for netns in made:
            netns.delete()


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def underlay(hosts: tuple[Namespace, Namespace], version: int) -> Iterator[Underlay]:
    """An underlay on the left host."""
    with hosts[0].entered():
        opened = Underlay.open(ip_address(LEFT[version]))
    with opened:
        yield opened


@pytest.fixture
def peer(hosts: tuple[Namespace, Namespace], version: int) -> Iterator[socket.socket]:
    """A plain socket on the right host."""
    with hosts[1].socket(FAMILY[version], socket.SOCK_DGRAM) as sock:
        sock.bind((RIGHT[version], 8285))
        sock.setsockopt(TOS[version][0], {4: socket.IP_RECVTOS, 6: socket.IPV6_RECVTCLASS}[version], 1)
        sock.settimeout(5)
        yield sock


def to_peer(content: list[tuple[bytes, int]], next_hop: int = 1) -> PacketBatch:
    batch = PacketBatch(slots=len(content), slot_size=MAX_PACKET)
    for i, (payload, tos) in enumerate(content):
        batch.append(payload, tos=tos)
        batch.egress[i], batch.next_hop[i] = Egress.UNDERLAY, next_hop
    return batch


def test_datagrams_carry_the_tos_out(underlay: Underlay, peer: socket.socket, version: int) -> None:
    batch = to_peer([(b"plain", 0), (b"expedited", 0xB8), (b"", 0x03), (b"for the TUN", 0)])
    batch.egress[3] = Egress.TUN
    assert underlay.write_batch(batch, {1: (RIGHT[version], 8285)}) == []
    received = []
    for _ in range(3):
        payload, control, _, sender = peer.recvmsg(100, 100)
        assert sender[:2] == (LEFT[version], 8285)
        received.append((payload, control[0][2][0]))
    assert received == [(b"plain", 0), (b"expedited", 0xB8), (b"", 0x03)]
    assert list(batch.verdict) == [Verdict.FORWARDED] * 4


def test_datagrams_carry_the_tos_in(underlay: Underlay, peer: socket.socket, version: int) -> None:
    for payload, tos in ((b"plain", 0), (b"expedited", 0xBB), (b"", 1)):
        peer.sendmsg([payload], [(*TOS[version], struct.pack("i", tos))], 0, (LEFT[version], 8285))
    batch = PacketBatch(slots=4, slot_size=MAX_PACKET)
    while batch.count < 3:
        assert select.select([underlay], [], [], 5)[0]
        underlay.read_batch(batch)
    assert [bytes(batch.packet(i)) for i in range(3)] == [b"plain", b"expedited", b""]
    assert list(batch.tos[:3]) == [0, 0xBB, 1]
    assert {batch.source_address(i) for i in range(3)} == {address_key(ip_address(RIGHT[version]))}
    assert underlay.read_batch(batch) == 0


def test_a_narrow_path_is_learned_from_the_kernel(underlay: Underlay, peer: socket.socket, version: int) -> None:
    """The first large datagram is lost to the router, which says so; then the kernel refuses, and names the MTU."""
    destination = {1: (RIGHT[version], 8285)}
    inner_mtu = 1300 - underlay.overhead
    assert underlay.path_mtu(destination[1]) == 1500 - underlay.overhead
    assert underlay.write_batch(to_peer([(bytes(inner_mtu + 1), 0)]), destination) == []
    wait_until(lambda: underlay.path_mtu(destination[1]) == inner_mtu, "the kernel knows the path's MTU")
    batch = to_peer([(bytes(inner_mtu), 0), (bytes(inner_mtu + 1), 0), (bytes(1500), 0)])
    assert underlay.write_batch(batch, destination) == [1, 2]
    assert len(peer.recv(MAX_PACKET)) == inner_mtu


def test_a_datagram_without_df_crosses_a_narrow_path(underlay: Underlay, peer: socket.socket, version: int) -> None:
    """The kernel fragments it for the path that it knows, and the peer's kernel puts it together again."""
    destination = {1: (RIGHT[version], 8285)}
    know_narrow_path(underlay, version)
    batch = to_peer([(b"\1" * 1400, 0), (b"\2" * 1400, 0)])
    batch.no_df[0] = 1
    assert underlay.write_batch(batch, destination) == [1], "the next one has DF again"
    assert peer.recv(MAX_PACKET) == b"\1" * 1400


def test_the_kernel_forgets_a_path_mtu(
    hosts: tuple[Namespace, Namespace], underlay: Underlay, peer: socket.socket, version: int
) -> None:
    know_narrow_path(underlay, version)
    with hosts[0].entered():
        for _ in range(2):  # once more when nothing is known
            netdev.forget_path_mtu(ip_address(RIGHT[version]))
    assert underlay.path_mtu((RIGHT[version], 8285)) == 1500 - underlay.overhead


def know_narrow_path(underlay: Underlay, version: int) -> None:
    """Have the router tell the kernel of the path's MTU."""
    destination = {1: (RIGHT[version], 8285)}
    if underlay.path_mtu(destination[1]) > 1300:
        underlay.write_batch(to_peer([(bytes(1400), 0)]), destination)
        wait_until(lambda: underlay.path_mtu(destination[1]) < 1300, "the kernel knows the path's MTU")


def test_no_way_to_the_peer_is_a_verdict(underlay: Underlay, version: int) -> None:
    nowhere = {4: "240.0.0.1", 6: "ff0e::1"}[version]
    batch = to_peer([(b"lost", 0)])
    unreachable = {1: (nowhere, 0)}  # port 0 is nobody's
    assert underlay.write_batch(batch, unreachable) == []
    assert batch.verdict[0] == Verdict.SEND_FAILED


def test_buffers_are_large_and_overruns_are_counted(underlay: Underlay, peer: socket.socket, version: int) -> None:
    assert min(underlay.buffer_bytes()) >= BUFFER_BYTES
    assert underlay.overruns() == 0
    payload = bytes(1200)

    def overrun() -> bool:
        for _ in range(1000):
            peer.sendto(payload, (LEFT[version], 8285))
        return underlay.overruns() > 0

    wait_until(overrun, "the buffer to be full")


def test_a_busy_port_is_said(hosts: tuple[Namespace, Namespace], underlay: Underlay) -> None:
    with hosts[0].entered(), pytest.raises(NodeError, match="UDP port 8285 of"):
        Underlay.open(underlay.address)


def test_workers_share_a_port(hosts: tuple[Namespace, Namespace], version: int) -> None:
    address = ip_address(LEFT[version])
    with (
        hosts[0].entered(),
        Underlay.open(address, 8286, shared=True) as first,
        Underlay.open(address, 8286, shared=True) as second,
    ):
        assert (first.port, second.port) == (8286, 8286)


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_an_address_of_another_host_is_said(hosts: tuple[Namespace, Namespace], address: str) -> None:
    with hosts[0].entered(), pytest.raises(NodeError, match="no interface of this host has the address"):
        Underlay.open(ip_address(address))
