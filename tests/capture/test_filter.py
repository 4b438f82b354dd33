"""The filter language of captures, and how packets are read for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet as ScapyPacket

from dataplane.capture.filter import Packet, compile_filter, read_packet
from dataplane.errors import UsageError

A, B = "10.5.1.2", "10.5.2.2"
PEER = "192.168.0.202"


def taken_apart(packet: ScapyPacket, peer: str | None = PEER) -> Packet:
    from ipaddress import ip_address

    result = read_packet(memoryview(bytes(packet)), ip_address(peer) if peer else None)
    assert result is not None
    return result


PING = taken_apart(IP(src=A, dst=B) / ICMP())
WEB = taken_apart(IP(src=A, dst=B) / TCP(sport=40000, dport=80))
DNS6 = taken_apart(IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=53, dport=5000), None)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", [PING, WEB, DNS6]),
        ("host 10.5.2.2", [PING, WEB]),
        ("host 10.5.0.0/16", [PING, WEB]),
        ("host fd00::/64", [DNS6]),
        ("tcp", [WEB]),
        ("icmp", [PING]),
        ("port 80", [WEB]),
        ("port 40000", [WEB]),
        ("port 53", [DNS6]),
        (f"peer {PEER}", [PING, WEB]),
        ("not tcp", [PING, DNS6]),
        ("not not tcp", [WEB]),
        ("tcp or udp", [WEB, DNS6]),
        ("host 10.5.1.2 and icmp", [PING]),
        ("icmp or tcp and port 53", [PING]),
        ("(icmp or tcp) and port 80", [WEB]),
        ("not (icmp or tcp)", [DNS6]),
        ("( ( udp ) )", [DNS6]),
    ],
)
def test_what_a_filter_takes(text: str, taken: list[Packet]) -> None:
    accepts = compile_filter(text)
    assert [packet for packet in (PING, WEB, DNS6) if accepts(packet)] == taken


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("host", "ends where a value behind `host` was expected"),
        ("host nobody", "host nobody"),
        ("host 10.5.1.2/16", "has host bits set"),
        ("port http", "port http: a port is a number"),
        ("port 65536", "a port is a number up to 65535"),
        ("peer 10.0.0.0/8", "peer 10.0.0.0/8"),
        ("tcp udp", "'udp' was not expected"),
        ("tcp and", "ends where a condition"),
        ("not", "ends where a condition"),
        ("(tcp", "ends where `\\)` was expected"),
        ("tcp)", "'\\)' was not expected"),
        ("src 10.5.1.2", "'src' is no condition; there are host, port, peer"),
    ],
)
def test_what_cannot_be_understood_is_said(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        compile_filter(text)


@given(st.text(alphabet="()hostpreudcim and not 10.5/:", max_size=40))
def test_any_text_gives_a_filter_or_a_usage_error(text: str) -> None:
    try:
        compile_filter(text)(PING)
    except UsageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("packet", "protocol", "ports"),
    [
        (IP(src=A, dst=B) / TCP(sport=1, dport=2), 6, {1, 2}),
        (IP(src=A, dst=B, options=b"\x01" * 4) / UDP(sport=1, dport=2), 17, {1, 2}),
        (IP(src=A, dst=B, frag=100) / (b"\0\x01\0\x02" * 4), 0, set()),
        (IP(src=A, dst=B, proto=17, frag=100) / (b"\0\x01\0\x02" * 4), 17, set()),
        (IP(src=A, dst=B, proto=17) / b"\0\x01", 17, set()),
        (IPv6() / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2), 17, {1, 2}),
        (IPv6() / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP(sport=1, dport=2), 17, {1, 2}),
        (IPv6() / IPv6ExtHdrFragment(offset=8, nh=17) / (b"\0\x01\0\x02" * 4), 44, set()),
        (IPv6() / ICMPv6EchoRequest(), 58, set()),
    ],
)
def test_protocol_and_ports(packet: ScapyPacket, protocol: int, ports: set[int]) -> None:
    parts = taken_apart(packet)
    assert (parts.protocol, set(parts.ports)) == (protocol, ports)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    packet = read_packet(memoryview(data))
    assert packet is None or packet.source.version == data[0] >> 4
