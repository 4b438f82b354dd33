"""bandwidth of a pod that ptp has wired: what it does better than the official plugin, and that it limits.

    p1 eth0 --- veth (token bucket; arriving traffic goes through ifb bwp..., token bucket)  node 10.9.0.1

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cni.lib.qdisc import TokenBucket
from tests.cni.node import call, collect, conf, links, refused, wired
from tests.cni.plugin_calls import call as call_here
from tests.cni.plugin_calls import failure
from tests.cni.world.world import World

RATES = {"ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 16_000_000, "egressBurst": 8_000_000}


def test_bandwidth_limits_both_ways(node: World) -> None:
    chained = wired(node)
    netconf = conf("bandwidth", **RATES)
    result = call(node, "ADD", {**netconf, **chained})
    ifb = result["interfaces"][-1]["name"]
    ping = ["ping", "-c8", "-i0.01", "-s1400", "-W5", "-q", "10.9.0.1"]
    assert node.run(*ping, pod="p1").exit == 0
    sent = json.loads(node.sh(f"tc -s -j qdisc show dev {ifb}"))[0]
    assert (sent["kind"], sent["options"]["rate"]) == ("tbf", 2_000_000)
    assert sent["bytes"] > 8 * 1400, "what the pod sends passes the bucket on the ifb device"
    call(node, "CHECK", {**netconf, "prevResult": result})
    node.sh(f"tc qdisc change dev {ifb} root handle 1: tbf rate 1mbit burst 10kb latency 25ms")
    assert refused(node, "CHECK", {**netconf, "prevResult": result})["msg"] == "Rate doesn't match"


GATEWAYS = {4: "10.9.0.1", 6: "fd00:9::1"}


@pytest.mark.parametrize(
    ("netconf", "limited"),
    [
        ({"unshapedSubnets": ["10.9.0.0/30"]}, {6}),
        ({"unshapedSubnets": ["10.9.0.2/32", "fd00:9::/64"]}, {4}),
        ({"unshapedSubnets": ["0.0.0.0/0", "::/0"]}, set()),
        ({"shapedSubnets": ["10.9.0.1/32", "10.8.0.0/16"]}, {4}),
        ({"shapedSubnets": ["fd00:9::1/120", "fd00:8::/33", "10.9.0.2/31"]}, {6}),
        ({"shapedSubnets": ["0.0.0.0/1", "fd00:9::1/128"]}, {4, 6}),
    ],
)
@pytest.mark.parametrize("runtime", [False, True])
def test_subnets_at_the_other_end_decide(
    netconf: dict[str, Any], limited: set[int], runtime: bool, node: World
) -> None:
    """What the kernel counts in each class, on the way into the pod and out of it. The pod's own address is no end."""
    chained = wired(node)
    limits = {"runtimeConfig": {"bandwidth": RATES}} if runtime else RATES
    netconf = conf("bandwidth", **netconf, **limits)
    result = call(node, "ADD", {**netconf, **chained})
    call(node, "CHECK", {**netconf, "prevResult": result})
    devices = [result["interfaces"][0]["name"], result["interfaces"][-1]["name"]]
    for family, gateway in GATEWAYS.items():
        before = [packets(node, device) for device in devices]
        assert node.run("ping", "-c5", "-i0.01", "-W5", "-q", gateway, pod="p1").exit == 0
        for device, counts in zip(devices, before, strict=True):
            passed = {name: number - counts[name] for name, number in packets(node, device).items()}
            assert passed["1:30" if family in limited else "1:1"] >= 5, (device, passed)
    call(node, "DEL", netconf)
    assert devices[1] not in links(node)


def packets(node: World, device: str) -> dict[str, int]:
    """How many packets each class has let through."""
    shown = node.sh(f"tc -s class show dev {device}")
    return {name: int(number) for name, number in re.findall(r"class htb (\S+) .*\n Sent \d+ bytes (\d+) pkt", shown)}


def test_what_the_subnets_are_limited_to(node: World) -> None:
    netconf = conf("bandwidth", **RATES, unshapedSubnets=["10.9.0.0/30", "fd00::/8"])
    result = call(node, "ADD", {**netconf, **wired(node)})
    ifb = result["interfaces"][-1]["name"]
    classes = node.sh(f"tc class show dev {ifb}")
    assert "class htb 1:30 root leaf 30: prio 0 rate 16Mbit ceil 16Mbit burst 1000000b cburst 1000000b" in classes
    assert "class htb 1:1 root prio 0 rate 100Gbit ceil 100Gbit" in classes
    assert "bfifo 30: parent 1:30 limit 1050000b" in node.sh(f"tc qdisc show dev {ifb}")
    for change, problem in {
        f"tc class change dev {ifb} classid 1:30 htb rate 1mbit burst 100kb": "Rate doesn't match",
        f"tc class change dev {ifb} classid 1:30 htb rate 16mbit burst 100kb": "Buffer doesn't match",
        f"tc filter del dev {ifb} parent 1: prio 1": "Buffer doesn't match",
        f"tc qdisc del dev {ifb} root": "Failed to find qdisc",
    }.items():
        node.sh(change)
        assert refused(node, "CHECK", {**netconf, "prevResult": result})["msg"] == problem


@pytest.mark.parametrize("lists", [{}, {"shapedSubnets": ["10.0.0.0/8"]}])
def test_a_second_add_leaves_the_first_ones_limits(lists: dict[str, Any], node: World) -> None:
    netconf = conf("bandwidth", **RATES, **lists)
    chained = wired(node)
    result = call(node, "ADD", {**netconf, **chained})
    for others in ({}, {"unshapedSubnets": ["fd00::/8"]}):
        assert "file exists" in refused(node, "ADD", {**conf("bandwidth", **RATES, **others), **chained})["msg"]
        call(node, "CHECK", {**netconf, "prevResult": result})


def test_bandwidth_add_that_fails_leaves_nothing(node: World) -> None:
    chained = wired(node)
    before = links(node)
    host_end = chained["prevResult"]["interfaces"][0]["name"]
    qdiscs = node.sh(f"tc qdisc show dev {host_end}")
    node.sh(f"tc qdisc add dev {host_end} ingress")
    assert "create ingress qdisc" in refused(node, "ADD", conf("bandwidth", **RATES, **chained))["msg"]
    node.sh(f"tc qdisc del dev {host_end} ingress || true")
    assert links(node) == before
    assert "tbf" not in node.sh(f"tc qdisc show dev {host_end}")
    assert "tbf" not in qdiscs


def test_bandwidth_del_and_gc_remove_the_ifb(node: World) -> None:
    netconf = conf("bandwidth", **RATES)
    ifbs = {
        pod: call(node, "ADD", {**netconf, **wired(node, pod)}, pod)["interfaces"][-1]["name"] for pod in ("p1", "p2")
    }
    node.sh("ip link add bwpforeign type ifb")
    collect(node, netconf, "p2")
    assert ifbs["p1"] not in links(node)
    assert {ifbs["p2"], "bwpforeign"} <= set(links(node))
    for _ in range(2):
        call(node, "DEL", conf("bandwidth", ingressRate=5), "p2", CNI_NETNS="")
    assert ifbs["p2"] not in links(node)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"ingressRate": 8}, "if rate is set, burst must also be set"),
        ({"egressBurst": 8}, "if burst is set, rate must also be set"),
        ({"ingressRate": 8, "ingressBurst": 1 << 35}, "burst cannot be more than 4GB"),
        ({"ingressRate": 7, "ingressBurst": 8}, "invalid rate"),
        ({**RATES, "shapedSubnets": ["10.0.0.0/8", "hello"]}, 'bad subnet "hello" provided, details invalid CIDR'),
        ({**RATES, "shapedSubnets": ["10.0.0.0/8"], "unshapedSubnets": ["fd00::/8"]}, "cannot be both specified"),
    ],
)
def test_bandwidth_refuses(limits: dict[str, Any], message: str) -> None:
    assert message in failure(call_here("bandwidth", "ADD", conf("bandwidth", **limits)))["msg"]


@pytest.mark.parametrize("rate", [8, 1 << 20, 1 << 34, 1 << 40])
def test_token_bucket_reads_back_what_it_wrote(rate: int) -> None:
    bucket = TokenBucket.of(rate, 1 << 20)
    again = TokenBucket.read(bucket.options())
    assert (again.rate, again.limit, again.buffer) == (bucket.rate, bucket.limit, bucket.buffer)
