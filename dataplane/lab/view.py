"""What stands in a lab, as data: read by everything that looks into one, from any process.

The process that builds a lab writes this document to `lab.json` in the lab's directory; whoever enters the lab's
namespaces reads it there. A name means one place only: nodes, pods, hosts and segments share one list of names.

Addresses in the document are text, in `Pod.addresses` and so on with the length of their network: `10.254.3.2/24`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from dataplane.addresses import Address, Interface
from dataplane.lab.netns import LabError, Namespace

FILE = "lab.json"
"""The document's name in the lab's directory."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of the lab, with the device by which it is on its network."""

    name: str
    netns: str
    """The namespace's name, as `ip netns` knows it in the lab."""
    addresses: tuple[str, ...]
    """Of `device`."""
    device: str = "eth0"

    @property
    def namespace(self) -> Namespace:
        """The namespace, to run programs in and to open sockets in."""
        return Namespace(self.netns)

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The addresses with their networks."""
        return tuple(ip_interface(text) for text in self.addresses)

    def address(self, version: int) -> Address:
        """The first address of IP version 4 or 6. Raises LabError when there is none."""
        for interface in self.interfaces:
            if interface.version == version:
                return interface.ip
        raise LabError(f"{self.name} has no IPv{version} address")


@dataclass(frozen=True, slots=True)
class PodPlace(Place):
    """A pod; its device hangs on the node's bridge, or on nothing while `host_device` is empty."""

    node: str = ""
    host_device: str = ""
    """The node's end of the pod's wire."""


@dataclass(frozen=True, slots=True)
class NodePlace(Place):
    """A node: a host on a segment with a udplane of its own."""

    segment: str = ""
    backend: str = "udp"
    engine: str = "native"
    """Name of an engine, or the path of a file with one."""
    tunnel: str = "udplane0"
    """The device that the backend made: a TUN (udp), a VXLAN device, or empty (host-gw)."""
    bridge: str = "cni0"
    directory: str = ""
    """Where the node's files are: run/, subnet.env, log."""
    subnets: tuple[str, ...] = ()
    """What it leases."""

    @property
    def run_dir(self) -> Path:
        """What `--run-dir` says to a command that asks this node."""
        return Path(self.directory, "run")


@dataclass(frozen=True, slots=True)
class SegmentPlace(Place):
    """A wire of the underlay: a namespace with a bridge, `device`, on which each member hangs by a port of its name.

    Its addresses are the gateway's.
    """

    ports: dict[str, str] = field(default_factory=dict)
    """Name of a node, host or other segment -> the bridge's port towards it, a device of this namespace."""
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class HostPlace(Place):
    """A host without udplane: a server outside, a stranger, a router between segments."""

    segment: str = ""
    """The first one that it is on."""
    devices: dict[str, str] = field(default_factory=dict)
    """Segment -> the device on it: a router has several."""


@dataclass(frozen=True, slots=True)
class LabView:
    """A standing lab."""

    name: str
    directory: str
    network: dict[str, Any]
    """flannel's net-conf JSON."""
    store: str
    nodes: tuple[NodePlace, ...] = ()
    pods: tuple[PodPlace, ...] = ()
    hosts: tuple[HostPlace, ...] = ()
    segments: tuple[SegmentPlace, ...] = ()

    def places(self) -> Iterator[Place]:
        """All of them."""
        yield from (*self.nodes, *self.pods, *self.hosts, *self.segments)

    def find(self, name: str) -> Place:
        """The place of that name. Raises LabError that lists the names there are."""
        for place in self.places():
            if place.name == name:
                return place
        raise LabError(f"nothing in this lab is called {name!r}; there are {', '.join(p.name for p in self.places())}")

    def node(self, name: str) -> NodePlace:
        """The node of that name. Raises LabError."""
        place = self.find(name)
        if not isinstance(place, NodePlace):
            raise LabError(f"{name} is no node; nodes are {', '.join(node.name for node in self.nodes)}")
        return place

    def pods_of(self, node: str) -> tuple[PodPlace, ...]:
        """The pods of that node."""
        return tuple(pod for pod in self.pods if pod.node == node)

    def write(self) -> None:
        """Put the document into the lab's directory, whole or not at all."""
        file = Path(self.directory, FILE)
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps({"format": "udplane-lab", "version": VERSION, **asdict(self)}, indent=1))
        fresh.rename(file)

    @classmethod
    def read(cls, directory: Path) -> LabView:
        """What stands there. Raises LabError when no lab does, or when the document cannot be understood."""
        try:
            return cls.from_document(json.loads((directory / FILE).read_bytes()))
        except FileNotFoundError as error:
            raise LabError(f"no lab stands in {directory}; `udplane lab up` makes one") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LabError(f"cannot read {directory / FILE}: {error}") from error

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> LabView:
        """The lab that `write` has described. Raises ValueError, KeyError or TypeError when it is something else."""
        if document.pop("format", None) != "udplane-lab" or document.pop("version", None) != VERSION:
            raise ValueError(f"this is no udplane-lab document of version {VERSION}")
        kinds = {"nodes": NodePlace, "pods": PodPlace, "hosts": HostPlace, "segments": SegmentPlace}
        for key, kind in kinds.items():
            document[key] = tuple(kind(**_tuples(entry)) for entry in document[key])
        return cls(**document)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples; the document has no lists but those."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
