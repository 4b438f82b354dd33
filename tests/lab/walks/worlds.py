"""Labs for walks: two nodes with two pods each, by backend and engine; UDPLANE_WALKS=all walks every way in each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataplane.lab.overlay import NETWORK_CONFIG, Overlay
from dataplane.lab.overlay_view import view_of
from dataplane.lab.recording import Recording, Step, Walk
from dataplane.lab.topology import Lab, Node, Pod
from dataplane.lab.view import LabView
from dataplane.lab.walking.recorder import Ask, record

ALL = os.environ.get("UDPLANE_WALKS") == "all"

WORLDS = ("udp-native", "udp-numpy", "udp-python", "vxlan", "host-gw")
PROTOCOLS = ("icmp", "tcp", "udp")
FAMILIES = (4, 6)

SIZES = {"icmp": 56, "udp": 100, "tcp": 8000}
"""Bytes of payload; those of TCP make a super-packet."""

MAIN_DIRECTION = "request"


@dataclass(frozen=True, slots=True)
class World:
    """A lab that stands, as tests break it and walk in it."""

    name: str
    lab: Lab
    overlay: Overlay
    view: LabView

    @property
    def backend(self) -> str:
        """udp, vxlan or host-gw."""
        return "udp" if self.name.startswith("udp") else self.name

    @property
    def nodes(self) -> tuple[Node, Node]:
        """node1 and node2."""
        one, two = self.lab.nodes
        return one, two

    @property
    def ends(self) -> tuple[Pod, Pod]:
        """pod1 on node1 and pod4 on node2."""
        one, two = self.nodes
        return one.pods[0], two.pods[1]

    def record(self, protocol: str = "icmp", family: int = 4, *, to: str = "pod4", **options: int | float) -> Recording:
        """A walk from pod1 to pod4."""
        size = int(options.pop("size", SIZES[protocol]))
        return record(self.view, Ask("pod1", to, protocol, size, family, **options))  # type: ignore[arg-type]

    def walk(self, protocol: str = "icmp", family: int = 4, *, to: str = "pod4", **options: int | float) -> Walk:
        """The same, without what commands have printed."""
        (walk,) = self.record(protocol, family, to=to, **options).walks
        return walk


@contextmanager
def world(name: str, directory: Path) -> Iterator[World]:
    """Make one, with what it keeps in `directory`."""
    backend, _, engine = name.partition("-") if name.startswith("udp") else (name, "", "native")
    network = {**NETWORK_CONFIG, "Backend": {"Type": backend}}
    prefix = f"udp{os.getpid()}-{name}-"
    with Lab(prefix=prefix) as lab, Overlay(lab, directory, engine=engine, network=network) as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up()
        yield World(name, lab, overlay, view_of(lab, overlay, backend=backend, engine=engine))


def places(walk: Walk, leg: str = MAIN_DIRECTION) -> list[tuple[str, str]]:
    """Where a leg came by, in order."""
    return [(step.where, step.place) for step in walk.steps_of(leg)]


def last(walk: Walk, leg: str = MAIN_DIRECTION) -> Step:
    """The step at which a leg ended."""
    return walk.steps_of(leg)[-1]
