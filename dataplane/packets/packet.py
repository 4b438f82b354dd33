"""IP headers: what the engines read from them and what they change in them. Pure functions, no I/O.

Every function takes one whole packet as a memoryview, which starts at its first byte and ends at its last. All
but `check_header` want a packet that `check_header` has found FORWARDED, and then never read outside of it.

    IPv4 (RFC 791)                                     IPv6 (RFC 8200)
     0 version, header length in 4-byte words           0 version, first half of the traffic class
     1 TOS: DSCP (6 bits) and ECN (2 bits)              1 second half of the traffic class, flow label
     2 total length                                     4 payload length
     4 identification        6 flags, fragment offset   6 next header        7 hop limit
     8 TTL        9 protocol       10 header checksum   8 source address
    12 source address       16 destination address     24 destination address

The two families differ in where a field lies, not in what is done with it, so that is all that `Family` says.
What is called TTL here is the hop limit of IPv6 too; TOS is its traffic class.

On its way through a node a packet is changed in two places: the TTL goes down by one, and the two ECN bits may be
set. The IPv4 header checksum is not computed anew, but moved by the same amount as the bytes that changed
(RFC 1624). So a checksum that was wrong stays wrong, and the receiver sees it.
"""

import struct
from dataclasses import dataclass

from dataplane.packets.verdicts import Verdict

V4_MAPPED = bytes(10) + b"\xff\xff"
"""What goes before an IPv4 address to make 16 bytes of it (RFC 4291 2.5.5.2)."""

V4_CHECKSUM = 10
"""Where the header checksum of IPv4 lies."""


@dataclass(frozen=True, slots=True)
class Family:
    """Where the fields of one IP version's header lie; all offsets in bytes from the start of the packet."""

    version: int
    header_len: int
    """Bytes of the header without options or extension headers."""
    ttl: int
    source: slice
    destination: slice
    key_prefix: bytes
    """What goes before an address to make the 16-byte key that routes are looked up by."""


IPV4 = Family(4, header_len=20, ttl=8, source=slice(12, 16), destination=slice(16, 20), key_prefix=V4_MAPPED)
IPV6 = Family(6, header_len=40, ttl=7, source=slice(8, 24), destination=slice(24, 40), key_prefix=b"")
FAMILIES = {4: IPV4, 6: IPV6}

NOT_ECT, ECT1, ECT0, CE = range(4)
"""Code points of the two ECN bits (RFC 3168 5): not ECN capable, capable (two ways to say so), congestion met."""

ECN_LOST = -1
"""Entry of ECN_AFTER_TUNNEL for a packet that has to be dropped."""

ECN_AFTER_TUNNEL = (
    (NOT_ECT, NOT_ECT, NOT_ECT, ECN_LOST),
    (ECT1, ECT1, ECT1, CE),
    (ECT0, ECT1, ECT0, CE),
    (CE, CE, CE, CE),
)
"""ECN bits of a packet that leaves a tunnel, by those of its inner and its outer header (RFC 6040 4.2, figure 4)."""


def family_of(packet: memoryview) -> Family:
    """The family of a packet."""
    return FAMILIES[packet[0] >> 4]


def check_header(packet: memoryview) -> Verdict:
    """FORWARDED when the packet is IPv4 or IPv6, its header is all there, and its length is the one that it states.

    Takes any bytes.
    """
    if not packet:
        return Verdict.TRUNCATED
    family = FAMILIES.get(packet[0] >> 4)
    if family is None:
        return Verdict.BAD_VERSION
    if len(packet) < family.header_len:
        return Verdict.TRUNCATED
    if family is IPV6:
        stated_len = IPV6.header_len + word(packet, 4)
    else:
        header_len = v4_header_len(packet)
        if header_len < IPV4.header_len:
            return Verdict.BAD_HEADER
        if len(packet) < header_len:
            return Verdict.TRUNCATED
        stated_len = word(packet, 2)
    return Verdict.FORWARDED if len(packet) == stated_len else Verdict.BAD_LENGTH


def v4_header_len(packet: memoryview) -> int:
    """Bytes of an IPv4 header with its options, as the header states it."""
    return (packet[0] & 0x0F) * 4


def source_key(packet: memoryview) -> bytes:
    """The source address as 16 bytes."""
    family = family_of(packet)
    return family.key_prefix + packet[family.source]


def destination_key(packet: memoryview) -> bytes:
    """The destination address as 16 bytes."""
    family = family_of(packet)
    return family.key_prefix + packet[family.destination]


def is_v4_mapped(key: bytes) -> bool:
    """Whether these 16 bytes are those of an IPv4 address. In an IPv6 header they have no business (RFC 4942 2.2)."""
    return key.startswith(V4_MAPPED)


def has_hosts_source(packet: memoryview) -> bool:
    """Whether the source address can be that of one host on a network.

    Not so are, in IPv4: this network, loopback, multicast, class E and broadcast (RFC 1122 3.2.1.3); in IPv6:
    unspecified, loopback, multicast and IPv4-mapped.
    """
    family = family_of(packet)
    source = bytes(packet[family.source])
    if family is IPV4:
        return source[0] not in (0, 127) and source[0] < 224
    return int.from_bytes(source) > 1 and source[0] != 0xFF and not is_v4_mapped(source)


def ttl(packet: memoryview) -> int:
    """TTL or hop limit."""
    return packet[family_of(packet).ttl]


def change_ttl(packet: memoryview, step: int) -> None:
    """Add `step` to the TTL or hop limit; the sum must fit a byte."""
    at = family_of(packet).ttl
    set_byte(packet, at, packet[at] + step)


def tos(packet: memoryview) -> int:
    """TOS or traffic class: DSCP in the upper six bits, ECN in the lower two."""
    return packet[1] if family_of(packet) is IPV4 else word(packet, 0) >> 4 & 0xFF


def ecn(packet: memoryview) -> int:
    """The two ECN bits."""
    return tos(packet) & 0x03


def set_ecn(packet: memoryview, bits: int) -> None:
    """Write the two ECN bits. They lie in the second byte of both families, but not in the same place of it."""
    shift = 0 if family_of(packet) is IPV4 else 4
    set_byte(packet, 1, packet[1] & ~(0x03 << shift) | bits << shift)


def checksum(data: bytes | memoryview) -> int:
    """The Internet checksum of `data` (RFC 1071), an odd last byte padded with zero."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    return ~_fold(sum(struct.unpack(f"!{len(data) // 2}H", data))) & 0xFFFF


def update_checksum(old_sum: int, old_word: int, new_word: int) -> int:
    """The checksum after one 16-bit word that it covers has changed (RFC 1624, equation 3)."""
    return ~_fold((~old_sum & 0xFFFF) + (~old_word & 0xFFFF) + new_word) & 0xFFFF


def _fold(total: int) -> int:
    """A sum of 16-bit words in one's complement: what overflows is added at the bottom."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def set_byte(packet: memoryview, at: int, value: int) -> None:
    """Write one byte of the header, and let the IPv4 header checksum follow."""
    old_word = word(packet, at & ~1)
    packet[at] = value
    _follow(packet, old_word, word(packet, at & ~1))


def set_word(packet: memoryview, at: int, value: int) -> None:
    """Write a 16-bit number at the even place `at` of the header, and let the IPv4 header checksum follow."""
    old_word = word(packet, at)
    struct.pack_into("!H", packet, at, value)
    _follow(packet, old_word, value)


def word(packet: memoryview, at: int) -> int:
    """The 16-bit number in network byte order at `at`."""
    return packet[at] << 8 | packet[at + 1]


def _follow(packet: memoryview, old_word: int, new_word: int) -> None:
    if family_of(packet) is IPV4:
        struct.pack_into("!H", packet, V4_CHECKSUM, update_checksum(word(packet, V4_CHECKSUM), old_word, new_word))
