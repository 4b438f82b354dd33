"""Walks as a user calls them, in one lab with all that lies between nodes and beyond: routers, NAT, a loop, bad wires.

pod1 - node1 -+               r1 points at r2 and r2 at r1 for 198.18.0.0/24
pod2 - node2 -+- lan - r1 - middle - r2 (NAT) - outside - server
               |
               r3 - twice (every packet doubled) - echo
                \\-- gone (every packet lost) - lost
"""

import itertools
import json
from collections.abc import Iterator

import pytest

from dataplane.lab import recording_file
from dataplane.lab.recording import Step, Walk
from dataplane.lab.words import sentences
from tests.lab.labs import Labs, labs

TOPOLOGY = """
[segments.lan]
[segments.middle]
ipv4 = "192.168.77.0/24"
mtu = 1400
[segments.outside]
[segments.twice]
duplicate = "100%"
delay = "2ms"
[segments.gone]
loss = "100%"

[routers.r1]
segments = ["lan", "middle"]
[routers.r2]
segments = ["middle", "outside"]
nat = true
[routers.r3]
segments = ["lan", "twice", "gone"]

[nodes.node1]
segment = "lan"
pods = ["pod1"]
[nodes.node2]
segment = "lan"
pods = ["pod2"]

[hosts.server]
segment = "outside"
[hosts.echo]
segment = "twice"
[hosts.lost]
segment = "gone"

[[broken]]
where = "r1"
what = "command"
run = "ip route add 198.18.0.0/24 via 192.168.77.2"
[[broken]]
where = "r2"
what = "command"
run = "ip route add 198.18.0.0/24 via 192.168.77.1"
"""


@pytest.fixture(scope="module")
def lab(tun_device: None) -> Iterator[Labs]:
    with labs() as found:
        found.up(found.topology(TOPOLOGY))
        yield found


def walk(lab: Labs, *arguments: str) -> Walk:
    file = lab.directory.parent / "walk.json"
    lab.run("walk", *arguments, "--brief", "--save", str(file))
    (found,) = recording_file.load(file).walks
    assert {step.say for step in found.steps} <= sentences().keys()
    return found


def devices(steps: list[Step]) -> list[str]:
    return [f"{step.where} {step.device}" for step in steps if step.device]


def ttls(steps: list[Step]) -> list[int]:
    """What the packet's own TTL was, each change once."""
    found = [
        [layer.get("ttl") for layer in step.packet.layers if layer.name == "IPv4" and layer.role != "quoted"]
        for step in steps
    ]
    return [int(ttl) for ttl, _ in itertools.groupby(layers[-1] for layers in found if layers)]


@pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])
def test_a_walk_goes_by_every_router_and_every_address_that_is_changed(lab: Labs, protocol: str) -> None:
    found = walk(lab, "pod1", "server", "--proto", protocol)
    assert found.outcome.kind == "answered"
    there, back = found.steps_of("request"), found.steps_of("reply")
    way = ["r1 lan", "r1 middle", "middle r1", "middle r2", "r2 middle", "r2 outside", "outside r2", "outside server"]
    assert [device for device in devices(there) if device in way] == way
    assert [device for device in devices(back) if device in way] == way[::-1]
    assert (there[-1].verdict, back[-1].verdict) == ("arrived", "answered")
    assert ttls(there) == [64, 63, 62, 61]
    assert [step.where for step in back if step.say == "netfilter.back"] == ["r2", "node1"]
    if protocol != "tcp":  # of a connection only the SYN meets chains that rewrite
        assert [step.where for step in there if step.say == "netfilter.rewrite"] == ["node1", "r2"]


def test_a_loop_is_told_by_its_first_and_last_turn_and_by_what_ends_it(lab: Labs) -> None:
    found = walk(lab, "pod1", "198.18.0.1")
    outcome, steps = found.outcome, found.steps_of("request")
    assert (outcome.kind, outcome.where, outcome.place, outcome.verdict) == ("died", "r1", "route", "ttl_exceeded")
    (loop,) = (step for step in steps if step.say == "loop")
    crossings = devices(steps).count("middle r1") + devices(steps).count("middle r2")
    assert crossings // 2 + 2 * loop.args["turns"] == 62
    assert (loop.args["before"], loop.args["after"]) == (61, 3)
    assert set(loop.args["by"]) == {"r1", "middle", "r2"}
    assert ttls(steps) == [64, 63, 62, 61, 3, 2, 1]
    assert len(steps) < 40
    error = found.steps_of("icmp-error")
    assert (error[0].where, error[-1].where, error[-1].say) == ("r1", "pod1", "socket.error")


def test_few_turns_are_told_in_full(lab: Labs) -> None:
    found = walk(lab, "pod1", "198.18.0.1", "--ttl", "5")
    assert (found.outcome.where, found.outcome.verdict) == ("r2", "ttl_exceeded")
    assert ttls(found.steps_of("request")) == [5, 4, 3, 2, 1]


def test_what_is_too_big_for_a_router_ends_there(lab: Labs) -> None:
    found = walk(lab, "pod1", "server", "--size", "1400", "--proto", "udp")
    assert (found.outcome.where, found.outcome.verdict) == ("r1", "too_big")
    assert found.steps_of("icmp-error")[-1].where == "pod1"


def test_an_error_that_a_firewall_keeps_back_is_shown_where_it_was(lab: Labs) -> None:
    chain = "{ type filter hook output priority 0; }"
    quiet = "icmp type destination-unreachable drop"
    rules = ["add table ip quiet", f"add chain ip quiet out {chain}", f"add rule ip quiet out {quiet}"]
    lab.run("exec", "r1", "nft", "; ".join(rules))
    try:
        found = walk(lab, "pod2", "server", "--size", "1400", "--timeout", "0.2")  # pod1 may have learned to cut
    finally:
        lab.run("exec", "r1", "nft", "delete table ip quiet")
    assert (found.outcome.where, found.outcome.verdict, found.steps[-1].say) == ("r1", "too_big", "died.too_big.link")
    shown = recording_file.load(lab.directory.parent / "walk.json").see
    assert any(f"ip quiet out {quiet} (verdict drop)" in shown[number].output for number in found.steps[-1].see)


def test_one_of_two_copies_is_followed(lab: Labs) -> None:
    found = walk(lab, "r3", "echo")
    assert found.outcome.kind == "answered"
    for leg in ("request", "reply"):
        assert len(devices(found.steps_of(leg))) == 4
    assert [step.say for step in found.steps if step.where == "twice"][1::2] == ["wire.impaired"] * 2


def test_what_a_lossy_wire_loses_ends_on_it(lab: Labs) -> None:
    (link,) = json.loads(lab.run("exec", "lost", "ip", "-json", "address", "show", "eth0").stdout)
    neighbour = [link["addr_info"][0]["local"], "lladdr", link["address"]]
    lab.run("exec", "r3", "ip", "neigh", "replace", *neighbour, "dev", "gone")  # it cannot ask: nothing comes through
    found = walk(lab, "r3", "lost", "--proto", "udp", "--timeout", "0.2")
    assert (found.outcome.where, found.outcome.place, found.outcome.verdict) == ("gone", "wire", "lost")
    assert found.steps[-1].say == "died.lost_by_wire"
