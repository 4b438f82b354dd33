"""The numpy engine: the rules of the python engine, each taken once for the whole batch.

Where the python engine asks one packet after another, this one asks a question of all packets at once and gets an
array of answers. A packet that fails a question keeps the first reason and goes on through the others all the same:
what is read from it is then meaningless, but it is read from inside the arena and no answer is used.

    arena    bytes of all packets              header   n rows of 40 bytes, gathered from the arena
    verdict  one for each packet, FORWARDED until a question says otherwise
    key      n rows of 16 bytes: addresses, IPv4 as ::ffff:a.b.c.d

Routes are one sorted array of keys for each prefix length, searched by bisection for all packets together.
ICMP errors are rare and limited, so they are built one by one by the code that the python engine uses.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataplane.addresses import Network
from dataplane.engines.base import BatchEngine
from dataplane.engines.contract import EngineConfig
from dataplane.packets.batch import ADDRESS_LEN, NO_PEER, PacketBatch
from dataplane.packets.packet import ECN_AFTER_TUNNEL, ECN_LOST, IPV4, IPV6, V4_CHECKSUM, V4_MAPPED
from dataplane.packets.routes import ADDRESS_BITS, V4_PREFIX_BITS, RouteSnapshot, address_key, prefix_length
from dataplane.packets.verdicts import Egress, Verdict

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FORWARDED = int(Verdict.FORWARDED)  # comparing an array with a plain int is several times faster than with an enum
_COLUMNS = np.arange(IPV6.header_len)
_ECN_AFTER_TUNNEL = np.array(ECN_AFTER_TUNNEL)


class NumpyEngine(BatchEngine):
    """Decides about all packets of a batch together."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._tables = _RouteArrays(self.routes)
        self._own = [_own_subnet(subnet) for subnet in (config.subnet4, config.subnet6) if subnet is not None]

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next batch on."""
        super().set_routes(snapshot)
        self._tables = _RouteArrays(snapshot)

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN."""
        packets = _Packets(batch)
        packets.check_headers()
        peer = self._tables.lookup(packets.destination)
        peer[~packets.v4 & _is_v4_mapped(packets.destination)] = NO_PEER
        packets.refuse_where(peer == NO_PEER, Verdict.NO_ROUTE)
        packets.refuse_where(packets.ttl <= 1, Verdict.TTL_EXCEEDED)
        large = packets.forwarded & (packets.length > self._carried_to(peer))
        for i in np.flatnonzero(large).tolist():
            if not self.fit(batch, i, int(peer[i])):
                packets.verdict[i] = int(Verdict.TOO_BIG)
        packets.lower_ttl()
        tos = packets.tos if self.config.carry_tos else np.zeros_like(packets.tos)
        _column(batch.tos, batch)[packets.forwarded] = tos[packets.forwarded]
        self._conclude(batch, packets, peer, Egress.UNDERLAY, now_ns)

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay."""
        packets = _Packets(batch)
        sender = np.frombuffer(batch.source, np.uint8).reshape(-1, ADDRESS_LEN)[: batch.count]
        if self.config.check_sender:
            packets.refuse_where(~self._tables.known(sender), Verdict.UNKNOWN_SENDER)
        packets.check_headers()
        peer = self._tables.lookup(packets.source)
        packets.refuse_where(~packets.has_hosts_source | (peer == NO_PEER), Verdict.FOREIGN_SOURCE)
        if self.config.check_sender:
            packets.refuse_where((self._tables.addresses[peer] != sender).any(axis=1), Verdict.FOREIGN_SOURCE)
        packets.refuse_where(~self._are_ours(packets), Verdict.FOREIGN_DESTINATION)
        bits = packets.tos & 0x03
        if self.config.carry_tos:
            bits = _ECN_AFTER_TUNNEL[bits, _column(batch.tos, batch) & 0x03]
            packets.refuse_where(bits == ECN_LOST, Verdict.ECN_LOST)
        packets.refuse_where(packets.ttl <= 1, Verdict.TTL_EXCEEDED)
        packets.set_ecn(bits)
        packets.lower_ttl()
        self._conclude(batch, packets, peer, Egress.TUN, now_ns)

    def _are_ours(self, packets: "_Packets") -> Bools:
        """Which of the packets are for this node's own subnets."""
        result = np.zeros(len(packets.length), bool)
        for own in self._own:
            inside = ((packets.destination & own.mask) == own.prefix).all(axis=1)
            result |= (packets.v4 == own.v4) & inside & (packets.destination != own.broadcast).any(axis=1)
        return result

    def _carried_to(self, peer: Ints) -> Ints:
        """Bytes of the largest packet that reaches each of the peers with DF; few have a path MTU of their own."""
        limit = np.full(len(peer), self.config.mtu)
        for narrow, learned in self.learned.items():
            limit[peer == narrow] = learned.mtu
        return limit

    def _conclude(self, batch: PacketBatch, packets: "_Packets", peer: Ints, egress: Egress, now_ns: int) -> None:
        """Write the answers into the batch, and say no to those who have to hear it."""
        _column(batch.verdict, batch)[:] = packets.verdict
        _column(batch.next_hop, batch)[:] = np.where(packets.forwarded, peer, NO_PEER)
        _column(batch.egress, batch)[:] = np.where(packets.forwarded, int(egress), int(Egress.NONE))
        for i in np.flatnonzero(~packets.forwarded).tolist():
            self.refuse(batch, i, Verdict(batch.verdict[i]), now_ns, self.path_mtu(int(peer[i])))


class _Packets:
    """All packets of a batch, as arrays; the vector counterpart of `dataplane.packets.packet`."""

    def __init__(self, batch: PacketBatch) -> None:
        self.arena: Bytes = np.frombuffer(batch.arena, np.uint8)
        self.start: Ints = _column(batch.offset, batch).astype(np.int64)
        self.length: Ints = _column(batch.length, batch).astype(np.int64)
        inside = np.minimum(self.start[:, np.newaxis] + _COLUMNS, self.arena.size - 1)
        self.header: Ints = self.arena[inside].astype(np.int64)
        self.v4: Bools = self.header[:, 0] >> 4 == 4
        self.verdict = np.full(batch.count, _FORWARDED, np.uint8)

    @property
    def forwarded(self) -> Bools:
        """Those that nothing was said against."""
        result: Bools = self.verdict == _FORWARDED
        return result

    @property
    def ttl(self) -> Ints:
        """TTL or hop limit."""
        return np.where(self.v4, self.header[:, IPV4.ttl], self.header[:, IPV6.ttl])

    @property
    def tos(self) -> Ints:
        """TOS or traffic class."""
        return np.where(self.v4, self.header[:, 1], self._word(0) >> 4 & 0xFF)

    @cached_property
    def source(self) -> Bytes:
        """The source addresses as rows of 16 bytes."""
        return self._keys(IPV4.source, IPV6.source)

    @cached_property
    def destination(self) -> Bytes:
        """The destination addresses as rows of 16 bytes."""
        return self._keys(IPV4.destination, IPV6.destination)

    @property
    def has_hosts_source(self) -> Bools:
        """The question of `packet.has_hosts_source`."""
        v4_first, v6_first = self.header[:, IPV4.source.start], self.header[:, IPV6.source.start]
        v4_good = (v4_first != 0) & (v4_first != 127) & (v4_first < 224)
        loopback_or_none = ~self.source[:, :-1].any(axis=1) & (self.source[:, -1] <= 1)
        v6_good = (v6_first != 0xFF) & ~loopback_or_none & ~_is_v4_mapped(self.source)
        result: Bools = np.where(self.v4, v4_good, v6_good)
        return result

    def _keys(self, v4_at: slice, v6_at: slice) -> Bytes:
        """One address of each packet as a row of 16 bytes."""
        keys = self.header[:, v6_at].astype(np.uint8)
        keys[self.v4, : len(V4_MAPPED)] = np.frombuffer(V4_MAPPED, np.uint8)
        keys[self.v4, len(V4_MAPPED) :] = self.header[self.v4, v4_at]
        return keys

    def refuse_where(self, condition: Bools, reason: Verdict) -> None:
        """Give those for which `condition` is true this verdict, unless they have one."""
        self.verdict[condition & self.forwarded] = int(reason)

    def check_headers(self) -> None:
        """The questions of `packet.check_header`, in its order."""
        v6 = self.header[:, 0] >> 4 == 6
        v4_header_len = (self.header[:, 0] & 0x0F) * 4
        stated_len = np.where(self.v4, self._word(2), IPV6.header_len + self._word(4))
        self.refuse_where(self.length == 0, Verdict.TRUNCATED)
        self.refuse_where(~self.v4 & ~v6, Verdict.BAD_VERSION)
        self.refuse_where(self.length < np.where(self.v4, IPV4.header_len, IPV6.header_len), Verdict.TRUNCATED)
        self.refuse_where(self.v4 & (v4_header_len < IPV4.header_len), Verdict.BAD_HEADER)
        self.refuse_where(self.v4 & (self.length < v4_header_len), Verdict.TRUNCATED)
        self.refuse_where(self.length != stated_len, Verdict.BAD_LENGTH)

    def lower_ttl(self) -> None:
        """Take one from the TTL of each forwarded packet."""
        self._set_bytes(np.where(self.v4, IPV4.ttl, IPV6.ttl), self.ttl - 1)

    def set_ecn(self, bits: Ints) -> None:
        """Write the two ECN bits of each forwarded packet."""
        shift = np.where(self.v4, 0, 4)
        self._set_bytes(np.ones_like(shift), self.header[:, 1] & ~(0x03 << shift) | bits << shift)

    def _set_bytes(self, at: Ints, value: Ints) -> None:
        """Write one byte of each forwarded packet, `at` bytes from its start; the IPv4 checksum follows (RFC 1624)."""
        rows = np.flatnonzero(self.forwarded)
        start, at = self.start[rows], at[rows]
        word_at = start + (at & ~1)
        old_word = self._arena_word(word_at)
        self.arena[start + at] = value[rows]
        v4 = self.v4[rows]
        sum_at = start[v4] + V4_CHECKSUM
        total = (~self._arena_word(sum_at) & 0xFFFF) + (~old_word[v4] & 0xFFFF) + self._arena_word(word_at[v4])
        for _ in range(2):  # three 16-bit words carry at most twice
            total = (total & 0xFFFF) + (total >> 16)
        self.arena[sum_at] = ~total >> 8 & 0xFF
        self.arena[sum_at + 1] = ~total & 0xFF

    def _word(self, at: int) -> Ints:
        """The 16-bit number at `at` of each header."""
        return self.header[:, at] << 8 | self.header[:, at + 1]

    def _arena_word(self, places: Ints) -> Ints:
        """The 16-bit numbers at these places of the arena."""
        return self.arena[places].astype(np.int64) << 8 | self.arena[places + 1]


class _OwnSubnet(NamedTuple):
    """One of the node's own subnets."""

    v4: bool
    mask: Bytes
    prefix: Bytes
    broadcast: Bytes
    """All zero, and so outside of the subnet, where there is none."""


def _own_subnet(subnet: Network) -> _OwnSubnet:
    v4 = subnet.version == 4
    broadcast = address_key(subnet.broadcast_address) if v4 and subnet.num_addresses > 2 else bytes(ADDRESS_LEN)
    prefix = np.frombuffer(address_key(subnet.network_address), np.uint8)
    return _OwnSubnet(v4, _mask(prefix_length(subnet)), prefix, np.frombuffer(broadcast, np.uint8))


class _PrefixArray(NamedTuple):
    """All prefixes of one length."""

    length: int
    mask: Bytes
    prefixes: NDArray[np.bytes_]
    """Sorted."""
    peers: Ints
    """Peer id for each prefix."""


class _RouteArrays:
    """A RouteSnapshot in arrays."""

    def __init__(self, snapshot: RouteSnapshot) -> None:
        self._by_length = [_prefix_array(length, table) for length, table in snapshot.prefixes.items()]
        self._senders = np.array(sorted(snapshot.senders), f"S{ADDRESS_LEN}")
        self.addresses: Bytes = np.zeros((max(snapshot.peers, default=0) + 1, ADDRESS_LEN), np.uint8)
        """Underlay address by peer id; row -1 exists, so NO_PEER may be looked up, and ignored."""
        for peer in snapshot.peers.values():
            self.addresses[peer.id] = np.frombuffer(address_key(peer.address), np.uint8)

    def lookup(self, keys: Bytes) -> Ints:
        """The peer id whose prefix covers each key best, or NO_PEER."""
        peer = np.full(len(keys), NO_PEER)
        for length, mask, prefixes, peers in self._by_length:
            wanted = _as_strings(keys & mask)
            at = np.minimum(np.searchsorted(prefixes, wanted), len(prefixes) - 1)
            found = (peer == NO_PEER) & (prefixes[at] == wanted)
            if length < V4_PREFIX_BITS:
                found &= ~_is_v4_mapped(keys)
            peer[found] = peers[at[found]]
        return peer

    def known(self, senders: Bytes) -> Bools:
        """Which of these underlay addresses belong to a peer."""
        return np.isin(_as_strings(senders), self._senders)


def _prefix_array(length: int, table: Mapping[bytes, int]) -> _PrefixArray:
    prefixes = sorted(table)
    return _PrefixArray(
        length,
        _mask(length),
        np.array(prefixes, f"S{ADDRESS_LEN}"),
        np.array([table[prefix] for prefix in prefixes]),
    )


def _mask(length: int) -> Bytes:
    """The first `length` bits set."""
    return np.frombuffer(((1 << length) - 1 << ADDRESS_BITS - length).to_bytes(ADDRESS_LEN), np.uint8)


def _is_v4_mapped(keys: Bytes) -> Bools:
    """Which of the keys are those of IPv4 addresses."""
    result: Bools = (keys[:, : len(V4_MAPPED)] == np.frombuffer(V4_MAPPED, np.uint8)).all(axis=1)
    return result


def _as_strings(keys: Bytes) -> NDArray[np.bytes_]:
    """Rows of 16 bytes as values that compare and sort by their bytes."""
    return np.ascontiguousarray(keys).view(f"S{ADDRESS_LEN}").ravel()


def _column(values: memoryview, batch: PacketBatch) -> NDArray[Any]:
    """One of the batch's arrays, as far as it is filled; writing to it writes to the batch."""
    return np.frombuffer(values, values.format)[: batch.count]


def create(config: EngineConfig) -> NumpyEngine:
    """Make the engine."""
    return NumpyEngine(config)
