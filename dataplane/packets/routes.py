"""Routes: which peer owns which pod subnet, looked up by longest prefix.

`RouteTable` is what the control plane edits; `snapshot` freezes it into a `RouteSnapshot`, which engines read
without a lock and never see changing. Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d, so one
table serves both families: a.b.c.0/24 is a prefix of 96 + 24 bits.

The lookup keeps one hash table for each prefix length in use and asks them from the longest down. Leases of a
network have one length (two with IPv6), so that is one or two probes, the same for one lease and for 100,000.
The C engine does the same with open addressing, the numpy engine with one sorted array for each length.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dataplane.addresses import Address, Network
from dataplane.packets.batch import NO_PEER
from dataplane.packets.packet import V4_MAPPED, is_v4_mapped

ADDRESS_BITS = 128

V4_PREFIX_BITS = 96
"""Bits that all keys of IPv4 addresses begin with."""


def address_key(address: Address) -> bytes:
    """The 16 bytes of an address in network order, IPv4 as ::ffff:a.b.c.d."""
    return address.packed if address.version == 6 else V4_MAPPED + address.packed


def prefix_length(network: Network) -> int:
    """The prefix length of a network in bits of a 16-byte address: 120 for an IPv4 /24."""
    return network.prefixlen + ADDRESS_BITS - network.max_prefixlen


def mask(key: bytes, length: int) -> bytes:
    """`key` with all but the first `length` bits cleared."""
    host_bits = ADDRESS_BITS - length
    return (int.from_bytes(key) >> host_bits << host_bits).to_bytes(16)


@dataclass(frozen=True, slots=True)
class Peer:
    """A node on the other side of the underlay.

    `id` is a small number that stays the peer's own while it is in the table; counters are kept by it.
    """

    id: int
    address: Address
    port: int
    subnets: tuple[Network, ...]


class RouteSnapshot:
    """The routes at one moment; immutable, so any thread may read it at any time.

    - `peers`: peer by id
    - `prefixes`: prefix length in bits -> {prefix key of 16 bytes: peer id}, longest length first
    - `senders`: the underlay addresses (16 bytes) that datagrams are accepted from
    """

    __slots__ = ("peers", "prefixes", "senders")

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self.peers: Mapping[int, Peer] = MappingProxyType({peer.id: peer for peer in peers})
        by_length: dict[int, dict[bytes, int]] = {}
        for peer in self.peers.values():
            for subnet in peer.subnets:
                by_length.setdefault(prefix_length(subnet), {})[address_key(subnet.network_address)] = peer.id
        self.prefixes: Mapping[int, Mapping[bytes, int]] = MappingProxyType(
            {length: by_length[length] for length in sorted(by_length, reverse=True)}
        )
        self.senders = frozenset(address_key(peer.address) for peer in self.peers.values())

    def lookup(self, key: bytes) -> int:
        """The id of the peer whose subnet covers the address `key` best, or NO_PEER.

        A short prefix of IPv6 addresses, such as ::/0, does not cover the keys of IPv4 addresses.
        """
        for length, table in self.prefixes.items():
            if length < V4_PREFIX_BITS and is_v4_mapped(key):
                break
            peer = table.get(mask(key, length))
            if peer is not None:
                return peer
        return NO_PEER

    def owns(self, sender: bytes, source: bytes) -> int:
        """The id of the peer at underlay address `sender` in whose lease `source` lies, or NO_PEER.

        Two nodes behind one address are told apart by the subnet.
        """
        peer = self.lookup(source)
        return peer if peer != NO_PEER and address_key(self.peers[peer].address) == sender else NO_PEER


class RouteTable:
    """The editable set of peers. Used by one thread; hands out snapshots."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._ids = itertools.count()
        self._free_ids: list[int] = []
        self._freed_ids: list[int] = []

    def set(self, name: str, address: Address, port: int, subnets: Iterable[Network]) -> Peer:
        """Add the peer called `name`, or change where it is and what it owns; its id stays the same."""
        known = self._peers.get(name)
        peer = Peer(known.id if known else self._take_id(), address, port, tuple(subnets))
        self._peers[name] = peer
        return peer

    def remove(self, name: str) -> Peer | None:
        """Take out the peer called `name`. None when there is no such peer.

        Its id is given to another once a snapshot without it was taken: engines that get each snapshot see it leave
        before it comes back, and do not count the new peer's traffic under the old one's.
        """
        peer = self._peers.pop(name, None)
        if peer is not None:
            self._freed_ids.append(peer.id)
        return peer

    def snapshot(self) -> RouteSnapshot:
        """The table as it is now."""
        self._free_ids += self._freed_ids
        self._freed_ids.clear()
        return RouteSnapshot(self._peers.values())

    def _take_id(self) -> int:
        return self._free_ids.pop() if self._free_ids else next(self._ids)
