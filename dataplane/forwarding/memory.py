"""In-memory twins of the two ends: whole nodes in one process, with a wire that is a dictionary and a clock that is a
number. They keep the contracts of `tun.TunDevice` and `udp.Underlay`, but have no descriptor.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from dataplane.forwarding.udp import ENCAP_OVERHEAD, Destination
from dataplane.packets.batch import PacketBatch
from dataplane.packets.fragment import pieces
from dataplane.packets.routes import address_key
from dataplane.packets.verdicts import Egress, Verdict


class MemoryTun:
    """A TUN device between two lists: what the host sends into it, and what it gives to the host."""

    def __init__(self) -> None:
        self.from_host: deque[bytes] = deque()
        self.to_host: list[bytes] = []
        self.up = True
        """A device that is down refuses what is written to it."""

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full; returns the packets read."""
        before = batch.count
        while self.from_host and not batch.full:
            batch.append(self.from_host.popleft())
        return batch.count - before

    def write_batch(self, batch: PacketBatch) -> None:
        """Write all packets whose egress is the TUN."""
        for i in range(batch.count):
            if batch.egress[i] != Egress.TUN:
                continue
            if self.up:
                self.to_host.append(bytes(batch.packet(i)))
            elif batch.verdict[i] == Verdict.FORWARDED:
                batch.verdict[i] = Verdict.WRITE_FAILED


@dataclass(slots=True)
class Wire:
    """The network between underlays: datagrams waiting at each address, and what the network does to them."""

    waiting: dict[Destination, deque[tuple[bytes, str, int]]] = field(default_factory=dict)
    """By destination: payload, sender's address, outer TOS byte."""
    mtus: dict[Destination, int] = field(default_factory=dict)
    """What the path to a destination carries, where that is less than 1500 bytes."""
    congested: bool = False
    """Mark the datagrams that say they can be marked (RFC 3168): ECT becomes CE."""


class MemoryUnderlay:
    """A UDP socket on a `Wire`."""

    def __init__(self, wire: Wire, address: str, port: int = 8285) -> None:
        self._wire = wire
        self._address = address
        self._inbox = wire.waiting.setdefault((address, port), deque())
        self.overhead = ENCAP_OVERHEAD[ip_address(address).version]

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full; returns the datagrams read."""
        before = batch.count
        while self._inbox and not batch.full:
            payload, sender, tos = self._inbox.popleft()
            batch.append(payload, address_key(ip_address(sender)), tos)
        return batch.count - before

    def write_batch(self, batch: PacketBatch, destinations: Mapping[int, Destination]) -> list[int]:
        """Send all packets whose egress is the underlay; returns the indices of those too large for the wire.

        A destination where nobody listens becomes SEND_FAILED.
        """
        return [
            i
            for i in range(batch.count)
            if batch.egress[i] == Egress.UNDERLAY and not self.write(batch, i, destinations[batch.next_hop[i]])
        ]

    def write(self, batch: PacketBatch, i: int, destination: Destination) -> bool:
        """Send packet `i`, whole or in fragments; False when it is too large for the wire.

        Datagrams without DF are never too large: they arrive as if they had been put together again.
        """
        payloads = [bytes(piece) for piece in pieces(batch, i)]
        if not batch.no_df[i] and max(map(len, payloads)) > self.path_mtu(destination):
            return False
        if destination not in self._wire.waiting:
            batch.verdict[i] = Verdict.SEND_FAILED
            return True
        for payload in payloads:
            self._send(destination, payload, batch.tos[i])
        return True

    def path_mtu(self, destination: Destination) -> int:
        """Bytes of the largest inner packet that the path to `destination` carries."""
        return self._wire.mtus.get(destination, 1500) - self.overhead

    def _send(self, destination: Destination, payload: bytes, tos: int) -> None:
        if self._wire.congested and tos & 0x03:
            tos |= 0x03
        self._wire.waiting[destination].append((payload, self._address, tos))
