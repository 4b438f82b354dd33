"""Devices, addresses and routes, compared with what ip(8) says.

one namespace:   eth0 192.0.2.1, 2001:db8::1 (default routes)   eth1 198.51.100.1, no default route   udplane TUN
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import NodeError
from dataplane.forwarding.tun import TunDevice
from dataplane.kernel import netdev
from dataplane.kernel.device import TX_QUEUE_LEN, device_wishes, forwarding_wishes
from dataplane.kernel.rtnetlink import Tables
from dataplane.kernel.unshared_network import UnsharedNetworks
from dataplane.kernel.wishes import WishedState
from dataplane.lab.netns import Namespace
from dataplane.lab.topology import QUIET_IPV6

V4, V6 = ip_address("10.5.52.0"), ip_address("fd00:5:0:34::")
NETWORKS = [ip_network("10.5.0.0/16"), ip_network("fd00:5::/48")]
TUN = "udp-test0"


@pytest.fixture
def host(namespaces: None) -> Iterator[Namespace]:
    """The test runs inside of the namespace of the drawing."""
    space = Namespace.create(f"nd{os.getpid()}")
    try:
        space.sysctl({f"net/ipv6/conf/default/{key}": value for key, value in QUIET_IPV6.items()})
        space.ip(
            "link add eth0 mtu 1400 type veth peer name far0",
            "link add eth1 type veth peer name far1",
            *[f"link set {device} up" for device in ("eth0", "far0", "eth1", "far1")],
            "addr add 192.0.2.1/24 dev eth0",
            "addr add 192.0.2.9/24 dev eth0",
            "addr add 2001:db8::1/64 dev eth0 nodad",
            "addr add 198.51.100.1/24 dev eth1",
            "route add default via 192.0.2.254 metric 50",
            "route add default via 198.51.100.254 metric 100",
            "route add default via 2001:db8::fe",
        )
        with space.entered():
            yield space
    finally:
        space.delete()


@pytest.fixture
def tun(host: Namespace, tun_device: None) -> Iterator[str]:
    with TunDevice.open(TUN):
        yield TUN


def shown(*arguments: str) -> list[dict[str, Any]]:
    """What `ip -json` says."""
    done = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, text=True)
    result: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return result


def state() -> tuple[Any, ...]:
    """Addresses, routes and link of the TUN."""
    (link,) = shown("addr", "show", TUN)
    addresses = sorted((a["local"], a["prefixlen"]) for a in link["addr_info"])
    routes = [
        (route["dst"], route.get("prefsrc"))
        for version in ("-4", "-6")
        for route in shown(version, "route", "show", "dev", TUN, "proto", "static")
    ]
    return link["mtu"], link["txqlen"], "UP" in link["flags"], addresses, routes


@pytest.mark.parametrize(
    ("wanted", "public", "name", "address"),
    [
        ("", None, "eth0", "192.0.2.1"),
        ("eth1", None, "eth1", "198.51.100.1"),
        ("198.51.100.1", None, "eth1", "198.51.100.1"),
        ("192.0.2.9", None, "eth0", "192.0.2.9"),
        ("eth0", "192.0.2.9", "eth0", "192.0.2.9"),
        ("", "203.0.113.7", "eth0", "192.0.2.1"),  # behind NAT: the address is the router's
        ("", "2001:db8::1", "eth0", "2001:db8::1"),
        ("eth0", "2001:db8::77", "eth0", "2001:db8::1"),
        ("2001:db8::1", None, "eth0", "2001:db8::1"),
    ],
)
def test_the_external_interface(host: Namespace, wanted: str, public: str | None, name: str, address: str) -> None:
    found = netdev.external_interface(wanted, ip_address(public) if public else None)
    assert (found.name, found.address) == (name, ip_address(address))
    assert found.mtu == (1400 if name == "eth0" else 1500)


@pytest.mark.parametrize(
    ("wanted", "public", "words"),
    [
        ("eth7", None, "there is no interface eth7; see `ip link`"),
        ("192.0.2.77", None, "no interface has the address 192.0.2.77"),
        ("eth1", "2001:db8::5", "interface eth1 has no usable IPv6 address"),
        ("far0", None, "interface far0 has no usable IPv4 or IPv6 address"),
        ("192.0.2.1", "2001:db8::1", "are of two families"),
    ],
)
def test_what_cannot_be_found_is_said(host: Namespace, wanted: str, public: str | None, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        netdev.external_interface(wanted, ip_address(public) if public else None)


def test_without_a_default_route_the_interface_must_be_named(host: Namespace) -> None:
    subprocess.run(["sh", "-c", "ip -4 route flush default; ip -6 route flush default"], check=True)
    with pytest.raises(NodeError, match=r"no default route .*; name it with --iface"):
        netdev.external_interface()


def test_a_host_with_ipv6_alone_has_an_external_interface(host: Namespace) -> None:
    subprocess.run(["sh", "-c", "ip -4 route flush default; ip -4 addr flush dev eth0"], check=True)
    assert netdev.external_interface().address == ip_address("2001:db8::1")


def test_a_multipath_default_route_counts(host: Namespace) -> None:
    hops = "nexthop via 192.0.2.254 dev eth0 nexthop via 198.51.100.254 dev eth1"
    subprocess.run(["sh", "-c", f"ip -4 route flush default; ip route add default {hops}"], check=True)
    assert netdev.external_interface().name == "eth0"


def test_the_overlay_is_never_its_own_underlay(host: Namespace, tun: str) -> None:
    host.ip(f"link set {tun} up", f"addr add 10.5.1.0/32 dev {tun}", f"route add default dev {tun} metric 1")
    assert netdev.external_interface().name == tun
    assert netdev.external_interface(own=[tun]).name == "eth0"
    assert netdev.external_interface(own=["eth0", "nothing"]).name == tun, "only what can be an overlay's is left out"


def test_addresses_that_will_not_stay_are_not_published(host: Namespace) -> None:
    host.ip("addr flush dev eth0")
    host.ip(
        "addr add 2001:db8::dead/64 dev eth0 preferred_lft 0 nodad",
        "addr add 2001:db8::beef/64 dev eth0 valid_lft 1000 preferred_lft 900 nodad",
        "addr add 2001:db8::1/64 dev eth0 nodad",
    )
    found = netdev.external_interface("eth0")
    assert list(map(str, found.addresses)) == ["2001:db8::1", "2001:db8::beef"]


def configure(device: str, *wished: Any) -> None:
    """Set a device up as a node does."""
    WishedState(device_wishes(device, *wished)).fulfil()


def test_the_tun_gets_what_it_needs_and_keeps_it(host: Namespace, tun: str) -> None:
    for _ in range(2):
        configure(tun, [V4, V6], NETWORKS, 1372)
        assert state() == (
            1372,
            TX_QUEUE_LEN,
            True,
            [("10.5.52.0", 32), ("fd00:5:0:34::", 128)],
            [("10.5.0.0/16", "10.5.52.0"), ("fd00:5::/48", "fd00:5:0:34::")],
        )
    assert netdev.read_sysctl(f"ipv4/conf/{tun}/accept_local") == "1"
    assert netdev.read_sysctl(f"ipv4/conf/{tun}/rp_filter") == "2"


def test_a_new_subnet_takes_the_place_of_the_old_one(host: Namespace, tun: str) -> None:
    configure(tun, [V4, V6], NETWORKS, 1372)
    configure(tun, [ip_address("10.6.1.0")], [ip_network("10.6.0.0/16")], 1300)
    assert state()[0] == 1300
    assert state()[3:] == ([("10.6.1.0", 32)], [("10.6.0.0/16", "10.6.1.0")])


def test_a_route_of_the_operator_on_the_tun_stays(host: Namespace, tun: str) -> None:
    configure(tun, [V4], NETWORKS[:1], 1372)
    host.ip(f"route add 172.16.0.0/12 dev {tun} proto 99")
    configure(tun, [V4], NETWORKS[:1], 1372)
    assert any(route["dst"] == "172.16.0.0/12" for route in shown("-4", "route", "show", "dev", tun))


def test_routes_of_others_are_not_read_when_ours_are_looked_after(
    host: Namespace, tun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router of the Internet has a million routes, and is looked after each second."""
    configure(tun, [V4, V6], NETWORKS, 1372)
    host.ip(*(f"route add 20.0.{i // 256}.{i % 256}/32 via 192.0.2.77" for i in range(1000)))
    n_read, dump = [], Tables._dump

    def counted(tables: Tables, kind: int, body: bytes) -> list[bytes]:
        bodies = dump(tables, kind, body)
        n_read.append(len(bodies))
        return bodies

    monkeypatch.setattr(Tables, "_dump", counted)
    wished = WishedState([UnsharedNetworks(tuple(NETWORKS), [tun]), *device_wishes(tun, [V4, V6], NETWORKS, 1372)])
    assert not any(wished.differences().values())
    assert 0 < sum(n_read) < 50


def test_a_device_too_small_for_ipv6_is_made_fit(host: Namespace, tun: str) -> None:
    """Somebody left it with less than 1280 bytes, where the kernel has no IPv6 on it, nor parameters for that."""
    host.ip(f"link set {tun} mtu 1000")
    configure(tun, [V4, V6], NETWORKS, 1372)
    assert state()[0] == 1372
    assert ("fd00:5:0:34::", 128) in state()[3]


def test_too_small_an_mtu_is_said(host: Namespace, tun: str) -> None:
    with pytest.raises(NodeError, match=f"only 1279 bytes of MTU are left for {tun}, but IPv6 needs 1280"):
        configure(tun, [V4, V6], NETWORKS, 1279)


def test_removal_takes_the_tun_and_nothing_else(host: Namespace, tun: str) -> None:
    configure(tun, [V4], NETWORKS[:1], 1372)
    assert netdev.remove_device(tun, "tun")
    assert not netdev.remove_device(tun, "tun")
    with pytest.raises(NodeError, match="eth0 is not a tun device and stays"):
        netdev.remove_device("eth0", "tun")
    assert netdev.external_interface().name == "eth0"


def test_a_host_that_becomes_an_ipv6_router_keeps_learning_its_default_route(host: Namespace) -> None:
    netdev.write_sysctl("ipv6/conf/eth0/accept_ra", 1)
    WishedState(forwarding_wishes([4, 6], "eth0")).fulfil()
    assert netdev.forwarding_enabled(4)
    assert netdev.forwarding_enabled(6)
    assert netdev.read_sysctl("ipv6/conf/eth0/accept_ra") == "2"


def test_a_host_that_does_not_take_advertisements_is_left_so(host: Namespace) -> None:
    WishedState(forwarding_wishes([4, 6], "eth0")).fulfil()
    assert netdev.read_sysctl("ipv6/conf/eth0/accept_ra") == "0"


def test_a_kernel_parameter_that_may_not_be_set_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(netdev, "_SYSCTL", tmp_path)
    with pytest.raises(NodeError, match=r"cannot set /proc/sys/net/ipv4/ip_forward to 1: .*; run as root"):
        WishedState(forwarding_wishes([4], "eth0")).fulfil()


NEVER_ANSWERED = """
import asyncio.selector_events as events
from dataplane.kernel import netdev
from dataplane.errors import NodeError
netdev._NETLINK_SECONDS = 0.2
events._SelectorDatagramTransport._read_ready = lambda transport: transport._fatal_error(MemoryError())
try:
    netdev.external_interface()
except NodeError as error:
    print(error)
"""


def test_an_answer_that_never_comes_is_one_line(host: Namespace) -> None:
    """As when there is no memory to take it in: pyroute2 has it lost then, and would wait for ever."""
    said = host.run([sys.executable, "-I", "-c", NEVER_ANSWERED]).stdout
    assert said.startswith("cannot find the external interface: the kernel's answer did not come through")
