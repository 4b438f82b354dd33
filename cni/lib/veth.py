"""The veth pair of a pod, and the name of its host end.

The official plugins draw that name at random, so with the pod's namespace out of reach nobody can tell whose it is.
Ours follows from network, container and interface: `veth`, three characters for the network and eight for the
attachment, in base32 of a hash. DEL can remove it with nothing else at hand, and GC knows its own.
"""

from __future__ import annotations

from cni.lib import links
from cni.lib.errors import CniError
from cni.lib.lean import sha512
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import Netns, open_netns_if_present
from cni.lib.skel import Attachment, Call

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
NETWORK_CHARACTERS = 3
ATTACHMENT_CHARACTERS = 8
EEXIST = 17


def _hash(text: str, length: int) -> str:
    """`length` base32 characters of a hash."""
    return "".join(BASE32[byte & 31] for byte in sha512(text.encode("utf-8", "surrogateescape")).digest()[:length])


def name_prefix(network: str) -> str:
    """What the host ends of a network's pods start with."""
    return "veth" + _hash(network, NETWORK_CHARACTERS)


def host_name(network: str, attachment: Attachment) -> str:
    """The name of an attachment's host end: 15 characters, the longest that the kernel takes."""
    text = f"{network}\n{attachment.container_id}\n{attachment.ifname}"
    return name_prefix(network) + _hash(text, ATTACHMENT_CHARACTERS)


class VethPair:
    """What `make_pair` made: names and MAC addresses of both ends."""

    __slots__ = ("host_mac", "host_name", "mac")

    def __init__(self, host_name: str, host_mac: bytes, mac: bytes) -> None:
        self.host_name = host_name
        self.host_mac = host_mac
        self.mac = mac


def make_pair(
    host: NetlinkSocket, netns: Netns, call: Call, mtu: int = 0, mac: bytes | None = None, master: int = 0
) -> VethPair:
    """Make the pod's interface and its host end, which is up and, with `master`, a port of that bridge.

    One message does it all. Raises CniError if the pod has such an interface already.
    """
    attachment = Attachment(call.container_id, call.ifname)
    pair = VethPair(host_name(call.name, attachment), links.random_mac(), mac or links.random_mac())
    size = attribute_u32(links.IFLA_MTU, mtu) if mtu > 0 else b""
    near = size + attribute(links.IFLA_ADDRESS, pair.host_mac)
    if master:
        near += attribute_u32(links.IFLA_MASTER, master)
    far = size + attribute(links.IFLA_ADDRESS, pair.mac)
    try:
        links.add_veth(host, pair.host_name, near, peer=call.ifname, peer_netns=netns.fd, peer_attributes=far)
        return pair
    except NetlinkError as error:
        if error.errno != EEXIST:
            raise CniError(f"failed to make veth pair: {error}") from error
    with netns.netlink() as inside:
        if links.find_link(inside, call.ifname) is not None:
            raise CniError(f"container veth name provided ({call.ifname}) already exists")
    # The pod has no such interface, so the host end is what is left of an earlier namespace of this attachment.
    links.delete_link(host, pair.host_name)
    links.add_veth(host, pair.host_name, near, peer=call.ifname, peer_netns=netns.fd, peer_attributes=far)
    return pair


def delete_pair(host: NetlinkSocket, call: Call) -> None:
    """Remove the pair by the pod's end, or by the host's where the pod is out of reach. It may be gone."""
    netns = open_netns_if_present(call.netns)
    if netns is not None:
        with netns.netlink() as inside:
            links.delete_link(inside, call.ifname)
    links.delete_link(host, host_name(call.name, Attachment(call.container_id, call.ifname)))


def collect_garbage(network: str, valid: set[Attachment]) -> set[str]:
    """Remove the host ends of this network's attachments that are not valid any more; gives the names of the valid."""
    prefix = name_prefix(network)
    live = {host_name(network, attachment) for attachment in valid}
    with NetlinkSocket() as host:
        for link in links.list_links(host, kind="veth"):
            if link.name.startswith(prefix) and link.name not in live:
                links.delete_link(host, link.name)
    return live
