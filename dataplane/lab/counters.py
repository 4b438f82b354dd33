"""Counters of a lab: of the nodes' engines, of the kernels' protocols, and of devices.

Read twice, they tell what became of what was sent in between.

Names are those of the sources: `IpExt.InNoRoutes`, `eth0.rx_dropped`; and of a node's status with `udplane.` in front:
`udplane.encap.drops.no_route`, `udplane.events.icmp_sent`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dataplane.errors import UdplaneError
from dataplane.lab.node_status import ask_status
from dataplane.lab.recording import Counter
from dataplane.lab.view import LabView, NodePlace, Place
from dataplane.packets.verdicts import Event, Verdict

Counts = dict[tuple[str, str], int]
"""Place and name -> value."""

TABLES = ("snmp", "netstat")
"""Below /proc/net: lines in pairs, names and values (Linux Documentation/networking/snmp_counter.rst)."""

UDPLANE = "udplane."
GUARD = "udplane.guard_dropped"

SETTLE_SECONDS = 0.1
"""Counters that have not moved for so long will not do so any more."""


def read(view: LabView) -> Counts:
    """All counters as they are now."""
    return {(place.name, name): value for place in view.places() for name, value in _of(place)}


def read_nodes(view: LabView) -> Counts:
    """Those of the nodes' udplane alone, of each that moves packets itself and answers."""
    return {(node.name, name): value for node in view.nodes if node.backend for name, value in _of_node(node)}


def moved(before: Counts, after: Counts) -> list[Counter]:
    """Those that have another value now. What could not be read before has not moved."""
    return [
        Counter(where, name, before[where, name], value)
        for (where, name), value in after.items()
        if before.get((where, name), value) != value
    ]


def watch(view: LabView, act: Callable[[], None], seconds: float = 1.0) -> list[Counter]:
    """Do something, and tell which counters of nodes it moved: those that do within `seconds`, until they are at rest.

    They are in the order of the nodes and of a packet's way.
    """
    before = last = read_nodes(view)
    act()
    end = time.monotonic() + seconds
    rest = end
    while (now := time.monotonic()) < rest and now < end:
        fresh = read_nodes(view)
        if fresh != last:
            last, rest = fresh, now + SETTLE_SECONDS
        time.sleep(0.01)
    return moved(before, last)


def description(counter: Counter) -> tuple[str, str, str]:
    """What a counter of a node counts: `encap`, `decap` or `event`, its verdict's or event's name, and words for it."""
    if counter.name == GUARD:
        return "guard", "guard_dropped", "kept from the overlay port by a firewall rule"
    direction, _, name = counter.name.removeprefix(UDPLANE).partition(".")
    if direction == "events":
        return "event", name, Event[name.upper()].description
    name = name.rpartition(".")[2] if name != "packets" else Verdict.FORWARDED.name.lower()
    return direction, name, Verdict[name.upper()].description


def _of(place: Place) -> Iterator[tuple[str, int]]:
    with place.namespace.entered():
        for table in TABLES:
            yield from _paired(Path("/proc/thread-self/net", table).read_text().splitlines())
        with contextlib.suppress(OSError):
            for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines():
                name, _, value = line.partition(" ")
                yield name.strip(), int(value)
        yield from _devices(Path("/proc/thread-self/net/dev").read_text().splitlines()[2:])
    if isinstance(place, NodePlace):
        yield from _of_node(place)


def _paired(lines: list[str]) -> Iterator[tuple[str, int]]:
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        prefix, _, listed = names.partition(":")
        for name, value in zip(listed.split(), values.partition(":")[2].split(), strict=False):
            yield f"{prefix}.{name}", int(value)


def _devices(lines: list[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        device, _, listed = line.partition(":")
        values = listed.split()
        for name, at in (
            ("rx_errors", 2),
            ("rx_dropped", 3),
            ("tx_errors", 10),
            ("tx_dropped", 11),
            ("tx_carrier", 14),
        ):
            yield f"{device.strip()}.{name}", int(values[at])


def _of_node(node: NodePlace) -> Iterator[tuple[str, int]]:
    try:
        status = ask_status(node)
    except (UdplaneError, OSError):
        return  # it does not run
    counters = status["counters"]
    if counters is None:
        return
    for name, direction in (("encap", counters["encap"]), ("decap", counters["decap"])):
        yield f"{UDPLANE}{name}.packets", direction["packets"]
        for reason, count in direction["drops"].items():
            yield f"{UDPLANE}{name}.drops.{reason}", count
    for event, count in counters["events"].items():
        yield f"{UDPLANE}events.{event}", count
    yield GUARD, status["firewall"]["guard_dropped"]
