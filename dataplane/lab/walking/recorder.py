"""Records a walk: sniffers at every device, one packet, and the story of what they saw."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from dataplane.addresses import Address
from dataplane.forwarding.udp import DEFAULT_PORT
from dataplane.lab import counters
from dataplane.lab.dissect import VXLAN_PORTS
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Leg, Outcome, Recording, Step, Walk
from dataplane.lab.sniff import Sniffer, wait_for_time_stamps
from dataplane.lab.view import LabView, Place
from dataplane.lab.walking import ends
from dataplane.lab.walking.given import GivenProbe
from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.netfilter import Tracer
from dataplane.lab.walking.probes import ERROR, FRAGMENT, PROBES, REPLY, REQUEST, Sent, Wish
from dataplane.lab.walking.scene import STATUS, Scene, status_command
from dataplane.lab.walking.sightings import Copies, Sighting
from dataplane.lab.walking.story import Teller
from dataplane.lab.walking.survey import Key, ask_json, survey
from dataplane.lab.walking.way import attempts, follow

COUNTING_SECONDS = 0.5
"""How long a counter may take to move after a packet's death."""

_ICMP_ERROR = re.compile(r"\bicmp(v6)? type (destination-unreachable|time-exceeded|packet-too-big|parameter-problem)\b")


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
    packet: bytes = b""
    """A packet of somebody's own in the place of all that."""
    file: str = ""
    """Where that came from."""

    def command(self) -> str:
        """The command line that asks for it."""
        words = ["udplane", "lab", "walk", self.source, self.target]
        words += ["--proto", self.protocol] if self.protocol != "icmp" else []
        words += ["--size", str(self.size)] if self.size != 56 else []
        words += ["--family", str(self.family)] if self.family else []
        words += ["--ttl", str(self.ttl)] if self.ttl != 64 else []
        words += ["--from-file", self.file] if self.file else []
        return " ".join(words + (["--port", str(self.port)] if self.port else []))


def record(view: LabView, ask: Ask) -> Recording:
    """Send one packet as `ask` says, and record its way and that of its answer. Raises LabError."""
    source = view.find(ask.source)
    target, destination = _target(view, source, ask)
    if not ask.packet:
        _refuse_what_has_no_way(source, destination)
    found = survey(view)
    answers = target.namespace if target else None
    wish = Wish(source.namespace, answers, destination, ask.size, ask.ttl, ask.port, ask.timeout)
    with ExitStack() as stack:
        given = GivenProbe(source, ask.packet, ask.timeout) if ask.packet else None
        probe = stack.enter_context(given or PROBES[ask.protocol](wish))
        outer = f"udp dport {{ {', '.join(map(str, (DEFAULT_PORT, *VXLAN_PORTS)))} }}"
        tracer = stack.enter_context(Tracer(view, [*probe.matches(), outer]))
        copies = Copies(probe)
        scene = Scene(view, found, Looks(view), source, target, destination, probe, tracer, copies)
        before = counters.read(view)
        devices = found.devices.values()
        sniffers = [(device, stack.enter_context(_sniffer(view, device.key))) for device in devices]
        wait_for_time_stamps(source.namespace)
        sent = probe.send()
        copies.collect(sniffers)
        pool = stack.enter_context(ThreadPoolExecutor())
        for node in view.nodes:
            if node.backend == "udp":
                scene.looks.begin(pool, node.name, STATUS, status_command(node))
        tracer.collect()
        scene.survey = survey(view)
        scene.refused = bool(sent.refused) and not sent.answered
        scene.answered = sent.answered
        walk = _Walker(scene, sent, ask, before).walk()
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


def _refuse_what_has_no_way(source: Place, destination: Address) -> None:
    """Raise LabError for a packet that stays on its host, and for one to many receivers: neither has one way."""
    family = "-6" if destination.version == 6 else "-4"
    found = ask_json(source.namespace, ["ip", family, "-json", "-details", "route", "get", str(destination)])
    kind = found[0].get("type") if found else ""
    if kind == "local" or destination.is_unspecified or destination.is_loopback:
        raise LabError(f"{destination} is {source.name} itself: such a packet passes no device; name another place")
    if kind == "broadcast" or destination.is_multicast:
        raise LabError(f"{destination} stands for many receivers; a walk follows a packet to one")


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


class _Walker:
    """Puts the legs of a walk together."""

    def __init__(self, scene: Scene, sent: Sent, ask: Ask, before: counters.Counts) -> None:
        self._scene, self._sent, self._ask, self._before = scene, sent, ask, before
        found = scene.copies.found
        self._start_ns = found[0].time_ns if found else 0
        self._legs: list[Leg] = []
        self._steps: list[Step] = []
        self._ends: dict[str, ends.End] = {}

    def walk(self) -> Walk:
        """Tell all legs, again until the counter of a death has moved, and say how it ended."""
        deadline = time.monotonic() + COUNTING_SECONDS
        while True:
            self._scene.moved = counters.moved(self._before, counters.read(self._scene.view))
            self._tell()
            if not self._waits_for_a_counter() or time.monotonic() > deadline:
                break
        return Walk("1", self._ask.command(), self._legs, self._steps, self._outcome())

    def _tell(self) -> None:
        self._legs, self._steps, self._ends = [], [], {}
        copies = self._scene.copies
        request = follow(self._scene.survey, _best(copies.of(REQUEST)))
        if request:
            self._leg(Leg(REQUEST, REQUEST), request)
        else:
            self._legs.append(Leg(REQUEST, REQUEST))
            steps, end = ends.at_source(self._scene, REQUEST, self._sent.error)
            steps[-1].verdict, end.where, end.place = end.verdict, steps[-1].where, steps[-1].place
            self._steps += steps
            self._ends[REQUEST] = end
        for kind in (REPLY, ERROR):
            way = follow(self._scene.survey, _best(copies.of(kind)))
            if way:
                self._leg(Leg(kind, kind, REQUEST), way)
        self._tell_fragments()
        self._show_errors_that_were_dropped()

    def _tell_fragments(self) -> None:
        """Each further fragment of a packet is a branch of its own."""
        for kind in (REQUEST, REPLY):
            by_offset: dict[str, list[Sighting]] = {}
            for sighting in self._scene.copies.of(f"{FRAGMENT} of {kind}"):
                by_offset.setdefault(sighting.fragment_offset, []).append(sighting)
            for number, (_, sightings) in enumerate(sorted(by_offset.items(), key=lambda item: int(item[0])), 2):
                self._leg(Leg(f"{kind}-fragment-{number}", FRAGMENT, kind), follow(self._scene.survey, sightings))

    def _show_errors_that_were_dropped(self) -> None:
        """Beside a death: what a firewall of that host did to the ICMP error about it, which nobody else has seen."""
        step = [step for step in self._steps if step.leg == REQUEST][-1]
        if not self._ends[REQUEST].verdict or self._scene.copies.of(ERROR):
            return
        for passage in self._scene.tracer.passages:
            if passage.where == step.where and passage.verdict == "drop" and _ICMP_ERROR.search(passage.packet):
                trace = [passage.packet, *(f"{passage.name} {rule} (verdict {v})" for rule, v in passage.events)]
                step.see.append(self._scene.looks.add(step.where, "nft monitor trace", "\n".join(trace)))

    def _leg(self, leg: Leg, way: list[Sighting]) -> None:
        teller = Teller(self._scene, leg, way, self._start_ns)
        teller.tell()
        self._legs.append(leg)
        self._steps += teller.steps
        self._ends[leg.id] = teller.end

    def _waits_for_a_counter(self) -> bool:
        """Whether a leg died of something that is counted, and the counter has not moved yet."""
        return any(
            not step.counters and (step.verdict in ends.COUNTERS or step.place == "engine")
            for step in self._steps
            if self._ends[step.leg].verdict and step.verdict
        )

    def _outcome(self) -> Outcome:
        rtt = round(self._sent.rtt * 1e6, 1) if self._sent.answered else None
        if self._sent.answered:
            return Outcome("answered", rtt_us=rtt)
        for kind in (REPLY, REQUEST):
            end = self._ends.get(kind)
            if end is not None and end.verdict:
                step = [step for step in self._steps if step.leg == kind][-1]
                counter = step.counters[0] if step.counters else None
                reason = f"died.{end.verdict}"
                return Outcome("died", end.where, end.place, end.verdict, reason, end.args, counter)
        return Outcome("arrived")


def _best(sightings: list[Sighting]) -> list[Sighting]:
    """Of several attempts the one that was seen at most places, and of those the first."""
    return max(attempts(sightings), key=len, default=[])
