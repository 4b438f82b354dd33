"""`udplane stats`: rates and totals, again and again, like top.

On a terminal the screen is drawn anew each time; in a pipe each sample is one line, for `grep`, `awk` and plots.
"""

import time
from collections.abc import Callable, Iterator

from dataplane.commands.status import Status, size, table
from dataplane.errors import NodeError

CLEAR_SCREEN = "\x1b[H\x1b[2J"
"""Cursor home, erase display (ECMA-48)."""

_DIRECTIONS = ("encap", "decap")


def samples(read: Callable[[], Status], interval: float, count: int | None) -> Iterator[tuple[Status, Status, float]]:
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


def render_screen(before: Status, after: Status, seconds: float) -> str:
    """Rates of the node and of each peer over `seconds`, the busiest peer first."""
    rows = [("", "PACKETS/S", "BIT/S", "DROPS/S", "PACKETS", "BYTES", "DROPS")]
    for name in _DIRECTIONS:
        new, old = _totals(after, name), _totals(before, name)
        packets, octets, drops = (_rate(n, o, seconds) for n, o in zip(new, old, strict=True))
        totals = (str(new[0]), size(new[1]), str(new[2]))
        rows.append((name, f"{packets:.0f}", bit_rate(octets), f"{drops:.0f}", *totals))
    return table(rows) + "\n" + table([("PEER", "AT", "SENT", "RECEIVED"), *_peer_rows(before, after, seconds)])


def render_line(before: Status, after: Status, seconds: float) -> str:
    """One sample as `key=value` words."""
    words = [f"time={int(time.time())}"]
    for name in _DIRECTIONS:
        new, old = _totals(after, name), _totals(before, name)
        packets, octets, drops = (_rate(n, o, seconds) for n, o in zip(new, old, strict=True))
        words += [f"{name}_pps={packets:.0f}", f"{name}_bps={octets * 8:.0f}", f"{name}_drops_ps={drops:.0f}"]
    return " ".join(words)


def bit_rate(octets_per_second: float) -> str:
    """`0 b/s`, `12.3 Mb/s`, `4.5 Gb/s`."""
    bits = octets_per_second * 8
    for unit in ("b/s", "kb/s", "Mb/s"):
        if bits < 1000:
            return f"{bits:.0f} b/s" if unit == "b/s" else f"{bits:.1f} {unit}"
        bits /= 1000
    return f"{bits:.1f} Gb/s"


def _peer_rows(before: Status, after: Status, seconds: float) -> list[tuple[str, str, str, str]]:
    earlier = {tuple(peer["subnets"]): peer for peer in before["peers"]}
    rates = []
    for peer in after["peers"]:
        old = earlier.get(tuple(peer["subnets"]), {})
        if peer["reachable"] and peer["tx_bytes"] is not None:
            sent, received = (_rate(peer[key], old.get(key) or 0, seconds) for key in ("tx_bytes", "rx_bytes"))
            rates.append((sent + received, peer, sent, received))
    rates.sort(key=lambda entry: entry[0], reverse=True)
    return [
        (" ".join(peer["subnets"]), peer["address"], bit_rate(sent), bit_rate(received))
        for _, peer, sent, received in rates
    ]


def _totals(status: Status, direction: str) -> tuple[int, int, int]:
    """Packets and bytes forwarded, and packets dropped, in a direction; zeros for a node that has no lease yet."""
    if status["counters"] is None:
        return 0, 0, 0
    counts = status["counters"][direction]
    return counts["packets"], counts["bytes"], sum(counts["drops"].values())


def _rate(new: int, old: int, seconds: float) -> float:
    """Per second; a count that fell belongs to a node that was started anew, and counts from zero."""
    return (new - old if new >= old else new) / seconds
