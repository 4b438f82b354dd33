"""dummy, vlan, ipvlan and vrf on a private node: that they work, and what they do better than the official plugins.

    node  m0 --- m1 (a veth pair, up)       vlan, ipvlan: p1 eth0 and p2 eth0 on m0; vlan also m1.5 on the node
          cni0                              vrf: p1 eth0, a port of `blue`

What both do alike is compared in tests/cni/differential. Not every kernel has these links: ./dev test --kernels.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib.skel import Attachment
from cni.lib.veth import host_name
from tests.cni.node import DUAL_STACK, HOST_LOCAL, call, conf, refused, reservations
from tests.cni.world.kernel import require_kernel
from tests.cni.world.world import World

CONFS: dict[str, dict[str, Any]] = {
    "dummy": conf("dummy", ipam=DUAL_STACK),
    "vlan": conf("vlan", master="m0", vlanId=5, ipam=DUAL_STACK),
    "ipvlan": conf("ipvlan", master="m0", ipam=DUAL_STACK),
}
KINDS = pytest.mark.parametrize("kind", CONFS)
BRIDGE = conf("bridge", isGateway=True, ipam={**HOST_LOCAL, "routes": [{"dst": "0.0.0.0/0"}]})
VRF = conf("vrf", vrfname="blue")
pytestmark = pytest.mark.kernels


@pytest.fixture
def master(node: World) -> World:
    """A node with an interface for links."""
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    return node


def pod_links(node: World, pod: str = "p1") -> list[str]:
    return sorted(link["ifname"] for link in json.loads(node.sh("ip -j link", pod=pod)))


def test_ipvlans_of_a_master_reach_each_other(master: World) -> None:
    require_kernel(master, "ipvlan")
    call(master, "ADD", CONFS["ipvlan"])
    for ip in call(master, "ADD", CONFS["ipvlan"], "p2")["ips"]:
        assert master.run("ping", "-c1", "-W5", ip["address"].split("/")[0], pod="p1").exit == 0


def test_a_vlan_reaches_the_other_end_of_its_master(master: World) -> None:
    require_kernel(master, "vlan")
    master.sh("ip link add link m1 name m1.5 type vlan id 5; ip addr add 10.9.0.1/24 dev m1.5; ip link set m1.5 up")
    call(master, "ADD", CONFS["vlan"])
    assert master.run("ping", "-c1", "-W5", "10.9.0.1", pod="p1").exit == 0


@KINDS
def test_a_life_that_ends_with_nothing(kind: str, master: World) -> None:
    """The node has an interface of the pod's name; IPAM, the name in the pod and its form are in the way by turns."""
    require_kernel(master, kind)
    master.sh("ip link add eth0 type veth peer name eth1")
    refused(master, "ADD", {**CONFS[kind], "ipam": {"type": "host-local"}})
    refused(master, "ADD", CONFS[kind], CNI_IFNAME="eth%d")
    result = call(master, "ADD", {**CONFS[kind]})
    call(master, "CHECK", {**CONFS[kind], "prevResult": result})
    refused(master, "ADD", {**CONFS[kind], "vlanId": 6})
    call(master, "CHECK", {**CONFS[kind], "prevResult": result})
    for _ in range(2):
        call(master, "DEL", {**CONFS[kind], "master": "nope", "vlanId": "x"})
    assert pod_links(master) == ["lo"]
    assert reservations(master) == []


@KINDS
def test_del_leaves_the_pod_that_a_stale_path_leads_to(kind: str, master: World) -> None:
    require_kernel(master, kind)
    call(master, "ADD", CONFS[kind])
    other = {**CONFS[kind], "vlanId": 6}
    result = call(master, "ADD", other, "p2")
    for _ in range(2):
        call(master, "DEL", CONFS[kind], CNI_NETNS="/run/netns/p2")
    call(master, "CHECK", {**other, "prevResult": result}, "p2")
    assert len(reservations(master)) == 2


@KINDS
def test_del_finds_the_link_of_an_add_that_was_killed(kind: str, master: World) -> None:
    require_kernel(master, kind)
    call(master, "ADD", CONFS[kind])
    temporary = host_name("net1", Attachment("container-p1", "eth0"))
    master.sh(f"ip link set eth0 down; ip link set eth0 alias '' name {temporary}", pod="p1")
    call(master, "DEL", CONFS[kind])
    assert pod_links(master) == ["lo"]


@pytest.mark.parametrize("mtu", [-1, 1 << 31, 1 << 32, 1 << 62])
def test_an_mtu_that_no_interface_can_have(mtu: int, master: World) -> None:
    error = refused(master, "ADD", {**CONFS["ipvlan"], "mtu": mtu})
    assert error["msg"] == f"failed to create ipvlan: invalid MTU {mtu}"


@pytest.mark.parametrize("kind", ["vlan", "ipvlan"])
def test_status_tells_of_a_missing_master(kind: str, master: World) -> None:
    call(master, "STATUS", CONFS[kind])
    error = refused(master, "STATUS", {**CONFS[kind], "master": "nope"})
    assert (error["code"], error["msg"]) == (50, 'master "nope": Link not found')


def wired(node: World, pod: str = "p1", **keys: Any) -> dict[str, Any]:
    """A pod with bridge and vrf; gives the result."""
    require_kernel(node, "vrf")
    result = {"prevResult": call(node, "ADD", BRIDGE, pod)}
    call(node, "ADD", {**VRF, **keys} | result, pod)
    return result


def test_a_vrf_keeps_the_pods_way_out(node: World) -> None:
    result = wired(node)
    call(node, "CHECK", VRF | result)
    assert node.run("ip", "vrf", "exec", "blue", "true", pod="p1").exit in (0, 255)
    assert "via 10.9.0.1 dev eth0" in node.sh("ip route show vrf blue default", pod="p1")
    assert node.run("ping", "-c1", "-W5", "-I", "blue", "10.9.0.1", pod="p1").exit == 0
    for _ in range(2):
        call(node, "DEL", VRF)
    assert pod_links(node) == ["eth0", "lo"]


def test_a_vrf_that_fails_leaves_routes_and_addresses(node: World) -> None:
    require_kernel(node, "vrf")
    result = {"prevResult": call(node, "ADD", {**BRIDGE, "ipam": DUAL_STACK})}
    look = "ip route; ip -6 route; ip -o addr show dev eth0 scope global"
    before = node.sh(look, pod="p1")
    refused(node, "ADD", {**VRF, "vrfname": "eth0"} | result)
    refused(node, "ADD", {**VRF, "vrfname": "vrf%d"} | result)
    node.sh("ip link add blue type vrf table 9; ip link add br0 type bridge; ip link set eth0 master br0", pod="p1")
    refused(node, "ADD", VRF | result)
    node.sh("ip link set eth0 nomaster; ip link del br0; ip link del blue", pod="p1")
    assert node.sh(look, pod="p1") == before


def test_a_vrf_takes_a_table_that_nobody_has(node: World) -> None:
    require_kernel(node, "vrf")
    node.sh("ip rule add from 192.0.2.1 lookup 1; ip link add red type vrf table 2", pod="p1")
    wired(node)
    assert "table 3" in node.sh("ip -d link show blue", pod="p1")


def test_a_vrf_takes_no_table_with_routes(node: World) -> None:
    """They would be the VRF's way out."""
    require_kernel(node, "vrf")
    node.sh("ip link set lo up; ip route add blackhole 192.0.2.0/24 table 1", pod="p1")
    wired(node)
    assert "table 2" in node.sh("ip -d link show blue", pod="p1")


def test_routes_of_other_tables_stay_there(node: World) -> None:
    """Those of sbr, for one, which came before. They cannot name the VRF's address as their source there."""
    require_kernel(node, "vrf")
    result = {"prevResult": call(node, "ADD", BRIDGE)}
    call(node, "ADD", conf("sbr") | result)
    look = "ip route show table 100 | sed 's/ src [^ ]*//; s/ *$//'"
    before = node.sh(look, pod="p1")
    assert "default via 10.9.0.1" in before
    call(node, "ADD", VRF | result)
    assert sorted(node.sh(look, pod="p1").splitlines()) == sorted(before.splitlines())


def test_interfaces_that_share_a_vrf_keep_their_routes(node: World) -> None:
    """Both have a default route, by the same metric."""
    require_kernel(node, "vrf")
    wired(node)
    other = {**BRIDGE, "name": "net2", "bridge": "cni1", "ipam": {**BRIDGE["ipam"], "subnet": "10.8.0.0/24"}}
    result = {"prevResult": call(node, "ADD", other, CNI_IFNAME="eth1")}
    call(node, "ADD", VRF | {"name": "net2"} | result, CNI_IFNAME="eth1")
    routes = node.sh("ip route show vrf blue default", pod="p1")
    assert "via 10.9.0.1 dev eth0" in routes
    assert "via 10.8.0.1 dev eth1" in routes
    call(node, "DEL", VRF | {"name": "net2"}, CNI_IFNAME="eth1")
    assert "via 10.9.0.1 dev eth0" in node.sh("ip route show vrf blue default", pod="p1")


@pytest.mark.parametrize("keys", [{"vrfname": "eth0"}, {"vrfname": ""}, {"table": "x"}, {"table": 1 << 40}])
def test_a_pod_can_go_whatever_vrf_could_not_do_with_it(keys: dict[str, Any], node: World) -> None:
    result = {"prevResult": call(node, "ADD", BRIDGE)}
    refused(node, "ADD", VRF | keys | result)
    call(node, "DEL", VRF | keys | result)
    assert pod_links(node) == ["eth0", "lo"]


def test_vrf_del_leaves_the_pod_that_a_stale_path_leads_to(node: World) -> None:
    wired(node)
    result = wired(node, "p2")
    for _ in range(2):
        call(node, "DEL", VRF, CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", VRF | result, "p2")


def test_vrf_del_leaves_an_empty_vrf_of_the_pods_own(node: World) -> None:
    require_kernel(node, "vrf")
    node.sh("ip link add blue type vrf table 9; ip link set blue up", pod="p1")
    call(node, "DEL", VRF)
    assert "blue" in pod_links(node)
