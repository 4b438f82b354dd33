"""The veth pair of a pod, and the name of its host end.

The official plugins draw that name at random, so with the pod's namespace out of reach nobody can tell whose it is.
Ours follows from network, container and interface: `veth`, three characters for the network and eight for the
attachment, in base32 of a hash. DEL finds it with nothing else at hand. Whose it is stands on it as its label (see
cni.lib.ownership), since a hash so short may be somebody else's name.

A label cannot be given in the message that makes a link. So the host end is made down and without a bridge; the next
message labels it, makes it a port and switches it on. Both are sent under the NetnsLock: what GC, which takes the
lock too, finds between the two steps is what a killed ADD left, and no pod ever had traffic through it.
"""

from __future__ import annotations

from cni.lib import links, ownership
from cni.lib.errors import CniError
from cni.lib.lean import sha512
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_text, attribute_u32
from cni.lib.netns import Netns, NetnsLock, open_netns_if_present
from cni.lib.skel import Attachment, Call
from cni.lib.types import Result

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
NETWORK_CHARACTERS = 3
ATTACHMENT_CHARACTERS = 8
EEXIST = 17


def short_hash(text: str, length: int) -> str:
    """`length` base32 characters of a hash."""
    return "".join(BASE32[byte & 31] for byte in sha512(text.encode("utf-8", "surrogateescape")).digest()[:length])


def name_prefix(network: str) -> str:
    """What the host ends of a network's pods start with."""
    return "veth" + short_hash(network, NETWORK_CHARACTERS)


def host_name(network: str, attachment: Attachment) -> str:
    """The name of an attachment's host end: 15 characters, the longest that the kernel takes."""
    text = f"{network}\n{attachment.container_id}\n{attachment.ifname}"
    return name_prefix(network) + short_hash(text, ATTACHMENT_CHARACTERS)


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

    The caller holds the NetnsLock. Raises CniError if the pod has such an interface already.
    """
    attachment = Attachment(call.container_id, call.ifname)
    pair = VethPair(host_name(call.name, attachment), links.random_mac(), mac or links.random_mac())
    size = attribute_u32(links.IFLA_MTU, mtu) if mtu > 0 else b""
    near = size + attribute(links.IFLA_ADDRESS, pair.host_mac)
    far = size + attribute(links.IFLA_ADDRESS, pair.mac)

    def make() -> None:
        links.add_veth(host, pair.host_name, near, peer=call.ifname, peer_netns=netns.fd, peer_attributes=far)

    try:
        try:
            make()
        except NetlinkError as error:
            if error.errno != EEXIST:
                raise
            _make_room(host, netns, call, pair.host_name)
            make()
        _switch_on(host, pair.host_name, ownership.label_attribute(call.name, attachment), master)
    except NetlinkError as error:
        raise CniError(f"failed to make veth pair: {error}") from error
    return pair


def _make_room(host: NetlinkSocket, netns: Netns, call: Call, name: str) -> None:
    """Remove what an earlier namespace of this attachment has left under the host end's name. Raises CniError."""
    with netns.netlink() as inside:
        if links.find_link(inside, call.ifname) is not None:
            raise CniError(f'container veth name ("{call.ifname}") peer provided ("{name}") already exists')
    left = links.find_link(host, name)
    if left is None:
        return
    if not _is_ours(left, call):
        raise CniError(f'failed to make veth pair: "{name}" is somebody else\'s: rename it with ip link set')
    links.delete_link(host, index=left.index)


def _switch_on(host: NetlinkSocket, name: str, label: bytes, master: int) -> None:
    """Label the host end, make it a port, switch it on; if that cannot be done there is no pair."""
    attributes = [attribute_text(links.IFLA_IFNAME, name), label]
    if master:
        attributes.append(attribute_u32(links.IFLA_MASTER, master))
    try:
        links.set_link(host, 0, *attributes, flags=links.IFF_UP, change=links.IFF_UP)
    except NetlinkError:
        links.delete_link(host, name)
        raise


def _is_ours(link: links.Link, call: Call) -> bool:
    """Whether a link with the whole name of the call's host end is it."""
    return link.kind == "veth" and ownership.may_be(link, call.name, Attachment(call.container_id, call.ifname))


def delete_pair(host: NetlinkSocket, call: Call) -> None:
    """Remove the call's pair, by its host end. It may be gone, and the namespace may be another pod's by now."""
    name = host_name(call.name, Attachment(call.container_id, call.ifname))
    link = links.find_link(host, name)
    if link is None or not _is_ours(link, call):
        link = _host_end_of(host, call)
    if link is not None:
        links.delete_link(host, index=link.index)


def _host_end_of(host: NetlinkSocket, call: Call) -> links.Link | None:
    """The partner of the pod's interface, if that is the call's: labelled so, or told by the ADD's result.

    The latter are those that an official plugin made, which labels nothing.
    """
    netns = open_netns_if_present(call.netns)
    if netns is None:
        return None
    with netns.netlink() as inside:
        pod = links.find_link(inside, call.ifname)
    partner = links.find_link(host, index=pod.peer) if pod is not None and pod.kind == "veth" and pod.peer else None
    if pod is None or partner is None or partner.kind != "veth" or partner.peer != pod.index:
        return None
    written = ownership.alias(partner)
    labelled = written == ownership.label(call.name, Attachment(call.container_id, call.ifname))
    told = not written and _tells_of(call.prev_result_if_any(), call, partner)
    return partner if labelled or told else None


def _tells_of(previous: Result | None, call: Call, partner: links.Link) -> bool:
    """Whether the ADD's result names the pod's interface and this partner. (tuning may have changed MAC addresses.)"""
    interfaces = previous.interfaces if previous else []
    names_pod = any(one.sandbox and one.name == call.ifname for one in interfaces)
    return names_pod and any(one.name == partner.name and not one.sandbox for one in interfaces)


def collect_garbage(network: str, valid: set[Attachment]) -> None:
    """Remove the host ends of this network's attachments that are not valid any more."""
    prefix = name_prefix(network)
    with NetnsLock(), NetlinkSocket() as host:
        for link in links.list_links(host, kind="veth"):
            if _is_half_made(link, prefix) or ownership.is_stale(link, network, valid):
                links.delete_link(host, index=link.index)


def _is_half_made(link: links.Link, prefix: str) -> bool:
    """Whether a link is the work of an ADD that was killed between the two messages of `make_pair`."""
    named_by_us = link.name.startswith(prefix) and len(link.name) == len(prefix) + ATTACHMENT_CHARACTERS
    return named_by_us and not ownership.alias(link) and not link.up and not link.master
