"""Packets written as scapy expressions, and the overlay as scapy sees it."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dataplane.errors import UsageError
from dataplane.lab import scapy_packets

NAMES = {"pod4": "10.254.2.3"}


def only(expression: str) -> bytes:
    (packet,) = scapy_packets.packets(expression, NAMES)
    return scapy_packets.to_bytes(packet)


@pytest.mark.parametrize(
    ("expression", "packet"),
    [
        ("IP(src=pod4, dst='10.0.0.1')/UDP()/'hello'", IP(src="10.254.2.3", dst="10.0.0.1") / UDP() / "hello"),
        (" [IPv6(src='fd00::1', dst='fd00::2')] ", IPv6(src="fd00::1", dst="fd00::2")),
        ("Ether(src='02::1', dst='02::2', type=7)/Raw(bytes(range(3)))", Ether(type=7) / Raw(b"\0\1\2")),
    ],
)
def test_an_expression_is_what_scapy_makes_of_it(expression: str, packet: object) -> None:
    assert only(expression)[14 if "Ether" in expression else 0 :] == bytes(packet)[14 if "Ether" in expression else 0 :]  # type: ignore[call-overload]


def test_sets_are_one_packet_each() -> None:
    found = scapy_packets.packets("IP(ttl=[3, 5], dst=pod4)/UDP(dport=(1, 3))", NAMES)
    assert [(packet.ttl, packet.dport) for packet in found] == [(ttl, port) for ttl in (3, 5) for port in (1, 2, 3)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "cannot be read"),
        ("IP(", "at character 3"),
        ("x = 1", "cannot be read"),
        ("'hello'", "no packet but str"),
        ("[]", "no packet but list"),
        ("[IP(), 7]", "no packet but list"),
        ("IP", "no packet but"),
        ("pod5", "names pod5, which is not known; did you mean pod4"),
        ("open('/etc/passwd')", "names open"),
        ("__import__('os')", "names __import__"),
        ("IP(nothing=1)", "AttributeError"),
        ("IP(ttl=1000)", "ttl"),
        ("IP()/Raw(b'x' * 70000)", "too large"),
        ("Raw(b'x' * 70000)", "too large"),
        ("IP(ttl=(0, 255))/UDP(dport=(1, 9))", "more than 256 packets"),
        ("(" * 300 + ")" * 300, "cannot be read"),
        ("().__class__.__base__", "no packet but type"),
    ],
)
def test_what_is_no_packet_is_told_in_a_line(expression: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        for packet in scapy_packets.packets(expression, NAMES):
            scapy_packets.to_bytes(packet)
    assert message in str(raised.value)


@pytest.mark.parametrize(("ports", "inner"), [({"dport": 8285}, IP()), ({"sport": 8285, "dport": 1}, IPv6(dst="::1"))])
def test_scapy_reads_what_is_in_a_datagram_of_the_overlay(ports: dict[str, int], inner: object) -> None:
    outer = IP(bytes(IP() / UDP(**ports) / bytes(inner / ICMP())))
    assert type(outer[UDP].payload) is type(inner)


def test_other_bytes_stay_bytes() -> None:
    assert isinstance(IP(bytes(IP() / UDP(dport=8285) / b"\xff\xff"))[UDP].payload, Raw)


@pytest.mark.parametrize(
    ("expression", "kind"), [("Ether()", "ethernet"), ("IP()", "ip"), ("IPv6()", "ip"), ("UDP()", "data")]
)
def test_the_first_layer_is_known(expression: str, kind: str) -> None:
    (packet,) = scapy_packets.packets(expression, {})
    assert scapy_packets.kind(packet) == kind
