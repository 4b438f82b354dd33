"""The bridge itself: make it once, keep it as configured, give it the gateway's addresses.

Several pods of a fresh node arrive at the same moment, so every step is one that two plugins may take at once: what
exists already is as good as made. The one exception is the removal of a bridge whose first ADD failed. So whoever
removes it holds the NetnsLock, and so does everybody from `ensure` until the pod's veth is a port.

A bridge made here has a MAC address of its own from the start: else the kernel changes it with the ports, and
neighbours lose the bridge for half a minute. Its first three bytes are a mark, since nothing else that lasts can be
given in the message that makes the bridge. Only a bridge that carries this mark has its MTU changed later, or loses
an address that another subnet has left.
"""

from __future__ import annotations

from cni.lib import addresses, links, sysctl
from cni.lib.errors import CniError
from cni.lib.ip import AF_INET, IPNet, family
from cni.lib.lean import os
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import NetnsLock

MARK = b"\x06ud"  # locally administered, unicast
LONGEST_NAME = 15
EEXIST = 17
FORWARDING = {AF_INET: "net/ipv4/ip_forward"}
FORWARDING_V6 = "net/ipv6/conf/all/forwarding"


class Bridge:
    """The bridge that a configuration names."""

    def __init__(self, netlink: NetlinkSocket, name: str, mtu: int, promiscuous: bool) -> None:
        """Raises CniError for a name that no interface can have."""
        _check_name(name)
        self._netlink = netlink
        self.name = name
        self.mtu = mtu
        self.promiscuous = promiscuous
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
        mac = attribute(links.IFLA_ADDRESS, MARK + os.urandom(3))
        try:
            links.add_link(self._netlink, self.name, "bridge", size, mac, up=True)
            self.made = True
        except NetlinkError as error:
            if error.errno != EEXIST:
                raise CniError(
                    f'failed to create bridge "{self.name}": could not add "{self.name}": {error}'
                ) from error
        return links.get_link(self._netlink, self.name)

    def _bring_in_line(self) -> None:
        """Up, promiscuous as configured, deaf to routers, and of the configured MTU if it is ours."""
        link = self.link
        sysctl.try_write(f"net/ipv6/conf/{self.name}/accept_ra", "0")
        flags = links.IFF_UP | (links.IFF_PROMISC if self.promiscuous else 0)
        if flags & ~link.flags:
            links.set_link(self._netlink, link.index, flags=flags, change=flags)
        if self.ours and self.mtu > 0 and link.mtu != self.mtu:
            links.set_link(self._netlink, link.index, attribute_u32(links.IFLA_MTU, self.mtu))

    @property
    def ours(self) -> bool:
        """Whether this plugin made it, now or for an earlier pod."""
        return self.link.attributes[links.IFLA_ADDRESS].startswith(MARK)

    def remove_if_unused(self) -> None:
        """Undo `ensure`: remove the bridge if it was made here and nobody else has become a port."""
        with NetnsLock():
            if self.made and not links.list_links(self._netlink, master=self.link.index):
                links.delete_link(self._netlink, index=self.link.index)

    def add_gateway(self, gateway: IPNet, force: bool) -> None:
        """Give the bridge a gateway's address. Raises CniError if another one is in the way and has to stay."""
        present = addresses.list_addresses(self._netlink, self.link.index, family(gateway.ip))
        if any(address.net == gateway for address in present):
            return
        in_the_way = [address.net for address in present if _conflict(address.net, gateway)]
        if in_the_way and not force and not self._abandoned():
            text = f'failed to set bridge addr: "{self.name}" already has an IP address different from {gateway}'
            raise CniError(f"{text}; remove it with: ip addr del {in_the_way[0]} dev {self.name}")
        for net in in_the_way:
            addresses.delete_address(self._netlink, self.link.index, net)
        try:
            addresses.add_address(self._netlink, self.link.index, gateway)
        except NetlinkError as error:
            if error.errno != EEXIST:
                text = f'failed to set bridge addr: could not add IP address to "{self.name}": {error}'
                raise CniError(text) from error
        if not self.ours:
            self._pin_mac()

    def _pin_mac(self) -> None:
        """Set the address that the bridge has now, which may be the new port's, so that it stays."""
        mac = links.get_link(self._netlink, self.name).attributes[links.IFLA_ADDRESS]
        links.set_link(self._netlink, self.link.index, attribute(links.IFLA_ADDRESS, mac))

    def _abandoned(self) -> bool:
        """Whether the bridge is ours and has no port but the one of the pod that is being added."""
        return self.ours and len(links.list_links(self._netlink, master=self.link.index)) <= 1


def _check_name(name: str) -> None:
    """The kernel's own rule, asked before the name becomes part of a path."""
    reason = ""
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        reason = "numerical result out of range"
    elif name in ("", ".", "..") or any(character in "/:\0" or character.isspace() for character in name):
        reason = "invalid argument"
    if reason:
        raise CniError(f'failed to create bridge "{name}": could not add "{name}": {reason}')


def _conflict(present: IPNet, gateway: IPNet) -> bool:
    """A bridge has one IPv4 address; it may have several IPv6 addresses of subnets that do not overlap."""
    return len(gateway.ip) == 4 or present.contains(gateway.ip) or gateway.contains(present.ip)


def enable_forwarding(of_family: int) -> None:
    """Let the node route this family. Written only when it is off, since each write makes the kernel renew much."""
    setting = FORWARDING.get(of_family, FORWARDING_V6)
    try:
        if sysctl.read(setting) != "1":
            sysctl.write(setting, "1")
    except OSError as error:
        raise CniError(f"failed to enable forwarding: {setting}: {error.strerror}") from error
