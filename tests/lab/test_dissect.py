"""Packets taken apart: scapy builds the frames, so it is the oracle; and no bytes make `dissect` fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane.lab.dissect import LINKS, Layer, dissect

INNER4 = IP(src="10.254.1.2", dst="10.254.2.2", ttl=62, id=7, tos=4) / ICMP(id=9, seq=3) / Raw(b"x" * 20)
INNER6 = IPv6(src="fd00::1", dst="fd00::2", hlim=9, tc=0xB8) / ICMPv6EchoRequest(id=9, seq=3, data=b"x" * 20)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTER4 = IP(src="192.168.0.201", dst="192.168.0.202") / UDP(sport=8285, dport=8285)
OUTER6 = IPv6(src="fd00:1::1", dst="fd00:1::2") / UDP(sport=8285, dport=8285)
VXLAN4 = IP(src="192.168.0.201", dst="192.168.0.202") / UDP(sport=40000, dport=8472) / VXLAN(vni=1, flags=8)


def parsed(packet: Packet) -> Packet:
    """The packet with lengths and checksums filled in, by way of its bytes."""
    return packet.__class__(bytes(packet))


def texts(layer: Layer) -> dict[str, str]:
    return {field.key: field.text for field in layer.fields}


def taken_apart(packet: Packet) -> list[Layer]:
    return dissect(bytes(packet), "ethernet" if isinstance(packet, Ether) else "ip")


@pytest.mark.parametrize(
    ("packet", "names"),
    [
        (ETHER / INNER4, "Ethernet IPv4 ICMP data"),
        (ETHER / INNER6, "Ethernet IPv6 ICMPv6 data"),
        (ETHER / OUTER4 / INNER6, "Ethernet IPv4 UDP IPv6 ICMPv6 data"),
        (ETHER / OUTER6 / INNER4, "Ethernet IPv6 UDP IPv4 ICMP data"),
        (ETHER / VXLAN4 / ETHER / INNER4, "Ethernet IPv4 UDP VXLAN Ethernet IPv4 ICMP data"),
        (IP(options=b"\x01" * 4) / ICMP(), "IPv4 ICMP"),
        (IP() / UDP(dport=53) / INNER4, "IPv4 UDP data"),
        (IP() / UDP(dport=8285) / Raw(b"no packet"), "IPv4 UDP data"),
        (IP() / TCP() / Raw(b"x"), "IPv4 TCP data"),
        (IP() / ICMP(type=11) / IP() / UDP(), "IPv4 ICMP IPv4 UDP"),
        (IPv6() / IPv6ExtHdrFragment(m=1, id=5) / UDP() / Raw(b"x" * 8), "IPv6 fragment UDP data"),
        (IPv6() / IPv6ExtHdrFragment(offset=3, id=5, nh=17) / Raw(b"x" * 8), "IPv6 fragment data"),
        (IP(frag=3) / Raw(b"x" * 8), "IPv4 data"),
        (ETHER / OUTER4 / INNER4 / Raw(bytes(INNER4)), "Ethernet IPv4 UDP IPv4 ICMP data"),
    ],
)
def test_layers_come_from_the_outside_in(packet: Packet, names: str) -> None:
    assert [layer.name for layer in taken_apart(packet)] == names.split()


def test_what_a_tunnel_put_on_is_outer_and_what_an_error_quotes_is_quoted() -> None:
    roles = [layer.role for layer in taken_apart(ETHER / VXLAN4 / ETHER / INNER4)]
    assert roles == ["outer"] * 4 + ["inner"] * 4
    error = IP(src="10.254.1.0", dst="10.254.1.2") / ICMP(type=3, code=1) / INNER4
    assert [layer.role for layer in taken_apart(error)] == ["", "", "quoted", "quoted", "quoted"]


def test_fields_are_scapys() -> None:
    ether, outer, udp, inner, icmp, _ = (texts(layer) for layer in taken_apart(ETHER / OUTER4 / INNER4))
    truth = parsed(ETHER / OUTER4 / INNER4)
    assert ether == {"from": truth.src, "to": truth.dst, "type": "IPv4"}
    assert (outer["length"], outer["checksum"]) == (str(truth[IP].len), f"{truth[IP].chksum:#06x}")
    assert udp == {"from": "8285", "to": "8285", "length": str(truth[UDP].len), "checksum": f"{truth[UDP].chksum:#06x}"}
    expected = {"from": "10.254.1.2", "to": "10.254.2.2", "ttl": "62", "length": "48", "id": "7", "dscp": "1"}
    assert expected.items() <= inner.items()
    assert {"type": "echo request", "id": "9", "seq": "3"}.items() <= icmp.items()


def test_ipv6_fields() -> None:
    header, icmp, data = taken_apart(INNER6)
    expected = {"from": "fd00::1", "to": "fd00::2", "hop limit": "9", "payload length": "28", "dscp": "46", "ecn": "0"}
    assert expected.items() <= texts(header).items()
    assert {"type": "echo request", "id": "9", "seq": "3"}.items() <= texts(icmp).items()
    assert (data.offset, data.length) == (48, 20)


@pytest.mark.parametrize("packet", [ETHER / OUTER4 / INNER4, ETHER / VXLAN4 / ETHER / INNER6, IP() / TCP(dport=80)])
def test_fields_cover_their_layer_bit_by_bit(packet: Packet) -> None:
    at = 0
    for layer in taken_apart(packet):
        assert layer.offset == at
        bit = 0
        for field in layer.fields:
            assert field.at == bit, (layer.name, field)
            bit += field.bits
        assert bit == layer.length * 8, layer.name
        at = layer.end
    assert at == len(bytes(packet))


@given(st.binary(max_size=120), st.sampled_from(LINKS))
def test_any_bytes_are_taken_apart_without_failing(data: bytes, link: str) -> None:
    at = 0
    for layer in dissect(data, link):
        assert layer.offset == at
        at = layer.end
    assert at == len(data)


@given(st.integers(0, len(bytes(ETHER / OUTER4 / INNER4))))
def test_a_cut_frame_shows_a_prefix_of_the_headers(length: int) -> None:
    whole = bytes(ETHER / OUTER4 / INNER4)
    names = [layer.name for layer in dissect(whole, "ethernet")]
    cut = [layer.name for layer in dissect(whole[:length], "ethernet") if layer.name != "data"]
    assert cut == names[: len(cut)]
