"""Nodes, pods and the underlay between them, each in a network namespace.

      pod1  pod2                pod3  pod4       namespaces of the pods, their end of the wire is eth0
        |    |                    |    |
    +---cni0-----+            +---cni0-----+     bridge, the pods' gateway
    |   node1    |            |   node2    |     namespaces of the nodes
    +---eth0-----+            +---eth0-----+     192.168.0.201, fd00:192:168::201; .202, ::202; ...
          |                         |
    +-----node1---------------------node2-----+
    |               underlay                  |  bridge br0 with the address 192.168.0.1, fd00:192:168::1
    +-----------------------------------------+

A node starts as a fresh host on the underlay, with a default route to the underlay's router. Pods are added once it is
known which subnet the node owns. `wire_pod` connects them by hand, `runtime` by CNI plugins.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_interface
from types import TracebackType
from typing import Self

from dataplane.addresses import Address, Interface, Network
from dataplane.lab.netns import Namespace

UNDERLAY_MTU = 1500
UNDERLAY: dict[int, Network] = {4: IPv4Network("192.168.0.0/24"), 6: IPv6Network("fd00:192:168::/64")}
FIRST_NODE = {4: 201, 6: 0x201}
"""Host number of node1; the next node gets the next one. The router of the underlay is host 1."""

FORWARDING = {4: "ip_forward", 6: "conf/all/forwarding"}
"""The kernel parameter below net/ipv4 or net/ipv6 that makes a host a router."""

QUIET_IPV6 = {"accept_dad": 0, "accept_ra": 0, "router_solicitations": 0}
"""IPv6 parameters that make new addresses usable at once and keep the wires free of unasked packets."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: a namespace whose eth0 hangs on its node's bridge."""

    name: str
    netns: Namespace
    addresses: tuple[Interface, ...]
    host_device: str
    """The node's end of the pod's wire."""

    def address(self, version: int) -> Address:
        """The pod's address of IP version 4 or 6."""
        return _address(self.addresses, version)


@dataclass(slots=True)
class Node:
    """A node: a namespace whose eth0 hangs on the underlay."""

    name: str
    netns: Namespace
    addresses: tuple[Interface, ...]
    pods: list[Pod] = field(default_factory=list)

    def address(self, version: int) -> Address:
        """The node's underlay address of IP version 4 or 6."""
        return _address(self.addresses, version)


@dataclass(frozen=True, slots=True)
class Segment:
    """A wire that hosts hang on: a namespace with a bridge, which may have addresses as the hosts' gateway."""

    name: str
    netns: Namespace
    mtu: int


class Lab:
    """A network of namespaces, taken down when the `with` block ends, whatever ends it.

    `prefix` goes before the names of the namespaces: empty where the names are this process's own (see `private`),
    by default unique on this machine. Without `with_underlay` there is no segment yet: `add_segment` makes them.
    """

    def __init__(
        self, *, prefix: str | None = None, versions: Sequence[int] = (4, 6), with_underlay: bool = True
    ) -> None:
        self.prefix = f"udp{os.getpid()}-" if prefix is None else prefix
        self.versions = tuple(versions)
        self.nodes: list[Node] = []
        self._with_underlay = with_underlay
        self._pod_numbers = itertools.count(1)
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with self._cleanup:
            if self._with_underlay:
                routers = [_interface(UNDERLAY[version], 1) for version in self.versions]
                self._segment = self.add_segment("underlay", UNDERLAY_MTU, routers)
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything down. May be called again."""
        self._cleanup.close()

    def keep(self) -> None:
        """Leave everything standing: `close` and the end of the block take nothing down any more."""
        self._cleanup = ExitStack()

    @property
    def underlay(self) -> Namespace:
        """The namespace of the one segment that there is without further ado."""
        return self._segment.netns

    def add_segment(self, name: str, mtu: int, addresses: Iterable[Interface] = ()) -> Segment:
        """Make a wire; with `addresses` it is a gateway as well."""
        netns = self.add_namespace(name)
        netns.ip(f"link add br0 mtu {mtu} type bridge mcast_snooping 0", *_configure("br0", addresses))
        return Segment(name, netns, mtu)

    def add_namespace(self, name: str) -> Namespace:
        """Make a namespace that is on no wire yet."""
        netns = Namespace.create(self.prefix + name)
        self._cleanup.callback(netns.delete)
        if 6 in self.versions:
            netns.sysctl({f"net/ipv6/conf/default/{key}": value for key, value in QUIET_IPV6.items()})
        return netns

    def connect(
        self, netns: Namespace, segment: Segment, port: str, addresses: Iterable[Interface], device: str = "eth0"
    ) -> None:
        """Hang `device` of a namespace on a segment, by a port of the bridge there that is called `port`."""
        ends = f"{port} mtu {segment.mtu} type veth peer name {device} mtu {segment.mtu} netns {netns.name}"
        segment.netns.ip(f"link add name {ends}", f"link set dev {port} master br0 up")
        netns.ip(*_configure(device, addresses))

    def add_node(self) -> Node:
        """Attach one more node to the underlay: node1, node2, ..."""
        number = len(self.nodes)
        name = f"node{number + 1}"
        netns = self.add_namespace(name)
        addresses = tuple(_interface(UNDERLAY[v], FIRST_NODE[v] + number) for v in self.versions)
        self.connect(netns, self._segment, name, addresses)
        netns.ip(*_default_routes(UNDERLAY[v] for v in self.versions))
        node = Node(name, netns, addresses)
        self.nodes.append(node)
        return node

    def add_pod(self, node: Node, subnets: Sequence[Network], mtu: int) -> Pod:
        """Start one more pod on `node`, wired by hand, with the next free address of each of the node's `subnets`."""
        return self.start_pod(node, lambda name, netns: wire_pod(node, name, netns, subnets, mtu))

    def start_pod(self, node: Node, connect: Callable[[str, Namespace], Pod]) -> Pod:
        """Start one more pod on `node`: pod1, pod2, ... `connect` is given its name and namespace."""
        name = f"pod{next(self._pod_numbers)}"
        pod = connect(name, self.add_namespace(name))
        node.pods.append(pod)
        return pod


def wire_pod(node: Node, name: str, netns: Namespace, subnets: Sequence[Network], mtu: int) -> Pod:
    """Hang the namespace `netns` on the bridge of `node` as a pod, the bridge being made for the first one.

    In each subnet the bridge is host 1, the pods are hosts 2, 3, ... of MTU `mtu`.
    """
    if not node.pods:
        node.netns.ip(
            f"link add cni0 mtu {mtu} type bridge mcast_snooping 0",
            *_configure("cni0", [_interface(subnet, 1) for subnet in subnets]),
        )
        node.netns.sysctl({f"net/ipv{s.version}/{FORWARDING[s.version]}": 1 for s in subnets})
    host_device = f"veth-{name}"
    node.netns.ip(
        f"link add {host_device} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {netns.name}",
        f"link set {host_device} master cni0 up",
    )
    addresses = tuple(_interface(subnet, 2 + len(node.pods)) for subnet in subnets)
    netns.ip(*_configure("eth0", addresses), *_default_routes(subnets))
    return Pod(name, netns, addresses, host_device)


def _interface(subnet: Network, host: int) -> Interface:
    return ip_interface(f"{subnet[host]}/{subnet.prefixlen}")


def _configure(device: str, addresses: Iterable[Interface]) -> list[str]:
    """Commands of ip(8) that give `device` its addresses and bring it up."""
    nodad = {4: "", 6: "nodad"}
    return [f"addr add {a} dev {device} {nodad[a.version]}" for a in addresses] + [f"link set dev {device} up"]


def _default_routes(subnets: Iterable[Network]) -> list[str]:
    """Commands of ip(8) that send everything else to host 1 of each subnet."""
    return [f"route add default via {subnet[1]}" for subnet in subnets]


def _address(addresses: Iterable[Interface], version: int) -> Address:
    return next(a.ip for a in addresses if a.version == version)
