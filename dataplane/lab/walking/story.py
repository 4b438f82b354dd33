"""Steps of a leg: the sightings, and between two of them the places where something was decided."""

from __future__ import annotations

from itertools import pairwise

from dataplane.lab.recording import ANSWERED, ARRIVED, Leg, Step, compare
from dataplane.lab.walking import devices, ends, inside
from dataplane.lab.walking.ends import End
from dataplane.lab.walking.probes import ERROR
from dataplane.lab.walking.scene import Scene, headers, inner, payload
from dataplane.lab.walking.sightings import Sighting
from dataplane.lab.walking.sockets import see_socket
from dataplane.lab.walking.way import Loop, fold


class Teller:
    """Makes the steps of one leg from its way."""

    def __init__(self, scene: Scene, leg: Leg, way: list[Sighting], start_ns: int) -> None:
        """`start_ns` is the time from which steps are counted."""
        self._scene, self._leg, self._way, self._start_ns = scene, leg, way, start_ns
        self.steps: list[Step] = []
        self.end = End()
        """How the leg ended."""

    def tell(self) -> None:
        """Make all steps; `steps` and `end` have them."""
        way, loops = fold(self._way)
        if way:
            self.steps += self._beginning(way[0])
            self.steps.append(self._seen(None, way[0]))
            for number, (before, after) in enumerate(pairwise(way), 1):
                last = before
                if number in loops:
                    last = loops[number].skipped[-1]
                    self.steps.append(self._looped(loops[number], before))
                self.steps += inside.between(self._scene, self._leg.id, last, after)
                self.steps.append(self._seen(last, after))
            self._finish(way[-1])
        for before_step, step in pairwise(self.steps):
            step.changed, step.added, step.removed = compare(before_step.packet, step.packet)

    def _beginning(self, first: Sighting) -> list[Step]:
        """Who made the packet, before the first device."""
        scene, where, leg = self._scene, first.device.where, self._leg.id
        if self._leg.kind == ERROR:
            return self._error_made(first)
        if not first.outgoing:
            return []
        link, data = payload(first.packet)
        protocol, network = scene.probe.protocol, first.network
        size = scene.probe.size if self._leg.kind == "request" and protocol == "tcp" else len(data)
        args = {"where": where, "to": network["to"], "len": size, "ttl": first.ttl}
        kernel_answers = self._leg.kind == "reply" and protocol == "icmp"
        say = f"socket.{'answer' if self._leg.kind == 'reply' else 'send'}.{protocol}"
        by = "kernel" if kernel_answers else "program"
        socket = Step(leg, where, "socket", headers(data, link), say, by, args=args)
        return [socket, *inside.origin(scene, leg, first)]

    def _error_made(self, first: Sighting) -> list[Step]:
        """Where an ICMP error was made: by the engine, which writes it into the TUN, or by a kernel."""
        where, network = first.device.where, first.network
        by_engine = first.device.overlay == "tun" and not first.outgoing
        args = {"from": network["from"], "to": network["to"], "type": _icmp_type(first), "where": where}
        place, by = ("engine", "engine") if by_engine else ("host", "kernel")
        say = "error.engine" if by_engine else "error.kernel"
        step = Step(self._leg.id, where, place, headers(inner(first.packet)), say, by, args=args)
        step.counters = self._scene.counters(where, "udplane.events.icmp_sent") if by_engine else []
        return [step]

    def _looped(self, loop: Loop, before: Sighting) -> Step:
        """Turns that are not told: one step for all, with the packet as it was at the end of them."""
        last = loop.skipped[-1]
        step = Step(self._leg.id, last.device.where, self._scene.place_of(last), last.packet, "loop", "wire")
        step.args = {"turns": loop.turns, "by": loop.devices, "before": before.ttl, "after": last.ttl}
        step.time_us = round((last.time_ns - self._start_ns) / 1000, 1)
        return step

    def _seen(self, before: Sighting | None, sighting: Sighting) -> Step:
        """The packet at a device."""
        step = devices.seen(self._scene, self._leg.id, before, sighting)
        step.time_us = round((sighting.time_ns - self._start_ns) / 1000, 1)
        step.segments = self._scene.copies.pieces(sighting)
        return step

    def _finish(self, last: Sighting) -> None:
        """The program that gets it, or why nobody does."""
        scene, where = self._scene, last.device.where
        network = last.network
        # A masquerading router has the address of its clients' packets, and still passes answers on.
        home = scene.source.name if self._leg.kind in ("reply", ERROR) else scene.survey.owner(network["to"])
        wanted = not last.outgoing and not last.encapsulated and home == where
        if not wanted:
            steps, self.end = ends.find(scene, self._leg.id, last)
            self.steps += steps
            if self.end.verdict == "lost" and scene.answered and self._leg.id in ("request", "reply"):
                self.end.verdict, steps[-1].say = "unseen", "died.unseen"
        else:
            steps, self.end = ends.at_destination(scene, self._leg.id, last)
            self.steps += steps
            if not self.end.verdict:
                self.steps.append(self._received(last))
        if self.end.verdict and self.steps:
            self.steps[-1].verdict = self.end.verdict
            self.end.where, self.end.place = self.steps[-1].where, self.steps[-1].place

    def _received(self, last: Sighting) -> Step:
        link, data = payload(last.packet)
        where, kind, protocol = last.device.where, self._leg.kind, self._scene.probe.protocol
        say = "socket.error" if kind == ERROR else f"socket.got.{'answer.' if kind == 'reply' else ''}{protocol}"
        args = {
            "where": where,
            "from": last.network["from"],
            "ttl": last.ttl,
            "len": len(data),
            "type": _icmp_type(last),
        }
        step = Step(self._leg.id, where, "socket", headers(data, link), say, "kernel", args=args)
        port = next((layer.get("to") for layer in last.layers if layer.name in ("UDP", "TCP")), "")
        if port and kind != ERROR:
            step.see = [see_socket(self._scene.looks, where, protocol, port)]
        step.verdict = ARRIVED if kind == "request" else ANSWERED
        return step


def _icmp_type(sighting: Sighting) -> str:
    layers = [layer for layer in sighting.layers if layer.name.startswith("ICMP") and layer.role != "quoted"]
    return layers[-1].get("type") if layers else ""
