"""Topologies: what is wrong in one is told with file, line and remedy; what is right becomes addresses."""

import itertools
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from dataplane.errors import UdplaneError, UsageError
from dataplane.lab import topology_file
from dataplane.lab.plan import Plan, make_plan
from dataplane.lab.topology_file import Impairment, Topology, ready_made

TWO_SEGMENTS = "[segments.lan]\n[segments.wan]\n"

BAD = {
    "no TOML": ("[nodes.node1\n", r"mine.toml:1: this is no TOML"),
    "a text without quotes": ("[nodes.a]\npods = [pod1]\n", r"mine.toml:2: .*quotes"),
    "a file that ends early": ('[nodes.a]\npods = ["x",\n', r"mine.toml:2: this is no TOML"),
    "an unknown table": ("[node.a]\n", r"mine.toml:1: node is not known; did you mean nodes\?"),
    "an unknown key": (
        '[nodes.a]\n\npodz = ["pod1"]\n',
        r"mine.toml:3: nodes.a.podz is not known; did you mean pods\?",
    ),
    "a key far from any": ("[nodes.a]\nqqqqqq = 1\n", r"mine.toml:2: nodes.a.qqqqqq is not known; there are address"),
    "a key twice": ("[network]\nmtu = 1\nmtu = 2\n", r"mine.toml:3: .*stands twice"),
    "a node twice": ("[nodes.a]\n[nodes.b]\n[nodes.a]\n", r"mine.toml:3: .*\[nodes.a\] stands twice"),
    "a pod of two nodes": ('[nodes.a]\npods = ["x"]\n[nodes.b]\npods = ["x"]\n', r"mine.toml:3: x is a pod already"),
    "a pod called like a node": ('[nodes.a]\npods = ["b"]\n[nodes.b]\n', r"mine.toml:3: b is a pod already"),
    "a name too long for a device": ('[nodes.a]\npods = ["podpodpodpod"]\n', r"podpodpodpod is too long.*10 at most"),
    "a node too long for a device": ("[nodes.nodenodenodenode]\n", r"mine.toml:1: node nodenodenodenode .*15 at most"),
    "a name with a blank": ('[nodes."a b"]\n', r"mine.toml:1: 'a b' is no name for a node"),
    "a name that every host has": ("[nodes.lo]\n", r"lo means something else on every host"),
    "a wrong kind of value": ("[network]\nmtu = true\n", r"mine.toml:2: network.mtu: True is no number"),
    "a text where a number is": ('[network]\nmtu = "1500"\n', r"network.mtu: write a whole number"),
    "an MTU too small": ("[network]\nmtu = 20\n", r"20 is no number from 576 to 65535"),
    "a backend that is none": ('[network]\nbackend = "udq"\n', r"'udq' is not one of udp.*did you mean udp"),
    "an engine that is none": ('[nodes.a]\nengine = "pyton"\n', r"'pyton' is not one of .*did you mean python"),
    "a rate that is none": ('[segments.lan]\nrate = "fast"\n', r'mine.toml:2: segments.lan.rate: .*"100mbit"'),
    "a rate of nothing": ('[segments.lan]\nrate = "0bit"\n', r"segments.lan.rate: '0bit' cannot be read"),
    "a rate that no number holds": (f'[segments.lan]\nrate = "{"9" * 400}bit"\n', r"segments.lan.rate: .*100mbit"),
    "a delay of a day": ('[segments.lan]\ndelay = "86400s"\n', r"segments.lan.delay: '86400s' cannot be read"),
    "a share above all": ('[segments.lan]\nloss = "101%"\n', r"segments.lan.loss: '101%' cannot be read"),
    "reordering without delay": ('[segments.lan]\nreorder = "1%"\n', r"segments.lan.reorder: .*add one"),
    "a network that is none": ('[network]\nipv4 = "10.0.0.1/8"\n', r"mine.toml:2: network.ipv4: .*host bits"),
    "a network of the other family": ('[network]\nipv4 = "fd00::/48"\n', r"network.ipv4: .*not IPv4"),
    "pods on loopback": ('[network]\nipv4 = "127.0.0.0/8"\n', r"network.ipv4: 127.0.0.0/8 overlaps .*loopback"),
    "pods without addresses": ('[network]\nipv4 = ""\nipv6 = ""\n', r"one family at least"),
    "two equal segments": (
        '[segments.lan]\nipv4 = "10.1.0.0/24"\n[segments.wan]\nipv4 = "10.1.0.0/24"\n',
        r"mine.toml:3: segment wan has 10.1.0.0/24, which overlaps 10.1.0.0/24 of segment lan",
    ),
    "a segment within the pods' network": (
        '[segments.lan]\nipv4 = "10.254.7.0/24"\n',
        r"overlaps 10.254.0.0/16 of the pods",
    ),
    "pods where every wire could be": ('[network]\nipv4 = "192.168.0.0/16"\n', r"segment underlay overlaps another"),
    "pods where every wire could be, in IPv6": (
        '[network]\nipv6 = "fd00:192:168::/48"\n',
        r"segment underlay overlaps another",
    ),
    "a segment too small": ('[segments.lan]\nipv4 = "10.1.0.0/30"\n', r"no room for a gateway"),
    "two equal subnets": (
        '[nodes.a]\nsubnet = "10.254.9.0/24"\n[nodes.b]\nsubnet = "10.254.9.0/24"\n',
        r"mine.toml:3: b and a have the same subnet 10.254.9.0/24; give each its own",
    ),
    "a subnet of another network": ('[nodes.a]\nsubnet = "10.1.9.0/24"\n', r"no /24 within 10.254.0.0/16"),
    "a subnet of another length": ('[nodes.a]\nsubnet = "10.254.8.0/23"\n', r"no /24 within"),
    "the subnet that is never leased": ('[nodes.a]\nsubnet = "10.254.0.0/24"\n', r"never leased"),
    "an address of another segment": ('[nodes.a]\naddress = "10.9.9.9"\n', r"10.9.9.9 of a is not in 192.168.0.0/24"),
    "an address twice": (
        '[nodes.a]\naddress = "192.168.0.9"\n[nodes.b]\naddress = "192.168.0.9"\n',
        r"mine.toml:3: 192.168.0.9 of b belongs to a already",
    ),
    "the gateway's address": ('[nodes.a]\naddress = "192.168.0.1"\n', r"belongs to the gateway already"),
    "an unknown segment": (
        '[segments.lan]\n[nodes.a]\nsegment = "lam"\n',
        r"mine.toml:2: a names 'lam'.*did you mean lan",
    ),
    "a router of one segment": ('[segments.lan]\n[routers.r]\nsegments = ["lan"]\n', r"mine.toml:3: .*two different"),
    "a router that is nowhere": ('[segments.lan]\nrouter = "r1"\n', r"mine.toml:1: lan names 'r1', which is no router"),
    "a circle of segments": (
        '[segments.a]\nrouter = "b"\n[segments.b]\nrouter = "c"\n[segments.c]\nrouter = "a"\n',
        r"mine.toml:1: the routers of segments lead in a circle, a → b → c → a",
    ),
    "a segment that leads to itself": ('[segments.a]\nrouter = "a"\n', r"a names 'a', which is no router on it"),
    "a pod of no node": ("[nodes.a]\n[pods.pod9]\nwired = false\n", r"mine.toml:2: no node has a pod pod9"),
    "something broken nowhere": (
        '[[broken]]\nwhere = "node7"\nrun = "true"\n',
        r"mine.toml:1: what is broken names 'node7', which is no place; did you mean node",
    ),
    "something broken without a command": ('[[broken]]\nwhere = "node1"\n', r"mine.toml:1: broken.run: say where"),
    "broken in another way": (
        '[[broken]]\nwhat = "magic"\n',
        r"mine.toml:2: broken.what: 'magic' is not one of command",
    ),
    "a list where a table is": ("nodes = [1]\n", r"mine.toml:1: nodes: write tables"),
    "a text where a table is": ('nodes.a = "x"\n', r"mine.toml:1: nodes.a: write a table"),
}


def plan(text: str, seed: int | None = None) -> Plan:
    return make_plan(topology_file.parse(text, "mine.toml"), seed)


def shipped(name: str) -> Topology:
    file, text, directory = topology_file.locate(name)
    return topology_file.parse(text, file, directory)


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_told_with_its_line(what: str) -> None:
    text, message = BAD[what]
    with pytest.raises(UdplaneError) as raised:
        plan(text)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_topology_that_is_nowhere_is_told_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="two-nodes"):
        topology_file.locate("no-such-topology")


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UdplaneError, match="cannot read"):
        topology_file.locate(str(tmp_path / "x.toml"))


def test_an_empty_file_is_two_nodes_with_two_pods() -> None:
    made = plan("")
    assert [(node.spec.name, node.spec.pods, str(node.subnets[0])) for node in made.nodes] == [
        ("node1", ("pod1", "pod2"), "10.254.1.0/24"),
        ("node2", ("pod3", "pod4"), "10.254.2.0/24"),
    ]
    assert [str(a) for a in made.nodes[0].host.links[0].addresses] == ["192.168.0.201/24", "fd00:192:168::201/64"]


def addresses(made: Plan) -> list[str]:
    subnets = [str(subnet) for node in made.nodes for subnet in node.subnets]
    return subnets + [str(a) for member in made.members for link in member.links for a in link.addresses]


@pytest.mark.parametrize("name", ready_made())
def test_topologies_that_come_with_udplane_can_be_planned_with_any_seed(name: str) -> None:
    plans = [make_plan(shipped(name), seed) for seed in (None, *range(20))]
    for made in plans:
        networks = [network for wire in made.wires.values() for network in wire.networks] + list(made.networks)
        for one, other in itertools.combinations(networks, 2):
            assert one.version != other.version or not one.overlaps(other)
        assert len(set(addresses(made))) == len(addresses(made))
        assert all(ip_network(s).subnet_of(made.networks[0]) for n in made.nodes for s in map(str, n.subnets[:1]))  # type: ignore[arg-type]
    assert len({tuple(addresses(made)) for made in plans}) == len(plans)
    assert addresses(make_plan(shipped(name), 7)) == addresses(plans[8])


def test_a_router_knows_the_way_over_another() -> None:
    made = make_plan(shipped("routers"))
    routes = {host.name: [(to, str(hop)) for to, hop in host.routes] for host in made.hosts}
    assert routes["r1"][0] == ("192.168.2.0/24", "192.168.1.2")
    assert routes["r2"][0] == ("192.168.0.0/24", "192.168.1.1")


def test_nobody_outside_knows_the_way_behind_a_nat() -> None:
    nat = '[routers.n]\nsegments = ["lan", "wan"]\nnat = true\n'
    other = '[segments.far]\n[routers.r]\nsegments = ["wan", "far"]\n'
    made = plan(TWO_SEGMENTS + nat + other)
    routes = {host.name: [to for to, _ in host.routes] for host in made.hosts}
    assert routes["n"] == ["192.168.2.0/24", "fd00:192:168:2::/64"]
    assert routes["r"] == []


def test_a_segment_that_leads_to_another_gets_a_router() -> None:
    made = plan('[segments.lan]\nrouter = "wan"\n[segments.wan]\n[nodes.a]\n')
    (router,) = made.hosts
    assert (router.name, [link.wire for link in router.links]) == ("r-lan", ["lan", "wan"])
    assert [str(hop) for _, hop in made.nodes[0].host.routes] == ["192.168.0.1", "fd00:192:168::1"]


def test_a_host_behind_a_nat_gets_a_wire_of_its_own() -> None:
    made = plan("[hosts.pc]\nnat = true\n")
    assert sorted(made.wires) == ["pc-lan", "underlay"]
    assert {host.name: host.nat for host in made.hosts} == {"pc": "", "pc-nat": "underlay"}


def test_measures_are_read() -> None:
    text = '[segments.a]\nrate = "2.5mbit"\ndelay = "10 ms"\nloss = "1.5%"\nduplicate = "2%"\nreorder = "50%"\n'
    segment = topology_file.parse(text, "mine.toml").segments["a"]
    assert segment.impairment == Impairment(2.5e6, 0.01, 0.015, 0.02, 0.5)


def test_an_engine_of_ones_own_lies_beside_the_file(tmp_path: Path) -> None:
    text = '[nodes.a]\nengine = "mine.py"\n[nodes.b]\n'
    nodes = topology_file.parse(text, "mine.toml", tmp_path).nodes
    assert (nodes["a"].engine, nodes["b"].engine) == (str(tmp_path / "mine.py"), "native")


def test_the_line_is_right_behind_a_text_of_several_lines() -> None:
    text = '[[broken]]\nwhere = "node1"\nrun = """\npodz = 1\n[nodes.x]\n"""\nwhat = "x"\n'
    with pytest.raises(UdplaneError, match=r"mine.toml:7: broken.what"):
        plan(text)
