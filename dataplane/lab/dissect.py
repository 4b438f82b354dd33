"""Bytes of a packet taken apart for people, once for everything that shows them: text, capture files and the page.

`dissect` gives the layers from the outside in: Ethernet, IP, UDP, inside the overlay IP again, ICMP, TCP. Each field
says at which bit of its layer it lies and how long it is, so that whoever draws the bytes need not know the protocol.
It never fails: where the bytes end early or say something unknown, what is left is one layer of data.

Layers that an overlay has put on have the role `outer`, what they carry `inner`, what an ICMP error quotes `quoted`.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

OVERLAY_PORT = 8285
"""UDP port whose payload is an inner IP packet (flannel's `udp` backend)."""

VXLAN_PORTS = (8472, 4789)
"""UDP ports whose payload is VXLAN: the kernel's own choice, which is flannel's, and the registered one (RFC 7348)."""

ECHO_REQUEST, ECHO_REPLY = "echo request", "echo reply"

ICMP_TYPES = {3: "unreachable", 5: "redirect", 11: "time exceeded", 8: ECHO_REQUEST, 0: ECHO_REPLY}
ICMPV6_TYPES = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: ECHO_REQUEST,
    129: ECHO_REPLY,
    133: "router solicitation",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
}
ERRORS = ("unreachable", "packet too big", "time exceeded")
"""ICMP types that quote the packet which they are about."""

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 44: "fragment", 58: "ICMPv6"}
ETHERTYPES = {0x0800: "IPv4", 0x86DD: "IPv6", 0x0806: "ARP"}
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
"""From the lowest bit up (RFC 9293 3.1)."""


class Field(NamedTuple):
    """A field of a layer."""

    key: str
    at: int
    """Bits from the layer's beginning."""
    bits: int
    text: str
    """Its value, for people."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One header, or the data behind the last one."""

    name: str
    offset: int
    """Bytes from the packet's beginning."""
    length: int
    """Bytes, without what it carries."""
    fields: tuple[Field, ...]
    role: str = ""

    def __getitem__(self, key: str) -> str:
        """The text of a field. Raises KeyError."""
        for field in self.fields:
            if field.key == key:
                return field.text
        raise KeyError(key)

    def get(self, key: str) -> str:
        """The text of a field; empty when there is none of that name."""
        return next((field.text for field in self.fields if field.key == key), "")

    @property
    def end(self) -> int:
        """Where it ends in the packet."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser made of the beginning of some bytes. `length` covers the header with its options."""

    name: str
    length: int
    fields: list[Field]
    follows: "Parser | None"
    """What takes the rest apart; None: it is data."""
    end: int
    """Where the layer's payload ends, as its header states it."""


Parser = Callable[[bytes], Parsed]
"""Raises struct.error when the bytes end within the header, ValueError when they make no sense."""


def dissect(data: bytes, link: str = "ethernet") -> list[Layer]:
    """The layers of `data`, whose first one is of the kind `link`: ethernet, ip, icmp, icmpv6, udp, tcp or data."""
    layers: list[Layer] = []
    parser: Parser | None = _START[link]
    at, end = 0, len(data)
    while at < end:
        try:
            parsed = parser(data[at:end]) if parser else None
        except (struct.error, ValueError):
            parsed = None
        if parsed is None:
            layers.append(Layer("data", at, end - at, (Field("bytes", 0, (end - at) * 8, f"{end - at} bytes"),)))
            at = end
            break
        layers.append(Layer(parsed.name, at, parsed.length, tuple(parsed.fields)))
        parser, end, at = parsed.follows, min(end, at + max(parsed.end, parsed.length)), at + parsed.length
    if at < len(data) and layers:
        layers.append(_rest(data, max(at, layers[-1].end), layers))
    return _with_roles(layers)


def _rest(data: bytes, at: int, layers: Sequence[Layer]) -> Layer:
    """Bytes behind what the headers state: the other datagrams of one frame that stands for many, or padding."""
    in_overlay = sum(layer.name in ("IPv4", "IPv6") for layer in layers) > 1
    name = "more datagrams" if in_overlay else "padding"
    return Layer(name, at, len(data) - at, (Field("bytes", 0, (len(data) - at) * 8, f"{len(data) - at} bytes"),))


def _with_roles(layers: Sequence[Layer]) -> list[Layer]:
    """Say which layers an overlay has put on, and which ones an ICMP error quotes."""
    networks = [number for number, layer in enumerate(layers) if layer.name in ("IPv4", "IPv6")]
    quotes = [n for n, layer in enumerate(layers) if layer.name.startswith("ICMP") and layer.get("type") in ERRORS]
    quoted_from = quotes[0] + 1 if quotes else len(layers)
    travellers = [number for number in networks if number < quoted_from]
    inner_from = travellers[-1] if len(travellers) > 1 else -1
    if inner_from > 0 and layers[inner_from - 1].name == "Ethernet":
        inner_from -= 1
    roles = []
    for number, layer in enumerate(layers):
        role = "" if inner_from < 0 else "outer" if number < inner_from else "inner"
        roles.append(
            Layer(layer.name, layer.offset, layer.length, layer.fields, "quoted" if number >= quoted_from else role)
        )
    return roles


class _Fields:
    """Collects fields from the beginning of a layer on."""

    def __init__(self, data: bytes, least: int) -> None:
        if len(data) < least:
            raise struct.error("the bytes end within the header")
        self._data = data
        self._at = 0
        self.list: list[Field] = []

    def take(self, key: str, bits: int, text: Callable[[int], str] = str) -> int:
        """The number in the next `bits` bits."""
        end = self._at + bits
        whole = int.from_bytes(self._data[: (end + 7) // 8])
        value = whole >> (-end % 8) & (1 << bits) - 1
        self.list.append(Field(key, self._at, bits, text(value)))
        self._at = end
        return value

    def take_bytes(self, key: str, count: int, text: Callable[[bytes], str]) -> bytes:
        """The next `count` bytes."""
        start = self._at // 8
        value = self._data[start : start + count]
        if count:
            self.list.append(Field(key, self._at, count * 8, text(value)))
        self._at += count * 8
        return value


def _mac(data: bytes) -> str:
    return data.hex(":")


def _address(data: bytes) -> str:
    return str(ip_address(data))


def _hex16(value: int) -> str:
    return f"{value:#06x}"


def _named(names: dict[int, str]) -> Callable[[int], str]:
    return lambda value: names.get(value, str(value))


def _ethernet(data: bytes) -> Parsed:
    fields = _Fields(data, 14)
    fields.take_bytes("to", 6, _mac)
    fields.take_bytes("from", 6, _mac)
    kind = fields.take("type", 16, lambda value: ETHERTYPES.get(value, _hex16(value)))
    follows = {0x0800: _ipv4, 0x86DD: _ipv6, 0x0806: _arp}.get(kind)
    return Parsed("Ethernet", 14, fields.list, follows, len(data))


def _arp(data: bytes) -> Parsed:
    fields = _Fields(data, 28)
    for key, bits in (("hardware", 16), ("protocol", 16), ("hardware length", 8), ("protocol length", 8)):
        fields.take(key, bits)
    fields.take("operation", 16, _named({1: "request", 2: "reply"}))
    fields.take_bytes("sender MAC", 6, _mac)
    fields.take_bytes("sender", 4, _address)
    fields.take_bytes("target MAC", 6, _mac)
    fields.take_bytes("target", 4, _address)
    return Parsed("ARP", 28, fields.list, None, 28)


def _ip(data: bytes) -> Parsed:
    """IPv4 or IPv6, as the first four bits say. In a TUN there is nothing else to tell them apart."""
    if data[0] >> 4 not in (4, 6):
        raise ValueError("neither IPv4 nor IPv6")
    return _ipv6(data) if data[0] >> 4 == 6 else _ipv4(data)


def _carried(data: bytes) -> Parsed:
    """What a datagram to the overlay's port carries: only what is one whole IP packet counts as that."""
    parsed = _ip(data)
    if parsed.end > len(data):
        raise ValueError("longer than the datagram")
    return parsed


def _ipv4(data: bytes) -> Parsed:
    fields = _Fields(data, 20)
    fields.take("version", 4)
    words = fields.take("header", 4, lambda value: f"{value * 4} bytes")
    fields.take("dscp", 6)
    fields.take("ecn", 2)
    length = fields.take("length", 16)
    fields.take("id", 16)
    fields.take("flags", 3, lambda value: "+".join(n for b, n in ((2, "DF"), (1, "MF")) if value & b) or "none")
    offset = fields.take("fragment offset", 13, lambda value: str(value * 8))
    fields.take("ttl", 8)
    protocol = fields.take("protocol", 8, _named(PROTOCOLS))
    fields.take("checksum", 16, _hex16)
    fields.take_bytes("from", 4, _address)
    fields.take_bytes("to", 4, _address)
    header_len = max(words * 4, 20)
    fields.take_bytes("options", header_len - 20, bytes.hex)
    return Parsed("IPv4", header_len, fields.list, None if offset else _TRANSPORT.get(protocol), length)


def _ipv6(data: bytes) -> Parsed:
    fields = _Fields(data, 40)
    fields.take("version", 4)
    fields.take("dscp", 6)
    fields.take("ecn", 2)
    fields.take("flow label", 20, lambda value: f"{value:#07x}")
    length = fields.take("payload length", 16)
    following = fields.take("next header", 8, _named(PROTOCOLS))
    fields.take("hop limit", 8)
    fields.take_bytes("from", 16, _address)
    fields.take_bytes("to", 16, _address)
    return Parsed("IPv6", 40, fields.list, _TRANSPORT.get(following), 40 + length)


def _fragment(data: bytes) -> Parsed:
    """IPv6's extension header of a fragment (RFC 8200 4.5)."""
    fields = _Fields(data, 8)
    following = fields.take("next header", 8, _named(PROTOCOLS))
    fields.take("reserved", 8)
    offset = fields.take("fragment offset", 13, lambda value: str(value * 8))
    fields.take("reserved bits", 2)
    fields.take("more", 1)
    fields.take("id", 32)
    return Parsed("fragment", 8, fields.list, None if offset else _TRANSPORT.get(following), len(data))


def _udp(data: bytes) -> Parsed:
    fields = _Fields(data, 8)
    fields.take("from", 16)
    destination = fields.take("to", 16)
    length = fields.take("length", 16)
    fields.take("checksum", 16, _hex16)
    follows = _carried if destination == OVERLAY_PORT else _vxlan if destination in VXLAN_PORTS else None
    return Parsed("UDP", 8, fields.list, follows, length)


def _vxlan(data: bytes) -> Parsed:
    fields = _Fields(data, 8)
    if fields.take("flags", 8, lambda value: f"{value:#04x}") != 0x08:
        raise ValueError("not VXLAN (RFC 7348 5)")
    fields.take("reserved", 24)
    fields.take("vni", 24)
    fields.take("reserved byte", 8)
    return Parsed("VXLAN", 8, fields.list, _ethernet, len(data))


def _tcp(data: bytes) -> Parsed:
    fields = _Fields(data, 20)
    fields.take("from", 16)
    fields.take("to", 16)
    fields.take("seq", 32)
    fields.take("ack", 32)
    words = fields.take("header", 4, lambda value: f"{value * 4} bytes")
    fields.take("reserved", 4)
    fields.take(
        "flags", 8, lambda value: "+".join(name for n, name in enumerate(TCP_FLAGS) if value >> n & 1) or "none"
    )
    fields.take("window", 16)
    fields.take("checksum", 16, _hex16)
    fields.take("urgent", 16)
    header_len = max(words * 4, 20)
    if header_len > len(data):
        raise struct.error("the bytes end within the options")
    fields.take_bytes("options", header_len - 20, bytes.hex)
    return Parsed("TCP", header_len, fields.list, None, len(data))


def _icmp(data: bytes) -> Parsed:
    return _any_icmp("ICMP", ICMP_TYPES, data)


def _icmpv6(data: bytes) -> Parsed:
    return _any_icmp("ICMPv6", ICMPV6_TYPES, data)


def _any_icmp(name: str, types: dict[int, str], data: bytes) -> Parsed:
    fields = _Fields(data, 8)
    kind = types.get(fields.take("type", 8, _named(types)), "")
    fields.take("code", 8)
    fields.take("checksum", 16, _hex16)
    if kind in (ECHO_REQUEST, ECHO_REPLY):
        fields.take("id", 16)
        fields.take("seq", 16)
    else:
        fields.take("unused", 16)
        fields.take("mtu", 16)
    return Parsed(name, 8, fields.list, _ip if kind in ERRORS else None, len(data))


_TRANSPORT: dict[int, Parser] = {1: _icmp, 6: _tcp, 17: _udp, 44: _fragment, 58: _icmpv6}

_START: dict[str, Parser | None] = {
    "ethernet": _ethernet,
    "ip": _ip,
    "icmp": _icmp,
    "icmpv6": _icmpv6,
    "udp": _udp,
    "tcp": _tcp,
    "data": None,
}

LINKS = tuple(_START)
"""What the first byte of a packet may be."""
