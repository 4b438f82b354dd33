"""sbr on a private node: packets leave by the interface that has their source; and what it does better.

    node  m1 10.9.0.1 --- m0          p1 eth0 10.9.0.2 (macvlan on m0)
          n1 10.7.0.1 --- n0          p1 eth1 10.7.0.2 (macvlan on n0)

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cni.node import call, collect, conf, refused
from tests.cni.world.world import World

SBR = conf("sbr")
BRIDGE = conf("bridge", isGateway=True, ipam={"type": "host-local", "subnet": "10.9.0.0/24"})


def macvlan(master: str, subnet: str) -> dict[str, Any]:
    return conf("macvlan", master=master, ipam={"type": "host-local", "subnet": subnet}) | {"name": master}


def policy(node: World, pod: str = "p1") -> list[str]:
    """The rules that are not the kernel's, with the tables they lead to."""
    lines = node.sh("ip rule; ip -6 rule", pod=pod).splitlines()
    return [line.split("\t")[1].strip() for line in lines if "from all" not in line]


def wire(node: World, pod: str = "p1") -> dict[str, Any]:
    """A pod with bridge and sbr; gives the result."""
    result = {"prevResult": call(node, "ADD", BRIDGE, pod)}
    call(node, "ADD", SBR | result, pod)
    return result


def test_packets_leave_by_the_interface_of_their_source(node: World) -> None:
    node.sh(
        "for i in m n; do ip link add ${i}0 type veth peer name ${i}1;"
        "ip link set ${i}0 up; ip link set ${i}1 up; done;"
        "ip addr add 10.9.0.1/24 dev m1; ip addr add 10.7.0.1/24 dev n1; ip addr add 198.51.100.1/32 dev lo"
    )
    for master, subnet, ifname in (("m0", "10.9.0.0/24", "eth0"), ("n0", "10.7.0.0/24", "eth1")):
        netconf = macvlan(master, subnet)
        result = call(node, "ADD", netconf, CNI_IFNAME=ifname)
        call(node, "ADD", {**SBR, "name": master, "prevResult": result}, CNI_IFNAME=ifname)
        call(node, "CHECK", {**SBR, "name": master, "prevResult": result}, CNI_IFNAME=ifname)
    for source, ifname in (("10.9.0.2", "eth0"), ("10.7.0.2", "eth1")):
        assert f"dev {ifname}" in node.sh(f"ip route get 198.51.100.1 from {source}", pod="p1")
        assert node.run("ping", "-c1", "-W2", "-I", source, "198.51.100.1", pod="p1").exit == 0
    assert policy(node) == ["from 10.7.0.2 lookup 101", "from 10.9.0.2 lookup 100"]
    call(node, "DEL", {**SBR, "name": "n0"}, CNI_IFNAME="eth1")
    assert policy(node) == ["from 10.9.0.2 lookup 100"]


def test_sbr_that_fails_leaves_rules_and_routes_as_they_were(node: World) -> None:
    result = call(node, "ADD", BRIDGE)
    before = node.sh("ip rule; ip route show table all", pod="p1")
    result["ips"].append({"address": "10.9.0.9/24", "gateway": "192.0.2.1", "interface": 2})
    refused(node, "ADD", {**SBR, "prevResult": result})
    assert node.sh("ip rule; ip route show table all", pod="p1") == before


def test_link_local_addresses_keep_their_route(node: World) -> None:
    call(node, "ADD", BRIDGE)
    node.sh("ip addr add fe80::1:2/64 dev eth0 nodad", pod="p1")
    result = {"interfaces": [{"name": "eth0", "sandbox": "/run/netns/p1"}], "ips": [{"address": "10.9.0.2/24"}]}
    call(node, "ADD", {**SBR, "prevResult": {"cniVersion": "1.1.0", **result}})
    assert "fe80::/64" in node.sh("ip -6 route show dev eth0", pod="p1")


@pytest.mark.parametrize("told", [False, True])
def test_sbr_del_leaves_the_pod_that_a_stale_path_leads_to(told: bool, node: World) -> None:
    """Whether or not the first pod's address is the second one's by now."""
    result = wire(node)
    call(node, "DEL", BRIDGE, CNI_NETNS="")
    wire(node, "p2")
    call(node, "DEL", SBR | (result if told else {}), CNI_NETNS="/run/netns/p2")
    assert len(policy(node, "p2")) == 1


def test_the_plugin_before_sbr_finds_its_routes_where_they_are(node: World) -> None:
    bridge = {**BRIDGE, "ipam": {**BRIDGE["ipam"], "routes": [{"dst": "10.5.0.0/16", "gw": "10.9.0.7"}]}}
    result = {"prevResult": call(node, "ADD", bridge)}
    call(node, "ADD", SBR | result)
    call(node, "CHECK", bridge | result)
    node.sh("ip route del 10.5.0.0/16 table 100", pod="p1")
    error = refused(node, "CHECK", bridge | result)
    assert error["msg"] == "Expected Route 10.5.0.0/16 via 10.9.0.7 not found in routing table"


def test_del_without_interface_and_result_removes_what_nobody_uses(node: World) -> None:
    wire(node)
    node.sh(
        "ip link del eth0; ip link set lo up; ip addr add 10.1.1.1/32 dev lo; ip rule add from 10.1.1.1 lookup 100;"
        "ip rule add from 10.1.1.2 lookup 7; ip route add 10.4.0.0/16 dev lo table 200;"
        "ip rule add from 10.1.1.3 lookup 200",
        pod="p1",
    )
    call(node, "DEL", SBR)
    assert {rule.split()[1] for rule in policy(node)} == {"10.1.1.1", "10.1.1.2", "10.1.1.3"}


def test_sbr_checks_the_table_that_is_asked_for(node: World) -> None:
    result = wire(node)
    call(node, "CHECK", SBR | result)
    error = refused(node, "CHECK", {**SBR, "table": 7} | result)
    assert error["msg"] == "No rule for source 10.9.0.2 to table 7 found"


def test_sbr_gc_and_status_need_nothing(node: World) -> None:
    collect(node, SBR)
    call(node, "STATUS", SBR)
    refused(node, "STATUS", {**SBR, "table": "x"})


def test_sbr_del_knows_another_plugins_pod_by_its_mac_address(node: World) -> None:
    """The namespace's path leads to a pod that another plugin has wired."""
    result = wire(node)
    call(node, "DEL", BRIDGE, CNI_NETNS="")
    node.sh(
        "ip link add eth0 type veth peer name other; ip addr add 10.9.0.7/24 dev eth0; ip link set eth0 up;"
        "ip rule add from 10.9.0.7 lookup 100; ip route add default dev eth0 table 100",
        pod="p2",
    )
    call(node, "DEL", SBR | result, CNI_NETNS="/run/netns/p2")
    assert policy(node, "p2") == ["from 10.9.0.7 lookup 100"]
