"""VLANs of a bridge at work: who reaches whom, and what is undone, refused and found missing.

node  cni0.100 10.9.0.1/24 --- veth --- [cni0: VLANs] --- veth --- p1 eth0, VLAN 100
                                                      --- veth --- p2 eth0, VLAN 100, or 200, or a trunk
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cni.node import HOST_LOCAL, call, collect, conf, links, refused
from tests.cni.world.kernel import has, require_kernel
from tests.cni.world.world import World

pytestmark = pytest.mark.kernels

PORTS = "ip -j link show master cni0"


def bridge(**keys: Any) -> dict[str, Any]:
    return conf("bridge", **{"isGateway": True, "ipam": HOST_LOCAL} | keys)


def fixed(address: str) -> dict[str, Any]:
    return {"type": "static", "addresses": [{"address": address}]}


def host_end(result: dict[str, Any]) -> str:
    name: str = result["interfaces"][1]["name"]
    return name


def reaches(node: World, pod: str, address: str) -> bool:
    return node.run("ping", "-c1", "-W1", address, pod=pod).exit == 0


@pytest.fixture
def vlans(node: World) -> World:
    """A node whose bridges can keep VLANs apart."""
    require_kernel(node, "bridge VLANs")
    return node


def test_a_kernel_without_vlans_is_told_in_one_line(node: World) -> None:
    if has(node, "bridge VLANs"):
        pytest.skip("this kernel's bridges have VLANs")
    for keys in ({"vlan": 100}, {"vlanTrunk": [{"id": 100}]}):
        error = refused(node, "ADD", bridge(**keys))
        assert error["code"] == 2
        assert "CONFIG_BRIDGE_VLAN_FILTERING: remove vlan and vlanTrunk" in error["msg"]
        assert links(node) == ["lo"]
        call(node, "DEL", bridge(**keys))


def test_pods_of_one_vlan_reach_each_other_and_the_gateway_at_once(vlans: World) -> None:
    for pod in ("p1", "p2"):
        call(vlans, "ADD", bridge(vlan=100), pod)
        assert reaches(vlans, pod, "10.9.0.1")
    assert reaches(vlans, "p1", "10.9.0.3")


@pytest.mark.parametrize("keys", [{"vlan": 200}, {}], ids=["another VLAN", "no VLAN"])
def test_pods_of_two_vlans_do_not_reach_each_other(keys: dict[str, Any], vlans: World) -> None:
    for pod, address, own in (("p1", "10.9.0.2/24", {"vlan": 100}), ("p2", "10.9.0.3/24", keys)):
        netconf = bridge(isGateway=False, ipam=fixed(address), **own)
        call(vlans, "ADD", netconf, pod)
    assert not reaches(vlans, "p1", "10.9.0.3")
    assert not reaches(vlans, "p2", "10.9.0.2")


def test_a_trunk_carries_its_own_vlans_alone(vlans: World) -> None:
    require_kernel(vlans, "vlan")
    call(vlans, "ADD", bridge(vlan=100))
    call(vlans, "ADD", bridge(vlanTrunk=[{"minID": 90, "maxID": 110}], isGateway=False, ipam={}), "p2")
    for vlan, address in ((100, "10.9.0.9/24"), (111, "10.8.0.9/24")):
        vlans.sh(f"ip link add link eth0 name v{vlan} type vlan id {vlan}; ip link set v{vlan} up", pod="p2")
        vlans.sh(f"ip addr add {address} dev v{vlan}", pod="p2")
    assert reaches(vlans, "p2", "10.9.0.1")
    vlans.sh("ip addr add 10.8.0.1/24 dev cni0.100")
    assert not reaches(vlans, "p2", "10.8.0.1")


@pytest.mark.parametrize("others", [False, True], ids=["first pod", "beside another VLAN"])
def test_an_add_that_fails_late_takes_its_gateway_along(others: bool, vlans: World) -> None:
    if others:
        other = bridge(vlan=200, ipam={**HOST_LOCAL, "subnet": "10.8.0.0/24"}) | {"name": "net2"}
        call(vlans, "ADD", other, "p2")
        vlans.sh("echo 0 > /proc/sys/net/ipv4/ip_forward")
    before = links(vlans)
    vlans.sh("cd /proc/sys/net/ipv4; mount --bind ip_forward ip_forward; mount -o remount,bind,ro ip_forward")
    try:
        assert "forward" in refused(vlans, "ADD", bridge(vlan=100))["msg"]
    finally:
        vlans.sh("umount /proc/sys/net/ipv4/ip_forward")
    assert links(vlans) == before


def test_the_gateway_stays_for_the_pods_to_come(vlans: World) -> None:
    netconf = bridge(vlan=100)
    call(vlans, "ADD", netconf)
    call(vlans, "ADD", netconf, "p2")
    call(vlans, "DEL", netconf)
    collect(vlans, netconf)
    assert len(json.loads(vlans.sh(PORTS))) == 1
    assert "cni0.100" in links(vlans)
    call(vlans, "ADD", netconf)
    assert reaches(vlans, "p1", "10.9.0.1")


def test_an_idle_gateway_moves_to_the_new_subnet(vlans: World) -> None:
    call(vlans, "ADD", bridge(vlan=100))
    elsewhere = bridge(vlan=100, ipam={**HOST_LOCAL, "subnet": "10.8.0.0/24"})
    assert "remove it with: ip addr del 10.9.0.1/24 dev cni0.100" in refused(vlans, "ADD", elsewhere, "p2")["msg"]
    call(vlans, "DEL", bridge(vlan=100))
    call(vlans, "ADD", elsewhere, "p2")
    assert reaches(vlans, "p2", "10.8.0.1")
    assert "10.9.0.1" not in vlans.sh("ip addr show dev cni0.100")


def test_a_gateway_that_a_killed_add_left_is_made_anew(vlans: World) -> None:
    call(vlans, "ADD", bridge(vlan=100))
    call(vlans, "DEL", bridge(vlan=100))
    vlans.sh(
        f"ip link set $({PORTS} | tr ',' '\\n' | grep -o 'veth[a-z0-9]*' | head -1) nomaster; ip link set cni0.100 down"
    )
    call(vlans, "ADD", bridge(vlan=100))
    assert reaches(vlans, "p1", "10.9.0.1")


def test_a_bridge_that_does_not_filter_is_refused_with_the_remedy(vlans: World) -> None:
    vlans.sh("ip link add cni0 type bridge")
    remedy = "ip link set cni0 type bridge vlan_filtering 1"
    assert refused(vlans, "ADD", bridge(vlan=100))["msg"].endswith(f"run: {remedy}")
    assert links(vlans) == ["lo", "cni0"]
    vlans.sh(remedy)
    call(vlans, "ADD", bridge(vlan=100))
    assert reaches(vlans, "p1", "10.9.0.1")


@pytest.mark.parametrize(
    "change",
    [
        "bridge vlan del dev {} vid 100",
        "bridge vlan add dev {} vid 100",
        "ip link set cni0 type bridge vlan_filtering 0",
    ],
)
def test_check_looks_at_the_vlans(change: str, vlans: World) -> None:
    result = call(vlans, "ADD", bridge(vlan=100))
    netconf = bridge(vlan=100, prevResult=result)
    call(vlans, "CHECK", netconf)
    vlans.sh(change.format(host_end(result)))
    assert "VLANs" in refused(vlans, "CHECK", netconf)["msg"]


@pytest.mark.parametrize("broken", ["ip link set cni0.100 down", "ip link del cni0"])
def test_the_interface_in_the_vlan_is_mended_by_the_next_pod(broken: str, vlans: World) -> None:
    """With the addresses that it has, an administrator's among them."""
    call(vlans, "ADD", bridge(vlan=100))
    vlans.sh(f"ip addr add 192.0.2.1/24 dev cni0.100; {broken}")
    call(vlans, "ADD", bridge(vlan=100), "p2")
    assert "192.0.2.1/24" in vlans.sh("ip addr show cni0.100")
    assert reaches(vlans, "p2", "10.9.0.1")
