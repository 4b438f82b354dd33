"""An ICMP and ICMPv6 pinger that runs inside any namespace, since slim systems come without ping(8).

Raw sockets carry the echo requests (RFC 792, RFC 4443 4.1), and show with which TTL or hop limit an answer came and
from whom, be it the echo reply or an ICMP error about the request.
"""

import itertools
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.addresses import Address
from dataplane.lab.netns import Namespace
from dataplane.packets.packet import checksum

ECHO = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between ICMP and ICMPv6."""

    family: socket.AddressFamily
    protocol: int
    request: int
    """ICMP type of an echo request."""
    reply: int
    """ICMP type of an echo reply."""
    level: int
    """Level of the three socket options that follow."""
    set_ttl: int
    """Option: TTL of what is sent."""
    ask_ttl: int
    """Option: tell the TTL of what is received."""
    got_ttl: int
    """Type of the control message that tells it."""
    discover_mtu: int
    """Option: how path MTUs are discovered."""
    quoted_header_len: int
    """Bytes of the IP header, without options, that an ICMP error quotes."""


IP_RECVTTL, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 12, 10, 23, 3
"""include/uapi/linux/in.h and in6.h; the socket module does not name them."""

FAMILIES = {
    4: Family(
        family=socket.AF_INET,
        protocol=socket.IPPROTO_ICMP,
        request=8,
        reply=0,
        level=socket.IPPROTO_IP,
        set_ttl=socket.IP_TTL,
        ask_ttl=IP_RECVTTL,
        got_ttl=socket.IP_TTL,
        discover_mtu=IP_MTU_DISCOVER,
        quoted_header_len=20,
    ),
    6: Family(
        family=socket.AF_INET6,
        protocol=socket.IPPROTO_ICMPV6,
        request=128,
        reply=129,
        level=socket.IPPROTO_IPV6,
        set_ttl=socket.IPV6_UNICAST_HOPS,
        ask_ttl=socket.IPV6_RECVHOPLIMIT,
        got_ttl=socket.IPV6_HOPLIMIT,
        discover_mtu=IPV6_MTU_DISCOVER,
        quoted_header_len=40,
    ),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to an echo request."""

    source: Address
    """Who answered: the destination itself, or the router that sent the ICMP error."""
    ttl: int
    """TTL or hop limit with which the answer arrived."""
    rtt: float
    """Seconds from request to answer."""
    type: int
    code: int
    """ICMP type and code of the answer."""
    echoed: bool
    """True for the echo reply, False for an ICMP error about the request."""


class Pinger:
    """Sends echo requests from a namespace to one destination. A context manager; owns its socket."""

    def __init__(self, netns: Namespace, destination: Address, *, ttl: int = 64, fragment: bool = True) -> None:
        """Open the socket in `netns`; requests start with `ttl`.

        Without `fragment` nobody may cut them, and they are sent whatever the kernel knows of the path's MTU.
        """
        self.destination = destination
        self.identifier = next(_identifiers) & 0xFFFF
        self._family = FAMILIES[destination.version]
        self._socket = netns.socket(self._family.family, socket.SOCK_RAW, self._family.protocol)
        self._socket.setsockopt(self._family.level, self._family.set_ttl, ttl)
        self._socket.setsockopt(self._family.level, self._family.ask_ttl, 1)
        if not fragment:
            self._socket.setsockopt(self._family.level, self._family.discover_mtu, PMTUDISC_PROBE)

    def __enter__(self) -> "Pinger":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ping(self, sequence: int, *, size: int = 56, data: bytes | None = None, timeout: float = 2.0) -> Reply | None:
        """Send one request with `size` bytes of payload, or `data`, and wait for the answer up to `timeout` seconds.

        Raises OSError when the host itself refuses to send (no route, too big for its own interface).
        """
        payload = data if data is not None else bytes(itertools.islice(itertools.cycle(range(256)), size))
        start = time.monotonic()
        self._socket.sendto(self._request(sequence, payload), (str(self.destination), 0))
        while (left := start + timeout - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            message, ancillary, _, source = self._socket.recvmsg(65535, socket.CMSG_SPACE(4))
            if answer := self._match(message, sequence, payload):
                ttl = next(struct.unpack("i", data)[0] for _, kind, data in ancillary if kind == self._family.got_ttl)
                return Reply(ip_address(source[0]), ttl, time.monotonic() - start, *answer)
        return None

    def _request(self, sequence: int, payload: bytes) -> bytes:
        request = ECHO.pack(self._family.request, 0, 0, self.identifier, sequence) + payload
        if self._family.protocol == socket.IPPROTO_ICMPV6:
            return request  # the kernel fills in the checksum, which covers addresses that it chooses (RFC 3542 3.1)
        return ECHO.pack(self._family.request, 0, checksum(request), self.identifier, sequence) + payload

    def _match(self, message: bytes, sequence: int, payload: bytes) -> tuple[int, int, bool] | None:
        """Type, code and whether it is the echo reply, if `message` answers request `sequence`, else None."""
        if self._family.protocol == socket.IPPROTO_ICMP:
            message = message[(message[0] & 0x0F) * 4 :]  # only raw IPv4 sockets deliver the IP header as well
        if len(message) < ECHO.size:
            return None
        kind, code, _, identifier, number = ECHO.unpack_from(message)
        if kind == self._family.reply:
            mine = (identifier, number, message[ECHO.size :]) == (self.identifier, sequence, payload)
            return (kind, code, True) if mine else None
        quote = message[ECHO.size + self._family.quoted_header_len :]
        if kind == self._family.request or len(quote) < ECHO.size:
            return None
        quoted_kind, _, _, identifier, number = ECHO.unpack_from(quote)
        mine = (quoted_kind, identifier, number) == (self._family.request, self.identifier, sequence)
        return (kind, code, False) if mine else None


def ping(
    netns: Namespace, destination: Address, *, count: int = 1, size: int = 56, ttl: int = 64, timeout: float = 2.0
) -> list[Reply | None]:
    """Send `count` echo requests, each after the answer to the one before; None stands for no answer in time."""
    with Pinger(netns, destination, ttl=ttl) as pinger:
        return [pinger.ping(sequence, size=size, timeout=timeout) for sequence in range(1, count + 1)]


_identifiers = itertools.count(os.getpid())
