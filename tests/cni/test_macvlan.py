"""macvlan on a private node: what it does better than the official plugin, and that it works.

    node  m1 --- m0 (a veth pair, up)     macvlans on m0: p1 eth0, p2 eth0

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import json

import pytest

from cni.lib.skel import Attachment
from cni.lib.veth import host_name
from tests.cni.node import DUAL_STACK, call, conf, refused, reservations
from tests.cni.world.world import World


@pytest.fixture
def master(node: World) -> World:
    """A node with an interface for macvlans."""
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    return node


MACVLAN = conf("macvlan", master="m0", ipam=DUAL_STACK)


def test_macvlan_connects_pods(master: World) -> None:
    result = call(master, "ADD", MACVLAN)
    other = call(master, "ADD", MACVLAN, "p2")
    for ip in other["ips"]:
        assert master.run("ping", "-c1", "-W2", ip["address"].split("/")[0], pod="p1").exit == 0
    call(master, "CHECK", {**MACVLAN, "prevResult": result})


def test_macvlan_in_a_pod_whose_name_the_node_has_too(master: World) -> None:
    master.sh("ip link add eth0 type veth peer name eth1")
    result = call(master, "ADD", {**MACVLAN, "mtu": 1400})
    assert result["interfaces"][0]["name"] == "eth0"
    assert "mtu 1400" in master.sh("ip link show eth0", pod="p1")


def test_macvlan_del_needs_neither_master_nor_namespace(master: World) -> None:
    call(master, "ADD", MACVLAN)
    master.sh("ip link del m0")
    for _ in range(2):
        call(master, "DEL", {**MACVLAN, "master": ""}, CNI_NETNS="")
    assert reservations(master) == []


def test_macvlan_add_that_fails_leaves_nothing(master: World) -> None:
    refused(master, "ADD", {**MACVLAN, "ipam": {"type": "host-local"}})
    refused(master, "ADD", {**MACVLAN, "mode": "other"})
    refused(master, "ADD", {**MACVLAN, "mac": "x"})
    refused(master, "ADD", MACVLAN, CNI_IFNAME="eth%d")
    assert [link["ifname"] for link in json.loads(master.sh("ip -j link", pod="p1"))] == ["lo"]
    assert reservations(master) == []
    result = call(master, "ADD", MACVLAN)
    refused(master, "ADD", MACVLAN)
    call(master, "CHECK", {**MACVLAN, "prevResult": result})


def test_macvlan_status_tells_of_a_missing_master(master: World) -> None:
    call(master, "STATUS", MACVLAN)
    error = refused(master, "STATUS", {**MACVLAN, "master": "nope"})
    assert (error["code"], error["msg"]) == (50, 'master "nope": Link not found')


def test_macvlan_del_finds_the_link_of_an_add_that_was_killed(master: World) -> None:
    """Between making the link and giving it its name."""
    call(master, "ADD", MACVLAN)
    temporary = host_name("net1", Attachment("container-p1", "eth0"))
    master.sh(f"ip link set eth0 down; ip link set eth0 name {temporary}", pod="p1")
    call(master, "DEL", MACVLAN)
    assert [link["ifname"] for link in json.loads(master.sh("ip -j link", pod="p1"))] == ["lo"]


def test_the_master_of_a_node_with_two_ways_out(node: World) -> None:
    for name in ("u0", "u1"):
        node.sh(f"ip link add {name} type veth peer name {name}x; ip link set {name} up; ip link set {name}x up")
    node.sh("ip route add default nexthop dev u0 nexthop dev u1")
    call(node, "ADD", conf("macvlan"))
    index = json.loads(node.sh("ip -j link show u0"))[0]["ifindex"]
    assert json.loads(node.sh("ip -j link show eth0", pod="p1"))[0]["link_index"] == index


@pytest.mark.parametrize("address", ["10.9.0.2/24", "10.9.0.3/24"])
def test_del_knows_an_official_plugins_link_by_its_addresses_too(address: str, master: World) -> None:
    """The namespace's path may lead to another pod, whose vlan or ipvlan has the same MAC address, its master's."""
    mac = "02:00:00:00:00:07"
    master.sh(f"ip link add link m0 name eth0 address {mac} netns p1 type macvlan mode bridge")
    master.sh(f"ip addr add {address} dev eth0", pod="p1")
    interface = {"name": "eth0", "mac": mac, "sandbox": "/run/netns/p1"}
    result = {"cniVersion": "1.1.0", "interfaces": [interface], "ips": [{"address": "10.9.0.2/24", "interface": 0}]}
    call(master, "DEL", {**MACVLAN, "prevResult": result})
    assert ("eth0" in master.sh("ip link", pod="p1")) == (address == "10.9.0.3/24")
