"""What an interface loses on its way through another namespace, or when it goes down: its addresses and its routes.

An address is kept as a route is (see cni.lib.kept_routes): as the kernel's own message, so with its peer, its label,
its lifetimes, the metric of its prefix, and whether it has a route to its prefix at all.
"""

from __future__ import annotations

from cni.lib import addresses
from cni.lib.ip import AF_INET6
from cni.lib.kept_routes import EEXIST, KeptRoute, list_kept, put_back
from cni.lib.netlink import NLM_F_CREATE, NLM_F_EXCL, NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netlink import parse_attributes as parse
from cni.lib.rollback import Attempts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IFA_F_TEMPORARY = 0x01  # of IPv6; the same bit says of an IPv4 address that it is a secondary one
IFA_F_OPTIMISTIC = 0x04
IFA_F_DEPRECATED = 0x20
IFA_F_PERMANENT = 0x80
OF_THE_MOMENT = (
    IFA_F_TEMPORARY
    | IFA_F_OPTIMISTIC
    | addresses.IFA_F_DADFAILED
    | IFA_F_DEPRECATED
    | addresses.IFA_F_TENTATIVE
    | IFA_F_PERMANENT
)
"""Flags that tell of an address's state, and are nobody's to set."""


class KeptAddress:
    """One address."""

    __slots__ = ("_attributes", "_header", "flags")

    def __init__(self, message: bytes) -> None:
        self._header = addresses.IFADDRMSG.unpack_from(message)
        self._attributes = parse(message[addresses.IFADDRMSG.size :])
        self.flags: int = addresses.Address(message).flags

    @property
    def comes_by_itself(self) -> bool:
        """Whether the kernel makes it: a link-local address of IPv6, or one for the sake of privacy."""
        of_family, _, _, scope, _ = self._header
        return of_family == AF_INET6 and (scope == addresses.RT_SCOPE_LINK or bool(self.flags & IFA_F_TEMPORARY))

    def message(self, index: int) -> bytes:
        """The body of a message that gives it to an interface, at once usable."""
        of_family, prefix_len, _, scope, _ = self._header
        no_detection = addresses.IFA_F_NODAD if of_family == AF_INET6 else 0
        flags = self.flags & ~OF_THE_MOMENT | no_detection
        body = addresses.IFADDRMSG.pack(of_family, prefix_len, flags & 0xFF, scope, index)
        kept = {**self._attributes, addresses.IFA_FLAGS: attribute_u32(addresses.IFA_FLAGS, flags)[4:]}
        return body + b"".join(attribute(kind, value) for kind, value in kept.items())


def list_kept_addresses(netlink: NetlinkSocket, index: int) -> list[KeptAddress]:
    """The addresses of an interface that do not come by themselves."""
    messages = netlink.dump(addresses.RTM_GETADDR, addresses.IFADDRMSG.pack(0, 0, 0, 0, index))
    kept = [KeptAddress(message) for message in messages if addresses.Address(message).index == index]
    return [address for address in kept if not address.comes_by_itself]


class KeptConfiguration:
    """The addresses of an interface, and its routes in all tables but the kernel's own one of local addresses."""

    def __init__(self, netlink: NetlinkSocket, index: int) -> None:
        self._addresses = list_kept_addresses(netlink, index)
        routes = list_kept(netlink, index, table=addresses.RT_TABLE_UNSPEC)
        self._routes = [one for one in routes if one.table != addresses.RT_TABLE_LOCAL and not one.comes_by_itself]

    def restore(
        self, netlink: NetlinkSocket, index: int, with_routes: bool, table: int = addresses.RT_TABLE_MAIN
    ) -> None:
        """Give them back as far as the kernel has not done so, the main table's routes in `table`.

        An interface that is down cannot have routes. Each is tried; raises the first NetlinkError.
        """
        with Attempts() as attempts:
            for address in self._addresses:
                attempts.run(_giving(netlink, address.message(index)))
            for route in self._routes if with_routes else ():
                target = table if route.table == addresses.RT_TABLE_MAIN else route.table
                attempts.run(_putting_back(netlink, route, target, index))


def _giving(netlink: NetlinkSocket, message: bytes) -> Callable[[], None]:
    return lambda: _give(netlink, message)


def _putting_back(netlink: NetlinkSocket, route: KeptRoute, table: int, index: int) -> Callable[[], None]:
    return lambda: put_back(netlink, route, table, index)


def _give(netlink: NetlinkSocket, message: bytes) -> None:
    try:
        netlink.request(addresses.RTM_NEWADDR, message, NLM_F_CREATE | NLM_F_EXCL)
    except NetlinkError as error:
        if error.errno != EEXIST:
            raise
