"""The python engine: one packet at a time, each rule one line. Read this one first; the others are tested against it.

The steps and their order are those of `dataplane.engine`; the questions asked of a packet are in `dataplane.packet`.
"""

from dataplane.batch import NO_PEER, PacketBatch
from dataplane.engine import EngineConfig
from dataplane.engines.base import BatchEngine
from dataplane.packet import (
    ECN_AFTER_TUNNEL,
    ECN_LOST,
    change_ttl,
    check_header,
    destination_key,
    ecn,
    set_ecn,
    source_key,
    tos,
    ttl,
)
from dataplane.verdicts import Egress, Verdict


class PythonEngine(BatchEngine):
    """Decides about one packet after another."""

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN."""
        for i in range(batch.count):
            verdict, peer = self._encapsulate_one(batch, i)
            if verdict == Verdict.FORWARDED:
                _forward(batch, i, peer, Egress.UNDERLAY)
            else:
                self.refuse(batch, i, verdict, now_ns, self.path_mtu(peer))

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay."""
        for i in range(batch.count):
            verdict, peer = self._decapsulate_one(batch, i)
            if verdict == Verdict.FORWARDED:
                _forward(batch, i, peer, Egress.TUN)
            else:
                self.refuse(batch, i, verdict, now_ns)

    def _encapsulate_one(self, batch: PacketBatch, i: int) -> tuple[Verdict, int]:
        """What becomes of packet `i`, and the peer who owns its destination."""
        packet = batch.packet(i)
        verdict = check_header(packet)
        if verdict != Verdict.FORWARDED:
            return verdict, NO_PEER
        peer = self.routes.lookup(destination_key(packet))
        if peer == NO_PEER:
            return Verdict.NO_ROUTE, NO_PEER
        if ttl(packet) <= 1:
            return Verdict.TTL_EXCEEDED, peer
        if len(packet) > self.path_mtu(peer):
            return Verdict.TOO_BIG, peer
        change_ttl(packet, -1)
        batch.tos[i] = tos(packet) if self.config.carry_tos else 0
        return Verdict.FORWARDED, peer

    def _decapsulate_one(self, batch: PacketBatch, i: int) -> tuple[Verdict, int]:
        """What becomes of datagram `i`, and the peer who sent it."""
        packet = batch.packet(i)
        sender = batch.source_address(i)
        if self.config.check_sender and sender not in self.routes.senders:
            return Verdict.UNKNOWN_SENDER, NO_PEER
        verdict = check_header(packet)
        if verdict != Verdict.FORWARDED:
            return verdict, NO_PEER
        source = source_key(packet)
        peer = self.routes.owns(sender, source) if self.config.check_sender else self.routes.lookup(source)
        if peer == NO_PEER:
            return Verdict.FOREIGN_SOURCE, NO_PEER
        bits = ECN_AFTER_TUNNEL[ecn(packet)][batch.tos[i] & 0x03] if self.config.carry_tos else ecn(packet)
        if bits == ECN_LOST:
            return Verdict.ECN_LOST, peer
        if ttl(packet) <= 1:
            return Verdict.TTL_EXCEEDED, peer
        set_ecn(packet, bits)
        change_ttl(packet, -1)
        return Verdict.FORWARDED, peer


def _forward(batch: PacketBatch, i: int, peer: int, egress: Egress) -> None:
    batch.verdict[i] = Verdict.FORWARDED
    batch.next_hop[i] = peer
    batch.egress[i] = egress


def create(config: EngineConfig) -> PythonEngine:
    """Make the engine."""
    return PythonEngine(config)
