"""Addresses and prefixes; the oracle is the standard library's ipaddress."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.lib.ip import IPNet, format_ip, parse_cidr, parse_ip

V4 = st.ip_addresses(v=4)
V6 = st.integers(0, 2**128 - 1).filter(lambda number: number >> 32 != 0xFFFF).map(ipaddress.IPv6Address)


@given(V4 | V6)
def test_text_and_bytes_say_the_same(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert parse_ip(str(ip)) == ip.packed
    assert parse_ip(ip.exploded) == ip.packed
    assert format_ip(ip.packed) == str(ip)


@given(V4 | V6, st.integers(0, 128), V4 | V6)
def test_prefixes_agree_with_ipaddress(ip: ipaddress.IPv4Address, length: int, other: ipaddress.IPv4Address) -> None:
    length = min(length, ip.max_prefixlen)
    oracle = ipaddress.ip_interface(f"{ip}/{length}")
    net = parse_cidr(str(oracle))
    assert net is not None
    assert str(net) == str(oracle)
    assert str(net.network) == str(oracle.network)
    assert net.last == oracle.network.broadcast_address.packed
    assert net.contains(other.packed) == (other in oracle.network)
    assert net == IPNet(ip.packed, length)
    assert hash(net) == hash(IPNet(ip.packed, length))


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4.5", "1.2.3.04", "1.2.3.256", "::1%eth0", ":::", "x", "1.2.3.4/8", "\0"]
)
def test_what_is_no_address(text: str) -> None:
    assert parse_ip(text) is None


@pytest.mark.parametrize(
    "text", ["", "/8", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "::/129", "1.2.3.4/08", "1.2.3.4/-1", "1.2.3.4/٣"]
)
def test_what_is_no_prefix(text: str) -> None:
    assert parse_cidr(text) is None


def test_mapped_addresses_are_ipv4() -> None:
    assert parse_ip("::ffff:10.1.2.3") == bytes([10, 1, 2, 3])
    assert str(parse_cidr("::ffff:10.1.2.3/120")) == "10.1.2.3/24"


def test_ipv4_compatible_addresses_are_printed_in_hexadecimal() -> None:
    assert format_ip(ipaddress.ip_address("::1.2.3.4").packed) == "::102:304"
