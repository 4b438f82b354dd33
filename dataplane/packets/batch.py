"""PacketBatch: a fixed number of packet slots in one arena, with an array for each thing known of a packet.

All memory is allocated once, before the forwarding loop starts. The arrays are plain buffers, so that the Python
engine indexes them, the numpy engine views them with `numpy.frombuffer`, and the C engine gets pointers to
them, all without a copy.

Each slot has HEADROOM bytes before the place where a packet is read to: an ICMP error is built by putting its
headers in front of the packet that it quotes.
"""

from dataplane.packets.verdicts import Egress, Verdict

HEADROOM = 64
"""Bytes kept free in front of a packet: IPv6 header and ICMPv6 header (48), rounded up."""

ADDRESS_LEN = 16
"""Bytes of an address. IPv4 is held as ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so both families are one code path."""

NO_PEER = -1
"""Value in `next_hop` for a packet that goes to no peer."""

MAX_PACKET = 65535
"""Bytes of the largest IP packet without jumbo payload."""


class PacketBatch:
    """Slots for packets on their way between the TUN and the underlay.

    Only the first `count` entries of the arrays mean something:

    - `offset`, `length` (uint32): where the packet lies in `arena`, in bytes
    - `received` (uint32): the length that was read; `length` changes when an ICMP error takes the packet's place
    - `verdict` (uint8): a Verdict        - `egress` (uint8): an Egress
    - `next_hop` (int32): peer id of a forwarded packet, else NO_PEER. Encapsulation sets the receiver, decapsulation
      the sender
    - `fragment_len` (uint32): bytes of the largest fragment that a packet to be sent is cut into; 0: it is sent whole
    - `no_df` (uint8): 1 when a packet to be sent goes in a datagram without DF, for the kernel and routers to fragment
    - `tos` (uint8): TOS or traffic class byte of the outer header: as received, or as to be sent once forwarded
    - `source` (16 bytes each): underlay address that a datagram came from, network byte order

    The batch is owned by one thread at a time.
    """

    def __init__(self, slots: int = 128, slot_size: int = 2048) -> None:
        """Allocate `slots` slots, each for a packet of up to `slot_size` bytes."""
        self.slots = slots
        self.slot_size = slot_size
        self.count = 0
        self.arena = bytearray(slots * (HEADROOM + slot_size))
        self.view = memoryview(self.arena)
        self.offset = memoryview(bytearray(4 * slots)).cast("I")
        self.length = memoryview(bytearray(4 * slots)).cast("I")
        self.received = memoryview(bytearray(4 * slots)).cast("I")
        self.verdict = memoryview(bytearray(slots))
        self.egress = memoryview(bytearray(slots))
        self.fragment_len = memoryview(bytearray(4 * slots)).cast("I")
        self.no_df = memoryview(bytearray(slots))
        self.next_hop = memoryview(bytearray(4 * slots)).cast("i")
        self.tos = memoryview(bytearray(slots))
        self.source = memoryview(bytearray(ADDRESS_LEN * slots))

    def clear(self) -> None:
        """Forget all packets."""
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether no slot is left."""
        return self.count == self.slots

    def free_slot(self) -> memoryview:
        """The writable bytes of the next free slot; follow with `commit` once a packet was read into it."""
        start = self.count * (HEADROOM + self.slot_size) + HEADROOM
        return self.view[start : start + self.slot_size]

    def commit(self, length: int, source: bytes = bytes(ADDRESS_LEN), tos: int = 0) -> None:
        """Take the `length` bytes in `free_slot` as a packet, received from `source` with outer byte `tos`."""
        i = self.count
        self.offset[i] = i * (HEADROOM + self.slot_size) + HEADROOM
        self.length[i] = self.received[i] = length
        self.verdict[i] = Verdict.FORWARDED
        self.egress[i] = Egress.NONE
        self.next_hop[i] = NO_PEER
        self.fragment_len[i] = self.no_df[i] = 0
        self.tos[i] = tos
        self.source[ADDRESS_LEN * i : ADDRESS_LEN * (i + 1)] = source
        self.count = i + 1

    def append(self, packet: bytes, source: bytes = bytes(ADDRESS_LEN), tos: int = 0) -> None:
        """Copy a packet into the next free slot."""
        self.free_slot()[: len(packet)] = packet
        self.commit(len(packet), source, tos)

    def packet(self, i: int) -> memoryview:
        """The bytes of packet `i`, writable, valid until the slot is filled again."""
        start = self.offset[i]
        return self.view[start : start + self.length[i]]

    def source_address(self, i: int) -> bytes:
        """The underlay address that datagram `i` came from."""
        return bytes(self.source[ADDRESS_LEN * i : ADDRESS_LEN * (i + 1)])
