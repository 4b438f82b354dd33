"""Routes as the kernel described them, to be put into another table, or back where they were.

A plugin that reads a route into a KernelRoute and makes it anew loses what that does not know: metrics, preferences,
several next hops. A KeptRoute is the kernel's own message, of which only the table is another one.
"""

from __future__ import annotations

from cni.lib import addresses
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.netlink import NLM_F_CREATE, NLM_F_REPLACE, NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netlink import parse_attributes as parse

RTA_CACHEINFO = 12
RTA_EXPIRES = 23
RTA_NH_ID = 30  # the next hop's own attributes come along with its number, and the kernel takes one or the other
OF_THE_MOMENT = (addresses.RTA_TABLE, RTA_CACHEINFO, RTA_EXPIRES, RTA_NH_ID)
RTNH_F_ONLINK = 4
UNREACHABLE = (addresses.ENETUNREACH, addresses.EHOSTUNREACH)
RTPROT_KERNEL = 2
OF_THE_KERNEL = (RTPROT_KERNEL, addresses.RTPROT_RA)  # they come with addresses and router advertisements
LINK_LOCAL = b"\xfe\x80"
EEXIST = 17


class KeptRoute:
    """One route."""

    __slots__ = ("_attributes", "_header")

    def __init__(self, message: bytes) -> None:
        self._header = addresses.RTMSG.unpack_from(message)
        found = parse(message[addresses.RTMSG.size :])
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

    def message(self, table: int, flags: int = 0) -> bytes:
        """The body of a route message that puts it into `table`, or takes it from there; `flags` are RTNH_F_*."""
        of_family, dst_len, src_len, tos, _, protocol, scope, kind, _ = self._header
        small_table = table if table < 256 else addresses.RT_TABLE_UNSPEC
        body = addresses.RTMSG.pack(of_family, dst_len, src_len, tos, small_table, protocol, scope, kind, flags)
        body += b"".join(attribute(kind, value) for kind, value in self._attributes.items())
        return body + (attribute_u32(addresses.RTA_TABLE, table) if table > 255 else b"")


def list_kept(netlink: NetlinkSocket, index: int) -> list[KeptRoute]:
    """The routes of an interface in the main table, such that none comes before one that its next hop needs."""
    messages = [addresses.dump_routes(netlink, of_family, index) for of_family in (AF_INET, AF_INET6)]
    routes = [KeptRoute(message) for found in messages for message in found]
    return sorted(routes, key=lambda route: route.gateway is not None)


def put(netlink: NetlinkSocket, route: KeptRoute, table: int) -> None:
    """Put a route into a table, in the place of one to the same destination. Raises NetlinkError.

    The kernel lets no route in whose next hop it cannot reach by another one. Where it was, it may have got in before
    that one was taken away, as ptp does; so it is let in as one whose next hop is on the link.
    """
    try:
        netlink.request(addresses.RTM_NEWROUTE, route.message(table), NLM_F_CREATE | NLM_F_REPLACE)
    except NetlinkError as error:
        if error.errno not in UNREACHABLE or route.gateway is None:
            raise
        netlink.request(addresses.RTM_NEWROUTE, route.message(table, RTNH_F_ONLINK), NLM_F_CREATE | NLM_F_REPLACE)


def take(netlink: NetlinkSocket, route: KeptRoute, table: int) -> None:
    """Take a route from a table; it may be gone."""
    try:
        netlink.request(addresses.RTM_DELROUTE, route.message(table))
    except NetlinkError as error:
        if error.errno != addresses.ESRCH:
            raise


class KeptConfiguration:
    """What an interface has that it loses on its way through another namespace: addresses and routes."""

    def __init__(self, netlink: NetlinkSocket, index: int) -> None:
        self._addresses = addresses.list_addresses(netlink, index)
        self._routes = list_kept(netlink, index)

    def restore(
        self, netlink: NetlinkSocket, index: int, with_routes: bool, table: int = addresses.RT_TABLE_MAIN
    ) -> None:
        """Give them back, the routes in `table`, as far as the kernel has not done so.

        An interface that is down cannot have routes. Raises NetlinkError.
        """
        for address in self._addresses:
            if address.scope == addresses.RT_SCOPE_UNIVERSE:
                try:
                    addresses.add_address(netlink, index, address.net)
                except NetlinkError as error:
                    if error.errno != EEXIST:
                        raise
        for route in self._routes if with_routes else ():
            if route.protocol not in OF_THE_KERNEL and not route.is_link_local:
                put(netlink, route, table)
