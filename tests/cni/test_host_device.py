"""host-device on a private node: what it does better than the official plugin, and that a pod gets the device.

    node  m1 --- m0 (a veth pair, up)     m0 moves into p1 as eth0, and back

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.cni.node import DUAL_STACK, call, collect, conf, links, refused, reservations
from tests.cni.world.world import REPO, World, cni_env

HOST_DEVICE = conf("host-device", device="m0", ipam=DUAL_STACK)
RECORDS = "/run/cni/host-device"


@pytest.fixture
def device(node: World) -> World:
    """A node with a device to give away, which is in use: it has addresses, a route and an alias."""
    node.sh(
        "ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up; ip link set m0 alias uplink;"
        "ip addr add 192.0.2.1/24 dev m0; ip addr add 2001:db8::1/64 dev m0 nodad; ip addr add 10.9.0.1/24 dev m1;"
        "ip route add 198.51.100.0/24 via 192.0.2.9 metric 7 mtu 1300"
    )
    return node


def configuration(node: World) -> Any:
    """The device's link, addresses and routes on the node, without what the kernel tells of the moment."""
    keys = ("ifname", "ifalias", "mtu", "address", "master")
    [link] = json.loads(node.sh("ip -j addr show dev m0"))
    addresses = [one for one in link["addr_info"] if not one["local"].startswith("fe80")]
    routes = node.sh("for f in -4 -6; do ip $f route show table all dev m0; done").replace(" linkdown", "").splitlines()
    kept = sorted(route for route in routes if "fe80" not in route and "table local" not in route)
    return "UP" in link["flags"], [link.get(key) for key in keys], sorted(map(str, addresses)), kept


def pod_links(node: World, pod: str = "p1") -> list[str]:
    return sorted(link["ifname"] for link in json.loads(node.sh("ip -j link", pod=pod)))


def without_record(node: World) -> bool:
    return node.sh(f"ls -A {RECORDS} || true") == ""


def test_a_pod_uses_the_device_and_gives_it_back(device: World) -> None:
    result = call(device, "ADD", HOST_DEVICE)
    assert device.run("ping", "-c1", "-W2", "10.9.0.1", pod="p1").exit == 0
    call(device, "CHECK", {**HOST_DEVICE, "prevResult": result})
    for _ in range(2):
        call(device, "DEL", HOST_DEVICE)
    assert "m0" in links(device)
    assert pod_links(device) == ["lo"]
    assert "ifalias" not in json.loads(device.sh("ip -j link show m0"))[0]
    assert reservations(device) == []
    assert without_record(device)


@pytest.mark.parametrize(
    "keys",
    [
        {"ipam": {"type": "host-local"}},
        {"ipam": {"type": "static", "addresses": [{"address": "10.9.0.9/24"}], "routes": [{"dst": "10.8.0.0/16",
                                                                                            "gw": "203.0.113.1"}]}},
        {"ipam": {}, "cniVersion": "0.2.0"},
    ],
    ids=["ipam", "route", "result"],
)  # fmt: skip
def test_an_add_that_fails_leaves_the_device_as_it_was(keys: dict[str, Any], device: World) -> None:
    """Without an address there is no result of 0.2.0: that is noticed when all is done."""
    before = configuration(device)
    refused(device, "ADD", {**HOST_DEVICE, **keys})
    assert configuration(device) == before
    assert pod_links(device) == ["lo"]
    assert reservations(device) == []
    assert without_record(device)


def test_an_add_that_fails_costs_no_kind_of_address_or_route(device: World) -> None:
    """The pod has an interface of the device's index, as it has when another plugin came first: it gets a new one."""
    device.sh(
        "ip addr add 192.0.2.5 peer 192.0.2.7/32 dev m0 label m0:x;"
        "ip addr add 10.1.1.1/24 brd 10.1.1.99 dev m0 metric 5;"
        "ip addr add 10.2.2.1/24 dev m0 noprefixroute; ip addr add 10.4.4.1/24 dev m0 scope link;"
        "ip route add 10.2.2.0/24 dev m0 proto kernel metric 100 src 10.2.2.1;"
        "ip addr add 2001:db8:1::1/64 dev m0 nodad noprefixroute; ip addr add 2001:db8:2::1/64 dev m0 nodad metric 77;"
        "ip route add 198.51.100.0/24 dev m0 table 77; ip route add default via 192.0.2.9 dev m0 table 1000;"
        "ip -6 route add default via 2001:db8::9 dev m0 table 1000;"
        "ip route add 203.0.113.0/24 nexthop via 192.0.2.8 dev m0 nexthop via 192.0.2.9 dev m0"
    )
    index = json.loads(device.sh("ip -j link show m0"))[0]["ifindex"]
    device.sh(f"ip link add taken index {index} type veth peer name other", pod="p1")
    before = configuration(device)
    refused(device, "ADD", {**HOST_DEVICE, "ipam": {"type": "host-local"}})
    assert configuration(device) == before


def test_an_add_that_fails_leaves_other_devices_routes(device: World) -> None:
    """One to the same place by the same metric, which the device's own had been put before."""
    device.sh(
        "ip addr add 203.0.113.2/24 dev m1; ip route add default via 192.0.2.9 dev m0;"
        "ip route append default via 203.0.113.9 dev m1"
    )
    refused(device, "ADD", {**HOST_DEVICE, "ipam": {"type": "host-local"}})
    routes = device.sh("ip route show default")
    assert "default via 192.0.2.9 dev m0" in routes
    assert "default via 203.0.113.9 dev m1" in routes


def test_an_add_that_fails_leaves_the_device_in_its_bridge(device: World) -> None:
    device.sh("ip link add br0 type bridge; ip link set m0 master br0")
    before = configuration(device)
    refused(device, "ADD", {**HOST_DEVICE, "ipam": {"type": "host-local"}})
    assert configuration(device) == before


def test_a_device_that_cannot_leave_costs_the_pod_nothing(node: World) -> None:
    """The pod has one of the same name, kind and MAC address, lo: no other is to be brought back."""
    node.sh("ip link set lo up; ip addr add fd99::1/128 dev lo", pod="p1")
    refused(node, "ADD", {**HOST_DEVICE, "device": "lo"})
    assert "fd99::1" in node.sh("ip addr show lo", pod="p1")


# Be the plugin, but with an MTU that no device takes in the place of the alias: the kernel has moved it by then.
MOVE_IN_PART = """
import sys
sys.path.insert(0, sys.argv[1])
from cni import host_device
from cni.lib import links, netlink, skel
text = host_device.attribute_text
mtu = netlink.attribute_u32(links.IFLA_MTU, 1)
alias = (links.IFLA_IFALIAS, "m0")
host_device.attribute_text = lambda kind, value: mtu if (kind, value) == alias else text(kind, value)
skel.main(host_device.PLUGIN)
"""


def test_a_move_that_succeeds_in_part_is_undone(device: World) -> None:
    before = configuration(device)
    command = (sys.executable, "-c", MOVE_IN_PART, str(REPO))
    done = device.run(*command, env=cni_env("ADD"), stdin=json.dumps(HOST_DEVICE))
    assert done.json["msg"].endswith("to container NS: invalid argument (mtu less than device minimum)")
    assert configuration(device) == before
    assert pod_links(device) == ["lo"]
    assert without_record(device)


def test_a_name_that_the_pod_has_costs_the_device_nothing(device: World) -> None:
    device.sh("ip link add eth0 type veth peer name eth9", pod="p1")
    before = configuration(device)
    error = refused(device, "ADD", HOST_DEVICE)
    assert error["msg"].endswith('failed to move "eth0" (host: "m0") to container NS: file exists')
    refused(device, "ADD", HOST_DEVICE, "p2", CNI_IFNAME="eth%d")
    assert configuration(device) == before
    assert without_record(device)


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", "/proc/self/ns/net"])
def test_del_needs_no_namespace(netns: str, device: World) -> None:
    call(device, "ADD", HOST_DEVICE)
    call(device, "DEL", {**HOST_DEVICE, "device": "", "hwaddr": "x"}, CNI_NETNS=netns)
    assert "m0" in links(device)
    assert reservations(device) == []
    assert without_record(device)


def test_del_leaves_the_pod_that_has_the_device_by_now(device: World) -> None:
    """The first pod went without a DEL, and its namespace's path leads to the second one."""
    call(device, "ADD", HOST_DEVICE)
    device.sh("ip link set eth0 down; ip link set eth0 name m0; ip link set m0 netns 1", pod="p1")
    result = call(device, "ADD", HOST_DEVICE, "p2")
    for _ in range(2):
        call(device, "DEL", HOST_DEVICE, CNI_NETNS="/run/netns/p2")
    collect(device, HOST_DEVICE, "p2")
    call(device, "CHECK", {**HOST_DEVICE, "prevResult": result}, "p2")
    assert len(reservations(device)) == 2
    call(device, "DEL", HOST_DEVICE, "p2")
    assert "m0" in links(device)


def test_gc_gives_the_device_of_a_dead_pod_back(device: World) -> None:
    call(device, "ADD", HOST_DEVICE)
    collect(device, {**HOST_DEVICE, "name": "other"})
    collect(device, HOST_DEVICE, "p1")
    assert pod_links(device) == ["eth0", "lo"]
    collect(device, HOST_DEVICE, "p2")
    assert pod_links(device) == ["lo"]
    assert "m0" in links(device)
    assert without_record(device)


def test_a_device_that_the_kernel_put_back_gets_its_name_again(device: World) -> None:
    """It does so with a physical one when the pod's namespace goes, and leaves name and alias as they were there."""
    call(device, "ADD", HOST_DEVICE)
    device.sh("ip link set eth0 netns 1", pod="p1")
    device.sh("umount /run/netns/p1; rm /run/netns/p1")
    assert {"eth0"} <= set(links(device))
    call(device, "DEL", HOST_DEVICE, CNI_NETNS="")
    assert "m0" in links(device)
    assert "ifalias" not in json.loads(device.sh("ip -j link show m0"))[0]


def test_a_name_that_is_taken_when_the_kernel_puts_the_device_back(device: World) -> None:
    call(device, "ADD", HOST_DEVICE)
    device.sh("ip link set eth0 netns 1", pod="p1")
    device.sh("umount /run/netns/p1; rm /run/netns/p1; ip link add m0 type veth peer name m9; ip link set eth0 up")
    error = refused(device, "DEL", HOST_DEVICE, CNI_NETNS="")
    assert error["msg"] == 'failed to give "eth0" its name "m0" on the node: file exists'
    assert "UP" in json.loads(device.sh("ip -j link show eth0"))[0]["flags"]
    device.sh("ip link del m0")
    call(device, "DEL", HOST_DEVICE, CNI_NETNS="")
    assert "m0" in links(device)


@pytest.mark.parametrize("in_pod", [True, False])
def test_an_alias_on_the_node_is_no_claim(in_pod: bool, device: World) -> None:
    """The administrator's, or of a device that came back from a pod which had written another's name there."""
    device.sh("ip link add other up type veth peer name other1; ip link set other alias m0")
    call(device, "ADD", HOST_DEVICE)
    if not in_pod:
        device.sh("ip link del eth0", pod="p1")
    call(device, "DEL", HOST_DEVICE)
    assert "UP" in json.loads(device.sh("ip -j link show other"))[0]["flags"]
    assert ("m0" in links(device)) == in_pod
    assert without_record(device)


def test_a_name_taken_on_the_node_keeps_the_device_in_the_pod(device: World) -> None:
    call(device, "ADD", HOST_DEVICE)
    device.sh("ip link add m0 type veth peer name m9")
    refused(device, "DEL", HOST_DEVICE)
    assert "UP" in json.loads(device.sh("ip -j link show eth0", pod="p1"))[0]["flags"]
    device.sh("ip link del m0")
    call(device, "DEL", HOST_DEVICE)
    assert "m0" in links(device)


@pytest.mark.parametrize("alias", ["net1 uplink", "a/b", "web"])
@pytest.mark.parametrize("keys", [{"device": "m0"}, {"device": "", "hwaddr": "02:00:00:00:00:01"}, {"device": 5},
                                  {"device": "", "pciBusID": "0000:00:01.0"}])  # fmt: skip
def test_an_alias_of_somebody_elses_is_no_device(keys: dict[str, Any], alias: str, node: World) -> None:
    """The DEL is a repeated one, without the ADD's result, and the namespace's path leads to another plugin's pod."""
    node.sh(f"ip link add eth0 type veth peer name eth9; ip link set eth0 alias '{alias}'", pod="p1")
    call(node, "DEL", {**HOST_DEVICE, **keys})
    assert pod_links(node) == ["eth0", "eth9", "lo"]


@pytest.mark.parametrize("device_name", ["m0", "uplink-of-the-node-in-the-cellar"])
def test_an_official_plugins_device_is_known_by_its_names(device_name: str, device: World) -> None:
    device.sh("ip link property add dev m0 altname uplink-of-the-node-in-the-cellar")
    device.sh("ip link set m0 name eth0 netns p1; ip -n p1 link set eth0 alias m0")
    call(device, "DEL", {**HOST_DEVICE, "device": device_name})
    assert "m0" in links(device)


def test_host_device_status_does_not_miss_a_device_that_a_pod_has(device: World) -> None:
    call(device, "ADD", HOST_DEVICE)
    call(device, "STATUS", HOST_DEVICE)


def test_addresses_of_devices_that_are_no_names(node: World) -> None:
    for keys in ({"pciBusID": "../../../class"}, {"pciBusID": ".."}, {"runtimeConfig": {"deviceID": "a/../b"}}):
        error = refused(node, "ADD", conf("host-device", **keys))
        assert "no such file" in error["msg"] or "not found or unsupported" in error["msg"]


# Be the plugin; when the device is found, let another one begin to take it, and go on when that one waits or is done.
SLOWLY = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from cni import host_device
from cni.lib import skel
remember = host_device.device_records.remember
def remember_late(record):
    other = subprocess.Popen(["/opt/cni/bin/host-device"], stdin=open(sys.argv[2]), env=eval(sys.argv[3]))
    while other.poll() is None and f"-> FLOCK  ADVISORY  WRITE {other.pid} " not in open("/proc/locks").read():
        time.sleep(0.01)
    remember(record)
host_device.device_records.remember = remember_late
skel.main(host_device.PLUGIN)
"""


def test_two_pods_that_ask_for_one_device_at_once(device: World) -> None:
    """One gets it, and it is remembered as that one's."""
    device.write("/tmp/conf", json.dumps(HOST_DEVICE))
    command = (sys.executable, "-c", SLOWLY, str(REPO), "/tmp/conf", repr(cni_env("ADD", "p2")))
    device.run(*command, env=cni_env("ADD"), stdin=json.dumps(HOST_DEVICE))
    device.settle()
    assert pod_links(device, "p1") + pod_links(device, "p2") == ["eth0", "lo", "lo"]
    for pod in ("p1", "p2"):
        call(device, "DEL", HOST_DEVICE, pod, CNI_NETNS="")
    assert "m0" in links(device)
    assert without_record(device)
