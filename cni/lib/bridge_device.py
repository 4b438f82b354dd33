"""The bridge itself: make it once, keep it as configured, give it the gateway's addresses.

Several pods of a fresh node arrive at the same moment, so every step is one that two plugins may take at once: what
exists already is as good as made. The one exception is the removal of a bridge whose first ADD failed. So whoever
removes it holds the NetnsLock, and so does everybody from `ensure` until the pod's veth is a port.

A bridge made here has a MAC address of its own from the start: else the kernel changes it with the ports, and
neighbours lose the bridge for half a minute. Its first three bytes are a mark, since nothing else that lasts can be
given in the message that makes the bridge. Only a bridge that carries this mark has its MTU changed later. A bridge
that somebody else made has the address that it has fixed before a pod's veth becomes a port.

Its addresses: see cni.lib.gateways.
"""

from __future__ import annotations

from cni.lib import links, sysctl
from cni.lib.errors import CniError
from cni.lib.gateways import Gateways, is_ours, marked_mac
from cni.lib.ip import IPNet
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import NetnsLock
from cni.lib.store import read_file

LONGEST_NAME = 15
EEXIST = 17
EOPNOTSUPP = 95
ADDRESS_SET = "3"  # NET_ADDR_SET of addr_assign_type


class Bridge:
    """The bridge that a configuration names."""

    def __init__(
        self, netlink: NetlinkSocket, name: str, mtu: int, promiscuous: bool, filters_vlans: bool = False
    ) -> None:
        """`filters_vlans` is for a bridge that is made. Raises CniError for a name that no interface can have."""
        _check_name(name)
        self._netlink = netlink
        self.name = name
        self.mtu = mtu
        self.promiscuous = promiscuous
        self.filters_vlans = filters_vlans
        self.link: links.Link
        self.made = False

    def ensure(self) -> None:
        """Make the bridge, or bring the one that is there in line. Raises CniError."""
        link = links.find_link(self._netlink, self.name)
        if link is None:
            link = self._make()
        if link.kind != "bridge":
            raise CniError(f'failed to create bridge "{self.name}": "{self.name}" already exists but is not a bridge')
        self.link = link
        self._bring_in_line()

    def _make(self) -> links.Link:
        size = attribute_u32(links.IFLA_MTU, self.mtu) if self.mtu > 0 else b""
        mac = attribute(links.IFLA_ADDRESS, marked_mac())
        try:
            links.add_link(self._netlink, self.name, "bridge", size, mac, up=True, data=self._new_data())
            self.made = True
        except NetlinkError as error:
            if self.filters_vlans and error.errno == EOPNOTSUPP:
                from cni.lib.bridge_vlans import kernel_without_vlans

                raise kernel_without_vlans() from error
            if error.errno != EEXIST:
                raise CniError(
                    f'failed to create bridge "{self.name}": could not add "{self.name}": {error}'
                ) from error
        return links.get_link(self._netlink, self.name)

    def _new_data(self) -> bytes:
        if not self.filters_vlans:
            return b""
        from cni.lib.bridge_vlans import FILTERING

        return FILTERING

    def require_vlan_filtering(self) -> None:
        """Refuse a bridge that does not keep VLANs apart. Raises CniError."""
        from cni.lib.bridge_vlans import require_filtering

        require_filtering(self.link)

    def _bring_in_line(self) -> None:
        """Up, promiscuous as configured, deaf to routers, and of the configured MTU if it is ours."""
        link = self.link
        sysctl.try_write(f"net/ipv6/conf/{self.name}/accept_ra", "0")
        flags = links.IFF_UP | (links.IFF_PROMISC if self.promiscuous else 0)
        if flags & ~link.flags:
            links.set_link(self._netlink, link.index, flags=flags, change=flags)
        if not self.ours:
            self._pin_mac()
        elif self.mtu > 0 and link.mtu != self.mtu:
            links.set_link(self._netlink, link.index, attribute_u32(links.IFLA_MTU, self.mtu))

    @property
    def ours(self) -> bool:
        """Whether this plugin made it, now or for an earlier pod."""
        return is_ours(self.link)

    def remove_if_unused(self) -> None:
        """Undo `ensure`: remove the bridge if it was made here and nobody else has become a port."""
        with NetnsLock():
            if self.made and not links.list_links(self._netlink, master=self.link.index):
                links.delete_link(self._netlink, index=self.link.index)

    def _pin_mac(self) -> None:
        """Fix the bridge's hardware address, so that it does not follow the ports that come and go."""
        mac = self.link.attributes[links.IFLA_ADDRESS]
        if any(mac) and self._is_mac_fixed():
            return
        mac = mac if any(mac) else links.random_mac()  # a bridge that has lost its last port has none
        links.set_link(self._netlink, self.link.index, attribute(links.IFLA_ADDRESS, mac))
        self.link = links.get_link(self._netlink, self.name)

    def _is_mac_fixed(self) -> bool:
        """As far as /sys knows, which may show another network namespace. To fix it again costs neighbour entries."""
        wanted = {"ifindex": str(self.link.index), "address": self.link.mac, "addr_assign_type": ADDRESS_SET}
        directory = f"/sys/class/net/{self.name}"
        return all((read_file(f"{directory}/{key}") or b"").decode().strip() == text for key, text in wanted.items())

    def add_gateways(self, gateways: list[IPNet], force: bool) -> None:
        """Give the bridge the gateways' addresses. Raises CniError if another one is in the way and has to stay."""
        Gateways(self._netlink, self.link, "failed to set bridge addr", self._abandoned).add(gateways, force)

    def _abandoned(self) -> bool:
        """Whether the bridge has no port but the one of the pod that is being added."""
        return len(links.list_links(self._netlink, master=self.link.index)) <= 1


def _check_name(name: str) -> None:
    """The kernel's own rule, asked before the name becomes part of a path."""
    reason = ""
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        reason = "numerical result out of range"
    elif name in ("", ".", "..") or any(character in "/:\0" or character.isspace() for character in name):
        reason = "invalid argument"
    if reason:
        raise CniError(f'failed to create bridge "{name}": could not add "{name}": {reason}')
