"""What the engines written in Python share: all that is not a decision about a packet.

That is the routes in use, the path MTUs learned, the counters, and what is done with a packet that is refused.
"""

from dataplane.addresses import Network
from dataplane.batch import NO_PEER, PacketBatch
from dataplane.counters import Counters
from dataplane.engine import EngineConfig
from dataplane.icmp import TYPE_AND_CODE, ErrorLimit, may_answer, put_error
from dataplane.packet import change_ttl, family_of, source_key
from dataplane.routes import RouteSnapshot
from dataplane.verdicts import Direction, Egress, Event, Verdict


class BatchEngine:
    """The common part of the Python engines; see `dataplane.engine.Engine` for the contract of each method."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.routes = RouteSnapshot()
        self.path_mtus: dict[int, int] = {}
        """Learned for a peer id: bytes of the largest inner packet, below config.mtu."""
        self._counters = Counters()
        self._limit = ErrorLimit(config.icmp_rate, config.icmp_burst)
        self._icmp_senders = {4: _first_address(config.subnet4), 6: _first_address(config.subnet6)}

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next batch on."""
        self.routes = snapshot
        self.path_mtus = {peer: mtu for peer, mtu in self.path_mtus.items() if peer in snapshot.peers}
        self._counters.keep_peers(snapshot.peers)

    def set_path_mtu(self, peer: int, mtu: int) -> None:
        """Note what the path to `peer` carries."""
        if 0 < mtu < self.path_mtu(peer):
            self._counters.events[Event.MTU_LEARNED] += 1
        if 0 < mtu < self.config.mtu:
            self.path_mtus[peer] = mtu
        else:
            self.path_mtus.pop(peer, None)

    def path_mtu(self, peer: int) -> int:
        """Bytes of the largest inner packet to `peer`."""
        return self.path_mtus.get(peer, self.config.mtu)

    def count(self, direction: Direction, batch: PacketBatch, now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict."""
        self._counters.record(direction, batch, now_ns)

    def counters(self) -> Counters:
        """Counts up to now."""
        return self._counters

    def refuse_too_big(self, batch: PacketBatch, i: int, now_ns: int) -> None:
        """Turn the encapsulated packet `i` into TOO_BIG."""
        mtu = self.path_mtu(batch.next_hop[i])
        change_ttl(batch.packet(i), +1)
        self.refuse(batch, i, Verdict.TOO_BIG, now_ns, mtu)

    def refuse(self, batch: PacketBatch, i: int, reason: Verdict, now_ns: int, mtu: int = 0) -> None:
        """Drop packet `i`, whose bytes are as received, and put an ICMP error in its place where one is due.

        `mtu` is the number to tell when the reason is TOO_BIG.
        """
        batch.verdict[i] = reason
        batch.next_hop[i] = NO_PEER
        batch.egress[i] = Egress.NONE
        if reason not in TYPE_AND_CODE:
            return
        packet = batch.packet(i)
        sender = self._icmp_senders[family_of(packet).version]
        if not sender or not may_answer(packet):
            event = Event.ICMP_UNFIT
        elif not self._limit.take(reason, source_key(packet), now_ns):
            event = Event.ICMP_LIMITED
        else:
            event = Event.ICMP_SENT
            where = put_error(batch.view, batch.offset[i], batch.length[i], reason, sender, mtu)
            batch.offset[i], batch.length[i] = where
            batch.egress[i] = Egress.TUN
        self._counters.events[event] += 1


def _first_address(subnet: Network | None) -> bytes:
    return subnet.network_address.packed if subnet else b""
