"""Packet walks over plain routing, where no node has a udplane: routers and a firewall that drops."""

import json

import pytest

from dataplane.lab.netns import Namespace, run_lines
from dataplane.lab.recording import Walk
from dataplane.lab.topology import Lab
from dataplane.lab.view import LabView, NodePlace, PodPlace, SegmentPlace
from dataplane.lab.walking.recorder import Ask, record


def view_of(lab: Lab) -> LabView:
    nodes = tuple(NodePlace(n.name, n.netns.name, tuple(map(str, n.addresses)), tunnel="") for n in lab.nodes)
    pods = tuple(
        PodPlace(p.name, p.netns.name, tuple(map(str, p.addresses)), node=n.name, host_device=p.host_device)
        for n in lab.nodes
        for p in n.pods
    )
    underlay = SegmentPlace("underlay", lab.underlay.name, (), "br0", ports={n.name: n.name for n in lab.nodes})
    return LabView("routed", "", {}, "", nodes, pods, (), (underlay,))


def hardware_address(netns: Namespace, device: str) -> str:
    (link,) = json.loads(netns.run(["ip", "-json", "link", "show", device]).stdout)
    return str(link["address"])


def seen(walk: Walk, layer: str, field: str) -> list[str]:
    """The values that a field of a header had along the request's way, each change once."""
    values: list[str] = []
    for step in walk.steps_of("request"):
        values += [la[field] for la in step.packet.layers if la.name == layer and values[-1:] != [la[field]]]
    return values


@pytest.mark.parametrize(("version", "header", "field"), [(4, "IPv4", "ttl"), (6, "IPv6", "hop limit")])
def test_each_router_lowers_the_ttl_and_rewrites_the_frame(
    routed_lab: Lab, version: int, header: str, field: str
) -> None:
    node, peer = routed_lab.nodes
    (walk,) = record(view_of(routed_lab), Ask("pod1", "pod3", family=version)).walks
    assert walk.outcome.kind == "answered"
    assert seen(walk, header, field) == ["64", "63", "62"]
    assert seen(walk, "Ethernet", "from") == [
        hardware_address(node.pods[0].netns, "eth0"),
        hardware_address(node.netns, "eth0"),
        hardware_address(peer.netns, "cni0"),
    ]


def test_a_walk_ends_where_the_packet_was_dropped(routed_lab: Lab) -> None:
    peer = routed_lab.nodes[1]
    rules = ["add table ip udpdrop", "add chain ip udpdrop f { type filter hook forward priority 0; policy drop; }"]
    run_lines(peer.netns.command(["nft", "-f", "-"]), rules)
    try:
        (walk,) = record(view_of(routed_lab), Ask("pod1", "pod3", timeout=0.2)).walks
    finally:
        run_lines(peer.netns.command(["nft", "-f", "-"]), ["delete table ip udpdrop"])
    assert walk.outcome.kind == "died"
    last = walk.steps_of("request")[-1]
    assert (last.where, last.place, last.say) == ("node2", "netfilter", "netfilter.drop_policy")
    assert (walk.outcome.where, walk.outcome.verdict) == ("node2", "nft_drop")
