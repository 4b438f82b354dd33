"""The node's own interface in a VLAN of a bridge, which has the gateway's address there: cni0.100 for VLAN 100 of cni0.

It is one end of a veth pair; the other is a port of the bridge in that VLAN, as a pod's is:

    node   cni0.100 10.9.0.1/24 ---- veth... -- [cni0: VLAN 100] -- veth... ---- eth0 10.9.0.2/24   pod

It stays as the bridge does, for the pods to come. An interface of that name that somebody else made, a VLAN device for
instance, is used as it is. One made here is switched on last, and told its gateways then, so one that is down and knows
of none is what a killed ADD has left, and is made anew. Another one is switched on, and its port put back into the
bridge. Everything is done under the NetnsLock, since several pods arrive at once.
"""

from __future__ import annotations

from cni.lib import links, ownership, sysctl
from cni.lib.bridge_vlans import PVID, UNTAGGED, Vlans, list_ports, set_port
from cni.lib.errors import CniError
from cni.lib.gateways import Gateways, is_ours, marked_mac
from cni.lib.ip import IPNet
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_text, attribute_u32
from cni.lib.netns import NetnsLock
from cni.lib.veth import short_hash

PORT_ALIAS = "udplane port of "
PORT_CHARACTERS = 11


class VlanGateway:
    """The interface of one VLAN of `bridge`. `pod_port` is the index of the port of the pod that is being added."""

    def __init__(self, netlink: NetlinkSocket, bridge: links.Link, vlans: Vlans, pod_port: int) -> None:
        self._netlink = netlink
        self._bridge = bridge
        self._vlans = Vlans(vlans.vlan, [], vlans.keeps_default)
        self._pod_port = pod_port
        self.name = f"{bridge.name}.{vlans.vlan}"
        self.link: links.Link
        self.made = False

    def ensure(self) -> None:
        """Make it if it is not there. Raises CniError."""
        with NetnsLock():
            link = links.find_link(self._netlink, self.name)
            try:
                if link is not None and is_ours(link) and not (link.up or ownership.alias(link)):
                    links.delete_link(self._netlink, index=link.index)
                    link = None
                if link is None:
                    self._make()
                elif is_ours(link):
                    self._mend(link)
            except NetlinkError as error:
                problem = "failed to create vlan interface: failed to create vlan gateway"
                raise CniError(f'{problem} "{self.name}": {error}') from error
            self.link = links.get_link(self._netlink, self.name)

    def _mend(self, link: links.Link) -> None:
        """Switch it on, and put its port back into the bridge, which may have been made anew."""
        port = links.find_link(self._netlink, index=link.peer)
        if port is not None and ownership.alias(port) == PORT_ALIAS + self.name and port.master != self._bridge.index:
            self._enter(port.index)
        if not link.up:
            links.set_up(self._netlink, link.index)

    def _enter(self, port: int) -> None:
        """Make the port one of the bridge, in the VLAN."""
        alias = attribute_text(links.IFLA_IFALIAS, PORT_ALIAS + self.name)
        links.set_link(self._netlink, port, attribute_u32(links.IFLA_MASTER, self._bridge.index), alias)
        set_port(self._netlink, port, self._bridge, self._vlans)
        links.set_up(self._netlink, port)

    def _make(self) -> None:
        """Both ends, the port in the VLAN, and both up."""
        netlink, port = self._netlink, port_name(self.name)
        size = attribute_u32(links.IFLA_MTU, self._bridge.mtu)
        far = size + attribute(links.IFLA_ADDRESS, marked_mac())
        near = size + attribute(links.IFLA_ADDRESS, links.random_mac())
        links.add_veth(netlink, port, near, peer=self.name, peer_attributes=far)
        try:
            index = links.get_link(netlink, port).index
            sysctl.try_write(f"net/ipv6/conf/{port}/accept_ra", "0")
            self._enter(index)
            links.set_up(netlink, links.get_link(netlink, self.name).index)
        except NetlinkError:
            links.delete_link(netlink, port)
            raise
        self.made = True

    def remove_if_unused(self) -> None:
        """Undo `ensure`: remove it if it was made here and no other pod is in the VLAN by now."""
        with NetnsLock():
            if self.made and not self._serves_others():
                links.delete_link(self._netlink, index=self.link.index)

    def add_gateways(self, gateways: list[IPNet], force: bool) -> None:
        """Give it the gateways' addresses. Raises CniError if another one is in the way and has to stay."""
        failure = "failed to set vlan interface for bridge with addr"
        Gateways(self._netlink, self.link, failure, lambda: not self._serves_others()).add(gateways, force)

    def _serves_others(self) -> bool:
        """Whether another pod's port is in the VLAN, without a tag."""
        vlan, own = self._vlans.vlan, (self._pod_port, self.link.peer)
        ports = list_ports(self._netlink, self._bridge)
        return any(vlans.get(vlan) == PVID | UNTAGGED for index, vlans in ports.items() if index not in own)


def port_name(name: str) -> str:
    """The name of the port behind the interface."""
    return "veth" + short_hash(f"port of {name}", PORT_CHARACTERS)
