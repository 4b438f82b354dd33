"""Counters before and after a walk: of the nodes' engines, of the kernel's protocols, and of the devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dataplane.errors import UdplaneError
from dataplane.lab.recording import Counter
from dataplane.lab.view import LabView, NodePlace, Place
from dataplane.lab.walking.engine import ask_status
from dataplane.node.document import StatusDocument

Counts = dict[tuple[str, str], int]
"""Place and name -> value."""

TABLES = ("snmp", "netstat")
"""Below /proc/net: lines in pairs, names and values (Linux Documentation/networking/snmp_counter.rst)."""


def read(view: LabView) -> Counts:
    """All counters as they are now."""
    counts: Counts = {}
    for place in view.places():
        for name, value in _of(place):
            counts[place.name, name] = value
    return counts


def moved(before: Counts, after: Counts) -> list[Counter]:
    """Those that have another value now."""
    return [
        Counter(where, name, before[where, name], value)
        for (where, name), value in after.items()
        if before.get((where, name), value) != value
    ]


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
        with contextlib.suppress(UdplaneError, OSError):
            yield from _of_engine(ask_status(place))


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


def _of_engine(status: StatusDocument) -> Iterator[tuple[str, int]]:
    counters = status["counters"]
    if counters is None:
        return
    for name, direction in (("encap", counters["encap"]), ("decap", counters["decap"])):
        yield f"udplane.{name}.packets", direction["packets"]
        for reason, count in direction["drops"].items():
            yield f"udplane.{name}.drops.{reason}", count
    for event, count in counters["events"].items():
        yield f"udplane.events.{event}", count
    yield "udplane.guard_dropped", status["firewall"]["guard_dropped"]
