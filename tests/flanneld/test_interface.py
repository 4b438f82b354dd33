"""Which interface faces the underlay, on a host with three of them and a default route through the first.

eth0 192.0.2.1, 2001:db8::1      eth1 198.51.100.1      eth2 (no address)
  |                                |
default route                    203.0.113.0/24 by 198.51.100.9
"""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.errors import ConfigError, NodeError
from dataplane.flanneld.interface import choose_interface
from dataplane.flanneld.options import FlanneldOptions
from dataplane.lab.netns import Namespace
from dataplane.lab.topology import QUIET_IPV6


@pytest.fixture(scope="module")
def host(namespaces: None) -> Iterator[Namespace]:
    netns = Namespace.create(f"flannel-iface-{os.getpid()}")
    try:
        netns.sysctl({f"net/ipv6/conf/default/{key}": value for key, value in QUIET_IPV6.items()})
        netns.ip(*(f"link add eth{number} type veth peer name far{number}" for number in range(3)))
        netns.ip(*(f"link set {end}{number} up" for number in range(3) for end in ("eth", "far")))
        netns.ip(
            "addr add 192.0.2.1/24 dev eth0",
            "addr add 2001:db8::1/64 dev eth0 nodad",
            "addr add 198.51.100.1/24 dev eth1",
            "route add default via 192.0.2.9",
            "route add 203.0.113.0/24 via 198.51.100.9",
        )
        yield netns
    finally:
        netns.delete()


@pytest.fixture(autouse=True)
def inside(host: Namespace) -> Iterator[None]:
    with host.entered():
        yield


def chosen(version: int = 4, **flags: Any) -> str:
    return choose_interface(FlanneldOptions(**flags), version, None)


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        ({}, "192.0.2.1"),
        ({"iface": ("eth1",)}, "198.51.100.1"),
        ({"iface": ("198.51.100.1",)}, "198.51.100.1"),
        ({"iface": ("nope", "eth2", "eth1", "eth0")}, "198.51.100.1"),
        ({"iface_regex": ("^198\\.",)}, "198.51.100.1"),
        ({"iface_regex": ("eth[12]",)}, "198.51.100.1"),
        ({"iface_regex": ("^$", "th0")}, "192.0.2.1"),
        ({"iface": ("nope",), "iface_regex": ("eth1",)}, "198.51.100.1"),
        ({"iface": ("eth0",), "iface_regex": ("eth1",)}, "192.0.2.1"),
        ({"iface_can_reach": "203.0.113.5"}, "198.51.100.1"),
        ({"iface_can_reach": "8.8.8.8"}, "192.0.2.1"),
        ({"iface_regex": ("eth0",), "iface_can_reach": "203.0.113.5"}, "192.0.2.1"),
    ],
)
def test_the_first_that_fits(flags: dict[str, Any], address: str) -> None:
    assert chosen(**flags) == address


def test_an_address_that_matches_comes_before_a_name_that_does() -> None:
    assert chosen(iface_regex=("1$",)) == "192.0.2.1"


def test_an_ipv6_underlay() -> None:
    assert chosen(6) == "2001:db8::1"
    assert chosen(6, iface=("eth1", "eth0")) == "2001:db8::1"
    assert chosen(6, iface_regex=("^2001:",)) == "2001:db8::1"


def test_the_public_address_is_preferred(host: Namespace) -> None:
    host.ip("addr add 192.0.2.77/24 dev eth0")
    try:
        assert choose_interface(FlanneldOptions(iface=("eth0",)), 4, IPv4Address("192.0.2.77")) == "192.0.2.77"
    finally:
        host.ip("addr del 192.0.2.77/24 dev eth0")


@pytest.mark.parametrize(
    "flags",
    [{"iface": ("nope",)}, {"iface": ("eth2",)}, {"iface_regex": ("^nope$",)}, {"iface_can_reach": "no address"}],
)
def test_what_fits_nowhere_ends_the_start(flags: dict[str, Any]) -> None:
    with pytest.raises(NodeError, match="Failed to find interface to use that matches"):
        chosen(**flags)


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"--iface-regex '\(' is no pattern"):
        chosen(iface_regex=("(",))
