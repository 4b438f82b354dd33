"""Traffic that forwarders with offloads have stumbled over. docs/offloads.md lists what went wrong elsewhere.

pod1 -- node1  udplane up --- underlay: plain veth --- udplane up  node2 -- pod2
  \\______________________ vxlan, in one of the tests ______________________/
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_interface

import pytest
from scapy.layers.inet import IP, TCP, UDP

from bench.integrity import PATTERN, check_tcp
from dataplane.forwarding.udp import DEFAULT_PORT, MAX_SEND_BYTES
from dataplane.lab.ping import FAMILIES, ping
from dataplane.lab.sniff import Sniffer
from dataplane.lab.topology import Node, Pod
from dataplane.node.subnet_file import SubnetFile
from tests.offloads.conftest import Pair
from tests.offloads.exchange import MTU_DISCOVER, PMTUDISC_DONT, TOS, lockstep

N_BYTES = 2_000_000
SERVICE = IPv4Address("10.96.0.1")

versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@versions
def test_more_segments_than_one_send_takes(pair: Pair, version: int) -> None:
    """64 segments are what a pod may ask of its own kernel; the node sends 63 at most."""
    lockstep(*pair.pods, version, [(1000, 64), (8, 64)])
    assert pair.features(0)["gso"] == "on"
    assert not pair.drops(0, "encap")


@versions
def test_the_tos_byte_of_a_run_reaches_every_datagram(pair: Pair, version: int) -> None:
    """Two control messages with each send (TOS, segment size), and with each receive (TOS, size of the datagrams)."""
    lockstep(*pair.pods, version, tos=0xB8)


@versions
def test_fragments_pass_as_they_are(pair: Pair, version: int) -> None:
    """They have no ports, and checksums that cover what is elsewhere: nothing may be merged or computed."""
    first, second = pair.pods
    assert all(ping(first.netns, second.address(version), size=4000))
    with ExitStack() as stack:
        sockets = [p.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM) for p in (first, second)]
        source, sink = (stack.enter_context(sock) for sock in sockets)
        sink.bind((str(second.address(version)), 0))
        sink.settimeout(10)
        source.setsockopt(TOS[version][0], MTU_DISCOVER[version], PMTUDISC_DONT)
        for size in (1473, 4000, 20_000, 60_000):
            source.sendto(PATTERN[size : 2 * size], sink.getsockname()[:2])
            assert sink.recv(65535) == PATTERN[size : 2 * size]


def test_pods_with_different_mtu(pair: Pair) -> None:
    """TCP agrees on smaller segments than the tunnel has room for; super-packets are cut at that size."""
    first, second = pair.pods
    mtu = pair.daemons[1].lease()[1]
    second.netns.ip("link set eth0 mtu 1300")
    try:
        for version in (4, 6):
            check_tcp(first, second, version, N_BYTES)
            check_tcp(second, first, version, N_BYTES)
            lockstep(first, second, version, [(1200, 45)])
    finally:
        second.netns.ip(f"link set eth0 mtu {mtu}")


def test_a_vxlan_between_pods(pair: Pair) -> None:
    """A tunnel in the tunnel. Kernels before 6.9 cut a super-packet of the inner one wrongly, so none is made."""
    with vxlan(pair.pods) as (first, second):
        for sender, receiver in ((first, second), (second, first)):
            check_tcp(sender, receiver, 4, N_BYTES)
            lockstep(sender, receiver, 4, [(1300, 45), (100, 45)])
    assert not pair.drops(0, "encap")
    assert not pair.drops(1, "decap")


@contextmanager
def vxlan(pods: tuple[Pod, Pod]) -> Iterator[list[Pod]]:
    """The pods, as they are at the ends of a vxlan between them."""
    ends = []
    with ExitStack() as stack:
        for number, (pod, other) in enumerate((pods, pods[::-1]), 1):
            address = ip_interface(f"10.77.0.{number}/24")
            local, remote = pod.address(4), other.address(4)
            pod.netns.ip(
                f"link add vxlan1 mtu 1400 type vxlan id 1 dstport 4789 local {local} remote {remote} dev eth0",
                f"addr add {address} dev vxlan1",
                "link set vxlan1 up",
            )
            stack.callback(pod.netns.ip, "link del vxlan1")
            ends.append(replace(pod, addresses=(address,)))
        yield ends


def test_a_masqueraded_service(pair: Pair) -> None:
    """A service address is rewritten to pod2, and its client to node1, with random ports: every checksum is redone."""
    first, second = pair.pods
    service = replace(second, addresses=(ip_interface(SERVICE),))
    host = Pod("host", pair.nodes[0].netns, (), "")
    with Sniffer(pair.nodes[1].netns, "eth0") as sniffer, masqueraded_service(pair.nodes[0], second):
        for client in (first, host):
            serve(client, second, service)
        inner = [packet for frame in sniffer.frames() for packet in inner_packets(frame.data)]
    assert len(inner) > 100
    assert all(right_checksums(packet) for packet in inner[:200])


@contextmanager
def masqueraded_service(node: Node, pod: Pod) -> Iterator[None]:
    """What kube-proxy and a masquerading rule with --random-fully make of a service address."""
    rules = f"""
    table ip service {{
        chain prerouting {{ type nat hook prerouting priority dstnat; ip daddr {SERVICE} dnat to {pod.address(4)}; }}
        chain output {{ type nat hook output priority -100; ip daddr {SERVICE} dnat to {pod.address(4)}; }}
        chain postrouting {{
            type nat hook postrouting priority srcnat;
            oifname "udplane0" ip daddr {pod.address(4)} masquerade fully-random
        }}
    }}"""
    node.netns.run(["nft", "-f", "-"], stdin=rules)
    try:
        yield
    finally:
        node.netns.run(["nft", "delete", "table", "ip", "service"])


def serve(client: Pod, server: Pod, service: Pod) -> None:
    """Send by TCP and by UDP to the service address; `server` receives."""
    with ExitStack() as stack:
        listener = stack.enter_context(server.netns.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((str(server.address(4)), 0))
        listener.listen(1)
        listener.settimeout(10)
        source = stack.enter_context(client.netns.socket(socket.AF_INET, socket.SOCK_STREAM))
        source.settimeout(10)
        source.connect((str(service.address(4)), listener.getsockname()[1]))
        sink = stack.enter_context(listener.accept()[0])
        source.sendall(PATTERN[:200_000])
        assert sink.recv(200_000, socket.MSG_WAITALL) == PATTERN[:200_000]
        sink = stack.enter_context(server.netns.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind((str(server.address(4)), 0))
        sink.settimeout(10)
        source = stack.enter_context(client.netns.socket(socket.AF_INET, socket.SOCK_DGRAM))
        source.sendto(b"by UDP", (str(service.address(4)), sink.getsockname()[1]))
        assert sink.recv(100) == b"by UDP"


def inner_packets(frame: bytes) -> Iterator[IP]:
    """What is in a frame for the overlay's port. It may be a super-packet: one datagram's content after the other."""
    outer = IP(frame[14:])
    if UDP not in outer or outer[UDP].dport != DEFAULT_PORT:
        return
    content = bytes(outer[UDP].payload)
    while content and content[0] >> 4 == 4:
        length = int.from_bytes(content[2:4])
        yield IP(content[:length])
        content = content[length:]


def right_checksums(packet: IP) -> bool:
    """Whether the checksums of IP, TCP and UDP are those that scapy computes."""
    again = packet.copy()
    del again.chksum
    for layer in (TCP, UDP):
        if layer in again:
            del again[layer].chksum
    return bytes(again) == bytes(packet)


@pytest.mark.parametrize("mode", [1, 2], ids=["strict", "loose"])
def test_reverse_path_filtering(pair: Pair, mode: int) -> None:
    """Hosts that check where packets come from, on every interface."""
    first, second = pair.pods
    before = {node.name: set_reverse_path_filters(node, dict.fromkeys(FILTERED, mode)) for node in pair.nodes}
    try:
        lockstep(first, second, 4, [(1000, 10)])
        lockstep(second, first, 4, [(1000, 10)])
        assert all(ping(pair.nodes[0].netns, second.address(4)))
    finally:
        for node in pair.nodes:
            set_reverse_path_filters(node, before[node.name])


FILTERED = ("all", "eth0", "cni0", "udplane0")


def set_reverse_path_filters(node: Node, modes: dict[str, int]) -> dict[str, int]:
    """Set rp_filter of each interface; returns what it was."""
    keys = {name: f"net.ipv4.conf.{name}.rp_filter" for name in modes}
    before = {name: int(node.netns.run(["sysctl", "-n", key]).stdout) for name, key in keys.items()}
    node.netns.sysctl({keys[name].replace(".", "/"): mode for name, mode in modes.items()})
    return before


def test_super_packets_fit_one_send(pair: Pair) -> None:
    """The limit goes by the subnet file and the CNI plugin to the pod, whose TCP then makes what one send takes."""
    first, second = pair.pods
    limit = SubnetFile.parse(pair.daemons[0].subnet_file.read_bytes()).gso_max_size
    assert f"gso_max_size {limit} " in first.netns.run(["ip", "-d", "link", "show", "eth0"]).stdout
    mtu = pair.daemons[0].lease()[1]
    with Sniffer(pair.nodes[0].netns, "udplane0") as sniffer:
        check_tcp(first, second, 4, 20_000_000)
        packets = [IP(frame.data[:60]) for frame in sniffer.frames() if frame.outgoing]
    data = [packet for packet in packets if TCP in packet and packet.len > 100]
    super_packets = [packet for packet in data if packet.len > mtu]
    assert sum(p.len for p in super_packets) > 0.8 * sum(p.len for p in data)
    assert max(sent_bytes(packet, mtu) for packet in super_packets) <= MAX_SEND_BYTES


def sent_bytes(packet: IP, mtu: int) -> int:
    """Bytes of the packets that a super-packet of TCP becomes."""
    headers: int = 4 * (packet.ihl + packet[TCP].dataofs)
    payload: int = packet.len - headers
    return payload + headers * -(-payload // (mtu - headers))
