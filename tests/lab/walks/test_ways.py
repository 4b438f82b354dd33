"""Walks that are answered: every backend, engine, protocol and IP version, each at every point of its way."""

import itertools
from pathlib import Path

import pytest

from dataplane.lab.recording import Step, Walk
from dataplane.lab.words import sentences
from tests.lab.walks import tshark
from tests.lab.walks.worlds import ALL, FAMILIES, PROTOCOLS, WORLDS, World, last, places

SOME = {
    "udp-native": {("icmp", 4), ("tcp", 4), ("tcp", 6)},
    "udp-numpy": {("udp", 6)},
    "udp-python": {("icmp", 6), ("tcp", 4)},
    "vxlan": {("udp", 4), ("icmp", 6)},
    "host-gw": {("tcp", 4), ("udp", 6)},
}
"""What is walked unless UDPLANE_WALKS says all: each protocol, IP version, backend and engine in several of these."""

PLAIN = ("socket", "route", "eth0", "veth", "bridge", "route")
ACROSS = {
    "udp": ("tunnel", "engine", "udp", "underlay", "wire", "wire", "underlay", "udp", "engine", "tunnel"),
    "vxlan": ("tunnel", "udp", "underlay", "wire", "wire", "underlay", "udp", "tunnel"),
    "host-gw": ("underlay", "wire", "wire", "underlay"),
}
ARRIVAL = ("route", "bridge", "veth", "eth0", "socket")


CASES = [
    (name, protocol, family)
    for name in WORLDS
    for protocol, family in itertools.product(PROTOCOLS, FAMILIES)
    if ALL or (protocol, family) in SOME[name]
]


def in_worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("each_world", names, indirect=True)


@pytest.mark.parametrize(("each_world", "protocol", "family"), CASES, indirect=["each_world"])
def test_a_packet_is_seen_at_every_point_there_and_back(
    each_world: World, protocol: str, family: int, tmp_path: Path
) -> None:
    recording = each_world.record(protocol, family)
    (walk,) = recording.walks
    assert walk.outcome.kind == "answered"
    for leg in ("request", "reply"):
        way = [place for _, place in places(walk, leg) if place != "netfilter"]
        assert tuple(way) == PLAIN + ACROSS[each_world.backend] + ARRIVAL, leg
    assert (last(walk).where, last(walk).verdict) == ("pod4", "arrived")
    assert (last(walk, "reply").where, last(walk, "reply").verdict) == ("pod1", "answered")
    check_steps(walk)
    for step in walk.steps:
        assert all(0 <= number < len(recording.see) for number in step.see)
    unseen = [see for see in recording.see if not see.output]
    assert unseen == []
    if tshark.MISSING:
        pytest.skip(tshark.MISSING)
    tshark.compare(recording, tmp_path / "walk.pcapng")


def check_steps(walk: Walk) -> None:
    """What holds for every step of a walk that is answered."""
    known = sentences()
    for step in walk.steps:
        assert step.say in known, step.say
        assert step.where
        assert step.packet.layers
        assert all(check.ok for check in step.checks), step.checks
        for check in step.checks:
            assert f"check.{check.name}" in known
    ttls = [ttl_of(step) for step in walk.steps_of("request")]
    fell = [after for before, after in itertools.pairwise(ttls) if before and after and after < before]
    assert fell == sorted(fell, reverse=True)


def ttl_of(step: Step) -> int:
    """TTL or hop limit of the innermost packet; 0 where there is none."""
    found = [layer.get("ttl") or layer.get("hop limit") for layer in step.packet.layers if layer.role != "outer"]
    return int(next((text for text in found if text), "0"))


@in_worlds("udp-native")
def test_the_engine_says_what_it_compared_and_computed(each_world: World) -> None:
    walk = each_world.walk("udp", 4)
    out, into = (step for step in walk.steps_of("request") if step.place == "engine")
    assert [check.name for check in out.checks] == ["read", "header", "lookup", "ttl", "mtu", "lower", "send"]
    names = ["read", "sender", "header", "owner", "own", "ecn", "ttl", "lower", "write"]
    assert [check.name for check in into.checks] == names
    lower = next(check.args for check in out.checks if check.name == "lower")
    assert (lower["before"], lower["after"]) == (63, 62)
    after = next(layer for layer in out.packet.layers if layer.name == "IPv4")
    assert lower["sum"]["new_sum"] == after["checksum"].removeprefix("0x")
    lookup = next(check.args for check in out.checks if check.name == "lookup")
    assert lookup["compared"][-1]["hit"]
    assert [counter.after - counter.before for counter in out.counters] == [1]


@in_worlds("udp-native")
def test_a_super_packet_stays_whole_but_between_the_engines(each_world: World) -> None:
    walk = each_world.walk("tcp", 4)
    steps = walk.steps_of("request")
    tunnel_out, tunnel_in = (step for step in steps if step.place == "tunnel")
    assert tunnel_out.packet.gso_type == tunnel_in.packet.gso_type == "tcp4"
    cut = next(step for step in steps if step.say == "engine.cut")
    assert len(cut.segments) > 1
    assert sum(segment["len"] - 52 for segment in cut.segments) == tunnel_out.packet.length - 52
    underlay = next(step for step in steps if step.place == "underlay")
    assert (underlay.packet.gso_type, underlay.packet.gso_size) == ("udp", cut.segments[0]["len"])
    assert any(step.say == "engine.joined" for step in steps)
    assert tunnel_out.packet.checksum_promised


@in_worlds("udp-python")
def test_pieces_are_named_where_the_kernel_cuts(each_world: World) -> None:
    walk = each_world.walk("tcp", 4)
    tunnel = next(step for step in walk.steps_of("request") if step.place == "tunnel")
    assert len(tunnel.segments) > 1
    assert tunnel.segments[0]["len"] == tunnel.packet.length


@pytest.mark.parametrize("family", FAMILIES)
@in_worlds(*(WORLDS if ALL else ("udp-native",)))
def test_further_fragments_have_legs_of_their_own(each_world: World, family: int) -> None:
    walk = each_world.walk("icmp", family, size=3000)
    assert walk.outcome.kind == "answered"
    fragments = [leg for leg in walk.legs if leg.kind == "fragment" and leg.parent == "request"]
    assert len(fragments) >= 2
    for leg in fragments:
        assert ("pod4", "eth0") in places(walk, leg.id)


@in_worlds("udp-native")
def test_pods_of_one_node_are_joined_by_the_bridge_alone(each_world: World) -> None:
    walk = each_world.walk("icmp", 4, to="pod2")
    assert walk.outcome.kind == "answered"
    way = places(walk)
    assert [where for where, _ in way if where not in ("pod1", "pod2")] == ["node1", "node1"]
    assert walk.steps_of("request")[4].say == "veth.bridged"


def test_worlds_are_covered() -> None:
    covered = {combination for some in SOME.values() for combination in some}
    assert covered == {(protocol, family) for protocol in PROTOCOLS for family in FAMILIES}
    assert SOME.keys() == set(WORLDS)
