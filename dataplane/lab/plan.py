"""From a topology to addresses: who has which, and where each host sends what is not on its own wire.

Everything that is `auto` is chosen here. Without a seed the choice is the one that reads best: node1 owns
10.254.1.0/24, its pods are .2 and .3. A seed chooses others, always the same ones for the same seed, so that what one
student finds out is no answer for another.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from dataplane.addresses import Address, Interface, Network
from dataplane.errors import ConfigError
from dataplane.lab import topology_file as spec
from dataplane.lab.topology import FIRST_NODE
from dataplane.lab.topology_check import complete, routers_on
from dataplane.lab.topology_file import AUTO, Impairment, Topology, members_of

FIRST_HOST = {4: 101, 6: 0x101}
"""Host number of the first host that is no node; the next gets the next one."""

FIRST_ROUTER = 2
"""Host number of a router that is not the gateway; the gateway is host 1."""

SUBNET_LEN = {4: 24, 6: 64}
"""How long the prefix of a node's subnet is, in a network that is at least two bits shorter."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A segment."""

    name: str
    networks: tuple[Network, ...]
    mtu: int
    impairment: Impairment
    own_addresses: tuple[Interface, ...]
    """Those of a gateway that is the wire's own; none where a router is on it."""
    gateway: tuple[Interface, ...]
    """Addresses of the gateway, whoever that is."""


@dataclass(frozen=True, slots=True)
class Link:
    """A host's device on a wire."""

    device: str
    wire: str
    addresses: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """A host, a router or a node: its links, and its routes beyond them."""

    name: str
    links: tuple[Link, ...]
    routes: tuple[tuple[str, Address], ...] = ()
    """Destination, a network or `default`, and the next hop."""
    forwards: bool = False
    nat: str = ""
    """The device by which only the host's own address is seen."""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node: the host, what runs on it, and which pods."""

    host: PlannedHost
    spec: spec.Node
    subnets: tuple[Network, ...]
    """What it shall lease."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab on paper."""

    topology: Topology
    networks: tuple[Network, ...]
    """Of the pods."""
    wires: dict[str, Wire]
    hosts: tuple[PlannedHost, ...]
    nodes: tuple[PlannedNode, ...]
    seed: int | None

    @property
    def members(self) -> Iterator[PlannedHost]:
        """All that hangs on wires."""
        yield from self.hosts
        yield from (node.host for node in self.nodes)


def make_plan(topology: Topology, seed: int | None = None) -> Plan:
    """Choose all addresses. Raises ConfigError for those of the file that do not fit."""
    topology = complete(topology)
    chance = None if seed is None else random.Random(f"{seed} {topology.name}")
    networks = tuple(_pod_networks(topology, chance))
    wires = _wires(topology, networks, chance)
    addresses = _Addresses(topology, wires, chance)
    links: dict[str, tuple[Link, ...]] = {member.name: (addresses.link(member),) for member in members_of(topology)}
    links |= {router.name: addresses.router_links(router) for router in topology.routers.values()}
    hosts = [_host(topology, wires, name, links) for name in (*topology.routers, *topology.hosts)]
    subnets = _subnets(topology, networks, chance)
    nodes = [
        PlannedNode(_host(topology, wires, node.name, links), node, tuple(subnets[node.name]))
        for node in topology.nodes.values()
    ]
    return Plan(topology, networks, wires, tuple(hosts), tuple(nodes), seed)


def _pod_networks(topology: Topology, chance: random.Random | None) -> Iterator[Network]:
    second = chance.randrange(16, 250) if chance else 254
    if topology.ipv4:
        yield ip_network(f"10.{second}.0.0/16" if topology.ipv4 == AUTO else topology.ipv4)
    if topology.ipv6:
        yield ip_network(f"fd00:10:{second}::/48" if topology.ipv6 == AUTO else topology.ipv6)


def _wires(topology: Topology, pods: tuple[Network, ...], chance: random.Random | None) -> dict[str, Wire]:
    free = list(range(256))
    if chance:
        chance.shuffle(free)
    taken: list[tuple[str, Network]] = [("the pods' network", network) for network in pods]
    written = [
        (segment, ip_network(text))
        for segment in topology.segments.values()
        for text in (segment.ipv4, segment.ipv6)
        if text not in (AUTO, "")
    ]
    for segment, network in written:
        for name, other in taken:
            if _overlap(network, other):
                raise ConfigError(
                    f"{segment.place}: segment {segment.name} has {network}, which overlaps {other} of {name}; "
                    "give each its own network"
                )
        taken.append((f"segment {segment.name}", network))
    wires = {}
    for segment in topology.segments.values():
        networks = tuple(_segment_networks(segment, free, [network for _, network in taken]))
        gateway = tuple(_interface(network, network[1]) for network in networks)
        own = () if any(routers_on(topology, segment.name)) else gateway
        wires[segment.name] = Wire(segment.name, networks, segment.mtu, segment.impairment, own, gateway)
    return wires


def _segment_networks(segment: spec.Segment, free: list[int], taken: list[Network]) -> Iterator[Network]:
    """The networks of a segment. One number of those that are free stands in both that are chosen."""
    wanted = [auto for text, auto in ((segment.ipv4, _auto_v4), (segment.ipv6, _auto_v6)) if text == AUTO]
    number = next((n for n in free if not any(_overlap(auto(n), t) for auto in wanted for t in taken)), None)
    if number is None:
        raise ConfigError(
            f"{segment.place}: every network that auto could choose for segment {segment.name} overlaps another one; "
            "write its ipv4 and ipv6 down, or give pods a smaller network"
        )
    free.remove(number)
    for text, auto in ((segment.ipv4, _auto_v4(number)), (segment.ipv6, _auto_v6(number))):
        if text:
            yield auto if text == AUTO else ip_network(text)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _auto_v4(number: int) -> IPv4Network:
    return IPv4Network(f"192.168.{number}.0/24")


def _auto_v6(number: int) -> IPv6Network:
    return IPv6Network(f"fd00:192:168:{number:x}::/64")


class _Addresses:
    """Gives out addresses of wires."""

    def __init__(self, topology: Topology, wires: dict[str, Wire], chance: random.Random | None) -> None:
        self._topology = topology
        self._wires = wires
        self._chance = chance
        self._taken: dict[Address, str] = {g.ip: "the gateway" for wire in wires.values() for g in wire.gateway}
        self._numbers = {"node": FIRST_NODE, "host": FIRST_HOST, "router": {4: FIRST_ROUTER, 6: FIRST_ROUTER}}
        for member in members_of(topology):
            if member.address != AUTO:
                self._write_down(member)

    def _write_down(self, member: spec.Node | spec.Host) -> None:
        """Take an address that the file names."""
        address = ip_address(member.address)
        wire = self._wires[member.segment]
        if not any(address.version == n.version and address in n for n in wire.networks):
            networks = " and ".join(map(str, wire.networks))
            raise ConfigError(f"{member.place}: {address} of {member.name} is not in {networks} of {wire.name}")
        if address in self._taken:
            raise ConfigError(f"{member.place}: {address} of {member.name} belongs to {self._taken[address]} already")
        self._taken[address] = member.name

    def link(self, member: spec.Node | spec.Host) -> Link:
        """The link of a host with one device."""
        kind = "node" if isinstance(member, spec.Node) else "host"
        wire = self._wires[member.segment]
        written = None if member.address == AUTO else ip_address(member.address)
        addresses = tuple(
            _interface(network, written)
            if written is not None and written.version == network.version
            else self._next(network, kind, member.name)
            for network in wire.networks
        )
        return Link("eth0", wire.name, addresses)

    def router_links(self, router: spec.Router) -> tuple[Link, ...]:
        """A router's links; its devices are called like the wires."""
        links = []
        for name in router.segments:
            wire = self._wires[name]
            gateway = next(routers_on(self._topology, name)).name == router.name
            addresses = wire.gateway if gateway else tuple(self._next(n, "router", router.name) for n in wire.networks)
            links.append(Link(name, name, addresses))
        return tuple(links)

    def _next(self, network: Network, kind: str, name: str) -> Interface:
        """The next free address from the kind's first on, or any free one where chance decides."""
        size = min(network.num_addresses, 1 << 16)
        first = self._numbers[kind][network.version]
        start = self._chance.randrange(2, size - 1) if self._chance else (first if first < size - 1 else 2)
        for step in range(size):
            address = network[2 + (start - 2 + step) % (size - 3)]
            if address not in self._taken:
                self._taken[address] = name
                return _interface(network, address)
        raise ConfigError(f"{self._topology.file}: {network} has no room for {name}; write a larger network")


def _interface(network: Network, address: Address) -> Interface:
    return ip_interface(f"{address}/{network.prefixlen}")


def _host(topology: Topology, wires: dict[str, Wire], name: str, links: dict[str, tuple[Link, ...]]) -> PlannedHost:
    router = topology.routers.get(name)
    if router is None:
        (link,) = links[name]
        return PlannedHost(name, links[name], tuple(("default", g.ip) for g in wires[link.wire].gateway))
    routes = tuple(_routes(topology, wires, router, links))
    return PlannedHost(name, links[name], routes, forwards=True, nat=router.segments[-1] if router.nat else "")


def _routes(
    topology: Topology, wires: dict[str, Wire], router: spec.Router, links: dict[str, tuple[Link, ...]]
) -> Iterator[tuple[str, Address]]:
    """A router's routes to the wires that it is not on, by the way over the fewest routers."""
    first_hops: dict[str, Link | None] = dict.fromkeys(router.segments)
    waiting = deque(router.segments)
    while waiting:
        wire = waiting.popleft()
        for other in routers_on(topology, wire):
            if other.nat and wire == other.segments[-1]:
                continue  # nobody outside knows what is behind a NAT
            for beyond in other.segments:
                if beyond not in first_hops:
                    near = next(link for link in links[other.name] if link.wire == wire)
                    first_hops[beyond] = first_hops[wire] or near
                    waiting.append(beyond)
    for wire, hop in first_hops.items():
        if hop is not None:
            yield from _route_to(wires[wire].networks, hop.addresses)


def _route_to(networks: Iterable[Network], hops: tuple[Interface, ...]) -> Iterator[tuple[str, Address]]:
    for network in networks:
        for hop in hops:
            if hop.version == network.version:
                yield str(network), hop.ip


def _subnets(
    topology: Topology, networks: tuple[Network, ...], chance: random.Random | None
) -> dict[str, list[Network]]:
    """What each node leases of each network."""
    found: dict[str, list[Network]] = {name: [] for name in topology.nodes}
    for network in networks:
        length = max(SUBNET_LEN[network.version], network.prefixlen + 2)
        n_subnets = 1 << (length - network.prefixlen)
        taken = _written_subnets(topology, network, length)
        free = iter(_numbers(n_subnets, chance))
        for node in topology.nodes.values():
            if node.name in taken:
                found[node.name].append(taken[node.name])
                continue
            subnet = next((s for s in (_nth(network, length, n) for n in free) if s not in taken.values()), None)
            if subnet is None:
                raise ConfigError(f"{topology.file}: {network} has no room for so many nodes; write a larger network")
            found[node.name].append(subnet)
    return found


def _numbers(n: int, chance: random.Random | None) -> Iterable[int]:
    """Numbers of subnets; the first one is never given out (flannel's SubnetMin)."""
    most = min(n, 256)
    return chance.sample(range(1, most), most - 1) if chance else range(1, n)


def _nth(network: Network, length: int, number: int) -> Network:
    start = network[number << (network.max_prefixlen - length)]
    return ip_network(f"{start}/{length}")


def _written_subnets(topology: Topology, network: Network, length: int) -> dict[str, Network]:
    """The subnets that the file names, of nodes by name."""
    taken: dict[str, Network] = {}
    for node in topology.nodes.values():
        if node.subnet == AUTO or ip_network(node.subnet).version != network.version:
            continue
        subnet = ip_network(node.subnet)
        if subnet.prefixlen != length or not subnet.subnet_of(network):  # type: ignore[arg-type]
            raise ConfigError(
                f"{node.place}: subnet {subnet} of {node.name} is no /{length} within {network}, the pods' network"
            )
        for name, other in taken.items():
            if subnet == other:
                raise ConfigError(
                    f"{node.place}: {node.name} and {name} have the same subnet {subnet}; give each its own"
                )
        if subnet == _nth(network, length, 0):
            raise ConfigError(f"{node.place}: the first subnet, {subnet}, is never leased; take another one")
        taken[node.name] = subnet
    return taken
