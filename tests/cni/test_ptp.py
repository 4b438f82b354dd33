"""ptp on a private node: what it does better than the official plugin, and that it works.

    p1 eth0 10.9.0.2/24, fd00:9::2/64 --- veth 10.9.0.1/32, fd00:9::1/128  node  the same --- p2 eth0

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

from tests.cni.node import DUAL_STACK, HOST_LOCAL, call, collect, conf, links, refused, reservations, rules
from tests.cni.world.world import World

PTP = conf("ptp", ipMasq=True, ipam=DUAL_STACK)


def test_ptp_connects_pods_with_each_other_and_the_node(node: World) -> None:
    result = call(node, "ADD", PTP)
    other = call(node, "ADD", PTP, "p2")
    for ip in other["ips"]:
        address = ip["address"].split("/")[0]
        assert node.run("ping", "-c1", "-W2", address).exit == 0
        assert node.run("ping", "-c1", "-W2", address, pod="p1").exit == 0
    call(node, "CHECK", {**PTP, "prevResult": result})
    call(node, "DEL", PTP, "p2")
    call(node, "CHECK", {**PTP, "prevResult": result})


def test_ptp_del_needs_no_namespace_and_may_be_repeated(node: World) -> None:
    before = links(node)
    call(node, "ADD", PTP)
    assert "container-p1" in rules(node)
    for _ in range(2):
        call(node, "DEL", PTP, CNI_NETNS="")
    assert (links(node), reservations(node)) == (before, [])
    assert "container-p1" not in rules(node)


def test_ptp_add_that_fails_leaves_nothing(node: World) -> None:
    before = links(node)
    static = {"type": "static", "addresses": [{"address": "10.9.0.9/24"}]}
    assert "no gateway" in refused(node, "ADD", conf("ptp", ipMasq=True, ipam=static))["msg"]
    assert refused(node, "ADD", PTP, CNI_NETNS="/run/netns/nowhere")["code"] != 0
    node.sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
    try:
        assert "forwarding" in refused(node, "ADD", conf("ptp", ipam=HOST_LOCAL))["msg"]
    finally:
        node.sh("umount /proc/sys")
    assert (links(node), reservations(node)) == (before, [])


def test_ptp_second_add_does_not_touch_the_first(node: World) -> None:
    result = call(node, "ADD", PTP)
    assert "already exists" in refused(node, "ADD", PTP)["msg"]
    call(node, "CHECK", {**PTP, "prevResult": result})


def test_ptp_gc(node: World) -> None:
    call(node, "ADD", PTP)
    result = call(node, "ADD", PTP, "p2")
    collect(node, PTP, "p2")
    assert len(reservations(node)) == 2, "one address of each family"
    assert "container-p1" not in rules(node)
    call(node, "CHECK", {**PTP, "prevResult": result}, "p2")
