"""The ways to die: each ends at the right place, with the right reason, in the words of a sentence that exists."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from dataplane.lab.netns import Namespace, run_lines
from dataplane.lab.ping import ping
from dataplane.lab.words import sentences
from tests.lab.walks.worlds import ALL, WORLDS, World, last

Break = Callable[[World], Iterator[None]]


def nft(netns: Namespace, *lines: str) -> None:
    run_lines(netns.command(["nft", "-f", "-"]), lines)


@contextmanager
def rules(netns: Namespace, hook: str, *wanted: str) -> Iterator[None]:
    """A chain of a table of its own with these rules."""
    chain = f"add chain inet udpdeath c {{ type filter hook {hook} priority 200; }}"
    nft(netns, "add table inet udpdeath", chain, *(f"add rule inet udpdeath c {rule}" for rule in wanted))
    try:
        yield
    finally:
        nft(netns, "delete table inet udpdeath")


def unbroken(_: World) -> Iterator[None]:
    yield


def dropped_by_a_rule(world: World) -> Iterator[None]:
    pod = world.ends[1]
    drops = [f"ip daddr {pod.address(4)} drop", f"ip6 daddr {pod.address(6)} drop"]
    with rules(world.nodes[1].netns, "forward", *drops):
        yield


def dropped_by_a_policy(world: World) -> Iterator[None]:
    netns = world.nodes[0].netns
    nft(
        netns,
        "add table inet udpdeath",
        "add chain inet udpdeath c { type filter hook forward priority 10; policy drop; }",
    )
    yield
    nft(netns, "delete table inet udpdeath")


def unknown_sender(world: World) -> Iterator[None]:
    netns = world.nodes[0].netns
    netns.ip("addr add 192.168.0.99/24 dev eth0")
    try:
        with rules(netns, "postrouting", "udp dport 8285 ip saddr set 192.168.0.99"):
            yield
    finally:
        netns.ip("addr del 192.168.0.99/24 dev eth0")


def foreign_source(world: World) -> Iterator[None]:
    with rules(world.nodes[0].netns, "postrouting", "oifname udplane0 ip saddr set 10.254.99.9"):
        yield


def rp_filter(world: World) -> Iterator[None]:
    node, pod = world.nodes[0], world.ends[0]
    gateway = next(a.network[1] for a in pod.addresses if a.version == 4)
    pod.netns.ip("addr add 10.99.0.1/32 dev eth0", f"route add 10.254.0.0/17 via {gateway} src 10.99.0.1")
    pod.netns.ip(f"route add 10.254.128.0/17 via {gateway} src 10.99.0.1")
    node.netns.sysctl({"net/ipv4/conf/all/rp_filter": 1, "net/ipv4/conf/cni0/rp_filter": 1})
    try:
        yield
    finally:
        node.netns.sysctl({"net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/cni0/rp_filter": 0})
        pod.netns.ip("route del 10.254.0.0/17", "route del 10.254.128.0/17", "addr del 10.99.0.1/32 dev eth0")


def no_entry_in_the_bridge(world: World) -> Iterator[None]:
    netns, node = world.lab.underlay, world.nodes[1]
    mac = node.netns.run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    netns.run(["bridge", "link", "set", "dev", node.name, "learning", "off", "flood", "off"])
    netns.run(["bridge", "fdb", "del", mac, "dev", node.name, "master"], check=False)
    yield
    netns.run(["bridge", "link", "set", "dev", node.name, "learning", "on", "flood", "on"])


def device_down(world: World) -> Iterator[None]:
    device = world.ends[1].host_device
    world.nodes[1].netns.ip(f"link set {device} down")
    yield
    world.nodes[1].netns.ip(f"link set {device} up")


def wide_pod(world: World) -> Iterator[None]:
    """A pod that believes in a larger MTU than the way has."""
    (node, _), pod = world.nodes, world.ends[0]
    before = pod.netns.run(["cat", "/sys/class/net/eth0/mtu"]).stdout.strip()
    pod.netns.ip("link set eth0 mtu 1600")
    node.netns.ip(f"link set {pod.host_device} mtu 1600", "link set cni0 mtu 1600")
    yield
    pod.netns.ip(f"link set eth0 mtu {before}")
    node.netns.ip(f"link set {pod.host_device} mtu {before}", f"link set cni0 mtu {before}")


def not_a_router(world: World) -> Iterator[None]:
    netns = world.nodes[1].netns
    netns.sysctl({"net/ipv4/ip_forward": 0})
    yield
    netns.sysctl({"net/ipv4/ip_forward": 1})


@dataclass(frozen=True, slots=True)
class Death:
    """A way to die."""

    reason: str
    where: str
    place: str
    broken: Break = unbroken
    protocol: str = "icmp"
    to: str = "pod4"
    options: dict[str, float] = field(default_factory=dict)
    backends: tuple[str, ...] = ("udp", "vxlan", "host-gw")
    counter: str = ""
    error: bool = False
    """Whether an ICMP error tells the sender."""
    families: tuple[int, ...] = (4,)


UDP = ("udp",)
DEATHS = {
    "no lease": Death(
        "no_route",
        "node1",
        "engine",
        to="10.254.250.9",
        backends=UDP,
        counter="udplane.encap.drops.no_route",
        error=True,
    ),
    "TTL in the engine": Death(
        "ttl_exceeded",
        "node1",
        "engine",
        options={"ttl": 2},
        backends=UDP,
        counter="udplane.encap.drops.ttl_exceeded",
        error=True,
        families=(4, 6),
    ),
    "TTL in the kernel": Death("ttl_exceeded", "node1", "route", options={"ttl": 1}, error=True, families=(4, 6)),
    "too big": Death("too_big", "node1", "route", wide_pod, "udp", options={"size": 1530}, error=True, families=(4, 6)),
    "a rule": Death("nft_drop", "node2", "netfilter", dropped_by_a_rule, families=(4, 6)),
    "a policy": Death("nft_drop", "node1", "netfilter", dropped_by_a_policy, protocol="tcp"),
    "rp_filter": Death("rp_filter", "node1", "route", rp_filter, counter="TcpExt.IPReversePathFilter"),
    "unknown sender": Death(
        "unknown_sender", "node2", "engine", unknown_sender, backends=UDP, counter="udplane.decap.drops.unknown_sender"
    ),
    "foreign source": Death(
        "foreign_source", "node2", "engine", foreign_source, backends=UDP, counter="udplane.decap.drops.foreign_source"
    ),
    "FDB miss": Death("fdb_miss", "underlay", "wire", no_entry_in_the_bridge),
    "device down": Death("interface_down", "node2", "veth", device_down),
    "no socket": Death("no_socket", "pod4", "socket", protocol="udp", options={"port": 7}, error=True, families=(4, 6)),
    "nobody listens": Death("no_socket", "pod4", "socket", protocol="tcp", options={"port": 7}),
    "no router": Death("forwarding_off", "node2", "route", not_a_router),
}
"""All of them in the world of the native engine; in others what is another way there, unless UDPLANE_WALKS says all."""

ELSEWHERE = {
    "udp-numpy": {"TTL in the engine"},
    "udp-python": {"no lease", "unknown sender"},
    "vxlan": {"FDB miss", "a rule"},
    "host-gw": {"no socket", "device down"},
}

CASES = [
    pytest.param(name, death, family, id=f"{name}-{death}-{family}")
    for name in WORLDS
    for death, family in itertools.product(DEATHS, (4, 6))
    if family in DEATHS[death].families
    and name.removesuffix("-native").removesuffix("-numpy").removesuffix("-python") in DEATHS[death].backends
    and (ALL or name == "udp-native" or (death in ELSEWHERE[name] and family == 4))
]


@pytest.mark.parametrize(("each_world", "name", "family"), CASES, indirect=["each_world"])
def test_a_walk_ends_where_the_packet_dies(each_world: World, name: str, family: int) -> None:
    death = DEATHS[name]
    pod, peer = each_world.ends
    ping(pod.netns, peer.address(family))  # neighbours and tables are known before anything is broken
    with contextmanager(death.broken)(each_world):
        walk = each_world.walk(death.protocol, family, to=death.to, timeout=0.4, **death.options)
    outcome = walk.outcome
    assert (outcome.kind, outcome.verdict, outcome.where, outcome.place) == (
        "died",
        death.reason,
        death.where,
        death.place,
    )
    assert last(walk).verdict == death.reason
    known = sentences()
    assert all(step.say in known for step in walk.steps)
    assert outcome.reason in known
    if death.counter:
        assert outcome.counter is not None
        assert (outcome.counter.where, outcome.counter.name) == (death.where, death.counter)
        assert outcome.counter.after > outcome.counter.before
    if death.error:
        assert last(walk, "icmp-error").where == "pod1"
        assert last(walk, "icmp-error").say == "socket.error"
