"""Counters of a node: packets and bytes for each direction and verdict, events, and traffic by peer.

The arrays are plain buffers of unsigned 64-bit integers. One thread writes, any thread may read at any time; a reader
may see one count a moment before another, never a torn number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dataplane.batch import NO_PEER, PacketBatch
from dataplane.verdicts import Direction, Event, Verdict


@dataclass(slots=True)
class PeerCounters:
    """Traffic with one peer: forwarded packets and their inner bytes, and when the peer was heard last."""

    tx_packets: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0
    last_rx_ns: int = 0
    """Monotonic clock, nanoseconds; 0 for never."""

    def add(self, other: "PeerCounters") -> None:
        """Add another worker's share."""
        self.tx_packets += other.tx_packets
        self.tx_bytes += other.tx_bytes
        self.rx_packets += other.rx_packets
        self.rx_bytes += other.rx_bytes
        self.last_rx_ns = max(self.last_rx_ns, other.last_rx_ns)


@dataclass(slots=True)
class Counters:
    """All that is counted, by Direction and Verdict, by Event, and by peer id."""

    packets: list[list[int]] = field(default_factory=lambda: [[0] * len(Verdict) for _ in Direction])
    bytes: list[list[int]] = field(default_factory=lambda: [[0] * len(Verdict) for _ in Direction])
    events: list[int] = field(default_factory=lambda: [0] * len(Event))
    peers: dict[int, PeerCounters] = field(default_factory=dict)

    def record(self, direction: Direction, batch: PacketBatch, lengths: Iterable[int], now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict.

        `lengths` are the packets' lengths as they were received: an ICMP error that took a packet's place
        has another length.
        """
        for i, length in zip(range(batch.count), lengths, strict=False):
            verdict = batch.verdict[i]
            self.packets[direction][verdict] += 1
            self.bytes[direction][verdict] += length
            if verdict == Verdict.FORWARDED and batch.next_hop[i] != NO_PEER:
                self._record_peer(direction, batch.next_hop[i], length, now_ns)

    def _record_peer(self, direction: Direction, peer: int, length: int, now_ns: int) -> None:
        traffic = self.peers.setdefault(peer, PeerCounters())
        if direction == Direction.ENCAP:
            traffic.tx_packets += 1
            traffic.tx_bytes += length
        else:
            traffic.rx_packets += 1
            traffic.rx_bytes += length
            traffic.last_rx_ns = now_ns

    def drops(self, direction: Direction) -> dict[str, int]:
        """Packets dropped in `direction`, by lower-case name of the verdict, without the zeros."""
        counts = self.packets[direction]
        return {v.name.lower(): counts[v] for v in Verdict if v != Verdict.FORWARDED and counts[v]}
