"""The host-gw backend: between two nodes, and what it refuses."""

from ipaddress import ip_address

import pytest

from dataplane.errors import ConfigError, NodeError
from dataplane.lab.overlay import Overlay
from dataplane.lab.topology import Node
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent
from tests.backends.conftest import (
    PEER_SUBNETS,
    Start,
    added,
    knows_peers,
    leave,
    look_after,
    make_backend,
    pods_reach_each_other,
    restart,
    routes,
    shown,
    take_up,
)
from tests.waiting import wait_until

CONFIG = {"Type": "host-gw"}

PEER = '{"PublicIP":"192.168.0.202","PublicIPv6":"fd00:192:168::202","BackendType":"host-gw"}'
"""A dual-stack lease's value as flannel writes it (RegisterNetwork in pkg/backend/hostgw/hostgw.go)."""

WAYS = {
    "10.254.2.0/24": ("192.168.0.202", "eth0"),
    "fd00:10:254:2::/64": ("fd00:192:168::202", "eth0"),
}


@pytest.fixture(scope="module")
def overlay(start: Start) -> Overlay:
    return start(CONFIG)


def test_pods_have_the_whole_mtu_of_the_underlay(overlay: Overlay) -> None:
    assert overlay.daemons[0].lease()[1] == 1500
    for version, headers in ((4, 20 + 8), (6, 40 + 8)):
        assert pods_reach_each_other(overlay, version, size=1500 - headers)


def test_status_and_peers_show_what_there_is(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    assert first.status()["backend"] == {
        "type": "host-gw",
        "interface": "eth0",
        "address": "192.168.0.201",
        "port": None,
        "device": None,
        "mtu": 1500,
    }
    for verb, words in (("status", "host-gw, 192.168.0.201 on eth0, MTU 1500"), ("peers", "192.168.0.202  1500")):
        assert words in first.node.netns.run(first.command(verb)).stdout


def test_the_routes_stay_while_the_daemon_is_away_and_outdated_ones_go_when_it_is_back(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    before = routes(first.node.netns)
    first.stop()
    assert pods_reach_each_other(overlay, 4)
    first.node.netns.ip("route add 10.254.250.0/24 via 192.168.0.7 proto 85")
    first = restart(overlay, 0)
    knows_peers(first, 1)
    wait_until(lambda: routes(first.node.netns) == before, "the routes are as they were")
    assert pods_reach_each_other(overlay, 4)


def test_leaving_takes_the_routes_away(overlay: Overlay) -> None:
    first = overlay.daemons[0]
    assert "removed 2 routes to peers" in leave(first)
    assert routes(first.node.netns) == {}


def test_routes_follow_a_peer_and_go_with_it(node: Node) -> None:
    backend = take_up(CONFIG, PEER)
    assert routes(node.netns) == WAYS
    elsewhere = added(PEER.replace("192.168.0.202", "192.168.0.203")).lease
    backend.apply([LeaseEvent(Change.CHANGED, elsewhere)])
    assert routes(node.netns) == WAYS | {"10.254.2.0/24": ("192.168.0.203", "eth0")}
    backend.apply([LeaseEvent(Change.REMOVED, Lease(PEER_SUBNETS, LeaseAttrs()))])
    assert routes(node.netns) == {}


def test_a_link_that_went_down_and_up_has_its_routes_back(node: Node) -> None:
    backend = take_up(CONFIG, PEER)
    node.netns.ip("link set eth0 down")
    look_after(backend)
    node.netns.ip("link set eth0 up", "addr replace fd00:192:168::201/64 dev eth0 nodad")
    look_after(backend)
    assert routes(node.netns) == WAYS
    assert backend.unreachable() == {}


def test_a_peer_on_another_link_is_refused(node: Node) -> None:
    backend = take_up(CONFIG, PEER.replace("192.168.0.202", "172.16.0.2"))
    assert routes(node.netns) == {"fd00:10:254:2::/64": WAYS["fd00:10:254:2::/64"]}
    (trouble,) = backend.unreachable().values()
    assert trouble == "172.16.0.2 is not on the link of eth0, as host-gw needs it; vxlan or udp would do"


def test_what_the_kernel_refuses_is_told_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """The broadcast address of the link is no gateway."""
    backend = take_up(CONFIG, PEER.replace("192.168.0.202", "192.168.0.255"))
    reason = "the kernel refuses the route to 10.254.2.0/24 via 192.168.0.255: Invalid argument"
    for _ in range(2):
        assert (list(backend.unreachable().values()), backend.peers()) == ([reason], {})
        look_after(backend)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [reason]
    backend.apply([LeaseEvent(Change.CHANGED, added(PEER).lease)])
    assert backend.unreachable() == {}
    assert routes(node.netns) == WAYS


def test_a_route_of_the_operators_stays_and_is_named(node: Node) -> None:
    node.netns.ip("route add 10.254.2.0/24 via 192.168.0.9")
    backend = take_up(CONFIG, PEER)
    (trouble,) = backend.unreachable().values()
    assert "another route via 192.168.0.9 is in its place, and is not ours" in trouble
    assert [route["gateway"] for route in shown(node.netns, "ip", "route", "show", "10.254.2.0/24")] == ["192.168.0.9"]
    node.netns.ip("route del 10.254.2.0/24")
    look_after(backend)
    assert (routes(node.netns), backend.unreachable()) == (WAYS, {})


def test_a_route_that_flannel_left_becomes_ours(node: Node) -> None:
    node.netns.ip("route add 10.254.2.0/24 via 192.168.0.202")
    assert take_up(CONFIG, PEER).unreachable() == {}
    assert routes(node.netns) == WAYS


def test_a_peer_with_another_backend_is_refused(node: Node) -> None:
    backend = take_up(CONFIG, PEER.replace("host-gw", "vxlan"))
    assert list(backend.unreachable().values()) == ["its backend is vxlan, this node's is host-gw"]
    assert routes(node.netns) == {}


def test_a_public_address_that_is_not_the_hosts_own_is_refused(node: Node) -> None:
    with pytest.raises(
        NodeError, match=r"--public-ip 203\.0\.113\.1 is no address of eth0: host-gw cannot work behind"
    ):
        make_backend(CONFIG, public_ip=ip_address("203.0.113.1"))


def test_a_backend_that_does_not_exist_is_refused(node: Node) -> None:
    with pytest.raises(ConfigError, match="backend 'ipsec'; this node has udp, vxlan, host-gw"):
        make_backend({"Type": "ipsec"})
