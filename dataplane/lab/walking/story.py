"""Steps of a leg: the sightings, and between two of them the places where something was decided."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from dataplane.addresses import Address
from dataplane.lab.recording import RECOMPUTED, Leg, Packet, Step, compare
from dataplane.lab.view import LabView, NodePlace, Place, PodPlace, SegmentPlace
from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.probes import Probe, carried
from dataplane.lab.walking.sightings import Sighting
from dataplane.lab.walking.survey import Survey
from dataplane.packets.packet import change_ttl


@dataclass(slots=True)
class Scene:
    """What a walk happens in."""

    view: LabView
    survey: Survey
    looks: Looks
    source: Place
    target: Place | None
    destination: Address
    probe: Probe


def tell(scene: Scene, leg: Leg, way: list[Sighting], start_ns: int) -> list[Step]:
    """The steps of one leg, each compared with the one before."""
    steps: list[Step] = []
    if way:
        steps += _beginning(scene, leg, way[0])
        steps.append(_seen(scene, leg, way[0], start_ns))
        for before, after in pairwise(way):
            steps += _between(leg, before, after)
            steps.append(_seen(scene, leg, after, start_ns))
        steps += _end(scene, leg, way[-1])
    for before_step, step in pairwise(steps):
        step.changed, step.added, step.removed = compare(before_step.packet, step.packet)
    return steps


def bare(packet: Packet) -> bytes:
    """A packet without the headers of its link."""
    return packet.data[14:] if packet.link == "ethernet" else packet.data


def inner(packet: Packet) -> bytes:
    """The packet inside all tunnels."""
    network, _, _ = carried(packet.layers)
    assert network is not None
    return packet.data[network.offset :]


def payload(packet: Packet) -> tuple[str, bytes]:
    """What a program sees of a packet: the kind of its first byte and the bytes."""
    _, transport, start = carried(packet.layers)
    if transport is not None and transport.name.startswith("ICMP"):
        return transport.name.lower(), packet.data[transport.offset :]
    return "data", packet.data[start:]


def lowered(data: bytes) -> bytes:
    """An IP packet after a router has lowered its TTL."""
    copy = bytearray(data)
    change_ttl(memoryview(copy), -1)
    return bytes(copy)


def _beginning(scene: Scene, leg: Leg, first: Sighting) -> list[Step]:
    """A program and the host's route, before the first device."""
    where = first.device.where
    if not first.outgoing:
        return []
    link, data = payload(first.packet)
    return [
        Step(leg.id, where, "socket", Packet(link, data, RECOMPUTED), f"socket.send.{scene.probe.protocol}", "program"),
        Step(leg.id, where, "route", Packet("ip", bare(first.packet), RECOMPUTED), "route.origin", "route"),
    ]


def _seen(scene: Scene, leg: Leg, sighting: Sighting, start_ns: int) -> Step:
    device = sighting.device
    direction = "out" if sighting.outgoing else "in"
    place = place_of(scene, sighting)
    step = Step(leg.id, device.where, place, sighting.packet, f"{place}.{direction}", "wire")
    step.device, step.direction = device.name, direction
    step.time_us = round((sighting.time_ns - start_ns) / 1000, 1)
    return step


def place_of(scene: Scene, sighting: Sighting) -> str:
    """Which kind of place a device is."""
    device, place = sighting.device, scene.view.find(sighting.device.where)
    if device.overlay:
        return "tunnel"
    if device.kind == "bridge":
        return "bridge"
    if isinstance(place, SegmentPlace):
        return "wire"
    if isinstance(place, PodPlace):
        return "eth0"
    if isinstance(place, NodePlace):
        return "veth" if device.master else "underlay"
    return "host"


def _between(leg: Leg, before: Sighting, after: Sighting) -> list[Step]:
    """What happened inside a host between two of its devices."""
    where = before.device.where
    if where != after.device.where:
        return []
    if after.encapsulated and not before.encapsulated:
        return [
            Step(leg.id, where, "engine", Packet("ip", inner(after.packet), RECOMPUTED), "engine.encap", "engine"),
            Step(leg.id, where, "udp", Packet("ip", bare(after.packet), RECOMPUTED), "udp.send", "socket"),
        ]
    if before.encapsulated and not after.encapsulated:
        return [
            Step(leg.id, where, "udp", Packet("ip", bare(before.packet), RECOMPUTED), "udp.receive", "socket"),
            Step(leg.id, where, "engine", Packet("ip", bare(after.packet), RECOMPUTED), "engine.decap", "engine"),
        ]
    if after.ttl == before.ttl - 1:
        return [
            Step(
                leg.id, where, "route", Packet("ip", lowered(bare(before.packet)), RECOMPUTED), "route.forward", "route"
            )
        ]
    return []


def _end(scene: Scene, leg: Leg, last: Sighting) -> list[Step]:
    """The program that gets it."""
    where = last.device.where
    if last.outgoing or where not in ((scene.target.name if scene.target else ""), scene.source.name):
        return []
    link, data = payload(last.packet)
    step = Step(leg.id, where, "socket", Packet(link, data, RECOMPUTED), "socket.receive", "kernel")
    step.verdict = "answered" if where == scene.source.name else "arrived"
    return [step]
