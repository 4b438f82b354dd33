"""Whose is it? What a plugin made for one attachment, no call for another touches, and nothing of anybody else's.

node  cni0 --- veth, label "udplane net1/container-p1/eth0" --- p1 eth0
           --- veth, label "udplane net1/container-p2/eth0" --- p2 eth0
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib import ownership
from cni.lib.skel import Attachment
from cni.lib.veth import host_name, name_prefix
from tests.cni.node import DUAL_STACK, HOST_LOCAL, call, collect, conf, links, reservations, rules
from tests.cni.world.world import World

P1 = Attachment("container-p1", "eth0")
WIRING: dict[str, dict[str, Any]] = {
    "bridge": {"isDefaultGateway": True, "ipMasq": True, "macspoofchk": True, "ipam": DUAL_STACK},
    "ptp": {"ipMasq": True, "ipam": DUAL_STACK},
}
KINDS = pytest.mark.parametrize("kind", WIRING)


def colliding_network() -> str:
    """Another network whose host ends begin as net1's do."""
    return next(name for i in range(1 << 20) if name_prefix(name := f"other{i}") == name_prefix("net1"))


def link(node: World, name: str, pod: str | None = None) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(node.run("ip", "-j", "-d", "link", "show", "dev", name, pod=pod).stdout)
    return found[0]


def all_rules(node: World) -> str:
    listing = rules(node) + node.sh("nft list ruleset")
    return "\n".join(line for line in listing.splitlines() if not line.startswith("#"))  # the time of day


def test_labels_tell_attachments_apart_in_full() -> None:
    long = "n" * 300
    labels = {
        ownership.label(network, Attachment(container, ifname))
        for network in ("net", "net1", long, long + "x")
        for container in ("c", "c1", long, long + "x")
        for ifname in ("eth0", "eth1")
    }
    assert len(labels) == 32
    assert all(len(label.encode()) < 256 for label in labels)
    assert not ownership.label("net1", P1).startswith(ownership.network_label("net"))
    assert not ownership.label(long + "x", P1).startswith(ownership.network_label(long))


@KINDS
def test_the_host_end_says_whose_it_is(kind: str, node: World) -> None:
    call(node, "ADD", conf(kind, **WIRING[kind]))
    assert link(node, host_name("net1", P1))["ifalias"] == "udplane net1/container-p1/eth0"


@KINDS
def test_gc_leaves_the_live_pods_of_a_network_whose_name_collides(kind: str, node: World) -> None:
    other = {**conf(kind, **WIRING[kind]), "name": colliding_network()}
    result = call(node, "ADD", other, "p2")
    before = all_rules(node)
    collect(node, conf(kind, **WIRING[kind]))
    call(node, "CHECK", {**other, "prevResult": result}, "p2")
    assert all_rules(node) == before
    collect(node, other)
    assert not [name for name in links(node) if name.startswith("veth")]


@KINDS
def test_gc_leaves_what_nobody_labelled(kind: str, node: World) -> None:
    """Made by hand, by an official plugin, or by a version that did not label."""
    name = name_prefix("net1") + "aaaaaaaa"
    node.sh(f"ip link add {name} type veth peer name x; ip link set {name} up")
    collect(node, conf(kind, **WIRING[kind]))
    assert name in links(node)


@KINDS
def test_del_leaves_the_pod_that_a_stale_path_leads_to(kind: str, node: World) -> None:
    netconf = conf(kind, **WIRING[kind])
    call(node, "ADD", netconf)
    result = call(node, "ADD", netconf, "p2")
    call(node, "DEL", netconf, CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", {**netconf, "prevResult": result}, "p2")
    assert host_name("net1", P1) not in links(node)
    assert "container-p1" not in all_rules(node)
    assert len(reservations(node)) == 2
    call(node, "DEL", netconf, CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", {**netconf, "prevResult": result}, "p2")


@pytest.mark.parametrize("kind", [*WIRING, "macvlan"])
def test_del_of_a_tuned_pod_leaves_the_pod_that_a_stale_path_leads_to(kind: str, node: World) -> None:
    """What was there before, in the first pod, is not put back into the second one."""
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    netconf = conf(kind, **WIRING.get(kind, {"master": "m0", "ipam": HOST_LOCAL}))
    tuned = conf("tuning", mac="c2:c2:c2:c2:00:01", mtu=1400)
    call(node, "ADD", {**tuned, "prevResult": call(node, "ADD", netconf)})
    call(node, "ADD", netconf, "p2")
    before = node.sh("ip -d -j link show dev eth0", pod="p2")
    call(node, "DEL", tuned, CNI_NETNS="/run/netns/p2")
    assert node.sh("ip -d -j link show dev eth0", pod="p2") == before
    call(node, "DEL", tuned)
    assert node.sh("ls -A /run/cni/tuning") == ""


@KINDS
def test_del_with_a_path_that_leads_to_the_node(kind: str, node: World) -> None:
    before = links(node)
    node.sh("ip link add eth0 type veth peer name eth9")
    netconf = conf(kind, **WIRING[kind])
    call(node, "ADD", netconf)
    call(node, "DEL", netconf, CNI_NETNS="/proc/self/ns/net")
    assert [name for name in links(node) if name not in ("cni0", "eth0", "eth9")] == before
    assert {"eth0", "eth9"} <= set(links(node))
    assert "container-p1" not in all_rules(node)
    assert reservations(node) == []


@KINDS
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_del_does_not_depend_on_the_configuration(kind: str, backend: str, node: World) -> None:
    before = [name for name in links(node) if name != "cni0"]
    call(node, "ADD", conf(kind, **{**WIRING[kind], "ipMasqBackend": backend}))
    assert "container-p1" in all_rules(node)
    changed = {"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]}, "ipMasqBackend": "other"}
    call(node, "DEL", conf(kind, **changed, mtu="x", bridge=7), CNI_NETNS="")
    assert "container-p1" not in all_rules(node)
    assert [name for name in links(node) if name != "cni0"] == before
    assert reservations(node) == []


def test_del_of_a_flannel_pod_whose_state_is_lost(node: World) -> None:
    """And the daemon has begun to masquerade by itself in the meantime."""
    env = "FLANNEL_NETWORK=10.9.0.0/16\nFLANNEL_SUBNET=10.9.0.1/24\nFLANNEL_MTU=1400\nFLANNEL_IPMASQ="
    node.write("/run/flannel/subnet.env", env + "false\n")
    netconf = conf("flannel", delegate={"isDefaultGateway": True, "macspoofchk": True})
    call(node, "ADD", netconf)
    assert "container-p1" in rules(node)
    node.sh("rm -r /var/lib/cni/flannel")
    node.write("/run/flannel/subnet.env", env + "true\n")
    call(node, "DEL", conf("flannel"), CNI_NETNS="")
    assert "container-p1" not in all_rules(node)
    assert reservations(node) == []
    assert host_name("net1", P1) not in links(node)


def test_the_host_ends_name_is_somebody_elses(node: World) -> None:
    name = host_name("net1", P1)
    node.sh(f"ip link add {name} type bridge")
    done = node.plugin("ptp", "ADD", conf("ptp", ipam=HOST_LOCAL))
    assert (done.exit, "somebody else" in done.stdout) == (1, True)
    call(node, "DEL", conf("ptp", ipam=HOST_LOCAL))
    assert name in links(node)


def test_a_late_del_in_another_network_leaves_the_macspoof_rules(node: World) -> None:
    """The container's eth0 was in net1, and is in net2 now."""
    netconf = conf("bridge", **WIRING["bridge"])
    call(node, "ADD", netconf)
    call(node, "DEL", netconf)
    call(node, "ADD", {**netconf, "name": "net2"})
    before = node.sh("nft list table bridge nat")
    call(node, "DEL", netconf)
    assert node.sh("nft list table bridge nat") == before
    call(node, "DEL", {**netconf, "name": "net2"})
    assert "container-p1" not in node.sh("nft list table bridge nat")


def test_del_of_a_macvlan_leaves_the_pod_that_a_stale_path_leads_to(node: World) -> None:
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    netconf = conf("macvlan", master="m0", ipam=DUAL_STACK)
    call(node, "ADD", netconf)
    result = call(node, "ADD", netconf, "p2")
    call(node, "DEL", {**netconf, "prevResult": result}, CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", {**netconf, "prevResult": result}, "p2")
    call(node, "DEL", netconf, "p2")
    assert "eth0" not in node.sh("ip link", pod="p2")


def test_del_of_a_macvlan_that_nobody_labelled_needs_the_result(node: World) -> None:
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    netconf = conf("macvlan", master="m0")
    result = call(node, "ADD", netconf)
    node.sh("ip link set eth0 alias ''", pod="p1")
    call(node, "DEL", netconf)
    assert "eth0" in node.sh("ip link", pod="p1")
    call(node, "DEL", {**netconf, "prevResult": result})
    assert "eth0" not in node.sh("ip link", pod="p1")


def test_del_of_a_loopback_leaves_the_pod_that_a_stale_path_leads_to(node: World) -> None:
    for pod in ("p1", "p2"):
        call(node, "ADD", conf("loopback"), pod)
    call(node, "DEL", conf("loopback"), CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", conf("loopback", prevResult={}), "p2")
    call(node, "DEL", conf("loopback"), "p2")
    assert ",UP" not in node.sh("ip link show lo", pod="p2")


LIMITS = {"egressRate": 16_000_000, "egressBurst": 8_000_000}


def test_two_interfaces_of_a_pod_in_one_network_have_a_limit_each(node: World) -> None:
    lan = conf("bridge", ipam=HOST_LOCAL)
    wires = {ifname: call(node, "ADD", lan, CNI_IFNAME=ifname) for ifname in ("eth0", "eth1")}
    results = {
        ifname: call(node, "ADD", conf("bandwidth", **LIMITS, prevResult=wire), CNI_IFNAME=ifname)
        for ifname, wire in wires.items()
    }
    ifbs = {ifname: result["interfaces"][-1]["name"] for ifname, result in results.items()}
    assert len(set(ifbs.values())) == 2
    call(node, "DEL", conf("bandwidth"))
    call(node, "CHECK", conf("bandwidth", **LIMITS, prevResult=results["eth1"]), CNI_IFNAME="eth1")
    assert ifbs["eth0"] not in links(node)
    valid = {"cni.dev/valid-attachments": [{"containerID": "container-p1", "ifname": "eth1"}]}
    call(node, "GC", {**conf("bandwidth"), **valid})
    assert ifbs["eth1"] in links(node)
    collect(node, conf("bandwidth"))
    assert ifbs["eth1"] not in links(node)


def test_two_interfaces_of_a_pod_in_one_network_are_masqueraded_each_for_itself(node: World) -> None:
    def wire(ifname: str, address: str) -> None:
        ipam = {"type": "static", "addresses": [{"address": address}]}
        call(node, "ADD", conf("bridge", ipMasq=True, ipam=ipam), CNI_IFNAME=ifname)

    wire("eth0", "10.9.0.9/24")
    wire("eth1", "10.7.0.9/24")
    listing = node.sh("iptables -t nat -S")
    for text in ("-d 10.9.0.0/24", "-d 10.7.0.0/24", "-s 10.9.0.9/32", "-s 10.7.0.9/32", "-j MASQUERADE"):
        assert listing.count(text) == 1, text
    assert listing.rindex("-j ACCEPT") < listing.index("-j MASQUERADE")
    call(node, "DEL", conf("bridge"))
    assert "10.9.0.9" not in rules(node)
    assert "-s 10.7.0.9/32" in rules(node)
    call(node, "DEL", conf("bridge"), CNI_IFNAME="eth1")
    assert "container-p1" not in rules(node)


@pytest.mark.parametrize("kind", ["bridge", "ptp", "macvlan"])
@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        (None, {"nameservers": ["10.0.0.53"]}),
        ({}, {"nameservers": ["10.0.0.53"]}),
        ({"nameservers": None}, {"nameservers": ["10.0.0.53"]}),
        ({"nameservers": []}, {}),
        ({"search": ["x"]}, {"search": ["x"]}),
    ],
)
def test_name_service_of_the_configuration_or_else_of_the_ipam_plugin(
    kind: str, dns: Any, expected: dict[str, Any], node: World
) -> None:
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    addresses = [{"address": "10.9.0.9/24", "gateway": "10.9.0.1"}]
    ipam = {"type": "static", "addresses": addresses, "dns": {"nameservers": ["10.0.0.53"]}}
    result = call(node, "ADD", {**conf(kind, master="m0", ipam=ipam), "cniVersion": "1.0.0", "dns": dns})
    assert result.get("dns", {}) == expected
