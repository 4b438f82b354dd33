"""What the engines written in Python share: all that is not a decision about a packet.

That is the routes in use, the path MTUs learned, the counters, and what is done with a packet that is refused.
"""

from dataplane.addresses import Network
from dataplane.engines.contract import EngineConfig, LearnedMtu
from dataplane.packets.batch import NO_PEER, PacketBatch
from dataplane.packets.counters import Counters
from dataplane.packets.fragment import may_fragment
from dataplane.packets.icmp import TYPE_AND_CODE, ErrorLimit, may_answer, put_error
from dataplane.packets.packet import change_ttl, family_of, source_key
from dataplane.packets.routes import RouteSnapshot
from dataplane.packets.verdicts import Direction, Egress, Event, Verdict


class BatchEngine:
    """The common part of the Python engines; see `contract.Engine` for the contract of each method."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.routes = RouteSnapshot()
        self.learned: dict[int, LearnedMtu] = {}
        """By peer id: path MTUs below config.mtu."""
        self._counters = Counters()
        self._limit = ErrorLimit(config.icmp_rate, config.icmp_burst)
        self._icmp_senders = {4: _first_address(config.subnet4), 6: _first_address(config.subnet6)}

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next batch on."""
        self.routes = snapshot
        self.learned = {peer: learned for peer, learned in self.learned.items() if peer in snapshot.peers}
        self._counters.keep_peers(snapshot.peers)

    def set_path_mtu(self, peer: int, mtu: int, now_ns: int) -> None:
        """Note what the path to `peer` carries."""
        known = self._carried(peer)
        if mtu == 0 or mtu >= self.config.mtu:
            self.learned.pop(peer, None)
        elif mtu != known:
            self.learned[peer] = LearnedMtu(mtu, now_ns)
            if mtu < known:
                self._counters.events[Event.MTU_LEARNED] += 1

    def path_mtu(self, peer: int) -> int:
        """Bytes of the largest inner packet to `peer`."""
        return max(self._carried(peer), self.config.least_mtu)

    def learned_mtu(self, peer: int) -> LearnedMtu | None:
        """What the kernel said of the path to `peer`."""
        return self.learned.get(peer)

    def _carried(self, peer: int) -> int:
        """Bytes of the largest inner packet that reaches `peer` in a datagram with DF, as far as is known."""
        learned = self.learned.get(peer)
        return learned.mtu if learned else self.config.mtu

    def count(self, direction: Direction, batch: PacketBatch, now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict."""
        self._counters.record(direction, batch, now_ns)

    def counters(self) -> Counters:
        """Counts up to now."""
        return self._counters

    def fit_anew(self, batch: PacketBatch, i: int, now_ns: int) -> bool:
        """Decide once more whether and how the encapsulated packet `i` is sent."""
        peer = batch.next_hop[i]
        if self.fit(batch, i, peer):
            return True
        change_ttl(batch.packet(i), +1)
        self.refuse(batch, i, Verdict.TOO_BIG, now_ns, self.path_mtu(peer))
        return False

    def fit(self, batch: PacketBatch, i: int, peer: int) -> bool:
        """Whether packet `i` can be sent to `peer`, and if so, note how: whole or in fragments, with DF or without."""
        size, limit = batch.length[i], self.path_mtu(peer)
        if size > limit:
            if not may_fragment(batch.packet(i), limit):
                return False
            self._counters.events[Event.FRAGMENTED] += not batch.fragment_len[i]
            size = batch.fragment_len[i] = limit
        if size > self._carried(peer):
            self._counters.events[Event.SENT_WITHOUT_DF] += not batch.no_df[i]
            batch.no_df[i] = 1
        return True

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
