"""`udplane stats`: rates and totals, again and again, like top.

On a terminal the screen is drawn anew each time; in a pipe each sample is one line, for `grep`, `awk` and plots.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from dataplane.commands.with_node import add_json, add_run_dir, client, show
from dataplane.errors import NodeError
from dataplane.flags import count, seconds
from dataplane.node.document import PeerDocument, StatusDocument
from dataplane.text import bit_rate, size, table

CLEAR_SCREEN = "\x1b[H\x1b[2J"
"""Cursor home, erase display (ECMA-48)."""

_Direction = Literal["encap", "decap"]
_DIRECTIONS: tuple[_Direction, ...] = ("encap", "decap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose rates, how often and how long."""
    add_run_dir(parser)
    add_json(parser)
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="time between samples")
    parser.add_argument("--count", type=count, metavar="N", help="stop after so many samples")


def run(namespace: argparse.Namespace) -> int:
    """Print samples until there were enough; with `--json` the counters once."""
    read = client(namespace).status
    if namespace.json:
        status = read()
        show(namespace, {"counters": status["counters"], "peers": status["peers"]}, str)
        return 0
    for sample in samples(read, namespace.interval, namespace.count):
        if sys.stdout.isatty():
            print(CLEAR_SCREEN + render_screen(*sample), end="", flush=True)
        else:
            print(render_line(*sample), flush=True)
    return 0


def samples(
    read: Callable[[], StatusDocument], interval: float, count: int | None
) -> Iterator[tuple[StatusDocument, StatusDocument, float]]:
    """The status before and after each `interval` seconds, and how long it really was; `count` times, or on and on.

    NodeError if nothing is counted, since the kernel moves the packets.
    """
    before, taken = read(), time.monotonic()
    backend = before["backend"]
    if backend is not None and before["counters"] is None:
        where = backend["device"] or backend["interface"]
        raise NodeError(
            f"the kernel moves the packets of the {backend['type']} backend; its counters: `ip -s link show {where}`"
        )
    number = 0
    while count is None or number < count:
        time.sleep(interval)
        after, now = read(), time.monotonic()
        yield before, after, now - taken
        before, taken = after, now
        number += 1


def render_screen(before: StatusDocument, after: StatusDocument, seconds: float) -> str:
    """Rates of the node and of each peer over `seconds`, the busiest peer first."""
    rows = [("", "PACKETS/S", "BIT/S", "DROPS/S", "PACKETS", "BYTES", "DROPS")]
    for name in _DIRECTIONS:
        new, old = _totals(after, name), _totals(before, name)
        packets, octets, drops = (_rate(n, o, seconds) for n, o in zip(new, old, strict=True))
        totals = (str(new[0]), size(new[1]), str(new[2]))
        rows.append((name, f"{packets:.0f}", bit_rate(octets), f"{drops:.0f}", *totals))
    return table(rows) + "\n" + table([("PEER", "AT", "SENT", "RECEIVED"), *_peer_rows(before, after, seconds)])


def render_line(before: StatusDocument, after: StatusDocument, seconds: float) -> str:
    """One sample as `key=value` words."""
    words = [f"time={int(time.time())}"]
    for name in _DIRECTIONS:
        new, old = _totals(after, name), _totals(before, name)
        packets, octets, drops = (_rate(n, o, seconds) for n, o in zip(new, old, strict=True))
        words += [f"{name}_pps={packets:.0f}", f"{name}_bps={octets * 8:.0f}", f"{name}_drops_ps={drops:.0f}"]
    return " ".join(words)


def _peer_rows(before: StatusDocument, after: StatusDocument, seconds: float) -> list[tuple[str, str, str, str]]:
    earlier = {tuple(peer["subnets"]): peer for peer in before["peers"]}
    rates = []
    for peer in after["peers"]:
        old = _traffic(earlier.get(tuple(peer["subnets"]))) or (0, 0)
        new = _traffic(peer)
        if new is not None:
            rates.append((peer, _rate(new[0], old[0], seconds), _rate(new[1], old[1], seconds)))
    rates.sort(key=lambda entry: entry[1] + entry[2], reverse=True)
    return [
        (" ".join(peer["subnets"]), peer["address"], bit_rate(sent), bit_rate(received))
        for peer, sent, received in rates
    ]


def _traffic(peer: PeerDocument | None) -> tuple[int, int] | None:
    """Bytes sent and received, or None if nobody counts them."""
    if peer is None or not peer["reachable"] or peer["tx_bytes"] is None or peer["rx_bytes"] is None:
        return None
    return peer["tx_bytes"], peer["rx_bytes"]


def _totals(status: StatusDocument, direction: _Direction) -> tuple[int, int, int]:
    """Packets and bytes forwarded, and packets dropped, in a direction; zeros for a node that has no lease yet."""
    if status["counters"] is None:
        return 0, 0, 0
    counts = status["counters"][direction]
    return counts["packets"], counts["bytes"], sum(counts["drops"].values())


def _rate(new: int, old: int, seconds: float) -> float:
    """Per second; a count that fell belongs to a node that was started anew, and counts from zero."""
    return (new - old if new >= old else new) / seconds
