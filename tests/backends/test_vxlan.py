"""The vxlan backend: between two nodes, with a peer made by hand as flannel makes its own, and with bad peers."""

import json
import re
import sqlite3
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.backends import vxlan_device
from dataplane.backends.vxlan import VxlanData
from dataplane.errors import ConfigError, NodeError
from dataplane.kernel.removal import remove_leftovers
from dataplane.kernel.wishes import WishedState
from dataplane.lab.overlay import Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab, Node
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from tests.backends.conftest import (
    PEER_SUBNETS,
    Start,
    added,
    knows_peers,
    look_after,
    make_backend,
    pods_reach_each_other,
    restart,
    routes,
    shown,
    take_up,
)

CONFIG = {"Type": "vxlan"}

PEER = (
    '{"PublicIP":"192.168.0.202","PublicIPv6":"fd00:192:168::202","BackendType":"vxlan",'
    '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:a4"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:a6"}}'
)
"""A dual-stack lease's value as flannel writes it (newSubnetAttrs in pkg/backend/vxlan/vxlan.go)."""

WAYS = {
    "10.254.2.0/24": ("10.254.2.0", "flannel.1"),
    "fd00:10:254:2::/64": ("fd00:10:254:2::", "flannel-v6.1"),
}


@pytest.fixture(scope="module")
def overlay(start: Start) -> Overlay:
    return start(CONFIG)


def macs(node: Node) -> dict[str, str]:
    return {link["ifname"]: link["address"] for link in shown(node.netns, "ip", "link", "show", "type", "vxlan")}


def moved(value: str) -> LeaseEvent:
    return LeaseEvent(Change.CHANGED, added(value).lease)


def test_pods_reach_each_other_with_the_largest_packets(overlay: Overlay) -> None:
    assert overlay.daemons[0].lease()[1] == 1500 - 70
    for version, headers in ((4, 20 + 8), (6, 40 + 8)):
        assert pods_reach_each_other(overlay, version)
        assert pods_reach_each_other(overlay, version, size=1430 - headers)


def test_what_is_published_is_flannels_to_the_byte(overlay: Overlay) -> None:
    with sqlite3.connect(overlay.store.removeprefix("sqlite:")) as database:
        values = [value for (value,) in database.execute("SELECT value FROM leases")]
    mac4, mac6 = (macs(overlay.lab.nodes[1])[name] for name in ("flannel.1", "flannel-v6.1"))
    assert PEER.replace("02:00:00:00:00:a4", mac4).replace("02:00:00:00:00:a6", mac6) in values


def test_status_and_peers_show_what_there_is(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    status = first.status()
    assert status["backend"] == {
        "type": "vxlan",
        "interface": "eth0",
        "address": "192.168.0.201",
        "port": 8472,
        "device": "flannel.1",
        "mtu": 1430,
    }
    (peer,) = status["peers"]
    assert (peer["reachable"], peer["address"], peer["tx_bytes"]) == (True, "192.168.0.202", None)
    for verb, words in (("status", "vxlan, 192.168.0.201:8472 on eth0"), ("peers", "192.168.0.202:8472  1430")):
        assert words in first.node.netns.run(first.command(verb)).stdout


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (("capture", "-w", "/dev/null"), "watch them with `tcpdump -i flannel.1`"),
        (("stats", "--count", "1"), "its counters: `ip -s link show flannel.1`"),
    ],
)
def test_what_only_the_kernel_knows_is_said(overlay: Overlay, command: tuple[str, ...], advice: str) -> None:
    first = overlay.daemons[0]
    done = first.node.netns.run(first.command(*command), check=False)
    assert (done.returncode, advice in done.stderr) == (1, True)


def test_the_doctor_finds_nothing_amiss(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    done = first.node.netns.run(first.command("doctor", "--store", overlay.store, "--iface", "eth0"))
    assert "udplane0" not in done.stdout
    assert "0 failures" in done.stdout


def test_pods_do_not_notice_that_the_daemon_is_killed_and_comes_back(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    before = shown(first.node.netns, "ip", "link", "show", "type", "vxlan"), routes(first.node.netns)
    first.process.kill()
    first.process.wait()
    assert all(pods_reach_each_other(overlay, version) for version in (4, 6))
    first = restart(overlay, 0)
    knows_peers(first, 1)
    assert all(pods_reach_each_other(overlay, version) for version in (4, 6))
    assert (shown(first.node.netns, "ip", "link", "show", "type", "vxlan"), routes(first.node.netns)) == before


@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_made_by_hand_as_flannel_makes_it(lab: Lab, node: Node, version: int) -> None:
    """Node 2 runs no udplane: ip(8) and bridge(8) make the entries that flanneld makes there."""
    backend = take_up(CONFIG, PEER)
    device, own, peer, mac, published = {
        4: ("flannel.1", "10.254.1.0", "10.254.2.0", "02:00:00:00:00:a4", backend.attrs.backend_data),
        6: ("flannel-v6.1", "fd00:10:254:1::", "fd00:10:254:2::", "02:00:00:00:00:a6", backend.attrs.backend_v6_data),
    }[version]
    own_mac = json.loads(published or "")["VtepMAC"]
    other = lab.add_node()
    here, there = node.address(version), other.address(version)
    other.netns.ip(
        f"link add {device} address {mac} type vxlan id 1 dstport 8472 dev eth0 local {there} nolearning",
        f"addr add {peer}/{here.max_prefixlen} dev {device}",
        f"link set {device} up",
        f"neigh add {own} lladdr {own_mac} dev {device} nud permanent",
        f"route add {own}/{ {4: 24, 6: 64}[version] } via {own} dev {device} onlink",
    )
    other.netns.run(["bridge", "fdb", "add", own_mac, "dev", device, "dst", str(here), "self", "permanent"])
    assert routes(node.netns) == WAYS
    (answer,) = ping(node.netns, ip_address(peer))
    assert answer is not None
    assert answer.echoed


@pytest.mark.parametrize("version", [4, 6])
def test_the_ways_to_a_peer_follow_it_and_go_with_it(node: Node, version: int) -> None:
    backend = take_up(CONFIG, PEER)
    device = {4: "flannel.1", 6: "flannel-v6.1"}[version]

    def entry() -> tuple[str, str]:
        (found,) = (e for e in shown(node.netns, "bridge", "fdb", "show", "dev", device) if "dst" in e)
        (neighbour,) = shown(node.netns, "ip", f"-{version}", "neigh", "show", "dev", device)
        assert neighbour["lladdr"] == found["mac"]
        return found["mac"], found["dst"]

    address, mac = {4: ("192.168.0.202", "02:00:00:00:00:a4"), 6: ("fd00:192:168::202", "02:00:00:00:00:a6")}[version]
    assert entry() == (mac, address)
    elsewhere = address.replace("202", "203")
    backend.apply([moved(PEER.replace(address, elsewhere))])
    assert entry() == (mac, elsewhere)
    backend.apply([moved(PEER.replace(mac, "02:00:00:00:00:ff"))])
    assert entry() == ("02:00:00:00:00:ff", address)
    backend.apply([LeaseEvent(Change.REMOVED, Lease(PEER_SUBNETS, LeaseAttrs()))])
    assert routes(node.netns) == {}
    assert shown(node.netns, "ip", "neigh", "show", "dev", device) == []
    assert backend.peers() == {}


def test_a_node_that_gets_another_subnet_keeps_its_forwarding_entry(node: Node) -> None:
    """Both leases have the node's one MAC address: the old one must not take the new one's entry with it."""
    backend = take_up(CONFIG, PEER)
    new = Subnets.from_key("10.254.3.0-24&fd00:10:254:3::-64")
    backend.apply([added(PEER, new)])
    backend.apply([LeaseEvent(Change.REMOVED, Lease(PEER_SUBNETS, LeaseAttrs()))])
    assert set(routes(node.netns)) == {"10.254.3.0/24", "fd00:10:254:3::/64"}
    (entry,) = (e for e in shown(node.netns, "bridge", "fdb", "show", "dev", "flannel.1") if "dst" in e)
    assert (entry["mac"], entry["dst"]) == ("02:00:00:00:00:a4", "192.168.0.202")


def test_two_leases_of_one_node_go_at_once(node: Node) -> None:
    backend = take_up(CONFIG, PEER)
    new = Subnets.from_key("10.254.3.0-24&fd00:10:254:3::-64")
    backend.apply([added(PEER, new)])
    backend.apply([LeaseEvent(Change.REMOVED, Lease(subnets, LeaseAttrs())) for subnets in (PEER_SUBNETS, new)])
    assert routes(node.netns) == {}
    assert not [e for e in shown(node.netns, "bridge", "fdb", "show", "dev", "flannel.1") if "dst" in e]


def test_what_others_removed_or_left_is_set_right(node: Node) -> None:
    backend = take_up(CONFIG, PEER)
    mac = macs(node)
    node.netns.ip(
        "route del 10.254.2.0/24", "route add 10.254.7.0/24 via 192.168.0.7 proto 85", "link del flannel-v6.1"
    )
    look_after(backend)
    assert (routes(node.netns), macs(node)) == (WAYS, mac)
    (address,) = shown(node.netns, "ip", "addr", "show", "flannel-v6.1")
    assert [a["local"] for a in address["addr_info"]] == ["fd00:10:254:1::"]
    for entry in (e for e in shown(node.netns, "bridge", "fdb", "show", "dev", "flannel-v6.1") if "dst" in e):
        assert entry["dst"] == "fd00:192:168::202"


def test_a_device_is_used_again_if_it_fits_and_made_anew_if_not(node: Node) -> None:
    take_up(CONFIG)
    (first,) = shown(node.netns, "ip", "link", "show", "flannel.1")
    take_up(CONFIG)
    assert shown(node.netns, "ip", "link", "show", "flannel.1") == [first]
    take_up(CONFIG | {"Port": 4789, "GBP": True, "Learning": True, "MTU": 1400})
    (second,) = shown(node.netns, "ip", "-d", "link", "show", "flannel.1")
    assert (second["ifindex"] != first["ifindex"], second["address"]) == (True, first["address"])
    data = second["linkinfo"]["info_data"]
    assert (data["port"], data["learning"], "gbp" in data, second["mtu"]) == (4789, True, True, 1330)


def test_peers_on_the_link_are_routed_directly(node: Node) -> None:
    far = PEER.replace("192.168.0.202", "172.16.0.2")
    backend = take_up(CONFIG | {"DirectRouting": True}, far)
    assert routes(node.netns) == {
        "10.254.2.0/24": ("10.254.2.0", "flannel.1"),
        "fd00:10:254:2::/64": ("fd00:192:168::202", "eth0"),
    }
    assert [line for line in remove_leftovers(WishedState(backend.wishes(())).leftovers()) if "route" in line][
        -1
    ] == "removed 1 route to peers"
    assert (routes(node.netns), macs(node)) == ({}, {})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"PublicIP":"192.168.0.202","PublicIPv6":null}', "its backend is udp, this node's is vxlan"),
        (PEER.replace('"vxlan"', '"host-gw"'), "its backend is host-gw, this node's is vxlan"),
        (PEER.replace('"VNI":1', '"VNI":2'), "its VNI is 2, this node's is 1"),
        (PEER.replace('"02:00:00:00:00:a4"', '"01:00:5e:00:00:01"'), "VtepMAC is '01:00:5e:00:00:01'"),
        (PEER.replace('{"VNI":1,"VtepMAC":"02:00:00:00:00:a6"}', "null"), "VtepMAC is ''"),
        (PEER.replace('{"VNI":1,"VtepMAC":"02:00:00:00:00:a4"}', "[]"), "must be a JSON object"),
        (PEER.replace('"192.168.0.202"', '"0.0.0.0"'), "it has no IPv4 address on the underlay"),
    ],
)
def test_a_peer_without_a_way_is_named_with_the_reason(node: Node, value: str, reason: str) -> None:
    backend = take_up(CONFIG, value)
    (trouble,) = backend.unreachable().values()
    assert reason in trouble
    backend.apply([moved(PEER)])
    assert backend.unreachable() == {}
    assert routes(node.netns) == WAYS


def test_a_kernel_without_vxlan_is_refused_with_advice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vxlan_device, "KIND", "no-such-kind")
    with pytest.raises(NodeError, match=r'this kernel has no vxlan; use the udp backend.*"Type": "udp"'):
        make_backend(CONFIG)


def test_a_host_without_ipv6_is_refused_with_advice(node: Node) -> None:
    node.netns.ip("addr flush dev eth0 scope global")
    node.netns.ip("addr add 192.168.0.201/24 dev eth0")
    with pytest.raises(NodeError, match=r'needs an IPv6 address of eth0; add one, or use "Backend": \{"Type": "udp"\}'):
        make_backend(CONFIG)


def test_a_foreign_device_of_that_name_stays(node: Node) -> None:
    node.netns.ip("link add flannel.1 type bridge")
    with pytest.raises(NodeError, match=r"flannel\.1 is there but is no vxlan device"):
        make_backend(CONFIG)


def test_a_vni_that_is_in_use_is_said(node: Node) -> None:
    node.netns.ip("link add vx0 type vxlan id 1 dstport 0 dev eth0 local 192.168.0.201")
    with pytest.raises(NodeError, match="another vxlan device has VNI 1"):
        make_backend(CONFIG)


@pytest.mark.parametrize(("key", "value"), [("VNI", 1 << 24), ("Port", -1), ("Learning", "yes"), ("MTU", "1500")])
def test_a_wrong_option_is_named(node: Node, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        make_backend(CONFIG | {key: value})


@settings(max_examples=50)
@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_any_published_data_are_read_or_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        VxlanData.from_json(text)


@given(st.integers(0, (1 << 24) - 1), st.binary(min_size=6, max_size=6))
def test_published_data_come_back(vni: int, mac: bytes) -> None:
    mac = bytes([mac[0] & 0xFE | 2]) + mac[1:]
    text = VxlanData(vni, mac).to_json()
    assert re.fullmatch(r'\{"VNI":[0-9]+,"VtepMAC":"([0-9a-f]{2}:){5}[0-9a-f]{2}"\}', text)
    assert VxlanData.from_json(text) == VxlanData(vni, mac)
