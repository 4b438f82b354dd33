"""Counters of a node: packets and bytes for each direction and verdict, events, and traffic by peer.

One thread writes, any thread may read at any time: a reader may see one count a moment before another, never a torn
number. The table of peers is replaced and not edited when a peer comes or goes, so a reader may iterate over it.
"""

from collections.abc import Container
from dataclasses import dataclass, field

from dataplane.packets.batch import PacketBatch
from dataplane.packets.verdicts import Direction, Event, Verdict


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

    def record(self, direction: Direction, batch: PacketBatch, now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict, with the length that it was read with."""
        packets, octets = self.packets[direction], self.bytes[direction]
        for i in range(batch.count):
            verdict, length = batch.verdict[i], batch.received[i]
            packets[verdict] += 1
            octets[verdict] += length
            if verdict == Verdict.FORWARDED:
                self._record_peer(direction, batch.next_hop[i], length, now_ns)

    def _record_peer(self, direction: Direction, peer: int, length: int, now_ns: int) -> None:
        traffic = self.peers.get(peer)
        if traffic is None:
            traffic = PeerCounters()
            self.peers = {**self.peers, peer: traffic}
        if direction == Direction.ENCAP:
            traffic.tx_packets += 1
            traffic.tx_bytes += length
        else:
            traffic.rx_packets += 1
            traffic.rx_bytes += length
            traffic.last_rx_ns = now_ns

    def add(self, other: "Counters") -> None:
        """Add what another engine has counted."""
        for direction in Direction:
            for verdict in Verdict:
                self.packets[direction][verdict] += other.packets[direction][verdict]
                self.bytes[direction][verdict] += other.bytes[direction][verdict]
        for event in Event:
            self.events[event] += other.events[event]
        for peer, traffic in other.peers.items():
            self.peers.setdefault(peer, PeerCounters()).add(traffic)

    def keep_peers(self, ids: Container[int]) -> None:
        """Forget the traffic with all peers but those in `ids`."""
        self.peers = {peer: traffic for peer, traffic in self.peers.items() if peer in ids}

    def drops(self, direction: Direction) -> dict[str, int]:
        """Packets dropped in `direction`, by lower-case name of the verdict, without the zeros."""
        counts = self.packets[direction]
        return {v.name.lower(): counts[v] for v in Verdict if v != Verdict.FORWARDED and counts[v]}
