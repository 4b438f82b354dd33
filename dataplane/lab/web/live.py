"""Counters of a standing lab, read at once: every device of every place, and what each node's udplane has counted."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dataplane.errors import UdplaneError
from dataplane.lab.node_status import ask_status
from dataplane.lab.view import LabView, NodePlace, Place

RECEIVED, SENT = 0, 8
"""Where the eight columns of each direction begin in /proc/net/dev: bytes, packets, errors, drops ..."""


def snapshot(view: LabView) -> dict[str, Any]:
    """Counts since each device and each node began.

    `links` has for each `place/device` its bytes, packets and drops each way; `nodes` the counters of udplane, None for
    a node that does not answer.
    """
    links: dict[str, dict[str, int]] = {}
    for place in view.places():
        links |= {f"{place.name}/{device}": counts for device, counts in devices(place).items()}
    return {"time": time.monotonic(), "links": links, "nodes": {node.name: node_counters(node) for node in view.nodes}}


def devices(place: Place) -> dict[str, dict[str, int]]:
    """The counts of each device of a namespace; none for one that is gone."""
    with suppress(OSError), place.namespace.entered():
        return parse_devices(Path("/proc/thread-self/net/dev").read_text())
    return {}


def parse_devices(text: str) -> dict[str, dict[str, int]]:
    """What /proc/net/dev says of each device but the loopback."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(number) for number in rest.split()]
        if name.strip() != "lo" and len(numbers) > SENT + 3:
            rx, tx = numbers[RECEIVED : RECEIVED + 4], numbers[SENT : SENT + 4]
            found[name.strip()] = {
                "rx_bytes": rx[0], "rx_packets": rx[1], "rx_drops": rx[3],
                "tx_bytes": tx[0], "tx_packets": tx[1], "tx_drops": tx[3],
            }  # fmt: skip
    return found


def node_counters(node: NodePlace) -> dict[str, Any] | None:
    """What the node's udplane has counted; None where none answers or none is in the way of packets."""
    try:
        counters = ask_status(node)["counters"]
    except (UdplaneError, OSError):
        return None
    return dict(counters) if counters else None
