"""DHCP messages on the wire: the fixed BOOTP fields, the options, and the IPv4 and UDP headers around them.

A client without an address cannot use an ordinary UDP socket, so messages travel through a packet socket and
the IPv4 and UDP headers are made and checked here. Addresses are four bytes in network order throughout.

Sources: RFC 2131 (the message, ports, options in the file and sname fields), RFC 2132 (options), RFC 3396 (long
options), RFC 791 and RFC 768 (headers), RFC 1071 (checksum).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

CLIENT_PORT = 68
SERVER_PORT = 67
ANY = bytes(4)
BROADCAST = b"\xff" * 4


class Kind(IntEnum):
    """DHCP message types (option 53)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """The option codes that this client gives a meaning to."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    HOST_NAME = 12
    STATIC_ROUTES = 33
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_REQUEST_LIST = 55
    MAX_MESSAGE_SIZE = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    VENDOR_CLASS = 60
    CLIENT_ID = 61
    USER_CLASS = 77
    CLASSLESS_ROUTES = 121
    END = 255


BOOTREQUEST = 1
BOOTREPLY = 2
_ETHERNET = 1
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST_FLAG = 0x8000
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_MIN_LEN = 300  # BOOTP's size: some relays and servers drop what is shorter
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_UDP_PROTOCOL = 17
_TTL = 64
_MAX_OPTION_LEN = 255


class MessageError(ValueError):
    """The bytes are not a DHCP message."""


@dataclass(frozen=True)
class Message:
    """One DHCP message. `options` holds every option but the message type, whole, by its code."""

    op: int
    kind: Kind
    xid: int
    chaddr: bytes
    secs: int = 0
    broadcast: bool = False
    ciaddr: bytes = ANY
    yiaddr: bytes = ANY
    siaddr: bytes = ANY
    giaddr: bytes = ANY
    options: Mapping[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The message as the payload of a UDP datagram."""
        flags = _BROADCAST_FLAG if self.broadcast else 0
        addresses = (self.ciaddr, self.yiaddr, self.siaddr, self.giaddr)
        secs = min(self.secs, 0xFFFF)
        fixed = _FIXED.pack(
            self.op, _ETHERNET, len(self.chaddr), 0, self.xid, secs, flags, *addresses, self.chaddr, b"", b""
        )
        options = _encoded_option(Option.MESSAGE_TYPE, bytes([self.kind]))
        options += b"".join(_encoded_option(code, value) for code, value in self.options.items())
        return (fixed + _COOKIE + options + bytes([Option.END])).ljust(_MIN_LEN, b"\0")


def decode(data: bytes) -> Message:
    """Read the payload of a UDP datagram. Raises MessageError."""
    if len(data) < _FIXED.size + len(_COOKIE) or data[_FIXED.size : _FIXED.size + 4] != _COOKIE:
        raise MessageError("not a DHCP message: too short, or without the magic cookie")
    op, _, hlen, _, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file = _FIXED.unpack_from(data)
    if hlen > 16:
        raise MessageError(f"a hardware address of {hlen} bytes")
    options = _decoded_options(data[_FIXED.size + 4 :], file, sname)
    kind = options.pop(Option.MESSAGE_TYPE, b"")
    if len(kind) != 1 or not Kind.DISCOVER <= kind[0] <= Kind.INFORM:
        raise MessageError("no DHCP message type that is known")
    broadcast = bool(flags & _BROADCAST_FLAG)
    return Message(op, Kind(kind[0]), xid, chaddr[:hlen], secs, broadcast, ciaddr, yiaddr, siaddr, giaddr, options)


def _encoded_option(code: int, value: bytes) -> bytes:
    """One option; a value that is too long for one becomes several of the same code (RFC 3396)."""
    pieces = [value[at : at + _MAX_OPTION_LEN] for at in range(0, len(value), _MAX_OPTION_LEN)] or [b""]
    return b"".join(bytes([code, len(piece)]) + piece for piece in pieces)


def _decoded_options(main: bytes, file: bytes, sname: bytes) -> dict[int, bytes]:
    """All options, those in the file and sname fields included where option 52 says that some are there."""
    options: dict[int, bytes] = {}
    _collect_options(main, options)
    overload = options.pop(Option.OVERLOAD, b"\0")[:1]
    for bit, area in ((1, file), (2, sname)):
        if overload and overload[0] & bit:
            _collect_options(area, options)
    return options


def _collect_options(area: bytes, options: dict[int, bytes]) -> None:
    for code, value in _walk_options(area):
        options[code] = options.get(code, b"") + value


def _walk_options(area: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(area) and area[at] != Option.END:
        if area[at] == Option.PAD:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise MessageError("an option reaches past the end")
        end = at + 2 + area[at + 1]
        yield area[at], area[at + 2 : end]
        at = end


def wrap(payload: bytes, source: bytes, destination: bytes) -> bytes:
    """Put the IPv4 and UDP headers of a client's datagram before the payload."""
    udp_len = _UDP.size + len(payload)
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, udp_len, 0) + payload
    checksum = _udp_checksum(source, destination, udp) or 0xFFFF  # zero would mean that there is none
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, udp_len, checksum) + payload
    header = (0x45, 0, _IPV4.size + udp_len, 0, 0, _TTL, _UDP_PROTOCOL)
    ip_checksum = internet_checksum(_IPV4.pack(*header, 0, source, destination))
    return _IPV4.pack(*header, ip_checksum, source, destination) + udp


def unwrap(packet: bytes, checksum_ready: bool = True) -> bytes:
    """Return the payload of an IPv4 packet to the client's port. Raises MessageError for any other packet.

    `checksum_ready` False: the packet comes from this host and its UDP checksum has not been filled in yet.
    """
    if len(packet) < _IPV4.size or packet[0] >> 4 != 4:
        raise MessageError("not an IPv4 packet")
    header_len = (packet[0] & 0x0F) * 4
    _, _, total_len, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
    if header_len < _IPV4.size or not header_len + _UDP.size <= total_len <= len(packet):
        raise MessageError("an IPv4 packet whose lengths are wrong")
    if internet_checksum(packet[:header_len]) or fragment & 0x3FFF or protocol != _UDP_PROTOCOL:
        raise MessageError("a damaged packet, a fragment, or not UDP")
    udp = packet[header_len:total_len]
    _, port, udp_len, checksum = _UDP.unpack_from(udp)
    if port != CLIENT_PORT or not _UDP.size <= udp_len <= len(udp):
        raise MessageError("not a datagram for the client's port, or its length is wrong")
    if checksum and checksum_ready and _udp_checksum(source, destination, udp[:udp_len]):
        raise MessageError("the UDP checksum is wrong")
    return udp[_UDP.size : udp_len]


def internet_checksum(data: bytes) -> int:
    """The ones' complement sum of the 16-bit words (RFC 1071); zero over data that holds its right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _udp_checksum(source: bytes, destination: bytes, udp: bytes) -> int:
    return internet_checksum(source + destination + struct.pack("!BBH", 0, _UDP_PROTOCOL, len(udp)) + udp)
