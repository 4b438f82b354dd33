"""The bridge and the node around it: whose addresses it has, its hardware address, forwarding, and who hears of a pod.

node  cni0 10.9.0.1/24, 10.8.0.1/24 --- veth --- p1 eth0
                                    --- veth --- p2 eth0
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest

from tests.cni.node import DUAL_STACK, HOST_LOCAL, call, conf, links, refused
from tests.cni.world.world import World

TWO_RANGES = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.8.0.0/24"}]]}


def bridge(**keys: Any) -> dict[str, Any]:
    return conf("bridge", **{"isDefaultGateway": True, "ipam": HOST_LOCAL} | keys)


def subnet(text: str) -> dict[str, Any]:
    return {"type": "host-local", "subnet": text}


def bridge_addresses(node: World) -> list[str]:
    found = json.loads(node.sh("ip -j addr show dev cni0"))[0]["addr_info"]
    return [f"{one['local']}/{one['prefixlen']}" for one in found if one["scope"] == "global"]


def mac_of(node: World, name: str, pod: str | None = None) -> str:
    mac: str = json.loads(node.run("ip", "-j", "link", "show", "dev", name, pod=pod).stdout)[0]["address"]
    return mac


def test_two_ranges_of_one_family_have_a_gateway_each(node: World) -> None:
    for pod in ("p1", "p2"):
        call(node, "ADD", bridge(ipam=TWO_RANGES), pod)
        for gateway in ("10.9.0.1", "10.8.0.1"):
            node.sh(f"ping -c1 -W2 {gateway}", pod=pod)
    assert bridge_addresses(node) == ["10.9.0.1/24", "10.8.0.1/24"]


def test_of_an_idle_bridge_only_the_address_that_the_plugin_put_there_goes(node: World) -> None:
    call(node, "ADD", bridge())
    node.sh("ip addr add 192.0.2.1/24 dev cni0")
    call(node, "DEL", bridge())
    call(node, "ADD", bridge(ipam=subnet("10.8.0.0/24")))
    assert bridge_addresses(node) == ["192.0.2.1/24", "10.8.0.1/24"]


def test_an_address_of_the_administrator_that_is_in_the_way_stays(node: World) -> None:
    call(node, "ADD", bridge())
    node.sh("ip addr add 10.8.0.200/16 dev cni0")
    call(node, "DEL", bridge())
    error = refused(node, "ADD", bridge(ipam=subnet("10.8.0.0/24")))
    assert "remove it with: ip addr del 10.8.0.200/16 dev cni0" in error["msg"]
    assert bridge_addresses(node) == ["10.9.0.1/24", "10.8.0.200/16"]


def test_a_bridge_of_an_earlier_version_keeps_its_address(node: World) -> None:
    """Its alias does not tell which addresses the plugin put there."""
    call(node, "ADD", bridge())
    call(node, "DEL", bridge())
    for alias in ("", "the office's"):
        node.sh(f'ip link set cni0 alias "{alias}"')
        error = refused(node, "ADD", bridge(ipam=subnet("10.8.0.0/24")))
        assert "ip addr del 10.9.0.1/24 dev cni0" in error["msg"]
    call(node, "ADD", bridge(ipam=subnet("10.8.0.0/24"), forceAddress=True))
    assert bridge_addresses(node) == ["10.8.0.1/24"]
    assert "the office's" in node.sh("ip link show cni0")


@pytest.mark.parametrize("keys", [{}, {"isDefaultGateway": False}, {"isDefaultGateway": False, "ipam": None}])
def test_the_hardware_address_of_somebodys_bridge_stays_when_ports_come_and_go(
    keys: dict[str, Any], node: World
) -> None:
    node.sh("ip link add cni0 type bridge; ip addr add 10.9.0.1/24 dev cni0; ip link set cni0 up")
    before = mac_of(node, "cni0")
    result = call(node, "ADD", bridge(**keys))
    assert result["interfaces"][0]["mac"] == before
    call(node, "ADD", bridge(**keys), "p2")
    node.sh("ip link add low address 02:00:00:00:00:01 type veth peer name x; ip link set low master cni0")
    assert mac_of(node, "cni0") == before
    for pod in ("p1", "p2"):
        call(node, "DEL", bridge(**keys), pod)
    assert mac_of(node, "cni0") == before


def test_an_interface_that_shall_stay_down_stays_down(node: World) -> None:
    call(node, "ADD", bridge(ipam=None, disableContainerInterface=True))
    assert ",UP" not in node.sh("ip link show eth0", pod="p1")
    error = refused(node, "ADD", bridge(disableContainerInterface=True), "p2")
    assert error["msg"] == "cannot use IPAM when DisableContainerInterface flag is set"
    assert "eth0" not in node.sh("ip link", pod="p2")


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_neighbours_hear_of_an_address_that_has_moved_to_another_pod(kind: str, node: World) -> None:
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    node.ask("pod", name="p3")
    addresses = [{"address": "10.9.0.9/24", "gateway": "10.9.0.1"}, {"address": "fd09::9/64", "gateway": "fd09::1"}]
    moving = conf(kind, master="m0", ipam={"type": "static", "addresses": addresses})
    dual = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]}
    call(node, "ADD", {**moving, "ipam": dual}, "p3")
    call(node, "ADD", moving)
    for target in ("10.9.0.9", "fd09::9"):
        node.sh(f"ping -c1 -W2 {target}", pod="p3")
    call(node, "DEL", moving)
    call(node, "ADD", moving, "p2")
    mac = mac_of(node, "eth0", "p2")
    until = f"until ip neigh show dev eth0 | grep -c {mac} | grep -q 2; do :; done"
    heard = node.run("timeout", "2", "sh", "-c", until, pod="p3")
    assert heard.exit == 0, node.sh("ip neigh", pod="p3")


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_a_default_route_that_a_router_advertised_stays(kind: str, node: World) -> None:
    for name in ("up0", "other0"):
        node.sh(f"ip link add {name} type veth peer name {name}x; ip link set {name} up; ip link set {name}x up")
        node.sh(f"echo 1 > /proc/sys/net/ipv6/conf/{name}/accept_ra")
    node.sh("ip -6 addr add fd00:1::2/64 dev up0 nodad")
    advertise = """
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("up0x"))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, socket.if_nametoindex("up0x")))
"""
    node.write("/run/advertise.py", advertise)
    heard = "ip -6 route | grep -q 'default.*proto ra'"
    until = f"until {shlex.quote(sys.executable)} -I /run/advertise.py && {heard}; do :; done"
    node.sh(f"timeout 20 sh -c {shlex.quote(until)}")
    six = {"type": "host-local", "subnet": "fd09::/64"}
    call(node, "ADD", conf(kind, isDefaultGateway=True, ipam=six))
    assert node.sh("cat /proc/sys/net/ipv6/conf/all/forwarding").strip() == "1"
    assert "proto ra" in node.sh("ip -6 route show default")
    assert node.sh("cat /proc/sys/net/ipv6/conf/other0/accept_ra").strip() == "1"
    assert "cni0" not in links(node) or kind == "bridge"


def test_two_ways_out_of_a_pod_are_both_found(node: World) -> None:
    """The kernel lists IPv6 routes to one prefix as one with two next hops."""
    netconf = conf("bridge", isDefaultGateway=True, ipam=DUAL_STACK)
    for ifname in ("eth0", "eth1"):
        result = call(node, "ADD", netconf, CNI_IFNAME=ifname)
        call(node, "CHECK", {**netconf, "prevResult": result}, CNI_IFNAME=ifname)
    node.sh("ip -6 route del default", pod="p1")
    assert "::/0" in refused(node, "CHECK", {**netconf, "prevResult": result}, CNI_IFNAME="eth1")["msg"]
