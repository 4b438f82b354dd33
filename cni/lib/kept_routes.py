"""Routes as the kernel described them, to be put into another table, or back where they were.

A plugin that reads a route into a KernelRoute and makes it anew loses what that does not know: metrics, preferences,
several next hops. A KeptRoute is the kernel's own message, of which only the table is another one.
"""

from __future__ import annotations

from struct import Struct

from cni.lib import addresses, links
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    U32,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_u32,
)
from cni.lib.netlink import parse_attributes as parse

RTA_CACHEINFO = 12
RTA_EXPIRES = 23
RTA_NH_ID = 30  # the next hop's own attributes come along with its number, and the kernel takes one or the other
OF_THE_MOMENT = (addresses.RTA_TABLE, RTA_CACHEINFO, RTA_EXPIRES, RTA_NH_ID)
RTNH_F_ONLINK = 4
UNREACHABLE = (addresses.ENETUNREACH, addresses.EHOSTUNREACH)
LINK_LOCAL = b"\xfe\x80"
EEXIST = 17
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
APPEND = NLM_F_CREATE | NLM_F_APPEND
EXPIRES = Struct("=8xi")  # of struct rta_cacheinfo: in how many ticks a route expires, 0 for never


class KeptRoute:
    """One route."""

    __slots__ = ("_attributes", "_header", "expires", "table")

    def __init__(self, message: bytes) -> None:
        self._header = addresses.RTMSG.unpack_from(message)
        found = parse(message[addresses.RTMSG.size :])
        self.table: int = addresses.KernelRoute.read(message).table
        moment = found.get(RTA_CACHEINFO, b"")
        self.expires = len(moment) >= EXPIRES.size and EXPIRES.unpack_from(moment)[0] != 0
        self._attributes = {kind: value for kind, value in found.items() if kind not in OF_THE_MOMENT}

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return int(self._header[0])

    @property
    def protocol(self) -> int:
        """RTPROT_*: who made it."""
        return int(self._header[5])

    @property
    def gateway(self) -> bytes | None:
        """The next hop, None where there is none, or one of another family."""
        return self._attributes.get(addresses.RTA_GATEWAY)

    @property
    def source(self) -> bytes | None:
        """The address that packets get by this route, if it says so."""
        return self._attributes.get(addresses.RTA_PREFSRC)

    @property
    def is_link_local(self) -> bool:
        """Whether it leads to fe80::/64, or to what is within."""
        return self._attributes.get(addresses.RTA_DST, b"")[:2] == LINK_LOCAL

    @property
    def comes_by_itself(self) -> bool:
        """Whether the kernel makes it again once the interface is up: a link-local one, or a router's advertisement."""
        return self.is_link_local or self.expires or self.protocol == addresses.RTPROT_RA

    def message(self, table: int, flags: int = 0, index: int = 0, with_source: bool = True) -> bytes:
        """The body of a route message that puts it into `table`, or takes it from there; `flags` are RTNH_F_*.

        `index` is that of the interface, if it has another one by now.
        """
        of_family, dst_len, src_len, tos, _, protocol, scope, kind, _ = self._header
        small_table = table if table < 256 else addresses.RT_TABLE_UNSPEC
        body = addresses.RTMSG.pack(of_family, dst_len, src_len, tos, small_table, protocol, scope, kind, flags)
        left_out = () if with_source else (addresses.RTA_PREFSRC,)
        body += b"".join(attribute(kind, value) for kind, value in self._by(index).items() if kind not in left_out)
        return body + (attribute_u32(addresses.RTA_TABLE, table) if table > 255 else b"")

    def _by(self, index: int) -> dict[int, bytes]:
        """The attributes, with the index of the interface, which is the only one, put in place of the former."""
        if not index:
            return self._attributes
        changed = {addresses.RTA_OIF: U32.pack(index)} if addresses.RTA_OIF in self._attributes else {}
        if hops := self._attributes.get(addresses.RTA_MULTIPATH):
            changed[addresses.RTA_MULTIPATH] = _hops_by(hops, index)
        return {**self._attributes, **changed}


def _hops_by(hops: bytes, index: int) -> bytes:
    """Next hops (struct rtnexthop), all by the interface of that index."""
    found, at = bytearray(hops), 0
    while at + addresses.NEXTHOP.size <= len(found):
        length, flags, weight, _ = addresses.NEXTHOP.unpack_from(found, at)
        if length < addresses.NEXTHOP.size:
            break
        addresses.NEXTHOP.pack_into(found, at, length, flags, weight, index)
        at += (length + 3) & ~3
    return bytes(found)


def list_kept(netlink: NetlinkSocket, index: int, table: int = addresses.RT_TABLE_MAIN) -> list[KeptRoute]:
    """The routes of an interface in a table, RT_TABLE_UNSPEC for all, none before one that its next hop needs."""
    messages = [addresses.dump_routes(netlink, of_family, index, table) for of_family in (AF_INET, AF_INET6)]
    routes = [KeptRoute(message) for found in messages for message in found]
    return sorted(routes, key=lambda route: route.gateway is not None)


def put(netlink: NetlinkSocket, route: KeptRoute, table: int, index: int = 0, how: int = REPLACE) -> None:
    """Put a route into a table, in the place of one to the same destination. Raises NetlinkError.

    The kernel lets no route in whose next hop it cannot reach by another one. Where it was, it may have got in before
    that one was taken away, as ptp does; so it is let in as one whose next hop is on the link. Nor does the kernel let
    one in with a source that is a VRF's address, but into that VRF's table; so it is let in without.
    """
    flags, with_source = 0, True
    while True:
        try:
            netlink.request(addresses.RTM_NEWROUTE, route.message(table, flags, index, with_source), how)
        except NetlinkError as error:
            if error.errno in UNREACHABLE and route.gateway is not None and not flags:
                flags = RTNH_F_ONLINK
            elif error.errno == links.EINVAL and route.source is not None and with_source:
                with_source = False
            else:
                raise
        else:
            return


def put_back(netlink: NetlinkSocket, route: KeptRoute, table: int, index: int = 0) -> None:
    """Put a route where it was, or where its interface has gone, unless it is there: beside other interfaces' ones."""
    try:
        put(netlink, route, table, index, APPEND)
    except NetlinkError as error:
        if error.errno != EEXIST:
            raise


def take(netlink: NetlinkSocket, route: KeptRoute, table: int) -> None:
    """Take a route from a table; it may be gone."""
    try:
        netlink.request(addresses.RTM_DELROUTE, route.message(table))
    except NetlinkError as error:
        if error.errno != addresses.ESRCH:
            raise
