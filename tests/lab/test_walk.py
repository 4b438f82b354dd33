"""Packet walks: over plain routing, over a firewall that drops, and the comparison of headers by itself."""

import json
from collections.abc import Sequence

import pytest

from dataplane.lab.headers import Header
from dataplane.lab.netns import Namespace, run_lines
from dataplane.lab.topology import Lab
from dataplane.lab.walk import Change, Point, Walk, compare, overlay_way, walk


def plain_way(lab: Lab) -> list[Point]:
    """From pod1 to pod3, without the TUN devices that an overlay would add."""
    node, peer = lab.nodes
    way = overlay_way(lab, (node, node.pods[0]), (peer, peer.pods[0]))
    return [point for point in way if point.device != "udplane0"]


def hardware_address(netns: Namespace, device: str) -> str:
    (link,) = json.loads(netns.run(["ip", "-json", "link", "show", device]).stdout)
    return str(link["address"])


def fields_seen(result: Walk, name: str, field: str) -> list[str]:
    """The values that a field of a header had along the way, each change once."""
    values = [c.fields[field] for s in result.steps for c in s.changes if c.header == name and field in c.fields]
    return [value.split(" → ")[-1] for value in values]


@pytest.mark.parametrize(("version", "header", "field"), [(4, "IPv4", "ttl"), (6, "IPv6", "hop limit")])
def test_each_router_lowers_the_ttl_and_rewrites_the_frame(
    routed_lab: Lab, version: int, header: str, field: str
) -> None:
    node, peer = routed_lab.nodes
    result = walk(plain_way(routed_lab), peer.pods[0].address(version))
    assert result.arrived
    assert result.reply is not None
    assert fields_seen(result, header, field) == ["64", "63", "62"]
    assert fields_seen(result, "Ethernet", "from") == [
        hardware_address(node.pods[0].netns, "eth0"),
        hardware_address(node.netns, "eth0"),
        hardware_address(peer.netns, "cni0"),
    ]


def test_a_walk_ends_where_the_packet_was_dropped(routed_lab: Lab) -> None:
    peer = routed_lab.nodes[1]
    rules = ["add table ip udpdrop", "add chain ip udpdrop f { type filter hook forward priority 0; policy drop; }"]
    run_lines(peer.netns.command(["nft", "-f", "-"]), rules)
    try:
        result = walk(plain_way(routed_lab), peer.pods[0].address(4), timeout=0.2)
    finally:
        run_lines(peer.netns.command(["nft", "-f", "-"]), ["delete table ip udpdrop"])
    assert result.reply is None
    assert not result.arrived
    last = [step.point for step in result.steps if step.frame][-1]
    assert (last.place, last.device) == ("node2", "eth0")


ETHERNET = Header("Ethernet", {"from": "a", "to": "b"})
OUTER = Header("IPv4", {"from": "n1", "ttl": 64})
UDP = Header("UDP", {"to": 8285})
ICMP = Header("ICMP", {"type": "echo request"})


def inner(ttl: int) -> Header:
    return Header("IPv4", {"from": "p1", "ttl": ttl})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([inner(64), ICMP], [inner(64), ICMP], [], id="nothing"),
        pytest.param([inner(64), ICMP], [inner(63), ICMP], [("~", "IPv4", {"ttl": "64 → 63"})], id="field"),
        pytest.param(
            [ETHERNET, inner(64), ICMP], [inner(64), ICMP], [("-", "Ethernet", {"from": "a", "to": "b"})], id="off"
        ),
        pytest.param(
            [inner(63), ICMP],
            [OUTER, UDP, inner(62), ICMP],
            [
                ("+", "IPv4", {"from": "n1", "ttl": "64"}),
                ("+", "UDP", {"to": "8285"}),
                ("~", "IPv4", {"ttl": "63 → 62"}),
            ],
            id="encapsulated",
        ),
    ],
)
def test_compare(
    before: Sequence[Header], after: Sequence[Header], expected: list[tuple[str, str, dict[str, str]]]
) -> None:
    assert compare(before, after) == [Change(*change) for change in expected]
