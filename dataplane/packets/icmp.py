"""ICMP errors: whether a packet may be answered with one, how it is built, and how many may go out.

The rules are those of RFC 1122 3.2.2 and RFC 1812 4.3.2.7 for IPv4, and of RFC 4443 2.4 for IPv6. The point of nearly
all of them is that an error must never cause another error, and that one packet must never cause many.

An error is the header of IP, eight bytes of ICMP, and the start of the packet that is at fault. It is built in front
of that packet, in the batch's headroom, so nothing is copied. An IPv4 error leaves as RFC 1812 4.3.2.5 wants it: with
the precedence of internetwork control (TOS 0xC0); it is short enough not to be fragmented by anyone.
"""

import struct

from dataplane.packets.packet import IPV4, IPV6, checksum, family_of, has_hosts_source, v4_header_len
from dataplane.packets.verdicts import Verdict

PROTOCOL_ICMP, PROTOCOL_ICMPV6 = 1, 58
ICMP_HEADER_LEN = 8
ERROR_TTL = 64
MAX_ERROR_LEN = {4: 576, 6: 1280}
"""Bytes of the longest ICMP error: what every IPv4 host takes in one piece (RFC 1812 4.3.2.3), the IPv6 minimum MTU."""

TYPE_AND_CODE = {
    Verdict.NO_ROUTE: {4: (3, 0), 6: (1, 0)},  # network unreachable, no route to destination
    Verdict.TTL_EXCEEDED: {4: (11, 0), 6: (3, 0)},  # TTL exceeded in transit, hop limit exceeded in transit
    Verdict.TOO_BIG: {4: (3, 4), 6: (2, 0)},  # fragmentation needed, packet too big
}
"""ICMP type and code for each verdict that is answered, by IP version."""

V4_ERROR_TYPES = frozenset({3, 4, 5, 11, 12})
"""Unreachable, source quench, redirect, time exceeded, parameter problem."""

V6_FIRST_INFORMATION_TYPE = 128
"""ICMPv6 types below are errors (RFC 4443 2.1)."""

V6_REDIRECT = 137

V6_MAX_EXTENSION_HEADERS = 8
V6_FRAGMENT = 44
V6_AUTHENTICATION = 51
V6_EXTENSION_HEADERS = frozenset({0, 43, V6_FRAGMENT, V6_AUTHENTICATION, 60})
"""Hop-by-hop options, routing, fragment, authentication, destination options."""
V6_EXTENSION_HEADER_MIN_LEN = 8


def may_answer(packet: memoryview) -> bool:
    """Whether an ICMP error about `packet`, whose header is good, may be sent to its source."""
    if not has_hosts_source(packet):
        return False
    return _may_answer_v4(packet) if family_of(packet) is IPV4 else _may_answer_v6(packet)


def _may_answer_v4(packet: memoryview) -> bool:
    if packet[16] >= 224:  # destination: multicast, class E, broadcast
        return False
    fragment_offset = (packet[6] << 8 | packet[7]) & 0x1FFF
    if fragment_offset != 0:
        return False
    if packet[9] != PROTOCOL_ICMP:
        return True
    payload = packet[v4_header_len(packet) :]
    return len(payload) > 0 and payload[0] not in V4_ERROR_TYPES


def _may_answer_v6(packet: memoryview) -> bool:
    if packet[IPV6.destination][0] == 0xFF:  # multicast
        return False
    upper = upper_layer(packet)
    if upper is None:
        return False
    protocol, at = upper
    if protocol != PROTOCOL_ICMPV6:
        return True
    return at < len(packet) and packet[at] >= V6_FIRST_INFORMATION_TYPE and packet[at] != V6_REDIRECT


def upper_layer(packet: memoryview) -> tuple[int, int] | None:
    """The protocol above IPv6 and where it starts, behind the extension headers (RFC 8200 4).

    None when that cannot be said: too many headers, one cut short, or a fragment that is not the first.
    """
    protocol, at = packet[6], IPV6.header_len
    for _ in range(V6_MAX_EXTENSION_HEADERS):
        if protocol not in V6_EXTENSION_HEADERS:
            return protocol, at
        if at + V6_EXTENSION_HEADER_MIN_LEN > len(packet):
            return None
        if protocol == V6_FRAGMENT:
            header_len = V6_EXTENSION_HEADER_MIN_LEN
            if (packet[at + 2] << 8 | packet[at + 3]) >> 3 != 0:
                return None
        elif protocol == V6_AUTHENTICATION:
            header_len = 4 * (packet[at + 1] + 2)  # counted in words of 4 bytes, less 2 (RFC 4302 2.2)
        else:
            header_len = 8 * (packet[at + 1] + 1)
        if at + header_len > len(packet):
            return None
        protocol, at = packet[at], at + header_len
    return None if protocol in V6_EXTENSION_HEADERS else (protocol, at)


def put_error(arena: memoryview, start: int, length: int, reason: Verdict, sender: bytes, mtu: int) -> tuple[int, int]:
    """Build the error about the packet of `length` bytes at `arena[start]` right in front of it.

    `sender` is the node's address in the packet's family, 4 or 16 bytes; `mtu` goes into a TOO_BIG. The packet itself
    is quoted unchanged. Returns where the error starts and its length; needs 48 writable bytes before `start`.
    """
    packet = arena[start : start + length]
    family = family_of(packet)
    receiver = bytes(packet[family.source])
    error_len = min(family.header_len + ICMP_HEADER_LEN + length, MAX_ERROR_LEN[family.version])
    error_start = start - ICMP_HEADER_LEN - family.header_len
    error = arena[error_start : error_start + error_len]
    message = error[family.header_len :]
    icmp_type, code = TYPE_AND_CODE[reason][family.version]
    struct.pack_into("!BBHI", message, 0, icmp_type, code, 0, mtu if reason == Verdict.TOO_BIG else 0)
    if family is IPV4:
        header = struct.pack("!BBHIBBH", 0x45, 0xC0, error_len, 0, ERROR_TTL, PROTOCOL_ICMP, 0) + sender + receiver
        struct.pack_into("!H", message, 2, checksum(message))
        error[:20] = header
        struct.pack_into("!H", error, 10, checksum(header))
    else:
        error[:40] = struct.pack("!IHBB", 6 << 28, len(message), PROTOCOL_ICMPV6, ERROR_TTL) + sender + receiver
        pseudo_header = struct.pack("!16s16sI3xB", sender, receiver, len(message), PROTOCOL_ICMPV6)
        struct.pack_into("!H", message, 2, checksum(pseudo_header + message))
    return error_start, error_len


class TokenBucket:
    """Lets through `rate` events a second in the long run, and `burst` at once; a rate of 0 lets none through.

    With `part`, it is that part of both, but not less than one event at once. Whole nanoseconds only, so that every
    implementation answers alike: an event costs 1e9 // rate of them. What is saved up is told by the time when the
    bucket will be full again (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, rate: int, burst: int, part: int = 1) -> None:
        self.cost_ns = part * (10**9 // rate) if rate else 1
        self._capacity = max(1, burst // part) * self.cost_ns if rate and burst else 0
        self._full_at_ns = 0

    def take(self, now_ns: int, reserve_ns: int = 0) -> bool:
        """Whether one more event may happen at `now_ns` and leave `reserve_ns` in the bucket; if so, it is paid for."""
        paid = max(self._full_at_ns, now_ns) + self.cost_ns
        if paid - now_ns > self._capacity - reserve_ns:
            return False
        self._full_at_ns = paid
        return True


SOURCE_PART = 8
"""What one source gets of the limit, as the divisor."""

N_SOURCES = 1024
"""Buckets for sources, who share them by a hash of the address: memory stays the same however many there are."""


class ErrorLimit:
    """How many ICMP errors may go out: `rate` a second in all, `burst` at once.

    Nobody can use it up for others. Each source has a bucket of its own for its path MTU messages and one for all else,
    an eighth of the whole each. And half of the burst is kept for path MTU messages, without which connections stall,
    while of the others a program learns what a timeout would tell it, too.
    """

    def __init__(self, rate: int, burst: int) -> None:
        self._limits = rate, burst
        self._all = TokenBucket(rate, burst)
        self._reserve_ns = burst // 2 * self._all.cost_ns
        self._sources: dict[int, TokenBucket] = {}

    def take(self, reason: Verdict, source: bytes, now_ns: int) -> bool:
        """Whether an error for `reason` may go to `source`, 16 bytes, at `now_ns`; if so, it is paid for."""
        too_big = reason == Verdict.TOO_BIG
        number = hash_source(source, too_big)
        bucket = self._sources.get(number)
        if bucket is None:
            bucket = self._sources[number] = TokenBucket(*self._limits, SOURCE_PART)
        return bucket.take(now_ns) and self._all.take(now_ns, 0 if too_big else self._reserve_ns)


def hash_source(source: bytes, too_big: bool) -> int:
    """The number of a source's bucket: FNV-1a in 32 bits over the address and one byte for the kind of error."""
    result = 0x811C9DC5
    for byte in (*source, too_big):
        result = (result ^ byte) * 0x01000193 & 0xFFFFFFFF
    return (result ^ result >> 16) % N_SOURCES
