"""A link that a plugin makes for a pod alone, inside the pod: macvlan, ipvlan, vlan, dummy, tap.

1. The link is made under a temporary name. The kernel looks for a new link's name among the interfaces of whoever asks,
   and the node has an eth0 too. The name follows from the attachment, so DEL finds what a killed ADD has left.
2. One message gives it its own name and its label (see cni.lib.ownership): from then on it says whose it is.
3. DEL needs the configuration for the addresses alone. It removes the link if it is the attachment's: a namespace
   path may lead to another pod by now. Where no path leads there, the link has gone with its namespace.
"""

from __future__ import annotations

from cni.lib import addresses, ipam, links, ownership, veth
from cni.lib.errors import CniError
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute_text, attribute_u32
from cni.lib.netns import Netns, open_netns_if_present
from cni.lib.rollback import Attempts, Rollback
from cni.lib.skel import Attachment, Call
from cni.lib.types import Interface, Result


class PodLink:
    """The call's link. `kind` is what the kernel calls it, `noun` what the messages do.

    `taken` begins the message when its name is taken; by default it is about renaming.
    """

    def __init__(self, call: Call, kind: str, noun: str = "", taken: str = "") -> None:
        self._call = call
        self._kind = kind
        self._noun = noun or kind
        self._taken = taken or f'failed to rename {self._noun} to "{call.ifname}"'
        self._attachment = Attachment(call.container_id, call.ifname)
        self.temporary_name = veth.host_name(call.name, self._attachment)

    def make(
        self, outside: NetlinkSocket, netns: Netns, *attributes: bytes, data: bytes = b"", rollback: Rollback
    ) -> Interface:
        """Make the link in `netns`, from a socket of the namespace that its attributes speak of. Raises CniError."""
        self.clear(netns)
        place = attribute_u32(links.IFLA_NET_NS_FD, netns.fd)
        try:
            links.add_link(outside, self.temporary_name, self._kind, place, *attributes, data=data)
        except NetlinkError as error:
            raise CniError(f"failed to create {self._noun}: {error}") from error
        return self.settle(netns, rollback)

    def clear(self, netns: Netns) -> None:
        """Remove what a killed ADD has left under the temporary name."""
        self.remove(netns, self.temporary_name)

    def settle(self, netns: Netns, rollback: Rollback) -> Interface:
        """Give the new link its name and its label. Raises CniError."""
        call = self._call
        rollback.push(lambda: self.remove(netns, self.temporary_name))
        if "%" in call.ifname:  # which the kernel would replace by a number
            raise CniError(f"{self._taken}: invalid argument")
        with netns.netlink() as inside:
            made = links.get_link(inside, self.temporary_name)
            label = ownership.label_attribute(call.name, self._attachment)
            try:
                links.set_link(inside, made.index, attribute_text(links.IFLA_IFNAME, call.ifname), label)
            except NetlinkError as error:
                raise CniError(f"{self._taken}: {error}") from error
        rollback.push(lambda: self.remove(netns, call.ifname))
        return Interface(call.ifname, made.mac, call.netns)

    def remove(self, netns: Netns, name: str) -> None:
        """Remove the attachment's link that has this name. It may be gone, or be somebody else's."""
        with netns.netlink() as inside:
            link = links.find_link(inside, name)
            if link is not None and link.kind == self._kind and self._is_ours(inside, link):
                links.delete_link(inside, index=link.index)

    def _is_ours(self, inside: NetlinkSocket, link: links.Link) -> bool:
        """Whether a link in the call's namespace is the call's: labelled so, or still under its temporary name.

        One that nobody has labelled is an official plugin's, or an earlier version's, if the ADD's result tells of its
        MAC address, which vlans and ipvlans have in common with their master, and of an address that it has.
        """
        written = ownership.alias(link)
        if written:
            return written == ownership.label(self._call.name, self._attachment)
        if link.name == self.temporary_name:
            return True
        previous = self._call.prev_result_if_any() or Result()
        if (link.name, link.mac) not in {(one.name, one.mac.lower()) for one in previous.interfaces if one.sandbox}:
            return False
        present = {address.net for address in addresses.list_addresses(inside, link.index)}
        return not previous.ips or any(ip.address in present for ip in previous.ips)

    def delete(self) -> None:
        """DEL: give the addresses back (a DHCP release still leaves by the link), then remove the link."""
        with Attempts() as attempts:
            attempts.run(lambda: ipam.forward(self._call))
            attempts.run(self._remove_from_pod)

    def _remove_from_pod(self) -> None:
        netns = open_netns_if_present(self._call.netns)
        if netns is not None:
            for name in (self._call.ifname, self.temporary_name):
                self.remove(netns, name)
