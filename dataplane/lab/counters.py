"""The counters of a lab's nodes: taken twice, they tell what became of what was sent in between."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dataplane.errors import NodeError
from dataplane.lab.view import LabView, NodePlace
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from dataplane.packets.verdicts import Direction, Event, Verdict

Counts = dict[tuple[str, str, str], int]
"""(node, direction or `event`, name of the verdict or event) -> count."""

EVENT = "event"
SETTLE_SECONDS = 0.1
"""Counters that have not moved for so long will not do so any more."""


@dataclass(frozen=True, slots=True)
class Move:
    """A counter that has moved."""

    node: str
    direction: str
    name: str
    by: int

    @property
    def description(self) -> str:
        """What it counts, for people."""
        kind = Event if self.direction == EVENT else Verdict
        return kind[self.name.upper()].description


def counts(view: LabView) -> Counts:
    """All counters of the nodes whose udplane moves packets itself, and answers."""
    return {key: number for node in view.nodes for key, number in _of_node(node)}


def difference(before: Counts, after: Counts) -> list[Move]:
    """What has moved, in the order of nodes and of a packet's way."""
    return [Move(*key, number - before.get(key, 0)) for key, number in after.items() if number != before.get(key, 0)]


def watch(view: LabView, act: Callable[[], None], seconds: float = 1.0) -> list[Move]:
    """Do something, and tell which counters it has moved: those that move within `seconds`, until they are at rest."""
    before = last = counts(view)
    act()
    end = time.monotonic() + seconds
    rest = end
    while (now := time.monotonic()) < rest and now < end:
        fresh = counts(view)
        if fresh != last:
            last, rest = fresh, now + SETTLE_SECONDS
        time.sleep(0.01)
    return difference(before, last)


def _of_node(node: NodePlace) -> Iterator[tuple[tuple[str, str, str], int]]:
    if not node.backend:
        return
    try:
        found = ControlClient(RunDirectory(node.run_dir).control_socket).status()["counters"]
    except NodeError:
        return
    if found is None:
        return
    for direction, of_direction in ((Direction.ENCAP, found["encap"]), (Direction.DECAP, found["decap"])):
        name = direction.name.lower()
        yield (node.name, name, Verdict.FORWARDED.name.lower()), of_direction["packets"]
        for verdict, number in of_direction["drops"].items():
            yield (node.name, name, verdict), number
    for event, number in found["events"].items():
        yield (node.name, EVENT, event), number
