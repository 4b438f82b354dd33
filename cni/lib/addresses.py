"""Addresses, routes and neighbours of an interface through rtnetlink (include/uapi/linux/if_addr.h, rtnetlink.h)."""

from __future__ import annotations

from struct import Struct

from cni.lib.ip import AF_INET, AF_INET6, IPNet, family
from cni.lib.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    U32,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_u32,
    nested,
    parse_attributes,
)

RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_FLAGS = 8
IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
RT_SCOPE_NOWHERE = 255
RT_TABLE_UNSPEC = 0
RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255
RTPROT_BOOT = 3
RTPROT_RA = 9
RTN_UNICAST = 1
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_PREFSRC = 7
RTA_METRICS = 8
RTA_MULTIPATH = 9
RTA_TABLE = 15
RTAX_MTU = 2
RTAX_ADVMSS = 8

ENOENT = 2
ESRCH = 3
EADDRNOTAVAIL = 99
ENETUNREACH = 101
EHOSTUNREACH = 113

IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
RTMSG = Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
NEXTHOP = Struct("=HBBi")  # struct rtnexthop: its length with what follows, flags, weight less one, interface index


class Address:
    """An address on an interface as the kernel described it."""

    __slots__ = ("flags", "index", "net", "scope")

    def __init__(self, message: bytes) -> None:
        _, prefix_len, flags, self.scope, self.index = IFADDRMSG.unpack_from(message)
        attributes = parse_attributes(message[IFADDRMSG.size :])
        self.net = IPNet(attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, bytes(4)), prefix_len)
        self.flags: int = U32.unpack_from(attributes[IFA_FLAGS])[0] if IFA_FLAGS in attributes else flags

    @property
    def tentative(self) -> bool:
        """Whether duplicate address detection has not ended yet."""
        return bool(self.flags & IFA_F_TENTATIVE)

    @property
    def duplicate(self) -> bool:
        """Whether duplicate address detection found another owner."""
        return bool(self.flags & IFA_F_DADFAILED)


def list_addresses(netlink: NetlinkSocket, index: int = 0, of_family: int = 0) -> list[Address]:
    """The addresses of one interface, or of all."""
    messages = netlink.dump(RTM_GETADDR, IFADDRMSG.pack(of_family, 0, 0, 0, index))
    return [address for address in map(Address, messages) if index in (0, address.index)]


def _address_body(index: int, net: IPNet, flags: int = 0) -> bytes:
    body = IFADDRMSG.pack(family(net.ip), net.prefix_len, flags, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, net.ip) + attribute(IFA_ADDRESS, net.ip)
    if len(net.ip) == 4 and net.prefix_len < 31:
        body += attribute(IFA_BROADCAST, net.last)
    return body


def add_address(netlink: NetlinkSocket, index: int, net: IPNet, detect_duplicates: bool = False) -> None:
    """Give an interface an address. Raises NetlinkError (EEXIST: it has it).

    IPv6 addresses are usable at once (IFA_F_NODAD): whoever hands out the address knows that it is nobody else's, so
    the second that duplicate address detection takes would be lost. Who wants the detection asks for it.
    """
    flags = IFA_F_NODAD if len(net.ip) == 16 and not detect_duplicates else 0
    netlink.request(RTM_NEWADDR, _address_body(index, net, flags), NLM_F_CREATE | NLM_F_EXCL)


def delete_address(netlink: NetlinkSocket, index: int, net: IPNet) -> None:
    """Take an address from an interface; it may be gone."""
    try:
        netlink.request(RTM_DELADDR, _address_body(index, net))
    except NetlinkError as error:
        if error.errno != EADDRNOTAVAIL:
            raise


class KernelRoute:
    """A route for the kernel. `table`, `scope` and the metrics are the numbers of rtnetlink; None leaves one out."""

    __slots__ = ("advmss", "dst", "gateway", "index", "mtu", "priority", "protocol", "scope", "source", "table")

    def __init__(
        self, dst: IPNet, index: int, gateway: bytes | None = None, source: bytes | None = None, scope: int = 0
    ) -> None:
        self.dst = dst
        self.index = index
        self.gateway = gateway
        self.source = source
        self.scope = scope
        self.table = RT_TABLE_UNSPEC
        self.priority = 0
        self.protocol = RTPROT_BOOT
        self.mtu = 0
        self.advmss = 0

    @classmethod
    def read(cls, message: bytes) -> KernelRoute:
        """A route from the kernel's description."""
        of_family, dst_len, _, _, table, protocol, scope, _, _ = RTMSG.unpack_from(message)
        attributes = parse_attributes(message[RTMSG.size :])
        number = {kind: U32.unpack_from(value)[0] for kind, value in attributes.items() if len(value) == 4}
        dst = IPNet(attributes.get(RTA_DST, bytes(4 if of_family == 2 else 16)), dst_len)
        route = cls(dst, number.get(RTA_OIF, 0), attributes.get(RTA_GATEWAY), attributes.get(RTA_PREFSRC), scope)
        route.table = number.get(RTA_TABLE, table)
        route.priority = number.get(RTA_PRIORITY, 0)
        route.protocol = protocol
        return route

    @classmethod
    def read_all(cls, message: bytes) -> list[KernelRoute]:
        """The routes in one description: several that share a prefix, as two IPv6 ones of a priority do."""
        route = cls.read(message)
        hops = parse_attributes(message[RTMSG.size :]).get(RTA_MULTIPATH, b"")
        found = []
        while len(hops) >= NEXTHOP.size:
            length, _, _, index = NEXTHOP.unpack_from(hops)
            if not NEXTHOP.size <= length <= len(hops):
                break
            one = cls.read(message)
            one.index = index
            one.gateway = parse_attributes(hops[NEXTHOP.size : length]).get(RTA_GATEWAY)
            found.append(one)
            hops = hops[(length + 3) & ~3 :]
        return found or [route]

    def message(self, protocol: int = RTPROT_BOOT) -> bytes:
        """The body of a route message; for deletion, protocol 0 stands for whoever made the route."""
        table = self.table or RT_TABLE_MAIN
        dst = self.dst.network
        small_table = table if table < 256 else RT_TABLE_UNSPEC  # a larger one goes into RTA_TABLE
        kind = (small_table, protocol, self.scope, RTN_UNICAST, 0)
        body = RTMSG.pack(family(dst.ip), dst.prefix_len, 0, 0, *kind)
        if dst.prefix_len:
            body += attribute(RTA_DST, dst.ip)
        if self.gateway:
            body += attribute(RTA_GATEWAY, self.gateway)
        if self.source:
            body += attribute(RTA_PREFSRC, self.source)
        if table > 255:
            body += attribute_u32(RTA_TABLE, table)
        if self.priority:
            body += attribute_u32(RTA_PRIORITY, self.priority)
        metrics = ((RTAX_MTU, self.mtu), (RTAX_ADVMSS, self.advmss))
        if self.mtu or self.advmss:
            body += nested(RTA_METRICS, *(attribute_u32(metric, value) for metric, value in metrics if value))
        return body + attribute_u32(RTA_OIF, self.index)


def add_route(netlink: NetlinkSocket, route: KernelRoute, flags: int = NLM_F_CREATE | NLM_F_EXCL) -> None:
    """Add a route. With flags=NLM_F_CREATE alone, a second route to the same prefix is allowed."""
    netlink.request(RTM_NEWROUTE, route.message(), flags)


def replace_route(netlink: NetlinkSocket, route: KernelRoute) -> None:
    """ip route replace"""
    add_route(netlink, route, NLM_F_CREATE | NLM_F_REPLACE)


def delete_route(netlink: NetlinkSocket, route: KernelRoute) -> None:
    """Take a route away; it may be gone."""
    try:
        netlink.request(RTM_DELROUTE, route.message(protocol=0))
    except NetlinkError as error:
        if error.errno != ESRCH:
            raise


def find_route(netlink: NetlinkSocket, ip: bytes) -> KernelRoute | None:
    """The route that a packet to `ip` would take, or None (ip route get)."""
    body = RTMSG.pack(family(ip), len(ip) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_DST, ip)
    try:
        return KernelRoute.read(netlink.request(RTM_GETROUTE, body)[0])
    except NetlinkError as error:
        if error.errno in (ENETUNREACH, EHOSTUNREACH):
            return None
        raise


def list_routes(
    netlink: NetlinkSocket, of_family: int, index: int = 0, table: int = RT_TABLE_MAIN
) -> list[KernelRoute]:
    """The routes of one table, those by one interface if given."""
    routes = [route for message in _dump(netlink, of_family, index, table) for route in KernelRoute.read_all(message)]
    return [route for route in routes if _matches(route, index, table)]


def dump_routes(netlink: NetlinkSocket, of_family: int, index: int = 0, table: int = RT_TABLE_MAIN) -> list[bytes]:
    """The kernel's messages on those routes, without those that leave by other interfaces as well.

    RT_TABLE_UNSPEC stands for all tables.
    """
    messages = _dump(netlink, of_family, index, table)
    return [m for m in messages if all(_matches(route, index, table) for route in KernelRoute.read_all(m))]


def has_routes(netlink: NetlinkSocket, table: int) -> bool:
    """Whether any route is in a table."""
    return any(dump_routes(netlink, of_family, table=table) for of_family in (AF_INET, AF_INET6))


def free_table(netlink: NetlinkSocket, taken: set[int], first: int) -> int:
    """The first table, from `first` on, that is not taken and holds no route."""
    while first in taken or has_routes(netlink, first):
        first += 1
    return first


def _dump(netlink: NetlinkSocket, of_family: int, index: int, table: int) -> list[bytes]:
    """What the kernel, which does the filtering where it can, says of the routes."""
    wanted = attribute_u32(RTA_TABLE, table) + (attribute_u32(RTA_OIF, index) if index else b"")
    body = RTMSG.pack(of_family, 0, 0, 0, 0, 0, 0, 0, 0) + wanted
    try:
        return netlink.dump(RTM_GETROUTE, body)
    except NetlinkError as error:
        if error.errno == ENOENT:  # nobody has put a route into that table yet
            return []
        raise


def _matches(route: KernelRoute, index: int, table: int) -> bool:
    return index in (0, route.index) and table in (RT_TABLE_UNSPEC, route.table)
