"""The headers of a frame, taken apart for people: Ethernet, IP, UDP, inside the overlay IP again, ICMP.

`dissect` never fails: where the bytes end early or say something unknown, the list of headers just ends.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

OVERLAY_PORT = 8285
"""UDP port whose payload is an inner IP packet (flannel's `udp` backend)."""

ECHO_REQUEST, ECHO_REPLY = "echo request", "echo reply"

ICMP_TYPES = {3: "unreachable", 11: "time exceeded", 8: ECHO_REQUEST, 0: ECHO_REPLY}
ICMPV6_TYPES = {1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: ECHO_REQUEST, 129: ECHO_REPLY}


@dataclass(frozen=True, slots=True)
class Header:
    """One header: its protocol and the fields worth looking at."""

    name: str
    fields: dict[str, str | int]


Parsed = tuple[Header, bytes, "Parser | None"]
"""A header, the bytes that follow it, and what takes those apart."""

Parser = Callable[[bytes], Parsed]
"""Raises struct.error when the bytes end within the header."""


def dissect(frame: bytes, *, ethernet: bool) -> list[Header]:
    """The headers of `frame` from the outside in; it starts with an Ethernet header or, if not `ethernet`, with IP."""
    headers: list[Header] = []
    parser: Parser | None = _ethernet if ethernet else _ip
    try:
        while parser is not None:
            header, frame, parser = parser(frame)
            headers.append(header)
    except struct.error:
        pass
    return headers


def _ethernet(data: bytes) -> Parsed:
    destination, source, ethertype = struct.unpack_from("!6s6sH", data)
    fields: dict[str, str | int] = {"from": source.hex(":"), "to": destination.hex(":")}
    return Header("Ethernet", fields), data[14:], {0x0800: _ip, 0x86DD: _ip}.get(ethertype)


def _ip(data: bytes) -> Parsed:
    """IPv4 or IPv6, as the first four bits say. In a TUN there is nothing else to tell them apart."""
    (first,) = struct.unpack_from("B", data)
    return _ipv6(data) if first >> 4 == 6 else _ipv4(data)


def _ipv4(data: bytes) -> Parsed:
    first, tos, length, ident, _, ttl, protocol, checksum, source, destination = struct.unpack_from("!BBHHHBBHII", data)
    fields: dict[str, str | int] = {
        "from": str(IPv4Address(source)),
        "to": str(IPv4Address(destination)),
        "ttl": ttl,
        "length": length,
        "id": ident,
        "tos": tos,
        "checksum": f"{checksum:#06x}",
    }
    return Header("IPv4", fields), data[(first & 0x0F) * 4 : length], {1: _icmp, 17: _udp}.get(protocol)


def _ipv6(data: bytes) -> Parsed:
    first, length, protocol, hop_limit, source, destination = struct.unpack_from("!IHBB16s16s", data)
    fields: dict[str, str | int] = {
        "from": str(IPv6Address(source)),
        "to": str(IPv6Address(destination)),
        "hop limit": hop_limit,
        "length": 40 + length,
        "class": first >> 20 & 0xFF,
    }
    return Header("IPv6", fields), data[40 : 40 + length], {58: _icmpv6, 17: _udp}.get(protocol)


def _udp(data: bytes) -> Parsed:
    """UDP without its checksum: on its way through devices of one host it is a promise that the last one keeps."""
    source, destination, length, _ = struct.unpack_from("!HHHH", data)
    fields: dict[str, str | int] = {"from": source, "to": destination, "length": length}
    return Header("UDP", fields), data[8:length], _ip if destination == OVERLAY_PORT else None


def _icmp(data: bytes) -> Parsed:
    return _any_icmp("ICMP", ICMP_TYPES, data)


def _icmpv6(data: bytes) -> Parsed:
    return _any_icmp("ICMPv6", ICMPV6_TYPES, data)


def _any_icmp(name: str, types: dict[int, str], data: bytes) -> Parsed:
    kind, code, _, ident, sequence = struct.unpack_from("!BBHHH", data)
    text = types.get(kind, f"type {kind}")
    if text not in (ECHO_REQUEST, ECHO_REPLY):
        return Header(name, {"type": text, "code": code}), data[8:], None
    return Header(name, {"type": text, "id": ident, "seq": sequence, "data": len(data) - 8}), data[8:], None
