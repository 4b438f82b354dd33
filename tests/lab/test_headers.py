"""Headers taken apart: scapy builds the frames, so it is the oracle; and no bytes make `dissect` fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from dataplane.lab.headers import Header, dissect

INNER4 = IP(src="10.254.1.2", dst="10.254.2.2", ttl=62, id=7, tos=4) / ICMP(id=9, seq=3) / Raw(b"x" * 20)
INNER6 = IPv6(src="fd00::1", dst="fd00::2", hlim=9, tc=0xB8) / ICMPv6EchoRequest(id=9, seq=3, data=b"x" * 20)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTER4 = IP(src="192.168.0.201", dst="192.168.0.202") / UDP(sport=8285, dport=8285)
OUTER6 = IPv6(src="fd00:1::1", dst="fd00:1::2") / UDP(sport=8285, dport=8285)


def parsed(packet: Packet) -> Packet:
    """The packet with lengths and checksums filled in, by way of its bytes."""
    return packet.__class__(bytes(packet))


@pytest.mark.parametrize(
    ("packet", "names"),
    [
        (ETHER / INNER4, ["Ethernet", "IPv4", "ICMP"]),
        (ETHER / INNER6, ["Ethernet", "IPv6", "ICMPv6"]),
        (ETHER / OUTER4 / INNER6, ["Ethernet", "IPv4", "UDP", "IPv6", "ICMPv6"]),
        (ETHER / OUTER6 / INNER4, ["Ethernet", "IPv6", "UDP", "IPv4", "ICMP"]),
        (IP(options=b"\x01" * 4) / ICMP(), ["IPv4", "ICMP"]),
        (IP() / UDP(dport=53) / INNER4, ["IPv4", "UDP"]),
    ],
)
def test_headers_come_from_the_outside_in(packet: Packet, names: list[str]) -> None:
    headers = dissect(bytes(packet), ethernet=isinstance(packet, Ether))
    assert [header.name for header in headers] == names


def test_fields_are_scapys() -> None:
    ether, outer, udp, inner, icmp = dissect(bytes(ETHER / OUTER4 / INNER4), ethernet=True)
    truth = parsed(ETHER / OUTER4 / INNER4)
    ip, layer_udp = truth[IP], truth[UDP]
    assert ether == Header("Ethernet", {"from": truth.src, "to": truth.dst})
    assert (outer.fields["length"], outer.fields["checksum"]) == (ip.len, f"{ip.chksum:#06x}")
    assert udp.fields == {"from": 8285, "to": 8285, "length": layer_udp.len}
    assert inner.fields == {
        "from": "10.254.1.2",
        "to": "10.254.2.2",
        "ttl": 62,
        "length": 48,
        "id": 7,
        "tos": 4,
        "checksum": f"{parsed(INNER4).chksum:#06x}",
    }
    assert icmp.fields == {"type": "echo request", "id": 9, "seq": 3, "data": 20}


def test_ipv6_fields() -> None:
    header, icmp = dissect(bytes(INNER6), ethernet=False)
    assert header.fields == {"from": "fd00::1", "to": "fd00::2", "hop limit": 9, "length": 68, "class": 0xB8}
    assert icmp.fields == {"type": "echo request", "id": 9, "seq": 3, "data": 20}


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_taken_apart_without_failing(data: bytes, ethernet: bool) -> None:
    assert all(isinstance(header, Header) for header in dissect(data, ethernet=ethernet))


@given(st.integers(0, len(bytes(ETHER / OUTER4 / INNER4))))
def test_a_cut_frame_shows_a_prefix_of_the_headers(length: int) -> None:
    whole = bytes(ETHER / OUTER4 / INNER4)
    names = [header.name for header in dissect(whole, ethernet=True)]
    cut = [header.name for header in dissect(whole[:length], ethernet=True)]
    assert cut == names[: len(cut)]
