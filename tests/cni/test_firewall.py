"""firewall for pods that ptp or bridge has wired: what it does better than the official plugin, and that it works.

    p1 eth0 --- veth  node, which forwards nothing by itself  veth --- p2 eth0

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import pytest

from tests.cni.node import call, collect, conf, rules, wired
from tests.cni.plugin_calls import call as call_here
from tests.cni.plugin_calls import failure
from tests.cni.world.world import World

FIREWALL = conf("firewall")


def test_firewall_lets_pods_pass_where_forwarding_is_forbidden(node: World) -> None:
    node.sh("iptables -P FORWARD DROP")
    chained = {pod: wired(node, pod) for pod in ("p1", "p2")}
    target = chained["p2"]["prevResult"]["ips"][0]["address"].split("/")[0]
    ping = ["ping", "-c1", "-W1", target]
    assert node.run(*ping, pod="p1").exit != 0
    for pod in ("p1", "p2"):
        call(node, "ADD", {**FIREWALL, **chained[pod]}, pod)
        call(node, "CHECK", {**FIREWALL, **chained[pod]}, pod)
    assert node.run(*ping, pod="p1").exit == 0


def test_firewall_del_needs_no_result(node: World) -> None:
    chained = wired(node)
    call(node, "ADD", {**FIREWALL, **chained})
    call(node, "ADD", {**FIREWALL, **chained})
    for _ in range(2):
        call(node, "DEL", FIREWALL, CNI_NETNS="")
    assert "10.9.0." not in rules(node)
    assert "fd00" not in rules(node)
    assert node.sh("ls /run/cni/firewall") == ""


def test_firewall_late_del_spares_the_pod_that_has_the_address_now(node: World) -> None:
    chained = wired(node)
    call(node, "ADD", {**FIREWALL, **chained})
    call(node, "DEL", {**FIREWALL, **chained})
    call(node, "ADD", {**FIREWALL, **chained}, "p2")
    call(node, "DEL", {**FIREWALL, **chained})
    call(node, "CHECK", {**FIREWALL, **chained}, "p2")


def test_firewall_del_after_the_address_was_given_to_another_pod(node: World) -> None:
    """IPAM's GC comes before firewall's, and whoever is killed in between leaves this to DEL."""
    chained = wired(node)
    call(node, "ADD", {**FIREWALL, **chained})
    memory = node.sh("ls /run/cni/firewall").strip()
    node.sh(f"cp /run/cni/firewall/{memory} /run/cni/firewall/.{memory}.tmp")
    call(node, "ADD", {**FIREWALL, **chained}, "p2")
    call(node, "DEL", {**FIREWALL, **chained})
    call(node, "CHECK", {**FIREWALL, **chained}, "p2")
    call(node, "DEL", {**FIREWALL, **chained}, "p2")
    assert "10.9.0.2" not in rules(node)


def test_firewall_gc(node: World) -> None:
    addresses = {}
    for pod in ("p1", "p2"):
        chained = wired(node, pod)
        addresses[pod] = chained["prevResult"]["ips"][0]["address"].split("/")[0]
        call(node, "ADD", {**FIREWALL, **chained}, pod)
    node.write("/run/cni/firewall/torn.json", '{"network": "net1"')
    collect(node, FIREWALL, "p2")
    assert f"{addresses['p1']}/32" not in rules(node)
    assert f"{addresses['p2']}/32" in rules(node)


@pytest.mark.parametrize("policy", ["same-bridge", "isolated"])
def test_firewall_ingress_policy(node: World, policy: str) -> None:
    """Two bridges: a pod on the other one is kept out, and with `isolated` one on the same as well."""
    ipam = {"br1": "10.1.0.0/24", "br2": "10.2.0.0/24"}
    places = [("p1", "br1"), ("p2", "br2")]
    results = {}
    for pod, bridge in places:
        pod_conf = conf(
            "bridge", bridge=bridge, isDefaultGateway=True, ipam={"type": "host-local", "subnet": ipam[bridge]}
        )
        results[pod] = call(node, "ADD", {**pod_conf, "name": bridge}, pod)
        call(node, "ADD", conf("firewall", ingressPolicy=policy, prevResult=results[pod]), pod)
    other = results["p2"]["ips"][0]["address"].split("/")[0]
    assert node.run("ping", "-c1", "-W1", other, pod="p1").exit != 0
    assert node.run("ping", "-c1", "-W1", other).exit == 0
    same = "-A CNI-ISOLATION-STAGE-1 -i br1 -o br1"
    assert (same in rules(node)) == (policy == "isolated")


def test_firewall_refuses() -> None:
    assert "unknown ingress policy" in failure(call_here("firewall", "ADD", conf("firewall", ingressPolicy="x")))["msg"]
    assert failure(call_here("firewall", "ADD", FIREWALL))["msg"] == "missing prevResult from earlier plugin"
