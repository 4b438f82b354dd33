"""What crosses the wire between two nodes, one side being a real node and the other scapy.

The drawing is in conftest.py.
"""

import socket
import struct
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from dataplane.engines.registry import ENGINES
from dataplane.lab.ping import Pinger, Reply
from dataplane.lab.sniff import Sniffer
from tests.netns.conftest import Rig
from tests.waiting import wait_until

NATIVE = pytest.param("native", marks=pytest.mark.kernels)
pytestmark = pytest.mark.parametrize(
    "engine", [NATIVE if name == "native" else name for name in ENGINES], indirect=True, scope="module"
)

PEER_POD = {4: "10.254.2.5", 6: "fd00:10:254:2::5"}
STRANGE_POD = {4: "10.254.3.5", 6: "fd00:10:254:3::5"}
NODE_TUN = {4: "10.254.1.0", 6: "fd00:10:254:1::"}
NODE_SUBNET = {4: ip_network("10.254.1.0/24"), 6: ip_network("fd00:10:254:1::/64")}
NOT_FOR_A_NODE = {
    4: ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "203.0.113.5"],
    6: ["::1", "::", "ff02::1", "fe80::1", "2001:db8::5", "::ffff:10.254.1.2"],
}
TOS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}

inner_versions = pytest.mark.parametrize("version", [4, 6], ids=["inner IPv4", "inner IPv6"])


def header(version: int, source: str, destination: str, ttl: int = 64, tos: int = 0) -> Packet:
    if version == 4:
        return IP(src=source, dst=destination, ttl=ttl, tos=tos)
    return IPv6(src=source, dst=destination, hlim=ttl, tc=tos)


def to_pod(rig: Rig, version: int, text: bytes, source: str | None = None, tos: int = 0) -> bytes:
    """What a pod of node2 sends to the pod, made by scapy."""
    destination = str(rig.pod.address(version))
    packet = header(version, source or PEER_POD[version], destination, tos=tos)
    return bytes(packet / UDP(sport=7000, dport=7000) / text)


def receive(sock: socket.socket) -> tuple[bytes, int]:
    """The next datagram at one of the hand-played hosts, and its outer TOS byte."""
    payload, control, _, _ = sock.recvmsg(65535, 100)
    return payload, control[0][2][0]


@inner_versions
def test_a_datagram_made_by_scapy_reaches_the_pod(rig: Rig, version: int) -> None:
    """Its TTL is two less: one for the node that decapsulates, one for the host that routes it on."""
    with rig.pod_socket(version) as pod, Sniffer(rig.pod.netns, "eth0") as sniffer:
        sent = to_pod(rig, version, b"hello pod")
        rig.peer.sendto(sent, rig.node_address)
        assert pod.recvfrom(100)[:1] == (b"hello pod",)
        frames = [frame.data[14:] for frame in sniffer.frames()]
        assert with_ttl_less(sent, 2) in frames


@inner_versions
def test_what_leaves_the_node_is_the_inner_packet_with_one_less_ttl(rig: Rig, version: int) -> None:
    with rig.pod_socket(version) as pod, Sniffer(rig.node.netns, "udplane0") as sniffer:
        pod.sendto(b"hello peer", (PEER_POD[version], 9))
        payload, _ = receive(rig.peer)
        into_the_tun = [frame.data for frame in sniffer.frames() if b"hello peer" in frame.data]
        assert [payload] == [with_ttl_less(packet, 1) for packet in into_the_tun]


@inner_versions
def test_strangers_and_foreign_sources_do_not_arrive(rig: Rig, version: int) -> None:
    before = rig.drops("decap")
    with rig.pod_socket(version) as pod:
        rig.stranger.sendto(to_pod(rig, version, b"from a stranger"), rig.node_address)
        rig.peer.sendto(to_pod(rig, version, b"not my lease", source=STRANGE_POD[version]), rig.node_address)
        rig.peer.sendto(to_pod(rig, version, b"your own pod", source=str(rig.pod.address(version))), rig.node_address)
        rig.peer.sendto(b"\0 is no version of IP", rig.node_address)
        rig.peer.sendto(to_pod(rig, version, b"good"), rig.node_address)
        assert pod.recv(100) == b"good"
        pod.settimeout(0)
        with pytest.raises(BlockingIOError):
            pod.recv(100)

    def new_drops() -> dict[str, int]:
        return {reason: count - before.get(reason, 0) for reason, count in rig.drops("decap").items()}

    expected = {"unknown_sender": 1, "foreign_source": 2, "bad_version": 1}
    wait_until(lambda: new_drops().items() >= expected.items(), f"the drops {expected} are counted")


@inner_versions
def test_only_what_is_for_the_nodes_own_subnet_comes_in(rig: Rig, version: int) -> None:
    """Nothing for the node's other addresses, loopback, broadcast or multicast, nor for hosts behind the node."""
    subnet = NODE_SUBNET[version]
    others = [rig.node.address(version), STRANGE_POD[version], *NOT_FOR_A_NODE[version], subnet.network_address - 1]
    if version == 4:
        others.append(subnet.broadcast_address)
    before = rig.drops("decap").get("foreign_destination", 0)
    with rig.pod_socket(version) as pod, Sniffer(rig.node.netns, "udplane0") as sniffer:
        for other in others:
            packet = header(version, PEER_POD[version], str(other)) / UDP(sport=7000, dport=7000) / b"not for you"
            rig.peer.sendto(bytes(packet), rig.node_address)
        rig.peer.sendto(to_pod(rig, version, b"good"), rig.node_address)
        assert pod.recv(100) == b"good"
        assert [frame for frame in sniffer.frames() if b"not for you" in frame.data] == []
    wait_until(lambda: rig.drops("decap")["foreign_destination"] == before + len(others), "all of them are counted")


@inner_versions
def test_dscp_and_ecn_go_out_with_the_outer_header(rig: Rig, version: int) -> None:
    with rig.pod_socket(version) as pod:
        for tos in (0xB8, 0x2A, 0x03):  # EF; AF11 with ECT(0); CE
            pod.setsockopt(*TOS[version], tos)
            pod.sendto(b"coloured", (PEER_POD[version], 9))
            payload, outer_tos = receive(rig.peer)
            # On a UDP socket's own packets Linux may take the ECN bits away; whatever is inside is outside too.
            inner = IP(payload).tos if version == 4 else IPv6(payload).tc
            assert outer_tos == inner
            assert inner & 0xFC == tos & 0xFC


@inner_versions
def test_congestion_met_by_the_outer_header_is_told_to_the_pod(rig: Rig, version: int) -> None:
    """ECT(0) inside and CE outside arrives as CE; an inner packet that cannot say it is dropped (RFC 6040)."""
    receive_tos = {4: socket.IP_RECVTOS, 6: socket.IPV6_RECVTCLASS}[version]
    level, outer_tos = TOS[rig.underlay]
    congested = [(level, outer_tos, struct.pack("i", 0x03))]
    with rig.pod_socket(version) as pod:
        pod.setsockopt(TOS[version][0], receive_tos, 1)
        for text, inner_tos in ((b"cannot say", 0x28), (b"can say", 0x2A)):
            rig.peer.sendmsg([to_pod(rig, version, text, tos=inner_tos)], congested, 0, rig.node_address)
        payload, control, _, _ = pod.recvmsg(100, 100)
        assert (payload, control[0][2][0]) == (b"can say", 0x2B)
    assert rig.drops("decap")["ecn_lost"] >= 1


def ping(rig: Rig, destination: str, ttl: int = 64, size: int = 56) -> Reply:
    with Pinger(rig.pod.netns, ip_address(destination), ttl=ttl) as pinger:
        reply = pinger.ping(1, size=size)
    assert reply is not None
    assert not reply.echoed
    return reply


@inner_versions
def test_the_node_answers_for_a_ttl_that_runs_out(rig: Rig, version: int) -> None:
    reply = ping(rig, PEER_POD[version], ttl=2)  # the host takes one, the node has none left to give
    assert (str(reply.source), reply.type, reply.code) == (NODE_TUN[version], {4: 11, 6: 3}[version], 0)


@inner_versions
def test_the_node_answers_for_a_destination_without_a_lease(rig: Rig, version: int) -> None:
    reply = ping(rig, STRANGE_POD[version])
    assert (str(reply.source), reply.type, reply.code) == (NODE_TUN[version], {4: 3, 6: 1}[version], 0)


@inner_versions
def test_the_node_answers_for_a_path_that_is_narrow(rig: Rig, version: int) -> None:
    """The underlay's route to the peer is given an MTU of 1350, as a router on the way would teach it."""
    peer_address = rig.lab.nodes[1].address(rig.underlay)
    route = f"{peer_address} dev eth0 mtu 1350"
    rig.node.netns.ip(f"route add {route}")
    try:
        with rig.pod_socket(version) as pod:
            narrow = 1350 - {4: 28, 6: 48}[rig.underlay]
            headers = {4: 28, 6: 48}[version]
            reply = ping(rig, PEER_POD[version], size=narrow + 1 - headers)
            expected = {4: (3, 4), 6: (2, 0)}[version]
            assert (str(reply.source), reply.type, reply.code) == (NODE_TUN[version], *expected)
            # The pod's kernel has learned the number, and now refuses what is larger by itself.
            pod.connect((PEER_POD[version], 9))
            learned = pod.getsockopt(TOS[version][0], {4: 14, 6: 24}[version])  # IP_MTU, IPV6_MTU
            assert learned == narrow
            pod.send(bytes(narrow - headers))
            while len(receive(rig.peer)[0]) != narrow:
                pass
    finally:
        rig.node.netns.ip(f"route del {route}")
    assert rig.drops("encap")["too_big"] >= 1


def with_ttl_less(packet: bytes, steps: int) -> bytes:
    """What scapy makes of the packet when it lowers the TTL and computes the checksums anew.

    That of UDP too: a packet on its way into a TUN with offloads has only the sum of the pseudo-header there.
    """
    layers = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    assert isinstance(layers.payload.payload, Raw)
    if layers.version == 6:
        layers.hlim -= steps
    else:
        layers.ttl -= steps
        del layers.chksum
    del layers.payload.chksum
    return bytes(layers)
