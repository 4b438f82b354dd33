"""Records a walk: sniffers at every device, one packet, and the story of what they saw."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from dataplane.addresses import Address
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Leg, Outcome, Recording, Step, Walk
from dataplane.lab.sniff import Sniffer, wait_for_time_stamps
from dataplane.lab.view import LabView, Place
from dataplane.lab.walking import story
from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.probes import ERROR, PROBES, REPLY, REQUEST, Sent, Wish
from dataplane.lab.walking.sightings import Copies, Sighting
from dataplane.lab.walking.story import Scene
from dataplane.lab.walking.survey import Key, survey
from dataplane.lab.walking.way import attempts, follow


@dataclass(frozen=True, slots=True)
class Ask:
    """What a walk is to follow."""

    source: str
    target: str
    """Name of a place, or an address."""
    protocol: str = "icmp"
    size: int = 56
    family: int = 0
    """4 or 6; 0: 4 where both have it."""
    ttl: int = 64
    port: int = 0
    timeout: float = 1.0

    def command(self) -> str:
        """The command line that asks for it."""
        words = ["udplane", "lab", "walk", self.source, self.target]
        words += ["--proto", self.protocol] if self.protocol != "icmp" else []
        words += ["--size", str(self.size)] if self.size != 56 else []
        words += ["--family", str(self.family)] if self.family else []
        words += ["--ttl", str(self.ttl)] if self.ttl != 64 else []
        return " ".join(words + (["--port", str(self.port)] if self.port else []))


def record(view: LabView, ask: Ask) -> Recording:
    """Send one packet as `ask` says, and record its way and that of its answer. Raises LabError."""
    source = view.find(ask.source)
    target, destination = _target(view, source, ask)
    found = survey(view)
    wish = Wish(
        source.namespace, target.namespace if target else None, destination, ask.size, ask.ttl, ask.port, ask.timeout
    )
    with ExitStack() as stack:
        probe = stack.enter_context(PROBES[ask.protocol](wish))
        scene = Scene(view, found, Looks(view), source, target, destination, probe)
        sniffers = [(device, stack.enter_context(_sniffer(view, device.key))) for device in found.devices.values()]
        wait_for_time_stamps(source.namespace)
        sent = probe.send()
        copies = Copies(probe)
        copies.collect(sniffers)
        walk = _walk(scene, copies, sent, ask)
    return Recording(lab_document(view), scene.looks.see, [walk])


def _sniffer(view: LabView, key: Key) -> Sniffer:
    return Sniffer(view.find(key[0]).namespace, key[1], offloads=True)


def _target(view: LabView, source: Place, ask: Ask) -> tuple[Place | None, Address]:
    """The place that is to answer, if it is one of this lab, and its address."""
    try:
        address = ip_address(ask.target)
    except ValueError:
        place = view.find(ask.target)
        return place, place.address(ask.family or _family(source, place))
    for place in view.places():
        if address in [interface.ip for interface in place.interfaces]:
            return place, address
    return None, address


def _family(source: Place, target: Place) -> int:
    both = {interface.version for interface in source.interfaces} & {i.version for i in target.interfaces}
    if not both:
        raise LabError(f"{source.name} and {target.name} have no address of the same IP version")
    return min(both)


def lab_document(view: LabView) -> dict[str, Any]:
    """The lab as a recording tells of it: without directories of this machine."""
    document = asdict(view)
    del document["directory"], document["store"]
    for node in document["nodes"]:
        del node["directory"]
    return document


def _walk(scene: Scene, copies: Copies, sent: Sent, ask: Ask) -> Walk:
    legs: list[Leg] = []
    steps: list[Step] = []
    start_ns = copies.found[0].time_ns if copies.found else 0
    for kind in (REQUEST, REPLY, ERROR):
        way = follow(scene.survey, _best(copies.of(kind)))
        if way or kind == REQUEST:
            leg = Leg(kind, kind, "" if kind == REQUEST else REQUEST)
            legs.append(leg)
            steps += story.tell(scene, leg, way, start_ns)
    outcome = Outcome("answered" if sent.answered else "died", rtt_us=round(sent.rtt * 1e6, 1))
    return Walk("1", ask.command(), legs, steps, outcome)


def _best(sightings: list[Sighting]) -> list[Sighting]:
    """Of several attempts the one that was seen at most places, and of those the first."""
    return max(attempts(sightings), key=len, default=[])
