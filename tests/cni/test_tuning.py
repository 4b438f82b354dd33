"""tuning of a pod that ptp has wired: what it does better than the official plugin.

    p1 eth0 --- veth  node

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib.errors import CniError
from cni.tuning import setting_of
from tests.cni.node import DUAL_STACK, call, collect, conf, refused, wired
from tests.cni.plugin_calls import call as call_here
from tests.cni.plugin_calls import failure
from tests.cni.world.world import World

TUNING = conf("tuning", mac="c2:00:00:00:00:01", mtu=1400, promisc=True, allmulti=True, txQLen=300)


def attributes(node: World) -> dict[str, Any]:
    """What tuning changes, of p1's eth0."""
    (link,) = json.loads(node.sh("ip -j -d link show eth0", pod="p1"))
    flags = sorted({"PROMISC", "ALLMULTI"} & set(link["flags"]))
    return {"mac": link["address"], "mtu": link["mtu"], "queue": link["txqlen"], "flags": flags}


def test_tuning_of_a_link_that_stays_is_undone(node: World) -> None:
    chained = wired(node)
    before = attributes(node)
    tuned = {"mac": "c2:00:00:00:00:01", "mtu": 1400, "queue": 300, "flags": ["ALLMULTI", "PROMISC"]}
    result = call(node, "ADD", {**TUNING, **chained})
    assert result["interfaces"][1]["mac"] == "c2:00:00:00:00:01"
    assert attributes(node) == tuned
    call(node, "ADD", {**TUNING, **chained})  # a repeated ADD must not take the tuned values for the former ones
    call(node, "CHECK", {**TUNING, "prevResult": result})
    for _ in range(2):
        call(node, "DEL", TUNING)
        assert attributes(node) == before
    assert node.sh("ls /run/cni/tuning") == ""


def test_tuning_that_fails_half_way_is_undone(node: World) -> None:
    chained = wired(node)
    before = attributes(node)
    sysctls = {"net.ipv4.conf.IFNAME.arp_filter": "1"}
    error = refused(node, "ADD", {**TUNING, "sysctl": sysctls, "mtu": 100_000_000, **chained})
    assert error["code"] == 999
    assert attributes(node) == before
    assert node.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_filter", pod="p1").strip() == "0"
    assert node.sh("ls /run/cni/tuning") == ""


def test_tuning_del_without_the_pod_removes_its_backup(node: World) -> None:
    call(node, "ADD", {**TUNING, **wired(node)})
    call(node, "DEL", TUNING, CNI_NETNS="")
    assert node.sh("ls /run/cni/tuning") == ""


def test_tuning_gc_and_torn_backups(node: World) -> None:
    call(node, "ADD", {**TUNING, **wired(node)})
    call(node, "ADD", {**TUNING, **wired(node, "p2")}, "p2")
    node.write("/run/cni/tuning/other_eth0.json", '{"mtu": 1500')
    collect(node, TUNING, "p2")
    assert node.sh("ls /run/cni/tuning").split() == ["container-p2_eth0.json", "other_eth0.json"]
    node.write("/run/cni/tuning/container-p2_eth0.json", "torn")
    call(node, "DEL", TUNING, "p2")


def test_tuning_allowlist(node: World) -> None:
    node.write("/etc/cni/tuning/allowlist.conf", "^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n")
    chained = wired(node)
    call(node, "ADD", conf("tuning", sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1"}, **chained))
    error = refused(node, "ADD", conf("tuning", sysctl={"net.core.somaxconn": "100"}, **chained))
    assert error["msg"].startswith(
        "Sysctl net.core.somaxconn is not allowed. Only the following sysctls are allowed: [^net"
    )


@pytest.mark.parametrize(
    "key",
    [
        "net.ipv4.conf.IFNAME.arp_filter",
        "net/ipv4/conf/IFNAME/arp_filter",
        "net.ipv4.conf.eth0/100.arp_filter",
        "net/ipv4/conf/eth0.100/arp_filter",
        "net//ipv4/./conf/eth0.100/arp_filter",
    ],
)
def test_tuning_of_an_interface_with_a_dot_in_its_name(node: World, key: str) -> None:
    eth = {"CNI_IFNAME": "eth0.100"}
    result = call(node, "ADD", conf("ptp", ipam=DUAL_STACK), **eth)
    netconf = conf("tuning", sysctl={key: "1"}, prevResult=result)
    call(node, "ADD", netconf, **eth)
    assert node.sh("cat /proc/sys/net/ipv4/conf/eth0.100/arp_filter", pod="p1").strip() == "1"
    call(node, "CHECK", netconf, **eth)


@pytest.mark.parametrize("key", ["kernel/msgmax", "net.", "net", "", "..net.x", "net.//.", "../net/x/../..", "IFNAME"])
def test_tuning_leads_nowhere_but_below_net(key: str) -> None:
    try:
        setting = setting_of(key, "eth0")
    except CniError as error:
        assert error.msg.startswith('invalid net sysctl key: "')
    else:
        assert setting == "net/x"


def test_tuning_of_sysctls_with_several_values_and_of_those_that_cannot_be_read(node: World) -> None:
    sysctls = {
        "net.ipv4.tcp_rmem": "4096 131072  6291456",
        "net.ipv4.ping_group_range": "0\t1000",
        "net.ipv4.route.flush": "1",
    }
    netconf = conf("tuning", sysctl=sysctls, **wired(node))
    call(node, "ADD", netconf)
    call(node, "CHECK", netconf)
    node.sh("echo 4096 131072 6291457 > /proc/sys/net/ipv4/tcp_rmem", pod="p1")
    assert "/proc/sys/net/ipv4/tcp_rmem is 4096 131072  6291456, current" in refused(node, "CHECK", netconf)["msg"]


def test_tuning_refuses_a_sysctl_given_twice() -> None:
    sysctls = b'{"net.core.somaxconn": "1", "net.core.somaxconn": "2"}'
    text = b'{"cniVersion": "1.0.0", "name": "n", "type": "tuning", "sysctl": %s}' % sysctls
    assert failure(call_here("tuning", "ADD", text))["msg"] == "duplicated sysctl keys are not allowed"
