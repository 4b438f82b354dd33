"""The sightings of one packet, put in the order in which it went from device to device.

Which sighting follows another is known from how devices are joined: what leaves by one end of a wire comes in by the
other; what comes in by a port of a bridge goes up to the host or out by another port; what a TUN takes out of the
kernel comes back in a datagram. Where a packet could have gone several ways, or passes a device again, as in a loop,
the earliest copy that is left is the next one: the machine has one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dataplane.lab.walking.sightings import Sighting
from dataplane.lab.walking.survey import Survey

TOLD = 3
"""Turns of a loop that are told one by one."""


def follow(survey: Survey, sightings: Sequence[Sighting]) -> list[Sighting]:
    """The way of a packet from its first sighting on; `sightings` are in order of time."""
    left = list(sightings)
    way: list[Sighting] = []
    while left:
        current = left.pop(0) if not way else way[-1]
        if not way:
            way.append(current)
        following = _next(survey, current, left)
        if following is None:
            break
        left.remove(following)
        way.append(following)
    return way


@dataclass(frozen=True, slots=True)
class Loop:
    """Turns of a packet on one and the same way that are not told one by one."""

    turns: int
    skipped: Sequence[Sighting]
    """The sightings in them."""

    @property
    def devices(self) -> list[str]:
        """The places that each turn comes by, in order."""
        places = [sighting.device.where for sighting in self.skipped[: len(self.skipped) // self.turns]]
        return [where for number, where in enumerate(places) if number == 0 or places[number - 1] != where]


def fold(way: Sequence[Sighting]) -> tuple[list[Sighting], dict[int, Loop]]:
    """A way with only the first and the last turn of a loop in it, and what was left out before which of its sightings.

    A turn is the same devices in the same order as before. Up to `TOLD` turns are told in full.
    """
    points = [(sighting.device.key, sighting.outgoing, sighting.encapsulated) for sighting in way]
    for start, point in enumerate(points):
        if point not in points[start + 1 :]:
            continue
        length = points.index(point, start + 1) - start
        turns = 1
        while points[start + turns * length : start + (turns + 1) * length] == points[start : start + length]:
            turns += 1
        if turns > TOLD:
            first, last = start + length, start + (turns - 1) * length
            return [*way[:first], *way[last:]], {first: Loop(turns - 2, way[first:last])}
    return list(way), {}


def attempts(sightings: Sequence[Sighting]) -> list[list[Sighting]]:
    """The sightings apart by attempt: what was sent again is another packet with the same content.

    A copy that was rewritten on its way keeps what an attempt is known by.
    """
    by_attempt: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        by_attempt.setdefault(sighting.attempt, []).append(sighting)
    return list(by_attempt.values())


def _next(survey: Survey, current: Sighting, left: Sequence[Sighting]) -> Sighting | None:
    """The sighting that follows `current`, if any."""
    device = current.device
    if current.outgoing and device.key in survey.wires:
        other = survey.wires[device.key]
        return _first(left, lambda s: not s.outgoing and s.device.key == other)
    here = [s for s in left if s.device.where == device.where]
    if device.overlay:
        return _from_overlay(current, here)
    if device.kind == "bridge" and current.outgoing:
        return _out_by_a_port(survey, here, device.name)
    if device.master and not current.outgoing:
        up = _first(here, lambda s: not s.outgoing and s.device.name == device.master)
        # Fragments may have been joined in between, and go on as fragments from the next device.
        return up or _out_by_a_port(survey, here, device.master) or _forwarded(current, here)
    return _forwarded(current, here)


def _from_overlay(current: Sighting, here: Sequence[Sighting]) -> Sighting | None:
    """What left by a TUN or VXLAN device goes out in a datagram; what came in by one is routed on."""
    if not current.outgoing:
        return _forwarded(current, here)
    return _first(here, lambda s: s.outgoing and s.encapsulated) or _first(
        here, lambda s: not s.outgoing and s.device == current.device
    )


def _out_by_a_port(survey: Survey, here: Sequence[Sighting], bridge: str) -> Sighting | None:
    """The copy by the port that leads to whom the frame is for; a bridge that does not know sends one by each port."""
    return _first(here, lambda s: s.outgoing and s.device.master == bridge and _leads_there(survey, s))


def _leads_there(survey: Survey, sighting: Sighting) -> bool:
    """Whether a port's wire ends at the device that the frame is for, or at another bridge."""
    other = survey.devices.get(survey.wires.get(sighting.device.key, ("", "")))
    return other is None or bool(other.master) or other.mac == sighting.layers[0].get("to")


def _forwarded(current: Sighting, here: Sequence[Sighting]) -> Sighting | None:
    """What came in by a device is taken out of its datagram, or is routed on."""
    if current.outgoing:
        return None
    if current.encapsulated:
        inside = _first(here, lambda s: not s.outgoing and bool(s.device.overlay))
        if inside is not None:
            return inside
    return _first(here, lambda s: s.outgoing and s.device.overlay != "" and not current.encapsulated) or _first(
        here, lambda s: s.outgoing and s.encapsulated == current.encapsulated
    )


def _first(sightings: Sequence[Sighting], wanted: Callable[[Sighting], bool]) -> Sighting | None:
    return next((sighting for sighting in sightings if wanted(sighting)), None)
