"""What a walk happens in: the lab, the instruments, and what was asked of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.addresses import Address
from dataplane.lab.dissect import Layer
from dataplane.lab.overlay import UDPLANE
from dataplane.lab.recording import Counter, Packet
from dataplane.lab.view import LabView, NodePlace, Place, PodPlace, SegmentPlace
from dataplane.lab.walking.engine import EngineOf
from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.netfilter import Tracer
from dataplane.lab.walking.probes import Probe, carried
from dataplane.lab.walking.route import Decision, decide
from dataplane.lab.walking.sightings import Copies, Sighting
from dataplane.lab.walking.survey import Survey
from dataplane.packets.packet import change_ttl


@dataclass(slots=True)
class Scene:
    """All that the story of a walk is made from."""

    view: LabView
    survey: Survey
    looks: Looks
    source: Place
    target: Place | None
    destination: Address
    probe: Probe
    tracer: Tracer
    copies: Copies
    moved: list[Counter] = field(default_factory=list)
    """Counters that have moved."""
    refused: bool = False
    """Whether the packet's destination said that no program listens there."""
    answered: bool = False
    """Whether the sender has its answer."""
    _engines: dict[str, EngineOf] = field(default_factory=dict)

    def engine(self, where: str) -> EngineOf:
        """The engine of a node, asked once."""
        if where not in self._engines:
            self._engines[where] = EngineOf(self.view.node(where))
        return self._engines[where]

    def route(self, where: str, network: Layer, came_in_by: str) -> Decision:
        """What a host decides about a packet with that IP header."""
        return decide(self.looks, where, network, came_in_by)

    def counters(self, where: str, *names: str) -> list[Counter]:
        """Those of a place that have moved, of these names."""
        return [counter for name in names for counter in self.moved if (counter.where, counter.name) == (where, name)]

    def place_of(self, sighting: Sighting) -> str:
        """Which kind of place a device is."""
        device, place = sighting.device, self.view.find(sighting.device.where)
        if device.overlay:
            return "tunnel"
        if isinstance(place, SegmentPlace):
            return "wire"
        if device.kind == "bridge":
            return "bridge"
        if isinstance(place, PodPlace):
            return "eth0"
        if isinstance(place, NodePlace):
            return "veth" if device.master else "underlay"
        return "host"


STATUS = "udplane status"


def status_command(node: NodePlace) -> list[str]:
    """What STATUS really runs, from wherever."""
    return [str(UDPLANE), "status", "--run-dir", str(node.run_dir)]


def bare(packet: Packet) -> bytes:
    """A packet without the headers of its link."""
    return packet.data[14:] if packet.link == "ethernet" else packet.data


def outermost(packet: Packet) -> Layer:
    """Its first IP header."""
    return next(layer for layer in packet.layers if layer.name in ("IPv4", "IPv6"))


def inner(packet: Packet) -> bytes:
    """The packet inside all tunnels; of several datagrams in one frame the first one's."""
    network, _, _ = carried(packet.layers)
    assert network is not None
    data = packet.data[network.offset :]
    if network.role != "inner":
        return data
    stated = int(network["length"]) if network.name == "IPv4" else 40 + int(network["payload length"])
    return data[:stated]


def payload(packet: Packet) -> tuple[str, bytes]:
    """What a program sees of a packet: the kind of its first byte and the bytes."""
    _, transport, start = carried(packet.layers)
    if transport is not None and transport.name.startswith("ICMP"):
        return transport.name.lower(), packet.data[transport.offset :]
    return "data", packet.data[start:]


def with_ttl(data: bytes, step: int) -> bytes:
    """An IP packet with its TTL moved by `step`, and the checksum along with it."""
    copy = bytearray(data)
    change_ttl(memoryview(copy), step)
    return bytes(copy)


def headers(data: bytes, link: str = "ip") -> Packet:
    """A packet that was worked out."""
    return Packet(link, data, "recomputed")
