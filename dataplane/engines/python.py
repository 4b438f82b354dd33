"""The python engine: one packet at a time, each rule one line. Read this one first; the others are tested against it.

The steps and their order are those of `contract`; the questions asked of a packet are in `packets.packet`.
"""

from dataplane.addresses import Network
from dataplane.engines.base import BatchEngine
from dataplane.engines.contract import EngineConfig
from dataplane.packets.batch import NO_PEER, PacketBatch
from dataplane.packets.packet import (
    ECN_AFTER_TUNNEL,
    ECN_LOST,
    IPV6,
    change_ttl,
    check_header,
    destination_key,
    ecn,
    family_of,
    has_hosts_source,
    is_v4_mapped,
    set_ecn,
    source_key,
    tos,
    ttl,
)
from dataplane.packets.verdicts import Egress, Verdict


class PythonEngine(BatchEngine):
    """Decides about one packet after another."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._own = {4: _hosts_of(config.subnet4), 6: _hosts_of(config.subnet6)}
        """By IP version, the addresses that packets may be for."""

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
        peer = self._route(packet)
        if peer == NO_PEER:
            return Verdict.NO_ROUTE, NO_PEER
        if ttl(packet) <= 1:
            return Verdict.TTL_EXCEEDED, peer
        if not self.fit(batch, i, peer):
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
        peer = self._owner_of_source(packet, sender)
        if peer == NO_PEER:
            return Verdict.FOREIGN_SOURCE, NO_PEER
        if not self._is_ours(packet):
            return Verdict.FOREIGN_DESTINATION, peer
        bits = ECN_AFTER_TUNNEL[ecn(packet)][batch.tos[i] & 0x03] if self.config.carry_tos else ecn(packet)
        if bits == ECN_LOST:
            return Verdict.ECN_LOST, peer
        if ttl(packet) <= 1:
            return Verdict.TTL_EXCEEDED, peer
        set_ecn(packet, bits)
        change_ttl(packet, -1)
        return Verdict.FORWARDED, peer

    def _route(self, packet: memoryview) -> int:
        """The peer that owns the destination, or NO_PEER."""
        destination = destination_key(packet)
        if family_of(packet) is IPV6 and is_v4_mapped(destination):
            return NO_PEER
        return self.routes.lookup(destination)

    def _owner_of_source(self, packet: memoryview, sender: bytes) -> int:
        """The peer that may send a packet with this inner source from the underlay address `sender`, or NO_PEER."""
        if not has_hosts_source(packet):
            return NO_PEER
        source = source_key(packet)
        return self.routes.owns(sender, source) if self.config.check_sender else self.routes.lookup(source)

    def _is_ours(self, packet: memoryview) -> bool:
        """Whether the destination lies in this node's own subnet."""
        family = family_of(packet)
        return int.from_bytes(packet[family.destination]) in self._own[family.version]


def _hosts_of(subnet: Network | None) -> range:
    """The addresses of a subnet as numbers, all but IPv4's broadcast address, which a /31 does not have (RFC 3021)."""
    if subnet is None:
        return range(0)
    last = int(subnet.broadcast_address)
    has_broadcast = subnet.version == 4 and subnet.num_addresses > 2
    return range(int(subnet.network_address), last if has_broadcast else last + 1)


def _forward(batch: PacketBatch, i: int, peer: int, egress: Egress) -> None:
    batch.verdict[i] = Verdict.FORWARDED
    batch.next_hop[i] = peer
    batch.egress[i] = egress


def create(config: EngineConfig) -> PythonEngine:
    """Make the engine."""
    return PythonEngine(config)
