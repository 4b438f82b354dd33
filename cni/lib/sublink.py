"""A link on a master: what macvlan, ipvlan and vlan have in common besides being a pod's link (cni.lib.podlink).

The master is an interface of the node or, with `linkInContainer`, of the pod. The link is asked for in the master's
namespace and made in the pod's.
"""

from __future__ import annotations

from cni.lib import addresses, links
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.netlink import NetlinkSocket, attribute_u32
from cni.lib.netns import open_netns

MAX_MTU = (1 << 31) - 1


def outside(netns_path: str, in_container: bool) -> NetlinkSocket:
    """A socket of the namespace that the master is in. Raises CniError if the pod's is meant and is not there."""
    return open_netns(netns_path).netlink() if in_container else NetlinkSocket()


def find_master(netlink: NetlinkSocket, name: str) -> links.Link:
    """The interface of that name or, without one, that of the first default route. Raises CniError."""
    master = links.find_link(netlink, name) if name else _default_route_link(netlink)
    if master is None:
        raise CniError("Link not found")
    return master


def look_up_master(netlink: NetlinkSocket, name: str) -> links.Link:
    """The interface of that name, in the words of ipvlan and vlan. Raises CniError."""
    master = links.find_link(netlink, name) if name else None
    if master is None:
        raise CniError(f'failed to lookup master "{name}": Link not found')
    return master


def require_master(name: str, in_container: bool, mtu: int) -> None:
    """For STATUS: a master on the node has to be there, and fit. Raises CniError with the code that says so."""
    if not in_container:
        with NetlinkSocket() as host:
            try:
                check_mtu(mtu, find_master(host, name))
            except CniError as error:
                raise CniError(f'master "{name}": {error.msg}', PLUGIN_NOT_AVAILABLE) from None


def _default_route_link(netlink: NetlinkSocket) -> links.Link | None:
    for of_family in (AF_INET, AF_INET6):
        for route in addresses.list_routes(netlink, of_family):
            if route.dst.prefix_len == 0 and route.index:
                return links.find_link(netlink, index=route.index)
    raise CniError("no default route interface found")


def check_mtu(mtu: int, master: links.Link) -> None:
    """Refuse an MTU that the master cannot carry; 0 stands for the master's own."""
    if not 0 <= mtu <= master.mtu:
        raise CniError(f"invalid MTU {mtu}, must be [0, master MTU({master.mtu})]")


def attributes(master: links.Link, mtu: int) -> bytes:
    """What every such link is made with."""
    return attribute_u32(links.IFLA_LINK, master.index) + (attribute_u32(links.IFLA_MTU, mtu) if mtu else b"")
