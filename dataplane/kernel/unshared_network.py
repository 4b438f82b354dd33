"""The pod network is used for pods alone: the wish that no LAN of the host lies inside it.

A link whose addresses are in the pod network would take a part of it away from pods, or lose its own hosts to the
overlay, depending on whose route is the longer one. Both look like packet loss, so the node refuses to start, and says
so when it happens later. A bridge without a port into the outer world is where pods hang, also those of an earlier
subnet of the node, and is left alone.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from dataplane.addresses import Network
from dataplane.errors import NodeError
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.kernel.netdev import link_kind, main_routes, netlink
from dataplane.kernel.rtnetlink import MainRoute

_RTPROT_KERNEL = 2
_POD_PORTS = ("veth", "tun")
"""What hangs on a bridge of pods; tun is a virtual machine's tap."""


@dataclass(frozen=True, slots=True)
class UnsharedNetworks:
    """No link of the host but `own` has a LAN inside `networks`: a `wishes.Wish`."""

    networks: tuple[Network, ...]
    own: Collection[str]

    @property
    def what(self) -> str:
        """Its name."""
        return f"the pod network {' and '.join(map(str, self.networks))}"

    @property
    def vital(self) -> bool:
        """A part of the pods, or of the LAN, is out of reach otherwise."""
        return True

    @property
    def leftovers(self) -> Leftovers:
        """Nothing is made."""
        return NOTHING

    def difference(self) -> str:
        """The first LAN inside, with its interface."""
        with netlink("read the networks of this host's links") as ip:
            links = {int(link["index"]): link for link in ip.get_links()}
        for version in (4, 6):
            for route in main_routes(version, protocol=_RTPROT_KERNEL):
                link = links.get(route.device)
                if link is not None and self._is_inside(route) and self._is_lan(link, links.values()):
                    return f"is used by {link.get_attr('IFLA_IFNAME')}, whose link has {route.destination}"
        return ""

    def fulfil(self) -> None:
        """Nobody can make it so: NodeError."""
        raise NodeError(f"{self.what} {self.difference()}; choose a Network that is used for nothing else")

    def _is_inside(self, route: MainRoute) -> bool:
        """Whether a route is that of a link with several hosts, which is in a pod network or has one in it."""
        lan = route.destination
        if lan.prefixlen == lan.max_prefixlen:
            return False
        return any(lan.version == network.version and lan.overlaps(network) for network in self.networks)

    def _is_lan(self, link: Any, links: Iterable[Any]) -> bool:
        if link.get_attr("IFLA_IFNAME") in self.own:
            return False
        if link_kind(link) != "bridge":
            return True
        ports = [other for other in links if other.get_attr("IFLA_MASTER") == link["index"]]
        return any(link_kind(port) not in _POD_PORTS for port in ports)
