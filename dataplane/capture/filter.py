"""The filter language of `udplane capture`: which packets, by what the pods said inside of the tunnel.

    host 10.5.1.2                       from or to an address, or a network: host 10.5.1.0/24
    port 53                             TCP or UDP port, either side
    tcp, udp, icmp                      protocol; icmp is ICMP and ICMPv6 alike
    peer 192.168.0.202                  to or from the node with this underlay address
    not X, X and Y, X or Y, (X)         as usual: `not` binds tightest, then `and`, then `or`

`compile_filter` turns a text into a function from a `Packet` to a truth value.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from dataplane.addresses import Address
from dataplane.errors import UsageError
from dataplane.packets.icmp import upper_layer
from dataplane.packets.packet import (
    IPV4,
    V4_MAPPED,
    check_header,
    destination_key,
    family_of,
    source_key,
    v4_header_len,
)
from dataplane.packets.verdicts import Verdict

_TCP, _UDP = 6, 17
_PROTOCOLS = {"tcp": {_TCP}, "udp": {_UDP}, "icmp": {1, 58}}
_TOKEN = re.compile(r"[()]|[^\s()]+")


@dataclass(frozen=True, slots=True)
class Packet:
    """What a filter can ask about: the inner packet, and the underlay address of the peer (None where unknown)."""

    source: Address
    destination: Address
    protocol: int
    ports: frozenset[int]
    peer: Address | None


Filter = Callable[[Packet], bool]


def read_packet(inner: memoryview, peer: Address | None = None) -> Packet | None:
    """Take an inner packet apart; None when its header is not whole."""
    if check_header(inner) != Verdict.FORWARDED:
        return None
    protocol, ports = _transport(inner)
    return Packet(_address(source_key(inner)), _address(destination_key(inner)), protocol, ports, peer)


def compile_filter(text: str) -> Filter:
    """Read a filter; UsageError says what cannot be understood. An empty text lets everything pass."""
    if not text.strip():
        return lambda _packet: True
    parser = _Parser(_TOKEN.findall(text))
    result = parser.alternatives()
    parser.expect_end()
    return result


class _Parser:
    """Recursive descent over the words of a filter."""

    def __init__(self, words: list[str]) -> None:
        self._words = words[::-1]

    def alternatives(self) -> Filter:
        """`X or Y ...`."""
        parts = [self._conjunction()]
        while self._accept("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda packet: any(part(packet) for part in parts)

    def expect_end(self) -> None:
        """Nothing may follow."""
        if self._words:
            raise UsageError(f"--filter: {self._words[-1]!r} was not expected; join conditions by `and` or `or`")

    def _conjunction(self) -> Filter:
        parts = [self._negation()]
        while self._accept("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda packet: all(part(packet) for part in parts)

    def _negation(self) -> Filter:
        negative = False
        while self._accept("not"):
            negative = not negative
        condition = self._condition()
        return (lambda packet: not condition(packet)) if negative else condition

    def _condition(self) -> Filter:
        word = self._next("a condition such as `host 10.5.1.2`")
        if word == "(":
            inner = self.alternatives()
            if self._next("`)`") != ")":
                raise UsageError("--filter: a `(` is not closed")
            return inner
        if word in _PROTOCOLS:
            return _protocol(_PROTOCOLS[word])
        if word in _CONDITIONS:
            value = self._next(f"a value behind `{word}`")
            try:
                return _CONDITIONS[word](value)
            except ValueError as error:
                raise UsageError(f"--filter: {word} {value}: {error}") from error
        known = ", ".join([*_CONDITIONS, *_PROTOCOLS, "not"])
        raise UsageError(f"--filter: {word!r} is no condition; there are {known}")

    def _accept(self, word: str) -> bool:
        if self._words and self._words[-1] == word:
            self._words.pop()
            return True
        return False

    def _next(self, expected: str) -> str:
        if not self._words:
            raise UsageError(f"--filter ends where {expected} was expected")
        return self._words.pop()


def _host(text: str) -> Filter:
    network = ip_network(text)
    return lambda packet: packet.source in network or packet.destination in network


def _port(text: str) -> Filter:
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or int(text) > 65535:
        raise ValueError("a port is a number up to 65535")
    port = int(text)
    return lambda packet: port in packet.ports


def _peer(text: str) -> Filter:
    address = ip_address(text)
    return lambda packet: packet.peer == address


def _protocol(numbers: set[int]) -> Filter:
    return lambda packet: packet.protocol in numbers


_CONDITIONS: dict[str, Callable[[str], Filter]] = {"host": _host, "port": _port, "peer": _peer}


def _transport(packet: memoryview) -> tuple[int, frozenset[int]]:
    """The protocol above IP, and both ports of TCP and UDP where the packet has them."""
    if family_of(packet) is IPV4:
        protocol, at = packet[9], v4_header_len(packet)
        first = not (packet[6] << 8 | packet[7]) & 0x1FFF
    else:
        upper = upper_layer(packet)
        if upper is None:
            return packet[6], frozenset()
        (protocol, at), first = upper, True
    if protocol not in (_TCP, _UDP) or not first or at + 4 > len(packet):
        return protocol, frozenset()
    return protocol, frozenset((packet[at] << 8 | packet[at + 1], packet[at + 2] << 8 | packet[at + 3]))


def _address(key: bytes) -> Address:
    return IPv4Address(key[12:]) if key.startswith(V4_MAPPED) else IPv6Address(key)
