"""The copies of one packet among all that the sniffers got."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dataplane.capture.superpacket import wire_frames
from dataplane.lab.dissect import Layer, dissect
from dataplane.lab.recording import RECORDED, Packet
from dataplane.lab.sniff import Frame, Sniffer
from dataplane.lab.walking.probes import FRAGMENT, Probe, carried
from dataplane.lab.walking.survey import Device

ETHERNET_LEN = 14


@dataclass(frozen=True, slots=True)
class Sighting:
    """A copy of a packet at a device."""

    device: Device
    outgoing: bool
    time_ns: int
    packet: Packet
    kind: str
    """request, reply, icmp-error, or fragment."""
    attempt: str
    """What tells a copy from one that was sent again: IP identification, or TCP's time stamp."""

    @property
    def layers(self) -> list[Layer]:
        """Taken apart."""
        return self.packet.layers

    @property
    def encapsulated(self) -> bool:
        """Whether an overlay's headers are on it."""
        return any(layer.role == "outer" for layer in self.layers)

    @property
    def network(self) -> Layer:
        """The IP header of the packet itself, inside all tunnels."""
        network, _, _ = carried(self.layers)
        assert network is not None
        return network

    @property
    def fragment_offset(self) -> str:
        """Of the packet itself, in bytes."""
        own = [layer for layer in self.layers if layer.name in ("IPv4", "fragment") and layer.role in ("", "inner")]
        return own[-1].get("fragment offset") or "0" if own else "0"

    @property
    def ttl(self) -> int:
        """TTL or hop limit of the packet itself."""
        return int(self.network.get("ttl") or self.network.get("hop limit"))


@dataclass(slots=True)
class Copies:
    """All copies of the probe's packets."""

    probe: Probe
    found: list[Sighting] = field(default_factory=list)
    _fragmented: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Identity of a packet that came in fragments -> what it is."""
    _segments: list[tuple[Device, bool, list[Layer], int]] = field(default_factory=list)
    """Other packets of TCP, with the device, whether they left by it, and their length."""

    def collect(self, sniffers: Iterable[tuple[Device, Sniffer]]) -> None:
        """Take what the sniffers got. Called once, when nothing more is to come."""
        loose: list[tuple[Device, Frame, bytes, list[Layer]]] = []
        for device, sniffer in sniffers:
            for frame in sniffer.frames():
                for data in _datagrams(frame):
                    layers = dissect(data, "ethernet" if frame.ethernet else "ip")
                    kind = self.probe.kind(layers, data)
                    if kind:
                        self._note_fragment(layers, kind)
                        self.found.append(_sighting(device, frame, data, layers, kind))
                    elif _fragment_of(layers) is not None:
                        loose.append((device, frame, data, layers))
                    elif self.probe.protocol == "tcp":
                        self._segments.append((device, frame.outgoing, layers, len(data)))
        for device, frame, data, layers in loose:
            identity = _fragment_of(layers)
            if identity in self._fragmented:
                kind = f"{FRAGMENT} of {self._fragmented[identity]}"
                self.found.append(_sighting(device, frame, data, layers, kind))
        self.found.sort(key=lambda sighting: sighting.time_ns)

    def pieces(self, sighting: Sighting) -> list[dict[str, int]]:
        """The segments of TCP as which a packet passed a device, if they were several: length and offset of each."""
        network, tcp, start = carried(sighting.layers)
        if tcp is None or tcp.name != "TCP" or network is None or sighting.packet.gso_type:
            return []
        first = int(tcp["seq"])
        found = {0: sighting.packet.length - start}
        for device, outgoing, layers, length in self._segments:
            if (device.key, outgoing) == (sighting.device.key, sighting.outgoing):
                other = carried(layers)[1]
                if (
                    other is not None
                    and other.name == "TCP"
                    and (other["from"], other["to"]) == (tcp["from"], tcp["to"])
                ):
                    found.setdefault(int(other["seq"]) - first & 0xFFFFFFFF, length - carried(layers)[2])
        data = {at: length for at, length in sorted(found.items()) if length > 0}
        header_len = start - network.offset
        return [{"len": header_len + length, "offset": at} for at, length in data.items()] if len(data) > 1 else []

    def _note_fragment(self, layers: list[Layer], kind: str) -> None:
        identity = _fragment_of(layers)
        if identity is not None:
            self._fragmented[identity] = kind

    def of(self, kind: str) -> list[Sighting]:
        """Those of one kind, in order of time."""
        return [sighting for sighting in self.found if sighting.kind == kind]


def _datagrams(frame: Frame) -> Iterator[bytes]:
    """The frame; and where it stands for several datagrams of the overlay, each of those behind the first."""
    yield frame.data
    if frame.gso_type == "udp":
        cut = wire_frames(memoryview(frame.data), ETHERNET_LEN if frame.ethernet else 0)
        yield from (bytes(piece) for number, piece in enumerate(cut) if number)


def _sighting(device: Device, frame: Frame, data: bytes, layers: list[Layer], kind: str) -> Sighting:
    packet = Packet(
        "ethernet" if frame.ethernet else "ip",
        data,
        RECORDED,
        gso_type=frame.gso_type,
        gso_size=frame.gso_size,
        checksum_promised=frame.checksum_promised,
        layers=layers,
    )
    return Sighting(device, frame.outgoing, frame.time_ns, packet, kind, _attempt(layers))


def _attempt(layers: list[Layer]) -> str:
    network, transport, _ = carried(layers)
    if network is None:
        return ""
    if transport is not None and transport.name == "TCP":
        return timestamp(transport.get("options"))
    return network.get("id")


def timestamp(options: str) -> str:
    """TCP's time stamp among the options, given in hex; empty when there is none (RFC 7323 3)."""
    data, at = bytes.fromhex(options), 0
    while at < len(data):
        kind = data[at]
        if kind == 8:
            return data[at + 2 : at + 6].hex()
        if kind == 0 or (kind != 1 and at + 1 >= len(data)):
            return ""
        at += 1 if kind == 1 else max(data[at + 1], 2)
    return ""


def _fragment_of(layers: list[Layer]) -> tuple[str, ...] | None:
    """What all fragments of one packet have in common; None for a packet that is whole."""
    found = None
    for layer in layers:
        if layer.role == "quoted":
            break
        if layer.name == "IPv4" and (layer["fragment offset"] != "0" or "MF" in layer["flags"]):
            found = (layer["from"], layer["to"], layer["protocol"], layer["id"])
        elif layer.name == "IPv6":
            ends = (layer["from"], layer["to"])
        elif layer.name == "fragment":
            found = (*ends, layer["next header"], layer["id"])
    return found
