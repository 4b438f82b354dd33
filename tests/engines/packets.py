"""Packets and routes for the property tests: any bytes, good packets, and good packets with something wrong.

Addresses come from a few small blocks, so that routes hit, miss and nest.
"""

import struct
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from dataplane.packets.packet import checksum
from dataplane.packets.routes import Peer, RouteSnapshot, address_key

Strategy = st.SearchStrategy
UNDERLAY = ["192.168.0.202", "192.168.0.203", "fd00:192::202"]

_v4_pods = st.builds("10.5.{}.{}".format, st.integers(1, 4), st.sampled_from([0, 2, 127, 128, 255]))
_v6_pods = st.builds("fd05:{}::{}".format, st.integers(1, 4), st.sampled_from(["0", "2", "8000:0:0:1"]))
_v4_others = st.sampled_from(["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "8.8.8.8"])
_v6_others = st.sampled_from(["::", "::1", "ff02::1", "2001:db8::1", "::ffff:10.5.2.2"])
v4_addresses = st.one_of(_v4_pods, _v4_pods, _v4_pods, _v4_others)
v6_addresses = st.one_of(_v6_pods, _v6_pods, _v6_pods, _v6_others)
hops = st.sampled_from([64, 255, 2, 3, 1, 0])
tos_bytes = st.integers(0, 255)
payloads = st.binary(max_size=80) | st.integers(500, 1600).map(bytes)


def _v4(source: str, destination: str, ttl: int, tos: int, frag: int, upper: Packet) -> bytes:
    return bytes(IP(src=source, dst=destination, ttl=ttl, tos=tos, frag=frag) / upper)


def _v6(
    source: str, destination: str, hop_limit: int, traffic_class: int, headers: list[Packet], upper: Packet
) -> bytes:
    packet = IPv6(src=source, dst=destination, hlim=hop_limit, tc=traffic_class)
    for header in headers:
        packet /= header
    return bytes(packet / upper)


v4_uppers = st.one_of(
    payloads.map(lambda data: UDP(sport=1, dport=2) / Raw(data)),
    payloads.map(lambda data: TCP(flags="A") / Raw(data)),
    st.builds(lambda kind, data: ICMP(type=kind) / Raw(data), st.sampled_from([0, 3, 5, 8, 11]), payloads),
)
v6_uppers = st.one_of(
    payloads.map(lambda data: UDP(sport=1, dport=2) / Raw(data)),
    payloads.map(lambda data: ICMPv6EchoRequest() / Raw(data)),
    st.builds(lambda kind, data: Raw(bytes([kind]) + bytes(7) + data), st.sampled_from([1, 2, 3, 137, 128]), payloads),
)
v6_headers = st.lists(
    st.sampled_from([IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(offset=9)]),
    max_size=3,
)
good_packets: Strategy[bytes] = st.one_of(
    st.builds(_v4, v4_addresses, v4_addresses, hops, tos_bytes, st.sampled_from([0, 0, 0, 185]), v4_uppers),
    st.builds(_v6, v6_addresses, v6_addresses, hops, tos_bytes, v6_headers, v6_uppers),
)


def _fragmentable(offset: int, flags: str, identification: int, options: bytes, wrong_by: int, data: bytes) -> bytes:
    options += bytes(-len(options) % 4)
    header = IP(src="10.5.1.2", dst="10.5.2.2", id=identification, frag=offset, flags=flags, proto=17)
    packet = bytearray(bytes(header)[:20] + options + data)
    packet[0] = 0x45 + len(options) // 4
    struct.pack_into("!H", packet, 2, len(packet))
    struct.pack_into("!H", packet, 10, 0)
    struct.pack_into("!H", packet, 10, checksum(bytes(packet[: 20 + len(options)])) + wrong_by & 0xFFFF)
    return bytes(packet)


fragmentable_packets: Strategy[bytes] = st.builds(
    _fragmentable,
    st.sampled_from([0, 0, 1, 185, 7000]),
    st.sampled_from(["", "MF"]),
    st.integers(0, 65535),
    st.sampled_from([b"", b"", b"\x94\x04\0\0", b"\x07\x07\x04abcd", b"\x01\x83\x03\x04\x07\x20"])
    | st.binary(max_size=40),
    st.sampled_from([0, 0, 0, 1, 4660]),
    st.integers(1, 1500).map(lambda size: bytes(i % 251 for i in range(size))) | st.binary(min_size=1, max_size=4000),
)
"""IPv4 without DF, also fragments, with good options and bad, and with checksums that are wrong by something."""


def _overwrite(packet: bytes, at: int, data: bytes) -> bytes:
    at %= len(packet)
    return packet[:at] + data + packet[at + len(data) :]


def _cut(packet: bytes, length: int) -> bytes:
    return packet[: length % len(packet)]


def _cut_and_say_so(packet: bytes, length: int) -> bytes:
    """Cut a packet short, with a length field that fits: the headers inside end too early."""
    packet = _cut(packet, length)
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return _overwrite(packet, 4, (len(packet) - 40).to_bytes(2))
    return _overwrite(packet, 2, len(packet).to_bytes(2)) if len(packet) >= 20 else packet


# Most of what can be wrong is wrong in the first bytes.
_places = st.integers(0, 47)
bad_packets: Strategy[bytes] = st.one_of(
    st.binary(max_size=120),
    st.builds(_overwrite, good_packets, st.just(0), st.binary(min_size=1, max_size=1)),
    st.builds(_overwrite, good_packets, _places, st.binary(min_size=1, max_size=2)),
    st.builds(_cut, good_packets, st.integers(0, 100)),
    st.builds(_cut_and_say_so, good_packets, st.integers(20, 100)),
    st.builds(bytes.__add__, good_packets, st.binary(min_size=1, max_size=3)),
)
packets = st.one_of(good_packets, good_packets, bad_packets)

datagrams = st.tuples(packets, st.sampled_from(UNDERLAY).map(lambda a: address_key(ip_address(a))), tos_bytes)
"""What arrives: inner packet, sender's underlay address, outer TOS byte."""

_lengths4, _lengths6 = st.sampled_from([24, 24, 22, 16, 0, 25, 32]), st.sampled_from([64, 64, 32, 16, 0, 65, 128])
_v4_subnets = st.builds(lambda a, n: ip_network(f"{a}/{n}", strict=False), v4_addresses, _lengths4)
_v6_leased = v6_addresses.filter(lambda address: "ffff:10." not in address)  # no lease is for an IPv4-mapped subnet
_v6_subnets = st.builds(lambda a, n: ip_network(f"{a}/{n}", strict=False), _v6_leased, _lengths6)
_subnet_lists = st.lists(_v4_subnets | _v6_subnets, min_size=1, max_size=4).map(tuple)


@st.composite
def snapshots(draw: Callable[[Strategy[object]], object]) -> RouteSnapshot:
    """Routes to one to four peers, who may share an underlay address, with gaps between their ids."""
    ids = draw(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=4))
    assert isinstance(ids, list)
    return RouteSnapshot(
        Peer(peer, ip_address(draw(st.sampled_from(UNDERLAY))), 8285, draw(_subnet_lists))  # type: ignore[arg-type]
        for peer in ids
    )
