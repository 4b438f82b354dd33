"""Rows of datagrams cut into those that go on the wire; scapy builds both sides of the comparison."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dataplane.capture.superpacket import wire_frames

PORT = 8285
OUTER: dict[int, Any] = {
    4: lambda ident: IP(src="192.168.0.1", dst="192.168.0.2", id=ident, flags="DF"),
    6: lambda _: IPv6(src="fd00::1", dst="fd00::2"),
}
INNER: dict[int, Any] = {
    4: lambda data: IP(src="10.5.1.2", dst="10.5.2.2") / TCP() / Raw(data),
    6: lambda data: IPv6(src="fd00:5::2", dst="fd00:6::2") / TCP() / Raw(data),
}
LINK_LEN = 14


def frame(version: int, ident: int, payload: bytes) -> bytes:
    udp = UDP(sport=PORT, dport=PORT, chksum=0x1234)
    return bytes(Ether(dst="02:00:00:00:00:02") / OUTER[version](ident) / udp / Raw(payload))


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_a_row_is_cut_where_the_inner_packets_end(outer: int, inner: int) -> None:
    rows = [bytes(INNER[inner](bytes([number]) * length)) for number, length in enumerate((1000, 1000, 1000, 37))]
    row = memoryview(frame(outer, 0xFFFE, b"".join(rows)))
    expected = [frame(outer, 0xFFFE + number & 0xFFFF, data) for number, data in enumerate(rows)]
    assert [bytes(one) for one in wire_frames(row, LINK_LEN)] == expected


@pytest.mark.parametrize("outer", [4, 6])
def test_a_single_datagram_is_passed_on_untouched(outer: int) -> None:
    single = frame(outer, 7, bytes(INNER[4](b"x" * 500)))
    assert [bytes(one) for one in wire_frames(memoryview(single), LINK_LEN)] == [single]


@given(st.binary(max_size=200), st.sampled_from([b"", bytes(14)]))
def test_whatever_it_is_nothing_is_lost(data: bytes, link: bytes) -> None:
    """Cut or not, the payloads put together are the payload that came, and nothing raises."""
    headers = bytes(IP(src="192.168.0.1", dst="192.168.0.2") / UDP(sport=PORT, dport=PORT) / b"")
    pieces = list(wire_frames(memoryview(link + headers + data), len(link)))
    assert b"".join(bytes(piece[len(link) + len(headers) :]) for piece in pieces) == data


@pytest.mark.parametrize("data", [bytes(40), b"\x10" * 40, b"\xf5" * 60])
def test_what_is_no_ip_is_passed_on(data: bytes) -> None:
    assert [bytes(one) for one in wire_frames(memoryview(data), 0)] == [data]
